//! What a definition of a metric of objects asks: the part of `spec` that `ExternalMetric` has not,
//! and what of it makes no sense for objects.

use std::sync::Arc;

use crate::definition::Context;
use crate::definition::document::{PrometheusSpec, Spec};
use crate::definition::field::{Field, closest};
use crate::definition::names;
use crate::definition::question::{choose, lookback_delta};
use crate::definition::report::Report;
use crate::model::query::about::OBJECTS_PLACEHOLDER;
use crate::model::query::{NAMESPACE_PLACEHOLDER, in_namespace};
use crate::model::{
    AnswerShape, DefinitionKind, ObjectsOf, ObjectsTemplate, PrometheusQuery, Query, QuerySpec,
    QueryTemplate, SourceKind,
};

/// Keys of a spec that only external metrics have, and why.
pub(super) const EXTERNAL_ONLY: [(&str, &str); 5] = [
    ("labels", "a metric of objects has no labels: HPAs choose the objects by theirs"),
    (
        "aggregate",
        "a metric of objects has one value for each object; write the aggregate into the query, as in sum by (pod) (...)",
    ),
    ("sqs", "metrics of objects come from Prometheus; an ExternalMetric can have this"),
    ("cloudwatch", "metrics of objects come from Prometheus; an ExternalMetric can have this"),
    ("simulated", "metrics of objects come from Prometheus; an ExternalMetric can have this"),
];

/// Complains about what a spec says that its kind has no use for.
pub(super) fn check_keys(report: &mut Report<'_>, kind: DefinitionKind) {
    let spec = Field::of("spec");
    if kind.is_custom() {
        for (key, why) in EXTERNAL_ONLY {
            if report.is_set(&spec.key(key)) {
                report.add_key(&spec, key, why);
            }
        }
        return;
    }
    for (parent, key) in [(spec.clone(), "resource"), (spec.key("prometheus"), "objectLabel")] {
        if report.is_set(&parent.key(key)) {
            let message = "only CustomMetric and ClusterCustomMetric have this field: an external metric is about no objects";
            report.add_key(&parent, key, message);
        }
    }
}

/// Which objects a spec is about.
pub(super) fn objects_of(report: &mut Report<'_>, spec: &Spec) -> Option<ObjectsOf> {
    let label = spec.prometheus.as_ref().and_then(|asked| asked.object_label.as_deref());
    if let Some(label) = label
        && !is_label(label)
    {
        report.add(
            &Field::of("spec.prometheus.objectLabel"),
            format!("{label:?} is no name of a label of a series"),
        );
    }
    let field = Field::of("spec.resource");
    let resource = report.require(&field, spec.resource.as_deref())?;
    if names::dns_subdomain(resource).is_err() {
        let message = format!(
            "{resource:?} is no resource: <plural>[.<group>] in lower case, like pods, deployments.apps or ingresses.networking.k8s.io"
        );
        report.add(&field, message);
    }
    Some(ObjectsOf { resource: resource.into(), label: label.map(Into::into) })
}

/// Prometheus 3 takes any text, as long as it can be told from the rest of an expression.
fn is_label(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "\"'`{}(),=~!".contains(c);
    !text.is_empty() && !text.contains(odd)
}

/// The question of a spec about objects. `namespace` is the definition's own, none for the
/// cluster-wide kind.
pub(super) fn question(
    report: &mut Report<'_>,
    context: &Context<'_>,
    spec: &Spec,
    namespace: Option<&str>,
) -> Option<QueryTemplate> {
    let source = choose(report, context, spec, "prometheus", SourceKind::Prometheus, namespace);
    let asked: &PrometheusSpec =
        report.require(&Field::of("spec.prometheus"), spec.prometheus.as_ref())?;
    let lookback_delta = lookback_delta(report, asked);
    let field = Field::of("spec.prometheus.query");
    let query = report.require(&field, asked.query.as_deref())?.trim();
    if query.is_empty() {
        report.add(&field, "the query is empty");
        return None;
    }
    if let Err(message) = check_placeholders(query) {
        report.add(&field, message);
        return None;
    }
    let source = source?.name;
    // A namespaced definition is read in its own namespace only.
    let query: Arc<str> = match namespace {
        Some(namespace) => in_namespace(query, namespace).into(),
        None => query.into(),
    };
    let shape = AnswerShape::Vector;
    Some(if query.contains(OBJECTS_PLACEHOLDER) {
        QueryTemplate::PerObjects(ObjectsTemplate { source, query, lookback_delta })
    } else if query.contains(NAMESPACE_PLACEHOLDER) {
        QueryTemplate::PerNamespace { source, query, lookback_delta, shape }
    } else {
        let spec = QuerySpec::Prometheus(PrometheusQuery { query, lookback_delta, shape });
        QueryTemplate::Fixed(Arc::new(Query { source, spec }))
    })
}

/// Whether the placeholders are those that there are, and where they can work.
fn check_placeholders(query: &str) -> Result<(), String> {
    for (at, _) in query.match_indices('$') {
        let (before, after) = (&query[..at], &query[at..]);
        if after.starts_with(OBJECTS_PLACEHOLDER) {
            check_comparison(before)?;
            continue;
        }
        let end = after[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = &after[..end.map_or(after.len(), |end| end + 1)];
        // A dollar sign alone is the end of a regular expression.
        if word.len() == 1 || after.starts_with(NAMESPACE_PLACEHOLDER) {
            continue;
        }
        return Err(match closest(word, [OBJECTS_PLACEHOLDER, NAMESPACE_PLACEHOLDER]) {
            Some(near) => format!("unknown placeholder {word}; did you mean `{near}`?"),
            None => format!(
                "unknown placeholder {word}; there are {OBJECTS_PLACEHOLDER} and {NAMESPACE_PLACEHOLDER}"
            ),
        });
    }
    Ok(())
}

/// `$objects` is a pattern, which an equals sign takes by the letter.
fn check_comparison(before: &str) -> Result<(), String> {
    let Some(compared) = before.strip_suffix(['"', '\'', '`']) else { return Ok(()) };
    let compared = compared.trim_end();
    let (is, wanted) = if compared.ends_with("!=") { ("!=", "!~") } else { ("=", "=~") };
    if compared.ends_with(is) {
        return Err(format!(
            "{OBJECTS_PLACEHOLDER} stands for a regular expression; compare it with {wanted}, not with {is}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
