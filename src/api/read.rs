//! Reads of metrics, of whichever group: what is checked, the wait for a first value, the answer.
//!
//! This is the hot path: a read from memory allocates its body, its headers and what the selectors
//! hold, and nothing else here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::Either;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use jiff::Timestamp;

use crate::api::Answer;
use crate::api::accept::{Chosen, Format, Offer, negotiate};
use crate::api::body;
use crate::api::group::GroupVersion;
use crate::api::metrics::{Begun, ReadMetrics};
use crate::api::params::Params;
use crate::model::{ApiError, Attributes, Clock, Reading, ResourceAttributes};
use crate::status::{Hint, Hinted, Status};

/// What reads need, shared with the answers that wait.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) metrics: ReadMetrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_wait: Duration,
}

/// One read whose path was understood.
pub(super) struct Request<'a> {
    pub(super) gv: &'static GroupVersion,
    pub(super) params: &'a Params,
    pub(super) method: &'a Method,
    pub(super) parts: &'a Parts,
}

/// What a provider answers: a list that can be written.
pub(super) trait List: Send + 'static {
    /// The list as JSON, compact, with a line break at its end.
    fn render(&self, gv: &GroupVersion) -> Bytes;

    /// When its items were true, in their order.
    fn times(&self) -> impl Iterator<Item = Timestamp>;
}

/// Reads and answers. `ask` checks what concerns its group alone and asks the provider; `hints` are
/// asked for when there is no such metric.
pub(super) fn answer<T: List>(
    reads: &Arc<Reads>,
    request: &Request<'_>,
    ask: impl FnOnce() -> Result<Reading<T>, ApiError>,
    hints: impl FnOnce() -> Vec<Hint>,
) -> Answer {
    let started = reads.metrics.begin();
    let headers = &request.parts.headers;
    let asked = check(request).and_then(|chosen| Ok((chosen, ask()?)));
    match asked {
        Err(error) => {
            let plain = Chosen { format: Format::Json, pretty: false };
            Either::Left(reads.finish::<T>(started, request.gv, &Err(error), plain, headers))
        }
        Ok((chosen, Reading::Ready(result))) => {
            let answer = reads.finish(started, request.gv, &result, chosen, headers);
            Either::Left(match result {
                Err(error @ ApiError::MetricUnknown(_)) => Hinted::response(&error, hints()),
                _ => answer,
            })
        }
        Ok((chosen, Reading::Wait(reading))) => {
            let (reads, gv) = (Arc::clone(reads), request.gv);
            let limit = request.params.timeout.map_or(reads.max_wait, |t| t.min(reads.max_wait));
            let headers = headers.clone();
            let wait = async move {
                let result = match tokio::time::timeout(limit, reading).await {
                    Ok(result) => result,
                    Err(_) => Err(ApiError::DeadlineExceeded(limit)),
                };
                reads.finish(started, gv, &result, chosen, &headers)
            };
            Either::Right(wait.boxed())
        }
    }
}

/// Names that somebody may have meant, each with what a read of it is authorized as: the request's
/// own attributes, with the name in the `place` of the metric's.
pub(super) fn hints(
    attributes: &Attributes,
    near: Vec<Arc<str>>,
    place: impl Fn(&mut ResourceAttributes) -> &mut String,
) -> Vec<Hint> {
    let Attributes::Resource(asked) = attributes else { return Vec::new() };
    let hint = |name: Arc<str>| {
        let mut attributes = asked.clone();
        name.as_ref().clone_into(place(&mut attributes));
        Hint { name, attributes: Attributes::Resource(attributes) }
    };
    near.into_iter().map(hint).collect()
}

/// Whether the request can be answered, and how.
fn check(request: &Request<'_>) -> Result<Chosen, ApiError> {
    if request.method != Method::GET {
        return Err(ApiError::MethodNotAllowed);
    }
    if let Some(problem) = &request.params.problem {
        return Err((**problem).clone());
    }
    let headers = &request.parts.headers;
    let Some(chosen) = negotiate(headers, Offer::Yaml) else {
        return Err(ApiError::NotAcceptable { offered: Offer::Yaml.listed() });
    };
    let pretty = chosen.pretty || body::is_pretty(request.params.pretty, headers);
    Ok(Chosen { pretty, ..chosen })
}

impl Reads {
    fn finish<T: List>(
        &self,
        started: Begun,
        gv: &GroupVersion,
        result: &Result<T, ApiError>,
        chosen: Chosen,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let response = match result {
            Ok(list) if chosen.format == Format::Yaml => body::yaml(&list.render(gv), headers)
                .unwrap_or_else(|error| Status::from(&error).response()),
            Ok(list) => body::json(list.render(gv), chosen.pretty, headers),
            Err(error) => Status::from(error).response(),
        };
        self.metrics.count(gv.group, started, self.clock.now(), result.as_ref());
        response
    }
}

/// Cut, not rounded, as Go's RFC 3339 form without a fraction is.
pub(super) fn whole_seconds(timestamp: Timestamp) -> Timestamp {
    Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp)
}
