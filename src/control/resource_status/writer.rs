//! One write of one status, and what its failure means.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use crate::control::lease::SAFE_CALL;
use crate::definition::status::Status;
use crate::model::{DefinitionId, DefinitionKind};

/// Whose fields of the object these are.
pub(super) const FIELD_MANAGER: &str = "tidepole-status";

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// The object, or its status, is not there.
    Gone,
    /// Another object of this name is there.
    Conflict,
    /// The API server refuses what is written.
    Refused,
    Forbidden,
    /// It wants fewer calls.
    Throttled,
    /// It could not be reached, or had a defect.
    Failed,
}

impl Outcome {
    pub(super) const ALL: [Self; 7] = [
        Self::Written,
        Self::Gone,
        Self::Conflict,
        Self::Refused,
        Self::Forbidden,
        Self::Throttled,
        Self::Failed,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }

    /// Whether it concerns all writes, not this object alone.
    pub(super) fn is_general(self) -> bool {
        matches!(self, Self::Forbidden | Self::Throttled | Self::Failed)
    }
}

/// What became of a write.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// Why, when it failed.
    pub(super) cause: String,
    /// When the API server wants to be asked again, where it says so.
    pub(super) retry_after: Option<Duration>,
}

/// Whether resources of a kind have a status that can be written. k8s-cloudwatch-adapter's CRD has no
/// status subresource.
pub(super) fn has_status(kind: DefinitionKind) -> bool {
    kind != DefinitionKind::AwsExternalMetric
}

/// Writes statuses.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
}

impl Writer {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Writes a status. Never takes longer than what holding the lease allows.
    pub(super) async fn write(&self, id: &DefinitionId, uid: &str, status: &Status) -> Ended {
        let resource = resource(id.kind);
        let api: Api<DynamicObject> = match &id.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        // The uid makes it fail where the object was deleted and made again.
        let object = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": &*id.name, "uid": uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        let call = api.patch_status(&id.name, &params, &patch);
        let failed = |outcome, cause: String| Ended { outcome, cause, retry_after: None };
        match timeout(SAFE_CALL, call).await {
            Ok(Ok(_)) => failed(Outcome::Written, String::new()),
            Err(_) => failed(Outcome::Failed, format!("no answer within {SAFE_CALL:?}")),
            Ok(Err(kube::Error::Api(status))) => {
                let outcome = match status.code {
                    404 => Outcome::Gone,
                    409 => Outcome::Conflict,
                    403 => Outcome::Forbidden,
                    429 => Outcome::Throttled,
                    400..500 => Outcome::Refused,
                    _ => Outcome::Failed,
                };
                let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let retry_after = (wait > 0).then(|| Duration::from_secs(wait.into()));
                Ended { outcome, cause: status.message.clone(), retry_after }
            }
            Ok(Err(error)) => failed(Outcome::Failed, error.to_string()),
        }
    }
}

/// A kind, as its resources are addressed.
pub(in crate::control) fn resource(kind: DefinitionKind) -> ApiResource {
    // `as_str` has the group where it is not ours.
    let (name, _) = kind.as_str().split_once('.').unwrap_or((kind.as_str(), ""));
    let kind_of = GroupVersionKind::gvk(kind.group(), "v1alpha1", name);
    ApiResource::from_gvk_with_plural(&kind_of, kind.plural())
}
