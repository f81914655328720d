//! Metric math, as far as the plan must understand it: where an expression refers to other queries.
//!
//! Groups of different definitions go out in one call, so the ids of each are renamed, in the
//! expressions too. What cannot be renamed without a doubt about its meaning is said so, and the
//! group then goes out alone and unchanged.
//!
//! Not responsible for: the words of an expression ([`crate::model::query::expression`]).
//!
//! Source of the rules: Amazon `CloudWatch` User Guide, "Using math expressions with `CloudWatch`
//! metrics". Functions are in upper case and ids start in lower case, so the two cannot be confused.
//! `METRICS()` stands for all metrics of the *request* (not for expressions), `METRICS("text")` for
//! those with the text in their id; in a shared call that would be those of strangers, so it becomes
//! an array of the group's own.

use std::collections::{HashMap, HashSet};

use crate::model::query::cloudwatch::MAX_EXPRESSION;
use crate::model::query::expression::{Spanned, Token, tokens};

/// What is longer in bytes is too long in characters. An array of hundreds is short in `METRICS()`.
const MAX_BYTES: usize = MAX_EXPRESSION * 4;

/// A query of a group, under both its names.
#[derive(Clone, Debug)]
pub(super) struct Name<'a> {
    /// The author's id.
    pub author: &'a str,
    /// The id in the call.
    pub wire: String,
    /// Whether it is a metric, of which `METRICS()` speaks.
    pub metric: bool,
}

/// All queries of a group. A group may have hundreds, and each of its expressions name as many.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    all: Vec<Name<'a>>,
    /// Places in `all`.
    by_author: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// The queries, in the author's order.
    pub(super) fn new(all: Vec<Name<'a>>) -> Self {
        // The first of equals is the last to be put in.
        let places = all.iter().enumerate().rev();
        let by_author = places.map(|(at, name)| (name.author, at)).collect();
        Self { all, by_author }
    }

    fn wire(&self, author: &str) -> Option<&str> {
        Some(&self.all.get(*self.by_author.get(author)?)?.wire)
    }
}

/// The expression with all ids replaced. `None` when it cannot be said in a shared call: it has a
/// quote that is never closed, names a query that the group has not, uses `METRICS()` where an
/// array would not mean the same, or gets too long.
pub(super) fn rewrite(expression: &str, names: &Names<'_>) -> Option<String> {
    let tokens = tokens(expression).ok()?;
    let mut out = String::with_capacity(expression.len() + 16);
    let (mut brackets, mut called) = (Vec::new(), false);
    // What is copied up to here; white space goes along with the word after it.
    let mut done = 0;
    let mut at = 0;
    while let Some(Spanned { token, span }) = tokens.get(at) {
        if out.len() > MAX_BYTES {
            return None;
        }
        at += 1;
        let written = done..span.end;
        done = span.end;
        match *token {
            Token::Word("METRICS") if is_call(&tokens[at..]) => {
                // An array inside an array is not in the documented grammar.
                let nested = brackets.iter().rfind(|open| **open != "(") == Some(&"[");
                let (needle, length) = argument(&tokens[at..]).filter(|_| !nested)?;
                out.push_str(&expression[written.start..span.start]);
                out.push_str(&array(names, needle)?);
                at += length;
                done = tokens[at - 1].span.end;
                continue;
            }
            Token::Word(word) if is_id(word) && !is_call(&tokens[at..]) => {
                out.push_str(&expression[written.start..span.start]);
                out.push_str(names.wire(word)?);
                continue;
            }
            Token::Word(_) => called = is_call(&tokens[at..]),
            Token::Sign("(") if std::mem::take(&mut called) => brackets.push("f("),
            Token::Sign(open @ ("(" | "[")) => brackets.push(open),
            Token::Sign(")" | "]") => drop(brackets.pop()),
            _ => {}
        }
        out.push_str(&expression[written]);
    }
    out.push_str(&expression[done..]);
    Some(out)
}

/// Whether a word can be the id of a query.
pub(super) fn is_id(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether what comes after a word makes it a function.
pub(super) fn is_call(after: &[Spanned<'_>]) -> bool {
    after.first().is_some_and(|next| next.token == Token::Sign("("))
}

/// The argument of `METRICS` and the number of words up to its closing parenthesis.
fn argument<'a>(after: &[Spanned<'a>]) -> Option<(&'a str, usize)> {
    let mut words = after.iter().map(|spanned| spanned.token);
    words.next().filter(|word| *word == Token::Sign("("))?;
    match (words.next()?, words.next()) {
        (Token::Sign(")"), _) => Some(("", 2)),
        (Token::Text(needle), Some(Token::Sign(")"))) if !needle.contains('\\') => {
            Some((needle, 3))
        }
        _ => None,
    }
}

/// The array that `METRICS` stands for. The service says nowhere what an array of one is, or what
/// naming one metric twice does, so those are left to `METRICS` itself.
fn array(names: &Names<'_>, needle: &str) -> Option<String> {
    let found: Vec<&str> = names
        .all
        .iter()
        .filter(|name| name.metric && name.author.contains(needle))
        .map(|name| name.wire.as_str())
        .collect();
    let distinct: HashSet<&str> = found.iter().copied().collect();
    (found.len() >= 2 && distinct.len() == found.len()).then(|| format!("[{}]", found.join(",")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names<'static> {
        let names = [
            ("errors_4xx", true),
            ("errors_5xx", true),
            ("total", true),
            ("rate", false),
            ("e3", true),
        ]
        .into_iter()
        .map(|(author, metric)| Name { author, wire: format!("g7_{author}"), metric });
        Names::new(names.collect())
    }

    #[test]
    fn ids_are_replaced_and_nothing_else() {
        for (text, expected) in [
            ("100*errors_4xx/total", "100*g7_errors_4xx/g7_total"),
            ("FILL(rate, REPEAT) + 1e3 - e3", "FILL(g7_rate, REPEAT) + 1e3 - g7_e3"),
            ("IF(total > 0 AND rate<.5, total, 0)", "IF(g7_total > 0 AND g7_rate<.5, g7_total, 0)"),
            ("SUM ([total,rate])", "SUM ([g7_total,g7_rate])"),
            (
                "LAMBDA('total', \"rate 'total'\", total)",
                "LAMBDA('total', \"rate 'total'\", g7_total)",
            ),
            (r"SEARCH('it\'s total', 'Sum')+total", r"SEARCH('it\'s total', 'Sum')+g7_total"),
            ("", ""),
        ] {
            assert_eq!(rewrite(text, &names()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn metrics_become_an_array_of_the_groups_own() {
        let all = "[g7_errors_4xx,g7_errors_5xx,g7_total,g7_e3]";
        for (text, expected) in [
            ("SUM(METRICS())", Some(format!("SUM({all})"))),
            ("METRICS ( ) /100", Some(format!("{all} /100"))),
            (
                "SUM(METRICS('errors'))/total",
                Some("SUM([g7_errors_4xx,g7_errors_5xx])/g7_total".to_owned()),
            ),
            // Whether `[m]` is an array is not documented.
            ("SUM(METRICS(\"total\"))", None),
            ("SUM(METRICS(\"none\"))", None),
            // `rate` is an expression, `e` is in all ids but that of none.
            ("SUM(METRICS(\"rate\"))", None),
            ("SUM([METRICS(\"4xx\"), METRICS(\"5xx\")])", None),
            ("SUM([(METRICS()*2), total])", None),
            ("[SUM(METRICS()), total]", Some(format!("[SUM({all}), g7_total]"))),
            ("SUM(METRICS(total))", None),
            ("SUM(METRICS(", None),
            ("METRICS(\"e", None),
        ] {
            assert_eq!(rewrite(text, &names()), expected, "{text}");
        }
        let twice = vec![
            Name { author: "a", wire: "m1".into(), metric: true },
            Name { author: "b", wire: "m1".into(), metric: true },
        ];
        assert_eq!(rewrite("SUM(METRICS())", &Names::new(twice)), None);
    }

    #[test]
    fn what_gets_too_long_is_not_written() {
        let ids: Vec<String> = (0..500).map(|at| format!("m{at}")).collect();
        let all = ids.iter().map(|id| Name { author: id, wire: id.clone(), metric: true });
        let names = Names::new(all.collect());
        assert_eq!(rewrite("SUM(METRICS('49'))", &names).map(|text| text.len()), Some(80));
        assert_eq!(rewrite(&vec!["SUM(METRICS())"; 100].join("+"), &names), None);
    }

    #[test]
    fn a_stranger_is_not_renamed() {
        assert_eq!(rewrite("total + g3_other", &names()), None);
        // The service is to say so.
        assert_eq!(rewrite("total + 'x", &names()), None);
    }

    proptest! {
        #[test]
        fn what_names_nothing_stays_as_it_is(text in r"([A-Z]{1,3}|[0-9.]{1,3}|'[a-z]*'|[-+*/(),\[\] é]|  ){0,20}") {
            let expected = tokens(&text).ok().map(|_| text.clone());
            prop_assert_eq!(rewrite(&text, &names()), expected);
        }

        #[test]
        fn what_is_rewritten_refers_only_to_the_new_ids(
            text in r#"(METRICS\((|"e"|'x'|"total")\)|total|rate|e3|SUM|other|[0-9]e?[0-9]*|[-+*/(),\[\] '"\\.]){0,20}"#
        ) {
            if let Some(rewritten) = rewrite(&text, &names()) {
                let all = tokens(&rewritten).unwrap();
                for (i, spanned) in all.iter().enumerate() {
                    let Token::Word(word) = spanned.token else { continue };
                    let called = is_call(&all[i + 1..]);
                    prop_assert!(!is_id(word) || called || word.starts_with("g7_"), "{} -> {}", text, rewritten);
                    prop_assert!(!(word == "METRICS" && called), "{} -> {}", text, rewritten);
                }
            }
        }
    }
}
