//! What a query's fetches of the last hour said: a bounded ring of points for people who look.
//!
//! Responsible for: which points are kept, and how much memory they take. Not responsible for: what is
//! served (`entry`); nothing that is served comes from here.
//!
//! # Size
//!
//! A point is 16 bytes, and a ring holds [`MAX_POINTS`] of them, for at most [`SPAN`]: 3840 bytes, and
//! some fifty more for its own fields. A process has at most [`MAX_RINGS`] rings, of the queries that
//! were fetched first; all of them together are below 40 MiB. A ring grows with its points, and a query
//! that is no longer refreshed, or is gone, gives its ring back.
//!
//! Invariants: written at the end of a fetch alone; a read of a metric never comes here; a fetch that
//! failed is a point without a number.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Aggregate, Decimal, FetchError, Sample, Tick, Transform};

/// How far back it goes.
pub const SPAN: Duration = Duration::from_hours(1);

/// The default refresh interval. Of the fetches within one such slot the newest number and the newest
/// trouble make one point, so that a query that is fetched every second has its hour as well.
pub const SLOT: Duration = Duration::from_secs(15);

/// Points of a ring: [`SPAN`] in slots.
pub const MAX_POINTS: usize = 240;

/// Rings of a process; the first queries that are fetched get one.
pub const MAX_RINGS: usize = 10_000;

/// Room for points that a ring starts with; it doubles, and so reaches [`MAX_POINTS`] exactly.
const FIRST_POINTS: usize = 15;

/// The rings of this process.
static PROCESS: Budget = Budget { left: AtomicUsize::new(MAX_RINGS) };

/// How many rings may still be made.
struct Budget {
    left: AtomicUsize,
}

impl Budget {
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// What the fetches of one slot said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The newest number, before the definition's arithmetic; not a number where there was none.
    number: f64,
    /// When the newest fetch ended, in seconds of the monotonic clock.
    at: u32,
    /// How old the number was then, in seconds.
    age: u16,
    /// Series of the newest answer; none where no fetch succeeded.
    series: u8,
    /// One above the place of the newest trouble's kind in [`FetchError::KINDS`]; zero without one.
    trouble: u8,
}

impl Point {
    /// What a fetch said that ended at `now`, where series are folded in this way.
    #[must_use]
    pub fn of(
        result: &Result<Sample, FetchError>,
        transform: Option<&Transform>,
        now: Tick,
    ) -> Self {
        let at = u32::try_from(now.0 / 1000).unwrap_or(u32::MAX);
        match result {
            Ok(sample) => Self {
                number: only_number(sample, transform).map_or(f64::NAN, |number| number.to_f64()),
                at,
                age: u16::try_from(now.since(sample.observed).as_secs()).unwrap_or(u16::MAX),
                series: u8::try_from(sample.series.len()).unwrap_or(u8::MAX),
                trouble: 0,
            },
            Err(error) => {
                let place = FetchError::KINDS.iter().position(|kind| *kind == error.kind());
                let trouble = place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0);
                Self { number: f64::NAN, at, age: 0, series: 0, trouble }
            }
        }
    }

    /// The upstream's number, before scale, offset and clamps; none where the answer was not one
    /// number, and where nothing was answered.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.number.is_finite().then_some(self.number)
    }

    /// How long before `now` the newest fetch ended, to the second.
    #[must_use]
    pub fn ago(&self, now: Tick) -> Duration {
        now.since(Tick(u64::from(self.at) * 1000))
    }

    /// How old the number was when it came.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_secs(self.age.into())
    }

    /// How many series the newest answer had, at most 255; none where no fetch of the slot succeeded.
    #[must_use]
    pub fn series(&self) -> Option<u8> {
        let answered = self.series > 0 || self.trouble == 0;
        answered.then_some(self.series)
    }

    /// The kind of the newest failure ([`FetchError::kind`]), if a fetch failed.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        let place = usize::from(self.trouble).checked_sub(1)?;
        FetchError::KINDS.get(place).copied()
    }

    /// The point of a slot that goes on with `next`.
    fn then(self, next: Self) -> Self {
        if next.trouble == 0 {
            return Self { trouble: self.trouble, ..next };
        }
        Self { at: next.at, trouble: next.trouble, ..self }
    }

    fn slot(&self) -> u64 {
        u64::from(self.at) / SLOT.as_secs()
    }
}

/// The number of an answer: that of its only series, or what the definition folds several to.
fn only_number(sample: &Sample, transform: Option<&Transform>) -> Option<Decimal> {
    let aggregate = transform.map_or(Aggregate::None, |transform| transform.aggregate);
    match (&sample.series[..], aggregate) {
        ([one], Aggregate::None) => Some(one.value.clone()),
        (series, _) => transform?.fold(series),
    }
}

/// The ring of one query, made with its first answer.
#[derive(Default)]
pub struct History(Mutex<Option<Box<Ring>>>);

struct Ring {
    points: VecDeque<Point>,
    budget: &'static Budget,
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.left.fetch_add(1, Ordering::Relaxed);
    }
}

impl History {
    /// Takes in the end of a fetch.
    pub fn note(&self, point: Point) {
        self.note_within(point, &PROCESS);
    }

    fn note_within(&self, point: Point, budget: &'static Budget) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.is_none() {
            // What was never answered takes no room: its error is told anyway.
            if point.series().is_none() || !budget.take() {
                return;
            }
            let points = VecDeque::with_capacity(FIRST_POINTS);
            *ring = Some(Box::new(Ring { points, budget }));
        }
        let Some(ring) = ring.as_deref_mut() else { return };
        if let Some(last) = ring.points.back_mut()
            && last.slot() == point.slot()
        {
            *last = last.then(point);
            return;
        }
        let seconds = u32::try_from(SPAN.as_secs()).unwrap_or(u32::MAX);
        while ring.points.front().is_some_and(|first| point.at.saturating_sub(first.at) > seconds)
            || ring.points.len() >= MAX_POINTS
        {
            ring.points.pop_front();
        }
        ring.points.push_back(point);
    }

    /// Gives the ring back.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The points of the hour before `now`, oldest first.
    #[must_use]
    pub fn points(&self, now: Tick) -> Vec<Point> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let points = ring.iter().flat_map(|ring| ring.points.iter());
        points.filter(|point| point.ago(now) <= SPAN).copied().collect()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Cause, Labels, Series};

    fn sample(values: &[i64], observed: u64) -> Sample {
        let series = |value: &i64| Series { labels: Labels::empty(), value: (*value).into() };
        Sample {
            timestamp: Timestamp::UNIX_EPOCH,
            observed: Tick(observed),
            series: values.iter().map(series).collect(),
            without_number: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn timeout() -> Result<Sample, FetchError> {
        Err(FetchError::Timeout(Cause::new("no answer")))
    }

    fn point(result: &Result<Sample, FetchError>, at: u64) -> Point {
        Point::of(result, None, Tick(at))
    }

    #[test]
    fn a_failure_is_a_point_without_a_number() {
        let history = History::default();
        history.note(point(&timeout(), 1000));
        assert_eq!(history.points(Tick(1000)), [], "nothing was answered yet");
        history.note(point(&Ok(sample(&[42], 10_000)), 16_000));
        history.note(point(&timeout(), 31_000));
        let [good, bad] = history.points(Tick(46_000))[..] else { panic!("two fetches") };
        assert_eq!((good.number(), good.trouble(), good.series()), (Some(42.0), None, Some(1)));
        assert_eq!((good.age().as_secs(), good.ago(Tick(46_000)).as_secs()), (6, 30));
        assert_eq!((bad.number(), bad.trouble(), bad.series()), (None, Some("timeout"), None));
        history.forget();
        assert_eq!(history.points(Tick(46_000)), []);
    }

    #[test]
    fn one_slot_is_one_point_and_hides_no_trouble() {
        let history = History::default();
        for (result, at) in
            [(Ok(sample(&[1], 0)), 15_000), (timeout(), 20_000), (Ok(sample(&[2], 0)), 25_000)]
        {
            history.note(point(&result, at));
        }
        let [one] = history.points(Tick(25_000))[..] else { panic!("one slot") };
        assert_eq!((one.number(), one.trouble()), (Some(2.0), Some("timeout")));
        history.note(point(&timeout(), 29_000));
        let [one] = history.points(Tick(29_000))[..] else { panic!("one slot") };
        assert_eq!((one.number(), one.ago(Tick(29_000))), (Some(2.0), Duration::ZERO));
    }

    #[test]
    fn several_series_have_a_number_where_they_are_folded() {
        let sum = Transform { aggregate: Aggregate::Sum, ..Transform::default() };
        let (two, unfolded) = (Ok(sample(&[1, 2], 0)), Transform::default());
        let number = |transform| Point::of(&two, transform, Tick(0)).number();
        assert_eq!((number(Some(&sum)), number(Some(&unfolded))), (Some(3.0), None));
        assert_eq!((number(None), point(&two, 0).series()), (None, Some(2)));
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        for second in 0..8000_u64 {
            history.note(point(&Ok(sample(&[1], 0)), 1_000_000 + second * 1000));
        }
        let now = Tick(1_000_000 + 7_999_000);
        let points = history.points(now);
        assert_eq!(points.len(), MAX_POINTS);
        assert!(points[0].ago(now) <= SPAN && points[0].ago(now) + 2 * SLOT > SPAN);
        // Long after the last fetch nothing is of the last hour.
        assert_eq!(history.points(now.after(2 * SPAN)), []);
        history.note(point(&Ok(sample(&[1], 0)), now.after(2 * SPAN).0));
        assert_eq!(history.points(now.after(2 * SPAN)).len(), 1);
    }

    #[test]
    fn rings_are_bounded_and_come_back() {
        static TWO: Budget = Budget { left: AtomicUsize::new(2) };
        let all: [History; 3] = std::array::from_fn(|_| History::default());
        let fill = |history: &History| history.note_within(point(&Ok(sample(&[1], 0)), 0), &TWO);
        let lengths = || all.each_ref().map(|history| history.points(Tick(0)).len());
        all.iter().for_each(fill);
        assert_eq!(lengths(), [1, 1, 0]);
        all[0].forget();
        all.iter().rev().for_each(fill);
        assert_eq!(lengths(), [0, 1, 1]);
        drop(all);
        assert_eq!(TWO.left.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn ten_thousand_full_rings_are_below_40_mib() {
        // What a ring allocates: itself and its points; malloc adds 16 bytes to each at most.
        let history = History::default();
        for slot in 0..1000_u64 {
            history.note(point(&Ok(sample(&[1], 0)), slot * 15_000));
        }
        let ring = history.0.lock().unwrap();
        let capacity = ring.as_ref().unwrap().points.capacity();
        assert_eq!((size_of::<Point>(), capacity), (16, MAX_POINTS));
        let bytes = size_of::<History>() + size_of::<Ring>() + capacity * size_of::<Point>() + 32;
        assert!(bytes * MAX_RINGS < 40 << 20, "{bytes}");
    }
}
