//! The sentences about what a definition has, and has not: for readers, and for the status of a
//! metric resource, so that both are told the same.

use std::fmt::Write;
use std::time::Duration;

use crate::cache::{EntryState, View};
use crate::model::{Entry, Quantity, Query, Tick};

/// Why a definition has nothing to serve: metric, namespace, source and cause, and what became of
/// the last good value.
#[must_use]
pub fn no_value(
    entry: &Entry,
    namespace: &str,
    query: &Query,
    state: &EntryState,
    view: &View<'_>,
    now: Tick,
) -> String {
    let mut text = format!("{} in {namespace}: ", named(entry));
    let max_age = show(entry.policy.max_age);
    match view {
        View::NoData(no_data) => {
            let _ = write!(text, "{} (source {})", no_data.cause, query.source);
        }
        View::Failed(failure) => {
            let _ = write!(text, "{} (source {})", failure.error, query.source);
        }
        // It answers, and what it has is old: a metric that nobody fills any more.
        View::Expired
            if state.answered().is_some_and(|at| now.since(at) <= entry.policy.max_age) =>
        {
            let _ = write!(text, "source {} has no newer datapoint", query.source);
        }
        View::Expired => {
            let _ = write!(
                text,
                "source {} has not answered for longer than maxAge {max_age}",
                query.source
            );
        }
        View::Waiting | View::Fresh(_) | View::Servable(_) | View::Chosen(..) => {
            let _ = write!(text, "no value (source {})", query.source);
        }
    }
    if let Some(sample) = state.last_sample() {
        let value = match &sample.series[..] {
            [one] => Quantity::from_decimal(&entry.transform.apply(&one.value)).to_string(),
            many => format!("of {} series", many.len()),
        };
        let at = sample.timestamp.strftime("%H:%M:%SZ");
        let held = now.since(sample.observed) <= entry.policy.max_age;
        let fate = if held { "is not used because of onNoData" } else { "is older than maxAge" };
        let _ = write!(text, "; last good value {value} at {at} {fate}");
        if !held {
            let _ = write!(text, " {max_age}");
        }
    }
    text
}

/// A definition's metric, with its labels or what it is about.
#[must_use]
pub fn named(entry: &Entry) -> String {
    match &entry.objects {
        Some(of) => format!("{} of {}", entry.metric, of.resource),
        None if entry.labels.is_empty() => entry.metric.to_string(),
        None => format!("{}{}", entry.metric, entry.labels),
    }
}

/// A duration as people write it in definitions: `2m`, `1h30m`, `500ms`.
#[must_use]
pub fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = millis % 60_000;
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    if !seconds.is_multiple_of(1000) {
        let fraction = format!("{:03}", seconds % 1000);
        let _ = write!(text, "{}.{}s", seconds / 1000, fraction.trim_end_matches('0'));
    } else if seconds > 0 {
        let _ = write!(text, "{}s", seconds / 1000);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_definitions() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (2000, "2s"),
            (1500, "1.5s"),
            (120_000, "2m"),
            (5_400_000, "1h30m"),
            (3_601_000, "1h1s"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
