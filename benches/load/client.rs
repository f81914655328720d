//! A load generator: a few HTTP/2 connections over TLS with a fixed number of streams each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// What the load looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// Requests per second over all streams; none means as fast as answers come.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reads: u64,
    pub(crate) elapsed: Duration,
    /// When the load began, from which reads count.
    pub(crate) start: Instant,
    /// By latency.
    pub(crate) each: Vec<Read>,
}

/// One read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// How long it took, in microseconds.
    pub(crate) took_us: u32,
    /// When it was sent, in microseconds from the start of the load.
    pub(crate) sent_us: u32,
}

/// Latency in microseconds below which this share of reads stayed, which are sorted by it.
pub(crate) fn percentile_us(reads: &[Read], share: f64) -> u32 {
    let last = reads.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    reads.get(at).map_or(0, |read| read.took_us)
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.reads as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency in microseconds below which this share of the reads stayed.
    pub(crate) fn percentile_us(&self, share: f64) -> u32 {
        percentile_us(&self.each, share)
    }
}

/// Who is asked, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Makes the n-th request.
    pub(crate) request: fn(u64) -> Request<Empty<Bytes>>,
}

impl Target {
    pub(crate) async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let tcp = TcpStream::connect(self.address).await.expect("the server listens");
        tcp.set_nodelay(true).expect("TCP_NODELAY can be set");
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(self.server_name.clone(), tcp).await.expect("TLS handshake");
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(tls))
            .await
            .expect("HTTP/2 handshake");
        tokio::task::spawn(connection);
        sender
    }

    /// Puts the load on the server for `duration` and counts what comes back. Every answer must
    /// be a 200 with a body.
    pub(crate) async fn load(&self, shape: Shape, duration: Duration) -> Outcome {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let mut workers = JoinSet::new();
        let workers_count = shape.connections * shape.streams;
        for connection in 0..shape.connections {
            let sender = self.connect().await;
            for stream in 0..shape.streams {
                let number = (connection * shape.streams + stream) as u64;
                let pace = shape.rate.map(|r| Duration::from_secs_f64(workers_count as f64 / r));
                let offset = pace
                    .map_or(Duration::ZERO, |p| p.mul_f64(number as f64 / workers_count as f64));
                workers.spawn(worker(
                    sender.clone(),
                    self.request,
                    // Workers walk over the metrics from different places.
                    number.wrapping_mul(7919),
                    pace.map(|p| (p, offset)),
                    start,
                    Arc::clone(&stop),
                ));
            }
        }
        let loaded = Instant::now();
        tokio::time::sleep(duration).await;
        stop.store(true, Ordering::Relaxed);
        let elapsed = loaded.elapsed();
        let mut each = Vec::new();
        while let Some(done) = workers.join_next().await {
            each.extend(done.expect("a worker does not panic"));
        }
        each.sort_unstable_by_key(|read| read.took_us);
        Outcome { reads: each.len() as u64, elapsed, start, each }
    }
}

async fn worker(
    mut sender: SendRequest<Empty<Bytes>>,
    request: fn(u64) -> Request<Empty<Bytes>>,
    mut number: u64,
    pace: Option<(Duration, Duration)>,
    begun: Instant,
    stop: Arc<AtomicBool>,
) -> Vec<Read> {
    let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let mut reads = Vec::with_capacity(1 << 16);
    let mut due = Instant::now() + pace.map_or(Duration::ZERO, |(_, offset)| offset);
    while !stop.load(Ordering::Relaxed) {
        if let Some((period, _)) = pace {
            tokio::time::sleep_until(due.into()).await;
            due += period;
        }
        let start = Instant::now();
        let response = sender.send_request(request(number)).await.expect("the request is answered");
        let status = response.status();
        let body = response.into_body().collect().await.expect("the body arrives").to_bytes();
        assert!(status.is_success() && !body.is_empty(), "{status}: {body:?}");
        reads.push(Read { took_us: micros(start.elapsed()), sent_us: micros(start - begun) });
        number = number.wrapping_add(1);
    }
    reads
}
