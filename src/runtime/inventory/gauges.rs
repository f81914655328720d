//! What scrapers are told about all definitions, counted when somebody looks.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::states::States;
use super::usage::{Reads, Usage};
use super::{House, cost};
use crate::catalog::Snapshot;
use crate::model::DefinitionId;
use crate::runtime::admin::SourceCost;
use crate::telemetry::Telemetry;

/// Definitions that have a series of their own in a family; the others share one. Each is a line
/// in every scrape.
pub(super) const MAX_NAMED: usize = 1000;

/// The name of the series that those share. No document has an empty kind, so that no definition can
/// be taken for it.
const OTHER: (&str, &str, &str) = ("", "", "other");

/// Metrics by state and age, definitions, problems, and what definitions ask of upstreams.
#[derive(Debug)]
pub struct HouseGauges {
    house: House,
    others: Mutex<Others>,
}

/// Sums over definitions without a series of their own.
#[derive(Debug, Default)]
struct Others {
    requests: Rising,
    metrics: Rising,
}

/// A sum of counters, some of which may go away between two looks, made a counter again.
#[derive(Debug, Default)]
struct Rising {
    last: u64,
    lost: u64,
}

impl Rising {
    fn note(&mut self, sum: u64) -> u64 {
        self.lost += self.last.saturating_sub(sum);
        self.last = sum;
        self.lost + sum
    }
}

impl HouseGauges {
    /// Counts over this house from now on.
    pub fn register(house: House, telemetry: &Telemetry) {
        let gauges = Box::new(Self::new(house));
        telemetry.register(|registry| registry.register_collector(gauges));
    }

    /// Counts over this house.
    #[must_use]
    pub fn new(house: House) -> Self {
        Self { house, others: Mutex::default() }
    }

    /// Requests and metrics by definition. Definitions with the same query share the reads, and
    /// each shows them.
    fn encode_usage(
        &self,
        snapshot: &Snapshot,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let usage = Usage::of(snapshot.served(), MAX_NAMED);
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = usage.others.map(|reads| others.requests.note(reads.requests));
        let metrics = usage.others.map(|reads| others.metrics.note(reads.metrics.unwrap_or(0)));
        drop(others);
        let named = || usage.named.iter().map(|(id, reads)| (*id, *reads));
        encode_counts(
            encoder,
            "definition_upstream_requests",
            "Requests to CloudWatch and SQS that carried a definition's query, shared ones included",
            named().map(|(id, reads)| (id, reads.requests)),
            requests,
        )?;
        encode_counts(
            encoder,
            "definition_metrics_requested",
            "Metrics that CloudWatch was asked for on behalf of a definition, by shared and failed calls too; each SELECT, SEARCH and the like counts as one, whatever it found (cloudwatch_metrics_requested counts that by source)",
            named().filter_map(|(id, Reads { metrics, .. })| Some((id, metrics?))),
            metrics,
        )
    }

    /// What is refreshed now, for a month.
    fn encode_costs(
        &self,
        snapshot: &Snapshot,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let costs = cost::of(snapshot, &self.house.sources);
        if costs.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "estimated_cost_dollars_per_month",
            "What reading an AWS source costs at its prices when what is refreshed now stays so, at least: each SELECT, SEARCH and the like counts as one metric",
            None,
            MetricType::Gauge,
        )?;
        for SourceCost { source, dollars_per_month, .. } in costs {
            let labels = [("source", source)];
            ConstGauge::new(dollars_per_month).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// What definitions have with the labels of their series: kind, namespace and name.
pub(super) fn labelled<'a, T>(
    named: impl Iterator<Item = (&'a DefinitionId, T)>,
    others: Option<T>,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str, T)> {
    let named = named.map(|(id, value)| {
        (id.kind.as_str(), id.namespace.as_deref().unwrap_or_default(), &*id.name, value)
    });
    named.chain(others.map(|value| (OTHER.0, OTHER.1, OTHER.2, value)))
}

/// A family of counters by definition; `others` stands for those that are not named.
fn encode_counts<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    named: impl Iterator<Item = (&'a DefinitionId, u64)>,
    others: Option<u64>,
) -> fmt::Result {
    let mut counts = labelled(named, others).peekable();
    if counts.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (kind, namespace, name, count) in counts {
        let labels = [("kind", kind), ("namespace", namespace), ("name", name)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What the catalog holds, whatever its state.
fn encode_catalog(
    snapshot: &Snapshot,
    on_demand: usize,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    for (name, help, count) in [
        ("definitions", "Definitions that are served", snapshot.served().count()),
        ("definition_problems", "Mistakes in definition files", snapshot.problems().len()),
        (
            "definition_conflicts",
            "Definitions that lost against another with the same name and labels",
            snapshot.conflicts().len(),
        ),
        ("on_demand_queries", "Queries kept because somebody read them", on_demand),
    ] {
        let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    let generation = i64::try_from(snapshot.generation()).unwrap_or(i64::MAX);
    ConstGauge::new(generation).encode(encoder.encode_descriptor(
        "definition_generation",
        "How often the set of served definitions has changed since the start",
        None,
        MetricType::Gauge,
    )?)
}

impl Collector for HouseGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.house.catalog.snapshot();
        let now = self.house.clock.tick();
        let on_demand = self.house.on_demand.all();
        States::of(&self.house, &snapshot, &on_demand, now).encode(&mut encoder)?;
        encode_catalog(&snapshot, on_demand.len(), &mut encoder)?;
        self.encode_usage(&snapshot, &mut encoder)?;
        self.encode_costs(&snapshot, &mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::OnDemand;
    use crate::catalog::Catalog;
    use crate::model::{
        Clock as _, CloudWatchQuery, CostSettings, Decimal, DefinitionKind, Entry, FetchError,
        Labels, Manner, ManualClock, MetricDataQuery, MetricName, MetricQuestion, MetricStat,
        OnNoData, Origin, Policy, Query, QuerySpec, QueryTemplate, QueueCount, QueueRef, Sample,
        Scope, Series, SourceDirectory, SourceKind, SourceName, SourceProfile, SqsQuery,
    };
    use crate::runtime::admin::Inventory;

    const MINUTE: Duration = Duration::from_mins(1);

    /// The ratio of two metrics.
    fn ratio(dimension: &str) -> QuerySpec {
        let metric = |id: &str| MetricDataQuery {
            id: id.into(),
            question: MetricQuestion::Metric(MetricStat {
                namespace: "AWS/ApplicationELB".into(),
                name: id.into(),
                dimensions: vec![("LoadBalancer".into(), dimension.into())],
                statistic: "Sum".into(),
                period: MINUTE,
                unit: None,
                account_id: None,
            }),
            label: None,
            return_data: false,
        };
        let rate = MetricDataQuery {
            id: "rate".into(),
            question: MetricQuestion::Expression { text: "errors/total".into(), period: None },
            label: None,
            return_data: true,
        };
        QuerySpec::CloudWatch(Box::new(CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![metric("errors"), metric("total"), rate],
            period: MINUTE,
            delay: MINUTE,
            lookback: 6 * MINUTE,
            manner: Manner::Strict,
        }))
    }

    fn queues() -> QuerySpec {
        let queue =
            |name: &str| QueueRef { region: "eu-west-1".into(), account: None, name: name.into() };
        let count = vec![QueueCount::Visible];
        QuerySpec::Sqs(SqsQuery { queues: vec![queue("a"), queue("b")], count, role_arn: None })
    }

    fn entry(name: &str, namespace: Option<&str>, spec: QuerySpec) -> Entry {
        let namespace: Option<Arc<str>> = namespace.map(Into::into);
        Entry {
            id: DefinitionId {
                kind: match namespace {
                    Some(_) => DefinitionKind::ExternalMetric,
                    None => DefinitionKind::ClusterExternalMetric,
                },
                namespace: namespace.clone(),
                name: name.into(),
            },
            origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
            metric: MetricName::external(name).unwrap(),
            scope: namespace.map_or(Scope::All, Scope::Namespace),
            labels: Labels::empty(),
            query: QueryTemplate::Fixed(Arc::new(Query { source: SourceName::new("aws"), spec })),
            policy: Arc::new(Policy {
                refresh: MINUTE,
                max_age: 10 * MINUTE,
                on_no_data: OnNoData::Hold,
                first_read_timeout: Duration::from_secs(2),
                keep_warm: true,
            }),
            objects: None,
            transform: Arc::default(),
        }
    }

    fn house() -> (House, Telemetry, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let source = SourceProfile {
            name: SourceName::new("aws"),
            kind: SourceKind::Aws,
            region: Some("eu-west-1".into()),
            allowed_regions: vec!["eu-west-1".into()],
            allowed_roles: Vec::new(),
            cost: CostSettings::default(),
            allowed_namespaces: Vec::new(),
        };
        let sources = SourceDirectory::new([source]);
        let house = House::new(
            Arc::new(Catalog::new()),
            Arc::new(OnDemand::new()),
            None,
            sources,
            Arc::clone(&clock) as _,
        );
        let telemetry = Telemetry::new();
        let gauges = HouseGauges::new(house.clone());
        telemetry.register(|registry| registry.register_collector(Box::new(gauges)));
        (house, telemetry, clock)
    }

    /// Counts so many fetches of every query.
    fn fetch(house: &House, times: usize) {
        for (_, cell) in house.catalog.snapshot().cells() {
            (0..times).for_each(|_| cell.note_fetch());
        }
    }

    #[test]
    fn requests_and_metrics_are_told_by_definition() {
        let (house, telemetry, _) = house();
        let entries =
            [entry("rate", Some("web"), ratio("app/web")), entry("backlog", None, queues())];
        house.catalog.apply_files(entries, Vec::new());
        fetch(&house, 3);
        let text = telemetry.encode();
        let requests: Vec<_> =
            text.lines().filter(|l| l.starts_with("tidepole_definition_")).collect();
        assert_eq!(
            requests[requests.len() - 4..],
            [
                "tidepole_definition_generation 1",
                "tidepole_definition_upstream_requests_total{kind=\"ExternalMetric\",namespace=\"web\",name=\"rate\"} 3",
                "tidepole_definition_upstream_requests_total{kind=\"ClusterExternalMetric\",namespace=\"\",name=\"backlog\"} 6",
                "tidepole_definition_metrics_requested_total{kind=\"ExternalMetric\",namespace=\"web\",name=\"rate\"} 6",
            ][..],
            "{text}"
        );
        let mut rows = house.metrics();
        rows.sort_by(|a, b| a.metric.cmp(&b.metric));
        let told: Vec<_> =
            rows.iter().map(|row| (row.upstream_reads, row.metrics_requested)).collect();
        assert_eq!(told, [(3, None), (3, Some(6))]);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_no_sum_falls() {
        let (house, telemetry, _) = house();
        let entries = |count: usize| -> Vec<Entry> {
            (0..count)
                .map(|i| entry(&format!("m{i:05}"), None, ratio(&format!("app/{i}"))))
                .collect()
        };
        house.catalog.apply_files(entries(MAX_NAMED + 200), Vec::new());
        fetch(&house, 5);
        let other = "tidepole_definition_metrics_requested_total{kind=\"\",namespace=\"\",name=\"other\"} 2000\n";
        let text = telemetry.encode();
        assert!(text.contains(other), "{text}");
        assert_eq!(
            text.matches("tidepole_definition_metrics_requested_total{").count(),
            MAX_NAMED + 1
        );
        assert!(text.contains("name=\"m00999\"}") && !text.contains("name=\"m01000\"}"));
        house.catalog.apply_files(entries(MAX_NAMED + 100), Vec::new());
        assert!(
            telemetry.encode().contains(other),
            "the definitions that went do not make it fall"
        );
    }

    /// The values of all cells that definitions name, fetched now.
    fn answer(house: &House) {
        let (now, wall) = (house.clock.tick(), house.clock.now());
        let series = vec![Series { labels: Labels::empty(), value: Decimal::ONE }];
        let sample = Sample {
            timestamp: wall,
            observed: now,
            series,
            without_number: Vec::new(),
            warnings: Vec::new(),
        };
        for (_, cell) in house.catalog.snapshot().cells() {
            cell.complete(Ok(sample.clone()), now, wall);
        }
    }

    #[test]
    fn the_age_of_every_value_is_told_by_definition() {
        let (house, telemetry, clock) = house();
        let ages = |telemetry: &Telemetry| -> Vec<String> {
            let text = telemetry.encode();
            let name = "tidepole_definition_sample_age_seconds";
            text.lines().filter_map(|l| l.strip_prefix(name)).map(str::to_owned).collect()
        };
        let rate = || entry("rate", Some("web"), ratio("app/web"));
        house.catalog.apply_files([rate()], Vec::new());
        assert!(ages(&telemetry).is_empty(), "no value has no age");
        answer(&house);
        clock.advance(Duration::from_millis(2500));
        house.catalog.apply_files([rate(), entry("backlog", None, queues())], Vec::new());
        let web = "{kind=\"ExternalMetric\",namespace=\"web\",name=\"rate\"}";
        assert_eq!(ages(&telemetry), [format!("{web} 2.5")]);
        // Failures make nothing younger.
        let (now, wall) = (house.clock.tick(), house.clock.now());
        for (_, cell) in house.catalog.snapshot().cells() {
            cell.complete(Err(FetchError::Timeout("no answer".into())), now, wall);
        }
        clock.advance(Duration::from_secs(1));
        assert_eq!(ages(&telemetry), [format!("{web} 3.5")]);
        assert_eq!(
            house.metrics().iter().filter_map(|row| row.sample_age).collect::<Vec<_>>(),
            [Duration::from_millis(3500)]
        );
    }

    #[test]
    fn the_oldest_of_those_beyond_the_bound_is_told() {
        let (house, telemetry, clock) = house();
        let entries = |from: usize, to: usize| {
            (from..to).map(|i| entry(&format!("m{i:05}"), None, ratio(&format!("app/{i}"))))
        };
        // The last by name have the oldest values.
        house.catalog.apply_files(entries(MAX_NAMED, MAX_NAMED + 5), Vec::new());
        answer(&house);
        clock.advance(Duration::from_mins(1));
        house.catalog.apply_files(entries(0, MAX_NAMED + 7), Vec::new());
        for (query, cell) in house.catalog.snapshot().cells() {
            if cell.state().last_sample().is_none() && query.spec != ratio("app/1006") {
                let sample = Sample {
                    timestamp: clock.now(),
                    observed: clock.tick(),
                    series: Vec::new(),
                    without_number: Vec::new(),
                    warnings: Vec::new(),
                };
                cell.complete(Ok(sample), clock.tick(), clock.now());
            }
        }
        clock.advance(Duration::from_secs(5));
        let text = telemetry.encode();
        let name = "tidepole_definition_sample_age_seconds{";
        assert_eq!(text.matches(name).count(), MAX_NAMED + 1);
        let other = format!("{name}kind=\"\",namespace=\"\",name=\"other\"}} 65.0\n");
        assert!(text.contains(&other), "{text}");
        let named =
            format!("{name}kind=\"ClusterExternalMetric\",namespace=\"\",name=\"m00999\"}} 5.0\n");
        assert!(text.contains(&named), "{text}");
    }

    #[test]
    fn the_state_of_every_definition_is_told() {
        let (house, telemetry, clock) = house();
        let entries = (0..MAX_NAMED + 7)
            .map(|i| entry(&format!("m{i:05}"), None, ratio(&format!("app/{i}"))));
        house.catalog.apply_files(entries, Vec::new());
        answer(&house);
        let snapshot = Arc::clone(&house.catalog.snapshot());
        let fail = |number: usize| {
            let (_, cell) = snapshot
                .cells()
                .find(|(query, _)| query.spec == ratio(&format!("app/{number}")))
                .expect("it was defined");
            let error = FetchError::Timeout("no answer".into());
            cell.complete(Err(error), clock.tick(), clock.now());
        };
        [3, MAX_NAMED + 1, MAX_NAMED + 2].into_iter().for_each(fail);
        let text = telemetry.encode();
        let line = |labels: &str, count: usize| {
            format!("\ntidepole_definition_state{{kind={labels}}} {count}\n")
        };
        let named = |name: &str, state: &str| {
            line(
                &format!(
                    "\"ClusterExternalMetric\",namespace=\"\",name=\"{name}\",state=\"{state}\""
                ),
                1,
            )
        };
        let other = |state: &str, count| {
            line(&format!("\"\",namespace=\"\",name=\"other\",state=\"{state}\""), count)
        };
        for wanted in [
            named("m00002", "fresh"),
            named("m00003", "servable"),
            other("servable", 2),
            other("fresh", 5),
            "\ntidepole_metrics{state=\"servable\",origin=\"definition\"} 3\n".to_owned(),
            "\ntidepole_metrics_in_trouble{trouble=\"timeout\",origin=\"definition\"} 3\n".to_owned(),
            "\ntidepole_definition_max_age_seconds{kind=\"\",namespace=\"\",name=\"other\"} 600.0\n".to_owned(),
        ] {
            assert!(text.contains(&wanted), "{wanted}");
        }
        assert_eq!(text.matches("tidepole_definition_state{").count(), MAX_NAMED + 2);
        clock.advance(11 * MINUTE);
        assert!(telemetry.encode().contains(&named("m00003", "failed")));
        assert!(telemetry.encode().contains(&named("m00002", "expired")));
    }

    #[test]
    fn a_sum_that_falls_is_carried_on() {
        let mut rising = Rising::default();
        assert_eq!([10, 25, 5, 5, 30].map(|sum| rising.note(sum)), [10, 25, 25, 25, 50]);
    }

    #[test]
    fn what_is_wanted_has_a_price_and_counts_once() {
        let (house, telemetry, _) = house();
        let line = |dollars: &str| {
            format!("\ntidepole_estimated_cost_dollars_per_month{{source=\"aws\"}} {dollars}\n")
        };
        let entries = [
            entry("rate", Some("web"), ratio("app/web")),
            entry("rate-too", Some("web"), ratio("app/web")),
            entry("backlog", None, queues()),
        ];
        house.catalog.apply_files(entries, Vec::new());
        let text = telemetry.encode();
        assert!(text.contains(&line("0.0")), "nobody wants them: {text}");
        let now = house.clock.tick();
        for (_, cell) in house.catalog.snapshot().cells() {
            assert!(cell.claim_schedule(now));
        }
        // Two metrics and two requests a minute, 43,800 minutes.
        let text = telemetry.encode();
        assert!(text.contains(&line("0.91104")), "{text}");
        assert_eq!(format!("{:.3}", house.costs()[0].metrics_per_minute), "2.000");
    }

    #[test]
    fn a_query_that_is_set_apart_says_for_how_long() {
        let (house, ..) = house();
        house.catalog.apply_files([entry("rate", Some("web"), ratio("app/web"))], Vec::new());
        let now = house.clock.tick();
        for (_, cell) in house.catalog.snapshot().cells() {
            cell.set_apart(Some(now.after(2 * MINUTE)));
        }
        assert_eq!(house.metrics()[0].apart, Some(2 * MINUTE));
    }
}
