//! Reads of metrics of Kubernetes objects, and their announcement by HPAs.
//!
//! A read knows the objects from watches and the values from a cell: neither costs a call. The
//! question in the cell is about the objects that match the reader's selector or, where several
//! selectors of a namespace are read and one answer can be divided, about all of them
//! (`crowds`).

mod defined;
mod foresee;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use defined::{Asked, Defined};

use crate::catalog::Catalog;
use crate::lookup::cells::{Cells, Found};
use crate::lookup::crowds::Crowds;
use crate::lookup::message;
use crate::lookup::metrics::Cluster;
use crate::lookup::segment;
use crate::lookup::waiting::{self, Listings, Pass, Waiting};
use crate::model::{
    Announced, ApiError, Claim, CustomItem, CustomMetricName, CustomReading, CustomRequest,
    Decimal, DescribedObject, MetricReference, NamespaceDirectory, ObjectChoice, ObjectDirectory,
    ObjectNames, ObjectReference, ObjectSet, Objects, ObjectsQuery, Policy, Quantity, Query,
    QuerySpec, Reading, ReferenceKind, Resource, ResourceDirectory, Sample, ScaleDirectory,
    Selector, TargetPods,
};
use crate::rules::{RuleMetric, Rules};

/// The resource whose objects are namespaces.
const NAMESPACES: &str = "namespaces";

/// The resource that Pods metrics are about.
const PODS: &str = "pods";

/// Answers reads of custom metrics.
#[derive(Clone)]
pub struct CustomLookup(Arc<Inner>);

struct Inner {
    rules: Arc<Rules>,
    resources: Arc<dyn ResourceDirectory>,
    objects: Arc<dyn ObjectDirectory>,
    scales: Arc<dyn ScaleDirectory>,
    cells: Cells,
    crowds: Arc<Crowds>,
    listings: Arc<Listings>,
    defined: Defined,
}

/// A request that outlives its connection's buffers.
struct Owned {
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
    labels: Selector,
    metric: String,
    metric_selector: Selector,
}

impl Owned {
    fn of(request: &CustomRequest<'_>) -> Self {
        let (name, labels) = match request.objects {
            ObjectChoice::Named(name) => (Some(name.to_owned()), Selector::default()),
            ObjectChoice::Matching(labels) => (None, labels.clone()),
        };
        Self {
            resource: request.resource.to_owned(),
            namespace: request.namespace.map(str::to_owned),
            name,
            labels,
            metric: request.metric.to_owned(),
            metric_selector: request.metric_selector.clone(),
        }
    }

    fn request(&self) -> CustomRequest<'_> {
        CustomRequest {
            resource: &self.resource,
            namespace: self.namespace.as_deref(),
            objects: match &self.name {
                Some(name) => ObjectChoice::Named(name),
                None => ObjectChoice::Matching(&self.labels),
            },
            metric: &self.metric,
            metric_selector: &self.metric_selector,
        }
    }
}

impl CustomLookup {
    /// A lookup over these parts.
    #[must_use]
    pub(super) fn new(
        catalog: Arc<Catalog>,
        rules: Arc<Rules>,
        namespaces: Arc<dyn NamespaceDirectory>,
        cluster: Cluster,
        cells: Cells,
    ) -> Self {
        let Cluster { resources, objects, scales } = cluster;
        let listings = Arc::<Listings>::default();
        let defined = Defined::new(
            catalog,
            namespaces,
            Arc::clone(&resources),
            Arc::clone(&objects),
            Arc::clone(&listings),
            cells.clone(),
        );
        let crowds = Arc::default();
        Self(Arc::new(Inner {
            rules,
            resources,
            objects,
            scales,
            cells,
            crowds,
            listings,
            defined,
        }))
    }

    /// The same for an onlooker.
    pub(super) fn for_onlooker(&self) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            rules: Arc::clone(&inner.rules),
            resources: Arc::clone(&inner.resources),
            objects: Arc::clone(&inner.objects),
            scales: Arc::clone(&inner.scales),
            cells: inner.cells.for_onlooker(),
            crowds: Arc::clone(&inner.crowds),
            listings: Arc::clone(&inner.listings),
            defined: inner.defined.for_onlooker(),
        }))
    }

    /// Reads a metric of objects.
    pub(super) fn read(&self, request: &CustomRequest<'_>) -> Reading<CustomReading> {
        waiting::reading(self.0.pass(request), &self.0.cells.clock, || {
            let (inner, owned) = (Arc::clone(&self.0), Owned::of(request));
            Box::new(move || inner.pass(&owned.request()))
        })
    }

    /// All metrics of objects, sorted and unique.
    pub(super) fn names(&self) -> Arc<[CustomMetricName]> {
        let registry = self.0.rules.registry();
        let defined = self.0.defined.names();
        if defined.is_empty() {
            return Arc::clone(registry.custom_names());
        }
        let all: BTreeSet<CustomMetricName> =
            registry.custom_names().iter().cloned().chain(defined).collect();
        all.into_iter().collect()
    }

    pub(super) fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        let Inner { cells, crowds, defined, .. } = &*self.0;
        match self.0.referred(reference) {
            Referred::Unknown => Announced::Unknown,
            Referred::Obscure => Announced::Obscure,
            Referred::Asking => Announced::Waiting,
            Referred::Defined(asked) => defined.claim(&asked, claim),
            Referred::Ruled(Question { query, policy }) => {
                let query = crowds.wide(&query, cells.clock.tick()).unwrap_or(query);
                cells.claim(&query, &policy, Some(&reference.namespace), claim)
            }
        }
    }

    pub(super) fn release(&self, reference: &MetricReference, claim: Claim) {
        let Inner { cells, crowds, defined, .. } = &*self.0;
        match self.0.referred(reference) {
            Referred::Unknown | Referred::Obscure | Referred::Asking => {}
            Referred::Defined(asked) => defined.release(&asked, claim),
            Referred::Ruled(Question { query, .. }) => {
                // Which of the two was claimed depends on when: a crowd comes and goes.
                if !cells.release(&query, claim)
                    && let Some(wide) = crowds.wide(&query, cells.clock.tick())
                {
                    cells.release(&wide, claim);
                }
            }
        }
    }
}

impl fmt::Debug for CustomLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomLookup")
    }
}

/// What is asked of a source for a read, and how fresh the answer has to be.
struct Question {
    query: Arc<Query>,
    policy: Arc<Policy>,
}

impl Inner {
    /// One look at memory. The order of the checks is that of the original's answers, but for one: a
    /// metric that does not exist starts no watch of its objects.
    fn pass(&self, request: &CustomRequest<'_>) -> Pass<CustomReading> {
        match self.answer(request) {
            Ok(reading) => Pass::Done(Ok(reading)),
            Err(Stop::Error(error)) => Pass::Done(Err(error)),
            Err(Stop::Wait(waiting)) => Pass::Wait(waiting),
        }
    }

    fn answer(&self, request: &CustomRequest<'_>) -> Result<CustomReading, Stop> {
        let CustomRequest { resource: word, namespace, objects, metric, metric_selector } =
            *request;
        let named = match objects {
            ObjectChoice::Named(name) => Some(name),
            ObjectChoice::Matching(_) => None,
        };
        // A definition whose resource is mistaken says so.
        let why_not = || self.defined.misled(metric, namespace);
        let missing = |of: &str| {
            let mut text = message::no_metric_of(metric, of, None);
            if let Some(why) = why_not() {
                text.push_str("; ");
                text.push_str(&why);
            }
            text
        };
        let unknown = |of: &str| Stop::Error(ApiError::MetricUnknown(missing(of)));
        let Some(resource) = self.resources.resolve_path(word) else {
            if let Some(why) = self.resources.unknown_because() {
                let text = format!("unable to list matching resources: {why}");
                return Err(Stop::Error(ApiError::RuleFailed(text)));
            }
            return Err(match named {
                Some(_) => unknown(word),
                None if why_not().is_some() => unknown(word),
                None => Stop::Error(ApiError::RuleFailed(format!(
                    "unable to list matching resources: the cluster has no resource {word}"
                ))),
            });
        };
        let asked = message::Asked { metric, resource: Some(&resource.id), namespace };
        if named.is_none() && namespace.is_some() && !resource.namespaced {
            return Err(Stop::Error(ApiError::RuleFailed(format!(
                "unable to list matching resources: {} are not in namespaces",
                resource.id
            ))));
        }
        let set = ObjectSet {
            resource: Arc::clone(&resource),
            namespace: namespace.map(Into::into),
            names: match objects {
                ObjectChoice::Named(name) => ObjectNames::One(name.into()),
                ObjectChoice::Matching(labels) => ObjectNames::Matching(labels.clone()),
            },
        };
        if let Some(defined) = self.defined.find(metric, &set) {
            return self.defined.read(&defined, metric_selector);
        }
        let registry = self.rules.registry();
        let Some(rule) = registry.custom(&resource.id, namespace.is_some(), metric) else {
            return Err(unknown(&resource.id.to_string()));
        };
        if !segment::may_be_pasted(rule, namespace, named) {
            return Err(unknown(&resource.id.to_string()));
        }
        let matching = self.names(&set, asked, rule)?;
        if matching.is_empty() {
            let text = missing(&resource.id.to_string());
            return Err(Stop::Error(ApiError::MetricNotFound(text)));
        }
        let question = question(rule, set, metric_selector).map_err(|why| {
            Stop::Error(ApiError::MetricNotFound(format!(
                "{}: {why}",
                message::no_metric_of(metric, &resource.id.to_string(), named)
            )))
        })?;
        let found = match self.crowd(&question.query) {
            Some(wide) => self.cells.ready(&wide, &question.policy, asked),
            None => None,
        };
        let found = found.unwrap_or_else(|| {
            let found = self.cells.read(&question.query, &question.policy, asked);
            // A crowd that has gone leaves its last answer to who is left.
            match found {
                Found::Untried(_) | Found::Failed(_) => {
                    let wide = self.crowds.once_wide(&question.query);
                    wide.and_then(|wide| self.cells.held(&wide, &question.policy)).unwrap_or(found)
                }
                Found::Sample(_) | Found::Nothing => found,
            }
        });
        let mut items = Vec::new();
        match found {
            Found::Sample(state) => {
                if let Some(sample) = state.last_sample() {
                    items = collect(&resource, namespace, &matching, sample);
                }
            }
            Found::Nothing => {}
            Found::Failed(why) => return Err(Stop::Error(ApiError::RuleFailed(why))),
            Found::Untried(waiting) => return Err(Stop::Wait(waiting)),
        }
        if named.is_some() && items.is_empty() {
            let text = message::no_metric_of(metric, &resource.id.to_string(), named);
            return Err(Stop::Error(ApiError::MetricNotFound(text)));
        }
        Ok(CustomReading { metric: metric.into(), selector: metric_selector.clone(), items })
    }

    /// The question of the crowd that a read of this one is part of.
    fn crowd(&self, query: &Arc<Query>) -> Option<Arc<Query>> {
        let now = self.cells.clock.tick();
        if self.cells.is_onlooker() {
            self.crowds.wide_now(query, now)
        } else {
            self.crowds.wide(query, now)
        }
    }

    /// The names of the objects.
    fn names(
        &self,
        set: &ObjectSet,
        asked: message::Asked<'_>,
        rule: &RuleMetric,
    ) -> Result<Arc<[Arc<str>]>, Stop> {
        match self.cells.names(&*self.objects, set) {
            Objects::Known(names) => Ok(names),
            Objects::Unavailable(why) => Err(Stop::Error(ApiError::RuleFailed(format!(
                "unable to list matching resources: {why}"
            )))),
            Objects::Listing => {
                let timeout = rule.policy.first_read_timeout;
                let late = ApiError::RuleFailed(message::not_yet_listed(asked, timeout));
                let waits = (&*self.listings, timeout);
                Err(Stop::Wait(self.cells.wait_for_listing(
                    waits,
                    &*self.objects,
                    &set.resource,
                    late,
                )))
            }
        }
    }

    /// The objects that an HPA's metric is about; none where the cluster has no such resource.
    fn set_of(&self, reference: &MetricReference, names: ObjectNames) -> Option<ObjectSet> {
        let resource = match &reference.kind {
            ReferenceKind::External => return None,
            ReferenceKind::Object { object } => {
                let ObjectReference { api_version, kind, .. } = object;
                let group = api_version.split_once('/').map_or("", |(group, _)| group);
                self.resources.resolve(group, kind)?
            }
            ReferenceKind::Pods { .. } => self.resources.resolve("", PODS)?,
        };
        let is_namespace = resource.id.group.is_empty() && &*resource.id.resource == NAMESPACES;
        let namespace = (!is_namespace).then(|| Arc::clone(&reference.namespace));
        // The controller reads the metric of its own namespace, whatever name the HPA gives.
        let names =
            if is_namespace { ObjectNames::One(Arc::clone(&reference.namespace)) } else { names };
        Some(ObjectSet { resource, namespace, names })
    }

    /// The question behind a metric that an HPA names.
    fn referred(&self, reference: &MetricReference) -> Referred {
        let names = match &reference.kind {
            ReferenceKind::External => return Referred::Unknown,
            ReferenceKind::Object { object } => ObjectNames::One(Arc::clone(&object.name)),
            ReferenceKind::Pods { target } => {
                match self.scales.pods_of(&reference.namespace, target) {
                    TargetPods::Selected(selector) => ObjectNames::Matching(selector),
                    TargetPods::Asking => return Referred::Asking,
                    TargetPods::Unknown => return Referred::Obscure,
                }
            }
        };
        let Some(set) = self.set_of(reference, names) else { return Referred::Unknown };
        if let Some(defined) = self.defined.find(&reference.metric, &set) {
            return Referred::Defined(defined);
        }
        let (registry, resource) = (self.rules.registry(), &set.resource);
        let rule = registry.custom(&resource.id, set.namespace.is_some(), &reference.metric);
        let Some(rule) = rule else { return Referred::Unknown };
        let name = match &set.names {
            ObjectNames::One(name) => Some(&**name),
            ObjectNames::Matching(_) | ObjectNames::All => None,
        };
        if !segment::may_be_pasted(rule, set.namespace.as_deref(), name) {
            return Referred::Unknown;
        }
        question(rule, set, &reference.selector).map_or(Referred::Unknown, Referred::Ruled)
    }
}

/// What is known of the question behind a metric that an HPA names.
enum Referred {
    /// A definition's.
    Defined(Asked),
    /// A rule's.
    Ruled(Question),
    /// The pods that it is about are not known yet.
    Asking,
    /// There is none.
    Unknown,
    /// The pods that it is about cannot be known.
    Obscure,
}

/// Why a pass has no answer.
enum Stop {
    Error(ApiError),
    Wait(Waiting),
}

/// The question about a set of objects.
fn question(
    rule: &RuleMetric,
    objects: ObjectSet,
    metric_selector: &Selector,
) -> Result<Question, String> {
    let text = rule.objects(&objects.resource, objects.namespace.as_deref(), metric_selector)?;
    let spec = QuerySpec::Objects(ObjectsQuery { objects, text });
    let query = Arc::new(Query { source: rule.source.clone(), spec });
    Ok(Question { query, policy: Arc::clone(&rule.policy) })
}

/// The items of the objects that have a value. Both lists are sorted by name, unless the objects are
/// those of several namespaces.
fn collect(
    resource: &Resource,
    namespace: Option<&str>,
    names: &[Arc<str>],
    sample: &Sample,
) -> Vec<CustomItem> {
    let api_version: Arc<str> = resource.api_version().into();
    let namespace: Option<Arc<str>> = namespace.map(Into::into);
    let name_of = |at: usize| sample.series[at].labels.iter().next().map_or("", |(_, name)| name);
    let mut items = Vec::with_capacity(names.len().min(sample.series.len()));
    for name in names {
        let place = sample.series.binary_search_by(|series| {
            series.labels.iter().next().map_or("", |(_, name)| name).cmp(name)
        });
        let Ok(place) = place else { continue };
        debug_assert_eq!(name_of(place), &**name);
        let Some(value) = number(&sample.series[place].value) else { continue };
        items.push(CustomItem {
            object: DescribedObject {
                kind: Arc::clone(&resource.kind),
                namespace: namespace.clone(),
                name: Arc::clone(name),
                api_version: Arc::clone(&api_version),
            },
            timestamp: sample.timestamp,
            value,
        });
    }
    items
}

/// The number of a rule's metric as it is told: as it is, whatever its sign. None for one that an
/// HPA cannot read: the original tells another number then, wrapped around.
pub(super) fn number(value: &Decimal) -> Option<Quantity> {
    let quantity = Quantity::from_decimal(value);
    let limit = Quantity::MAX_UNITS * 1000;
    (quantity.milli().abs() < limit).then_some(quantity)
}

#[cfg(test)]
mod tests;
