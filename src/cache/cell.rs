//! The cell that readers and the refresher share for one query.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::cache::EntryState;
use crate::model::{FetchError, Query, Sample, Tick};

/// A tick that has not come: of a cell that nobody has read, or that is not set apart.
const NEVER: u64 = 0;

/// One query's state and its dealings with the refresher.
///
/// The refresher alone writes `state` (one fetch of a query is in flight at a time); any number
/// of readers load it without a lock.
pub struct QueryCell {
    query: Arc<Query>,
    state: ArcSwap<EntryState>,
    /// Tick of the latest read, in milliseconds.
    last_read: AtomicU64,
    /// Tick at which the query became wanted, for the bound of the first read's wait.
    wanted_since: AtomicU64,
    /// Whether the refresher has the query in its schedule, or has been asked to take it.
    scheduled: AtomicBool,
    /// Set when the definition went away or the store evicted the cell: the refresher drops it.
    retired: AtomicBool,
    /// Refresh although nobody reads.
    keep_warm: AtomicBool,
    /// Refresh interval in milliseconds: the shortest that any definition of the query asks for.
    refresh_ms: AtomicU64,
    /// Fetches that carried it, since the cell was made.
    fetches: AtomicU64,
    /// Tick of the next attempt of a query that is set apart from those it could share calls with.
    apart_until: AtomicU64,
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
            scheduled: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            keep_warm: AtomicBool::new(keep_warm),
            refresh_ms: AtomicU64::new(millis(refresh)),
            fetches: AtomicU64::new(0),
            apart_until: AtomicU64::new(NEVER),
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

    /// Notes a read, which keeps the query wanted.
    pub fn touch(&self, now: Tick) {
        // Many readers within one millisecond need one store, not a fight for the cache line.
        if self.last_read.load(Ordering::Relaxed) != now.0 {
            self.last_read.store(now.0, Ordering::SeqCst);
        }
    }

    /// When it was last read.
    #[must_use]
    pub fn last_read(&self) -> Option<Tick> {
        match self.last_read.load(Ordering::SeqCst) {
            NEVER => None,
            tick => Some(Tick(tick)),
        }
    }

    /// Since when it has been wanted, this time.
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
        self.refresh_ms.store(millis(refresh), Ordering::Relaxed);
        self.keep_warm.store(keep_warm, Ordering::Relaxed);
    }

    /// Takes in the end of a fetch and wakes the readers that wait for it. Returns the state
    /// before and after, so that the caller can log a change once.
    pub fn complete(
        &self,
        result: Result<Sample, FetchError>,
        tick: Tick,
        timestamp: Timestamp,
    ) -> (Arc<EntryState>, Arc<EntryState>) {
        let before = self.state.load_full();
        let after = Arc::new(before.after(result, tick, timestamp));
        self.state.store(Arc::clone(&after));
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
