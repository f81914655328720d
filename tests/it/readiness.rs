//! When the server says that it is ready, and what it tells of itself.

use std::time::{Duration, Instant};

use crate::support::openmetrics;
use crate::support::ports;
use crate::support::server::{Setup, metric, values};
use crate::support::upstream::Prometheus;
use crate::support::wait::until;

fn sources(entries: &[(&str, &str)]) -> String {
    let lines: Vec<String> = entries
        .iter()
        .map(|(name, url)| format!("  - {{ name: {name}, prometheus: {{ url: \"{url}\" }} }}\n"))
        .collect();
    lines.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_waits_for_the_first_try_of_warm_queries() {
    let upstream = Prometheus::start();
    upstream.vector("warm", &[("", "5")]);
    upstream.delay(Duration::from_secs(2));
    let start = Instant::now();
    let server = Setup::new(&sources(&[("main", &upstream.server().url())]))
        .with("warm.yaml", &metric("warm", "prometheus: { query: warm }, keepWarm: true"))
        .with("cold.yaml", &metric("cold", "prometheus: { query: cold }"))
        .start()
        .await;
    let answer = server.admin("/readyz").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("[-]warm-up failed"), "{}", answer.text());
    // Alive from the first moment, though.
    assert_eq!(server.admin("/livez").await.status, 200);
    let mut reader = server.reader().await;
    assert_eq!(reader.get("/readyz").await.status, 500, "both listeners say the same");
    server.ready().await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(reader.get("/readyz").await.status, 200);
    upstream.delay(Duration::ZERO);
    // Kept fresh without any reader, and served at once.
    until("the next refresh", async || {
        let hits = upstream.hits("warm");
        if hits >= 2 { Ok(()) } else { Err(hits.to_string()) }
    })
    .await;
    assert_eq!(values(&reader.read("warm").await), ["5"]);
    assert_eq!(upstream.hits("cold"), 0, "nobody wanted it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_does_not_depend_on_an_upstream() {
    let nowhere = ports::free();
    let server = Setup::new(&sources(&[("gone", &format!("http://{nowhere}"))]))
        .with("warm.yaml", &metric("warm", "prometheus: { query: warm }, keepWarm: true"))
        .start()
        .await;
    server.ready().await;
    let row = until("the failure", async || {
        let row = server.row("warm").await;
        if row["state"] == "failed" { Ok(row) } else { Err(row.to_string()) }
    })
    .await;
    assert!(row["lastError"].as_str().unwrap().starts_with("cannot connect"), "{row}");
    assert_eq!(server.admin("/readyz").await.status, 200);
    server.stop().await;
}

/// Bounded: a query that never ends its first try does not keep the process out for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_has_a_limit() {
    let upstream = Prometheus::start();
    upstream.answer_all(Some(crate::support::upstream::Reply::Hang));
    let url = upstream.server().url();
    let start = Instant::now();
    let server =
        Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 1m }} }}"))
            .with("warm.yaml", &metric("warm", "prometheus: { query: warm }, keepWarm: true"))
            .start()
            .await;
    assert_eq!(server.admin("/readyz").await.status, 500);
    server.ready().await;
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(9), "gave up after {took:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_expose_what_alerts_need() {
    let upstream = Prometheus::start();
    upstream.vector("good", &[("", "5")]);
    upstream.error("bad", 500, "internal", "broken disk");
    let server = Setup::new(&sources(&[("main", &upstream.server().url())]))
        .with("good.yaml", &metric("good", "prometheus: { query: good }"))
        .with("bad.yaml", &metric("bad", "prometheus: { query: bad }"))
        .with("typo.yaml", "kind: ExternalMetrik\n")
        .start()
        .await;
    let mut reader = server.reader().await;
    reader.until_values("good", &["5"]).await;
    assert_eq!(reader.read("bad").await.status, 503);
    assert_eq!(reader.read("unknown").await.status, 404);
    let texts = [server.admin("/metrics").await, reader.get("/metrics").await];
    for answer in texts {
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .header("content-type")
                .starts_with("application/openmetrics-text; version=1.0.0"),
            "{}",
            answer.header("content-type")
        );
        let families = openmetrics::parse(answer.text()).unwrap();
        let sum = |family: &str, wanted: &[(&str, &str)]| -> f64 {
            families
                .get(family)
                .unwrap_or_else(|| panic!("no family {family} in\n{}", answer.text()))
                .samples
                .iter()
                .filter(|s| !s.name.ends_with("_bucket") && !s.name.ends_with("_sum"))
                .filter(|s| wanted.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|x| x == v)))
                .map(|s| s.value)
                .sum()
        };
        assert!(sum("tidepole_upstream_calls", &[("source", "main"), ("outcome", "ok")]) >= 1.0);
        assert!(
            sum("tidepole_upstream_calls", &[("source", "main"), ("outcome", "unavailable")])
                >= 1.0
        );
        assert!(sum("tidepole_upstream_call_duration_seconds", &[("source", "main")]) >= 2.0);
        assert!(sum("tidepole_definition_file_problems", &[]) >= 1.0);
        assert!(sum("tidepole_definition_file_entries", &[]) >= 2.0);
        assert!(sum("process_resident_memory_bytes", &[]) > 1e6);
        assert!(sum("tidepole_server_certificate_not_after_timestamp_seconds", &[]) > 1.7e9);
    }
    server.stop().await;
}
