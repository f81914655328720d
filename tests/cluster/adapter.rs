//! The adapter under test: its certificates, its config, its process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::aws_fakes::{CloudWatch, Sqs};
use crate::control_plane::{ControlPlane, run};
use crate::process::{Process, eventually, free_port};
use crate::upstream::{ACCESS_KEY, Front, Hanging, Prometheus, Queues};

/// A running `tidepole serve`.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) process: Process,
}

/// Everything that stays the same when the adapter is restarted.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// Of its log.
    name: &'static str,
    /// Where the API is served, and the port that the APIService names.
    pub(crate) port: u16,
    /// The plain listener for people and probes.
    pub(crate) admin_port: u16,
    /// `ca.crt`, `tls.crt`, `tls.key`, made by the recipe under `deploy/certificates`.
    pub(crate) certificates: PathBuf,
    /// Metric definitions, watched by the adapter.
    pub(crate) definitions: PathBuf,
    config: PathBuf,
    logs: PathBuf,
}

/// The sources that definitions of the shared world may name.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// `main`: always up; `crowd` is the same server, with call counts of its own.
    pub(crate) main: &'a Prometheus,
    /// `flaky`: one test stops and starts it.
    pub(crate) flaky: &'a Prometheus,
    /// `hanging`: never answers.
    pub(crate) hanging: &'a Hanging,
    /// `slow`: the same as `main`, a second later.
    pub(crate) slow: &'a Front,
    /// `partly`: the same as `main`, but some queries are never answered.
    pub(crate) partly: &'a Front,
    /// `aws`, for queues
    pub(crate) queues: &'a Queues,
    /// `aws`, for CloudWatch
    pub(crate) cloudwatch: &'a CloudWatch,
    /// `faulty`, for queues: a fake that hangs and lies when a test says so
    pub(crate) faulty_queues: &'a Sqs,
    /// `faulty`, for CloudWatch: likewise
    pub(crate) faulty_cloudwatch: &'a CloudWatch,
}

impl Sources<'_> {
    /// The same as entries of the config.
    pub(crate) fn config(&self) -> String {
        format!(
            "  - {{ name: main, prometheus: {{ url: \"{main}\", timeout: 2s }} }}\n  \
               - {{ name: crowd, prometheus: {{ url: \"{main}\", timeout: 2s }} }}\n  \
               - {{ name: flaky, prometheus: {{ url: \"{flaky}\", timeout: 2s }} }}\n  \
               - {{ name: hanging, prometheus: {{ url: \"{hanging}\", timeout: 5s }} }}\n  \
               - {{ name: slow, prometheus: {{ url: \"{slow}\", timeout: 5s }} }}\n  \
               - {{ name: partly, prometheus: {{ url: \"{partly}\", timeout: 5s }} }}\n  \
               - {{ name: faulty, aws: {{ region: eu-west-1, endpointUrl: \"{faulty_queues}\", \
                 cloudwatchEndpointUrl: \"{faulty_cloudwatch}\" }} }}\n  \
               - {{ name: aws, aws: {{ region: eu-west-1, endpointUrl: \"{queues}\", \
                 cloudwatchEndpointUrl: \"{cloudwatch}\" }} }}\n  \
               - {{ name: sim, simulated: {{}} }}\n",
            main = self.main.url(),
            flaky = self.flaky.url(),
            hanging = self.hanging.url(),
            slow = self.slow.url(),
            queues = self.queues.url(),
            cloudwatch = self.cloudwatch.url(),
            partly = self.partly.url(),
            faulty_queues = self.faulty_queues.server().url(),
            faulty_cloudwatch = self.faulty_cloudwatch.url(),
        )
    }
}

impl Installation {
    /// Applies the manifests of `deploy/` and writes the adapter's own files; the process is
    /// started by [`Installation::start`]. `sources` are the entries of the config's list.
    pub(crate) fn new(plane: &ControlPlane, folder: &Path, logs: &Path, sources: &str) -> Self {
        let certificates = folder.join("certificates");
        let mut recipe = Command::new(crate::root().join("deploy/certificates/openssl.sh"));
        recipe.arg(&certificates);
        run(&mut recipe).expect("the certificate recipe works");

        let port = free_port();
        let overlay = folder.join("overlay");
        std::fs::create_dir_all(&overlay).expect("the folder is ours");
        std::fs::write(overlay.join("kustomization.yaml"), overlay_text(port))
            .expect("the folder is ours");
        let mut apply = plane.kubectl();
        apply.args(["apply", "--kustomize"]).arg(&overlay);
        run(&mut apply).expect("the manifests are accepted");

        let mut token = plane.kubectl();
        token.args(["--namespace=tidepole", "create", "token", "tidepole", "--duration=2h"]);
        let token = run(&mut token).expect("the ServiceAccount exists");
        let kubeconfig = plane.kubeconfig_with_token("tidepole", token.trim());

        let definitions = folder.join("metrics.d");
        std::fs::create_dir_all(&definitions).expect("the folder is ours");
        let installation = Self {
            name: "tidepole",
            port,
            admin_port: free_port(),
            config: folder.join("config.yaml"),
            logs: logs.to_owned(),
            certificates,
            definitions,
        };
        std::fs::write(&installation.config, installation.config_text(&kubeconfig, sources))
            .expect("the folder is ours");
        installation
    }

    fn config_text(&self, kubeconfig: &Path, sources: &str) -> String {
        format!(
            "apiVersion: tidepole.dev/v1alpha1\n\
             kind: ServerConfig\n\
             server:\n  listen: 127.0.0.1:{port}\n  \
               tls: {{ certFile: {cert}/tls.crt, keyFile: {cert}/tls.key }}\n  \
               auth: delegated\n\
             admin: {{ listen: \"127.0.0.1:{admin}\" }}\n\
             kubernetes: {{ kubeconfig: {kubeconfig} }}\n\
             resources: {{ events: {{ hpas: true }} }}\n\
             sources:\n{sources}\
             definitions: {{ paths: [{definitions}] }}\n\
             defaults: {{ refresh: 1s }}\n",
            port = self.port,
            admin = self.admin_port,
            cert = self.certificates.display(),
            kubeconfig = kubeconfig.display(),
            definitions = self.definitions.display(),
        )
    }

    /// Replaces a part of the config, for the next start.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the config was written");
        assert!(text.contains(from), "no {from:?} in the config");
        std::fs::write(&self.config, text.replace(from, to)).expect("the folder is ours");
    }

    /// Starts the adapter and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Adapter {
        let mut process = self.launch();
        eventually("the adapter is ready", Duration::from_secs(30), || {
            process.assert_running();
            self.admin("/readyz").map(|_| ())
        });
        Adapter { process }
    }

    /// Starts the adapter.
    pub(crate) fn launch(&self) -> Process {
        let mut command = Command::new(binary());
        command
            .args(["serve", "--log-format=text", "--config"])
            .arg(&self.config)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("POD_NAME", self.name)
            .env("POD_NAMESPACE", "tidepole")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env_remove("KUBECONFIG");
        Process::start(self.name, &self.logs, &command)
    }

    /// The same installation on ports of its own, as a rollout starts it beside the old one.
    pub(crate) fn twin(&self) -> Self {
        let twin = Self {
            name: "tidepole-twin",
            port: free_port(),
            admin_port: free_port(),
            config: self.config.with_file_name("config-twin.yaml"),
            logs: self.logs.clone(),
            certificates: self.certificates.clone(),
            definitions: self.definitions.clone(),
        };
        let text = std::fs::read_to_string(&self.config).expect("the config was written");
        let text = text
            .replace(&format!("127.0.0.1:{}", self.port), &format!("127.0.0.1:{}", twin.port))
            .replace(
                &format!("127.0.0.1:{}", self.admin_port),
                &format!("127.0.0.1:{}", twin.admin_port),
            );
        std::fs::write(&twin.config, text).expect("the folder is ours");
        twin
    }

    /// What `/api/metrics` says about the first metric that a query finds, if there is one.
    pub(crate) fn row(&self, query: &str) -> serde_json::Value {
        let text = self.admin(&format!("/api/metrics?{query}")).expect("the status is told");
        let mut all: serde_json::Value = serde_json::from_str(&text).expect("answers are JSON");
        all.pointer_mut("/metrics/0").map(serde_json::Value::take).unwrap_or_default()
    }

    /// The sum of the adapter's samples of one name whose labels contain all of `labels`.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").expect("the adapter tells its metrics");
        sum_of(&text, name, labels)
    }

    /// How much has been logged so far.
    pub(crate) fn log_length(&self) -> usize {
        let log = self.logs.join(format!("{}.log", self.name));
        std::fs::metadata(log).map_or(0, |log| usize::try_from(log.len()).unwrap_or(0))
    }

    /// Reads a path of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> Result<String, String> {
        crate::http_get(&format!("http://127.0.0.1:{}{path}", self.admin_port))
    }

    /// `kubectl get --raw PATH` straight to the adapter, past the aggregator.
    pub(crate) fn get_direct(
        &self,
        plane: &ControlPlane,
        token: &str,
        path: &str,
    ) -> Result<String, String> {
        let mut kubectl = Command::new(&plane.kubectl);
        kubectl
            .arg("--kubeconfig=/dev/null")
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .arg("--tls-server-name=tidepole.tidepole.svc")
            .arg(format!("--certificate-authority={}", self.certificates.join("ca.crt").display()))
            .arg(format!("--token={token}"))
            .args(["get", "--raw", path]);
        run(&mut kubectl)
    }
}

/// The manifests as the recipe completes them, with the one change that a cluster without nodes
/// needs: the Service is an alias of loopback, where the adapter listens on a port of its own.
fn overlay_text(port: u16) -> String {
    format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../certificates]
patches:
  - target: {{ kind: Service, name: tidepole }}
    patch: |
      - op: replace
        path: /spec
        value: {{ type: ExternalName, externalName: localhost }}
  - target: {{ kind: APIService }}
    patch: |
      - {{ op: add, path: /spec/service/port, value: {port} }}
"
    )
}

/// The adapter's binary: this build's, or another one named by `TIDEPOLE_BIN`.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TIDEPOLE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tidepole")), PathBuf::from)
}

/// The sum of the samples of one name in an exposition whose labels contain all of `labels`.
pub(crate) fn sum_of(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    samples
        .filter(|(series, _)| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        })
        .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
        .map(|(_, value)| value.parse::<f64>().expect("samples are numbers"))
        .sum()
}
