//! One SDK client per region, made when first needed, all with one identity.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{SharedInterceptor, StalledStreamProtectionConfig};
use tokio::sync::OnceCell;

use crate::model::{Cause, FetchError};
use crate::source::aws::AwsSettings;
use crate::source::aws::answer::AnswerCap;
use crate::source::metrics::CallMetrics;

/// Clients kept. AWS has fewer regions than this, and the definitions may only name allowed ones.
const MAX_REGIONS: usize = 64;

/// The clients of one source.
pub(in crate::source) struct Clients {
    settings: AwsSettings,
    credentials: Option<SharedCredentialsProvider>,
    base: OnceCell<SdkConfig>,
    sqs_metrics: Arc<CallMetrics>,
    sqs: Mutex<HashMap<Arc<str>, aws_sdk_sqs::Client>>,
}

impl Clients {
    /// No client yet.
    pub(in crate::source) fn new(
        settings: AwsSettings,
        credentials: Option<SharedCredentialsProvider>,
        sqs_metrics: &Arc<CallMetrics>,
    ) -> Self {
        let sqs_metrics = Arc::clone(sqs_metrics);
        Self { settings, credentials, base: OnceCell::new(), sqs_metrics, sqs: Mutex::default() }
    }

    /// The SQS client of a region. `role` is the role that a query wants to take on.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when the identity or the region cannot be had.
    pub(in crate::source) async fn sqs(
        &self,
        region: &Arc<str>,
        role: Option<&str>,
    ) -> Result<aws_sdk_sqs::Client, FetchError> {
        if let Some(role) = role {
            // An identity of its own per role joins here.
            return Err(FetchError::Invalid(Cause::new(format!(
                "this source takes on no roles, and the query wants {role}"
            ))));
        }
        // Boxed: loading is rare and its future is tens of kilobytes.
        let base = self.base.get_or_init(|| Box::pin(self.load())).await;
        let mut clients = self.sqs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(region) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_REGIONS {
            return Err(FetchError::Invalid(Cause::new(format!(
                "queries to this source name more than {MAX_REGIONS} regions"
            ))));
        }
        let endpoint =
            self.settings.sqs_endpoint_url.as_ref().or(self.settings.endpoint_url.as_ref());
        let mut config = aws_sdk_sqs::config::Builder::from(base);
        config.set_region(Some(Region::new(region.to_string())));
        // Set in any case: an endpoint from the environment or a profile is not the operator's
        // word about this source.
        config.set_endpoint_url(endpoint.map(ToString::to_string));
        let cap = AnswerCap { metrics: Arc::clone(&self.sqs_metrics) };
        config.push_interceptor(SharedInterceptor::new(cap));
        let client = aws_sdk_sqs::Client::from_conf(config.build());
        clients.insert(Arc::clone(region), client.clone());
        Ok(client)
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
