//! Go's built-in functions, as `text/template`'s `funcs.go` has them.

use super::compare;
use super::datum::{Datum, Text};
use super::print::{self, Bounded};
use super::{quote, verbs};

/// A function of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Call,
    Eq,
    Ge,
    Gt,
    Html,
    Index,
    Js,
    Le,
    Len,
    Lt,
    Ne,
    Not,
    Or,
    Print,
    Printf,
    Println,
    Slice,
    UrlQuery,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "call" => Self::Call,
            "eq" => Self::Eq,
            "ge" => Self::Ge,
            "gt" => Self::Gt,
            "html" => Self::Html,
            "index" => Self::Index,
            "js" => Self::Js,
            "le" => Self::Le,
            "len" => Self::Len,
            "lt" => Self::Lt,
            "ne" => Self::Ne,
            "not" => Self::Not,
            "or" => Self::Or,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "slice" => Self::Slice,
            "urlquery" => Self::UrlQuery,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Call => "call",
            Self::Eq => "eq",
            Self::Ge => "ge",
            Self::Gt => "gt",
            Self::Html => "html",
            Self::Index => "index",
            Self::Js => "js",
            Self::Le => "le",
            Self::Len => "len",
            Self::Lt => "lt",
            Self::Ne => "ne",
            Self::Not => "not",
            Self::Or => "or",
            Self::Print => "print",
            Self::Printf => "printf",
            Self::Println => "println",
            Self::Slice => "slice",
            Self::UrlQuery => "urlquery",
        }
    }

    /// Whether it can be called with so many arguments.
    pub(super) fn check_count(self, given: usize) -> Result<(), String> {
        let (least, most) = match self {
            Self::Print | Self::Println | Self::Html | Self::Js | Self::UrlQuery => (0, None),
            Self::And
            | Self::Or
            | Self::Call
            | Self::Eq
            | Self::Index
            | Self::Printf
            | Self::Slice => (1, None),
            Self::Len | Self::Not => (1, Some(1)),
            Self::Ge | Self::Gt | Self::Le | Self::Lt | Self::Ne => (2, Some(2)),
        };
        let name = self.name();
        match most {
            Some(most) if given != most => {
                Err(format!("wrong number of args for {name}: want {most} got {given}"))
            }
            None if given < least => {
                Err(format!("wrong number of args for {name}: want at least {least} got {given}"))
            }
            _ => Ok(()),
        }
    }

    /// `and` and `or` evaluate no arguments after the first that decides.
    pub(super) fn short_circuits_at(self) -> Option<bool> {
        match self {
            Self::And => Some(false),
            Self::Or => Some(true),
            _ => None,
        }
    }

    /// `printf` wants a string first; no other function has typed arguments.
    pub(super) fn check_first(self, value: &Datum<'_>) -> Result<(), String> {
        match value {
            _ if self != Self::Printf => Ok(()),
            Datum::Text(_) => Ok(()),
            other => {
                Err(format!("wrong type for value; expected string; got {}", other.type_name()))
            }
        }
    }

    /// Calls it with a number of arguments that it takes.
    pub(super) fn call<'a>(self, arguments: &[Datum<'a>]) -> Result<Datum<'a>, String> {
        let (first, rest) = match arguments {
            [first, rest @ ..] => (first, rest),
            [] => (&Datum::NoValue, arguments),
        };
        let second = rest.first().unwrap_or(&Datum::NoValue);
        Ok(match self {
            Self::And | Self::Or => {
                return Err("it is evaluated with its arguments".to_owned());
            }
            Self::Call => {
                return Err(match first {
                    Datum::NoValue => "call of nil".to_owned(),
                    other => format!("non-function of type {}", other.type_name()),
                });
            }
            Self::Not => Datum::Bool(!first.is_true()),
            Self::Eq => Datum::Bool(compare::eq(first, rest)?),
            Self::Ne => Datum::Bool(!compare::eq(first, rest)?),
            Self::Lt => Datum::Bool(compare::lt(first, second)?),
            Self::Le => Datum::Bool(compare::le(first, second)?),
            // Go's own definitions, which say that NaN is greater than everything.
            Self::Gt => Datum::Bool(!compare::le(first, second)?),
            Self::Ge => Datum::Bool(!compare::lt(first, second)?),
            Self::Len => Datum::Int(length(first)?),
            Self::Index => index(first, rest)?,
            Self::Slice => slice(first, rest)?,
            Self::Print => Datum::made(print::sprint(arguments)?),
            Self::Println => Datum::made(print::sprintln(arguments)?),
            Self::Printf => match first {
                Datum::Text(text) => Datum::made(verbs::sprintf(text, rest)?),
                other => return Err(format!("a {} is no format", other.type_name())),
            },
            Self::Html => escaped(arguments, quote::html)?,
            Self::Js => escaped(arguments, quote::js)?,
            Self::UrlQuery => escaped(arguments, quote::url_query)?,
        })
    }
}

/// The text of the arguments, escaped. Here nothing is `<no value>`, not `<nil>`.
fn escaped<'a>(
    arguments: &[Datum<'a>],
    escape: fn(&[u8], &mut Bounded),
) -> Result<Datum<'a>, String> {
    let printable: Vec<Datum<'a>> = arguments
        .iter()
        .map(|argument| match argument {
            Datum::NoValue => Datum::text("<no value>"),
            other => other.clone(),
        })
        .collect();
    let mut out = Bounded::default();
    escape(&print::sprint(&printable)?, &mut out);
    Ok(Datum::made(out.finish()?))
}

fn length(item: &Datum<'_>) -> Result<i64, String> {
    let length = match item {
        Datum::Text(text) => text.len(),
        Datum::List(list) => list.len(),
        Datum::Map(map) => map.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    i64::try_from(length).map_err(|_| "too long".to_owned())
}

fn index<'a>(item: &Datum<'a>, indices: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    if matches!(item, Datum::NoValue) {
        return Err("index of untyped nil".to_owned());
    }
    let mut item = item.clone();
    for index in indices {
        item = match &item {
            Datum::Text(text) => {
                let at = place(index, text.len())?;
                Datum::Byte(*text.get(at).ok_or_else(|| out_of_range(at))?)
            }
            Datum::List(list) => {
                let at = place(index, list.len())?;
                Datum::text(list.get(at).ok_or_else(|| out_of_range(at))?)
            }
            Datum::Map(map) => match index {
                Datum::Text(key) => {
                    let value = std::str::from_utf8(key).ok().and_then(|key| map.get(key));
                    Datum::text(value.map_or("", String::as_str))
                }
                Datum::NoValue => {
                    return Err("value is nil; should be of type string".to_owned());
                }
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()));
                }
            },
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn out_of_range(at: usize) -> String {
    format!("index out of range: {at}")
}

/// A place between elements, the end included.
fn place(index: &Datum<'_>, end: usize) -> Result<usize, String> {
    let number = match index {
        Datum::Int(int) => *int,
        Datum::Byte(byte) => i64::from(*byte),
        Datum::NoValue => return Err("cannot index slice/array with nil".to_owned()),
        other => {
            return Err(format!("cannot index slice/array with type {}", other.type_name()));
        }
    };
    usize::try_from(number)
        .ok()
        .filter(|&at| at <= end)
        .ok_or_else(|| format!("index out of range: {number}"))
}

fn slice<'a>(item: &Datum<'a>, indices: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    if indices.len() > 3 {
        return Err(format!("too many slice indexes: {}", indices.len()));
    }
    let end = match item {
        Datum::Text(_) if indices.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Datum::Text(text) => text.len(),
        Datum::List(list) => list.len(),
        Datum::NoValue => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, end, end];
    for (bound, index) in bounds.iter_mut().zip(indices) {
        *bound = place(index, end)?;
    }
    let [from, to, capacity] = bounds;
    for (low, high) in [(from, to), (to, capacity)] {
        if low > high {
            return Err(format!("invalid slice index: {low} > {high}"));
        }
    }
    // In bounds: from <= to <= end.
    Ok(match item {
        Datum::List(list) => Datum::List(&list[from..to]),
        Datum::Text(Text::Of(bytes)) => Datum::Text(Text::Of(&bytes[from..to])),
        Datum::Text(Text::Made(bytes)) => Datum::made(bytes[from..to].to_vec()),
        other => other.clone(),
    })
}
