//! What a definition asks of its source: the part of `spec` under `prometheus`, `sqs`,
//! `cloudwatch` or `simulated`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::definition::Context;
use crate::definition::aws;
use crate::definition::cloudwatch;
use crate::definition::document::{PrometheusSpec, Spec, SqsSpec};
use crate::definition::field::{Field, closest};
use crate::definition::reach;
use crate::definition::report::Report;
use crate::definition::signal;
use crate::definition::yaml::Place;
use crate::model::query::{NAMESPACE_PLACEHOLDER, in_namespace};
use crate::model::{
    AnswerShape, ProblemKind, PrometheusQuery, Query, QuerySpec, QueryTemplate, QueueCount,
    QueueRef, SourceDirectory, SourceKind, SourceName, SourceProfile, SqsQuery,
};

/// The keys under which a spec holds its question, and the kind of source that answers each.
pub(super) const KINDS: [(&str, SourceKind); 4] = [
    ("prometheus", SourceKind::Prometheus),
    ("sqs", SourceKind::Aws),
    ("cloudwatch", SourceKind::Aws),
    ("simulated", SourceKind::Simulated),
];

/// The source that answers.
pub(super) struct Chosen<'a> {
    pub(super) name: SourceName,
    /// None when definitions are checked without sources.
    pub(super) profile: Option<&'a SourceProfile>,
}

/// The question of a spec. `namespace` is the definition's own, none for the cluster-wide kind.
pub(super) fn question(
    report: &mut Report<'_>,
    context: &Context<'_>,
    spec: &Spec,
    namespace: Option<&str>,
) -> Option<QueryTemplate> {
    let parent = Field::of("spec");
    let keys = KINDS.map(|(key, _)| key);
    let key = report.exactly_one(&parent, &keys);
    // Without a single kind the source cannot be judged, but a wrong one in each can.
    let kind = key.and_then(|key| KINDS.iter().find(|(k, _)| *k == key)).map(|(_, kind)| *kind);
    let source = kind.and_then(|kind| choose(report, context, spec, key?, kind, namespace));
    let profile = source.as_ref().and_then(|source| source.profile);
    let mut template = None;
    if let Some(prometheus) = &spec.prometheus {
        template = prometheus_template(report, prometheus, source.as_ref(), namespace);
    }
    let mut fixed = None;
    if let Some(sqs) = &spec.sqs {
        fixed = sqs_query(report, sqs, profile, context.sources.is_none()).map(QuerySpec::Sqs);
    }
    if let Some(spec) = &spec.cloudwatch {
        let query = cloudwatch::query(report, spec, profile, context.sources.is_none());
        fixed = query.map(Box::new).map(QuerySpec::CloudWatch);
    }
    if let Some(simulated) = &spec.simulated {
        fixed = signal::query(report, context, simulated).map(QuerySpec::Simulated);
    }
    if template.is_some() {
        return template;
    }
    Some(QueryTemplate::Fixed(Arc::new(Query { source: source?.name, spec: fixed? })))
}

/// Where the question of a document is written.
pub(super) fn place(report: &Report<'_>) -> Place {
    let spec = Field::of("spec");
    let key = KINDS.iter().map(|(key, _)| spec.key(key)).find(|field| report.is_set(field));
    report.place_of(&key.unwrap_or(spec))
}

pub(super) fn choose<'a>(
    report: &mut Report<'_>,
    context: &Context<'a>,
    spec: &Spec,
    key: &str,
    kind: SourceKind,
    namespace: Option<&str>,
) -> Option<Chosen<'a>> {
    let (field, parent) = (Field::of("spec.source"), Field::of("spec"));
    let wanted =
        Wanted { named: spec.source.as_deref(), field: &field, parent: &parent, key, kind };
    choose_named(report, context, &wanted, namespace)
}

/// Which source a definition wants.
pub(super) struct Wanted<'a> {
    /// Its name, where the definition says it.
    pub(super) named: Option<&'a str>,
    /// Where that is, or could be, said.
    pub(super) field: &'a Field,
    /// Where the key is that needs the source.
    pub(super) parent: &'a Field,
    /// The key that needs the source.
    pub(super) key: &'a str,
    /// What kind of source that takes.
    pub(super) kind: SourceKind,
}

/// The source that a definition wants, if it exists and may be used.
pub(super) fn choose_named<'a>(
    report: &mut Report<'_>,
    context: &Context<'a>,
    wanted: &Wanted<'_>,
    namespace: Option<&str>,
) -> Option<Chosen<'a>> {
    let Wanted { named, field, parent, key, kind } = *wanted;
    if report.has_problem(field) {
        return None;
    }
    let Some(directory) = context.sources else {
        let name = SourceName::new(named.unwrap_or(kind.as_str()));
        return Some(Chosen { name, profile: None });
    };
    let of_kind = || directory.iter().filter(move |source| source.kind == kind);
    let Some(name) = named else {
        let candidates: Vec<&SourceProfile> =
            of_kind().filter(|source| context.may_use(source, namespace)).collect();
        return match candidates[..] {
            [only] => Some(Chosen { name: only.name.clone(), profile: Some(only) }),
            [] => {
                let (why, what) = if of_kind().next().is_some() {
                    (ProblemKind::NotAllowed, "may be used here")
                } else {
                    (ProblemKind::SourceNotFound, "exists")
                };
                let message = format!(
                    "no source of kind {} {what}; the server config names its sources",
                    kind.as_str()
                );
                report.add_key_of(why, parent, key, message);
                None
            }
            _ => {
                let message = format!(
                    "several sources could answer ({}); name one of them here",
                    names(candidates)
                );
                report.add(field, message);
                None
            }
        };
    };
    let (why, message) = match directory.get(name) {
        None => (ProblemKind::SourceNotFound, unknown_source(name, directory)),
        Some(source) if source.kind != kind => {
            let others = names(of_kind());
            let hint = if others.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there is {others}")
            };
            let message = format!(
                "source {name} is of kind {}, but {key} needs one of kind {}; {hint}",
                source.kind.as_str(),
                kind.as_str()
            );
            (ProblemKind::Invalid, message)
        }
        Some(source) if !context.may_use(source, namespace) => {
            let message = format!(
                "definitions in namespace {} may not use source {name} (allowedNamespaces)",
                namespace.unwrap_or_default()
            );
            (ProblemKind::NotAllowed, message)
        }
        Some(source) => {
            return Some(Chosen { name: source.name.clone(), profile: Some(source) });
        }
    };
    report.add_of(why, field, message);
    None
}

fn unknown_source(name: &str, directory: &SourceDirectory) -> String {
    let all = names(directory.iter());
    match closest(name, directory.iter().map(|source| source.name.as_str())) {
        Some(near) => format!("there is no source {name:?}; did you mean `{near}`?"),
        None if all.is_empty() => {
            format!("there is no source {name:?}; the server config has none")
        }
        None => format!("there is no source {name:?}; the sources are {all}"),
    }
}

fn names<'a>(sources: impl IntoIterator<Item = &'a SourceProfile>) -> String {
    sources.into_iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What is sent as `lookback_delta`.
pub(super) fn lookback_delta(report: &mut Report<'_>, spec: &PrometheusSpec) -> Option<Duration> {
    let lookback_delta = spec.lookback_delta.map(|duration| duration.0);
    if lookback_delta.is_some_and(|duration| duration.is_zero()) {
        let field = Field::of("spec.prometheus.lookbackDelta");
        report.add(&field, "the duration must be above zero");
    }
    lookback_delta
}

fn prometheus_template(
    report: &mut Report<'_>,
    spec: &PrometheusSpec,
    source: Option<&Chosen<'_>>,
    namespace: Option<&str>,
) -> Option<QueryTemplate> {
    let base = Field::of("spec.prometheus");
    let lookback_delta = lookback_delta(report, spec);
    let query = report.require(&base.key("query"), spec.query.as_deref())?.trim();
    if query.is_empty() {
        report.add(&base.key("query"), "the query is empty");
        return None;
    }
    let source = source?.name.clone();
    let shape = AnswerShape::Items;
    // A namespaced definition is read in its own namespace only.
    let query: Arc<str> = match namespace {
        Some(namespace) => in_namespace(query, namespace).into(),
        None if query.contains(NAMESPACE_PLACEHOLDER) => {
            let query = query.into();
            return Some(QueryTemplate::PerNamespace { source, query, lookback_delta, shape });
        }
        None => query.into(),
    };
    let spec = QuerySpec::Prometheus(PrometheusQuery { query, lookback_delta, shape });
    Some(QueryTemplate::Fixed(Arc::new(Query { source, spec })))
}

fn sqs_query(
    report: &mut Report<'_>,
    spec: &SqsSpec,
    profile: Option<&SourceProfile>,
    without_sources: bool,
) -> Option<SqsQuery> {
    let base = Field::of("spec.sqs");
    let region = reach::region(report, &base.key("region"), spec.region.as_deref(), profile);
    let default = region
        .or_else(|| profile.and_then(|profile| profile.region.as_deref()))
        .or(without_sources.then_some(reach::UNKNOWN));
    let queues = queues(report, spec, profile, region, default);
    let count = counts(report, spec);
    let field = base.key("roleArn");
    let role = reach::role(report, &field, spec.role_arn.as_deref(), profile, without_sources);
    Some(SqsQuery { queues: queues?, count: count?, role_arn: role })
}

fn queues(
    report: &mut Report<'_>,
    spec: &SqsSpec,
    profile: Option<&SourceProfile>,
    region: Option<&str>,
    default: Option<&str>,
) -> Option<Vec<QueueRef>> {
    let field = Field::of("spec.sqs.queues");
    let named = report.require(&field, spec.queues.as_deref())?;
    // With an item left out, the others' positions are no longer those of the document.
    if report.has_problem(&field) {
        return None;
    }
    if named.is_empty() {
        report.add(&field, "at least one queue is needed");
        return None;
    }
    let mut unique = BTreeSet::new();
    for (index, text) in named.iter().enumerate() {
        let item = field.index(index);
        let Some(queue) = report.check(&item, aws::queue(text)) else { continue };
        let own = queue.region.as_deref();
        if let (Some(own), Some(region)) = (own, region)
            && own != region
        {
            let message = format!("this queue is in {own}, but spec.sqs.region says {region}");
            report.add(&item, message);
            continue;
        }
        if let Some(own) = own
            && !reach::is_allowed(report, &item, own, profile)
        {
            continue;
        }
        let Some(region) = own.or(default) else {
            if !report.has_problem(&Field::of("spec.sqs.region")) && profile.is_some() {
                report.add(&item, "the queue's region is not known; set spec.sqs.region");
            }
            continue;
        };
        let queue = QueueRef { region: region.into(), account: queue.account, name: queue.name };
        if !unique.insert(queue) {
            report.add(&item, "this queue is listed twice; its messages would count twice");
        }
    }
    Some(unique.into_iter().collect())
}

fn counts(report: &mut Report<'_>, spec: &SqsSpec) -> Option<Vec<QueueCount>> {
    let field = Field::of("spec.sqs.count");
    let Some(named) = &spec.count else {
        return Some(vec![QueueCount::Visible, QueueCount::InFlight]);
    };
    if report.has_problem(&field) {
        return None;
    }
    if named.is_empty() {
        report.add(&field, "at least one of visible, inFlight, delayed is needed");
        return None;
    }
    let unique: BTreeSet<QueueCount> = named.iter().map(|name| (*name).into()).collect();
    if unique.len() < named.len() {
        report.add(&field, "the same count is listed twice");
    }
    Some(unique.into_iter().collect())
}
