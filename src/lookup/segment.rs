//! Which path segments can be names of Kubernetes objects.
//!
//! A segment can be anything. In a matcher it is quoted; but a template may put it into a query as it
//! is, where it could break out of its place. Such templates are not asked for what no object can be
//! called.

use crate::rules::RuleMetric;

/// The field by which a template gets values that are not quoted for it.
const RAW: &str = "LabelValuesByName";

/// Whether a rule's template may be given these: it quotes them, or they need no quotes. `*` is what
/// the original puts in place of a namespace.
pub(super) fn may_be_pasted(
    rule: &RuleMetric,
    namespace: Option<&str>,
    name: Option<&str>,
) -> bool {
    !rule.rule.metrics_query().contains(RAW)
        || (namespace.is_none_or(|namespace| {
            namespace.is_empty() || namespace == "*" || is_namespace(namespace)
        }) && name.is_none_or(is_object))
}

/// Whether a namespace can have this name: an RFC 1123 label.
pub(super) fn is_namespace(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether an object can have this name. Most kinds keep to RFC 1123; RBAC's take more, of which only
/// the colon is in use, and metrics of other systems' objects may have capitals and underscores.
pub(super) fn is_object(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    (1..=253).contains(&name.len()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::query::escape_promql;

    proptest! {
        /// What passes stands in a query as it is, in quotes of any kind or in none: it cannot end them.
        #[test]
        fn what_passes_needs_no_quoting(
            text in "[a-zA-Z0-9_.:'\"`{}$ -]{0,8}|[a-z0-9-]{0,70}|.{0,12}",
        ) {
            if is_namespace(&text) || is_object(&text) {
                prop_assert_eq!(escape_promql(&text), text.clone());
                let breaks_out = text.contains(['{', '}', '(', ')', ',', '=', '~', ' ', '$']);
                prop_assert!(!breaks_out, "{text}");
            }
        }
    }

    #[test]
    fn what_could_break_out_of_a_query_is_no_name() {
        for name in ["web-0", "db.primary", "system:node", "A_b"] {
            assert!(is_object(name), "{name}");
        }
        for name in ["", "a\"", "a'", "a`", "a}", "a b", "a|b", "a*", "a\\", "a#", "é", "a\n"] {
            assert!(!is_object(name), "{name}");
            assert!(!is_namespace(name), "{name}");
        }
        assert!(is_namespace("team-a") && !is_namespace("Team") && !is_namespace(".*"));
    }
}
