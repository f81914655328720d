//! What five thousand metric resources and a thousand HPAs cost: a measurement, not a test of every
//! run. It takes about twenty minutes, because statuses are written ten a second, and its figures
//! are those of a machine that does nothing else:
//!
//! ```text
//! cargo build --release
//! TIDEPOLE_BIN=$PWD/target/release/tidepole ./tests/run cluster scenario::scale --ignored --nocapture
//! ```
//!
//! `TIDEPOLE_SCALE=500` makes it 500 resources and 100 HPAs, and eight minutes.
//!
//! Every figure is printed in a line that begins with `measured:`; what misses its target is listed at
//! the end, and fails. No controller runs: what is measured is the adapter, not who reads from it.

mod crowd;
mod front;
mod usage;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::adapter::Installation;
use crate::aws_fakes::{Reply, Request, Upstream};
use crate::control_plane::{ControlPlane, Pace};
use crate::process::{Process, eventually};
use crate::world;
use crowd::{NAMESPACES, hpas, metric, namespace, resources};
use front::Front;
use usage::{Spent, resident};

/// How long Prometheus takes for a query.
const ANSWER: Duration = Duration::from_millis(50);

/// How long a steady state is looked at.
const WINDOW: Duration = Duration::from_mins(1);

/// Changes that are timed.
const CHANGES: usize = 50;

/// From the start of the process to `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// From the write of a resource to the read that is answered by it.
const SERVED_WITHIN: Duration = Duration::from_millis(500);

/// Resident memory.
const MEMORY: u64 = 100 << 20;

/// Of one core, in percent: what following resources and HPAs and writing statuses takes.
const CONTROL_PERCENT: f64 = 2.0;

/// Statuses and Events, in any second.
const WRITES_A_SECOND: usize = 10;

/// How often an HPA is computed.
const HPA_PERIOD: Duration = Duration::from_secs(15);

/// How the refresh interval stands in the config, and what it becomes.
const REFRESH: (&str, &str) = ("refresh: 1s", "refresh: 15s");

/// So seldom that nothing is refreshed while it is measured.
const HOURLY: &str = "refresh: 1h, maxAge: 2h";

/// A control plane of its own, with everything in it.
struct Scale {
    plane: ControlPlane,
    prometheus: Upstream,
    installation: Installation,
    client: Client,
    runtime: Runtime,
    missed: Vec<String>,
}

/// A running adapter.
struct Running {
    process: Process,
    pid: u32,
}

impl Scale {
    fn start(name: &str) -> Self {
        let (folder, logs) = world::folders();
        let (folder, logs) = (folder.join(name), logs.join(name));
        for folder in [&folder, &logs] {
            std::fs::create_dir_all(folder).expect("target/ is writable");
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plane = ControlPlane::start_at_pace(&folder, &logs, Pace::Never);
        let prometheus = Upstream::start(answer);
        let sources =
            format!("  - {{ name: main, prometheus: {{ url: \"{}\" }} }}\n", prometheus.url());
        let installation = Installation::new(&plane, &folder, &logs, &sources);
        installation.rewrite(REFRESH.0, REFRESH.1);
        let runtime = Runtime::new().expect("a runtime can be made");
        let client = runtime.block_on(world::client(&plane.admin));
        let scale = Self { plane, prometheus, installation, client, runtime, missed: Vec::new() };
        let begin = Instant::now();
        scale.runtime.block_on(crowd::make(&scale.plane, &scale.client));
        println!(
            "measured: {} resources and {} HPAs in {NAMESPACES} namespaces made in {:.1?}",
            resources(),
            hpas(),
            begin.elapsed()
        );
        scale
    }

    /// Fails when targets were missed.
    fn end(self) {
        assert!(self.missed.is_empty(), "targets are missed:\n{}", self.missed.join("\n"));
    }

    /// Notes a target that is missed.
    fn check(&mut self, holds: bool, what: String) {
        println!("measured: {what}");
        if !holds {
            self.missed.push(what);
        }
    }

    /// Starts an adapter and measures until it is ready.
    fn launch(&mut self, installation: &Installation, when: &str) -> Running {
        let asked = self.prometheus.hits();
        let begin = Instant::now();
        let mut process = installation.launch();
        while let Err(error) = installation.admin("/readyz") {
            process.assert_running();
            assert!(begin.elapsed() < Duration::from_mins(2), "not ready: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let took = begin.elapsed();
        let asked = self.prometheus.hits() - asked;
        self.check(took < READY_WITHIN, format!("{when}: ready after {took:.2?}, {asked} queries"));
        let log = process.log();
        let said = |words: &str| log.lines().rev().find(|line| line.contains(words));
        for words in ["metric resources are in use", "what HPAs refer to was fetched"] {
            println!("          {}", said(words).unwrap_or_default());
        }
        let pid = usage::child_of(process.supervisor(), "tidepole");
        self.memory(pid, &format!("{when}, when it is ready"));
        Running { process, pid }
    }

    fn memory(&mut self, pid: u32, when: &str) {
        let bytes = resident(pid);
        let text = format!("{when}: {:.1} MiB resident", mebibytes(bytes));
        self.check(bytes < MEMORY, text);
    }

    /// What a process spends while nothing but time passes; in percent of a core.
    fn spend(&self, running: &Running, what: &str, meanwhile: impl FnOnce(&Self)) -> f64 {
        let asked = self.prometheus.hits();
        let before = Spent::of(running.pid);
        meanwhile(self);
        let spent = Spent::of(running.pid).since(&before);
        let asked = self.prometheus.hits() - asked;
        println!("measured: {what}: {spent}, {asked} queries");
        spent.percent()
    }

    /// Waits until no status waits to be written any more.
    fn settle(&self) {
        let begin = Instant::now();
        let limit = Duration::from_secs(60 + resources() as u64 / 5);
        eventually("all statuses are written", limit, || {
            std::thread::sleep(Duration::from_secs(5));
            let waiting = self.installation.counted("tidepole_resource_status_pending", &[]);
            // Newer values go on waiting: some are due every second.
            if waiting < 250.0 { Ok(()) } else { Err(format!("{waiting} wait")) }
        });
        println!("measured: all statuses written {:.0?} later", begin.elapsed());
    }

    /// The most writes of the adapter in any second so far, as the audit log has them.
    fn writes(&mut self) {
        let mut times: Vec<i128> = self.plane.writes_of("system:serviceaccount:tidepole:tidepole");
        times.sort_unstable();
        let within = |(i, time): (usize, &i128)| {
            times[i..].iter().take_while(|other| **other - time < 1_000_000_000).count()
        };
        let most = times.iter().enumerate().map(within).max().unwrap_or_default();
        let count = times.len();
        // Ten, each a tenth of a second after the one before, lie in 0.9 s: an eleventh may come in
        // by what the network adds to one and not to the other.
        self.check(
            (1..=WRITES_A_SECOND + 1).contains(&most),
            format!("{count} statuses and Events written, {most} in the busiest second"),
        );
    }

    /// How long it takes from a write to the read that is answered by it.
    fn change(&mut self, front: &Front) {
        let (times, refused): (Vec<_>, Vec<_>) = self
            .runtime
            .block_on(async {
                let mut outcomes = Vec::new();
                for round in 0..CHANGES {
                    // Wanted ones and others, of all namespaces.
                    let number = round * 97 % resources();
                    let value = 1_000_001 + round;
                    let begin = Instant::now();
                    crowd::write(&self.client, number, value).await;
                    outcomes.push(front.until(number, value, begin).await);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                outcomes
            })
            .into_iter()
            .partition(Result::is_ok);
        assert!(refused.is_empty(), "{:?}", refused.first());
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        self.check(
            worst <= SERVED_WITHIN,
            format!("a changed resource is served {median:.0?} (median), {worst:.0?} (worst of {CHANGES}) after its write"),
        );
    }
}

/// Prometheus, as far as `vector(N)` goes.
fn answer(request: &Request) -> Reply {
    let query = request.parameter("query").unwrap_or_default();
    let value = query.rsplit_once("vector(").and_then(|(_, rest)| rest.split(')').next());
    let now = jiff::Timestamp::now().as_millisecond();
    let result = match value {
        Some(value) => format!(
            "[{{\"metric\":{{}},\"value\":[{}.{:03},\"{value}\"]}}]",
            now / 1000,
            now % 1000
        ),
        None => "[]".to_owned(),
    };
    let body = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{result}}}}}"
    );
    Reply::json(200, body).after(ANSWER)
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}

#[test]
#[ignore = "a measurement of 18 minutes: TIDEPOLE_BIN=$PWD/target/release/tidepole \
            ./tests/run cluster scenario::scale --ignored --nocapture"]
fn five_thousand_resources_and_a_thousand_hpas() {
    let _alone = alone();
    let mut scale = Scale::start("scale");
    let installation = scale.installation.clone();
    let front = Front::new(&scale.plane, std::slice::from_ref(&installation));

    let running = scale.launch(&installation, "first start");
    scale.change(&front);
    scale.settle();
    scale.writes();
    let all =
        scale.spend(&running, "steady, refreshing every 15 s", |_| std::thread::sleep(WINDOW));
    scale.memory(running.pid, "when all statuses are written");
    assert_eq!(running.process.stop(Duration::from_secs(45)), 0);

    let running = scale.launch(&installation, "another start");
    std::thread::sleep(Duration::from_secs(40));
    scale.change(&front);
    scale.memory(running.pid, "a minute after it");
    assert_eq!(running.process.stop(Duration::from_secs(45)), 0);

    // The same definitions from files: refreshing alone.
    installation.rewrite("definitions:", "resources: { enabled: false }\ndefinitions:");
    std::fs::write(installation.definitions.join("all.yaml"), crowd::file()).expect("it is ours");
    let running = scale.launch(&installation, "from files");
    std::thread::sleep(Duration::from_secs(40));
    let files = scale.spend(&running, "steady, from files", |_| std::thread::sleep(WINDOW));
    assert_eq!(running.process.stop(Duration::from_secs(45)), 0);
    installation.rewrite("resources: { enabled: false }\ndefinitions:", "definitions:");
    std::fs::remove_file(installation.definitions.join("all.yaml")).expect("it is there");
    scale.check(
        all - files < CONTROL_PERCENT,
        format!("what resources take beyond refreshing: {:.2} % of a core", all - files),
    );

    // Hardly anything is refreshed: the control side alone.
    installation.rewrite(REFRESH.1, HOURLY);
    let running = scale.launch(&installation, "refreshing every hour");
    std::thread::sleep(Duration::from_secs(45));
    let alone = scale.spend(&running, "steady, refreshing every hour", |_| {
        std::thread::sleep(WINDOW);
    });
    scale.check(alone < CONTROL_PERCENT, format!("the control side alone: {alone:.2} % of a core"));
    assert_eq!(running.process.stop(Duration::from_secs(45)), 0);
    installation.rewrite(HOURLY, REFRESH.1);

    scale.end();
}

/// Every HPA reads its metric every 15 s, of one replica or the other, and gets a new status.
#[test]
#[ignore = "a measurement of 4 minutes: TIDEPOLE_BIN=$PWD/target/release/tidepole \
            ./tests/run cluster scenario::scale --ignored --nocapture"]
fn two_replicas_for_a_thousand_hpas() {
    let _alone = alone();
    let mut scale = Scale::start("scale-two");
    let one = scale.installation.clone();
    let other = one.twin();
    let running = [scale.launch(&one, "replica 1"), scale.launch(&other, "replica 2")];
    let front = Front::new(&scale.plane, &[one, other]);
    let load = || async {
        let reads = front.load(WINDOW + Duration::from_secs(30));
        let statuses = crowd::touch(&scale.client, WINDOW + Duration::from_secs(30));
        futures::future::join(reads, statuses).await.0
    };
    let measure = || {
        // Connections, permissions and first reads are behind it by then.
        std::thread::sleep(Duration::from_secs(25));
        let before = running.each_ref().map(|running| Spent::of(running.pid));
        std::thread::sleep(WINDOW);
        [0, 1].map(|i| Spent::of(running[i].pid).since(&before[i]))
    };
    let (times, spent) = std::thread::scope(|scope| {
        let measured = scope.spawn(measure);
        let times = scale.runtime.block_on(load());
        (times, measured.join().expect("it does not panic"))
    });
    for (running, (spent, name)) in running.iter().zip(spent.iter().zip(["1", "2"])) {
        let memory = mebibytes(resident(running.pid));
        println!("measured: replica {name} of two: {spent}, {memory:.1} MiB resident");
    }
    println!("measured: {times}");
    for running in running {
        assert_eq!(running.process.stop(Duration::from_secs(45)), 0);
    }
    scale.end();
}

/// One measurement at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The times of requests.
struct Times(Vec<Duration>);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let count = times.len();
        write!(
            f,
            "{count} reads: {:.2?} (median), {:.2?} (99 %), {:.2?} (most)",
            at(50),
            at(99),
            at(100)
        )
    }
}

/// The path of a read.
fn path(number: usize) -> String {
    let (namespace, metric) = (namespace(number), metric(number));
    format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}")
}

/// The value in an answer.
fn value_of(list: &Value) -> Option<&str> {
    list["items"][0]["value"].as_str()
}

/// Where certificates of an installation are.
fn authority(installation: &Installation) -> PathBuf {
    installation.certificates.join("ca.crt")
}
