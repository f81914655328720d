//! One fetch: asks, and puts every answer into its cell.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::mpsc;

use super::lane::Ran;
use super::lanes::{Departure, LaneId};
use super::metrics::SourceMetrics;
use crate::cache::QueryCell;
use crate::control::protection::Health;
use crate::control::schedule::Id;
use crate::model::{Cause, Clock, FetchError, Query, Sample, Tick};
use crate::telemetry::traces::Span;

/// What an answer says about its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The upstream took the question. It may have had no datapoint.
    Answered,
    /// The question is wrong.
    Refused,
    /// Nothing: the call failed.
    Failed,
}

impl Verdict {
    fn of(answer: &Result<Sample, FetchError>) -> Self {
        match answer {
            Ok(_) | Err(FetchError::NoData(_)) => Self::Answered,
            Err(FetchError::Invalid(_)) => Self::Refused,
            Err(
                FetchError::Partial(_)
                | FetchError::Denied(_)
                | FetchError::Throttled(_)
                | FetchError::Timeout(_)
                | FetchError::Unavailable(_)
                | FetchError::Malformed(_),
            ) => Self::Failed,
        }
    }
}

/// A fetch that ended: whose lane it ran in, and the queries it carried.
pub(super) struct Ended {
    pub(super) lane: LaneId,
    pub(super) ran: Ran,
    pub(super) started: Tick,
    pub(super) health: Health,
    pub(super) verdicts: Vec<(Id, Verdict)>,
}

/// Tells of the end of a fetch however it ends: a place that is never given back would close its
/// lane bit by bit.
struct Report {
    ended: Option<Ended>,
    sender: mpsc::UnboundedSender<Ended>,
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Fails only when the refresher is gone, and then nobody counts.
            let _ = self.sender.send(ended);
        }
    }
}

/// Runs a fetch whose queries' cells are `cells`, in order. A panic of the source is a failed fetch
/// of each query that it carried, and an answer that is missing one of its query.
pub(super) fn run(
    departure: Departure,
    cells: Vec<Arc<QueryCell>>,
    clock: Arc<dyn Clock>,
    sender: mpsc::UnboundedSender<Ended>,
) -> impl Future<Output = ()> + Send {
    let Departure { lane, source, metrics, ids, ran, started } = departure;
    let verdicts = ids.into_iter().map(|id| (id, Verdict::Failed)).collect();
    let health = Health::Down(Cause::new("the fetch was given up"));
    let ended = Ended { lane, ran, started, health, verdicts };
    // Made before the task runs: one that is dropped before its first step tells of its end too.
    let mut report = Report { ended: Some(ended), sender };
    async move {
        let queries: Vec<Arc<Query>> = cells.iter().map(|cell| Arc::clone(cell.query())).collect();
        // Inside of the block, because a source may panic before it gives a future, too.
        let span = Span::batch(metrics.source(), queries.len());
        let asked = AssertUnwindSafe(span.around(async { source.fetch(&queries).await }));
        let mut answers = if let Ok(answers) = asked.catch_unwind().await {
            answers
        } else {
            let cause =
                Cause::new("reading the source failed with a defect of Tidepole; see its log");
            vec![Err(FetchError::Unavailable(cause)); cells.len()]
        };
        let failed = answers.iter().find_map(|answer| answer.as_ref().err()).map(FetchError::kind);
        span.end(if failed.is_some() { "failed" } else { "ok" }, failed);
        let health = Health::of(&answers);
        let mut answers = answers.drain(..);
        let ended = report.ended.as_mut().expect("it is sent when the report goes");
        ended.health = health;
        let mut tally = Tally::default();
        for (cell, (_, verdict)) in cells.iter().zip(&mut ended.verdicts) {
            let answer = answers.next().unwrap_or_else(|| {
                let cause = Cause::new("the source gave fewer answers than questions");
                Err(FetchError::Malformed(cause))
            });
            let answer = cell.within_bound(answer);
            *verdict = Verdict::of(&answer);
            tally.note(answer.as_ref().map_or_else(FetchError::kind, |_| "ok"));
            settle(cell, answer, clock.as_ref());
        }
        tally.count_into(&metrics);
    }
}

/// Outcomes of one fetch; there are few kinds, and mostly one.
#[derive(Default)]
struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    fn note(&mut self, outcome: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => self.0.push((outcome, 1)),
        }
    }

    fn count_into(self, metrics: &SourceMetrics) {
        for (outcome, count) in self.0 {
            metrics.refreshed(outcome, count);
        }
    }
}

/// Puts the error of a query into its cell that was due and not asked. Its upstream's breaker is in
/// the log already.
pub(super) fn not_asked(cell: &QueryCell, error: FetchError, clock: &dyn Clock) {
    let query = cell.query();
    let (source, kind) = (query.source.as_str(), query.spec.kind());
    tracing::debug!(
        source,
        kind,
        definition = cell.definition(),
        query = query.spec.to_string(),
        cause = error.to_string(),
        "not asked"
    );
    cell.complete(Err(error), clock.tick(), clock.now());
}

/// Puts an answer into its cell and logs it when it changes what we know.
fn settle(cell: &QueryCell, answer: Result<Sample, FetchError>, clock: &dyn Clock) {
    let error = answer.as_ref().err().cloned();
    let warnings = answer.as_ref().map(|sample| sample.warnings.clone()).unwrap_or_default();
    let (before, _) = cell.complete(answer, clock.tick(), clock.now());
    let warned = before.last_sample().is_some_and(|sample| !sample.warnings.is_empty());
    let query = cell.query();
    let (source, kind) = (query.source.as_str(), query.spec.kind());
    match (before.trouble(), error) {
        (known, Some(error)) if known.is_none_or(|(text, _)| text != error.cause().message()) => {
            let what = match known {
                None => "a metric cannot be read",
                Some(_) => "a metric still cannot be read, for another reason",
            };
            tracing::warn!(
                source,
                kind,
                definition = cell.definition(),
                query = query.spec.to_string(),
                error = error.kind(),
                cause = error.to_string(),
                detail = error.cause().detail(),
                "{what}"
            );
        }
        (_, Some(error)) => {
            tracing::debug!(
                source,
                kind,
                definition = cell.definition(),
                query = query.spec.to_string(),
                cause = error.to_string(),
                "still failing"
            );
        }
        (Some(_), None) => {
            let (definition, query) = (cell.definition(), query.spec.to_string());
            tracing::info!(source, kind, definition, query, "a metric can be read again");
        }
        (None, None) => {}
    }
    // Warnings repeat with every answer, in words that may change each time: the first are news.
    for warning in &warnings {
        let (definition, query) = (cell.definition(), query.spec.to_string());
        if warned {
            tracing::debug!(source, kind, definition, query, warning, "the upstream still warns");
        } else {
            tracing::warn!(source, kind, definition, query, warning, "the upstream warns");
        }
    }
}
