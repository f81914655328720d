//! Which series queries are listed when, and what they found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::model::{FetchError, SeriesShape, SourceName, Tick};
use crate::rules::{Rule, RuleFileSettings};

/// The first pause after a failed listing; it doubles up to the listing's interval.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// A list that is empty all of a sudden is asked for so many times more, at growing pauses, before it
/// is believed: a Prometheus that has just started has no series yet, and all metrics of a rule
/// would be gone until the next list.
const BELIEVED_AFTER: u32 = 3;

/// Intervals are longer or shorter by up to this part, so that replicas do not ask together.
const JITTER: f64 = 0.05;

/// What a listing asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) source: SourceName,
    pub(super) series_query: Arc<str>,
}

/// What a listing gives.
pub(super) type Answer = Result<Vec<SeriesShape>, FetchError>;

/// A listing that is to be made now.
pub(super) struct Due {
    pub(super) key: Key,
    pub(super) max_age: Duration,
}

/// All listings.
#[derive(Default)]
pub(super) struct Listings {
    all: BTreeMap<Key, Listing>,
    /// Those under way, by source: with those whose rules have gone meanwhile.
    under_way: BTreeMap<SourceName, usize>,
}

struct Listing {
    interval: Duration,
    max_age: Duration,
    due: Tick,
    running: bool,
    tried: bool,
    failures: u32,
    /// Empty lists in a row where there were series before.
    emptied: u32,
    error: Option<String>,
    series: Option<Arc<[SeriesShape]>>,
}

/// Where the listings stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) queries: usize,
    pub(super) untried: usize,
    pub(super) failing: usize,
    pub(super) shapes: usize,
}

impl Listings {
    /// From now on exactly the series queries of these rules are listed. What was found before
    /// stays.
    pub(super) fn want<'a>(
        &mut self,
        rules: impl Iterator<Item = (&'a RuleFileSettings, &'a Arc<Rule>)>,
        now: Tick,
    ) {
        let mut wanted = BTreeSet::new();
        for (settings, rule) in rules {
            let key = key(settings, rule);
            let listing = self.all.entry(key.clone()).or_insert_with(|| Listing {
                interval: settings.relist_interval,
                max_age: settings.series_max_age,
                due: now,
                running: false,
                tried: false,
                failures: 0,
                emptied: 0,
                error: None,
                series: None,
            });
            // Two files may ask the same at different paces: the faster one, and the longer memory.
            if wanted.insert(key) {
                listing.interval = settings.relist_interval;
                listing.max_age = settings.series_max_age;
            } else {
                listing.interval = listing.interval.min(settings.relist_interval);
                listing.max_age = listing.max_age.max(settings.series_max_age);
            }
        }
        self.all.retain(|key, _| wanted.contains(key));
    }

    /// The listings that are to be made now, those first that have waited longest; each is under
    /// way until it is taken. Of one source no more than `at_once` are: the rest waits here, where
    /// waiting counts into nobody's timeout.
    pub(super) fn due(&mut self, now: Tick, at_once: impl Fn(&SourceName) -> usize) -> Vec<Due> {
        let waits = |listing: &Listing| !listing.running && listing.due <= now;
        let mut waiting: Vec<_> = self.all.iter_mut().filter(|(_, it)| waits(it)).collect();
        waiting.sort_by_key(|(_, listing)| listing.due);
        let mut due = Vec::new();
        for (key, listing) in waiting {
            let under_way = self.under_way.entry(key.source.clone()).or_default();
            if *under_way < at_once(&key.source).max(1) {
                *under_way += 1;
                listing.running = true;
                due.push(Due { key: key.clone(), max_age: listing.max_age });
            }
        }
        due
    }

    /// Takes the end of a listing; tells whether the series are others now.
    pub(super) fn take(&mut self, key: &Key, answer: Answer, now: Tick) -> bool {
        if let Some(under_way) = self.under_way.get_mut(&key.source) {
            *under_way = under_way.saturating_sub(1);
        }
        // The rule may have gone meanwhile.
        let Some(listing) = self.all.get_mut(key) else { return false };
        listing.running = false;
        listing.tried = true;
        let series_query = &*key.series_query;
        match answer {
            Ok(series) => {
                if listing.failures > 0 {
                    tracing::info!(source = %key.source, series_query, "series can be listed again");
                }
                listing.failures = 0;
                listing.error = None;
                let had = listing.series.as_deref().is_some_and(|series| !series.is_empty());
                if had && series.is_empty() && listing.emptied < BELIEVED_AFTER {
                    listing.emptied += 1;
                    listing.due = now.after(jittered(FIRST_PAUSE * listing.emptied));
                    return false;
                }
                listing.emptied = 0;
                listing.due = now.after(jittered(listing.interval));
                let changed = listing.series.as_deref() != Some(&series[..]);
                if changed {
                    listing.series = Some(series.into());
                }
                changed
            }
            Err(error) => {
                if listing.failures == 0 {
                    let kept =
                        if listing.series.is_some() { "; those found last stay" } else { "" };
                    tracing::warn!(
                        source = %key.source, series_query, cause = %error,
                        detail = error.cause().detail(),
                        "series cannot be listed{kept}"
                    );
                }
                let doubled = FIRST_PAUSE.saturating_mul(1 << listing.failures.min(16));
                listing.failures = listing.failures.saturating_add(1);
                listing.error = Some(error.to_string());
                listing.due = now.after(jittered(doubled.min(listing.interval)));
                false
            }
        }
    }

    /// What a rule's series query found last.
    pub(super) fn series(
        &self,
        settings: &RuleFileSettings,
        rule: &Arc<Rule>,
    ) -> Option<Arc<[SeriesShape]>> {
        self.all.get(&key(settings, rule))?.series.clone()
    }

    /// Where they stand.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally { queries: self.all.len(), ..Tally::default() };
        for listing in self.all.values() {
            tally.untried += usize::from(!listing.tried);
            tally.failing += usize::from(listing.failures > 0);
            tally.shapes += listing.series.as_deref().map_or(0, <[_]>::len);
        }
        tally
    }

    /// The series queries that cannot be listed, and why.
    pub(super) fn failing(&self) -> Vec<(Key, String)> {
        let failing =
            |(key, listing): (&Key, &Listing)| Some((key.clone(), listing.error.clone()?));
        self.all.iter().filter_map(failing).collect()
    }
}

fn key(settings: &RuleFileSettings, rule: &Arc<Rule>) -> Key {
    Key { source: settings.source.clone(), series_query: Arc::clone(rule.series_query()) }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER))
}
