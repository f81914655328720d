//! Overload: how many requests may wait at once, and what happens to the others.
//!
//! A request whose answer is in memory never comes here: it is answered at any load, and so are
//! health paths. Those that wait (for a review of the cluster, for the first value of a metric) hold
//! memory meanwhile and can pile up when what they wait for is slow. Beyond the bound they are
//! refused at once, by a 429 without `Retry-After`, and what they asked for is under way
//! nevertheless.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::authn::Standing;
use super::metrics::ConnectionMetrics;
use crate::model::ApiError;

/// Refusals are mentioned in the log at most so often; each is counted.
const TELL_PAUSE: Duration = Duration::from_mins(1);

/// Places for requests that wait.
pub(super) struct Crowd {
    limit: usize,
    all: Arc<Semaphore>,
    /// Three quarters of them, as of connections: whoever makes the cluster review a thousand
    /// tokens does not keep the aggregator's requests out.
    strangers: Arc<Semaphore>,
    told: Mutex<Option<Instant>>,
    metrics: Arc<ConnectionMetrics>,
}

/// The place of one waiting request, given back when dropped.
pub(super) struct Place {
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    metrics: Arc<ConnectionMetrics>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.waiting.dec();
    }
}

impl Crowd {
    /// Room for so many.
    pub(super) fn new(limit: usize, metrics: Arc<ConnectionMetrics>) -> Self {
        Self {
            limit,
            all: Arc::new(Semaphore::new(limit)),
            strangers: Arc::new(Semaphore::new(limit * 3 / 4)),
            told: Mutex::default(),
            metrics,
        }
    }

    /// A place for a request that has to wait.
    pub(super) fn enter(&self, standing: Standing) -> Result<Place, ApiError> {
        let part = match standing {
            Standing::Stranger => Some(Arc::clone(&self.strangers).try_acquire_owned()),
            Standing::FrontProxy | Standing::User => None,
        };
        let all = Arc::clone(&self.all).try_acquire_owned();
        if let (Ok(all), Ok(part)) = (all, part.transpose()) {
            self.metrics.waiting.inc();
            return Ok(Place { _permits: (all, part), metrics: Arc::clone(&self.metrics) });
        }
        self.metrics.shed.inc();
        self.tell();
        Err(ApiError::Overloaded(format!(
            "too many requests wait for their answers; server.limits.requests is {}, and this one \
             would have to wait, too",
            self.limit
        )))
    }

    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|then| then.elapsed() >= TELL_PAUSE) {
            *told = Some(Instant::now());
            tracing::warn!(
                limit = self.limit,
                "too many requests wait, others are refused that would have to"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn strangers_never_take_every_place_and_places_come_back() {
        let metrics = Arc::new(ConnectionMetrics::register(&Telemetry::new()));
        let crowd = Crowd::new(4, Arc::clone(&metrics));
        let mut places: Vec<Place> =
            (0..3).map(|_| crowd.enter(Standing::Stranger).ok().unwrap()).collect();
        assert!(crowd.enter(Standing::Stranger).is_err());
        places.push(crowd.enter(Standing::FrontProxy).ok().unwrap());
        assert_eq!(metrics.waiting.get(), 4);
        let refusal = crowd.enter(Standing::FrontProxy).err().unwrap();
        assert!(refusal.to_string().contains("server.limits.requests is 4"), "{refusal}");
        assert_eq!(metrics.shed.get(), 2);
        drop(places);
        assert_eq!(metrics.waiting.get(), 0);
        assert!(crowd.enter(Standing::User).is_ok());
    }
}
