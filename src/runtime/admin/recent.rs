//! What a metric said within the last hour, as a person wants to see it.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Point, QueryCell};
use crate::model::{Decimal, Entry, FetchError, OnNoData, Tick};

/// Where a row comes from: what further looks at it start with.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// The state of its query; none where nobody has read it.
    pub cell: Option<Arc<QueryCell>>,
    /// Its definition; none where a rule gives it.
    pub entry: Option<Arc<Entry>>,
}

/// What the fetches of one moment said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// How long ago the newest of them ended.
    pub ago: Duration,
    /// The number that the API would give, if the answer was one number.
    pub value: Option<f64>,
    /// How old the number was when it came.
    pub age: Duration,
    /// How many series the answer had; none without one.
    pub series: Option<u8>,
    /// The kind of failure, if one of them failed ([`FetchError::kind`]).
    pub trouble: Option<&'static str>,
}

impl Roots {
    /// The hour before `now`, oldest first.
    #[must_use]
    pub fn recent(&self, now: Tick) -> Vec<Mark> {
        let Some(cell) = &self.cell else { return Vec::new() };
        let folded_alike = match (&self.entry, cell.asked_by()) {
            (Some(mine), Some(first)) => mine.transform.aggregate == first.transform.aggregate,
            (None, None) => true,
            _ => false,
        };
        let mark = |point: &Point| Mark {
            ago: point.ago(now),
            // Several series are folded as the first definition of the query wants it.
            value: point
                .number()
                .filter(|_| folded_alike || point.series() == Some(1))
                .map(|number| self.served(number)),
            age: point.age(),
            series: point.series(),
            trouble: point.trouble(),
        };
        cell.history(now).iter().map(mark).collect()
    }

    /// The number that is served for an upstream's.
    fn served(&self, number: f64) -> f64 {
        let transformed =
            |entry: &Arc<Entry>| Some(entry.transform.apply(&Decimal::from_f64(number)?).to_f64());
        self.entry.as_ref().and_then(transformed).unwrap_or(number)
    }

    /// What is done without a datapoint.
    #[must_use]
    pub fn on_no_data(&self) -> OnNoData {
        self.entry.as_ref().map_or(OnNoData::Error, |entry| entry.policy.on_no_data.clone())
    }
}

/// The times, from and to so long ago, in which no value was served though the metric was refreshed.
#[must_use]
pub fn gaps(marks: &[Mark], max_age: Duration, on_no_data: &OnNoData) -> Vec<(Duration, Duration)> {
    let mut found: Vec<(Duration, Duration)> = Vec::new();
    // So long ago ended what the marks so far allow to serve; it may be in the future.
    let mut until: Option<i64> = None;
    let ago = |mark: &Mark| i64::try_from(mark.ago.as_secs()).unwrap_or(i64::MAX);
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let length = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let close = |found: &mut Vec<_>, until: Option<i64>, now: i64| {
        if let Some(end) = until
            && end > now
        {
            found.push((length(end), length(now)));
        }
    };
    for mark in marks {
        let answered = mark.series.is_some();
        if answered {
            close(&mut found, until, ago(mark));
            until = Some(ago(mark) + seconds(mark.age) - seconds(max_age));
        } else if mark.trouble == Some(FetchError::NO_DATA) {
            match on_no_data {
                OnNoData::Hold => until = until.or(Some(ago(mark))),
                OnNoData::Error => {
                    until = Some(until.map_or(ago(mark), |end| end.max(ago(mark))));
                }
                OnNoData::Value(_) => {
                    close(&mut found, until, ago(mark));
                    until = Some(ago(mark) - seconds(max_age));
                }
            }
        } else {
            until = until.or(Some(ago(mark)));
        }
    }
    close(&mut found, until, 0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(ago: u64) -> Mark {
        let (value, series) = (Some(1.0), Some(1));
        Mark { ago: Duration::from_secs(ago), value, age: Duration::ZERO, series, trouble: None }
    }

    fn bad(ago: u64, kind: &'static str) -> Mark {
        Mark { value: None, series: None, trouble: Some(kind), ..good(ago) }
    }

    fn told(marks: &[Mark], on_no_data: &OnNoData) -> Vec<(u64, u64)> {
        let found = gaps(marks, Duration::from_mins(1), on_no_data);
        found.iter().map(|(from, to)| (from.as_secs(), to.as_secs())).collect()
    }

    #[test]
    fn a_value_is_held_for_max_age_and_then_there_is_none() {
        let hold = OnNoData::Hold;
        assert_eq!(told(&[good(45), good(15)], &hold), []);
        let outage = [good(300), bad(285, "timeout"), bad(270, "timeout"), good(100), good(50)];
        assert_eq!(told(&outage, &hold), [(240, 100)]);
        assert_eq!(told(&[good(300), bad(285, "timeout")], &hold), [(240, 0)]);
        assert_eq!(told(&[bad(300, "denied"), good(30)], &hold), [(300, 30)]);
        assert_eq!(told(&[], &hold), []);
    }

    #[test]
    fn no_datapoint_is_what_the_definition_makes_of_it() {
        let marks = [good(100), bad(85, "no_data"), bad(70, "no_data"), good(20)];
        assert_eq!(told(&marks, &OnNoData::Hold), [(40, 20)]);
        assert_eq!(told(&marks, &OnNoData::Error), [(85, 20)]);
        let number = OnNoData::Value(Decimal::ZERO);
        assert_eq!(told(&marks, &number), []);
        assert_eq!(told(&[bad(200, "no_data")], &number), [(140, 0)]);
    }
}
