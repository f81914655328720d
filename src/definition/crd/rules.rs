//! What the API server checks before it takes a resource, in CEL.
//!
//! Responsible for: saying in the API server's terms what the reader of definitions checks as well,
//! as far as that can be said. Not responsible for: what depends on the server config (sources,
//! their regions and roles, defaults), and what would take a parser.
//!
//! Invariant: no rule refuses what the reader takes; a cluster test feeds both the same documents.
//! A rule that computes with a value whose form another rule is about lets one of the wrong form
//! pass, so that one slip of the pen is one line.

mod aws;
mod numbers;
mod spec;

use crate::definition::crd::schema::Validation;
use crate::model::DefinitionKind;

/// Rules and the places that they stand at.
#[derive(Debug, Default)]
pub(super) struct Rules {
    found: Vec<(String, Validation)>,
}

/// Why a value is refused, in Kubernetes' words.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Invalid,
    Required,
    Forbidden,
}

impl Rules {
    /// All rules about a kind of resource, each with its place in the resource's schema.
    pub(super) fn of(kind: DefinitionKind) -> Vec<(String, Validation)> {
        let mut rules = Self::default();
        spec::all(&mut rules, kind);
        if !kind.is_custom() {
            aws::sqs(&mut rules);
            aws::cloudwatch(&mut rules);
            numbers::simulated(&mut rules);
        }
        numbers::all(&mut rules, kind);
        rules.found
    }

    /// A rule about the value at a place.
    fn value(&mut self, at: &str, rule: impl Into<String>, message: impl Into<String>) {
        self.add(at, rule, message, None, Reason::Invalid);
    }

    /// A rule about a field below the value at a place, and what is around it.
    fn field(
        &mut self,
        at: &str,
        (field, reason): (&str, Reason),
        rule: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(at, rule, message, Some(format!(".{field}")), reason);
    }

    fn add(
        &mut self,
        at: &str,
        rule: impl Into<String>,
        message: impl Into<String>,
        field_path: Option<String>,
        reason: Reason,
    ) {
        let reason = match reason {
            Reason::Invalid => None,
            Reason::Required => Some("FieldValueRequired".to_owned()),
            Reason::Forbidden => Some("FieldValueForbidden".to_owned()),
        };
        let validation =
            Validation { rule: rule.into(), message: message.into(), reason, field_path };
        self.found.push((at.to_owned(), validation));
    }

    /// Exactly one of some fields of an object.
    fn exactly_one(&mut self, at: &str, keys: &[&str], more: &str) {
        let has: Vec<String> = keys.iter().map(|key| format!("has(self.{key})")).collect();
        let rule = format!("[{}].exists_one(x, x)", has.join(", "));
        self.value(at, rule, format!("exactly one of {} is needed{more}", keys.join(", ")));
    }
}
