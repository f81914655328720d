//! Many HPAs at once: the controller has five workers for all of them, so what holds one read up
//! holds every HPA of the cluster up, and what one HPA costs is paid once for each.

use std::time::{Duration, Instant};

use crate::crowd::{Crowd, average, scaling_active};
use crate::process::always;
use crate::reads::{AuditedRead, cadence};
use crate::workload::{SOON, Workload};
use crate::world::{HPA_CONTROLLER, World, exclusive};

/// HPAs on metrics of the upstream that hangs.
const HUNG: usize = 20;

/// HPAs on one metric. What the controller's default budget of requests lets through in one of
/// its default periods: 20 reads a second for 15 s.
const CROWD: usize = 300;

/// The controller's period in these tests is a second. A read is repeated a period after the
/// HPA is done, which takes a while on a loaded machine.
const FEW_PERIODS: Duration = Duration::from_secs(4);

fn calls(world: &World, source: &str) -> f64 {
    world.counted("tidepole_upstream_calls_total", &[&format!("source=\"{source}\"")])
}

#[test]
fn a_hanging_upstream_slows_no_other_hpa() {
    let world = exclusive();
    let web = Workload::new(&world, "hanging", 1);
    world.exposition.set("hanging_healthy", 10.0);
    let mut definitions = vec![(
        "healthy".to_owned(),
        "metric: hanging_healthy\nsource: main\nrefresh: 1s\n\
         prometheus: { query: 'sum(hanging_healthy)' }"
            .to_owned(),
    )];
    let metric = |number: usize| format!("hanging_{number}");
    definitions.extend((0..HUNG).map(|number| {
        let metric = metric(number);
        let spec = format!(
            "metric: {metric}\nsource: hanging\nrefresh: 1s\n\
             prometheus: {{ query: 'sum({metric})' }}"
        );
        (format!("hung-{number}"), spec)
    }));
    let definitions: Vec<(&str, &str)> =
        definitions.iter().map(|(name, spec)| (name.as_str(), spec.as_str())).collect();
    web.define(&definitions);
    web.autoscale(&["{ type: External, external: { metric: { name: hanging_healthy }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_scaling("ValidMetricFound");

    let crowd = Crowd::new(&web, HUNG);
    let begin = jiff::Timestamp::now();
    crowd.autoscale(metric);
    crowd.expect_all("every hung HPA says why", SOON, |hpa| {
        let (reason, message) = scaling_active(hpa);
        reason == "FailedGetExternalMetric"
            && message.contains(" in hanging: ")
            && message.contains("no answer within 5s")
            && message.contains("(source hanging)")
    });
    // The first read of each waits for its first fetch, 2 s on five workers: four rounds.
    let first = Duration::from_secs(8) + FEW_PERIODS;
    let (gap, count) = cadence(&world.hpa_reads("hanging")["hanging_healthy"], begin);
    println!("while the first reads waited: {count} healthy reads, {gap:?} apart at most");
    assert!(gap <= first, "the healthy HPA was not read for {gap:?}");

    // From now on a hung metric is an error in memory, although each fetch still hangs.
    let settled = jiff::Timestamp::now();
    let before = calls(&world, "hanging");
    for (value, shown) in [(10.5, "10500m"), (9.5, "9500m"), (10.0, "10")] {
        // Within a tenth of the target nothing is scaled, but the HPA shows what it has read.
        world.exposition.set("hanging_healthy", value);
        let set = Instant::now();
        crate::process::eventually("the healthy HPA follows", 2 * FEW_PERIODS, || {
            match web.current().get("hanging_healthy") {
                Some(seen) if seen == shown => Ok(()),
                other => Err(format!("{other:?} after {:?}", set.elapsed())),
            }
        });
    }
    always("the adapter is available", Duration::from_secs(20), || world.check_available());

    let reads = world.hpa_reads("hanging");
    let (gap, count) = cadence(&reads["hanging_healthy"], settled);
    println!("healthy: {count} reads, {gap:?} apart at most");
    assert!(gap <= FEW_PERIODS, "the healthy HPA was not read for {gap:?}");
    let mut slowest = (Duration::ZERO, Duration::ZERO, usize::MAX);
    for number in 0..HUNG {
        let reads = &reads[&metric(number)];
        let (gap, count) = cadence(reads, settled);
        assert!(gap <= FEW_PERIODS, "{} was not read for {gap:?}", metric(number));
        let settled: Vec<&AuditedRead> =
            reads.iter().filter(|read| read.received >= settled).collect();
        assert!(settled.iter().all(|read| read.code == 503), "{settled:?}");
        let took = settled.iter().map(|read| read.took).max().unwrap_or_default();
        assert!(took < Duration::from_secs(1), "a read of {} took {took:?}", metric(number));
        slowest = (slowest.0.max(gap), slowest.1.max(took), slowest.2.min(count));
    }
    let (gap, took, count) = slowest;
    println!("hung: at least {count} reads each, {gap:?} apart and {took:?} long at most");
    let hung = calls(&world, "hanging") - before;
    println!("the upstream went on hanging: {hung} calls ended meanwhile");
    // The breaker is open: probes alone go on, one at a time, each as long as the timeout.
    assert!((1.0..=16.0).contains(&hung), "{hung} calls to an upstream that hangs");
}

#[test]
fn three_hundred_hpas_on_one_metric() {
    let world = exclusive();
    let web = Workload::new(&world, "three-hundred", 1);
    world.exposition.set("three_hundred_jobs", 10.0);
    web.define(&[(
        "jobs",
        "metric: three_hundred_jobs\nsource: crowd\nrefresh: 5s\n\
         prometheus: { query: 'sum(three_hundred_jobs)' }",
    )]);
    let crowd = Crowd::new(&web, CROWD);
    let begin = jiff::Timestamp::now();
    crowd.autoscale(|_| "three_hundred_jobs".to_owned());
    let within = Duration::from_secs(20);
    crowd.expect_all("every HPA has a value", within, |hpa| {
        scaling_active(hpa).0 == "ValidMetricFound" && average(hpa) == Some("10")
    });

    let window = Instant::now();
    let before = calls(&world, "crowd");
    for (value, shown) in [(10.5, "10500m"), (9.5, "9500m"), (10.0, "10")] {
        // Within a tenth of the target nothing is scaled, but each HPA shows what it has read.
        world.exposition.set("three_hundred_jobs", value);
        crowd.expect_all("every HPA has read the new value", within, |hpa| {
            average(hpa) == Some(shown)
        });
    }
    std::thread::sleep(Duration::from_secs(50).saturating_sub(window.elapsed()));
    let made = calls(&world, "crowd") - before;
    let intervals = window.elapsed().as_secs_f64() / 5.0;
    println!("{made} upstream calls in {intervals:.1} refresh intervals");
    assert!((made - intervals).abs() <= 1.5, "{made} calls in {intervals:.1} intervals");

    let reads = &world.hpa_reads("three-hundred")["three_hundred_jobs"];
    let (gap, count) = cadence(reads, begin);
    let slowest = reads.iter().map(|read| read.took).max().unwrap_or_default();
    let elapsed: Duration = jiff::Timestamp::now().duration_since(begin).try_into().expect("later");
    println!("{count} reads in {elapsed:?}, {gap:?} apart and {slowest:?} long at most");
    assert!(reads.iter().all(|read| read.code == 200), "every read was answered");
    assert!(count >= 4 * CROWD, "every HPA has read at least once for each value");

    // An allowed identity is asked about again after 45 s, before its minute is over.
    let reviews = world.reviews("subjectaccessreviews").into_iter().filter(|review| {
        let attributes = &review["spec"]["resourceAttributes"];
        review["spec"]["user"] == HPA_CONTROLLER
            && attributes["namespace"] == "three-hundred"
            && attributes["resource"] == "three_hundred_jobs"
    });
    let reviews = reviews.count();
    let most = 1 + usize::try_from(elapsed.as_secs() / 45).expect("a small number");
    println!("{reviews} access reviews for the HPA controller, at most {most} are due");
    assert!((1..=most).contains(&reviews), "{reviews} access reviews in {elapsed:?}");
}
