//! The HPAs as JSON, for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Ask, Hpa, HpasView, Prospect};
use crate::control::hpa_watch::WatchState;
use crate::model::{Miss, ObjectReference, ReferenceKind};

/// `GET /api/hpas`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    /// Whether these are all HPAs as they are, and not those that were seen last, or none.
    known: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    total: usize,
    matching: usize,
    page: usize,
    pages: usize,
    states: BTreeMap<&'static str, usize>,
    hpas: Vec<Row<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    namespace: &'a str,
    name: &'a str,
    state: &'static str,
    metrics: Vec<Metric<'a>>,
    metrics_total: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    #[serde(rename = "metric")]
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Whose pods, or which object.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    selector: String,
    state: &'static str,
    /// What the HPA makes of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// Names in this namespace that may have been meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    near: Vec<&'a str>,
    /// Definitions of the name that are not seen in this namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elsewhere: Vec<String>,
    /// Definitions that answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    definitions: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// Renders a view.
pub(in crate::runtime::admin) fn render(view: &HpasView) -> String {
    let cause = match view.watch.as_ref().map(|report| &report.state) {
        None => Some("this server runs without a cluster"),
        Some(WatchState::Starting) => Some("they have not been listed yet"),
        Some(WatchState::Up) => None,
        Some(WatchState::Down(cause)) => Some(cause.as_str()),
    };
    let answer = Answer {
        known: view.known,
        cause,
        total: view.total,
        matching: view.matching,
        page: view.filter.page,
        pages: view.pages,
        states: view.states.iter().map(|(state, count)| (state.as_str(), *count)).collect(),
        hpas: view.hpas.iter().map(row).collect(),
    };
    let mut text = serde_json::to_string_pretty(&answer).expect("string keys are JSON");
    text.push('\n');
    text
}

fn row(hpa: &Hpa) -> Row<'_> {
    Row {
        namespace: &hpa.namespace,
        name: &hpa.name,
        state: hpa.prospect.as_str(),
        metrics: hpa.asks.iter().map(metric).collect(),
        metrics_total: hpa.total,
    }
}

fn metric(ask: &Ask) -> Metric<'_> {
    let (kind, object) = match &ask.reference.kind {
        ReferenceKind::External => ("External", None),
        ReferenceKind::Pods { target } => ("Pods", Some(target)),
        ReferenceKind::Object { object } => ("Object", Some(object)),
    };
    let object = object.map(|ObjectReference { api_version, kind, name }| Object {
        api_version,
        kind,
        name,
    });
    let selector = &ask.reference.selector;
    let mut metric = Metric {
        name: &ask.reference.metric,
        kind,
        object,
        selector: if selector.is_everything() { String::new() } else { selector.to_string() },
        state: Prospect::of(&ask.outlook).as_str(),
        value: None,
        error: None,
        near: Vec::new(),
        elsewhere: Vec::new(),
        definitions: ask.outlook.definitions.iter().map(ToString::to_string).collect(),
    };
    match &ask.outlook.answer {
        Ok(value) => metric.value = Some(value),
        Err(Miss::Untried) => {}
        Err(Miss::NoMatch { message } | Miss::NoValue { message }) => metric.error = Some(message),
        Err(Miss::Unknown { message, near, elsewhere }) => {
            metric.error = Some(message);
            metric.near = near.iter().map(|name| &**name).collect();
            metric.elsewhere = elsewhere.iter().map(ToString::to_string).collect();
        }
    }
    metric
}
