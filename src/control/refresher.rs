//! The refresher: keeps wanted queries fresh, and only those.
//!
//! A query is wanted when it was read within the last minutes or is marked `keepWarm`. One task
//! owns the schedule; fetches are jobs beside it. Each source has a lane: as many fetches as the
//! source allows at once, the rest waits in line, so that waiting never counts into a call's
//! timeout and a slow source delays no other.
//!
//! Invariants: at most one fetch of a query is queued or under way; every fetch that starts ends
//! in its cell; a query nobody wants any more leaves the schedule and forgets its value, so that
//! a later reader gets a fresh first fetch instead of a leftover.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;

use crate::cache::{Admission, Demand, QueryCell};
use crate::catalog::Catalog;
use crate::control::schedule::{Id, Schedule, spread};
use crate::model::{Cause, Clock, FetchError, Query, Sample, Source, SourceName, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

mod metrics;

use metrics::RefreshMetrics;

/// How many queries may wait to enter the schedule. Ten times the scale we are built for; at
/// eight bytes each the queue is small even then.
const ADMISSION_QUEUE: usize = 100_000;

/// An unread query lapses after this time: long enough for an HPA that pauses (20 of its default
/// periods of 15 s), short enough that a deleted HPA stops costing upstream calls soon.
const LAPSE: Duration = Duration::from_mins(5);

/// Never lapse sooner than this many refresh intervals after the last read.
const LAPSE_INTERVALS: u32 = 3;

/// `keepWarm` queries that appear together start this far apart, so that 10,000 of them take ten
/// seconds and three take three milliseconds.
const WARM_UP_PACE: Duration = Duration::from_millis(1);

/// The refresher's front: what readers ask for.
pub struct Refresher {
    queue: mpsc::Sender<Arc<QueryCell>>,
    clock: Arc<dyn Clock>,
}

impl Refresher {
    /// Starts the refresher's task on `tasks`' runtime.
    pub fn start(
        sources: BTreeMap<SourceName, Arc<dyn Source>>,
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        let (queue, admissions) = mpsc::channel(ADMISSION_QUEUE);
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let metrics = RefreshMetrics::register(telemetry);
        let lanes = sources
            .into_iter()
            .map(|(name, source)| (name.clone(), Lane::new(name, source)))
            .collect();
        let engine = Engine {
            schedule: Schedule::default(),
            lanes,
            clock: Arc::clone(&clock),
            ended_sender,
            tasks: tasks.clone(),
            metrics,
        };
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("refresher", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = engine.run(admissions, ended, catalog) => {}
            }
        });
        Arc::new(Self { queue, clock })
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refresher")
    }
}

impl Demand for Refresher {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if !cell.claim_schedule(self.clock.tick()) {
            return Admission::Accepted;
        }
        if self.queue.try_send(Arc::clone(cell)).is_ok() {
            return Admission::Accepted;
        }
        cell.unschedule();
        Admission::Full
    }
}

/// One source's line of fetches.
struct Lane {
    name: SourceName,
    source: Arc<dyn Source>,
    waiting: VecDeque<(Id, Arc<QueryCell>)>,
    running: usize,
}

impl Lane {
    fn new(name: SourceName, source: Arc<dyn Source>) -> Self {
        Self { name, source, waiting: VecDeque::new(), running: 0 }
    }
}

/// A fetch that ended: whose lane it ran in, and the queries it carried.
struct Ended {
    lane: SourceName,
    ids: Vec<Id>,
}

struct Engine {
    schedule: Schedule,
    lanes: HashMap<SourceName, Lane>,
    clock: Arc<dyn Clock>,
    /// Bounded by the number of running fetches.
    ended_sender: mpsc::UnboundedSender<Ended>,
    tasks: TaskSet,
    metrics: RefreshMetrics,
}

impl Engine {
    async fn run(
        mut self,
        mut admissions: mpsc::Receiver<Arc<QueryCell>>,
        mut ended: mpsc::UnboundedReceiver<Ended>,
        catalog: Arc<Catalog>,
    ) {
        let mut changed = catalog.subscribe();
        // Whatever was there before we listened counts as a change.
        changed.mark_changed();
        loop {
            self.start_due();
            self.fill_lanes();
            self.metrics.scheduled.set(self.schedule.len().try_into().unwrap_or(i64::MAX));
            let now = self.clock.tick();
            // Without anything due the sleep only bounds the loop; the other events wake it.
            let pause = self.schedule.next_due().map_or(LAPSE, |due| due.since(now));
            tokio::select! {
                admitted = admissions.recv() => match admitted {
                    Some(cell) => self.schedule.add(cell, self.clock.tick()),
                    // Every front is gone: the process is going down.
                    None => return,
                },
                Some(end) = ended.recv() => self.note_end(&end),
                Ok(()) = changed.changed() => self.take_over(&catalog),
                () = tokio::time::sleep(pause) => {}
            }
            // Take in what else is there, so that a burst costs one round.
            while let Ok(cell) = admissions.try_recv() {
                self.schedule.add(cell, self.clock.tick());
            }
            while let Ok(end) = ended.try_recv() {
                self.note_end(&end);
            }
        }
    }

    /// Puts every query whose start is due into its lane, or lets it go.
    fn start_due(&mut self) {
        let now = self.clock.tick();
        while let Some((id, due)) = self.schedule.pop_due(now) {
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            let cell = Arc::clone(&slot.cell);
            // A fetch under way would put its answer into a cell that was just emptied, so an
            // unwanted query leaves at a start at which none is.
            if is_unwanted(&cell, now) && !slot.busy {
                self.schedule.remove(id);
                self.let_go(&cell, now);
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&cell.query().source) else {
                // Definitions are checked against the sources; a query without one is a defect,
                // and says so to its reader.
                let cause = Cause::new(format!("source {} does not exist", cell.query().source));
                cell.complete(Err(FetchError::Invalid(cause)), now, self.clock.now());
                continue;
            };
            if slot.busy {
                self.metrics.skipped(&lane.name);
                continue;
            }
            slot.busy = true;
            self.metrics.lag.observe(now.since(due).as_secs_f64());
            if cell.state().is_tried() {
                lane.waiting.push_back((id, cell));
            } else {
                // Somebody may be waiting for this one.
                lane.waiting.push_front((id, cell));
            }
        }
    }

    /// Starts fetches while the sources allow more.
    fn fill_lanes(&mut self) {
        for lane in self.lanes.values_mut() {
            while lane.running < lane.source.concurrency().max(1) && !lane.waiting.is_empty() {
                let front =
                    lane.waiting.front().map(|(_, cell)| lane.source.dispatch(cell.query()));
                let limit = front.and_then(|front| front.batch).map_or(1, |batch| batch.limit);
                let batch = limit.max(1).min(lane.waiting.len());
                let (ids, cells) = lane.waiting.drain(..batch).unzip();
                lane.running += 1;
                let job = fetch(
                    Arc::clone(&lane.source),
                    cells,
                    Arc::clone(&self.clock),
                    self.metrics.clone(),
                );
                let (sender, name) = (self.ended_sender.clone(), lane.name.clone());
                self.tasks.job("fetch", async move {
                    job.await;
                    // Fails only when the refresher is gone, and then nobody counts.
                    let _ = sender.send(Ended { lane: name, ids });
                });
            }
            self.metrics.queued(&lane.name, lane.waiting.len());
        }
    }

    fn note_end(&mut self, end: &Ended) {
        if let Some(lane) = self.lanes.get_mut(&end.lane) {
            lane.running -= 1;
        }
        for id in &end.ids {
            if let Some(slot) = self.schedule.get_mut(*id) {
                slot.busy = false;
            }
        }
    }

    /// Takes in `keepWarm` queries and new paces after definitions changed.
    fn take_over(&mut self, catalog: &Catalog) {
        let now = self.clock.tick();
        let snapshot = catalog.snapshot();
        let warm: Vec<_> = snapshot
            .cells()
            .map(|(_, cell)| cell)
            .filter(|cell| cell.keep_warm() && cell.claim_schedule(now))
            .collect();
        let window = WARM_UP_PACE * u32::try_from(warm.len()).unwrap_or(u32::MAX);
        for cell in warm {
            let start = now.after(spread(cell.query(), window.min(cell.refresh())));
            self.schedule.add(Arc::clone(cell), start);
        }
        self.schedule.reconsider(now);
    }

    /// Drops an unwanted query. A reader may want it again at this very moment, so the last read
    /// is looked at once more after the claim is given back.
    fn let_go(&mut self, cell: &Arc<QueryCell>, now: Tick) {
        cell.reset(now);
        cell.unschedule();
        self.metrics.lapsed.inc();
        if !is_unwanted(cell, now) && cell.claim_schedule(now) {
            self.schedule.add(Arc::clone(cell), now);
        }
    }
}

fn is_unwanted(cell: &QueryCell, now: Tick) -> bool {
    if cell.is_retired() {
        return true;
    }
    if cell.keep_warm() {
        return false;
    }
    let patience = LAPSE.max(cell.refresh() * LAPSE_INTERVALS);
    cell.last_read().is_none_or(|read| now.since(read) > patience)
}

/// One fetch: asks, and puts every answer into its cell. A panic of a source is a failed fetch of
/// each query it carried.
async fn fetch(
    source: Arc<dyn Source>,
    cells: Vec<Arc<QueryCell>>,
    clock: Arc<dyn Clock>,
    metrics: RefreshMetrics,
) {
    let queries: Vec<Arc<Query>> = cells.iter().map(|cell| Arc::clone(cell.query())).collect();
    let outcome = AssertUnwindSafe(source.fetch(&queries)).catch_unwind().await;
    let mut answers = if let Ok(answers) = outcome {
        answers
    } else {
        let cause = Cause::new("reading the source failed with a defect of Tidepole; see its log");
        vec![Err(FetchError::Unavailable(cause)); cells.len()]
    }
    .into_iter();
    for cell in &cells {
        let answer = answers.next().unwrap_or_else(|| {
            Err(FetchError::Malformed(Cause::new("the source gave fewer answers than questions")))
        });
        metrics.refreshed(&cell.query().source, &answer);
        settle(cell, answer, clock.as_ref());
    }
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
                query = %query.spec,
                error = error.kind(),
                cause = %error,
                detail = error.cause().detail(),
                "{what}"
            );
        }
        (_, Some(error)) => {
            tracing::debug!(source, kind, query = %query.spec, cause = %error, "still failing");
        }
        (Some(_), None) => {
            tracing::info!(source, kind, query = %query.spec, "a metric can be read again");
        }
        (None, None) => {}
    }
    // Warnings repeat with every answer, in words that may change each time: the first are news.
    for warning in &warnings {
        if warned {
            tracing::debug!(source, kind, query = %query.spec, warning, "the upstream still warns");
        } else {
            tracing::warn!(source, kind, query = %query.spec, warning, "the upstream warns");
        }
    }
}

#[cfg(test)]
mod tests;
