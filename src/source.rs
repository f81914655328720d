//! Sources: everything about reading an upstream.
//!
//! Responsible for: connections, credentials, TLS, calls and their bounds, decoding foreign answers
//! into [`model::Sample`], and turning every way in which that can fail into a [`FetchError`] that
//! says what to do. Not responsible for: when something is read, how long a value may be served,
//! what a value means (scale, clamp), who may name a source.
//!
//! # Shape
//!
//! Settings and data are apart from I/O: [`Settings`] are plain values that the server config fills
//! in and that know their own rules, decoders are pure functions of bytes, and one [`Source`] per kind does the calls.
//!
//! | kind | module | an answer is |
//! |---|---|---|
//! | Prometheus | [`prometheus`] | one instant query |
//! | AWS | [`aws`] (identity, regions, error classes), [`sqs`] (queue depth), [`cloudwatch`] (metrics) | one call per queue; one call for up to 500 metrics |
//! | simulated | [`simulated`] | a pure function of the clock |
//!
//! # Invariants
//!
//! * Every upstream call goes through one gate: a concurrency bound, a deadline that includes
//!   the wait for a slot, and the metrics of [`Metrics`].
//! * An answer is read up to a size, decoded up to a number of series, and is a number or an error:
//!   NaN and infinities never become values.
//! * No secret, and no URL with credentials, reaches an error, a log line, a label or `Debug`.
//! * A source only calls the addresses in its own settings: redirects are not followed, and queue
//!   URLs that an answer contains are names, not addresses.
//!
//! # Adding a kind
//!
//! A `Settings` variant with its checks, a module with the `Source`, a line in [`build`], a
//! fake in `tests/support/upstream`, and a row in the contract test.

pub mod aws;
pub mod cloudwatch;
mod gate;
mod metrics;
pub mod prometheus;
mod recorder;
mod secrets;
pub mod settings;
pub mod simulated;
pub mod sqs;
mod tls;
mod watched;

#[cfg(test)]
mod contract;
#[cfg(test)]
#[path = "../tests/support/upstream.rs"]
pub(crate) mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

pub use aws::AwsSettings;
pub use metrics::Metrics;
pub use prometheus::PrometheusSettings;
pub use settings::{BreakerSettings, Settings, SettingsProblem};

use crate::model::{self, Clock, FetchError, Query, SeriesLister, Source, SourceKind, SourceName};

/// Why a source could not be built. All of these need a person.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The settings contradict themselves.
    #[error("source {name}: {problem}")]
    Settings {
        /// The source.
        name: SourceName,
        /// The mistake.
        problem: SettingsProblem,
    },
    /// A file that the settings name cannot be used.
    #[error("source {name}: {field}: {path}: {cause}")]
    File {
        /// The source.
        name: SourceName,
        /// The field that names the file.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The machine has no CA certificates, so no TLS server could be verified.
    #[error(
        "source {name}: this system has no CA certificates ({cause}); install the ca-certificates package or name one in {remedy}"
    )]
    NoTrustStore {
        /// The source.
        name: SourceName,
        /// What the search found.
        cause: String,
        /// Where a CA can be named.
        remedy: &'static str,
    },
    /// The client could not be made.
    #[error("source {name}: cannot set up the client: {cause}")]
    Client {
        /// The source.
        name: SourceName,
        /// Why.
        cause: String,
    },
}

/// A source, built.
pub struct Built {
    /// Who answers queries.
    pub source: Arc<dyn Source>,
    /// Who lists series, where the kind has series.
    pub series: Option<Arc<dyn SeriesLister>>,
}

/// Builds one source. Reads the files that the settings name; makes no connection.
///
/// # Errors
/// When the settings are contradictory, a file cannot be read, or TLS cannot be set up.
pub fn build(
    name: &SourceName,
    settings: &Settings,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Built, BuildError> {
    if let Some(problem) = settings.problems().into_iter().next() {
        return Err(BuildError::Settings { name: name.clone(), problem });
    }
    let source: Arc<dyn Source> = match settings {
        Settings::Prometheus(settings) => {
            let source = prometheus::PrometheusSource::build(name, settings, clock, metrics)?;
            let source = Arc::new(source);
            return Ok(Built { series: Some(Arc::clone(&source) as _), source });
        }
        Settings::Aws(settings) => {
            Arc::new(aws::AwsSource::build(name, settings, clock, metrics, None)?)
        }
        Settings::Simulated => Arc::new(simulated::SimulatedSource::new(clock)),
    };
    Ok(Built { source, series: None })
}

/// The answer to a query that belongs to another kind of source. Definitions are checked against
/// the kind before, so a person sees this only after a defect.
fn wrong_kind(query: &Query, kind: SourceKind) -> FetchError {
    FetchError::Invalid(model::Cause::new(format!(
        "a {} query cannot be answered by a source of kind {}",
        query.spec.kind(),
        kind.as_str()
    )))
}
