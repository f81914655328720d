//! The composition root: builds the parts, connects them, starts and stops them.
//!
//! Responsible for: which part gets which other part, and in what order they start and stop. The
//! adapters between halves that must not know each other (server and api, files and catalog) live
//! here too.
//! Not responsible for: any behaviour of the parts.

pub mod admin;
pub mod api_server;
mod certificates;
pub mod cluster_view;
mod effective;
pub mod inventory;
pub mod kubernetes;
pub mod lifecycle;
pub mod readiness;
pub mod reloads;
mod resource_status;
pub mod resources;
mod rule_files;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::api::{self, Api};
use crate::cache::OnDemand;
use crate::catalog::Catalog;
use crate::config::{Config, SourceConfig};
use crate::control::ceiling::Ceiling;
use crate::control::file_watch::{self, FileWatch};
use crate::control::{HpaWatch, Refresher, hpa_watch, resource_watch, rule_watch};
use crate::lookup::{Cluster, Lookup};
use crate::model::{
    Attributes, Clock, Entry, ObjectDirectory, Problem, Scope, SeriesLister, Source, SourceName,
    SystemClock,
};
use crate::objects::{AskingSource, Namespaces, Resources, Scales, WatchLimits, Watches};
use crate::rules::Rules;
use crate::runtime::inventory::{House, HouseGauges};
use crate::runtime::kubernetes::warn_of_foreign_api_services;
use crate::runtime::readiness::Health;
use crate::runtime::reloads::Reloads;
use crate::server::{self, Authentication, Authorization, Server};
use crate::source;
use crate::task::{TaskDied, TaskSet};
use crate::telemetry::{Telemetry, traces};

/// A running server.
pub struct Running {
    api: Server,
    admin_address: SocketAddr,
    health: Arc<Health>,
    tasks: TaskSet,
    died: mpsc::UnboundedReceiver<TaskDied>,
    grace: Duration,
}

/// What a server takes from its process: time, and where its metrics are. Tests bring their own.
#[derive(Debug)]
pub struct Surroundings {
    /// Ages, schedules and timestamps. Timers are tokio's: what moves the one moves the other.
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` shows.
    pub telemetry: Arc<Telemetry>,
}

impl Surroundings {
    /// The machine's clocks, and metrics that tell about the process, too.
    #[must_use]
    pub fn of_process() -> Self {
        Self { clock: Arc::new(SystemClock::new()), telemetry: Arc::new(Telemetry::for_process()) }
    }
}

/// Starts everything: reads are served on `serve`, everything else runs on `refresh`.
///
/// # Errors
/// When a source cannot be built, the cluster cannot be configured, or an address cannot be bound.
pub async fn start(config: Config, serve: Handle, refresh: Handle) -> anyhow::Result<Running> {
    start_in(Surroundings::of_process(), config, serve, refresh).await
}

/// The same in other surroundings.
///
/// # Errors
/// As [`start`].
pub async fn start_in(
    surroundings: Surroundings,
    config: Config,
    serve: Handle,
    refresh: Handle,
) -> anyhow::Result<Running> {
    let Surroundings { clock, telemetry } = surroundings;
    config.traces.as_ref().map_or(Ok(()), |settings| traces::start(settings, &telemetry))?;
    let (tasks, died) = TaskSet::new(refresh);
    let client = cluster_client(&config).await?;
    let catalog = Arc::new(Catalog::new().bounding(config.resources.tenancy.max_series));
    let on_demand = Arc::new(OnDemand::new());
    let namespaces = Arc::new(Namespaces::new(client.clone(), &tasks));
    let health = Arc::new(Health::new(
        Arc::clone(&catalog),
        Arc::clone(&namespaces),
        Arc::clone(&telemetry),
        Arc::clone(&clock),
    ));
    let hpas = client.is_some().then(|| hpa_watch::Standing::new(&telemetry));
    let house = House::new(
        Arc::clone(&catalog),
        Arc::clone(&on_demand),
        hpas.clone(),
        config.source_directory(),
        Arc::clone(&clock),
    );
    let resources = Arc::new(Resources::start(client.clone(), &tasks, &telemetry));
    let objects: Arc<dyn ObjectDirectory> = Arc::new(Watches::new(
        client.clone(),
        &tasks,
        Arc::clone(&clock),
        WatchLimits::default(),
        &telemetry,
    ));
    let scales =
        Arc::new(Scales::start(client.clone(), Arc::clone(&resources) as _, &tasks, &telemetry));
    let Sources { asked, listers } = sources(&config, &objects, &clock, &telemetry)?;
    let (house, reloads) = effective::told(house, &config, &asked);
    let refresher =
        Refresher::start(asked, Arc::clone(&catalog), Arc::clone(&clock), &tasks, &telemetry);
    let rules = Arc::new(Rules::new());
    let lookup = Lookup::new(
        Arc::clone(&catalog),
        Arc::clone(&rules),
        Arc::clone(&on_demand),
        Arc::clone(&refresher) as _,
        Arc::clone(&namespaces) as _,
        client.is_some().then(|| Cluster {
            resources: Arc::clone(&resources) as _,
            objects,
            scales: Arc::clone(&scales) as _,
        }),
        Arc::clone(&clock),
    );

    let rule_standing = (!config.rules.is_empty()).then(|| rule_watch::Standing::new(&telemetry));
    let house = inventory::ruled(house, rule_standing.as_ref(), &rules, &config.rules);
    let (house, usage) = inventory::foreseeing(house, client.is_some(), &lookup, &telemetry);
    HouseGauges::register(house.clone(), &telemetry);
    // The admin listener first: whatever happens next can be watched there.
    let shown =
        admin::Admin::new(Arc::clone(&health) as _, Arc::new(house.refreshed_by(refresher)));
    let admin_address = serve_admin(&config, shown, &tasks).await?;

    let definitions = Arc::new(Definitions {
        catalog: Arc::clone(&catalog),
        namespaces: Arc::clone(&namespaces),
        health: Arc::clone(&health),
        reloads,
        clock: Arc::clone(&clock),
    });
    let ceiling = watch_definitions(&config, Arc::clone(&definitions), &tasks, &telemetry).await?;
    let metric_resources =
        resources::watch(client.as_ref(), &config, &definitions, ceiling, &tasks, &telemetry);
    let parts = resource_status::Parts::new(&catalog, on_demand, &usage, &lookup, &clock);
    let cluster = client.as_ref().zip(metric_resources.as_ref());
    resource_status::start(cluster, &config, parts, &tasks, &telemetry);
    let mut changes =
        vec![catalog.subscribe(), namespaces.subscribe(), rules.subscribe(), scales.subscribe()];
    let listed = rule_standing.clone();
    let parts = rule_files::Cluster { listers, resources, catalog, rules, clock: &clock };
    rule_files::watch(rule_standing, &config, parts, &health, &tasks).await?;
    // After the definitions, so that what HPAs refer to is found at once.
    if let (Some(client), Some(standing)) = (&client, hpas) {
        let seen = Arc::clone(&standing);
        health.warming(move || seen.pending());
        let resources = metric_resources.map(|resources| resources.standing);
        changes.extend(resources.iter().map(|resources| resources.subscribe()));
        let is_complete = complete(namespaces, listed, resources);
        let grounds = hpa_watch::Grounds { changes, is_complete };
        let announce = Arc::new(lookup.clone());
        HpaWatch::new(announce, Arc::clone(&clock), grounds, standing)
            .telling(usage)
            .start(client.clone(), &tasks);
    }

    let group_versions = api_settings(&config).group_versions();
    let grace = config.shutdown_grace;
    let parts = Parts { client: client.as_ref(), health: &health, clock, telemetry: &telemetry };
    let api = serve_api(config, lookup, parts, &tasks, serve).await?;
    health.serving();
    tracing::info!(api = %api.local_addr(), admin = %admin_address, "serving");
    if let Some(client) = client {
        let names = api.serving_names().to_vec();
        tasks.job("APIService check", warn_of_foreign_api_services(client, group_versions, names));
    }
    Ok(Running { api, admin_address, health, tasks, died, grace })
}

/// The client for the cluster, if there is one.
async fn cluster_client(config: &Config) -> anyhow::Result<Option<kube::Client>> {
    if !config.kubernetes.enabled {
        return Ok(None);
    }
    kubernetes::client(config.kubernetes.kubeconfig.as_deref()).await.map(Some)
}

/// Whether everything is known that decides which metrics there are.
fn complete(
    namespaces: Arc<Namespaces>,
    listed: Option<Arc<rule_watch::Standing>>,
    resources: Option<Arc<resource_watch::Standing>>,
) -> Box<dyn Fn() -> bool + Send + Sync> {
    let is_listed = move || listed.as_ref().is_none_or(|rules| rules.pending().is_none());
    let are_in_use = move || resources.as_ref().is_none_or(|all| all.pending().is_none());
    Box::new(move || namespaces.is_ready() && is_listed() && are_in_use())
}

/// Which groups are served.
fn api_settings(config: &Config) -> api::Settings {
    api::Settings {
        external: config.apis.external,
        custom: config.apis.custom,
        ..api::Settings::default()
    }
}

/// What the API listener needs of the others.
struct Parts<'a> {
    client: Option<&'a kube::Client>,
    health: &'a Arc<Health>,
    clock: Arc<dyn Clock>,
    telemetry: &'a Telemetry,
}

/// Starts the API listener, with the cluster's authentication and authorization in front of it.
async fn serve_api(
    config: Config,
    lookup: Lookup,
    parts: Parts<'_>,
    tasks: &TaskSet,
    serve: Handle,
) -> anyhow::Result<Server> {
    let settings = certificates::settings(&config, &parts, tasks).await?;
    let Parts { client, health, clock, telemetry } = parts;
    let (authentication, authorization) = match client {
        Some(client) if config.server.auth() == server::AuthMode::Delegated => (
            Authentication::delegated(client.clone(), tasks, telemetry, Arc::clone(&clock)).await,
            Authorization::delegated(client.clone(), tasks, telemetry, Arc::clone(&clock)),
        ),
        _ => (Authentication::none(), Authorization::none()),
    };
    health.authenticating(authentication.settled());
    let front = Front(Api::new(
        &api_settings(&config),
        Arc::new(lookup),
        Arc::clone(health) as _,
        Arc::clone(&clock),
        telemetry,
    ));
    let api = Server::start(
        settings,
        authentication,
        authorization,
        Arc::new(front),
        &tasks.on(serve),
        telemetry,
        clock,
    )
    .await?;
    Ok(api)
}

/// Binds the admin listener and serves it; gives its address.
async fn serve_admin(
    config: &Config,
    admin: admin::Admin,
    tasks: &TaskSet,
) -> anyhow::Result<SocketAddr> {
    let token = config.admin_token.clone().map(admin::TokenFile::open).transpose();
    let admin = admin.for_holders_of(token.context("admin.bearerTokenFile")?);
    let listen = config.admin_listen;
    let bound = bind_admin(listen, config.admin_alternative).await;
    let listener = bound.with_context(|| format!("cannot listen on {listen} (admin.listen)"))?;
    let address = listener.local_addr().context("the admin listener has no address")?;
    admin::serve(listener, admin, tasks);
    Ok(address)
}

/// Binds an address, or the alternative when somebody else has it.
async fn bind_admin(
    listen: SocketAddr,
    alternative: Option<SocketAddr>,
) -> io::Result<tokio::net::TcpListener> {
    match (server::bind(listen).await, alternative) {
        (Err(error), Some(alternative)) if error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                address = %listen,
                "something listens there; the status page gets another port (--admin-listen)"
            );
            server::bind(alternative).await
        }
        (bound, _) => bound,
    }
}

/// Reads the definition files once and follows them from then on. Gives the ceilings of the sources,
/// with what the files leave of them.
async fn watch_definitions(
    config: &Config,
    definitions: Arc<Definitions>,
    tasks: &TaskSet,
    telemetry: &Telemetry,
) -> anyhow::Result<Arc<Ceiling>> {
    let ceiling = Arc::new(Ceiling::new(Some(&config.source_directory())));
    let settings = file_watch::Settings {
        paths: config.definition_paths.clone(),
        sources: config.source_directory(),
        defaults: config.defaults.clone(),
        cluster: config.kubernetes.enabled,
    };
    let mut watch = FileWatch::new(settings, definitions, telemetry).under(Arc::clone(&ceiling));
    let watch = tokio::task::spawn_blocking(move || {
        watch.load();
        watch
    })
    .await
    .context("reading the definition files failed")?;
    tasks.service("definition files", watch.run(tasks.shutdown_token().clone()));
    Ok(ceiling)
}

/// What the config's sources can do.
struct Sources {
    asked: BTreeMap<SourceName, Arc<dyn Source>>,
    listers: BTreeMap<SourceName, Arc<dyn SeriesLister>>,
}

/// Builds every source of the config.
fn sources(
    config: &Config,
    objects: &Arc<dyn ObjectDirectory>,
    clock: &Arc<dyn Clock>,
    telemetry: &Telemetry,
) -> anyhow::Result<Sources> {
    let metrics = source::Metrics::register(telemetry);
    let mut built = Sources { asked: BTreeMap::new(), listers: BTreeMap::new() };
    for SourceConfig { name, settings, .. } in &config.sources {
        let made = source::build(name, settings, Arc::clone(clock), &metrics)?;
        let asked = match made.series {
            Some(series) => {
                built.listers.insert(name.clone(), series);
                // Questions about objects are asked of what has series.
                Arc::new(AskingSource::new(made.source, Arc::clone(objects)))
            }
            None => made.source,
        };
        built.asked.insert(name.clone(), asked);
    }
    Ok(built)
}

impl Running {
    /// Where the API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.local_addr()
    }

    /// Where the admin listener listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Waits for a background task to die; ends only then.
    pub async fn died(&mut self) -> TaskDied {
        match self.died.recv().await {
            Some(died) => died,
            // The set of tasks outlives this call, so its sender does, too.
            None => std::future::pending().await,
        }
    }

    /// Stops in stages: readiness turns red and existing connections are told to go; after the
    /// grace the listener closes and requests under way get `requests` to end; background tasks
    /// get `background`.
    pub async fn stop(self, requests: Duration, background: Duration) {
        self.health.stopping();
        self.api.begin_drain();
        tokio::time::sleep(self.grace).await;
        let stopped = self.api.stop(requests).await;
        if stopped.cut > 0 {
            tracing::warn!(connections = stopped.cut, "connections were cut at the deadline");
        }
        if tokio::time::timeout(background, self.tasks.stop()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "background tasks did not end in time");
        }
        // The last spans are sent by a thread of their own, for which this one waits.
        let _ = tokio::task::spawn_blocking(traces::stop).await;
        tracing::info!("stopped");
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("api", &self.api.local_addr()).finish_non_exhaustive()
    }
}

/// The API behind the server: neither knows the other.
struct Front(Api);

impl server::Service for Front {
    type Route = api::Route;

    fn route(&self, method: &http::Method, uri: &http::Uri) -> Self::Route {
        self.0.route(method, uri)
    }

    fn attributes(&self, route: &Self::Route) -> Attributes {
        route.attributes()
    }

    fn always_allowed(&self, route: &Self::Route) -> bool {
        route.always_allowed()
    }

    fn answer(&self, route: Self::Route, parts: &http::request::Parts) -> server::Answer {
        self.0.answer(route, parts)
    }
}

/// Takes definitions from the files into the catalog.
struct Definitions {
    catalog: Arc<Catalog>,
    namespaces: Arc<Namespaces>,
    health: Arc<Health>,
    reloads: Arc<Reloads>,
    clock: Arc<dyn Clock>,
}

impl file_watch::Apply for Definitions {
    fn apply(&self, entries: Vec<Arc<Entry>>, problems: Vec<Problem>) {
        self.reloads.note(self.clock.tick(), entries.len(), problems.len());
        if entries.iter().any(|entry| matches!(entry.scope, Scope::Selected(_))) {
            self.namespaces.require();
        }
        let before = Arc::clone(&self.catalog.snapshot());
        self.catalog.apply_files(entries, problems);
        // Any edit of any file ends here; only conflicts that it brought are news.
        let snapshot = self.catalog.snapshot();
        for conflict in snapshot.conflicts().iter().filter(|c| !before.conflicts().contains(c)) {
            tracing::warn!("{conflict}");
        }
        self.health.definitions_loaded();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn the_status_page_moves_when_it_may() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let other = server::bind(any).await.expect("loopback has free ports");
        let taken = other.local_addr().expect("a bound socket has an address");
        let moved = bind_admin(taken, Some(any)).await.expect("there is an alternative");
        assert_ne!(moved.local_addr().expect("a bound socket has an address"), taken);
        let refused = bind_admin(taken, None).await.expect_err("it is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
