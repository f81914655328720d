//! What a template is once it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions::Function;

/// A template and those that it defines.
#[derive(Debug)]
pub(super) struct Tree {
    /// The text, for the lines of errors.
    pub(super) text: Arc<str>,
    pub(super) root: Vec<Node>,
    /// `define` and `block`, by name.
    pub(super) defined: BTreeMap<Vec<u8>, Vec<Node>>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>),
    Action(Pipe),
    Break,
    Continue,
    /// `if`, or `with` when `sets_dot`, and its `else if`s or `else with`s.
    Choice {
        sets_dot: bool,
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        at: usize,
        name: Vec<u8>,
        pipe: Option<Pipe>,
    },
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    /// `=`, not `:=`.
    pub(super) assigns: bool,
    /// The variables that get the value, with their `$`.
    pub(super) variables: Vec<Box<str>>,
    pub(super) commands: Vec<Command>,
}

/// A word and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) word: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Bool(bool),
    Int(i64),
    /// An integer above what Go's `int` holds. Go finds that out when it executes.
    IntOverflow(Box<str>),
    Float(f64),
    Text(Vec<u8>),
    Nil,
    Dot,
    /// `.a.b`
    Field(Vec<Box<str>>),
    /// `$a.b`
    Variable(Box<str>, Vec<Box<str>>),
    Function(Function),
    Pipe(Box<Pipe>),
    /// `(pipeline).a.b`
    Chain(Box<Operand>, Vec<Box<str>>),
}
