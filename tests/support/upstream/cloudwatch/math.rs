//! What metric math means: series, arrays of series, scalars.

use std::collections::{BTreeMap, BTreeSet};

use super::data::Metric;
use super::expression::{Expr, Op};

/// A series with what its label may be made of. Points by start of the bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The default label.
    pub(super) label: String,
    /// What `${PROP('...')}` knows.
    pub(super) properties: Vec<(String, String)>,
    /// Seconds.
    pub(super) period: i64,
    pub(super) points: BTreeMap<i64, f64>,
}

impl Line {
    /// The series of a metric.
    pub(super) fn of(
        metric: &Metric,
        statistic: &str,
        period: i64,
        points: Vec<(i64, f64)>,
    ) -> Self {
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut properties = vec![
            property("AccountId", &metric.account),
            property("Namespace", &metric.namespace),
            property("MetricName", &metric.name),
            property("Stat", statistic),
            property("Period", &period.to_string()),
        ];
        let dimensions = metric.dimensions.iter();
        properties.extend(dimensions.map(|(n, v)| (format!("Dim.{n}"), v.clone())));
        let points = points.into_iter().collect();
        Self { label: metric.name.clone(), properties, period, points }
    }

    /// The same series with other points.
    fn with(&self, points: BTreeMap<i64, f64>) -> Self {
        Self { points, ..self.clone() }
    }

    fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        self.with(self.points.iter().map(|(at, value)| (*at, change(*value))).collect())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.points.values().copied()
    }
}

/// What an expression gives.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(f64),
    Line(Line),
    Lines(Vec<Line>),
    Text(String),
    Word(String),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "Scalar",
            Self::Line(_) => "TimeSeries",
            Self::Lines(_) => "Array[TimeSeries]",
            Self::Text(_) | Self::Word(_) => "String",
        }
    }

    /// The series of it.
    pub(super) fn lines(self) -> Option<Vec<Line>> {
        match self {
            Self::Line(line) => Some(vec![line]),
            Self::Lines(lines) => Some(lines),
            Self::Scalar(_) | Self::Text(_) | Self::Word(_) => None,
        }
    }
}

/// What math needs of the call that it is part of.
pub(super) trait World {
    /// What the query of an id gives.
    fn query(&mut self, id: &str) -> Result<Value, String>;
    /// All metrics of the call whose ids contain a text.
    fn metrics(&mut self, part: &str) -> Result<Vec<Line>, String>;
    /// The metrics that a search finds.
    fn search(&mut self, term: &str, statistic: &str, period: i64) -> Result<Vec<Line>, String>;
    /// The buckets of the window.
    fn buckets(&self, period: i64) -> Vec<i64>;
    /// The period of series made of nothing.
    fn period(&self) -> i64;
    /// A datapoint was no number and is dropped.
    fn dropped(&mut self);
}

/// Evaluates an expression.
pub(super) fn evaluate(expr: &Expr, world: &mut dyn World) -> Result<Value, String> {
    match expr {
        Expr::Number(number) => Ok(Value::Scalar(*number)),
        Expr::Text(text) => Ok(Value::Text(text.clone())),
        Expr::Word(bare) => Ok(Value::Word(bare.clone())),
        Expr::Id(id) => world.query(id),
        Expr::Array(parts) => {
            let mut lines = Vec::new();
            for part in parts {
                let value = evaluate(part, world)?;
                let kind = value.kind();
                let part = value.lines().ok_or_else(|| format!("An array cannot have a {kind}"))?;
                lines.extend(part);
            }
            Ok(Value::Lines(lines))
        }
        Expr::Negate(inner) => match evaluate(inner, world)? {
            Value::Scalar(number) => Ok(Value::Scalar(-number)),
            Value::Line(line) => Ok(Value::Line(line.map(|v| -v))),
            Value::Lines(lines) => {
                Ok(Value::Lines(lines.iter().map(|line| line.map(|v| -v)).collect()))
            }
            other => Err(format!("Unsupported operand type(s) for -: '[{}]'", other.kind())),
        },
        Expr::Binary(op, a, b) => {
            let (a, b) = (evaluate(a, world)?, evaluate(b, world)?);
            binary(*op, a, b, world)
        }
        Expr::Call(name, arguments) => super::functions::call(name, arguments, world),
    }
}

fn binary(op: Op, a: Value, b: Value, world: &mut dyn World) -> Result<Value, String> {
    let kinds = format!("[{}, {}]", a.kind(), b.kind());
    Ok(match (a, b) {
        (Value::Scalar(a), Value::Scalar(b)) => Value::Scalar(op.apply(a, b)),
        (Value::Line(a), Value::Scalar(b)) => Value::Line(finite(a.map(|v| op.apply(v, b)), world)),
        (Value::Scalar(a), Value::Line(b)) => Value::Line(finite(b.map(|v| op.apply(a, v)), world)),
        (Value::Line(a), Value::Line(b)) => Value::Line(finite(joined(op, &a, &b), world)),
        (Value::Lines(a), Value::Scalar(b)) => {
            let lines = a.iter().map(|a| finite(a.map(|v| op.apply(v, b)), world));
            Value::Lines(lines.collect())
        }
        (Value::Scalar(a), Value::Lines(b)) => {
            let lines = b.iter().map(|b| finite(b.map(|v| op.apply(a, v)), world));
            Value::Lines(lines.collect())
        }
        (Value::Lines(a), Value::Line(b)) => {
            Value::Lines(a.iter().map(|a| finite(joined(op, a, &b), world)).collect())
        }
        (Value::Line(a), Value::Lines(b)) => {
            let line = |b: &Line| Line { points: joined(op, &a, b).points, ..b.clone() };
            Value::Lines(b.iter().map(|b| finite(line(b), world)).collect())
        }
        _ => return Err(format!("Unsupported operand type(s) for {}: '{kinds}'", op.symbol())),
    })
}

/// Point by point; where one of the two has none it counts as zero.
fn joined(op: Op, a: &Line, b: &Line) -> Line {
    let times: BTreeSet<i64> = a.points.keys().chain(b.points.keys()).copied().collect();
    let at = |line: &Line, time: i64| line.points.get(&time).copied().unwrap_or(0.0);
    let points = times.iter().map(|&t| (t, op.apply(at(a, t), at(b, t)))).collect();
    Line { period: a.period.max(b.period), points, ..a.clone() }
}

/// Drops what is no number: a division by zero has no datapoint.
pub(super) fn finite(mut line: Line, world: &mut dyn World) -> Line {
    let before = line.points.len();
    line.points.retain(|_, value| value.is_finite());
    if line.points.len() < before {
        world.dropped();
    }
    line
}

/// A series of each series.
pub(super) fn each(
    value: Value,
    name: &str,
    change: impl Fn(&Line) -> Line,
) -> Result<Value, String> {
    match value {
        Value::Line(line) => Ok(Value::Line(change(&line))),
        Value::Lines(lines) => Ok(Value::Lines(lines.iter().map(change).collect())),
        other => Err(unsupported(name, &other)),
    }
}

/// The point-wise change of each series.
pub(super) fn mapped(
    value: Value,
    name: &str,
    change: impl Fn(f64) -> f64,
) -> Result<Value, String> {
    each(value, name, |line| line.map(&change))
}

/// One number of a series, or one series of an array: at each time, of the values that exist then
/// and the number of series.
pub(super) fn aggregated(
    value: Value,
    name: &str,
    of: impl Fn(&[f64], usize) -> f64,
) -> Result<Value, String> {
    match value {
        Value::Line(line) => {
            let values: Vec<f64> = line.values().collect();
            Ok(Value::Scalar(of(&values, values.len())))
        }
        Value::Lines(lines) => {
            let mut at: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for (time, value) in lines.iter().flat_map(|line| &line.points) {
                at.entry(*time).or_default().push(*value);
            }
            let points = at.iter().map(|(t, values)| (*t, of(values, lines.len()))).collect();
            let period = lines.iter().map(|line| line.period).max().unwrap_or_default();
            Ok(Value::Line(Line { period, points, ..Line::default() }))
        }
        other => Err(unsupported(name, &other)),
    }
}

/// Each value with the one before it.
pub(super) fn pairwise(
    value: Value,
    name: &str,
    of: impl Fn((i64, f64), (i64, f64)) -> f64,
) -> Result<Value, String> {
    each(value, name, |line| {
        let before = line.points.iter().map(|(t, v)| (*t, *v));
        let after = line.points.iter().map(|(t, v)| (*t, *v)).skip(1);
        line.with(before.zip(after).map(|(a, b)| (b.0, of(a, b))).collect())
    })
}

pub(super) fn unsupported(name: &str, value: &Value) -> String {
    format!("Unsupported argument type(s) for {name}: '[{}]'", value.kind())
}
