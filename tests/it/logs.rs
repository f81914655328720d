//! What the log says about failed reads.

use serde_json::Value;

use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::process::Process;
use crate::support::server::{Setup, metric, path_of, status};
use crate::support::tls::Authority;
use crate::support::upstream::Prometheus;

const USER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// What must never be in a log.
const CANARY: &str = "canary-4f1d";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_read_is_one_line_with_the_api_servers_id() {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.allow_if(|spec| spec["resourceAttributes"]["resource"] != "forbidden");
    let upstream = Prometheus::start();
    upstream.vector("works", &[("", "5")]);
    upstream.error("broken", 500, "internal", "broken disk");
    let url = upstream.server().url();
    let setup = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .cluster(&cluster)
        .with("works.yaml", &metric("works", "prometheus: { query: works }"))
        .with("broken.yaml", &metric("broken", "prometheus: { query: broken }"));
    let process = Process::start(setup);
    process.door.ready().await;
    let mut aggregator = process.connect_as(&front_proxy.client("front-proxy-client", &[])).await;
    let mut read = async |metric: &str, id: &str| {
        let headers = [
            ("X-Remote-User", USER),
            ("X-Remote-Extra-Token", CANARY),
            ("Authorization", CANARY),
            ("Audit-ID", id),
        ];
        let path = format!("{}?labelSelector=a%3Db", path_of("default", metric));
        let answer = aggregator.get(&path, &headers).await.expect("an answer");
        assert_eq!(answer.header("audit-id"), id);
        answer
    };
    for number in 0..5 {
        let answer = read("broken", &format!("broken-{number}")).await;
        assert!(status(&answer, 503, "ServiceUnavailable").contains("broken disk"));
    }
    read("nobody-knows", "unknown-1").await;
    read("forbidden", "forbidden-1").await;
    process.signal("TERM");
    let (code, log) = process.end().await;
    assert_eq!(code.code(), Some(0), "{log}");
    assert!(!log.contains(CANARY), "{log}");

    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is a JSON object"))
        .filter(|line: &Value| line["message"] == "a read failed")
        .collect();
    let ids: Vec<_> = lines.iter().map(|line| &line["request_id"]).collect();
    assert_eq!(ids, ["broken-0", "unknown-1", "forbidden-1"], "{log}");
    let told =
        |line: &Value| (line["metric"].clone(), line["code"].clone(), line["reason"].clone());
    assert_eq!(told(&lines[0]), ("broken".into(), 503.into(), "ServiceUnavailable".into()));
    assert_eq!(told(&lines[1]), ("nobody-knows".into(), 404.into(), "NotFound".into()));
    assert_eq!(told(&lines[2]), ("forbidden".into(), 403.into(), "Forbidden".into()));
    for line in &lines {
        assert_eq!((&line["user"], &line["level"]), (&USER.into(), &"WARN".into()), "{line}");
        assert_eq!(line["group"], "external.metrics.k8s.io", "{line}");
        assert_eq!((&line["namespace"], &line["suppressed"]), (&"default".into(), &0.into()));
    }
    assert!(lines[0]["cause"].as_str().is_some_and(|cause| cause.contains("broken disk")));
}
