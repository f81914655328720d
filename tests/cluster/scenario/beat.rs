//! How old what an HPA reads is, at the real pace of the HPA controller: a pass every 15 s, and
//! metrics that are refreshed every 15 s.
//!
//! Every metric's value is the time of its sample, so an HPA's status says which sample it got, and
//! the API server's audit log says when it asked. Nothing of this is the adapter's own account.
//!
//! Half of the metrics have one reader, their HPA, which is a steady beat. The other half are the
//! control, on the same controller, upstreams and adapter, in the same minutes: they are read besides,
//! all through the interval, so that no phase is better than another and the plain interval applies.
//! Where in the interval they are fetched is where that reader began, the same for all; their HPAs
//! are made at moments spread evenly over an interval, so every age there can be is there.
//!
//! A control plane of its own: the shared one's controller is fifteen times as fast. It disturbs
//! nobody, and runs beside the other tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::runtime::Runtime;

use crate::adapter::{Adapter, Installation, sum_of};
use crate::aws_fakes::{Queue, Sqs};
use crate::control_plane::{ControlPlane, Pace, run};
use crate::process::eventually;
use crate::reads::AuditedRead;
use crate::upstream::{Exposition, Prometheus};
use crate::workload::SOON;
use crate::world::{client, folders};

const NAMESPACE: &str = "beat";

/// The HPA controller's default, and the refresh interval of every metric here.
const BEAT: Duration = Duration::from_secs(15);

/// Metrics of each kind.
const METRICS: usize = 6;

/// A read of an HPA from which on its metric's refresh is locked to it: two are needed to see a beat,
/// a third may pass before a refresh looks at them, and the refresh after that has moved.
const LOCKED_FROM: usize = 4;

/// Reads of each HPA that are waited for.
const READS: usize = 8;

/// What is asked of the age at read: the median with the phase locked, and about half an interval
/// without.
const LOCKED: f64 = 2.0;
const PLAIN: std::ops::RangeInclusive<f64> = 5.5..=9.5;

/// Between two reads of a metric by somebody whose reads have no phase in the interval: two dozen
/// to an interval, and no whole number of them.
const RESTLESS: Duration = Duration::from_millis(637);

/// The fake queues' depths are set so often: the resolution of what they say.
const TOCK: Duration = Duration::from_millis(10);

/// The upstreams: the kinds of metrics, and a source for each half.
const KINDS: [(&str, bool); 4] =
    [("prometheus", true), ("prometheus", false), ("sqs", true), ("sqs", false)];

/// `sqs-plain`: the source, and what its metrics' names begin with.
fn group((kind, locked): (&str, bool)) -> String {
    format!("{kind}-{}", if locked { "locked" } else { "plain" })
}

fn metric(kind: (&str, bool), number: usize) -> String {
    format!("{}-{number}", group(kind))
}

/// Own threads that end with the test.
struct Threads {
    stop: Arc<AtomicBool>,
    running: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    fn new() -> Self {
        Self { stop: Arc::default(), running: Vec::new() }
    }

    /// Runs `step` again and again.
    fn repeat(&mut self, mut step: impl FnMut() + Send + 'static) {
        let ended = Arc::clone(&self.stop);
        self.running.push(std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                step();
            }
        }));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.running.drain(..) {
            // Its panic is shown where it happened; whatever it was for is missing then.
            let _ = thread.join();
        }
    }
}

/// What HPAs have shown: by metric, when it was seen and the time that is the value.
type Shown = Arc<Mutex<BTreeMap<String, Vec<(Timestamp, Timestamp)>>>>;

/// A cluster at the real pace, with nothing but this test in it.
struct Cluster {
    // Stopped in this order: the readers, the adapter, what it reads.
    threads: Threads,
    _adapter: Adapter,
    installation: Installation,
    client: kube::Client,
    runtime: Runtime,
    prometheus: Prometheus,
    queues: Arc<Sqs>,
    plane: ControlPlane,
    /// What values count from.
    base: Timestamp,
}

impl Cluster {
    fn start() -> Self {
        let (folder, logs) = folders();
        let (folder, logs) = (folder.join(NAMESPACE), logs.join(NAMESPACE));
        for folder in [&folder, &logs] {
            std::fs::create_dir_all(folder).expect("target/ is writable");
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plane = ControlPlane::start_at_pace(&folder, &logs, Pace::Default);
        let prometheus = Prometheus::start("prometheus", &folder, &logs, &Exposition::start());
        let queues = Arc::new(Sqs::start());
        let base = Timestamp::from_second(Timestamp::now().as_second()).expect("a time");
        let mut threads = Threads::new();
        set_depths(&mut threads, &queues, base);
        let installation =
            Installation::new(&plane, &folder, &logs, &sources(&prometheus, &queues));
        std::fs::write(installation.definitions.join("beat.yaml"), definitions(base))
            .expect("the folder is ours");
        let adapter = installation.start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let client = runtime.block_on(client(&plane.admin));
        let cluster = Self {
            threads,
            _adapter: adapter,
            installation,
            client,
            runtime,
            prometheus,
            queues,
            plane,
            base,
        };
        eventually("the cluster reaches the adapter", Duration::from_mins(1), || {
            let path = "/apis/external.metrics.k8s.io/v1beta1";
            run(cluster.plane.kubectl().args(["get", "--raw", path])).map(drop)
        });
        cluster
    }

    /// A Deployment of one pod, which need not be ready, for each HPA.
    fn deploy(&self) {
        self.plane.apply(&format!(
            "{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {NAMESPACE} }} }}"
        ));
        let mut text = String::new();
        for name in names() {
            let written = write!(
                text,
                "---\napiVersion: apps/v1\nkind: Deployment\n\
                 metadata: {{ name: {name}, namespace: {NAMESPACE} }}\n\
                 spec:\n  selector: {{ matchLabels: {{ app: {name} }} }}\n  \
                   template:\n    metadata: {{ labels: {{ app: {name} }} }}\n    \
                     spec: {{ automountServiceAccountToken: false, \
                 containers: [{{ name: web, image: registry.invalid/web }}] }}\n"
            );
            written.expect("writing to a String cannot fail");
        }
        self.plane.apply(&text);
        eventually("every Deployment counts its pod", Duration::from_mins(1), || {
            let mut get = self.plane.kubectl();
            get.args(["get", "deployments", "--namespace", NAMESPACE]);
            let text = run(get.arg("--output=jsonpath={.items[*].status.replicas}"))?;
            let counted = text.split_whitespace().filter(|replicas| *replicas == "1").count();
            if counted == names().count() { Ok(()) } else { Err(text) }
        });
    }

    /// Makes an HPA on each metric: the first of each kind at once, the others one by one over an
    /// interval.
    fn autoscale(&self) {
        let begin = Instant::now();
        for number in 0..METRICS {
            let at =
                BEAT * u32::try_from(number).expect("few") / u32::try_from(METRICS).expect("few");
            std::thread::sleep(at.saturating_sub(begin.elapsed()));
            let hpas: Vec<String> =
                KINDS.into_iter().map(|kind| hpa(&metric(kind, number))).collect();
            self.plane.apply(&hpas.join("---\n"));
        }
    }

    /// Notes what HPAs show as long as this lives.
    fn look(&self) -> Shown {
        let (shown, api) = (Shown::default(), Api::namespaced(self.client.clone(), NAMESPACE));
        let (notes, base) = (Arc::clone(&shown), self.base);
        drop(self.runtime.spawn(async move {
            let mut changes = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .boxed();
            loop {
                match changes.try_next().await {
                    Ok(Some(hpa)) => note(&notes, &hpa, base),
                    Ok(None) => return,
                    // The watcher starts again by itself.
                    Err(error) => eprintln!("watching HPAs: {error}"),
                }
            }
        }));
        shown
    }

    /// Reads every metric of the control again and again, through the aggregator; how often that went
    /// well.
    fn read_restlessly(&mut self) -> Arc<AtomicU64> {
        let pair = &self.plane.masters;
        let pem = [crate::read(&pair.key), crate::read(&pair.cert)].concat();
        let ca = reqwest::Certificate::from_pem(&crate::read(&self.plane.ca)).expect("PEM");
        let client = reqwest::Client::builder()
            .identity(reqwest::Identity::from_pem(&pem).expect("our own pair is whole"))
            .tls_certs_only([ca])
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client can be made");
        let plain: Vec<String> =
            KINDS.into_iter().filter(|(_, locked)| !locked).flat_map(names_of).collect();
        let pause = RESTLESS / u32::try_from(plain.len()).expect("few");
        let (handle, address) = (self.runtime.handle().clone(), self.plane.address.clone());
        let (mut next, mut due) = (plain.into_iter().cycle(), Instant::now());
        let reads = Arc::new(AtomicU64::new(0));
        let done = Arc::clone(&reads);
        self.threads.repeat(move || {
            let metric = next.next().expect("a cycle has no end");
            let path =
                format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/{metric}");
            let read = client.get(format!("{address}{path}"));
            match handle.block_on(async { read.send().await }) {
                Ok(answer) if answer.status().is_success() => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                other => eprintln!("{path}: {other:?}"),
            }
            due += pause;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        });
        reads
    }

    /// Calls to the upstream of a group so far, by its own account where it has one.
    fn calls(&self, kind: (&'static str, bool)) -> f64 {
        if kind.0 == "sqs" {
            let hits: u64 =
                names_of(kind).map(|queue| self.queues.hits("GetQueueAttributes", &queue)).sum();
            return as_f64(hits);
        }
        let source = format!("source=\"{}\"", group(kind));
        self.installation.counted("tidepole_upstream_calls_total", &[&source])
    }

    /// Queries that the Prometheus server says it was asked.
    fn asked(&self) -> f64 {
        let url = format!("{}/metrics", self.prometheus.url());
        let text = crate::http_get(&url).expect("the server tells its metrics");
        sum_of(&text, "prometheus_http_requests_total", &["handler=\"/api/v1/query\""])
    }
}

fn names_of(kind: (&'static str, bool)) -> impl Iterator<Item = String> {
    (0..METRICS).map(move |number| metric(kind, number))
}

/// Every metric, and the Deployment and the HPA on it.
fn names() -> impl Iterator<Item = String> {
    KINDS.into_iter().flat_map(names_of)
}

/// Makes the depth of every queue the milliseconds since `base`, again and again.
fn set_depths(threads: &mut Threads, queues: &Arc<Sqs>, base: Timestamp) {
    let queues = Arc::clone(queues);
    let names: Vec<String> =
        KINDS.into_iter().filter(|(kind, _)| *kind == "sqs").flat_map(names_of).collect();
    threads.repeat(move || {
        let since = Timestamp::now().duration_since(base).as_millis();
        let visible = u64::try_from(since).expect("the base is past");
        for name in &names {
            queues.queue(name, Queue { visible, ..Queue::default() });
        }
        std::thread::sleep(TOCK);
    });
}

fn sources(prometheus: &Prometheus, queues: &Sqs) -> String {
    KINDS
        .into_iter()
        .map(|kind| {
            let name = group(kind);
            match kind.0 {
                "sqs" => format!(
                    "  - {{ name: {name}, aws: {{ region: eu-west-1, endpointUrl: \"{}\" }} }}\n",
                    queues.server().url()
                ),
                _ => format!(
                    "  - {{ name: {name}, prometheus: {{ url: \"{}\" }} }}\n",
                    prometheus.url()
                ),
            }
        })
        .collect()
}

/// A definition of each metric. All are kept warm, so that the moment of their first fetch has
/// nothing to do with their HPA.
fn definitions(base: Timestamp) -> String {
    let one = |kind: (&'static str, bool), number| {
        let (name, source) = (metric(kind, number), group(kind));
        let question = match kind.0 {
            "sqs" => format!("sqs: {{ queues: [{name}], count: [visible] }}"),
            // Another question for each, or they would share a cell.
            _ => format!("prometheus: {{ query: 'time() - {} + 0 * {number}' }}", base.as_second()),
        };
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\n\
             metadata: {{ name: {name}, namespace: {NAMESPACE} }}\n\
             spec:\n  metric: {name}\n  source: {source}\n  {question}\n  \
               refresh: {}s\n  keepWarm: true\n",
            BEAT.as_secs()
        )
    };
    KINDS.into_iter().flat_map(|kind| (0..METRICS).map(move |n| one(kind, n))).collect()
}

fn hpa(metric: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n\
         metadata: {{ name: {metric}, namespace: {NAMESPACE} }}\n\
         spec:\n  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: {metric} }}\n  \
           maxReplicas: 1\n  metrics:\n    - type: External\n      external: \
         {{ metric: {{ name: {metric} }}, target: {{ type: AverageValue, averageValue: \"1\" }} }}\n"
    )
}

/// Notes which sample an HPA shows.
fn note(shown: &Shown, hpa: &HorizontalPodAutoscaler, base: Timestamp) {
    let Some(value) = crate::crowd::average(hpa) else { return };
    let number = quantity(value);
    // A queue's depth is in milliseconds.
    let seconds = if hpa.name_any().starts_with("sqs") { number / 1000.0 } else { number };
    let sample = base + Duration::from_secs_f64(seconds);
    let mut shown = shown.lock().expect("no holder panics");
    let notes = shown.entry(hpa.name_any()).or_default();
    if notes.last().is_none_or(|(_, last)| *last != sample) {
        notes.push((Timestamp::now(), sample));
    }
}

fn as_f64(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or_else(|_| panic!("few are counted here"), f64::from)
}

/// The number of a quantity as Kubernetes prints it.
fn quantity(text: &str) -> f64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let scale = match &text[digits.len()..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        other => panic!("{other} in {text}"),
    };
    digits.parse::<f64>().expect("quantities are numbers") * scale
}

/// How old the sample was that each read of an HPA got, in seconds, in the order of its reads.
fn ages(reads: &[AuditedRead], shown: &[(Timestamp, Timestamp)]) -> Vec<f64> {
    let next = reads.iter().skip(1).map(|read| read.received);
    let next = next.chain(std::iter::once(Timestamp::MAX));
    let age = |(read, next): (&AuditedRead, Timestamp)| {
        assert_eq!(read.code, 200, "{read:?}");
        // What the HPA shows until its next read. Unchanged when it got the same sample again.
        let (_, sample) = shown.iter().rev().find(|(at, _)| *at < next)?;
        Some(read.received.duration_since(*sample).as_secs_f64())
    };
    reads.iter().zip(next).filter_map(age).collect()
}

/// The value in the middle, and the one that a tenth lies above.
fn summary(mut ages: Vec<f64>) -> (f64, f64) {
    ages.sort_by(f64::total_cmp);
    let last = ages.len() - 1;
    (f64::midpoint(ages[last / 2], ages[last.div_ceil(2)]), ages[last * 9 / 10])
}

#[test]
fn at_the_real_beat_an_hpa_reads_what_is_about_a_second_old() {
    let mut cluster = Cluster::start();
    cluster.deploy();
    let shown = cluster.look();
    let restless = cluster.read_restlessly();
    let earliest = Instant::now();
    let calls_before: Vec<f64> = KINDS.map(|kind| cluster.calls(kind)).to_vec();
    let (begin, asked) = (Instant::now(), cluster.asked());
    cluster.autoscale();
    // The controller's first look at an HPA comes a period after the HPA.
    let patience = BEAT * u32::try_from(READS).expect("few") + SOON;
    let reads = eventually("every HPA has read often enough", patience, || {
        let reads = cluster.plane.hpa_reads(NAMESPACE);
        let least = names().map(|name| reads.get(&name).map_or(0, Vec::len)).min();
        if least >= Some(READS) { Ok(reads) } else { Err(format!("{least:?} reads")) }
    });
    // The last of them is shown soon after it was audited.
    std::thread::sleep(Duration::from_secs(1));
    let inner = begin.elapsed();
    let calls: Vec<f64> = KINDS
        .into_iter()
        .zip(calls_before)
        .map(|(kind, before)| cluster.calls(kind) - before)
        .collect();
    let outer = earliest.elapsed();
    let (asked, took) = (cluster.asked() - asked, begin.elapsed());
    let shown = shown.lock().expect("no holder panics").clone();
    let every =
        took.as_secs_f64() * 2.0 * as_f64(METRICS) / as_f64(restless.load(Ordering::Relaxed));
    assert!(every < 1.0, "the control was read by others every {every} s only");

    let of = |kind: (&'static str, bool)| {
        let each = names_of(kind).flat_map(|name| {
            let ages = ages(&reads[&name], &shown[&name]);
            println!("{name}: {ages:.2?}");
            ages.into_iter().skip(LOCKED_FROM)
        });
        summary(each.collect())
    };
    let intervals = took.as_secs_f64() / BEAT.as_secs_f64();
    for (pair, calls) in KINDS.chunks(2).zip(calls.chunks(2)) {
        let (kind, (locked, locked_p90), (plain, plain_p90)) =
            (pair[0].0, of(pair[0]), of(pair[1]));
        println!(
            "{kind}, refresh: 15s, read by the HPA controller every 15 s: age at read {locked:.2} s in \
             the median (p90 {locked_p90:.2} s), at the plain interval {plain:.2} s (p90 \
             {plain_p90:.2} s); {} and {} upstream calls for {METRICS} metrics in {intervals:.1} \
             intervals",
            calls[0], calls[1],
        );
        assert!(locked <= LOCKED, "{kind}: {locked} s");
        assert!(PLAIN.contains(&plain), "{kind}: {plain} s without a phase");
        // A phase that moves costs or saves half a call at most, and the window cuts one off.
        let most = as_f64(METRICS);
        assert!((calls[0] - calls[1]).abs() <= most, "{kind}: {calls:?} calls");
        // Both edges of the window may have a call of each metric, or none. The counts were taken
        // somewhere between the inner and the outer edges.
        let beats = |window: Duration| window.as_secs_f64() / BEAT.as_secs_f64();
        let range = (beats(inner) - 1.0) * most..=(beats(outer) + 1.0) * most;
        for calls in calls {
            assert!(range.contains(calls), "{kind}: {calls} calls, not in {range:?}");
        }
    }
    // The server's own count, which goes on while it is looked at.
    assert!((asked - calls[0] - calls[1]).abs() <= 4.0, "{asked} queries, {calls:?}");
}
