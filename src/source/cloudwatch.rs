//! Amazon `CloudWatch`: metric data, many queries in one call.
//!
//! plan → call → decode. [`plan`] puts queries into as few `GetMetricData` calls as the service's
//! limits allow; `call` sends one, page after page; [`decode`] takes the newest complete datapoint
//! of each series. If a call is refused as a whole, `bisect` finds who is at fault: they get the
//! error, the others their values.
//!
//! Not responsible for: when a query is asked ([`Beat`] says when that makes sense), how long a
//! rejected query is left alone, and what a definition may contain.
//!
//! # Invariants
//!
//! * All calls of one fetch end by one deadline. A fetch makes the calls of its plan and at most
//!   [`MAX_EXTRA_CALLS`] further ones.
//! * A query gets values that the service calls complete, or an error. Throttling, refused access and
//!   silence are errors of all queries of a call; they are never bisected.

mod bisect;
mod call;
mod choice;
pub mod decode;
mod explain;
mod expression;
mod labels;
mod operands;
pub mod plan;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::model::query::cloudwatch::MAX_QUERIES_PER_CALL;
use crate::model::{
    Batch, Beat, Cause, Clock, CloudWatchQuery, Dispatch, Exchange, Explanation, FetchError,
    Sample, SourceName,
};
use crate::source::Metrics;
use crate::source::aws::clients::Clients;
use crate::source::aws::upstream::{Gates, Service, Upstream};
use crate::source::recorder::Recorder;
use call::{Caller, Refusal, object};
use decode::{Answer, Moment};
use plan::Call;

/// Calls that one fetch may make beyond its plan to find out who is at fault. One culprit among 500
/// takes 18 (two for each halving); what is not found within this is looked for next time, without
/// the culprits that were.
const MAX_EXTRA_CALLS: usize = 24;

/// Added to the delay of every query: the machine's clock and the service's may differ a little,
/// and a call that comes a moment too early misses the newest bucket for a whole period.
const GUARD: Duration = Duration::from_millis(500);

/// Ids shown of an answer that nobody asked for.
const MAX_STRAYS_SHOWN: usize = 5;

type Outcome = (usize, Result<Sample, FetchError>);

/// How a query is to be handled: with others of one region, role and window, once per period.
///
/// What takes a call of its own anyway (Metrics Insights, `SEARCH`, other functions that find data,
/// groups whose ids cannot be renamed) goes alone, so that each has a place in the lane and a
/// deadline to itself: within one fetch of many the last of them would time out, and the slowest
/// would hold up the plain metrics. A query that goes alone harms nobody when it is refused, so it
/// keeps its pace then, without growing pauses.
pub(super) fn dispatch(query: &CloudWatchQuery) -> Dispatch {
    let batch = plan::is_shareable(query).then(|| {
        let CloudWatchQuery { region, role_arn, queries: _, period, delay, lookback } = query;
        let mut hasher = DefaultHasher::new();
        (region, role_arn, period, delay, lookback).hash(&mut hasher);
        Batch { key: hasher.finish(), limit: MAX_QUERIES_PER_CALL }
    });
    Dispatch {
        upstream: upstream(query).to_string().into(),
        batch,
        beat: Some(Beat { period: query.period, delay: query.delay.saturating_add(GUARD) }),
    }
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
        Self { source: source.clone(), requested, strays_told: AtomicBool::new(false) }
    }

    /// Asks queries and answers each, in order.
    pub(super) async fn fetch(
        &self,
        access: Access<'_>,
        queries: &[&CloudWatchQuery],
    ) -> Vec<Result<Sample, FetchError>> {
        let round = self.round(access, queries, None);
        let plan = plan::plan(queries, access.clock.now());
        let mut answers: Vec<Option<Result<Sample, FetchError>>> = vec![None; queries.len()];
        let found = join_all(plan.calls.into_iter().map(|call| round.settle(call))).await;
        let refused = plan.refused.into_iter().map(|(at, error)| (at, Err(error)));
        for (at, answer) in found.into_iter().flatten().chain(refused) {
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
        let round = self.round(access, &queries, Some(&recorder));
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
            // It did not get as far: there are no credentials.
            exchanges = Self::preview(access, query);
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

    fn round<'a>(
        &'a self,
        access: Access<'a>,
        queries: &'a [&'a CloudWatchQuery],
        recorder: Option<&'a Recorder>,
    ) -> Round<'a> {
        let deadline = access.gates.deadline();
        let extra = AtomicUsize::new(MAX_EXTRA_CALLS);
        Round { shared: self, access, queries, deadline, extra, recorder }
    }
}

/// One fetch.
struct Round<'a> {
    shared: &'a CloudWatch,
    access: Access<'a>,
    queries: &'a [&'a CloudWatchQuery],
    deadline: Instant,
    /// Further calls that are left.
    extra: AtomicUsize,
    recorder: Option<&'a Recorder>,
}

impl<'a> Round<'a> {
    fn moment(&self) -> Moment {
        Moment { now: self.access.clock.now(), tick: self.access.clock.tick() }
    }

    /// Sends a call.
    async fn ask(&self, call: &Call<'a>) -> Result<Answer, Refusal> {
        let upstream = Upstream {
            service: Service::CloudWatch,
            region: Arc::clone(call.region),
            role: call.role.cloned(),
        };
        let gate = self.access.gates.of(&upstream)?;
        let client = self.access.clients.cloudwatch(call.region, call.role.map(|role| &**role));
        let client = tokio::time::timeout_at(self.deadline, client).await.unwrap_or_else(|_| {
            Err(FetchError::Timeout(Cause::new("the AWS client was not ready in time")))
        })?;
        let requested = &self.shared.requested;
        let identity = self.access.clients.who(call.role.map(|role| &**role));
        Caller {
            client,
            gate,
            identity,
            deadline: self.deadline,
            requested,
            recorder: self.recorder,
        }
        .ask(call)
        .await
    }

    /// Sends a call and answers all its members, with further calls if it is refused.
    fn settle<'s>(&'s self, call: Call<'a>) -> BoxFuture<'s, Vec<Outcome>>
    where
        'a: 's,
    {
        async move {
            match self.ask(&call).await {
                Ok(answer) => {
                    self.tell_strays(&call, &answer);
                    decode::decode(&call, &answer, self.moment())
                }
                Err(Refusal::Rejected { code, said, .. }) if call.members.len() > 1 => {
                    self.divide(&call, &code, &said).await
                }
                Err(refusal) => {
                    let error = own_words(&call, refusal);
                    call.members.iter().map(|one| (one.position, Err(error.clone()))).collect()
                }
            }
        }
        .boxed()
    }

    /// Finds out who made the service refuse a call.
    async fn divide(&self, call: &Call<'a>, code: &str, said: &str) -> Vec<Outcome> {
        let named = bisect::named(call, said);
        let mut outcomes: Vec<Outcome> = named
            .iter()
            .filter_map(|(member, lines)| {
                let text = format!("{}: {code}: {lines}", object(call));
                let error = FetchError::Invalid(Cause::new(text));
                Some((call.members.get(*member)?.position, Err(error)))
            })
            .collect();
        let others: Vec<usize> = (0..call.members.len())
            .filter(|member| !named.contains_key(member))
            .map(|member| call.members[member].position)
            .collect();
        let parts = if named.is_empty() {
            let (left, right) = others.split_at(others.len() / 2);
            vec![left, right]
        } else if others.is_empty() {
            Vec::new()
        } else {
            vec![others.as_slice()]
        };
        let asked = parts.into_iter().map(|part| async move {
            let left = self.extra.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
            if left.is_ok() {
                return self.settle(plan::assemble(self.queries, part, call.window)).await;
            }
            let text = format!(
                "{}: a call with this query and others was refused, and {MAX_EXTRA_CALLS} further calls did not tell which is at fault; the search goes on with the next refresh ({code}: {said})",
                object(call)
            );
            let error = FetchError::Unavailable(Cause::new(text));
            part.iter().map(|&position| (position, Err(error.clone()))).collect()
        });
        outcomes.extend(join_all(asked).await.into_iter().flatten());
        outcomes
    }

    /// Logs results that nobody asked for, once: an upstream that sends some sends them always.
    fn tell_strays(&self, call: &Call<'_>, answer: &Answer) {
        let strays = answer.strays(call);
        if !strays.is_empty() && !self.shared.strays_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.shared.source.as_str(),
                region = &**call.region,
                count = strays.len(),
                ids = ?strays.iter().take(MAX_STRAYS_SHOWN).collect::<Vec<_>>(),
                "CloudWatch answered with ids that were not asked for; they are dropped, and further ones are not logged"
            );
        }
    }
}

/// The error of a call that is not divided, with the ids as the author wrote them.
fn own_words(call: &Call<'_>, refusal: Refusal) -> FetchError {
    match refusal {
        Refusal::Rejected { code, said, error } => {
            let said = bisect::in_authors_words(call, 0, said.trim());
            let cause = Cause::new(format!("{}: {code}: {said}", object(call)));
            let detail = error.cause().detail();
            FetchError::Invalid(match detail {
                Some(detail) => cause.with_detail(detail),
                None => cause,
            })
        }
        Refusal::Failed(error) => error,
    }
}

#[cfg(test)]
mod tests;
