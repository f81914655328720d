//! Definitions of one `CloudWatch` metric each.

use std::sync::Arc;
use std::time::Duration;

use tidepole::model::{
    CloudWatchQuery, DefinitionId, DefinitionKind, Entry, Labels, Manner, MetricDataQuery,
    MetricName, MetricQuestion, MetricStat, OnNoData, Origin, Policy, Query, QuerySpec,
    QueryTemplate, Scope, SourceName, Transform,
};

/// The period, and the refresh interval.
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// The source that all of them name.
pub(crate) fn source() -> SourceName {
    SourceName::new("aws")
}

/// So many definitions of different metrics in one region, all kept warm. What they have in
/// common they share, as definitions of one file do.
pub(crate) fn definitions(count: usize) -> Vec<Arc<Entry>> {
    let policy = Arc::new(Policy {
        refresh: MINUTE,
        max_age: 6 * MINUTE,
        on_no_data: OnNoData::Hold,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: true,
    });
    let transform = Arc::<Transform>::default();
    let source = source();
    let [region, namespace, name, dimension, statistic, id] =
        ["eu-west-1", "AWS/SQS", "Depth", "QueueName", "Average", CloudWatchQuery::SINGLE_ID]
            .map(Arc::<str>::from);
    let query = |i: usize| {
        let stat = MetricStat {
            namespace: Arc::clone(&namespace),
            name: Arc::clone(&name),
            dimensions: vec![(Arc::clone(&dimension), format!("queue-{i:06}").into())],
            statistic: Arc::clone(&statistic),
            period: MINUTE,
            unit: None,
            account_id: None,
        };
        let metric = MetricDataQuery {
            id: Arc::clone(&id),
            question: MetricQuestion::Metric(stat),
            label: None,
            return_data: true,
        };
        let asked = CloudWatchQuery {
            region: Arc::clone(&region),
            role_arn: None,
            queries: vec![metric],
            period: MINUTE,
            delay: MINUTE,
            lookback: 6 * MINUTE,
            manner: Manner::Strict,
        };
        Query { source: source.clone(), spec: QuerySpec::CloudWatch(Box::new(asked)) }
    };
    let definition = |i: usize| {
        let metric = format!("depth-{i:06}");
        Arc::new(Entry {
            id: DefinitionId {
                kind: DefinitionKind::ClusterExternalMetric,
                namespace: None,
                name: metric.as_str().into(),
            },
            origin: Origin::File { path: "metrics.yaml".into(), line: i + 1 },
            metric: MetricName::external(&metric).expect("a good name"),
            scope: Scope::All,
            labels: Labels::empty(),
            query: QueryTemplate::Fixed(Arc::new(query(i))),
            objects: None,
            policy: Arc::clone(&policy),
            transform: Arc::clone(&transform),
        })
    };
    (0..count).map(definition).collect()
}
