//! What is called within one AWS source: service, region and role; and the bounds of each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{FetchError, SourceName};
use crate::source::Metrics;
use crate::source::aws::bounded::Bounded;
use crate::source::gate::Gate;

/// Upstreams kept of one source. A definition may name allowed regions and roles only, so that
/// this is 2 services in 8 regions with 16 roles, or the like.
const MAX_UPSTREAMS: usize = 256;

/// A service that answers queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::source) enum Service {
    /// Amazon `CloudWatch`.
    CloudWatch,
    /// Amazon SQS.
    Sqs,
}

impl Service {
    /// The word for metrics labels and [`Dispatch::upstream`](crate::model::Dispatch::upstream).
    pub(in crate::source) fn as_str(self) -> &'static str {
        match self {
            Self::CloudWatch => "cloudwatch",
            Self::Sqs => "sqs",
        }
    }
}

/// One upstream: what hangs, throttles or refuses as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::source) struct Upstream {
    /// The service.
    pub service: Service,
    /// The region.
    pub region: Arc<str>,
    /// The role that the query wants; none means the source's own identity.
    pub role: Option<Arc<str>>,
}

impl fmt::Display for Upstream {
    /// As in [`Dispatch::upstream`](crate::model::Dispatch::upstream): `sqs eu-west-1`, or
    /// `sqs eu-west-1 arn:aws:iam::111122223333:role/metrics`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service.as_str(), self.region)?;
        match &self.role {
            Some(role) => write!(f, " {role}"),
            None => Ok(()),
        }
    }
}

/// The gates of one source, one per upstream: a region or a role that hangs takes no slot of
/// another's.
#[derive(Debug)]
pub(in crate::source) struct Gates {
    name: SourceName,
    limit: usize,
    timeout: Duration,
    metrics: Metrics,
    upstreams: Bounded<Upstream, Gate>,
}

impl Gates {
    /// At most `limit` calls to one upstream at once, each done within `timeout`.
    pub(in crate::source) fn new(
        name: &SourceName,
        limit: usize,
        timeout: Duration,
        metrics: &Metrics,
    ) -> Self {
        let upstreams = Bounded::new(MAX_UPSTREAMS, "services, regions and roles together");
        Self { name: name.clone(), limit, timeout, metrics: metrics.clone(), upstreams }
    }

    /// The gate of an upstream.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when queries name too many of them.
    pub(in crate::source) fn of(&self, upstream: &Upstream) -> Result<Gate, FetchError> {
        self.upstreams.get_or_insert(upstream, || {
            let metrics = self.metrics.for_calls(&self.name, upstream.service.as_str());
            Gate::new(self.limit, self.timeout, metrics)
        })
    }

    /// When a fetch that starts now has to be done.
    pub(in crate::source) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// How long one fetch may take.
    pub(in crate::source) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many calls to one upstream may run at once.
    pub(in crate::source) fn width(&self) -> usize {
        self.limit.max(1)
    }
}
