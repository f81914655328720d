//! Cells of queries that only a read completes: how they are found, noted as read and wanted, and
//! what a read of a rule's metric gets of them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::cache::{Admission, Demand, EntryState, Hold, OnDemand, QueryCell, View};
use crate::lookup::message::{self, Asked};
use crate::lookup::waiting::{End, Listings, Waiting};
use crate::model::{
    Announced, ApiError, Claim, Clock, Entry, ObjectDirectory, ObjectSet, Objects, Policy, Query,
    Resource, Tick,
};

/// Who looks at cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eyes {
    /// A reader: what it looks at is made if need be, noted as read, and wanted.
    Reader,
    /// Somebody who wants to know what a reader would get: nothing changes because of it.
    Onlooker,
}

/// Where the cells are, and whom to tell that they are wanted.
#[derive(Clone)]
pub(super) struct Cells {
    pub(super) eyes: Eyes,
    pub(super) on_demand: Arc<OnDemand>,
    pub(super) demand: Arc<dyn Demand>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a cell has for a read.
pub(super) enum Found {
    /// A state with a sample that may be served.
    Sample(Arc<EntryState>),
    /// The upstream answered and had nothing.
    Nothing,
    /// There is nothing to serve: why.
    Failed(String),
    /// The first fetch has not ended.
    Untried(Waiting),
}

/// What a cell had when a read looked at it.
pub(super) struct Look {
    pub(super) state: Arc<EntryState>,
    /// Whether it is to be refreshed.
    pub(super) admission: Admission,
    pub(super) now: Tick,
}

impl Cells {
    /// The same cells through the eyes of an onlooker.
    pub(super) fn for_onlooker(&self) -> Self {
        Self { eyes: Eyes::Onlooker, ..self.clone() }
    }

    /// Whether looking must change nothing.
    pub(super) fn is_onlooker(&self) -> bool {
        self.eyes == Eyes::Onlooker
    }

    /// The cell of a query that completes a definition. An onlooker gets one that nobody else sees
    /// where there is none.
    pub(super) fn made(&self, query: &Arc<Query>, entry: &Arc<Entry>) -> Arc<QueryCell> {
        match self.eyes {
            Eyes::Reader => self.on_demand.get(query, entry),
            Eyes::Onlooker => self.found(query, entry.policy.refresh),
        }
    }

    /// The same for a query of a rule.
    fn made_for(
        &self,
        query: &Arc<Query>,
        policy: &Policy,
        reader: Option<&str>,
    ) -> Arc<QueryCell> {
        match self.eyes {
            Eyes::Reader => self.on_demand.get_for(query, policy, reader),
            Eyes::Onlooker => self.found(query, policy.refresh),
        }
    }

    fn found(&self, query: &Arc<Query>, refresh: Duration) -> Arc<QueryCell> {
        let found = self.on_demand.find(query);
        found.unwrap_or_else(|| Arc::new(QueryCell::new(Arc::clone(query), refresh, false)))
    }

    /// Looks at a cell for a read: it counts as read and becomes wanted.
    pub(super) fn look(&self, cell: &Arc<QueryCell>) -> Look {
        let now = self.clock.tick();
        if self.is_onlooker() {
            return Look { state: Arc::clone(&cell.state()), admission: Admission::Accepted, now };
        }
        cell.touch(now);
        let mut admission = Admission::Accepted;
        if !cell.is_scheduled() {
            // Before the refresher hears of it, so that it need not be told to hurry.
            cell.await_first(now);
            admission = self.demand.want(cell);
        }
        Look { state: Arc::clone(&cell.state()), admission, now }
    }

    /// Waits for a cell's first fetch.
    pub(super) fn wait(
        &self,
        cell: Arc<QueryCell>,
        patience: Duration,
        now: Tick,
        late: ApiError,
    ) -> Waiting {
        Waiting { until: self.patient_until(&cell, patience, now), late, end: End::Fetch(cell) }
    }

    /// Until when a read waits for a cell's first fetch, which is hurried.
    pub(super) fn patient_until(
        &self,
        cell: &Arc<QueryCell>,
        patience: Duration,
        now: Tick,
    ) -> Tick {
        match self.eyes {
            Eyes::Reader => {
                if cell.await_first(now) {
                    self.demand.hurry(cell);
                }
            }
            // It is not under way: a reader would have all the time.
            Eyes::Onlooker if !cell.is_scheduled() => return Tick(u64::MAX),
            Eyes::Onlooker => {}
        }
        cell.wanted_since().after(patience)
    }

    /// The value that a query has, without making it wanted: somebody else's question that happens to
    /// answer this read, too.
    pub(super) fn held(&self, query: &Arc<Query>, policy: &Policy) -> Option<Found> {
        let cell = self.on_demand.find(query)?;
        let state = cell.state();
        match state.view(policy, self.clock.tick()) {
            View::Fresh(_) | View::Servable(_) => Some(Found::Sample(Arc::clone(&state))),
            _ => None,
        }
    }

    /// The names of a set of objects.
    pub(super) fn names(&self, objects: &dyn ObjectDirectory, set: &ObjectSet) -> Objects {
        match self.eyes {
            Eyes::Reader => objects.names(set),
            Eyes::Onlooker => objects.known(set),
        }
    }

    /// The wait for the first listing of a resource's objects, shared by all readers.
    pub(super) fn wait_for_listing(
        &self,
        (listings, patience): (&Listings, Duration),
        objects: &dyn ObjectDirectory,
        resource: &Arc<Resource>,
        late: ApiError,
    ) -> Waiting {
        match self.eyes {
            Eyes::Reader => {
                let since = listings.since(&resource.id, self.clock.tick());
                let end = End::Listing(objects.listed(resource));
                Waiting { until: since.after(patience), late, end }
            }
            // Whether it is under way is not told: a reader would have all the time.
            Eyes::Onlooker => {
                let end = End::Listing(futures::future::pending().boxed());
                Waiting { until: Tick(u64::MAX), late, end }
            }
        }
    }

    /// Reads the cell of a rule's query. `asked` is for the sentence of an error.
    pub(super) fn read(&self, query: &Arc<Query>, policy: &Policy, asked: Asked<'_>) -> Found {
        let cell = self.made_for(query, policy, asked.namespace);
        let Look { state, admission, now } = self.look(&cell);
        match state.view(policy, now) {
            View::Fresh(_) | View::Servable(_) => Found::Sample(Arc::clone(&state)),
            // No rule chooses a number.
            View::Chosen(..) | View::NoData(_) => Found::Nothing,
            View::Waiting if admission == Admission::Full => {
                Found::Failed(message::not_queued(asked, query))
            }
            View::Waiting => {
                let patience = policy.first_read_timeout;
                let late = message::not_yet_answered(asked, query, patience);
                Found::Untried(self.wait(cell, patience, now, ApiError::RuleFailed(late)))
            }
            view @ (View::Failed(_) | View::Expired) => {
                Found::Failed(message::no_rule_value(asked, query, policy, &state, &view, now))
            }
        }
    }

    /// Whether the query has an answer that may be served, and nothing else: it becomes wanted, and
    /// nobody waits for it.
    pub(super) fn ready(
        &self,
        query: &Arc<Query>,
        policy: &Policy,
        asked: Asked<'_>,
    ) -> Option<Found> {
        match self.read(query, policy, asked) {
            found @ (Found::Sample(_) | Found::Nothing) => Some(found),
            Found::Failed(_) | Found::Untried(_) => None,
        }
    }

    /// Makes a query wanted for HPAs.
    pub(super) fn claim(
        &self,
        query: &Arc<Query>,
        policy: &Policy,
        owner: Option<&str>,
        claim: Claim,
    ) -> Announced {
        let cell = self.on_demand.announced_for(query, policy, owner);
        cell.map_or(Announced::Waiting, |cell| self.claim_cell(&cell, claim))
    }

    /// Makes a cell wanted for HPAs.
    pub(super) fn claim_cell(&self, cell: &Arc<QueryCell>, claim: Claim) -> Announced {
        // In this order: a refresher that lets the query go at this moment sees the claim when it
        // looks once more.
        cell.claim(claim);
        if !cell.is_scheduled() {
            self.demand.want(cell);
        }
        if cell.state().is_tried() { Announced::Tried } else { Announced::Waiting }
    }

    /// Takes a claim back; false where HPAs do not refer to the query.
    pub(super) fn release(&self, query: &Arc<Query>, claim: Claim) -> bool {
        let now = self.clock.tick();
        let cell = self.on_demand.find(query);
        let Some(cell) = cell.filter(|cell| matches!(cell.hold(now), Hold::Claimed(_))) else {
            return false;
        };
        cell.release(claim, now);
        true
    }
}
