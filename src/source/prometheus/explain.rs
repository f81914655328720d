//! Taking notes of an instant query: what is sent, without the values of headers, and what comes
//! back, without anything that was sent in secret.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::credentials::Headers;
use super::decode::Head;
use super::refusal::excerpt;
use super::{Method, PrometheusSource};
use crate::model::{
    Exchange, Explanation, FetchError, PrometheusQuery, Query, QuerySpec, Sample, SourceKind,
};
use crate::source::recorder::Recorder;
use crate::source::wrong_kind;

/// Stands for the value of every header: nobody can tell which of them are secrets.
const REDACTED: &str = "[redacted]";

impl PrometheusSource {
    /// Asks a query and tells how its answer came about.
    pub(super) async fn explained(&self, query: &Arc<Query>) -> Explanation {
        let QuerySpec::Prometheus(spec) = &query.spec else {
            let outcome = Err(wrong_kind(query, SourceKind::Prometheus));
            return Explanation { exchanges: Vec::new(), choice: Vec::new(), outcome };
        };
        let recorder = Recorder::live();
        let asked = self.ask(spec, Some(&recorder));
        let outcome = self.gate.call(self.gate.deadline(), "", asked).await;
        Explanation { exchanges: recorder.take(), choice: choice(spec, &outcome), outcome }
    }

    /// The call that a query takes, without making it.
    pub(super) async fn previewed(&self, query: &Arc<Query>) -> Option<Vec<Exchange>> {
        let QuerySpec::Prometheus(spec) = &query.spec else { return None };
        let recorder = Recorder::dry();
        let _ = self.ask(spec, Some(&recorder)).await;
        Some(recorder.take())
    }

    /// Notes a call that begins.
    pub(super) fn begin(
        &self,
        recorder: &Recorder,
        query: &PrometheusQuery,
        parameters: &[(&'static str, String)],
        headers: &Headers,
    ) -> usize {
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut sent = Map::from_iter([("query".to_owned(), json!(&*query.query))]);
        sent.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        let mut request = json!({"parameters": sent});
        let names: Map<String, Value> =
            headers.iter().map(|(name, _)| (name.as_str().to_owned(), json!(REDACTED))).collect();
        if !names.is_empty() {
            request["headers"] = Value::Object(names);
        }
        let operation = format!("{method} {}/api/v1/query", self.connection.url());
        recorder.begin(operation, self.credentials.identity(), request)
    }
}

/// An answer as people may see it.
pub(super) fn answer(
    answer: &Result<(Head, Vec<u8>), FetchError>,
    headers: &Headers,
) -> Result<Value, String> {
    match answer {
        Ok((head, body)) => match serde_json::from_slice(body) {
            Ok(value) => Ok(redacted(value, headers)),
            Err(_) => {
                let form =
                    if head.content_type.is_empty() { "no type" } else { &head.content_type };
                Err(headers.redact(&format!("HTTP {}, {form}; {}", head.status, excerpt(body))))
            }
        },
        Err(error) => Err(headers.redact(&error.to_string())),
    }
}

/// The value with every secret of the request blotted out of its texts.
fn redacted(value: Value, headers: &Headers) -> Value {
    match value {
        Value::String(text) => Value::String(headers.redact(&text)),
        Value::Array(items) => items.into_iter().map(|item| redacted(item, headers)).collect(),
        Value::Object(pairs) => pairs
            .into_iter()
            .map(|(key, value)| (headers.redact(&key), redacted(value, headers)))
            .collect(),
        other => other,
    }
}

/// Which values these are, in sentences.
fn choice(query: &PrometheusQuery, outcome: &Result<Sample, FetchError>) -> Vec<String> {
    let Ok(sample) = outcome else { return Vec::new() };
    let bound = match query.lookback_delta {
        Some(delta) => format!(
            "The sample under a value is at most {delta:?} older than that (lookbackDelta; servers before 2.43 ignore it)."
        ),
        None => "The sample under a value may be older, by 5m unless the server says otherwise; lookbackDelta bounds it.".to_owned(),
    };
    vec![
        format!(
            "An instant query has one value per series, that of the moment at which the server evaluated it: {:.3}.",
            sample.timestamp
        ),
        bound,
    ]
}
