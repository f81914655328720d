//! `tidepole check`: everything that is wrong with configs, definitions and rule files, without
//! serving them, and what they would cost.
//!
//! Responsible for: telling server configs, definitions and prometheus-adapter's rule files from
//! each other, checking the definitions that a config names against its sources, the rule files that
//! it names, and conflicts between metrics. Not responsible for: whether the files
//! and secrets that a config names exist on this machine.

mod costs;
pub mod explain;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::catalog::{Conflict, Snapshot};
use crate::cli::rule_files;
use crate::config::{Config, KIND, Overrides};
use crate::control::file_watch::{Content, FileSet, Scan, read, scan};
use crate::definition::field::Field;
use crate::definition::{Defaults, read_bounded, yaml};
use crate::model::{Estimate, Problem, SourceDirectory};

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Everything that is wrong, by file and place; nothing when all is well.
    pub problems: Vec<Problem>,
    /// What those definitions cost that are right: one estimate per server config, and one for
    /// definitions that no config names, if there are any.
    pub costs: Vec<Cost>,
    /// The rule files, each once: those that were given, and those that the given configs name.
    pub rule_files: Vec<PathBuf>,
    /// The server config, if exactly one was given and it is right.
    pub config: Option<Config>,
}

/// What the definitions of one server config cost. Its [`Display`](std::fmt::Display) form is a table
/// for people.
#[derive(Debug)]
pub struct Cost {
    /// The config whose prices were taken. None: list prices.
    pub config: Option<PathBuf>,
    /// The estimate.
    pub estimate: Estimate,
}

/// Checks server configs, definitions, rule files, and folders of them. What a config names in
/// `definitions.paths` is checked with it, against its sources; other definitions against the
/// sources of the only config given, or, without one, for themselves. Rule files are checked by
/// themselves: what they find is known to their Prometheus and the cluster alone.
#[must_use]
pub fn check(paths: &[PathBuf]) -> Checked {
    let found = scan(paths);
    let mut problems: BTreeSet<Problem> = empty_folders(paths, &found).into_iter().collect();
    problems.extend(found.problems);
    let mut rest: BTreeMap<PathBuf, Content> = BTreeMap::new();
    let mut configs: Vec<(PathBuf, Config)> = Vec::new();
    let mut broken = 0_usize;
    let mut rule_files: Vec<PathBuf> = Vec::new();
    for path in found.files {
        let content = read(&path);
        match &content {
            Content::Text(text) if is_server_config(text) => {
                match Config::parse(&path, text, &Overrides::default()) {
                    Ok(config) => configs.push((path, config)),
                    Err(found) => {
                        broken += 1;
                        problems.extend(found);
                    }
                }
            }
            Content::Text(text) if rule_files::is_rule_file(text) => rule_files.push(path),
            _ => {
                rest.insert(path, content);
            }
        }
    }
    rule_files.extend(configs.iter().flat_map(|(_, config)| rule_files::paths_of(config)).cloned());
    let mut seen = BTreeSet::new();
    rule_files.retain(|path| seen.insert(real(path)));
    for path in &rule_files {
        problems.extend(rule_files::parse(path).err().into_iter().flatten());
    }
    let mut covered: BTreeSet<PathBuf> = BTreeSet::new();
    let mut costs = Vec::new();
    for (path, config) in &configs {
        let found = scan(&config.definition_paths);
        problems.extend(found.problems);
        let contents = found.files.iter().map(|path| (path.clone(), read(path))).collect();
        covered.extend(found.files.iter().map(|path| real(path)));
        // One that cannot be told by its text is one all the same if the config says so.
        covered.extend(rule_files::paths_of(config).map(|path| real(path)));
        let estimate = check_definitions(&mut problems, Against::of(config), contents);
        costs.push(Cost { config: Some(path.clone()), estimate });
    }
    rest.retain(|path, _| !covered.contains(&real(path)));
    if !rest.is_empty() {
        let (config, against) = match &configs[..] {
            [(path, only)] if broken == 0 => (Some(path.clone()), Against::of(only)),
            _ => (None, Against { sources: None, defaults: Defaults::default(), cluster: true }),
        };
        let estimate = check_definitions(&mut problems, against, rest);
        costs.push(Cost { config, estimate });
    }
    let config = match configs.pop() {
        Some((_, only)) if configs.is_empty() && broken == 0 => Some(only),
        _ => None,
    };
    Checked { problems: problems.into_iter().collect(), costs, rule_files, config }
}

/// Folders of the command line in which nothing was found: more likely the wrong folder than
/// nothing to check.
fn empty_folders(paths: &[PathBuf], found: &Scan) -> Vec<Problem> {
    // By where they really are: a folder that is given twice is walked once.
    let filled: BTreeSet<PathBuf> =
        found.files.iter().filter_map(|file| Some(real(file.parent()?))).collect();
    let is_empty = |path: &&PathBuf| {
        path.is_dir()
            && !found.unlisted.contains(path)
            && !found.files.iter().any(|file| file.starts_with(path))
            && !filled.iter().any(|folder| folder.starts_with(real(path)))
    };
    let problem = |path: &PathBuf| {
        Problem::new(path, "nothing to check in this folder: no *.yaml, *.yml or *.json")
    };
    paths.iter().filter(is_empty).map(problem).collect()
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

/// What definitions are checked against.
struct Against {
    /// None: not known, and not complained about.
    sources: Option<SourceDirectory>,
    defaults: Defaults,
    cluster: bool,
}

impl Against {
    fn of(config: &Config) -> Self {
        Self {
            sources: Some(config.source_directory()),
            defaults: config.defaults.clone(),
            cluster: config.kubernetes.enabled,
        }
    }
}

fn check_definitions(
    problems: &mut BTreeSet<Problem>,
    against: Against,
    contents: BTreeMap<PathBuf, Content>,
) -> Estimate {
    let Against { sources, defaults, cluster } = against;
    let prices = sources.clone().unwrap_or_default();
    let mut set = FileSet::new(sources, defaults, cluster, Box::new(read_bounded));
    for (path, content) in contents {
        set.update(&path, content);
    }
    let (entries, found) = set.collect();
    problems.extend(found);
    let estimate = Estimate::of(entries.iter().map(AsRef::as_ref), &prices);
    let snapshot = Snapshot::build(entries, Vec::new(), 0, |_| None);
    problems.extend(snapshot.conflicts().iter().filter_map(Conflict::problem));
    estimate
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
        check(&paths)
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }

    #[test]
    fn what_the_repository_ships_is_clean() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["config/demo.yaml", "config/minimal.yaml", "config/full.yaml", "config"] {
            assert_eq!(check(&[root.join(name)]).problems, [], "{name}");
        }
        for example in fs::read_dir(root.join("config/examples")).unwrap() {
            assert_eq!(check(&[example.unwrap().path()]).problems, []);
        }
    }

    #[test]
    fn rule_files_are_checked_where_they_are_named() {
        let wrong = "rules:\n- seriesQuery: a\n  metricsQuery: '<<.Oops'\n  nmae: {}\n".to_owned();
        let said =
            ["r/rules.yaml:3:17: rules[0].metricsQuery: ", "r/rules.yaml:4:3: rules[0].nmae: "];
        let config = server(
            "sources: [{name: main, prometheus: {url: 'http://x'}}]\nrules: [{path: r/rules.yaml}]",
        );
        let files = [("r/rules.yaml", wrong), ("server.yaml", config.clone())];
        for names in
            [&["r"][..], &["r/rules.yaml"], &["server.yaml"], &["."], &["r", "server.yaml"]]
        {
            let found = check_in(&files, names);
            assert_eq!(found.len(), said.len(), "{names:?}: {found:?}");
            let is_said =
                |(line, said): (&String, &str)| line.trim_start_matches("./").starts_with(said);
            assert!(found.iter().zip(said).all(is_said), "{found:?}");
        }
        let right = "rules:\n- seriesQuery: a\n  metricsQuery: b\n".to_owned();
        let files = [("r/rules.yaml", right), ("server.yaml", config.clone())];
        assert_eq!(check_in(&files, &["."]), [""; 0]);
        assert_eq!(
            check_in(&[("server.yaml", config)], &["server.yaml"]),
            ["r/rules.yaml: cannot be read: there is no such file"]
        );
    }

    #[test]
    fn a_folder_with_nothing_to_check_is_told() {
        let files = [
            ("d/a.yaml", document("a", "a", "simulated: {constant: 1}")),
            ("e/note.txt", String::new()),
        ];
        assert_eq!(
            check_in(&files, &["e", "d", "./d"]),
            ["e: nothing to check in this folder: no *.yaml, *.yml or *.json"]
        );
        // A config may name a folder that is still empty: the server watches it.
        let config = server("sources: [{name: sim, simulated: {}}]\ndefinitions: {paths: [e]}");
        let files = [("server.yaml", config), ("e/note.txt", String::new())];
        assert_eq!(check_in(&files, &["server.yaml"]), [""; 0]);
        assert_eq!(check_in(&files, &["."]), [""; 0]);
    }

    #[test]
    fn costs_are_told_for_what_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| {
            fs::create_dir_all(dir.path().join("d")).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let metric =
            "cloudwatch: { metric: { namespace: A, name: B, statistic: Sum, period: 1m } }";
        let definitions = put(
            "d/a.yaml",
            document("a", "a", metric) + &document("b", "b", "sqs: {queues: [x y]}"),
        );
        let config = put(
            "server.yaml",
            server("sources: [{name: aws, aws: {region: eu-west-1}}]\ndefinitions: {paths: [d]}"),
        );
        let checked = check(&[definitions]);
        assert_eq!(checked.problems.len(), 1);
        let [alone] = &checked.costs[..] else { panic!() };
        assert!(
            alone.to_string().starts_with(
                "Without a server config, at list prices:\n\nDEFINITION               SOURCE  PER READ  READ EVERY  PER MINUTE  USD PER MONTH\nClusterExternalMetric a  aws     1 metric  1m          1           0.44\n"
            ),
            "{alone}"
        );
        let checked = check(std::slice::from_ref(&config));
        let [cost] = &checked.costs[..] else { panic!() };
        assert_eq!(cost.config.as_ref(), Some(&config));
        assert!(
            cost.to_string()
                .starts_with(&format!("With the prices of {}:\n\nDEF", config.display()))
        );
        assert_eq!(cost.estimate.lines.len(), 1);
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
                "b.yaml:2: ClusterExternalMetric two defines metric m with the same labels as ClusterExternalMetric one (a.yaml:2) and is not served",
                "b.yaml:17: ClusterExternalMetric four defines metric m with the same labels as ClusterExternalMetric one (a.yaml:2) and is not served",
                "b.yaml:25: metadata.name: ClusterExternalMetric one is already defined at a.yaml:2; this one is left out",
            ]
        );
    }

    #[test]
    fn a_namespace_may_override_a_cluster_wide_metric() {
        let own = document("own", "m", "simulated: {constant: 1}")
            .replace("ClusterExternalMetric", "ExternalMetric")
            .replace("{name: own}", "{name: own, namespace: a}");
        let files = [("a.yaml", document("all", "m", "simulated: {constant: 2}") + &own)];
        assert_eq!(check_in(&files, &["a.yaml"]), [""; 0]);
    }

    #[test]
    fn selecting_namespaces_takes_a_cluster() {
        let spec = "namespaceSelector: {matchLabels: {team: a}}\n  simulated: {constant: 1}";
        let alone =
            "server: {listen: '127.0.0.1:6443', auth: none}\nkubernetes: {enabled: false}\n";
        let rest = "sources: [{name: sim, simulated: {}}]\ndefinitions: {paths: [d]}";
        let files = [
            ("with.yaml", server(rest)),
            ("without.yaml", server(&format!("{alone}{rest}"))),
            ("d/a.yaml", document("a", "a", spec)),
        ];
        assert_eq!(check_in(&files, &["with.yaml"]), [""; 0]);
        assert_eq!(check_in(&files, &["d"]), [""; 0]);
        assert_eq!(
            check_in(&files, &["without.yaml"]),
            [
                "d/a.yaml:7:3: spec.namespaceSelector: namespaceSelector needs a cluster, and kubernetes.enabled is false in the server config; list the namespaces in spec.namespaces"
            ]
        );
    }
}
