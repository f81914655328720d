//! Reads of external metrics of rules.

use std::fmt;
use std::sync::Arc;

use crate::lookup::cells::{Cells, Found};
use crate::lookup::custom::number;
use crate::lookup::message::Asked;
use crate::lookup::segment;
use crate::lookup::waiting::{self, Pass};
use crate::model::{
    Announced, AnswerShape, ApiError, Claim, ExternalReading, MetricItem, MetricName,
    MetricReference, Policy, PrometheusQuery, Query, QuerySpec, Reading, Sample, Selector,
};
use crate::rules::{RuleMetric, Rules};

/// Answers reads of external metrics of rules: the query is the rule's template around the
/// request's selector and namespace, and every series of the answer is an item.
#[derive(Clone)]
pub struct RuleLookup(Arc<Inner>);

struct Inner {
    rules: Arc<Rules>,
    cells: Cells,
}

impl RuleLookup {
    /// A lookup over these parts.
    #[must_use]
    pub(super) fn new(rules: Arc<Rules>, cells: Cells) -> Self {
        Self(Arc::new(Inner { rules, cells }))
    }

    /// Reads a metric; none when no rule gives one of this name.
    pub(super) fn read(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Option<Reading<ExternalReading>> {
        let pass = self.0.pass(namespace, metric, selector)?;
        Some(waiting::reading(pass, &self.0.cells.clock, || {
            let inner = Arc::clone(&self.0);
            let (namespace, metric) = (namespace.to_owned(), metric.to_owned());
            let selector = selector.clone();
            Box::new(move || {
                inner.pass(&namespace, &metric, &selector).unwrap_or_else(|| {
                    Pass::Done(Err(ApiError::MetricNotFound(format!(
                        "the server could not find the metric {metric} for "
                    ))))
                })
            })
        }))
    }

    /// The names of all metrics, sorted and unique.
    pub(super) fn names(&self) -> Arc<[MetricName]> {
        Arc::clone(self.0.rules.registry().external_names())
    }

    pub(super) fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        let Some((query, policy)) = self.0.referred(reference) else { return Announced::Unknown };
        self.0.cells.claim(&query, &policy, Some(&reference.namespace), claim)
    }

    pub(super) fn release(&self, reference: &MetricReference, claim: Claim) {
        if let Some((query, _)) = self.0.referred(reference) {
            self.0.cells.release(&query, claim);
        }
    }
}

impl fmt::Debug for RuleLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuleLookup")
    }
}

impl Inner {
    /// One look at memory; none when no rule gives the metric.
    fn pass(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Option<Pass<ExternalReading>> {
        let registry = self.rules.registry();
        let rule = registry.external(metric)?;
        if !segment::may_be_pasted(rule, Some(namespace), None) {
            return None;
        }
        let asked = Asked { metric, resource: None, namespace: Some(namespace) };
        let query = match query(rule, namespace, selector) {
            Ok(query) => query,
            Err(why) => {
                return Some(Pass::Done(Err(ApiError::RuleFailed(format!(
                    "unable to fetch metrics: {asked}: {why}"
                )))));
            }
        };
        let items = match self.cells.read(&query, &rule.policy, asked) {
            Found::Sample(state) => state.last_sample().map(items).unwrap_or_default(),
            Found::Nothing => Vec::new(),
            Found::Failed(why) => return Some(Pass::Done(Err(ApiError::RuleFailed(why)))),
            Found::Untried(waiting) => return Some(Pass::Wait(waiting)),
        };
        let metric = MetricName::of_rule(&metric.into());
        Some(Pass::Done(Ok(ExternalReading { metric, items })))
    }

    fn referred(&self, reference: &MetricReference) -> Option<(Arc<Query>, Arc<Policy>)> {
        let registry = self.rules.registry();
        let rule = registry.external(&reference.metric)?;
        let query = query(rule, &reference.namespace, &reference.selector).ok()?;
        Some((query, Arc::clone(&rule.policy)))
    }
}

fn query(rule: &RuleMetric, namespace: &str, selector: &Selector) -> Result<Arc<Query>, String> {
    let text = rule.external(namespace, selector)?;
    let spec = QuerySpec::Prometheus(PrometheusQuery {
        query: text.into(),
        lookback_delta: None,
        shape: AnswerShape::Whole,
    });
    Ok(Arc::new(Query { source: rule.source.clone(), spec }))
}

/// Every series is an item, in the upstream's order, with all its labels.
fn items(sample: &Sample) -> Vec<MetricItem> {
    let numbered = |series: &crate::model::Series| {
        let value = number(&series.value)?;
        Some(MetricItem { labels: series.labels.clone(), timestamp: sample.timestamp, value })
    };
    sample.series.iter().filter_map(numbered).collect()
}
