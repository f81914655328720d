//! Metrics of objects that our own documents define.
//!
//! They are told in our own way: a value goes through the definition's arithmetic, a read without any
//! value fails with the reason, and objects without a series are left out of a list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;

use super::{NAMESPACES, Stop};
use crate::cache::{Admission, EntryState, QueryCell, View};
use crate::catalog::{Catalog, Served, Snapshot};
use crate::lookup::cells::{Cells, Look};
use crate::lookup::external::selects;
use crate::lookup::message;
use crate::lookup::near::{MAX_NEAR, Search};
use crate::lookup::segment::is_namespace;
use crate::lookup::waiting::Listings;
use crate::model::{
    Announced, ApiError, ByObject, Claim, CustomItem, CustomMetricName, CustomReading, Decimal,
    DefinitionKey, DescribedObject, Entry, NamespaceDirectory, ObjectDirectory, ObjectNames,
    ObjectSet, Objects, OnNoData, Quantity, Query, QueryTemplate, ResourceDirectory, Sample,
    Selector,
};

/// Answers remembered by object. With more, all are forgotten and looked through again.
const MAX_INDEXES: usize = 10_000;

/// The definitions of metrics of objects.
pub(super) struct Defined {
    catalog: Arc<Catalog>,
    namespaces: Arc<dyn NamespaceDirectory>,
    resources: Arc<dyn ResourceDirectory>,
    objects: Arc<dyn ObjectDirectory>,
    listings: Arc<Listings>,
    cells: Cells,
    indexes: Arc<Indexes>,
}

/// A definition and the objects that it is read for.
pub(super) struct Asked {
    served: Arc<Served>,
    set: ObjectSet,
    /// Where the definition is seen and what `$namespace` stands for.
    place: Option<Arc<str>>,
}

/// The namespace in which a metric of this set is looked up: a namespace is seen in itself.
fn place_of(set: &ObjectSet) -> Option<&Arc<str>> {
    let id = &set.resource.id;
    match (&set.namespace, &set.names) {
        (Some(namespace), _) => Some(namespace),
        (None, ObjectNames::One(name)) if id.group.is_empty() && &*id.resource == NAMESPACES => {
            Some(name)
        }
        (None, _) => None,
    }
}

impl Defined {
    pub(super) fn new(
        catalog: Arc<Catalog>,
        namespaces: Arc<dyn NamespaceDirectory>,
        resources: Arc<dyn ResourceDirectory>,
        objects: Arc<dyn ObjectDirectory>,
        listings: Arc<Listings>,
        cells: Cells,
    ) -> Self {
        let indexes = Arc::default();
        Self { catalog, namespaces, resources, objects, listings, cells, indexes }
    }

    /// The same for an onlooker.
    pub(super) fn for_onlooker(&self) -> Self {
        Self {
            catalog: Arc::clone(&self.catalog),
            namespaces: Arc::clone(&self.namespaces),
            resources: Arc::clone(&self.resources),
            objects: Arc::clone(&self.objects),
            listings: Arc::clone(&self.listings),
            cells: self.cells.for_onlooker(),
            indexes: Arc::clone(&self.indexes),
        }
    }

    /// The definition that gives a metric of these objects; none when no visible one does.
    pub(super) fn find(&self, metric: &str, set: &ObjectSet) -> Option<Asked> {
        let snapshot = self.catalog.snapshot();
        let place = place_of(set);
        // What no namespace is called goes into no query.
        if place.is_some_and(|place| !is_namespace(place)) {
            return None;
        }
        let mut found: Option<&Arc<Served>> = None;
        for (text, served) in self.visible(&snapshot, metric, place.map_or("", |place| place)) {
            let meant = self.resources.resolve_path(text);
            if meant.is_none_or(|meant| meant.id != set.resource.id) {
                continue;
            }
            // Two can be here when they write one resource in two ways.
            let goes_first = served.entry.id.kind.is_namespaced();
            if found.is_none() || goes_first {
                found = Some(served);
            }
            if goes_first {
                break;
            }
        }
        let served = Arc::clone(found?);
        Some(Asked { served, set: set.clone(), place: place.cloned() })
    }

    /// The first definition of a metric that is seen in a namespace, for each way in which they write
    /// their resource.
    fn visible<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        metric: &str,
        place: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Served>)> {
        snapshot.custom(metric).iter().filter_map(move |(text, listing)| {
            let selects = |scope: &_| selects(&*self.namespaces, scope, place);
            Some((text, listing.visible(place, selects).next()?))
        })
    }

    /// Definitions of the metric that are not seen where these objects are, three at most.
    pub(super) fn elsewhere(&self, metric: &str, set: &ObjectSet) -> Vec<DefinitionKey> {
        let snapshot = self.catalog.snapshot();
        let place = place_of(set).map_or("", |place| place);
        let mut elsewhere = Vec::new();
        for (_, listing) in snapshot.custom(metric) {
            let selects = |scope: &_| selects(&*self.namespaces, scope, place);
            let seen: Vec<&Arc<Served>> = listing.visible(place, selects).collect();
            let unseen = listing.all().filter(|s| seen.iter().all(|seen| !Arc::ptr_eq(seen, s)));
            elsewhere.extend(unseen.map(|served| served.entry.key()).take(MAX_NEAR));
        }
        elsewhere.truncate(MAX_NEAR);
        elsewhere
    }

    /// Looks at the names of all metrics.
    pub(super) fn near(&self, search: &mut Search<'_>, seen: impl Fn(&str) -> bool) {
        let snapshot = self.catalog.snapshot();
        search.look_at(snapshot.custom_names().map(|(name, _)| name.as_str()), seen);
    }

    /// Counts the changes of what is defined.
    pub(super) fn generation(&self) -> u64 {
        self.catalog.snapshot().generation()
    }

    /// That a definition of the metric is about a resource that the cluster does not have, in a
    /// sentence, if one is.
    pub(super) fn misled(&self, metric: &str, place: Option<&str>) -> Option<String> {
        let snapshot = self.catalog.snapshot();
        self.visible(&snapshot, metric, place.unwrap_or_default())
            .find(|(text, _)| self.resources.resolve_path(text).is_none())
            .map(|(text, served)| {
                let Entry { id, origin, .. } = &*served.entry;
                format!(
                    "{id} ({origin}) is about {text}, a resource that the cluster does not have"
                )
            })
    }

    /// All metrics whose resource the cluster has.
    pub(super) fn names(&self) -> Vec<CustomMetricName> {
        let snapshot = self.catalog.snapshot();
        let name = |(metric, text): (&crate::model::MetricName, &Arc<str>)| {
            let resource = self.resources.resolve_path(text)?.id.clone();
            Some(CustomMetricName {
                namespaced: !resource.is_root(),
                resource,
                metric: metric.as_str().into(),
            })
        };
        snapshot.custom_names().filter_map(name).collect()
    }

    /// One look at memory.
    pub(super) fn read(
        &self,
        asked: &Asked,
        metric_selector: &Selector,
    ) -> Result<CustomReading, Stop> {
        let Asked { served, set, place } = asked;
        let entry = &served.entry;
        let title = asked.title();
        if !metric_selector.is_everything() {
            return Err(Stop::Error(ApiError::BadRequest(format!(
                "{title}: {} takes no selector on the metric's labels (metricLabelSelector); select the series in its query",
                entry.id
            ))));
        }
        asked.check()?;
        let names = self.objects_of(asked)?;
        if names.is_empty() {
            let text = format!("{title}: {}", message::no_objects(set));
            return Err(Stop::Error(ApiError::MetricNotFound(text)));
        }
        let made = |query: &Arc<Query>| Some(self.cells.made(query, entry));
        let cell = self.cell(asked, made).ok_or_else(|| {
            Stop::Error(ApiError::Internal("a definition of objects has no query".to_owned()))
        })?;
        let at = place.as_deref().unwrap_or(message::NOWHERE);
        let no_value = |why| Err(Stop::Error(ApiError::NoValue(why)));
        let Look { state, admission, now } = self.cells.look(&cell);
        let items = match state.view(&entry.policy, now) {
            view @ (View::Fresh(sample) | View::Servable(sample)) => {
                let held = matches!(view, View::Servable(_));
                match self.values(asked, &cell, &state, (sample, held), &names) {
                    Ok(items) => items,
                    Err(why) => {
                        let source = &cell.query().source;
                        return no_value(format!("{title}: {why} (source {source})"));
                    }
                }
            }
            View::Chosen(number, no_data) => chosen(set, &names, number, no_data.timestamp),
            View::Waiting if admission == Admission::Full => {
                return no_value(message::queue_full(served, at, cell.query()));
            }
            View::Waiting => {
                let text = message::first_read_timed_out(served, at, cell.query());
                let late = ApiError::FirstReadTimeout(text);
                let patience = entry.policy.first_read_timeout;
                return Err(Stop::Wait(self.cells.wait(cell, patience, now, late)));
            }
            view @ (View::NoData(_) | View::Failed(_) | View::Expired) => {
                return no_value(message::no_value(entry, at, cell.query(), &state, &view, now));
            }
        };
        Ok(CustomReading {
            metric: entry.metric.as_str().into(),
            selector: metric_selector.clone(),
            items,
        })
    }

    /// The items of an answer; why there is none otherwise. The definition's number for the case
    /// without data counts where none of the objects has a series: one that has none beside others
    /// that do has just started, and nothing is known of it. Of an answer that is held because the
    /// newest call failed it does not count: the upstream has not said what it has of them now.
    fn values(
        &self,
        asked: &Asked,
        cell: &QueryCell,
        state: &Arc<EntryState>,
        (sample, held): (&Sample, bool),
        names: &[Arc<str>],
    ) -> Result<Vec<CustomItem>, String> {
        let Asked { served, set, .. } = asked;
        let index = self.indexes.of(cell.query(), state, sample, &asked.label());
        let index = index.as_ref().as_ref().map_err(String::clone)?;
        let transform = &served.entry.transform;
        let values = names.iter().filter_map(|name| {
            let value = transform.apply(index.find(&sample.series, name)?);
            Some((name, Quantity::from_decimal(&value)))
        });
        let items = items(set, sample.timestamp, values);
        match &served.entry.policy.on_no_data {
            _ if !items.is_empty() => Ok(items),
            OnNoData::Value(number) if !held => Ok(chosen(set, names, number, sample.timestamp)),
            OnNoData::Value(_) | OnNoData::Hold | OnNoData::Error => {
                let label = asked.label();
                let why = match names {
                    [one] => format!("no series of the answer has {label}=\"{one}\""),
                    many => format!(
                        "none of the {} objects has a series in the answer (their names are looked for in label {label})",
                        many.len()
                    ),
                };
                let trouble = state.trouble().filter(|_| held);
                Err(match trouble {
                    Some((trouble, _)) => format!("{why}, which is held because: {trouble}"),
                    None => why,
                })
            }
        }
    }

    /// The names of the objects.
    fn objects_of(&self, asked: &Asked) -> Result<Arc<[Arc<str>]>, Stop> {
        let resource = &asked.set.resource;
        match self.cells.names(&*self.objects, &asked.set) {
            Objects::Known(names) => Ok(names),
            Objects::Unavailable(why) => {
                let text = format!("{}: {why}", asked.title());
                Err(Stop::Error(ApiError::NoValue(text)))
            }
            Objects::Listing => {
                let patience = asked.served.entry.policy.first_read_timeout;
                let late = ApiError::FirstReadTimeout(format!(
                    "{}: the {} have not been listed yet; waited {}",
                    asked.title(),
                    resource.id,
                    message::show(patience)
                ));
                let waits = (&*self.listings, patience);
                Err(Stop::Wait(self.cells.wait_for_listing(waits, &*self.objects, resource, late)))
            }
        }
    }

    /// The cell that answers; `on_demand` knows those of queries that a read completes.
    fn cell(
        &self,
        asked: &Asked,
        on_demand: impl FnOnce(&Arc<Query>) -> Option<Arc<QueryCell>>,
    ) -> Option<Arc<QueryCell>> {
        let Asked { served, set, place } = asked;
        if let Some(cell) = &served.cell {
            return Some(Arc::clone(cell));
        }
        let place = place.as_deref().unwrap_or_default();
        let query = match &served.entry.query {
            QueryTemplate::PerObjects(template) => template.ask(set.clone(), place, &asked.label()),
            template => template.resolve(place)?,
        };
        self.catalog.snapshot().cell(&query).cloned().or_else(|| on_demand(&query))
    }

    /// Makes the question wanted for HPAs.
    pub(super) fn claim(&self, asked: &Asked, claim: Claim) -> Announced {
        if asked.check().is_err() {
            return Announced::Unknown;
        }
        let made = |query: &Arc<Query>| self.cells.on_demand.announced(query, &asked.served.entry);
        let cell = self.cell(asked, made);
        cell.map_or(Announced::Waiting, |cell| self.cells.claim_cell(&cell, claim))
    }

    /// Takes a claim back.
    pub(super) fn release(&self, asked: &Asked, claim: Claim) {
        if let Some(cell) = self.cell(asked, |query| self.cells.on_demand.find(query)) {
            cell.release(claim, self.cells.clock.tick());
        }
    }
}

impl Asked {
    /// Which definition it is.
    pub(super) fn key(&self) -> DefinitionKey {
        self.served.entry.key()
    }

    /// The label of the objects' names.
    fn label(&self) -> Arc<str> {
        let resource = &self.set.resource;
        let of = self.served.entry.objects.as_ref();
        of.map_or_else(|| Arc::clone(&resource.singular), |of| of.label_for(resource))
    }

    /// What a sentence about it begins with.
    fn title(&self) -> String {
        let entry = &self.served.entry;
        let at = self.place.as_deref().unwrap_or(message::NOWHERE);
        format!("{} of {} in {at}", entry.metric, self.set.resource.id)
    }

    /// Whether it says enough for the question.
    fn check(&self) -> Result<(), Stop> {
        let resource = &self.set.resource;
        let why = if resource.namespaced && self.set.namespace.is_none() {
            format!("{} are in namespaces; ask for those of one", resource.id)
        } else if self.place.is_none() && self.served.entry.query.needs_namespace() {
            format!("the query of {} has $namespace in it; ask in one", self.served.entry.id)
        } else {
            return Ok(());
        };
        Err(Stop::Error(ApiError::MetricNotFound(format!("{}: {why}", self.title()))))
    }
}

/// Every object with the number that the definition's author chose.
fn chosen(
    set: &ObjectSet,
    names: &[Arc<str>],
    number: &Decimal,
    timestamp: Timestamp,
) -> Vec<CustomItem> {
    let value = Quantity::from_decimal(number);
    items(set, timestamp, names.iter().map(|name| (name, value)))
}

fn items<'a>(
    set: &ObjectSet,
    timestamp: Timestamp,
    values: impl Iterator<Item = (&'a Arc<str>, Quantity)>,
) -> Vec<CustomItem> {
    let resource = &set.resource;
    let api_version: Arc<str> = resource.api_version().into();
    let item = |(name, value): (&Arc<str>, Quantity)| CustomItem {
        object: DescribedObject {
            kind: Arc::clone(&resource.kind),
            namespace: set.namespace.clone().filter(|_| resource.namespaced),
            name: Arc::clone(name),
            api_version: Arc::clone(&api_version),
        },
        timestamp,
        value,
    };
    values.map(item).collect()
}

/// Answers by object: one may hold every pod of a namespace, and is looked through once, not for
/// each reader.
#[derive(Default)]
struct Indexes(Mutex<HashMap<IndexKey, Known, ahash::RandomState>>);

/// A question, and the label of its objects.
type IndexKey = (Arc<Query>, Arc<str>);

/// An answer, as part of the state that held it, and its series by object.
type Known = (Weak<EntryState>, Arc<Result<ByObject, String>>);

impl Indexes {
    fn of(
        &self,
        query: &Arc<Query>,
        state: &Arc<EntryState>,
        sample: &Sample,
        label: &Arc<str>,
    ) -> Arc<Result<ByObject, String>> {
        let key = (Arc::clone(query), Arc::clone(label));
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, index)) = known().get(&key)
            // A state that is held weakly keeps its address to itself.
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(state))
        {
            return Arc::clone(index);
        }
        let index = Arc::new(ByObject::of(&sample.series, label));
        let mut known = known();
        if known.len() >= MAX_INDEXES && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, (Arc::downgrade(state), Arc::clone(&index)));
        index
    }
}

#[cfg(test)]
mod tests;
