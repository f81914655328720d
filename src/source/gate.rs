//! The one door through which every upstream call goes: a concurrency bound, a deadline, metrics.
//!
//! The deadline covers the wait for a free slot, so a source whose upstream hangs answers its
//! callers in time instead of queueing them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::model::{Cause, FetchError};
use crate::source::metrics::CallMetrics;
use crate::telemetry::traces::Span;

/// An error that the gate can count, and make of its own errors.
pub(super) trait Outcome: From<FetchError> {
    /// A fixed word for metrics labels.
    fn outcome(&self) -> &'static str;
}

impl Outcome for FetchError {
    fn outcome(&self) -> &'static str {
        self.kind()
    }
}

/// Bound, deadline and metrics of one source's calls of one kind.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    slots: Arc<Semaphore>,
    limit: usize,
    timeout: Duration,
    metrics: Arc<CallMetrics>,
}

impl Gate {
    /// At most `limit` calls at once, each done within `timeout`.
    pub(super) fn new(limit: usize, timeout: Duration, metrics: CallMetrics) -> Self {
        // Settings refuse zero; a semaphore has a (huge) greatest number of permits.
        let permits = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(permits)),
            limit,
            timeout,
            metrics: Arc::new(metrics),
        }
    }

    /// How many calls may run at once.
    pub(super) fn width(&self) -> usize {
        self.limit.max(1)
    }

    /// How long one fetch may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The metrics, for what only the call itself can count.
    pub(super) fn metrics(&self) -> &Arc<CallMetrics> {
        &self.metrics
    }

    /// When a fetch that starts now has to be done.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Waits for a slot, then calls. Several calls of one fetch share its `deadline`. `about` stands
    /// in front of the gate's own messages.
    ///
    /// # Errors
    /// What the call gives, or [`FetchError::Timeout`] at the deadline.
    pub(super) async fn call<T, E: Outcome>(
        &self,
        deadline: Instant,
        about: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let timeout =
            |text: String| FetchError::Timeout(Cause::new(format!("{about}{text}"))).into();
        let slot = tokio::time::timeout_at(deadline, self.slots.acquire()).await;
        // The semaphore is never closed, so an inner error cannot occur; treated alike.
        let Ok(Ok(_slot)) = slot else {
            self.metrics.saturated();
            return Err(timeout(format!(
                "no call could start within {:?}: the source's {} slots (maxConcurrent) were all waiting for answers",
                self.timeout, self.limit
            )));
        };
        let guard = self.metrics.start();
        let started = Instant::now();
        let span = Span::call(self.metrics.source(), self.metrics.kind());
        let result = match tokio::time::timeout_at(deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(timeout(format!("no answer within {:?}", self.timeout))),
        };
        let outcome = result.as_ref().map_or_else(E::outcome, |_| "ok");
        span.end(outcome, result.is_err().then_some(outcome));
        guard.end(outcome, started.elapsed());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SourceName;
    use crate::source::Metrics;
    use crate::telemetry::Telemetry;

    fn gate(limit: usize, telemetry: &Telemetry) -> Gate {
        let metrics = Metrics::register(telemetry).for_calls(&SourceName::new("main"), "test");
        Gate::new(limit, Duration::from_secs(5), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_call_ends_at_the_deadline() {
        let telemetry = Telemetry::new();
        let gate = gate(1, &telemetry);
        let start = Instant::now();
        let result: Result<(), FetchError> =
            gate.call(gate.deadline(), "", std::future::pending()).await;
        assert_eq!(result, Err(FetchError::Timeout(Cause::new("no answer within 5s"))));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let text = telemetry.encode();
        assert!(
            text.contains(
                "tidepole_upstream_calls_total{source=\"main\",kind=\"test\",outcome=\"timeout\"} 1"
            ),
            "{text}"
        );
        assert!(
            text.contains("tidepole_upstream_in_flight{source=\"main\",kind=\"test\"} 0"),
            "{text}"
        );
        assert!(text.contains("tidepole_upstream_call_duration_seconds_sum"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_slot_counts_into_the_deadline() {
        let telemetry = Telemetry::new();
        let gate = gate(1, &telemetry);
        let deadline = gate.deadline();
        let (first, second) = tokio::join!(
            gate.call::<(), FetchError>(
                deadline + Duration::from_secs(9),
                "",
                std::future::pending()
            ),
            gate.call::<(), FetchError>(deadline, "", async { Ok(()) }),
        );
        assert_eq!(first.map_err(|e| e.kind()), Err("timeout"));
        let text = second.unwrap_err().to_string();
        assert_eq!(
            text,
            "no call could start within 5s: the source's 1 slots (maxConcurrent) were all waiting for answers"
        );
        assert!(telemetry.encode().contains("outcome=\"saturated\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_frees_its_slot_and_is_counted() {
        let telemetry = Telemetry::new();
        let gate = gate(1, &telemetry);
        let hanging = gate.call::<(), FetchError>(gate.deadline(), "", std::future::pending());
        assert!(tokio::time::timeout(Duration::from_secs(1), hanging).await.is_err());
        assert_eq!(gate.call(gate.deadline(), "", async { Ok::<_, FetchError>(7) }).await, Ok(7));
        let text = telemetry.encode();
        assert!(text.contains("outcome=\"cancelled\"} 1"), "{text}");
        assert!(
            text.contains("tidepole_upstream_in_flight{source=\"main\",kind=\"test\"} 0"),
            "{text}"
        );
    }
}
