//! What a read takes while 10,000 metrics are refreshed in a burst, against one with an idle
//! refresher, in one run.
//!
//! `cargo bench --bench read_burst [-- SECONDS [READS_PER_SECOND]]` (120 and 2,000 unless told)
//! starts Tidepole with 10,000 `CloudWatch` metrics of one period, so that all of them are due in one
//! millisecond, every ten seconds: twenty calls whose answers are decoded and stored. The service is
//! the tests' fake, in a process of its own that only gets what time the others leave. Reads come at a
//! steady rate, HTTP/2 over TLS with a front-proxy client certificate, as the HPA controller's.
//!
//! When the refresher worked is not assumed but looked up: the processor time of its thread, every few
//! milliseconds. Every read falls into a burst or well outside of all, so that both kinds come from
//! the same seconds and what else the machine does hits both.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark's figures are estimates, and its tasks end with the process"
)]

#[expect(dead_code, reason = "reads are told apart here before they are counted")]
#[path = "load/client.rs"]
mod client;
#[path = "load/cluster.rs"]
mod cluster;
#[path = "../tests/support/upstream.rs"]
mod fake;
#[expect(dead_code, reason = "what the server uses is looked up by thread here")]
#[path = "load/process.rs"]
mod process;
#[path = "load/site.rs"]
mod site;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Outcome, Read, Shape, Target, percentile_us};
use process::Server;
use rustls_pki_types::ServerName;
use site::{METRICS, Started, certificates, request, warm, write_kubeconfig};

/// Set for the child that is the fake service.
const UPSTREAM: &str = "TIDEPOLE_BENCH_UPSTREAM";

/// What that says when it listens, before its URL.
const LISTENING: &str = "listening ";

/// From one burst to the next: the shortest refresh of `CloudWatch` metrics.
const PERIOD: Duration = Duration::from_secs(10);

/// What a call takes beside its answer's making.
const LATENCY: Duration = Duration::from_millis(5);

/// The refresher's thread is looked at so often.
const LOOK: Duration = Duration::from_millis(5);

/// The part of a look's time from which on the refresher counts as working.
const WORKING: f64 = 0.2;

/// Work that is no further apart belongs to one burst: calls are under way.
const TOGETHER: Duration = Duration::from_millis(200);

/// What takes the refresher less is no burst, but its daily round.
const BURST: Duration = Duration::from_millis(10);

/// Reads this close to a burst are neither in it nor idle.
const MARGIN: Duration = Duration::from_millis(250);

/// What is asked for.
const TARGET: f64 = 1.5;

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("first to install");
    if std::env::var_os(UPSTREAM).is_some() {
        serve_upstream();
    }
    let mut numbers = std::env::args().filter_map(|a| a.parse::<u32>().ok());
    let seconds = numbers.next().unwrap_or(120).max(30);
    let rate = numbers.next().unwrap_or(2000);
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificates(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let duration = Duration::from_secs(u64::from(seconds));
    runtime.expect("threads").block_on(run(folder.path(), tls, duration, f64::from(rate)));
}

/// The fake service, until it is killed: every metric has a datapoint in every bucket.
fn serve_upstream() -> ! {
    let service = fake::CloudWatch::start();
    service.generate_all(|_, bucket| Some((bucket % 1000) as f64));
    service.delay(LATENCY);
    println!("{LISTENING}{}", service.url());
    std::io::stdout().flush().expect("somebody reads");
    loop {
        std::thread::park();
    }
}

async fn run(folder: &Path, tls: Arc<rustls::ClientConfig>, duration: Duration, rate: f64) {
    let api = cluster::start(std::fs::read_to_string(folder.join("ca.crt")).expect("ca.crt")).await;
    // The fake gets what time is left: on a small machine its work would be taken for the server's.
    let program = std::env::current_exe().expect("a running program has a path");
    let mut upstream =
        Server::start(Command::new("nice").args(["-n", "19"]).arg(program).env(UPSTREAM, "1"));
    let url = upstream.wait_for(|line| line.strip_prefix(LISTENING).map(str::to_owned));
    write_config(folder, &format!("http://{api}"), &url);
    let Started { server, api, admin } = site::start(
        folder,
        &[
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ],
    );
    let server_name = ServerName::try_from("localhost").expect("a name");
    let target = Target { address: api, server_name, tls, request };
    warm(&target).await;

    let shape = |rate| Shape { connections: 2, streams: 50, rate: Some(rate) };
    target.load(shape(rate), Duration::from_secs(5)).await;
    let before = asked(admin);
    let work = Work::watch(&server);
    let outcome = target.load(shape(rate), duration).await;
    let bursts = work.bursts();
    let metrics = asked(admin) - before;
    report(&outcome, &bursts, metrics);
}

/// Processor time of the refresher's thread, looked at again and again.
struct Work {
    stop: Arc<AtomicBool>,
    looks: std::thread::JoinHandle<Vec<(Instant, Duration)>>,
}

/// A time in which the refresher worked, and how much.
struct Burst {
    begin: Instant,
    end: Instant,
    spent: Duration,
}

impl Work {
    fn watch(server: &Server) -> Self {
        let threads = refreshing(server.0.id());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looks = std::thread::spawn(move || {
            let mut looks = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                looks.push((Instant::now(), threads.iter().map(|thread| spent(thread)).sum()));
                std::thread::sleep(LOOK);
            }
            looks
        });
        Self { stop, looks }
    }

    fn bursts(self) -> Vec<Burst> {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.join().expect("looking does not fail");
        let mut bursts: Vec<Burst> = Vec::new();
        for pair in looks.windows(2) {
            let [(begin, before), (end, after)] = [pair[0], pair[1]];
            let spent = after.saturating_sub(before);
            if spent.as_secs_f64() < WORKING * (end - begin).as_secs_f64() {
                continue;
            }
            match bursts.last_mut().filter(|last| begin - last.end <= TOGETHER) {
                Some(last) => (last.end, last.spent) = (end, last.spent + spent),
                None => bursts.push(Burst { begin, end, spent }),
            }
        }
        bursts
    }
}

/// The threads of a process on which everything but reads is done.
fn refreshing(process: u32) -> Vec<PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("/proc");
    let threads: Vec<PathBuf> = threads
        .flatten()
        .map(|thread| thread.path())
        .filter(|thread| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "refresh")
        })
        .collect();
    assert!(!threads.is_empty(), "the refresher has a thread");
    threads
}

/// A thread's processor time so far.
fn spent(thread: &Path) -> Duration {
    // One that has ended does nothing any more.
    let stat = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let spent = stat.split_whitespace().next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(spent.unwrap_or(0))
}

fn report(outcome: &Outcome, bursts: &[Burst], metrics: f64) {
    let (bursts, rounds): (Vec<&Burst>, Vec<&Burst>) =
        bursts.iter().partition(|burst| burst.spent >= BURST);
    let within = |read: &Read, margin: Duration, bursts: &[&Burst]| {
        let sent = outcome.start + Duration::from_micros(u64::from(read.sent_us));
        let done = sent + Duration::from_micros(u64::from(read.took_us));
        bursts.iter().any(|b| sent <= b.end + margin && done + margin >= b.begin)
    };
    // By latency, as all of them are.
    let busy: Vec<Read> =
        outcome.each.iter().filter(|r| within(r, Duration::ZERO, &bursts)).copied().collect();
    let idle: Vec<Read> =
        outcome.each.iter().filter(|r| !within(r, MARGIN, &bursts)).copied().collect();
    let count = bursts.len().max(1) as f64;
    let mean = |part: fn(&Burst) -> Duration| {
        bursts.iter().map(|burst| part(burst)).sum::<Duration>().div_f64(count)
    };
    println!(
        "{} reads, {:.0} a second; {} bursts of {:.0} metrics each, {:.0?} long, {:.0?} of processor ({} shorter bits of work)",
        outcome.reads,
        outcome.per_second(),
        bursts.len(),
        metrics / count,
        mean(|burst| burst.end - burst.begin),
        mean(|burst| burst.spent),
        rounds.len(),
    );
    let bursts_due = outcome.elapsed.as_secs() / PERIOD.as_secs();
    assert!(bursts.len() as u64 + 1 >= bursts_due, "{} bursts, {bursts_due} are due", bursts.len());
    assert!(metrics + 1.0 >= METRICS as f64 * (bursts_due - 1) as f64, "{metrics} metrics asked");
    let mut line = String::new();
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let (idle, busy) = (percentile_us(&idle, share), percentile_us(&busy, share));
        let ratio = f64::from(busy) / f64::from(idle.max(1));
        let _ = write!(line, "  {name} {idle} -> {busy} us ({ratio:.2})");
    }
    println!("idle ({} reads) -> in a burst ({} reads):{line}", idle.len(), busy.len());
    let ratio =
        f64::from(percentile_us(&busy, 0.99)) / f64::from(percentile_us(&idle, 0.99).max(1));
    let kept = if ratio <= TARGET { "kept" } else { "MISSED" };
    println!("p99 in a burst is {ratio:.2} times that of an idle refresher: {TARGET} {kept}");
}

/// `CloudWatch` metrics that Tidepole has asked for so far.
fn asked(admin: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(admin).expect("the admin listener listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let line =
        answer.lines().find(|l| l.starts_with("tidepole_cloudwatch_metrics_requested_total{"));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no count of metrics in {answer}"))
}

fn write_config(folder: &Path, api: &str, upstream: &str) {
    write_kubeconfig(folder, api);
    std::fs::write(
        folder.join("config.yaml"),
        format!(
            "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\nserver:\n  listen: 127.0.0.1:0\n  tls: {{ certFile: server.crt, keyFile: server.key }}\n  auth: delegated\nadmin: {{ listen: 127.0.0.1:0 }}\nkubernetes: {{ enabled: true, kubeconfig: kubeconfig }}\nsources: [{{ name: aws, aws: {{ region: eu-west-1, cloudwatchEndpointUrl: \"{upstream}\" }} }}]\ndefinitions: {{ paths: [metrics.yaml] }}\n"
        ),
    )
    .expect("config.yaml");
    let mut documents = String::new();
    for number in 0..METRICS {
        let _ = write!(
            documents,
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{ name: metric-{number:05} }}\nspec:\n  metric: metric_{number:05}\n  labels: {{ queue: jobs }}\n  keepWarm: true\n  refresh: 10s\n  cloudwatch: {{ metric: {{ namespace: Bench, name: Depth, dimensions: {{ Queue: \"queue-{number:05}\" }}, statistic: Average, period: 10s }} }}\n"
        );
    }
    std::fs::write(folder.join("metrics.yaml"), documents).expect("metrics.yaml");
}
