//! The ceiling of metrics per minute that an operator sets on a source (`cost.maxMetricsPerMinute`).
//!
//! The rule is that of conflicts: order of precedence alone decides, so that all replicas, and a
//! replica before and after its restart, let in the same documents. Files come first, in path order,
//! and then resources, the oldest first: what the files ask for is decided without a look at the
//! resources, and what is left is theirs ([`Ceiling::subscribe`] tells when that changes).
//!
//! * Documents are let in from the first in path order to the last, each that fits beside those let
//!   in before it. One that does not fit is left out; a later one that needs less may still fit.
//! * So a new document that comes early in path order can push a later one out, and is not itself
//!   refused. Whoever gives room to several teams gives each a source with a ceiling of its own.
//! * An edit that does not fit leaves its last version in where that still fits once all documents
//!   are decided: what only this replica remembers takes no room from what is written.
//! * What finds its metrics by itself (SELECT, SEARCH and the like) counts with all that it may find
//!   ([`Toll::most`]): nothing else is known before it is asked.
//! * Definitions that ask the same count once, at the pace of the fastest, as they are asked.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::definition::scalar::GoDuration;
use crate::model::cost::effective_refresh;
use crate::model::query::cloudwatch::MAX_FOUND;
use crate::model::{
    BillingUnit, DefinitionId, Entry, Query, QueryTemplate, Rate, SourceDirectory, SourceName,
    SourceProfile, Toll,
};

/// How many of the definitions that take the room a refusal names.
const MAX_NAMED: usize = 3;

/// The ceilings, and what was let in under them.
pub struct Ceiling {
    /// Metrics per minute; sources without a ceiling are not here.
    limits: HashMap<SourceName, u64>,
    admitted: Mutex<Admitted>,
    /// Counts the decisions about files.
    files: watch::Sender<u64>,
}

/// What was let in last.
#[derive(Default)]
struct Admitted {
    /// The versions, by definition.
    files: HashMap<DefinitionId, Arc<Entry>>,
    resources: HashMap<DefinitionId, Arc<Entry>>,
    /// What the files take.
    taken: Ledger,
}

/// Whose definitions are decided about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    /// Those of files, all of them, in path order.
    Files,
    /// Those of resources, all of them, oldest first.
    Resources,
}

impl Kin {
    /// How those that were let in before stand to one that is not.
    fn earlier(self) -> &'static str {
        match self {
            Self::Files => "earlier in path order",
            Self::Resources => "in files, or older",
        }
    }
}

/// What became of one definition.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The version that serves, if any.
    pub(super) entry: Option<Arc<Entry>>,
    /// Why it is not the new one.
    pub(super) refusal: Option<String>,
}

impl Ceiling {
    /// The ceilings of these sources; without sources there are none.
    #[must_use]
    pub fn new(sources: Option<&SourceDirectory>) -> Self {
        let limit = |profile: &SourceProfile| {
            Some((profile.name.clone(), profile.cost.max_metrics_per_minute?))
        };
        let limits = sources.into_iter().flat_map(SourceDirectory::iter).filter_map(limit);
        Self { limits: limits.collect(), admitted: Mutex::default(), files: watch::Sender::new(0) }
    }

    /// Tells of every decision about files: what is left for resources may be another amount.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.files.subscribe()
    }

    /// Decides about all definitions of a kin, in order, each id once. One verdict per entry.
    pub(super) fn admit(&self, kin: Kin, entries: &[Arc<Entry>]) -> Vec<Verdict> {
        if self.limits.is_empty() {
            let pass = |entry| Verdict { entry: Some(Arc::clone(entry)), refusal: None };
            return entries.iter().map(pass).collect();
        }
        let mut admitted = self.admitted();
        let (mut ledger, before) = match kin {
            Kin::Files => (Ledger::default(), &admitted.files),
            Kin::Resources => (admitted.taken.clone(), &admitted.resources),
        };
        let mut verdicts: Vec<Verdict> = entries
            .iter()
            .map(|entry| {
                let refusal = self.let_in(&mut ledger, entry, kin).err();
                Verdict { entry: refusal.is_none().then(|| Arc::clone(entry)), refusal }
            })
            .collect();
        for (verdict, entry) in verdicts.iter_mut().zip(entries) {
            if let Some(refusal) = &mut verdict.refusal
                && let Some(old) = before.get(&entry.id)
                && !same_cost(old, entry)
                && self.let_in(&mut ledger, old, kin).is_ok()
            {
                *refusal += "; its last version stays";
                verdict.entry = Some(Arc::clone(old));
            }
        }
        // Also those that no ceiling counts: an edit may bring them under one, and then they have
        // a version that stays.
        let let_in = verdicts.iter().filter_map(|verdict| verdict.entry.as_ref());
        let let_in = let_in.map(|entry| (entry.id.clone(), Arc::clone(entry))).collect();
        match kin {
            Kin::Files => {
                (admitted.files, admitted.taken) = (let_in, ledger);
                drop(admitted);
                self.files.send_modify(|count| *count += 1);
            }
            Kin::Resources => admitted.resources = let_in,
        }
        verdicts
    }

    /// Adds a definition where there is room, or says why there is none.
    fn let_in(&self, ledger: &mut Ledger, entry: &Arc<Entry>, kin: Kin) -> Result<(), String> {
        let Some((query, toll)) = billed(entry) else { return Ok(()) };
        let Some(limit) = self.limits.get(&query.source) else { return Ok(()) };
        let before = ledger.rate_of(&query.source);
        let pace = ledger.paces.get(query).copied();
        let refresh = entry.policy.refresh;
        let rate = |pace: Duration| toll.most_rate(effective_refresh(query, pace));
        let more = rate(pace.map_or(refresh, |pace| pace.min(refresh)))
            .minus(pace.map_or_else(Rate::default, rate));
        // Who asks no more than is asked anyway fits.
        if more > Rate::default() && before.plus(more) > Rate::per_minute(*limit) {
            let rest = ledger.takers(&query.source, kin);
            return Err(refusal(*limit, query, toll, refresh, more, &rest));
        }
        ledger.add(query, entry, before.plus(more));
        Ok(())
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ceiling").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a definition is left out, with the arithmetic and who takes the room.
fn refusal(
    limit: u64,
    query: &Query,
    toll: Toll,
    refresh: Duration,
    more: Rate,
    room: &str,
) -> String {
    let (metrics, are) = if toll.most == 1 { ("metric", "is") } else { ("metrics", "are") };
    let (up_to, each) = if toll.is_open_ended() {
        ("up to ", format!(" ({MAX_FOUND} for each SELECT, SEARCH and the like)"))
    } else {
        ("", String::new())
    };
    format!(
        "source {} allows {limit} CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's {up_to}{} {metrics}{each} every {} {are} {up_to}{more} per minute{room}",
        query.source,
        toll.most,
        GoDuration(effective_refresh(query, refresh)),
    )
}

/// The complete query of an entry and its toll, when `CloudWatch` bills it.
fn billed(entry: &Entry) -> Option<(&Arc<Query>, Toll)> {
    let QueryTemplate::Fixed(query) = &entry.query else { return None };
    let toll = Toll::of(query).filter(|toll| toll.unit == BillingUnit::Metrics)?;
    Some((query, toll))
}

fn same_cost(old: &Entry, new: &Entry) -> bool {
    old.query == new.query && old.policy.refresh == new.policy.refresh
}

/// What is let in so far.
#[derive(Clone, Default)]
struct Ledger {
    /// Each query, at its fastest pace.
    paces: HashMap<Arc<Query>, Duration>,
    sources: BTreeMap<SourceName, Taken>,
}

/// What is taken of one source.
#[derive(Clone, Default)]
struct Taken {
    rate: Rate,
    /// By whom, in order: the first few, and how many there are.
    first: Vec<DefinitionId>,
    definitions: usize,
}

impl Ledger {
    fn rate_of(&self, source: &SourceName) -> Rate {
        self.sources.get(source).map(|taken| taken.rate).unwrap_or_default()
    }

    /// Adds a definition, after which its source has this sum.
    fn add(&mut self, query: &Arc<Query>, entry: &Entry, rate: Rate) {
        let refresh = entry.policy.refresh;
        let pace = self.paces.entry(Arc::clone(query)).or_insert(refresh);
        *pace = refresh.min(*pace);
        let taken = self.sources.entry(query.source.clone()).or_default();
        taken.rate = rate;
        taken.definitions += 1;
        if taken.first.len() < MAX_NAMED {
            taken.first.push(entry.id.clone());
        }
    }

    /// What is taken of a source and by whom, as the end of a sentence; nothing when nobody takes
    /// any.
    fn takers(&self, source: &SourceName, kin: Kin) -> String {
        let Some(taken) = self.sources.get(source) else { return String::new() };
        let mut names: Vec<String> = taken.first.iter().map(ToString::to_string).collect();
        let more = taken.definitions - names.len();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let list = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => names.concat(),
        };
        format!(" on top of {} of {list}, {}", taken.rate, kin.earlier())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::file_watch::{Content, FileSet};
    use crate::definition::Defaults;
    use crate::model::{CostSettings, SourceKind};

    /// Definitions on a source that allows ten metrics per minute, and one that allows all.
    fn set() -> FileSet {
        let profile = |name: &str, ceiling: Option<u64>| SourceProfile {
            name: SourceName::new(name),
            kind: SourceKind::Aws,
            region: Some("eu-west-1".into()),
            allowed_regions: vec!["eu-west-1".into()],
            allowed_roles: Vec::new(),
            cost: CostSettings { max_metrics_per_minute: ceiling, ..CostSettings::default() },
            allowed_namespaces: Vec::new(),
        };
        let sources = SourceDirectory::new([profile("aws", Some(10)), profile("free", None)]);
        let read = |_: &Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
        FileSet::new(Some(sources), Defaults::default(), true, Box::new(read))
    }

    /// A definition of `count` metrics, which begins with its name.
    fn document(name: &str, count: usize, rest: &str) -> String {
        let metric = |i: usize| {
            format!(
                "    - {{ id: m{i}, return: false, metric: {{ namespace: {name}, name: M{i}, statistic: Sum, period: 1m }} }}\n"
            )
        };
        let metrics: String = (0..count).map(metric).collect();
        let rest = if rest.contains("source") {
            rest.to_owned()
        } else {
            format!("source: aws\n  {rest}")
        };
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: {name}}}\nspec:\n  {rest}\n  cloudwatch:\n    queries:\n{metrics}    - {{ id: e, expression: SUM(METRICS()) }}\n"
        )
    }

    fn put(set: &mut FileSet, path: &str, text: &str) {
        set.update(Path::new(path), Content::Text(text.to_owned()));
    }

    /// What serves, as `name=metrics`, then the problems.
    fn state(set: &mut FileSet) -> (Vec<String>, Vec<String>) {
        let (entries, problems) = set.collect();
        let shown = |entry: &Arc<Entry>| {
            let count = billed(entry).map_or(0, |(_, toll)| toll.count);
            format!("{}={count}", entry.id.name)
        };
        (entries.iter().map(shown).collect(), problems.iter().map(ToString::to_string).collect())
    }

    fn names(set: &mut FileSet) -> Vec<String> {
        state(set).0
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_arithmetic() {
        let mut set = set();
        put(&mut set, "a", &document("first", 6, ""));
        put(&mut set, "b", &document("second", 5, ""));
        put(&mut set, "c", &document("third", 8, "refresh: 2m"));
        put(&mut set, "d", &document("other", 99, "source: free"));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["first=6", "third=8", "other=99"]);
        assert_eq!(
            problems,
            [
                "b:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 5 metrics every 1m are 5 per minute on top of 6 of ClusterExternalMetric first, earlier in path order"
            ]
        );
        put(&mut set, "e", &document("fourth", 1, ""));
        assert_eq!(
            state(&mut set).1[1],
            "e:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 1 metric every 1m is 1 per minute on top of 10 of ClusterExternalMetric first and ClusterExternalMetric third, earlier in path order"
        );
    }

    #[test]
    fn a_definition_that_could_never_fit_is_told_so() {
        let mut set = set();
        put(&mut set, "a", &document("big", 11, ""));
        assert_eq!(
            state(&mut set).1,
            [
                "a:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 11 metrics every 1m are 11 per minute"
            ]
        );
    }

    #[test]
    fn what_a_search_may_find_is_reserved() {
        let mut set = set();
        let search = |name: &str, text: &str| {
            format!(
                "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: {name}}}\nspec: {{source: aws, cloudwatch: {{expression: {text:?}, period: 1m}}}}\n"
            )
        };
        put(&mut set, "a", &search("select", "SELECT AVG(x) FROM y"));
        put(
            &mut set,
            "b",
            &search("searches", "SUM(SEARCH('a', 'Sum')) / SUM(SEARCH('b', 'Sum'))"),
        );
        put(&mut set, "c", &document("full", 10, ""));
        let reserved = "source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's";
        assert_eq!(
            state(&mut set),
            (
                vec!["full=10".to_owned()],
                vec![
                    format!(
                        "a:5:33: spec.cloudwatch: {reserved} up to 500 metrics (500 for each SELECT, SEARCH and the like) every 1m are up to 500 per minute"
                    ),
                    format!(
                        "b:5:33: spec.cloudwatch: {reserved} up to 1000 metrics (500 for each SELECT, SEARCH and the like) every 1m are up to 1000 per minute"
                    ),
                ]
            )
        );
    }

    #[test]
    fn path_order_alone_decides() {
        let mut set = set();
        put(&mut set, "m", &document("worked", 6, ""));
        assert_eq!(names(&mut set), ["worked=6"]);
        // First in path order: in a set that has seen the other one for long, and in a new one.
        put(&mut set, "a", &document("new", 6, ""));
        let refused = "m:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 6 metrics every 1m are 6 per minute on top of 6 of ClusterExternalMetric new, earlier in path order";
        let expected = (vec!["new=6".to_owned()], vec![refused.to_owned()]);
        assert_eq!(state(&mut set), expected);
        let mut other = self::set();
        put(&mut other, "m", &document("worked", 6, ""));
        put(&mut other, "a", &document("new", 6, ""));
        assert_eq!(state(&mut other), expected);
        // Room that is left is taken.
        set.update(Path::new("a"), Content::Missing);
        assert_eq!(state(&mut set), (vec!["worked=6".to_owned()], vec![]));
    }

    #[test]
    fn an_edit_that_does_not_fit_leaves_the_last_version_where_that_fits() {
        let mut set = set();
        put(&mut set, "a", &document("one", 4, ""));
        put(&mut set, "b", &document("two", 4, ""));
        names(&mut set);
        put(&mut set, "b", &document("two", 7, ""));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["one=4", "two=4"]);
        assert_eq!(
            problems,
            [
                "b:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 7 metrics every 1m are 7 per minute on top of 4 of ClusterExternalMetric one, earlier in path order; its last version stays"
            ]
        );
        // What is written comes before what is remembered, wherever it is written.
        put(&mut set, "c", &document("three", 3, ""));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["one=4", "three=3"]);
        assert!(problems[0].ends_with(", earlier in path order"), "{problems:?}");
        // An earlier one makes room, in the same look.
        set.update(Path::new("c"), Content::Missing);
        put(&mut set, "a", &document("one", 3, ""));
        assert_eq!(state(&mut set), (vec!["one=3".to_owned(), "two=7".to_owned()], vec![]));
        // An edit that does not change the cost takes effect although there is no room.
        put(&mut set, "b", &document("two", 7, "keepWarm: true"));
        assert!(set.collect().0[1].policy.keep_warm);
    }

    #[test]
    fn a_refusal_names_a_few_of_those_that_take_the_room() {
        let mut set = set();
        for (path, name, count) in [("a", "a", 4), ("b", "b", 3), ("c", "c", 2), ("d", "d", 1)] {
            put(&mut set, path, &document(name, count, ""));
        }
        put(&mut set, "e", &document("e", 1, ""));
        let problem = state(&mut set).1.concat();
        let named = ["a", "b", "c"].map(|name| format!("ClusterExternalMetric {name}")).join(", ");
        let end = format!(" on top of 10 of {named} and 1 more, earlier in path order");
        assert!(problem.ends_with(&end), "{problem}");
    }

    #[test]
    fn an_edit_that_brings_a_definition_under_a_ceiling_may_leave_it_where_it_was() {
        let mut set = set();
        put(&mut set, "a", &document("one", 20, "source: free"));
        put(&mut set, "b", &document("two", 4, ""));
        assert_eq!(names(&mut set), ["one=20", "two=4"]);
        put(&mut set, "a", &document("one", 20, ""));
        let (entries, problems) = set.collect();
        assert_eq!((entries[0].query.source().as_str(), problems.len()), ("free", 1));
    }

    #[test]
    fn the_same_question_counts_once_at_its_fastest_pace() {
        let mut set = set();
        let same = |name: &str, rest: &str| {
            document("same", 5, rest)
                .replace("metadata: {name: same}", &format!("metadata: {{name: {name}}}\n"))
        };
        put(&mut set, "a", &same("a", "refresh: 2m"));
        put(&mut set, "b", &(same("b", "refresh: 1m") + &same("c", "")));
        put(&mut set, "d", &document("d", 5, ""));
        assert_eq!(
            state(&mut set),
            (["a=5", "b=5", "c=5", "d=5"].map(String::from).to_vec(), vec![])
        );
        // Without the fast ones there is room again.
        set.update(Path::new("b"), Content::Missing);
        put(&mut set, "e", &document("e", 2, ""));
        assert_eq!(names(&mut set), ["a=5", "d=5", "e=2"]);
    }

    #[test]
    fn thousands_of_definitions_are_decided_at_once() {
        let mut set = set();
        let text: String = (0..2000).map(|i| document(&format!("n{i}"), 1, "")).collect();
        put(&mut set, "a", &text);
        let (entries, problems) = set.collect();
        assert_eq!((entries.len(), problems.len()), (10, 1990));
        assert_eq!(set.collect().0.len(), 10);
    }
}
