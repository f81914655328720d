//! Which series a Prometheus has: what rules make metrics of.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::FetchError;

/// A series without its label values: all that rules look at. Many series have one shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesShape {
    /// `__name__`; empty where the series has none.
    pub name: Arc<str>,
    /// The names of its other labels, sorted.
    pub labels: Arc<[Arc<str>]>,
}

/// Who can list series.
pub trait SeriesLister: Send + Sync + 'static {
    /// The shapes of all series that a series selector (`match[]`) finds and that had samples since
    /// `start`. Each shape once, in the order of its last appearance in the upstream's answer: of
    /// two series behind one metric name the later counts.
    ///
    /// # Errors
    /// As [`crate::model::Source::fetch`]: refused, unreachable, too slow, too large, unreadable.
    fn series<'a>(
        &'a self,
        selector: &'a str,
        start: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SeriesShape>, FetchError>>;

    /// How many lists may be asked for at once. The caller keeps the others, so that waiting for a
    /// turn never counts into a call's timeout.
    fn at_once(&self) -> usize {
        1
    }
}
