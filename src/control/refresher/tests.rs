use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::{advance, sleep};

use super::*;
use crate::model::{
    Claim, Decimal, DefinitionId, DefinitionKind, Entry, Labels, MetricName, OnNoData, Origin,
    Policy, Query, QuerySpec, QueryTemplate, Sample, Scope, Series, SimulatedQuery, SystemClock,
};

/// Against a naive model.
mod model;
/// Starts shortly before reads.
mod phases;
/// Rates, breakers, queries that keep failing, owners.
mod protection;
/// Upstreams, batches, beats, refusals.
mod sharing;
/// Whatever happens.
mod whatever;

/// A source that takes its time, counts, and fails or panics when told.
struct Slow {
    takes: Duration,
    width: usize,
    calls: Mutex<Vec<Tick>>,
    running: AtomicUsize,
    peak: AtomicUsize,
    panics: std::sync::atomic::AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Source for Slow {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        async move {
            let observed = self.clock.tick();
            self.calls.lock().unwrap().push(observed);
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(running, Ordering::SeqCst);
            sleep(self.takes).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
            let series = vec![Series { labels: Labels::empty(), value: Decimal::ONE }];
            let sample = Sample {
                timestamp: Timestamp::UNIX_EPOCH,
                observed,
                series,
                without_number: Vec::new(),
                warnings: Vec::new(),
            };
            queries.iter().map(|_| Ok(sample.clone())).collect()
        }
        .boxed()
    }

    fn concurrency(&self) -> usize {
        self.width
    }
}

struct House {
    source: Arc<Slow>,
    refresher: Arc<Refresher>,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    tasks: TaskSet,
}

fn house(takes: Duration, width: usize) -> House {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let source = Arc::new(Slow {
        takes,
        width,
        calls: Mutex::default(),
        running: AtomicUsize::new(0),
        peak: AtomicUsize::new(0),
        panics: std::sync::atomic::AtomicBool::new(false),
        clock: Arc::clone(&clock),
    });
    let (tasks, _died) = TaskSet::new(Handle::current());
    let catalog = Arc::new(Catalog::new());
    let sources: BTreeMap<_, Arc<dyn Source>> =
        BTreeMap::from([(SourceName::new("slow"), source.clone() as Arc<dyn Source>)]);
    let refresher = Refresher::start(
        sources,
        Arc::clone(&catalog),
        Arc::clone(&clock),
        &tasks,
        &Telemetry::new(),
    );
    House { source, refresher, catalog, clock, tasks }
}

fn query(value: i64) -> Arc<Query> {
    Arc::new(Query {
        source: SourceName::new("slow"),
        spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(value))),
    })
}

fn cell(value: i64, refresh: Duration) -> Arc<QueryCell> {
    Arc::new(QueryCell::new(query(value), refresh, false))
}

impl House {
    fn read(&self, cell: &Arc<QueryCell>) -> Admission {
        cell.touch(self.clock.tick());
        if !cell.state().is_tried() {
            cell.await_first(self.clock.tick());
        }
        if cell.is_scheduled() { Admission::Accepted } else { self.refresher.want(cell) }
    }

    fn calls(&self) -> usize {
        self.source.calls.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_cost_one_call_per_interval() {
    let house = house(Duration::from_millis(200), 16);
    let cell = cell(1, Duration::from_secs(1));
    for _ in 0..600 {
        for _ in 0..1000 {
            assert_eq!(house.read(&cell), Admission::Accepted);
        }
        sleep(Duration::from_millis(100)).await;
    }
    let calls = house.calls();
    assert!((59..=62).contains(&calls), "{calls} calls in 60 s at a refresh of 1 s");
    assert_eq!(house.source.peak.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_outlasts_its_interval_is_not_started_twice() {
    let house = house(Duration::from_millis(2500), 16);
    let cell = cell(1, Duration::from_secs(1));
    for _ in 0..100 {
        house.read(&cell);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(house.source.peak.load(Ordering::SeqCst), 1);
    let calls = house.calls();
    assert!((3..=4).contains(&calls), "{calls} calls of 2.5 s in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_source_never_runs_more_fetches_than_it_allows() {
    let house = house(Duration::from_millis(100), 3);
    let cells: Vec<_> = (0..30).map(|i| cell(i, Duration::from_mins(1))).collect();
    for cell in &cells {
        house.read(cell);
    }
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(house.source.peak.load(Ordering::SeqCst), 3);
    assert!(cells.iter().all(|cell| cell.state().is_tried()));
}

#[tokio::test(start_paused = true)]
async fn unread_queries_lapse_and_come_back() {
    let house = house(Duration::from_millis(10), 16);
    let cell = cell(1, Duration::from_secs(15));
    house.read(&cell);
    sleep(Duration::from_secs(400)).await;
    assert!(!cell.is_scheduled());
    assert!(!cell.state().is_tried(), "a lapsed query forgets its value");
    let calls = house.calls();
    assert!((20..=23).contains(&calls), "{calls}: five minutes of refreshes");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(house.calls(), calls);
    house.read(&cell);
    sleep(Duration::from_secs(1)).await;
    assert!(cell.state().is_tried());
}

impl House {
    fn claim(&self, cell: &Arc<QueryCell>, round: Tick) {
        cell.claim(Claim { round, hpas: 1 });
        if !cell.is_scheduled() {
            self.refresher.want(cell);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn claimed_queries_refresh_unread_and_lapse_with_the_claim() {
    let house = house(Duration::from_millis(10), 16);
    let cell = cell(1, Duration::from_secs(10));
    for _ in 0..10 {
        house.claim(&cell, house.clock.tick());
        sleep(Duration::from_mins(1)).await;
    }
    let calls = house.calls();
    assert!((59..=62).contains(&calls), "{calls} calls in ten minutes at 10 s");
    assert_eq!(cell.last_read(), None);
    // Nobody renews it: three minutes after the latest claim it is gone.
    sleep(Duration::from_secs(100)).await;
    assert!(cell.is_scheduled());
    sleep(Duration::from_secs(40)).await;
    assert!(!cell.is_scheduled() && !cell.state().is_tried());
}

#[tokio::test(start_paused = true)]
async fn a_released_query_goes_at_once_unless_others_read_it() {
    let house = house(Duration::from_millis(10), 16);
    let cells: Vec<_> = (0..4).map(|i| cell(i, Duration::from_secs(1))).collect();
    let [unread, read, replaced, shared] = &cells[..] else { unreachable!() };
    let round = house.clock.tick();
    for cell in &cells {
        house.claim(cell, round);
    }
    sleep(Duration::from_secs(20)).await;
    for cell in &cells[1..] {
        house.read(cell);
    }
    for cell in &cells {
        cell.release(Claim { round, hpas: 1 }, house.clock.tick());
    }
    sleep(Duration::from_secs(4)).await;
    // The controller ends what it had begun.
    house.read(read);
    assert!(unread.is_scheduled(), "an HPA may be replaced");
    sleep(Duration::from_secs(3)).await;
    assert!(!unread.is_scheduled() && read.is_scheduled());
    house.read(shared);
    house.claim(replaced, house.clock.tick());
    sleep(Duration::from_secs(25)).await;
    assert!(!read.is_scheduled(), "its reader is gone");
    assert!(replaced.is_scheduled() && shared.is_scheduled());
    // The other reader's last read counts as always.
    sleep(Duration::from_mins(4)).await;
    assert!(shared.is_scheduled());
    sleep(Duration::from_mins(1)).await;
    assert!(!shared.is_scheduled());
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_before_what_was_only_announced() {
    let house = house(Duration::from_secs(1), 2);
    let cells: Vec<_> = (0..100).map(|i| cell(i, Duration::from_mins(1))).collect();
    let round = house.clock.tick();
    for cell in &cells {
        house.claim(cell, round);
    }
    sleep(Duration::from_millis(1500)).await;
    // In line already, and new.
    for cell in [&cells[90], &cell(100, Duration::from_mins(1))] {
        assert!(cell.await_first(house.clock.tick()));
        house.read(cell);
        house.refresher.hurry(cell);
        // The fetches under way end, then its own.
        sleep(Duration::from_millis(2050)).await;
        assert!(cell.state().is_tried(), "{cell:?}");
    }
    let tried = cells.iter().filter(|cell| cell.state().is_tried()).count();
    assert!((8..=10).contains(&tried), "{tried}: two at a time");
}

#[tokio::test(start_paused = true)]
async fn keep_warm_queries_refresh_unread_until_their_definition_goes() {
    let house = house(Duration::from_millis(10), 16);
    let entry = Entry {
        id: DefinitionId {
            kind: DefinitionKind::ClusterExternalMetric,
            namespace: None,
            name: "warm".into(),
        },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::external("warm").unwrap(),
        scope: Scope::All,
        labels: Labels::empty(),
        query: QueryTemplate::Fixed(query(1)),
        policy: Arc::new(Policy {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: true,
        }),
        objects: None,
        transform: Arc::default(),
    };
    house.catalog.apply_files(vec![entry], Vec::new());
    sleep(Duration::from_mins(10)).await;
    let calls = house.calls();
    assert!((39..=42).contains(&calls), "{calls} calls in ten minutes at 15 s");
    house.catalog.apply_files(Vec::<Entry>::new(), Vec::new());
    sleep(Duration::from_secs(30)).await;
    let after = house.calls();
    sleep(Duration::from_mins(5)).await;
    assert_eq!(house.calls(), after);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_source_is_a_failed_fetch_and_the_next_one_runs() {
    let house = house(Duration::from_millis(10), 16);
    let cell = cell(1, Duration::from_secs(5));
    house.source.panics.store(true, Ordering::SeqCst);
    house.read(&cell);
    sleep(Duration::from_secs(1)).await;
    assert!(cell.state().trouble().unwrap().0.contains("defect"));
    house.source.panics.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(6)).await;
    sleep(Duration::from_secs(1)).await;
    assert!(cell.state().trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_refresher() {
    let house = house(Duration::from_millis(10), 16);
    house.read(&cell(1, Duration::from_secs(5)));
    sleep(Duration::from_secs(1)).await;
    house.tasks.stop().await;
    assert!(house.tasks.is_empty());
}
