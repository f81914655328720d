//! Our own metrics, logging, and traces.
//!
//! Every module that has something to count owns its metric types and registers them here under
//! the prefix `tidepole_`; labels come from enums or configured names, never from free text.
//! Not responsible for: what is counted.

pub mod build;
pub mod logging;
pub mod process;
pub mod traces;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// Media type of [`Telemetry::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of this process's metrics.
pub struct Telemetry {
    /// What modules register: prefixed with `tidepole_`.
    own: Mutex<Registry>,
    /// Names that dashboards know without a prefix: `process_*`, and those of aggregated API
    /// servers.
    shared: Mutex<Registry>,
}

impl Telemetry {
    /// An empty registry; every metric gets the prefix `tidepole_`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            own: Mutex::new(Registry::with_prefix("tidepole")),
            shared: Mutex::new(Registry::default()),
        }
    }

    /// A registry that already tells about the process and the build: what a server starts with.
    #[must_use]
    pub fn for_process() -> Self {
        let telemetry = Self::new();
        lock(&telemetry.shared)
            .register_collector(Box::new(process::ProcessCollector::from_proc()));
        telemetry.register(build::register);
        telemetry
    }

    /// Lets a module register its metrics.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut lock(&self.own))
    }

    /// Lets a module register metrics whose names others have made known, without our prefix.
    pub fn register_shared<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut lock(&self.shared))
    }

    /// All metrics in the `OpenMetrics` text format.
    ///
    /// # Panics
    /// When a registered collector reports a formatting error, which is a defect: writing to a
    /// `String` cannot fail.
    #[must_use]
    pub fn encode(&self) -> String {
        const INFALLIBLE: &str = "writing to a String cannot fail";
        let mut text = String::new();
        encode_registry(&mut text, &lock(&self.shared)).expect(INFALLIBLE);
        encode_registry(&mut text, &lock(&self.own)).expect(INFALLIBLE);
        encode_eof(&mut text).expect(INFALLIBLE);
        text
    }
}

/// A registry is only ever appended to, so one whose writer panicked is still whole.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telemetry")
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn own_metrics_are_prefixed_and_process_metrics_are_not() {
        let telemetry = Telemetry::for_process();
        let reads: Counter = telemetry.register(|registry| {
            let counter = Counter::default();
            registry.register("reads", "Reads", counter.clone());
            counter
        });
        reads.inc();
        let text = telemetry.encode();
        assert!(text.contains("\ntidepole_reads_total 1\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.contains("\ntidepole_build_info{version="), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }
}
