//! The estimate for a set of definitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::model::cost::{BillingUnit, CostSettings, Rate, Toll, effective_refresh};
use crate::model::{
    Decimal, DefinitionId, Entry, Query, QueryTemplate, SourceDirectory, SourceName,
};

/// What a set of definitions costs when every one of their metrics is wanted all the time.
/// Definitions that cost nothing are not in it.
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
    /// Metrics of `CloudWatch`, at least.
    pub metrics: Rate,
    /// Metrics that it may be: see [`Toll::most`]. A ceiling counts these.
    pub most_metrics: Rate,
    /// Requests to SQS.
    pub requests: Rate,
    /// All of it per month, in US dollars, at least.
    pub per_month: Decimal,
    /// What all of it may be per month, in US dollars.
    pub most_per_month: Decimal,
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
                QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_) => None,
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
            let (rate, most) = if same_as.is_some() {
                Default::default()
            } else {
                (toll.rate(refresh), toll.most_rate(refresh))
            };
            let total = totals.entry(&query.source).or_insert_with(|| {
                let profile = sources.get(query.source.as_str());
                SourceEstimate {
                    source: query.source.clone(),
                    definitions: 0,
                    metrics: Rate::default(),
                    most_metrics: Rate::default(),
                    requests: Rate::default(),
                    per_month: Decimal::ZERO,
                    most_per_month: Decimal::ZERO,
                    is_open_ended: false,
                    settings: profile.map_or_else(CostSettings::default, |p| p.cost.clone()),
                }
            });
            let per_month = total.settings.per_month(toll.unit, rate);
            let most_per_month = total.settings.per_month(toll.unit, most);
            total.definitions += 1;
            total.is_open_ended |= toll.is_open_ended();
            total.per_month = total.per_month.add(&per_month);
            total.most_per_month = total.most_per_month.add(&most_per_month);
            match toll.unit {
                BillingUnit::Metrics => {
                    total.metrics = total.metrics.plus(rate);
                    total.most_metrics = total.most_metrics.plus(most);
                }
                BillingUnit::Requests => total.requests = total.requests.plus(rate),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CloudWatchQuery, DefinitionKind, Labels, Manner, MetricDataQuery, MetricName,
        MetricQuestion, OnNoData, Origin, Policy, PrometheusQuery, QuerySpec, QueueCount, QueueRef,
        Scope, SourceKind, SourceProfile, SqsQuery, Transform,
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
            objects: None,
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
            manner: Manner::Strict,
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

    /// A source at twice the list price.
    fn priced() -> SourceDirectory {
        SourceDirectory::new([SourceProfile {
            name: SourceName::new("aws"),
            kind: SourceKind::Aws,
            region: None,
            allowed_regions: Vec::new(),
            allowed_roles: Vec::new(),
            cost: CostSettings {
                price_per_thousand_metrics: "0.02".parse().unwrap(),
                ..CostSettings::default()
            },
            allowed_namespaces: Vec::new(),
        }])
    }

    #[test]
    fn what_is_asked_is_counted_once_and_priced() {
        let up = PrometheusQuery {
            query: "up".into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        };
        let entries = [
            entry("jobs", "aws", 15, queues(&["a", "b"])),
            entry("again", "aws", 10, queues(&["a", "b"])),
            entry("up", "main", 15, QuerySpec::Prometheus(up)),
            entry("rare", "other", 86_400, queues(&["a"])),
        ];
        let estimate = Estimate::of(&entries, &priced());
        let names: Vec<_> = estimate.lines.iter().map(|line| &*line.definition.name).collect();
        assert_eq!(names, ["jobs", "again", "rare"]);
        assert_eq!(estimate.lines[1].same_as.as_ref(), Some(&entries[0].id));
        assert_eq!(estimate.lines[1].rate, Rate::default());
        let aws = &estimate.sources[0];
        assert_eq!((aws.definitions, aws.requests), (2, Rate::per_minute(12)));
        // Ten seconds: the pace of the fastest.
        assert_eq!(aws.per_month.to_string(), "0.21024");
        assert_eq!((&aws.per_month, aws.is_open_ended), (&aws.most_per_month, false));
        assert_eq!(Estimate::of([], &SourceDirectory::default()), Estimate::default());
    }

    #[test]
    fn what_a_search_may_find_is_told_beside_what_is_known() {
        let entries =
            [entry("search", "aws", 90, expression("SEARCH('a','Sum')/SEARCH('b','Sum')"))];
        let estimate = Estimate::of(&entries, &priced());
        let (line, aws) = (&estimate.lines[0], &estimate.sources[0]);
        assert_eq!((line.toll.count, line.toll.most), (2, 1000));
        assert_eq!(line.refresh, Duration::from_mins(2));
        assert_eq!((aws.metrics, aws.most_metrics), (Rate::per_minute(1), Rate::per_minute(500)));
        assert_eq!(
            (aws.per_month.to_string(), aws.most_per_month.to_string()),
            ("0.876".into(), "438".into())
        );
        assert!(aws.is_open_ended);
    }
}
