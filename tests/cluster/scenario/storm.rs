//! Upstreams that hang, in the shapes in which they cost other adapters their HPAs: the figures are
//! printed in lines that begin with `measured:`.
//!
//! The HPA controller asks for one metric after the other, with five workers for all HPAs of the
//! cluster. An adapter that asks its upstream while it is being read hands every hang on to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::aws_fakes::{Queue, Sqs};
use crate::control_plane::{ControlPlane, Pace};
use crate::crowd::{Crowd, scaling_active};
use crate::process::eventually;
use crate::reads::{AuditedRead, cadence, cadence_until};
use crate::upstream::Front;
use crate::workload::{SOON, Workload};
use crate::world::{Exclusive, exclusive};

/// HPAs on queues. With the one on a Prometheus metric they are read 808 times a minute at the
/// controller's default pace.
const QUEUES: usize = 201;

/// The controller's default time between two looks at one HPA.
const PERIOD: Duration = Duration::from_secs(15);

/// Two periods and some: every HPA reads at least twice in this time.
const TWO_READS: Duration = PERIOD.saturating_mul(2).saturating_add(Duration::from_secs(3));

/// No look is missed: that would make two periods. A look begins a period after the last one has
/// ended, and waits for a worker and for the controller's own budget of requests: milliseconds when
/// all goes its way, several seconds after a burst of new HPAs on a machine with too much to do.
const NONE_MISSED: Duration = Duration::from_secs(25);

/// After every HPA has changed its state, the controller has up to two requests for each of them to
/// make, at 20 a second, and those that had to wait are looked at again after less than a period:
/// its timer of a period puts them into the queue whenever they were taken out of it. A round and a
/// period later every HPA is looked at once a period again.
const SETTLED: Duration = Duration::from_secs(36);

/// What the controller needs at first, by its own budget: a period, and two requests for each of
/// the HPAs that were made at once, at 20 a second.
const FIRST_ROUND: Duration = Duration::from_secs(40);

/// A call of a queue. Longer than the adapter waits for an answer.
const HANGS: Duration = Duration::from_secs(10);

/// A read that is answered from memory, on a loaded machine and with the API server's own part.
const AT_ONCE: Duration = Duration::from_secs(1);

/// HPAs on one metric that is never answered.
const ON_ONE: usize = 20;

/// The controller's controllers at their defaults, until this is dropped.
struct AtDefaultPace<'a>(&'a ControlPlane);

impl<'a> AtDefaultPace<'a> {
    fn new(plane: &'a ControlPlane) -> Self {
        plane.controllers(Pace::Default);
        Self(plane)
    }
}

impl Drop for AtDefaultPace<'_> {
    fn drop(&mut self) {
        let restart = std::panic::AssertUnwindSafe(|| self.0.controllers(Pace::Quick));
        let restarted = std::panic::catch_unwind(restart);
        // A second panic while unwinding would abort every other test.
        assert!(restarted.is_ok() || std::thread::panicking(), "the controllers do not start");
    }
}

fn queue(number: usize) -> String {
    format!("storm-{number}")
}

fn metric(number: usize) -> String {
    format!("storm_{number}")
}

/// The HPA controller's reads of a namespace within a time, as sums over all metrics.
struct Window {
    reads: usize,
    /// The longest time without a read of one metric, the edges of the window included.
    gap: Duration,
    slowest: Duration,
    /// Reads by metric that were not answered with a value.
    failed: BTreeMap<String, usize>,
    /// Reads a minute of each metric; 0 of one that was not read twice.
    paces: Vec<f64>,
}

impl Window {
    fn new(world: &Exclusive, begin: jiff::Timestamp, end: jiff::Timestamp) -> Self {
        let mut window = Self {
            reads: 0,
            gap: Duration::ZERO,
            slowest: Duration::ZERO,
            failed: BTreeMap::new(),
            paces: Vec::new(),
        };
        for (metric, reads) in world.hpa_reads("storm") {
            let (gap, count) = cadence_until(&reads, begin, end);
            assert!(gap <= NONE_MISSED, "{metric} was not read for {gap:?}");
            (window.reads, window.gap) = (window.reads + count, window.gap.max(gap));
            let reads: Vec<AuditedRead> =
                reads.into_iter().filter(|read| (begin..end).contains(&read.received)).collect();
            window.paces.push(a_minute(&reads));
            for read in &reads {
                assert!(read.took < AT_ONCE, "a read of {metric} waited: {read:?}");
                window.slowest = window.slowest.max(read.took);
                if read.code != 200 {
                    *window.failed.entry(metric.clone()).or_default() += 1;
                }
            }
        }
        window
    }

    /// Reads of all metrics a minute, by the time from each metric's first read to its last: a
    /// window's edges fall between the reads of one and among those of another.
    fn a_minute(&self) -> f64 {
        self.paces.iter().sum()
    }

    fn cadence(&self) -> String {
        format!(
            "each metric read at least every {:.1} s, the slowest read {} ms",
            self.gap.as_secs_f64(),
            self.slowest.as_millis()
        )
    }

    fn figures(&self) -> String {
        format!("{:.0} HPA reads a minute, {}", self.a_minute(), self.cadence())
    }
}

/// Reads a minute of one metric: 0 when there are no two.
fn a_minute(reads: &[AuditedRead]) -> f64 {
    let [first, .., last] = reads else { return 0.0 };
    let intervals = u32::try_from(reads.len() - 1).expect("a few reads");
    f64::from(intervals) * 60.0 / last.received.duration_since(first.received).as_secs_f64()
}

/// Lets time pass; its beginning and end.
fn pass(time: Duration) -> (jiff::Timestamp, jiff::Timestamp) {
    let begin = jiff::Timestamp::now();
    std::thread::sleep(time);
    (begin, jiff::Timestamp::now())
}

/// What the adapter says about each of the queues' metrics.
fn states(world: &Exclusive) -> BTreeMap<String, usize> {
    let text = world.installation.admin("/api/metrics?namespace=storm&limit=1000");
    let all: serde_json::Value =
        serde_json::from_str(&text.expect("the status is told")).expect("answers are JSON");
    let mut states = BTreeMap::new();
    for row in all["metrics"].as_array().expect("metrics are a list") {
        *states.entry(row["state"].to_string()).or_default() += 1;
    }
    states
}

fn calls(world: &Exclusive) -> u64 {
    world.faulty_queues.server().hits()
}

/// The HPA on the metric that is well is read, and never in vain.
fn healthy_beside_them(world: &Exclusive, begin: jiff::Timestamp, end: jiff::Timestamp) {
    let healthy = &world.hpa_reads("storm")["storm_healthy"];
    let (gap, count) = cadence_until(healthy, begin, end);
    println!("measured: a healthy HPA beside them: {count} reads, {gap:.1?} apart at most");
    assert!(healthy.iter().all(|read| read.code == 200), "{healthy:?}");
}

/// Of the queues one is without answers: its last value is held for `maxAge`, then the reads say why.
fn held_then_told(world: &Exclusive, window: &Window, begin: jiff::Timestamp) {
    assert_eq!(window.failed.keys().collect::<Vec<_>>(), [&metric(0)]);
    let reads = world.hpa_reads("storm").remove(&metric(0)).expect("it was read");
    let reads: Vec<&AuditedRead> = reads.iter().filter(|read| read.received >= begin).collect();
    let held = reads.iter().take_while(|read| read.code == 200).count();
    assert!(held >= 1 && reads[held..].iter().all(|read| read.code == 503), "{reads:?}");
}

/// All queues hang from the beginning; then none does; then one. In between the endpoint is as it
/// should be. One HPA beside them reads a healthy Prometheus metric.
#[test]
fn two_hundred_queues_that_hang_keep_no_hpa_waiting() {
    let world = exclusive();
    let web = Workload::new(&world, "storm", 1);
    world.exposition.set("storm_healthy", 10.0);
    let mut definitions = vec![(
        "healthy".to_owned(),
        "metric: storm_healthy\nsource: main\nrefresh: 15s\n\
         prometheus: { query: 'sum(storm_healthy)' }"
            .to_owned(),
    )];
    definitions.extend((0..QUEUES).map(|number| {
        let (metric, queue) = (metric(number), queue(number));
        world.faulty_queues.queue(&queue, Queue { visible: 10, ..Queue::default() });
        let spec = format!(
            "metric: {metric}\nsource: faulty\nrefresh: 15s\nmaxAge: 30s\n\
             sqs: {{ queues: [{queue}] }}"
        );
        (queue, spec)
    }));
    let definitions: Vec<(&str, &str)> =
        definitions.iter().map(|(name, spec)| (name.as_str(), spec.as_str())).collect();
    web.define(&definitions);
    let crowd = Crowd::new(&web, QUEUES);
    let _paced = AtDefaultPace::new(&world.plane);

    world.faulty_queues.delay(HANGS);
    let (before, made) = (calls(&world), Instant::now());
    web.autoscale(&["{ type: External, external: { metric: { name: storm_healthy }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    crowd.autoscale(metric);
    eventually("every HPA has read once", FIRST_ROUND, || {
        let read = world.hpa_reads("storm").len();
        if read == QUEUES + 1 { Ok(()) } else { Err(format!("{read} have")) }
    });
    world.exposition.set("storm_healthy", 10.5);
    let (begin, end) = pass(TWO_READS);
    let all_hang = Window::new(&world, begin, end);
    let (made, since) = (calls(&world) - before, made.elapsed());
    println!(
        "measured: {QUEUES} queues that hang for 10 s a call: {}; {made} calls in {:.0} s",
        all_hang.cadence(),
        since.as_secs_f64()
    );
    assert!(all_hang.failed.len() == QUEUES && !all_hang.failed.contains_key("storm_healthy"));
    healthy_beside_them(&world, begin, end);
    assert_eq!(web.current()["storm_healthy"], "10500m", "the healthy HPA follows");
    crowd.expect_all("every HPA says why", Duration::from_secs(1), |hpa| {
        let (reason, message) = scaling_active(hpa);
        reason == "FailedGetExternalMetric"
            && message.contains(" in storm: ")
            && message.contains("(source faulty)")
            && message.contains("no answer")
    });
    // As many as fit beside each other at first, in place of the first four failures one more, then
    // probes, one after the other.
    let most = 16 + 4 + since.as_secs() / 5;
    assert!((1..=most).contains(&made), "{made} calls of an endpoint that hangs in {since:?}");

    world.faulty_queues.delay(Duration::ZERO);
    // The longest pause between two probes is 30 s, then the queues are asked one after the other.
    eventually("every queue's depth is known", Duration::from_secs(45), || {
        let states = states(&world);
        if states.get("\"fresh\"") == Some(&(QUEUES + 1)) {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });

    crowd.expect_all("every HPA has its value", FIRST_ROUND, |hpa| {
        scaling_active(hpa).0 == "ValidMetricFound"
    });
    std::thread::sleep(SETTLED);
    let before = calls(&world);
    let (begin, end) = pass(Duration::from_mins(1));
    let none_hangs = Window::new(&world, begin, end);
    let made = calls(&world) - before;
    println!(
        "measured: no queue hangs: {}, {} reads in this minute; {made} calls",
        none_hangs.figures(),
        none_hangs.reads
    );
    assert!(none_hangs.failed.is_empty(), "{:?}", none_hangs.failed);

    let hung = Sqs::error(503, "ServiceUnavailable", "late").after(HANGS);
    world.faulty_queues.fault_of(&queue(0), Some(hung));
    let asked = || world.faulty_queues.hits("GetQueueAttributes", &queue(0));
    let (before, asked_before) = (calls(&world), asked());
    let (begin, end) = pass(Duration::from_mins(1));
    let one_hangs = Window::new(&world, begin, end);
    let (made, of_it) = (calls(&world) - before, asked() - asked_before);
    world.faulty_queues.fault_of(&queue(0), None);
    println!(
        "measured: one queue of {QUEUES} hangs: {}, {} reads in this minute; {made} calls, {of_it} \
         of the queue that hangs",
        one_hangs.figures(),
        one_hangs.reads
    );
    let (with, without) = (one_hangs.a_minute(), none_hangs.a_minute());
    assert!((with / without - 1.0).abs() <= 0.05, "{with} reads a minute, {without} without it");
    // And in that very minute, edges or not.
    assert!(one_hangs.reads >= 4 * (QUEUES + 1) * 95 / 100, "{} reads", one_hangs.reads);
    held_then_told(&world, &one_hangs, begin);
    assert!((1..=6).contains(&of_it), "{of_it} calls in a minute of a queue that hangs");
    crowd.expect_all("replicas are where they were", Duration::from_secs(1), |hpa| {
        hpa.status.as_ref().is_some_and(|status| status.desired_replicas == 1)
    });
}

/// One query that its server never answers, read by twenty HPAs, beside a healthy query of the same
/// server.
#[test]
fn one_query_that_hangs_slows_no_other_of_its_server() {
    let world = exclusive();
    let web = Workload::new(&world, "hung-query", 1);
    world.exposition.set("hung_query_healthy", 10.0);
    let hung = format!(
        "metric: hung_query_hung\nsource: partly\nrefresh: 1s\n\
         prometheus: {{ query: 'sum({})' }}",
        Front::UNANSWERED
    );
    web.define(&[
        (
            "healthy",
            "metric: hung_query_healthy\nsource: partly\nrefresh: 1s\n\
             prometheus: { query: 'sum(hung_query_healthy)' }",
        ),
        ("hung", &hung),
    ]);
    web.autoscale(&["{ type: External, external: { metric: { name: hung_query_healthy }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_scaling("ValidMetricFound");
    let crowd = Crowd::new(&web, ON_ONE);
    let first = jiff::Timestamp::now();
    crowd.autoscale(|_| "hung_query_hung".to_owned());
    crowd.expect_all("every HPA says why", SOON, |hpa| {
        let (reason, message) = scaling_active(hpa);
        reason == "FailedGetExternalMetric" && message.contains("no answer within 5s")
    });
    let (gap, _) = cadence(&world.hpa_reads("hung-query")["hung_query_healthy"], first);
    println!("while the first fetch hung: {gap:?} apart at most");
    // The first reads wait for the first fetch, 2 s on five workers: four rounds.
    assert!(gap <= Duration::from_secs(12), "the healthy HPA was not read for {gap:?}");

    let timeouts = || {
        let labels = ["source=\"partly\"", "outcome=\"timeout\""];
        world.counted("tidepole_upstream_calls_total", &labels)
    };
    let before = timeouts();
    world.exposition.set("hung_query_healthy", 10.5);
    let (begin, end) = pass(Duration::from_secs(30));
    let reads = world.hpa_reads("hung-query");
    let (gap, count) = cadence_until(&reads["hung_query_healthy"], begin, end);
    let (_, of_hung) = cadence_until(&reads["hung_query_hung"], begin, end);
    let slowest = reads
        .values()
        .flatten()
        .filter(|read| read.received >= begin)
        .map(|read| read.took)
        .max()
        .unwrap_or_default();
    let hung = timeouts() - before;
    println!(
        "measured: one query hangs, read {of_hung} times in 30 s by {ON_ONE} HPAs: a healthy HPA \
         on the same server was read {count} times, {:.1} s apart at most, the slowest read {} ms; \
         {hung} calls hung",
        gap.as_secs_f64(),
        slowest.as_millis()
    );
    // The controller's period is a second here; a read is repeated a period after the HPA is done,
    // which takes a while on a loaded machine.
    assert!(gap <= Duration::from_secs(4), "the healthy HPA was not read for {gap:?}");
    assert!(count >= 12, "{count} reads of the healthy HPA in 30 s");
    assert!(slowest < AT_ONCE, "a read took {slowest:?}");
    // Those before `first` may have come before the first scrape of the series.
    let failed: Vec<&AuditedRead> = reads["hung_query_healthy"]
        .iter()
        .filter(|read| read.received >= first && read.code != 200)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(web.current()["hung_query_healthy"], "10500m", "the healthy HPA follows");
    // One at a time, 5 s each.
    assert!((1.0..=7.0).contains(&hung), "{hung} calls of the query that hangs");
}
