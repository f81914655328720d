//! Amazon SQS: the depth of queues, from the queues' own API.
//!
//! One `GetQueueAttributes` call per queue of a query, all at once within the source's bound; the
//! values are summed over queues and counts, all or nothing. A queue's URL is looked up once by
//! `GetQueueUrl` and kept until the service no longer knows it.
//!
//! The URL is a name: calls go to the source's endpoint, whatever host the URL contains. The SDK
//! sends it as a parameter only, and a test holds it to that.

mod explain;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::try_join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::model::{
    Cause, Clock, Decimal, Exchange, Explanation, FetchError, Labels, QueueCount, QueueRef, Sample,
    Series, SqsQuery,
};
use crate::source::aws::clients::{As, Clients};
use crate::source::aws::failure::{Operation, POLICY};
use crate::source::aws::identity::Identity;
use crate::source::aws::upstream::{Gates, Service, Upstream};
use crate::source::gate::{Gate, Outcome};
use crate::source::recorder::{Recorder, unsent};

/// How the service says that it knows no such queue, in its JSON and in its older query protocol.
const MISSING: [&str; 2] = ["QueueDoesNotExist", "NonExistentQueue"];

/// Queue URLs kept. One takes about 300 bytes; more queues than this only cost a look-up each.
const MAX_URLS: usize = 10_000;

/// Asks a query.
///
/// # Errors
/// That of the first queue that failed: never a partial sum.
pub(super) async fn fetch(
    clients: &Clients,
    queues: &Queues,
    gates: &Gates,
    clock: &dyn Clock,
    query: &SqsQuery,
    recorder: Option<&Arc<Recorder>>,
) -> Result<Sample, FetchError> {
    let observed = clock.tick();
    let deadline = gates.deadline();
    let attributes: Vec<_> = query.count.iter().map(|count| attribute(*count)).collect();
    let reads = query.queues.iter().map(|queue| async {
        let region = Arc::clone(&queue.region);
        let role = query.role_arn.as_deref();
        let upstream = Upstream { service: Service::Sqs, region, role: query.role_arn.clone() };
        let dry = recorder.is_some_and(|recorder| recorder.permit().is_err());
        let As { client, identity, address } = if dry {
            clients.sqs_unready(&queue.region, role).await?
        } else {
            within(deadline, clients.sqs(&queue.region, role)).await?
        };
        // Who has no credentials takes no place among the upstreams.
        let gate = gates.of(&upstream)?;
        let call = Call { client, gate, deadline, queue, identity, address, recorder };
        call.depth(queues, &attributes).await
    });
    let depths = try_join_all(reads).await?;
    let value = depths.iter().fold(Decimal::ZERO, |sum, depth| sum.add(depth));
    let series = vec![Series { labels: Labels::empty(), value }];
    Ok(Sample {
        timestamp: clock.now(),
        observed,
        series,
        without_number: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Asks a query and tells how its answer came about.
pub(super) async fn explain(
    clients: &Clients,
    queues: &Queues,
    gates: &Gates,
    clock: &dyn Clock,
    query: &SqsQuery,
) -> Explanation {
    let recorder = Recorder::live();
    let outcome = fetch(clients, queues, gates, clock, query, Some(&recorder)).await;
    let choice = explain::choice(query, &outcome);
    let mut exchanges = recorder.take();
    if exchanges.is_empty() {
        // It did not get as far: the credentials could not be had, or something before them.
        exchanges = unsent(preview(clients, gates, clock, query).await, &outcome);
    }
    Explanation { exchanges, choice, outcome }
}

/// The calls that a query takes, none of which is made.
pub(super) async fn preview(
    clients: &Clients,
    gates: &Gates,
    clock: &dyn Clock,
    query: &SqsQuery,
) -> Vec<Exchange> {
    let recorder = Recorder::dry();
    for queue in &query.queues {
        // One by one: the first failure ends a query, and each of these fails. With URLs of their
        // own: one that was not looked up must not be kept.
        let one = SqsQuery { queues: vec![queue.clone()], ..query.clone() };
        let _ = fetch(clients, &Queues::default(), gates, clock, &one, Some(&recorder)).await;
    }
    recorder.take()
}

/// What a query calls, for [`Dispatch::upstream`](crate::model::Dispatch::upstream). Queues in
/// several regions are an upstream of their own: it is as slow as the slowest region.
pub(super) fn upstream(query: &SqsQuery) -> Arc<str> {
    let mut regions: Vec<&str> = query.queues.iter().map(|queue| &*queue.region).collect();
    regions.sort_unstable();
    regions.dedup();
    let region = regions.join("+").into();
    Upstream { service: Service::Sqs, region, role: query.role_arn.clone() }.to_string().into()
}

fn attribute(count: QueueCount) -> QueueAttributeName {
    match count {
        QueueCount::Visible => QueueAttributeName::ApproximateNumberOfMessages,
        QueueCount::InFlight => QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueCount::Delayed => QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    }
}

async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(FetchError::Timeout(Cause::new("the AWS client was not ready in time")))
    })
}

/// URLs of queues, by what definitions call them.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<QueueRef, UrlCell>>);

/// Filled once; concurrent readers of one queue wait for one look-up.
type UrlCell = Arc<OnceCell<String>>;

impl Queues {
    fn cell(&self, queue: &QueueRef) -> UrlCell {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(queue) {
            return Arc::clone(cell);
        }
        if cells.len() >= MAX_URLS {
            // Any will do: it is looked up anew when needed.
            let any = cells.keys().next().cloned();
            any.and_then(|queue| cells.remove(&queue));
        }
        Arc::clone(cells.entry(queue.clone()).or_default())
    }

    /// Forgets a URL that turned out wrong, unless somebody has replaced it already.
    fn forget(&self, queue: &QueueRef, wrong: &UrlCell) {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.get(queue).is_some_and(|cell| Arc::ptr_eq(cell, wrong)) {
            cells.remove(queue);
        }
    }
}

/// Why a call gave nothing.
enum Failure {
    /// The service knows no such queue, or no such queue any more.
    Missing,
    /// Anything else.
    Other(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Other(error)
    }
}

impl Outcome for Failure {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Missing => "invalid",
            Self::Other(error) => error.kind(),
        }
    }
}

/// The calls about one queue within one fetch.
struct Call<'a> {
    client: Client,
    gate: Gate,
    deadline: Instant,
    queue: &'a QueueRef,
    identity: Arc<Identity>,
    address: Option<Arc<str>>,
    recorder: Option<&'a Arc<Recorder>>,
}

impl Call<'_> {
    /// The sum of the counts.
    async fn depth(
        &self,
        queues: &Queues,
        attributes: &[QueueAttributeName],
    ) -> Result<Decimal, FetchError> {
        let cell = queues.cell(self.queue);
        let known = cell.initialized();
        let mut result = self.read(&cell, attributes).await;
        if matches!(result, Err(Failure::Missing)) {
            queues.forget(self.queue, &cell);
            if known {
                // The URL was an old one: the queue may have been made anew.
                let cell = queues.cell(self.queue);
                result = self.read(&cell, attributes).await;
                if matches!(result, Err(Failure::Missing)) {
                    queues.forget(self.queue, &cell);
                }
            }
        }
        result.map_err(|failure| match failure {
            Failure::Other(error) => error,
            Failure::Missing => {
                FetchError::Invalid(Cause::new(format!("{} does not exist", self.queue)))
            }
        })
    }

    /// Reads the counts at a known or looked-up URL.
    async fn read(
        &self,
        cell: &UrlCell,
        attributes: &[QueueAttributeName],
    ) -> Result<Decimal, Failure> {
        let url = cell.get_or_try_init(|| self.url()).await?;
        let names = Some(attributes.to_vec());
        let request = self.client.get_queue_attributes().queue_url(url).set_attribute_names(names);
        let action = "sqs:GetQueueAttributes";
        let answer = match self.recorder {
            None => self.call(action, request.send()).await?,
            Some(recorder) => {
                let request = request.customize();
                let request = explain::observed(
                    request,
                    recorder,
                    "GetQueueAttributes",
                    self.queue,
                    &self.identity,
                );
                self.call(action, request.send()).await?
            }
        };
        let values = answer.attributes.unwrap_or_default();
        attributes.iter().try_fold(Decimal::ZERO, |sum, name| {
            match values.get(name).and_then(|text| text.parse::<u64>().ok()) {
                Some(count) => Ok(sum.add(&Decimal::from(count))),
                None => Err(self.malformed(&format!("the answer has no number for {name}"))),
            }
        })
    }

    /// Looks the queue's URL up.
    async fn url(&self) -> Result<String, Failure> {
        let account = self.queue.account.as_deref().map(str::to_owned);
        let request = self.client.get_queue_url().queue_name(&*self.queue.name);
        let request = request.set_queue_owner_aws_account_id(account);
        let action = "sqs:GetQueueUrl";
        let answer = match self.recorder {
            None => self.call(action, request.send()).await?,
            Some(recorder) => {
                let request = request.customize();
                let request =
                    explain::observed(request, recorder, "GetQueueUrl", self.queue, &self.identity);
                let answer = self.call(action, request.send()).await;
                if recorder.permit().is_err() {
                    return Ok(explain::UNKNOWN_URL.to_owned());
                }
                answer?
            }
        };
        let url = answer.queue_url.filter(|url| !url.is_empty());
        url.ok_or_else(|| self.malformed("the answer has no URL"))
    }

    /// Sends one request through the gate.
    async fn call<T, E>(
        &self,
        action: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        // Boxed: the SDK's futures are tens of kilobytes, and a query may have many queues.
        let request = Box::pin(request);
        let sent = async {
            request.await.map_err(|error| {
                let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
                if code.is_some_and(|code| MISSING.iter().any(|m| code.ends_with(m))) {
                    return Failure::Missing;
                }
                let hint = match self.queue.account {
                    // A queue of another account is open to those whom it names itself.
                    Some(_) => {
                        "allow it in its policy, and in that of the queue if its account is another"
                    }
                    None => POLICY,
                };
                let identity = Some(&self.identity);
                let (object, secret, endpoint) = (self.queue, None, self.address.as_deref());
                Operation { action, object, identity, secret, endpoint, hint }.failed(&error).into()
            })
        };
        if self.recorder.is_some_and(|recorder| recorder.permit().is_err()) {
            // Nothing is sent: no slot, no deadline, and no call that metrics or traces could tell of.
            return sent.await;
        }
        self.gate.call(self.deadline, &format!("{}: ", self.queue), sent).await
    }

    fn malformed(&self, text: &str) -> Failure {
        FetchError::Malformed(Cause::new(format!("{}: {text}", self.queue))).into()
    }
}

#[cfg(test)]
mod tests;
