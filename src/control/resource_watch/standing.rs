//! How the watches of metric resources stand, for readiness and the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;

use crate::control::declared::{Resources, Verdict};
use crate::model::DefinitionKind;
use crate::telemetry::Telemetry;

/// Whether the resources of a kind are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KindState {
    /// They have not been listed yet.
    #[default]
    Starting,
    /// They are.
    Up,
    /// The cluster has no such kind: its definition is not installed.
    Absent,
    /// They are not, for this reason; what is known of them stays.
    Down(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    kind: &'static str,
    verdict: &'static str,
}

/// The words for what becomes of a resource.
const VERDICTS: [&str; 3] = ["accepted", "held", "refused"];

/// Where the watches note how they stand, and others look.
#[derive(Debug)]
pub struct Standing {
    kinds: Mutex<BTreeMap<DefinitionKind, KindState>>,
    /// Whether what there was at the start has been put into use.
    settled: watch::Sender<u64>,
    up: Family<OfKind, Gauge>,
    resources: Family<OfVerdict, Gauge>,
    failures: Family<OfKind, Counter>,
    malformed: Gauge,
    applies: Counter,
    seconds: Histogram,
}

impl Standing {
    /// Watches that have not begun.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Arc<Self> {
        let standing = Self {
            kinds: Mutex::default(),
            settled: watch::Sender::new(0),
            up: Family::default(),
            resources: Family::default(),
            failures: Family::default(),
            malformed: Gauge::default(),
            applies: Counter::default(),
            // 1 ms to 2 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 12)),
        };
        telemetry.register(|registry| {
            registry.register(
                "resource_watch_up",
                "Whether the metric resources of a kind are seen; 0 also where the kind is not installed",
                standing.up.clone(),
            );
            registry.register(
                "metric_resources",
                "Metric resources by what became of them: accepted, refused, or held: refused while an earlier version is served",
                standing.resources.clone(),
            );
            registry.register(
                "resource_watch_failures",
                "Failed attempts to list or watch metric resources",
                standing.failures.clone(),
            );
            registry.register(
                "resource_watch_malformed",
                "Objects since the start that have no name, or no namespace where there must be one",
                standing.malformed.clone(),
            );
            registry.register(
                "resource_applies",
                "Changes of metric resources put into use, each of one or more resources",
                standing.applies.clone(),
            );
            registry.register(
                "resource_apply_seconds",
                "How long it took to read changed metric resources and put them into use",
                standing.seconds.clone(),
            );
        });
        for kind in DefinitionKind::RESOURCES {
            standing.enter(kind, KindState::Starting);
        }
        Arc::new(standing)
    }

    /// How the kinds stand.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<DefinitionKind, KindState> {
        self.lock().clone()
    }

    /// Why the start is not over yet for metric resources; none once what there was has been put into
    /// use, or cannot be seen.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        if self.is_settled() {
            return None;
        }
        let kinds = self.lock();
        let starting = |(kind, state): (&DefinitionKind, &KindState)| {
            (*state == KindState::Starting).then(|| format!("{}.{}", kind.plural(), kind.group()))
        };
        let waited: Vec<String> = kinds.iter().filter_map(starting).collect();
        Some(if waited.is_empty() {
            "metric resources have not been put into use yet".to_owned()
        } else {
            format!("{} have not been listed yet", waited.join(", "))
        })
    }

    /// Changes once, when the start is over.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    pub(super) fn is_settled(&self) -> bool {
        *self.settled.borrow() > 0
    }

    pub(super) fn settle(&self) {
        self.settled.send_replace(1);
    }

    /// Whether every kind has been listed, or has failed once.
    pub(super) fn all_heard(&self) -> bool {
        self.lock().values().all(|state| *state != KindState::Starting)
    }

    /// Enters a state; gives the one before.
    pub(super) fn enter(&self, kind: DefinitionKind, state: KindState) -> KindState {
        let up = self.up.get_or_create(&OfKind { kind: kind.as_str() });
        up.set(i64::from(state == KindState::Up));
        self.lock().insert(kind, state).unwrap_or_default()
    }

    pub(super) fn failed(&self, kind: DefinitionKind) {
        self.failures.get_or_create(&OfKind { kind: kind.as_str() }).inc();
    }

    /// Notes that changes have been put into use.
    pub(super) fn applied(&self, took: Duration) {
        self.applies.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn count(&self, resources: &Resources, malformed: u64) {
        let mut counts: BTreeMap<(DefinitionKind, &str), i64> = BTreeMap::new();
        for kind in DefinitionKind::RESOURCES {
            counts.extend(VERDICTS.map(|verdict| ((kind, verdict), 0)));
        }
        for (id, declared) in resources {
            let verdict = match &declared.verdict {
                Verdict::Accepted => "accepted",
                Verdict::Refused { last_good_stays: true, .. } => "held",
                Verdict::Refused { last_good_stays: false, .. } => "refused",
            };
            *counts.entry((id.kind, verdict)).or_default() += 1;
        }
        for ((kind, verdict), count) in counts {
            let labels = OfVerdict { kind: kind.as_str(), verdict };
            self.resources.get_or_create(&labels).set(count);
        }
        self.malformed.set(i64::try_from(malformed).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DefinitionKind, KindState>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
