use std::os::unix::fs::symlink;

use x509_parser::parse_x509_certificate;

use super::*;
use crate::server::testing::*;

/// Puts a pair into the directory as the kubelet does: a new directory, then a swap of `..data`.
fn publish(directory: &Path, version: &str, leaf: &Leaf) {
    let data = directory.join(format!("..{version}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("tls.crt"), &leaf.certificate).unwrap();
    std::fs::write(data.join("tls.key"), &leaf.key).unwrap();
    symlink(format!("..{version}"), directory.join("..tmp")).unwrap();
    std::fs::rename(directory.join("..tmp"), directory.join("..data")).unwrap();
}

fn files(directory: &Path) -> TlsFiles {
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
    }
    TlsFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") }
}

/// The serial number of the certificate that a new connection is shown.
async fn shown(rig: &Rig) -> Vec<u8> {
    let tls = rig.tls(None, b"h2").await;
    let chain = tls.get_ref().1.peer_certificates().unwrap();
    parse_x509_certificate(&chain[0]).unwrap().1.raw_serial().to_vec()
}

fn serial(leaf: &Leaf) -> Vec<u8> {
    let pem = x509_parser::pem::parse_x509_pem(leaf.certificate.as_bytes()).unwrap().1;
    pem.parse_x509().unwrap().raw_serial().to_vec()
}

#[tokio::test]
async fn a_new_pair_is_taken_over_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new("serving CA");
    let (first, second, third) = (ca.server(), ca.server(), ca.server());
    publish(directory.path(), "1", &first);
    let files = files(directory.path());
    let rig = Rig::with(|s| s.tls = Some(files.clone()), &[]).await;
    assert_eq!(shown(&rig).await, serial(&first));
    let not_after = "tidepole_server_certificate_not_after_timestamp_seconds";
    assert!(rig.metric(not_after).unwrap() > 1.9e9);

    let reloads = |outcome: &str| {
        let line = format!("tidepole_server_certificate_reloads_total{{outcome=\"{outcome}\"}}");
        rig.metric(&line).unwrap()
    };
    // The rig's own first connection may come before the watch is in place.
    let mut old = rig.old_client(None).await;
    publish(directory.path(), "2", &second);
    eventually("the second pair is taken over", || reloads("ok") >= 1.0).await;
    assert_eq!(shown(&rig).await, serial(&second));
    assert_eq!(old.get("/healthz", &[]).await.status, http::StatusCode::OK);

    // A key of another certificate, then rubbish: the pair in use stays.
    let mixed = Leaf { certificate: third.certificate.clone(), key: first.key.clone() };
    publish(directory.path(), "3", &mixed);
    eventually("the mixed pair is refused", || reloads("failed") >= 1.0).await;
    let rubbish = Leaf { certificate: "rubbish".to_owned(), key: third.key.clone() };
    publish(directory.path(), "4", &rubbish);
    eventually("rubbish is refused", || reloads("failed") >= 2.0).await;
    assert_eq!(shown(&rig).await, serial(&second));

    publish(directory.path(), "5", &third);
    eventually("the third pair is taken over", || reloads("ok") >= 2.0).await;
    assert_eq!(shown(&rig).await, serial(&third));
}

#[tokio::test]
async fn a_pair_that_is_handed_over_is_shown_to_the_next_connection() {
    let ca = Ca::new("serving CA");
    let given = |leaf: &Leaf| {
        let (certificate, key) = (leaf.certificate.clone().into(), leaf.key.clone().into());
        Some(Arc::new(ServingPair { certificate, key }))
    };
    let (tell, current) = tokio::sync::watch::channel(None);
    let names = vec!["tidepole.tidepole.svc".to_owned()];
    let pairs = ServingPairs { current, names };
    let rig = Rig::with(|s| s.pairs = Some(pairs.clone()), &[]).await;
    let reloads = |outcome: &str| {
        let line = format!("tidepole_server_certificate_reloads_total{{outcome=\"{outcome}\"}}");
        rig.metric(&line).unwrap()
    };
    // Nothing yet: a pair of its own, so that probes are answered.
    let own = shown(&rig).await;
    let mut old = rig.old_client(None).await;

    let first = ca.server();
    tell.send_replace(given(&first));
    eventually("the first pair is shown", || reloads("ok") >= 1.0).await;
    assert_eq!(shown(&rig).await, serial(&first));
    assert_ne!(own, serial(&first));
    assert_eq!(old.get("/healthz", &[]).await.status, http::StatusCode::OK, "it stays connected");

    // The same again is no change, and what cannot serve is not shown.
    tell.send_replace(given(&first));
    tell.send_replace(given(&Leaf {
        certificate: first.certificate.clone(),
        key: ca.server().key,
    }));
    eventually("a foreign key is refused", || reloads("failed") >= 1.0).await;
    tell.send_replace(given(&Leaf { certificate: "rubbish".to_owned(), key: "x".to_owned() }));
    eventually("rubbish is refused", || reloads("failed") >= 2.0).await;
    assert_eq!(shown(&rig).await, serial(&first));
    assert!((reloads("ok") - 1.0).abs() < f64::EPSILON);

    // A server that starts with a pair there shows it from its first connection on.
    let second = ca.server();
    tell.send_replace(given(&second));
    let later = Rig::with(|s| s.pairs = Some(pairs.clone()), &[]).await;
    assert_eq!(shown(&later).await, serial(&second));
}

#[test]
fn a_pair_that_cannot_serve_is_named_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let files = TlsFiles { certificate: path("tls.crt"), key: path("tls.key") };
    let metrics = || Arc::new(ConnectionMetrics::register(&crate::telemetry::Telemetry::new()));
    let listen = "127.0.0.1:0".parse().unwrap();
    let auth = super::super::AuthMode::Delegated;
    let settings = Settings::new(listen, auth, Some(files.clone())).unwrap();
    let error = || Certificates::load(&settings, metrics()).err().unwrap();
    assert!(matches!(error(), ServerError::ReadFile { path, .. } if path == files.certificate));
    let ca = Ca::new("serving CA");
    let leaf = ca.server();
    std::fs::write(&files.certificate, "").unwrap();
    std::fs::write(&files.key, &leaf.key).unwrap();
    let says = error().to_string();
    assert!(says.ends_with("tls.crt: holds no PEM certificate"), "{says}");
    std::fs::write(&files.certificate, &leaf.certificate).unwrap();
    std::fs::write(&files.key, "-----BEGIN PRIVATE KEY-----\nsecret\n").unwrap();
    let says = error().to_string();
    assert!(says.ends_with("tls.key: holds no usable PEM private key"), "{says}");
    std::fs::write(&files.key, ca.server().key).unwrap();
    assert!(matches!(error(), ServerError::BadPair(_)));
}
