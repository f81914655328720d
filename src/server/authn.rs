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
mod standing;
mod token;
mod trust;
mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::watch;

use self::config_map::TrustWatch;
use self::delegate::KubeTokenReviewer;
use self::token::Tokens;
use super::metrics::{AuthnMetrics, Method, ReviewMetrics};
use super::review::Desk;
use crate::model::{Clock, Identity, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

pub(super) use self::caller::{Caller, HASHER};
pub(super) use self::front_proxy::Stripped;
pub(super) use self::standing::{PeerState, Standing};
pub use self::token::{TokenReviewer, TokenVerdict};
pub(super) use self::trust::TrustStore;
pub(super) use self::x509::Peer;

/// The hint about an aggregator without a client certificate is given at most so often.
const HINT_PAUSE: Duration = Duration::from_mins(10);

/// Who asks: how to find out.
pub struct Authentication {
    /// Everybody, where nobody is told apart, and whoever shows no credentials elsewhere.
    anonymous: Arc<Caller>,
    delegated: Option<Delegated>,
    /// Whether the trust configuration was read, or reading it was refused.
    settled: watch::Receiver<bool>,
}

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
    metrics: Arc<AuthnMetrics>,
    clock: Arc<dyn Clock>,
    /// Tick of the last hint.
    hinted: AtomicU64,
}

impl Authentication {
    fn new(delegated: Option<Delegated>, settled: watch::Receiver<bool>) -> Self {
        Self { anonymous: Caller::new(Identity::anonymous()), delegated, settled }
    }

    /// Everybody is anonymous. For a server on a loopback address.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, watch::channel(true).1)
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
        let settled = watch.start(client, tasks).await;
        Self::new(Some(delegated), settled)
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
        Self::new(Some(delegated), watch::channel(true).1)
    }

    /// For readiness: tells, at any time, whether the cluster's trust configuration was read, or
    /// is known to be absent or forbidden. Always so without a cluster.
    pub fn settled(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let settled = self.settled.clone();
        move || *settled.borrow()
    }

    /// Whether everybody is anonymous.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.delegated.is_none()
    }

    /// Who sends this request.
    pub(super) fn authenticate(&self, connection: &PeerState, headers: &HeaderMap) -> Finding {
        match &self.delegated {
            Some(delegated) => delegated.authenticate(&self.anonymous, connection, headers),
            None => Finding::Now(Ok(Arc::clone(&self.anonymous))),
        }
    }

    /// Removes credentials and asserted identities.
    pub(super) fn strip(&self, headers: &mut HeaderMap) -> Stripped {
        match &self.delegated {
            Some(delegated) => {
                front_proxy::strip(headers, delegated.trust.current().front_proxy.as_ref())
            }
            None => front_proxy::strip(headers, None),
        }
    }

    /// What the peer's certificate is good for at this moment.
    pub(super) fn standing(&self, connection: &PeerState) -> Standing {
        let judgement = self.delegated.as_ref().and_then(|delegated| {
            connection.judge(&delegated.trust.current(), delegated.clock.as_ref())
        });
        judgement.map_or(Standing::Stranger, |j| j.standing())
    }

    /// Tells when the trust has changed; `None` when it never does.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.delegated.as_ref().map(|d| d.trust.changes())
    }

    #[cfg(test)]
    pub(super) fn trust(&self) -> Arc<TrustStore> {
        Arc::clone(&self.delegated.as_ref().expect("a test of delegated authentication").trust)
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
            metrics,
            clock,
            hinted: AtomicU64::new(0),
        }
    }

    fn authenticate(
        &self,
        anonymous: &Arc<Caller>,
        connection: &PeerState,
        headers: &HeaderMap,
    ) -> Finding {
        let trust = self.trust.current();
        let mut refusal = None;
        if let Some(judgement) = connection.judge(&trust, self.clock.as_ref()) {
            match (&judgement.proxy, &trust.front_proxy) {
                (Some(Ok(())), Some(proxy)) => {
                    match connection.asserted(trust.generation, proxy, headers) {
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
                None => self.found(Method::Anonymous, Arc::clone(anonymous)),
            },
        }
    }

    fn found(&self, method: Method, caller: Arc<Caller>) -> Finding {
        self.metrics.authenticated(method);
        Finding::Now(Ok(caller))
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
