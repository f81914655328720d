//! What reads of metrics of pods cost with the real server, and what knowing the pods does.
//!
//! `cargo bench --bench objects_serve [-- SECONDS [PODS]]` (5 and 50,000 unless told) starts Tidepole
//! with a rule of prometheus-adapter, before a fake API server with that many pods, as large as real
//! ones are, and a fake Prometheus. Then it reads one metric of 50 and of 1,000 pods from memory, as
//! the HPA controller does, over HTTP/2 and TLS with a front-proxy certificate. Needs no network
//! beyond loopback. The load comes from the same machine.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark's figures are estimates, and its tasks end with the process"
)]

#[expect(dead_code, reason = "when a read was made is another benchmark's business")]
#[path = "load/client.rs"]
mod client;
#[expect(dead_code, unused_imports, reason = "its other uses are those of tests")]
#[path = "../tests/support/cluster_api.rs"]
mod cluster_api;
#[path = "load/process.rs"]
mod process;
#[expect(dead_code, reason = "metrics of definitions are another benchmark's business")]
#[path = "load/site.rs"]
mod site;
#[path = "../tests/support/upstream.rs"]
mod upstream;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Shape, Target};
use cluster_api::{ClusterApi, PODS, trust};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use process::Server;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use site::Started;
use upstream::{Reply, Upstream};

/// Pods of the workloads that are read.
const FEW: usize = 50;
const MANY: usize = 1000;

/// The others live in so many namespaces.
const NAMESPACES: usize = 100;

const RULES: &str = r"
rules:
- seriesQuery: 'requests'
  resources: { template: <<.Resource>> }
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
";

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("first to install");
    let mut numbers = std::env::args().filter_map(|a| a.parse().ok());
    let seconds = numbers.next().unwrap_or(5);
    let pods = numbers.next().map_or(50_000, |pods| pods as usize);
    let folder = tempfile::tempdir().expect("a folder");
    let tls = site::certificates(folder.path());
    let ca = std::fs::read_to_string(folder.path().join("ca.crt")).expect("ca.crt");
    let cluster = ClusterApi::start(trust(&ca, &ca));
    cluster.objects().serve(&[PODS]);
    for number in 0..pods {
        let (namespace, app) = match number {
            0..FEW => ("shop".to_owned(), "few"),
            FEW..MANY => ("shop".to_owned(), "many"),
            _ => (format!("team-{}", number % NAMESPACES), "other"),
        };
        let name = format!("{app}-6d4cf56db6-{number:05}");
        cluster.objects().put_raw(
            &PODS,
            &format!("{namespace}/{name}"),
            pod(&namespace, &name, app),
        );
    }
    let prometheus = prometheus();
    write_config(folder.path(), &cluster, &prometheus);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(run(folder.path(), tls, Duration::from_secs(seconds), pods));
}

/// The metadata of a pod of a Deployment, with what a real one carries along.
fn pod(namespace: &str, name: &str, app: &str) -> Value {
    let fields = "f:metadata f:labels f:ownerReferences f:spec f:containers f:status f:conditions";
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "namespace": namespace, "name": name, "generateName": format!("{app}-6d4cf56db6-"),
            "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "app": app, "pod-template-hash": "6d4cf56db6", "app.kubernetes.io/version": "1.2.3",
                // All thousand.
                "part-of": if namespace == "shop" { "shop" } else { "elsewhere" },
            },
            "annotations": {
                "cni.example.com/network": "10.1.2.3/24 ".repeat(20),
                "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6d4cf56db6"),
                "uid": "1", "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [
                {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                 "fieldsType": "FieldsV1", "fieldsV1": {"f": fields.repeat(4)}},
                {"manager": "kubelet", "operation": "Update", "apiVersion": "v1",
                 "fieldsType": "FieldsV1", "fieldsV1": {"f": fields.repeat(8)}},
            ],
        },
    })
}

/// Has a value for every pod that is asked about.
fn prometheus() -> Upstream {
    Upstream::start(|request| {
        let data = if request.path() == "/api/v1/series" {
            json!([{"__name__": "requests", "namespace": "shop", "pod": "x"}])
        } else {
            let query = request.parameter("query").expect("a query");
            let (_, names) = query.split_once("pod=~\"").expect("a query about several pods");
            let (names, _) = names.split_once('"').expect("a whole query");
            let names: Vec<String> = if names == ".+" {
                let name = |number| {
                    let app = if number < FEW { "few" } else { "many" };
                    format!("{app}-6d4cf56db6-{number:05}")
                };
                (0..MANY).map(name).collect()
            } else {
                names.split('|').map(str::to_owned).collect()
            };
            let now = jiff::Timestamp::now().as_second();
            let series =
                names.iter().map(|pod| json!({"metric": {"pod": pod}, "value": [now, "64.1"]}));
            json!({"resultType": "vector", "result": series.collect::<Vec<_>>()})
        };
        Reply::json(200, json!({"status": "success", "data": data}).to_string())
    })
}

fn write_config(folder: &Path, cluster: &ClusterApi, prometheus: &Upstream) {
    std::fs::write(folder.join("kubeconfig"), cluster.kubeconfig()).expect("kubeconfig");
    std::fs::write(folder.join("rules.yaml"), RULES).expect("rules.yaml");
    std::fs::write(
        folder.join("config.yaml"),
        format!(
            "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\nserver:\n  listen: 127.0.0.1:0\n  tls: {{ certFile: server.crt, keyFile: server.key }}\n  auth: delegated\nadmin: {{ listen: 127.0.0.1:0 }}\nkubernetes: {{ kubeconfig: kubeconfig }}\nsources: [{{ name: main, prometheus: {{ url: \"{}\" }} }}]\nrules: [{{ path: rules.yaml, source: main }}]\n",
            prometheus.url()
        ),
    )
    .expect("config.yaml");
}

/// A read as a kube-apiserver passes it on.
fn request(selector: &str) -> Request<Empty<Bytes>> {
    let mut request = site::request(0);
    *request.uri_mut() = format!(
        "https://localhost/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/%2A/requests?labelSelector={selector}"
    )
    .parse()
    .expect("a URL");
    request
}

fn few(_number: u64) -> Request<Empty<Bytes>> {
    request("app%3Dfew")
}

fn many(_number: u64) -> Request<Empty<Bytes>> {
    request("part-of%3Dshop")
}

async fn run(
    folder: &Path,
    tls: std::sync::Arc<rustls::ClientConfig>,
    duration: Duration,
    pods: usize,
) {
    let Started { server, api, .. } = site::start(folder, &[]);
    println!("resident before the first read: {}", server.memory());
    let target = |request| Target {
        address: api,
        server_name: ServerName::try_from("localhost").expect("a name"),
        tls: std::sync::Arc::clone(&tls),
        request,
    };
    for (name, request, wanted) in
        [(FEW, few as fn(u64) -> Request<Empty<Bytes>>, FEW), (MANY, many, MANY)]
    {
        let target = target(request);
        let begun = Instant::now();
        let bytes = warm(&target, wanted).await;
        println!("\n{name} pods, {bytes} bytes; the first read after {:?}", begun.elapsed());
        if name == FEW {
            tokio::time::sleep(Duration::from_secs(3)).await;
            println!("  resident with {pods} pods known: {}", server.memory());
        }
        for (name, connections, streams) in [("1 x 1 ", 1, 1), ("2 x 50", 2, 50)] {
            let shape = Shape { connections, streams, rate: None };
            measure(&server, &target, shape, duration / 4).await;
            let (outcome, cpu) = measure(&server, &target, shape, duration).await;
            println!(
                "  {name} {:>8.0} reads/s   {cpu:>6.1} us CPU/read   p50 {:>5} us   p99 {:>5} us   {:>6.1} MB/s",
                outcome.per_second(),
                outcome.percentile_us(0.5),
                outcome.percentile_us(0.99),
                outcome.per_second() * bytes as f64 / 1e6,
            );
        }
        // A load that leaves the machine room for who makes it.
        let shape = Shape { connections: 2, streams: 50, rate: Some(1000.0) };
        let (outcome, cpu) = measure(&server, &target, shape, duration).await;
        println!(
            "  2 x 50, 1,000 reads/s     {cpu:>6.1} us CPU/read   p50 {:>5} us   p99 {:>5} us",
            outcome.percentile_us(0.5),
            outcome.percentile_us(0.99),
        );
    }
    println!("\nresident after the load: {}", server.memory());
}

/// Reads until all pods have a value; the size of the answer.
async fn warm(target: &Target, wanted: usize) -> usize {
    let mut sender = target.connect().await;
    let begun = Instant::now();
    loop {
        let response = sender.send_request((target.request)(0)).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        let items = list["items"].as_array().map_or(0, Vec::len);
        if status.is_success() && items == wanted {
            return body.len();
        }
        assert!(begun.elapsed() < Duration::from_mins(3), "{status}: {body:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An outcome, and the server's CPU time per read in microseconds.
async fn measure(
    server: &Server,
    target: &Target,
    shape: Shape,
    duration: Duration,
) -> (client::Outcome, f64) {
    let before = server.cpu();
    let outcome = target.load(shape, duration).await;
    let cpu = server.cpu().saturating_sub(before);
    let per_read = cpu.as_secs_f64() * 1e6 / outcome.reads.max(1) as f64;
    (outcome, per_read)
}
