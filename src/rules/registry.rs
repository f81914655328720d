//! What all rules make of all series.

mod build;
mod metric;
mod resources;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::model::{
    CustomMetricName, GroupResource, MetricName, Policy, ResourceDirectory, SeriesShape, SourceName,
};
use crate::rules::file::RuleFile;
use crate::rules::registry::build::Build;
use crate::rules::rule::{Place, Rule};

pub use metric::RuleMetric;

/// A rule file and how the server config wants it served.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The Prometheus source that answers.
    pub source: SourceName,
    /// Freshness: `refresh`, `sampleMaxAge`, `firstReadTimeout`.
    pub policy: Arc<Policy>,
    /// The file.
    pub file: Arc<RuleFile>,
}

/// A rule and the series that its series query found last; `None` while it has never been listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Its source.
    pub source: SourceName,
    /// Its freshness.
    pub policy: Arc<Policy>,
    /// The shapes of its series, in the upstream's order.
    pub series: Option<Arc<[SeriesShape]>>,
}

/// Why a rule, or a part of it, gives no metrics. Everything else is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleProblem {
    /// The rule.
    pub place: Place,
    /// What is wrong and what would be right, in one line.
    pub message: String,
}

/// All metrics of all rules, as of one moment. Immutable.
#[derive(Debug, Default)]
pub struct Registry {
    /// Those of objects that are asked for in a namespace.
    namespaced: CustomMetrics,
    /// The others.
    root: CustomMetrics,
    external: HashMap<Arc<str>, RuleMetric>,
    custom_names: Arc<[CustomMetricName]>,
    external_names: Arc<[MetricName]>,
    problems: Vec<RuleProblem>,
    skipped: usize,
}

/// Metrics by resource and name.
type CustomMetrics = HashMap<GroupResource, HashMap<Arc<str>, RuleMetric>>;

impl Registry {
    /// What the rules make of the series, in the order of files and rules: of two rules that give
    /// one metric the later wins, and within a rule the later series. A rule that was never listed
    /// gives nothing, and neither does one with an override that names a resource which the
    /// cluster does not have; that is a problem of this rule alone.
    #[must_use]
    pub fn build(
        custom: &[Listed],
        external: &[Listed],
        resources: &dyn ResourceDirectory,
    ) -> Self {
        let mut build = Build::default();
        for listed in custom {
            build.custom(listed, resources);
        }
        for listed in external {
            build.external(listed, resources);
        }
        build.finish()
    }

    /// A custom metric of objects of this resource. `namespaced` is whether the path names a
    /// namespace.
    #[must_use]
    pub fn custom(
        &self,
        resource: &GroupResource,
        namespaced: bool,
        metric: &str,
    ) -> Option<&RuleMetric> {
        let metrics = if namespaced { &self.namespaced } else { &self.root };
        metrics.get(resource)?.get(metric)
    }

    /// An external metric, by its exact name.
    #[must_use]
    pub fn external(&self, metric: &str) -> Option<&RuleMetric> {
        self.external.get(metric)
    }

    /// All custom metrics that the original lists, sorted.
    #[must_use]
    pub fn custom_names(&self) -> &Arc<[CustomMetricName]> {
        &self.custom_names
    }

    /// All external metrics, sorted.
    #[must_use]
    pub fn external_names(&self) -> &Arc<[MetricName]> {
        &self.external_names
    }

    /// Which rules, or parts of them, give nothing, and why. Sorted by place.
    #[must_use]
    pub fn problems(&self) -> &[RuleProblem] {
        &self.problems
    }

    /// How many shapes of series passed a rule's filters and yet gave no metric: no label of them
    /// stands for a resource, or the rule has no name for them.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// The present registry, and the way to replace it: one writer, readers that never lock.
pub struct Rules {
    registry: ArcSwap<Registry>,
    generation: watch::Sender<u64>,
}

impl Rules {
    /// No metrics.
    #[must_use]
    pub fn new() -> Self {
        Self {
            registry: ArcSwap::from_pointee(Registry::default()),
            generation: watch::Sender::new(0),
        }
    }

    /// The present registry.
    #[must_use]
    pub fn registry(&self) -> Guard<Arc<Registry>> {
        self.registry.load()
    }

    /// Replaces the registry.
    pub fn replace(&self, registry: Arc<Registry>) {
        self.registry.store(registry);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Tells of every replacement. The new registry is in place by then.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rules")
    }
}

#[cfg(test)]
mod tests;
