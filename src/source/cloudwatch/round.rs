//! One fetch: sends the calls of a plan, and finds out who made the service refuse one.
//!
//! The service refuses all of a request for one bad query. Those that it names are at fault, and the
//! others are asked again ([`bisect`]). Where it names nobody, the call is cut in halves, both are
//! asked, and so on, within [`MAX_EXTRA_CALLS`] and the fetch's deadline; what is not found by then is
//! remembered ([`suspects`](super::suspects)), and the next fetch goes on there.
//!
//! A call that is too large, or gets too large an answer, is made in halves in the same way.
//!
//! When both halves of a call are refused in the same words, somebody on the way may refuse
//! everything: a query of each half is asked alone. If those are refused in the same words, too, the
//! search ends: nobody is at fault, and nobody is to be set apart.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use tokio::time::Instant;

use crate::model::{Cause, CloudWatchQuery, FetchError, Sample};
use crate::source::aws::clients::As;
use crate::source::aws::upstream::{Service, Upstream};
use crate::source::cloudwatch::call::{Caller, Refusal, object};
use crate::source::cloudwatch::decode::{self, Answer, Moment};
use crate::source::cloudwatch::plan::{self, Call, Window};
use crate::source::cloudwatch::{Access, CloudWatch, bisect};
use crate::source::recorder::Recorder;

/// Calls that one fetch may make beyond its plan to find out who is at fault. One culprit among 500
/// takes 18 (two for each halving), and two more look whether there is one.
pub(super) const MAX_EXTRA_CALLS: usize = 24;

/// Ids shown of an answer that nobody asked for.
const MAX_STRAYS_SHOWN: usize = 5;

/// The place of a query among those of a fetch, and its answer.
pub(super) type Outcome = (usize, Result<Sample, FetchError>);

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// One of the plan.
    Whole,
    /// A part of one that was refused.
    Part,
}

/// A call that was made, or for which there were no calls left.
struct Asked<'a> {
    call: Call<'a>,
    answer: Option<Result<Answer, Refusal>>,
    /// Words of the refusal that led to it, if it is a part.
    because: String,
}

impl Asked<'_> {
    /// The words of a refusal that names nobody.
    fn refused_without_names(&self) -> Option<(&str, &str)> {
        match &self.answer {
            Some(Err(Refusal::Rejected { code, said, .. }))
                if bisect::named(&self.call, said).is_empty() =>
            {
                Some((code, said))
            }
            _ => None,
        }
    }
}

/// One fetch.
pub(super) struct Round<'a> {
    shared: &'a CloudWatch,
    access: Access<'a>,
    queries: &'a [&'a CloudWatchQuery],
    deadline: Instant,
    /// Further calls that are left.
    extra: AtomicUsize,
    /// Sets of queries of which one is at fault, probably.
    undecided: Mutex<Vec<Vec<usize>>>,
    recorder: Option<&'a Recorder>,
}

impl<'a> Round<'a> {
    /// A fetch that starts now.
    pub(super) fn new(
        shared: &'a CloudWatch,
        access: Access<'a>,
        queries: &'a [&'a CloudWatchQuery],
        recorder: Option<&'a Recorder>,
    ) -> Self {
        let deadline = access.gates.deadline();
        let extra = AtomicUsize::new(MAX_EXTRA_CALLS);
        Self { shared, access, queries, deadline, extra, undecided: Mutex::default(), recorder }
    }

    /// The time.
    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.access.clock.now(), tick: self.access.clock.tick() }
    }

    /// Sends all calls of a plan and answers all their members.
    pub(super) async fn settle_all(&self, calls: Vec<Call<'a>>) -> Vec<Outcome> {
        let mut parts: Vec<(Call<'a>, Stage)> = Vec::with_capacity(calls.len());
        for call in calls {
            let members = positions(&call);
            let (others, sets) = self.shared.suspects.divide(self.queries, members);
            let whole = |call| {
                let calls = self.shared.failing.apart(call, self.queries);
                calls.into_iter().map(|call| (call, Stage::Whole))
            };
            if sets.is_empty() {
                parts.extend(whole(call));
                continue;
            }
            let assemble = |members: &[usize]| plan::assemble(self.queries, members, call.window);
            parts.extend(sets.iter().map(|set| (assemble(set), Stage::Part)));
            if !others.is_empty() {
                parts.extend(whole(assemble(&others)));
            }
        }
        let settled = parts.into_iter().map(|(call, stage)| async move {
            let answer = Some(self.ask(&call).await);
            self.resolve(Asked { call, answer, because: String::new() }, stage).await
        });
        let outcomes = join_all(settled).await.into_iter().flatten().collect();
        let undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.suspects.note(self.queries, &undecided);
        outcomes
    }

    /// Sends a call.
    pub(super) async fn ask(&self, call: &Call<'a>) -> Result<Answer, Refusal> {
        let upstream = Upstream {
            service: Service::CloudWatch,
            region: Arc::clone(call.region),
            role: call.role.cloned(),
        };
        let client = self.access.clients.cloudwatch(call.region, call.role.map(|role| &**role));
        let ready = tokio::time::timeout_at(self.deadline, client).await.unwrap_or_else(|_| {
            Err(FetchError::Timeout(Cause::new("the AWS client was not ready in time")))
        })?;
        let As { client, identity, address } = ready;
        // Who has no credentials takes no place among the upstreams.
        let gate = self.access.gates.of(&upstream)?;
        let requested = &self.shared.requested;
        let (deadline, recorder) = (self.deadline, self.recorder);
        let caller = Caller { client, gate, identity, address, deadline, requested, recorder };
        let outcome = caller.ask(call, self.access.clock).await;
        self.shared.failing.note(call, &outcome);
        if let Some(skew) = outcome.as_ref().ok().and_then(Answer::skew) {
            self.shared.clocks.tell(&self.shared.source, upstream, skew);
        }
        outcome
    }

    /// Sends a further call for some queries, while there are any left.
    async fn ask_part(&self, part: &[usize], window: Window, because: &str) -> Asked<'a> {
        let call = plan::assemble(self.queries, part, window);
        let less = |left: usize| left.checked_sub(1);
        let left = self.extra.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let answer = if left.is_ok() { Some(self.ask(&call).await) } else { None };
        Asked { call, answer, because: because.to_owned() }
    }

    /// Answers all members of a call, with further calls if it was refused.
    fn resolve<'s>(&'s self, asked: Asked<'a>, stage: Stage) -> BoxFuture<'s, Vec<Outcome>>
    where
        'a: 's,
    {
        async move {
            let Asked { call, answer, because } = asked;
            match answer {
                None => {
                    let why =
                        format!("{MAX_EXTRA_CALLS} further calls did not tell which is at fault");
                    self.leave(&call, &undecided(&call, &why, &because))
                }
                Some(Ok(answer)) => {
                    self.tell_strays(&call, &answer);
                    decode::decode(&call, &answer, self.moment())
                }
                Some(Err(Refusal::Rejected { code, said, .. })) if call.members.len() > 1 => {
                    self.divide(&call, &code, &said, stage).await
                }
                Some(Err(Refusal::TooLarge(error))) if call.members.len() > 1 => {
                    self.shrink(&call, stage, &error).await
                }
                Some(Err(refusal @ (Refusal::Rejected { .. } | Refusal::TooLarge(_)))) => {
                    all(&call, &own_words(&call, refusal))
                }
                Some(Err(Refusal::Failed(error))) if stage == Stage::Part => {
                    let late = matches!(error, FetchError::Timeout(_));
                    if late && Instant::now() >= self.deadline {
                        let why = "the time was over before it was known which is at fault";
                        return self.leave(&call, &undecided(&call, why, &because));
                    }
                    self.leave(&call, &error)
                }
                Some(Err(Refusal::Failed(error))) => all(&call, &error),
            }
        }
        .boxed()
    }

    /// Gives up a search for now.
    fn leave(&self, call: &Call<'_>, error: &FetchError) -> Vec<Outcome> {
        let mut undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        undecided.push(positions(call));
        all(call, error)
    }

    /// Makes a call in halves that is too large.
    async fn shrink(&self, call: &Call<'a>, stage: Stage, error: &FetchError) -> Vec<Outcome> {
        let because = format!(" ({})", error.cause());
        let members = positions(call);
        let (left, right) = members.split_at(members.len() / 2);
        let answer = async |part| {
            self.resolve(self.ask_part(part, call.window, &because).await, stage).await
        };
        let (left, right) = join(answer(left), answer(right)).await;
        [left, right].concat()
    }

    /// Finds out who made the service refuse a call.
    async fn divide(&self, call: &Call<'a>, code: &str, said: &str, stage: Stage) -> Vec<Outcome> {
        let because = format!(" ({code}: {})", said.trim());
        let named = bisect::named(call, said);
        if named.is_empty() {
            return self.halve(&positions(call), call.window, stage, &because).await;
        }
        let mut outcomes = Vec::with_capacity(call.members.len());
        let mut others = Vec::with_capacity(call.members.len());
        for (at, member) in call.members.iter().enumerate() {
            match named.get(&at) {
                Some(lines) => {
                    let text = format!("{}: {code}: {lines}", object(call));
                    let error = FetchError::Invalid(Cause::new(text));
                    outcomes.push((member.position, Err(error)));
                }
                None => others.push(member.position),
            }
        }
        if !others.is_empty() {
            let asked = self.ask_part(&others, call.window, &because).await;
            outcomes.extend(self.resolve(asked, stage).await);
        }
        outcomes
    }

    /// Asks both halves of some queries that were refused together, without names.
    async fn halve(
        &self,
        members: &[usize],
        window: Window,
        stage: Stage,
        because: &str,
    ) -> Vec<Outcome> {
        let (left, right) = members.split_at(members.len() / 2);
        let ask = |part| self.ask_part(part, window, because);
        let (left, right) = join(ask(left), ask(right)).await;
        let same = |one: &Asked<'_>, other: &Asked<'_>| {
            let words = one.refused_without_names();
            words.is_some() && words == other.refused_without_names()
        };
        if stage == Stage::Whole && same(&left, &right) {
            let (one, other) = join(self.sample(&left), self.sample(&right)).await;
            if same(one.as_ref().unwrap_or(&left), other.as_ref().unwrap_or(&right))
                && same(one.as_ref().unwrap_or(&left), &left)
            {
                let error = refused_as_a_whole(&left);
                return [all(&left.call, &error), all(&right.call, &error)].concat();
            }
        }
        let resolve = |asked| self.resolve(asked, Stage::Part);
        let (left, right) = join(resolve(left), resolve(right)).await;
        [left, right].concat()
    }

    /// Asks the first query of a call alone; none if it is alone there.
    async fn sample(&self, asked: &Asked<'a>) -> Option<Asked<'a>> {
        match asked.call.members.as_slice() {
            [first, _, ..] => {
                let window = asked.call.window;
                Some(self.ask_part(&[first.position], window, &asked.because).await)
            }
            _ => None,
        }
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

fn positions(call: &Call<'_>) -> Vec<usize> {
    call.members.iter().map(|member| member.position).collect()
}

/// One error for all members of a call.
fn all(call: &Call<'_>, error: &FetchError) -> Vec<Outcome> {
    call.members.iter().map(|member| (member.position, Err(error.clone()))).collect()
}

/// The error of queries one of which is at fault.
fn undecided(call: &Call<'_>, why: &str, because: &str) -> FetchError {
    let text = format!(
        "{}: a call with this query and others was refused, and {why}; the search goes on with the next refresh{because}",
        object(call)
    );
    FetchError::Unavailable(Cause::new(text))
}

/// The error of queries none of which is at fault.
fn refused_as_a_whole(asked: &Asked<'_>) -> FetchError {
    let (code, said) = asked.refused_without_names().unwrap_or_default();
    let text = format!(
        "{}: calls are refused as a whole, in the same words for whatever is asked, so this query is not at fault; look at what stands in between, and at the account ({code}: {})",
        object(&asked.call),
        said.trim()
    );
    FetchError::Unavailable(Cause::new(text))
}

/// The error of a call that is not divided, with the ids as the author wrote them.
pub(super) fn own_words(call: &Call<'_>, refusal: Refusal) -> FetchError {
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
        Refusal::TooLarge(error) | Refusal::Failed(error) => error,
    }
}
