//! The refresher with the real AWS source against the fake `CloudWatch`, minute after minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidepole::cache::QueryCell;
use tidepole::catalog::Catalog;
use tidepole::control::Refresher;
use tidepole::model::{Clock, Source, SystemClock};
use tidepole::source::{AwsSettings, Metrics, Settings, build};
use tidepole::task::TaskSet;
use tidepole::telemetry::Telemetry;
use tokio::runtime::Builder;

use crate::cloudwatch::{MINUTE, definitions, source};
use crate::part;
use crate::process::Server;
use crate::upstream::{LATENCY, LISTENING};
use crate::usage::{memory, other_threads_cpu};

/// Where the fake is, for the child that reads it.
const URL: &str = "TIDEPOLE_BENCH_CLOUDWATCH";

/// Minutes that are measured.
const MINUTES: u32 = 3;

/// Starts the fake as a process and gives what a child needs to read it.
pub(crate) fn start_upstream() -> (Server, Vec<(&'static str, String)>) {
    let mut server = Server::start(&mut part("upstream"));
    let url = server.wait_for(|line| line.strip_prefix(LISTENING).map(str::to_owned));
    let mut environment: Vec<_> = [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    environment.push((URL, url));
    (server, environment)
}

/// Measures so many definitions and prints what came of it.
pub(crate) fn run(count: usize) {
    let url = std::env::var(URL).expect("the parent says where the fake is");
    // All background work of the server is on one thread; so here, and this one only looks on.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let telemetry = Telemetry::new();
    let mut settings = AwsSettings::new("eu-west-1");
    settings.endpoint_url = Some(url.parse().expect("a URL"));
    let _inside = runtime.enter();
    let metrics = Metrics::register(&telemetry);
    let aws = build(&source(), &Settings::Aws(Box::new(settings)), Arc::clone(&clock), &metrics);
    let sources: BTreeMap<_, Arc<dyn Source>> =
        BTreeMap::from([(source(), aws.expect("the settings are good").source)]);
    let (tasks, _died) = TaskSet::new(runtime.handle().clone());
    let catalog = Arc::new(Catalog::new());
    catalog.apply_files(definitions(count), Vec::new());
    let cells: Vec<Arc<QueryCell>> =
        catalog.snapshot().cells().map(|(_, cell)| Arc::clone(cell)).collect();

    let started = Instant::now();
    let _refresher = Refresher::start(sources, catalog, clock, &tasks, &telemetry);
    let first = in_place(&cells, 1, started);
    println!("{count} CloudWatch definitions of one metric, {LATENCY:?} a call:");
    println!("  first values: all in place after {first:.1?}");

    // From the middle of one minute to that of the next, so that each has its datapoints whole.
    std::thread::sleep(until_next_minute() + MINUTE / 2);
    let mut asked = upstream_calls(&telemetry);
    for _ in 0..MINUTES {
        let before = other_threads_cpu();
        let fetches = cells[0].fetches();
        std::thread::sleep(until_next_minute());
        let after = in_place(&cells, fetches + 1, Instant::now());
        // The rest of the minute, so that all of it is counted.
        std::thread::sleep((MINUTE / 2).saturating_sub(after));
        let spent = other_threads_cpu().saturating_sub(before);
        let now = upstream_calls(&telemetry);
        println!(
            "  a minute: {} calls, all values in place {after:.2?} after it, {spent:.1?} of processor, {:.2} % of a core",
            now - asked,
            100.0 * spent.as_secs_f64() / MINUTE.as_secs_f64()
        );
        asked = now;
    }
    let troubled = cells.iter().filter(|cell| cell.state().trouble().is_some()).count();
    assert_eq!(troubled, 0, "every metric could be read");
    let (now, peak) = memory();
    println!("  resident: {} MiB, {} MiB at most", now >> 20, peak >> 20);
}

/// How long after `since` every cell has a value of its fetch of this number.
fn in_place(cells: &[Arc<QueryCell>], fetch: u64, since: Instant) -> Duration {
    let mut left: Vec<&Arc<QueryCell>> = cells.iter().collect();
    let newest = |cell: &QueryCell| cell.state().last_sample().map(|sample| sample.timestamp);
    let before: Vec<Option<Timestamp>> = left.iter().map(|cell| newest(cell)).collect();
    let oldest = before.iter().min().copied().flatten();
    loop {
        left.retain(|cell| cell.fetches() < fetch || newest(cell) <= oldest);
        if left.is_empty() {
            return since.elapsed();
        }
        assert!(since.elapsed() < MINUTE, "{} of {} have no value", left.len(), cells.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn until_next_minute() -> Duration {
    let minute = i64::try_from(MINUTE.as_millis()).expect("a minute is short");
    let left = minute - Timestamp::now().as_millisecond().rem_euclid(minute);
    Duration::from_millis(left.unsigned_abs())
}

/// Calls that went out, pages and refusals included.
fn upstream_calls(telemetry: &Telemetry) -> u64 {
    telemetry
        .encode()
        .lines()
        .filter(|line| line.starts_with("tidepole_upstream_calls_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
