use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::*;
use crate::cache::QueryCell;
use crate::control::hpa_watch::{Report, WatchState};
use crate::model::{
    Decimal, Exchange, FetchError, Labels, ProbeReport, Problem, Query, QuerySpec, Sample, Series,
    SimulatedQuery, SourceName, Tick,
};
use crate::rules::{Place, RuleProblem};
use crate::task::TaskSet;

struct Process {
    ready: Option<&'static str>,
}

impl ServerState for Process {
    fn probe(&self, probe: Probe) -> Vec<ProbeReport> {
        let mut reports = vec![ProbeReport { name: "ping", failure: None }];
        if probe == Probe::Ready {
            let failure = self.ready.map(str::to_owned);
            reports.push(ProbeReport { name: "first-refresh", failure });
        }
        reports
    }

    fn metrics_text(&self) -> String {
        "# EOF\n".to_owned()
    }
}

struct Rows(Vec<MetricRow>);

impl Inventory for Rows {
    fn metrics(&self) -> Vec<MetricRow> {
        self.0.clone()
    }

    fn problems(&self) -> Vec<Problem> {
        let message = "unknown field <quer>; did you mean query?";
        vec![Problem::new("metrics.d/bad.yaml", message).at(3, 5).with_field("spec.prometheus")]
    }

    fn conflicts(&self) -> Vec<String> {
        Vec::new()
    }

    fn hpas(&self) -> Option<Report> {
        let state = match self.0.len() {
            0 => WatchState::Down("hpas is <forbidden>".to_owned()),
            _ => WatchState::Up,
        };
        Some(Report { state, hpas: 12, references: 9, known: 8, unknown: 1 })
    }

    fn rules(&self) -> Option<crate::control::rule_watch::Report> {
        let problem = |line| RuleProblem {
            place: Place { path: "rules.yaml".into(), line, field: "rules[0]".into() },
            message: "the cluster has no resource <widget>".to_owned(),
        };
        Some(crate::control::rule_watch::Report {
            custom: 7,
            external: 2,
            shapes: 30,
            skipped: 4,
            pending: None,
            file_problems: Arc::new(Vec::new()),
            rule_problems: Arc::new((1..=60).map(problem).collect()),
            failing: Arc::new(vec![("up{a=\"<b>\"}".to_owned(), "refused".to_owned())]),
        })
    }

    fn costs(&self) -> Vec<SourceCost> {
        vec![SourceCost {
            source: "aws".to_owned(),
            metrics_per_minute: 10_000.0,
            requests_per_minute: 0.25,
            dollars_per_month: 4_380.004,
            is_open_ended: true,
        }]
    }

    fn upstreams(&self) -> Vec<UpstreamRow> {
        vec![UpstreamRow {
            source: "aws".to_owned(),
            upstream: "sqs eu-west-1".to_owned(),
            breaker: Some("half-open"),
            calls_per_second: Some(4.6875),
            running: 1,
            queued: 12,
            overdue: 3,
            lateness_seconds: 75.5,
        }]
    }

    fn tick(&self) -> Tick {
        Tick(61_000)
    }

    fn detail(&self, row: &MetricRow) -> futures::future::BoxFuture<'static, Detail> {
        let request = Exchange {
            operation: "GET http-query".to_owned(),
            target: "<target>".to_owned(),
            request: serde_json::json!({"query": "</script><script>alert(1)"}),
            answer: Err("not sent".to_owned()),
            took: Duration::ZERO,
        };
        let detail = Detail {
            definition: vec![("scale", "<1>".to_owned())],
            asked_by: row.definition.clone(),
            requests: Some(vec![request]),
            cost: self.costs().pop(),
            hpas: Some(vec!["shop/<web>".to_owned()]),
            hpas_total: 7,
        };
        Box::pin(std::future::ready(detail))
    }

    fn configuration(&self) -> Arc<Configuration> {
        let settings = vec![("definitions.paths".to_owned(), "<folder>".to_owned())];
        Arc::new(Configuration {
            sections: vec![Section { title: "<Files>".to_owned(), settings }],
        })
    }

    fn reloaded(&self) -> Option<Reloaded> {
        Some(Reloaded { ago: Duration::from_secs(65), entries: 3, problems: 1 })
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(90)
    }
}

fn row(metric: &str, namespace: &str, state: MetricState) -> MetricRow {
    let failed = matches!(state, MetricState::Failed | MetricState::Expired);
    MetricRow {
        metric: metric.to_owned(),
        scope: namespace.to_owned(),
        labels: Labels::new([("queue", metric)]),
        definition: format!("ExternalMetric {namespace}/{metric}"),
        origin: format!("metrics.d/{namespace}.yaml:1"),
        source: "main".to_owned(),
        source_kind: "prometheus",
        query: format!("sum({metric})"),
        state,
        value: (!failed).then(|| "42".to_owned()),
        sample_age: (!failed).then_some(Duration::from_secs(4)),
        timestamp: (!failed).then_some(jiff::Timestamp::UNIX_EPOCH),
        notes: vec!["the definition's label <pool> wins".to_owned()],
        last_error: failed.then(|| "connection <refused>".to_owned()),
        last_error_age: failed.then_some(Duration::from_secs(9)),
        refresh: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        wanted: true,
        last_read_age: Some(Duration::from_secs(3)),
        hpas: 7,
        unused: metric == "orders",
        upstream_reads: 12,
        metrics_requested: Some(24),
        apart: failed.then_some(Duration::from_secs(75)),
        roots: roots(failed),
    }
}

/// A query that answered, and failed since if it is said to.
fn roots(failed: bool) -> Roots {
    let source = SourceName::new("main");
    let spec = QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::ONE));
    let query = Arc::new(Query { source, spec });
    let cell = QueryCell::new(query, Duration::from_secs(15), false);
    let wall = jiff::Timestamp::UNIX_EPOCH;
    let series = vec![Series { labels: Labels::empty(), value: 42_i64.into() }];
    let sample = Sample {
        timestamp: wall,
        observed: Tick(1000),
        series,
        without_number: Vec::new(),
        warnings: Vec::new(),
    };
    cell.complete(Ok(sample), Tick(1000), wall);
    if failed {
        cell.complete(Err(FetchError::Timeout("<late>".into())), Tick(31_000), wall);
    }
    Roots { cell: Some(Arc::new(cell)), entry: None }
}

fn rows() -> Vec<MetricRow> {
    vec![
        row("jobs", "team-a", MetricState::Fresh),
        row("mails", "team-b", MetricState::Failed),
        row("orders", MetricRow::ALL_NAMESPACES, MetricState::Servable),
    ]
}

fn admin(rows: Vec<MetricRow>, ready: Option<&'static str>) -> Admin {
    Admin::new(Arc::new(Process { ready }), Arc::new(Rows(rows)))
}

async fn get_from(admin: Admin, uri: &str) -> (StatusCode, Response<String>) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    read(admin.router().oneshot(request).await.unwrap()).await
}

type Response<T> = axum::http::Response<T>;

async fn read(response: Response<Body>) -> (StatusCode, Response<String>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (parts.status, Response::from_parts(parts, text))
}

async fn json(uri: &str) -> serde_json::Value {
    let (status, response) = get_from(admin(rows(), None), uri).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_str(response.body()).unwrap()
}

fn names(answer: &serde_json::Value) -> Vec<&str> {
    answer["metrics"].as_array().unwrap().iter().map(|m| m["metric"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn health_answers_per_endpoint() {
    let cases = [
        ("/livez", None, 200, "ok"),
        ("/healthz", Some("late"), 200, "ok"),
        ("/readyz", None, 200, "ok"),
        ("/readyz?verbose", None, 200, "[+]ping ok\n[+]first-refresh ok\nreadyz check passed\n"),
        (
            "/readyz",
            Some("late"),
            500,
            "[+]ping ok\n[-]first-refresh failed: late\nreadyz check failed\n",
        ),
        ("/readyz?exclude=first-refresh", Some("late"), 200, "ok"),
        ("/readyz/first-refresh", Some("late"), 500, "internal server error: late\n"),
        ("/livez/ping", None, 200, "ok"),
        ("/livez/pong", None, 404, "404 page not found\n"),
    ];
    for (uri, ready, status, text) in cases {
        let (got, response) = get_from(admin(rows(), ready), uri).await;
        assert_eq!((got.as_u16(), response.body().as_str()), (status, text), "{uri}");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8", "{uri}");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff", "{uri}");
    }
}

#[tokio::test]
async fn metrics_have_the_openmetrics_type() {
    let (status, response) = get_from(admin(rows(), None), "/metrics").await;
    assert_eq!((status, response.body().as_str()), (StatusCode::OK, "# EOF\n"));
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (status, response) = get_from(admin(rows(), None), "/debug/pprof").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(response.body().starts_with("/debug/pprof is not here; "), "{}", response.body());
    let post = Request::builder().method(Method::POST).uri("/").body(Body::empty()).unwrap();
    let response = admin(rows(), None).router().oneshot(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn json_filters_by_text_namespace_and_state() {
    assert_eq!(names(&json("/api/metrics").await), ["jobs", "mails", "orders"]);
    assert_eq!(names(&json("/api/metrics?q=QUEUE%3Djobs").await), ["jobs"]);
    assert_eq!(names(&json("/api/metrics?q=refused").await), ["mails"]);
    assert_eq!(names(&json("/api/metrics?namespace=team-a").await), ["jobs", "orders"]);
    let unused = json("/api/metrics?unused=yes").await;
    assert_eq!((names(&unused), &unused["unused"]), (vec!["orders"], &1.into()));
    assert_eq!(unused["metrics"][0]["unused"], true);
    let failed = json("/api/metrics?state=failed").await;
    assert_eq!(names(&failed), ["mails"]);
    assert_eq!((&failed["total"], &failed["matching"]), (&3.into(), &1.into()));
    assert_eq!(failed["states"]["fresh"], 1);
    let watch =
        serde_json::json!({"state": "up", "hpas": 12, "references": 9, "known": 8, "unknown": 1});
    assert_eq!(failed["hpaWatch"], watch);
    let mails = &failed["metrics"][0];
    assert_eq!(mails["hpas"], 7);
    assert_eq!(failed["upstreams"][0]["breaker"], "half-open");
    assert_eq!(failed["upstreams"][0]["latenessSeconds"], 75.5);
    assert_eq!(failed["upstreamsTotal"], 1);
    assert_eq!(mails["lastError"], "connection <refused>");
    assert_eq!(mails["value"], serde_json::Value::Null);
    assert_eq!(mails["maxAgeSeconds"], 120.0);
    assert_eq!((&mails["upstreamReads"], &mails["metricsRequested"]), (&12.into(), &24.into()));
    assert_eq!(failed["costs"][0]["source"], "aws");
    assert_eq!(failed["costs"][0]["metricsPerMinute"], 10_000.0);
    assert_eq!((&mails["apartSeconds"], &failed["apart"]), (&75.0.into(), &1.into()));
    assert_eq!(
        failed["problems"][0],
        "metrics.d/bad.yaml:3:5: spec.prometheus: unknown field <quer>; did you mean query?"
    );
}

/// The pages, and a query that searches where there is one.
const PAGES: [&str; 5] = ["/", "/browse?q=%22%3E%3Cscript%3E", "/browse", "/hpas", "/config"];

/// The page of the only metric that failed.
const MAILS: &str = "/metric?definition=ExternalMetric+team-b%2Fmails&scope=team-b";

#[tokio::test]
async fn pages_escape_and_run_our_script_alone() {
    let mut rows = rows();
    rows[0].query = "<script>alert(1)</script>".to_owned();
    rows[0].metric = "<script>x".to_owned();
    rows[0].labels = Labels::new([("a\"b", "<img src=x>")]);
    rows[1].last_error = Some("<script>".to_owned());
    for page in PAGES.into_iter().chain([MAILS]) {
        let (status, response) = get_from(admin(rows.clone(), Some("3 < 5")), page).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(policy.contains("; script-src 'self'; "), "{policy}");
        let text = response.body().replace("<script src=\"/page.js\" defer></script>", "");
        for wrong in [
            "<script",
            "<img src=x",
            "style=\"",
            " onclick",
            "https://",
            "<late>",
            "<target>",
            "<web>",
            "<folder>",
            "<1>",
        ] {
            assert!(!text.contains(wrong), "{page}: {wrong}: {text}");
        }
        let images = text.matches("xmlns='http://www.w3.org").count();
        assert_eq!(text.matches("http://").count(), images, "{page}: {text}");
        assert!(text.contains("aria-current=\"page\"") && text.contains("<main id=\"content\""));
    }
    let (_, searched) = get_from(admin(rows.clone(), None), PAGES[1]).await;
    assert!(searched.body().contains("value=\"&quot;&gt;&lt;script&gt;\""), "{}", searched.body());
    let (_, first) = get_from(admin(rows, Some("3 < 5")), "/").await;
    let page = first.body();
    assert!(page.contains("Not ready: first-refresh</strong> 3 &lt; 5"), "{page}");
    assert!(page.contains("unknown field &lt;quer&gt;"), "{page}");
}

fn contains_all(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text} is missing: {page}");
    }
}

#[tokio::test]
async fn the_first_page_says_whether_all_is_well() {
    let (_, response) = get_from(admin(rows(), None), "/").await;
    contains_all(
        response.body(),
        &[
            "<title>(1) – Tidepole</title>",
            "up 1m 30s",
            "connection &lt;refused&gt;",
            "<a href=\"/hpas\">12 HPAs</a> refer to 9 metrics, 8 of which are served here",
            "sqs eu-west-1",
            ">half-open</span>",
            "<strong class=\"bad\">3</strong><div class=\"sub\">oldest 1m 15s</div>",
            "4.69",
            "taken over 1m 5s ago: 3 definitions, 1 mistake.",
            "<a class=\"name\" href=\"/metric?definition=ExternalMetric+team-b%2Fmails&amp;scope=team-b\">mails</a>",
            "href=\"/browse?state=failed\"",
        ],
    );
    let (_, empty) = get_from(admin(Vec::new(), None), "/").await;
    contains_all(
        empty.body(),
        &["No metric is defined yet.", "upstream: hpas is &lt;forbidden&gt;"],
    );
}

#[tokio::test]
async fn the_list_shows_every_metric_and_looks_again() {
    let (_, response) = get_from(admin(rows(), None), "/browse").await;
    let page = response.body();
    contains_all(
        page,
        &[
            "jobs",
            "orders",
            "sum(mails)",
            "7 HPAs",
            "1 set apart",
            "asked again in 1m 15s",
            "1 unused: no HPA asks for them",
            ">unused</span>",
            "<title>last hour: from 42 to 42, last 42</title>",
            "last 42; 1 failure</title>",
            "<th scope=\"col\" aria-sort=\"ascending\"><a href=\"?sort=-name\">",
            "<noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript>",
            "data-reload=\"15\"",
        ],
    );
    let (_, paused) = get_from(admin(rows(), None), "/browse?refresh=off").await;
    let paused = paused.body();
    assert!(!paused.contains("http-equiv") && !paused.contains("<script"), "{paused}");
    assert!(paused.contains(">resume</a>") && paused.contains("name=\"refresh\" value=\"off\""));
    let (_, empty) = get_from(admin(Vec::new(), None), "/browse").await;
    assert!(empty.body().contains("No metric is defined yet."), "{}", empty.body());
    let (_, script) = get_from(admin(rows(), None), "/page.js").await;
    assert_eq!(script.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn one_metric_has_a_page() {
    let (status, response) = get_from(admin(rows(), None), MAILS).await;
    assert_eq!(status, StatusCode::OK);
    contains_all(
        response.body(),
        &[
            "<title>mails – Tidepole</title>",
            "connection &lt;refused&gt;",
            "<desc id=\"chart-words\">last hour: from 42 to 42, last 42; 1 failure; a value was served throughout</desc>",
            "<title>timeout, 30s ago</title>",
            "<td>timeout</td>",
            "<dt>scale</dt>",
            "shop/&lt;web&gt;",
            "and 6 more",
            "At least 4380 USD a month while it is refreshed",
            "&lt;/script&gt;&lt;script&gt;alert(1)",
            "12 reads upstream, 24 metrics requested",
        ],
    );
    let (status, gone) = get_from(admin(rows(), None), "/metric?definition=x&scope=y").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(gone.body().contains("No such metric"), "{}", gone.body());
    let mut of_rule = row("pods/load", "team-a", MetricState::Fresh);
    of_rule.definition = MetricRow::OF_RULE.to_owned();
    let mut other = of_rule.clone();
    other.query = "sum(other)".to_owned();
    let link = other.link();
    let (_, found) = get_from(admin(vec![of_rule, other], None), &link).await;
    assert!(found.body().contains("<code>sum(other)</code>"), "{}", found.body());
}

#[tokio::test]
async fn rows_are_sorted_by_any_column() {
    let mut rows = rows();
    rows[0].value = Some("1500m".to_owned());
    rows[2].hpas = 9;
    let order = async |sort: &str| {
        let (_, answer) =
            get_from(admin(rows.clone(), None), &format!("/api/metrics?sort={sort}")).await;
        let answer: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
        names(&answer).join(" ")
    };
    for (sort, expected) in [
        ("-name", "orders mails jobs"),
        ("state", "mails orders jobs"),
        // Without a value it comes last, both ways.
        ("value", "jobs orders mails"),
        ("-value", "orders jobs mails"),
        ("-use", "orders jobs mails"),
        ("odd", "jobs mails orders"),
    ] {
        assert_eq!(order(sort).await, expected, "{sort}");
    }
}

#[tokio::test]
async fn a_token_guards_everything_but_health() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let file = TokenFile::open(path.clone()).unwrap();
    let guarded = || admin(rows(), None).for_holders_of(Some(file.clone()));
    let ask = async |path: &str, token: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        read(guarded().router().oneshot(request).await.unwrap()).await
    };
    let others = ["/api/metrics", "/api/hpas", "/metrics", "/page.js", MAILS];
    for path in PAGES.into_iter().chain(others) {
        for wrong in [None, Some("0123456789abcdeF")] {
            let (status, refused) = ask(path, wrong).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            let challenge = refused.headers()[WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
            assert!(!refused.body().contains("jobs"), "{path}");
        }
        assert_eq!(ask(path, Some("0123456789abcdef")).await.0, StatusCode::OK, "{path}");
    }
    for path in ["/livez", "/readyz", "/healthz", "/readyz/ping"] {
        assert_eq!(ask(path, None).await.0, StatusCode::OK, "{path}");
    }
    std::fs::remove_file(&path).unwrap();
    let (status, _) = ask("/", Some("0123456789abcdef")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_configuration_has_a_page() {
    let (_, response) = get_from(admin(rows(), None), "/config").await;
    contains_all(
        response.body(),
        &[
            "<h2>&lt;Files&gt;</h2>",
            "<code>definitions.paths</code>",
            "&lt;folder&gt;",
            ">mistakes</span> taken over 1m 5s ago",
            "metrics.d/bad.yaml:3:5",
        ],
    );
}

#[tokio::test]
async fn hpas_have_a_page_and_json() {
    let (status, response) = get_from(admin(rows(), None), "/hpas").await;
    assert_eq!(status, StatusCode::OK);
    assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
    assert!(response.body().contains("No HPA asks for"), "{}", response.body());
    assert_eq!(json("/api/hpas?q=x").await["known"], false);
}

#[tokio::test]
async fn rules_are_told_bounded_and_escaped() {
    let told = &json("/api/metrics").await["rules"];
    assert_eq!((&told["customMetrics"], &told["externalMetrics"]), (&7.into(), &2.into()));
    assert_eq!((&told["seriesShapes"], &told["shapesWithoutMetric"]), (&30.into(), &4.into()));
    assert_eq!(told["ruleProblems"].as_array().unwrap().len(), 50);
    assert_eq!(told["ruleProblemsTotal"], 60);
    assert_eq!(
        told["ruleProblems"][0],
        "rules.yaml:1: rules[0]: the cluster has no resource <widget>"
    );
    assert_eq!(told["failingSeriesQueries"][0], "up{a=\"<b>\"}: refused");
    let (_, page) = get_from(admin(rows(), None), "/").await;
    let page = page.body();
    assert!(page.contains("Rules give 7 metrics of objects and 2 external metrics"), "{page}");
    assert!(page.contains("Rules that give no metrics, or fewer than they might (60)"), "{page}");
    assert!(page.contains("has no resource &lt;widget&gt;") && page.contains("and 10 more"));
    assert!(!page.contains("<widget>") && !page.contains("<b>\""));
}

#[tokio::test]
async fn thousands_of_metrics_are_paged() {
    let many: Vec<MetricRow> =
        (0..5000).map(|i| row(&format!("m{i:04}"), "team-a", MetricState::Fresh)).collect();
    let (_, response) = get_from(admin(many.clone(), None), "/browse?page=7").await;
    let page = response.body();
    assert!(page.contains(">m0600<") && page.contains(">m0699<") && !page.contains(">m0700<"));
    assert!(page.contains("page 7 of 50") && page.contains("?page=8\""), "{page}");
    assert!(page.len() < 350_000, "{}", page.len());
    let (_, last) = get_from(admin(many, None), "/browse?page=999999&q=m49").await;
    assert!(last.body().contains("100 of 5000 metrics"), "{}", last.body());
}

async fn served() -> (SocketAddr, TaskSet) {
    serving(rows()).await
}

async fn serving(rows: Vec<MetricRow>) -> (SocketAddr, TaskSet) {
    let (tasks, _) = TaskSet::new(Handle::current());
    let listener = crate::server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, admin(rows, None), &tasks);
    (address, tasks)
}

#[tokio::test]
async fn the_listener_answers_and_stops() {
    let (address, tasks) = served().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    let n = client.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 200 OK\r\n"));
    // The connection idles; stopping closes it instead of waiting for the client.
    tasks.stop().await;
    let rest = client.read(&mut answer).await.unwrap();
    assert_eq!(rest, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_head_is_dropped() {
    let (address, _tasks) = served().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let end = client.read_to_end(&mut rest).await;
    assert!(end.is_err() || rest.starts_with(b"HTTP/1.1 408 ") || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let (address, _tasks) = served().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(64 * 1024));
    // The server may close before everything is written.
    let _ = client.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 64];
    let n = client.read(&mut answer).await.unwrap_or(0);
    assert!(n == 0 || answer.starts_with(b"HTTP/1.1 431 "), "{:?}", &answer[..n]);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once() {
    let (address, _tasks) = served().await;
    let mut held = Vec::new();
    for _ in 0..listener::MAX_CONNECTIONS {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert_eq!(late.read(&mut [0; 8]).await.unwrap(), 0);
    // A place that becomes free is given away again.
    drop(held.pop());
    loop {
        let mut client = TcpStream::connect(address).await.unwrap();
        let _ = client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if client.read(&mut [0; 8]).await.is_ok_and(|n| n > 0) {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    let many = (0..1000).map(|i| row(&format!("m{i}"), "team-a", MetricState::Fresh)).collect();
    let (address, tasks) = serving(many).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    // More than the sockets' buffers hold.
    let request = "GET /browse?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40);
    client.write_all(request.as_bytes()).await.unwrap();
    let start = tokio::time::Instant::now();
    while tasks.len() < 2 {
        tokio::task::yield_now().await;
    }
    while tasks.len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(70), "the connection is still held");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
