//! One connection, from handshake to end.
//!
//! Ends gracefully whenever it can: HTTP/2 by GOAWAY, HTTP/1 by `connection: close` on the next
//! answer, so that no request is lost to a connection that ends for our reasons.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Service;
use super::authn::{Peer, PeerState, Standing};
use super::handshakes::Handshakes;
use super::metrics::{ConnectionMetrics, EndReason, HandshakeError};
use super::parting::{self, Lent};
use super::reload::Certificates;
use super::request::{Conversation, Front, Requests};
use super::settings::{Limits, PeerLimits};
use crate::model::Tick;
use crate::task::TaskSet;

/// The stages of the server's life, as connections see them. They only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Serve.
    Running,
    /// Existing connections end when they can; new ones are served.
    Draining,
    /// Every connection ends when it can.
    Stopping,
    /// Every connection ends.
    Cut,
}

/// What all connections share.
pub(super) struct Acceptor<S> {
    pub(super) front: Arc<Front<S>>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<ConnectionMetrics>,
    pub(super) tasks: TaskSet,
    /// Places for strangers. Fewer than connections, so that a crowd of them never keeps the
    /// aggregator out.
    pub(super) strangers: Arc<Semaphore>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) stage: Arc<watch::Sender<Stage>>,
}

/// Counts a connection as open until dropped.
struct Open(Arc<ConnectionMetrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

impl<S: Service> Acceptor<S> {
    /// Serves one connection until it ends.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        self.metrics.open.inc();
        let _open = Open(Arc::clone(&self.metrics));
        // Draining concerns connections that were there before.
        let mut stage = self.stage.subscribe();
        let born = *stage.borrow_and_update();
        let place = self.handshakes.enter();
        let handshake = tokio::select! {
            handshake = self.handshake(stream) => handshake,
            () = place.evicted() => {
                self.metrics.handshake_error(HandshakeError::Evicted);
                return;
            }
            _ = stage.wait_for(|s| *s >= Stage::Stopping) => return,
        };
        drop(place);
        let Some(tls) = handshake else { return };
        let reason = self.converse(tls, stage, born).await;
        self.metrics.ended(reason);
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        // Small answers must not wait for the peer's delayed acknowledgement.
        if stream.set_nodelay(true).is_err() {
            return None;
        }
        let acceptor = TlsAcceptor::from(self.certificates.current());
        match tokio::time::timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => Some(tls),
            Ok(Err(error)) => {
                self.metrics.handshake_error(HandshakeError::Tls);
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => {
                self.metrics.handshake_error(HandshakeError::Timeout);
                None
            }
        }
    }

    async fn converse(
        self: &Arc<Self>,
        tls: TlsStream<TcpStream>,
        stage: watch::Receiver<Stage>,
        born: Stage,
    ) -> EndReason {
        let session = tls.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let peer = PeerState::new(Peer::new(session.peer_certificates()));
        let conversation = Arc::new(Conversation::new(peer, self.front.clock.tick()));
        // Before the standing is looked at: a change in between is then seen.
        let changes = self.front.authn.changes();
        let standing = self.front.authn.standing(&conversation.peer);
        let _place = match standing {
            Standing::Stranger if !self.front.authn.is_none() => {
                let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() else {
                    return EndReason::Crowded;
                };
                Some(place)
            }
            _ => None,
        };
        let limits = match standing {
            Standing::FrontProxy => self.limits.front_proxy,
            Standing::User | Standing::Stranger => self.limits.others,
        };
        let requests =
            Requests { front: Arc::clone(&self.front), conversation: Arc::clone(&conversation) };
        let watch = Watch { acceptor: self, conversation, standing, changes, stage, born };
        let mut cut = watch.stage.clone();
        let (lent, parting) = parting::lend(tls);
        let io = TokioIo::new(lent);
        let reason = if http2 {
            let connection = self.http2(limits).serve_connection(io, requests);
            watch.drive(std::pin::pin!(connection)).await
        } else {
            let connection = self.http1(limits).serve_connection(io, requests);
            watch.drive(std::pin::pin!(connection)).await
        };
        if !matches!(reason, EndReason::Cut) {
            tokio::select! {
                () = parting.wait() => {}
                _ = cut.wait_for(|stage| *stage == Stage::Cut) => {}
            }
        }
        reason
    }

    fn http1(&self, limits: PeerLimits) -> http1::Builder {
        /// What hyper takes without putting the parser's table on the heap.
        const FREE_LINES: usize = 100;
        /// hyper's own floor.
        const FLOOR: usize = 8192;
        let mut builder = http1::Builder::new();
        let bytes = usize::try_from(limits.bytes).unwrap_or(usize::MAX).max(FLOOR);
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_read)
            .max_buf_size(bytes)
            .max_header_size(bytes);
        if limits.lines != FREE_LINES {
            builder.max_headers(limits.lines);
        }
        builder
    }

    fn http2(&self, limits: PeerLimits) -> http2::Builder<Tracked> {
        const WINDOW: u32 = 65_535;
        let mut builder = http2::Builder::new(Tracked(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            // Bodies are never read: HTTP/2's own defaults, not hyper's megabytes.
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(limits.bytes)
            .keep_alive_interval(self.limits.ping_interval)
            .keep_alive_timeout(self.limits.ping_timeout)
            .max_pending_accept_reset_streams(limits.resets);
        builder
    }
}

/// Runs hyper's per-stream futures as jobs of the task set.
#[derive(Clone)]
struct Tracked(TaskSet);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.job("stream", future);
    }
}

/// A hyper connection of either version.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Whether a graceful end loses no request that is on its way: HTTP/2 says what it has seen.
    const TELLS: bool;

    fn end(self: Pin<&mut Self>);
}

type Io = TokioIo<Lent<TlsStream<TcpStream>>>;

impl<S: Service> Connection for http2::Connection<Io, Requests<S>, Tracked> {
    const TELLS: bool = true;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: Service> Connection for http1::Connection<Io, Requests<S>> {
    const TELLS: bool = false;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Watches over one connection while it is served.
struct Watch<'a, S> {
    acceptor: &'a Acceptor<S>,
    conversation: Arc<Conversation>,
    standing: Standing,
    changes: Option<watch::Receiver<u64>>,
    stage: watch::Receiver<Stage>,
    born: Stage,
}

/// What happened besides the connection's own work.
enum Event {
    Ended(hyper::Result<()>),
    Stage,
    Trust,
    Retire,
    Timer,
}

impl<S: Service> Watch<'_, S> {
    async fn drive<C: Connection>(mut self, mut connection: Pin<&mut C>) -> EndReason {
        let limits = &self.acceptor.limits;
        let recycle = Instant::now() + jittered(limits.recycle_after);
        let mut ending: Option<(EndReason, Instant)> = None;
        let timer = tokio::time::sleep(limits.idle.min(limits.recycle_after));
        let mut timer = std::pin::pin!(timer);
        loop {
            let event = tokio::select! {
                biased;
                result = &mut connection => Event::Ended(result),
                () = self.conversation.retire.notified() => Event::Retire,
                _ = self.stage.changed() => Event::Stage,
                () = changed(&mut self.changes) => Event::Trust,
                () = &mut timer => Event::Timer,
            };
            let mut end = None;
            match event {
                Event::Ended(result) => {
                    return match (ending, result) {
                        (Some((reason, _)), _) => reason,
                        (None, Ok(())) => EndReason::Peer,
                        (None, Err(error)) => {
                            tracing::debug!(%error, "connection failed");
                            EndReason::Error
                        }
                    };
                }
                Event::Stage => match *self.stage.borrow_and_update() {
                    Stage::Cut => return EndReason::Cut,
                    Stage::Stopping => {
                        // Now an idle HTTP/1 connection ends, too.
                        self.conversation.closing.store(true, Ordering::Relaxed);
                        connection.as_mut().end();
                        end = Some(EndReason::Drained);
                    }
                    Stage::Draining if self.born < Stage::Draining => {
                        end = Some(EndReason::Drained);
                    }
                    Stage::Draining | Stage::Running => {}
                },
                Event::Trust => {
                    let standing = self.acceptor.front.authn.standing(&self.conversation.peer);
                    // In either direction: limits were chosen by the old standing.
                    if standing != self.standing {
                        self.standing = standing;
                        end = Some(EndReason::TrustChanged);
                    }
                }
                Event::Retire => end = Some(EndReason::Unauthenticated),
                Event::Timer => {
                    let now = Instant::now();
                    if ending.is_some_and(|(_, by)| by <= now) {
                        return EndReason::Cut;
                    }
                    if ending.is_none() && now >= recycle {
                        end = Some(EndReason::Recycled);
                    } else if self.idle_since() >= limits.idle {
                        connection.as_mut().end();
                        end = Some(EndReason::Idle);
                    }
                }
            }
            if let (Some(reason), None) = (end, ending) {
                if C::TELLS {
                    connection.as_mut().end();
                }
                // An HTTP/1 connection that is idle ends with its next answer or by being idle.
                self.conversation.closing.store(true, Ordering::Relaxed);
                ending = Some((reason, Instant::now() + limits.request + limits.idle));
            }
            let rest =
                limits.idle.saturating_sub(self.idle_since()).max(Duration::from_millis(100));
            let mut next = Instant::now() + rest;
            next = next.min(ending.map_or(recycle, |(_, by)| by));
            timer.as_mut().reset(next);
        }
    }

    /// For how long nothing was asked; zero while something is being answered.
    fn idle_since(&self) -> Duration {
        if self.conversation.active.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last = Tick(self.conversation.last_used.load(Ordering::Relaxed));
        self.acceptor.front.clock.tick().since(last)
    }
}

/// Waits for a change of the trust, for ever if there can be none.
async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// A duration plus up to a quarter of it, so that connections made together do not end together.
fn jittered(duration: Duration) -> Duration {
    duration + duration.mul_f64(0.25 * rand::random::<f64>())
}
