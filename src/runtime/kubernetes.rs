//! The cluster behind the process: the client, and a look at who else serves our API groups.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use secrecy::ExposeSecret;

/// How long one call to the API server may take to connect. A server that is not there is found
/// out soon enough to fall back to what we have.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
                .map_err(unreadable)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
        }
        None => match Config::incluster() {
            Ok(config) => config,
            Err(not_in_cluster) => {
                let outside = Config::from_kubeconfig(&KubeConfigOptions::default()).await;
                outside.map_err(unreadable).with_context(|| {
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

/// Why a kubeconfig cannot be used. The library quotes the lines around a mistake and the value in
/// it, which may be a token or a key: of a mistake in the text only its place is told.
pub(super) fn unreadable(error: KubeconfigError) -> anyhow::Error {
    let KubeconfigError::Parse(mistake) = &error else { return error.into() };
    let place = match mistake.location() {
        Some(place) => format!(" in line {}, column {}", place.line(), place.column()),
        None => String::new(),
    };
    anyhow::anyhow!(
        "it is not the YAML of a kubeconfig: a mistake{place} (not shown, there may be a secret in it)"
    )
}

/// What a kubeconfig says about authentication and TLS, for an upstream that is no API server.
#[derive(Default)]
pub struct UpstreamAuth {
    /// CAs to trust.
    pub ca_file: Option<PathBuf>,
    /// Client certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure: bool,
    /// A file with a bearer token.
    pub token_file: Option<PathBuf>,
    /// The value of an `Authorization` header, where the file itself holds a secret.
    pub header: Option<String>,
}

impl std::fmt::Debug for UpstreamAuth {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamAuth").finish_non_exhaustive()
    }
}

/// Reads the credentials and the TLS settings of a kubeconfig's current context; its server is not
/// looked at. Certificates that stand in the file itself are written to a private folder, because
/// sources read files.
///
/// # Errors
/// When the file cannot be read, has no current context, or has credentials that only a program
/// can give.
pub fn upstream_auth(path: &Path) -> anyhow::Result<UpstreamAuth> {
    let file =
        Kubeconfig::read_from(path).map_err(unreadable).context("cannot read the kubeconfig")?;
    let name = file.current_context.as_deref().context("the kubeconfig has no current-context")?;
    let context = file
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.clone())
        .with_context(|| format!("the kubeconfig has no context {name}"))?;
    let cluster = file.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let user = file.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
    let mut auth = UpstreamAuth::default();
    if let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_ref()) {
        auth.ca_file = material(
            "ca.crt",
            cluster.certificate_authority.as_deref(),
            cluster.certificate_authority_data.as_deref(),
        )?;
        auth.server_name.clone_from(&cluster.tls_server_name);
        auth.insecure = cluster.insecure_skip_tls_verify.unwrap_or(false);
    }
    let Some(user) = user.and_then(|user| user.auth_info.as_ref()) else { return Ok(auth) };
    anyhow::ensure!(
        user.exec.is_none() && user.auth_provider.is_none(),
        "credentials that a program gives (exec, auth-provider) are not supported; use --prometheus-token-file"
    );
    auth.cert_file = material(
        "tls.crt",
        user.client_certificate.as_deref(),
        user.client_certificate_data.as_deref(),
    )?;
    let key_data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    auth.key_file = material("tls.key", user.client_key.as_deref(), key_data)?;
    auth.token_file = user.token_file.clone().map(PathBuf::from);
    if auth.token_file.is_none() {
        auth.header = match (&user.token, &user.username, &user.password) {
            (Some(token), _, _) => Some(format!("Bearer {}", token.expose_secret())),
            (None, Some(name), password) => {
                let password = password.as_ref().map_or("", |password| password.expose_secret());
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))
            }
            (None, None, _) => None,
        };
    }
    Ok(auth)
}

/// A file, or what stands in its place in base64, written to a folder that nobody else can read.
fn material(name: &str, file: Option<&str>, data: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
    let Some(data) = data.filter(|data| !data.is_empty()) else {
        return Ok(file.filter(|file| !file.is_empty()).map(PathBuf::from));
    };
    let bytes = BASE64_STANDARD.decode(data).with_context(|| format!("the data of {name}"))?;
    let folder = std::env::temp_dir().join(format!("tidepole-{}", uuid::Uuid::new_v4()));
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let written = options.open(&path).and_then(|mut file| file.write_all(&bytes));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
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
