//! Names that are near one that is not served: what somebody may have meant.
//!
//! Bounded whatever the name is and however many names there are: of each list at most
//! [`MAX_LOOKED_AT`] names are looked at, those of about the same length that begin alike first, and
//! as many are compared as [`MAX_WORK`] allows. What was found is remembered for a minute, because
//! an HPA asks four times in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::name::MAX_METRIC_NAME_BYTES;
use crate::model::{Clock, Tick};

/// Most names that are found: a sentence has room for no more.
pub(super) const MAX_NEAR: usize = 3;

/// Names whose length is looked at. Twice the 100,000 metrics that we are built for; their lengths
/// are in the list itself, so that takes a tenth of a millisecond.
const MAX_LOOKED_AT: usize = 200_000;

/// Steps of comparing names, each some nanoseconds: about a millisecond.
const MAX_WORK: usize = 300_000;

/// Shorter names are too near to everything.
const MIN_BYTES: usize = 3;

/// How long is remembered what was found.
const KEPT: Duration = Duration::from_mins(1);

/// The same once other metrics are defined: whoever corrects a definition looks at what it gives.
const KEPT_AFTER_CHANGE: Duration = Duration::from_secs(5);

/// Most names for which it is remembered, some 100 bytes each: ten times a thousand HPAs. With
/// more, all are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// A name that is not served.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Question<'a> {
    /// Of which objects; empty for external metrics.
    pub(super) of: &'a str,
    /// In which namespace.
    pub(super) namespace: &'a str,
    /// The name, folded as names of its kind are.
    pub(super) metric: &'a str,
}

/// What was found for names.
pub(super) struct Near {
    clock: Arc<dyn Clock>,
    hasher: ahash::RandomState,
    /// By hash of the question. Of two that clash one is answered with names that are served to it,
    /// too, and not very near.
    found: Mutex<HashMap<u64, Found>>,
}

struct Found {
    at: Tick,
    generation: u64,
    names: Arc<[Arc<str>]>,
}

impl Near {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, hasher: ahash::RandomState::new(), found: Mutex::default() }
    }

    /// The names that are nearest, nearest first. `generation` counts changes of what is served,
    /// `seen` says whether a name is served to who asks, `look` gives the names to compare with.
    pub(super) fn find(
        &self,
        question: Question<'_>,
        generation: u64,
        seen: impl Fn(&str) -> bool,
        look: impl FnOnce(&mut Search<'_>),
    ) -> Vec<Arc<str>> {
        if !(MIN_BYTES..=MAX_METRIC_NAME_BYTES).contains(&question.metric.len()) {
            return Vec::new();
        }
        let (key, now) = (self.hasher.hash_one(question), self.clock.tick());
        if let Some(names) = self.remembered(key, generation, now) {
            return names.iter().filter(|name| seen(name)).cloned().collect();
        }
        let mut search = Search::new(question.metric);
        look(&mut search);
        let names: Vec<Arc<str>> = search.found.into_iter().map(|(_, name)| name).collect();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MAX_REMEMBERED && !found.contains_key(&key) {
            found.clear();
        }
        found.insert(key, Found { at: now, generation, names: names.as_slice().into() });
        names
    }

    fn remembered(&self, key: u64, generation: u64, now: Tick) -> Option<Arc<[Arc<str>]>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.get(&key)?;
        let kept = if found.generation == generation { KEPT } else { KEPT_AFTER_CHANGE };
        (now.since(found.at) < kept).then(|| Arc::clone(&found.names))
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Near")
    }
}

/// A search under way.
pub(super) struct Search<'a> {
    asked: &'a str,
    folded: String,
    letters: u64,
    /// Most slips: one in three letters, as `definition::field` guesses.
    most: usize,
    /// Nearest first, and by name.
    found: Vec<(usize, Arc<str>)>,
}

impl<'a> Search<'a> {
    fn new(asked: &'a str) -> Self {
        let folded = folded(asked);
        let (letters, most) = (letters(&folded), folded.len() / 3);
        Self { asked, folded, letters, most, found: Vec::with_capacity(MAX_NEAR + 1) }
    }

    /// The name that is not served.
    pub(super) fn asked(&self) -> &'a str {
        self.asked
    }

    /// Looks at names, in this order. Only those count that are `seen`.
    pub(super) fn look_at<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        seen: impl Fn(&str) -> bool,
    ) {
        let mut work = 0;
        for name in names.take(MAX_LOOKED_AT) {
            if name.len().abs_diff(self.folded.len()) > self.most {
                continue;
            }
            work += name.len();
            if work > MAX_WORK {
                return;
            }
            let other = folded(name);
            if differing(self.letters, letters(&other)) > self.most {
                continue;
            }
            work += self.folded.len() * other.len();
            let distance = strsim::osa_distance(&self.folded, &other);
            let full = self.found.len() == MAX_NEAR;
            let better = || {
                let last = self.found.last();
                last.is_none_or(|(farthest, last)| (distance, name) < (*farthest, &**last))
            };
            if distance <= self.most
                && (!full || better())
                && self.found.iter().all(|(_, known)| **known != *name)
                && seen(name)
            {
                let at = self.found.partition_point(|(d, n)| (*d, &**n) < (distance, name));
                self.found.insert(at, (distance, name.into()));
                self.found.truncate(MAX_NEAR);
            }
        }
    }
}

/// A name in lower case, with one character in place of all that separate words.
fn folded(name: &str) -> String {
    let fold = |c: char| if matches!(c, '-' | '.' | '_' | ':') { '_' } else { c };
    name.chars().flat_map(char::to_lowercase).map(fold).collect()
}

/// Which characters there are, by their last six bits.
fn letters(text: &str) -> u64 {
    text.bytes().fold(0, |letters, byte| letters | 1 << (byte & 63))
}

/// How many slips it takes at least to get from some letters to others.
fn differing(ours: u64, theirs: u64) -> usize {
    (ours & !theirs).count_ones().max((theirs & !ours).count_ones()) as usize
}

/// The elements of a sorted list, those around the first that is not `before` first.
pub(super) fn outward<T>(sorted: &[T], before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
    let (below, above) = sorted.split_at(sorted.partition_point(before));
    let (mut below, mut above) = (below.iter().rev(), above.iter());
    let mut up = false;
    std::iter::from_fn(move || {
        up = !up;
        if up {
            above.next().or_else(|| below.next())
        } else {
            below.next().or_else(|| above.next())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::ManualClock;

    fn near(asked: &str, names: &[&str]) -> Vec<String> {
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        let mut search = Search::new(asked);
        search.look_at(outward(&sorted, |name| *name < asked).copied(), |_| true);
        search.found.iter().map(|(_, name)| name.to_string()).collect()
    }

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["queue_depth", "latency_p99", "jobs", "jobs_done", "orders", "zz"];
        assert_eq!(near("queue_dept", &names), ["queue_depth"]);
        assert_eq!(near("queue-depth", &names), ["queue_depth"]);
        assert_eq!(near("Queue.Depth", &names), ["queue_depth"]);
        assert_eq!(near("uqeue_depht", &names), ["queue_depth"]);
        assert_eq!(near("job", &names), ["jobs"]);
        assert_eq!(near("rabbits_waiting", &names), [""; 0]);
        assert_eq!(near("zzz", &names), ["zz"]);
    }

    #[test]
    fn the_three_nearest_come_nearest_first() {
        let names = ["depth_1", "depth_22", "depth_2", "depth_333", "depth", "width"];
        assert_eq!(near("depth_", &names), ["depth", "depth_1", "depth_2"]);
    }

    #[test]
    fn any_order_of_lists_covers_all() {
        let all: Vec<u32> = (0..7).collect();
        for from in 0..=7 {
            let mut seen: Vec<u32> = outward(&all, |n| *n < from).copied().collect();
            seen.sort_unstable();
            assert_eq!(seen, all);
        }
        let first: Vec<u32> = outward(&all, |n| *n < 3).take(3).copied().collect();
        assert_eq!(first, [3, 2, 4]);
    }

    #[test]
    fn what_was_found_is_remembered_and_still_has_to_be_seen() {
        let clock = Arc::new(ManualClock::default());
        let (near, looks) = (Near::new(clock.clone()), Cell::new(0));
        let find = |generation: u64, seen: bool| {
            let question = Question { of: "", namespace: "shop", metric: "dept" };
            near.find(
                question,
                generation,
                |_| seen,
                |search| {
                    looks.set(looks.get() + 1);
                    search.look_at(["depth"].into_iter(), |_| true);
                },
            )
            .len()
        };
        assert_eq!((find(1, true), find(1, true), looks.get()), (1, 1, 1));
        assert_eq!((find(1, false), looks.get()), (0, 1), "it went meanwhile");
        assert_eq!((find(2, true), looks.get()), (1, 1), "changes may be many");
        clock.advance(KEPT_AFTER_CHANGE);
        assert_eq!((find(1, true), looks.get()), (1, 1));
        assert_eq!((find(2, true), looks.get()), (1, 2));
        clock.advance(KEPT);
        assert_eq!((find(2, true), looks.get()), (1, 3));
        let long = "x".repeat(MAX_METRIC_NAME_BYTES + 1);
        for metric in ["ab", &long] {
            let question = Question { of: "", namespace: "shop", metric };
            near.find(question, 1, |_| true, |_| panic!("too short or too long"));
        }
    }

    #[test]
    fn a_search_among_a_hundred_thousand_names_compares_few() {
        let names: Vec<String> =
            (0..100_000).map(|i| format!("tenant_{i:06}_queue_depth_of_orders")).collect();
        let asked = "tenant_050000_queue_depht_of_orders";
        let (mut search, compared) = (Search::new(asked), Cell::new(0));
        let seen = |_: &str| {
            compared.set(compared.get() + 1);
            false
        };
        let around = outward(&names, |name| name.as_str() < asked);
        search.look_at(around.map(String::as_str), seen);
        assert!(search.found.is_empty());
        let each = asked.len() * asked.len();
        assert!((1..=MAX_WORK / each + 1).contains(&compared.get()), "{}", compared.get());
    }
}
