//! `external.metrics.k8s.io/v1beta1`: its row of the table, its paths and its `OpenAPI` document.

use serde_json::json;

use crate::api::group::{BASE, GroupVersion, MetricPath, OpenApiParts, parameter};
use crate::api::path::Path;
use crate::api::schema;
use crate::model::ApiError;

/// `/namespaces/<ns>/<metric>`: places of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct ExternalPath {
    /// The namespace. May be an empty segment: such a read is authorized for all namespaces.
    pub(in crate::api) namespace: usize,
    /// The metric's name.
    pub(in crate::api) metric: usize,
}

/// `external.metrics.k8s.io/v1beta1`.
pub(in crate::api) static EXTERNAL_V1BETA1: GroupVersion = GroupVersion {
    group: "external.metrics.k8s.io",
    version: "v1beta1",
    name: "external.metrics.k8s.io/v1beta1",
    list_kind: "ExternalMetricValueList",
    placeholder: "externalmetrics",
    advertised: true,
    metric_path,
    openapi,
};

fn metric_path(path: &Path) -> Result<MetricPath, ApiError> {
    let (namespace, metric) = (BASE + 1, BASE + 2);
    if path.len() != BASE + 3 || path.segment(BASE) != "namespaces" {
        return Err(ApiError::PathNotFound);
    }
    let name = path.segment(metric);
    // Kubernetes' path grammar takes these two for subresources of the namespace, so they are
    // authorized as such and can be no metric.
    let reserved = name == "status" || name == "finalize";
    if name.is_empty() || reserved {
        return Err(ApiError::PathNotFound);
    }
    Ok(MetricPath::External(ExternalPath { namespace, metric }))
}

fn openapi(_: &GroupVersion) -> OpenApiParts {
    const LIST: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";
    const ITEM: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue";
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
