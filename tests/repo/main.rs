//! What the repository promises about its own shape: who may import whom, where foreign types
//! live, how long a file may be, that every file is part of the build, and what no text contains.
//!
//! Reads source text, not the compiled crate, so that it can look at every file. Each rule has a
//! test that feeds it a text that breaks it.

mod chart;
mod files;
mod grants;
mod iam;
mod layers;
mod modules;
mod source;
mod table;
mod texts;

use std::path::{Path, PathBuf};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Relative to the repository.
    path: PathBuf,
    /// 1-based, 0 when the whole file is meant.
    line: usize,
    what: String,
}

impl Violation {
    fn new(path: impl Into<PathBuf>, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with every violation at once.
fn assert_none(mut violations: Vec<Violation>) {
    violations.sort();
    violations.dedup();
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

#[test]
fn repo_layering() {
    assert_none(layers::check_crate(root()));
}

#[test]
fn repo_files() {
    assert_none(files::check(root()));
}

#[test]
fn repo_architecture_states_the_tables() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let stated = table::read_layers(&page);
    let enforced: Vec<_> = table::LAYERS.iter().map(table::Layer::stated).collect();
    assert_eq!(stated, enforced, "ARCHITECTURE.md states another layer table than the test");
    let stated = table::read_homes(&page);
    let enforced: Vec<_> = table::HOMES.iter().map(table::Home::stated).collect();
    assert_eq!(stated, enforced, "ARCHITECTURE.md states other homes of foreign types");
}

#[test]
fn repo_texts() {
    assert_none(texts::check(root()));
}

#[test]
fn repo_policies() {
    assert_none(iam::check(root()));
}

#[test]
fn repo_chart() {
    assert_none(chart::check(root()));
}

#[test]
fn repo_grants() {
    assert_none(grants::check(root()));
}
