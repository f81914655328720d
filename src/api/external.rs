//! Reads of external metrics.
//!
//! This is the hot path: a read from memory allocates its body, its headers and what the selector
//! holds, and nothing else here.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::Either;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use jiff::Timestamp;

use crate::api::Answer;
use crate::api::accept::{Format, negotiate};
use crate::api::body;
use crate::api::group::GroupVersion;
use crate::api::json::write_string;
use crate::api::metrics::ReadMetrics;
use crate::api::params::Params;
use crate::model::{ApiError, Clock, ExternalReading, MetricsProvider, Reading};
use crate::status::Status;

/// What external reads need, shared with the answers that wait.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) metrics: ReadMetrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_wait: Duration,
}

/// One read that was understood.
pub(super) struct Request<'a> {
    pub(super) gv: &'static GroupVersion,
    pub(super) namespace: &'a str,
    pub(super) metric: &'a str,
    pub(super) params: &'a Params,
    pub(super) method: &'a Method,
}

/// Reads and answers.
pub(super) fn answer(
    reads: &Arc<Reads>,
    provider: &dyn MetricsProvider,
    request: &Request<'_>,
    parts: &Parts,
) -> Answer {
    let started = Instant::now();
    let pretty = match check(request, parts) {
        Ok(pretty) => pretty,
        Err(error) => {
            return Either::Left(reads.finish(
                started,
                request.gv,
                &Err(error),
                false,
                &parts.headers,
            ));
        }
    };
    match provider.external(request.namespace, request.metric, &request.params.selector) {
        Reading::Ready(result) => {
            Either::Left(reads.finish(started, request.gv, &result, pretty, &parts.headers))
        }
        Reading::Wait(reading) => {
            let (reads, gv) = (Arc::clone(reads), request.gv);
            let limit = request.params.timeout.map_or(reads.max_wait, |t| t.min(reads.max_wait));
            let headers = parts.headers.clone();
            let wait = async move {
                let result = match tokio::time::timeout(limit, reading).await {
                    Ok(result) => result,
                    Err(_) => Err(ApiError::DeadlineExceeded(limit)),
                };
                reads.finish(started, gv, &result, pretty, &headers)
            };
            Either::Right(wait.boxed())
        }
    }
}

/// Whether the request can be answered, and whether indented.
fn check(request: &Request<'_>, parts: &Parts) -> Result<bool, ApiError> {
    if request.method != Method::GET {
        return Err(ApiError::MethodNotAllowed);
    }
    if let Some(problem) = &request.params.problem {
        return Err((**problem).clone());
    }
    let Some(chosen) = negotiate(&parts.headers, false) else {
        return Err(ApiError::NotAcceptable { offered: "application/json" });
    };
    debug_assert_eq!(chosen.format, Format::Json, "nothing else was on offer");
    if request.params.watch {
        return Err(ApiError::WatchNotSupported { group: request.gv.group });
    }
    Ok(chosen.pretty || body::is_pretty(request.params.pretty, &parts.headers))
}

impl Reads {
    fn finish(
        &self,
        started: Instant,
        gv: &GroupVersion,
        result: &Result<ExternalReading, ApiError>,
        pretty: bool,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let response = match result {
            Ok(reading) => body::json(render(gv, reading), pretty, headers),
            Err(error) => Status::from(error).response(),
        };
        self.metrics.count(started, self.clock.now(), result.as_ref());
        response
    }
}

/// The list as JSON, compact, with a line break at its end. `metricLabels` is `null` without
/// labels and `timestamp` has whole seconds, as Go's encoder writes them; `window` is not known
/// and therefore absent.
pub(super) fn render(gv: &GroupVersion, reading: &ExternalReading) -> Bytes {
    let labels: usize = reading
        .items
        .iter()
        .flat_map(|item| item.labels.iter().map(|(k, v)| k.len() + v.len() + 8))
        .sum();
    let each = 96 + reading.metric.as_str().len();
    let mut out = Vec::with_capacity(128 + reading.items.len() * each + labels);
    out.extend_from_slice(br#"{"kind":""#);
    out.extend_from_slice(gv.list_kind.as_bytes());
    out.extend_from_slice(br#"","apiVersion":""#);
    out.extend_from_slice(gv.name.as_bytes());
    out.extend_from_slice(br#"","metadata":{},"items":["#);
    // The same for every item: its name, and mostly its time.
    let start = out.len();
    out.extend_from_slice(br#"{"metricName":"#);
    write_string(&mut out, reading.metric.as_str());
    out.extend_from_slice(br#","metricLabels":"#);
    let name = start..out.len();
    let mut time: Option<(Timestamp, Range<usize>)> = None;
    for (i, item) in reading.items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
            out.extend_from_within(name.clone());
        }
        if item.labels.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            for (j, (key, value)) in item.labels.iter().enumerate() {
                out.push(if j == 0 { b'{' } else { b',' });
                write_string(&mut out, key);
                out.push(b':');
                write_string(&mut out, value);
            }
            out.push(b'}');
        }
        match &time {
            Some((written, place)) if *written == item.timestamp => {
                out.extend_from_within(place.clone());
            }
            _ => {
                let start = out.len();
                let seconds = whole_seconds(item.timestamp);
                // Writing to a Vec cannot fail: it grows.
                let _ = write!(out, r#","timestamp":"{seconds}","value":""#);
                time = Some((item.timestamp, start..out.len()));
            }
        }
        let _ = write!(out, "{}", item.value);
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

/// Cut, not rounded, as Go's RFC 3339 form without a fraction is.
fn whole_seconds(timestamp: Timestamp) -> Timestamp {
    Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp)
}
