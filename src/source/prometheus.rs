//! Prometheus-compatible HTTP APIs: instant queries.
//!
//! Requests go out through `prometheus-http-query`'s raw calls on a client that we prepare
//! (TLS, proxies from the environment, no redirects); answers are read and decoded by ourselves,
//! with a size and a series cap, warnings and unknown error types kept. The decoding is apart in
//! `decode`, a pure function of bytes, so that a signed client for managed services can share it.
//!
//! Redirects are not followed: they would carry the credentials to whatever host an answer names.

mod connection;
mod credentials;
mod decode;
mod explain;
mod failure;
mod refusal;
mod settings;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_http_query::Client;

use crate::model::{
    Cause, Clock, Exchange, Explanation, FetchError, PrometheusQuery, Query, QuerySpec, Sample,
    Source, SourceKind, SourceName,
};
use crate::source::gate::Gate;
use crate::source::recorder::Recorder;
use crate::source::{BuildError, Metrics, wrong_kind};
use connection::Connection;
use credentials::Credentials;

pub use settings::{Authentication, HeaderValues, Method, PrometheusSettings, TlsSettings};

/// The word for metrics labels.
const KIND: &str = "prometheus";

/// One Prometheus-compatible API.
#[derive(Debug)]
pub struct PrometheusSource {
    connection: Connection,
    credentials: Credentials,
    method: Method,
    limits: decode::Limits,
    gate: Gate,
    clock: Arc<dyn Clock>,
}

impl PrometheusSource {
    /// Builds the source; reads files, makes no connection.
    ///
    /// # Errors
    /// When a file cannot be used or TLS cannot be set up.
    pub fn build(
        name: &SourceName,
        settings: &PrometheusSettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            connection: Connection::open(name, settings, &*clock)?,
            credentials: Credentials::open(name, settings, &*clock)?,
            method: settings.method,
            limits: decode::Limits {
                bytes: settings.max_response_bytes,
                series: settings.max_series,
            },
            gate: Gate::new(
                settings.max_concurrent,
                settings.timeout,
                metrics.for_calls(name, KIND),
            ),
            clock,
        })
    }

    async fn answer(&self, query: &Query) -> Result<Sample, FetchError> {
        let QuerySpec::Prometheus(spec) = &query.spec else {
            return Err(wrong_kind(query, SourceKind::Prometheus));
        };
        self.gate.call(self.gate.deadline(), "", self.ask(spec, None)).await
    }

    /// Asks a query; notes of the call go to the recorder.
    async fn ask(
        &self,
        query: &PrometheusQuery,
        recorder: Option<&Recorder>,
    ) -> Result<Sample, FetchError> {
        // Before the request: the age of a sample may be over-estimated, never under-estimated.
        let observed = self.clock.tick();
        let client = self.connection.client(&*self.clock);
        let headers = self.credentials.headers(&*self.clock);
        let parameters = self.parameters(query);
        let mut request = Client::query(&client, &*query.query);
        for (name, value) in &parameters {
            request = request.query(name, value);
        }
        for (name, value) in headers.iter() {
            request = request.header(name, value.clone());
        }
        let call = recorder.map(|recorder| self.begin(recorder, query, &parameters, &headers));
        if let Some(recorder) = recorder {
            recorder.permit()?;
        }
        let sent = match self.method {
            Method::Get => request.get_raw().await,
            Method::Post => request.post_raw().await,
        };
        let answer = match sent {
            Ok(response) => self.read(response).await,
            Err(error) => Err(failure::not_sent(&error)),
        };
        if let (Some(recorder), Some(call)) = (recorder, call) {
            recorder.end(call, explain::answer(&answer, &headers));
        }
        answer
            .and_then(|(status, body)| decode::decode(&status, &body, self.limits.series, observed))
            .map(|sample| Sample {
                warnings: sample.warnings.iter().map(|text| headers.redact(text)).collect(),
                ..sample
            })
            .map_err(|error| failure::redact(&error, &headers))
    }

    /// What is sent besides the query itself.
    fn parameters(&self, query: &PrometheusQuery) -> Vec<(&'static str, String)> {
        // The server need not go on with what nobody waits for any more.
        let mut parameters = vec![("timeout", format!("{}ms", self.gate.timeout().as_millis()))];
        if let Some(lookback) = query.lookback_delta {
            parameters.push(("lookback_delta", format!("{}ms", lookback.as_millis())));
        }
        parameters
    }

    /// Reads an answer up to the size cap.
    async fn read(
        &self,
        mut response: reqwest::Response,
    ) -> Result<(decode::Head, Vec<u8>), FetchError> {
        let head = decode::Head::of(&response);
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| failure::not_read(&head, &error))?
        {
            self.gate.metrics().received(chunk.len());
            if body.len() + chunk.len() > self.limits.bytes {
                return Err(FetchError::Malformed(Cause::new(format!(
                    "the answer (HTTP {}) is larger than {} bytes (maxResponseBytes); ask for fewer series",
                    head.status, self.limits.bytes
                ))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((head, body))
    }
}

impl Source for PrometheusSource {
    fn concurrency(&self) -> usize {
        self.gate.width()
    }

    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        futures::future::join_all(queries.iter().map(|query| self.answer(query))).boxed()
    }

    fn explain<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Explanation> {
        self.explained(query).boxed()
    }

    fn preview<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Option<Vec<Exchange>>> {
        self.previewed(query).boxed()
    }
}

#[cfg(test)]
mod tests;
