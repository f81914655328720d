//! What was recorded, and the list of what may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::promql::Promql;
use super::tap::Heard;

/// One request and its answer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    /// As it was sent, with its query.
    pub(super) path: String,
    /// In place of or besides the usual ones; null takes one away, `cert: false` the certificate.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    pub(super) status: u16,
    /// Parsed JSON, or text.
    pub(super) body: Value,
    /// What the original asked Prometheus for this request.
    #[serde(deserialize_with = "queries")]
    pub(super) promql: Vec<Promql>,
    /// The values are rates.
    #[serde(default, rename = "value", deserialize_with = "is_approximate")]
    pub(super) approximate: bool,
    /// The requests to Prometheus, where they are not plain.
    #[serde(default)]
    pub(super) prom_requests: Vec<RecordedRequest>,
}

/// One start with a rule file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Start {
    pub(super) id: String,
    /// The rule file, below the folder of all recordings.
    pub(super) config: PathBuf,
    /// Whether the original ended by itself.
    pub(super) exits: bool,
}

/// One request to Prometheus.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RecordedRequest {
    method: String,
    path: String,
    params: Vec<(String, String)>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    url_query: Option<String>,
}

impl RecordedRequest {
    pub(super) fn heard(&self) -> Heard {
        let query = self.url_query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        Heard {
            method: self.method.clone(),
            path: format!("{}{query}", self.path),
            parameters: self.params.clone(),
            headers: self.headers.clone(),
        }
    }
}

fn queries<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<Promql>, D::Error> {
    Ok(Vec::<String>::deserialize(input)?.iter().map(|text| Promql::new(text)).collect())
}

fn is_approximate<'de, D: serde::Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(input)? == "approx")
}

/// The folder of all recordings.
pub(super) fn folder() -> PathBuf {
    crate::root().join("tests/recorded/prometheus_adapter")
}

fn load<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = crate::read(&folder().join(path));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of all rule files whose answers were recorded.
pub(super) fn configs() -> Vec<String> {
    let files = std::fs::read_dir(folder().join("configs")).expect("rule files are there");
    let mut names: Vec<String> = files
        .map(|file| file.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn requests(config: &str) -> Vec<Case> {
    load(&format!("cases/{config}.json"))
}

pub(super) fn starts() -> Vec<Start> {
    load("cases/startup.json")
}

/// How the original asked which series there are.
pub(super) fn series_requests(config: &str) -> BTreeSet<Heard> {
    #[derive(Deserialize)]
    struct File {
        series_requests: Vec<RecordedRequest>,
    }
    let file: File = load(&format!("prom/{config}.json"));
    file.series_requests.iter().map(RecordedRequest::heard).collect()
}

/// The cases that may differ, by the documentation: in the section about recorded cases, every word
/// in backquotes of a row's first cell. Each has its reason.
pub(super) fn listed() -> BTreeMap<String, String> {
    let path = "deploy/prometheus-adapter/differences.md";
    let text = std::fs::read_to_string(crate::root().join(path)).expect("the page is there");
    let (_, section) = text.split_once("\n## Recorded cases\n").expect("the page has the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut listed = BTreeMap::new();
    for row in rows {
        let (ids, reason) = row.split_once(" | ").unwrap_or_else(|| panic!("{path}: {row}"));
        for id in ids.split(['`', ',', ' ']).filter(|id| !id.is_empty()) {
            let before = listed.insert(id.to_owned(), reason.trim_end_matches(" |").to_owned());
            assert_eq!(before, None, "{path}: {id} is there twice");
        }
    }
    listed
}
