//! Roles: credentials from `AssumeRole`.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::{Builder, SharedInterceptor};

use crate::model::{Cause, Clock, FetchError, SourceName};
use crate::source::aws::answer::AnswerCap;
use crate::source::aws::failure::Operation;
use crate::source::aws::identity::Endpoint;
use crate::source::aws::identity::cached::{Identity, Provider};
use crate::source::gate::Gate;
use crate::source::watched::{WatchedFile, secret_text};

/// Longest session name (STS API Reference, `AssumeRole`, `RoleSessionName`).
const MAX_SESSION_NAME: usize = 64;

/// Shortest and longest external id (STS API Reference, `AssumeRole`, `ExternalId`).
const EXTERNAL_ID_CHARS: std::ops::RangeInclusive<usize> = 2..=1224;

/// What all roles of a source have in common.
#[derive(Debug)]
pub(super) struct Sts {
    pub endpoint: Endpoint,
    pub region: String,
    pub gate: Gate,
    pub session_name: String,
    pub external_id: Option<WatchedFile>,
    pub clock: Arc<dyn Clock>,
}

/// The session name of a source: it names us and the source in the logs of the role's account.
pub(super) fn session_name(source: &SourceName) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_=,.@-".contains(c) { c } else { '-' };
    let name = format!("tidepole-{source}");
    name.chars().map(allowed).take(MAX_SESSION_NAME).collect()
}

/// A check for the watched file of an external id (STS API Reference, `AssumeRole`, `ExternalId`).
pub(super) fn check_external_id(content: &[u8]) -> Result<(), String> {
    let text = secret_text(content);
    let fits = EXTERNAL_ID_CHARS.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=,.@:/+-".contains(&b));
    let (least, most) = EXTERNAL_ID_CHARS.into_inner();
    if fits {
        Ok(())
    } else {
        Err(format!("not an external id: {least} to {most} letters, digits and _ = , . @ : / + -"))
    }
}

impl Sts {
    /// A client that calls as `parent`.
    pub(super) fn client(&self, config: &aws_config::SdkConfig, parent: &Arc<Identity>) -> Client {
        let mut builder = Builder::from(config);
        builder.set_endpoint_url(self.endpoint.url.clone());
        builder.set_use_fips(Some(self.endpoint.fips));
        builder.set_use_dual_stack(Some(self.endpoint.dual_stack));
        let provider = SharedCredentialsProvider::new(Provider(Arc::clone(parent)));
        builder.set_credentials_provider(Some(provider));
        let cap = AnswerCap { metrics: Arc::clone(self.gate.metrics()) };
        builder.push_interceptor(SharedInterceptor::new(cap));
        Client::from_conf(builder.build())
    }

    /// Assumes a role.
    pub(super) async fn assume(
        &self,
        client: &Client,
        parent: &Arc<Identity>,
        role: &str,
    ) -> Result<Credentials, FetchError> {
        // Before the call, and outside its time: what the parent lacks is its own affair.
        parent.credentials().await?;
        let external_id = self.external_id.as_ref().map(|file| file.content(&*self.clock));
        let request = client
            .assume_role()
            .role_arn(role)
            .role_session_name(&self.session_name)
            .set_external_id(external_id.as_deref().map(|id| secret_text(id).to_owned()));
        let secret = external_id.as_deref().map(secret_text);
        let hint = if external_id.is_some() {
            "allow it in that identity's policy, and that identity with this external id in the role's trust policy"
        } else {
            "allow it in that identity's policy, and that identity in the role's trust policy (externalIdFile if that asks for an external id)"
        };
        let object = format!("AssumeRole of {role} by STS in {} failed", self.region);
        let address = self.endpoint.address();
        let sent = async {
            // Boxed: the SDK's futures are tens of kilobytes.
            Box::pin(request.send()).await.map_err(|error| {
                let (action, identity) = ("sts:AssumeRole", Some(parent));
                let (object, endpoint) = (&object, address.as_deref());
                Operation { action, object, identity, secret, endpoint, hint }.failed(&error)
            })
        };
        let about = format!("{object}: ");
        let answer = self.gate.call(self.gate.deadline(), &about, sent).await?;
        taken(answer.credentials).ok_or_else(|| {
            FetchError::Malformed(Cause::new(format!("{about}the answer has no credentials")))
        })
    }
}

/// What STS gives, if it is complete.
pub(super) fn taken(given: Option<aws_sdk_sts::types::Credentials>) -> Option<Credentials> {
    let given = given?;
    let expiry = std::time::SystemTime::try_from(given.expiration).ok()?;
    let (key, secret) = (given.access_key_id, given.secret_access_key);
    let complete = !key.is_empty() && !secret.is_empty() && !given.session_token.is_empty();
    complete.then(|| Credentials::new(key, secret, Some(given.session_token), Some(expiry), "sts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_names_us_and_the_source() {
        let name = |text: &str| session_name(&SourceName::new(text));
        assert_eq!(name("main"), "tidepole-main");
        assert_eq!(name("a b/c"), "tidepole-a-b-c");
        assert_eq!(name(&"x".repeat(63)), format!("tidepole-{}", "x".repeat(55)));
    }

    #[test]
    fn what_is_no_external_id_is_refused() {
        assert_eq!(check_external_id(b" Example:12/3_=,.@+-\n"), Ok(()));
        assert_eq!(check_external_id(&[b'x'; 1224]), Ok(()));
        let wrong = "not an external id: 2 to 1224 letters, digits and _ = , . @ : / + -";
        for bad in [&b""[..], b"x", b"two words", b"a\nb", b"\xff\xfe", &[b'x'; 1225]] {
            assert_eq!(check_external_id(bad), Err(wrong.to_owned()));
        }
    }
}
