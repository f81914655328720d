//! Made-up signals, for demos and tests: a pure function of the clock.
//!
//! The same query at the same moment gives the same value in every process and on every
//! machine; only signals that start with the process (ramp, steps, replay) depend on when that was.

mod explain;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::{
    Batch, Cause, Clock, Decimal, Dispatch, Exchange, Explanation, FetchError, Labels, Query,
    QuerySpec, Sample, Series, SimulatedQuery, Source, SourceKind, Tick,
};
use crate::source::wrong_kind;

/// Queries per fetch. Evaluation takes well under a microsecond, so this only bounds a vector.
const BATCH: usize = 256;

/// Fractions of a signal's height are rounded to this many digits, so that values print short
/// and do not depend on how a machine's `sin` rounds.
const FRACTION_DIGITS: i32 = 9;

/// 10^[`FRACTION_DIGITS`].
const FRACTION_SCALE: u64 = 1_000_000_000;

/// The source of simulated signals.
#[derive(Debug)]
pub struct SimulatedSource {
    clock: Arc<dyn Clock>,
    start: Tick,
}

impl SimulatedSource {
    /// A source whose ramps, steps and replays start now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.tick();
        Self { clock, start }
    }

    fn answer(&self, query: &Query) -> Result<Sample, FetchError> {
        let QuerySpec::Simulated(signal) = &query.spec else {
            return Err(wrong_kind(query, SourceKind::Simulated));
        };
        Self::at(signal, self.clock.now(), self.clock.tick(), self.start)
    }

    fn at(
        signal: &SimulatedQuery,
        timestamp: Timestamp,
        observed: Tick,
        start: Tick,
    ) -> Result<Sample, FetchError> {
        let value = evaluate(signal, timestamp, observed.since(start)).ok_or_else(|| {
            FetchError::NoData(Cause::new("the simulated signal has no value at this moment"))
        })?;
        let series = vec![Series { labels: Labels::empty(), value }];
        Ok(Sample { timestamp, observed, series, without_number: Vec::new(), warnings: Vec::new() })
    }
}

impl Source for SimulatedSource {
    /// A fetch is a few arithmetic operations; the bound only keeps bursts in order.
    fn concurrency(&self) -> usize {
        64
    }

    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        async move { queries.iter().map(|query| self.answer(query)).collect() }.boxed()
    }

    fn explain<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Explanation> {
        let QuerySpec::Simulated(signal) = &query.spec else {
            let outcome = Err(wrong_kind(query, SourceKind::Simulated));
            let nothing = Explanation { exchanges: Vec::new(), choice: Vec::new(), outcome };
            return futures::future::ready(nothing).boxed();
        };
        let (timestamp, observed) = (self.clock.now(), self.clock.tick());
        let outcome = Self::at(signal, timestamp, observed, self.start);
        let choice = explain::choice(signal, timestamp, observed.since(self.start));
        futures::future::ready(Explanation { exchanges: Vec::new(), choice, outcome }).boxed()
    }

    /// Nothing is ever called.
    fn preview<'a>(&'a self, _query: &'a Arc<Query>) -> BoxFuture<'a, Option<Vec<Exchange>>> {
        futures::future::ready(Some(Vec::new())).boxed()
    }

    fn dispatch(&self, _query: &Query) -> Dispatch {
        let batch = Some(Batch { key: 0, limit: BATCH });
        Dispatch { upstream: "".into(), batch, beat: None }
    }
}

/// The value of a signal at a moment, or none when the recording has a gap there.
#[must_use]
pub fn evaluate(signal: &SimulatedQuery, now: Timestamp, since_start: Duration) -> Option<Decimal> {
    match signal {
        SimulatedQuery::Constant(value) => Some(value.clone()),
        SimulatedQuery::Ramp { from, to, over } => Some(ramp(from, to, *over, since_start)),
        SimulatedQuery::Steps(steps) => steps_at(steps, since_start),
        SimulatedQuery::Wave { min, max, period } => Some(wave(min, max, *period, now)),
        SimulatedQuery::Noise { seed, min, max } => Some(noise(*seed, min, max, now)),
        SimulatedQuery::Replay(rows) => replay(rows, since_start),
    }
}

fn ramp(from: &Decimal, to: &Decimal, over: Duration, since_start: Duration) -> Decimal {
    let (elapsed, over) = (millis(since_start), millis(over));
    if elapsed >= over {
        return to.clone();
    }
    from.add(&minus(to, from).mul(&Decimal::from(elapsed)).div(over))
}

fn steps_at(steps: &[(Decimal, Duration)], since_start: Duration) -> Option<Decimal> {
    let total = steps.iter().map(|(_, length)| millis(*length)).fold(0, u64::saturating_add);
    let Some(mut position) = millis(since_start).checked_rem(total) else {
        return steps.first().map(|(value, _)| value.clone());
    };
    for (value, length) in steps {
        match position.checked_sub(millis(*length)) {
            Some(rest) => position = rest,
            None => return Some(value.clone()),
        }
    }
    None
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a phase in [0, 1) times 1e9 keeps nine digits, and stays between 0 and 1e9"
)]
fn wave(min: &Decimal, max: &Decimal, period: Duration, now: Timestamp) -> Decimal {
    let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let phase = now.as_millisecond().rem_euclid(period) as f64 / period as f64;
    let height = f64::midpoint((phase * std::f64::consts::TAU).sin(), 1.0);
    between(min, max, (height * FRACTION_SCALE as f64).round() as u64)
}

fn noise(seed: u64, min: &Decimal, max: &Decimal, now: Timestamp) -> Decimal {
    let second = now.as_second().cast_unsigned();
    // Two rounds, so that neighbouring seeds do not give sequences shifted by one second.
    let hash = splitmix64(splitmix64(seed) ^ second);
    between(min, max, hash % (FRACTION_SCALE + 1))
}

fn replay(rows: &[(Duration, Option<Decimal>)], since_start: Duration) -> Option<Decimal> {
    let (length, last) = rows.last()?;
    let Some(position) = millis(since_start).checked_rem(millis(*length)) else {
        return last.clone();
    };
    let next = rows.partition_point(|(offset, _)| millis(*offset) <= position);
    rows.get(next.checked_sub(1)?)?.1.clone()
}

/// `min` plus a fraction (in units of 10^-9) of the way to `max`.
fn between(min: &Decimal, max: &Decimal, fraction: u64) -> Decimal {
    min.add(&minus(max, min).mul(&Decimal::new(i128::from(fraction), -FRACTION_DIGITS)))
}

fn minus(a: &Decimal, b: &Decimal) -> Decimal {
    a.add(&b.mul(&Decimal::from(-1_i64)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `SplitMix64` (Steele, Lea, Flood, 2014): a fixed, published mixer, so that a seed means the
/// same sequence in every release. Random number crates promise no such thing.
fn splitmix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ManualClock, SourceName};

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(signal: &SimulatedQuery, second: i64, since_start: u64) -> Option<String> {
        let now = Timestamp::from_second(second).unwrap();
        evaluate(signal, now, secs(since_start)).map(|v| v.to_string())
    }

    fn all(signal: &SimulatedQuery, seconds: &[u64]) -> Vec<String> {
        seconds.iter().map(|s| at(signal, 0, *s).unwrap_or("-".to_owned())).collect()
    }

    #[test]
    fn a_ramp_climbs_and_stays() {
        let up = SimulatedQuery::Ramp { from: d("10"), to: d("20"), over: secs(100) };
        assert_eq!(all(&up, &[0, 25, 50, 100, 5000]), ["10", "12.5", "15", "20", "20"]);
        let down = SimulatedQuery::Ramp { from: d("1"), to: d("-1"), over: secs(4) };
        assert_eq!(all(&down, &[0, 1, 2, 3, 4]), ["1", "0.5", "0", "-0.5", "-1"]);
        let jump = SimulatedQuery::Ramp { from: d("1"), to: d("2"), over: secs(0) };
        assert_eq!(all(&jump, &[0]), ["2"]);
    }

    #[test]
    fn steps_repeat() {
        let steps = SimulatedQuery::Steps(vec![(d("1"), secs(10)), (d("5"), secs(20))]);
        assert_eq!(all(&steps, &[0, 9, 10, 29, 30, 40]), ["1", "1", "5", "5", "1", "5"]);
        assert_eq!(all(&SimulatedQuery::Steps(vec![(d("3"), secs(0))]), &[0, 7]), ["3", "3"]);
    }

    #[test]
    fn a_wave_starts_at_the_middle_rising_at_the_epoch() {
        let wave = SimulatedQuery::Wave { min: d("0"), max: d("100"), period: secs(600) };
        let values: Vec<_> =
            [0, 50, 150, 300, 450, 600, -150].iter().map(|s| at(&wave, *s, 0).unwrap()).collect();
        assert_eq!(values, ["50", "75", "100", "50", "0", "50", "0"]);
    }

    #[test]
    fn noise_is_the_same_for_everybody_and_fills_its_range() {
        let noise = SimulatedQuery::Noise { seed: 7, min: d("10"), max: d("20") };
        // Pinned: a change here changes what users' seeds mean.
        let pinned: Vec<_> = (0..3).map(|s| at(&noise, 1_700_000_000 + s, 0).unwrap()).collect();
        assert_eq!(pinned, ["17.10110956", "12.73212422", "18.19797309"]);
        assert_eq!(at(&noise, 1_700_000_000, 0), at(&noise, 1_700_000_000, 99));
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        let values: Vec<f64> = (0..1000)
            .map(|s| {
                evaluate(&noise, Timestamp::from_second(s).unwrap(), secs(0)).unwrap().to_f64()
            })
            .collect();
        let mean = values.iter().sum::<f64>() / 1000.0;
        assert!((14.5..15.5).contains(&mean), "{mean}");
        assert!(values.iter().all(|v| (10.0..=20.0).contains(v)));
        assert!(values.iter().any(|v| *v < 10.1) && values.iter().any(|v| *v > 19.9));
    }

    #[test]
    fn a_replay_has_gaps_and_repeats() {
        let rows = [(secs(5), Some(d("1"))), (secs(10), None), (secs(15), Some(d("3")))];
        let with_end: Vec<_> = rows.into_iter().chain([(secs(20), Some(d("9")))]).collect();
        let replay = SimulatedQuery::Replay(with_end.into());
        // Before the first row there is no value; the last row only marks the end of a round.
        assert_eq!(
            all(&replay, &[0, 5, 9, 10, 15, 19, 20, 25]),
            ["-", "1", "1", "-", "3", "3", "-", "1"]
        );
        assert_eq!(all(&SimulatedQuery::Replay([].into()), &[0]), ["-"]);
    }

    #[tokio::test]
    async fn a_gap_is_no_data_and_other_kinds_are_refused() {
        let clock = Arc::new(ManualClock::default());
        let source = SimulatedSource::new(clock.clone());
        let query = |spec| Arc::new(Query { source: SourceName::new("sim"), spec });
        let rows = [(secs(0), None), (secs(5), Some(d("4"))), (secs(10), None)];
        let replay = query(QuerySpec::Simulated(SimulatedQuery::Replay(rows.into())));
        let foreign = query(QuerySpec::Prometheus(crate::model::PrometheusQuery {
            query: "up".into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        }));
        let queries = [replay, foreign];
        let first = source.fetch(&queries).await;
        assert_eq!(
            first[0],
            Err(FetchError::NoData(Cause::new("the simulated signal has no value at this moment")))
        );
        assert_eq!(
            first[1],
            Err(FetchError::Invalid(Cause::new(
                "a prometheus query cannot be answered by a source of kind simulated"
            )))
        );
        clock.advance(secs(5));
        let sample = source.fetch(&queries).await.remove(0).unwrap();
        assert_eq!(sample.series[0].value, d("4"));
        assert_eq!((sample.timestamp, sample.observed), (clock.now(), clock.tick()));
    }

    fn signals() -> impl Strategy<Value = SimulatedQuery> {
        let number = (-1_000_000_i64..1_000_000).prop_map(|n| Decimal::new(n.into(), -3));
        let time = (0_u64..10_000_000).prop_map(Duration::from_millis);
        let pair = (number.clone(), number.clone())
            .prop_map(|(a, b)| (a.clone().min(b.clone()), a.max(b)));
        prop_oneof![
            (pair.clone(), time.clone()).prop_map(|((from, to), over)| SimulatedQuery::Ramp {
                from,
                to,
                over
            }),
            (pair.clone(), time.clone()).prop_map(|((min, max), period)| SimulatedQuery::Wave {
                min,
                max,
                period
            }),
            (pair, any::<u64>()).prop_map(|((min, max), seed)| SimulatedQuery::Noise {
                seed,
                min,
                max
            }),
            proptest::collection::vec((number, time), 1..5).prop_map(SimulatedQuery::Steps),
        ]
    }

    proptest! {
        #[test]
        fn values_stay_in_range(
            signal in signals(),
            second in -1_000_000_000_i64..10_000_000_000,
            since in any::<u64>(),
        ) {
            let now = Timestamp::from_second(second).unwrap();
            let value = evaluate(&signal, now, Duration::from_millis(since)).unwrap();
            let in_range = match &signal {
                SimulatedQuery::Ramp { from: min, to: max, .. }
                | SimulatedQuery::Wave { min, max, .. }
                | SimulatedQuery::Noise { min, max, .. } => *min <= value && value <= *max,
                SimulatedQuery::Steps(steps) => steps.iter().any(|(v, _)| *v == value),
                _ => true,
            };
            prop_assert!(in_range, "{signal:?} gave {value}");
        }
    }
}
