//! What is told of a query: the data behind every form of output.
//!
//! The keys are stable: scripts read them. Numbers are text where a float could not hold them.

mod rule;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cli::EXIT_INPUT;
use crate::cli::query::Inquiry;
use crate::cli::query::judgement::{aggregate, judge};
use crate::lookup::message::show;
use crate::model::{
    Decimal, Entry, Exchange, Explanation, Labels, OnNoData, Policy, Quantity, Query, Sample,
    Selector, Tick, Transform,
};
use crate::runtime::inventory;
pub(super) use rule::{RuleAccount, RuleAnswer};

/// Elements of a list, and keys of a mapping, that a shortened answer keeps.
const MAX_ELEMENTS: usize = 10;

/// Characters of a text that a shortened answer keeps: longer than most queries.
const MAX_CHARS: usize = 500;

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    /// Which definition it is.
    pub definition: Definition,
    /// The namespace that reads.
    pub namespace: String,
    /// The definition is cluster-wide and nobody named the namespace.
    pub namespace_assumed: bool,
    /// Its selector, empty for all.
    pub selector: String,
    /// The source's name.
    pub source: String,
    /// The kind of question.
    pub kind: &'static str,
    /// The question in one line.
    pub query: String,
    /// What the definition asks of freshness and arithmetic.
    pub rules: Rules,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// Nothing was sent.
    pub dry_run: bool,
    /// The calls, in the order of their starts.
    pub calls: Vec<Call>,
    /// Which datapoint was chosen and why.
    pub choice: Vec<String>,
    /// What the upstream gave; none when it gave nothing.
    pub sample: Option<SampleShown>,
    /// What the API would serve; none in a dry run.
    pub result: Option<Outcome>,
    /// Whether the source could tell its calls.
    #[serde(skip)]
    pub is_told: bool,
}

/// A definition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Definition {
    pub kind: &'static str,
    pub namespace: Option<String>,
    pub name: String,
    /// File and line.
    pub origin: String,
    pub metric: String,
    pub labels: BTreeMap<String, String>,
}

/// Freshness and arithmetic, as definitions write them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rules {
    pub refresh: String,
    pub max_age: String,
    pub on_no_data: String,
    pub aggregate: &'static str,
    pub scale: String,
    pub offset: String,
    pub min: Option<String>,
    pub max: Option<String>,
}

/// One call to an upstream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    /// What is called.
    pub operation: String,
    /// Where and as whom.
    pub target: String,
    pub request: Value,
    /// None: see `error`.
    pub answer: Option<Value>,
    pub error: Option<String>,
    /// Elements and characters that were left out of request and answer.
    pub omitted: usize,
    /// None: nothing was sent.
    pub took_seconds: Option<f64>,
}

/// What the upstream gave.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SampleShown {
    pub timestamp: Timestamp,
    pub age_seconds: f64,
    pub series: Vec<SeriesShown>,
}

/// One series.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeriesShown {
    pub labels: BTreeMap<String, String>,
    pub value: String,
}

/// What the API would serve.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// Whether a value would be served.
    pub served: bool,
    /// fresh, servable, failed or expired.
    pub state: &'static str,
    /// What the HPA takes: the sum of the items, or the average over several objects; a quantity.
    pub value: Option<String>,
    /// The items of the API's answer.
    pub items: Vec<Item>,
    /// The value is the average of the items, as an HPA takes it of pods.
    #[serde(skip)]
    pub is_average: bool,
    /// The sentence that an HPA reads instead.
    pub error: Option<String>,
    /// The kind of the upstream's failure: `no_data`, denied, throttled, timeout, unavailable,
    /// malformed, invalid.
    pub error_kind: Option<&'static str>,
    /// The full text of the upstream's failure, where there is more than the sentence.
    pub detail: Option<String>,
}

/// One item of the API's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// What the value is about: kind, and namespace/name. None for external metrics.
    pub object: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub timestamp: Timestamp,
    /// A quantity.
    pub value: String,
    /// How many series are in it.
    pub series: usize,
    /// The number after each step.
    pub steps: Vec<Step>,
}

/// One step of the arithmetic.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub step: &'static str,
    pub value: String,
}

impl Rules {
    fn of(policy: &Policy, transform: &Transform) -> Self {
        Self {
            refresh: show(policy.refresh),
            max_age: show(policy.max_age),
            on_no_data: match &policy.on_no_data {
                OnNoData::Error => "error".to_owned(),
                OnNoData::Hold => "hold".to_owned(),
                OnNoData::Value(number) => number.to_string(),
            },
            aggregate: aggregate(transform.aggregate),
            scale: transform.scale.to_string(),
            offset: transform.offset.to_string(),
            min: transform.min.as_ref().map(ToString::to_string),
            max: transform.max.as_ref().map(ToString::to_string),
        }
    }
}

impl Account {
    /// What is known before anything is asked.
    pub(super) fn of(inquiry: &Inquiry, query: &Query, selector: &Selector) -> Self {
        let entry = &inquiry.entry;
        let (policy, transform) = (&entry.policy, &entry.transform);
        Self {
            definition: definition(entry),
            namespace: inquiry.namespace.clone(),
            namespace_assumed: inquiry.assumed,
            selector: selector.to_string(),
            source: query.source.to_string(),
            kind: query.spec.kind(),
            query: query.spec.to_string(),
            rules: Rules::of(policy, transform),
            notes: inquiry.notes.clone(),
            dry_run: false,
            calls: Vec::new(),
            choice: Vec::new(),
            sample: None,
            result: None,
            is_told: true,
        }
    }

    /// Takes in the calls that would be made; none when the source cannot tell.
    pub(super) fn previewed(&mut self, calls: Option<Vec<Exchange>>) {
        self.dry_run = true;
        let Some(calls) = calls else {
            self.is_told = false;
            let note = "A source of this kind cannot show its request without sending it; nothing was sent.";
            self.notes.push(note.to_owned());
            return;
        };
        if calls.is_empty() {
            self.notes.push("Nothing is ever sent: the value comes from the clock.".to_owned());
        }
        let calls = calls.iter().map(|call| Call { took_seconds: None, ..shown(call) });
        self.calls = calls.collect();
    }

    /// Takes in how the answer came about, and judges it.
    pub(super) fn explained(
        &mut self,
        inquiry: &Inquiry,
        query: &Query,
        selector: &Selector,
        explanation: &Explanation,
        (now, tick): (Timestamp, Tick),
    ) {
        let entry = &inquiry.entry;
        self.calls = explanation.exchanges.iter().map(shown).collect();
        self.choice.clone_from(&explanation.choice);
        if let Ok(sample) = &explanation.outcome {
            self.notes.extend(inventory::notes(&entry.labels, sample));
            self.sample = Some(sampled(sample, tick));
        }
        let outcome = explanation.outcome.clone();
        let judgement = judge(entry, &inquiry.namespace, query, selector, outcome, (now, tick));
        let failure = explanation.outcome.as_ref().err();
        let made = judgement.answer.as_deref().unwrap_or_default();
        let milli = made.iter().map(|made| i128::from(made.item.value.milli())).sum();
        self.result = Some(Outcome {
            served: judgement.answer.is_ok(),
            state: judgement.state,
            value: judgement
                .answer
                .is_ok()
                .then(|| Quantity::from_decimal(&Decimal::new(milli, -3)).to_string()),
            items: made
                .iter()
                .map(|made| Item {
                    object: None,
                    labels: plain(&made.item.labels),
                    timestamp: made.item.timestamp,
                    value: made.item.value.to_string(),
                    series: made.series,
                    steps: made
                        .steps
                        .iter()
                        .map(|(step, value)| Step { step, value: value.clone() })
                        .collect(),
                })
                .collect(),
            is_average: false,
            error_kind: failure.map(crate::model::FetchError::kind),
            detail: failure.and_then(|e| e.cause().detail()).map(str::to_owned),
            error: judgement.answer.err(),
        });
    }

    /// Cuts what is long, and says how much it was.
    pub(super) fn shorten(&mut self) {
        for call in &mut self.calls {
            call.omitted += shorten(&mut call.request);
            if let Some(answer) = &mut call.answer {
                call.omitted += shorten(answer);
            }
        }
    }

    /// 0 when a value would be served, and after a dry run that could tell what would be sent.
    pub(super) fn exit_code(&self) -> ExitCode {
        let fine = self.result.as_ref().map_or(self.is_told, |result| result.served);
        if fine { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INPUT) }
    }
}

fn definition(entry: &Entry) -> Definition {
    Definition {
        kind: entry.id.kind.as_str(),
        namespace: entry.id.namespace.as_deref().map(str::to_owned),
        name: entry.id.name.to_string(),
        origin: entry.origin.to_string(),
        metric: entry.metric.to_string(),
        labels: plain(&entry.labels),
    }
}

pub(super) fn sampled(sample: &Sample, tick: Tick) -> SampleShown {
    SampleShown {
        timestamp: sample.timestamp,
        age_seconds: tick.since(sample.observed).as_secs_f64(),
        series: sample
            .series
            .iter()
            .map(|s| SeriesShown { labels: plain(&s.labels), value: s.value.to_string() })
            .collect(),
    }
}

fn plain(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn shown(exchange: &Exchange) -> Call {
    Call {
        operation: exchange.operation.clone(),
        target: exchange.target.clone(),
        request: exchange.request.clone(),
        answer: exchange.answer.as_ref().ok().cloned(),
        error: exchange.answer.as_ref().err().cloned(),
        omitted: 0,
        took_seconds: Some(rounded(exchange.took)),
    }
}

/// Seconds to a millisecond: what people compare.
fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Cuts long lists, mappings and texts, and counts the elements and characters left out.
fn shorten(value: &mut Value) -> usize {
    match value {
        Value::String(text) => match text.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => {
                let more = text[end..].chars().count();
                text.truncate(end);
                text.push('…');
                more
            }
            None => 0,
        },
        Value::Array(items) => {
            let more = items.len().saturating_sub(MAX_ELEMENTS);
            items.truncate(MAX_ELEMENTS);
            more + items.iter_mut().map(shorten).sum::<usize>()
        }
        Value::Object(pairs) => {
            let more = pairs.len().saturating_sub(MAX_ELEMENTS);
            let beyond: Vec<String> = pairs.keys().skip(MAX_ELEMENTS).cloned().collect();
            for key in beyond {
                pairs.remove(&key);
            }
            more + pairs.values_mut().map(shorten).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
