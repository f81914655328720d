//! What the writer counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::writer::Outcome;
use crate::telemetry::Telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

#[derive(Clone)]
pub(super) struct StatusMetrics {
    writes: Family<Labels, Counter>,
    pending: Gauge,
}

impl StatusMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self { writes: Family::default(), pending: Gauge::default() };
        for outcome in Outcome::ALL {
            // From the start, so that a rate can be made of the first.
            let _ = metrics.writes.get_or_create(&Labels { outcome: outcome.as_str() });
        }
        telemetry.register(|registry| {
            registry.register(
                "resource_status_writes",
                "Writes of the status of metric resources, by outcome",
                metrics.writes.clone(),
            );
            registry.register(
                "resource_status_pending",
                "Metric resources whose status waits to be written",
                metrics.pending.clone(),
            );
        });
        metrics
    }

    pub(super) fn wrote(&self, outcome: Outcome) {
        self.writes.get_or_create(&Labels { outcome: outcome.as_str() }).inc();
    }

    pub(super) fn pending(&self, pending: usize) {
        self.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }
}
