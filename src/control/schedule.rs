//! When each wanted query is due: one heap for all, no task per metric.
//!
//! Pure: time comes in as ticks. Starts are at a fixed rate, so a slow upstream does not stretch
//! the interval; a start that falls due while the previous fetch still runs is skipped, not
//! queued.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::QueryCell;
use crate::model::{Query, Tick};

/// Identifies a scheduled query.
pub(super) type Id = u64;

/// One scheduled query.
pub(super) struct Slot {
    pub(super) cell: Arc<QueryCell>,
    /// When the next start is due.
    pub(super) due: Tick,
    /// Whether a fetch is queued or under way.
    pub(super) busy: bool,
}

/// All scheduled queries, by the time of their next start.
#[derive(Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(Tick, Id)>>,
    slots: HashMap<Id, Slot>,
    next_id: Id,
}

impl Schedule {
    /// Adds a query whose first start is due at `due`.
    pub(super) fn add(&mut self, cell: Arc<QueryCell>, due: Tick) {
        let id = self.next_id;
        self.next_id += 1;
        self.slots.insert(id, Slot { cell, due, busy: false });
        self.heap.push(Reverse((due, id)));
    }

    /// When the earliest start is due.
    pub(super) fn next_due(&mut self) -> Option<Tick> {
        while let Some(&Reverse((due, id))) = self.heap.peek() {
            if self.slots.get(&id).is_some_and(|slot| slot.due == due) {
                return Some(due);
            }
            // Left over from a removed or moved query.
            self.heap.pop();
        }
        None
    }

    /// Takes one query whose start is due by `now` and sets its next start. The caller decides
    /// whether it starts now, is skipped or is removed.
    pub(super) fn pop_due(&mut self, now: Tick) -> Option<(Id, Tick)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let Reverse((_, id)) = self.heap.pop()?;
        let slot = self.slots.get_mut(&id)?;
        slot.due = following(
            due,
            slot.cell.refresh(),
            now,
            slot.cell.query(),
            !slot.cell.state().is_tried() && !slot.busy,
        );
        self.heap.push(Reverse((slot.due, id)));
        Some((id, due))
    }

    /// A query by id.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.slots.get_mut(&id)
    }

    /// Removes a query.
    pub(super) fn remove(&mut self, id: Id) -> Option<Slot> {
        self.slots.remove(&id)
    }

    /// After definitions changed: no query waits longer than its present refresh interval.
    pub(super) fn reconsider(&mut self, now: Tick) {
        for (id, slot) in &mut self.slots {
            let latest = now.after(spread(slot.cell.query(), slot.cell.refresh()));
            if slot.due > latest {
                slot.due = latest;
                self.heap.push(Reverse((latest, *id)));
            }
        }
    }

    /// Number of scheduled queries.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// The start after `due`. The one after the very first start is brought forward by up to half an
/// interval, differently for every query: queries that became wanted together (all HPAs after a
/// restart of the controller) drift apart at once instead of firing together for ever.
fn following(due: Tick, refresh: Duration, now: Tick, query: &Query, first: bool) -> Tick {
    if first {
        return due.max(now).after(refresh / 2 + spread(query, refresh / 2));
    }
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
    use crate::model::{Decimal, QuerySpec, SimulatedQuery, SourceName};
    use jiff::Timestamp;

    fn cell(value: i64, refresh_s: u64) -> Arc<QueryCell> {
        let query = Query {
            source: SourceName::new("sim"),
            spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(value))),
        };
        Arc::new(QueryCell::new(Arc::new(query), Duration::from_secs(refresh_s), false))
    }

    fn tried(cell: &QueryCell) {
        let failed = Err(crate::model::FetchError::Timeout("x".into()));
        cell.complete(failed, Tick(0), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn starts_come_at_a_fixed_rate() {
        let mut schedule = Schedule::default();
        let cell = cell(1, 10);
        tried(&cell);
        schedule.add(cell, Tick(5000));
        assert_eq!(schedule.pop_due(Tick(4999)), None);
        assert_eq!(schedule.pop_due(Tick(5400)), Some((0, Tick(5000))));
        assert_eq!(schedule.pop_due(Tick(5400)), None);
        assert_eq!(
            schedule.next_due(),
            Some(Tick(15_000)),
            "not 15,400: late starts do not shift the rate"
        );
        assert_eq!(schedule.pop_due(Tick(47_000)), Some((0, Tick(15_000))));
        assert_eq!(schedule.next_due(), Some(Tick(55_000)), "missed starts are dropped");
    }

    #[test]
    fn queries_wanted_together_drift_apart() {
        let mut schedule = Schedule::default();
        for i in 0..1000 {
            schedule.add(cell(i, 10), Tick(0));
        }
        let mut started = 0;
        while schedule.pop_due(Tick(0)).is_some() {
            started += 1;
        }
        assert_eq!(started, 1000);
        let mut in_window = [0; 10];
        for slot in schedule.slots.values() {
            assert!((5000..10_000).contains(&slot.due.0), "{:?}", slot.due);
            in_window[usize::try_from((slot.due.0 - 5000) / 500).unwrap()] += 1;
        }
        assert!(in_window.iter().all(|n| (50..=150).contains(n)), "{in_window:?}");
    }

    #[test]
    fn a_removed_query_is_never_due_and_a_faster_pace_counts_at_once() {
        let mut schedule = Schedule::default();
        schedule.add(cell(1, 600), Tick(100));
        schedule.add(cell(2, 600), Tick(600_000));
        assert!(schedule.remove(0).is_some());
        assert_eq!(schedule.next_due(), Some(Tick(600_000)));
        schedule.get_mut(1).unwrap().cell.set_pace(Duration::from_secs(5), false);
        schedule.reconsider(Tick(1000));
        assert!(schedule.next_due().unwrap() < Tick(6000));
        assert_eq!(schedule.len(), 1);
    }
}
