//! The cell that readers and the refresher share for one query.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::cache::{EntryState, History, PHASES, Point, ReadPhases};
use crate::model::{CLAIM_LAPSE, Cause, Claim, Entry, FetchError, Query, Sample, Tick};

/// A tick that has not come: of a cell that nobody has read, to which no HPA has referred, or that is
/// not set apart.
const NEVER: u64 = 0;

/// No bound on the series of an answer: no source lets so many through.
const ANY_SERIES: u32 = u32::MAX;

/// One query's state and its dealings with the refresher.
///
/// The refresher alone writes `state` (one fetch of a query is in flight at a time); any number
/// of readers load it without a lock.
pub struct QueryCell {
    query: Arc<Query>,
    state: ArcSwap<EntryState>,
    /// Tick of the latest read, in milliseconds.
    last_read: AtomicU64,
    /// Tick at which the query became wanted, or at which the first reader came for one that was
    /// only announced: from here the first read's wait counts.
    wanted_since: AtomicU64,
    /// Whether a reader has waited for the first fetch, or will.
    awaited: AtomicBool,
    /// While `claimants` is above zero the round of the latest claim, afterwards the tick at which
    /// the last one was taken back.
    claim: AtomicU64,
    /// HPAs that refer to the query.
    claimants: AtomicU32,
    /// Whether the refresher has the query in its schedule, or has been asked to take it.
    scheduled: AtomicBool,
    /// A hash of the namespace of its definition; see [`QueryCell::owner`].
    owner: AtomicU32,
    /// The first definition that asks it, for messages, and how many others do.
    definition: ArcSwapOption<Entry>,
    others: AtomicU32,
    /// Where the refresher has it in its schedule; of no meaning to others.
    place: AtomicU32,
    /// Set when the definition went away or the store evicted the cell: the refresher drops it.
    retired: AtomicBool,
    /// Refresh although nobody reads.
    keep_warm: AtomicBool,
    /// Refresh interval in milliseconds: the shortest that any definition of the query asks for.
    refresh_ms: AtomicU64,
    /// Most series in an answer; [`ANY_SERIES`] is no bound.
    most_series: AtomicU32,
    /// Fetches that carried it, since the cell was made.
    fetches: AtomicU64,
    /// Tick of the next attempt of a query that is set apart from those it could share calls with.
    apart_until: AtomicU64,
    /// When in the refresh interval it is read.
    phases: ReadPhases,
    /// What its fetches of the last hour said, for people.
    history: History,
    /// Woken at the end of every fetch.
    fetched: Notify,
}

impl QueryCell {
    /// A cell that has heard nothing yet.
    #[must_use]
    pub fn new(query: Arc<Query>, refresh: Duration, keep_warm: bool) -> Self {
        Self {
            query,
            state: ArcSwap::from_pointee(EntryState::default()),
            last_read: AtomicU64::new(NEVER),
            wanted_since: AtomicU64::new(NEVER),
            awaited: AtomicBool::new(false),
            claim: AtomicU64::new(NEVER),
            claimants: AtomicU32::new(0),
            scheduled: AtomicBool::new(false),
            owner: AtomicU32::new(0),
            definition: ArcSwapOption::empty(),
            others: AtomicU32::new(0),
            place: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            keep_warm: AtomicBool::new(keep_warm),
            refresh_ms: AtomicU64::new(millis(refresh)),
            most_series: AtomicU32::new(ANY_SERIES),
            fetches: AtomicU64::new(0),
            apart_until: AtomicU64::new(NEVER),
            phases: ReadPhases::default(),
            history: History::default(),
            fetched: Notify::new(),
        }
    }

    /// The query.
    #[must_use]
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> Guard<Arc<EntryState>> {
        self.state.load()
    }

    /// What its fetches of the hour before `now` said, oldest first.
    #[must_use]
    pub fn history(&self, now: Tick) -> Vec<Point> {
        self.history.points(now)
    }

    /// Notes a read, which keeps the query wanted.
    pub fn touch(&self, now: Tick) {
        self.phases.note(now, self.refresh());
        // Many readers within one millisecond need one store, not a fight for the cache line.
        if self.last_read.load(Ordering::Relaxed) != now.0 {
            self.last_read.store(now.0, Ordering::SeqCst);
        }
    }

    /// Reads by their phase in the refresh interval; they fade with every look.
    #[must_use]
    pub fn take_phases(&self) -> [u16; PHASES] {
        self.phases.take()
    }

    /// When it was last read.
    #[must_use]
    pub fn last_read(&self) -> Option<Tick> {
        match self.last_read.load(Ordering::SeqCst) {
            NEVER => None,
            tick => Some(Tick(tick)),
        }
    }

    /// Notes HPAs that refer to the query, which keeps it wanted; nobody has read it by that. For
    /// one caller at a time.
    pub fn claim(&self, claim: Claim) {
        if claim.hpas == 0 {
            return;
        }
        let same_round = self.claim.load(Ordering::SeqCst) == claim.round.0;
        let before = if same_round { self.claimants.load(Ordering::SeqCst) } else { 0 };
        // In this order a look in between finds a claim of an earlier time, never a release.
        self.claimants.store(before.saturating_add(claim.hpas), Ordering::SeqCst);
        self.claim.store(claim.round.0, Ordering::SeqCst);
    }

    /// Takes a claim of the same round back. For the caller that made it.
    pub fn release(&self, claim: Claim, now: Tick) {
        let claimants = self.claimants.load(Ordering::SeqCst);
        if claimants == 0 || self.claim.load(Ordering::SeqCst) != claim.round.0 {
            return;
        }
        let left = claimants.saturating_sub(claim.hpas);
        if left == 0 {
            // In this order a look in between finds a claim.
            self.claim.store(now.0, Ordering::SeqCst);
        }
        self.claimants.store(left, Ordering::SeqCst);
    }

    /// Whether HPAs refer to it at `now`.
    #[must_use]
    pub fn hold(&self, now: Tick) -> Hold {
        let at = Tick(self.claim.load(Ordering::SeqCst));
        match self.claimants.load(Ordering::SeqCst) {
            _ if at.0 == NEVER => Hold::Free,
            0 => Hold::Released(at),
            hpas if now.since(at) <= CLAIM_LAPSE => Hold::Claimed(hpas),
            _ => Hold::Free,
        }
    }

    /// Notes that a reader is going to wait for the first fetch. True for the first one since the
    /// query became wanted (and maybe for another at the same moment): the fetch is to be hurried.
    pub fn await_first(&self, now: Tick) -> bool {
        if self.awaited.load(Ordering::SeqCst) {
            return false;
        }
        // In this order: whoever finds it awaited finds the time from which the wait counts.
        self.wanted_since.store(now.0, Ordering::SeqCst);
        self.awaited.store(true, Ordering::SeqCst);
        true
    }

    /// Whether somebody waits for the first fetch: it goes before those that nobody waits for.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) && !self.state.load().is_tried()
    }

    /// From when the wait for the first fetch counts.
    #[must_use]
    pub fn wanted_since(&self) -> Tick {
        Tick(self.wanted_since.load(Ordering::SeqCst))
    }

    /// Whether the refresher has it in its schedule.
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        self.scheduled.load(Ordering::SeqCst)
    }

    /// Claims the right to hand the cell to the refresher; true for exactly one caller until
    /// [`QueryCell::unschedule`].
    pub fn claim_schedule(&self, now: Tick) -> bool {
        let claimed = self
            .scheduled
            .compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if claimed {
            self.wanted_since.store(now.0, Ordering::SeqCst);
        }
        claimed
    }

    /// Gives the claim back.
    pub fn unschedule(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    /// Whose query it is when there is not enough for all: owners take turns. A hash of the
    /// namespace of its definition; all cluster-wide definitions are one owner, 0.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Notes whose query it is: a definition of this namespace, or a cluster-wide one.
    pub fn set_owner(&self, namespace: Option<&str>) {
        // Fixed seeds: the same in every process. Two that clash share a turn, which does no harm.
        let hasher = ahash::RandomState::with_seeds(5, 6, 7, 8);
        let hash = namespace.map_or(0, |namespace| hasher.hash_one(namespace).max(1));
        let [a, b, c, d, ..] = hash.to_le_bytes();
        self.owner.store(u32::from_le_bytes([a, b, c, d]), Ordering::Relaxed);
    }

    /// Notes who asks the query: a definition, whose it then is, and how many further ones.
    pub fn set_definition(&self, entry: &Arc<Entry>, others: usize) {
        self.set_owner(entry.id.namespace.as_deref());
        self.others.store(u32::try_from(others).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.definition.store(Some(Arc::clone(entry)));
    }

    /// The first definition that asks the query, if one was noted.
    #[must_use]
    pub fn asked_by(&self) -> Option<Arc<Entry>> {
        self.definition.load_full()
    }

    /// Who asks the query, for the log: `ExternalMetric shop/orders and 2 others`. Empty where no
    /// definition was noted.
    #[must_use]
    pub fn definition(&self) -> String {
        let definition = self.definition.load();
        let Some(entry) = &*definition else { return String::new() };
        match self.others.load(Ordering::Relaxed) {
            0 => entry.id.to_string(),
            1 => format!("{} and 1 other", entry.id),
            others => format!("{} and {others} others", entry.id),
        }
    }

    /// Notes where the refresher has it in its schedule.
    pub fn set_place(&self, place: u32) {
        self.place.store(place, Ordering::Relaxed);
    }

    /// Where the refresher had it in its schedule when it last entered.
    #[must_use]
    pub fn place(&self) -> u32 {
        self.place.load(Ordering::Relaxed)
    }

    /// Notes that a fetch that carries the query starts.
    pub fn note_fetch(&self) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    /// How many fetches have carried the query since the cell was made, a shared one included.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Notes whether the query is set apart: an upstream refused it, so it shares no call and is
    /// tried again at `until`.
    pub fn set_apart(&self, until: Option<Tick>) {
        self.apart_until.store(until.map_or(NEVER, |tick| tick.0), Ordering::Relaxed);
    }

    /// When it is tried again, if it is set apart.
    #[must_use]
    pub fn apart_until(&self) -> Option<Tick> {
        match self.apart_until.load(Ordering::Relaxed) {
            NEVER => None,
            tick => Some(Tick(tick)),
        }
    }

    /// Forgets everything that was fetched: the next read is a first read again, and its wait
    /// counts from now. What was counted stays.
    pub fn reset(&self, now: Tick) {
        self.set_apart(None);
        self.phases.forget();
        self.history.forget();
        self.awaited.store(false, Ordering::SeqCst);
        self.wanted_since.store(now.0, Ordering::SeqCst);
        self.state.store(Arc::new(EntryState::default()));
    }

    /// Marks the cell as no longer reachable by readers, and sends away those that wait for it.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.fetched.notify_waiters();
    }

    /// Whether readers can no longer reach it.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Refresh although nobody reads?
    #[must_use]
    pub fn keep_warm(&self) -> bool {
        self.keep_warm.load(Ordering::Relaxed)
    }

    /// The refresh interval.
    #[must_use]
    pub fn refresh(&self) -> Duration {
        Duration::from_millis(self.refresh_ms.load(Ordering::Relaxed))
    }

    /// Takes over what the definitions that use this query now ask for.
    pub fn set_pace(&self, refresh: Duration, keep_warm: bool) {
        if self.refresh_ms.swap(millis(refresh), Ordering::Relaxed) != millis(refresh) {
            self.phases.forget();
        }
        self.keep_warm.store(keep_warm, Ordering::Relaxed);
    }

    /// Sets a bound on the series of an answer, or none, from the next fetch on.
    pub fn set_most_series(&self, most: Option<usize>) {
        let most = most.and_then(|most| u32::try_from(most).ok()).unwrap_or(ANY_SERIES);
        self.most_series.store(most, Ordering::Relaxed);
    }

    /// An answer within the bound on its series, or why it is refused.
    ///
    /// # Errors
    /// With the error that it came with, or when it has too many series.
    pub fn within_bound(&self, answer: Result<Sample, FetchError>) -> Result<Sample, FetchError> {
        let sample = answer?;
        let (most, count) = (self.most_series.load(Ordering::Relaxed), sample.series.len());
        if most != ANY_SERIES && u32::try_from(count).is_ok_and(|count| count > most) {
            let message = format!(
                "the answer has {count} series, and {most} are allowed to a definition of a namespace (resources.maxSeries); aggregate them in the query"
            );
            return Err(FetchError::Invalid(Cause::new(message)));
        }
        Ok(sample)
    }

    /// Takes in the end of a fetch and wakes the readers that wait for it. Returns the state
    /// before and after, so that the caller can log a change once.
    pub fn complete(
        &self,
        result: Result<Sample, FetchError>,
        tick: Tick,
        timestamp: Timestamp,
    ) -> (Arc<EntryState>, Arc<EntryState>) {
        let definition = self.definition.load();
        let transform = definition.as_ref().map(|entry| &*entry.transform);
        self.history.note(Point::of(&result, transform, tick));
        let before = self.state.load_full();
        let after = Arc::new(before.after(result, tick, timestamp));
        self.state.store(Arc::clone(&after));
        self.awaited.store(false, Ordering::SeqCst);
        self.fetched.notify_waiters();
        (before, after)
    }

    /// Waits until some fetch has ended. Returns at once when one has.
    pub async fn tried(&self) {
        loop {
            let woken = self.fetched.notified();
            tokio::pin!(woken);
            // Register before looking, so that a fetch that ends in between is not missed.
            woken.as_mut().enable();
            if self.state.load().is_tried() || self.is_retired() {
                return;
            }
            woken.await;
        }
    }
}

impl fmt::Debug for QueryCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryCell").field("query", &self.query).finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What HPAs in the cluster have to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None refers to it, as far as is known.
    Free,
    /// This many refer to it.
    Claimed(u32),
    /// The last one that did went at this tick.
    Released(Tick),
}

/// What became of a wish to have a query refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is, or will be, in the schedule.
    Accepted,
    /// The refresher's queue is full; nothing will happen unless somebody asks again.
    Full,
}

/// Who refreshes queries: the refresher, as seen by readers.
pub trait Demand: Send + Sync + 'static {
    /// Wants a query refreshed from now on. Cheap, never blocks.
    fn want(&self, cell: &Arc<QueryCell>) -> Admission;

    /// Somebody waits for the first fetch of a query that was wanted before: it should go before
    /// those that nobody waits for. Cheap, never blocks.
    fn hurry(&self, _cell: &Arc<QueryCell>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decimal, QuerySpec, SimulatedQuery, SourceName};

    fn cell() -> QueryCell {
        let query = Query {
            source: SourceName::new("sim"),
            spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::ONE)),
        };
        QueryCell::new(Arc::new(query), Duration::from_secs(15), false)
    }

    #[test]
    fn one_claimant_at_a_time() {
        let cell = cell();
        assert!(cell.claim_schedule(Tick(7)));
        assert!(!cell.claim_schedule(Tick(8)));
        assert_eq!(cell.wanted_since(), Tick(7));
        cell.unschedule();
        assert!(cell.claim_schedule(Tick(9)));
    }

    #[test]
    fn claims_of_a_round_add_up_and_are_no_reads() {
        let (cell, claim) = (cell(), |round, hpas| Claim { round: Tick(round), hpas });
        assert_eq!(cell.hold(Tick(900)), Hold::Free);
        cell.claim(claim(1000, 2));
        cell.claim(claim(1000, 3));
        cell.claim(claim(1000, 0));
        assert_eq!(cell.hold(Tick(1000)), Hold::Claimed(5));
        assert_eq!(cell.last_read(), None);
        cell.claim(claim(61_000, 4));
        assert_eq!(cell.hold(Tick(61_000)), Hold::Claimed(4), "a new round counts anew");
        cell.release(claim(1000, 4), Tick(61_500));
        assert_eq!(cell.hold(Tick(61_500)), Hold::Claimed(4), "of another round");
        cell.release(claim(61_000, 1), Tick(62_000));
        assert_eq!(cell.hold(Tick(62_000)), Hold::Claimed(3));
        cell.release(claim(61_000, 3), Tick(63_000));
        assert_eq!(cell.hold(Tick(900_000)), Hold::Released(Tick(63_000)));
        cell.release(claim(61_000, 3), Tick(64_000));
        assert_eq!(cell.hold(Tick(900_000)), Hold::Released(Tick(63_000)));
        cell.claim(claim(61_000, 1));
        assert_eq!(cell.hold(Tick(65_000)), Hold::Claimed(1), "it came back");
    }

    #[test]
    fn a_claim_that_is_not_renewed_lapses() {
        let cell = cell();
        cell.claim(Claim { round: Tick(1000), hpas: 1 });
        assert_eq!(cell.hold(Tick(1000).after(CLAIM_LAPSE)), Hold::Claimed(1));
        assert_eq!(cell.hold(Tick(1001).after(CLAIM_LAPSE)), Hold::Free);
    }

    #[test]
    fn the_wait_for_an_announced_query_counts_from_its_first_reader() {
        let cell = cell();
        assert!(cell.claim_schedule(Tick(1000)));
        assert!(!cell.is_awaited());
        assert!(cell.await_first(Tick(9000)));
        assert!(!cell.await_first(Tick(9500)));
        assert_eq!((cell.is_awaited(), cell.wanted_since()), (true, Tick(9000)));
        cell.complete(Err(FetchError::Timeout("x".into())), Tick(1), Timestamp::UNIX_EPOCH);
        assert!(!cell.is_awaited());
    }

    #[tokio::test]
    async fn waiting_readers_wake_when_the_first_fetch_ends() {
        let cell = Arc::new(cell());
        let mut waiting = Box::pin(cell.tried());
        assert!(futures::poll!(&mut waiting).is_pending());
        cell.complete(Err(FetchError::Timeout("slow".into())), Tick(1), Timestamp::UNIX_EPOCH);
        waiting.await;
        cell.tried().await;
    }
}
