//! Whether the answer about many objects can be divided into answers about each.
//!
//! Responsible for: saying yes only where every value of an object comes from this object's series
//! alone. A small grammar of queries that are made of selections, functions of one series,
//! aggregations that keep the objects apart, and operators between such; everything else is "no",
//! and then the original's narrower query is sent. There are parsers of all of `PromQL`; they bring
//! thirty crates for what is here to be refused anyway.
//!
//! What it relies on, with the objects' label L:
//! * every selection names one metric and has the matcher on L, so every series belongs to one
//!   object, and no two have the same other labels;
//! * an aggregation has L in `by`, or not in `without`: no group has series of two objects;
//! * an operator between two vectors matches on a set of labels with L in it, and where `on` or
//!   `ignoring` choose the set, both sides are aggregations whose labels are all in it: no two
//!   series of one side meet, so what one object's series are like cannot break the whole query.

use std::collections::BTreeSet;

use crate::rules::question::promql::{Word, words};

/// Deepest nesting that is looked at.
const MAX_DEPTH: usize = 64;

/// Aggregations that make one value of a group.
const AGGREGATIONS: [&str; 9] =
    ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile"];

/// Functions that make of every series one with the same labels, `le` apart.
const FUNCTIONS: [&str; 63] = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "count_over_time",
    "deg",
    "delta",
    "deriv",
    "double_exponential_smoothing",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "holt_winters",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "ln",
    "log10",
    "log2",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "pi",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rad",
    "rate",
    "resets",
    "round",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "tan",
    "tanh",
    "time",
    "timestamp",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "first_over_time",
];

/// Words that are no metrics.
const KEYWORDS: [&str; 15] = [
    "and",
    "or",
    "unless",
    "atan2",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "inf",
    "nan",
    "absent",
];

/// A query's words, with the objects' own matchers marked: two queries of one shape differ in
/// these alone. None unless the answer can be divided. `comparison` and `value` are what the
/// matcher on `label` has to be.
pub(super) fn shape(query: &str, label: &str, comparison: &str, value: &str) -> Option<Vec<Word>> {
    let words = words(query)?;
    let mut reader =
        Reader { words: &words, at: 0, label, comparison, value, matchers: Vec::new() };
    let kind = reader.expression(0)?;
    let ends = reader.at == words.len();
    if !ends || !matches!(kind, Kind::Vector(_)) {
        return None;
    }
    let matchers = reader.matchers;
    let mut shape = words;
    for at in matchers {
        shape[at] = Word::Sign("=~");
        shape[at + 1] = Word::Name("objects".to_owned());
    }
    Some(shape)
}

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A number or a text, the same for all objects.
    Constant,
    /// Series, each of one object, with their labels if these are known.
    Vector(Option<BTreeSet<String>>),
}

struct Reader<'a> {
    words: &'a [Word],
    at: usize,
    label: &'a str,
    comparison: &'a str,
    value: &'a str,
    /// Where the comparisons of the objects' matchers stand.
    matchers: Vec<usize>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn sign(&mut self, sign: &str) -> Option<()> {
        (matches!(self.peek(), Some(Word::Sign(found)) if *found == sign)).then(|| self.at += 1)
    }

    /// The keyword, in any case.
    fn keyword(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        let Some(Word::Name(name)) = self.peek() else { return None };
        let found = keywords.iter().find(|keyword| keyword.eq_ignore_ascii_case(name))?;
        self.at += 1;
        Some(found)
    }

    /// Operands and operators as they stand: what is asked of each does not depend on which of
    /// them bind closer, as long as one choice of labels is enough.
    fn expression(&mut self, depth: usize) -> Option<Kind> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut left = self.operand(depth)?;
        let mut between_vectors = 0;
        let mut chosen = false;
        while let Some(set) = self.operator() {
            let bool = self.keyword(&["bool"]).is_some();
            let on = self.keyword(&["on", "ignoring"]);
            let labels = match on {
                Some(_) => Some(self.labels()?),
                None => None,
            };
            if self.keyword(&["group_left", "group_right"]).is_some() {
                return None;
            }
            let right = self.operand(depth)?;
            left = match (left, right) {
                (Kind::Constant, Kind::Constant) if !set && on.is_none() => Kind::Constant,
                (Kind::Vector(labels), Kind::Constant) | (Kind::Constant, Kind::Vector(labels))
                    if !set && on.is_none() =>
                {
                    Kind::Vector(labels)
                }
                (Kind::Vector(left), Kind::Vector(right)) => {
                    between_vectors += 1;
                    chosen |= on.is_some();
                    if (bool && set) || (chosen && between_vectors > 1) {
                        return None;
                    }
                    Kind::Vector(self.matched(left, right, set, on.zip(labels))?)
                }
                _ => return None,
            };
        }
        Some(left)
    }

    /// The labels of what an operator between two vectors gives.
    #[expect(clippy::option_option, reason = "cannot be divided, or labels that are not known")]
    fn matched(
        &self,
        left: Option<BTreeSet<String>>,
        right: Option<BTreeSet<String>>,
        set: bool,
        choice: Option<(&str, BTreeSet<String>)>,
    ) -> Option<Option<BTreeSet<String>>> {
        let Some((how, labels)) = choice else {
            return Some(if set && left != right { None } else { left.or(right) });
        };
        let has_label = labels.contains(self.label);
        if has_label != (how == "on") {
            return None;
        }
        // Of operators on sets all series of one object may meet all others of it.
        if set {
            return Some(if left == right { left } else { None });
        }
        let (left, right) = (left?, right?);
        let apart = |side: &BTreeSet<String>| match how {
            "on" => side.is_subset(&labels),
            _ => side.is_disjoint(&labels),
        };
        (apart(&left) && apart(&right)).then_some(Some(left))
    }

    /// An operator; whether it is one on sets.
    fn operator(&mut self) -> Option<bool> {
        if self.keyword(&["and", "or", "unless"]).is_some() {
            return Some(true);
        }
        if self.keyword(&["atan2"]).is_some() {
            return Some(false);
        }
        ["+", "-", "*", "/", "%", "^", "==", "!=", ">=", "<=", ">", "<"]
            .into_iter()
            .find_map(|sign| self.sign(sign))
            .map(|()| false)
    }

    fn operand(&mut self, depth: usize) -> Option<Kind> {
        while self.sign("+").or_else(|| self.sign("-")).is_some() {}
        let start = self.at;
        let kind = self.primary(depth)?;
        // A range, a subquery, an offset: the labels stay.
        loop {
            if self.sign("[").is_some() {
                // Over time, `or` gives two series that differ in nothing but their metric.
                let is_or = |word: &Word| matches!(word, Word::Name(name) if name.eq_ignore_ascii_case("or"));
                if self.words[start..self.at].iter().any(is_or) {
                    return None;
                }
                while !matches!(self.peek(), Some(Word::Sign("]"))) {
                    match self.peek()? {
                        Word::Number(_) | Word::Sign(":") => self.at += 1,
                        _ => return None,
                    }
                }
                self.at += 1;
            } else if self.keyword(&["offset"]).is_some() {
                let _ = self.sign("-");
                let Some(Word::Number(_)) = self.peek() else { return None };
                self.at += 1;
            } else {
                return Some(kind);
            }
        }
    }

    fn primary(&mut self, depth: usize) -> Option<Kind> {
        match self.peek()?.clone() {
            Word::Number(_) | Word::Text(_) => {
                self.at += 1;
                Some(Kind::Constant)
            }
            Word::Sign("(") => {
                self.at += 1;
                let kind = self.expression(depth + 1)?;
                self.sign(")")?;
                Some(kind)
            }
            Word::Sign("{") => self.selection(false),
            Word::Sign(_) => None,
            Word::Name(name) => {
                if self.keyword(&["inf", "nan"]).is_some() {
                    return Some(Kind::Constant);
                }
                let lower = name.to_ascii_lowercase();
                let next = self.words.get(self.at + 1);
                let calls = match next {
                    Some(Word::Sign("(")) => true,
                    Some(Word::Name(name)) => {
                        ["by", "without"].iter().any(|word| name.eq_ignore_ascii_case(word))
                    }
                    _ => false,
                };
                if calls && AGGREGATIONS.contains(&lower.as_str()) {
                    self.at += 1;
                    return self.aggregation(depth);
                }
                if calls {
                    self.at += 1;
                    return self.function(&name, depth);
                }
                if KEYWORDS.contains(&lower.as_str()) {
                    return None;
                }
                self.at += 1;
                self.selection(true)
            }
        }
    }

    /// The matchers of a selection, whose metric may be named before them.
    fn selection(&mut self, mut named: bool) -> Option<Kind> {
        self.sign("{")?;
        let mut of_objects = false;
        while self.sign("}").is_none() {
            let (Word::Name(label) | Word::Text(label)) = self.peek()?.clone() else {
                return None;
            };
            self.at += 1;
            let at = self.at;
            let comparison =
                ["=", "!=", "=~", "!~"].into_iter().find(|sign| self.sign(sign).is_some())?;
            let Word::Text(value) = self.peek()?.clone() else { return None };
            self.at += 1;
            if label == "__name__" {
                named |= comparison == "=";
            }
            if label == self.label && comparison == self.comparison && value == self.value {
                self.matchers.push(at);
                of_objects = true;
            }
            if self.sign(",").is_none() && !matches!(self.peek(), Some(Word::Sign("}"))) {
                return None;
            }
        }
        (named && of_objects).then_some(Kind::Vector(None))
    }

    fn arguments(&mut self, depth: usize) -> Option<Vec<Kind>> {
        self.sign("(")?;
        let mut kinds = Vec::new();
        while self.sign(")").is_none() {
            kinds.push(self.expression(depth + 1)?);
            if self.sign(",").is_none() && !matches!(self.peek(), Some(Word::Sign(")"))) {
                return None;
            }
        }
        Some(kinds)
    }

    fn function(&mut self, name: &str, depth: usize) -> Option<Kind> {
        if !FUNCTIONS.contains(&name) {
            return None;
        }
        let arguments = self.arguments(depth)?;
        if arguments.is_empty() {
            return ["time", "pi"].contains(&name).then_some(Kind::Constant);
        }
        let labels = the_vector(arguments)?;
        // Buckets become one series.
        Some(Kind::Vector(labels.map(|mut labels| {
            if name.starts_with("histogram_") {
                labels.remove("le");
            }
            labels
        })))
    }

    fn aggregation(&mut self, depth: usize) -> Option<Kind> {
        let before = self.grouping()?;
        let inner = the_vector(self.arguments(depth)?)?;
        let (by, labels) = match before {
            Some(grouping) => grouping,
            None => self.grouping()??,
        };
        if labels.contains(self.label) != by {
            return None;
        }
        let labels = if by {
            Some(labels)
        } else {
            inner.map(|inner| inner.difference(&labels).cloned().collect())
        };
        Some(Kind::Vector(labels))
    }

    /// `by (...)` or `without (...)`; whether it is the first. Inner none: neither.
    #[expect(clippy::option_option, reason = "not understood, or not there")]
    fn grouping(&mut self) -> Option<Option<(bool, BTreeSet<String>)>> {
        let Some(how) = self.keyword(&["by", "without"]) else { return Some(None) };
        Some(Some((how == "by", self.labels()?)))
    }

    fn labels(&mut self) -> Option<BTreeSet<String>> {
        self.sign("(")?;
        let mut labels = BTreeSet::new();
        while self.sign(")").is_none() {
            let (Word::Name(label) | Word::Text(label)) = self.peek()?.clone() else {
                return None;
            };
            self.at += 1;
            labels.insert(label);
            if self.sign(",").is_none() && !matches!(self.peek(), Some(Word::Sign(")"))) {
                return None;
            }
        }
        Some(labels)
    }
}

/// The labels of the one vector among arguments.
#[expect(clippy::option_option, reason = "not one vector, or one whose labels are not known")]
fn the_vector(arguments: Vec<Kind>) -> Option<Option<BTreeSet<String>>> {
    let mut vectors = arguments.into_iter().filter_map(|kind| match kind {
        Kind::Vector(labels) => Some(labels),
        Kind::Constant => None,
    });
    let labels = vectors.next()?;
    vectors.next().is_none().then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divides(query: &str) -> bool {
        let query = query.replace("$M", r#"namespace="prod",pod=~".+""#);
        shape(&query, "pod", "=~", ".+").is_some()
    }

    #[test]
    fn values_of_one_object_each() {
        for query in [
            "x{$M}",
            "sum(x{$M}) by (pod)",
            "sum by (pod) (rate(x{$M,container!=\"POD\"}[5m]))",
            "SUM BY (pod, c) (x{$M})",
            "sum(x{$M}) without (c)",
            "max_over_time(sum(x{$M}) by (pod)[3s:1s])",
            "avg(avg_over_time(x{$M}[5m])) by (pod,)",
            "histogram_quantile(0.9, sum(rate(x_bucket{$M}[5m])) by (le, pod))",
            "100 * sum(x{area=\"heap\",$M}) by (pod) / sum(y{$M}) by (pod)",
            "sum(x{$M}) by (pod) / on (pod) sum(y{$M}) by (pod)",
            "sum(x{$M}) by (pod) / ignoring(c) sum(y{$M}) by (pod)",
            "x{$M} > bool 1",
            "-x{$M} + 1e-3 * time()",
            "clamp_min(x{$M}, 0) or y{$M}",
            "sum(x{$M} offset 1d) by (pod) # $M",
            "{__name__=\"x\",$M}",
            "round(sum(a:b:c{$M}) by (pod), 0.001)",
        ] {
            assert!(divides(query), "{query}");
        }
    }

    #[test]
    fn everything_else_is_asked_as_the_original_does() {
        for query in [
            "",
            "3",
            "x",
            "x{}",
            "x{$M}[5m",
            "{$M}",
            "{__name__=~\"x|y\",$M}",
            "sum(x{$M})",
            "sum(x{$M}) by (namespace)",
            "sum(x{$M}) without (pod)",
            "sum(x) by (pod)",
            "topk(1, x{$M})",
            "topk(1, x{$M}) by (pod)",
            "rate((x{$M} or y{$M})[5m:1m])",
            "count_values(\"pod\", x{$M}) by (pod)",
            "scalar(x{$M})",
            "absent(x{$M})",
            "sort(x{$M})",
            "vector(1)",
            "x{$M} or vector(0)",
            "x{$M} or on() y{$M}",
            "x{$M} / on(namespace) y{$M}",
            "x{$M} / on(pod) y{$M}",
            "x{$M} / on(pod) group_left y{$M}",
            "x{$M} / ignoring(pod) y{$M}",
            "sum(x{$M}) by (pod, c) / on(pod) sum(y{$M}) by (pod)",
            "sum(x{$M}) by (pod) + y{$M} * on(pod) sum(z{$M}) by (pod)",
            "label_replace(x{$M}, \"pod\", \"$1\", \"c\", \"(.*)\")",
            "x{$M} / y",
            "x{$M} @ 5",
            "x{$M} y{$M}",
            "sum(x{$M}) by (pod) by (pod)",
            "nosuch(x{$M})",
            "x{namespace=\"prod\",pod=\".+\"}",
            "x{namespace=\"prod\",pod!~\".+\"}",
            "sum(x{$M}",
        ] {
            assert!(!divides(query), "{query}");
        }
        let deep = format!("{}x{{$M}}{}", "(".repeat(100), ")".repeat(100));
        assert!(!divides(&deep));
        assert!(!divides(&format!("x{{$M}}{}", " ".repeat(70_000))));
    }

    #[test]
    fn a_shape_has_no_names_in_it() {
        let of = |text: &str, comparison, value| shape(text, "pod", comparison, value).unwrap();
        let many = of("sum(x{pod=~\"a|b\"}) by (pod)", "=~", "a|b");
        assert_eq!(many, of("sum(x{pod=\"a\"}) by(pod)", "=", "a"));
        assert_ne!(many, of("sum(x{pod=\"a\",c=\"a\"}) by (pod)", "=", "a"));
    }
}
