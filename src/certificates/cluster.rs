//! The Secret and the `APIServices` in the API server: read whole, written on the condition that
//! they are still as they were read.
//!
//! Reads go past every cache of the API server: what they find is what others find.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::{BoxStream, select_all};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

use super::bundle::Bundle;
use super::content::Content;

/// For one call. An API server that is busy answers within its own request timeout, or not in time.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// As whom we write, in `managedFields`.
const FIELD_MANAGER: &str = "tidepole";

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    ReadSecret,
    WriteSecret,
    ReadApiService,
    WriteApiService,
    Issue,
}

impl Operation {
    pub(super) const ALL: [Self; 5] = [
        Self::ReadSecret,
        Self::WriteSecret,
        Self::ReadApiService,
        Self::WriteApiService,
        Self::Issue,
    ];

    /// As a label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ReadSecret => "read_secret",
            Self::WriteSecret => "write_secret",
            Self::ReadApiService => "read_api_service",
            Self::WriteApiService => "write_api_service",
            Self::Issue => "issue",
        }
    }
}

/// Something did not work.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub(super) struct Failure {
    pub(super) operation: Operation,
    /// What was attempted, with names.
    what: String,
    /// Why not, and what would help. Nothing of a Secret's contents.
    cause: String,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// Somebody was faster; look again.
    Conflict,
}

/// An `APIService` of ours, as it was read.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) bundle: Bundle,
    version: Option<String>,
    is_unverified: bool,
}

/// The `APIServices` of our groups.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// Those that point to our Service.
    pub(super) ours: Vec<Registration>,
    /// Those that point elsewhere, by name, and where: nothing of theirs is touched.
    pub(super) foreign: BTreeMap<String, String>,
}

/// The API server.
pub(super) struct Cluster {
    secrets: Api<Secret>,
    services: Api<APIService>,
    secret: String,
    namespace: String,
    /// Our Service.
    service: String,
    /// The `APIServices` of the groups that we serve, by name.
    names: Vec<String>,
}

impl Cluster {
    pub(super) fn new(
        client: Client,
        namespace: String,
        secret: String,
        service: String,
        names: Vec<String>,
    ) -> Self {
        let secrets = Api::namespaced(client.clone(), &namespace);
        Self { secrets, services: Api::all(client), secret, namespace, service, names }
    }

    /// Tells, for ever, that the Secret or one of the `APIServices` may have changed, or why they
    /// cannot be watched.
    pub(super) fn changes(&self) -> BoxStream<'static, Result<(), watcher::Error>> {
        let named =
            |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        // Metadata is enough to know that there is something to be read, and by name is all that a
        // role needs to grant.
        let secrets: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.secrets.clone().into_client(), &self.namespace);
        let services: Api<PartialObjectMeta<APIService>> =
            Api::all(self.services.clone().into_client());
        let secret = watcher(secrets, named(&self.secret)).default_backoff();
        let mut all = vec![secret.map(|event| event.map(drop)).boxed()];
        for name in &self.names {
            let service = watcher(services.clone(), named(name)).default_backoff();
            all.push(service.map(|event| event.map(drop)).boxed());
        }
        select_all(all).boxed()
    }

    /// The Secret; `None` when there is none.
    async fn secret(&self) -> Result<Option<Secret>, Failure> {
        let read = bounded(self.secrets.get_opt(&self.secret)).await;
        read.map_err(|cause| {
            let what = format!("Secret {}/{} cannot be read", self.namespace, self.secret);
            failure(Operation::ReadSecret, what, &cause, "get, list and watch on it")
        })
    }

    /// Secret and `APIServices`, read at the same time, so that nothing is older than one call may
    /// take when it is decided on.
    pub(super) async fn all(
        &self,
    ) -> (Result<Option<Secret>, Failure>, Result<Registrations, Failure>) {
        futures::join!(self.secret(), self.registrations())
    }

    /// The `APIServices` of our groups, as far as they exist.
    async fn registrations(&self) -> Result<Registrations, Failure> {
        let reads = self.names.iter().map(async |name| {
            let read = bounded(self.services.get_opt(name)).await.map_err(|cause| {
                let what = format!("APIService {name} cannot be read");
                failure(Operation::ReadApiService, what, &cause, "get, list and watch on it")
            });
            read.map(|object| (name, object))
        });
        let mut found = Registrations::default();
        for (name, read) in try_join_all(reads).await? {
            let Some(object) = read else { continue };
            let written = written(&object.metadata);
            let version = object.metadata.resource_version;
            let Some(spec) = object.spec else { continue };
            let Some(service) = spec.service else { continue };
            let own = (Some(self.service.as_str()), Some(self.namespace.as_str()));
            if (service.name.as_deref(), service.namespace.as_deref()) != own {
                let place = [service.namespace, service.name].map(Option::unwrap_or_default);
                found.foreign.insert(name.clone(), place.join("/"));
                continue;
            }
            let is_unverified = spec.insecure_skip_tls_verify.unwrap_or(false);
            let pem = spec.ca_bundle.unwrap_or_default().0;
            let known = version.as_deref().unwrap_or_default();
            let bundle = Bundle { written, ..Bundle::read(name, known, &pem, is_unverified) };
            found.ours.push(Registration { bundle, version, is_unverified });
        }
        Ok(found)
    }

    /// Writes the Secret: a new one when there was none, otherwise this one with other data.
    pub(super) async fn write(
        &self,
        read: Option<&Secret>,
        content: &Content,
    ) -> Result<Written, Failure> {
        let mut object = read.cloned().unwrap_or_else(|| self.new_secret());
        let data = object.data.get_or_insert_default();
        for (key, value) in content.data() {
            match value {
                Some(value) => data.insert(key.to_owned(), ByteString(value)),
                None => data.remove(key),
            };
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let written = match read {
            // With the version that was read: whoever wrote since is not overwritten.
            Some(_) => bounded(self.secrets.replace(&self.secret, &params, &object)).await,
            None => bounded(self.secrets.create(&params, &object)).await,
        };
        let what = || format!("Secret {}/{} cannot be written", self.namespace, self.secret);
        let grants = "update on it, and create on secrets in its namespace";
        outcome(written.map(drop), Operation::WriteSecret, what, grants)
    }

    fn new_secret(&self) -> Secret {
        let labels = [("name", "tidepole"), ("managed-by", "tidepole")]
            .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        }
    }

    /// Writes the `caBundle` of an `APIService` that is as it was read.
    pub(super) async fn publish(
        &self,
        registration: &Registration,
        pem: &str,
    ) -> Result<Written, Failure> {
        let name = &registration.bundle.name;
        let mut patch = json!({
            "metadata": { "resourceVersion": registration.version },
            "spec": { "caBundle": BASE64_STANDARD.encode(pem) },
        });
        if registration.is_unverified {
            // The API server takes one or the other.
            patch["spec"]["insecureSkipTLSVerify"] = serde_json::Value::Null;
        }
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = bounded(self.services.patch(name, &params, &Patch::Merge(&patch))).await;
        let what = || format!("the caBundle of APIService {name} cannot be written");
        outcome(written.map(drop), Operation::WriteApiService, what, "patch on it")
    }
}

/// When anything but the status was written last, as far as the API server tells.
fn written(metadata: &ObjectMeta) -> Option<Timestamp> {
    let entries = metadata.managed_fields.iter().flatten();
    entries
        .filter(|entry| entry.subresource.as_deref() != Some("status"))
        .filter_map(|entry| entry.time.as_ref().map(|time| time.0))
        .max()
}

/// Why a call gave nothing.
enum Cause {
    Silence,
    Error(kube::Error),
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Cause> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(Cause::Error),
        Err(_) => Err(Cause::Silence),
    }
}

fn outcome(
    written: Result<(), Cause>,
    operation: Operation,
    what: impl Fn() -> String,
    grants: &str,
) -> Result<Written, Failure> {
    match written {
        Ok(()) => Ok(Written::Done),
        // Changed since, made since, or gone since.
        Err(Cause::Error(kube::Error::Api(status))) if [404, 409].contains(&status.code) => {
            Ok(Written::Conflict)
        }
        Err(cause) => Err(failure(operation, what(), &cause, grants)),
    }
}

fn failure(operation: Operation, what: String, cause: &Cause, grants: &str) -> Failure {
    let cause = match cause {
        Cause::Silence => format!("no answer within {CALL_LIMIT:?}"),
        Cause::Error(kube::Error::Api(status)) if status.code == 403 => {
            format!("{}; grant {grants}", status.message)
        }
        Cause::Error(kube::Error::Api(status)) => status.message.clone(),
        // What was read may be quoted in the complaint, and may be a key.
        Cause::Error(kube::Error::SerdeError(_)) => "the answer cannot be read".to_owned(),
        Cause::Error(error) => error.to_string(),
    };
    Failure { operation, what, cause }
}

/// An issuing that failed, as a failure like the others.
pub(super) fn not_issued(error: &super::authority::IssueError) -> Failure {
    let what = "nothing can be issued".to_owned();
    Failure { operation: Operation::Issue, what, cause: error.to_string() }
}
