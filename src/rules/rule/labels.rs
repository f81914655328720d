//! Labels that stand for resources.
//!
//! The two directions are not symmetric, as in the original: a label is *read* by a regular
//! expression that the template makes, in which literal text is a pattern as well, and what it
//! finds may be a plural, a kind or the beginning of a group; a label is *written* by executing the
//! template with the singular name and the whole group.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rules::regex::GoRegex;
use crate::rules::template::{Fields, Template, Value};

/// `resources`: which labels stand for which resources.
#[derive(Debug)]
pub(in crate::rules) struct Mapping {
    /// `template`.
    pub(in crate::rules) template: Option<LabelTemplate>,
    /// `overrides`, in the order of the file.
    pub(in crate::rules) overrides: Vec<Override>,
    /// Whether external metrics are asked for in one namespace.
    pub(in crate::rules) namespaced: bool,
}

/// One label of `overrides`, as written.
#[derive(Debug)]
pub(in crate::rules) struct Override {
    pub(in crate::rules) label: Arc<str>,
    /// May be the beginning of a group, or empty.
    pub(in crate::rules) group: Arc<str>,
    /// Plural, singular or kind.
    pub(in crate::rules) resource: Arc<str>,
}

/// `template`: the form of labels that stand for resources.
#[derive(Debug)]
pub(in crate::rules) struct LabelTemplate {
    template: Template,
    reader: GoRegex,
}

const GROUP: &str = "(?P<group>.+?)";
const RESOURCE: &str = "(?P<resource>.+?)";

impl LabelTemplate {
    /// A template and the expression that reads what it writes.
    ///
    /// # Errors
    /// When it cannot be executed, or gives nothing that tells resources apart.
    pub(in crate::rules) fn new(text: &str, template: Template) -> Result<Self, String> {
        let pattern = template
            .execute(&fields(GROUP, RESOURCE))
            .map_err(|error| format!("the template {text:?} cannot be executed: {error}"))?;
        if pattern.is_empty() {
            return Err(format!("the template {text:?} gives an empty label"));
        }
        // Go's other way to write a named group counts as well.
        if !pattern.contains("(?P<resource>") && !pattern.contains("(?<resource>") {
            return Err(format!("the template {text:?} must include at least <<.Resource>>"));
        }
        let reader = GoRegex::new(&format!("^{pattern}$")).map_err(|error| {
            format!("the template {text:?} gives no regular expression: {error}")
        })?;
        Ok(Self { template, reader })
    }

    /// The group and the resource in a label, as they stand there; none when it has another form.
    pub(in crate::rules) fn read<'l>(&self, label: &'l str) -> Option<(&'l str, &'l str)> {
        let found = self.reader.named(label)?;
        // Of several groups with one name the last counts.
        let last = |name: &str| found.iter().rev().find(|(n, _)| n == name).map(|(_, t)| *t);
        Some((last("group").unwrap_or(""), last("resource").unwrap_or("")))
    }

    /// The label of a resource.
    ///
    /// # Errors
    /// When the template fails for it.
    pub(in crate::rules) fn write(&self, group: &str, singular: &str) -> Result<String, String> {
        let group = group.replace(['.', '-'], "_");
        let label = self
            .template
            .execute(&fields(&group, singular))
            .map_err(|error| format!("the label template cannot be executed: {error}"))?;
        if label.is_empty() {
            return Err(format!("the label template gives an empty label for {singular}"));
        }
        Ok(label)
    }
}

fn fields(group: &str, resource: &str) -> Fields {
    BTreeMap::from([
        ("Group", Value::String(group.to_owned())),
        ("Resource", Value::String(resource.to_owned())),
    ])
}
