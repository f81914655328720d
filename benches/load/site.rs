//! A Tidepole server with what it needs around it: certificates, a kubeconfig, and the requests that
//! come from a cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Target;
use crate::process::Server;

/// Distinct metrics that are read.
pub(crate) const METRICS: u64 = 10_000;

/// Names another program to be started in Tidepole's place: an older build, or a script that runs
/// it under a profiler.
const BINARY: &str = "TIDEPOLE_BENCH_BINARY";

/// A server that listens.
pub(crate) struct Started {
    pub(crate) server: Server,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Starts Tidepole on `config.yaml` of a folder.
pub(crate) fn start(folder: &Path, environment: &[(&str, &str)]) -> Started {
    let binary = std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_tidepole").into());
    let mut server = Server::start(
        Command::new(binary)
            .envs(environment.iter().copied())
            .args(["serve", "--log-format", "json", "--config"])
            .arg(folder.join("config.yaml")),
    );
    let (api, admin) = server.wait_for(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let address = |name: &str| line[name].as_str()?.parse().ok();
        Some((address("api")?, address("admin")?))
    });
    Started { server, api, admin }
}

/// What a kube-apiserver sends on behalf of the HPA controller.
pub(crate) fn request(number: u64) -> Request<Empty<Bytes>> {
    let metric = number % METRICS;
    Request::get(format!(
        "https://localhost/apis/external.metrics.k8s.io/v1beta1/namespaces/default/metric_{metric:05}?labelSelector=queue%3Djobs"
    ))
    .header("accept", "application/vnd.kubernetes.protobuf, */*")
    .header("user-agent", "kube-controller-manager/v1.34.4 (linux/amd64) kubernetes/abcdef0/system:serviceaccount:kube-system:horizontal-pod-autoscaler")
    .header("audit-id", "6d1ba8a9-0b0f-4f0f-9c5f-2f1f8b0a7c11")
    .header("x-forwarded-for", "127.0.0.1")
    .header("x-remote-user", "system:serviceaccount:kube-system:horizontal-pod-autoscaler")
    .header("x-remote-group", "system:serviceaccounts")
    .header("x-remote-group", "system:serviceaccounts:kube-system")
    .header("x-remote-group", "system:authenticated")
    .body(Empty::new())
    .expect("a request")
}

/// Reads every metric once, so that each has a value and its authorization is cached.
pub(crate) async fn warm(target: &Target) {
    let mut sender = target.connect().await;
    let start = Instant::now();
    for number in 0..METRICS {
        loop {
            let response = sender.send_request(request(number)).await.expect("an answer");
            if response.status().is_success() {
                break;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "{}", response.status());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A kubeconfig for an API server without authentication.
pub(crate) fn write_kubeconfig(folder: &Path, api: &str) {
    std::fs::write(
        folder.join("kubeconfig"),
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"{api}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        ),
    )
    .expect("kubeconfig");
}

/// Makes a CA, a serving pair and a front-proxy client pair; gives the client's TLS side.
pub(crate) fn certificates(folder: &Path) -> Arc<rustls::ClientConfig> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench-ca");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("ca");
    let leaf = |name: &str, usage| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &ca).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    };
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect(name);
    write("ca.crt", &ca.pem());
    for (file, name, usage) in [
        ("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", "front-proxy-client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let (certificate, key) = leaf(name, usage);
        write(&format!("{file}.crt"), &certificate);
        write(&format!("{file}.key"), &key);
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(chain(&folder.join("ca.crt")));
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&folder.join("client.crt")), key(&folder.join("client.key")))
        .expect("a client certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The certificates of a PEM file.
pub(crate) fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The private key of a PEM file.
pub(crate) fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
