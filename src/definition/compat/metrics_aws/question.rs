//! What is asked of `CloudWatch`.
//!
//! The original asks at the moment of a read for what lies between five minutes before the last full
//! minute and that minute. So does this, for periods up to a minute; of longer ones the window holds
//! whole buckets alone, two at least, where the original's holds the one that is still being filled.
//!
//! What is sent is what is written: no statistic, unit, label or expression is judged here, since only
//! the service knows what it takes. What no service could take, and what would never give a value, is
//! refused with its field.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::definition::Context;
use crate::definition::cloudwatch::{check_id, check_period, read_expression};
use crate::definition::compat::metrics_aws::annotations::{self, Annotations};
use crate::definition::compat::metrics_aws::spec::{MetricSpec, QuerySpec, Spec};
use crate::definition::field::Field;
use crate::definition::question::{Wanted, choose_named};
use crate::definition::reach;
use crate::definition::report::Report;
use crate::model::query::cloudwatch::MAX_QUERIES_PER_CALL;
use crate::model::{
    CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat, SourceKind, SourceName,
};

/// How far back the original looks.
const LOOKBACK: Duration = Duration::from_mins(5);

/// Whole buckets that the window of a long period holds at least: the newest, and one in case that
/// it comes late.
const LEAST_BUCKETS: u32 = 2;

/// The original's own rhythm, of what names no period: its window ends at a full minute.
const MINUTE: Duration = Duration::from_mins(1);

/// How long after its end a bucket is asked for, at most; less for short periods. The original asks
/// all the time and sees a datapoint grow; when it is asked for once a period, it had better be full.
/// Half a minute, so that a value is as new as the original's for half of the time.
const SETTLE: Duration = Duration::from_secs(30);

/// The longest period of a bucket (User Guide, "Metrics concepts": one day).
const LONGEST: u64 = 24 * 60 * 60;

/// The source and the question; none when the report says why not.
pub(super) fn question(
    report: &mut Report<'_>,
    context: &Context<'_>,
    asked: &Annotations,
    spec: &Spec<'_>,
    namespace: &str,
) -> Option<(SourceName, CloudWatchQuery)> {
    let (parent, field) = (Field::of("spec"), annotations::source_field());
    let wanted = Wanted {
        named: asked.source.as_deref(),
        field: &field,
        parent: &parent,
        key: "queries",
        kind: SourceKind::Aws,
    };
    let source = choose_named(report, context, &wanted, Some(namespace));
    let profile = source.as_ref().and_then(|source| source.profile);
    let without_sources = context.sources.is_none();
    let field = parent.key("region");
    let named = reach::region(report, &field, spec.region, profile);
    let region = named
        .or_else(|| profile.and_then(|profile| profile.region.as_deref()))
        .or(without_sources.then_some(reach::UNKNOWN));
    if region.is_none() && profile.is_some() && !report.has_problem(&field) {
        report.add(&field, "the region is not known; set it here, or aws.region of the source");
    }
    let field = parent.key("roleArn");
    let role_arn = reach::role(report, &field, spec.role_arn, profile, without_sources);
    let queries = queries(report, spec)?;
    let period = period(&queries);
    let delay = asked.delay.unwrap_or_default();
    let settle = if delay.is_zero() { SETTLE.min(period / 2) } else { Duration::ZERO };
    let query = CloudWatchQuery {
        region: region?.into(),
        role_arn,
        queries,
        period,
        delay,
        lookback: delay + LOOKBACK.max(period * LEAST_BUCKETS),
        manner: Manner::AsWritten { settle },
    };
    Some((source?.name, query))
}

/// The queries, at least one of which is returned.
fn queries(report: &mut Report<'_>, spec: &Spec<'_>) -> Option<Vec<MetricDataQuery>> {
    let list = Field::of("spec.queries");
    if spec.queries.is_empty() {
        if !report.has_problem(&Field::of("spec")) {
            report.add(&list, "at least one query is needed");
        }
        return None;
    }
    let count = spec.queries.len();
    if count > MAX_QUERIES_PER_CALL {
        let message =
            format!("{count} queries; one GetMetricData call takes {MAX_QUERIES_PER_CALL} at most");
        report.add(&list, message);
        return None;
    }
    let mut seen = HashMap::new();
    for (index, query) in spec.queries.iter().enumerate() {
        let field = query.field.key("id");
        if report.require(&field, some(query.id)).is_none()
            || report.check(&field, check_id(query.id)).is_none()
        {
            continue;
        }
        if let Some(first) = seen.insert(query.id, index) {
            report.add(&field, format!("queries[{first}] has the same id"));
        }
    }
    let read: Vec<_> = spec.queries.iter().map(|query| data_query(report, query)).collect();
    if spec.queries.iter().all(|query| query.return_data == Some(false)) {
        report.add(&list, "no query is returned: each says returnData: false; leave that out at the one whose series is the metric");
    }
    read.into_iter().collect()
}

fn data_query(report: &mut Report<'_>, query: &QuerySpec<'_>) -> Option<MetricDataQuery> {
    let question = if query.expression.is_empty() {
        MetricQuestion::Metric(stat(report, &query.metric)?)
    } else {
        MetricQuestion::Expression { text: query.expression.into(), period: None }
    };
    Some(MetricDataQuery {
        id: query.id.into(),
        question,
        label: some(query.label).map(Into::into),
        return_data: query.return_data != Some(false),
    })
}

fn stat(report: &mut Report<'_>, spec: &MetricSpec<'_>) -> Option<MetricStat> {
    let metric = spec.field.key("metric");
    let mut required = |field: &Field, text| -> Option<Arc<str>> {
        report.require(field, some(text)).map(Into::into)
    };
    let namespace = required(&metric.key("namespace"), spec.namespace);
    let name = required(&metric.key("metricName"), spec.name);
    let statistic = required(&spec.field.key("stat"), spec.stat);
    let list = metric.key("dimensions");
    let mut dimensions = Vec::with_capacity(spec.dimensions.len());
    for (index, (name, value)) in spec.dimensions.iter().enumerate() {
        let name = required(&list.index(index).key("name"), name);
        let value = required(&list.index(index).key("value"), value);
        dimensions.push((name, value));
    }
    let dimensions: Option<Vec<_>> =
        dimensions.into_iter().map(|(name, value)| Some((name?, value?))).collect();
    let field = spec.field.key("period");
    let period = report.require(&field, (spec.period != 0).then_some(spec.period));
    let period = period.and_then(|seconds| {
        let Ok(seconds) = u64::try_from(seconds) else {
            report.add(&field, format!("{seconds} seconds are no period; it is above zero"));
            return None;
        };
        let period = Duration::from_secs(seconds);
        report.check(&field, check_period(period)).map(|()| period)
    });
    Some(MetricStat {
        namespace: namespace?,
        name: name?,
        dimensions: dimensions?,
        statistic: statistic?,
        period: period?,
        unit: some(spec.unit).map(Into::into),
        account_id: None,
    })
}

/// What is empty is not sent: the original sends it empty, which the service does not take.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The period of the answer: that of the first returned query and of what it is computed from. If
/// these do not divide each other, buckets end together as often as all of them do.
fn period(queries: &[MetricDataQuery]) -> Duration {
    let by_id: HashMap<&str, usize> =
        queries.iter().enumerate().map(|(at, query)| (&*query.id, at)).collect();
    let mut open: Vec<usize> =
        queries.iter().position(|query| query.return_data).into_iter().collect();
    let mut seen: HashSet<usize> = open.iter().copied().collect();
    let mut periods: Vec<u64> = Vec::new();
    while let Some(at) = open.pop() {
        let text = match &queries[at].question {
            MetricQuestion::Metric(stat) => {
                periods.push(stat.period.as_secs());
                continue;
            }
            MetricQuestion::Expression { text, .. } => text,
        };
        let mut refer = |found: &mut dyn Iterator<Item = usize>| {
            open.extend(found.filter(|found| seen.insert(*found)));
        };
        let metrics = |pattern: &str| {
            let is_metric = |query: &MetricDataQuery| {
                matches!(query.question, MetricQuestion::Metric(_)) && query.id.contains(pattern)
            };
            (0..queries.len()).filter(|at| is_metric(&queries[*at])).collect::<Vec<_>>()
        };
        let Ok(read) = read_expression(text) else {
            // The service may understand it, or refuse it. Any of the metrics may be meant.
            refer(&mut metrics("").into_iter());
            continue;
        };
        refer(&mut read.ids.iter().filter_map(|id| by_id.get(id.as_str()).copied()));
        for pattern in &read.patterns {
            refer(&mut metrics(pattern).into_iter());
        }
        periods.extend(read.search_periods.iter().filter_map(|text| text.parse::<u64>().ok()));
    }
    periods.retain(|period| (1..=LONGEST).contains(period));
    let Some(longest) = periods.iter().copied().max() else { return MINUTE };
    let common = periods.iter().copied().fold(1, least_common_multiple);
    Duration::from_secs(if common <= LONGEST { common } else { longest })
}

/// Of two periods, each [`LONGEST`] at most; what is longer than that stays longer.
fn least_common_multiple(one: u64, other: u64) -> u64 {
    if one > LONGEST {
        return one;
    }
    let (mut a, mut b) = (one.max(1), other.max(1));
    let product = a * b;
    while b > 0 {
        (a, b) = (b, a % b);
    }
    product / a
}
