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

/// Headers that a signature adds in any case.
const SIGNED: [&str; 2] = ["authorization", "x-amz-date"];

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
        parameters: &[(&'static str, String)],
        headers: &Headers,
    ) -> usize {
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let sent: Map<String, Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut request = json!({"parameters": sent});
        let added = if self.signer.is_some() { &SIGNED[..] } else { &[] };
        let names = headers.iter().map(|(name, _)| name.as_str()).chain(added.iter().copied());
        let names: Map<String, Value> =
            names.map(|name| (name.to_owned(), json!(REDACTED))).collect();
        if !names.is_empty() {
            request["headers"] = Value::Object(names);
        }
        let operation = format!("{method} {}/api/v1/query", self.connection.url());
        let identity = match &self.signer {
            Some(signer) => format!("signed as {}", signer.who()),
            None => self.credentials.identity(),
        };
        recorder.begin(operation, identity, request)
    }
}

/// An answer as people may see it.
pub(super) fn answer(
    answer: &Result<(Head, Vec<u8>), FetchError>,
    headers: &Headers,
) -> Result<Value, String> {
    let (head, body) = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(headers.redact(&error.to_string()).into_owned()),
    };
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(headers.secrets().blot_json(value));
    }
    let form = if head.content_type.is_empty() { "no type" } else { &head.content_type };
    Err(headers.redact(&format!("HTTP {}, {form}; {}", head.status, excerpt(body))).into_owned())
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Source, SourceName, SystemClock};
    use crate::source::prometheus::{Authentication, HeaderValues, PrometheusSettings};
    use crate::source::upstream::{Prometheus, Reply};
    use crate::source::{Metrics, Settings, build};
    use crate::telemetry::Telemetry;

    const SECRET: &str = "hunter2-and-more";

    struct Bench {
        fake: Prometheus,
        source: Arc<dyn Source>,
        _folder: tempfile::TempDir,
    }

    fn bench(change: impl FnOnce(&mut PrometheusSettings)) -> Bench {
        let (fake, folder) = (Prometheus::start(), tempfile::tempdir().unwrap());
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, SECRET).unwrap();
        let url = fake.server().url().replace("127.0.0.1", "localhost");
        let mut settings = PrometheusSettings::new(url.parse().unwrap());
        settings.authentication = Authentication::Bearer { token_file };
        settings.headers =
            vec![("X-Scope-OrgID".to_owned(), HeaderValues::Fixed(vec!["team-a".to_owned()]))];
        settings.timeout = Duration::from_secs(10);
        change(&mut settings);
        let metrics = Metrics::register(&Telemetry::new());
        let settings = Settings::Prometheus(Box::new(settings));
        let clock = Arc::new(SystemClock::new());
        let source = build(&SourceName::new("main"), &settings, clock, &metrics).unwrap();
        Bench { fake, source: source.source, _folder: folder }
    }

    fn query(text: &str, lookback: Option<u64>) -> Arc<Query> {
        let lookback_delta = lookback.map(Duration::from_secs);
        let spec = QuerySpec::Prometheus(PrometheusQuery {
            query: text.into(),
            lookback_delta,
            shape: crate::model::AnswerShape::Items,
        });
        Arc::new(Query { source: SourceName::new("main"), spec })
    }

    #[tokio::test]
    async fn the_call_is_shown_as_it_is_sent_without_secrets() {
        let bench = bench(|_| {});
        bench.fake.scalar("x", "7");
        let explanation = bench.source.explain(&query("x", Some(60))).await;
        assert_eq!(explanation.outcome.unwrap().series[0].value, "7".parse().unwrap());
        let [call] = &explanation.exchanges[..] else { panic!("{:?}", explanation.exchanges) };
        let url = bench.fake.server().url().replace("127.0.0.1", "localhost");
        assert_eq!(call.operation, format!("GET {}/api/v1/query", url.trim_end_matches('/')));
        assert!(call.target.starts_with("with the bearer token of /"), "{}", call.target);
        assert_eq!(
            call.request,
            json!({
                "headers": {"authorization": REDACTED, "x-scope-orgid": REDACTED},
                "parameters": {"query": "x", "timeout": "10000ms", "lookback_delta": "60000ms"},
            })
        );
        // What is shown is what was sent.
        let sent = bench.fake.server().seen().remove(0);
        for (name, value) in call.request["parameters"].as_object().unwrap() {
            assert_eq!(sent.parameter(name).as_deref(), value.as_str(), "{name}");
        }
        for name in call.request["headers"].as_object().unwrap().keys() {
            assert!(sent.header(name).is_some(), "{name}");
        }
        assert_eq!(call.answer.as_ref().unwrap()["data"]["result"][1], json!("7"));
        assert!(call.took > Duration::ZERO);
        assert_eq!(explanation.choice.len(), 2);
        assert!(explanation.choice[1].contains("at most 60s older"), "{:?}", explanation.choice);
    }

    #[tokio::test]
    async fn a_preview_is_the_same_call_and_sends_nothing() {
        let bench = bench(|settings| settings.method = Method::Post);
        bench.fake.scalar("x", "7");
        let query = query("x", None);
        let preview = bench.source.preview(&query).await.unwrap();
        assert_eq!(bench.fake.server().hits(), 0);
        let explanation = bench.source.explain(&query).await;
        let parts =
            |call: &Exchange| (call.operation.clone(), call.target.clone(), call.request.clone());
        assert_eq!(parts(&preview[0]), parts(&explanation.exchanges[0]));
        assert!(preview[0].operation.starts_with("POST "), "{}", preview[0].operation);
        assert_eq!(preview[0].answer, Err("not sent".to_owned()));
    }

    #[tokio::test]
    async fn an_answer_that_echoes_a_secret_is_blotted_out() {
        let bench = bench(|_| {});
        let echo = format!(r#"{{"status":"error","errorType":"bad_data","error":"{SECRET}"}}"#);
        bench.fake.set("echo", Reply::json(400, echo));
        bench.fake.set("text", Reply::text(502, "text/html", format!("<h1>{SECRET}")));
        for text in ["echo", "text"] {
            let explanation = bench.source.explain(&query(text, None)).await;
            let said = format!("{explanation:?}");
            assert!(!said.contains(SECRET), "{said}");
            assert!(said.contains("[secret]"), "{said}");
            assert!(explanation.outcome.is_err());
            assert!(explanation.choice.is_empty());
        }
        let explanation = bench.source.explain(&query("text", None)).await;
        assert_eq!(
            explanation.exchanges[0].answer,
            Err("HTTP 502, text/html; the answer starts with: <h1>[secret]".to_owned())
        );
    }

    #[tokio::test]
    async fn a_call_that_is_cut_off_is_shown_too() {
        let bench = bench(|settings| settings.timeout = Duration::from_millis(100));
        bench.fake.set("x", Reply::Hang);
        let explanation = bench.source.explain(&query("x", None)).await;
        assert_eq!(explanation.outcome.unwrap_err().kind(), "timeout");
        assert_eq!(explanation.exchanges.len(), 1);
        assert!(explanation.exchanges[0].answer.is_err());
    }
}
