//! How an upstream is protected from too many calls.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bounds of the calls to one upstream (service, region and role; a Prometheus server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectionSettings {
    /// Calls per second, and the burst that is allowed after a pause.
    pub calls_per_second: NonZeroU32,
    /// Failed or throttled calls in a row that open the breaker.
    pub failures_to_open: u32,
    /// Longest pause before the first probe; it doubles with each probe that fails.
    pub first_pause: Duration,
    /// Longest pause between two probes.
    pub max_pause: Duration,
    /// The longest that one call takes.
    pub call_timeout: Duration,
}
