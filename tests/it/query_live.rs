//! `tidepole query` of a running server: as whom it comes, what it shows, and what it advises.

use std::fs;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::cluster_api::{ClusterApi, PODS, trust};
use crate::support::process::tidepole;
use crate::support::server::{NAME, Setup, Tidepole, metric};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::{Prometheus, Reply, Upstream};

/// How it ended.
struct Seen {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    #[track_caller]
    fn has(&self, code: i32, words: &[&str]) {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{all}");
        // A sentence may be wrapped.
        let flat = all.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "{word}: {all}");
        }
    }
}

/// Runs it without blocking the server under test.
async fn run(mut command: Command) -> Seen {
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("it does not panic").expect("the binary was built with this test");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    Seen { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn command(setup: &Setup, kubeconfig: &Value, arguments: &[&str]) -> Command {
    let path = setup.path("client.kubeconfig");
    fs::write(&path, kubeconfig.to_string()).expect("the folder is ours");
    let mut command = tidepole(&["query", "--kubeconfig"], &path);
    command.args(arguments);
    command
}

async fn query(setup: &Setup, kubeconfig: &Value, arguments: &[&str]) -> Seen {
    run(command(setup, kubeconfig, arguments)).await
}

/// A kubeconfig of one server and users, with a context of each user's name.
fn kubeconfig(server: &str, authority: Option<&Authority>, users: &[(&str, Value)]) -> Value {
    let mut cluster = json!({"server": server});
    if let Some(authority) = authority {
        let pem = BASE64_STANDARD.encode(authority.pem());
        cluster["certificate-authority-data"] = pem.into();
    }
    let context = |name: &str| json!({"name": name, "context": {"cluster": "c", "user": name, "namespace": "shop"}});
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": users[0].0,
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": users.iter().map(|(name, _)| context(name)).collect::<Vec<_>>(),
        "users": users.iter().map(|(name, user)| json!({"name": name, "user": user})).collect::<Vec<_>>(),
    })
}

fn with_certificate(pair: &Pair) -> Value {
    json!({
        "client-certificate-data": BASE64_STANDARD.encode(&pair.certificate),
        "client-key-data": BASE64_STANDARD.encode(&pair.key),
    })
}

struct World {
    _cluster: ClusterApi,
    _upstream: Prometheus,
    server: Tidepole,
    kubeconfig: Value,
}

async fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS]);
    for pod in ["web-0", "web-1"] {
        cluster.objects().put(&PODS, "shop", pod, &[("app", "web")]);
    }
    cluster.token("token-of-jane", json!({"username": "jane"}));
    cluster.allow_if(|spec| spec["user"] == "jane");
    let upstream = Prometheus::start();
    upstream.vector("depth", &[(r#""queue":"a""#, "1.5"), (r#""queue":"b""#, "2")]);
    upstream.vector("requests", &[(r#""pod":"web-0""#, "1"), (r#""pod":"web-1""#, "2")]);
    let url = upstream.server().url();
    let depth = metric("depth", "prometheus: { query: depth }")
        .replace("namespace: default", "namespace: shop");
    let broken = metric("broken", "prometheus: { query: none }")
        .replace("namespace: default", "namespace: shop");
    let custom = "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterCustomMetric\n\
         metadata: { name: requests }\nspec: { resource: pods, prometheus: { query: requests } }\n";
    let server = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .cluster(&cluster)
        .defaults("{ refresh: 1s, firstReadTimeout: 15s }")
        .with("depth.yaml", &depth)
        .with("broken.yaml", &broken)
        .with("custom.yaml", custom)
        .start()
        .await;
    server.ready().await;
    let program = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"token-of-jane"}}'"#],
        "interactiveMode": "Never",
    });
    let users = [
        ("token", json!({"token": "token-of-jane"})),
        ("certificate", with_certificate(&clients.client("jane", &[]))),
        ("program", json!({"exec": program})),
        (
            "no-program",
            json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-program", "interactiveMode": "Never"}}),
        ),
        ("joe", with_certificate(&clients.client("joe", &[]))),
        ("stranger", json!({"token": "token-of-nobody"})),
    ];
    let address = server.running.api_address();
    let url = format!("https://{NAME}:{}", address.port());
    let kubeconfig = kubeconfig(&url, Some(&server.setup.authority), &users);
    World { _cluster: cluster, _upstream: upstream, server, kubeconfig }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_is_asked_as_an_hpa_asks() {
    let mut world = world().await;
    let ask =
        async |arguments: &[&str]| query(&world.server.setup, &world.kubeconfig, arguments).await;
    // Whatever the kubeconfig has for credentials.
    for context in ["token", "certificate", "program"] {
        let seen = ask(&["depth", "--context", context, "-o", "json"]).await;
        seen.has(0, &[]);
        let shown = seen.json();
        assert_eq!((&shown["value"], &shown["namespace"]), (&json!("3500m"), &json!("shop")));
        assert_eq!(shown["context"], context);
        assert_eq!(shown["items"][0]["labels"], json!({"queue": "a"}));
        assert_eq!((&shown["items"][0]["value"], &shown["error"]), (&json!("1500m"), &Value::Null));
        assert!(shown["items"][0]["ageSeconds"].is_number(), "{shown}");
    }
    let selected = ask(&["depth", "-l", "queue=b", "-o", "yaml"]).await;
    let yaml: Value = serde_saphyr::from_str(&selected.out).expect("it is YAML");
    assert_eq!((&yaml["value"], &yaml["selector"]), (&json!("2"), &json!("queue=b")));
    // A table has no colours unless it goes to a terminal.
    let table = ask(&["depth"]).await;
    table.has(0, &["Result 3500m, the sum of 2 items", "Reader namespace shop", "context token"]);
    assert!(!table.out.contains('\u{1b}'), "{}", table.out);
    let pods = ask(&["pods/requests", "-l", "app=web"]).await;
    pods.has(0, &["1500m, the average over 2 objects", "Pod/web-1"]);
    let one = ask(&["pods/requests", "--name", "web-1", "-o", "json"]).await.json();
    assert_eq!((&one["value"], &one["items"][0]["object"]), (&json!("2"), &json!("Pod/web-1")));
    // Asked for, it would be a 404.
    let dry = ask(&["-n", "other", "depth", "--dry-run"]).await;
    dry.has(0, &["GET /apis/external.metrics.k8s.io/v1beta1/namespaces/other/depth", "dry run"]);
    world.server.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_says_what_to_do() {
    let mut world = world().await;
    let ask =
        async |arguments: &[&str]| query(&world.server.setup, &world.kubeconfig, arguments).await;
    let denied = ask(&["depth", "--context", "joe"]).await;
    denied.has(
        1,
        &[
            "no value: HTTP 403 Forbidden",
            "User \"joe\" cannot list resource \"depth\"",
            "- { apiGroups: [external.metrics.k8s.io], resources: [depth], verbs: [list] }",
        ],
    );
    let denied = ask(&["pods/requests", "--context", "joe"]).await;
    denied.has(
        1,
        &["- { apiGroups: [custom.metrics.k8s.io], resources: [pods/requests], verbs: [get] }"],
    );
    ask(&["depth", "--context", "stranger"]).await.has(1, &["HTTP 401", "log in again"]);
    ask(&["dephts"]).await.has(1, &["HTTP 404 NotFound", "did you mean \"depth\"?"]);
    let failed = ask(&["broken"]).await;
    failed.has(
        1,
        &[
            "HTTP 503 ServiceUnavailable",
            "the query gives no series",
            "tidepole query --config FILE broken",
        ],
    );
    ask(&["depth", "--context", "mars"])
        .await
        .has(1, &["no context \"mars\"", "token, certificate", "--context NAME"]);
    let missing = ask(&["depth", "--context", "no-program"]).await;
    missing.has(1, &["no credentials for https://localhost", "no-such-program", "log in"]);
    ask(&["a/b/c"]).await.has(2, &["is no metric"]);
    world.server.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_a_server_says_so() {
    let setup = Setup::new("");
    let ask = async |url: &str, arguments: &[&str]| {
        let kubeconfig = kubeconfig(url, None, &[("me", json!({}))]);
        query(&setup, &kubeconfig, arguments).await
    };
    // Nobody listens: tcpmux is gone.
    ask("http://127.0.0.1:1", &["depth"])
        .await
        .has(1, &["cannot be reached: Connection refused", "kubectl version"]);
    // A cluster without our APIServices.
    let bare = ClusterApi::start(trust("", ""));
    let address = serde_json::from_str::<Value>(&bare.kubeconfig()).expect("it is JSON");
    let url = address["clusters"][0]["cluster"]["server"].as_str().expect("it is text").to_owned();
    ask(&url, &["depth"])
        .await
        .has(1, &["the cluster has no APIService for external.metrics.k8s.io"]);
    ask(&url, &["pods/x"])
        .await
        .has(1, &["the cluster has no APIService for custom.metrics.k8s.io"]);
    // One whose Service is away, as the aggregator says it.
    let aggregator = Upstream::start(|request| {
        if request.path().ends_with("/apiservices/v1beta1.external.metrics.k8s.io") {
            let condition = json!({"type": "Available", "status": "False", "message": "no response from https://10.0.0.7:6443"});
            let service = json!({
                "spec": {"service": {"namespace": "tidepole", "name": "adapter"}},
                "status": {"conditions": [condition]},
            });
            return Reply::json(200, service.to_string());
        }
        Reply::text(503, "text/plain", "service unavailable\n")
    });
    ask(&aggregator.url(), &["depth"]).await.has(
        1,
        &[
            "HTTP 503",
            "service unavailable",
            "cannot reach Service tidepole/adapter",
            "no response from https://10.0.0.7:6443",
            "kubectl get apiservice v1beta1.external.metrics.k8s.io --output yaml",
        ],
    );
    // Another adapter's: the old version alone, no hints, and an empty list.
    let other = Upstream::start(|request| {
        let group = "/apis/custom.metrics.k8s.io";
        let item = json!({
            "describedObject": {"kind": "Pod", "name": "web-0"}, "metricName": "x",
            "timestamp": "2026-11-21T15:50:00Z", "value": "7",
        });
        match request.path().strip_prefix(group) {
            Some("") => Reply::json(200, json!({"versions": [{"version": "v1beta1"}]}).to_string()),
            Some("/v1beta1/namespaces/shop/pods/*/x") => {
                Reply::json(200, json!({"items": [item]}).to_string())
            }
            None if request.path().ends_with("/silent") => {
                Reply::json(200, json!({"items": []}).to_string())
            }
            None if request.path() == "/apis/external.metrics.k8s.io/v1beta1" => {
                Reply::json(200, json!({"resources": [{"name": "queue_depth"}]}).to_string())
            }
            None if request.path() == "/apis/external.metrics.k8s.io" => Reply::json(200, "{}"),
            _ => Reply::text(404, "text/plain", "404 page not found\n"),
        }
    });
    ask(&other.url(), &["pods/x"]).await.has(0, &["Pod/web-0", "Result 7", "/v1beta1/"]);
    ask(&other.url(), &["queue_dept"])
        .await
        .has(1, &["404 page not found", "did you mean \"queue_depth\"?"]);
    ask(&other.url(), &["silent"]).await.has(1, &["the answer has no items"]);
    // Neither kubeconfig nor pod.
    let home = setup.path("nowhere");
    let mut command = tidepole(&["query"], std::path::Path::new("depth"));
    command.env("HOME", home).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    run(command).await.has(
        1,
        &[
            "cannot read a kubeconfig ($KUBECONFIG or ~/.kube/config)",
            "--kubeconfig FILE",
            "-f FILE",
        ],
    );
}
