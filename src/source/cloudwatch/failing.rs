//! Calls that fail as a whole, again and again: who of their members is to be asked apart.
//!
//! A refusal that blames a query is looked into at once (`round`). A failure blames nobody: a broken
//! answer, an HTTP 500, a silence may be the service's, and usually are. But if one query always
//! causes it, then all who share calls with it go without values for as long as it exists. So a call
//! that fails [`PATIENCE`] times in a row is made in halves the next time, and a half that fails
//! again in halves of itself, until the culprit is alone. Whoever succeeds is free of suspicion, and
//! is asked together with the others again.
//!
//! With several culprits no half may succeed. Then the smallest parts shrink in turn and the rest goes
//! together: in the end a few queries are asked alone, which tells culprits from an upstream that
//! fails. Those who failed alone go with the rest as long as there are others to ask.
//!
//! Pure but for a lock: it knows queries and upstreams by their hashes, and asks nothing itself.
//!
//! # Invariants
//!
//! * Instead of one call there are at most [`MAX_PARTS`]; while nothing at all succeeds with an
//!   upstream, [`BLIND_PARTS`]: then it is the upstream that fails.
//! * At most [`MAX_REMEMBERED`] queries are remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::{CloudWatchQuery, FetchError};
use crate::source::cloudwatch::call::Refusal;
use crate::source::cloudwatch::decode::Answer;
use crate::source::cloudwatch::hash;
use crate::source::cloudwatch::plan::{self, Call};

/// Failures in a row before a call is divided.
const PATIENCE: u32 = 3;

/// Calls into which one is divided at most. The last of them takes all who are left; those who failed
/// alone are the last.
const MAX_PARTS: usize = 8;

/// The same without a success since the first failure.
const BLIND_PARTS: usize = 4;

/// Queries remembered: those of eight full calls.
const MAX_REMEMBERED: usize = 4_000;

/// Upstreams remembered; an AWS source has 256 at most.
const MAX_UPSTREAMS: usize = 256;

/// Calls after which a query that was not asked again is forgotten if room is needed.
const FORGOTTEN_AFTER: u64 = 64;

/// What the calls of one source have come to.
#[derive(Debug, Default)]
pub(super) struct Failing(Mutex<Streaks>);

impl Failing {
    /// A planned call, or those that are made instead because it keeps failing.
    pub(super) fn apart<'a>(
        &self,
        call: Call<'a>,
        queries: &[&'a CloudWatchQuery],
    ) -> Vec<Call<'a>> {
        let streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streaks.is_empty() || call.members.len() < 2 {
            return vec![call];
        }
        let parts = streaks.parts(upstream(&call), &members(&call).collect::<Vec<_>>());
        if parts.len() < 2 {
            return vec![call];
        }
        let places = |part: Vec<usize>| -> Vec<usize> {
            part.into_iter().map(|at| call.members[at].position).collect()
        };
        parts.into_iter().map(|part| plan::assemble(queries, &places(part), call.window)).collect()
    }

    /// Remembers how a call went. A refusal blames somebody, and throttling nobody: neither of them
    /// is looked for here.
    pub(super) fn note(&self, call: &Call<'_>, outcome: &Result<Answer, Refusal>) {
        let mut streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => streaks.succeeded(upstream(call), members(call)),
            Err(
                Refusal::Failed(FetchError::Throttled(_))
                | Refusal::Rejected { .. }
                | Refusal::TooLarge(_),
            ) => {}
            Err(Refusal::Failed(_)) => streaks.failed(&members(call).collect::<Vec<_>>()),
        }
    }
}

fn upstream(call: &Call<'_>) -> u64 {
    hash(&(call.region, call.role))
}

fn members(call: &Call<'_>) -> impl Iterator<Item = u64> {
    call.members.iter().map(|member| hash(member.query))
}

/// The members of failing calls.
#[derive(Debug, Default)]
struct Streaks {
    queries: HashMap<u64, Streak>,
    /// When a call of an upstream last succeeded, in [`Streaks::calls`].
    successes: HashMap<u64, u64>,
    /// Calls noted.
    calls: u64,
}

#[derive(Clone, Copy, Debug)]
struct Streak {
    /// Failures in a row.
    failures: u32,
    /// Members of a call with it at most.
    company: usize,
    /// Whether it once failed without any.
    alone: bool,
    /// When it first failed, and when last.
    since: u64,
    last: u64,
}

impl Streaks {
    /// Whether all calls are made as planned.
    fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// How the members of a call are to be asked: their places, in one or several calls.
    fn parts(&self, upstream: u64, members: &[u64]) -> Vec<Vec<usize>> {
        let known = |at: usize| self.queries.get(&members[at]);
        let is_apart = |at: &usize| known(*at).is_some_and(|one| one.company < members.len());
        let (mut apart, clear): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(is_apart);
        let is_blind = !apart
            .iter()
            .filter_map(|&at| known(at))
            .any(|one| self.successes.get(&upstream).is_some_and(|&success| one.since < success));
        // The sort keeps the order of equals, so that the same ones stay together.
        apart.sort_by_key(|&at| known(at).map_or((false, 0), |one| (one.alone, one.company)));
        let most = if is_blind { BLIND_PARTS } else { MAX_PARTS };
        let mut parts = if clear.is_empty() { Vec::new() } else { vec![clear] };
        let mut left = apart.as_slice();
        while let Some(&first) = left.first() {
            let company = known(first).map_or(1, |one| one.company).clamp(1, left.len());
            let size = if parts.len() + 1 >= most { left.len() } else { company };
            let (part, rest) = left.split_at(size);
            parts.push(part.to_vec());
            left = rest;
        }
        parts
    }

    /// A call gave values.
    fn succeeded(&mut self, upstream: u64, members: impl Iterator<Item = u64>) {
        self.calls += 1;
        if self.successes.len() >= MAX_UPSTREAMS && !self.successes.contains_key(&upstream) {
            self.successes.clear();
        }
        self.successes.insert(upstream, self.calls);
        if !self.queries.is_empty() {
            for member in members {
                self.queries.remove(&member);
            }
        }
    }

    /// A call gave nothing, for a reason that blames nobody. Who was planned alone harms nobody.
    fn failed(&mut self, members: &[u64]) {
        if let [alone] = members
            && !self.queries.contains_key(alone)
        {
            return;
        }
        self.calls += 1;
        let now = self.calls;
        if self.queries.len() + members.len() > MAX_REMEMBERED {
            self.queries.retain(|_, one| now - one.last < FORGOTTEN_AFTER);
        }
        for member in members {
            if self.queries.len() >= MAX_REMEMBERED && !self.queries.contains_key(member) {
                continue;
            }
            let new =
                Streak { failures: 0, company: usize::MAX, alone: false, since: now, last: now };
            let one = self.queries.entry(*member).or_insert(new);
            one.failures = one.failures.saturating_add(1);
            one.last = now;
        }
        let known = || members.iter().filter_map(|member| self.queries.get(member));
        if known().map(|one| one.failures).max().is_none_or(|most| most < PATIENCE) {
            return;
        }
        for member in members {
            if let Some(one) = self.queries.get_mut(member) {
                one.company = members.len().div_ceil(2);
                one.alone |= members.len() == 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// An upstream at which calls with certain queries fail.
    struct Bench {
        streaks: Streaks,
        poison: HashSet<u64>,
    }

    impl Bench {
        fn new(poison: &[u64]) -> Self {
            Self { streaks: Streaks::default(), poison: poison.iter().copied().collect() }
        }

        /// One fetch: how many calls it took, and how many queries got values.
        fn fetch(&mut self, queries: &[u64]) -> (usize, usize) {
            let parts = self.streaks.parts(7, queries);
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..queries.len()), "everybody is asked once");
            assert!(parts.len() <= MAX_PARTS && parts.iter().all(|part| !part.is_empty()));
            let mut served = 0;
            for part in &parts {
                let members: Vec<u64> = part.iter().map(|&at| queries[at]).collect();
                if members.iter().any(|one| self.poison.contains(one)) {
                    self.streaks.failed(&members);
                } else {
                    self.streaks.succeeded(7, members.iter().copied());
                    served += members.len();
                }
            }
            (parts.len(), served)
        }
    }

    #[test]
    fn one_culprit_is_alone_after_some_halves() {
        let queries: Vec<u64> = (0..500).collect();
        let mut bench = Bench::new(&[321]);
        for _ in 0..PATIENCE {
            assert_eq!(bench.fetch(&queries), (1, 0));
        }
        assert_eq!(bench.fetch(&queries), (2, 250));
        // One for those who are clear, two for the halves.
        assert_eq!(bench.fetch(&queries), (3, 375));
        for _ in 0..7 {
            assert!(bench.fetch(&queries).0 <= 3);
        }
        assert_eq!(bench.fetch(&queries), (2, 499));
        assert_eq!(bench.streaks.queries.len(), 1);
        // It heals, and is one of all again.
        bench.poison.clear();
        assert_eq!(bench.fetch(&queries), (2, 500));
        assert!(bench.streaks.is_empty());
        assert_eq!(bench.fetch(&queries), (1, 500));
    }

    #[test]
    fn an_upstream_that_fails_is_not_asked_more_and_more() {
        let queries: Vec<u64> = (0..500).collect();
        let mut bench = Bench::new(&queries);
        for _ in 0..50 {
            assert!(bench.fetch(&queries).0 <= BLIND_PARTS);
        }
        bench.poison.clear();
        assert_eq!(bench.fetch(&queries), (BLIND_PARTS, 500));
        assert_eq!(bench.fetch(&queries), (1, 500));
        // Nor once it has worked.
        bench.poison.extend(&queries);
        for _ in 0..50 {
            assert!(bench.fetch(&queries).0 <= BLIND_PARTS);
        }
    }

    #[test]
    fn a_success_now_and_then_ends_the_suspicion() {
        let queries: Vec<u64> = (0..100).collect();
        let mut bench = Bench::new(&[]);
        for _ in 0..20 {
            bench.poison.insert(5);
            assert_eq!((bench.fetch(&queries), bench.fetch(&queries)), ((1, 0), (1, 0)));
            bench.poison.clear();
            assert_eq!(bench.fetch(&queries), (1, 100));
        }
    }

    #[test]
    fn many_culprits_end_together_and_all_others_apart() {
        for count in [2, 3, 7, 20] {
            let poison: Vec<u64> = (0..count).map(|i| i * 500 / count + 3).collect();
            let queries: Vec<u64> = (0..500).collect();
            let mut bench = Bench::new(&poison);
            let rounds: Vec<_> = (0..400).map(|_| bench.fetch(&queries)).collect();
            let worst = rounds[200..].iter().map(|(_, served)| *served).min().unwrap();
            assert!(worst as u64 >= 500 - count, "{count}: {worst} of 500 at last");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut streaks = Streaks::default();
        for call in 0..100_u64 {
            let members: Vec<u64> = (0..500).map(|i| call * 500 + i).collect();
            streaks.failed(&members);
            streaks.succeeded(call * 1000, std::iter::empty());
            assert!(streaks.queries.len() <= MAX_REMEMBERED);
            assert!(streaks.successes.len() <= MAX_UPSTREAMS);
        }
        // The old ones have gone: a new one finds room.
        for _ in 0..=FORGOTTEN_AFTER {
            streaks.failed(&[u64::MAX, u64::MAX - 1]);
            streaks.failed(&[7_000_000]);
        }
        streaks.failed(&(0..500).collect::<Vec<_>>());
        assert!(streaks.queries.contains_key(&0));
        assert!(streaks.queries.contains_key(&u64::MAX));
        assert!(!streaks.queries.contains_key(&7_000_000));
    }
}
