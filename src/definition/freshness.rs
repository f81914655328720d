//! How often an upstream is read, and how old a sample may be: the floors and defaults of
//! `refresh` and `maxAge`, in one place.
//!
//! | | every question | `cloudwatch` |
//! |---|---|---|
//! | least `refresh` | [`REFRESH_FLOOR`] | the period, and never less than [`CLOUDWATCH_FLOOR`] |
//! | default `refresh` | that of `defaults`, raised to the floor | the same |
//! | `refresh` in use | as it is | rounded up to whole periods: nothing is new in between |
//! | least `maxAge` | `refresh` | `delay` + 2 periods + `refresh` |
//! | default `maxAge` | that of `defaults` | `delay` + 5 periods, or `delay` + 2 periods + 2 × `refresh` if that is longer; of `metrics.aws` at least the lookback + 2 × `refresh` |
//!
//! A default below a floor is raised; what somebody wrote below it is refused with the arithmetic.
//!
//! A sample from `CloudWatch` is as old as the start of its bucket. When it is read, that is `delay`
//! and one period ago; just before the next is read, `delay`, one period and one `refresh` ago. One
//! period more is the room for a datapoint that comes late. The default survives one failed read.

use std::time::Duration;

use crate::definition::Context;
use crate::definition::document::Spec;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;
use crate::model::{CloudWatchQuery, Policy, QuerySpec, QueryTemplate};

/// Shortest time between two reads of an upstream. The HPA looks every 15 s; more often than once
/// a second no controller could use a new value.
pub const REFRESH_FLOOR: Duration = Duration::from_secs(1);

/// Shortest time between two reads of `CloudWatch`, whatever the period: every metric of every read
/// is billed, and the HPA looks every 15 s.
pub const CLOUDWATCH_FLOOR: Duration = Duration::from_secs(10);

/// Periods of the default `maxAge` of `cloudwatch`.
const DEFAULT_PERIODS: u32 = 5;

/// Periods of its least `maxAge`: the one that a sample's age begins with, and one of room.
const LEAST_PERIODS: u32 = 2;

/// The freshness rules of a definition. `query` is what its question became; none when the report
/// says what is wrong with it.
pub(super) fn policy(
    report: &mut Report<'_>,
    context: &Context<'_>,
    spec: &Spec,
    query: Option<&QueryTemplate>,
) -> Policy {
    let (refresh, max_age) = match (query.and_then(cloudwatch), &spec.cloudwatch) {
        (Some(query), _) => of_cloudwatch(report, context, &Asked::of(spec), query),
        // The rules depend on a question that is wrong.
        (None, Some(_)) => (context.defaults.refresh, context.defaults.max_age),
        (None, None) => of_any(report, context, spec),
    };
    Policy {
        refresh,
        max_age,
        on_no_data: spec
            .on_no_data
            .as_ref()
            .map_or_else(|| context.defaults.on_no_data.clone(), |no_data| no_data.0.clone()),
        first_read_timeout: context.defaults.first_read_timeout,
        keep_warm: spec.keep_warm,
    }
}

fn cloudwatch(template: &QueryTemplate) -> Option<&CloudWatchQuery> {
    match template {
        QueryTemplate::Fixed(query) => match &query.spec {
            QuerySpec::CloudWatch(query) => Some(query),
            _ => None,
        },
        QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_) => None,
    }
}

/// What a definition says about freshness, and where.
pub(super) struct Asked {
    pub(super) refresh: (Field, Option<GoDuration>),
    pub(super) max_age: (Field, Option<GoDuration>),
}

impl Asked {
    fn of(spec: &Spec) -> Self {
        Self {
            refresh: (Field::of("spec.refresh"), spec.refresh),
            max_age: (Field::of("spec.maxAge"), spec.max_age),
        }
    }
}

/// `refresh` and `maxAge` of a question to `CloudWatch`.
pub(super) fn of_cloudwatch(
    report: &mut Report<'_>,
    context: &Context<'_>,
    asked: &Asked,
    query: &CloudWatchQuery,
) -> (Duration, Duration) {
    let (refresh_field, given) = &asked.refresh;
    let (age_field, given_age) = &asked.max_age;
    let floor = query.period.max(CLOUDWATCH_FLOOR);
    if let Some(refresh) = given
        && refresh.0 < floor
    {
        let why = if floor > CLOUDWATCH_FLOOR {
            format!("CloudWatch has a new datapoint once a period, {}", GoDuration(query.period))
        } else {
            "CloudWatch bills every read".to_owned()
        };
        let floor = GoDuration(floor);
        report
            .add(refresh_field, format!("refresh {refresh} is below the floor of {floor}: {why}"));
    }
    let wanted = given.map_or(context.defaults.refresh, |given| given.0).max(floor);
    let refresh = query.effective_refresh(wanted);
    let least = query.delay + query.period * LEAST_PERIODS + refresh;
    let mut default = (query.delay + query.period * DEFAULT_PERIODS).max(least + refresh);
    if query.manner.is_as_written() {
        // Whatever the window holds is served until it leaves it.
        default = default.max(query.lookback + refresh * 2);
    }
    let max_age = given_age.map_or(default, |given| given.0);
    if max_age < least && !report.has_problem(refresh_field) {
        let how = match (given, refresh == wanted) {
            (Some(_), true) => "",
            (Some(_), false) => " (rounded up to whole periods)",
            (None, _) => " (the default here)",
        };
        let message = format!(
            "maxAge {} is below {} = delay {} + {LEAST_PERIODS} periods of {} + refresh {}{how}: a sample is as old as the start of its bucket, so this one would be too old before the next is read; set maxAge to {} or more",
            GoDuration(max_age),
            GoDuration(least),
            GoDuration(query.delay),
            GoDuration(query.period),
            GoDuration(refresh),
            GoDuration(least),
        );
        report.add(age_field, message);
    }
    (refresh, max_age)
}

fn of_any(report: &mut Report<'_>, context: &Context<'_>, spec: &Spec) -> (Duration, Duration) {
    let defaults = context.defaults;
    let (refresh_field, age_field) = (Field::of("spec.refresh"), Field::of("spec.maxAge"));
    if let Some(refresh) = spec.refresh
        && refresh.0 < REFRESH_FLOOR
    {
        let floor = GoDuration(REFRESH_FLOOR);
        report.add(&refresh_field, format!("refresh {refresh} is below the floor of {floor}"));
    }
    let refresh = spec.refresh.map_or(defaults.refresh.max(REFRESH_FLOOR), |d| d.0);
    let max_age = spec.max_age.map_or(defaults.max_age, |d| d.0);
    let known = report.has_problem(&refresh_field) || report.has_problem(&age_field);
    if max_age < refresh && !known {
        let word = |explicit: bool| if explicit { "" } else { " (the default)" };
        let message = format!(
            "maxAge {}{} is below refresh {}{}: every sample would be too old before the next is read; set maxAge to {} or more",
            GoDuration(max_age),
            word(spec.max_age.is_some()),
            GoDuration(refresh),
            word(spec.refresh.is_some()),
            GoDuration(refresh * 2),
        );
        // The complaint stands where something was written.
        let field = if spec.max_age.is_some() { &age_field } else { &refresh_field };
        report.add(field, message);
    }
    (refresh, max_age)
}
