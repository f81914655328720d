//! The queries of one group, as operands of each other.

use std::collections::HashMap;
use std::time::Duration;

use crate::definition::cloudwatch::window::Item;
use crate::definition::cloudwatch::{Draft, Subject};
use crate::definition::field::closest;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;

/// What a group asks for, as a whole.
pub(super) struct Group<'a> {
    /// The longest period of what is asked for; all others divide it.
    pub(super) period: Duration,
    /// What is asked for.
    pub(super) items: Vec<Item<'a>>,
    /// Whether one of them is a Metrics Insights query.
    pub(super) has_insights: bool,
}

/// Checks that everything referred to exists, that nothing goes round in a circle, and that
/// everything is needed.
pub(super) fn check<'a>(
    report: &mut Report<'_>,
    drafts: &'a [Draft<'_>],
    returned: usize,
) -> Option<Group<'a>> {
    let operands = operands(report, drafts)?;
    let order = order(report, drafts, &operands)?;
    let needed = needed(&operands, returned);
    let mut is_clean = true;
    for (draft, _) in drafts.iter().zip(&needed).filter(|(_, needed)| !**needed) {
        let message = format!(
            "nothing that is returned uses {}: it would be paid for and change nothing; remove it",
            draft.id
        );
        report.add(&draft.field, message);
        is_clean = false;
    }
    is_clean &= has_one_insights(report, drafts);
    let items: Vec<Item<'_>> = drafts.iter().filter_map(item).collect();
    let Some(period) = items.iter().map(|item| item.period).max() else {
        let message =
            "nothing here has data: an expression needs a metric, or a function that finds metrics";
        report.add(&drafts[returned].field.key("expression"), message);
        return None;
    };
    for item in &items {
        if !period.as_secs().is_multiple_of(item.period.as_secs()) {
            let message = format!(
                "the period {} does not divide {}, the longest of these queries, so their buckets do not end together",
                GoDuration(item.period),
                GoDuration(period)
            );
            report.add(&item.field, message);
            is_clean = false;
        }
    }
    is_clean &= math_has_its_operands_period(report, drafts, &operands, &order);
    let has_insights = drafts.iter().any(is_insights);
    is_clean.then_some(Group { period, items, has_insights })
}

fn is_insights(draft: &Draft<'_>) -> bool {
    matches!(&draft.subject, Subject::Expression { read, .. } if read.is_insights)
}

/// What a query asks for by itself, if anything.
fn item<'a>(draft: &'a Draft<'_>) -> Option<Item<'a>> {
    let (field, period) = match &draft.subject {
        Subject::Metric(stat) => (draft.field.key("metric"), stat.period),
        Subject::Expression { read, period, .. } => {
            read.finds_data?;
            (draft.field.clone(), (*period)?)
        }
    };
    Some(Item { field: field.key("period"), id: draft.id, period })
}

/// For each query the positions of those that it refers to.
fn operands(report: &mut Report<'_>, drafts: &[Draft<'_>]) -> Option<Vec<Vec<usize>>> {
    let positions: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.id, index)).collect();
    let metrics = |pattern: &str| -> Vec<usize> {
        let is_metric = |draft: &Draft<'_>| matches!(draft.subject, Subject::Metric(_));
        let found =
            drafts.iter().enumerate().filter(|(_, d)| is_metric(d) && d.id.contains(pattern));
        found.map(|(index, _)| index).collect()
    };
    let mut all = Vec::new();
    let mut is_clean = true;
    for (index, draft) in drafts.iter().enumerate() {
        let mut own: Vec<usize> = Vec::new();
        if let Subject::Expression { read, .. } = &draft.subject {
            let mut refuse = |message: String| {
                report.add(&draft.field.key("expression"), message);
                is_clean = false;
            };
            for id in &read.ids {
                match positions.get(id.as_str()) {
                    Some(position) if *position == index => {
                        refuse(format!("{id} refers to itself"));
                    }
                    Some(position) => own.push(*position),
                    None => refuse(unknown(id, drafts)),
                }
            }
            for pattern in &read.patterns {
                let found = metrics(pattern);
                if found.is_empty() {
                    refuse(if pattern.is_empty() {
                        "METRICS() stands for nothing: no query here is a metric".to_owned()
                    } else {
                        format!(
                            "METRICS({pattern:?}) stands for nothing: no metric here has {pattern:?} in its id"
                        )
                    });
                }
                own.extend(found);
            }
        }
        all.push(own);
    }
    is_clean.then_some(all)
}

fn unknown(id: &str, drafts: &[Draft<'_>]) -> String {
    let ids = || drafts.iter().map(|draft| draft.id);
    if let Some(near) = closest(id, ids()) {
        return format!("there is no query with the id {id}; did you mean `{near}`?");
    }
    let ids: Vec<&str> = ids().take(20).collect();
    format!("there is no query with the id {id}; the ids here are {}", ids.join(", "))
}

/// The queries in an order in which all come after their operands.
fn order(
    report: &mut Report<'_>,
    drafts: &[Draft<'_>],
    operands: &[Vec<usize>],
) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    let mut done = vec![false; drafts.len()];
    // A few rounds in practice: each takes what has all its operands. No recursion, so that a chain
    // of 500 is no danger.
    loop {
        let before = order.len();
        for index in 0..drafts.len() {
            if !done[index] && operands[index].iter().all(|operand| done[*operand]) {
                done[index] = true;
                order.push(index);
            }
        }
        if order.len() == drafts.len() {
            return Some(order);
        }
        if order.len() == before {
            break;
        }
    }
    // What is left has an operand that is left: following these must come round.
    let mut path: Vec<usize> = vec![(0..drafts.len()).find(|index| !done[*index])?];
    loop {
        let last = *path.last()?;
        let next = *operands[last].iter().find(|operand| !done[**operand])?;
        if let Some(start) = path.iter().position(|index| *index == next) {
            let circle: Vec<&str> =
                path[start..].iter().chain([&next]).map(|index| drafts[*index].id).collect();
            let message = format!("these refer to each other in a circle: {}", circle.join(" → "));
            report.add(&drafts[next].field.key("expression"), message);
            return None;
        }
        path.push(next);
    }
}

/// Which queries the returned one needs, itself among them.
fn needed(operands: &[Vec<usize>], returned: usize) -> Vec<bool> {
    let mut needed = vec![false; operands.len()];
    let mut open = vec![returned];
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut needed[index], true) {
            open.extend(&operands[index]);
        }
    }
    needed
}

/// One call takes one Metrics Insights query (API reference, `GetMetricData`).
fn has_one_insights(report: &mut Report<'_>, drafts: &[Draft<'_>]) -> bool {
    let mut found = drafts.iter().filter(|draft| is_insights(draft));
    let (Some(first), Some(second)) = (found.next(), found.next()) else { return true };
    let message = format!(
        "{} is a Metrics Insights query already, and one GetMetricData call takes one; make them definitions of their own",
        first.id
    );
    report.add(&second.field.key("expression"), message);
    false
}

/// A period that is written at metric math must be the one that it has anyway: that of its operands.
fn math_has_its_operands_period(
    report: &mut Report<'_>,
    drafts: &[Draft<'_>],
    operands: &[Vec<usize>],
    order: &[usize],
) -> bool {
    let mut periods: Vec<Option<Duration>> = vec![None; drafts.len()];
    let mut is_clean = true;
    for index in order {
        let draft = &drafts[*index];
        let inherited = operands[*index].iter().filter_map(|operand| periods[*operand]).max();
        periods[*index] = match &draft.subject {
            Subject::Metric(stat) => Some(stat.period),
            Subject::Expression { read, period, .. } if read.finds_data.is_some() => {
                (*period).max(inherited)
            }
            Subject::Expression { period, .. } => {
                if let (Some(written), Some(inherited)) = (*period, inherited)
                    && written != inherited
                {
                    let message = format!(
                        "metric math has the period of its operands, {}, and not {}; leave this out",
                        GoDuration(inherited),
                        GoDuration(written)
                    );
                    report.add(&draft.field.key("period"), message);
                    is_clean = false;
                }
                inherited
            }
        };
    }
    is_clean
}
