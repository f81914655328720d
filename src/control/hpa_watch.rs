//! What the cluster's `HorizontalPodAutoscalers` refer to is wanted before they read it.
//!
//! Responsible for: following the HPAs of all namespaces, keeping of each no more than its metric
//! references, and announcing those ([`Announce`]) as long as they exist.
//! Not responsible for: which queries a reference leads to, and when they are fetched.
//!
//! It is an optimisation: without it every read gets the same answers, only that the first read of
//! a metric waits for the upstream. So it never fails anything: a cluster that does not let us look
//! at its HPAs costs one line in the log.
//!
//! Invariants: an HPA whose references did not change costs the decoding of its event; a reference
//! is announced once for all HPAs that make it; what is announced lapses by itself unless it is
//! renewed, so nothing outlives this task; when the permission is taken away it lapses, too, and when
//! the API server is merely away it stays.

mod announcer;
mod book;
mod object;
mod standing;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::Status;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use announcer::Announcer;
use book::{Book, MAX_REFERENCES};
use object::Hpa;
use standing::Counts;
pub use standing::{Report, Standing, WatchState};
pub use usage::{Usage, Used};

use crate::model::{Announce, Clock};
use crate::task::TaskSet;

/// The pause after a first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: somebody who grants the permission sees it used within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Who uses what is told anew at most this often: with 100,000 references, the most that are kept,
/// that is some hundredths of a second's work.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a look at HPAs is for, and what it takes, said when it is not possible.
const NOT_WATCHED: &str = "HPAs cannot be watched. That is an optimisation: what is lost is that \
     their metrics are fetched before they are first read, so after a start and for a new HPA the \
     first read of a metric waits for its upstream";

/// What decides which queries a reference leads to.
pub struct Grounds {
    /// Each changes whenever references may lead to other queries: other definitions are served,
    /// rules give other metrics, the labels of a namespace changed, the pods of a target are known.
    pub changes: Vec<watch::Receiver<u64>>,
    /// Whether a start knows all that it is going to: the namespaces by whose labels definitions
    /// choose, the metrics that rules give.
    pub is_complete: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Grounds {
    /// Ends when something has changed. Only of what still can.
    async fn changed(&mut self) {
        let changes = self.changes.iter_mut().map(|changes| {
            Box::pin(async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(changes).await;
    }
}

impl std::fmt::Debug for Grounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grounds")
    }
}

/// The watch of HPAs.
pub struct HpaWatch {
    book: Book,
    announcer: Announcer,
    standing: Arc<Standing>,
    /// Who uses what, for others.
    usage: Arc<Usage>,
    /// When that is to be told anew; none while nothing has changed.
    usage_due: Option<Instant>,
    usage_told: Option<Instant>,
    grounds: Grounds,
    /// Whether HPAs have been listed, at least once.
    listed: bool,
    /// Whether we may not look: what is known may be long gone, so its claims are not renewed.
    forbidden: bool,
    /// Whether the present round of announcements was made on all grounds.
    complete: bool,
    pause: Duration,
    began: Instant,
}

impl HpaWatch {
    /// A watch that tells `announce`.
    #[must_use]
    pub fn new(
        announce: Arc<dyn Announce>,
        clock: Arc<dyn Clock>,
        grounds: Grounds,
        standing: Arc<Standing>,
    ) -> Self {
        Self {
            book: Book::new(MAX_REFERENCES),
            announcer: Announcer::new(announce, clock),
            standing,
            usage: Arc::default(),
            usage_due: None,
            usage_told: None,
            complete: (grounds.is_complete)(),
            grounds,
            listed: false,
            forbidden: false,
            pause: FIRST_PAUSE,
            began: Instant::now(),
        }
    }

    /// The same, telling who uses what.
    #[must_use]
    pub fn telling(self, usage: Arc<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// Starts watching.
    pub fn start(mut self, client: Client, tasks: &TaskSet) {
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("HPA watch", async move {
            let hpas: Api<Hpa> = Api::all(client);
            let watching = async {
                loop {
                    // In pages, from the state that a quorum agreed on: works on every API server.
                    let events = watcher(hpas.clone(), watcher::Config::default());
                    self.follow(std::pin::pin!(events)).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watching => {}
            }
        });
    }

    /// Follows the HPAs until it takes a new listing to know them.
    async fn follow(
        &mut self,
        mut events: impl Stream<Item = watcher::Result<Event<Hpa>>> + Unpin,
    ) {
        let mut failed: Option<Failed> = None;
        loop {
            tokio::select! {
                event = events.next(), if failed.is_none() => match event {
                    // A watcher does not end; another one would be made.
                    None => return,
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => failed = Some(self.fail(&error)),
                },
                () = rest(failed.as_ref()), if failed.is_some() => {
                    if let Some(Failed { list_again: true, .. }) = failed.take() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(self.announcer.next()), if !self.forbidden => {
                    self.step();
                }
                () = self.grounds.changed() => self.announcer.renew(),
                () = due(self.usage_due), if self.usage_due.is_some() => self.tell_usage(),
            }
            self.tell();
        }
    }

    fn take(&mut self, event: Event<Hpa>) {
        let touched = match event {
            Event::Init => {
                self.book.begin_listing();
                return;
            }
            Event::InitApply(hpa) => self.book.list(hpa.key(), hpa.references()),
            Event::Apply(hpa) => {
                self.up();
                self.book.put(hpa.key(), hpa.references())
            }
            Event::Delete(hpa) => {
                self.up();
                self.book.remove(&hpa.key())
            }
            Event::InitDone => {
                self.listed = true;
                if std::mem::take(&mut self.forbidden) {
                    self.announcer.renew();
                }
                self.up();
                if !self.usage.is_known() {
                    self.usage_due = Some(Instant::now());
                }
                self.book.end_listing()
            }
        };
        // Of a first listing it is told when it is whole.
        if !touched.is_empty() && self.listed && self.usage_due.is_none() {
            let now = Instant::now();
            self.usage_due = Some(self.usage_told.map_or(now, |told| now.max(told + TELL_EVERY)));
        }
        self.announcer.take(&mut self.book, touched);
        if self.book.overflows_first() {
            tracing::warn!(
                "HPAs refer to more than {MAX_REFERENCES} metrics; those of some HPAs are fetched \
                 only when they are read"
            );
        }
    }

    fn tell_usage(&mut self) {
        (self.usage_due, self.usage_told) = (None, Some(Instant::now()));
        self.usage.put(self.book.used());
    }

    fn up(&mut self) {
        self.pause = FIRST_PAUSE;
        if let WatchState::Down(_) = self.standing.enter(WatchState::Up) {
            tracing::info!(
                "HPAs can be watched again; their metrics are fetched before they are read"
            );
        }
    }

    /// Takes in a failure.
    fn fail(&mut self, error: &watcher::Error) -> Failed {
        let until = Instant::now() + self.next_pause();
        if is_ordinary(error) {
            tracing::debug!(%error, "the watch of HPAs restarts");
            return Failed { until, list_again: false };
        }
        let status = status_of(error);
        self.forbidden = status.is_some_and(|status| status.code == 403);
        if self.forbidden && self.usage.is_known() {
            self.usage.forget_certainty();
        }
        let cause = match status {
            Some(status) if self.forbidden => format!(
                "{}; grant get, list and watch on horizontalpodautoscalers.autoscaling (see \
                 ClusterRole tidepole in the manifests)",
                status.message
            ),
            Some(status) => status.message.clone(),
            None => error.to_string(),
        };
        let before = self.standing.enter(WatchState::Down(cause.clone()));
        if matches!(before, WatchState::Down(_)) {
            tracing::debug!(cause, "HPAs still cannot be watched");
        } else {
            tracing::warn!(cause, "{NOT_WATCHED}");
        }
        // A start has waited enough: nothing that is served depends on this.
        self.settle();
        // A watch that begins again where it was says nothing as long as nothing changes, so only a
        // listing tells that all is well.
        Failed { until, list_again: true }
    }

    /// How long to leave the API server alone now.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        // Replicas that lost the same API server do not come back together.
        pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }

    fn step(&mut self) {
        // Before the round: one that knew them all is what the start waits for.
        let complete = (self.grounds.is_complete)();
        if self.announcer.step(&mut self.book) {
            self.complete = complete;
        }
    }

    /// Notes how things stand.
    fn tell(&mut self) {
        let (untried, done) = (self.announcer.untried(), self.announcer.is_done());
        let (hpas, references) = (self.book.hpas(), self.book.references());
        let (known, unknown) = (self.announcer.known(), self.announcer.unknown());
        self.standing.count(Counts { hpas, references, known, unknown }, untried);
        if self.listed && self.complete && done && untried == 0 && !self.standing.is_settled() {
            let took = self.began.elapsed();
            tracing::info!(hpas, references, known, ?took, "what HPAs refer to was fetched");
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.standing.settle();
        self.announcer.stop_looking();
    }
}

impl std::fmt::Debug for HpaWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HpaWatch").field("hpas", &self.book.hpas()).finish_non_exhaustive()
    }
}

/// What follows from a failure.
struct Failed {
    /// Until when the API server is left alone.
    until: Instant,
    list_again: bool,
}

async fn rest(failed: Option<&Failed>) {
    if let Some(failed) = failed {
        tokio::time::sleep_until(failed.until).await;
    }
}

async fn due(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// The refusal of the API server that an error is.
fn status_of(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// Watches end now and then: the server closes them, and versions grow too old, those of a listing
/// in pages included.
fn is_ordinary(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_))
        || status_of(error).is_some_and(|status| status.code == 410)
}

#[cfg(test)]
mod tests;
