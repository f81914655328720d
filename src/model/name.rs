//! Names of metrics and of sources.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest metric name, in bytes: what fits a Kubernetes resource name (RFC 1123 subdomain).
pub const MAX_METRIC_NAME_BYTES: usize = 253;

/// Why a name cannot be a metric's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetricName {
    /// Nothing there.
    #[error("a metric name must not be empty")]
    Empty,
    /// Over [`MAX_METRIC_NAME_BYTES`].
    #[error("a metric name has at most {MAX_METRIC_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// client-go refuses these in a path before any request is sent.
    #[error(
        "a metric name must not be \".\" or \"..\" and must not contain \"/\", \"%\", white space or control characters: {0:?}"
    )]
    Unreachable(String),
    /// The API server's path parser takes these for subresources of the namespace.
    #[error(
        "the metric name {0:?} is taken by Kubernetes' path grammar (/namespaces/<ns>/{0}) and can never be read; choose another"
    )]
    Reserved(String),
}

/// The name of a metric, that of a definition's external metric in lower case: client-go lower-cases
/// the resource segment of its requests, so `MyQueue` in an HPA arrives as `myqueue`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricName(Arc<str>);

impl MetricName {
    /// Checks and case-folds the name of an external metric.
    ///
    /// # Errors
    /// When no HPA could ever ask for the name.
    pub fn external(name: &str) -> Result<Self, InvalidMetricName> {
        check(name)?;
        let folded = name.to_lowercase();
        if folded == "status" || folded == "finalize" {
            return Err(InvalidMetricName::Reserved(folded));
        }
        Ok(Self(folded.into()))
    }

    /// Checks the name of a metric of objects. It stands at the end of a path, where nobody folds it
    /// and nothing is reserved.
    ///
    /// # Errors
    /// When no HPA could ever ask for the name.
    pub fn custom(name: &str) -> Result<Self, InvalidMetricName> {
        check(name)?;
        Ok(Self(name.into()))
    }

    /// The name of a rule's external metric, as it is: prometheus-adapter lists whatever its rules
    /// make, also what no HPA could ever ask for.
    #[must_use]
    pub fn of_rule(name: &Arc<str>) -> Self {
        Self(Arc::clone(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), InvalidMetricName> {
    if name.is_empty() {
        return Err(InvalidMetricName::Empty);
    }
    if name.len() > MAX_METRIC_NAME_BYTES {
        return Err(InvalidMetricName::TooLong(name.len()));
    }
    let unreachable = |c: char| c == '/' || c == '%' || c.is_whitespace() || c.is_control();
    if name == "." || name == ".." || name.contains(unreachable) {
        return Err(InvalidMetricName::Unreachable(name.to_owned()));
    }
    Ok(())
}

impl Borrow<str> for MetricName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a source in the server config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// A source name. The config checks its form.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_as_client_go_folds_them() {
        assert_eq!(
            MetricName::external("MyQueue").map(|n| n.to_string()),
            Ok("myqueue".to_owned())
        );
    }

    #[test]
    fn names_of_objects_metrics_are_taken_as_they_are() {
        for name in ["Http_Requests", "status"] {
            assert_eq!(MetricName::custom(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        assert_eq!(MetricName::custom("a/b"), Err(InvalidMetricName::Unreachable("a/b".into())));
    }

    #[test]
    fn names_that_no_hpa_can_ask_for_are_refused() {
        assert_eq!(MetricName::external(""), Err(InvalidMetricName::Empty));
        assert_eq!(
            MetricName::external("Status"),
            Err(InvalidMetricName::Reserved("status".into()))
        );
        for bad in [".", "..", "a/b", "a%b", "a b", "a\n"] {
            assert_eq!(MetricName::external(bad), Err(InvalidMetricName::Unreachable(bad.into())));
        }
        assert_eq!(MetricName::external(&"a".repeat(254)), Err(InvalidMetricName::TooLong(254)));
    }
}
