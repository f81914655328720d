//! What sources need to connect, and the rules that are common to their kinds.
//!
//! The server config makes these settings and places their problems; every rule about a setting is
//! here or beside the kind's own settings.

use std::num::NonZeroU32;
use std::time::Duration;

use url::Url;

use crate::model::{ProtectionSettings, SourceKind};
use crate::source::{AwsSettings, PrometheusSettings};

/// Host and port of a URL, which is all of it that messages may show.
pub(super) fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// How long one answer is waited for, when nothing else is said: a third of the default refresh.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that takes longer than the HPA's patience with the whole API is of no use.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// Calls at one time, when nothing else is said. Prometheus itself runs 20 queries
/// (`--query.max-concurrency`); at 20 ms a call, these are 800 queues a second.
pub(super) const DEFAULT_CONCURRENT: usize = 16;
/// Sockets and memory are finite: 1024 answers of the default size are 8 GiB.
const MAX_CONCURRENT: usize = 1024;

/// Faster than any quota that we know of; more is a typing error.
const MAX_RATE: usize = 10_000;
/// A breaker that takes more failures than this in a row protects nobody.
const MAX_FAILURES: usize = 1000;
/// The refresher forgets what nobody has read for this long; a pause must not outlast that.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// When an upstream that fails is left alone, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failed or throttled requests in a row that open it.
    pub failures: usize,
    /// The longest pause before the first probe; it doubles with each probe that fails.
    pub first_pause: Duration,
    /// The longest pause between two probes.
    pub max_pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            first_pause: Duration::from_secs(1),
            // Two default refresh intervals: no longer than recovery may take.
            max_pause: Duration::from_secs(30),
        }
    }
}

impl BreakerSettings {
    /// What the refresher needs to know. Values that [`check_protection`] refuses become the
    /// nearest that can be used.
    pub(super) fn protection(&self, rate: usize, timeout: Duration) -> ProtectionSettings {
        let whole = |number: usize| {
            NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
        };
        ProtectionSettings {
            calls_per_second: whole(rate),
            failures_to_open: whole(self.failures).get(),
            first_pause: self.first_pause,
            max_pause: self.max_pause.max(self.first_pause),
            call_timeout: timeout,
        }
    }
}

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

/// Checks how an upstream is protected.
pub(super) fn check_protection(
    found: &mut Vec<SettingsProblem>,
    rate: Option<usize>,
    breaker: &BreakerSettings,
) {
    if rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
        let message =
            format!("expected a whole number from 1 to {MAX_RATE}; at 0 the source is never asked");
        found.push(SettingsProblem::value(&["maxRequestsPerSecond"], message));
    }
    if !(1..=MAX_FAILURES).contains(&breaker.failures) {
        let message = format!(
            "expected a whole number from 1 to {MAX_FAILURES}; after 0 failures the breaker would \
             be open from the start"
        );
        found.push(SettingsProblem::value(&["breaker", "failures"], message));
    }
    let (first, longest) = (breaker.first_pause, breaker.max_pause);
    if first.is_zero() {
        let message = "a pause is above zero; without one an upstream that fails is asked at once";
        found.push(SettingsProblem::value(&["breaker", "firstPause"], message));
    } else if longest < first {
        let message =
            format!("maxPause {longest:?} is below firstPause {first:?}: no pause is that short");
        found.push(SettingsProblem::value(&["breaker", "maxPause"], message));
    } else if longest > MAX_PAUSE {
        let message = format!(
            "maxPause {longest:?} is above {MAX_PAUSE:?}: what nobody has read for {MAX_PAUSE:?} is \
             forgotten, so the breaker could stay open for ever"
        );
        found.push(SettingsProblem::value(&["breaker", "maxPause"], message));
    }
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
