//! README's examples, as they are printed there: each is loaded by a real server, whose sources are
//! pointed at fakes and are otherwise README's, and read as the printed HPA reads it. What the fakes
//! were asked is what README says is asked. Commands are run, and must say what README shows.

mod printed;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Ready, ready};
use serde_json::Value;

use crate::custom_metrics::{Controller, INGRESSES, items};
use crate::support::cluster_api::{ClusterApi, PODS, trust};
use crate::support::process::Process;
use crate::support::server::{Setup, path_of, status, values};
use crate::support::tls::Authority;
use crate::support::upstream::cloudwatch::{CloudWatch, Metric, MetricDataQuery};
use crate::support::upstream::sigv4::{Identity, verify};
use crate::support::upstream::{KeyRing, Prometheus, Queue, Reply, Request, Sqs, Sts};
use printed::{Hpa, Readme, Section};

/// The key that processes under test get in their environment.
const BASE_KEY: &str = "test";
const BASE_USER: &str = "arn:aws:iam::111122223333:user/test";

const REGION: &str = "eu-west-1";
const READER: &str = "arn:aws:iam::444455556666:role/metrics-reader";
const EXTERNAL_ID: &str = "an-external-id";

/// Loads the examples of one section, and looks at what they do.
type Check = for<'a> fn(&'a Readme) -> LocalBoxFuture<'a, ()>;

/// The sections with examples, in README's order, and what loads them.
const EXAMPLES: [(&str, Check); 11] = [
    ("Install on a cluster", |readme| install(readme).boxed_local()),
    ("Prometheus", |readme| prometheus(readme).boxed_local()),
    ("Metrics of pods and other objects", |readme| objects(readme).boxed_local()),
    ("Amazon CloudWatch", |readme| cloudwatch(readme).boxed_local()),
    ("Amazon SQS", |readme| sqs(readme).boxed_local()),
    ("A queue of another account", |readme| another_account(readme).boxed_local()),
    ("Amazon Managed Prometheus", |readme| managed_prometheus(readme).boxed_local()),
    ("What AWS charges", |readme| charges(readme).boxed_local()),
    ("Simulated", |readme| simulated(readme).boxed_local()),
    ("Rules of prometheus-adapter", |readme| ruled(readme).boxed_local()),
    ("Where a number comes from", |readme| where_from(readme).boxed_local()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_does_what_readme_says() {
    let readme = Readme::new(include_str!("../../README.md"));
    let loaded: Vec<_> = EXAMPLES.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(readme.headings(), loaded, "a section with an example that nothing loads");
    futures::future::join_all(EXAMPLES.iter().map(|(_, check)| check(&readme))).await;
    let idle = readme.unused();
    assert!(idle.is_empty(), "examples that nothing loads: {idle:#?}");
}

/// The upstreams of one section, and its server's files.
struct Bench {
    ring: KeyRing,
    sts: Sts,
    sqs: Sqs,
    cloudwatch: CloudWatch,
    /// By the name of the source.
    prometheus: BTreeMap<String, Prometheus>,
}

impl Bench {
    /// Fakes that take no call without a valid signature, and a server's files: these sources, but
    /// pointed at the fakes, and these definitions.
    fn new(sources: &Value, definitions: &[(String, String)]) -> (Self, Setup) {
        let ring = KeyRing::with_user(BASE_KEY, BASE_KEY);
        let (sts, sqs, cloudwatch) = (Sts::start(&ring), Sqs::start(), CloudWatch::start());
        sqs.check_signatures(&ring);
        cloudwatch.check_signatures(&ring);
        let mut bench = Self { ring, sts, sqs, cloudwatch, prometheus: BTreeMap::new() };
        let mut setup = Setup::new("");
        let mut sources = sources.clone();
        for source in sources.as_array_mut().expect("sources are a list") {
            bench.point(source, &setup);
        }
        setup = setup.sources(&format!("  {sources}")).defaults("{ firstReadTimeout: 15s }");
        for (name, text) in definitions {
            setup.define(&format!("{name}.yaml"), text);
        }
        (bench, setup)
    }

    /// All that is changed of a source: addresses, and where secrets are.
    fn point(&mut self, source: &mut Value, setup: &Setup) {
        let name = source["name"].as_str().expect("a source has a name").to_owned();
        if let Some(aws) = source.get_mut("aws") {
            for (field, url) in [
                ("cloudwatchEndpointUrl", self.cloudwatch.url()),
                ("sqsEndpointUrl", self.sqs.server().url()),
                ("stsEndpointUrl", self.sts.url()),
            ] {
                let aws = aws.as_object_mut().expect("settings are a mapping");
                let before = aws.insert(field.to_owned(), url.into());
                assert_eq!(before, None, "README points at no endpoint of its own");
            }
            relocate(aws, "externalIdFile", setup, EXTERNAL_ID);
        }
        if let Some(settings) = source.get_mut("prometheus") {
            let fake = Prometheus::start();
            let url = settings["url"].as_str().and_then(|url| url::Url::parse(url).ok());
            let url = url.expect("README has URLs");
            let prefix = url.path().trim_end_matches('/');
            fake.prefix(prefix);
            if let Some(sigv4) = settings.get("sigV4") {
                let service = sigv4["service"].as_str().unwrap_or("aps");
                let action = match service {
                    "aps" => "aps:QueryMetrics",
                    _ => "cloudwatch:GetMetricData",
                };
                fake.check_signatures(&self.ring, service, REGION, action);
            }
            settings["url"] = format!("{}{prefix}", fake.server().url()).into();
            relocate(settings, "bearerTokenFile", setup, "a-token");
            self.prometheus.insert(name, fake);
        }
    }

    /// Who signed a request for a service.
    fn signer(&self, request: &Request, service: &str) -> Identity {
        let who = verify(request, &self.ring, service, Some(REGION), self.ring.now());
        who.unwrap_or_else(|rejection| panic!("{rejection:?}"))
    }
}

/// Puts a secret into the folder of the test, in place of the one that README names.
fn relocate(settings: &mut Value, field: &str, setup: &Setup, content: &str) {
    let Some(path) = settings.get_mut(field) else { return };
    let name = path.as_str().and_then(|path| path.strip_prefix("/secrets/"));
    let here: PathBuf = setup.path(name.expect("README keeps secrets in one folder"));
    fs::write(&here, content).expect("the folder is ours");
    *path = here.to_str().expect("a path of ours is text").into();
}

/// `tidepole check` finds nothing wrong with these, word for word.
fn check(sources: &Value, definitions: &[(String, String)]) {
    let setup = Setup::new(&format!("  {sources}"));
    for (name, text) in definitions {
        setup.define(&format!("{name}.yaml"), text);
    }
    setup.config();
    assert_eq!(printed::run(&setup, &["check", "config.yaml"]), (Some(0), String::new()));
}

/// A running server with all of a section's sources and definitions.
fn start(section: &Section<'_>) -> (Bench, Process) {
    check(&section.sources(), &section.definitions());
    let (bench, setup) = Bench::new(&section.sources(), &section.definitions());
    (bench, Process::start(setup))
}

/// The values that a controller would read for the only external metric of an HPA.
async fn read(process: &Process, hpa: &Hpa) -> Vec<String> {
    read_as(process, &hpa.namespace, &hpa.metric, &hpa.selector).await
}

async fn read_as(process: &Process, namespace: &str, metric: &str, selector: &str) -> Vec<String> {
    let selector: String = url::form_urlencoded::byte_serialize(selector.as_bytes()).collect();
    let path = format!("{}?labelSelector={selector}", path_of(namespace, metric));
    let answer = process.reader().await.get(&path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    values(&answer)
}

/// The definition that goes into the manifests, and their server config.
async fn install(readme: &Readme) {
    let section = readme.section("Install on a cluster");
    let map: Value = serde_saphyr::from_str(include_str!("../../deploy/manifests/config.yaml"))
        .expect("the manifest is YAML");
    let config: Value =
        serde_saphyr::from_str(map["data"]["config.yaml"].as_str().unwrap_or_default())
            .expect("the config in it is YAML");
    check(&config["sources"], &section.definitions());
    let (bench, setup) = Bench::new(&config["sources"], &section.definitions());
    let fake = &bench.prometheus["prometheus"];
    let series = [(r#""queue":"orders""#, "40"), (r#""queue":"returns""#, "7")];
    fake.vector(r#"sum by (queue) (orders_waiting{namespace="default"})"#, &series);
    let process = Process::start(setup);
    let [worker] = &section.hpas()[..] else { panic!("one HPA") };
    assert_eq!(read(&process, worker).await, ["40"]);
    assert_eq!(read_as(&process, "default", "orders_waiting", "").await, ["40", "7"]);
}

async fn prometheus(readme: &Readme) {
    let (bench, process) = start(&readme.section("Prometheus"));
    let fake = &bench.prometheus["main"];
    let query = r#"sum by (queue) (rabbitmq_queue_messages_ready{namespace="shop"})"#;
    fake.vector(query, &[(r#""queue":"mail""#, "12"), (r#""queue":"orders""#, "30")]);
    let read = read_as(&process, "shop", "rabbitmq_messages_ready", "queue=mail").await;
    assert_eq!(read, ["12"]);
    assert_eq!(fake.server().last().header("authorization"), Some("Bearer a-token"));
}

/// Both kinds of HPA, with the source of the section before.
async fn objects(readme: &Readme) {
    let section = readme.section("Metrics of pods and other objects");
    let (sources, definitions) = (readme.section("Prometheus").sources(), section.definitions());
    check(&sources, &definitions);
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS, INGRESSES]);
    for pod in ["web-0", "web-1", "web-2"] {
        cluster.objects().put(&PODS, "shop", pod, &[("app", "web")]);
    }
    let (bench, setup) = Bench::new(&sources, &definitions);
    let fake = &bench.prometheus["main"];
    let pods = r#"sum by (pod) (rate(http_requests_total{namespace="shop",pod=~"web-0|web-1|web-2"}[2m]))"#;
    fake.vector(pods, &[(r#""pod":"web-0""#, "80"), (r#""pod":"web-2""#, "90.5")]);
    let ingresses = r#"sum by (ingress) (rate(nginx_ingress_controller_requests{exported_namespace="shop"}[2m]))"#;
    fake.vector(ingresses, &[(r#""ingress":"blog""#, "1"), (r#""ingress":"main""#, "600")]);
    let server = setup.cluster(&cluster).start().await;
    server.ready().await;
    let identity = front_proxy.client("front-proxy-client", &[]);
    let mut controller = Controller::of(&server, &identity).await;
    let [of_pods, of_ingress] = &section.object_hpas()[..] else { panic!("two HPAs") };
    let selected = controller.get(&format!("{of_pods}?labelSelector=app%3Dweb")).await;
    assert_eq!(items(&selected), ["Pod web-0 80", "Pod web-2 90500m"]);
    assert_eq!(items(&controller.get(of_ingress).await), ["Ingress main 600"]);
    server.stop().await;
}

/// A metric of the balancer of the examples.
fn elb(name: &str) -> Metric {
    Metric::new("AWS/ApplicationELB", name).dim("LoadBalancer", "app/web/0123456789abcdef")
}

/// The balancer's metrics, and ages of two queues.
fn balancer(fake: &CloudWatch) {
    // Every other statistic is another number.
    let slow = |statistic: &str| if statistic == "p99" { 0.402 } else { 0.1 };
    fake.generate(&elb("TargetResponseTime"), move |asked, _| Some(slow(asked.statistic)));
    fake.generate(&elb("HTTPCode_Target_5XX_Count"), |_, _| None);
    fake.generate(&elb("RequestCount"), |_, _| Some(200.0));
    for (queue, age) in [("orders", 90.0), ("mails", 7.0)] {
        let metric = Metric::new("AWS/SQS", "ApproximateAgeOfOldestMessage");
        fake.generate(&metric.dim("QueueName", queue), move |_, _| Some(age));
    }
}

async fn cloudwatch(readme: &Readme) {
    let section = readme.section("Amazon CloudWatch");
    let (bench, process) = start(&section);
    let fake = &bench.cloudwatch;
    balancer(fake);
    let [web] = &section.hpas()[..] else { panic!("one HPA") };
    assert_eq!((&*web.namespace, &*web.metric), ("shop", "web_latency_p99_seconds"));
    assert_eq!(read(&process, web).await, ["402m"]);

    let call = fake.last();
    let [query] = &call.queries[..] else { panic!("{call:?}") };
    let stat = query.metric_stat.as_ref().expect("it is a metric");
    assert_eq!(
        (&*stat.metric.namespace, query.metric_name()),
        ("AWS/ApplicationELB", "TargetResponseTime")
    );
    let dimensions: Vec<_> = stat.metric.dimensions.iter().flatten().collect();
    let [dimension] = &dimensions[..] else { panic!("{dimensions:?}") };
    assert_eq!((&*dimension.name, &*dimension.value), ("LoadBalancer", "app/web/0123456789abcdef"));
    assert_eq!((&*stat.stat, stat.period, &stat.unit), ("p99", 60, &None));
    // Who and where; the signature was checked.
    assert_eq!((&*call.access_key, &*call.region), (BASE_KEY, REGION));
    // Whole minutes, of which the last ended `delay` ago, and five of them.
    assert_eq!((call.end % 60, call.end - call.start), (0, 5 * 60));
    // A second may pass on the way.
    assert!((60..=121).contains(&(call.at - call.end)), "{call:?}");

    // No errors were counted.
    assert_eq!(read_as(&process, "shop", "web_error_percent", "").await, ["0"]);
    fake.generate(&elb("HTTPCode_Target_5XX_Count"), |_, _| Some(3.0));
    let seen = where_it_comes_from(&process, "web-errors");
    assert_eq!(seen["result"]["value"], "1500m", "{seen}");

    let orders = read_as(&process, "any", "queue_oldest_message_seconds", "QueueName=orders");
    assert_eq!(orders.await, ["90"]);
    let calls = fake.calls();
    let selects = |query: &&MetricDataQuery| {
        query.expression.as_deref().is_some_and(|text| text.starts_with("SELECT MAX("))
    };
    let query = calls.iter().flat_map(|call| call.queries.iter()).find(selects);
    assert_eq!(query.map(|query| query.period), Some(Some(60)), "{calls:?}");

    // What is not there is said, with where to look.
    fake.delete(&elb("TargetResponseTime"));
    let seen = where_it_comes_from(&process, "web-latency");
    let said = seen["result"]["error"].as_str().unwrap_or_default();
    assert!(
        said.contains("no datapoint of p99 of AWS/ApplicationELB TargetResponseTime"),
        "{seen}"
    );
}

/// `tidepole query -o json` beside a running server.
fn where_it_comes_from(process: &Process, name: &str) -> Value {
    let (_, out) =
        printed::run(&process.setup, &["query", "--config", "config.yaml", name, "-o", "json"]);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

async fn sqs(readme: &Readme) {
    let (bench, process) = start(&readme.section("Amazon SQS"));
    bench.sqs.queue("jobs", Queue { visible: 5, in_flight: 2, delayed: 100 });
    bench.sqs.queue("jobs-priority.fifo", Queue { visible: 1, ..Queue::default() });
    assert_eq!(read_as(&process, "default", "jobs_depth", "queue=jobs").await, ["8"]);
    let seen = bench.sqs.server().seen();
    assert!(seen.iter().all(|request| bench.signer(request, "sqs").access_key == BASE_KEY));
    assert!(bench.sts.calls().is_empty());
}

async fn another_account(readme: &Readme) {
    let section = readme.section("A queue of another account");
    let (bench, process) = start(&section);
    bench.sqs.queue("invoices", Queue { visible: 30, in_flight: 4, delayed: 0 });
    // Only the role may read the queue, and only who says the external id may have the role.
    for action in ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"] {
        bench.ring.deny(BASE_USER, action);
    }
    bench.sts.role_with_external_id(READER, EXTERNAL_ID);
    assert_eq!(read_as(&process, "default", "invoices_depth", "").await, ["34"]);

    let [call] = &bench.sts.calls()[..] else { panic!("{:?}", bench.sts.calls()) };
    assert_eq!(call.action, "AssumeRole");
    assert_eq!(
        (call.role.as_deref(), call.session.as_deref()),
        (Some(READER), Some("tidepole-aws"))
    );
    assert_eq!((&*call.access_key, &*call.region), (BASE_KEY, REGION));
    let [url, depth, ..] = &bench.sqs.server().seen()[..] else { panic!("two calls") };
    let asked: Value = serde_json::from_slice(&url.body).expect("the SDK sends JSON");
    assert_eq!(asked["QueueName"], "invoices");
    assert_eq!(asked["QueueOwnerAWSAccountId"], "444455556666");
    for request in [url, depth] {
        assert_eq!(bench.signer(request, "sqs").role.as_deref(), Some(READER));
    }

    // A role that the source does not allow is no question of AWS.
    let (_, text) = &section.definitions()[0];
    let name = "invoices-refused";
    let elsewhere =
        text.replace("role/metrics-reader", "role/administrator").replace("invoices", name);
    process.setup.define(&format!("{name}.yaml"), &elsewhere);
    let (code, said) = printed::run(&process.setup, &["check", "config.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("does not allow the role arn:aws:iam::444455556666:role/administrator"),
        "{said}"
    );
    assert_eq!(bench.sts.calls().len(), 1);
}

async fn managed_prometheus(readme: &Readme) {
    let section = readme.section("Amazon Managed Prometheus");
    let mut definitions = section.definitions();
    check(&section.sources(), &definitions);
    let (_, text) = &definitions[0];
    // The other source answers the same.
    let other =
        text.replace("source: amp", "source: cloudwatch-promql").replace("http-requests", "other");
    definitions.push(("other".to_owned(), other.replace("http_requests_per_second", "other")));
    let (bench, setup) = Bench::new(&section.sources(), &definitions);
    let query = r#"sum by (service) (rate(http_requests_total{namespace="shop"}[2m]))"#;
    for (fake, value) in [("amp", "12.5"), ("cloudwatch-promql", "13")] {
        bench.prometheus[fake].vector(query, &[(r#""service":"web""#, value)]);
    }
    let process = Process::start(setup);
    for (source, service, prefix, metric, value) in [
        ("amp", "aps", "/workspaces/ws-0a1b2c3d", "http_requests_per_second", "12500m"),
        ("cloudwatch-promql", "monitoring", "", "other", "13"),
    ] {
        assert_eq!(read_as(&process, "shop", metric, "service=web").await, [value]);
        let request = bench.prometheus[source].server().last();
        assert_eq!(request.path(), format!("{prefix}/api/v1/query"));
        assert_eq!(request.parameter("query").as_deref(), Some(query));
        assert_eq!(bench.signer(&request, service).access_key, BASE_KEY);
    }
    bench.ring.deny(BASE_USER, "aps:QueryMetrics");
    let answer = process.reader().await.get(&path_of("more", "http_requests_per_second")).await;
    let said = status(&answer, 503, "ServiceUnavailable");
    assert!(said.contains("the source's own identity needs aps:QueryMetrics"), "{said}");
}

/// What is asked for costs what README shows, and the ceiling refuses what README shows.
fn charges(readme: &Readme) -> Ready<()> {
    let section = readme.section("What AWS charges");
    let cloudwatch = readme.section("Amazon CloudWatch");
    let account = readme.section("A queue of another account");
    let mut all = cloudwatch.definitions();
    all.extend(readme.section("Amazon SQS").definitions());
    all.extend(account.definitions());
    let (_bench, setup) = Bench::new(&account.sources(), &all);
    let [estimate, refusal] = &section.commands()[..] else { panic!("two commands") };
    estimate.run(&setup);
    let (_bench, setup) = Bench::new(&section.sources(), &cloudwatch.definitions());
    refusal.run(&setup);
    ready(())
}

async fn simulated(readme: &Readme) {
    let (_bench, process) = start(&readme.section("Simulated"));
    let read = read_as(&process, "default", "wave", "").await;
    let [value] = &read[..] else { panic!("{read:?}") };
    let (digits, unit) = value.strip_suffix('m').map_or((&**value, 1.0), |milli| (milli, 0.001));
    let value = digits.parse::<f64>().expect("a quantity") * unit;
    assert!((0.0..=100.0).contains(&value), "{read:?}");
}

fn ruled(readme: &Readme) -> Ready<()> {
    let section = readme.section("Rules of prometheus-adapter");
    let sources = serde_json::json!([
        { "name": "prometheus", "prometheus": { "url": "http://prometheus:9090" } }
    ]);
    let (bench, setup) = Bench::new(&sources, &[]);
    let [rules] = section.rule_files()[..] else { panic!("one rules file") };
    fs::write(setup.path("rules.yaml"), rules).expect("the folder is ours");
    let [(metric, namespace)] = &section.pods_hpas()[..] else { panic!("one HPA") };
    assert_eq!((&**metric, &**namespace), ("http_requests_per_second", "shop"));
    let fake = &bench.prometheus["prometheus"];
    let list = r#"{"status":"success","data":[{"__name__":"http_requests_total","namespace":"shop","pod":"web-0"}]}"#;
    let found = Reply::json(200, list.to_owned());
    fake.series(r#"http_requests_total{namespace!="",pod!=""}"#, found);
    let query =
        r#"sum(rate(http_requests_total{namespace="shop",pod=~"web-0|web-1"}[2m])) by (pod)"#;
    fake.vector(query, &[(r#""pod":"web-0""#, "11.98"), (r#""pod":"web-1""#, "30.02")]);
    let [shown] = &section.commands()[..] else { panic!("one command") };
    shown.run(&setup);
    ready(())
}

fn where_from(readme: &Readme) -> Ready<()> {
    let cloudwatch = readme.section("Amazon CloudWatch");
    let (bench, setup) = Bench::new(&cloudwatch.sources(), &cloudwatch.definitions());
    balancer(&bench.cloudwatch);
    let [query] = &readme.section("Where a number comes from").commands()[..] else {
        panic!("one command")
    };
    query.run(&setup);
    ready(())
}
