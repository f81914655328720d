//! The admin listener: health, metrics and the status pages, over plain HTTP for probes, scrapers
//! and people.
//!
//! Responsible for: what `/livez`, `/readyz`, `/healthz`, `/metrics`, the pages `/`, `/browse`,
//! `/metric`, `/hpas` and `/config`, and `/api/metrics` and `/api/hpas` answer, and for never letting a
//! slow or greedy client hurt the process.
//! Not responsible for: deciding what is healthy ([`ServerState`]) or what a metric's state is
//! ([`Inventory`]); both are handed in by the composition root.
//!
//! Invariants: read-only; every answer is bounded; nothing here waits for an upstream; everything
//! that a user wrote is escaped, and a page runs our own script alone and works without it.

mod chart;
mod configuration;
mod detail;
mod hpas;
mod inventory;
mod json;
mod list;
mod listener;
mod overview;
mod recent;
mod shell;
mod token;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::api::health::{self, HealthQuery, Reasons};
use crate::model::{Probe, ServerState};
use crate::{status, telemetry};

pub use configuration::{Configuration, Reloaded, Section};
pub use detail::{Detail, MAX_HPAS, PREVIEW_WAIT};
pub use hpas::Foresight;
use hpas::HpasView;
pub use inventory::{Inventory, MetricRow, MetricState, SourceCost, UpstreamRow};
pub use listener::serve;
pub use recent::{Mark, Roots, gaps};
pub use token::{TokenError, TokenFile};
use view::{Filter, View};

/// Looks at all metrics at once. A look walks every metric without a pause, so a crowd of readers
/// waits here, and at most one thread of the runtime is kept from probes and the refresher.
const CONCURRENT_LOOKS: usize = 1;

/// How long a reader waits for its turn before it is told to come back.
const LOOK_WAIT: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

/// What the first page asks of the metrics: the few that need a person first.
const OVERVIEW: &str = "sort=state&limit=10";

/// What the admin listener tells about.
#[derive(Clone)]
pub struct Admin {
    state: Arc<dyn ServerState>,
    inventory: Arc<dyn Inventory>,
    looks: Arc<Semaphore>,
    /// What clients must show for everything but health; none: nothing.
    token: Option<TokenFile>,
}

impl Admin {
    /// An admin listener over these two views of the process.
    #[must_use]
    pub fn new(state: Arc<dyn ServerState>, inventory: Arc<dyn Inventory>) -> Self {
        Self { state, inventory, looks: Arc::new(Semaphore::new(CONCURRENT_LOOKS)), token: None }
    }

    /// The same for clients that show the token of this file. Health is for everybody.
    #[must_use]
    pub fn for_holders_of(self, token: Option<TokenFile>) -> Self {
        Self { token, ..self }
    }

    /// The routes.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(overview_page))
            .route("/browse", get(list_page))
            .route("/metric", get(metric_page))
            .route("/config", get(configuration_page))
            .route(shell::SCRIPT_PATH, get(script))
            .route("/api/metrics", get(metrics_json))
            .route("/hpas", get(hpas_page))
            .route("/api/hpas", get(hpas_json))
            .route("/metrics", get(metrics))
            .route_layer(from_fn_with_state(self.clone(), guard))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/healthz", get(healthz))
            .route("/livez/{check}", get(live_check))
            .route("/readyz/{check}", get(ready_check))
            .route("/healthz/{check}", get(health_check))
            .fallback(not_found)
            .with_state(self)
    }

    fn is_ready(&self) -> bool {
        self.state.probe(Probe::Ready).iter().all(|check| check.failure.is_none())
    }

    /// Takes a turn at looking for one metric.
    async fn row(&self, asked: &[(String, String)]) -> Option<Option<MetricRow>> {
        let turn = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await.ok()?;
        let _turn = turn.expect("the semaphore is never closed");
        let (inventory, asked) = (Arc::clone(&self.inventory), asked.to_vec());
        let look = move || inventory.metrics().into_iter().find(|row| row.is_meant(&asked));
        tokio::task::spawn_blocking(look).await.ok()
    }

    fn probe(&self, probe: Probe, query: Option<&str>) -> Response {
        let reports = self.state.probe(probe);
        let answer = health::render(probe, &reports, &HealthQuery::read(query), Reasons::Shown);
        respond(status::of_health(answer.passed), TEXT, answer.text)
    }

    fn check(&self, probe: Probe, name: &str) -> Response {
        match health::render_check(&self.state.probe(probe), name) {
            Some(answer) => respond(status::of_health(answer.passed), TEXT, answer.text),
            None => respond(status::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
        }
    }

    /// What more there is about a metric. Which HPAs read it takes a walk over them, in a turn and on a
    /// thread of its own.
    async fn detail(&self, row: &MetricRow) -> Option<Detail> {
        let turn = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await.ok()?;
        let turn = turn.expect("the semaphore is never closed");
        let (inventory, row) = (Arc::clone(&self.inventory), row.clone());
        let look = tokio::task::spawn_blocking(move || inventory.detail(&row));
        let told = look.await.ok()?;
        // Asking a source for its requests is not looking.
        drop(turn);
        Some(told.await)
    }

    /// Takes a turn at walking all HPAs. On a thread of its own: it may take some hundredths of a
    /// second, and probes do not wait for it.
    async fn hpas(&self, query: Option<&str>) -> Option<HpasView> {
        let turn = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await.ok()?;
        let _turn = turn.expect("the semaphore is never closed");
        let (inventory, query) =
            (Arc::clone(&self.inventory), query.unwrap_or_default().to_owned());
        let look = move || HpasView::of(inventory.foresight().as_ref(), inventory.hpas(), &query);
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// Takes a turn at walking all metrics, and looks at them through the request's filter; on a thread
    /// of its own, too.
    async fn view(&self, query: Option<&str>) -> Option<View> {
        let turn = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await.ok()?;
        let _turn = turn.expect("the semaphore is never closed");
        let (inventory, query) =
            (Arc::clone(&self.inventory), query.unwrap_or_default().to_owned());
        tokio::task::spawn_blocking(move || View::of(&*inventory, &query)).await.ok()
    }
}

/// Lets a request through that shows the token, if one is asked for.
async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.token else { return next.run(request).await };
    match token.is_shown(request.headers()).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let text = "the token of admin.bearerTokenFile is needed here: as a bearer token, or as the password of any user\n";
            let mut response = respond(status::UNAUTHORIZED, TEXT, text.to_owned());
            response.headers_mut().insert(WWW_AUTHENTICATE, token::CHALLENGE);
            response
        }
        Err(error) => {
            tracing::debug!(%error, "nobody is let in to the status page");
            let text =
                "the file of admin.bearerTokenFile has no token at present, so nobody is let in\n";
            respond(status::BUSY, TEXT, text.to_owned())
        }
    }
}

async fn livez(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    admin.probe(Probe::Live, query.as_deref())
}

async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    admin.probe(Probe::Ready, query.as_deref())
}

async fn healthz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    admin.probe(Probe::Health, query.as_deref())
}

async fn live_check(State(admin): State<Admin>, Path(check): Path<String>) -> Response {
    admin.check(Probe::Live, &check)
}

async fn ready_check(State(admin): State<Admin>, Path(check): Path<String>) -> Response {
    admin.check(Probe::Ready, &check)
}

async fn health_check(State(admin): State<Admin>, Path(check): Path<String>) -> Response {
    admin.check(Probe::Health, &check)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    const OPEN_METRICS: HeaderValue = HeaderValue::from_static(telemetry::CONTENT_TYPE);
    respond(status::OK, OPEN_METRICS, admin.state.metrics_text())
}

async fn metrics_json(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    match admin.view(query.as_deref()).await {
        Some(view) => respond(status::OK, JSON, json::render(&view)),
        None => busy(),
    }
}

async fn hpas_json(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    match admin.hpas(query.as_deref()).await {
        Some(view) => respond(status::OK, JSON, hpas::json(&view)),
        None => busy(),
    }
}

async fn hpas_page(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    match admin.hpas(query.as_deref()).await {
        Some(view) => html(hpas::page(&view, admin.is_ready())),
        None => busy(),
    }
}

async fn overview_page(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let paused = query.is_some_and(|query| query.contains("refresh=off"));
    let Some(mut view) = admin.view(Some(OVERVIEW)).await else { return busy() };
    // Its links lead to all metrics.
    view.filter = Filter { paused, ..Filter::parse("") };
    let checks = admin.state.probe(Probe::Ready);
    html(overview::render(&view, &checks, admin.inventory.reloaded().as_ref()))
}

async fn list_page(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let Some(view) = admin.view(query.as_deref()).await else { return busy() };
    html(list::render(&view, admin.inventory.tick(), admin.is_ready()))
}

async fn metric_page(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let asked: Vec<(String, String)> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let Some(found) = admin.row(&asked).await else { return busy() };
    let ready = admin.is_ready();
    let Some(row) = found else {
        let mut response = html(detail::missing(ready));
        *response.status_mut() = status::NOT_FOUND;
        return response;
    };
    let Some(detail) = admin.detail(&row).await else { return busy() };
    let paused = asked.iter().any(|(key, value)| key == "refresh" && value == "off");
    html(detail::render(&row, &detail, admin.inventory.tick(), paused, ready))
}

async fn configuration_page(State(admin): State<Admin>) -> Response {
    let Some(view) = admin.view(Some(OVERVIEW)).await else { return busy() };
    let (configuration, reloaded) = (admin.inventory.configuration(), admin.inventory.reloaded());
    html(configuration::render(&configuration, reloaded.as_ref(), &view, admin.is_ready()))
}

async fn script() -> Response {
    respond(status::OK, SCRIPT, shell::SCRIPT.to_owned())
}

/// A page that runs nothing but our script, and loads nothing else.
fn html(page: String) -> Response {
    let mut response = respond(status::OK, HTML, page);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, shell::CONTENT_POLICY.clone());
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let text = format!(
        "{path} is not here; this listener has / /browse /hpas /config /api/metrics /api/hpas /metrics /livez /readyz /healthz\n"
    );
    respond(status::NOT_FOUND, TEXT, text)
}

fn busy() -> Response {
    let text = "other readers are being answered; try again in a moment\n".to_owned();
    respond(status::BUSY, TEXT, text)
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests;
