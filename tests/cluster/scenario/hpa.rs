//! A real HPA on real values: the replicas are exact, because the arithmetic is Kubernetes' own.

use crate::control_plane::run;
use crate::process::eventually;
use crate::workload::{SOON, Workload};
use crate::world::{minor_version, shared};

/// An External metric with an `AverageValue` target.
fn average(metric: &str, target: &str) -> String {
    format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"{target}\" }} }} }}"
    )
}

#[test]
fn hpa_average_value_on_prometheus() {
    let world = shared();
    let web = Workload::new(&world, "average-value", 1);
    world.exposition.set("average_value_jobs", 40.0);
    web.define(&[(
        "jobs",
        "metric: average_value_jobs\n\
         source: main\n\
         prometheus: { query: 'sum(average_value_jobs)' }\n\
         refresh: 1s",
    )]);
    web.autoscale(&[&average("average_value_jobs", "10")]);
    web.expect_replicas(4);
    let active = web.expect_scaling("ValidMetricFound");
    assert_eq!(active.status, "True");
    assert_eq!(web.current()["average_value_jobs"], "10", "40 over 4 replicas");

    world.exposition.set("average_value_jobs", 101.0);
    web.expect_replicas(11);
    // A tenth of the target is tolerated; below that the replicas follow.
    world.exposition.set("average_value_jobs", 0.5);
    web.expect_replicas(1);
}

#[test]
fn hpa_value_on_prometheus() {
    let world = shared();
    // `Value` multiplies the ratio with the ready pods: two are, whatever the replicas.
    let web = Workload::with_ready_limit(&world, "value", 2, 2);
    world.exposition.set("value_latency", 25.0);
    web.define(&[(
        "latency",
        "metric: value_latency\n\
         source: main\n\
         prometheus: { query: 'max(value_latency)' }\n\
         refresh: 1s",
    )]);
    web.autoscale(&["{ type: External, external: { metric: { name: value_latency }, \
                     target: { type: Value, value: \"10\" } } }"]);
    web.expect_replicas(5);
    assert_eq!(web.current()["value_latency"], "25");

    world.exposition.set("value_latency", 41.0);
    web.expect_replicas(9);
    world.exposition.set("value_latency", 4.0);
    web.expect_replicas(1);
}

#[test]
fn hpa_on_sqs_depth() {
    let world = shared();
    let web = Workload::new(&world, "sqs-depth", 1);
    let queue = world.queues.create("sqs-depth-jobs");
    web.define(&[(
        "jobs",
        "metric: sqs_depth\nsource: aws\nsqs: { queues: [sqs-depth-jobs] }\nrefresh: 1s",
    )]);
    web.autoscale(&[&average("sqs_depth", "10")]);
    web.expect_scaling("ValidMetricFound");
    assert_eq!(web.replicas(), 1, "an empty queue");

    world.queues.send(&queue, 100);
    web.expect_replicas(10);

    // Received but not deleted messages are work in progress: they still count.
    let mut received = Vec::new();
    while received.len() < 40 {
        received.extend(world.queues.receive(&queue, 40 - received.len()));
    }
    web.expect_replicas(10);
    world.queues.delete(&queue, &received);
    web.expect_replicas(6);

    world.queues.consume(&queue, 60);
    web.expect_replicas(1);
}

#[test]
fn sqs_counts_can_be_chosen_and_queues_are_summed() {
    let world = shared();
    let web = Workload::new(&world, "sqs-counts", 1);
    let (first, second) =
        (world.queues.create("sqs-counts-first"), world.queues.create("sqs-counts-second"));
    world.queues.send(&first, 12);
    world.queues.send(&second, 30);
    let in_flight = world.queues.receive(&first, 5);
    assert_eq!(in_flight.len(), 5);
    web.define(&[
        (
            "visible",
            "metric: sqs_counts_visible\nsource: aws\nrefresh: 1s\n\
             sqs: { queues: [sqs-counts-first, sqs-counts-second], count: [visible] }",
        ),
        (
            "in-flight",
            "metric: sqs_counts_in_flight\nsource: aws\nrefresh: 1s\n\
             sqs: { queues: [sqs-counts-first], count: [inFlight] }",
        ),
    ]);
    web.autoscale(&[&average("sqs_counts_visible", "10"), &average("sqs_counts_in_flight", "1")]);
    // 37 visible over 10 are 4, 5 in flight over 1 are 5: the highest proposal wins.
    web.expect_replicas(5);
    assert_eq!(world.read("sqs-counts", "sqs_counts_visible", ""), ["37"]);
    assert_eq!(world.read("sqs-counts", "sqs_counts_in_flight", ""), ["5"]);
}

#[test]
fn selectors_sum_only_matching_series() {
    let world = shared();
    let web = Workload::new(&world, "selectors", 1);
    for (series, value) in [
        (r#"selectors_stock{queue="a",tier="gold"}"#, 10.0),
        (r#"selectors_stock{queue="b",tier="gold"}"#, 20.0),
        (r#"selectors_stock{queue="c"}"#, 40.0),
        (r#"selectors_stock{queue="d",tier="lead"}"#, 80.0),
    ] {
        world.exposition.set(series, value);
    }
    web.define(&[(
        "stock",
        "metric: selectors_stock\n\
         source: main\n\
         prometheus: { query: 'sum by (queue, tier) (selectors_stock)' }\n\
         refresh: 1s",
    )]);
    let cases = [
        ("{}", 15),
        ("{ matchLabels: { tier: gold } }", 3),
        ("{ matchExpressions: [{ key: queue, operator: In, values: [a, c] }] }", 5),
        ("{ matchExpressions: [{ key: queue, operator: NotIn, values: [a] }] }", 14),
        ("{ matchExpressions: [{ key: tier, operator: Exists }] }", 11),
        ("{ matchExpressions: [{ key: tier, operator: DoesNotExist }] }", 4),
        (
            "{ matchLabels: { tier: gold }, \
             matchExpressions: [{ key: queue, operator: NotIn, values: [a, c] }] }",
            2,
        ),
    ];
    for (selector, replicas) in cases {
        web.autoscale(&[&format!(
            "{{ type: External, external: {{ metric: {{ name: selectors_stock, \
             selector: {selector} }}, target: {{ type: AverageValue, averageValue: \"10\" }} }} }}"
        )]);
        web.expect_replicas(replicas);
    }
    // What an HPA cannot say but kubectl can; a key that is absent satisfies `!=` and `notin`.
    let read = |selector| world.read("selectors", "selectors_stock", selector);
    assert_eq!(read("queue!=d"), ["10", "20", "40"]);
    assert_eq!(read("tier!=gold"), ["40", "80"]);
    assert_eq!(read("tier notin (lead)"), ["10", "20", "40"]);
    assert_eq!(read("!tier"), ["40"]);
    assert_eq!(read("tier,queue in (b,c)"), ["20"]);
}

#[test]
fn upper_case_metric_name() {
    let world = shared();
    let web = Workload::new(&world, "upper-case", 1);
    web.define(&[("depth", "metric: MyQueueDepth\nsource: sim\nsimulated: { constant: \"30\" }")]);
    // The client lower-cases what it asks for.
    web.autoscale(&[&average("MyQueueDepth", "10")]);
    web.expect_replicas(3);
    assert_eq!(web.current()["MyQueueDepth"], "10");
}

#[test]
fn values_are_read_to_the_milli() {
    let world = shared();
    let web = Workload::new(&world, "milli", 1);
    // 64.1 over 64.1 is one replica's worth: the HPA shows what it was given.
    web.define(&[
        ("milli", "metric: milli_exact\nsource: sim\nsimulated: { constant: \"64.1\" }"),
        ("fine", "metric: milli_fine\nsource: sim\nsimulated: { constant: \"0.0004\" }"),
        ("third", "metric: milli_third\nsource: sim\nsimulated: { constant: \"1.0055\" }"),
    ]);
    web.autoscale(&["{ type: External, external: { metric: { name: milli_exact }, \
                     target: { type: Value, value: \"64.1\" } } }"]);
    web.expect_scaling("ValidMetricFound");
    assert_eq!(web.current()["milli_exact"], "64100m");
    assert_eq!(web.replicas(), 1);
    assert_eq!(world.read("milli", "milli_fine", ""), ["0"]);
    assert_eq!(world.read("milli", "milli_third", ""), ["1006m"]);
}

#[test]
fn out_of_range_values_never_scale_by_accident() {
    let world = shared();
    let web = Workload::new(&world, "out-of-range", 3);
    world.exposition.set("out_of_range_nan", f64::NAN);
    world.exposition.set("out_of_range_negative", -5.0);
    let query = |name: &str| {
        format!(
            "metric: {name}\nsource: main\nprometheus: {{ query: 'max({name})' }}\n\
             refresh: 1s\nonNoData: error"
        )
    };
    let (nan, negative) = (query("out_of_range_nan"), query("out_of_range_negative"));
    web.define(&[("nan", &nan), ("negative", &negative)]);

    // Not a number is no sample: an error, and nothing moves.
    web.autoscale(&[&average("out_of_range_nan", "10")]);
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert!(failed.message.contains("out_of_range_nan"), "{failed:?}");
    web.expect_unmoved(3, crate::workload::A_WHILE);

    // A negative sum would be taken for an overflow and scale to the maximum; it is clamped to 0.
    web.autoscale(&[&average("out_of_range_negative", "10")]);
    web.expect_replicas(1);
    assert_eq!(world.read("out-of-range", "out_of_range_negative", ""), ["0"]);

    // Beyond the HPA's integers a value would read as nothing; it is clamped, so it stays huge.
    world.exposition.set("out_of_range_negative", 1e19);
    eventually("the value is clamped", SOON, || {
        match world.read("out-of-range", "out_of_range_negative", "").as_slice() {
            [value] if value == "9223372036854775" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Controllers before 1.34 keep a count of replicas that is not limited yet in 32 bits, and
    // scale to the minimum however the value is written.
    if minor_version(&world) >= 34 {
        web.expect_replicas(60);
    } else {
        eprintln!("not shown before Kubernetes 1.34: a huge value scales to the maximum");
    }
}

#[test]
fn describe_shows_the_sum_of_two_series() {
    let world = shared();
    let web = Workload::new(&world, "two-series", 1);
    world.exposition.set(r#"two_series_depth{queue="a"}"#, 12.0);
    world.exposition.set(r#"two_series_depth{queue="b"}"#, 18.0);
    web.define(&[(
        "depth",
        "metric: two_series_depth\nsource: main\nrefresh: 1s\n\
         prometheus: { query: 'sum by (queue) (two_series_depth)' }",
    )]);
    web.autoscale(&["{ type: External, external: { metric: { name: two_series_depth }, \
                     target: { type: Value, value: \"30\" } } }"]);
    web.expect_scaling("ValidMetricFound");
    assert_eq!(world.read("two-series", "two_series_depth", ""), ["12", "18"]);
    let mut describe = world.plane.kubectl();
    describe.args(["--namespace=two-series", "describe", "hpa", "web"]);
    let text = run(&mut describe).expect("the HPA is there");
    println!("{text}");
    let shown = text.lines().find(|line| line.contains("\"two_series_depth\""));
    let shown = shown.unwrap_or_else(|| panic!("the metric is not shown: {text}"));
    assert!(shown.ends_with(" 30 / 30"), "{text}");
    assert!(text.contains("ValidMetricFound"), "{text}");
    assert_eq!(web.replicas(), 1, "the sum is the target");
}
