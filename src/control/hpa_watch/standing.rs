//! How the watch of HPAs stands, for readiness, the metrics and the status page.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Telemetry;

/// Whether HPAs are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// They have not been listed yet.
    #[default]
    Starting,
    /// They are.
    Up,
    /// They are not, for this reason.
    Down(String),
}

/// The watch at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether HPAs are seen.
    pub state: WatchState,
    /// HPAs that refer to external, Pods or Object metrics.
    pub hpas: u64,
    /// Different references that they make.
    pub references: u64,
    /// Of these, those that a definition serves.
    pub known: u64,
    /// Of these, those that nothing here serves, as far as was looked.
    pub unknown: u64,
}

/// The numbers of a [`Report`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) hpas: usize,
    pub(super) references: usize,
    pub(super) known: usize,
    pub(super) unknown: usize,
}

/// Where the watch notes how it stands, and others look.
#[derive(Debug, Default)]
pub struct Standing {
    state: Mutex<WatchState>,
    /// Whether everything that HPAs referred to at the start was tried once, or cannot be known.
    settled: AtomicBool,
    untried: AtomicUsize,
    hpas: Gauge,
    references: Gauge,
    known: Gauge,
    unknown: Gauge,
    up: Gauge,
}

impl Standing {
    /// A watch that has not begun.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Arc<Self> {
        let standing = Self::default();
        telemetry.register(|registry| {
            for (name, help, gauge) in [
                (
                    "hpa_watch_hpas",
                    "HPAs that refer to external, Pods or Object metrics",
                    &standing.hpas,
                ),
                (
                    "hpa_watch_references",
                    "Different metric references (metric, namespace, selector) that HPAs make",
                    &standing.references,
                ),
                (
                    "hpa_watch_known",
                    "References of HPAs to metrics that are served here",
                    &standing.known,
                ),
                (
                    "hpa_watch_unknown",
                    "References of HPAs to metrics that nothing here serves in their namespace",
                    &standing.unknown,
                ),
                (
                    "hpa_watch_up",
                    "Whether the HPAs of the cluster are seen; without, first reads wait",
                    &standing.up,
                ),
            ] {
                registry.register(name, help, gauge.clone());
            }
        });
        Arc::new(standing)
    }

    /// The watch at this moment.
    #[must_use]
    pub fn report(&self) -> Report {
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        Report {
            state: self.state().clone(),
            hpas: count(&self.hpas),
            references: count(&self.references),
            known: count(&self.known),
            unknown: count(&self.unknown),
        }
    }

    /// Why the start is not over yet for what HPAs refer to; none once it is. Without a look at the
    /// HPAs it is over, too.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        if self.settled.load(Ordering::SeqCst) {
            return None;
        }
        Some(match (&*self.state(), self.untried.load(Ordering::SeqCst)) {
            (WatchState::Starting, _) => "HPAs have not been listed yet".to_owned(),
            (_, 0) => "metrics that HPAs refer to are being looked up".to_owned(),
            (_, untried) => {
                format!("{untried} metrics that HPAs refer to have not been tried yet")
            }
        })
    }

    /// Enters a state; gives the one before.
    pub(super) fn enter(&self, state: WatchState) -> WatchState {
        self.up.set(i64::from(state == WatchState::Up));
        std::mem::replace(&mut *self.state(), state)
    }

    /// The start is over.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    pub(super) fn count(&self, counts: Counts, untried: usize) {
        let Counts { hpas, references, known, unknown } = counts;
        for (gauge, count) in [
            (&self.hpas, hpas),
            (&self.references, references),
            (&self.known, known),
            (&self.unknown, unknown),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.untried.store(untried, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
