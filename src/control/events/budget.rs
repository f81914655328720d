//! How many Events there may be: without calls.

use std::collections::HashMap;
use std::time::Duration;

use super::About;
use crate::model::Tick;

/// Events of one object at once: enough for a failure, its end, and some HPAs that are wrong.
pub const BURST: u32 = 5;

/// Afterwards it gets one in this time, as client-go has it for its own.
pub const REFILL: Duration = Duration::from_mins(5);

/// Between two Events, whatever they are about: with statuses, ten writes a second are all that the
/// API server sees, and nobody reads more.
const GAP: Duration = Duration::from_secs(1);

/// Objects that are remembered: those of the last minutes. Above it the oldest are forgotten.
const MAX_OBJECTS: usize = 10_000;

/// Of each object, when its budget is whole again.
#[derive(Debug, Default)]
pub(super) struct Budget {
    whole_at: HashMap<About, Tick>,
    next: Tick,
}

impl Budget {
    /// Whether an object may have one more; notes it.
    pub(super) fn spend(&mut self, about: &About, now: Tick) -> bool {
        if self.whole_at.len() >= MAX_OBJECTS {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            if self.whole_at.len() >= MAX_OBJECTS {
                return false;
            }
        }
        let whole_at = self.whole_at.get(about).map_or(now, |whole_at| (*whole_at).max(now));
        let spent = whole_at.after(REFILL);
        if spent.since(now) > REFILL * BURST {
            return false;
        }
        self.whole_at.insert(about.clone(), spent);
        true
    }

    /// When the next one of any object may be published.
    pub(super) fn next(&self) -> Tick {
        self.next
    }

    /// One is published.
    pub(super) fn published(&mut self, now: Tick) {
        self.next = now.after(GAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::Hpa;

    #[test]
    fn an_object_gets_a_few_and_then_one_now_and_then() {
        let about = |name: &str| About::Hpa(Hpa { namespace: "a".into(), name: name.into() });
        let (mut budget, now) = (Budget::default(), Tick(1_000_000));
        let given = (0..20).filter(|_| budget.spend(&about("a"), now)).count();
        assert_eq!(given, 5);
        assert!(budget.spend(&about("b"), now), "others have their own");
        let later = now.after(REFILL);
        assert_eq!((0..20).filter(|_| budget.spend(&about("a"), later)).count(), 1);
        let much_later = later.after(REFILL * 100);
        assert_eq!((0..20).filter(|_| budget.spend(&about("a"), much_later)).count(), 5);
    }
}
