//! Authentication: who asks.
//!
//! The order and its meaning are the Go generic API server's: front proxy headers, client
//! certificate, bearer token; the first success wins. A method that finds nothing to go by has no
//! opinion; one that finds something wrong is an error, which does not stop the others. If none
//! succeeds, an error means 401, and no opinion at all means the anonymous user.
//!
//! Invariants: headers are believed only on a connection whose certificate verifies, now, against
//! the request-header CA of the trust in use, with an allowed name; what a certificate stands for
//! is decided again whenever the trust changes and at least once a minute. After authentication
//! no credential and no asserted identity is left in the request ([`Authentication::strip`]).
//! Not responsible for: what anybody may do ([`super::authz`]).

mod caller;
mod config_map;
pub(super) mod delegate;
mod front_proxy;
mod token;
mod trust;
mod x509;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use self::config_map::TrustWatch;
use self::delegate::KubeTokenReviewer;
use self::token::Tokens;
use self::trust::{FrontProxy, Trust};
use super::metrics::{AuthnMetrics, Method, ReviewMetrics};
use super::review::Desk;
use crate::model::{Clock, Identity, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

pub(super) use self::caller::{Caller, HASHER};
pub(super) use self::front_proxy::Stripped;
pub use self::token::{TokenReviewer, TokenVerdict};
pub(super) use self::trust::TrustStore;
pub(super) use self::x509::Peer;

/// What a certificate stands for is decided again after this time: it may have expired.
const STANDING_LIFE: Duration = Duration::from_mins(1);

/// The hint about an aggregator without a client certificate is given at most so often.
const HINT_PAUSE: Duration = Duration::from_mins(10);

/// Who asks: how to find out.
pub struct Authentication(Option<Delegated>);

/// Credentials were there and none held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// A finding that is there, or one that waits for a review.
pub(super) enum Finding {
    Now(Result<Arc<Caller>, Refused>),
    Wait(BoxFuture<'static, Result<Arc<Caller>, Refused>>),
}

struct Delegated {
    trust: Arc<TrustStore>,
    tokens: Tokens,
    anonymous: Arc<Caller>,
    metrics: Arc<AuthnMetrics>,
    clock: Arc<dyn Clock>,
    /// Tick of the last hint.
    hinted: AtomicU64,
}

impl Authentication {
    /// Everybody is anonymous. For a server on a loopback address.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Authentication delegated to the cluster: reads and watches the trust configuration, reviews
    /// tokens. Waits a few seconds for the first reading and starts without it if it must.
    pub async fn delegated(
        client: kube::Client,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let reviewer = Arc::new(KubeTokenReviewer::new(client.clone()));
        let delegated = Delegated::new(reviewer, tasks, telemetry, clock);
        let watch = TrustWatch::new(Arc::clone(&delegated.trust), Arc::clone(&delegated.metrics));
        watch.start(client, tasks).await;
        Self(Some(delegated))
    }

    /// Delegated authentication with a given reviewer and fixed trust data (the keys of the
    /// `ConfigMap`), without any cluster.
    #[must_use]
    pub fn fixed(
        trust: &BTreeMap<String, String>,
        reviewer: Arc<dyn TokenReviewer>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let delegated = Delegated::new(reviewer, tasks, telemetry, clock);
        delegated.trust.apply(trust);
        Self(Some(delegated))
    }

    /// Whether everybody is anonymous.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Who sends this request.
    pub(super) fn authenticate(&self, connection: &PeerState, headers: &HeaderMap) -> Finding {
        match &self.0 {
            Some(delegated) => delegated.authenticate(connection, headers),
            None => Finding::Now(Ok(Arc::clone(&connection.nobody))),
        }
    }

    /// Removes credentials and asserted identities.
    pub(super) fn strip(&self, headers: &mut HeaderMap) -> Stripped {
        match &self.0 {
            Some(delegated) => {
                front_proxy::strip(headers, delegated.trust.current().front_proxy.as_ref())
            }
            None => front_proxy::strip(headers, None),
        }
    }

    /// What the peer's certificate is good for at this moment.
    pub(super) fn standing(&self, connection: &PeerState) -> Standing {
        match (&self.0, &connection.peer) {
            (Some(delegated), Some(peer)) => {
                let trust = delegated.trust.current();
                delegated.judge(connection, peer, &trust).standing()
            }
            _ => Standing::Stranger,
        }
    }

    /// Tells when the trust has changed; `None` when it never does.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.0.as_ref().map(|d| d.trust.changes())
    }

    #[cfg(test)]
    pub(super) fn trust(&self) -> Arc<TrustStore> {
        Arc::clone(&self.0.as_ref().expect("a test of delegated authentication").trust)
    }
}

/// What a connection's certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may assert identities by header.
    FrontProxy,
    /// It is a user's.
    User,
    /// Nothing, or there is none.
    Stranger,
}

/// What authentication remembers of one connection.
pub(super) struct PeerState {
    peer: Option<Peer>,
    judgement: Mutex<Option<Arc<Judgement>>>,
    /// The last identity asserted by header. One kube-apiserver forwards mostly one user's
    /// requests, so this saves building an identity per request.
    last: Mutex<Option<Asserted>>,
    nobody: Arc<Caller>,
}

struct Asserted {
    generation: u64,
    /// Every asserting header, in the order of the request.
    fields: Vec<(HeaderName, HeaderValue)>,
    caller: Arc<Caller>,
}

impl PeerState {
    pub(super) fn new(peer: Option<Peer>, nobody: &Arc<Caller>) -> Self {
        let nobody = Arc::clone(nobody);
        Self { peer, judgement: Mutex::default(), last: Mutex::default(), nobody }
    }
}

/// What a certificate stands for under one version of the trust.
struct Judgement {
    generation: u64,
    until: Tick,
    /// `None`: there is no front proxy.
    proxy: Option<Result<(), String>>,
    user: Option<Result<Arc<Caller>, String>>,
}

impl Judgement {
    fn standing(&self) -> Standing {
        match (&self.proxy, &self.user) {
            (Some(Ok(())), _) => Standing::FrontProxy,
            (_, Some(Ok(_))) => Standing::User,
            _ => Standing::Stranger,
        }
    }
}

impl Delegated {
    fn new(
        reviewer: Arc<dyn TokenReviewer>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let metrics = Arc::new(AuthnMetrics::register(telemetry));
        let reviews = ReviewMetrics::register(telemetry, "token");
        let desk = Desk::new(tasks, Arc::clone(&clock), reviews);
        Self {
            trust: Arc::new(TrustStore::new(Arc::clone(&metrics))),
            tokens: Tokens::new(reviewer, desk),
            anonymous: Caller::new(Identity::anonymous()),
            metrics,
            clock,
            hinted: AtomicU64::new(0),
        }
    }

    fn authenticate(&self, connection: &PeerState, headers: &HeaderMap) -> Finding {
        let trust = self.trust.current();
        let mut refusal = None;
        if let Some(peer) = &connection.peer {
            let judgement = self.judge(connection, peer, &trust);
            match (&judgement.proxy, &trust.front_proxy) {
                (Some(Ok(())), Some(proxy)) => {
                    match asserted(connection, trust.generation, proxy, headers) {
                        Ok(Some(caller)) => return self.found(Method::FrontProxy, caller),
                        Ok(None) => {}
                        Err(error) => refusal = Some(error),
                    }
                }
                (Some(Err(error)), _) => refusal = Some(format!("front proxy: {error}")),
                _ => {}
            }
            match &judgement.user {
                Some(Ok(caller)) => return self.found(Method::Certificate, Arc::clone(caller)),
                Some(Err(error)) => refusal = Some(format!("client certificate: {error}")),
                None => {}
            }
        } else if front_proxy::looks_forwarded(headers) {
            self.hint();
        }
        match token::bearer(headers) {
            Some(Ok(token)) => {
                let review = self.tokens.authenticate(token);
                let metrics = Arc::clone(&self.metrics);
                Finding::Wait(
                    async move {
                        match review.await {
                            Ok(caller) => {
                                metrics.authenticated(Method::Token);
                                Ok(caller)
                            }
                            Err(error) => Err(refuse(&metrics, &error)),
                        }
                    }
                    .boxed(),
                )
            }
            Some(Err(error)) => Finding::Now(Err(refuse(&self.metrics, &error))),
            None => match refusal {
                Some(error) => Finding::Now(Err(refuse(&self.metrics, &error))),
                None => self.found(Method::Anonymous, Arc::clone(&self.anonymous)),
            },
        }
    }

    fn found(&self, method: Method, caller: Arc<Caller>) -> Finding {
        self.metrics.authenticated(method);
        Finding::Now(Ok(caller))
    }

    /// What the peer's certificate stands for, remembered per connection.
    fn judge(&self, connection: &PeerState, peer: &Peer, trust: &Trust) -> Arc<Judgement> {
        let tick = self.clock.tick();
        let mut kept = lock(&connection.judgement);
        if let Some(judgement) = &*kept
            && judgement.generation == trust.generation
            && tick < judgement.until
        {
            return Arc::clone(judgement);
        }
        let seconds = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let proxy = trust.front_proxy.as_ref().map(|proxy| {
            proxy.ca.verify(peer, now)?;
            let name = peer.common_name()?;
            if proxy.allowed_names.is_empty() || proxy.allowed_names.iter().any(|n| n == name) {
                Ok(())
            } else {
                Err(format!("common name {name:?} is not among the allowed names"))
            }
        });
        let user = trust.client_ca.as_ref().and_then(|ca| {
            let user = ca.verify(peer, now).and_then(|()| peer.user());
            user.map(|u| u.map(Caller::authenticated)).transpose()
        });
        let judgement = Arc::new(Judgement {
            generation: trust.generation,
            until: tick.after(STANDING_LIFE),
            proxy,
            user,
        });
        *kept = Some(Arc::clone(&judgement));
        judgement
    }

    /// An aggregator without a client certificate makes every request anonymous; nothing but this
    /// line tells why.
    fn hint(&self) {
        let now = self.clock.tick();
        let last = self.hinted.load(Ordering::Relaxed);
        if (last == 0 || now.since(Tick(last)) >= HINT_PAUSE)
            && self
                .hinted
                .compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(
                "a request looks forwarded by the aggregator but came without a client certificate \
                 and counts as anonymous: does kube-apiserver run with --proxy-client-cert-file and \
                 --proxy-client-key-file?"
            );
        }
    }
}

/// The reason goes to the log; the requester learns only that it was refused.
fn refuse(metrics: &AuthnMetrics, reason: &str) -> Refused {
    metrics.authenticated(Method::Refused);
    tracing::debug!(reason, "request refused");
    Refused
}

/// The identity asserted by header, from memory if it is the last one again.
fn asserted(
    connection: &PeerState,
    generation: u64,
    proxy: &FrontProxy,
    headers: &HeaderMap,
) -> Result<Option<Arc<Caller>>, String> {
    let fields = || headers.iter().filter(|(name, _)| proxy.asserts(name));
    let mut last = lock(&connection.last);
    if let Some(last) = &*last
        && last.generation == generation
        && last.fields.iter().map(|(n, v)| (n, v)).eq(fields())
    {
        return Ok(Some(Arc::clone(&last.caller)));
    }
    let Some(identity) = proxy.identity(headers)? else { return Ok(None) };
    let caller = Caller::authenticated(identity);
    // Values are copied: they are slices of a read buffer that should not live as long.
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
    let fields = fields().filter_map(|(n, v)| Some((n.clone(), copy(v)?))).collect();
    *last = Some(Asserted { generation, fields, caller: Arc::clone(&caller) });
    Ok(Some(caller))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
