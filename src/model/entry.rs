//! The catalog's entry: one metric definition, translated from the document its author wrote.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{Labels, MetricName, ObjectsOf, Policy, QueryTemplate, Selector, Transform};

/// The kinds of document that define a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefinitionKind {
    /// `ExternalMetric`: seen in one namespace.
    ExternalMetric,
    /// `ClusterExternalMetric`: seen in every namespace, or in those it selects.
    ClusterExternalMetric,
    /// `CustomMetric`: a metric of objects, seen in one namespace.
    CustomMetric,
    /// `ClusterCustomMetric`: a metric of objects, seen in every namespace, or in those it selects.
    ClusterCustomMetric,
    /// `ExternalMetric` of the group `metrics.aws`, k8s-cloudwatch-adapter's: a resource alone, never
    /// a file.
    AwsExternalMetric,
}

impl DefinitionKind {
    /// The kinds that a file can hold.
    pub const ALL: [Self; 4] = [
        Self::ExternalMetric,
        Self::ClusterExternalMetric,
        Self::CustomMetric,
        Self::ClusterCustomMetric,
    ];

    /// The kinds of which a cluster can have resources.
    pub const RESOURCES: [Self; 5] = [
        Self::ExternalMetric,
        Self::ClusterExternalMetric,
        Self::CustomMetric,
        Self::ClusterCustomMetric,
        Self::AwsExternalMetric,
    ];

    /// The document's `kind`; with its group where that is not ours.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExternalMetric => "ExternalMetric",
            Self::ClusterExternalMetric => "ClusterExternalMetric",
            Self::CustomMetric => "CustomMetric",
            Self::ClusterCustomMetric => "ClusterCustomMetric",
            Self::AwsExternalMetric => "ExternalMetric.metrics.aws",
        }
    }

    /// The API group of its resources.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::ExternalMetric
            | Self::ClusterExternalMetric
            | Self::CustomMetric
            | Self::ClusterCustomMetric => "tidepole.dev",
            Self::AwsExternalMetric => "metrics.aws",
        }
    }

    /// The plural name of its resources, in lower case as in the API's paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::ExternalMetric | Self::AwsExternalMetric => "externalmetrics",
            Self::ClusterExternalMetric => "clusterexternalmetrics",
            Self::CustomMetric => "custommetrics",
            Self::ClusterCustomMetric => "clustercustommetrics",
        }
    }

    /// Whether its documents are in a namespace, and their metrics seen there alone.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        matches!(self, Self::ExternalMetric | Self::CustomMetric | Self::AwsExternalMetric)
    }

    /// Whether an HPA's selector has no say in which of its series are served: k8s-cloudwatch-adapter
    /// has one number for each resource, and reads no selector.
    #[must_use]
    pub fn ignores_selectors(self) -> bool {
        matches!(self, Self::AwsExternalMetric)
    }

    /// Whether it defines a metric of objects.
    #[must_use]
    pub fn is_custom(self) -> bool {
        matches!(self, Self::CustomMetric | Self::ClusterCustomMetric)
    }
}

/// Which document a metric comes from: kind, namespace and name. Unique among the documents of all
/// files, and among the resources of the cluster; see [`DefinitionKey`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefinitionId {
    /// The document's kind.
    pub kind: DefinitionKind,
    /// `metadata.namespace`; none for cluster-wide kinds.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl DefinitionId {
    /// The resource as `kubectl get` takes it, with its namespace in front of the name:
    /// `externalmetrics.tidepole.dev/shop/jobs`.
    #[must_use]
    pub fn resource_path(&self) -> String {
        let kind = self.kind;
        match &self.namespace {
            Some(namespace) => {
                format!("{}.{}/{namespace}/{}", kind.plural(), kind.group(), self.name)
            }
            None => format!("{}.{}/{}", kind.plural(), kind.group(), self.name),
        }
    }
}

impl fmt::Display for DefinitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}

/// Which definition of all that there are: a file's document and a resource of the cluster may have the
/// same kind, namespace and name, and define different metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefinitionKey {
    /// Which document.
    pub id: DefinitionId,
    /// Whether it is a resource of the cluster, and not a document of a file.
    pub is_resource: bool,
}

impl fmt::Display for DefinitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Where a document was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A file and the line on which the document starts (1-based).
    File {
        /// The file.
        path: PathBuf,
        /// First line of the document.
        line: usize,
    },
    /// A resource of the cluster. Later than every file in the order of precedence; of two, the one
    /// that was created first comes first.
    Resource {
        /// `metadata.creationTimestamp`
        created: Timestamp,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Resource { created } => write!(f, "resource of {created}"),
        }
    }
}

/// In which namespaces a definition is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace.
    Namespace(Arc<str>),
    /// Every namespace.
    All,
    /// The namespaces listed in `spec.namespaces`.
    Listed(BTreeSet<Arc<str>>),
    /// The namespaces whose labels match `spec.namespaceSelector`.
    Selected(Selector),
}

/// One metric definition, ready to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The document it comes from.
    pub id: DefinitionId,
    /// Where that document was read.
    pub origin: Origin,
    /// What HPAs ask for.
    pub metric: MetricName,
    /// Of which objects; none for an external metric.
    pub objects: Option<ObjectsOf>,
    /// Who can see it.
    pub scope: Scope,
    /// Constant labels of its series. They win over a series' own labels of the same name.
    pub labels: Labels,
    /// What is asked of the source.
    pub query: QueryTemplate,
    /// How fresh it must be, and what to do without data. Shared, like `transform`, by the
    /// definitions of a file that say the same.
    pub policy: Arc<Policy>,
    /// How an upstream number becomes the served number.
    pub transform: Arc<Transform>,
}

impl Entry {
    /// Which definition it is.
    #[must_use]
    pub fn key(&self) -> DefinitionKey {
        let is_resource = matches!(self.origin, Origin::Resource { .. });
        DefinitionKey { id: self.id.clone(), is_resource }
    }

    /// What its series are selected by when somebody reads with this selector.
    #[must_use]
    pub fn selected_by<'a>(&self, asked: &'a Selector) -> &'a Selector {
        if self.id.kind.ignores_selectors() { Selector::everything() } else { asked }
    }
}
