//! Answers that something on the way has kept: a proxy that caches gives an old value with a new
//! arrival.
//!
//! A sample's age counts from the request. That is right if the server evaluates when asked, and we
//! never ask for another time. Two things prove that it did not: an `Age` (RFC 9111, "Age": seconds
//! since the origin answered), and a time of evaluation long before the answer's own `Date`, if that
//! `Date` agrees with this machine's clock. Then the sample is older by so much. A time of evaluation
//! that merely differs from this machine's clock proves nothing, because one of the clocks may be
//! wrong: a warning says so, and the age stays.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AGE, DATE, HeaderMap};

use crate::model::Sample;

/// Differences up to this are taken for none. `VictoriaMetrics` evaluates half a minute ago
/// (`-search.latencyOffset`), and clocks differ a little.
const TOLERANCE: Duration = Duration::from_mins(1);

/// What an answer's head says about its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    date: Option<Timestamp>,
    age: Option<Duration>,
}

impl Times {
    /// Of these headers; what cannot be read is not there.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let parse = |text| DateTimeParser::new().parse_timestamp(text).ok();
        let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
        Self { date: text(DATE).and_then(parse), age: text(AGE).and_then(seconds) }
    }

    /// Makes a sample as old as it is, with a warning if that is much. It was asked for at `sent` by
    /// this machine's clock, and came `took` later.
    pub(super) fn apply(self, sample: &mut Sample, sent: Timestamp, took: Duration) {
        let tolerance = TOLERANCE.saturating_add(took);
        let evaluated = sample.timestamp;
        let is_ours = |date: &Timestamp| distance(*date, sent) <= tolerance;
        let by_date = self.date.filter(is_ours).and_then(|date| {
            Duration::try_from(date.duration_since(evaluated)).ok().filter(|kept| *kept > tolerance)
        });
        let kept = self.age.max(by_date).unwrap_or_default();
        sample.observed = sample.observed.before(kept);
        if kept > tolerance {
            sample.warnings.push(format!(
                "the answer is {} s old: something on the way to the server keeps answers, and its values count as that old",
                kept.as_secs()
            ));
        } else if distance(evaluated, sent) > tolerance {
            sample.warnings.push(format!(
                "the query was evaluated at {evaluated}, {} s from this machine's time: one of the clocks is wrong, or something on the way keeps answers",
                distance(evaluated, sent).as_secs()
            ));
        }
    }
}

fn distance(a: Timestamp, b: Timestamp) -> Duration {
    a.duration_since(b).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::model::Tick;

    const NOW: &str = "2026-11-21T12:00:00Z";
    const TICK: u64 = 10_000_000;

    /// How much older a sample gets, in seconds, and the warning's first words.
    fn kept(evaluated: &str, headers: &[(&'static str, &'static str)]) -> (u64, String) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let mut sample = Sample {
            timestamp: evaluated.parse().unwrap(),
            observed: Tick(TICK),
            series: Vec::new(),
            without_number: Vec::new(),
            warnings: Vec::new(),
        };
        let times = Times::of(&headers.collect());
        times.apply(&mut sample, NOW.parse().unwrap(), Duration::from_secs(2));
        let said = sample.warnings.concat().chars().take(19).collect();
        ((TICK - sample.observed.0) / 1000, said)
    }

    #[test]
    fn what_was_kept_counts_as_old() {
        let fresh = ("date", "Sat, 21 Nov 2026 12:00:01 GMT");
        let old = ("date", "Sat, 21 Nov 2026 11:50:00 GMT");
        let is_old = || "the answer is 600 s".to_owned();
        let differs = || "the query was evalu".to_owned();
        // Evaluated when asked; half a minute ago, by `VictoriaMetrics`; without any header.
        assert_eq!(kept(NOW, &[fresh]), (0, String::new()));
        assert_eq!(kept("2026-11-21T11:59:30Z", &[fresh]), (0, String::new()));
        assert_eq!(kept(NOW, &[]), (0, String::new()));
        // A proxy that says so, or one that dates its answers anew.
        assert_eq!(kept("2026-11-21T11:50:00Z", &[old, ("age", "600")]), (600, is_old()));
        assert_eq!(kept("2026-11-21T11:50:01Z", &[fresh]), (600, is_old()));
        assert_eq!(kept(NOW, &[fresh, ("age", "20")]), (20, String::new()));
        // The server's clock, or ours, or a proxy: nobody knows.
        assert_eq!(kept("2026-11-21T11:50:00Z", &[old]), (0, differs()));
        assert_eq!(kept("2026-11-21T11:50:00Z", &[]), (0, differs()));
        assert_eq!(kept("2026-11-21T12:10:00Z", &[fresh]), (0, differs()));
        // What is no date and no age.
        assert_eq!(kept(NOW, &[("date", "today"), ("age", "-5")]), (0, String::new()));
    }
}
