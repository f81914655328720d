//! The metrics API: routes, negotiation, discovery, `OpenAPI`, health texts, wire form.
//!
//! Responsible for: turning a method and a path into a [`Route`], saying what authorization has to
//! decide about it ([`Route::attributes`]), and answering it ([`Api::answer`]).
//! Not responsible for: TLS, authentication, authorization and limits (`server`), where values come
//! from ([`MetricsProvider`]), which status an error gets (`status`).
//!
//! Invariants: no answer is a redirect (the aggregator turns those into 502) and none is HTML (it
//! rewrites that); discovery is answered from memory alone; whatever differs between group-versions
//! is a row of the table in `group`. Every error under our prefixes is a `metav1.Status`.

mod accept;
mod attributes;
mod body;
mod custom;
mod discovery;
mod duration;
mod external;
mod fields;
mod group;
pub mod health;
mod json;
mod metrics;
mod openapi;
mod params;
mod path;
mod read;
mod route;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use http::request::Parts;
use http::{HeaderValue, Method, Response, Uri};
use http_body_util::Full;

use crate::api::accept::{Chosen, Format, Offer, negotiate};
use crate::api::discovery::{CustomList, Discovery};
use crate::api::group::{CUSTOM_V1BETA1, GroupVersion, MetricPath};
use crate::api::health::{HealthQuery, Reasons};
use crate::api::metrics::ReadMetrics;
use crate::api::openapi::OpenApi;
use crate::api::read::Reads;
use crate::api::route::Target;
use crate::model::{ApiError, Clock, MetricsProvider, ServerState};
use crate::status::{self, Status};
use crate::telemetry::Telemetry;

pub use crate::api::route::Route;

/// The media type of `/metrics`.
pub const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the API serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether `external.metrics.k8s.io` is served.
    pub external: bool,
    /// Whether `custom.metrics.k8s.io` is served, in both its versions.
    pub custom: bool,
    /// Longest wait of one request, whatever its `timeout` parameter says. Only first reads wait,
    /// and their definition's `firstReadTimeout` ends them earlier as a rule.
    pub max_wait: Duration,
    /// Whether reads are counted and timed. Default true; a benchmark says what that costs.
    pub count_reads: bool,
}

impl Settings {
    /// The group-versions that are served: group and version.
    #[must_use]
    pub fn group_versions(&self) -> Vec<(&'static str, &'static str)> {
        group::served(self).into_iter().map(|gv| (gv.group, gv.version)).collect()
    }
}

impl Default for Settings {
    /// External metrics alone, because a cluster has one adapter for metrics of objects and mostly
    /// has it already; 60 s, the request timeout of Go's API servers.
    fn default() -> Self {
        Self { external: true, custom: false, max_wait: Duration::from_mins(1), count_reads: true }
    }
}

/// An answer that is there already (everything from memory), or one that waits for a first read.
pub type Answer = Either<Response<Full<Bytes>>, BoxFuture<'static, Response<Full<Bytes>>>>;

/// The API. Shared by all connections; holds no lock.
pub struct Api {
    served: Vec<&'static GroupVersion>,
    discovery: Discovery,
    /// The resource lists of metrics of objects.
    custom_lists: Vec<CustomList>,
    openapi: OpenApi,
    provider: Arc<dyn MetricsProvider>,
    state: Arc<dyn ServerState>,
    reads: Arc<Reads>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served: Vec<_> = self.served.iter().map(|gv| gv.name).collect();
        f.debug_struct("Api").field("served", &served).finish_non_exhaustive()
    }
}

impl Api {
    /// The API of these settings. Makes every constant document and registers its metrics.
    #[must_use]
    pub fn new(
        settings: &Settings,
        provider: Arc<dyn MetricsProvider>,
        state: Arc<dyn ServerState>,
        clock: Arc<dyn Clock>,
        telemetry: &Telemetry,
    ) -> Self {
        let served = group::served(settings);
        Self {
            discovery: Discovery::new(&served),
            custom_lists: served
                .iter()
                .filter(|gv| gv.group == CUSTOM_V1BETA1.group)
                .map(|&gv| CustomList::new(gv))
                .collect(),
            openapi: OpenApi::new(&served),
            provider,
            state,
            reads: Arc::new(Reads {
                metrics: ReadMetrics::new(
                    telemetry,
                    if settings.count_reads { &served } else { &[] },
                ),
                clock,
                max_wait: settings.max_wait,
            }),
            served,
        }
    }

    /// What a request asks for. Never fails: an unknown path or a broken encoding is a route that
    /// answers an error, after authorization has seen it.
    #[must_use]
    pub fn route(&self, method: &Method, uri: &Uri) -> Route {
        Route::read(&self.served, method, uri)
    }

    /// Answers a route. `parts` are those of the request it was made from.
    #[must_use]
    pub fn answer(&self, route: Route, parts: &Parts) -> Answer {
        let is_head = route.method == Method::HEAD;
        match self.answer_in_full(route, parts) {
            Either::Left(response) if is_head => Either::Left(status::without_body(response)),
            // Reads are refused for every method but GET, so nobody waits for a HEAD.
            answer => answer,
        }
    }

    fn answer_in_full(&self, route: Route, parts: &Parts) -> Answer {
        let Route { method, path, params, target } = route;
        if let (Target::Read(gv, metric), Ok(path)) = (&target, &path) {
            let request = read::Request { gv, params: &params, method: &method, parts };
            return match *metric {
                MetricPath::External(place) => {
                    external::answer(&self.reads, &*self.provider, &request, path, place)
                }
                MetricPath::Custom(place) => {
                    custom::answer(&self.reads, &*self.provider, &request, path, place)
                }
            };
        }
        let check = path.as_ref().map(|path| path.tail(1)).unwrap_or_default();
        let response = self.document(target, &method, &check, parts);
        let response = response.unwrap_or_else(|error| Status::from(&error).response());
        Either::Left(response)
    }

    /// Everything that is not a metric. `check` is the name of a single health check, if that is
    /// asked for.
    fn document(
        &self,
        target: Target,
        method: &Method,
        check: &str,
        parts: &Parts,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let allowed = match &target {
            Target::Health(_) | Target::HealthCheck(_) => {
                method == Method::GET || method == Method::HEAD
            }
            // Nothing is there, whatever the method.
            Target::Refused(_) | Target::Unknown => true,
            _ => method == Method::GET,
        };
        if !allowed {
            return Err(ApiError::MethodNotAllowed);
        }
        let pretty = |chosen: Chosen| chosen.pretty || body::wants_pretty(parts);
        match target {
            Target::Root => Ok(body::json(self.discovery.root.bytes(), true, &parts.headers)),
            Target::Version => Ok(body::json(self.discovery.version.bytes(), true, &parts.headers)),
            Target::Groups => {
                let chosen = choose(parts, Offer::Discovery)?;
                let document = match chosen.format {
                    // YAML is not on offer here.
                    Format::Json | Format::Yaml => &self.discovery.groups,
                    Format::DiscoveryV2 => &self.discovery.aggregated_v2,
                    Format::DiscoveryV2Beta1 => &self.discovery.aggregated_v2beta1,
                };
                Ok(document.respond(parts, pretty(chosen)))
            }
            Target::Group(name) => {
                let chosen = choose(parts, Offer::Json)?;
                let group = self.discovery.group.iter().find(|(group, _)| *group == name);
                let (_, document) = group.ok_or(ApiError::PathNotFound)?;
                Ok(document.respond(parts, pretty(chosen)))
            }
            Target::Resources(gv) => {
                let chosen = choose(parts, Offer::Json)?;
                let pretty = pretty(chosen);
                if let Some(list) = self.custom_lists.iter().find(|list| list.is_of(gv)) {
                    return Ok(list.respond(self.provider.custom_names(), pretty, &parts.headers));
                }
                let list = discovery::resources(gv, &self.provider.external_names());
                Ok(body::json(list, pretty, &parts.headers))
            }
            Target::OpenApiV2 => {
                let chosen = choose(parts, Offer::Json)?;
                Ok(self.openapi.v2.respond(parts, pretty(chosen)))
            }
            Target::OpenApiV3 => {
                let chosen = choose(parts, Offer::Json)?;
                Ok(self.openapi.v3.respond(parts, pretty(chosen)))
            }
            Target::OpenApiV3Document(gv) => {
                let chosen = choose(parts, Offer::Json)?;
                Ok(self.openapi.document(gv, parts, pretty(chosen), self.reads.clock.now()))
            }
            Target::Metrics => Ok(body::answer(OPENMETRICS, self.state.metrics_text())),
            Target::Health(probe) => {
                let query = HealthQuery::read(parts.uri.query());
                let answer =
                    health::render(probe, &self.state.probe(probe), &query, Reasons::Withheld);
                Ok(body::text(answer.passed, answer.text))
            }
            Target::HealthCheck(probe) => {
                let answer = health::render_check(&self.state.probe(probe), check);
                Ok(answer.map_or_else(status::page_not_found, |a| body::text(a.passed, a.text)))
            }
            Target::Refused(error) => Err(error),
            Target::Unknown => Ok(status::page_not_found()),
            // Its path was read, or there would be no such target; `answer` has dealt with it.
            Target::Read(..) => Err(ApiError::PathNotFound),
        }
    }
}

fn choose(parts: &Parts, offer: Offer) -> Result<Chosen, ApiError> {
    negotiate(&parts.headers, offer).ok_or(ApiError::NotAcceptable { offered: offer.listed() })
}
