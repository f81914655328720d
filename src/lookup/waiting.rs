//! Reads that wait: for the first fetch of a query, or for the first listing of objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::cache::QueryCell;
use crate::model::{ApiError, Clock, GroupResource, Reading, Tick};

/// How often a waiting read looks again because something else is missing by then: objects are
/// listed, then a value is fetched, and in between the rules may change.
const MAX_WAIT_ROUNDS: usize = 5;

/// How long it is remembered since when readers wait for a listing. What is listed anew after that
/// was let go in between, and is waited for again.
const LISTING_REMEMBERED: Duration = Duration::from_mins(5);

/// Since when readers wait for the first listing of a resource: they share one wait.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<GroupResource, Tick>>);

impl Listings {
    /// Since when, for a reader who finds it unfinished.
    pub(super) fn since(&self, resource: &GroupResource, now: Tick) -> Tick {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.entry(resource.clone()).or_insert(now);
        if now.since(*since) > LISTING_REMEMBERED {
            *since = now;
        }
        *since
    }
}

/// One look at memory.
pub(super) enum Pass<T> {
    Done(Result<T, ApiError>),
    Wait(Waiting),
}

/// What a read waits for, and until when.
pub(super) struct Waiting {
    pub(super) until: Tick,
    /// What a read hears that has waited long enough.
    pub(super) late: ApiError,
    pub(super) end: End,
}

/// What ends the wait.
pub(super) enum End {
    /// The first fetch of a query.
    Fetch(Arc<QueryCell>),
    /// The first listing of a resource's objects.
    Listing(BoxFuture<'static, ()>),
}

/// The reading that a pass ends in; `again` takes another look after a wait.
pub(super) fn reading<T: Send + 'static>(
    pass: Pass<T>,
    clock: &Arc<dyn Clock>,
    again: impl FnOnce() -> Box<dyn Fn() -> Pass<T> + Send + Sync>,
) -> Reading<T> {
    let waiting = match pass {
        Pass::Done(result) => return Reading::Ready(result),
        Pass::Wait(waiting) if clock.tick() >= waiting.until => {
            return Reading::Ready(Err(waiting.late));
        }
        Pass::Wait(waiting) => waiting,
    };
    let (clock, again) = (Arc::clone(clock), again());
    Reading::Wait(
        async move {
            let mut waiting = waiting;
            for _round in 0..MAX_WAIT_ROUNDS {
                let left = waiting.until.since(clock.tick());
                let ended = match waiting.end {
                    End::Fetch(cell) => tokio::time::timeout(left, cell.tried()).await.is_ok(),
                    End::Listing(listed) => tokio::time::timeout(left, listed).await.is_ok(),
                };
                if !ended {
                    return Err(waiting.late);
                }
                match again() {
                    Pass::Done(result) => return result,
                    Pass::Wait(next) if clock.tick() >= next.until => return Err(next.late),
                    Pass::Wait(next) => waiting = next,
                }
            }
            Err(waiting.late)
        }
        .boxed(),
    )
}
