//! API discovery, in both forms, and objects of any resource: listed in pages, watched for ever, as
//! `PartialObjectMetadata` and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Body, down, refusal, respond, whole};

/// A resource of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
}

/// Pods, the resource that most is asked about.
pub(crate) const PODS: Served = Served {
    group: "",
    version: "v1",
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    namespaced: true,
};

/// How metadata alone is listed.
const METADATA_LIST: (&str, &str) = ("meta.k8s.io/v1", "PartialObjectMetadataList");

/// What HPAs scale.
pub(crate) const DEPLOYMENTS: Served = Served {
    group: "apps",
    version: "v1",
    plural: "deployments",
    singular: "deployment",
    kind: "Deployment",
    namespaced: true,
};

impl Served {
    fn root(&self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        }
    }

    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.root(), self.plural)
    }
}

/// The resources of the cluster and their objects.
#[derive(Default)]
pub(crate) struct Objects {
    kinds: Mutex<Vec<Served>>,
    /// Groups whose own server is away.
    broken: Mutex<Vec<&'static str>>,
    /// Without aggregated discovery.
    old: AtomicBool,
    /// Without any.
    mute: AtomicBool,
    discoveries: AtomicU64,
    stores: Mutex<HashMap<String, Arc<Store>>>,
}

/// The objects of a resource.
#[derive(Default)]
pub(super) struct Store {
    history: watch::Sender<History>,
    refuse: AtomicBool,
    refuse_watches: AtomicBool,
    lists: AtomicU64,
    watches: AtomicUsize,
}

#[derive(Default)]
struct History {
    version: u64,
    present: BTreeMap<String, Value>,
    /// What watches are told, each line with its version.
    events: Vec<(u64, String)>,
    /// Watches from a version before this one are refused.
    oldest: u64,
    /// Watches of an earlier epoch end.
    epoch: u64,
}

impl History {
    fn add(&mut self, kind: &str, mut object: Value) {
        // A list of nothing has a version, too.
        self.version = self.version.max(1) + 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.events.push((self.version, json!({"type": kind, "object": object}).to_string()));
    }
}

impl Objects {
    /// Sets the resources of the cluster, in the order of discovery.
    pub(crate) fn serve(&self, kinds: &[Served]) {
        *self.kinds() = kinds.to_vec();
    }

    /// The servers of these groups are away.
    pub(crate) fn break_groups(&self, groups: &[&'static str]) {
        *self.broken.lock().expect("no holder panics") = groups.to_vec();
    }

    /// Takes away aggregated discovery.
    pub(crate) fn make_old(&self) {
        self.old.store(true, Ordering::SeqCst);
    }

    /// Makes discovery fail with HTTP 500, or work again.
    pub(crate) fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }

    /// How often `/apis` was asked for.
    pub(crate) fn discoveries(&self) -> u64 {
        self.discoveries.load(Ordering::SeqCst)
    }

    /// Makes an object, or changes it.
    pub(crate) fn put(&self, kind: &Served, namespace: &str, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let object = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {
                "namespace": namespace, "name": name, "labels": labels, "uid": name,
                "annotations": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {"f:labels": {}}}}],
            },
        });
        self.put_raw(kind, &format!("{namespace}/{name}"), object);
    }

    /// The same with an object as it stands.
    pub(crate) fn put_raw(&self, kind: &Served, key: &str, object: Value) {
        self.store(kind).history.send_modify(|history| {
            let known = history.present.insert(key.to_owned(), object.clone()).is_some();
            history.add(if known { "MODIFIED" } else { "ADDED" }, object);
        });
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, kind: &Served, namespace: &str, name: &str) {
        self.store(kind).history.send_modify(|history| {
            let object = history.present.remove(&format!("{namespace}/{name}"));
            history.add("DELETED", object.expect("it is there"));
        });
    }

    /// Refuses to list and watch a resource, or no longer does.
    pub(crate) fn refuse(&self, kind: &Served, refuse: bool) {
        self.store(kind).refuse.store(refuse, Ordering::SeqCst);
    }

    /// Refuses to watch a resource, which may still be listed, or no longer does.
    pub(crate) fn refuse_watches(&self, kind: &Served, refuse: bool) {
        self.store(kind).refuse_watches.store(refuse, Ordering::SeqCst);
    }

    /// Ends all watches.
    pub(crate) fn disconnect(&self, kind: &Served) {
        self.store(kind).history.send_modify(|history| history.epoch += 1);
    }

    /// Ends all watches, and forgets what led to the present state.
    pub(crate) fn expire(&self, kind: &Served) {
        self.store(kind).history.send_modify(|history| {
            history.epoch += 1;
            history.version += 1;
            history.oldest = history.version;
            history.events.clear();
        });
    }

    /// Tells all watches a line.
    pub(crate) fn say(&self, kind: &Served, line: &str) {
        self.store(kind).history.send_modify(|history| {
            history.version += 1;
            history.events.push((history.version, line.to_owned()));
        });
    }

    /// How often a listing began.
    pub(crate) fn lists(&self, kind: &Served) -> u64 {
        self.store(kind).lists.load(Ordering::SeqCst)
    }

    /// How many watches are open.
    pub(crate) fn watches(&self, kind: &Served) -> usize {
        self.store(kind).watches.load(Ordering::SeqCst)
    }

    pub(super) fn kinds(&self) -> MutexGuard<'_, Vec<Served>> {
        self.kinds.lock().expect("no holder panics")
    }

    pub(super) fn store(&self, kind: &Served) -> Arc<Store> {
        let mut stores = self.stores.lock().expect("no holder panics");
        Arc::clone(stores.entry(kind.path()).or_default())
    }

    /// An answer, if the path is of discovery or of a resource that is there.
    pub(super) fn answer(
        &self,
        path: &str,
        accept: &str,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<Response<Body>> {
        let kinds = self.kinds().clone();
        if let Some(kind) = kinds.iter().find(|kind| kind.path() == path) {
            if !accept.contains("as=PartialObjectMetadata") {
                return Some(refusal(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", accept));
            }
            return Some(self.store(kind).answer(kind, METADATA_LIST, parameter));
        }
        if path == "/apis" {
            self.discoveries.fetch_add(1, Ordering::SeqCst);
        }
        let of_discovery =
            path == "/api" || path == "/apis" || kinds.iter().any(|kind| kind.root() == path);
        if kinds.is_empty() || !of_discovery {
            return None;
        }
        if self.mute.load(Ordering::SeqCst) {
            return Some(down());
        }
        let broken = self.broken.lock().expect("no holder panics").clone();
        let aggregated = accept.contains("as=APIGroupDiscoveryList");
        match path {
            "/api" | "/apis" if aggregated && self.old.load(Ordering::SeqCst) => {
                Some(refusal(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", "an old server"))
            }
            "/api" | "/apis" if aggregated => {
                let kinds = kinds.iter().filter(|kind| (path == "/api") == kind.group.is_empty());
                Some(whole(&aggregated_list(kinds, &broken)))
            }
            "/api" => Some(whole(&json!({
                "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
            }))),
            "/apis" => Some(whole(&group_list(&kinds))),
            _ if broken.iter().any(|group| path.starts_with(&format!("/apis/{group}/"))) => {
                let message = "the server is currently unable to handle the request";
                Some(refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message))
            }
            root => Some(whole(&resource_list(root, &kinds))),
        }
    }
}

/// A version and its resources.
type Version<'a> = (&'static str, Vec<&'a Served>);

/// The versions of each group, in order.
fn groups<'a>(kinds: impl Iterator<Item = &'a Served>) -> Vec<(&'static str, Vec<Version<'a>>)> {
    let mut groups: Vec<(&str, Vec<Version<'_>>)> = Vec::new();
    for kind in kinds {
        let at = groups.iter().position(|(group, _)| *group == kind.group);
        let at = at.unwrap_or_else(|| {
            groups.push((kind.group, Vec::new()));
            groups.len() - 1
        });
        let versions = &mut groups[at].1;
        match versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, kinds)) => kinds.push(kind),
            None => versions.push((kind.version, vec![kind])),
        }
    }
    groups
}

fn aggregated_list<'a>(kinds: impl Iterator<Item = &'a Served>, broken: &[&str]) -> Value {
    let resource = |kind: &&Served| {
        json!({
            "resource": kind.plural, "singularResource": kind.singular, "verbs": ["list", "watch"],
            "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "subresources": [{
                "subresource": "status", "verbs": ["get"],
                "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            }],
        })
    };
    let items: Vec<Value> = groups(kinds)
        .into_iter()
        .map(|(group, versions)| {
            let stale = broken.contains(&group);
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, kinds)| {
                    let kinds = if stale { &[][..] } else { kinds };
                    json!({
                        "version": version,
                        "freshness": if stale { "Stale" } else { "Current" },
                        "resources": kinds.iter().map(resource).collect::<Vec<_>>(),
                    })
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items,
    })
}

fn group_list(kinds: &[Served]) -> Value {
    let kinds = kinds.iter().filter(|kind| !kind.group.is_empty());
    let groups: Vec<Value> = groups(kinds)
        .into_iter()
        .map(|(group, versions)| {
            let version =
                |version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
            let preferred = version(versions[0].0);
            // The preferred one last, so that its place alone says nothing.
            let versions: Vec<Value> =
                versions.iter().rev().map(|(number, _)| version(number)).collect();
            json!({"name": group, "versions": versions, "preferredVersion": preferred})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resource_list(root: &str, kinds: &[Served]) -> Value {
    let kinds = kinds.iter().filter(|kind| kind.root() == root);
    let resources: Vec<Value> = kinds
        .flat_map(|kind| {
            let Served { plural, singular, kind, namespaced, .. } = kind;
            [plural.to_string(), format!("{plural}/status")].map(|name| {
                json!({
                    "name": name, "singularName": singular, "namespaced": namespaced, "kind": kind,
                    "verbs": ["list", "watch"],
                })
            })
        })
        .collect();
    let version = root.trim_start_matches("/apis/").trim_start_matches("/api/");
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": resources,
    })
}

impl Store {
    /// A list of this type, or a watch.
    pub(super) fn answer(
        self: &Arc<Self>,
        kind: &Served,
        (api_version, list): (&str, &str),
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Response<Body> {
        let watches = matches!(parameter("watch").as_deref(), Some("true" | "1"));
        let next = parameter("continue");
        if !watches && next.is_none() {
            self.lists.fetch_add(1, Ordering::SeqCst);
        }
        if watches && self.refuse_watches.load(Ordering::SeqCst) {
            let message = "the server does not allow this method on the requested resource";
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        }
        if self.refuse.load(Ordering::SeqCst) {
            let Served { plural, group, .. } = kind;
            let message = format!(
                "{plural} is forbidden: User \"tidepole\" cannot list resource \"{plural}\" in \
                 API group \"{group}\" at the cluster scope"
            );
            return refusal(StatusCode::FORBIDDEN, "Forbidden", &message);
        }
        if watches {
            let known = parameter("resourceVersion").and_then(|text| text.parse().ok());
            return self.watch(known.unwrap_or_default());
        }
        let number = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
        let begin = number(next).unwrap_or(0);
        let size = number(parameter("limit")).unwrap_or(usize::MAX);
        let (page, all, version) = {
            let history = self.history.borrow();
            let page = history.present.values().skip(begin).take(size).cloned();
            (page.collect::<Vec<_>>(), history.present.len(), history.version.max(1))
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if begin + page.len() < all {
            metadata["continue"] = (begin + page.len()).to_string().into();
        }
        whole(&json!({
            "kind": list, "apiVersion": api_version, "metadata": metadata, "items": page,
        }))
    }

    /// Every event after the known version, until the epoch ends.
    fn watch(self: &Arc<Self>, known: u64) -> Response<Body> {
        let history = self.history.subscribe();
        let (epoch, oldest) = {
            let history = history.borrow();
            (history.epoch, history.oldest)
        };
        if known < oldest {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": "too old resource version",
            }});
            let frame = Frame::data(Bytes::from(format!("{gone}\n")));
            let events = stream::iter([Ok::<_, Infallible>(frame)]);
            return respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(events)));
        }
        self.watches.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(self));
        let events =
            stream::unfold((history, known, open), move |(mut history, known, open)| async move {
                let (version, line) = {
                    let seen = history
                        .wait_for(|history| {
                            history.epoch != epoch
                                || history
                                    .events
                                    .last()
                                    .is_some_and(|(version, _)| *version > known)
                        })
                        .await
                        .ok()?;
                    if seen.epoch != epoch {
                        return None;
                    }
                    seen.events.iter().find(|(version, _)| *version > known)?.clone()
                };
                let frame = Frame::data(Bytes::from(format!("{line}\n")));
                Some((Ok::<_, Infallible>(frame), (history, version, open)))
            });
        respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(Box::pin(events))))
    }
}

/// A watch that is counted while it is open.
struct Open(Arc<Store>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::SeqCst);
    }
}
