//! Queries that are wanted because HPAs refer to them: found exactly as a read would find them.

use std::sync::Arc;

use super::{ExternalLookup, Inner, folded};
use crate::cache::QueryCell;
use crate::catalog::{Served, Snapshot};
use crate::lookup::segment::is_namespace;
use crate::model::{Announced, Claim, MetricReference};

impl ExternalLookup {
    /// Makes everything wanted that a read of the reference would need.
    pub(in crate::lookup) fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        self.0.claim(reference, claim)
    }

    /// Takes a claim back.
    pub(in crate::lookup) fn release(&self, reference: &MetricReference, claim: Claim) {
        self.0.release(reference, claim);
    }
}

impl Inner {
    fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        let mut announced = Announced::Unknown;
        self.each(reference, |served, snapshot| {
            let made = |query: &Arc<_>| self.cells.on_demand.announced(query, &served.entry);
            let Some(cell) = cell(served, snapshot, &reference.namespace, made) else { return };
            // In this order: a refresher that lets the query go at this moment sees the claim when
            // it looks once more.
            cell.claim(claim);
            if !cell.is_scheduled() {
                // Without room it is asked for again: by the next announcement, or by a read.
                self.cells.demand.want(&cell);
            }
            announced = match announced {
                Announced::Unknown | Announced::Tried if cell.state().is_tried() => {
                    Announced::Tried
                }
                _ => Announced::Waiting,
            };
        });
        announced
    }

    fn release(&self, reference: &MetricReference, claim: Claim) {
        let now = self.cells.clock.tick();
        self.each(reference, |served, snapshot| {
            let known = |query: &Arc<_>| self.cells.on_demand.find(query);
            if let Some(cell) = cell(served, snapshot, &reference.namespace, known) {
                cell.release(claim, now);
            }
        });
    }

    /// Every definition that a read of the reference would need.
    fn each(&self, reference: &MetricReference, mut take: impl FnMut(&Served, &Snapshot)) {
        let namespace = &*reference.namespace;
        if !is_namespace(namespace) {
            return;
        }
        let snapshot = self.catalog.snapshot();
        let Some(listing) = snapshot.listing(&folded(&reference.metric)) else { return };
        listing
            .visible(namespace, |scope| self.selects(scope, namespace))
            .filter(|served| {
                let entry = &served.entry;
                entry.selected_by(&reference.selector).may_match(&entry.labels)
            })
            .for_each(|served| take(served, &snapshot));
    }
}

/// The cell that answers for a definition; `on_demand` knows those that depend on the namespace.
fn cell(
    served: &Served,
    snapshot: &Snapshot,
    namespace: &str,
    on_demand: impl FnOnce(&Arc<crate::model::Query>) -> Option<Arc<QueryCell>>,
) -> Option<Arc<QueryCell>> {
    if let Some(cell) = &served.cell {
        return Some(Arc::clone(cell));
    }
    let query = served.entry.query.resolve(namespace)?;
    snapshot.cell(&query).cloned().or_else(|| on_demand(&query))
}
