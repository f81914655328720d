//! How much of a bare HTTPS server's speed is left when it answers authenticated metric reads.
//!
//! `cargo bench --bench serve [-- SECONDS]` starts two server processes in turn, a bare hyper and
//! rustls server with a fixed body and Tidepole, and puts the same load on both from this
//! process: HTTP/2 over TLS with a front-proxy client certificate and asserted identities,
//! 10,000 distinct metrics, authorization cache warm. Machines differ and are shared, so only the
//! ratios of one run mean anything.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark's figures are estimates, and its tasks end with the process"
)]

#[path = "load/bare.rs"]
mod bare;
#[path = "load/client.rs"]
mod client;
#[path = "load/cluster.rs"]
mod cluster;
#[path = "load/process.rs"]
mod process;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Outcome, Shape, Target};
use http_body_util::Empty;
use hyper::Request;
use process::Server;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// Distinct metrics that are read.
const METRICS: u64 = 10_000;

/// Set for the child that is the bare server.
const BARE: &str = "TIDEPOLE_BENCH_BARE_SERVER";

/// Names another program to be started in Tidepole's place: an older build, or a script that runs
/// it under a profiler.
const BINARY: &str = "TIDEPOLE_BENCH_BINARY";

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("first to install");
    if let Some(folder) = std::env::var_os(BARE) {
        let folder = Path::new(&folder);
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain(&folder.join("server.crt")), key(&folder.join("server.key")))
            .map(|mut config| {
                config.alpn_protocols = vec![b"h2".to_vec()];
                config
            })
            .expect("a server certificate");
        threads().block_on(bare::serve(tls));
        return;
    }
    let seconds = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().expect("a folder");
    let client = certificates(folder.path());
    threads().block_on(run(folder.path(), client, Duration::from_secs(seconds)));
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads")
}

async fn run(folder: &Path, tls: Arc<rustls::ClientConfig>, duration: Duration) {
    let api = cluster::start(std::fs::read_to_string(folder.join("ca.crt")).expect("ca.crt")).await;
    write_config(folder, &format!("http://{api}"));

    let mut bare = Server::start(
        Command::new(std::env::current_exe().expect("this program")).env(BARE, folder),
    );
    let bare_address = bare.wait_for(|line| line.strip_prefix("listening ")?.parse().ok());
    let binary = std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_tidepole").into());
    let started = Instant::now();
    let mut tidepole = Server::start(
        Command::new(binary)
            .args(["serve", "--log-format", "json", "--config"])
            .arg(folder.join("config.yaml")),
    );
    let tidepole_address = tidepole.wait_for(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["api"].as_str().or_else(|| line["fields"]["api"].as_str())?.parse().ok()
    });
    println!("start to listening with {METRICS} definitions: {:?}", started.elapsed());
    let target = |address| Target {
        address,
        server_name: ServerName::try_from("localhost").expect("a name"),
        tls: Arc::clone(&tls),
        request,
    };
    let (bare_target, target) = (target(bare_address), target(tidepole_address));

    // Every metric once, so that each has a value and its authorization is cached.
    warm(&target).await;
    println!("Tidepole's memory with {METRICS} metrics: {}", tidepole.memory());

    let closed = |connections, streams| Shape { connections, streams, rate: None };
    let mut half = 0.0;
    for (name, shape) in [("2 x 50, as fast as it goes", closed(2, 50)), ("1 x 1", closed(1, 1))] {
        let (b, t) = pair(&bare, &bare_target, &tidepole, &target, shape, duration).await;
        report(name, &b, &t);
        if shape.streams == 50 {
            half = b.0.per_second() / 2.0;
        }
    }
    for (name, rate) in [("2 x 50, half of bare's load", half), ("2 x 50, 5,000 reads/s", 5000.0)] {
        let shape = Shape { connections: 2, streams: 50, rate: Some(rate) };
        let (b, t) = pair(&bare, &bare_target, &tidepole, &target, shape, duration).await;
        report(name, &b, &t);
    }
    println!("Tidepole's memory after the load: {}", tidepole.memory());
}

/// An outcome and the server's CPU time per read.
type Measured = (Outcome, f64);

/// Both servers in turn, twice, so that a change of the machine's mood hits both; the second
/// round counts.
async fn pair(
    bare: &Server,
    bare_target: &Target,
    tidepole: &Server,
    target: &Target,
    shape: Shape,
    duration: Duration,
) -> (Measured, Measured) {
    measure(bare, bare_target, shape, duration / 4).await;
    measure(tidepole, target, shape, duration / 4).await;
    let b = measure(bare, bare_target, shape, duration).await;
    let t = measure(tidepole, target, shape, duration).await;
    (b, t)
}

async fn measure(server: &Server, target: &Target, shape: Shape, duration: Duration) -> Measured {
    let before = server.cpu();
    let outcome = target.load(shape, duration).await;
    let cpu = server.cpu().saturating_sub(before);
    let per_read = cpu.as_secs_f64() * 1e6 / outcome.reads.max(1) as f64;
    (outcome, per_read)
}

fn report(name: &str, (bare, bare_cpu): &Measured, (tidepole, tidepole_cpu): &Measured) {
    println!("\n{name}");
    for (who, o, cpu) in [("bare", bare, bare_cpu), ("tidepole", tidepole, tidepole_cpu)] {
        println!(
            "  {who:<9} {:>8.0} reads/s   {cpu:>5.1} us CPU/read   p50 {:>5} us   p99 {:>5} us",
            o.per_second(),
            o.percentile_us(0.5),
            o.percentile_us(0.99)
        );
    }
    println!(
        "  ratio     {:>8.2}           {:>5.2}                p50 {:>5.2}      p99 {:>5.2}",
        tidepole.per_second() / bare.per_second(),
        tidepole_cpu / bare_cpu,
        f64::from(tidepole.percentile_us(0.5)) / f64::from(bare.percentile_us(0.5).max(1)),
        f64::from(tidepole.percentile_us(0.99)) / f64::from(bare.percentile_us(0.99).max(1)),
    );
}

/// What a kube-apiserver sends on behalf of the HPA controller.
fn request(number: u64) -> Request<Empty<Bytes>> {
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

async fn warm(target: &Target) {
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

fn write_config(folder: &Path, api: &str) {
    std::fs::write(
        folder.join("kubeconfig"),
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"{api}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        ),
    )
    .expect("kubeconfig");
    std::fs::write(
        folder.join("config.yaml"),
        "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\nserver:\n  listen: 127.0.0.1:0\n  tls: { certFile: server.crt, keyFile: server.key }\n  auth: delegated\nadmin: { listen: 127.0.0.1:0 }\nkubernetes: { enabled: true, kubeconfig: kubeconfig }\nsources: [{ name: sim, simulated: {} }]\ndefinitions: { paths: [metrics.yaml] }\n",
    )
    .expect("config.yaml");
    let mut documents = String::new();
    for number in 0..METRICS {
        let _ = write!(
            documents,
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{ name: metric-{number:05} }}\nspec: {{ metric: metric_{number:05}, labels: {{ queue: jobs }}, refresh: 60s, maxAge: 10m, keepWarm: true, simulated: {{ constant: \"{number}\" }} }}\n"
        );
    }
    std::fs::write(folder.join("metrics.yaml"), documents).expect("metrics.yaml");
}

/// Makes a CA, a serving pair and a front-proxy client pair; gives the client's TLS side.
fn certificates(folder: &Path) -> Arc<rustls::ClientConfig> {
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

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
