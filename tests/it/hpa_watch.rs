//! What HPAs refer to is fetched before it is read.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, external, trust};
use crate::support::openmetrics;
use crate::support::process::Process;
use crate::support::server::{Setup, Tidepole, metric, path_of, status, values};
use crate::support::tls::Authority;
use crate::support::upstream::Prometheus;
use crate::support::wait::{PATIENCE, until};

/// A cluster, an upstream, and what a server that is part of both needs.
struct World {
    cluster: ClusterApi,
    front_proxy: Authority,
    upstream: Prometheus,
}

fn world() -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    let upstream = Prometheus::start();
    World { cluster, front_proxy, upstream }
}

impl World {
    fn setup(&self) -> Setup {
        let url = self.upstream.server().url();
        Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
            .cluster(&self.cluster)
    }

    /// A connection of the HPA controller. The TLS handshake and the review of who it is are over.
    async fn controller(&self, server: &Tidepole) -> Controller {
        let pair = self.front_proxy.client("front-proxy-client", &[]);
        let connection = server.connect_as(&pair, Protocol::Http2).await;
        Controller(connection.expect("the aggregator is let in"))
    }
}

struct Controller(Connection);

impl Controller {
    async fn read(&mut self, namespace: &str, metric: &str) -> Vec<String> {
        const HPA: (&str, &str) =
            ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");
        let answer = self.0.get(&path_of(namespace, metric), &[HPA]).await;
        let answer = answer.expect("the server answers");
        assert_eq!(answer.status, 200, "{metric}: {}", answer.text());
        values(&answer)
    }

    /// Reads what must be there already: a read that needs an answer of the upstream fails, since
    /// meanwhile there is none.
    async fn read_from_memory(&mut self, upstream: &Prometheus, reads: &[(&str, &str, &str)]) {
        upstream.gate().shut();
        for (namespace, metric, wanted) in reads {
            assert_eq!(self.read(namespace, metric).await, [*wanted], "{metric}");
        }
        upstream.gate().open();
    }
}

/// Looks on while the answers of the upstream are held back, then waits for a server that is ready.
async fn becomes_ready(server: &Tidepole, upstream: &Prometheus) {
    until(
        "a query",
        async || {
            if upstream.server().hits() > 0 { Ok(()) } else { Err("none".to_owned()) }
        },
    )
    .await;
    let answer = server.admin("/readyz").await;
    assert!(answer.text().contains("[-]hpa-warm-up failed"), "{}", answer.text());
    upstream.gate().open();
    server.ready().await;
}

/// Waits until a query has been asked for, which nobody has read.
async fn warm(server: &Tidepole, metric: &str) {
    let row = until("the announced query", async || {
        let row = server.row(metric).await;
        if row["state"] == "fresh" { Ok(row) } else { Err(row.to_string()) }
    })
    .await;
    assert!(row["lastReadAgeSeconds"].is_null() && row["wanted"] == true, "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_hpa_refers_to_is_there_before_its_first_read() {
    let world = world();
    for (query, value) in [("jobs", "5"), ("mail", "6"), ("late", "7")] {
        world.upstream.vector(query, &[("", value)]);
    }
    world.upstream.vector("own{ns=\"team-a\"}", &[("", "8")]);
    let hpas = world.cluster.hpas();
    hpas.put("default", "jobs", &[external("Jobs"), external("s0-aws-sqs-queue-elsewhere")]);
    hpas.put("default", "again", &[external("jobs")]);
    let own = "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\n\
               metadata: { name: own }\n\
               spec: { prometheus: { query: 'own{ns=\"$namespace\"}' } }\n";
    world.upstream.gate().shut();
    let server = world
        .setup()
        .with("jobs.yaml", &metric("jobs", "prometheus: { query: jobs }"))
        .with("mail.yaml", &metric("mail", "prometheus: { query: mail }"))
        .with("own.yaml", own)
        .start()
        .await;
    becomes_ready(&server, &world.upstream).await;
    let row = server.row("jobs").await;
    assert_eq!((&row["hpas"], &row["lastReadAgeSeconds"]), (&2.into(), &json!(null)), "{row}");
    assert!(world.upstream.hits("jobs") >= 1);
    assert_eq!(world.upstream.hits("mail"), 0, "nobody refers to it");
    let mut controller = world.controller(&server).await;
    controller.read_from_memory(&world.upstream, &[("default", "jobs", "5")]).await;

    // An HPA that is new, in a namespace whose query exists only because of it.
    hpas.put("default", "mail", &[external("mail")]);
    hpas.put("team-a", "own", &[external("own")]);
    warm(&server, "mail").await;
    warm(&server, "own").await;
    let reads = [("default", "mail", "6"), ("team-a", "own", "8")];
    controller.read_from_memory(&world.upstream, &reads).await;

    // A definition that comes after its HPA.
    hpas.put("default", "late", &[external("late")]);
    server.setup.define("late.yaml", &metric("late", "prometheus: { query: late }"));
    warm(&server, "late").await;
    controller.read_from_memory(&world.upstream, &[("default", "late", "7")]).await;

    let all = server.admin("/api/metrics").await.json();
    // The one in `jobs` that another adapter serves is not known.
    let watch = json!({"state": "up", "hpas": 5, "references": 5, "known": 4, "unknown": 1});
    assert_eq!(all["hpaWatch"], watch);
    let text = server.admin("/metrics").await;
    openmetrics::parse(text.text()).expect("valid OpenMetrics");
    for line in ["hpas 5", "references 5", "known 4", "unknown 1", "up 1"] {
        let line = format!("\ntidepole_hpa_watch_{line}\n");
        assert!(text.text().contains(&line), "{line}: {}", text.text());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_hpa_refers_to_any_more_is_not_asked_for() {
    let world = world();
    for query in ["gone", "changed", "kept"] {
        world.upstream.vector(query, &[("", "5")]);
    }
    let hpas = world.cluster.hpas();
    for name in ["gone", "changed", "kept"] {
        hpas.put("default", name, &[external(name)]);
    }
    hpas.put("default", "kept-too", &[external("kept")]);
    let mut setup = world.setup();
    for name in ["gone", "changed", "kept"] {
        let spec = format!("prometheus: {{ query: {name} }}");
        setup = setup.with(&format!("{name}.yaml"), &metric(name, &spec));
    }
    let server = setup.start().await;
    server.ready().await;
    hpas.delete("default", "gone");
    hpas.delete("default", "kept-too");
    hpas.put("default", "changed", &[external("kept")]);
    for name in ["gone", "changed"] {
        until("the end of refreshes", async || {
            let row = server.row(name).await;
            if row["state"] == "idle" { Ok(()) } else { Err(row.to_string()) }
        })
        .await;
    }
    let hits = || ["gone", "changed", "kept"].map(|name| world.upstream.hits(name));
    let before = hits();
    // What is wanted is refreshed once a second.
    let after = until("three refreshes", async || {
        let after = hits();
        if after[2] >= before[2] + 3 { Ok(after) } else { Err(format!("{before:?}, {after:?}")) }
    })
    .await;
    assert_eq!(before[..2], after[..2], "nobody wants them");
    assert_eq!(server.row("kept").await["hpas"], 2);
    // Read all the same, it comes back as it ever did.
    let mut controller = world.controller(&server).await;
    assert_eq!(controller.read("default", "gone").await, ["5"]);
    server.stop().await;
}

/// No read of fifty HPAs waits once the server says that it is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_waits_after_a_start_under_fifty_hpas() {
    let world = world();
    let mut setup = world.setup();
    let name = |number: usize| format!("depth-{number}");
    for number in 0..50 {
        let name = name(number);
        world.cluster.hpas().put("default", &name, &[external(&name)]);
        let query = format!("depth_{number}");
        world.upstream.vector(&query, &[("", &number.to_string())]);
        let spec = format!("prometheus: {{ query: {query} }}, refresh: 15s");
        setup = setup.with(&format!("{name}.yaml"), &metric(&name, &spec));
    }
    world.upstream.gate().shut();
    let server = setup.start().await;
    becomes_ready(&server, &world.upstream).await;
    let mut controller = world.controller(&server).await;
    let names: Vec<(String, String)> = (0..50).map(|n| (name(n), n.to_string())).collect();
    let reads: Vec<_> = names.iter().map(|(name, value)| ("default", &**name, &**value)).collect();
    controller.read_from_memory(&world.upstream, &reads).await;
    let calls: u64 = (0..50).map(|number| world.upstream.hits(&format!("depth_{number}"))).sum();
    assert!((50..=100).contains(&calls), "{calls} calls for 50 queries");
    server.stop().await;
}

/// Pages of the listing, and a metric of a definition that fails: tried is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_depends_neither_on_upstreams_nor_on_the_number_of_hpas() {
    let world = world();
    world.upstream.error("broken", 500, "internal", "broken disk");
    for number in 0..1200 {
        world.cluster.hpas().put("default", &format!("hpa-{number}"), &[external("broken")]);
    }
    let server = world
        .setup()
        .with("broken.yaml", &metric("broken", "prometheus: { query: broken }"))
        .start()
        .await;
    server.ready().await;
    assert_eq!(world.cluster.hpas().lists(), 3, "pages of 500");
    let row = server.row("broken").await;
    assert_eq!((&row["state"], &row["hpas"]), (&"failed".into(), &1200.into()), "{row}");
    let mut connection = world.controller(&server).await.0;
    let user = [("X-Remote-User", "somebody")];
    let answer = connection.get(&path_of("default", "broken"), &user).await.expect("an answer");
    assert!(status(&answer, 503, "ServiceUnavailable").contains("broken disk"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_there_is_one_line_and_nothing_else_changes() {
    let world = world();
    world.upstream.vector("jobs", &[("", "5")]);
    world.cluster.hpas().put("default", "jobs", &[external("jobs")]);
    world.cluster.hpas().refuse(true);
    let setup = world.setup().with("jobs.yaml", &metric("jobs", "prometheus: { query: jobs }"));
    let process = Process::start(setup);
    let begin = Instant::now();
    process.door.ready().await;
    // It would wait for ten seconds.
    assert!(begin.elapsed() < Duration::from_millis(9900), "it waited for what it may not see");
    until("more attempts", async || {
        let lists = world.cluster.hpas().lists();
        if lists >= 3 { Ok(()) } else { Err(format!("{lists} lists")) }
    })
    .await;
    assert_eq!(world.upstream.hits("jobs"), 0);
    let page = process.door.get("/").await;
    assert!(page.text().contains("HPAs cannot be watched, so first reads wait"), "{}", page.text());
    // Granted while it runs.
    world.cluster.hpas().refuse(false);
    let granted = Instant::now();
    while world.upstream.hits("jobs") == 0 {
        assert!(granted.elapsed() < PATIENCE, "the permission is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.signal("TERM");
    let (_, log) = process.end().await;
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("HPAs") || line.contains("kube_runtime")).collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    for words in [
        "\"level\":\"WARN\"",
        "That is an optimisation: what is lost is that",
        "grant get, list and watch on horizontalpodautoscalers.autoscaling",
    ] {
        assert!(said[0].contains(words), "{words}: {}", said[0]);
    }
    assert!(said[1].contains("HPAs can be watched again"), "{}", said[1]);
}
