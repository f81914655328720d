//! The pods of HPAs' targets.
//!
//! The HPA controller asks for a metric of the pods that the scale of its target selects. So that
//! such a metric can be fetched before it is first read, the scale is asked for here: when somebody
//! first asks about a target, and every few minutes for as long as somebody does. It is an
//! optimisation: without the permission nothing is lost but that.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use kube::core::DynamicObject;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::{ObjectReference, ResourceDirectory, ScaleDirectory, Selector, TargetPods};
use crate::objects::resources::api_of;
use crate::objects::said::said;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// Calls at once: a thousand targets are known within seconds of a start, and the API server hardly
/// notices.
const AT_ONCE: usize = 4;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a scale is asked for again. The selector of a Deployment never changes; that of a
/// custom resource may.
const REFRESH: Duration = Duration::from_mins(5);

/// The same after a failure that has nothing to do with the target.
const RETRY: Duration = Duration::from_secs(30);

/// A target that nobody asked about for so long is forgotten. While an HPA refers to it, it is asked
/// about every minute (`ANNOUNCE_EVERY`).
const LAPSE: Duration = Duration::from_mins(5);

/// Most targets, a few hundred bytes each: ten times the thousand HPAs of a large cluster. The pods
/// of others stay unknown.
const MAX_TARGETS: usize = 10_000;

/// How often it is looked which targets are due or forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// While scales are being asked for, what is known is told no more often than this.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The pods of targets, by their scales.
pub struct Scales {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    work: Notify,
    generation: watch::Sender<u64>,
    targets: Gauge,
    failures: Counter,
}

#[derive(Default)]
struct Table {
    targets: HashMap<Arc<Target>, Entry>,
    /// What is to be asked for.
    queue: VecDeque<Arc<Target>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    namespace: Arc<str>,
    object: ObjectReference,
}

struct Entry {
    pods: TargetPods,
    /// When somebody last asked about it.
    wanted: Instant,
    /// When its scale is to be asked for again; none while it is queued or being asked for.
    due: Option<Instant>,
}

/// Why a scale was not had.
enum Failed {
    /// The target cannot be scaled, as far as is known.
    NoScale(String),
    Forbidden(String),
    Call(String),
}

impl Scales {
    /// Starts asking. Without a client nothing is known.
    #[must_use]
    pub fn start(
        client: Option<Client>,
        resources: Arc<dyn ResourceDirectory>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
    ) -> Self {
        let shared = Arc::new(Shared {
            table: Mutex::default(),
            work: Notify::new(),
            generation: watch::Sender::new(0),
            targets: Gauge::default(),
            failures: Counter::default(),
        });
        telemetry.register(|registry| {
            registry.register(
                "scale_targets",
                "Targets of HPAs with metrics of pods, whose scale is asked for",
                shared.targets.clone(),
            );
            registry.register(
                "scale_failures",
                "Failed calls for the scale of a target; its metrics are fetched when they are read",
                shared.failures.clone(),
            );
        });
        if let Some(client) = client {
            let asker = Asker {
                client,
                resources,
                shared: Arc::clone(&shared),
                forbidden: false,
                told: None,
            };
            let shutdown = tasks.shutdown_token().clone();
            tasks.service("scales of HPA targets", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = asker.for_ever() => {}
                }
            });
        }
        Self { shared }
    }

    /// Tells when the pods of a target have become known, or are others.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }
}

impl ScaleDirectory for Scales {
    fn pods_of(&self, namespace: &Arc<str>, object: &ObjectReference) -> TargetPods {
        let now = Instant::now();
        let target = Target { namespace: Arc::clone(namespace), object: object.clone() };
        let mut table = self.shared.table();
        if let Some(entry) = table.targets.get_mut(&target) {
            entry.wanted = now;
            return entry.pods.clone();
        }
        if table.targets.len() >= MAX_TARGETS {
            return TargetPods::Unknown;
        }
        let target = Arc::new(target);
        let entry = Entry { pods: TargetPods::Asking, wanted: now, due: None };
        table.targets.insert(Arc::clone(&target), entry);
        table.queue.push_back(target);
        self.shared.count(&table);
        self.shared.work.notify_one();
        TargetPods::Asking
    }

    fn known_pods_of(&self, namespace: &Arc<str>, object: &ObjectReference) -> TargetPods {
        let target = Target { namespace: Arc::clone(namespace), object: object.clone() };
        let table = self.shared.table();
        table.targets.get(&target).map_or(TargetPods::Asking, |entry| entry.pods.clone())
    }
}

impl fmt::Debug for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scales")
            .field("targets", &self.shared.table().targets.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, table: &Table) {
        self.targets.set(i64::try_from(table.targets.len()).unwrap_or(i64::MAX));
    }

    /// Forgets what nobody asks about and queues what is due.
    fn look(&self, now: Instant) {
        let mut table = self.table();
        let Table { targets, queue } = &mut *table;
        targets.retain(|target, entry| {
            if entry.due.is_some_and(|due| due <= now) {
                entry.due = None;
                queue.push_back(Arc::clone(target));
            }
            // One that is being asked for stays for its answer.
            entry.due.is_none() || now.duration_since(entry.wanted) < LAPSE
        });
        self.count(&table);
    }

    /// Takes in what a call gave; whether that is news.
    fn take(&self, target: &Target, answer: &Result<Selector, Failed>, now: Instant) -> bool {
        let mut table = self.table();
        let Some(entry) = table.targets.get_mut(target) else { return false };
        let again = match answer {
            Err(Failed::Call(_)) => RETRY,
            Ok(_) | Err(Failed::NoScale(_) | Failed::Forbidden(_)) => REFRESH,
        };
        // Those that came together do not stay together.
        entry.due = Some(now + again.mul_f64(0.8 + 0.2 * rand::random::<f64>()));
        let pods = match answer {
            Ok(selector) => TargetPods::Selected(selector.clone()),
            Err(Failed::NoScale(_)) => TargetPods::Unknown,
            // What was known is as good as before.
            Err(Failed::Forbidden(_) | Failed::Call(_)) => match &entry.pods {
                TargetPods::Asking => TargetPods::Unknown,
                known => known.clone(),
            },
        };
        let news = pods != entry.pods;
        entry.pods = pods;
        news
    }
}

/// The task that asks.
struct Asker {
    client: Client,
    resources: Arc<dyn ResourceDirectory>,
    shared: Arc<Shared>,
    forbidden: bool,
    /// When news was last told.
    told: Option<Instant>,
}

impl Asker {
    async fn for_ever(mut self) {
        let mut asking = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut news = false;
        loop {
            while asking.len() < AT_ONCE {
                let Some(target) = self.shared.table().queue.pop_front() else { break };
                let scale = scale(self.client.clone(), Arc::clone(&self.resources), target);
                asking.push(scale);
            }
            let now = Instant::now();
            let may_tell = asking.is_empty()
                || self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
            if news && may_tell {
                (news, self.told) = (false, Some(now));
                self.shared.generation.send_modify(|generation| *generation += 1);
            }
            tokio::select! {
                () = self.shared.work.notified() => {}
                _ = look.tick() => self.shared.look(Instant::now()),
                Some((target, answer)) = asking.next(), if !asking.is_empty() => {
                    news |= self.shared.take(&target, &answer, Instant::now());
                    self.report(&target, answer);
                }
            }
        }
    }

    fn report(&mut self, target: &Target, answer: Result<Selector, Failed>) {
        let (namespace, ObjectReference { kind, name, .. }) = (&target.namespace, &target.object);
        match answer {
            Ok(_) => {
                if std::mem::take(&mut self.forbidden) {
                    tracing::info!("the scale of HPAs' targets can be read");
                }
            }
            Err(Failed::Forbidden(cause)) => {
                self.shared.failures.inc();
                if !std::mem::replace(&mut self.forbidden, true) {
                    tracing::warn!(
                        cause,
                        "the scale of an HPA's target cannot be read, so metrics of its pods are \
                         not fetched before they are first read; grant get on */scale (see \
                         ClusterRole tidepole in the manifests)"
                    );
                }
            }
            Err(Failed::NoScale(cause)) => {
                tracing::debug!(%namespace, %kind, %name, cause, "an HPA's target has no scale");
            }
            Err(Failed::Call(cause)) => {
                self.shared.failures.inc();
                tracing::debug!(%namespace, %kind, %name, cause, "the scale of an HPA's target was not had");
            }
        }
    }
}

/// Asks for the scale of a target.
async fn scale(
    client: Client,
    resources: Arc<dyn ResourceDirectory>,
    target: Arc<Target>,
) -> (Arc<Target>, Result<Selector, Failed>) {
    let answer = ask(client, &*resources, &target).await;
    (target, answer)
}

async fn ask(
    client: Client,
    resources: &dyn ResourceDirectory,
    target: &Target,
) -> Result<Selector, Failed> {
    let ObjectReference { api_version, kind, name } = &target.object;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let resource = resources.resolve(group, kind).filter(|resource| resource.namespaced);
    let Some(resource) = resource else {
        return Err(Failed::NoScale("the cluster has no such resource".to_owned()));
    };
    // Both come from an HPA's spec and become segments of a path.
    let plain = |text: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        !text.is_empty() && text.bytes().all(allowed) && text.bytes().any(|b| b != b'.')
    };
    if !plain(name) || !plain(&target.namespace) {
        return Err(Failed::NoScale("no object can have this name".to_owned()));
    }
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, &target.namespace, &api_of(&resource));
    let scale = match tokio::time::timeout(CALL_TIMEOUT, api.get_scale(name)).await {
        Ok(Ok(scale)) => scale,
        Ok(Err(kube::Error::Api(status))) => {
            return Err(match status.code {
                403 => Failed::Forbidden(status.message.clone()),
                404 | 405 => Failed::NoScale(status.message.clone()),
                _ => Failed::Call(status.message.clone()),
            });
        }
        Ok(Err(error)) => return Err(Failed::Call(said(&error))),
        Err(_) => return Err(Failed::Call(format!("no answer within {CALL_TIMEOUT:?}"))),
    };
    // The controller refuses to work without one (`selector is required`).
    let text = scale.status.and_then(|status| status.selector).unwrap_or_default();
    match Selector::parse(&text) {
        Ok(selector) if !text.is_empty() => Ok(selector),
        Ok(_) => Err(Failed::NoScale("its scale has no selector".to_owned())),
        Err(why) => Err(Failed::NoScale(format!("the selector of its scale is wrong: {why}"))),
    }
}

#[cfg(test)]
mod tests;
