//! Which HPAs refer to what, for status, events and the status page.
//!
//! Invariants: readers load one `Arc` and never lock; while the HPAs cannot be known
//! ([`Usage::is_known`]) nothing is called unused for that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    known: AtomicBool,
    generation: watch::Sender<u64>,
}

impl Usage {
    /// No HPA is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            used: ArcSwap::default(),
            known: AtomicBool::new(false),
            generation: watch::Sender::new(0),
        }
    }

    /// The references at this moment.
    #[must_use]
    pub fn used(&self) -> Arc<Vec<Used>> {
        self.used.load_full()
    }

    /// Whether these are the references of all HPAs: false before their first listing, and while we
    /// may not look at them.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::SeqCst)
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Replaces the references: those of all HPAs.
    pub fn put(&self, used: Vec<Used>) {
        self.used.store(Arc::new(used));
        self.known.store(true, Ordering::SeqCst);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// From now on they may be others; those that were seen last stay.
    pub(in crate::control) fn forget_certainty(&self) {
        self.known.store(false, Ordering::SeqCst);
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
