//! Calls to the API server: how one is made and what its errors mean, and the token review.

use std::fmt::Debug;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::token::{TokenReviewer, TokenVerdict};
use crate::model::{Cause, Identity};
use crate::server::review::ReviewError;

/// Pauses before the second and third attempt. The whole review has 10 s; a restarted
/// kube-apiserver is usually reached through another address at once.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(600)];

/// Creates a review and returns the API server's copy of it, trying again after errors that may
/// pass.
pub(in crate::server) async fn create<K>(api: &Api<K>, review: &K) -> Result<K, ReviewError>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let params = PostParams::default();
    for pause in PAUSES {
        match api.create(&params, review).await {
            Err(error) if may_pass(&error) => tokio::time::sleep(pause).await,
            result => return result.map_err(failed),
        }
    }
    api.create(&params, review).await.map_err(failed)
}

fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

fn failed(error: kube::Error) -> ReviewError {
    let text = match error {
        kube::Error::Api(status) => status.message,
        kube::Error::Service(error) => {
            // The outermost error only says that there was one.
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                text = inner.to_string();
                source = inner.source();
            }
            text
        }
        // Its Display may quote the body; a body may hold what was sent.
        kube::Error::SerdeError(_) => "the API server's answer cannot be understood".to_owned(),
        other => other.to_string(),
    };
    ReviewError::Failed(Cause::new(text).message().into())
}

/// Token reviews by the API server.
pub(super) struct KubeTokenReviewer {
    api: Api<TokenReview>,
}

impl KubeTokenReviewer {
    pub(super) fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }
}

impl TokenReviewer for KubeTokenReviewer {
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>> {
        let api = self.api.clone();
        async move {
            let spec = TokenReviewSpec { token: Some(token), audiences: None };
            let review = TokenReview { spec, ..TokenReview::default() };
            let status = create(&api, &review).await?.status.unwrap_or_default();
            if status.authenticated != Some(true) {
                // An error of the review itself also ends in "not authenticated", as in Go.
                return Ok(TokenVerdict::Rejected);
            }
            let user = status.user.unwrap_or_default();
            Ok(TokenVerdict::Authenticated(Identity {
                user: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
