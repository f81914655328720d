//! Which metrics of a group must have a datapoint in a bucket for its expressions to be right.
//!
//! In arithmetic the service takes a missing value for zero (User Guide, "Using math expressions
//! with `CloudWatch` metrics": "Missing values in a time series are treated as 0"), and aggregates of
//! an array leave it out: of `a+b` with `b` a minute late there is a value, `Complete`, and too
//! small. So every metric that an expression takes values from is needed, except:
//!
//! * a metric that is the first argument of `FILL`, alone or in an array: its author has said what a
//!   missing value means. That holds for the other arguments of the same `FILL`, too;
//! * the argument of `PERIOD`, of which no value is taken;
//! * the metrics of an array that is returned as it is: each of its series is one metric's own.
//!
//! A metric in `REMOVE_EMPTY` is needed only if it has a datapoint at all.
//!
//! Not responsible for: what a search inside of an expression finds. `SUM(SEARCH(..))` with one of its
//! series late is too small, and nothing in the answer tells.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::model::query::expression::{Spanned, Token, tokens};
use crate::model::{CloudWatchQuery, MetricQuestion};
use crate::source::cloudwatch::expression::{is_call, is_id};

/// What a metric must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A datapoint in the bucket, if it has any at all.
    IfAny,
    /// A datapoint in the bucket.
    Always,
}

/// The metrics that are needed, by their place in the group.
pub(super) fn needed(query: &CloudWatchQuery) -> BTreeMap<usize, Need> {
    let metrics = query.queries.iter().enumerate();
    let metrics = metrics.filter(|(_, part)| matches!(part.question, MetricQuestion::Metric(_)));
    let by_id = metrics.map(|(place, part)| (&*part.id, place)).collect();
    let mut needs = Needs { by_id, found: BTreeMap::new() };
    for part in &query.queries {
        let MetricQuestion::Expression { text, .. } = &part.question else { continue };
        if part.is_insights() {
            continue;
        }
        // What cannot be read is refused by the service.
        let Ok(words) = tokens(text) else { continue };
        if !(part.return_data && is_array_as_it_is(&words)) {
            needs.read(&words, &[]);
        }
    }
    needs.found
}

struct Needs<'a> {
    /// The places of the metrics in the group.
    by_id: HashMap<&'a str, usize>,
    found: BTreeMap<usize, Need>,
}

impl Needs<'_> {
    /// Takes note of the metrics that are used here, but for those that are excepted.
    fn read(&mut self, words: &[Spanned<'_>], excepted: &[usize]) {
        let mut at = 0;
        while let Some(spanned) = words.get(at) {
            at += 1;
            let Token::Word(word) = spanned.token else { continue };
            if !is_call(&words[at..]) {
                if is_id(word) {
                    let used = self.metrics(&words[at - 1..at]);
                    self.note(&used, excepted, Need::Always);
                }
                continue;
            }
            let inner = inner(words, at);
            let first = first_argument(&words[inner.clone()]);
            let plain = is_plain(first);
            match word {
                "METRICS" => {
                    let used = self.metrics(&words[at - 1..inner.end]);
                    self.note(&used, excepted, Need::Always);
                }
                "FILL" if plain => {
                    let mut excepted = excepted.to_vec();
                    excepted.extend(self.metrics(first));
                    self.read(&words[inner.start + first.len()..inner.end], &excepted);
                }
                "PERIOD" if plain => {}
                "REMOVE_EMPTY" if plain => {
                    let used = self.metrics(first);
                    self.note(&used, excepted, Need::IfAny);
                }
                // Its arguments come next.
                _ => continue,
            }
            at = inner.end;
        }
    }

    fn note(&mut self, used: &[usize], excepted: &[usize], need: Need) {
        for &metric in used.iter().filter(|metric| !excepted.contains(metric)) {
            let known = self.found.entry(metric).or_insert(need);
            *known = need.max(*known);
        }
    }

    /// The metrics that some words name, themselves or by `METRICS`.
    fn metrics(&self, words: &[Spanned<'_>]) -> Vec<usize> {
        let mut found = Vec::new();
        for (at, spanned) in words.iter().enumerate() {
            let Token::Word(word) = spanned.token else { continue };
            if !is_call(&words[at + 1..]) {
                found.extend(self.by_id.get(word));
                continue;
            }
            if word != "METRICS" {
                continue;
            }
            let needle = match words.get(at + 2).map(|spanned| spanned.token) {
                Some(Token::Text(needle)) => needle,
                _ => "",
            };
            let named = self.by_id.iter().filter(|(id, _)| id.contains(needle));
            found.extend(named.map(|(_, place)| *place));
        }
        found
    }
}

/// Whether words are series as they are, none computed: an id, `METRICS`, an array of them, without
/// their empty ones or not.
fn is_plain(words: &[Spanned<'_>]) -> bool {
    let fits = |(at, spanned): (usize, &Spanned<'_>)| match spanned.token {
        Token::Word(word) if is_call(&words[at + 1..]) => {
            matches!(word, "METRICS" | "REMOVE_EMPTY")
        }
        Token::Word(word) => is_id(word),
        Token::Text(_) => true,
        Token::Sign(sign) => matches!(sign, "(" | ")" | "[" | "]" | ","),
        Token::Number(_) => false,
    };
    words.iter().enumerate().all(fits)
}

fn is_array_as_it_is(words: &[Spanned<'_>]) -> bool {
    let array = |word: &Spanned<'_>| {
        matches!(word.token, Token::Word("METRICS" | "REMOVE_EMPTY") | Token::Sign("["))
    };
    words.first().is_some_and(array) && is_plain(words)
}

/// The arguments of the function whose opening parenthesis is at a place.
fn inner(words: &[Spanned<'_>], open: usize) -> Range<usize> {
    let mut depth = 0_usize;
    for (at, spanned) in words.iter().enumerate().skip(open) {
        match spanned.token {
            Token::Sign("(" | "[") => depth += 1,
            Token::Sign(")" | "]") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return open + 1..at;
        }
    }
    open + 1..words.len().max(open + 1)
}

/// The first of some arguments.
fn first_argument<'a, 'b>(arguments: &'a [Spanned<'b>]) -> &'a [Spanned<'b>] {
    let mut depth = 0_usize;
    let end = arguments.iter().position(|spanned| {
        match spanned.token {
            Token::Sign("(" | "[") => depth += 1,
            Token::Sign(")" | "]") => depth = depth.saturating_sub(1),
            Token::Sign(",") => return depth == 0,
            _ => {}
        }
        false
    });
    &arguments[..end.unwrap_or(arguments.len())]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{MetricDataQuery, MetricStat};

    /// The metrics `a`, `ab` and `b`, and these expressions; the last is returned.
    fn group(expressions: &[(&str, &str)]) -> CloudWatchQuery {
        let stat = || MetricStat {
            namespace: "N".into(),
            name: "M".into(),
            dimensions: Vec::new(),
            statistic: "Sum".into(),
            period: Duration::from_mins(1),
            unit: None,
            account_id: None,
        };
        let part = |id: &str, question| MetricDataQuery {
            id: id.into(),
            question,
            label: None,
            return_data: false,
        };
        let metrics = ["a", "ab", "b"].map(|id| part(id, MetricQuestion::Metric(stat())));
        let expressions = expressions.iter().map(|(id, text)| {
            part(id, MetricQuestion::Expression { text: (*text).into(), period: None })
        });
        let mut queries: Vec<_> = metrics.into_iter().chain(expressions).collect();
        queries.last_mut().unwrap().return_data = true;
        CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries,
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
            manner: crate::model::Manner::Strict,
        }
    }

    fn shown(expressions: &[(&str, &str)]) -> String {
        let query = group(expressions);
        let shown = needed(&query).into_iter().map(|(place, need)| {
            let id = &query.queries[place].id;
            if need == Need::IfAny { format!("{id}?") } else { id.to_string() }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_computed_with_is_needed() {
        for (text, expected) in [
            ("a+b", "a b"),
            ("100 * FILL(a, 0) / b", "b"),
            ("FILL( [a, ab] ,0)+b", "b"),
            ("FILL(a, AVG(a)) + FILL(a, b)", "b"),
            ("FILL(a, 0) + a", "a"),
            ("FILL(METRICS('b'), REPEAT)*a", "a"),
            // A sum of what is there is as wrong inside of FILL as outside.
            ("FILL(a+b, 0)", "a b"),
            ("FILL(SUM(METRICS()), 0)", "a ab b"),
            ("SUM(FILL(METRICS(), 0))", ""),
            ("FILL(FILL(a, b), ab)", "ab b"),
            ("SUM(METRICS())", "a ab b"),
            ("SUM(METRICS('a'))/b", "a ab b"),
            ("SUM(METRICS(\"ab\"))", "ab"),
            ("FILL(a, 0)/PERIOD(a)", ""),
            ("a/PERIOD(b)", "a"),
            ("AVG(REMOVE_EMPTY(METRICS()))", "a? ab? b?"),
            ("SUM(REMOVE_EMPTY([a,b]))+b", "a? b"),
            ("REMOVE_EMPTY(a*2)", "a"),
            // Series of their own.
            ("METRICS()", ""),
            ("[a, b]", ""),
            ("REMOVE_EMPTY(METRICS('a'))", ""),
            ("METRICS()*2", "a ab b"),
            ("SUM(SEARCH('{N,D} a b', 'Sum', 60))/ab", "ab"),
            ("SELECT SUM(a) FROM b", ""),
            ("IF(a > 1e3, b, 0)", "a b"),
            // Not for us to refuse.
            ("FILL(a", ""),
            ("SUM((a", "a"),
            ("a + 'b", ""),
            ("", ""),
        ] {
            assert_eq!(shown(&[("e", text)]), expected, "{text}");
        }
        assert_eq!(shown(&[("s", "FILL(a, 0)+b"), ("e", "FILL(s, 0)/ab")]), "ab b");
        assert_eq!(shown(&[]), "");
    }

    proptest! {
        #[test]
        fn whatever_is_written_only_metrics_are_needed(
            text in r#"(METRICS\(|FILL\(|REMOVE_EMPTY\(|PERIOD\(|a|ab|b|e|SUM|'x'|[-+*/(),\[\] '"0-9.]){0,20}"#
        ) {
            let found = needed(&group(&[("e", &text)]));
            prop_assert!(found.keys().all(|place| *place < 3));
        }
    }
}
