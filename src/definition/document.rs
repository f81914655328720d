//! The documents users write, as they are written.
//!
//! Responsible for: the shape of `ExternalMetric`, `CustomMetric` and their cluster-wide kin, field by field. A
//! file and a custom resource hold the same document. Not responsible for: whether the values make
//! sense (`translate` and its parts), and what the cluster's API server is told of them (`crd`).
//!
//! Every field is optional here, so that one that is missing or wrong hides no mistake in others.
//!
//! The documentation of kinds and fields below is what `kubectl explain` prints: it is written for
//! people who write definitions.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
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
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct Spec {
    /// The name that HPAs ask for. Names of external metrics are folded to lower case, as Kubernetes
    /// folds them. Default: `metadata.name`.
    pub metric: Option<String>,
    /// The objects that have the metric, as `<plural>[.<group>]`: pods, deployments.apps,
    /// ingresses.networking.k8s.io.
    pub resource: Option<String>,
    /// Constant labels of every series. HPAs select series by them; labels of an answer with the same
    /// key give way.
    pub labels: BTreeMap<String, String>,
    /// The namespaces that see the metric, by name. Default, without `namespaceSelector`: all.
    pub namespaces: Option<Vec<String>>,
    /// The namespaces that see the metric, by their labels.
    pub namespace_selector: Option<LabelSelector>,
    /// The source that answers, as the server config names it. Default: the only one of the right
    /// kind that definitions here may use.
    pub source: Option<String>,
    /// Asks Prometheus, or a server with the same API, by an instant query.
    pub prometheus: Option<PrometheusSpec>,
    /// Asks Amazon SQS how many messages queues hold.
    pub sqs: Option<SqsSpec>,
    /// Asks Amazon `CloudWatch` for metric data: exactly one of metric, queries and expression.
    pub cloudwatch: Option<CloudWatchSpec>,
    /// Makes a signal up, to try an HPA with: exactly one of its fields.
    pub simulated: Option<SimulatedSpec>,
    /// How often the source is asked: a duration like 15s, 1s or more. For `cloudwatch` not below the
    /// period nor 10s, and rounded up to whole periods. Default: that of the server config (15s
    /// unless it says otherwise), raised where it is too short.
    pub refresh: Option<GoDuration>,
    /// The oldest sample that is served: a duration like 2m, not below `refresh`. Default: that of
    /// the server config (2m unless it says otherwise); for `cloudwatch` its delay and five periods.
    pub max_age: Option<GoDuration>,
    /// What is served while the source answers that there is no data: error (HPAs do not scale on
    /// this metric), hold (the last value, until it is older than `maxAge`), or a number. Default:
    /// that of the server config (hold unless it says otherwise).
    pub on_no_data: Option<NoData>,
    /// Values are multiplied by this: a quantity like 2, "0.001" or 500m.
    pub scale: Option<Number>,
    /// Added after scaling: a quantity.
    pub offset: Option<Number>,
    /// Values below this become this: a quantity. Default: 0, or no bound with `allowNegative`.
    pub min: Option<Number>,
    /// Values above this become this: a quantity. Default: no bound.
    pub max: Option<Number>,
    /// Whether values below zero may be served.
    pub allow_negative: bool,
    /// How the series of one answer become one; none keeps them apart, and HPAs add up those that
    /// they select.
    pub aggregate: Option<AggregateName>,
    /// Ask the source even while no HPA reads the metric, so that the first read waits for nothing.
    pub keep_warm: bool,
}

/// Names of [`Aggregate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct LabelSelector {
    /// Labels and the values that they must have.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements; all must hold.
    pub match_expressions: Vec<LabelExpression>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct LabelExpression {
    /// The label.
    pub key: Option<String>,
    /// How the label compares.
    pub operator: Option<LabelOperator>,
    /// What with: at least one for `In` and `NotIn`, none for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// Operators of `metav1.LabelSelector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the words are those of the model's type, documented there")]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// An instant query.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct PrometheusSpec {
    /// The expression, in PromQL. `$namespace` stands for the namespace of the HPA that asks; in
    /// metrics of objects `$objects` stands for a regular expression of the names of the objects that
    /// are asked for.
    pub query: Option<String>,
    /// The label of the series that holds an object's name. Default: the resource's singular name, as
    /// in pod.
    pub object_label: Option<String>,
    /// How far back a sample may lie that the query takes for current: a duration. Default: the
    /// server's own.
    pub lookback_delta: Option<GoDuration>,
}

/// The depth of queues.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct SqsSpec {
    /// Names, URLs or ARNs of queues; their depths are added up.
    pub queues: Option<Vec<String>>,
    /// Which messages count: visible, `inFlight` (received, not yet deleted), delayed.
    pub count: Option<Vec<CountName>>,
    /// The region of queues that are given by name. Default: that of the source.
    pub region: Option<String>,
    /// The role to read as. The source must allow it (`allowedRoles`). Default: the
    /// source's own identity.
    pub role_arn: Option<String>,
}

/// Names of [`QueueCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct CloudWatchSpec {
    /// One metric.
    pub metric: Option<MetricSpec>,
    /// Several queries that refer to each other by id; one of them is returned.
    pub queries: Option<Vec<MetricQuerySpec>>,
    /// An expression that finds its data by itself: a Metrics Insights query (SELECT), SEARCH and the
    /// like. It needs `period`.
    pub expression: Option<String>,
    /// The period of everything that does not name one: 1s, 5s, 10s, 20s, 30s or a multiple of 1m,
    /// 24h at most.
    pub period: Option<GoDuration>,
    /// How long `CloudWatch` takes to fill a datapoint: younger ones are not looked at. A duration in
    /// whole seconds. Default: one period.
    pub delay: Option<GoDuration>,
    /// How far to look back for the newest datapoint: a duration in whole seconds, at least `delay`
    /// and one period. Default: `delay` and five periods.
    pub lookback: Option<GoDuration>,
    /// The region to ask. Default: that of the source.
    pub region: Option<String>,
    /// The role to ask as. The source must allow it (`allowedRoles`). Default: the
    /// source's own identity.
    pub role_arn: Option<String>,
}

/// One query of several: exactly one of `metric` and `expression`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct MetricQuerySpec {
    /// What expressions call it: a lower-case letter, then letters, digits and underscores.
    pub id: Option<String>,
    /// A metric.
    pub metric: Option<MetricSpec>,
    /// Metric math over other queries, by their ids; or what finds its data by itself: SELECT,
    /// SEARCH.
    pub expression: Option<String>,
    /// Whether its series are the metric. Exactly one query is returned: the one that says true here
    /// or, when none does, the only one that does not say false.
    pub r#return: Option<bool>,
    /// The label of its series.
    pub label: Option<String>,
    /// The period of an expression that finds its data by itself. A metric has its own, and metric
    /// math has that of its operands.
    pub period: Option<GoDuration>,
}

/// A statistic of one metric.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct MetricSpec {
    /// The namespace, like `AWS/ApplicationELB`.
    pub namespace: Option<String>,
    /// The name, like `RequestCount`.
    pub name: Option<String>,
    /// The exact set of dimensions that the metric has. Default: none.
    #[serde(deserialize_with = "dimensions")]
    pub dimensions: BTreeMap<String, String>,
    /// The statistic: Average, Sum, Minimum, Maximum, `SampleCount`, IQM, p99.9, tm90, TM(10%:90%),
    /// PR(:0.3) and the like.
    pub statistic: Option<String>,
    /// The length of a datapoint: 1s, 5s, 10s, 20s, 30s or a multiple of 1m, 24h at most. Default:
    /// that of the whole.
    pub period: Option<GoDuration>,
    /// Counts only datapoints that are stored with this unit. Default: all.
    pub unit: Option<String>,
    /// The account that has the metric, where this account monitors that one. Default: that of the
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
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct SimulatedSpec {
    /// Always this value: a quantity.
    pub constant: Option<Number>,
    /// From one value to another, then staying there; begins when the server starts.
    pub ramp: Option<RampSpec>,
    /// Values that each hold for a time, over and over.
    pub steps: Option<Vec<StepSpec>>,
    /// A sine between two values.
    pub wave: Option<WaveSpec>,
    /// Uniform noise between two values.
    pub noise: Option<NoiseSpec>,
    /// A recording, replayed and repeated: a file of `seconds,value` rows.
    pub csv: Option<String>,
}

/// From one value to another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct RampSpec {
    /// The first value: a quantity.
    pub from: Option<Number>,
    /// The last value: a quantity.
    pub to: Option<Number>,
    /// The time from the first to the last: a duration.
    pub over: Option<GoDuration>,
}

/// A value and how long it holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct StepSpec {
    /// The value: a quantity.
    pub value: Option<Number>,
    /// How long it holds: a duration.
    pub r#for: Option<GoDuration>,
}

/// A sine between two values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct WaveSpec {
    /// The trough: a quantity.
    pub min: Option<Number>,
    /// The crest: a quantity.
    pub max: Option<Number>,
    /// The time from crest to crest: a duration.
    pub period: Option<GoDuration>,
}

/// Uniform noise between two values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub struct NoiseSpec {
    /// Chooses the sequence.
    pub seed: u64,
    /// The smallest value: a quantity.
    pub min: Option<Number>,
    /// The largest value: a quantity.
    pub max: Option<Number>,
}
