//! What is wrong with something a person wrote, and where.

use std::fmt;
use std::path::PathBuf;

/// One mistake in a config file or a definition, with its place. A resource has no lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, or the resource as [`crate::model::DefinitionId::resource_path`] writes it.
    pub path: PathBuf,
    /// 1-based line, 0 when the whole file is meant.
    pub line: usize,
    /// 1-based column, 0 when unknown.
    pub column: usize,
    /// The field as a path into the document, for example `spec.sqs.queues[1]`; may be empty.
    pub field: String,
    /// What is wrong and what would be right, in one line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        if self.field.is_empty() {
            write!(f, ": {}", self.message)
        } else {
            write!(f, ": {}: {}", self.field, self.message)
        }
    }
}
