//! Which resource a word means: the rules of client-go's discovery `RESTMapper`
//! (`k8s.io/client-go/restmapper`, `k8s.io/apimachinery/pkg/api/meta`), by which the original
//! adapter reads paths, labels and overrides.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{GroupResource, Resource};

/// What discovery says of one version of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupVersion {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    /// Its resources, without subresources.
    pub(super) resources: Vec<Served>,
}

/// A resource as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) plural: String,
    /// May be empty.
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
}

/// All words of the cluster.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// By word, best first.
    words: HashMap<String, Vec<Meaning>>,
}

#[derive(Debug)]
struct Meaning {
    resource: Arc<Resource>,
    /// The place of its group's version: the core group, then the groups in the server's order, of
    /// each the preferred version first.
    rank: usize,
}

impl Table {
    /// A table of group versions, best first.
    pub(super) fn new(versions: &[GroupVersion]) -> Self {
        let mut words: HashMap<String, Vec<Meaning>> = HashMap::new();
        for (rank, version) in versions.iter().enumerate() {
            for resource in meant(version).into_values() {
                let resource = Arc::new(resource);
                let meaning = || Meaning { resource: Arc::clone(&resource), rank };
                let (plural, singular) = (&resource.id.resource, &resource.singular);
                words.entry(plural.to_string()).or_default().push(meaning());
                if plural != singular {
                    words.entry(singular.to_string()).or_default().push(meaning());
                }
            }
        }
        Self { words }
    }

    /// The resource that a word means. `group` may be the beginning of a group's name; where a group
    /// of exactly that name has the resource, it is that. Two resources of one version that a word
    /// means alike are none.
    pub(super) fn resolve(&self, group: &str, word: &str) -> Option<&Arc<Resource>> {
        let word = if word.bytes().any(|b| b.is_ascii_uppercase()) || !word.is_ascii() {
            Cow::Owned(word.to_lowercase())
        } else {
            Cow::Borrowed(word)
        };
        let meanings = self.words.get(&*word)?;
        let best = |fits: &dyn Fn(&str) -> bool| {
            let mut fitting = meanings.iter().filter(|m| fits(&m.resource.id.group));
            let first = fitting.next()?;
            let ambiguous = fitting.next().is_some_and(|second| second.rank == first.rank);
            Some((!ambiguous).then_some(&first.resource))
        };
        if group.is_empty() {
            return best(&|_| true)?;
        }
        best(&|known| known == group).or_else(|| best(&|known| known.starts_with(group)))?
    }
}

/// The resources of a version by plural name. To each kind belongs its list, as a resource of its
/// own, and to each version the kind `List`: they cannot be read, but labels and paths may name
/// them.
fn meant(version: &GroupVersion) -> BTreeMap<String, Resource> {
    let mut meant = BTreeMap::new();
    let mut add = |plural: String, singular: String, kind: String, namespaced: bool| {
        let id = GroupResource {
            group: version.group.as_str().into(),
            resource: plural.as_str().into(),
        };
        let resource = Resource {
            id,
            version: version.version.as_str().into(),
            kind: kind.into(),
            singular: singular.into(),
            namespaced,
        };
        meant.insert(plural, resource);
    };
    for Served { plural, singular, kind, namespaced } in &version.resources {
        let singular = if singular.is_empty() { names_of(kind).1 } else { singular.clone() };
        add(plural.clone(), singular, kind.clone(), *namespaced);
        let list = format!("{kind}List");
        let (plural, singular) = names_of(&list);
        add(plural, singular, list, *namespaced);
    }
    let (plural, singular) = names_of("List");
    add(plural, singular, "List".to_owned(), false);
    meant
}

/// Plural and singular name of a kind of which discovery says neither (`UnsafeGuessKindToResource`).
fn names_of(kind: &str) -> (String, String) {
    let singular = kind.to_lowercase();
    let plural = if singular.ends_with("endpoints") {
        singular.clone()
    } else if singular.ends_with('s') {
        format!("{singular}es")
    } else if let Some(stem) = singular.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        format!("{singular}s")
    };
    (plural, singular)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(group: &str, version: &str, resources: &[(&str, &str, &str, bool)]) -> GroupVersion {
        let resources = resources.iter().map(|(plural, singular, kind, namespaced)| Served {
            plural: (*plural).to_owned(),
            singular: (*singular).to_owned(),
            kind: (*kind).to_owned(),
            namespaced: *namespaced,
        });
        GroupVersion {
            group: group.to_owned(),
            version: version.to_owned(),
            resources: resources.collect(),
        }
    }

    fn cluster() -> Table {
        Table::new(&[
            version(
                "",
                "v1",
                &[
                    ("pods", "pod", "Pod", true),
                    ("namespaces", "namespace", "Namespace", false),
                    ("services", "service", "Service", true),
                    ("endpoints", "endpoints", "Endpoints", true),
                    ("events", "event", "Event", true),
                ],
            ),
            version("events.k8s.io", "v1", &[("events", "event", "Event", true)]),
            version("apps", "v1", &[("deployments", "deployment", "Deployment", true)]),
            version("autoscaling", "v2", &[("scalers", "scaler", "Scaler", true)]),
            version(
                "autoscaling",
                "v1",
                &[("scalers", "scaler", "Scaler", true), ("olds", "old", "Old", true)],
            ),
            version("storage.k8s.io", "v1", &[("storageclasses", "", "StorageClass", false)]),
            version("networking.k8s.io", "v1", &[("ingresses", "ingress", "Ingress", true)]),
            version("apps.example.com", "v1", &[("deployments", "deployment", "Deployment", true)]),
            version("example.com", "v1", &[("mice", "mouse", "Mouse", true)]),
            version("metrics.k8s.io", "v1beta1", &[("pods", "", "PodMetrics", true)]),
            version("serving.knative.dev", "v1", &[("services", "service", "Service", true)]),
            version("odd.example.com", "v1", &[("as", "x", "A", true), ("bs", "x", "B", true)]),
        ])
    }

    fn resolved(table: &Table, path: &str) -> Option<String> {
        let (word, group) = path.split_once('.').unwrap_or((path, ""));
        table.resolve(group, word).map(|found| format!("{} {}", found.id, found.version))
    }

    #[test]
    fn words_mean_what_they_mean_to_the_original() {
        let table = cluster();
        for (paths, wanted) in [
            (&["pods", "pod", "Pod", "PODS", "pods."][..], "pods v1"),
            (&["service", "Services"], "services v1"),
            (
                &["services.serving", "service.serving.knative.dev"],
                "services.serving.knative.dev v1",
            ),
            (&["endpoints"], "endpoints v1"),
            (&["event"], "events v1"),
            (&["events.events", "event.events.k8s.io"], "events.events.k8s.io v1"),
            // The exact group, though another begins with it.
            (&["deployments.apps", "deployment.app", "Deployment"], "deployments.apps v1"),
            (
                &["deployments.apps.example.com", "deployments.apps.e"],
                "deployments.apps.example.com v1",
            ),
            (&["storageclass.storage", "StorageClass"], "storageclasses.storage.k8s.io v1"),
            (&["ingresses.networking", "ingress"], "ingresses.networking.k8s.io v1"),
            (&["mouse", "mice.example", "Mouse.example.com"], "mice.example.com v1"),
            (&["scalers", "scaler.autoscaling"], "scalers.autoscaling v2"),
            // Only an older version has it.
            (&["olds", "old.auto"], "olds.autoscaling v1"),
            (&["podlist", "podlists", "PodList"], "podlists v1"),
            (&["pods.metrics", "podmetrics"], "pods.metrics.k8s.io v1beta1"),
            (&["list"], "lists v1"),
            (&["as"], "as.odd.example.com v1"),
        ] {
            for path in paths {
                assert_eq!(resolved(&table, path).as_deref(), Some(wanted), "{path}");
            }
        }
        for path in [
            "po",
            "pods.v1",
            "deployments.v1.apps",
            "scalers.autoscaling.",
            "deployments.APPS",
            "deploy",
            "pods/log",
            "",
            ".",
            "nosuch",
            "mice.other",
            "x.odd",
        ] {
            assert_eq!(resolved(&table, path), None, "{path}");
        }
    }

    #[test]
    fn a_resource_is_told_in_full() {
        let table = cluster();
        let class = table.resolve("storage", "storageclass").unwrap();
        assert_eq!((&*class.kind, &*class.singular), ("StorageClass", "storageclass"));
        assert!(!class.namespaced);
        assert_eq!(class.api_version(), "storage.k8s.io/v1");
        let list = table.resolve("", "podlist").unwrap();
        assert_eq!((&*list.kind, list.namespaced), ("PodList", true));
    }

    #[test]
    fn names_are_guessed_as_the_original_guesses() {
        for (kind, plural) in [
            ("Pod", "pods"),
            ("Policy", "policies"),
            ("Ingress", "ingresses"),
            ("MyEndpoints", "myendpoints"),
        ] {
            assert_eq!(names_of(kind), (plural.to_owned(), kind.to_lowercase()));
        }
    }
}
