//! The refresher: keeps wanted queries fresh, and only those.
//!
//! A query is wanted when it was read within the last minutes, when HPAs refer to it, or when it is
//! marked `keepWarm`. One task owns the schedule; fetches are jobs beside it. Each upstream of a
//! source has a lane (`lanes`): as many fetches as the source allows at once and per second, none
//! while the upstream's breaker is open; the rest waits in line ([`line`]), so that waiting never
//! counts into a call's timeout and a slow upstream delays no other. Queries that can share a call
//! wait together and go together. One that keeps failing while its upstream answers others goes
//! behind them, and one that the upstream refuses goes alone (`apart`).
//!
//! When a query is due is one function, `Engine::next_start`; whether an upstream gets another
//! fetch is decided in one place, `lanes`; what an answer changes about either in another,
//! `end`.
//!
//! Nothing is retried: the next refresh is a query's retry, and while its upstream's breaker is open
//! the probe is the only one. A query that is due meanwhile is told at once that it is not asked,
//! keeps its place in line, and goes when the breaker closes.
//!
//! Invariants: at most one fetch of a query is queued or under way; every fetch that starts ends
//! in its cell; a query nobody wants any more leaves the schedule and forgets its value, so that
//! a later reader gets a fresh first fetch instead of a leftover.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cache::{Admission, Demand, Hold, QueryCell};
use crate::catalog::Catalog;
use crate::control::phase::{self, Shift};
use crate::control::schedule::moment::{Moment, Moments};
use crate::control::schedule::{
    self, Id, RouteId, Schedule, Slot, Stage, Standing, Ticket, spread,
};
use crate::model::{Beat, Cause, Clock, FetchError, Source, SourceName, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

mod apart;
mod board;
mod end;
mod job;
mod lane;
mod lanes;
mod line;
mod metrics;

pub use board::{Phase, Upstream};

use board::{Board, Gauges};
use job::Ended;
use lanes::{Lanes, Look};
use line::{Bid, Class};
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

/// How often what the refresher shows is made anew while anything changes.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// The refresher's front: what readers ask for.
pub struct Refresher {
    queue: mpsc::Sender<Arc<QueryCell>>,
    hurried: mpsc::Sender<Arc<QueryCell>>,
    board: Arc<Board>,
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
        let board = Arc::new(Board::default());
        let gauges = Gauges { board: Arc::clone(&board), clock: Arc::clone(&clock) };
        telemetry.register(|registry| registry.register_collector(Box::new(gauges)));
        let engine = Engine {
            schedule: Schedule::default(),
            lanes: Lanes::new(sources, Arc::clone(&clock), &metrics),
            board: Arc::clone(&board),
            shown: None,
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
        Arc::new(Self { queue, hurried, board, clock })
    }

    /// How the upstreams of scheduled queries are doing, by source and name; at most a second old
    /// where anything happens.
    #[must_use]
    pub fn upstreams(&self) -> Arc<Vec<Upstream>> {
        self.board.get()
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
    board: Arc<Board>,
    /// When the board was written, and whether anything has happened since.
    shown: Option<(Tick, bool)>,
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
            let show = self.show(now);
            // Without anything due the sleep only bounds the loop; the other events wake it.
            let next =
                [self.schedule.next_due(), self.lanes.next_wake(), show].into_iter().flatten();
            let pause = next.min().map_or(LAPSE, |next| next.since(now));
            tokio::select! {
                admitted = admissions.recv() => match admitted {
                    Some(cell) => self.enter(cell, self.clock.tick()),
                    // Every front is gone: the process is going down.
                    None => return,
                },
                Some(cell) = hurried.recv() => self.hurry(&cell),
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

    /// Writes the board; gives when to do so again.
    fn show(&mut self, now: Tick) -> Option<Tick> {
        match self.shown {
            Some((_, false)) => None,
            Some((at, true)) if now.since(at) < SHOW_EVERY => Some(at.after(SHOW_EVERY)),
            _ => {
                self.board.put(self.lanes.upstreams());
                self.shown = Some((now, false));
                None
            }
        }
    }

    fn note_change(&mut self) {
        if let Some((_, changed)) = &mut self.shown {
            *changed = true;
        }
    }

    /// Puts every query whose start is due into its lane, or lets it go.
    fn start_due(&mut self) {
        let now = self.moments.look(&*self.clock);
        while let Some((id, due)) = self.schedule.pop_due(now.tick) {
            self.note_change();
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            // A fetch under way would put its answer into a cell that was just emptied, so an
            // unwanted query leaves at a start at which none is.
            if slot.stage != Stage::Running && is_unwanted(&slot.cell, now.tick) {
                self.let_go(id, now.tick);
                continue;
            }
            let (route, beat) = (slot.route, self.lanes.route(slot.route).beat);
            let next = Self::next_start(slot, due, now, beat);
            slot.begun = true;
            match slot.stage {
                Stage::Idle => {
                    slot.stage = Stage::Waiting;
                    slot.since = due;
                    let bid = bid(id, slot, &self.lanes, due);
                    slot.ticket = self.lanes.push(route, bid, due);
                }
                Stage::Running if beat.is_some() && !slot.missed && slot.refusals == 0 => {
                    slot.missed = true;
                    slot.since = due;
                }
                Stage::Waiting | Stage::Running => {
                    self.lanes.metrics(route).skipped.inc();
                }
            }
            if slot.stage == Stage::Waiting {
                self.refuse(id);
            }
            self.schedule.set_due(id, next);
        }
    }

    /// When a query is started next whose start was due at `due`: by the schedule, and where its
    /// value can change at any moment shortly before it is read.
    fn next_start(slot: &Slot, due: Tick, now: Moment, beat: Option<Beat>) -> Tick {
        let next = schedule::following(slot, due, now, beat);
        let steady = slot.begun && slot.stage == Stage::Idle && slot.standing() == Standing::Fine;
        if beat.is_some() || !steady {
            return next;
        }
        let (refresh, lead) = (slot.cell.refresh(), phase::lead(slot.takes()));
        match phase::shift(&slot.cell.take_phases(), refresh, next, lead) {
            None => next,
            Some(Shift::Later(by)) => next.after(by),
            // Less than half an interval, but the start may have been late.
            Some(Shift::Earlier(by)) => next.before(by).max(now.tick.after(refresh / 4)),
        }
    }

    /// Tells a query that waits that it is not asked, if its upstream's breaker is open.
    fn refuse(&self, id: Id) {
        let Some(slot) = self.schedule.get(id) else { return };
        let lane = self.lanes.route(slot.route).lane;
        if let Some((refusal, upstream)) = self.lanes.refusal(lane) {
            job::not_asked(&slot.cell, refusal.error(upstream), &*self.clock);
            self.lanes.metrics(slot.route).refreshed("not_asked", 1);
        }
    }

    /// Starts fetches while the upstreams have places.
    fn start_fetches(&mut self) {
        loop {
            let Some(departure) = self.lanes.depart(&self.schedule) else { return };
            self.note_change();
            let mut cells = Vec::with_capacity(departure.ids.len());
            for id in &departure.ids {
                let slot = self.schedule.get_mut(*id).expect("only those are taken that wait");
                slot.stage = Stage::Running;
                slot.cell.note_fetch();
                self.metrics.lag.observe(departure.started.since(slot.since).as_secs_f64());
                cells.push(Arc::clone(&slot.cell));
            }
            departure.metrics.fetches.inc();
            let (clock, sender) = (Arc::clone(&self.clock), self.ended_sender.clone());
            self.tasks.job("fetch", job::run(departure, cells, clock, sender));
        }
    }

    /// A reader came for a query that was wanted before, and waits for its first fetch: if that
    /// waits in line it goes before the ones that nobody waits for, and if it is due later it starts
    /// now.
    fn hurry(&mut self, cell: &Arc<QueryCell>) {
        let now = self.clock.tick();
        let Some(id) = self.schedule.find(cell) else { return };
        let Some(slot) = self.schedule.get_mut(id) else { return };
        match slot.stage {
            Stage::Waiting => {
                let bid = bid(id, slot, &self.lanes, slot.since);
                slot.ticket = self.lanes.replace(slot.route, bid);
                self.refuse(id);
            }
            Stage::Idle if !cell.state().is_tried() && slot.due > now => {
                self.schedule.set_due(id, now);
            }
            Stage::Idle | Stage::Running => {}
        }
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
        self.lanes.metrics(slot.route).stands(slot.standing(), Standing::Fine);
        if slot.stage == Stage::Waiting
            && let Some(lane) = self.lanes.withdraw(slot.route, slot.since)
        {
            self.line_up(lane, None);
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
    if cell.is_retired() && slot.stage != Stage::Running {
        now.tick
    } else if slot.refusals > 0 {
        apart::retry_at(now.tick, cell.query(), cell.refresh(), slot.refusals)
    } else {
        schedule::latest(slot, now, lanes.route(slot.route).beat)
    }
}

impl Look for Schedule {
    fn since(&self, id: Id, ticket: Ticket) -> Option<Tick> {
        self.waiting(id, ticket).map(|slot| slot.since)
    }

    fn calls(&self, id: Id) -> u32 {
        self.get(id).map_or(1, |slot| slot.cell.query().spec.calls())
    }
}

/// A query's place in line, for a start at `at`.
fn bid(id: Id, slot: &Slot, lanes: &Lanes, at: Tick) -> Bid {
    let cell = &slot.cell;
    let (class, rank) = match slot.standing() {
        // Somebody waits: in the order of arrival.
        _ if cell.is_awaited() => (Class::First, line::rank(at, Some(at))),
        Standing::Fine => (Class::Regular, line::rank(at, cell.last_read())),
        Standing::Failing | Standing::Refused => (Class::Failing, line::rank(at, cell.last_read())),
    };
    let batch = lanes.route(slot.route).batch.filter(|_| slot.standing() != Standing::Refused);
    let weight = cell.query().spec.weight();
    Bid { id, class, batch, weight, owner: cell.owner(), rank }
}

/// Numbers from 0 to 1 that nobody can guess, other replicas least.
fn jitter() -> impl FnMut() -> f64 + Send {
    let (random, mut count) = (RandomState::new(), 0_u32);
    move || {
        count = count.wrapping_add(1);
        let [a, b, c, d, ..] = random.hash_one(count).to_le_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
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
