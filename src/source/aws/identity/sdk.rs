//! The SDK's configuration that all clients of a source share, and the default chain.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::time::TimeSource;

use crate::model::Clock;
use crate::source::aws::identity::IdentitySettings;

/// How much later than ours the SDK's own timeouts are: more than any timer is late.
const BEHIND: Duration = Duration::from_secs(1);

/// Our wall clock, as the SDK takes it.
#[derive(Debug)]
struct WallClock(Arc<dyn Clock>);

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

/// Loads the configuration: environment and profile are read, nothing is called. `credentials`
/// replaces the default chain (environment, profile, web identity, container, instance metadata).
///
/// The HTTP client is the SDK's own. It takes proxies from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
/// and `NO_PROXY`, in capital or small letters.
///
/// Requests are signed with the time of `clock`. A service that tells another time, and refuses a
/// signature for it, is believed by the SDK from the next call on.
pub(super) async fn load(
    settings: &IdentitySettings,
    clock: &Arc<dyn Clock>,
    credentials: Option<SharedCredentialsProvider>,
) -> SdkConfig {
    // The SDK has no timeouts of its own apart from connecting. The gate's deadline ends a fetch;
    // these end what the SDK does inside, later, so that one hang has one text: which of two equal
    // timers is first differs from call to call.
    let timeout = settings.timeout + BEHIND;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(timeout)
        .read_timeout(timeout)
        .operation_attempt_timeout(timeout)
        .operation_timeout(timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .timeout_config(timeouts)
        // The next refresh is the retry; a second call inside one fetch would only add load to a
        // service that asks for less.
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().build())
        .time_source(WallClock(Arc::clone(clock)))
        // `Identity` keeps credentials.
        .identity_cache(IdentityCache::no_cache())
        .use_fips(settings.fips)
        .use_dual_stack(settings.dual_stack);
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    loader.load().await
}
