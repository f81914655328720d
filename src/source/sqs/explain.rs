//! Taking notes of what goes to SQS and comes back, in the service's own words: the JSON on the
//! wire, without the signature.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::client::customize::CustomizableOperation;
use aws_sdk_sqs::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_sqs::config::{ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;
use serde_json::Value;
use url::Url;

use crate::model::{FetchError, QueueRef, Sample, SqsQuery, root_cause};
use crate::source::aws::failure::said;
use crate::source::aws::identity::Identity;
use crate::source::recorder::Recorder;
use crate::source::secrets::Secrets;

/// Stands for the URL that a call which was not made would have brought.
pub(super) const UNKNOWN_URL: &str = "(the QueueUrl that GetQueueUrl answers)";

/// A request of which notes are taken. A dry recorder's request is signed by nobody, so that no
/// credentials are looked for, and ends before it is sent.
pub(super) fn observed<T, E, B>(
    request: CustomizableOperation<T, E, B>,
    recorder: &Arc<Recorder>,
    operation: &'static str,
    queue: &QueueRef,
    identity: &Arc<Identity>,
) -> CustomizableOperation<T, E, B> {
    let request = if recorder.permit().is_err() {
        let nobody = Credentials::new("nobody", "nothing", None, None, "preview");
        request.config_override(aws_sdk_sqs::Config::builder().credentials_provider(nobody))
    } else {
        request
    };
    request.interceptor(Capture {
        recorder: Arc::clone(recorder),
        operation,
        whence: format!("{} as {}", queue.region, identity.who()),
        identity: Arc::clone(identity),
        call: OnceLock::new(),
    })
}

/// What the value is, in sentences.
pub(super) fn choice(query: &SqsQuery, outcome: &Result<Sample, FetchError>) -> Vec<String> {
    if outcome.is_err() {
        return Vec::new();
    }
    let sum = match (query.queues.len(), query.count.len()) {
        (1, 1) => "The queue's count",
        (1, _) => "The sum of the queue's counts",
        _ => "The sum of the counts of all queues",
    };
    vec![format!(
        "{sum} at the moment when the last answer came. SQS counts approximately: a number may lag by up to a minute."
    )]
}

/// Writes one call down.
#[derive(Debug)]
struct Capture {
    recorder: Arc<Recorder>,
    operation: &'static str,
    /// Region and identity.
    whence: String,
    identity: Arc<Identity>,
    call: OnceLock<usize>,
}

impl Intercept for Capture {
    fn name(&self) -> &'static str {
        "Capture"
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = json(context.request().body().bytes()).unwrap_or(Value::Null);
        // The URL of a queue is the service's word.
        let request = self.identity.secrets().blot_json(request);
        let operation = self.operation.to_owned();
        self.call.get_or_init(|| self.recorder.begin(operation, self.whence.clone(), request));
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(call), Ok(url)) = (self.call.get(), Url::parse(context.request().uri())) {
            let host = url.origin().ascii_serialization();
            self.recorder.target(*call, format!("{host} in {}", self.whence));
        }
        self.recorder.permit().map_err(Into::into)
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(call) = self.call.get() else { return Ok(()) };
        let secrets = self.identity.secrets();
        let answer = match context.response() {
            Some(response) => json(response.body().bytes())
                .map(|answer| {
                    if response.status().is_success() {
                        secrets.blot_json(answer)
                    } else {
                        unquoted(answer, &secrets)
                    }
                })
                .ok_or_else(|| format!("HTTP {} without JSON in it", response.status().as_u16())),
            None => Err(match context.output_or_error() {
                Some(Err(error)) => format!("no answer: {}", said(&root_cause(error), &secrets)),
                _ => "no answer".to_owned(),
            }),
        };
        self.recorder.end(*call, answer);
        Ok(())
    }
}

/// An error, without what it quotes of the request.
fn unquoted(error: Value, secrets: &Secrets) -> Value {
    match secrets.blot_json(error) {
        Value::String(text) => Value::String(said(&text, secrets)),
        Value::Array(items) => items.into_iter().map(|item| unquoted(item, secrets)).collect(),
        Value::Object(pairs) => {
            pairs.into_iter().map(|(key, value)| (key, unquoted(value, secrets))).collect()
        }
        other => other,
    }
}

fn json(body: Option<&[u8]>) -> Option<Value> {
    serde_json::from_slice(body?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::model::{
        Exchange, Query, QuerySpec, QueueCount, QueueRef, Source, SourceName, SqsQuery, SystemClock,
    };
    use crate::source::Metrics;
    use crate::source::aws::{AwsSettings, AwsSource};
    use crate::source::sqs::tests::credentials;
    use crate::source::upstream::{Queue, Reply, Sqs};
    use crate::telemetry::Telemetry;

    use super::*;

    fn source(fake: &Sqs) -> AwsSource {
        counted(fake, &Telemetry::new())
    }

    fn counted(fake: &Sqs, telemetry: &Telemetry) -> AwsSource {
        let mut settings = AwsSettings::new("eu-west-1");
        settings.sqs_endpoint_url = Some(fake.server().url().parse().unwrap());
        settings.timeout = Duration::from_secs(10);
        let metrics = Metrics::register(telemetry);
        let clock = Arc::new(SystemClock::new());
        let credentials = Some(credentials());
        AwsSource::build(&SourceName::new("aws"), &settings, clock, &metrics, credentials).unwrap()
    }

    fn query(names: &[&str]) -> Arc<Query> {
        let queue = |name: &&str| QueueRef {
            region: "eu-west-1".into(),
            account: None,
            name: (*name).into(),
        };
        let spec = QuerySpec::Sqs(SqsQuery {
            queues: names.iter().map(queue).collect(),
            count: vec![QueueCount::Visible, QueueCount::InFlight],
            role_arn: None,
        });
        Arc::new(Query { source: SourceName::new("aws"), spec })
    }

    fn operations(calls: &[Exchange]) -> Vec<&str> {
        calls.iter().map(|call| call.operation.as_str()).collect()
    }

    #[tokio::test]
    async fn both_calls_are_shown_as_they_are_on_the_wire() {
        let fake = Sqs::start();
        fake.queue("jobs", Queue { visible: 5, in_flight: 70, delayed: 900 });
        let explanation = source(&fake).explain(&query(&["jobs"])).await;
        let calls = &explanation.exchanges;
        assert_eq!(operations(calls), ["GetQueueUrl", "GetQueueAttributes"]);
        assert_eq!(explanation.outcome.unwrap().series[0].value, 75_u64.into());
        for (call, seen) in calls.iter().zip(fake.server().seen()) {
            let sent: Value = serde_json::from_slice(&seen.body).unwrap();
            assert_eq!(call.request, sent);
            let origin = fake.server().url();
            let target = format!(
                "{} in eu-west-1 as the source's own identity",
                origin.trim_end_matches('/')
            );
            assert_eq!(call.target, target);
            assert!(call.took > Duration::ZERO);
        }
        let counts = json!({"Attributes": {
            "ApproximateNumberOfMessages": "5",
            "ApproximateNumberOfMessagesNotVisible": "70",
        }});
        assert_eq!(calls[1].answer, Ok(counts));
        assert_eq!(explanation.choice.len(), 1);
        let said = format!("{calls:?}");
        assert!(!said.contains("hunter2") && !said.contains("AKID"), "{said}");
    }

    #[tokio::test]
    async fn a_preview_sends_nothing_and_needs_no_credentials() {
        let (fake, telemetry) = (Sqs::start(), Telemetry::new());
        let source = counted(&fake, &telemetry);
        let calls = source.preview(&query(&["jobs", "mail"])).await.unwrap();
        assert_eq!(
            operations(&calls),
            ["GetQueueUrl", "GetQueueAttributes", "GetQueueUrl", "GetQueueAttributes"]
        );
        assert_eq!(calls[0].request, json!({"QueueName": "jobs"}));
        assert_eq!(calls[1].request["QueueUrl"], UNKNOWN_URL);
        assert_eq!(calls[2].request, json!({"QueueName": "mail"}));
        assert!(calls.iter().all(|call| call.answer == Err("not sent".to_owned())));
        assert!(calls[0].target.starts_with("http://127.0.0.1:"), "{}", calls[0].target);
        assert_eq!(fake.server().hits(), 0);
        let page = telemetry.encode();
        let counted =
            page.lines().filter(|line| line.starts_with("tidepole_upstream_calls_total{"));
        let counted: Vec<_> = counted.filter(|line| !line.ends_with(" 0")).collect();
        assert_eq!(counted, [""; 0], "what was not sent is no call");
        // The URL that was not looked up is not kept.
        fake.queue("jobs", Queue { visible: 3, ..Queue::default() });
        let explanation = source.explain(&query(&["jobs"])).await;
        assert_eq!(explanation.outcome.unwrap().series[0].value, 3_u64.into());
    }

    #[tokio::test]
    async fn what_fails_is_shown_with_the_service_s_words() {
        let fake = Sqs::start();
        let source = source(&fake);
        let explanation = source.explain(&query(&["jobs"])).await;
        assert_eq!(operations(&explanation.exchanges), ["GetQueueUrl"]);
        let answer = explanation.exchanges[0].answer.as_ref().unwrap();
        assert_eq!(answer["message"], "The specified queue does not exist.");
        assert!(explanation.choice.is_empty());
        for (reply, said) in [
            (Reply::text(502, "text/html", "<h1>"), "HTTP 502 without JSON in it"),
            (Reply::Reset, "no answer: "),
        ] {
            fake.fault("GetQueueUrl", Some(reply));
            let explanation = source.explain(&query(&["jobs"])).await;
            let answer = explanation.exchanges[0].answer.as_ref().unwrap_err();
            assert!(answer.starts_with(said), "{answer}");
        }
    }
}
