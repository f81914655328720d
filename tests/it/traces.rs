//! Traces, as a collector gets them.

use std::fs;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;

use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::ports;
use crate::support::process::Process;
use crate::support::server::{Setup, metric, path_of};
use crate::support::tls::Authority;
use crate::support::upstream::{Prometheus, Reply, Request, Upstream};

/// What must be in no span.
const CANARY: &str = "canary-77aa";

/// A collector that remembers.
struct Collector {
    server: Upstream,
    seen: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

fn collector() -> Collector {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let book = Arc::clone(&seen);
    let server = Upstream::start(move |request: &Request| {
        assert_eq!(request.path(), "/v1/traces");
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        assert_eq!(request.header("x-key"), Some("of-the-collector"));
        let request = ExportTraceServiceRequest::decode(&*request.body).expect("OTLP");
        book.lock().expect("no holder panics").push(request);
        Reply::text(200, "application/x-protobuf", "")
    });
    Collector { server, seen }
}

impl Collector {
    fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().expect("no holder panics");
        let resources = seen.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|found| found.value.as_ref()?.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn setup(upstream: &Prometheus, cluster: &ClusterApi, telemetry: &str) -> Setup {
    let source =
        format!("  - {{ name: main, prometheus: {{ url: \"{}\" }} }}", upstream.server().url());
    Setup::new(&format!("{source}\n{telemetry}"))
        .cluster(cluster)
        .with("works.yaml", &metric("works", "prometheus: { query: works }"))
        .with("broken.yaml", &metric("broken", "prometheus: { query: broken }"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_batches_and_calls_are_spans() {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    let upstream = Prometheus::start();
    upstream.vector("works", &[(r#""a":"b""#, "5")]);
    upstream.error("broken", 500, "internal", "broken disk");
    let collector = collector();
    let telemetry = format!(
        "telemetry: {{ traces: {{ endpoint: \"{}\", sampleRatio: 1, headers: {{ X-Key: {{ file: key }} }} }} }}",
        collector.server.url()
    );
    let setup = setup(&upstream, &cluster, &telemetry);
    fs::write(setup.path("key"), "of-the-collector\n").expect("the folder is ours");
    let process = Process::start(setup);
    process.door.ready().await;

    let identity = front_proxy.client("front-proxy-client", &[]);
    let mut aggregator = process.connect_as(&identity).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let unsampled = "00-11111111111111111111111111111111-00f067aa0ba902b7-00";
    let strange = "00-22222222222222222222222222222222-00f067aa0ba902b7-01";
    let headers = |parent, id| {
        [
            ("X-Remote-User", CANARY),
            ("Authorization", CANARY),
            ("Audit-ID", id),
            ("traceparent", parent),
        ]
    };
    for (metric, parent, id, code) in [
        ("works?labelSelector=a%3Db", parent, "read-1", 200),
        ("broken", parent, "read-2", 503),
        ("works", unsampled, "read-3", 200),
    ] {
        let path = path_of("default", metric);
        let answer = aggregator.get(&path, &headers(parent, id)).await.expect("an answer");
        assert_eq!(answer.status, code, "{}", answer.text());
    }
    aggregator.get("/apis", &headers(parent, "discovery")).await.expect("an answer");
    // Somebody who is not the aggregator has no say in whose trace this is.
    let mut stranger = process.reader().await;
    let path = path_of("default", "works");
    stranger.0.get(&path, &headers(strange, "stranger")).await.expect("an answer");
    process.signal("TERM");
    let (code, log) = process.end().await;
    assert_eq!(code.code(), Some(0), "{log}");

    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let reads = named("read");
    let mut ids: Vec<_> =
        reads.iter().map(|span| attribute(&span.attributes, "tidepole.request_id")).collect();
    ids.sort();
    assert_eq!(ids, ["read-1", "read-2", "stranger"], "{reads:#?}");
    for span in &reads {
        assert_eq!(span.kind(), SpanKind::Server);
        let id = attribute(&span.attributes, "tidepole.request_id");
        let (trace, begun_by) = (hex(&span.trace_id), hex(&span.parent_span_id));
        if id == "stranger" {
            assert!(!trace.starts_with("2222") && begun_by.is_empty(), "{span:#?}");
            continue;
        }
        assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(begun_by, "00f067aa0ba902b7");
        let status = span.status.clone().unwrap_or_default();
        let (metric, code, failed) =
            if id == "read-1" { ("works", "200", false) } else { ("broken", "503", true) };
        assert_eq!(attribute(&span.attributes, "url.path"), path_of("default", metric));
        assert_eq!(attribute(&span.attributes, "http.response.status_code"), code);
        assert_eq!(status.code() == StatusCode::Error, failed);
        assert_eq!(status.message.contains("broken disk"), failed, "{}", status.message);
    }
    let calls = named("upstream call");
    assert!(calls.len() >= 2, "{spans:#?}");
    for call in calls {
        assert_eq!(call.kind(), SpanKind::Client);
        let batch = spans.iter().find(|span| span.span_id == call.parent_span_id);
        let batch = batch.unwrap_or_else(|| panic!("a call without a batch: {call:#?}"));
        assert_eq!((&*batch.name, &batch.trace_id), ("refresh batch", &call.trace_id));
        assert_eq!(attribute(&batch.attributes, "tidepole.source"), "main");
    }
    assert!(
        named("refresh batch")
            .iter()
            .any(|span| { attribute(&span.attributes, "tidepole.outcome") == "failed" })
    );
    let all = format!("{:?}", collector.seen.lock().expect("no holder panics"));
    assert!(!all.contains(CANARY) && !all.contains("labelSelector"), "{all}");
    assert!(all.contains("service.name") && all.contains("tidepole"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_one_line() {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    let upstream = Prometheus::start();
    upstream.vector("works", &[("", "5")]);
    let telemetry = format!(
        "telemetry: {{ traces: {{ endpoint: \"http://{}\", sampleRatio: 1 }} }}",
        ports::free()
    );
    let process = Process::start(setup(&upstream, &cluster, &telemetry));
    process.door.ready().await;
    let mut reader = process.connect_as(&front_proxy.client("front-proxy-client", &[])).await;
    let path = path_of("default", "works");
    let answer = reader.get(&path, &[("X-Remote-User", "me")]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    process.signal("TERM");
    let (code, log) = process.end().await;
    assert_eq!(code.code(), Some(0), "{log}");
    assert_eq!(log.matches("traces cannot be sent").count(), 1, "{log}");
}
