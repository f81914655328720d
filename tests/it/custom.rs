//! Metrics of objects by prometheus-adapter's rules: what HPAs refer to is fetched before it is read,
//! and HPAs that read one metric share its queries.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, DEPLOYMENTS, PODS, pods, trust};
use crate::support::server::{Setup, Tidepole};
use crate::support::tls::Authority;
use crate::support::upstream::{Gate, Reply, Request, Upstream};
use crate::support::wait::until;

const RULES: &str = r#"
rules:
- seriesQuery: 'requests{namespace!=""}'
  resources: { template: <<.Resource>> }
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

/// A Prometheus that has the series `requests` with the value 5 for every pod that is asked about by
/// name, and for `every` if a whole namespace is.
struct Upstreams {
    server: Upstream,
    asked: Arc<Mutex<Vec<String>>>,
    /// Holds back the answers to queries.
    gate: Gate,
}

fn upstream(every: &[(String, String)]) -> Upstreams {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let gate = Gate::default();
    let (seen, every, door) = (Arc::clone(&asked), every.to_vec(), gate.clone());
    let server = Upstream::start(move |request: &Request| {
        if request.path() == "/api/v1/series" {
            let data = json!([{"__name__": "requests", "namespace": "shop", "pod": "a"}]);
            return Reply::json(200, json!({"status": "success", "data": data}).to_string());
        }
        let query = request.parameter("query").expect("a query");
        let within = |begin: &str| {
            let (_, rest) = query.split_once(begin)?;
            rest.split_once('"').map(|(text, _)| text.to_owned())
        };
        let namespace = within("namespace=\"").expect("every query is about a namespace");
        let of_namespace =
            |(place, pod): &(String, String)| (*place == namespace).then(|| pod.clone());
        let names: Vec<String> = match within("pod=~\"").or_else(|| within("pod=\"")) {
            // The question about all.
            Some(names) if names == ".+" || names == ".*" => {
                every.iter().filter_map(of_namespace).collect()
            }
            Some(names) => names.split('|').map(str::to_owned).collect(),
            None => panic!("a query that is not about pods: {query}"),
        };
        seen.lock().expect("no holder panics").push(query);
        let now = jiff::Timestamp::now().as_millisecond() / 1000;
        let series: Vec<Value> =
            names.iter().map(|pod| json!({"metric": {"pod": pod}, "value": [now, "5"]})).collect();
        let data = json!({"resultType": "vector", "result": series});
        Reply::json(200, json!({"status": "success", "data": data}).to_string()).behind(&door)
    });
    Upstreams { server, asked, gate }
}

impl Upstreams {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }

    fn forget(&self) {
        self.asked.lock().expect("no holder panics").clear();
    }
}

struct World {
    cluster: ClusterApi,
    front_proxy: Authority,
}

fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS, DEPLOYMENTS]);
    World { cluster, front_proxy }
}

impl World {
    async fn start(&self, upstream: &Upstreams) -> Tidepole {
        let sources = format!(
            "  - {{ name: main, prometheus: {{ url: \"{}\" }} }}\n\
             rules: [{{ path: rules.yaml, source: main }}]",
            upstream.server.url()
        );
        let setup = Setup::new(&sources).cluster(&self.cluster);
        fs::write(setup.path("rules.yaml"), RULES).expect("the folder is ours");
        setup.start().await
    }

    /// A connection of the HPA controller.
    async fn controller(&self, server: &Tidepole) -> Controller {
        let pair = self.front_proxy.client("front-proxy-client", &[]);
        let connection = server.connect_as(&pair, Protocol::Http2).await;
        Controller(connection.expect("the aggregator is let in"))
    }
}

struct Controller(Connection);

impl Controller {
    /// Reads `requests` of the pods that a selector matches.
    async fn read(&mut self, namespace: &str, selector: &str) -> Answer {
        const HPA: (&str, &str) =
            ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");
        let selector =
            percent_encoding::utf8_percent_encode(selector, percent_encoding::NON_ALPHANUMERIC);
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/requests\
             ?labelSelector={selector}"
        );
        self.0.get(&path, &[HPA]).await.expect("the server answers")
    }
}

/// The names of the objects in an answer.
fn names(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.text()));
    let name = |item: &Value| item["describedObject"]["name"].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}

/// The value of one of our own metrics.
async fn own(server: &Tidepole, name: &str) -> String {
    let all = server.admin("/metrics").await;
    let line = all.text().lines().find(|line| line.starts_with(&format!("tidepole_{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name}: {}", all.text()));
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_metrics_are_there_before_their_first_read() {
    let (world, upstream) = (world(), upstream(&[]));
    for (pod, app) in [("web-1", "web"), ("web-2", "web"), ("mail-1", "mail"), ("late-1", "late")] {
        world.cluster.objects().put(&PODS, "shop", pod, &[("app", app), ("tier", "front")]);
    }
    // Written as the scale of a Deployment has it, and not in the order of the request.
    world.cluster.scales().put("shop", "web", "tier=front,app in (web)");
    world.cluster.hpas().put("shop", "web", &[pods("requests")]);
    world.cluster.hpas().put("shop", "unscaled", &[pods("requests")]);
    upstream.gate.shut();
    let server = world.start(&upstream).await;
    until(
        "a query",
        async || {
            if upstream.asked().is_empty() { Err("none".to_owned()) } else { Ok(()) }
        },
    )
    .await;
    assert_eq!(server.admin("/readyz").await.status, 500, "ready before the first answer");
    upstream.gate.open();
    server.ready().await;
    let mut controller = world.controller(&server).await;
    // A read that needs an answer of the upstream fails now.
    upstream.gate.shut();
    let answer = controller.read("shop", "app in (web),tier=front").await;
    assert_eq!(names(&answer), ["web-1", "web-2"], "{}", answer.text());
    upstream.gate.open();
    let one = "sum(requests{namespace=\"shop\",pod=~\"web-1|web-2\"}) by (pod)";
    assert_eq!(upstream.asked().iter().collect::<BTreeSet<_>>(), [&one.to_owned()].into());

    // A workload that is new.
    world.cluster.scales().put("shop", "late", "app=late");
    world.cluster.hpas().put("shop", "late", &[pods("requests")]);
    until("the new workload's metric", async || {
        let asked = upstream.asked();
        let wide = asked.iter().any(|query| !query.contains("web-1"));
        if wide { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
    assert_eq!(own(&server, "scale_targets").await, "3");
    assert_eq!(own(&server, "scale_failures_total").await, "0", "no scale is no failure");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_to_read_scales_the_first_read_waits() {
    let (world, upstream) = (world(), upstream(&[]));
    world.cluster.objects().put(&PODS, "shop", "web-1", &[("app", "web")]);
    world.cluster.scales().put("shop", "web", "app=web");
    world.cluster.scales().refuse(true);
    world.cluster.hpas().put("shop", "web", &[pods("requests")]);
    let server = world.start(&upstream).await;
    server.ready().await;
    let mut controller = world.controller(&server).await;
    assert_eq!(upstream.asked(), [""; 0], "nobody knows yet which pods are meant");
    let answer = controller.read("shop", "app=web").await;
    assert_eq!(names(&answer), ["web-1"], "{}", answer.text());
    assert_ne!(upstream.asked(), [""; 0]);
    assert_eq!(own(&server, "scale_failures_total").await, "1");
    assert_eq!(world.cluster.scales().asked(), 1, "it is not asked for again and again");
    server.stop().await;
}

/// A thousand HPAs over two hundred Deployments in five namespaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hpas_that_read_one_metric_share_its_queries() {
    const NAMESPACES: usize = 5;
    const WORKLOADS: usize = 40;
    const HPAS: usize = 5;
    let world = world();
    let mut every = Vec::new();
    for namespace in (0..NAMESPACES).map(|number| format!("team-{number}")) {
        for app in (0..WORKLOADS).map(|number| format!("app-{number}")) {
            for pod in ["a", "b"].map(|end| format!("{app}-{end}")) {
                world.cluster.objects().put(&PODS, &namespace, &pod, &[("app", &app)]);
                every.push((namespace.clone(), pod));
            }
            world.cluster.scales().put(&namespace, &app, &format!("app={app}"));
            for hpa in (0..HPAS).map(|number| format!("{app}-{number}")) {
                world.cluster.hpas().put_over(&namespace, &hpa, &app, &[pods("requests")]);
            }
        }
    }
    let upstream = upstream(&every);
    let server = world.start(&upstream).await;
    server.ready().await;
    assert_eq!(world.cluster.scales().asked(), 200, "one call for each target");

    let mut controller = world.controller(&server).await;
    for namespace in (0..NAMESPACES).map(|number| format!("team-{number}")) {
        for app in (0..WORKLOADS).map(|number| format!("app-{number}")) {
            let answer = controller.read(&namespace, &format!("app={app}")).await;
            assert_eq!(
                names(&answer),
                [format!("{app}-a"), format!("{app}-b")],
                "{}",
                answer.text()
            );
        }
    }
    upstream.forget();
    // The refresh interval of the test's config is a second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let asked = upstream.asked();
    let mut shown = String::new();
    let different: BTreeSet<&String> = asked.iter().collect();
    write!(shown, "{} different queries, {} in 4 s", different.len(), asked.len())
        .expect("writing to a String cannot fail");
    println!("measured: 1,000 HPAs over 200 Deployments: {shown}");
    // One for each namespace, and the one that was asked before there was a crowd.
    assert!(different.len() <= 2 * NAMESPACES, "{shown}: {different:#?}");
    assert!(asked.len() <= 5 * 2 * NAMESPACES, "{shown}");
    server.stop().await;
}
