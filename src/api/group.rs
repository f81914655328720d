//! The group-versions we serve, as data.
//!
//! Everything that differs between them is a field of [`GroupVersion`]: routes, discovery,
//! `OpenAPI` and negotiation work on the table. To add one: write its row (and, for another path
//! form, a [`MetricPath`] variant and its parser), and list it in [`served`].

mod custom;
mod external;

use serde_json::{Value, json};

use crate::api::Settings;
use crate::api::path::Path;
use crate::model::ApiError;

pub(super) use crate::api::group::custom::{CUSTOM_V1BETA1, CUSTOM_V1BETA2, CustomPath};
pub(super) use crate::api::group::external::{EXTERNAL_V1BETA1, ExternalPath};

/// One served group-version.
#[derive(Debug)]
pub(super) struct GroupVersion {
    /// API group.
    pub(super) group: &'static str,
    /// API version.
    pub(super) version: &'static str,
    /// `<group>/<version>`.
    pub(super) name: &'static str,
    /// Kind of the list that a read answers.
    pub(super) list_kind: &'static str,
    /// The one resource that the aggregated discovery document names, and that the legacy list
    /// names when there is no metric. It exists so that no client finds the group-version empty.
    pub(super) placeholder: &'static str,
    /// Whether the group's own document names this version. Clients find versions through the
    /// cluster's `APIService` objects; our document is that of custom-metrics-apiserver.
    pub(super) advertised: bool,
    /// Reads the segments behind `/apis/<group>/<version>`; an error for a form that is not ours.
    pub(super) metric_path: fn(&Path) -> Result<MetricPath, ApiError>,
    /// Paths and schemas of the `OpenAPI` v3 document.
    pub(super) openapi: fn(&GroupVersion) -> OpenApiParts,
}

/// The parts of an `OpenAPI` v3 document that differ between group-versions.
pub(super) struct OpenApiParts {
    /// The document's `paths`.
    pub(super) paths: Value,
    /// The document's `components.schemas`.
    pub(super) schemas: Value,
}

/// What a path under a group-version names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricPath {
    /// An external metric.
    External(ExternalPath),
    /// A metric of Kubernetes objects.
    Custom(CustomPath),
}

/// Where the segments behind `/apis/<group>/<version>` start.
pub(super) const BASE: usize = 3;

/// The group-versions that the settings turn on, in the order of preference within a group.
pub(super) fn served(settings: &Settings) -> Vec<&'static GroupVersion> {
    let mut served = Vec::new();
    if settings.custom {
        served.extend([&CUSTOM_V1BETA1, &CUSTOM_V1BETA2]);
    }
    if settings.external {
        served.push(&EXTERNAL_V1BETA1);
    }
    served
}

/// A parameter in an `OpenAPI` document.
fn parameter(name: &str, place: &str, description: &str) -> Value {
    json!({"name": name, "in": place, "description": description, "required": place == "path",
           "schema": {"type": "string", "uniqueItems": true}})
}

/// A reference to a schema in an `OpenAPI` document.
fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}
