//! Many Deployments with an HPA each, in the namespace of one [`Workload`].
//!
//! Every HPA has a Deployment of its own: two HPAs that select the same pods are refused by the
//! controller as ambiguous.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::process::eventually;
use crate::workload::Workload;

/// Requests that make objects, at once.
const AT_ONCE: usize = 16;

/// Objects made within one bounded wait.
const BATCH: usize = 100;

/// `crowd-0`, `crowd-1`, ...: a Deployment with one ready pod each.
pub(crate) struct Crowd<'a> {
    web: &'a Workload<'a>,
    size: usize,
}

impl<'a> Crowd<'a> {
    /// Makes the Deployments and waits until each counts its pod. `web`'s drop removes them.
    pub(crate) fn new(web: &'a Workload<'a>, size: usize) -> Self {
        let crowd = Self { web, size };
        let deployments = Api::<Deployment>::namespaced(web.world.client.clone(), &web.namespace);
        crowd.create(&deployments, |number| {
            let labels = json!({ "app": name(number) });
            json!({
                "metadata": { "name": name(number) },
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": labels },
                    "template": { "metadata": { "labels": labels }, "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{ "name": "web", "image": "registry.invalid/web" }],
                    }},
                },
            })
        });
        eventually("the crowd's pods are ready", Duration::from_mins(3), || {
            let all = web.world.wait(deployments.list(&ListParams::default()));
            let all = all.map_err(|error| error.to_string())?;
            let ready = |deployment: &&Deployment| {
                let status = deployment.status.as_ref();
                status.and_then(|status| status.ready_replicas) == Some(1)
            };
            let ready = all.iter().filter(ready).count();
            // `web` itself is one more.
            if ready > size { Ok(()) } else { Err(format!("{ready} Deployments are ready")) }
        });
        crowd
    }

    /// Makes the HPAs: each on one External metric with an average of 10 for its target.
    pub(crate) fn autoscale(&self, metric: impl Fn(usize) -> String) {
        let hpas = self.api();
        self.create(&hpas, |number| {
            json!({
                "metadata": { "name": name(number) },
                "spec": {
                    "scaleTargetRef":
                        { "apiVersion": "apps/v1", "kind": "Deployment", "name": name(number) },
                    "maxReplicas": 10,
                    "metrics": [{ "type": "External", "external": {
                        "metric": { "name": metric(number) },
                        "target": { "type": "AverageValue", "averageValue": "10" },
                    }}],
                },
            })
        });
    }

    /// Waits until `check` accepts every HPA of the crowd.
    pub(crate) fn expect_all(
        &self,
        what: &str,
        within: Duration,
        check: impl Fn(&HorizontalPodAutoscaler) -> bool,
    ) {
        let hpas = self.api();
        eventually(what, within, || {
            let all = self.web.world.wait(hpas.list(&ListParams::default()));
            let all = all.map_err(|error| error.to_string())?.items;
            let ours = || {
                all.iter().filter(|hpa| {
                    hpa.metadata.name.as_ref().is_some_and(|name| name.starts_with("crowd-"))
                })
            };
            let done = ours().filter(|hpa| check(hpa)).count();
            if done == self.size {
                return Ok(());
            }
            let other = ours().find(|hpa| !check(hpa)).map(|hpa| hpa.status.clone());
            Err(format!("{done} of {}; one of the others: {other:?}", self.size))
        });
    }

    fn api(&self) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.web.world.client.clone(), &self.web.namespace)
    }

    fn create<K>(&self, api: &Api<K>, object: impl Fn(usize) -> Value)
    where
        K: Clone + Debug + DeserializeOwned + serde::Serialize,
    {
        let objects: Vec<K> = (0..self.size)
            .map(|number| serde_json::from_value(object(number)).expect("the object is whole"))
            .collect();
        for batch in objects.chunks(BATCH) {
            let made = futures::stream::iter(batch)
                .map(|object| async move { api.create(&PostParams::default(), object).await })
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<K>>();
            self.web.world.wait(made).expect("the objects are accepted");
        }
    }
}

fn name(number: usize) -> String {
    format!("crowd-{number}")
}

/// Reason and message of an HPA's `ScalingActive`; empty while it has none.
pub(crate) fn scaling_active(hpa: &HorizontalPodAutoscaler) -> (&str, &str) {
    let conditions = hpa.status.as_ref().and_then(|status| status.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|one| one.type_ == "ScalingActive");
    let found = found.map(|one| (one.reason.as_deref(), one.message.as_deref()));
    let (reason, message) = found.unwrap_or_default();
    (reason.unwrap_or_default(), message.unwrap_or_default())
}

/// The average of an HPA's one External metric, as printed.
pub(crate) fn average(hpa: &HorizontalPodAutoscaler) -> Option<&str> {
    let metrics = hpa.status.as_ref()?.current_metrics.as_ref()?;
    let external = metrics.first()?.external.as_ref()?;
    external.current.average_value.as_ref().map(|value| value.0.as_str())
}
