//! The resources and the HPAs.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::HPA_PERIOD;
use crate::control_plane::{ControlPlane, run};

pub(super) const NAMESPACES: usize = 100;

/// How many resources there are: 5,000, unless `TIDEPOLE_SCALE` says how many.
pub(super) fn resources() -> usize {
    static RESOURCES: LazyLock<usize> = LazyLock::new(|| {
        let asked = std::env::var("TIDEPOLE_SCALE").ok();
        asked.map_or(5_000, |asked| asked.parse().expect("TIDEPOLE_SCALE is a number"))
    });
    *RESOURCES
}

/// Every fifth resource of a namespace has an HPA.
pub(super) fn hpas() -> usize {
    (resources() / 5).max(1)
}

/// Requests that make objects, at once.
const AT_ONCE: usize = 32;

/// The namespace of a resource and of an HPA: each has as many as any other.
pub(super) fn namespace(number: usize) -> String {
    format!("scale-{}", number % NAMESPACES)
}

pub(super) fn metric(number: usize) -> String {
    format!("requests-per-second-{number}")
}

/// As long as people's questions are.
fn spec(number: usize, value: usize) -> Value {
    let query = format!(
        "sum(rate(http_requests_total{{namespace=\"{}\",service=\"service-{number}\",code!~\"5..\"}}[2m])) or vector({value})",
        namespace(number)
    );
    json!({"source": "main", "prometheus": {"query": query}})
}

fn resource_api(client: &Client, number: usize) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("tidepole.dev", "v1alpha1", "ExternalMetric");
    let kind = ApiResource::from_gvk_with_plural(&kind, "externalmetrics");
    Api::namespaced_with(client.clone(), &namespace(number), &kind)
}

fn object(number: usize, value: usize) -> DynamicObject {
    let object = json!({
        "apiVersion": "tidepole.dev/v1alpha1", "kind": "ExternalMetric",
        "metadata": {"name": metric(number)}, "spec": spec(number, value),
    });
    serde_json::from_value(object).expect("it is an object")
}

/// The same definitions as a file has them.
pub(super) fn file() -> String {
    let mut text = String::new();
    for number in 0..resources() {
        let (namespace, metric) = (namespace(number), metric(number));
        let spec = spec(number, number);
        let document = write!(
            text,
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\n\
             metadata: {{ name: {metric}, namespace: {namespace} }}\nspec: {spec}\n"
        );
        document.expect("writing to a String cannot fail");
    }
    text
}

/// Writes a resource, as `kubectl apply` would.
pub(super) async fn write(client: &Client, number: usize, value: usize) {
    let params = PatchParams::apply("tests").force();
    let patch = Patch::Apply(object(number, value));
    let written = resource_api(client, number).patch(&metric(number), &params, &patch).await;
    written.unwrap_or_else(|error| panic!("{}: {error}", metric(number)));
}

/// Number *n* reads the resource of the same number: the first of each namespace are used.
fn hpa(number: usize) -> HorizontalPodAutoscaler {
    let hpa = json!({
        "metadata": {"name": format!("service-{number}")},
        "spec": {
            "scaleTargetRef":
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": format!("service-{number}")},
            "maxReplicas": 10,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": metric(number)},
                "target": {"type": "AverageValue", "averageValue": "10"},
            }}],
        },
    });
    serde_json::from_value(hpa).expect("it is an HPA")
}

fn hpa_api(client: &Client, number: usize) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(client.clone(), &namespace(number))
}

/// What the HPA controller writes after each look that ends in another value.
async fn touch_one(client: &Client, number: usize, value: usize) {
    let condition = |r#type: &str, reason: &str, message: &str| {
        json!({"type": r#type, "status": "True", "reason": reason, "message": message,
               "lastTransitionTime": "2026-11-22T00:00:00Z"})
    };
    let status = json!({"status": {
        "currentReplicas": 3, "desiredReplicas": 3,
        "conditions": [
            condition("AbleToScale", "ReadyForNewScale", "recommended size matches current size"),
            condition("ScalingActive", "ValidMetricFound",
                "the HPA was able to successfully calculate a replica count from external metric"),
            condition("ScalingLimited", "DesiredWithinRange",
                "the desired count is within the acceptable range"),
        ],
        "currentMetrics": [{"type": "External", "external": {
            "metric": {"name": metric(number)}, "current": {"averageValue": value.to_string()},
        }}],
    }});
    let name = format!("service-{number}");
    let patched = hpa_api(client, number)
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await;
    patched.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Gives every HPA a new status each period.
pub(super) async fn touch(client: &Client, during: Duration) {
    let begin = Instant::now();
    let every = HPA_PERIOD / u32::try_from(hpas()).expect("a thousand");
    let mut beat = tokio::time::interval(every);
    let mut round = 0;
    while begin.elapsed() < during {
        beat.tick().await;
        touch_one(client, round % hpas(), round).await;
        round += 1;
    }
}

/// Makes everything.
pub(super) async fn make(plane: &ControlPlane, client: &Client) {
    let kinds = crate::root().join("deploy/crds");
    let mut apply = plane.kubectl();
    run(apply.args(["apply", "--server-side", "--force-conflicts", "--kustomize"]).arg(kinds))
        .expect("the kinds are accepted");
    let mut wait = plane.kubectl();
    wait.args(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    run(&mut wait).expect("the kinds are known soon");

    let namespaces = Api::<Namespace>::all(client.clone());
    for number in 0..NAMESPACES {
        let made = json!({"metadata": {"name": namespace(number)}});
        let made = serde_json::from_value(made).expect("it is a namespace");
        namespaces.create(&PostParams::default(), &made).await.expect("it is new");
    }
    let params = PostParams::default();
    let all = futures::stream::iter(0..resources()).map(|number| {
        let (api, params) = (resource_api(client, number), &params);
        async move { api.create(params, &object(number, number)).await.map(drop) }
    });
    all.buffer_unordered(AT_ONCE).try_collect::<()>().await.expect("resources are accepted");
    let all = futures::stream::iter(0..hpas()).map(|number| {
        let params = &params;
        async move {
            hpa_api(client, number).create(params, &hpa(number)).await?;
            touch_one(client, number, 1).await;
            Ok::<(), kube::Error>(())
        }
    });
    all.buffer_unordered(AT_ONCE).try_collect::<()>().await.expect("HPAs are accepted");
}
