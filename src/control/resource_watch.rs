//! Metric resources of the cluster are served while they are there.
//!
//! Responsible for: following the resources of all kinds, reading those that have changed, keeping
//! what worked when an edit is refused, and handing over what they define ([`Apply`]) and what became
//! of each ([`Board`]).
//! Not responsible for: what a resource says (`definition::resource`), conflicts between metrics (the
//! catalog), telling people about it (`resource_status`).
//!
//! One task for each kind watches (`watching`) and one keeps them all (`store`), so that a hand-over is
//! always of all kinds. A kind that the cluster does not have is looked for now and then. While the API
//! server is away, or refuses us, what is known stays in use.
//!
//! Invariants: nothing is handed over before every kind was listed or has failed once (or a bound is
//! reached): a start shows no half of the definitions; a hand-over follows every change of a spec,
//! and none follows a change of a status alone; when the board tells of a change, it is in use.

mod object;
mod pace;
mod standing;
mod store;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use pace::Pace;
pub use standing::{KindState, Standing};
use store::{Against, Change, Collected, Store};
use watching::Watching;

use crate::control::ceiling::Ceiling;
use crate::control::declared::{Board, Declared, Verdict};
use crate::definition::Defaults;
use crate::definition::tenancy::Tenancy;
use crate::model::{DefinitionKind, Entry, Problem, SourceDirectory};
use crate::task::TaskSet;

/// Changes that wait to be taken in; watches wait when there are more.
const QUEUE: usize = 256;

/// How long the first hand-over waits for kinds that have neither been listed nor failed: as long as
/// readiness waits for anything (`runtime::readiness`).
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The least time between two listings of a kind for resources of which too little was kept.
const LIST_AGAIN_PAUSE: Duration = Duration::from_secs(5);

/// How many refusals of one hand-over the log names.
const MAX_LOGGED: usize = 10;

/// Takes over all definitions of resources whenever they have changed.
pub trait Apply: Send + Sync + 'static {
    /// All entries, oldest first, and what is wrong with resources. Called from a thread that may
    /// block.
    fn apply(&self, entries: Vec<Arc<Entry>>, problems: Vec<Problem>);
}

/// What resources are read against.
#[derive(Debug)]
pub struct Settings {
    /// The sources that definitions may name.
    pub sources: SourceDirectory,
    /// What definitions say nothing about.
    pub defaults: Defaults,
    /// What tenants may have.
    pub tenancy: Tenancy,
    /// The ceilings of the sources, which files share.
    pub ceiling: Arc<Ceiling>,
}

/// The watch of metric resources.
pub struct ResourceWatch {
    /// None while it works on another thread.
    store: Option<Store>,
    apply: Arc<dyn Apply>,
    board: Arc<Board>,
    standing: Arc<Standing>,
    ceilings: watch::Receiver<u64>,
    pace: Pace,
    /// When nothing holds the first hand-over back any more.
    patience: Instant,
    /// Kinds that are to be listed again, and when that may be.
    unread: BTreeSet<DefinitionKind>,
    list_again_at: Instant,
    list_again: BTreeMap<DefinitionKind, Arc<Notify>>,
}

impl ResourceWatch {
    /// A watch that has seen nothing yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        apply: Arc<dyn Apply>,
        board: Arc<Board>,
        standing: Arc<Standing>,
    ) -> Self {
        let Settings { sources, defaults, tenancy, ceiling } = settings;
        let ceilings = ceiling.subscribe();
        let now = Instant::now();
        Self {
            store: Some(Store::new(Against { sources, defaults, tenancy, ceiling })),
            apply,
            board,
            standing,
            ceilings,
            pace: Pace::default(),
            patience: now + START_PATIENCE,
            unread: BTreeSet::new(),
            list_again_at: now,
            list_again: DefinitionKind::RESOURCES.map(|kind| (kind, Arc::default())).into(),
        }
    }

    /// Starts watching.
    pub fn start(self, client: &Client, tasks: &TaskSet) {
        let (sender, changes) = mpsc::channel(QUEUE);
        for (kind, list_again) in &self.list_again {
            let (standing, list_again) = (Arc::clone(&self.standing), Arc::clone(list_again));
            let watching = Watching::new(*kind, sender.clone(), standing, list_again);
            let (client, shutdown) = (client.clone(), tasks.shutdown_token().clone());
            tasks.service("watch of metric resources", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = watching.run(client) => {}
                }
            });
        }
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("metric resources", self.keep(changes, shutdown));
    }

    /// Takes changes in and hands them over until `shutdown` is cancelled.
    async fn keep(mut self, mut changes: mpsc::Receiver<Change>, shutdown: CancellationToken) {
        // A first state is no change.
        self.ceilings.mark_unchanged();
        let mut look = tokio::time::interval(Duration::from_millis(50));
        let begin = Instant::now();
        loop {
            let Some(store) = &mut self.store else { return };
            let starting = !self.standing.is_settled();
            tokio::select! {
                () = shutdown.cancelled() => return,
                change = changes.recv() => {
                    // Watches outlive this but at the end of the process.
                    let Some(change) = change else { return };
                    self.pace.note(store.take(change), Instant::now());
                    while let Ok(change) = changes.try_recv() {
                        self.pace.note(store.take(change), Instant::now());
                    }
                    continue;
                }
                Ok(()) = self.ceilings.changed() => {
                    self.pace.note(store.reconsider(), Instant::now());
                    continue;
                }
                _ = look.tick(), if starting => {
                    let late = Instant::now() >= self.patience;
                    if !(late || self.standing.all_heard()) || !changes.is_empty() {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(self.pace.due()), if self.pace.is_due() && !starting => {}
                () = tokio::time::sleep_until(self.list_again_at), if !self.unread.is_empty() => {
                    self.list_again();
                    continue;
                }
            }
            if self.hand_over().await.is_none() {
                return;
            }
            if starting {
                let resources = self.board.resources().len();
                tracing::info!(resources, took = ?begin.elapsed(), "metric resources are in use");
                self.standing.settle();
            }
        }
    }

    /// Puts what has changed into use. None when that panicked.
    async fn hand_over(&mut self) -> Option<()> {
        let mut store = self.store.take()?;
        let (apply, board) = (Arc::clone(&self.apply), Arc::clone(&self.board));
        let standing = Arc::clone(&self.standing);
        let begin = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            let Collected { definitions, resources, unread, refused } = store.collect();
            standing.count(&resources, store.malformed());
            if let Some((entries, problems)) = definitions {
                let serving = entries.len();
                apply.apply(entries, problems);
                tell(&refused);
                tracing::debug!(resources = resources.len(), serving, "took over metric resources");
                standing.applied(begin.elapsed());
            }
            board.put(resources);
            (store, unread)
        });
        match work.await {
            Ok((store, unread)) => {
                self.store = Some(store);
                self.pace.done(begin.elapsed(), Instant::now());
                if self.unread.is_empty() {
                    self.list_again_at = self.list_again_at.max(Instant::now());
                }
                self.unread = unread;
                Some(())
            }
            // A defect; ending here ends the process, as for every service.
            Err(error) => {
                tracing::error!(%error, "taking over metric resources panicked");
                None
            }
        }
    }

    /// Asks for new listings where resources fit again of which too little was kept.
    fn list_again(&mut self) {
        for kind in std::mem::take(&mut self.unread) {
            if let Some(watching) = self.list_again.get(&kind) {
                watching.notify_one();
            }
        }
        self.list_again_at = Instant::now() + LIST_AGAIN_PAUSE;
    }
}

impl std::fmt::Debug for ResourceWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResourceWatch")
    }
}

/// Logs refusals that are new.
fn tell(refused: &[Arc<Declared>]) {
    for declared in refused.iter().take(MAX_LOGGED) {
        let Verdict::Refused { problems, last_good_stays } = &declared.verdict else { continue };
        let Some(problem) = problems.first() else { continue };
        tracing::warn!(%problem, more = problems.len() - 1, last_good_stays, "a metric resource is refused");
    }
    if let Some(more) = refused.len().checked_sub(MAX_LOGGED).filter(|more| *more > 0) {
        tracing::warn!(more, "further metric resources are refused; their status says why");
    }
}
