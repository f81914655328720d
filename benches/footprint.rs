//! What the server costs while it does nothing: size of the binary, time from start to ready,
//! resident memory idle and with many metrics, and how long the status pages take with so many.
//!
//! `cargo bench --bench footprint [-- METRICS]` (100,000 unless told; the pages' bound, a first byte
//! within 50 ms, is for 10,000). Needs no cluster and no
//! network beyond loopback. The figures of a machine depend on its number of cores: every serving
//! thread has its own heap.

#[expect(dead_code, reason = "CPU time is another benchmark's business")]
#[path = "load/process.rs"]
mod process;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use process::Server;

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_tidepole");

/// Starts that are timed; their median counts.
const STARTS: usize = 7;

/// Documents in one definition file: well within the bounds on a file.
const DOCUMENTS: u32 = 1000;

/// Status pages that are timed: those that look at all metrics, and what takes them longest.
const PAGES: [&str; 5] = [
    "/",
    "/browse",
    "/browse?sort=-value",
    "/browse?q=metric_0000&sort=source",
    "/metric?definition=ClusterExternalMetric+metric-000007&scope=all+namespaces",
];

/// Times that each is looked at; their median counts.
const LOOKS: usize = 21;

/// Memory is looked at so long after the server is ready.
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let metrics = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(100_000_u32);
    let bytes = std::fs::metadata(BINARY).expect("the binary is there").len();
    println!("binary: {} MB", bytes / 1_000_000);

    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo.yaml");
    let mut times: Vec<Duration> = (0..STARTS).map(|_| start(&demo).after).collect();
    times.sort_unstable();
    println!("demo, start to ready: median {:?}, worst {:?}", times[STARTS / 2], times[STARTS - 1]);
    let server = start(&demo).server;
    std::thread::sleep(SETTLE);
    println!("demo, resident: {}", server.memory());
    drop(server);

    let folder = tempfile::tempdir().expect("a folder");
    write_definitions(folder.path(), metrics);
    let Started { server, admin, after } = start(&folder.path().join("config.yaml"));
    println!("{metrics} metrics, start to ready: {after:?}");
    println!("{metrics} metrics, definitions loaded: {}", server.memory());
    // They share fetches and start at once; the rest is the machine's.
    let patience = Duration::from_mins(1) + Duration::from_millis(4 * u64::from(metrics));
    let line = format!("tidepole_metrics{{state=\"fresh\",origin=\"definition\"}} {metrics}\n");
    let waiting = Instant::now();
    while !get(admin, "/metrics").contains(&line) {
        assert!(waiting.elapsed() < patience, "{}", get(admin, "/metrics"));
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(SETTLE);
    println!("{metrics} metrics, each with a value: {}", server.memory());
    for page in PAGES {
        let mut times: Vec<Duration> = (0..LOOKS).map(|_| first_byte(admin, page)).collect();
        times.sort_unstable();
        let (median, worst) = (times[LOOKS / 2], times[LOOKS - 1]);
        println!("{metrics} metrics, first byte of {page}: median {median:?}, worst {worst:?}");
    }
}

/// From the request to the first byte of the answer.
fn first_byte(admin: SocketAddr, path: &str) -> Duration {
    let mut stream = TcpStream::connect(admin).expect("the admin listener listens");
    let asked = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("a request");
    stream.read_exact(&mut [0]).expect("an answer");
    asked.elapsed()
}

/// A server that is ready.
struct Started {
    server: Server,
    admin: SocketAddr,
    /// From the start of the process.
    after: Duration,
}

/// Starts the server and waits until it is ready.
fn start(config: &Path) -> Started {
    let started = Instant::now();
    let mut server = Server::start(
        Command::new(BINARY)
            .args(["serve", "--log-format", "json"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(config),
    );
    let admin: SocketAddr = server.wait_for(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["admin"].as_str()?.parse().ok()
    });
    while !get(admin, "/readyz").starts_with("HTTP/1.1 200") {
        assert!(started.elapsed() < Duration::from_mins(1), "not ready after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    Started { server, admin, after: started.elapsed() }
}

/// A whole answer of the admin listener, its head included.
fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("the admin listener listens");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Metrics without an upstream, each a query of its own whose value is kept in memory.
fn write_definitions(folder: &Path, metrics: u32) {
    std::fs::write(
        folder.join("config.yaml"),
        "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\nserver: { listen: \"127.0.0.1:0\", auth: none }\nadmin: { listen: \"127.0.0.1:0\" }\nkubernetes: { enabled: false }\nsources: [{ name: sim, simulated: {} }]\ndefinitions: { paths: [metrics.d] }\n",
    )
    .expect("config.yaml");
    let definitions = folder.join("metrics.d");
    std::fs::create_dir(&definitions).expect("metrics.d");
    let numbers: Vec<u32> = (0..metrics).collect();
    for (file, numbers) in numbers.chunks(DOCUMENTS as usize).enumerate() {
        let mut text = String::new();
        for number in numbers {
            let _ = write!(
                text,
                "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{ name: metric-{number:06} }}\nspec: {{ metric: metric_{number:06}, labels: {{ queue: jobs }}, refresh: 60s, maxAge: 10m, keepWarm: true, simulated: {{ constant: \"{number}\" }} }}\n"
            );
        }
        std::fs::write(definitions.join(format!("{file:04}.yaml")), text).expect("definitions");
    }
}
