//! What every source promises, tested against each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{
    CloudWatchQuery, Decimal, FetchError, Manner, MetricDataQuery, MetricQuestion, MetricStat,
    PrometheusQuery, Query, QuerySpec, QueueCount, QueueRef, Sample, SimulatedQuery, Source,
    SourceName, SqsQuery, SystemClock,
};
use crate::source::upstream::{CloudWatch, Prometheus, Queue, Reply, Sqs};
use crate::source::{AwsSettings, Metrics, PrometheusSettings, Settings, aws, build};
use crate::telemetry::Telemetry;

const SECRET: &str = "hunter2";

/// A source of some kind on a fake upstream that can be told to misbehave.
struct Fixture {
    kind: &'static str,
    source: Arc<dyn Source>,
    telemetry: Telemetry,
    fake: Fake,
    _files: tempfile::TempDir,
}

enum Fake {
    Prometheus(Prometheus),
    Sqs(Sqs),
    CloudWatch(CloudWatch),
}

impl Fake {
    fn server(&self) -> &crate::source::upstream::Upstream {
        match self {
            Self::Prometheus(fake) => fake.server(),
            Self::Sqs(fake) => fake.server(),
            Self::CloudWatch(fake) => fake.server(),
        }
    }

    fn answer_all(&self, reply: &Reply) {
        match self {
            Self::Prometheus(fake) => fake.answer_all(Some(reply.clone())),
            Self::Sqs(fake) => {
                fake.fault("GetQueueUrl", Some(reply.clone()));
                fake.fault("GetQueueAttributes", Some(reply.clone()));
            }
            Self::CloudWatch(fake) => fake.fault(Some(reply.clone())),
        }
    }

    fn delay(&self, delay: Duration) {
        match self {
            Self::Prometheus(fake) => fake.delay(delay),
            Self::Sqs(fake) => fake.delay(delay),
            Self::CloudWatch(fake) => fake.delay(delay),
        }
    }
}

/// All kinds that call something.
fn fixtures(timeout: Duration, max_concurrent: usize) -> [Fixture; 3] {
    let sqs = sqs(timeout, max_concurrent);
    [prometheus(timeout, max_concurrent), sqs, cloudwatch(timeout, max_concurrent)]
}

fn prometheus(timeout: Duration, max_concurrent: usize) -> Fixture {
    let (telemetry, files) = (Telemetry::new(), tempfile::tempdir().unwrap());
    let fake = Prometheus::start();
    for i in 0..20 {
        fake.scalar(&format!("q{i}"), &i.to_string());
    }
    let token_file = files.path().join("token");
    std::fs::write(&token_file, SECRET).unwrap();
    let mut settings = PrometheusSettings::new(fake.server().url().parse().unwrap());
    settings.timeout = timeout;
    settings.max_concurrent = max_concurrent;
    settings.max_response_bytes = 1_000_000;
    settings.authentication = super::prometheus::Authentication::Bearer { token_file };
    let settings = Settings::Prometheus(Box::new(settings));
    let metrics = Metrics::register(&telemetry);
    let clock = Arc::new(SystemClock::new());
    let source = build(&SourceName::new("main"), &settings, clock, &metrics).unwrap().source;
    let fake = Fake::Prometheus(fake);
    Fixture { kind: "prometheus", source, telemetry, fake, _files: files }
}

fn sqs(timeout: Duration, max_concurrent: usize) -> Fixture {
    let fake = Sqs::start();
    for i in 0..20 {
        fake.queue(&format!("q{i}"), Queue { visible: i, ..Queue::default() });
    }
    aws("sqs", Fake::Sqs(fake), timeout, max_concurrent)
}

fn cloudwatch(timeout: Duration, max_concurrent: usize) -> Fixture {
    let fake = CloudWatch::start();
    fake.generate_all(|asked, _| asked.metric.name.strip_prefix('q')?.parse().ok());
    aws("cloudwatch", Fake::CloudWatch(fake), timeout, max_concurrent)
}

fn aws(kind: &'static str, fake: Fake, timeout: Duration, max_concurrent: usize) -> Fixture {
    let telemetry = Telemetry::new();
    let mut settings = AwsSettings::new("eu-west-1");
    settings.endpoint_url = Some(fake.server().url().parse().unwrap());
    settings.timeout = timeout;
    settings.max_concurrent = max_concurrent;
    let metrics = Metrics::register(&telemetry);
    let clock = Arc::new(SystemClock::new());
    let credentials = aws_credential_types::provider::SharedCredentialsProvider::new(
        aws_sdk_sqs::config::Credentials::new("AKIDTEST", SECRET, None, None, "test"),
    );
    let name = SourceName::new("main");
    let source = aws::AwsSource::build(&name, &settings, clock, &metrics, Some(credentials));
    let source: Arc<dyn Source> = Arc::new(source.unwrap());
    let files = tempfile::tempdir().unwrap();
    Fixture { kind, source, telemetry, fake, _files: files }
}

fn query(kind: &str, i: u64) -> Arc<Query> {
    let spec = match kind {
        "prometheus" => QuerySpec::Prometheus(PrometheusQuery {
            query: format!("q{i}").into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        }),
        "sqs" => QuerySpec::Sqs(SqsQuery {
            queues: vec![QueueRef {
                region: "eu-west-1".into(),
                account: None,
                name: format!("q{i}").into(),
            }],
            count: vec![QueueCount::Visible],
            role_arn: None,
        }),
        "cloudwatch" => QuerySpec::CloudWatch(Box::new(metric(&format!("q{i}")))),
        _ => QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(i))),
    };
    Arc::new(Query { source: SourceName::new("main"), spec })
}

fn metric(name: &str) -> CloudWatchQuery {
    let question = MetricQuestion::Metric(MetricStat {
        namespace: "App".into(),
        name: name.into(),
        dimensions: Vec::new(),
        statistic: "Sum".into(),
        period: Duration::from_mins(1),
        unit: None,
        account_id: None,
    });
    let id = CloudWatchQuery::SINGLE_ID.into();
    CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: None,
        queries: vec![MetricDataQuery { id, question, label: None, return_data: true }],
        period: Duration::from_mins(1),
        delay: Duration::from_mins(1),
        lookback: Duration::from_mins(6),
        manner: Manner::Strict,
    }
}

async fn one(fixture: &Fixture) -> Result<Sample, FetchError> {
    fixture.source.fetch(&[query(fixture.kind, 1)]).await.remove(0)
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_query_gets_its_answer_in_order() {
    let simulated = build(
        &SourceName::new("main"),
        &Settings::Simulated,
        Arc::new(SystemClock::new()),
        &Metrics::register(&Telemetry::new()),
    )
    .unwrap()
    .source;
    let fixtures = fixtures(LONG, 16);
    let all = fixtures.iter().map(|f| (f.kind, &f.source)).chain([("simulated", &simulated)]);
    for (kind, source) in all {
        let queries: Vec<_> = [7, 3, 7, 11].iter().map(|i| query(kind, *i)).collect();
        let values: Vec<String> = source
            .fetch(&queries)
            .await
            .into_iter()
            .map(|answer| answer.unwrap().series[0].value.to_string())
            .collect();
        assert_eq!(values, ["7", "3", "7", "11"], "{kind}");
        assert!(source.fetch(&[]).await.is_empty());
        let batch = source.dispatch(&queries[0]).batch;
        assert!(batch.is_none_or(|batch| batch.limit >= 1));
        let other = if matches!(kind, "sqs" | "cloudwatch") { "prometheus" } else { "sqs" };
        let foreign = query(other, 1);
        let error = source.fetch(&[foreign]).await.remove(0).unwrap_err();
        assert_eq!(error.kind(), "invalid", "{kind}: {error}");
    }
}

#[tokio::test]
async fn a_silent_upstream_times_out() {
    let timeout = Duration::from_millis(300);
    for fixture in fixtures(timeout, 16) {
        for reply in [Reply::Hang, Reply::Stalled { body: b"{".to_vec() }] {
            fixture.fake.answer_all(&reply);
            let start = Instant::now();
            let error = one(&fixture).await.unwrap_err();
            assert_eq!(error.kind(), "timeout", "{}: {error}", fixture.kind);
            // Ours, whatever timers a client library has: conditions and the log do not flap.
            let said = error.cause().message();
            assert!(said.ends_with("no answer within 300ms"), "{}: {said}", fixture.kind);
            assert!(start.elapsed() >= timeout / 2, "{}", fixture.kind);
            assert!(start.elapsed() < timeout + Duration::from_secs(5), "{}", fixture.kind);
        }
        let text = fixture.telemetry.encode();
        let counted = format!(
            "tidepole_upstream_calls_total{{source=\"main\",kind=\"{}\",outcome=\"timeout\"}} 2",
            fixture.kind
        );
        assert!(text.contains(&counted), "{text}");
    }
}

#[tokio::test]
async fn no_more_calls_than_allowed_are_under_way() {
    for fixture in fixtures(LONG, 3) {
        fixture.fake.delay(Duration::from_millis(20));
        let (kind, source) = (fixture.kind, &fixture.source);
        let reads = (0..20).map(|i| {
            let query = query(kind, i);
            async move { source.fetch(&[query]).await.remove(0).map(|s| s.series[0].value.clone()) }
        });
        let answers = futures::future::join_all(reads).await;
        let expected: Vec<_> = (0..20_u64).map(|i| Ok(Decimal::from(i))).collect();
        assert_eq!(answers, expected, "{kind}");
        assert_eq!(fixture.fake.server().max_in_flight(), 3, "{kind}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    for mut fixture in fixtures(LONG, 16) {
        let gone = match &fixture.fake {
            Fake::Prometheus(_) => Fake::Prometheus(Prometheus::start()),
            Fake::Sqs(_) => Fake::Sqs(Sqs::start()),
            Fake::CloudWatch(_) => Fake::CloudWatch(CloudWatch::start()),
        };
        drop(std::mem::replace(&mut fixture.fake, gone));
        let error = one(&fixture).await.unwrap_err();
        assert_eq!(error.kind(), "unavailable", "{}: {error}", fixture.kind);
        assert!(error.to_string().contains("Connection refused"), "{}: {error}", fixture.kind);
    }
}

/// Every fault gives an error of an expected kind: never a panic, never a number, never a secret.
#[tokio::test]
async fn bad_answers_are_errors_with_a_cause() {
    let faults = [
        (Reply::json(200, "garbage"), &["malformed"][..]),
        (Reply::json(200, "[]"), &["malformed"]),
        (Reply::json(200, "null"), &["malformed"]),
        (Reply::json(200, ""), &["malformed"]),
        (Reply::json(200, "{\"status\":1}"), &["malformed"]),
        (Reply::text(200, "text/html", "<html>log in</html>"), &["malformed"]),
        (Reply::text(200, "application/json", "\u{fffd}\u{0}\u{1}"), &["malformed"]),
        (Reply::text(502, "text/html", "<html>bad gateway</html>"), &["unavailable"]),
        (Reply::text(503, "text/plain", ""), &["unavailable"]),
        (Reply::text(401, "text/plain", SECRET), &["denied"]),
        (Reply::text(403, "text/plain", SECRET), &["denied"]),
        (Reply::text(429, "text/plain", ""), &["throttled"]),
        (Reply::HalfClosed { body: b"{\"status\":".to_vec() }, &["unavailable", "malformed"]),
        (Reply::Reset, &["unavailable"]),
        (Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), &["unavailable", "malformed"]),
        (Reply::Raw(Vec::new()), &["unavailable"]),
        (Reply::Huge { status: 200, bytes: 6_000_000 }, &["malformed"]),
    ];
    for fixture in fixtures(LONG, 16) {
        for (reply, expected) in &faults {
            fixture.fake.answer_all(reply);
            let error = one(&fixture).await.unwrap_err();
            let about = format!("{}: {reply:.60?}: {}: {error}", fixture.kind, error.kind());
            assert!(expected.contains(&error.kind()), "{about}");
            assert!(!error.to_string().is_empty(), "{about}");
            assert!(!format!("{error:?}").contains(SECRET), "{about}: {error:?}");
            assert!(!error.to_string().contains("http://"), "{about}");
        }
        assert!(!fixture.telemetry.encode().contains(SECRET));
        assert!(fixture.telemetry.encode().contains(&format!(
            "tidepole_upstream_in_flight{{source=\"main\",kind=\"{}\"}} 0",
            fixture.kind
        )));
    }
}
