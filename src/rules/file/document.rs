//! The file as it is written, field by field.
//!
//! Follows yaml.v2's `UnmarshalStrict`: an unknown key or one written twice is an error, null is
//! the zero value of any field, text fields take the text of any single value (`as: 1e3`), and a
//! merge key (`<<`) sets what it names at its place, so that the later of two settings wins.

use std::fmt::Write;

use crate::rules::yaml::{At, Node, Value};

/// Most problems reported about one file; more help nobody.
pub(super) const MAX_PROBLEMS: usize = 100;

/// Where a value stands and what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Located<T> {
    pub(super) at: At,
    pub(super) value: T,
}

/// Something wrong at a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mistake {
    pub(super) at: At,
    pub(super) field: String,
    pub(super) message: String,
}

/// Everything that is wrong, in the order in which it was found.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, at: At, field: &str, message: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            let (field, message) = (field.to_owned(), message.into());
            self.0.push(Mistake { at, field, message });
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) rules: Vec<RuleDoc>,
    pub(super) external_rules: Vec<RuleDoc>,
    pub(super) resource_rules: Option<Located<ResourceRules>>,
}

#[derive(Debug, Default)]
pub(super) struct RuleDoc {
    pub(super) at: At,
    pub(super) series_query: Located<String>,
    pub(super) series_filters: Vec<Filter>,
    pub(super) resources: Resources,
    pub(super) name: Name,
    pub(super) metrics_query: Located<String>,
}

#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) at: At,
    pub(super) is: Located<String>,
    pub(super) is_not: Located<String>,
}

#[derive(Debug, Default)]
pub(super) struct Name {
    pub(super) at: At,
    pub(super) matches: Located<String>,
    pub(super) rewrite: Located<String>,
}

#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) template: Located<String>,
    /// In the order written.
    pub(super) overrides: Vec<Override>,
    pub(super) namespaced: Option<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Override {
    pub(super) at: At,
    pub(super) label: String,
    pub(super) group: Located<String>,
    pub(super) resource: Located<String>,
}

#[derive(Debug, Default)]
pub(super) struct ResourceRules {
    pub(super) cpu: ResourceRule,
    pub(super) memory: ResourceRule,
    pub(super) window: Option<Located<String>>,
}

#[derive(Debug, Default)]
pub(super) struct ResourceRule {
    pub(super) container_query: Located<String>,
    pub(super) node_query: Located<String>,
    pub(super) resources: Resources,
    pub(super) container_label: Located<String>,
}

/// A mapping with known keys.
trait Fields {
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Sets the field `key`, one of [`Fields::KEYS`].
    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes);
}

/// Reads a file's document.
pub(super) fn read(root: &Node, mistakes: &mut Mistakes) -> File {
    let mut file = File::default();
    mapping(&mut file, root, "", mistakes);
    file
}

fn below(field: &str, key: &str) -> String {
    let mut out = field.to_owned();
    if key.is_empty() || key.contains(|c: char| !(c.is_alphanumeric() || "_-:".contains(c))) {
        // A key such as `a.b` must not read as a path.
        let _ = write!(out, "[{key:?}]");
    } else if out.is_empty() {
        out.push_str(key);
    } else {
        let _ = write!(out, ".{key}");
    }
    out
}

fn unexpected(node: &Node, expected: &str, field: &str, mistakes: &mut Mistakes) {
    mistakes.add(node.at, field, format!("{expected} is expected here, not {}", node.kind()));
}

/// A key's text, or a complaint.
fn key_text<'n>(key: &'n Node, field: &str, mistakes: &mut Mistakes) -> Option<&'n str> {
    if let Value::Scalar { text, .. } = &key.value {
        return Some(text);
    }
    mistakes.add(key.at, field, "a key must be plain text");
    None
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.value, Value::Scalar { text, plain: true } if text == "<<")
}

/// The mappings that a merge key names, the one that counts most last.
fn merged<'n>(node: &'n Node, field: &str, mistakes: &mut Mistakes) -> Vec<&'n Node> {
    let sources: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().rev().collect(),
        _ => vec![node],
    };
    let all_maps = sources.iter().all(|source| matches!(source.value, Value::Map(_)));
    if all_maps {
        return sources;
    }
    mistakes.add(node.at, field, "a merge key (`<<`) takes a mapping or a list of mappings");
    Vec::new()
}

fn mapping<T: Fields + Default>(into: &mut T, node: &Node, field: &str, mistakes: &mut Mistakes) {
    if node.is_null() {
        *into = T::default();
        return;
    }
    let Value::Map(pairs) = &node.value else {
        return unexpected(node, "a mapping", field, mistakes);
    };
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for (key, value) in pairs {
        if is_merge(key) {
            for source in merged(value, field, mistakes) {
                mapping(into, source, field, mistakes);
            }
            continue;
        }
        let Some(text) = key_text(key, field, mistakes) else { continue };
        let inner = below(field, text);
        if !T::KEYS.contains(&text) {
            let message = match closest(text, T::KEYS) {
                Some(meant) => format!("unknown field; did you mean {meant}?"),
                None => format!("unknown field; known are {}", T::KEYS.join(", ")),
            };
            mistakes.add(key.at, &inner, message);
        } else if let Some((_, line)) = seen.iter().find(|(known, _)| *known == text) {
            let message = format!("this key is written twice, first in line {line}");
            mistakes.add(key.at, &inner, message);
        } else {
            seen.push((text, key.at.line));
            into.set(text, value, &inner, mistakes);
        }
    }
}

/// The key that was most likely meant: one slip in three letters at most.
fn closest(word: &str, keys: &[&'static str]) -> Option<&'static str> {
    // Words this long are no typing slip, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    keys.iter()
        .map(|key| (strsim::damerau_levenshtein(&lower, &key.to_lowercase()), *key))
        .filter(|(distance, key)| *distance <= key.len().max(lower.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

fn text(into: &mut Located<String>, node: &Node, field: &str, mistakes: &mut Mistakes) {
    match &node.value {
        Value::Scalar { text, .. } => {
            let value = if node.is_null() { String::new() } else { text.clone() };
            *into = Located { at: node.at, value };
        }
        _ => unexpected(node, "text", field, mistakes),
    }
}

fn list<T>(
    into: &mut Vec<T>,
    node: &Node,
    field: &str,
    mistakes: &mut Mistakes,
    item: impl Fn(&Node, &str, &mut Mistakes) -> T,
) {
    match &node.value {
        Value::List(items) => {
            *into = items
                .iter()
                .enumerate()
                .map(|(index, node)| item(node, &format!("{field}[{index}]"), mistakes))
                .collect();
        }
        _ if node.is_null() => into.clear(),
        _ => unexpected(node, "a list", field, mistakes),
    }
}

/// YAML 1.1's booleans; null leaves the default.
fn boolean(into: &mut Option<bool>, node: &Node, field: &str, mistakes: &mut Mistakes) {
    if node.is_null() {
        *into = None;
        return;
    }
    *into = match &node.value {
        Value::Scalar { text, plain: true } => match text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                Some(true)
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => Some(false),
            _ => None,
        },
        _ => None,
    };
    if into.is_none() {
        mistakes.add(node.at, field, "true or false, without quotes, is expected here");
    }
}

fn overrides(into: &mut Vec<Override>, node: &Node, field: &str, mistakes: &mut Mistakes) {
    if node.is_null() {
        into.clear();
        return;
    }
    let Value::Map(pairs) = &node.value else {
        return unexpected(node, "a mapping from labels to resources", field, mistakes);
    };
    for (key, value) in pairs {
        if is_merge(key) {
            for source in merged(value, field, mistakes) {
                overrides(into, source, field, mistakes);
            }
            continue;
        }
        let Some(label) = key_text(key, field, mistakes) else { continue };
        let inner = below(field, label);
        if let Some(known) = into.iter().find(|known| known.label == label) {
            let message = format!("this label is written twice, first in line {}", known.at.line);
            mistakes.add(key.at, &inner, message);
            continue;
        }
        let mut entry = Override::default();
        mapping(&mut entry, value, &inner, mistakes);
        entry.at = key.at;
        label.clone_into(&mut entry.label);
        into.push(entry);
    }
}

fn rules(into: &mut Vec<RuleDoc>, node: &Node, field: &str, mistakes: &mut Mistakes) {
    list(into, node, field, mistakes, |node, field, mistakes| {
        let mut rule = RuleDoc::default();
        mapping(&mut rule, node, field, mistakes);
        rule.at = node.at;
        rule
    });
}

impl Fields for File {
    const KEYS: &'static [&'static str] = &["rules", "externalRules", "resourceRules"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        match key {
            "rules" => rules(&mut self.rules, node, field, mistakes),
            "externalRules" => rules(&mut self.external_rules, node, field, mistakes),
            _ if node.is_null() => self.resource_rules = None,
            _ => {
                let mut value = ResourceRules::default();
                mapping(&mut value, node, field, mistakes);
                self.resource_rules = Some(Located { at: node.at, value });
            }
        }
    }
}

impl Fields for RuleDoc {
    const KEYS: &'static [&'static str] =
        &["seriesQuery", "seriesFilters", "resources", "name", "metricsQuery"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        match key {
            "seriesQuery" => text(&mut self.series_query, node, field, mistakes),
            "seriesFilters" => {
                let item = |node: &Node, field: &str, mistakes: &mut Mistakes| {
                    let mut filter = Filter::default();
                    mapping(&mut filter, node, field, mistakes);
                    filter.at = node.at;
                    filter
                };
                list(&mut self.series_filters, node, field, mistakes, item);
            }
            "resources" => mapping(&mut self.resources, node, field, mistakes),
            "name" => {
                mapping(&mut self.name, node, field, mistakes);
                self.name.at = node.at;
            }
            _ => text(&mut self.metrics_query, node, field, mistakes),
        }
    }
}

impl Fields for Filter {
    const KEYS: &'static [&'static str] = &["is", "isNot"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        let into = if key == "is" { &mut self.is } else { &mut self.is_not };
        text(into, node, field, mistakes);
    }
}

impl Fields for Name {
    const KEYS: &'static [&'static str] = &["matches", "as"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        let into = if key == "as" { &mut self.rewrite } else { &mut self.matches };
        text(into, node, field, mistakes);
    }
}

impl Fields for Resources {
    const KEYS: &'static [&'static str] = &["template", "overrides", "namespaced"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        match key {
            "template" => text(&mut self.template, node, field, mistakes),
            "overrides" => overrides(&mut self.overrides, node, field, mistakes),
            _ => boolean(&mut self.namespaced, node, field, mistakes),
        }
    }
}

impl Fields for Override {
    const KEYS: &'static [&'static str] = &["group", "resource"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        let into = if key == "group" { &mut self.group } else { &mut self.resource };
        text(into, node, field, mistakes);
    }
}

impl Fields for ResourceRules {
    const KEYS: &'static [&'static str] = &["cpu", "memory", "window"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        match key {
            "cpu" => mapping(&mut self.cpu, node, field, mistakes),
            "memory" => mapping(&mut self.memory, node, field, mistakes),
            _ if node.is_null() => self.window = None,
            _ => text(self.window.get_or_insert_default(), node, field, mistakes),
        }
    }
}

impl Fields for ResourceRule {
    const KEYS: &'static [&'static str] =
        &["containerQuery", "nodeQuery", "resources", "containerLabel"];

    fn set(&mut self, key: &str, node: &Node, field: &str, mistakes: &mut Mistakes) {
        match key {
            "containerQuery" => text(&mut self.container_query, node, field, mistakes),
            "nodeQuery" => text(&mut self.node_query, node, field, mistakes),
            "resources" => mapping(&mut self.resources, node, field, mistakes),
            _ => text(&mut self.container_label, node, field, mistakes),
        }
    }
}
