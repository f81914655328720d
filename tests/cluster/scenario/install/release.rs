//! A release: installed by Helm as somebody would, told to be another by `helm upgrade`, with an HPA
//! that scales on what it serves, and uninstalled.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::helm::{Rendered, chart, helm, text, values_file};
use super::{check, plane};
use crate::control_plane::{ControlPlane, run};
use crate::pki::{Authority, Usage};
use crate::process::{Process, eventually, free_port};
use crate::{http_get, read, world};

/// Where the release is. Not `tidepole`, which tests of the manifests use.
const NAMESPACE: &str = "metrics";
const SOON: Duration = Duration::from_secs(45);

/// `helm` on the release, with what it said.
fn on_release(plane: &ControlPlane, action: &[&str]) -> String {
    let mut command = helm();
    command.arg("--kubeconfig").arg(&plane.admin).args(["--namespace", NAMESPACE]).args(action);
    run(&mut command).unwrap_or_else(|error| panic!("helm {action:?}: {error}"))
}

fn get(plane: &ControlPlane, what: &[&str]) -> Result<Value, String> {
    let mut get = plane.kubectl();
    get.args(["--namespace", NAMESPACE, "get", "--output=json"]).args(what);
    serde_json::from_str(&run(&mut get)?).map_err(|error| error.to_string())
}

/// What the server's own account may do, as the API server sees it.
fn may(plane: &ControlPlane, question: &[&str]) -> bool {
    let mut ask = plane.kubectl();
    ask.args(["auth", "can-i", "--as=system:serviceaccount:metrics:tidepole"]).args(question);
    // Exit code 1 is a no.
    let output = ask.output().expect("kubectl runs");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{question:?}: {other}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Every command of the notes that asks the cluster something and needs no name put in works.
fn follow_notes(plane: &ControlPlane, notes: &str) -> usize {
    let commands: Vec<Vec<&str>> = notes
        .lines()
        .filter_map(|line| line.strip_prefix("  kubectl "))
        .map(|line| line.split(' ').collect())
        .collect();
    let asked = commands.iter().filter(|words| {
        words.contains(&"get") && !words.iter().any(|word| word.contains("NAMESPACE"))
    });
    let mut count = 0;
    for words in asked {
        run(plane.kubectl().args(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        count += 1;
    }
    count
}

#[test]
fn a_release_is_installed_upgraded_scales_and_goes() {
    let plane = &plane();
    let folder = tempfile::tempdir().expect("a folder can be made");
    plane.apply(
        "{ apiVersion: v1, kind: Namespace, metadata: { name: metrics, labels: \
         { pod-security.kubernetes.io/enforce: restricted } } }",
    );
    let chart = chart();
    let chart = chart.to_str().expect("our own path is text");
    on_release(plane, &["install", "tidepole", chart]);
    defaults_are_admitted(plane);
    let managed = Running::start(plane, folder.path(), None);
    managed.is_available(plane);
    a_pair_is_kept(plane);
    drop(managed);

    // Somebody else's certificate, and metrics of our own.
    let authority = Authority::new(folder.path(), "ca");
    let name = "tidepole.metrics.svc";
    let pair = authority.issue(name, None, &[name], Usage::Server);
    let mut secret = plane.kubectl();
    secret.args(["--namespace", NAMESPACE, "create", "secret", "tls", "pair"]);
    secret.arg(format!("--cert={}", pair.cert.display()));
    run(secret.arg(format!("--key={}", pair.key.display()))).expect("the pair is a pair");
    let values = json!({
        "prometheus": null,
        "extraSources": [{ "name": "sim", "simulated": {} }],
        "definitions": { "orders.yaml": {
            "apiVersion": "tidepole.dev/v1alpha1", "kind": "ExternalMetric",
            "metadata": { "name": "orders", "namespace": "default" },
            "spec": { "metric": "orders", "source": "sim", "simulated": { "constant": "42" } },
        } },
        "certificates": { "mode": "files", "files": {
            "secretName": "pair",
            "caBundle": String::from_utf8(read(&authority.file)).expect("PEM is text"),
        } },
        "serviceMonitor": { "enabled": true },
        "prometheusRule": { "enabled": true },
        "networkPolicy": { "enabled": true },
    });
    let values = values_file(&values.to_string());
    let values = values.path().to_str().expect("a path of ours is text");
    let before = pods_mark(plane);
    on_release(plane, &["upgrade", "tidepole", chart, "--values", values]);
    assert_ne!(pods_mark(plane), before, "the config is read at start, so the pods are new");
    assert!(!may(plane, &["create", "secrets", "--namespace=metrics"]), "it has a pair now");
    get(plane, &["servicemonitor,networkpolicy", "--all-namespaces"]).expect("both are known");

    let running = Running::start(plane, folder.path(), Some(&pair));
    running.is_available(plane);
    let notes = on_release(plane, &["get", "notes", "tidepole"]);
    assert!(follow_notes(plane, &notes) >= 3, "{notes}");
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/orders";
    let list = run(plane.kubectl().args(["get", "--raw", path])).expect("the metric is served");
    let list: Value = serde_json::from_str(&list).expect("answers are JSON");
    assert_eq!(list["items"][0]["value"], "42");
    an_hpa_scales(plane);
    drop(running);

    on_release(plane, &["uninstall", "tidepole", "--wait"]);
    let services = get(plane, &["apiservices"]).expect("they are listed").to_string();
    assert!(!services.contains("external.metrics.k8s.io"), "nobody is asked any more");
    let kept = get(plane, &["crds"]).expect("they are listed").to_string();
    let ours = chart_files("crds");
    assert_eq!(kept.matches("\"helm.sh/resource-policy\":\"keep\"").count(), ours);
}

/// How many files of a folder the chart carries.
fn chart_files(folder: &str) -> usize {
    std::fs::read_dir(chart().join("files").join(folder)).map_or(0, Iterator::count)
}

/// What a change of the config makes another.
fn pods_mark(plane: &ControlPlane) -> String {
    let deployment = get(plane, &["deployment", "tidepole"]).expect("it is there");
    text(&deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])
}

/// With no values at all: two pods that the namespace's policy admits, and no permission too many.
fn defaults_are_admitted(plane: &ControlPlane) {
    eventually("two pods are made", SOON, || {
        let pods = get(plane, &["pods"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        if count == 2 { Ok(()) } else { Err(pods.to_string()) }
    });
    let own = "secrets/tidepole-serving";
    for (yes, no) in [
        (["update", own, "--namespace=metrics"], ["get", "secrets/pair", "--namespace=metrics"]),
        (["create", "secrets", "--namespace=metrics"], ["list", "secrets", "--namespace=metrics"]),
        (["watch", own, "--namespace=metrics"], ["get", own, "--namespace=default"]),
        (
            ["patch", "apiservices/v1beta1.external.metrics.k8s.io", "--all-namespaces"],
            ["patch", "apiservices/v1beta1.metrics.k8s.io", "--all-namespaces"],
        ),
        (["update", "leases", "--namespace=metrics"], ["update", "leases", "--namespace=default"]),
        (["create", "events.events.k8s.io", "-A"], ["delete", "events.events.k8s.io", "-A"]),
        (["list", "horizontalpodautoscalers", "-A"], ["update", "horizontalpodautoscalers", "-A"]),
    ] {
        assert!(may(plane, &yes), "{yes:?}");
        assert!(!may(plane, &no), "{no:?}");
    }
    // People, by Kubernetes' own roles.
    let role = |name: &str| {
        let role = get(plane, &["clusterrole", name])?;
        let rules = role["rules"].to_string();
        if rules.contains("tidepole.dev") { Ok(rules) } else { Err("not yet".to_owned()) }
    };
    let rules = ["view", "edit", "admin"]
        .map(|name| eventually("the role has our resources", SOON, || role(name)));
    let written = |rules: &str, resource: &str| {
        let rules: Value = serde_json::from_str(rules).expect("it was JSON");
        let rules = rules.as_array().expect("rules are a list").clone();
        let has = |rule: &Value, list: &str, word: &str| {
            rule[list].as_array().is_some_and(|all| all.iter().any(|one| one == word))
        };
        rules.iter().any(|rule| {
            has(rule, "apiGroups", "tidepole.dev")
                && has(rule, "resources", resource)
                && has(rule, "verbs", "create")
        })
    };
    let [view, edit, admin] = &rules;
    for resource in ["externalmetrics", "custommetrics"] {
        assert_eq!([view, edit, admin].map(|r| written(r, resource)), [false, true, true]);
    }
    for resource in ["clusterexternalmetrics", "clustercustommetrics"] {
        assert_eq!([view, edit, admin].map(|r| written(r, resource)), [false; 3], "bind a role");
    }
}

/// The server as the release's pods would run it: its config, its definitions, its account.
struct Running {
    admin: u16,
    process: Process,
}

impl Running {
    /// `pair` is what a pod has mounted; none when there is nothing to mount.
    fn start(plane: &ControlPlane, folder: &Path, pair: Option<&crate::pki::Pair>) -> Self {
        let installed = get(plane, &["configmap,deployment"]).expect("they are there");
        let objects = installed["items"].as_array().expect("a list").clone();
        let release = Rendered { text: String::new(), objects };
        let config = release.write(folder);
        let (port, admin) = (free_port(), free_port());
        let text = std::fs::read_to_string(&config).expect("it was just written");
        let mut text = text
            .replace("[::]:6443", &format!("127.0.0.1:{port}"))
            .replace("[::]:8080", &format!("127.0.0.1:{admin}"));
        if let Some(pair) = pair {
            text = text
                .replace("/certs/tls.crt", &pair.cert.display().to_string())
                .replace("/certs/tls.key", &pair.key.display().to_string());
        }
        std::fs::write(&config, text).expect("the folder is ours");
        check(&config).expect("the release's config is valid");

        let mut token = plane.kubectl();
        token.args(["--namespace", NAMESPACE, "create", "token", "tidepole"]);
        let token = run(&mut token).expect("the account exists");
        let kubeconfig = plane.kubeconfig_with_token("release", token.trim());
        let mut command = Command::new(crate::adapter::binary());
        let given = release.container()["args"].as_array().expect("arguments are a list").clone();
        let given = given.iter().map(|one| {
            super::helm::text(one)
                .replace("/etc/tidepole/config/config.yaml", &config.display().to_string())
        });
        command.args(given).arg("--kubeconfig").arg(kubeconfig);
        command.env("POD_NAMESPACE", NAMESPACE).env("POD_NAME", "tidepole-0");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("KUBECONFIG");
        let logs = world::folders().1.join("install");
        let mut process = Process::start("release", &logs, &command);
        eventually("the server is ready", SOON, || {
            process.assert_running();
            http_get(&format!("http://127.0.0.1:{admin}/readyz")).map(drop)
        });
        reach_on_loopback(plane, port);
        Self { admin, process }
    }

    /// All three APIs are, and the server has nothing to complain about.
    fn is_available(&self, plane: &ControlPlane) {
        for name in ["v1beta1.external", "v1beta1.custom", "v1beta2.custom"]
            .map(|n| format!("{n}.metrics.k8s.io"))
        {
            eventually("the API is available", SOON, || {
                let service = get(plane, &["apiservice", &name])?;
                let conditions = service["status"]["conditions"].clone();
                let passed = conditions.as_array().into_iter().flatten().any(|one| {
                    one["type"] == "Available"
                        && one["status"] == "True"
                        && one["reason"] == "Passed"
                });
                if passed { Ok(()) } else { Err(conditions.to_string()) }
            });
        }
        let metrics = http_get(&format!("http://127.0.0.1:{}/metrics", self.admin));
        assert!(metrics.expect("they are told").contains("tidepole_reads_total"));
        let log = self.process.log();
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
        assert!(!log.contains("forbidden"), "the chart grants what the server needs: {log}");
    }
}

/// The server has put its pair into the Secret that the chart names, and told its authority to all.
fn a_pair_is_kept(plane: &ControlPlane) {
    get(plane, &["secret", "tidepole-serving"]).expect("the pair is kept");
    let services = get(plane, &["apiservices"]).expect("they are listed");
    let ours = services["items"].as_array().into_iter().flatten();
    let bundles: Vec<&Value> = ours
        .map(|service| &service["spec"])
        .filter(|spec| spec["service"]["namespace"] == NAMESPACE)
        .map(|spec| &spec["caBundle"])
        .collect();
    assert_eq!(bundles.len(), 3, "{services}");
    assert!(bundles.iter().all(|bundle| bundle.is_string()), "{bundles:?}");
}

/// A cluster without nodes: the Service is an alias of loopback.
fn reach_on_loopback(plane: &ControlPlane, port: u16) {
    let alias = r#"[{"op":"replace","path":"/spec","value":{"type":"ExternalName","externalName":"localhost"}}]"#;
    let mut patch = plane.kubectl();
    patch.args(["--namespace", NAMESPACE, "patch", "service", "tidepole", "--type=json"]);
    run(patch.args(["--patch", alias])).expect("the Service can be an alias");
    for name in ["v1beta1.external", "v1beta1.custom", "v1beta2.custom"] {
        let mut patch = plane.kubectl();
        patch.args(["patch", "apiservice", &format!("{name}.metrics.k8s.io"), "--type=merge"]);
        let port = format!("{{\"spec\":{{\"service\":{{\"port\":{port}}}}}}}");
        run(patch.args(["--patch", &port])).expect("the APIService is there");
    }
}

/// 42 orders, ten for each replica.
fn an_hpa_scales(plane: &ControlPlane) {
    plane.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: worker, namespace: default }
spec:
  replicas: 1
  selector: { matchLabels: { app: worker } }
  template:
    metadata: { labels: { app: worker } }
    spec:
      automountServiceAccountToken: false
      containers: [{ name: worker, image: "registry.invalid/worker" }]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: worker, namespace: default }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: worker }
  maxReplicas: 10
  metrics:
    - type: External
      external: { metric: { name: orders }, target: { type: AverageValue, averageValue: "10" } }
"#,
    );
    eventually("the workload is scaled", SOON, || {
        let worker = get(plane, &["deployment", "worker", "--namespace=default"])?;
        // Four at most at once, from one: the HPA's own default.
        let replicas = worker["spec"]["replicas"].as_u64();
        if replicas == Some(5) { Ok(()) } else { Err(format!("{replicas:?} replicas")) }
    });
}
