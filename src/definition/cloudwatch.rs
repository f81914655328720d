//! What a definition asks of `CloudWatch`: the part of `spec` under `cloudwatch`.
//!
//! Responsible for: the rules of `GetMetricData` that can be checked without calling it, and the
//! canonical form: two definitions that ask the same become equal [`CloudWatchQuery`]s. Not
//! responsible for: how often it is asked (`freshness`), what shares a call with what (the source).
//!
//! Rules of our own, beside those of the service:
//!
//! * Exactly one query is returned: the one with `return: true`, or, when none says so, the one
//!   without `return: false`.
//! * A query that is neither returned nor used by the one that is returned is refused: it would
//!   cost and change nothing.
//! * The longest period of a group is a multiple of all others, and windows are aligned to it. With
//!   any other alignment the last bucket of the longer period would be half full.

mod expression;
mod group;
mod metric;
mod statistic;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::definition::document::{CloudWatchSpec, MetricQuerySpec};
use crate::definition::field::Field;
use crate::definition::reach;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;
use crate::model::query::cloudwatch::{MAX_ID, MAX_QUERIES_PER_CALL};
use crate::model::query::expression::DATA_FUNCTIONS;
use crate::model::{
    CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat, SourceProfile,
};
use expression::Expression;
pub(super) use expression::read as read_expression;
pub(super) use metric::{MAX_DIMENSIONS, MAX_NAME, MAX_VALUE, UNITS};
pub(super) use statistic::MAX_LENGTH as MAX_STATISTIC;
pub(super) use window::{check_delay, check_period};

/// Longest label. The API reference names no limit; this is that of a dimension's value, and every
/// series of an answer carries it.
pub(super) const MAX_LABEL: usize = 1024;

/// One query, as far as it can be read by itself.
struct Draft<'a> {
    /// Where it is written.
    field: Field,
    id: &'a str,
    subject: Subject,
    label: Option<&'a str>,
}

/// What one query asks.
enum Subject {
    Metric(MetricStat),
    Expression {
        text: Arc<str>,
        read: Expression,
        /// The period that is written for it.
        period: Option<Duration>,
    },
}

/// The question of a spec. `without_sources` says that there is nothing to judge regions and roles
/// by.
pub(super) fn query(
    report: &mut Report<'_>,
    spec: &CloudWatchSpec,
    profile: Option<&SourceProfile>,
    without_sources: bool,
) -> Option<CloudWatchQuery> {
    let base = Field::of("spec.cloudwatch");
    let region_field = base.key("region");
    let named = reach::region(report, &region_field, spec.region.as_deref(), profile);
    let region = named
        .or_else(|| profile.and_then(|profile| profile.region.as_deref()))
        .or(without_sources.then_some(reach::UNKNOWN));
    if region.is_none() && profile.is_some() && !report.has_problem(&region_field) {
        report.add(&region_field, "the region is not known; set spec.cloudwatch.region");
    }
    let role_field = base.key("roleArn");
    let role = reach::role(report, &role_field, spec.role_arn.as_deref(), profile, without_sources);
    let period_field = window::whole_period();
    let period = spec.period.and_then(|period| {
        report.check(&period_field, window::check_period(period.0)).map(|()| period.0)
    });
    let (drafts, returned) =
        match report.exactly_one(&base, &["metric", "queries", "expression"])? {
            "metric" => (vec![metric_alone(report, &base, spec, period)?], 0),
            "expression" => (vec![expression_alone(report, &base, spec, period)?], 0),
            _ => several(report, &base.key("queries"), spec, period)?,
        };
    let group = group::check(report, &drafts, returned)?;
    let window =
        window::window(report, &base, spec, group.period, &group.items, group.has_insights)?;
    let period = group.period;
    let is_alone = drafts.len() == 1;
    let queries = drafts.into_iter().enumerate().map(|(index, draft)| MetricDataQuery {
        // In every definition the same: nothing refers to it.
        id: if is_alone { CloudWatchQuery::SINGLE_ID.into() } else { draft.id.into() },
        // Only the returned series have labels that anybody sees.
        label: draft.label.filter(|_| index == returned).map(Into::into),
        return_data: index == returned,
        question: match draft.subject {
            Subject::Metric(stat) => MetricQuestion::Metric(stat),
            // Metric math has the period of its operands, said or not.
            Subject::Expression { text, read, period } => MetricQuestion::Expression {
                text,
                period: period.filter(|_| read.finds_data.is_some()),
            },
        },
    });
    Some(CloudWatchQuery {
        queries: queries.collect(),
        region: region?.into(),
        role_arn: role,
        period,
        delay: window.delay,
        lookback: window.lookback,
        manner: Manner::Strict,
    })
}

fn metric_alone<'a>(
    report: &mut Report<'_>,
    base: &Field,
    spec: &'a CloudWatchSpec,
    period: Option<Duration>,
) -> Option<Draft<'a>> {
    let stat = metric::stat(report, &base.key("metric"), spec.metric.as_ref()?, period)?;
    let id = CloudWatchQuery::SINGLE_ID;
    Some(Draft { field: base.clone(), id, subject: Subject::Metric(stat), label: None })
}

fn expression_alone<'a>(
    report: &mut Report<'_>,
    base: &Field,
    spec: &'a CloudWatchSpec,
    period: Option<Duration>,
) -> Option<Draft<'a>> {
    let field = base.key("expression");
    let text = spec.expression.as_deref()?.trim();
    let read = report.check(&field, expression::read(text))?;
    let refers =
        read.ids.first().cloned().or((!read.patterns.is_empty()).then(|| "METRICS".into()));
    if read.finds_data.is_none() || refers.is_some() {
        let what = match refers {
            Some(id) => format!("there is nothing here that {id} could refer to"),
            None => "there is nothing here to compute from".to_owned(),
        };
        let message = format!(
            "{what}: only SELECT and what takes its data from {} stand alone; list metrics and expression under spec.cloudwatch.queries, each with an id",
            DATA_FUNCTIONS.join(", ")
        );
        report.add(&field, message);
        return None;
    }
    let period = period_of(report, &base.key("period"), &read, period);
    let subject = Subject::Expression { text: text.into(), read, period: Some(period?) };
    Some(Draft { field: base.clone(), id: CloudWatchQuery::SINGLE_ID, subject, label: None })
}

/// The period of an expression that finds its data by itself: it must be there, and fit.
fn period_of(
    report: &mut Report<'_>,
    field: &Field,
    read: &Expression,
    period: Option<Duration>,
) -> Option<Duration> {
    let word = read.finds_data?;
    let Some(period) = period else {
        if !report.has_problem(field) && !report.has_problem(&window::whole_period()) {
            report.add(field, format!("this field is missing; {word} needs a period"));
        }
        return None;
    };
    let shown = GoDuration(period);
    if read.is_insights && period < Duration::from_mins(1) {
        report
            .add(field, format!("Metrics Insights has no datapoints of {shown}; take 1m or more"));
        return None;
    }
    let other =
        read.search_periods.iter().find(|said| said.parse::<u64>().ok() != Some(period.as_secs()));
    if let Some(said) = other {
        let message =
            format!("SEARCH says {said} seconds, and the period here is {shown}; make them equal");
        report.add(field, message);
        return None;
    }
    Some(period)
}

/// The queries of the long form, and which of them is returned.
fn several<'a>(
    report: &mut Report<'_>,
    list: &Field,
    spec: &'a CloudWatchSpec,
    period: Option<Duration>,
) -> Option<(Vec<Draft<'a>>, usize)> {
    let queries = spec.queries.as_deref()?;
    if report.root().find(list).is_some_and(|node| node.child_count() != queries.len()) {
        // An item was left out: its problem is already known, and positions have moved.
        return None;
    }
    if queries.is_empty() || queries.len() > MAX_QUERIES_PER_CALL {
        let message = format!(
            "1 to {MAX_QUERIES_PER_CALL} queries are needed, because they go out in one GetMetricData call; here are {}",
            queries.len()
        );
        report.add(list, message);
        return None;
    }
    let ids = ids(report, list, queries);
    let returned = returned(report, list, queries);
    let drafts: Vec<Option<Draft<'a>>> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| draft(report, &list.index(index), query, period))
        .collect();
    let mut drafts = drafts.into_iter().collect::<Option<Vec<_>>>()?;
    for (draft, id) in drafts.iter_mut().zip(ids?) {
        draft.id = id;
    }
    Some((drafts, returned?))
}

/// The ids, when all are there, well formed and unique.
fn ids<'a>(
    report: &mut Report<'_>,
    list: &Field,
    queries: &'a [MetricQuerySpec],
) -> Option<Vec<&'a str>> {
    let mut seen = HashMap::new();
    let mut ids = Vec::new();
    for (index, query) in queries.iter().enumerate() {
        let field = list.index(index).key("id");
        let Some(id) = report.require(&field, query.id.as_deref()) else { continue };
        if report.check(&field, check_id(id)).is_none() {
            continue;
        }
        if let Some(first) = seen.insert(id, index) {
            report.add(&field, format!("queries[{first}] has the same id"));
            continue;
        }
        ids.push(id);
    }
    (ids.len() == queries.len()).then_some(ids)
}

/// Checks an id for itself (API reference, `MetricDataQuery`, `Id`).
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let fits = id.len() <= MAX_ID
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits {
        return Ok(());
    }
    let shown: String = id.chars().take(60).collect();
    Err(format!(
        "{shown:?} is not an id: a lower-case letter, then letters, digits and \"_\", {MAX_ID} at most"
    ))
}

/// Which query is returned.
fn returned(report: &mut Report<'_>, list: &Field, queries: &[MetricQuerySpec]) -> Option<usize> {
    let says = |wanted: Option<bool>| -> Vec<usize> {
        let found = queries.iter().enumerate().filter(|(_, query)| query.r#return == wanted);
        found.map(|(index, _)| index).collect()
    };
    let (yes, silent) = (says(Some(true)), says(None));
    let message = match (&yes[..], &silent[..]) {
        ([only], _) | ([], [only]) => return Some(*only),
        ([first, second, ..], _) => {
            let message = format!("queries[{first}] is returned already; exactly one can be");
            report.add(&list.index(*second).key("return"), message);
            return None;
        }
        ([], []) => "no query is returned: each says return: false; leave that out at the one whose series are the metric".to_owned(),
        ([], several) => {
            let ids: Vec<&str> =
                several.iter().filter_map(|index| queries[*index].id.as_deref()).collect();
            format!(
                "exactly one query is returned, and {} could be; say return: true at that one, or return: false at the others",
                ids.join(", ")
            )
        }
    };
    report.add(list, message);
    None
}

/// One query of the long form, without its id.
fn draft<'a>(
    report: &mut Report<'_>,
    field: &Field,
    spec: &'a MetricQuerySpec,
    default: Option<Duration>,
) -> Option<Draft<'a>> {
    let period_field = field.key("period");
    let own = spec.period.map(|period| {
        report.check(&period_field, window::check_period(period.0)).map(|()| period.0)
    });
    let subject = if report.exactly_one(field, &["metric", "expression"])? == "metric" {
        if spec.period.is_some() {
            report.add(&period_field, "the period of a metric belongs into metric.period");
            return None;
        }
        Subject::Metric(metric::stat(report, &field.key("metric"), spec.metric.as_ref()?, default)?)
    } else {
        let text = spec.expression.as_deref()?.trim();
        let read = report.check(&field.key("expression"), expression::read(text))?;
        let own = own.map_or(Some(None), |own| own.map(Some))?;
        let period = if read.finds_data.is_some() {
            // Also where the period is that of the whole, what is wrong with it is wrong here.
            Some(period_of(report, &period_field, &read, own.or(default))?)
        } else {
            own
        };
        Subject::Expression { text: text.into(), read, period }
    };
    let label = match spec.label.as_deref() {
        Some(label) => Some(report.check(&field.key("label"), checked_label(label))?),
        None => None,
    };
    Some(Draft { field: field.clone(), id: "", subject, label })
}

/// Checks a label for itself.
fn checked_label(label: &str) -> Result<&str, String> {
    let length = label.chars().count();
    if length > MAX_LABEL {
        return Err(format!("a label has at most {MAX_LABEL} characters, and this one {length}"));
    }
    if label.chars().any(char::is_control) {
        return Err("a label holds no line breaks or other control characters".to_owned());
    }
    Ok(label)
}

#[cfg(test)]
mod tests;
