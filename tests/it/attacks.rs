//! Peers that mean harm to connections: slow, huge, many, or gone again. Each attack hits the server
//! as a process of its own, while the aggregator goes on reading: no read of it fails, and the memory
//! stays under what the chart gives the container.
//!
//! Short versions run always. What lasts, or takes more file descriptors, is asked for:
//! `cargo test --test it -- --ignored attacks::`.

mod floods;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::frames::{self, HEADERS, frame};
use crate::support::process::Process;
use crate::support::server::{AdminDoor, NAME, Setup, metric, path_of, values};
use crate::support::tls::Authority;
use crate::support::upstream::{Prometheus, Reply};
use crate::support::wait::{PATIENCE, until};

/// What `resources.limits.memory` of the chart is: more, and the container is killed.
const CONTAINER: u64 = 256 << 20;

/// A server that is attacked.
struct House {
    process: Process,
    authority: Authority,
    _cluster: ClusterApi,
    _upstream: Prometheus,
}

impl House {
    /// With limits as the config has them.
    async fn start(limits: &str) -> Self {
        let authority = Authority::new("front-proxy-ca");
        let cluster = ClusterApi::start(trust(&authority.pem(), &authority.pem()));
        let upstream = Prometheus::start();
        upstream.answer_all(Some(Reply::Hang));
        let url = upstream.server().url();
        let source = format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 1m }} }}");
        let setup = Setup::new(&format!("{source}\n  - {{ name: sim, simulated: {{}} }}"))
            .cluster(&cluster)
            .limits(limits)
            .defaults("{ refresh: 10s, firstReadTimeout: 30s }")
            .with("slow.yaml", &metric("slow", "source: main, prometheus: { query: slow }"))
            .with("m.yaml", &metric("steady", "source: sim, simulated: { constant: 5 }"));
        let process = Process::start(setup);
        process.door.ready().await;
        Self { process, authority, _cluster: cluster, _upstream: upstream }
    }

    /// TLS settings of a peer that shows no certificate.
    fn stranger(&self) -> Arc<ClientConfig> {
        self.process.setup.authority.client_config(None)
    }

    /// TLS settings of a user of the cluster.
    fn user(&self) -> Arc<ClientConfig> {
        self.process.setup.authority.client_config(Some(&self.authority.client("jane", &[])))
    }

    /// TLS settings of the aggregator.
    fn aggregator(&self) -> Arc<ClientConfig> {
        let pair = self.authority.client("front-proxy-client", &[]);
        self.process.setup.authority.client_config(Some(&pair))
    }

    /// Reads as the aggregator does while something is done to the server; what came of it.
    async fn under<T>(&self, what: &str, attack: impl Future<Output = T>) -> T {
        let witness = Witness::start(self);
        let begin = Instant::now();
        let result = attack.await;
        let took = begin.elapsed();
        let Testimony { reads, slowest, peak } = witness.end();
        let resident = self.process.resident();
        println!(
            "{what}: {took:.1?}, {reads} reads meanwhile, the slowest took {slowest:.1?}; {} MiB at \
             most, {} MiB then",
            peak >> 20,
            resident >> 20,
        );
        assert!(reads >= 2, "{reads} reads");
        assert!(peak < CONTAINER, "{} MiB", peak >> 20);
        result
    }
}

/// The aggregator's part, on a thread of its own.
struct Witness {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Testimony>,
}

struct Testimony {
    reads: usize,
    slowest: Duration,
    /// Resident memory of the server, in bytes.
    peak: u64,
}

impl Witness {
    fn start(house: &House) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (address, door) = (house.process.api(), house.process.door);
        let (config, process) = (house.aggregator(), house.process.id());
        let told = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(watch(address, door, config, process, &told))
        });
        Self { done, thread }
    }

    fn end(self) -> Testimony {
        self.done.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Reads over a connection that stays and over new ones, and asks for health as a kubelet does.
async fn watch(
    address: SocketAddr,
    door: AdminDoor,
    config: Arc<ClientConfig>,
    process: u32,
    done: &AtomicBool,
) -> Testimony {
    let connect = async || {
        let made = Connection::tls(address, NAME, &config, Protocol::Http2);
        let made = tokio::time::timeout(PATIENCE, made).await.expect("it takes too long");
        made.expect("the aggregator is let in")
    };
    let mut kept = connect().await;
    let mut testimony = Testimony { reads: 0, slowest: Duration::ZERO, peak: 0 };
    let mut is_last = false;
    loop {
        let mut new = connect().await;
        for connection in [&mut kept, &mut new] {
            let begin = Instant::now();
            let path = path_of("default", "steady");
            let read = connection.get(&path, &[("X-Remote-User", "hpa")]);
            let read = tokio::time::timeout(PATIENCE, read).await.expect("it takes too long");
            assert_eq!(values(&read.expect("the aggregator is answered")), ["5"]);
            testimony.slowest = testimony.slowest.max(begin.elapsed());
            testimony.reads += 1;
        }
        for path in ["/livez", "/readyz"] {
            let health = tokio::time::timeout(PATIENCE, door.get(path)).await;
            assert_eq!(health.expect("it takes too long").status, 200);
        }
        testimony.peak = testimony.peak.max(crate::support::process::resident(process));
        if is_last {
            return testimony;
        }
        is_last = done.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One that never finishes a request, by the stage that it never leaves.
enum Slow {
    Handshake(TcpStream),
    Request(Box<TlsStream<TcpStream>>, &'static [u8]),
}

impl Slow {
    /// One byte; whether the server still takes it.
    async fn drip(&mut self) -> bool {
        let sent = match self {
            Self::Handshake(stream) => stream.write_all(&[0]).await,
            Self::Request(stream, byte) => match stream.write_all(byte).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
        };
        sent.is_ok() && !self.is_over().await
    }

    /// Whether the server has ended it.
    async fn is_over(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let a_moment = Duration::from_millis(1);
        loop {
            let seen = match self {
                Self::Handshake(stream) => look(stream, &mut buffer, a_moment).await,
                Self::Request(stream, _) => look(stream, &mut buffer, a_moment).await,
            };
            match seen {
                // Nothing is said.
                None => return false,
                Some(Ok(0) | Err(_)) => return true,
                // An answer or a ping: go on.
                Some(Ok(_)) => {}
            }
        }
    }
}

async fn look(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    wait: Duration,
) -> Option<std::io::Result<usize>> {
    tokio::time::timeout(wait, stream.read(buffer)).await.ok()
}

/// So many of each kind: in the handshake, in the header of HTTP/1, in the header of HTTP/2.
async fn slow_ones(house: &House, each: usize) -> Vec<Slow> {
    let (address, config) = (house.process.api(), house.stranger());
    let made = stream::iter(0..3 * each).map(|number| {
        let config = &config;
        async move {
            match number % 3 {
                0 => {
                    let mut stream = TcpStream::connect(address).await?;
                    // A record of a handshake that announces 16 KiB.
                    stream.write_all(&[0x16, 3, 1, 0x40, 0]).await?;
                    Ok(Slow::Handshake(stream))
                }
                1 => {
                    let mut stream = frames::tls(address, config, b"http/1.1").await?;
                    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-A: ").await?;
                    Ok(Slow::Request(Box::new(stream), b"a"))
                }
                _ => {
                    let mut stream = frames::connect(address, config).await?;
                    let head = frame(HEADERS, 0, 1, &[0; 16_000]);
                    stream.write_all(&head[..9]).await?;
                    Ok(Slow::Request(Box::new(stream), &[0x82]))
                }
            }
        }
    });
    let made: Vec<std::io::Result<Slow>> = made.buffer_unordered(16).collect().await;
    made.into_iter().map(|made| made.expect("the server takes the connection")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_loris() {
    let house = House::start("{}").await;
    house
        .under("180 slow peers", async {
            let mut slow = slow_ones(&house, 60).await;
            for _ in 0..3 {
                join_all(slow.iter_mut().map(Slow::drip)).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
}

/// Until the server has had enough of each: 10 s for a handshake, 32 s for the head of an HTTP/1
/// request, and on HTTP/2 30 s and 15 s for the answer to a ping that a peer cannot give in the
/// middle of a header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: cargo test --test it -- --ignored attacks::"]
async fn slow_loris_is_ended() {
    let house = House::start("{}").await;
    house
        .under("600 slow peers", async {
            let mut slow = slow_ones(&house, 200).await;
            let begin = Instant::now();
            while !slow.is_empty() {
                assert!(begin.elapsed() < Duration::from_secs(90), "{} are left", slow.len());
                let alive = join_all(slow.iter_mut().map(Slow::drip)).await;
                let mut alive = alive.into_iter();
                slow.retain(|_| alive.next().expect("one for each"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            println!("all were ended within {:?}", begin.elapsed());
        })
        .await;
}

/// Connections that begin and then say nothing.
async fn idle_ones(house: &House, many: usize) -> Vec<TlsStream<TcpStream>> {
    let (address, config) = (house.process.api(), house.stranger());
    let made = stream::iter(0..many).map(|_| frames::connect(address, &config));
    // Those without a place are ended, before or after they have spoken.
    made.buffer_unordered(32).filter_map(async |made| made.ok()).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections() {
    let house = House::start("{ connections: 256 }").await;
    house
        .under("600 idle connections", async {
            let idle = idle_ones(&house, 600).await;
            // 3/4 of 256 are for strangers, the aggregator has some of the others. The last of them
            // may still be on their way in or out.
            until("256 connections at most, and all others turned away", async || {
                let open = house.process.counted("tidepole_server_connections_open").await;
                let crowded = r#"tidepole_server_connections_ended_total{reason="crowded"}"#;
                let crowded = house.process.counted(crowded).await;
                let is_so = open <= 256.0 && crowded >= 600.0 - 192.0 - 64.0;
                if is_so { Ok(()) } else { Err(format!("{open} are open, {crowded} were")) }
            })
            .await;
            drop(idle);
        })
        .await;
}

/// Raises the soft limit of file descriptors of this process, which its children inherit, to the
/// hard one, and tells it.
fn descriptors() -> usize {
    let own = std::process::id().to_string();
    let hard = std::process::Command::new("prlimit")
        .args(["--pid", &own, "--nofile", "--noheadings", "--raw", "--output=HARD"])
        .output()
        .expect("prlimit comes with util-linux");
    let hard = String::from_utf8_lossy(&hard.stdout).trim().to_owned();
    let raise = format!("--nofile={hard}:{hard}");
    let raised = std::process::Command::new("prlimit").args(["--pid", &own, &raise]).status();
    assert!(raised.expect("it was there").success());
    hard.parse().expect("a number of descriptors")
}

/// As many as the descriptors of a process allow, 10,000 as a rule: with the limit that an operator
/// would have to raise for them, and with the default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and 10,000 file descriptors: cargo test --test it -- --ignored attacks::"]
async fn ten_thousand_idle_connections() {
    let many = 10_000.min(descriptors() - 500);
    let number = f64::from(u32::try_from(many).expect("at most 10,000"));
    println!("{many} connections");
    let house = House::start("{ connections: 16384 }").await;
    let before = house.process.resident();
    let idle = idle_ones(&house, many).await;
    assert_eq!(idle.len(), many);
    let open = house.process.counted("tidepole_server_connections_open").await;
    assert!(open >= number, "{open} connections");
    let grown = house.process.resident() - before;
    let each = grown / u64::try_from(many).expect("at most 10,000");
    println!("{open} connections are open, each took {each} bytes");
    // 10,000 of them are the operator's wish, so this is what each may cost.
    assert!(each < 100_000, "{each} bytes for each connection");
    drop((idle, house));

    let house = House::start("{}").await;
    house
        .under("10,000 idle connections with the default limits", async {
            let idle = idle_ones(&house, many).await;
            let open = house.process.counted("tidepole_server_connections_open").await;
            assert!(open <= 1280.0, "{open} connections");
            drop(idle);
        })
        .await;
}
