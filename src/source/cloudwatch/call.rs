//! One call: its HTTP requests, page after page, through the gate.

use std::sync::Arc;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::SdkError;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::operation::get_metric_data::builders::GetMetricDataFluentBuilder;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricStat as WireStat, ScanBy, StandardUnit,
};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::model::{Cause, Clock, FetchError, MetricStat};
use crate::source::aws::failure::{Operation, POLICY, is_too_large};
use crate::source::aws::identity::Identity;
use crate::source::cloudwatch::decode::Answer;
use crate::source::cloudwatch::plan::{Asked, Call, Item, seconds};
use crate::source::cloudwatch::skew::Dates;
use crate::source::cloudwatch::{echo, explain};
use crate::source::gate::{Gate, Outcome};
use crate::source::recorder::Recorder;

/// The IAM action.
const ACTION: &str = "cloudwatch:GetMetricData";

/// Pages taken of one answer. A call is planned to fit on one; what a search finds is 500 series at
/// most, which fit on a few unless the window has hundreds of buckets.
const MAX_PAGES: usize = 10;

/// In the codes of those who do not know the operation, or cannot read the request.
const NOT_CLOUDWATCH: [&str; 3] = ["UnknownOperation", "InvalidAction", "Serialization"];

/// Why a call gave no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The service refused the request as a whole because something in it is wrong.
    Rejected {
        /// Its word for that.
        code: String,
        /// Its sentence, complete.
        said: String,
        /// The same as an error of ours.
        error: FetchError,
    },
    /// The request or its answer is too large, which that of fewer queries is not.
    TooLarge(FetchError),
    /// Anything else: the same for all queries of the call.
    Failed(FetchError),
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl Outcome for Refusal {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Rejected { error, .. } | Self::TooLarge(error) | Self::Failed(error) => {
                error.kind()
            }
        }
    }
}

/// What calls within one fetch need.
pub(super) struct Caller<'a> {
    /// Of the call's region and role.
    pub client: Client,
    /// Of the same.
    pub gate: Gate,
    /// Who calls, for messages.
    pub identity: Arc<Identity>,
    /// Host and port that are called, where the operator names them.
    pub address: Option<Arc<str>>,
    /// When the fetch has to be done.
    pub deadline: Instant,
    /// Counts metrics as the service bills them.
    pub requested: &'a Counter,
    /// Who takes notes, if somebody wants to know.
    pub recorder: Option<&'a Recorder>,
}

impl Caller<'_> {
    /// Sends a call and reads all pages of its answer.
    ///
    /// # Errors
    /// When one of the requests gave none.
    pub(super) async fn ask(&self, call: &Call<'_>, clock: &dyn Clock) -> Result<Answer, Refusal> {
        let object = object(call);
        let dates = Dates::default();
        let mut answer = Answer::default();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let later = token.is_some();
            let date = || {
                dates.sent(clock.now());
                dates.clone()
            };
            let page = match self.page(call, &object, token, date).await {
                // The request was right on the first page: an old token, or a whim.
                Err(Refusal::Rejected { error, .. }) if later => {
                    return Err(FetchError::Unavailable(error.cause().clone()).into());
                }
                other => other?,
            };
            self.requested.inc_by(billed(call, &page));
            token = page.next_token.clone().filter(|token| !token.is_empty());
            answer.add(page);
            if !later && let Some(skew) = dates.skew(clock.now()) {
                answer.dated(skew);
            }
            if token.is_none() {
                answer.check(call)?;
                return Ok(answer);
            }
        }
        let text =
            format!("{object}: the answer has more than {MAX_PAGES} pages; shorten lookback");
        Err(Refusal::TooLarge(FetchError::Malformed(Cause::new(text))))
    }

    fn operation<'a>(&'a self, object: &'a &str) -> Operation<'a> {
        let identity = Some(&self.identity);
        let endpoint = self.address.as_deref();
        Operation { action: ACTION, object, identity, secret: None, endpoint, hint: POLICY }
    }

    async fn page(
        &self,
        call: &Call<'_>,
        object: &str,
        token: Option<String>,
        date: impl Fn() -> Dates,
    ) -> Result<GetMetricDataOutput, Refusal> {
        let note = self.recorder.map(|notes| {
            (notes, explain::begin(notes, call, self.identity.who(), token.as_deref()))
        });
        let request = request(&self.client, call).set_next_token(token);
        let sent = async {
            // Boxed: the SDK's futures are tens of kilobytes.
            let request = Box::pin(request.customize().interceptor(date()).send());
            let page = request.await.map_err(|error| {
                let operation = self.operation(&object);
                match (operation.failed(&error), &error) {
                    (failed, _) if is_too_large(&error) => Refusal::TooLarge(failed),
                    (error @ FetchError::Invalid(_), SdkError::ServiceError(service)) => {
                        let words = operation.words(service.err());
                        rejected(object, error, words, service.raw().status().as_u16())
                    }
                    (error, _) => Refusal::Failed(error),
                }
            })?;
            Ok(echo::clean(page, &self.identity.secrets(), object)?)
        };
        let result = self.gate.call(self.deadline, &format!("{object}: "), sent).await;
        if let Some((notes, number)) = note {
            notes.end(
                number,
                match &result {
                    Ok(page) => Ok(explain::answer(page)),
                    Err(
                        Refusal::Rejected { error, .. }
                        | Refusal::TooLarge(error)
                        | Refusal::Failed(error),
                    ) => Err(error.to_string()),
                },
            );
        }
        result
    }
}

/// Whether something in a request is wrong, or all of it is: what the endpoint does not understand
/// at all is no query's fault.
fn rejected(
    object: &str,
    error: FetchError,
    (code, said): (Option<String>, String),
    status: u16,
) -> Refusal {
    let code = code.unwrap_or_else(|| "no code".to_owned());
    if matches!(status, 404 | 405) || NOT_CLOUDWATCH.iter().any(|word| code.contains(word)) {
        let text = format!(
            "{object}: the endpoint is not one of CloudWatch (HTTP {status}, {code}: {said})"
        );
        return Refusal::Failed(FetchError::Unavailable(Cause::new(text)));
    }
    Refusal::Rejected { code, said, error }
}

/// What is called, for messages.
pub(super) fn object(call: &Call<'_>) -> String {
    format!("CloudWatch in {}", call.region)
}

/// What the service bills for one page: metric statistics asked for, and the metrics that searches
/// found, each at least one. Near the bill, not the bill: the price list counts five statistics of
/// a metric as one, and of what `SUM(SEARCH(..))` found only the sum is in the answer.
fn billed(call: &Call<'_>, page: &GetMetricDataOutput) -> u64 {
    let open_ended = call.members.iter().filter(|member| member.query.is_open_ended());
    let found: usize = open_ended
        .map(|member| {
            let id = call.items.get(member.answer).map(|item| &*item.id);
            page.metric_data_results().iter().filter(|result| result.id() == id).count().max(1)
        })
        .sum();
    call.metrics() + found as u64
}

/// The request, newest datapoints first.
fn request(client: &Client, call: &Call<'_>) -> GetMetricDataFluentBuilder {
    client
        .get_metric_data()
        .set_metric_data_queries(Some(call.items.iter().map(query).collect()))
        .start_time(DateTime::from_secs(call.window.start))
        .end_time(DateTime::from_secs(call.window.end))
        .scan_by(ScanBy::TimestampDescending)
}

fn query(item: &Item<'_>) -> MetricDataQuery {
    let builder = MetricDataQuery::builder()
        .id(&*item.id)
        .set_label(item.label.as_deref().map(str::to_owned))
        .return_data(item.return_data);
    let builder = match &item.asked {
        Asked::Metric(metric) => builder
            .metric_stat(stat(metric))
            .set_account_id(metric.account_id.as_deref().map(str::to_owned)),
        Asked::Expression { text, period } => {
            builder.expression(&**text).set_period(period.map(|period| whole(seconds(period))))
        }
    };
    builder.build()
}

fn stat(metric: &MetricStat) -> WireStat {
    let dimensions = metric
        .dimensions
        .iter()
        .map(|(name, value)| Dimension::builder().name(&**name).value(&**value).build())
        .collect();
    let name = Metric::builder()
        .namespace(&*metric.namespace)
        .metric_name(&*metric.name)
        .set_dimensions(Some(dimensions))
        .build();
    WireStat::builder()
        .metric(name)
        .period(whole(seconds(metric.period)))
        .stat(&*metric.statistic)
        .set_unit(metric.unit.as_deref().map(StandardUnit::from))
        .build()
}

/// Seconds as the service counts them.
fn whole(seconds: i64) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
