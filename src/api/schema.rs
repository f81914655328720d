//! `OpenAPI` v3 schemas of the Kubernetes types that every metric list uses, under the names that
//! Kubernetes gives them.

use serde_json::{Value, json};

/// Name of `ListMeta`.
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Reference to `ListMeta`.
pub(super) const LIST_META_REF: &str =
    "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Name of `Time`.
pub(super) const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
/// Reference to `Time`.
pub(super) const TIME_REF: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Time";
/// Name of `Quantity`.
pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Reference to `Quantity`.
pub(super) const QUANTITY_REF: &str =
    "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity";

/// `ListMeta`.
pub(super) fn list_meta() -> Value {
    json!({
        "description": "ListMeta describes metadata that lists have.",
        "type": "object",
        "properties": {
            "continue": {"type": "string"},
            "remainingItemCount": {"type": "integer", "format": "int64"},
            "resourceVersion": {"type": "string"},
            "selfLink": {"type": "string"},
        },
    })
}

/// `Time`.
pub(super) fn time() -> Value {
    json!({"description": "A time in RFC 3339 form.", "type": "string", "format": "date-time"})
}

/// `Quantity`.
pub(super) fn quantity() -> Value {
    json!({
        "description": "A fixed-point number, for example 1500m or 2k.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    })
}

/// Name of `ObjectReference`.
pub(super) const OBJECT_REFERENCE: &str = "io.k8s.api.core.v1.ObjectReference";
/// Name of `LabelSelector`.
pub(super) const LABEL_SELECTOR: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
/// Name of `LabelSelectorRequirement`.
pub(super) const LABEL_SELECTOR_REQUIREMENT: &str =
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement";

/// `ObjectReference`.
pub(super) fn object_reference() -> Value {
    let text = json!({"type": "string"});
    json!({
        "description": "ObjectReference names an object.",
        "type": "object",
        "properties": {
            "apiVersion": text,
            "fieldPath": text,
            "kind": text,
            "name": text,
            "namespace": text,
            "resourceVersion": text,
            "uid": text,
        },
        "x-kubernetes-map-type": "atomic",
    })
}

/// `LabelSelector`.
pub(super) fn label_selector() -> Value {
    json!({
        "description": "LabelSelector is a query over labels: all requirements hold.",
        "type": "object",
        "properties": {
            "matchExpressions": {
                "type": "array",
                "items": {"default": {}, "allOf": [{
                    "$ref": format!("#/components/schemas/{LABEL_SELECTOR_REQUIREMENT}")}]},
                "x-kubernetes-list-type": "atomic",
            },
            "matchLabels": {
                "type": "object",
                "additionalProperties": {"type": "string", "default": ""},
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}

/// `LabelSelectorRequirement`.
pub(super) fn label_selector_requirement() -> Value {
    json!({
        "description": "LabelSelectorRequirement is one requirement on a label.",
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string", "default": ""},
            "operator": {"type": "string", "default": ""},
            "values": {"type": "array", "items": {"type": "string", "default": ""},
                       "x-kubernetes-list-type": "atomic"},
        },
    })
}
