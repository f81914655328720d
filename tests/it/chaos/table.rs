//! What is promised of every fault and source: what readers get, how many calls are made, how soon
//! the value is back. The cells are run by this, and the documentation quotes it.

use std::fmt::Write;
use std::time::Duration;

/// Metrics on the upstream of a cell. Enough that a breaker makes a difference.
pub(super) const METRICS: usize = 10;

/// `breaker` of a source, by default.
const FAILURES: u32 = 5;
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Pauses are never shorter than half of the first one.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// Of 1, 2, 4, 8, 16 seconds at most, before they reach the longest one.
const GROWING_PAUSES: u32 = 5;
/// `timeout` of a source, by default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause between two tries to renew credentials.
const RENEWAL: Duration = Duration::from_secs(16);
/// Failures for which a shared call is made in parts.
const PARTED: [&str; 4] = ["denied", "malformed", "timeout", "unavailable"];

/// A kind of upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Prometheus,
    Sqs,
    CloudWatch,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Prometheus, Self::Sqs, Self::CloudWatch];

    /// How often a metric is refreshed.
    pub(super) fn refresh(self) -> Duration {
        Duration::from_secs(if self == Self::CloudWatch { 60 } else { 15 })
    }

    /// How old a value may be.
    pub(super) fn max_age(self) -> Duration {
        Duration::from_mins(if self == Self::CloudWatch { 6 } else { 2 })
    }

    /// How old a value is at most while all is well: a refresh that is late by half an interval, as
    /// it is once after the start; for a datapoint, two periods and the delay.
    pub(super) fn fresh(self) -> Duration {
        Duration::from_secs(if self == Self::CloudWatch { 182 } else { 25 })
    }

    /// Metrics where one of many is denied.
    pub(super) fn crowd(self) -> usize {
        if self == Self::CloudWatch { 500 } else { 50 }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Prometheus => "Prometheus",
            Self::Sqs => "SQS",
            Self::CloudWatch => "CloudWatch",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Timeout,
    Reset,
    Http500,
    Http503,
    Throttled,
    Expired,
    DeniedOne,
    Garbage,
    Html,
    Half,
    Empty,
    Skew,
    Unresolved,
    Gone,
}

impl Fault {
    pub(super) const ALL: [Self; 14] = [
        Self::Timeout,
        Self::Reset,
        Self::Http500,
        Self::Http503,
        Self::Throttled,
        Self::Expired,
        Self::DeniedOne,
        Self::Garbage,
        Self::Html,
        Self::Half,
        Self::Empty,
        Self::Skew,
        Self::Unresolved,
        Self::Gone,
    ];

    fn heading(self) -> &'static str {
        match self {
            Self::Timeout => "never answers",
            Self::Reset => "connections reset",
            Self::Http500 => "500",
            Self::Http503 => "503",
            Self::Throttled => "throttles for 5 minutes",
            Self::Expired => "credentials expired (Prometheus: 401)",
            Self::DeniedOne => "one metric of many denied",
            Self::Garbage => "garbage",
            Self::Html => "a web page",
            Self::Half => "half an answer",
            Self::Empty => "an empty answer",
            Self::Skew => "clocks 10 minutes apart",
            Self::Unresolved => "name not in DNS",
            Self::Gone => "away for an hour",
        }
    }
}

/// What a reader gets during a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// True values all the time.
    Unhurt,
    /// The last good value until it is too old, then this cause.
    Held(Told),
    /// The same for one metric; the others have true values all the time.
    Alone(Told),
    /// True values while our clock is behind; while it is ahead, the newest one until it is too old,
    /// then this cause.
    Ahead(Told),
    /// This cause from the first read on: there never was a value.
    Never(Told),
}

/// How a cause is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Part of the sentence.
    pub(super) cause: &'static str,
    /// The label of the metrics.
    pub(super) kind: &'static str,
    /// What bounds the calls.
    pub(super) asked: Asked,
}

/// Who is asked while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nobody but for probes: the breaker is open.
    Probes,
    /// Every query, twice as slowly from its second failure on: the upstream answers.
    Slower,
    /// Every query as ever: having no datapoint is an answer.
    AsEver,
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) fault: Fault,
    pub(super) kind: Kind,
    pub(super) outcome: Outcome,
}

impl Cell {
    /// All of them, row by row.
    pub(super) fn all() -> Vec<Self> {
        let rows = Fault::ALL.into_iter();
        rows.flat_map(|fault| {
            Kind::ALL.map(|kind| Self { fault, kind, outcome: outcome(fault, kind) })
        })
        .collect()
    }

    /// How long the fault lasts: longer than a value may be old, if nothing else is said.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_mins(match (self.fault, self.kind) {
            (Fault::Throttled, _) => 5,
            (Fault::Gone, _) => 60,
            (_, Kind::CloudWatch) => 10,
            _ => 4,
        })
    }

    /// Metrics on its upstream.
    pub(super) fn metrics(&self) -> usize {
        if self.fault == Fault::DeniedOne { self.kind.crowd() } else { METRICS }
    }

    /// The most calls while the fault lasts.
    pub(super) fn most_calls(&self) -> u32 {
        let (lasts, refresh) = (self.lasts(), self.kind.refresh());
        let rounds = |every: Duration| seconds(lasts).div_ceil(seconds(every)) + 1;
        let metrics = u32::try_from(self.metrics()).expect("a small number");
        // After growing pauses (1, 2, 4, 8 seconds), and once in vain.
        let renewals =
            if self.renews() { seconds(lasts).div_ceil(seconds(RENEWAL)) + 5 } else { 0 };
        if self.kind == Kind::CloudWatch {
            // All metrics are one call per round. One that failed is made again after 5, 10, 20, 40
            // seconds while that is before the next round.
            let again = if self.asked() == Some(Asked::AsEver) { 0 } else { 4 };
            // A call that keeps failing is made in parts, to find who breaks it: in four while nothing
            // at all succeeds.
            let parts =
                if self.told().is_some_and(|told| PARTED.contains(&told.kind)) { 4 } else { 1 };
            // The one that a call is refused for is looked for in at most 24 calls, and then asked
            // alone after 1, 2, 4, 8 ... minutes.
            let alone = if matches!(self.outcome, Outcome::Alone(_)) { 24 + 5 } else { 0 };
            return (rounds(refresh) + again) * parts + alone + renewals;
        }
        match self.asked() {
            None | Some(Asked::AsEver) => metrics * rounds(refresh),
            Some(Asked::Slower) if matches!(self.outcome, Outcome::Alone(_)) => {
                metrics * rounds(refresh)
            }
            Some(Asked::Slower) => metrics * (2 + rounds(refresh * 2)) + renewals,
            // Until it opens: as many failures as it takes, and what is under way by then.
            Some(Asked::Probes) => FAILURES + metrics + GROWING_PAUSES + probes(lasts),
        }
    }

    /// How soon values are true again once the upstream is: two refresh intervals, or the breaker's
    /// longest pause; an answer that never comes is waited for.
    pub(super) fn back_within(&self) -> Duration {
        let waiting = if self.fault == Fault::Timeout { TIMEOUT } else { Duration::ZERO };
        if matches!(self.outcome, Outcome::Alone(_)) && self.kind == Kind::CloudWatch {
            // Refused queries are asked after 1, 2, 4, 8 ... minutes and up to a quarter of that: not
            // longer than they have been refused for.
            return Duration::from_mins(10);
        }
        // Calls need credentials first.
        let renewal = if self.renews() { RENEWAL } else { Duration::ZERO };
        (self.kind.refresh() * 2 + renewal).max(MAX_PAUSE + waiting + self.slow_start())
    }

    /// How long it takes until all have been asked after an upstream throttled: the rate is a 64th of
    /// the allowed one by then. It grows meanwhile, which empties the bucket up to twice.
    fn slow_start(&self) -> Duration {
        let per_second = match (self.fault, self.kind) {
            (Fault::Throttled, Kind::Prometheus) => 400.0,
            (Fault::Throttled, Kind::Sqs) => 300.0,
            // Its metrics are one call.
            _ => return Duration::ZERO,
        };
        let metrics = u32::try_from(self.metrics()).expect("a small number");
        Duration::from_secs_f64((f64::from(metrics + 2) * 64.0 / per_second).ceil())
    }

    /// Whether credentials have to be renewed.
    fn renews(&self) -> bool {
        self.fault == Fault::Expired && self.kind != Kind::Prometheus
    }

    /// What readers are told, if anything.
    pub(super) fn told(&self) -> Option<Told> {
        match self.outcome {
            Outcome::Unhurt => None,
            Outcome::Held(told)
            | Outcome::Alone(told)
            | Outcome::Ahead(told)
            | Outcome::Never(told) => Some(told),
        }
    }

    fn asked(&self) -> Option<Asked> {
        self.told().map(|told| told.asked)
    }

    fn text(&self) -> String {
        let got = match self.outcome {
            Outcome::Unhurt => "true values throughout".to_owned(),
            Outcome::Held(told) => format!("held, then `{}`", told.cause),
            Outcome::Alone(told) => {
                format!("held, then `{}`; {} others true", told.cause, self.metrics() - 1)
            }
            Outcome::Ahead(told) => format!(
                "true values while ours is behind; while it is ahead held, then `{}`",
                told.cause
            ),
            Outcome::Never(told) => format!("`{}`, never a value", told.cause),
        };
        format!("{got}; ≤ {} calls; ≤ {} s", self.most_calls(), seconds(self.back_within()))
    }
}

/// Probes of an open breaker in a time. Pauses are drawn evenly between the shortest and the
/// longest, so their number is nearly normal (a renewal process); six standard deviations above
/// the mean are exceeded once in a billion runs.
fn probes(lasts: Duration) -> u32 {
    let (least, most) = (LEAST_PAUSE.as_secs_f64(), MAX_PAUSE.as_secs_f64());
    let (mean, variance) = (f64::midpoint(least, most), (most - least).powi(2) / 12.0);
    let lasts = lasts.as_secs_f64();
    let number = lasts / mean + 6.0 * (lasts * variance / mean.powi(3)).sqrt();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundreds")]
    let number = number.ceil() as u32;
    number
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).expect("an hour or two")
}

fn outcome(fault: Fault, kind: Kind) -> Outcome {
    use Asked::{AsEver, Probes, Slower};
    let told = |cause, kind, asked| Told { cause, kind, asked };
    let held = |cause, kind, asked| Outcome::Held(told(cause, kind, asked));
    let aws = kind != Kind::Prometheus;
    match fault {
        Fault::Timeout if aws => held("no answer within", "timeout", Probes),
        Fault::Timeout => held("no answer within 5s", "timeout", Probes),
        Fault::Reset | Fault::Gone if aws => {
            held("the endpoint cannot be reached", "unavailable", Probes)
        }
        Fault::Reset => held("no answer from", "unavailable", Probes),
        Fault::Http500 => held("HTTP 500", "unavailable", Probes),
        Fault::Http503 => held("HTTP 503", "unavailable", Probes),
        Fault::Throttled if aws => held("AWS asks for fewer calls", "throttled", Probes),
        Fault::Throttled => held("HTTP 429: too many requests", "throttled", Probes),
        Fault::Expired if aws => held("they have expired", "denied", Slower),
        Fault::Expired => {
            held("HTTP 401: the server did not accept the source's credentials", "denied", Slower)
        }
        Fault::DeniedOne => Outcome::Alone(match kind {
            Kind::Prometheus => told("HTTP 403", "denied", Slower),
            Kind::Sqs => told("access denied", "denied", Slower),
            Kind::CloudWatch => told("ValidationError", "invalid", Slower),
        }),
        Fault::Garbage | Fault::Html if aws => {
            held("an answer that is not AWS's", "malformed", Slower)
        }
        Fault::Garbage | Fault::Html => {
            held("instead of the query API's JSON", "malformed", Slower)
        }
        Fault::Half => match kind {
            Kind::Prometheus => held("broke off in the middle", "unavailable", Probes),
            _ => held("end of file before message length reached", "malformed", Slower),
        },
        Fault::Empty => match kind {
            Kind::Prometheus => held("the query gives no series", "no_data", AsEver),
            Kind::Sqs => held("the answer has no number for", "malformed", Slower),
            Kind::CloudWatch => held("no datapoint of", "no_data", AsEver),
        },
        // A signature is refused once; then the SDK goes by the service's clock.
        Fault::Skew if kind == Kind::CloudWatch => {
            Outcome::Ahead(told("s ahead of CloudWatch's", "unavailable", Probes))
        }
        Fault::Skew => Outcome::Unhurt,
        Fault::Unresolved => {
            Outcome::Never(told("failed to lookup address information", "unavailable", Probes))
        }
        Fault::Gone => held("cannot connect", "unavailable", Probes),
    }
}

/// The table in Markdown.
pub(super) fn markdown() -> String {
    let cells = Cell::all();
    let mut text = String::from("| upstream |");
    for kind in Kind::ALL {
        let _ = write!(text, " {} |", kind.heading());
    }
    text.push_str("\n|---|---|---|---|\n");
    for row in cells.chunks(Kind::ALL.len()) {
        let heading = row.first().map_or("", |cell| cell.fault.heading());
        let _ = write!(text, "| {heading} |");
        for cell in row {
            let _ = write!(text, " {} |", cell.text());
        }
        text.push('\n');
    }
    text
}
