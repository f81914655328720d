//! Amazon `CloudWatch`: metric data, many queries in one call.
//!
//! plan → call → decode. [`plan`] puts queries into as few `GetMetricData` calls as the service's
//! limits allow; `call` sends one, page after page; [`decode`] takes the newest complete datapoint
//! of each series. If a call is refused as a whole, `round` finds who is at fault: they get the
//! error, the others their values. A call that is too large, or the answer to it, is made in halves;
//! one that fails otherwise is, once it has failed several times (`failing`).
//!
//! Not responsible for: when a query is asked ([`Beat`] says when that makes sense), how long a
//! rejected query is left alone, and what a definition may contain.
//!
//! # Invariants
//!
//! * All calls of one fetch end by one deadline. A fetch makes the calls of its plan, one for each
//!   set of queries that the last one left under suspicion, and a bounded number of further ones.
//! * A query gets values that the service calls complete, or an error. Throttling, refused access and
//!   silence are errors of all queries of a call; they are never bisected.

mod bisect;
mod call;
mod choice;
pub mod decode;
mod echo;
mod explain;
mod expression;
mod failing;
mod labels;
mod operands;
pub mod plan;
mod round;
pub mod skew;
mod suspects;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::model::query::cloudwatch::{MAX_DATAPOINTS_PER_CALL, MAX_QUERIES_PER_CALL};
use crate::model::{
    Batch, Beat, Cause, Clock, CloudWatchQuery, Dispatch, Exchange, Explanation, FetchError,
    Sample, SourceName,
};
use crate::source::Metrics;
use crate::source::aws::clients::Clients;
use crate::source::aws::upstream::{Gates, Service, Upstream};
use crate::source::recorder::{Recorder, unsent};
use failing::Failing;
use round::{Round, own_words};
use skew::Clocks;
use suspects::Suspects;

/// Added to the delay of every query: the machine's clock and the service's may differ a little,
/// and a call that comes a moment too early misses the newest bucket for a whole period.
const GUARD: Duration = Duration::from_millis(500);

/// How a query is to be handled: with others of one region, role and window, once per period.
///
/// What takes a call of its own anyway (Metrics Insights, `SEARCH`, other functions that find data,
/// groups whose ids cannot be renamed) goes alone, so that each has a place in the lane and a
/// deadline to itself: within one fetch of many the last of them would time out, and the slowest
/// would hold up the plain metrics. A query that goes alone harms nobody when it is refused, so it
/// keeps its pace then, without growing pauses.
pub(super) fn dispatch(query: &CloudWatchQuery) -> Dispatch {
    let batch = plan::is_shareable(query).then(|| {
        let CloudWatchQuery { region, role_arn, queries: _, period, delay, lookback, manner } =
            query;
        let key = hash(&(region, role_arn, period, delay, lookback, manner));
        Batch { key, limit: per_call(query) }
    });
    let beat = query.beat();
    Dispatch {
        upstream: upstream(query).to_string().into(),
        batch,
        beat: Some(Beat { delay: beat.delay.saturating_add(GUARD), ..beat }),
    }
}

/// How many items one call holds: 500, fewer where each has hundreds of datapoints. So a fetch is one
/// call as a rule, and no fetch has more of them than can be made before its deadline.
fn per_call(query: &CloudWatchQuery) -> usize {
    let buckets = plan::Window::most_datapoints(query);
    let fit = usize::try_from(MAX_DATAPOINTS_PER_CALL / buckets.max(1)).unwrap_or(usize::MAX);
    fit.clamp(1, MAX_QUERIES_PER_CALL)
}

/// A number for what is told apart cheaply, in this process alone: a mistake costs a call, no more.
fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn upstream(query: &CloudWatchQuery) -> Upstream {
    Upstream {
        service: Service::CloudWatch,
        region: Arc::clone(&query.region),
        role: query.role_arn.clone(),
    }
}

/// What the fetches of one source share.
#[derive(Debug)]
pub(super) struct CloudWatch {
    source: SourceName,
    requested: Counter,
    strays_told: AtomicBool,
    suspects: Suspects,
    failing: Failing,
    clocks: Clocks,
}

/// Where calls go, and the time.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    /// The clients.
    pub clients: &'a Clients,
    /// The gates.
    pub gates: &'a Gates,
    /// The time.
    pub clock: &'a dyn Clock,
}

impl CloudWatch {
    /// Nothing asked yet.
    pub(super) fn new(source: &SourceName, metrics: &Metrics) -> Self {
        let requested = metrics.cloudwatch_metrics_requested(source);
        Self {
            source: source.clone(),
            requested,
            strays_told: AtomicBool::new(false),
            suspects: Suspects::default(),
            failing: Failing::default(),
            clocks: Clocks::new(metrics.clock_ahead(source)),
        }
    }

    /// Asks queries and answers each, in order.
    pub(super) async fn fetch(
        &self,
        access: Access<'_>,
        queries: &[&CloudWatchQuery],
    ) -> Vec<Result<Sample, FetchError>> {
        let round = Round::new(self, access, queries, None);
        let plan = plan::plan(queries, access.clock.now());
        let mut answers: Vec<Option<Result<Sample, FetchError>>> = vec![None; queries.len()];
        let found = round.settle_all(plan.calls).await;
        let refused = plan.refused.into_iter().map(|(at, error)| (at, Err(error)));
        for (at, answer) in found.into_iter().chain(refused) {
            if let Some(place) = answers.get_mut(at) {
                *place = Some(answer);
            }
        }
        let forgotten = || Err(FetchError::Malformed(Cause::new("the query was not planned")));
        answers.into_iter().map(|answer| answer.unwrap_or_else(forgotten)).collect()
    }

    /// Asks one query and tells how the answer came about.
    pub(super) async fn explain(&self, access: Access<'_>, query: &CloudWatchQuery) -> Explanation {
        let recorder = Recorder::live();
        let queries = [query];
        let plan = plan::plan(&queries, access.clock.now());
        let round = Round::new(self, access, &queries, Some(&recorder));
        let (choice, outcome) = if let Some(call) = plan.calls.first() {
            match round.ask(call).await {
                Ok(answer) => explain::choice(call, &answer, round.moment()),
                Err(refusal) => (Vec::new(), Err(own_words(call, refusal))),
            }
        } else {
            let cause = Cause::new("no query of the group is returned");
            (Vec::new(), Err(FetchError::Invalid(cause)))
        };
        let mut exchanges = recorder.take();
        if exchanges.is_empty() {
            // It did not get as far: the credentials could not be had, or something before them.
            exchanges = unsent(Self::preview(access, query), &outcome);
        }
        Explanation { exchanges, choice, outcome }
    }

    /// The call that a query takes now, without making it.
    pub(super) fn preview(access: Access<'_>, query: &CloudWatchQuery) -> Vec<Exchange> {
        let plan = plan::plan(&[query], access.clock.now());
        let recorder = Recorder::dry();
        for call in &plan.calls {
            let identity = access.clients.who(call.role.map(|role| &**role));
            explain::begin(&recorder, call, &identity, None);
        }
        recorder.take()
    }
}

#[cfg(test)]
mod tests;
