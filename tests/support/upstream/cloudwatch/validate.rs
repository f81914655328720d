//! What the service refuses: one bad query refuses the whole call. After the API reference of
//! `GetMetricData`; texts are the service's own where they are known from its users' logs.

use std::collections::HashSet;

use super::call::Call;
use super::expression::Expr;
use super::insights::Insights;
use super::statistic::Statistic;
use super::wire::{MetricDataQuery, MetricStat};

const MAX_QUERIES: usize = 500;
const MAX_DATAPOINTS: i64 = 100_800;
const MAX_DIMENSIONS: usize = 30;
const MAX_EXPRESSION: usize = 2048;
const MAX_SEARCHES: usize = 100;
const MAX_SEARCH: usize = 1024;

const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// What an expression says.
#[derive(Debug)]
pub(super) enum Parsed {
    Math(Expr),
    Insights(Insights),
}

/// Periods that exist.
pub(super) fn is_period(seconds: i64) -> bool {
    matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0)
}

pub(super) fn is_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.len() <= 255
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The expressions of a call, by query; or why the call is refused.
pub(super) fn call(call: &Call) -> Result<Vec<Option<Parsed>>, String> {
    let mut wrong = String::new();
    let mut say = |what: &str| wrong.extend([what, "\n"]);
    if call.queries.is_empty() {
        say("The parameter MetricDataQueries is required.");
    }
    if call.queries.len() > MAX_QUERIES {
        say("The collection MetricDataQueries must not have a size greater than 500.");
    }
    match (call.start, call.end) {
        (0, _) => say("The parameter StartTime is required."),
        (_, 0) => say("The parameter EndTime is required."),
        (start, end) if start == end => {
            say("The parameter StartTime must not equal parameter EndTime.");
        }
        (start, end) if start > end => {
            say("The parameter StartTime must be less than the parameter EndTime.");
        }
        _ => {}
    }
    if let Some(most) = call.max_datapoints
        && !(1..=MAX_DATAPOINTS).contains(&most)
    {
        say(&format!("The parameter MaxDatapoints must be between 1 and {MAX_DATAPOINTS}."));
    }
    if let Some(order) = call.scan_by.as_deref()
        && !matches!(order, "TimestampDescending" | "TimestampAscending")
    {
        let set = "[TimestampDescending, TimestampAscending]";
        say(&format!("The parameter ScanBy must be a value in the set {set}."));
    }
    for (i, query) in call.queries.iter().enumerate() {
        of_query(query, &format!("MetricDataQueries.member.{}", i + 1), &mut say);
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let ids: HashSet<&str> = call.queries.iter().map(|query| query.id.as_str()).collect();
    if ids.len() < call.queries.len() {
        return Err("The values for parameter id in MetricDataQueries are not unique.".to_owned());
    }
    if !call.queries.iter().any(MetricDataQuery::is_returned) {
        return Err("At least one of the MetricDataQueries must return data.".to_owned());
    }
    expressions(call, &ids)
}

fn of_query(query: &MetricDataQuery, path: &str, say: &mut impl FnMut(&str)) {
    if !is_id(&query.id) {
        say(&format!(
            "The value {} for parameter {path}.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.",
            query.id
        ));
    }
    if let Some(period) = query.period
        && !is_period(period)
    {
        say(&bad_period(period, &format!("{path}.Period")));
    }
    match (&query.metric_stat, &query.expression) {
        (Some(_), Some(_)) => say(
            "The parameters MetricDataQuery Expression and MetricStat are mutually exclusive and you have specified both.",
        ),
        (None, None) => say(&format!("Either {path}.MetricStat or {path}.Expression is required.")),
        (Some(stat), None) => of_stat(stat, &format!("{path}.MetricStat"), say),
        (None, Some(text)) if text.is_empty() || text.len() > MAX_EXPRESSION => {
            say(&format!("The parameter {path}.Expression must be between 1 and 2048 characters."));
        }
        (None, Some(_)) => {}
    }
}

fn bad_period(period: i64, path: &str) -> String {
    format!("The value {period} for parameter {path} must be 1, 5, 10, 20, 30 or a multiple of 60.")
}

fn of_stat(stat: &MetricStat, path: &str, say: &mut impl FnMut(&str)) {
    if !is_period(stat.period) {
        say(&bad_period(stat.period, &format!("{path}.Period")));
    }
    if Statistic::parse(&stat.stat).is_none() {
        say(&format!(
            "The value {} for parameter {path}.Stat is not a valid statistic.",
            stat.stat
        ));
    }
    if let Some(unit) = stat.unit.as_deref()
        && !UNITS.contains(&unit)
    {
        say(&format!(
            "The parameter {path}.Unit must be a value in the set [ {} ].",
            UNITS.join(", ")
        ));
    }
    let metric = &stat.metric;
    for (name, value) in [("Namespace", &metric.namespace), ("MetricName", &metric.metric_name)] {
        if value.is_empty() {
            say(&format!("The parameter {path}.Metric.{name} is required."));
        } else if value.len() > 255 {
            say(&format!(
                "The parameter {path}.Metric.{name} must be shorter than 256 characters."
            ));
        }
    }
    let dimensions = metric.dimensions.as_deref().unwrap_or_default();
    if dimensions.len() > MAX_DIMENSIONS {
        say(&format!(
            "The collection {path}.Metric.Dimensions must not have a size greater than 30."
        ));
    }
    for (i, dimension) in dimensions.iter().enumerate() {
        let path = format!("{path}.Metric.Dimensions.member.{}", i + 1);
        let (name, value) = (&dimension.name, &dimension.value);
        for (part, text, most) in [("Name", name, 255), ("Value", value, 1024)] {
            if text.is_empty() || text.len() > most || text.trim().is_empty() {
                say(&format!(
                    "The parameter {path}.{part} must be between 1 and {most} characters."
                ));
            }
        }
        if dimensions[..i].iter().any(|other| other.name == *name) {
            say(&format!("The dimension {name} is not unique in {path}."));
        }
    }
}

fn expressions(call: &Call, ids: &HashSet<&str>) -> Result<Vec<Option<Parsed>>, String> {
    let (mut all, mut insights, mut searches) = (Vec::new(), 0, 0);
    for query in call.queries.iter() {
        let Some(text) = query.expression.as_deref() else {
            all.push(None);
            continue;
        };
        let refused = |why: String| format!("Error in expression '{}': {why}", query.id);
        let parsed = if Insights::is(text) {
            insights += 1;
            if query.period.is_none() {
                return Err(refused("Period is required for a Metrics Insights query".to_owned()));
            }
            let why = |why| refused(format!("Invalid syntax: {why}"));
            Parsed::Insights(Insights::parse(text).map_err(why)?)
        } else {
            let expr = Expr::parse(text).map_err(refused)?;
            if let Some(unknown) = expr.ids().iter().find(|id| !ids.contains(*id)) {
                return Err(refused(format!("Undefined variable '{unknown}'")));
            }
            searches += expr.functions().iter().filter(|name| **name == "SEARCH").count();
            let mut too_long = false;
            expr.visit(&mut |part| {
                too_long |= matches!(part, Expr::Text(text) if text.len() > MAX_SEARCH);
            });
            if too_long {
                return Err(refused("SEARCH: the query is longer than 1024 characters".to_owned()));
            }
            Parsed::Math(expr)
        };
        all.push(Some(parsed));
    }
    if insights > 1 {
        return Err("Only one Metrics Insights query is allowed per request.".to_owned());
    }
    if searches > MAX_SEARCHES {
        return Err("A request must not have more than 100 SEARCH expressions.".to_owned());
    }
    Ok(all)
}
