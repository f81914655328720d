//! From a document to a catalog entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::definition::Context;
use crate::definition::decode::decode;
use crate::definition::document::{
    API_VERSION, Document, LabelOperator, LabelSelector, Metadata, Spec,
};
use crate::definition::field::{Field, closest};
use crate::definition::freshness;
use crate::definition::names;
use crate::definition::objects;
use crate::definition::question::question;
use crate::definition::report::Report;
use crate::model::{
    Aggregate, Decimal, DefinitionId, DefinitionKind, Entry, Labels, MetricName, OnNoData, Origin,
    QueryTemplate, Requirement, Scope, Selector, Transform,
};

/// Which definition a document is, as far as it can be told; also for documents that are wrong
/// elsewhere.
pub(super) fn identify(report: &mut Report<'_>) -> Option<DefinitionId> {
    let root = report.root();
    let text = |field: &str| root.find(&Field::of(field)).and_then(|node| node.text());
    let kind = match text("kind") {
        None => {
            let known = listed("or");
            report.add(&Field::of("kind"), format!("this field is missing; it is {known}"));
            return None;
        }
        Some("ServerConfig") => {
            let message = "this is a server config, not a definition; give it to `serve --config`";
            report.add(&Field::of("kind"), message);
            return None;
        }
        Some(kind) => {
            let Some(found) = kind_of(kind) else {
                let message = match closest(kind, DefinitionKind::ALL.map(DefinitionKind::as_str)) {
                    Some(near) => format!("unknown kind {kind:?}; did you mean `{near}`?"),
                    None => {
                        format!("unknown kind {kind:?}; this version knows {}", listed("and"))
                    }
                };
                report.add(&Field::of("kind"), message);
                return None;
            };
            found
        }
    };
    let namespace =
        if kind.is_namespaced() { Some(Arc::from(text("metadata.namespace")?)) } else { None };
    Some(DefinitionId { kind, namespace, name: text("metadata.name")?.into() })
}

fn kind_of(name: &str) -> Option<DefinitionKind> {
    DefinitionKind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

/// All kinds in a sentence.
fn listed(conjunction: &str) -> String {
    let [first @ .., last] = DefinitionKind::ALL.map(DefinitionKind::as_str);
    format!("{} {conjunction} {last}", first.join(", "))
}

/// The kind that sees the same in one namespace.
fn namespaced(kind: DefinitionKind) -> &'static str {
    if kind.is_custom() { "a CustomMetric" } else { "an ExternalMetric" }
}

/// The entry of a document; `None` when the report holds what is wrong with it.
pub(super) fn translate(
    report: &mut Report<'_>,
    context: &Context<'_>,
    origin: Origin,
) -> Option<Entry> {
    let document: Document = decode(report, &Field::root())?;
    let field = Field::of("apiVersion");
    if let Some(version) = report.require(&field, document.api_version.as_deref())
        && version != API_VERSION
    {
        report
            .add(&field, format!("unknown version {version:?}; this version knows {API_VERSION}"));
    }
    let kind = kind_of(document.kind.as_deref()?)?;
    let id = id(report, kind, &document.metadata);
    let namespace = id.as_ref().and_then(|id| id.namespace.as_deref());
    let spec = &document.spec;
    let metric = metric(report, kind, spec, &document.metadata);
    objects::check_keys(report, kind);
    let objects = if kind.is_custom() { Some(objects::objects_of(report, spec)) } else { None };
    let labels = labels(report, spec);
    let scope = scope(report, context, kind, spec, namespace);
    let query = if kind.is_custom() {
        objects::question(report, context, spec, namespace)
    } else {
        question(report, context, spec, namespace)
    };
    let policy = freshness::policy(report, context, spec, query.as_ref());
    let transform = transform(report, spec);
    check_no_data(report, spec, &policy.on_no_data);
    check_keep_warm(report, kind, spec, query.as_ref());
    Some(Entry {
        id: id?,
        origin,
        metric: metric?,
        objects: match objects {
            Some(objects) => Some(objects?),
            None => None,
        },
        scope: scope?,
        labels,
        query: query?,
        policy: Arc::new(policy),
        transform: Arc::new(transform),
    })
}

fn id(report: &mut Report<'_>, kind: DefinitionKind, metadata: &Metadata) -> Option<DefinitionId> {
    let base = Field::of("metadata");
    let name = report.require(&base.key("name"), metadata.name.as_deref());
    let name = name.and_then(|name| {
        report.check(&base.key("name"), names::dns_subdomain(name))?;
        Some(name)
    });
    let field = base.key("namespace");
    let namespace = match (kind.is_namespaced(), metadata.namespace.as_deref()) {
        (true, namespace) => {
            let namespace = report.require(&field, namespace)?;
            report.check(&field, names::dns_label(namespace))?;
            Some(namespace)
        }
        (false, Some(_)) => {
            let message = format!(
                "{} has no namespace; remove it, or make this {}, or limit it by spec.namespaces",
                kind.as_str(),
                namespaced(kind)
            );
            report.add(&field, message);
            return None;
        }
        (false, None) => None,
    };
    Some(DefinitionId { kind, namespace: namespace.map(Into::into), name: name?.into() })
}

fn metric(
    report: &mut Report<'_>,
    kind: DefinitionKind,
    spec: &Spec,
    metadata: &Metadata,
) -> Option<MetricName> {
    let checked = if kind.is_custom() { MetricName::custom } else { MetricName::external };
    let field = Field::of("spec.metric");
    match &spec.metric {
        Some(name) => report.check(&field, checked(name)),
        None if report.has_problem(&field) => None,
        None => {
            let name = metadata.name.as_deref()?;
            report.check(&Field::of("metadata.name"), checked(name))
        }
    }
}

fn labels(report: &mut Report<'_>, spec: &Spec) -> Labels {
    let base = Field::of("spec.labels");
    check_labels(report, &base, &spec.labels);
    Labels::new(spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

fn check_labels<'a>(
    report: &mut Report<'_>,
    base: &Field,
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) {
    for (key, value) in labels {
        if let Err(error) = names::label_key(key) {
            report.add_key(base, key, error.to_string());
        }
        report.check(&base.key(key), names::label_value(value));
    }
}

fn scope(
    report: &mut Report<'_>,
    context: &Context<'_>,
    kind: DefinitionKind,
    spec: &Spec,
    namespace: Option<&str>,
) -> Option<Scope> {
    let base = Field::of("spec");
    let (listed, selected) = (base.key("namespaces"), base.key("namespaceSelector"));
    if kind.is_namespaced() {
        for key in ["namespaces", "namespaceSelector"] {
            if report.is_set(&base.key(key)) {
                let message = format!(
                    "only Cluster{} has this field; {} is seen in its own namespace",
                    kind.as_str(),
                    namespaced(kind)
                );
                report.add_key(&base, key, message);
            }
        }
        return Some(Scope::Namespace(namespace?.into()));
    }
    if report.is_set(&listed) && report.is_set(&selected) {
        report.add_key(
            &base,
            "namespaceSelector",
            "namespaces and namespaceSelector exclude each other",
        );
    }
    if let Some(namespaces) = &spec.namespaces {
        if namespaces.is_empty() {
            report.add(&listed, "the list is empty: nobody could see the metric");
        }
        if !report.has_problem(&listed) {
            for (index, namespace) in namespaces.iter().enumerate() {
                report.check(&listed.index(index), names::dns_label(namespace));
            }
        }
        let set: BTreeSet<Arc<str>> = namespaces.iter().map(|n| n.as_str().into()).collect();
        return Some(Scope::Listed(set));
    }
    match &spec.namespace_selector {
        Some(selector) => {
            if !context.cluster {
                let message = "namespaceSelector needs a cluster, and kubernetes.enabled is false in the server config; list the namespaces in spec.namespaces";
                report.add_key(&base, "namespaceSelector", message);
            }
            selector_of(report, &selected, selector).map(Scope::Selected)
        }
        None => Some(Scope::All),
    }
}

fn selector_of(report: &mut Report<'_>, base: &Field, spec: &LabelSelector) -> Option<Selector> {
    use crate::model::Operator;

    check_labels(report, &base.key("matchLabels"), &spec.match_labels);
    let mut requirements: Vec<Requirement> = spec
        .match_labels
        .iter()
        .map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        })
        .collect();
    let list = base.key("matchExpressions");
    if report.has_problem(&list) {
        return None;
    }
    for (index, expression) in spec.match_expressions.iter().enumerate() {
        let item = list.index(index);
        let key = report.require(&item.key("key"), expression.key.as_deref());
        if let Some(key) = key {
            report.check(&item.key("key"), names::label_key(key));
        }
        let operator = report.require(&item.key("operator"), expression.operator);
        for (position, value) in expression.values.iter().enumerate() {
            report.check(&item.key("values").index(position), names::label_value(value));
        }
        let (Some(key), Some(operator)) = (key, operator) else { continue };
        let operator = match operator {
            LabelOperator::In => Operator::In,
            LabelOperator::NotIn => Operator::NotIn,
            LabelOperator::Exists => Operator::Exists,
            LabelOperator::DoesNotExist => Operator::DoesNotExist,
        };
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        if takes_values == expression.values.is_empty() {
            let message = if takes_values {
                "In and NotIn need at least one value"
            } else {
                "Exists and DoesNotExist take no values"
            };
            report.add(&item.key("values"), message);
        }
        let values: BTreeSet<String> = expression.values.iter().cloned().collect();
        requirements.push(Requirement {
            key: key.to_owned(),
            operator,
            values: values.into_iter().collect(),
        });
    }
    Some(Selector::new(requirements))
}

fn check_keep_warm(
    report: &mut Report<'_>,
    kind: DefinitionKind,
    spec: &Spec,
    query: Option<&QueryTemplate>,
) {
    if !spec.keep_warm {
        return;
    }
    let message = match query {
        Some(QueryTemplate::PerObjects(_)) => {
            "keepWarm needs a query without $objects: for which objects a definition is to be refreshed is known by its reads alone".to_owned()
        }
        Some(QueryTemplate::PerNamespace { .. }) => format!(
            "keepWarm needs a query without $namespace, or {}: for which namespaces a cluster-wide definition is to be refreshed is known by their reads alone",
            namespaced(kind)
        ),
        Some(QueryTemplate::Fixed(_)) | None => return,
    };
    report.add(&Field::of("spec.keepWarm"), message);
}

fn check_no_data(report: &mut Report<'_>, spec: &Spec, on_no_data: &OnNoData) {
    if let OnNoData::Value(value) = on_no_data
        && value.is_negative()
        && !spec.allow_negative
    {
        let message = format!("{value} is below 0; set allowNegative: true if that is meant");
        report.add(&Field::of("spec.onNoData"), message);
    }
}

fn transform(report: &mut Report<'_>, spec: &Spec) -> Transform {
    let base = Field::of("spec");
    let given = |number: &Option<crate::definition::scalar::Number>| {
        number.as_ref().map(|number| number.0.clone())
    };
    let min = given(&spec.min);
    if let Some(min) = &min
        && min.is_negative()
        && !spec.allow_negative
    {
        let message = format!("min {min} is below 0; set allowNegative: true if that is meant");
        report.add(&base.key("min"), message);
    }
    let min = min.or((!spec.allow_negative).then_some(Decimal::ZERO));
    let max = given(&spec.max);
    if let (Some(min), Some(max)) = (&min, &max)
        && max < min
        && !report.has_problem(&base.key("min"))
    {
        report.add(&base.key("max"), format!("max {max} is below min {min}"));
    }
    Transform {
        scale: given(&spec.scale).unwrap_or(Decimal::ONE),
        offset: given(&spec.offset).unwrap_or(Decimal::ZERO),
        min,
        max,
        aggregate: spec.aggregate.map_or(Aggregate::None, Into::into),
    }
}
