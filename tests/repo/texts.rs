//! What no text of the repository contains: paths of one machine, hosts of package registries,
//! files that lie outside of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Violation;

/// Longest file that is read; longer ones are recordings, not texts.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Folders that are never part of the repository, for a walk without git.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// A forbidden text. Patterns are written in two halves, so that this file does not contain them.
struct Rule {
    halves: (&'static str, &'static str),
    /// Only where no letter, digit, `.`, `-`, `_` or `/` is before it: an absolute path, not the
    /// end of a longer one or of a URL.
    at_start: bool,
    /// What may follow.
    except: &'static [&'static str],
    why: &'static str,
}

const MACHINE: &str = "a path of one machine";
const REGISTRY: &str = "a registry's host; leave it to the tool's own settings";

const RULES: &[Rule] = &[
    Rule { halves: ("/wo", "rk/"), at_start: true, except: &[], why: MACHINE },
    Rule { halves: ("/ho", "me/"), at_start: true, except: &["nonroot"], why: MACHINE },
    Rule { halves: ("/ro", "ot/"), at_start: true, except: &[], why: MACHINE },
    Rule { halves: ("/Use", "rs/"), at_start: true, except: &[], why: MACHINE },
    Rule { halves: ("/tmp/w", "t/"), at_start: true, except: &[], why: MACHINE },
    Rule { halves: ("C:\\Use", "rs\\"), at_start: false, except: &[], why: MACHINE },
    Rule {
        halves: ("../sha", "red"),
        at_start: false,
        except: &[],
        why: "outside of the repository",
    },
    Rule { halves: ("index.crates", ".io"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("static.crates", ".io"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("proxy.golang", ".org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("sum.golang", ".org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("py", "pi.org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("pythonho", "sted.org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("registry.np", "mjs.org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("maven", ".org"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("maven.apache", ".org/maven2"), at_start: false, except: &[], why: REGISTRY },
    Rule { halves: ("deb.debian", ".org"), at_start: false, except: &[], why: REGISTRY },
];

/// Checks every tracked text.
pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let files = tracked(root).unwrap_or_else(|| walked(root));
    files.iter().flat_map(|file| check_file(root, file)).collect()
}

fn check_file(root: &Path, file: &Path) -> Vec<Violation> {
    let full = root.join(file);
    // A tracked file may be deleted in the working tree, and a link points to another one.
    let is_text = fs::symlink_metadata(&full).is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
    match fs::read_to_string(&full) {
        Ok(text) if is_text => check_text(file, &text),
        _ => Vec::new(),
    }
}

fn check_text(file: &Path, text: &str) -> Vec<Violation> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(at, line)| {
            let broken = RULES.iter().filter(move |rule| rule.is_broken_by(line));
            broken.map(move |rule| {
                let (a, b) = rule.halves;
                Violation::new(file, at + 1, format!("contains {a}{b}: {}", rule.why))
            })
        })
        .collect()
}

impl Rule {
    fn is_broken_by(&self, line: &str) -> bool {
        let pattern = format!("{}{}", self.halves.0, self.halves.1);
        line.match_indices(&pattern).any(|(at, _)| {
            let inside = |c: char| c.is_alphanumeric() || "._-/~}*>".contains(c);
            let continues = line[..at].chars().next_back().is_some_and(inside);
            let rest = &line[at + pattern.len()..];
            let excused = self.except.iter().any(|word| rest.starts_with(word));
            !(excused || (self.at_start && continues))
        })
    }
}

/// What git tracks; `None` outside of a checkout.
fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let names = String::from_utf8(output.stdout).ok()?;
    let files: Vec<PathBuf> =
        names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    (output.status.success() && !files.is_empty()).then_some(files)
}

fn walked(root: &Path) -> Vec<PathBuf> {
    let (mut open, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => open.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let path = entry.path();
                    files.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
                }
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> usize {
        check_text(Path::new("x"), text).len()
    }

    #[test]
    fn every_rule_can_be_broken() {
        for rule in RULES {
            let (a, b) = rule.halves;
            assert_eq!(broken(&format!("see \"{a}{b}x\"")), 1, "{a}{b}");
        }
        let line = format!("a\nb = \"{}{}me/x\"\n", "/ho", "me/");
        let found = check_text(Path::new("y.toml"), &line);
        assert_eq!(
            found[0].to_string(),
            format!("y.toml:2: contains {}{}: {MACHINE}", "/ho", "me/")
        );
    }

    #[test]
    fn longer_paths_and_urls_are_fine() {
        let home = format!("{}{}", "/ho", "me/");
        for text in
            [format!("https://x.example{home}a"), format!("a{home}b"), format!("{home}nonroot/x")]
        {
            assert_eq!(broken(&text), 0, "{text}");
        }
    }

    #[test]
    fn a_folder_without_git_is_walked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::create_dir_all(dir.path().join("docs")).unwrap();
        let wrong = format!("{}{}x", "../sha", "red");
        fs::write(dir.path().join("target/a"), &wrong).unwrap();
        fs::write(dir.path().join("docs/b.md"), &wrong).unwrap();
        let found = check(dir.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, Path::new("docs/b.md"));
    }
}
