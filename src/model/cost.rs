//! What reading an upstream costs, at list prices.
//!
//! Responsible for: what one read of a query is billed as, how much that is per minute, and the
//! estimate for a set of definitions. Pure arithmetic. Not responsible for: what was really asked
//! (the sources count that), and refusing what is too much (`control`).

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use crate::model::{Decimal, Query, QuerySpec};

mod estimate;

pub use estimate::{Estimate, EstimateLine, SourceEstimate};

/// Prices and the ceiling of one AWS source. Prices are in US dollars.
#[derive(Clone, Debug, PartialEq)]
pub struct CostSettings {
    /// Per 1,000 metrics that `GetMetricData` is asked for.
    pub price_per_thousand_metrics: Decimal,
    /// Per 1,000,000 requests to SQS.
    pub price_per_million_requests: Decimal,
    /// Definitions that ask for more metrics per minute than this are refused, in path order and with
    /// all that their searches may find. None: no ceiling.
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

/// Minutes of a month, as AWS reckons in its price examples: 730 hours.
const MINUTES_PER_MONTH: u64 = 730 * 60;

impl Default for CostSettings {
    fn default() -> Self {
        Self {
            price_per_thousand_metrics: METRICS_PRICE.clone(),
            price_per_million_requests: REQUESTS_PRICE.clone(),
            max_metrics_per_minute: None,
        }
    }
}

impl CostSettings {
    /// What a rate costs per month of 730 hours, in US dollars.
    #[must_use]
    pub fn per_month(&self, unit: BillingUnit, rate: Rate) -> Decimal {
        let (price, exponent) = match unit {
            BillingUnit::Metrics => (&self.price_per_thousand_metrics, -3),
            BillingUnit::Requests => (&self.price_per_million_requests, -6),
        };
        let share = Decimal::new(1, exponent);
        rate.to_decimal().mul(&Decimal::from(MINUTES_PER_MONTH)).mul(price).mul(&share)
    }
}

/// What an upstream counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BillingUnit {
    /// Metrics that `GetMetricData` is asked for.
    Metrics,
    /// Requests to SQS.
    Requests,
}

/// What one read of a query is billed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toll {
    /// What is counted.
    pub unit: BillingUnit,
    /// How many per read, at least: what Metrics Insights and `SEARCH` find is known from the answer
    /// alone, and each of these counts as one.
    pub count: u64,
    /// How many it may be.
    pub most: u64,
}

impl Toll {
    /// The toll of a query; none when reading it is free. One metric per metric statistic of
    /// `CloudWatch`, one `GetQueueAttributes` per queue of SQS. (Looking up a queue's URL happens
    /// once and is left out, and so is what queries of one call share.)
    #[must_use]
    pub fn of(query: &Query) -> Option<Self> {
        match &query.spec {
            QuerySpec::CloudWatch(query) => Some(Self {
                unit: BillingUnit::Metrics,
                count: query.metrics_requested(),
                most: query.most_metrics_requested(),
            }),
            QuerySpec::Sqs(query) => {
                let count = query.queues.len() as u64;
                Some(Self { unit: BillingUnit::Requests, count, most: count })
            }
            QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => None,
        }
    }

    /// Whether it can be more than `count`.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.most > self.count
    }

    /// The rate when the query is read every `refresh`, at least.
    #[must_use]
    pub fn rate(&self, refresh: Duration) -> Rate {
        Rate::new(self.count, refresh)
    }

    /// The rate that it may be: what a ceiling has to have room for.
    #[must_use]
    pub fn most_rate(&self, refresh: Duration) -> Rate {
        Rate::new(self.most, refresh)
    }
}

/// How often a query is asked when its definition says `refresh`.
#[must_use]
pub fn effective_refresh(query: &Query, refresh: Duration) -> Duration {
    match &query.spec {
        QuerySpec::CloudWatch(query) => query.effective_refresh(refresh),
        QuerySpec::Sqs(_)
        | QuerySpec::Prometheus(_)
        | QuerySpec::Objects(_)
        | QuerySpec::Simulated(_) => refresh,
    }
}

/// So many per minute. A whole number of billionths, so that sums are exact and do not depend on
/// their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u128);

/// Parts of one in a [`Rate`].
const PARTS: u128 = 1_000_000_000;

impl Rate {
    /// `count` every `every`, rounded down to a billionth per minute.
    #[must_use]
    pub fn new(count: u64, every: Duration) -> Self {
        let minute = Duration::from_mins(1).as_nanos();
        Self(u128::from(count).saturating_mul(minute * PARTS) / every.as_nanos().max(1))
    }

    /// A whole number per minute.
    #[must_use]
    pub fn per_minute(count: u64) -> Self {
        Self(u128::from(count) * PARTS)
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero when `other` is more.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The number per minute.
    #[must_use]
    pub fn to_decimal(self) -> Decimal {
        Decimal::new(i128::try_from(self.0).unwrap_or(i128::MAX), -9)
    }
}

impl fmt::Display for Rate {
    /// The number per minute, rounded up to hundredths: what is there is never shown as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0.div_ceil(PARTS / 100);
        Decimal::new(i128::try_from(hundredths).unwrap_or(i128::MAX), -2).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_add_up_exactly() {
        let third = Rate::new(1, Duration::from_mins(3));
        assert_eq!(third.to_string(), "0.34");
        assert!(third.plus(third).plus(third) <= Rate::per_minute(1));
        assert_eq!(Rate::new(3, Duration::from_mins(1)), Rate::per_minute(3));
        assert_eq!(Rate::new(2, Duration::from_secs(15)).to_string(), "8");
        assert_eq!(Rate::new(1, Duration::from_mins(5)).to_string(), "0.2");
        assert_eq!(Rate::new(1, Duration::from_hours(24)).to_string(), "0.01");
        assert_eq!(Rate::default().to_string(), "0");
        assert_eq!(Rate::per_minute(3).minus(Rate::per_minute(5)), Rate::default());
    }

    #[test]
    fn a_month_has_730_hours() {
        let settings = CostSettings::default();
        let month = |unit, rate| settings.per_month(unit, rate).to_string();
        // 43,800 metrics at 0.01 USD per thousand.
        assert_eq!(month(BillingUnit::Metrics, Rate::per_minute(1)), "0.438");
        // 10,000 metrics a minute.
        assert_eq!(month(BillingUnit::Metrics, Rate::per_minute(10_000)), "4380");
        // Four requests a minute, 175,200 a month, at 0.40 USD per million.
        assert_eq!(month(BillingUnit::Requests, Rate::per_minute(4)), "0.07008");
    }

    proptest! {
        #[test]
        fn no_rate_panics(count: u64, nanos: u64, other: u64) {
            let rate = Rate::new(count, Duration::from_nanos(nanos)).plus(Rate::per_minute(other));
            let _ = (rate.to_string(), CostSettings::default().per_month(BillingUnit::Metrics, rate));
        }
    }
}
