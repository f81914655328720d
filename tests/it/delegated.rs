//! Authentication and authorization by a cluster.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::client::{Answer, Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::openmetrics;
use crate::support::ports;
use crate::support::server::{Setup, Tidepole, metric, path_of, status, values};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::{Prometheus, Reply};
use crate::support::wait::until;

/// The authorities of a cluster and the cluster itself.
struct World {
    cluster: ClusterApi,
    front_proxy: Authority,
    clients: Authority,
    upstream: Prometheus,
    server: Tidepole,
}

const AGGREGATOR: &str = "front-proxy-client";

/// What the aggregator sends for the HPA controller.
const HPA: &[(&str, &str)] = &[
    ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler"),
    ("X-Remote-Group", "system:serviceaccounts"),
    ("X-Remote-Group", "system:authenticated"),
    ("X-Remote-Extra-authentication.kubernetes.io%2fpod-name", "kcm-0"),
];

async fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    let upstream = Prometheus::start();
    upstream.vector("depth", &[(r#""queue":"mail""#, "3")]);
    let url = upstream.server().url();
    let server = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .cluster(&cluster)
        .with("m.yaml", &metric("depth", "prometheus: { query: depth }, refresh: 10s"))
        .start()
        .await;
    World { cluster, front_proxy, clients, upstream, server }
}

impl World {
    fn aggregator(&self) -> Pair {
        self.front_proxy.client(AGGREGATOR, &[])
    }

    async fn proxy(&self) -> Connection {
        self.server
            .connect_as(&self.aggregator(), Protocol::Http2)
            .await
            .expect("the aggregator is let in")
    }

    /// Ends the test. A stop in order takes its grace of 5 s, and has a test of its own.
    fn end(&mut self) {
        self.server.check();
    }

    async fn anonymous(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = self.server.connect(Protocol::Http1).await.expect("anybody connects");
        connection.get(path, headers).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn depth() -> String {
    path_of("default", "depth")
}

fn as_user(user: &str) -> Vec<(&str, &str)> {
    vec![("X-Remote-User", user), ("X-Remote-Group", "system:authenticated")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reads_of_the_hpa_cost_one_review_that_says_it_all() {
    let mut world = world().await;
    let connection = world.proxy().await;
    let path = format!("{}?labelSelector=queue%20in%20(mail,jobs),!dead,queue!=old,n%3E1", depth());
    let mut reads = Vec::new();
    for _ in 0..100 {
        let (mut requests, path) = (connection.share(), &path);
        reads.push(async move { requests.get(path, HPA).await.unwrap() });
    }
    for answer in futures::future::join_all(reads).await {
        // The series has no label `n`.
        let message = status(&answer, 404, "NotFound");
        assert!(message.contains("no series matches"), "{message}");
    }
    let reviews = world.cluster.access_reviews();
    assert_eq!(
        reviews,
        [json!({
            "user": "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/pod-name": ["kcm-0"]},
            "resourceAttributes": {
                "verb": "list",
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "resource": "depth",
                "namespace": "default",
                "labelSelector": {"requirements": [
                    {"key": "dead", "operator": "DoesNotExist"},
                    {"key": "queue", "operator": "In", "values": ["jobs", "mail"]},
                    {"key": "queue", "operator": "NotIn", "values": ["old"]},
                ]},
            },
        })],
    );
    // The same without a selector is another question.
    let answer = world.proxy().await.get(&depth(), HPA).await.unwrap();
    assert_eq!(values(&answer), ["3"]);
    assert_eq!(world.cluster.access_reviews().len(), 2);
    assert_eq!(world.cluster.token_reviews().len(), 0);
    assert_eq!(world.upstream.hits("depth"), 1);
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_so_and_costs_the_upstream_nothing() {
    let mut world = world().await;
    world.cluster.allow_if(|spec| spec["user"] == "jane");
    let mut proxy = world.proxy().await;
    let answer = proxy.get(&depth(), &as_user("joe<b>")).await.unwrap();
    assert_eq!(
        status(&answer, 403, "Forbidden"),
        "depth.external.metrics.k8s.io is forbidden: User \"joe&lt;b&gt;\" cannot list resource \
         \"depth\" in API group \"external.metrics.k8s.io\" in the namespace \"default\""
    );
    assert_eq!(world.upstream.server().hits(), 0);
    // Headers without the aggregator's certificate are nobody's: anonymous, and refused.
    let answer = world.anonymous(&depth(), &as_user("jane")).await;
    let message = status(&answer, 403, "Forbidden");
    assert!(message.contains("User \"system:anonymous\" cannot list"), "{message}");
    // Nor with a certificate of the right authority for another name, nor of another authority.
    for stranger in [
        world.front_proxy.client("front-proxy-impostor", &[]),
        Authority::new("front-proxy-ca").client(AGGREGATOR, &[]),
    ] {
        let mut connection =
            world.server.connect_as(&stranger, Protocol::Http1).await.expect("anybody connects");
        let answer = connection.get(&depth(), &as_user("jane")).await.unwrap();
        status(&answer, 401, "Unauthorized");
    }
    assert_eq!(world.upstream.server().hits(), 0);
    assert!(
        world.cluster.access_reviews().iter().all(|spec| spec["user"] != "jane"),
        "an identity that nobody vouched for was believed"
    );
    assert_eq!(values(&proxy.get(&depth(), &as_user("jane")).await.unwrap()), ["3"]);
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_may_have_been_meant_are_told_to_whom_may_read_them() {
    let mut world = world().await;
    world.server.setup.define("n.yaml", &metric("depths", "prometheus: { query: depth }"));
    world.server.setup.define(
        "other.yaml",
        &metric("depthx", "prometheus: { query: depth }")
            .replace("namespace: default", "namespace: other"),
    );
    let mut proxy = world.proxy().await;
    until("the definition is served", async || {
        let answer = world.proxy().await.get(&path_of("default", "depths"), HPA).await.unwrap();
        if answer.status == 200 { Ok(()) } else { Err(answer.text().to_owned()) }
    })
    .await;
    let may = |spec: &Value, users: &[&str], resource: &str| {
        users.iter().any(|user| spec["user"] == *user)
            && spec["resourceAttributes"]["resource"] == resource
    };
    world.cluster.allow_if(move |spec| {
        spec["groups"][0] == "system:serviceaccounts"
            || may(spec, &["jane", "joe"], "depth0")
            || may(spec, &["jane"], "depth")
    });
    let typo = format!("{}?labelSelector=queue%3Dmail", path_of("default", "depth0"));
    let sentence =
        "depth0 in default: no external metric of this name is defined for this namespace";
    let answer = proxy.get(&typo, HPA).await.unwrap();
    assert_eq!(
        status(&answer, 404, "NotFound"),
        format!("{sentence}; did you mean \"depth\" or \"depths\"?")
    );
    let before = world.cluster.access_reviews().len();
    let answer = proxy.get(&typo, &as_user("jane")).await.unwrap();
    assert_eq!(status(&answer, 404, "NotFound"), format!("{sentence}; did you mean \"depth\"?"));
    // The right to a name is the right to list all of it in the namespace that was asked for.
    let reviews = world.cluster.access_reviews();
    assert_eq!(reviews.len(), before + 3, "the request's own, and one for each name");
    let of_name = reviews.iter().rev().find(|spec| may(spec, &["jane"], "depth")).unwrap();
    assert_eq!(
        of_name["resourceAttributes"],
        json!({
            "verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1",
            "resource": "depth", "namespace": "default",
        })
    );
    let answer = proxy.get(&typo, &as_user("joe")).await.unwrap();
    assert_eq!(status(&answer, 404, "NotFound"), sentence, "joe may read neither");
    // Remembered, refusals too: no further reviews.
    let before = world.cluster.access_reviews().len();
    for (user, names) in [("jane", "; did you mean \"depth\"?"), ("joe", "")] {
        let answer = proxy.get(&typo, &as_user(user)).await.unwrap();
        assert_eq!(status(&answer, 404, "NotFound"), format!("{sentence}{names}"));
    }
    assert_eq!(world.cluster.access_reviews().len(), before);
    // Without an answer from the cluster no name is told. (Her right to the request is remembered.)
    let mut asked = as_user("jim");
    world.cluster.allow_if(|_| true);
    world.cluster.hang_reviews_of(&["depth", "depths"]);
    asked.push(("X-Remote-Group", "dev"));
    let answer = proxy.get(&typo, &asked).await.unwrap();
    assert_eq!(status(&answer, 404, "NotFound"), sentence);
    // Whoever may do everything is told everything.
    let admin = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")];
    let message = status(&proxy.get(&typo, &admin).await.unwrap(), 404, "NotFound");
    assert!(message.ends_with("did you mean \"depth\" or \"depths\"?"), "{message}");
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_tokens_and_open_paths() {
    let mut world = world().await;
    world.cluster.allow_if(|spec| {
        spec["user"] == "jane" || spec["user"] == "system:serviceaccount:default:scraper"
    });
    let user = json!({
        "username": "system:serviceaccount:default:scraper",
        "groups": ["system:serviceaccounts"],
    });
    world.cluster.token("good-token", user);
    // A client certificate of the cluster's authority.
    let jane = world.clients.client("jane", &["dev"]);
    let mut connection = world.server.connect_as(&jane, Protocol::Http2).await.unwrap();
    assert_eq!(values(&connection.get(&depth(), &[]).await.unwrap()), ["3"]);
    let spec = world.cluster.access_reviews().pop().unwrap();
    assert_eq!(
        (&spec["user"], &spec["groups"]),
        (&json!("jane"), &json!(["dev", "system:authenticated"]))
    );
    // Members of system:masters may do everything, without a review.
    let before = world.cluster.access_reviews().len();
    let admin = world.clients.client("admin", &["system:masters"]);
    let mut connection = world.server.connect_as(&admin, Protocol::Http2).await.unwrap();
    assert_eq!(values(&connection.get(&depth(), &[]).await.unwrap()), ["3"]);
    assert_eq!(world.cluster.access_reviews().len(), before);
    // Tokens: reviewed once, and refused when they are garbage.
    let bearer = [("authorization", "Bearer good-token")];
    for _ in 0..10 {
        assert_eq!(values(&world.anonymous(&depth(), &bearer).await), ["3"]);
    }
    assert_eq!(world.cluster.token_reviews(), [json!({"token": "good-token"})]);
    let answer = world.anonymous(&depth(), &[("authorization", "Bearer garbage")]).await;
    status(&answer, 401, "Unauthorized");
    let metrics = world.server.admin("/metrics").await;
    assert!(!metrics.text().contains("good-token"));
    world.server.ready().await;
    // Health is open to all, metrics are not.
    for (path, code) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/healthz", 200),
        ("/readyz/ping", 403),
        ("/metrics", 403),
        ("/apis", 403),
    ] {
        let answer = world.anonymous(path, &[]).await;
        assert_eq!(answer.status, code, "{path}: {}", answer.text());
    }
    let spec = world.cluster.access_reviews().pop().unwrap();
    assert_eq!(spec["nonResourceAttributes"], json!({"path": "/apis", "verb": "get"}));
    assert_eq!(spec["groups"], json!(["system:unauthenticated"]));
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_from_the_cluster_nobody_gets_in() {
    let mut world = world().await;
    world.cluster.fail_reviews(true);
    let mut proxy = world.proxy().await;
    let answer = proxy.get(&depth(), HPA).await.unwrap();
    assert_eq!(
        status(&answer, 500, "InternalError"),
        "Internal error occurred: access could not be reviewed: etcd is away"
    );
    assert_eq!(world.upstream.server().hits(), 0);
    let bearer = [("authorization", "Bearer good-token")];
    let answer = world.anonymous(&depth(), &bearer).await;
    status(&answer, 401, "Unauthorized");
    assert_eq!(world.anonymous("/readyz", &[]).await.status, 200);
    let admin = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")];
    assert_eq!(values(&proxy.get(&depth(), &admin).await.unwrap()), ["3"]);
    // A failure is not remembered.
    world.cluster.fail_reviews(false);
    assert_eq!(values(&proxy.get(&depth(), HPA).await.unwrap()), ["3"]);
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_trust_counts_at_once() {
    let mut world = world().await;
    let mut old = world.proxy().await;
    assert_eq!(values(&old.get(&depth(), HPA).await.unwrap()), ["3"]);
    let next = Authority::new("next-front-proxy-ca");
    let mut data = trust(&next.pem(), &world.clients.pem());
    data.insert("requestheader-username-headers".to_owned(), "[\"X-Asserted-User\"]".to_owned());
    world.cluster.publish(data);
    // Connections that were made under the old authority end.
    tokio::time::timeout(Duration::from_secs(20), old.closed())
        .await
        .expect("the old aggregator's connection ends")
        .expect("in order");
    let mut refused = world.proxy().await;
    status(&refused.get(&depth(), HPA).await.unwrap(), 401, "Unauthorized");
    let aggregator = next.client(AGGREGATOR, &[]);
    let mut new = world.server.connect_as(&aggregator, Protocol::Http2).await.unwrap();
    let answer = new.get(&depth(), &[("X-Asserted-User", "jane")]).await.unwrap();
    assert_eq!(values(&answer), ["3"]);
    let spec = world.cluster.access_reviews().pop().unwrap();
    assert_eq!(spec["user"], "jane");
    // A broken publication keeps what was known.
    let mut broken = trust("no certificate", &world.clients.pem());
    broken.insert("requestheader-username-headers".to_owned(), "not JSON".to_owned());
    world.cluster.publish(broken);
    until("the broken trust is noted", async || {
        let text = world.server.admin("/metrics").await.text().to_owned();
        if text.contains("state=\"malformed\"} 1") { Ok(()) } else { Err(text) }
    })
    .await;
    let answer = new.get(&depth(), &[("X-Asserted-User", "jane")]).await.unwrap();
    assert_eq!(values(&answer), ["3"]);
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asserted_identity_leaves_no_trace_and_impersonation_is_refused() {
    let mut world = world().await;
    world.cluster.allow_if(|spec: &Value| spec["user"] != "root");
    let jane = world.clients.client("jane", &[]);
    let mut direct = world.server.connect_as(&jane, Protocol::Http1).await.unwrap();
    // A user's own certificate does not vouch for headers.
    let answer = direct.get(&depth(), &[("X-Remote-User", "root")]).await.unwrap();
    assert_eq!(values(&answer), ["3"]);
    assert_eq!(world.cluster.access_reviews().pop().unwrap()["user"], "jane");
    let answer = direct.get(&depth(), &[("Impersonate-User", "root")]).await.unwrap();
    assert!(answer.status.is_client_error(), "{}: {}", answer.status, answer.text());
    assert!(values_absent(&answer), "{}", answer.text());
    // The audit id of the API server comes back.
    let mut proxy = world.proxy().await;
    let mut headers = HPA.to_vec();
    headers.push(("Audit-Id", "abc-123"));
    let answer = proxy.get(&depth(), &headers).await.unwrap();
    assert_eq!(answer.header("audit-id"), "abc-123");
    let sent: &HeaderMap = &answer.headers;
    assert!(sent.keys().all(|name| !name.as_str().starts_with("x-remote")), "{sent:?}");
    world.end();
}

fn values_absent(answer: &Answer) -> bool {
    answer.json()["items"].is_null()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_at_the_start_counts_when_it_comes() {
    let address = ports::free();
    let front_proxy = Authority::new("front-proxy-ca");
    let mut server = Setup::new("  - { name: sim, simulated: {} }")
        .kubeconfig(&ClusterApi::kubeconfig_of(address))
        .with("m.yaml", &metric("steady", "simulated: { constant: 5 }"))
        .start()
        .await;
    // Nobody can be told apart yet, so nobody should be sent here yet.
    let answer = server.admin("/readyz").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("[-]authentication failed"), "{}", answer.text());
    assert_eq!(server.admin("/livez").await.status, 200);
    let aggregator = front_proxy.client(AGGREGATOR, &[]);
    let path = path_of("default", "steady");
    let mut early = server.connect_as(&aggregator, Protocol::Http1).await.unwrap();
    let answer = early.get(&path, HPA).await.unwrap();
    assert!([401, 500].contains(&answer.status.as_u16()), "{}", answer.text());

    let _cluster = ClusterApi::start_at(address, trust(&front_proxy.pem(), &front_proxy.pem()));
    server.ready().await;
    let mut connection = server.connect_as(&aggregator, Protocol::Http2).await.unwrap();
    let answer = until("the first read", async || {
        let answer = connection.get(&path, HPA).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer) } else { Err(answer.text().to_owned()) }
    })
    .await;
    assert_eq!(values(&answer), ["5"]);
    server.check();
}

/// What a restart of kube-controller-manager does to the aggregator's connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cancelled_reads_do_not_end_the_aggregators_connection() {
    const BATCH: usize = 500;
    let front_proxy = Authority::new("front-proxy-ca");
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &front_proxy.pem()));
    let upstream = Prometheus::start();
    upstream.set("hang", Reply::Hang);
    upstream.vector("good", &[("", "5")]);
    let url = upstream.server().url();
    let source = format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 1m }} }}");
    let mut server = Setup::new(&source)
        .defaults("{ refresh: 1m, firstReadTimeout: 30s }")
        .cluster(&cluster)
        .with("hang.yaml", &metric("hang", "prometheus: { query: hang }"))
        .with("good.yaml", &metric("good", "prometheus: { query: good }"))
        .start()
        .await;
    let aggregator = front_proxy.client(AGGREGATOR, &[]);
    let connection = server.connect_as(&aggregator, Protocol::Http2).await.unwrap();
    let (hang, good) = (path_of("default", "hang"), path_of("default", "good"));
    let mut sibling = connection.share();
    for batch in 0..20 {
        let mut reads: FuturesUnordered<_> = (0..BATCH)
            .map(|_| {
                let (mut requests, hang) = (connection.share(), &hang);
                async move { requests.get(hang, HPA).await }
            })
            .collect();
        // They are sent before the sibling's read; dropping them resets their streams.
        tokio::select! {
            biased;
            ended = reads.next() => panic!("batch {batch}: a read ended: {ended:?}"),
            answer = sibling.get(&good, HPA) => {
                assert_eq!(values(&answer.unwrap()), ["5"], "batch {batch}");
            }
        }
        drop(reads);
    }
    assert_eq!(values(&sibling.get(&good, HPA).await.unwrap()), ["5"]);
    assert_eq!((upstream.hits("hang"), upstream.hits("good")), (1, 1));
    let families = openmetrics::parse(server.admin("/metrics").await.text()).unwrap();
    let count = |family: &str| families[family].samples.iter().map(|s| s.value).sum::<f64>();
    assert!(count("tidepole_server_connections") < 1.5, "the connection was replaced");
    assert!(count("tidepole_server_authentications") > 10_000.0, "they were not all sent");
    server.check();
}
