use std::time::Duration;

use super::*;
use crate::definition::tests::{entry, fixed, one};
use crate::model::{Entry, OnNoData, Scope};

/// A definition with this spec, which begins in line 5.
fn document(kind: &str, spec: &str) -> String {
    let namespace = if kind.starts_with("Cluster") { "" } else { ", namespace: team-a" };
    let spec: Vec<String> = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: tidepole.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: rate{namespace}}}\nspec:\n{}",
        spec.concat()
    )
}

fn own(spec: &str) -> String {
    document("CustomMetric", spec)
}

fn wide(spec: &str) -> String {
    document("ClusterCustomMetric", spec)
}

fn mistakes(text: &str) -> Vec<String> {
    one(text).expect_err(text)
}

fn template(entry: &Entry) -> &ObjectsTemplate {
    match &entry.query {
        QueryTemplate::PerObjects(template) => template,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_definition_of_objects_becomes_an_entry() {
    let entry = entry(&own(
        "metric: Http_Requests\nresource: ingresses.networking.k8s.io\nprometheus:\n  query: 'sum by (i) (x{ns=\"$namespace\",i=~\"$objects\"})'\n  objectLabel: i\n  lookbackDelta: 1m\nrefresh: 30s\nonNoData: 0\nscale: \"0.5\"\nmax: 2k",
    ));
    assert_eq!(entry.id.to_string(), "CustomMetric team-a/rate");
    assert_eq!(entry.metric.as_str(), "Http_Requests", "as it is");
    let of = ObjectsOf { resource: "ingresses.networking.k8s.io".into(), label: Some("i".into()) };
    assert_eq!(entry.objects, Some(of));
    assert_eq!(entry.scope, Scope::Namespace("team-a".into()));
    let template = template(&entry);
    assert_eq!(&*template.query, "sum by (i) (x{ns=\"team-a\",i=~\"$objects\"})");
    assert_eq!(template.lookback_delta, Some(Duration::from_mins(1)));
    assert_eq!(template.source.as_str(), "main");
    assert_eq!(entry.policy.refresh, Duration::from_secs(30));
    assert_eq!(entry.policy.on_no_data, OnNoData::Value(0_u64.into()));
    assert_eq!(entry.transform.max, Some(2000_u64.into()));
}

#[test]
fn the_question_is_as_complete_as_the_query_lets_it_be() {
    let of = |kind: &str, query: &str| {
        entry(&document(kind, &format!("resource: pods\nprometheus: {{query: '{query}'}}")))
    };
    let per_namespace = "x{ns=\"$namespace\",p=~\"a$\"}";
    assert!(matches!(
        of("ClusterCustomMetric", per_namespace).query,
        QueryTemplate::PerNamespace { shape: AnswerShape::Vector, .. }
    ));
    let complete = of("CustomMetric", per_namespace);
    let QuerySpec::Prometheus(asked) = &fixed(&complete).spec else { panic!() };
    assert_eq!(&*asked.query, "x{ns=\"team-a\",p=~\"a$\"}");
    assert_eq!(asked.shape, AnswerShape::Vector);
    assert!(
        of("ClusterCustomMetric", "x{ns=\"$namespace\",p=~\"$objects\"}").query.needs_namespace()
    );
    let scope = "namespaces: [a]\nresource: pods\nprometheus: {query: x}\nkeepWarm: true";
    let scope = entry(&wide(scope));
    assert_eq!(scope.scope, Scope::Listed(["a".into()].into()));
    assert!(scope.policy.keep_warm);
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let pods = |rest: &str| own(&format!("resource: pods\n{rest}"));
    let queried = |query: &str| pods(&format!("prometheus:\n  query: '{query}'"));
    let rows: Vec<(String, &str)> = vec![
        (own("prometheus: {query: x}"), "5:3: spec.resource: this field is missing"),
        (pods("refresh: 15s"), "5:3: spec.prometheus: this field is missing"),
        (pods("prometheus: {query: ' '}"), "6:23: spec.prometheus.query: the query is empty"),
        (
            own("resource: networking.k8s.io/v1/ingresses\nprometheus: {query: x}"),
            "5:13: spec.resource: \"networking.k8s.io/v1/ingresses\" is no resource: <plural>[.<group>] in lower case, like pods, deployments.apps or ingresses.networking.k8s.io",
        ),
        (
            pods("prometheus: {query: x, objectLabel: 'a b'}"),
            "6:39: spec.prometheus.objectLabel: \"a b\" is no name of a label of a series",
        ),
        (
            pods("prometheus: {query: x, objectLable: a}"),
            "6:26: spec.prometheus.objectLable: unknown field; did you mean `objectLabel`?",
        ),
        (
            queried("x{p=~\"$object\"}"),
            "7:12: spec.prometheus.query: unknown placeholder $object; did you mean `$objects`?",
        ),
        (
            queried("x{p=~\"$__range\"}"),
            "7:12: spec.prometheus.query: unknown placeholder $__range; there are $objects and $namespace",
        ),
        (
            queried("x{p=\"$objects\"}"),
            "7:12: spec.prometheus.query: $objects stands for a regular expression; compare it with =~, not with =",
        ),
        (
            queried("x{p != \"$objects\"}"),
            "7:12: spec.prometheus.query: $objects stands for a regular expression; compare it with !~, not with !=",
        ),
        (
            pods("prometheus: {query: x}\nlabels: {a: b}"),
            "7:3: spec.labels: a metric of objects has no labels: HPAs choose the objects by theirs",
        ),
        (
            pods("prometheus: {query: x}\naggregate: sum"),
            "7:3: spec.aggregate: a metric of objects has one value for each object; write the aggregate into the query, as in sum by (pod) (...)",
        ),
        (
            pods("prometheus: {query: x}\nnamespaces: [a]"),
            "7:3: spec.namespaces: only ClusterCustomMetric has this field; a CustomMetric is seen in its own namespace",
        ),
        (
            pods("prometheus: {query: 'x{p=~\"$objects\"}'}\nkeepWarm: true"),
            "7:13: spec.keepWarm: keepWarm needs a query without $objects: for which objects a definition is to be refreshed is known by its reads alone",
        ),
        (
            wide("resource: pods\nprometheus: {query: 'x{n=\"$namespace\"}'}\nkeepWarm: true"),
            "7:13: spec.keepWarm: keepWarm needs a query without $namespace, or a CustomMetric: for which namespaces a cluster-wide definition is to be refreshed is known by their reads alone",
        ),
        (
            pods("prometheus: {query: x}\nsource: sim"),
            "7:11: spec.source: source sim is of kind simulated, but prometheus needs one of kind prometheus; there is main",
        ),
        (
            pods("prometheus: {query: x}\nmetric: a/b"),
            "7:11: spec.metric: a metric name must not be \".\" or \"..\" and must not contain \"/\", \"%\", white space or control characters: \"a/b\"",
        ),
    ];
    for (text, wanted) in rows {
        assert_eq!(mistakes(&text), [wanted], "{text}");
    }
    assert_eq!(
        mistakes(&pods("simulated: {constant: 1}")),
        [
            "5:3: spec.prometheus: this field is missing",
            "6:3: spec.simulated: metrics of objects come from Prometheus; an ExternalMetric can have this",
        ]
    );
}

#[test]
fn external_metrics_are_about_no_objects() {
    let text =
        document("ExternalMetric", "resource: pods\nprometheus: {query: x, objectLabel: pod}");
    let why = "only CustomMetric and ClusterCustomMetric have this field: an external metric is about no objects";
    assert_eq!(
        mistakes(&text),
        [format!("5:3: spec.resource: {why}"), format!("6:26: spec.prometheus.objectLabel: {why}")]
    );
}
