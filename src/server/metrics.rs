//! What the server counts. Labels come from the enums of `label` alone.

mod label;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

pub(super) use self::label::{
    Access, CacheEvent, CallOutcome, Decider, EndReason, HandshakeError, Method, ReloadOutcome,
    TrustState,
};
use crate::telemetry::Telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccessLabels {
    by: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Connections, handshakes and the serving certificate.
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    pub(super) open: Gauge,
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
    pub(super) panics: Counter,
    pub(super) timeouts: Counter,
    /// Requests that wait.
    pub(super) waiting: Gauge,
    /// Requests that would have to wait and were refused.
    pub(super) shed: Counter,
    ended: Family<Reason, Counter>,
    handshake_errors: Family<Reason, Counter>,
    reloads: Family<Outcome, Counter>,
    not_after: Gauge,
}

impl ConnectionMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self {
            open: Gauge::default(),
            accepted: Counter::default(),
            accept_errors: Counter::default(),
            panics: Counter::default(),
            timeouts: Counter::default(),
            waiting: Gauge::default(),
            shed: Counter::default(),
            ended: Family::default(),
            handshake_errors: Family::default(),
            reloads: Family::default(),
            not_after: Gauge::default(),
        };
        telemetry.register(|registry| {
            let m = &metrics;
            registry.register("server_connections_open", "Open connections", m.open.clone());
            registry.register("server_connections", "Accepted connections", m.accepted.clone());
            registry.register(
                "server_accept_errors",
                "Failed attempts to accept a connection",
                m.accept_errors.clone(),
            );
            registry.register(
                "server_handler_panics",
                "Requests whose handler panicked",
                m.panics.clone(),
            );
            registry.register(
                "server_request_timeouts",
                "Requests that ran into the server's deadline",
                m.timeouts.clone(),
            );
            registry.register(
                "server_requests_waiting",
                "Requests that wait for a review or a first value",
                m.waiting.clone(),
            );
            registry.register(
                "server_requests_shed",
                "Requests refused because too many waited already",
                m.shed.clone(),
            );
            registry.register(
                "server_connections_ended",
                "Ended connections by reason",
                m.ended.clone(),
            );
            registry.register(
                "server_tls_handshake_errors",
                "Failed TLS handshakes by reason",
                m.handshake_errors.clone(),
            );
            registry.register(
                "server_certificate_reloads",
                "Changes of the serving certificate's files by outcome",
                m.reloads.clone(),
            );
            registry.register(
                "server_certificate_not_after_timestamp_seconds",
                "When the serving certificate ends",
                m.not_after.clone(),
            );
        });
        // Every series is there from the start: a rate over one that appears later misses its
        // first event.
        for reason in EndReason::ALL {
            drop(metrics.ended.get_or_create(&Reason { reason: reason.as_str() }));
        }
        for reason in HandshakeError::ALL {
            drop(metrics.handshake_errors.get_or_create(&Reason { reason: reason.as_str() }));
        }
        for outcome in ReloadOutcome::ALL {
            drop(metrics.reloads.get_or_create(&Outcome { outcome: outcome.as_str() }));
        }
        metrics
    }

    pub(super) fn ended(&self, reason: EndReason) {
        self.ended.get_or_create(&Reason { reason: reason.as_str() }).inc();
    }

    pub(super) fn handshake_error(&self, reason: HandshakeError) {
        self.handshake_errors.get_or_create(&Reason { reason: reason.as_str() }).inc();
    }

    pub(super) fn certificate_reload(&self, outcome: ReloadOutcome) {
        self.reloads.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
    }

    pub(super) fn certificate_not_after(&self, seconds: Option<i64>) {
        self.not_after.set(seconds.unwrap_or(0));
    }
}

/// Who was recognised how, and the state of the trust.
#[derive(Debug)]
pub(super) struct AuthnMetrics {
    /// One counter per method, resolved once: this is on the path of every request.
    by_method: Vec<Counter>,
    trust: Family<StateLabel, Gauge>,
    generation: Gauge,
    shared_ca: Gauge,
}

impl AuthnMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let authentications = Family::<MethodLabel, Counter>::default();
        let by_method = Method::ALL
            .iter()
            .map(|m| authentications.get_or_create(&MethodLabel { method: m.as_str() }).clone())
            .collect();
        let metrics = Self {
            by_method,
            trust: Family::default(),
            generation: Gauge::default(),
            shared_ca: Gauge::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "server_authentications",
                "Requests by how the requester was recognised",
                authentications,
            );
            registry.register(
                "server_trust_state",
                "1 for what is known of kube-system/extension-apiserver-authentication",
                metrics.trust.clone(),
            );
            registry.register(
                "server_trust_generation",
                "Versions of the trust configuration taken over",
                metrics.generation.clone(),
            );
            registry.register(
                "server_trust_shared_ca",
                "1 when any user certificate could pose as the front proxy",
                metrics.shared_ca.clone(),
            );
        });
        metrics.trust_state(TrustState::Pending);
        metrics
    }

    pub(super) fn authenticated(&self, method: Method) {
        self.by_method[method as usize].inc();
    }

    pub(super) fn trust_state(&self, state: TrustState) {
        for candidate in TrustState::ALL {
            self.trust
                .get_or_create(&StateLabel { state: candidate.as_str() })
                .set(i64::from(*candidate == state));
        }
    }

    pub(super) fn trust_loaded(&self, generation: u64, shared_ca: bool) {
        self.generation.set(generation.cast_signed());
        self.shared_ca.set(i64::from(shared_ca));
    }
}

/// Decisions on access.
#[derive(Debug)]
pub(super) struct AccessMetrics {
    /// By decider, then by decision, resolved once.
    decisions: Vec<Vec<Counter>>,
}

impl AccessMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let family = Family::<AccessLabels, Counter>::default();
        let counter = |by: &Decider, outcome: &Access| {
            let labels = AccessLabels { by: by.as_str(), outcome: outcome.as_str() };
            family.get_or_create(&labels).clone()
        };
        let decisions = Decider::ALL
            .iter()
            .map(|by| Access::ALL.iter().map(|outcome| counter(by, outcome)).collect())
            .collect();
        telemetry.register(|registry| {
            registry.register(
                "server_authorizations",
                "Decisions on access by decider and outcome",
                family,
            );
        });
        Self { decisions }
    }

    pub(super) fn decided(&self, by: Decider, outcome: Access) {
        self.decisions[by as usize][outcome as usize].inc();
    }
}

/// Calls of one kind of review, and its cache.
#[derive(Debug)]
pub(super) struct ReviewMetrics {
    kind: &'static str,
    calls: Family<Outcome, Counter>,
    seconds: Histogram,
    events: Vec<Counter>,
}

impl ReviewMetrics {
    /// `kind` is `token` or `access`.
    pub(super) fn register(telemetry: &Telemetry, kind: &'static str) -> Self {
        let events = Family::<EventLabel, Counter>::default();
        let metrics = Self {
            kind,
            calls: Family::default(),
            // 1 ms to about 16 s: the call's own limit is 10 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            events: CacheEvent::ALL
                .iter()
                .map(|e| events.get_or_create(&EventLabel { event: e.as_str() }).clone())
                .collect(),
        };
        for outcome in CallOutcome::ALL {
            drop(metrics.calls.get_or_create(&Outcome { outcome: outcome.as_str() }));
        }
        telemetry.register(|registry| {
            registry.register(
                format!("server_{kind}_reviews"),
                format!("Calls to the API server for {kind} reviews, by outcome"),
                metrics.calls.clone(),
            );
            registry.register(
                format!("server_{kind}_review_seconds"),
                format!("Duration of {kind} reviews' calls, retries included"),
                metrics.seconds.clone(),
            );
            registry.register(
                format!("server_{kind}_review_cache_events"),
                format!("What the cache of answers to {kind} reviews did"),
                events,
            );
        });
        metrics
    }

    /// `token` or `access`, for the log.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn called(&self, outcome: CallOutcome, took: Duration) {
        self.calls.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn cache(&self, event: CacheEvent) {
        self.events[event as usize].inc();
    }
}
