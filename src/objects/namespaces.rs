//! The labels of namespaces, for `namespaceSelector`.
//!
//! The watch is metadata-only and starts when the first definition needs it, so an installation
//! that selects no namespaces needs no permission to list them.
//!
//! Invariants: readers never block; a namespace that is not known (yet) matches no selector; a
//! watch that fails keeps what it had and retries with backoff.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::model::{Labels, NamespaceDirectory};
use crate::task::TaskSet;

/// The labels of the cluster's namespaces.
pub struct Namespaces {
    /// None without a cluster.
    client: Option<Client>,
    tasks: TaskSet,
    store: Store<PartialObjectMeta<Namespace>>,
    writer: std::sync::Mutex<Option<reflector::store::Writer<PartialObjectMeta<Namespace>>>>,
    started: AtomicBool,
    changes: watch::Sender<u64>,
}

impl Namespaces {
    /// A directory that watches nothing yet. Without a client it stays empty.
    #[must_use]
    pub fn new(client: Option<Client>, tasks: &TaskSet) -> Self {
        let (store, writer) = reflector::store();
        Self {
            client,
            tasks: tasks.clone(),
            store,
            writer: std::sync::Mutex::new(Some(writer)),
            started: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// Starts the watch, once. Called when a definition with a `namespaceSelector` appears.
    pub fn require(&self) {
        let Some(client) = &self.client else { return };
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        self.started.store(true, Ordering::SeqCst);
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let shutdown = self.tasks.shutdown_token().clone();
        let changes = self.changes.clone();
        self.tasks.service("namespace watch", async move {
            let mut events = std::pin::pin!(
                watcher(namespaces, watcher::Config::default()).default_backoff().reflect(writer)
            );
            let mut failing = false;
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.next() => event,
                };
                // Of a listing the end alone: until then the directory is as it was.
                if matches!(&event, Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)))
                {
                    changes.send_modify(|generation| *generation += 1);
                }
                match event {
                    Some(Ok(_)) if failing => {
                        failing = false;
                        tracing::info!("namespaces can be watched again");
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        if !failing {
                            tracing::warn!(
                                cause = %error,
                                "namespaces cannot be watched; definitions with a \
                                 namespaceSelector see none that is new (is the ClusterRole \
                                 with list and watch on namespaces bound?)"
                            );
                        }
                        failing = true;
                    }
                    None => return,
                }
            }
        });
    }

    /// Tells whenever a namespace came, went or changed. The directory knows it by then.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a watch that was required has listed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        use futures::FutureExt;
        !self.started.load(Ordering::SeqCst)
            || matches!(self.store.wait_until_ready().now_or_never(), Some(Ok(())))
    }
}

impl NamespaceDirectory for Namespaces {
    fn labels(&self, namespace: &str) -> Option<Labels> {
        let object = self.store.get(&ObjectRef::new(namespace))?;
        let labels = object.metadata.labels.iter().flatten();
        Some(Labels::new(labels.map(|(k, v)| (k.as_str(), v.as_str()))))
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaces").field("known", &self.store.len()).finish_non_exhaustive()
    }
}
