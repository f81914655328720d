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
#[expect(dead_code, reason = "when a read was made is another benchmark's business")]
#[path = "load/client.rs"]
mod client;
#[path = "load/cluster.rs"]
mod cluster;
#[path = "load/process.rs"]
mod process;
#[expect(dead_code, reason = "nobody looks at the admin listener here")]
#[path = "load/site.rs"]
mod site;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Outcome, Shape, Target};
use process::Server;
use rustls_pki_types::ServerName;
use site::{METRICS, Started, certificates, chain, key, request, warm};

/// Set for the child that is the bare server.
const BARE: &str = "TIDEPOLE_BENCH_BARE_SERVER";

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
    let started = Instant::now();
    let Started { server: tidepole, api: tidepole_address, .. } = site::start(folder, &[]);
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

fn write_config(folder: &Path, api: &str) {
    site::write_kubeconfig(folder, api);
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
