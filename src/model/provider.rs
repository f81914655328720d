//! The traits through which the API asks for metrics and for the server's state.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::{ApiError, GroupResource, Labels, MetricName, Quantity, Selector};

/// One item of an external metric list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricItem {
    /// The series' labels.
    pub labels: Labels,
    /// When the value was true, by the sample's own rule (see [`crate::model::Sample`]).
    pub timestamp: Timestamp,
    /// The value.
    pub value: Quantity,
}

/// The answer to a read of an external metric. Of a definition it is never empty: a read without a
/// matching series is an error, because an empty list tells the HPA's user nothing. Of a rule it is
/// empty when the upstream's answer was, as the original's is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalReading {
    /// The metric's name; that of a definition is case-folded.
    pub metric: MetricName,
    /// Its series.
    pub items: Vec<MetricItem>,
}

/// Which objects a read of a custom metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectChoice<'a> {
    /// One by name.
    Named(&'a str),
    /// `*`: those whose labels match.
    Matching(&'a Selector),
}

/// A read of a custom metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomRequest<'a> {
    /// `<resource>[.<group>]` as it stands in the path, decoded: `pods`, `deployments.apps`.
    pub resource: &'a str,
    /// The namespace of the objects; none for objects outside of namespaces. Namespaces themselves
    /// (`namespaces/<ns>/metrics/<metric>`) are a read of resource `namespaces` without one.
    pub namespace: Option<&'a str>,
    /// Which objects.
    pub objects: ObjectChoice<'a>,
    /// The metric's name as it stands in the path, decoded.
    pub metric: &'a str,
    /// `metricLabelSelector`.
    pub metric_selector: &'a Selector,
}

/// The object that a value is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedObject {
    /// Its kind: `Pod`.
    pub kind: Arc<str>,
    /// Its namespace, if it has one.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// Group, slash, version: `apps/v1`, and `/v1` for the core group.
    pub api_version: Arc<str>,
}

/// One item of a custom metric list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomItem {
    /// What the value is about.
    pub object: DescribedObject,
    /// When the value was true.
    pub timestamp: Timestamp,
    /// The value.
    pub value: Quantity,
}

/// The answer to a read of a custom metric: one item for each object that has a value, in the order
/// in which Kubernetes lists the objects. May be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomReading {
    /// The metric's name.
    pub metric: Arc<str>,
    /// `metricLabelSelector`, told back in every item.
    pub selector: Selector,
    /// The items.
    pub items: Vec<CustomItem>,
}

/// A custom metric that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomMetricName {
    /// Of which objects.
    pub resource: GroupResource,
    /// The metric.
    pub metric: Arc<str>,
    /// Whether it is asked for in a namespace.
    pub namespaced: bool,
}

/// An answer that is there already, or one that has to be waited for.
///
/// Reads from memory are `Ready` and cost no allocation for a future; only the first read of an
/// unknown query is `Wait`.
pub enum Reading<T> {
    /// Answered from memory.
    Ready(Result<T, ApiError>),
    /// A first fetch is under way; bounded by the definition's `firstReadTimeout`.
    Wait(BoxFuture<'static, Result<T, ApiError>>),
}

impl<T> Reading<T> {
    /// Waits if it must.
    ///
    /// # Errors
    /// Whatever the reading ends in.
    pub async fn resolve(self) -> Result<T, ApiError> {
        match self {
            Self::Ready(result) => result,
            Self::Wait(future) => future.await,
        }
    }
}

/// Who answers metric reads. The API knows nothing else about where values come from.
pub trait MetricsProvider: Send + Sync + 'static {
    /// Reads an external metric. `metric` is the path segment as it arrived, decoded; the provider
    /// folds its case.
    fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Reading<ExternalReading>;

    /// The names of all external metrics, sorted and unique, for people who look at the legacy
    /// resource list. Must come from memory: the aggregator probes that list for health.
    fn external_names(&self) -> Arc<[MetricName]>;

    /// Names of external metrics like one that is not served in the namespace, among those that are:
    /// nearest first, three at most. Whether a reader may know them is not looked at. For the
    /// sentence of a refusal; its cost is bounded, whatever the name.
    fn near_external(&self, _namespace: &str, _metric: &str) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The same for a custom metric of the objects of this request.
    fn near_custom(&self, _request: &CustomRequest<'_>) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// Reads a custom metric.
    fn custom(&self, request: &CustomRequest<'_>) -> Reading<CustomReading>;

    /// All custom metrics, sorted and unique, for people. Must come from memory.
    fn custom_names(&self) -> Arc<[CustomMetricName]>;
}

/// Labels of namespaces, for definitions that choose namespaces by label.
pub trait NamespaceDirectory: Send + Sync + 'static {
    /// The labels of a namespace; `None` when it is not known.
    fn labels(&self, namespace: &str) -> Option<Labels>;
}

/// One named health check and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// Name, as `/readyz/<name>` and `?exclude=<name>` use it.
    pub name: &'static str,
    /// Why it fails; `None` when it passes.
    pub failure: Option<String>,
}

/// Which health endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// `/livez`: the process works. Depends on nothing outside.
    Live,
    /// `/readyz`: send requests here.
    Ready,
    /// `/healthz`: kept for old probes; the same checks as `/livez`.
    Health,
}

impl Probe {
    /// The endpoint's name, as its text answers use it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Health => "healthz",
        }
    }
}

/// What the API and admin listeners tell about the process itself.
pub trait ServerState: Send + Sync + 'static {
    /// The checks of one health endpoint, in a fixed order.
    fn probe(&self, probe: Probe) -> Vec<ProbeReport>;

    /// The process's metrics in the `OpenMetrics` text format.
    fn metrics_text(&self) -> String;
}
