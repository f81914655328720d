//! What alerts and dashboards use of the page, and whether the page has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::page;

/// Labels that a scrape gives every series.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

/// Labels of a series; none where the values are no fixed words.
type Labels = BTreeMap<String, Option<BTreeSet<String>>>;

/// The page, by the names of series.
pub(super) struct Table(BTreeMap<String, Labels>);

/// A metric in a query, and its matchers.
#[derive(Debug)]
struct Use {
    name: String,
    /// Label, operator, value.
    matchers: Vec<(String, String, String)>,
}

impl Table {
    /// Reads the page.
    pub(super) fn read() -> Self {
        let text = fs::read_to_string(page::path()).expect("the page is there");
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let line = line.replace("\\|", "/");
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (name, kind) = (cells[1].trim_matches('`').to_owned(), cells[2]);
            let mut labels: Labels = cells[4].split("; `").filter_map(label).collect();
            if kind == "histogram" {
                for suffix in ["_bucket", "_sum", "_count"] {
                    series.insert(format!("{name}{suffix}"), labels.clone());
                    // The bounds belong to buckets alone.
                    labels.remove("le");
                }
            } else {
                series.insert(name, labels);
            }
        }
        assert!(series.len() > 80, "{} series", series.len());
        Self(series)
    }

    /// Everything that a query uses and the page does not have.
    pub(super) fn missing(&self, query: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let uses = uses(query);
        if uses.is_empty() {
            missing.push("it asks for no metric".to_owned());
        }
        let mut known: BTreeSet<&str> = OF_THE_SCRAPE.into();
        for Use { name, matchers } in &uses {
            let Some(labels) = self.0.get(name) else {
                missing.push(format!("{name} is not in deploy/metrics.md"));
                continue;
            };
            known.extend(labels.keys().map(String::as_str));
            for (label, operator, value) in matchers {
                match labels.get(label) {
                    None if OF_THE_SCRAPE.contains(&&**label) => {}
                    None => missing.push(format!("{name} has no label {label}")),
                    Some(Some(words)) if label != "le" => {
                        let values: Vec<&str> = if operator.ends_with('~') {
                            value.split('|').collect()
                        } else {
                            vec![value]
                        };
                        for value in values.into_iter().filter(|value| !words.contains(*value)) {
                            missing.push(format!("{label} of {name} is never {value:?}"));
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        for label in grouped(query) {
            if !known.contains(&*label) {
                missing.push(format!("nothing in it has the label {label}"));
            }
        }
        missing
    }
}

/// `name`: `a`, `b`; or in words what the values are.
fn label(text: &str) -> Option<(String, Option<BTreeSet<String>>)> {
    let (name, values) = text.trim_start_matches('`').split_once("`: ")?;
    let listed = values.split(", ").all(|value| value.starts_with('`') && value.ends_with('`'));
    let words = || values.split(", ").map(|value| value.trim_matches('`').to_owned()).collect();
    Some((name.to_owned(), listed.then(words)))
}

/// The metrics of a query: what a word of ours is, and the braces behind it.
fn uses(query: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (word, rest) in words(query) {
        if !["tidepole_", "process_", "metrics_apiserver_"].iter().any(|p| word.starts_with(p)) {
            continue;
        }
        let matchers = rest.strip_prefix('{').map(matchers).unwrap_or_default();
        found.push(Use { name: word.to_owned(), matchers });
    }
    found
}

/// Words outside of quotes and braces, each with what follows it.
fn words(query: &str) -> Vec<(&str, &str)> {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (Vec::new(), query);
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '"' => 1 + rest[1..].find('"').map_or(rest.len() - 1, |at| at + 1),
            '{' => rest.find('}').map_or(rest.len(), |at| at + 1),
            c if part_of_word(c) => rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if part_of_word(c) {
            found.push((&rest[..end], &rest[end..]));
        }
        rest = &rest[end..];
    }
    found
}

/// `label="value",...}` and whatever follows.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        let before = &rest[..at];
        if before.contains('}') {
            break;
        }
        let before = before.trim_start_matches(',').trim();
        let end = before.find(['=', '!']).expect("a matcher has an operator");
        let (label, operator) = before.split_at(end);
        let (value, after) = rest[at + 1..].split_once('"').expect("a value ends");
        found.push((label.trim().to_owned(), operator.to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

/// The labels of every `by (...)`, `on (...)` and the like.
fn grouped(query: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for (word, rest) in words(query) {
        if ["by", "without", "on", "ignoring"].contains(&word)
            && let Some((list, _)) =
                rest.trim_start().strip_prefix('(').and_then(|r| r.split_once(')'))
        {
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels
}

#[test]
fn what_the_page_lacks_is_found() {
    let table = Table::read();
    for (query, wanted) in [
        ("sum by (group) (rate(tidepole_reads_total{outcome=~\"ok|error\",job=\"x\"}[5m]))", ""),
        ("tidepole_read_duration_seconds_bucket{le=\"1.0\"}", ""),
        ("tidepole_reads", "tidepole_reads is not in deploy/metrics.md"),
        ("tidepole_read_duration_seconds_sum{le=\"1.0\"}", "has no label le"),
        (
            "tidepole_reads_total{outcome=~\"ok|erorr\"}",
            "outcome of tidepole_reads_total is never \"erorr\"",
        ),
        ("tidepole_reads_total{code=\"200\"}", "tidepole_reads_total has no label code"),
        ("sum by (verb) (tidepole_reads_total)", "nothing in it has the label verb"),
        ("up == 0", "it asks for no metric"),
    ] {
        assert!(table.missing(query).join("; ").contains(wanted), "{query}");
        assert_eq!(table.missing(query).is_empty(), wanted.is_empty(), "{query}");
    }
}
