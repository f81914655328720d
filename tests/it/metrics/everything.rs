//! A server with every part on, and one with almost none.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::support::cluster_api::{ClusterApi, DEPLOYMENTS, PODS, external, pods, trust};
use crate::support::openmetrics::{Family, parse};
use crate::support::process::Process;
use crate::support::server::{AdminDoor, Setup, metric, path_of};
use crate::support::tls::Authority;
use crate::support::upstream::{CloudWatch, Prometheus, Queue, Reply, Request, Sqs, Upstream};
use crate::support::wait::until;

/// Families by name.
pub(super) type Families = BTreeMap<String, Family>;

const RULES: &str = r#"
rules:
- seriesQuery: 'requests{namespace!=""}'
  resources: { template: <<.Resource>> }
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

const OF_OBJECTS: &str = "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterCustomMetric\n\
                          metadata: { name: busy }\nspec: { resource: pods, \
                          prometheus: { query: 'sum by (pod) (busy{namespace=\"$namespace\",$objects})' } }\n";

const HPA: (&str, &str) =
    ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");

/// What a server with a cluster, rules and sources of all kinds tells once each was used.
pub(super) async fn everything() -> Families {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS, DEPLOYMENTS]);
    cluster.objects().put(&PODS, "default", "web-1", &[("app", "web")]);
    cluster.scales().put("default", "web", "app=web");
    cluster.hpas().put("default", "web", &[external("jobs"), pods("requests")]);

    let upstream = Prometheus::start();
    upstream.vector("jobs", &[("", "5")]);
    upstream.vector(
        r#"sum(requests{namespace="default",pod=~"web-1"}) by (pod)"#,
        &[(r#""pod":"web-1""#, "7")],
    );
    let series = json!([{"__name__": "requests", "namespace": "default", "pod": "web-1"}]);
    let listed = json!({"status": "success", "data": series}).to_string();
    upstream.series("requests{namespace!=\"\"}", Reply::json(200, listed));
    let cloudwatch = CloudWatch::start();
    cloudwatch.generate_all(|_, _| Some(3.0));
    cloudwatch.dated();
    let sqs = Sqs::start();
    sqs.queue("jobs", Queue { visible: 100, in_flight: 20, delayed: 3 });

    let collector = Upstream::start(|_: &Request| Reply::text(200, "application/x-protobuf", ""));

    let sources = format!(
        "  - {{ name: main, prometheus: {{ url: \"{}\" }} }}\n  \
           - {{ name: aws, aws: {{ region: eu-west-1, sqsEndpointUrl: \"{}\", cloudwatchEndpointUrl: \"{}\" }} }}\n  \
           - {{ name: sim, simulated: {{}} }}\n\
         rules: [{{ path: rules.yaml, source: main }}]\n\
         telemetry: {{ traces: {{ endpoint: \"{}\" }} }}",
        upstream.server().url(),
        sqs.server().url(),
        cloudwatch.url(),
        collector.url(),
    );
    let load = "cloudwatch: { metric: { namespace: App, name: Load, statistic: Sum, period: 1m } }";
    let setup = Setup::new(&sources)
        .cluster(&cluster)
        .with("jobs.yaml", &metric("jobs", "source: main, prometheus: { query: jobs }"))
        .with("none.yaml", &metric("none", "source: main, prometheus: { query: none }"))
        .with("load.yaml", &metric("load", &format!("{load}, keepWarm: true")))
        .with("depth.yaml", &metric("depth", "sqs: { queues: [jobs] }, keepWarm: true"))
        .with("one.yaml", &metric("one", "simulated: { constant: 1 }, keepWarm: true"))
        .with("busy.yaml", OF_OBJECTS);
    fs::write(setup.path("rules.yaml"), RULES).expect("the folder is ours");
    let process = Process::start(setup);
    process.door.ready().await;

    let mut aggregator = process.connect_as(&front_proxy.client("front-proxy-client", &[])).await;
    for (path, status) in [
        (path_of("default", "jobs"), 200),
        (path_of("default", "none"), 503),
        (path_of("default", "load"), 200),
        (path_of("default", "depth"), 200),
        (path_of("default", "nobody-knows"), 404),
        (
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/requests?labelSelector=app%3Dweb".to_owned(),
            200,
        ),
    ] {
        until(&path, async || {
            let answer = aggregator.get(&path, &[HPA]).await.expect("an answer");
            if answer.status == status { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
    }
    // What the refresher says of upstreams it says once a second.
    until("a sample of every family", async || {
        let families = scrape(process.door).await;
        let empty: Vec<_> = families.iter().filter(|(_, f)| f.samples.is_empty()).collect();
        if empty.is_empty() { Ok(families) } else { Err(format!("{empty:?}")) }
    })
    .await
}

/// What a server with one simulated metric tells, without a cluster, before anybody has read.
pub(super) async fn almost_nothing() -> Families {
    let setup = Setup::new("  - { name: sim, simulated: {} }")
        .with("one.yaml", &metric("one", "simulated: { constant: 1 }, keepWarm: true"));
    let server = setup.start().await;
    server.ready().await;
    let families = scrape(server.door()).await;
    server.stop().await;
    families
}

async fn scrape(door: AdminDoor) -> Families {
    parse(door.get("/metrics").await.text()).expect("valid OpenMetrics")
}
