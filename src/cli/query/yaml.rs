//! Data as YAML: what JSON can say, in the order in which it is said.

use std::fmt::{self, Write};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A value of JSON whose mappings keep their order.
#[derive(Debug, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Data as a YAML document.
///
/// # Errors
/// When it cannot be said in JSON.
pub(in crate::cli) fn render(data: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(data)?;
    let mut text = String::new();
    match serde_json::from_str(&json)? {
        Node::Map(pairs) if !pairs.is_empty() => map(&mut text, &pairs, 0),
        Node::List(items) if !items.is_empty() => list(&mut text, &items, 0),
        flat => {
            text.push_str(&scalar(&flat));
            text.push('\n');
        }
    }
    Ok(text)
}

fn map(text: &mut String, pairs: &[(String, Node)], indent: usize) {
    for (i, (key, value)) in pairs.iter().enumerate() {
        // The first key of a mapping in a list stands behind the dash.
        if i > 0 || !text.ends_with("- ") {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push_str(&word(key));
        text.push(':');
        match value {
            Node::Map(pairs) if !pairs.is_empty() => {
                text.push('\n');
                map(text, pairs, indent + 2);
            }
            Node::List(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent);
            }
            flat => {
                text.push(' ');
                text.push_str(&scalar(flat));
                text.push('\n');
            }
        }
    }
}

fn list(text: &mut String, items: &[Node], indent: usize) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 || !text.ends_with("- ") {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push_str("- ");
        match item {
            Node::Map(pairs) if !pairs.is_empty() => map(text, pairs, indent + 2),
            Node::List(items) if !items.is_empty() => list(text, items, indent + 2),
            flat => {
                text.push_str(&scalar(flat));
                text.push('\n');
            }
        }
    }
}

/// What fits on one line.
fn scalar(node: &Node) -> String {
    match node {
        Node::Null => "null".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Number(number) => number.to_string(),
        Node::Text(text) => word(text),
        Node::List(_) => "[]".to_owned(),
        Node::Map(_) => "{}".to_owned(),
    }
}

/// A text, in quotes unless every reader takes it for text. JSON's quotes are YAML's, too.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(plain)
        && !reserved.iter().any(|word| text.eq_ignore_ascii_case(word));
    if safe { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Control characters, and what YAML takes for a line break or a mark.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn reads_like_yaml_that_people_write() {
        let data = json!({
            "a": {"list": [1, [2, "x y"], {"k": "v", "l": []}], "none": null},
            "b": "true",
            "c": {},
            "d": "sum(rate(x[1m]))",
        });
        let expected = "\
a:
  list:
  - 1
  - - 2
    - \"x y\"
  - k: v
    l: []
  none: null
b: \"true\"
c: {}
d: \"sum(rate(x[1m]))\"
";
        assert_eq!(render(&data).unwrap(), expected);
        assert_eq!(render(&json!("x: y")).unwrap(), "\"x: y\"\n");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[-a-z0-9.:# ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{0,8}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn is_read_back_as_it_was(value in value()) {
            let text = render(&value).unwrap();
            let back: Value = serde_saphyr::from_str(&text)
                .unwrap_or_else(|e| panic!("{e}:\n{text}"));
            prop_assert_eq!(back, value);
        }
    }
}
