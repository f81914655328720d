//! Text to a tree of located values, as far as rule files need it.
//!
//! Responsible for: the first document of a YAML text (JSON is a subset), merge keys and keys
//! written twice left in, because what they mean depends on the field (`file::document`).
//! Not responsible for: what values mean.
//!
//! Invariants: no input makes it panic, recurse without bound, or hold more than [`MAX_NODES`]
//! values, however its aliases are nested.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

/// Largest file that is read. Kubernetes keeps no `ConfigMap` beyond 1 MiB.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

/// Most values in one file, values repeated by aliases counted each time. A file of
/// [`MAX_FILE_BYTES`] that somebody wrote has far fewer; an alias bomb has more.
const MAX_NODES: usize = 500_000;

/// Deepest nesting. Rule files have seven levels.
const MAX_DEPTH: usize = 64;

/// A position in a file, both counted from 1; zeros mean the whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Line.
    pub(super) line: usize,
    /// Column, in characters.
    pub(super) column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Where it starts.
    pub(super) at: At,
    /// What it is.
    pub(super) value: Value,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A single value.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Written without quotes: it may mean a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Whether this is null, or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What a person calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Something that makes the whole text unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where.
    pub(super) at: At,
    /// What.
    pub(super) message: String,
}

/// Reads the first document of a text; none when the text has none. What follows is not looked at,
/// as in the original.
///
/// # Errors
/// When the text is not YAML or goes beyond a budget.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Broken> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Broken {
            at: At::default(),
            message: format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20),
        });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let mark = error.marker();
            Broken {
                at: At { line: mark.line(), column: mark.col() + 1 },
                message: format!("not valid YAML: {}", error.kind()),
            }
        })?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or mapping that is not closed yet.
struct Open {
    at: At,
    anchor: usize,
    body: Body,
}

enum Body {
    List(Vec<Node>),
    Map { pairs: Vec<(Node, Node)>, key: Option<Node> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Broken> {
        let at = At { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = is_plain(style, tag.as_deref());
                let node = Node { at, value: Value::Scalar { text: text.into_owned(), plain } };
                self.add(node, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(Open { at, anchor, body: Body::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, _) => {
                self.open(Open { at, anchor, body: Body::Map { pairs: Vec::new(), key: None } })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                let value = match open.body {
                    Body::List(items) => Value::List(items),
                    Body::Map { pairs, .. } => Value::Map(pairs),
                };
                self.add(Node { at: open.at, value }, open.anchor, 1)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    let message = "an alias stands inside its own anchor".to_owned();
                    return Err(Broken { at, message });
                };
                // Counted before it is copied: this is what stops an alias bomb.
                let (count, depth) = measure(node);
                if self.nodes + count > MAX_NODES || self.stack.len() + depth > MAX_DEPTH {
                    let message = "the file's aliases expand beyond all bounds".to_owned();
                    return Err(Broken { at, message });
                }
                let node = node.clone();
                self.add(node, 0, count)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), Broken> {
        if self.stack.len() >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Broken { at: open.at, message });
        }
        self.stack.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, count: usize) -> Result<(), Broken> {
        self.nodes += count;
        if anchor != 0 {
            self.nodes += measure(&node).0;
            self.anchors.insert(anchor, node.clone());
        }
        if self.nodes > MAX_NODES {
            let message = format!("the file holds more than {MAX_NODES} values");
            return Err(Broken { at: node.at, message });
        }
        match self.stack.last_mut().map(|open| &mut open.body) {
            None => self.root = Some(node),
            Some(Body::List(items)) => items.push(node),
            Some(Body::Map { pairs, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
        Ok(())
    }
}

/// Whether a scalar may mean something else than its text. The core tags say that it does or does
/// not; a foreign tag makes text of it, as in the original.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>) -> bool {
    match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) => tag.core_suffix().is_some_and(|suffix| suffix != "str" && suffix != "binary"),
    }
}

/// Bytes of text that count as one value more.
const VALUE_BYTES: usize = 64;

/// How many values a tree has, and how many levels. Its depth is bounded by [`MAX_DEPTH`].
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.value {
        // A long text that is repeated weighs as many values.
        Value::Scalar { text, .. } => return (1 + text.len() / VALUE_BYTES, 0),
        Value::List(items) => items.iter().collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(key, node)| [key, node]).collect(),
    };
    children
        .into_iter()
        .map(measure)
        .fold((1, 1), |(count, depth), (c, d)| (count + c, depth.max(d + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broken(text: &str) -> String {
        parse(text).unwrap_err().message
    }

    #[test]
    fn the_first_document_counts_and_the_others_are_not_read() {
        assert_eq!(parse(""), Ok(None));
        let node = parse("\u{feff}a: 1\r\n---\nbroken: [").unwrap().unwrap();
        let Value::Map(pairs) = node.value else { panic!("a mapping") };
        assert_eq!(pairs[0].1.at, At { line: 1, column: 4 });
    }

    #[test]
    fn what_would_take_all_memory_stops_early() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(",");
            text = format!("{text}a{i}: &a{i} [{aliases}]\n");
        }
        assert_eq!(broken(&text), "the file's aliases expand beyond all bounds");
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(broken(&deep), "nested more than 64 levels deep");
        assert_eq!(broken(&" ".repeat(MAX_FILE_BYTES + 1)), "the file is larger than 4 MiB");
        assert_eq!(broken("a: &a [*a]"), "an alias stands inside its own anchor");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-c&*<!?|>\\[\\]{},:#'\"\n -]|: |- |\n  |---\n|&a |\\*a |<<: ){0,60}") {
            let _ = parse(&text);
        }
    }
}
