//! What an answer of `CloudWatch` with 500 series costs to read: the SDK's own deserialisation
//! against what comes on top of it.
//!
//! `cargo bench --bench cloudwatch_decode`. Both are per answer, with the throughput in series. The
//! SDK's part is the time between its own hooks before and after deserialisation, of a whole call
//! through a client that answers from memory; the time for building, signing and sending the
//! request is not in it.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef,
};
use aws_sdk_cloudwatch::config::{
    BehaviorVersion, ConfigBag, Credentials, HttpClient, Intercept, Region, RuntimeComponents,
};
use aws_sdk_cloudwatch::error::BoxError;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use ciborium::Value;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use tidepole::model::{CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat, Tick};
use tidepole::source::cloudwatch::decode::{Answer, Moment, decode};
use tidepole::source::cloudwatch::plan::{Plan, plan};

/// A full call: the service takes no more queries in one.
const SERIES: usize = 500;

/// Datapoints of a series with the default lookback.
const DATAPOINTS: u32 = 5;

const MINUTE: Duration = Duration::from_mins(1);

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a timestamp")
}

fn queries() -> Vec<CloudWatchQuery> {
    let query = |i: usize| {
        let stat = MetricStat {
            namespace: "AWS/ApplicationELB".into(),
            name: "TargetResponseTime".into(),
            dimensions: vec![("LoadBalancer".into(), format!("app/web/{i:016x}").into())],
            statistic: "p99".into(),
            period: MINUTE,
            unit: None,
            account_id: None,
        };
        let id = CloudWatchQuery::SINGLE_ID.into();
        let question = MetricQuestion::Metric(stat);
        CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![MetricDataQuery { id, question, label: None, return_data: true }],
            period: MINUTE,
            delay: MINUTE,
            lookback: MINUTE * 6,
            manner: Manner::Strict,
        }
    };
    (0..SERIES).map(query).collect()
}

/// The bytes of an answer to a call, as the service writes them.
fn body(plan: &Plan<'_>) -> Bytes {
    let call = plan.calls.first().expect("the queries share one call");
    let text = |text: &str| Value::Text(text.to_owned());
    let entry = |(name, value): (&str, Value)| (text(name), value);
    let results = call.items.iter().enumerate().map(|(i, item)| {
        let end = u32::try_from(call.window.end).expect("a time of this century");
        let starts = (1..=DATAPOINTS).map(|back| f64::from(end - 60 * back));
        let times = starts.map(|at| Value::Tag(1, Box::new(Value::Float(at))));
        let number = u32::try_from(i).expect("500 fit");
        let values =
            (0..DATAPOINTS).map(|at| Value::Float(0.001 * f64::from(at) + 0.1 * f64::from(number)));
        Value::Map(
            [
                ("Id", text(&item.id)),
                ("Label", text(&format!("TargetResponseTime app/web/{i:016x}"))),
                ("Timestamps", Value::Array(times.collect())),
                ("Values", Value::Array(values.collect())),
                ("StatusCode", text("Complete")),
            ]
            .map(entry)
            .into(),
        )
    });
    let output =
        Value::Map([("MetricDataResults", Value::Array(results.collect()))].map(entry).into());
    let mut bytes = Vec::new();
    ciborium::into_writer(&output, &mut bytes).expect("memory takes all bytes");
    bytes.into()
}

/// An HTTP client that has one answer.
#[derive(Clone, Debug)]
struct Canned(Bytes);

impl HttpClient for Canned {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = 200.try_into().expect("a status");
        let mut response = HttpResponse::new(status, SdkBody::from(self.0.clone()));
        response.headers_mut().insert("content-type", "application/cbor");
        response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Times deserialisation.
#[derive(Clone, Debug, Default)]
struct Watch(Arc<Mutex<(Option<Instant>, Duration)>>);

impl Watch {
    /// The time since the last look.
    fn take(&self) -> Duration {
        std::mem::take(&mut self.0.lock().expect("no holder panics").1)
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_deserialization(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.lock().expect("no holder panics").0 = Some(Instant::now());
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        _: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let end = Instant::now();
        let mut state = self.0.lock().expect("no holder panics");
        if let Some(start) = state.0.take() {
            state.1 += end - start;
        }
        Ok(())
    }
}

fn client(body: Bytes, watch: &Watch) -> Client {
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url("http://127.0.0.1:9")
        .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "bench"))
        .http_client(Canned(body))
        .interceptor(watch.clone())
        .build();
    Client::from_conf(config)
}

async fn call(client: &Client) -> GetMetricDataOutput {
    client.get_metric_data().send().await.expect("the canned answer is a good one")
}

fn an_answer_of_500_series(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let queries = queries();
    let queries: Vec<_> = queries.iter().collect();
    let plan = plan(&queries, now());
    let watch = Watch::default();
    let client = client(body(&plan), &watch);
    let page = runtime.block_on(call(&client));
    let only = plan.calls.first().expect("the queries share one call");
    let at = Moment { now: now(), tick: Tick(1_000_000) };

    let mut group = c.benchmark_group("CloudWatch answer, 500 series");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("the SDK's deserialisation", |b| {
        b.iter_custom(|rounds| {
            watch.take();
            for _ in 0..rounds {
                black_box(runtime.block_on(call(&client)));
            }
            watch.take()
        });
    });
    group.bench_function("decode", |b| {
        b.iter_batched(
            || page.clone(),
            |page| {
                let mut answer = Answer::default();
                answer.add(page);
                let samples = decode(black_box(only), &answer, at);
                assert!(samples.iter().all(|(_, sample)| sample.is_ok()));
                samples
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, an_answer_of_500_series);
criterion_main!(benches);
