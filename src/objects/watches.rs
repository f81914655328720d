//! The objects of the resources that somebody asks about.
//!
//! A resource is listed and watched from the first question about it until nobody has asked for half
//! an hour: metadata alone, of which name, namespace and labels are kept. The state of a resource is
//! one pointer that its watch replaces and readers load, so a reader never waits, neither for the
//! watch nor for another reader.

mod object;
mod watched;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, watch};

use crate::model::{Clock, ObjectDirectory, ObjectNames, ObjectSet, Objects, Resource, Tick};
use crate::objects::index::Index;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;
use watched::Watcher;

/// Listings at once: each holds a page of 500 objects, some megabytes, and the API server works for
/// it.
const LISTINGS_AT_ONCE: usize = 4;

/// How much is watched, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Most resources at once. Rules name a handful (pods, namespaces, services, workloads); a path
    /// may name any resource of the cluster, and each costs the API server a watch and us memory.
    pub resources: usize,
    /// A resource that nobody has asked about for this long is let go.
    pub idle: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { resources: 64, idle: Duration::from_mins(30) }
    }
}

/// The objects of the cluster.
pub struct Watches {
    shared: Arc<Shared>,
}

struct Shared {
    client: Option<Client>,
    tasks: TaskSet,
    clock: Arc<dyn Clock>,
    limits: WatchLimits,
    listings: Arc<Semaphore>,
    watched: ArcSwap<HashMap<Arc<Resource>, Arc<Watched>>>,
    /// Held while `watched` is replaced.
    changing: Mutex<()>,
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Gauges {
    resources: Gauge,
    objects: Gauge,
    listings: Counter,
    failures: Counter,
}

/// A resource that is watched.
struct Watched {
    resource: Arc<Resource>,
    state: ArcSwap<State>,
    /// When somebody last asked: a [`Tick`].
    asked: AtomicU64,
    /// Whether the first listing has ended, well or not.
    listed: watch::Sender<bool>,
}

/// What is known of a resource's objects.
enum State {
    Listing,
    Unavailable(Arc<str>),
    Known(Index),
}

impl Watches {
    /// A directory that watches nothing yet. Without a client nothing can be listed.
    #[must_use]
    pub fn new(
        client: Option<Client>,
        tasks: &TaskSet,
        clock: Arc<dyn Clock>,
        limits: WatchLimits,
        telemetry: &Telemetry,
    ) -> Self {
        let gauges = Gauges::default();
        telemetry.register(|registry| {
            for (name, help, gauge) in [
                (
                    "object_watches",
                    "Resources of the cluster whose objects are watched",
                    &gauges.resources,
                ),
                ("objects_known", "Objects of the cluster that are known", &gauges.objects),
            ] {
                registry.register(name, help, gauge.clone());
            }
            for (name, help, counter) in [
                ("object_listings", "Listings of objects that ended well", &gauges.listings),
                (
                    "object_watch_failures",
                    "Failures to list or watch objects; what was known stays in use",
                    &gauges.failures,
                ),
            ] {
                registry.register(name, help, counter.clone());
            }
        });
        let shared = Shared {
            client,
            tasks: tasks.clone(),
            clock,
            limits,
            listings: Arc::new(Semaphore::new(LISTINGS_AT_ONCE)),
            watched: ArcSwap::default(),
            changing: Mutex::new(()),
            gauges,
        };
        Self { shared: Arc::new(shared) }
    }

    /// How many resources are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.watched.load().len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ObjectDirectory for Watches {
    /// A resource that is not namespaced has no objects in any namespace.
    fn names(&self, set: &ObjectSet) -> Objects {
        if let ObjectNames::One(name) = &set.names {
            return Objects::Known(Arc::from([Arc::clone(name)]));
        }
        let watched = match self.shared.watched(&set.resource) {
            Ok(watched) => watched,
            Err(reason) => return Objects::Unavailable(reason),
        };
        watched.names(set)
    }

    fn known(&self, set: &ObjectSet) -> Objects {
        if let ObjectNames::One(name) = &set.names {
            return Objects::Known(Arc::from([Arc::clone(name)]));
        }
        let watched = self.shared.watched.load();
        watched.get(&set.resource).map_or(Objects::Listing, |watched| watched.names(set))
    }

    fn listed(&self, resource: &Arc<Resource>) -> BoxFuture<'static, ()> {
        let Ok(watched) = self.shared.watched(resource) else {
            return futures::future::ready(()).boxed();
        };
        let mut listed = watched.listed.subscribe();
        drop(watched);
        async move {
            // An error: the watch ended, and with it the listing.
            let _ = listed.wait_for(|listed| *listed).await;
        }
        .boxed()
    }
}

impl Watched {
    fn names(&self, set: &ObjectSet) -> Objects {
        match &**self.state.load() {
            State::Known(index) => {
                Objects::Known(index.names(set.namespace.as_deref(), &set.names))
            }
            State::Listing => Objects::Listing,
            State::Unavailable(reason) => Objects::Unavailable(Arc::clone(reason)),
        }
    }
}

impl Shared {
    /// The watch of a resource, which begins if there is none; or why there can be none.
    fn watched(self: &Arc<Self>, resource: &Arc<Resource>) -> Result<Arc<Watched>, Arc<str>> {
        if let Some(watched) = self.watched.load().get(resource) {
            watched.asked.store(self.clock.tick().0, Ordering::Relaxed);
            return Ok(Arc::clone(watched));
        }
        let Some(client) = &self.client else {
            return Err(format!(
                "{} cannot be listed: this server runs without a cluster \
                 (kubernetes.enabled: false)",
                resource.id
            )
            .into());
        };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.watched.load_full();
        if let Some(watched) = all.get(resource) {
            return Ok(Arc::clone(watched));
        }
        if all.len() >= self.limits.resources {
            return Err(format!(
                "{} are not watched: {} resources are already, the most at once; one that nobody \
                 asks about is let go after {:?}",
                resource.id, self.limits.resources, self.limits.idle
            )
            .into());
        }
        let watched = Arc::new(Watched {
            resource: Arc::clone(resource),
            state: ArcSwap::from_pointee(State::Listing),
            asked: AtomicU64::new(self.clock.tick().0),
            listed: watch::Sender::new(false),
        });
        let mut all = HashMap::clone(&all);
        all.insert(Arc::clone(resource), Arc::clone(&watched));
        self.put(all);
        let task = Watcher::new(
            client.clone(),
            Registered { shared: Arc::clone(self), watched: Arc::clone(&watched) },
        );
        let shutdown = self.tasks.shutdown_token().clone();
        // A job: it ends when nobody asks any more. Should it die, the next question starts another.
        self.tasks.job("object watch", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task.run() => {}
            }
        });
        Ok(watched)
    }

    fn put(&self, all: HashMap<Arc<Resource>, Arc<Watched>>) {
        self.gauges.resources.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        self.watched.store(Arc::new(all));
    }
}

/// A watch in the list of watches: taken out when its task ends, however that is.
struct Registered {
    shared: Arc<Shared>,
    watched: Arc<Watched>,
}

impl Registered {
    /// How long nobody has asked.
    fn idle(&self) -> Duration {
        self.shared.clock.tick().since(Tick(self.watched.asked.load(Ordering::Relaxed)))
    }

    /// Puts a state into use.
    fn publish(&self, state: State) {
        let objects = |state: &State| match state {
            State::Known(index) => i64::try_from(index.len()).unwrap_or(i64::MAX),
            State::Listing | State::Unavailable(_) => 0,
        };
        let now = objects(&state);
        let before = self.watched.state.swap(Arc::new(state));
        self.shared.gauges.objects.inc_by(now - objects(&before));
        self.watched.listed.send_replace(true);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        {
            let _changing = self.shared.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = HashMap::clone(&self.shared.watched.load());
            all.remove(&self.watched.resource);
            self.shared.put(all);
        }
        // Whoever still holds this watch sees that it knows nothing any more, and the memory goes.
        // Now that nobody else finds it: it counts as listed, and will never be.
        self.publish(State::Listing);
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("resources", &self.len()).finish_non_exhaustive()
    }
}
