//! When something may be written, and what goes first.
//!
//! Invariants: between any two writes, statuses and Events alike, lies [`GAP`], so the API server sees
//! at most ten of them in any second; that a definition is refused, or is not any more, goes before any
//! other condition, a condition before an Event, an Event before a new value; values of all resources together take no more than [`VALUE_RATE`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{DefinitionId, Tick};

/// Between two writes: ten a second at most, whatever happens to how many resources.
pub(super) const GAP: Duration = Duration::from_millis(100);

/// How often a value is written at most.
pub(super) const HEARTBEAT: Duration = Duration::from_mins(1);

/// Values that are written in a second, all resources together, so that there is room for conditions
/// and Events. With 5,000 resources in use each is written every ten minutes.
const VALUE_RATE: u32 = 8;

/// How often the value of each of so many resources is written.
pub(super) fn heartbeat(resources: usize) -> Duration {
    let resources = u32::try_from(resources).unwrap_or(u32::MAX);
    HEARTBEAT.max(Duration::from_secs(1).saturating_mul(resources) / VALUE_RATE)
}

/// Why a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A newer value, time or wording.
    Value,
    /// What it says is not so any more.
    Condition,
    /// The same, and somebody waits for it: whoever wrote a definition looks whether it is accepted.
    Verdict,
}

/// What waits to be written. A resource waits once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: HashMap<Arc<DefinitionId>, Cause>,
    verdicts: VecDeque<Arc<DefinitionId>>,
    conditions: VecDeque<Arc<DefinitionId>>,
    values: VecDeque<Arc<DefinitionId>>,
}

impl Queue {
    /// A resource's status is to be written; one that waits for a lesser cause moves up.
    pub(super) fn push(&mut self, id: &Arc<DefinitionId>, cause: Cause) {
        let waits = self.waiting.get(id);
        if waits.is_some_and(|waits| *waits >= cause) {
            return;
        }
        self.waiting.insert(Arc::clone(id), cause);
        match cause {
            Cause::Verdict => self.verdicts.push_back(Arc::clone(id)),
            Cause::Condition => self.conditions.push_back(Arc::clone(id)),
            Cause::Value => self.values.push_back(Arc::clone(id)),
        }
    }

    /// It need not be written.
    pub(super) fn remove(&mut self, id: &DefinitionId) {
        self.waiting.remove(id);
    }

    /// The next one of a cause.
    pub(super) fn pop(&mut self, cause: Cause) -> Option<Arc<DefinitionId>> {
        let queue = match cause {
            Cause::Verdict => &mut self.verdicts,
            Cause::Condition => &mut self.conditions,
            Cause::Value => &mut self.values,
        };
        while let Some(id) = queue.pop_front() {
            // What moved up, or need not be written any more, is still in the line.
            if self.waiting.get(&id) == Some(&cause) {
                self.waiting.remove(&id);
                return Some(id);
            }
        }
        None
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The next moment at which something may be written.
#[derive(Debug)]
pub(super) struct Slots {
    next: Tick,
}

impl Slots {
    pub(super) fn new(now: Tick) -> Self {
        Self { next: now }
    }

    pub(super) fn next(&self) -> Tick {
        self.next
    }

    /// Uses the slot of this moment.
    pub(super) fn take(&mut self, now: Tick) {
        self.next = now.after(GAP);
    }

    /// Nothing is written for a time.
    pub(super) fn rest(&mut self, now: Tick, pause: Duration) {
        self.next = self.next.max(now.after(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DefinitionKind;

    fn id(name: &str) -> Arc<DefinitionId> {
        let kind = DefinitionKind::ClusterExternalMetric;
        Arc::new(DefinitionId { kind, namespace: None, name: name.into() })
    }

    #[test]
    fn values_are_written_less_often_the_more_there_are() {
        assert_eq!(heartbeat(0), HEARTBEAT);
        assert_eq!(heartbeat(480), HEARTBEAT);
        assert_eq!(heartbeat(5000), Duration::from_secs(625));
        let per_second = 5000.0 / heartbeat(5000).as_secs_f64();
        assert!(per_second <= 10.0, "{per_second}");
    }

    #[test]
    fn conditions_go_first_and_nothing_waits_twice() {
        let mut queue = Queue::default();
        let [a, b, c] = ["a", "b", "c"].map(id);
        queue.push(&a, Cause::Value);
        queue.push(&b, Cause::Value);
        queue.push(&b, Cause::Condition);
        queue.push(&b, Cause::Value);
        queue.push(&c, Cause::Condition);
        queue.push(&c, Cause::Condition);
        let d = id("d");
        queue.push(&d, Cause::Condition);
        queue.push(&d, Cause::Verdict);
        assert_eq!(queue.len(), 4);
        queue.remove(&c);
        assert_eq!(queue.pop(Cause::Verdict), Some(d));
        assert_eq!(queue.pop(Cause::Verdict), None);
        assert_eq!(queue.pop(Cause::Condition), Some(b));
        assert_eq!(queue.pop(Cause::Condition), None);
        assert_eq!(queue.pop(Cause::Value), Some(a));
        assert_eq!((queue.pop(Cause::Value), queue.len()), (None, 0));
    }
}
