//! What a request asks to do, for authorization.
//!
//! Follows `RequestInfo` of Kubernetes' generic API server, so that kube-apiserver's decision and
//! ours are about the same thing. It does not know which paths are served: a path that is not ours
//! is authorized first and refused after.

use http::Method;

use crate::api::params::Params;
use crate::api::path::Path;
use crate::model::selector::Requirement;
use crate::model::{Attributes, Operator, ResourceAttributes, Selector};

/// Whether the path is `/apis/<group>/<version>/<something>`.
pub(super) fn names_a_resource(path: &Path) -> bool {
    path.len() >= 4 && path.segment(0) == "apis"
}

/// The attributes of a path that [`names_a_resource`].
pub(super) fn of_resource(method: &Method, path: &Path, params: &Params) -> Attributes {
    let mut at = 3;
    let mut verb = match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    // `/watch/...` and `/proxy/...` are verbs in front of a path.
    let first = path.segment(at);
    let prefix = ["watch", "proxy"].into_iter().find(|word| first == *word);
    if let Some(word) = prefix.filter(|_| path.len() > at + 1) {
        verb = word;
        at += 1;
    }
    let mut namespace = String::new();
    if path.segment(at) == "namespaces" && path.len() > at + 1 {
        namespace = path.segment(at + 1).into_owned();
        let next = path.segment(at + 2);
        if path.len() > at + 2 && next != "status" && next != "finalize" {
            at += 2;
        }
    }
    let name = path.segment(at + 1).into_owned();
    let subresource =
        if verb == "proxy" { String::new() } else { path.segment(at + 2).into_owned() };
    if name.is_empty() {
        verb = match verb {
            "get" if params.watch => "watch",
            "get" => "list",
            "delete" => "deletecollection",
            other => other,
        };
    }
    let selects = matches!(verb, "list" | "watch" | "deletecollection");
    let label_selector = if selects { sendable(&params.selector) } else { Selector::default() };
    Attributes::Resource(Box::new(ResourceAttributes {
        verb: verb.to_owned(),
        group: path.segment(1).into_owned(),
        version: path.segment(2).into_owned(),
        resource: path.segment(at).into_owned(),
        subresource,
        name,
        namespace,
        label_selector,
    }))
}

/// The requirements that a `SubjectAccessReview` can express.
fn sendable(selector: &Selector) -> Selector {
    let expressible = |r: &Requirement| match r.operator {
        Operator::Equals
        | Operator::NotEquals
        | Operator::In
        | Operator::NotIn
        | Operator::Exists
        | Operator::DoesNotExist => true,
        Operator::GreaterThan | Operator::LessThan => false,
    };
    let all = selector.requirements();
    if all.iter().all(expressible) {
        return selector.clone();
    }
    Selector::new(all.iter().filter(|r| expressible(r)).cloned().collect())
}

/// The attributes of any other path.
pub(super) fn of_path(method: &Method, path: String) -> Attributes {
    Attributes::NonResource { path, verb: method.as_str().to_ascii_lowercase() }
}
