//! Prometheus-compatible HTTP APIs: instant queries.
//!
//! Requests go out through `prometheus-http-query`'s raw calls on a client that we prepare
//! (TLS, proxies from the environment, no redirects); answers are read and decoded by ourselves,
//! with a size and a series cap, warnings and unknown error types kept. Queries to AWS' managed
//! services are signed and sent by ourselves (`sigv4`), because that crate hands out no request
//! before it sends it; the decoding (`decode`, a pure function of bytes) is the same.
//!
//! Redirects are not followed: they would carry the credentials to whatever host an answer names.

mod connection;
mod credentials;
mod decode;
mod explain;
mod failure;
mod kept;
mod refusal;
mod series;
mod settings;
mod sigv4;

use std::borrow::Cow;
use std::sync::Arc;

use aws_credential_types::provider::SharedCredentialsProvider;
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_http_query::Client;

use crate::model::{
    Cause, Clock, Exchange, Explanation, FetchError, PrometheusQuery, ProtectionSettings, Query,
    QuerySpec, Sample, Source, SourceKind, SourceName,
};
use crate::source::gate::Gate;
use crate::source::recorder::Recorder;
use crate::source::{BuildError, Metrics, wrong_kind};
use connection::Connection;
use credentials::{Credentials, Headers};
use sigv4::Signer;

pub use settings::{Authentication, HeaderValues, Method, PrometheusSettings, TlsSettings};
pub use sigv4::{SigV4Service, SigV4Settings};

/// The word for metrics labels.
const KIND: &str = "prometheus";

/// The parameter that holds the query.
const QUERY: &str = "query";

/// The parameter that bounds how old the samples under an answer may be.
const LOOKBACK: &str = "lookback_delta";

fn milliseconds(count: impl std::fmt::Display) -> String {
    format!("{count}ms")
}

/// One Prometheus-compatible API.
#[derive(Debug)]
pub struct PrometheusSource {
    connection: Connection,
    credentials: Credentials,
    signer: Option<Signer>,
    method: Method,
    limits: decode::Limits,
    gate: Gate,
    /// For lists of series, which take longer and are less urgent than queries.
    listings: Gate,
    protection: ProtectionSettings,
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
        Self::build_as(name, settings, clock, metrics, None)
    }

    /// The same; `chain` replaces the AWS SDK's default chain for signed queries.
    ///
    /// # Errors
    /// As [`PrometheusSource::build`].
    pub fn build_as(
        name: &SourceName,
        settings: &PrometheusSettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        chain: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BuildError> {
        let signer = match &settings.authentication {
            Authentication::SigV4(sigv4) => {
                let clock = Arc::clone(&clock);
                Some(Signer::open(name, sigv4, settings.timeout, clock, metrics, chain)?)
            }
            Authentication::None | Authentication::Basic { .. } | Authentication::Bearer { .. } => {
                None
            }
        };
        let series = match &signer {
            Some(signer) => signer.service().max_series(settings.max_series),
            None => decode::MaxSeries::configured(settings.max_series),
        };
        Ok(Self {
            connection: Connection::open(name, settings, &*clock)?,
            credentials: Credentials::open(name, settings, &*clock)?,
            signer,
            method: settings.method,
            limits: decode::Limits { bytes: settings.max_response_bytes, series },
            gate: Gate::new(
                settings.max_concurrent,
                settings.timeout,
                metrics.for_calls(name, KIND),
            ),
            listings: Gate::new(
                series::CONCURRENT,
                settings.timeout.max(series::TIMEOUT),
                metrics.for_calls(name, series::KIND),
            ),
            protection: settings
                .breaker
                .protection(settings.max_requests_per_second, settings.timeout),
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
        let (observed, asked) = (self.clock.tick(), self.clock.now());
        let client = self.connection.client(&*self.clock);
        let mut headers = self.credentials.headers(&*self.clock);
        let parameters = self.parameters(query);
        let call = recorder.map(|recorder| self.begin(recorder, &parameters, &headers));
        if let Some(recorder) = recorder {
            recorder.permit()?;
        }
        let mut signed_as = None;
        let sent = match &self.signer {
            None => self.send(&client, query, &parameters, &headers).await,
            Some(signer) => {
                let (base, method) = (client.base_url(), self.method);
                let prepared =
                    signer.request(base, "query", method, &parameters, headers.iter()).await;
                match prepared {
                    Ok(prepared) => {
                        headers = headers.with_secrets(&prepared.secrets);
                        signed_as = Some((signer, prepared.identity));
                        let sent = client.inner().execute(prepared.request).await;
                        sent.map_err(|error| failure::no_answer(&error))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let answer = match sent {
            Ok(response) => self.read(response).await,
            Err(error) => Err(error),
        };
        if let (Some(recorder), Some(call)) = (recorder, call) {
            recorder.end(call, explain::answer(&answer, &headers));
        }
        let answer = answer.and_then(|(head, body)| {
            let signed_as = signed_as.as_ref();
            match signed_as.and_then(|(signer, who)| signer.refused(&head, &body, who)) {
                Some(refused) => Err(refused),
                None => Ok((head, body)),
            }
        });
        answer
            .and_then(|(head, body)| {
                let mut sample =
                    decode::decode(&head, &body, query.shape, self.limits.series, observed)?;
                head.times.apply(&mut sample, asked, self.clock.tick().since(observed));
                Ok(sample)
            })
            .and_then(|sample| echoless(sample, &headers))
            .map_err(|error| failure::redact(&error, &headers))
    }

    /// Sends an unsigned query.
    async fn send(
        &self,
        client: &Client,
        query: &PrometheusQuery,
        parameters: &[(&'static str, String)],
        headers: &Headers,
    ) -> Result<reqwest::Response, FetchError> {
        let mut request = Client::query(client, &*query.query);
        // The client adds the query itself.
        for (name, value) in parameters.iter().filter(|(name, _)| *name != QUERY) {
            request = request.query(name, value);
        }
        for (name, value) in headers.iter() {
            request = request.header(name, value.clone());
        }
        let sent = match self.method {
            Method::Get => request.get_raw().await,
            Method::Post => request.post_raw().await,
        };
        sent.map_err(|error| failure::not_sent(&error))
    }

    /// The parameters of a query, as far as the service knows them.
    fn parameters(&self, query: &PrometheusQuery) -> Vec<(&'static str, String)> {
        let mut parameters = vec![(QUERY, query.query.to_string())];
        if self.signer.as_ref().is_none_or(|signer| signer.service().takes_timeout()) {
            // The server need not go on with what nobody waits for any more.
            parameters.push(("timeout", milliseconds(self.gate.timeout().as_millis())));
        }
        let lookback = query.lookback_delta.map(|lookback| milliseconds(lookback.as_millis()));
        parameters.extend(lookback.map(|lookback| (LOOKBACK, lookback)));
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

/// A sample without secrets of its query in its warnings.
///
/// # Errors
/// [`FetchError::Malformed`] when a secret is in its labels: another label would be another series.
fn echoless(mut sample: Sample, headers: &Headers) -> Result<Sample, FetchError> {
    let pairs = sample.series.iter().flat_map(|series| series.labels.iter());
    for text in pairs.flat_map(|(name, value)| [name, value]) {
        if headers.secrets().are_in(text) {
            let cause = "the answer repeats the source's credentials";
            return Err(FetchError::Malformed(Cause::new(cause)));
        }
    }
    for warning in &mut sample.warnings {
        if let Cow::Owned(clean) = headers.redact(warning) {
            *warning = clean;
        }
    }
    Ok(sample)
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

    fn protection(&self, _query: &Query) -> Option<ProtectionSettings> {
        Some(self.protection.clone())
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
