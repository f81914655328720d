//! The parts of a `HorizontalPodAutoscaler` that say which metrics it reads.
//!
//! Decoded leniently and sparsely: an HPA's status changes every few seconds, and a field that a
//! later Kubernetes adds must not cost us the whole list.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use crate::model::{
    MetricReference, ObjectReference, Operator, ReferenceKind, Requirement, Selector,
};

/// An `autoscaling/v2` HPA, without its status.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hpa {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    scale_target_ref: Named,
    #[serde(default)]
    metrics: Option<Vec<Metric>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Metric {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    external: Option<Source>,
    #[serde(default)]
    pods: Option<Source>,
    #[serde(default)]
    object: Option<Source>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    metric: Identifier,
    #[serde(default)]
    described_object: Named,
}

#[derive(Clone, Debug, Deserialize)]
struct Identifier {
    name: String,
    #[serde(default)]
    selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

/// Name, namespace and version of an object, and nothing of the rest: managed fields alone are
/// often larger than the spec.
fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
    }
    let Identity { name, namespace, resource_version } = Identity::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() })
}

impl Resource for Hpa {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "HorizontalPodAutoscaler".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "autoscaling".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v2".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "horizontalpodautoscalers".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Hpa {
    /// Namespace and name, unique among HPAs.
    pub(super) fn key(&self) -> Arc<str> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", self.metadata.name.as_deref().unwrap_or_default()).into()
    }

    /// The metrics that are read from a metrics API of ours, each once. `Resource` and
    /// `ContainerResource` are read from `metrics.k8s.io`. A metric whose selector the controller
    /// itself refuses is left out: it is never read.
    pub(super) fn references(&self) -> Vec<MetricReference> {
        let namespace: Arc<str> = self.metadata.namespace.as_deref().unwrap_or_default().into();
        let mut references: Vec<MetricReference> = Vec::new();
        for metric in self.spec.metrics.iter().flatten() {
            let Some(reference) = self.reference(&namespace, metric) else { continue };
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        references
    }

    fn reference(&self, namespace: &Arc<str>, metric: &Metric) -> Option<MetricReference> {
        let (source, kind) = match metric.kind.as_str() {
            "External" => (metric.external.as_ref()?, ReferenceKind::External),
            "Pods" => {
                let target = self.spec.scale_target_ref.reference();
                (metric.pods.as_ref()?, ReferenceKind::Pods { target })
            }
            "Object" => {
                let source = metric.object.as_ref()?;
                let object = source.described_object.reference();
                (source, ReferenceKind::Object { object })
            }
            _ => return None,
        };
        let Identifier { name, selector } = &source.metric;
        let name = match kind {
            // As client-go writes it into the path.
            ReferenceKind::External => name.to_lowercase(),
            ReferenceKind::Pods { .. } | ReferenceKind::Object { .. } => name.clone(),
        };
        Some(MetricReference {
            namespace: Arc::clone(namespace),
            metric: name.into(),
            selector: selector.as_ref().map_or_else(|| Some(Selector::default()), selector_of)?,
            kind,
        })
    }
}

impl Named {
    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: self.api_version.as_str().into(),
            kind: self.kind.as_str().into(),
            name: self.name.as_str().into(),
        }
    }
}

/// The selector that the controller makes of the object form (`LabelSelectorAsSelector`).
fn selector_of(selector: &LabelSelector) -> Option<Selector> {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| Requirement {
        key: key.clone(),
        operator: Operator::Equals,
        values: vec![value.clone()],
    });
    let mut requirements: Vec<Requirement> = labels.collect();
    for expression in selector.match_expressions.iter().flatten() {
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        values.dedup();
        let (operator, wants_values) = match expression.operator.as_str() {
            "In" => (Operator::In, true),
            "NotIn" => (Operator::NotIn, true),
            "Exists" => (Operator::Exists, false),
            "DoesNotExist" => (Operator::DoesNotExist, false),
            _ => return None,
        };
        if values.is_empty() == wants_values {
            return None;
        }
        requirements.push(Requirement { key: expression.key.clone(), operator, values });
    }
    // As the string form is read: equal selectors are equal values.
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Some(Selector::new(requirements))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn hpa(metrics: &serde_json::Value) -> Hpa {
        serde_json::from_value(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": "web", "namespace": "shop", "resourceVersion": "7", "uid": "1",
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "maxReplicas": 10,
                "metrics": metrics,
            },
            "status": {"currentReplicas": 3, "currentMetrics": [{"type": "External"}]},
        }))
        .unwrap()
    }

    fn shown(metrics: &serde_json::Value) -> Vec<String> {
        hpa(metrics).references().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_metric_is_understood() {
        let metric = json!({"name": "Depth", "selector": {"matchLabels": {"queue": "a"}}});
        let target = json!({"type": "Value", "value": "5"});
        let all = json!([
            {"type": "External", "external": {"metric": metric, "target": target}},
            {"type": "Pods", "pods": {"metric": {"name": "Depth"}, "target": target}},
            {"type": "Object", "object": {
                "metric": metric, "target": target,
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"},
            }},
            {"type": "Resource", "resource": {"name": "cpu", "target": target}},
            {"type": "ContainerResource", "containerResource": {
                "name": "cpu", "container": "app", "target": target,
            }},
            {"type": "Tomorrow", "tomorrow": {"metric": {"name": "x"}}},
        ]);
        let hpa = hpa(&all);
        assert_eq!(&*hpa.key(), "shop/web");
        let object = |api_version: &str, kind: &str, name: &str| ObjectReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
        };
        let reference = |metric: &str, selector: &str, kind| MetricReference {
            namespace: "shop".into(),
            metric: metric.into(),
            selector: Selector::parse(selector).unwrap(),
            kind,
        };
        assert_eq!(
            hpa.references(),
            [
                reference("depth", "queue=a", ReferenceKind::External),
                reference(
                    "Depth",
                    "",
                    ReferenceKind::Pods { target: object("apps/v1", "Deployment", "web") }
                ),
                reference(
                    "Depth",
                    "queue=a",
                    ReferenceKind::Object { object: object("v1", "Service", "front") }
                ),
            ]
        );
    }

    #[test]
    fn selectors_are_those_that_the_controller_sends() {
        let external = |selector| json!({"type": "External", "external": {"metric": {"name": "m", "selector": selector}}});
        assert_eq!(
            shown(&json!([external(json!({
                "matchLabels": {"tier": "gold", "app": "x"},
                "matchExpressions": [
                    {"key": "queue", "operator": "In", "values": ["b", "a", "b"]},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "tier", "operator": "NotIn", "values": ["lead"]},
                    {"key": "zone", "operator": "Exists", "values": []},
                ],
            }))])),
            ["external metric m in shop \
              (app=x,!old,queue in (a,b),tier=gold,tier notin (lead),zone)"]
        );
        assert_eq!(shown(&json!([external(json!({})), external(json!(null))])).len(), 1);
        for refused in [
            json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
        ] {
            assert!(shown(&json!([external(refused)])).is_empty());
        }
    }

    #[test]
    fn an_hpa_that_says_little_is_no_mistake() {
        assert!(shown(&json!(null)).is_empty());
        assert!(shown(&json!([{"type": "External"}])).is_empty());
        let bare: Hpa = serde_json::from_value(json!({"metadata": {"name": "x"}})).unwrap();
        assert!(bare.references().is_empty());
    }

    proptest! {
        /// What the string form says and what the object form says are the same selector.
        #[test]
        fn both_forms_of_a_selector_are_one(
            labels in proptest::collection::btree_map("[a-f]", "[x-z]{1,2}", 0..4),
        ) {
            let text: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let selector =
                LabelSelector { match_labels: Some(labels), match_expressions: None };
            prop_assert_eq!(selector_of(&selector), Selector::parse(&text.join(",")).ok());
        }
    }
}
