//! Kubernetes objects that metrics are about, and the traits through which the others learn of them.
//!
//! Not responsible for: how objects are watched (`objects`), what a metric of them is (`rules`,
//! `definition`).

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::{ObjectReference, Selector};

/// A group and a plural resource name: `pods`, `ingresses.networking.k8s.io`. How metrics of objects
/// are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: Arc<str>,
    /// Plural name, in lower case.
    pub resource: Arc<str>,
}

impl GroupResource {
    /// Whether its metrics are listed outside of namespaces. Prometheus-adapter does so with these
    /// three. It lists all others, and so those of custom resources without a namespace, as if they
    /// were in one; here these can be asked for in both ways.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.group.is_empty()
            && matches!(&*self.resource, "namespaces" | "nodes" | "persistentvolumes")
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// A resource as the cluster's discovery tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Group and plural name.
    pub id: GroupResource,
    /// The version to read it by: the group's preferred one that has it.
    pub version: Arc<str>,
    /// Its kind: `Pod`.
    pub kind: Arc<str>,
    /// Singular name in lower case: `pod`.
    pub singular: Arc<str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// Group, slash and version, as metrics tell it: `apps/v1`, and `/v1` for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.id.group, self.version)
    }
}

/// Which resources the cluster has. Never blocks: answers from what discovery said last.
pub trait ResourceDirectory: Send + Sync + 'static {
    /// The resource that a word in a path, a label or an override means: singular, plural or kind
    /// in any case, with or without a group (or the beginning of one) behind a dot. Without a
    /// group the core group goes first, then the groups in the server's order. None: the cluster
    /// has no such resource, as far as is known.
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>>;

    /// The same for `<resource>[.<group>]`, as paths of `custom.metrics.k8s.io` have it.
    fn resolve_path(&self, text: &str) -> Option<Arc<Resource>> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        self.resolve(group, resource)
    }

    /// Why a resource that is not found may exist all the same, as a clause: nobody has told yet
    /// which resources there are. None: what is not found was not there when they were last told.
    fn unknown_because(&self) -> Option<Arc<str>> {
        None
    }

    /// Counts the changes of what is known, so that others see that they have to look again.
    fn generation(&self) -> u64;
}

/// Which objects of a set are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectNames {
    /// One, by name. It need not exist.
    One(Arc<str>),
    /// Those whose labels match.
    Matching(Selector),
    /// All of them, whatever their labels: one question for everybody, divided by the readers.
    All,
}

/// A set of objects of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectSet {
    /// Which resource.
    pub resource: Arc<Resource>,
    /// Where; none for the whole cluster.
    pub namespace: Option<Arc<str>>,
    /// Which of them.
    pub names: ObjectNames,
}

/// What is known of a set of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objects {
    /// Their names, in the order in which Kubernetes lists them (by namespace, then name).
    Known(Arc<[Arc<str>]>),
    /// The first listing is under way.
    Listing,
    /// They cannot be listed, and were never: why, as a sentence for people.
    Unavailable(Arc<str>),
}

/// Who knows the objects of the cluster. Never blocks; the first question about a resource starts
/// watching it, and a resource that nobody asks about for long is let go.
pub trait ObjectDirectory: Send + Sync + 'static {
    /// The objects of a set. [`ObjectNames::One`] is always known: it is its name.
    fn names(&self, set: &ObjectSet) -> Objects;

    /// The same without having asked: what nobody asks about is not watched because of it, and not
    /// listed. A directory that watches nothing need not tell the two apart.
    fn known(&self, set: &ObjectSet) -> Objects {
        self.names(set)
    }

    /// Ends when the resource's first listing has ended, well or not. The caller bounds the wait.
    fn listed(&self, resource: &Arc<Resource>) -> BoxFuture<'static, ()>;
}

/// What is known of the pods that belong to the target of an HPA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPods {
    /// Those that this selector matches: `status.selector` of the target's scale, in the form in
    /// which the HPA controller asks for them.
    Selected(Selector),
    /// The target's scale is being asked for.
    Asking,
    /// The target has no scale, or it cannot be read. It is asked for again later.
    Unknown,
}

/// Who knows the pods of HPAs' targets. Never waits: the first question about a target has its
/// scale asked for, and a target that nobody asks about any more is forgotten.
pub trait ScaleDirectory: Send + Sync + 'static {
    /// The pods of a target in a namespace.
    fn pods_of(&self, namespace: &Arc<str>, target: &ObjectReference) -> TargetPods;

    /// The same without having asked: a target that nobody asks about is not asked for because of it.
    fn known_pods_of(&self, namespace: &Arc<str>, target: &ObjectReference) -> TargetPods {
        self.pods_of(namespace, target)
    }
}
