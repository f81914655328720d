//! Discovery documents.
//!
//! They must never fail, never be slow and never be empty: the aggregator takes a failed probe for
//! an unavailable API, which blocks the deletion of every namespace in the cluster. All of them but
//! one are made once; the resource list of a group-version, for people, names the metrics and is
//! rendered from memory.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::body::Document;
use crate::api::group::GroupVersion;
use crate::api::json::write_string;
use crate::model::MetricName;

/// How many metrics the resource list names. It is the aggregator's health probe (five parallel
/// requests every 30 s from each kube-apiserver) and, on old clusters, copied into every client's
/// discovery cache; a thousand names make about 100 KiB.
pub(super) const MAX_LISTED: usize = 1000;

/// Verbs that discovery names. Reads authorize as `list`, but whoever finds `list` here (garbage
/// collector, quota, `kubectl get all`) would try to use it as one.
const VERBS: [&str; 1] = ["get"];

/// The documents that do not change.
#[derive(Debug)]
pub(super) struct Discovery {
    /// `/`.
    pub(super) root: Document,
    /// `/version`.
    pub(super) version: Document,
    /// `/apis` as `APIGroupList`.
    pub(super) groups: Document,
    /// `/apis/<group>`, by group.
    pub(super) group: Vec<(&'static str, Document)>,
    /// `/apis` as aggregated discovery v2.
    pub(super) aggregated_v2: Document,
    /// `/apis` as aggregated discovery v2beta1.
    pub(super) aggregated_v2beta1: Document,
}

fn fixed(value: &Value) -> Document {
    Document::new("application/json", "no-cache, private", value)
}

impl Discovery {
    /// Makes the documents of the group-versions.
    pub(super) fn new(served: &[&'static GroupVersion]) -> Self {
        let groups = groups(served);
        let list: Vec<Value> = groups.iter().map(|g| api_group(g)).collect();
        Self {
            root: fixed(&root(&groups)),
            version: fixed(&version()),
            groups: fixed(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})),
            group: groups
                .iter()
                .map(|versions| {
                    let mut group = api_group(versions);
                    group["kind"] = "APIGroup".into();
                    group["apiVersion"] = "v1".into();
                    (versions[0].group, fixed(&group))
                })
                .collect(),
            aggregated_v2: Document::new(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                "public",
                &aggregated(&groups, "apidiscovery.k8s.io/v2"),
            ),
            aggregated_v2beta1: Document::new(
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                "public",
                &aggregated(&groups, "apidiscovery.k8s.io/v2beta1"),
            ),
        }
    }
}

/// The group-versions by group, in the table's order.
fn groups(served: &[&'static GroupVersion]) -> Vec<Vec<&'static GroupVersion>> {
    let mut groups: Vec<Vec<&'static GroupVersion>> = Vec::new();
    for &gv in served {
        match groups.iter_mut().find(|versions| versions[0].group == gv.group) {
            Some(versions) => versions.push(gv),
            None => groups.push(vec![gv]),
        }
    }
    groups
}

fn api_group(versions: &[&'static GroupVersion]) -> Value {
    let version = |gv: &&GroupVersion| json!({"groupVersion": gv.name, "version": gv.version});
    json!({
        "name": versions[0].group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": version(&versions[0]),
    })
}

fn aggregated(groups: &[Vec<&'static GroupVersion>], api_version: &str) -> Value {
    let resources = |gv: &GroupVersion| {
        json!([{
            "resource": gv.placeholder,
            "responseKind": {"group": "", "version": "", "kind": gv.list_kind},
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": VERBS,
        }])
    };
    let versions = |gv: &&GroupVersion| json!({"version": gv.version, "freshness": "Current", "resources": resources(gv)});
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            json!({
                "metadata": {"name": group[0].group},
                "versions": group.iter().map(versions).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": items,
    })
}

fn root(groups: &[Vec<&'static GroupVersion>]) -> Value {
    let mut paths: Vec<String> = [
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for group in groups {
        paths.push(format!("/apis/{}", group[0].group));
        for gv in group {
            paths.push(format!("/apis/{}", gv.name));
            paths.push(format!("/openapi/v3/apis/{}", gv.name));
        }
    }
    paths.sort_unstable();
    json!({"paths": paths})
}

/// Our version in the form of Kubernetes' `version.Info`.
fn version() -> Value {
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    json!({
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform,
    })
}

/// `/apis/<group>/<version>`: an `APIResourceList` of the metrics, at most [`MAX_LISTED`], or of
/// the placeholder when there is none.
pub(super) fn resources(gv: &GroupVersion, names: &[MetricName]) -> Bytes {
    let mut out = Vec::with_capacity(160 + 128 * names.len().clamp(1, MAX_LISTED));
    out.extend_from_slice(br#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"#);
    write_string(&mut out, gv.name);
    out.extend_from_slice(br#","resources":["#);
    let placeholder = names.is_empty().then_some(gv.placeholder);
    let listed = names.iter().take(MAX_LISTED).map(MetricName::as_str).chain(placeholder);
    for (i, name) in listed.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"name":"#);
        write_string(&mut out, name);
        out.extend_from_slice(br#","singularName":"","namespaced":true,"kind":"#);
        write_string(&mut out, gv.list_kind);
        out.extend_from_slice(br#","verbs":["get"]}"#);
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}
