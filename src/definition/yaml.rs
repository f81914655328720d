//! Text to trees of located values.
//!
//! Responsible for: reading YAML (JSON is a subset) into [`Document`]s whose every key and value
//! knows its line and column, within fixed budgets. Not responsible for: what the values mean
//! (`decode` and the validators).
//!
//! Invariants: no input makes it panic, recurse without bound, or hold more than [`MAX_NODES`]
//! values, however its aliases are nested. Keys are text and unique in what is returned.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use crate::definition::field::{Field, Step};

/// Largest file that is read. A definition takes about 500 bytes, so this is thousands of them.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// Most values in one file, values repeated by aliases counted each time. A file of
/// [`MAX_FILE_BYTES`] that somebody wrote has far fewer; an alias bomb has more.
pub const MAX_NODES: usize = 500_000;

/// Deepest nesting. Our documents need less than ten levels.
pub const MAX_DEPTH: usize = 64;

/// A position in a file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A single value. `plain` text may mean a number, a boolean or null; quoted text is text.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written, keys unique.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where it starts.
    pub place: Place,
    /// The key.
    pub text: String,
}

/// What a scalar means under YAML 1.2's core schema (decimal numbers only).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number at or above zero.
    Unsigned(u64),
    /// A whole number below zero.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(&'a str),
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The tree. [`Node::place`] of it is where the document starts.
    pub root: Node,
    /// What is wrong with the document's form: key written twice, merge keys, foreign tags.
    pub mistakes: Vec<Mistake>,
}

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// The field, as far as known.
    pub field: Field,
    /// What is wrong.
    pub message: String,
}

impl Node {
    /// The value below a path, if it is there.
    #[must_use]
    pub fn find(&self, field: &Field) -> Option<&Self> {
        field.steps().iter().try_fold(self, |node, step| node.child(step))
    }

    /// The value one step below.
    #[must_use]
    pub fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Map(pairs), Step::Key(key)) => {
                pairs.iter().find(|(k, _)| k.text == *key).map(|(_, node)| node)
            }
            (Value::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    /// How many values are directly below.
    #[must_use]
    pub fn child_count(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.len(),
            Value::Map(pairs) => pairs.len(),
        }
    }

    /// The value's text, when it is a single value that is not null.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether this is null, or nothing at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain } if resolve(text, *plain) == Scalar::Null)
    }
}

/// What a scalar's text means.
#[must_use]
pub fn resolve(text: &str, plain: bool) -> Scalar<'_> {
    if !plain {
        return Scalar::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    // Rust's own `f64` reader also takes "inf" and "nan", which are words in YAML.
    let is_number = text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if !is_number {
        return Scalar::Text(text);
    }
    if let Ok(value) = text.parse::<u64>() {
        Scalar::Unsigned(value)
    } else if let Ok(value) = text.parse::<i64>() {
        Scalar::Negative(value)
    } else {
        text.parse().map_or(Scalar::Text(text), Scalar::Float)
    }
}

/// Reads all documents of a text, empty ones left out.
///
/// # Errors
/// When the text is not YAML or goes beyond a budget; nothing of it can be used then.
pub fn parse(text: &str) -> Result<Vec<Document>, Mistake> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Mistake {
            place: Place::default(),
            field: Field::root(),
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
            Mistake {
                place: Place { line: mark.line(), column: mark.col() + 1 },
                field: Field::root(),
                message: format!("not valid YAML: {}", error.kind()),
            }
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Document>,
    mistakes: Vec<Mistake>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or mapping that is not closed yet.
struct Open {
    place: Place,
    anchor: usize,
    body: Body,
}

enum Body {
    List(Vec<Node>),
    Map { pairs: Vec<(Key, Node)>, seen: HashMap<String, usize>, key: Option<Key> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.mistakes.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.forces_text(tag.as_deref(), place);
                let node = Node { place, value: Value::Scalar { text: text.into_owned(), plain } };
                self.add(node, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.forces_text(tag.as_deref(), place);
                self.open(Open { place, anchor, body: Body::List(Vec::new()) })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.forces_text(tag.as_deref(), place);
                let body = Body::Map { pairs: Vec::new(), seen: HashMap::new(), key: None };
                self.open(Open { place, anchor, body })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                let value = match open.body {
                    Body::List(items) => Value::List(items),
                    Body::Map { pairs, .. } => Value::Map(pairs),
                };
                self.add(Node { place: open.place, value }, open.anchor, 1)?;
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(self.mistake(place, "an alias stands inside its own anchor"));
                };
                // Counted before it is copied: this is what stops an alias bomb.
                let (count, depth) = measure(node);
                if self.nodes + count > MAX_NODES || self.stack.len() + depth > MAX_DEPTH {
                    return Err(self.mistake(place, "the file's aliases expand beyond all bounds"));
                }
                let node = node.clone();
                self.add(node, 0, count)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), Mistake> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(
                self.mistake(open.place, &format!("nested more than {MAX_DEPTH} levels deep"))
            );
        }
        self.stack.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, count: usize) -> Result<(), Mistake> {
        self.nodes += count;
        if self.nodes > MAX_NODES {
            let message = format!("the file holds more than {MAX_NODES} values");
            return Err(self.mistake(node.place, &message));
        }
        if anchor != 0 {
            self.nodes += measure(&node).0;
            self.anchors.insert(anchor, node.clone());
        }
        let field = self.field();
        match self.stack.last_mut().map(|open| &mut open.body) {
            None if node.is_null() && self.mistakes.is_empty() => {}
            None => {
                let mistakes = std::mem::take(&mut self.mistakes);
                self.documents.push(Document { root: node, mistakes });
            }
            Some(Body::List(items)) => items.push(node),
            Some(Body::Map { pairs, seen, key }) => match key.take() {
                None => {
                    let Value::Scalar { text, .. } = node.value else {
                        return Err(self.mistake(node.place, "a key must be plain text"));
                    };
                    *key = Some(Key { place: node.place, text });
                }
                Some(key) if key.text == "<<" => self.mistakes.push(Mistake {
                    place: key.place,
                    field,
                    message: "merge keys (`<<`) are not supported; repeat the fields".to_owned(),
                }),
                Some(key) => {
                    if let Some(line) = seen.get(&key.text) {
                        self.mistakes.push(Mistake {
                            place: key.place,
                            field,
                            message: format!("this key is written twice, first in line {line}"),
                        });
                    } else {
                        seen.insert(key.text.clone(), key.place.line);
                        pairs.push((key, node));
                    }
                }
            },
        }
        Ok(())
    }

    /// Whether a tag makes plain text stay text; foreign tags are noted as mistakes.
    fn forces_text(&mut self, tag: Option<&Tag>, place: Place) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => true,
            Some(_) => false,
            None if tag.original() == "!" => true,
            None => {
                let message = format!("the tag {:?} is not supported", tag.original());
                let field = self.field();
                self.mistakes.push(Mistake { place, field, message });
                false
            }
        }
    }

    /// The field that is being read.
    fn field(&self) -> Field {
        self.stack.iter().fold(Field::root(), |field, open| match &open.body {
            Body::Map { key: Some(key), .. } => field.key(&key.text),
            Body::Map { key: None, .. } => field,
            Body::List(items) => field.index(items.len()),
        })
    }

    fn mistake(&self, place: Place, message: &str) -> Mistake {
        Mistake { place, field: self.field(), message: message.to_owned() }
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
        Value::Map(pairs) => pairs.iter().map(|(_, node)| node).collect(),
    };
    let keys = match &node.value {
        Value::Map(pairs) => pairs.iter().map(|(key, _)| key.text.len() / VALUE_BYTES).sum(),
        Value::Scalar { .. } | Value::List(_) => 0,
    };
    children
        .into_iter()
        .map(measure)
        .fold((1 + keys, 1), |(count, depth), (c, d)| (count + c, depth.max(d + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Document {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{documents:?}");
        documents.remove(0)
    }

    fn mistakes(text: &str) -> Vec<String> {
        let shown = |m: &Mistake| {
            format!("{}:{} [{}] {}", m.place.line, m.place.column, m.field, m.message)
        };
        match parse(text) {
            Ok(documents) => documents.iter().flat_map(|d| &d.mistakes).map(shown).collect(),
            Err(mistake) => vec![shown(&mistake)],
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let document = one("a: 1\nb:\n  - x\n  - c: \"d\"\n");
        let place = |field: Field| {
            let place = document.root.find(&field).unwrap().place;
            (place.line, place.column)
        };
        assert_eq!(place(Field::of("a")), (1, 4));
        assert_eq!(place(Field::of("b").index(1).key("c")), (4, 8));
    }

    #[test]
    fn empty_documents_are_left_out_and_lines_are_the_files() {
        let documents = parse("# nothing\n---\n---\na: 1\n---\n\n# c\nb: 2\n...\n").unwrap();
        let lines: Vec<usize> = documents.iter().map(|d| d.root.place.line).collect();
        assert_eq!(lines, [4, 8]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("\u{feff}a: 1").unwrap().len(), 1);
    }

    #[test]
    fn json_is_read_too() {
        let document = one("{\n\t\"a\": [1, true, null, \"x\\/y\"]\n}\n");
        assert_eq!(document.root.find(&Field::of("a").index(3)).unwrap().text(), Some("x/y"));
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, scalar) in [
            ("5", Scalar::Unsigned(5)),
            ("-5", Scalar::Negative(-5)),
            ("0.5", Scalar::Float(0.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("~", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("yes", Scalar::Text("yes")),
            ("no", Scalar::Text("no")),
            ("inf", Scalar::Text("inf")),
            ("1_000", Scalar::Text("1_000")),
            ("0x10", Scalar::Text("0x10")),
            ("1-2", Scalar::Text("1-2")),
            ("10:30", Scalar::Text("10:30")),
            ("15s", Scalar::Text("15s")),
        ] {
            assert_eq!(resolve(text, true), scalar, "{text}");
        }
        assert_eq!(resolve("5", false), Scalar::Text("5"));
        assert_eq!(one("!!str 5").root.value, Value::Scalar { text: "5".into(), plain: false });
    }

    #[test]
    fn mistakes_of_form_have_a_place() {
        assert_eq!(
            mistakes("spec:\n  a: 1\n  b: 2\n  a: 3\n"),
            ["4:3 [spec.a] this key is written twice, first in line 2"]
        );
        assert_eq!(
            mistakes("a: &x {b: 1}\nc:\n  <<: *x\n"),
            ["3:3 [c.<<] merge keys (`<<`) are not supported; repeat the fields"]
        );
        assert_eq!(mistakes("a: !foo 1\n"), ["1:9 [a] the tag \"!foo\" is not supported"]);
        assert_eq!(mistakes("? [a]\n: 1\n"), ["1:3 [] a key must be plain text"]);
        assert_eq!(mistakes("a: [1\n").len(), 1);
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(mistakes(&deep).len(), 1);
        assert!(mistakes(&deep)[0].ends_with("nested more than 64 levels deep"));
        assert_eq!(
            mistakes(&" ".repeat(MAX_FILE_BYTES + 1)),
            ["0:0 [] the file is larger than 4 MiB"]
        );
    }

    #[test]
    fn a_long_text_is_not_repeated_without_end() {
        let long = "x".repeat(200_000);
        let text = format!("a: &a \"{long}\"\nb: [{}]\n", "*a, ".repeat(100_000));
        let mistake = parse(&text).unwrap_err();
        assert!(mistake.message.contains("beyond all bounds"), "{}", mistake.message);
    }

    #[test]
    fn an_alias_bomb_stops_early() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(",");
            text += &["a", &i.to_string(), ": &a", &i.to_string(), " [", &aliases, "]\n"].concat();
        }
        let found = mistakes(&text);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("aliases expand beyond all bounds"), "{found:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn yamlish_text_never_panics(text in "([a-c&*<!?|>\\[\\]{},:#'\"\n -]|: |- |\n  |---\n|&a |\\*a ){0,60}") {
            let _ = parse(&text);
        }
    }
}
