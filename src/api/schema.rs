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
