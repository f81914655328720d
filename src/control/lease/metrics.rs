//! What the lease counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Telemetry;

pub(super) struct LeaseMetrics {
    held: Gauge,
    failures: Counter,
}

impl LeaseMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self { held: Gauge::default(), failures: Counter::default() };
        telemetry.register(|registry| {
            registry.register(
                "lease_held",
                "Whether this replica writes the status of metric resources and Events (1) or another one does (0)",
                metrics.held.clone(),
            );
            registry.register(
                "lease_failures",
                "Failed calls for the Lease",
                metrics.failures.clone(),
            );
        });
        metrics
    }

    pub(super) fn held(&self, held: bool) {
        self.held.set(held.into());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}
