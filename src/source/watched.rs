//! Files that a source's settings name: secrets and certificates that somebody else rotates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Clock, SourceName, Tick};

/// How often a file is looked at, at most. A kubelet takes up to a minute to project a changed
/// secret, so a second adds nothing; and a small read once a second costs nothing.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Largest file taken: a CA bundle of a whole system is about 250 KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A small file, re-read when it changes. A file that becomes unreadable or nonsense keeps its
/// last good content, and the log says so once.
///
/// The content itself is compared, not the modification time: what projected volumes and
/// coarse file systems do to times does not matter then.
pub(super) struct WatchedFile {
    source: SourceName,
    field: &'static str,
    path: PathBuf,
    check: fn(&[u8]) -> Result<(), String>,
    state: Mutex<State>,
}

struct State {
    content: Arc<[u8]>,
    checked: Tick,
    complaint: Option<String>,
}

impl WatchedFile {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// Why it cannot be used, without its content.
    pub(super) fn open(
        source: &SourceName,
        field: &'static str,
        path: &Path,
        check: fn(&[u8]) -> Result<(), String>,
        now: Tick,
    ) -> Result<Self, String> {
        let content = read(path, check)?;
        let state = Mutex::new(State { content, checked: now, complaint: None });
        Ok(Self { source: source.clone(), field, path: path.to_owned(), check, state })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The content, looked up again when the last look is more than a second old.
    pub(super) fn content(&self, clock: &dyn Clock) -> Arc<[u8]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.tick();
        if now.since(state.checked) < CHECK_EVERY {
            return Arc::clone(&state.content);
        }
        state.checked = now;
        // A blocking read of a small local file: shorter than handing it to another thread.
        let (source, field, path) = (self.source.as_str(), self.field, self.path.display());
        match read(&self.path, self.check) {
            Ok(content) => {
                if state.complaint.take().is_some() || content != state.content {
                    tracing::info!(source, field, %path, "file re-read");
                    state.content = content;
                }
            }
            Err(complaint) => {
                if state.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(
                        source, field, %path, error = complaint,
                        "file cannot be used; its last good content stays in use"
                    );
                    state.complaint = Some(complaint);
                }
            }
        }
        Arc::clone(&state.content)
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedFile").field(&self.path).finish()
    }
}

fn read(path: &Path, check: fn(&[u8]) -> Result<(), String>) -> Result<Arc<[u8]>, String> {
    let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    let content = std::fs::read(path).map_err(|e| e.to_string())?;
    check(&content)?;
    Ok(content.into())
}

/// A secret is text that fits into a header; white space around it is not part of it.
pub(super) fn check_secret(content: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(content).map_err(|_| "not UTF-8 text".to_owned())?.trim();
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters or more than one line".to_owned());
    }
    Ok(())
}

/// The text of a file that passed [`check_secret`].
pub(super) fn secret_text(content: &[u8]) -> &str {
    std::str::from_utf8(content).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;

    #[test]
    fn a_changed_file_is_seen_within_a_second_and_a_broken_one_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let clock = ManualClock::default();
        let name = SourceName::new("main");
        std::fs::write(&path, "one\n").unwrap();
        let file =
            WatchedFile::open(&name, "bearerTokenFile", &path, check_secret, clock.tick()).unwrap();
        assert_eq!(secret_text(&file.content(&clock)), "one");

        std::fs::write(&path, "two").unwrap();
        assert_eq!(secret_text(&file.content(&clock)), "one");
        clock.advance(Duration::from_secs(1));
        assert_eq!(secret_text(&file.content(&clock)), "two");

        for broken in ["", " \n", "two\nlines"] {
            std::fs::write(&path, broken).unwrap();
            clock.advance(Duration::from_secs(1));
            assert_eq!(secret_text(&file.content(&clock)), "two");
        }
        std::fs::remove_file(&path).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(secret_text(&file.content(&clock)), "two");
        std::fs::write(&path, "three").unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(secret_text(&file.content(&clock)), "three");
        assert!(!format!("{file:?}").contains("three"));
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| {
            WatchedFile::open(&SourceName::new("m"), "f", path, check_secret, Tick(0)).unwrap_err()
        };
        assert_eq!(open(dir.path()), "not a regular file");
        assert!(open(&dir.path().join("none")).starts_with("No such file"));
        let big = dir.path().join("big");
        std::fs::write(&big, vec![b'x'; 2 * 1024 * 1024]).unwrap();
        assert_eq!(open(&big), "larger than 1048576 bytes");
    }
}
