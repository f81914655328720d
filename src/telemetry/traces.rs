//! Traces, sent to a collector by OTLP: a span for each read, for each batch of refreshes, and in it
//! for each call of an upstream.
//!
//! Off unless [`start`] was called, and then a span is nothing: one load of a static and a branch.
//! Spans are made by hand at three places and not from `tracing`'s, so what a library does inside
//! of a request is never exported, and a log line costs no more than before.
//!
//! Invariants: a span has no query, no selector, no header and no user; at most 2,048 spans wait
//! for the collector, and what does not fit is dropped.

mod export;
mod settings;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    FutureExt, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};

pub use self::settings::{Header, Settings, SettingsProblem};

use self::export::Exporter;
use crate::telemetry::Telemetry;
use crate::telemetry::build::VERSION;

/// Spans that wait for the collector; the SDK's own default.
const QUEUE: usize = 2048;

/// How long the end of the process waits for the last spans.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Longest path in a span, in bytes.
const MAX_PATH: usize = 512;

/// The header that a trace comes in, by W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";

/// The header that comes with it.
pub const TRACESTATE: &str = "tracestate";

/// Once per process, as logging.
static TRACES: OnceLock<Traces> = OnceLock::new();

struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// Why traces could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A header's file.
    #[error("telemetry.traces.headers.{name}: {path}: {cause}")]
    HeaderFile {
        /// The header.
        name: String,
        /// As in the config.
        path: String,
        /// Why it cannot be used.
        cause: String,
    },
    /// The exporter refused its settings, or has no TLS roots.
    #[error("telemetry.traces: {0}")]
    Exporter(String),
    /// There can be one.
    #[error("traces are already on in this process")]
    AlreadyOn,
}

/// Turns traces on for the whole process. Spans are sent from a thread of its own.
///
/// # Errors
/// When a header's file cannot be read or the exporter cannot be made. Whether the collector
/// answers is seen later, in the log and the metrics.
pub fn start(settings: &Settings, telemetry: &Telemetry) -> Result<(), TracesError> {
    if TRACES.get().is_some() {
        return Err(TracesError::AlreadyOn);
    }
    let exporter = Exporter::new(settings, telemetry)?;
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder()
        .with_service_name("tidepole")
        .with_attribute(KeyValue::new("service.version", VERSION))
        .build();
    // Whoever began the trace has decided; of our own, a share.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("tidepole");
    let propagator = TraceContextPropagator::new();
    TRACES.set(Traces { provider, tracer, propagator }).map_err(|_| TracesError::AlreadyOn)
}

/// Sends what is left and turns traces off. Blocks for two seconds at most.
pub fn stop() {
    if let Some(traces) = TRACES.get()
        && let Err(error) = traces.provider.shutdown_with_timeout(LAST_EXPORT)
    {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

/// Whether spans are made at all.
#[must_use]
pub fn are_on() -> bool {
    TRACES.get().is_some()
}

/// Something that takes time; nothing while traces are off, or this one is not sampled.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

/// What came with a request.
struct Headers<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.parent,
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Traces {
    fn begin(&self, span: SpanBuilder, parent: &Context) -> Span {
        let span = self.tracer.build_with_context(span, parent);
        // One that is not recorded still says so to those below it.
        Span(Some(parent.with_span(span)))
    }

    fn span(&self, name: &'static str, kind: SpanKind, attributes: Vec<KeyValue>) -> SpanBuilder {
        self.tracer.span_builder(name).with_kind(kind).with_attributes(attributes)
    }
}

impl Span {
    /// A read, as its requester's trace has it if that is given: the values of [`TRACEPARENT`] and
    /// [`TRACESTATE`]. `id` is the request's id.
    #[must_use]
    pub fn read(path: &str, id: &str, parent: Option<&str>, state: Option<&str>) -> Self {
        let Some(traces) = TRACES.get() else { return Self::default() };
        let context =
            traces.propagator.extract_with_context(&Context::new(), &Headers { parent, state });
        let path = &path[..path.floor_char_boundary(MAX_PATH)];
        let attributes = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("tidepole.request_id", id.to_owned()),
        ];
        traces.begin(traces.span("read", SpanKind::Server, attributes), &context)
    }

    /// A batch of refreshes.
    #[must_use]
    pub fn batch(source: &str, queries: usize) -> Self {
        let Some(traces) = TRACES.get() else { return Self::default() };
        let attributes = vec![
            KeyValue::new("tidepole.source", source.to_owned()),
            KeyValue::new("tidepole.queries", i64::try_from(queries).unwrap_or(i64::MAX)),
        ];
        traces.begin(traces.span("refresh batch", SpanKind::Internal, attributes), &Context::new())
    }

    /// A call of an upstream, within the batch whose future is being polled.
    #[must_use]
    pub fn call(source: &str, kind: &'static str) -> Self {
        let Some(traces) = TRACES.get() else { return Self::default() };
        let attributes = vec![
            KeyValue::new("tidepole.source", source.to_owned()),
            KeyValue::new("tidepole.call", kind),
        ];
        traces
            .begin(traces.span("upstream call", SpanKind::Client, attributes), &Context::current())
    }

    /// Runs a future as a part of this one.
    pub async fn around<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Some(context) => future.with_context(context.clone()).await,
            None => future.await,
        }
    }

    /// It has ended, in a fixed word; `failure` says why it is one.
    pub fn end(self, outcome: &'static str, failure: Option<&str>) {
        let Some(context) = self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("tidepole.outcome", outcome));
        if let Some(why) = failure {
            span.set_status(Status::error(why.to_owned()));
        }
        span.end();
    }

    /// The answer to a read; `failure` is its sentence if it is none of the server's making.
    pub fn answered(self, code: u16, failure: Option<&str>) {
        let Some(context) = &self.0 else { return };
        context.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(code)));
        let outcome = if code < 400 { "ok" } else { "failed" };
        self.end(outcome, failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_traces_a_span_is_nothing() {
        assert!(!are_on());
        let span = Span::read("/apis/x", "id", Some("00-1-2-01"), None);
        assert!(span.0.is_none());
        assert_eq!(span.around(async { 7 }).await, 7);
        span.answered(200, None);
        Span::batch("main", 3).end("ok", None);
        Span::call("main", "query").end("timeout", Some("no answer"));
        stop();
    }
}
