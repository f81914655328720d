//! Phase-locked refresh: at which moment of its interval a query is fetched best.
//!
//! Pure. The number of fetches stays that of the plain interval; only their phase moves.

use std::time::Duration;

use crate::cache::{PHASES, READ};
use crate::model::Tick;

/// Weight of reads from which on a phase is chosen: two beats of one HPA, with the fading of the
/// older one counted in.
const ENOUGH_READS: u32 = READ as u32 * 3 / 2;

/// A phase is worth moving to when the mean age at read falls by this part of the interval. Less
/// would chase noise.
const WORTH: f64 = 1.0 / 16.0;

/// From a start to the read that it is for, beyond what fetches take: the jitter of readers and of
/// upstreams.
const MARGIN: Duration = Duration::from_millis(250);

/// The shortest lead.
const SHORTEST_LEAD: Duration = Duration::from_millis(300);

/// How long before a read a fetch has to start to be done in time, when fetches take `takes`.
pub(super) fn lead(takes: Duration) -> Duration {
    (takes + MARGIN).max(SHORTEST_LEAD)
}

/// By how much a fetch that is due at `due` is to be moved, so that the mean age at read is
/// smallest; between minus and plus half of `refresh`. `reads` are counts by phase
/// ([`crate::cache::ReadPhases`]), `lead` is how long before a read a fetch has to start to be
/// done in time. None: stay.
///
/// Irregular readers have no phase that is much better than another, so they get the plain
/// interval.
pub(super) fn shift(
    reads: &[u16; PHASES],
    refresh: Duration,
    due: Tick,
    lead: Duration,
) -> Option<Shift> {
    let total: u32 = reads.iter().map(|count| u32::from(*count)).sum();
    let interval = u64::try_from(refresh.as_millis()).ok().filter(|ms| *ms > 0)?;
    if total < ENOUGH_READS || lead * 2 >= refresh {
        return None;
    }
    let lead = u64::try_from(lead.as_millis()).ok()?;
    // Everything in parts from here on. A fetch for the reads of part `p` is to be done when the
    // part begins, and a read is in the middle of its part.
    let (total, parts) = (f64::from(total), as_f64(PHASES as u64));
    let part_of = |ms: u64| as_f64(ms % interval) * parts / as_f64(interval);
    let done = part_of(due.0.saturating_add(lead));
    let (mut now, mut first) = (0.0, 0.0);
    for (part, count) in reads.iter().enumerate() {
        let read = as_f64(part as u64) + 0.5;
        let age = if read >= done { read - done } else { read - done + parts };
        now += f64::from(*count) * age;
        first += f64::from(*count) * read;
    }
    // One part later everybody's value is one part younger, apart from those who read just before:
    // theirs is nearly an interval old.
    let (mut best, mut least, mut ages) = (0, first, first);
    for (part, count) in reads.iter().enumerate().take(PHASES - 1) {
        ages += parts * f64::from(*count) - total;
        if ages < least {
            (best, least) = (part + 1, ages);
        }
    }
    if now - least < total * parts * WORTH {
        return None;
    }
    // The shorter way round.
    let way = as_f64(best as u64) - done;
    let way = if way < 0.0 { way + parts } else { way };
    let length = |way: f64| refresh.mul_f64(way / parts);
    Some(if way <= parts / 2.0 {
        Shift::Later(length(way))
    } else {
        Shift::Earlier(length(parts - way))
    })
}

/// How a start moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// This much earlier.
    Earlier(Duration),
    /// This much later.
    Later(Duration),
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of an interval, far below 2^53")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::ReadPhases;

    const REFRESH: Duration = Duration::from_secs(15);
    const LEAD: Duration = Duration::from_millis(500);

    /// Runs a query that is fetched every `refresh` and read at the given moments; gives the mean
    /// age at read over the second half, and the number of fetches.
    fn run(reads: &[u64], refresh: Duration, locked: bool, end: u64, start: u64) -> (f64, usize) {
        let phases = ReadPhases::default();
        let (mut due, mut newest, mut fetches) = (Tick(start), None, 0);
        let (mut ages, mut read) = (Vec::new(), reads.iter().peekable());
        while due.0 < end {
            // A fetch is done a tenth of a second after its start.
            while let Some(at) = read.next_if(|at| **at < due.0 + 100) {
                phases.note(Tick(*at), refresh);
                if let Some(observed) = newest
                    && *at > end / 2
                {
                    ages.push(as_f64(*at - observed));
                }
            }
            newest = Some(due.0);
            fetches += 1;
            let next = due.after(refresh);
            due = match shift(&phases.take(), refresh, next, LEAD) {
                Some(Shift::Later(by)) if locked => next.after(by),
                Some(Shift::Earlier(by)) if locked => next.before(by),
                _ => next,
            };
        }
        (ages.iter().sum::<f64>() / as_f64(ages.len() as u64), fetches)
    }

    fn beat(period: u64, phase: u64, end: u64) -> Vec<u64> {
        (phase..end).step_by(usize::try_from(period).unwrap()).collect()
    }

    #[test]
    fn a_steady_reader_gets_values_that_are_about_a_second_old() {
        let end = 3_600_000;
        let reads = beat(15_000, 9_100, end);
        let (locked, fetches) = run(&reads, REFRESH, true, end, 1_000);
        let (plain, plain_fetches) = run(&reads, REFRESH, false, end, 1_000);
        assert!(locked <= 1_100.0, "{locked}");
        assert!(plain > 7_000.0, "{plain}");
        assert!(fetches.abs_diff(plain_fetches) <= 1, "{fetches} {plain_fetches}");
    }

    #[test]
    fn a_reader_that_drifts_is_followed() {
        // The HPA controller waits 15 s after each pass, so its beat is a little longer.
        let end = 7_200_000;
        let reads = beat(15_040, 3_000, end);
        let (locked, _) = run(&reads, REFRESH, true, end, 1_000);
        assert!(locked <= 2_000.0, "{locked}");
    }

    #[test]
    fn an_irregular_reader_gets_the_plain_interval() {
        // Every part of the interval is read alike.
        assert_eq!(shift(&[50; PHASES], REFRESH, Tick(123_456), LEAD), None);
        assert_eq!(shift(&[0; PHASES], REFRESH, Tick(0), LEAD), None);
    }

    #[test]
    fn an_interval_too_short_for_a_lead_is_left_alone() {
        let mut reads = [0; PHASES];
        reads[20] = 100;
        assert_eq!(shift(&reads, Duration::from_secs(1), Tick(0), LEAD), None);
    }

    proptest! {
        /// For any steady readers: never many more fetches, and never an older value than by the
        /// plain interval, give or take the width of a part and the lead.
        #[test]
        fn locking_costs_nothing_and_never_harms(
            phases in prop::collection::vec(0..15_000_u64, 1..5),
            start in 0..15_000_u64,
        ) {
            let end = 3_600_000;
            let mut reads: Vec<u64> = phases.iter().flat_map(|p| beat(15_000, *p, end)).collect();
            reads.sort_unstable();
            let (locked, fetches) = run(&reads, REFRESH, true, end, start);
            let (plain, plain_fetches) = run(&reads, REFRESH, false, end, start);
            prop_assert!(fetches.abs_diff(plain_fetches) <= 1, "{} {}", fetches, plain_fetches);
            prop_assert!(locked <= plain + 1_500.0, "{} {}", locked, plain);
        }

        #[test]
        fn a_single_steady_reader_is_always_within_two_seconds(
            phase in 0..15_000_u64,
            start in 0..15_000_u64,
            period_s in prop::sample::select(vec![15_u64, 30, 45]),
        ) {
            let end = 3_600_000;
            let reads = beat(period_s * 1000, phase, end);
            let (locked, _) = run(&reads, REFRESH, true, end, start);
            prop_assert!(locked <= 2_000.0, "{}", locked);
        }
    }
}
