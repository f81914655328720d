//! Cells of queries that only a read completes: how they are found, noted as read and wanted, and
//! what a read of a rule's metric gets of them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::cache::{Admission, Demand, EntryState, OnDemand, View};
use crate::lookup::message::{self, Asked};
use crate::lookup::waiting::{End, Waiting};
use crate::model::{Announced, ApiError, Claim, Clock, Decimal, Policy, Query};

/// Where the cells are, and whom to tell that they are wanted.
pub(super) struct Cells {
    pub(super) on_demand: Arc<OnDemand>,
    pub(super) demand: Arc<dyn Demand>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a cell has for a read.
pub(super) enum Found {
    /// A state with a sample that may be served.
    Sample(Arc<EntryState>),
    /// The number that the metric's author chose for the case without data, and when there was none.
    Chosen(Decimal, Timestamp),
    /// The upstream answered and had nothing: what it said.
    Nothing(String),
    /// There is nothing to serve: why.
    Failed(String),
    /// The first fetch has not ended.
    Untried(Waiting),
}

impl Cells {
    /// Reads a query's cell: it counts as read and becomes wanted. `metric` and `namespace` are for
    /// the sentence of an error.
    pub(super) fn read(&self, query: &Arc<Query>, policy: &Policy, asked: Asked<'_>) -> Found {
        let now = self.clock.tick();
        let cell = self.on_demand.get_for(query, policy, asked.namespace);
        cell.touch(now);
        let mut admission = Admission::Accepted;
        if !cell.is_scheduled() {
            // Before the refresher hears of it, so that it need not be told to hurry.
            cell.await_first(now);
            admission = self.demand.want(&cell);
        }
        let state = cell.state();
        match state.view(policy, now) {
            View::Fresh(_) | View::Servable(_) => Found::Sample(Arc::clone(&state)),
            View::Chosen(number, no_data) => Found::Chosen(number.clone(), no_data.timestamp),
            View::NoData(no_data) => Found::Nothing(no_data.cause.message().to_owned()),
            View::Waiting if admission == Admission::Full => {
                Found::Failed(message::not_queued(asked, query))
            }
            View::Waiting => {
                if cell.await_first(now) {
                    self.demand.hurry(&cell);
                }
                let text = message::not_yet_answered(asked, query, policy.first_read_timeout);
                Found::Untried(Waiting {
                    until: cell.wanted_since().after(policy.first_read_timeout),
                    late: ApiError::RuleFailed(text),
                    end: End::Fetch(cell),
                })
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
            found @ (Found::Sample(_) | Found::Chosen(..) | Found::Nothing(_)) => Some(found),
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
        let Some(cell) = self.on_demand.announced_for(query, policy, owner) else {
            return Announced::Waiting;
        };
        // In this order: a refresher that lets the query go at this moment sees the claim when it
        // looks once more.
        cell.claim(claim);
        if !cell.is_scheduled() {
            self.demand.want(&cell);
        }
        if cell.state().is_tried() { Announced::Tried } else { Announced::Waiting }
    }

    /// Takes a claim back.
    pub(super) fn release(&self, query: &Arc<Query>, claim: Claim) {
        if let Some(cell) = self.on_demand.find(query) {
            cell.release(claim, self.clock.tick());
        }
    }
}
