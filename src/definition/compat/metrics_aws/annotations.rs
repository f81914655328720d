//! What the original cannot say, in annotations of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::definition::cloudwatch::check_delay;
use crate::definition::field::{Field, closest};
use crate::definition::freshness::Asked;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;
use crate::model::{Decimal, OnNoData};

/// Before the names of all annotations of ours.
const PREFIX: &str = "tidepole.dev/";

const ON_NO_DATA: &str = "tidepole.dev/on-no-data";
const SOURCE: &str = "tidepole.dev/source";
const REFRESH: &str = "tidepole.dev/refresh";
const MAX_AGE: &str = "tidepole.dev/max-age";
const DELAY: &str = "tidepole.dev/delay";

const KNOWN: [&str; 5] = [ON_NO_DATA, SOURCE, REFRESH, MAX_AGE, DELAY];

/// The annotations of a resource.
pub(super) struct Annotations {
    /// What is served when the service has no datapoint.
    pub(super) on_no_data: Option<OnNoData>,
    /// The source that answers.
    pub(super) source: Option<String>,
    /// How often it is read, and how old a value may be.
    pub(super) freshness: Asked,
    /// How young a datapoint may not be.
    pub(super) delay: Option<Duration>,
}

/// Where the source is named.
pub(super) fn source_field() -> Field {
    field(SOURCE)
}

fn field(name: &str) -> Field {
    Field::of("metadata.annotations").key(name)
}

/// Reads those that are ours.
pub(super) fn read(report: &mut Report<'_>, all: &BTreeMap<String, String>) -> Annotations {
    for name in all.keys().filter(|name| name.starts_with(PREFIX)) {
        if KNOWN.contains(&name.as_str()) {
            continue;
        }
        let message = match closest(name, KNOWN) {
            Some(near) => format!("unknown annotation; did you mean `{near}`?"),
            None => format!("unknown annotation; there are {}", KNOWN.join(", ")),
        };
        report.add(&field(name), message);
    }
    let mut duration = |name: &str| {
        let parsed = all.get(name)?.parse::<GoDuration>();
        report.check(&field(name), parsed)
    };
    let (refresh, max_age, delay) = (duration(REFRESH), duration(MAX_AGE), duration(DELAY));
    let delay = delay.and_then(|delay| {
        let delay = delay.0;
        if delay.subsec_nanos() > 0 {
            report.add(&field(DELAY), "the duration must be in whole seconds");
            return None;
        }
        report.check(&field(DELAY), check_delay(delay)).map(|()| delay)
    });
    let on_no_data =
        all.get(ON_NO_DATA).and_then(|text| report.check(&field(ON_NO_DATA), no_data(text)));
    Annotations {
        on_no_data,
        source: all.get(SOURCE).cloned(),
        freshness: Asked { refresh: (field(REFRESH), refresh), max_age: (field(MAX_AGE), max_age) },
        delay,
    }
}

fn no_data(text: &str) -> Result<OnNoData, String> {
    match text {
        "error" => Ok(OnNoData::Error),
        "hold" => Ok(OnNoData::Hold),
        _ => Decimal::parse_quantity(text).map(OnNoData::Value).map_err(|_| {
            let shown: String = text.chars().take(60).collect();
            format!("expected error, hold or a number like 0, 0.5 or 500m, found {shown:?}")
        }),
    }
}
