//! Several pages of one answer: what each says about a series becomes one series.
//!
//! # Invariants
//!
//! * A later page completes what was partial, and mends nothing else: neither a failure nor what is
//!   forbidden.
//! * Of two values for one time the page counts that calls the series complete; between equals there
//!   is no choice, and the series stays ambiguous.

use std::collections::{HashMap, HashSet};

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{MetricDataResult, StatusCode};

/// Adds what a later page says about a series to what earlier ones said.
pub(super) fn join(earlier: &mut MetricDataResult, later: MetricDataResult) {
    let uneven = |one: &MetricDataResult| one.timestamps().len() != one.values().len();
    if uneven(earlier) || uneven(&later) {
        // Added up, two that do not fit might. Times without values stay what they are.
        earlier.timestamps = Some(vec![DateTime::from_secs(0)]);
        earlier.values = None;
    } else {
        if is_partial(earlier) && later.status_code == Some(StatusCode::Complete) {
            supersede(earlier, &later);
        }
        append(&mut earlier.timestamps, later.timestamps);
        append(&mut earlier.values, later.values);
    }
    append(&mut earlier.messages, later.messages);
    if is_partial(earlier) || earlier.status_code == Some(StatusCode::Complete) {
        earlier.status_code = later.status_code;
    }
}

/// Whether the service promised more of a series: nothing else may be left out of its status.
fn is_partial(result: &MetricDataResult) -> bool {
    matches!(result.status_code, None | Some(StatusCode::PartialData))
}

/// Drops the datapoints of a partial series for which a later page has others.
fn supersede(earlier: &mut MetricDataResult, later: &MetricDataResult) {
    let newer: HashSet<i64> = later.timestamps().iter().map(DateTime::secs).collect();
    let pairs = earlier.timestamps().iter().zip(earlier.values());
    let (times, values) = pairs
        .filter(|(at, _)| !newer.contains(&at.secs()))
        .map(|(at, value)| (*at, *value))
        .unzip();
    (earlier.timestamps, earlier.values) = (Some(times), Some(values));
}

/// Whether a series has two values for one time.
pub(super) fn is_ambiguous(result: &MetricDataResult) -> bool {
    let times = result.timestamps();
    // As we ask for them, newest first: then there are no two.
    if times.windows(2).all(|two| two[0].secs() > two[1].secs()) {
        return false;
    }
    let mut known = HashMap::new();
    let mut points = times.iter().map(DateTime::secs).zip(result.values().iter().copied());
    points.any(|(at, value)| {
        known.insert(at, value).is_some_and(|other| other.total_cmp(&value).is_ne())
    })
}

fn append<T>(earlier: &mut Option<Vec<T>>, later: Option<Vec<T>>) {
    match earlier {
        Some(earlier) => earlier.extend(later.unwrap_or_default()),
        None => *earlier = later,
    }
}
