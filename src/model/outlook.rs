//! What a reader would get, without reading: for the people who look at HPAs.

use std::sync::Arc;

use crate::model::{DefinitionKey, MetricReference};

/// What a read of a reference would get at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The definitions that answer it, resources and files alike; none for a metric that rules give
    /// or that is not known.
    pub definitions: Vec<DefinitionKey>,
    /// The number that an HPA makes of the answer, as text (`42500m`: the sum of the items of an
    /// external metric, the average of a metric of pods), or why there is none.
    pub answer: Result<String, Miss>,
}

/// Why a reader would get no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing of this name is served in the namespace.
    Unknown {
        /// The sentence that a read is answered with.
        message: String,
        /// The nearest names that are served in the namespace, nearest first, three at most.
        near: Vec<Arc<str>>,
        /// Definitions of this very name that are not seen in the namespace, three at most.
        elsewhere: Vec<DefinitionKey>,
    },
    /// The metric is known, but none of its series or objects is meant.
    NoMatch {
        /// The sentence that a read is answered with.
        message: String,
    },
    /// There is no value that may be served.
    NoValue {
        /// The sentence that a read is answered with.
        message: String,
    },
    /// Nobody has asked yet.
    Untried,
}

/// Who knows what readers would get. Never blocks, never reads an upstream, makes nothing wanted.
pub trait Foresee: Send + Sync + 'static {
    /// What a read of the reference would get at this moment.
    fn foresee(&self, reference: &MetricReference) -> Outlook;

    /// The same without names that are near an unknown one: looking for them takes up to a
    /// millisecond, and this some microseconds.
    fn glance(&self, reference: &MetricReference) -> Outlook {
        self.foresee(reference)
    }
}
