//! How a simulated value comes from the clock, in sentences.

use std::time::Duration;

use jiff::Timestamp;

use super::millis;
use crate::model::SimulatedQuery;

/// Signals that start with the process do so in the process that explains them, too.
const STARTS: &str =
    "It starts with the process: this one has just started, a server is further on.";

/// Where on the signal the moment is.
pub(super) fn choice(signal: &SimulatedQuery, now: Timestamp, since: Duration) -> Vec<String> {
    match signal {
        SimulatedQuery::Constant(_) => vec!["The same at every moment.".to_owned()],
        SimulatedQuery::Ramp { over, .. } => {
            let at = format!("{} into a ramp of {over:?}.", span(since));
            vec![at, STARTS.to_owned()]
        }
        SimulatedQuery::Steps(steps) => {
            let total = steps.iter().map(|(_, length)| *length).sum();
            vec![
                format!("{} into {} steps of {total:?}.", round(since, total), steps.len()),
                STARTS.to_owned(),
            ]
        }
        SimulatedQuery::Wave { period, .. } => {
            let ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
            let into = Duration::from_millis(now.as_millisecond().rem_euclid(ms).cast_unsigned());
            vec![format!(
                "{} into a wave of {period:?}, counted from the Unix epoch: the same in every process.",
                span(into)
            )]
        }
        SimulatedQuery::Noise { seed, .. } => vec![format!(
            "Drawn from seed {seed} and second {} of the Unix epoch: the same in every process.",
            now.as_second()
        )],
        SimulatedQuery::Replay(rows) => {
            let total = rows.last().map_or(Duration::ZERO, |(length, _)| *length);
            vec![
                format!(
                    "{} into a recording of {total:?} with {} rows.",
                    round(since, total),
                    rows.len()
                ),
                STARTS.to_owned(),
            ]
        }
    }
}

/// How far into a round of a given length.
fn round(since: Duration, length: Duration) -> String {
    let into = millis(since).checked_rem(millis(length)).unwrap_or(0);
    span(Duration::from_millis(into))
}

fn span(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_on_the_signal_the_moment_is() {
        let now: Timestamp = "2026-11-21T12:02:30.5Z".parse().unwrap();
        let since = Duration::from_millis(70_500);
        let minute = Duration::from_mins(1);
        let ten = || "10".parse().unwrap();
        for (signal, said) in [
            (
                SimulatedQuery::Wave { min: ten(), max: ten(), period: Duration::from_millis(500) },
                "0s into a wave of 500ms, counted from the Unix epoch: the same in every process.",
            ),
            (SimulatedQuery::Constant(ten()), "The same at every moment."),
            (
                SimulatedQuery::Ramp { from: ten(), to: ten(), over: minute },
                "70.5s into a ramp of 60s.",
            ),
            (
                SimulatedQuery::Steps(vec![(ten(), minute), (ten(), minute / 2)]),
                "70.5s into 2 steps of 90s.",
            ),
            (
                SimulatedQuery::Wave { min: ten(), max: ten(), period: minute },
                "30.5s into a wave of 60s, counted from the Unix epoch: the same in every process.",
            ),
            (
                SimulatedQuery::Noise { seed: 7, min: ten(), max: ten() },
                "Drawn from seed 7 and second 1795262550 of the Unix epoch: the same in every process.",
            ),
            (
                SimulatedQuery::Replay([(Duration::ZERO, None), (minute, Some(ten()))].into()),
                "10.5s into a recording of 60s with 2 rows.",
            ),
        ] {
            assert_eq!(choice(&signal, now, since)[0], said);
        }
    }
}
