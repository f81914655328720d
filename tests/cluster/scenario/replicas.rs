//! Two replicas behind an aggregator that routes to endpoints (`--enable-aggregator-routing`), as the
//! replicas of a Service are reached: replaced one after the other, and killed, under fifty reads a
//! second.
//!
//! An `EndpointSlice` may not name loopback, so this needs addresses of its own: `tests/run` makes a
//! network namespace for it where that is allowed. What kubelet and the endpoint controller do is done
//! by the test, at the times at which they do it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::adapter::{binary, sum_of};
use crate::control_plane::{ControlPlane, Pace, run};
use crate::process::{Process, eventually};
use crate::read;
use crate::workload::SOON;
use crate::world::{HPA_CONTROLLER, folders};

/// Addresses of pods: as many as there are, counted from one. RFC 2544 sets 198.18.0.0/15 apart for
/// tests.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}

/// In a namespace of its own every port is free.
const PORTS: (u16, u16) = (6443, 8080);

/// What a replica's `server` is told that is to be as it is by default.
const DEFAULTS: &str = "limits: {}";

/// Between two reads: fifty a second.
const READ_EVERY: Duration = Duration::from_millis(20);

/// From the end of a container to an `EndpointSlice` without it: kubelet looks at its containers once
/// a second, the rest takes milliseconds.
const NOTICE: Duration = Duration::from_secs(1);

/// From a change of an `EndpointSlice` to the API server's using it, at most: it watches.
const HEARD: Duration = Duration::from_secs(10);

const READ: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/steady";

const METRIC: &str = "apiVersion: tidepole.dev/v1alpha1
kind: ExternalMetric
metadata: { name: steady, namespace: default }
spec: { keepWarm: true, simulated: { constant: 5 } }
";

/// The control plane with our manifests, and what replicas are started from.
struct Cluster {
    plane: ControlPlane,
    certificates: PathBuf,
    kubeconfig: PathBuf,
}

struct Replica {
    process: Process,
    address: Ipv4Addr,
}

impl Cluster {
    fn start() -> Self {
        let (folder, logs) = folders();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plane = ControlPlane::start_with(
            folder,
            logs,
            Pace::Never,
            &["--enable-aggregator-routing=true"],
        );
        let certificates = folder.join("certificates");
        let mut recipe = Command::new(crate::root().join("deploy/certificates/openssl.sh"));
        run(recipe.arg(&certificates)).expect("the certificate recipe works");
        let mut apply = plane.kubectl();
        apply.args(["apply", "--kustomize"]).arg(&certificates);
        run(&mut apply).expect("the manifests are accepted");
        let mut token = plane.kubectl();
        token.args(["--namespace=tidepole", "create", "token", "tidepole", "--duration=2h"]);
        let token = run(&mut token).expect("the ServiceAccount exists");
        let kubeconfig = plane.kubeconfig_with_token("tidepole", token.trim());
        Self { plane, certificates, kubeconfig }
    }

    /// Starts a replica as a pod is started, and waits until it is ready. `server`: a line of that
    /// part of its config.
    fn replica(&self, number: u8, server: &str) -> Replica {
        let (folder, logs) = folders();
        let name = format!("replica-{number}");
        let folder = folder.join(&name);
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        std::fs::write(folder.join("metrics.yaml"), METRIC).expect("the folder is ours");
        let address = address(number);
        let config = format!(
            "apiVersion: tidepole.dev/v1alpha1
kind: ServerConfig
server:
  listen: {address}:{api}
  tls: {{ certFile: {certificates}/tls.crt, keyFile: {certificates}/tls.key }}
  {server}
admin: {{ listen: \"{address}:{admin}\" }}
kubernetes: {{ kubeconfig: {kubeconfig} }}
sources: [{{ name: sim, simulated: {{}} }}]
definitions: {{ paths: [metrics.yaml] }}
",
            api = PORTS.0,
            admin = PORTS.1,
            certificates = self.certificates.display(),
            kubeconfig = self.kubeconfig.display(),
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, config).expect("the folder is ours");
        let mut command = Command::new(binary());
        command
            .args(["serve", "--log-format=text", "--config"])
            .arg(&file)
            .env("POD_NAMESPACE", "tidepole")
            .env("POD_NAME", &name)
            .env("NO_PROXY", "*")
            .env_remove("KUBECONFIG");
        let process = Process::start(&name, logs, &command);
        let mut replica = Replica { process, address };
        eventually("the replica is ready", SOON, || {
            replica.process.assert_running();
            replica.ask("/readyz")
        });
        replica
    }

    /// Makes these the endpoints of the Service, each ready or on its way out.
    fn route(&self, endpoints: &[(&Replica, bool)]) {
        let endpoints: Vec<String> = endpoints
            .iter()
            .map(|(replica, ready)| {
                format!(
                    "{{ addresses: [\"{}\"], conditions: {{ ready: {ready}, serving: true, \
                     terminating: {} }} }}",
                    replica.address, !ready
                )
            })
            .collect();
        self.plane.apply(&format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: tidepole-1
  namespace: tidepole
  labels: {{ kubernetes.io/service-name: tidepole }}
addressType: IPv4
ports: [{{ name: https, port: {}, protocol: TCP }}]
endpoints: [{}]
",
            PORTS.0,
            endpoints.join(", ")
        ));
    }

    /// A client of the API server that reads for the HPA controller.
    fn reader(&self) -> reqwest::Client {
        let pair = &self.plane.masters;
        let pem = [read(&pair.key), read(&pair.cert)].concat();
        let identity = reqwest::Identity::from_pem(&pem).expect("our own pair is whole");
        let ca = reqwest::Certificate::from_pem(&read(&self.plane.ca)).expect("it is PEM");
        let client = reqwest::Client::builder().identity(identity).tls_certs_only([ca]).no_proxy();
        // An HPA waits as long as the API server: a minute.
        client.timeout(Duration::from_mins(1)).build().expect("a client can be made")
    }

    /// Reads fifty times a second while something happens.
    fn under_load<T>(&self, what: impl FnOnce() -> T) -> (T, Reads) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.load(&stop));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
            stop.store(true, Ordering::SeqCst);
            let reads = Reads(load.join().expect("the load does not panic"));
            (result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), reads)
        })
    }

    fn load(&self, stop: &AtomicBool) -> Vec<Read> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (client, url) = (self.reader(), format!("{}{READ}", self.plane.address));
        runtime.expect("a runtime can be made").block_on(async {
            let mut reads = JoinSet::new();
            let mut beat = tokio::time::interval(READ_EVERY);
            // One that is late is not two at once.
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !stop.load(Ordering::SeqCst) {
                beat.tick().await;
                let request = client.get(&url).header("Impersonate-User", HPA_CONTROLLER);
                reads.spawn(async move {
                    let begin = Instant::now();
                    let failure = read_once(request).await.err();
                    Read { begin, end: Instant::now(), failure }
                });
            }
            reads.join_all().await
        })
    }
}

async fn read_once(request: reqwest::RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if status == 200 && text.contains("\"value\":\"5\"") {
        Ok(())
    } else {
        Err(format!("{status}: {text}"))
    }
}

impl Replica {
    fn ask(&self, path: &str) -> Result<String, String> {
        crate::http_get(&format!("http://{}:{}{path}", self.address, PORTS.1))
    }

    /// Reads that it has answered.
    fn reads(&self) -> f64 {
        self.counted("tidepole_reads_total", "outcome=\"ok\"")
    }

    fn counted(&self, name: &str, label: &str) -> f64 {
        sum_of(&self.ask("/metrics").expect("it tells its metrics"), name, &[label])
    }
}

struct Read {
    begin: Instant,
    end: Instant,
    failure: Option<String>,
}

struct Reads(Vec<Read>);

impl Reads {
    fn failed(&self) -> Vec<&Read> {
        self.0.iter().filter(|read| read.failure.is_some()).collect()
    }

    /// What failed when, for people.
    fn report(&self, since: Instant) -> String {
        let slowest = self.0.iter().map(|read| read.end - read.begin).max().unwrap_or_default();
        let failed = self.failed();
        let first = failed.first().map_or(String::new(), |read| {
            format!("; the first: {}", read.failure.as_deref().unwrap_or_default().trim())
        });
        let times = failed.iter().map(|read| read.begin.saturating_duration_since(since));
        format!(
            "{} reads, {} failed (the last began {:?} after it), the slowest took {slowest:.1?}{first}",
            self.0.len(),
            failed.len(),
            times.max().unwrap_or_default(),
        )
    }
}

/// Fails unless the addresses are there.
fn check_addresses(count: u8) {
    for number in 1..=count {
        if let Err(error) = TcpListener::bind((address(number), 0)) {
            panic!(
                "{}: {error}; this runs in a network namespace: `./tests/run more` makes one",
                address(number)
            );
        }
    }
}

#[test]
#[ignore = "needs a network namespace: ./tests/run more"]
fn replicas_are_replaced_and_killed_under_load() {
    check_addresses(5);
    let cluster = Cluster::start();
    // All their connections end under load, once a second. They serve on until the slice is changed,
    // however slow this machine is at that.
    let often = "shutdownGrace: 20s\n  limits: { recycleAfter: 1s }";
    let (one, two) = (cluster.replica(1, often), cluster.replica(2, often));
    cluster.route(&[(&one, true), (&two, true)]);
    let probe = cluster.reader();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let url = format!("{}{READ}", cluster.plane.address);
    eventually("the cluster reads from the replicas", SOON, || {
        let request = probe.get(&url).header("Impersonate-User", HPA_CONTROLLER);
        runtime.block_on(read_once(request))
    });

    // A rolling update: one more, then one goes, twice. A pod is told to end and taken out of the
    // slice at the same moment, and the API server may hear of the latter late.
    let begin = Instant::now();
    let ((three, four), reads) = cluster.under_load(|| {
        let replace = |old: Replica, other: &Replica, number: u8| {
            let new = cluster.replica(number, DEFAULTS);
            cluster.route(&[(&old, true), (other, true), (&new, true)]);
            eventually("the new one is read from", SOON, || {
                let reads = new.reads();
                if reads > 10.0 { Ok(()) } else { Err(format!("{reads} reads")) }
            });
            eventually("the old one has ended a connection", SOON, || {
                let name = "tidepole_server_connections_ended_total";
                let ended = old.counted(name, "reason=\"recycled\"");
                if ended > 0.0 { Ok(()) } else { Err(format!("{ended} connections")) }
            });
            let Replica { mut process, address } = old;
            process.signal("TERM");
            let old = Replica { process, address };
            std::thread::sleep(NOTICE);
            cluster.route(&[(&old, false), (other, true), (&new, true)]);
            let Replica { mut process, .. } = old;
            assert_eq!(process.wait(Duration::from_secs(45)), 0);
            cluster.route(&[(other, true), (&new, true)]);
            new
        };
        let three = replace(one, &two, 3);
        let four = replace(two, &three, 4);
        std::thread::sleep(NOTICE);
        (three, four)
    });
    println!("measured: a rolling update of two replicas: {}", reads.report(begin));
    assert!(reads.failed().is_empty());
    assert!(reads.0.len() > 100, "{} reads", reads.0.len());

    // A crash: until the slice says so, the API server sends every second read to nobody.
    let five = cluster.replica(5, DEFAULTS);
    let [mut killed, mut routed, mut heard] = [Instant::now(); 3];
    let (left, reads) = cluster.under_load(|| {
        std::thread::sleep(NOTICE);
        let Replica { mut process, .. } = three;
        killed = Instant::now();
        process.signal("KILL");
        assert_eq!(process.wait(SOON), 128 + 9);
        std::thread::sleep(NOTICE);
        cluster.route(&[(&four, true), (&five, true)]);
        routed = Instant::now();
        eventually("the API server has heard of it", HEARD, || {
            let reads = five.reads();
            if reads > 0.0 { Ok(()) } else { Err("no read of the new one".to_owned()) }
        });
        heard = Instant::now();
        std::thread::sleep(NOTICE);
        (four, five)
    });
    println!(
        "measured: kill -9 of one of two: {}; the slice was changed {:?} after it",
        reads.report(killed),
        routed - killed
    );
    for read in reads.failed() {
        assert!(read.end >= killed, "{:?} before the kill", read.failure);
        assert!(read.begin < heard, "{:?} after the API server used the new slice", read.failure);
    }
    assert!(reads.0.iter().any(|read| read.begin > heard), "reads went on");
    assert!(left.0.reads() > 0.0 && left.1.reads() > 0.0, "both are read from");
    for mut process in [left.0.process, left.1.process].map(|mut process| {
        process.signal("TERM");
        process
    }) {
        assert_eq!(process.wait(Duration::from_secs(45)), 0);
    }
}
