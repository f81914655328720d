//! What the refresher counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::control::schedule::Standing;
use crate::model::{FetchError, SourceName};
use crate::telemetry::Telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    source: Arc<str>,
    outcome: &'static str,
}

/// The refresher's metrics. Labels are source names from the config and fixed words.
#[derive(Clone)]
pub(super) struct RefreshMetrics {
    pub(super) scheduled: Gauge,
    pub(super) lag: Histogram,
    pub(super) lapsed: Counter,
    queued: Family<BySource, Gauge>,
    lanes: Family<BySource, Gauge>,
    apart: Family<BySource, Gauge>,
    failing: Family<BySource, Gauge>,
    skipped: Family<BySource, Counter>,
    fetches: Family<BySource, Counter>,
    refreshed: Family<ByOutcome, Counter>,
}

/// Those of one source.
#[derive(Clone)]
pub(super) struct SourceMetrics {
    name: Arc<str>,
    queued: Gauge,
    lanes: Gauge,
    apart: Gauge,
    failing: Gauge,
    pub(super) skipped: Counter,
    pub(super) fetches: Counter,
    refreshed: Family<ByOutcome, Counter>,
}

impl RefreshMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self {
            scheduled: Gauge::default(),
            // From "at once" to "a whole default interval late".
            lag: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 15.0]),
            lapsed: Counter::default(),
            queued: Family::default(),
            lanes: Family::default(),
            apart: Family::default(),
            failing: Family::default(),
            skipped: Family::default(),
            fetches: Family::default(),
            refreshed: Family::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "refresh_scheduled_queries",
                "Queries that are refreshed because somebody wants them",
                metrics.scheduled.clone(),
            );
            registry.register(
                "refresh_lag_seconds",
                "How late refreshes start after they are due, the wait for a place included",
                metrics.lag.clone(),
            );
            registry.register(
                "refresh_lapsed",
                "Queries that left the schedule because nobody read them or their definition went",
                metrics.lapsed.clone(),
            );
            registry.register(
                "refresh_queued",
                "Refreshes that wait for their upstream's concurrency bound",
                metrics.queued.clone(),
            );
            registry.register(
                "refresh_lanes",
                "Upstreams of a source (service, region, role) that scheduled queries name",
                metrics.lanes.clone(),
            );
            registry.register(
                "refresh_apart",
                "Queries that share no call and are tried less often, because the upstream refused them",
                metrics.apart.clone(),
            );
            registry.register(
                "refresh_failing",
                "Queries that keep failing while their upstream answers others: they go behind these, half as often",
                metrics.failing.clone(),
            );
            registry.register(
                "refresh_skipped",
                "Refreshes that were skipped because the previous one was still under way",
                metrics.skipped.clone(),
            );
            registry.register(
                "refresh_fetches",
                "Fetches that were started; one can carry many refreshes",
                metrics.fetches.clone(),
            );
            registry.register(
                "refreshes",
                "Refreshes by source and outcome",
                metrics.refreshed.clone(),
            );
        });
        metrics
    }

    pub(super) fn of_source(&self, source: &SourceName) -> SourceMetrics {
        let name: Arc<str> = source.as_str().into();
        let label = BySource { source: Arc::clone(&name) };
        // From the start: a rate over a series that appears with its first event misses that event.
        for outcome in FetchError::KINDS.into_iter().chain(["ok"]) {
            let label = ByOutcome { source: Arc::clone(&name), outcome };
            drop(self.refreshed.get_or_create(&label));
        }
        SourceMetrics {
            name,
            queued: self.queued.get_or_create_owned(&label),
            lanes: self.lanes.get_or_create_owned(&label),
            apart: self.apart.get_or_create_owned(&label),
            failing: self.failing.get_or_create_owned(&label),
            skipped: self.skipped.get_or_create_owned(&label),
            fetches: self.fetches.get_or_create_owned(&label),
            refreshed: self.refreshed.clone(),
        }
    }
}

impl SourceMetrics {
    /// Whose they are.
    pub(super) fn source(&self) -> &str {
        &self.name
    }

    pub(super) fn queued(&self, length: usize) {
        self.queued.set(length.try_into().unwrap_or(i64::MAX));
    }

    pub(super) fn lanes(&self, count: usize) {
        self.lanes.set(count.try_into().unwrap_or(i64::MAX));
    }

    /// Notes that a query's standing changed.
    pub(super) fn stands(&self, before: Standing, after: Standing) {
        let gauge = |standing| match standing {
            Standing::Fine => None,
            Standing::Failing => Some(&self.failing),
            Standing::Refused => Some(&self.apart),
        };
        gauge(before).map(Gauge::dec);
        gauge(after).map(Gauge::inc);
    }

    /// Counts refreshes that ended alike.
    pub(super) fn refreshed(&self, outcome: &'static str, count: u64) {
        let label = ByOutcome { source: Arc::clone(&self.name), outcome };
        self.refreshed.get_or_create(&label).inc_by(count);
    }
}
