//! Sources: where values come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::{
    CostSettings, Exchange, Explanation, FetchError, Pattern, ProtectionSettings, Query, Sample,
    SourceName,
};

/// The kinds of source that the server config can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// A Prometheus-compatible HTTP API.
    Prometheus,
    /// One AWS identity; answers `sqs` and `cloudwatch` definitions.
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
    /// For AWS: what reading it costs and may cost.
    pub cost: CostSettings,
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

/// When an answer can change, for an upstream whose values come in buckets: at the multiples of
/// `period` since the Unix epoch, each moved by `delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    /// Length of a bucket; whole seconds, above zero.
    pub period: Duration,
    /// From the end of a bucket to the moment from which it may be asked for.
    pub delay: Duration,
}

impl Beat {
    /// The time between two reads of a query that is to be read every `refresh`: that time rounded
    /// up to whole periods, because there is nothing new in between. One period at least.
    #[must_use]
    pub fn step(&self, refresh: Duration) -> Duration {
        let period = self.period.as_secs().max(1);
        let whole = refresh.as_secs().saturating_add(u64::from(refresh.subsec_nanos() > 0));
        Duration::from_secs(whole.div_ceil(period).max(1).saturating_mul(period))
    }

    /// The first moment after `now` at which a query that is read every `refresh` is to be asked:
    /// on a grid of [`Beat::step`]. All queries with one beat and one refresh are due together, and
    /// no bucket is asked for twice.
    #[must_use]
    pub fn after(&self, now: Timestamp, refresh: Duration) -> Timestamp {
        let step_ms = i64::try_from(self.step(refresh).as_millis()).unwrap_or(i64::MAX / 4);
        let delay = i64::try_from(self.delay.as_millis()).unwrap_or(0);
        let elapsed = now.as_millisecond() - delay;
        let next = (elapsed.div_euclid(step_ms) + 1).saturating_mul(step_ms) + delay;
        Timestamp::from_millisecond(next).unwrap_or(Timestamp::MAX)
    }
}

/// Which queries can share an upstream call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Queries of one upstream with the same key go together. A hash: the source groups by the
    /// real thing once more.
    pub key: u64,
    /// How much one [`Source::fetch`] may carry, at least one: the sum of its queries'
    /// [`QuerySpec::weight`](crate::model::QuerySpec::weight). A query that is heavier goes alone.
    pub limit: usize,
}

/// How the refresher is to handle a query: a constant of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// What is called, within the source: service, region, role. Each upstream has its own bound
    /// of concurrent fetches, so that one that hangs delays no other. Empty where the source has
    /// one upstream only.
    pub upstream: Arc<str>,
    /// Which others it may share a call with; none: it goes alone.
    pub batch: Option<Batch>,
    /// When its answer can change; none: at any moment.
    pub beat: Option<Beat>,
}

/// A connection to an upstream. Implementations bound their concurrency, time every call, count
/// it in the metrics, and never let a secret into an error.
pub trait Source: Send + Sync + 'static {
    /// Asks a batch of queries and answers each, in order. The batch holds one query, or queries of
    /// one [`Dispatch::upstream`] with one [`Batch::key`] that weigh [`Batch::limit`] at most. It is
    /// one upstream call where the upstream can do that.
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>>;

    /// How many fetches of one upstream may run at once. The refresher keeps the others in its own
    /// queue, so that waiting for a turn never counts into a call's timeout.
    fn concurrency(&self) -> usize;

    /// How a query is to be handled.
    fn dispatch(&self, _query: &Query) -> Dispatch {
        Dispatch { upstream: "".into(), batch: None, beat: None }
    }

    /// How the upstream of a query is protected from too many calls; none: not at all. A constant
    /// of the upstream.
    fn protection(&self, _query: &Query) -> Option<ProtectionSettings> {
        None
    }

    /// Asks one query as [`Source::fetch`] would, and tells how the answer came about.
    fn explain<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Explanation> {
        async move {
            let mut answers = self.fetch(std::slice::from_ref(query)).await;
            let outcome = answers
                .pop()
                .unwrap_or_else(|| Err(FetchError::Malformed("the source gave no answer".into())));
            Explanation { exchanges: Vec::new(), choice: Vec::new(), outcome }
        }
        .boxed()
    }

    /// The calls that [`Source::fetch`] would make for a query, without making any: their answers
    /// are errors that say so. None where the source cannot tell.
    fn preview<'a>(&'a self, _query: &'a Arc<Query>) -> BoxFuture<'a, Option<Vec<Exchange>>> {
        futures::future::ready(None).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_on_the_grid_of_whole_periods() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let beat = Beat { period: Duration::from_mins(1), delay: Duration::from_secs(90) };
        for (now, refresh_ms, next) in [
            ("2026-11-21T12:00:00Z", 60_000, "2026-11-21T12:00:30Z"),
            ("2026-11-21T12:00:30Z", 60_000, "2026-11-21T12:01:30Z"),
            ("2026-11-21T12:00:30Z", 10_000, "2026-11-21T12:01:30Z"),
            ("2026-11-21T12:00:00Z", 90_000, "2026-11-21T12:01:30Z"),
            ("2026-11-21T12:01:30Z", 90_000, "2026-11-21T12:03:30Z"),
            // A fraction of a second beyond a period is beyond it.
            ("2026-11-21T12:01:30Z", 60_500, "2026-11-21T12:03:30Z"),
        ] {
            let refresh = Duration::from_millis(refresh_ms);
            assert_eq!(beat.after(at(now), refresh), at(next), "{now} {refresh_ms}");
        }
    }

    #[test]
    fn a_step_is_a_number_of_whole_periods() {
        for (period_s, refresh_ms, step_s) in [
            (60, 60_000, 60),
            (60, 61_000, 120),
            (60, 15_000, 60),
            (60, 60_500, 120),
            (1, 0, 1),
            (1, 10_000, 10),
            (20, 30_000, 40),
        ] {
            let beat = Beat { period: Duration::from_secs(period_s), delay: Duration::ZERO };
            let refresh = Duration::from_millis(refresh_ms);
            assert_eq!(beat.step(refresh), Duration::from_secs(step_s), "{period_s} {refresh_ms}");
            let first = beat.after(Timestamp::UNIX_EPOCH, refresh);
            let apart = beat.after(first, refresh).duration_since(first);
            assert_eq!(apart.unsigned_abs(), beat.step(refresh), "{period_s} {refresh_ms}");
        }
        let beat = Beat { period: Duration::from_hours(24), delay: Duration::ZERO };
        assert_eq!(beat.after(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
    }
}
