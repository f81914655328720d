//! What upstream calls cost, counted.
//!
//! Registered once per process and shared by all sources: a family may appear once in an exposition.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use crate::model::{FetchError, SourceName};
use crate::telemetry::Telemetry;

/// First bucket of call durations, in seconds: an upstream on the same machine answers in under
/// a millisecond.
const FIRST_BUCKET_SECONDS: f64 = 0.001;

/// Doubling 14 times from 1 ms ends at 8.2 s, above the default timeout of 5 s.
const BUCKETS: u16 = 14;

/// A call that was answered.
const OK: &str = "ok";

/// A call that never got a slot.
const SATURATED: &str = "saturated";

/// A call that nobody waits for any more.
const CANCELLED: &str = "cancelled";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    source: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    source: String,
    kind: &'static str,
    outcome: &'static str,
}

/// The metrics of all sources.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<OutcomeLabels, Counter>,
    durations: Family<CallLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<CallLabels, Gauge<i64, AtomicI64>>,
    bytes: Family<CallLabels, Counter>,
    requested: Family<SourceLabels, Counter>,
    clock_ahead: Family<SourceLabels, Gauge<i64, AtomicI64>>,
}

impl Metrics {
    /// Registers the metrics. Once per process.
    #[must_use]
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS))
            }),
            in_flight: Family::default(),
            bytes: Family::default(),
            requested: Family::default(),
            clock_ahead: Family::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "upstream_calls",
                "Calls to upstreams by outcome: ok, an error's kind, saturated (no free slot in time), or cancelled",
                metrics.calls.clone(),
            );
            registry.register_with_unit(
                "upstream_call_duration",
                "How long calls to upstreams took, without the wait for a free slot",
                Unit::Seconds,
                metrics.durations.clone(),
            );
            registry.register(
                "upstream_in_flight",
                "Calls to upstreams that wait for their answer",
                metrics.in_flight.clone(),
            );
            registry.register_with_unit(
                "upstream_response",
                "Bytes of answers read, after decompression",
                Unit::Bytes,
                metrics.bytes.clone(),
            );
            registry.register(
                "cloudwatch_metrics_requested",
                "Metrics that CloudWatch was asked for, as it bills them: one per metric statistic of a request, and those that searches found",
                metrics.requested.clone(),
            );
            registry.register_with_unit(
                "cloudwatch_clock_ahead",
                "By how much this machine's clock is ahead of CloudWatch's, at least; if negative, by how much it is behind",
                Unit::Seconds,
                metrics.clock_ahead.clone(),
            );
        });
        metrics
    }

    /// The counter of metrics that one source asks `CloudWatch` for.
    pub(super) fn cloudwatch_metrics_requested(&self, source: &SourceName) -> Counter {
        let labels = SourceLabels { source: source.as_str().to_owned() };
        self.requested.get_or_create_owned(&labels)
    }

    /// The gauge of one source's clock against `CloudWatch`'s.
    pub(super) fn clock_ahead(&self, source: &SourceName) -> Gauge<i64, AtomicI64> {
        let labels = SourceLabels { source: source.as_str().to_owned() };
        self.clock_ahead.get_or_create_owned(&labels)
    }

    /// The metrics of one source's calls of one kind.
    pub(super) fn for_calls(&self, source: &SourceName, kind: &'static str) -> CallMetrics {
        let labels = CallLabels { source: source.as_str().to_owned(), kind };
        let metrics = CallMetrics {
            duration: self.durations.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            calls: self.calls.clone(),
            labels,
        };
        // From the start: a rate over a series that appears with its first event misses that event.
        for outcome in FetchError::KINDS.into_iter().chain([OK, SATURATED, CANCELLED]) {
            drop(metrics.calls.get_or_create(&metrics.outcome(outcome)));
        }
        metrics
    }
}

/// The metrics of one source's calls of one kind.
#[derive(Clone, Debug)]
pub(super) struct CallMetrics {
    calls: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    in_flight: Gauge<i64, AtomicI64>,
    bytes: Counter,
    labels: CallLabels,
}

impl CallMetrics {
    /// Whose calls these are.
    pub(super) fn source(&self) -> &str {
        &self.labels.source
    }

    /// What kind of calls.
    pub(super) fn kind(&self) -> &'static str {
        self.labels.kind
    }

    /// Counts a call that never got a slot.
    pub(super) fn saturated(&self) {
        self.count(SATURATED);
    }

    /// Counts bytes read.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A call starts. Dropping the guard without [`InFlight::end`] counts it as cancelled.
    pub(super) fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight { metrics: Arc::clone(self), outcome: CANCELLED }
    }

    fn outcome(&self, outcome: &'static str) -> OutcomeLabels {
        OutcomeLabels { source: self.labels.source.clone(), kind: self.labels.kind, outcome }
    }

    fn count(&self, outcome: &'static str) {
        self.calls.get_or_create(&self.outcome(outcome)).inc();
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct InFlight {
    metrics: Arc<CallMetrics>,
    outcome: &'static str,
}

impl InFlight {
    /// The call ended.
    pub(super) fn end(mut self, outcome: &'static str, took: Duration) {
        self.outcome = outcome;
        self.metrics.duration.observe(took.as_secs_f64());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.count(self.outcome);
    }
}
