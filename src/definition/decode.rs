//! Trees to serde types, with every mistake found in one go.
//!
//! Responsible for: matching a document's tree against the fields of a serde type: unknown fields
//! with a "did you mean", values of the wrong kind, each with its place. Not responsible for:
//! whether values make sense together (the validators), and the text (`yaml`).
//!
//! serde stops at the first error. So a value that does not fit is noted, left out, and the whole
//! is read again, until the rest fits. Types to be read this way keep their fields optional or
//! defaulted.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::definition::field::{Field, closest};
use crate::definition::report::{MAX_PROBLEMS, Report};
use crate::definition::yaml::{Key, Node, Scalar, Value, resolve};

/// Reads the part of the report's document below `field`. What does not fit goes into the report
/// and is left out of the result; `None` when nothing is left.
pub fn decode<T: DeserializeOwned>(report: &mut Report<'_>, field: &Field) -> Option<T> {
    let node = report.root().find(field)?;
    let state = State::default();
    // Each round leaves out one more value; beyond what is reported there is no use in more.
    for _ in 0..=MAX_PROBLEMS {
        let decoder = Decoder { node, field: field.clone(), state: &state };
        let outcome = T::deserialize(decoder);
        for (parent, key, message) in state.unknown.borrow_mut().drain(..) {
            report.add_key(&parent, &key, message);
        }
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let place = error.field.unwrap_or_else(|| field.clone());
        report.add(&place, error.message);
        // Nothing more to leave out, or (a defect) no progress: stop.
        if place == *field || !state.left_out.borrow_mut().insert(place) {
            break;
        }
    }
    None
}

#[derive(Default)]
struct State {
    /// Fields whose value did not fit.
    left_out: RefCell<HashSet<Field>>,
    /// Keys that the type does not have: parent, key, message.
    unknown: RefCell<Vec<(Field, String, String)>>,
}

/// Why a value does not fit, and which.
#[derive(Debug)]
struct Misfit {
    field: Option<Field>,
    message: String,
}

impl Misfit {
    /// Notes the innermost field; outer ones leave it.
    fn within(mut self, field: &Field) -> Self {
        self.field.get_or_insert_with(|| field.clone());
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { field: None, message: message.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // serde's own words, in those of people who write YAML.
        let expected = match expected.to_string().as_str() {
            "a sequence" => "a list".to_owned(),
            "a map" => "a mapping".to_owned(),
            "a string" => "text".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
            other => other.to_owned(),
        };
        Self::custom(format_args!("expected {expected}, found {}", describe(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is missing"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown_field(field, expected))
    }
}

fn describe(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("{:?}", crop(text)),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// Enough of a text to recognise it by.
fn crop(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(57).chain("...".chars()).collect()
}

fn unknown_field(key: &str, fields: &'static [&'static str]) -> String {
    match closest(key, fields.iter().copied()) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None if fields.is_empty() => "unknown field; there are none here".to_owned(),
        None => format!("unknown field; the fields here are {}", fields.join(", ")),
    }
}

#[derive(Clone)]
struct Decoder<'a> {
    node: &'a Node,
    field: Field,
    state: &'a State,
}

impl<'a> Decoder<'a> {
    fn child(&self, node: &'a Node, field: Field) -> Option<Self> {
        let left_out = self.state.left_out.borrow().contains(&field);
        (!left_out).then_some(Self { node, field, state: self.state })
    }

    fn scalar(&self) -> Option<Scalar<'a>> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some(resolve(text, *plain)),
            _ => None,
        }
    }

    fn pairs<'de, V: Visitor<'de>>(
        &self,
        pairs: &'a [(Key, Node)],
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_map(Pairs { decoder: self, rest: pairs.iter(), fields, value: None })
    }
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let field = self.field.clone();
        match &self.node.value {
            Value::Scalar { text, plain } => match resolve(text, *plain) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Unsigned(value) => visitor.visit_u64(value),
                Scalar::Negative(value) => visitor.visit_i64(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text(text) => visitor.visit_str(text),
            },
            Value::List(items) => {
                visitor.visit_seq(Items { decoder: &self, items: items.iter().enumerate() })
            }
            Value::Map(pairs) => self.pairs(pairs, None, visitor),
        }
        .map_err(|misfit| misfit.within(&field))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match (self.scalar(), &self.node.value) {
            (Some(Scalar::Null | Scalar::Text(_)) | None, _)
            | (_, Value::List(_) | Value::Map(_)) => self.deserialize_any(visitor),
            (Some(_), Value::Scalar { text, .. }) => {
                let hint = format!("expected text, found {}; write it as \"{0}\"", crop(text));
                Err(Misfit::custom(hint).within(&self.field))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Map(pairs) => self
                .pairs(pairs, Some(fields), visitor)
                .map_err(|misfit| misfit.within(&self.field)),
            // `spec:` with nothing under it is an empty mapping to everybody but a parser.
            _ if self.node.is_null() => {
                self.pairs(&[], Some(fields), visitor).map_err(|misfit| misfit.within(&self.field))
            }
            // serde would also take a struct as a list of its fields' values.
            Value::List(_) => {
                Err(Misfit::invalid_type(Unexpected::Seq, &"a mapping").within(&self.field))
            }
            Value::Scalar { .. } => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let one_of = format!("one of {}", variants.join(", "));
        let outcome = match self.scalar() {
            Some(Scalar::Text(text)) if variants.contains(&text) => {
                visitor.visit_enum(Word(text.to_owned()))
            }
            Some(Scalar::Text(text)) => {
                Err(Misfit::custom(match closest(text, variants.iter().copied()) {
                    Some(near) => {
                        format!("expected {one_of}, found {:?}; did you mean `{near}`?", crop(text))
                    }
                    None => format!("expected {one_of}, found {:?}", crop(text)),
                }))
            }
            _ => {
                let expected: &str = &one_of;
                return self.deserialize_any(Refuse(expected)).map(|never: Never| match never {});
            }
        };
        outcome.map_err(|misfit| misfit.within(&self.field))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier
    }
}

/// A visitor that accepts nothing, to word what was found instead.
struct Refuse<'a>(&'a str);

/// No value.
enum Never {}

impl Visitor<'_> for Refuse<'_> {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The name of an enum's variant without content.
struct Word(String);

impl<'de> EnumAccess<'de> for Word {
    type Error = Misfit;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), Misfit> {
        let name: StringDeserializer<Misfit> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, Unit))
    }
}

struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Misfit> {
        Err(Misfit::custom("expected one word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(Misfit::custom("expected one word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Misfit> {
        Err(Misfit::custom("expected one word"))
    }
}

struct Items<'d, 'a> {
    decoder: &'d Decoder<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        for (index, node) in self.items.by_ref() {
            if let Some(child) = self.decoder.child(node, self.decoder.field.index(index)) {
                let field = child.field.clone();
                return seed.deserialize(child).map(Some).map_err(|m| m.within(&field));
            }
        }
        Ok(None)
    }
}

struct Pairs<'d, 'a> {
    decoder: &'d Decoder<'a>,
    rest: std::slice::Iter<'a, (Key, Node)>,
    /// The keys that a struct has; any for a map.
    fields: Option<&'static [&'static str]>,
    value: Option<Decoder<'a>>,
}

impl<'de> MapAccess<'de> for Pairs<'_, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        for (key, node) in self.rest.by_ref() {
            if let Some(fields) = self.fields
                && !fields.contains(&key.text.as_str())
            {
                let mut unknown = self.decoder.state.unknown.borrow_mut();
                if unknown.len() < MAX_PROBLEMS {
                    let message = unknown_field(&key.text, fields);
                    unknown.push((self.decoder.field.clone(), key.text.clone(), message));
                }
                continue;
            }
            // In a struct, null is the same as nothing, as everywhere in Kubernetes.
            if self.fields.is_some() && node.is_null() {
                continue;
            }
            let Some(child) = self.decoder.child(node, self.decoder.field.key(&key.text)) else {
                continue;
            };
            let name: StringDeserializer<Misfit> = key.text.clone().into_deserializer();
            let field = child.field.clone();
            self.value = Some(child);
            return seed.deserialize(name).map(Some).map_err(|m| m.within(&field));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some(child) = self.value.take() else {
            return Err(Misfit::custom("a value was asked for before its key"));
        };
        let field = child.field.clone();
        seed.deserialize(child).map_err(|m| m.within(&field))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::definition::yaml::parse;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default, expecting = "a mapping")]
    struct Thing {
        name: Option<String>,
        max_age: Option<u32>,
        warm: bool,
        tags: BTreeMap<String, String>,
        words: Vec<Word>,
        inner: Option<Box<Thing>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    enum Word {
        Visible,
        InFlight,
    }

    fn read(text: &str) -> (Option<Thing>, Vec<String>) {
        let documents = parse(text).unwrap();
        let mut report = Report::new(Path::new("f"), &documents[0]);
        let thing = decode(&mut report, &Field::root());
        (thing, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_what_fits() {
        let (thing, problems) = read(
            "name: \"5\"\nmaxAge: 3\nwarm: true\ntags: {a: x}\nwords: [inFlight]\ninner:\n  name: y\n",
        );
        assert_eq!(problems, [""; 0]);
        let thing = thing.unwrap();
        assert_eq!((thing.name.as_deref(), thing.max_age, thing.warm), (Some("5"), Some(3), true));
        assert_eq!(thing.words, [Word::InFlight]);
        assert_eq!(thing.inner.unwrap().name.as_deref(), Some("y"));
    }

    #[test]
    fn finds_every_mistake_at_once_and_keeps_the_rest() {
        let (thing, problems) = read(
            "nmae: x\nname: 5\nmaxAge: -3\nwarm: yes\ntags: {a: 1, b: x, c: [y]}\nwords: [visble, inFlight, 5, {}]\ninner:\n  bananas: 1\n  words: no\n  tags: null\n",
        );
        assert_eq!(
            problems,
            [
                "f:1:1: nmae: unknown field; did you mean `name`?",
                "f:2:7: name: expected text, found 5; write it as \"5\"",
                "f:3:9: maxAge: expected a whole number, not negative, found the number -3",
                "f:4:7: warm: expected true or false, found \"yes\"",
                "f:5:11: tags.a: expected text, found 1; write it as \"1\"",
                "f:5:23: tags.c: expected text, found a list",
                "f:6:9: words[0]: expected one of visible, inFlight, found \"visble\"; did you mean `visible`?",
                "f:6:27: words[2]: expected one of visible, inFlight, found the number 5",
                "f:6:30: words[3]: expected one of visible, inFlight, found a mapping",
                "f:8:3: inner.bananas: unknown field; the fields here are name, maxAge, warm, tags, words, inner",
                "f:9:10: inner.words: expected a list, found \"no\"",
            ]
        );
        let thing = thing.unwrap();
        assert_eq!(thing.words, [Word::InFlight]);
        assert_eq!(thing.tags.len(), 1);
    }

    #[test]
    fn a_document_of_the_wrong_kind_is_one_problem() {
        assert_eq!(read("[1]"), (None, vec!["f:1:1: expected a mapping, found a list".into()]));
        assert_eq!(read("x"), (None, vec!["f:1:1: expected a mapping, found \"x\"".into()]));
    }

    #[test]
    fn very_many_mistakes_end_soon() {
        let keys: Vec<String> = (0..20_000).map(|i| format!("bad{i}: 1\n")).collect();
        let (_, problems) = read(&keys.concat());
        assert_eq!(problems.len(), MAX_PROBLEMS);
        let (thing, problems) = read(&format!("words: [{}]", "bad,".repeat(20_000)));
        assert_eq!((thing, problems.len()), (None, MAX_PROBLEMS));
    }

    proptest! {
        #[test]
        fn never_panics_and_always_ends(text in "((name|maxAge|warm|tags|words|inner|x|  |- ): ?(5|x|\\[1, a\\]|\\{a: b\\}|true)?\n){0,12}") {
            if let Ok(documents) = parse(&text) {
                for document in &documents {
                    let mut report = Report::new(Path::new("f"), document);
                    let _: Option<Thing> = decode(&mut report, &Field::root());
                }
            }
        }
    }
}
