//! Why an HPA gets no number: told to the HPA itself, and on the page that lists HPAs.

use serde_json::Value;

use crate::control_plane::run;
use crate::process::eventually;
use crate::workload::{SOON, Workload};
use crate::world::{World, shared};

/// What is told of the HPA `web` in a namespace.
fn told(world: &World, namespace: &str) -> Result<Value, String> {
    let text = world.installation.admin(&format!("/api/hpas?namespace={namespace}"))?;
    let all: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match all["hpas"].as_array().map(Vec::as_slice) {
        Some([hpa]) if hpa["name"] == "web" => Ok(hpa["metrics"][0].clone()),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until it is told of the HPA's metric as wanted.
fn expect(world: &World, namespace: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, SOON, || {
        let metric = told(world, namespace)?;
        if wanted(&metric) { Ok(metric) } else { Err(metric.to_string()) }
    })
}

/// What `kubectl describe` tells of the HPA.
fn describe(world: &World) -> String {
    let mut describe = world.plane.kubectl();
    describe.args(["--namespace=explain", "describe", "hpa", "web"]);
    run(&mut describe).expect("the HPA is there")
}

/// Waits until the description has an Event of ours with these words, and that once.
fn expect_event(world: &World, words: &[&str]) {
    // Others' Events wait for their turn as well: one a second is published.
    eventually("the HPA has the Event", SOON * 2, || {
        let text = describe(world);
        let ours = text.lines().filter(|line| line.contains(" tidepole"));
        let meant = ours.filter(|line| words.iter().all(|words| line.contains(words)));
        if meant.count() == 1 { Ok(()) } else { Err(text) }
    });
}

fn external(metric: &str) -> String {
    format!(
        "{{ type: External, external: {{ metric: {{ name: {metric} }}, \
         target: {{ type: AverageValue, averageValue: \"10\" }} }} }}"
    )
}

#[test]
fn an_unknown_name_is_told_what_may_have_been_meant_and_one_that_comes_later_is_found() {
    let (world, namespace) = (shared(), "explain");
    let web = Workload::new(&world, namespace, 1);
    // Nobody else's business, however near its name is.
    let other = Workload::new(&world, "explain-other", 1);
    other.define(&[("secret", "metric: explain_job\nsource: sim\nsimulated: { constant: \"1\" }")]);
    web.define(&[("jobs", "metric: explain_jobs\nsource: sim\nsimulated: { constant: \"30\" }")]);

    // The HPA is there before its metric: it has a slip in it.
    web.autoscale(&[&external("explain_jbos")]);
    let sentence = "explain_jbos in explain: no external metric of this name is defined for this \
                    namespace";
    let failed = eventually("the HPA is told", SOON, || {
        let scaling = web.scaling().ok_or("no condition")?;
        let meant = scaling.message.contains("did you mean");
        if meant { Ok(scaling) } else { Err(format!("{scaling:?}")) }
    });
    assert_eq!(failed.reason, "FailedGetExternalMetric");
    let suggested = format!("{sentence}; did you mean \"explain_jobs\"?");
    assert!(failed.message.contains(&suggested), "{failed:?}");
    assert!(describe(&world).contains(&suggested));
    expect_event(&world, &["Warning", "MetricUnavailable", sentence]);

    let metric = expect(&world, namespace, "the page tells it", |m| m["state"] == "unknown");
    assert_eq!(
        (&metric["error"], &metric["near"]),
        (&sentence.into(), &serde_json::json!(["explain_jobs"]))
    );
    let page = world.installation.admin("/hpas?namespace=explain").expect("the page is there");
    assert!(page.contains("did you mean <strong>explain_jobs</strong>?"), "{page}");
    assert!(!page.contains("explain_job<"), "{page}");
    let unused = world.installation.row("namespace=explain&q=explain_jobs&unused=yes");
    assert_eq!(unused["unused"], true, "{unused}");

    // The definition comes: the same HPA is served.
    web.define(&[
        ("jobs", "metric: explain_jobs\nsource: sim\nsimulated: { constant: \"30\" }"),
        ("slip", "metric: explain_jbos\nsource: sim\nsimulated: { constant: \"40\" }"),
    ]);
    let metric = expect(&world, namespace, "it is served", |m| m["state"] == "served");
    assert_eq!(metric["value"], "40");
    assert_eq!(metric["definitions"], serde_json::json!(["ExternalMetric explain/slip"]));
    web.expect_replicas(4);
    expect_event(&world, &["Normal", "MetricRecovered", "explain_jbos has a value again"]);

    // The metric is there before the HPA asks for it, and then for series that it does not have.
    web.autoscale(&[&external("explain_jobs")]);
    expect(&world, namespace, "the other is served", |m| m["value"] == "30");
    web.expect_replicas(3);
    web.autoscale(&["{ type: External, external: { metric: { name: explain_jobs, \
                     selector: { matchLabels: { queue: a } } }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    let metric = expect(&world, namespace, "nothing matches", |m| m["state"] == "no-match");
    let failed = web.expect_scaling("FailedGetExternalMetric");
    assert!(failed.message.contains(metric["error"].as_str().unwrap_or("?")), "{failed:?}");

    // A metric of another namespace is no hint for this one's HPA, and one for operators.
    web.autoscale(&[&external("explain_job")]);
    let metric = expect(&world, namespace, "it is elsewhere", |m| m["metric"] == "explain_job");
    assert_eq!(metric["elsewhere"], serde_json::json!(["ExternalMetric explain-other/secret"]));
    let failed = eventually("the HPA is told", SOON, || {
        let scaling = web.scaling().ok_or("no condition")?;
        let new = scaling.message.contains("explain_job in explain");
        if new { Ok(scaling) } else { Err(format!("{scaling:?}")) }
    });
    assert!(!failed.message.contains("other") && !failed.message.contains("secret"), "{failed:?}");
}
