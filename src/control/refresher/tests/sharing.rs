use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicI64;

use super::*;
use crate::model::{Batch, Beat, Dispatch, PrometheusQuery, ProtectionSettings};

const MINUTE: Duration = Duration::from_mins(1);

/// A wall clock that follows tokio's, and can be stepped.
#[derive(Debug)]
pub(super) struct Wall {
    ticks: SystemClock,
    start: Tick,
    base: Timestamp,
    step_ms: AtomicI64,
}

impl Wall {
    pub(super) fn at(base: &str) -> Arc<Self> {
        let ticks = SystemClock::new();
        let start = ticks.tick();
        Arc::new(Self { ticks, start, base: base.parse().unwrap(), step_ms: AtomicI64::new(0) })
    }

    pub(super) fn step(&self, millis: i64) {
        self.step_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.tick().since(self.start).as_millis()).unwrap();
        let millis = self.base.as_millisecond() + elapsed + self.step_ms.load(Ordering::SeqCst);
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn tick(&self) -> Tick {
        self.ticks.tick()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    /// `12:00:00.005`
    pub(super) at: String,
    pub(super) tick: Tick,
    pub(super) upstream: String,
    pub(super) names: Vec<String>,
}

/// A source whose queries are texts `upstream/key/name`; key 0 shares no calls.
pub(super) struct Cloud {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) width: usize,
    pub(super) limit: usize,
    pub(super) beat: Option<Beat>,
    /// How long calls of an upstream take; 100 ms unless told.
    pub(super) takes: Mutex<HashMap<String, Duration>>,
    /// What becomes of a query.
    pub(super) errors: Mutex<HashMap<String, FetchError>>,
    /// Batches that hold such a query panic, or lack the last answer.
    pub(super) poison: Mutex<HashMap<String, Poison>>,
    /// What becomes of every query of an upstream.
    pub(super) down: Mutex<HashMap<String, FetchError>>,
    /// How long calls that carry a query take.
    pub(super) hangs: Mutex<HashMap<String, Duration>>,
    pub(super) protection: Option<ProtectionSettings>,
    pub(super) calls: Mutex<Vec<Call>>,
    flying: Mutex<HashSet<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Poison {
    PanicAtOnce,
    PanicLater,
    Short,
}

impl Cloud {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            width: 16,
            limit: 500,
            beat: None,
            takes: Mutex::default(),
            errors: Mutex::default(),
            poison: Mutex::default(),
            down: Mutex::default(),
            hangs: Mutex::default(),
            protection: None,
            calls: Mutex::default(),
            flying: Mutex::default(),
        }
    }

    fn answer(&self, name: &str, observed: Tick) -> Result<Sample, FetchError> {
        if let Some(error) = self.errors.lock().unwrap().get(name) {
            return Err(error.clone());
        }
        let series = vec![Series { labels: Labels::empty(), value: Decimal::ONE }];
        Ok(Sample {
            timestamp: self.clock.now(),
            observed,
            series,
            without_number: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

fn parts(query: &Query) -> (String, u64, String) {
    let QuerySpec::Prometheus(asked) = &query.spec else { panic!("not ours") };
    let mut parts = asked.query.splitn(3, '/');
    let mut next = || parts.next().unwrap().to_owned();
    (next(), next().parse().unwrap(), next())
}

fn names_of(queries: &[Arc<Query>]) -> Vec<String> {
    queries.iter().map(|query| parts(query).2).collect()
}

impl Source for Cloud {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        let parts: Vec<_> = queries.iter().map(|query| parts(query)).collect();
        let names: Vec<String> = parts.iter().map(|(.., name)| name.clone()).collect();
        let upstream = parts[0].0.clone();
        // What the trait promises to a source, and the refresher to everybody.
        assert!(!parts.is_empty() && parts.len() <= self.limit, "{} queries", parts.len());
        assert!(parts.len() == 1 || parts[0].1 > 0, "{names:?} share no calls");
        assert!(parts.iter().all(|p| (&p.0, p.1) == (&upstream, parts[0].1)), "{parts:?}");
        for name in &names {
            assert!(self.flying.lock().unwrap().insert(name.clone()), "{name} is in flight twice");
        }
        let at = self.clock.now().strftime("%H:%M:%S%.3f").to_string();
        let tick = self.clock.tick();
        let call = Call { at, tick, upstream: upstream.clone(), names: names.clone() };
        self.calls.lock().unwrap().push(call);
        let poison = names.iter().find_map(|name| self.poison.lock().unwrap().get(name).copied());
        let land = move || {
            for name in &names {
                self.flying.lock().unwrap().remove(name);
            }
            names
        };
        if poison == Some(Poison::PanicAtOnce) {
            land();
            panic!("told to");
        }
        async move {
            let takes = self.takes.lock().unwrap().get(&upstream).copied();
            let hang = {
                let hangs = self.hangs.lock().unwrap();
                names_of(queries).iter().find_map(|name| hangs.get(name).copied())
            };
            sleep(hang.or(takes).unwrap_or(Duration::from_millis(100))).await;
            let names = land();
            if let Some(error) = self.down.lock().unwrap().get(&upstream) {
                return vec![Err(error.clone()); names.len()];
            }
            assert_ne!(poison, Some(Poison::PanicLater), "told to");
            let mut answers: Vec<_> = names.iter().map(|name| self.answer(name, tick)).collect();
            if poison == Some(Poison::Short) {
                answers.pop();
            }
            answers
        }
        .boxed()
    }

    fn concurrency(&self) -> usize {
        self.width
    }

    fn protection(&self, _: &Query) -> Option<ProtectionSettings> {
        self.protection.clone()
    }

    fn dispatch(&self, query: &Query) -> Dispatch {
        let (upstream, key, _) = parts(query);
        let batch = (key > 0).then_some(Batch { key, limit: self.limit });
        Dispatch { upstream: upstream.into(), batch, beat: self.beat }
    }
}

pub(super) struct Sky {
    pub(super) cloud: Arc<Cloud>,
    pub(super) refresher: Arc<Refresher>,
    catalog: Arc<Catalog>,
    pub(super) clock: Arc<Wall>,
    pub(super) telemetry: Telemetry,
    _tasks: TaskSet,
}

/// A house at 12:00:07 with a cloud that is changed by `with`.
pub(super) fn sky(with: impl FnOnce(&mut Cloud)) -> Sky {
    let clock = Wall::at("2026-11-21T12:00:07Z");
    let mut cloud = Cloud::new(clock.clone());
    with(&mut cloud);
    let cloud = Arc::new(cloud);
    let (tasks, _died) = TaskSet::new(Handle::current());
    let (catalog, telemetry) = (Arc::new(Catalog::new()), Telemetry::new());
    let source = cloud.clone() as Arc<dyn Source>;
    let sources = BTreeMap::from([(SourceName::new("aws"), source)]);
    let refresher = Refresher::start(sources, catalog.clone(), clock.clone(), &tasks, &telemetry);
    Sky { cloud, refresher, catalog, clock, telemetry, _tasks: tasks }
}

fn minutely(cloud: &mut Cloud) {
    cloud.beat = Some(Beat { period: MINUTE, delay: Duration::ZERO });
}

pub(super) fn asked(text: &str) -> Arc<Query> {
    let spec = PrometheusQuery {
        query: text.into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    Arc::new(Query { source: SourceName::new("aws"), spec: QuerySpec::Prometheus(spec) })
}

pub(super) fn of(text: &str, refresh: Duration) -> Arc<QueryCell> {
    Arc::new(QueryCell::new(asked(text), refresh, false))
}

/// A definition that is kept warm.
fn warm(text: &str, refresh: Duration) -> Entry {
    let name = text.replace('/', "-");
    Entry {
        id: DefinitionId {
            kind: DefinitionKind::ClusterExternalMetric,
            namespace: None,
            name: name.as_str().into(),
        },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::external(&name).unwrap(),
        scope: Scope::All,
        labels: Labels::empty(),
        query: QueryTemplate::Fixed(asked(text)),
        policy: Arc::new(Policy {
            refresh,
            max_age: Duration::from_mins(10),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: true,
        }),
        objects: None,
        transform: Arc::default(),
    }
}

impl Sky {
    pub(super) fn read(&self, cell: &Arc<QueryCell>) {
        cell.touch(self.clock.tick());
        if !cell.state().is_tried() {
            cell.await_first(self.clock.tick());
        }
        if !cell.is_scheduled() {
            cell.await_first(self.clock.tick());
            assert_eq!(self.refresher.want(cell), Admission::Accepted);
        }
    }

    fn define(&self, texts: impl IntoIterator<Item = impl AsRef<str>>, refresh: Duration) {
        let entries: Vec<Entry> =
            texts.into_iter().map(|text| warm(text.as_ref(), refresh)).collect();
        self.catalog.apply_files(entries, Vec::new());
    }

    fn cell(&self, text: &str) -> Arc<QueryCell> {
        Arc::clone(self.catalog.snapshot().cell(&asked(text)).unwrap())
    }

    /// The calls since the last look.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.cloud.calls.lock().unwrap())
    }

    /// When the calls since the last look that carried a query were made.
    fn times_of(&self, name: &str) -> Vec<Tick> {
        let calls = self.calls();
        calls.iter().filter(|c| c.names.iter().any(|n| n == name)).map(|c| c.tick).collect()
    }

    fn refuse(&self, name: &str) {
        self.fail(name, FetchError::Invalid("no such metric".into()));
    }

    pub(super) fn fail(&self, name: &str, error: FetchError) {
        self.cloud.errors.lock().unwrap().insert(name.to_owned(), error);
    }

    pub(super) fn heal(&self, name: &str) {
        self.cloud.errors.lock().unwrap().remove(name);
    }

    #[track_caller]
    pub(super) fn expect(&self, line: &str) {
        let text = self.telemetry.encode();
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

/// Sizes of calls by the moment they were made.
fn sizes(calls: &[Call]) -> BTreeMap<String, Vec<usize>> {
    let mut sizes = BTreeMap::<_, Vec<usize>>::new();
    for call in calls {
        sizes.entry(call.at.clone()).or_default().push(call.names.len());
    }
    sizes
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_definitions_of_a_minute_are_twenty_calls_a_minute() {
    let sky = sky(|cloud| {
        cloud.beat = Some(Beat { period: MINUTE, delay: MINUTE });
    });
    sky.define((0..10_000).map(|i| format!("eu/1/m{i}")), MINUTE);
    sleep(Duration::from_secs(3)).await;
    // Sixteen at once, as the source allows, the others when those have ended.
    let twenty = |at: &str, then: &str| {
        BTreeMap::from([(at.to_owned(), vec![500; 16]), (then.to_owned(), vec![500; 4])])
    };
    assert_eq!(sizes(&sky.calls()), twenty("12:00:07.000", "12:00:07.100"));
    sleep(Duration::from_mins(3)).await;
    let calls = sky.calls();
    let mut expected = BTreeMap::new();
    for minute in ["12:01:00", "12:02:00", "12:03:00"] {
        expected.append(&mut twenty(&format!("{minute}.005"), &format!("{minute}.105")));
    }
    assert_eq!(sizes(&calls), expected);
    for minute in calls.chunks(20) {
        let names: BTreeSet<&String> = minute.iter().flat_map(|call| &call.names).collect();
        assert_eq!(names.len(), 10_000, "each once");
    }
    sky.expect("tidepole_refresh_scheduled_queries 10000");
    sky.expect("tidepole_refreshes_total{source=\"aws\",outcome=\"ok\"} 40000");
    sky.expect("tidepole_refresh_fetches_total{source=\"aws\"} 80");
    assert_eq!(sky.cell("eu/1/m77").fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn reads_that_come_together_share_calls_from_the_first_on() {
    let sky = sky(minutely);
    let cells: Vec<_> = (0..1200).map(|i| of(&format!("eu/1/m{i}"), MINUTE)).collect();
    for cell in &cells {
        sky.read(cell);
    }
    sleep(MINUTE).await;
    assert_eq!(
        sizes(&sky.calls()),
        BTreeMap::from(
            ["12:00:07.000", "12:01:00.005"].map(|at| (at.to_owned(), vec![500, 500, 200]))
        )
    );
}

#[tokio::test(start_paused = true)]
async fn reads_that_come_one_by_one_do_not_wait_and_meet_on_the_grid() {
    let sky = sky(minutely);
    let cells: Vec<_> = (0..50).map(|i| of(&format!("eu/1/m{i}"), MINUTE)).collect();
    for cell in &cells {
        sky.read(cell);
        sleep(Duration::from_secs(1)).await;
        assert!(cell.state().is_tried());
    }
    assert_eq!(sky.calls().len(), 50);
    sleep(MINUTE).await;
    assert_eq!(sizes(&sky.calls()), BTreeMap::from([("12:01:00.005".to_owned(), vec![50])]));
}

#[tokio::test(start_paused = true)]
async fn a_first_read_goes_first_and_takes_its_batch_along() {
    let sky = sky(|cloud| cloud.width = 1);
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_secs(1));
    let blocker = of("eu/0/blocker", MINUTE);
    sky.read(&blocker);
    sleep(Duration::from_millis(1)).await;
    let known: Vec<_> = ["eu/1/one", "eu/0/alone", "eu/2/two", "eu/1/three"]
        .map(|text| of(text, MINUTE))
        .into_iter()
        .inspect(|cell| {
            let failed = Err(FetchError::Timeout("once".into()));
            cell.complete(failed, sky.clock.tick(), sky.clock.now());
            sky.read(cell);
        })
        .collect();
    sleep(Duration::from_millis(1)).await;
    let first = [of("eu/2/first", MINUTE), of("eu/0/second", MINUTE)];
    for cell in &first {
        sky.read(cell);
    }
    sleep(Duration::from_secs(20)).await;
    let calls = sky.calls();
    let names: Vec<String> = calls.iter().map(|call| call.names.join("+")).collect();
    assert_eq!(names, ["blocker", "first+two", "second", "one+three", "alone"]);
    assert!(known.iter().all(|cell| cell.state().trouble().is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_datapoint_before_and_the_one_after_are_two() {
    let sky =
        sky(|cloud| cloud.beat = Some(Beat { period: MINUTE, delay: Duration::from_millis(500) }));
    let cell = of("eu/1/m", MINUTE);
    sleep(Duration::from_millis(52_900)).await;
    sky.read(&cell);
    sleep(Duration::from_secs(62)).await;
    let calls = sky.calls();
    let at: Vec<&str> = calls.iter().map(|call| &*call.at).collect();
    assert_eq!(at, ["12:00:59.900", "12:01:00.505", "12:02:00.505"][..at.len()]);
    assert_eq!(at.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_is_absorbed_at_the_next_start() {
    let sky = sky(minutely);
    sky.define((0..600).map(|i| format!("eu/1/m{i}")), MINUTE);
    sleep(MINUTE).await;
    sky.calls();
    for (step_ms, times) in [
        // 12:01:07 becomes 12:01:27: the start that was set for 12:02:00 comes at 12:02:20.
        (20_000, ["12:02:20.005", "12:03:00.005", "12:04:00.005"]),
        // 12:04:07 becomes 12:03:37: that for 12:05:00 comes at 12:04:30.
        (-30_000, ["12:04:30.005", "12:05:00.005", "12:06:00.005"]),
    ] {
        sky.clock.step(step_ms);
        let until = if step_ms > 0 { 160 } else { 150 };
        sleep(Duration::from_secs(until)).await;
        let calls = sky.calls();
        assert_eq!(sizes(&calls), times.map(|at| (at.to_owned(), vec![500, 100])).into());
    }
    assert!(sky.telemetry.encode().contains("refresh_skipped_total{source=\"aws\"} 0\n"));
}

#[tokio::test(start_paused = true)]
async fn a_start_on_the_grid_that_finds_a_fetch_under_way_follows_it() {
    let sky = sky(minutely);
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_secs(2));
    let cell = of("eu/1/m", MINUTE);
    sleep(Duration::from_secs(52)).await;
    sky.read(&cell);
    sleep(Duration::from_secs(70)).await;
    let calls = sky.calls();
    let at: Vec<&str> = calls.iter().map(|call| &*call.at).collect();
    assert_eq!(at, ["12:00:59.000", "12:01:01.000", "12:02:00.005"]);
    sky.expect("tidepole_refresh_skipped_total{source=\"aws\"} 0");
    sky.expect("tidepole_refresh_lag_seconds_bucket{le=\"2.0\"} 3");
    sky.expect("tidepole_refresh_lag_seconds_bucket{le=\"0.5\"} 2");
    // Longer than a period: one start follows, the others are skipped.
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_secs(150));
    sleep(Duration::from_mins(5)).await;
    sky.expect("tidepole_refresh_skipped_total{source=\"aws\"} 2");
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_beat_that_failed_is_tried_again_before_the_next_bucket() {
    let hourly = Duration::from_hours(1);
    let sky = sky(|cloud| {
        cloud.beat = Some(Beat { period: hourly, delay: Duration::from_mins(30) });
    });
    let pair = ["eu/1/a", "eu/1/b"].map(|text| of(text, hourly));
    let down = FetchError::Timeout("no answer".into());
    for name in ["a", "b"] {
        sky.cloud.errors.lock().unwrap().insert(name.into(), down.clone());
    }
    for cell in &pair {
        sky.read(cell);
    }
    sleep(Duration::from_secs(30)).await;
    sky.cloud.errors.lock().unwrap().clear();
    // Wanted for longer than a few minutes.
    for _ in 0..70 {
        sleep(MINUTE).await;
        for cell in &pair {
            sky.read(cell);
        }
    }
    let calls = sky.calls();
    let met: Vec<(&str, usize)> = calls.iter().map(|call| (&*call.at, call.names.len())).collect();
    // 12:00:07 and 5, 10, 20 seconds after each end; then the next bucket, and nothing in between.
    let at = |i: usize| met[i].0.split_at(8).0.to_owned();
    assert_eq!(
        (0..5).map(at).collect::<Vec<_>>(),
        ["12:00:07", "12:00:12", "12:00:22", "12:00:42", "12:30:00"]
    );
    assert!(met.iter().all(|(_, together)| *together == 2), "{met:?}");
    assert_eq!(met.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_hangs_delays_no_other() {
    let sky = sky(minutely);
    sky.cloud.takes.lock().unwrap().insert("eu/role".into(), Duration::from_hours(9));
    sky.cloud.takes.lock().unwrap().insert("ap".into(), Duration::from_hours(9));
    let texts = (0..100).flat_map(|i| [format!("ap/0/h{i}"), format!("us/1/m{i}")]);
    sky.define(texts, MINUTE);
    sleep(Duration::from_mins(10)).await;
    let calls = sky.calls();
    let us: Vec<&Call> = calls.iter().filter(|call| call.upstream == "us").collect();
    assert_eq!(us.len(), 11);
    assert!(us[1..].iter().all(|call| call.at.ends_with(":00.005") && call.names.len() == 100));
    assert_eq!(calls.len() - us.len(), 12, "all places that one owner may hold of sixteen");
    sky.expect("tidepole_refresh_queued{source=\"aws\"} 88");
    sky.expect("tidepole_refresh_lanes{source=\"aws\"} 2");
}

#[tokio::test(start_paused = true)]
async fn lanes_go_with_their_last_query() {
    let sky = sky(minutely);
    sky.define((0..300).map(|i| format!("region-{}/1/m{i}", i % 30)), MINUTE);
    sleep(Duration::from_secs(1)).await;
    sky.expect("tidepole_refresh_lanes{source=\"aws\"} 30");
    sky.define(["region-7/1/m7"], MINUTE);
    sleep(Duration::from_secs(1)).await;
    sky.expect("tidepole_refresh_lanes{source=\"aws\"} 1");
    sky.expect("tidepole_refresh_scheduled_queries 1");
    sky.define([""; 0], MINUTE);
    sleep(Duration::from_secs(1)).await;
    sky.expect("tidepole_refresh_lanes{source=\"aws\"} 0");
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_missing_answer_hits_its_own_batch_alone() {
    for (poison, hit, words) in [
        (Poison::PanicAtOnce, 10, "defect"),
        (Poison::PanicLater, 10, "defect"),
        (Poison::Short, 1, "fewer answers than questions"),
    ] {
        let sky = sky(|cloud| {
            minutely(cloud);
            cloud.width = 1;
        });
        sky.cloud.poison.lock().unwrap().insert("m3".to_owned(), poison);
        let texts: Vec<String> = (0..30).map(|i| format!("eu/{}/m{i}", i / 10 + 1)).collect();
        sky.define(&texts, MINUTE);
        sleep(Duration::from_secs(1)).await;
        let troubled = texts.iter().filter(|text| {
            sky.cell(text).state().trouble().is_some_and(|(cause, _)| cause.contains(words))
        });
        assert_eq!(troubled.count(), hit, "{poison:?}");
        assert_eq!(sky.calls().len(), 3);
        sky.cloud.poison.lock().unwrap().clear();
        sleep(MINUTE).await;
        assert!(texts.iter().all(|text| sky.cell(text).state().trouble().is_none()));
        // Who failed is tried again at once; no place was lost, nobody is apart.
        assert_eq!(sky.calls().len(), 1 + 3);
        sky.expect("tidepole_refresh_apart{source=\"aws\"} 0");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_query_goes_alone_at_growing_pauses_until_it_is_answered() {
    let sky = sky(minutely);
    sky.refuse("m3");
    sky.define((0..10).map(|i| format!("eu/1/m{i}")), MINUTE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sky.calls().len(), 1, "together, once");
    let cell = sky.cell("eu/1/m3");
    sky.expect("tidepole_refresh_apart{source=\"aws\"} 1");
    assert_eq!(cell.state().trouble().unwrap().0, "no such metric");
    let mut before = sky.clock.tick();
    sleep(Duration::from_hours(2)).await;
    let calls = sky.calls();
    let (own, shared): (Vec<_>, Vec<_>) =
        calls.iter().partition(|call| call.names.contains(&"m3".to_owned()));
    assert!(own.iter().all(|call| call.names.len() == 1));
    assert!(shared.iter().all(|call| call.names.len() == 9));
    assert_eq!(shared.len(), 120);
    for (call, pause_min) in own.iter().zip([1, 2, 4, 8, 15, 15, 15]) {
        let pause = call.tick.since(before);
        let least = MINUTE * pause_min;
        assert!(pause >= least.saturating_sub(Duration::from_secs(1)), "{pause:?}");
        assert!(pause <= least + least / 4 + Duration::from_secs(1), "{pause:?}");
        before = call.tick;
    }
    assert!((7..=10).contains(&own.len()), "{}", own.len());
    let until = cell.apart_until().unwrap().since(sky.clock.tick());
    assert!(until > Duration::ZERO && until < Duration::from_mins(19), "{until:?}");
    // Another trouble changes nothing: it is still not known whether the question is right.
    sky.fail("m3", FetchError::Throttled("slow down".into()));
    sleep(Duration::from_hours(1)).await;
    assert!((2..=4).contains(&sky.times_of("m3").len()));
    sky.expect("tidepole_refresh_apart{source=\"aws\"} 1");
    sky.heal("m3");
    sleep(Duration::from_mins(20)).await;
    sky.expect("tidepole_refresh_apart{source=\"aws\"} 0");
    assert_eq!(cell.apart_until(), None);
    sky.calls();
    sleep(Duration::from_mins(5)).await;
    let calls = sky.calls();
    assert!(calls.iter().all(|call| call.names.len() == 10), "{calls:?}");
    assert_eq!(calls.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn queries_refused_together_are_not_tried_again_together() {
    let sky = sky(minutely);
    (0..100).for_each(|i| sky.refuse(&format!("m{i}")));
    sky.define((0..100).map(|i| format!("eu/1/m{i}")), MINUTE);
    sleep(Duration::from_mins(4)).await;
    let calls = sky.calls();
    assert_eq!(calls[0].names.len(), 100);
    assert_eq!(calls.len(), 1 + 200, "once after a minute, once after two more");
    let mut seconds = BTreeMap::<u64, usize>::new();
    for call in &calls[1..101] {
        *seconds.entry(call.tick.0 / 1000).or_default() += 1;
    }
    assert!(seconds.len() >= 15 && seconds.values().all(|n| *n <= 20), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_keeps_failing_goes_behind_others_and_less_often() {
    let cause = || Cause::new("x");
    for (error, is_own) in [
        (FetchError::Denied(cause()), true),
        (FetchError::Timeout(cause()), true),
        (FetchError::Unavailable(cause()), true),
        (FetchError::Malformed(cause()), true),
        (FetchError::Throttled(cause()), true),
        (FetchError::NoData(cause()), false),
    ] {
        // Calls of its own that give nothing may be the upstream's fault, until that answers others.
        let throttled = matches!(error, FetchError::Throttled(_));
        let doubted =
            throttled || matches!(error, FetchError::Timeout(_) | FetchError::Unavailable(_));
        let sky = sky(minutely);
        sky.fail("m1", error);
        sky.refuse("alone");
        sky.define(["eu/1/m1", "eu/1/m2", "eu/0/alone"], MINUTE);
        sleep(Duration::from_mins(5)).await;
        sky.expect("tidepole_refresh_apart{source=\"aws\"} 0");
        let failing = if is_own { 2 } else { 1 };
        sky.expect(&format!("tidepole_refresh_failing{{source=\"aws\"}} {failing}"));
        let calls = sky.calls();
        let of = |name: &str| -> Vec<(&str, usize)> {
            let mine = calls.iter().filter(|call| call.names.iter().any(|n| n == name));
            mine.map(|call| (&call.at[..5], call.names.len())).collect()
        };
        let minutes = ["12:00", "12:01", "12:02", "12:03", "12:04", "12:05"];
        assert_eq!(of("alone"), [("12:00", 1), ("12:01", 1), ("12:02", 1), ("12:04", 1)]);
        if is_own {
            // 5, 10 and 20 seconds after the first failures (half a minute, if it asks for fewer
            // calls), then with every second bucket.
            let again = [("12:00", 1)].repeat(if throttled { 1 } else { 3 });
            let first = [&[("12:00", 2)], &again[..]].concat();
            let company = 1 + usize::from(doubted);
            let later = [("12:01", company), ("12:02", 1), ("12:04", 1)];
            assert_eq!(of("m1"), [&first[..], &later].concat());
            assert_eq!(of("m2")[2..], minutes.map(|at| (at, 1))[2..]);
            assert!(sky.cell("eu/1/m1").apart_until().is_some());
        } else {
            assert_eq!(of("m1"), minutes.map(|at| (at, 2)));
        }
        // It is back with its first answer.
        sky.heal("m1");
        sleep(Duration::from_secs(110)).await;
        sky.expect("tidepole_refresh_failing{source=\"aws\"} 1");
        assert_eq!(sky.cell("eu/1/m1").apart_until(), None);
        sky.calls();
        sleep(MINUTE).await;
        assert!(sky.calls().iter().any(|call| call.names.len() == 2), "{is_own}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_comes_back_starts_anew() {
    let sky = sky(minutely);
    sky.refuse("m1");
    sky.define(["eu/1/m1", "eu/1/m2"], MINUTE);
    sleep(Duration::from_mins(30)).await;
    sky.expect("tidepole_refresh_apart{source=\"aws\"} 1");
    let apart = sky.cell("eu/1/m1").apart_until().unwrap();
    // Another definition changes: that frees nobody.
    sky.define(["eu/1/m1", "eu/1/m2", "eu/1/m3"], MINUTE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sky.cell("eu/1/m1").apart_until(), Some(apart));
    sky.calls();
    sky.define(["eu/1/m2"], MINUTE);
    sleep(Duration::from_secs(1)).await;
    sky.expect("tidepole_refresh_apart{source=\"aws\"} 0");
    sky.expect("tidepole_refresh_scheduled_queries 1");
    sky.heal("m1");
    sky.define(["eu/1/m1", "eu/1/m2"], MINUTE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sky.calls().len(), 1, "at once");
    assert_eq!(sky.cell("eu/1/m1").apart_until(), None);
    sleep(MINUTE).await;
    assert_eq!(sky.calls()[0].names.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn batches_that_share_a_lane_take_turns() {
    let sky = sky(|cloud| {
        minutely(cloud);
        (cloud.width, cloud.limit) = (1, 10);
    });
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_secs(6));
    // Twelve calls of six seconds, one after the other, are more than a minute; a big batch must
    // not keep a small one and a single query waiting.
    let texts = (0..100).map(|i| format!("eu/1/b{i}"));
    let texts: Vec<String> =
        texts.chain(["eu/2/s1".into(), "eu/2/s2".into(), "eu/0/x".into()]).collect();
    sky.define(&texts, MINUTE);
    sleep(Duration::from_mins(30)).await;
    let calls = sky.calls();
    let count = |name: &str| calls.iter().filter(|c| c.names.iter().any(|n| n == name)).count();
    let counts: Vec<usize> = (0..100)
        .map(|i| count(&format!("b{i}")))
        .chain([count("s1"), count("s2"), count("x")])
        .collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // At worst every second minute: what still waits when the next minute comes is not asked twice.
    assert!(*most <= 30 && least * 2 >= *most, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn warm_queries_without_company_still_start_one_after_the_other() {
    let sky = sky(|cloud| cloud.width = 1000);
    sky.define((0..1000).map(|i| format!("eu/0/m{i}")), MINUTE);
    sleep(Duration::from_millis(500)).await;
    let half = sky.calls().len();
    assert!((300..700).contains(&half), "{half} of 1000 after half a second");
}
