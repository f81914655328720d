//! Taking notes of what goes to SQS and comes back, in the service's own words: the JSON on the
//! wire, without the signature.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::client::customize::CustomizableOperation;
use aws_sdk_sqs::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_sqs::config::{ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;
use serde_json::Value;
use url::Url;

use crate::model::{FetchError, QueueRef, Sample, SqsQuery};
use crate::source::aws::identity::Who;
use crate::source::recorder::Recorder;

/// Stands for the URL that a call which was not made would have brought.
pub(super) const UNKNOWN_URL: &str = "(the QueueUrl that GetQueueUrl answers)";

/// A request of which notes are taken. A dry recorder's request is signed by nobody, so that no
/// credentials are looked for, and ends before it is sent.
pub(super) fn observed<T, E, B>(
    request: CustomizableOperation<T, E, B>,
    recorder: &Arc<Recorder>,
    operation: &'static str,
    queue: &QueueRef,
    identity: &Who,
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
        whence: format!("{} as {}", queue.region, identity),
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
        let answer = match context.response() {
            Some(response) => json(response.body().bytes())
                .ok_or_else(|| format!("HTTP {} without JSON in it", response.status().as_u16())),
            None => Err(match context.output_or_error() {
                Some(Err(error)) => format!("no answer: {}", last_cause(error)),
                _ => "no answer".to_owned(),
            }),
        };
        self.recorder.end(*call, answer);
        Ok(())
    }
}

fn json(body: Option<&[u8]>) -> Option<Value> {
    serde_json::from_slice(body?).ok()
}

fn last_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
