//! The estimate for a set of definitions, and its table.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::cost::{BillingUnit, CostSettings, Rate, Toll, effective_refresh};
use crate::model::{
    Decimal, DefinitionId, Entry, Query, QueryTemplate, SourceDirectory, SourceName,
};

/// What a set of definitions costs when every one of their metrics is wanted all the time.
/// Definitions that cost nothing are not in it.
///
/// Its [`Display`](fmt::Display) form is a table for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// One per definition, in the order in which they were given.
    pub lines: Vec<EstimateLine>,
    /// The sums per source, by name.
    pub sources: Vec<SourceEstimate>,
}

/// What one definition costs.
#[derive(Clone, Debug, PartialEq)]
pub struct EstimateLine {
    /// The definition.
    pub definition: DefinitionId,
    /// Its source.
    pub source: SourceName,
    /// What one read is billed as.
    pub toll: Toll,
    /// The time between two reads: the shortest that any definition with the same question asks
    /// for, in whole periods.
    pub refresh: Duration,
    /// What it adds per minute. Zero where `same_as` is set.
    pub rate: Rate,
    /// What it adds per month, in US dollars. Zero where `same_as` is set.
    pub per_month: Decimal,
    /// The definition with the same question at which it is counted: it is asked once.
    pub same_as: Option<DefinitionId>,
}

/// What one source costs.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceEstimate {
    /// The source.
    pub source: SourceName,
    /// How many of its definitions cost something.
    pub definitions: usize,
    /// Metrics of `CloudWatch`.
    pub metrics: Rate,
    /// Requests to SQS.
    pub requests: Rate,
    /// All of it per month, in US dollars.
    pub per_month: Decimal,
    /// Whether it can be more: see [`Toll::is_open_ended`].
    pub is_open_ended: bool,
    /// The prices, and the ceiling.
    pub settings: CostSettings,
}

impl Estimate {
    /// The estimate for these definitions. Sources that are not in `sources` have list prices.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>, sources: &SourceDirectory) -> Self {
        let billed: Vec<(&Entry, &Arc<Query>, Toll)> = entries
            .into_iter()
            .filter_map(|entry| match &entry.query {
                QueryTemplate::Fixed(query) => Some((entry, query, Toll::of(query)?)),
                QueryTemplate::PerNamespace { .. } => None,
            })
            .collect();
        // The first definition of a question stands for all, at the pace of the fastest.
        let mut asked: HashMap<&Query, (&DefinitionId, Duration)> = HashMap::new();
        for (entry, query, _) in &billed {
            let pace = &mut asked.entry(query).or_insert((&entry.id, entry.policy.refresh)).1;
            *pace = (*pace).min(entry.policy.refresh);
        }
        let mut totals: BTreeMap<&SourceName, SourceEstimate> = BTreeMap::new();
        let mut lines = Vec::with_capacity(billed.len());
        for (entry, query, toll) in &billed {
            let (first, pace) = asked[&***query];
            let refresh = effective_refresh(query, pace);
            let same_as = (*first != entry.id).then(|| first.clone());
            let rate = if same_as.is_some() { Rate::default() } else { toll.rate(refresh) };
            let total = totals.entry(&query.source).or_insert_with(|| {
                let profile = sources.get(query.source.as_str());
                SourceEstimate {
                    source: query.source.clone(),
                    definitions: 0,
                    metrics: Rate::default(),
                    requests: Rate::default(),
                    per_month: Decimal::ZERO,
                    is_open_ended: false,
                    settings: profile.map_or_else(CostSettings::default, |p| p.cost.clone()),
                }
            });
            let per_month = total.settings.per_month(toll.unit, rate);
            total.definitions += 1;
            total.is_open_ended |= toll.is_open_ended;
            total.per_month = total.per_month.add(&per_month);
            let sum = match toll.unit {
                BillingUnit::Metrics => &mut total.metrics,
                BillingUnit::Requests => &mut total.requests,
            };
            *sum = sum.plus(rate);
            lines.push(EstimateLine {
                definition: entry.id.clone(),
                source: query.source.clone(),
                toll: *toll,
                refresh,
                rate,
                per_month,
                same_as,
            });
        }
        Self { lines, sources: totals.into_values().collect() }
    }
}

/// The table's head.
const HEAD: [&str; 6] =
    ["DEFINITION", "SOURCE", "PER READ", "READ EVERY", "PER MINUTE", "USD PER MONTH"];

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return writeln!(f, "No definition here asks CloudWatch or SQS: nothing is billed.");
        }
        let rows: Vec<[String; 6]> =
            std::iter::once(HEAD.map(str::to_owned)).chain(self.lines.iter().map(row)).collect();
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        for source in &self.sources {
            writeln!(f, "{source}")?;
        }
        writeln!(f)?;
        f.write_str(
            "This assumes that every metric is wanted all the time, 730 hours a month; one that nobody reads is not asked for.\n",
        )?;
        if self.sources.iter().any(|source| source.is_open_ended) {
            f.write_str(
                ">= : what SELECT, SEARCH and the like find is billed per metric and known from the answer alone; each counts as one metric here.\n",
            )?;
        }
        Ok(())
    }
}

fn row(line: &EstimateLine) -> [String; 6] {
    let more = if line.toll.is_open_ended { ">= " } else { "" };
    let unit = match (line.toll.unit, line.toll.count) {
        (BillingUnit::Metrics, 1) => "metric",
        (BillingUnit::Metrics, _) => "metrics",
        (BillingUnit::Requests, 1) => "request",
        (BillingUnit::Requests, _) => "requests",
    };
    let (rate, month) = match &line.same_as {
        Some(other) => ("-".to_owned(), format!("counted at {other}")),
        None => (format!("{more}{}", line.rate), format!("{more}{}", dollars(&line.per_month))),
    };
    [
        line.definition.to_string(),
        line.source.to_string(),
        format!("{more}{} {unit}", line.toll.count),
        duration(line.refresh),
        rate,
        month,
    ]
}

impl fmt::Display for SourceEstimate {
    /// One line, with the prices.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.is_open_ended { ">= " } else { "" };
        write!(f, "Source {}: {more}{} USD per month", self.source, dollars(&self.per_month))?;
        if self.metrics > Rate::default() {
            write!(f, ", {more}{} CloudWatch metrics per minute", self.metrics)?;
            if let Some(ceiling) = self.settings.max_metrics_per_minute {
                write!(f, " of {ceiling} allowed")?;
            }
            let price = &self.settings.price_per_thousand_metrics;
            write!(f, " at {price} USD per 1,000")?;
        }
        if self.requests > Rate::default() {
            let price = &self.settings.price_per_million_requests;
            write!(f, ", {} SQS requests per minute at {price} USD per 1,000,000", self.requests)?;
        }
        f.write_str(".")
    }
}

/// Dollars and cents, rounded; less than half a cent is still more than nothing.
fn dollars(amount: &Decimal) -> String {
    let cents = amount.mul(&Decimal::from(100_u64)).to_milli().map(|milli| (milli + 500) / 1000);
    match cents {
        Some(0) if *amount > Decimal::ZERO => "< 0.01".to_owned(),
        Some(cents) => format!("{}.{:02}", cents / 100, cents % 100),
        None => amount.to_string(),
    }
}

/// A time between reads: `15s`, `1m30s`, `2h`, `1.5s`.
fn duration(time: Duration) -> String {
    let (hours, minutes) = (time.as_secs() / 3600, time.as_secs() / 60 % 60);
    let seconds = time.saturating_sub(Duration::from_mins(time.as_secs() / 60)).as_secs_f64();
    let mut parts: Vec<String> = [(hours, "h"), (minutes, "m")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if seconds > 0.0 || parts.is_empty() {
        parts.push(format!("{seconds}s"));
    }
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CloudWatchQuery, DefinitionKind, Labels, MetricDataQuery, MetricName, MetricQuestion,
        OnNoData, Origin, Policy, PrometheusQuery, QuerySpec, QueueCount, QueueRef, Scope,
        SourceKind, SourceProfile, SqsQuery, Transform,
    };

    fn entry(name: &str, source: &str, refresh_s: u64, spec: QuerySpec) -> Entry {
        Entry {
            id: DefinitionId {
                kind: DefinitionKind::ExternalMetric,
                namespace: Some("shop".into()),
                name: name.into(),
            },
            origin: Origin::File { path: "f.yaml".into(), line: 1 },
            metric: MetricName::external(name).unwrap(),
            scope: Scope::All,
            labels: Labels::default(),
            query: QueryTemplate::Fixed(Arc::new(Query { source: SourceName::new(source), spec })),
            policy: Arc::new(Policy {
                refresh: Duration::from_secs(refresh_s),
                max_age: Duration::from_mins(10),
                on_no_data: OnNoData::Hold,
                first_read_timeout: Duration::from_secs(2),
                keep_warm: false,
            }),
            transform: Arc::new(Transform::default()),
        }
    }

    fn expression(text: &str) -> QuerySpec {
        let question = MetricQuestion::Expression { text: text.into(), period: None };
        QuerySpec::CloudWatch(Box::new(CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![MetricDataQuery {
                id: "m".into(),
                question,
                label: None,
                return_data: true,
            }],
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
        }))
    }

    fn queues(names: &[&str]) -> QuerySpec {
        let queue = |name: &&str| QueueRef {
            region: "eu-west-1".into(),
            account: None,
            name: (*name).into(),
        };
        QuerySpec::Sqs(SqsQuery {
            queues: names.iter().map(queue).collect(),
            count: vec![QueueCount::Visible],
            role_arn: None,
        })
    }

    #[test]
    fn the_table_says_what_everything_costs() {
        let up = PrometheusQuery { query: "up".into(), lookback_delta: None };
        let entries = [
            entry("search", "aws", 90, expression("SEARCH('a','Sum')/SEARCH('b','Sum')")),
            entry("jobs", "aws", 15, queues(&["a", "b"])),
            entry("again", "aws", 10, queues(&["a", "b"])),
            entry("up", "main", 15, QuerySpec::Prometheus(up)),
            entry("rare", "other", 86_400, queues(&["a"])),
        ];
        let priced = SourceProfile {
            name: SourceName::new("aws"),
            kind: SourceKind::Aws,
            region: None,
            allowed_regions: Vec::new(),
            allowed_roles: Vec::new(),
            cost: CostSettings {
                price_per_thousand_metrics: "0.02".parse().unwrap(),
                max_metrics_per_minute: Some(600),
                ..CostSettings::default()
            },
            allowed_namespaces: Vec::new(),
        };
        let estimate = Estimate::of(&entries, &SourceDirectory::new([priced]));
        assert_eq!(
            estimate.to_string(),
            "\
DEFINITION                  SOURCE  PER READ      READ EVERY  PER MINUTE  USD PER MONTH
ExternalMetric shop/search  aws     >= 2 metrics  2m          >= 1        >= 0.88
ExternalMetric shop/jobs    aws     2 requests    10s         12          0.21
ExternalMetric shop/again   aws     2 requests    10s         -           counted at ExternalMetric shop/jobs
ExternalMetric shop/rare    other   1 request     24h         0.01        < 0.01

Source aws: >= 1.09 USD per month, >= 1 CloudWatch metrics per minute of 600 allowed at 0.02 USD per 1,000, 12 SQS requests per minute at 0.4 USD per 1,000,000.
Source other: < 0.01 USD per month, 0.01 SQS requests per minute at 0.4 USD per 1,000,000.

This assumes that every metric is wanted all the time, 730 hours a month; one that nobody reads is not asked for.
>= : what SELECT, SEARCH and the like find is billed per metric and known from the answer alone; each counts as one metric here.
"
        );
        let aws = &estimate.sources[0];
        assert_eq!((aws.definitions, aws.metrics), (3, Rate::per_minute(1)));
        assert_eq!(estimate.lines[2].same_as.as_ref(), Some(&entries[1].id));
    }

    #[test]
    fn nothing_costs_nothing() {
        let none = Estimate::of([], &SourceDirectory::default());
        assert_eq!(none, Estimate::default());
        assert_eq!(
            none.to_string(),
            "No definition here asks CloudWatch or SQS: nothing is billed.\n"
        );
    }

    #[test]
    fn times_read_as_people_write_them() {
        for (millis, text) in
            [(15_000, "15s"), (90_000, "1m30s"), (7_200_000, "2h"), (1500, "1.5s"), (0, "0s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
