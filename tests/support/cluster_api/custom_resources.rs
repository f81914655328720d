//! Resources of kinds that can be installed and removed, as they stand.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::objects::{Objects, Served};
use super::{Body, respond};

const fn metrics(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Served {
    Served { group, version: "v1alpha1", plural, singular, kind, namespaced }
}

/// Our external metrics of a namespace.
pub(crate) const EXTERNAL_METRICS: Served =
    metrics("tidepole.dev", "externalmetrics", "externalmetric", "ExternalMetric", true);

/// Our cluster-wide external metrics.
pub(crate) const CLUSTER_EXTERNAL_METRICS: Served = metrics(
    "tidepole.dev",
    "clusterexternalmetrics",
    "clusterexternalmetric",
    "ClusterExternalMetric",
    false,
);

/// Our metrics of objects of a namespace.
pub(crate) const CUSTOM_METRICS: Served =
    metrics("tidepole.dev", "custommetrics", "custommetric", "CustomMetric", true);

/// External metrics of k8s-cloudwatch-adapter.
pub(crate) const ORIGINAL_METRICS: Served =
    metrics("metrics.aws", "externalmetrics", "externalmetric", "ExternalMetric", true);

/// The kinds and their resources, which are changed as [`Objects`] are.
#[derive(Default)]
pub(crate) struct CustomResources {
    objects: Objects,
    /// How many were made.
    made: AtomicU64,
    /// What every listing is answered with instead.
    garbage: Mutex<Option<String>>,
}

impl Deref for CustomResources {
    type Target = Objects;
    fn deref(&self) -> &Objects {
        &self.objects
    }
}

impl CustomResources {
    /// Adds kinds.
    pub(crate) fn install(&self, kinds: &[Served]) {
        self.objects.kinds().extend(kinds);
    }

    /// Takes a kind away, and ends its watches. Its resources are still there should it come back.
    pub(crate) fn hide(&self, kind: &Served) {
        self.objects.kinds().retain(|other| other != kind);
        self.objects.disconnect(kind);
    }

    /// Makes a resource, one second younger than the last one that was made. `key` is its name, with
    /// its namespace before it if it has one: `shop/jobs`.
    pub(crate) fn make(&self, kind: &Served, key: &str, spec: &Value) {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        self.write(kind, key, number, 1, spec);
    }

    /// Changes the spec of a resource that was made as number `number`, from 0.
    pub(crate) fn change(&self, kind: &Served, key: &str, number: u64, spec: &Value) {
        self.write(kind, key, number, 2, spec);
    }

    fn write(&self, kind: &Served, key: &str, number: u64, generation: u64, spec: &Value) {
        let (namespace, name) = key.split_once('/').unzip();
        let (hours, minutes, seconds) = (number / 3600, number / 60 % 60, number % 60);
        let mut metadata = json!({
            "name": name.unwrap_or(key), "uid": format!("{key}-{number}"), "generation": generation,
            "creationTimestamp": format!("2026-11-21T{hours:02}:{minutes:02}:{seconds:02}Z"),
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        });
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group, kind.version), "kind": kind.kind,
            "metadata": metadata, "spec": spec,
        });
        self.objects.put_raw(kind, key, object);
    }

    /// Answers listings with this text, or again with the resources.
    pub(crate) fn garble(&self, text: Option<&str>) {
        *self.garbage() = text.map(str::to_owned);
    }

    fn garbage(&self) -> MutexGuard<'_, Option<String>> {
        self.garbage.lock().expect("no holder panics")
    }

    /// An answer, if the path is of a kind that is installed.
    pub(super) fn answer(
        &self,
        path: &str,
        parameter: &impl Fn(&str) -> Option<String>,
    ) -> Option<Response<Body>> {
        let kind = self.objects.kinds().iter().find(|kind| kind.path() == path).copied()?;
        let watches = matches!(parameter("watch").as_deref(), Some("true" | "1"));
        if let Some(text) = self.garbage().clone().filter(|_| !watches) {
            return Some(respond(StatusCode::OK, BodyExt::boxed(Full::new(Bytes::from(text)))));
        }
        let api_version = format!("{}/{}", kind.group, kind.version);
        let list = (api_version.as_str(), format!("{}List", kind.kind));
        Some(self.objects.store(&kind).answer(&kind, (list.0, &list.1), parameter))
    }
}
