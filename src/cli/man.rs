//! `tidepole man`: manual pages, made of what the command line knows of itself.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Command;

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub enum ManError {
    /// The folder cannot be written: name another.
    #[error("cannot write the manual pages to {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output is gone for another reason than that the reader has read enough.
    #[error("cannot write the manual page: {0}")]
    Output(std::io::Error),
}

/// Writes a page for the program and one for each subcommand into a folder, otherwise the program's own
/// to standard output.
///
/// # Errors
/// When they cannot be written.
pub fn run(command: Command, folder: Option<&Path>) -> Result<(), ManError> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(ManError::Output)?;
        return match std::io::stdout().write_all(&page) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(ManError::Output),
        };
    };
    let fail = |source| ManError::Folder { folder: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(fail)?;
    clap_mangen::generate_to(command, folder).map_err(fail)
}
