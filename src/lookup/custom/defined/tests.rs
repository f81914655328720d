use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::cache::{Demand, OnDemand};
use crate::lookup::{Cluster, Lookup};
use crate::model::{
    Announce, AnswerShape, Cause, Clock, CustomRequest, DefinitionId, DefinitionKind, FetchError,
    Foresee, GroupResource, Labels, ManualClock, MetricName, MetricReference, MetricsProvider,
    Miss, ObjectChoice, ObjectReference, ObjectsOf, ObjectsTemplate, Origin, Policy,
    PrometheusQuery, QuerySpec, Reading, ReferenceKind, Resource, Scope, Series, SourceName, Tick,
    Transform,
};

/// Takes whatever is wanted.
#[derive(Default)]
struct Wanted(Mutex<Vec<Arc<QueryCell>>>);

impl Demand for Wanted {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if cell.claim_schedule(Tick(3_600_000)) {
            self.0.lock().unwrap().push(Arc::clone(cell));
        }
        Admission::Accepted
    }

    fn hurry(&self, _cell: &Arc<QueryCell>) {}
}

struct Teams;

impl NamespaceDirectory for Teams {
    fn labels(&self, namespace: &str) -> Option<Labels> {
        namespace.strip_prefix("team-").map(|team| Labels::new([("team", team)]))
    }
}

/// A cluster with pods, ingresses, nodes and namespaces.
struct Known;

impl ResourceDirectory for Known {
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        let rows = [
            ("", "pods", "Pod", "pod", true),
            ("", "nodes", "Node", "node", false),
            ("", "namespaces", "Namespace", "namespace", false),
            ("networking.k8s.io", "ingresses", "Ingress", "ingress", true),
        ];
        let word = resource.to_lowercase();
        let row = rows.into_iter().find(|(of, plural, _, singular, _)| {
            (word == *plural || word == *singular) && (group.is_empty() || group == *of)
        });
        let (group, plural, kind, singular, namespaced) = row?;
        Some(Arc::new(Resource {
            id: GroupResource { group: group.into(), resource: plural.into() },
            version: "v1".into(),
            kind: kind.into(),
            singular: singular.into(),
            namespaced,
        }))
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// Web and database pods in every namespace, but for that which is being listed.
struct Pods;

impl ObjectDirectory for Pods {
    fn names(&self, set: &ObjectSet) -> Objects {
        let ObjectNames::Matching(selector) = &set.names else {
            let ObjectNames::One(name) = &set.names else { panic!("nobody asks for all") };
            return Objects::Known([Arc::clone(name)].into());
        };
        match set.namespace.as_deref() {
            Some("listed") => return Objects::Listing,
            Some("denied") => return Objects::Unavailable("pods cannot be listed".into()),
            _ => {}
        }
        let pods = [("db-0", "db"), ("web-a", "web"), ("web-b", "web")];
        let mine =
            pods.into_iter().filter(|(_, app)| selector.matches(&Labels::new([("app", *app)])));
        Objects::Known(mine.map(|(name, _)| Arc::from(name)).collect())
    }

    fn listed(&self, _: &Arc<Resource>) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

struct NoScales;

impl crate::model::ScaleDirectory for NoScales {
    fn pods_of(
        &self,
        _namespace: &Arc<str>,
        _target: &crate::model::ObjectReference,
    ) -> crate::model::TargetPods {
        crate::model::TargetPods::Unknown
    }
}

struct House {
    lookup: Lookup,
    wanted: Arc<Wanted>,
    clock: Arc<ManualClock>,
}

fn house(entries: Vec<Entry>) -> House {
    let catalog = Arc::new(Catalog::new());
    catalog.apply_files(entries, Vec::new());
    let (wanted, clock) = (Arc::new(Wanted::default()), Arc::new(ManualClock::default()));
    let lookup = Lookup::new(
        catalog,
        Arc::default(),
        Arc::new(OnDemand::new()),
        wanted.clone(),
        Arc::new(Teams),
        Some(Cluster {
            resources: Arc::new(Known),
            objects: Arc::new(Pods),
            scales: Arc::new(NoScales),
        }),
        clock.clone(),
    );
    House { lookup, wanted, clock }
}

/// What the questions are called in these tests: the expression of those that are complete.
fn text(cell: &QueryCell) -> String {
    cell.query().spec.to_string()
}

impl House {
    fn asked(&self) -> Vec<String> {
        self.wanted.0.lock().unwrap().iter().map(|cell| text(cell)).collect()
    }

    /// Ends a fetch of a question with one series for each object, named by this label.
    fn fetched(&self, query: &str, label: &str, result: Result<&[(&str, &str)], FetchError>) {
        let cells = self.wanted.0.lock().unwrap();
        let cell = cells.iter().find(|cell| text(cell) == query);
        let cell = cell.unwrap_or_else(|| panic!("nobody wants {query}"));
        let series = |(name, value): &(&str, &str)| Series {
            labels: Labels::new([("job", "x"), (label, *name)]),
            value: value.parse().unwrap(),
        };
        let result = result.map(|rows| Sample {
            timestamp: self.clock.now(),
            observed: self.clock.tick(),
            series: rows.iter().map(series).collect(),
            without_number: Vec::new(),
            warnings: Vec::new(),
        });
        cell.complete(result, self.clock.tick(), self.clock.now());
    }

    fn reading(&self, path: &str, labels: &str, metric_labels: &str) -> Reading<CustomReading> {
        let parts: Vec<&str> = path.split('/').collect();
        let [namespace, resource, name, metric] = parts[..] else { panic!("{path}") };
        let labels = Selector::parse(labels).unwrap();
        self.lookup.custom(&CustomRequest {
            resource,
            namespace: (!namespace.is_empty()).then_some(namespace),
            objects: match name {
                "*" => ObjectChoice::Matching(&labels),
                name => ObjectChoice::Named(name),
            },
            metric,
            metric_selector: &Selector::parse(metric_labels).unwrap(),
        })
    }

    fn select(&self, path: &str, labels: &str) -> Result<Vec<String>, ApiError> {
        match self.reading(path, labels, "") {
            Reading::Ready(result) => result.map(|reading| {
                let item = |item: CustomItem| {
                    let DescribedObject { kind, name, api_version, .. } = item.object;
                    format!("{api_version} {kind} {name}={}", item.value)
                };
                reading.items.into_iter().map(item).collect()
            }),
            Reading::Wait(_) => Ok(vec!["waits".to_owned()]),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<String>, ApiError> {
        self.select(path, "")
    }

    fn refused(&self, path: &str) -> String {
        self.read(path).unwrap_err().to_string()
    }
}

fn entry(name: &str, resource: &str, scope: Scope, query: &str) -> Entry {
    let source = SourceName::new("main");
    let (shape, lookback_delta) = (AnswerShape::Vector, None);
    let template = if query.contains("$objects") {
        QueryTemplate::PerObjects(ObjectsTemplate { source, query: query.into(), lookback_delta })
    } else if query.contains("$namespace") {
        QueryTemplate::PerNamespace { source, query: query.into(), lookback_delta, shape }
    } else {
        let spec =
            QuerySpec::Prometheus(PrometheusQuery { query: query.into(), lookback_delta, shape });
        QueryTemplate::Fixed(Arc::new(Query { source, spec }))
    };
    let namespace = match &scope {
        Scope::Namespace(namespace) => Some(Arc::clone(namespace)),
        _ => None,
    };
    let kind = match &namespace {
        Some(_) => DefinitionKind::CustomMetric,
        None => DefinitionKind::ClusterCustomMetric,
    };
    Entry {
        id: DefinitionId { kind, namespace, name: name.into() },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::custom("Rate").unwrap(),
        objects: Some(ObjectsOf { resource: resource.into(), label: None }),
        scope,
        labels: Labels::empty(),
        query: template,
        policy: Arc::new(Policy {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }),
        transform: Arc::default(),
    }
}

fn shop() -> Scope {
    Scope::Namespace("shop".into())
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what a read gives")]
fn strings(items: &[&str]) -> Result<Vec<String>, ApiError> {
    Ok(items.iter().map(|&item| item.to_owned()).collect())
}

#[test]
fn each_set_of_objects_is_asked_about_where_the_query_names_them() {
    let house =
        house(vec![entry("a", "pods", Scope::All, "x{ns=\"$namespace\",pod=~\"$objects\"}")]);
    assert_eq!(house.select("shop/pods/*/Rate", "app=web"), strings(&["waits"]));
    assert_eq!(house.read("shop/pods/db-0/Rate"), strings(&["waits"]));
    assert_eq!(house.select("bank/pods/*/Rate", "app=web"), strings(&["waits"]));
    let web = "x{ns=\"shop\",pod=~\"$objects\"} by pod of pods (app=web) in shop";
    let db = "x{ns=\"shop\",pod=~\"$objects\"} by pod of pods db-0 in shop";
    assert_eq!(house.asked()[..2], [web, db]);
    assert!(house.asked()[2].starts_with("x{ns=\"bank\""), "{:?}", house.asked());
    // An object that is not asked for, or gone, is not told; nor is one without a series.
    house.fetched(web, "pod", Ok(&[("db-0", "9"), ("web-b", "1.5"), ("web-z", "7")]));
    assert_eq!(house.select("shop/pods/*/Rate", "app=web"), strings(&["/v1 Pod web-b=1500m"]));
    house.fetched(db, "pod", Ok(&[("db-0", "2")]));
    assert_eq!(house.read("shop/pods/db-0/Rate"), strings(&["/v1 Pod db-0=2"]));
    // Names of metrics of objects are exact.
    assert!(house.refused("shop/pods/*/rate").starts_with("the server could not find"));
}

#[test]
fn a_query_without_objects_is_asked_once_for_everybody() {
    let house = house(vec![entry("a", "pods", Scope::All, "x{ns=\"$namespace\"}")]);
    assert_eq!(house.select("shop/pods/*/Rate", "app=web"), strings(&["waits"]));
    assert_eq!(house.select("shop/pods/*/Rate", "app=db"), strings(&["waits"]));
    assert_eq!(house.asked(), ["x{ns=\"shop\"}"]);
    house.fetched("x{ns=\"shop\"}", "pod", Ok(&[("web-b", "1"), ("web-a", "2"), ("db-0", "3")]));
    let web = || house.select("shop/pods/*/Rate", "app=web");
    assert_eq!(web(), strings(&["/v1 Pod web-a=2", "/v1 Pod web-b=1"]));
    assert_eq!(house.select("shop/pods/*/Rate", "app=db"), strings(&["/v1 Pod db-0=3"]));
    // The next answer counts, not what was seen in the last.
    house.fetched("x{ns=\"shop\"}", "pod", Ok(&[("web-b", "5")]));
    assert_eq!(web(), strings(&["/v1 Pod web-b=5"]));
}

#[test]
fn an_answer_that_cannot_be_told_apart_is_an_error_and_no_number() {
    let mut of = entry("a", "pods", shop(), "x");
    Arc::make_mut(&mut of.policy).on_no_data = OnNoData::Value(Decimal::ZERO);
    let house = house(vec![of]);
    house.read("shop/pods/*/Rate").unwrap();
    house.fetched("x", "instance", Ok(&[("web-a", "1")]));
    let why = house.refused("shop/pods/*/Rate");
    assert!(
        why.starts_with("Rate of pods in shop: no series of the answer has the label pod"),
        "{why}"
    );
    house.fetched("x", "pod", Ok(&[("web-a", "1"), ("web-a", "2")]));
    let why = house.refused("shop/pods/web-a/Rate");
    assert!(why.contains("several series of the answer have pod=\"web-a\""), "{why}");
}

#[test]
fn an_object_without_a_series_is_no_zero() {
    let house = house(vec![entry("a", "pods", shop(), "x")]);
    house.read("shop/pods/*/Rate").unwrap();
    house.fetched("x", "pod", Ok(&[("db-0", "1")]));
    assert_eq!(house.read("shop/pods/*/Rate"), strings(&["/v1 Pod db-0=1"]));
    assert_eq!(
        house.read("shop/pods/web-a/Rate"),
        Err(ApiError::NoValue(
            "Rate of pods in shop: no series of the answer has pod=\"web-a\" (source main)".into()
        ))
    );
    assert_eq!(
        house.select("shop/pods/*/Rate", "app=web"),
        Err(ApiError::NoValue(
            "Rate of pods in shop: none of the 2 objects has a series in the answer (their names are looked for in label pod) (source main)"
                .into()
        ))
    );
}

#[test]
fn a_number_for_the_case_without_data_counts_where_no_object_has_any() {
    let mut of = entry("a", "pods", shop(), "x");
    Arc::make_mut(&mut of.policy).on_no_data = OnNoData::Value(4_i64.into());
    let house = house(vec![of]);
    house.read("shop/pods/*/Rate").unwrap();
    let web = || house.select("shop/pods/*/Rate", "app=web");
    house.fetched("x", "pod", Ok(&[("db-0", "1")]));
    assert_eq!(web(), strings(&["/v1 Pod web-a=4", "/v1 Pod web-b=4"]));
    house.fetched("x", "pod", Ok(&[("web-b", "1")]));
    assert_eq!(web(), strings(&["/v1 Pod web-b=1"]));
    house.fetched("x", "pod", Err(FetchError::NoData(Cause::new("an empty vector"))));
    assert_eq!(web(), strings(&["/v1 Pod web-a=4", "/v1 Pod web-b=4"]));
}

#[test]
fn a_failed_call_is_no_case_without_data() {
    let mut of = entry("a", "pods", shop(), "x");
    Arc::make_mut(&mut of.policy).on_no_data = OnNoData::Value(Decimal::ZERO);
    let house = house(vec![of]);
    house.read("shop/pods/*/Rate").unwrap();
    house.fetched("x", "pod", Ok(&[("db-0", "1")]));
    house.fetched("x", "pod", Err(FetchError::Timeout(Cause::new("no answer within 5s"))));
    // What the last answer has is held; what it has not may have begun since.
    assert_eq!(house.read("shop/pods/db-0/Rate"), strings(&["/v1 Pod db-0=1"]));
    assert_eq!(
        house.refused("shop/pods/web-a/Rate"),
        "Rate of pods in shop: no series of the answer has pod=\"web-a\", which is held because: no answer within 5s (source main)"
    );
    house.fetched("x", "pod", Ok(&[("db-0", "1")]));
    assert_eq!(house.read("shop/pods/web-a/Rate"), strings(&["/v1 Pod web-a=0"]));
}

#[test]
fn values_go_through_the_arithmetic() {
    let mut of = entry("a", "ingresses.networking.k8s.io", shop(), "x");
    of.transform = Arc::new(Transform {
        scale: "0.5".parse().unwrap(),
        max: Some(10_i64.into()),
        ..Transform::default()
    });
    let house = house(vec![of]);
    house.read("shop/ingress.networking.k8s.io/main/Rate").unwrap();
    house.fetched("x", "ingress", Ok(&[("main", "5"), ("other", "900")]));
    assert_eq!(
        house.read("shop/ingresses/main/Rate"),
        strings(&["networking.k8s.io/v1 Ingress main=2500m"])
    );
    assert_eq!(
        house.read("shop/ingresses/other/Rate"),
        strings(&["networking.k8s.io/v1 Ingress other=10"])
    );
}

#[test]
fn failures_are_told_with_their_reason() {
    let house = house(vec![entry("a", "pods", Scope::All, "x")]);
    let bad = Reading::resolve(house.reading("shop/pods/*/Rate", "", "verb=GET"));
    let Err(ApiError::BadRequest(text)) = bad.now_or_never().unwrap() else { panic!() };
    assert!(text.contains("metricLabelSelector"), "{text}");
    let ApiError::NoValue(text) = house.read("denied/pods/*/Rate").unwrap_err() else { panic!() };
    assert_eq!(text, "Rate of pods in denied: pods cannot be listed");
    let ApiError::MetricNotFound(text) = house.select("shop/pods/*/Rate", "app=x").unwrap_err()
    else {
        panic!()
    };
    assert_eq!(text, "Rate of pods in shop: no pods match the selector \"app=x\"");
    let ApiError::MetricNotFound(text) = house.read("/pods/*/Rate").unwrap_err() else { panic!() };
    assert_eq!(text, "Rate of pods in the cluster: pods are in namespaces; ask for those of one");
    house.read("shop/pods/*/Rate").unwrap();
    house.fetched("x", "pod", Err(FetchError::Denied(Cause::new("401"))));
    assert_eq!(house.refused("shop/pods/*/Rate"), "Rate of pods in shop: 401 (source main)");
}

#[tokio::test(start_paused = true)]
async fn a_first_read_waits_only_so_long() {
    let house = house(vec![entry("a", "pods", Scope::All, "x")]);
    let late = house.reading("shop/pods/*/Rate", "", "").resolve().await;
    let Err(ApiError::FirstReadTimeout(text)) = late else { panic!("{late:?}") };
    assert_eq!(
        text,
        "Rate of pods in shop: source main has not yet answered the first Prometheus query; waited 2s"
    );
    let late = house.reading("listed/pods/*/Rate", "", "").resolve().await;
    let Err(ApiError::FirstReadTimeout(text)) = late else { panic!("{late:?}") };
    assert_eq!(text, "Rate of pods in listed: the pods have not been listed yet; waited 2s");
}

#[test]
fn a_definition_of_the_namespace_goes_first_however_it_writes_the_resource() {
    let teams = Scope::Selected(Selector::parse("team=a").unwrap());
    let house = house(vec![
        entry("wide", "ingresses.networking.k8s.io", Scope::All, "wide"),
        entry("own", "ingresses", shop(), "own"),
        entry("team", "nodes", teams, "team"),
    ]);
    house.read("shop/ingresses/main/Rate").unwrap();
    house.read("bank/ingresses/main/Rate").unwrap();
    assert_eq!(house.asked(), ["own", "wide"]);
    house.read("team-a/nodes/n1/Rate").unwrap();
    assert_eq!(house.asked()[2], "team");
    house.fetched("team", "node", Ok(&[("n1", "1")]));
    assert_eq!(house.read("team-a/nodes/n1/Rate"), strings(&["/v1 Node n1=1"]));
    assert!(house.refused("team-b/nodes/n1/Rate").starts_with("the server could not find"));
    assert!(house.refused("/nodes/n1/Rate").starts_with("the server could not find"));
    assert!(house.refused("no such/nodes/n1/Rate").starts_with("the server could not find"));
    let names: Vec<String> = house
        .lookup
        .custom_names()
        .iter()
        .map(|name| format!("{}/{} {}", name.resource, name.metric, name.namespaced))
        .collect();
    assert_eq!(names, ["nodes/Rate false", "ingresses.networking.k8s.io/Rate true"]);
}

#[test]
fn a_namespace_is_seen_in_itself() {
    let house = house(vec![
        entry("own", "namespaces", shop(), "own"),
        entry("wide", "namespaces", Scope::Listed(["bank".into()].into()), "x{ns=\"$namespace\"}"),
        entry("nodes", "nodes", Scope::All, "x{ns=\"$namespace\"}"),
    ]);
    house.read("/namespaces/shop/Rate").unwrap();
    house.read("/namespaces/bank/Rate").unwrap();
    assert_eq!(house.asked(), ["own", "x{ns=\"bank\"}"]);
    house.fetched("own", "namespace", Ok(&[("shop", "3")]));
    assert_eq!(house.read("/namespaces/shop/Rate"), strings(&["/v1 Namespace shop=3"]));
    assert!(house.refused("/namespaces/other/Rate").starts_with("the server could not find"));
    let why = house.refused("/nodes/n1/Rate");
    assert!(why.contains("has $namespace in it"), "{why}");
}

#[test]
fn a_resource_that_the_cluster_does_not_have_is_named() {
    let house = house(vec![entry("typo", "pdos", shop(), "x")]);
    for path in ["shop/pods/*/Rate", "shop/pdos/*/Rate", "shop/pdos/a/Rate"] {
        let error = house.read(path).unwrap_err();
        let ApiError::MetricUnknown(text) = error else { panic!("{error:?}") };
        assert!(
            text.ends_with("; CustomMetric shop/typo (metrics.yaml:1) is about pdos, a resource that the cluster does not have"),
            "{text}"
        );
    }
    assert!(!house.refused("bank/pods/*/Rate").contains("typo"), "it is not seen there");
    assert!(house.lookup.custom_names().is_empty());
}

#[test]
fn an_onlooker_sees_definitions_and_targets_without_pods() {
    let house = house(vec![
        entry("a", "pods", shop(), "x"),
        entry("b", "pods", Scope::Namespace("bank".into()), "y"),
    ]);
    let foresee = |namespace: &str, metric: &str, kind: ReferenceKind| {
        let reference = MetricReference {
            namespace: namespace.into(),
            metric: metric.into(),
            selector: Selector::default(),
            kind,
        };
        let outlook = house.lookup.foresee(&reference);
        let by: Vec<String> = outlook.definitions.iter().map(ToString::to_string).collect();
        (by.join(" "), outlook.answer)
    };
    let reference = |kind: &str, name: &str| ObjectReference {
        api_version: "v1".into(),
        kind: kind.into(),
        name: name.into(),
    };
    let pod = |name: &str| ReferenceKind::Object { object: reference("Pod", name) };
    let pods = || ReferenceKind::Pods { target: reference("Deployment", "web") };
    assert_eq!(
        foresee("shop", "Rate", pod("web-a")),
        ("CustomMetric shop/a".to_owned(), Err(Miss::Untried))
    );
    house.read("shop/pods/web-a/Rate").unwrap();
    house.fetched("x", "pod", Ok(&[("web-a", "7")]));
    assert_eq!(
        foresee("shop", "Rate", pod("web-a")),
        ("CustomMetric shop/a".to_owned(), Ok("7".to_owned()))
    );
    let (by, Err(Miss::NoValue { message })) = foresee("shop", "Rate", pods()) else { panic!() };
    assert_eq!(by, "CustomMetric shop/a");
    assert!(message.contains("the pods of Deployment web are not known"), "{message}");
    let (_, Err(Miss::Unknown { elsewhere, near, .. })) = foresee("team", "Rate", pods()) else {
        panic!()
    };
    let elsewhere: Vec<String> = elsewhere.iter().map(ToString::to_string).collect();
    assert_eq!(elsewhere, ["CustomMetric bank/b", "CustomMetric shop/a"]);
    assert!(near.is_empty());
    let (_, Err(Miss::Unknown { near, .. })) = foresee("shop", "rates", pods()) else { panic!() };
    assert_eq!(near, [Arc::from("Rate")]);
}

#[test]
fn hpas_make_metrics_of_objects_wanted() {
    let house = house(vec![
        entry("a", "ingresses", Scope::All, "x{ns=\"$namespace\",i=~\"$objects\"}"),
        entry("own", "ingresses", shop(), "own"),
    ]);
    let reference = |namespace: &str, metric: &str| MetricReference {
        namespace: namespace.into(),
        metric: metric.into(),
        selector: Selector::default(),
        kind: ReferenceKind::Object {
            object: ObjectReference {
                api_version: "networking.k8s.io/v1".into(),
                kind: "Ingress".into(),
                name: "main".into(),
            },
        },
    };
    let claim = |namespace, metric| {
        let claim = Claim { round: Tick(7_200_000), hpas: 1 };
        house.lookup.claim(&reference(namespace, metric), claim)
    };
    assert_eq!(claim("bank", "Rate"), Announced::Waiting);
    assert_eq!(claim("shop", "Rate"), Announced::Waiting);
    assert_eq!(claim("shop", "rate"), Announced::Unknown);
    let bank =
        "x{ns=\"bank\",i=~\"$objects\"} by ingress of ingresses.networking.k8s.io main in bank";
    assert_eq!(house.asked(), [bank, "own"]);
    house.fetched(bank, "ingress", Ok(&[("main", "1")]));
    assert_eq!(claim("bank", "Rate"), Announced::Tried);
    let one = "networking.k8s.io/v1 Ingress main=1".to_owned();
    assert_eq!(house.read("bank/ingresses/main/Rate"), Ok(vec![one]));
}
