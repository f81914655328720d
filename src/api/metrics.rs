//! What the API counts about reads.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::api::group::GroupVersion;
use crate::api::read::List;
use crate::model::ApiError;
use crate::telemetry::Telemetry;

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// Answered.
    Ok,
    /// No such metric, or no series that matches.
    NotFound,
    /// No value that may be served.
    NoValue,
    /// The first read, or the client's patience, took too long.
    Timeout,
    /// The request itself is wrong or not allowed.
    Refused,
    /// A defect of ours.
    Error,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Ok, Self::NotFound, Self::NoValue, Self::Timeout, Self::Refused, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::NoValue => "no_value",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    group: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: &'static str,
}

impl From<&ApiError> for Outcome {
    fn from(error: &ApiError) -> Self {
        match error {
            ApiError::MetricUnknown(_) | ApiError::MetricNotFound(_) | ApiError::PathNotFound => {
                Self::NotFound
            }
            ApiError::NoValue(_) | ApiError::RuleFailed(_) => Self::NoValue,
            ApiError::FirstReadTimeout(_) | ApiError::DeadlineExceeded(_) => Self::Timeout,
            ApiError::BadRequest(_)
            | ApiError::MethodNotAllowed
            | ApiError::WatchNotSupported { .. }
            | ApiError::NotAcceptable { .. }
            | ApiError::Unauthorized
            | ApiError::ForbiddenResource { .. }
            | ApiError::ForbiddenPath(_)
            | ApiError::RequestTooLarge(_)
            | ApiError::Overloaded(_)
            | ApiError::Unclassified(_) => Self::Refused,
            ApiError::AuthorizationUnavailable(_) | ApiError::Internal(_) => Self::Error,
        }
    }
}

/// Bounds of durations, in seconds. From memory a read of one series takes about 2 us and one of
/// 10,000 pods some milliseconds; a first read waits up to seconds.
const DURATIONS: [f64; 20] = [
    0.000_001, 0.000_002, 0.000_004, 0.000_008, 0.000_016, 0.000_032, 0.000_064, 0.000_128,
    0.000_256, 0.001, 0.004, 0.016, 0.064, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Counters of reads, by API group. The counters are looked up once, here, and not per read.
#[derive(Debug)]
pub(super) struct ReadMetrics {
    groups: Vec<GroupReads>,
}

/// When a read began.
pub(super) type Begun = Option<Instant>;

#[derive(Debug)]
struct GroupReads {
    group: &'static str,
    outcomes: [(Outcome, Counter); 6],
    duration: Histogram,
    age: Histogram,
}

impl ReadMetrics {
    /// Registers the metrics of reads of the groups that are served.
    pub(super) fn new(telemetry: &Telemetry, served: &[&'static GroupVersion]) -> Self {
        let family: Family<OutcomeLabels, Counter> = Family::default();
        let durations: Family<GroupLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATIONS));
        // Name, label and buckets are those of custom-metrics-apiserver, on which the adapters
        // written in Go are built: dashboards exist.
        let ages: Family<GroupLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 1.364, 20)));
        let mut names: Vec<&'static str> = served.iter().map(|gv| gv.group).collect();
        names.dedup();
        let groups = names
            .into_iter()
            .map(|group| GroupReads {
                group,
                outcomes: Outcome::ALL.map(|outcome| {
                    (outcome, family.get_or_create_owned(&OutcomeLabels { group, outcome }))
                }),
                duration: durations.get_or_create_owned(&GroupLabel { group }),
                age: ages.get_or_create_owned(&GroupLabel { group }),
            })
            .collect();
        telemetry.register_shared(|registry| {
            registry.register(
                "metrics_apiserver_metric_freshness_seconds",
                "Age of the samples served, by API group",
                ages,
            );
        });
        telemetry.register(|registry| {
            registry.register("reads", "Reads of metrics by API group and how they ended", family);
            registry.register(
                "read_duration_seconds",
                "Time from the parsed request to the complete answer of a read, by API group",
                durations,
            );
        });
        Self { groups }
    }

    /// A read begins. Nothing is timed where nothing is counted.
    pub(super) fn begin(&self) -> Begun {
        (!self.groups.is_empty()).then(Instant::now)
    }

    /// Counts a read that has ended.
    pub(super) fn count<T: List>(
        &self,
        group: &str,
        started: Begun,
        now: Timestamp,
        result: Result<&T, &ApiError>,
    ) {
        let Some(reads) = self.groups.iter().find(|reads| reads.group == group) else { return };
        let outcome = match result {
            Ok(reading) => {
                let mut last = None;
                for timestamp in reading.times() {
                    // The series of one sample come one after the other, and count once.
                    if last.replace(timestamp) == Some(timestamp) {
                        continue;
                    }
                    let age = now.duration_since(timestamp);
                    // A sample from the future (a clock behind the upstream's) has no age.
                    let age = Duration::try_from(age).unwrap_or_default();
                    reads.age.observe(age.as_secs_f64());
                }
                Outcome::Ok
            }
            Err(error) => error.into(),
        };
        if let Some((_, counter)) = reads.outcomes.iter().find(|(o, _)| *o == outcome) {
            counter.inc();
        }
        if let Some(started) = started {
            reads.duration.observe(started.elapsed().as_secs_f64());
        }
    }
}
