//! The documents users write, as they are written.
//!
//! Responsible for: the shape of `ExternalMetric`, `CustomMetric` and their cluster-wide kin, field by field. A
//! file and a custom resource hold the same document. Not responsible for: whether the values make
//! sense (`translate` and its parts).
//!
//! Every field is optional here, so that one that is missing or wrong hides no mistake in others.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::definition::scalar::{GoDuration, NoData, Number};
use crate::model::{Aggregate, QueueCount};

/// The version of our API that documents name.
pub const API_VERSION: &str = "tidepole.dev/v1alpha1";

/// A metric definition of any kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct Document {
    /// [`API_VERSION`].
    pub api_version: Option<String>,
    /// `ExternalMetric`, `ClusterExternalMetric`, `CustomMetric` or `ClusterCustomMetric`.
    pub kind: Option<String>,
    /// Name and namespace.
    pub metadata: Metadata,
    /// The metric.
    pub spec: Spec,
}

/// The part of Kubernetes' object metadata that people write.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct Metadata {
    /// Name, unique per kind and namespace.
    pub name: Option<String>,
    /// Namespace; none for the cluster-wide kind.
    pub namespace: Option<String>,
    /// Accepted, not used.
    pub labels: BTreeMap<String, String>,
    /// Accepted, not used.
    pub annotations: BTreeMap<String, String>,
}

/// What the metric is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct Spec {
    /// What HPAs ask for. Default: `metadata.name`.
    pub metric: Option<String>,
    /// Metrics of objects: of which, as `<resource>[.<group>]`.
    pub resource: Option<String>,
    /// Constant labels of the series.
    pub labels: BTreeMap<String, String>,
    /// Cluster-wide kind: the namespaces that see the metric, by name.
    pub namespaces: Option<Vec<String>>,
    /// Cluster-wide kind: the namespaces that see the metric, by label.
    pub namespace_selector: Option<LabelSelector>,
    /// The source that answers. Default: the only one of the right kind.
    pub source: Option<String>,
    /// An instant query.
    pub prometheus: Option<PrometheusSpec>,
    /// The depth of queues.
    pub sqs: Option<SqsSpec>,
    /// `CloudWatch` metric data.
    pub cloudwatch: Option<CloudWatchSpec>,
    /// A made-up signal.
    pub simulated: Option<SimulatedSpec>,
    /// How often the upstream is read.
    pub refresh: Option<GoDuration>,
    /// A sample older than this is never served.
    pub max_age: Option<GoDuration>,
    /// What to serve when the upstream answered without a datapoint.
    pub on_no_data: Option<NoData>,
    /// Factor. Default 1.
    pub scale: Option<Number>,
    /// Added after scaling. Default 0.
    pub offset: Option<Number>,
    /// Lower clamp. Default 0, or none with `allowNegative`.
    pub min: Option<Number>,
    /// Upper clamp. Default none.
    pub max: Option<Number>,
    /// Whether values below zero may be served.
    pub allow_negative: bool,
    /// How the series of one answer become one.
    pub aggregate: Option<AggregateName>,
    /// Refresh even when nobody reads.
    pub keep_warm: bool,
}

/// Names of [`Aggregate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the words are those of the model's type, documented there")]
pub enum AggregateName {
    None,
    Sum,
    Avg,
    Max,
    Min,
}

impl From<AggregateName> for Aggregate {
    fn from(name: AggregateName) -> Self {
        match name {
            AggregateName::None => Self::None,
            AggregateName::Sum => Self::Sum,
            AggregateName::Avg => Self::Avg,
            AggregateName::Max => Self::Max,
            AggregateName::Min => Self::Min,
        }
    }
}

/// Kubernetes' `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct LabelSelector {
    /// Labels and their exact values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements; all must hold.
    pub match_expressions: Vec<LabelExpression>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct LabelExpression {
    /// The label.
    pub key: Option<String>,
    /// How it compares.
    pub operator: Option<LabelOperator>,
    /// What with: at least one for `In` and `NotIn`, none for the others.
    pub values: Vec<String>,
}

/// Operators of `metav1.LabelSelector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the words are those of the model's type, documented there")]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// An instant query.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct PrometheusSpec {
    /// The expression; `$namespace` stands for the namespace of the request and, in metrics of
    /// objects, `$objects` for a regular expression of their names.
    pub query: Option<String>,
    /// Metrics of objects: the label that holds an object's name. Default: the resource's singular
    /// name.
    pub object_label: Option<String>,
    /// Sent as `lookback_delta`.
    pub lookback_delta: Option<GoDuration>,
}

/// The depth of queues.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct SqsSpec {
    /// Names, URLs or ARNs; their depths are summed.
    pub queues: Option<Vec<String>>,
    /// Which messages count. Default: visible and in flight.
    pub count: Option<Vec<CountName>>,
    /// The region of queues given by name. Default: the source's.
    pub region: Option<String>,
    /// The role to assume.
    pub role_arn: Option<String>,
}

/// Names of [`QueueCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the words are those of the model's type, documented there")]
pub enum CountName {
    Visible,
    InFlight,
    Delayed,
}

impl From<CountName> for QueueCount {
    fn from(name: CountName) -> Self {
        match name {
            CountName::Visible => Self::Visible,
            CountName::InFlight => Self::InFlight,
            CountName::Delayed => Self::Delayed,
        }
    }
}

/// `CloudWatch` metric data: exactly one of `metric`, `queries` and `expression`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct CloudWatchSpec {
    /// One metric.
    pub metric: Option<MetricSpec>,
    /// Several queries that can refer to each other by id, one of which is returned.
    pub queries: Option<Vec<MetricQuerySpec>>,
    /// An expression that finds its data by itself: Metrics Insights, `SEARCH` and the like.
    pub expression: Option<String>,
    /// The period of everything that does not name one.
    pub period: Option<GoDuration>,
    /// Datapoints younger than this are still being filled. Default one period.
    pub delay: Option<GoDuration>,
    /// How far to look back. Default five periods and `delay`.
    pub lookback: Option<GoDuration>,
    /// The region. Default: the source's.
    pub region: Option<String>,
    /// The role to assume.
    pub role_arn: Option<String>,
}

/// One query of several: exactly one of `metric` and `expression`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct MetricQuerySpec {
    /// What expressions call it.
    pub id: Option<String>,
    /// A metric.
    pub metric: Option<MetricSpec>,
    /// Metric math, Metrics Insights, `SEARCH`.
    pub expression: Option<String>,
    /// Whether its series are the answer. Exactly one query is returned: the one that says `true`
    /// here, or, when none does, the one that does not say `false`.
    pub r#return: Option<bool>,
    /// The label of its series.
    pub label: Option<String>,
    /// The period of an expression that finds its data by itself. A metric has its own, and metric
    /// math has that of its operands.
    pub period: Option<GoDuration>,
}

/// A statistic of one metric.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct MetricSpec {
    /// `AWS/ApplicationELB` and the like.
    pub namespace: Option<String>,
    /// The metric's name.
    pub name: Option<String>,
    /// The metric's exact dimensions. Default none.
    #[serde(deserialize_with = "dimensions")]
    pub dimensions: BTreeMap<String, String>,
    /// `Average`, `p99.9`, `TM(10%:90%)` and the like.
    pub statistic: Option<String>,
    /// Length of a bucket. Default: `period` of the whole.
    pub period: Option<GoDuration>,
    /// Only datapoints stored with this unit. Default: all.
    pub unit: Option<String>,
    /// The account that has the metric, for an account that monitors others. Default: that of the
    /// credentials.
    pub account_id: Option<String>,
}

/// Reads dimensions. AWS' own tools write them as a list of names and values.
fn dimensions<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of names to values, like { QueueName: jobs }")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = BTreeMap::new();
            while let Some((name, value)) = map.next_entry()? {
                pairs.insert(name, value);
            }
            Ok(pairs)
        }
    }

    from.deserialize_map(Pairs)
}

/// A made-up signal: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct SimulatedSpec {
    /// Always this value.
    pub constant: Option<Number>,
    /// From one value to another, then staying there.
    pub ramp: Option<RampSpec>,
    /// Values that each hold for a time, repeated.
    pub steps: Option<Vec<StepSpec>>,
    /// A sine.
    pub wave: Option<WaveSpec>,
    /// Uniform noise.
    pub noise: Option<NoiseSpec>,
    /// A recording, replayed and repeated: a file of `seconds,value` rows.
    pub csv: Option<String>,
}

/// From one value to another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct RampSpec {
    /// First value.
    pub from: Option<Number>,
    /// Last value.
    pub to: Option<Number>,
    /// Time from first to last.
    pub over: Option<GoDuration>,
}

/// A value and how long it holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct StepSpec {
    /// The value.
    pub value: Option<Number>,
    /// How long it holds.
    pub r#for: Option<GoDuration>,
}

/// A sine between two values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct WaveSpec {
    /// Trough.
    pub min: Option<Number>,
    /// Crest.
    pub max: Option<Number>,
    /// Time from crest to crest.
    pub period: Option<GoDuration>,
}

/// Uniform noise between two values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct NoiseSpec {
    /// Chooses the sequence. Default 0.
    pub seed: u64,
    /// Smallest value.
    pub min: Option<Number>,
    /// Largest value.
    pub max: Option<Number>,
}
