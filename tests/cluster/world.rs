//! The one environment that all tests of this binary share, started by whichever test is first.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::runtime::Runtime;

use crate::adapter::{Adapter, Installation, Sources};
use crate::aws_fakes::{CloudWatch, KeyRing, Sqs};
use crate::control_plane::{ControlPlane, run};
use crate::process::eventually;
use crate::upstream::{ACCESS_KEY, Exposition, Front, Hanging, Prometheus, Queues};

/// A control plane, upstreams and an installed adapter.
pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    pub(crate) exposition: Exposition,
    pub(crate) main: Prometheus,
    pub(crate) flaky: Prometheus,
    pub(crate) queues: Queues,
    /// Our own fake: there is no other that can do more than plain statistics.
    pub(crate) cloudwatch: CloudWatch,
    /// Fakes that misbehave when a test says so, as an upstream apart from the others.
    pub(crate) faulty_queues: Sqs,
    pub(crate) faulty_cloudwatch: CloudWatch,
    pub(crate) installation: Installation,
    pub(crate) client: kube::Client,
    pub(crate) logs: PathBuf,
    adapter: Mutex<Option<Adapter>>,
    runtime: Runtime,
}

/// Readers share the running adapter; a writer may stop it, break its certificate, or load it.
static GATE: RwLock<()> = RwLock::new(());
/// `None` when it could not be started: the first test has said why, the others need not try again.
static WORLD: OnceLock<Option<World>> = OnceLock::new();

fn world() -> &'static World {
    let start = || std::panic::catch_unwind(World::start).ok();
    WORLD.get_or_init(start).as_ref().expect("the world could not be started: see the first panic")
}

/// The world for a test that leaves the adapter alone.
pub(crate) struct Shared {
    world: &'static World,
    _gate: RwLockReadGuard<'static, ()>,
}

/// The world for a test that stops the adapter, changes how it is reached, stops what every test
/// reads from, or measures: the controllers work for it alone.
pub(crate) struct Exclusive {
    world: &'static World,
    _gate: RwLockWriteGuard<'static, ()>,
}

pub(crate) fn shared() -> Shared {
    // A test that failed says so itself; the world is put right by `Exclusive`'s drop.
    let gate = GATE.read().unwrap_or_else(PoisonError::into_inner);
    Shared { world: world(), _gate: gate }
}

pub(crate) fn exclusive() -> Exclusive {
    let gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
    Exclusive { world: world(), _gate: gate }
}

impl Deref for Shared {
    type Target = World;
    fn deref(&self) -> &World {
        self.world
    }
}

impl Deref for Exclusive {
    type Target = World;
    fn deref(&self) -> &World {
        self.world
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // The next test finds a running adapter even when this one failed half-way.
        if self.world.adapter().is_none() && !std::thread::panicking() {
            self.world.start_adapter();
        } else if self.world.adapter().is_none() {
            let world = self.world;
            // A second panic while unwinding would abort every other test.
            let restart = std::panic::AssertUnwindSafe(|| world.start_adapter());
            let restarted = std::panic::catch_unwind(restart);
            drop(restarted);
        }
    }
}

impl World {
    fn start() -> Self {
        let (folder, logs) = folders();
        // kube and the AWS client agree on one provider; rustls wants it said.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let exposition = Exposition::start();
        let (plane, main, flaky, queues) = std::thread::scope(|scope| {
            let main =
                scope.spawn(|| Prometheus::start("prometheus-main", folder, logs, &exposition));
            let flaky =
                scope.spawn(|| Prometheus::start("prometheus-flaky", folder, logs, &exposition));
            let queues = scope.spawn(|| Queues::start(folder, logs));
            let plane = ControlPlane::start(folder, logs);
            let why = "an upstream starts, or the panic above says why not";
            (plane, main.join().expect(why), flaky.join().expect(why), queues.join().expect(why))
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let client = runtime.block_on(client(&plane.admin));
        crate::workload::keep_pods_ready(client.clone());
        let hanging = Hanging::start();
        let (slow, partly) = (Front::slow(&main), Front::partly(&main));
        let cloudwatch = CloudWatch::start();
        cloudwatch.check_signatures(&KeyRing::with_user(ACCESS_KEY, ACCESS_KEY));
        let (faulty_queues, faulty_cloudwatch) = (Sqs::start(), CloudWatch::start());
        let sources = Sources {
            main: &main,
            flaky: &flaky,
            hanging: &hanging,
            slow: &slow,
            partly: &partly,
            queues: &queues,
            cloudwatch: &cloudwatch,
            faulty_queues: &faulty_queues,
            faulty_cloudwatch: &faulty_cloudwatch,
        };
        let installation = Installation::new(&plane, folder, logs, &sources.config());
        let world = Self {
            plane,
            exposition,
            main,
            flaky,
            queues,
            cloudwatch,
            faulty_queues,
            faulty_cloudwatch,
            installation,
            client,
            logs: logs.to_owned(),
            adapter: Mutex::new(None),
            runtime,
        };
        world.start_adapter();
        world
    }

    fn adapter(&self) -> MutexGuard<'_, Option<Adapter>> {
        self.adapter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the adapter and waits until the cluster reads from it. Only for [`Exclusive`].
    pub(crate) fn start_adapter(&self) {
        let adapter = self.installation.start();
        *self.adapter() = Some(adapter);
        // The aggregator retries a refused connection with growing pauses.
        eventually("the cluster reaches the adapter", Duration::from_mins(1), || {
            self.get_raw("/apis/external.metrics.k8s.io/v1beta1").map(|_| ())
        });
    }

    /// Takes the running adapter out, to be stopped or killed. Only for [`Exclusive`].
    pub(crate) fn take_adapter(&self) -> Adapter {
        self.adapter().take().expect("the adapter runs between tests")
    }

    /// Makes another installation's adapter the one that the cluster reads from. Only for
    /// [`Exclusive`], which has to point back to the world's own.
    pub(crate) fn point_to(&self, installation: &Installation) -> Result<(), String> {
        let patch = format!("{{\"spec\":{{\"service\":{{\"port\":{}}}}}}}", installation.port);
        let mut kubectl = self.plane.kubectl();
        kubectl.args(["patch", "apiservice", "v1beta1.external.metrics.k8s.io", "--type=merge"]);
        run(kubectl.args(["--patch", &patch])).map(drop)
    }

    /// What the adapter has logged, earlier runs included.
    pub(crate) fn adapter_log(&self) -> String {
        self.adapter().as_ref().map(|adapter| adapter.process.log()).unwrap_or_default()
    }

    /// Waits for an answer of the API server on the harness's own runtime, not for ever.
    pub(crate) fn wait<F: Future>(&self, answer: F) -> F::Output {
        // A call through the aggregator may hang as long as the adapter does.
        let bound = Duration::from_secs(20);
        let answer = self.runtime.block_on(async { tokio::time::timeout(bound, answer).await });
        answer.unwrap_or_else(|_| panic!("the API server did not answer within {bound:?}"))
    }

    /// `kubectl get --raw PATH` as an administrator, through the aggregator.
    pub(crate) fn get_raw(&self, path: &str) -> Result<String, String> {
        run(self.plane.kubectl().args(["get", "--raw", path]))
    }

    /// Status and body of an administrator's GET through the aggregator, as they are: kubectl hides
    /// the body of a 503 that is not JSON, and `kube` tries it again.
    pub(crate) fn get_body(&self, path: &str) -> Result<(u16, String), String> {
        let pair = &self.plane.masters;
        let pem = [crate::read(&pair.key), crate::read(&pair.cert)].concat();
        let identity = reqwest::Identity::from_pem(&pem).expect("our own pair is whole");
        let client = reqwest::Client::builder().identity(identity);
        self.get_https(client, &self.plane.ca, &format!("{}{path}", self.plane.address))
    }

    /// Status and body of a GET straight to the adapter, without any credentials.
    pub(crate) fn get_anonymously(&self, path: &str) -> Result<(u16, String), String> {
        let name = "tidepole.tidepole.svc";
        let port = self.installation.port;
        let client = reqwest::Client::builder().resolve(name, ([127, 0, 0, 1], port).into());
        let ca = self.installation.certificates.join("ca.crt");
        self.get_https(client, &ca, &format!("https://{name}:{port}{path}"))
    }

    fn get_https(
        &self,
        client: reqwest::ClientBuilder,
        ca: &Path,
        url: &str,
    ) -> Result<(u16, String), String> {
        let ca = reqwest::Certificate::from_pem(&crate::read(ca)).expect("an authority is PEM");
        // Shorter than `wait`'s own bound: a hanging read is an answer, too.
        let client = client.tls_certs_only([ca]).no_proxy().timeout(Duration::from_secs(10));
        let client = client.build().expect("a client can be made");
        let read = async {
            let answer = client.get(url).send().await?;
            let status = answer.status().as_u16();
            Ok((status, answer.text().await?))
        };
        self.wait(read).map_err(|error: reqwest::Error| format!("{error:?}"))
    }

    /// The values that one read of an external metric returns, by `labelSelector`.
    pub(crate) fn read(&self, namespace: &str, metric: &str, selector: &str) -> Vec<String> {
        let encoded =
            percent_encoding::utf8_percent_encode(selector, percent_encoding::NON_ALPHANUMERIC);
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}\
             ?labelSelector={encoded}"
        );
        let text = self.get_raw(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let list: serde_json::Value = serde_json::from_str(&text).expect("answers are JSON");
        let items = list["items"].as_array().expect("items are a list");
        let mut values: Vec<String> = items
            .iter()
            .map(|item| item["value"].as_str().expect("quantities are strings").to_owned())
            .collect();
        values.sort();
        values
    }

    /// Every audited review of kind `subjectaccessreviews` or `tokenreviews` so far.
    pub(crate) fn reviews(&self, resource: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.plane.audit_log).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|event| event["objectRef"]["resource"] == resource)
            .map(|mut event| event["responseObject"].take())
            .collect()
    }
}

impl World {
    /// The sum of the adapter's samples of one name whose labels contain all of `labels`.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        self.installation.counted(name, labels)
    }

    /// Fails unless the `APIService` of external metrics is available and both listeners of the
    /// adapter say that it is ready.
    pub(crate) fn check_available(&self) -> Result<(), String> {
        let mut get = self.plane.kubectl();
        get.args(["get", "apiservice", "v1beta1.external.metrics.k8s.io", "--output"]);
        let text = run(get.arg("jsonpath={.status.conditions[?(@.type=='Available')]}"))?;
        let condition: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if condition["status"] != "True" || condition["reason"] != "Passed" {
            return Err(text);
        }
        self.installation.admin("/readyz")?;
        match self.get_anonymously("/readyz")? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

/// Who the HPA controller is, here and in a cluster made by kubeadm.
pub(crate) const HPA_CONTROLLER: &str =
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

pub(crate) async fn client(kubeconfig: &Path) -> kube::Client {
    let text = Kubeconfig::read_from(kubeconfig).expect("our own kubeconfig is readable");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(text, &options);
    let config = config.await.expect("our own kubeconfig is complete");
    kube::Client::try_from(config).expect("a client can be made")
}

/// This run's folder, and the folder of logs, which are kept until the next run.
pub(crate) fn folders() -> (&'static Path, &'static Path) {
    static FOLDERS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (folder, logs) = FOLDERS.get_or_init(make_folders);
    (folder, logs)
}

fn make_folders() -> (PathBuf, PathBuf) {
    let base = crate::root().join("target/cluster");
    let (runs, logs) = (base.join("run"), base.join("logs"));
    for old in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
        let pid = old.file_name();
        if !Path::new("/proc").join(&pid).exists() {
            // Left by a run that is over; a leftover that cannot be removed does no harm.
            let _ = std::fs::remove_dir_all(old.path());
        }
    }
    let folder = runs.join(std::process::id().to_string());
    let _ = std::fs::remove_dir_all(&logs);
    for folder in [&folder, &logs] {
        std::fs::create_dir_all(folder).expect("target/ is writable");
    }
    (folder, logs)
}

/// `kubectl` for what needs no cluster.
pub(crate) fn kubectl() -> Command {
    Command::new(crate::control_plane::binaries().join("kubectl"))
}

/// The server's version as it names itself, for instance `v1.34.4`.
pub(crate) fn server_version(world: &World) -> String {
    let version = world.get_raw("/version").expect("the API server tells its version");
    let version: serde_json::Value = serde_json::from_str(&version).expect("answers are JSON");
    version["gitVersion"].as_str().expect("every API server has one").to_owned()
}

/// 34 of `v1.34.4`.
pub(crate) fn minor_version(world: &World) -> u32 {
    let version = server_version(world);
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.unwrap_or_else(|| panic!("{version} is no version"))
}
