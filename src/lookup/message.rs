//! The sentences that a failed read ends in. `kubectl describe hpa` prints them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use crate::cache::sentence::named;
pub(crate) use crate::cache::sentence::{no_value, show};
use crate::cache::{EntryState, View};
use crate::catalog::Served;
use crate::lookup::items::NoNumber;
use crate::model::{
    Entry, GroupResource, Labels, ObjectNames, ObjectSet, Policy, Query, QuerySpec, Selector, Tick,
};

/// How many label values, and how many keys, a sentence lists at most.
const MAX_LISTED: usize = 8;

/// Characters shown of one label key or value, Kubernetes' own bound of both (the name of a key,
/// without its prefix). A series' own values may be of any length.
const MAX_LABEL_CHARS: usize = 63;

/// Characters shown of the request's selector, which may have as many as a request's head holds.
const MAX_SELECTOR_CHARS: usize = 256;

/// What stands in place of a namespace where there is none.
pub(super) const NOWHERE: &str = "the cluster";

/// No definition of the metric is visible in the namespace.
pub(super) fn unknown(metric: &str, namespace: &str) -> String {
    format!(
        "{metric} in {namespace}: no external metric of this name is defined for this namespace"
    )
}

/// Definitions exist, but no series matches the selector. Names what exists, because an empty
/// list would only make the HPA say "no metrics returned".
pub(crate) fn no_match<'a>(
    metric: &str,
    namespace: &str,
    selector: &Selector,
    existing: impl Iterator<Item = &'a Labels>,
) -> String {
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut series = 0;
    for labels in existing {
        series += 1;
        for (key, value) in labels.iter() {
            keys.entry(key).or_default().insert(value);
        }
    }
    let selector = crop(&selector.to_string(), MAX_SELECTOR_CHARS);
    let mut text =
        format!("{metric} in {namespace}: no series matches the selector \"{selector}\"; ");
    if keys.is_empty() {
        let _ = write!(text, "the metric's series have no labels");
        return text;
    }
    let _ = write!(text, "the metric's {series} series have the labels ");
    for (i, (key, values)) in keys.iter().take(MAX_LISTED).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let key = crop(key, MAX_LABEL_CHARS);
        let shown: Vec<String> =
            values.iter().take(MAX_LISTED).map(|value| crop(value, MAX_LABEL_CHARS)).collect();
        let more = if values.len() > MAX_LISTED { ", …" } else { "" };
        let _ = write!(text, "{comma}{key} ({}{more})", shown.join(", "));
    }
    if keys.len() > MAX_LISTED {
        text.push_str(", …");
    }
    text
}

/// At most so many characters of a text.
fn crop(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The selector takes a series that is no number.
pub(crate) fn no_number(
    entry: &Entry,
    namespace: &str,
    query: &Query,
    NoNumber { labels, count }: &NoNumber,
) -> String {
    let series = crop(&labels.to_string(), MAX_SELECTOR_CHARS);
    let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    format!(
        "{} in {namespace}: the series {series}{more} of the answer is NaN or infinite, and \
         without it the value would be another one (source {}); leave it out by the query or the \
         selector",
        named(entry),
        query.source
    )
}

/// The very first fetch has not ended in time.
pub(super) fn first_read_timed_out(served: &Served, namespace: &str, query: &Query) -> String {
    format!(
        "{} in {namespace}: source {} has not yet answered the first {} query; waited {}",
        named(&served.entry),
        query.source,
        kind(query),
        show(served.entry.policy.first_read_timeout)
    )
}

/// The refresher cannot take the query.
pub(super) fn queue_full(served: &Served, namespace: &str, query: &Query) -> String {
    format!(
        "{} in {namespace}: too many metrics became wanted at once, this one was not queued \
         (source {}); the next read tries again",
        named(&served.entry),
        query.source
    )
}

/// What a read of a rule's metric, or of objects' metric, asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The metric's name, as it was asked for.
    pub(super) metric: &'a str,
    /// Of which objects; none for an external metric.
    pub(super) resource: Option<&'a GroupResource>,
    /// In which namespace.
    pub(super) namespace: Option<&'a str>,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crop(self.metric, MAX_SELECTOR_CHARS))?;
        if let Some(resource) = self.resource {
            write!(f, " of {resource}")?;
        }
        self.namespace
            .map_or(Ok(()), |namespace| write!(f, " in {}", crop(namespace, MAX_LABEL_CHARS)))
    }
}

/// The refresher cannot take the query.
pub(super) fn not_queued(asked: Asked<'_>, query: &Query) -> String {
    format!(
        "unable to fetch metrics: {asked}: too many metrics became wanted at once, this one was \
         not queued (source {}); the next read tries again",
        query.source
    )
}

/// The very first fetch has not ended in time.
pub(super) fn not_yet_answered(asked: Asked<'_>, query: &Query, waited: Duration) -> String {
    format!(
        "unable to fetch metrics: {asked}: source {} has not yet answered the first query; waited \
         {}",
        query.source,
        show(waited)
    )
}

/// Why there is nothing to serve.
pub(super) fn no_rule_value(
    asked: Asked<'_>,
    query: &Query,
    policy: &Policy,
    state: &EntryState,
    view: &View<'_>,
    now: Tick,
) -> String {
    let mut text = format!("unable to fetch metrics: {asked}: ");
    if let View::Failed(failure) = view {
        let _ = write!(text, "{} (source {})", failure.error, query.source);
    } else if state.answered().is_some_and(|at| now.since(at) <= policy.max_age) {
        let _ = write!(text, "source {} answers with values that are too old", query.source);
    } else {
        let _ = write!(
            text,
            "source {} has not answered for longer than {}",
            query.source,
            show(policy.max_age)
        );
    }
    if let Some(sample) = state.last_sample()
        && now.since(sample.observed) > policy.max_age
    {
        let _ = write!(
            text,
            "; the last answer, of {}, is older than {}",
            sample.timestamp.strftime("%H:%M:%SZ"),
            show(policy.max_age)
        );
    }
    text
}

/// The first listing of objects has not ended in time.
pub(super) fn not_yet_listed(asked: Asked<'_>, waited: Duration) -> String {
    format!(
        "unable to list matching resources: {asked}: the objects have not been listed yet; waited \
         {}",
        show(waited)
    )
}

/// What an HPA makes of a list without items, and of which metric: a rule's answer may be one.
pub(super) fn empty_list(metric: &str, namespace: &str, api: &str) -> String {
    format!(
        "{metric} in {namespace}: the answer is an empty list, of which an HPA says \"no metrics \
         returned from {api} metrics API\": no series of the query is meant"
    )
}

/// The original's sentence for a metric that is not there.
pub(super) fn no_metric_of(metric: &str, resource: &str, name: Option<&str>) -> String {
    let metric = crop(metric, MAX_SELECTOR_CHARS);
    let resource = crop(resource, MAX_SELECTOR_CHARS);
    let mut text = format!("the server could not find the metric {metric} for {resource}");
    if let Some(name) = name {
        let _ = write!(text, " {}", crop(name, MAX_SELECTOR_CHARS));
    }
    text
}

fn kind(query: &Query) -> &'static str {
    match &query.spec {
        QuerySpec::Prometheus(_) | QuerySpec::Objects(_) => "Prometheus",
        QuerySpec::Sqs(_) => "SQS",
        QuerySpec::CloudWatch(_) => "CloudWatch",
        QuerySpec::Simulated(_) => "simulated",
    }
}

/// That a set has no objects.
pub(super) fn no_objects(set: &ObjectSet) -> String {
    match &set.names {
        ObjectNames::Matching(selector) if !selector.is_everything() => {
            let selector = crop(&selector.to_string(), MAX_SELECTOR_CHARS);
            format!("no {} match the selector \"{selector}\"", set.resource.id)
        }
        _ => format!("there are no {}", set.resource.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_that_matches_nothing_is_told_what_exists() {
        let existing =
            [Labels::new([("queue", "a")]), Labels::new([("queue", "b"), ("zone", "x")])];
        let selector = Selector::new(vec![crate::model::Requirement {
            key: "queue".into(),
            operator: crate::model::Operator::Equals,
            values: vec!["c".into()],
        }]);
        assert_eq!(
            no_match("depth", "default", &selector, existing.iter()),
            "depth in default: no series matches the selector \"queue=c\"; the metric's 2 series \
             have the labels queue (a, b), zone (x)"
        );
    }

    #[test]
    fn what_a_request_or_an_upstream_says_is_not_repeated_at_length() {
        let long = "é".repeat(10_000);
        let existing = [Labels::new([("queue", long.as_str()), (long.as_str(), "x")])];
        let selector = Selector::new(vec![crate::model::Requirement {
            key: "queue".into(),
            operator: crate::model::Operator::Equals,
            values: vec![long.clone()],
        }]);
        let text = no_match("depth", "default", &selector, existing.iter());
        let shown = |most: usize| format!("{}…", "é".repeat(most));
        assert!(text.contains(&format!("queue ({})", shown(MAX_LABEL_CHARS))), "{text}");
        assert!(text.contains(&format!("{} (x)", shown(MAX_LABEL_CHARS))), "{text}");
        assert!(text.chars().count() < 2 * MAX_SELECTOR_CHARS + 100, "{text}");
    }
}
