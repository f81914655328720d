use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::model::{
    Cause, Decimal, DefinitionId, DefinitionKind, FetchError, Labels, MetricName, ObjectsOf,
    OnNoData, Origin, Policy, QuerySpec, Scope, SimulatedQuery, SourceName, Tick,
};

fn entry(name: &str, scope: Scope, labels: &[(&str, &str)], value: i64) -> Entry {
    let (kind, namespace) = match &scope {
        Scope::Namespace(ns) => (DefinitionKind::ExternalMetric, Some(Arc::clone(ns))),
        _ => (DefinitionKind::ClusterExternalMetric, None),
    };
    Entry {
        id: DefinitionId { kind, namespace, name: name.into() },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::external("depth").unwrap(),
        scope,
        labels: Labels::new(labels.iter().copied()),
        query: QueryTemplate::Fixed(Arc::new(Query {
            source: SourceName::new("sim"),
            spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(value))),
        })),
        policy: Arc::new(Policy {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }),
        objects: None,
        transform: Arc::default(),
    }
}

fn in_namespace(namespace: &str) -> Scope {
    Scope::Namespace(namespace.into())
}

fn seen(catalog: &Catalog, namespace: &str) -> Vec<String> {
    let snapshot = catalog.snapshot();
    let Some(listing) = snapshot.listing("depth") else { return Vec::new() };
    listing.visible(namespace, |_| false).map(|s| s.entry.id.name.to_string()).collect()
}

fn conflicts(catalog: &Catalog) -> Vec<(String, bool)> {
    let snapshot = catalog.snapshot();
    snapshot.conflicts().iter().map(|c| (c.loser.name.to_string(), c.total)).collect()
}

#[test]
fn definitions_with_other_labels_share_a_name() {
    let catalog = Catalog::new();
    catalog.apply_files(
        vec![
            entry("a", in_namespace("default"), &[("queue", "a")], 1),
            entry("b", in_namespace("default"), &[("queue", "b")], 2),
            entry("c", in_namespace("other"), &[("queue", "a")], 3),
        ],
        Vec::new(),
    );
    assert_eq!(seen(&catalog, "default"), ["a", "b"]);
    assert_eq!(seen(&catalog, "other"), ["c"]);
    assert_eq!(seen(&catalog, "third"), Vec::<String>::new());
    assert!(conflicts(&catalog).is_empty());
}

#[test]
fn of_two_equals_the_older_stays_and_the_other_is_reported() {
    let catalog = Catalog::new();
    catalog.apply_files(
        vec![
            entry("old", in_namespace("default"), &[], 1),
            entry("new", in_namespace("default"), &[], 2),
        ],
        Vec::new(),
    );
    assert_eq!(seen(&catalog, "default"), ["old"]);
    assert_eq!(conflicts(&catalog), [("new".to_owned(), true)]);
    assert_eq!(
        catalog.snapshot().conflicts()[0].to_string(),
        "metrics.yaml:1: ExternalMetric default/new defines metric depth with the same labels as \
         ExternalMetric default/old (metrics.yaml:1) and is not served"
    );
}

#[test]
fn a_namespaced_definition_shadows_a_cluster_wide_one_only_at_home() {
    let catalog = Catalog::new();
    catalog.apply_files(
        vec![
            entry("wide", Scope::All, &[], 1),
            entry("own", in_namespace("default"), &[], 2),
            entry(
                "listed",
                Scope::Listed(BTreeSet::from(["x".into(), "y".into()])),
                &[("zone", "a")],
                3,
            ),
        ],
        Vec::new(),
    );
    assert_eq!(seen(&catalog, "default"), ["own"]);
    assert_eq!(seen(&catalog, "x"), ["wide", "listed"]);
    assert_eq!(seen(&catalog, "z"), ["wide"]);
    assert_eq!(conflicts(&catalog), [("wide".to_owned(), false)]);
}

#[test]
fn a_query_keeps_its_value_across_a_change_and_a_dropped_one_is_retired() {
    let catalog = Catalog::new();
    let changes = catalog.subscribe();
    catalog.apply_files(
        vec![
            entry("a", in_namespace("default"), &[("n", "1")], 1),
            entry("b", in_namespace("default"), &[("n", "2")], 2),
        ],
        Vec::new(),
    );
    let cell = |value: i64| {
        let query = entry("x", Scope::All, &[], value).query.resolve("any").unwrap();
        catalog.snapshot().cell(&query).cloned()
    };
    let (one, two) = (cell(1).unwrap(), cell(2).unwrap());
    assert_eq!(one.definition(), "ExternalMetric default/a");
    one.complete(Err(FetchError::NoData(Cause::new("x"))), Tick(1), Timestamp::UNIX_EPOCH);

    let mut faster = entry("renamed", Scope::All, &[], 1);
    Arc::make_mut(&mut faster.policy).refresh = Duration::from_secs(5);
    catalog.apply_files(vec![faster], Vec::new());

    assert!(Arc::ptr_eq(&one, &cell(1).unwrap()));
    assert!(one.state().is_tried());
    assert_eq!(one.refresh(), Duration::from_secs(5));
    assert_eq!(one.definition(), "ClusterExternalMetric renamed");
    assert!(!one.is_retired());
    assert!(two.is_retired());
    assert_eq!(*changes.borrow(), 2);
}

#[test]
fn metrics_of_objects_stand_apart_by_name_and_resource() {
    let of = |name: &str, scope: Scope, resource: &str, value| {
        let mut entry = entry(name, scope, &[], value);
        entry.id.kind = match &entry.id.namespace {
            Some(_) => DefinitionKind::CustomMetric,
            None => DefinitionKind::ClusterCustomMetric,
        };
        entry.objects = Some(ObjectsOf { resource: resource.into(), label: None });
        entry
    };
    let catalog = Catalog::new();
    catalog.apply_files(
        vec![
            entry("external", Scope::All, &[], 1),
            of("pods", Scope::All, "pods", 2),
            of("again", Scope::All, "pods", 3),
            of("own", in_namespace("default"), "pods", 4),
            of("nodes", Scope::All, "nodes", 5),
        ],
        Vec::new(),
    );
    assert_eq!(seen(&catalog, "default"), ["external"]);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.names().len(), 1);
    let custom = |namespace: &str| -> Vec<String> {
        let listings = snapshot.custom("depth").iter();
        let first = |(resource, listing): &(Arc<str>, Listing)| {
            let served = listing.visible(namespace, |_| false).next()?;
            Some(format!("{resource} {}", served.entry.id.name))
        };
        listings.filter_map(first).collect()
    };
    assert_eq!(custom("default"), ["pods own", "nodes nodes"]);
    assert_eq!(custom("other"), ["pods pods", "nodes nodes"]);
    assert!(snapshot.custom("other").is_empty());
    assert_eq!(snapshot.custom_names().count(), 2);
    assert_eq!(snapshot.served().count(), 4);
    assert_eq!(snapshot.cells().count(), 4, "a complete question keeps its cell");
    assert_eq!(conflicts(&catalog), [("again".to_owned(), true), ("pods".to_owned(), false)]);
    assert_eq!(
        snapshot.conflicts()[0].to_string(),
        "metrics.yaml:1: ClusterCustomMetric again defines metric depth of pods, as does \
         ClusterCustomMetric pods (metrics.yaml:1) and is not served"
    );
}
