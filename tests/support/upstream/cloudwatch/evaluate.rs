//! From a call to its series.

use std::collections::HashMap;
use std::rc::Rc;

use super::call::Call;
use super::data::{Asked, Metric, Metrics, Window};
use super::insights::Notes;
use super::label;
use super::math::{self, Line, Value, World};
use super::search::Search;
use super::statistic::Statistic;
use super::validate::{Parsed, is_period};
use super::wire::MetricDataQuery;

/// Series that one search gives.
const MAX_FOUND: usize = 500;
const DROPPED: &str = "One or more data-points have been dropped due to non-numeric values (NaN, -Infinite, +Infinite)";

/// A series that a query gives.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) label: String,
    /// Oldest first.
    pub(super) points: Vec<(i64, f64)>,
}

/// What a query gives.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) query: &'a MetricDataQuery,
    pub(super) series: Vec<Series>,
    pub(super) messages: Notes,
}

/// Evaluates the returned queries of a call; refused calls give the reason. Also gives what is to
/// be said about the call.
pub(super) fn evaluate<'a>(
    call: &'a Call,
    parsed: Vec<Option<Parsed>>,
    metrics: &Metrics,
) -> Result<(Vec<Outcome<'a>>, Notes), String> {
    let window = Window { start: call.start, end: call.end, now: call.at };
    let queries = call.queries.iter().zip(parsed);
    let queries = queries.map(|(query, parsed)| (query.id.as_str(), (query, parsed.map(Rc::new))));
    let mut run = Run {
        call,
        metrics,
        window,
        queries: queries.collect(),
        known: HashMap::new(),
        open: Vec::new(),
        notes: Vec::new(),
        dropped: false,
    };
    let mut outcomes = Vec::new();
    for query in call.queries.iter() {
        if query.expression.is_some() {
            run.dropped = false;
            let value = run.query(&query.id).map_err(|e| prefixed(&query.id, &e))?;
            if !query.is_returned() {
                continue;
            }
            let kind = value.kind();
            let several = matches!(value, Value::Lines(_));
            let lines = value.lines().ok_or_else(|| {
                prefixed(&query.id, &format!("The result must be a time series, not a {kind}"))
            })?;
            let labelled =
                |line: &Line| label::of(query.label.as_deref(), Some(&query.id), line, several);
            let series = lines.iter().map(|line| Series {
                label: labelled(line),
                points: line.points.iter().map(|(at, value)| (*at, *value)).collect(),
            });
            let messages = run.dropped.then(|| ("ArithmeticError".to_owned(), DROPPED.to_owned()));
            let messages = messages.into_iter().collect();
            outcomes.push(Outcome { query, series: series.collect(), messages });
        } else if query.is_returned() {
            outcomes.push(Outcome { query, series: vec![run.plain(query)], messages: Vec::new() });
        }
    }
    Ok((outcomes, run.notes))
}

/// The reason with the id of the expression, once: the innermost is to blame.
fn prefixed(id: &str, why: &str) -> String {
    if why.starts_with("Error in expression") {
        return why.to_owned();
    }
    format!("Error in expression '{id}': {why}")
}

struct Run<'a> {
    call: &'a Call,
    metrics: &'a Metrics,
    window: Window,
    queries: HashMap<&'a str, (&'a MetricDataQuery, Option<Rc<Parsed>>)>,
    known: HashMap<String, Value>,
    /// The expressions that are being evaluated, outermost first.
    open: Vec<String>,
    notes: Notes,
    dropped: bool,
}

impl Run<'_> {
    /// A metric's series without what only math needs: most calls ask nothing else.
    fn plain(&self, query: &MetricDataQuery) -> Series {
        if query.label.as_deref().is_some_and(|label| label.contains("${")) {
            let line = self.metric(query);
            let points = line.points.into_iter().collect();
            return Series { label: line.label, points };
        }
        let stat = query.metric_stat.as_ref().expect("a query is one or the other");
        let metric = Metric::asked(query, stat);
        let label = query.label.clone().unwrap_or_else(|| metric.name.clone());
        Series { label, points: self.points(query, &metric) }
    }

    fn points(&self, query: &MetricDataQuery, metric: &Metric) -> Vec<(i64, f64)> {
        let stat = query.metric_stat.as_ref().expect("a query is one or the other");
        let (statistic, period, unit) = (&stat.stat, stat.period, stat.unit.as_deref());
        self.metrics.datapoints(&Asked { metric, statistic, period, unit }, &self.window)
    }

    fn metric(&self, query: &MetricDataQuery) -> Line {
        let stat = query.metric_stat.as_ref().expect("a query is one or the other");
        let metric = Metric::asked(query, stat);
        let points = self.points(query, &metric);
        let mut line = Line::of(&metric, &stat.stat, stat.period, points);
        line.label = label::of(query.label.as_deref(), None, &line, false);
        line
    }

    fn computed(&mut self, query: &MetricDataQuery, parsed: &Parsed) -> Result<Value, String> {
        match parsed {
            Parsed::Math(expr) => math::evaluate(expr, self),
            Parsed::Insights(insights) => {
                let period = query.period.unwrap_or(60);
                let (mut lines, notes) = insights.evaluate(self.metrics, &self.window, period)?;
                self.notes.extend(notes);
                if insights.group_by.is_empty() {
                    return Ok(Value::Line(lines.pop().unwrap_or_default()));
                }
                Ok(Value::Lines(lines))
            }
        }
    }
}

impl World for Run<'_> {
    fn query(&mut self, id: &str) -> Result<Value, String> {
        if let Some(value) = self.known.get(id) {
            return Ok(value.clone());
        }
        if self.open.iter().any(|open| open == id) {
            return Err(prefixed(id, "The expression refers to itself"));
        }
        let Some((query, parsed)) = self.queries.get(id).map(|(q, p)| (*q, p.clone())) else {
            return Err(format!("Undefined variable '{id}'"));
        };
        let value = match parsed {
            None => Value::Line(self.metric(query)),
            Some(parsed) => {
                self.open.push(id.to_owned());
                let value = self.computed(query, &parsed).map_err(|e| prefixed(id, &e))?;
                self.open.pop();
                value
            }
        };
        self.known.insert(id.to_owned(), value.clone());
        Ok(value)
    }

    fn metrics(&mut self, part: &str) -> Result<Vec<Line>, String> {
        let all = self.call.queries.iter();
        let metrics = all.filter(|query| query.metric_stat.is_some() && query.id.contains(part));
        Ok(metrics.map(|query| self.metric(query)).collect())
    }

    fn search(&mut self, term: &str, statistic: &str, period: i64) -> Result<Vec<Line>, String> {
        if Statistic::parse(statistic).is_none() {
            return Err(format!("SEARCH: {statistic} is not a valid statistic"));
        }
        if !is_period(period) {
            return Err(format!("SEARCH: {period} is not a valid period"));
        }
        let search = Search::parse(term)?;
        let mut found: Vec<&Metric> =
            self.metrics.names().filter(|metric| search.finds(metric)).collect();
        found.sort();
        if found.len() > MAX_FOUND {
            found.truncate(MAX_FOUND);
            let text = "Maximum number of allowed metrics exceeded";
            self.notes.push(("MaxMetricsExceeded".to_owned(), text.to_owned()));
        }
        let lines = found.iter().map(|metric| {
            let asked = Asked { metric, statistic, period, unit: None };
            let points = self.metrics.datapoints(&asked, &self.window);
            let label = told_apart(metric, &found);
            Line { label, ..Line::of(metric, statistic, period, points) }
        });
        Ok(lines.collect())
    }

    fn buckets(&self, period: i64) -> Vec<i64> {
        self.window.buckets(period).collect()
    }

    fn period(&self) -> i64 {
        let innermost = self.open.last().and_then(|id| self.queries.get(id.as_str()));
        let own = innermost.and_then(|(query, _)| query.period);
        let stats = self.call.queries.iter().filter_map(|query| query.metric_stat.as_ref());
        own.or_else(|| stats.map(|stat| stat.period).max()).unwrap_or(60)
    }

    fn dropped(&mut self) {
        self.dropped = true;
    }
}

/// The parts of a metric in which it differs from others that were found; its name if none do.
fn told_apart(metric: &Metric, among: &[&Metric]) -> String {
    let mut parts = Vec::new();
    if among.iter().any(|other| other.account != metric.account) {
        parts.push(metric.account.as_str());
    }
    if among.iter().any(|other| other.namespace != metric.namespace) {
        parts.push(&metric.namespace);
    }
    for (name, value) in &metric.dimensions {
        if among.iter().any(|other| other.dimension(name) != Some(value)) {
            parts.push(value);
        }
    }
    if parts.is_empty() || among.iter().any(|other| other.name != metric.name) {
        parts.push(&metric.name);
    }
    parts.join(" ")
}
