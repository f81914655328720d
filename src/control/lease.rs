//! One replica of several: who holds the Lease does what only one may do.
//!
//! Responsible for: taking, renewing and giving back a `Lease` of `coordination.k8s.io`, and telling
//! whether it is held. Not responsible for: what its holder does.
//!
//! The rules are client-go's (`tools/leaderelection`), so that both can be reasoned about alike.
//! Invariants: the times that others write into the lease are never compared with our clock: a lease
//! is taken over when it has not *changed* for its duration, by our monotonic clock; a holder that
//! has not renewed it for [`RENEW_DEADLINE`] stops before anybody can take it over; every write names
//! the version that it replaces, so of two only one succeeds.

mod metrics;
mod record;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::telemetry::Telemetry;
use metrics::LeaseMetrics;
use record::{Observed, Step};

/// How long a lease lasts after its last renewal.
pub const DURATION: Duration = Duration::from_secs(10);

/// A holder that could not renew for this long holds it no more. Below [`DURATION`] by more than any
/// write that its holder may have under way takes ([`SAFE_CALL`]).
pub const RENEW_DEADLINE: Duration = Duration::from_secs(6);

/// Between two renewals, and between two looks at somebody else's.
pub const RETRY: Duration = Duration::from_secs(2);

/// A call that is made while the lease is held may take this long, and has then ended before somebody
/// else can hold it.
pub const SAFE_CALL: Duration = Duration::from_secs(3);

/// How long one call of ours may take: two fit into the deadline.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);

/// The longest pause between looks that fail, at a lease that we do not hold: somebody who grants the
/// permission sees it used within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The pause before a look at what somebody has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is lost without it, and what it takes.
const NOT_POSSIBLE: &str = "the Lease cannot be had, so the status of metric resources is not \
     written and no Events are; metrics are served all the same. Grant get, create and update on \
     leases.coordination.k8s.io in this namespace";

/// A lease that this process wants to hold.
pub struct Lease {
    api: Api<Object>,
    name: String,
    identity: String,
    held: watch::Sender<bool>,
    metrics: LeaseMetrics,
    observed: Option<Observed>,
    /// When the last successful renewal began.
    renewed: Option<Instant>,
    failures: u32,
}

impl Lease {
    /// A lease by this name. `identity` is the pod's name; what makes it unique is added.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        telemetry: &Telemetry,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: format!("{identity}_{}", uuid::Uuid::new_v4()),
            held: watch::Sender::new(false),
            metrics: LeaseMetrics::register(telemetry),
            observed: None,
            renewed: None,
            failures: 0,
        }
    }

    /// Whether it is held, and every change of that.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    /// Takes and renews it, for ever. Can be dropped at any point.
    pub async fn hold(&mut self) {
        loop {
            let pause = self.attempt().await;
            sleep(pause).await;
        }
    }

    /// Gives it back, if it is held, so that others need not wait until it lapses.
    pub async fn release(&mut self) {
        if !self.tell(false) {
            return;
        }
        let Some(observed) = &self.observed else { return };
        let object = observed.released(now());
        let params = PostParams::default();
        let released = self.api.replace(&self.name, &params, &object);
        match timeout(CALL_TIMEOUT, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the Lease was not given back"),
            Err(_) => tracing::debug!("the Lease was not given back in time"),
        }
    }

    /// One try to have it; gives the pause until the next.
    async fn attempt(&mut self) -> Duration {
        let began = Instant::now();
        let bound = match self.deadline() {
            Some(deadline) => CALL_TIMEOUT.min(deadline.saturating_duration_since(began)),
            None => CALL_TIMEOUT,
        };
        let outcome = timeout(bound, self.step()).await;
        let after = Instant::now();
        let held = match outcome {
            Ok(Ok(held)) => {
                self.recovered();
                Some(held)
            }
            Ok(Err(error)) => {
                self.failed(&error.to_string());
                if let kube::Error::Api(status) = &error
                    && matches!(status.code, 404 | 409)
                    && let Some(observed) = &mut self.observed
                {
                    // Somebody else was faster, or it is gone: what we know of it is old.
                    observed.forget_version();
                    if self.failures == 1 {
                        return LOOK_AGAIN;
                    }
                }
                None
            }
            Err(_) => {
                self.failed("no answer in time");
                None
            }
        };
        match (held, self.deadline()) {
            (Some(true), _) => {
                self.renewed = Some(began);
                self.tell(true);
                RETRY.saturating_sub(after - began)
            }
            // A call that failed tells nothing about who holds it.
            (None, Some(deadline)) if after < deadline => RETRY.min(deadline - after),
            (None | Some(false), _) => {
                self.renewed = None;
                self.tell(false);
                self.pause(after)
            }
        }
    }

    /// Until when it is held without a further renewal.
    fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_DEADLINE)
    }

    /// How long to leave somebody else's lease alone, or an API server that does not let us.
    fn pause(&self, now: Instant) -> Duration {
        // Replicas that wait for the same lease do not come together.
        let jitter = 1.0 + 0.2 * rand::random::<f64>();
        let pause = RETRY.mul_f64(jitter);
        if self.failures > 0 {
            let doubled = pause.saturating_mul(1 << self.failures.min(6).saturating_sub(1));
            return doubled.min(LONGEST_PAUSE);
        }
        let lapses = self.observed.as_ref().and_then(|observed| observed.lapses(&self.identity));
        lapses.map_or(pause, |lapses| pause.min(lapses.saturating_duration_since(now)))
    }

    /// Whether it is held after one step of the protocol.
    async fn step(&mut self) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        // Who holds it need not look: the version tells whether somebody interfered.
        let known = self.observed.as_ref().filter(|observed| observed.is_renewable(&self.identity));
        if let Some(observed) = known {
            let next = observed.renewed(now());
            let written = self.api.replace(&self.name, &params, &next).await?;
            self.observe(written);
            return Ok(true);
        }
        let found = match self.api.get(&self.name).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let next = record::first(&self.name, &self.identity, now());
                let written = self.api.create(&params, &next).await?;
                self.observe(written);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.observe(found);
        let Some(observed) = &self.observed else { return Ok(false) };
        match observed.step(&self.identity, Instant::now()) {
            Step::Wait => Ok(false),
            Step::Take => {
                let next = observed.taken(&self.identity, now());
                let written = self.api.replace(&self.name, &params, &next).await?;
                self.observe(written);
                Ok(true)
            }
        }
    }

    fn observe(&mut self, object: Object) {
        let now = Instant::now();
        self.observed = Some(match self.observed.take() {
            Some(before) => before.then(object, now),
            None => Observed::new(object, now),
        });
    }

    /// Notes whether it is held; gives whether it was before.
    fn tell(&mut self, held: bool) -> bool {
        let before = self.held.send_replace(held);
        if before != held {
            self.metrics.held(held);
            let identity = &self.identity;
            if held {
                tracing::info!(
                    lease = self.name,
                    identity,
                    "this replica writes the status of metric resources"
                );
            } else {
                tracing::info!(
                    lease = self.name,
                    identity,
                    "this replica no longer writes the status of metric resources"
                );
            }
        }
        before
    }

    fn failed(&mut self, cause: &str) {
        self.metrics.failed();
        self.failures = self.failures.saturating_add(1);
        // One failure is another replica that was faster, or an API server that restarts.
        if self.failures == 3 {
            tracing::warn!(lease = self.name, cause, "{NOT_POSSIBLE}");
        } else {
            tracing::debug!(lease = self.name, cause, "the Lease could not be had");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failures) >= 3 {
            tracing::info!(lease = self.name, "the Lease can be had again");
        }
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
