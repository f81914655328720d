//! The status pages in a real browser: what is shown with and without a script, light and dark, wide and
//! narrow, with ten thousand metrics and with what users may write into names, labels and errors. The
//! pictures are in `target/tmp/status-page`, for people to look at.
//!
//! Needs Chromium: `./tests/run more` runs it where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jiff::Timestamp;
use serde_json::json;
use tidepole::cache::QueryCell;
use tidepole::model::{
    Decimal, Exchange, FetchError, Labels, Probe, ProbeReport, Problem, Query, QuerySpec, Sample,
    Series, ServerState, SimulatedQuery, SourceName, Tick,
};
use tidepole::runtime::admin::{
    self, Admin, Configuration, Detail, Inventory, MetricRow, MetricState, Reloaded, Roots,
    Section, SourceCost, UpstreamRow,
};
use tidepole::task::TaskSet;
use tokio::runtime::Handle;

/// What a user may write: it would change the title if it ran.
const ATTACK: &str = "<script>document.title='taken over'</script><img src=x onerror=alert(1)>";

/// The end of the hour that is shown.
const NOW: u64 = 10_000_000;

/// Metrics on the pages.
const METRICS: u32 = 10_000;

struct Process;

impl ServerState for Process {
    fn probe(&self, _: Probe) -> Vec<ProbeReport> {
        let failing = format!("queries of HPAs are not tried yet {ATTACK}");
        vec![
            ProbeReport { name: "ping", failure: None },
            ProbeReport { name: "definitions", failure: None },
            ProbeReport { name: "hpas", failure: Some(failing) },
        ]
    }

    fn metrics_text(&self) -> String {
        "# EOF\n".to_owned()
    }
}

struct Shown {
    rows: Vec<MetricRow>,
    looks: AtomicU64,
}

impl Inventory for Shown {
    fn metrics(&self) -> Vec<MetricRow> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.rows.clone()
    }

    fn problems(&self) -> Vec<Problem> {
        let message = format!("unknown field quer; did you mean query? {ATTACK}");
        vec![Problem::new("metrics.d/shop.yaml", message).at(12, 5).with_field("spec.prometheus")]
    }

    fn conflicts(&self) -> Vec<String> {
        Vec::new()
    }

    fn costs(&self) -> Vec<SourceCost> {
        vec![SourceCost {
            source: "aws".to_owned(),
            metrics_per_minute: 118.0,
            requests_per_minute: 24.5,
            dollars_per_month: 52.114,
            is_open_ended: true,
        }]
    }

    fn upstreams(&self) -> Vec<UpstreamRow> {
        let row = |source: &str, upstream: &str, breaker, overdue| UpstreamRow {
            source: source.to_owned(),
            upstream: upstream.to_owned(),
            breaker: Some(breaker),
            calls_per_second: Some(40.0),
            running: 2,
            queued: 17,
            overdue,
            lateness_seconds: 75.5,
        };
        vec![
            row("aws", "cloudwatch eu-west-1", "closed", 0),
            row("aws", "sqs eu-west-1 as arn:aws:iam::111122223333:role/metrics", "half-open", 0),
            row("main", "", "open", 12),
        ]
    }

    fn tick(&self) -> Tick {
        Tick(NOW)
    }

    fn detail(&self, row: &MetricRow) -> BoxFuture<'static, Detail> {
        let request = Exchange {
            operation: "GET https://prometheus.monitoring:9090/api/v1/query".to_owned(),
            target: String::new(),
            request: json!({"parameters": {"query": row.query, "time": "1763800000.000", "timeout": "5s"}}),
            answer: Err("not sent".to_owned()),
            took: Duration::ZERO,
        };
        let field = |name, value: &str| (name, value.to_owned());
        let detail = Detail {
            definition: vec![
                field("metric", &row.metric),
                field("refresh", "15s"),
                field("maxAge", "2m"),
                field("onNoData", "hold"),
                field("aggregate", "sum"),
            ],
            asked_by: format!("{} and 2 others", row.definition),
            requests: Some(vec![request]),
            cost: self.costs().pop(),
            hpas: Some(vec!["shop/checkout".to_owned(), "shop/worker".to_owned()]),
            hpas_total: 2,
        };
        ready(detail).boxed()
    }

    fn configuration(&self) -> Arc<Configuration> {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let source = vec![
            setting("prometheus.url", "https://prometheus.monitoring:9090/"),
            setting("prometheus.headers.X-Scope-OrgID", "(hidden)"),
            setting("prometheus.timeout", "5s"),
            setting("allowedNamespaces", ATTACK),
        ];
        let listeners =
            vec![setting("server.listen", "[::]:6443"), setting("admin.listen", "[::]:8080")];
        let section = |title: &str, settings| Section { title: title.to_owned(), settings };
        Arc::new(Configuration {
            sections: vec![section("Listeners", listeners), section("Source main", source)],
        })
    }

    fn reloaded(&self) -> Option<Reloaded> {
        Some(Reloaded { ago: Duration::from_secs(754), entries: 10_000, problems: 1 })
    }

    fn uptime(&self) -> Duration {
        // Every look is told from the one before.
        Duration::from_hours(50 + self.looks.load(Ordering::SeqCst))
    }
}

/// What an hour of fetches left: a wave, with the failures that `fails` says for the slot.
fn hour(number: u32, fails: impl Fn(u32) -> Option<FetchError>) -> Roots {
    let spec = QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(u64::from(number))));
    let query = Arc::new(Query { source: SourceName::new("main"), spec });
    let cell = QueryCell::new(query, Duration::from_secs(15), true);
    for slot in 0..240_u32 {
        let now = Tick(NOW - u64::from(240 - slot) * 15_000);
        let wave = ((f64::from(slot) / 19.0 + f64::from(number)).sin() * 90.0 + 120.0).round();
        let value = Decimal::from_f64(wave).expect("it is finite");
        let sample = || Sample {
            timestamp: Timestamp::UNIX_EPOCH,
            observed: now,
            series: vec![Series { labels: Labels::empty(), value: value.clone() }],
            without_number: Vec::new(),
            warnings: Vec::new(),
        };
        let result = fails(slot).map_or_else(|| Ok(sample()), Err);
        cell.complete(result, now, Timestamp::UNIX_EPOCH);
    }
    Roots { cell: Some(Arc::new(cell)), entry: None }
}

fn row(number: u32) -> MetricRow {
    let state = match number {
        1 => MetricState::Failed,
        2 => MetricState::Expired,
        3 => MetricState::Waiting,
        4 => MetricState::Servable,
        5 => MetricState::Idle,
        _ => MetricState::Fresh,
    };
    let timeout = || Some(FetchError::Timeout("no answer within 5s".into()));
    let roots = match number {
        0..100 => hour(number, |slot| match number {
            1 if slot > 190 => timeout(),
            4 if slot % 37 == 0 => timeout(),
            _ => None,
        }),
        _ => Roots::default(),
    };
    let has_value =
        !matches!(state, MetricState::Failed | MetricState::Waiting | MetricState::Idle);
    let error = match state {
        MetricState::Failed => Some(format!("no answer within 5s (source main) {ATTACK}")),
        MetricState::Servable => Some("HTTP 503: the server is overloaded".to_owned()),
        _ => None,
    };
    let namespace = match number % 3 {
        0 => "shop",
        1 => "bank",
        _ => "team-with-a-rather-long-name",
    };
    MetricRow {
        metric: if number == 0 {
            format!("a{ATTACK}")
        } else {
            format!("orders_waiting_{number:05}")
        },
        scope: namespace.to_owned(),
        labels: Labels::new([("queue", if number == 0 { ATTACK } else { "orders" })]),
        definition: format!("ExternalMetric {namespace}/orders-waiting-{number}"),
        origin: "metrics.d/shop.yaml:3".to_owned(),
        source: if number % 4 == 3 { "aws" } else { "main" }.to_owned(),
        source_kind: if number % 4 == 3 { "sqs" } else { "prometheus" },
        query: format!(
            "sum(rabbitmq_queue_messages_ready{{queue=\"orders-{number}\"}}) by (queue)"
        ),
        state,
        value: has_value.then(|| (number * 37 % 1000).to_string()),
        sample_age: has_value.then(|| Duration::from_secs(u64::from(number % 14 + 1))),
        timestamp: has_value.then_some(Timestamp::UNIX_EPOCH),
        notes: Vec::new(),
        last_error_age: error.as_ref().map(|_| Duration::from_secs(12)),
        last_error: error,
        refresh: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        wanted: state != MetricState::Idle,
        last_read_age: (state != MetricState::Idle).then(|| Duration::from_secs(7)),
        hpas: number % 4,
        unused: state == MetricState::Idle,
        upstream_reads: 4711,
        metrics_requested: None,
        apart: None,
        roots,
    }
}

/// A browser at the pages.
struct Browser {
    address: String,
    folder: PathBuf,
}

impl Browser {
    /// What it prints after looking at a page with these flags, and what its console said.
    fn run(&self, page: &str, flags: &[&str]) -> (String, String) {
        let profile = tempfile::tempdir().expect("there is a place for temporary files");
        let output = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--enable-logging=stderr",
            ])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(flags)
            .arg(format!("{}{page}", self.address))
            .output()
            .expect("chromium runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said: Vec<String> = text(&output.stderr)
            .lines()
            .filter(|line| line.contains("CONSOLE"))
            .map(str::to_owned)
            .collect();
        assert!(output.status.success(), "{page}: {}", text(&output.stderr));
        (text(&output.stdout), said.join("\n"))
    }

    /// The page as the browser understands it; nothing on it was refused or broken.
    fn dom(&self, page: &str, flags: &[&str]) -> String {
        let (dom, said) = self.run(page, &[&["--dump-dom"], flags].concat());
        assert_eq!(said, "", "{page}: the browser complains");
        assert!(!dom.contains("<title>taken over"), "{page}: {dom}");
        assert!(!dom.contains("<img src=\"x\""), "{page}: {dom}");
        dom
    }

    /// A picture of the page.
    fn picture(&self, name: &str, page: &str, size: &str, flags: &[&str]) -> Vec<u8> {
        let file = self.folder.join(format!("{name}.png"));
        let (shot, size) =
            (format!("--screenshot={}", file.display()), format!("--window-size={size}"));
        self.run(page, &[&[&shot[..], &size], flags].concat());
        let picture = fs::read(&file).expect("there is a picture");
        assert!(picture.len() > 10_000, "{name}: {} bytes show nothing", picture.len());
        picture
    }
}

const DARK: &str = "--blink-settings=preferredColorScheme=0";
const LIGHT: &str = "--blink-settings=preferredColorScheme=1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium: ./tests/run more"]
async fn the_pages_are_shown_by_a_browser() {
    let (tasks, _died) = TaskSet::new(Handle::current());
    let listener = tidepole::server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let rows: Vec<MetricRow> = (0..METRICS).map(row).collect();
    let link = |number: usize| {
        let MetricRow { definition, scope, .. } = &rows[number];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query =
            query.append_pair("definition", definition).append_pair("scope", scope).finish();
        format!("/metric?{query}")
    };
    let (good, failed, held) = (link(7), link(1), link(4));
    let shown = Arc::new(Shown { rows, looks: AtomicU64::new(0) });
    admin::serve(listener, Admin::new(Arc::new(Process), shown), &tasks);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    fs::create_dir_all(&folder).unwrap();
    let browser = Browser { address, folder };
    let looked = tokio::task::spawn_blocking(move || look(&browser, &good, &failed, &held));
    looked.await.unwrap();
    tasks.stop().await;
}

fn look(browser: &Browser, good: &str, failed: &str, held: &str) {
    let list = browser.dom("/browse", &[]);
    assert!(list.contains("<title>(2) Metrics – Tidepole</title>"), "{list}");
    assert_eq!(list.matches("<svg class=\"spark\"").count(), 100);
    assert!(list.contains("page 1 of 100") && list.contains("&lt;script&gt;document.title"));
    for (page, text) in [
        ("/", "half-open"),
        ("/browse?q=orders_waiting_09999", "1 of 10000 metrics"),
        (good, "a value was served throughout"),
        (failed, "; no value was served for"),
        ("/hpas", "runs without a cluster"),
        ("/config", "(hidden)"),
    ] {
        let dom = browser.dom(page, &[]);
        assert!(dom.contains(text), "{page}: {dom}");
    }
    // A page that does not look again has no script; the browser itself needs its engine here.
    for (page, text) in [("/?refresh=off", "half-open"), ("/browse?refresh=off", "page 1 of 100")] {
        let still = browser.dom(page, &[]);
        assert!(still.contains(text) && !still.contains("<script"), "{page}: {still}");
    }
    // The script looks again in place: half a minute of the browser's time.
    let first = uptime(&browser.dom("/", &[]));
    let later = uptime(&browser.dom("/", &["--virtual-time-budget=40000"]));
    assert!(later > first + 1, "{first} hours, then {later}: the page was looked at once");
    let light = browser.picture("overview", "/", "1400,1300", &[LIGHT]);
    let dark = browser.picture("overview-dark", "/", "1400,1300", &[DARK]);
    assert_ne!(light, dark);
    for (name, page, size, scheme) in [
        ("list", "/browse?sort=state", "1400,1000", LIGHT),
        ("list-narrow", "/browse", "520,1400", LIGHT),
        ("metric-failed", failed, "1400,1300", LIGHT),
        ("metric-held", held, "520,1600", LIGHT),
        ("metric-dark", failed, "1400,1300", DARK),
    ] {
        browser.picture(name, page, size, &[scheme]);
    }
}

/// The hours that a page says the server is up.
fn uptime(dom: &str) -> u64 {
    let told = dom.split_once(", up ").expect("it says so").1;
    let told = told.split_once('<').expect("the paragraph ends").0;
    let number =
        |text: &str, unit: char| text.trim_end_matches(unit).parse::<u64>().expect("a number");
    let (days, hours) = told.split_once(' ').unwrap_or((told, "0h"));
    number(days, 'd') * 24 + number(hours, 'h')
}
