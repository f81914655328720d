//! Upstreams that forget, and answer nothing: replicas stay where they are, at a number
//! that is neither the least nor the most, and the HPA says why.

use std::time::Duration;

use crate::aws_fakes::cloudwatch::Metric;
use crate::aws_fakes::{Queue, Reply};
use crate::process::{always, eventually};
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{World, shared};

fn average(metric: &str) -> String {
    format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"10\" }} }} }}"
    )
}

#[test]
fn what_is_deleted_is_named_and_replicas_stay() {
    let world = shared();
    let (metric, definition, queue) = (
        Workload::new(&world, "deleted-metric", 1),
        Workload::new(&world, "deleted-definition", 1),
        Workload::new(&world, "deleted-queue", 1),
    );
    let published = Metric::new("Tests", "Deleted");
    world.cloudwatch.generate(&published, |_, _| Some(50.0));
    metric.define(&[(
        "jobs",
        "metric: deleted_metric_jobs\nsource: aws\nmaxAge: 30s\ncloudwatch:\n  metric: \
         { namespace: Tests, name: Deleted, statistic: Maximum, period: 1s }",
    )]);
    metric.autoscale(&[&average("deleted_metric_jobs")]);
    definition.define(&[(
        "jobs",
        "metric: deleted_definition_jobs\nsource: sim\nsimulated: { constant: \"60\" }",
    )]);
    definition.autoscale(&[&average("deleted_definition_jobs")]);
    let url = world.queues.create("deleted-queue");
    world.queues.send(&url, 70);
    queue.define(&[(
        "jobs",
        "metric: deleted_queue_jobs\nsource: aws\nsqs: { queues: [deleted-queue] }\n\
         refresh: 1s\nmaxAge: 10s",
    )]);
    queue.autoscale(&[&average("deleted_queue_jobs")]);
    let all = [(&metric, 5), (&definition, 6), (&queue, 7)];
    for (web, replicas) in all {
        web.expect_replicas(replicas);
    }

    world.cloudwatch.delete(&published);
    definition.define(&[]);
    world.queues.remove(&url);
    let expected: [&[&str]; 3] = [
        &[
            "deleted_metric_jobs in deleted-metric: CloudWatch in eu-west-1: no datapoint of \
             Maximum of Tests Deleted",
            "last good value 50 at ",
            "is older than maxAge 30s",
        ],
        &["deleted_definition_jobs in deleted-definition: no external metric of this name is \
           defined for this namespace"],
        &[
            "deleted_queue_jobs in deleted-queue: ",
            "SQS queue \"deleted-queue\" in eu-west-1 does not exist",
            "last good value 70 at ",
            "is older than maxAge 10s",
        ],
    ];
    let failed = eventually("each of them says why", SOON, || {
        let mut said = Vec::new();
        for (web, replicas) in all {
            // All through, whichever comes first.
            assert_eq!(web.replicas(), replicas, "{}: {:?}", web.namespace, web.scaling());
            let scaling = web.scaling().ok_or("no condition")?;
            if scaling.reason != "FailedGetExternalMetric" {
                return Err(format!("{}: {scaling:?}", web.namespace));
            }
            said.push(scaling);
        }
        Ok(said)
    });
    for (said, words) in failed.iter().zip(expected) {
        println!("measured: deleted: {}", said.message);
        assert_eq!(said.status, "False");
        for words in words {
            assert!(said.message.contains(words), "no {words:?} in: {}", said.message);
        }
    }
    for (web, replicas) in all {
        web.expect_unmoved(replicas, A_WHILE);
    }
}

/// What one read of a metric gives: its value, or the error's text.
fn read(world: &World, namespace: &str, metric: &str) -> Result<String, String> {
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}");
    let (code, body) = world.get_body(&path)?;
    let answer: serde_json::Value = serde_json::from_str(&body).map_err(|why| why.to_string())?;
    match code {
        200 => Ok(answer["items"][0]["value"].to_string()),
        503 => Err(answer["message"].to_string()),
        other => panic!("{other}: {body}"),
    }
}

/// With the settings that nobody made: an answer without a number is none.
#[test]
fn an_empty_answer_is_never_a_number() {
    let world = shared();
    let (series, queue) =
        (Workload::new(&world, "empty-series", 1), Workload::new(&world, "empty-queue", 1));
    world.exposition.set("empty_series_jobs", 70.0);
    series.define(&[(
        "jobs",
        "metric: empty_series\nsource: main\nprometheus: { query: 'sum(empty_series_jobs)' }\n\
         maxAge: 10s",
    )]);
    series.autoscale(&[&average("empty_series")]);
    let counts = Queue { visible: 40, in_flight: 30, ..Queue::default() };
    world.faulty_queues.queue("empty-queue", counts);
    queue.define(&[(
        "jobs",
        "metric: empty_queue\nsource: faulty\nmaxAge: 10s\n\
         sqs: { queues: [empty-queue], count: [visible, inFlight] }",
    )]);
    queue.autoscale(&[&average("empty_queue")]);
    for web in [&series, &queue] {
        web.expect_replicas(7);
    }

    world.exposition.remove("empty_series_jobs");
    let json = "application/x-amz-json-1.0";
    let half = r#"{"Attributes":{"ApproximateNumberOfMessages":"40"}}"#;
    world.faulty_queues.fault_of("empty-queue", Some(Reply::text(200, json, half)));
    let (mut values, mut errors) = ([0, 0], [0, 0]);
    let mut look = |during: Duration| {
        always("the last value, or an error", during, || {
            for (place, web) in [&series, &queue].into_iter().enumerate() {
                match read(&world, &web.namespace, &web.namespace.replace('-', "_")) {
                    Ok(value) if value == "\"70\"" => values[place] += 1,
                    Err(why) if why.contains("last good value 70 at ") => errors[place] += 1,
                    other => return Err(format!("{}: {other:?}", web.namespace)),
                }
                if web.replicas() != 7 {
                    return Err(format!("{} replicas: {:?}", web.replicas(), web.scaling()));
                }
            }
            Ok(())
        });
    };
    look(Duration::from_secs(8));
    let none = Reply::text(200, json, r#"{"Attributes":{}}"#);
    world.faulty_queues.fault_of("empty-queue", Some(none));
    look(Duration::from_secs(12));
    println!(
        "measured: an empty answer: {values:?} reads of the last value, then {errors:?} errors, no other"
    );
    assert!(values.iter().chain(&errors).all(|count| *count >= 5), "{values:?}, {errors:?}");
    let said = [series.expect_scaling("FailedGetExternalMetric").message, {
        queue.expect_scaling("FailedGetExternalMetric").message
    }];
    println!("{said:#?}");
    assert!(said[0].contains("the query gives no series (source main)"), "{}", said[0]);
    assert!(
        said[1]
            .contains("the answer has no number for ApproximateNumberOfMessages (source faulty)"),
        "{}",
        said[1]
    );

    world.exposition.set("empty_series_jobs", 50.0);
    world.faulty_queues.fault_of("empty-queue", None);
    series.expect_replicas(5);
    queue.expect_scaling("ValidMetricFound");
}
