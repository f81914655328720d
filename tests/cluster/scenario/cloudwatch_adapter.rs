//! The resources of k8s-cloudwatch-adapter, under its definition as we ship it: its SQS sample with an
//! HPA, a queue that nobody uses, and resources that are wrong.

use std::time::Duration;

use crate::aws_fakes::cloudwatch::Metric;
use crate::control_plane::run;
use crate::process::eventually;
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{World, shared};

/// The original's `samples/sqs/deploy/externalmetric.yaml`.
const SAMPLE: &str = include_str!("../../recorded/k8s_cloudwatch_adapter/resources/01.yaml");

/// The definition that we ship.
const DEFINITION: &str = include_str!("../../../deploy/crds/metrics.aws_externalmetrics.yaml");

fn queue(name: &str) -> Metric {
    Metric::new("AWS/SQS", "ApproximateNumberOfMessagesVisible").dim("QueueName", name)
}

/// The sample under another name, of another queue, in a namespace. There are several AWS sources in
/// this world, and it is the only one that has to say which.
fn resource(namespace: &str, name: &str, queue: &str) -> String {
    SAMPLE
        .replace("sqs-helloworld-length", name)
        .replace("\"helloworld\"", &format!("{queue:?}"))
        .replace(
            "metadata:\n",
            &format!(
                "metadata:\n  namespace: {namespace}\n  annotations: {{ tidepole.dev/source: aws }}\n"
            ),
        )
}

fn define(world: &World) {
    world.plane.apply(DEFINITION);
    let mut wait = world.plane.kubectl();
    wait.args(["wait", "--for=condition=Established", "--timeout=30s"]);
    run(wait.arg("crd/externalmetrics.metrics.aws")).expect("the definition is taken");
}

fn external(metric: &str) -> String {
    format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"30\" }} }} }}"
    )
}

#[test]
fn the_originals_sample_scales_and_an_idle_queue_is_zero() {
    let world = shared();
    define(&world);
    let web = Workload::new(&world, "cloudwatch-adapter", 1);
    world.cloudwatch.generate(&queue("helloworld"), |_, _| Some(90.0));
    world.plane.apply(&resource("cloudwatch-adapter", "sqs-helloworld-length", "helloworld"));
    web.autoscale(&[&external("sqs-helloworld-length")]);
    web.expect_replicas(3);
    // A selector says nothing, and no other namespace sees it.
    let read = |namespace, selector| world.read(namespace, "sqs-helloworld-length", selector);
    assert_eq!(read("cloudwatch-adapter", "queue=other"), ["90"]);
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/sqs-helloworld-length";
    let (status, said) = world.get_body(path).expect("it is answered");
    assert_eq!(status, 404, "{said}");

    // What was accepted once is accepted, and touches nobody else.
    let wrong = resource("cloudwatch-adapter", "wrong", "helloworld");
    world.plane.apply(&wrong.replace("period: 60", "period: \"60\""));
    let dead = resource("cloudwatch-adapter", "dead-fields", "helloworld");
    let dead =
        dead.replace("spec:\n", "spec:\n  resource: { resource: deployment }\n  roleArn: null\n");
    world.plane.apply(&dead);
    eventually("the resource with dead fields is served", SOON, || {
        let path = path.replace("default/sqs-helloworld-length", "cloudwatch-adapter/dead-fields");
        match world.get_body(&path) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let kept = run(world.plane.kubectl().args([
        "--namespace=cloudwatch-adapter",
        "get",
        "externalmetrics.metrics.aws",
        "dead-fields",
        "--output=jsonpath={.spec.resource.resource}",
    ]));
    assert_eq!(kept.as_deref(), Ok("deployment"));
    web.expect_unmoved(3, A_WHILE);

    // CloudWatch has nothing about a queue that nobody uses: scaled in, and visible.
    world.plane.apply(&resource("cloudwatch-adapter", "idle", "nobody-uses-me"));
    web.autoscale(&[&external("idle")]);
    web.expect_replicas(1);
    eventually("it is counted", Duration::from_secs(10), || {
        let count = world.counted("tidepole_metrics_served_without_data", &[]);
        if count >= 1.0 { Ok(()) } else { Err(count.to_string()) }
    });

    // These resources have no status; Events tell what is the matter with them.
    expect_event(&world, "idle", &["Normal", "NoDataAsZero", "0 is served"]);
    expect_event(&world, "wrong", &["Warning", "Invalid", "spec.queries[0]", "period"]);
}

/// Waits until the description of a resource has an Event of ours with these words.
fn expect_event(world: &World, name: &str, words: &[&str]) {
    // Others' Events wait for their turn as well: one a second is published.
    eventually("the resource has the Event", SOON * 2, || {
        let mut describe = world.plane.kubectl();
        describe.args(["--namespace=cloudwatch-adapter", "describe"]);
        let text = run(describe.args(["externalmetrics.metrics.aws", name]))?;
        let ours = text.lines().filter(|line| line.contains(" tidepole"));
        let meant = ours.filter(|line| words.iter().all(|words| line.contains(words)));
        if meant.count() > 0 { Ok(()) } else { Err(text) }
    });
}
