//! Web identity: `AssumeRoleWithWebIdentity` with the token of a pod's service account (IRSA).
//!
//! The SDK's default chain does this as well, but under a session name of its own making, and at an
//! endpoint that is not the operator's. This provider takes its place, so that the logs of the role's
//! account name us and the source. Not responsible for: a web identity that a profile names.

use std::path::PathBuf;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::Builder;

use crate::source::aws::failure::web_identity_refused;
use crate::source::aws::identity::role::taken;
use crate::source::aws::identity::{Endpoint, Unobtainable};

/// What the chain is told by the pod identity webhook of EKS: these environment variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebIdentity {
    token_file: PathBuf,
    role_arn: String,
    session_name: String,
}

impl WebIdentity {
    /// The web identity that the environment names, if it does. `session_name` is ours.
    pub(super) fn of(
        variable: impl Fn(&str) -> Option<String>,
        session_name: &str,
    ) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.trim().is_empty());
        Some(Self {
            token_file: set("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
            role_arn: set("AWS_ROLE_ARN")?,
            session_name: set("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| session_name.to_owned()),
        })
    }
}

/// The SDK's default chain up to the web identity, which is this one: environment, profile, web
/// identity. What comes after (container, instance metadata) is never asked where a web identity is
/// named: it gives credentials, or an error that ends the chain.
///
/// STS is at `endpoint`, AWS' own unless the operator names another: the token is for nobody whom
/// the environment or a profile may name.
pub(super) fn chain(
    web: WebIdentity,
    config: &SdkConfig,
    endpoint: &Endpoint,
) -> SharedCredentialsProvider {
    let mut builder = Builder::from(config);
    builder.set_endpoint_url(endpoint.url.clone());
    builder.set_use_fips(Some(endpoint.fips));
    builder.set_use_dual_stack(Some(endpoint.dual_stack));
    let (client, address) = (Client::from_conf(builder.build()), endpoint.address());
    let provider = Provider { web, client, address };
    let profile = ProfileFileCredentialsProvider::builder().configure(&like(config)).build();
    let chain = CredentialsProviderChain::first_try(
        "Environment",
        EnvironmentVariableCredentialsProvider::new(),
    )
    .or_else("Profile", profile)
    .or_else("WebIdentityToken", provider);
    SharedCredentialsProvider::new(chain)
}

/// What the SDK's own providers are given, from the configuration of the source.
fn like(config: &SdkConfig) -> ProviderConfig {
    let mut like = ProviderConfig::without_region()
        .with_region(config.region().cloned())
        .with_behavior_version(config.behavior_version())
        .with_use_fips(config.use_fips())
        .with_use_dual_stack(config.use_dual_stack());
    if let Some(timeouts) = config.timeout_config() {
        like = like.with_timeout_config(timeouts.clone());
    }
    if let Some(retries) = config.retry_config() {
        like = like.with_retry_config(retries.clone());
    }
    like
}

#[derive(Debug)]
struct Provider {
    web: WebIdentity,
    client: Client,
    /// Of the endpoint, where the operator names one.
    address: Option<Arc<str>>,
}

impl Provider {
    async fn assume(&self) -> provider::Result {
        // Read each time: the kubelet renews it. A small local file.
        let token = std::fs::read_to_string(&self.web.token_file)
            .map_err(CredentialsError::invalid_configuration)?;
        let request = self
            .client
            .assume_role_with_web_identity()
            .role_arn(&self.web.role_arn)
            .role_session_name(&self.web.session_name)
            .web_identity_token(token.trim());
        let answer = request.send().await.map_err(|error| {
            let error = web_identity_refused(&error, Some(token.trim()), self.address.as_deref());
            CredentialsError::provider_error(Unobtainable(error))
        })?;
        taken(answer.credentials)
            .ok_or_else(|| CredentialsError::unhandled("the answer of STS has no credentials"))
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};

    use super::*;
    use crate::source::aws::failure::no_credentials;
    use crate::source::upstream::{KeyRing, Sts};

    const ROLE: &str = "arn:aws:iam::111122223333:role/irsa";

    fn of(pairs: &[(&str, &str)]) -> Option<WebIdentity> {
        let value = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        WebIdentity::of(value, "tidepole-aws")
    }

    #[test]
    fn the_environment_names_it_or_not() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("AWS_ROLE_ARN", ROLE)]), None);
        assert_eq!(of(&[("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", " ")]), None);
        let both = of(&[("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")]).unwrap();
        assert_eq!((both.role_arn.as_str(), both.session_name.as_str()), (ROLE, "tidepole-aws"));
    }

    #[tokio::test]
    async fn the_token_is_read_anew_and_a_refusal_is_explained() {
        let files = tempfile::tempdir().unwrap();
        let token_file = files.path().join("token");
        let sts = Arc::new(Sts::start(&KeyRing::default()));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build();
        let web = WebIdentity {
            token_file: token_file.clone(),
            role_arn: ROLE.to_owned(),
            session_name: "tidepole-aws".to_owned(),
        };
        let endpoint = Endpoint { url: Some(sts.url()), fips: false, dual_stack: false };
        let chain = chain(web, &config, &endpoint);
        let ask = async || {
            let given = chain.provide_credentials().await;
            given.map(|given| given.session_token().is_some()).map_err(|error| {
                let error = no_credentials(&error);
                assert!(!format!("{error:?}").contains("-jwt"), "{error:?}");
                format!("{}: {error}", error.kind())
            })
        };
        let wrong =
            "denied: the set-up of the source's AWS credentials is wrong; the log has the cause";
        assert_eq!(ask().await, Err(wrong.to_owned()));
        std::fs::write(&token_file, "first-jwt\n").unwrap();
        let about = "denied: the role of the web identity (AWS_ROLE_ARN) cannot be assumed: ";
        assert_eq!(
            ask().await,
            Err(format!(
                "{about}AWS did not accept the credentials of the source's own identity (InvalidIdentityToken)"
            ))
        );
        sts.web_identity("arn:aws:iam::111122223333:role/other", "first-jwt");
        assert_eq!(
            ask().await,
            Err(format!(
                "{about}access denied: the source's own identity needs sts:AssumeRoleWithWebIdentity; allow the pod's service account in the role's trust policy (AccessDenied)"
            ))
        );
        sts.web_identity(ROLE, "second-jwt");
        std::fs::write(&token_file, "second-jwt\n").unwrap();
        assert_eq!(ask().await, Ok(true));
        assert_eq!(sts.hits("AssumeRoleWithWebIdentity"), 3);
        assert_eq!(sts.calls()[0].session.as_deref(), Some("tidepole-aws"));
    }
}
