//! A namespace with a Deployment and a `HorizontalPodAutoscaler`, as a user of the adapter has.
//!
//! No kubelet runs: the `ReplicaSet` controller makes pods and [`keep_pods_ready`] does what a
//! kubelet would have reported.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::control_plane::run;
use crate::process::{always, eventually};
use crate::world::World;

/// Pods with this label become ready only while fewer than its value are.
const READY_LIMIT: &str = "tests.tidepole.dev/ready-limit";

/// HPAs are computed every second here; a value is seen after a scrape, a refresh and a sync.
pub(crate) const SOON: Duration = Duration::from_secs(45);

/// Several syncs of the HPA controller: what has not moved by then does not move.
pub(crate) const A_WHILE: Duration = Duration::from_secs(4);

/// A namespace with the Deployment `web`; removed on drop.
pub(crate) struct Workload<'a> {
    pub(crate) world: &'a World,
    pub(crate) namespace: String,
}

/// What an HPA says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl<'a> Workload<'a> {
    /// Makes the namespace and a Deployment whose pods all become ready.
    pub(crate) fn new(world: &'a World, namespace: &str, replicas: u32) -> Self {
        Self::with_ready_limit(world, namespace, replicas, u32::MAX)
    }

    /// Same, but only `limit` pods ever become ready.
    pub(crate) fn with_ready_limit(
        world: &'a World,
        namespace: &str,
        replicas: u32,
        limit: u32,
    ) -> Self {
        world.plane.apply(&format!(
            "{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {namespace} }} }}"
        ));
        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), namespace);
        eventually("the namespace has its ServiceAccount", SOON, || {
            world.wait(accounts.get("default")).map(drop).map_err(|error| error.to_string())
        });
        world.plane.apply(&format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: {namespace} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web, {READY_LIMIT}: "{limit}" }} }}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      containers: [{{ name: web, image: "registry.invalid/web" }}]
"#
        ));
        let workload = Self { world, namespace: namespace.to_owned() };
        let wanted = usize::try_from(replicas.min(limit)).expect("a handful of pods");
        eventually("the Deployment's pods are ready", SOON, || {
            let ready = workload.ready_pods();
            if ready == wanted { Ok(()) } else { Err(format!("{ready} pods are ready")) }
        });
        workload
    }

    /// Writes metric definitions for this namespace: the `spec` of each by its name.
    pub(crate) fn define(&self, definitions: &[(&str, &str)]) {
        let mut text = String::new();
        for (name, spec) in definitions {
            let spec = spec.trim_end().replace('\n', "\n  ");
            let written = write!(
                text,
                "---\napiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\n\
                 metadata: {{ name: {name}, namespace: {} }}\nspec:\n  {}\n",
                self.namespace,
                spec.trim_start()
            );
            written.expect("writing to a String cannot fail");
        }
        let folder = &self.world.installation.definitions;
        // Renamed into place, as an editor does: a half-written file is never read.
        let hidden = folder.join(format!(".{}.tmp", self.namespace));
        std::fs::write(&hidden, text).expect("the folder is ours");
        std::fs::rename(&hidden, self.file()).expect("the folder is ours");
    }

    fn file(&self) -> std::path::PathBuf {
        self.world.installation.definitions.join(format!("{}.yaml", self.namespace))
    }

    /// Applies an HPA over `web` with the given `metrics`, one YAML flow value each. Its
    /// `behavior` lets every computed value take effect at once.
    pub(crate) fn autoscale(&self, metrics: &[&str]) {
        let metrics = metrics.join("\n    - ");
        self.world.plane.apply(&format!(
            "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ name: web, namespace: {} }}
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}
  minReplicas: 1
  maxReplicas: 60
  metrics:
    - {metrics}
  behavior:
    scaleUp: &at-once
      stabilizationWindowSeconds: 0
      policies: [{{ type: Pods, value: 1000, periodSeconds: 1 }}]
    scaleDown: *at-once
",
            self.namespace
        ));
    }

    /// The Deployment's wanted replicas.
    pub(crate) fn replicas(&self) -> i32 {
        let api: Api<Deployment> = Api::namespaced(self.world.client.clone(), &self.namespace);
        let deployment = self.world.wait(api.get("web")).expect("the Deployment is there");
        deployment.spec.and_then(|spec| spec.replicas).expect("replicas are defaulted")
    }

    fn ready_pods(&self) -> usize {
        let api: Api<Pod> = Api::namespaced(self.world.client.clone(), &self.namespace);
        let pods = self.world.wait(api.list(&ListParams::default())).expect("pods can be listed");
        pods.iter().filter(|pod| is_ready(pod)).count()
    }

    /// The HPA as the cluster has it.
    pub(crate) fn hpa(&self) -> HorizontalPodAutoscaler {
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.world.client.clone(), &self.namespace);
        self.world.wait(api.get("web")).expect("the HPA is there")
    }

    /// Waits until the Deployment has exactly `wanted` replicas and keeps them.
    pub(crate) fn expect_replicas(&self, wanted: i32) {
        let what = format!("{} has {wanted} replicas", self.namespace);
        eventually(&what, SOON, || {
            let seen = self.replicas();
            if seen == wanted { Ok(()) } else { Err(format!("{seen}; {:?}", self.scaling())) }
        });
        self.expect_unmoved(wanted, A_WHILE);
    }

    /// Asserts that the Deployment keeps `wanted` replicas all through `during`.
    pub(crate) fn expect_unmoved(&self, wanted: i32, during: Duration) {
        let what = format!("{} keeps {wanted} replicas", self.namespace);
        always(&what, during, || {
            let seen = self.replicas();
            if seen == wanted { Ok(()) } else { Err(format!("{seen}; {:?}", self.scaling())) }
        });
    }

    /// The condition `ScalingActive`.
    pub(crate) fn scaling(&self) -> Option<Condition> {
        let conditions = self.hpa().status?.conditions?;
        let found = conditions.into_iter().find(|condition| condition.type_ == "ScalingActive")?;
        Some(Condition {
            status: found.status,
            reason: found.reason.unwrap_or_default(),
            message: found.message.unwrap_or_default(),
        })
    }

    /// Waits for a reason of `ScalingActive`; the condition.
    pub(crate) fn expect_scaling(&self, reason: &str) -> Condition {
        let what = format!("{} says {reason}", self.namespace);
        eventually(&what, SOON, || {
            let condition = self.scaling();
            match condition {
                Some(condition) if condition.reason == reason => Ok(condition),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// The values the HPA last read, by metric name: `value` or `averageValue` as printed.
    pub(crate) fn current(&self) -> BTreeMap<String, String> {
        let metrics = self.hpa().status.and_then(|status| status.current_metrics);
        metrics
            .into_iter()
            .flatten()
            .filter_map(|metric| metric.external)
            .filter_map(|external| {
                let current = external.current;
                let value = current.value.or(current.average_value)?;
                Some((external.metric.name, value.0))
            })
            .collect()
    }

    /// What the adapter answers to a person who asks for a metric that cannot be read: the message
    /// of its `Status`.
    pub(crate) fn refusal(&self, metric: &str) -> String {
        let path =
            format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{metric}", self.namespace);
        let error = match self.world.get_raw(&path) {
            Err(error) => error,
            Ok(answer) => panic!("{path} was answered: {answer}"),
        };
        // kubectl prints `Error from server (Reason): message` and its own exit status.
        let (_, message) = error.split_once("): ").unwrap_or_else(|| panic!("not ours: {error}"));
        message.lines().next().expect("a message has a line").to_owned()
    }
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.file());
        let mut delete = self.world.plane.kubectl();
        delete.args(["delete", "namespace", &self.namespace, "--wait=false"]);
        if let Err(error) = run(&mut delete) {
            eprintln!("{error}");
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Reports every new pod as running and ready for as long as this process lives.
pub(crate) fn keep_pods_ready(client: Client) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(async {
            let pods: Api<Pod> = Api::all(client.clone());
            let mut changes = watcher(pods, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .boxed();
            loop {
                match changes.try_next().await {
                    Ok(Some(pod)) => make_ready(&client, &pod).await,
                    Ok(None) => return,
                    // The watcher starts again by itself.
                    Err(error) => eprintln!("watching pods: {error}"),
                }
            }
        });
    });
}

async fn make_ready(client: &Client, pod: &Pod) {
    let namespace = pod.namespace().expect("pods have a namespace");
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    if let Some(limit) = pod.labels().get(READY_LIMIT) {
        let limit: usize = limit.parse().expect("the harness writes numbers");
        let Ok(all) = api.list(&ListParams::default()).await else { return };
        if all.iter().filter(|pod| is_ready(pod)).count() >= limit {
            return;
        }
    }
    // Long enough ago for the HPA to take the pod for settled.
    let since = "2020-01-01T00:00:00Z";
    let yes = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": since });
    let status = json!({ "status": {
        "phase": "Running",
        "startTime": since,
        "podIP": "10.1.0.1",
        "podIPs": [{ "ip": "10.1.0.1" }],
        "conditions": [yes("PodScheduled"), yes("Initialized"), yes("ContainersReady"), yes("Ready")],
    }});
    let patch = Patch::Merge(status);
    if let Err(error) = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
        // A pod that is gone by now needs no status.
        if !matches!(&error, kube::Error::Api(status) if status.code == 404) {
            eprintln!("pod {namespace}/{}: {error}", pod.name_any());
        }
    }
}
