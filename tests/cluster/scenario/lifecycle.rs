//! The adapter comes and goes, and its certificates change; HPAs hold still meanwhile.

use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::control_plane::run;
use crate::pki::{Authority, Usage};
use crate::process::{always, eventually};
use crate::read;
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
            Err(error) if error.contains("HTTP/1.1 5") => Ok(error),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(red.contains("shutdown") || red.contains("shutting"), "{red}");
    let answer = world.get_raw(path).expect("reads are answered during the grace");
    assert!(answer.contains("\"40\""), "{answer}");

    // Not `stop`, which would be a second SIGTERM: that one cuts the grace short.
    assert_eq!(adapter.process.wait(Duration::from_secs(45)), 0);
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
    let (right_cert, right_key) = (read(&cert), read(&key));

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
            Ok((503, body)) if body.contains("x509") => Ok(()),
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

/// A new authority: first both in the bundle, then the new pair, then the new one alone. A client
/// that reads all the time sees no failure.
#[test]
fn rotating_the_authority_fails_no_read() {
    let world = exclusive();
    let web = steady(&world, "rotation");
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/rotation/rotation";
    let certificates = &world.installation.certificates;
    let old_bundle = read(&certificates.join("ca.crt"));

    let folder = tempfile::tempdir().expect("a folder can be made");
    let next = Authority::new(folder.path(), "next-ca");
    let pair = next.issue("next", None, &["tidepole.tidepole.svc"], Usage::Server);
    let new_bundle = read(&next.file);

    let steps: [(&str, &dyn Fn()); 4] = [
        ("both authorities are trusted", &|| {
            trust(&world, &[old_bundle.as_slice(), new_bundle.as_slice()].concat());
        }),
        ("the new pair is served", &|| {
            std::fs::copy(&pair.key, certificates.join("tls.key")).expect("the folder is ours");
            std::fs::copy(&pair.cert, certificates.join("tls.crt")).expect("the folder is ours");
            std::fs::copy(&next.file, certificates.join("ca.crt")).expect("the folder is ours");
        }),
        ("the certificate file has been read again", &|| {}),
        ("the new authority alone is trusted", &|| trust(&world, &new_bundle)),
    ];
    for (what, change) in steps {
        change();
        always(what, A_WHILE, || match world.get_body(path) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let active = web.expect_scaling("ValidMetricFound");
    assert_eq!(active.status, "True");
}

/// Makes `bundle` what the API server verifies the adapter's certificate with.
fn trust(world: &World, bundle: &[u8]) {
    let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
    let patch = format!("{{\"spec\":{{\"caBundle\":\"{bundle}\"}}}}");
    let mut kubectl = world.plane.kubectl();
    kubectl.args(["patch", "apiservice", "v1beta1.external.metrics.k8s.io", "--type=merge"]);
    run(kubectl.args(["--patch", &patch])).expect("the APIService takes a bundle");
}
