//! Metric resources are served while they are there, whatever the API server does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::{Connection, Protocol};
use crate::support::cluster_api::{
    CLUSTER_EXTERNAL_METRICS, CUSTOM_METRICS, ClusterApi, EXTERNAL_METRICS, ORIGINAL_METRICS,
    external, trust,
};
use crate::support::openmetrics;
use crate::support::process::Process;
use crate::support::server::{Setup, Tidepole, metric, path_of, status, values};
use crate::support::tls::Authority;
use crate::support::upstream::{Prometheus, Sqs};
use crate::support::wait::until;

/// A cluster, and what a server that is part of it needs.
struct World {
    cluster: ClusterApi,
    front_proxy: Authority,
}

fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    World { cluster, front_proxy }
}

impl World {
    fn setup(&self) -> Setup {
        Setup::new("  - { name: sim, simulated: {} }").cluster(&self.cluster)
    }

    async fn reader(&self, server: &Tidepole) -> Reader {
        let pair = self.front_proxy.client("front-proxy-client", &[]);
        let connection = server.connect_as(&pair, Protocol::Http2).await;
        Reader(connection.expect("the aggregator is let in"))
    }
}

/// The aggregator, for somebody.
struct Reader(Connection);

impl Reader {
    /// The value of a metric of `default`, or what is said in its place.
    async fn read(&mut self, metric: &str) -> Result<String, String> {
        let path = path_of("default", metric);
        let answer = self.0.get(&path, &[("X-Remote-User", "somebody")]).await;
        let answer = answer.expect("the server answers");
        if answer.status == 200 {
            return Ok(values(&answer).join(","));
        }
        Err(format!("{}: {}", answer.status, answer.json()["message"]))
    }

    /// Reads until the value is this one; how long that took.
    async fn until(&mut self, metric: &str, wanted: &str) -> Duration {
        let begin = Instant::now();
        until(metric, async || {
            let found = self.read(metric).await;
            if found.as_deref() == Ok(wanted) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        begin.elapsed()
    }

    /// Reads until the metric is not there any more.
    async fn until_gone(&mut self, metric: &str) {
        until(metric, async || match self.read(metric).await {
            Err(message) if message.starts_with("404") => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    }
}

fn constant(value: i64) -> Value {
    json!({"simulated": {"constant": value}})
}

/// What the status page lists as wrong.
async fn problems(server: &Tidepole) -> Vec<String> {
    let all = server.admin("/api/metrics").await.json();
    let problems = all["problems"].as_array().expect("a list").clone();
    problems.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_are_served_as_they_come_change_and_go() {
    let world = world();
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS, CLUSTER_EXTERNAL_METRICS, CUSTOM_METRICS]);
    // More than a page, and one that an HPA refers to.
    for number in 0..450 {
        resources.make(&EXTERNAL_METRICS, &format!("team/m{number}"), &constant(number));
    }
    resources.make(&EXTERNAL_METRICS, "default/first", &constant(1));
    world.cluster.hpas().put("default", "first", &[external("first")]);
    let server = world.setup().with("own.yaml", &metric("own", "simulated: { constant: 7 }"));
    let server = server.start().await;
    server.ready().await;
    let ready = server.admin("/readyz?verbose").await;
    assert!(ready.text().contains("[+]metric-resources ok"), "{}", ready.text());
    assert_eq!(resources.lists(&EXTERNAL_METRICS), 1);
    let row = server.row("first").await;
    assert_eq!((&row["hpas"], &row["state"]), (&1.into(), &"fresh".into()), "{row}");
    let mut reader = world.reader(&server).await;
    assert_eq!(reader.read("first").await.as_deref(), Ok("1"));

    let mut slowest = Duration::ZERO;
    resources.make(&EXTERNAL_METRICS, "default/second", &constant(2));
    slowest = slowest.max(reader.until("second", "2").await);
    resources.change(&EXTERNAL_METRICS, "default/second", 451, &constant(3));
    slowest = slowest.max(reader.until("second", "3").await);
    resources.make(&CLUSTER_EXTERNAL_METRICS, "wide", &constant(4));
    slowest = slowest.max(reader.until("wide", "4").await);
    println!("measured: a change of 450 resources is in use after {slowest:?}");

    // A refused edit, one that was never good, one whose metric is a file's already.
    resources.change(&EXTERNAL_METRICS, "default/second", 451, &json!({"simulated": {}}));
    resources.make(&EXTERNAL_METRICS, "default/never", &json!({"metric": "new", "sqs": 7}));
    resources.make(&EXTERNAL_METRICS, "default/own", &constant(8));
    resources.make(&EXTERNAL_METRICS, "default/last", &constant(9));
    reader.until("last", "9").await;
    assert_eq!(reader.read("second").await.as_deref(), Ok("3"));
    assert_eq!(reader.read("own").await.as_deref(), Ok("7"));
    let said = problems(&server).await;
    for begin in [
        "externalmetrics.tidepole.dev/default/second: spec.simulated: ",
        "externalmetrics.tidepole.dev/default/never: spec.sqs: ",
    ] {
        assert!(said.iter().any(|line| line.starts_with(begin)), "{begin}: {said:#?}");
    }
    let text = server.admin("/metrics").await;
    openmetrics::parse(text.text()).expect("valid OpenMetrics");
    for line in [
        "metric_resources{kind=\"ExternalMetric\",verdict=\"accepted\"} 453",
        "metric_resources{kind=\"ExternalMetric\",verdict=\"held\"} 1",
        "metric_resources{kind=\"ExternalMetric\",verdict=\"refused\"} 1",
        "metric_resources{kind=\"CustomMetric\",verdict=\"accepted\"} 0",
        "resource_watch_up{kind=\"CustomMetric\"} 1",
        "resource_watch_up{kind=\"ClusterCustomMetric\"} 0",
    ] {
        let line = format!("\ntidepole_{line}\n");
        assert!(text.text().contains(&line), "{line}: {}", text.text());
    }

    resources.delete(&EXTERNAL_METRICS, "default", "first");
    resources.delete(&EXTERNAL_METRICS, "default", "second");
    reader.until_gone("first").await;
    reader.until_gone("second").await;
    assert_eq!(resources.lists(&EXTERNAL_METRICS), 1, "nothing was a reason to list again");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_may_come_later_and_be_away_for_a_moment() {
    let world = world();
    let resources = world.cluster.custom_resources();
    let server = world.setup().start().await;
    server.ready().await;
    resources.make(&EXTERNAL_METRICS, "default/a", &constant(1));
    resources.make(&CLUSTER_EXTERNAL_METRICS, "b", &constant(2));
    resources.install(&[EXTERNAL_METRICS, CLUSTER_EXTERNAL_METRICS]);
    let mut reader = world.reader(&server).await;
    let took = reader.until("a", "1").await + reader.until("b", "2").await;
    println!("measured: kinds that are installed are served after {took:?}");
    resources.hide(&EXTERNAL_METRICS);
    until("the end of the watch", async || {
        let text = server.admin("/metrics").await;
        let line = "\ntidepole_resource_watch_up{kind=\"ExternalMetric\"} 0\n";
        if text.text().contains(line) { Ok(()) } else { Err("it is up".to_owned()) }
    })
    .await;
    assert_eq!(reader.read("a").await.as_deref(), Ok("1"), "served from memory");
    resources.install(&[EXTERNAL_METRICS]);
    resources.change(&EXTERNAL_METRICS, "default/a", 0, &constant(3));
    reader.until("a", "3").await;
    server.stop().await;
}

/// The API server ends watches, forgets versions, talks nonsense, and has objects of any form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_what_an_api_server_can_do() {
    let world = world();
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS, ORIGINAL_METRICS]);
    resources.make(&EXTERNAL_METRICS, "default/a", &constant(1));
    resources.make(&EXTERNAL_METRICS, "default/gone", &constant(1));
    // Objects of odd forms in the first listing.
    for (key, object) in [
        ("odd/1", json!({"metadata": {"namespace": "odd"}, "spec": 7})),
        ("odd/2", json!({"metadata": {"name": "x"}})),
        ("odd/3", json!({"metadata": {"name": "x", "namespace": "default"}, "spec": [[]]})),
    ] {
        resources.put_raw(&EXTERNAL_METRICS, key, object.clone());
        resources.put_raw(&ORIGINAL_METRICS, key, object);
    }
    let server = world.setup().start().await;
    server.ready().await;
    let mut reader = world.reader(&server).await;
    assert_eq!(reader.read("a").await.as_deref(), Ok("1"));
    let mut value = 1;
    let mut follows = async |what: &str| {
        value += 1;
        resources.change(&EXTERNAL_METRICS, "default/a", 0, &constant(value));
        let took = reader.until("a", &value.to_string()).await;
        println!("measured: {what}: the next change is in use after {took:?}");
    };
    follows("nothing happened").await;
    resources.disconnect(&EXTERNAL_METRICS);
    follows("the watch ended").await;
    resources.expire(&EXTERNAL_METRICS);
    follows("the version expired").await;
    for (what, line) in [
        ("an odd event", "{\"type\":\"MODIFIED\",\"object\":7}"),
        (
            "an object without a version",
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"y\"}}}",
        ),
        ("an event of another type", "{\"type\":\"TOMORROW\",\"object\":{}}"),
        ("no JSON", "<html>"),
        ("half an event", "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":"),
    ] {
        resources.say(&EXTERNAL_METRICS, line);
        follows(what).await;
    }
    resources.garble(Some("<html>a proxy's page</html>"));
    resources.expire(&EXTERNAL_METRICS);
    until("a garbled listing", async || {
        let text = server.admin("/metrics").await;
        let line = "\ntidepole_resource_watch_up{kind=\"ExternalMetric\"} 0\n";
        if text.text().contains(line) { Ok(()) } else { Err("it is up".to_owned()) }
    })
    .await;
    resources.delete(&EXTERNAL_METRICS, "default", "gone");
    resources.garble(None);
    follows("listings were garbled").await;
    let mut reader = world.reader(&server).await;
    reader.until_gone("gone").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_there_is_one_line_for_a_kind() {
    let world = world();
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS]);
    resources.make(&EXTERNAL_METRICS, "default/a", &constant(1));
    resources.refuse(&EXTERNAL_METRICS, true);
    let process = Process::start(world.setup());
    let begin = Instant::now();
    process.door.ready().await;
    assert!(begin.elapsed() < Duration::from_secs(8), "it waited for what it may not see");
    until("more attempts", async || {
        let lists = resources.lists(&EXTERNAL_METRICS);
        if lists >= 3 { Ok(()) } else { Err(format!("{lists} lists")) }
    })
    .await;
    resources.refuse(&EXTERNAL_METRICS, false);
    until("the metric", async || {
        let row = process.door.row("a").await;
        if row["metric"] == "a" { Ok(()) } else { Err(row.to_string()) }
    })
    .await;
    process.signal("TERM");
    let (_, log) = process.end().await;
    let said: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("externalmetrics.tidepole.dev\""))
        .filter(|line| !line.contains("clusterexternalmetrics"))
        .collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    for words in [
        "\"level\":\"WARN\"",
        "grant get, list and watch on externalmetrics.tidepole.dev to Tidepole",
        "what is known of them stays in use",
    ] {
        assert!(said[0].contains(words), "{words}: {}", said[0]);
    }
    assert!(said[1].contains("metric resources can be watched again"), "{}", said[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_have_what_the_operator_gives_them() {
    let world = world();
    let upstream = Prometheus::start();
    let three = [("\"a\":\"1\"", "1"), ("\"a\":\"2\"", "2"), ("\"a\":\"3\"", "3")];
    for query in ["wide", "shared"] {
        upstream.vector(query, &three);
    }
    upstream.vector("narrow", &[("", "5")]);
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS]);
    let ask = |query: &str| json!({"prometheus": {"query": query}});
    for query in ["wide", "shared", "narrow"] {
        resources.make(&EXTERNAL_METRICS, &format!("default/{query}"), &ask(query));
    }
    resources.make(&EXTERNAL_METRICS, "default/surplus", &ask("narrow"));
    let url = upstream.server().url();
    let server = world
        .setup()
        .sources(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .resources("{ maxSeries: 2, maxPerNamespace: 3 }")
        // The operator asks the same.
        .with("file.yaml", &metric("file", "prometheus: { query: shared }"))
        .start()
        .await;
    server.ready().await;
    let mut reader = world.reader(&server).await;
    reader.until("narrow", "5").await;
    let refused = reader.read("wide").await.expect_err("three series are too many");
    assert!(
        refused.starts_with("503")
            && refused.contains("the answer has 3 series, and 2 are allowed"),
        "{refused}"
    );
    assert_eq!(reader.read("shared").await.as_deref(), Ok("1,2,3"));
    let absent = reader.read("surplus").await.expect_err("it is one too many");
    assert!(absent.starts_with("404"), "{absent}");
    let said = problems(&server).await;
    assert!(said.iter().any(|line| line.contains("(resources.maxPerNamespace)")), "{said:#?}");
    // One that goes makes room.
    resources.delete(&EXTERNAL_METRICS, "default", "wide");
    reader.until("surplus", "5").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_reach_only_what_the_operator_allows() {
    let (world, theirs, queues) = (world(), Prometheus::start(), Sqs::start());
    theirs.vector("up", &[("", "7")]);
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS]);
    let up = json!({"source": "theirs", "prometheus": {"query": "up"}});
    let queue = |more: Value| {
        let mut sqs = json!({"queues": ["jobs"]});
        for (key, value) in more.as_object().expect("fields") {
            sqs[key] = value.clone();
        }
        json!({"source": "aws", "sqs": sqs})
    };
    let foreign = "arn:aws:sqs:us-east-1:111122223333:jobs";
    for (key, spec) in [
        ("team-a/allowed", up.clone()),
        ("default/source", up.clone()),
        ("default/region", queue(json!({"region": "us-east-1"}))),
        ("default/arn", json!({"source": "aws", "sqs": {"queues": [foreign]}})),
        ("default/role", queue(json!({"roleArn": "arn:aws:iam::111122223333:role/admin"}))),
        ("default/fast", json!({"source": "sim", "refresh": "1s", "simulated": {"constant": 1}})),
        ("default/fine", constant(3)),
    ] {
        resources.make(&EXTERNAL_METRICS, key, &spec);
    }
    let (prometheus, aws) = (theirs.server().url(), queues.server().url());
    let server = world
        .setup()
        .sources(&format!(
            "  - {{ name: theirs, prometheus: {{ url: \"{prometheus}\" }}, \
             allowedNamespaces: [\"team-*\"] }}\n  - {{ name: aws, aws: {{ region: eu-west-1, \
             endpointUrl: \"{aws}\", \
             allowedRoles: [\"arn:aws:iam::*:role/metrics-*\"] }} }}\n  - {{ name: sim, \
             simulated: {{}} }}"
        ))
        .resources("{ minRefresh: 2s }")
        .start()
        .await;
    server.ready().await;
    let mut reader = world.reader(&server).await;
    reader.until("fine", "3").await;
    let said = problems(&server).await;
    for (name, words) in [
        (
            "source: spec.source",
            "in namespace default may not use source theirs (allowedNamespaces)",
        ),
        (
            "region: spec.sqs.region",
            "does not allow the region us-east-1; it allows eu-west-1 (allowedRegions)",
        ),
        (
            "arn: spec.sqs.queues[0]",
            "does not allow the region us-east-1; it allows eu-west-1 (allowedRegions)",
        ),
        (
            "role: spec.sqs.roleArn",
            "role/admin; it allows arn:aws:iam::*:role/metrics-* (allowedRoles)",
        ),
        (
            "fast: spec.refresh",
            "refresh 1s is below 2s, the least that the operator allows in namespaces (resources.minRefresh)",
        ),
    ] {
        let begin = format!("externalmetrics.tidepole.dev/default/{name}");
        let told = said.iter().any(|line| line.starts_with(&begin) && line.contains(words));
        assert!(told, "{name}, {words}: {said:#?}");
        let metric = name.split(':').next().expect("a name");
        let refused = reader.read(metric).await.expect_err("it is refused");
        assert!(refused.starts_with("404"), "{metric}: {refused}");
    }
    assert_eq!(said.len(), 5, "{said:#?}");
    assert_eq!((theirs.server().hits(), queues.server().hits()), (0, 0));
    // Whom the operator lets in is answered.
    let path = path_of("team-a", "allowed");
    let answer = reader.0.get(&path, &[("X-Remote-User", "somebody")]).await.expect("an answer");
    assert_eq!(values(&answer), ["7"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_not_to_look_does_not() {
    let world = world();
    let resources = world.cluster.custom_resources();
    resources.install(&[EXTERNAL_METRICS]);
    resources.make(&EXTERNAL_METRICS, "default/a", &constant(1));
    let server = world.setup().resources("{ enabled: false }").start().await;
    server.ready().await;
    assert_eq!(resources.lists(&EXTERNAL_METRICS), 0);
    let mut reader = world.reader(&server).await;
    assert!(reader.read("a").await.expect_err("it is not known").starts_with("404"));
    let pair = world.front_proxy.client("front-proxy-client", &[]);
    let mut connection =
        server.connect_as(&pair, Protocol::Http2).await.expect("the aggregator is let in");
    let user = [("X-Remote-User", "somebody")];
    let answer = connection.get(&path_of("default", "a"), &user).await.expect("an answer");
    status(&answer, 404, "NotFound");
    server.stop().await;
}
