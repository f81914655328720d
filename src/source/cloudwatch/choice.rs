//! Which datapoint of a series counts.
//!
//! The rules are those of [`decode`](super::decode).

use std::collections::HashSet;

use aws_sdk_cloudwatch::types::MetricDataResult;

use crate::model::{Decimal, Labels};
use crate::source::cloudwatch::plan::Window;

/// By how many periods a series may be behind the newest of its answer. Metrics of one kind are
/// published within a period of each other, and one datapoint may be missing: two. With the defaults
/// (a delay of one period or more, `maxAge` five periods above it) the newest bucket begins one
/// period and the delay ago, so a series of the sample is three periods and the delay old at most,
/// and one more when it is read again: it cannot be too old on arrival.
pub(super) const LATE_PERIODS: i64 = 2;

/// What was taken of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its labels.
    pub labels: Labels,
    /// The start of the bucket and the value; none if no datapoint will do.
    pub taken: Option<(i64, Decimal)>,
    /// Datapoints in the answer.
    pub datapoints: usize,
    /// Of those, buckets that end after the window.
    pub unfinished: usize,
    /// Of those, buckets that start before the window.
    pub early: usize,
    /// Of those, times at which none of the buckets asked for starts.
    pub off_grid: usize,
    /// Of those, values that are no numbers.
    pub not_finite: usize,
    /// The newest bucket with a value that was passed over for the lack of operands, and their ids.
    pub lacking: Option<(i64, Vec<String>)>,
    /// Whether other series go on so much later that this one has ended; then it is not served.
    pub ended: bool,
}

impl Choice {
    /// Nothing of a result yet.
    fn nothing(result: &MetricDataResult, labels: Labels) -> Self {
        Self {
            labels,
            taken: None,
            datapoints: result.values().len(),
            unfinished: 0,
            early: 0,
            off_grid: 0,
            not_finite: 0,
            lacking: None,
            ended: false,
        }
    }

    /// What of it is served.
    pub(super) fn served(&self) -> Option<&(i64, Decimal)> {
        self.taken.as_ref().filter(|_| !self.ended)
    }
}

/// The metrics without whose datapoints a value of a group is wrong.
#[derive(Debug, Default)]
pub(super) struct Operands<'a>(Vec<Operand<'a>>);

#[derive(Debug)]
struct Operand<'a> {
    /// The author's id.
    id: &'a str,
    /// The starts of the buckets in which it has a datapoint.
    buckets: HashSet<i64>,
}

impl<'a> Operands<'a> {
    /// Adds one, of which this is the answer; `if_any`: unless it is empty.
    pub(super) fn add(&mut self, id: &'a str, result: &MetricDataResult, grid: Grid, if_any: bool) {
        let points = result.timestamps().iter().zip(result.values());
        let buckets: HashSet<i64> = points
            .filter(|(_, value)| value.is_finite())
            .filter_map(|(at, _)| grid.bucket(at.secs()))
            .collect();
        if !(if_any && buckets.is_empty()) {
            self.0.push(Operand { id, buckets });
        }
    }

    /// Those that have no datapoint at all.
    pub(super) fn absent(&self) -> Vec<String> {
        self.without(|operand| operand.buckets.is_empty())
    }

    /// Those that have no datapoint in a bucket.
    fn lacking(&self, bucket: i64) -> Vec<String> {
        self.without(|operand| !operand.buckets.contains(&bucket))
    }

    fn without(&self, lacks: impl Fn(&Operand<'_>) -> bool) -> Vec<String> {
        let found = self.0.iter().filter(|operand| lacks(operand));
        found.map(|operand| operand.id.to_owned()).collect()
    }

    fn are_all_in(&self, bucket: i64) -> bool {
        self.0.iter().all(|operand| operand.buckets.contains(&bucket))
    }
}

/// The buckets of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// The window.
    pub window: Window,
    /// Length of a bucket, in seconds, at least one.
    pub period: i64,
}

impl Grid {
    /// The start of the bucket that a time is in; none outside of the window.
    fn bucket(self, at: i64) -> Option<i64> {
        let Window { start, end } = self.window;
        let since = at.saturating_sub(start);
        (start <= at && at < end)
            .then(|| start.saturating_add(since - since.rem_euclid(self.period)))
    }
}

/// The first datapoint of a series that is a number. The service is believed to give what it was asked
/// for: whole buckets, the newest first.
pub(super) fn first(result: &MetricDataResult, labels: Labels) -> Choice {
    let mut choice = Choice::nothing(result, labels);
    let points = result.timestamps().iter().zip(result.values());
    let mut points = points.map(|(at, value)| (at.secs(), Decimal::from_f64(*value)));
    choice.taken = points.find_map(|(at, value)| Some((at, value?)));
    choice.not_finite = result.values().iter().filter(|value| !value.is_finite()).count();
    choice
}

/// The newest complete datapoint of a series whose operands are all there.
pub(super) fn newest(
    result: &MetricDataResult,
    labels: Labels,
    grid: Grid,
    operands: &Operands<'_>,
) -> Choice {
    let mut choice = Choice::nothing(result, labels);
    let mut best: Option<(i64, f64)> = None;
    let mut lacking: Option<i64> = None;
    // Past the checks a datapoint is on the grid: it starts where its bucket does.
    for (at, &value) in result.timestamps().iter().zip(result.values()) {
        let start = at.secs();
        if start < grid.window.start {
            choice.early += 1;
        } else if start.saturating_add(grid.period) > grid.window.end {
            choice.unfinished += 1;
        } else if start.saturating_sub(grid.window.start) % grid.period != 0 {
            choice.off_grid += 1;
        } else if !value.is_finite() {
            choice.not_finite += 1;
        } else if !operands.are_all_in(start) {
            lacking = lacking.max(Some(start));
        } else if best.is_none_or(|(best, _)| start > best) {
            best = Some((start, value));
        }
    }
    choice.taken = best.and_then(|(start, value)| Some((start, Decimal::from_f64(value)?)));
    let newer = lacking.filter(|lacking| best.is_none_or(|(best, _)| *lacking > best));
    choice.lacking = newer.map(|start| (start, operands.lacking(start)));
    choice
}

/// Marks the series that have ended.
pub(super) fn end(choices: &mut [Choice], period: i64) {
    let starts = choices.iter().filter_map(|choice| choice.taken.as_ref()).map(|(start, _)| *start);
    let Some(newest) = starts.max() else { return };
    let oldest = newest.saturating_sub(period.saturating_mul(LATE_PERIODS));
    for choice in choices {
        choice.ended = choice.taken.as_ref().is_some_and(|(start, _)| *start < oldest);
    }
}
