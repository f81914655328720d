//! Discovery documents.
//!
//! They must never fail, never be slow and never be empty: the aggregator takes a failed probe for
//! an unavailable API, which blocks the deletion of every namespace in the cluster. All of them but
//! one are made once; the resource list of a group-version, for people, names the metrics and is
//! rendered from memory. That of a group of objects is kept until the names change, because it has
//! a row for each metric and resource.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderMap, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::api::body::{self, Document};
use crate::api::group::GroupVersion;
use crate::api::json::write_string;
use crate::model::{CustomMetricName, MetricName};
use crate::status;

/// How many external metrics the resource list names. It is the aggregator's health probe (five parallel
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
            // Without `apiVersion`, as Go's API servers leave it out here.
            groups: fixed(&json!({"kind": "APIGroupList", "groups": list})),
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
        "versions": versions.iter().filter(|gv| gv.advertised).map(version).collect::<Vec<_>>(),
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
    let mut list = ResourceList::new(gv, names.len().min(MAX_LISTED));
    for name in names.iter().take(MAX_LISTED) {
        list.push(name.as_str(), true);
    }
    list.finish()
}

/// The same of all metrics of objects: `<resource>[.<group>]/<metric>`.
fn custom_resources(gv: &GroupVersion, names: &[CustomMetricName]) -> Bytes {
    let mut list = ResourceList::new(gv, names.len());
    let mut text = String::new();
    for name in names {
        text.clear();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}/{}", name.resource, name.metric);
        list.push(&text, name.namespaced);
    }
    list.finish()
}

/// An `APIResourceList` that is being written.
struct ResourceList<'a> {
    gv: &'a GroupVersion,
    out: Vec<u8>,
    rows: usize,
}

impl<'a> ResourceList<'a> {
    fn new(gv: &'a GroupVersion, rows: usize) -> Self {
        let mut out = Vec::with_capacity(160 + 128 * rows.max(1));
        out.extend_from_slice(br#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"#);
        write_string(&mut out, gv.name);
        out.extend_from_slice(br#","resources":["#);
        Self { gv, out, rows: 0 }
    }

    fn push(&mut self, name: &str, namespaced: bool) {
        let out = &mut self.out;
        let start: &[u8] = if self.rows > 0 { br#",{"name":"# } else { br#"{"name":"# };
        self.rows += 1;
        out.extend_from_slice(start);
        write_string(out, name);
        out.extend_from_slice(br#","singularName":"","namespaced":"#);
        let word: &[u8] = if namespaced { b"true" } else { b"false" };
        out.extend_from_slice(word);
        out.extend_from_slice(br#","kind":"#);
        write_string(out, self.gv.list_kind);
        out.extend_from_slice(br#","verbs":["get"]}"#);
    }

    fn finish(mut self) -> Bytes {
        if self.rows == 0 {
            self.push(self.gv.placeholder, true);
        }
        self.out.extend_from_slice(b"]}\n");
        self.out.into()
    }
}

/// The resource list of a group-version of objects, as it was written last.
#[derive(Debug)]
pub(super) struct CustomList {
    gv: &'static GroupVersion,
    last: ArcSwapOption<Written>,
}

#[derive(Debug)]
struct Written {
    /// What it was made of. Kept, so that no other list can come to stand at the same address.
    names: Arc<[CustomMetricName]>,
    plain: Bytes,
    zipped: OnceLock<Bytes>,
}

impl CustomList {
    /// The list of a group-version that nobody has asked for yet.
    pub(super) fn new(gv: &'static GroupVersion) -> Self {
        Self { gv, last: ArcSwapOption::empty() }
    }

    /// Whose list it is.
    pub(super) fn is_of(&self, gv: &GroupVersion) -> bool {
        self.gv.name == gv.name
    }

    /// Answers it. No validators: who asks with those of another document must get this one.
    pub(super) fn respond(
        &self,
        names: Arc<[CustomMetricName]>,
        pretty: bool,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let known = self.last.load_full().filter(|written| Arc::ptr_eq(&written.names, &names));
        let written = known.unwrap_or_else(|| {
            let plain = custom_resources(self.gv, &names);
            let written = Arc::new(Written { names, plain, zipped: OnceLock::new() });
            self.last.store(Some(Arc::clone(&written)));
            written
        });
        if pretty {
            return body::json(written.plain.clone(), true, headers);
        }
        body::list(status::JSON, &written.plain, headers, |plain| {
            let zip = || body::gzip(plain, Compression::fast()).into();
            written.zipped.get_or_init(zip).clone()
        })
    }
}
