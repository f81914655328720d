//! The text of a query: matchers from selectors, namespaces and objects, and the template around
//! them.
//!
//! Responsible for: what the original sends, to the letter. Values of a set and names of objects
//! are joined to a regular expression without escaping, as there: what readers get is told apart
//! by name afterwards.
//!
//! Invariants: two texts of one identity write the same for the same names.

mod divisible;
pub(in crate::rules) mod promql;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use crate::model::{Cause, FetchError, Operator, Requirement, Selector, WriteText};
use crate::rules::rule::{Place, Rule};
use crate::rules::template::{Fields, Value};

/// What stands for all names in the question about all objects: a regular expression that every
/// name matches and that series without the label do not. Left out, the matcher would let such
/// series in, which no question about an object sees and which can make a division ambiguous.
const ALL_NAMES: &str = ".+";

/// Matchers in their order, and what templates find of them in `.LabelValuesByName`.
#[derive(Clone, Debug, Default)]
pub(super) struct Matchers {
    list: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Matchers {
    /// The matchers of a selector's requirements.
    ///
    /// # Errors
    /// When Prometheus has no such comparison.
    pub(super) fn of(selector: &Selector) -> Result<Self, String> {
        let mut matchers = Self::default();
        for requirement in selector.requirements() {
            let Requirement { key, operator, values } = requirement;
            let value = values.join("|");
            let comparison = match operator {
                Operator::Equals | Operator::DoesNotExist => "=",
                Operator::NotEquals | Operator::Exists => "!=",
                Operator::In => "=~",
                Operator::NotIn => "!~",
                Operator::GreaterThan | Operator::LessThan => {
                    return Err(format!(
                        "{key} is compared by size, which Prometheus cannot do with labels"
                    ));
                }
            };
            matchers.push(key, comparison, value);
        }
        Ok(matchers)
    }

    /// Adds one. Of several on one label the last is in `.LabelValuesByName`.
    pub(super) fn push(&mut self, label: &str, comparison: &str, value: String) {
        self.list.push(format!("{label}{comparison}{}", quoted(&value)));
        self.values.insert(label.to_owned(), value);
    }

    /// Adds that of objects: by name, or by a pattern of names.
    fn push_names(&mut self, label: &str, names: &[impl AsRef<str>]) {
        if let [one] = names {
            return self.push(label, "=", one.as_ref().to_owned());
        }
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        self.push(label, "=~", names.join("|"));
    }
}

/// Executes a rule's template.
///
/// # Errors
/// When the template fails, or gives nothing.
pub(super) fn render(
    rule: &Rule,
    series: &str,
    matchers: Matchers,
    group_by: &[&str],
) -> Result<String, String> {
    let fields: Fields = BTreeMap::from([
        ("Series", Value::String(series.to_owned())),
        ("LabelMatchers", Value::String(matchers.list.join(","))),
        ("LabelValuesByName", Value::Map(matchers.values)),
        ("GroupBy", Value::String(group_by.join(","))),
        ("GroupBySlice", Value::Slice(group_by.iter().map(|&label| label.to_owned()).collect())),
    ]);
    let text = rule.query.execute(&fields).map_err(|error| {
        format!("metricsQuery of {} cannot be executed: {error}", rule.place.field)
    })?;
    if text.is_empty() {
        return Err(format!("metricsQuery of {} gives an empty query", rule.place.field));
    }
    Ok(text)
}

/// The text of a question about objects, complete but for their names.
#[derive(Debug)]
pub(super) struct RuleText {
    identity: String,
    rule: Arc<Rule>,
    series: Arc<str>,
    /// All but that of the objects.
    matchers: Matchers,
    label: Arc<str>,
    divisible: OnceLock<bool>,
}

impl RuleText {
    /// A text. `label` holds the objects' names.
    ///
    /// # Errors
    /// When the template fails for a name like any other.
    pub(super) fn new(
        rule: &Arc<Rule>,
        series: &Arc<str>,
        matchers: Matchers,
        label: &Arc<str>,
    ) -> Result<Self, String> {
        // All that the text is made of, but for the names.
        let mut identity = format!("{:?} on {series:?}", rule.query_text);
        for matcher in &matchers.list {
            let _ = write!(identity, " {matcher}");
        }
        let _ = write!(identity, " by {label:?}");
        let text = Self {
            identity,
            rule: Arc::clone(rule),
            series: Arc::clone(series),
            matchers,
            label: Arc::clone(label),
            divisible: OnceLock::new(),
        };
        text.for_names(&["name"])?;
        Ok(text)
    }

    fn for_names(&self, names: &[impl AsRef<str>]) -> Result<String, String> {
        let mut matchers = self.matchers.clone();
        matchers.push_names(&self.label, names);
        render(&self.rule, &self.series, matchers, &[&self.label])
    }

    fn for_all(&self) -> Result<String, String> {
        let mut matchers = self.matchers.clone();
        matchers.push(&self.label, "=~", ALL_NAMES.to_owned());
        render(&self.rule, &self.series, matchers, &[&self.label])
    }

    /// The query about all objects must be exact for each, and its text must be that about some,
    /// but for their names: a template can do anything with these.
    fn divides(&self) -> Option<()> {
        let shape = |text: String, comparison: &str, value: &str| {
            divisible::shape(&text, &self.label, comparison, value)
        };
        let all = shape(self.for_all().ok()?, "=~", ALL_NAMES)?;
        let one = shape(self.for_names(&["tidepole"]).ok()?, "=", "tidepole")?;
        let some = self.for_names(&["tidepole-a", "tidepole-b-0", "c"]).ok()?;
        let some = shape(some, "=~", "tidepole-a|tidepole-b-0|c")?;
        (all == one && all == some).then_some(())
    }
}

impl WriteText for RuleText {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn write(&self, names: Option<&[Arc<str>]>) -> Result<String, FetchError> {
        let text = match names {
            Some(names) => self.for_names(names),
            None => self.for_all(),
        };
        text.map_err(|message| FetchError::Invalid(Cause::new(message)))
    }

    fn is_divisible(&self) -> bool {
        *self.divisible.get_or_init(|| self.divides().is_some())
    }

    fn object_label(&self) -> &str {
        &self.label
    }

    fn ruled(&self) -> Option<(String, String)> {
        let Place { path, line, .. } = self.rule.place();
        Some((self.rule.metric_name(&self.series)?, format!("{}:{line}", path.display())))
    }
}

/// A string as Go's `%q` writes it, which is how `PromQL` reads it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            _ if is_printable(c) => out.push(c),
            _ => {
                let code = u32::from(c);
                let _ = match code {
                    0..0x80 => write!(out, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

/// As Go's `unicode.IsPrint`, but for marks that combine: an escape means the same.
fn is_printable(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests;
