//! The ceiling of metrics per minute that an operator sets on a source (`cost.maxMetricsPerMinute`).
//!
//! Pure. Rules:
//!
//! * What was let in stays in: a new or dearer definition never displaces another one.
//! * An edit that makes a definition dearer than there is room for leaves its last version in.
//! * Where there is room, the earlier in path order comes first. After a restart nothing has been
//!   let in yet, so path order alone decides.
//! * Definitions that ask the same count once, at the pace of the fastest, as they are asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::definition::scalar::GoDuration;
use crate::model::cost::effective_refresh;
use crate::model::{
    BillingUnit, DefinitionId, Entry, Query, QueryTemplate, Rate, SourceDirectory, SourceName,
    SourceProfile, Toll,
};

/// The ceilings, and what was let in under them.
#[derive(Default)]
pub(super) struct Ceiling {
    /// Metrics per minute; sources without a ceiling are not here.
    limits: HashMap<SourceName, u64>,
    /// The versions that were let in.
    admitted: HashMap<DefinitionId, Arc<Entry>>,
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
    pub(super) fn new(sources: Option<&SourceDirectory>) -> Self {
        let limit = |profile: &SourceProfile| {
            Some((profile.name.clone(), profile.cost.max_metrics_per_minute?))
        };
        let limits = sources.into_iter().flat_map(SourceDirectory::iter).filter_map(limit);
        Self { limits: limits.collect(), admitted: HashMap::new() }
    }

    /// Decides about all definitions, in path order, each id once. One verdict per entry.
    pub(super) fn admit(&mut self, entries: &[Arc<Entry>]) -> Vec<Verdict> {
        let pass = |entry: &Arc<Entry>| Verdict { entry: Some(Arc::clone(entry)), refusal: None };
        let mut verdicts: Vec<Verdict> = entries.iter().map(pass).collect();
        if self.limits.is_empty() {
            return verdicts;
        }
        let mut ledger = Ledger::default();
        let (mut edited, mut fresh) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| self.counts(entry)) {
            match self.admitted.get(&entry.id) {
                Some(old) => {
                    ledger.add(old);
                    if !same_cost(old, entry) {
                        edited.push((index, old));
                    }
                }
                None => fresh.push(index),
            }
        }
        // Edits that need no more room come first: they may make room for the others.
        for makes_room in [true, false] {
            edited.retain(|(index, old)| {
                let entry = &entries[*index];
                let before = ledger.total_of(entry);
                ledger.remove(old);
                let room = ledger.total_of(entry);
                ledger.add(entry);
                let after = ledger.total_of(entry);
                if after.rate <= before.rate || (!makes_room && after.rate <= self.limit(entry)) {
                    return false;
                }
                ledger.remove(entry);
                ledger.add(old);
                if !makes_room {
                    let refusal = self.refusal(entry, room, after) + "; its last version stays";
                    verdicts[*index] =
                        Verdict { entry: Some(Arc::clone(old)), refusal: Some(refusal) };
                }
                true
            });
        }
        for index in fresh {
            let entry = &entries[index];
            let room = ledger.total_of(entry);
            ledger.add(entry);
            let after = ledger.total_of(entry);
            if after.rate > self.limit(entry) {
                ledger.remove(entry);
                let refusal = self.refusal(entry, room, after);
                verdicts[index] = Verdict { entry: None, refusal: Some(refusal) };
            }
        }
        // Also those that no ceiling counts: an edit may bring them under one, and then they have
        // a version that stays.
        let admitted = verdicts.iter().filter_map(|verdict| verdict.entry.as_ref());
        self.admitted = admitted.map(|entry| (entry.id.clone(), Arc::clone(entry))).collect();
        verdicts
    }

    /// Whether a ceiling counts an entry.
    fn counts(&self, entry: &Entry) -> bool {
        billed(entry).is_some_and(|(query, _)| self.limits.contains_key(&query.source))
    }

    fn limit(&self, entry: &Entry) -> Rate {
        let limit = self.limits.get(entry.query.source());
        Rate::per_minute(limit.copied().unwrap_or(u64::MAX))
    }

    fn refusal(&self, entry: &Entry, room: Total, after: Total) -> String {
        let Some((query, toll)) = billed(entry) else { return String::new() };
        let at_least = if toll.is_open_ended() { "at least " } else { "" };
        let words = if toll.count == 1 { ("metric", "is") } else { ("metrics", "are") };
        let others = match room.definitions {
            0 => String::new(),
            1 => format!(" on top of {} of another", room.rate),
            count => format!(" on top of {} of {count} others", room.rate),
        };
        format!(
            "source {} allows {} CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's {at_least}{} {} every {} {} {at_least}{} per minute{others}",
            query.source,
            self.limit(entry),
            toll.count,
            words.0,
            GoDuration(effective_refresh(query, entry.policy.refresh)),
            words.1,
            after.rate.minus(room.rate),
        )
    }
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

/// The sum of a source.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    rate: Rate,
    definitions: u64,
}

/// How many definitions ask a query at each pace.
type Paces = BTreeMap<Duration, usize>;

/// Running sums of what is let in.
#[derive(Default)]
struct Ledger {
    paces: HashMap<Arc<Query>, Paces>,
    totals: HashMap<SourceName, Total>,
}

impl Ledger {
    fn add(&mut self, entry: &Entry) {
        self.change(entry, |paces, total| {
            *paces.entry(entry.policy.refresh).or_default() += 1;
            total.definitions += 1;
        });
    }

    /// Takes back what was added.
    fn remove(&mut self, entry: &Entry) {
        self.change(entry, |paces, total| {
            if let Some(count) = paces.get_mut(&entry.policy.refresh) {
                *count -= 1;
                if *count == 0 {
                    paces.remove(&entry.policy.refresh);
                }
            }
            total.definitions -= 1;
        });
    }

    /// Applies a change to the paces of an entry's query, and its effect to the source's sum.
    fn change(&mut self, entry: &Entry, change: impl FnOnce(&mut Paces, &mut Total)) {
        let Some((query, toll)) = billed(entry) else { return };
        let rate = |paces: &Paces| {
            let fastest = paces.keys().next();
            fastest.map_or_else(Rate::default, |pace| toll.rate(effective_refresh(query, *pace)))
        };
        let paces = self.paces.entry(Arc::clone(query)).or_default();
        let total = self.totals.entry(query.source.clone()).or_default();
        let before = rate(paces);
        change(paces, total);
        total.rate = total.rate.minus(before).plus(rate(paces));
    }

    /// The present sum of an entry's source.
    fn total_of(&self, entry: &Entry) -> Total {
        self.totals.get(entry.query.source()).copied().unwrap_or_default()
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
                "b:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 5 metrics every 1m are 5 per minute on top of 6 of another"
            ]
        );
        put(&mut set, "e", &document("fourth", 1, ""));
        assert_eq!(
            state(&mut set).1[1],
            "e:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 1 metric every 1m is 1 per minute on top of 10 of 2 others"
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
        put(
            &mut set,
            "a",
            "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {name: s}\nspec: {source: aws, cloudwatch: {expression: 'SELECT AVG(x) FROM y', period: 1m}}",
        );
        put(&mut set, "b", &document("full", 10, ""));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["s=1"]);
        assert!(problems[0].ends_with("on top of 1 of another"), "{problems:?}");
    }

    #[test]
    fn nothing_that_worked_is_lost_by_a_new_file() {
        let mut set = set();
        put(&mut set, "m", &document("worked", 6, ""));
        assert_eq!(names(&mut set), ["worked=6"]);
        // First in path order, and yet the later one in.
        put(&mut set, "a", &document("new", 6, ""));
        assert_eq!(names(&mut set), ["worked=6"]);
        // In a set that starts with both, path order decides.
        let mut other = self::set();
        put(&mut other, "m", &document("worked", 6, ""));
        put(&mut other, "a", &document("new", 6, ""));
        assert_eq!(names(&mut other), ["new=6"]);
        // Room that is left is taken.
        set.update(Path::new("m"), Content::Missing);
        assert_eq!(state(&mut set), (vec!["new=6".to_owned()], vec![]));
    }

    #[test]
    fn an_edit_that_does_not_fit_leaves_the_last_version() {
        let mut set = set();
        put(&mut set, "a", &document("one", 4, ""));
        put(&mut set, "b", &document("two", 4, ""));
        names(&mut set);
        put(&mut set, "a", &document("one", 7, ""));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["one=4", "two=4"]);
        assert_eq!(
            problems,
            [
                "a:9:5: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 7 metrics every 1m are 7 per minute on top of 4 of another; its last version stays"
            ]
        );
        // A later one makes room, in the same look.
        put(&mut set, "b", &document("two", 3, ""));
        assert_eq!(state(&mut set), (vec!["one=7".to_owned(), "two=3".to_owned()], vec![]));
        // An edit that does not change the cost takes effect although there is no room.
        put(&mut set, "b", &document("two", 3, "keepWarm: true"));
        assert!(set.collect().0[1].policy.keep_warm);
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
