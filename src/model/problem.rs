//! What is wrong with something a person wrote, and where.

use std::fmt;
use std::path::PathBuf;

/// What a person has to look at: who wrote it, what the operator has set, or what else there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// What is written: it has to be changed.
    #[default]
    Invalid,
    /// There is no source that it could be answered by.
    SourceNotFound,
    /// The operator does not allow this source, region or role here.
    NotAllowed,
    /// It would cost more than the operator allows its source.
    TooExpensive,
    /// It is more, or more often, than the operator allows.
    LimitExceeded,
    /// Something else goes before it.
    Conflict,
}

impl ProblemKind {
    /// The kind as the reason of a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::SourceNotFound => "SourceNotFound",
            Self::NotAllowed => "NotAllowed",
            Self::TooExpensive => "TooExpensive",
            Self::LimitExceeded => "LimitExceeded",
            Self::Conflict => "Conflict",
        }
    }

    /// The kind of several problems at once: theirs, if they agree. Otherwise what is written, if any
    /// of it is wrong, has to be changed before anything else matters; and else the first counts.
    #[must_use]
    pub fn of_all(problems: &[Problem]) -> Self {
        let kinds = || problems.iter().map(|problem| problem.kind);
        if kinds().any(|kind| kind == Self::Invalid) {
            return Self::Invalid;
        }
        kinds().next().unwrap_or_default()
    }
}

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
    /// What a person has to look at.
    pub kind: ProblemKind,
}

impl Problem {
    /// One with a whole file or resource, and with what is written there.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
            kind: ProblemKind::Invalid,
        }
    }

    /// The same at a line and a column, each counted from 1 and 0 when unknown.
    #[must_use]
    pub fn at(self, line: usize, column: usize) -> Self {
        Self { line, column, ..self }
    }

    /// The same with a field.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// The same of another kind.
    #[must_use]
    pub fn of_kind(self, kind: ProblemKind) -> Self {
        Self { kind, ..self }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_kinds_what_is_written_comes_first() {
        use ProblemKind::{Invalid, LimitExceeded, NotAllowed};
        let of = |kinds: &[ProblemKind]| {
            let problems: Vec<Problem> =
                kinds.iter().map(|kind| Problem::new("x", "y").of_kind(*kind)).collect();
            ProblemKind::of_all(&problems)
        };
        assert_eq!(of(&[NotAllowed, NotAllowed]), NotAllowed);
        assert_eq!(of(&[NotAllowed, LimitExceeded]), NotAllowed);
        assert_eq!(of(&[LimitExceeded, Invalid]), Invalid);
        assert_eq!(of(&[]), Invalid);
    }
}
