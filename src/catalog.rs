//! Which metrics exist.
//!
//! Responsible for: the snapshot of all served definitions that readers look metrics up in, the
//! rule of precedence between definitions of one name, and the cells of all known queries: they
//! live here, with their entries, so that nothing wanted can be evicted.
//! Not responsible for: where definitions come from (the watches of files and resources hand them over), what is
//! served (lookup), when queries are fetched (the refresher).
//!
//! Invariants: readers load one `Arc` and never lock; writers are serialised; a query that is in
//! the old and the new snapshot keeps its cell, and with it its value, across the change.

pub mod cells;
pub mod snapshot;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::cache::QueryCell;
use crate::model::{Entry, Problem, Query, QueryTemplate};
pub use snapshot::{Conflict, Listing, Served, Snapshot};

/// The present snapshot, and the way to replace it.
pub struct Catalog {
    snapshot: ArcSwap<Snapshot>,
    /// What there is, by where it comes from. Whoever writes holds it.
    parts: Mutex<Parts>,
    generation: watch::Sender<u64>,
}

/// The definitions of each origin.
#[derive(Default)]
struct Parts {
    files: Part,
    resources: Part,
}

/// Definitions in order of precedence, and what is wrong with the others.
#[derive(Default)]
struct Part {
    entries: Vec<Arc<Entry>>,
    problems: Vec<Problem>,
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            parts: Mutex::default(),
            generation: watch::Sender::new(0),
        }
    }

    /// Tells of every change, by the new snapshot's generation. The snapshot is in place by then.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The present snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces everything that comes from files. `entries` are in path order: of two definitions
    /// in conflict the earlier stays.
    pub fn apply_files(
        &self,
        entries: impl IntoIterator<Item: Into<Arc<Entry>>>,
        problems: Vec<Problem>,
    ) {
        let entries = entries.into_iter().map(Into::into).collect();
        self.apply(|parts| parts.files = Part { entries, problems });
    }

    /// Replaces everything that comes from resources. `entries` are in order of age, oldest first: of
    /// two definitions in conflict the earlier stays, and those of files come before all of them.
    pub fn apply_resources(
        &self,
        entries: impl IntoIterator<Item: Into<Arc<Entry>>>,
        problems: Vec<Problem>,
    ) {
        let entries = entries.into_iter().map(Into::into).collect();
        self.apply(|parts| parts.resources = Part { entries, problems });
    }

    fn apply(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let Parts { files, resources } = &*parts;
        let both = || files.entries.iter().chain(&resources.entries);
        let problems = files.problems.iter().chain(&resources.problems).cloned().collect();
        let before = self.snapshot.load_full();
        let cells = cells_for(both(), &before);
        let entries = both().map(Arc::clone).collect();
        let next = Arc::new(Snapshot::build(entries, problems, before.generation() + 1, |query| {
            cells.get(query).cloned()
        }));
        self.snapshot.store(Arc::clone(&next));
        for (query, cell) in before.cells() {
            if !next.has_cell(query) {
                cell.retire();
            }
        }
        self.generation.send_replace(next.generation());
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("generation", &self.snapshot.load().generation())
            .finish_non_exhaustive()
    }
}

/// A cell for every complete query: the one it had, or a new one. Its pace is the shortest
/// refresh that any of its definitions asks for; it is noted as the oldest one's.
fn cells_for<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    before: &Snapshot,
) -> HashMap<Arc<Query>, Arc<QueryCell>> {
    let mut paces: HashMap<&Arc<Query>, (std::time::Duration, bool, &Arc<Entry>, usize)> =
        HashMap::new();
    for entry in entries {
        if let QueryTemplate::Fixed(query) = &entry.query {
            let pace = paces.entry(query).or_insert((entry.policy.refresh, false, entry, 0));
            pace.0 = pace.0.min(entry.policy.refresh);
            pace.1 |= entry.policy.keep_warm;
            pace.3 += 1;
        }
    }
    paces
        .into_iter()
        .map(|(query, (refresh, keep_warm, oldest, count))| {
            let cell = match before.cell(query) {
                Some(cell) => {
                    cell.set_pace(refresh, keep_warm);
                    Arc::clone(cell)
                }
                None => Arc::new(QueryCell::new(Arc::clone(query), refresh, keep_warm)),
            };
            cell.set_definition(oldest, count - 1);
            (Arc::clone(query), cell)
        })
        .collect()
}

#[cfg(test)]
mod tests;
