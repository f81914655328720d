//! One metric's statistic (API reference, `Metric`, `Dimension`, `MetricStat`).

use std::sync::Arc;
use std::time::Duration;

use crate::definition::cloudwatch::{statistic, window};
use crate::definition::document::MetricSpec;
use crate::definition::field::{Field, closest};
use crate::definition::report::Report;
use crate::model::MetricStat;

/// Most dimensions of a metric.
pub(in crate::definition) const MAX_DIMENSIONS: usize = 30;

/// Longest namespace, metric name and dimension name.
pub(in crate::definition) const MAX_NAME: usize = 255;

/// Longest value of a dimension.
pub(in crate::definition) const MAX_VALUE: usize = 1024;

/// `StandardUnit`.
pub(in crate::definition) const UNITS: [&str; 27] = [
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

/// The metric at `field`, in canonical form. `period` is that of the whole, for a metric that names
/// none.
pub(super) fn stat(
    report: &mut Report<'_>,
    field: &Field,
    spec: &MetricSpec,
    period: Option<Duration>,
) -> Option<MetricStat> {
    let mut named = |key: &str, value: &Option<String>| -> Option<Arc<str>> {
        let field = field.key(key);
        let text = report.require(&field, value.as_deref())?;
        report.check(&field, name(text, MAX_NAME, true))?;
        Some(text.into())
    };
    let namespace = named("namespace", &spec.namespace);
    let metric = named("name", &spec.name);
    let dimensions = dimensions(report, &field.key("dimensions"), spec);
    let key = field.key("statistic");
    let statistic = report
        .require(&key, spec.statistic.as_deref())
        .and_then(|text| report.check(&key, statistic::parse(text)));
    let key = field.key("period");
    let period = match spec.period {
        Some(own) => report.check(&key, window::check_period(own.0)).map(|()| own.0),
        None if report.has_problem(&key) || report.has_problem(&window::whole_period()) => None,
        None => report.require(&key, period),
    };
    let unit = spec.unit.as_deref().map(|text| report.check(&field.key("unit"), unit(text)));
    let account = spec
        .account_id
        .as_deref()
        .map(|text| report.check(&field.key("accountId"), account(text)).map(|()| text));
    Some(MetricStat {
        namespace: namespace?,
        name: metric?,
        dimensions: dimensions?,
        statistic: statistic?.into(),
        period: period?,
        unit: unit.map_or(Some(None), |unit| unit.map(|unit| Some(unit.into())))?,
        account_id: account.map_or(Some(None), |account| account.map(|a| Some(a.into())))?,
    })
}

/// The dimensions, sorted by name.
fn dimensions(
    report: &mut Report<'_>,
    field: &Field,
    spec: &MetricSpec,
) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let count = spec.dimensions.len();
    if count > MAX_DIMENSIONS {
        let message = format!("{count} dimensions; a metric has {MAX_DIMENSIONS} at most");
        report.add(field, message);
        return None;
    }
    for (key, value) in &spec.dimensions {
        if let Err(message) = name(key, MAX_NAME, true) {
            report.add_key(field, key, message);
        }
        report.check(&field.key(key), name(value, MAX_VALUE, false));
    }
    let pairs = spec.dimensions.iter();
    Some(pairs.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
}

/// Checks a name, or the value of a dimension: ASCII without control characters, not blank.
fn name(text: &str, longest: usize, is_name: bool) -> Result<(), String> {
    let shown: String = text.chars().take(60).collect();
    if text.trim().is_empty() {
        return Err("the text is empty".to_owned());
    }
    if text.len() > longest {
        return Err(format!("{} characters; CloudWatch takes {longest} at most", text.len()));
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii() || c.is_ascii_control()) {
        return Err(format!("{shown:?} holds {odd:?}; CloudWatch takes printable ASCII alone"));
    }
    if is_name && text.starts_with(':') {
        return Err(format!("{shown:?} begins with a colon; CloudWatch does not take that"));
    }
    Ok(())
}

fn unit(text: &str) -> Result<&str, String> {
    if let Some(unit) = UNITS.iter().find(|unit| **unit == text) {
        return Ok(unit);
    }
    let shown: String = text.chars().take(60).collect();
    Err(match closest(text, UNITS) {
        Some(near) => format!("{shown:?} is not a unit of CloudWatch; did you mean `{near}`?"),
        None => {
            format!("{shown:?} is not a unit of CloudWatch; the units are {}", UNITS.join(", "))
        }
    })
}

fn account(text: &str) -> Result<(), String> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    let shown: String = text.chars().take(60).collect();
    Err(format!("{shown:?} is not an AWS account; one has 12 digits, like \"111122223333\""))
}
