//! Watches the definition files and hands over what they hold.
//!
//! Responsible for: finding the files of `definitions.paths`, noticing changes (events of the file
//! system, and a slow timer for file systems without events), and keeping what worked when an edit
//! is bad. Not responsible for: conflicts between metrics, and what serving them takes ([`Apply`]).
//!
//! Invariants: what is handed over is always the whole, in path order; a hand-over follows every
//! change, and none follows a scan that found nothing new.

mod file_set;
mod scan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(in crate::control) use file_set::share;
pub use file_set::{Content, FileSet};
pub use scan::{Scan, scan};

use crate::control::ceiling::Ceiling;
use crate::definition::yaml::MAX_FILE_BYTES;
use crate::definition::{Defaults, read_bounded};
use crate::model::{Entry, Problem, SourceDirectory};
use crate::telemetry::Telemetry;

/// How long to wait after an event: editors and kubelet make several at once.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How often to look without any event: network file systems have none. Kubelet itself takes about
/// a minute to bring a changed ConfigMap into a pod.
const SLOW_TIMER: Duration = Duration::from_mins(1);

/// Folders can appear while watches are set up; after so many rounds the timer finds the rest.
const MAX_ROUNDS: usize = 4;

/// Takes over all definitions whenever they have changed.
pub trait Apply: Send + Sync + 'static {
    /// All entries in path order, and everything that is wrong with the files. Called from a
    /// thread that may block.
    fn apply(&self, entries: Vec<Arc<Entry>>, problems: Vec<Problem>);
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// The sources that definitions may name.
    pub sources: SourceDirectory,
    /// What definitions say nothing about.
    pub defaults: Defaults,
    /// Whether there is a cluster whose namespaces definitions can select.
    pub cluster: bool,
}

/// The watch. [`FileWatch::load`] first, then [`FileWatch::run`].
pub struct FileWatch {
    state: State,
    events: mpsc::Receiver<()>,
}

struct State {
    paths: Vec<PathBuf>,
    set: FileSet,
    apply: Arc<dyn Apply>,
    metrics: Metrics,
    watcher: Option<notify::RecommendedWatcher>,
    /// Watched folders and where they really are.
    watched: BTreeMap<PathBuf, PathBuf>,
    /// Problems of the last walk.
    walk_problems: Vec<Problem>,
    /// All problems of the last hand-over, to log only what is new.
    reported: Vec<Problem>,
    loaded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// A reload without a mistake in any file.
const CLEAN: &str = "clean";

/// A reload with mistakes: what is right in the files serves all the same.
const PROBLEMS: &str = "problems";

#[derive(Default)]
struct Metrics {
    files: Gauge,
    entries: Gauge,
    problems: Gauge,
    reloads: Family<Outcome, Counter>,
}

impl Metrics {
    fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self::default();
        for outcome in [CLEAN, PROBLEMS] {
            drop(metrics.reloads.get_or_create(&Outcome { outcome }));
        }
        telemetry.register(|registry| {
            registry.register("definition_files", "Definition files found", metrics.files.clone());
            registry.register(
                "definition_file_entries",
                "Metric definitions from files that serve",
                metrics.entries.clone(),
            );
            registry.register(
                "definition_file_problems",
                "Mistakes in definition files, each of them in the log and on the status page",
                metrics.problems.clone(),
            );
            registry.register(
                "definition_file_reloads",
                "Changes of definition files taken over, with or without mistakes in them",
                metrics.reloads.clone(),
            );
        });
        metrics
    }
}

impl FileWatch {
    /// A watch that has read nothing yet.
    #[must_use]
    pub fn new(settings: Settings, apply: Arc<dyn Apply>, telemetry: &Telemetry) -> Self {
        // One pending event is enough: it means "look again".
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading makes access events; following them would never end.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // Full means that a look is due anyway; closed means that the watch has ended.
            let _ = sender.try_send(());
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "no file events here; definition files are looked at every minute");
            })
            .ok();
        let Settings { paths, sources, defaults, cluster } = settings;
        let set = FileSet::new(Some(sources), defaults, cluster, Box::new(read_bounded));
        let state = State {
            paths,
            set,
            apply,
            metrics: Metrics::register(telemetry),
            watcher,
            watched: BTreeMap::new(),
            walk_problems: Vec::new(),
            reported: Vec::new(),
            loaded: false,
        };
        Self { state, events }
    }

    /// Shares the ceilings of the sources with definitions from elsewhere.
    #[must_use]
    pub fn under(mut self, ceiling: Arc<Ceiling>) -> Self {
        self.state.set = self.state.set.under(ceiling);
        self
    }

    /// Reads all files and hands them over, also when there are none. Blocks.
    pub fn load(&mut self) {
        self.state.look();
    }

    /// Follows changes until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mut state, mut events } = self;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SLOW_TIMER) => {}
                event = events.recv() => {
                    if event.is_none() {
                        // Without a watcher there is only the timer.
                        tokio::select! {
                            () = shutdown.cancelled() => return,
                            () = tokio::time::sleep(SLOW_TIMER) => {}
                        }
                    } else {
                        tokio::time::sleep(DEBOUNCE).await;
                        while events.try_recv().is_ok() {}
                    }
                }
            }
            let looked = tokio::task::spawn_blocking(move || {
                state.look();
                state
            });
            match looked.await {
                Ok(back) => state = back,
                // A defect in reading; ending here ends the process, as for every service.
                Err(error) => {
                    tracing::error!(%error, "reading definition files panicked");
                    return;
                }
            }
        }
    }
}

impl State {
    /// Walks, reads, and hands over if something changed.
    fn look(&mut self) {
        let mut found = scan(&self.paths);
        for _ in 1..MAX_ROUNDS {
            if !self.watch(&found) {
                break;
            }
            // What happened between the walk and the watch was seen by neither.
            found = scan(&self.paths);
        }
        let mut changed = !self.loaded || self.walk_problems != found.problems;
        for path in self.set.paths() {
            let is_unknown = found.unlisted.iter().any(|folder| path.starts_with(folder));
            if !found.files.contains(&path) && !is_unknown {
                changed |= self.set.update(&path, Content::Missing);
            }
        }
        for path in &found.files {
            changed |= self.set.update(path, read(path));
        }
        self.metrics.files.set(count(found.files.len()));
        self.walk_problems = found.problems;
        self.loaded = true;
        if changed {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let (entries, problems) = self.set.collect();
        let problems: Vec<Problem> = self.walk_problems.iter().cloned().chain(problems).collect();
        for problem in problems.iter().filter(|problem| !self.reported.contains(problem)) {
            tracing::warn!(%problem, "a definition is wrong; if an earlier state of it worked, that stays");
        }
        tracing::info!(
            entries = entries.len(),
            problems = problems.len(),
            "took over definition files"
        );
        self.metrics.entries.set(count(entries.len()));
        self.metrics.problems.set(count(problems.len()));
        let outcome = if problems.is_empty() { CLEAN } else { PROBLEMS };
        self.metrics.reloads.get_or_create(&Outcome { outcome }).inc();
        self.reported.clone_from(&problems);
        self.apply.apply(entries, problems);
    }

    /// Watches exactly the folders of a walk, and tells whether that set is new.
    fn watch(&mut self, found: &Scan) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeMap<PathBuf, PathBuf> = found
            .folders
            .iter()
            .filter_map(|folder| Some((folder.clone(), folder.canonicalize().ok()?)))
            .collect();
        let mut is_new = false;
        // A folder that now is another one (a swapped link) is watched anew.
        let gone: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(folder, target)| wanted.get(*folder) != Some(target))
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in gone {
            self.watched.remove(&folder);
            // It may be deleted already, and its watch with it.
            let _ = watcher.unwatch(&folder);
        }
        for (folder, target) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    is_new = true;
                    self.watched.insert(folder, target);
                }
                Err(error) => tracing::warn!(
                    folder = %folder.display(), %error,
                    "cannot watch a folder of definitions; it is looked at every minute"
                ),
            }
        }
        is_new
    }
}

/// What is at a path that a walk found.
#[must_use]
pub fn read(path: &Path) -> Content {
    match read_bounded(path, MAX_FILE_BYTES) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text),
            Err(_) => Content::Unreadable("not UTF-8 text".to_owned()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Content::Missing,
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
