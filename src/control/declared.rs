//! The metric resources of the cluster, as they were last seen, and what became of each.
//!
//! Responsible for: holding them where the watch writes and the status writer, the events and the
//! status page read. Not responsible for: watching (`resource_watch`), and
//! what a resource's status says (`resource_status`).
//!
//! Invariants: readers load one `Arc` and never lock; a resource is in the board from the moment it
//! is seen until it is gone, however wrong it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::model::{DefinitionId, Problem};

/// A metric resource as it was last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Which one.
    pub id: DefinitionId,
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.generation`; 0 where the API server does not count, as for resources without a
    /// status subresource before their first change.
    pub generation: i64,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// What became of it.
    pub verdict: Verdict,
    /// Its `status` as it was last seen, whatever form it has, as compact JSON; none when it has
    /// none.
    pub status: Option<Arc<str>>,
}

/// What became of a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is in the catalog, unless another one has the same metric and labels: that is a conflict of
    /// the catalog's.
    Accepted,
    /// It is refused for these reasons, at least one.
    Refused {
        /// What is wrong, by field.
        problems: Arc<[Problem]>,
        /// Whether an earlier version of it is still served.
        last_good_stays: bool,
    },
}

/// All metric resources, by identity.
pub type Resources = BTreeMap<DefinitionId, Arc<Declared>>;

/// Where they are kept.
pub struct Board {
    resources: ArcSwap<Resources>,
    generation: watch::Sender<u64>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self { resources: ArcSwap::default(), generation: watch::Sender::new(0) }
    }

    /// The resources at this moment.
    #[must_use]
    pub fn resources(&self) -> Arc<Resources> {
        self.resources.load_full()
    }

    /// Tells of every change. The new resources are in place, and in the catalog, by then.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Replaces the resources.
    pub fn put(&self, resources: Resources) {
        self.resources.store(Arc::new(resources));
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("resources", &self.resources.load().len())
            .finish_non_exhaustive()
    }
}
