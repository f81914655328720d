//! What `kubectl describe` tells about a metric resource, and who writes it.

use std::time::{Duration, Instant};

use crate::aws_fakes::Queue;
use crate::aws_fakes::Sqs;
use crate::control_plane::run;
use crate::process::eventually;
use crate::workload::SOON;
use crate::world::{World, exclusive, shared};

/// Installs the kind, if nobody has yet: here only that it has a status matters.
fn install(world: &World) {
    let known = run(world.plane.kubectl().args(["get", "crd", "externalmetrics.tidepole.dev"]));
    if known.is_err() {
        world.plane.apply(
            "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: externalmetrics.tidepole.dev }
spec:
  group: tidepole.dev
  scope: Namespaced
  names: { kind: ExternalMetric, plural: externalmetrics, singular: externalmetric }
  versions:
    - name: v1alpha1
      served: true
      storage: true
      subresources: { status: {} }
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: { type: object, x-kubernetes-preserve-unknown-fields: true }
            status: { type: object, x-kubernetes-preserve-unknown-fields: true }
",
        );
    }
    run(world.plane.kubectl().args([
        "wait",
        "crd/externalmetrics.tidepole.dev",
        "--for=condition=Established",
        "--timeout=30s",
    ]))
    .expect("the kind is established");
}

fn namespace(world: &World, name: &str) {
    world
        .plane
        .apply(&format!("{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {name} }} }}"));
}

fn metric(world: &World, namespace: &str, name: &str, spec: &str) {
    world.plane.apply(&format!(
        "{{ apiVersion: tidepole.dev/v1alpha1, kind: ExternalMetric, \
         metadata: {{ name: {name}, namespace: {namespace} }}, spec: {{ {spec} }} }}"
    ));
}

/// An HPA that asks for a metric; of a Deployment that is not there, because only the asking matters.
fn hpa(world: &World, namespace: &str, name: &str, metric: &str) {
    world.plane.apply(&format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: nothing }}
  minReplicas: 1
  maxReplicas: 2
  metrics:
    - type: External
      external: {{ metric: {{ {metric} }}, target: {{ type: AverageValue, averageValue: \"10\" }} }}
"
    ));
}

fn describe(world: &World, namespace: &str, name: &str) -> Result<String, String> {
    let mut kubectl = world.plane.kubectl();
    kubectl.arg(format!("--namespace={namespace}"));
    run(kubectl.args(["describe", "externalmetrics.tidepole.dev", name]))
}

/// Waits until the description has all of these words; gives it.
fn expect(world: &World, name: &str, words: &[&str]) -> String {
    // A refused permission is asked for again within a minute.
    eventually(name, SOON * 2, || {
        let text = describe(world, "status", name)?;
        match words.iter().find(|words| !text.contains(**words)) {
            None => Ok(text),
            Some(missing) => Err(format!("no {missing:?} in\n{text}")),
        }
    })
}

#[test]
fn describe_tells_why_an_hpa_has_no_value() {
    let world = shared();
    install(&world);
    namespace(&world, "status");
    namespace(&world, "status-elsewhere");
    let queue = |name: &str| {
        format!("source: faulty, refresh: 1s, maxAge: 10s, sqs: {{ queues: [{name}] }}")
    };
    world.faulty_queues.queue("status-stale", Queue { visible: 5, ..Queue::default() });
    world.faulty_queues.queue("status-denied", Queue::default());
    let denied = Sqs::error(403, "AccessDenied", "not authorized to perform this");
    world.faulty_queues.fault_of("status-denied", Some(denied));
    for (name, spec) in [
        ("no-queue", queue("status-nowhere")),
        ("denied", queue("status-denied")),
        ("stale", queue("status-stale")),
        ("no-data", "source: main, prometheus: { query: status_nothing }".to_owned()),
        ("selector", "source: sim, labels: { queue: a }, simulated: { constant: '7' }".to_owned()),
        ("elsewhere", "source: sim, simulated: { constant: '7' }".to_owned()),
        ("unused", "source: sim, simulated: { constant: '7' }".to_owned()),
        ("refused", "source: nowhere, prometheus: { query: up }".to_owned()),
    ] {
        metric(&world, "status", name, &spec);
    }
    for name in ["no-queue", "denied", "stale", "no-data"] {
        hpa(&world, "status", name, &format!("name: {name}"));
    }
    hpa(&world, "status", "selector", "name: selector, selector: { matchLabels: { queue: b } }");
    hpa(&world, "status-elsewhere", "elsewhere", "name: elsewhere");

    expect(&world, "stale", &["True", "Serving", "Value:  "]);
    let broken = Sqs::error(500, "InternalError", "the queue's host is away");
    world.faulty_queues.fault_of("status-stale", Some(broken));
    for (name, words) in [
        ("no-queue", &["Invalid", "does not exist", "Warning"][..]),
        ("denied", &["Denied", "Warning", "(source faulty)"]),
        ("no-data", &["NoData", "gives no series", "Warning"]),
        (
            "selector",
            &["SelectorMatchesNothing", "no series matches the selector \"queue=b\"", "Warning"],
        ),
        (
            "elsewhere",
            &[
                "NotSeenInNamespace",
                "Missed By",
                "because it is seen in namespace status alone",
                "Warning",
            ],
        ),
        ("unused", &["NotUsed", "no HPA refers to it"]),
        (
            "refused",
            &["SourceNotFound", "there is no source \"nowhere\"", "NotAccepted", "Warning"],
        ),
        ("stale", &["last good value 5 at", "is older than maxAge 10s", "Warning"]),
    ] {
        let text = expect(&world, name, words);
        println!("{text}");
    }
    world.faulty_queues.fault_of("status-stale", None);
    expect(&world, "stale", &["Recovered"]);
    for name in ["status", "status-elsewhere"] {
        let _ = run(world.plane.kubectl().args(["delete", "namespace", name, "--wait=false"]));
    }
}

/// Who holds the lease.
fn holder(world: &World) -> Result<String, String> {
    let mut kubectl = world.plane.kubectl();
    kubectl.args(["--namespace=tidepole", "get", "lease", "tidepole"]);
    run(kubectl.arg("--output=jsonpath={.spec.holderIdentity}"))
}

#[test]
fn another_replica_writes_when_the_first_is_killed() {
    let world = exclusive();
    install(&world);
    namespace(&world, "status-lease");
    eventually("the first replica holds the lease", SOON * 2, || match holder(&world)? {
        holder if holder.starts_with("tidepole_") => Ok(()),
        other => Err(other),
    });
    let twin = world.installation.twin();
    let other = twin.start();
    metric(&world, "status-lease", "jobs", "source: sim, simulated: { constant: '7' }");
    let told = |words: &str| {
        let text = describe(&world, "status-lease", "jobs")?;
        if text.contains(words) { Ok(()) } else { Err(text) }
    };
    eventually("the first one writes", SOON, || told("NotUsed"));
    let written = twin.counted("tidepole_resource_status_writes_total", &["written"]);
    assert!(written.abs() < 0.5, "{written} writes of the one that waits");
    let mut first = world.take_adapter();
    first.process.signal("KILL");
    drop(first);
    let killed = Instant::now();
    hpa(&world, "status-lease", "web", "name: jobs");
    eventually("the other one holds the lease", SOON, || match holder(&world)? {
        holder if holder.starts_with("tidepole-twin_") => Ok(()),
        other => Err(other),
    });
    let took = killed.elapsed();
    eventually("the other one writes", SOON, || told("Serving"));
    println!(
        "measured: lease taken {took:?}, status written {:?} after the kill",
        killed.elapsed()
    );
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(other.process.stop(Duration::from_secs(45)), 0);
    assert_eq!(holder(&world).as_deref(), Ok(""), "given back");
    let delete = ["delete", "namespace", "status-lease", "--wait=false"];
    let _ = run(world.plane.kubectl().args(delete));
    world.start_adapter();
}
