//! Every Rust file: its length, its name, and that something builds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Violation;
use crate::modules::{Module, walk};

/// Longest file, test code apart. A file that needs more holds two concepts.
const MAX_LINES: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "helper", "helpers", "common", "manager", "managers", "types", "misc"];

/// Folders that hold Rust files of this crate.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "examples"];

/// Checks the crate's files.
pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest is there");
    let mut violations = Vec::new();
    let mut reached = BTreeSet::new();
    for crate_root in crate_roots(root, &manifest) {
        let (modules, unread) = walk(root, &crate_root);
        violations.extend(unread);
        for module in modules {
            violations.extend(shape(&module));
            reached.insert(module.path);
        }
    }
    for file in rust_files(root) {
        violations.extend(name(&file));
        if !reached.contains(&file) {
            violations.push(Violation::new(file, 0, "no target of Cargo.toml reaches this file"));
        }
    }
    violations
}

/// The library, the binaries and the `path` of every target in the manifest. Tests and benches
/// are not found by themselves (`autotests = false`), so one that is not listed is not reached.
fn crate_roots(root: &Path, manifest: &str) -> Vec<String> {
    let mut roots: Vec<String> = ["src/lib.rs", "src/main.rs", "build.rs"]
        .into_iter()
        .filter(|path| root.join(path).exists())
        .map(str::to_owned)
        .collect();
    let mut target: Option<(String, Option<String>, Option<String>)> = None;
    let mut finish = |target: Option<(String, Option<String>, Option<String>)>| {
        if let Some((kind, name, path)) = target {
            let folder = if kind == "bench" { "benches" } else { "tests" };
            roots.extend(path.or_else(|| name.map(|name| format!("{folder}/{name}.rs"))));
        }
    };
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            finish(target.take());
            let kind = line.trim_start_matches("[[").trim_end_matches("]]");
            target = (line.starts_with("[[") && ["test", "bench", "bin"].contains(&kind))
                .then(|| (kind.to_owned(), None, None));
        } else if let (Some((_, name, path)), Some((key, value))) =
            (target.as_mut(), line.split_once('='))
        {
            let value = value.trim().trim_matches('"').to_owned();
            match key.trim() {
                "name" => *name = Some(value),
                "path" => *path = Some(value),
                _ => {}
            }
        }
    }
    finish(target);
    roots
}

fn shape(module: &Module) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = module.file.own_lines(&module.text);
    // Files that are for tests alone may be long lists of cases.
    if lines > MAX_LINES && !module.test && module.path.starts_with("src") {
        let what = format!("{lines} lines apart from tests; at most {MAX_LINES}");
        violations.push(Violation::new(&module.path, 0, what));
    }
    for declared in &module.file.modules {
        if EMPTY_NAMES.contains(&declared.name.as_str()) {
            let what = format!("module name {:?} says nothing", declared.name);
            violations.push(Violation::new(&module.path, declared.line, what));
        }
        // Unit tests may share a file of `tests/support` that way.
        if declared.path.is_some() && !declared.test && module.path.starts_with("src") {
            let what = "#[path] hides where a module lives";
            violations.push(Violation::new(&module.path, declared.line, what));
        }
    }
    violations
}

fn name(file: &Path) -> Option<Violation> {
    (file.file_name()? == "mod.rs")
        .then(|| Violation::new(file, 0, "write foo.rs beside foo/, not foo/mod.rs"))
}

/// Rust files below the crate's folders, relative to the repository.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut found = check(dir.path());
        found.sort();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_whole_tree_is_fine() {
        let long_tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(600));
        let found = complaints(&[
            (
                "Cargo.toml",
                "[[test]]\nname = \"it\"\npath = \"tests/it/main.rs\"\n[[bench]]\nname = \"b\"\n",
            ),
            ("src/lib.rs", "pub mod a;\n"),
            ("src/main.rs", "fn main() {}\n"),
            ("src/a.rs", "mod b;\nmod inner { mod c; }\n#[cfg(test)]\nmod tests;\n"),
            ("src/a/b.rs", &long_tests),
            ("src/a/inner/c.rs", ""),
            ("src/a/tests.rs", &"fn f() {}\n".repeat(600)),
            ("tests/it/main.rs", "#[path = \"../support/lib.rs\"]\nmod support;\n"),
            ("tests/support/lib.rs", "mod d;\n"),
            ("tests/support/d.rs", ""),
            ("benches/b.rs", ""),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn each_rule_can_be_broken() {
        let found = complaints(&[
            ("Cargo.toml", "[[test]]\nname = \"it\"\npath = \"tests/it/main.rs\"\n"),
            ("src/lib.rs", "mod utils;\nmod long;\n#[path = \"y.rs\"]\nmod x;\nmod gone;\n"),
            ("src/utils.rs", ""),
            ("src/long.rs", &"fn f() {}\n".repeat(501)),
            ("src/y.rs", "fn ("),
            ("src/lost.rs", ""),
            ("src/old/mod.rs", ""),
            ("tests/it/main.rs", ""),
            ("tests/it/forgotten.rs", ""),
            ("benches/unlisted.rs", ""),
        ]);
        let starts = [
            "benches/unlisted.rs:0: no target",
            "src/gone.rs:0: cannot be read",
            "src/lib.rs:1: module name \"utils\" says nothing",
            "src/lib.rs:4: #[path] hides",
            "src/long.rs:0: 501 lines apart from tests; at most 500",
            "src/lost.rs:0: no target",
            "src/old/mod.rs:0: no target",
            "src/old/mod.rs:0: write foo.rs",
            "src/y.rs:0: no target",
            "src/y.rs:0: not Rust",
            "tests/it/forgotten.rs:0: no target",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (line, start) in found.iter().zip(starts) {
            assert!(line.starts_with(start), "{line} does not start with {start}");
        }
    }
}
