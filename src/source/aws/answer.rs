//! A size cap on answers, and their count: the SDK reads any answer whole, however long it is.

use std::sync::Arc;

use aws_sdk_sqs::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};

use crate::source::metrics::CallMetrics;

/// Largest answer taken. That of `GetQueueAttributes` has a few hundred bytes; the largest that any
/// metrics API of AWS gives stays below this too.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Caps and counts the answers of one client.
#[derive(Debug)]
pub(super) struct AnswerCap {
    /// Where bytes are counted.
    pub metrics: Arc<CallMetrics>,
}

impl Intercept for AnswerCap {
    fn name(&self) -> &'static str {
        "AnswerCap"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let whole = std::mem::replace(body, SdkBody::taken());
        let metrics = Arc::clone(&self.metrics);
        let counted = whole.map_frame(move |frame| {
            metrics.received(frame.data_ref().map_or(0, bytes::Bytes::len));
            frame
        });
        *body = SdkBody::from_body_1_x(Limited::new(counted, MAX_ANSWER_BYTES));
        Ok(())
    }
}
