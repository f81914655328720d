//! Our own metrics, and logging.
//!
//! Every module that has something to count owns its metric types and registers them here under
//! the prefix `tidepole_`; labels come from enums or configured names, never from free text.
//! Not responsible for: what is counted.

use std::fmt;
use std::sync::Mutex;

use prometheus_client::registry::Registry;

/// The registry of this process's metrics.
pub struct Telemetry {
    registry: Mutex<Registry>,
}

impl Telemetry {
    /// An empty registry; every metric gets the prefix `tidepole_`.
    #[must_use]
    pub fn new() -> Self {
        Self { registry: Mutex::new(Registry::with_prefix("tidepole")) }
    }

    /// Lets a module register its metrics.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// All metrics in the `OpenMetrics` text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a String cannot fail");
        text
    }
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
