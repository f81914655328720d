//! What a definition asks of freshness, missing data and arithmetic.

use std::time::Duration;

use crate::model::{Decimal, Series};

/// What to serve when the upstream answered and had no datapoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnNoData {
    /// An error, at once.
    Error,
    /// The last good value until `maxAge`, then an error.
    Hold,
    /// The number that the definition's author chose. Served as written: no scale, no clamp.
    Value(Decimal),
}

/// Freshness rules of one definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often the upstream is read while the metric is wanted.
    pub refresh: Duration,
    /// A sample older than this is never served.
    pub max_age: Duration,
    /// What to do without a datapoint.
    pub on_no_data: OnNoData,
    /// How long the very first read of a query may wait for its first value.
    pub first_read_timeout: Duration,
    /// Refresh even when nobody reads.
    pub keep_warm: bool,
}

/// How the series of one answer become the items that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Every series is an item; the HPA sums them.
    None,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// Arithmetic between the upstream's number and the served one: multiply, add, clamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Factor.
    pub scale: Decimal,
    /// Added after scaling.
    pub offset: Decimal,
    /// Lower clamp; `None` only with `allowNegative: true`.
    pub min: Option<Decimal>,
    /// Upper clamp.
    pub max: Option<Decimal>,
    /// How several series become one.
    pub aggregate: Aggregate,
}

/// One step of the arithmetic, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransformStep {
    /// Multiplied by `scale`.
    Scale,
    /// `offset` added.
    Offset,
    /// Below `min`, and raised to it.
    Min,
    /// Above `max`, and lowered to it.
    Max,
}

impl Default for Transform {
    /// No scaling, negatives clamped to zero, every series an item.
    fn default() -> Self {
        Self {
            scale: Decimal::ONE,
            offset: Decimal::ZERO,
            min: Some(Decimal::ZERO),
            max: None,
            aggregate: Aggregate::None,
        }
    }
}

impl Transform {
    /// The served number for one upstream number.
    #[must_use]
    pub fn apply(&self, value: &Decimal) -> Decimal {
        self.apply_noting(value, |_, _| {})
    }

    /// The same, telling the number after every step that the definition asks for and, of the clamps, that
    /// changed it.
    pub fn apply_noting(
        &self,
        value: &Decimal,
        mut note: impl FnMut(TransformStep, &Decimal),
    ) -> Decimal {
        // Most definitions scale nothing; the read path need not pay for it.
        let plain = self.scale == Decimal::ONE && self.offset == Decimal::ZERO;
        let scaled = if plain {
            value.clone()
        } else {
            let multiplied = value.mul(&self.scale);
            if self.scale != Decimal::ONE {
                note(TransformStep::Scale, &multiplied);
            }
            let moved = multiplied.add(&self.offset);
            if self.offset != Decimal::ZERO {
                note(TransformStep::Offset, &moved);
            }
            moved
        };
        let raised = match &self.min {
            Some(min) if scaled < *min => {
                note(TransformStep::Min, min);
                min.clone()
            }
            _ => scaled,
        };
        match &self.max {
            Some(max) if raised > *max => {
                note(TransformStep::Max, max);
                max.clone()
            }
            _ => raised,
        }
    }

    /// Folds the selected series of one answer into one upstream number, before scale, offset and
    /// clamp; `None` when there is nothing to fold or `aggregate` is [`Aggregate::None`].
    #[must_use]
    pub fn fold<'a>(&self, series: impl IntoIterator<Item = &'a Series>) -> Option<Decimal> {
        let values = series.into_iter().map(|s| &s.value);
        match self.aggregate {
            Aggregate::None => None,
            Aggregate::Max => values.max().cloned(),
            Aggregate::Min => values.min().cloned(),
            Aggregate::Sum | Aggregate::Avg => {
                let mut count = 0_u64;
                let mut sum = Decimal::ZERO;
                for value in values {
                    sum = sum.add(value);
                    count += 1;
                }
                match (self.aggregate, count) {
                    (_, 0) => None,
                    (Aggregate::Avg, n) => Some(sum.div(n)),
                    _ => Some(sum),
                }
            }
        }
    }
}
