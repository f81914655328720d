//! One SDK client per service, region and role, made when first needed.

use std::fmt;
use std::sync::Arc;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::config::SharedInterceptor;
use url::Url;

use crate::model::{FetchError, SourceName};
use crate::source::Metrics;
use crate::source::aws::AwsSettings;
use crate::source::aws::answer::AnswerCap;
use crate::source::aws::bounded::Bounded;
use crate::source::aws::identity::{Endpoint, Identities, Identity, Who};
use crate::source::aws::upstream::Service;

/// Clients kept of one service. Sockets are shared among them; a client has about 20 KiB.
const MAX_CLIENTS: usize = 128;

/// The clients of one source.
pub(in crate::source) struct Clients {
    name: SourceName,
    settings: AwsSettings,
    identities: Identities,
    metrics: Metrics,
    sqs: Bounded<Key, As<aws_sdk_sqs::Client>>,
    cloudwatch: Bounded<Key, As<aws_sdk_cloudwatch::Client>>,
}

/// A client and who it calls as.
#[derive(Clone)]
pub(in crate::source) struct As<C> {
    /// The client.
    pub client: C,
    /// Its identity.
    pub identity: Arc<Identity>,
    /// Host and port that it calls, where the operator names them.
    pub address: Option<Arc<str>>,
}

impl<C> As<C> {
    /// Whether this calls as an identity: one that made room and came back is another.
    fn is(&self, identity: &Arc<Identity>) -> bool {
        Arc::ptr_eq(&self.identity, identity)
    }
}

/// Region and further role: one client per identity.
type Key = (Arc<str>, Option<Arc<str>>);

impl Clients {
    /// No client yet.
    pub(in crate::source) fn new(
        name: &SourceName,
        settings: AwsSettings,
        identities: Identities,
        metrics: &Metrics,
    ) -> Self {
        let what = "pairs of region and role";
        Self {
            name: name.clone(),
            settings,
            identities,
            metrics: metrics.clone(),
            sqs: Bounded::new(MAX_CLIENTS, what),
            cloudwatch: Bounded::new(MAX_CLIENTS, what),
        }
    }

    /// Who calls when a query wants `role`, or none, for messages.
    pub(in crate::source) fn who(&self, role: Option<&str>) -> Who {
        self.identities.who(role)
    }

    /// The SQS client of a region, with valid credentials. `role` is the role that a query wants.
    ///
    /// # Errors
    /// When there are no credentials, why; when queries name too many regions and roles.
    pub(in crate::source) async fn sqs(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<As<aws_sdk_sqs::Client>, FetchError> {
        self.identities.of(role).await?.credentials().await?;
        self.sqs_unready(region, role).await
    }

    /// The same, with credentials that may have to be loaded by the first call.
    ///
    /// # Errors
    /// When queries name too many regions and roles.
    pub(in crate::source) async fn sqs_unready(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<As<aws_sdk_sqs::Client>, FetchError> {
        let (config, identity) = (self.identities.config().await, self.identities.of(role).await?);
        let key = self.key(region, role);
        self.sqs.get_or_replace(
            &key,
            |known| known.is(&identity),
            || {
                let mut builder = aws_sdk_sqs::config::Builder::from(config);
                let at = self.endpoint(self.settings.sqs_endpoint_url.as_ref());
                builder.set_region(Some(Region::new(region.to_string())));
                let address = at.address();
                builder.set_endpoint_url(at.url);
                builder.set_use_fips(Some(at.fips));
                builder.set_use_dual_stack(Some(at.dual_stack));
                builder.set_credentials_provider(Some(Identities::provider(&identity)));
                builder.push_interceptor(self.cap(Service::Sqs));
                let client = aws_sdk_sqs::Client::from_conf(builder.build());
                As { client, identity: Arc::clone(&identity), address }
            },
        )
    }

    /// The `CloudWatch` client of a region, with valid credentials. `role` is the role that a
    /// query wants.
    ///
    /// # Errors
    /// When there are no credentials, why; when queries name too many regions and roles.
    pub(in crate::source) async fn cloudwatch(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<As<aws_sdk_cloudwatch::Client>, FetchError> {
        let (config, identity) = self.ready(role).await?;
        let key = self.key(region, role);
        self.cloudwatch.get_or_replace(
            &key,
            |known| known.is(&identity),
            || {
                let mut builder = aws_sdk_cloudwatch::config::Builder::from(config);
                let at = self.endpoint(self.settings.cloudwatch_endpoint_url.as_ref());
                builder.set_region(Some(Region::new(region.to_string())));
                let address = at.address();
                builder.set_endpoint_url(at.url);
                builder.set_use_fips(Some(at.fips));
                builder.set_use_dual_stack(Some(at.dual_stack));
                builder.set_credentials_provider(Some(Identities::provider(&identity)));
                builder.push_interceptor(self.cap(Service::CloudWatch));
                let client = aws_sdk_cloudwatch::Client::from_conf(builder.build());
                As { client, identity: Arc::clone(&identity), address }
            },
        )
    }

    /// An identity whose credentials are there. Outside of any gate: who waits for credentials
    /// takes no slot from those that have some.
    async fn ready(&self, role: Option<&str>) -> Result<(&SdkConfig, Arc<Identity>), FetchError> {
        let identity = self.identities.of(role).await?;
        identity.credentials().await?;
        Ok((self.identities.config().await, identity))
    }

    fn key(&self, region: &Arc<str>, role: Option<&str>) -> Key {
        (Arc::clone(region), self.identities.further(role).map(Arc::from))
    }

    fn endpoint(&self, own: Option<&Url>) -> Endpoint {
        let url = own.or(self.settings.endpoint_url.as_ref());
        self.identities.settings().endpoint(url)
    }

    fn cap(&self, service: Service) -> SharedInterceptor {
        let metrics = Arc::new(self.metrics.for_calls(&self.name, service.as_str()));
        SharedInterceptor::new(AnswerCap { metrics })
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, ManualClock};
    use crate::telemetry::Telemetry;

    #[test]
    fn the_sources_own_role_is_no_other_identity() {
        let (own, team) = (
            "arn:aws:iam::111122223333:role/tidepole",
            "arn:aws:iam::444455556666:role/metrics-reader",
        );
        let mut settings = AwsSettings::new("eu-west-1");
        settings.role_arn = Some(own.to_owned());
        let (name, metrics) = (SourceName::new("aws"), Metrics::register(&Telemetry::new()));
        let clock = Arc::new(ManualClock::default()) as Arc<dyn Clock>;
        let identities =
            Identities::open(&name, settings.identities(), clock, &metrics, None).unwrap();
        let clients = Clients::new(&name, settings, identities, &metrics);
        let region = Arc::from("eu-west-1");
        let key = |role| clients.key(&region, role);
        assert_eq!(key(Some(own)), key(None));
        assert_ne!(key(Some(team)), key(None));
    }
}
