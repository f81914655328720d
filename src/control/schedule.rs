//! When each wanted query is due: one heap for all, no task per metric.
//!
//! Pure: time comes in as ticks and moments. Starts are at a fixed rate, so a slow upstream does
//! not stretch the interval, or on the grid of the upstream's datapoints where it has one. What
//! becomes of a start that falls due while the previous fetch still runs is the refresher's rule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::cache::QueryCell;
use crate::model::{Beat, Query, Tick};

pub(super) mod moment;

use moment::Moment;

/// Identifies a scheduled query, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u32);

/// Tells a query's places in its lane's line apart: only the latest counts. Unique among all that
/// can be left in lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u32);

/// How a scheduled query is fetched: an index into what the refresher knows about that. Queries
/// have it in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteId(pub(super) u32);

/// What is going on for a scheduled query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing until the next start.
    Idle,
    /// A fetch waits in its lane.
    Waiting,
    /// A fetch is under way.
    Running,
}

/// One scheduled query. There may be a hundred thousand: 40 bytes each.
pub(super) struct Slot {
    pub(super) cell: Arc<QueryCell>,
    pub(super) route: RouteId,
    /// When the next start is due.
    pub(super) due: Tick,
    /// When the start was due that waits, or that was missed.
    pub(super) since: Tick,
    pub(super) stage: Stage,
    /// A start on the grid fell due while an earlier fetch ran, whose answer cannot have what
    /// there was to ask for.
    pub(super) missed: bool,
    /// How often in a row the upstream refused it although it could share calls; above zero it
    /// goes alone.
    pub(super) refusals: u8,
    /// How often in a row it failed while its upstream answered others.
    pub(super) failures: u8,
    /// Whether a start has been due.
    pub(super) begun: bool,
    /// Milliseconds from a start to its answer, smoothed; 0 is unknown.
    pub(super) takes_ms: u16,
    /// Its place in line while it waits.
    pub(super) ticket: Ticket,
}

/// How a query stands with its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Like others.
    Fine,
    /// It keeps failing.
    Failing,
    /// It was refused, and goes alone at growing pauses.
    Refused,
}

/// Failures in a row that are the query's own and make it one that keeps failing. One can be bad
/// luck.
const FAILING: u8 = 2;

/// The pace of a query that keeps failing, in refresh intervals: it recovers within two.
const FAILING_PACE: u32 = 2;

impl Slot {
    pub(super) fn standing(&self) -> Standing {
        match (self.refusals, self.failures) {
            (1.., _) => Standing::Refused,
            (0, FAILING..) => Standing::Failing,
            (0, _) => Standing::Fine,
        }
    }

    /// How often it is started at present.
    pub(super) fn pace(&self) -> Duration {
        let refresh = self.cell.refresh();
        match self.standing() {
            Standing::Failing => refresh.saturating_mul(FAILING_PACE),
            Standing::Fine | Standing::Refused => refresh,
        }
    }

    /// How long an answer takes from a start on; nothing while that is unknown.
    pub(super) fn takes(&self) -> Duration {
        Duration::from_millis(self.takes_ms.into())
    }

    /// Notes how long an answer took from its start on.
    pub(super) fn note_duration(&mut self, took: Duration) {
        let took = u16::try_from(took.as_millis()).unwrap_or(u16::MAX).max(1);
        // An eighth of what is new: one slow answer does not move starts by its length.
        self.takes_ms = match self.takes_ms {
            0 => took,
            known => known - known / 8 + took / 8,
        };
    }
}

/// All scheduled queries, by the time of their next start.
#[derive(Default)]
pub(super) struct Schedule {
    /// Holds the next start of every slot, and starts that were moved since: those are dropped
    /// when they come up.
    heap: BinaryHeap<Reverse<(Tick, Id)>>,
    slots: Slab<Slot>,
}

impl Schedule {
    /// Adds a query whose first start is due at `due`.
    pub(super) fn add(&mut self, cell: Arc<QueryCell>, route: RouteId, due: Tick) -> Id {
        let slot = Slot {
            cell,
            route,
            due,
            since: due,
            stage: Stage::Idle,
            missed: false,
            refusals: 0,
            failures: 0,
            begun: false,
            takes_ms: 0,
            ticket: Ticket::default(),
        };
        let entry = self.slots.vacant_entry();
        let id = id_of(entry.key());
        slot.cell.set_place(id.0);
        entry.insert(slot);
        self.heap.push(Reverse((due, id)));
        id
    }

    /// When the earliest start is due.
    pub(super) fn next_due(&mut self) -> Option<Tick> {
        while let Some(&Reverse((due, id))) = self.heap.peek() {
            // An id is used again after a removal; a start left over from its predecessor is then
            // either another moment's or as good as its own.
            if self.slots.get(id.0 as usize).is_some_and(|slot| slot.due == due) {
                return Some(due);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes one query whose start is due by `now`, and when it was. The caller sets its next
    /// start or removes it.
    pub(super) fn pop_due(&mut self, now: Tick) -> Option<(Id, Tick)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let Reverse((_, id)) = self.heap.pop()?;
        Some((id, due))
    }

    /// Sets the next start of a query.
    pub(super) fn set_due(&mut self, id: Id, due: Tick) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else { return };
        slot.due = due;
        self.heap.push(Reverse((due, id)));
        self.bound();
    }

    /// A query by id.
    pub(super) fn get(&self, id: Id) -> Option<&Slot> {
        self.slots.get(id.0 as usize)
    }

    /// The query that waits with this ticket.
    pub(super) fn waiting(&self, id: Id, ticket: Ticket) -> Option<&Slot> {
        self.get(id).filter(|slot| slot.stage == Stage::Waiting && slot.ticket == ticket)
    }

    /// A query by id.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.slots.get_mut(id.0 as usize)
    }

    /// The query of a cell, if it is scheduled.
    pub(super) fn find(&self, cell: &Arc<QueryCell>) -> Option<Id> {
        let id = Id(cell.place());
        let slot = self.slots.get(id.0 as usize)?;
        Arc::ptr_eq(&slot.cell, cell).then_some(id)
    }

    /// Removes a query.
    pub(super) fn remove(&mut self, id: Id) -> Option<Slot> {
        self.slots.try_remove(id.0 as usize)
    }

    /// Brings starts forward to the latest moment that is good for their query.
    pub(super) fn bring_forward(&mut self, latest: impl Fn(&Slot) -> Tick) {
        for (index, slot) in &mut self.slots {
            let latest = latest(slot);
            if slot.due > latest {
                slot.due = latest;
                self.heap.push(Reverse((latest, id_of(index))));
            }
        }
        self.bound();
    }

    /// Drops starts that were moved when they are more than the others.
    fn bound(&mut self) {
        if self.heap.len() > 2 * self.slots.len() + 64 {
            let starts = self.slots.iter().map(|(index, slot)| Reverse((slot.due, id_of(index))));
            self.heap = starts.collect();
        }
    }

    /// Number of scheduled queries.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

fn id_of(index: usize) -> Id {
    Id(u32::try_from(index).expect("definitions want fewer than four billion queries"))
}

/// The start after the one that was due at `due`, at `now`: on the grid of the upstream's
/// datapoints, if it has one, and at a fixed rate otherwise. The query's very first start is
/// followed sooner.
pub(super) fn following(slot: &Slot, due: Tick, now: Moment, beat: Option<Beat>) -> Tick {
    let pace = slot.pace();
    match beat {
        Some(beat) => now.next(beat, pace),
        None if !slot.begun => drifting(due.max(now.tick), pace, slot.cell.query()),
        None => at_rate(due, pace, now.tick),
    }
}

/// The latest start of a query whose pace may have changed.
pub(super) fn latest(slot: &Slot, now: Moment, beat: Option<Beat>) -> Tick {
    let pace = slot.pace();
    match beat {
        Some(beat) => now.next(beat, pace),
        // A start can be moved by half a refresh interval, and one that is further away was set when
        // the interval was longer.
        None if slot.due <= now.tick.after(pace.max(slot.cell.refresh() * 3 / 2)) => slot.due,
        None => now.tick.after(spread(slot.cell.query(), pace)),
    }
}

/// The start after the very first one is brought forward by up to half an interval, differently for
/// every query: queries that became wanted together (all HPAs after a restart of the controller)
/// drift apart at once instead of firing together for ever.
fn drifting(started: Tick, refresh: Duration, query: &Query) -> Tick {
    started.after(refresh / 2 + spread(query, refresh / 2))
}

fn at_rate(due: Tick, refresh: Duration, now: Tick) -> Tick {
    let next = due.after(refresh);
    if next > now {
        return next;
    }
    // Overdue by more than an interval (the machine slept, or we were starved): keep the phase,
    // drop the missed starts.
    let interval = u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX).max(1);
    let missed = (now.0 - due.0) / interval;
    Tick(due.0 + (missed + 1) * interval)
}

/// A point in `[0, window)` that depends only on the query.
pub(super) fn spread(query: &Query, window: Duration) -> Duration {
    // Fixed seeds: the same query gets the same phase in every process, and tests are repeatable.
    let hash = ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(query);
    let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(if millis == 0 { 0 } else { hash % millis })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::schedule::moment::Moments;
    use crate::model::{Decimal, ManualClock, QuerySpec, SimulatedQuery, SourceName};

    const ROUTE: RouteId = RouteId(0);

    fn cell(value: i64, refresh_s: u64) -> Arc<QueryCell> {
        let query = Query {
            source: SourceName::new("sim"),
            spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(value))),
        };
        Arc::new(QueryCell::new(Arc::new(query), Duration::from_secs(refresh_s), false))
    }

    fn slot(cell: Arc<QueryCell>) -> Slot {
        let mut schedule = Schedule::default();
        let id = schedule.add(cell, ROUTE, start());
        schedule.remove(id).unwrap()
    }

    #[test]
    fn a_query_that_keeps_failing_is_started_half_as_often() {
        let mut slot = slot(cell(1, 10));
        (slot.begun, slot.failures) = (true, 1);
        let tick = |s| start().after(Duration::from_secs(s));
        assert_eq!((slot.standing(), slot.pace()), (Standing::Fine, Duration::from_secs(10)));
        slot.failures = 2;
        assert_eq!((slot.standing(), slot.pace()), (Standing::Failing, Duration::from_secs(20)));
        assert_eq!(following(&slot, start(), at(0), None), tick(20));
        slot.refusals = 1;
        assert_eq!((slot.standing(), slot.pace()), (Standing::Refused, Duration::from_secs(10)));
    }

    #[test]
    fn only_a_shorter_interval_brings_a_start_forward() {
        let mut slot = slot(cell(1, 10));
        let tick = |s| start().after(Duration::from_secs(s));
        // Moved by half an interval, as phases do.
        slot.due = tick(14);
        assert_eq!(latest(&slot, at(0), None), tick(14));
        slot.due = tick(100);
        assert!(latest(&slot, at(0), None) < tick(10));
    }

    /// The clocks at so many milliseconds after their start.
    fn at(millis: u64) -> Moment {
        let clock = ManualClock::default();
        clock.advance(Duration::from_millis(millis));
        Moments::default().look(&clock)
    }

    fn start() -> Tick {
        at(0).tick
    }

    #[test]
    fn starts_come_at_a_fixed_rate() {
        let mut schedule = Schedule::default();
        let tick = |millis| start().after(Duration::from_millis(millis));
        let id = schedule.add(cell(1, 10), ROUTE, tick(5000));
        let mut step = |now: u64| {
            let (due_id, due) = schedule.pop_due(tick(now))?;
            assert_eq!(due_id, id);
            let slot = schedule.get_mut(id).unwrap();
            slot.begun = true;
            let next = following(slot, due, at(now), None);
            schedule.set_due(id, next);
            Some(due)
        };
        assert_eq!(step(4999), None);
        assert_eq!(step(5400), Some(tick(5000)));
        assert_eq!(step(5400), None);
        assert_eq!(step(14_999), None, "not before 15,000");
        assert_eq!(step(47_000), Some(tick(15_000)), "not 15,400: late starts keep the rate");
        assert_eq!(schedule.next_due(), Some(tick(55_000)), "missed starts are dropped");
    }

    #[test]
    fn queries_wanted_together_drift_apart() {
        let mut in_window = [0; 10];
        for i in 0..1000 {
            let next = following(&slot(cell(i, 10)), start(), at(0), None);
            let after = u64::try_from(next.since(start()).as_millis()).unwrap();
            assert!((5000..10_000).contains(&after), "{after}");
            in_window[usize::try_from((after - 5000) / 500).unwrap()] += 1;
        }
        assert!(in_window.iter().all(|n| (50..=150).contains(n)), "{in_window:?}");
    }

    #[test]
    fn queries_with_a_beat_meet_on_its_grid() {
        let beat = Beat { period: Duration::from_mins(1), delay: Duration::from_secs(30) };
        for (refresh_s, first, now, next) in [
            (60, true, 0, 30_000),
            (60, true, 29_999, 30_000),
            (60, false, 30_005, 90_000),
            (60, false, 75_000, 90_000),
            (10, false, 75_000, 90_000),
            (300, false, 75_000, 330_000),
        ] {
            let slot = Slot { begun: !first, ..slot(cell(1, refresh_s)) };
            let due = following(&slot, start(), at(now), Some(beat));
            let grid = start().after(Duration::from_millis(next) + moment::GRID_MARGIN);
            assert_eq!(due, grid, "{refresh_s} s at {now} ms");
        }
    }

    #[test]
    fn a_removed_query_is_never_due_and_moved_starts_do_not_add_up() {
        let mut schedule = Schedule::default();
        let gone = schedule.add(cell(1, 600), ROUTE, Tick(100));
        let kept = schedule.add(cell(2, 600), ROUTE, Tick(600_000));
        assert!(schedule.remove(gone).is_some());
        assert_eq!(schedule.next_due(), Some(Tick(600_000)));
        for i in 0..10_000 {
            schedule.set_due(kept, Tick(1_000_000 - i));
        }
        assert!(schedule.heap.len() < 100, "{}", schedule.heap.len());
        assert_eq!(schedule.pop_due(Tick(1_000_000)), Some((kept, Tick(990_001))));
        assert_eq!(schedule.pop_due(Tick(2_000_000)), None);
        assert_eq!(schedule.len(), 1);
    }

    #[test]
    fn an_id_that_is_used_again_is_due_once() {
        let mut schedule = Schedule::default();
        let old = schedule.add(cell(1, 600), ROUTE, Tick(100));
        schedule.remove(old);
        let new = schedule.add(cell(2, 600), ROUTE, Tick(100));
        assert_eq!(old, new);
        assert_eq!(schedule.pop_due(Tick(100)), Some((new, Tick(100))));
        schedule.set_due(new, Tick(700));
        assert_eq!(schedule.pop_due(Tick(100)), None);
    }

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 40, "{}", size_of::<Slot>());
    }
}
