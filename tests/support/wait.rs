//! Waiting for something to become true: looked at again and again, until a deadline.

use std::time::{Duration, Instant};

/// How long anything may take that is not itself about time. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until the look gives `Ok`; panics with the last `Err` at the deadline.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = match look().await {
            Ok(seen) => return seen,
            Err(last) => last,
        };
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; last seen: {last}");
        tokio::time::sleep(PAUSE).await;
    }
}
