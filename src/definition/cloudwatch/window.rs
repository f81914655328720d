//! Periods, and the window of time that is asked for.
//!
//! Responsible for: the service's rules about them, so that no request goes out that it refuses, or
//! answers with nothing for ever. Not responsible for: where a window lies at a given moment (the
//! source), and how fresh a value must be (`freshness`).

use std::time::Duration;

use crate::definition::document::CloudWatchSpec;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;
use crate::model::query::cloudwatch::MAX_DATAPOINTS_PER_CALL;

/// Periods below a minute (API reference, `MetricStat`).
const SHORT_PERIODS: [u64; 5] = [1, 5, 10, 20, 30];

/// The longest period (User Guide, "Metrics concepts": one day).
const LONGEST_PERIOD: Duration = Duration::from_hours(24);

/// How far back `StartTime` may lie for a period that is a multiple of so many seconds: hours, and
/// those in words (API reference, `MetricStat` and `GetMetricData`). The first that fits counts.
const KEPT: [(u64, u64, &str); 4] = [
    (3600, 455 * 24, "455 days"),
    (300, 63 * 24, "63 days"),
    (60, 15 * 24, "15 days"),
    (1, 3, "3h"),
];

/// How far back a Metrics Insights query may look: a limit of ours. The service's documents have said
/// three hours, and say two weeks now for queries and three hours for alarms (User Guide, "Metrics
/// Insights quotas"); three hours is what all of them promise. Nobody scales by an older datapoint,
/// and what is asked for is read and billed each time.
const INSIGHTS_WINDOW: Duration = Duration::from_hours(3);

/// The longest delay: as long as datapoints of a minute are kept. It bounds no more than nonsense;
/// `lookback` is bounded by how long the service keeps what is asked for.
const LONGEST_DELAY: Duration = Duration::from_hours(15 * 24);

/// Periods between `delay` and the default of `lookback`: enough to hold on through a few late or
/// missing datapoints, few enough to be a small answer.
const DEFAULT_PERIODS: u32 = 5;

/// The window of a group of queries, as [`CloudWatchQuery`](crate::model::CloudWatchQuery) holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) delay: Duration,
    pub(super) lookback: Duration,
}

/// Something that is asked for: a metric, or an expression that finds its data by itself.
pub(super) struct Item<'a> {
    /// Where its period is written.
    pub(super) field: Field,
    /// Its id.
    pub(super) id: &'a str,
    /// Its period.
    pub(super) period: Duration,
}

/// Where the period of everything that names none is written.
pub(super) fn whole_period() -> Field {
    Field::of("spec.cloudwatch.period")
}

/// Checks a period for itself.
pub(in crate::definition) fn check_period(period: Duration) -> Result<(), String> {
    let seconds = period.as_secs();
    let is_whole = period.subsec_nanos() == 0;
    let fits = SHORT_PERIODS.contains(&seconds) || (seconds > 0 && seconds.is_multiple_of(60));
    if !is_whole || !fits {
        return Err(format!(
            "CloudWatch has no period of {}; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
            GoDuration(period)
        ));
    }
    if period > LONGEST_PERIOD {
        let (period, longest) = (GoDuration(period), GoDuration(LONGEST_PERIOD));
        return Err(format!("the period {period} is longer than {longest}, CloudWatch's longest"));
    }
    Ok(())
}

/// Checks a delay for itself.
pub(in crate::definition) fn check_delay(delay: Duration) -> Result<(), String> {
    if delay > LONGEST_DELAY {
        return Err(format!(
            "delay {} is longer than {} (15 days): no HPA can be steered by what was that long ago",
            GoDuration(delay),
            GoDuration(LONGEST_DELAY)
        ));
    }
    Ok(())
}

/// The window of a group with this longest period.
pub(super) fn window(
    report: &mut Report<'_>,
    base: &Field,
    spec: &CloudWatchSpec,
    period: Duration,
    items: &[Item<'_>],
    has_insights: bool,
) -> Option<Window> {
    let (delay_field, lookback_field) = (base.key("delay"), base.key("lookback"));
    for (field, given) in [(&delay_field, spec.delay), (&lookback_field, spec.lookback)] {
        if given.is_some_and(|given| given.0.subsec_nanos() > 0) {
            report.add(field, "the duration must be in whole seconds");
        }
    }
    if report.has_problem(&delay_field) || report.has_problem(&lookback_field) {
        return None;
    }
    let delay = spec.delay.map_or(period, |given| given.0);
    report.check(&delay_field, check_delay(delay))?;
    let least = delay + period;
    let lookback = spec.lookback.map_or_else(
        || {
            let default = delay + period * DEFAULT_PERIODS;
            // As much of it as the service gives, as long as that is enough.
            if has_insights && default > INSIGHTS_WINDOW && least <= INSIGHTS_WINDOW {
                INSIGHTS_WINDOW
            } else {
                default
            }
        },
        |given| given.0,
    );
    if lookback < least {
        let message = format!(
            "lookback {} is below {} = delay {} + period {}: no whole period would be asked for",
            GoDuration(lookback),
            GoDuration(least),
            GoDuration(delay),
            GoDuration(period),
        );
        report.add(&lookback_field, message);
        return None;
    }
    let window = Window { delay, lookback };
    let is_given = spec.lookback.is_some();
    if has_insights && lookback > INSIGHTS_WINDOW {
        let message = format!(
            "a Metrics Insights query looks back {} at most here, and lookback is {}: more is not promised by all of CloudWatch's documents",
            GoDuration(INSIGHTS_WINDOW),
            told(window, period, is_given)
        );
        report.add(&lookback_field, message);
        return None;
    }
    let mut is_kept = true;
    for item in items {
        let seconds = item.period.as_secs().max(1);
        let (_, hours, words) =
            KEPT.iter().find(|(unit, ..)| seconds.is_multiple_of(*unit)).unwrap_or(&KEPT[3]);
        if lookback > Duration::from_hours(*hours) {
            let message = format!(
                "CloudWatch keeps datapoints of {} for {words}, and lookback is {}; shorten lookback, or take a longer period",
                GoDuration(item.period),
                told(window, period, is_given),
            );
            report.add(&item.field, message);
            is_kept = false;
        }
    }
    (is_kept && has_room(report, &lookback_field, window, items)).then_some(window)
}

/// The lookback, and how it came about when nobody wrote it.
fn told(window: Window, period: Duration, is_given: bool) -> String {
    let lookback = GoDuration(window.lookback);
    if is_given {
        return lookback.to_string();
    }
    format!(
        "{lookback} (the default: delay {} + {DEFAULT_PERIODS} periods of {})",
        GoDuration(window.delay),
        GoDuration(period)
    )
}

fn has_room(report: &mut Report<'_>, field: &Field, window: Window, items: &[Item<'_>]) -> bool {
    let span = window.lookback.saturating_sub(window.delay).as_secs();
    let points = |item: &Item<'_>| span.div_ceil(item.period.as_secs().max(1));
    let total: u64 = items.iter().map(points).sum();
    let largest = items.iter().max_by_key(|item| points(item));
    let (true, Some(largest)) = (total > MAX_DATAPOINTS_PER_CALL, largest) else { return true };
    let message = format!(
        "between lookback and delay lie {total} datapoints ({} of {} = {} / {}; {} in all); one GetMetricData call gives {MAX_DATAPOINTS_PER_CALL} at most; shorten lookback, or take longer periods",
        points(largest),
        largest.id,
        GoDuration(Duration::from_secs(span)),
        GoDuration(largest.period),
        match items.len() {
            1 => "one metric".to_owned(),
            count => format!("{count} metrics"),
        },
    );
    report.add(field, message);
    false
}
