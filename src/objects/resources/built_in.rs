//! Kubernetes' own resources, for where no cluster can be asked.

use std::sync::Arc;

use super::table::{GroupVersion, Served, Table};
use crate::model::{Resource, ResourceDirectory};

/// Plural name, kind, whether in namespaces.
type Row = (&'static str, &'static str, bool);

/// Groups with the version that the API server prefers, in its order, of Kubernetes 1.34. Without
/// what is not an object that a series could be about (reviews, bindings, events of old).
const GROUPS: &[(&str, &str, &[Row])] = &[
    (
        "",
        "v1",
        &[
            ("configmaps", "ConfigMap", true),
            ("endpoints", "Endpoints", true),
            ("events", "Event", true),
            ("limitranges", "LimitRange", true),
            ("namespaces", "Namespace", false),
            ("nodes", "Node", false),
            ("persistentvolumeclaims", "PersistentVolumeClaim", true),
            ("persistentvolumes", "PersistentVolume", false),
            ("pods", "Pod", true),
            ("podtemplates", "PodTemplate", true),
            ("replicationcontrollers", "ReplicationController", true),
            ("resourcequotas", "ResourceQuota", true),
            ("secrets", "Secret", true),
            ("serviceaccounts", "ServiceAccount", true),
            ("services", "Service", true),
        ],
    ),
    ("apiregistration.k8s.io", "v1", &[("apiservices", "APIService", false)]),
    ("events.k8s.io", "v1", &[("events", "Event", true)]),
    (
        "apps",
        "v1",
        &[
            ("controllerrevisions", "ControllerRevision", true),
            ("daemonsets", "DaemonSet", true),
            ("deployments", "Deployment", true),
            ("replicasets", "ReplicaSet", true),
            ("statefulsets", "StatefulSet", true),
        ],
    ),
    ("autoscaling", "v2", &[("horizontalpodautoscalers", "HorizontalPodAutoscaler", true)]),
    ("batch", "v1", &[("cronjobs", "CronJob", true), ("jobs", "Job", true)]),
    (
        "certificates.k8s.io",
        "v1",
        &[("certificatesigningrequests", "CertificateSigningRequest", false)],
    ),
    (
        "networking.k8s.io",
        "v1",
        &[
            ("ingressclasses", "IngressClass", false),
            ("ingresses", "Ingress", true),
            ("ipaddresses", "IPAddress", false),
            ("networkpolicies", "NetworkPolicy", true),
            ("servicecidrs", "ServiceCIDR", false),
        ],
    ),
    ("policy", "v1", &[("poddisruptionbudgets", "PodDisruptionBudget", true)]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &[
            ("clusterrolebindings", "ClusterRoleBinding", false),
            ("clusterroles", "ClusterRole", false),
            ("rolebindings", "RoleBinding", true),
            ("roles", "Role", true),
        ],
    ),
    (
        "storage.k8s.io",
        "v1",
        &[
            ("csidrivers", "CSIDriver", false),
            ("csinodes", "CSINode", false),
            ("csistoragecapacities", "CSIStorageCapacity", true),
            ("storageclasses", "StorageClass", false),
            ("volumeattachments", "VolumeAttachment", false),
            ("volumeattributesclasses", "VolumeAttributesClass", false),
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[
            ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false),
            ("validatingadmissionpolicies", "ValidatingAdmissionPolicy", false),
            ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false),
        ],
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        &[("customresourcedefinitions", "CustomResourceDefinition", false)],
    ),
    ("scheduling.k8s.io", "v1", &[("priorityclasses", "PriorityClass", false)]),
    ("coordination.k8s.io", "v1", &[("leases", "Lease", true)]),
    ("node.k8s.io", "v1", &[("runtimeclasses", "RuntimeClass", false)]),
    ("discovery.k8s.io", "v1", &[("endpointslices", "EndpointSlice", true)]),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        &[
            ("flowschemas", "FlowSchema", false),
            ("prioritylevelconfigurations", "PriorityLevelConfiguration", false),
        ],
    ),
];

/// Kubernetes' own resources, without those that a cluster adds (CRDs, aggregated APIs). Words mean
/// what they mean in a cluster that has no others.
#[derive(Debug)]
pub struct BuiltInResources(Table);

impl BuiltInResources {
    /// The resources.
    #[must_use]
    pub fn new() -> Self {
        let versions: Vec<GroupVersion> = GROUPS
            .iter()
            .map(|(group, version, rows)| GroupVersion {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                resources: rows
                    .iter()
                    .map(|&(plural, kind, namespaced)| Served {
                        plural: plural.to_owned(),
                        // In all of these the singular name is the kind's, in lower case.
                        singular: kind.to_lowercase(),
                        kind: kind.to_owned(),
                        namespaced,
                    })
                    .collect(),
            })
            .collect();
        Self(Table::new(&versions))
    }
}

impl Default for BuiltInResources {
    fn default() -> Self {
        Self::new()
    }
}

impl ResourceDirectory for BuiltInResources {
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        self.0.resolve(group, resource).cloned()
    }

    /// They never change.
    fn generation(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_in_a_cluster() {
        let all = BuiltInResources::new();
        let found = |path: &str| all.resolve_path(path).map(|r| format!("{} {}", r.id, r.version));
        for (path, wanted) in [
            ("pod", Some("pods v1")),
            ("Ingress", Some("ingresses.networking.k8s.io v1")),
            ("deployments.apps", Some("deployments.apps v1")),
            ("ingress.networking", Some("ingresses.networking.k8s.io v1")),
            ("event", Some("events v1")),
            ("networkpolicies", Some("networkpolicies.networking.k8s.io v1")),
            ("widgets", None),
        ] {
            assert_eq!(found(path).as_deref(), wanted, "{path}");
        }
        assert!(!all.resolve("", "node").unwrap().namespaced);
    }
}
