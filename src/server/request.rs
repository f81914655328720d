//! What happens to one request: authentication, authorization, the service, and what every answer
//! gets.
//!
//! A request whose answer is in memory runs through here without waiting, without a boxed future
//! and without building an identity. Not responsible for: what a path means (the [`Service`]),
//! which HTTP status an error has ([`crate::status`]).

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Body;
use tokio::sync::Notify;

use super::Answer;
use super::Service;
use super::authn::{Authentication, Caller, Finding, PeerState, Refused, Standing};
use super::authz::{Authorization, Decision, Might};
use super::crowd::{Crowd, Place};
use super::journal::Journal;
use super::metrics::ConnectionMetrics;
use crate::model::{ApiError, Attributes, Clock, Tick};
use crate::status::{self, Failed, Hinted, Status};
use crate::telemetry::traces::{self, Span, TRACEPARENT, TRACESTATE};

/// A refusal waits so long for the cluster to say which names may be told in it: the API server
/// answers a review within a millisecond or two.
const HINT_WAIT: Duration = Duration::from_millis(250);

type Reply = Response<Full<Bytes>>;

/// The id under which kube-apiserver's audit log knows the request.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Longest audit id that is echoed; Go's are 36 characters, and it cuts others at 64.
const MAX_AUDIT_ID: usize = 64;

/// What all requests share.
pub(super) struct Front<S> {
    pub(super) service: Arc<S>,
    pub(super) authn: Authentication,
    pub(super) authz: Authorization,
    pub(super) crowd: Crowd,
    pub(super) metrics: Arc<ConnectionMetrics>,
    pub(super) journal: Journal,
    pub(super) clock: Arc<dyn Clock>,
    /// Limit of one request.
    pub(super) limit: Duration,
}

/// What requests tell their connection.
pub(super) struct Conversation {
    pub(super) peer: PeerState,
    /// Requests being answered.
    pub(super) active: AtomicUsize,
    /// Tick of the last request's start or end.
    pub(super) last_used: AtomicU64,
    /// Set when the connection should end after the answer: HTTP/1 says so in a header.
    pub(super) closing: AtomicBool,
    /// Told when a request on HTTP/2 should be the connection's last.
    pub(super) retire: Notify,
}

impl Conversation {
    pub(super) fn new(peer: PeerState, now: Tick) -> Self {
        Self {
            peer,
            active: AtomicUsize::new(0),
            last_used: AtomicU64::new(now.0),
            closing: AtomicBool::new(false),
            retire: Notify::new(),
        }
    }
}

/// Counts a request as active until dropped, whether it was answered or abandoned.
struct Active {
    conversation: Arc<Conversation>,
    clock: Arc<dyn Clock>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.conversation.last_used.store(self.clock.tick().0, Ordering::Relaxed);
        self.conversation.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The requests of one connection, as hyper sees them.
pub(super) struct Requests<S> {
    pub(super) front: Arc<Front<S>>,
    pub(super) conversation: Arc<Conversation>,
}

impl<S: Service, B> hyper::service::Service<Request<B>> for Requests<S> {
    type Response = Reply;
    type Error = Infallible;
    type Future =
        Either<Ready<Result<Reply, Infallible>>, BoxFuture<'static, Result<Reply, Infallible>>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        // No request here has a use for a body; dropping it tells the peer so.
        let (mut parts, _body) = request.into_parts();
        self.conversation.active.fetch_add(1, Ordering::Relaxed);
        let active = Active {
            conversation: Arc::clone(&self.conversation),
            clock: Arc::clone(&self.front.clock),
        };
        let mut finish = Finish::new(&mut parts);
        if traces::are_on() {
            finish.span = self.span(&parts);
        }
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| self.front.begin(&active, parts)));
        let (step, open) = match step {
            Ok((step, open)) => (Ok(step), open),
            Err(panic) => (Err(panic), false),
        };
        match step {
            Ok(Either::Left(reply)) => Either::Left(ready(Ok(finish.apply(&active, reply)))),
            Err(_) => {
                let reply = self.front.panicked();
                Either::Left(ready(Ok(finish.apply(&active, reply))))
            }
            Ok(Either::Right(waiting)) => {
                let place = match self.place(open) {
                    Ok(place) => place,
                    Err(refusal) => {
                        let reply = finish.apply(&active, error(&refusal));
                        return Either::Left(ready(Ok(reply)));
                    }
                };
                let front = Arc::clone(&self.front);
                Either::Right(
                    async move {
                        let _place = place;
                        let waiting = AssertUnwindSafe(waiting).catch_unwind();
                        let reply = match tokio::time::timeout(front.limit, waiting).await {
                            Ok(Ok(reply)) => reply,
                            Ok(Err(_)) => front.panicked(),
                            Err(_) => {
                                front.metrics.timeouts.inc();
                                error(&ApiError::DeadlineExceeded(front.limit))
                            }
                        };
                        Ok(finish.apply(&active, reply))
                    }
                    .boxed(),
                )
            }
        }
    }
}

impl<S: Service> Requests<S> {
    /// Where a request waits. What everybody may ask is never refused.
    fn place(&self, open: bool) -> Result<Option<Place>, ApiError> {
        if open {
            return Ok(None);
        }
        // Without authentication there are no strangers.
        let standing = match self.front.authn.standing(&self.conversation.peer) {
            Standing::Stranger if self.front.authn.is_none() => Standing::User,
            standing => standing,
        };
        self.front.crowd.enter(standing).map(Some)
    }

    /// The span of a read, in the trace that the aggregator names; strangers name none.
    fn span(&self, parts: &Parts) -> Span {
        // `/apis/GROUP/VERSION/` and more: not discovery, not health.
        if !parts.uri.path().starts_with("/apis/") || parts.uri.path().split('/').count() < 5 {
            return Span::default();
        }
        let standing = self.front.authn.standing(&self.conversation.peer);
        let is_known = self.front.authn.is_none() || standing == Standing::FrontProxy;
        let text = |name: &str| parts.headers.get(name)?.to_str().ok();
        let told = |name: &str| text(name).filter(|_| is_known);
        let id = parts.headers.get(AUDIT_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        Span::read(parts.uri.path(), id, told(TRACEPARENT), told(TRACESTATE))
    }
}

/// Either an answer or the wait for it.
type Step = Either<Reply, BoxFuture<'static, Reply>>;

impl<S: Service> Front<S> {
    /// The answer or the wait for it, and whether everybody may ask this.
    fn begin(self: &Arc<Self>, active: &Active, mut parts: Parts) -> (Step, bool) {
        let route = self.service.route(&parts.method, &parts.uri);
        let open = self.service.always_allowed(&route);
        let finding = self.authn.authenticate(&active.conversation.peer, &parts.headers);
        let impersonation = self.authn.strip(&mut parts.headers).impersonation;
        // A stranger's connection ends after one answer, or one client could keep the server busy
        // with streams it never may use. Probes are exempt.
        let conversation =
            (!self.authn.is_none() && !open).then(|| Arc::clone(&active.conversation));
        let pending = Pending { route, parts, open, impersonation, conversation };
        let step = match finding {
            Finding::Now(found) => self.identified(found, pending),
            Finding::Wait(found) => {
                let front = Arc::clone(self);
                Either::Right(
                    async move { resolve(front.identified(found.await, pending)).await }.boxed(),
                )
            }
        };
        (step, open)
    }

    fn identified(
        self: &Arc<Self>,
        found: Result<Arc<Caller>, Refused>,
        pending: Pending<S>,
    ) -> Step {
        let retire = |conversation: &Option<Arc<Conversation>>| {
            if let Some(conversation) = conversation
                && pending.parts.version == Version::HTTP_2
                // The aggregator's connection carries everybody's requests: what one user sends
                // through it must not end it.
                && self.authn.standing(&conversation.peer) != Standing::FrontProxy
            {
                conversation.retire.notify_one();
            }
        };
        let Ok(caller) = found else {
            retire(&pending.conversation);
            return Either::Left(self.refused(&ApiError::Unauthorized, &pending.parts, None));
        };
        if caller.identity.is_anonymous() {
            retire(&pending.conversation);
        }
        if pending.impersonation {
            let refusal = ApiError::ForbiddenPath(
                "forbidden: impersonation headers are not accepted here; impersonate through \
                 kube-apiserver"
                    .to_owned(),
            );
            return Either::Left(self.refused(&refusal, &pending.parts, Some(&caller)));
        }
        if pending.open {
            return self.answer(pending, &caller);
        }
        match self.authz.decide(&caller, self.service.attributes(&pending.route)) {
            Decision::Now(Ok(())) => self.answer(pending, &caller),
            Decision::Now(Err(refusal)) => {
                Either::Left(self.refused(&refusal, &pending.parts, Some(&caller)))
            }
            Decision::Wait(decision) => {
                let front = Arc::clone(self);
                Either::Right(
                    async move {
                        match decision.await {
                            Ok(()) => resolve(front.answer(pending, &caller)).await,
                            Err(refusal) => front.refused(&refusal, &pending.parts, Some(&caller)),
                        }
                    }
                    .boxed(),
                )
            }
        }
    }

    fn answer(self: &Arc<Self>, pending: Pending<S>, caller: &Arc<Caller>) -> Step {
        let Pending { route, parts, .. } = pending;
        let answer = match self.service.answer(route, &parts) {
            Either::Left(mut reply) => match Hinted::of(&mut reply) {
                Some(hinted) => self.hint(caller, hinted),
                None => Either::Left(reply),
            },
            // Hints are given at once or not at all.
            waiting @ Either::Right(_) => waiting,
        };
        match answer {
            Either::Left(reply) => {
                self.note(&reply, &parts, Some(caller));
                Either::Left(reply)
            }
            Either::Right(waiting) => {
                let (front, caller) = (Arc::clone(self), Arc::clone(caller));
                Either::Right(
                    async move {
                        let reply = waiting.await;
                        front.note(&reply, &parts, Some(&caller));
                        reply
                    }
                    .boxed(),
                )
            }
        }
    }

    /// The answer to a request that does not reach the service.
    fn refused(&self, refusal: &ApiError, parts: &Parts, caller: Option<&Arc<Caller>>) -> Reply {
        let reply = error(refusal);
        self.note(&reply, parts, caller);
        reply
    }

    /// Logs a read that failed. Costs a good answer a look at a field that is empty.
    fn note(&self, reply: &Reply, parts: &Parts, caller: Option<&Arc<Caller>>) {
        let Some(failed) = reply.extensions().get::<Failed>() else { return };
        let route = self.service.route(&parts.method, &parts.uri);
        if let Attributes::Resource(asked) = self.service.attributes(&route) {
            let user = caller.map(|caller| caller.identity.user.as_str());
            let (code, id) = (reply.status().as_u16(), parts.headers.get(AUDIT_ID));
            self.journal.failed(&asked, failed, code, user, id, self.clock.tick());
        }
    }

    /// Tells the hints about which the cluster says quickly that the caller may know them. Those that
    /// take longer are known to the next request.
    fn hint(&self, caller: &Arc<Caller>, hinted: Hinted) -> Answer {
        let might: Vec<Might> =
            hinted.hints().iter().map(|hint| self.authz.might(caller, &hint.attributes)).collect();
        if might.iter().all(|might| matches!(might, Might::Now(_))) {
            let told = |at: usize| matches!(might[at], Might::Now(true));
            return Either::Left(hinted.telling(told));
        }
        Either::Right(
            async move {
                let until = tokio::time::Instant::now() + HINT_WAIT;
                let answers = might.into_iter().map(async |might| match might {
                    Might::Now(allowed) => allowed,
                    Might::Wait(answer) => {
                        tokio::time::timeout_at(until, answer).await.unwrap_or(false)
                    }
                });
                let allowed = futures::future::join_all(answers).await;
                hinted.telling(|at| allowed[at])
            }
            .boxed(),
        )
    }

    fn panicked(&self) -> Reply {
        self.metrics.panics.inc();
        error(&ApiError::Internal("the request failed; the log says more".to_owned()))
    }
}

/// A request on its way.
struct Pending<S: Service> {
    route: S::Route,
    parts: Parts,
    /// Whether everybody may.
    open: bool,
    /// Whether it asks to act as somebody else.
    impersonation: bool,
    /// The connection, if a stranger's request should be its last.
    conversation: Option<Arc<Conversation>>,
}

async fn resolve(step: Step) -> Reply {
    match step {
        Either::Left(reply) => reply,
        Either::Right(waiting) => waiting.await,
    }
}

fn error(error: &ApiError) -> Reply {
    Status::from(error).response()
}

/// What every answer gets.
struct Finish {
    audit_id: HeaderValue,
    version: Version,
    head: bool,
    /// Nothing unless traces are on.
    span: Span,
}

impl Finish {
    /// Gives the request an id if it has none; from here on its headers have it.
    fn new(parts: &mut Parts) -> Self {
        let given =
            parts.headers.get(AUDIT_ID).filter(|v| !v.is_empty() && v.len() <= MAX_AUDIT_ID);
        let audit_id = given.cloned().unwrap_or_else(|| {
            let mut buffer = uuid::Uuid::encode_buffer();
            let id = uuid::Uuid::new_v4();
            let id = HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))
                .expect("a UUID is made of hexadecimal digits and hyphens");
            parts.headers.insert(AUDIT_ID, id.clone());
            id
        });
        let (version, head) = (parts.version, parts.method == Method::HEAD);
        Self { audit_id, version, head, span: Span::default() }
    }

    fn apply(self, active: &Active, mut reply: Reply) -> Reply {
        let failed = reply.extensions().get::<Failed>();
        self.span.answered(reply.status().as_u16(), failed.map(|failed| &*failed.message));
        // The service knows about HEAD; our own errors do not.
        if self.head && !reply.body().is_end_stream() {
            reply = status::without_body(reply);
        }
        reply.headers_mut().insert(AUDIT_ID, self.audit_id);
        if self.version < Version::HTTP_2 && active.conversation.closing.load(Ordering::Relaxed) {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}
