//! Cells of queries that only a read completes: how they are found, noted as read and wanted, and
//! what a read of a rule's metric gets of them.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Admission, Demand, EntryState, Hold, OnDemand, QueryCell, View};
use crate::lookup::message::{self, Asked};
use crate::lookup::waiting::{End, Waiting};
use crate::model::{Announced, ApiError, Claim, Clock, Policy, Query, Tick};

/// Where the cells are, and whom to tell that they are wanted.
#[derive(Clone)]
pub(super) struct Cells {
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
    /// Looks at a cell for a read: it counts as read and becomes wanted.
    pub(super) fn look(&self, cell: &Arc<QueryCell>) -> Look {
        let now = self.clock.tick();
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
        if cell.await_first(now) {
            self.demand.hurry(&cell);
        }
        Waiting { until: cell.wanted_since().after(patience), late, end: End::Fetch(cell) }
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

    /// Reads the cell of a rule's query. `asked` is for the sentence of an error.
    pub(super) fn read(&self, query: &Arc<Query>, policy: &Policy, asked: Asked<'_>) -> Found {
        let cell = self.on_demand.get_for(query, policy, asked.namespace);
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
