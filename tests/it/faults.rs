//! Upstreams that misbehave: what a reader is told, and that it ends when the fault ends.

use std::time::{Duration, Instant};

use crate::support::ports;
use crate::support::server::{Setup, metric, outlive, status, values};
use crate::support::upstream::{Prometheus, Reply};

/// The limit on answers in these tests.
const MAX_BYTES: usize = 64 * 1024;

fn source(name: &str, url: &str) -> String {
    format!(
        "  - {{ name: {name}, prometheus: {{ url: \"{url}\", timeout: 3s, maxConcurrent: 32, \
         maxResponseBytes: 64Ki, maxSeries: 3 }} }}\n"
    )
}

fn vector(values: &[&str]) -> Reply {
    let series: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(i, v)| format!(r#"{{"metric":{{"i":"{i}"}},"value":[1700000000,"{v}"]}}"#))
        .collect();
    Reply::json(
        200,
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
            series.join(",")
        ),
    )
}

/// A fault, and what the sentence says between the namespace and the source.
fn faults() -> Vec<(&'static str, Reply, &'static str)> {
    let text = |status, body: &str| Reply::text(status, "text/plain", body);
    vec![
        (
            "http500",
            text(500, "oops"),
            "HTTP 500: an answer of type text/plain instead of the query API's JSON",
        ),
        (
            "http503",
            text(503, "no backend"),
            "HTTP 503: an answer of type text/plain instead of the query API's JSON",
        ),
        ("http429", text(429, "slow down"), "HTTP 429: too many requests"),
        ("http401", text(401, ""), "HTTP 401: the server did not accept the source's credentials"),
        ("http403", text(403, ""), "HTTP 403: the source's credentials may not query this server"),
        (
            "http302",
            text(302, "").with_header("location", "http://login.invalid/x"),
            "the server redirects to http://login.invalid; redirects are not followed",
        ),
        (
            "bad-query",
            Reply::json(
                400,
                r#"{"status":"error","errorType":"bad_data","error":"parse error at char 7"}"#,
            ),
            "bad_data: parse error at char 7 (HTTP 400)",
        ),
        (
            "garbage",
            Reply::Answer { status: 200, headers: Vec::new(), body: vec![0, 159, 146, 150] },
            "HTTP 200: an answer without a content type instead of the query API's JSON",
        ),
        (
            "not-http",
            Reply::Raw(b"\x16\x03\x01 what?\r\n\r\n".to_vec()),
            "no answer from 127.0.0.1:",
        ),
        (
            "html",
            Reply::text(200, "text/html", "<html>Sign in</html>"),
            "HTTP 200: an answer of type text/html instead of the query API's JSON (a login page?)",
        ),
        (
            "oversized",
            Reply::Huge { status: 200, bytes: MAX_BYTES + 1 },
            "the answer (HTTP 200) is larger than 65536 bytes (maxResponseBytes)",
        ),
        (
            "half-closed",
            Reply::HalfClosed { body: br#"{"status":"success","data":"#.to_vec() },
            "the answer (HTTP 200) broke off in the middle",
        ),
        ("reset", Reply::Reset, "no answer from 127.0.0.1:"),
        ("hanging", Reply::Hang, "no answer within 3s"),
        ("stalled", Reply::Stalled { body: b"{".to_vec() }, "no answer within 3s"),
        (
            "empty-body",
            Reply::json(200, ""),
            "HTTP 200: an empty answer instead of the query API's JSON",
        ),
        ("no-series", vector(&[]), "the query gives no series"),
        (
            "nan",
            vector(&["NaN"]),
            "all 1 series of the answer are NaN or infinite, which is not a value",
        ),
        (
            "infinite",
            vector(&["+Inf"]),
            "all 1 series of the answer are NaN or infinite, which is not a value",
        ),
        ("not-a-number", vector(&["twelve"]), "HTTP 200: the answer cannot be understood"),
        (
            "many-series",
            vector(&["1", "2", "3", "4"]),
            "the answer has more than 3 series (maxSeries)",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_faults_are_told_and_end() {
    let upstream = Prometheus::start();
    let nowhere = ports::free();
    let sources =
        source("main", &upstream.server().url()) + &source("gone", &format!("http://{nowhere}"));
    let setup = Setup::new(&sources).defaults("{ refresh: 1s, firstReadTimeout: 15s }");
    for (name, fault, _) in faults() {
        upstream.set(name, fault);
        let spec = format!("source: main, prometheus: {{ query: {name} }}");
        setup.define(&format!("{name}.yaml"), &metric(name, &spec));
    }
    setup
        .define("refused.yaml", &metric("refused", "source: gone, prometheus: { query: refused }"));
    let server = setup.start().await;

    let mut cases: Vec<_> = faults().into_iter().map(|(n, _, text)| (n, "main", text)).collect();
    cases.push(("refused", "gone", "cannot connect to 127.0.0.1:"));
    let first = cases.iter().map(|(name, source, text)| {
        let server = &server;
        async move {
            let answer = server.reader().await.read(name).await;
            let message = status(&answer, 503, "ServiceUnavailable");
            let head = format!("{name} in default: ");
            assert!(message.starts_with(&head), "{message}");
            assert!(message.contains(text), "{message}\n  does not say: {text}");
            assert!(message.ends_with(&format!(" (source {source})")), "{message}");
        }
    });
    futures::future::join_all(first).await;

    let back = Prometheus::start_at(nowhere);
    for (index, (name, ..)) in cases.iter().enumerate() {
        for upstream in [&upstream, &back] {
            upstream.vector(name, &[("", &index.to_string())]);
        }
    }
    let again = cases.iter().enumerate().map(|(index, (name, ..))| {
        let server = &server;
        async move { server.reader().await.until_values(name, &[&index.to_string()]).await }
    });
    futures::future::join_all(again).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_upstream_holds_the_last_value_until_max_age_and_hurts_no_other() {
    let upstream = Prometheus::start();
    let healthy = Prometheus::start();
    healthy.vector("healthy", &[("", "7")]);
    let sources =
        source("main", &upstream.server().url()) + &source("steady", &healthy.server().url());
    let setup = Setup::new(&sources)
        .defaults("{ refresh: 1s, maxAge: 5s, firstReadTimeout: 15s }")
        .with("healthy.yaml", &metric("healthy", "source: steady, prometheus: { query: healthy }"));
    let names: Vec<&str> = faults().into_iter().map(|(name, ..)| name).collect();
    for name in &names {
        upstream.vector(name, &[("", "42.5")]);
        // The number chosen for "no data" must never stand for a failure.
        let no_data = if ["no-series", "nan", "infinite"].contains(name) { "hold" } else { "-1" };
        let spec = format!(
            "source: main, prometheus: {{ query: {name} }}, allowNegative: true, onNoData: {no_data}"
        );
        setup.define(&format!("{name}.yaml"), &metric(name, &spec));
    }
    let server = setup.start().await;
    let mut reader = server.reader().await;
    for name in &names {
        reader.until_values(name, &["42500m"]).await;
    }
    reader.until_values("healthy", &["7"]).await;
    for (name, fault, _) in faults() {
        upstream.set(name, fault);
    }
    let calls = healthy.hits("healthy");
    let sick =
        async {
            futures::future::join_all(names.iter().map(async |name| {
                outlive(server.reader().await, server.door(), name, "42500m").await
            }))
            .await
        };
    let well = async {
        let mut slowest = Duration::ZERO;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(6) {
            let start = Instant::now();
            let answer = reader.read("healthy").await;
            slowest = slowest.max(start.elapsed());
            assert_eq!(values(&answer), ["7"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let (messages, slowest) = tokio::join!(sick, well);
    for ((name, _, text), message) in faults().iter().zip(&messages) {
        assert!(message.starts_with(&format!("{name} in default: ")), "{message}");
        assert!(message.contains(text), "{message}\n  does not say: {text}");
        assert!(message.contains(" (source main); last good value 42500m at "), "{message}");
        assert!(message.ends_with("Z is older than maxAge 5s"), "{message}");
    }
    // The hanging calls of the other source take 3 s.
    assert!(slowest < Duration::from_secs(2), "a healthy read took {slowest:?}");
    let calls = healthy.hits("healthy") - calls;
    assert!(calls >= 4, "the healthy source was asked {calls} times in 6 s");
    for name in &names {
        upstream.vector(name, &[("", "43")]);
    }
    let again = names.iter().map(|name| {
        let server = &server;
        async move { server.reader().await.until_values(name, &["43"]).await }
    });
    futures::future::join_all(again).await;
    server.stop().await;
}
