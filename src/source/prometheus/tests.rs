use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::decode::{Head, MaxSeries, decode};
use super::kept::Times;
use super::*;
use crate::model::{AnswerShape, Decimal, Labels, SystemClock, Tick};
use crate::source::Settings;
use crate::source::upstream::{Prometheus, Reply};
use crate::telemetry::Telemetry;

const MAX_SERIES: MaxSeries = MaxSeries { most: 3, rule: "maxSeries" };

fn head(status: u16, content_type: &str) -> Head {
    Head { status, content_type: content_type.to_owned(), redirect: None, times: Times::default() }
}

fn json(status: u16, body: &str) -> Result<Sample, FetchError> {
    decode(
        &head(status, "application/json"),
        body.as_bytes(),
        AnswerShape::Items,
        MAX_SERIES,
        Tick(7),
    )
}

fn result(kind: &str, result: &str) -> Result<Sample, FetchError> {
    json(
        200,
        &format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#),
    )
}

fn shown(answer: Result<Sample, FetchError>) -> String {
    match answer {
        Ok(sample) => sample
            .series
            .iter()
            .map(|s| format!("{} {}", s.labels, s.value))
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => format!("{}: {error}", error.kind()),
    }
}

#[test]
fn a_vector_becomes_series_without_their_metric_name() {
    let answer = result(
        "vector",
        r#"[{"metric":{"__name__":"up","queue":"a\"b"},"value":[1435781451.781,"64.1"]},
            {"metric":{},"value":[1435781451.781,"1e+06"]}]"#,
    )
    .unwrap();
    assert_eq!(shown(Ok(answer.clone())), "{queue=a\"b} 64.1; {} 1000000");
    assert_eq!(answer.timestamp, Timestamp::from_millisecond(1_435_781_451_781).unwrap());
    assert_eq!(answer.observed, Tick(7));
    assert_eq!(answer.warnings, Vec::<String>::new());
}

#[test]
fn what_is_no_number_is_no_sample() {
    assert_eq!(shown(result("vector", "[]")), "no_data: the query gives no series");
    let series = |values: &[&str]| {
        let all: Vec<_> =
            values.iter().map(|v| format!(r#"{{"metric":{{}},"value":[1,"{v}"]}}"#)).collect();
        result("vector", &format!("[{}]", all.join(",")))
    };
    assert_eq!(
        shown(series(&["NaN", "+Inf", "-Inf"])),
        "no_data: all 3 series of the answer are NaN or infinite, which is not a value"
    );
    let partial = series(&["NaN", "3"]).unwrap();
    assert_eq!(
        partial.warnings,
        ["1 of 2 series are NaN or infinite: reads that select one of them fail"]
    );
    assert_eq!(partial.without_number, [Labels::empty()]);
    assert_eq!(shown(Ok(partial)), "{} 3");
    assert_eq!(shown(result("scalar", r#"[1,"2.5"]"#)), "{} 2.5");
    assert_eq!(
        shown(result("scalar", r#"[1,"NaN"]"#)),
        "no_data: the query gives NaN, which is not a value (scalar() of an empty vector is NaN)"
    );
    assert_eq!(
        shown(result("scalar", r#"[1,"+Inf"]"#)),
        "no_data: the query gives +Inf, which is not a value"
    );
}

#[test]
fn results_that_are_no_instant_numbers_are_named() {
    for (kind, body, expected) in [
        (
            "matrix",
            "[]",
            "invalid: the query gives a range vector (matrix); use a function over it, like rate() or max_over_time()",
        ),
        ("string", r#"[1,"x"]"#, "invalid: the query gives a string, not numbers"),
        (
            "vector",
            r#"[{"metric":{},"histogram":[1,{"count":"1","sum":"2","buckets":[]}]}]"#,
            "invalid: the query gives native histograms; use a function over them, like histogram_quantile() or histogram_count()",
        ),
        (
            "vector",
            r#"[{"metric":{}}]"#,
            "malformed: HTTP 200: the answer cannot be understood: a series has no value",
        ),
        (
            "tensor",
            "[]",
            "malformed: HTTP 200: the answer cannot be understood: unknown resultType \"tensor\"",
        ),
        (
            "scalar",
            r#"[1,"forty"]"#,
            "malformed: HTTP 200: the answer cannot be understood: \"forty\" is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi",
        ),
        (
            "scalar",
            r#"[1e400,"1"]"#,
            "malformed: HTTP 200: the answer cannot be understood: 1e400 is not a timestamp",
        ),
    ] {
        assert_eq!(shown(result(kind, body)), expected);
    }
    assert!(shown(result("vector", "null")).starts_with("malformed: "));
    assert!(shown(result("vector", r#"[{"metric":[]}]"#)).starts_with("malformed: "));
}

#[test]
fn too_many_series_are_refused_by_name() {
    let one = r#"{"metric":{},"value":[1,"1"]}"#;
    assert!(result("vector", &format!("[{one},{one},{one}]")).is_ok());
    assert_eq!(
        shown(result("vector", &format!("[{one},{one},{one},{one},{one}]"))),
        "invalid: the answer has more than 3 series (maxSeries); aggregate them in the query"
    );
}

#[test]
fn warnings_are_kept_and_bounded() {
    let warnings: Vec<String> =
        (0..20).map(|i| format!("\"store {i} {}\"", "x".repeat(400))).collect();
    let body = format!(
        r#"{{"status":"success","warnings":[{}],"infos":["i"],"data":{{"resultType":"scalar","result":[1,"1"]}}}}"#,
        warnings.join(",")
    );
    let sample = json(200, &body).unwrap();
    assert_eq!(sample.warnings.len(), 8);
    assert!(sample.warnings.iter().all(|w| w.chars().count() == 300));
    let body = r#"{"status":"success","infos":["metric might not be a counter"],"data":{"resultType":"scalar","result":[1,"1"]}}"#;
    assert_eq!(json(200, body).unwrap().warnings, ["metric might not be a counter"]);
}

#[test]
fn an_answer_that_calls_itself_partial_is_no_sample() {
    let answer = |partial: &str| {
        json(
            200,
            &format!(
                r#"{{"status":"success","isPartial":{partial},"data":{{"resultType":"scalar","result":[1,"1"]}}}}"#
            ),
        )
    };
    assert_eq!(
        shown(answer("true")),
        "partial: the answer is partial (isPartial): a storage node of the server did not answer"
    );
    assert!(answer("false").is_ok());
    assert!(answer("null").is_ok());
}

#[test]
fn errors_say_what_to_do() {
    let api = |status, kind: &str| {
        shown(json(status, &format!(r#"{{"status":"error","errorType":"{kind}","error":"why"}}"#)))
    };
    for (status, kind, expected) in [
        (400, "bad_data", "invalid: bad_data: why (HTTP 400)"),
        (422, "execution", "invalid: execution: why (HTTP 422)"),
        (503, "timeout", "timeout: timeout: why (HTTP 503)"),
        (503, "canceled", "unavailable: canceled: why (HTTP 503)"),
        (500, "internal", "unavailable: internal: why (HTTP 500)"),
        (404, "not_found", "unavailable: not_found: why (HTTP 404)"),
        (429, "too_many_requests", "throttled: HTTP 429: too many requests"),
        (400, "too_many_requests", "throttled: too_many_requests: why (HTTP 400)"),
        (418, "novel", "invalid: novel: why (HTTP 418)"),
        (502, "novel", "unavailable: novel: why (HTTP 502)"),
        (200, "novel", "malformed: novel: why (HTTP 200)"),
        (401, "bad_data", "denied: HTTP 401: the server did not accept the source's credentials"),
        (403, "bad_data", "denied: HTTP 403: the source's credentials may not query this server"),
    ] {
        assert_eq!(api(status, kind), expected);
    }
    let plain = |status, kind: &str, body: &str| {
        let error =
            decode(&head(status, kind), body.as_bytes(), AnswerShape::Items, MAX_SERIES, Tick(0))
                .unwrap_err();
        (format!("{}: {error}", error.kind()), error.cause().detail().unwrap_or("").to_owned())
    };
    assert_eq!(
        plain(200, "text/html", "<html>\nlog in"),
        (
            "malformed: HTTP 200: an answer of type text/html instead of the query API's JSON (a login page?)".to_owned(),
            "the answer starts with: <html> log in".to_owned()
        )
    );
    for (status, kind, body, expected) in [
        (200, "application/json", "{", "malformed: HTTP 200: broken JSON instead"),
        (200, "", "x", "malformed: HTTP 200: an answer without a content type instead"),
        (204, "", "", "malformed: HTTP 204: an empty answer instead"),
        (502, "text/html", "<h1>", "unavailable: HTTP 502: an answer of type text/html"),
        (504, "text/html", "<h1>", "timeout: HTTP 504"),
        (404, "text/plain", "404", "unavailable: HTTP 404: an answer of type text/plain"),
        (405, "text/plain", "no", "unavailable: HTTP 405"),
        (414, "text/html", "long", "invalid: HTTP 414"),
    ] {
        let (message, _) = plain(status, kind, body);
        assert!(message.starts_with(expected), "{message}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_the_decoder_panic(status in 200_u16..600, body in ".{0,200}") {
        let _ = decode(&head(status, "application/json"), body.as_bytes(), AnswerShape::Items, MAX_SERIES, Tick(0));
    }

    #[test]
    fn broken_answers_are_errors(cut in 0_usize..150, flip in any::<u8>(), at in 0_usize..150) {
        let whole = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1435781451.781,"64.1"]}]}}"#;
        let cut_short = &whole.as_bytes()[..cut.min(whole.len() - 1)];
        prop_assert!(decode(&head(200, "application/json"), cut_short, AnswerShape::Items, MAX_SERIES, Tick(0)).is_err());
        let mut changed = whole.as_bytes().to_vec();
        let at = at.min(changed.len() - 1);
        changed[at] = flip;
        let _ = decode(&head(200, "application/json"), &changed, AnswerShape::Items, MAX_SERIES, Tick(0));
    }
}

proptest! {
    /// However an answer is damaged: what is taken of it is what a plain reading of it says.
    #[test]
    fn what_is_taken_was_said(
        changes in proptest::collection::vec((0_usize..220, any::<u8>()), 1..4),
        is_matrix in any::<bool>(),
    ) {
        let kind = if is_matrix { "matrix" } else { "vector" };
        let mut body = format!(
            r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{{"metric":{{"a":"b"}},"value":[1435781451.781,"64.1"]}},{{"metric":{{"a":"c"}},"value":[1435781451.781,"-7e2"]}}]}}}}"#
        )
        .into_bytes();
        for (at, byte) in changes {
            let at = at % body.len();
            body[at] = byte;
        }
        let head = head(200, "application/json");
        if let Ok(sample) = decode(&head, &body, AnswerShape::Items, MAX_SERIES, Tick(0)) {
            let plain: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            prop_assert_eq!(&plain["status"], "success");
            let said: Vec<Decimal> = plain["data"]["result"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|series| series["value"][1].as_str()?.parse().ok())
                .collect();
            let taken: Vec<Decimal> = sample.series.iter().map(|series| series.value.clone()).collect();
            prop_assert_eq!(taken.len(), said.len());
            prop_assert!(taken.iter().all(|value| said.contains(value)), "{:?}, {:?}", taken, said);
        }
    }
}

struct Bench {
    fake: Prometheus,
    dir: tempfile::TempDir,
    settings: PrometheusSettings,
}

impl Bench {
    fn new() -> Self {
        Self::on(Prometheus::start())
    }

    fn on(fake: Prometheus) -> Self {
        let mut settings = PrometheusSettings::new(fake.server().url().parse().unwrap());
        settings.timeout = Duration::from_secs(10);
        Self { fake, dir: tempfile::tempdir().unwrap(), settings }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn source(&self) -> Arc<dyn Source> {
        let metrics = Metrics::register(&Telemetry::new());
        let settings = Settings::Prometheus(Box::new(self.settings.clone()));
        let clock = Arc::new(SystemClock::new());
        crate::source::build(&SourceName::new("main"), &settings, clock, &metrics).unwrap().source
    }

    fn build_error(&self) -> String {
        let metrics = Metrics::register(&Telemetry::new());
        let settings = Settings::Prometheus(Box::new(self.settings.clone()));
        let clock = Arc::new(SystemClock::new());
        match crate::source::build(&SourceName::new("main"), &settings, clock, &metrics) {
            Ok(_) => panic!("the settings are wrong"),
            Err(error) => error.to_string(),
        }
    }
}

async fn ask(source: &dyn Source, query: &str, lookback: Option<Duration>) -> String {
    let spec = QuerySpec::Prometheus(PrometheusQuery {
        query: query.into(),
        lookback_delta: lookback,
        shape: crate::model::AnswerShape::Items,
    });
    let query = Arc::new(Query { source: SourceName::new("main"), spec });
    shown(source.fetch(&[query]).await.remove(0))
}

#[tokio::test]
async fn a_query_is_sent_as_configured() {
    let mut bench = Bench::new();
    bench.fake.prefix("/base/path");
    bench.fake.vector("sum(x{a=\"&+\"})", &[("\"q\":\"jobs\"", "4")]);
    bench.settings.url = format!("{}/base/path/", bench.fake.server().url()).parse().unwrap();
    bench.settings.headers = vec![
        ("X-Scope-OrgID".to_owned(), HeaderValues::Fixed(vec!["a".to_owned(), "b".to_owned()])),
        ("X-Tenant".to_owned(), HeaderValues::File(bench.file("tenant", "team-a\n"))),
    ];
    bench.settings.authentication = Authentication::Basic {
        username: "u".to_owned(),
        password_file: bench.file("password", "pässword\n"),
    };
    for method in [Method::Get, Method::Post] {
        bench.settings.method = method;
        let answer = ask(&*bench.source(), "sum(x{a=\"&+\"})", Some(Duration::from_secs(90))).await;
        assert_eq!(answer, "{q=jobs} 4");
        let request = bench.fake.server().last();
        assert_eq!(request.method, if method == Method::Get { "GET" } else { "POST" });
        assert_eq!(request.path(), "/base/path/api/v1/query");
        assert_eq!(request.parameter("lookback_delta").as_deref(), Some("90000ms"));
        assert_eq!(request.parameter("timeout").as_deref(), Some("10000ms"));
        assert_eq!(request.headers("x-scope-orgid"), ["a", "b"]);
        assert_eq!(request.headers("x-tenant"), ["team-a"]);
        assert_eq!(request.header("authorization"), Some("Basic dTpww6Rzc3dvcmQ="));
        assert!(request.header("accept-encoding").is_some_and(|v| v.contains("gzip")));
    }
    let answer = ask(&*bench.source(), "up", None).await;
    assert_eq!(answer, "no_data: the query gives no series");
    assert_eq!(bench.fake.server().last().parameter("lookback_delta"), None);
}

#[tokio::test]
async fn compressed_answers_are_read_and_bombs_are_not() {
    use std::io::Write;
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        Reply::Answer {
            status: 200,
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("content-encoding".to_owned(), "gzip".to_owned()),
            ],
            body: encoder.finish().unwrap(),
        }
    };
    let mut bench = Bench::new();
    bench.settings.max_response_bytes = 100_000;
    let source = bench.source();
    let body = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"5"]}}"#;
    bench.fake.set("small", gzip(body));
    assert_eq!(ask(&*source, "small", None).await, "{} 5");
    bench.fake.set("bomb", gzip(&vec![b' '; 50_000_000]));
    assert_eq!(
        ask(&*source, "bomb", None).await,
        "malformed: the answer (HTTP 200) is larger than 100000 bytes (maxResponseBytes); ask for fewer series"
    );
    bench.fake.set(
        "torn",
        Reply::json(200, "this is not gzip at all").with_header("content-encoding", "gzip"),
    );
    let torn = ask(&*source, "torn", None).await;
    assert!(torn.starts_with("malformed: the answer (HTTP 200) cannot be decompressed"), "{torn}");
}

#[tokio::test]
async fn redirects_are_reported_and_not_followed() {
    let other = Prometheus::start();
    let bench = Bench::new();
    let to = format!("{}/login?next=secret", other.server().url());
    bench.fake.answer_all(Some(Reply::text(302, "text/html", "").with_header("location", &to)));
    assert_eq!(
        ask(&*bench.source(), "up", None).await,
        format!(
            "unavailable: HTTP 302: the server redirects to {}; redirects are not followed, set the source's url to what answers",
            other.server().url()
        )
    );
    assert_eq!(other.server().hits(), 0);
}

#[tokio::test]
async fn a_rotated_token_is_sent_and_never_shown() {
    let mut bench = Bench::new();
    let token_file = bench.file("token", "first-secret");
    bench.settings.authentication = Authentication::Bearer { token_file: token_file.clone() };
    let clock = Arc::new(crate::model::ManualClock::default());
    let metrics = Metrics::register(&Telemetry::new());
    let source =
        PrometheusSource::build(&SourceName::new("main"), &bench.settings, clock.clone(), &metrics)
            .unwrap();
    let sent = || bench.fake.server().last().header("authorization").map(str::to_owned);
    ask(&source, "up", None).await;
    assert_eq!(sent().as_deref(), Some("Bearer first-secret"));
    std::fs::write(&token_file, "second-secret").unwrap();
    clock.advance(Duration::from_secs(1));
    ask(&source, "up", None).await;
    assert_eq!(sent().as_deref(), Some("Bearer second-secret"));
    std::fs::remove_file(&token_file).unwrap();
    clock.advance(Duration::from_secs(1));
    // An upstream that echoes what it got must not carry the token into our messages.
    bench.fake.error("up", 400, "bad_data", "you sent Bearer second-secret");
    assert_eq!(
        ask(&source, "up", None).await,
        "invalid: bad_data: you sent Bearer [secret] (HTTP 400)"
    );
    assert_eq!(sent().as_deref(), Some("Bearer second-secret"));
    assert!(!format!("{source:?}").contains("secret\""));
}

#[tokio::test]
async fn echoed_headers_are_blotted_out_of_errors_and_warnings() {
    let mut bench = Bench::new();
    let token_file = bench.file("token", "bearer-secret");
    bench.settings.authentication = Authentication::Bearer { token_file };
    bench.settings.headers = vec![
        ("X-Api-Key".to_owned(), HeaderValues::Fixed(vec!["0123456789ab".to_owned()])),
        ("X-Scope-OrgID".to_owned(), HeaderValues::Fixed(vec!["team-a".to_owned()])),
    ];
    let source = bench.source();
    bench.fake.error("up", 400, "bad_data", "key 0123456789ab of team-a");
    assert_eq!(
        ask(&*source, "up", None).await,
        "invalid: bad_data: key [secret] of team-a (HTTP 400)"
    );
    let body = r#"{"status":"success","warnings":["got bearer-secret"],"data":{"resultType":"scalar","result":[1,"1"]}}"#;
    bench.fake.set("warned", Reply::json(200, body));
    let spec = PrometheusQuery {
        query: "warned".into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    let spec = QuerySpec::Prometheus(spec);
    let query = Arc::new(Query { source: SourceName::new("main"), spec });
    let sample = source.fetch(&[query]).await.remove(0).unwrap();
    assert_eq!(sample.warnings[0], "got [secret]");
}

#[tokio::test]
async fn a_secret_is_blotted_out_in_every_encoding_and_where_it_is_cut_off() {
    let mut bench = Bench::new();
    let token = "a/bearer+token=0123456789/of-some-length=";
    bench.settings.authentication =
        Authentication::Bearer { token_file: bench.file("held", token) };
    let source = bench.source();
    let percent = token.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D");
    let html = token.replace('/', "&#x2F;").replace('+', "&#43;").replace('=', "&#61;");
    let plain = [token.to_owned(), percent, html];
    let body =
        |text: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
    let json = plain.iter().map(|echo| body(echo)).chain([
        body(&token.replace('/', "\\/")),
        body(&token.replace('/', "\\u002F").replace('+', "\\u002b").replace('=', "\\u003D")),
        // Cut off by the bounds of a cause and of an excerpt.
        body(&format!("{}{token}", "x".repeat(370))),
        body(&format!("{}{token}", "x".repeat(220))),
    ]);
    let text = plain.iter().cloned().chain([format!("{}{token}", "x".repeat(260))]);
    let mut replies: Vec<Reply> = [400, 403, 429, 500]
        .into_iter()
        .flat_map(|status| json.clone().map(move |body| Reply::json(status, body)))
        .collect();
    replies.extend(text.map(|text| Reply::text(502, "text/html", text)));
    let warned = format!(
        r#"{{"status":"success","warnings":["{}{token}"],"data":{{"resultType":"scalar","result":[1,"1"]}}}}"#,
        "x".repeat(280)
    );
    replies.push(Reply::json(200, warned));
    let spec = PrometheusQuery {
        query: "up".into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    let spec = QuerySpec::Prometheus(spec);
    let query = Arc::new(Query { source: SourceName::new("main"), spec });
    for reply in replies {
        bench.fake.set("up", reply.clone());
        let answer = source.fetch(std::slice::from_ref(&query)).await.remove(0);
        let told = format!("{answer:?} {:?}", source.explain(&query).await);
        let shown = ["bearer", "token", "0123456789", "of-some-length"];
        assert!(
            shown.iter().all(|part| !told.replace("the bearer token of", "").contains(part)),
            "{told}"
        );
        assert!(told.contains("[secret]"), "{told}");
    }
}

#[tokio::test]
async fn labels_that_repeat_a_secret_are_no_answer() {
    let mut bench = Bench::new();
    let token = "a/bearer+token=0123456789";
    bench.settings.authentication =
        Authentication::Bearer { token_file: bench.file("held", token) };
    let tenant = "team-payments-production";
    bench.settings.headers =
        vec![("X-Scope-OrgID".to_owned(), HeaderValues::Fixed(vec![tenant.to_owned()]))];
    let source = bench.source();
    let refused = "malformed: the answer repeats the source's credentials";
    for (label, expected) in [
        (format!(r#""sent":"Bearer {token}""#), refused),
        (format!(r#""sent":"{}""#, token.replace('/', "\\/")), refused),
        (format!(r#""sent":"{}""#, token.replace('/', "%2F")), refused),
        (format!(r#""{token}":"x""#), refused),
        // What names a tenant comes back in labels.
        (format!(r#""tenant":"{tenant}""#), "{tenant=team-payments-production} 1"),
    ] {
        bench.fake.vector("up", &[(&label, "1")]);
        assert_eq!(ask(&*source, "up", None).await, expected);
    }
}

#[test]
fn wrong_settings_are_refused_with_the_field() {
    let bench = |change: fn(&mut PrometheusSettings)| {
        let mut settings = PrometheusSettings::new("http://localhost:9090".parse().unwrap());
        change(&mut settings);
        settings.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(bench(|_| {}), "");
    assert_eq!(
        bench(|s| s.url = "ftp://x/".parse().unwrap()),
        "url: the scheme \"ftp\" is not http or https"
    );
    assert_eq!(
        bench(|s| s.url = "http://u:p@x/".parse().unwrap()),
        "url: a URL must not hold a user or password; use basicAuth, which reads a file"
    );
    assert_eq!(
        bench(|s| s.url = "http://x/?a=b".parse().unwrap()),
        "url: a URL must not hold a query or fragment"
    );
    assert_eq!(
        bench(|s| s.url = "http://x/api/v1/query".parse().unwrap()),
        "url: the URL is the part before /api/v1/query"
    );
    assert_eq!(
        bench(|s| s.tls.cert_file = Some("x".into())),
        "tls.keyFile: certFile and keyFile belong together"
    );
    assert_eq!(
        bench(|s| s.timeout = Duration::ZERO),
        "timeout: a timeout is above zero and at most 1m"
    );
    assert_eq!(
        bench(
            |s| s.headers = vec![("Content-Length".into(), HeaderValues::Fixed(vec!["1".into()]))]
        ),
        "headers.Content-Length: this header is set by the client itself"
    );
    assert_eq!(
        bench(|s| s.headers = vec![("a b".into(), HeaderValues::Fixed(vec![]))]),
        "headers.a b: not a valid header name; headers.a b: a header's value is one line of printable ASCII characters"
    );
    assert_eq!(
        bench(|s| {
            s.authentication = Authentication::Bearer { token_file: "t".into() };
            s.headers = vec![("Authorization".into(), HeaderValues::Fixed(vec!["x".into()]))];
        }),
        "bearerTokenFile: headers already says who we are; only one way to do so is allowed"
    );
}

#[test]
fn a_missing_or_broken_file_fails_the_build() {
    let mut bench = Bench::new();
    let missing = bench.dir.path().join("none");
    bench.settings.authentication = Authentication::Bearer { token_file: missing.clone() };
    assert_eq!(
        bench.build_error(),
        format!(
            "source main: bearerTokenFile: {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
    bench.settings.authentication = Authentication::None;
    let broken = bench.file("ca.pem", "nonsense");
    bench.settings.tls.ca_file = Some(broken.clone());
    assert_eq!(
        bench.build_error(),
        format!("source main: tls.caFile: {}: no certificate in PEM", broken.display())
    );
}

#[test]
fn debug_shows_no_secret() {
    let mut settings =
        PrometheusSettings::new("https://user:hunter2@x/prefix?token=hunter2".parse().unwrap());
    settings.headers = vec![("X-Key".to_owned(), HeaderValues::Fixed(vec!["hunter2".to_owned()]))];
    let shown = format!("{:?}", Settings::Prometheus(Box::new(settings)));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("https://x/prefix") && shown.contains("X-Key"), "{shown}");
}

mod tls {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    struct Authority(Issuer<'static, KeyPair>, String);

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    impl Authority {
        fn issue(&self, name: &str) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
        }
    }

    fn server(pair: &(String, String), clients: Option<&Authority>) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.1.as_bytes()).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.1.as_bytes()).unwrap()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    #[tokio::test]
    async fn the_servers_certificate_is_verified() {
        let ca = authority();
        let mut bench = Bench::on(Prometheus::start_tls(server(&ca.issue("127.0.0.1"), None)));
        bench.fake.scalar("x", "1");
        let untrusted = ask(&*bench.source(), "x", None).await;
        assert!(untrusted.starts_with("unavailable: cannot connect to "), "{untrusted}");
        assert!(untrusted.contains("UnknownIssuer"), "{untrusted}");
        bench.settings.tls.ca_file = Some(bench.file("ca.pem", &ca.1));
        assert_eq!(ask(&*bench.source(), "x", None).await, "{} 1");
        bench.settings.tls.ca_file = None;
        bench.settings.tls.insecure_skip_verify = true;
        assert_eq!(ask(&*bench.source(), "x", None).await, "{} 1");
    }

    #[tokio::test]
    async fn another_name_can_be_expected() {
        let ca = authority();
        let mut bench = Bench::on(Prometheus::start_tls(server(&ca.issue("prometheus.svc"), None)));
        bench.fake.scalar("x", "1");
        bench.settings.tls.ca_file = Some(bench.file("ca.pem", &ca.1));
        let wrong = ask(&*bench.source(), "x", None).await;
        assert!(wrong.contains("not valid for name"), "{wrong}");
        bench.settings.tls.server_name = Some("prometheus.svc".to_owned());
        assert_eq!(ask(&*bench.source(), "x", None).await, "{} 1");
        bench.settings.tls.server_name = Some("other.svc".to_owned());
        let wrong = ask(&*bench.source(), "x", None).await;
        assert!(wrong.contains("not valid for name"), "{wrong}");
    }

    #[tokio::test]
    async fn a_rotated_client_certificate_is_used() {
        let (ca, old, new) = (authority(), authority(), authority());
        let pair = ca.issue("127.0.0.1");
        let mut bench = Bench::on(Prometheus::start_tls(server(&pair, Some(&new))));
        bench.fake.scalar("x", "1");
        let (certificate, key) = old.issue("me");
        bench.settings.tls.ca_file = Some(bench.file("ca.pem", &ca.1));
        bench.settings.tls.cert_file = Some(bench.file("tls.crt", certificate));
        bench.settings.tls.key_file = Some(bench.file("tls.key", key));
        let clock = Arc::new(crate::model::ManualClock::default());
        let metrics = Metrics::register(&Telemetry::new());
        let source = PrometheusSource::build(
            &SourceName::new("main"),
            &bench.settings,
            clock.clone(),
            &metrics,
        )
        .unwrap();
        let refused = ask(&source, "x", None).await;
        assert!(refused.starts_with("unavailable: "), "{refused}");
        // The certificate is there, its key not yet: the old pair stays.
        let (certificate, key) = new.issue("me");
        bench.file("tls.crt", certificate);
        clock.advance(Duration::from_secs(2));
        let refused = ask(&source, "x", None).await;
        assert!(refused.starts_with("unavailable: "), "{refused}");
        bench.file("tls.key", key);
        clock.advance(Duration::from_secs(2));
        assert_eq!(ask(&source, "x", None).await, "{} 1");
    }
}

#[test]
fn of_a_rules_external_metric_all_series_count_or_none() {
    let answer = |values: &[&str]| {
        let series: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(i, v)| format!(r#"{{"metric":{{"__name__":"q","i":"{i}"}},"value":[1,"{v}"]}}"#))
            .collect();
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
            series.join(",")
        );
        let head = head(200, "application/json");
        move |shape| decode(&head, body.as_bytes(), shape, MAX_SERIES, Tick(0))
    };
    for strange in ["NaN", "+Inf", "1e19"] {
        let whole = answer(&["5", strange])(AnswerShape::Whole);
        assert!(matches!(whole, Err(FetchError::Partial(_))), "{strange}: {whole:?}");
        // Of objects each has a value of its own.
        let of_objects = answer(&["5", strange])(AnswerShape::Vector).unwrap();
        assert_eq!(of_objects.series.len(), 1, "{strange}");
        let nothing = answer(&[strange])(AnswerShape::Whole);
        assert!(matches!(nothing, Err(FetchError::NoData(_))), "{strange}: {nothing:?}");
    }
    let many = answer(&["1", "2", "3", "4", "5"])(AnswerShape::Whole).unwrap();
    assert_eq!(many.series[0].labels.get("__name__"), Some("q"), "whole, and beyond maxSeries");
}
