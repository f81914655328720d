//! Finding the definition that is meant.

use std::collections::HashSet;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::catalog::Snapshot;
use crate::cli::query::Refusal;
use crate::config::Config;
use crate::control::file_watch::{Content, read, scan};
use crate::definition::document::API_VERSION;
use crate::definition::field::{Field, closest};
use crate::definition::yaml::{self, Document, Key, MAX_FILE_BYTES, Node, Place, Value};
use crate::definition::{Author, Context, Defaults, Definition, read_bounded, read_document};
use crate::model::{DefinitionId, DefinitionKind, Entry, Problem, Scope};

/// What standard input is called in messages.
const STDIN: &str = "<stdin>";

/// The name of a definition that is a bare spec.
const BARE_NAME: &str = "spec";

/// Most definitions that an ambiguity lists.
const MAX_LISTED: usize = 20;

/// The definition that the command line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// With a kind, the name is `metadata.name` for sure.
    kind: Option<DefinitionKind>,
    name: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, name)) = text.split_once('/') else {
            return Ok(Self { kind: None, name: text.to_owned() });
        };
        let kinds = DefinitionKind::ALL;
        let kind = kinds.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind));
        let kind = kind.ok_or_else(|| {
            let known = kinds.map(DefinitionKind::as_str).join(" or ");
            format!("the kind before the \"/\" is {known}; a namespace goes into --namespace")
        })?;
        Ok(Self { kind: Some(kind), name: name.to_owned() })
    }
}

/// Definitions to choose from.
pub(super) struct Library {
    definitions: Vec<Definition>,
    /// What is wrong with whole files.
    problems: Vec<Problem>,
    /// Where they were looked for, in words.
    place: String,
}

impl Library {
    /// The definitions that a server config names.
    pub(super) fn of_config(config: &Config) -> Self {
        let mut library = Self::new(match &config.definition_paths[..] {
            [] => "the server config, which names no definitions.paths".to_owned(),
            paths => paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
        });
        library.take_paths(&config.definition_paths, Some(config), false);
        library
    }

    /// The definitions of a file, a folder or standard input.
    pub(super) fn of_file(file: &Path, config: Option<&Config>) -> Result<Self, Refusal> {
        if file != Path::new("-") {
            let mut library = Self::new(file.display().to_string());
            library.take_paths(&[file.to_owned()], config, true);
            return Ok(library);
        }
        let mut library = Self::new(STDIN.to_owned());
        let mut bytes = Vec::new();
        let limit = MAX_FILE_BYTES as u64 + 1;
        let taken = std::io::stdin().take(limit).read_to_end(&mut bytes);
        taken.map_err(|error| Refusal::input(format!("{STDIN}: cannot be read: {error}")))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Refusal::input(format!(
                "{STDIN}: larger than {} MiB",
                MAX_FILE_BYTES >> 20
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Refusal::input(format!("{STDIN}: not UTF-8 text")))?;
        library.take(vec![(STDIN.into(), text)], config, true);
        Ok(library)
    }

    fn new(place: String) -> Self {
        Self { definitions: Vec::new(), problems: Vec::new(), place }
    }

    fn take_paths(&mut self, paths: &[PathBuf], config: Option<&Config>, bare: bool) {
        let found = scan(paths);
        self.problems.extend(found.problems);
        let mut texts = Vec::new();
        for path in found.files {
            match read(&path) {
                Content::Text(text) => texts.push((path, text)),
                Content::Unreadable(why) => {
                    let message = format!("cannot be read: {why}");
                    self.problems.push(problem(&path, Place::default(), message));
                }
                Content::Missing => {}
            }
        }
        self.take(texts, config, bare);
    }

    /// Reads the documents of all texts, in path order. With `bare`, one without any of a
    /// document's own fields is a spec.
    fn take(&mut self, texts: Vec<(PathBuf, String)>, config: Option<&Config>, bare: bool) {
        let sources = config.map(Config::source_directory);
        let defaults = config.map_or_else(Defaults::default, |config| config.defaults.clone());
        let context = Context {
            sources: sources.as_ref(),
            defaults: &defaults,
            cluster: config.is_none_or(|config| config.kubernetes.enabled),
            author: Author::Operator,
            read_file: &read_bounded,
        };
        for (path, text) in texts {
            match yaml::parse(&text) {
                Ok(documents) => self.definitions.extend(documents.into_iter().map(|document| {
                    let document = if bare { dressed(document) } else { document };
                    read_document(&path, &document, &context)
                })),
                Err(mistake) => {
                    self.problems.push(problem(&path, mistake.place, mistake.message));
                }
            }
        }
        // Of two valid ones with one kind, namespace and name the first stays, as in the server.
        let id_of = |definition: &Definition| definition.id.clone();
        let valid = self.definitions.iter().filter(|definition| definition.outcome.is_ok());
        let valid: HashSet<DefinitionId> = valid.filter_map(id_of).collect();
        let mut seen: HashSet<DefinitionId> = HashSet::new();
        self.definitions.retain(|definition| {
            let Some(id) = &definition.id else { return true };
            (definition.outcome.is_ok() || !valid.contains(id)) && seen.insert(id.clone())
        });
    }

    /// The one that is meant. `namespace` is that of the reader.
    pub(super) fn pick(
        &self,
        wanted: Option<&Wanted>,
        namespace: Option<&str>,
    ) -> Result<Arc<Entry>, Refusal> {
        let named: Vec<&Definition> =
            self.definitions.iter().filter(|definition| is_meant(definition, wanted)).collect();
        let seen: Vec<&Definition> = named
            .iter()
            .copied()
            .filter(|definition| namespace.is_none_or(|reader| is_seen(definition, reader)))
            .collect();
        match (&seen[..], &named[..]) {
            ([one], _) => match &one.outcome {
                Ok(entry) => Ok(Arc::new(entry.clone())),
                Err(problems) => Err(lines(problems)),
            },
            ([], []) => Err(self.unknown(wanted)),
            ([], hidden) => {
                let text =
                    format!("not seen in namespace {}; there is", namespace.unwrap_or_default());
                Err(listing(&text, hidden))
            }
            (several, _) => {
                let text = match wanted {
                    Some(wanted) => {
                        format!("{:?} is ambiguous; say which one is meant:", wanted.name)
                    }
                    None => {
                        format!("{} holds several definitions; say which one is meant:", self.place)
                    }
                };
                Err(listing(&text, several))
            }
        }
    }

    /// Whether something is meant by this.
    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        self.definitions.iter().any(|definition| is_meant(definition, Some(wanted)))
    }

    fn unknown(&self, wanted: Option<&Wanted>) -> Refusal {
        let Some(wanted) = wanted else {
            if self.problems.is_empty() {
                return Refusal::input(format!("{}: there is no definition", self.place));
            }
            return lines(&self.problems);
        };
        let name = &wanted.name;
        let mut text = match wanted.kind {
            Some(kind) => format!("no {} in {} has the name {name:?}", kind.as_str(), self.place),
            None => format!("no definition in {} has the name or metric {name:?}", self.place),
        };
        let mut names: Vec<&str> = Vec::new();
        for definition in &self.definitions {
            let id = definition.id.as_ref();
            let id = id.filter(|id| wanted.kind.is_none_or(|kind| kind == id.kind));
            names.extend(id.map(|id| &*id.name));
            let metric = definition.outcome.as_ref().ok().map(|entry| entry.metric.as_str());
            names.extend(metric.filter(|_| wanted.kind.is_none()));
        }
        if let Some(near) = closest(name, names) {
            let _ = write!(text, "; did you mean {near:?}?");
        }
        let mut all = vec![text];
        all.extend(self.problems.iter().map(ToString::to_string));
        Refusal::Input(all)
    }

    /// What a reader of the definition in a namespace should know about the others.
    pub(super) fn notes(&self, entry: &Entry, namespace: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if let Scope::Selected(selector) = &entry.scope {
            notes.push(format!(
                "Whether namespace {namespace} has the labels {selector} (namespaceSelector) is not checked: no cluster is asked."
            ));
        }
        let entries = self.definitions.iter().filter_map(|d| d.outcome.as_ref().ok());
        let about = |entry: &Entry| entry.objects.as_ref().map(|of| Arc::clone(&of.resource));
        let entries =
            entries.filter(|other| other.metric == entry.metric && about(other) == about(entry));
        let entries = entries.map(|entry| Arc::new(entry.clone())).collect();
        let snapshot = Snapshot::build(entries, Vec::new(), 0, |_| None);
        let Some(listing) = snapshot.listing(entry.metric.as_str()) else { return notes };
        // Which namespaces a selector selects is not known; to mention one too many is better.
        let visible: Vec<&Arc<Entry>> =
            listing.visible(namespace, |_| true).map(|served| &served.entry).collect();
        if !visible.iter().any(|other| other.id == entry.id) {
            let winner = visible.iter().find(|other| other.labels == entry.labels);
            notes.push(match winner {
                Some(winner) => format!(
                    "Not served in namespace {namespace}: {} ({}) goes before it, with the same metric and labels.",
                    winner.id, winner.origin
                ),
                None => format!("Not served in namespace {namespace}."),
            });
            return notes;
        }
        let others: Vec<String> = visible
            .iter()
            .filter(|other| other.id != entry.id)
            .take(MAX_LISTED)
            .map(|other| format!("{} {}", other.id, other.labels))
            .collect();
        if !others.is_empty() {
            notes.push(format!(
                "A read of metric {} also takes these definitions in, unless its selector leaves them out: {}.",
                entry.metric,
                others.join(", ")
            ));
        }
        notes
    }
}

fn is_meant(definition: &Definition, wanted: Option<&Wanted>) -> bool {
    let Some(wanted) = wanted else { return true };
    let id = definition.id.as_ref();
    let by_name = id.is_some_and(|id| {
        *id.name == wanted.name && wanted.kind.is_none_or(|kind| kind == id.kind)
    });
    let folded = wanted.name.to_lowercase();
    let by_metric = wanted.kind.is_none()
        && definition.outcome.as_ref().is_ok_and(|entry| entry.metric.as_str() == folded);
    by_name || by_metric
}

/// Whether readers in a namespace see it. One that is wrong may be seen where its id says.
fn is_seen(definition: &Definition, namespace: &str) -> bool {
    let Ok(entry) = &definition.outcome else {
        let own = definition.id.as_ref().and_then(|id| id.namespace.as_deref());
        return own.is_none_or(|own| own == namespace);
    };
    match &entry.scope {
        Scope::Namespace(own) => **own == *namespace,
        Scope::Listed(list) => list.contains(namespace),
        Scope::All | Scope::Selected(_) => true,
    }
}

/// A text and the definitions that it is about, as the command line names them.
fn listing(text: &str, definitions: &[&Definition]) -> Refusal {
    let mut all = vec![text.to_owned()];
    for definition in definitions.iter().take(MAX_LISTED) {
        let name = match &definition.id {
            Some(id) => match &id.namespace {
                Some(namespace) => {
                    format!("{}/{} --namespace {namespace}", id.kind.as_str(), id.name)
                }
                None => format!("{}/{}", id.kind.as_str(), id.name),
            },
            None => "one without a name".to_owned(),
        };
        let place = match &definition.outcome {
            Ok(entry) => format!("metric {} {}, {}", entry.metric, entry.labels, entry.origin),
            Err(problems) => problems.first().map(ToString::to_string).unwrap_or_default(),
        };
        all.push(format!("  {name}  ({place})"));
    }
    if definitions.len() > MAX_LISTED {
        all.push(format!("  and {} more", definitions.len() - MAX_LISTED));
    }
    Refusal::Input(all)
}

fn lines(problems: &[Problem]) -> Refusal {
    Refusal::Input(problems.iter().map(ToString::to_string).collect())
}

fn problem(path: &Path, place: Place, message: String) -> Problem {
    Problem::new(path, message).at(place.line, place.column)
}

/// A document around a bare spec; other documents as they are. A mapping with `spec` alone is one
/// without its dress, too.
fn dressed(document: Document) -> Document {
    let Value::Map(pairs) = &document.root.value else { return document };
    let own = |name: &str| document.root.find(&Field::of(name)).is_some();
    if ["apiVersion", "kind", "metadata"].into_iter().any(own) {
        return document;
    }
    let place = document.root.place;
    let spec = match &pairs[..] {
        [(key, spec)] if key.text == "spec" => spec.clone(),
        _ => document.root.clone(),
    };
    let text =
        |text: &str| Node { place, value: Value::Scalar { text: text.to_owned(), plain: false } };
    let pair = |name: &str, node: Node| (Key { place, text: name.to_owned() }, node);
    let metadata = Node { place, value: Value::Map(vec![pair("name", text(BARE_NAME))]) };
    let root = vec![
        pair("apiVersion", text(API_VERSION)),
        pair("kind", text(DefinitionKind::ClusterExternalMetric.as_str())),
        pair("metadata", metadata),
        pair("spec", spec),
    ];
    Document { root: Node { place, value: Value::Map(root) }, mistakes: document.mistakes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
        let namespace =
            if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec:\n  simulated: {{constant: 1}}\n  {spec}\n"
        )
    }

    fn library(text: &str) -> Library {
        let mut library = Library::new("d".to_owned());
        library.take(vec![("d/a.yaml".into(), text.to_owned())], None, true);
        library
    }

    fn pick(library: &Library, name: &str, namespace: Option<&str>) -> String {
        let wanted = (!name.is_empty()).then(|| name.parse::<Wanted>().unwrap());
        match library.pick(wanted.as_ref(), namespace) {
            Ok(entry) => entry.id.to_string(),
            Err(Refusal::Input(lines)) => lines.join("\n"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_definition_is_named_by_its_name_its_metric_or_its_kind_and_name() {
        let library = library(
            &(document("ExternalMetric", "jobs", "a", "metric: jobs_depth")
                + &document("ClusterExternalMetric", "mail", "", "metric: Mail_Depth")),
        );
        for (name, namespace) in [
            ("jobs", None),
            ("jobs", Some("a")),
            ("jobs_depth", None),
            ("JOBS_DEPTH", None),
            ("externalmetric/jobs", None),
        ] {
            assert_eq!(pick(&library, name, namespace), "ExternalMetric a/jobs", "{name}");
        }
        assert_eq!(pick(&library, "mail_depth", Some("b")), "ClusterExternalMetric mail");
        assert_eq!(
            pick(&library, "jobz", None),
            "no definition in d has the name or metric \"jobz\"; did you mean \"jobs\"?"
        );
        assert_eq!(
            pick(&library, "ExternalMetric/jobz", None),
            "no ExternalMetric in d has the name \"jobz\"; did you mean \"jobs\"?"
        );
        assert_eq!(
            pick(&library, "jobs", Some("b")),
            "not seen in namespace b; there is\n  ExternalMetric/jobs --namespace a  (metric jobs_depth {}, d/a.yaml:2)"
        );
        assert_eq!(
            "pod/jobs".parse::<Wanted>().unwrap_err(),
            "the kind before the \"/\" is ExternalMetric or ClusterExternalMetric or CustomMetric or ClusterCustomMetric; a namespace goes into --namespace"
        );
    }

    #[test]
    fn what_is_ambiguous_is_listed_as_it_can_be_named() {
        let library = library(
            &(document("ExternalMetric", "jobs", "a", "labels: {q: x}")
                + &document("ExternalMetric", "jobs", "b", "")
                + &document("ClusterExternalMetric", "other", "", "metric: jobs")),
        );
        assert_eq!(
            pick(&library, "jobs", None),
            "\"jobs\" is ambiguous; say which one is meant:
  ExternalMetric/jobs --namespace a  (metric jobs {q=x}, d/a.yaml:2)
  ExternalMetric/jobs --namespace b  (metric jobs {}, d/a.yaml:9)
  ClusterExternalMetric/other  (metric jobs {}, d/a.yaml:16)"
        );
        assert_eq!(pick(&library, "ExternalMetric/jobs", Some("b")), "ExternalMetric b/jobs");
        assert_eq!(pick(&library, "other", Some("b")), "ClusterExternalMetric other");
        assert!(pick(&library, "", None).starts_with("d holds several definitions; say which"));
    }

    #[test]
    fn a_bare_spec_is_a_definition_and_keeps_its_places() {
        for text in ["simulated: {constant: 7}", "spec:\n  simulated: {constant: 7}"] {
            assert_eq!(pick(&library(text), "", Some("a")), "ClusterExternalMetric spec");
        }
        assert_eq!(
            pick(&library("simulated: {constant: 7}\nscael: 2"), "", None),
            "d/a.yaml:2:1: spec.scael: unknown field; did you mean `scale`?"
        );
        // A document that says what it is has to say all of it.
        let problem =
            pick(&library("kind: ExternalMetric\nspec: {simulated: {constant: 7}}"), "", None);
        assert!(problem.contains("apiVersion: this field is missing"), "{problem}");
    }

    #[test]
    fn a_wrong_definition_says_what_is_wrong_and_others_do_not_matter() {
        let text = document("ExternalMetric", "bad", "a", "scael: 2")
            + &document("ExternalMetric", "good", "a", "");
        let library = library(&text);
        assert_eq!(
            pick(&library, "bad", None),
            "d/a.yaml:7:3: spec.scael: unknown field; did you mean `scale`?"
        );
        assert_eq!(pick(&library, "good", None), "ExternalMetric a/good");
        // As in the server, the valid one of two counts, and of two valid ones the first.
        let again = text + &document("ExternalMetric", "bad", "a", "scale: 3");
        let again = again + &document("ExternalMetric", "bad", "a", "scale: 4");
        let library = self::library(&again);
        let entry = library.pick(Some(&"bad".parse().unwrap()), None).unwrap();
        assert_eq!(entry.transform.scale, "3".parse().unwrap());
    }

    #[test]
    fn others_of_the_same_metric_are_told() {
        let library = library(
            &(document("ExternalMetric", "own", "a", "metric: jobs")
                + &document("ClusterExternalMetric", "wide", "", "metric: jobs")
                + &document(
                    "ClusterExternalMetric",
                    "mail",
                    "",
                    "metric: jobs\n  labels: {q: mail}",
                )
                + &document(
                    "ClusterExternalMetric",
                    "team",
                    "",
                    "metric: team\n  namespaceSelector: {matchLabels: {team: x}}",
                )),
        );
        let notes = |name: &str, namespace: &str| {
            let entry = library.pick(Some(&name.parse().unwrap()), None).unwrap();
            library.notes(&entry, namespace)
        };
        assert_eq!(
            notes("own", "a"),
            [
                "A read of metric jobs also takes these definitions in, unless its selector leaves them out: ClusterExternalMetric mail {q=mail}."
            ]
        );
        assert_eq!(
            notes("wide", "a"),
            [
                "Not served in namespace a: ExternalMetric a/own (d/a.yaml:2) goes before it, with the same metric and labels."
            ]
        );
        assert_eq!(
            notes("team", "a"),
            [
                "Whether namespace a has the labels team=x (namespaceSelector) is not checked: no cluster is asked."
            ]
        );
    }
}
