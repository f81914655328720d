//! What sources need to connect, and the rules that are common to their kinds.
//!
//! The server config makes these settings and places their problems; every rule about a setting is
//! here or beside the kind's own settings.

use std::time::Duration;

use url::Url;

use crate::model::SourceKind;
use crate::source::{AwsSettings, PrometheusSettings};

/// How long one answer is waited for, when nothing else is said: a third of the default refresh.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that takes longer than the HPA's patience with the whole API is of no use.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// Calls at one time, when nothing else is said. Prometheus itself runs 20 queries
/// (`--query.max-concurrency`); at 20 ms a call, these are 800 queues a second.
pub(super) const DEFAULT_CONCURRENT: usize = 16;
/// Sockets and memory are finite: 1024 answers of the default size are 8 GiB.
const MAX_CONCURRENT: usize = 1024;

/// What one source needs to connect, by kind. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    /// A Prometheus-compatible HTTP API.
    Prometheus(Box<PrometheusSettings>),
    /// One AWS identity.
    Aws(Box<AwsSettings>),
    /// Made-up signals; needs nothing.
    Simulated,
}

impl Settings {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Prometheus(_) => SourceKind::Prometheus,
            Self::Aws(_) => SourceKind::Aws,
            Self::Simulated => SourceKind::Simulated,
        }
    }

    /// What is wrong with the settings, found without any input or output. Empty means fine.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        match self {
            Self::Prometheus(settings) => settings.problems(),
            Self::Aws(settings) => settings.problems(),
            Self::Simulated => Vec::new(),
        }
    }
}

/// A mistake in the settings of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The field as the server config names it, key by key below the kind's: `url`, or `tls` and
    /// `certFile`.
    pub field: Vec<String>,
    /// Whether it is the field itself that is wrong (its name, or that it is there) rather than
    /// its value.
    pub at_key: bool,
    /// What is wrong and what would be right.
    pub message: String,
}

impl SettingsProblem {
    /// A problem with a field's value.
    pub(super) fn value(field: &[&str], message: impl Into<String>) -> Self {
        let field = field.iter().map(|&key| key.to_owned()).collect();
        Self { field, at_key: false, message: message.into() }
    }

    /// A problem with the field itself.
    pub(super) fn key(field: &[&str], message: impl Into<String>) -> Self {
        Self { at_key: true, ..Self::value(field, message) }
    }
}

impl std::fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field.join("."), self.message)
    }
}

/// Checks the bounds that every kind that calls something has.
pub(super) fn check_calls(
    found: &mut Vec<SettingsProblem>,
    timeout: Duration,
    max_concurrent: usize,
) {
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        found.push(SettingsProblem::value(&["timeout"], "a timeout is above zero and at most 1m"));
    }
    check_range(found, "maxConcurrent", max_concurrent, (1, MAX_CONCURRENT));
}

/// Checks a number against its bounds, both included.
pub(super) fn check_range(
    found: &mut Vec<SettingsProblem>,
    field: &str,
    value: usize,
    (least, most): (usize, usize),
) {
    if !(least..=most).contains(&value) {
        let message = format!("expected a whole number from {least} to {most}");
        found.push(SettingsProblem::value(&[field], message));
    }
}

/// Why an upstream's URL cannot be used. The URL is not in the message: a password in it is one of
/// the things refused. `instead` says where credentials belong.
pub(super) fn url_problem(url: &Url, instead: &str) -> Option<String> {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        Some(format!("the scheme {:?} is not http or https", url.scheme()))
    } else if !url.username().is_empty() || url.password().is_some() {
        Some(format!("a URL must not hold a user or password; {instead}"))
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("a URL must not hold a query or fragment".to_owned())
    } else {
        None
    }
}
