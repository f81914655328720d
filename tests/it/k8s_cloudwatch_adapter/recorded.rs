//! The recording, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

/// Before the namespace in the path of a read.
const VALUES: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn folder() -> PathBuf {
    root().join("tests/recorded/k8s_cloudwatch_adapter")
}

#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) resource: Option<String>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    Do(Doing),
    Read(Box<Read>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Doing {
    #[serde(rename = "do")]
    pub(super) what: String,
    pub(super) resource: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Read {
    request: Request,
    pub(super) aws_answers: Vec<Answer>,
    pub(super) response: Response,
    pub(super) aws_calls: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: Option<Value>,
    identity: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Value,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    /// `sts`, or none.
    #[serde(rename = "for")]
    pub(super) whose: Option<String>,
    pub(super) results: Option<Vec<Series>>,
    #[serde(default)]
    pub(super) messages: Vec<Message>,
    pub(super) next_token: Option<String>,
    pub(super) http_status: Option<u16>,
    pub(super) error: Option<ErrorAnswer>,
    pub(super) raw: Option<String>,
    #[serde(default)]
    pub(super) close: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Series {
    pub(super) id: String,
    pub(super) label: Option<String>,
    pub(super) points: Vec<(i64, Value)>,
    pub(super) status_code: Option<String>,
    #[serde(default)]
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Message {
    pub(super) code: String,
    pub(super) value: String,
}

/// A read of a value.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) namespace: String,
    pub(super) metric: String,
    /// The selector, as text.
    pub(super) selector: String,
}

impl Read {
    /// What is read, if it is a value and nothing about it is special.
    pub(super) fn asked(&self) -> Option<Asked> {
        let Request { method, path, headers, identity } = &self.request;
        if method != "GET" || headers.is_some() || identity.is_some() {
            return None;
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (namespace, metric) = path.strip_prefix(VALUES)?.split_once('/')?;
        let mut selector = String::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("labelSelector", text)) => {
                    selector = percent_decode_str(text).decode_utf8().ok()?.into_owned();
                }
                // That it is not served is the API's.
                Some(("watch", _)) => return None,
                _ => {}
            }
        }
        Some(Asked { namespace: namespace.to_owned(), metric: metric.to_owned(), selector })
    }

    /// The value that the original answered.
    pub(super) fn value(&self) -> Option<&str> {
        if self.response.status != 200 {
            return None;
        }
        let items = self.response.body["items"].as_array().expect("a list of values");
        assert_eq!(items.len(), 1, "{items:?}");
        Some(items[0]["value"].as_str().expect("a quantity"))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let text = std::fs::read(folder().join("cases.json")).expect("the recording is there");
    serde_json::from_slice(&text).expect("the recording can be read")
}

/// The resources of a file: namespace, name and all of it.
pub(super) fn resources(path: &str) -> Vec<(String, String, Value)> {
    let text = std::fs::read_to_string(folder().join(path)).expect("the resource is there");
    let documents = text.split("\n---\n").map(|document| {
        let value: Value = serde_saphyr::from_str(document).expect("YAML");
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let namespace = text("namespace").unwrap_or_else(|| "default".to_owned());
        (namespace, text("name").expect("a name"), value)
    });
    documents.collect()
}

/// The steps that differ on purpose, and why.
pub(super) fn listed() -> BTreeMap<String, String> {
    let path = "deploy/k8s-cloudwatch-adapter/differences.md";
    let text = std::fs::read_to_string(root().join(path)).expect("the page is there");
    let (_, section) = text.split_once("\n## Recorded cases\n").expect("the page has the section");
    let mut listed = BTreeMap::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (ids, reason) = row.split_once(" | ").unwrap_or_else(|| panic!("{path}: {row}"));
        for id in ids.split(['`', ',', ' ']).filter(|id| !id.is_empty()) {
            let before = listed.insert(id.to_owned(), reason.trim_end_matches(" |").to_owned());
            assert_eq!(before, None, "{path}: {id} is there twice");
        }
    }
    listed
}
