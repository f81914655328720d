//! What is known about each resource: what its status says, what has been told, what waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::QueryCell;
use crate::catalog::cells::{CellOf, cells_of};
use crate::catalog::{Conflict, Served};
use crate::control::declared::{Declared, Resources};
use crate::control::events::{About, Hpa, News};
use crate::control::resource_status::Parts;
use crate::control::resource_status::conditions::{self, Facts, READY, condition_of, gist};
use crate::control::resource_status::news::Told;
use crate::control::resource_status::pace::{Cause, Queue, heartbeat};
use crate::control::resource_status::readers::{self, Readers, Register, Trouble, TroubleKind};
use crate::control::resource_status::view::{self, Moment, Stand};
use crate::control::resource_status::writer::{Outcome, has_status};
use crate::definition::status::Status;
use crate::model::{DefinitionId, Origin, Query, QueryTemplate, SourceName, Tick};

/// After a start nothing that is merely not known yet takes the place of what a status says: HPAs are
/// listed, first answers come. By then both have had three times as long as a start waits for them.
pub(super) const SETTLES: Duration = Duration::from_secs(30);

/// How often it is asked again what HPAs would get.
const FORESEE_EVERY: Duration = Duration::from_secs(10);

/// How long an object whose status cannot be written is left alone. One that was deleted leaves the
/// board sooner.
const OBJECT_PAUSE: Duration = Duration::from_secs(30);

/// Items of a pass between which others get the thread.
const CHUNK: usize = 200;

static NOBODY: Readers = Readers { used_by: Vec::new(), missed_by: Vec::new() };

/// What is known about all resources by the replica that writes.
pub(super) struct Ledger {
    tracked: HashMap<Arc<DefinitionId>, Tracked, ahash::RandomState>,
    pub(super) queue: Queue,
    scene: Scene,
    on_demand: OnDemandIndex,
    register: Register,
    /// Generations of usage and catalog, and the moment, of the register.
    registered: Option<(u64, u64, Tick)>,
    /// The resources that were taken over.
    board: Option<Arc<Resources>>,
    /// What HPAs have been told, by metric.
    hpas: HashMap<(Hpa, Arc<str>), TroubleKind>,
    settled: Tick,
    /// Whether it is known who reads.
    used: bool,
    /// Resources whose value changes.
    in_use: usize,
}

/// The catalog, as resources look at it.
#[derive(Default)]
struct Scene {
    generation: Option<u64>,
    served: HashMap<DefinitionId, Arc<Served>, ahash::RandomState>,
    conflicts: HashMap<DefinitionId, Conflict, ahash::RandomState>,
}

/// One resource.
struct Tracked {
    declared: Arc<Declared>,
    served: Option<Arc<Served>>,
    conflict: Option<Conflict>,
    readers: Option<Arc<Readers>>,
    /// The query of its own namespace, where the definition has a placeholder for that.
    own: Option<Arc<Query>>,
    /// What its status says: as it was found or written.
    known: Option<Status>,
    told: Told,
    /// How it stood when its status was last made; none when something else has changed since.
    stand: Option<Stand>,
    next_value: Tick,
    /// It is left alone until then.
    retry: Tick,
}

fn is_same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Whether a definition and its cell are those of an earlier snapshot: each change of any definition
/// makes another one, with all of the others in it as they were.
fn is_as_before(before: Option<&Served>, now: Option<&Served>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            Arc::ptr_eq(&before.entry, &now.entry)
                && is_same(before.cell.as_ref(), now.cell.as_ref())
        }
        (None, None) => true,
        _ => false,
    }
}

impl Tracked {
    fn new(declared: &Arc<Declared>, now: Tick, beat: Duration) -> Self {
        let known = found(declared);
        Self {
            declared: Arc::clone(declared),
            served: None,
            conflict: None,
            readers: None,
            own: None,
            told: Told::by(known.as_ref(), now),
            known,
            stand: None,
            // Spread: nothing is gained by writing all values in one moment.
            next_value: now.after(beat.mul_f64(rand::random::<f64>())),
            retry: Tick(0),
        }
    }

    /// Takes over what has been seen; notes whether its status may change by that.
    fn renew(
        &mut self,
        declared: &Arc<Declared>,
        served: Option<&Arc<Served>>,
        conflict: Option<&Conflict>,
        readers: Option<&Arc<Readers>>,
    ) {
        if !Arc::ptr_eq(&self.declared, declared) {
            // A new `status` alone is most often our own.
            let same = self.declared.generation == declared.generation
                && self.declared.verdict == declared.verdict;
            if declared.status.is_none() && has_status(declared.id.kind) {
                // Somebody took it away.
                self.known = None;
                self.stand = None;
            } else if !same {
                self.stand = None;
            }
            self.declared = Arc::clone(declared);
        }
        let is_as_before = is_as_before(self.served.as_deref(), served.map(|served| &**served));
        // Of the newest snapshot, so that no older one is kept.
        self.served = served.map(Arc::clone);
        if !is_as_before {
            self.stand = None;
            let template = served.map(|served| &served.entry.query);
            self.own = match (template, &declared.id.namespace) {
                (Some(template @ QueryTemplate::PerNamespace { .. }), Some(namespace)) => {
                    template.resolve(namespace)
                }
                _ => None,
            };
        }
        if !is_same(self.readers.as_ref(), readers) {
            self.readers = readers.map(Arc::clone);
            self.stand = None;
        }
        if self.conflict.as_ref() != conflict {
            self.conflict = conflict.cloned();
            self.stand = None;
        }
    }

    fn readers(&self) -> &Readers {
        self.readers.as_ref().map_or(&NOBODY, |readers| &**readers)
    }

    fn cells(&self, on_demand: &OnDemandIndex) -> Vec<CellOf> {
        let Some(served) = &self.served else { return Vec::new() };
        if let Some(query) = &self.own {
            let namespace = &self.declared.id.namespace;
            let cell = on_demand.by_query.get(query).map(Arc::clone);
            let cell = cell.map(|cell| CellOf { namespace: namespace.clone(), cell });
            return cell.into_iter().collect();
        }
        let text = served.entry.query.expression().filter(|_| served.cell.is_none());
        let key = text.map(|text| (served.entry.query.source().clone(), Arc::clone(text)));
        let on_demand = key.and_then(|key| on_demand.by_template.get(&key));
        let mut cells = cells_of(served, on_demand.map_or(&[], Vec::as_slice));
        cells.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        cells
    }

    /// How it stands. The usual case, a query of its own, costs one look at a cell.
    fn stand(&self, on_demand: &OnDemandIndex, now: Tick) -> Stand {
        let Some(served) = &self.served else { return Stand::Idle };
        match &served.cell {
            Some(cell) => view::stand(cell, &served.entry, now),
            None => view::worst(&self.cells(on_demand), &served.entry, now),
        }
    }

    /// The status that it is to have. `used`: whether it is known who reads.
    fn status(&self, on_demand: &OnDemandIndex, now: Moment, used: bool) -> Status {
        let facts = Facts {
            declared: &self.declared,
            served: self.served.as_deref(),
            conflict: self.conflict.as_ref(),
            cells: &self.cells(on_demand),
            readers: used.then(|| self.readers()),
            now,
        };
        conditions::status(&facts, self.known.as_ref())
    }
}

/// The cells that only requests make, by what they complete.
#[derive(Default)]
struct OnDemandIndex {
    by_query: HashMap<Arc<Query>, Arc<QueryCell>, ahash::RandomState>,
    by_template: HashMap<(SourceName, Arc<str>), Vec<Arc<QueryCell>>>,
}

impl OnDemandIndex {
    fn of(cells: Vec<Arc<QueryCell>>) -> Self {
        let mut index = Self::default();
        for cell in cells {
            // Those of rules have no definition.
            let Some(entry) = cell.asked_by() else { continue };
            if let Some(text) = entry.query.expression() {
                let key = (entry.query.source().clone(), Arc::clone(text));
                index.by_template.entry(key).or_default().push(Arc::clone(&cell));
            }
            index.by_query.insert(Arc::clone(cell.query()), cell);
        }
        index
    }
}

impl Scene {
    /// Takes the catalog over; whether it is another one.
    fn look(&mut self, parts: &Parts) -> bool {
        let snapshot = parts.catalog.snapshot();
        if self.generation == Some(snapshot.generation()) {
            return false;
        }
        let from_resource = |origin: &Origin| matches!(origin, Origin::Resource { .. });
        let served = snapshot.served().filter(|served| from_resource(&served.entry.origin));
        self.served = served.map(|s| (s.entry.id.clone(), Arc::clone(s))).collect();
        self.conflicts.clear();
        let lost = snapshot.conflicts().iter().filter(|c| from_resource(&c.loser_origin));
        for conflict in lost {
            // One that is served nowhere is the worse news.
            let told = self.conflicts.entry(conflict.loser.clone());
            let told = told.or_insert_with(|| conflict.clone());
            if conflict.total && !told.total {
                *told = conflict.clone();
            }
        }
        self.generation = Some(snapshot.generation());
        true
    }
}

impl Ledger {
    /// Knows nothing. `settled` is when what is not known yet counts as absent.
    pub(super) fn new(settled: Tick) -> Self {
        Self {
            tracked: HashMap::default(),
            queue: Queue::default(),
            scene: Scene::default(),
            on_demand: OnDemandIndex::default(),
            register: Register::default(),
            registered: None,
            board: None,
            hpas: HashMap::new(),
            settled,
            used: false,
            in_use: 0,
        }
    }

    /// Looks at everything once; gives what is worth an Event. Lets others have the thread now and
    /// then.
    pub(super) async fn pass(&mut self, parts: &Parts, now: Moment) -> Vec<News> {
        let mut news = Vec::new();
        let is_new = self.scene.look(parts);
        let is_new = self.read_usage(parts, now.tick, &mut news) || is_new;
        let board = parts.board.resources();
        if is_new || !is_same(self.board.as_ref(), Some(&board)) {
            self.take_over(board, now.tick).await;
        }
        if self.scene.served.values().any(|served| served.cell.is_none()) {
            self.on_demand = OnDemandIndex::of(parts.on_demand.all());
        }
        let beat = heartbeat(self.in_use);
        self.in_use = 0;
        let Self { tracked, queue, on_demand, settled, in_use, used, .. } = self;
        for (i, (id, tracked)) in tracked.iter_mut().enumerate() {
            if i % CHUNK == CHUNK - 1 {
                tokio::task::yield_now().await;
            }
            let stand = tracked.stand(on_demand, now.tick);
            *in_use += usize::from(stand != Stand::Idle);
            let due = now.tick >= tracked.next_value;
            if now.tick < tracked.retry || (tracked.stand == Some(stand) && !due) {
                continue;
            }
            let status = tracked.status(on_demand, now, *used);
            if now.tick < *settled && is_hasty(&status, tracked.known.as_ref()) {
                tracked.stand = None;
                continue;
            }
            tracked.stand = Some(stand);
            let uid = &tracked.declared.uid;
            let readers = tracked.readers.as_ref().map_or(&NOBODY, |readers| &**readers);
            news.extend(tracked.told.news(id, uid, &status, readers, now.tick));
            if due {
                tracked.next_value = now.tick.after(beat);
            }
            if !has_status(id.kind) {
                tracked.known = Some(status);
                continue;
            }
            let known = tracked.known.as_ref();
            if known.is_none_or(|known| gist(known) != gist(&status)) {
                let is_verdict =
                    conditions::is_refused(&status) || known.is_some_and(conditions::is_refused);
                queue.push(id, if is_verdict { Cause::Verdict } else { Cause::Condition });
            } else if due && known != Some(&status) {
                queue.push(id, Cause::Value);
            }
        }
        news
    }

    /// Takes over what has been seen of resources, of the catalog, and of who reads.
    async fn take_over(&mut self, board: Arc<Resources>, now: Tick) {
        let beat = heartbeat(board.len());
        for (i, (id, declared)) in board.iter().enumerate() {
            if i % CHUNK == CHUNK - 1 {
                tokio::task::yield_now().await;
            }
            let known = self.tracked.get_mut(id);
            let tracked =
                if let Some(tracked) = known.filter(|known| known.declared.uid == declared.uid) {
                    tracked
                } else {
                    // One of the same name that was made again is another one.
                    self.queue.remove(id);
                    let tracked = Tracked::new(declared, now, beat);
                    match self.tracked.entry(Arc::new(id.clone())) {
                        Entry::Occupied(mut before) => {
                            before.insert(tracked);
                            before.into_mut()
                        }
                        Entry::Vacant(free) => free.insert(tracked),
                    }
                };
            let (served, conflict) = (self.scene.served.get(id), self.scene.conflicts.get(id));
            tracked.renew(declared, served, conflict, self.register.of_definition(id));
        }
        if self.tracked.len() > board.len() {
            let queue = &mut self.queue;
            self.tracked.retain(|id, _| {
                let stays = board.contains_key(&**id);
                if !stays {
                    queue.remove(id);
                }
                stays
            });
        }
        self.board = Some(board);
    }

    /// Asks what HPAs get, when that may have changed; adds what is worth an Event about HPAs. True
    /// when it was asked.
    fn read_usage(&mut self, parts: &Parts, now: Tick, news: &mut Vec<News>) -> bool {
        let (usage, catalog) = (*parts.usage.subscribe().borrow(), self.scene.generation);
        let catalog = catalog.unwrap_or_default();
        let is_old = self.registered.is_none_or(|(of_usage, of_catalog, at)| {
            (of_usage, of_catalog) != (usage, catalog) || now.since(at) >= FORESEE_EVERY
        });
        if !is_old && !self.register.is_untried() {
            return false;
        }
        // HPAs that were seen before may be long gone.
        let used = parts.usage.is_known();
        let all = if used { parts.usage.used() } else { Arc::default() };
        self.register = Register::of(&all, &*parts.foresee, &self.register);
        self.registered = Some((usage, catalog, now));
        if std::mem::replace(&mut self.used, used) != used {
            self.tracked.values_mut().for_each(|tracked| tracked.stand = None);
        }
        // While it is not known who reads, nobody has recovered and nobody has left.
        if used && parts.events.hpas && now >= self.settled {
            news.extend(self.tell_hpas());
        }
        true
    }

    fn tell_hpas(&mut self) -> Vec<News> {
        let outcomes = self.register.outcomes();
        let mut news = Vec::new();
        let mut tell = |hpa: &Hpa, warning, reason, note: String| {
            let about = About::Hpa(hpa.clone());
            news.push(News { about, warning, reason, note, related: None });
        };
        self.hpas.retain(|key, _| outcomes.contains_key(key));
        for ((hpa, metric), outcome) in outcomes {
            let key = || (hpa.clone(), Arc::clone(metric));
            match outcome {
                readers::Outcome::Trouble(Trouble { kind, message }) => {
                    if self.hpas.insert(key(), *kind) != Some(*kind) {
                        tell(hpa, true, "MetricUnavailable", message.to_string());
                    }
                }
                // Neither a failure nor the end of one.
                readers::Outcome::Untried => {}
                readers::Outcome::Value => {
                    if self.hpas.remove(&key()).is_some() {
                        tell(hpa, false, "MetricRecovered", format!("{metric} has a value again"));
                    }
                }
            }
        }
        news
    }

    /// The status that is to be written for a resource that waited; none when it says so already.
    pub(super) fn to_write(&self, id: &DefinitionId, now: Moment) -> Option<Writing> {
        let tracked = self.tracked.get(id).filter(|tracked| now.tick >= tracked.retry)?;
        let status = tracked.status(&self.on_demand, now, self.used);
        let uid = Arc::clone(&tracked.declared.uid);
        (tracked.known.as_ref() != Some(&status)).then_some(Writing { uid, status })
    }

    /// Notes how a write ended.
    pub(super) fn wrote(
        &mut self,
        id: &Arc<DefinitionId>,
        cause: Cause,
        status: Status,
        outcome: Outcome,
        now: Tick,
    ) {
        let beat = heartbeat(self.in_use);
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        match outcome {
            Outcome::Written => {
                tracked.known = Some(status);
                tracked.next_value = now.after(beat);
            }
            outcome if outcome.is_general() => self.queue.push(id, cause),
            _ => {
                tracked.retry = now.after(OBJECT_PAUSE);
                tracked.stand = None;
            }
        }
    }
}

/// A status to write, and the uid of its object.
pub(super) struct Writing {
    pub(super) uid: Arc<str>,
    pub(super) status: Status,
}

/// What a resource's status says, if it has one and it can be read.
fn found(declared: &Declared) -> Option<Status> {
    let status = declared.status.as_ref()?;
    let status: Status = serde_json::from_str(status).ok()?;
    (has_status(declared.id.kind) && !status.conditions.is_empty()).then_some(status)
}

/// Whether a status differs from the known one only in what a process does not know yet that has just
/// started: who reads, and what the first answers are.
fn is_hasty(status: &Status, known: Option<&Status>) -> bool {
    let Some(known) = known else { return false };
    if known.observed_generation != status.observed_generation {
        return false;
    }
    let told = |status: &Status, r#type| {
        let condition = condition_of(status, r#type)?;
        let message = (r#type == conditions::ACCEPTED).then(|| condition.message.clone());
        Some((condition.status.clone(), condition.reason.clone(), message))
    };
    if told(status, conditions::ACCEPTED) != told(known, conditions::ACCEPTED) {
        return false;
    }
    let (now, before) = (told(status, READY), told(known, READY));
    now == before || now.is_none_or(|(status, ..)| status == "Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::resource_status::testing::{declared, entry, id, served};
    use crate::model::{DefinitionKind, OnNoData};

    #[test]
    fn a_snapshot_with_the_same_definition_costs_no_new_status() {
        let id = id(DefinitionKind::ExternalMetric, "jobs");
        let (declared, first) = (Arc::new(declared(&id, 1)), served(entry(&id, OnNoData::Error)));
        let mut tracked = Tracked::new(&declared, Tick(0), Duration::from_mins(1));
        tracked.renew(&declared, Some(&first), None, None);
        tracked.stand = Some(Stand::Serving);
        let Served { entry: same, cell } = &*first;
        let again = Arc::new(Served { entry: Arc::clone(same), cell: cell.clone() });
        tracked.renew(&declared, Some(&again), None, None);
        assert_eq!(tracked.stand, Some(Stand::Serving));
        assert!(is_same(tracked.served.as_ref(), Some(&again)), "of the newest snapshot");
        let other = Arc::new(Served { entry: Arc::clone(same), cell: None });
        tracked.renew(&declared, Some(&other), None, None);
        assert_eq!(tracked.stand, None, "another cell");
        tracked.stand = Some(Stand::Serving);
        let other = served(entry(&id, OnNoData::Error));
        tracked.renew(&declared, Some(&other), None, None);
        assert_eq!(tracked.stand, None, "another definition");
        tracked.stand = Some(Stand::Serving);
        tracked.renew(&declared, None, None, None);
        assert_eq!(tracked.stand, None, "none");
    }
}
