//! A value that cannot be had is an error with its cause, never a number: replicas hold.

use std::time::Duration;

use crate::process::{always, eventually};
use crate::upstream::Prometheus;
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{exclusive, shared};

fn average(metric: &str) -> String {
    format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"10\" }} }} }}"
    )
}

#[test]
fn unknown_metric_is_named_in_the_condition() {
    let world = shared();
    let web = Workload::new(&world, "unknown-metric", 3);
    web.autoscale(&[&average("nobody_defined_this")]);
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert_eq!(failed.status, "False");
    let told = web.refusal("nobody_defined_this");
    assert!(told.contains("nobody_defined_this"), "{told}");
    assert!(failed.message.ends_with(&told), "{} does not end with {told}", failed.message);
    web.expect_unmoved(3, A_WHILE);

    // Defined later, it is picked up without a restart of anything.
    web.define(&[(
        "late",
        "metric: nobody_defined_this\nsource: sim\nsimulated: { constant: \"50\" }",
    )]);
    web.expect_replicas(5);
}

#[test]
fn no_data_is_an_error_and_replicas_do_not_move() {
    let world = shared();
    let web = Workload::new(&world, "no-data", 3);
    web.define(&[(
        "gone",
        "metric: no_data_gone\n\
         source: main\n\
         prometheus: { query: 'sum(no_data_gone)' }\n\
         refresh: 1s\n\
         onNoData: error",
    )]);
    web.autoscale(&[&average("no_data_gone")]);
    let failed = web.expect_scaling("FailedGetExternalMetric");
    let told = web.refusal("no_data_gone");
    for word in ["no_data_gone", "no-data", "main"] {
        assert!(told.contains(word), "no {word} in: {told}");
    }
    assert!(failed.message.contains(&told), "{} lacks {told}", failed.message);
    web.expect_unmoved(3, A_WHILE);

    world.exposition.set("no_data_gone", 70.0);
    web.expect_replicas(7);
    // Gone again: still an error, and still no movement.
    world.exposition.remove("no_data_gone");
    web.expect_scaling("FailedGetExternalMetric");
    web.expect_unmoved(7, A_WHILE);
}

#[test]
fn missing_queue_is_named_in_the_condition() {
    let world = shared();
    let web = Workload::new(&world, "missing-queue", 2);
    web.define(&[(
        "jobs",
        "metric: missing_queue_depth\nsource: aws\nsqs: { queues: [nobody-made-this] }\nrefresh: 1s",
    )]);
    web.autoscale(&[&average("missing_queue_depth")]);
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert!(failed.message.contains("nobody-made-this"), "{failed:?}");
    assert!(failed.message.contains("aws"), "{failed:?}");
    web.expect_unmoved(2, A_WHILE);
}

#[test]
fn upstream_stopped_and_restarted() {
    let world = shared();
    let web = Workload::new(&world, "upstream-down", 1);
    world.exposition.set("upstream_down_jobs", 50.0);
    web.define(&[(
        "jobs",
        "metric: upstream_down_jobs\n\
         source: flaky\n\
         prometheus: { query: 'sum(upstream_down_jobs)' }\n\
         refresh: 1s\n\
         maxAge: 10s",
    )]);
    web.autoscale(&[&average("upstream_down_jobs")]);
    web.expect_replicas(5);

    world.flaky.halt();
    world.exposition.set("upstream_down_jobs", 20.0);
    // The last good value is held first: the HPA sees nothing at all.
    let active = web.expect_scaling("ValidMetricFound");
    assert_eq!(active.status, "True");
    web.expect_unmoved(5, Duration::from_secs(3));
    // Older than maxAge it is an error that says why, and the replicas still hold.
    let failed = web.expect_scaling("FailedGetExternalMetric");
    for word in ["upstream_down_jobs", "flaky", "last good value 50", "10s"] {
        assert!(failed.message.contains(word), "no {word} in: {}", failed.message);
    }
    web.expect_unmoved(5, A_WHILE);

    world.flaky.resume();
    web.expect_replicas(2);
    web.expect_scaling("ValidMetricFound");
}

#[test]
fn two_metrics_one_broken() {
    let world = shared();
    let web = Workload::new(&world, "one-broken", 4);
    world.exposition.set("one_broken_healthy", 70.0);
    web.define(&[
        (
            "healthy",
            "metric: one_broken_healthy\nsource: main\nrefresh: 1s\n\
             prometheus: { query: 'sum(one_broken_healthy)' }",
        ),
        (
            "broken",
            "metric: one_broken_broken\nsource: main\nrefresh: 1s\nonNoData: error\n\
             prometheus: { query: 'sum(one_broken_absent)' }",
        ),
    ]);
    web.autoscale(&[&average("one_broken_broken"), &average("one_broken_healthy")]);
    // The healthy one says up: up it goes.
    web.expect_replicas(7);
    // The healthy one says down: the broken one may know better, so nothing moves.
    world.exposition.set("one_broken_healthy", 10.0);
    web.expect_scaling("FailedGetExternalMetric");
    web.expect_unmoved(7, A_WHILE);
    // Mended, the lower proposals of both count.
    world.exposition.set("one_broken_absent", 30.0);
    web.expect_replicas(3);
}

#[test]
fn a_broken_edit_keeps_what_worked() {
    let world = shared();
    let web = Workload::new(&world, "broken-edit", 1);
    web.define(&[("steady", "metric: broken_edit\nsource: sim\nsimulated: { constant: \"20\" }")]);
    web.autoscale(&[&average("broken_edit")]);
    web.expect_replicas(2);

    web.define(&[("steady", "metric: broken_edit\nsorce: sim\nsimulated: { constant: \"90\" }")]);
    let seen = || {
        let log = world.adapter_log();
        if log.contains("sorce") { Ok(()) } else { Err("no word of the edit".to_owned()) }
    };
    eventually("the log names the unknown field", SOON, seen);
    web.expect_unmoved(2, A_WHILE);

    web.define(&[("steady", "metric: broken_edit\nsource: sim\nsimulated: { constant: \"90\" }")]);
    web.expect_replicas(9);
}

/// Runs a stopped upstream again, however the test ends.
struct Halted<'a>(&'a Prometheus);

impl<'a> Halted<'a> {
    fn new(server: &'a Prometheus) -> Self {
        server.halt();
        Self(server)
    }
}

impl Drop for Halted<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// Nothing that is read from is part of readiness: a restart would not bring it back, and an
/// unavailable `APIService` would block the deletion of namespaces.
#[test]
fn without_any_upstream_the_api_stays_available() {
    let world = exclusive();
    let web = Workload::new(&world, "no-upstream", 1);
    world.exposition.set("no_upstream_jobs", 30.0);
    let spec = |source: &str| {
        format!(
            "metric: no_upstream_{source}\nsource: {source}\nrefresh: 1s\nmaxAge: 5s\n\
             prometheus: {{ query: 'sum(no_upstream_jobs)' }}"
        )
    };
    let (main, flaky) = (spec("main"), spec("flaky"));
    web.define(&[("main", &main), ("flaky", &flaky)]);
    web.autoscale(&[&average("no_upstream_main"), &average("no_upstream_flaky")]);
    web.expect_replicas(3);
    world.check_available().expect("all is well so far");
    let unavailable = || {
        let metrics = world.get_raw("/metrics").expect("the API server tells its metrics");
        let ours = metrics.lines().filter(|line| {
            line.starts_with("aggregator_unavailable_apiservice")
                && line.contains("v1beta1.external.metrics.k8s.io")
        });
        ours.map(str::to_owned).collect::<Vec<String>>()
    };
    let before = unavailable();
    assert!(!before.is_empty(), "the API server counts when an APIService becomes unavailable");

    let stopped = (Halted::new(&world.main), Halted::new(&world.flaky));
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert!(failed.message.contains("older than maxAge 5s"), "{failed:?}");
    let begin = jiff::Timestamp::now();
    // The API server looks at every APIService at least each 30 s.
    always("the API is available", Duration::from_secs(35), || world.check_available());
    assert_eq!(unavailable(), before, "not even for a moment");

    for source in ["main", "flaky"] {
        let metric = format!("no_upstream_{source}");
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/no-upstream/{metric}");
        let (code, body) = world.get_body(&path).expect("the read is answered");
        let status: serde_json::Value = serde_json::from_str(&body).expect("answers are JSON");
        assert_eq!((code, &status["kind"]), (503, &serde_json::json!("Status")));
        assert_eq!(status["reason"], "ServiceUnavailable");
        let message = status["message"].as_str().expect("a Status has a message");
        for word in [
            &format!("{metric} in no-upstream: "),
            &format!("(source {source})"),
            "last good value 30",
            "is older than maxAge 5s",
        ] {
            assert!(message.contains(word), "no {word} in: {message}");
        }
    }
    // Told to wait, the controller's worker would sleep and try again, ten times.
    let reads = &world.hpa_reads("no-upstream")["no_upstream_main"];
    let reads: Vec<_> = reads.iter().filter(|read| read.received >= begin).collect();
    println!("{} reads by the HPA, {:?} long at most", reads.len(), {
        reads.iter().map(|read| read.took).max()
    });
    assert!(reads.iter().all(|read| read.code == 503 && read.took < Duration::from_secs(1)));
    assert!(reads.len() >= 12, "{} reads in 35 s", reads.len());
    web.expect_unmoved(3, A_WHILE);

    drop(stopped);
    web.expect_scaling("ValidMetricFound");
}
