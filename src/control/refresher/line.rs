//! The queries that wait for a place in one lane, and which go next.
//!
//! Pure. Queries with the same [`Batch`] go together, up to its limit; the others go alone. First
//! reads, for which somebody waits, go before all others; within a class the query that has waited
//! longest goes next, alone or with those it can share a call with. A batch that starts for a first
//! read takes along whatever else of it waits.
//!
//! Adding costs constant time; starting a batch costs its length and a look into a tree of the
//! batches that wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::control::schedule::Id;
use crate::model::Batch;

/// How pressing a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The first read of a query: somebody waits for the answer.
    First = 0,
    /// A refresh.
    Regular = 1,
}

const CLASSES: [Class; 2] = [Class::First, Class::Regular];

/// Place in the order of arrival.
type Turn = u64;

type Members = [VecDeque<(Turn, Id)>; CLASSES.len()];

/// Queries that wait.
#[derive(Default)]
pub(super) struct Line {
    /// Those that go alone.
    alone: Members,
    /// Those that go together. Never empty ones.
    batches: HashMap<Batch, Members, ahash::RandomState>,
    /// The batches with a member of the class, by the arrival of the oldest. A batch with members
    /// of both classes is in the first one's tree only.
    turns: [BTreeMap<Turn, Batch>; CLASSES.len()],
    next: Turn,
}

impl Line {
    /// Adds a query at the end of its class.
    pub(super) fn push(&mut self, id: Id, class: Class, batch: Option<Batch>) {
        let turn = self.next;
        self.next += 1;
        let Some(batch) = batch else {
            self.alone[class as usize].push_back((turn, id));
            return;
        };
        let members = self.batches.entry(batch).or_default();
        let before = place(members);
        members[class as usize].push_back((turn, id));
        if place(members) != before {
            self.leave(before);
            self.enter(batch);
        }
    }

    /// Makes a refresh that waits a first read. Costs a search among those it waits with.
    pub(super) fn hurry(&mut self, id: Id, batch: Option<Batch>) {
        let members = match batch {
            None => Some(&mut self.alone),
            Some(batch) => self.batches.get_mut(&batch),
        };
        let Some(members) = members else { return };
        let before = place(members);
        let waiting = &mut members[Class::Regular as usize];
        let Some(found) = waiting.iter().position(|(_, waiting)| *waiting == id) else { return };
        waiting.remove(found);
        if let Some(batch) = batch {
            self.leave(before);
            self.enter(batch);
        }
        self.push(id, Class::First, batch);
    }

    /// Takes the queries of the next fetch: one, or several with one [`Batch`].
    pub(super) fn take(&mut self) -> Option<Vec<Id>> {
        let class = CLASSES.into_iter().find(|class| {
            !self.alone[*class as usize].is_empty() || !self.turns[*class as usize].is_empty()
        })?;
        let alone = self.alone[class as usize].front().map(|(turn, _)| *turn);
        let together = self.turns[class as usize].first_key_value();
        match (alone, together) {
            (alone, Some((turn, batch))) if alone.is_none_or(|alone| *turn < alone) => {
                let (turn, batch) = (*turn, *batch);
                Some(self.take_batch((class, turn), batch))
            }
            _ => self.alone[class as usize].pop_front().map(|(_, id)| vec![id]),
        }
    }

    fn take_batch(&mut self, place: (Class, Turn), batch: Batch) -> Vec<Id> {
        self.leave(Some(place));
        let Some(members) = self.batches.get_mut(&batch) else { return Vec::new() };
        let limit = batch.limit.max(1);
        let mut ids = Vec::with_capacity(limit.min(members.iter().map(VecDeque::len).sum()));
        for waiting in members {
            let some = waiting.len().min(limit - ids.len());
            ids.extend(waiting.drain(..some).map(|(_, id)| id));
        }
        self.enter(batch);
        ids
    }

    /// Takes a batch out of the order.
    fn leave(&mut self, place: Option<(Class, Turn)>) {
        if let Some((class, turn)) = place {
            self.turns[class as usize].remove(&turn);
        }
    }

    /// Puts a batch into the order, or forgets it when nobody waits for it.
    fn enter(&mut self, batch: Batch) {
        match self.batches.get(&batch).and_then(place) {
            Some((class, turn)) => {
                self.turns[class as usize].insert(turn, batch);
            }
            None => {
                self.batches.remove(&batch);
            }
        }
    }
}

/// A batch's place in the order: its first class that has members, and the oldest of them.
fn place(members: &Members) -> Option<(Class, Turn)> {
    CLASSES
        .into_iter()
        .find_map(|class| members[class as usize].front().map(|(turn, _)| (class, *turn)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::QueryCell;
    use crate::control::schedule::{RouteId, Schedule};
    use crate::model::{Decimal, Query, QuerySpec, SimulatedQuery, SourceName, Tick};

    fn ids(count: usize) -> Vec<Id> {
        let query = Arc::new(Query {
            source: SourceName::new("x"),
            spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::ONE)),
        });
        let mut schedule = Schedule::default();
        let mut id = |_| {
            let cell = QueryCell::new(Arc::clone(&query), Duration::from_secs(1), false);
            schedule.add(Arc::new(cell), RouteId(0), Tick(0))
        };
        (0..count).map(&mut id).collect()
    }

    fn batch(key: u64, limit: usize) -> Batch {
        Batch { key, limit }
    }

    fn drained(line: &mut Line) -> Vec<Vec<Id>> {
        std::iter::from_fn(|| line.take()).collect()
    }

    #[test]
    fn the_longest_wait_goes_first_and_takes_its_batch_along() {
        let id = ids(9);
        let mut line = Line::default();
        line.push(id[0], Class::Regular, None);
        line.push(id[1], Class::Regular, Some(batch(1, 2)));
        line.push(id[2], Class::Regular, Some(batch(2, 10)));
        line.push(id[3], Class::Regular, None);
        line.push(id[4], Class::Regular, Some(batch(2, 10)));
        line.push(id[5], Class::Regular, Some(batch(1, 2)));
        line.push(id[6], Class::Regular, Some(batch(1, 2)));
        assert_eq!(
            drained(&mut line),
            [vec![id[0]], vec![id[1], id[5]], vec![id[2], id[4]], vec![id[3]], vec![id[6]]]
        );
        assert!(line.batches.is_empty() && line.turns.iter().all(BTreeMap::is_empty));
    }

    #[test]
    fn what_is_left_of_a_batch_keeps_its_turn() {
        let id = ids(5);
        let mut line = Line::default();
        for id in &id[..3] {
            line.push(*id, Class::Regular, Some(batch(1, 2)));
        }
        line.push(id[3], Class::Regular, None);
        line.push(id[4], Class::Regular, Some(batch(1, 2)));
        assert_eq!(line.take(), Some(vec![id[0], id[1]]));
        assert_eq!(line.take(), Some(vec![id[2], id[4]]), "2 waited longer than 3");
        assert_eq!(line.take(), Some(vec![id[3]]));
        assert_eq!(line.take(), None);
    }

    #[test]
    fn a_first_read_goes_before_all_and_takes_its_batch_along() {
        let id = ids(6);
        let mut line = Line::default();
        line.push(id[0], Class::Regular, None);
        line.push(id[1], Class::Regular, Some(batch(1, 3)));
        line.push(id[2], Class::Regular, Some(batch(2, 3)));
        line.push(id[3], Class::Regular, Some(batch(2, 3)));
        line.push(id[4], Class::First, None);
        line.push(id[5], Class::First, Some(batch(2, 2)));
        line.push(id[5], Class::First, Some(batch(2, 3)));
        assert_eq!(
            drained(&mut line),
            [vec![id[4]], vec![id[5]], vec![id[5], id[2], id[3]], vec![id[0]], vec![id[1]]],
            "another limit is another batch"
        );
    }

    #[test]
    fn a_refresh_that_somebody_waits_for_becomes_a_first_read() {
        let id = ids(6);
        let mut line = Line::default();
        line.push(id[0], Class::Regular, None);
        line.push(id[1], Class::Regular, Some(batch(1, 2)));
        line.push(id[2], Class::Regular, Some(batch(1, 2)));
        line.push(id[3], Class::Regular, Some(batch(1, 2)));
        line.push(id[4], Class::Regular, None);
        line.push(id[5], Class::Regular, Some(batch(2, 2)));
        for (id, batch) in [
            (id[3], Some(batch(1, 2))),
            (id[4], None),
            (id[5], Some(batch(2, 2))),
            (id[5], Some(batch(2, 2))),
            (id[5], Some(batch(3, 2))),
        ] {
            line.hurry(id, batch);
        }
        assert_eq!(
            drained(&mut line),
            [vec![id[3], id[1]], vec![id[4]], vec![id[5]], vec![id[0]], vec![id[2]]]
        );
        assert!(line.batches.is_empty() && line.turns.iter().all(BTreeMap::is_empty));
    }

    proptest! {
        /// Against a list that is searched: each take is the oldest of the first class, with the
        /// oldest of its batch, first reads before others.
        #[test]
        fn it_does_what_a_search_would(steps in proptest::collection::vec(
            (0_u8..4, any::<bool>(), 0_u64..4), 0..200
        )) {
            let id = ids(steps.len());
            let mut line = Line::default();
            let mut list: Vec<(bool, Id, Option<Batch>)> = Vec::new();
            for (i, (step, regular, key)) in steps.into_iter().enumerate() {
                if step > 0 {
                    let class = if regular { Class::Regular } else { Class::First };
                    let shared = (key > 0).then_some(Batch { key, limit: 2 });
                    line.push(id[i], class, shared);
                    list.push((regular, id[i], shared));
                } else {
                    let mut order: Vec<_> = list.clone();
                    order.sort_by_key(|(regular, ..)| *regular);
                    let expected = order.first().map(|head| match head.2 {
                        None => vec![head.1],
                        shared => order.iter().filter(|o| o.2 == shared).take(2).map(|o| o.1).collect(),
                    });
                    if let Some(taken) = &expected {
                        list.retain(|(_, id, _)| !taken.contains(id));
                    }
                    prop_assert_eq!(line.take(), expected);
                }
            }
            prop_assert_eq!(drained(&mut line).concat().len(), list.len());
        }
    }
}
