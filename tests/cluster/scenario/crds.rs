//! The kinds of metrics as resources: what the API server takes, refuses and shows of them. The
//! control plane is one of its own, in which no adapter runs.

mod agreement;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tidepole::definition::resource::{self, Resource};
use tidepole::definition::{Author, Context, Defaults, Definition};
use tidepole::model::DefinitionKind::{ClusterExternalMetric, CustomMetric, ExternalMetric};
use tidepole::model::{DefinitionId, DefinitionKind, Origin};
use tokio::runtime::Runtime;

use crate::control_plane::{ControlPlane, run};
use crate::process::eventually;
use crate::{root, world};

/// A namespace for each test that keeps something.
const NAMESPACES: [&str; 4] = ["shop", "team", "columns", "dry-run"];

struct Cluster {
    plane: ControlPlane,
    client: Client,
    runtime: Runtime,
}

/// Started by whichever test is first.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let start = || std::panic::catch_unwind(Cluster::start).ok();
    CLUSTER.get_or_init(start).as_ref().expect("the cluster could not be started: see above")
}

impl Cluster {
    fn start() -> Self {
        let (folder, logs) = world::folders();
        let [folder, logs] = [folder, logs].map(|base| base.join("crds"));
        for folder in [&folder, &logs] {
            std::fs::create_dir_all(folder).expect("target/ is writable");
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plane = ControlPlane::start(&folder, &logs);
        let mut apply = plane.kubectl();
        apply.args(["apply", "--kustomize"]).arg(root().join("deploy/crds"));
        run(&mut apply).expect("the API server takes the definitions of the kinds");
        let mut wait = plane.kubectl();
        wait.args(["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"]);
        run(&mut wait).expect("the kinds are established");
        for name in NAMESPACES {
            plane
                .apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}\n"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let client = runtime.block_on(world::client(&plane.admin));
        Self { plane, client, runtime }
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run(self.plane.kubectl().args(arguments))
    }
}

/// What the API server says of a new resource of this kind and spec: nothing when it takes it.
async fn refusal(
    client: &Client,
    kind: DefinitionKind,
    name: &str,
    spec: &Value,
) -> Option<String> {
    let folder = if kind.is_namespaced() { "namespaces/dry-run/" } else { "" };
    let path = format!(
        "/apis/tidepole.dev/v1alpha1/{folder}{}?dryRun=All&fieldValidation=Strict",
        kind.plural()
    );
    let body = json!({
        "apiVersion": "tidepole.dev/v1alpha1",
        "kind": kind.as_str(),
        "metadata": { "name": name },
        "spec": spec,
    });
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .expect("the request is well formed");
    match client.request::<Value>(request).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Some(status.message),
        Err(error) => panic!("{kind:?} {spec}: {error}"),
    }
}

/// What the adapter makes of it.
fn read(kind: DefinitionKind, namespace: &str, name: &str, spec: &Value) -> Definition {
    let namespace = kind.is_namespaced().then(|| namespace.into());
    let id = DefinitionId { kind, namespace, name: name.into() };
    let annotations = std::collections::BTreeMap::new();
    let created = jiff::Timestamp::UNIX_EPOCH;
    let resource = Resource { id: &id, created, annotations: &annotations, spec };
    resource::read(&resource, &context(Author::Tenant, &Defaults::default()))
}

fn context(author: Author, defaults: &Defaults) -> Context<'_> {
    Context { sources: None, defaults, cluster: true, author, read_file: &no_file }
}

/// There are no recordings here.
fn no_file(_: &Path, _: usize) -> std::io::Result<Vec<u8>> {
    Err(std::io::ErrorKind::NotFound.into())
}

#[test]
fn kubectl_explains_every_kind() {
    let cluster = cluster();
    for (path, said) in [
        ("externalmetrics.tidepole.dev", "HPAs of its own namespace can ask for"),
        ("tpcem.spec.namespaceSelector.matchExpressions", "Further requirements; all must hold."),
        ("custommetrics.tidepole.dev.spec.resource", "deployments.apps"),
        ("clustercustommetrics.tidepole.dev.spec.prometheus.query", "$objects stands for"),
        ("tpem.spec.maxAge", "The oldest sample that is served: a duration like 2m"),
        ("tpem.spec.cloudwatch.metric.unit", "ENUM: Seconds Microseconds"),
        ("tpem.status.conditions.reason", "One word for programs."),
    ] {
        let shown = cluster.kubectl(&["explain", path]).expect("the kind is known");
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(said), "{path}: {shown}");
    }
}

/// A kind, a spec that makes no sense, and what is said of it.
type Nonsense = (DefinitionKind, Value, &'static str);

/// Names, times and numbers.
fn about_plain_fields() -> Vec<Nonsense> {
    vec![
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "refresh": "15" }),
            "spec.refresh: Invalid value: \"string\": not a duration; write it like 15s, 2m, 1h30m or 500ms, with a unit",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "refresh": "500ms" }),
            "refresh is below the floor of 1s",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "refresh": "1m", "maxAge": "30s" }),
            "spec.maxAge: Invalid value: \"object\": maxAge is below refresh",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "min": "1k", "max": 999 }),
            "spec.max: Invalid value: \"object\": max is below min",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "onNoData": "-1m" }),
            "onNoData is below 0; set allowNegative: true if that is meant",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "onNoData": "nothing" }),
            "expected error, hold or a number",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "labels": { "a b": "c" } }),
            "spec.labels: Invalid value: \"object\": not a valid label key",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "metric": "a/b" }),
            "a metric name must not be",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "metric": "Status" }),
            "the metric names status and finalize are taken by Kubernetes' path grammar",
        ),
    ]
}

/// Queues and `CloudWatch`.
fn about_aws() -> Vec<Nonsense> {
    let metric = json!({ "namespace": "AWS/SQS", "name": "Depth", "statistic": "Sum" });
    vec![
        (
            ExternalMetric,
            json!({ "sqs": { "queues": ["arn:aws:sqs:eu-west-1:111122223333:jobs"], "region": "us-east-1" } }),
            "spec.sqs.region: Invalid value: \"object\": a queue's ARN is of another region",
        ),
        (
            ExternalMetric,
            json!({ "sqs": { "queues": ["jobs", "jobs"] } }),
            "spec.sqs.queues[1]: Duplicate value: \"jobs\"",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "metric": metric } }),
            "spec.cloudwatch.period: Required value: the period is missing: set period, or metric.period",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "metric": metric, "expression": "x" } }),
            "exactly one of metric, queries, expression is needed",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "expression": "SELECT AVG(a) FROM b" } }),
            "an expression that finds its data by itself (SELECT, SEARCH) needs a period",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "metric": metric, "period": "90s" } }),
            "CloudWatch has no such period",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "period": "1m", "queries": [{ "id": "a", "metric": metric }, { "id": "b", "metric": metric }] } }),
            "exactly one query is returned: say return: true at that one",
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "metric": metric, "period": "1m" }, "refresh": "30s" }),
            "spec.refresh: Invalid value: \"object\": refresh is below the floor for cloudwatch",
        ),
    ]
}

/// What does not go together, or is of another kind.
fn about_kinds() -> Vec<Nonsense> {
    let wave = json!({ "min": 0, "max": 1, "period": "1m" });
    vec![
        (
            ExternalMetric,
            json!({}),
            "spec: Invalid value: \"object\": exactly one of prometheus, sqs, cloudwatch, simulated is needed",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "simulated": { "wave": wave } }),
            "exactly one of prometheus, sqs, cloudwatch, simulated is needed",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "refersh": "1s" }),
            "unknown field \"spec.refersh\"",
        ),
        (
            ExternalMetric,
            json!({ "prometheus": { "query": "up" }, "namespaces": ["a"] }),
            "unknown field \"spec.namespaces\"",
        ),
        (
            ExternalMetric,
            json!({ "simulated": { "csv": "a.csv" } }),
            "unknown field \"spec.simulated.csv\"",
        ),
        (
            ClusterExternalMetric,
            json!({ "simulated": { "wave": wave }, "namespaces": ["a"], "namespaceSelector": {} }),
            "spec.namespaceSelector: Forbidden: namespaces and namespaceSelector exclude each other",
        ),
        (
            ClusterExternalMetric,
            json!({ "prometheus": { "query": "x{n=\"$namespace\"}" }, "keepWarm": true }),
            "keepWarm needs a query without $namespace, or an ExternalMetric",
        ),
        (
            CustomMetric,
            json!({ "resource": "pods", "prometheus": { "query": "x{pod=\"$objects\"}" } }),
            "$objects stands for a regular expression; compare it with =~ or !~",
        ),
        (CustomMetric, json!({ "prometheus": { "query": "x" } }), "spec.resource: Required value"),
    ]
}

#[test]
fn nonsense_is_refused_in_plain_words() {
    let cluster = cluster();
    for (kind, spec, message) in [about_plain_fields(), about_aws(), about_kinds()].concat() {
        let said = cluster.runtime.block_on(refusal(&cluster.client, kind, "dry-run", &spec));
        let said = said.unwrap_or_else(|| panic!("the API server takes {spec}"));
        assert!(said.contains(message), "{said}");
        assert!(read(kind, "dry-run", "dry-run", &spec).outcome.is_err(), "{spec}");
    }
}

/// Files of definitions are resources as they stand, and say the same as such.
#[test]
fn every_example_is_a_resource() {
    let cluster = cluster();
    let folder = root().join("config/examples");
    let mut apply = cluster.plane.kubectl();
    let said = run(apply.args(["apply", "--filename"]).arg(&folder)).expect("all are taken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("examples are readable");
        let defaults = Defaults::default();
        let documents =
            tidepole::definition::read(&file, &text, &context(Author::Operator, &defaults));
        for document in documents.expect("examples are YAML") {
            let mut written = document.outcome.expect("examples are fine");
            let id = document.id.expect("examples have names");
            let mut get = vec!["get", id.kind.plural(), &id.name, "--output=json"];
            get.extend(id.namespace.as_deref().map(|_| "--namespace"));
            get.extend(id.namespace.as_deref());
            let object = cluster.kubectl(&get).expect("the resource is there");
            let object: Value = serde_json::from_str(&object).expect("kubectl prints JSON");
            let namespace = id.namespace.as_deref().unwrap_or_default();
            let stored = read(id.kind, namespace, &id.name, &object["spec"]);
            let stored = stored.outcome.unwrap_or_else(|problems| panic!("{problems:?}"));
            written.origin = Origin::Resource { created: jiff::Timestamp::UNIX_EPOCH };
            assert_eq!(stored, written);
            seen += 1;
        }
    }
    assert_eq!(said.lines().count(), seen, "{said}");
    assert!(seen >= 14, "{seen} examples");
}

#[test]
fn kubectl_get_prints_columns_under_every_name() {
    let cluster = cluster();
    let document = "apiVersion: tidepole.dev/v1alpha1\n\
                    kind: ExternalMetric\n\
                    metadata: { name: jobs, namespace: columns }\n\
                    spec: { metric: jobs_depth, sqs: { queues: [jobs] } }\n";
    cluster.plane.apply(document);
    let now = jiff::Timestamp::now();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "A sentence.",
            "lastTransitionTime": now.to_string(), "observedGeneration": 1,
        })
    };
    let status = json!({ "status": {
        "observedGeneration": 1,
        "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("Ready", "False", "AccessDenied"),
        ],
        "metric": "jobs_depth",
        "source": "main (sqs)",
        "value": "12",
        "current": [{ "labels": { "queue": "jobs" }, "value": "12" }],
        "sampledAt": (now - Duration::from_mins(3)).to_string(),
        "lastError": { "reason": "AccessDenied", "message": "No.", "at": now.to_string() },
        "usedBy": { "count": 1, "hpas": [{ "namespace": "columns", "name": "web" }] },
    } });
    let patch = format!("--patch={status}");
    cluster
        .kubectl(&[
            "patch",
            "tpem",
            "jobs",
            "--namespace=columns",
            "--subresource=status",
            "--type=merge",
            &patch,
        ])
        .expect("the status is taken");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for name in ["tpem", "externalmetric", "externalmetrics.tidepole.dev"] {
        let shown = cluster.kubectl(&["get", name, "--namespace=columns"]).expect("it is listed");
        let lines: Vec<Vec<String>> = shown.lines().map(words).collect();
        assert_eq!(
            lines[0],
            ["NAME", "METRIC", "SOURCE", "VALUE", "SAMPLED", "READY", "REASON", "AGE"]
        );
        assert_eq!(
            lines[1][..8],
            ["jobs", "jobs_depth", "main", "(sqs)", "12", &lines[1][5], "False", "AccessDenied"],
            "{shown}"
        );
        assert!(lines[1][5].starts_with("3m"), "{shown}");
    }
    let shown = cluster.kubectl(&["get", "tidepole", "--namespace=columns", "--output=name"]);
    let shown = shown.expect("the category is known");
    assert!(shown.lines().any(|line| line == "externalmetric.tidepole.dev/jobs"), "{shown}");
    for short in ["tpcem", "tpcm", "tpccm"] {
        cluster.kubectl(&["get", short, "--namespace=columns"]).expect("short names are known");
    }
    // Who writes a spec does not write the status with it.
    let patch = "--patch={\"status\":{\"value\":\"13\"}}";
    let changed = ["patch", "tpem", "jobs", "--namespace=columns", "--type=merge", patch];
    cluster.kubectl(&changed).expect("the patch is taken");
    let value = ["get", "tpem", "jobs", "--namespace=columns", "--output=jsonpath={.status.value}"];
    assert_eq!(cluster.kubectl(&value), Ok("12".to_owned()));
}

/// What people of a namespace may do with resources, as `kubectl auth can-i` tells it.
#[test]
fn roles_of_a_namespace_cover_its_metrics() {
    let cluster = cluster();
    for role in ["view", "edit", "admin"] {
        cluster.plane.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{ name: {role}, namespace: team }}\n\
             roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role} }}\n\
             subjects: [{{ apiGroup: rbac.authorization.k8s.io, kind: User, name: the-{role} }}]\n"
        ));
    }
    let read: BTreeSet<&str> = BTreeSet::from(["get", "list", "watch"]);
    let write = BTreeSet::from(["create", "update", "patch", "delete", "deletecollection"]);
    let all: BTreeSet<&str> = read.union(&write).copied().collect();
    for (role, wanted) in [("view", &read), ("edit", &all), ("admin", &all)] {
        let user = format!("--as=the-{role}");
        let list = ["auth", "can-i", "--list", "--namespace=team", &user];
        let found = |resource: &str| -> Result<BTreeSet<String>, String> {
            let shown = cluster.kubectl(&list)?;
            let rows = shown.lines().filter(|row| row.split(' ').next() == Some(resource));
            let verbs = rows.filter_map(|row| row.rsplit_once('[').map(|(_, verbs)| verbs));
            let verbs = verbs.flat_map(|verbs| verbs.trim_end_matches(']').split(' '));
            Ok(verbs.map(str::to_owned).collect())
        };
        for resource in ["externalmetrics.tidepole.dev", "custommetrics.tidepole.dev"] {
            // The controller that aggregates roles takes a moment.
            eventually("the role is aggregated", Duration::from_secs(30), || {
                let found = found(resource)?;
                let is_wanted = found.iter().map(String::as_str).eq(wanted.iter().copied());
                if is_wanted { Ok(()) } else { Err(format!("{role}, {resource}: {found:?}")) }
            });
        }
        for denied in [
            ["patch", "externalmetrics.tidepole.dev", "--subresource=status"],
            ["create", "clusterexternalmetrics.tidepole.dev", "--all-namespaces"],
            ["get", "clusterexternalmetrics.tidepole.dev", "--all-namespaces"],
        ] {
            let mut ask = cluster.plane.kubectl();
            ask.args(["auth", "can-i", "--namespace=team", &user]).args(denied);
            let answer = run(&mut ask).expect_err("a no is a failure");
            assert!(answer.starts_with("no"), "{role} {denied:?}: {answer}");
        }
    }
}
