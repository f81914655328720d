//! A structural schema: the subset of OpenAPI 3 that the API server takes for resources.
//!
//! Responsible for: the shape of such a schema, making one of a Rust type's, and finding places in
//! it. Not responsible for: what the fields are called, and what is said about them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A schema, or a part of one. Keywords that are not here are refused when one is read: the API
/// server would not take them, or they would be lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Schema {
    /// What `kubectl explain` prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// One of OpenAPI's types; none where text and whole numbers are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<String>,
    /// `int64`, `date-time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    /// Stands for a field that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<Value>,
    /// The only values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) r#enum: Vec<Value>,
    /// The form of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pattern: Option<String>,
    /// Smallest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) minimum: Option<i64>,
    /// Fewest characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_length: Option<usize>,
    /// Most characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_length: Option<usize>,
    /// Fewest items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_items: Option<usize>,
    /// Most items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_items: Option<usize>,
    /// Most pairs of a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_properties: Option<usize>,
    /// Fields that must be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) required: Vec<String>,
    /// The fields of an object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) properties: BTreeMap<String, Schema>,
    /// The values of a mapping with free keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) additional_properties: Option<Box<Schema>>,
    /// The items of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<Box<Schema>>,
    /// Takes whole numbers and text.
    #[serde(rename = "x-kubernetes-int-or-string", skip_serializing_if = "std::ops::Not::not")]
    pub(super) int_or_string: bool,
    /// `set`, `map`; a list is replaced as a whole otherwise.
    #[serde(rename = "x-kubernetes-list-type", skip_serializing_if = "Option::is_none")]
    pub(super) list_type: Option<String>,
    /// The keys of a list of type `map`.
    #[serde(rename = "x-kubernetes-list-map-keys", skip_serializing_if = "Vec::is_empty")]
    pub(super) list_map_keys: Vec<String>,
    /// Rules in CEL.
    #[serde(rename = "x-kubernetes-validations", skip_serializing_if = "Vec::is_empty")]
    pub(super) validations: Vec<Validation>,
}

/// A rule in CEL about the part of a schema that it stands at, which it calls `self`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Validation {
    /// What must hold.
    pub(super) rule: String,
    /// What people read when it does not.
    pub(super) message: String,
    /// Why, in Kubernetes' words: `FieldValueInvalid` if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The field that is at fault, below the one that the rule stands at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field_path: Option<String>,
}

/// The schema of a type. Its documentation becomes the descriptions.
///
/// # Errors
/// When a structural schema cannot say what the type's does.
pub(super) fn of<T: JsonSchema>() -> Result<Schema, serde_json::Error> {
    let generator = SchemaSettings::openapi3().with(|settings| {
        // Structural schemas have no references, and what would mark optional fields as nullable is
        // removed below: no field of ours is null.
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.clear();
    });
    let mut value = generator.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut value);
    serde_json::from_value(value)
}

/// Leaves out what structural schemas have not: null, titles, defaults (Rust's are not the API's),
/// and the marks of rustdoc in descriptions.
fn tidy(value: &mut Value) {
    let Value::Object(schema) = value else { return };
    for word in ["title", "default", "nullable", "$schema"] {
        schema.remove(word);
    }
    without_null(schema);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if matches!(schema.get("format").and_then(Value::as_str), Some("uint64" | "uint32")) {
        schema.insert("format".to_owned(), "int64".into());
    }
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(below) {
            tidy(below);
        }
    }
}

/// An optional value is written as its schema or null.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = schema.remove("anyOf") else { return };
    let is_null = |choice: &Value| {
        choice.get("type").is_some_and(|word| word == "null")
            || choice.get("enum").is_some_and(|values| *values == Value::Array(vec![Value::Null]))
            || choice.get("const").is_some_and(Value::is_null)
    };
    let mut real: Vec<Value> = choices.into_iter().filter(|choice| !is_null(choice)).collect();
    match (real.pop(), &real[..]) {
        (Some(Value::Object(only)), []) => {
            for (word, value) in only {
                // The words of the field go before those of its type.
                schema.entry(word).or_insert(value);
            }
        }
        (last, _) => {
            real.extend(last);
            schema.insert("anyOf".to_owned(), Value::Array(real));
        }
    }
}

impl Schema {
    /// The part at a path: `spec.sqs.queues[]` for the items of a list, `spec.labels{}` for the
    /// values of a mapping; nothing for the schema itself.
    pub(super) fn at(&mut self, path: &str) -> Option<&mut Self> {
        let steps = path.split('.').filter(|step| !step.is_empty());
        steps.into_iter().try_fold(self, |schema, step| {
            let key = step.trim_end_matches("[]").trim_end_matches("{}");
            let below = schema.properties.get_mut(key)?;
            match &step[key.len()..] {
                "[]" => below.items.as_deref_mut(),
                "{}" => below.additional_properties.as_deref_mut(),
                _ => Some(below),
            }
        })
    }

    /// Takes a field out.
    pub(super) fn remove(&mut self, path: &str) {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(parent) = self.at(parent) {
            parent.properties.remove(key);
            parent.required.retain(|name| name != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Sample {
        /// A `text` over
        /// two lines.
        text: Option<String>,
        count: u64,
        word: Option<Word>,
        list: Option<Vec<Inner>>,
        inner: Option<Inner>,
        map: BTreeMap<String, String>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its shape counts")]
    enum Word {
        A,
        B,
    }

    /// An inner one.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Inner {
        flag: bool,
    }

    #[test]
    fn a_type_becomes_a_structural_schema() {
        let schema = of::<Sample>().unwrap();
        let shown = serde_json::to_value(&schema).unwrap();
        let flag = serde_json::json!({ "type": "boolean" });
        let inner = serde_json::json!({
            "description": "An inner one.",
            "type": "object",
            "required": ["flag"],
            "properties": { "flag": flag },
        });
        assert_eq!(
            shown,
            serde_json::json!({
                "type": "object",
                "required": ["count", "map"],
                "properties": {
                    "text": { "type": "string", "description": "A text over two lines." },
                    "count": { "type": "integer", "format": "int64", "minimum": 0 },
                    "word": { "type": "string", "enum": ["A", "B"] },
                    "list": { "type": "array", "items": inner },
                    "inner": inner,
                    "map": { "type": "object", "additionalProperties": { "type": "string" } },
                },
            })
        );
    }

    #[test]
    fn places_are_found_and_fields_removed() {
        let mut schema = of::<Sample>().unwrap();
        assert_eq!(schema.at("list[].flag").unwrap().r#type.as_deref(), Some("boolean"));
        assert_eq!(schema.at("map{}").unwrap().r#type.as_deref(), Some("string"));
        assert!(schema.at("").is_some() && schema.at("list.flag").is_none());
        schema.remove("inner.flag");
        schema.remove("count");
        assert_eq!(schema.required, ["map"]);
    }
}
