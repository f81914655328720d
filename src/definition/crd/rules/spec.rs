//! Rules about who is asked for what, and who sees it.

use crate::definition::crd::forms::{
    DNS_LABEL, DNS_SUBDOMAIN, LABEL_KEY, LABEL_VALUE, NOT_IN_METRIC, NOT_IN_OBJECT_LABEL, literal,
    matches,
};
use crate::definition::crd::rules::numbers::duration;
use crate::definition::crd::rules::{Reason, Rules};
use crate::definition::question::KINDS;
use crate::model::DefinitionKind;
use crate::model::query::NAMESPACE_PLACEHOLDER;
use crate::model::query::about::OBJECTS_PLACEHOLDER;

const NO_LABEL_KEY: &str = "not a valid label key, so no selector could name it: letters, digits, \"-\", \"_\" and \".\", at most 63, beginning and ending with a letter or digit, after an optional DNS prefix and \"/\"";
const NO_LABEL_VALUE: &str = "not a valid label value, so no selector could match it: at most 63 letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit";
const NO_METRIC: &str = "a metric name must not be \".\" or \"..\" and must not contain \"/\", \"%\", white space or control characters";
const RESERVED: &str = "the metric names status and finalize are taken by Kubernetes' path grammar and can never be read; choose another";

pub(super) fn all(rules: &mut Rules, kind: DefinitionKind) {
    metric(rules, kind);
    if kind.is_custom() {
        objects(rules);
    } else {
        let keys = KINDS.map(|(key, _)| key);
        rules.exactly_one("spec", &keys, "");
        labels(rules, "spec.labels");
    }
    if !kind.is_namespaced() {
        namespaces(rules);
    }
    prometheus(rules);
    keep_warm(rules, kind);
}

fn metric(rules: &mut Rules, kind: DefinitionKind) {
    let rule = format!("!(self in ['.', '..']) && !{}", matches("self", NOT_IN_METRIC));
    rules.value("spec.metric", rule, NO_METRIC);
    if !kind.is_custom() {
        rules.value("spec.metric", "!(self.lowerAscii() in ['status', 'finalize'])", RESERVED);
        rules.value(
            "",
            "has(self.spec.metric) || !(self.metadata.name in ['status', 'finalize'])",
            format!("spec.metric is not set, so that metadata.name names the metric: {RESERVED}"),
        );
    }
}

fn labels(rules: &mut Rules, at: &str) {
    rules.value(at, format!("self.all(key, {})", matches("key", LABEL_KEY)), NO_LABEL_KEY);
    rules.value(&format!("{at}{{}}"), matches("self", LABEL_VALUE), NO_LABEL_VALUE);
}

fn objects(rules: &mut Rules) {
    rules.value(
        "spec.resource",
        matches("self", DNS_SUBDOMAIN),
        "not a resource: <plural>[.<group>] in lower case, like pods, deployments.apps or ingresses.networking.k8s.io",
    );
    rules.value(
        "spec.prometheus.objectLabel",
        format!("!{}", matches("self", NOT_IN_OBJECT_LABEL)),
        "not a name of a label of a series",
    );
    let at = "spec.prometheus.query";
    // Placeholders out, what is left of a dollar sign and a word is none.
    rules.value(
        at,
        format!(
            "!self.replace('{OBJECTS_PLACEHOLDER}', ' ').replace('{NAMESPACE_PLACEHOLDER}', ' ').matches({})",
            literal("[$][A-Za-z0-9_]")
        ),
        format!("unknown placeholder; there are {OBJECTS_PLACEHOLDER} and {NAMESPACE_PLACEHOLDER}"),
    );
    rules.value(
        at,
        format!("!{}", matches("self", r#"=\s*["'`][$]objects"#)),
        format!("{OBJECTS_PLACEHOLDER} stands for a regular expression; compare it with =~ or !~, not with = or !="),
    );
}

fn namespaces(rules: &mut Rules) {
    rules.field(
        "spec",
        ("namespaceSelector", Reason::Forbidden),
        "!has(self.namespaces) || !has(self.namespaceSelector)",
        "namespaces and namespaceSelector exclude each other",
    );
    rules.value(
        "spec.namespaces[]",
        matches("self", DNS_LABEL),
        "not a valid name of a namespace: at most 63 lower-case letters, digits and \"-\", beginning and ending with a letter or digit",
    );
    let selector = "spec.namespaceSelector";
    labels(rules, &format!("{selector}.matchLabels"));
    let item = format!("{selector}.matchExpressions[]");
    rules.value(&format!("{item}.key"), matches("self", LABEL_KEY), NO_LABEL_KEY);
    rules.value(&format!("{item}.values[]"), matches("self", LABEL_VALUE), NO_LABEL_VALUE);
    let any = "has(self.values) && size(self.values) > 0";
    rules.field(
        &item,
        ("values", Reason::Required),
        format!("!(self.operator in ['In', 'NotIn']) || ({any})"),
        "In and NotIn need at least one value",
    );
    rules.field(
        &item,
        ("values", Reason::Forbidden),
        format!("self.operator in ['In', 'NotIn'] || !({any})"),
        "Exists and DoesNotExist take no values",
    );
}

fn prometheus(rules: &mut Rules) {
    rules.value("spec.prometheus.query", matches("self", r"[^\s]"), "the query is empty");
    duration(rules, "spec.prometheus.lookbackDelta", true);
}

/// What is refreshed unread must be known in full.
fn keep_warm(rules: &mut Rules, kind: DefinitionKind) {
    let asks = |word: &str| {
        format!(
            "!self.keepWarm || !has(self.prometheus) || !self.prometheus.query.contains('{word}')"
        )
    };
    if kind.is_custom() {
        rules.field(
            "spec",
            ("keepWarm", Reason::Invalid),
            asks(OBJECTS_PLACEHOLDER),
            "keepWarm needs a query without $objects: for which objects a definition is to be refreshed is known by its reads alone",
        );
    }
    if !kind.is_namespaced() {
        let kin = if kind.is_custom() { "a CustomMetric" } else { "an ExternalMetric" };
        rules.field(
            "spec",
            ("keepWarm", Reason::Invalid),
            asks(NAMESPACE_PLACEHOLDER),
            format!("keepWarm needs a query without $namespace, or {kin}: for which namespaces a cluster-wide definition is to be refreshed is known by their reads alone"),
        );
    }
}
