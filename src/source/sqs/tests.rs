use std::time::Duration;

use super::*;
use crate::model::{Query, QuerySpec, Source, SourceName, SystemClock};
use crate::source::Metrics;
use crate::source::aws::{AwsSettings, AwsSource};
use crate::source::upstream::{Queue, Reply, Sqs};
use crate::telemetry::Telemetry;

pub(in crate::source) fn credentials() -> aws_credential_types::provider::SharedCredentialsProvider
{
    aws_credential_types::provider::SharedCredentialsProvider::new(
        aws_sdk_sqs::config::Credentials::new("AKIDTEST", "hunter2-key", None, None, "test"),
    )
}

fn settings(fake: &Sqs) -> AwsSettings {
    let mut settings = AwsSettings::new("eu-west-1");
    settings.sqs_endpoint_url = Some(fake.server().url().parse().unwrap());
    settings.timeout = Duration::from_secs(10);
    settings
}

fn source(settings: &AwsSettings) -> AwsSource {
    let metrics = Metrics::register(&Telemetry::new());
    let clock = Arc::new(SystemClock::new());
    AwsSource::build(&SourceName::new("aws"), settings, clock, &metrics, Some(credentials()))
        .unwrap()
}

fn queue(name: &str) -> QueueRef {
    QueueRef { region: "eu-west-1".into(), account: None, name: name.into() }
}

async fn ask(source: &AwsSource, queues: &[QueueRef], count: &[QueueCount]) -> String {
    let spec =
        QuerySpec::Sqs(SqsQuery { queues: queues.to_vec(), count: count.to_vec(), role_arn: None });
    let query = Arc::new(Query { source: SourceName::new("aws"), spec });
    match source.fetch(&[query]).await.remove(0) {
        Ok(sample) => {
            let all: Vec<_> =
                sample.series.iter().map(|s| format!("{} {}", s.labels, s.value)).collect();
            all.join(";")
        }
        Err(error) => format!("{}: {error}", error.kind()),
    }
}

use QueueCount::{Delayed, InFlight, Visible};

#[tokio::test]
async fn counts_and_queues_are_summed_and_urls_looked_up_once() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, in_flight: 70, delayed: 900 });
    fake.queue("mail", Queue { visible: 1, in_flight: 20, delayed: 300 });
    let source = source(&settings(&fake));
    let jobs = [queue("jobs")];
    assert_eq!(ask(&source, &jobs, &[Visible]).await, "{} 5");
    assert_eq!(ask(&source, &jobs, &[Visible, InFlight]).await, "{} 75");
    assert_eq!(ask(&source, &jobs, &[Delayed]).await, "{} 900");
    let both = [queue("jobs"), queue("mail")];
    assert_eq!(ask(&source, &both, &[Visible, InFlight, Delayed]).await, "{} 1296");
    assert_eq!(fake.hits("GetQueueUrl", "jobs"), 1);
    assert_eq!(fake.hits("GetQueueAttributes", "jobs"), 4);
    assert_eq!(fake.hits("GetQueueAttributes", "mail"), 1);
}

#[tokio::test]
async fn concurrent_first_reads_share_one_look_up() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, ..Queue::default() });
    fake.delay(Duration::from_millis(50));
    let source = source(&settings(&fake));
    let jobs = [queue("jobs")];
    let reads = futures::future::join_all((0..4).map(|_| ask(&source, &jobs, &[Visible]))).await;
    assert_eq!(reads, ["{} 5"; 4]);
    assert_eq!(fake.hits("GetQueueUrl", "jobs"), 1);
}

#[tokio::test]
async fn the_account_is_part_of_the_name() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, ..Queue::default() });
    let source = source(&settings(&fake));
    let foreign = QueueRef { account: Some("999988887777".into()), ..queue("jobs") };
    assert_eq!(ask(&source, std::slice::from_ref(&foreign), &[Visible]).await, "{} 5");
    let bodies: Vec<String> = fake
        .server()
        .seen()
        .iter()
        .map(|request| String::from_utf8(request.body.clone()).unwrap())
        .collect();
    assert!(bodies[0].contains(r#""QueueOwnerAWSAccountId":"999988887777""#), "{bodies:?}");
    assert!(bodies[1].contains("/999988887777/jobs"), "{bodies:?}");
    fake.fault("GetQueueAttributes", Some(Sqs::error(403, "AccessDenied", "no")));
    assert_eq!(
        ask(&source, &[foreign], &[Visible]).await,
        "denied: SQS queue \"jobs\" in eu-west-1 of account 999988887777: access denied: the source's own identity needs sqs:GetQueueAttributes; allow it in its policy, and in that of the queue if its account is another (AccessDenied)"
    );
}

#[tokio::test]
async fn a_url_that_turned_wrong_is_looked_up_anew() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, ..Queue::default() });
    let source = source(&settings(&fake));
    let jobs = [queue("jobs")];
    assert_eq!(ask(&source, &jobs, &[Visible]).await, "{} 5");
    fake.move_all();
    assert_eq!(ask(&source, &jobs, &[Visible]).await, "{} 5");
    assert_eq!(fake.hits("GetQueueUrl", "jobs"), 2);
    fake.delete("jobs");
    let gone = "invalid: SQS queue \"jobs\" in eu-west-1 does not exist";
    assert_eq!(ask(&source, &jobs, &[Visible]).await, gone);
    assert_eq!(ask(&source, &jobs, &[Visible]).await, gone);
    fake.queue("jobs", Queue { visible: 6, ..Queue::default() });
    assert_eq!(ask(&source, &jobs, &[Visible]).await, "{} 6");
}

#[tokio::test]
async fn one_missing_queue_fails_the_whole_sum() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, ..Queue::default() });
    let source = source(&settings(&fake));
    assert_eq!(
        ask(&source, &[queue("jobs"), queue("none")], &[Visible]).await,
        "invalid: SQS queue \"none\" in eu-west-1 does not exist"
    );
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, ..Queue::default() });
    let source = source(&settings(&fake));
    let jobs = [queue("jobs")];
    assert_eq!(ask(&source, &jobs, &[Visible]).await, "{} 5");
    let attributes = |reply| fake.fault("GetQueueAttributes", Some(reply));
    let prefix = "SQS queue \"jobs\" in eu-west-1: ";
    for (reply, kind, text) in [
        (
            Sqs::error(
                400,
                "AccessDeniedException",
                "User: arn:aws:iam::1:user/me is not authorized",
            ),
            "denied",
            "access denied: the source's own identity needs sqs:GetQueueAttributes; allow it in its policy (AccessDeniedException)",
        ),
        (
            Sqs::error(403, "AccessDenied", "no"),
            "denied",
            "access denied: the source's own identity needs sqs:GetQueueAttributes; allow it in its policy (AccessDenied)",
        ),
        (
            Sqs::error(403, "ExpiredTokenException", "too old"),
            "denied",
            "AWS did not accept the credentials of the source's own identity: they have expired; new ones are being fetched (ExpiredTokenException)",
        ),
        (
            Sqs::error(403, "InvalidClientTokenId", "who"),
            "denied",
            "AWS did not accept the credentials of the source's own identity: the access key is unknown there, or the region is not enabled for its account (InvalidClientTokenId)",
        ),
        (
            Sqs::error(400, "ThrottlingException", "slow"),
            "throttled",
            "AWS asks for fewer calls (ThrottlingException)",
        ),
        (
            Sqs::error(403, "RequestThrottled", "slow"),
            "throttled",
            "AWS asks for fewer calls (RequestThrottled)",
        ),
        (
            Sqs::error(500, "InternalFailure", "oops"),
            "unavailable",
            "HTTP 500, InternalFailure: oops",
        ),
        (
            Sqs::error(400, "UnsupportedOperation", "what"),
            "invalid",
            "HTTP 400, UnsupportedOperation: what",
        ),
        (Reply::text(502, "text/html", "<h1>bad gateway"), "unavailable", "HTTP 502"),
        (Reply::text(504, "text/html", "<h1>"), "timeout", "HTTP 504"),
        (Reply::text(403, "text/html", "<h1>"), "denied", "HTTP 403"),
        (
            Reply::text(200, "application/x-amz-json-1.0", r#"{"Attributes":{}}"#),
            "malformed",
            "the answer has no number for ApproximateNumberOfMessages",
        ),
        (
            Reply::text(
                200,
                "application/x-amz-json-1.0",
                r#"{"Attributes":{"ApproximateNumberOfMessages":"many"}}"#,
            ),
            "malformed",
            "the answer has no number for ApproximateNumberOfMessages",
        ),
    ] {
        attributes(reply);
        assert_eq!(ask(&source, &jobs, &[Visible]).await, format!("{kind}: {prefix}{text}"));
    }
    attributes(Reply::text(200, "text/html", "<html>log in</html>"));
    let html = ask(&source, &jobs, &[Visible]).await;
    let start = format!("malformed: {prefix}HTTP 200 with an answer that is not AWS's: ");
    assert!(html.starts_with(&start), "{html}");
    // One call each: the SDK must not retry on its own.
    assert_eq!(fake.hits("GetQueueAttributes", "jobs"), 15);

    fake.fault("GetQueueAttributes", None);
    fake.fault("GetQueueUrl", Some(Sqs::error(403, "AccessDenied", "no")));
    assert_eq!(
        ask(&source, &[queue("other")], &[Visible]).await,
        "denied: SQS queue \"other\" in eu-west-1: access denied: the source's own identity needs sqs:GetQueueUrl; allow it in its policy (AccessDenied)"
    );
}

#[tokio::test]
async fn missing_credentials_are_denied_not_unavailable() {
    #[derive(Debug)]
    struct Nothing;
    impl aws_sdk_sqs::config::ProvideCredentials for Nothing {
        fn provide_credentials<'a>(
            &'a self,
        ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            use aws_credential_types::provider::error::CredentialsError;
            let error = CredentialsError::not_loaded("nothing in any place");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }
    let fake = Sqs::start();
    fake.queue("jobs", Queue::default());
    let metrics = Metrics::register(&Telemetry::new());
    let nothing = aws_credential_types::provider::SharedCredentialsProvider::new(Nothing);
    let clock = Arc::new(SystemClock::new());
    let name = SourceName::new("aws");
    let source = AwsSource::build(&name, &settings(&fake), clock, &metrics, Some(nothing)).unwrap();
    assert_eq!(
        ask(&source, &[queue("jobs")], &[Visible]).await,
        "denied: the source has no AWS credentials (environment, profile, web identity, container and instance metadata were tried)"
    );
    assert_eq!(fake.server().hits(), 0);
}

#[tokio::test]
async fn each_region_has_a_client() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 2, ..Queue::default() });
    let source = source(&settings(&fake));
    let other = QueueRef { region: "us-east-1".into(), ..queue("jobs") };
    assert_eq!(ask(&source, &[queue("jobs"), other], &[Visible]).await, "{} 4");
    let scopes: Vec<bool> = fake
        .server()
        .seen()
        .iter()
        .map(|r| r.header("authorization").is_some_and(|a| a.contains("/us-east-1/sqs/")))
        .collect();
    assert_eq!(scopes.iter().filter(|east| **east).count(), 2);
}
