//! Managed certificates, rotated under load, behind a real aggregator. Two replicas share a Secret;
//! each serves a version of `custom.metrics.k8s.io`, so that both are read from all the time.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::adapter::{binary, sum_of};
use crate::control_plane::run;
use crate::drop_in::own_custom_metrics;
use crate::pki::Authority;
use crate::process::{Process, eventually, free_port};
use crate::read;
use crate::workload::SOON;
use crate::world::{World, folders, shared};

const NAMESPACE: &str = "certificates";
const API_SERVICES: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

/// What a managed installation is granted beyond the usual, by name wherever that is possible.
const RBAC: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: certificates }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: tidepole, namespace: certificates }
---
# A cluster without nodes: the Service is an alias of loopback.
apiVersion: v1
kind: Service
metadata: { name: tidepole, namespace: certificates }
spec: { type: ExternalName, externalName: localhost }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: certificates-auth-delegator }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator" }
subjects: [{ kind: ServiceAccount, name: tidepole, namespace: certificates }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: certificates-auth-reader, namespace: kube-system }
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: extension-apiserver-authentication-reader
subjects: [{ kind: ServiceAccount, name: tidepole, namespace: certificates }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: tidepole-certificates, namespace: certificates }
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [tidepole-serving]
    verbs: [get, list, watch, update]
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: tidepole-certificates, namespace: certificates }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: tidepole-certificates }
subjects: [{ kind: ServiceAccount, name: tidepole, namespace: certificates }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: tidepole-certificates }
rules:
  - apiGroups: [apiregistration.k8s.io]
    resources: [apiservices]
    resourceNames: [v1beta1.custom.metrics.k8s.io, v1beta2.custom.metrics.k8s.io]
    verbs: [get, list, watch, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: tidepole-certificates }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tidepole-certificates }
subjects: [{ kind: ServiceAccount, name: tidepole, namespace: certificates }]
"#;

const DEFINITION: &str = "apiVersion: tidepole.dev/v1alpha1
kind: CustomMetric
metadata: { name: served, namespace: certificates }
spec:
  metric: certificates_served
  resource: services
  source: main
  refresh: 1s
  keepWarm: true
  prometheus: { query: 'sum by (service) (certificates_served)' }
";

/// A replica, with ports of its own.
struct Replica {
    process: Process,
    port: u16,
    admin: u16,
}

impl Replica {
    /// Everything is renewed twelve seconds after it was made; the pause is two. Connections live
    /// for a second, so that the aggregator verifies the certificate all the time.
    fn start(world: &World, name: &str, kubeconfig: &Path) -> Self {
        let (folder, logs) = folders();
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let (port, admin) = (free_port(), free_port());
        std::fs::write(folder.join("metrics.yaml"), DEFINITION).expect("the folder is ours");
        let config = format!(
            "apiVersion: tidepole.dev/v1alpha1
kind: ServerConfig
server:
  listen: 127.0.0.1:{port}
  tls: {{ managed: {{ certLifetime: 20s, caLifetime: 20s, renewBefore: 8s }} }}
  limits: {{ recycleAfter: 1s }}
apis: {{ external: false, custom: true }}
admin: {{ listen: \"127.0.0.1:{admin}\" }}
kubernetes: {{ kubeconfig: {} }}
sources: [{{ name: main, prometheus: {{ url: \"{}\" }} }}]
definitions: {{ paths: [metrics.yaml] }}
",
            kubeconfig.display(),
            world.main.url(),
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, config).expect("the folder is ours");
        let mut command = Command::new(binary());
        command
            .args(["serve", "--log-format=text", "--config"])
            .arg(&file)
            .env("POD_NAMESPACE", NAMESPACE)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env_remove("KUBECONFIG");
        let process = Process::start(name, logs, &command);
        Self { process, port, admin }
    }

    fn ask(&self, path: &str) -> Result<String, String> {
        crate::http_get(&format!("http://127.0.0.1:{}{path}", self.admin))
    }

    fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of(&self.ask("/metrics").expect("it tells its metrics"), name, labels)
    }
}

/// Deletes the registrations, whatever happens in between: a group whose server is gone stops the
/// deletion of namespaces.
struct Registered<'a>(&'a World);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut delete = self.0.plane.kubectl();
        delete.args(["delete", "apiservice", "--ignore-not-found"]).args(API_SERVICES);
        if let Err(error) = run(&mut delete) {
            eprintln!("{error}");
        }
        let mut delete = self.0.plane.kubectl();
        delete.args(["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"]);
        if let Err(error) = run(&mut delete) {
            eprintln!("{error}");
        }
    }
}

fn register(world: &World, name: &str, port: u16, priority: u32) {
    let (version, group) = name.split_once('.').expect("version.group");
    world.plane.apply(&format!(
        "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{ name: {name} }}
spec:
  group: {group}
  version: {version}
  groupPriorityMinimum: 100
  versionPriority: {priority}
  service: {{ name: tidepole, namespace: {NAMESPACE}, port: {port} }}
"
    ));
}

/// One read through the aggregator.
fn served(world: &World, version: &str) -> Result<(), String> {
    let path = format!(
        "/apis/custom.metrics.k8s.io/{version}/namespaces/{NAMESPACE}/services/tidepole/\
         certificates_served"
    );
    let (status, body) = world.get_body(&path)?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 && answer["items"][0]["value"] == "7" {
        Ok(())
    } else {
        Err(format!("{status}: {body}"))
    }
}

/// Reads twenty times a second until told to stop: how often, and what failed when.
fn read_on(world: &World, version: &str, stop: &AtomicBool) -> (usize, Vec<(Duration, String)>) {
    let begin = Instant::now();
    let (mut reads, mut failures) = (0_u32, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        if let Err(error) = served(world, version) {
            failures.push((begin.elapsed(), error));
        }
        reads += 1;
        let next = begin + reads * Duration::from_millis(50);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (reads as usize, failures)
}

fn secret(world: &World) -> Result<String, String> {
    let mut get = world.plane.kubectl();
    get.args(["--namespace", NAMESPACE, "get", "secret", "tidepole-serving"]);
    run(get.args(["--output", r"jsonpath={.data.tls\.crt}"]))
}

fn bundle(world: &World, name: &str) -> Vec<u8> {
    let mut get = world.plane.kubectl();
    get.args(["get", "apiservice", name, "--output=jsonpath={.spec.caBundle}"]);
    let encoded = run(&mut get).expect("it is registered");
    base64::prelude::BASE64_STANDARD.decode(encoded).expect("a bundle is base64")
}

/// Puts a stranger beside what an `APIService` trusts, as somebody would who edits what they read.
fn edit(world: &World, name: &str, stranger: &str) -> Result<(), String> {
    let mut get = world.plane.kubectl();
    let service = run(get.args(["get", "apiservice", name, "--output=json"]))?;
    let service: Value = serde_json::from_str(&service).map_err(|error| error.to_string())?;
    let base64 = &base64::prelude::BASE64_STANDARD;
    let ours = service["spec"]["caBundle"].as_str().unwrap_or_default();
    let ours = base64.decode(ours).map_err(|error| error.to_string())?;
    let both = format!("{stranger}{}", String::from_utf8_lossy(&ours));
    // As it was read: the API server refuses it if a replica was faster.
    let patch = serde_json::json!({
        "metadata": { "resourceVersion": service["metadata"]["resourceVersion"] },
        "spec": { "caBundle": base64.encode(both) },
    });
    let mut edit = world.plane.kubectl();
    edit.args(["patch", "apiservice", name, "--type=merge", "--patch", &patch.to_string()]);
    run(&mut edit).map(drop)
}

#[test]
fn certificates_rotate_under_load_and_no_read_fails() {
    let _own = own_custom_metrics();
    let world = shared();
    world.exposition.set(r#"certificates_served{service="tidepole"}"#, 7.0);
    world.plane.apply(RBAC);
    let registered = Registered(&world);
    let mut token = world.plane.kubectl();
    token.args(["--namespace", NAMESPACE, "create", "token", "tidepole", "--duration=1h"]);
    let token = run(&mut token).expect("the ServiceAccount exists");
    let kubeconfig = world.plane.kubeconfig_with_token(NAMESPACE, token.trim());
    let replicas =
        ["certificates-1", "certificates-2"].map(|name| Replica::start(&world, name, &kubeconfig));
    for replica in &replicas {
        eventually("the replica is ready", SOON, || replica.ask("/readyz?verbose"));
    }
    for ((name, replica), priority) in API_SERVICES.iter().zip(&replicas).zip([100, 200]) {
        register(&world, name, replica.port, priority);
    }
    for version in ["v1beta1", "v1beta2"] {
        eventually("the cluster reads from the replica", SOON, || served(&world, version));
    }

    let [beside, instead] = ["stranger-ca", "another-stranger-ca"]
        .map(|name| read(&Authority::new(folders().0, name).file))
        .map(|pem| String::from_utf8(pem).expect("PEM is text"));
    let stop = AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        let readers =
            ["v1beta1", "v1beta2"].map(|version| scope.spawn(|| read_on(&world, version, &stop)));
        let begin = Instant::now();
        let rotated = |what: &str| -> f64 {
            let label = format!("what=\"{what}\"");
            let name = "tidepole_certificates_rotations_total";
            replicas.iter().map(|replica| replica.counted(name, &[&label])).sum()
        };
        // The first is no rotation of anything.
        let first = rotated("authority");
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("an authority was rotated", SOON, || {
                let seen = rotated("authority");
                if seen > first { Ok(()) } else { Err(format!("{seen}")) }
            });
            let before = secret(&world).expect("it is there");
            let mut delete = world.plane.kubectl();
            delete.args(["--namespace", NAMESPACE, "delete", "secret", "tidepole-serving"]);
            run(&mut delete).expect("it is there");
            let back = eventually("the Secret is back", SOON, || secret(&world));
            println!("the same pair: {}", back == before);
            for name in API_SERVICES {
                eventually("a stranger is put beside ours", SOON, || edit(&world, name, &beside));
            }
            eventually("the next authority was rotated", SOON, || {
                let seen = rotated("authority");
                if seen > first + 1.0 { Ok(()) } else { Err(format!("{seen}")) }
            });
            // Whoever serves a pair of the one before has let go of it.
            std::thread::sleep(Duration::from_secs(3));
        }));
        stop.store(true, Ordering::SeqCst);
        let results = readers.map(|reader| reader.join().expect("a reader does not panic"));
        println!("{:?} under load", begin.elapsed());
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        results
    });
    let reads: usize = results.iter().map(|(reads, _)| reads).sum();
    let failures: Vec<_> = results.iter().flat_map(|(_, failures)| failures).collect();
    println!("measured: {reads} reads through two authorities, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:?}");
    assert!(reads > 500, "{reads} reads");
    let handshakes: f64 = replicas
        .iter()
        .map(|replica| replica.counted("tidepole_server_connections_total", &[]))
        .sum();
    assert!(handshakes > 30.0, "the aggregator verified {handshakes} times");

    // Somebody breaks a bundle: nothing can be read until it is repaired, which is soon.
    let foreign = base64::prelude::BASE64_STANDARD.encode(&instead);
    let patch = format!("{{\"spec\":{{\"caBundle\":\"{foreign}\"}}}}");
    let mut edit = world.plane.kubectl();
    edit.args(["patch", "apiservice", API_SERVICES[0], "--type=merge", "--patch", &patch]);
    run(&mut edit).expect("an administrator may");
    let edited = Instant::now();
    eventually("the bundle is repaired", Duration::from_secs(5), || {
        let text = String::from_utf8_lossy(&bundle(&world, API_SERVICES[0])).into_owned();
        if text.matches("BEGIN").count() > 1 { Ok(()) } else { Err(text) }
    });
    eventually("reads succeed again", Duration::from_secs(5), || served(&world, "v1beta1"));
    println!("measured: an edited caBundle is repaired within {:?}", edited.elapsed());
    for replica in &replicas {
        let log = replica.process.log();
        assert!(!log.contains("PRIVATE"), "a key is in the log");
    }
    drop(registered);
    for replica in replicas {
        assert_eq!(replica.process.stop(Duration::from_secs(45)), 0);
    }
}
