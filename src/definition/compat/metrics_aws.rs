//! `ExternalMetric` of the group `metrics.aws`: the resources of k8s-cloudwatch-adapter.
//!
//! Responsible for: what such a resource means, as v0.10.0 and later sources of that adapter read it.
//! What it did and what is different here is listed, case by case, in
//! `deploy/k8s-cloudwatch-adapter/differences.md`. Not responsible for: asking for it
//! ([`Manner::AsWritten`](crate::model::Manner::AsWritten)), and its CRD.
//!
//! Invariants: fields that are not known are nobody's problem, because the original's CRD has no
//! schema and people's resources hold all sorts of them; a field that is known and has a wrong type
//! is the problem of its resource alone.

mod annotations;
mod question;
mod spec;

use std::sync::Arc;

use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::resource::Resource;
use crate::definition::yaml::Place;
use crate::definition::{Context, Definition, freshness};
use crate::model::{
    Decimal, Entry, Labels, MetricName, OnNoData, Origin, Policy, Query, QuerySpec, QueryTemplate,
    Scope, Transform,
};
use annotations::Annotations;

/// Reads a resource.
pub(in crate::definition) fn read(
    resource: &Resource<'_>,
    mut report: Report<'_>,
    context: &Context<'_>,
    origin: Origin,
) -> Definition {
    let entry = translate(&mut report, resource, context, origin);
    let id = Some(resource.id.clone());
    let outcome = match entry {
        Some(entry) if report.is_clean() => Ok(entry),
        entry => {
            if entry.is_none() && report.is_clean() {
                let message = "this resource cannot be used, for a reason that was not found; please report it";
                report.add(&Field::of("spec"), message);
            }
            Err(report.into_problems())
        }
    };
    Definition { id, question: Place::default(), outcome }
}

fn translate(
    report: &mut Report<'_>,
    resource: &Resource<'_>,
    context: &Context<'_>,
    origin: Origin,
) -> Option<Entry> {
    let id = resource.id;
    let metric = report.check(&Field::of("metadata.name"), MetricName::external(&id.name));
    let asked = annotations::read(report, resource.annotations);
    let spec = spec::read(report, resource.spec);
    let namespace = id.namespace.as_ref()?;
    let (source, query) = question::question(report, context, &asked, &spec, namespace)?;
    let policy = policy(report, context, asked, &query);
    let spec = QuerySpec::CloudWatch(Box::new(query));
    Some(Entry {
        id: id.clone(),
        origin,
        metric: metric?,
        objects: None,
        // Also the original looks it up by the namespace of the request.
        scope: Scope::Namespace(Arc::clone(namespace)),
        labels: Labels::empty(),
        query: QueryTemplate::Fixed(Arc::new(Query { source, spec })),
        policy: Arc::new(policy),
        // Below zero, too: the original cuts nothing off but fractions.
        transform: Arc::new(Transform { min: None, ..Transform::default() }),
    })
}

fn policy(
    report: &mut Report<'_>,
    context: &Context<'_>,
    asked: Annotations,
    query: &crate::model::CloudWatchQuery,
) -> Policy {
    let (refresh, max_age) = freshness::of_cloudwatch(report, context, &asked.freshness, query);
    Policy {
        refresh,
        max_age,
        // Its users rely on it for idle queues, of which CloudWatch soon has no datapoints.
        on_no_data: asked.on_no_data.unwrap_or(OnNoData::Value(Decimal::ZERO)),
        first_read_timeout: context.defaults.first_read_timeout,
        keep_warm: false,
    }
}

#[cfg(test)]
mod tests;
