//! Collects everything that is wrong with one document.
//!
//! Invariants: at most one problem per field, and none about a field inside which another problem
//! was found first, so that one slip of the pen is one line of output.

use std::path::Path;

use crate::definition::field::Field;
use crate::definition::yaml::{Document, Mistake, Node, Place, Value};
use crate::model::Problem;

/// Most problems reported about one document; more help nobody.
const MAX_PROBLEMS: usize = 100;

/// The problems of one document.
#[derive(Debug)]
pub struct Report<'a> {
    path: &'a Path,
    root: &'a Node,
    found: Vec<Mistake>,
}

impl<'a> Report<'a> {
    /// An empty report on a document of the file `path`; it starts with what is wrong with the
    /// document's form.
    #[must_use]
    pub fn new(path: &'a Path, document: &'a Document) -> Self {
        Self { path, root: &document.root, found: document.mistakes.clone() }
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
        let place = self.place_of(field);
        self.add_at(place, field.clone(), message.into());
    }

    /// Adds a problem with a key rather than with its value.
    pub fn add_key(&mut self, parent: &Field, key: &str, message: impl Into<String>) {
        let place = match self.root.find(parent).map(|node| &node.value) {
            Some(Value::Map(pairs)) => {
                pairs.iter().find(|(k, _)| k.text == key).map(|(k, _)| k.place)
            }
            _ => None,
        };
        let place = place.unwrap_or_else(|| self.place_of(parent));
        self.add_at(place, parent.key(key), message.into());
    }

    /// Whether something is already known to be wrong with the field, or inside it.
    #[must_use]
    pub fn has_problem(&self, field: &Field) -> bool {
        self.found.iter().any(|known| known.field.is_within(field))
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
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
        self.found.sort_by(|a, b| (a.place, &a.field).cmp(&(b.place, &b.field)));
        let path = self.path;
        self.found
            .into_iter()
            .map(|mistake| Problem {
                path: path.to_owned(),
                line: mistake.place.line,
                column: mistake.place.column,
                field: mistake.field.to_string(),
                message: mistake.message,
            })
            .collect()
    }

    fn add_at(&mut self, place: Place, field: Field, message: String) {
        if self.found.len() < MAX_PROBLEMS && !self.has_problem(&field) {
            self.found.push(Mistake { place, field, message });
        }
    }

    fn place_of(&self, field: &Field) -> Place {
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
