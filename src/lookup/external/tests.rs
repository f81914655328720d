use std::sync::Mutex;
use std::time::Duration;

use futures::poll;

use super::*;
use crate::cache::{Demand, Hold, OnDemand};
use crate::lookup::Lookup;
use crate::model::{
    Aggregate, Announce, Announced, Cause, Claim, Clock, Decimal, DefinitionId, DefinitionKind,
    Entry, FetchError, Foresee, ManualClock, MetricReference, MetricsProvider, Miss,
    ObjectReference, OnNoData, Operator, Origin, Policy, PrometheusQuery, Query, QuerySpec,
    QueryTemplate, ReferenceKind, Requirement, Sample, Series, SourceName, Transform,
};

#[derive(Default)]
struct Wanted {
    cells: Mutex<Vec<Arc<QueryCell>>>,
    hurried: Mutex<Vec<String>>,
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

    fn hurry(&self, cell: &Arc<QueryCell>) {
        self.hurried.lock().unwrap().push(text(cell).to_owned());
    }
}

struct Teams;

impl NamespaceDirectory for Teams {
    fn labels(&self, namespace: &str) -> Option<Labels> {
        namespace.strip_prefix("team-").map(|team| Labels::new([("team", team)]))
    }
}

struct House {
    lookup: Lookup,
    wanted: Arc<Wanted>,
    clock: Arc<ManualClock>,
    catalog: Arc<Catalog>,
}

fn house(entries: Vec<Entry>) -> House {
    let catalog = Arc::new(Catalog::new());
    catalog.apply_files(entries, Vec::new());
    let (wanted, clock) = (Arc::new(Wanted::default()), Arc::new(ManualClock::default()));
    let lookup = Lookup::new(
        Arc::clone(&catalog),
        Arc::default(),
        Arc::new(OnDemand::new()),
        wanted.clone(),
        Arc::new(Teams),
        None,
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
            without_number: Vec::new(),
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
            shape: crate::model::AnswerShape::Items,
        }
    } else {
        QueryTemplate::Fixed(Arc::new(Query {
            source: SourceName::new("main"),
            spec: QuerySpec::Prometheus(PrometheusQuery {
                query: query.into(),
                lookback_delta: None,
                shape: crate::model::AnswerShape::Items,
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
        objects: None,
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
        read(&select("queue", Operator::Equals, &["z"])),
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
        Err(ApiError::MetricUnknown(unknown("other")))
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
            Err(ApiError::MetricUnknown(unknown)),
        );
    }
    assert!(house.wanted.cells.lock().unwrap().is_empty());
    drop(house.lookup.external("team-1", "depth", &Selector::default()));
    house.fetched("q{namespace=`team-1`}", Ok(&[("", "1")]));
    assert_eq!(house.read("team-1", &Selector::default()).unwrap(), ["{}=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_series_without_a_number_fails_the_reads_that_select_it_and_no_other() {
    for aggregate in [Aggregate::None, Aggregate::Sum] {
        let mut folded = entry("a", Scope::All, &[], "up");
        folded.transform = Arc::new(Transform { aggregate, ..Transform::default() });
        let house = house(vec![folded]);
        drop(house.lookup.external("default", "depth", &Selector::default()));
        house.fetched("up", Ok(&[("x", "10"), ("y", "20")]));
        let labels = |queue| Labels::new([("queue", queue)]);
        let sample = {
            let cells = house.wanted.cells.lock().unwrap();
            let mut sample = cells[0].state().last_sample().unwrap().clone();
            sample.without_number = vec![labels("nan"), labels("inf")];
            sample
        };
        let cell = Arc::clone(&house.wanted.cells.lock().unwrap()[0]);
        cell.complete(Ok(sample), house.clock.tick(), house.clock.now());
        let of = |queue: &str| house.read("default", &select("queue", Operator::In, &[queue]));
        assert!(of("x").unwrap()[0].ends_with("=10"));
        let refused = |read: Result<Vec<String>, ApiError>| match read {
            Err(ApiError::NoValue(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(house.read("default", &Selector::default())),
            "depth in default: the series {queue=nan} and 1 more of the answer is NaN or infinite, \
             and without it the value would be another one (source main); leave it out by the \
             query or the selector"
        );
        assert!(refused(of("inf")).contains("the series {queue=inf} of the answer"));
        let rest = house.read("default", &select("queue", Operator::NotIn, &["nan", "inf"]));
        assert_eq!(rest.unwrap().len(), if aggregate == Aggregate::Sum { 1 } else { 2 });
    }
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
    assert!(matches!(waiting.await, Err(ApiError::MetricUnknown(_))));
}

/// What an HPA would get; the sentence if it is a refusal. Whatever it says, a read says.
fn foreseen(house: &House, namespace: &str, metric: &str, selector: &str) -> String {
    let reference = MetricReference {
        namespace: namespace.into(),
        metric: metric.into(),
        selector: Selector::parse(selector).unwrap(),
        kind: ReferenceKind::External,
    };
    let outlook = house.lookup.foresee(&reference);
    let by: Vec<&str> = outlook.definitions.iter().map(|key| &*key.id.name).collect();
    let by = by.join("+");
    let sentence = match outlook.answer {
        Ok(number) => return format!("{number} by {by}"),
        Err(Miss::Untried) => return format!("untried by {by}"),
        Err(Miss::NoMatch { message } | Miss::NoValue { message }) => message,
        Err(Miss::Unknown { message, near, elsewhere }) => {
            assert!(by.is_empty());
            let elsewhere: Vec<&str> = elsewhere.iter().map(|key| &*key.id.name).collect();
            return format!("{message}; near {near:?}; elsewhere {elsewhere:?}");
        }
    };
    let Reading::Ready(Err(error)) = house.lookup.external(namespace, metric, &reference.selector)
    else {
        panic!("a read gets an answer, and not {sentence}")
    };
    assert_eq!(sentence, error.to_string());
    format!("{sentence} by {by}")
}

#[tokio::test(start_paused = true)]
async fn an_onlooker_sees_what_a_read_gets_and_changes_nothing() {
    let house = house(vec![
        entry("live", Scope::All, &[("kind", "live")], "live"),
        entry("ns", Scope::All, &[("kind", "ns")], "q{n=\"$namespace\"}"),
    ]);
    for selector in ["", "kind=live", "kind=ns"] {
        assert!(foreseen(&house, "shop", "Depth", selector).starts_with("untried by "));
    }
    assert!(house.wanted.cells.lock().unwrap().is_empty(), "nothing is wanted because of it");
    assert!(house.wanted.hurried.lock().unwrap().is_empty());
    drop(house.lookup.external("shop", "depth", &Selector::default()));
    house.clock.advance(Duration::from_secs(1));
    let reads = || {
        let cells = house.wanted.cells.lock().unwrap();
        cells.iter().map(|cell| cell.last_read()).collect::<Vec<_>>()
    };
    let before = reads();
    assert_eq!(foreseen(&house, "shop", "Depth", ""), "untried by live+ns");
    house.fetched("live", Ok(&[("x", "1.5"), ("y", "2")]));
    assert_eq!(foreseen(&house, "shop", "Depth", "kind=live"), "3500m by live");
    assert_eq!(foreseen(&house, "shop", "Depth", "queue=x,kind=live"), "1500m by live");
    house.fetched("q{n=\"shop\"}", Ok(&[("", "1")]));
    assert_eq!(foreseen(&house, "shop", "Depth", ""), "4500m by live+ns");
    assert_eq!(foreseen(&house, "bank", "Depth", "kind=ns"), "untried by ns", "never asked");
    house.clock.advance(Duration::from_secs(100));
    assert_eq!(reads(), before, "nobody has read");
    house.fetched("live", Err(down()));
    assert_eq!(foreseen(&house, "shop", "Depth", "kind=live"), "3500m by live", "held");
    assert_eq!(reads(), before, "nobody has read");

    house.clock.advance(Duration::from_secs(30));
    let failed = foreseen(&house, "shop", "Depth", "");
    assert!(failed.contains("connection refused") && failed.ends_with("by live+ns"), "{failed}");
    let none = foreseen(&house, "shop", "Depth", "kind=dead");
    assert!(none.contains("no series matches") && none.ends_with("by live+ns"), "{none}");
}

#[tokio::test(start_paused = true)]
async fn a_first_fetch_that_hangs_is_foreseen_as_readers_hear_of_it() {
    let house = house(vec![entry("a", Scope::All, &[], "up")]);
    announced(&house, "shop", &Selector::default(), 1);
    assert_eq!(foreseen(&house, "shop", "depth", ""), "untried by a");
    drop(house.lookup.external("shop", "depth", &Selector::default()));
    house.clock.advance(Duration::from_secs(3));
    assert!(foreseen(&house, "shop", "depth", "").contains("has not yet answered the first"));
}

#[test]
fn an_unknown_name_is_told_what_is_near_and_what_is_elsewhere() {
    let named = |metric: &str, name: &str, scope: Scope| {
        let mut entry = entry(name, scope, &[], name);
        entry.metric = MetricName::external(metric).unwrap();
        entry
    };
    let house = house(vec![
        named("queue_depth", "a", Scope::All),
        named("queue_depth_max", "b", Scope::Namespace("bank".into())),
        named("queue_depths", "c", Scope::Selected(select("team", Operator::Exists, &[]))),
        named("secret", "d", Scope::Namespace("bank".into())),
    ]);
    let sentence = "no external metric of this name is defined for this namespace";
    assert_eq!(
        foreseen(&house, "shop", "Queue-Dept", ""),
        format!("Queue-Dept in shop: {sentence}; near [\"queue_depth\"]; elsewhere []")
            .replace("Queue-Dept", "queue-dept")
    );
    assert_eq!(
        foreseen(&house, "team-x", "queue_dept", ""),
        format!(
            "queue_dept in team-x: {sentence}; near [\"queue_depth\", \"queue_depths\"]; \
             elsewhere []"
        )
    );
    assert_eq!(
        foreseen(&house, "shop", "secret", ""),
        format!("secret in shop: {sentence}; near []; elsewhere [\"d\"]")
    );
    let near = |namespace: &str, metric: &str| house.lookup.near_external(namespace, metric);
    assert_eq!(near("bank", "Queue_Depth_Mx"), ["queue_depth_max", "queue_depth"].map(Arc::from));
    assert_eq!(near("not a namespace", "queue_dept"), Vec::<Arc<str>>::new());
    assert_eq!(near("bank", &"x".repeat(100_000)), Vec::<Arc<str>>::new());
    house.catalog.apply_files(Vec::<Entry>::new(), Vec::new());
    assert_eq!(near("bank", "queue_depth_mx"), Vec::<Arc<str>>::new(), "they are gone");
}

fn announced(house: &House, namespace: &str, selector: &Selector, hpas: u32) -> Announced {
    let reference = reference(namespace, selector);
    house.lookup.claim(&reference, Claim { round: Tick(7_200_000), hpas })
}

fn reference(namespace: &str, selector: &Selector) -> MetricReference {
    MetricReference {
        namespace: namespace.into(),
        metric: "Depth".into(),
        selector: selector.clone(),
        kind: ReferenceKind::External,
    }
}

/// The queries that are wanted, with the HPAs that refer to each.
fn claimed(house: &House) -> Vec<String> {
    let cells = house.wanted.cells.lock().unwrap();
    let mut all: Vec<String> = cells
        .iter()
        .map(|cell| match cell.hold(Tick(7_200_000)) {
            Hold::Claimed(hpas) => format!("{} {hpas}", text(cell)),
            other => format!("{} {other:?}", text(cell)),
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_announcement_finds_what_a_read_would_find() {
    let team = Selector::new(vec![Requirement {
        key: "team".into(),
        operator: Operator::In,
        values: vec!["a".into()],
    }]);
    let house = house(vec![
        entry("one", Scope::All, &[("queue", "one")], "one"),
        entry("own", Scope::All, &[("queue", "own")], "own{ns=\"$namespace\"}"),
        entry("a", Scope::Selected(team), &[("queue", "a")], "a"),
        entry("elsewhere", Scope::Namespace("team-b".into()), &[("queue", "b")], "b"),
    ]);
    let all = Selector::default();
    assert_eq!(announced(&house, "team-a", &all, 1), Announced::Waiting);
    assert_eq!(claimed(&house), ["a 1", "one 1", "own{ns=\"team-a\"} 1"]);
    let queue = |name| select("queue", Operator::In, &[name]);
    assert_eq!(announced(&house, "team-c", &queue("one"), 2), Announced::Waiting);
    assert_eq!(claimed(&house)[1], "one 3", "one query, however it is referred to");
    for (namespace, selector) in
        [("team-a", queue("b")), ("team-c", queue("a")), ("Team-A", Selector::default())]
    {
        assert_eq!(announced(&house, namespace, &selector, 1), Announced::Unknown);
    }
    assert_eq!(claimed(&house).len(), 3);

    // Warm: the first read is answered from memory, whatever the fetch has ended in.
    house.fetched("one", Ok(&[("", "5")]));
    assert_eq!(announced(&house, "team-a", &queue("one"), 0), Announced::Tried);
    assert_eq!(announced(&house, "team-a", &all, 0), Announced::Waiting);
    assert_eq!(house.read("team-a", &queue("one")).unwrap(), ["{queue=one}=5"]);
    house.fetched("a", Err(FetchError::Timeout(Cause::new("slow"))));
    house.fetched("own{ns=\"team-a\"}", Ok(&[("", "6")]));
    assert_eq!(announced(&house, "team-a", &all, 0), Announced::Tried);
    assert_eq!(house.read("team-a", &queue("own")).unwrap(), ["{queue=own}=6"]);

    let claim = |hpas| Claim { round: Tick(7_200_000), hpas };
    house.lookup.release(&reference("team-a", &all), claim(1));
    let released = Hold::Released(house.clock.tick());
    let own = format!("own{{ns=\"team-a\"}} {released:?}");
    assert_eq!(claimed(&house), [format!("a {released:?}"), "one 2".to_owned(), own]);
}

#[test]
fn what_is_not_served_here_is_unknown() {
    let house = house(vec![entry("one", Scope::All, &[], "one")]);
    let target = ObjectReference { api_version: "v1".into(), kind: "Pod".into(), name: "x".into() };
    for kind in [
        ReferenceKind::Pods { target: target.clone() },
        ReferenceKind::Object { object: target.clone() },
    ] {
        let reference = MetricReference { kind, ..reference("team-a", &Selector::default()) };
        let claim = Claim { round: Tick(7_200_000), hpas: 1 };
        assert_eq!(house.lookup.claim(&reference, claim), Announced::Unknown);
        house.lookup.release(&reference, claim);
    }
    assert!(claimed(&house).is_empty());
}

#[test]
fn a_full_queue_is_asked_again_by_the_next_look() {
    let house = house(vec![entry("one", Scope::All, &[], "one")]);
    house.wanted.full.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(announced(&house, "team-a", &Selector::default(), 1), Announced::Waiting);
    assert!(claimed(&house).is_empty());
    house.wanted.full.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(announced(&house, "team-a", &Selector::default(), 0), Announced::Waiting);
    assert_eq!(claimed(&house), ["one 1"]);
}

#[test]
fn the_first_reader_of_an_announced_query_waits_its_full_time() {
    let house = house(vec![entry("one", Scope::All, &[], "one")]);
    announced(&house, "team-a", &Selector::default(), 1);
    house.clock.advance(Duration::from_mins(1));
    let reading = || house.lookup.external("team-a", "depth", &Selector::default());
    assert!(matches!(reading(), Reading::Wait(_)), "announced a minute ago, read just now");
    assert_eq!(house.wanted.hurried.lock().unwrap().as_slice(), ["one"]);
    house.clock.advance(Duration::from_millis(1900));
    assert!(matches!(reading(), Reading::Wait(_)));
    house.clock.advance(Duration::from_millis(100));
    let Reading::Ready(Err(ApiError::FirstReadTimeout(_))) = reading() else {
        panic!("its time is over")
    };
    assert_eq!(house.wanted.hurried.lock().unwrap().len(), 1, "once is enough");
}

#[test]
fn k8s_cloudwatch_adapters_metrics_ignore_selectors() {
    let mut one = entry("depth", Scope::Namespace("shop".into()), &[], "up");
    one.id.kind = DefinitionKind::AwsExternalMetric;
    let house = house(vec![one]);
    let selector = select("queue", Operator::In, &["a", "b"]);
    assert_eq!(announced(&house, "shop", &selector, 1), Announced::Waiting);
    assert_eq!(announced(&house, "other", &selector, 1), Announced::Unknown);
    house.fetched("up", Ok(&[("x", "7")]));
    assert_eq!(house.read("shop", &selector), Ok(vec!["{queue=x}=7".to_owned()]));
    assert!(house.read("other", &selector).is_err());
}
