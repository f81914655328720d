//! One SDK client per region, made when first needed, all with one identity.

use std::fmt;
use std::sync::Arc;

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{SharedInterceptor, StalledStreamProtectionConfig};
use tokio::sync::OnceCell;
use url::Url;

use crate::model::{Cause, FetchError, SourceName};
use crate::source::Metrics;
use crate::source::aws::AwsSettings;
use crate::source::aws::answer::AnswerCap;
use crate::source::aws::bounded::Bounded;
use crate::source::aws::upstream::Service;

/// Clients kept of one service. Sockets are shared among them; a client has about 20 KiB.
const MAX_CLIENTS: usize = 128;

/// The clients of one source.
pub(in crate::source) struct Clients {
    name: SourceName,
    settings: AwsSettings,
    credentials: Option<SharedCredentialsProvider>,
    base: OnceCell<SdkConfig>,
    metrics: Metrics,
    sqs: Bounded<Key, aws_sdk_sqs::Client>,
    cloudwatch: Bounded<Key, aws_sdk_cloudwatch::Client>,
}

/// Region and role.
type Key = (Arc<str>, Option<Arc<str>>);

impl Clients {
    /// No client yet.
    pub(in crate::source) fn new(
        name: &SourceName,
        settings: AwsSettings,
        credentials: Option<SharedCredentialsProvider>,
        metrics: &Metrics,
    ) -> Self {
        let what = "pairs of region and role";
        Self {
            name: name.clone(),
            settings,
            credentials,
            base: OnceCell::new(),
            metrics: metrics.clone(),
            sqs: Bounded::new(MAX_CLIENTS, what),
            cloudwatch: Bounded::new(MAX_CLIENTS, what),
        }
    }

    /// The SQS client of a region. `role` is the role that a query wants to take on.
    ///
    /// # Errors
    /// When the identity or the region cannot be had.
    pub(in crate::source) async fn sqs(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<aws_sdk_sqs::Client, FetchError> {
        let base = self.base(role).await?;
        let key = (Arc::clone(region), role.map(Arc::from));
        self.sqs.get_or_insert(&key, || {
            let mut config = aws_sdk_sqs::config::Builder::from(base);
            config.set_region(Some(Region::new(region.to_string())));
            config.set_endpoint_url(self.endpoint(self.settings.sqs_endpoint_url.as_ref()));
            config.push_interceptor(self.cap(Service::Sqs));
            aws_sdk_sqs::Client::from_conf(config.build())
        })
    }

    /// The `CloudWatch` client of a region. `role` is the role that a query wants to take on.
    ///
    /// # Errors
    /// When the identity or the region cannot be had.
    pub(in crate::source) async fn cloudwatch(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<aws_sdk_cloudwatch::Client, FetchError> {
        let base = self.base(role).await?;
        let key = (Arc::clone(region), role.map(Arc::from));
        self.cloudwatch.get_or_insert(&key, || {
            let mut config = aws_sdk_cloudwatch::config::Builder::from(base);
            config.set_region(Some(Region::new(region.to_string())));
            config.set_endpoint_url(self.endpoint(self.settings.cloudwatch_endpoint_url.as_ref()));
            config.push_interceptor(self.cap(Service::CloudWatch));
            aws_sdk_cloudwatch::Client::from_conf(config.build())
        })
    }

    /// Where a service is, by the operator's word. Set in any case: an endpoint from the
    /// environment or a profile is not the operator's word about this source.
    fn endpoint(&self, own: Option<&Url>) -> Option<String> {
        own.or(self.settings.endpoint_url.as_ref()).map(ToString::to_string)
    }

    fn cap(&self, service: Service) -> SharedInterceptor {
        let metrics = Arc::new(self.metrics.for_calls(&self.name, service.as_str()));
        SharedInterceptor::new(AnswerCap { metrics })
    }

    async fn base(&self, role: Option<&str>) -> Result<&SdkConfig, FetchError> {
        if let Some(role) = role {
            // An identity of its own per role joins here.
            return Err(FetchError::Invalid(Cause::new(format!(
                "this source takes on no roles, and the query wants {role}"
            ))));
        }
        // Boxed: loading is rare and its future is tens of kilobytes.
        Ok(self.base.get_or_init(|| Box::pin(self.load())).await)
    }

    /// Identity, timeouts and the like, common to all services and regions.
    async fn load(&self) -> SdkConfig {
        let settings = &self.settings;
        // The SDK has no timeouts of its own apart from connecting. The gate's deadline ends a fetch;
        // these end what the SDK does inside.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.timeout)
            .read_timeout(settings.timeout)
            .operation_attempt_timeout(settings.timeout)
            .operation_timeout(settings.timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .timeout_config(timeouts)
            // The next refresh is the retry; a second call inside one fetch would only add load to a
            // service that asks for less.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().build())
            // One cache for the clients of all regions.
            .identity_cache(IdentityCache::lazy().build())
            .use_fips(settings.fips)
            .use_dual_stack(settings.dual_stack);
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        loader.load().await
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("settings", &self.settings).finish_non_exhaustive()
    }
}
