//! etcd, kube-apiserver and kube-controller-manager on loopback, as a real cluster runs them:
//! RBAC, a client authority apart from the front-proxy authority, controllers with service
//! accounts of their own.
//!
//! There is no kubelet and no scheduler: see `workload` for how pods become ready.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::pki::{Authority, Pair, Usage, signing_key};
use crate::process::{Process, eventually, free_port};

/// Controllers that would act on pods whose node does not exist.
const CONTROLLERS: &str = "*,-pod-garbage-collector-controller,-node-lifecycle-controller,\
                           -taint-eviction-controller,-node-ipam-controller,\
                           -service-lb-controller,-node-route-controller,\
                           -cloud-node-lifecycle-controller";

/// Every SubjectAccessReview and TokenReview that anybody sends, with its body: the only place
/// where the identity that the adapter saw can be observed from outside. And who reads metrics when,
/// and writes statuses and Events when.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: RequestResponse
    resources:
      - { group: authorization.k8s.io, resources: [subjectaccessreviews] }
      - { group: authentication.k8s.io, resources: [tokenreviews] }
  - level: Metadata
    resources: [{ group: external.metrics.k8s.io }, { group: custom.metrics.k8s.io }]
  - level: Metadata
    verbs: [create, patch]
    resources:
      - { group: tidepole.dev, resources: ['*/status'] }
      - { group: events.k8s.io, resources: [events] }
  - level: None
";

/// How often HPAs are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Every second, a fifteenth of the default, with the default request budget raised to match.
    Quick,
    /// As by a controller manager that is told nothing: every 15 s, by five workers, with 20
    /// requests a second for each of the controller's clients.
    Default,
    /// Never, nor does any other controller do anything: objects stay as they were written. Nobody
    /// makes service accounts, so pods need none.
    Never,
}

/// A running control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    /// Kubeconfig of a member of `system:masters`.
    pub(crate) admin: PathBuf,
    /// `https://127.0.0.1:<port>`
    pub(crate) address: String,
    /// The authority of the API server's own certificate.
    pub(crate) ca: PathBuf,
    pub(crate) kubectl: PathBuf,
    /// Certificate and key of the administrator.
    pub(crate) masters: Pair,
    pub(crate) audit_log: PathBuf,
    /// Certificate and key of the aggregator, by which it says whom it asks for.
    pub(crate) front_proxy: Pair,
    clients: Authority,
    folder: PathBuf,
    // Stopped in this order.
    controllers: Mutex<Controllers>,
    _api_server: Process,
    _etcd: Process,
}

impl ControlPlane {
    /// Starts all three in `folder` with logs in `logs`, and waits until they are ready. HPAs are
    /// computed every second.
    pub(crate) fn start(folder: &Path, logs: &Path) -> Self {
        Self::start_at_pace(folder, logs, Pace::Quick)
    }

    /// The same, with another pace of the HPA controller.
    pub(crate) fn start_at_pace(folder: &Path, logs: &Path, pace: Pace) -> Self {
        Self::start_with(folder, logs, pace, &[])
    }

    /// The same, with flags of the API server besides the usual ones.
    pub(crate) fn start_with(folder: &Path, logs: &Path, pace: Pace, flags: &[&str]) -> Self {
        let binaries = binaries();
        let etcd = start_etcd(&binaries, folder, logs);

        let clients = Authority::new(folder, "clients-ca");
        let proxies = Authority::new(folder, "front-proxy-ca");
        let serving = clients.issue(
            "kube-apiserver",
            None,
            &["127.0.0.1", "localhost", "kubernetes.default.svc"],
            Usage::Server,
        );
        let proxy = proxies.issue("front-proxy-client", None, &[], Usage::Client);
        let (private, public) = signing_key(folder);
        let policy = folder.join("audit-policy.yaml");
        std::fs::write(&policy, AUDIT_POLICY).expect("the folder is ours");
        let audit_log = logs.join("audit.log");
        // Reviews of an earlier run would be mistaken for this one's.
        let _ = std::fs::remove_file(&audit_log);

        let port = free_port();
        let address = format!("https://127.0.0.1:{port}");
        let mut api_server = Command::new(binaries.join("kube-apiserver"));
        api_server
            .arg(format!("--etcd-servers={}", etcd.1))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(flag("--tls-cert-file", &serving.cert))
            .arg(flag("--tls-private-key-file", &serving.key))
            .arg(flag("--client-ca-file", &clients.file))
            .arg(flag("--requestheader-client-ca-file", &proxies.file))
            .arg("--requestheader-allowed-names=front-proxy-client")
            .arg("--requestheader-username-headers=X-Remote-User")
            .arg("--requestheader-group-headers=X-Remote-Group")
            .arg("--requestheader-extra-headers-prefix=X-Remote-Extra-")
            .arg(flag("--proxy-client-cert-file", &proxy.cert))
            .arg(flag("--proxy-client-key-file", &proxy.key))
            .arg("--authorization-mode=RBAC")
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .arg(flag("--service-account-signing-key-file", &private))
            .arg(flag("--service-account-key-file", &public))
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg(flag("--audit-policy-file", &policy))
            .arg(flag("--audit-log-path", &audit_log))
            .arg("--v=2")
            .args(flags);
        if matches!(pace, Pace::Never) {
            api_server.arg("--disable-admission-plugins=ServiceAccount");
        }
        let mut api_server = Process::start("kube-apiserver", logs, &api_server);

        let kubectl = binaries.join("kubectl");
        let config = Kubeconfigs { folder, address: &address, ca: &clients.file };
        let masters = clients.issue("admin", Some("system:masters"), &[], Usage::Client);
        let admin = config.with_certificate("admin", &masters);
        eventually("kube-apiserver is ready", Duration::from_mins(1), || {
            api_server.assert_running();
            let mut ready = Command::new(&kubectl);
            ready.arg(flag("--kubeconfig", &admin)).args(["get", "--raw", "/readyz"]);
            run(&mut ready).map(|_| ())
        });

        let controllers = clients.issue("system:kube-controller-manager", None, &[], Usage::Client);
        let controllers = config.with_certificate("controller-manager", &controllers);
        let mut manager = Command::new(binaries.join("kube-controller-manager"));
        manager
            .arg(flag("--kubeconfig", &controllers))
            .arg(flag("--authentication-kubeconfig", &controllers))
            .arg(flag("--authorization-kubeconfig", &controllers))
            .args(["--bind-address=127.0.0.1", "--leader-elect=false"])
            .arg(format!("--secure-port={}", free_port()))
            .arg(flag("--service-account-private-key-file", &private))
            .arg(flag("--root-ca-file", &clients.file))
            .arg("--use-service-account-credentials")
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg("--v=2");
        let manager =
            Controllers { command: manager, logs: logs.to_owned(), starts: 0, process: None };

        let plane = Self {
            admin,
            masters,
            address,
            ca: clients.file.clone(),
            kubectl,
            audit_log,
            front_proxy: proxy,
            clients,
            folder: folder.to_owned(),
            controllers: Mutex::new(manager),
            _api_server: api_server,
            _etcd: etcd.0,
        };
        plane.controllers(pace);
        plane
    }

    /// Starts the controller manager at a pace, in place of the running one if there is one, and
    /// waits for its HPA controller. Only for who has the world for itself.
    pub(crate) fn controllers(&self, pace: Pace) {
        let mut controllers = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = controllers.process.take() {
            running.stop(Duration::from_secs(20));
        }
        let mut command = Command::new(controllers.command.get_program());
        command.args(controllers.command.get_args());
        match pace {
            Pace::Never => return,
            Pace::Default => {}
            Pace::Quick => {
                command
                    .arg("--horizontal-pod-autoscaler-sync-period=1s")
                    .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
            }
        }
        let mut process = Process::start("kube-controller-manager", &controllers.logs, &command);
        eventually("the HPA controller starts", Duration::from_mins(1), || {
            process.assert_running();
            let starts = process.log().matches("Starting HPA controller").count();
            if starts > controllers.starts { Ok(()) } else { Err(format!("{starts} starts")) }
        });
        controllers.starts += 1;
        controllers.process = Some(process);
    }

    /// A kubeconfig that authenticates with a bearer token.
    pub(crate) fn kubeconfig_with_token(&self, name: &str, token: &str) -> PathBuf {
        self.kubeconfigs().write(name, &format!("{{ token: {token} }}"))
    }

    /// A kubeconfig for a client certificate of `user`.
    pub(crate) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        let pair = self.clients.issue(user, None, &[], Usage::Client);
        self.kubeconfigs().with_certificate(user, &pair)
    }

    /// A certificate for a server on 127.0.0.1, of the authority of the API server's own.
    pub(crate) fn serving_certificate(&self, name: &str) -> Pair {
        self.clients.issue(name, None, &["127.0.0.1"], Usage::Server)
    }

    fn kubeconfigs(&self) -> Kubeconfigs<'_> {
        Kubeconfigs { folder: &self.folder, address: &self.address, ca: &self.ca }
    }

    /// `kubectl` with the given kubeconfig.
    pub(crate) fn kubectl_as(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.kubectl);
        // Discovery is cached on disk by server address, and ports come round again.
        let cache = kubeconfig.with_extension("cache");
        command.arg(flag("--kubeconfig", kubeconfig)).arg(flag("--cache-dir", &cache));
        command.arg("--request-timeout=20s");
        command
    }

    /// `kubectl` as a cluster administrator.
    pub(crate) fn kubectl(&self) -> Command {
        self.kubectl_as(&self.admin)
    }

    /// Applies a document; panics with kubectl's message when it is refused.
    pub(crate) fn apply(&self, document: &str) {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file can be made");
        std::fs::write(file.path(), document).expect("the file is ours");
        let mut apply = self.kubectl();
        apply.args(["apply", "--filename"]).arg(file.path());
        run(&mut apply).unwrap_or_else(|error| panic!("{error}\nin\n{document}"));
    }
}

/// The controller manager: how it is started but for its pace, and the running one.
#[derive(Debug)]
struct Controllers {
    command: Command,
    logs: PathBuf,
    /// How often the HPA controller has started, as the log has it.
    starts: usize,
    process: Option<Process>,
}

struct Kubeconfigs<'a> {
    folder: &'a Path,
    address: &'a str,
    ca: &'a Path,
}

impl Kubeconfigs<'_> {
    fn with_certificate(&self, name: &str, pair: &Pair) -> PathBuf {
        let user = format!(
            "{{ client-certificate: {}, client-key: {} }}",
            pair.cert.display(),
            pair.key.display()
        );
        self.write(name, &user)
    }

    fn write(&self, name: &str, user: &str) -> PathBuf {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{ name: test, cluster: {{ server: \"{}\", certificate-authority: {} }} }}]\n\
             users: [{{ name: test, user: {user} }}]\n\
             contexts: [{{ name: test, context: {{ cluster: test, user: test }} }}]\n",
            self.address,
            self.ca.display()
        );
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }
}

/// Runs a command to its end: its standard output, or everything it said when it failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{text}{error}({})", output.status))
}

fn start_etcd(binaries: &Path, folder: &Path, logs: &Path) -> (Process, String) {
    let (client, peer) = (free_port(), free_port());
    let url = format!("http://127.0.0.1:{client}");
    let peers = format!("http://127.0.0.1:{peer}");
    let mut etcd = Command::new(binaries.join("etcd"));
    etcd.arg(flag("--data-dir", &folder.join("etcd")))
        .arg("--unsafe-no-fsync")
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=default={peers}"))
        .arg("--log-level=warn");
    (Process::start("etcd", logs, &etcd), url)
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl.
pub(crate) fn binaries() -> PathBuf {
    let folder = ["TIDEPOLE_CLUSTER_BIN", "KUBEBUILDER_ASSETS"]
        .iter()
        .find_map(std::env::var_os)
        .map_or_else(|| crate::root().join("target/cluster/v1.34.4/bin"), PathBuf::from);
    for binary in ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] {
        assert!(
            folder.join(binary).exists(),
            "no {binary} in {}: `./tests/run cluster` builds it and runs these tests",
            folder.display()
        );
    }
    folder
}
