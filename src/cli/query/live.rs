//! A metric as a running server gives it to an HPA: through the API aggregator, as whoever runs the
//! command.
//!
//! Responsible for: which paths are asked, what the items come to, and what is told of a failure.
//! Not responsible for: finding the cluster ([`crate::runtime::api_server`]), what to do about a
//! failure (`advice`).
//!
//! Invariants: one GET for a value, more only after a failure; nothing is written.

mod advice;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{QueryArgs, Refusal};
use crate::model::{Decimal, Quantity, ResourceDirectory, Selector};
use crate::objects::BuiltInResources;
use crate::runtime::api_server::{ApiServer, NoAnswer, Reply, Way};
pub(super) use table::render;

/// The group of external metrics, and its one version.
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The group of metrics of objects.
const CUSTOM: &str = "custom.metrics.k8s.io";

/// What is encoded in a segment or a value: everything but RFC 3986's unreserved characters and
/// the `*` that stands for all objects.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

/// What a running server says. The keys are stable: scripts read them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The API server's address.
    pub(super) server: String,
    /// The kubeconfig's context; none in a pod.
    pub(super) context: Option<String>,
    /// The metric as asked for: its name, or RESOURCE/METRIC.
    pub(super) metric: String,
    /// The namespace that reads; none for objects outside of namespaces.
    pub(super) namespace: Option<String>,
    /// The selector, empty for all.
    pub(super) selector: String,
    /// The paths that were asked, or would be.
    pub(super) requests: Vec<String>,
    /// Nothing was sent.
    pub(super) dry_run: bool,
    /// The sum of the items, or the average over several objects, as an HPA takes it; a quantity.
    pub(super) value: Option<String>,
    /// The items of the answer.
    pub(super) items: Vec<Item>,
    /// Why there is no value.
    pub(super) error: Option<Failure>,
}

/// One item.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// `Kind/name`; none for an external metric.
    pub(super) object: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) timestamp: Option<String>,
    /// None where the server gives no time.
    pub(super) age_seconds: Option<f64>,
    /// The quantity as the server writes it.
    pub(super) value: String,
}

/// Why there is no value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    /// The HTTP status.
    pub(super) code: u16,
    /// The reason of the `Status`; empty if the answer was none.
    pub(super) reason: String,
    /// What an HPA reads.
    pub(super) message: String,
    /// What to do, a sentence or a command each.
    pub(super) advice: Vec<String>,
}

/// What is read.
enum Asked {
    External(String),
    Objects { word: String, metric: String, namespaced: bool, names: Vec<String> },
}

/// A list of either group.
#[derive(Deserialize)]
struct List {
    items: Vec<ListItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListItem {
    #[serde(default)]
    described_object: Option<Described>,
    #[serde(default)]
    metric_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    timestamp: Option<String>,
    value: String,
}

#[derive(Deserialize)]
struct Described {
    kind: String,
    #[serde(default)]
    name: String,
}

/// Asks.
///
/// # Errors
/// When there is nobody to ask, or it cannot be told what is meant.
pub(super) async fn report(args: &QueryArgs) -> Result<Report, Refusal> {
    let asked = Asked::read(args)?;
    let way = Way { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    let server = ApiServer::find(&way).await.map_err(|error| refused(&error))?;
    let namespace = match &asked {
        Asked::Objects { namespaced: false, .. } => None,
        _ => Some(args.namespace.clone().unwrap_or_else(|| server.namespace.clone())),
    };
    let mut report = Report {
        server: server.url.clone(),
        context: server.context.clone(),
        metric: asked.to_string(),
        selector: args.selector.as_ref().map(ToString::to_string).unwrap_or_default(),
        requests: asked.paths(namespace.as_deref(), args, "v1beta2"),
        namespace,
        dry_run: args.dry_run,
        value: None,
        items: Vec::new(),
        error: None,
    };
    if args.dry_run {
        return Ok(report);
    }
    let mut reply = ask(&server, &mut report).await?;
    if let Asked::Objects { .. } = asked
        && reply.as_ref().is_some_and(|reply| reply.status == 404)
        && advice::has_only_v1beta1(&server).await
    {
        report.requests = asked.paths(report.namespace.as_deref(), args, "v1beta1");
        report.items.clear();
        reply = ask(&server, &mut report).await?;
    }
    match reply {
        Some(reply) => {
            report.items.clear();
            report.error = Some(advice::failure(&server, &asked, &report, &reply).await);
        }
        None => report.sum(&asked)?,
    }
    Ok(report)
}

/// Asks every path; the first answer that is a failure, otherwise the items are in the report.
async fn ask(server: &ApiServer, report: &mut Report) -> Result<Option<Reply>, Refusal> {
    for path in &report.requests {
        let reply = server.get(path).await.map_err(|error| refused(&error))?;
        if reply.status != 200 {
            return Ok(Some(reply));
        }
        let list: List = serde_json::from_slice(&reply.body).map_err(|error| {
            Refusal::input(format!("the answer to {path} is no list of metric values: {error}"))
        })?;
        let now = Timestamp::now();
        report.items.extend(list.items.into_iter().map(|item| item.shown(now)));
    }
    Ok(None)
}

impl Asked {
    fn read(args: &QueryArgs) -> Result<Self, Refusal> {
        let wanted = args.wanted.as_deref().unwrap_or_default();
        let (word, metric) = wanted.split_once('/').unwrap_or(("external", wanted));
        if metric.is_empty() || metric.contains('/') || word.is_empty() {
            return Err(Refusal::Usage(format!(
                "{wanted:?} is no metric; give an external metric's name, or RESOURCE/METRIC such as pods/http_requests"
            )));
        }
        if word == "external" {
            if !args.names.is_empty() || args.metric_selector.is_some() {
                return Err(Refusal::Usage(
                    "--name and --metric-selector are for metrics of objects, such as pods/http_requests; an external metric is chosen by --selector".to_owned(),
                ));
            }
            return Ok(Self::External(metric.to_owned()));
        }
        let known = BuiltInResources::new().resolve_path(word);
        Ok(Self::Objects {
            word: word.to_owned(),
            metric: metric.to_owned(),
            namespaced: known.is_none_or(|resource| resource.namespaced || is_namespaces(word)),
            names: args.names.clone(),
        })
    }

    fn group(&self) -> &'static str {
        match self {
            Self::External(_) => EXTERNAL,
            Self::Objects { .. } => CUSTOM,
        }
    }

    /// The paths of the reads. `version` is that of metrics of objects.
    fn paths(&self, namespace: Option<&str>, args: &QueryArgs, version: &str) -> Vec<String> {
        let place = namespace.map(|name| format!("/namespaces/{}", encoded(name)));
        let place = place.unwrap_or_default();
        let parameter = |name: &str, selector: Option<&Selector>| {
            let text = selector.map(ToString::to_string).filter(|text| !text.is_empty());
            text.map(|text| format!("{name}={}", encoded(&text)))
        };
        let with = |path: String, parameters: [Option<String>; 2]| {
            let all: Vec<String> = parameters.into_iter().flatten().collect();
            if all.is_empty() { path } else { format!("{path}?{}", all.join("&")) }
        };
        let labels = parameter("labelSelector", args.selector.as_ref());
        match self {
            Self::External(metric) => {
                let path = format!("/apis/{EXTERNAL}/v1beta1{place}/{}", encoded(metric));
                vec![with(path, [labels, None])]
            }
            Self::Objects { word, metric, names, .. } => {
                let of_metric = parameter("metricLabelSelector", args.metric_selector.as_ref());
                let base = format!("/apis/{CUSTOM}/{version}{place}");
                let metric = encoded(metric);
                if is_namespaces(word) {
                    return vec![with(format!("{base}/metrics/{metric}"), [of_metric, None])];
                }
                let path =
                    |name: &str| format!("{base}/{}/{}/{metric}", encoded(word), encoded(name));
                if names.is_empty() {
                    return vec![with(path("*"), [labels, of_metric])];
                }
                names.iter().map(|name| with(path(name), [of_metric.clone(), None])).collect()
            }
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::External(metric) => f.write_str(metric),
            Self::Objects { word, metric, .. } => write!(f, "{word}/{metric}"),
        }
    }
}

/// Metrics of a namespace itself have a path of their own.
fn is_namespaces(word: &str) -> bool {
    matches!(word, "namespace" | "namespaces")
}

impl ListItem {
    fn shown(self, now: Timestamp) -> Item {
        let time = self.timestamp.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let object = self.described_object.map(|of| format!("{}/{}", of.kind, of.name));
        Item {
            object,
            labels: self.metric_labels.unwrap_or_default(),
            age_seconds: time.map(|time| now.duration_since(time).as_secs_f64().max(0.0)),
            timestamp: self.timestamp,
            value: self.value,
        }
    }
}

impl Report {
    fn sum(&mut self, asked: &Asked) -> Result<(), Refusal> {
        let mut sum = Decimal::new(0, 0);
        for item in &self.items {
            let value = Decimal::parse_quantity(&item.value).map_err(|error| {
                Refusal::input(format!("the answer has a value that is no quantity: {error}"))
            })?;
            sum = sum.add(&value);
        }
        // An empty list is no zero, and an HPA does not take it for one.
        let count = u64::try_from(self.items.len()).unwrap_or(u64::MAX);
        if count > 0 {
            let value = match asked {
                Asked::External(_) => sum,
                Asked::Objects { .. } => sum.div(count),
            };
            self.value = Some(Quantity::from_decimal(&value).to_string());
        } else {
            self.error = Some(advice::empty());
        }
        Ok(())
    }

    /// Whether there is a value, or none was asked for.
    pub(super) fn is_good(&self) -> bool {
        self.dry_run || self.value.is_some()
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", utf8_percent_encode(text, ENCODED));
    out
}

/// Nobody answered: in a sentence, and what to do.
fn refused(error: &NoAnswer) -> Refusal {
    Refusal::Input(std::iter::once(error.to_string()).chain(advice::unanswered(error)).collect())
}

#[cfg(test)]
mod tests;
