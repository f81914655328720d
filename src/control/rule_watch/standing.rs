//! What is told of rules: to readiness, the status page and the metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::files::RuleFiles;
use super::listings::Listings;
use crate::model::Problem;
use crate::rules::{Registry, RuleProblem};
use crate::telemetry::Telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// Where rules stand, as others see it.
pub struct Standing {
    /// Files that are wrong as they are now.
    file_problems: ArcSwap<Vec<Problem>>,
    /// Rules that give nothing, or less than they might.
    rule_problems: ArcSwap<Vec<RuleProblem>>,
    /// Series queries that cannot be listed, and why.
    failing: ArcSwap<Vec<(String, String)>>,
    /// Whether every series query was tried once, and the registry made of it.
    listed: AtomicBool,
    built: AtomicBool,
    counts: Counts,
    metrics: Family<ApiLabel, Gauge>,
    problems: Gauge,
    shapes: Gauge,
    failing_queries: Gauge,
}

/// The numbers of the gauges, for the status page.
#[derive(Default)]
struct Counts {
    custom: AtomicUsize,
    external: AtomicUsize,
    shapes: AtomicUsize,
    skipped: AtomicUsize,
}

/// Where rules stand at a moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Metrics of objects, each for each resource.
    pub custom: usize,
    /// External metrics.
    pub external: usize,
    /// Different series without their label values.
    pub shapes: usize,
    /// Those of them that passed a rule's filters and gave no metric.
    pub skipped: usize,
    /// What readiness waits for.
    pub pending: Option<String>,
    /// Mistakes in the files as they are now.
    pub file_problems: Arc<Vec<Problem>>,
    /// Rules, or parts of them, that give no metrics.
    pub rule_problems: Arc<Vec<RuleProblem>>,
    /// Series queries whose last listing failed, and why.
    pub failing: Arc<Vec<(String, String)>>,
}

impl Standing {
    /// Nothing known yet.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Arc<Self> {
        let standing = Self {
            file_problems: ArcSwap::default(),
            rule_problems: ArcSwap::default(),
            failing: ArcSwap::default(),
            listed: AtomicBool::new(false),
            built: AtomicBool::new(false),
            counts: Counts::default(),
            metrics: Family::default(),
            problems: Gauge::default(),
            shapes: Gauge::default(),
            failing_queries: Gauge::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "rule_metrics",
                "Metrics that rules give, by API",
                standing.metrics.clone(),
            );
            registry.register(
                "rule_problems",
                "Mistakes in rule files and rules that give no metrics, each in the log and on the status page",
                standing.problems.clone(),
            );
            registry.register(
                "rule_series_shapes",
                "Different series found by series queries, without their label values",
                standing.shapes.clone(),
            );
            registry.register(
                "rule_series_queries_failing",
                "Series queries whose last listing failed; what they found before stays",
                standing.failing_queries.clone(),
            );
        });
        Arc::new(standing)
    }

    /// What readiness waits for.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        let waits = !self.listed.load(Ordering::SeqCst) || !self.built.load(Ordering::SeqCst);
        waits.then(|| "the series of rules have not all been listed once".to_owned())
    }

    /// Mistakes in the files as they are now.
    #[must_use]
    pub fn file_problems(&self) -> Arc<Vec<Problem>> {
        self.file_problems.load_full()
    }

    /// Rules, or parts of them, that give no metrics.
    #[must_use]
    pub fn rule_problems(&self) -> Arc<Vec<RuleProblem>> {
        self.rule_problems.load_full()
    }

    /// Series queries whose last listing failed, and why.
    #[must_use]
    pub fn failing(&self) -> Arc<Vec<(String, String)>> {
        self.failing.load_full()
    }

    /// All of it.
    #[must_use]
    pub fn report(&self) -> Report {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        Report {
            custom: count(&self.counts.custom),
            external: count(&self.counts.external),
            shapes: count(&self.counts.shapes),
            skipped: count(&self.counts.skipped),
            pending: self.pending(),
            file_problems: self.file_problems(),
            rule_problems: self.rule_problems(),
            failing: self.failing(),
        }
    }

    pub(super) fn read(&self, files: &RuleFiles) {
        self.file_problems.store(Arc::new(files.problems()));
        self.count_problems();
    }

    pub(super) fn listed(&self, listings: &Listings) {
        let tally = listings.tally();
        self.shapes.set(count(tally.shapes));
        self.counts.shapes.store(tally.shapes, Ordering::Relaxed);
        self.failing_queries.set(count(tally.failing));
        let failing = listings.failing();
        let shown = failing.into_iter().map(|(key, why)| (key.series_query.to_string(), why));
        self.failing.store(Arc::new(shown.collect()));
        if tally.untried == 0 && !self.listed.swap(true, Ordering::SeqCst) {
            // The registry that is there was made of less.
            self.built.store(tally.queries == 0, Ordering::SeqCst);
        }
    }

    pub(super) fn built(&self, registry: &Registry) {
        let gauge = |api| self.metrics.get_or_create_owned(&ApiLabel { api });
        for (counted, number) in [
            (&self.counts.custom, registry.custom_names().len()),
            (&self.counts.external, registry.external_names().len()),
            (&self.counts.skipped, registry.skipped()),
        ] {
            counted.store(number, Ordering::Relaxed);
        }
        gauge("custom").set(count(registry.custom_names().len()));
        gauge("external").set(count(registry.external_names().len()));
        self.rule_problems.store(Arc::new(registry.problems().to_vec()));
        self.count_problems();
        if self.listed.load(Ordering::SeqCst) {
            self.built.store(true, Ordering::SeqCst);
        }
    }

    fn count_problems(&self) {
        let all = self.file_problems.load().len() + self.rule_problems.load().len();
        self.problems.set(count(all));
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
