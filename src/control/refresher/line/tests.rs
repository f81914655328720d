use std::collections::HashMap as Map;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cache::QueryCell;
use crate::control::schedule::{RouteId, Schedule};
use crate::model::{Decimal, Query, QuerySpec, SimulatedQuery, SourceName};

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

/// A line whose queries are named by their position.
#[derive(Default)]
struct Hall {
    line: Line,
    names: Vec<Id>,
    tickets: Map<Id, Ticket>,
    time: u64,
    /// Owners of whom none may go alone.
    barred: Vec<Owner>,
}

impl Hall {
    fn new(count: usize) -> Self {
        Self { names: ids(count), ..Self::default() }
    }

    /// Of one owner, in the order of arrival.
    fn push(&mut self, name: usize, class: Class, batch: Option<Batch>) {
        self.push_of(0, name, class, batch);
    }

    fn push_of(&mut self, owner: Owner, name: usize, class: Class, batch: Option<Batch>) {
        self.push_heavy(1, owner, name, class, batch);
    }

    fn push_heavy(
        &mut self,
        weight: u32,
        owner: Owner,
        name: usize,
        class: Class,
        batch: Option<Batch>,
    ) {
        self.time += 1;
        let bid = Bid { id: self.names[name], class, batch, weight, owner, rank: self.time };
        let ticket = Ticket(u32::try_from(self.time).unwrap());
        self.line.push(bid, ticket);
        self.tickets.insert(self.names[name], ticket);
    }

    fn take(&mut self, failing: bool) -> Option<Vec<usize>> {
        let tickets = &mut self.tickets;
        let mut good = |id: Id, ticket: Ticket| {
            let good = tickets.get(&id) == Some(&ticket);
            if good {
                tickets.remove(&id);
            }
            good
        };
        let ids = self.line.take(failing, &|owner| !self.barred.contains(&owner), &mut good)?.ids;
        let name = |id: &Id| self.names.iter().position(|name| name == id).unwrap();
        Some(ids.iter().map(name).collect())
    }

    fn drain(&mut self) -> Vec<Vec<usize>> {
        std::iter::from_fn(|| self.take(true)).collect()
    }

    fn is_bare(&self) -> bool {
        self.line.places() == 0
            && self.line.batches.is_empty()
            && self.line.ranks.iter().all(|rank| rank.turns.is_empty() && rank.alone.is_empty())
    }
}

use Class::{Failing, First, Regular};

#[test]
fn batches_and_those_that_go_alone_take_turns() {
    let mut hall = Hall::new(9);
    hall.push(0, Regular, None);
    hall.push(1, Regular, Some(batch(1, 2)));
    hall.push(2, Regular, Some(batch(2, 10)));
    hall.push(3, Regular, None);
    hall.push(4, Regular, Some(batch(2, 10)));
    hall.push(5, Regular, Some(batch(1, 2)));
    hall.push(6, Regular, Some(batch(1, 2)));
    assert_eq!(hall.drain(), [vec![0], vec![1, 5], vec![2, 4], vec![3], vec![6]]);
    assert!(hall.is_bare());
}

#[test]
fn a_first_read_goes_before_all_and_takes_its_batch_along() {
    let mut hall = Hall::new(9);
    hall.push(8, Failing, Some(batch(2, 3)));
    hall.push(0, Regular, None);
    hall.push(1, Regular, Some(batch(1, 3)));
    hall.push(2, Regular, Some(batch(2, 3)));
    hall.push(3, Regular, Some(batch(2, 3)));
    hall.push(4, First, None);
    hall.push(5, First, Some(batch(2, 2)));
    hall.push(6, First, Some(batch(2, 3)));
    assert_eq!(hall.take(false), Some(vec![4]));
    assert_eq!(hall.take(false), Some(vec![5]), "another limit is another batch");
    assert_eq!(hall.take(false), Some(vec![6, 2, 3]));
    assert_eq!(hall.take(false), Some(vec![0]));
    assert_eq!(hall.take(false), Some(vec![1]));
    assert_eq!(hall.take(false), None);
    assert_eq!(hall.take(true), Some(vec![8]), "what fails goes with nobody else");
    assert!(hall.is_bare());
}

#[test]
fn owners_take_turns_whatever_they_have() {
    let mut hall = Hall::new(1010);
    for name in 0..1000 {
        hall.push_of(1, name, Regular, None);
    }
    for name in 1000..1005 {
        hall.push_of(2, name, Regular, None);
    }
    let first_ten: Vec<usize> = (0..10).filter_map(|_| hall.take(false)).flatten().collect();
    assert_eq!(first_ten, [0, 1000, 1, 1001, 2, 1002, 3, 1003, 4, 1004]);
    assert_eq!(hall.drain().len(), 995);
    assert!(hall.is_bare());
}

#[test]
fn owners_take_turns_within_a_batch() {
    let mut hall = Hall::new(20);
    for name in 0..8 {
        hall.push_of(1, name, Regular, Some(batch(1, 4)));
    }
    hall.push_of(2, 8, Regular, Some(batch(1, 4)));
    hall.push_of(2, 9, Regular, Some(batch(1, 4)));
    assert_eq!(hall.drain(), [vec![0, 8, 1, 9], vec![2, 3, 4, 5], vec![6, 7]]);
}

#[test]
fn a_fetch_carries_no_more_than_its_limit_by_weight() {
    let mut hall = Hall::new(12);
    let shared = Some(batch(1, 500));
    for name in 0..6 {
        hall.push_heavy(200, 1, name, Regular, shared);
    }
    // Heavier than any fetch may be: alone, and nobody waits for ever behind it.
    hall.push_heavy(900, 1, 6, Regular, shared);
    hall.push_heavy(100, 1, 7, Regular, shared);
    assert_eq!(hall.drain(), [vec![0, 1], vec![2, 3], vec![4, 5], vec![6], vec![7]]);
    // Owners take turns, and who did not fit goes first the next time.
    for name in 0..3 {
        hall.push_heavy(300, 1, name, Regular, shared);
        hall.push_heavy(300, 2, 3 + name, Regular, shared);
    }
    assert_eq!(hall.drain(), [[0], [3], [1], [4], [2], [5]]);
    // A first read takes along what still fits.
    hall.push_heavy(200, 1, 0, Regular, shared);
    hall.push_heavy(400, 1, 1, First, shared);
    hall.push_heavy(100, 2, 2, Regular, shared);
    hall.push_heavy(300, 3, 3, Regular, None);
    assert_eq!(hall.drain(), [vec![1], vec![0, 2], vec![3]]);
    assert!(hall.is_bare());
}

#[test]
fn a_query_that_is_hurried_or_leaves_is_not_taken_twice() {
    let mut hall = Hall::new(4);
    (0..4).for_each(|name| hall.push(name, Regular, None));
    hall.push(2, First, None);
    let gone = hall.names[1];
    hall.tickets.remove(&gone);
    assert_eq!(hall.drain(), [vec![2], vec![0], vec![3]]);
    assert!(hall.is_bare());
}

#[test]
fn first_reads_do_not_stop_refreshes() {
    let mut hall = Hall::new(10);
    (0..7).for_each(|name| hall.push(name, First, None));
    (7..10).for_each(|name| hall.push(name, Regular, None));
    assert_eq!(hall.drain().concat(), [0, 1, 2, 7, 3, 4, 5, 8, 6, 9]);
}

#[test]
fn what_keeps_failing_does_not_wait_for_ever() {
    let mut hall = Hall::new(20);
    (0..12).for_each(|name| hall.push(name, Regular, None));
    (12..15).for_each(|name| hall.push(name, Failing, None));
    let order = [0, 1, 2, 3, 4, 5, 6, 12, 7, 8, 9, 10, 11, 13, 14];
    assert_eq!(hall.drain().concat(), order);
}

#[test]
fn the_least_recently_read_wait_longest_but_not_for_ever() {
    let second = |s: u64| Tick(1_000_000 + s * 1000);
    let ranks = [
        rank(second(0), Some(second(0))),
        rank(second(0), Some(Tick(1_000_000 - 15_000))),
        // A start that was due a minute later and is read at once goes before one that nobody has
        // read for longer, and after one that was read before.
        rank(second(59), Some(second(59))),
        rank(second(0), Some(Tick(0))),
        rank(second(61), Some(second(61))),
    ];
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert_eq!(rank(second(0), Some(Tick(0))), rank(second(0), None));
}

/// What one fetch may weigh in the model, and one query at most.
const LIMIT: u32 = 4;
const HEAVY: u32 = 5;

/// One step of the model: a push, or a take when there is none.
#[derive(Clone, Debug)]
struct Step {
    class: Option<Class>,
    owner: Owner,
    key: u64,
    rank: u64,
    weight: u32,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![
        Just(None),
        Just(Some(First)),
        Just(Some(Regular)),
        Just(Some(Regular)),
        Just(Some(Failing))
    ];
    let step = (class, 0..3_u32, 0..3_u64, 0..5_u64, 1..=HEAVY);
    step.prop_map(|(class, owner, key, rank, weight)| Step { class, owner, key, rank, weight })
}

proptest! {
    /// Against a list that is searched: each take is of the first class there is, the lowest rank
    /// of its owner, with others of its batch and no more than fit; nothing is lost or taken twice.
    #[test]
    fn it_does_what_a_search_would(steps in proptest::collection::vec(step(), 0..200)) {
        let id = ids(steps.len());
        let mut line = Line::default();
        let mut list: Vec<(Id, Ticket, Step)> = Vec::new();
        let (mut firsts, mut others) = (0, 0);
        for (i, step) in steps.into_iter().enumerate() {
            let shared = (step.key > 0).then_some(Batch { key: step.key, limit: LIMIT as usize });
            if let Some(class) = step.class {
                let Step { owner, rank, weight, .. } = step;
                let bid = Bid { id: id[i], class, batch: shared, weight, owner, rank };
                let ticket = Ticket(u32::try_from(i).unwrap());
                line.push(bid, ticket);
                list.push((id[i], ticket, step));
                continue;
            }
            let taken = line.take(true, &|_| true, &mut |id, ticket| {
                list.iter().any(|(other, held, _)| (*other, *held) == (id, ticket))
            });
            let first = list.iter().map(|(_, _, step)| step.class).min().flatten();
            let refreshes = list.iter().any(|(_, _, step)| step.class == Some(Regular));
            let fails = list.iter().any(|(_, _, step)| step.class == Some(Failing));
            let first = match first {
                Some(_) if others >= OTHERS_IN_A_ROW && fails => Some(Failing),
                Some(_) if firsts >= FIRST_IN_A_ROW && refreshes => Some(Regular),
                first => first,
            };
            prop_assert_eq!(taken.as_ref().map(|taken| taken.class), first);
            if let Some(class) = first {
                others = if class == Failing { 0 } else { others + 1 };
                firsts = if class == First { firsts + 1 } else { 0 };
            }
            let Some(Taken { class, ids: taken, .. }) = taken else { continue };
            let of = |id: &Id| list.iter().find(|(other, ..)| other == id).unwrap().2.clone();
            let head = of(&taken[0]);
            let sum: u32 = taken.iter().map(|id| of(id).weight).sum();
            prop_assert!(taken.len() == 1 || (head.key > 0 && sum <= LIMIT));
            for id in &taken {
                let step = of(id);
                prop_assert_eq!(step.key, head.key);
                let lower = list.iter().filter(|(other, _, s)| {
                    (s.class, s.owner, s.key) == (step.class, step.owner, step.key)
                        && s.rank < step.rank
                        && !taken.contains(other)
                });
                prop_assert_eq!(lower.count(), 0, "the lowest rank of its owner goes first");
            }
            // As many of the batch as fit, up to the first that does not.
            let company = list.iter().filter(|(_, _, s)| {
                s.key == head.key && (s.class == Some(class)
                    || class == First && s.class == Some(Regular))
            });
            if head.key > 0 {
                let mut behind = company.filter(|(id, ..)| !taken.contains(id)).peekable();
                prop_assert!(behind.peek().is_none() || behind.any(|(_, _, s)| sum + s.weight > LIMIT));
            }
            list.retain(|(id, ..)| !taken.contains(id));
        }
        let mut left: Vec<Id> = std::iter::from_fn(|| line.take(true, &|_| true, &mut |id, ticket| {
            list.iter().any(|(other, held, _)| (*other, *held) == (id, ticket))
        })).flat_map(|taken| taken.ids).collect();
        left.sort_unstable();
        let mut expected: Vec<Id> = list.iter().map(|(id, ..)| *id).collect();
        expected.sort_unstable();
        prop_assert_eq!(left, expected);
        prop_assert!(line.batches.is_empty());
    }
}

#[test]
fn who_may_not_go_keeps_the_turn_and_holds_up_nobody() {
    let mut hall = Hall::new(6);
    for (owner, name) in [(1, 0), (1, 1), (2, 2), (1, 3), (3, 4), (2, 5)] {
        hall.push_of(owner, name, Regular, None);
    }
    hall.barred = vec![1];
    let taken: Vec<_> = (0..3).map(|_| hall.take(true)).collect();
    assert_eq!(taken, [Some(vec![2]), Some(vec![4]), Some(vec![5])]);
    assert_eq!(hall.take(true), None);
    hall.barred.clear();
    assert_eq!(hall.drain(), [vec![0], vec![1], vec![3]]);
    assert!(hall.is_bare());
}
