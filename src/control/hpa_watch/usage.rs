//! Which HPAs refer to what, for status, events and the status page.
//!
//! Invariant: readers load one `Arc` and never lock.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::model::MetricReference;

/// A reference and who makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The metric, as the HPAs name it. Its namespace is theirs.
    pub reference: Arc<MetricReference>,
    /// The names of the HPAs, sorted.
    pub hpas: Arc<[Arc<str>]>,
}

/// All references that HPAs make, in no order.
pub struct Usage {
    used: ArcSwap<Vec<Used>>,
    generation: watch::Sender<u64>,
}

impl Usage {
    /// No HPA is known.
    #[must_use]
    pub fn new() -> Self {
        Self { used: ArcSwap::default(), generation: watch::Sender::new(0) }
    }

    /// The references at this moment.
    #[must_use]
    pub fn used(&self) -> Arc<Vec<Used>> {
        self.used.load_full()
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Replaces the references.
    pub fn put(&self, used: Vec<Used>) {
        self.used.store(Arc::new(used));
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").field("references", &self.used.load().len()).finish_non_exhaustive()
    }
}
