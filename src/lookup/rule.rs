//! Reads of external metrics of rules.

use std::fmt;
use std::sync::Arc;

use crate::lookup::cells::{Cells, Found};
use crate::lookup::custom::number;
use crate::lookup::foresee::{number_of, of_error, of_wait};
use crate::lookup::message::{self, Asked};
use crate::lookup::near;
use crate::lookup::segment;
use crate::lookup::waiting::{self, Pass};
use crate::model::{
    Announced, AnswerShape, ApiError, Claim, ExternalReading, MetricItem, MetricName,
    MetricReference, Miss, Policy, PrometheusQuery, Query, QuerySpec, Reading, Sample, Selector,
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

    /// The same for an onlooker.
    pub(super) fn for_onlooker(&self) -> Self {
        let Inner { rules, cells } = &*self.0;
        Self::new(Arc::clone(rules), cells.for_onlooker())
    }

    /// What a read would get, for an onlooker; none when no rule gives the metric.
    pub(super) fn foresee(&self, reference: &MetricReference) -> Option<Result<String, Miss>> {
        let MetricReference { namespace, metric, selector, .. } = reference;
        Some(match self.0.pass(namespace, metric, selector)? {
            Pass::Done(Ok(reading)) if reading.items.is_empty() => {
                Err(Miss::NoMatch { message: message::empty_list(metric, namespace, "external") })
            }
            Pass::Done(Ok(reading)) => Ok(number_of(reading.items.iter().map(|i| i.value))),
            Pass::Done(Err(error)) => Err(of_error(&error)),
            Pass::Wait(waiting) => Err(of_wait(&waiting, self.0.cells.clock.tick())),
        })
    }

    /// Looks at names that begin like the one asked for or, of few metrics, at all.
    pub(super) fn near(&self, namespace: &str, search: &mut near::Search<'_>) {
        let names = self.names();
        let asked = search.asked();
        let around = near::outward(&names, |name| name.as_str() < asked);
        search.look_at(around.map(MetricName::as_str), |name| self.is_seen(namespace, name));
    }

    /// Whether a rule gives this metric to the namespace, in a way that HPAs can ask for: the
    /// controller asks in lower case.
    pub(super) fn is_seen(&self, namespace: &str, metric: &str) -> bool {
        let registry = self.0.rules.registry();
        let rule = registry.external(metric);
        !metric.bytes().any(|b| b.is_ascii_uppercase())
            && rule.is_some_and(|rule| segment::may_be_pasted(rule, Some(namespace), None))
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
