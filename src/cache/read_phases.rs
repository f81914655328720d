//! When, within a refresh interval, a query is read.
//!
//! HPAs read on a steady beat (15 s by default). Where in the refresh interval these reads fall is
//! counted here, cheaply, so that the refresher can fetch shortly before the next one instead of at
//! a random phase.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::model::Tick;

/// Parts of a refresh interval that are told apart: half a second each at the default of 15 s.
pub const PHASES: usize = 32;

/// The weight of one read when it happens. It fades with every [`ReadPhases::take`].
pub const READ: u16 = 16;

/// At each look a weight loses an eighth: what was seen two minutes ago at the default interval of
/// 15 s counts a third. A reader that drifts is followed, one that reads every fourth interval is
/// still seen.
const FADE: u16 = 8;

/// A part that has this weight takes no more: two thousand reads between two looks are enough.
/// The room above it is for readers that look at the same moment.
const ENOUGH: u16 = u16::MAX / 2;

/// Reads by their phase in the refresh interval. Takes no memory before the first read.
#[derive(Debug, Default)]
pub struct ReadPhases(OnceLock<Box<[AtomicU16; PHASES]>>);

impl ReadPhases {
    /// Notes a read at `now` of a query that is fetched every `refresh`.
    pub fn note(&self, now: Tick, refresh: Duration) {
        let counts = self.0.get_or_init(Box::default);
        let count = &counts[phase_of(now, refresh)];
        // Exact counts do not matter, that reads never wrap a count to nothing does.
        if count.load(Ordering::Relaxed) < ENOUGH {
            count.fetch_add(READ, Ordering::Relaxed);
        }
    }

    /// Forgets everything: another interval has other phases.
    pub fn forget(&self) {
        for count in self.0.get().into_iter().flat_map(|counts| counts.iter()) {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// The weights of the parts, which fade with every look.
    pub fn take(&self) -> [u16; PHASES] {
        let Some(counts) = self.0.get() else { return [0; PHASES] };
        std::array::from_fn(|i| {
            let seen = counts[i].load(Ordering::Relaxed);
            // Most parts are never read in. Only one looks, and another may forget meanwhile.
            if seen > 0 {
                let fade = |now: u16| Some(now.saturating_sub(seen.div_ceil(FADE)));
                let _ = counts[i].fetch_update(Ordering::Relaxed, Ordering::Relaxed, fade);
            }
            seen
        })
    }
}

/// The part of the interval in which a tick lies. Intervals are counted from tick zero.
fn phase_of(now: Tick, refresh: Duration) -> usize {
    let refresh = u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX).max(1);
    // Below PHASES, because the remainder is below the divisor.
    usize::try_from((now.0 % refresh).saturating_mul(PHASES as u64) / refresh).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_counted_by_phase_and_fade() {
        let (phases, refresh) = (ReadPhases::default(), Duration::from_secs(16));
        assert_eq!(phases.take(), [0; PHASES]);
        for beat in 0..8 {
            phases.note(Tick(16_000 * beat + 1200), refresh);
            phases.note(Tick(16_000 * beat + 15_999), refresh);
        }
        let first = phases.take();
        assert_eq!((first[2], first[31], first.iter().sum::<u16>()), (128, 128, 256));
        assert_eq!(phases.take()[2], 112);
        for _ in 0..40 {
            phases.take();
        }
        assert_eq!(phases.take(), [0; PHASES], "nothing stays for ever");
    }

    #[test]
    fn many_reads_do_not_wrap_a_count() {
        let phases = ReadPhases::default();
        for _ in 0..200_000 {
            phases.note(Tick(5), Duration::from_secs(1));
        }
        assert!((ENOUGH..ENOUGH + READ).contains(&phases.take()[0]));
    }
}
