//! What is counted of Events.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::Telemetry;

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Outcome {
    Published,
    /// Its object has had enough of them, or is gone, or too many waited.
    Suppressed,
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Published, Self::Suppressed, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Suppressed => "suppressed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

pub(super) struct EventMetrics {
    events: Family<Labels, Counter>,
}

impl EventMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self { events: Family::default() };
        for outcome in Outcome::ALL {
            // From the start, so that a rate can be made of the first.
            let _ = metrics.events.get_or_create(&Labels { outcome: outcome.as_str() });
        }
        telemetry.register(|registry| {
            registry.register(
                "events",
                "Kubernetes Events about metric resources and HPAs, by outcome",
                metrics.events.clone(),
            );
        });
        metrics
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.events.get_or_create(&Labels { outcome: outcome.as_str() }).inc();
    }
}
