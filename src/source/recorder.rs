//! Takes notes of the calls of one query, for people who ask how its value came about.
//!
//! A source passes a recorder along the way that every fetch takes; the refresher's fetches have
//! none. A dry recorder takes note of a call and forbids to send it.
//!
//! Callers put no secret into what they record.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::model::{Cause, Exchange, FetchError, Sample};

/// The answer of a call that was not made.
const NOT_SENT: &str = "not sent";

/// The answer of a call whose end nobody saw.
const UNANSWERED: &str = "no answer by the time the query had ended";

/// The calls of one query so far.
#[derive(Debug)]
pub(super) struct Recorder {
    dry: bool,
    calls: Mutex<Vec<Call>>,
}

#[derive(Debug)]
struct Call {
    exchange: Exchange,
    started: Instant,
    ended: bool,
}

impl Recorder {
    /// Takes notes of calls that are made.
    pub(super) fn live() -> Arc<Self> {
        Arc::new(Self { dry: false, calls: Mutex::default() })
    }

    /// Takes notes of calls that are not to be made.
    pub(super) fn dry() -> Arc<Self> {
        Arc::new(Self { dry: true, calls: Mutex::default() })
    }

    /// Whether calls may be sent.
    ///
    /// # Errors
    /// What a dry recorder's calls end in.
    pub(super) fn permit(&self) -> Result<(), FetchError> {
        if self.dry {
            return Err(FetchError::Unavailable(Cause::new(NOT_SENT)));
        }
        Ok(())
    }

    /// A call begins; gives its number.
    pub(super) fn begin(&self, operation: String, target: String, request: Value) -> usize {
        let answer = Err(if self.dry { NOT_SENT } else { UNANSWERED }.to_owned());
        let exchange = Exchange { operation, target, request, answer, took: Duration::ZERO };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Call { exchange, started: Instant::now(), ended: self.dry });
        calls.len() - 1
    }

    /// More is known about where a call goes.
    pub(super) fn target(&self, call: usize, target: String) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(call) {
            call.exchange.target = target;
        }
    }

    /// A call has ended.
    pub(super) fn end(&self, call: usize, answer: Result<Value, String>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(call).filter(|call| !call.ended) {
            call.exchange.answer = answer;
            call.exchange.took = call.started.elapsed();
            call.ended = true;
        }
    }

    /// The calls, in the order of their starts. Those that have not ended never will.
    pub(super) fn take(&self) -> Vec<Exchange> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *calls)
            .into_iter()
            .map(|mut call| {
                if !call.ended {
                    call.exchange.took = call.started.elapsed();
                }
                call.exchange
            })
            .collect()
    }
}

/// Calls that were not made because of an error before them, which they tell.
pub(super) fn unsent(
    mut calls: Vec<Exchange>,
    outcome: &Result<Sample, FetchError>,
) -> Vec<Exchange> {
    if let Err(error) = outcome {
        for call in &mut calls {
            call.answer = Err(format!("{NOT_SENT}: {error}"));
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_noted_in_the_order_of_their_starts() {
        let recorder = Recorder::live();
        let begin = |name: &str| recorder.begin(name.to_owned(), "here".to_owned(), json!({}));
        let (first, _second) = (begin("a"), begin("b"));
        tokio::time::advance(Duration::from_millis(5)).await;
        recorder.target(first, "there".to_owned());
        recorder.end(first, Ok(json!(1)));
        tokio::time::advance(Duration::from_millis(5)).await;
        recorder.end(first, Ok(json!(2)));
        let seen: Vec<_> = recorder
            .take()
            .into_iter()
            .map(|call| (call.operation, call.target, call.answer, call.took.as_millis()))
            .collect();
        let unanswered = Err(UNANSWERED.to_owned());
        assert_eq!(
            seen,
            [
                ("a".to_owned(), "there".to_owned(), Ok(json!(1)), 5),
                ("b".to_owned(), "here".to_owned(), unanswered, 10),
            ]
        );
        assert_eq!(recorder.permit(), Ok(()));
    }

    #[tokio::test]
    async fn a_dry_recorder_lets_nothing_out() {
        let recorder = Recorder::dry();
        recorder.begin("a".to_owned(), String::new(), json!({}));
        assert_eq!(recorder.permit().unwrap_err().to_string(), NOT_SENT);
        let call = recorder.take().remove(0);
        assert_eq!((call.answer, call.took), (Err(NOT_SENT.to_owned()), Duration::ZERO));
    }
}
