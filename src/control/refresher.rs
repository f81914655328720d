//! The refresher: keeps wanted queries fresh, and only those.
//!
//! A query is wanted when it was read within the last minutes, when HPAs refer to it, or when it is
//! marked `keepWarm`. One task owns the schedule; fetches are jobs beside it. Each upstream of a source has a lane ([`lanes`]):
//! as many fetches as the source allows at once, the rest waits in line ([`line`]), so that waiting
//! never counts into a call's timeout and a slow upstream delays no other. Queries that can share a
//! call wait together and go together; one that the upstream refuses goes alone ([`apart`]).
//!
//! When a query is due is one function, [`schedule::following`]; whether an upstream gets another
//! fetch is decided in one place, [`lanes`]; what an answer changes about either in another,
//! [`Engine::note_end`].
//!
//! Invariants: at most one fetch of a query is queued or under way; every fetch that starts ends
//! in its cell; a query nobody wants any more leaves the schedule and forgets its value, so that
//! a later reader gets a fresh first fetch instead of a leftover.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cache::{Admission, Demand, Hold, QueryCell};
use crate::catalog::Catalog;
use crate::control::schedule::moment::{Moment, Moments};
use crate::control::schedule::{self, Id, RouteId, Schedule, Slot, Stage, spread};
use crate::model::{Cause, Clock, FetchError, Source, SourceName, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

mod apart;
mod job;
mod lanes;
mod line;
mod metrics;

use job::{Ended, Verdict};
use lanes::Lanes;
use line::Class;
use metrics::RefreshMetrics;

/// How many queries may wait to enter the schedule. Ten times the scale we are built for; at
/// eight bytes each the queue is small even then.
const ADMISSION_QUEUE: usize = 100_000;

/// How many first reads may wait to be put in front. What finds no room keeps its place in line.
const HURRY_QUEUE: usize = 1000;

/// An unread query lapses after this time: long enough for an HPA that pauses (20 of its default
/// periods of 15 s), short enough that a deleted HPA stops costing upstream calls soon.
const LAPSE: Duration = Duration::from_mins(5);

/// Never lapse sooner than this many refresh intervals after the last read.
const LAPSE_INTERVALS: u32 = 3;

/// What the last HPA that referred to a query left behind stays for this time, so that an HPA that
/// is replaced finds it, and so that other readers can show themselves: twice the default period of
/// the HPA controller.
const RELEASE_GRACE: Duration = Duration::from_secs(30);

/// A read within this time of the last HPA's end was that HPA's own: the controller had begun it.
/// A query that nobody has ever read stays no longer than this.
const LAST_READS: Duration = Duration::from_secs(5);

/// `keepWarm` queries that appear together and share no calls start this far apart, so that 10,000
/// of them take ten seconds and three take three milliseconds. Those that share calls start at
/// once: 10,000 of them are twenty calls.
const WARM_UP_PACE: Duration = Duration::from_millis(1);

/// The refresher's front: what readers ask for.
pub struct Refresher {
    queue: mpsc::Sender<Arc<QueryCell>>,
    hurried: mpsc::Sender<Arc<QueryCell>>,
    clock: Arc<dyn Clock>,
}

impl Refresher {
    /// Starts the refresher's task on `tasks`' runtime.
    pub fn start(
        sources: BTreeMap<SourceName, Arc<dyn Source>>,
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        let (queue, admissions) = mpsc::channel(ADMISSION_QUEUE);
        let (hurried, hurry) = mpsc::channel(HURRY_QUEUE);
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let metrics = RefreshMetrics::register(telemetry);
        let engine = Engine {
            schedule: Schedule::default(),
            lanes: Lanes::new(sources, &metrics),
            moments: Moments::default(),
            clock: Arc::clone(&clock),
            ended_sender,
            tasks: tasks.clone(),
            metrics,
        };
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("refresher", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = engine.run(admissions, hurry, ended, catalog) => {}
            }
        });
        Arc::new(Self { queue, hurried, clock })
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refresher")
    }
}

impl Demand for Refresher {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if !cell.claim_schedule(self.clock.tick()) {
            return Admission::Accepted;
        }
        if self.queue.try_send(Arc::clone(cell)).is_ok() {
            return Admission::Accepted;
        }
        cell.unschedule();
        Admission::Full
    }

    fn hurry(&self, cell: &Arc<QueryCell>) {
        // Full: many are ahead of it already.
        let _ = self.hurried.try_send(Arc::clone(cell));
    }
}

struct Engine {
    schedule: Schedule,
    lanes: Lanes,
    moments: Moments,
    clock: Arc<dyn Clock>,
    /// Bounded by the number of running fetches.
    ended_sender: mpsc::UnboundedSender<Ended>,
    tasks: TaskSet,
    metrics: RefreshMetrics,
}

impl Engine {
    async fn run(
        mut self,
        mut admissions: mpsc::Receiver<Arc<QueryCell>>,
        mut hurried: mpsc::Receiver<Arc<QueryCell>>,
        mut ended: mpsc::UnboundedReceiver<Ended>,
        catalog: Arc<Catalog>,
    ) {
        let mut changed = catalog.subscribe();
        // Whatever was there before we listened counts as a change.
        changed.mark_changed();
        loop {
            self.start_due();
            self.start_fetches();
            self.metrics.scheduled.set(self.schedule.len().try_into().unwrap_or(i64::MAX));
            let now = self.clock.tick();
            // Without anything due the sleep only bounds the loop; the other events wake it.
            let pause = self.schedule.next_due().map_or(LAPSE, |due| due.since(now));
            tokio::select! {
                admitted = admissions.recv() => match admitted {
                    Some(cell) => self.enter(cell, self.clock.tick()),
                    // Every front is gone: the process is going down.
                    None => return,
                },
                Some(cell) = hurried.recv() => self.hurry(&cell, &mut hurried),
                Some(end) = ended.recv() => self.note_end(end),
                Ok(()) = changed.changed() => self.take_over(&catalog),
                () = tokio::time::sleep(pause) => {}
            }
            // Take in what else is there, so that a burst costs one round, and queries that can
            // share a call find each other.
            while let Ok(cell) = admissions.try_recv() {
                self.enter(cell, self.clock.tick());
            }
            while let Ok(end) = ended.try_recv() {
                self.note_end(end);
            }
        }
    }

    /// Puts a query on the schedule, its first start due at `due`.
    fn enter(&mut self, cell: Arc<QueryCell>, due: Tick) {
        if let Some(route) = self.route(&cell) {
            self.schedule.add(cell, route, due);
        }
    }

    /// How a query that enters the schedule is fetched. Definitions are checked against the
    /// sources, which never change; a query without one is a defect, and says so to its reader.
    fn route(&mut self, cell: &QueryCell) -> Option<RouteId> {
        let route = self.lanes.enter(cell.query());
        if route.is_none() {
            let cause = Cause::new(format!("source {} does not exist", cell.query().source));
            cell.complete(Err(FetchError::Invalid(cause)), self.clock.tick(), self.clock.now());
        }
        route
    }

    /// Puts every query whose start is due into its lane, or lets it go.
    fn start_due(&mut self) {
        let now = self.moments.look(&*self.clock);
        while let Some((id, due)) = self.schedule.pop_due(now.tick) {
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            let idle = slot.stage == Stage::Idle;
            // A fetch under way would put its answer into a cell that was just emptied, so an
            // unwanted query leaves at a start at which none is.
            if idle && is_unwanted(&slot.cell, now.tick) {
                self.let_go(id, now.tick);
                continue;
            }
            let beat = self.lanes.route(slot.route).beat;
            let tried = slot.cell.state().is_tried();
            let next = schedule::following(due, now, beat, &slot.cell, idle && !tried);
            match slot.stage {
                Stage::Idle => {
                    slot.stage = Stage::Waiting;
                    slot.since = due;
                    let awaited = slot.cell.is_awaited();
                    let class = if awaited { Class::First } else { Class::Regular };
                    self.lanes.push(id, slot.route, class, slot.refusals > 0);
                }
                Stage::Running if beat.is_some() && !slot.missed && slot.refusals == 0 => {
                    slot.missed = true;
                    slot.since = due;
                }
                Stage::Waiting | Stage::Running => {
                    self.lanes.metrics(slot.route).skipped.inc();
                }
            }
            self.schedule.set_due(id, next);
        }
    }

    /// Readers came for queries that were wanted before, and wait for their first fetch: those that
    /// wait in line go before the ones that nobody waits for, and those that are due later start now.
    fn hurry(&mut self, first: &QueryCell, others: &mut mpsc::Receiver<Arc<QueryCell>>) {
        let mut kept = Vec::new();
        while let Ok(cell) = others.try_recv() {
            kept.push(cell);
        }
        // One look at the schedule for all of them, by address.
        let cells: HashSet<*const QueryCell> =
            kept.iter().map(Arc::as_ptr).chain([ptr::from_ref(first)]).collect();
        let now = self.clock.tick();
        for id in self.schedule.find(|slot| cells.contains(&Arc::as_ptr(&slot.cell))) {
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            match slot.stage {
                Stage::Waiting => self.lanes.hurry(id, slot.route, slot.refusals > 0),
                Stage::Idle if !slot.cell.state().is_tried() && slot.due > now => {
                    self.schedule.set_due(id, now);
                }
                Stage::Idle | Stage::Running => {}
            }
        }
    }

    /// Starts fetches while the upstreams have places.
    fn start_fetches(&mut self) {
        let now = self.clock.tick();
        while let Some(departure) = self.lanes.depart() {
            let mut cells = Vec::with_capacity(departure.ids.len());
            for id in &departure.ids {
                let slot = self.schedule.get_mut(*id).expect("a query that waits is not removed");
                slot.stage = Stage::Running;
                slot.cell.note_fetch();
                self.metrics.lag.observe(now.since(slot.since).as_secs_f64());
                cells.push(Arc::clone(&slot.cell));
            }
            departure.metrics.fetches.inc();
            let (clock, sender) = (Arc::clone(&self.clock), self.ended_sender.clone());
            self.tasks.job("fetch", job::run(departure, cells, clock, sender));
        }
    }

    fn note_end(&mut self, end: Ended) {
        self.lanes.free(end.lane);
        let now = self.clock.tick();
        for (id, verdict) in end.verdicts {
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            slot.stage = Stage::Idle;
            let missed = std::mem::take(&mut slot.missed).then_some(slot.since);
            let again = self.try_again(id, verdict, now);
            if let Some(start) = self.next_apart(id, verdict, now).or(missed).or(again) {
                self.schedule.set_due(id, start);
            }
        }
    }

    /// The next start of a query on a beat whose call failed, when that is before its next bucket:
    /// no datapoint was had, so none is asked for twice, and a bucket may be an hour. All queries of
    /// a call meet again.
    fn try_again(&mut self, id: Id, verdict: Verdict, now: Tick) -> Option<Tick> {
        let slot = self.schedule.get_mut(id)?;
        let on_beat = self.lanes.route(slot.route).beat.is_some();
        let start = now.after(apart::after_failures(slot.cell.state().failures()));
        (verdict == Verdict::Failed && on_beat && start < slot.due).then_some(start)
    }

    /// Sets a query apart, or takes it back among the others. Gives its next start while it is
    /// apart.
    fn next_apart(&mut self, id: Id, verdict: Verdict, now: Tick) -> Option<Tick> {
        let slot = self.schedule.get_mut(id)?;
        let apart = slot.refusals > 0;
        match verdict {
            Verdict::Refused if self.lanes.route(slot.route).shares_calls() => {
                slot.refusals = slot.refusals.saturating_add(1);
            }
            Verdict::Answered => slot.refusals = 0,
            Verdict::Refused | Verdict::Failed => {}
        }
        let gauge = &self.lanes.metrics(slot.route).apart;
        let (query, refresh) = (slot.cell.query(), slot.cell.refresh());
        match (apart, slot.refusals > 0) {
            (false, true) => {
                gauge.inc();
                let (source, kind) = (query.source.as_str(), query.spec.kind());
                let pause = apart::pause(refresh, slot.refusals);
                tracing::info!(source, kind, query = %query.spec, ?pause, "a refused query is set apart");
            }
            (true, false) => {
                gauge.dec();
                slot.cell.set_apart(None);
            }
            _ => {}
        }
        (slot.refusals > 0).then(|| {
            let start = apart::retry_at(now, query, refresh, slot.refusals);
            slot.cell.set_apart(Some(start));
            start
        })
    }

    /// Takes in `keepWarm` queries and new paces after definitions changed.
    fn take_over(&mut self, catalog: &Catalog) {
        let now = self.moments.look(&*self.clock);
        let snapshot = catalog.snapshot();
        let warm: Vec<_> = snapshot
            .cells()
            .map(|(_, cell)| cell)
            .filter(|cell| cell.keep_warm() && cell.claim_schedule(now.tick))
            .collect();
        let window = WARM_UP_PACE * u32::try_from(warm.len()).unwrap_or(u32::MAX);
        for cell in warm {
            let Some(route) = self.route(cell) else { continue };
            let start = if self.lanes.route(route).shares_calls() {
                now.tick
            } else {
                now.tick.after(spread(cell.query(), window.min(cell.refresh())))
            };
            self.schedule.add(Arc::clone(cell), route, start);
        }
        let lanes = &self.lanes;
        self.schedule.bring_forward(|slot| latest(slot, lanes, now));
    }

    /// Drops an unwanted query. A reader may want it again at this very moment, so the last read
    /// is looked at once more after the claim is given back.
    fn let_go(&mut self, id: Id, now: Tick) {
        let Some(slot) = self.schedule.remove(id) else { return };
        if slot.refusals > 0 {
            self.lanes.metrics(slot.route).apart.dec();
        }
        self.lanes.leave(slot.route);
        let cell = slot.cell;
        cell.reset(now);
        cell.unschedule();
        self.metrics.lapsed.inc();
        if !is_unwanted(&cell, now) && cell.claim_schedule(now) {
            self.enter(cell, now);
        }
    }
}

/// The latest next start of a query after definitions changed: none waits longer than its present
/// refresh interval or, apart, its pause, and what nobody can reach any more leaves at once.
fn latest(slot: &Slot, lanes: &Lanes, now: Moment) -> Tick {
    let cell = &slot.cell;
    if cell.is_retired() && slot.stage == Stage::Idle {
        now.tick
    } else if slot.refusals > 0 {
        apart::retry_at(now.tick, cell.query(), cell.refresh(), slot.refusals)
    } else {
        schedule::latest(now, lanes.route(slot.route).beat, cell)
    }
}

fn is_unwanted(cell: &QueryCell, now: Tick) -> bool {
    if cell.is_retired() {
        return true;
    }
    if cell.keep_warm() {
        return false;
    }
    let patience = LAPSE.max(cell.refresh() * LAPSE_INTERVALS);
    match (cell.hold(now), cell.last_read()) {
        (Hold::Claimed(_), _) => false,
        (Hold::Free, None) => true,
        (Hold::Released(at), None) => now.since(at) > LAST_READS,
        (Hold::Released(at), Some(read)) if read <= at.after(LAST_READS) => {
            now.since(at) > RELEASE_GRACE || now.since(read) > patience
        }
        (Hold::Free | Hold::Released(_), Some(read)) => now.since(read) > patience,
    }
}

#[cfg(test)]
mod tests;
