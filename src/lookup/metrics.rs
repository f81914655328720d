//! All reads in one place: definitions before rules, external metrics and those of objects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::cache::{Demand, OnDemand};
use crate::catalog::Catalog;
use crate::lookup::cells::Cells;
use crate::lookup::custom::CustomLookup;
use crate::lookup::external::ExternalLookup;
use crate::lookup::message;
use crate::lookup::rule::RuleLookup;
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
    custom: Option<CustomLookup>,
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
        let cells = || Cells {
            on_demand: Arc::clone(&on_demand),
            demand: Arc::clone(&demand),
            clock: Arc::clone(&clock),
        };
        let custom = cluster.map(|cluster| {
            let (catalog, namespaces) = (Arc::clone(&catalog), Arc::clone(&namespaces));
            CustomLookup::new(catalog, Arc::clone(&rules), namespaces, cluster, cells())
        });
        let rules = RuleLookup::new(rules, cells());
        let external = ExternalLookup::new(catalog, on_demand, demand, namespaces, clock);
        Self { external, rules, custom }
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

    fn custom(&self, request: &CustomRequest<'_>) -> Reading<CustomReading> {
        if let Some(custom) = &self.custom {
            return custom.read(request);
        }
        let name = match request.objects {
            ObjectChoice::Named(name) => Some(name),
            ObjectChoice::Matching(_) => None,
        };
        let text = message::no_metric_of(request.metric, request.resource, name);
        Reading::Ready(Err(ApiError::MetricNotFound(text)))
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
