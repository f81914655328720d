//! This machine's clock against the service's, from the `Date` of its answers.
//!
//! Which buckets are complete is the service's to say, by its clock: a machine whose clock is ahead
//! would take a bucket for complete that is half filled. An HTTP date has whole seconds and no
//! statement about the way, so only what is certain counts: if we sent a request at a later time than
//! the answer to it carries, then we are ahead by at least the difference.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_cloudwatch::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_cloudwatch::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudwatch::error::BoxError;
use aws_sdk_cloudwatch::primitives::{DateTime, DateTimeFormat};
use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;

use crate::model::SourceName;
use crate::source::aws::upstream::Upstream;

/// An HTTP date is cut to whole seconds.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Differences up to this are taken for none: clocks that are kept right differ by less, and a bucket
/// is read a moment after its end.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Differences beyond this are told to people.
const REMARKABLE: Duration = Duration::from_secs(30);

/// Upstreams of which a difference is remembered as told: an AWS source has no more.
const MAX_TOLD: usize = 256;

/// How one answer's time compares to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The service's time when it answered, at the latest.
    pub served: Timestamp,
    /// By how much our clock is ahead, at least; if negative, by how much it is behind.
    pub ahead_seconds: i64,
}

impl Skew {
    /// Of a request that was sent and answered at these times of ours.
    fn of(sent: Timestamp, received: Timestamp, date: Timestamp) -> Self {
        let served = date.checked_add(RESOLUTION).unwrap_or(date);
        let ahead = sent.duration_since(served).as_secs();
        let behind = date.duration_since(received).as_secs();
        let ahead_seconds = if ahead > 0 { ahead } else { -behind.max(0) };
        Self { served, ahead_seconds }
    }

    /// Whether our clock cannot tell what is complete.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.ahead_seconds > 0 && self.is_beyond(TOLERANCE)
    }

    /// Whether a person should know.
    #[must_use]
    pub fn is_remarkable(&self) -> bool {
        self.is_beyond(REMARKABLE)
    }

    fn is_beyond(&self, limit: Duration) -> bool {
        self.ahead_seconds.unsigned_abs() > limit.as_secs()
    }
}

/// Where differences are told.
#[derive(Debug)]
pub(super) struct Clocks {
    ahead: Gauge,
    told: Mutex<HashSet<Upstream>>,
}

impl Clocks {
    /// Nothing told yet.
    pub(super) fn new(ahead: Gauge) -> Self {
        Self { ahead, told: Mutex::default() }
    }

    /// Shows a difference, and logs a large one once for each upstream until it has gone.
    pub(super) fn tell(&self, source: &SourceName, upstream: Upstream, skew: Skew) {
        self.ahead.set(skew.ahead_seconds);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !skew.is_remarkable() {
            told.remove(&upstream);
            return;
        }
        if told.len() >= MAX_TOLD || told.contains(&upstream) {
            return;
        }
        let (source, seconds) = (source.as_str(), skew.ahead_seconds.unsigned_abs());
        if skew.is_ahead() {
            tracing::warn!(source, %upstream, seconds, "this machine's clock is ahead of CloudWatch's: values are older than they could be, because only buckets that are complete by CloudWatch's clock count; set the clock right");
        } else {
            tracing::warn!(source, %upstream, seconds, "this machine's clock is behind CloudWatch's: values are older than they could be; set the clock right");
        }
        told.insert(upstream);
    }
}

/// Reads the `Date` of the first answer that comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Dates(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    sent: Option<Timestamp>,
    date: Option<Timestamp>,
}

impl Dates {
    /// A request goes out now.
    pub(super) fn sent(&self, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.sent.get_or_insert(now);
    }

    /// How the clocks compare, if an answer with a date has come. Now is after it.
    pub(super) fn skew(&self, now: Timestamp) -> Option<Skew> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Skew::of(seen.sent?, now, seen.date?))
    }
}

impl Intercept for Dates {
    fn name(&self) -> &'static str {
        "Dates"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(parse) {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.date.get_or_insert(date);
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let date = DateTime::from_str(text, DateTimeFormat::HttpDate).ok()?;
    Timestamp::from_second(date.secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_a_difference() {
        let at =
            |second: &str| -> Timestamp { format!("2026-11-21T12:00:{second}Z").parse().unwrap() };
        let date = parse("Sat, 21 Nov 2026 12:00:30 GMT").unwrap();
        assert_eq!(date, at("30"));
        for (sent, received, ahead, is_ahead) in [
            // The answer took ten seconds: the service may have sent it at any time of these.
            ("25", "35", 0, false),
            ("30.9", "31", 0, false),
            ("32.5", "33", 1, false),
            ("36.9", "37", 5, false),
            ("37.1", "59", 6, true),
            ("10", "11", -19, false),
        ] {
            let skew = Skew::of(at(sent), at(received), date);
            assert_eq!((skew.ahead_seconds, skew.is_ahead()), (ahead, is_ahead), "{sent}");
            assert_eq!((skew.served, skew.is_remarkable()), (at("31"), false));
        }
        let far = Skew::of(at("30"), at("30"), parse("Sat, 21 Nov 2026 12:01:05 GMT").unwrap());
        assert_eq!((far.ahead_seconds, far.is_ahead(), far.is_remarkable()), (-35, false, true));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(Dates::default().skew(at("30")), None);
    }
}
