//! Collects everything that is wrong with one document.
//!
//! Invariants: at most one problem per field, and none about a field inside which another problem
//! was found first, so that one slip of the pen is one line of output.

use std::path::Path;

use crate::definition::field::Field;
use crate::definition::yaml::{Document, Mistake, Node, Place, Value};
use crate::model::{Problem, ProblemKind};

/// Most problems reported about one document; more help nobody.
pub const MAX_PROBLEMS: usize = 100;

/// A mistake with the file, or the resource, that it is in.
pub(super) fn problem(path: &Path, mistake: Mistake) -> Problem {
    let Mistake { place, field, message } = mistake;
    Problem::new(path, message).at(place.line, place.column).with_field(field.to_string())
}

/// The problems of one document.
#[derive(Debug)]
pub struct Report<'a> {
    path: &'a Path,
    root: &'a Node,
    found: Vec<(Mistake, ProblemKind)>,
    elsewhere: Vec<Problem>,
}

impl<'a> Report<'a> {
    /// An empty report on a document of the file `path`; it starts with what is wrong with the
    /// document's form.
    #[must_use]
    pub fn new(path: &'a Path, document: &'a Document) -> Self {
        let found = document.mistakes.iter().map(|mistake| (mistake.clone(), ProblemKind::Invalid));
        Self { path, root: &document.root, found: found.collect(), elsewhere: Vec::new() }
    }

    /// The document.
    #[must_use]
    pub fn root(&self) -> &'a Node {
        self.root
    }

    /// The file that the document is in.
    #[must_use]
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Adds a problem with the value of a field, or with its absence: the place is the value's,
    /// or that of the nearest part of the document around it.
    pub fn add(&mut self, field: &Field, message: impl Into<String>) {
        self.add_of(ProblemKind::Invalid, field, message);
    }

    /// The same of a kind.
    pub fn add_of(&mut self, kind: ProblemKind, field: &Field, message: impl Into<String>) {
        if self.is_full() {
            return;
        }
        let (place, field, message) = (self.place_of(field), field.clone(), message.into());
        self.add_mistake(kind, Mistake { place, field, message });
    }

    /// Adds a problem with a key rather than with its value.
    pub fn add_key(&mut self, parent: &Field, key: &str, message: impl Into<String>) {
        self.add_key_of(ProblemKind::Invalid, parent, key, message);
    }

    /// The same of a kind.
    pub fn add_key_of(
        &mut self,
        kind: ProblemKind,
        parent: &Field,
        key: &str,
        message: impl Into<String>,
    ) {
        if self.is_full() {
            return;
        }
        let place = match self.root.find(parent).map(|node| &node.value) {
            Some(Value::Map(pairs)) => {
                pairs.iter().find(|(k, _)| k.text == key).map(|(k, _)| k.place)
            }
            _ => None,
        };
        let place = place.unwrap_or_else(|| self.place_of(parent));
        self.add_mistake(kind, Mistake { place, field: parent.key(key), message: message.into() });
    }

    /// Whether something is already known to be wrong with the field, or inside it.
    #[must_use]
    pub fn has_problem(&self, field: &Field) -> bool {
        self.found.iter().any(|(known, _)| known.field.is_within(field))
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.is_empty() && self.elsewhere.is_empty()
    }

    /// Adds a problem in another file that the document refers to.
    pub fn add_elsewhere(&mut self, problem: Problem) {
        if self.elsewhere.len() < MAX_PROBLEMS {
            self.elsewhere.push(problem);
        }
    }

    /// Passes on a value that must be there. Its absence is no news when the value, or what is
    /// around it, was already refused.
    pub fn require<T>(&mut self, field: &Field, value: Option<T>) -> Option<T> {
        let known =
            self.found.iter().any(|(m, _)| m.field.is_within(field) || field.is_within(&m.field));
        if value.is_none() && !known {
            self.add(field, "this field is missing");
        }
        value
    }

    /// Which one of several fields is there; none or more than one is a problem.
    pub fn exactly_one(&mut self, parent: &Field, keys: &[&'static str]) -> Option<&'static str> {
        let set: Vec<&'static str> =
            keys.iter().copied().filter(|key| self.is_set(&parent.key(key))).collect();
        match set[..] {
            [key] => return Some(key),
            [] => self.add(parent, format!("exactly one of {} is needed", keys.join(", "))),
            [_, second, ..] => {
                let message = format!(
                    "exactly one of {} is allowed, here are {}",
                    keys.join(", "),
                    set.join(" and ")
                );
                self.add_key(parent, second, message);
            }
        }
        None
    }

    /// Whether the document has something at the field (null counts as nothing).
    #[must_use]
    pub fn is_set(&self, field: &Field) -> bool {
        self.root.find(field).is_some_and(|node| !node.is_null())
    }

    /// Passes a checked value on, or notes why it is wrong.
    pub fn check<T, E: std::fmt::Display>(
        &mut self,
        field: &Field,
        checked: Result<T, E>,
    ) -> Option<T> {
        checked.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// The problems in the order of their places.
    #[must_use]
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.found.sort_by(|(a, _), (b, _)| (a.place, &a.field).cmp(&(b.place, &b.field)));
        let path = self.path;
        self.found
            .into_iter()
            .map(|(mistake, kind)| problem(path, mistake).of_kind(kind))
            .chain(self.elsewhere)
            .collect()
    }

    /// Whether nothing more is reported. Asked first: looking up places takes time, and a document
    /// can have very many mistakes.
    fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    fn add_mistake(&mut self, kind: ProblemKind, mistake: Mistake) {
        if !self.is_full() && !self.has_problem(&mistake.field) {
            self.found.push((mistake, kind));
        }
    }

    /// The place of a field's value, or of the nearest part of the document around it.
    #[must_use]
    pub fn place_of(&self, field: &Field) -> Place {
        let mut node = self.root;
        for step in field.steps() {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.place
    }
}
