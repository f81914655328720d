//! The server over real TLS on loopback.

use std::sync::atomic::Ordering;

use http::StatusCode;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::*;
use super::*;
use crate::model::Identity;

const JANE: (&str, &str) = ("x-remote-user", "jane");

#[tokio::test]
async fn without_credentials_somebody_is_anonymous_and_health_is_open() {
    let rig = Rig::start().await;
    rig.reviewer.answer(Ok(false));
    let mut client = rig.client(None).await;
    let health = client.get("/healthz", &[]).await;
    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(rig.reviewer.asked(), 0);
    let refused = client.get("/metrics", &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(
        refused
            .body
            .contains(r#"forbidden: User \"system:anonymous\" cannot get path \"/metrics\""#),
        "{}",
        refused.body
    );
    assert_eq!(rig.reviewer.last(), Identity::anonymous());
    // A stranger's HTTP/2 connection ends after its answer.
    client.ended.await.unwrap().unwrap();
    eventually("the end is counted", || {
        rig.metric(r#"tidepole_server_connections_ended_total{reason="unauthenticated"}"#)
            == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn health_probes_keep_their_connection() {
    let rig = Rig::start().await;
    let mut client = rig.client(None).await;
    for _ in 0..3 {
        assert_eq!(client.get("/healthz", &[]).await.status, StatusCode::OK);
    }
    assert!(!client.ended.is_finished());
    // A sub-path is not a health path.
    rig.reviewer.answer(Ok(false));
    let mut old = rig.old_client(None).await;
    assert_eq!(old.get("/healthz/ping", &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(old.get("/healthz", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_front_proxy_asserts_identities() {
    let rig = Rig::start().await;
    let mut client = rig.aggregator().await;
    let reply = client
        .get(
            "/x",
            &[
                ("x-remote-user", "jörg"),
                ("X-Remote-Group", "a,b"),
                ("X-Remote-Group", "c"),
                ("X-Remote-Uid", "not listed"),
                ("X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id", "X=1"),
                ("authorization", "Bearer secret"),
                ("audit-id", "4c7f"),
                ("accept", "*/*"),
            ],
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    // What reaches the service has no credentials and no identities left.
    assert_eq!(reply.body, "accept audit-id host");
    assert_eq!(reply.headers["audit-id"], "4c7f");
    assert_eq!(
        rig.reviewer.last(),
        Identity {
            user: "jörg".to_owned(),
            uid: String::new(),
            groups: ["a,b", "c", "system:authenticated"].map(str::to_owned).to_vec(),
            extra: [(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec!["X=1".to_owned()]
            )]
            .into(),
        }
    );
    // Without an id of its own a request gets one.
    let other = client.get("/x", &[JANE]).await;
    assert_eq!(other.headers["audit-id"].len(), 36);
    assert_eq!(rig.reviewer.last().user, "jane");
    assert_eq!(
        rig.metric(r#"tidepole_server_authentications_total{method="front_proxy"}"#),
        Some(2.0)
    );
}

#[tokio::test]
async fn masters_are_not_reviewed() {
    let rig = Rig::start().await;
    rig.reviewer.answer(Err("down"));
    let mut client = rig.aggregator().await;
    let master =
        [("x-remote-user", "system:kube-aggregator"), ("x-remote-group", "system:masters")];
    assert_eq!(client.get("/apis", &master).await.status, StatusCode::OK);
    assert_eq!(rig.reviewer.asked(), 0);
    // Everybody else fails closed while nobody can say, and works again when somebody can.
    let failed = client.get("/apis", &[JANE]).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(failed.body.contains("access could not be reviewed: down"), "{}", failed.body);
    rig.reviewer.answer(Ok(true));
    assert_eq!(client.get("/apis", &[JANE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn headers_without_the_proxys_certificate_mean_nothing() {
    let rig = Rig::start().await;
    let spoof = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];
    // No certificate: anonymous.
    let mut stranger = rig.client(None).await;
    assert_eq!(stranger.get("/x", &spoof).await.status, StatusCode::OK);
    assert_eq!(rig.reviewer.last(), Identity::anonymous());
    // A user's certificate: that user.
    let mut user = rig.client(Some(&rig.user_ca.client("jane", &["ops"]))).await;
    let reply = user.get("/x", &spoof).await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "audit-id host"));
    let identity = rig.reviewer.last();
    assert_eq!(identity.user, "jane");
    assert_eq!(identity.groups, ["ops", "system:authenticated"]);
    let id = &identity.extra["authentication.kubernetes.io/credential-id"][0];
    assert!(id.starts_with("X509SHA256=") && id.len() == 75, "{id}");
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused() {
    let rig = Rig::start().await;
    let year = rcgen::date_time_ymd;
    let named = |params: &mut rcgen::CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
    };
    let refused = [
        ("another CA", Ca::new("other").client("front-proxy-client", &[])),
        ("a name that is not allowed", rig.proxy_ca.client("someone", &[])),
        (
            "only for servers",
            rig.proxy_ca.leaf(|p| {
                named(p);
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "expired",
            rig.proxy_ca.leaf(|p| {
                named(p);
                (p.not_before, p.not_after) = (year(2000, 1, 1), year(2001, 1, 1));
            }),
        ),
        (
            "not yet valid",
            rig.proxy_ca.leaf(|p| {
                named(p);
                (p.not_before, p.not_after) = (year(3000, 1, 1), year(3001, 1, 1));
            }),
        ),
    ];
    for (what, leaf) in &refused {
        let mut client = rig.client(Some(leaf)).await;
        assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::UNAUTHORIZED, "{what}");
        client.ended.await.unwrap().unwrap();
    }
    // The right certificate without a user name says nothing, and is no user's.
    let mut nameless = rig.aggregator().await;
    assert_eq!(nameless.get("/x", &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(rig.reviewer.asked(), 0);
    // The aggregator's connection survives what one of its users sends.
    assert_eq!(nameless.get("/x", &[JANE]).await.status, StatusCode::OK);
    // Without extended key usage a certificate is for everything.
    let general = rig.proxy_ca.leaf(named);
    let mut client = rig.client(Some(&general)).await;
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn impersonation_and_bad_tokens_are_refused() {
    let rig = Rig::start().await;
    let mut client = rig.aggregator().await;
    let reply = client.get("/x", &[JANE, ("Impersonate-User", "admin")]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.body.contains("impersonat"), "{}", reply.body);
    let mut direct = rig.old_client(None).await;
    let token = |t: &'static str| [("authorization", t)];
    assert_eq!(direct.get("/x", &token("Bearer nonsense")).await.status, StatusCode::UNAUTHORIZED);
    let unknown = direct.get("/x", &token("Bearer token-of-nobody-knows")).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    let known = direct.get("/x", &token("bearer token-of-prometheus")).await;
    assert_eq!((known.status, known.body.as_str()), (StatusCode::OK, "audit-id host"));
    assert_eq!(rig.reviewer.last().user, "prometheus");
    assert_eq!(rig.reviewer.last().groups, ["system:authenticated"]);
}

#[tokio::test]
async fn a_change_of_trust_reaches_live_connections() {
    let rig = Rig::with(|_| {}, &["somebody-else"]).await;
    // The name is not allowed; HTTP/1 so that the connection outlives the 401.
    let leaf = rig.proxy_ca.client("front-proxy-client", &[]);
    let mut old = rig.old_client(Some(&leaf)).await;
    assert_eq!(old.get("/x", &[JANE]).await.status, StatusCode::UNAUTHORIZED);
    let allowed = trust_data(&rig.proxy_ca, &rig.user_ca, &["front-proxy-client"]);
    assert!(rig.trust.apply(&allowed));
    assert_eq!(old.get("/x", &[JANE]).await.status, StatusCode::OK);

    // Rotation: with both CAs nothing happens to a connection, without its own it ends.
    let mut client = rig.aggregator().await;
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    let new_ca = Ca::new("new proxy CA");
    let mut both = trust_data(&rig.proxy_ca, &rig.user_ca, &[]);
    both.get_mut("requestheader-client-ca-file").unwrap().push_str(&new_ca.pem);
    assert!(rig.trust.apply(&both));
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    assert!(!client.ended.is_finished());
    // Malformed data changes nothing.
    let mut bad = both.clone();
    bad.insert("requestheader-allowed-names".to_owned(), "{".to_owned());
    assert!(!rig.trust.apply(&bad));
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);

    assert!(rig.trust.apply(&trust_data(&new_ca, &rig.user_ca, &[])));
    client.ended.await.unwrap().unwrap();
    let mut again = rig.aggregator().await;
    assert_eq!(again.get("/x", &[JANE]).await.status, StatusCode::UNAUTHORIZED);
    let mut renewed = rig.client(Some(&new_ca.client("front-proxy-client", &[]))).await;
    assert_eq!(renewed.get("/x", &[JANE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn draining_loses_no_request() {
    let rig = Rig::start().await;
    let mut client = rig.aggregator().await;
    let mut old = rig.old_client(Some(&rig.user_ca.client("jane", &[]))).await;
    assert_eq!(old.get("/x", &[]).await.headers.get("connection"), None);
    let running = client.begin("/wait", &[JANE]);
    eventually("the request runs", || rig.service.waiting.load(Ordering::SeqCst) == 1).await;
    rig.server.begin_drain();
    // HTTP/1 learns it with its next answer; a new connection is served.
    while old.get("/x", &[]).await.headers.get("connection").is_none_or(|c| c != "close") {}
    let mut late = rig.aggregator().await;
    assert_eq!(late.get("/x", &[JANE]).await.status, StatusCode::OK);
    assert!(!late.ended.is_finished());

    let stop = rig.server.stop(Duration::from_secs(10));
    let mut stop = std::pin::pin!(stop);
    assert!(futures::poll!(&mut stop).is_pending());
    late.ended.await.unwrap().unwrap();
    rig.service.go.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap().status, StatusCode::OK);
    assert_eq!(stop.await, Stopped { cut: 0 });
    let refused = connect(rig.server.local_addr(), None, b"h2").await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    rig.tasks.stop().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let rig = Rig::start().await;
    let mut client = rig.aggregator().await;
    let running = client.begin("/wait", &[JANE]);
    eventually("the request runs", || rig.service.waiting.load(Ordering::SeqCst) == 1).await;
    assert_eq!(rig.server.stop(Duration::from_millis(50)).await, Stopped { cut: 1 });
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn a_slow_handshake_is_dropped() {
    let rig = Rig::with(|s| s.limits.handshake = Duration::from_millis(50), &[]).await;
    let stream = tokio::net::TcpStream::connect(rig.server.local_addr()).await.unwrap();
    let mut buffer = [0; 16];
    stream.readable().await.unwrap();
    assert_eq!(stream.try_read(&mut buffer).unwrap(), 0);
    eventually("it is counted", || {
        rig.metric(r#"tidepole_server_tls_handshake_errors_total{reason="timeout"}"#) == Some(1.0)
            && rig.metric("tidepole_server_connections_open") == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn a_header_bomb_of_a_stranger_is_refused_and_the_proxys_groups_are_not() {
    let rig = Rig::start().await;
    let big = "g".repeat(1000);
    let groups: Vec<_> = (0..400).map(|_| ("x-remote-group", big.as_str())).collect();
    let with_user: Vec<_> = [JANE].into_iter().chain(groups.iter().copied()).collect();
    // HTTP/2: the stream is refused, the connection survives.
    let mut stranger = rig.client(None).await;
    let refused = stranger.get("/healthz", &groups[..70]).await;
    assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(stranger.get("/healthz", &[]).await.status, StatusCode::OK);
    // Far too much is not even read.
    assert!(stranger.try_get("/healthz", &groups).await.is_err());
    assert!(stranger.ended.await.unwrap().unwrap_err().to_string().contains("http2"));
    // HTTP/1 says it and closes.
    let mut old = rig.old_client(None).await;
    let refused = old.get("/healthz", &groups).await;
    assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(rig.reviewer.asked(), 0);
    // The verified proxy may.
    let proxy = rig.proxy_ca.client("front-proxy-client", &[]);
    let mut client = rig.client(Some(&proxy)).await;
    assert_eq!(client.get("/x", &with_user).await.status, StatusCode::OK);
    assert_eq!(rig.reviewer.last().groups.len(), 401);
    let mut old = rig.old_client(Some(&proxy)).await;
    assert_eq!(old.get("/x", &with_user).await.status, StatusCode::OK);
}

#[tokio::test]
async fn ten_thousand_cancelled_streams_end_nothing() {
    let rig = Rig::start().await;
    let mut client = rig.aggregator().await;
    for _ in 0..100 {
        let batch: Vec<_> =
            (0..100).map(|_| client.sender.send_request(get("/wait", &[JANE]))).collect();
        tokio::task::yield_now().await;
        drop(batch);
    }
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    assert!(!client.ended.is_finished());
}

#[tokio::test]
async fn beyond_the_limit_those_that_would_wait_are_refused() {
    let rig = Rig::with(|s| s.limits.requests = 4, &["front-proxy-client"]).await;
    let mut client = rig.aggregator().await;
    // The review that all of them need is answered once.
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    let mut waiting: Vec<_> = (0..4).map(|_| client.begin("/wait", &[JANE])).collect();
    eventually("they wait", || rig.metric("tidepole_server_requests_waiting") == Some(4.0)).await;
    for _ in 0..10 {
        let refused = client.get("/wait", &[JANE]).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers.get("retry-after"), None);
        assert!(refused.body.contains(r#""reason":"TooManyRequests""#), "{}", refused.body);
        assert!(refused.headers.contains_key("audit-id"));
    }
    assert_eq!(rig.metric("tidepole_server_requests_shed_total"), Some(10.0));
    // What need not wait is answered; a health probe may even wait, for the review of its token.
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    let mut probe = rig.client(None).await;
    let token = [("authorization", "Bearer token-of-prober")];
    assert_eq!(probe.get("/healthz", &token).await.status, StatusCode::OK);
    let others = probe.get("/x", &[("authorization", "Bearer token-of-jane")]).await;
    assert_eq!(others.status, StatusCode::TOO_MANY_REQUESTS);
    // One is answered and one goes away: two more may wait.
    rig.service.go.add_permits(1);
    waiting.remove(0).await.unwrap().unwrap();
    waiting.remove(0).abort();
    eventually("two have left", || rig.metric("tidepole_server_requests_waiting") == Some(2.0))
        .await;
    waiting.extend((0..2).map(|_| client.begin("/wait", &[JANE])));
    eventually("two more", || rig.metric("tidepole_server_requests_waiting") == Some(4.0)).await;
    rig.service.go.add_permits(4);
    for answered in waiting {
        assert_eq!(answered.await.unwrap().unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn panics_and_endless_handlers_are_answered() {
    let rig = Rig::with(|s| s.limits.request = Duration::from_millis(50), &[]).await;
    let mut client = rig.aggregator().await;
    for path in ["/panic", "/late-panic"] {
        let reply = client.get(path, &[JANE]).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!reply.body.contains("own"), "{}", reply.body);
        assert!(reply.headers.contains_key("audit-id"));
    }
    let reply = client.get("/never", &[JANE]).await;
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(rig.metric("tidepole_server_handler_panics_total"), Some(2.0));
    assert_eq!(rig.metric("tidepole_server_request_timeouts_total"), Some(1.0));
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn connections_are_recycled_and_idle_ones_end() {
    let rig = Rig::with(|s| s.limits.recycle_after = Duration::from_millis(50), &[]).await;
    let mut client = rig.aggregator().await;
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    client.ended.await.unwrap().unwrap();
    let recycled = r#"tidepole_server_connections_ended_total{reason="recycled"}"#;
    eventually("recycling is counted", || rig.metric(recycled) == Some(1.0)).await;

    let rig = Rig::with(|s| s.limits.idle = Duration::from_millis(50), &[]).await;
    let client = rig.aggregator().await;
    client.ended.await.unwrap().unwrap();
    let old = rig.old_client(None).await;
    // Where no request was ever made, the client takes an end for an error.
    drop(old.ended.await.unwrap());
    let idle = r#"tidepole_server_connections_ended_total{reason="idle"}"#;
    eventually("being idle is counted", || rig.metric(idle) == Some(2.0)).await;
}

#[tokio::test]
async fn authentication_and_settings_must_agree() {
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    let clock: Arc<dyn Clock> = Arc::new(crate::model::SystemClock::new());
    let start = async |mode| {
        let settings = Settings::new("127.0.0.1:0".parse().unwrap(), mode, None).unwrap();
        Server::start(
            settings,
            Authentication::none(),
            Authorization::none(),
            Arc::new(Show::default()),
            &tasks,
            &Telemetry::new(),
            Arc::clone(&clock),
        )
        .await
    };
    let refused = start(AuthMode::Delegated).await.unwrap_err();
    assert_eq!(refused.to_string(), "settings ask for auth: delegated, but none was given");
    // Without authentication everybody may, and stays connected.
    let server = start(AuthMode::None).await.unwrap();
    let mut tls = connect(server.local_addr(), None, b"http/1.1").await.unwrap();
    for _ in 0..2 {
        tls.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\nx-remote-user: me\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let read = tls.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\naudit-id host"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn protocols_can_be_narrowed() {
    let change = |s: &mut Settings| {
        s.http2 = false;
        s.min_tls = MinTls::Tls13;
    };
    let rig = Rig::with(change, &[]).await;
    assert!(connect(rig.server.local_addr(), None, b"h2").await.is_err());
    let tls = rig.tls(None, b"http/1.1").await;
    assert_eq!(tls.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert!(
        connect_with(rig.server.local_addr(), None, b"http/1.1", &[&rustls::version::TLS12])
            .await
            .is_err()
    );
    let rig = Rig::start().await;
    let old = connect_with(rig.server.local_addr(), None, b"h2", &[&rustls::version::TLS12]).await;
    assert!(old.is_ok());
}

#[tokio::test]
async fn a_crowd_of_strangers_leaves_room_for_the_aggregator() {
    let rig = Rig::with(|s| s.limits.connections = 4, &[]).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(rig.client(None).await);
        strangers.last_mut().unwrap().get("/healthz", &[]).await;
    }
    let crowded = rig.tls(None, b"h2").await;
    let crowded_out = r#"tidepole_server_connections_ended_total{reason="crowded"}"#;
    eventually("the fourth is turned away", || rig.metric(crowded_out) == Some(1.0)).await;
    drop(crowded);
    let mut client = rig.aggregator().await;
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn silent_connections_leave_room_for_the_aggregator() {
    let rig = Rig::with(|s| s.limits.connections = 4, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(rig.server.local_addr()).await.unwrap());
    }
    // Far sooner than the silent ones' own limit of ten seconds.
    let mut client = tokio::time::timeout(Duration::from_secs(5), rig.aggregator()).await.unwrap();
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    let evicted = r#"tidepole_server_tls_handshake_errors_total{reason="evicted"}"#;
    eventually("the oldest gave way", || rig.metric(evicted).is_some_and(|n| n >= 19.0)).await;
}

#[tokio::test]
async fn a_connection_is_made_anew_when_its_certificate_comes_to_count() {
    let rig = Rig::start().await;
    let later = Ca::new("later CA");
    let leaf = later.client("front-proxy-client", &[]);
    let mut client = rig.client(Some(&leaf)).await;
    // Still under the bounds of strangers, which ends now. An answer means that they were set.
    assert_eq!(client.get("/healthz", &[]).await.status, StatusCode::UNAUTHORIZED);
    assert!(rig.trust.apply(&trust_data(&later, &rig.user_ca, &[])));
    client.ended.await.unwrap().unwrap();
    let mut client = rig.client(Some(&leaf)).await;
    assert_eq!(client.get("/x", &[JANE]).await.status, StatusCode::OK);
    let changed = r#"tidepole_server_connections_ended_total{reason="trust_changed"}"#;
    assert_eq!(rig.metric(changed), Some(1.0));
}

#[tokio::test]
async fn an_error_to_a_head_request_has_no_body() {
    let rig = Rig::start().await;
    rig.reviewer.answer(Ok(false));
    let mut client = rig.aggregator().await;
    let mut request = get("/x", &[JANE]);
    *request.method_mut() = Method::HEAD;
    let response = client.sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let reply = read(response).await.unwrap();
    assert_eq!(reply.body, "");
    assert!(reply.headers["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 100);
}
