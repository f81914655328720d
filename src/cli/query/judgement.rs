//! What the server would make of an outcome if this were its first and only fetch of the query.

use jiff::Timestamp;

use crate::cache::{EntryState, View};
use crate::lookup::items::{self, NoNumber, Note};
use crate::lookup::message;
use crate::model::{
    Aggregate, Entry, FetchError, Labels, MetricItem, Query, Sample, Selector, Tick, TransformStep,
};

/// The verdict.
pub(super) struct Judgement {
    /// The word of the status page: fresh, servable, failed, expired.
    pub state: &'static str,
    /// The items of the answer; or the sentence that an HPA reads instead.
    pub answer: Result<Vec<Made>, String>,
}

/// An item and how it was made.
pub(super) struct Made {
    /// The item.
    pub item: MetricItem,
    /// How many series of the sample are in it.
    pub series: usize,
    /// The number after each step that was taken, the first being what the upstream gave.
    pub steps: Vec<(&'static str, String)>,
}

/// Judges an outcome that came at `now`.
pub(super) fn judge(
    entry: &Entry,
    namespace: &str,
    query: &Query,
    selector: &Selector,
    outcome: Result<Sample, FetchError>,
    (now, tick): (Timestamp, Tick),
) -> Judgement {
    let selector = entry.selected_by(selector);
    let state = EntryState::default().after(outcome, tick, now);
    let view = state.view(&entry.policy, tick);
    let no_match = || {
        let existing: Vec<Labels> = match state.last_sample() {
            Some(sample) => {
                sample.series.iter().map(|s| s.labels.overlaid(&entry.labels)).collect()
            }
            None => vec![entry.labels.clone()],
        };
        message::no_match(entry.metric.as_str(), namespace, selector, existing.iter())
    };
    let answer = if selector.may_match(&entry.labels) {
        match &view {
            View::Fresh(sample) | View::Servable(sample) => made(entry, sample, selector)
                .map_err(|missing| message::no_number(entry, namespace, query, &missing)),
            View::Chosen(number, no_data) => Ok(vec![Made {
                item: items::chosen(entry, number, no_data.timestamp),
                series: 0,
                steps: vec![("onNoData", number.to_string())],
            }]),
            View::NoData(_) | View::Failed(_) | View::Expired | View::Waiting => {
                Err(message::no_value(entry, namespace, query, &state, &view, tick))
            }
        }
    } else {
        Err(no_match())
    };
    let answer = answer.and_then(|made| if made.is_empty() { Err(no_match()) } else { Ok(made) });
    Judgement { state: view.state(), answer }
}

fn made(entry: &Entry, sample: &Sample, selector: &Selector) -> Result<Vec<Made>, NoNumber> {
    let (mut all, mut steps, mut series) = (Vec::new(), Vec::new(), 0);
    items::collect(entry, sample, selector, &mut Vec::new(), |note| match note {
        Note::Takes(taken) => {
            series += 1;
            if entry.transform.aggregate == Aggregate::None {
                steps.push(("value", taken.value.to_string()));
            }
        }
        Note::Folds(number) => {
            steps.push((aggregate(entry.transform.aggregate), number.to_string()));
        }
        Note::Step(step, number) => steps.push((word(step), number.to_string())),
        Note::Gives(item) => {
            let (steps, series) = (std::mem::take(&mut steps), std::mem::take(&mut series));
            all.push(Made { item: item.clone(), series, steps });
        }
    })?;
    Ok(all)
}

/// As definitions write it.
pub(super) fn aggregate(aggregate: Aggregate) -> &'static str {
    match aggregate {
        Aggregate::None => "none",
        Aggregate::Sum => "sum",
        Aggregate::Avg => "avg",
        Aggregate::Max => "max",
        Aggregate::Min => "min",
    }
}

fn word(step: TransformStep) -> &'static str {
    match step {
        TransformStep::Scale => "scale",
        TransformStep::Offset => "offset",
        TransformStep::Min => "min",
        TransformStep::Max => "max",
    }
}
