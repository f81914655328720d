//! How a value came about, for people: what was sent, what came back, what was chosen and why.

use std::time::Duration;

use crate::model::{FetchError, Sample};

/// One call to an upstream, as it went out and came back. Holds no secret: credentials and
/// signatures are left out by the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// What was called: `POST https://prometheus:9090/api/v1/query`, `GetMetricData`.
    pub operation: String,
    /// Where, as far as it is not in `operation`: `monitoring.eu-west-1.amazonaws.com as role/x`.
    pub target: String,
    /// The request's parameters, in the service's own words.
    pub request: serde_json::Value,
    /// The answer, in the service's own words, bounded in size; or why there is none.
    pub answer: Result<serde_json::Value, String>,
    /// From sending to the end of the answer.
    pub took: Duration,
}

/// How one query's answer came about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The calls, in the order of their starts.
    pub exchanges: Vec<Exchange>,
    /// Which datapoint was chosen and why, in sentences; empty where there is no choice.
    pub choice: Vec<String>,
    /// The sample, as the refresher would get it.
    pub outcome: Result<Sample, FetchError>,
}
