//! Health of the process: what `/livez` and `/readyz` say.
//!
//! Ready means: every watch that was asked for has listed, the trust data for authentication was
//! looked for, the API server trusts a serving certificate that is managed, and the first refresh of `keepWarm` queries and of what HPAs refer to was tried, all
//! of it bounded. It never depends on an upstream being up: probes that depend on a shared backend
//! take all replicas out at once. Live depends on nothing outside the process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::model::{Clock, Probe, ProbeReport, ServerState, Tick};
use crate::objects::Namespaces;
use crate::telemetry::Telemetry;

/// How long readiness waits for first refreshes and for watches: a start must not hang on an upstream
/// or a permission that is missing.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Tells, whenever asked, whether something has come to rest.
type Settled = Box<dyn Fn() -> bool + Send + Sync>;

/// Tells, whenever asked, what is still waited for.
type Pending = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The health of this process.
pub struct Health {
    catalog: Arc<Catalog>,
    namespaces: Arc<Namespaces>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    started: Tick,
    definitions_loaded: AtomicBool,
    /// Whether the trust data for authentication was looked for; absent before somebody looks.
    authentication: OnceLock<Settled>,
    /// Why the serving certificate will not do yet; absent when it comes from elsewhere.
    certificates: OnceLock<Pending>,
    /// What is waited for of what HPAs refer to; absent when nobody looks at HPAs.
    hpas: OnceLock<Pending>,
    /// What is waited for of rules; absent when there are none.
    rules: OnceLock<Pending>,
    /// What is waited for of metric resources; absent when nobody looks at them.
    resources: OnceLock<Pending>,
    serving: AtomicBool,
    stopping: AtomicBool,
    warm: AtomicBool,
    hpas_warm: AtomicBool,
    rules_listed: AtomicBool,
    resources_listed: AtomicBool,
}

impl Health {
    /// A process that has just started.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        namespaces: Arc<Namespaces>,
        telemetry: Arc<Telemetry>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let started = clock.tick();
        Self {
            catalog,
            namespaces,
            telemetry,
            clock,
            started,
            definitions_loaded: AtomicBool::new(false),
            authentication: OnceLock::new(),
            certificates: OnceLock::new(),
            hpas: OnceLock::new(),
            rules: OnceLock::new(),
            resources: OnceLock::new(),
            serving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            warm: AtomicBool::new(false),
            hpas_warm: AtomicBool::new(false),
            rules_listed: AtomicBool::new(false),
            resources_listed: AtomicBool::new(false),
        }
    }

    /// The definition files have been read once.
    pub fn definitions_loaded(&self) {
        self.definitions_loaded.store(true, Ordering::SeqCst);
    }

    /// Authentication is being set up, and this tells whether its trust data was read, or is known
    /// to be absent or forbidden. The first call counts.
    pub fn authenticating(&self, settled: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.authentication.set(Box::new(settled));
    }

    /// The serving certificate is looked after, and this tells why the API server would not take it
    /// yet. No patience: such a replica would fail every read. The first call counts.
    pub fn certifying(&self, pending: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.certificates.set(Box::new(pending));
    }

    /// HPAs are being looked at, and this tells what is still waited for until everything that they
    /// refer to was tried once. The first call counts; it comes before [`Health::serving`].
    pub fn warming(&self, pending: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.hpas.set(Box::new(pending));
    }

    /// Rules are being followed, and this tells what is still waited for until the series of all of
    /// them were listed once: before that their metrics are not known. The first call counts.
    pub fn listing(&self, pending: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.rules.set(Box::new(pending));
    }

    /// Metric resources are being followed, and this tells what is still waited for until those that
    /// there are at the start are in use. The first call counts; it comes before
    /// [`Health::serving`].
    pub fn resourcing(&self, pending: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.resources.set(Box::new(pending));
    }

    /// The API listener accepts connections.
    pub fn serving(&self) {
        self.serving.store(true, Ordering::SeqCst);
    }

    /// The process is asked to stop: no new requests, please.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn patience_is_over(&self) -> bool {
        self.clock.tick().since(self.started) > START_PATIENCE
    }

    /// Whether every `keepWarm` query was tried once, or the patience is over. Stays true.
    fn is_warm(&self) -> bool {
        if self.warm.load(Ordering::Relaxed) {
            return true;
        }
        let tried = self.definitions_loaded.load(Ordering::SeqCst)
            && self.resources_pending().is_none()
            && self
                .catalog
                .snapshot()
                .cells()
                .all(|(_, cell)| !cell.keep_warm() || cell.state().is_tried());
        if tried || self.patience_is_over() {
            self.warm.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }
}

impl Health {
    /// What is waited for until everything that HPAs refer to was tried once.
    fn hpas_pending(&self) -> Option<String> {
        self.pending(&self.hpas, &self.hpas_warm)
    }

    /// What is waited for until the series of all rules were listed once.
    fn rules_pending(&self) -> Option<String> {
        self.pending(&self.rules, &self.rules_listed)
    }

    /// What is waited for until the metric resources of the start are in use.
    fn resources_pending(&self) -> Option<String> {
        self.pending(&self.resources, &self.resources_listed)
    }

    /// Nothing from the first time on that nothing is, or when the patience is over.
    fn pending(&self, what: &OnceLock<Pending>, done: &AtomicBool) -> Option<String> {
        if done.load(Ordering::Relaxed) {
            return None;
        }
        let pending = what.get()?();
        if pending.is_none() || self.patience_is_over() {
            done.store(true, Ordering::Relaxed);
            return None;
        }
        pending
    }
}

impl ServerState for Health {
    fn probe(&self, probe: Probe) -> Vec<ProbeReport> {
        let report = |name, passes: bool, failure: &str| ProbeReport {
            name,
            failure: (!passes).then(|| failure.to_owned()),
        };
        let mut reports = vec![report("ping", true, "")];
        match probe {
            Probe::Live | Probe::Health => {}
            Probe::Ready => {
                let loaded = self.definitions_loaded.load(Ordering::SeqCst);
                let watching = self.namespaces.is_ready() || self.patience_is_over();
                // No patience here: without trust data this replica would refuse every reader, so
                // the other replicas should get them. A cluster that has none counts as settled.
                let trusting = self.authentication.get().is_some_and(|settled| settled());
                reports.extend([
                    report("listener", self.serving.load(Ordering::SeqCst), "not listening yet"),
                    report("definitions", loaded, "definition files have not been read yet"),
                    report("watches", watching, "namespaces have not been listed yet"),
                    report("authentication", trusting, "trust data has not been read yet"),
                    report("warm-up", self.is_warm(), "keepWarm queries have not been tried yet"),
                    ProbeReport { name: "hpa-warm-up", failure: self.hpas_pending() },
                ]);
                if let Some(certificates) = self.certificates.get() {
                    reports.push(ProbeReport { name: "certificates", failure: certificates() });
                }
                if self.rules.get().is_some() {
                    reports.push(ProbeReport { name: "rules", failure: self.rules_pending() });
                }
                if self.resources.get().is_some() {
                    let failure = self.resources_pending();
                    reports.push(ProbeReport { name: "metric-resources", failure });
                }
                reports.extend([report(
                    "shutdown",
                    !self.stopping.load(Ordering::SeqCst),
                    "shutting down",
                )]);
            }
        }
        reports
    }

    fn metrics_text(&self) -> String {
        self.telemetry.encode()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;
    use crate::task::TaskSet;

    fn failing(health: &Health) -> Vec<&'static str> {
        let reports = health.probe(Probe::Ready);
        reports.into_iter().filter(|r| r.failure.is_some()).map(|r| r.name).collect()
    }

    #[tokio::test]
    async fn a_start_waits_for_everything_but_not_for_ever() {
        let clock = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
        let health = Health::new(
            Arc::default(),
            Arc::new(Namespaces::new(None, &tasks)),
            Arc::new(Telemetry::new()),
            Arc::clone(&clock) as _,
        );
        let all = ["listener", "definitions", "authentication", "warm-up"];
        assert_eq!(failing(&health), all);
        health.serving();
        health.definitions_loaded();
        assert_eq!(failing(&health), ["authentication"]);
        let settled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&settled);
        health.authenticating(move || seen.load(Ordering::SeqCst));
        assert_eq!(failing(&health), ["authentication"]);
        // Patience helps with everything but this: such a replica would refuse every reader.
        clock.advance(START_PATIENCE + Duration::from_millis(1));
        assert_eq!(failing(&health), ["authentication"]);
        settled.store(true, Ordering::SeqCst);
        assert!(failing(&health).is_empty());
        let waited_for = Arc::new(std::sync::Mutex::new(Some("not trusted yet".to_owned())));
        let seen = Arc::clone(&waited_for);
        health.certifying(move || seen.lock().unwrap().clone());
        assert_eq!(failing(&health), ["certificates"]);
        *waited_for.lock().unwrap() = None;
        assert!(failing(&health).is_empty());
        health.stopping();
        assert_eq!(failing(&health), ["shutdown"]);
        assert!(health.probe(Probe::Live).iter().all(|r| r.failure.is_none()));
    }

    #[tokio::test]
    async fn a_start_waits_for_metric_resources_and_not_for_ever() {
        for patient in [true, false] {
            let clock = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
            let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
            let health = Health::new(
                Arc::default(),
                Arc::new(Namespaces::new(None, &tasks)),
                Arc::new(Telemetry::new()),
                Arc::clone(&clock) as _,
            );
            let pending = Arc::new(AtomicBool::new(true));
            let seen = Arc::clone(&pending);
            health.resourcing(move || seen.load(Ordering::SeqCst).then(|| "listing".to_owned()));
            health.authenticating(|| true);
            health.definitions_loaded();
            health.serving();
            // What is to be kept warm may be among them.
            assert_eq!(failing(&health), ["warm-up", "metric-resources"]);
            if patient {
                pending.store(false, Ordering::SeqCst);
            } else {
                clock.advance(START_PATIENCE + Duration::from_millis(1));
            }
            assert!(failing(&health).is_empty());
            pending.store(true, Ordering::SeqCst);
            assert!(failing(&health).is_empty());
        }
    }

    #[tokio::test]
    async fn a_start_waits_for_what_hpas_refer_to_once_and_not_for_ever() {
        for patient in [true, false] {
            let clock = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
            let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
            let health = Health::new(
                Arc::default(),
                Arc::new(Namespaces::new(None, &tasks)),
                Arc::new(Telemetry::new()),
                Arc::clone(&clock) as _,
            );
            let pending = Arc::new(AtomicBool::new(true));
            let seen = Arc::clone(&pending);
            health
                .warming(move || seen.load(Ordering::SeqCst).then(|| "3 metrics to go".to_owned()));
            health.authenticating(|| true);
            health.definitions_loaded();
            health.serving();
            assert_eq!(failing(&health), ["hpa-warm-up"]);
            let reports = health.probe(Probe::Ready);
            assert!(reports.iter().any(|r| r.failure.as_deref() == Some("3 metrics to go")));
            if patient {
                pending.store(false, Ordering::SeqCst);
            } else {
                clock.advance(START_PATIENCE + Duration::from_millis(1));
            }
            assert!(failing(&health).is_empty());
            // An HPA that comes later is no reason to send no requests any more.
            pending.store(true, Ordering::SeqCst);
            assert!(failing(&health).is_empty());
        }
    }
}
