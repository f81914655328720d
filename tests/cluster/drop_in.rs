//! Our binary in the place of prometheus-adapter: called as its image calls it, with the arguments,
//! the permissions and the registrations of its Helm chart.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, run};
use crate::process::{Process, eventually, free_port};
use crate::upstream::Prometheus;
use crate::world::World;

/// What the chart puts into the rules file for `rules.default: true`, its default, but for the
/// window of rates: Prometheus scrapes every second here.
pub(crate) const DEFAULT_RULES: &str = r#"
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: []
  resources:
    overrides:
      namespace: { resource: namespace }
      pod: { resource: pod }
  name: { matches: "^container_(.*)_seconds_total$", as: "" }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[5s])) by (<<.GroupBy>>)
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: [{ isNot: "^container_.*_seconds_total$" }]
  resources:
    overrides:
      namespace: { resource: namespace }
      pod: { resource: pod }
  name: { matches: "^container_(.*)_total$", as: "" }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[5s])) by (<<.GroupBy>>)
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: [{ isNot: "^container_.*_total$" }]
  resources:
    overrides:
      namespace: { resource: namespace }
      pod: { resource: pod }
  name: { matches: "^container_(.*)$", as: "" }
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>,container!="POD"}) by (<<.GroupBy>>)
- seriesQuery: '{namespace!="",__name__!~"^container_.*"}'
  seriesFilters: [{ isNot: ".*_total$" }]
  resources: { template: <<.Resource>> }
  name: { matches: "", as: "" }
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: '{namespace!="",__name__!~"^container_.*"}'
  seriesFilters: [{ isNot: ".*_seconds_total" }]
  resources: { template: <<.Resource>> }
  name: { matches: "^(.*)_total$", as: "" }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[5s])) by (<<.GroupBy>>)
- seriesQuery: '{namespace!="",__name__!~"^container_.*"}'
  seriesFilters: []
  resources: { template: <<.Resource>> }
  name: { matches: "^(.*)_seconds_total$", as: "" }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[5s])) by (<<.GroupBy>>)
"#;

/// The permissions that the chart grants.
const RBAC: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: monitoring }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: prometheus-adapter, namespace: monitoring }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: prometheus-adapter-system-auth-delegator }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator" }
subjects: [{ kind: ServiceAccount, name: prometheus-adapter, namespace: monitoring }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: prometheus-adapter-auth-reader, namespace: kube-system }
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: extension-apiserver-authentication-reader
subjects: [{ kind: ServiceAccount, name: prometheus-adapter, namespace: monitoring }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: prometheus-adapter-resource-reader }
rules:
  - apiGroups: [""]
    resources: [namespaces, pods, services, configmaps]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: prometheus-adapter-resource-reader }
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: prometheus-adapter-resource-reader
subjects: [{ kind: ServiceAccount, name: prometheus-adapter, namespace: monitoring }]
---
# A cluster without nodes: the Service is an alias of loopback.
apiVersion: v1
kind: Service
metadata: { name: prometheus-adapter, namespace: monitoring }
spec: { type: ExternalName, externalName: localhost }
"#;

/// For who registers versions of `custom.metrics.k8s.io`, of which there is one each in a cluster.
/// Taken before the world.
pub(crate) fn own_custom_metrics() -> MutexGuard<'static, ()> {
    static OWNER: Mutex<()> = Mutex::new(());
    OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running drop-in and what it was started with.
pub(crate) struct DropIn<'a> {
    world: &'a World,
    /// None only while it is started again.
    process: Option<Process>,
    name: &'static str,
    port: u16,
    /// The rules file.
    rules: PathBuf,
    prometheus: String,
    kubeconfig: PathBuf,
    command: PathBuf,
    /// `APIServices` to be deleted at the end: a group whose server is gone stops the deletion of
    /// namespaces.
    registered: Vec<String>,
}

impl<'a> DropIn<'a> {
    /// Installs and starts it with the chart's arguments, and `more`. `name` is of its log.
    pub(crate) fn start(
        world: &'a World,
        folder: &Path,
        name: &'static str,
        prometheus: &Prometheus,
        rules: &str,
        more: &[&str],
    ) -> Self {
        world.plane.apply(RBAC);
        let kubeconfig = kubeconfig(&world.plane, name);
        // As the image has it.
        let command = folder.join("adapter");
        std::os::unix::fs::symlink(crate::adapter::binary(), &command).expect("the folder is ours");
        let file = folder.join("config.yaml");
        std::fs::write(&file, rules).expect("the folder is ours");
        let mut drop_in = Self {
            world,
            process: None,
            name,
            port: free_port(),
            rules: file,
            prometheus: format!("{}/", prometheus.url()),
            kubeconfig,
            command,
            registered: Vec::new(),
        };
        drop_in.process = Some(drop_in.launch(more));
        drop_in
    }

    /// Stops it and starts it again, with a few more arguments.
    pub(crate) fn restart(&mut self, more: &[&str]) {
        let running = self.process.take().expect("it runs");
        assert_eq!(running.stop(Duration::from_secs(45)), 0, "it ends when it is told to");
        self.process = Some(self.launch(more));
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn launch(&self, more: &[&str]) -> Process {
        let kubeconfig = self.kubeconfig.display();
        let mut command = Command::new(&self.command);
        command
            // The chart's, in its order; it repeats the image's entry point.
            .arg("/adapter")
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--cert-dir={}", self.command.with_file_name("cert").display()))
            .arg(format!("--prometheus-url={}", self.prometheus))
            .arg("--metrics-relist-interval=1m")
            .arg("--v=4")
            .arg(format!("--config={}", self.rules.display()))
            // It does not run in a pod here; the original takes the same.
            .arg(format!("--lister-kubeconfig={kubeconfig}"))
            .arg(format!("--authentication-kubeconfig={kubeconfig}"))
            .arg(format!("--authorization-kubeconfig={kubeconfig}"))
            .args(more)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env_remove("KUBECONFIG");
        let mut process = Process::start(self.name, &self.world.logs, &command);
        // The chart's probe.
        eventually("the drop-in is ready", Duration::from_secs(30), || {
            process.assert_running();
            self.probe("/readyz")
        });
        process
    }

    /// What kubelet does.
    fn probe(&self, path: &str) -> Result<(), String> {
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()
            .expect("a client can be made");
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let answer = self.world.wait(async {
            let answer = client.get(url).send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        });
        match answer.map_err(|error: reqwest::Error| format!("{error:?}"))? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Writes the rules file in place, as a changed `ConfigMap` does.
    pub(crate) fn edit(&self, rules: &str) {
        let hidden = self.rules.with_extension("tmp");
        std::fs::write(&hidden, rules).expect("the folder is ours");
        std::fs::rename(&hidden, &self.rules).expect("the folder is ours");
    }

    /// Makes the cluster send it a version of a group, as the chart registers it. Waits until it is
    /// available.
    pub(crate) fn register(&mut self, version: &str, group: &str) {
        let name = format!("{version}.{group}");
        self.world.plane.apply(&format!(
            "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{ name: {name} }}
spec:
  group: {group}
  version: {version}
  groupPriorityMinimum: 100
  versionPriority: {}
  insecureSkipTLSVerify: true
  service: {{ name: prometheus-adapter, namespace: monitoring, port: {} }}
",
            if version == "v1beta2" { 200 } else { 100 },
            self.port,
        ));
        self.registered.push(name.clone());
        eventually("the drop-in is reached", Duration::from_mins(1), || {
            self.world.get_raw(&format!("/apis/{group}/{version}")).map(drop)
        });
    }

    /// Makes it the one that answers for an `APIService` of the world's own adapter, whose
    /// certificate it has. Only for who has the world for itself, and points back.
    pub(crate) fn take_over(&self, name: &str) {
        let patch = format!("{{\"spec\":{{\"service\":{{\"port\":{}}}}}}}", self.port);
        let mut kubectl = self.world.plane.kubectl();
        kubectl.args(["patch", "apiservice", name, "--type=merge", "--patch", &patch]);
        run(&mut kubectl).expect("the APIService can be changed");
    }

    /// Takes a registration back.
    pub(crate) fn unregister(&mut self, name: &str) {
        self.registered.retain(|known| known != name);
        let mut delete = self.world.plane.kubectl();
        run(delete.args(["delete", "apiservice", name])).expect("it is registered");
    }
}

impl Drop for DropIn<'_> {
    fn drop(&mut self) {
        for name in &self.registered {
            let mut delete = self.world.plane.kubectl();
            if let Err(error) = run(delete.args(["delete", "apiservice", name])) {
                eprintln!("{error}");
            }
        }
    }
}

fn kubeconfig(plane: &ControlPlane, name: &str) -> PathBuf {
    let mut token = plane.kubectl();
    token.args(["--namespace=monitoring", "create", "token", "prometheus-adapter"]);
    let token = run(token.arg("--duration=1h")).expect("the ServiceAccount exists");
    plane.kubeconfig_with_token(name, token.trim())
}

/// A read of the custom metrics API through the aggregator: status, and the body.
pub(crate) fn read(world: &World, path: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
    let mut path = format!("/apis/custom.metrics.k8s.io/{path}");
    for (number, (key, value)) in parameters.iter().enumerate() {
        let mark = if number == 0 { '?' } else { '&' };
        let value =
            percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        write!(path, "{mark}{key}={value}").expect("writing to a String cannot fail");
    }
    let (status, body) = world.get_body(&path).expect("the API server answers");
    (status, serde_json::from_str(&body).unwrap_or_else(|_| json!(body)))
}

/// The values of an answer by the object's name. Panics unless it is a list.
pub(crate) fn items((status, body): &(u16, Value)) -> Vec<(String, String)> {
    assert_eq!(*status, 200, "{body}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let items = body["items"].as_array().expect("items are a list");
    items
        .iter()
        .map(|item| (text(&item["describedObject"]["name"]), text(&item["value"])))
        .collect()
}

/// The paths by which the HPA controller has read custom metrics of a namespace, in order.
pub(crate) fn hpa_paths(world: &World, namespace: &str) -> Vec<Arc<str>> {
    let text = std::fs::read_to_string(&world.plane.audit_log).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| {
            event["objectRef"]["apiGroup"] == "custom.metrics.k8s.io"
                && event["objectRef"]["namespace"] == namespace
                && event["stage"] == "ResponseComplete"
                && event["user"]["username"] == crate::world::HPA_CONTROLLER
        })
        .filter_map(|event| event["requestURI"].as_str().map(Arc::from))
        .collect()
}
