//! The cluster's HPAs: what each asks for, and what it would get.
//!
//! Responsible for: which of them an answer shows, and in what words. Not responsible for: what a
//! read would get ([`Foresee`]), who asks for what (`control::hpa_watch`).
//!
//! Invariants: a page is bounded however many HPAs there are and however much one asks for; looking
//! makes nothing wanted.

mod json;
mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::control::hpa_watch::{Report, Usage, Used};
use crate::model::{Foresee, MetricReference, Miss, Outlook};

pub(super) use json::render as json;
pub(super) use page::render as page;

/// HPAs on a page unless `?limit=` says otherwise.
const DEFAULT_LIMIT: usize = 100;

/// Most HPAs on a page.
const MAX_LIMIT: usize = 1000;

/// Metrics of one HPA that are shown; the rest is counted. Few have more than three.
const MAX_ASKS: usize = 20;

/// Longest text of a filter that is taken, in characters.
const MAX_FILTER: usize = 253;

/// Who asks for what, and what they would get.
#[derive(Clone)]
pub struct Foresight {
    /// The references of the cluster's HPAs.
    pub usage: Arc<Usage>,
    /// What a read of each would get.
    pub foresee: Arc<dyn Foresee>,
}

impl std::fmt::Debug for Foresight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Foresight")
    }
}

/// How it stands with what an HPA asks for. Of several the first counts for the HPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Prospect {
    /// No metric of this name is served in its namespace.
    Unknown,
    /// None of the metric's series or objects is meant.
    NoMatch,
    /// There is no value that may be served.
    NoValue,
    /// Nobody has asked yet.
    Waiting,
    /// It gets a number.
    Served,
}

impl Prospect {
    const ALL: [Self; 5] =
        [Self::Unknown, Self::NoMatch, Self::NoValue, Self::Waiting, Self::Served];

    fn of(outlook: &Outlook) -> Self {
        match &outlook.answer {
            Ok(_) => Self::Served,
            Err(Miss::Unknown { .. }) => Self::Unknown,
            Err(Miss::NoMatch { .. }) => Self::NoMatch,
            Err(Miss::NoValue { .. }) => Self::NoValue,
            Err(Miss::Untried) => Self::Waiting,
        }
    }

    /// The word that the page, `?state=` and the JSON use.
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NoMatch => "no-match",
            Self::NoValue => "no-value",
            Self::Waiting => "waiting",
            Self::Served => "served",
        }
    }
}

/// What the request asks to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    /// Part of the HPA's or a metric's name; case does not matter.
    text: String,
    /// Only HPAs of this namespace.
    namespace: String,
    state: Option<Prospect>,
    /// 1-based.
    page: usize,
    limit: usize,
    /// Whether the page reloads itself.
    paused: bool,
}

impl Filter {
    /// Reads a raw query. What it does not know or cannot read it ignores.
    fn parse(query: &str) -> Self {
        let mut filter = Self { page: 1, limit: DEFAULT_LIMIT, ..Self::default() };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let clipped = || value.trim().chars().take(MAX_FILTER).collect::<String>();
            match &*key {
                "q" => filter.text = clipped(),
                "namespace" => filter.namespace = clipped(),
                "state" => filter.state = Prospect::ALL.into_iter().find(|s| s.as_str() == value),
                "page" => filter.page = value.parse().unwrap_or(1).max(1),
                "limit" => {
                    filter.limit = value.parse().unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
                }
                "refresh" => filter.paused = value == "off",
                _ => {}
            }
        }
        filter
    }

    /// The query that asks for this, starting with `?`.
    fn to_query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("q", &self.text), ("namespace", &self.namespace)] {
            if !value.is_empty() {
                query.append_pair(key, value);
            }
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        for (key, number, default) in [("page", self.page, 1), ("limit", self.limit, DEFAULT_LIMIT)]
        {
            if number != default {
                query.append_pair(key, &number.to_string());
            }
        }
        if self.paused {
            query.append_pair("refresh", "off");
        }
        format!("?{}", query.finish())
    }

    fn matches(&self, namespace: &str, name: &str, asks: &[usize], used: &[Used]) -> bool {
        let folded = self.text.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&folded);
        (self.namespace.is_empty() || self.namespace == namespace)
            && (folded.is_empty()
                || has(name)
                || has(namespace)
                || asks.iter().any(|at| has(&used[*at].reference.metric)))
    }
}

/// A metric that an HPA asks for, and what it would get.
#[derive(Debug)]
struct Ask {
    reference: Arc<MetricReference>,
    outlook: Outlook,
}

impl Ask {
    fn prospect(&self) -> Prospect {
        Prospect::of(&self.outlook)
    }
}

/// An HPA and what it asks for.
#[derive(Debug)]
struct Hpa {
    namespace: Arc<str>,
    name: Arc<str>,
    prospect: Prospect,
    /// Bounded.
    asks: Vec<Ask>,
    /// How much it asks for in all.
    total: usize,
}

/// What one answer shows.
#[derive(Debug)]
pub(super) struct HpasView {
    filter: Filter,
    /// How the watch stands; none without a cluster.
    watch: Option<Report>,
    /// Whether the HPAs are known, and not only those that were seen last.
    known: bool,
    /// Those of this page.
    hpas: Vec<Hpa>,
    /// HPAs that match the filter.
    matching: usize,
    /// All HPAs that ask for metrics.
    total: usize,
    /// Pages, at least one.
    pages: usize,
    /// HPAs by state that match text and namespace.
    states: [(Prospect, usize); Prospect::ALL.len()],
}

impl HpasView {
    /// Looks at the HPAs through the filter that a raw query describes. Some microseconds for each
    /// reference, and up to a millisecond for each unknown name that is shown.
    pub(super) fn of(foresight: Option<&Foresight>, watch: Option<Report>, query: &str) -> Self {
        let mut filter = Filter::parse(query);
        let used = foresight.map(|foresight| foresight.usage.used()).unwrap_or_default();
        let by_hpa = by_hpa(&used);
        let total = by_hpa.len();
        let prospects: Vec<Prospect> = foresight.map_or_else(Vec::new, |foresight| {
            let glance = |used: &Used| Prospect::of(&foresight.foresee.glance(&used.reference));
            used.iter().map(glance).collect()
        });
        let worst =
            |asks: &[usize]| asks.iter().map(|at| prospects[*at]).min().unwrap_or(Prospect::Served);
        let mut matching: Vec<_> = by_hpa
            .into_iter()
            .filter(|((namespace, name), asks)| filter.matches(namespace, name, asks, &used))
            .map(|(key, asks)| (key, worst(&asks), asks))
            .collect();
        let states = Prospect::ALL
            .map(|state| (state, matching.iter().filter(|(_, worst, _)| *worst == state).count()));
        if let Some(state) = filter.state {
            matching.retain(|(_, worst, _)| *worst == state);
        }
        let count = matching.len();
        let pages = count.div_ceil(filter.limit).max(1);
        filter.page = filter.page.min(pages);
        let shown = matching.into_iter().skip((filter.page - 1) * filter.limit).take(filter.limit);
        let hpas = shown.map(|((namespace, name), prospect, asks)| Hpa {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            prospect,
            total: asks.len(),
            asks: foresight.map_or_else(Vec::new, |foresight| {
                let ask = |at: &usize| {
                    let reference = Arc::clone(&used[*at].reference);
                    Ask { outlook: foresight.foresee.foresee(&reference), reference }
                };
                asks.iter().take(MAX_ASKS).map(ask).collect()
            }),
        });
        let hpas = hpas.collect();
        let known = foresight.is_some_and(|foresight| foresight.usage.is_known());
        Self { filter, watch, known, hpas, matching: count, total, pages, states }
    }

    /// The query of this view with one thing changed; leads to its first page.
    fn link(&self, change: impl FnOnce(&mut Filter)) -> String {
        let mut filter = Filter { page: 1, ..self.filter.clone() };
        change(&mut filter);
        filter.to_query()
    }
}

/// An HPA: its namespace and its name.
type Key<'a> = (&'a Arc<str>, &'a Arc<str>);

/// The references of each HPA, by their places and in the order of the metrics' names.
fn by_hpa(used: &[Used]) -> BTreeMap<Key<'_>, Vec<usize>> {
    let mut by_hpa: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for (at, Used { reference, hpas }) in used.iter().enumerate() {
        for name in hpas.iter() {
            by_hpa.entry((&reference.namespace, name)).or_default().push(at);
        }
    }
    for asks in by_hpa.values_mut() {
        asks.sort_by_cached_key(|at| used[*at].reference.to_string());
    }
    by_hpa
}
