//! `custom.metrics.k8s.io`: the rows of the table, the paths and the `OpenAPI` documents.

use serde_json::{Value, json};

use crate::api::group::{BASE, GroupVersion, MetricPath, OpenApiParts, parameter, reference};
use crate::api::path::Path;
use crate::api::schema;
use crate::model::ApiError;

/// A read of a metric of objects: places of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct CustomPath {
    /// The resource; none for namespaces themselves, whose path does not name it.
    pub(in crate::api) resource: Option<usize>,
    /// The namespace of the objects; none for objects outside of namespaces.
    pub(in crate::api) namespace: Option<usize>,
    /// The object's name, or `*`.
    pub(in crate::api) name: usize,
    /// The metric's name.
    pub(in crate::api) metric: usize,
    /// What Kubernetes' path grammar takes for the name, which a field selector may repeat.
    pub(in crate::api) field_name: usize,
}

/// `custom.metrics.k8s.io/v1beta1`.
pub(in crate::api) static CUSTOM_V1BETA1: GroupVersion = GroupVersion {
    group: "custom.metrics.k8s.io",
    version: "v1beta1",
    name: "custom.metrics.k8s.io/v1beta1",
    list_kind: "MetricValueList",
    placeholder: "custommetrics",
    advertised: true,
    metric_path,
    openapi,
};

/// `custom.metrics.k8s.io/v1beta2`: other names of the same fields.
pub(in crate::api) static CUSTOM_V1BETA2: GroupVersion = GroupVersion {
    version: "v1beta2",
    name: "custom.metrics.k8s.io/v1beta2",
    advertised: false,
    ..CUSTOM_V1BETA1
};

/// Reads a path. Its parts are those that authorization sees (`attributes`): what Kubernetes' path
/// grammar takes for something else (`/watch/...`, `/proxy/...`, `/namespaces/<ns>/status`) is
/// refused, so that nobody gets what nobody was asked about.
fn metric_path(path: &Path) -> Result<MetricPath, ApiError> {
    let count = path.len().saturating_sub(BASE);
    if !(3..=5).contains(&count) || (BASE..BASE + count).any(|i| path.segment(i).is_empty()) {
        return Err(ApiError::PathNotFound);
    }
    let first = path.segment(BASE);
    if first != "namespaces" {
        if count != 3 || first == "watch" || first == "proxy" {
            return Err(ApiError::PathNotFound);
        }
        return Ok(MetricPath::Custom(CustomPath {
            resource: Some(BASE),
            namespace: None,
            name: BASE + 1,
            metric: BASE + 2,
            field_name: BASE + 1,
        }));
    }
    let (namespace, resource, name) = (BASE + 1, BASE + 2, BASE + 3);
    let word = path.segment(resource);
    if word == "status" || word == "finalize" {
        return Err(ApiError::PathNotFound);
    }
    if count == 3 {
        // It has the form of `<resource>/<name>/<metric>` and means a list in a namespace.
        return Err(ApiError::BadRequest("invalid request path".to_owned()));
    }
    // `namespaces/<ns>/metrics/<metric>`, and whatever follows it.
    if word == "metrics" {
        return Ok(MetricPath::Custom(CustomPath {
            resource: None,
            namespace: None,
            name: namespace,
            metric: name,
            field_name: name,
        }));
    }
    if count == 4 {
        return Err(ApiError::PathNotFound);
    }
    Ok(MetricPath::Custom(CustomPath {
        resource: Some(resource),
        namespace: Some(namespace),
        name,
        metric: BASE + 4,
        field_name: name,
    }))
}

fn openapi(gv: &GroupVersion) -> OpenApiParts {
    let kind = json!({"group": gv.group, "kind": gv.list_kind, "version": gv.version});
    OpenApiParts { paths: paths(gv, &kind), schemas: schemas(gv, &kind) }
}

/// The name of the schema of one of the group-version's own types.
fn schema_name(gv: &GroupVersion, kind: &str) -> String {
    format!("io.k8s.metrics.pkg.apis.custom_metrics.{}.{kind}", gv.version)
}

fn paths(gv: &GroupVersion, kind: &Value) -> Value {
    let list = schema_name(gv, "MetricValueList");
    let id = if gv.version == "v1beta1" { "V1beta1" } else { "V1beta2" };
    let operation = |name: &str, description: &str| {
        json!({
            "description": description,
            "operationId": format!("getCustomMetrics{id}{name}"),
            "tags": [format!("customMetrics_{}", gv.version)],
            "responses": {"200": {"description": "OK", "content": {"application/json": {
                "schema": reference(&list)}}}},
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": kind,
        })
    };
    let metric = parameter("metric", "path", "name of the metric");
    let resource =
        parameter("resource", "path", "plural name of the objects' resource, with .group");
    let name = parameter("name", "path", "name of the object, or * for all that match");
    let namespace = parameter("namespace", "path", "object name and auth scope");
    let query = [
        parameter("labelSelector", "query", "with the name *: selects objects by label"),
        parameter("metricLabelSelector", "query", "selects series of the metric by label"),
        parameter("timeout", "query", "how long to wait for the first value, for example 2s"),
        parameter("pretty", "query", "if 'true', the output is indented"),
    ];
    let with = |path: &[&Value]| -> Vec<Value> {
        path.iter().map(|&p| p.clone()).chain(query.clone()).collect()
    };
    let base = format!("/apis/{}", gv.name);
    json!({
        format!("{base}/namespaces/{{namespace}}/{{resource}}/{{name}}/{{metric}}"): {
            "get": operation("NamespacedMetricValue", "read a metric of objects in a namespace"),
            "parameters": with(&[&namespace, &resource, &name, &metric]),
        },
        format!("{base}/namespaces/{{namespace}}/metrics/{{metric}}"): {
            "get": operation("NamespaceMetricValue", "read a metric of a namespace"),
            "parameters": with(&[&namespace, &metric]),
        },
        format!("{base}/{{resource}}/{{name}}/{{metric}}"): {
            "get": operation("MetricValue", "read a metric of objects outside of namespaces"),
            "parameters": with(&[&resource, &name, &metric]),
        },
    })
}

fn schemas(gv: &GroupVersion, kind: &Value) -> Value {
    let (list, item) = (schema_name(gv, "MetricValueList"), schema_name(gv, "MetricValue"));
    let mut schemas = json!({
        &list: {
            "description": "MetricValueList is a list of values of one metric, one for each object.",
            "type": "object",
            "required": ["metadata", "items"],
            "properties": {
                "apiVersion": {"type": "string", "description": "Version of this representation."},
                "kind": {"type": "string", "description": "Kind of this representation."},
                "metadata": {"default": {}, "allOf": [{"$ref": schema::LIST_META_REF}]},
                "items": {
                    "description": "The values.",
                    "type": "array",
                    "items": {"default": {}, "allOf": [reference(&item)]},
                },
            },
            "x-kubernetes-group-version-kind": [kind],
        },
        schema::LIST_META: schema::list_meta(),
        schema::TIME: schema::time(),
        schema::QUANTITY: schema::quantity(),
        schema::OBJECT_REFERENCE: schema::object_reference(),
        schema::LABEL_SELECTOR: schema::label_selector(),
        schema::LABEL_SELECTOR_REQUIREMENT: schema::label_selector_requirement(),
    });
    let name = json!({"type": "string", "default": "", "description": "The name of the metric."});
    let selector = json!({
        "description": "The selector on the metric's labels that the request had.",
        "allOf": [reference(schema::LABEL_SELECTOR)],
    });
    let window = json!({"type": "integer", "format": "int64",
        "description": "Seconds over which the value was calculated, if it was."});
    let mut fields = json!({
        "describedObject": {"description": "What the value is about.", "default": {},
                            "allOf": [reference(schema::OBJECT_REFERENCE)]},
        "timestamp": {"description": "When the value was true.",
                      "allOf": [{"$ref": schema::TIME_REF}]},
        "value": {"description": "The value.", "allOf": [{"$ref": schema::QUANTITY_REF}]},
    });
    let required = if gv.version == "v1beta1" {
        fields["metricName"] = name;
        fields["window"] = window;
        fields["selector"] = selector;
        json!(["describedObject", "metricName", "timestamp", "value", "selector"])
    } else {
        let identifier = schema_name(gv, "MetricIdentifier");
        fields["metric"] = json!({"default": {}, "allOf": [reference(&identifier)]});
        fields["windowSeconds"] = window;
        schemas[&identifier] = json!({
            "description": "MetricIdentifier says which metric, and which series of it.",
            "type": "object",
            "required": ["name"],
            "properties": {"name": name, "selector": selector},
        });
        json!(["describedObject", "metric", "timestamp", "value"])
    };
    schemas[&item] = json!({
        "description": "MetricValue is the value of a metric for one object.",
        "type": "object",
        "required": required,
        "properties": fields,
    });
    schemas
}
