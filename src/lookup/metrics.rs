//! All reads in one place: definitions before rules, external metrics and those of objects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::cache::{Demand, OnDemand};
use crate::catalog::Catalog;
use crate::lookup::cells::{Cells, Eyes};
use crate::lookup::custom::CustomLookup;
use crate::lookup::external::ExternalLookup;
use crate::lookup::message;
use crate::lookup::near::{self, Near};
use crate::lookup::rule::RuleLookup;
use crate::model::name::MAX_METRIC_NAME_BYTES;
use crate::model::{
    Announce, Announced, ApiError, Claim, Clock, CustomMetricName, CustomReading, CustomRequest,
    ExternalReading, MetricName, MetricReference, MetricsProvider, NamespaceDirectory,
    ObjectChoice, ObjectDirectory, Reading, ReferenceKind, ResourceDirectory, ScaleDirectory,
    Selector,
};
use crate::rules::Rules;

/// What is known of the cluster's objects.
#[derive(Clone)]
pub struct Cluster {
    /// Which resources there are.
    pub resources: Arc<dyn ResourceDirectory>,
    /// Which objects.
    pub objects: Arc<dyn ObjectDirectory>,
    /// Which pods the targets of HPAs have.
    pub scales: Arc<dyn ScaleDirectory>,
}

/// Answers every read of a metric.
#[derive(Clone)]
pub struct Lookup {
    external: ExternalLookup,
    rules: RuleLookup,
    /// None without a cluster: then there are no objects.
    pub(super) custom: Option<CustomLookup>,
    /// The same, for those who look on.
    pub(super) onlooker: Onlooker,
    pub(super) near: Arc<Near>,
}

/// Lookups through which nothing is read.
#[derive(Clone)]
pub(super) struct Onlooker {
    pub(super) external: ExternalLookup,
    pub(super) rules: RuleLookup,
    pub(super) custom: Option<CustomLookup>,
}

impl Lookup {
    /// A lookup over definitions and, where there is a cluster, its objects.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        rules: Arc<Rules>,
        on_demand: Arc<OnDemand>,
        demand: Arc<dyn Demand>,
        namespaces: Arc<dyn NamespaceDirectory>,
        cluster: Option<Cluster>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cells = Cells { eyes: Eyes::Reader, on_demand, demand, clock: Arc::clone(&clock) };
        let custom = cluster.map(|cluster| {
            let (catalog, namespaces) = (Arc::clone(&catalog), Arc::clone(&namespaces));
            CustomLookup::new(catalog, Arc::clone(&rules), namespaces, cluster, cells.clone())
        });
        let rules = RuleLookup::new(rules, cells.clone());
        let external = ExternalLookup::new(catalog, namespaces, cells);
        let onlooker = Onlooker {
            external: external.for_onlooker(),
            rules: rules.for_onlooker(),
            custom: custom.as_ref().map(CustomLookup::for_onlooker),
        };
        let near = Arc::new(Near::new(clock));
        Self { external, rules, custom, onlooker, near }
    }
}

impl MetricsProvider for Lookup {
    fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Reading<ExternalReading> {
        match self.external.read(namespace, metric, selector) {
            Ok(reading) => reading,
            Err(unknown) => {
                self.rules.read(namespace, metric, selector).unwrap_or(Reading::Ready(Err(unknown)))
            }
        }
    }

    fn external_names(&self) -> Arc<[MetricName]> {
        let (defined, ruled) = (self.external.names(), self.rules.names());
        if ruled.is_empty() {
            return defined;
        }
        let all: BTreeSet<&MetricName> = defined.iter().chain(ruled.iter()).collect();
        all.into_iter().cloned().collect()
    }

    fn near_external(&self, namespace: &str, metric: &str) -> Vec<Arc<str>> {
        if metric.len() > MAX_METRIC_NAME_BYTES {
            return Vec::new();
        }
        let (Onlooker { external, rules, .. }, metric) = (&self.onlooker, &metric.to_lowercase());
        let seen = |name: &str| external.is_seen(namespace, name) || rules.is_seen(namespace, name);
        let question = near::Question { of: "", namespace, metric };
        self.near.find(question, external.generation(), seen, |search| {
            external.near(namespace, search);
            rules.near(namespace, search);
        })
    }

    fn near_custom(&self, request: &CustomRequest<'_>) -> Vec<Arc<str>> {
        self.custom.as_ref().map_or_else(Vec::new, |custom| custom.near(request, &self.near))
    }

    fn custom(&self, request: &CustomRequest<'_>) -> Reading<CustomReading> {
        if let Some(custom) = &self.custom {
            return custom.read(request);
        }
        let name = match request.objects {
            ObjectChoice::Named(name) => Some(name),
            ObjectChoice::Matching(_) => None,
        };
        let text = message::no_metric_of(request.metric, request.resource, name);
        Reading::Ready(Err(ApiError::MetricUnknown(text)))
    }

    fn custom_names(&self) -> Arc<[CustomMetricName]> {
        self.custom.as_ref().map_or_else(|| Arc::from([]), CustomLookup::names)
    }
}

impl Announce for Lookup {
    fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        match &reference.kind {
            ReferenceKind::External => match self.external.claim(reference, claim) {
                Announced::Unknown => self.rules.claim(reference, claim),
                announced => announced,
            },
            ReferenceKind::Pods { .. } | ReferenceKind::Object { .. } => {
                let custom = self.custom.as_ref();
                custom.map_or(Announced::Unknown, |custom| custom.claim(reference, claim))
            }
        }
    }

    fn release(&self, reference: &MetricReference, claim: Claim) {
        match (&reference.kind, &self.custom) {
            (ReferenceKind::External, _) => {
                self.external.release(reference, claim);
                self.rules.release(reference, claim);
            }
            (ReferenceKind::Pods { .. } | ReferenceKind::Object { .. }, Some(custom)) => {
                custom.release(reference, claim);
            }
            (ReferenceKind::Pods { .. } | ReferenceKind::Object { .. }, None) => {}
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}
