//! One upstream's line of fetches, and what bounds them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::board::Upstream;
use super::lanes::{Look, Meaning};
use super::line::{Class, Line, Owner, Taken};
use crate::control::protection::{Health, Permit, Protection};
use crate::control::schedule::{Id, RouteId};
use crate::model::{Batch, Beat, SourceName, Tick};

/// The part of a lane's places that queries may hold that keep failing: mostly they hang, and a
/// place that hangs serves nobody.
const FAILING_SHARE: usize = 4;

/// The part of a lane's places that is left to others, however much one owner asks: one with slow
/// queries would hold all places most of the time, and turns are of no use to who finds none free.
const OTHERS_SHARE: usize = 4;

/// A query that waits for its fetch longer than this is overdue: shorter waits are the order of a
/// burst.
const OVERDUE: Duration = Duration::from_secs(1);

/// An upstream that gave an answer is not down for this long, however fast it fails others: queries
/// of one kind, all broken alike, come in bursts.
const ALIVE: Duration = Duration::from_secs(1);

/// What a lane has to know of a fetch at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// Whether it carried queries that keep failing.
    pub(super) failing: bool,
    /// Whether it decides if the breaker closes.
    pub(super) probe: bool,
    /// Whose query it carried; none for several.
    pub(super) owner: Option<Owner>,
}

/// One upstream's line of fetches.
pub(super) struct Lane {
    /// The source's position among the origins.
    pub(super) source: usize,
    pub(super) upstream: Arc<str>,
    pub(super) line: Line,
    pub(super) routes: HashMap<(Option<Batch>, Option<Beat>), RouteId>,
    pub(super) protection: Option<Protection>,
    /// Queries in line.
    pub(super) queued: usize,
    /// The same by when their start was due.
    waiting: BTreeMap<Tick, usize>,
    running: usize,
    /// Those of them that carry queries that keep failing.
    failing: usize,
    /// Those of them that carry one query, by its owner.
    held: HashMap<Owner, usize, ahash::RandomState>,
    width: usize,
    /// When a fetch last ended that showed the upstream alive.
    alive: Option<Tick>,
    /// Whether it is on the list of lanes to look at.
    pub(super) stirred: bool,
    /// When it is looked at again, waiting for its rate or breaker.
    pub(super) parked: Option<Tick>,
}

impl Lane {
    pub(super) fn new(
        source: usize,
        upstream: Arc<str>,
        width: usize,
        protection: Option<Protection>,
    ) -> Self {
        Self {
            source,
            upstream,
            line: Line::default(),
            routes: HashMap::new(),
            protection,
            queued: 0,
            waiting: BTreeMap::new(),
            running: 0,
            failing: 0,
            held: HashMap::default(),
            width: width.max(1),
            alive: None,
            stirred: false,
            parked: None,
        }
    }

    /// Takes the queries of the next fetch, and what to tell of it at its end. None: nothing can start
    /// before something ends or gets in line, or before a moment.
    pub(super) fn take(&mut self, look: &impl Look) -> Result<(Vec<Id>, Ran), Option<Tick>> {
        if self.queued == 0 || self.running >= self.width {
            return Err(None);
        }
        if let Some(Permit::NotBefore(until)) = self.protection.as_mut().map(Protection::check) {
            return Err(Some(until));
        }
        let may_fail = self.failing < (self.width / FAILING_SHARE).max(1);
        let most = self.width - self.width / OTHERS_SHARE;
        let held = &self.held;
        let may = |owner| held.get(&owner).is_none_or(|held| *held < most);
        // Most of a batch have been due at one moment.
        let (waiting, mut same) = (&mut self.waiting, (Tick::default(), 0));
        let taken = self.line.take(may_fail, &may, &mut |id, ticket| {
            let Some(since) = look.since(id, ticket) else { return false };
            if since != same.0 {
                count_out(waiting, same);
                same = (since, 0);
            }
            same.1 += 1;
            true
        });
        count_out(&mut self.waiting, same);
        let Some(Taken { class, ids, owner }) = taken else { return Err(None) };
        self.queued -= ids.len();
        self.running += 1;
        let failing = class == Class::Failing;
        self.failing += usize::from(failing);
        if let Some(owner) = owner {
            *self.held.entry(owner).or_default() += 1;
        }
        let probe = self.protection.as_mut().is_some_and(|protection| {
            // What shares a call is one.
            protection.started(if let [alone] = ids[..] { look.calls(alone) } else { 1 })
        });
        Ok((ids, Ran { failing, probe, owner }))
    }

    /// Takes in the end of a fetch.
    ///
    /// A failed fetch is held against the upstream, unless that has answered another one meanwhile
    /// or just before: then it is held against its own queries, as is one of queries that keep failing anyway. Being
    /// throttled is held against both: a busy upstream answers some. A fetch that never reached the
    /// upstream says nothing about it: its breaker hears of it only because a probe that was none
    /// is to be made by another.
    pub(super) fn ended(
        &mut self,
        Ran { failing, probe, owner }: Ran,
        started: Tick,
        health: &Health,
        now: Tick,
    ) -> Meaning {
        self.running -= 1;
        self.failing -= usize::from(failing);
        if let Some(owner) = owner
            && let Some(held) = self.held.get_mut(&owner)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&owner);
            }
        }
        let proof = |alive: Tick| alive > started || now.since(alive) < ALIVE;
        let own = failing || self.alive.is_some_and(proof);
        let (own, heard) = match health {
            Health::Healthy => {
                self.alive = Some(now);
                (true, true)
            }
            Health::Unasked => (true, probe),
            Health::Down(_) => (own, probe || !own),
            Health::Throttled(_) => (own, probe || !failing),
        };
        let protection = self.protection.as_mut().filter(|_| heard);
        let change = protection.and_then(|protection| protection.ended(health, probe));
        Meaning { own, change }
    }

    pub(super) fn note_waiting(&mut self, since: Tick) {
        self.queued += 1;
        *self.waiting.entry(since).or_default() += 1;
    }

    pub(super) fn note_gone(&mut self, since: Tick) {
        self.queued -= 1;
        count_out(&mut self.waiting, (since, 1));
    }

    /// How it is doing.
    pub(super) fn shown(&self, source: SourceName, now: Tick) -> Upstream {
        let overdue = self.waiting.range(..now.before(OVERDUE)).map(|(_, count)| *count).sum();
        Upstream {
            source,
            upstream: Arc::clone(&self.upstream),
            phase: self.protection.as_ref().map(Protection::phase),
            calls_per_second: self.protection.as_ref().map(Protection::allowed_per_second),
            running: self.running,
            queued: self.queued,
            overdue,
            waiting_since: self.waiting.first_key_value().map(|(since, _)| *since),
        }
    }
}

fn count_out(waiting: &mut BTreeMap<Tick, usize>, (since, gone): (Tick, usize)) {
    if let Some(count) = waiting.get_mut(&since) {
        *count -= gone;
        if *count == 0 {
            waiting.remove(&since);
        }
    }
}
