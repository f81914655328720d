//! Who is under suspicion: what a search for the cause of a refusal had narrowed down when its time
//! or its calls were over.
//!
//! The next fetch asks these sets in calls of their own, so that the search goes on there, and the
//! others get their values in one call meanwhile.
//!
//! Invariants: a query is in one set at most; a set lasts until the next fetch of its queries;
//! memory is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::model::CloudWatchQuery;
use crate::source::cloudwatch::hash;

/// Queries remembered: those of twenty full calls, at 16 bytes each. With more, all are forgotten and
/// their searches start anew.
const MAX_SUSPECTS: usize = 10_000;

/// All sets, by a hash of the query: mistaking one for another costs a call, no more.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    of: HashMap<u64, u64>,
    next: u64,
}

impl Suspects {
    /// Divides the members of a call, given by their places among `queries`: those above suspicion,
    /// and the sets of the others.
    pub(super) fn divide(
        &self,
        queries: &[&CloudWatchQuery],
        members: Vec<usize>,
    ) -> (Vec<usize>, Vec<Vec<usize>>) {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.of.is_empty() {
            return (members, Vec::new());
        }
        let mut found: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut others = Vec::with_capacity(members.len());
        for member in members {
            match queries.get(member).and_then(|query| sets.of.get(&hash(*query))) {
                Some(set) => found.entry(*set).or_default().push(member),
                None => others.push(member),
            }
        }
        (others, found.into_values().collect())
    }

    /// Forgets what was known about queries that were asked, and remembers these sets of them.
    pub(super) fn note(&self, queries: &[&CloudWatchQuery], undecided: &[Vec<usize>]) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sets.of.is_empty() {
            for query in queries {
                sets.of.remove(&hash(*query));
            }
        }
        if sets.of.len() + undecided.iter().map(Vec::len).sum::<usize>() > MAX_SUSPECTS {
            sets.of.clear();
            return;
        }
        for set in undecided {
            sets.next = sets.next.wrapping_add(1);
            let number = sets.next;
            let members = set.iter().filter_map(|member| queries.get(*member));
            sets.of.extend(members.map(|query| (hash(*query), number)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn query(region: &str) -> CloudWatchQuery {
        CloudWatchQuery {
            region: region.into(),
            role_arn: None,
            queries: Vec::new(),
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
            manner: crate::model::Manner::Strict,
        }
    }

    #[test]
    fn sets_are_kept_until_their_queries_are_asked_again() {
        let all: Vec<_> = (0..6).map(|i| query(&format!("r{i}"))).collect();
        let all: Vec<_> = all.iter().collect();
        let suspects = Suspects::default();
        let divided = || suspects.divide(&all, (0..6).collect());
        assert_eq!(divided(), ((0..6).collect(), vec![]));
        suspects.note(&all, &[vec![4, 1], vec![2]]);
        assert_eq!(divided(), (vec![0, 3, 5], vec![vec![1, 4], vec![2]]));
        // Somebody else's fetch.
        suspects.note(&all[4..], &[]);
        assert_eq!(divided(), (vec![0, 3, 4, 5], vec![vec![1], vec![2]]));
        suspects.note(&all, &[]);
        assert_eq!(divided().1, Vec::<Vec<usize>>::new());
    }

    #[test]
    fn memory_is_bounded() {
        let all: Vec<_> = (0..=MAX_SUSPECTS).map(|i| query(&i.to_string())).collect();
        let all: Vec<_> = all.iter().collect();
        let suspects = Suspects::default();
        suspects.note(&all, &[(0..MAX_SUSPECTS).collect()]);
        assert_eq!(suspects.divide(&all, vec![0]).1.len(), 1);
        suspects.note(&all[MAX_SUSPECTS..], &[vec![0]]);
        assert_eq!(suspects.divide(&all, vec![0, MAX_SUSPECTS]).1.len(), 0);
    }
}
