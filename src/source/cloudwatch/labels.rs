//! Labels of series: what a query asks the service to write into a result's `Label`, and what is
//! read back from it.
//!
//! `GetMetricData` has no structured labels. A result carries one text, which follows from the
//! `Label` of the query ("dynamic labels") or is made up by the service. So:
//!
//! | the returned query is | `Label` sent | labels of a series |
//! |---|---|---|
//! | a metric | none | none |
//! | `SEARCH('{Namespace,A,B} ..')`, in `REMOVE_EMPTY` or not | <code>${PROP('Dim.A')}&#124;${PROP('Dim.B')}</code> | `A`, `B` |
//! | `SELECT .. GROUP BY A, B` | none: the service writes the values, with a space between | `A`, `B` |
//! | one of these two with the author's own label, or `SEARCH` without a schema | the author's | `label`: the text |
//! | any other expression that gives an array | the author's | `label`: the text |
//! | any other expression | the author's | none |
//!
//! Whether there is a `label` follows from the expression, not from how many series it finds today: a
//! selector that fits must not stop fitting when a second one appears.
//!
//! # What no document proves
//!
//! * What the service writes between the values of several `GROUP BY` keys: taken to be one space.
//! * That it takes a `Label` of several dynamic parts as it is, with the `|` between.
//!
//! So parts are used only where they cannot be mistaken, and otherwise all series of the answer have
//! `label` alone: labels that are right for most series would let a selector drop the rest. The
//! separator is one character. If a text has exactly as many as belong between its parts, none is
//! part of a value, whatever the values are; a value that contains one makes the count wrong. Parts
//! that are empty, that end like the items of a list, or that still hold a `${` do not count either.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::query::expression::{Token, tokens};
use crate::model::{CloudWatchQuery, Labels, MetricDataQuery, MetricQuestion};
use crate::source::cloudwatch::expression::is_id;

/// The label that holds the service's text where its parts are not known.
const LABEL: &str = "label";

/// Between the parts of a label that we ask for: printable, and in hardly any dimension's value.
const SEPARATOR: char = '|';

/// Signs that end a part only if the service writes lists in another way than we think.
const LIST_SIGNS: [char; 3] = [',', ';', ':'];

/// Functions of metric math that find or make several series (User Guide, "Using math expressions
/// with `CloudWatch` metrics"); of `DB_PERF_INSIGHTS` only the answer tells.
const ARRAYS: [&str; 4] = ["METRICS", "SEARCH", "DB_PERF_INSIGHTS", "ANOMALY_DETECTION_BAND"];

/// Functions that make one series, or a number, of an array (ibid.).
const AGGREGATES: [&str; 8] =
    ["AVG", "FIRST", "LAST", "MAX", "METRIC_COUNT", "MIN", "STDDEV", "SUM"];

/// How the results of a query become labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// One series without labels; a second is a mistake of the service.
    One,
    /// None, for what is taken as it is written: of several series the first counts.
    First,
    /// None, for an expression that gives one series. Should the service give several all the
    /// same, they have `label`.
    Single,
    /// `label`, always.
    Whole,
    /// One label for each part of the text.
    Parts {
        /// The labels' names.
        keys: Vec<Arc<str>>,
        /// What is between the parts.
        separator: char,
    },
}

/// The `Label` to send with the returned query of a group, and how its results are named.
pub(super) fn naming(query: &CloudWatchQuery) -> (Option<Cow<'_, str>>, Naming) {
    let Some(returned) = query.returned() else { return (None, Naming::One) };
    if query.manner.is_as_written() {
        return (returned.label.as_deref().map(Cow::Borrowed), Naming::First);
    }
    let MetricQuestion::Expression { text, .. } = &returned.question else {
        return (None, Naming::One);
    };
    let own = returned.label.as_deref().map(Cow::Borrowed);
    let Some(keys) = keys(returned, text) else {
        let by_id = query.queries.iter().map(|part| (&*part.id, part)).collect();
        let several = gives_array(&by_id, returned, &mut HashSet::new());
        return (own, if several { Naming::Whole } else { Naming::Single });
    };
    if own.is_some() || keys.is_empty() {
        return (own, Naming::Whole);
    }
    if returned.is_insights() {
        return (None, Naming::Parts { keys, separator: ' ' });
    }
    let parts: Vec<_> = keys.iter().map(|key| format!("${{PROP('Dim.{key}')}}")).collect();
    let label = parts.join(&SEPARATOR.to_string());
    (Some(Cow::Owned(label)), Naming::Parts { keys, separator: SEPARATOR })
}

/// The names of the dimensions that tell the series of an expression apart; empty if they are not
/// known, none if this is not an expression that finds series.
fn keys(query: &MetricDataQuery, text: &str) -> Option<Vec<Arc<str>>> {
    if query.is_insights() { group_by(text) } else { search(text) }
}

/// Whether an expression gives an array, as far as its words tell.
fn gives_array<'a>(
    group: &HashMap<&'a str, &'a MetricDataQuery>,
    part: &'a MetricDataQuery,
    seen: &mut HashSet<&'a str>,
) -> bool {
    let MetricQuestion::Expression { text, .. } = &part.question else { return false };
    if part.is_insights() {
        return group_by(text).is_some();
    }
    // Expressions that refer to each other in a circle are the service's to refuse.
    seen.insert(&part.id);
    let words = words(text);
    // For each open bracket: whether an aggregate is around it.
    let mut aggregated = vec![false];
    let mut function = "";
    for (at, word) in words.iter().enumerate() {
        let inside = aggregated.last().copied().unwrap_or_default();
        let called = words.get(at + 1) == Some(&Token::Sign("("));
        let gives = match *word {
            Token::Word(name) if called => {
                function = name;
                ARRAYS.contains(&name)
            }
            Token::Word(name) if is_id(name) && !inside && !seen.contains(&name) => {
                group.get(name).is_some_and(|operand| gives_array(group, operand, seen))
            }
            Token::Sign(open @ ("(" | "[")) => {
                let around = AGGREGATES.contains(&std::mem::take(&mut function));
                aggregated.push(inside || around);
                open == "["
            }
            Token::Sign(")" | "]") => {
                aggregated.pop();
                false
            }
            _ => false,
        };
        if gives && !inside {
            return true;
        }
    }
    false
}

/// The words of an expression without their places; none if a quote is never closed.
fn words(text: &str) -> Vec<Token<'_>> {
    tokens(text).unwrap_or_default().into_iter().map(|spanned| spanned.token).collect()
}

/// The keys of a Metrics Insights query's `GROUP BY`.
fn group_by(text: &str) -> Option<Vec<Arc<str>>> {
    let words = words(text);
    let is = |token: &Token<'_>, name: &str| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(name));
    let at = words.windows(2).position(|two| is(&two[0], "GROUP") && is(&two[1], "BY"))?;
    let clause = words[at + 2..].iter();
    let clause = clause.take_while(|token| !is(token, "ORDER") && !is(token, "LIMIT"));
    let mut keys = vec![String::new()];
    for token in clause {
        match (token, keys.last_mut()) {
            (Token::Sign(","), _) => keys.push(String::new()),
            (Token::Text(text), Some(key)) => {
                key.push_str(&text.replace("\\\"", "\"").replace("\\'", "'"));
            }
            (Token::Word(text) | Token::Number(text) | Token::Sign(text), Some(key)) => {
                key.push_str(text);
            }
            (_, None) => {}
        }
    }
    keys.retain(|key| !key.is_empty());
    Some(keys.into_iter().map(Arc::from).collect())
}

/// The dimensions in the schema of a `SEARCH` whose series are the answer.
fn search(text: &str) -> Option<Vec<Arc<str>>> {
    use Token::{Sign, Text, Word};
    let words = words(text);
    let inner = match words.as_slice() {
        [Word("REMOVE_EMPTY"), Sign("("), inner @ .., Sign(")")] => inner,
        all => all,
    };
    let [Word("SEARCH"), Sign("("), arguments @ .., Sign(")")] = inner else { return None };
    // A parenthesis among the arguments: something follows the search.
    if arguments.iter().any(|token| matches!(token, Sign("(" | ")"))) {
        return None;
    }
    let Some(Text(term)) = arguments.first() else { return None };
    Some(schema(term).unwrap_or_default())
}

/// The dimensions of `{Namespace,A,"B C"}` at the start of a search term.
fn schema(term: &str) -> Option<Vec<Arc<str>>> {
    let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
    for c in term.trim_start().strip_prefix('{')?.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | '}' if !quoted => {
                names.push(std::mem::take(&mut name).trim().to_owned());
                if c == '}' {
                    let dimensions = names.into_iter().skip(1).map(Arc::from).collect::<Vec<_>>();
                    return dimensions.iter().all(|name| is_simple(name)).then_some(dimensions);
                }
            }
            c => name.push(c),
        }
    }
    None
}

/// Whether a dimension's name can stand in a dynamic label as it is.
fn is_simple(name: &str) -> bool {
    !name.is_empty() && !name.contains(['\'', '\\', '{', '}'])
}

/// The labels of all series of one answer, from their texts.
pub(super) fn labels(naming: &Naming, texts: &[&str]) -> Vec<Labels> {
    let whole = || texts.iter().map(|text| Labels::new([(LABEL, *text)]));
    match naming {
        Naming::One | Naming::First => texts.iter().map(|_| Labels::empty()).collect(),
        Naming::Single if texts.len() < 2 => texts.iter().map(|_| Labels::empty()).collect(),
        Naming::Single | Naming::Whole => whole().collect(),
        Naming::Parts { keys, separator } => {
            let parts = |text: &&str| parts(keys, *separator, text);
            texts.iter().map(parts).collect::<Option<_>>().unwrap_or_else(|| whole().collect())
        }
    }
}

fn parts(keys: &[Arc<str>], separator: char, text: &str) -> Option<Labels> {
    // A dynamic label that the service did not fill in says nothing about the series.
    if text.contains("${") {
        return None;
    }
    if let [key] = keys {
        return Some(Labels::new([(Arc::clone(key), text)]));
    }
    let values: Vec<&str> = text.split(separator).collect();
    let clear = |value: &&str| !value.is_empty() && !value.ends_with(LIST_SIGNS);
    let complete = values.len() == keys.len() && values.iter().all(clear);
    complete.then(|| Labels::new(keys.iter().cloned().zip(values)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn query(text: &str, label: Option<&str>) -> CloudWatchQuery {
        let question = MetricQuestion::Expression { text: text.into(), period: None };
        let label = label.map(Arc::from);
        CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![MetricDataQuery { id: "e".into(), question, label, return_data: true }],
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
            manner: crate::model::Manner::Strict,
        }
    }

    fn shown(text: &str, label: Option<&str>, texts: &[&str]) -> (String, Vec<String>) {
        let query = query(text, label);
        let (label, naming) = naming(&query);
        let labels = labels(&naming, texts).iter().map(ToString::to_string).collect();
        (label.unwrap_or_default().into_owned(), labels)
    }

    #[test]
    fn searches_ask_for_their_dimensions() {
        let search =
            "SEARCH(' {AWS/Kafka, \"Cluster Name\", Topic} MetricName=\"X(1)\" ', 'Sum', 60)";
        let label = "${PROP('Dim.Cluster Name')}|${PROP('Dim.Topic')}";
        let read = vec!["{Cluster Name=a b,Topic=t}".to_owned()];
        assert_eq!(shown(search, None, &["a b|t"]), (label.to_owned(), read.clone()));
        let wrapped = format!("REMOVE_EMPTY( {search} )");
        assert_eq!(shown(&wrapped, None, &["a b|t"]), (label.to_owned(), read));
        // The service did not do what was asked: no guess.
        assert_eq!(shown(search, None, &["a b|t", "x"]).1, ["{label=a b|t}", "{label=x}"]);
        // Whose the sign is cannot be told, wherever it stands.
        for odd in ["a|b|t", "a||t", "|a|t", "a|t|", "a|", "${PROP('Dim.Cluster Name')}|t"] {
            assert_eq!(shown(search, None, &[odd]).1, [format!("{{label={odd}}}")]);
        }
        // The author's label is the author's.
        let own = "${PROP('Dim.Topic')}";
        assert_eq!(shown(search, Some(own), &["t"]), (own.to_owned(), vec!["{label=t}".into()]));
        let no_schema = "SEARCH(' \"CPUUtilization\" ', 'Average', 300)";
        assert_eq!(shown(no_schema, None, &["i-1"]), (String::new(), vec!["{label=i-1}".into()]));
        let odd = "SEARCH('{N,\"it's\"} x', 'Sum')";
        assert_eq!(shown(odd, None, &["i-1"]).0, "");
    }

    #[test]
    fn groups_of_insights_are_named_by_their_keys() {
        let one = "select AVG(CPUUtilization) FROM SCHEMA(\"AWS/EC2\", InstanceId) group by \"Instance Id\" order by AVG() LIMIT 3";
        assert_eq!(
            shown(one, None, &["a b", "Other"]),
            (String::new(), vec!["{Instance Id=a b}".into(), "{Instance Id=Other}".into()])
        );
        let two =
            "SELECT SUM(X) FROM \"N\" WHERE A = 'GROUP BY B' GROUP BY tag.Team, AWS.AccountId";
        assert_eq!(
            shown(two, None, &["blue 1", "red 2"]).1,
            ["{AWS.AccountId=1,tag.Team=blue}", "{AWS.AccountId=2,tag.Team=red}"]
        );
        // One value with a space: the parts of all are unsafe.
        assert_eq!(
            shown(two, None, &["blue 1", "dark red 2"]).1,
            ["{label=blue 1}", "{label=dark red 2}"]
        );
        // Another way to write lists than the one we know.
        assert_eq!(shown(two, None, &["blue, 1"]).1, ["{label=blue, 1}"]);
        let none = "SELECT SUM(X) FROM \"N\"";
        assert_eq!(shown(none, None, &["X"]).1, ["{}"]);
    }

    #[test]
    fn an_expression_has_a_label_if_it_can_give_several_series() {
        for text in [
            "SUM(SEARCH('{N,D} x', 'Sum'))",
            "m1/m2",
            "100 * FILL(m1, 0) / m2",
            "SUM([m1, m2]) / m1",
            "SUM(METRICS()/AVG(METRICS()))",
            "FIRST(SORT(METRICS(), AVG, DESC))",
            "METRIC_COUNT(METRICS())+m1",
            "SELECTED",
            "SELECT SUM(X) FROM N",
        ] {
            assert_eq!(shown(text, Some("rate"), &["rate"]), ("rate".into(), vec!["{}".into()]));
            assert_eq!(shown(text, None, &["a", "b"]).1, ["{label=a}", "{label=b}"], "{text}");
        }
        for text in [
            "SEARCH('{N,D} x', 'Sum')/SUM(m)",
            "METRICS()*2",
            "[m1, m2]",
            "FILL(METRICS('m'), 0)",
            "SUM(METRICS())/METRICS()",
            "REMOVE_EMPTY(SORT(METRICS(), MAX, DESC))",
            "ANOMALY_DETECTION_BAND(m1)",
        ] {
            for several in [&["a"][..], &["a", "b"]] {
                let expected: Vec<_> = several.iter().map(|t| format!("{{label={t}}}")).collect();
                assert_eq!(shown(text, None, several).1, expected, "{text}");
            }
        }
    }

    #[test]
    fn an_array_is_one_under_another_name_too() {
        let with = |returned: &str, other: &str| {
            let (mut all, mut operand) = (query(returned, None), query(other, None).queries);
            operand[0].id = "s".into();
            operand[0].return_data = false;
            all.queries.extend(operand);
            naming(&all).1
        };
        let search = "SEARCH('{N,D} x', 'Sum', 60)";
        assert_eq!(with("s*2", search), Naming::Whole);
        assert_eq!(with("SUM(s)", search), Naming::Single);
        assert_eq!(with("s*2", "SUM(METRICS())"), Naming::Single);
        assert_eq!(with("s*2", "SELECT SUM(X) FROM N GROUP BY D"), Naming::Whole);
        assert_eq!(with("s*2", "e+s"), Naming::Single, "a circle");
    }

    proptest! {
        #[test]
        fn parts_are_never_mistaken(
            values in proptest::collection::vec("[a |,x]{0,4}", 2..4),
            separator in select(vec![SEPARATOR, ' ']),
        ) {
            let keys: Vec<Arc<str>> = (0..values.len()).map(|i| format!("k{i}").into()).collect();
            let text = values.join(&separator.to_string());
            if let Some(found) = parts(&keys, separator, &text) {
                prop_assert_eq!(found, Labels::new(keys.iter().cloned().zip(values)));
            }
        }
    }
}
