//! Who gets in: every kind of identity on every kind of path, and nobody by a side door.
//!
//! One policy throughout: `reader` may do everything, `narrow` may list `depth` in `default`, and
//! `outsider`, strangers and whoever is only claimed to be somebody may do nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::client::{Answer, Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, PODS, trust};
use crate::support::server::{NAME, Setup, Tidepole, metric, path_of, status, values};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::Prometheus;

/// What is only in the answer of a read that `narrow` may not do.
const TREASURE: &str = "4242";

const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/web/requests";

/// As whom a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Its credentials do not hold: 401 for everything.
    Refused,
    /// As nobody: health, and nothing else.
    Anonymous,
    /// As this user, who may do nothing.
    Denied(&'static str),
    /// As somebody who may do everything.
    Allowed,
}

/// How somebody comes.
struct Visitor {
    about: &'static str,
    pair: Option<Pair>,
    headers: Vec<(&'static str, &'static str)>,
    counts: Counts,
}

struct World {
    cluster: ClusterApi,
    front_proxy: Authority,
    clients: Authority,
    upstream: Prometheus,
    server: Tidepole,
}

async fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS]);
    cluster.objects().put(&PODS, "default", "web", &[]);
    for user in ["reader", "outsider"] {
        cluster.token(&format!("token-of-{user}"), json!({"username": user}));
    }
    cluster.allow_if(|spec| {
        let asked = &spec["resourceAttributes"];
        let is = |key: &str, value: &str| asked[key] == value;
        spec["user"] == "reader"
            || spec["user"] == "narrow"
                && is("verb", "list")
                && is("group", "external.metrics.k8s.io")
                && is("resource", "depth")
                && is("namespace", "default")
                && (asked["subresource"].is_null() || is("subresource", ""))
    });
    let upstream = Prometheus::start();
    upstream.vector("depth", &[("", "3")]);
    upstream.vector("treasure", &[("", TREASURE)]);
    upstream.vector("requests", &[("\"namespace\":\"default\",\"pod\":\"web\"", TREASURE)]);
    let url = upstream.server().url();
    let treasure = metric("treasure", "prometheus: { query: treasure }, maxAge: 10m");
    let elsewhere = metric("depth", "prometheus: { query: treasure }, maxAge: 10m")
        .replace("namespace: default", "namespace: other");
    let custom = "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterCustomMetric\n\
         metadata: { name: requests }\n\
         spec: { resource: pods, prometheus: { query: requests }, maxAge: 10m }\n";
    let server = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .cluster(&cluster)
        .with("depth.yaml", &metric("depth", "prometheus: { query: depth }, maxAge: 10m"))
        .with("treasure.yaml", &treasure)
        .with("elsewhere.yaml", &elsewhere)
        .with("custom.yaml", custom)
        .start()
        .await;
    server.ready().await;
    World { cluster, front_proxy, clients, upstream, server }
}

/// Everybody who comes without being somebody that may.
#[expect(clippy::too_many_lines, reason = "a table, a row for each visitor")]
fn strangers(world: &World) -> Vec<Visitor> {
    let (proxy, users) = (&world.front_proxy, &world.clients);
    let foreign = Authority::new("front-proxy-ca");
    let names = "front-proxy-client";
    let aggregator = || Some(proxy.client(names, &[]));
    let claims = || vec![("X-Remote-User", "reader"), ("X-Remote-Group", "system:masters")];
    let bearer = |text: &'static str| vec![("Authorization", text)];
    let who = |about, pair, headers, counts| Visitor { about, pair, headers, counts };
    let outsider = Counts::Denied("outsider");
    let all = [
        (who("nobody", None, vec![], Counts::Anonymous)),
        who("claims without a certificate", None, claims(), Counts::Anonymous),
        who("an unknown authority", Some(foreign.client("reader", &[])), vec![], Counts::Refused),
        who(
            "the aggregator's name, of an unknown authority",
            Some(foreign.client(names, &["system:masters"])),
            claims(),
            Counts::Refused,
        ),
        who(
            "another name of the aggregator's authority",
            Some(proxy.client("reader", &[])),
            claims(),
            Counts::Refused,
        ),
        who(
            "the aggregator's name in other letters",
            Some(proxy.client("Front-Proxy-Client", &[])),
            claims(),
            Counts::Refused,
        ),
        who(
            "no name of the aggregator's authority",
            Some(proxy.client("", &[])),
            claims(),
            Counts::Refused,
        ),
        who(
            "an expired aggregator",
            Some(proxy.expired_client(names, &[])),
            claims(),
            Counts::Refused,
        ),
        who(
            "a serving certificate of the aggregator's authority",
            Some(proxy.server(&[names])),
            claims(),
            Counts::Refused,
        ),
        who(
            "an expired user",
            Some(users.expired_client("reader", &["system:masters"])),
            vec![],
            Counts::Refused,
        ),
        who(
            "a serving certificate of the users' authority",
            Some(users.server(&["reader"])),
            vec![],
            Counts::Refused,
        ),
        who(
            "the aggregator's name among users",
            Some(users.client(names, &[])),
            claims(),
            Counts::Denied(names),
        ),
        who(
            "a group without a user",
            Some(users.client("", &["system:masters"])),
            vec![],
            Counts::Refused,
        ),
        who(
            "a user who claims to be another",
            Some(users.client("outsider", &[])),
            claims(),
            outsider,
        ),
        who(
            "a user with another's token",
            Some(users.client("outsider", &[])),
            bearer("Bearer token-of-reader"),
            outsider,
        ),
        who("the aggregator for nobody", aggregator(), vec![], Counts::Refused),
        who(
            "the aggregator for an empty name",
            aggregator(),
            vec![("X-Remote-User", ""), ("X-Remote-Group", "system:masters")],
            Counts::Refused,
        ),
        who(
            "the aggregator, an empty name first",
            aggregator(),
            vec![("X-Remote-User", ""), ("X-Remote-User", "reader")],
            Counts::Refused,
        ),
        who(
            "the aggregator, an underscored name",
            aggregator(),
            vec![("X_Remote_User", "reader")],
            Counts::Refused,
        ),
        who(
            "the aggregator for an outsider",
            aggregator(),
            vec![("X-Remote-User", "outsider")],
            outsider,
        ),
        who(
            "the aggregator, two names",
            aggregator(),
            vec![("X-Remote-User", "outsider"), ("X-Remote-User", "reader")],
            outsider,
        ),
        who(
            "the aggregator, another name underscored",
            aggregator(),
            vec![
                ("X_Remote_User", "reader"),
                ("X-Remote-User", "outsider"),
                ("X_Remote_Group", "system:masters"),
            ],
            outsider,
        ),
        who(
            "the aggregator, nearly masters",
            aggregator(),
            vec![
                ("X-Remote-User", "outsider"),
                ("X-Remote-Group", "System:Masters"),
                ("X-Remote-Group", "system:masters,x"),
                ("X-Remote-Extra-Group", "system:masters"),
            ],
            outsider,
        ),
        who(
            "the aggregator for an outsider with a token",
            aggregator(),
            vec![("X-Remote-User", "outsider"), ("Authorization", "Bearer token-of-reader")],
            outsider,
        ),
        who("an unknown token", None, bearer("Bearer unknown"), Counts::Refused),
        who("an empty token", None, bearer("Bearer "), Counts::Anonymous),
        who("no token behind the scheme", None, bearer("Bearer"), Counts::Anonymous),
        who("another scheme", None, bearer("Basic cmVhZGVyOng="), Counts::Anonymous),
        who("a token of an outsider", None, bearer("Bearer token-of-outsider"), outsider),
        who(
            "two tokens in one header",
            None,
            bearer("Bearer token-of-outsider token-of-reader"),
            outsider,
        ),
        who(
            "two headers with tokens",
            None,
            vec![
                ("Authorization", "Bearer token-of-outsider"),
                ("Authorization", "Bearer token-of-reader"),
            ],
            outsider,
        ),
        who(
            "a token and claims",
            None,
            [claims(), bearer("Bearer token-of-outsider")].concat(),
            outsider,
        ),
        who(
            "an unknown authority and an unknown token",
            Some(foreign.client("reader", &[])),
            bearer("Bearer unknown"),
            Counts::Refused,
        ),
    ];
    all.into()
}

/// Those who may.
fn readers(world: &World) -> Vec<Visitor> {
    let (proxy, users) = (&world.front_proxy, &world.clients);
    let foreign = Authority::new("client-ca");
    let aggregator = || Some(proxy.client("front-proxy-client", &[]));
    let token = vec![("Authorization", "Bearer token-of-reader")];
    let shouted = vec![("Authorization", "bEARER token-of-reader")];
    let who = |about, pair, headers| Visitor { about, pair, headers, counts: Counts::Allowed };
    vec![
        who("the aggregator for the reader", aggregator(), vec![("X-Remote-User", "reader")]),
        who(
            "the aggregator for a master",
            aggregator(),
            vec![("X-Remote-User", "outsider"), ("X-Remote-Group", "system:masters")],
        ),
        who("the reader's certificate", Some(users.client("reader", &[])), vec![]),
        who("a master's certificate", Some(users.client("outsider", &["system:masters"])), vec![]),
        who("the reader's token", None, token.clone()),
        who("the scheme in other letters", None, shouted),
        who(
            "a certificate that does not count and the reader's token",
            Some(foreign.client("x", &[])),
            token,
        ),
    ]
}

/// Paths that are open to all.
const OPEN: [&str; 5] = ["/livez", "/readyz", "/healthz", "/livez?verbose", "/%6civez"];

/// Paths that are not, whatever is there.
fn guarded() -> Vec<String> {
    let depth = path_of("default", "depth");
    let mut all: Vec<String> = [
        "/",
        "//",
        "/livez/",
        "//livez",
        "/LIVEZ",
        "/livez;x",
        "/livez/ping",
        "/readyz/ping",
        "/healthz/../metrics",
        "/livez/%2e%2e/metrics",
        "/livez%2f..%2fmetrics",
        "/livez%00",
        "/metrics",
        "/Metrics",
        "/metrics/",
        "/metrics/x",
        "/version",
        "/apis",
        "/APIS",
        "/apis/",
        "/apis/external.metrics.k8s.io",
        "/apis/external.metrics.k8s.io/v1beta1",
        "/apis/external.metrics.k8s.io/v1beta1/",
        "/apis/custom.metrics.k8s.io",
        "/apis/custom.metrics.k8s.io/v1beta1",
        "/apis/custom.metrics.k8s.io/v1beta2",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/apis/external.metrics.k8s.io/v1beta1",
        "/api/metrics",
        "/nothing",
        "/apis/apps/v1/deployments",
        "/%zz",
        "/%ff",
        CUSTOM,
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods/*/requests",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/requests",
    ]
    .map(str::to_owned)
    .into();
    all.extend(detours("default", "depth"));
    all.extend([
        format!("{depth}?labelSelector=a%3Db"),
        format!("{depth}?labelSelector=((("),
        format!("{depth}?watch=true"),
        path_of("other", "depth"),
        path_of("default", "unknown"),
    ]);
    all
}

/// Ways to write the path of a metric, and ways around it.
fn detours(namespace: &str, name: &str) -> Vec<String> {
    let group = "/apis/external.metrics.k8s.io/v1beta1";
    let path = path_of(namespace, name);
    let mut encoded = String::new();
    for byte in name.bytes() {
        let _ = write!(encoded, "%{byte:02x}");
    }
    vec![
        path.clone(),
        format!("{path}/"),
        format!("/{path}"),
        format!("{path}//"),
        format!("{path}/status"),
        format!("{path}?namespace=default"),
        format!("{path};a=b"),
        format!("{path}%2f"),
        format!("{path}%20"),
        path_of(namespace, &encoded),
        path_of(namespace, &name.to_uppercase()),
        path_of(&namespace.to_uppercase(), name),
        path.replace("/apis", "/APIS"),
        path.replace("external", "External"),
        path.replace("v1beta1", "V1BETA1"),
        path.replace("/namespaces", "//namespaces"),
        path.replace("/namespaces", "/./namespaces"),
        path.replace("/namespaces", "/%2e/namespaces"),
        path.replace("/namespaces", "/watch/namespaces"),
        path.replace("/namespaces", "/proxy/namespaces"),
        format!("/livez/..{path}"),
        format!("/livez/%2e%2e{path}"),
        format!("/livez%2f..{path}"),
        format!("/healthz{path}"),
        format!("{group}/namespaces/default/depth/../{name}"),
        format!("{group}/namespaces/default/depth/%2e%2e/{name}"),
        format!("{group}/namespaces/default/depth%2f..%2f{name}"),
        format!("{group}/namespaces/default/depth/..%2f{name}"),
        format!("{group}/namespaces/default/../{namespace}/{name}"),
        format!("{group}/namespaces/default%2f..%2f{namespace}/{name}"),
        format!("{group}/namespaces/default/depth/{name}"),
        format!("{group}/namespaces/default/depth?{name}"),
        format!("{group}/namespaces/default/depth%3f/{name}"),
        format!("{group}/namespaces/default/{name}/depth"),
        format!("{group}/namespaces/{namespace}/{name}%00depth"),
        format!("{group}/namespaces//{name}"),
        format!("{group}/{name}"),
        format!("/apis/external.metrics.k8s.io/v1beta2/namespaces/{namespace}/{name}"),
    ]
}

impl World {
    /// Asks for every path as this visitor.
    async fn visit(
        &self,
        visitor: &Visitor,
        protocol: Protocol,
        paths: &[String],
    ) -> Vec<(String, Answer)> {
        let mut answers = Vec::new();
        let mut kept = self.connect(visitor.pair.as_ref(), protocol).await;
        for path in paths {
            let mut tried = 0;
            let answer = loop {
                let error = match kept.get(path, &visitor.headers).await {
                    Ok(answer) => break answer,
                    Err(error) => error,
                };
                // A stranger's connection ends after one answer on HTTP/2, sometimes before it was
                // read: nothing was given away then.
                tried += 1;
                let about = format!("{}, {path}: {error}", visitor.about);
                assert!(protocol == Protocol::Http2 && tried < 20, "{about}");
                kept = self.connect(visitor.pair.as_ref(), protocol).await;
            };
            answers.push((path.clone(), answer));
        }
        answers
    }

    async fn connect(&self, pair: Option<&Pair>, protocol: Protocol) -> Connection {
        let made = match pair {
            Some(pair) => self.server.connect_as(pair, protocol).await,
            None => self.server.connect(protocol).await,
        };
        made.expect("anybody connects")
    }
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_by() {
    let mut world = world().await;
    let guarded = guarded();
    let few = [guarded[0].clone(), path_of("default", "depth"), CUSTOM.to_owned()];
    for visitor in strangers(&world) {
        let about = visitor.about;
        let before = world.cluster.access_reviews().len();
        let mut answers = world.visit(&visitor, Protocol::Http1, &guarded).await;
        answers.extend(world.visit(&visitor, Protocol::Http2, &few).await);
        for (path, answer) in &answers {
            let (code, reason, user) = match visitor.counts {
                Counts::Refused => (401, "Unauthorized", None),
                Counts::Anonymous => (403, "Forbidden", Some("system:anonymous")),
                Counts::Denied(user) => (403, "Forbidden", Some(user)),
                Counts::Allowed => unreachable!("not among strangers"),
            };
            assert_eq!(answer.status, code, "{about}, {path}: {}", answer.text());
            let message = status(answer, code, reason);
            if let Some(user) = user {
                assert!(
                    message.contains(&format!("User \"{user}\" ")),
                    "{about}, {path}: {message}"
                );
            }
            assert!(!answer.text().contains("\"items\""), "{about}, {path}: {}", answer.text());
        }
        let reviews = world.cluster.access_reviews();
        let asked: BTreeSet<_> =
            reviews[before..].iter().map(|spec| spec["user"].as_str().unwrap_or("?")).collect();
        let wanted = match visitor.counts {
            Counts::Denied(user) => BTreeSet::from([user]),
            Counts::Anonymous => BTreeSet::from(["system:anonymous"]),
            Counts::Refused | Counts::Allowed => BTreeSet::new(),
        };
        // Fewer where an earlier visitor's refusal is remembered.
        assert!(asked.is_subset(&wanted), "{about}: {asked:?}");
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (path, answer) in world.visit(&visitor, protocol, &owned(&OPEN)).await {
                let code = if visitor.counts == Counts::Refused { 401 } else { 200 };
                assert_eq!(answer.status, code, "{about}, {path}: {}", answer.text());
            }
        }
    }
    assert_eq!(world.upstream.server().hits(), 0, "an upstream was asked for a stranger");

    // The same paths are there for whoever may, and equally for all of them.
    let mut first: Option<Vec<u16>> = None;
    for visitor in readers(&world) {
        let answers = world.visit(&visitor, Protocol::Http1, &guarded).await;
        let codes: Vec<u16> = answers.iter().map(|(_, answer)| answer.status.as_u16()).collect();
        for (path, answer) in &answers {
            assert!(![401, 403].contains(&answer.status.as_u16()), "{}, {path}", visitor.about);
        }
        let (_, depth) = &world.visit(&visitor, Protocol::Http2, &few[1..]).await[0];
        assert_eq!(values(depth), ["3"], "{}", visitor.about);
        let wanted = first.get_or_insert_with(|| codes.clone());
        assert_eq!(codes, *wanted, "{}: {guarded:?}", visitor.about);
    }
    let found = |path: &str| {
        guarded.iter().position(|p| p == path).and_then(|at| Some(first.as_ref()?[at]))
    };
    for path in ["/metrics", "/version", "/openapi/v2", CUSTOM, &path_of("other", "depth")] {
        assert_eq!(found(path), Some(200), "{path}");
    }
    world.server.check();
}

/// What is authorized is what is answered, however the path is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_metric_is_no_way_to_another() {
    let mut world = world().await;
    let aggregator = world.front_proxy.client("front-proxy-client", &[]);
    let visitor = |user| Visitor {
        about: user,
        pair: Some(aggregator.clone()),
        headers: vec![("X-Remote-User", user)],
        counts: Counts::Allowed,
    };
    let mut paths = [detours("default", "treasure"), detours("other", "depth")].concat();
    paths.push(CUSTOM.to_owned());
    let reached = |answers: &[(String, Answer)]| {
        let has = |answer: &Answer| answer.text().contains(TREASURE);
        answers.iter().filter(|(_, a)| has(a)).map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    // The treasure is there, and not only at the end of the straight way.
    let by_reader = reached(&world.visit(&visitor("reader"), Protocol::Http1, &paths).await);
    assert!(by_reader.len() > 8, "{by_reader:?}");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answers = world.visit(&visitor("narrow"), protocol, &paths).await;
        assert_eq!(reached(&answers), [""; 0]);
        for (path, answer) in answers {
            if answer.status == 200 {
                assert_eq!(values(&answer), ["3"], "{path}");
            } else {
                assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
            }
        }
        let own = world.visit(&visitor("narrow"), protocol, &detours("default", "depth")).await;
        assert_eq!(values(&own[0].1), ["3"]);
        assert_eq!(values(&own[1].1), ["3"], "a trailing slash changes nothing");
    }
    world.server.check();
}

/// HTTP/1.1 as no library would send it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_read_one_way_only() {
    let mut world = world().await;
    let aggregator = world.front_proxy.client("front-proxy-client", &[]);
    let treasure = path_of("default", "treasure");
    let hidden = format!(
        "GET {treasure} HTTP/1.1\r\nHost: {NAME}\r\nX-Remote-User: reader\r\nConnection: close\r\n\r\n"
    );
    let request = |headers: &str, body: &str| {
        format!("GET {treasure} HTTP/1.1\r\nHost: {NAME}\r\n{headers}\r\n{body}")
    };
    let length = hidden.len();
    let close = "Connection: close\r\n";
    for (about, text, code) in [
        ("any case", request(&format!("x-rEmOtE-uSeR: outsider\r\n{close}"), ""), 403),
        (
            "any case, twice",
            request(&format!("X-REMOTE-USER: outsider\r\nx-remote-user: reader\r\n{close}"), ""),
            403,
        ),
        (
            "spaces around",
            request(
                &format!("X-Remote-User: \t outsider \t\r\nX-Remote-User: reader\r\n{close}"),
                "",
            ),
            403,
        ),
        (
            "a space before the colon",
            request(&format!("X-Remote-User : reader\r\n{close}"), ""),
            400,
        ),
        (
            "a folded line",
            request(&format!("X-Remote-User: outsider\r\n X-Remote-User: reader\r\n{close}"), ""),
            400,
        ),
        (
            "a bare line feed in a value",
            request(&format!("X-Remote-User: outsider\nX-Remote-User: reader\r\n{close}"), ""),
            403,
        ),
        ("a NUL", request(&format!("X-Remote-User: reader\0outsider\r\n{close}"), ""), 400),
        (
            "a body that looks like a request",
            request(
                &format!("X-Remote-User: outsider\r\nContent-Length: {length}\r\n{close}"),
                &hidden,
            ),
            403,
        ),
        (
            "the same, kept alive",
            request(
                &format!("X-Remote-User: outsider\r\nContent-Length: {length}\r\n"),
                &format!("{hidden}{}", request(&format!("X-Remote-User: outsider\r\n{close}"), "")),
            ),
            403,
        ),
        (
            "two lengths",
            request(
                &format!(
                    "X-Remote-User: outsider\r\nContent-Length: 0\r\nContent-Length: {length}\r\n"
                ),
                &hidden,
            ),
            400,
        ),
        (
            "a length and chunks",
            request(
                "X-Remote-User: outsider\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{hidden}"),
            ),
            403,
        ),
        (
            "an absolute target",
            format!(
                "GET https://{NAME}{treasure} HTTP/1.1\r\nHost: x\r\nX-Remote-User: outsider\r\n{close}\r\n"
            ),
            403,
        ),
    ] {
        let answer = raw(&world.server, &aggregator, &text).await;
        assert!(
            !answer.contains(TREASURE) && !answer.contains("HTTP/1.1 200"),
            "{about}: {answer}"
        );
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{about}: {answer}");
    }
    assert_eq!(world.upstream.server().hits(), 0);
    // Headers of the reader in the same hand do work.
    let good = raw(&world.server, &aggregator, &hidden).await;
    assert!(good.starts_with("HTTP/1.1 200 ") && good.contains(TREASURE), "{good}");
    world.server.check();
}

/// Sends bytes, and gives everything that comes back until the server ends the connection.
async fn raw(server: &Tidepole, pair: &Pair, text: &str) -> String {
    let mut config = (*server.setup.authority.client_config(Some(pair))).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.running.api_address()).await.expect("it listens");
    let name = NAME.try_into().expect("it is a name");
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(name, stream).await.expect("the aggregator is let in");
    stream.write_all(text.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    // An end without TLS's farewell is an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
