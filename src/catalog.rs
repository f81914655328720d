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
use crate::model::{Entry, Origin, Problem, Query, QueryTemplate};
pub use snapshot::{Conflict, Listing, Served, Snapshot};

/// The present snapshot, and the way to replace it.
pub struct Catalog {
    snapshot: ArcSwap<Snapshot>,
    /// What there is, by where it comes from. Whoever writes holds it.
    parts: Mutex<Parts>,
    generation: watch::Sender<u64>,
    /// Most series in an answer that only definitions of tenants ask for.
    tenant_series: usize,
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
            tenant_series: usize::MAX,
        }
    }

    /// The same with a bound on the series in an answer to an external metric that no one but
    /// resources of namespaces ask for.
    #[must_use]
    pub fn bounding(self, tenant_series: usize) -> Self {
        Self { tenant_series, ..self }
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
        let cells = cells_for(both(), &before, self.tenant_series);
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
    tenant_series: usize,
) -> HashMap<Arc<Query>, Arc<QueryCell>, ahash::RandomState> {
    let mut askers: HashMap<&Arc<Query>, Askers<'_>, ahash::RandomState> = HashMap::default();
    for entry in entries {
        if let QueryTemplate::Fixed(query) = &entry.query {
            let refresh = entry.policy.refresh;
            let first =
                Askers { refresh, keep_warm: false, oldest: entry, count: 0, bounded: true };
            let askers = askers.entry(query).or_insert(first);
            askers.refresh = askers.refresh.min(refresh);
            askers.keep_warm |= entry.policy.keep_warm;
            askers.count += 1;
            askers.bounded &= is_tenants(entry);
        }
    }
    askers
        .into_iter()
        .map(|(query, Askers { refresh, keep_warm, oldest, count, bounded })| {
            let cell = match before.cell(query) {
                Some(cell) => {
                    cell.set_pace(refresh, keep_warm);
                    Arc::clone(cell)
                }
                None => Arc::new(QueryCell::new(Arc::clone(query), refresh, keep_warm)),
            };
            cell.set_definition(oldest, count - 1);
            cell.set_most_series(bounded.then_some(tenant_series));
            (Arc::clone(query), cell)
        })
        .collect()
}

/// What the definitions of one query ask of it together.
struct Askers<'a> {
    refresh: std::time::Duration,
    keep_warm: bool,
    oldest: &'a Arc<Entry>,
    count: usize,
    /// Whether all of them are tenants'.
    bounded: bool,
}

/// Whether a definition is of those whose answers have a bound. An answer about objects has as many
/// series as there are objects.
fn is_tenants(entry: &Entry) -> bool {
    matches!(entry.origin, Origin::Resource { .. })
        && entry.id.kind.is_namespaced()
        && entry.objects.is_none()
}

#[cfg(test)]
mod tests;
