//! The group-versions we serve, as data.
//!
//! Everything that differs between them is a field of [`GroupVersion`]: routes, discovery,
//! `OpenAPI` and negotiation work on the table. To add one: write its row (and, for another path
//! form, a [`MetricPath`] variant and its parser), and list it in [`served`].

use serde_json::{Value, json};

use crate::api::Settings;
use crate::api::path::Path;
use crate::api::schema;

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
    /// Reads the segments behind `/apis/<group>/<version>`; `None` for a form that is not ours.
    pub(super) metric_path: fn(&Path) -> Option<MetricPath>,
    /// Paths and schemas of the `OpenAPI` v3 document.
    pub(super) openapi: fn() -> OpenApiParts,
}

/// The parts of an `OpenAPI` v3 document that differ between group-versions.
pub(super) struct OpenApiParts {
    /// The document's `paths`.
    pub(super) paths: Value,
    /// The document's `components.schemas`.
    pub(super) schemas: Value,
}

/// What a path under a group-version names; numbers are places of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricPath {
    /// `/namespaces/<ns>/<metric>`.
    External {
        /// Place of the namespace.
        namespace: usize,
        /// Place of the metric's name.
        metric: usize,
    },
}

/// Where the segments behind `/apis/<group>/<version>` start.
pub(super) const BASE: usize = 3;

/// `external.metrics.k8s.io/v1beta1`.
pub(super) static EXTERNAL_V1BETA1: GroupVersion = GroupVersion {
    group: "external.metrics.k8s.io",
    version: "v1beta1",
    name: "external.metrics.k8s.io/v1beta1",
    list_kind: "ExternalMetricValueList",
    placeholder: "externalmetrics",
    metric_path: external_path,
    openapi: external_openapi,
};

/// The group-versions that the settings turn on, in the order of preference within a group.
pub(super) fn served(settings: &Settings) -> Vec<&'static GroupVersion> {
    if settings.external { vec![&EXTERNAL_V1BETA1] } else { Vec::new() }
}

fn external_path(path: &Path) -> Option<MetricPath> {
    let (namespace, metric) = (BASE + 1, BASE + 2);
    if path.len() != BASE + 3 || path.segment(BASE) != "namespaces" {
        return None;
    }
    let name = path.segment(metric);
    // Kubernetes' path grammar takes these two for subresources of the namespace, so they are
    // authorized as such and can be no metric.
    let reserved = name == "status" || name == "finalize";
    if path.segment(namespace).is_empty() || name.is_empty() || reserved {
        return None;
    }
    Some(MetricPath::External { namespace, metric })
}

fn external_openapi() -> OpenApiParts {
    const LIST: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";
    const ITEM: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue";
    let parameter = |name: &str, place: &str, description: &str| {
        json!({"name": name, "in": place, "description": description, "required": place == "path",
               "schema": {"type": "string", "uniqueItems": true}})
    };
    let kind = json!({"group": "external.metrics.k8s.io", "kind": "ExternalMetricValueList",
                      "version": "v1beta1"});
    let paths = json!({
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}": {
            "get": {
                "description": "read the current values of an external metric",
                "operationId": "listExternalMetricsV1beta1NamespacedExternalMetricValue",
                "tags": ["externalMetrics_v1beta1"],
                "responses": {"200": {"description": "OK", "content": {"application/json": {
                    "schema": {"$ref": format!("#/components/schemas/{LIST}")}}}}},
                "x-kubernetes-action": "list",
                "x-kubernetes-group-version-kind": kind,
            },
            "parameters": [
                parameter("namespace", "path", "object name and auth scope"),
                parameter("metric", "path", "name of the external metric"),
                parameter("labelSelector", "query", "selects the series of the metric by label"),
                parameter("timeout", "query", "how long to wait for the first value, for example 2s"),
                parameter("pretty", "query", "if 'true', the output is indented"),
            ],
        }
    });
    let schemas = json!({
        LIST: {
            "description": "ExternalMetricValueList is a list of values of one external metric, \
                            one for each series that the label selector matches.",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": "Version of this representation."},
                "kind": {"type": "string", "description": "Kind of this representation."},
                "metadata": {"default": {}, "allOf": [{"$ref": schema::LIST_META_REF}]},
                "items": {
                    "description": "The values.",
                    "type": "array",
                    "items": {"default": {},
                              "allOf": [{"$ref": format!("#/components/schemas/{ITEM}")}]},
                },
            },
            "x-kubernetes-group-version-kind": [kind],
        },
        ITEM: {
            "description": "ExternalMetricValue is the value of one series.",
            "type": "object",
            "required": ["metricName", "metricLabels", "timestamp", "value"],
            "properties": {
                "metricName": {"type": "string", "default": "",
                               "description": "The name of the metric."},
                "metricLabels": {"type": "object", "description": "The labels of the series.",
                                 "additionalProperties": {"type": "string", "default": ""}},
                "timestamp": {"description": "When the value was true.",
                              "allOf": [{"$ref": schema::TIME_REF}]},
                "window": {"type": "integer", "format": "int64",
                           "description": "Seconds over which the value was calculated, if it was."},
                "value": {"description": "The value.",
                          "allOf": [{"$ref": schema::QUANTITY_REF}]},
            },
        },
        schema::LIST_META: schema::list_meta(),
        schema::TIME: schema::time(),
        schema::QUANTITY: schema::quantity(),
    });
    OpenApiParts { paths, schemas }
}
