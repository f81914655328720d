//! What the resources of a cluster may take of a server: the limits that an operator sets on them.
//!
//! Kinds that are in a namespace are the tenants' and have all of these limits. Cluster-wide kinds
//! are written by those whom the cluster trusts with them; only [`Tenancy::max_total`] counts them.

use std::time::Duration;

use crate::definition::scalar::GoDuration;
use crate::definition::{Defaults, REFRESH_FLOOR};
use crate::model::{DefinitionKind, Entry, Problem, ProblemKind};

/// Most resources that a server can be told to take: five times what it is measured with.
const MOST_RESOURCES: usize = 100_000;

/// Longest [`Tenancy::min_refresh`]. Longer than an hour, and nothing would scale by it.
const LONGEST_MIN_REFRESH: Duration = Duration::from_hours(1);

/// Most series that an answer can be allowed: as of a source's `maxSeries`.
const MOST_SERIES: usize = 1_000_000;

/// The limits: `resources` of the server config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// Metric resources of one namespace, all kinds together. Of more, the youngest are refused.
    /// Default 500: some ten for each of fifty services.
    pub max_per_namespace: usize,
    /// Metric resources of all namespaces and of the cluster. Of more, the youngest are refused.
    /// Default 20,000: some 60 MiB.
    pub max_total: usize,
    /// Shortest `refresh` of a definition in a namespace. Default: the floor for everybody.
    pub min_refresh: Duration,
    /// Series in an answer to an external metric of a namespace. Default 1000, as of a source.
    pub max_series: usize,
}

impl Default for Tenancy {
    fn default() -> Self {
        Self {
            max_per_namespace: 500,
            max_total: 20_000,
            min_refresh: REFRESH_FLOOR,
            max_series: 1000,
        }
    }
}

impl Tenancy {
    /// Which settings are out of bounds, each with a message.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut whole = |key, value: usize, most: usize| {
            if !(1..=most).contains(&value) {
                found.push((key, format!("expected a whole number from 1 to {most}")));
            }
        };
        whole("maxPerNamespace", self.max_per_namespace, MOST_RESOURCES);
        whole("maxTotal", self.max_total, MOST_RESOURCES);
        whole("maxSeries", self.max_series, MOST_SERIES);
        if !(REFRESH_FLOOR..=LONGEST_MIN_REFRESH).contains(&self.min_refresh) {
            let (least, most) = (GoDuration(REFRESH_FLOOR), GoDuration(LONGEST_MIN_REFRESH));
            found.push(("minRefresh", format!("expected a duration from {least} to {most}")));
        }
        found
    }

    /// What a definition of a namespace says nothing about: the server's defaults, raised to the
    /// floor, and an age that survives a failed read at that pace.
    #[must_use]
    pub fn defaults(&self, defaults: &Defaults) -> Defaults {
        if defaults.refresh >= self.min_refresh {
            return defaults.clone();
        }
        Defaults {
            refresh: self.min_refresh,
            max_age: defaults.max_age.max(self.min_refresh * 2),
            ..defaults.clone()
        }
    }

    /// What is wrong with a definition under these limits; nothing of a cluster-wide one.
    #[must_use]
    pub fn refusal(&self, entry: &Entry) -> Option<Problem> {
        let refresh = entry.policy.refresh;
        (entry.id.kind.is_namespaced() && refresh < self.min_refresh).then(|| {
            let field = match entry.id.kind {
                DefinitionKind::AwsExternalMetric => "metadata.annotations[\"tidepole.dev/refresh\"]",
                _ => "spec.refresh",
            };
            let message = format!(
                "refresh {} is below {}, the least that the operator allows in namespaces (resources.minRefresh)",
                GoDuration(refresh),
                GoDuration(self.min_refresh)
            );
            let problem = Problem::new(entry.id.resource_path(), message).with_field(field);
            problem.of_kind(ProblemKind::LimitExceeded)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(Tenancy::default().problems(), []);
    }

    #[test]
    fn defaults_are_raised_to_the_floor() {
        let own = Defaults::default();
        assert_eq!(Tenancy::default().defaults(&own), own);
        let floor =
            |seconds| Tenancy { min_refresh: Duration::from_secs(seconds), ..Tenancy::default() };
        let raised = floor(30).defaults(&own);
        assert_eq!((raised.refresh.as_secs(), raised.max_age), (30, own.max_age));
        let raised = floor(300).defaults(&own);
        assert_eq!((raised.refresh.as_secs(), raised.max_age.as_secs()), (300, 600));
    }
}
