//! What the definition files hold, and what of it still serves when a file goes wrong.
//!
//! Pure: no file system but through the function that reads recordings.
//!
//! Rules: a document that is valid serves. One that becomes invalid keeps its last good version
//! (by kind, namespace and name). A file that cannot be read, or is no YAML any more, keeps all its
//! documents. A document that is deleted goes, and so do those of a deleted file. A document that
//! asks for more of a source than those before it leave of its ceiling is refused (`ceiling`); one
//! that is wrong counts there with its last good version, at its place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::control::ceiling::{Ceiling, Kin};
use crate::definition::yaml::Place;
use crate::definition::{self, Author, Context, Defaults, Definition, ReadFile};
use crate::model::{
    DefinitionId, Entry, Origin, Policy, Problem, ProblemKind, SourceDirectory, Transform,
};

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// This text.
    Text(String),
    /// Something that cannot be read, and why.
    Unreadable(String),
    /// Nothing.
    Missing,
}

/// The definition files and their documents, in path order.
pub struct FileSet {
    sources: Option<SourceDirectory>,
    defaults: Defaults,
    cluster: bool,
    read_file: Box<ReadFile>,
    files: BTreeMap<PathBuf, File>,
    ceiling: Arc<Ceiling>,
}

#[derive(Default)]
struct File {
    /// A digest of what was last read; none after a failure. The text itself would cost as much
    /// memory as everything that is made of it.
    seen: Option<[u8; 32]>,
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

/// One document: which it is, and its last good version.
struct Document {
    id: Option<DefinitionId>,
    /// Where its question is written.
    question: Place,
    good: Option<Arc<Entry>>,
}

impl FileSet {
    /// An empty set. Without `sources`, definitions are checked for themselves only; without a
    /// `cluster`, they cannot select namespaces.
    pub fn new(
        sources: Option<SourceDirectory>,
        defaults: Defaults,
        cluster: bool,
        read_file: Box<ReadFile>,
    ) -> Self {
        let ceiling = Arc::new(Ceiling::new(sources.as_ref()));
        Self { sources, defaults, cluster, read_file, files: BTreeMap::new(), ceiling }
    }

    /// Under ceilings that definitions from elsewhere share.
    #[must_use]
    pub fn under(mut self, ceiling: Arc<Ceiling>) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Takes in what is now at a path, and tells whether that changed anything.
    pub fn update(&mut self, path: &Path, content: Content) -> bool {
        let text = match content {
            Content::Missing => return self.files.remove(path).is_some(),
            Content::Unreadable(message) => {
                let problem = Problem::new(path, format!("cannot be read: {message}"));
                let file = self.files.entry(path.to_owned()).or_default();
                file.seen = None;
                let changed = file.problems != [problem.clone()];
                file.problems = vec![problem];
                return changed;
            }
            Content::Text(text) => text,
        };
        let digest: [u8; 32] = Sha256::digest(&text).into();
        if let Some(file) = self.files.get(path)
            && file.problems.is_empty()
            && file.seen == Some(digest)
        {
            return false;
        }
        // A file with problems is read again even when it has not changed: what it refers to may
        // have.
        let against = Context {
            sources: self.sources.as_ref(),
            defaults: &self.defaults,
            cluster: self.cluster,
            author: Author::Operator,
            read_file: &*self.read_file,
        };
        let outcome = definition::read(path, &text, &against);
        let file = self.files.entry(path.to_owned()).or_default();
        let same_text = file.seen == Some(digest);
        file.seen = Some(digest);
        let problems = match outcome {
            Ok(definitions) => file.take(definitions),
            Err(problem) => vec![problem],
        };
        let changed = !same_text || file.problems != problems;
        file.problems = problems;
        changed
    }

    /// The files known.
    pub fn paths(&self) -> BTreeSet<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// All entries that serve, in path order, and everything that is wrong. Of two documents with
    /// one kind, namespace and name the first stays, and where a source has a ceiling, the first
    /// that fit under it.
    pub fn collect(&mut self) -> (Vec<Arc<Entry>>, Vec<Problem>) {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut questions: Vec<Place> = Vec::new();
        let mut problems: Vec<Problem> = Vec::new();
        let mut first: HashMap<&DefinitionId, &Origin> = HashMap::new();
        for file in self.files.values() {
            problems.extend(file.problems.iter().cloned());
            for document in &file.documents {
                let Some(entry) = &document.good else { continue };
                if let Some(origin) = first.get(&entry.id) {
                    let (path, line) = place(&entry.origin);
                    let message = format!(
                        "{} is already defined at {origin}; this one is left out",
                        entry.id
                    );
                    let problem = Problem::new(path, message).at(line, 0);
                    problems
                        .push(problem.with_field("metadata.name").of_kind(ProblemKind::Conflict));
                    continue;
                }
                first.insert(&entry.id, &entry.origin);
                entries.push(Arc::clone(entry));
                questions.push(document.question);
            }
        }
        let verdicts = self.ceiling.admit(Kin::Files, &entries);
        let refusals = verdicts.iter().zip(&entries).zip(&questions);
        problems.extend(refusals.filter_map(|((verdict, entry), place)| {
            let (path, _) = self::place(&entry.origin);
            let problem = Problem::new(path, verdict.refusal.clone()?).at(place.line, place.column);
            Some(problem.with_field("spec.cloudwatch").of_kind(ProblemKind::TooExpensive))
        }));
        (verdicts.into_iter().filter_map(|verdict| verdict.entry).collect(), problems)
    }
}

/// The file and line of an entry that was read from one, as all are here.
fn place(origin: &Origin) -> (PathBuf, usize) {
    match origin {
        Origin::File { path, line } => (path.clone(), *line),
        Origin::Resource { .. } => (PathBuf::new(), 0),
    }
}

/// Lets an entry share what it has in common with the one before: definitions of many metrics say
/// the same about most of them.
pub(in crate::control) fn share(
    entry: &mut Entry,
    before: &mut Option<(Arc<Policy>, Arc<Transform>)>,
) {
    if let Some((policy, transform)) = before {
        if *policy == entry.policy {
            entry.policy = Arc::clone(policy);
        }
        if *transform == entry.transform {
            entry.transform = Arc::clone(transform);
        }
    }
    *before = Some((Arc::clone(&entry.policy), Arc::clone(&entry.transform)));
}

impl File {
    /// Replaces the documents and returns what is wrong with the new ones.
    fn take(&mut self, definitions: Vec<Definition>) -> Vec<Problem> {
        let mut last_good: HashMap<DefinitionId, (Place, Arc<Entry>)> = HashMap::new();
        for document in std::mem::take(&mut self.documents) {
            if let Some(entry) = document.good {
                last_good.entry(entry.id.clone()).or_insert((document.question, entry));
            }
        }
        let present: HashSet<DefinitionId> =
            definitions.iter().filter_map(|definition| definition.id.clone()).collect();
        let mut problems = Vec::new();
        let mut nameless = false;
        let mut like = None;
        for definition in definitions {
            let good = match definition.outcome {
                Ok(mut entry) => {
                    share(&mut entry, &mut like);
                    Some(Arc::new(entry))
                }
                Err(found) => {
                    problems.extend(found);
                    nameless |= definition.id.is_none();
                    definition
                        .id
                        .as_ref()
                        .and_then(|id| last_good.remove(id))
                        .map(|(_, entry)| entry)
                }
            };
            let Definition { id, question, .. } = definition;
            self.documents.push(Document { id, question, good });
        }
        if nameless {
            // One of those that seem to be gone may be the one whose name cannot be read.
            let mut kept: Vec<(Place, Arc<Entry>)> =
                last_good.into_values().filter(|(_, entry)| !present.contains(&entry.id)).collect();
            kept.sort_by(|(_, a), (_, b)| a.origin.cmp(&b.origin));
            self.documents.extend(kept.into_iter().map(|(question, entry)| Document {
                id: Some(entry.id.clone()),
                question,
                good: Some(entry),
            }));
        }
        problems
    }
}

impl std::fmt::Debug for FileSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let documents =
            |file: &File| file.documents.iter().map(|d| d.id.clone()).collect::<Vec<_>>();
        f.debug_map().entries(self.files.iter().map(|(p, file)| (p, documents(file)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> FileSet {
        let read = |_: &Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
        FileSet::new(None, Defaults::default(), true, Box::new(read))
    }

    fn document(name: &str, value: &str) -> String {
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: {name}}}\nspec: {{simulated: {{constant: {value}}}}}\n"
        )
    }

    /// Every entry as `name=query`, then the messages.
    fn state(set: &mut FileSet) -> (Vec<String>, Vec<String>) {
        let (entries, problems) = set.collect();
        let shown = |entry: &Arc<Entry>| {
            let crate::model::QuerySpec::Simulated(query) = &entry.query.resolve("").unwrap().spec
            else {
                panic!()
            };
            format!("{}={query:?}", entry.id.name)
        };
        (entries.iter().map(shown).collect(), problems.iter().map(ToString::to_string).collect())
    }

    fn put(set: &mut FileSet, path: &str, text: &str) -> bool {
        set.update(Path::new(path), Content::Text(text.to_owned()))
    }

    #[test]
    fn a_bad_edit_keeps_the_last_good_version_of_its_document_alone() {
        let mut set = set();
        assert!(put(&mut set, "a", &(document("x", "1") + &document("y", "1"))));
        assert!(!put(&mut set, "a", &(document("x", "1") + &document("y", "1"))));
        assert!(put(&mut set, "a", &(document("x", "bad") + &document("y", "2"))));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["x=Constant(1)", "y=Constant(2)"]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("a:5:30: spec.simulated.constant: \"bad\""),
            "{problems:?}"
        );
        // The second bad edit in a row still keeps it; a good one ends it.
        put(&mut set, "a", &(document("x", "worse") + &document("y", "3")));
        assert_eq!(state(&mut set).0, ["x=Constant(1)", "y=Constant(3)"]);
        put(&mut set, "a", &(document("x", "5") + &document("y", "3")));
        assert_eq!(state(&mut set), (vec!["x=Constant(5)".into(), "y=Constant(3)".into()], vec![]));
    }

    #[test]
    fn a_document_that_was_never_good_serves_nothing() {
        let mut set = set();
        put(&mut set, "a", &(document("x", "bad") + &document("y", "2")));
        let (entries, problems) = state(&mut set);
        assert_eq!((entries, problems.len()), (vec!["y=Constant(2)".to_owned()], 1));
    }

    #[test]
    fn a_file_that_is_no_yaml_or_unreadable_keeps_everything() {
        let mut set = set();
        put(&mut set, "a", &(document("x", "1") + &document("y", "1")));
        put(&mut set, "a", "a: [");
        assert_eq!(state(&mut set).0.len(), 2);
        assert_eq!(state(&mut set).1.len(), 1);
        let unreadable = || Content::Unreadable("no".into());
        assert!(set.update(Path::new("a"), unreadable()));
        assert!(!set.update(Path::new("a"), unreadable()));
        assert_eq!(state(&mut set).0.len(), 2);
        assert_eq!(state(&mut set).1, ["a: cannot be read: no"]);
        put(&mut set, "a", &document("x", "2"));
        assert_eq!(state(&mut set), (vec!["x=Constant(2)".into()], vec![]));
    }

    #[test]
    fn what_is_deleted_goes() {
        let mut set = set();
        put(&mut set, "a", &(document("x", "1") + &document("y", "1")));
        put(&mut set, "b", &document("z", "1"));
        put(&mut set, "a", &document("y", "1"));
        assert_eq!(state(&mut set).0, ["y=Constant(1)", "z=Constant(1)"]);
        assert!(set.update(Path::new("a"), Content::Missing));
        assert!(!set.update(Path::new("a"), Content::Missing));
        assert_eq!(state(&mut set).0, ["z=Constant(1)"]);
    }

    #[test]
    fn a_document_without_a_readable_name_keeps_those_that_seem_gone() {
        let mut set = set();
        put(&mut set, "a", &(document("x", "1") + &document("y", "1")));
        put(&mut set, "a", &(document("x", "2") + "---\nkind: ClusterExternalMetric\n"));
        assert_eq!(state(&mut set).0, ["x=Constant(2)", "y=Constant(1)"]);
    }

    #[test]
    fn the_first_of_two_documents_with_one_name_stays() {
        let mut set = set();
        put(&mut set, "b", &document("x", "2"));
        put(&mut set, "a", &document("x", "1"));
        let (entries, problems) = state(&mut set);
        assert_eq!(entries, ["x=Constant(1)"]);
        assert_eq!(
            problems,
            [
                "b:2: metadata.name: ClusterExternalMetric x is already defined at a:2; this one is left out"
            ]
        );
        set.update(Path::new("a"), Content::Missing);
        assert_eq!(state(&mut set), (vec!["x=Constant(2)".into()], vec![]));
    }
}
