//! The resources of the cluster, as API discovery tells them.
//!
//! They are looked up at the start, every ten minutes, and soon after somebody asked for one that is
//! not there: a CRD that was just installed. Answers come from memory; what was told last stays in
//! use while the API server is away, and a group whose own server is away keeps the resources that
//! it had.

mod built_in;
mod discovery;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use kube::Client;
use kube::core::ApiResource;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::{Resource, ResourceDirectory};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;
pub use built_in::BuiltInResources;
use discovery::Root;
use table::{GroupVersion, Table};

/// How often resources are looked up though nobody misses one. As client-go's own caches of
/// discovery (`disk.NewCachedDiscoveryClient` in kubectl: ten minutes at first).
const REFRESH: Duration = Duration::from_mins(10);

/// The shortest time between two looks that a missing resource asks for: two calls that the API
/// server answers from memory.
const MISSED_EVERY: Duration = Duration::from_secs(5);

/// The pause after a first failure; it doubles with each that follows, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The resources of the cluster.
pub struct Resources {
    shared: Arc<Shared>,
}

struct Shared {
    table: ArcSwap<Table>,
    generation: AtomicU64,
    /// Why some or all resources were never told; nothing once they were.
    untold: ArcSwapOption<Arc<str>>,
    missed: Notify,
    /// Whether a first look has ended, well or not.
    looked: watch::Sender<bool>,
    resources: Gauge,
    failures: Counter,
}

impl Resources {
    /// Starts looking. Without a client there are no resources.
    #[must_use]
    pub fn start(client: Option<Client>, tasks: &TaskSet, telemetry: &Telemetry) -> Self {
        let untold = if client.is_some() {
            "API discovery has not ended yet"
        } else {
            "this server runs without a cluster (kubernetes.enabled: false)"
        };
        let shared = Arc::new(Shared {
            untold: ArcSwapOption::from_pointee(Arc::from(untold)),
            table: ArcSwap::default(),
            generation: AtomicU64::new(0),
            missed: Notify::new(),
            looked: watch::Sender::new(client.is_none()),
            resources: Gauge::default(),
            failures: Counter::default(),
        });
        telemetry.register(|registry| {
            registry.register(
                "cluster_resources",
                "Resources of the cluster that API discovery has told, in all versions",
                shared.resources.clone(),
            );
            registry.register(
                "cluster_discovery_failures",
                "Failed calls of API discovery; the resources known before stay in use",
                shared.failures.clone(),
            );
        });
        if let Some(client) = client {
            let look = Look {
                client,
                shared: Arc::clone(&shared),
                core: Vec::new(),
                groups: Vec::new(),
                told: [false; 2],
                failing: false,
            };
            let shutdown = tasks.shutdown_token().clone();
            tasks.service("API discovery", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = look.for_ever() => {}
                }
            });
        }
        Self { shared }
    }

    /// Whether a first look has ended, well or not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        *self.shared.looked.borrow()
    }

    /// Ends when a first look has ended, well or not: within two calls of 15 seconds where the API
    /// server does not answer.
    pub async fn settled(&self) {
        let mut looked = self.shared.looked.subscribe();
        // The sender lives as long as `self`.
        let _ = looked.wait_for(|looked| *looked).await;
    }
}

impl ResourceDirectory for Resources {
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        let found = self.shared.table.load().resolve(group, resource).cloned();
        if found.is_none() {
            self.shared.missed.notify_one();
        }
        found
    }

    /// Until both the core group and the others were told once.
    fn unknown_because(&self) -> Option<Arc<str>> {
        self.shared.untold.load().as_deref().cloned()
    }

    fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// How kube's client names a resource.
pub(super) fn api_of(resource: &Resource) -> ApiResource {
    let Resource { id, version, kind, .. } = resource;
    let api_version =
        if id.group.is_empty() { version.to_string() } else { format!("{}/{version}", id.group) };
    ApiResource {
        group: id.group.to_string(),
        version: version.to_string(),
        api_version,
        kind: kind.to_string(),
        plural: id.resource.to_string(),
    }
}

/// The task that looks.
struct Look {
    client: Client,
    shared: Arc<Shared>,
    core: Vec<GroupVersion>,
    groups: Vec<GroupVersion>,
    /// Which of the two was ever told.
    told: [bool; 2],
    failing: bool,
}

impl Look {
    async fn for_ever(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let complete = self.look().await;
            self.shared.looked.send_replace(true);
            let ended = Instant::now();
            if complete {
                pause = FIRST_PAUSE;
                tokio::select! {
                    () = tokio::time::sleep_until(ended + REFRESH) => {}
                    () = self.shared.missed.notified() => {
                        tokio::time::sleep_until(ended + MISSED_EVERY).await;
                    }
                }
            } else {
                // Replicas that lost the same API server do not come back together.
                let jitter = 0.5 + 0.5 * rand::random::<f64>();
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Looks once; whether both roots answered.
    async fn look(&mut self) -> bool {
        let (core, groups) = tokio::join!(
            discovery::versions(&self.client, Root::Core),
            discovery::versions(&self.client, Root::Groups),
        );
        let mut changed = false;
        let mut failed = None;
        let [core_told, groups_told] = &mut self.told;
        for (told, known, ever) in
            [(core, &mut self.core, core_told), (groups, &mut self.groups, groups_told)]
        {
            match told {
                Ok(told) => {
                    *ever = true;
                    let now = discovery::known(told, known);
                    changed |= now != *known;
                    *known = now;
                }
                Err(error) => {
                    self.shared.failures.inc();
                    failed = Some(error);
                }
            }
        }
        if changed {
            let all: Vec<GroupVersion> = self.core.iter().chain(&self.groups).cloned().collect();
            let count: usize = all.iter().map(|version| version.resources.len()).sum();
            self.shared.resources.set(i64::try_from(count).unwrap_or(i64::MAX));
            self.shared.table.store(Arc::new(Table::new(&all)));
            // After the table: who sees the number sees what it counts.
            self.shared.generation.fetch_add(1, Ordering::Release);
            tracing::debug!(resources = count, "the cluster's resources are known");
        }
        // After the table: who sees that all were told finds them.
        match &failed {
            _ if self.told == [true; 2] => self.shared.untold.store(None),
            Some(cause) => {
                let cause = format!("API discovery failed: {cause}");
                self.shared.untold.store(Some(Arc::new(cause.into())));
            }
            None => {}
        }
        match &failed {
            Some(cause) if !self.failing => tracing::warn!(
                cause,
                "API discovery failed; resources that are new to the cluster are not known until \
                 it works again, those known before stay in use"
            ),
            Some(cause) => tracing::debug!(cause, "API discovery still fails"),
            None if self.failing => tracing::info!("API discovery works again"),
            None => {}
        }
        self.failing = failed.is_some();
        failed.is_none()
    }
}
