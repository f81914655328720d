//! AWS: one identity, its regions and clients, and the meaning of the SDK's errors.
//!
//! Responsible for: the settings of an AWS source, its identity and the roles assumed from it
//! (`identity`), one client per service, region and identity (`clients`), one gate per service,
//! region and role that a query names (`upstream`), and one classification of SDK errors for all
//! services (`failure`). What is asked of a service and what its answers mean is in the service's own
//! module: [`crate::source::sqs`], [`crate::source::cloudwatch`].
//!
//! Adding a service: a module with its calls that takes clients from `clients::Clients` and
//! errors through `failure::Operation`; an arm in `AwsSource::answer`.

mod answer;
mod bounded;
pub(super) mod clients;
pub(super) mod failure;
pub(super) mod identity;
mod settings;
pub(super) mod upstream;

use std::sync::Arc;

use aws_credential_types::provider::SharedCredentialsProvider;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::model::{
    Clock, CloudWatchQuery, Dispatch, Exchange, Explanation, FetchError, ProtectionSettings, Query,
    QuerySpec, Sample, Source, SourceKind, SourceName,
};
use crate::source::cloudwatch::{self, CloudWatch};
use crate::source::sqs::Queues;
use crate::source::{BreakerSettings, BuildError, Metrics, sqs, tls, wrong_kind};
use clients::Clients;
use identity::Identities;
use upstream::Gates;

pub use settings::AwsSettings;
pub(super) use settings::CHAIN;

/// `GetMetricData` calls per second. The default quota is 50 per account and region ("CloudWatch
/// service quotas"), which dashboards and other clients share; a call takes 500 metrics, so that
/// this is 10,000 metrics a second.
const CLOUDWATCH_RATE: usize = 20;

/// `GetQueueAttributes` calls per second. "Amazon SQS quotas" names none for it; the lowest that it
/// names, for messages of one FIFO queue without batching, is 300 calls per second and action. At
/// this rate 4,500 queues are read every 15 s.
const SQS_RATE: usize = 300;

/// One AWS identity.
#[derive(Debug)]
pub struct AwsSource {
    clients: Clients,
    gates: Gates,
    queues: Queues,
    cloudwatch: CloudWatch,
    rate: Option<usize>,
    breaker: BreakerSettings,
    clock: Arc<dyn Clock>,
}

impl AwsSource {
    /// Builds the source; makes no connection, and reads no credentials before the first call.
    /// `credentials` replaces the default chain.
    ///
    /// # Errors
    /// When the file of the external id cannot be used, or the system has no CA certificates: the
    /// SDK would find that out by a panic.
    pub fn build(
        name: &SourceName,
        settings: &AwsSettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BuildError> {
        check_trust_store(name)?;
        let gates = Gates::new(name, settings.max_concurrent, settings.timeout, metrics);
        let identities = settings.identities();
        let identities =
            Identities::open(name, identities, Arc::clone(&clock), metrics, credentials)?;
        let clients = Clients::new(name, settings.clone(), identities, metrics);
        let cloudwatch = CloudWatch::new(name, metrics);
        Ok(Self {
            clients,
            gates,
            queues: Queues::default(),
            cloudwatch,
            rate: settings.max_requests_per_second,
            breaker: settings.breaker.clone(),
            clock,
        })
    }

    fn access(&self) -> cloudwatch::Access<'_> {
        cloudwatch::Access { clients: &self.clients, gates: &self.gates, clock: &*self.clock }
    }

    /// Asks a query that goes alone; none for one that goes with others.
    async fn answer(&self, query: &Query) -> Option<Result<Sample, FetchError>> {
        match &query.spec {
            QuerySpec::Sqs(spec) => {
                let (clients, gates) = (&self.clients, &self.gates);
                Some(sqs::fetch(clients, &self.queues, gates, &*self.clock, spec, None).await)
            }
            QuerySpec::CloudWatch(_) => None,
            QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => {
                Some(Err(wrong_kind(query, SourceKind::Aws)))
            }
        }
    }

    async fn answer_all(&self, queries: &[Arc<Query>]) -> Vec<Result<Sample, FetchError>> {
        let together: Vec<_> = queries.iter().filter_map(|query| metric_data(query)).collect();
        let together = self.cloudwatch.fetch(self.access(), &together);
        let alone = join_all(queries.iter().map(|query| self.answer(query)));
        let (together, alone) = futures::join!(together, alone);
        let mut together = together.into_iter();
        let answer = |alone: Option<_>| alone.or_else(|| together.next());
        let answers = alone.into_iter().map(answer);
        answers.map(|answer| answer.expect("what is not asked alone is asked together")).collect()
    }
}

fn metric_data(query: &Query) -> Option<&CloudWatchQuery> {
    match &query.spec {
        QuerySpec::CloudWatch(spec) => Some(spec),
        QuerySpec::Sqs(_)
        | QuerySpec::Prometheus(_)
        | QuerySpec::Objects(_)
        | QuerySpec::Simulated(_) => None,
    }
}

/// The SDK trusts the system's CA certificates, and panics when there are none.
pub(super) fn check_trust_store(name: &SourceName) -> Result<(), BuildError> {
    tls::system_roots().map(|_| ()).map_err(|cause| BuildError::NoTrustStore {
        name: name.clone(),
        cause,
        remedy: "the environment variable SSL_CERT_FILE",
    })
}

impl Source for AwsSource {
    fn concurrency(&self) -> usize {
        self.gates.width()
    }

    fn dispatch(&self, query: &Query) -> Dispatch {
        let upstream = match &query.spec {
            QuerySpec::CloudWatch(spec) => return cloudwatch::dispatch(spec),
            QuerySpec::Sqs(spec) => sqs::upstream(spec),
            QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => "".into(),
        };
        Dispatch { upstream, batch: None, beat: None }
    }

    fn protection(&self, query: &Query) -> Option<ProtectionSettings> {
        let default = match &query.spec {
            QuerySpec::CloudWatch(_) => CLOUDWATCH_RATE,
            QuerySpec::Sqs(_) => SQS_RATE,
            QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => {
                return None;
            }
        };
        let rate = self.rate.unwrap_or(default);
        Some(self.breaker.protection(rate, self.gates.timeout()))
    }

    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        self.answer_all(queries).boxed()
    }

    fn explain<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Explanation> {
        async move {
            let (clients, gates) = (&self.clients, &self.gates);
            match &query.spec {
                QuerySpec::Sqs(spec) => {
                    sqs::explain(clients, &self.queues, gates, &*self.clock, spec).await
                }
                QuerySpec::CloudWatch(spec) => self.cloudwatch.explain(self.access(), spec).await,
                QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => {
                    let outcome = Err(wrong_kind(query, SourceKind::Aws));
                    Explanation { exchanges: Vec::new(), choice: Vec::new(), outcome }
                }
            }
        }
        .boxed()
    }

    fn preview<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Option<Vec<Exchange>>> {
        async move {
            let (clients, gates) = (&self.clients, &self.gates);
            match &query.spec {
                QuerySpec::Sqs(spec) => {
                    Some(sqs::preview(clients, gates, &*self.clock, spec).await)
                }
                QuerySpec::CloudWatch(spec) => Some(CloudWatch::preview(self.access(), spec)),
                QuerySpec::Prometheus(_) | QuerySpec::Objects(_) | QuerySpec::Simulated(_) => None,
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
