//! The tree of modules that the compiler sees, from a crate root on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Violation;
use crate::source::File;

/// A file and the module it is.
#[derive(Debug)]
pub(crate) struct Module {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    /// Names from the crate root on; empty for the root.
    pub(crate) names: Vec<String>,
    /// Whether the whole file is built for tests alone.
    pub(crate) test: bool,
    pub(crate) text: String,
    pub(crate) file: File,
}

/// Follows every `mod` from a crate root. A file that cannot be read or parsed is a violation.
pub(crate) fn walk(root: &Path, crate_root: &str) -> (Vec<Module>, Vec<Violation>) {
    let (mut modules, mut violations) = (Vec::new(), Vec::new());
    let folder = Path::new(crate_root).parent().unwrap_or(Path::new("")).to_owned();
    let mut open = vec![(PathBuf::from(crate_root), folder, Vec::new(), false)];
    while let Some((path, folder, names, test)) = open.pop() {
        let text = match fs::read_to_string(root.join(&path)) {
            Ok(text) => text,
            Err(error) => {
                violations.push(Violation::new(path, 0, format!("cannot be read: {error}")));
                continue;
            }
        };
        let file = match File::parse(&text) {
            Ok(file) => file,
            Err(what) => {
                violations.push(Violation::new(path, 0, what));
                continue;
            }
        };
        for module in file.modules.iter().filter(|module| !module.inline) {
            let inner = folder.join(module.inside.iter().collect::<PathBuf>());
            // A file named by an attribute is found beside the file, and looks for its own
            // modules beside itself.
            let (file, folder) = match &module.path {
                Some(named) => {
                    let file = plain(&path.parent().unwrap_or(Path::new("")).join(named));
                    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
                    (file, folder)
                }
                None => (inner.join(format!("{}.rs", module.name)), inner.join(&module.name)),
            };
            let names = [&names[..], &module.inside[..], &[module.name.clone()][..]].concat();
            open.push((file, folder, names, test || module.test));
        }
        modules.push(Module { path, names, test, text, file });
    }
    (modules, violations)
}

/// Resolves `..` in a path's text.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}
