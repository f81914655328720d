//! The server's validated inputs and what can go wrong at start.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::ServingPair;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// The cluster decides: front proxy, client certificates and tokens say who it is, a
    /// `SubjectAccessReview` says what they may do.
    Delegated,
    /// Everybody is anonymous and may do everything. Only on a loopback address.
    None,
}

/// The serving certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Serving pairs that somebody else makes and replaces while the server runs.
#[derive(Clone)]
pub struct ServingPairs {
    /// The pair to be shown; none as long as there is none.
    pub current: watch::Receiver<Option<Arc<ServingPair>>>,
    /// The DNS names that each pair is valid for.
    pub names: Vec<String>,
}

impl fmt::Debug for ServingPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingPairs").field("names", &self.names).finish_non_exhaustive()
    }
}

impl PartialEq for ServingPairs {
    /// Whether both are told the same pairs.
    fn eq(&self, other: &Self) -> bool {
        self.current.same_channel(&other.current)
    }
}

/// The oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinTls {
    /// TLS 1.2, as the Go server.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// Bounds on connections and requests. The defaults suit a cluster's aggregator.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue. An aggregator keeps one per
    /// kube-apiserver, so a thousand leaves room for probes, scrapers and people. Peers without a
    /// certificate that holds get three quarters of them.
    pub connections: usize,
    /// Requests that may wait at once, for a review by the cluster or for the first value of a metric.
    /// More are refused; what is in memory is answered at any load. Peers without a certificate that
    /// holds get three quarters of them. As many as one aggregator may open streams.
    pub requests: usize,
    /// Time for a TLS handshake. The aggregator's own limit is 10 s.
    pub handshake: Duration,
    /// Time to read the headers of an HTTP/1 request; the Go server's value.
    pub header_read: Duration,
    /// A connection without requests for so long is ended; the Go server's value.
    pub idle: Duration,
    /// A connection is ended gracefully after this time, plus up to a quarter, so that the load
    /// of one kube-apiserver wanders over the replicas: all its reads go over one HTTP/2 connection
    /// for each address that it dials. It costs no read (first a GOAWAY without an end, then one with
    /// the last stream; Go's client sends what came later again, elsewhere), only a handshake. More
    /// often gains nothing: when a replica dies its connections are reset at once whatever their age,
    /// and reads fail until the API server knows that its address is gone.
    pub recycle_after: Duration,
    /// Interval of HTTP/2 keep-alive pings. With the answer's time the Go client's values (30 s and
    /// 15 s): both sides of a connection that broke without a word let go of it together. Ours give
    /// its place back; it is kube-apiserver's that lead it away from a replica whose node is gone.
    pub ping_interval: Duration,
    /// Time for the answer to a ping.
    pub ping_timeout: Duration,
    /// Time for one request. The API server's own limit.
    pub request: Duration,
    /// Bounds for the verified front proxy.
    pub front_proxy: PeerLimits,
    /// Bounds for everybody else.
    pub others: PeerLimits,
}

/// Bounds that depend on who the peer is: a header bomb before authentication must stay cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// All headers of one request, in bytes.
    pub bytes: u32,
    /// Header lines of one HTTP/1 request.
    pub lines: usize,
    /// Concurrent HTTP/2 streams.
    pub streams: u32,
    /// HTTP/2 streams that the peer may open and reset in one burst. More end the connection.
    pub resets: usize,
}

/// An HPA controller has five workers; fewer would leave no room beside a few of them.
const MIN_REQUESTS: usize = 16;
/// Each holds a few kilobytes.
const MAX_REQUESTS: usize = 65_536;
/// Fewer would leave nothing for probes beside a few kube-apiservers: a quarter is for peers whose
/// certificate holds.
const MIN_CONNECTIONS: usize = 16;
/// A process rarely has more file descriptors.
const MAX_CONNECTIONS: usize = 65_536;
/// More often, handshakes would cost more than the load they spread.
const MIN_RECYCLE: Duration = Duration::from_secs(1);
/// A connection that lives longer was never meant to be ended.
const MAX_RECYCLE: Duration = Duration::from_hours(24);

impl Limits {
    /// What is wrong with the limits that operators may set: the setting, as the server config
    /// names it, and why it cannot be.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !(MIN_CONNECTIONS..=MAX_CONNECTIONS).contains(&self.connections) {
            let message =
                format!("expected a whole number from {MIN_CONNECTIONS} to {MAX_CONNECTIONS}");
            found.push(("connections", message));
        }
        if !(MIN_REQUESTS..=MAX_REQUESTS).contains(&self.requests) {
            let message = format!("expected a whole number from {MIN_REQUESTS} to {MAX_REQUESTS}");
            found.push(("requests", message));
        }
        if !(MIN_RECYCLE..=MAX_RECYCLE).contains(&self.recycle_after) {
            found.push(("recycleAfter", "expected a duration from 1s to 24h".to_owned()));
        }
        found
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests: 1000,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            recycle_after: Duration::from_mins(5),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(15),
            request: Duration::from_mins(1),
            // The Go server's 1 MiB; 1000 streams are its recommended options for aggregated
            // servers. Hundreds of groups are one line each. The aggregator resets a stream when
            // the HPA's context dies, in bursts when kube-controller-manager restarts; h2's own
            // bound of 20 ends the connection on such a burst.
            front_proxy: PeerLimits { bytes: 1 << 20, lines: 4096, streams: 1000, resets: 16384 },
            others: PeerLimits { bytes: 64 << 10, lines: 100, streams: 16, resets: 64 },
        }
    }
}

/// The server's validated inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) auth: AuthMode,
    /// The serving certificate; none means `pairs`, or a self-signed pair made at start.
    pub tls: Option<TlsFiles>,
    /// Where the serving certificate comes from when there are no files. Until there is a first one
    /// a self-signed pair is shown.
    pub pairs: Option<ServingPairs>,
    /// The oldest TLS version that is spoken.
    pub min_tls: MinTls,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Bounds on connections and requests.
    pub limits: Limits,
}

impl Settings {
    /// Settings with every bound at its default.
    ///
    /// # Errors
    /// [`ServerError::OpenToTheWorld`] when `auth` is [`AuthMode::None`] and `listen` is not a
    /// loopback address.
    pub fn new(
        listen: SocketAddr,
        auth: AuthMode,
        tls: Option<TlsFiles>,
    ) -> Result<Self, ServerError> {
        if auth == AuthMode::None && !listen.ip().to_canonical().is_loopback() {
            return Err(ServerError::OpenToTheWorld(listen));
        }
        Ok(Self {
            listen,
            auth,
            tls,
            pairs: None,
            min_tls: MinTls::default(),
            http2: true,
            limits: Limits::default(),
        })
    }

    /// The address to listen on.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Who may ask.
    #[must_use]
    pub fn auth(&self) -> AuthMode {
        self.auth
    }
}

/// Why the server cannot start, or why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Without authentication only loopback will do: everybody who can reach the address would be
    /// served.
    #[error("none is allowed on a loopback address only, and the server listens on {0}")]
    OpenToTheWorld(SocketAddr),
    /// The settings say one thing and the given authentication or authorization another.
    #[error("settings ask for auth: {asked}, but {given} was given")]
    AuthMismatch {
        /// What the settings ask for.
        asked: &'static str,
        /// What came with them.
        given: &'static str,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's complaint.
        cause: std::io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {path}: {cause}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The system's complaint.
        cause: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {problem}")]
    BadPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A pair that was handed to the server does not hold what it should.
    #[error("the serving pair {0}")]
    BadGiven(&'static str),
    /// Certificate and key cannot be used, or not together.
    #[error("certificate and key cannot be used: {0}")]
    BadPair(#[from] rustls::Error),
    /// No self-signed pair could be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_authentication_means_loopback() {
        for open in ["0.0.0.0:6443", "[::]:6443", "10.0.0.1:6443"] {
            let refused = Settings::new(open.parse().unwrap(), AuthMode::None, None);
            assert!(
                matches!(refused, Err(ServerError::OpenToTheWorld(a)) if a.to_string() == open)
            );
            assert!(Settings::new(open.parse().unwrap(), AuthMode::Delegated, None).is_ok());
        }
        for closed in ["127.0.0.1:6443", "[::1]:6443", "[::ffff:127.0.0.1]:6443"] {
            assert!(Settings::new(closed.parse().unwrap(), AuthMode::None, None).is_ok());
        }
    }
}
