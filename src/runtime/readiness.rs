//! Health of the process: what `/livez` and `/readyz` say.
//!
//! Ready means: every watch that was asked for has listed, the trust data for authentication was
//! looked for, and the first refresh of `keepWarm` queries was tried, all of it bounded. It never
//! depends on an upstream being up: probes that depend on a shared backend take all replicas out
//! at once. Live depends on nothing outside the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::model::{Clock, Probe, ProbeReport, ServerState, Tick};
use crate::objects::Namespaces;
use crate::telemetry::Telemetry;

/// How long readiness waits for the first refresh of `keepWarm` queries and for watches: a start
/// must not hang on an upstream or a permission that is missing.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The health of this process.
pub struct Health {
    catalog: Arc<Catalog>,
    namespaces: Arc<Namespaces>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    started: Tick,
    definitions_loaded: AtomicBool,
    serving: AtomicBool,
    stopping: AtomicBool,
    warm: AtomicBool,
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
            serving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            warm: AtomicBool::new(false),
        }
    }

    /// The definition files have been read once.
    pub fn definitions_loaded(&self) {
        self.definitions_loaded.store(true, Ordering::SeqCst);
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
                reports.extend([
                    report("listener", self.serving.load(Ordering::SeqCst), "not listening yet"),
                    report("definitions", loaded, "definition files have not been read yet"),
                    report("watches", watching, "namespaces have not been listed yet"),
                    report("warm-up", self.is_warm(), "keepWarm queries have not been tried yet"),
                    report("shutdown", !self.stopping.load(Ordering::SeqCst), "shutting down"),
                ]);
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
