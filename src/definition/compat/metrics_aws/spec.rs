//! The resource's `spec`, field by field, with the original's types and zero values.
//!
//! What is absent or null is empty, zero or, where the original tells the difference, none. Names of
//! fields are told apart by case, and what is not named here is not looked at: `spec.resource`,
//! `queries[].resources` and `queries[].metricLabels` are in resources of many people, and were read by
//! early versions or none.

use serde_json::{Map, Value as Json};

use crate::definition::field::Field;
use crate::definition::report::Report;

/// Characters of a value that a message repeats.
const MAX_SHOWN: usize = 60;

/// Largest whole number that a floating-point number holds without a doubt: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The whole.
pub(super) struct Spec<'a> {
    pub(super) role_arn: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) queries: Vec<QuerySpec<'a>>,
}

/// One query.
pub(super) struct QuerySpec<'a> {
    /// Where it is written.
    pub(super) field: Field,
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) return_data: Option<bool>,
    /// If it is not empty, `metric` is not looked at.
    pub(super) expression: &'a str,
    pub(super) metric: MetricSpec<'a>,
}

/// A metric's statistic.
pub(super) struct MetricSpec<'a> {
    /// Where it is written.
    pub(super) field: Field,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Names and values in the author's order.
    pub(super) dimensions: Vec<(&'a str, &'a str)>,
    /// In seconds.
    pub(super) period: i64,
    pub(super) stat: &'a str,
    pub(super) unit: &'a str,
}

/// Reads a spec. What is wrong with it is in the report.
pub(super) fn read<'a>(report: &mut Report<'_>, spec: &'a Json) -> Spec<'a> {
    let spec = Mapping::of(report, Field::of("spec"), Some(spec));
    // Nobody reads it, but it is text to the original, which fails on anything else.
    spec.text(report, "name");
    let role_arn = spec.optional_text(report, "roleArn");
    let region = spec.optional_text(report, "region");
    let queries = spec.list(report, "queries").into_iter();
    let queries = queries.map(|(field, value)| query(report, field, value)).collect();
    Spec { role_arn, region, queries }
}

fn query<'a>(report: &mut Report<'_>, field: Field, value: &'a Json) -> QuerySpec<'a> {
    let query = Mapping::of(report, field, Some(value));
    let metric = query.mapping(report, "metricStat");
    QuerySpec {
        id: query.text(report, "id"),
        label: query.text(report, "label"),
        return_data: query.boolean(report, "returnData"),
        expression: query.text(report, "expression"),
        metric: metric_stat(report, &metric),
        field: query.field,
    }
}

fn metric_stat<'a>(report: &mut Report<'_>, stat: &Mapping<'a>) -> MetricSpec<'a> {
    let metric = stat.mapping(report, "metric");
    let dimensions = metric.list(report, "dimensions").into_iter();
    let dimensions = dimensions.map(|(field, value)| {
        let dimension = Mapping::of(report, field, Some(value));
        (dimension.text(report, "name"), dimension.text(report, "value"))
    });
    let dimensions = dimensions.collect();
    MetricSpec {
        namespace: metric.text(report, "namespace"),
        name: metric.text(report, "metricName"),
        dimensions,
        period: stat.whole(report, "period"),
        stat: stat.text(report, "stat"),
        unit: stat.text(report, "unit"),
        field: stat.field.clone(),
    }
}

/// A mapping, and where it is written.
struct Mapping<'a> {
    field: Field,
    pairs: Option<&'a Map<String, Json>>,
}

impl<'a> Mapping<'a> {
    fn of(report: &mut Report<'_>, field: Field, value: Option<&'a Json>) -> Self {
        let pairs = match value {
            None | Some(Json::Null) => None,
            Some(Json::Object(pairs)) => Some(pairs),
            Some(other) => {
                report.add(&field, format!("expected a mapping, found {}", shown(other)));
                None
            }
        };
        Self { field, pairs }
    }

    /// A value that is there and not null.
    fn get(&self, key: &str) -> Option<(Field, &'a Json)> {
        let value = self.pairs?.get(key).filter(|value| !value.is_null())?;
        Some((self.field.key(key), value))
    }

    fn mapping(&self, report: &mut Report<'_>, key: &str) -> Self {
        Self::of(report, self.field.key(key), self.get(key).map(|(_, value)| value))
    }

    fn list(&self, report: &mut Report<'_>, key: &str) -> Vec<(Field, &'a Json)> {
        match self.get(key) {
            None => Vec::new(),
            Some((field, Json::Array(items))) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| (field.index(index), item)).collect()
            }
            Some((field, other)) => {
                report.add(&field, format!("expected a list, found {}", shown(other)));
                Vec::new()
            }
        }
    }

    fn optional_text(&self, report: &mut Report<'_>, key: &str) -> Option<&'a str> {
        let (field, value) = self.get(key)?;
        if let Json::String(text) = value {
            return Some(text);
        }
        let found = shown(value);
        report.add(
            &field,
            match value {
                Json::Bool(_) | Json::Number(_) => {
                    format!("expected text, found {found}; write it as \"{found}\"")
                }
                _ => format!("expected text, found {found}"),
            },
        );
        None
    }

    fn text(&self, report: &mut Report<'_>, key: &str) -> &'a str {
        self.optional_text(report, key).unwrap_or_default()
    }

    fn boolean(&self, report: &mut Report<'_>, key: &str) -> Option<bool> {
        let (field, value) = self.get(key)?;
        if let Json::Bool(value) = value {
            return Some(*value);
        }
        let hint = match value {
            Json::String(text) if text == "true" || text == "false" => {
                format!("; write it as {text}, without quotes")
            }
            _ => String::new(),
        };
        report.add(&field, format!("expected true or false, found {}{hint}", shown(value)));
        None
    }

    /// A whole number; 60.0 is one.
    fn whole(&self, report: &mut Report<'_>, key: &str) -> i64 {
        let Some((field, value)) = self.get(key) else { return 0 };
        if let Some(number) = value.as_i64() {
            return number;
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        if let Some(number) = value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= MAX_EXACT) {
            return number as i64;
        }
        let hint = match value {
            Json::String(text) if text.parse::<i64>().is_ok() => {
                format!("; write it as {text}, without quotes")
            }
            _ => String::new(),
        };
        let found = shown(value);
        report.add(&field, format!("expected a whole number of seconds, found {found}{hint}"));
        0
    }
}

/// A value as a message names it.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => {
            let shown: String = text.chars().take(MAX_SHOWN).collect();
            format!("the text {shown:?}")
        }
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a mapping".to_owned(),
    }
}
