//! What a read of a metric of objects would get.

use std::sync::Arc;

use super::{CustomLookup, Inner, NAMESPACES, Stop};
use crate::lookup::foresee::{Foreseen, of_error, of_wait};
use crate::lookup::message;
use crate::lookup::near::{self, Near};
use crate::model::{
    CustomReading, CustomRequest, DefinitionKey, MetricReference, Miss, ObjectChoice, ObjectNames,
    ObjectReference, ObjectSet, Quantity, ReferenceKind, Selector, TargetPods,
};

impl CustomLookup {
    /// What a read would get, for an onlooker.
    pub(in crate::lookup) fn foresee(&self, reference: &MetricReference) -> Foreseen {
        self.0.foresee(reference)
    }

    /// Names like the one that is asked for.
    pub(in crate::lookup) fn near(
        &self,
        request: &CustomRequest<'_>,
        near: &Near,
    ) -> Vec<Arc<str>> {
        let CustomRequest { resource, namespace, objects, metric, .. } = *request;
        let Some(resource) = self.0.resources.resolve_path(resource) else { return Vec::new() };
        let names = match objects {
            ObjectChoice::Named(name) => ObjectNames::One(name.into()),
            ObjectChoice::Matching(labels) => ObjectNames::Matching(labels.clone()),
        };
        let set = ObjectSet { resource, namespace: namespace.map(Into::into), names };
        self.0.near(&set, metric, near)
    }

    /// The same for what an HPA asks for.
    pub(in crate::lookup) fn near_reference(
        &self,
        reference: &MetricReference,
        near: &Near,
    ) -> Vec<Arc<str>> {
        let set = self.0.set_of(reference, ObjectNames::All);
        set.map_or_else(Vec::new, |set| self.0.near(&set, &reference.metric, near))
    }
}

impl Inner {
    fn foresee(&self, reference: &MetricReference) -> Foreseen {
        let miss = |miss| Foreseen { definitions: Vec::new(), answer: Err(miss) };
        let (names, pods) = match &reference.kind {
            // Somebody else's; nothing of this name is here.
            ReferenceKind::External => (ObjectNames::All, None),
            ReferenceKind::Object { object } => (ObjectNames::One(Arc::clone(&object.name)), None),
            ReferenceKind::Pods { target } => {
                match self.scales.known_pods_of(&reference.namespace, target) {
                    TargetPods::Selected(selector) => (ObjectNames::Matching(selector), None),
                    TargetPods::Asking => (ObjectNames::All, Some(Miss::Untried)),
                    TargetPods::Unknown => {
                        let message = without_pods(reference, target);
                        (ObjectNames::All, Some(Miss::NoValue { message }))
                    }
                }
            }
        };
        let Some(set) = self.set_of(reference, names) else {
            return miss(Miss::NoValue { message: self.without_resource(reference) });
        };
        let definition = self.defined.find(&reference.metric, &set).map(|asked| asked.key());
        let definitions: Vec<DefinitionKey> = definition.into_iter().collect();
        // An unknown metric is worth more than that its objects are not known.
        if let Some(miss) = pods.filter(|_| self.knows(&set, &reference.metric)) {
            return Foreseen { definitions, answer: Err(miss) };
        }
        let (resource, everything) = (set.resource.id.to_string(), Selector::default());
        let objects = match &set.names {
            ObjectNames::One(name) => ObjectChoice::Named(name),
            ObjectNames::Matching(labels) => ObjectChoice::Matching(labels),
            ObjectNames::All => ObjectChoice::Matching(&everything),
        };
        let answer = self.answer(&CustomRequest {
            resource: &resource,
            namespace: set.namespace.as_deref(),
            objects,
            metric: &reference.metric,
            metric_selector: &reference.selector,
        });
        let answer = match answer {
            Ok(reading) => average(&reading).ok_or_else(|| Miss::NoMatch {
                message: message::empty_list(&reference.metric, &reference.namespace, "custom"),
            }),
            Err(Stop::Wait(waiting)) => Err(of_wait(&waiting, self.cells.clock.tick())),
            Err(Stop::Error(error)) => Err(match of_error(&error) {
                Miss::Unknown { message, near, .. } => {
                    let elsewhere = self.defined.elsewhere(&reference.metric, &set);
                    Miss::Unknown { message, near, elsewhere }
                }
                miss => miss,
            }),
        };
        Foreseen { definitions, answer }
    }

    /// Whether a definition or a rule gives this metric of the objects.
    fn knows(&self, set: &ObjectSet, metric: &str) -> bool {
        let registry = self.rules.registry();
        self.defined.find(metric, set).is_some()
            || registry.custom(&set.resource.id, set.namespace.is_some(), metric).is_some()
    }

    fn near(&self, set: &ObjectSet, metric: &str, near: &Near) -> Vec<Arc<str>> {
        let of = set.resource.id.to_string();
        let place = match (&set.namespace, &set.names) {
            (Some(namespace), _) => namespace,
            (None, ObjectNames::One(name)) if &*set.resource.id.resource == NAMESPACES => name,
            (None, _) => "",
        };
        let question = near::Question { of: &of, namespace: place, metric };
        let seen = |name: &str| self.knows(set, name);
        near.find(question, self.defined.generation(), seen, |search| {
            let registry = self.rules.registry();
            let names = registry.custom_names();
            let from = names.partition_point(|name| name.resource < set.resource.id);
            let to = names.partition_point(|name| name.resource <= set.resource.id);
            let asked = search.asked();
            let around = near::outward(&names[from..to], |name| &*name.metric < asked);
            search.look_at(around.map(|name| &*name.metric), seen);
            self.defined.near(search, seen);
        })
    }

    /// Why the controller does not even ask: it cannot tell which objects are meant.
    fn without_resource(&self, reference: &MetricReference) -> String {
        let why = self.resources.unknown_because();
        let kind = match &reference.kind {
            ReferenceKind::Object { object } => format!("{} {}", object.api_version, object.kind),
            ReferenceKind::Pods { .. } | ReferenceKind::External => "v1 Pod".to_owned(),
        };
        match why {
            Some(why) => format!("{reference}: it is not known whether there are {kind}: {why}"),
            None => format!("{reference}: the cluster has no objects {kind}"),
        }
    }
}

/// Why the controller does not even ask: it does not know the pods.
fn without_pods(reference: &MetricReference, target: &ObjectReference) -> String {
    let ObjectReference { kind, name, .. } = target;
    format!(
        "{reference}: the pods of {kind} {name} are not known: it does not exist, it has no scale, \
         or its scale cannot be read"
    )
}

/// What an HPA makes of the values: their average, cut as the controller cuts it.
fn average(reading: &CustomReading) -> Option<String> {
    let sum = reading.items.iter().fold(0_i64, |sum, item| sum.saturating_add(item.value.milli()));
    let count = i64::try_from(reading.items.len()).ok()?;
    Some(Quantity::from_milli(sum.checked_div(count)?).to_string())
}
