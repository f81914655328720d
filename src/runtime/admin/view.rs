//! One look at the inventory: filtered, counted, sorted and cut to a page.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::control::{hpa_watch, rule_watch};
use crate::model::{Decimal, Problem};
use crate::rules::{Place, RuleProblem};
use crate::runtime::admin::{Inventory, MetricRow, MetricState, SourceCost, UpstreamRow};

/// Rows on a page unless `?limit=` says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most rows on a page: about a megabyte of HTML.
const MAX_LIMIT: usize = 1000;
/// Problems and conflicts that are listed; the rest is counted.
const MAX_REPORTS: usize = 50;
/// Namespaces that the filter suggests.
const MAX_NAMESPACES: usize = 200;
/// Upstreams that are listed; the rest is counted.
const MAX_UPSTREAMS: usize = 100;
/// Longest text of a filter that is taken, in characters.
const MAX_FILTER: usize = 253;

/// What rows are sorted by; rows that lack it come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    /// Those that need a person first.
    State,
    Value,
    Age,
    Source,
    /// By the number of HPAs.
    Use,
    /// By the time since the last read.
    Read,
}

impl Sort {
    const ALL: [Self; 7] =
        [Self::Name, Self::State, Self::Value, Self::Age, Self::Source, Self::Use, Self::Read];

    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Value => "value",
            Self::Age => "age",
            Self::Source => "source",
            Self::Use => "use",
            Self::Read => "read",
        }
    }

    /// Whether the first click on a column wants the largest first.
    pub(super) fn starts_descending(self) -> bool {
        matches!(self, Self::Value | Self::Age | Self::Use)
    }
}

/// What the request asks to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Part of the name, labels, definition, source, query or error; case does not matter.
    pub(super) text: String,
    /// Only what this namespace can see.
    pub(super) namespace: String,
    /// Only metrics in this state.
    pub(super) state: Option<MetricState>,
    /// Only metrics that nobody uses.
    pub(super) unused: bool,
    pub(super) sort: Sort,
    pub(super) descending: bool,
    /// 1-based.
    pub(super) page: usize,
    /// Rows on a page.
    pub(super) limit: usize,
    /// Whether the page reloads itself.
    pub(super) paused: bool,
}

impl Filter {
    /// Reads a raw query. What it does not know or cannot read it ignores: a stale bookmark shows
    /// more rather than an error.
    pub(super) fn parse(query: &str) -> Self {
        let mut filter = Self { page: 1, limit: DEFAULT_LIMIT, ..Self::default() };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let clipped = || clip(&value);
            match &*key {
                "q" => filter.text = clipped(),
                "namespace" => filter.namespace = clipped(),
                "state" => {
                    filter.state = MetricState::ALL.into_iter().find(|s| s.as_str() == value);
                }
                "unused" => filter.unused = value == "yes",
                "sort" => {
                    let (word, descending) = match value.strip_prefix('-') {
                        Some(word) => (word, true),
                        None => (&*value, false),
                    };
                    if let Some(sort) = Sort::ALL.into_iter().find(|s| s.as_str() == word) {
                        (filter.sort, filter.descending) = (sort, descending);
                    }
                }
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
    pub(super) fn to_query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair("q", &self.text);
        }
        if !self.namespace.is_empty() {
            query.append_pair("namespace", &self.namespace);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        if self.unused {
            query.append_pair("unused", "yes");
        }
        if self.sort != Sort::Name || self.descending {
            query.append_pair("sort", &self.sort_text());
        }
        if self.page > 1 {
            query.append_pair("page", &self.page.to_string());
        }
        if self.limit != DEFAULT_LIMIT {
            query.append_pair("limit", &self.limit.to_string());
        }
        if self.paused {
            query.append_pair("refresh", "off");
        }
        format!("?{}", query.finish())
    }

    /// What `?sort=` says: a word, with a `-` before it for the largest first.
    pub(super) fn sort_text(&self) -> String {
        format!("{}{}", if self.descending { "-" } else { "" }, self.sort.as_str())
    }

    /// Whether it hides anything.
    pub(super) fn is_narrow(&self) -> bool {
        !self.text.is_empty() || !self.namespace.is_empty() || self.state.is_some() || self.unused
    }

    fn matches(&self, row: &MetricRow, folded: &str) -> bool {
        self.in_namespace(&row.scope) && contains(row, folded)
    }

    fn in_namespace(&self, scope: &str) -> bool {
        self.namespace.is_empty()
            || scope == MetricRow::ALL_NAMESPACES
            || scope.split(',').any(|name| name.trim() == self.namespace)
    }
}

/// A filter's text without white space around it, bounded.
fn clip(text: &str) -> String {
    let bounded: String = text.trim().chars().take(MAX_FILTER).collect();
    bounded.trim_end().to_owned()
}

fn contains(row: &MetricRow, folded: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(folded);
    folded.is_empty()
        || [&row.metric, &row.definition, &row.origin, &row.source, &row.query]
            .into_iter()
            .any(|text| has(text))
        || row.last_error.as_deref().is_some_and(has)
        || row.labels.iter().any(|(key, value)| has(&format!("{key}={value}")))
}

/// A bounded list and how long the whole is.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    pub(super) shown: Vec<T>,
    pub(super) total: usize,
}

impl<T> Bounded<T> {
    fn of(mut all: Vec<T>, most: usize) -> Self {
        let total = all.len();
        all.truncate(most);
        Self { shown: all, total }
    }

    /// The texts of a list of reports.
    fn shown<U>(all: &[U], text: impl FnMut(&U) -> T) -> Self {
        Self { shown: all.iter().take(MAX_REPORTS).map(text).collect(), total: all.len() }
    }
}

/// Where rules stand, bounded.
#[derive(Debug)]
pub(super) struct RulesView {
    pub(super) custom: usize,
    pub(super) external: usize,
    pub(super) shapes: usize,
    pub(super) skipped: usize,
    pub(super) pending: Option<String>,
    pub(super) files: Bounded<String>,
    pub(super) rules: Bounded<String>,
    pub(super) listings: Bounded<String>,
}

impl RulesView {
    fn of(report: rule_watch::Report) -> Self {
        let rule = |problem: &RuleProblem| {
            let Place { path, line, field } = &problem.place;
            format!("{}:{line}: {field}: {}", path.display(), problem.message)
        };
        let listing = |(series, why): &(String, String)| format!("{series}: {why}");
        Self {
            custom: report.custom,
            external: report.external,
            shapes: report.shapes,
            skipped: report.skipped,
            pending: report.pending,
            files: Bounded::shown(&report.file_problems, ToString::to_string),
            rules: Bounded::shown(&report.rule_problems, rule),
            listings: Bounded::shown(&report.failing, listing),
        }
    }
}

/// How a source's metrics do.
#[derive(Debug, Default)]
pub(super) struct SourceView {
    pub(super) name: String,
    /// Kinds of query that it answers.
    pub(super) kinds: Vec<&'static str>,
    pub(super) metrics: usize,
    pub(super) refreshed: usize,
    /// Of the queries that are refreshed, each counted once; several may share a call.
    pub(super) queries_per_minute: f64,
    /// Metrics whose latest read failed.
    pub(super) troubled: usize,
    /// What it said, and how long ago.
    pub(super) newest_error: Option<(String, Duration)>,
}

impl SourceView {
    /// Of these rows, by name.
    fn all(rows: &[MetricRow]) -> Vec<Self> {
        let mut sources: BTreeMap<&str, Self> = BTreeMap::new();
        let mut seen = HashSet::new();
        for row in rows {
            let source = sources.entry(&row.source).or_default();
            source.metrics += 1;
            if !source.kinds.contains(&row.source_kind) {
                source.kinds.push(row.source_kind);
            }
            let is_new = row.roots.cell.as_ref().is_none_or(|cell| seen.insert(Arc::as_ptr(cell)));
            if row.wanted {
                source.refreshed += 1;
                let every = row.refresh.as_secs_f64();
                if is_new && every > 0.0 {
                    source.queries_per_minute += 60.0 / every;
                }
            }
            if let (Some(error), Some(age)) = (&row.last_error, row.last_error_age) {
                source.troubled += 1;
                if source.newest_error.as_ref().is_none_or(|(_, newest)| age < *newest) {
                    source.newest_error = Some((error.clone(), age));
                }
            }
        }
        let named = |(name, source): (&str, Self)| Self { name: name.to_owned(), ..source };
        sources.into_iter().map(named).collect()
    }
}

/// What one answer shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) filter: Filter,
    /// The rows of this page.
    pub(super) rows: Vec<MetricRow>,
    /// Metrics that match the filter.
    pub(super) matching: usize,
    /// All metrics.
    pub(super) total: usize,
    /// Pages of matching metrics, at least one.
    pub(super) pages: usize,
    /// Metrics by state that match text and namespace.
    pub(super) states: [(MetricState, usize); MetricState::ALL.len()],
    /// Metrics that match text and namespace and are set apart.
    pub(super) apart: usize,
    /// Metrics that match text and namespace and that nobody uses.
    pub(super) unused: usize,
    /// Of all metrics, whatever the filter shows.
    pub(super) costs: Vec<SourceCost>,
    /// Of all metrics, too.
    pub(super) sources: Vec<SourceView>,
    /// Of all sources.
    pub(super) upstreams: Bounded<UpstreamRow>,
    pub(super) namespaces: Vec<String>,
    pub(super) problems: Bounded<Problem>,
    pub(super) conflicts: Bounded<String>,
    pub(super) rules: Option<RulesView>,
    pub(super) hpas: Option<hpa_watch::Report>,
    pub(super) version: &'static str,
    pub(super) uptime: Duration,
}

impl View {
    /// Looks at the inventory through the filter that a raw query describes.
    pub(super) fn of(inventory: &dyn Inventory, query: &str) -> Self {
        let mut filter = Filter::parse(query);
        let mut rows = inventory.metrics();
        let total = rows.len();
        let namespaces = namespaces(&rows);
        let sources = SourceView::all(&rows);
        let folded = filter.text.to_lowercase();
        rows.retain(|row| filter.matches(row, &folded));
        let states = MetricState::ALL
            .map(|state| (state, rows.iter().filter(|row| row.state == state).count()));
        let apart = rows.iter().filter(|row| row.apart.is_some()).count();
        let unused = rows.iter().filter(|row| row.unused).count();
        rows.retain(|row| row.unused || !filter.unused);
        if let Some(state) = filter.state {
            rows.retain(|row| row.state == state);
        }
        sort(&mut rows, &filter);
        let matching = rows.len();
        let pages = matching.div_ceil(filter.limit).max(1);
        filter.page = filter.page.min(pages);
        let start = (filter.page - 1) * filter.limit;
        let rows = rows.into_iter().skip(start).take(filter.limit).collect();
        Self {
            filter,
            rows,
            matching,
            total,
            pages,
            states,
            apart,
            unused,
            costs: inventory.costs(),
            sources,
            upstreams: Bounded::of(inventory.upstreams(), MAX_UPSTREAMS),
            namespaces,
            problems: Bounded::of(inventory.problems(), MAX_REPORTS),
            conflicts: Bounded::of(inventory.conflicts(), MAX_REPORTS),
            rules: inventory.rules().map(RulesView::of),
            hpas: inventory.hpas(),
            version: inventory.version(),
            uptime: inventory.uptime(),
        }
    }

    /// Metrics without a value that may be served.
    pub(super) fn troubled(&self) -> usize {
        let bad = |state| matches!(state, MetricState::Failed | MetricState::Expired);
        self.states.iter().filter(|(state, _)| bad(*state)).map(|(_, count)| count).sum()
    }

    /// The query of this view with one thing changed; always leads to its first page.
    pub(super) fn link(&self, change: impl FnOnce(&mut Filter)) -> String {
        let mut filter = Filter { page: 1, ..self.filter.clone() };
        change(&mut filter);
        filter.to_query()
    }
}

/// Sorts as the filter wants it, and by name what is equal in that.
fn sort(rows: &mut [MetricRow], filter: &Filter) {
    rows.sort_by(|a, b| {
        (&a.metric, &a.scope, &a.labels, &a.definition).cmp(&(
            &b.metric,
            &b.scope,
            &b.labels,
            &b.definition,
        ))
    });
    let descending = filter.descending;
    match filter.sort {
        Sort::Name if descending => rows.reverse(),
        Sort::Name => {}
        Sort::State => by(rows, descending, |row| {
            MetricState::ALL.iter().position(|state| *state == row.state)
        }),
        Sort::Value => by(rows, descending, |row| {
            row.value.as_deref().and_then(|text| Decimal::parse_quantity(text).ok())
        }),
        Sort::Age => by(rows, descending, |row| row.sample_age),
        Sort::Source => by(rows, descending, |row| Some((row.source.clone(), row.query.clone()))),
        Sort::Use => by(rows, descending, |row| Some(row.hpas)),
        Sort::Read => by(rows, descending, |row| row.last_read_age),
    }
}

fn by<K: Ord>(rows: &mut [MetricRow], descending: bool, key: impl Fn(&MetricRow) -> Option<K>) {
    let keyed = |row: &MetricRow| {
        let key = key(row);
        (key.is_none(), key)
    };
    if descending {
        rows.sort_by_cached_key(|row| {
            let (missing, key) = keyed(row);
            (missing, Reverse(key))
        });
    } else {
        rows.sort_by_cached_key(keyed);
    }
}

fn namespaces(rows: &[MetricRow]) -> Vec<String> {
    let names: BTreeSet<&str> = rows
        .iter()
        .filter(|row| row.scope != MetricRow::ALL_NAMESPACES)
        .flat_map(|row| row.scope.split(',').map(str::trim))
        .collect();
    names.into_iter().take(MAX_NAMESPACES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_query_is_read_and_survives_a_round(query in ".{0,300}") {
            let filter = Filter::parse(&query);
            prop_assert_eq!(&Filter::parse(&filter.to_query()[1..]), &filter);
            prop_assert!(filter.page >= 1 && (1..=MAX_LIMIT).contains(&filter.limit));
        }

        #[test]
        fn any_search_survives_a_round(text in ".{0,300}", namespace in ".{0,300}") {
            let filter = Filter { text, namespace, page: 1, limit: 7, ..Filter::default() };
            let read = Filter::parse(&filter.to_query()[1..]);
            prop_assert_eq!(read.text, clip(&filter.text));
            prop_assert_eq!(read.namespace, clip(&filter.namespace));
        }
    }

    #[test]
    fn a_query_is_read_leniently_and_written_back() {
        let filter = Filter::parse("q=Jobs+%26+more&namespace=team-a&state=failed&page=3&limit=5");
        assert_eq!(
            filter,
            Filter {
                text: "Jobs & more".to_owned(),
                namespace: "team-a".to_owned(),
                state: Some(MetricState::Failed),
                unused: false,
                sort: Sort::Name,
                descending: false,
                page: 3,
                limit: 5,
                paused: false,
            }
        );
        assert_eq!(Filter::parse(&filter.to_query()[1..]), filter);
        let odd = Filter::parse("state=odd&page=-1&limit=999999&refresh=off&x=y&%ff");
        assert_eq!((odd.state, odd.page, odd.limit, odd.paused), (None, 1, MAX_LIMIT, true));
        assert_eq!(Filter::parse("").to_query(), "?");
        let sorted = Filter::parse("sort=-value");
        assert_eq!((sorted.sort, sorted.descending), (Sort::Value, true));
        assert_eq!(
            (sorted.to_query(), Filter::parse("sort=-x").sort),
            ("?sort=-value".to_owned(), Sort::Name)
        );
    }

    #[test]
    fn a_namespace_sees_its_own_and_what_everybody_sees() {
        let filter = Filter::parse("namespace=a");
        let seen =
            ["a", "b, a", MetricRow::ALL_NAMESPACES, "b", "ab"].map(|s| filter.in_namespace(s));
        assert_eq!(seen, [true, true, true, false, false]);
    }
}
