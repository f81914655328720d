//! What a request asks to do, in the words of a `SubjectAccessReview`.

use crate::model::Selector;

/// The attributes that authorization decides on, as Kubernetes' generic API server derives them
/// from a request (`RequestInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// A request under `/apis/<group>/<version>/` that names a resource.
    Resource(Box<ResourceAttributes>),
    /// Any other path: discovery, `OpenAPI`, `/version`, `/metrics`, health.
    NonResource {
        /// The path as requested, without the query.
        path: String,
        /// The HTTP method in lower case.
        verb: String,
    },
}

/// `resourceAttributes` of a `SubjectAccessReview`. Empty strings mean "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceAttributes {
    /// `list` for external metrics, `get` for custom metrics, `watch` when asked.
    pub verb: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// For external metrics: the metric's name. For custom metrics: the object's resource.
    pub resource: String,
    /// For custom metrics: the metric's name.
    pub subresource: String,
    /// For custom metrics: the object's name, or `*`.
    pub name: String,
    /// Namespace, empty for cluster-scoped requests.
    pub namespace: String,
    /// The requirements of `labelSelector`, sent for `list` and `watch` only, as Go does.
    pub label_selector: Selector,
}
