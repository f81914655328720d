//! Reads of metrics of pods by a rule: the API on the real lookup, with pods and values in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use tidepole::api::{Api, Settings};
use tidepole::cache::{Admission, Demand, OnDemand, QueryCell};
use tidepole::catalog::Catalog;
use tidepole::lookup::{Cluster, Lookup};
use tidepole::model::{
    Clock, Decimal, GroupResource, Labels, NamespaceDirectory, ObjectDirectory, ObjectReference,
    ObjectSet, Objects, OnNoData, Policy, Probe, ProbeReport, Resource, ResourceDirectory, Sample,
    ScaleDirectory, Series, SeriesShape, ServerState, SourceName, SystemClock, TargetPods,
};
use tidepole::objects::{Found, Index};
use tidepole::rules::{Listed, Registry, RuleFile, Rules};
use tidepole::telemetry::Telemetry;

use crate::objects;

const RULES: &str = r"
rules:
- seriesQuery: 'requests'
  resources: { template: <<.Resource>> }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
";

/// A cluster with two workloads of as many pods as [`objects::PODS`] says, in a namespace of their
/// own.
struct House {
    pods: Index,
    clock: Arc<dyn Clock>,
}

fn name(pods: usize, number: usize) -> String {
    format!("web-{pods}-6d4cf56db6-{number:05}")
}

impl ResourceDirectory for House {
    fn resolve(&self, _: &str, resource: &str) -> Option<Arc<Resource>> {
        let (plural, singular, kind, namespaced) = match resource {
            "pods" | "pod" => ("pods", "pod", "Pod", true),
            "namespaces" | "namespace" => ("namespaces", "namespace", "Namespace", false),
            _ => return None,
        };
        Some(Arc::new(Resource {
            id: GroupResource { group: "".into(), resource: plural.into() },
            version: "v1".into(),
            kind: kind.into(),
            singular: singular.into(),
            namespaced,
        }))
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl ObjectDirectory for House {
    fn names(&self, set: &ObjectSet) -> Objects {
        Objects::Known(self.pods.names(set.namespace.as_deref(), &set.names))
    }

    fn listed(&self, _: &Arc<Resource>) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

impl ScaleDirectory for House {
    fn pods_of(&self, _: &Arc<str>, _: &ObjectReference) -> TargetPods {
        TargetPods::Unknown
    }
}

impl NamespaceDirectory for House {
    fn labels(&self, _: &str) -> Option<Labels> {
        None
    }
}

/// Every question is answered at once, with a value for every pod.
impl Demand for House {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if cell.claim_schedule(self.clock.tick()) {
            let all =
                objects::PODS.into_iter().flat_map(|pods| (0..pods).map(move |n| name(pods, n)));
            let mut names: Vec<String> = all.collect();
            names.sort();
            let value = |name| Series {
                labels: Labels::new([("pod", name)]),
                value: Decimal::new(641, -1),
            };
            let sample = Sample {
                timestamp: self.clock.now(),
                observed: self.clock.tick(),
                series: names.into_iter().map(value).collect(),
                without_number: Vec::new(),
                warnings: Vec::new(),
            };
            cell.complete(Ok(sample), self.clock.tick(), self.clock.now());
        }
        Admission::Accepted
    }
}

impl ServerState for House {
    fn probe(&self, _: Probe) -> Vec<ProbeReport> {
        Vec::new()
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

/// The API over it.
pub(crate) fn api() -> Api {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let all = objects::PODS.into_iter().flat_map(|pods| {
        (0..pods).map(move |number| Found {
            namespace: "default".into(),
            name: name(pods, number).into(),
            labels: Box::new([
                ("app".into(), format!("web-{pods}").into()),
                ("pod-template-hash".into(), "6d4cf56db6".into()),
            ]),
        })
    });
    let house = Arc::new(House { pods: Index::of(all.collect()), clock: Arc::clone(&clock) });
    let file = RuleFile::parse(Path::new("rules.yaml"), RULES).expect("the rules are right");
    let labels: Arc<[Arc<str>]> = ["namespace", "pod"].map(Arc::from).into();
    let policy = Policy {
        refresh: Duration::from_secs(15),
        // Longer than any benchmark runs.
        max_age: Duration::from_hours(24),
        on_no_data: OnNoData::Hold,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: false,
    };
    let listed = Listed {
        rule: Arc::clone(&file.custom[0]),
        source: SourceName::new("main"),
        policy: Arc::new(policy),
        series: Some([SeriesShape { name: "requests".into(), labels }].into()),
    };
    let rules = Arc::new(Rules::new());
    rules.replace(Arc::new(Registry::build(&[listed], &[], &*house)));
    let cluster = Cluster {
        resources: Arc::clone(&house) as _,
        objects: Arc::clone(&house) as _,
        scales: Arc::clone(&house) as _,
    };
    let lookup = Lookup::new(
        Arc::new(Catalog::new()),
        rules,
        Arc::new(OnDemand::new()),
        Arc::clone(&house) as _,
        Arc::clone(&house) as _,
        Some(cluster),
        Arc::clone(&clock),
    );
    let settings = Settings { custom: true, ..Settings::default() };
    Api::new(&settings, Arc::new(lookup), house, clock, &Telemetry::new())
}

/// A read of a workload of so many pods.
pub(crate) fn request(pods: usize) -> Parts {
    objects::get(&format!(
        "namespaces/default/pods/%2A/requests?labelSelector=app%3Dweb-{pods}&metricLabelSelector=verb%3DGET"
    ))
}
