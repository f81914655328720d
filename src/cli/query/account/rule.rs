//! What is told of a metric that a rule gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Account, Definition, Item, Outcome, Rules, SeriesShown, Step, plain, sampled, shown};
use crate::model::{
    CustomReading, Decimal, DescribedObject, Explanation, ExternalReading, FetchError, Policy,
    Quantity, Selector, SourceName, Tick, Transform,
};

/// What an HPA's controller says of an empty list.
const EMPTY: &str = "the answer is an empty list, as prometheus-adapter's is; an HPA reads: no metrics returned from";

/// What is known before anything is asked.
pub(in crate::cli::query) struct RuleAccount {
    /// `rules[0]`.
    pub name: String,
    /// File and line.
    pub origin: String,
    /// With the resource, or `external`, before it.
    pub metric: String,
    /// Empty for objects outside of namespaces.
    pub namespace: String,
    /// Nobody named it.
    pub assumed: bool,
    pub selector: Selector,
    pub source: SourceName,
    pub policy: Arc<Policy>,
    pub notes: Vec<String>,
}

/// What a read ended in.
pub(in crate::cli::query) enum RuleAnswer {
    External(ExternalReading),
    Objects(CustomReading),
}

impl Account {
    /// An account of a rule's metric.
    pub(in crate::cli::query) fn of_rule(known: RuleAccount) -> Self {
        Self {
            definition: Definition {
                kind: "Rule",
                namespace: None,
                name: known.name,
                origin: known.origin,
                metric: known.metric,
                labels: BTreeMap::new(),
            },
            namespace: known.namespace,
            namespace_assumed: known.assumed,
            selector: known.selector.to_string(),
            source: known.source.to_string(),
            kind: "prometheus",
            query: String::new(),
            // Nothing is clamped: a rule tells numbers as they are.
            rules: Rules::of(&known.policy, &Transform { min: None, ..Transform::default() }),
            notes: known.notes,
            dry_run: false,
            calls: Vec::new(),
            choice: Vec::new(),
            sample: None,
            result: None,
            is_told: true,
        }
    }

    /// Takes in the call and its sample.
    pub(in crate::cli::query) fn asked(&mut self, explanation: &Explanation, tick: Tick) {
        self.calls = explanation.exchanges.iter().map(shown).collect();
        self.choice.clone_from(&explanation.choice);
        if let Ok(sample) = &explanation.outcome {
            self.notes.extend(
                sample.warnings.iter().map(|warning| format!("the upstream warns: {warning}")),
            );
            self.sample = Some(sampled(sample, tick));
        }
    }

    /// Takes in what the read ended in.
    pub(in crate::cli::query) fn answered(
        &mut self,
        answer: Result<RuleAnswer, String>,
        failure: Option<&FetchError>,
    ) {
        let (items, is_average, group) = match &answer {
            Ok(RuleAnswer::External(reading)) => {
                let item = |item: &crate::model::MetricItem| {
                    let labels = plain(&item.labels);
                    let step = self.number(|series| series.labels == labels);
                    made(None, labels, item.timestamp, item.value, step)
                };
                (reading.items.iter().map(item).collect(), false, "external metrics API")
            }
            Ok(RuleAnswer::Objects(reading)) => {
                let item = |item: &crate::model::CustomItem| {
                    let name = &*item.object.name;
                    let step = self.number(|series| series.labels.values().any(|v| v == name));
                    let object = Some(object(&item.object));
                    made(object, BTreeMap::new(), item.timestamp, item.value, step)
                };
                let items: Vec<Item> = reading.items.iter().map(item).collect();
                (items, reading.items.len() > 1, "custom metrics API")
            }
            Err(_) => (Vec::new(), false, ""),
        };
        let value = value(&answer, is_average);
        let error = match answer {
            Ok(_) if items.is_empty() => Some(format!("{EMPTY} {group}")),
            Ok(_) => None,
            Err(sentence) => Some(sentence),
        };
        self.result = Some(Outcome {
            served: error.is_none(),
            state: if error.is_none() { "fresh" } else { "failed" },
            value,
            items,
            is_average,
            error_kind: failure.map(FetchError::kind),
            detail: failure.and_then(|e| e.cause().detail()).map(str::to_owned),
            error,
        });
    }

    /// The number that the upstream gave for a series.
    fn number(&self, is: impl Fn(&SeriesShown) -> bool) -> Option<String> {
        let sample = self.sample.as_ref()?;
        sample.series.iter().find(|series| is(series)).map(|series| series.value.clone())
    }
}

/// What an HPA takes: the sum of external items, the value of one object, the average over pods.
fn value(answer: &Result<RuleAnswer, String>, is_average: bool) -> Option<String> {
    let milli: Vec<i128> = match answer {
        Ok(RuleAnswer::External(reading)) => {
            reading.items.iter().map(|item| i128::from(item.value.milli())).collect()
        }
        Ok(RuleAnswer::Objects(reading)) => {
            reading.items.iter().map(|item| i128::from(item.value.milli())).collect()
        }
        Err(_) => return None,
    };
    let count = i128::try_from(milli.len()).ok().filter(|count| *count > 0)?;
    let sum: i128 = milli.into_iter().sum();
    let taken = if is_average { sum / count } else { sum };
    Some(Quantity::from_decimal(&Decimal::new(taken, -3)).to_string())
}

fn made(
    object: Option<String>,
    labels: BTreeMap<String, String>,
    timestamp: jiff::Timestamp,
    value: Quantity,
    number: Option<String>,
) -> Item {
    let steps = number.into_iter().map(|value| Step { step: "value", value }).collect();
    Item { object, labels, timestamp, value: value.to_string(), series: 1, steps }
}

fn object(object: &DescribedObject) -> String {
    match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}
