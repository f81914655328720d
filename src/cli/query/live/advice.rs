//! What to do when a running server gives no value: each failure has somebody who can mend it, and a
//! command that shows more.

use serde::Deserialize;
use serde_json::Value;

use super::{Asked, CUSTOM, EXTERNAL, Failure, Report};
use crate::definition::field::closest;
use crate::runtime::api_server::{ApiServer, NoAnswer, Reply};

/// Characters of an answer that is no `Status` which are shown.
const MAX_CHARS: usize = 300;

/// What Kubernetes answers when something is wrong.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    kind: String,
    reason: String,
    message: String,
}

/// What to do about no answer at all.
pub(super) fn unanswered(error: &NoAnswer) -> Option<String> {
    Some(match error {
        NoAnswer::Kubeconfig(_) => {
            "name one with --kubeconfig FILE; or ask a definition's source without a cluster, with --config FILE or -f FILE".to_owned()
        }
        NoAnswer::Context { .. } => {
            "choose one with --context NAME; `kubectl config get-contexts` lists them".to_owned()
        }
        NoAnswer::Credentials { .. } => {
            "log in to the cluster again; `kubectl auth whoami` takes the same way".to_owned()
        }
        NoAnswer::Unreachable { cause, .. } if cause.contains("certificate") => {
            "the kubeconfig's certificate-authority is not the one that signed the API server's certificate, or the server's name is not in it".to_owned()
        }
        NoAnswer::Unreachable { .. } | NoAnswer::Silent { .. } => {
            "is it running, and is this the right context? `kubectl config current-context` and `kubectl version` take the same way".to_owned()
        }
        NoAnswer::Broken { .. } => return None,
    })
}

/// An answer without items.
pub(super) fn empty() -> Failure {
    Failure {
        code: 200,
        reason: String::new(),
        message: "the answer has no items: an HPA takes that for a failure".to_owned(),
        advice: vec![
            "the metric is one of a rule whose query gives no series now, or another adapter's; `tidepole query --rules FILE` shows the query and its answer".to_owned(),
        ],
    }
}

/// What an answer that is no value means.
pub(super) async fn failure(
    server: &ApiServer,
    asked: &Asked,
    report: &Report,
    reply: &Reply,
) -> Failure {
    let status = serde_json::from_slice::<Status>(&reply.body).ok();
    let status = status.filter(|status| status.kind == "Status");
    let is_status = status.is_some();
    let status = status.unwrap_or_default();
    let message = if is_status {
        status.message
    } else {
        let text = String::from_utf8_lossy(&reply.body);
        let text: String = text.trim().chars().take(MAX_CHARS).collect();
        if text.is_empty() { format!("HTTP {} without a word", reply.status) } else { text }
    };
    let advice = match (reply.status, is_status) {
        (401, _) => vec![
            "the credentials of this context do not count here: log in again; `kubectl auth whoami` says as whom you come".to_owned(),
        ],
        (403, _) => vec![
            "whoever runs this needs a Role or ClusterRole with this rule, and a binding:".to_owned(),
            rule(asked, report),
            format!("`kubectl auth whoami` says as whom you come{}", in_place(report)),
        ],
        (404, _) => missing(server, asked, &message).await,
        (502..=504, false) => away(server, asked).await,
        (502..=504, true) => vec![format!(
            "the source has no value now; `tidepole query --config FILE {}` with the server's config shows its call and answer, `kubectl describe` of the metric's resource the conditions",
            report.metric
        )],
        _ => Vec::new(),
    };
    Failure { code: reply.status, reason: status.reason, message, advice }
}

/// Whether the cluster serves metrics of objects in the old version alone.
pub(super) async fn has_only_v1beta1(server: &ApiServer) -> bool {
    let Some(group) = json(server, &format!("/apis/{CUSTOM}")).await else { return false };
    let versions: Vec<&str> = group["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version["version"].as_str())
        .collect();
    versions.contains(&"v1beta1") && !versions.contains(&"v1beta2")
}

/// The RBAC rule that a read needs.
fn rule(asked: &Asked, report: &Report) -> String {
    let (group, resource, verb) = match asked {
        Asked::External(metric) => (EXTERNAL, metric.clone(), "list"),
        Asked::Objects { word, metric, .. } if super::is_namespaces(word) => {
            return format!(
                "- {{ apiGroups: [{CUSTOM}], resources: [metrics], resourceNames: [{metric}], verbs: [get] }}"
            );
        }
        Asked::Objects { .. } => (CUSTOM, report.metric.clone(), "get"),
    };
    format!("- {{ apiGroups: [{group}], resources: [{resource}], verbs: [{verb}] }}")
}

fn in_place(report: &Report) -> String {
    match &report.namespace {
        Some(namespace) => format!("; a Role does in namespace {namespace} alone"),
        None => "; these objects are in no namespace, so it takes a ClusterRole".to_owned(),
    }
}

/// Nobody knows the metric, or nobody serves its group.
async fn missing(server: &ApiServer, asked: &Asked, message: &str) -> Vec<String> {
    let group = asked.group();
    let Ok(reply) = server.get(&format!("/apis/{group}")).await else { return Vec::new() };
    if reply.status == 404 {
        return vec![
            format!("the cluster has no APIService for {group}: nothing serves such metrics to HPAs"),
            "install Tidepole with this group turned on (`apis` of the chart's values); `kubectl get apiservices | grep metrics.k8s.io` lists what there is".to_owned(),
        ];
    }
    let mut advice = Vec::new();
    // Tidepole says it by itself, of names that the reader may read.
    if !message.contains("did you mean") {
        let version = if group == EXTERNAL { "v1beta1" } else { "v1beta2" };
        let list = json(server, &format!("/apis/{group}/{version}")).await.unwrap_or_default();
        let names: Vec<&str> = list["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|resource| resource["name"].as_str())
            .collect();
        if let Some(near) = closest(&asked.to_string(), names.iter().copied()) {
            advice.push(format!("did you mean {near:?}?"));
        }
    }
    advice
        .push(format!("`kubectl get --raw /apis/{group}` and the status page name what is served"));
    advice
}

/// The aggregator cannot reach who serves the group.
async fn away(server: &ApiServer, asked: &Asked) -> Vec<String> {
    let version = if asked.group() == EXTERNAL { "v1beta1" } else { "v1beta2" };
    let name = format!("{version}.{}", asked.group());
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
    let mut advice = Vec::new();
    if let Some(service) = json(server, &path).await {
        let of = &service["spec"]["service"];
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let condition = service["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Available");
        let said = condition
            .map_or_else(String::new, |condition| format!(" ({})", text(&condition["message"])));
        let (namespace, service) = (text(&of["namespace"]), text(&of["name"]));
        advice.push(format!(
            "the API server cannot reach Service {namespace}/{service}, which serves this group{said}"
        ));
        advice.push(format!(
            "`kubectl --namespace {namespace} get pods,endpointslices` shows who is behind it"
        ));
    } else {
        advice.push("the API server cannot reach who serves this group".to_owned());
    }
    advice.push(format!("`kubectl get apiservice {name} --output yaml` says why"));
    advice
}

async fn json(server: &ApiServer, path: &str) -> Option<Value> {
    let reply = server.get(path).await.ok().filter(|reply| reply.status == 200)?;
    serde_json::from_slice(&reply.body).ok()
}
