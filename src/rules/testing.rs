//! A cluster and a Prometheus for the tests of rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::model::{
    GroupResource, OnNoData, Policy, Resource, ResourceDirectory, SeriesShape, SourceName,
};
use crate::rules::{Listed, Registry, Rule, RuleFile};

/// A folder of the recording.
pub(super) fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/prometheus_adapter").join(path)
}

pub(super) fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(recorded(path)).unwrap()).unwrap()
}

/// Group, version, plural, kind, whether in namespaces; in the server's order.
type Row = (&'static str, &'static str, &'static str, &'static str, bool);

/// What a cluster has, as far as labels in tests name it, and the recording's custom resources.
const RESOURCES: &[Row] = &[
    ("", "v1", "configmaps", "ConfigMap", true),
    ("", "v1", "endpoints", "Endpoints", true),
    ("", "v1", "events", "Event", true),
    ("", "v1", "namespaces", "Namespace", false),
    ("", "v1", "nodes", "Node", false),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("", "v1", "persistentvolumes", "PersistentVolume", false),
    // Lists are resources of the original's mapper as well.
    ("", "v1", "podlists", "PodList", true),
    ("", "v1", "pods", "Pod", true),
    ("", "v1", "secrets", "Secret", true),
    ("", "v1", "services", "Service", true),
    ("events.k8s.io", "v1", "events", "Event", true),
    ("apps", "v1", "daemonsets", "DaemonSet", true),
    ("apps", "v1", "deployments", "Deployment", true),
    ("apps", "v1", "replicasets", "ReplicaSet", true),
    ("apps", "v1", "statefulsets", "StatefulSet", true),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
    ("batch", "v1", "cronjobs", "CronJob", true),
    ("batch", "v1", "jobs", "Job", true),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", true),
    ("coordination.k8s.io", "v1", "leases", "Lease", true),
    ("cheese.io", "v1", "brands", "Brand", true),
    ("example.com", "v1", "widgets", "Widget", true),
    ("example.com", "v1beta1", "mice", "Mouse", true),
    ("geo.example.com", "v1", "regions", "Region", false),
    ("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", false),
    ("serving.knative.dev", "v1", "services", "Service", true),
];

/// Resources as `client-go`'s mapper finds them.
pub(super) struct Cluster(Vec<Arc<Resource>>);

impl Cluster {
    pub(super) fn new() -> Self {
        Self::of(RESOURCES)
    }

    pub(super) fn of(rows: &[Row]) -> Self {
        let row = |&(group, version, plural, kind, namespaced): &Row| {
            Arc::new(Resource {
                id: GroupResource { group: group.into(), resource: plural.into() },
                version: version.into(),
                kind: kind.into(),
                singular: kind.to_lowercase().into(),
                namespaced,
            })
        };
        Self(rows.iter().map(row).collect())
    }
}

impl ResourceDirectory for Cluster {
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        let word = resource.to_lowercase();
        let named = |r: &&Arc<Resource>| *r.id.resource == *word || *r.singular == *word;
        let exact = self.0.iter().filter(named).find(|r| group.is_empty() || *r.id.group == *group);
        exact
            .or_else(|| self.0.iter().filter(named).find(|r| r.id.group.starts_with(group)))
            .cloned()
    }

    fn generation(&self) -> u64 {
        0
    }
}

pub(super) fn shape(name: &str, labels: &[&str]) -> SeriesShape {
    let mut labels: Vec<Arc<str>> = labels.iter().map(|&label| label.into()).collect();
    labels.sort();
    SeriesShape { name: name.into(), labels: labels.into() }
}

/// The shapes of an answer of `/api/v1/series`, each at its last place.
fn shapes(answer: &Value) -> Option<Arc<[SeriesShape]>> {
    let all: Vec<SeriesShape> = answer["body"]["data"]
        .as_array()?
        .iter()
        .map(|series| {
            let labels = series.as_object().unwrap();
            let others: Vec<&str> =
                labels.keys().map(String::as_str).filter(|label| *label != "__name__").collect();
            shape(labels.get("__name__").and_then(Value::as_str).unwrap_or(""), &others)
        })
        .collect();
    let last = all.iter().enumerate().filter(|(at, shape)| !all[at + 1..].contains(shape));
    Some(last.map(|(_, shape)| shape.clone()).collect())
}

pub(super) fn parse(text: &str) -> RuleFile {
    RuleFile::parse(Path::new("rules.yaml"), text).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

pub(super) fn listed(rule: &Arc<Rule>, series: Option<Arc<[SeriesShape]>>) -> Listed {
    let policy = Policy {
        refresh: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        on_no_data: OnNoData::Hold,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: false,
    };
    Listed {
        rule: Arc::clone(rule),
        source: SourceName::new("main"),
        policy: Arc::new(policy),
        series,
    }
}

/// The registry of a rule file; `series` answers a rule by its list, index and series query.
pub(super) fn registry(
    file: &RuleFile,
    cluster: &Cluster,
    series: impl Fn(&Rule) -> Option<Arc<[SeriesShape]>>,
) -> Registry {
    let all = |rules: &[Arc<Rule>]| -> Vec<Listed> {
        rules.iter().map(|rule| listed(rule, series(rule))).collect()
    };
    Registry::build(&all(&file.custom), &all(&file.external), cluster)
}

/// The registry of a config of the recording.
pub(super) fn recorded_registry(config: &str) -> Registry {
    let text = std::fs::read_to_string(recorded(&format!("configs/{config}.yaml"))).unwrap();
    let answers = json(&format!("prom/{config}.json"));
    let answer = |rule: &Rule| {
        let answers = answers["responses"].as_array().unwrap();
        let matches = |answer: &&Value| {
            answer["request"][0].as_str().unwrap().ends_with("/api/v1/series")
                && answer["request"][1][0][1] == **rule.series_query()
        };
        shapes(answers.iter().find(matches).unwrap_or_else(|| panic!("{}", rule.series_query())))
    };
    registry(&parse(&text), &Cluster::new(), answer)
}
