//! What a read means: which series, summed how, and what a reader hears when there are none.

use std::time::{Duration, Instant};

use crate::support::server::{Setup, metric, path_of, status, values};
use crate::support::upstream::{Prometheus, Reply};
use crate::support::wait::until;

fn setup(upstream: &Prometheus) -> Setup {
    let url = upstream.server().url();
    Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .defaults("{ refresh: 1s, firstReadTimeout: 15s }")
}

fn prometheus(query: &str, more: &str) -> String {
    format!("prometheus: {{ query: '{query}' }}{more}")
}

/// Labels and value of every item, in order of the labels.
fn items(answer: &crate::support::client::Answer) -> Vec<(String, String)> {
    let list = answer.json();
    assert_eq!(list["kind"], "ExternalMetricValueList", "{list}");
    let mut items: Vec<(String, String)> = list["items"]
        .as_array()
        .expect("a list has items")
        .iter()
        .map(|item| {
            let labels: Vec<String> = item["metricLabels"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().expect("a label is text")))
                .collect();
            (labels.join(","), item["value"].as_str().expect("a value is text").to_owned())
        })
        .collect();
    items.sort();
    items
}

fn pairs(items: &[(&str, &str)]) -> Vec<(String, String)> {
    items.iter().map(|(labels, value)| ((*labels).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_choose_among_series_and_definitions() {
    let upstream = Prometheus::start();
    upstream.vector(
        "a",
        &[(r#""queue":"mail","zone":"1""#, "1"), (r#""queue":"jobs","zone":"2""#, "2.5")],
    );
    upstream.vector("b", &[(r#""queue":"other""#, "40")]);
    let server = setup(&upstream)
        .with(
            "a.yaml",
            &metric("depth-a", &prometheus("a", ", metric: depth, labels: { team: red }")),
        )
        .with(
            "b.yaml",
            &metric(
                "depth-b",
                &prometheus("b", ", metric: depth, labels: { team: blue, queue: fixed }"),
            ),
        )
        .start()
        .await;
    let mut reader = server.reader().await;
    let (mail, jobs, fixed) = (
        ("queue=mail,team=red,zone=1", "1"),
        ("queue=jobs,team=red,zone=2", "2500m"),
        // The constant label wins over the series' own.
        ("queue=fixed,team=blue", "40"),
    );
    for (selector, wanted) in [
        ("", vec![mail, jobs, fixed]),
        ("queue=mail", vec![mail]),
        ("queue%3Djobs", vec![jobs]),
        ("queue==mail", vec![mail]),
        ("queue!=mail", vec![jobs, fixed]),
        ("queue+in+(mail,fixed)", vec![mail, fixed]),
        ("queue%20notin%20(mail,fixed)", vec![jobs]),
        ("zone", vec![mail, jobs]),
        ("!zone", vec![fixed]),
        ("zone%3E1", vec![jobs]),
        ("zone%3C2", vec![mail]),
        ("team=red,queue!=mail", vec![jobs]),
        ("team=blue", vec![fixed]),
    ] {
        let answer = reader.read(&format!("depth?labelSelector={selector}")).await;
        assert_eq!(answer.status, 200, "{selector}: {}", answer.text());
        let mut wanted = pairs(&wanted);
        wanted.sort();
        assert_eq!(items(&answer), wanted, "{selector}");
    }
    let answer = reader.read("depth?labelSelector=queue=unknown").await;
    assert_eq!(
        status(&answer, 404, "NotFound"),
        "depth in default: no series matches the selector \"queue=unknown\"; the metric's 3 series \
         have the labels queue (fixed, jobs, mail), team (blue, red), zone (1, 2)"
    );
    let answer = reader.read("dept").await;
    assert_eq!(
        status(&answer, 404, "NotFound"),
        "dept in default: no external metric of this name is defined for this namespace; did you \
         mean \"depth\"?"
    );
    let answer = reader.get(&path_of("other", "depth")).await;
    assert!(status(&answer, 404, "NotFound").starts_with("depth in other: no external metric"));
    for name in ["DEPTH", "Depth/", "depth"] {
        let answer = reader.read(name).await;
        assert_eq!((answer.status.as_u16(), values(&answer).len()), (200, 3), "{name}");
        assert_eq!(answer.json()["items"][0]["metricName"], "depth");
    }
    // One definition without a value fails the whole read: never a partial sum.
    upstream.error("b", 500, "internal", "broken disk");
    server.setup.define(
        "b.yaml",
        &metric(
            "depth-b",
            &prometheus("b", ", metric: depth, labels: { team: blue }, refresh: 1s, maxAge: 1s"),
        ),
    );
    let answer = reader.until_status("depth", 503).await;
    let message = status(&answer, 503, "ServiceUnavailable");
    assert!(message.contains("team") && message.contains("broken disk"), "{message}");
    let answer = reader.read("depth?labelSelector=team=red").await;
    assert_eq!(values(&answer).len(), 2, "a selector that leaves it out is served");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_aggregated_scaled_and_clamped() {
    let upstream = Prometheus::start();
    upstream.vector("three", &[(r#""i":"1""#, "1"), (r#""i":"2""#, "2"), (r#""i":"3""#, "6")]);
    upstream.vector("below", &[("", "-5")]);
    upstream.vector("tiny", &[("", "0.0004"), (r#""i":"1""#, "0.0005")]);
    upstream.vector("huge", &[("", "1e300")]);
    upstream.scalar("scalar", "12.345");
    let cases: [(&str, String, &[&str]); 13] = [
        ("plain", prometheus("three", ""), &["1", "2", "6"]),
        ("sum", prometheus("three", ", aggregate: sum"), &["9"]),
        ("avg", prometheus("three", ", aggregate: avg"), &["3"]),
        ("max", prometheus("three", ", aggregate: max"), &["6"]),
        ("min", prometheus("three", ", aggregate: min"), &["1"]),
        ("scaled", prometheus("three", ", aggregate: sum, scale: \"0.001\""), &["9m"]),
        ("moved", prometheus("three", ", aggregate: sum, scale: 2, offset: -3"), &["15"]),
        ("clamped", prometheus("three", ", min: 2, max: \"5.5\""), &["2", "2", "5500m"]),
        ("floor", prometheus("below", ""), &["0"]),
        ("negative", prometheus("below", ", allowNegative: true"), &["-5"]),
        ("tiny", prometheus("tiny", ""), &["0", "1m"]),
        ("huge", prometheus("huge", ""), &["9223372036854775"]),
        ("scalar", prometheus("scalar", ""), &["12345m"]),
    ];
    let setup = setup(&upstream);
    for (name, spec, _) in &cases {
        setup.define(&format!("{name}.yaml"), &metric(name, spec));
    }
    let server = setup.start().await;
    let mut reader = server.reader().await;
    for (name, spec, wanted) in &cases {
        let answer = reader.read(name).await;
        assert_eq!(values(&answer), *wanted, "{spec}: {}", answer.text());
    }
    assert_eq!(upstream.hits("three"), 1, "seven definitions of one query");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_data_is_what_the_definition_says() {
    let upstream = Prometheus::start();
    let full = |value: &str| {
        for query in ["e", "h", "n"] {
            upstream.vector(query, &[(r#""x":"y""#, value)]);
        }
    };
    full("5");
    let server = setup(&upstream)
        .with("e.yaml", &metric("strict", &prometheus("e", ", onNoData: error")))
        .with("h.yaml", &metric("held", &prometheus("h", ", onNoData: hold, maxAge: 4s")))
        .with(
            "n.yaml",
            &metric("chosen", &prometheus("n", ", onNoData: 3, scale: 10, labels: { a: b }")),
        )
        .start()
        .await;
    let mut reader = server.reader().await;
    reader.until_values("strict", &["5"]).await;
    reader.until_values("chosen", &["50"]).await;
    reader.until_values("held", &["5"]).await;
    for query in ["e", "h", "n"] {
        upstream.vector(query, &[]);
    }
    let strict = reader.until_status("strict", 503).await;
    let message = status(&strict, 503, "ServiceUnavailable");
    assert!(
        message.starts_with(
            "strict in default: the query gives no series (source main); last good value 5 at "
        ) && message.ends_with("Z is not used because of onNoData"),
        "{message}"
    );
    // The number is the author's: it is served as it is, with the constant labels.
    reader.until_values("chosen", &["3"]).await;
    assert_eq!(items(&reader.read("chosen").await), pairs(&[("a=b", "3")]));
    let held = reader.until_status("held", 503).await;
    let message = status(&held, 503, "ServiceUnavailable");
    assert!(message.ends_with("Z is older than maxAge 4s"), "{message}");
    // A failed call is something else: it never becomes the number.
    for query in ["e", "h", "n"] {
        upstream.error(query, 503, "unavailable", "starting");
    }
    let trouble = until("the failure", async || {
        let row = server.row("chosen").await;
        let error = row["lastError"].as_str().unwrap_or_default().to_owned();
        if error.contains("starting") { Ok(error) } else { Err(row.to_string()) }
    })
    .await;
    assert!(trouble.contains("unavailable: starting (HTTP 503)"), "{trouble}");
    full("8");
    reader.until_values("chosen", &["80"]).await;
    reader.until_values("strict", &["8"]).await;
    reader.until_values("held", &["8"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_template_is_one_call_per_namespace() {
    let upstream = Prometheus::start();
    let query = |namespace: &str| format!("depth{{namespace=\"{namespace}\"}}");
    upstream.vector(&query("red"), &[("", "1")]);
    upstream.vector(&query("blue"), &[("", "2")]);
    let cluster = "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\n\
                   metadata: { name: depth }\n\
                   spec: { prometheus: { query: 'depth{namespace=\"$namespace\"}' }, refresh: 10s }\n";
    let server = setup(&upstream).with("depth.yaml", cluster).start().await;
    let connection = server.reader().await;
    let reads = (0..100).map(|i| {
        let mut requests = connection.0.share();
        let (namespace, value) = if i % 2 == 0 { ("red", "1") } else { ("blue", "2") };
        async move {
            let answer = requests.get(&path_of(namespace, "depth"), &[]).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(values(&answer), [value]);
        }
    });
    futures::future::join_all(reads).await;
    assert_eq!((upstream.hits(&query("red")), upstream.hits(&query("blue"))), (1, 1));
    assert_eq!(upstream.server().hits(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_is_bounded_and_shared_and_not_repeated() {
    let upstream = Prometheus::start();
    upstream.set("slow", Reply::Hang);
    let url = upstream.server().url();
    let server =
        Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 7s }} }}"))
            .defaults("{ refresh: 10s, firstReadTimeout: 4s }")
            .with("slow.yaml", &metric("slow", &prometheus("slow", "")))
            .start()
            .await;
    let sentence =
        "slow in default: source main has not yet answered the first Prometheus query; waited 4s";
    let mut readers = futures::future::join_all((0..20).map(|_| server.reader())).await;
    let start = Instant::now();
    let first =
        futures::future::join_all(readers.iter_mut().map(|reader| reader.read("slow"))).await;
    let took = start.elapsed();
    for answer in first {
        assert_eq!(status(&answer, 504, "Timeout"), sentence);
    }
    assert!(took >= Duration::from_millis(3900), "{took:?}");
    assert_eq!(upstream.hits("slow"), 1, "20 readers wait for one call");
    // Another that waited for 4 s would hear that the call has failed, after 7 s.
    let second = readers[0].read("slow").await;
    assert_eq!(status(&second, 504, "Timeout"), sentence, "it waited again");
    // The client's own deadline is honoured, too.
    server.setup.define("patient.yaml", &metric("patient", &prometheus("slow2", "")));
    upstream.set("slow2", Reply::Hang);
    let mut reader = server.reader().await;
    until("the new definition", async || {
        if server.row("patient").await.is_null() { Err(String::new()) } else { Ok(()) }
    })
    .await;
    let start = Instant::now();
    let answer = reader.read("patient?timeout=100ms").await;
    status(&answer, 504, "Timeout");
    assert!(start.elapsed() < Duration::from_millis(3900), "{:?}", start.elapsed());
    // When the call has failed the reader hears why.
    let answer = reader.until_status("slow", 503).await;
    let message = status(&answer, 503, "ServiceUnavailable");
    assert_eq!(message, "slow in default: no answer within 7s (source main)");
    server.stop().await;
}
