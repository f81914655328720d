//! The functions of metric math that users use most. Others are refused by name: a test that
//! needs one finds out.

use std::collections::BTreeMap;

use super::expression::Expr;
use super::math::{
    Line, Value, World, aggregated, each, evaluate, finite, mapped, pairwise, unsupported,
};

/// What the service has and the fake does not evaluate.
const OTHERS: [&str; 11] = [
    "ANOMALY_DETECTION_BAND",
    "DATE",
    "DAY",
    "DB_PERF_INSIGHTS",
    "EPOCH",
    "HOUR",
    "INSIGHT_RULE_METRIC",
    "LAMBDA",
    "MINUTE",
    "MONTH",
    "SERVICE_QUOTA",
];

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Expr], world: &mut dyn World) -> Result<Value, String> {
    let mut values = Vec::new();
    for argument in arguments {
        values.push(evaluate(argument, world)?);
    }
    let wrong = || Err(format!("The number of arguments of {name} is wrong: {}", arguments.len()));
    let mut given = values.into_iter();
    let mut next = || given.next();
    match (name, arguments.len()) {
        ("METRICS", 0) => Ok(Value::Lines(world.metrics("")?)),
        ("METRICS", 1) => match next() {
            Some(Value::Text(part)) => Ok(Value::Lines(world.metrics(&part)?)),
            _ => Err("METRICS takes a string".to_owned()),
        },
        ("SEARCH", 2 | 3) => match (next(), next(), next()) {
            (Some(Value::Text(term)), Some(Value::Text(statistic)), period) => {
                let period = match period {
                    Some(Value::Scalar(period)) => whole(period),
                    None => world.period(),
                    Some(other) => return Err(unsupported(name, &other)),
                };
                Ok(Value::Lines(world.search(&term, &statistic, period)?))
            }
            _ => Err("SEARCH takes a term, a statistic and a period".to_owned()),
        },
        ("IF", 2 | 3) => {
            let (condition, yes, no) = (next(), next(), next());
            branch(condition, yes, no, world)
        }
        ("FILL", 2) => match (next(), next()) {
            (Some(series), Some(filler)) => fill(series, filler, world),
            _ => wrong(),
        },
        ("TIME_SERIES", 1) => match next() {
            Some(Value::Scalar(number)) => Ok(Value::Line(constant(number, world))),
            Some(other) => Err(unsupported(name, &other)),
            None => wrong(),
        },
        ("SORT", 3 | 4) | ("SLICE", 2 | 3) => ordered(name, given.collect()),
        (_, 1) => match next() {
            Some(value) => of_one(name, value, &arguments[0], world),
            None => wrong(),
        },
        _ if OTHERS.contains(&name) => Err(format!("the fake does not evaluate {name}")),
        (
            "METRICS" | "SEARCH" | "IF" | "FILL" | "TIME_SERIES" | "SORT" | "SLICE" | "SUM" | "AVG"
            | "MIN" | "MAX" | "RATE" | "DIFF" | "DIFF_TIME" | "PERIOD" | "ABS" | "CEIL" | "FLOOR",
            _,
        ) => wrong(),
        _ => Err(format!("Function '{name}' not found")),
    }
}

/// Functions of one argument.
fn of_one(
    name: &str,
    value: Value,
    argument: &Expr,
    world: &mut dyn World,
) -> Result<Value, String> {
    #[expect(clippy::cast_precision_loss, reason = "counts of series and datapoints are small")]
    let count = |n: usize| n as f64;
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "seconds between datapoints are few")]
    let apart = |a: (i64, f64), b: (i64, f64)| (b.0 - a.0) as f64;
    match name {
        "SUM" => aggregated(value, name, |values, _| sum(values)),
        // Of an array: a series without a value at that time counts as zero.
        "AVG" => aggregated(value, name, |values, series| sum(values) / count(series)),
        "MIN" => {
            aggregated(value, name, |values, _| values.iter().copied().fold(f64::NAN, f64::min))
        }
        "MAX" => {
            aggregated(value, name, |values, _| values.iter().copied().fold(f64::NAN, f64::max))
        }
        "DATAPOINT_COUNT" => aggregated(value, name, |values, _| count(values.len())),
        "STDDEV" => aggregated(value, name, |values, _| {
            let mean = sum(values) / count(values.len());
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            (squares / count(values.len())).sqrt()
        }),
        "ABS" => mapped(value, name, f64::abs),
        "CEIL" => mapped(value, name, f64::ceil),
        "FLOOR" => mapped(value, name, f64::floor),
        "LOG" => Ok(numbers(mapped(value, name, f64::ln)?, world)),
        "LOG10" => Ok(numbers(mapped(value, name, f64::log10)?, world)),
        "DIFF" => pairwise(value, name, |a, b| b.1 - a.1),
        "DIFF_TIME" => pairwise(value, name, apart),
        "RATE" => pairwise(value, name, |a, b| (b.1 - a.1) / apart(a, b)),
        "RUNNING_SUM" => each(value, name, |line| {
            let mut total = 0.0;
            let points = line.points.iter().map(|(at, value)| {
                total += value;
                (*at, total)
            });
            Line { points: points.collect(), ..line.clone() }
        }),
        "METRIC_COUNT" => match value {
            Value::Lines(lines) => Ok(Value::Scalar(count(lines.len()))),
            other => Err(unsupported(name, &other)),
        },
        "PERIOD" => match (value, argument) {
            #[expect(clippy::cast_precision_loss, reason = "periods are small")]
            (Value::Line(line), Expr::Id(_)) => Ok(Value::Scalar(line.period as f64)),
            (other, _) => Err(unsupported(name, &other)),
        },
        "REMOVE_EMPTY" => match value {
            Value::Lines(mut lines) => {
                lines.retain(|line| !line.points.is_empty());
                Ok(Value::Lines(lines))
            }
            other => Err(unsupported(name, &other)),
        },
        "FIRST" | "LAST" => match value {
            Value::Lines(lines) => {
                let line = if name == "FIRST" { lines.first() } else { lines.last() };
                line.cloned().map(Value::Line).ok_or_else(|| format!("{name} of an empty array"))
            }
            other => Err(unsupported(name, &other)),
        },
        _ if OTHERS.contains(&name) => Err(format!("the fake does not evaluate {name}")),
        "FILL" | "IF" | "SEARCH" | "SORT" | "SLICE" => {
            Err(format!("The number of arguments of {name} is wrong: 1"))
        }
        _ => Err(format!("Function '{name}' not found")),
    }
}

fn numbers(value: Value, world: &mut dyn World) -> Value {
    match value {
        Value::Line(line) => Value::Line(finite(line, world)),
        Value::Lines(lines) => {
            Value::Lines(lines.into_iter().map(|line| finite(line, world)).collect())
        }
        other => other,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "periods and places in arrays")]
fn whole(number: f64) -> i64 {
    number as i64
}

fn constant(number: f64, world: &dyn World) -> Line {
    let period = world.period();
    let points = world.buckets(period).into_iter().map(|at| (at, number)).collect();
    Line { period, points, ..Line::default() }
}

/// `IF(condition, yes, no)`, after the tables of "Using IF expressions".
fn branch(
    condition: Option<Value>,
    yes: Option<Value>,
    no: Option<Value>,
    world: &dyn World,
) -> Result<Value, String> {
    let (condition, yes) = match (condition, yes) {
        (Some(Value::Line(condition)), Some(yes)) => (condition, yes),
        (Some(Value::Scalar(number)), Some(yes @ Value::Line(_))) => {
            let chosen = if number == 0.0 { no } else { Some(yes) };
            return match chosen {
                Some(Value::Scalar(number)) => Ok(Value::Line(constant(number, world))),
                Some(line @ Value::Line(_)) => Ok(line),
                None => Ok(Value::Line(Line::default())),
                Some(other) => Err(unsupported("IF", &other)),
            };
        }
        (Some(other), _) => return Err(unsupported("IF", &other)),
        (None, _) => return Err("IF takes a condition".to_owned()),
    };
    for value in [Some(&yes), no.as_ref()].into_iter().flatten() {
        if !matches!(value, Value::Line(_) | Value::Scalar(_)) {
            return Err(unsupported("IF", value));
        }
    }
    let mut points = BTreeMap::new();
    for (at, truth) in &condition.points {
        let value = if *truth == 0.0 {
            match &no {
                Some(Value::Scalar(number)) => Some(*number),
                Some(Value::Line(line)) => line.points.get(at).copied(),
                _ => None,
            }
        } else {
            match &yes {
                Value::Scalar(number) => Some(*number),
                Value::Line(line) => Some(line.points.get(at).copied().unwrap_or(0.0)),
                _ => None,
            }
        };
        points.extend(value.map(|value| (*at, value)));
    }
    Ok(Value::Line(Line { points, ..condition }))
}

/// `FILL(series, number | REPEAT | LINEAR | series)` over the window.
fn fill(series: Value, filler: Value, world: &dyn World) -> Result<Value, String> {
    let fillers = match filler {
        Value::Word(how) if !matches!(how.as_str(), "REPEAT" | "LINEAR") => {
            return Err(format!("FILL with {how} is not supported"));
        }
        Value::Lines(_) | Value::Text(_) => return Err(unsupported("FILL", &filler)),
        filler => filler,
    };
    each(series, "FILL", |line| {
        let mut points = line.points.clone();
        for at in world.buckets(line.period) {
            if points.contains_key(&at) {
                continue;
            }
            let before = line.points.range(..at).next_back();
            let after = line.points.range(at..).next();
            let value = match &fillers {
                Value::Scalar(number) => Some(*number),
                Value::Line(other) => other.points.get(&at).copied(),
                Value::Word(how) if how == "REPEAT" => before.map(|(_, value)| *value),
                _ => before.zip(after).map(|((t0, v0), (t1, v1))| {
                    #[expect(clippy::cast_precision_loss, reason = "seconds of a window")]
                    let share = (at - t0) as f64 / (t1 - t0) as f64;
                    v0 + (v1 - v0) * share
                }),
            };
            points.extend(value.map(|value| (at, value)));
        }
        Line { points, ..line.clone() }
    })
}

/// `SORT(array, function, order, limit)` and `SLICE(array, start, end)`.
fn ordered(name: &str, values: Vec<Value>) -> Result<Value, String> {
    let mut values = values.into_iter();
    let mut lines = match values.next() {
        Some(Value::Lines(lines)) => lines,
        Some(other) => return Err(unsupported(name, &other)),
        None => return Err(format!("{name} takes an array")),
    };
    let place = |value: Option<Value>, else_: usize| match value {
        Some(Value::Scalar(number)) => {
            usize::try_from(whole(number)).map_err(|_| format!("{name}: {number} is negative"))
        }
        None => Ok(else_),
        Some(other) => Err(unsupported(name, &other)),
    };
    if name == "SLICE" {
        let start = place(values.next(), 0)?.min(lines.len());
        let end = place(values.next(), lines.len())?.clamp(start, lines.len());
        return Ok(Value::Lines(lines.drain(start..end).collect()));
    }
    let (Some(Value::Word(function)), Some(Value::Word(order))) = (values.next(), values.next())
    else {
        return Err("SORT takes a function and an order".to_owned());
    };
    sort(&mut lines, &function, order == "DESC")?;
    lines.truncate(place(values.next(), usize::MAX)?);
    Ok(Value::Lines(lines))
}

/// Orders series by one number of each.
pub(super) fn sort(lines: &mut [Line], function: &str, descending: bool) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "datapoints of a window are few")]
    let key = |line: &Line| match function {
        "AVG" => Some(line.values().sum::<f64>() / line.points.len() as f64),
        "SUM" => Some(line.values().sum()),
        "MIN" => Some(line.values().fold(f64::NAN, f64::min)),
        "MAX" => Some(line.values().fold(f64::NAN, f64::max)),
        "COUNT" => Some(line.points.len() as f64),
        _ => None,
    };
    if key(&Line::default()).is_none() {
        return Err(format!("Function '{function}' cannot order series"));
    }
    lines.sort_by(|a, b| {
        let (a, b) = (key(a).unwrap_or(f64::NAN), key(b).unwrap_or(f64::NAN));
        if descending { b.total_cmp(&a) } else { a.total_cmp(&b) }
    });
    Ok(())
}
