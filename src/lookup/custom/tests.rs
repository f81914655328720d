//! Reads of rules' metrics of objects.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::cache::{Admission, Demand, OnDemand, QueryCell};
use crate::lookup::Lookup;
use crate::model::{
    Clock, FetchError, Foresee, GroupResource, Labels, ManualClock, MetricsProvider, Miss,
    OnNoData, Series, SeriesShape, SourceName, Tick,
};
use crate::rules::{Listed, Registry, RuleFile};

#[derive(Default)]
struct Wanted(Mutex<Vec<Arc<QueryCell>>>);

impl Demand for Wanted {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if cell.claim_schedule(Tick(3_600_000)) {
            self.0.lock().unwrap().push(Arc::clone(cell));
        }
        Admission::Accepted
    }
}

/// Pods and namespaces; discovery may have failed so far.
#[derive(Default)]
struct Town {
    untold: bool,
}

impl ResourceDirectory for Town {
    fn resolve(&self, _group: &str, resource: &str) -> Option<Arc<Resource>> {
        let (plural, kind, namespaced) = match resource {
            "pod" | "pods" => ("pods", "Pod", true),
            "namespace" | "namespaces" => ("namespaces", "Namespace", false),
            _ => return None,
        };
        (!self.untold).then(|| {
            Arc::new(Resource {
                id: GroupResource { group: "".into(), resource: plural.into() },
                version: "v1".into(),
                kind: kind.into(),
                singular: kind.to_lowercase().into(),
                namespaced,
            })
        })
    }

    fn generation(&self) -> u64 {
        0
    }

    fn unknown_because(&self) -> Option<Arc<str>> {
        self.untold.then(|| "API discovery failed".into())
    }
}

impl ObjectDirectory for Town {
    fn names(&self, set: &ObjectSet) -> Objects {
        let pods = [("db-0", "db"), ("web-a", "web"), ("web-b", "web")];
        Objects::Known(match &set.names {
            ObjectNames::One(name) => [Arc::clone(name)].into(),
            ObjectNames::All => pods.iter().map(|(name, _)| Arc::from(*name)).collect(),
            ObjectNames::Matching(selector) => pods
                .iter()
                .filter(|(_, app)| selector.matches(&Labels::new([("app", *app)])))
                .map(|(name, _)| Arc::from(*name))
                .collect(),
        })
    }

    fn listed(&self, _: &Arc<Resource>) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

impl ScaleDirectory for Town {
    fn pods_of(&self, _: &Arc<str>, _: &ObjectReference) -> TargetPods {
        TargetPods::Selected(Selector::parse("app=web").unwrap())
    }
}

const RULE: &str = "rules:
- seriesQuery: 'raw{pod!=\"\"}'
  resources: {template: '<<.Resource>>'}
  metricsQuery: 'sum(<<.Series>>{pod=\"<<index .LabelValuesByName \"pod\">>\"}) by (<<.GroupBy>>)'
- seriesQuery: 'hits{pod!=\"\"}'
  resources: {template: '<<.Resource>>'}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
";

struct House {
    lookup: Lookup,
    wanted: Arc<Wanted>,
    clock: Arc<ManualClock>,
}

fn house(untold: bool) -> House {
    let file = RuleFile::parse(Path::new("rules.yaml"), RULE).unwrap();
    let policy = Arc::new(Policy {
        refresh: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        on_no_data: OnNoData::Error,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: false,
    });
    let listed = |(rule, name): (&Arc<crate::rules::Rule>, &str)| {
        let labels = ["namespace".into(), "pod".into()].into();
        Listed {
            rule: Arc::clone(rule),
            source: SourceName::new("main"),
            policy: Arc::clone(&policy),
            series: Some([SeriesShape { name: name.into(), labels }].into()),
        }
    };
    let listed: Vec<Listed> = file.custom.iter().zip(["raw", "hits"]).map(listed).collect();
    let rules = Arc::new(Rules::new());
    rules.replace(Arc::new(Registry::build(&listed, &[], &Town::default())));
    let (wanted, clock) = (Arc::new(Wanted::default()), Arc::new(ManualClock::default()));
    let lookup = Lookup::new(
        Arc::default(),
        rules,
        Arc::new(OnDemand::new()),
        wanted.clone(),
        Arc::new(NoLabels),
        Some(Cluster {
            resources: Arc::new(Town { untold }),
            objects: Arc::new(Town::default()),
            scales: Arc::new(Town::default()),
        }),
        clock.clone(),
    );
    House { lookup, wanted, clock }
}

struct NoLabels;

impl NamespaceDirectory for NoLabels {
    fn labels(&self, _: &str) -> Option<Labels> {
        None
    }
}

impl House {
    /// The questions that are wanted, by their objects.
    fn asked(&self) -> Vec<String> {
        let names = |cell: &Arc<QueryCell>| match &cell.query().spec {
            QuerySpec::Objects(asked) => match &asked.objects.names {
                ObjectNames::One(name) => name.to_string(),
                ObjectNames::Matching(selector) => selector.to_string(),
                ObjectNames::All => "all".to_owned(),
            },
            other => panic!("{other:?}"),
        };
        self.wanted.0.lock().unwrap().iter().map(names).collect()
    }

    fn fetched(&self, place: usize, result: Result<&[(&str, &str)], FetchError>) {
        let cell = Arc::clone(&self.wanted.0.lock().unwrap()[place]);
        let series = |(pod, value): &(&str, &str)| Series {
            labels: Labels::new([("pod", *pod)]),
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

    fn read(&self, namespace: &str, name: Option<&str>, labels: &str) -> Result<String, ApiError> {
        self.read_of("hits", namespace, name, labels)
    }

    fn read_of(
        &self,
        metric: &str,
        namespace: &str,
        name: Option<&str>,
        labels: &str,
    ) -> Result<String, ApiError> {
        let labels = Selector::parse(labels).unwrap();
        let reading = self.lookup.custom(&CustomRequest {
            resource: "pods",
            namespace: Some(namespace),
            objects: name.map_or(ObjectChoice::Matching(&labels), ObjectChoice::Named),
            metric,
            metric_selector: &Selector::default(),
        });
        match reading {
            Reading::Wait(_) => Ok("waits".to_owned()),
            Reading::Ready(result) => result.map(|reading| {
                let item = |item: &CustomItem| format!("{}={}", item.object.name, item.value);
                reading.items.iter().map(item).collect::<Vec<_>>().join(" ")
            }),
        }
    }
}

#[test]
fn objects_without_a_sample_are_left_out_and_none_is_zero() {
    let house = house(false);
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "waits");
    // Of a pod that is gone, and of none.
    house.fetched(0, Ok(&[("gone", "9"), ("web-b", "-7")]));
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "web-b=-7");
    house.fetched(0, Ok(&[("web-a", "1e19"), ("web-b", "2")]));
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "web-b=2", "beyond any quantity");
    house.fetched(0, Err(FetchError::NoData("empty".into())));
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "", "as the original: an empty list");
    let none = house.read("shop", None, "app=nobody").unwrap_err();
    assert!(matches!(none, ApiError::MetricNotFound(_)), "{none}");
    assert_eq!(house.asked(), ["app=web"], "what has no objects is not asked");
}

#[test]
fn one_object_without_a_sample_is_not_found_and_failures_hold_the_last_value() {
    let house = house(false);
    assert_eq!(house.read("shop", Some("web-a"), "").unwrap(), "waits");
    house.fetched(0, Ok(&[("web-a", "3")]));
    assert_eq!(house.read("shop", Some("web-a"), "").unwrap(), "web-a=3");
    house.fetched(0, Err(FetchError::Unavailable("down".into())));
    assert_eq!(house.read("shop", Some("web-a"), "").unwrap(), "web-a=3", "held");
    house.clock.advance(Duration::from_secs(121));
    let late = house.read("shop", Some("web-a"), "").unwrap_err();
    assert!(matches!(&late, ApiError::RuleFailed(text) if text.contains("down")), "{late}");
    house.fetched(0, Err(FetchError::NoData("empty".into())));
    let none = house.read("shop", Some("web-a"), "").unwrap_err();
    assert!(matches!(&none, ApiError::MetricNotFound(text) if text.ends_with("for pods web-a")));
}

#[test]
fn a_crowd_is_answered_by_one_question_and_leaves_its_answer_behind() {
    let house = house(false);
    house.read("shop", None, "app=web").unwrap();
    house.fetched(0, Ok(&[("web-a", "1"), ("web-b", "2")]));
    // The second set makes a crowd: all are asked about, and until that is known, each alone.
    assert_eq!(house.read("shop", None, "app=db").unwrap(), "waits");
    assert_eq!(house.asked(), ["app=web", "all", "app=db"]);
    house.fetched(1, Ok(&[("db-0", "30"), ("web-a", "10"), ("web-b", "20")]));
    assert_eq!(house.read("shop", None, "app=db").unwrap(), "db-0=30");
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "web-a=10 web-b=20");
    assert_eq!(house.asked().len(), 3);
    // Where it fails, everybody's own question is there.
    house.clock.advance(Duration::from_secs(100));
    house.fetched(0, Ok(&[("web-a", "4")]));
    house.clock.advance(Duration::from_secs(30));
    house.fetched(1, Err(FetchError::Malformed("too large".into())));
    assert_eq!(house.read("shop", None, "app=web").unwrap(), "web-a=4");
}

#[test]
fn an_onlooker_sees_what_an_hpa_makes_of_its_pods() {
    let house = house(false);
    let foresee = |metric: &str, kind: ReferenceKind| {
        let reference = MetricReference {
            namespace: "shop".into(),
            metric: metric.into(),
            selector: Selector::default(),
            kind,
        };
        match house.lookup.foresee(&reference).answer {
            Ok(number) => number,
            Err(Miss::Untried) => "untried".to_owned(),
            Err(Miss::NoMatch { message }) => format!("no match: {message}"),
            Err(Miss::NoValue { message }) => format!("no value: {message}"),
            Err(Miss::Unknown { message, near, .. }) => format!("unknown: {message}; {near:?}"),
        }
    };
    let object = |kind: &str, name: &str| ObjectReference {
        api_version: "v1".into(),
        kind: kind.into(),
        name: name.into(),
    };
    // `app=web`, as the scale of any target says here.
    let pods = || ReferenceKind::Pods { target: object("Deployment", "web") };
    let pod = |name: &str| ReferenceKind::Object { object: object("pod", name) };
    assert_eq!(foresee("hits", pods()), "untried");
    assert_eq!(foresee("hits", pod("db-0")), "untried");
    assert_eq!(house.asked(), Vec::<String>::new(), "nothing is wanted because of it");
    house.read("shop", None, "app=web").unwrap();
    house.fetched(0, Ok(&[("gone", "9"), ("web-a", "1"), ("web-b", "2.5")]));
    assert_eq!(foresee("hits", pods()), "1750m", "the average");
    assert_eq!(foresee("hits", pod("web-a")), "untried", "another question");
    // An onlooker makes no crowd.
    assert_eq!(house.asked(), ["app=web"]);
    house.read("shop", Some("web-a"), "").unwrap();
    house.fetched(1, Ok(&[("web-a", "3")]));
    assert_eq!(foresee("hits", pod("web-a")), "3");
    // Two sets of names are a crowd, whose one answer counts.
    assert_eq!(foresee("hits", pods()), "3");
    house.fetched(1, Err(FetchError::NoData("empty".into())));
    let none = foresee("hits", pods());
    assert!(none.starts_with("no match: hits in shop: the answer is an empty list"), "{none}");
    assert_eq!(
        foresee("hit", pods()),
        "unknown: the server could not find the metric hit for pods; [\"hits\"]"
    );
    assert_eq!(
        foresee("hits", ReferenceKind::Object { object: object("Ingress", "x") }),
        "no value: object metric hits in shop: the cluster has no objects v1 Ingress"
    );
}

#[test]
fn a_template_that_pastes_names_is_not_given_what_no_object_is_called() {
    let house = house(false);
    let injected = "x\"}) or vector(1) #";
    for (namespace, name) in [("shop", injected), ("shop\",x!=\"", "web-a")] {
        let error = house.read_of("raw", namespace, Some(name), "").unwrap_err();
        assert!(matches!(error, ApiError::MetricUnknown(_)), "{error}");
    }
    let claim = |metric: &str| {
        let object =
            ObjectReference { api_version: "v1".into(), kind: "Pod".into(), name: injected.into() };
        let reference = MetricReference {
            namespace: "shop".into(),
            metric: metric.into(),
            selector: Selector::default(),
            kind: ReferenceKind::Object { object },
        };
        let claim = Claim { round: Tick(1), hpas: 1 };
        crate::model::Announce::claim(&house.lookup, &reference, claim)
    };
    assert_eq!(claim("raw"), Announced::Unknown);
    assert_eq!(house.asked(), Vec::<String>::new());
    // In a matcher it is quoted, as by the original.
    assert_eq!(house.read("shop", Some(injected), "").unwrap(), "waits");
    let QuerySpec::Objects(asked) = &house.wanted.0.lock().unwrap()[0].query().spec.clone() else {
        panic!("a question about objects")
    };
    let text = asked.text.0.write(Some(&[injected.into()])).unwrap();
    assert!(text.contains(r#"pod="x\"}) or vector(1) #""#), "{text}");
}

#[test]
fn a_cluster_that_was_never_told_of_is_not_an_empty_one() {
    let error = house(true).read("shop", Some("web-a"), "").unwrap_err();
    assert!(matches!(&error, ApiError::RuleFailed(text) if text.contains("API discovery failed")));
}
