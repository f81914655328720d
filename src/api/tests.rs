//! Every route and every outcome, against a provider and a server state that are made up.

mod custom;

use futures::FutureExt;
use futures::future::Either;
use http::Request;
use http::header::{CONTENT_ENCODING, ETAG, LOCATION, RETRY_AFTER, VARY};
use http_body_util::BodyExt;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    Attributes, CustomMetricName, CustomReading, CustomRequest, ExternalReading, Labels,
    ManualClock, MetricItem, MetricName, Probe, ProbeReport, Quantity, Reading, ResourceAttributes,
    Selector,
};

/// Answers by the metric's name: what a read of that name ends in.
struct Provider {
    names: usize,
    custom_names: Arc<[CustomMetricName]>,
}

fn reading(metric: &str, items: usize) -> ExternalReading {
    let item = |i: usize| MetricItem {
        labels: Labels::new([("queue", format!("q{i}")), ("say", "\"hi\"\n".to_owned())]),
        timestamp: "2026-01-02T03:04:05.999Z".parse().unwrap(),
        value: Quantity::from_decimal(&"1.5".parse().unwrap()),
    };
    ExternalReading {
        metric: MetricName::external(metric).unwrap(),
        items: (0..items).map(item).collect(),
    }
}

impl MetricsProvider for Provider {
    fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Reading<ExternalReading> {
        let folded = metric.to_lowercase();
        Reading::Ready(match &*folded {
            "jobs" => Ok(reading("jobs", 1)),
            "bare" => {
                let mut bare = reading("bare", 1);
                bare.items[0].labels = Labels::empty();
                Ok(bare)
            }
            "scalar" => {
                let mut scalar = reading("scalar", 1);
                scalar.items[0].labels = Labels::absent();
                Ok(scalar)
            }
            "many" => Ok(reading("many", 10_000)),
            "slow" => return Reading::Wait(async { Ok(reading("slow", 1)) }.boxed()),
            "never" => return Reading::Wait(futures::future::pending().boxed()),
            "first" => Err(ApiError::FirstReadTimeout("first in ns: no answer in 2s".into())),
            "stale" => Err(ApiError::NoValue("stale in ns: older than 2m".into())),
            "unknown" => Err(ApiError::MetricUnknown("no metric unknown".into())),
            "broken" => Err(ApiError::Internal("a defect".into())),
            _ => Err(ApiError::MetricNotFound(format!(
                "no metric {metric} in {namespace} with {selector}"
            ))),
        })
    }

    fn custom(&self, request: &CustomRequest<'_>) -> Reading<CustomReading> {
        custom::read(request)
    }

    fn near_external(&self, namespace: &str, metric: &str) -> Vec<Arc<str>> {
        vec!["known".into(), format!("{metric}-in-{namespace}").into()]
    }

    fn near_custom(&self, request: &CustomRequest<'_>) -> Vec<Arc<str>> {
        vec!["known".into(), format!("{}-of-{}", request.metric, request.resource).into()]
    }

    fn custom_names(&self) -> Arc<[CustomMetricName]> {
        Arc::clone(&self.custom_names)
    }

    fn external_names(&self) -> Arc<[MetricName]> {
        (0..self.names).map(|i| MetricName::external(&format!("m{i:05}")).unwrap()).collect()
    }
}

struct State;

impl ServerState for State {
    fn probe(&self, probe: Probe) -> Vec<ProbeReport> {
        let failure = (probe == Probe::Ready).then(|| "not listed yet".to_owned());
        vec![
            ProbeReport { name: "ping", failure: None },
            ProbeReport { name: "watch/files", failure },
        ]
    }

    fn metrics_text(&self) -> String {
        "# EOF\n".to_owned()
    }
}

struct Fixture {
    api: Api,
    telemetry: Telemetry,
}

fn fixture(names: usize) -> Fixture {
    fixture_of(&Settings::default(), Provider { names, custom_names: Arc::default() })
}

fn fixture_of(settings: &Settings, provider: Provider) -> Fixture {
    let telemetry = Telemetry::new();
    let now: Timestamp = "2026-01-02T03:04:15.999Z".parse().unwrap();
    let api = Api::new(
        settings,
        Arc::new(provider),
        Arc::new(State),
        Arc::new(ManualClock::at(now)),
        &telemetry,
    );
    Fixture { api, telemetry }
}

struct Answered {
    code: u16,
    headers: http::HeaderMap,
    body: Bytes,
    waited: bool,
}

impl Answered {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Code, reason and message of a `Status`.
    fn status(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(self.header(http::header::CONTENT_TYPE), "application/json");
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], self.code);
        let word = |key: &str| status[key].as_str().unwrap().to_owned();
        (self.code, word("reason"), word("message"))
    }
}

impl Fixture {
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let route = self.api.route(&parts.method, &parts.uri);
        let (response, waited) = match self.api.answer(route, &parts) {
            Either::Left(response) => (response, false),
            Either::Right(response) => (response.await, true),
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(!parts.headers.contains_key(LOCATION), "{target}");
        assert!(!parts.headers.contains_key(RETRY_AFTER), "{target}");
        Answered { code: parts.status.as_u16(), headers: parts.headers, body, waited }
    }

    async fn get(&self, target: &str) -> Answered {
        self.ask("GET", target, &[]).await
    }

    async fn accept(&self, target: &str, accept: &str) -> Answered {
        self.ask("GET", target, &[("accept", accept)]).await
    }

    fn route(&self, method: &str, target: &str) -> Route {
        self.api.route(&method.parse().unwrap(), &target.parse().unwrap())
    }

    fn attributes(&self, method: &str, target: &str) -> Attributes {
        self.route(method, target).attributes()
    }
}

const E: &str = "/apis/external.metrics.k8s.io/v1beta1";
const JOBS: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/jobs";
const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[tokio::test]
async fn a_read_is_an_external_metric_value_list() {
    let f = fixture(0);
    let answer = f.get(JOBS).await;
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","#,
            r#""metadata":{},"items":[{"metricName":"jobs","metricLabels":{"queue":"q0","#,
            r#""say":"\"hi\"\n"},"timestamp":"2026-01-02T03:04:05Z","value":"1500m"}]}"#,
            "\n"
        )
    );
    assert_eq!(answer.code, 200);
    assert!(!answer.waited);
    assert_eq!(answer.header(http::header::CONTENT_TYPE), "application/json");
    assert_eq!(answer.header(http::header::CACHE_CONTROL), "no-cache, private");
    let bare = f.get(&format!("{E}/namespaces/ns/bare")).await;
    assert_eq!(bare.json()["items"][0]["metricLabels"], json!({}));
    let scalar = f.get(&format!("{E}/namespaces/ns/scalar")).await;
    assert_eq!(scalar.json()["items"][0]["metricLabels"], Value::Null);
    // Names arrive folded from the HPA, and as typed from people.
    assert_eq!(f.get(&format!("{E}/namespaces/ns/JOBS/")).await.code, 200);
}

#[tokio::test]
async fn what_a_read_can_end_in() {
    let f = fixture(0);
    for (metric, code, reason, message) in [
        ("nope?labelSelector=a%3Db", 404, "NotFound", "no metric nope in ns with a=b"),
        ("first", 504, "Timeout", "first in ns: no answer in 2s"),
        ("stale", 503, "ServiceUnavailable", "stale in ns: older than 2m"),
        ("broken", 500, "InternalError", "Internal error occurred: a defect"),
    ] {
        let answer = f.get(&format!("{E}/namespaces/ns/{metric}")).await;
        assert_eq!(answer.status(), (code, reason.into(), message.into()));
    }
    let slow = f.get(&format!("{E}/namespaces/ns/slow")).await;
    assert_eq!((slow.code, slow.waited), (200, true));
}

#[tokio::test]
async fn c9_the_resource_list_with_and_without_a_trailing_slash() {
    let f = fixture(2);
    let list = f.get(E).await;
    assert_eq!(
        list.text(),
        concat!(
            r#"{"kind":"APIResourceList","apiVersion":"v1","#,
            r#""groupVersion":"external.metrics.k8s.io/v1beta1","resources":["#,
            r#"{"name":"m00000","singularName":"","namespaced":true,"#,
            r#""kind":"ExternalMetricValueList","verbs":["get"]},"#,
            r#"{"name":"m00001","singularName":"","namespaced":true,"#,
            r#""kind":"ExternalMetricValueList","verbs":["get"]}]}"#,
            "\n"
        )
    );
    assert_eq!(f.get(&format!("{E}/")).await.body, list.body);
    // Never empty: old clients take an empty list for an error.
    let empty = fixture(0).get(E).await.json();
    assert_eq!(empty["resources"][0]["name"], "externalmetrics");
    assert_eq!(empty["resources"][0]["verbs"], json!(["get"]));
}

#[tokio::test]
async fn c16_the_resource_list_is_capped() {
    let f = fixture(5_000);
    let answer = f.get(E).await;
    assert_eq!(answer.json()["resources"].as_array().unwrap().len(), discovery::MAX_LISTED);
    assert!(answer.body.len() < body::GZIP_LIST_BYTES, "{}", answer.body.len());
}

#[tokio::test]
async fn c11_aggregated_discovery() {
    let f = fixture(3);
    let v2 = f.accept("/apis", &format!("{V2},{V2BETA1},application/json")).await;
    assert_eq!(v2.code, 200);
    assert_eq!(v2.header(http::header::CONTENT_TYPE), V2);
    assert_eq!(v2.header(http::header::CACHE_CONTROL), "public");
    assert_eq!(v2.header(VARY), "Accept");
    assert_eq!(
        v2.json(),
        json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": [{
                "metadata": {"name": "external.metrics.k8s.io"},
                "versions": [{"version": "v1beta1", "freshness": "Current", "resources": [{
                    "resource": "externalmetrics", "scope": "Namespaced", "singularResource": "",
                    "verbs": ["get"],
                    "responseKind": {"group": "", "version": "", "kind": "ExternalMetricValueList"},
                }]}],
            }],
        })
    );
    let etag = v2.header(ETAG).to_owned();
    assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let same = f.ask("GET", "/apis/", &[("accept", V2), ("if-none-match", &etag)]).await;
    assert_eq!((same.code, same.body.len(), same.header(ETAG)), (304, 0, &*etag));
    for (known, code) in [
        ("\"x\"".to_owned(), 200),
        (format!("\"x\", {etag}"), 304),
        (format!("W/{etag}"), 304),
        ("*".to_owned(), 304),
    ] {
        let answer = f.ask("GET", "/apis", &[("accept", V2), ("if-none-match", &known)]).await;
        assert_eq!(answer.code, code, "{known}");
    }

    let beta = f.accept("/apis", V2BETA1).await;
    assert_eq!(beta.header(http::header::CONTENT_TYPE), V2BETA1);
    assert_eq!(beta.json()["apiVersion"], "apidiscovery.k8s.io/v2beta1");

    let (code, reason, message) = f.accept("/apis", "application/foo").await.status();
    assert_eq!((code, &*reason), (406, "NotAcceptable"));
    assert!(message.contains("as=APIGroupDiscoveryList"), "{message}");
}

#[tokio::test]
async fn plain_discovery() {
    let f = fixture(0);
    let version = json!({"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"});
    let group = json!({"name": "external.metrics.k8s.io", "versions": [version],
                       "preferredVersion": version});
    let groups = f.get("/apis").await;
    assert_eq!(groups.json(), json!({"kind": "APIGroupList", "groups": [group]}));
    let mut one = group.clone();
    one["kind"] = "APIGroup".into();
    one["apiVersion"] = "v1".into();
    assert_eq!(f.get("/apis/external.metrics.k8s.io/").await.json(), one);
    let root = f.get("/").await.json();
    assert!(root["paths"].as_array().unwrap().contains(&json!(E)));
    assert_eq!(
        f.get("/version/").await.json()["gitVersion"],
        concat!("v", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_group_that_is_off_is_not_there() {
    let settings = Settings { external: false, ..Settings::default() };
    let f = fixture_of(&settings, Provider { names: 0, custom_names: Arc::default() });
    assert_eq!(f.get(JOBS).await.text(), "404 page not found\n");
    assert_eq!(f.get("/apis").await.json()["groups"], json!([]));
}

#[tokio::test]
async fn c41_the_wildcard_is_one_name_however_it_is_written() {
    let f = fixture(0);
    let literal = f.get(&format!("{E}/namespaces/ns/*")).await;
    let encoded = f.get(&format!("{E}/namespaces/ns/%2A")).await;
    assert_eq!(literal.status(), (404, "NotFound".into(), "no metric * in ns with ".into()));
    assert_eq!(literal.body, encoded.body);
}

#[tokio::test]
async fn c42_paths_that_mean_nothing() {
    let f = fixture(0);
    let missing =
        (404, "NotFound".to_owned(), "the server could not find the requested resource".to_owned());
    for path in [
        "/foo",
        "/namespaces",
        "/namespaces/ns",
        "/namespaces/ns/a/b",
        "/namespaces/ns/status",
        "/namespaces/ns/finalize",
        "//namespaces/ns/jobs",
        "/namespaces/ns//jobs",
        "/namespaces/ns/jobs%2Fx",
        "/watch/namespaces/ns/jobs",
        "/Namespaces/ns/jobs",
        "/a/b/c/d/e/f/g/h/i/j",
    ] {
        assert_eq!(f.get(&format!("{E}{path}")).await.status(), missing, "{path}");
    }
    for path in ["/apis/external.metrics.k8s.io/v1", "/apis/external.metrics.k8s.io/v9/a/b"] {
        assert_eq!(f.get(path).await.status(), missing, "{path}");
    }
    for path in [
        "/foo",
        "/api/v1/pods",
        "/apis/apps",
        "/apis/apps/v1/deployments",
        "/apis/custom.metrics.k8s.io/v1beta2",
        "/openapi",
        "/openapi/v4",
        "/openapi/v3/apis/apps/v1",
        "/metrics/slis",
        "/version/x",
        "/readyz/nope",
        "/LIVEZ",
        "*",
    ] {
        let answer = f.get(path).await;
        assert_eq!((answer.code, answer.text()), (404, "404 page not found\n"), "{path}");
        assert_eq!(answer.header(http::header::CONTENT_TYPE), "text/plain; charset=utf-8");
    }
    // Authorized for all namespaces, and read without one.
    let all = f.get(&format!("{E}/namespaces//nope")).await.status();
    assert_eq!(all, (404, "NotFound".into(), "no metric nope in  with ".into()));
    let bad = f.get(&format!("{E}/namespaces/ns/a%zz")).await.status();
    assert_eq!(bad, (400, "BadRequest".into(), "invalid percent-encoding in the path".into()));
    let long = f.get(&format!("{E}/namespaces/ns/{}", "a".repeat(9_000))).await.status();
    assert_eq!((long.0, &*long.1), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn c43_other_methods_are_refused() {
    let f = fixture(0);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for path in [JOBS, E, "/apis", "/apis/external.metrics.k8s.io", "/openapi/v2", "/version"] {
            let answer = f.ask(method, path, &[]).await;
            let (code, reason, message) = answer.status();
            assert_eq!((code, &*reason), (405, "MethodNotAllowed"), "{method} {path}");
            assert_eq!(message, "the server does not allow this method on the requested resource");
            assert_eq!(answer.header(http::header::ALLOW), "GET");
        }
    }
    assert_eq!(f.ask("POST", "/livez", &[]).await.code, 405);
    let refused = f.ask("POST", JOBS, &[]).await.body.len().to_string();
    for (path, code, length) in [("/livez", 200, "2"), ("/nope", 404, "19"), (JOBS, 405, &*refused)]
    {
        let head = f.ask("HEAD", path, &[]).await;
        assert_eq!((head.code, head.body.len()), (code, 0), "{path}");
        assert_eq!(head.header(http::header::CONTENT_LENGTH), length, "{path}");
    }
}

#[tokio::test]
async fn c44_bad_selectors() {
    let f = fixture(0);
    for (query, message) in [
        (
            "labelSelector=a%20b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, >, <",
        ),
        ("labelSelector=%zz", "invalid percent-encoding in the query"),
        ("fieldSelector=x", "invalid selector: 'x'; can't understand 'x'"),
        ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
    ] {
        let answer = f.get(&format!("{JOBS}?{query}")).await;
        assert_eq!(answer.status(), (400, "BadRequest".into(), message.into()));
        assert_eq!(answer.json().get("details"), None);
    }
    let ignored = "fieldSelector=metadata.name%3Dx&limit=5&metricLabelSelector=%2C";
    assert_eq!(f.get(&format!("{JOBS}?{ignored}")).await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn c45_the_timeout_parameter() {
    let f = fixture(0);
    let never = format!("{E}/namespaces/ns/never");
    let message = "Timeout: request did not complete within the allotted timeout";
    let cut = f.get(&format!("{never}?timeout=1ms")).await;
    assert_eq!(cut.status(), (504, "Timeout".into(), format!("{message} (1ms)")));
    assert!(cut.waited);
    // More than the server's own limit, and none at all: the server's limit.
    for query in ["timeout=10m", "timeout=0s", "timeout=-1s", ""] {
        let cut = f.get(&format!("{never}?{query}")).await;
        assert_eq!(cut.status(), (504, "Timeout".into(), format!("{message} (60s)")), "{query}");
    }
    let bad = f.get(&format!("{never}?timeout=abc")).await;
    let message =
        "invalid timeout specified in the request URL - time: invalid duration \"abc\"".to_owned();
    assert_eq!(bad.status(), (400, "BadRequest".into(), message));
    assert_eq!(f.get(&format!("{JOBS}?timeout=10m")).await.code, 200);
    assert_eq!(f.get(&format!("{JOBS}?timeout=1ns")).await.code, 200);
}

#[tokio::test]
async fn c46_watching_is_refused_and_authorized_as_such() {
    let f = fixture(0);
    let answer = f.get(&format!("{JOBS}?watch=true")).await;
    let message = "watch is not supported on resources of kind \"*.external.metrics.k8s.io\"";
    assert_eq!(answer.status(), (405, "MethodNotAllowed".into(), message.into()));
    let details = json!({"group": "external.metrics.k8s.io", "kind": "*"});
    assert_eq!(answer.json()["details"], details);
    let Attributes::Resource(attributes) = f.attributes("GET", &format!("{JOBS}?watch=true"))
    else {
        panic!("a metric is a resource")
    };
    assert_eq!(attributes.verb, "watch");
}

#[tokio::test]
async fn c47_c48_what_the_hpa_and_kubectl_accept() {
    let f = fixture(0);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                 application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    for accept in [
        "application/vnd.kubernetes.protobuf, */*",
        "application/json, */*",
        &format!("{table},application/json"),
    ] {
        let answer = f.accept(JOBS, accept).await;
        assert_eq!(answer.json()["kind"], "ExternalMetricValueList", "{accept}");
    }
    let refused = |offered: &str| {
        let message = format!("only the following media types are accepted: {offered}");
        (406, "NotAcceptable".to_owned(), message)
    };
    let json_alone = refused("application/json");
    let both = refused("application/json, application/yaml");
    for accept in [table, "application/vnd.kubernetes.protobuf", "text/html"] {
        assert_eq!(f.accept(JOBS, accept).await.status(), both, "{accept}");
        for path in [E, "/apis/external.metrics.k8s.io", "/openapi/v2", "/openapi/v3"] {
            assert_eq!(f.accept(path, accept).await.status(), json_alone, "{accept} {path}");
        }
    }
    assert_eq!(f.accept(E, "application/yaml").await.status(), json_alone);
    // An error keeps its own code, whatever is accepted.
    let stale = format!("{E}/namespaces/ns/stale");
    assert_eq!(f.accept(&stale, "application/json").await.code, 503);
}

#[tokio::test]
async fn c49_large_lists_are_compressed_when_accepted() {
    let f = fixture(0);
    let many = format!("{E}/namespaces/ns/many");
    let plain = f.get(&many).await;
    assert!(plain.body.len() > 1_000_000);
    assert_eq!((plain.header(CONTENT_ENCODING), plain.header(VARY)), ("", "Accept-Encoding"));
    let zipped = f.ask("GET", &many, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped.header(CONTENT_ENCODING), "gzip");
    assert_eq!(zipped.header(VARY), "Accept-Encoding");
    assert_eq!(unzipped(&zipped.body), plain.body);
    let small = f.ask("GET", JOBS, &[("accept-encoding", "gzip")]).await;
    assert_eq!((small.header(CONTENT_ENCODING), small.header(VARY)), ("", ""));
}

fn unzipped(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut out).unwrap();
    out
}

#[tokio::test]
async fn c50_pretty_printing() {
    let f = fixture(0);
    let pretty = "{\n  \"kind\": \"ExternalMetricValueList\",\n  \"apiVersion\": \
                  \"external.metrics.k8s.io/v1beta1\",\n  \"metadata\": {},\n  \"items\": [\n    {\n";
    for (query, agent, accept, is_pretty) in [
        ("?pretty=true", "", "*/*", true),
        ("?pretty=1", "", "*/*", true),
        ("", "curl/8.5.0", "*/*", true),
        ("", "Wget/1.21", "*/*", true),
        ("", "Mozilla/5.0 (X11)", "*/*", true),
        ("", "", "application/json;pretty=1", true),
        ("", "kubectl/v1.34", "*/*", false),
        ("?pretty=false", "curl/8.5.0", "*/*", false),
        ("", "", "*/*", false),
    ] {
        let headers = [("user-agent", agent), ("accept", accept)];
        let answer = f.ask("GET", &format!("{JOBS}{query}"), &headers).await;
        let case = format!("{query} {agent} {accept}");
        assert_eq!(answer.text().starts_with(pretty), is_pretty, "{case}");
        assert!(answer.text().ends_with("}\n"), "{case}");
        let apis = f.ask("GET", &format!("/apis{query}"), &headers).await;
        assert_eq!(apis.text().contains("\n  "), is_pretty, "{case}");
    }
}

#[tokio::test]
async fn c72_openapi_v2_is_valid_empty_and_cacheable() {
    let f = fixture(0);
    let answer = f.accept("/openapi/v2", "application/json").await;
    assert_eq!(answer.json()["swagger"], "2.0");
    assert_eq!(answer.json()["paths"], json!({}));
    let etag = answer.header(ETAG).to_owned();
    let headers = [("accept", "application/json"), ("if-none-match", &*etag)];
    assert_eq!(f.ask("GET", "/openapi/v2", &headers).await.code, 304);
}

#[tokio::test]
async fn c73_openapi_v3_lists_our_group_versions_and_takes_any_hash() {
    let f = fixture(0);
    let paths = f.get("/openapi/v3").await.json()["paths"].clone();
    assert_eq!(paths.as_object().unwrap().len(), 1);
    let url = paths["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].clone();
    let current = f.get(url.as_str().unwrap()).await;
    assert_eq!(current.header(http::header::CACHE_CONTROL), "public, immutable");
    assert_eq!(current.header(http::header::EXPIRES), "Sat, 02 Jan 2027 03:04:15 GMT");
    let path = "/openapi/v3/apis/external.metrics.k8s.io/v1beta1";
    for query in ["", "?hash=OLD"] {
        let answer = f.get(&format!("{path}{query}")).await;
        assert_eq!((answer.code, &answer.body), (200, &current.body), "{query}");
        assert_eq!(answer.header(http::header::CACHE_CONTROL), "no-cache, private");
    }
    let document = current.json();
    assert_eq!(document["openapi"], "3.0.0");
    let list = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";
    assert_eq!(
        document["components"]["schemas"][list]["x-kubernetes-group-version-kind"],
        json!([{"group": "external.metrics.k8s.io", "kind": "ExternalMetricValueList",
                "version": "v1beta1"}])
    );
    assert_references(&document, &document);

    let zipped = f.ask("GET", path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped.header(CONTENT_ENCODING), "gzip");
    assert_eq!(unzipped(&zipped.body), current.body);
}

/// Every `$ref` points at something.
fn assert_references(root: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                let name = to.strip_prefix("#/components/schemas/").unwrap();
                assert!(root["components"]["schemas"].get(name).is_some(), "{to}");
            }
            map.values().for_each(|v| assert_references(root, v));
        }
        Value::Array(list) => list.iter().for_each(|v| assert_references(root, v)),
        _ => {}
    }
}

#[tokio::test]
async fn c75_health_endpoints() {
    let f = fixture(0);
    for path in ["/livez", "/livez/", "/healthz"] {
        let answer = f.get(path).await;
        assert_eq!((answer.code, answer.text()), (200, "ok"), "{path}");
        assert_eq!(answer.header(http::header::CONTENT_TYPE), "text/plain; charset=utf-8");
        assert_eq!(answer.header(http::header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    }
    let ready = f.get("/readyz").await;
    let text = "[+]ping ok\n[-]watch/files failed: reason withheld\nreadyz check failed\n";
    assert_eq!((ready.code, ready.text()), (500, text));
    assert_eq!(f.get("/readyz?exclude=watch%2Ffiles").await.text(), "ok");
    let verbose = f.get("/livez?verbose&exclude=x").await;
    let text = "[+]ping ok\n[+]watch/files ok\nwarn: some health checks cannot be excluded: no \
                matches for \"x\"\nlivez check passed\n";
    assert_eq!((verbose.code, verbose.text()), (200, text));
    assert_eq!(f.get("/readyz/ping").await.text(), "ok");
    let check = f.get("/readyz/watch/files").await;
    assert_eq!((check.code, check.text()), (500, "internal server error: not listed yet\n"));
}

#[tokio::test]
async fn metrics_are_openmetrics_and_reads_are_counted() {
    let f = fixture(0);
    let answer = f.get("/metrics").await;
    assert_eq!(answer.text(), "# EOF\n");
    assert_eq!(
        answer.header(http::header::CONTENT_TYPE),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for metric in ["jobs", "jobs", "slow", "nope", "stale", "first", "broken", "jobs?watch=1"] {
        f.get(&format!("{E}/namespaces/ns/{metric}")).await;
    }
    let text = f.telemetry.encode();
    for line in [
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"ok\"} 3",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"not_found\"} 1",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"no_value\"} 1",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"timeout\"} 1",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"error\"} 1",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"refused\"} 1",
        "tidepole_read_duration_seconds_count{group=\"external.metrics.k8s.io\"} 8",
        "metrics_apiserver_metric_freshness_seconds_sum{group=\"external.metrics.k8s.io\"} 30.0",
        "metrics_apiserver_metric_freshness_seconds_count{group=\"external.metrics.k8s.io\"} 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

/// Verb, group, version, resource, subresource, name and namespace, in one line.
fn shown(attributes: &Attributes) -> String {
    match attributes {
        Attributes::NonResource { path, verb } => format!("{verb} {path}"),
        Attributes::Resource(a) => {
            let ResourceAttributes { verb, group, version, resource, subresource, .. } = &**a;
            format!(
                "{verb} {group}/{version} resource={resource} sub={subresource} name={} ns={}",
                a.name, a.namespace
            )
        }
    }
}

#[test]
fn attributes_are_those_of_kubernetes_request_info() {
    let f = fixture(0);
    let e = "external.metrics.k8s.io/v1beta1";
    let c = "custom.metrics.k8s.io/v1beta2";
    for (method, path, expected) in [
        (
            "GET",
            format!("/apis/{e}/namespaces/ns/jobs"),
            format!("list {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{e}/namespaces/ns/jobs/"),
            format!("list {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{e}/namespaces/ns/jobs?watch=1"),
            format!("watch {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "POST",
            format!("/apis/{e}/namespaces/ns/jobs"),
            format!("create {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "DELETE",
            format!("/apis/{e}/namespaces/ns/jobs"),
            format!("deletecollection {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{e}/namespaces/ns/status"),
            format!("get {e} resource=namespaces sub=status name=ns ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{e}/namespaces/ns/finalize"),
            format!("get {e} resource=namespaces sub=finalize name=ns ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{e}/namespaces/ns"),
            format!("get {e} resource=namespaces sub= name=ns ns=ns"),
        ),
        ("GET", format!("/apis/{e}/foo"), format!("list {e} resource=foo sub= name= ns=")),
        (
            "GET",
            format!("/apis/{e}/watch/namespaces/ns/jobs"),
            format!("watch {e} resource=jobs sub= name= ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{c}/namespaces/ns/pods/%2A/m"),
            format!("get {c} resource=pods sub=m name=* ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{c}/namespaces/ns/ingresses.networking.k8s.io/i/m"),
            format!("get {c} resource=ingresses.networking.k8s.io sub=m name=i ns=ns"),
        ),
        (
            "GET",
            format!("/apis/{c}/namespaces/ns/metrics/m"),
            format!("get {c} resource=metrics sub= name=m ns=ns"),
        ),
        ("GET", format!("/apis/{c}/nodes/n/m"), format!("get {c} resource=nodes sub=m name=n ns=")),
        ("GET", format!("/apis/{e}"), format!("get /apis/{e}")),
        ("GET", format!("/apis/{e}/?x=y"), format!("get /apis/{e}/")),
        ("HEAD", "/livez".into(), "head /livez".into()),
        ("GET", "/%6Divez/ping".into(), "get /mivez/ping".into()),
        ("GET", "/bad%zz".into(), "get /bad%zz".into()),
    ] {
        assert_eq!(shown(&f.attributes(method, &path)), expected, "{method} {path}");
    }
}

#[test]
fn selectors_are_attached_to_lists_as_far_as_they_can_be_expressed() {
    let f = fixture(0);
    let of = |target: &str| match f.attributes("GET", target) {
        Attributes::Resource(a) => a.label_selector.to_string(),
        Attributes::NonResource { .. } => panic!("a resource"),
    };
    let query = "labelSelector=a%3Db,c+in+%28d,e%29,%21f,g%3E5,h,i%21%3Dj";
    assert_eq!(of(&format!("{JOBS}?{query}")), "a=b,c in (d,e),!f,h,i!=j");
    assert_eq!(of(&format!("{JOBS}?labelSelector=,")), "");
    let one = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/%2A/m?labelSelector=a%3Db";
    assert_eq!(of(one), "");
}

#[test]
fn everybody_may_ask_for_health_and_nothing_else() {
    let f = fixture(0);
    for (method, path, allowed) in [
        ("GET", "/livez", true),
        ("HEAD", "/readyz?verbose", true),
        ("GET", "/healthz", true),
        ("POST", "/livez", false),
        ("GET", "/livez/", false),
        ("GET", "//livez", false),
        ("GET", "/readyz/ping", false),
        ("GET", "/metrics", false),
        ("GET", "/version", false),
        ("GET", JOBS, false),
        ("GET", "/livez%", false),
    ] {
        assert_eq!(f.route(method, path).always_allowed(), allowed, "{method} {path}");
    }
}

#[test]
fn classes_are_fixed_words() {
    let f = fixture(0);
    for (path, class) in [
        (JOBS, "external"),
        (E, "discovery"),
        ("/apis", "discovery"),
        ("/", "discovery"),
        ("/openapi/v3", "openapi"),
        ("/version", "version"),
        ("/metrics", "metrics"),
        ("/readyz/ping", "health"),
        ("/nope", "other"),
        ("/a%", "other"),
    ] {
        assert_eq!(f.route("GET", path).class(), class, "{path}");
    }
}

proptest! {
    #[test]
    fn no_path_panics_or_redirects(
        prefix in prop_oneof![
            Just(""), Just(E), Just("/apis"), Just("/openapi/v3"), Just("/readyz"),
            Just("/apis/external.metrics.k8s.io/v1beta1/namespaces/ns"),
        ],
        tail in prop_oneof![
            "(/|//|[a-z*.:]{1,6}|%2A|%2F|%|%ff|namespaces|status){0,8}",
            "/\\PC{0,12}",
        ],
        query in "(\\?((labelSelector|timeout|watch|pretty|exclude|hash)=?[-a-z0-9%+=,()!&]{0,12}))?",
        method in prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("DELETE")],
    ) {
        let f = fixture(1);
        let target = format!("{prefix}{tail}{query}");
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let route = f.api.route(&parts.method, &parts.uri);
        let _ = (route.attributes(), route.class(), route.always_allowed());
        if let Either::Left(response) = f.api.answer(route, &parts) {
            let code = response.status().as_u16();
            prop_assert!([200, 400, 404, 405, 413, 500].contains(&code), "{code} {target}");
            prop_assert!(!response.headers().contains_key(LOCATION));
            prop_assert!(!response.headers().contains_key(RETRY_AFTER));
        }
    }
}
