//! Values while a template is executed.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Value;

/// A value. Strings are bytes, as Go's are: `slice` may cut a character.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    /// Go's zero `reflect.Value`, and `nil`.
    NoValue,
    /// The struct that the template is executed on.
    Root,
    Bool(bool),
    Int(i64),
    /// What `index` finds in a string.
    Byte(u8),
    Float(f64),
    Text(Text<'a>),
    List(&'a [String]),
    Map(&'a BTreeMap<String, String>),
}

/// A string, cheap to copy.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Of(&'a [u8]),
    Made(Rc<[u8]>),
}

impl std::ops::Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Of(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

impl<'a> Datum<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Self::text(text),
            Value::Slice(list) => Self::List(list),
            Value::Map(map) => Self::Map(map),
            Value::Int(int) => Self::Int(*int),
            Value::Float(float) => Self::Float(*float),
            Value::Bool(bool) => Self::Bool(*bool),
            Value::Nil => Self::NoValue,
        }
    }

    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Text::Of(text.as_bytes()))
    }

    pub(super) fn made(bytes: Vec<u8>) -> Self {
        Self::Text(Text::Made(bytes.into()))
    }

    /// Go's name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::NoValue => "<nil>",
            Self::Root => "struct",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Byte(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]string",
            Self::Map(_) => "map[string]string",
        }
    }

    /// Whether `if` takes its first branch.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::NoValue => false,
            Self::Root => true,
            Self::Bool(bool) => *bool,
            Self::Int(int) => *int != 0,
            Self::Byte(byte) => *byte != 0,
            // A NaN is not zero.
            Self::Float(float) => *float != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }
}
