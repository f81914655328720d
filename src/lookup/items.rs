//! From a sample to the items of an answer: labels, selector, aggregate, arithmetic, rounding.
//!
//! Pure, and the only place where this is done: what explains a value to people goes this way, too.

use jiff::Timestamp;

use crate::model::{
    Aggregate, Decimal, Entry, Labels, MetricItem, Quantity, Sample, Selector, Series, Transform,
    TransformStep,
};

/// What happens on the way from a sample to its items, in order: the series that an item is made
/// of, their aggregate, the steps of the arithmetic, and the item.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note<'a> {
    /// The selector takes this series into the item that is being made.
    Takes(&'a Series),
    /// `aggregate` made one number of the series taken.
    Folds(&'a Decimal),
    /// A step of the arithmetic gave this number.
    Step(TransformStep, &'a Decimal),
    /// The item is done.
    Gives(&'a MetricItem),
}

/// Series that a selector takes and that have no number. Without them the value would be another
/// one, so there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoNumber {
    /// The labels of the first of them, as they are served.
    pub(crate) labels: Labels,
    /// How many there are.
    pub(crate) count: usize,
}

/// Adds the items that a sample gives under a definition and a selector.
///
/// # Errors
/// When the selector takes a series that has no number.
pub(crate) fn collect(
    entry: &Entry,
    sample: &Sample,
    selector: &Selector,
    items: &mut Vec<MetricItem>,
    mut note: impl FnMut(Note<'_>),
) -> Result<(), NoNumber> {
    let transform = &entry.transform;
    // A selector that the constant labels alone fulfil needs no look at each series' labels.
    let all = selector.requirements().iter().all(|r| entry.labels.get(&r.key).is_some());
    let mut missing = sample
        .without_number
        .iter()
        .map(|labels| labels.overlaid(&entry.labels))
        .filter(|labels| all || selector.matches(labels));
    if let Some(labels) = missing.next() {
        return Err(NoNumber { labels, count: 1 + missing.count() });
    }
    if transform.aggregate == Aggregate::None {
        if all {
            items.reserve(sample.series.len());
        }
        for series in &sample.series {
            let labels = series.labels.overlaid(&entry.labels);
            if all || selector.matches(&labels) {
                note(Note::Takes(series));
                items.push(item(transform, labels, sample.timestamp, &series.value, &mut note));
            }
        }
        return Ok(());
    }
    let chosen = sample
        .series
        .iter()
        .filter(|series| all || selector.matches(&series.labels.overlaid(&entry.labels)))
        .inspect(|series| note(Note::Takes(series)));
    if let Some(folded) = transform.fold(chosen) {
        note(Note::Folds(&folded));
        items.push(item(transform, entry.labels.clone(), sample.timestamp, &folded, &mut note));
    }
    Ok(())
}

fn item(
    transform: &Transform,
    labels: Labels,
    timestamp: Timestamp,
    value: &Decimal,
    note: &mut impl FnMut(Note<'_>),
) -> MetricItem {
    let served = transform.apply_noting(value, |step, number| note(Note::Step(step, number)));
    let item = MetricItem { labels, timestamp, value: Quantity::from_decimal(&served) };
    note(Note::Gives(&item));
    item
}

/// The item of a number that the definition's author chose for the case without data. Which series
/// there would be is not known, so it stands for whatever the selector may have meant.
pub(crate) fn chosen(entry: &Entry, number: &Decimal, timestamp: Timestamp) -> MetricItem {
    let value = Quantity::from_decimal(number);
    MetricItem { labels: entry.labels.clone(), timestamp, value }
}
