//! The schedule against a source that answers at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tidepole::catalog::Catalog;
use tidepole::control::Refresher;
use tidepole::model::{
    Batch, Beat, Clock, Decimal, Dispatch, FetchError, Labels, Query, Sample, Series, Source,
    SystemClock, Tick,
};
use tidepole::task::TaskSet;
use tidepole::telemetry::Telemetry;
use tokio::runtime::{Builder, Handle};

use crate::cloudwatch::{MINUTE, definitions, source};
use crate::usage::{memory, thread_cpu};

/// What one `GetMetricData` call takes.
const LIMIT: usize = 500;

/// Minutes that are measured.
const MINUTES: u32 = 60;

/// A wall clock that follows tokio's.
#[derive(Debug)]
struct Driven {
    ticks: SystemClock,
    start: Tick,
}

impl Clock for Driven {
    fn now(&self) -> Timestamp {
        let base = Timestamp::from_second(1_800_000_000).expect("a time of this century");
        base + self.ticks.tick().since(self.start)
    }

    fn tick(&self) -> Tick {
        self.ticks.tick()
    }
}

/// Answers at once.
struct Instant {
    /// Whether queries share calls and are due on a grid, or each is a call of its own, at a moment
    /// of its own.
    shared: bool,
    clock: Arc<dyn Clock>,
    fetches: AtomicUsize,
    queries: AtomicUsize,
}

impl Source for Instant {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        async move {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            self.queries.fetch_add(queries.len(), Ordering::Relaxed);
            let answer = |_| {
                let series = vec![Series { labels: Labels::empty(), value: Decimal::ONE }];
                let (timestamp, observed) = (self.clock.now(), self.clock.tick());
                Ok(Sample {
                    timestamp,
                    observed,
                    series,
                    without_number: Vec::new(),
                    warnings: Vec::new(),
                })
            };
            queries.iter().map(answer).collect()
        }
        .boxed()
    }

    fn concurrency(&self) -> usize {
        16
    }

    fn dispatch(&self, _: &Query) -> Dispatch {
        Dispatch {
            upstream: "one".into(),
            batch: self.shared.then_some(Batch { key: 1, limit: LIMIT }),
            beat: self.shared.then_some(Beat { period: MINUTE, delay: MINUTE }),
        }
    }
}

/// Measures so many queries and prints what came of it.
pub(crate) fn run(queries: usize, shared: bool) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(measure(queries, shared));
}

async fn measure(queries: usize, shared: bool) {
    let ticks = SystemClock::new();
    let start = ticks.tick();
    let clock: Arc<dyn Clock> = Arc::new(Driven { ticks, start });
    let upstream = Arc::new(Instant {
        shared,
        clock: Arc::clone(&clock),
        fetches: AtomicUsize::new(0),
        queries: AtomicUsize::new(0),
    });
    let (tasks, _died) = TaskSet::new(Handle::current());
    let catalog = Arc::new(Catalog::new());
    let (empty, _) = memory();
    catalog.apply_files(definitions(queries), Vec::new());
    let (defined, _) = memory();
    let sources = BTreeMap::from([(source(), Arc::clone(&upstream) as Arc<dyn Source>)]);
    let _refresher =
        Refresher::start(sources, Arc::clone(&catalog), clock, &tasks, &Telemetry::new());
    // The first fetches, and one round on the grid.
    tokio::time::sleep(2 * MINUTE).await;
    let (fresh, _) = memory();
    let counts = || {
        (upstream.fetches.swap(0, Ordering::Relaxed), upstream.queries.swap(0, Ordering::Relaxed))
    };
    counts();
    let mut spent = Vec::new();
    for _ in 0..MINUTES {
        let before = thread_cpu();
        tokio::time::sleep(MINUTE).await;
        spent.push(thread_cpu().saturating_sub(before));
        let fetches = if shared { queries.div_ceil(LIMIT) } else { queries };
        assert_eq!(counts(), (fetches, queries), "fetches and queries a minute");
    }
    let (end, peak) = memory();
    let due = u64::from(MINUTES) + 2;
    // On a grid two are due in the first two minutes; without one a third may be.
    let due = due..=due + u64::from(!shared);
    assert!(catalog.snapshot().cells().all(|(_, cell)| due.contains(&cell.fetches())));

    let mean = spent.iter().sum::<Duration>() / MINUTES;
    let worst = spent.iter().max().copied().unwrap_or_default();
    let per_query = |bytes: u64| bytes / queries.max(1) as u64;
    let mib = |bytes: u64| bytes / (1 << 20);
    let how = if shared { format!("{LIMIT} in a call") } else { "a call each".to_owned() };
    println!("schedule of {queries} queries, each asked once a minute, {how}:");
    println!(
        "  processor: {mean:?} a minute (worst {worst:?}), {:.4} % of a core",
        100.0 * mean.as_secs_f64() / MINUTE.as_secs_f64()
    );
    println!(
        "  memory per query: {} bytes for definition, query and cell, {} for schedule and sample",
        per_query(defined.saturating_sub(empty)),
        per_query(fresh.saturating_sub(defined))
    );
    println!("  resident: {} MiB in the end, {} MiB at most", mib(end), mib(peak));
}
