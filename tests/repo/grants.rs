//! Every permission that `deploy/` grants stands in the table of `deploy/README.md` with its reason, and
//! nothing else does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::Violation;

const README: &str = "deploy/README.md";

/// The heading above the table.
const HEADING: &str = "## What Tidepole may do";

/// Verbs by role and resource, this as `resource.group`. Without either: all that a role of somebody
/// else's allows.
type Grants = BTreeMap<(String, String), BTreeSet<String>>;

/// Compares the manifests with the table.
pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let mut granted = Grants::new();
    for folder in ["deploy/manifests", "deploy/custom-metrics", "deploy/crds"] {
        let files = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for file in files {
            if file.path().extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                read_manifests(&text, &mut granted);
            }
        }
    }
    let page = std::fs::read_to_string(root.join(README)).unwrap_or_default();
    differences(&granted, &read_table(&page))
        .into_iter()
        .map(|what| Violation::new(README, 0, what))
        .collect()
}

fn differences(granted: &Grants, stated: &Grants) -> Vec<String> {
    let roles: BTreeSet<&(String, String)> = granted.keys().chain(stated.keys()).collect();
    let differs = roles.into_iter().filter(|key| granted.get(key) != stated.get(key));
    differs
        .map(|key| {
            let (role, resource) = key;
            let shown = |grants: &Grants| match grants.get(key) {
                Some(verbs) => verbs.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                None => "nothing".to_owned(),
            };
            let (granted, stated) = (shown(granted), shown(stated));
            format!("{role} on {resource:?}: granted is {granted}, the table says {stated}")
        })
        .collect()
}

/// The roles in a file of manifests, and those of others that it binds.
fn read_manifests(text: &str, grants: &mut Grants) {
    let (mut own, mut bound) = (BTreeSet::new(), BTreeSet::new());
    for document in text.split("\n---") {
        // Definitions of resources are large, and no roles.
        if !document.contains("rbac.authorization.k8s.io/v1") {
            continue;
        }
        let object: Value = match serde_saphyr::from_str(document) {
            Ok(object) => object,
            Err(error) => panic!("{error}: {document}"),
        };
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind.ends_with("Binding") {
            bound.extend(object["roleRef"]["name"].as_str().map(str::to_owned));
            continue;
        }
        let role = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        for rule in object["rules"].as_array().into_iter().flatten() {
            let list = |key: &str| -> Vec<String> {
                let all = rule[key].as_array().into_iter().flatten();
                all.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    let named =
                        if group.is_empty() { resource } else { format!("{resource}.{group}") };
                    let verbs = grants.entry((role.clone(), named)).or_default();
                    verbs.extend(list("verbs"));
                }
            }
        }
        own.insert(role);
    }
    // Those of our own are in a file with their bindings.
    for foreign in bound.difference(&own) {
        grants.entry((foreign.clone(), String::new())).or_default();
    }
}

/// The rows of the table below [`HEADING`].
fn read_table(page: &str) -> Grants {
    let (_, below) = page.split_once(HEADING).unwrap_or_default();
    let rows = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let mut grants = Grants::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let coded = |cell: usize| -> Vec<String> {
            let cell = cells.get(cell).copied().unwrap_or_default();
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let mut resources = coded(3);
        if resources.is_empty() {
            resources.push(String::new());
        }
        for role in coded(1) {
            for resource in &resources {
                let verbs = grants.entry((role.clone(), resource.clone())).or_default();
                verbs.extend(coded(2));
            }
        }
    }
    grants
}

#[test]
fn a_grant_that_the_table_does_not_have_is_found() {
    let manifest = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n\
                    metadata: { name: a }\n\
                    rules: [{ apiGroups: [\"\", g], resources: [x], verbs: [get, list] }]\n---\n\
                    apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
                    roleRef: { name: foreign }\n";
    let mut granted = Grants::new();
    read_manifests(manifest, &mut granted);
    let table =
        |rows: &str| read_table(&format!("{HEADING}\n\n| a | b |\n|---|---|\n{rows}\n\nEnd"));
    let whole = "| `a` | `get`, `list` | `x`, `x.g` | why |\n| `foreign` | | | why |";
    assert_eq!(differences(&granted, &table(whole)), [""; 0]);
    let short = "| `a` | `get`, `list` | `x` | why |\n| `a` | `get`, `watch` | `x.g` | why |";
    assert_eq!(
        differences(&granted, &table(short)),
        [
            "a on \"x.g\": granted is get, list, the table says get, watch",
            "foreign on \"\": granted is , the table says nothing",
        ]
    );
}
