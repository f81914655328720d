//! Which build this is, as a metric: `tidepole_build_info{version="..."} 1`.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// This build's version, as `Cargo.toml` says it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Adds the build's metric.
pub(crate) fn register(registry: &mut Registry) {
    let labels = [("version", VERSION)];
    registry.register("build", "Version of this program", Info::new(labels));
}
