//! AWS: one identity, its regions and clients, and the meaning of the SDK's errors.
//!
//! Responsible for: the settings of an AWS source, its credentials (the SDK's default chain:
//! environment, profile, web identity, container, instance metadata), one client per region, and
//! one classification of SDK errors for all services. What is asked of a service and what its
//! answers mean is in the service's own module ([`crate::source::sqs`]).
//!
//! Adding a service: a module with its calls that takes clients from `clients::Clients` and
//! errors through `failure::Operation`; an arm in `AwsSource::answer`.

mod answer;
mod bounded;
pub(super) mod clients;
pub(super) mod failure;
pub(super) mod upstream;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use futures::FutureExt;
use futures::future::BoxFuture;
use url::Url;

use crate::model::region::check_region;
use crate::model::{
    Clock, CostSettings, Dispatch, FetchError, Query, QuerySpec, Sample, Source, SourceKind,
    SourceName,
};
use crate::source::settings::{DEFAULT_CONCURRENT, DEFAULT_TIMEOUT, check_calls, url_problem};
use crate::source::sqs::Queues;
use crate::source::{BuildError, Metrics, SettingsProblem, sqs, tls, wrong_kind};
use clients::Clients;
use upstream::Gates;

/// What an AWS source needs to connect. Holds no secret: credentials come from the SDK's default
/// chain.
#[derive(Clone, PartialEq)]
pub struct AwsSettings {
    /// Its own region; queries name the region that they ask.
    pub region: String,
    /// Where all services are, instead of AWS' own endpoints: emulators and VPC endpoints.
    pub endpoint_url: Option<Url>,
    /// Where SQS is; wins over `endpoint_url`.
    pub sqs_endpoint_url: Option<Url>,
    /// Where `CloudWatch` is; wins over `endpoint_url`.
    pub cloudwatch_endpoint_url: Option<Url>,
    /// Where STS is; wins over `endpoint_url`.
    pub sts_endpoint_url: Option<Url>,
    /// The role that the source assumes; all its calls, and all further roles, are from there.
    pub role_arn: Option<String>,
    /// The file with the external id that the trust policies of all assumed roles ask for.
    pub external_id_file: Option<PathBuf>,
    /// What reading costs and may cost.
    pub cost: CostSettings,
    /// The longest that a fetch takes, the wait for a free slot included.
    pub timeout: Duration,
    /// Calls at one time.
    pub max_concurrent: usize,
    /// Use FIPS endpoints.
    pub fips: bool,
    /// Use dual-stack endpoints.
    pub dual_stack: bool,
}

impl AwsSettings {
    /// Settings with every default.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            endpoint_url: None,
            sqs_endpoint_url: None,
            cloudwatch_endpoint_url: None,
            sts_endpoint_url: None,
            role_arn: None,
            external_id_file: None,
            cost: CostSettings::default(),
            timeout: DEFAULT_TIMEOUT,
            max_concurrent: DEFAULT_CONCURRENT,
            fips: false,
            dual_stack: false,
        }
    }

    /// What is wrong, found without any input or output.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut found = Vec::new();
        if let Err(error) = check_region(&self.region) {
            found.push(SettingsProblem::value(&["region"], error.to_string()));
        }
        let urls =
            [("endpointUrl", &self.endpoint_url), ("sqsEndpointUrl", &self.sqs_endpoint_url)];
        for (field, url) in urls {
            let instead = "credentials come from the AWS SDK's default chain";
            let wrong = url.as_ref().and_then(|url| url_problem(url, instead));
            found.extend(wrong.map(|message| SettingsProblem::value(&[field], message)));
        }
        let own_endpoint = self.endpoint_url.is_some() || self.sqs_endpoint_url.is_some();
        for (field, set) in [("fips", self.fips), ("dualStack", self.dual_stack)] {
            if set && own_endpoint {
                let message = "an endpoint is named; this would have no effect on it";
                found.push(SettingsProblem::value(&[field], message));
            }
        }
        check_calls(&mut found, self.timeout, self.max_concurrent);
        found
    }
}

impl fmt::Debug for AwsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<Url>| url.as_ref().map(|u| u.origin().ascii_serialization());
        f.debug_struct("AwsSettings")
            .field("region", &self.region)
            .field("endpoint_url", &shown(&self.endpoint_url))
            .field("sqs_endpoint_url", &shown(&self.sqs_endpoint_url))
            .field("timeout", &self.timeout)
            .field("max_concurrent", &self.max_concurrent)
            .field("fips", &self.fips)
            .field("dual_stack", &self.dual_stack)
            .finish()
    }
}

/// One AWS identity.
#[derive(Debug)]
pub struct AwsSource {
    clients: Clients,
    gates: Gates,
    queues: Queues,
    clock: Arc<dyn Clock>,
}

impl AwsSource {
    /// Builds the source; makes no connection, and reads no credentials before the first call.
    /// `credentials` replaces the default chain.
    ///
    /// # Errors
    /// When the system has no CA certificates: the SDK would find out by a panic.
    pub fn build(
        name: &SourceName,
        settings: &AwsSettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BuildError> {
        tls::system_roots().map_err(|cause| BuildError::NoTrustStore {
            name: name.clone(),
            cause,
            remedy: "the environment variable SSL_CERT_FILE",
        })?;
        let gates = Gates::new(name, settings.max_concurrent, settings.timeout, metrics);
        let clients = Clients::new(name, settings.clone(), credentials, metrics);
        Ok(Self { clients, gates, queues: Queues::default(), clock })
    }

    async fn answer(&self, query: &Query) -> Result<Sample, FetchError> {
        match &query.spec {
            QuerySpec::Sqs(spec) => {
                sqs::fetch(&self.clients, &self.queues, &self.gates, &*self.clock, spec).await
            }
            QuerySpec::CloudWatch(_) | QuerySpec::Prometheus(_) | QuerySpec::Simulated(_) => {
                Err(wrong_kind(query, SourceKind::Aws))
            }
        }
    }
}

impl Source for AwsSource {
    fn concurrency(&self) -> usize {
        self.gates.width()
    }

    fn dispatch(&self, query: &Query) -> Dispatch {
        let upstream = match &query.spec {
            QuerySpec::Sqs(spec) => sqs::upstream(spec),
            QuerySpec::CloudWatch(_) | QuerySpec::Prometheus(_) | QuerySpec::Simulated(_) => {
                "".into()
            }
        };
        Dispatch { upstream, batch: None, beat: None }
    }

    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        futures::future::join_all(queries.iter().map(|query| self.answer(query))).boxed()
    }
}
