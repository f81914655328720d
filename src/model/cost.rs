//! What reading an upstream costs, at list prices.

use std::sync::LazyLock;

use crate::model::Decimal;

/// Prices and the ceiling of one AWS source. Prices are in US dollars.
#[derive(Clone, Debug, PartialEq)]
pub struct CostSettings {
    /// Per 1,000 metrics that `GetMetricData` is asked for.
    pub price_per_thousand_metrics: Decimal,
    /// Per 1,000,000 requests to SQS.
    pub price_per_million_requests: Decimal,
    /// More metrics per minute than this are refused. None: no ceiling.
    pub max_metrics_per_minute: Option<u64>,
}

/// The list price of `GetMetricData` in most regions: 0.01 USD per 1,000 metrics requested
/// (Amazon CloudWatch pricing, "APIs").
static METRICS_PRICE: LazyLock<Decimal> =
    LazyLock::new(|| "0.01".parse().expect("the list price is a number"));

/// The list price of SQS' standard queues in most regions, after the first million of a month:
/// 0.40 USD per 1,000,000 requests (Amazon SQS pricing).
static REQUESTS_PRICE: LazyLock<Decimal> =
    LazyLock::new(|| "0.4".parse().expect("the list price is a number"));

impl Default for CostSettings {
    fn default() -> Self {
        Self {
            price_per_thousand_metrics: METRICS_PRICE.clone(),
            price_per_million_requests: REQUESTS_PRICE.clone(),
            max_metrics_per_minute: None,
        }
    }
}
