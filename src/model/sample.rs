//! What a source answers.

use jiff::Timestamp;

use crate::model::{Decimal, Labels, Tick};

/// One series of an answer. Its value is a number: NaN and infinities do not get here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The series' own labels.
    pub labels: Labels,
    /// The value as the upstream gave it, before scale and clamp.
    pub value: Decimal,
}

/// The answer to one query at one moment. Has at least one series: an answer without any is
/// [`crate::model::FetchError::NoData`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The timestamp that is reported: Prometheus, the evaluation time; SQS, when the answer
    /// arrived; `CloudWatch`, the start of the bucket.
    pub timestamp: Timestamp,
    /// The same moment on our own monotonic clock; ages count from here. For a source that
    /// evaluates at the time of asking it is the tick at which the request started, so that
    /// the age can only be over-estimated.
    pub observed: Tick,
    /// The series.
    pub series: Vec<Series>,
    /// The labels of further series, which are NaN or infinite. A value that such a series would be
    /// part of is none: without it, it would be another one. Empty where the source says that an
    /// answer with such a series is no sample, or where they are told one by one (objects).
    pub without_number: Vec<Labels>,
    /// What the upstream warned about (partial answers of Thanos or Mimir), bounded.
    pub warnings: Vec<String>,
}
