//! Building a registry, rule by rule.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{CustomMetricName, GroupResource, MetricName, ResourceDirectory, SeriesShape};
use crate::rules::registry::metric::Scene;
use crate::rules::registry::resources::Reader;
use crate::rules::registry::{CustomMetrics, Listed, Registry, RuleMetric, RuleProblem};
use crate::rules::rule::Rule;

/// Most labels of one rule that are told to be of no use; more help nobody.
const MAX_LABELS_TOLD: usize = 20;

#[derive(Default)]
pub(super) struct Build {
    namespaced: CustomMetrics,
    root: CustomMetrics,
    /// Objects outside of namespaces, other than those that the original knows to be.
    unlisted: CustomMetrics,
    external: HashMap<Arc<str>, RuleMetric>,
    problems: Vec<RuleProblem>,
    skipped: usize,
}

impl Build {
    pub(super) fn custom(&mut self, listed: &Listed, directory: &dyn ResourceDirectory) {
        let Some(shapes) = &listed.series else { return };
        let rule = &*listed.rule;
        let Some(mut reader) = self.reader(rule, directory) else { return };
        let mut names = Names::new(rule);
        let mut useless: BTreeMap<Arc<str>, String> = BTreeMap::new();
        let mut found: Vec<(Found, Arc<str>, Arc<str>)> = Vec::new();
        for shape in shapes.iter() {
            let metric = match names.of(shape) {
                Name::Filtered => continue,
                Name::None => {
                    self.skipped += 1;
                    continue;
                }
                Name::Is(metric) => metric,
            };
            let mut any = false;
            for label in shape.labels.iter() {
                let Some(meaning) = reader.read(label) else { continue };
                any = true;
                if let Some(by) = &meaning.asked_by
                    && shape.labels.binary_search(by).is_err()
                    && useless.len() < MAX_LABELS_TOLD
                {
                    useless.entry(Arc::clone(label)).or_insert_with(|| {
                        format!(
                            "the label {label} is read as {}, but queries ask by {by}, which for \
                             example {} does not have: name the label in resources.overrides",
                            meaning.resource.id, shape.name
                        )
                    });
                }
                let id = &meaning.resource.id;
                let place = Found { id: id.clone(), in_namespaces: meaning.resource.namespaced };
                found.push((place, Arc::clone(&metric), Arc::clone(&shape.name)));
            }
            self.skipped += usize::from(!any);
        }
        let scene = Scene::new(reader.into_labels());
        for (place, metric, series) in found {
            let value = rule_metric(listed, series, &scene);
            if place.id.is_root() {
                self.root.entry(place.id).or_default().insert(metric, value);
                continue;
            }
            if !place.in_namespaces {
                let of_resource = self.unlisted.entry(place.id.clone()).or_default();
                of_resource.insert(Arc::clone(&metric), value.clone());
            }
            self.namespaced.entry(place.id).or_default().insert(metric, value);
        }
        self.problems.extend(useless.into_values().map(|message| problem(rule, message)));
    }

    pub(super) fn external(&mut self, listed: &Listed, directory: &dyn ResourceDirectory) {
        let Some(shapes) = &listed.series else { return };
        let rule = &*listed.rule;
        let Some(reader) = self.reader(rule, directory) else { return };
        let scene = Scene::new(reader.into_labels());
        let mut names = Names::new(rule);
        for shape in shapes.iter() {
            match names.of(shape) {
                Name::Filtered => {}
                Name::None => self.skipped += 1,
                Name::Is(metric) => {
                    let value = rule_metric(listed, Arc::clone(&shape.name), &scene);
                    self.external.insert(metric, value);
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> Registry {
        let mut custom_names: Vec<CustomMetricName> =
            [(true, &self.namespaced), (false, &self.root)]
                .into_iter()
                .flat_map(|(namespaced, metrics)| {
                    metrics.iter().flat_map(move |(resource, metrics)| {
                        metrics.keys().map(move |metric| CustomMetricName {
                            resource: resource.clone(),
                            metric: Arc::clone(metric),
                            namespaced,
                        })
                    })
                })
                .collect();
        custom_names.sort_unstable();
        let mut external_names: Vec<MetricName> =
            self.external.keys().map(MetricName::of_rule).collect();
        external_names.sort_unstable();
        for (id, metrics) in self.unlisted {
            self.root.entry(id).or_default().extend(metrics);
        }
        self.problems.sort();
        Registry {
            namespaced: self.namespaced,
            root: self.root,
            external: self.external,
            custom_names: custom_names.into(),
            external_names: external_names.into(),
            problems: self.problems,
            skipped: self.skipped,
        }
    }

    fn reader<'a>(
        &mut self,
        rule: &'a Rule,
        directory: &'a dyn ResourceDirectory,
    ) -> Option<Reader<'a>> {
        Reader::new(rule, directory)
            .map_err(|message| self.problems.push(problem(rule, message)))
            .ok()
    }
}

/// A resource with a metric.
struct Found {
    id: GroupResource,
    in_namespaces: bool,
}

fn problem(rule: &Rule, message: String) -> RuleProblem {
    RuleProblem { place: rule.place.clone(), message }
}

fn rule_metric(listed: &Listed, series: Arc<str>, scene: &Arc<Scene>) -> RuleMetric {
    RuleMetric {
        series,
        rule: Arc::clone(&listed.rule),
        source: listed.source.clone(),
        policy: Arc::clone(&listed.policy),
        scene: Arc::clone(scene),
    }
}

/// What a rule calls a series.
#[derive(Clone)]
enum Name {
    /// The rule does not take it.
    Filtered,
    /// The rule takes it, and has no name for it.
    None,
    Is(Arc<str>),
}

/// The names that a rule gives. Neighbours mostly have one name: it is made once.
struct Names<'a> {
    rule: &'a Rule,
    known: HashMap<Arc<str>, Name>,
}

impl<'a> Names<'a> {
    fn new(rule: &'a Rule) -> Self {
        Self { rule, known: HashMap::new() }
    }

    fn of(&mut self, shape: &SeriesShape) -> Name {
        let rule = self.rule;
        let name = self.known.entry(Arc::clone(&shape.name)).or_insert_with(|| {
            if !rule.takes(&shape.name) {
                return Name::Filtered;
            }
            rule.naming.name(&shape.name).map_or(Name::None, |name| Name::Is(name.into()))
        });
        name.clone()
    }
}
