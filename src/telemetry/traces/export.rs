//! The way to the collector: OTLP over HTTP, counted.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;

use super::TracesError;
use super::settings::{Header, MAX_HEADER_BYTES, Settings};
use crate::telemetry::Telemetry;

/// Limit of one export; OTLP's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends spans, counts them, and says in the log once when that fails.
#[derive(Debug)]
pub(super) struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    sent: Counter,
    lost: Counter,
    failing: AtomicBool,
}

impl Exporter {
    pub(super) fn new(settings: &Settings, telemetry: &Telemetry) -> Result<Self, TracesError> {
        let inner = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.address())
            .with_timeout(TIMEOUT)
            .with_headers(headers(settings)?)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        let exporter = Self {
            inner,
            sent: Counter::default(),
            lost: Counter::default(),
            failing: AtomicBool::new(false),
        };
        telemetry.register(|registry| {
            registry.register(
                "trace_spans_sent",
                "Spans that the collector has taken",
                exporter.sent.clone(),
            );
            registry.register(
                "trace_spans_lost",
                "Spans that the collector has not taken; those that found no place in the queue are not among them",
                exporter.lost.clone(),
            );
        });
        Ok(exporter)
    }
}

/// The headers' values; of files their first line.
fn headers(settings: &Settings) -> Result<HashMap<String, String>, TracesError> {
    let mut headers = HashMap::new();
    for (name, header) in &settings.headers {
        let value = match header {
            Header::Fixed(value) => value.clone(),
            Header::File(path) => {
                let refused = |cause: String| TracesError::HeaderFile {
                    name: name.clone(),
                    path: path.display().to_string(),
                    cause,
                };
                let size = fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
                if size > MAX_HEADER_BYTES {
                    return Err(refused(format!("more than {MAX_HEADER_BYTES} bytes")));
                }
                let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if !Header::is_value(text) {
                    return Err(refused("expected one line of printable ASCII".to_owned()));
                }
                text.to_owned()
            }
        };
        headers.insert(name.clone(), value);
    }
    Ok(headers)
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.inner.export(batch).await;
        match &result {
            Ok(()) => {
                self.sent.inc_by(spans);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(error) => {
                self.lost.inc_by(spans);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "traces cannot be sent; spans are lost until they can");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
