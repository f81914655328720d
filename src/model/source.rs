//! Sources: where values come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::{FetchError, Pattern, Query, Sample, SourceName};

/// The kinds of source that the server config can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// A Prometheus-compatible HTTP API.
    Prometheus,
    /// One AWS identity; answers `sqs` (and later `cloudwatch`) definitions.
    Aws,
    /// Made-up signals.
    Simulated,
}

impl SourceKind {
    /// The key under which the server config holds such a source.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Aws => "aws",
            Self::Simulated => "simulated",
        }
    }
}

/// What definitions may know about a source: enough to check them without any input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceProfile {
    /// Its name.
    pub name: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// For AWS: its own region.
    pub region: Option<Arc<str>>,
    /// For AWS: the regions that definitions may name. Contains `region`.
    pub allowed_regions: Vec<Arc<str>>,
    /// For AWS: the roles that definitions may name.
    pub allowed_roles: Vec<Pattern>,
    /// The namespaces whose definitions may use it. Empty means all.
    pub allowed_namespaces: Vec<Pattern>,
}

/// All sources by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceDirectory(BTreeMap<SourceName, SourceProfile>);

impl SourceDirectory {
    /// A directory of these sources. Of two with one name the later wins; the config refuses
    /// duplicates before.
    pub fn new(profiles: impl IntoIterator<Item = SourceProfile>) -> Self {
        Self(profiles.into_iter().map(|p| (p.name.clone(), p)).collect())
    }

    /// A source by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SourceProfile> {
        self.0.get(name)
    }

    /// All sources, by name.
    pub fn iter(&self) -> impl Iterator<Item = &SourceProfile> {
        self.0.values()
    }
}

/// A connection to an upstream. Implementations bound their concurrency, time every call, count
/// it in the metrics, and never let a secret into an error.
pub trait Source: Send + Sync + 'static {
    /// Asks a batch of at most [`Source::batch_limit`] queries and answers each, in order.
    /// The batch is one upstream call where the upstream can do that.
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>>;

    /// How many fetches may run at once. The refresher keeps the others in its own queue, so that
    /// waiting for a turn never counts into a call's timeout.
    fn concurrency(&self) -> usize;

    /// How many queries one [`Source::fetch`] may carry.
    fn batch_limit(&self) -> usize {
        1
    }
}
