//! Metrics Insights. After "Metrics Insights query components and syntax" in the service's user
//! guide.

use std::collections::BTreeMap;

use super::data::{Asked, Metric, Metrics, Window};
use super::functions;
use super::math::Line;

/// What is named instead of a dimension that a metric does not have.
const OTHER: &str = "Other";
/// The label key that stands for the account of a metric.
const ACCOUNT_KEY: &str = "AWS.AccountId";
/// How far back queries see, in seconds.
const REACH: i64 = 3 * 3600;
/// Series in an answer.
const MAX_SERIES: usize = 500;

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Insights {
    function: String,
    metric: String,
    namespace: String,
    /// The exact set of dimension names.
    schema: Option<Vec<String>>,
    /// Key, whether equal, value.
    conditions: Vec<(String, bool, String)>,
    pub(super) group_by: Vec<String>,
    order_by: Option<(String, bool)>,
    limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// In double quotes: a name.
    Name(String),
    /// In single quotes: a value.
    Value(String),
    Mark(String),
}

/// What an evaluation has to say beside its series.
pub(super) type Notes = Vec<(String, String)>;

impl Insights {
    /// Whether an expression is such a query.
    pub(super) fn is(text: &str) -> bool {
        let word = text.split_whitespace().next().unwrap_or_default();
        word.eq_ignore_ascii_case("SELECT")
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut parser = Parser { rest: &tokens };
        parser.keyword("SELECT")?;
        let function = parser.function()?;
        let metric = parser.name()?;
        parser.mark(")")?;
        parser.keyword("FROM")?;
        let (namespace, schema) = if parser.has("SCHEMA") {
            parser.mark("(")?;
            let mut names = parser.names()?;
            parser.mark(")")?;
            let mut dimensions = names.split_off(1);
            dimensions.sort();
            (names.remove(0), Some(dimensions))
        } else {
            (parser.name()?, None)
        };
        let mut conditions = Vec::new();
        if parser.has("WHERE") {
            loop {
                let key = parser.name()?;
                let equal = match parser.next() {
                    Some(Token::Mark(mark)) if mark == "=" => true,
                    Some(Token::Mark(mark)) if mark == "!=" => false,
                    other => return Err(format!("expected '=' or '!=', got {other:?}")),
                };
                match parser.next() {
                    Some(Token::Value(value)) => conditions.push((key, equal, value.clone())),
                    other => {
                        return Err(format!("expected a value in single quotes, got {other:?}"));
                    }
                }
                if !parser.has("AND") {
                    break;
                }
            }
        }
        let mut group_by = Vec::new();
        if parser.has("GROUP") {
            parser.keyword("BY")?;
            group_by = parser.names()?;
        }
        let mut order_by = None;
        if parser.has("ORDER") {
            parser.keyword("BY")?;
            let function = parser.function()?;
            parser.mark(")")?;
            let descending = parser.has("DESC");
            if !descending {
                parser.has("ASC");
            }
            order_by = Some((function, descending));
        }
        let mut limit = None;
        if parser.has("LIMIT") {
            let number = match parser.next() {
                Some(Token::Word(number)) => number.parse().ok(),
                _ => None,
            };
            let fits = |limit: &usize| (1..=MAX_SERIES).contains(limit);
            limit = Some(number.filter(fits).ok_or("LIMIT must be a number from 1 to 500")?);
        }
        match parser.next() {
            None => Ok(Self {
                function,
                metric,
                namespace,
                schema,
                conditions,
                group_by,
                order_by,
                limit,
            }),
            Some(token) => Err(format!("unexpected {token:?}")),
        }
    }

    fn matches(&self, metric: &Metric) -> bool {
        let names = || metric.dimensions.iter().map(|(name, _)| name);
        metric.name == self.metric
            && metric.namespace == self.namespace
            && self.schema.as_ref().is_none_or(|schema| names().eq(schema))
            && self
                .conditions
                .iter()
                .all(|(key, equal, value)| (key_of(metric, key) == Some(value.as_str())) == *equal)
    }

    /// The series, in their order, and what was left out.
    pub(super) fn evaluate(
        &self,
        metrics: &Metrics,
        window: &Window,
        period: i64,
    ) -> Result<(Vec<Line>, Notes), String> {
        let mut notes = Vec::new();
        let mut note = |code: &str, text: &str| notes.push((code.to_owned(), text.to_owned()));
        let mut window = *window;
        if window.start < window.now - REACH {
            window.start = window.now - REACH;
            note("MaxQueryTimeRangeExceeded", "Max time window exceeded for query");
        }
        let mut groups: BTreeMap<Vec<String>, Vec<&Metric>> = BTreeMap::new();
        for metric in metrics.names().filter(|metric| self.matches(metric)) {
            let keys = self.group_by.iter();
            let keys = keys.map(|key| key_of(metric, key).unwrap_or(OTHER).to_owned());
            groups.entry(keys.collect()).or_default().push(metric);
        }
        let mut lines: Vec<Line> = groups
            .into_iter()
            .map(|(keys, members)| self.line(&keys, &members, metrics, &window, period))
            .collect();
        if let Some((function, descending)) = &self.order_by {
            functions::sort(&mut lines, function, *descending)?;
        }
        if lines.len() > MAX_SERIES && self.limit.is_none() {
            let text = "Only the first 500 time series can be returned by a query.";
            note("MaxQueryResultsExceeded", text);
        }
        lines.truncate(self.limit.unwrap_or(MAX_SERIES));
        Ok((lines, notes))
    }

    fn line(
        &self,
        keys: &[String],
        members: &[&Metric],
        metrics: &Metrics,
        window: &Window,
        period: i64,
    ) -> Line {
        // Sum and count at each bucket, or the extremes.
        let mut at: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
        for metric in members {
            let points = |statistic: &str| {
                metrics.datapoints(&Asked { metric, statistic, period, unit: None }, window)
            };
            let mut add = |time: i64, value: f64, count: f64| {
                let entry = at.entry(time).or_insert((value, 0.0));
                entry.0 = match self.function.as_str() {
                    "MIN" => entry.0.min(value),
                    "MAX" => entry.0.max(value),
                    _ if entry.1 == 0.0 => value,
                    _ => entry.0 + value,
                };
                entry.1 += count;
            };
            match self.function.as_str() {
                // Over observations, not over the averages of the metrics.
                "AVG" if metrics.has_observations(metric) => {
                    let counts = points("SampleCount");
                    for ((time, sum), (_, count)) in points("Sum").into_iter().zip(counts) {
                        add(time, sum, count);
                    }
                }
                "AVG" => points("Average").into_iter().for_each(|(t, v)| add(t, v, 1.0)),
                "SUM" => points("Sum").into_iter().for_each(|(t, v)| add(t, v, 1.0)),
                "COUNT" => points("SampleCount").into_iter().for_each(|(t, v)| add(t, v, 1.0)),
                "MIN" => points("Minimum").into_iter().for_each(|(t, v)| add(t, v, 1.0)),
                _ => points("Maximum").into_iter().for_each(|(t, v)| add(t, v, 1.0)),
            }
        }
        let value = |(sum, count)| if self.function == "AVG" { sum / count } else { sum };
        let properties = self.group_by.iter().zip(keys);
        let properties = properties.map(|(key, value)| (format!("Dim.{key}"), value.clone()));
        let own = [("MetricName", &self.metric), ("Namespace", &self.namespace)];
        let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
        Line {
            label: keys.join(" "),
            properties: properties.chain(own).collect(),
            period,
            points: at.into_iter().map(|(time, sums)| (time, value(sums))).collect(),
        }
    }
}

fn key_of<'a>(metric: &'a Metric, key: &str) -> Option<&'a str> {
    if key == ACCOUNT_KEY { Some(&metric.account) } else { metric.dimension(key) }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '\'' | '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('\\') => quoted.extend(chars.next()),
                        Some(c) => quoted.push(c),
                        None => return Err("a quote is not closed".to_owned()),
                    }
                }
                tokens.push(if c == '"' { Token::Name(quoted) } else { Token::Value(quoted) });
            }
            '!' if chars.next_if_eq(&'=').is_some() => tokens.push(Token::Mark("!=".to_owned())),
            '(' | ')' | ',' | '=' => tokens.push(Token::Mark(c.to_string())),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => return Err(format!("unexpected '{c}'")),
        }
    }
    Ok(tokens)
}

struct Parser<'a> {
    rest: &'a [Token],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Takes a keyword if it comes next.
    fn has(&mut self, keyword: &str) -> bool {
        let found =
            matches!(self.rest.first(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(keyword));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), String> {
        if self.has(keyword) {
            return Ok(());
        }
        Err(format!("expected {keyword}, got {:?}", self.rest.first()))
    }

    fn mark(&mut self, mark: &str) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            other => Err(format!("expected '{mark}', got {other:?}")),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(name) | Token::Name(name)) => Ok(name.clone()),
            other => Err(format!("expected a name, got {other:?}")),
        }
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        let mut names = vec![self.name()?];
        while self.rest.first() == Some(&Token::Mark(",".to_owned())) {
            self.rest = &self.rest[1..];
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// A function's name and the opening bracket.
    fn function(&mut self) -> Result<String, String> {
        let name = self.name()?.to_ascii_uppercase();
        if !["AVG", "COUNT", "MAX", "MIN", "SUM"].contains(&name.as_str()) {
            return Err(format!("{name} is no function of a query"));
        }
        self.mark("(")?;
        Ok(name)
    }
}
