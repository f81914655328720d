//! Which definition files exist, and which folders tell of changes to them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::model::Problem;

/// Extensions of definition files in a folder. A file named in the config may have any.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Deepest folder below one that the config names.
const MAX_DEPTH: usize = 8;

/// Most files. More is a wrong folder (`/`), not a set of definitions.
const MAX_FILES: usize = 10_000;

/// What a walk found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Definition files.
    pub files: BTreeSet<PathBuf>,
    /// Folders whose events mean that something may have changed.
    pub folders: BTreeSet<PathBuf>,
    /// Folders that exist and cannot be listed: what was in them is not known to be gone.
    pub unlisted: Vec<PathBuf>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Where the listed folders really are: each is listed once, so links cannot make a cycle.
    listed: BTreeSet<PathBuf>,
}

/// Walks the files and folders of the config, in any order; the result is sorted.
///
/// Hidden files are left out, kubelet's `..data` and timestamped folders among them; the links that
/// kubelet puts beside these are followed.
#[must_use]
pub fn scan(roots: &[PathBuf]) -> Scan {
    let mut found = Scan::default();
    for root in roots {
        match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => found.folder(root, 0),
            Ok(_) => found.file(root),
            Err(error) => {
                let message = match error.kind() {
                    ErrorKind::NotFound => "there is no such file or folder".to_owned(),
                    _ => format!("cannot be read: {error}"),
                };
                if error.kind() != ErrorKind::NotFound {
                    found.unlisted.push(root.clone());
                }
                found.problem(root, message);
                // So that its appearance is noticed.
                if let Some(folder) = root.ancestors().skip(1).find(|folder| exists(folder)) {
                    found.folders.insert(or_current(folder));
                }
            }
        }
    }
    found
}

impl Scan {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if folder.canonicalize().is_ok_and(|target| !self.listed.insert(target)) {
            return;
        }
        self.folders.insert(folder.to_owned());
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.unlisted.push(folder.to_owned());
                    self.problem(folder, format!("cannot be listed: {error}"));
                }
                return;
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // The order of the file system is no order.
        paths.sort();
        for path in paths {
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            // Follows links; a dangling one is no file.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                if depth < MAX_DEPTH {
                    self.folder(&path, depth + 1);
                }
            } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if self.files.len() >= MAX_FILES && !self.files.contains(path) {
            let message = format!("more than {MAX_FILES} definition files; the rest is left out");
            if !self.problems.iter().any(|problem| problem.message == message) {
                self.problem(path, message);
            }
            return;
        }
        self.files.insert(path.to_owned());
        if let Some(folder) = path.parent() {
            self.folders.insert(or_current(folder));
        }
        // A link's target changes in its own folder.
        if let Ok(target) = path.canonicalize()
            && let Some(folder) = target.parent()
            && path.parent().and_then(|own| or_current(own).canonicalize().ok()).as_deref()
                != Some(folder)
        {
            self.folders.insert(folder.to_owned());
        }
    }

    fn problem(&mut self, path: &Path, message: String) {
        self.problems.push(Problem::new(path, message));
    }
}

fn exists(folder: &Path) -> bool {
    or_current(folder).is_dir()
}

/// The parent of `a.yaml` is the empty path, which no system call takes.
fn or_current(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_definition_files_and_leaves_hidden_ones() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["b.yaml", "a.yml", "c.json", "d.txt", ".e.yaml"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        std::fs::create_dir_all(root.join("sub/..2024")).unwrap();
        std::fs::write(root.join("sub/..2024/f.yaml"), "").unwrap();
        std::os::unix::fs::symlink("..2024/f.yaml", root.join("sub/f.yaml")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("g.yaml")).unwrap();
        std::os::unix::fs::symlink("..", root.join("sub/loop")).unwrap();
        let found = scan(&[root.to_owned(), root.join("d.txt"), root.join("none")]);
        let plain: Vec<&str> =
            found.files.iter().filter_map(|p| p.strip_prefix(root).ok()?.to_str()).collect();
        assert_eq!(plain, ["a.yml", "b.yaml", "c.json", "d.txt", "sub/f.yaml"]);
        assert!(found.folders.contains(&root.join("sub")));
        assert_eq!(found.problems.len(), 1);
        assert_eq!(found.problems[0].message, "there is no such file or folder");
    }
}
