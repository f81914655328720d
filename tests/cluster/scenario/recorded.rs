//! The prometheus-adapter's answers, from its successor: a rule file, the objects and the series
//! behind it are what they were when the original was asked, and so are the requests.
//!
//! A control plane of its own, without controllers, so that only the recorded objects are there. For
//! each rule file a Prometheus of its own and an adapter, started with the original's command line;
//! several at once, since most of it is waiting for scrapes. What Prometheus is asked is noted on the
//! way.
//!
//! What may differ is listed, with reasons, in `deploy/prometheus-adapter/differences.md`. A case
//! that differs and is not there fails, and so does one that is there and does not differ.

mod answer;
mod cases;
mod client;
mod promql;
mod tap;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::cases::{Case, RecordedRequest, Start};
use self::client::Client;
use self::promql::Promql;
use self::tap::{Heard, Tap};
use crate::control_plane::{ControlPlane, Pace, run};
use crate::process::{Process, eventually, free_port};
use crate::upstream::{Prometheus, expose};
use crate::world::folders;

/// Seconds since 1970 at which recorded counters were zero.
const COUNTED_SINCE: f64 = 1_700_000_000.0;

/// How old series have to be when there are counters among them: the longest range of a recorded
/// rate, and what a first scrape may be late.
const COUNTED: Duration = Duration::from_secs(12);

/// The same without counters: the range of a recorded subquery.
const SEEN: Duration = Duration::from_secs(3);

/// How long a start may take that comes to nothing: more than the recording's own patience.
const PATIENCE: Duration = Duration::from_mins(1);

/// A debug build's start is mostly one core's work, and the rest is waiting for scrapes.
const PER_CORE: usize = 2;

/// What differs, by case.
type Differences = BTreeMap<String, Vec<String>>;

/// Work that can be done beside other work.
enum Job {
    Requests(String),
    Start(Start),
}

/// What all jobs share.
struct Bench {
    plane: ControlPlane,
    client: Client,
    /// For starts: there is one series, and nobody asks about it.
    prometheus: Prometheus,
    folder: PathBuf,
    logs: PathBuf,
    listed: BTreeMap<String, String>,
}

#[test]
fn answers_and_starts_are_the_original_s() {
    let (folder, logs) = folders();
    let (folder, logs) = (folder.join("recorded"), logs.join("recorded"));
    for folder in [&folder, &logs] {
        fs::create_dir_all(folder).expect("target/ is writable");
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let plane = ControlPlane::start_at_pace(&folder, &logs, Pace::Never);
    apply_objects(&plane);
    let client = Client::new(&plane);
    let prometheus = scraping("starts", &folder, &logs, "up_total{namespace=\"prod\"} 1\n");
    let bench = Bench { plane, client, prometheus, folder, logs, listed: cases::listed() };

    let configs = cases::configs();
    // Those that have to wait for rates first.
    let (counting, plain): (Vec<String>, Vec<String>) =
        configs.into_iter().partition(|config| series(config).lines().any(is_counter));
    let requests = counting.into_iter().chain(plain).map(Job::Requests);
    let jobs: VecDeque<Job> = requests.chain(cases::starts().into_iter().map(Job::Start)).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (jobs, found) = (Mutex::new(jobs), Mutex::new(Differences::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores * PER_CORE {
            scope.spawn(|| {
                while let Some(job) = next(&jobs) {
                    let mut differ = match job {
                        Job::Requests(config) => bench.requests(&config),
                        Job::Start(start) => bench.start(&start),
                    };
                    found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut differ);
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);

    let unlisted = found.iter().filter(|(id, _)| !bench.listed.contains_key(*id));
    let unlisted = unlisted.map(|(id, what)| format!("{id} differs: {}", what.join("\n    ")));
    let settled = bench.listed.iter().filter(|(id, _)| !found.contains_key(*id));
    let settled =
        settled.map(|(id, reason)| format!("{id} is listed and does not differ: {reason}"));
    let wrong: Vec<String> = unlisted.chain(settled).collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn next(jobs: &Mutex<VecDeque<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// Applies the recorded objects; custom resources only when their definitions are in force.
fn apply_objects(plane: &ControlPlane) {
    let file = cases::folder().join("objects.yaml");
    let text = String::from_utf8(crate::read(&file)).expect("objects are text");
    let definitions: Vec<&str> = text
        .split("---\n")
        .filter(|document| document.contains("kind: CustomResourceDefinition\n"))
        .collect();
    plane.apply(&definitions.join("---\n"));
    let mut wait = plane.kubectl();
    wait.args(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    run(&mut wait).unwrap_or_else(|error| panic!("{error}"));
    eventually("all objects are there", Duration::from_mins(1), || {
        run(plane.kubectl().args(["apply", "--filename"]).arg(&file)).map(drop)
    });
}

/// The series of a rule file.
fn series(config: &str) -> String {
    let file = cases::folder().join("series").join(format!("{config}.prom"));
    String::from_utf8(crate::read(&file)).expect("an exposition is text")
}

/// Whether a line is a counter: its value is written `5t`.
fn is_counter(line: &str) -> bool {
    rate(line).is_some()
}

/// The series and the increase in a second.
fn rate(line: &str) -> Option<(&str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    Some((series, value.strip_suffix('t')?.parse().ok()?))
}

/// The exposition of this moment.
fn exposition(text: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let elapsed = now.as_secs_f64() - COUNTED_SINCE;
    let lines = text.lines().map(|line| match rate(line) {
        // With its own time, so that a late scrape makes no other rate.
        Some((series, rate)) => format!("{series} {} {}\n", rate * elapsed, now.as_millis()),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// A Prometheus server whose series have exactly the labels of the exposition. Waits until it has had
/// all of them for long enough.
fn scraping(name: &str, folder: &Path, logs: &Path, text: &str) -> Prometheus {
    let owned = text.to_owned();
    let port = expose(move || exposition(&owned));
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
         scrape_configs:\n- job_name: corpus\n  honor_labels: true\n  \
           static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n  \
           relabel_configs: [{{ target_label: instance, replacement: corpus }}]\n  \
           metric_relabel_configs:\n  \
           - {{ source_labels: [job], regex: corpus, target_label: job, replacement: '' }}\n  \
           - {{ source_labels: [instance], regex: corpus, target_label: instance, replacement: '' }}\n"
    );
    let server = Prometheus::start_with(&format!("prometheus-{name}"), folder, logs, &config);
    let is_sample = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let wanted = text.lines().filter(is_sample).count();
    let age = if text.lines().any(is_counter) { COUNTED } else { SEEN };
    // Without what Prometheus adds for the scrape.
    let query = format!("count({{__name__=~\".+\",job!=\"corpus\"}} offset {}s)", age.as_secs());
    let query = percent_encoding::utf8_percent_encode(&query, percent_encoding::NON_ALPHANUMERIC);
    let url = format!("{}/api/v1/query?query={query}", server.url());
    eventually(&format!("{name} has {wanted} series"), PATIENCE, || {
        let text = crate::http_get(&url)?;
        let answer: serde_json::Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
        let count = answer["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok());
        if count == Some(wanted) { Ok(()) } else { Err(text) }
    });
    server
}

/// A running adapter.
struct Adapter {
    process: Process,
    port: u16,
}

impl Drop for Adapter {
    /// Without the grace that requests get, which is seconds.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal("KILL");
        }
    }
}

impl Bench {
    /// Starts the adapter as the original was: `arguments` besides.
    fn adapter(&self, name: &str, rules: &Path, prometheus: &str, arguments: &[String]) -> Adapter {
        let port = free_port();
        let certificates = self.folder.join(format!("cert-{name}"));
        fs::create_dir_all(&certificates).expect("the folder is ours");
        let pair = self.plane.serving_certificate(name);
        for (file, named) in [(pair.cert, "apiserver.crt"), (pair.key, "apiserver.key")] {
            fs::copy(file, certificates.join(named)).expect("the folder is ours");
        }
        let mut command = Command::new(crate::adapter::binary());
        command
            .arg("prometheus-adapter")
            .arg(format!("--secure-port={port}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--cert-dir={}", certificates.display()))
            .arg(format!("--config={}", rules.display()))
            .arg(format!("--prometheus-url={prometheus}"));
        for client in ["lister", "authentication", "authorization"] {
            command.arg(format!("--{client}-kubeconfig={}", self.plane.admin.display()));
        }
        command
            .args(["--metrics-relist-interval=10m", "--metrics-max-age=10m"])
            .args(["--client-qps=500", "--client-burst=500"])
            .args(arguments)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env_remove("KUBECONFIG");
        let process = Process::start(&format!("adapter-{name}"), &self.logs, &command);
        Adapter { process, port }
    }

    fn is_ready(&self, adapter: &Adapter) -> Result<(), String> {
        let answer = self.client.get(adapter.port, "/readyz", &BTreeMap::new())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    }

    /// Asks what was asked of the original with a rule file.
    fn requests(&self, config: &str) -> Differences {
        let folder = cases::folder().join("configs");
        let (arguments, path) = arguments(&folder.join(format!("{config}.args")));
        let prometheus = scraping(config, &self.folder, &self.logs, &series(config));
        let tap = Tap::start(prometheus.address());
        let url = format!("{}{path}", tap.url());
        let rules = folder.join(format!("{config}.yaml"));
        let mut adapter = self.adapter(config, &rules, &url, &arguments);
        eventually(&format!("the adapter of {config} is ready"), PATIENCE, || {
            adapter.process.assert_running();
            self.is_ready(&adapter)
        });
        let cases = cases::requests(config);
        let mut found = Differences::new();
        let listing: BTreeSet<Heard> = tap.take().into_iter().collect();
        let differ = sets(&listing, &cases::series_requests(config));
        if !differ.is_empty() {
            found.insert(format!("{config}/series"), differ);
        }
        let mut asked = Asked::default();
        for case in &cases {
            let mut differ = self.ask(&adapter, case);
            differ.extend(asked.differences(case, &tap.take()));
            if !differ.is_empty() {
                differ.insert(0, case.path.clone());
                found.insert(case.id.clone(), differ);
            }
        }
        adapter.process.assert_running();
        if !asked.forms.is_empty() {
            let plain = Form { method: "GET", path: "/api/v1/query", headers: &[] };
            let recorded = cases.iter().find_map(|case| case.prom_requests.first());
            let recorded = recorded.map(RecordedRequest::heard);
            let form = recorded.as_ref().map_or(plain, Form::of);
            let others = asked.forms.iter().map(Form::of).filter(|other| *other != form);
            let differ: Vec<String> =
                others.map(|other| format!("asked by {other:?}, recorded {form:?}")).collect();
            if !differ.is_empty() {
                found.insert(format!("{config}/query"), differ);
            }
        }
        found
    }

    fn ask(&self, adapter: &Adapter, case: &Case) -> Vec<String> {
        match self.client.get(adapter.port, &case.path, &case.headers) {
            Ok(answer) => answer.differences(case),
            Err(error) => vec![error],
        }
    }

    /// Whether a start comes to nothing as the original's did.
    fn start(&self, start: &Start) -> Differences {
        let rules = cases::folder().join(&start.config);
        let mut adapter = self.adapter(&start.id, &rules, &self.prometheus.url(), &[]);
        let code = eventually(&format!("start {}", start.id), PATIENCE, || {
            if let Some(status) = adapter.process.ended() {
                return Ok(status.code());
            }
            self.is_ready(&adapter).map(|()| None)
        });
        let differ = match (start.exits, code) {
            (true, Some(code)) if code != 0 => return Differences::new(),
            (false, None) => return Differences::new(),
            (_, Some(code)) => format!("ends with {code}:\n{}", adapter.process.log()),
            (true, None) => "starts".to_owned(),
        };
        Differences::from([(start.id.clone(), vec![differ])])
    }
}

/// What a file with further arguments says: the arguments, and what follows the address of
/// Prometheus.
fn arguments(file: &Path) -> (Vec<String>, String) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (paths, arguments): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("prom_path "));
    let path = paths.iter().filter_map(|line| line.strip_prefix("prom_path ")).collect();
    (arguments.into_iter().map(str::to_owned).collect(), path)
}

fn sets(heard: &BTreeSet<Heard>, recorded: &BTreeSet<Heard>) -> Vec<String> {
    let not_asked = recorded.difference(heard).map(|one| format!("not asked: {one:?}"));
    not_asked.chain(heard.difference(recorded).map(|one| format!("asked: {one:?}"))).collect()
}

/// What was asked so far about one rule file's metrics.
#[derive(Default)]
struct Asked {
    ours: Vec<Promql>,
    theirs: Vec<Promql>,
    /// All requests.
    forms: BTreeSet<Heard>,
}

/// How a question is put.
#[derive(Debug, PartialEq, Eq)]
struct Form<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
}

impl<'a> Form<'a> {
    fn of(heard: &'a Heard) -> Self {
        Self { method: &heard.method, path: &heard.path, headers: &heard.headers }
    }
}

impl Asked {
    /// What differs between what was asked and recorded, by now. Values are kept, so what was asked
    /// before need not be asked again; and a question about all objects may come in place of one
    /// about some, when several are read, or after it.
    fn differences(&mut self, case: &Case, heard: &[Heard]) -> Vec<String> {
        self.theirs.extend(case.promql.iter().cloned());
        let mut differ = Vec::new();
        for request in heard {
            let query = request.parameters.iter().find(|(name, _)| name == "query");
            let Some((_, text)) = query else {
                differ.push(format!("asked {request:?}"));
                continue;
            };
            let query = Promql::new(text);
            if !self.theirs.iter().any(|known| query == *known || query.is_wider_than(known)) {
                differ.push(format!("asked {text}"));
            }
            self.forms.insert(request.clone());
            self.ours.push(query);
        }
        for query in &case.promql {
            if !self.ours.iter().any(|known| known == query || known.is_wider_than(query)) {
                differ.push(format!("did not ask {query:?}"));
            }
        }
        differ
    }
}
