//! The present moment on both clocks, so that a time of day can be put on the schedule.
//!
//! The schedule runs on ticks; a grid of datapoints is a matter of the wall clock. Every
//! conversion uses one offset between the two, which changes only when the wall clock is stepped:
//! queries that are due at one moment of the day are then due in one millisecond, whenever they
//! were put on the schedule.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Beat, Clock, Tick};

/// Readings of two clocks in whole milliseconds differ by up to two; more is a step.
const TOLERANCE_MS: u64 = 3;

/// A start on the grid is this much late, so that what is left of rounding and of
/// [`TOLERANCE_MS`] never makes it early: a fetch before its moment asks for the datapoint that is
/// there already.
pub(in crate::control) const GRID_MARGIN: Duration = Duration::from_millis(5);

/// Readings that are compared before a step is believed: a pause of this thread between the two
/// clocks looks like one.
const READINGS: usize = 4;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Moment {
    pub(in crate::control) tick: Tick,
    /// Milliseconds since the Unix epoch.
    wall_ms: i64,
}

impl Moment {
    /// The next start of a query with this beat that is read every `refresh`.
    pub(in crate::control) fn next(self, beat: Beat, refresh: Duration) -> Tick {
        let now = Timestamp::from_millisecond(self.wall_ms).unwrap_or(Timestamp::MAX);
        let ahead = beat.after(now, refresh).as_millisecond().saturating_sub(self.wall_ms);
        let ahead = Duration::from_millis(u64::try_from(ahead).unwrap_or(0));
        self.tick.after(ahead + GRID_MARGIN)
    }
}

/// The offset between the clocks, kept from look to look.
#[derive(Debug, Default)]
pub(in crate::control) struct Moments {
    offset_ms: Option<i64>,
}

impl Moments {
    /// Looks at the clocks.
    pub(in crate::control) fn look(&mut self, clock: &dyn Clock) -> Moment {
        let (mut tick, mut measured) = read(clock);
        let steady = |known: i64, measured: i64| known.abs_diff(measured) <= TOLERANCE_MS;
        let offset = match self.offset_ms {
            Some(known) if steady(known, measured) => known,
            _ => {
                for _ in 1..READINGS {
                    let before = measured;
                    (tick, measured) = read(clock);
                    if steady(before, measured) {
                        break;
                    }
                }
                measured
            }
        };
        self.offset_ms = Some(offset);
        Moment { tick, wall_ms: offset.saturating_add(signed(tick)) }
    }
}

/// Ticks, and how far the wall clock is ahead of them. The wall clock is read first: a pause
/// between the two then makes starts late, not early.
fn read(clock: &dyn Clock) -> (Tick, i64) {
    let wall = clock.now().as_millisecond();
    let tick = clock.tick();
    (tick, wall.saturating_sub(signed(tick)))
}

fn signed(tick: Tick) -> i64 {
    i64::try_from(tick.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that gives prepared readings: wall and tick in milliseconds, each pair once.
    #[derive(Debug)]
    struct Script(Mutex<Vec<(i64, u64)>>);

    impl Clock for Script {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.0.lock().unwrap()[0].0).unwrap()
        }

        fn tick(&self) -> Tick {
            Tick(self.0.lock().unwrap().remove(0).1)
        }
    }

    fn look(moments: &mut Moments, readings: &[(i64, u64)]) -> Moment {
        let clock = Script(Mutex::new(readings.to_vec()));
        let moment = moments.look(&clock);
        assert!(clock.0.lock().unwrap().is_empty(), "not every reading was needed");
        moment
    }

    #[test]
    fn rounding_and_pauses_do_not_move_the_grid_and_a_step_does() {
        let beat = Beat { period: Duration::from_mins(1), delay: Duration::ZERO };
        let minute = Duration::from_mins(1);
        let mut moments = Moments::default();
        let first = look(&mut moments, &[(1_000_000, 5000), (1_000_000, 5000)]);
        let due = first.next(beat, minute);
        assert_eq!(due, Tick(5000 + 20_000 + 5));
        // Two readings that were rounded otherwise.
        for (wall, tick) in [(1_010_001, 15_000), (1_009_998, 15_000)] {
            assert_eq!(look(&mut moments, &[(wall, tick)]).next(beat, minute), due);
        }
        // The thread paused between the clocks once.
        let paused =
            look(&mut moments, &[(1_010_000, 15_400), (1_010_400, 15_400), (1_010_400, 15_400)]);
        assert_eq!(paused.next(beat, minute), due);
        // The wall clock was set back by ten seconds.
        let stepped = look(&mut moments, &[(1_000_400, 15_400), (1_000_400, 15_400)]);
        assert_eq!(stepped.next(beat, minute), Tick(15_400 + 19_600 + 5));
    }

    #[test]
    fn a_start_on_the_grid_is_followed_by_the_next_one() {
        let beat = Beat { period: Duration::from_mins(1), delay: Duration::from_secs(90) };
        let mut moments = Moments::default();
        let mut now = look(&mut moments, &[(1_000_001, 7), (1_000_001, 7)]);
        for _ in 0..5 {
            let due = now.next(beat, Duration::from_mins(1));
            // Read as early as rounding can make it.
            let wall = now.wall_ms + signed(due) - signed(now.tick);
            now = look(&mut moments, &[(wall - 3, due.0)]);
            assert_eq!(now.next(beat, Duration::from_mins(1)), due.after(Duration::from_mins(1)));
        }
    }
}
