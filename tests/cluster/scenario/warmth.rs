//! What HPAs refer to is fetched before they read it: a new HPA, one that goes, and an adapter that
//! is replaced or comes back under fifty of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::adapter::Installation;
use crate::control_plane::run;
use crate::crowd::{Crowd, scaling_active};
use crate::process::{always, eventually};
use crate::reads::{AuditedRead, cadence};
use crate::upstream::Front;
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{Exclusive, World, exclusive, shared};

/// HPAs, each on a metric of its own, whose upstream takes a second for every answer.
const CROWD: usize = 50;

/// A read that waits for its upstream, which takes [`Front::DELAY`], takes longer than this; one from
/// memory does not, on a loaded machine and with the API server's own part.
const NO_WAIT: Duration = Duration::from_millis(600);

/// The controller's period in these tests is a second. A read is repeated a period after the HPA
/// is done, which takes a while on a loaded machine; if each of the fifty waited for its upstream once,
/// on the controller's five workers, it would be ten.
const FEW_PERIODS: Duration = Duration::from_secs(5);

/// An HPA over a Deployment that is not there: the controller never comes to read its metric, so
/// whatever happens to the metric is the watch's doing.
fn idle_hpa(namespace: &str, metric: &str) -> String {
    format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ name: idle, namespace: {namespace} }}
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: nowhere }}
  maxReplicas: 10
  metrics:
    - type: External
      external: {{ metric: {{ name: {metric} }}, target: {{ type: Value, value: \"10\" }} }}
"
    )
}

fn row(installation: &Installation, namespace: &str, metric: &str) -> Value {
    installation.row(&format!("namespace={namespace}&q={metric}"))
}

#[test]
fn an_hpa_makes_its_metric_wanted_and_its_end_ends_that() {
    let world = shared();
    let web = Workload::new(&world, "warmth", 1);
    world.exposition.set("warmth_jobs", 40.0);
    web.define(&[(
        "jobs",
        "metric: warmth_Jobs\nsource: main\nrefresh: 1s\n\
         prometheus: { query: 'sum(warmth_jobs)' }",
    )]);
    let look = || row(&world.installation, "warmth", "warmth_jobs");
    eventually("the definition is loaded", SOON, || match &look()["state"] {
        Value::String(state) if state == "idle" => Ok(()),
        other => Err(other.to_string()),
    });

    world.plane.apply(&idle_hpa("warmth", "warmth_Jobs"));
    let fresh = |row: &Value| {
        let warm = row["state"] == "fresh" && row["value"] == "40" && row["hpas"] == 1;
        if warm && row["lastReadAgeSeconds"].is_null() { Ok(()) } else { Err(row.to_string()) }
    };
    eventually("the metric is warm", Duration::from_secs(5), || fresh(&look()));
    always("it stays fresh without a read", A_WHILE, || {
        fresh(&look())?;
        let age = look()["sampleAgeSeconds"].as_f64().unwrap_or(f64::MAX);
        if age < 3.0 { Ok(()) } else { Err(format!("{age} s old")) }
    });
    assert!(world.hpa_reads("warmth").is_empty(), "the controller was not to come that far");

    let mut delete = world.plane.kubectl();
    run(delete.args(["--namespace=warmth", "delete", "hpa", "idle"])).expect("it is there");
    eventually("the metric is dropped", Duration::from_secs(15), || {
        let row = look();
        let idle = row["state"] == "idle" && row["wanted"] == false && row["hpas"] == 0;
        if idle { Ok(()) } else { Err(row.to_string()) }
    });

    // With a target, it is there before the controller's first read.
    web.autoscale(&["{ type: External, external: { metric: { name: warmth_Jobs }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_replicas(4);
}

/// Points the cluster back to the world's own adapter, whatever happens in between.
struct Pointed<'a> {
    world: &'a World,
}

impl Drop for Pointed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.world.point_to(&self.world.installation) {
            eprintln!("the cluster still reads from the other adapter: {error}");
        }
    }
}

/// Waits until every HPA of the crowd has been read from an adapter.
fn expect_read_by_all(installation: &Installation, namespace: &str) {
    eventually("every HPA reads from the new adapter", SOON, || {
        let text = installation.admin(&format!("/api/metrics?namespace={namespace}&limit=1000"))?;
        let all: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let rows = all["metrics"].as_array().ok_or("metrics are a list")?;
        let read = rows.iter().filter(|row| !row["lastReadAgeSeconds"].is_null()).count();
        if read == CROWD { Ok(()) } else { Err(format!("{read} of {}", rows.len())) }
    });
}

/// Checks the controller's reads since `begin`; what they were, for people.
fn check_reads(world: &World, namespace: &str, begin: jiff::Timestamp) -> String {
    let reads = world.hpa_reads(namespace);
    assert_eq!(reads.len(), CROWD, "every HPA has read");
    let since = |reads: &[AuditedRead]| -> Vec<AuditedRead> {
        reads.iter().filter(|read| read.received >= begin).copied().collect()
    };
    let (mut count, mut slowest, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    for (metric, reads) in &reads {
        // A worker that waits anywhere, even before its read arrives, is missed here.
        let (gap, _) = cadence(reads, begin);
        assert!(gap <= FEW_PERIODS, "{metric} was not read for {gap:?}");
        longest = longest.max(gap);
        let reads = since(reads);
        assert!(!reads.is_empty(), "{metric} was not read");
        for read in &reads {
            assert_eq!(read.code, 200, "{metric}: {read:?}");
            assert!(read.took < NO_WAIT, "a read of {metric} waited: {read:?}");
        }
        count += reads.len();
        slowest = reads.iter().map(|read| read.took).fold(slowest, Duration::max);
    }
    format!(
        "{count} reads of {CROWD} HPAs, none failed, the slowest took {slowest:?}, each HPA read at \
         least every {longest:?}"
    )
}

fn metric(number: usize) -> String {
    format!("rollout_{number}")
}

/// Fifty Deployments, HPAs and metrics on the slow upstream, all of which work.
fn crowd<'a>(world: &Exclusive, web: &'a Workload<'a>) -> Crowd<'a> {
    let definitions: Vec<(String, String)> = (0..CROWD)
        .map(|number| {
            let metric = metric(number);
            world.exposition.set(&metric, 10.0);
            let spec = format!(
                "metric: {metric}\nsource: slow\nrefresh: 15s\n\
                 prometheus: {{ query: 'sum({metric})' }}"
            );
            (format!("m-{number}"), spec)
        })
        .collect();
    let definitions: Vec<(&str, &str)> =
        definitions.iter().map(|(name, spec)| (name.as_str(), spec.as_str())).collect();
    web.define(&definitions);
    let crowd = Crowd::new(web, CROWD);
    crowd.autoscale(metric);
    crowd.expect_all("every HPA has a value", Duration::from_mins(1), |hpa| {
        scaling_active(hpa).0 == "ValidMetricFound"
    });
    crowd
}

/// A rollout as Kubernetes does it: the new adapter is started beside the old one, gets the reads
/// once it says that it is ready, and the old one is told to stop. Then the same back, and a crash.
#[test]
fn a_restart_under_fifty_hpas_fails_no_read_and_none_waits() {
    let world = exclusive();
    let web = Workload::new(&world, "rollout", 1);
    let crowd = crowd(&world, &web);

    let begin = jiff::Timestamp::now();
    let twin = world.installation.twin();
    let started = Instant::now();
    let adapter = twin.start();
    let ready = started.elapsed();
    assert!(ready >= Front::DELAY, "ready after {ready:?}, before the upstream can have answered");
    let pointed = Pointed { world: &world };
    world.point_to(&twin).expect("the APIService can be changed");
    expect_read_by_all(&twin, "rollout");
    assert_eq!(world.take_adapter().process.stop(Duration::from_secs(45)), 0);
    std::thread::sleep(A_WHILE);
    println!("rollout, ready after {ready:?}: {}", check_reads(&world, "rollout", begin));

    // And back.
    let begin = jiff::Timestamp::now();
    world.start_adapter();
    drop(pointed);
    expect_read_by_all(&world.installation, "rollout");
    assert_eq!(adapter.process.stop(Duration::from_secs(45)), 0);
    std::thread::sleep(A_WHILE);
    println!("rollout, back: {}", check_reads(&world, "rollout", begin));
    crowd.expect_all("every HPA has a value", A_WHILE, |hpa| {
        scaling_active(hpa).0 == "ValidMetricFound"
    });

    // With one replica, a crash fails the reads of the time without an adapter. Those after it find
    // everything there, however soon they come.
    let mut adapter = world.take_adapter();
    adapter.process.signal("KILL");
    drop(adapter);
    world.start_adapter();
    let begin = eventually("the cluster takes the adapter for available", SOON, || {
        world.check_available().map(|()| jiff::Timestamp::now())
    });
    expect_read_by_all(&world.installation, "rollout");
    std::thread::sleep(A_WHILE);
    println!("after a crash: {}", check_reads(&world, "rollout", begin));
}

/// Without the permission the adapter does what it did, with one line that says what is missing.
#[test]
fn without_the_permission_to_see_hpas_they_are_served_all_the_same() {
    let world = exclusive();
    let web = Workload::new(&world, "unseen", 1);
    world.exposition.set("unseen_jobs", 40.0);
    web.define(&[(
        "jobs",
        "metric: unseen_jobs\nsource: main\nrefresh: 1s\n\
         prometheus: { query: 'sum(unseen_jobs)' }",
    )]);
    let rules = |rules: &str| {
        let mut kubectl = world.plane.kubectl();
        kubectl.args(["patch", "clusterrole", "tidepole", "--type=json", "--patch"]);
        run(kubectl.arg(format!("[{rules}]"))).expect("an administrator may change roles");
    };
    assert_eq!(world.take_adapter().process.stop(Duration::from_secs(45)), 0);
    let logged = world.installation.log_length();
    let mut get = world.plane.kubectl();
    get.args(["get", "clusterrole", "tidepole", "--output=jsonpath={.rules}"]);
    let granted = run(&mut get).expect("the role is there");
    let all: Vec<Value> = serde_json::from_str(&granted).expect("rules are JSON");
    let place = all.iter().position(|rule| rule["apiGroups"][0] == "autoscaling");
    let place = place.expect("the manifests grant it");
    rules(&format!(r#"{{"op":"remove","path":"/rules/{place}"}}"#));
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.start_adapter();
        web.autoscale(&["{ type: External, external: { metric: { name: unseen_jobs }, \
                         target: { type: AverageValue, averageValue: \"10\" } } }"]);
        web.expect_replicas(4);
        let said = world.adapter_log()[logged..].to_owned();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("HPAs")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        for words in [
            "WARN",
            "That is an optimisation",
            "cannot list resource \"horizontalpodautoscalers\" in API group \"autoscaling\"",
            "grant get, list and watch on horizontalpodautoscalers.autoscaling",
        ] {
            // Text logs quote quotes.
            assert!(lines[0].replace('\\', "").contains(words), "{words}: {}", lines[0]);
        }
        assert!(!said.contains("kube_runtime"), "{said}");
    }));
    rules(&format!(r#"{{"op":"replace","path":"/rules","value":{granted}}}"#));
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
    eventually("the grant is used", Duration::from_secs(90), || {
        let row = row(&world.installation, "unseen", "unseen_jobs");
        if row["hpas"] == 1 { Ok(()) } else { Err(row.to_string()) }
    });
    assert!(world.adapter_log()[logged..].contains("HPAs can be watched again"));
}
