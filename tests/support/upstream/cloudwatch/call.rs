//! What was asked: calls as the fake remembers them.

use std::sync::Arc;

use super::super::Request;
use super::super::sigv4;
use super::wire::{Input, MetricDataQuery};

/// One call of `GetMetricData`. Times are seconds since the epoch.
#[derive(Clone, Debug)]
pub struct Call {
    /// The fake's clock when it came.
    pub at: i64,
    pub queries: Arc<[MetricDataQuery]>,
    /// As sent, not rounded.
    pub start: i64,
    pub end: i64,
    pub scan_by: Option<String>,
    pub max_datapoints: Option<i64>,
    pub next_token: Option<String>,
    pub timezone: Option<String>,
    /// Who signed it and for which region, as the signature claims.
    pub access_key: String,
    pub region: String,
    pub session_token: Option<String>,
}

impl Call {
    pub(super) fn new(request: &Request, input: Input, at: i64) -> Self {
        let (access_key, region) = sigv4::claimed(request).unwrap_or_default();
        Self {
            at,
            queries: input.metric_data_queries.unwrap_or_default().into(),
            start: input.start_time.map_or(0, |t| seconds(t.0)),
            end: input.end_time.map_or(0, |t| seconds(t.0)),
            scan_by: input.scan_by,
            max_datapoints: input.max_datapoints,
            next_token: input.next_token,
            timezone: input.label_options.and_then(|options| options.timezone),
            access_key,
            region,
            session_token: request.header("x-amz-security-token").map(str::to_owned),
        }
    }

    /// The ids asked, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.queries.iter().map(|query| query.id.as_str()).collect()
    }

    /// The query of an id.
    pub fn query(&self, id: &str) -> Option<&MetricDataQuery> {
        self.queries.iter().find(|query| query.id == id)
    }

    /// The names of the metrics asked, in order.
    pub fn metric_names(&self) -> Vec<&str> {
        let stats = self.queries.iter().filter(|query| query.metric_stat.is_some());
        stats.map(MetricDataQuery::metric_name).collect()
    }

    /// The expressions, in order.
    pub fn expressions(&self) -> Vec<&str> {
        self.queries.iter().filter_map(|query| query.expression.as_deref()).collect()
    }

    /// Metrics this call asks for as the service bills them: one per metric statistic, and one for
    /// each expression that looks for metrics itself.
    pub fn metrics_requested(&self) -> u64 {
        let asks = |query: &&MetricDataQuery| {
            query.metric_stat.is_some()
                || query.expression.as_deref().is_some_and(|expression| {
                    let upper = expression.to_ascii_uppercase();
                    upper.contains("SEARCH(") || upper.trim_start().starts_with("SELECT ")
                })
        };
        self.queries.iter().filter(asks).count() as u64
    }

    pub(super) fn newest_first(&self) -> bool {
        self.scan_by.as_deref() != Some("TimestampAscending")
    }
}

#[expect(clippy::cast_possible_truncation, reason = "times fit in 63 bits of seconds")]
fn seconds(time: f64) -> i64 {
    time.floor() as i64
}
