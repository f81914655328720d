//! What the fake knows: metrics, their observations, and how these become datapoints.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::statistic::{Statistic, Weighted};
use super::wire::{MetricDataQuery, MetricStat};

/// The account whose metrics are meant when a query names none.
pub const ACCOUNT: &str = "111122223333";

/// A metric: the exact set of dimensions belongs to its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    pub account: String,
    pub namespace: String,
    pub name: String,
    /// Sorted by name.
    pub dimensions: Vec<(String, String)>,
}

impl Metric {
    /// A metric of the fake's own account without dimensions.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            account: ACCOUNT.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dimensions: Vec::new(),
        }
    }

    /// The same with another dimension.
    #[must_use]
    pub fn dim(mut self, name: &str, value: &str) -> Self {
        self.dimensions.push((name.to_owned(), value.to_owned()));
        self.dimensions.sort();
        self
    }

    /// The same in another account.
    #[must_use]
    pub fn account(mut self, id: &str) -> Self {
        id.clone_into(&mut self.account);
        self
    }

    /// The metric that a query asks for.
    pub(super) fn asked(query: &MetricDataQuery, stat: &MetricStat) -> Self {
        let wire = &stat.metric;
        let mut dimensions: Vec<(String, String)> =
            wire.dimensions.iter().flatten().map(|d| (d.name.clone(), d.value.clone())).collect();
        dimensions.sort();
        Self {
            account: query.account_id.clone().unwrap_or_else(|| ACCOUNT.to_owned()),
            namespace: wire.namespace.clone(),
            name: wire.metric_name.clone(),
            dimensions,
        }
    }

    /// The value of a dimension.
    pub fn dimension(&self, name: &str) -> Option<&str> {
        self.dimensions.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a generator is asked: the value of one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub metric: &'a Metric,
    pub statistic: &'a str,
    /// Seconds.
    pub period: i64,
    pub unit: Option<&'a str>,
}

/// Makes up the value of the bucket that starts at a time; `None`: there is no datapoint.
pub(super) type Generator = Arc<dyn Fn(&Asked<'_>, i64) -> Option<f64> + Send + Sync>;

/// One published value.
#[derive(Clone, Debug)]
struct Observation {
    at: i64,
    unit: Option<String>,
    weighted: Weighted,
}

/// What is known of one metric.
#[derive(Default)]
struct Known {
    observations: Vec<Observation>,
    /// By statistic and period; instead of the observations.
    fixed: BTreeMap<(String, i64), BTreeMap<i64, f64>>,
    generator: Option<Generator>,
}

/// All metrics.
#[derive(Default)]
pub(super) struct Metrics {
    known: HashMap<Metric, Known>,
    /// For metrics that are not in the table.
    pub(super) generator: Option<Generator>,
    /// Seconds from an observation, or from the end of a generated or fixed bucket, until it can
    /// be read.
    pub(super) lag: i64,
}

/// The buckets a query asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Inclusive.
    pub(super) start: i64,
    /// Exclusive.
    pub(super) end: i64,
    pub(super) now: i64,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

impl Window {
    /// The first bucket of a period: `StartTime` as the service rounds it.
    fn first(&self, period: i64) -> i64 {
        let age = self.now - self.start;
        let step = if age > 63 * DAY {
            HOUR
        } else if age > 15 * DAY {
            300
        } else {
            period.min(60)
        };
        let rounded = self.start.div_euclid(step) * step;
        // Buckets lie on the period's grid; one that began before the window is not in it.
        (rounded + period - 1).div_euclid(period) * period
    }

    /// Whether data of this period is kept as long as the window reaches back ("or no data points
    /// in that time range is returned", API reference of `MetricStat`).
    fn is_kept(&self, period: i64) -> bool {
        let age = self.now - self.start;
        let multiple = if age > 63 * DAY {
            HOUR
        } else if age > 15 * DAY {
            300
        } else if age > 3 * HOUR {
            60
        } else {
            return true;
        };
        period % multiple == 0
    }

    /// The starts of the buckets, oldest first.
    pub(super) fn buckets(&self, period: i64) -> impl Iterator<Item = i64> + use<> {
        let (mut next, end) = (self.first(period), self.end);
        let kept = self.is_kept(period) && period > 0;
        std::iter::from_fn(move || {
            let bucket = next;
            next += period;
            (kept && bucket < end).then_some(bucket)
        })
    }
}

impl Metrics {
    fn entry(&mut self, metric: &Metric) -> &mut Known {
        self.known.entry(metric.clone()).or_default()
    }

    pub(super) fn observe(
        &mut self,
        metric: &Metric,
        at: i64,
        value: f64,
        count: f64,
        unit: Option<&str>,
    ) {
        let observations = &mut self.entry(metric).observations;
        let weighted = Weighted { value, count };
        let place = observations.partition_point(|o| o.at <= at);
        observations.insert(place, Observation { at, unit: unit.map(str::to_owned), weighted });
    }

    pub(super) fn fix(
        &mut self,
        metric: &Metric,
        statistic: &str,
        period: i64,
        points: &[(i64, f64)],
    ) {
        let fixed = &mut self.entry(metric).fixed;
        fixed.insert((statistic.to_owned(), period), points.iter().copied().collect());
    }

    pub(super) fn generate(&mut self, metric: &Metric, generator: Generator) {
        self.entry(metric).generator = Some(generator);
    }

    pub(super) fn forget(&mut self, metric: &Metric) {
        self.known.remove(metric);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Metric> {
        self.known.keys()
    }

    pub(super) fn has_observations(&self, metric: &Metric) -> bool {
        self.known.get(metric).is_some_and(|known| !known.observations.is_empty())
    }

    /// The datapoints of a statistic, oldest first.
    pub(super) fn datapoints(&self, asked: &Asked<'_>, window: &Window) -> Vec<(i64, f64)> {
        let known = self.known.get(asked.metric);
        if let Some(known) = known {
            let key = (asked.statistic.to_owned(), asked.period);
            if let Some(fixed) = known.fixed.get(&key) {
                return self.generated(asked, window, &|_, bucket| fixed.get(&bucket).copied());
            }
            if !known.observations.is_empty() {
                return self.computed(asked, window, &known.observations);
            }
        }
        let generator = match known {
            Some(known) => known.generator.as_ref(),
            None => self.generator.as_ref(),
        };
        generator.map_or_else(Vec::new, |g| self.generated(asked, window, &**g))
    }

    fn generated(
        &self,
        asked: &Asked<'_>,
        window: &Window,
        value: &dyn Fn(&Asked<'_>, i64) -> Option<f64>,
    ) -> Vec<(i64, f64)> {
        let published = window.now - self.lag - asked.period;
        let buckets = window.buckets(asked.period).take_while(|bucket| *bucket <= published);
        buckets.filter_map(|bucket| Some((bucket, value(asked, bucket)?))).collect()
    }

    /// Of observations: a bucket of which only a part is published has the value of that part.
    fn computed(&self, asked: &Asked<'_>, window: &Window, all: &[Observation]) -> Vec<(i64, f64)> {
        let Some(statistic) = Statistic::parse(asked.statistic) else { return Vec::new() };
        let visible = window.now - self.lag;
        let all = &all[..all.partition_point(|o| o.at <= visible)];
        let mut points = Vec::new();
        for bucket in window.buckets(asked.period) {
            let from = all.partition_point(|o| o.at < bucket);
            let to = all.partition_point(|o| o.at < bucket + asked.period);
            let within: Vec<Weighted> = all[from..to]
                .iter()
                .filter(|o| asked.unit.is_none() || asked.unit == o.unit.as_deref())
                .map(|o| o.weighted)
                .collect();
            points.extend(statistic.of(&within).map(|value| (bucket, value)));
        }
        points
    }
}
