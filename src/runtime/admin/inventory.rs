//! What the status page shows, as the admin listener wants to be told.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jiff::Timestamp;
use serde::Serialize;

use crate::control::{hpa_watch, rule_watch};
use crate::model::{Labels, Problem, Tick};
use crate::runtime::admin::{Configuration, Detail, Foresight, Reloaded, Roots};

/// Where the value of a metric stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricState {
    /// The latest refresh succeeded and is no older than one interval.
    Fresh,
    /// The last good value is served; a newer one is due or failed.
    Servable,
    /// No value may be served: the latest read failed.
    Failed,
    /// No value may be served: the last good one is older than `maxAge`.
    Expired,
    /// The first read has not ended yet.
    Waiting,
    /// Nobody reads it, so nobody refreshes it.
    Idle,
}

impl MetricState {
    /// All states, the ones that need a person first.
    pub const ALL: [Self; 6] =
        [Self::Failed, Self::Expired, Self::Waiting, Self::Servable, Self::Fresh, Self::Idle];

    /// The word that the page, `?state=` and the JSON use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Servable => "servable",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
        }
    }
}

/// One metric definition, or one query of a rule that somebody reads, and the state of its value.
#[derive(Clone, Debug)]
pub struct MetricRow {
    /// What HPAs ask for.
    pub metric: String,
    /// Who can see it: a namespace, several separated by commas, or [`MetricRow::ALL_NAMESPACES`].
    pub scope: String,
    /// Constant labels.
    pub labels: Labels,
    /// The document: kind, namespace and name.
    pub definition: String,
    /// Where the document was read.
    pub origin: String,
    /// Name of the source.
    pub source: String,
    /// Kind of query: `prometheus`, `sqs`, `simulated`.
    pub source_kind: &'static str,
    /// What is asked of the source, as a person would write it. No secrets.
    pub query: String,
    /// Where the value stands.
    pub state: MetricState,
    /// The value as the API renders it, or a count like `12 series`.
    pub value: Option<String>,
    /// Age of the sample, by the rule that `maxAge` uses.
    pub sample_age: Option<Duration>,
    /// The timestamp that the API reports.
    pub timestamp: Option<Timestamp>,
    /// What is worth knowing about a value that is served: labels that the definition overrides,
    /// warnings of the upstream.
    pub notes: Vec<String>,
    /// Why the latest read failed, until one succeeds.
    pub last_error: Option<String>,
    /// How long ago that was.
    pub last_error_age: Option<Duration>,
    /// How often the upstream is read.
    pub refresh: Duration,
    /// Age from which on the value is not served.
    pub max_age: Duration,
    /// Whether it is being refreshed.
    pub wanted: bool,
    /// How long ago somebody read it.
    pub last_read_age: Option<Duration>,
    /// HPAs that refer to it.
    pub hpas: u32,
    /// Whether nobody uses its definition: no HPA asks for it, and nobody has read it lately. False
    /// where the HPAs are not known.
    pub unused: bool,
    /// How often the upstream was asked, calls that it shared with others included. Definitions
    /// with the same query share the number.
    pub upstream_reads: u64,
    /// How many metrics were requested, as the upstream bills them, where a search counts as one;
    /// none where it bills no metrics.
    pub metrics_requested: Option<u64>,
    /// Time until it is tried again, less often than others because it keeps failing or was refused.
    pub apart: Option<Duration>,
    /// Its query's state and its definition.
    pub roots: Roots,
}

impl MetricRow {
    /// The scope of a definition that every namespace sees.
    pub const ALL_NAMESPACES: &'static str = "all namespaces";

    /// The definition of a metric that a rule gives: all have the same, and are told apart by query.
    pub const OF_RULE: &'static str = "rule, read on demand";

    /// Where the page of this metric is. The same from look to look, as long as its definition, or
    /// its rule's query, is.
    pub(super) fn link(&self) -> String {
        let path = "/metric?".to_owned();
        let start = path.len();
        let mut link = url::form_urlencoded::Serializer::for_suffix(path, start);
        link.append_pair("definition", &self.definition).append_pair("scope", &self.scope);
        if self.definition == Self::OF_RULE {
            link.append_pair("metric", &self.metric).append_pair("query", &self.query_id());
        }
        link.finish()
    }

    /// Whether a request for a link of this kind, decoded, means this metric.
    pub(super) fn is_meant(&self, asked: &[(String, String)]) -> bool {
        let says = |key: &str, value: &str| asked.iter().any(|(k, v)| k == key && v == value);
        says("definition", &self.definition)
            && says("scope", &self.scope)
            && (self.definition != Self::OF_RULE
                || says("metric", &self.metric) && says("query", &self.query_id()))
    }

    /// A short word for the query: it may be longer than a link.
    fn query_id(&self) -> String {
        // Fixed seeds: the same in every replica.
        format!("{:016x}", ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(&self.query))
    }
}

/// What the metrics of a source that are refreshed now cost, at its prices.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceCost {
    /// Name of the source.
    pub source: String,
    /// `CloudWatch` metrics that are asked for.
    pub metrics_per_minute: f64,
    /// Requests to SQS.
    pub requests_per_minute: f64,
    /// All of it, in US dollars. What `SEARCH` and Metrics Insights find counts as one metric.
    pub dollars_per_month: f64,
    /// Whether something of that kind is among it, so that it may be more.
    pub is_open_ended: bool,
}

/// How an upstream is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRow {
    /// Name of the source.
    pub source: String,
    /// Service, region and role; empty where the source has one upstream only.
    pub upstream: String,
    /// Where its breaker is: `closed`, `open` or `half-open`; none without one.
    pub breaker: Option<&'static str>,
    /// Calls that are allowed at present.
    pub calls_per_second: Option<f64>,
    /// Fetches under way.
    pub running: usize,
    /// Metrics that are due and wait for a fetch.
    pub queued: usize,
    /// Those of them that have waited for more than a second.
    pub overdue: usize,
    /// How long the one has waited that waits longest.
    pub lateness_seconds: f64,
}

/// Who knows all metrics and what is wrong with the definitions. Answers from memory.
pub trait Inventory: Send + Sync + 'static {
    /// Every metric, in any order.
    fn metrics(&self) -> Vec<MetricRow>;

    /// What is wrong in the definitions that could not be loaded.
    fn problems(&self) -> Vec<Problem>;

    /// Definitions that lost against another one with the same name and labels, as sentences.
    fn conflicts(&self) -> Vec<String>;

    /// How the watch of HPAs stands; none when there is no cluster.
    fn hpas(&self) -> Option<hpa_watch::Report> {
        None
    }

    /// Who asks for what, and what they would get; none when there is no cluster.
    fn foresight(&self) -> Option<Foresight> {
        None
    }

    /// Where rules stand; none when there are no rule files.
    fn rules(&self) -> Option<rule_watch::Report> {
        None
    }

    /// What reading costs, by source.
    fn costs(&self) -> Vec<SourceCost>;

    /// How the upstreams of wanted metrics are doing, by source and name.
    fn upstreams(&self) -> Vec<UpstreamRow> {
        Vec::new()
    }

    /// The moment to which histories are told.
    fn tick(&self) -> Tick {
        Tick::default()
    }

    /// What is known of a metric beyond its row. Sends nothing to an upstream, and makes nothing
    /// wanted.
    fn detail(&self, _row: &MetricRow) -> BoxFuture<'static, Detail> {
        ready(Detail::default()).boxed()
    }

    /// The configuration in effect, without secrets.
    fn configuration(&self) -> Arc<Configuration> {
        Arc::default()
    }

    /// What the last change of the definition files came to; none before they were read.
    fn reloaded(&self) -> Option<Reloaded> {
        None
    }

    /// How long the process has been running.
    fn uptime(&self) -> Duration;

    /// The running version.
    fn version(&self) -> &'static str {
        crate::telemetry::build::VERSION
    }
}
