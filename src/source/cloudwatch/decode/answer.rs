//! One answer to one call: all its pages together, and whether it is an answer at all.
//!
//! Not responsible for: what one query takes of it ([`decode`](super)).

use std::collections::{HashMap, HashSet};

use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::types::{MessageData, MetricDataResult};

use super::{pages, warning};
use crate::model::{Cause, CloudWatchQuery, FetchError};
use crate::source::cloudwatch::plan::{Call, Window};
use crate::source::cloudwatch::skew::Skew;

/// What codes of messages about the whole request contain when it was not done at all, in small
/// letters. That a Metrics Insights query looked at a part of its time only
/// (`MaxQueryTimeRangeExceeded`) is none of these: the service cuts the window's start, and the
/// newest datapoint is taken.
const FAILURES: [&str; 4] = ["internal", "unavailable", "timeout", "throttl"];

/// The one code that the API reference names (`MessageData`): of an operation across regions that
/// may not read anything there.
const FORBIDDEN: &str = "Forbidden";

/// One answer to one call, all its pages together.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub(super) results: Vec<MetricDataResult>,
    pub(super) messages: Vec<MessageData>,
    pub(super) pages: usize,
    /// Whether a page came without a list of results, not even an empty one.
    unlisted: bool,
    pub(super) skew: Option<Skew>,
}

impl Answer {
    /// Adds the next page. Datapoints of a series that is on earlier pages are added to it.
    ///
    /// A later page completes what was partial: then its status counts, and where both have a
    /// datapoint of one time, its value. It mends nothing else: a series that failed or was forbidden
    /// on one page has values, or none, of which nobody knows whether they are all ("Retry your
    /// request using `NextToken`", says the API reference of `InternalError`, and not what the next
    /// page then holds).
    ///
    /// Series of one id are told apart by their labels; [`decode`](super::decode()) refuses labels that contain a
    /// value, because these differ from page to page.
    pub fn add(&mut self, page: GetMetricDataOutput) {
        self.pages += 1;
        self.messages.extend(page.messages.unwrap_or_default());
        self.unlisted |= page.metric_data_results.is_none();
        let results = page.metric_data_results.unwrap_or_default();
        if self.results.is_empty() {
            self.results = results;
            return;
        }
        // A page can hold several series of one id, and even with one label: these are told apart
        // by their order.
        let mut known: HashMap<_, usize> = HashMap::new();
        let mut seen = HashMap::new();
        for (at, result) in self.results.iter().enumerate() {
            known.insert(key(result, &mut seen), at);
        }
        seen.clear();
        for result in results {
            let Some(&at) = known.get(&key(&result, &mut seen)) else {
                self.results.push(result);
                continue;
            };
            pages::join(&mut self.results[at], result);
        }
    }

    /// Sets how the service's clock compared to ours when it answered.
    pub fn dated(&mut self, skew: Skew) {
        self.skew = Some(skew);
    }

    /// How the service's clock compared to ours, if it said so.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        self.skew
    }

    /// The part of a query's window of which the buckets are complete. That is all of it, unless our
    /// clock was ahead of the service's when we took it for over.
    pub(super) fn complete(&self, window: Window, query: &CloudWatchQuery) -> Window {
        let by_service = |skew: Skew| Window::of(query, skew.served).end;
        let end = self.skew.filter(Skew::is_ahead).map_or(window.end, by_service);
        Window { end: end.min(window.end), ..window }
    }

    /// Whether it is an answer to the call at all: something else than the service may have sent it.
    ///
    /// # Errors
    /// [`FetchError::Malformed`] when it is not, and what the service says when all of the call
    /// failed.
    pub fn check(&self, call: &Call<'_>) -> Result<(), FetchError> {
        let cause = |text: &str| Cause::new(format!("CloudWatch in {}: {text}", call.region));
        if let Some(message) = self.messages.iter().find(|message| is_failure(message)) {
            let text = format!("the call failed with HTTP 200 ({})", warning(message));
            return Err(match message.code() {
                Some(FORBIDDEN) => FetchError::Denied(cause(&text)),
                _ => FetchError::Unavailable(cause(&text)),
            });
        }
        if self.unlisted {
            return Err(FetchError::Malformed(cause("the answer has no list of results")));
        }
        if !self.results.is_empty() && self.strays(call).len() == self.results.len() {
            let text = "all results of the answer have ids that were not asked for";
            return Err(FetchError::Malformed(cause(text)));
        }
        Ok(())
    }

    /// All results.
    #[must_use]
    pub fn results(&self) -> &[MetricDataResult] {
        &self.results
    }

    /// The ids of results that the call did not ask for.
    #[must_use]
    pub fn strays(&self, call: &Call<'_>) -> Vec<String> {
        let asked: HashSet<&str> = call.items.iter().map(|item| &*item.id).collect();
        let strays = self.results.iter().map(|result| result.id.as_deref().unwrap_or_default());
        strays.filter(|id| !asked.contains(id)).map(str::to_owned).collect()
    }
}

type Key = (Option<String>, Option<String>, usize);

fn key(
    result: &MetricDataResult,
    seen: &mut HashMap<(Option<String>, Option<String>), usize>,
) -> Key {
    let name = (result.id.clone(), result.label.clone());
    let count = seen.entry(name.clone()).or_default();
    *count += 1;
    (name.0, name.1, *count)
}

/// Whether a message about the whole request says that it was not done.
fn is_failure(message: &MessageData) -> bool {
    let code = message.code().unwrap_or_default();
    let small = code.to_ascii_lowercase();
    code == FORBIDDEN || FAILURES.iter().any(|word| small.contains(word))
}
