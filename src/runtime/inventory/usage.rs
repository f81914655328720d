//! What reading upstreams takes: requests and metrics, for upstreams that bill them.
//!
//! Counted per definition, from the number of fetches that carried its query; the sources count for
//! themselves what they were answered. The two differ: here a call that several definitions share
//! counts for each of them, one that failed counts as well, a metric that several ask for in one call
//! counts for each, further pages of an answer count nothing, and each SELECT, SEARCH and the like
//! counts as one metric, however many it found.

use std::sync::Arc;

use crate::catalog::Served;
use crate::model::{DefinitionId, Query, QuerySpec, QueryTemplate};

/// What so many fetches of a query took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Requests that carried the query, those that carried others too included. A fetch of SQS
    /// queues is a request for each of them.
    pub(super) requests: u64,
    /// `CloudWatch` metrics requested, at least (see the module); none of other upstreams.
    pub(super) metrics: Option<u64>,
}

impl Reads {
    /// Those of a query that was fetched so often.
    pub(super) fn of(query: &Query, fetches: u64) -> Self {
        match &query.spec {
            QuerySpec::CloudWatch(asked) => Self {
                requests: fetches,
                metrics: Some(fetches.saturating_mul(asked.metrics_requested())),
            },
            QuerySpec::Sqs(asked) => {
                let queues = u64::try_from(asked.queues.len()).unwrap_or(u64::MAX);
                Self { requests: fetches.saturating_mul(queues), metrics: None }
            }
            QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => {
                Self { requests: fetches, metrics: None }
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        let sum = |a: u64, b: u64| a.saturating_add(b);
        self.metrics = match (self.metrics, other.metrics) {
            (Some(a), Some(b)) => Some(sum(a, b)),
            (a, b) => a.or(b),
        };
    }
}

/// The reads of all definitions of upstreams that bill by request or metric.
#[derive(Debug)]
pub(super) struct Usage<'a> {
    /// By definition, in its order.
    pub(super) named: Vec<(&'a DefinitionId, Reads)>,
    /// The sum of those that are too many to be named.
    pub(super) others: Option<Reads>,
}

impl<'a> Usage<'a> {
    /// Counts, and names at most `limit` definitions.
    pub(super) fn of(served: impl Iterator<Item = &'a Arc<Served>>, limit: usize) -> Self {
        let mut named: Vec<_> = served.filter_map(|served| billed(served)).collect();
        let mut others = None;
        for (_, reads) in cut(&mut named, limit) {
            others.get_or_insert_with(Reads::default).add(reads);
        }
        Self { named, others }
    }
}

/// Leaves at most `limit` of what definitions have, the first by kind, namespace and name, so that
/// it is the same ones from look to look, in this order; gives the others.
pub(super) fn cut<'a, T>(
    named: &mut Vec<(&'a DefinitionId, T)>,
    limit: usize,
) -> Vec<(&'a DefinitionId, T)> {
    let mut others = Vec::new();
    if named.len() > limit {
        named.select_nth_unstable_by_key(limit, |(id, _)| *id);
        others = named.split_off(limit);
    }
    named.sort_unstable_by_key(|(id, _)| *id);
    others
}

fn billed(served: &Served) -> Option<(&DefinitionId, Reads)> {
    let QueryTemplate::Fixed(query) = &served.entry.query else { return None };
    match query.spec {
        QuerySpec::CloudWatch(_) | QuerySpec::Sqs(_) => {
            let fetches = served.cell.as_ref().map_or(0, |cell| cell.fetches());
            Some((&served.entry.id, Reads::of(query, fetches)))
        }
        QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => None,
    }
}
