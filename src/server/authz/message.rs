//! The sentence of a 403, in Kubernetes' words. It repeats what the client sent; escaping that is
//! [`crate::status`]'s.

use std::borrow::Cow;

use crate::model::{ApiError, Attributes, Identity};

/// The error for somebody who may not do this.
pub(super) fn forbidden(identity: &Identity, attributes: &Attributes, reason: &str) -> ApiError {
    let user = &identity.user;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match attributes {
        Attributes::NonResource { path, verb } => ApiError::ForbiddenPath(format!(
            "forbidden: User {user:?} cannot {verb} path {path:?}{because}"
        )),
        Attributes::Resource(a) => {
            let resource: Cow<'_, str> = if a.subresource.is_empty() {
                Cow::Borrowed(&a.resource)
            } else {
                Cow::Owned(format!("{}/{}", a.resource, a.subresource))
            };
            let name = if a.name.is_empty() { String::new() } else { format!(" {:?}", a.name) };
            let place = if a.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", a.namespace)
            };
            let message = format!(
                "{}.{}{name} is forbidden: User {user:?} cannot {} resource {resource:?} in API \
                 group {:?} {place}{because}",
                a.resource, a.group, a.verb, a.group
            );
            ApiError::ForbiddenResource { message, attributes: a.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResourceAttributes;

    fn says(attributes: &Attributes, reason: &str) -> String {
        let identity = Identity { user: "jane".to_owned(), ..Identity::default() };
        forbidden(&identity, attributes, reason).to_string()
    }

    #[test]
    fn a_refusal_reads_as_kubernetes_writes_it() {
        let mut attributes = ResourceAttributes {
            verb: "list".to_owned(),
            group: "external.metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            resource: "queue_depth".to_owned(),
            namespace: "ns".to_owned(),
            ..ResourceAttributes::default()
        };
        assert_eq!(
            says(&Attributes::Resource(Box::new(attributes.clone())), ""),
            "queue_depth.external.metrics.k8s.io is forbidden: User \"jane\" cannot list resource \
             \"queue_depth\" in API group \"external.metrics.k8s.io\" in the namespace \"ns\""
        );
        attributes.group = "custom.metrics.k8s.io".to_owned();
        attributes.verb = "get".to_owned();
        attributes.resource = "nodes".to_owned();
        attributes.subresource = "m".to_owned();
        attributes.name = "*".to_owned();
        attributes.namespace = String::new();
        assert_eq!(
            says(&Attributes::Resource(Box::new(attributes)), "no <rule>"),
            "nodes.custom.metrics.k8s.io \"*\" is forbidden: User \"jane\" cannot get resource \
             \"nodes/m\" in API group \"custom.metrics.k8s.io\" at the cluster scope: no <rule>"
        );
        let path = Attributes::NonResource { path: "/metrics".into(), verb: "get".into() };
        assert_eq!(says(&path, ""), "forbidden: User \"jane\" cannot get path \"/metrics\"");
    }
}
