//! Follows prometheus-adapter's rule files, and the series that their rules find.
//!
//! Responsible for: reading the files (an edit that is wrong leaves the last good file in force),
//! listing series at the pace of the config, and replacing the registry of metrics whenever files,
//! series or the cluster's resources have changed.
//! Not responsible for: what rules mean (`rules`), how series are listed (`source`).
//!
//! Invariants: a series query that fails keeps the series it found last, and touches no other; one
//! question is asked once, however many rules ask it; of one source no more listings are under way
//! than it takes at once.

mod files;
mod listings;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::model::{Clock, Problem, ResourceDirectory, SeriesLister, SourceName, Tick};
use crate::rules::{Listed, Registry, Rule, RuleFileSettings, RuleProblem, Rules};
use files::RuleFiles;
use listings::{Due, Listings};

pub use standing::{Report, Standing};

/// How often files and the cluster's resources are looked at: a few small files, read whole, which
/// notices every kind of change, links swapped by kubelet included.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often what has to be done is looked for.
const STEP: Duration = Duration::from_millis(250);

/// While listings are under way, the registry is made anew no more often than this.
const REBUILD_EVERY: Duration = Duration::from_secs(2);

/// What a watch works with.
pub struct Parts {
    /// Who can list series, by source.
    pub listers: BTreeMap<SourceName, Arc<dyn SeriesLister>>,
    /// The cluster's resources.
    pub resources: Arc<dyn ResourceDirectory>,
    /// The definitions, whose names win.
    pub catalog: Arc<Catalog>,
    /// What is replaced.
    pub rules: Arc<Rules>,
    /// What is told of it.
    pub standing: Arc<Standing>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The watch. [`RuleWatch::load`] first, then [`RuleWatch::run`].
pub struct RuleWatch {
    parts: Parts,
    files: RuleFiles,
    listings: Listings,
    /// What the registry was made of.
    generation: u64,
    dirty: bool,
    built: Tick,
    reported: BTreeSet<RuleProblem>,
    hidden: BTreeSet<String>,
}

impl RuleWatch {
    /// A watch that has read nothing yet.
    #[must_use]
    pub fn new(settings: Vec<RuleFileSettings>, parts: Parts) -> Self {
        Self {
            files: RuleFiles::new(settings),
            listings: Listings::default(),
            generation: parts.resources.generation(),
            dirty: true,
            built: parts.clock.tick(),
            reported: BTreeSet::new(),
            hidden: BTreeSet::new(),
            parts,
        }
    }

    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// With everything that is wrong with them, as the original does: it does not start then.
    pub fn load(&mut self) -> Result<(), Vec<Problem>> {
        self.files.look();
        self.adopt();
        let problems = self.files.problems();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Follows files and series until `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut running = FuturesUnordered::new();
        self.generation = self.parts.resources.generation();
        let mut looked = self.parts.clock.tick();
        loop {
            let now = self.parts.clock.tick();
            if now.since(looked) >= LOOK_EVERY {
                looked = now;
                if !self.look().await {
                    return;
                }
            }
            let listers = &self.parts.listers;
            let at_once = |name: &SourceName| listers.get(name).map_or(1, |it| it.at_once());
            for due in self.listings.due(now, at_once) {
                running.push(self.list(due));
            }
            let idle = running.is_empty() || now.since(self.built) >= REBUILD_EVERY;
            if self.dirty && idle && !self.rebuild().await {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(STEP) => {}
                Some((key, result)) = running.next(), if !running.is_empty() => {
                    let now = self.parts.clock.tick();
                    self.dirty |= self.listings.take(&key, result, now);
                    self.parts.standing.listed(&self.listings);
                    // Readiness waits for a registry that knows of every first listing.
                    self.dirty |= self.parts.standing.pending().is_some();
                }
            }
        }
    }

    /// Looks at files and resources; false after a defect.
    async fn look(&mut self) -> bool {
        let mut files = std::mem::take(&mut self.files);
        let looked = tokio::task::spawn_blocking(move || {
            let changed = files.look();
            (files, changed)
        });
        let Ok((files, changed)) = looked.await else {
            tracing::error!("reading rule files panicked");
            return false;
        };
        self.files = files;
        if changed {
            self.adopt();
        }
        let generation = self.parts.resources.generation();
        self.dirty |= generation != self.generation;
        self.generation = generation;
        true
    }

    /// Takes over what the files say now.
    fn adopt(&mut self) {
        let now = self.parts.clock.tick();
        let wanted = self.files.in_force().flat_map(|(settings, file)| {
            let rules = file.custom.iter().chain(&file.external);
            rules.map(move |rule| (settings, rule))
        });
        self.listings.want(wanted, now);
        self.parts.standing.read(&self.files);
        self.parts.standing.listed(&self.listings);
        self.dirty = true;
    }

    /// One listing, as a future that owns what it needs.
    fn list(
        &self,
        due: Due,
    ) -> impl Future<Output = (listings::Key, listings::Answer)> + Send + 'static {
        let lister = self.parts.listers.get(&due.key.source).cloned();
        let start = self.parts.clock.now();
        let start = start.checked_sub(due.max_age).unwrap_or(start);
        async move {
            let answer = match lister {
                Some(lister) => lister.series(&due.key.series_query, start).await,
                None => Err(crate::model::FetchError::Invalid(crate::model::Cause::new(format!(
                    "source {} cannot list series",
                    due.key.source
                )))),
            };
            (due.key, answer)
        }
    }

    /// Makes the registry anew; false after a defect.
    async fn rebuild(&mut self) -> bool {
        let (mut custom, mut external) = (Vec::new(), Vec::new());
        for (settings, file) in self.files.in_force() {
            let policy = settings.policy();
            let listed = |rule: &Arc<Rule>| Listed {
                rule: Arc::clone(rule),
                source: settings.source.clone(),
                policy: Arc::clone(&policy),
                series: self.listings.series(settings, rule),
            };
            custom.extend(file.custom.iter().map(listed));
            external.extend(file.external.iter().map(listed));
        }
        let resources = Arc::clone(&self.parts.resources);
        // A hundred thousand shapes take a while: not on the thread that refreshes.
        let built =
            tokio::task::spawn_blocking(move || Registry::build(&custom, &external, &*resources));
        let Ok(registry) = built.await else {
            tracing::error!("making metrics of rules panicked");
            return false;
        };
        self.report(&registry);
        let registry = Arc::new(registry);
        self.parts.standing.built(&registry);
        self.parts.rules.replace(registry);
        self.dirty = false;
        self.built = self.parts.clock.tick();
        true
    }

    /// Logs what is new.
    fn report(&mut self, registry: &Registry) {
        let problems: BTreeSet<RuleProblem> = registry.problems().iter().cloned().collect();
        for problem in problems.difference(&self.reported) {
            tracing::warn!(
                file = %problem.place.path.display(), line = problem.place.line,
                rule = &*problem.place.field, cause = problem.message,
                "a rule, or a part of it, gives no metrics"
            );
        }
        self.reported = problems;
        let defined = self.parts.catalog.snapshot().names();
        let hidden: BTreeSet<String> = registry
            .external_names()
            .iter()
            .filter(|name| defined.binary_search(name).is_ok())
            .map(ToString::to_string)
            .collect();
        for metric in hidden.difference(&self.hidden) {
            tracing::warn!(
                metric,
                "a definition and a rule give this external metric; where the definition is seen, it wins"
            );
        }
        self.hidden = hidden;
    }
}

#[cfg(test)]
mod tests;
