//! The `status` of a metric resource, as it is written.
//!
//! Responsible for: its shape. Not responsible for: what stands in it, and when it is written
//! (`control`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most series whose values a status lists.
pub const MAX_VALUES: usize = 5;

/// Most HPAs that a status names, of those that read the metric and of those that ask for it in
/// vain.
pub const MAX_HPAS: usize = 10;

/// What became of a metric resource, and what it gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The `metadata.generation` that this is about.
    pub observed_generation: i64,
    /// `Accepted`, `Ready` and `Fresh`.
    pub conditions: Vec<Condition>,
    /// The metric's name as HPAs ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Who is asked, and how: `main (prometheus)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The value as it is served, as a quantity, or how many series there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The values of the first series.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub current: Vec<CurrentValue>,
    /// The time of the sample, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_at: Option<String>,
    /// The newest trouble, also while an earlier value is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// When the source is asked next, RFC 3339; none while nobody wants the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_refresh: Option<String>,
    /// The HPAs that read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_by: Option<UsedBy>,
    /// HPAs that ask for a metric of this name in a namespace in which this one is not seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed_by: Vec<HpaReference>,
}

/// One condition, as `metav1.Condition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Accepted`, `Ready` or `Fresh`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When `status` changed last, RFC 3339.
    pub last_transition_time: String,
    /// The `metadata.generation` that this is about.
    pub observed_generation: i64,
}

/// The value of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CurrentValue {
    /// The series' labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The value as it is served, as a quantity.
    pub value: String,
}

/// The newest trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastError {
    /// One word for programs: that of the condition.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// When, RFC 3339.
    pub at: String,
}

/// Who reads a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UsedBy {
    /// How many HPAs.
    pub count: u32,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hpas: Vec<HpaReference>,
}

/// An HPA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why it gets no value, if it gets none: a selector that matches no series, for instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
