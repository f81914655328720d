//! The adapter comes and goes; HPAs hold still meanwhile.

use std::time::{Duration, Instant};

use crate::pki::{Authority, Usage};
use crate::process::eventually;
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{World, exclusive};

fn steady<'a>(world: &'a World, namespace: &str) -> Workload<'a> {
    let web = Workload::new(world, namespace, 1);
    let metric = namespace.replace('-', "_");
    world.exposition.set(&metric, 40.0);
    let spec = format!(
        "metric: {metric}\nsource: main\nrefresh: 1s\nprometheus: {{ query: 'sum({metric})' }}"
    );
    web.define(&[("steady", &spec)]);
    web.autoscale(&[&format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"10\" }} }} }}"
    )]);
    web.expect_replicas(4);
    web
}

#[test]
fn hpa_survives_a_crash_of_the_adapter() {
    let world = exclusive();
    let web = steady(&world, "crash");
    let mut adapter = world.take_adapter();
    adapter.process.signal("KILL");
    drop(adapter);
    world.exposition.set("crash", 80.0);
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert_eq!(failed.status, "False");
    web.expect_unmoved(4, A_WHILE);

    world.start_adapter();
    web.expect_replicas(8);
}

#[test]
fn sigterm_turns_readiness_red_answers_reads_and_exits_0() {
    let world = exclusive();
    let web = steady(&world, "sigterm");
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/sigterm/sigterm";
    let mut adapter = world.take_adapter();
    let asked = Instant::now();
    adapter.process.signal("TERM");
    // Red while the listeners are still open, so that traffic moves away before they close.
    let red = eventually("readiness is red", Duration::from_secs(5), || {
        match world.installation.admin("/readyz") {
            Err(error) if error.contains(" 503 ") => Ok(error),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(red.contains("shutdown") || red.contains("shutting"), "{red}");
    let answer = world.get_raw(path).expect("reads are answered during the grace");
    assert!(answer.contains("\"40\""), "{answer}");

    assert_eq!(adapter.process.stop(Duration::from_secs(45)), 0);
    println!("from SIGTERM to exit: {:?}", asked.elapsed());
    web.expect_unmoved(4, A_WHILE);
    world.start_adapter();
    web.expect_scaling("ValidMetricFound");
    web.expect_replicas(4);
}

/// A certificate for another name: reads fail with the reason; the right one on disk is enough.
#[test]
fn wrong_certificate_is_mended_without_a_restart() {
    let world = exclusive();
    let web = steady(&world, "certificate");
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/certificate/certificate";
    let certificates = &world.installation.certificates;
    let (cert, key) = (certificates.join("tls.crt"), certificates.join("tls.key"));
    let right = (std::fs::read(&cert), std::fs::read(&key));
    let (Ok(right_cert), Ok(right_key)) = right else { panic!("the pair is readable") };

    let folder = tempfile::tempdir().expect("a folder can be made");
    let stranger = Authority::new(folder.path(), "stranger-ca");
    let wrong = stranger.issue("elsewhere", None, &["elsewhere.example"], Usage::Server);
    assert_eq!(world.take_adapter().process.stop(Duration::from_secs(45)), 0);
    std::fs::copy(&wrong.cert, &cert).expect("the folder is ours");
    std::fs::copy(&wrong.key, &key).expect("the folder is ours");
    // Not `start_adapter`: the cluster is not going to reach this one.
    let adapter = world.installation.start();
    let restore = || {
        std::fs::write(&key, &right_key).expect("the folder is ours");
        std::fs::write(&cert, &right_cert).expect("the folder is ours");
    };
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("reads fail on the certificate", SOON, || match world.get_body(path) {
            (503, body) if body.contains("x509") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        web.expect_scaling("FailedGetExternalMetric");
        web.expect_unmoved(4, A_WHILE);
    }));
    restore();
    if let Err(panic) = seen {
        drop(adapter);
        std::panic::resume_unwind(panic);
    }
    eventually("reads work again", SOON, || world.get_raw(path).map(drop));
    web.expect_scaling("ValidMetricFound");
    drop(adapter);
}
