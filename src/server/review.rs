//! Answers of the API server that are kept for a while: token and access reviews.
//!
//! A [`Slot`] holds one answer. It is asked for at most once at a time however many requests want
//! it, the asking goes on when the request that started it is gone, a failure is told to all who
//! waited and is not kept. Not responsible for: which slots exist (the caches of
//! [`super::authn`] and [`super::authz`]).

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Semaphore, oneshot};

use super::metrics::{CacheEvent, CallOutcome, ReviewMetrics};
use crate::model::{Clock, Tick};
use crate::task::TaskSet;

/// Limit of one review, retries and waiting for a turn included; the Go server's value.
const REVIEW_LIMIT: Duration = Duration::from_secs(10);

/// Reviews of one kind at once. The API server answers one in a millisecond or two, so this is
/// thousands a second; Go's clients are held to 200 a second.
const CONCURRENT_REVIEWS: usize = 64;

/// Reviews of one kind that run or wait for a turn. Each holds what is asked until [`REVIEW_LIMIT`]
/// even when nobody waits for it any more, so without a bound, peers that ask and leave could fill
/// the memory while the API server is slow.
const REVIEWS_UNDER_WAY: usize = 2048;

/// After a refresh in the background failed, the next waits so long.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// Why a review gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The API server did not answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
    /// Too many reviews wait for the API server already.
    #[error("too many reviews wait for the API server")]
    Crowded,
    /// It could not be reached, or refused.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// For how long an answer is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// It is served for so long, counted from when it was asked for.
    pub(super) serve: Duration,
    /// If it is used after this time it is asked for again in the background.
    pub(super) refresh: Option<Duration>,
}

/// What all reviews of one kind share.
pub(super) struct Desk {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: ReviewMetrics,
    tasks: TaskSet,
    turns: Semaphore,
    room: Arc<Semaphore>,
    /// Three quarters of the room: what nobody in particular asks for leaves the rest to the
    /// aggregator, whose callers are somebody.
    room_of_nobody: Arc<Semaphore>,
    /// Whether the last call failed: only changes are worth a line in the log.
    failing: AtomicBool,
}

impl Desk {
    pub(super) fn new(tasks: &TaskSet, clock: Arc<dyn Clock>, metrics: ReviewMetrics) -> Self {
        Self {
            clock,
            metrics,
            tasks: tasks.clone(),
            turns: Semaphore::new(CONCURRENT_REVIEWS),
            room: Arc::new(Semaphore::new(REVIEWS_UNDER_WAY)),
            room_of_nobody: Arc::new(Semaphore::new(REVIEWS_UNDER_WAY * 3 / 4)),
            failing: AtomicBool::new(false),
        }
    }

    async fn bounded<V>(
        &self,
        review: impl Future<Output = Result<V, ReviewError>>,
    ) -> Result<V, ReviewError> {
        let started = self.clock.tick();
        let turn_and_review = async {
            let _turn = self.turns.acquire().await;
            review.await
        };
        let result = tokio::time::timeout(REVIEW_LIMIT, turn_and_review)
            .await
            .unwrap_or(Err(ReviewError::Timeout(REVIEW_LIMIT)));
        let outcome = match &result {
            Ok(_) => CallOutcome::Ok,
            Err(ReviewError::Timeout(_)) => CallOutcome::Timeout,
            Err(ReviewError::Failed(_) | ReviewError::Crowded) => CallOutcome::Error,
        };
        self.metrics.called(outcome, self.clock.tick().since(started));
        match &result {
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "{} reviews fail", self.metrics.kind());
            }
            Ok(_) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("{} reviews work again", self.metrics.kind());
            }
            _ => {}
        }
        result
    }
}

/// On whose behalf is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behalf {
    /// Somebody whose credentials hold, or whose credentials are what is asked about.
    Somebody,
    /// Nobody in particular.
    Nobody,
}

type Flight<V> = Shared<oneshot::Receiver<Result<V, ReviewError>>>;

struct Kept<V> {
    value: V,
    until: Tick,
    refresh_from: Option<Tick>,
}

struct State<V> {
    kept: Option<Kept<V>>,
    flight: Option<Flight<V>>,
}

/// One answer, kept or being asked for.
pub(super) struct Slot<V> {
    state: Mutex<State<V>>,
}

/// An answer that is there, or one to wait for.
pub(super) enum Demand<V> {
    Now(V),
    Wait(BoxFuture<'static, Result<V, ReviewError>>),
}

impl<V: Clone + Send + Sync + 'static> Slot<V> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { kept: None, flight: None }) }
    }

    /// The answer. `review` is called when it has to be asked for; `keep` says how long an answer
    /// lives.
    pub(super) fn demand<F>(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        behalf: Behalf,
        keep: fn(&V) -> Keep,
        review: impl FnOnce() -> F,
    ) -> Demand<V>
    where
        F: Future<Output = Result<V, ReviewError>> + Send + 'static,
    {
        let now = desk.clock.tick();
        let mut state = self.lock();
        if let Some(kept) = state.kept.as_ref().filter(|k| now < k.until) {
            let value = kept.value.clone();
            if kept.refresh_from.is_some_and(|from| from <= now) && state.flight.is_none() {
                desk.metrics.cache(CacheEvent::Refresh);
                // Nobody waits for this one.
                drop(self.launch(&mut state, (desk, behalf), now, keep, review()));
            }
            desk.metrics.cache(CacheEvent::Hit);
            return Demand::Now(value);
        }
        desk.metrics.cache(CacheEvent::Miss);
        let flight = match &state.flight {
            Some(flight) => Some(flight.clone()),
            None => self.launch(&mut state, (desk, behalf), now, keep, review()),
        };
        let Some(flight) = flight else {
            return Demand::Wait(std::future::ready(Err(ReviewError::Crowded)).boxed());
        };
        Demand::Wait(
            async move {
                flight
                    .await
                    .unwrap_or_else(|_| Err(ReviewError::Failed("the review was abandoned".into())))
            }
            .boxed(),
        )
    }

    /// Asks, unless too many are being asked.
    fn launch(
        self: &Arc<Self>,
        state: &mut State<V>,
        (desk, behalf): (&Arc<Desk>, Behalf),
        asked: Tick,
        keep: fn(&V) -> Keep,
        review: impl Future<Output = Result<V, ReviewError>> + Send + 'static,
    ) -> Option<Flight<V>> {
        let part = (behalf == Behalf::Nobody)
            .then(|| Arc::clone(&desk.room_of_nobody).try_acquire_owned())
            .transpose();
        let place = (part.ok()?, Arc::clone(&desk.room).try_acquire_owned().ok()?);
        let (answer, flight) = oneshot::channel();
        let flight = flight.shared();
        state.flight = Some(flight.clone());
        let (slot, landing) = (Arc::clone(self), Arc::clone(desk));
        desk.tasks.job("review", async move {
            // Clears the flight even if the review panics.
            let _place = place;
            let mut landed = Landing { slot, done: false };
            let result = landing.bounded(review).await;
            landed.land(&result, asked, landing.clock.tick(), keep);
            // Nobody may be waiting: a refresh, or requesters that left.
            let _ = answer.send(result);
        });
        Some(flight)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

struct Landing<V: Clone + Send + Sync + 'static> {
    slot: Arc<Slot<V>>,
    done: bool,
}

impl<V: Clone + Send + Sync + 'static> Landing<V> {
    fn land(
        &mut self,
        result: &Result<V, ReviewError>,
        asked: Tick,
        now: Tick,
        keep: fn(&V) -> Keep,
    ) {
        let mut state = self.slot.lock();
        state.flight = None;
        match result {
            Ok(value) => {
                let Keep { serve, refresh } = keep(value);
                state.kept = Some(Kept {
                    value: value.clone(),
                    until: asked.after(serve),
                    refresh_from: refresh.map(|r| asked.after(r)),
                });
            }
            // A last answer stays until it runs out.
            Err(_) => {
                if let Some(kept) = state.kept.as_mut().filter(|k| now < k.until) {
                    kept.refresh_from = Some(now.after(REFRESH_PAUSE));
                }
            }
        }
        self.done = true;
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Landing<V> {
    fn drop(&mut self) {
        if !self.done {
            self.slot.lock().flight = None;
        }
    }
}
