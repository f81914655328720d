//! Looking after certificates: at changes, at what is due, and once a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::{Notify, watch};

use super::bundle::Bundle;
use super::cluster::{Cluster, Failure, Operation, Registrations, Written, not_issued};
use super::keeper::{Keeper, Plan, Rotation, Secret, Seen};
use super::metrics::Metrics;
use super::settings::Settings;
use super::standing::Standing;
use crate::model::{Clock, ServingPair};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// A look without a reason, for what a watch cannot see. Four small reads.
const RESYNC: Duration = Duration::from_mins(1);

/// The pause between a look and the next one, after a look with nothing to do.
const FIRST_SPACING: Duration = Duration::from_millis(100);
/// The same when one write or failure follows the other: nobody should quarrel with us any faster.
const LONGEST_SPACING: Duration = Duration::from_secs(5);

/// The pause after a first failure; it doubles with each that follows, up to [`RESYNC`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What this needs of the others.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The clock that certificates are dated by.
    pub clock: Arc<dyn Clock>,
    /// Where the upkeep runs.
    pub tasks: &'a TaskSet,
    /// Where it is counted.
    pub telemetry: &'a Telemetry,
}

/// What comes of it.
#[derive(Debug)]
pub struct Pairs {
    /// The pair to be served; none as long as there is none.
    pub current: watch::Receiver<Option<Arc<ServingPair>>>,
    /// The DNS names of each pair.
    pub names: Vec<String>,
    /// For readiness.
    pub standing: Arc<Standing>,
}

/// Starts looking after the certificates of the replicas in a namespace. `api_services` are the
/// names of the `APIServices` of what is served; of these only those that point to our Service are
/// ever written.
pub fn start(
    settings: &Settings,
    namespace: &str,
    api_services: Vec<String>,
    client: Client,
    parts: Parts<'_>,
) -> Pairs {
    let Parts { clock, tasks, telemetry } = parts;
    let names = settings.names(namespace);
    let cluster = Cluster::new(
        client,
        namespace.to_owned(),
        settings.secret.clone(),
        settings.service.clone(),
        api_services,
    );
    let (serve, current) = watch::channel(None);
    let standing = Arc::new(Standing::new());
    let changed = Arc::new(Notify::new());
    let shutdown = tasks.shutdown_token().clone();
    let (watched, tell) = (cluster.changes(), Arc::clone(&changed));
    tasks.service("certificates' watches", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow(watched, &tell) => {}
        }
    });
    let mut upkeep = Upkeep {
        keeper: Keeper::new(names.clone(), settings.spans()),
        cluster,
        clock,
        metrics: Metrics::register(telemetry),
        serve,
        standing: Arc::clone(&standing),
        failing: BTreeMap::new(),
        foreign: BTreeMap::new(),
    };
    let shutdown = tasks.shutdown_token().clone();
    tasks.service("certificates", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = upkeep.run(&changed) => {}
        }
    });
    Pairs { current, names, standing }
}

/// Tells of every change.
async fn follow(mut changes: BoxStream<'static, Result<(), watcher::Error>>, tell: &Notify) {
    let mut failing = false;
    while let Some(change) = changes.next().await {
        match change {
            Ok(()) => tell.notify_one(),
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if !failing => {
                failing = true;
                tracing::warn!(
                    cause = status.message,
                    "the Secret or an APIService of managed certificates cannot be watched; they \
                     are looked at every {RESYNC:?} instead (grant list and watch on them)"
                );
            }
            Err(_) => tracing::debug!("a watch of managed certificates begins again"),
        }
    }
    // A watcher does not end; without it there is still the timer.
    std::future::pending::<()>().await;
}

struct Upkeep {
    keeper: Keeper,
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    serve: watch::Sender<Option<Arc<ServingPair>>>,
    standing: Arc<Standing>,
    /// What does not work at present, and why.
    failing: BTreeMap<Operation, String>,
    /// `APIServices` that are somebody else's, and whose.
    foreign: BTreeMap<String, String>,
}

/// How a look went.
struct Round {
    wrote: bool,
    wake: Option<Duration>,
}

impl Upkeep {
    async fn run(&mut self, changed: &Notify) {
        let (mut spacing, mut retry) = (FIRST_SPACING, FIRST_RETRY);
        loop {
            let Round { wrote, wake } = self.round().await;
            let failed = !self.failing.is_empty();
            let wait = if failed {
                let wait = retry.mul_f64(0.5 + 0.5 * rand::random::<f64>());
                retry = (retry * 2).min(RESYNC);
                // What is due goes on: another part of it may work.
                wake.map_or(wait, |wake| wake.min(wait))
            } else {
                retry = FIRST_RETRY;
                wake.unwrap_or(RESYNC).min(RESYNC)
            };
            tokio::time::sleep(spacing).await;
            if wrote || failed {
                spacing = (spacing * 2).min(LONGEST_SPACING);
            } else {
                spacing = FIRST_SPACING;
            }
            if wrote {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed.notified() => {}
            }
        }
    }

    /// Looks once and does what follows.
    async fn round(&mut self) -> Round {
        let (secret, registrations) = self.cluster.all().await;
        let bundles = registrations
            .as_ref()
            .ok()
            .map(|found| found.ours.iter().map(|one| one.bundle.clone()).collect::<Vec<Bundle>>());
        let seen = Seen {
            secret: match &secret {
                Err(_) => Secret::Unknown,
                Ok(None) => Secret::Absent,
                Ok(Some(object)) => {
                    let data = object.data.iter().flatten();
                    Secret::There(data.map(|(key, value)| (key.clone(), value.0.clone())).collect())
                }
            },
            bundles: bundles.as_deref(),
            now: self.clock.now(),
            tick: self.clock.tick(),
        };
        let Plan { serve, secret: content, bundles, wake, unready } = self.keeper.look(&seen);
        if let Some(pair) = serve {
            tracing::info!(not_after = %pair.leaf.not_after, "another serving certificate is in use");
            self.serve.send_replace(Some(Arc::new(pair.pem.clone())));
        }
        let mut wrote = false;
        let secret = self.judge(Operation::ReadSecret, secret).flatten();
        let registrations = self.judge(Operation::ReadApiService, registrations);
        let registrations = registrations.unwrap_or_default();
        self.name_foreign(&registrations);
        // First the trust: what is served should not wait for what comes next.
        let mut published = Ok(());
        for (name, pem) in &bundles {
            let mut ours = registrations.ours.iter();
            let Some(registration) = ours.find(|one| one.bundle.name == *name) else { continue };
            match self.cluster.publish(registration, pem).await {
                Ok(Written::Done) => {
                    wrote = true;
                    tracing::info!(api_service = name, "the caBundle was brought up to date");
                }
                Ok(Written::Conflict) => wrote = true,
                Err(failure) => published = Err(failure),
            }
        }
        if seen.bundles.is_some() {
            self.judge(Operation::WriteApiService, published);
        }
        let content = content.map_err(|error| not_issued(&error));
        if let Some((content, rotation)) = self.judge(Operation::Issue, content).flatten() {
            let written = self.cluster.write(secret.as_ref(), &content).await;
            match self.judge(Operation::WriteSecret, written) {
                Some(Written::Done) => {
                    wrote = true;
                    self.rotated(rotation);
                }
                Some(Written::Conflict) => wrote = true,
                None => {}
            }
        } else if !matches!(seen.secret, Secret::Unknown) {
            self.judge(Operation::WriteSecret, Ok(()));
        }
        self.stand(&seen, unready);
        Round { wrote, wake }
    }

    fn rotated(&self, rotation: Option<Rotation>) {
        if let Some(rotation) = rotation {
            self.metrics.rotated(rotation);
            tracing::info!(?rotation, "new certificates are in the Secret");
        } else {
            tracing::info!("the Secret of managed certificates was brought up to date");
        }
    }

    /// Tells how things stand.
    fn stand(&self, seen: &Seen<'_>, unready: Option<String>) {
        let pair = self.keeper.serving().map(|pair| pair.leaf.not_after);
        let authority = self.keeper.signing().map(|signing| signing.not_after);
        self.metrics.stand(pair, authority, self.keeper.is_trusted(seen));
        let causes: Vec<&str> = self.failing.values().map(String::as_str).collect();
        self.standing.tell(unready.map(|unready| {
            if causes.is_empty() { unready } else { format!("{unready}: {}", causes.join("; ")) }
        }));
    }

    /// Says once what has begun to fail and what works again.
    fn judge<T>(&mut self, operation: Operation, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => {
                if self.failing.remove(&operation).is_some() {
                    tracing::info!(
                        operation = operation.as_str(),
                        "managed certificates: this works again"
                    );
                }
                Some(value)
            }
            Err(failure) => {
                self.metrics.failed(failure.operation);
                let text = failure.to_string();
                if self.failing.contains_key(&operation) {
                    tracing::debug!(
                        cause = text,
                        "managed certificates still cannot be looked after"
                    );
                } else {
                    tracing::warn!(
                        cause = text,
                        "managed certificates cannot be looked after; what is served stays in use, \
                         and this is tried again"
                    );
                }
                self.failing.insert(operation, text);
                None
            }
        }
    }

    /// Says once which `APIServices` are left alone.
    fn name_foreign(&mut self, registrations: &Registrations) {
        for (name, place) in &registrations.foreign {
            if self.foreign.get(name) != Some(place) {
                tracing::info!(
                    api_service = name,
                    "it points to Service {place}, which is not ours, and is left alone"
                );
            }
        }
        if !registrations.foreign.is_empty() || !registrations.ours.is_empty() {
            self.foreign.clone_from(&registrations.foreign);
        }
    }
}
