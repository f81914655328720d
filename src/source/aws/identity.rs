//! Who calls AWS: the source's own identity and the roles assumed from it.
//!
//! Responsible for: the default chain (environment, profile, web identity, container, instance
//! metadata), the role of the source, the roles of its queries, and credentials for all of them:
//! loaded once however many ask, renewed ahead of their end (`cached`), bounded in number. Not
//! responsible for: which role a query may name (definitions are checked against `allowedRoles`
//! before), and what is done with the credentials.
//!
//! A query's role is assumed from the source's identity: the default chain's, or the source's own
//! role, which is assumed from the default chain's.

mod cached;
mod role;
mod sdk;
mod web;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use futures::FutureExt;
use tokio::sync::OnceCell;
use url::Url;

use crate::model::{Clock, FetchError, SourceName};
use crate::source::aws::bounded::Bounded;
use crate::source::aws::failure::no_credentials;
use crate::source::gate::Gate;
use crate::source::settings::address;
use crate::source::watched::WatchedFile;
use crate::source::{BuildError, Metrics};
use cached::Provider;
use role::{Sts, check_external_id, session_name};
use web::WebIdentity;

pub(in crate::source) use cached::Identity;
pub(in crate::source::aws) use cached::Unobtainable;

/// Roles kept of one source. More accounts than this belong to several sources.
const MAX_ROLES: usize = 64;

/// Words for metrics labels.
const CHAIN_KIND: &str = "credentials";
const STS_KIND: &str = "sts";

/// Whose credentials a call is made with, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Who {
    /// The default chain's.
    Own,
    /// A role's, by its ARN.
    Role(Arc<str>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the source's own identity"),
            Self::Role(role) => write!(f, "role {role}"),
        }
    }
}

/// Where a service is.
#[derive(Clone, Debug)]
pub(in crate::source) struct Endpoint {
    /// The operator's word; none means AWS' own endpoint. Set in any case: an endpoint from the
    /// environment or a profile is not the operator's word about this source.
    pub url: Option<String>,
    /// Look for a FIPS endpoint. The SDK refuses this with a URL.
    pub fips: bool,
    /// Look for a dual-stack endpoint. The SDK refuses this with a URL.
    pub dual_stack: bool,
}

impl Endpoint {
    /// Host and port, if it is named.
    pub(in crate::source) fn address(&self) -> Option<Arc<str>> {
        let url = Url::parse(self.url.as_deref()?).ok()?;
        Some(address(&url).into())
    }
}

/// What identities need.
#[derive(Clone, Debug)]
pub(in crate::source) struct IdentitySettings {
    /// In which region roles are assumed.
    pub region: String,
    /// The source's role.
    pub role_arn: Option<String>,
    /// The file with the external id, and the field that names it.
    pub external_id: Option<(&'static str, PathBuf)>,
    /// Where STS is.
    pub sts_endpoint_url: Option<Url>,
    /// The longest that one call takes.
    pub timeout: Duration,
    /// Use FIPS endpoints.
    pub fips: bool,
    /// Use dual-stack endpoints.
    pub dual_stack: bool,
}

impl IdentitySettings {
    /// Where a service is whose URL is, or is not, named.
    pub(in crate::source) fn endpoint(&self, url: Option<&Url>) -> Endpoint {
        Endpoint {
            url: url.map(ToString::to_string),
            fips: self.fips && url.is_none(),
            dual_stack: self.dual_stack && url.is_none(),
        }
    }

    /// How long a caller waits for credentials: less than a fetch may take, so that the fetch can
    /// say what it lacked.
    fn patience(&self) -> Duration {
        self.timeout * 4 / 5
    }
}

/// The identities of one source.
#[derive(Debug)]
pub(in crate::source) struct Identities {
    name: SourceName,
    settings: IdentitySettings,
    clock: Arc<dyn Clock>,
    /// Replaces the default chain.
    credentials: Option<SharedCredentialsProvider>,
    chain_gate: Gate,
    sts: Arc<Sts>,
    base: OnceCell<Base>,
    roles: Bounded<Arc<str>, Arc<Identity>>,
}

#[derive(Debug)]
struct Base {
    config: SdkConfig,
    /// The source's role, or the default chain.
    source: Arc<Identity>,
}

impl Identities {
    /// Reads the external id; looks for no credentials before the first call. `credentials`
    /// replaces the default chain.
    ///
    /// # Errors
    /// When the file of the external id cannot be used.
    pub(in crate::source) fn open(
        name: &SourceName,
        settings: IdentitySettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BuildError> {
        let open = |(field, path): &(&'static str, PathBuf)| {
            WatchedFile::open(name, field, path, check_external_id, clock.tick()).map_err(|cause| {
                BuildError::File { name: name.clone(), field, path: path.clone(), cause }
            })
        };
        let external_id = settings.external_id.as_ref().map(open).transpose()?;
        // One load per identity is under way at most, so nobody ever waits for a slot here.
        let gate = |kind| Gate::new(MAX_ROLES + 2, settings.timeout, metrics.for_calls(name, kind));
        let sts = Sts {
            endpoint: settings.endpoint(settings.sts_endpoint_url.as_ref()),
            region: settings.region.clone(),
            gate: gate(STS_KIND),
            session_name: session_name(name),
            external_id,
            clock: Arc::clone(&clock),
        };
        Ok(Self {
            name: name.clone(),
            chain_gate: gate(CHAIN_KIND),
            settings,
            clock,
            credentials,
            sts: Arc::new(sts),
            base: OnceCell::new(),
            roles: Bounded::with_spare(MAX_ROLES, "roles", |identity| identity.is_denied()),
        })
    }

    /// What they were made of.
    pub(in crate::source) fn settings(&self) -> &IdentitySettings {
        &self.settings
    }

    /// Who calls when a query wants `role`, or none.
    pub(in crate::source) fn who(&self, role: Option<&str>) -> Who {
        match role.or(self.settings.role_arn.as_deref()) {
            Some(role) => Who::Role(role.into()),
            None => Who::Own,
        }
    }

    /// The role that is assumed from the source's identity when a query wants `role`. None where
    /// that is the source's own role once more: it is the same identity, and a role need not trust
    /// itself.
    pub(in crate::source) fn further<'a>(&self, role: Option<&'a str>) -> Option<&'a str> {
        role.filter(|role| self.settings.role_arn.as_deref() != Some(role))
    }

    /// The SDK's configuration for clients, without credentials.
    pub(in crate::source) async fn config(&self) -> &SdkConfig {
        &self.base().await.config
    }

    /// The identity of a query that wants `role`, or none.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when queries name too many roles.
    pub(in crate::source) async fn of(
        &self,
        role: Option<&str>,
    ) -> Result<Arc<Identity>, FetchError> {
        let base = self.base().await;
        match self.further(role) {
            None => Ok(Arc::clone(&base.source)),
            Some(role) => {
                let role = Arc::from(role);
                self.roles.get_or_insert(&role, || self.role(&base.config, &base.source, &role))
            }
        }
    }

    /// An identity as the SDK's clients take it.
    pub(in crate::source) fn provider(identity: &Arc<Identity>) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Provider(Arc::clone(identity)))
    }

    async fn base(&self) -> &Base {
        // Boxed: loading is rare and its future is tens of kilobytes.
        self.base.get_or_init(|| Box::pin(self.load())).await
    }

    async fn load(&self) -> Base {
        let config = sdk::load(&self.settings, &self.clock, self.credentials.clone()).await;
        let variable = |name: &str| std::env::var(name).ok();
        let web = match &self.credentials {
            Some(_) => None,
            None => WebIdentity::of(variable, &self.sts.session_name),
        };
        let own = self.own(match web {
            Some(web) => Some(web::chain(web, &config, &self.sts.endpoint)),
            None => config.credentials_provider(),
        });
        let source = match &self.settings.role_arn {
            Some(role) => self.role(&config, &own, &role.as_str().into()),
            None => own,
        };
        Base { config, source }
    }

    fn own(&self, chain: Option<SharedCredentialsProvider>) -> Arc<Identity> {
        let gate = self.chain_gate.clone();
        let load = move || {
            let (gate, chain) = (gate.clone(), chain.clone());
            async move {
                let look = async {
                    let Some(chain) = &chain else {
                        return Err(no_credentials(&CredentialsError::not_loaded_no_source()));
                    };
                    Box::pin(chain.provide_credentials())
                        .await
                        .map_err(|error| no_credentials(&error))
                };
                gate.call(gate.deadline(), "AWS credentials of the source: ", look).await
            }
            .boxed()
        };
        self.identity(Who::Own, Box::new(load))
    }

    fn role(&self, config: &SdkConfig, parent: &Arc<Identity>, role: &Arc<str>) -> Arc<Identity> {
        let client = self.sts.client(config, parent);
        let (sts, parent, arn) = (Arc::clone(&self.sts), Arc::clone(parent), Arc::clone(role));
        let load = move || {
            let (sts, client) = (Arc::clone(&sts), client.clone());
            let (parent, arn) = (Arc::clone(&parent), Arc::clone(&arn));
            async move { sts.assume(&client, &parent, &arn).await }.boxed()
        };
        self.identity(Who::Role(Arc::clone(role)), Box::new(load))
    }

    fn identity(&self, who: Who, load: cached::Load) -> Arc<Identity> {
        let clock = Arc::clone(&self.clock);
        Identity::new(&self.name, who, load, clock, self.settings.patience())
    }
}

#[cfg(test)]
mod tests;
