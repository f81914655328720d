//! The API listener: TLS, connections, who asks and what they may do.
//!
//! Responsible for everything between the socket and a request that may be answered. Not
//! responsible for what is answered: that is the [`Service`]'s, and this module knows nothing of
//! the API behind it.
//!
//! | module | responsible for |
//! |---|---|
//! | `settings` | validated inputs, errors at start |
//! | `tls`, `reload` | the TLS configuration, and its replacement when files change or another pair is handed over |
//! | `listener`, `handshakes`, `connection`, `parting` | the socket, who may stay while the handshake lasts, one connection from handshake to end, and its last moments |
//! | `journal` | the log of failed reads |
//! | `request` | one request: authentication, authorization, service |
//! | `crowd` | how many requests may wait at once |
//! | `authn` | who asks |
//! | `authz` | whether they may |
//! | `review` | answers of the API server that are kept for a while |
//! | `metrics` | what is counted |
//!
//! # Invariants
//! * No request reaches [`Service::answer`] unless it was authenticated (or is anonymous) and
//!   authorized, or its path is always allowed.
//! * No credential and no identity header reaches the service.
//! * Whatever an unauthenticated peer sends costs a bounded amount of memory and time.

mod authn;
mod authz;
mod connection;
mod crowd;
mod handshakes;
mod journal;
mod listener;
mod metrics;
mod parting;
mod reload;
mod request;
mod review;
mod settings;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use http::{Method, Response, Uri};
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

pub use self::authn::{Authentication, TokenReviewer, TokenVerdict};
pub use self::authz::{AccessReviewer, AccessVerdict, Authorization};
pub use self::listener::bind;
pub use self::review::ReviewError;
pub use self::settings::{
    AuthMode, Limits, MinTls, PeerLimits, ServerError, ServingPairs, Settings, TlsFiles,
};

use self::connection::{Acceptor, Stage};
use self::crowd::Crowd;
use self::handshakes::Handshakes;
use self::journal::Journal;
use self::listener::Listener;
use self::metrics::ConnectionMetrics;
use self::reload::Certificates;
use self::request::Front;
use crate::model::{Attributes, Clock};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// An answer that is there already, or one that has to be waited for.
pub type Answer = Either<Response<Full<Bytes>>, BoxFuture<'static, Response<Full<Bytes>>>>;

/// What is served behind authentication and authorization.
pub trait Service: Send + Sync + 'static {
    /// A request's meaning, found once and handed on.
    type Route: Send + 'static;

    /// What a request means. Total: a path that means nothing has a route, too.
    fn route(&self, method: &Method, uri: &Uri) -> Self::Route;

    /// What the request asks to do.
    fn attributes(&self, route: &Self::Route) -> Attributes;

    /// Whether everybody may, without a review: health paths.
    fn always_allowed(&self, route: &Self::Route) -> bool;

    /// The answer. Credentials and identity headers are gone from `parts`.
    fn answer(&self, route: Self::Route, parts: &http::request::Parts) -> Answer;
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    serving_names: Vec<String>,
    stage: Arc<watch::Sender<Stage>>,
    connections: TaskTracker,
}

/// How [`Server::stop`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had not ended by the deadline and were cut.
    pub cut: usize,
}

/// After a cut, connections get this long to notice.
const CUT_LIMIT: Duration = Duration::from_secs(1);

impl Server {
    /// Binds, loads the certificate and serves.
    ///
    /// # Errors
    /// When the address cannot be bound, the certificate cannot be used, or authentication and
    /// authorization are not the ones that the settings ask for.
    pub async fn start<S: Service>(
        settings: Settings,
        authentication: Authentication,
        authorization: Authorization,
        service: Arc<S>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        check(settings.auth, &authentication, &authorization)?;
        let metrics = Arc::new(ConnectionMetrics::register(telemetry));
        let certificates = Certificates::load(&settings, Arc::clone(&metrics))?;
        let serving_names = certificates.names().to_vec();
        // Beside the connections proper there is room for handshakes, so that silent peers take
        // no connection's place.
        let handshakes = settings.limits.connections.div_ceil(4);
        let places = settings.limits.connections + handshakes;
        let listener = Listener::bind(settings.listen, places, Arc::clone(&metrics)).await?;
        let address = listener
            .local_addr()
            .map_err(|cause| ServerError::Bind { address: settings.listen, cause })?;
        certificates.watch(tasks);
        let stage = Arc::new(watch::Sender::new(Stage::Running));
        let front = Front {
            service,
            authn: authentication,
            authz: authorization,
            crowd: Crowd::new(settings.limits.requests, Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            journal: Journal::new(telemetry),
            clock,
            limit: settings.limits.request,
        };
        let strangers = settings.limits.connections * 3 / 4;
        let acceptor = Arc::new(Acceptor {
            strangers: Arc::new(Semaphore::new(strangers)),
            handshakes: Handshakes::new(handshakes),
            front: Arc::new(front),
            certificates,
            limits: settings.limits,
            metrics,
            tasks: tasks.clone(),
            stage: Arc::clone(&stage),
        });
        let connections = TaskTracker::new();
        tasks.service("accept", accept(listener, acceptor, connections.clone(), tasks.clone()));
        Ok(Self { address, serving_names, stage, connections })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The DNS names that the serving certificate was valid for at the start, or that all are that
    /// are handed to the server.
    #[must_use]
    pub fn serving_names(&self) -> &[String] {
        &self.serving_names
    }

    /// Asks the connections that are there to end: HTTP/2 by GOAWAY, HTTP/1 with the next answer.
    /// The listener stays open and serves new ones, for clients that still come this way. Turn
    /// readiness red before.
    pub fn begin_drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Closes the listener and lets requests that run finish, for at most `deadline`.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        self.advance(Stage::Stopping);
        self.connections.close();
        if tokio::time::timeout(deadline, self.connections.wait()).await.is_ok() {
            return Stopped { cut: 0 };
        }
        let cut = self.connections.len();
        self.advance(Stage::Cut);
        if tokio::time::timeout(CUT_LIMIT, self.connections.wait()).await.is_err() {
            tracing::warn!("connections did not end although they were cut");
        }
        Stopped { cut }
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let later = *stage < to;
            if later {
                *stage = to;
            }
            later
        });
    }
}

/// The settings were checked against the address; what is given must be what they ask for.
fn check(
    asked: AuthMode,
    authentication: &Authentication,
    authorization: &Authorization,
) -> Result<(), ServerError> {
    let given = match (authentication.is_none(), authorization.is_none()) {
        (true, true) => "none",
        (false, false) => "delegated",
        (true, false) => "authorization without authentication",
        (false, true) => "authentication without authorization",
    };
    let asked = match asked {
        AuthMode::Delegated => "delegated",
        AuthMode::None => "none",
    };
    if asked == given { Ok(()) } else { Err(ServerError::AuthMismatch { asked, given }) }
}

/// Accepts until the server stops.
async fn accept<S: Service>(
    listener: Listener,
    acceptor: Arc<Acceptor<S>>,
    connections: TaskTracker,
    tasks: TaskSet,
) {
    let mut stage = acceptor.stage.subscribe();
    let shutdown = tasks.shutdown_token().clone();
    loop {
        let (stream, permit) = tokio::select! {
            () = shutdown.cancelled() => return,
            // Never an error: the acceptor holds the sender.
            _ = stage.wait_for(|s| *s >= Stage::Stopping) => break,
            accepted = listener.accept() => accepted,
        };
        let (serve, token) = (Arc::clone(&acceptor), connections.token());
        tasks.job("connection", async move {
            let _token = token;
            serve.serve(stream, permit).await;
        });
    }
    drop(listener);
    shutdown.cancelled().await;
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
