//! The whole engine against a naive reference, on paused time.
//!
//! The reference knows nothing of schedules: it is the list of what the upstream really answered,
//! and what may be said about that.

use std::collections::HashMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::sharing::Wall;
use super::*;
use crate::cache::View;
use crate::model::{Dispatch, PrometheusQuery, ProtectionSettings};

const REFRESH: Duration = Duration::from_secs(10);
const MAX_AGE: Duration = Duration::from_secs(45);
const MAX_PAUSE: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_secs(3);
const QUERIES: usize = 12;
const UPSTREAMS: usize = 2;

/// What an upstream does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Empty,
    Refusing,
    Down,
    Throttling,
    Hanging,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Wait(u64),
    /// What becomes of one query, whatever its upstream does; back to normal with `Well`.
    Query(usize, Mood),
    Upstream(usize, Mood),
    /// A definition changes its interval, or goes and comes back.
    Define(u64),
    Wall(i64),
}

/// A number that was answered, or that there was none, and when it was observed.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    number: Option<i64>,
    observed: Tick,
}

/// The upstreams, and everything that they ever answered.
struct World {
    clock: Arc<Wall>,
    moods: Mutex<[Mood; UPSTREAMS]>,
    own: Mutex<HashMap<usize, Mood>>,
    answers: Mutex<HashMap<usize, Vec<Answer>>>,
    calls: Mutex<Vec<(Tick, usize)>>,
    flying: Mutex<Vec<usize>>,
    next: AtomicUsize,
}

fn index(query: &Query) -> usize {
    let QuerySpec::Prometheus(asked) = &query.spec else { unreachable!() };
    asked.query.parse().unwrap()
}

fn asked(index: usize) -> Arc<Query> {
    let spec = PrometheusQuery {
        query: index.to_string().into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    Arc::new(Query { source: SourceName::new("up"), spec: QuerySpec::Prometheus(spec) })
}

impl World {
    fn mood(&self, index: usize) -> Mood {
        let own = self.own.lock().unwrap().get(&index).copied();
        own.unwrap_or(self.moods.lock().unwrap()[index % UPSTREAMS])
    }

    async fn answer(&self, index: usize) -> Result<Sample, FetchError> {
        let observed = self.clock.tick();
        self.calls.lock().unwrap().push((observed, index));
        assert!(!self.flying.lock().unwrap().contains(&index), "{index} is in flight twice");
        self.flying.lock().unwrap().push(index);
        let mood = self.mood(index);
        let hangs = mood == Mood::Hanging;
        sleep(if hangs { TIMEOUT } else { Duration::from_millis(50) }).await;
        self.flying.lock().unwrap().retain(|flying| *flying != index);
        let cause = || Cause::new("told to");
        let number = match mood {
            Mood::Well => Some(i64::try_from(self.next.fetch_add(1, Ordering::SeqCst)).unwrap()),
            Mood::Empty => None,
            Mood::Refusing => return Err(FetchError::Invalid(cause())),
            Mood::Down => return Err(FetchError::Unavailable(cause())),
            Mood::Throttling => return Err(FetchError::Throttled(cause())),
            Mood::Hanging => return Err(FetchError::Timeout(cause())),
        };
        let mut answers = self.answers.lock().unwrap();
        answers.entry(index).or_default().push(Answer { number, observed });
        let Some(number) = number else { return Err(FetchError::NoData(cause())) };
        let series = vec![Series { labels: Labels::empty(), value: Decimal::from(number) }];
        Ok(Sample {
            timestamp: self.clock.now(),
            observed,
            series,
            without_number: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

impl Source for World {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        async move { vec![self.answer(index(&queries[0])).await] }.boxed()
    }

    fn concurrency(&self) -> usize {
        8
    }

    fn dispatch(&self, query: &Query) -> Dispatch {
        let upstream = (index(query) % UPSTREAMS).to_string().into();
        Dispatch { upstream, batch: None, beat: None }
    }

    fn protection(&self, _: &Query) -> Option<ProtectionSettings> {
        Some(ProtectionSettings {
            calls_per_second: NonZeroU32::new(50).unwrap(),
            failures_to_open: 3,
            first_pause: Duration::from_secs(1),
            max_pause: MAX_PAUSE,
            call_timeout: TIMEOUT,
        })
    }
}

fn policy(index: usize, refresh: Duration) -> Policy {
    Policy {
        refresh,
        max_age: MAX_AGE,
        on_no_data: match index % 3 {
            0 => OnNoData::Hold,
            1 => OnNoData::Error,
            _ => OnNoData::Value(Decimal::from(-7_i64)),
        },
        first_read_timeout: Duration::from_secs(2),
        keep_warm: index == 0,
    }
}

fn definitions(refresh: Duration, without: Option<usize>) -> Vec<Entry> {
    let entry = |index: usize| {
        let name = format!("m{index}");
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
            query: QueryTemplate::Fixed(asked(index)),
            policy: Arc::new(policy(index, refresh)),
            objects: None,
            transform: Arc::default(),
        }
    };
    (0..QUERIES).filter(|index| Some(*index) != without).map(entry).collect()
}

struct Run {
    world: Arc<World>,
    catalog: Arc<Catalog>,
    refresher: Arc<Refresher>,
    /// When a read first saw the present cell of a query; older answers are another cell's.
    reads: u64,
}

impl Run {
    /// A read as lookup does it, checked against what the upstream really said.
    fn read(&mut self, index: usize, refresh: Duration) {
        let snapshot = self.catalog.snapshot();
        let Some(cell) = snapshot.cell(&asked(index)) else { return };
        let now = self.world.clock.tick();
        cell.touch(now);
        if !cell.is_scheduled() {
            cell.await_first(now);
            assert_eq!(self.refresher.want(cell), Admission::Accepted);
        }
        self.reads += 1;
        let state = cell.state();
        let policy = policy(index, refresh);
        let answers = self.world.answers.lock().unwrap();
        let answers = answers.get(&index).map_or(&[][..], Vec::as_slice);
        match state.view(&policy, now) {
            View::Fresh(sample) | View::Servable(sample) => {
                let value = &sample.series[0].value;
                let found = answers
                    .iter()
                    .rev()
                    .find(|a| a.number.is_some_and(|number| Decimal::from(number) == *value));
                let found = found.expect("a number that the upstream never said");
                assert_eq!(found.observed, sample.observed);
                assert!(now.since(found.observed) <= MAX_AGE, "too old");
                // Nothing newer with data is hidden.
                let newest = answers.iter().rev().find(|answer| answer.number.is_some());
                assert_eq!(newest, Some(found), "there is a newer number");
            }
            View::Chosen(number, _) => {
                assert_eq!((index % 3, number), (2, &Decimal::from(-7_i64)));
                // Only ever for an upstream that answered that it has nothing, and not long ago.
                let last = answers.last().expect("nobody said that there is nothing");
                assert_eq!(last.number, None);
                assert!(now.since(last.observed) <= MAX_AGE + TIMEOUT);
            }
            View::NoData(_) => assert_eq!(answers.last().map(|answer| answer.number), Some(None)),
            View::Waiting | View::Failed(_) | View::Expired => {}
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let mood = prop_oneof![
        3 => Just(Mood::Well),
        1 => Just(Mood::Empty),
        1 => Just(Mood::Refusing),
        1 => Just(Mood::Down),
        1 => Just(Mood::Throttling),
        1 => Just(Mood::Hanging),
    ];
    prop_oneof![
        6 => (0..QUERIES).prop_map(Step::Read),
        6 => (1_u64..30_000).prop_map(Step::Wait),
        2 => (0..QUERIES, mood.clone()).prop_map(|(index, mood)| Step::Query(index, mood)),
        2 => (0..UPSTREAMS, mood).prop_map(|(index, mood)| Step::Upstream(index, mood)),
        1 => (0..4_u64).prop_map(Step::Define),
        1 => (-100_000..100_000_i64).prop_map(Step::Wall),
    ]
}

async fn play(steps: Vec<Step>) {
    let clock = Wall::at("2026-11-21T12:00:07Z");
    let world = Arc::new(World {
        clock: Arc::clone(&clock),
        moods: Mutex::new([Mood::Well; UPSTREAMS]),
        own: Mutex::default(),
        answers: Mutex::default(),
        calls: Mutex::default(),
        flying: Mutex::default(),
        next: AtomicUsize::new(1),
    });
    let (tasks, _died) = TaskSet::new(Handle::current());
    let sources = BTreeMap::from([(SourceName::new("up"), world.clone() as Arc<dyn Source>)]);
    let catalog = Arc::new(Catalog::new());
    let mut refresh = REFRESH;
    catalog.apply_files(definitions(refresh, None), Vec::new());
    let telemetry = Telemetry::new();
    let refresher = Refresher::start(
        sources,
        catalog.clone(),
        clock.clone() as Arc<dyn Clock>,
        &tasks,
        &telemetry,
    );
    let mut run = Run { world: Arc::clone(&world), catalog, refresher, reads: 0 };
    let (start, mut changes) = (clock.tick(), 0_u64);
    for step in steps {
        match step {
            Step::Read(index) => run.read(index, refresh),
            Step::Wait(millis) => sleep(Duration::from_millis(millis)).await,
            Step::Query(index, mood) => {
                let mut own = world.own.lock().unwrap();
                match mood {
                    Mood::Well => own.remove(&index),
                    mood => own.insert(index, mood),
                };
            }
            Step::Upstream(index, mood) => world.moods.lock().unwrap()[index] = mood,
            Step::Define(0) => {
                // One goes and comes back: nothing of before is served.
                run.catalog.apply_files(definitions(refresh, Some(3)), Vec::new());
                sleep(TIMEOUT + Duration::from_secs(1)).await;
                world.answers.lock().unwrap().remove(&3);
                run.catalog.apply_files(definitions(refresh, None), Vec::new());
                changes += 2;
            }
            Step::Define(n) => {
                refresh = REFRESH * u32::try_from(n).unwrap();
                run.catalog.apply_files(definitions(refresh, None), Vec::new());
                changes += 1;
            }
            Step::Wall(millis) => clock.step(millis),
        }
    }
    // Whatever happened, the plain schedule is the bound: one call for each query and interval, one
    // more for every start and change of definitions, and probes.
    let elapsed = clock.tick().since(start).as_secs();
    let most = (elapsed / REFRESH.as_secs() + 2 + 2 * changes) * QUERIES as u64
        + run.reads
        + elapsed * UPSTREAMS as u64;
    let calls = world.calls.lock().unwrap().len() as u64;
    assert!(calls <= most, "{calls} calls, at most {most}");
    // Everything is well again: what somebody reads is fresh within two intervals, or a pause and
    // one, and a fetch.
    *world.moods.lock().unwrap() = [Mood::Well; UPSTREAMS];
    world.own.lock().unwrap().clear();
    let patience = (refresh * 2).max(MAX_PAUSE + refresh) + TIMEOUT + Duration::from_secs(1);
    let end = clock.tick().after(patience);
    while clock.tick() < end {
        (0..QUERIES).for_each(|index| run.read(index, refresh));
        sleep(Duration::from_secs(1)).await;
    }
    for index in 0..QUERIES {
        run.read(index, refresh);
        let snapshot = run.catalog.snapshot();
        let state = snapshot.cell(&asked(index)).unwrap().state();
        let sample = state.last_sample().expect("it was read");
        assert_eq!(state.trouble(), None, "{index}");
        let age = clock.tick().since(sample.observed);
        assert!(age <= patience, "{index}: {age:?}");
    }
    tasks.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A served value is one that the upstream gave, not older than `maxAge`, the newest there is,
    /// or the user's own number when the upstream said that it has none; everything else is an
    /// error. No query is in flight twice, calls are bounded, and what was broken recovers.
    #[test]
    fn what_is_served_is_true_whatever_happens(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(steps));
    }
}
