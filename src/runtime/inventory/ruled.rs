//! Metrics of rules that somebody reads: a row for each query in the on-demand store.

use std::collections::HashMap;
use std::sync::Arc;

use super::follow;
use crate::cache::QueryCell;
use crate::control::rule_watch;
use crate::model::{
    AnswerShape, Labels, ObjectNames, Policy, Quantity, QuerySpec, Sample, SourceName, Tick,
};
use crate::rules::{Registry, RuleFileSettings, Rules};
use crate::runtime::admin::{MetricRow, MetricState, Roots};

/// What is known of the rules of a process.
#[derive(Clone)]
pub struct Ruled {
    standing: Arc<rule_watch::Standing>,
    rules: Arc<Rules>,
    /// Of each source the freshness of its first file; another file may say otherwise, which only
    /// shows in the word for the state of a value.
    policies: Arc<HashMap<SourceName, Arc<Policy>>>,
}

impl Ruled {
    /// The rules of these files.
    #[must_use]
    pub fn new(
        standing: Arc<rule_watch::Standing>,
        rules: Arc<Rules>,
        files: &[RuleFileSettings],
    ) -> Self {
        let mut policies = HashMap::new();
        for file in files {
            policies.entry(file.source.clone()).or_insert_with(|| file.policy());
        }
        Self { standing, rules, policies: Arc::new(policies) }
    }

    pub(super) fn report(&self) -> rule_watch::Report {
        self.standing.report()
    }

    /// The rows of those cells that are of rules.
    pub(super) fn rows(&self, cells: &[Arc<QueryCell>], now: Tick) -> Vec<MetricRow> {
        let registry = self.rules.registry();
        let external = External::of(&registry);
        cells.iter().filter_map(|cell| self.row(cell, &external, now)).collect()
    }

    /// Those cells that are of rules, each with the policy of its source.
    pub(super) fn cells<'a>(
        &'a self,
        cells: &'a [Arc<QueryCell>],
    ) -> impl Iterator<Item = (&'a QueryCell, &'a Policy)> {
        let of_rules = cells.iter().filter(|cell| match &cell.query().spec {
            QuerySpec::Objects(asked) => asked.text.0.ruled().is_some(),
            QuerySpec::Prometheus(asked) => asked.shape == AnswerShape::Whole,
            QuerySpec::CloudWatch(_) | QuerySpec::Sqs(_) | QuerySpec::Simulated(_) => false,
        });
        of_rules.filter_map(|cell| Some((&**cell, &**self.policies.get(&cell.query().source)?)))
    }

    fn row(&self, cell: &Arc<QueryCell>, external: &External<'_>, now: Tick) -> Option<MetricRow> {
        let query = cell.query();
        let (metric, scope, origin) = match &query.spec {
            QuerySpec::Objects(asked) => {
                let (metric, origin) = asked.text.0.ruled()?;
                let objects = &asked.objects;
                let scope = objects.namespace.as_deref().unwrap_or(MetricRow::ALL_NAMESPACES);
                (format!("{}/{metric}", objects.resource.id), scope.to_owned(), origin)
            }
            QuerySpec::Prometheus(asked) if asked.shape == AnswerShape::Whole => {
                let (metric, origin) = external.find(&asked.query);
                (metric, "namespace of the query".to_owned(), origin)
            }
            _ => return None,
        };
        let policy = self.policies.get(&query.source)?;
        let mut row = MetricRow {
            metric,
            scope,
            labels: Labels::default(),
            definition: MetricRow::OF_RULE.to_owned(),
            origin,
            source: query.source.to_string(),
            source_kind: "prometheus",
            query: String::new(),
            state: MetricState::Idle,
            value: None,
            sample_age: None,
            timestamp: None,
            notes: Vec::new(),
            last_error: None,
            last_error_age: None,
            refresh: policy.refresh,
            max_age: policy.max_age,
            wanted: false,
            last_read_age: None,
            hpas: 0,
            unused: false,
            upstream_reads: 0,
            metrics_requested: None,
            apart: None,
            roots: Roots { cell: Some(Arc::clone(cell)), entry: None },
        };
        let state = cell.state();
        follow(&mut row, cell, &state, policy, now);
        if let Some(sample) = state.last_sample() {
            row.value = Some(shown(sample, &query.spec));
            row.timestamp = Some(sample.timestamp);
            let warned = |warning: &String| format!("the upstream warns: {warning}");
            row.notes = sample.warnings.iter().map(warned).collect();
        }
        Some(row)
    }
}

/// The only number, or how many there are.
fn shown(sample: &Sample, spec: &QuerySpec) -> String {
    match (&sample.series[..], spec) {
        ([one], _) => Quantity::from_decimal(&one.value).to_string(),
        (several, QuerySpec::Objects(asked)) => {
            let all = if asked.objects.names == ObjectNames::All { ", of all" } else { "" };
            format!("{} objects{all}", several.len())
        }
        (several, _) => format!("{} series", several.len()),
    }
}

/// External metrics by the series that their queries name.
struct External<'a>(HashMap<&'a str, Option<(&'a str, String)>>);

impl<'a> External<'a> {
    fn of(registry: &'a Registry) -> Self {
        let mut all: HashMap<&str, Option<(&str, String)>> = HashMap::new();
        for name in registry.external_names().iter() {
            let Some(found) = registry.external(name.as_str()) else { continue };
            let place = found.rule.place();
            let origin = format!("{}:{}", place.path.display(), place.line);
            // Two metrics of one series cannot be told apart by their queries.
            all.entry(&found.series)
                .and_modify(|known| *known = None)
                .or_insert_with(|| Some((name.as_str(), origin)));
        }
        Self(all)
    }

    /// The metric behind a query, and where its rule stands; in general words where the query does
    /// not tell.
    fn find(&self, query: &str) -> (String, String) {
        let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        let mut found = words.filter_map(|word| self.0.get(word));
        match found.next() {
            Some(Some((name, origin))) => (format!("external/{name}"), origin.clone()),
            _ => ("external metric of a rule".to_owned(), "a rule file".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_query_tells_its_metric_by_its_series() {
        let one = |name| Some((name, "rules.yaml:3".to_owned()));
        let known = [("queue_depth", one("depth")), ("up", None)];
        let external = External(known.into_iter().collect());
        let found = |query| external.find(query).0;
        assert_eq!(found("sum(queue_depth{queue=\"up\"}) by (queue)"), "external/depth");
        assert_eq!(external.find("queue_depth").1, "rules.yaml:3");
        for query in ["sum(up)", "my_queue_depth", "1"] {
            assert_eq!(found(query), "external metric of a rule", "{query}");
        }
    }
}
