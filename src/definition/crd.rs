//! The custom resource definitions of the metric kinds: what `kubectl apply` takes, refuses and
//! prints.
//!
//! Responsible for: turning the documents that people write ([`document`](super::document)) and
//! their status ([`status`](super::status)) into what the API server knows of them. Not responsible
//! for: reading resources (`resource`), and what only the server config can tell.
//!
//! Invariant: the API server refuses nothing that the reader of resources takes. What it takes and
//! the reader refuses is said in the resource's status.

mod forms;
mod rules;
mod scalars;
mod schema;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::definition::bounds::{BOUNDS, Bound};
use crate::definition::cloudwatch::UNITS;
use crate::definition::document::{API_VERSION, Spec};
use crate::definition::objects::EXTERNAL_ONLY;
use crate::definition::status::Status;
use crate::model::DefinitionKind;
use forms::{ACCOUNT, PRINTABLE, QUANTITY};
use rules::Rules;
use schema::Schema;

/// A `CustomResourceDefinition` (`apiextensions.k8s.io/v1`) of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Crd {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: CrdSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Metadata {
    name: String,
    annotations: BTreeMap<&'static str, &'static str>,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct CrdSpec {
    group: &'static str,
    scope: &'static str,
    names: Names,
    versions: [Version; 1],
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    kind: &'static str,
    list_kind: String,
    plural: &'static str,
    singular: String,
    #[serde(rename = "shortNames")]
    short: [&'static str; 1],
    categories: [&'static str; 1],
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: &'static str,
    served: bool,
    storage: bool,
    additional_printer_columns: Vec<Column>,
    subresources: serde_json::Value,
    schema: VersionSchema,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    open_api_v3_schema: Schema,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    name: &'static str,
    r#type: &'static str,
    description: &'static str,
    json_path: &'static str,
}

/// Quantities of made-up signals. Their form is a pattern: there may be a thousand of them, and the
/// API server has no time for as many rules.
const SIMULATED_NUMBERS: [&str; 8] = [
    "constant",
    "ramp.from",
    "ramp.to",
    "steps[].value",
    "wave.min",
    "wave.max",
    "noise.min",
    "noise.max",
];

/// What cannot be left out. The types have it all optional, for the reader's sake.
const REQUIRED: [(&str, &[&str]); 12] = [
    ("spec.namespaceSelector.matchExpressions[]", &["key", "operator"]),
    ("spec.prometheus", &["query"]),
    ("spec.sqs", &["queues"]),
    ("spec.cloudwatch.metric", &["namespace", "name", "statistic"]),
    ("spec.cloudwatch.queries[]", &["id"]),
    ("spec.cloudwatch.queries[].metric", &["namespace", "name", "statistic"]),
    ("spec.simulated.ramp", &["from", "to", "over"]),
    ("spec.simulated.steps[]", &["value", "for"]),
    ("spec.simulated.wave", &["min", "max", "period"]),
    ("spec.simulated.noise", &["min", "max"]),
    ("status.conditions[]", &["type", "status", "reason", "message", "lastTransitionTime"]),
    ("status.current[]", &["value"]),
];

impl Crd {
    /// Those of all kinds of our group, in the order of [`DefinitionKind::ALL`].
    ///
    /// # Errors
    /// When a type of documents cannot be said in a structural schema: a defect, which the tests of
    /// this module would find first.
    pub fn all() -> Result<Vec<Self>, serde_json::Error> {
        DefinitionKind::ALL.into_iter().map(Self::of).collect()
    }

    /// The resource's name: `externalmetrics.tidepole.dev`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    fn of(kind: DefinitionKind) -> Result<Self, serde_json::Error> {
        let (_, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
        let names = Names {
            kind: kind.as_str(),
            list_kind: format!("{}List", kind.as_str()),
            plural: kind.plural(),
            singular: kind.as_str().to_lowercase(),
            short: [short_name(kind)],
            categories: ["tidepole"],
        };
        Ok(Self {
            api_version: "apiextensions.k8s.io/v1",
            kind: "CustomResourceDefinition",
            metadata: Metadata {
                name: format!("{}.{}", kind.plural(), kind.group()),
                // With the definition of a kind all of its resources go: not by an uninstallation.
                annotations: BTreeMap::from([("helm.sh/resource-policy", "keep")]),
                labels: BTreeMap::from([("app.kubernetes.io/name", "tidepole")]),
            },
            spec: CrdSpec {
                group: kind.group(),
                scope: if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
                names,
                versions: [Version {
                    name: version,
                    served: true,
                    storage: true,
                    additional_printer_columns: columns(),
                    subresources: json!({ "status": {} }),
                    schema: VersionSchema { open_api_v3_schema: resource(kind)? },
                }],
            },
        })
    }
}

fn short_name(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::ExternalMetric | DefinitionKind::AwsExternalMetric => "tpem",
        DefinitionKind::ClusterExternalMetric => "tpcem",
        DefinitionKind::CustomMetric => "tpcm",
        DefinitionKind::ClusterCustomMetric => "tpccm",
    }
}

fn columns() -> Vec<Column> {
    let column =
        |name, r#type, json_path, description| Column { name, r#type, description, json_path };
    vec![
        column("Metric", "string", ".status.metric", "The name that HPAs ask for"),
        column("Source", "string", ".status.source", "Who is asked, and how"),
        column("Value", "string", ".status.value", "The value, or how many series there are"),
        column("Sampled", "date", ".status.sampledAt", "How old the sample is"),
        column(
            "Ready",
            "string",
            ".status.conditions[?(@.type==\"Ready\")].status",
            "Whether HPAs get a value",
        ),
        column(
            "Reason",
            "string",
            ".status.conditions[?(@.type==\"Ready\")].reason",
            "Why, or why not",
        ),
        column("Age", "date", ".metadata.creationTimestamp", "How old the resource is"),
    ]
}

/// What `kubectl explain` says of a kind.
fn description(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::ExternalMetric | DefinitionKind::AwsExternalMetric => {
            "ExternalMetric defines a metric that HPAs of its own namespace can ask for, as a metric of type External. It is read from Prometheus, Amazon SQS or Amazon CloudWatch, or made up."
        }
        DefinitionKind::ClusterExternalMetric => {
            "ClusterExternalMetric defines a metric that HPAs of all namespaces, or of those that it selects, can ask for, as a metric of type External. It is read from Prometheus, Amazon SQS or Amazon CloudWatch, or made up."
        }
        DefinitionKind::CustomMetric => {
            "CustomMetric defines a metric of pods or other objects of its own namespace, which HPAs can ask for as a metric of type Pods or Object. It is read from Prometheus."
        }
        DefinitionKind::ClusterCustomMetric => {
            "ClusterCustomMetric defines a metric of pods or other objects of all namespaces, or of those that it selects, which HPAs can ask for as a metric of type Pods or Object. It is read from Prometheus."
        }
    }
}

/// The schema of a resource.
fn resource(kind: DefinitionKind) -> Result<Schema, serde_json::Error> {
    let text = |description: &str| Schema {
        description: Some(description.to_owned()),
        r#type: Some("string".to_owned()),
        ..Schema::default()
    };
    let mut schema = Schema {
        description: Some(description(kind).to_owned()),
        r#type: Some("object".to_owned()),
        required: vec!["spec".to_owned()],
        ..Schema::default()
    };
    let metadata = Schema { r#type: Some("object".to_owned()), ..Schema::default() };
    schema.properties = BTreeMap::from([
        ("apiVersion".to_owned(), text("The version of the API that this is written for.")),
        ("kind".to_owned(), text("The kind of resource.")),
        ("metadata".to_owned(), metadata),
        ("spec".to_owned(), schema::of::<Spec>()?),
        ("status".to_owned(), status()?),
    ]);
    for (path, bound) in BOUNDS {
        limit(&mut schema, path, bound);
    }
    say(&mut schema);
    for path in foreign(kind) {
        schema.remove(&path);
    }
    if kind.is_custom()
        && let Some(spec) = schema.at("spec")
    {
        // Prometheus is the only source that metrics of objects have.
        spec.required = ["resource", "prometheus"].map(str::to_owned).to_vec();
    }
    for (path, validation) in Rules::of(kind) {
        if let Some(place) = schema.at(&path) {
            place.validations.push(validation);
        }
    }
    Ok(schema)
}

fn limit(schema: &mut Schema, path: &str, bound: Bound) {
    let Some(place) = schema.at(path) else { return };
    // A bound of none or more is no bound.
    let at_least = |least: usize| (least > 0).then_some(least);
    match bound {
        Bound::Text { least, most } => {
            place.min_length = at_least(least);
            place.max_length = Some(most);
        }
        Bound::Items { least, most } => {
            place.min_items = at_least(least);
            place.max_items = Some(most);
        }
        Bound::Pairs(most) => place.max_properties = Some(most),
    }
}

/// Defaults, choices, and how lists are merged: what has words of its own in a schema.
fn say(schema: &mut Schema) {
    for (path, fields) in REQUIRED {
        if let Some(object) = schema.at(path) {
            object.required = fields.iter().map(|field| (*field).to_owned()).collect();
        }
    }
    let defaults = [
        ("spec.scale", json!(1)),
        ("spec.offset", json!(0)),
        ("spec.allowNegative", json!(false)),
        ("spec.keepWarm", json!(false)),
        ("spec.aggregate", json!("none")),
        ("spec.sqs.count", json!(["visible", "inFlight"])),
        ("spec.simulated.noise.seed", json!(0)),
    ];
    for (path, default) in defaults {
        if let Some(place) = schema.at(path) {
            place.default = Some(default);
        }
    }
    for path in ["spec.sqs.queues", "spec.sqs.count"] {
        if let Some(list) = schema.at(path) {
            list.list_type = Some("set".to_owned());
        }
    }
    for (path, key) in [("spec.cloudwatch.queries", "id"), ("status.conditions", "type")] {
        if let Some(list) = schema.at(path) {
            list.list_type = Some("map".to_owned());
            list.list_map_keys = vec![key.to_owned()];
        }
    }
    for metric in ["spec.cloudwatch.metric", "spec.cloudwatch.queries[].metric"] {
        if let Some(unit) = schema.at(&format!("{metric}.unit")) {
            unit.r#enum = UNITS.map(Into::into).to_vec();
        }
        if let Some(account) = schema.at(&format!("{metric}.accountId")) {
            account.pattern = Some(ACCOUNT.to_owned());
        }
        if let Some(value) = schema.at(&format!("{metric}.dimensions{{}}")) {
            value.pattern = Some(PRINTABLE.to_owned());
        }
    }
    for number in SIMULATED_NUMBERS {
        if let Some(number) = schema.at(&format!("spec.simulated.{number}")) {
            number.pattern = Some(QUANTITY.to_owned());
        }
    }
    // The one duration that may be 0, which is no text without quotes.
    if let Some(delay) = schema.at("spec.cloudwatch.delay") {
        delay.r#type = None;
        delay.min_length = None;
        delay.int_or_string = true;
    }
}

/// Fields that a kind has not.
fn foreign(kind: DefinitionKind) -> Vec<String> {
    let mut fields = Vec::new();
    if kind.is_custom() {
        fields.extend(EXTERNAL_ONLY.map(|(key, _)| format!("spec.{key}")));
    } else {
        // Recordings are files, which no tenant may name.
        let others = ["spec.resource", "spec.prometheus.objectLabel", "spec.simulated.csv"];
        fields.extend(others.map(str::to_owned));
    }
    if kind.is_namespaced() {
        fields.extend(["spec.namespaces", "spec.namespaceSelector"].map(str::to_owned));
    }
    fields
}

fn status() -> Result<Schema, serde_json::Error> {
    let mut status = schema::of::<Status>()?;
    let times = ["sampledAt", "nextRefresh", "lastError.at", "conditions[].lastTransitionTime"];
    for path in times {
        if let Some(time) = status.at(path) {
            time.format = Some("date-time".to_owned());
        }
    }
    if let Some(state) = status.at("conditions[].status") {
        state.r#enum = ["True", "False", "Unknown"].map(Into::into).to_vec();
    }
    Ok(status)
}

#[cfg(test)]
mod tests;
