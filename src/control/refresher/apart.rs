//! Queries that an upstream refuses although they could share calls with others.
//!
//! A refused query may cost its whole batch the call, or a second one to find it. From its first
//! refusal on it goes alone, at growing pauses, until the upstream answers it once. A query that
//! left the schedule starts anew when it comes back.

use std::time::Duration;

use crate::control::schedule::spread;
use crate::model::{Query, Tick};

/// The longest pause, unless the refresh interval is longer: a definition's author who mends what
/// is outside the definition (the metric, a permission) waits no longer than a coffee takes.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// Retries of queries that were refused together are spread over this share of their pause.
const SPREAD: u32 = 4;

/// The pause after so many refusals in a row: 1, 2, 4, 8 ... refresh intervals.
pub(super) fn pause(refresh: Duration, refusals: u8) -> Duration {
    let doublings = u32::from(refusals.saturating_sub(1)).min(30);
    refresh.saturating_mul(1 << doublings).min(LONGEST_PAUSE.max(refresh))
}

/// When a query that was refused for the `refusals`th time in a row is tried again: after the
/// pause and up to a quarter of it, differently for every query.
pub(super) fn retry_at(now: Tick, query: &Query, refresh: Duration, refusals: u8) -> Tick {
    let pause = pause(refresh, refusals);
    now.after(pause + spread(query, pause / SPREAD))
}

/// How long after failed calls in a row a query on a beat is tried again, if its next bucket does
/// not come first: 5, 10, 20 ... seconds, 30, 60 ... if the upstream asks for fewer calls. Three
/// tries in a minute, after which a minute's bucket has come.
pub(super) fn after_failures(failures: u32, throttled: bool) -> Duration {
    let first = Duration::from_secs(if throttled { 30 } else { 5 });
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour_or_the_refresh_interval() {
        let seconds =
            |refresh_s, refusals| pause(Duration::from_secs(refresh_s), refusals).as_secs();
        let of_a_minute: Vec<_> = [1, 2, 3, 4, 5, 6, 255].map(|n| seconds(60, n)).to_vec();
        assert_eq!(of_a_minute, [60, 120, 240, 480, 900, 900, 900]);
        assert_eq!([1, 2, 9].map(|n| seconds(3600, n)), [3600; 3]);
        assert_eq!(pause(Duration::MAX, 255), Duration::MAX);
    }
}
