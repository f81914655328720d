//! The cluster behind the process: the client, and a look at who else serves our API groups.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// How long one call to the API server may take to connect. A server that is not there is found
/// out soon enough to fall back to what we have.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one look at an `APIService` may take. Nothing depends on it but a line in the log.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for the cluster: the given kubeconfig, or the pod's service account, or `$KUBECONFIG`,
/// or `~/.kube/config`.
///
/// # Errors
/// When none of them leads to a usable configuration.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
        }
        None => match Config::incluster() {
            Ok(config) => config,
            Err(not_in_cluster) => {
                Config::from_kubeconfig(&KubeConfigOptions::default()).await.with_context(|| {
                    format!(
                        "no cluster found: not in a pod ({not_in_cluster}), and neither \
                         $KUBECONFIG nor ~/.kube/config can be used; give --kubeconfig, or set \
                         kubernetes.enabled: false with server.auth: none to run without one"
                    )
                })?
            }
        },
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).context("cannot make a client for the cluster")
}

/// Warns when the cluster's `APIServices` for our group-versions point to a Service that our
/// serving certificate is not for: somebody else's adapter, or a certificate for another name.
/// Either way no read would reach us.
pub async fn warn_of_foreign_api_services(
    client: Client,
    group_versions: Vec<(&'static str, &'static str)>,
    serving_names: Vec<String>,
) {
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"));
    let services: Api<DynamicObject> = Api::all_with(client, &resource);
    for (group, version) in group_versions {
        let name = format!("{version}.{group}");
        let Ok(looked) = tokio::time::timeout(LOOK_TIMEOUT, services.get_opt(&name)).await else {
            tracing::info!(
                api_service = name,
                "cannot look at the APIService: no answer within {LOOK_TIMEOUT:?}"
            );
            return;
        };
        match looked {
            Ok(Some(found)) => {
                if let Some(sentence) = foreign(&name, &found.data, &serving_names) {
                    tracing::warn!(api_service = name, "{sentence}");
                }
            }
            Ok(None) => tracing::info!(
                api_service = name,
                "the cluster has no APIService for this group-version yet; no HPA can read it"
            ),
            Err(error) => {
                tracing::info!(api_service = name, cause = %error, "cannot look at the APIService");
                return;
            }
        }
    }
}

/// What is to be said about an `APIService` that is not ours.
fn foreign(name: &str, object: &serde_json::Value, serving_names: &[String]) -> Option<String> {
    let service = &object["spec"]["service"];
    let (Some(service_name), Some(namespace)) =
        (service["name"].as_str(), service["namespace"].as_str())
    else {
        return Some(format!(
            "APIService {name} names no Service, so the API server answers this group-version \
             itself and no HPA reads from Tidepole"
        ));
    };
    let host = format!("{service_name}.{namespace}.svc");
    let covered = serving_names.iter().any(|own| own.eq_ignore_ascii_case(&host));
    (!covered).then(|| {
        format!(
            "APIService {name} points to Service {namespace}/{service_name}, and our serving \
             certificate is not valid for {host}: either another adapter owns this group-version \
             (then HPAs do not read from Tidepole), or the certificate lacks that name"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn somebody_elses_service_is_named() {
        let object = json!({"spec": {"service": {"name": "keda-metrics", "namespace": "keda"}}});
        let own = ["tidepole.tidepole.svc".to_owned()];
        let sentence = foreign("v1beta1.external.metrics.k8s.io", &object, &own).unwrap();
        assert!(sentence.contains("Service keda/keda-metrics"), "{sentence}");
        let object = json!({"spec": {"service": {"name": "tidepole", "namespace": "tidepole"}}});
        assert_eq!(foreign("x", &object, &own), None);
        assert!(foreign("x", &json!({"spec": {}}), &own).unwrap().contains("names no Service"));
    }
}
