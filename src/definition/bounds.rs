//! How much a definition may hold: the longest texts, lists and mappings.
//!
//! The cluster's API server wants to know bounds before it takes a rule about a field, and a
//! definition in a file is the same document as a resource: so both have them, from this table.
//! Bounds that a service or Kubernetes sets stand beside the rule that says so, and are named here.
//! The others are ours, and far above what anybody needs.

use crate::definition::cloudwatch::{
    MAX_DIMENSIONS, MAX_LABEL, MAX_NAME, MAX_STATISTIC, MAX_VALUE,
};
use crate::definition::field::Field;
use crate::definition::names::{MAX_LABEL_NAME, MAX_SUBDOMAIN};
use crate::definition::report::Report;
use crate::definition::signal::MAX_STEPS;
use crate::definition::yaml::{Node, Value};
use crate::model::name::MAX_METRIC_NAME_BYTES;
use crate::model::query::cloudwatch::{MAX_EXPRESSION, MAX_ID, MAX_QUERIES_PER_CALL};

/// How much of something there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A text: at least one character or none, and at most so many.
    Text {
        /// Fewest characters. Readers say themselves what is wrong with too short a text.
        least: usize,
        /// Most characters.
        most: usize,
    },
    /// A list.
    Items {
        /// Fewest items. Readers say themselves what is wrong with too short a list.
        least: usize,
        /// Most items.
        most: usize,
    },
    /// A mapping: most pairs.
    Pairs(usize),
}

/// Longest key of a label: a DNS name, a slash, a name.
const MAX_LABEL_KEY: usize = MAX_SUBDOMAIN + 1 + MAX_LABEL_NAME;

/// Longest PromQL expression. Generated ones have a few thousand characters.
const MAX_QUERY: usize = 16 << 10;

/// Longest region. The longest there is has 15 characters.
const MAX_REGION: usize = 64;

/// Longest ARN of a role: 576 characters of path and name, an account, a partition.
const MAX_ROLE: usize = 1024;

/// Longest name, ARN or URL of a queue.
const MAX_QUEUE: usize = 512;

/// Most queues of one metric: each is a request at every refresh.
const MAX_QUEUES: usize = 100;

/// Most labels of a metric, and of a selector. The API server reckons with the longest key that a
/// request can hold, for each of them.
const MAX_LABELS: usize = 16;

/// Most namespaces by name; a label says the same for more.
const MAX_NAMESPACES: usize = 1000;

/// Most requirements of a selector.
const MAX_REQUIREMENTS: usize = 32;

/// Most values of a requirement.
const MAX_VALUES: usize = 256;

const fn text(least: usize, most: usize) -> Bound {
    Bound::Text { least, most }
}

const fn items(least: usize, most: usize) -> Bound {
    Bound::Items { least, most }
}

/// The bounds. In a path `[]` stands for every item of a list, `{}` for every value of a mapping.
/// Durations and quantities have theirs from their own readers.
pub const BOUNDS: [(&str, Bound); 39] = [
    ("spec.metric", text(1, MAX_METRIC_NAME_BYTES)),
    ("spec.resource", text(1, MAX_SUBDOMAIN)),
    ("spec.labels", Bound::Pairs(MAX_LABELS)),
    ("spec.labels{}", text(0, MAX_LABEL_NAME)),
    ("spec.namespaces", items(1, MAX_NAMESPACES)),
    ("spec.namespaces[]", text(1, MAX_LABEL_NAME)),
    ("spec.namespaceSelector.matchLabels", Bound::Pairs(MAX_LABELS)),
    ("spec.namespaceSelector.matchLabels{}", text(0, MAX_LABEL_NAME)),
    ("spec.namespaceSelector.matchExpressions", items(0, MAX_REQUIREMENTS)),
    ("spec.namespaceSelector.matchExpressions[].key", text(1, MAX_LABEL_KEY)),
    ("spec.namespaceSelector.matchExpressions[].values", items(0, MAX_VALUES)),
    ("spec.namespaceSelector.matchExpressions[].values[]", text(0, MAX_LABEL_NAME)),
    ("spec.source", text(0, MAX_SUBDOMAIN)),
    ("spec.prometheus.query", text(1, MAX_QUERY)),
    ("spec.prometheus.objectLabel", text(1, MAX_SUBDOMAIN)),
    ("spec.sqs.queues", items(1, MAX_QUEUES)),
    ("spec.sqs.queues[]", text(1, MAX_QUEUE)),
    ("spec.sqs.count", items(1, 3)),
    ("spec.sqs.region", text(1, MAX_REGION)),
    ("spec.sqs.roleArn", text(1, MAX_ROLE)),
    ("spec.cloudwatch.expression", text(1, MAX_EXPRESSION)),
    ("spec.cloudwatch.region", text(1, MAX_REGION)),
    ("spec.cloudwatch.roleArn", text(1, MAX_ROLE)),
    ("spec.cloudwatch.queries", items(1, MAX_QUERIES_PER_CALL)),
    ("spec.cloudwatch.queries[].id", text(1, MAX_ID)),
    ("spec.cloudwatch.queries[].label", text(0, MAX_LABEL)),
    ("spec.cloudwatch.queries[].expression", text(1, MAX_EXPRESSION)),
    ("spec.cloudwatch.queries[].metric.namespace", text(1, MAX_NAME)),
    ("spec.cloudwatch.queries[].metric.name", text(1, MAX_NAME)),
    ("spec.cloudwatch.queries[].metric.dimensions", Bound::Pairs(MAX_DIMENSIONS)),
    ("spec.cloudwatch.queries[].metric.dimensions{}", text(1, MAX_VALUE)),
    ("spec.cloudwatch.queries[].metric.statistic", text(1, MAX_STATISTIC)),
    ("spec.cloudwatch.metric.namespace", text(1, MAX_NAME)),
    ("spec.cloudwatch.metric.name", text(1, MAX_NAME)),
    ("spec.cloudwatch.metric.dimensions", Bound::Pairs(MAX_DIMENSIONS)),
    ("spec.cloudwatch.metric.dimensions{}", text(1, MAX_VALUE)),
    ("spec.cloudwatch.metric.statistic", text(1, MAX_STATISTIC)),
    ("spec.simulated.steps", items(1, MAX_STEPS)),
    ("spec.simulated.csv", text(1, 4096)),
];

/// Complains about what is larger than it may be.
pub(super) fn check(report: &mut Report<'_>) {
    let root = report.root();
    for (path, bound) in BOUNDS {
        let steps: Vec<&str> = path.split('.').collect();
        walk(report, root, &Field::root(), &steps, bound);
    }
}

/// Follows a path's steps down from a node, to every place that it stands for.
fn walk(report: &mut Report<'_>, node: &Node, at: &Field, steps: &[&str], bound: Bound) {
    let Some((step, rest)) = steps.split_first() else {
        if let Some(message) = excess(node, bound) {
            report.add(at, message);
        }
        return;
    };
    let key = step.trim_end_matches("[]").trim_end_matches("{}");
    let field = at.key(key);
    let Value::Map(pairs) = &node.value else { return };
    let Some((_, below)) = pairs.iter().find(|(found, _)| found.text == key) else { return };
    match &below.value {
        Value::List(items) if step.ends_with("[]") => {
            for (index, item) in items.iter().enumerate() {
                walk(report, item, &field.index(index), rest, bound);
            }
        }
        Value::Map(pairs) if step.ends_with("{}") => {
            for (key, value) in pairs {
                walk(report, value, &field.key(&key.text), rest, bound);
            }
        }
        _ if step.ends_with(['[', ']', '{', '}']) => {}
        _ => walk(report, below, &field, rest, bound),
    }
}

fn excess(node: &Node, bound: Bound) -> Option<String> {
    match (bound, &node.value) {
        (Bound::Text { most, .. }, Value::Scalar { text, .. }) => {
            let length = text.chars().count();
            (length > most).then(|| format!("{length} characters; at most {most} are allowed"))
        }
        (Bound::Items { most, .. }, Value::List(items)) => {
            let length = items.len();
            (length > most).then(|| format!("{length} items; at most {most} are allowed"))
        }
        (Bound::Pairs(most), Value::Map(pairs)) => {
            let length = pairs.len();
            (length > most).then(|| format!("{length} entries; at most {most} are allowed"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::definition::yaml;

    fn problems(text: &str) -> Vec<String> {
        let document = yaml::parse(text).unwrap().remove(0);
        let mut report = Report::new(Path::new("f"), &document);
        check(&mut report);
        report.into_problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_too_large_is_named_with_its_place() {
        let queues = vec!["q"; MAX_QUEUES + 1].join(", ");
        let long = "a".repeat(MAX_QUERY + 1);
        let pairs: Vec<String> = (0..=MAX_LABELS).map(|n| format!("l{n}: x")).collect();
        let text = format!(
            "spec:\n  sqs: {{ queues: [{queues}] }}\n  prometheus: {{ query: {long} }}\n  labels: {{ {} }}\n",
            pairs.join(", ")
        );
        assert_eq!(
            problems(&text),
            [
                "f:2:18: spec.sqs.queues: 101 items; at most 100 are allowed",
                "f:3:24: spec.prometheus.query: 16385 characters; at most 16384 are allowed",
                "f:4:11: spec.labels: 17 entries; at most 16 are allowed",
            ]
        );
        let text = format!("spec: {{ labels: {{ a: {} }}, sqs: {{ queues: x }} }}", "b".repeat(64));
        assert_eq!(
            problems(&text),
            ["f:1:22: spec.labels.a: 64 characters; at most 63 are allowed"]
        );
    }

    #[test]
    fn whatever_the_form_nothing_panics() {
        for text in ["spec:", "spec: []", "spec: { labels: [a], sqs: { queues: { a: b } } }", "a"] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }
}
