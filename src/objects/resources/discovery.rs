//! Asking the API server which resources it has.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::core::discovery::v2::APIGroupDiscoveryList;

use super::table::{GroupVersion, Served};
use crate::objects::said::said;

/// How long one call may take: aggregated discovery of a cluster with a thousand CRDs is some
/// megabytes.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Calls at once, where each version of each group is a call of its own.
const AT_ONCE: usize = 8;

/// Metrics APIs, ours among them: what discovery lists there are metrics, not objects.
const METRICS: [&str; 2] = ["custom.metrics.k8s.io", "external.metrics.k8s.io"];

/// How a version that is known but does not tell its resources at the moment is called there.
const STALE: &str = "Stale";

/// A version of a group, and its resources; none if they are not to be had at the moment (an
/// aggregated API whose server is away).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resources: Option<Vec<Served>>,
}

/// Which half of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: all others.
    Groups,
}

/// The versions of a root, best first: groups in the server's order, of each the preferred version
/// first. One call; where the server does not have aggregated discovery (Kubernetes before 1.30),
/// one for each version.
///
/// # Errors
/// With a sentence, when the root does not answer. What a single group does not tell is no error.
pub(super) async fn versions(client: &Client, root: Root) -> Result<Vec<Told>, String> {
    let list = match root {
        Root::Core => bounded(client.list_core_api_versions_aggregated()).await,
        Root::Groups => bounded(client.list_api_groups_aggregated()).await,
    };
    match list {
        Ok(list) if !list.items.is_empty() => Ok(aggregated(list)),
        // Another form, or a refusal of this one.
        Ok(_) | Err(Failed::Form(_)) => legacy(client, root).await,
        Err(Failed::Call(error)) => Err(error),
    }
}

enum Failed {
    /// The server has no such form.
    Form(String),
    /// It could not be asked.
    Call(String),
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Err(_) => Err(Failed::Call(format!("no answer within {CALL_TIMEOUT:?}"))),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error @ kube::Error::SerdeError(_))) => Err(Failed::Form(said(&error))),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 406) => {
            Err(Failed::Form(status.message.clone()))
        }
        Ok(Err(error)) => Err(Failed::Call(said(&error))),
    }
}

/// What aggregated discovery says.
fn aggregated(list: APIGroupDiscoveryList) -> Vec<Told> {
    let mut told = Vec::new();
    for group in list.items {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        if METRICS.contains(&name.as_str()) {
            continue;
        }
        // In order of preference.
        for version in group.versions {
            let Some(number) = version.version else { continue };
            let stale = version.freshness.as_deref() == Some(STALE);
            let resources = version.resources.into_iter().filter_map(|resource| {
                Some(Served {
                    plural: resource.resource?,
                    singular: resource.singular_resource.unwrap_or_default(),
                    kind: resource.response_kind?.kind.unwrap_or_default(),
                    namespaced: resource.scope.as_deref() == Some("Namespaced"),
                })
            });
            let resources = (!stale).then(|| resources.filter(|r| !r.kind.is_empty()).collect());
            told.push(Told { group: name.clone(), version: number, resources });
        }
    }
    told
}

/// The same by a call for each version.
async fn legacy(client: &Client, root: Root) -> Result<Vec<Told>, String> {
    let fail = |failed| match failed {
        Failed::Form(error) | Failed::Call(error) => error,
    };
    let versions: Vec<(String, String)> = match root {
        Root::Core => {
            let versions = bounded(client.list_core_api_versions()).await.map_err(fail)?;
            versions.versions.into_iter().map(|version| (String::new(), version)).collect()
        }
        Root::Groups => {
            let groups = bounded(client.list_api_groups()).await.map_err(fail)?;
            let groups = groups.groups.into_iter();
            let groups = groups.filter(|group| !METRICS.contains(&group.name.as_str()));
            groups
                .flat_map(|group| {
                    let preferred = group.preferred_version.map(|preferred| preferred.version);
                    let mut versions: Vec<String> =
                        group.versions.into_iter().map(|version| version.version).collect();
                    // Stable: the others keep their order.
                    versions.sort_by_key(|version| Some(version) != preferred.as_ref());
                    versions.into_iter().map(move |version| (group.name.clone(), version))
                })
                .collect()
        }
    };
    let told = futures::stream::iter(versions).map(async |(group, version)| {
        let list = if group.is_empty() {
            bounded(client.list_core_api_resources(&version)).await
        } else {
            bounded(client.list_api_group_resources(&format!("{group}/{version}"))).await
        };
        let resources = match list {
            Ok(list) => Some(listed(list)),
            Err(failed) => {
                tracing::debug!(group, version, cause = fail(failed), "a group does not answer");
                None
            }
        };
        Told { group, version, resources }
    });
    Ok(told.buffered(AT_ONCE).collect().await)
}

fn listed(list: APIResourceList) -> Vec<Served> {
    let resources = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    resources
        .map(|resource| Served {
            plural: resource.name,
            singular: resource.singular_name,
            kind: resource.kind,
            namespaced: resource.namespaced,
        })
        .collect()
}

/// What is known after `told`: where a version does not tell its resources, those that it told
/// before.
pub(super) fn known(told: Vec<Told>, before: &[GroupVersion]) -> Vec<GroupVersion> {
    told.into_iter()
        .filter_map(|Told { group, version, resources }| {
            let resources = resources.or_else(|| {
                let same = |known: &&GroupVersion| known.group == group && known.version == version;
                before.iter().find(same).map(|known| known.resources.clone())
            })?;
            Some(GroupVersion { group, version, resources })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Vec<Told> {
        let resource = |plural: &str, kind: Option<&str>, scope: &str| {
            let mut resource = json!({"resource": plural, "scope": scope, "verbs": ["list"]});
            if let Some(kind) = kind {
                resource["responseKind"] = json!({"group": "", "version": "v1", "kind": kind});
            }
            resource
        };
        let list = json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [
                {"metadata": {"name": "apps"}, "versions": [
                    {"version": "v1", "freshness": "Current", "resources": [
                        {
                            "resource": "deployments", "singularResource": "deployment",
                            "scope": "Namespaced", "verbs": ["get"],
                            "responseKind": {"group": "", "version": "", "kind": "Deployment"},
                            "subresources": [{"subresource": "scale", "verbs": ["get"]}],
                        },
                        resource("nothing", None, "Namespaced"),
                    ]},
                    {"version": "v1beta1", "resources": [resource("olds", Some("Old"), "Cluster")]},
                ]},
                {"metadata": {"name": "broken.example.com"}, "versions": [
                    {"version": "v1", "freshness": "Stale", "resources": []},
                ]},
                {"metadata": {"name": "external.metrics.k8s.io"}, "versions": [
                    {"version": "v1beta1", "resources": [
                        resource("jobs", Some("ExternalMetricValueList"), "Namespaced"),
                    ]},
                ]},
            ],
        });
        aggregated(serde_json::from_value(list).unwrap())
    }

    #[test]
    fn aggregated_discovery_is_read_in_its_order() {
        let shown: Vec<String> = told()
            .iter()
            .map(|told| {
                let resources = told.resources.iter().flatten();
                let resources: Vec<_> = resources
                    .map(|r| format!("{}:{}:{}", r.plural, r.kind, r.namespaced))
                    .collect();
                format!("{}/{} {}", told.group, told.version, resources.join(","))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "apps/v1 deployments:Deployment:true",
                "apps/v1beta1 olds:Old:false",
                "broken.example.com/v1 ",
            ]
        );
    }

    #[test]
    fn what_does_not_answer_is_as_it_was() {
        let fresh = known(told(), &[]);
        assert_eq!(fresh.len(), 2, "{fresh:?}");
        let served = Served {
            plural: "things".to_owned(),
            singular: "thing".to_owned(),
            kind: "Thing".to_owned(),
            namespaced: true,
        };
        let before = GroupVersion {
            group: "broken.example.com".to_owned(),
            version: "v1".to_owned(),
            resources: vec![served],
        };
        let gone = GroupVersion { group: "gone.example.com".to_owned(), ..before.clone() };
        let after = known(told(), &[before.clone(), gone]);
        assert_eq!(after.len(), 3);
        assert_eq!(after[2], before);
    }
}
