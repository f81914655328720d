//! An HPA on a load balancer's latency, as `CloudWatch` has it: README's example, on a
//! high-resolution metric so that nobody waits for minutes. And one on a metric that is throttled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::aws_fakes::CloudWatch;
use crate::aws_fakes::cloudwatch::Metric;
use crate::control_plane::run;
use crate::process::{always, eventually};
use crate::workload::{A_WHILE, Condition, SOON, Workload};
use crate::world::{World, shared};

/// How the balancer's p99 went: seconds since the epoch, and the value from then on.
#[derive(Clone)]
struct Course(Arc<Mutex<BTreeMap<i64, f64>>>);

impl Course {
    /// One value, for ever.
    fn of(value: f64) -> Self {
        Self(Arc::new(Mutex::new(BTreeMap::from([(0, value)]))))
    }

    /// Sets the value of every second after this one: what has been measured stays.
    fn continues_at(&self, value: f64) {
        let next = jiff::Timestamp::now().as_second() + 1;
        self.lock().insert(next, value);
    }

    fn at(&self, second: i64) -> Option<f64> {
        self.lock().range(..=second).next_back().map(|(_, value)| *value)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, f64>> {
        self.0.lock().expect("no holder panics")
    }
}

/// The metric of README's example.
fn balancer() -> Metric {
    Metric::new("AWS/ApplicationELB", "TargetResponseTime")
        .dim("LoadBalancer", "app/web/0123456789abcdef")
}

/// Publishes the metric; every statistic but p99 is another number.
fn publish(world: &World, course: &Course) {
    let course = course.clone();
    world.cloudwatch.generate(&balancer(), move |asked, bucket| {
        let value = course.at(bucket)?;
        Some(if asked.statistic == "p99" { value } else { value / 10.0 })
    });
}

/// `kubectl get hpa web` and one path of it.
fn kubectl(web: &Workload<'_>, path: &str) -> String {
    let mut get = web.world.plane.kubectl();
    get.arg(format!("--namespace={}", web.namespace)).args(["get", "hpa", "web"]);
    if !path.is_empty() {
        get.arg(format!("--output=jsonpath={path}"));
    }
    run(&mut get).expect("the HPA is there")
}

const VALUE: &str = "{.status.currentMetrics[0].external.current.value}";
const ACTIVE: &str =
    "{range .status.conditions[?(@.type=='ScalingActive')]}{.status} {.reason}: {.message}{end}";

#[test]
fn hpa_on_latency_of_a_load_balancer() {
    let world = shared();
    // A `Value` is multiplied with the ready pods: four are, whatever the replicas.
    let web = Workload::with_ready_limit(&world, "elb-latency", 4, 4);
    let course = Course::of(0.3);
    publish(&world, &course);
    web.define(&[(
        "latency",
        "metric: web_latency_p99_seconds\n\
         source: aws\n\
         cloudwatch:\n  \
           metric:\n    \
             namespace: AWS/ApplicationELB\n    \
             name: TargetResponseTime\n    \
             dimensions: { LoadBalancer: app/web/0123456789abcdef }\n    \
             statistic: p99\n    \
             period: 1s",
    )]);
    web.autoscale(&["{ type: External, external: { metric: { name: web_latency_p99_seconds }, \
                     target: { type: Value, value: 300m } } }"]);
    web.expect_scaling("ValidMetricFound");
    assert_eq!(kubectl(&web, VALUE), "300m");
    web.expect_unmoved(4, A_WHILE);

    // 4 pods x 0.45 / 0.3
    course.continues_at(0.45);
    web.expect_replicas(6);
    assert_eq!(kubectl(&web, VALUE), "450m");
    println!("{}", kubectl(&web, ""));
    // 4 x 0.7 / 0.3, rounded up
    course.continues_at(0.7);
    web.expect_replicas(10);
    // Half the target halves the pods, and the next look halves them again.
    course.continues_at(0.15);
    web.expect_replicas(1);
    assert!(
        kubectl(&web, ACTIVE).starts_with("True ValidMetricFound"),
        "{}",
        kubectl(&web, ACTIVE)
    );

    // Of all that is asked: other scenarios have metrics of their own.
    let calls = world.cloudwatch.calls();
    let stats = calls
        .iter()
        .flat_map(|call| call.queries.iter())
        .filter_map(|query| query.metric_stat.as_ref());
    let stat = stats.rev().find(|stat| stat.metric.metric_name == "TargetResponseTime");
    let stat = stat.expect("it was asked");
    assert_eq!((&*stat.stat, stat.period), ("p99", 1));

    // The balancer is gone. For a while the last value is held, then its age is the error; replicas
    // stay where they are.
    world.cloudwatch.delete(&balancer());
    let before = jiff::Timestamp::now();
    let said = eventually("the condition says that there is no datapoint", SOON, || {
        let said = kubectl(&web, ACTIVE);
        if said.starts_with("False FailedGetExternalMetric") { Ok(said) } else { Err(said) }
    });
    println!("{said}");
    assert!(jiff::Timestamp::now().duration_since(before).as_secs() >= 10, "it was not held");
    for words in [
        "web_latency_p99_seconds in elb-latency: CloudWatch in eu-west-1: no datapoint of p99 of \
         AWS/ApplicationELB TargetResponseTime {LoadBalancer=app/web/0123456789abcdef} per 1s",
        "the exact set of dimensions",
        "(source aws); last good value 150m at ",
        "is older than maxAge 23s",
    ] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    web.expect_unmoved(1, A_WHILE);

    // And back: nothing has to be restarted.
    publish(&world, &course);
    course.continues_at(0.6);
    // Twice the pods, until no more than four get ready.
    web.expect_replicas(8);
}

/// Replicas stay where they are: at a number that is neither the least nor the most.
#[test]
fn a_throttled_metric_holds_its_replicas_for_a_minute() {
    let world = shared();
    let web = Workload::new(&world, "throttled", 1);
    let metric = Metric::new("Tests", "Throttled");
    world.faulty_cloudwatch.generate(&metric, |_, _| Some(40.0));
    web.define(&[(
        "jobs",
        "metric: throttled_jobs\nsource: faulty\nmaxAge: 30s\ncloudwatch:\n  metric: \
         { namespace: Tests, name: Throttled, statistic: Maximum, period: 1s }",
    )]);
    web.autoscale(&["{ type: External, external: { metric: { name: throttled_jobs }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_replicas(4);

    world.faulty_cloudwatch.fault(Some(CloudWatch::throttled()));
    world.faulty_cloudwatch.generate(&metric, |_, _| Some(80.0));
    let (begin, before) = (Instant::now(), world.faulty_cloudwatch.hits());
    let mut told: Option<(Duration, Condition)> = None;
    always("throttled keeps 4 replicas", Duration::from_secs(65), || {
        let scaling = web.scaling().ok_or("no condition")?;
        if scaling.status == "False" && told.is_none() {
            told = Some((begin.elapsed(), scaling));
        } else if scaling.status == "True" && told.is_some() {
            return Err(format!("a value from nowhere: {scaling:?}"));
        }
        let seen = web.replicas();
        if seen == 4 { Ok(()) } else { Err(seen.to_string()) }
    });
    let calls = world.faulty_cloudwatch.hits() - before;
    let (held, failed) = told.expect("the value gets older than maxAge");
    println!(
        "measured: throttled for 65 s with maxAge 30s: 4 replicas all along, the value held for \
         {:.0} s, then FailedGetExternalMetric; {calls} calls",
        held.as_secs_f64()
    );
    println!("{failed:?}");
    assert_eq!(failed.reason, "FailedGetExternalMetric");
    for words in [
        "throttled_jobs in throttled: ",
        "AWS asks for fewer calls",
        "(source faulty)",
        "last good value 40 at",
    ] {
        assert!(failed.message.contains(words), "no {words:?} in: {}", failed.message);
    }
    // The age counts from the start of the sample's bucket, which is some seconds old when it comes.
    assert!(held >= Duration::from_secs(15), "held for {held:?}");
    // Asked every second when all is well.
    assert!((2..=25).contains(&calls), "{calls} calls in 65 s of throttling");

    world.faulty_cloudwatch.fault(None);
    web.expect_replicas(8);
    assert_eq!(web.expect_scaling("ValidMetricFound").status, "True");
}
