//! Queue depths, and a queue service that misbehaves. As a process: the credentials come from its
//! environment, as an operator gives them.

use crate::support::ports;
use crate::support::process::Process;
use crate::support::server::{Setup, metric, outlive, status, values};
use crate::support::upstream::{Queue, Reply, Sqs};

fn source(name: &str, url: &str) -> String {
    format!(
        "  - {{ name: {name}, aws: {{ region: eu-west-1, sqsEndpointUrl: \"{url}\", timeout: 3s }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depths_are_summed_and_followed() {
    let sqs = Sqs::start();
    sqs.queue("jobs", Queue { visible: 100, in_flight: 20, delayed: 3 });
    sqs.queue("more.fifo", Queue { visible: 1, in_flight: 0, delayed: 0 });
    let setup = Setup::new(&source("aws", &sqs.server().url()))
        .defaults("{ refresh: 1s, firstReadTimeout: 15s }")
        .with("a.yaml", &metric("default-count", "sqs: { queues: [jobs] }"))
        .with("b.yaml", &metric("delayed", "sqs: { queues: [jobs], count: [delayed] }"))
        .with(
            "c.yaml",
            &metric("all", "sqs: { queues: [jobs], count: [visible, inFlight, delayed] }"),
        )
        .with(
            "d.yaml",
            &metric(
                "two",
                "sqs: { queues: [jobs, \"arn:aws:sqs:eu-west-1:111122223333:more.fifo\"] }",
            ),
        )
        .with(
            "e.yaml",
            &metric(
                "by-url",
                "sqs: { queues: [\"https://sqs.eu-west-1.amazonaws.com/111122223333/jobs\"] }",
            ),
        )
        .with("f.yaml", &metric("missing", "sqs: { queues: [jobs, nobody] }"));
    let process = Process::start(setup);
    let mut reader = process.reader().await;
    for (name, depth) in [
        ("default-count", "120"),
        ("delayed", "3"),
        ("all", "123"),
        ("two", "121"),
        ("by-url", "120"),
    ] {
        let answer = reader.read(name).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(values(&answer), [depth], "{name}");
    }
    // All or nothing: the depth of the one that exists is no answer.
    let message = status(&reader.read("missing").await, 503, "ServiceUnavailable");
    assert_eq!(
        message,
        "missing in default: SQS queue \"nobody\" in eu-west-1 does not exist (source aws)"
    );
    sqs.queue("nobody", Queue { visible: 7, ..Queue::default() });
    reader.until_values("missing", &["127"]).await;
    sqs.queue("jobs", Queue::default());
    reader.until_values("two", &["1"]).await;
    // The URL is looked up once per queue and kept until it turns wrong.
    assert_eq!(sqs.hits("GetQueueUrl", "more.fifo"), 1);
    sqs.move_all();
    sqs.queue("jobs", Queue { visible: 8, ..Queue::default() });
    reader.until_values("two", &["9"]).await;
    assert_eq!(sqs.hits("GetQueueUrl", "more.fifo"), 2);
    process.signal("TERM");
    assert_eq!(process.end().await.0.code(), Some(0));
}

/// A fault, and what the sentence says.
fn faults() -> Vec<(&'static str, Reply, &'static str)> {
    let error = Sqs::error;
    let text = |status, body: &str| Reply::text(status, "text/html", body);
    vec![
        ("http500", text(500, "oops"), "HTTP 500"),
        ("http503", error(503, "ServiceUnavailable", "busy"), "HTTP 503"),
        (
            "throttled",
            error(400, "ThrottlingException", "Rate exceeded"),
            "AWS asks for fewer calls",
        ),
        ("http429", text(429, ""), "429"),
        (
            "denied",
            error(403, "AccessDenied", "User: arn:aws:iam::1:user/secret-name may not"),
            "access denied: the source's own identity needs sqs:GetQueueAttributes",
        ),
        (
            "bad-token",
            error(403, "InvalidClientTokenId", "no"),
            "AWS did not accept the credentials of the source's own identity",
        ),
        ("html", text(200, "<html>Sign in</html>"), "an answer that is not AWS's"),
        (
            "garbage",
            Reply::Answer { status: 200, headers: Vec::new(), body: vec![0, 159, 146, 150] },
            "an answer that is not AWS's",
        ),
        ("empty", Reply::json(200, ""), "the answer has no number for ApproximateNumberOfMessages"),
        (
            "no-counts",
            Reply::json(200, r#"{"Attributes":{}}"#),
            "the answer has no number for ApproximateNumberOfMessages",
        ),
        (
            "negative",
            Reply::json(
                200,
                r#"{"Attributes":{"ApproximateNumberOfMessages":"-5","ApproximateNumberOfMessagesNotVisible":"0"}}"#,
            ),
            "the answer has no number for ApproximateNumberOfMessages",
        ),
        (
            "nan",
            Reply::json(
                200,
                r#"{"Attributes":{"ApproximateNumberOfMessages":"NaN","ApproximateNumberOfMessagesNotVisible":"0"}}"#,
            ),
            "the answer has no number for ApproximateNumberOfMessages",
        ),
        ("oversized", Reply::Huge { status: 200, bytes: 64 << 20 }, "the answer is too large"),
        (
            "half-closed",
            Reply::HalfClosed { body: br#"{"Attributes":"#.to_vec() },
            "end of file before message length reached",
        ),
        ("reset", Reply::Reset, "the endpoint cannot be reached"),
        ("hanging", Reply::Hang, "no answer "),
        ("stalled", Reply::Stalled { body: b"{".to_vec() }, "no answer "),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqs_faults_are_told_held_over_and_end() {
    let cases: Vec<_> =
        faults().into_iter().map(|(name, fault, text)| (name, fault, text, Sqs::start())).collect();
    let healthy = Sqs::start();
    healthy.queue("q", Queue { visible: 7, ..Queue::default() });
    let nowhere = ports::free();
    let mut sources =
        source("steady", &healthy.server().url()) + &source("gone", &format!("http://{nowhere}"));
    for (name, _, _, sqs) in &cases {
        sources += &source(name, &sqs.server().url());
    }
    let setup = Setup::new(&sources).defaults("{ refresh: 1s, maxAge: 6s, firstReadTimeout: 15s }");
    let names = cases.iter().map(|case| case.0).chain(["steady", "gone"]);
    for name in names {
        // The number chosen for "no data" must never stand for a failure.
        let spec = format!("source: {name}, sqs: {{ queues: [q] }}, onNoData: 1");
        setup.define(&format!("{name}.yaml"), &metric(name, &spec));
    }
    for (_, fault, _, sqs) in &cases {
        sqs.queue("q", Queue { visible: 42, ..Queue::default() });
        sqs.fault("GetQueueAttributes", Some(fault.clone()));
    }
    let process = Process::start(setup);
    let (process, cases) = (&process, &cases);

    let told = cases.iter().map(|c| (c.0, c.2)).chain([("gone", "the endpoint cannot be reached")]);
    let first = told.map(|(name, text)| async move {
        let message = status(&process.reader().await.read(name).await, 503, "ServiceUnavailable");
        let head = format!("{name} in default: SQS queue \"q\" in eu-west-1: ");
        assert!(message.starts_with(&head), "{message}");
        assert!(message.contains(text), "{message}\n  does not say: {text}");
        assert!(message.ends_with(&format!(" (source {name})")), "{message}");
        assert!(!message.contains("secret-name"), "{message}");
    });
    futures::future::join_all(first).await;

    let again = cases.iter().map(|(name, _, _, sqs)| async move {
        sqs.fault("GetQueueAttributes", None);
        process.reader().await.until_values(name, &["42"]).await;
    });
    futures::future::join_all(again).await;

    let mut steady = process.reader().await;
    let held = cases.iter().map(|(name, fault, text, sqs)| async move {
        sqs.fault("GetQueueAttributes", Some(fault.clone()));
        let message = outlive(process.reader().await, process.door, name, "42").await;
        assert!(message.contains(text), "{message}\n  does not say: {text}");
        assert!(
            message.contains(&format!(" (source {name}); last good value 42 at ")),
            "{message}"
        );
        assert!(message.ends_with("Z is older than maxAge 6s"), "{message}");
    });
    let (_, ()) = tokio::join!(futures::future::join_all(held), async {
        for _ in 0..50 {
            assert_eq!(values(&steady.read("steady").await), ["7"]);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
}
