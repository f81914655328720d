//! Access reviews by the API server.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    LabelSelectorAttributes, NonResourceAttributes, ResourceAttributes, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use kube::{Api, Client};

use super::{AccessReviewer, AccessVerdict};
use crate::model::{Attributes, Cause, Identity, Operator, Requirement};
use crate::server::authn::delegate;
use crate::server::review::ReviewError;

/// Reviews by creating a `SubjectAccessReview`.
pub(super) struct KubeAccessReviewer {
    api: Api<SubjectAccessReview>,
}

impl KubeAccessReviewer {
    pub(super) fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }
}

impl AccessReviewer for KubeAccessReviewer {
    fn review(
        &self,
        identity: &Identity,
        attributes: &Attributes,
    ) -> BoxFuture<'static, Result<AccessVerdict, ReviewError>> {
        let api = self.api.clone();
        let spec = render(identity, attributes);
        async move {
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let status = delegate::create(&api, &review).await?.status.unwrap_or_default();
            if status.allowed && status.denied == Some(true) {
                let text = "the API server both allowed and denied the request";
                return Err(ReviewError::Failed(text.into()));
            }
            // It is repeated to the requester: a sentence, not a novel.
            let reason = Cause::new(status.reason.unwrap_or_default()).message().to_owned();
            Ok(AccessVerdict { allowed: status.allowed, reason })
        }
        .boxed()
    }
}

/// The question as the API server reads it. What is empty is left out, as Go's encoder does.
fn render(identity: &Identity, attributes: &Attributes) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: some(&identity.user),
        uid: some(&identity.uid),
        groups: (!identity.groups.is_empty()).then(|| identity.groups.clone()),
        extra: (!identity.extra.is_empty()).then(|| identity.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match attributes {
        Attributes::NonResource { path, verb } => {
            spec.non_resource_attributes =
                Some(NonResourceAttributes { path: some(path), verb: some(verb) });
        }
        Attributes::Resource(a) => {
            let requirements: Vec<_> =
                a.label_selector.requirements().iter().filter_map(requirement).collect();
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(&a.verb),
                group: some(&a.group),
                version: some(&a.version),
                resource: some(&a.resource),
                subresource: some(&a.subresource),
                name: some(&a.name),
                namespace: some(&a.namespace),
                label_selector: (!requirements.is_empty()).then_some(LabelSelectorAttributes {
                    raw_selector: None,
                    requirements: Some(requirements),
                }),
                field_selector: None,
            });
        }
    }
    spec
}

/// The API has no words for "greater" and "less"; Go drops them, which can only ask for more.
fn requirement(requirement: &Requirement) -> Option<LabelSelectorRequirement> {
    let operator = match requirement.operator {
        Operator::Equals | Operator::In => "In",
        Operator::NotEquals | Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan | Operator::LessThan => return None,
    };
    Some(LabelSelectorRequirement {
        key: requirement.key.clone(),
        operator: operator.to_owned(),
        values: (!requirement.values.is_empty()).then(|| requirement.values.clone()),
    })
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
