//! The part of Go's `text/template` that rule files use, with `<<` and `>>`.
//!
//! All of the language but complex numbers and hexadecimal floats, with Go's functions and no
//! others. What Go leaves open is bounded: output, work, nesting and recursion.

use std::collections::BTreeMap;
use std::sync::Arc;

mod compare;
mod datum;
mod execute;
mod float;
mod format;
mod functions;
mod lexer;
mod literal;
mod parser;
mod pipeline;
mod print;
mod quote;
mod tree;
mod verbs;

/// What a template is executed on.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// A slice of strings.
    Slice(Vec<String>),
    /// A map from strings to strings, iterated and printed in key order.
    Map(BTreeMap<String, String>),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// No value (`nil`).
    Nil,
}

/// The fields of the value that a template is executed on: an exported struct's, so that an unknown
/// field is an error of execution, as in Go.
pub type Fields = BTreeMap<&'static str, Value>;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template(Arc<tree::Tree>);

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// 1-based line in the text.
    pub line: usize,
    /// 1-based column in that line, in characters; 0 when unknown.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Why a template cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ExecuteError {
    /// 1-based line in the text.
    pub line: usize,
    /// 1-based column in that line, in characters; 0 when unknown.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When Go would refuse it as well, or when it uses what is not supported here; the message
    /// says which.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text).map(|tree| Self(Arc::new(tree)))
    }

    /// Executes it.
    ///
    /// # Errors
    /// As Go: an unknown field, a wrong argument of a function. Output is bounded (1 MiB), and so
    /// are the work and the recursion behind it; output that is not UTF-8 is refused.
    pub fn execute(&self, fields: &Fields) -> Result<String, ExecuteError> {
        execute::execute(&self.0, fields)
    }
}

/// Line and column of a byte of a text, 1-based.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, 1 + before[start..].chars().count())
}

#[cfg(test)]
mod tests;
