//! What an expression refers to, and whether it can be one at all.
//!
//! Responsible for: balanced brackets and quotes, operators between operands, misspelt and forbidden
//! functions, and the ids and `METRICS` patterns that an expression takes its data from. Not responsible for: what
//! it computes, and the types of its operands: the service says so.

use crate::definition::cloudwatch::statistic;
use crate::definition::field::closest;
use crate::model::query::cloudwatch::{MAX_EXPRESSION, MAX_FOUND};
use crate::model::query::expression::{DATA_FUNCTIONS, Spanned, Token, tokens};

/// Functions of metric math (User Guide, "Using math expressions with CloudWatch metrics"). The
/// service's list grows: what looks like a function and like none of these is left to the service.
const FUNCTIONS: [&str; 38] = [
    "ABS",
    "ANOMALY_DETECTION_BAND",
    "AVG",
    "CEIL",
    "DATAPOINT_COUNT",
    "DATE",
    "DAY",
    "DB_PERF_INSIGHTS",
    "DIFF",
    "DIFF_TIME",
    "EPOCH",
    "FILL",
    "FIRST",
    "FLOOR",
    "HOUR",
    "IF",
    "INSIGHT_RULE_METRIC",
    "LAST",
    "LOG",
    "LOG10",
    "MAX",
    "METRICS",
    "METRIC_COUNT",
    "MIN",
    "MINUTE",
    "MONTH",
    "PERIOD",
    "RATE",
    "REMOVE_EMPTY",
    "RUNNING_SUM",
    "SEARCH",
    "SERVICE_QUOTA",
    "SLICE",
    "SORT",
    "STDDEV",
    "SUM",
    "TIME_SERIES",
    "YEAR",
];

/// Makes `CloudWatch` run a function of the account that connects it to another source of data (User
/// Guide, "Query metrics from other data sources"): more than reading, at every read, with arguments
/// of the author's.
const LAMBDA: &str = "LAMBDA";

/// Words that stand as arguments of some functions (same document).
const ARGUMENTS: [&str; 4] = ["REPEAT", "LINEAR", "ASC", "DESC"];

/// Words that are operators (same document).
const WORD_OPERATORS: [&str; 2] = ["AND", "OR"];

/// Signs that are operators (same document).
const OPERATORS: [&str; 13] =
    ["+", "-", "*", "/", "^", "==", "!=", "<=", ">=", "<", ">", "&&", "||"];

/// Functions of a Metrics Insights query (User Guide, "Query components and syntax").
const INSIGHTS_FUNCTIONS: [&str; 5] = ["AVG", "COUNT", "MAX", "MIN", "SUM"];

/// What is known of an expression from its text alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::definition) struct Expression {
    /// A Metrics Insights query.
    pub(in crate::definition) is_insights: bool,
    /// The first function that finds data by itself; `SELECT` for Metrics Insights.
    pub(in crate::definition) finds_data: Option<&'static str>,
    /// The ids that it refers to, in the order of their first use.
    pub(in crate::definition) ids: Vec<String>,
    /// What ids of metrics contain that it takes through `METRICS`; empty for all of them.
    pub(in crate::definition) patterns: Vec<String>,
    /// The periods that its `SEARCH`es name, in seconds, as written.
    pub(in crate::definition) search_periods: Vec<String>,
}

/// Reads an expression.
pub(in crate::definition) fn read(text: &str) -> Result<Expression, String> {
    if text.is_empty() {
        return Err("the expression is empty".to_owned());
    }
    let length = text.chars().count();
    if length > MAX_EXPRESSION {
        return Err(format!(
            "the expression has {length} characters; {MAX_EXPRESSION} are allowed"
        ));
    }
    let words = tokens(text).map_err(|error| error.to_string())?;
    if let Some(Token::Word(first)) = words.first().map(|spanned| spanned.token)
        && first.eq_ignore_ascii_case("SELECT")
    {
        return insights(&words);
    }
    Reader { text, words: &words, open: Vec::new(), found: Expression::default() }.math()
}

/// Checks the parts of a Metrics Insights query that our rules depend on; the rest is the
/// service's own language, which grows.
fn insights(words: &[Spanned<'_>]) -> Result<Expression, String> {
    let is_word = |token: &Token<'_>, word: &str| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word));
    let mut depth = 0_usize;
    for spanned in words {
        match spanned.token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => {
                depth = depth.checked_sub(1).ok_or("a `)` closes nothing")?;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("a `(` is never closed".to_owned());
    }
    let function = words.get(1).map(|spanned| spanned.token);
    let is_call = words.get(2).is_some_and(|spanned| spanned.token == Token::Sign("("));
    match function {
        Some(Token::Word(word))
            if is_call && INSIGHTS_FUNCTIONS.iter().any(|f| f.eq_ignore_ascii_case(word)) => {}
        _ => {
            return Err(format!(
                "SELECT takes one of {} and a metric's name in parentheses, like SELECT AVG(CPUUtilization)",
                INSIGHTS_FUNCTIONS.join(", ")
            ));
        }
    }
    if !words.iter().any(|spanned| is_word(&spanned.token, "FROM")) {
        return Err("SELECT needs FROM and a namespace, like FROM SCHEMA(\"AWS/EC2\", InstanceId)"
            .to_owned());
    }
    for pair in words.windows(2) {
        if is_word(&pair[0].token, "LIMIT")
            && let Token::Number(number) = pair[1].token
            && !number.parse().is_ok_and(|limit: u64| (1..=MAX_FOUND).contains(&limit))
        {
            return Err(format!(
                "LIMIT {number} is not between 1 and {MAX_FOUND}, the most series of one query"
            ));
        }
    }
    Ok(Expression { is_insights: true, finds_data: Some("SELECT"), ..Expression::default() })
}

/// Walks through a math expression: operands and operators take turns.
struct Reader<'a> {
    text: &'a str,
    words: &'a [Spanned<'a>],
    /// Open brackets, and the function that each belongs to.
    open: Vec<(&'static str, Option<&'a str>)>,
    found: Expression,
}

impl<'a> Reader<'a> {
    fn math(mut self) -> Result<Expression, String> {
        let mut wants_operand = true;
        let mut at = 0;
        while let Some(spanned) = self.words.get(at) {
            let shown = &self.text[spanned.span.clone()];
            wants_operand = match spanned.token {
                Token::Sign(sign @ ("(" | "[")) => {
                    if !wants_operand {
                        return Err(format!("an operator is missing before `{sign}`"));
                    }
                    self.open.push((if sign == "(" { ")" } else { "]" }, None));
                    true
                }
                Token::Sign(sign @ (")" | "]")) => {
                    // A call that needs no arguments; of what we do not know, any may be.
                    let needs_none = |name: &str| name == "METRICS" || !FUNCTIONS.contains(&name);
                    let is_empty_call = at > 0
                        && self.words[at - 1].token == Token::Sign("(")
                        && matches!(self.open.last(), Some((_, Some(name))) if needs_none(name));
                    if wants_operand && !is_empty_call {
                        return Err(format!("a value is missing before `{sign}`"));
                    }
                    match self.open.pop() {
                        Some((close, _)) if close == sign => false,
                        Some((close, _)) => {
                            return Err(format!("`{sign}` stands where a `{close}` is due"));
                        }
                        None => return Err(format!("a `{sign}` closes nothing")),
                    }
                }
                Token::Sign(",") if self.open.is_empty() => {
                    return Err("a `,` stands outside of all brackets".to_owned());
                }
                Token::Sign("-") if wants_operand => true,
                Token::Sign(sign) if sign == "," || OPERATORS.contains(&sign) => {
                    if wants_operand {
                        return Err(format!("a value is missing before `{sign}`"));
                    }
                    true
                }
                Token::Sign(sign) => return Err(unknown_sign(sign)),
                Token::Word(word) if WORD_OPERATORS.contains(&word) => {
                    if wants_operand {
                        return Err(format!("a value is missing before {word}"));
                    }
                    true
                }
                Token::Word(_) | Token::Number(_) | Token::Text(_) if !wants_operand => {
                    return Err(format!("an operator is missing before {shown}"));
                }
                Token::Word(word) => {
                    let is_call = self.words.get(at + 1).map(|s| s.token) == Some(Token::Sign("("));
                    if is_call {
                        self.call(word, at)?;
                        at += 1;
                    } else {
                        self.word(word)?;
                    }
                    is_call
                }
                Token::Number(_) | Token::Text(_) => false,
            };
            at += 1;
        }
        if let Some((close, _)) = self.open.last() {
            return Err(format!("a `{close}` is missing at the end"));
        }
        if wants_operand {
            return Err("a value is missing at the end".to_owned());
        }
        Ok(self.found)
    }

    /// A word with parentheses after it.
    fn call(&mut self, word: &'a str, at: usize) -> Result<(), String> {
        if word == LAMBDA {
            return Err("LAMBDA is not allowed here: CloudWatch would run a function of the account at every read; publish its result as a metric, and ask for that".to_owned());
        }
        if !FUNCTIONS.contains(&word) {
            may_be_function(word)?;
        }
        self.open.push((")", Some(word)));
        let argument = |index: usize| self.words.get(at + 2 + index).map(|s| s.token);
        if let Some(function) = DATA_FUNCTIONS.iter().find(|function| **function == word) {
            self.found.finds_data.get_or_insert(function);
        }
        match (word, argument(0)) {
            ("METRICS", Some(Token::Text(pattern))) => self.found.patterns.push(pattern.to_owned()),
            ("METRICS", _) => self.found.patterns.push(String::new()),
            ("SEARCH", Some(Token::Text(_))) => {
                if let Some(Token::Text(text)) = argument(2) {
                    statistic::parse(text).map_err(|error| format!("in SEARCH, {error}"))?;
                }
                if let Some(Token::Number(period)) = argument(4) {
                    self.found.search_periods.push(period.to_owned());
                }
            }
            ("SEARCH", _) => {
                return Err("SEARCH takes its search in quotes, like SEARCH('{AWS/EC2,InstanceId} CPUUtilization', 'Average')".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// A word by itself.
    fn word(&mut self, word: &'a str) -> Result<(), String> {
        let function = self.open.iter().rev().find_map(|(_, function)| *function);
        if function.is_some_and(|function| DATA_FUNCTIONS.contains(&function)) {
            // Their arguments are names and flags, not other queries.
            return Ok(());
        }
        if word.starts_with(|c: char| c.is_ascii_lowercase()) {
            if !self.found.ids.iter().any(|id| id == word) {
                self.found.ids.push(word.to_owned());
            }
            return Ok(());
        }
        // SORT takes a function's name as an argument, and a function that we do not know anything.
        if ARGUMENTS.contains(&word)
            || (function == Some("SORT") && FUNCTIONS.contains(&word))
            || function.is_some_and(|function| !FUNCTIONS.contains(&function))
        {
            return Ok(());
        }
        Err(if FUNCTIONS.contains(&word) {
            format!("the function {word} needs parentheses after it")
        } else {
            format!(
                "`{word}` is nothing that metric math knows; ids begin with a lower-case letter"
            )
        })
    }
}

/// Whether a word that is none of the known functions may be a newer one: in upper case, and not
/// close to a known one.
fn may_be_function(word: &str) -> Result<(), String> {
    let upper = word.to_ascii_uppercase();
    if FUNCTIONS.contains(&upper.as_str()) {
        return Err(format!("functions are written in upper case: {upper}"));
    }
    match closest(word, FUNCTIONS) {
        Some(near) => Err(format!("there is no function {word}; did you mean `{near}`?")),
        None if word != upper => Err(format!("there is no function {word} in metric math")),
        None => Ok(()),
    }
}

fn unknown_sign(sign: &str) -> String {
    let hint = match sign {
        "=" => "; did you mean `==`?",
        "&" => "; did you mean `&&`?",
        "|" => "; did you mean `||`?",
        "!" => "; did you mean `!=`?",
        _ => "",
    };
    format!("`{sign}` is no operator of metric math{hint}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_expression_refers_to() {
        for (text, ids, patterns) in [
            ("100*errors/total", &["errors", "total"][..], &[][..]),
            ("-(a+b)^2 - a", &["a", "b"], &[]),
            ("SUM(METRICS(\"err\"))/SUM(METRICS())", &[], &["err", ""]),
            ("IF(a > 5 AND b <= 3 || c != 0, FILL(a, REPEAT), 0)", &["a", "b", "c"], &[]),
            ("SLICE(SORT([a, b, -c], AVG, DESC, 10), 0, 1)", &["a", "b", "c"], &[]),
            ("SUM([METRICS('4xx'), METRICS('5xx')])", &[], &["4xx", "5xx"]),
            ("a AND (b)", &["a", "b"], &[]),
            ("TIME_SERIES(10)", &[], &[]),
            // Functions that are newer than our list.
            ("100 * QUANTILE_BAND(a, WIDE, 'x') / NOW()", &["a"], &[]),
        ] {
            let found = read(text).unwrap();
            assert_eq!((found.ids, found.patterns), (owned(ids), owned(patterns)), "{text}");
            assert_eq!(found.finds_data, None);
        }
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_finds_its_data_by_itself() {
        for (text, function) in [
            (
                "SELECT AVG(CPUUtilization) FROM SCHEMA(\"AWS/EC2\", InstanceId) GROUP BY InstanceId LIMIT 10",
                "SELECT",
            ),
            ("select max(x) from \"a\" where y = 'it''s (not)'", "SELECT"),
            ("SUM(SEARCH('{AWS/EC2,InstanceId} CPUUtilization', 'p99.9', 300))", "SEARCH"),
            ("DB_PERF_INSIGHTS('RDS', 'db-1', ['db.load.avg', 'x'])", "DB_PERF_INSIGHTS"),
            ("INSIGHT_RULE_METRIC('rule', UniqueContributors)", "INSIGHT_RULE_METRIC"),
        ] {
            let found = read(text).unwrap();
            assert_eq!((found.finds_data, found.ids), (Some(function), vec![]), "{text}");
        }
        assert_eq!(read("SEARCH('x', 'Sum', 300)").unwrap().search_periods, ["300"]);
    }

    #[test]
    fn every_mistake_is_told() {
        for (text, message) in [
            ("", "the expression is empty"),
            (&"a".repeat(2049), "the expression has 2049 characters; 2048 are allowed"),
            ("METRICS(\"x)", "the quote \" at character 9 is never closed"),
            ("(a + b", "a `)` is missing at the end"),
            ("a + b)", "a `)` closes nothing"),
            ("[a, b)", "`)` stands where a `]` is due"),
            ("a +", "a value is missing at the end"),
            ("a + * b", "a value is missing before `*`"),
            ("SUM()", "a value is missing before `)`"),
            ("a b", "an operator is missing before b"),
            ("a 'b'", "an operator is missing before 'b'"),
            ("a (b)", "there is no function a in metric math"),
            ("5 (b)", "an operator is missing before `(`"),
            ("a, b", "a `,` stands outside of all brackets"),
            ("[a,]", "a value is missing before `]`"),
            ("()", "a value is missing before `)`"),
            ("a AND", "a value is missing at the end"),
            ("OR a", "a value is missing before OR"),
            ("a = 5", "`=` is no operator of metric math; did you mean `==`?"),
            ("a % 5", "`%` is no operator of metric math"),
            ("sum(a)", "functions are written in upper case: SUM"),
            ("SUMM(a)", "there is no function SUMM; did you mean `SUM`?"),
            ("foo(a)", "there is no function foo in metric math"),
            (
                "1 + LAMBDA('source', 'x', 3.14, true)",
                "LAMBDA is not allowed here: CloudWatch would run a function of the account at every read; publish its result as a metric, and ask for that",
            ),
            ("SUM + a", "the function SUM needs parentheses after it"),
            (
                "Errors/total",
                "`Errors` is nothing that metric math knows; ids begin with a lower-case letter",
            ),
            (
                "SEARCH(a, 'Sum')",
                "SEARCH takes its search in quotes, like SEARCH('{AWS/EC2,InstanceId} CPUUtilization', 'Average')",
            ),
            (
                "SEARCH('x', 'avg', 60)",
                "in SEARCH, \"avg\" is not a statistic; did you mean `Average`?",
            ),
            (
                "SELECT CPUUtilization FROM x",
                "SELECT takes one of AVG, COUNT, MAX, MIN, SUM and a metric's name in parentheses, like SELECT AVG(CPUUtilization)",
            ),
            (
                "SELECT P99(x) FROM y",
                "SELECT takes one of AVG, COUNT, MAX, MIN, SUM and a metric's name in parentheses, like SELECT AVG(CPUUtilization)",
            ),
            (
                "SELECT AVG(x)",
                "SELECT needs FROM and a namespace, like FROM SCHEMA(\"AWS/EC2\", InstanceId)",
            ),
            ("SELECT AVG(x FROM y", "a `(` is never closed"),
            ("SELECT AVG(x)) FROM y", "a `)` closes nothing"),
            (
                "SELECT AVG(x) FROM y LIMIT 501",
                "LIMIT 501 is not between 1 and 500, the most series of one query",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((SELECT|SUM|METRICS|SEARCH|LIMIT|FROM|a1|AND|[(]|[)]|\\[|\\]|,|-|\"|'|5|==) ?){0,20}|.{0,40}") {
            let _ = read(&text);
        }
    }
}
