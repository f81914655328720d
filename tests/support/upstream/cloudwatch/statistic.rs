//! Statistics: their grammar, and what they are of a bucket's observations. After "CloudWatch
//! statistics definitions" in the service's user guide.

/// A value that was observed a number of times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighted {
    pub(super) value: f64,
    pub(super) count: f64,
}

/// A statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statistic {
    Average,
    Sum,
    Minimum,
    Maximum,
    SampleCount,
    /// `p99.9`: the value at this rank of 0 to 100.
    Percentile(f64),
    /// `PR(100:2000)`: how many percent of the observations are in the range.
    Rank(Option<f64>, Option<f64>),
    /// `TM`, `TC`, `TS`, `WM` between two bounds.
    Within(Of, Bounds),
}

/// What is computed of the observations within bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Of {
    /// Their mean.
    Mean,
    /// Their number.
    Count,
    /// Their sum.
    Sum,
    /// The mean of all, those outside moved to the bounds.
    Winsorized,
}

/// Which observations count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bounds {
    /// Between two ranks of 0 to 100.
    Ranks(f64, f64),
    /// Greater than the first, at most the second.
    Values(f64, f64),
}

impl Statistic {
    /// Reads the service's spelling; `None` if it has no such statistic.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Average" => Self::Average,
            "Sum" => Self::Sum,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "SampleCount" => Self::SampleCount,
            "IQM" => Self::Within(Of::Mean, Bounds::Ranks(25.0, 75.0)),
            _ => return Self::parse_extended(text),
        })
    }

    fn parse_extended(text: &str) -> Option<Self> {
        if let Some(rank) = text.strip_prefix('p') {
            return rank_of(rank).map(Self::Percentile);
        }
        let (name, rest) = (text.get(..2)?, text.get(2..)?);
        let of = match name.to_ascii_uppercase().as_str() {
            "TM" => Some(Of::Mean),
            "TC" => Some(Of::Count),
            "TS" => Some(Of::Sum),
            "WM" => Some(Of::Winsorized),
            "PR" => None,
            _ => return None,
        };
        if name.chars().all(|c| c.is_ascii_lowercase()) {
            // The short form: `tm98` is `TM(:98%)`.
            return Some(Self::Within(of?, Bounds::Ranks(0.0, rank_of(rest)?)));
        }
        let (low, high) = rest.strip_prefix('(')?.strip_suffix(')')?.split_once(':')?;
        if low.is_empty() && high.is_empty() {
            return None;
        }
        let value = |text: &str| {
            if text.is_empty() { Some(None) } else { number(text).map(Some) }
        };
        let percent = low.ends_with('%') || high.ends_with('%');
        let Some(of) = of else {
            return (!percent).then_some(Self::Rank(value(low)?, value(high)?));
        };
        let bounds = if percent {
            let rank = |text: &str, open: f64| {
                if text.is_empty() { Some(open) } else { rank_of(text.strip_suffix('%')?) }
            };
            Bounds::Ranks(rank(low, 0.0)?, rank(high, 100.0)?)
        } else {
            Bounds::Values(
                value(low)?.unwrap_or(f64::NEG_INFINITY),
                value(high)?.unwrap_or(f64::INFINITY),
            )
        };
        let ordered = match bounds {
            Bounds::Ranks(low, high) | Bounds::Values(low, high) => low < high,
        };
        ordered.then_some(Self::Within(of, bounds))
    }

    /// The statistic of a bucket's observations; `None` if there is nothing to say.
    pub(super) fn of(self, observations: &[Weighted]) -> Option<f64> {
        let count: f64 = observations.iter().map(|o| o.count).sum();
        if count <= 0.0 {
            return None;
        }
        let values = || observations.iter().map(|o| o.value);
        let sum: f64 = observations.iter().map(|o| o.value * o.count).sum();
        match self {
            Self::Average => Some(sum / count),
            Self::Sum => Some(sum),
            Self::Minimum => values().reduce(f64::min),
            Self::Maximum => values().reduce(f64::max),
            Self::SampleCount => Some(count),
            Self::Percentile(rank) => Some(at_rank(&sorted(observations), count, rank)),
            Self::Rank(low, high) => {
                let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
                let within = observations.iter().filter(|o| o.value > low && o.value <= high);
                Some(100.0 * within.map(|o| o.count).sum::<f64>() / count)
            }
            Self::Within(of, bounds) => within(of, bounds, &sorted(observations), count),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    plain.then(|| text.parse().ok())?
}

/// A rank of 0 to 100 with at most ten decimals.
fn rank_of(text: &str) -> Option<f64> {
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    number(text).filter(|rank| digits && decimals <= 10 && (0.0..=100.0).contains(rank))
}

fn sorted(observations: &[Weighted]) -> Vec<Weighted> {
    let mut sorted = observations.to_vec();
    sorted.sort_by(|a, b| a.value.total_cmp(&b.value));
    sorted
}

/// The smallest value that at least `rank` percent of the observations do not exceed.
fn at_rank(sorted: &[Weighted], count: f64, rank: f64) -> f64 {
    let wanted = count * rank / 100.0;
    let mut seen = 0.0;
    for observation in sorted {
        seen += observation.count;
        if seen >= wanted && observation.count > 0.0 {
            return observation.value;
        }
    }
    sorted.last().map_or(f64::NAN, |last| last.value)
}

fn within(of: Of, bounds: Bounds, sorted: &[Weighted], count: f64) -> Option<f64> {
    if of == Of::Winsorized {
        let (low, high) = match bounds {
            Bounds::Ranks(low, high) => (at_rank(sorted, count, low), at_rank(sorted, count, high)),
            Bounds::Values(low, high) => (low, high),
        };
        let sum: f64 = sorted.iter().map(|o| o.value.clamp(low, high) * o.count).sum();
        return Some(sum / count);
    }
    let mut seen = 0.0;
    let (mut kept, mut sum) = (0.0, 0.0);
    for observation in sorted {
        let share = match bounds {
            Bounds::Values(low, high) => {
                if observation.value > low && observation.value <= high {
                    observation.count
                } else {
                    0.0
                }
            }
            // An observation that straddles a rank counts in part.
            Bounds::Ranks(low, high) => {
                let from = f64::max(seen, count * low / 100.0);
                let to = f64::min(seen + observation.count, count * high / 100.0);
                f64::max(to - from, 0.0)
            }
        };
        seen += observation.count;
        kept += share;
        sum += share * observation.value;
    }
    match of {
        Of::Count => Some(kept),
        Of::Sum => Some(sum),
        Of::Mean | Of::Winsorized => (kept > 0.0).then_some(sum / kept),
    }
}
