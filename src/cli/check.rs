//! `tidepole check`: everything that is wrong with configs and definitions, without serving them.
//!
//! Responsible for: telling server configs from definitions, checking the definitions that a config
//! names against its sources, and conflicts between metrics. Not responsible for: whether the files
//! and secrets that a config names exist on this machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::config::{Config, KIND, Overrides};
use crate::control::file_watch::{Content, FileSet, read, scan};
use crate::definition::field::Field;
use crate::definition::{Defaults, read_bounded, yaml};
use crate::model::{
    DefinitionKind, Entry, Labels, MetricName, Origin, Problem, Scope, SourceDirectory,
};

/// Checks server configs, definitions, and folders of both. What a config names in
/// `definitions.paths` is checked with it, against its sources; other definitions against the
/// sources of the only config given, or, without one, for themselves.
///
/// Returns everything that is wrong, by file and place; nothing when all is well.
#[must_use]
pub fn check(paths: &[PathBuf]) -> Vec<Problem> {
    let found = scan(paths);
    let mut problems: BTreeSet<Problem> = found.problems.into_iter().collect();
    let mut rest: BTreeMap<PathBuf, Content> = BTreeMap::new();
    let mut configs: Vec<Config> = Vec::new();
    let mut broken = 0_usize;
    for path in found.files {
        let content = read(&path);
        match &content {
            Content::Text(text) if is_server_config(text) => {
                match Config::parse(&path, text, &Overrides::default()) {
                    Ok(config) => configs.push(config),
                    Err(found) => {
                        broken += 1;
                        problems.extend(found);
                    }
                }
            }
            _ => {
                rest.insert(path, content);
            }
        }
    }
    let mut covered: BTreeSet<PathBuf> = BTreeSet::new();
    for config in &configs {
        let found = scan(&config.definition_paths);
        problems.extend(found.problems);
        let contents = found.files.iter().map(|path| (path.clone(), read(path))).collect();
        covered.extend(found.files.iter().map(|path| real(path)));
        let sources = Some(config.source_directory());
        check_definitions(&mut problems, sources, config.defaults.clone(), contents);
    }
    rest.retain(|path, _| !covered.contains(&real(path)));
    let (sources, defaults) = match &configs[..] {
        [only] if broken == 0 => (Some(only.source_directory()), only.defaults.clone()),
        _ => (None, Defaults::default()),
    };
    check_definitions(&mut problems, sources, defaults, rest);
    problems.into_iter().collect()
}

fn is_server_config(text: &str) -> bool {
    yaml::parse(text).is_ok_and(|documents| {
        documents.iter().any(|document| {
            document.root.find(&Field::of("kind")).and_then(yaml::Node::text) == Some(KIND)
        })
    })
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn check_definitions(
    problems: &mut BTreeSet<Problem>,
    sources: Option<SourceDirectory>,
    defaults: Defaults,
    contents: BTreeMap<PathBuf, Content>,
) {
    let mut set = FileSet::new(sources, defaults, Box::new(read_bounded));
    for (path, content) in contents {
        set.update(&path, content);
    }
    let (entries, found) = set.collect();
    problems.extend(found);
    problems.extend(conflicts(&entries));
}

/// Entries that some namespace would see under a name and label set that is already taken. A
/// namespaced definition over a cluster-wide one is an override, not a conflict.
fn conflicts(entries: &[Entry]) -> Vec<Problem> {
    let mut kept: HashMap<(DefinitionKind, &MetricName, &Labels), Vec<&Entry>> = HashMap::new();
    let mut problems = Vec::new();
    for entry in entries {
        let group = kept.entry((entry.id.kind, &entry.metric, &entry.labels)).or_default();
        match group.iter().find(|first| overlap(&first.scope, &entry.scope)) {
            None => group.push(entry),
            Some(first) => {
                let Origin::File { path, line } = &entry.origin;
                problems.push(Problem {
                    path: path.clone(),
                    line: *line,
                    column: 0,
                    field: "spec".to_owned(),
                    message: format!(
                        "metric {} with labels {} is already defined by {} at {}, which stays",
                        entry.metric, entry.labels, first.id, first.origin
                    ),
                });
            }
        }
    }
    problems
}

/// Whether one namespace certainly sees both.
fn overlap(a: &Scope, b: &Scope) -> bool {
    match (a, b) {
        (Scope::Namespace(a), Scope::Namespace(b)) => a == b,
        (Scope::Listed(a), Scope::Listed(b)) => !a.is_disjoint(b),
        (Scope::Selected(a), Scope::Selected(b)) => a == b,
        (Scope::All, other) | (other, Scope::All) => !matches!(other, Scope::Namespace(_)),
        // Which namespaces carry which labels is known to the cluster alone.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn document(name: &str, metric: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: {name}}}\nspec:\n  metric: {metric}\n  {spec}\n"
        )
    }

    fn server(body: &str) -> String {
        format!("apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\n{body}\n")
    }

    /// Checks `names` in a folder with these files.
    fn check_in(files: &[(&str, String)], names: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let paths: Vec<PathBuf> = names.iter().map(|name| dir.path().join(name)).collect();
        let prefix = format!("{}/", dir.path().display());
        check(&paths).iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }

    #[test]
    fn what_the_repository_ships_is_clean() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["config/demo.yaml", "config/minimal.yaml", "config/full.yaml", "config"] {
            assert_eq!(check(&[root.join(name)]), [], "{name}");
        }
        for example in fs::read_dir(root.join("config/examples")).unwrap() {
            assert_eq!(check(&[example.unwrap().path()]), []);
        }
    }

    #[test]
    fn definitions_alone_are_checked_without_sources() {
        let files = [(
            "d/a.yaml",
            document("a", "a", "source: x\n  prometheus: {query: up}")
                + &document("b", "b", "prometheus: {query: ''}"),
        )];
        assert_eq!(
            check_in(&files, &["d"]),
            ["d/a.yaml:15:23: spec.prometheus.query: the query is empty"]
        );
    }

    #[test]
    fn definitions_of_a_config_are_checked_with_its_sources() {
        let files = [
            (
                "server.yaml",
                server(
                    "sources: [{name: main, prometheus: {url: 'http://p'}}]\ndefinitions: {paths: [d]}",
                ),
            ),
            ("d/a.yaml", document("a", "a", "source: mian\n  prometheus: {query: up}")),
            ("e.yaml", document("b", "b", "source: sim\n  simulated: {constant: 1}")),
        ];
        let in_d = "d/a.yaml:7:11: spec.source: there is no source \"mian\"; did you mean `main`?";
        assert_eq!(check_in(&files, &["server.yaml"]), [in_d]);
        // Given twice, reported once; definitions beside the config are checked against it too.
        assert_eq!(
            check_in(&files, &["."]),
            [in_d, "./e.yaml:7:11: spec.source: there is no source \"sim\"; the sources are main",]
        );
    }

    #[test]
    fn the_mistakes_of_all_files_come_in_order() {
        let files = [
            ("b.yaml", server("sevrer: {}")),
            ("a.yaml", "a: [".to_owned()),
            ("c.yaml", server("definitions: {paths: [nowhere]}")),
        ];
        let found = check_in(&files, &["c.yaml", "b.yaml", "a.yaml", "none.yaml"]);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("a.yaml:"), "{found:?}");
        assert_eq!(
            found[1..],
            [
                "b.yaml:3:1: sevrer: unknown field; did you mean `server`?",
                "none.yaml: there is no such file or folder",
                "nowhere: there is no such file or folder",
            ]
        );
    }

    #[test]
    fn conflicts_are_reported_at_the_loser() {
        let sim = "simulated: {constant: 1}";
        let files = [
            ("a.yaml", document("one", "m", sim)),
            (
                "b.yaml",
                document("two", "M", sim)
                    + &document("three", "m", &format!("labels: {{x: y}}\n  {sim}"))
                    + &document("four", "m", &format!("namespaces: [a]\n  {sim}"))
                    + &document("one", "other", sim),
            ),
        ];
        assert_eq!(
            check_in(&files, &["a.yaml", "b.yaml"]),
            [
                "b.yaml:2: spec: metric m with labels {} is already defined by ClusterExternalMetric one at a.yaml:2, which stays",
                "b.yaml:17: spec: metric m with labels {} is already defined by ClusterExternalMetric one at a.yaml:2, which stays",
                "b.yaml:25: metadata.name: ClusterExternalMetric one is already defined at a.yaml:2; this one is left out",
            ]
        );
    }
}
