use std::sync::Mutex;
use std::time::Duration;

use futures::poll;

use super::*;
use crate::model::{
    Aggregate, Cause, Decimal, DefinitionId, DefinitionKind, Entry, FetchError, ManualClock,
    OnNoData, Operator, Origin, Policy, PrometheusQuery, Query, QuerySpec, Requirement, Sample,
    Series, SourceName, Transform,
};

#[derive(Default)]
struct Wanted {
    cells: Mutex<Vec<Arc<QueryCell>>>,
    full: std::sync::atomic::AtomicBool,
}

impl Demand for Wanted {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            return Admission::Full;
        }
        if cell.claim_schedule(Tick(3_600_000)) {
            self.cells.lock().unwrap().push(Arc::clone(cell));
        }
        Admission::Accepted
    }
}

struct Teams;

impl NamespaceDirectory for Teams {
    fn labels(&self, namespace: &str) -> Option<Labels> {
        namespace.strip_prefix("team-").map(|team| Labels::new([("team", team)]))
    }
}

struct House {
    lookup: ExternalLookup,
    wanted: Arc<Wanted>,
    clock: Arc<ManualClock>,
    catalog: Arc<Catalog>,
}

fn house(entries: Vec<Entry>) -> House {
    let catalog = Arc::new(Catalog::new());
    catalog.apply_files(entries, Vec::new());
    let (wanted, clock) = (Arc::new(Wanted::default()), Arc::new(ManualClock::default()));
    let lookup = ExternalLookup::new(
        Arc::clone(&catalog),
        Arc::new(OnDemand::new()),
        wanted.clone(),
        Arc::new(Teams),
        clock.clone(),
    );
    House { lookup, wanted, clock, catalog }
}

impl House {
    /// Ends a fetch of the query with this text.
    fn fetched(&self, query: &str, result: Result<&[(&str, &str)], FetchError>) {
        let cells = self.wanted.cells.lock().unwrap();
        let cell = cells
            .iter()
            .rev()
            .find(|cell| text(cell) == query)
            .unwrap_or_else(|| panic!("nobody wants {query}"));
        let result = result.map(|series| Sample {
            timestamp: self.clock.now(),
            observed: self.clock.tick(),
            series: series
                .iter()
                .map(|(queue, value)| Series {
                    labels: if queue.is_empty() {
                        Labels::empty()
                    } else {
                        Labels::new([("queue", *queue)])
                    },
                    value: value.parse().unwrap(),
                })
                .collect(),
            warnings: Vec::new(),
        });
        cell.complete(result, self.clock.tick(), self.clock.now());
    }

    fn read(&self, namespace: &str, selector: &Selector) -> Result<Vec<String>, ApiError> {
        match self.lookup.external(namespace, "Depth", selector) {
            Reading::Ready(result) => result.map(|reading| {
                reading.items.iter().map(|i| format!("{}={}", i.labels, i.value)).collect()
            }),
            Reading::Wait(_) => panic!("the read would wait"),
        }
    }
}

fn text(cell: &QueryCell) -> &str {
    match &cell.query().spec {
        QuerySpec::Prometheus(query) => &query.query,
        other => panic!("not a Prometheus query: {other:?}"),
    }
}

fn entry(name: &str, scope: Scope, labels: &[(&str, &str)], query: &str) -> Entry {
    let template = if query.contains("$namespace") {
        QueryTemplate::PerNamespace {
            source: SourceName::new("main"),
            query: query.into(),
            lookback_delta: None,
        }
    } else {
        QueryTemplate::Fixed(Arc::new(Query {
            source: SourceName::new("main"),
            spec: QuerySpec::Prometheus(PrometheusQuery {
                query: query.into(),
                lookback_delta: None,
            }),
        }))
    };
    Entry {
        id: DefinitionId {
            kind: DefinitionKind::ClusterExternalMetric,
            namespace: None,
            name: name.into(),
        },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::external("depth").unwrap(),
        scope,
        labels: Labels::new(labels.iter().copied()),
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

fn select(key: &str, operator: Operator, values: &[&str]) -> Selector {
    Selector::new(vec![Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|&v| v.to_owned()).collect(),
    }])
}

fn down() -> FetchError {
    FetchError::Unavailable(Cause::new("connection refused"))
}

#[tokio::test(start_paused = true)]
async fn the_first_read_waits_for_one_fetch_and_later_ones_do_not() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    let any = Selector::default();
    let Reading::Wait(mut first) = house.lookup.external("default", "depth", &any) else {
        panic!("nothing is known yet")
    };
    assert!(poll!(&mut first).is_pending());
    let Reading::Wait(second) = house.lookup.external("default", "depth", &any) else {
        panic!("nothing is known yet")
    };
    assert_eq!(house.wanted.cells.lock().unwrap().len(), 1, "one fetch for two readers");
    house.fetched("up", Ok(&[("", "7.5")]));
    for reading in [first.await, second.await] {
        assert_eq!(reading.unwrap().items[0].value.to_string(), "7500m");
    }
    assert_eq!(house.read("default", &any), Ok(vec!["{}=7500m".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_first_read_is_bounded_and_the_next_does_not_wait_again() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    let any = Selector::default();
    let Reading::Wait(first) = house.lookup.external("default", "depth", &any) else {
        panic!("nothing is known yet")
    };
    let sentence = "depth in default: source main has not yet answered the first Prometheus \
                    query; waited 2s";
    assert_eq!(first.await, Err(ApiError::FirstReadTimeout(sentence.into())));
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.read("default", &any), Err(ApiError::FirstReadTimeout(sentence.into())));
}

#[test]
fn a_full_queue_is_said_at_once() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    house.wanted.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let Err(ApiError::NoValue(sentence)) = house.read("default", &Selector::default()) else {
        panic!("nothing can be served")
    };
    assert!(sentence.starts_with("depth in default: too many metrics became wanted"), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn selectors_choose_among_definitions_and_series() {
    let house = house(vec![
        entry("a", Scope::All, &[("kind", "live")], "live"),
        entry("b", Scope::All, &[("kind", "dead")], "dead"),
    ]);
    drop(house.lookup.external("default", "depth", &Selector::default()));
    house.fetched("live", Ok(&[("x", "1"), ("y", "2")]));
    house.fetched("dead", Ok(&[("x", "10")]));
    let read = |selector: &Selector| house.read("default", selector);
    assert_eq!(
        read(&Selector::default()).unwrap(),
        ["{kind=live,queue=x}=1", "{kind=live,queue=y}=2", "{kind=dead,queue=x}=10"]
    );
    assert_eq!(
        read(&select("queue", Operator::In, &["x"])).unwrap(),
        ["{kind=live,queue=x}=1", "{kind=dead,queue=x}=10"]
    );
    assert_eq!(
        read(&select("kind", Operator::NotIn, &["dead"])).unwrap(),
        ["{kind=live,queue=x}=1", "{kind=live,queue=y}=2"]
    );
    assert_eq!(
        read(&select("queue", Operator::In, &["z"])),
        Err(ApiError::MetricNotFound(
            "depth in default: no series matches the selector \"queue=z\"; the metric's 3 series \
             have the labels kind (dead, live), queue (x, y)"
                .into()
        ))
    );
}

#[tokio::test(start_paused = true)]
async fn one_broken_definition_fails_the_read_it_matches_and_no_other() {
    let house = house(vec![
        entry("a", Scope::All, &[("kind", "live")], "live"),
        entry("b", Scope::All, &[("kind", "dead")], "dead"),
    ]);
    drop(house.lookup.external("default", "depth", &Selector::default()));
    house.fetched("live", Ok(&[("", "1")]));
    house.fetched("dead", Err(down()));
    assert_eq!(
        house.read("default", &Selector::default()),
        Err(ApiError::NoValue(
            "depth{kind=dead} in default: connection refused (source main)".into()
        )),
        "never a partial sum"
    );
    let live = house.read("default", &select("kind", Operator::In, &["live"]));
    assert_eq!(live.unwrap(), ["{kind=live}=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_holds_the_value_until_max_age_and_then_tells_the_whole_story() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    drop(house.lookup.external("default", "depth", &Selector::default()));
    house.fetched("up", Ok(&[("", "42")]));
    house.clock.advance(Duration::from_secs(100));
    house.fetched("up", Err(down()));
    assert_eq!(house.read("default", &Selector::default()).unwrap(), ["{}=42"]);
    house.clock.advance(Duration::from_secs(21));
    assert_eq!(
        house.read("default", &Selector::default()),
        Err(ApiError::NoValue(
            "depth in default: connection refused (source main); last good value 42 at 00:00:00Z \
             is older than maxAge 2m"
                .into()
        ))
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_sees_only_its_own() {
    let house = house(vec![
        entry("own", Scope::Namespace("default".into()), &[], "own"),
        entry(
            "teams",
            Scope::Selected(select("team", Operator::Exists, &[])),
            &[],
            "q{namespace=\"$namespace\"}",
        ),
    ]);
    let unknown = |namespace: &str| {
        format!(
            "depth in {namespace}: no external metric of this name is defined for this namespace"
        )
    };
    assert_eq!(
        house.read("other", &Selector::default()),
        Err(ApiError::MetricNotFound(unknown("other")))
    );
    for team in ["team-a", "team-b"] {
        drop(house.lookup.external(team, "depth", &Selector::default()));
    }
    house.fetched("q{namespace=\"team-a\"}", Ok(&[("", "1")]));
    house.fetched("q{namespace=\"team-b\"}", Ok(&[("", "2")]));
    assert_eq!(house.read("team-a", &Selector::default()).unwrap(), ["{}=1"]);
    assert_eq!(house.read("team-b", &Selector::default()).unwrap(), ["{}=2"]);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_no_namespace_never_reaches_a_query() {
    let house = house(vec![entry("raw", Scope::All, &[], "q{namespace=`$namespace`}")]);
    let long = "n".repeat(64);
    for namespace in ["x`} or vector(1) #", ".*", "Team", "-a", "a-", "a b", "a.b", "ä", "", &long]
    {
        let unknown = format!(
            "depth in {namespace}: no external metric of this name is defined for this namespace"
        );
        assert_eq!(
            house.read(namespace, &Selector::default()),
            Err(ApiError::MetricNotFound(unknown)),
        );
    }
    assert!(house.wanted.cells.lock().unwrap().is_empty());
    drop(house.lookup.external("team-1", "depth", &Selector::default()));
    house.fetched("q{namespace=`team-1`}", Ok(&[("", "1")]));
    assert_eq!(house.read("team-1", &Selector::default()).unwrap(), ["{}=1"]);
}

#[tokio::test(start_paused = true)]
async fn aggregates_fold_the_selected_series_into_one_item() {
    let mut folded = entry("a", Scope::All, &[("app", "web")], "up");
    folded.transform = Arc::new(Transform {
        aggregate: Aggregate::Avg,
        scale: "0.1".parse().unwrap(),
        ..Transform::default()
    });
    let house = house(vec![folded]);
    drop(house.lookup.external("default", "depth", &Selector::default()));
    house.fetched("up", Ok(&[("x", "10"), ("y", "20"), ("z", "90")]));
    assert_eq!(house.read("default", &Selector::default()).unwrap(), ["{app=web}=4"]);
    let some = select("queue", Operator::In, &["x", "y"]);
    assert_eq!(house.read("default", &some).unwrap(), ["{app=web}=1500m"]);
}

#[tokio::test(start_paused = true)]
async fn the_chosen_number_is_served_only_for_no_data() {
    let mut chosen = entry("a", Scope::All, &[], "up");
    Arc::make_mut(&mut chosen.policy).on_no_data = OnNoData::Value(Decimal::from(3_i64));
    let house = house(vec![chosen]);
    drop(house.lookup.external("default", "depth", &Selector::default()));
    house.fetched("up", Err(FetchError::NoData(Cause::new("empty"))));
    assert_eq!(house.read("default", &Selector::default()).unwrap(), ["{}=3"]);
    // Which series an empty answer lacks nobody knows: a selector on a series' own label gets it.
    let of_a_series = select("queue", Operator::In, &["x"]);
    assert_eq!(house.read("default", &of_a_series).unwrap(), ["{}=3"]);
    house.clock.advance(Duration::from_secs(121));
    house.fetched("up", Err(down()));
    assert!(matches!(house.read("default", &Selector::default()), Err(ApiError::NoValue(_))));
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_goes_away_sends_its_waiting_readers_home() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    let any = Selector::default();
    let Reading::Wait(mut waiting) = house.lookup.external("default", "depth", &any) else {
        panic!("nothing is known yet")
    };
    assert!(poll!(&mut waiting).is_pending());
    house.catalog.apply_files(Vec::<Entry>::new(), Vec::new());
    assert!(matches!(waiting.await, Err(ApiError::MetricNotFound(_))));
}
