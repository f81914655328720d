//! What the refresher counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::model::{FetchError, Sample, SourceName};
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
    skipped: Family<BySource, Counter>,
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
            skipped: Family::default(),
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
                "How late refreshes start after they are due",
                metrics.lag.clone(),
            );
            registry.register(
                "refresh_lapsed",
                "Queries that left the schedule because nobody read them or their definition went",
                metrics.lapsed.clone(),
            );
            registry.register(
                "refresh_queued",
                "Refreshes that wait for their source's concurrency bound",
                metrics.queued.clone(),
            );
            registry.register(
                "refresh_skipped",
                "Refreshes that were skipped because the previous one was still under way",
                metrics.skipped.clone(),
            );
            registry.register(
                "refreshes",
                "Refreshes by source and outcome",
                metrics.refreshed.clone(),
            );
        });
        metrics
    }

    pub(super) fn queued(&self, source: &SourceName, length: usize) {
        self.queued
            .get_or_create(&BySource { source: source.as_str().into() })
            .set(length.try_into().unwrap_or(i64::MAX));
    }

    pub(super) fn skipped(&self, source: &SourceName) {
        self.skipped.get_or_create(&BySource { source: source.as_str().into() }).inc();
    }

    pub(super) fn refreshed(&self, source: &SourceName, answer: &Result<Sample, FetchError>) {
        let outcome = answer.as_ref().map_or_else(FetchError::kind, |_| "ok");
        self.refreshed.get_or_create(&ByOutcome { source: source.as_str().into(), outcome }).inc();
    }
}
