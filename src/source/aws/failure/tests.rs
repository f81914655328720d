//! Services that quote what they were sent.

use std::time::Duration;

use super::*;
use crate::model::{
    CloudWatchQuery, Explanation, Manner, ManualClock, MetricDataQuery, MetricQuestion, MetricStat,
    Query, QuerySpec, QueueCount, QueueRef, Source, SourceName, SqsQuery,
};
use crate::source::Metrics;
use crate::source::aws::{AwsSettings, AwsSource};
use crate::source::upstream::cloudwatch::Mark;
use crate::source::upstream::{CloudWatch, KeyRing, Queue, Reply, Sqs, Sts};
use crate::telemetry::Telemetry;

const ROLE: &str = "arn:aws:iam::444455556666:role/metrics-reader";
const KEY: &str = "AKIDBASE";
const SECRET: &str = "secret/of+base==";
const EXTERNAL_ID: &str = "external/id:of@us";

struct Bench {
    ring: KeyRing,
    sts: Sts,
    sqs: Sqs,
    cloudwatch: CloudWatch,
    source: AwsSource,
    _files: tempfile::TempDir,
}

fn bench() -> Bench {
    let ring = KeyRing::with_user(KEY, SECRET);
    let (sts, sqs, cloudwatch) = (Sts::start(&ring), Sqs::start(), CloudWatch::start());
    sqs.check_signatures(&ring);
    cloudwatch.check_signatures(&ring);
    sqs.queue("jobs", Queue { visible: 7, ..Queue::default() });
    sts.role_with_external_id(ROLE, EXTERNAL_ID);
    cloudwatch.generate_all(|_, _| Some(5.0));
    let files = tempfile::tempdir().unwrap();
    let external_id = files.path().join("external-id");
    std::fs::write(&external_id, EXTERNAL_ID).unwrap();
    let mut settings = AwsSettings::new("eu-west-1");
    settings.sqs_endpoint_url = Some(sqs.server().url().parse().unwrap());
    settings.sts_endpoint_url = Some(sts.url().parse().unwrap());
    settings.cloudwatch_endpoint_url = Some(cloudwatch.url().parse().unwrap());
    settings.external_id_file = Some(external_id);
    settings.timeout = Duration::from_secs(10);
    let keys = aws_credential_types::Credentials::new(KEY, SECRET, None, None, "test");
    let keys = aws_credential_types::provider::SharedCredentialsProvider::new(keys);
    let (name, metrics) = (SourceName::new("aws"), Metrics::register(&Telemetry::new()));
    let clock = Arc::new(ManualClock::at(jiff::Timestamp::now()));
    let source = AwsSource::build(&name, &settings, clock, &metrics, Some(keys)).unwrap();
    Bench { ring, sts, sqs, cloudwatch, source, _files: files }
}

fn depth(role: &str) -> Arc<Query> {
    let queue = QueueRef { region: "eu-west-1".into(), account: None, name: "jobs".into() };
    let count = vec![QueueCount::Visible];
    let spec = SqsQuery { queues: vec![queue], count, role_arn: Some(role.into()) };
    Arc::new(Query { source: SourceName::new("aws"), spec: QuerySpec::Sqs(spec) })
}

fn metric(name: &str) -> Arc<Query> {
    let minute = Duration::from_mins(1);
    let question = MetricQuestion::Metric(MetricStat {
        namespace: "App".into(),
        name: name.into(),
        dimensions: Vec::new(),
        statistic: "Sum".into(),
        period: minute,
        unit: None,
        account_id: None,
    });
    let spec = CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: Some(ROLE.into()),
        queries: vec![MetricDataQuery { id: "m".into(), question, label: None, return_data: true }],
        period: minute,
        delay: minute,
        lookback: minute * 6,
        manner: Manner::Strict,
    };
    let spec = QuerySpec::CloudWatch(Box::new(spec));
    Arc::new(Query { source: SourceName::new("aws"), spec })
}

/// How services write what they quote.
fn quoting(secret: &str) -> [String; 6] {
    let percent = |upper: bool| {
        let each = secret.bytes().map(|byte| match (byte.is_ascii_alphanumeric(), upper) {
            (true, _) => char::from(byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        });
        each.collect::<String>()
    };
    let html = secret.replace('/', "&#x2F;").replace('+', "&#43;").replace('=', "&equals;");
    [
        secret.to_owned(),
        secret.replace('/', "\\/"),
        percent(true),
        percent(false),
        html,
        (if secret.len() < 30 { secret } else { &secret[..secret.len() - 2] }).to_owned(),
    ]
}

const ERRORS: [(u16, &str); 7] = [
    (400, "ValidationError"),
    (400, "InvalidParameterValue"),
    (404, "UnknownOperationException"),
    (500, "InternalFailure"),
    (403, "SignatureDoesNotMatch"),
    (403, "AccessDenied"),
    (400, "Throttling"),
];

fn held(said: &str, secrets: &[&str]) {
    for secret in secrets {
        for quoted in quoting(secret) {
            assert!(!said.contains(&quoted), "{quoted} in {said}");
        }
    }
    assert!(!said.contains("0123456789abcdef"), "{said}");
}

#[tokio::test]
async fn services_that_quote_the_request_tell_nobody_its_secrets() {
    let bench = bench();
    let source = &bench.source;
    assert!(source.fetch(&[depth(ROLE), metric("M")]).await.iter().all(Result::is_ok));
    let token = bench.sqs.server().last().header("x-amz-security-token").unwrap().to_owned();
    let metrics = [metric("M"), metric("N")];
    for (status, code) in ERRORS {
        let headers = format!(
            "bad request, headers were: host: x, x-amz-security-token: {token}, authorization: AWS4-HMAC-SHA256 Credential=ASIA/x, Signature=0123456789abcdef"
        );
        for quoted in
            quoting(&token).map(|echo| format!("you sent {echo}")).into_iter().chain([headers])
        {
            bench.sqs.fault("GetQueueAttributes", Some(Sqs::error(status, code, &quoted)));
            bench.cloudwatch.fault(Some(CloudWatch::error(status, code, &quoted)));
            let answers = source.fetch(&[depth(ROLE)]).await;
            let one = source.fetch(&metrics[..1]).await;
            let two = source.fetch(&metrics).await;
            let told: Vec<Explanation> =
                vec![source.explain(&depth(ROLE)).await, source.explain(&metrics[0]).await];
            assert!(answers.iter().chain(&one).chain(&two).all(Result::is_err));
            let said = format!("{answers:?} {one:?} {two:?} {told:?}");
            held(&said, &[&token]);
            assert!(said.contains(code), "{said}");
        }
    }
    // In the code, too.
    bench.cloudwatch.fault(Some(CloudWatch::error(400, &token, "no")));
    bench.sqs.fault("GetQueueAttributes", Some(Sqs::error(400, &token.replace('/', "%2f"), "no")));
    let answers = source.fetch(&[depth(ROLE), metric("M"), metric("N")]).await;
    held(&format!("{answers:?}"), &[&token]);
}

#[tokio::test]
async fn sts_that_quotes_the_request_tells_nobody_its_secrets() {
    let bench = bench();
    for (number, (status, code)) in ERRORS.into_iter().enumerate() {
        for (again, external_id) in quoting(EXTERNAL_ID).into_iter().enumerate() {
            let text = format!("ExternalId {external_id} of {KEY} with {SECRET} is odd");
            bench.sts.fault(Some(Sts::error(status, code, &text)));
            let role = format!("arn:aws:iam::444455556666:role/r{number}{again}");
            let answers = bench.source.fetch(&[depth(&role)]).await;
            assert!(answers[0].is_err());
            held(&format!("{answers:?}"), &[EXTERNAL_ID, SECRET, KEY]);
        }
    }
}

#[tokio::test]
async fn data_that_repeats_the_credentials_is_no_answer() {
    let bench = bench();
    let source = &bench.source;
    assert!(source.fetch(&[metric("M")]).await[0].is_ok());
    let token = bench.cloudwatch.server().last().header("x-amz-security-token").unwrap().to_owned();
    bench.cloudwatch.mark_when({
        let token = token.clone();
        move |_| Some(Mark::status("Complete").message("Odd", &format!("you sent {token}")))
    });
    bench.cloudwatch.messages(&[("Odd", &token)]);
    let told = source.explain(&metric("M")).await;
    let answers = source.fetch(&[metric("M")]).await;
    let said = format!("{told:?} {answers:?}");
    held(&said, &[&token]);
    assert!(said.contains("you sent [secret]"), "{said}");
    bench.cloudwatch.messages(&[]);
    bench.cloudwatch.extra(&[&token]);
    assert_eq!(
        source.fetch(&[metric("M")]).await[0].as_ref().unwrap_err().to_string(),
        "CloudWatch in eu-west-1: the answer repeats the source's credentials"
    );
    // A queue's URL is no secret's place either.
    let url = serde_json::json!({"QueueUrl": format!("https://q/{token}")});
    bench.sqs.fault("GetQueueUrl", Some(Reply::json(200, url.to_string())));
    let told = source.explain(&depth(ROLE)).await;
    held(&format!("{told:?}"), &[&token]);
}

#[tokio::test]
async fn a_call_without_credentials_says_why_it_was_not_sent() {
    let bench = bench();
    bench.sts.refuse(ROLE);
    for query in [depth(ROLE), metric("M")] {
        let told = bench.source.explain(&query).await;
        let why = told.outcome.unwrap_err();
        assert!(why.to_string().contains("failed: access denied: "), "{why}");
        assert!(!told.exchanges.is_empty());
        for call in told.exchanges {
            assert_eq!(call.answer, Err(format!("not sent: {why}")));
        }
    }
}

#[tokio::test]
async fn credentials_that_a_service_refuses_are_renewed() {
    for query in [depth(ROLE), metric("M")] {
        let bench = bench();
        let ask = async || bench.source.fetch(std::slice::from_ref(&query)).await.remove(0);
        assert!(ask().await.is_ok());
        bench.ring.expire(ROLE);
        let error = ask().await.unwrap_err().to_string();
        let renewed = "they have expired; new ones are being fetched (ExpiredToken";
        assert!(error.contains(renewed), "{error}");
        let back = async { while ask().await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(10), back).await.expect("new credentials come");
        assert_eq!(bench.sts.assumed(ROLE), 2);
    }
}

#[test]
fn a_sentence_ends_where_it_quotes_the_request() {
    let said = |text: &str| said(text, &Secrets::default());
    for whole in [
        "The metric name AuthorizationErrors is odd: Authorization, x-amz, signature",
        "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: sts:AssumeRole",
        "Signature expired: 20261121T120000Z is now earlier than 20261121T130000Z",
        "eyJ is no token, and eyJh.x neither",
    ] {
        assert_eq!(said(whole), whole);
    }
    for (quote, start) in [
        ("odd; The Canonical String is 'GET..'", "odd; "),
        ("headers: host: x, X-Amz-Date: y", "headers: host: x, "),
        ("sent Authorization: AWS4-HMAC-SHA256", "sent "),
        ("sent AWS4-HMAC-SHA256 Credential=x", "sent "),
        ("sent ?x=y&Signature=abc", "sent ?x=y&"),
        ("The String-to-Sign should have been x", "The "),
    ] {
        assert_eq!(said(quote), format!("{start}{QUOTATION}"));
    }
    assert_eq!(said("token eyJhbGciOiJ9.eyJzdWIi.c2ln-x_y= is old"), "token [secret] is old");
}
