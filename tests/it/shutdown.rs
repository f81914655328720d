//! Stopping under load: nobody who behaves like a client of the aggregator loses a read.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;

use crate::support::client::{Connection, Failure, Protocol};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, frame,
};
use crate::support::process::Process;
use crate::support::server::{NAME, Setup, metric, path_of, status, values};
use crate::support::tls::Authority;
use crate::support::upstream::Prometheus;
use crate::support::wait::until;

/// A client that reads in a loop, as Go's does: a connection that has ended is replaced, and a read
/// that could not be sent on it goes over the next one.
struct Client {
    address: std::net::SocketAddr,
    config: Arc<ClientConfig>,
    protocol: Protocol,
    connection: Option<Connection>,
}

impl Client {
    async fn attempt(&mut self, path: &str) -> Result<(), Failure> {
        if self.connection.is_none() {
            let made = Connection::tls(self.address, NAME, &self.config, self.protocol).await;
            self.connection = Some(made?);
        }
        let connection = self.connection.as_mut().expect("just made");
        match connection.get(path, &[("X-Remote-User", "hpa")]).await {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(values(&answer), ["5"]);
                if answer.header("connection") == "close" {
                    self.connection = None;
                }
                Ok(())
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }

    async fn read(&mut self, path: &str) -> Result<(), Failure> {
        let had = self.connection.is_some();
        match self.attempt(path).await {
            // The server had said that it would go: nothing was processed.
            Err(error) if had && was_not_processed(&error) => self.attempt(path).await,
            result => result,
        }
    }
}

/// Whether the server never processed the read: the connection had ended before it left, or the
/// server's GOAWAY came before it.
fn was_not_processed(error: &Failure) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return false };
    // How h2 words a GOAWAY without an error code.
    let went = |cause: &dyn std::error::Error| {
        cause.to_string() == "connection error received: not a result of an error"
    };
    error.is_closed() || error.is_canceled() || error.source().is_some_and(went)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_lost_while_the_server_drains() {
    let proxy = Authority::new("front-proxy-ca");
    let cluster = ClusterApi::start(trust(&proxy.pem(), &proxy.pem()));
    let server = Setup::new("  - { name: sim, simulated: {} }")
        .cluster(&cluster)
        .with("m.yaml", &metric("steady", "simulated: { constant: 5 }"))
        .start()
        .await;
    server.ready().await;
    let identity = proxy.client("front-proxy-client", &[]);
    let config = server.setup.authority.client_config(Some(&identity));
    let address = server.running.api_address();
    let admin = server.running.admin_address();
    let path = path_of("default", "steady");

    // Clients read until readiness has been red for two seconds, well within the grace of 5 s: by
    // then nobody is sent here any more.
    let (stopping, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let reads_while_stopping = AtomicU64::new(0);
    let clients =
        [Protocol::Http2, Protocol::Http2, Protocol::Http2, Protocol::Http1, Protocol::Http1];
    let load = clients.map(|protocol| {
        let mut client =
            Client { address, config: Arc::clone(&config), protocol, connection: None };
        let (path, stopping, done, count) = (&path, &stopping, &done, &reads_while_stopping);
        async move {
            while !done.load(Ordering::SeqCst) {
                client.read(path).await.unwrap_or_else(|error| panic!("{protocol:?}: {error:?}"));
                if stopping.load(Ordering::SeqCst) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stopping.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        server.stop().await;
        begin.elapsed()
    };
    let watch = async {
        let text = until("red readiness", async || {
            let mut connection = Connection::plain(admin).await.map_err(|e| e.to_string())?;
            let answer = connection.get("/readyz", &[]).await.map_err(|e| e.to_string())?;
            let text = answer.text().to_owned();
            if answer.status == 500 { Ok(text) } else { Err(text) }
        })
        .await;
        assert!(stopping.load(Ordering::SeqCst), "red before anybody asked to stop");
        assert!(text.contains("[-]shutdown failed"), "{text}");
        // Live all the while: a kubelet must not restart what is ending in order.
        let mut connection = Connection::plain(admin).await.unwrap();
        assert_eq!(connection.get("/livez", &[]).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_secs(2)).await;
        done.store(true, Ordering::SeqCst);
    };
    let (took, (), _) = tokio::join!(stop, watch, futures::future::join_all(load));
    assert!(took >= Duration::from_secs(5), "no grace: {took:?}");
    let reads = reads_while_stopping.into_inner();
    assert!(reads > 50, "only {reads} reads while stopping");
    let refused = Connection::tls(address, NAME, &config, Protocol::Http2).await;
    assert!(refused.is_err(), "the listener is still open");
}

/// Go's HTTP/2 clients are told where to stop; a first read that waits is answered nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_under_way_ends_before_the_server_does() {
    let upstream = Prometheus::start();
    upstream.vector("slow", &[("", "5")]);
    upstream.delay(Duration::from_secs(2));
    let url = upstream.server().url();
    let server = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .defaults("{ refresh: 10s, firstReadTimeout: 15s }")
        .with("m.yaml", &metric("slow", "prometheus: { query: slow }"))
        .start()
        .await;
    let mut reads = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = server.connect(protocol).await.unwrap();
        reads.push(async move { connection.get(&path_of("default", "slow"), &[]).await });
    }
    let stop = async {
        until("the upstream call", async || {
            if upstream.hits("slow") == 1 { Ok(()) } else { Err("no call".to_owned()) }
        })
        .await;
        server.stop().await;
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(reads), stop);
    for answer in answers {
        let answer = answer.expect("a read under way is not cut");
        assert_eq!(values(&answer), ["5"], "{}", answer.text());
    }
}

/// What the aggregator sees of a SIGTERM, frame by frame: it is told to take its requests elsewhere
/// while nothing is refused yet, the read under way is answered, then the connection ends, and then
/// the process, with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_says_goaway_answers_what_is_under_way_and_exits_with_0() {
    let proxy = Authority::new("front-proxy-ca");
    let cluster = ClusterApi::start(trust(&proxy.pem(), &proxy.pem()));
    let upstream = Prometheus::start();
    upstream.vector("slow", &[("", "5")]);
    // Until the server was told to stop.
    upstream.gate().shut();
    let url = upstream.server().url();
    let setup = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .cluster(&cluster)
        .defaults("{ refresh: 10s, firstReadTimeout: 15s }")
        .with("m.yaml", &metric("slow", "prometheus: { query: slow }"));
    let process = Process::start(setup);
    process.door.ready().await;
    let identity = proxy.client("front-proxy-client", &[]);
    let config = process.setup.authority.client_config(Some(&identity));
    let made = frames::connect(process.api(), &config).await;
    let mut stream = made.expect("the aggregator is let in");
    let read = frames::request(&path_of("default", "slow"));
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &read)).await.unwrap();
    until("the upstream call", async || {
        if upstream.hits("slow") == 1 { Ok(()) } else { Err("no call".to_owned()) }
    })
    .await;
    process.signal("TERM");

    let (mut told, mut body) = (Vec::new(), Vec::new());
    while let Ok(seen) = frames::next(&mut stream).await {
        match seen.kind {
            GOAWAY => {
                told.push(seen.goaway());
                upstream.gate().open();
            }
            // By the answer the server knows that the aggregator has heard of it.
            PING if seen.flags & ACK == 0 => {
                assert_eq!(process.door.get("/readyz").await.status, 500, "red before GOAWAY");
                stream.write_all(&frame(PING, ACK, 0, &seen.payload)).await.unwrap();
            }
            DATA if seen.stream == 1 => body.extend(seen.payload),
            _ => {}
        }
    }
    // First "no new ones", which may cross with requests on their way, then the last that counts.
    assert_eq!(told, [(0x7fff_ffff, 0), (1, 0)]);
    assert!(String::from_utf8_lossy(&body).contains("\"value\":\"5\""), "{body:?}");
    let (code, log) = process.end().await;
    assert_eq!(code.code(), Some(0), "{log}");
}

/// One that hangs longer than the deadline is cut, and the process does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_hangs_does_not_hold_the_server() {
    let upstream = Prometheus::start();
    upstream.set("hang", crate::support::upstream::Reply::Hang);
    let url = upstream.server().url();
    let mut server =
        Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 1m }} }}"))
            .defaults("{ refresh: 10s, firstReadTimeout: 30s }")
            .with("m.yaml", &metric("hang", "prometheus: { query: hang }"))
            .start()
            .await;
    server.check();
    let mut connection = server.connect(Protocol::Http2).await.unwrap();
    let path = path_of("default", "hang");
    let read = connection.get(&path, &[]);
    let stop = async {
        until("the upstream call", async || {
            if upstream.hits("hang") == 1 { Ok(()) } else { Err("no call".to_owned()) }
        })
        .await;
        let begin = Instant::now();
        server.running.stop(Duration::from_secs(1), Duration::from_secs(1)).await;
        begin.elapsed()
    };
    let (answer, took) = tokio::join!(read, stop);
    if let Ok(answer) = answer {
        status(&answer, 503, "ServiceUnavailable");
    }
    assert!(took < Duration::from_secs(10), "stopping took {took:?}");
}
