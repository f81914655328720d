//! Answers of the query API, decoded: bytes in, a sample or an error out.
//!
//! Values go from decimal text to [`Decimal`] without a detour over binary floating point. The
//! format is <https://prometheus.io/docs/prometheus/latest/querying/api/>; compatible servers add
//! error types and warnings of their own, which are kept.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::decimal::InvalidDecimal;
use crate::model::{
    AnswerShape, Cause, Decimal, FetchError, Labels, Quantity, Sample, Series, Tick,
};
use crate::source::prometheus::kept::Times;
use crate::source::prometheus::refusal::{
    api_error, by_status, invalid, malformed, no_data, not_json,
};

/// Warnings kept of one answer. Servers repeat one per failed shard; the first ones say it all.
const MAX_WARNINGS: usize = 8;

/// Characters kept of one warning.
const MAX_WARNING_CHARS: usize = 300;

/// The label that holds a series' metric name.
pub(super) const NAME_LABEL: &str = "__name__";

/// How much of an answer is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes, after decompression.
    pub bytes: usize,
    /// Series.
    pub series: MaxSeries,
}

/// How many series of an answer are taken, and whose word that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaxSeries {
    /// One more is an error.
    pub most: usize,
    /// The rule, for its message.
    pub rule: &'static str,
}

impl MaxSeries {
    /// The limit of the settings.
    pub(super) fn configured(most: usize) -> Self {
        Self { most, rule: "maxSeries" }
    }
}

/// What the head of an answer says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// HTTP status.
    pub status: u16,
    /// Media type, empty when absent.
    pub content_type: String,
    /// Where a redirect leads: scheme and host alone.
    pub redirect: Option<String>,
    /// When it is from.
    pub times: Times,
}

impl Head {
    /// The head of a response.
    pub(super) fn of(response: &reqwest::Response) -> Self {
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let content_type = header(CONTENT_TYPE).unwrap_or_default();
        let target = header(LOCATION).and_then(|to| response.url().join(to).ok());
        Self {
            status: response.status().as_u16(),
            content_type: content_type.split(';').next().unwrap_or_default().trim().to_owned(),
            redirect: target.map(|url| url.origin().ascii_serialization()),
            times: Times::of(response.headers()),
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    warnings: Option<Vec<String>>,
    infos: Option<Vec<String>>,
    /// `VictoriaMetrics`' cluster says so when a storage node did not answer.
    #[serde(rename = "isPartial", default)]
    is_partial: Option<bool>,
}

/// An answer that is an error.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(rename = "errorType", borrow)]
    error_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType", borrow)]
    result_type: Cow<'a, str>,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Time and value as they are written.
#[derive(Deserialize)]
struct Point<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow)]
    metric: Metric<'a>,
    #[serde(borrow)]
    value: Option<Point<'a>>,
    #[serde(default)]
    histogram: Option<serde::de::IgnoredAny>,
}

/// Labels, the metric name among them.
struct Metric<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Metric<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metric<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label set")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(Metric(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Text borrowed where it has no escapes (a bare `Cow` in a map always copies).
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The address of an endpoint of the API under `base`.
pub(super) fn api(base: &reqwest::Url, endpoint: &str) -> reqwest::Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/api/v1/{endpoint}", base.path().trim_end_matches('/')));
    url
}

/// What an answer means that is not what was asked for, by its head and its beginning.
pub(super) fn refusal(head: &Head, body: &[u8]) -> FetchError {
    if let Some(error) = by_status(head, body) {
        return error;
    }
    match serde_json::from_slice::<Refusal<'_>>(body) {
        Ok(said) if said.status != "success" || !(200..300).contains(&head.status) => {
            let kind = said.error_type.as_deref().unwrap_or("unknown");
            let message = said.error.as_deref().unwrap_or("no message");
            api_error(head, kind, message, body)
        }
        Ok(_) => malformed(head, "it is not of the form that was asked for", body),
        Err(_) => not_json(head, body),
    }
}

/// Decodes an answer. `observed` is when the request started.
pub(super) fn decode(
    head: &Head,
    body: &[u8],
    shape: AnswerShape,
    max_series: MaxSeries,
    observed: Tick,
) -> Result<Sample, FetchError> {
    if let Some(error) = by_status(head, body) {
        return Err(error);
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(body) else {
        return Err(not_json(head, body));
    };
    if envelope.status != "success" || !(200..300).contains(&head.status) {
        return Err(refusal(head, body));
    }
    if envelope.is_partial == Some(true) {
        let cause =
            "the answer is partial (isPartial): a storage node of the server did not answer";
        return Err(FetchError::Partial(Cause::new(cause)));
    }
    let Some(data) = &envelope.data else {
        return Err(malformed(head, "\"data\" is missing", body));
    };
    let mut warnings = warnings(&envelope);
    let (timestamp, Numbers { series, without_number }) = match &*data.result_type {
        "vector" => vector(data.result, shape, max_series, &mut warnings)
            .map_err(|e| e.into_fetch_error(head, body))?,
        "scalar" if shape == AnswerShape::Vector => {
            return Err(invalid("the query gives a scalar, and no values of objects"));
        }
        "scalar" => scalar(data.result).map_err(|e| e.into_fetch_error(head, body))?,
        "matrix" => {
            return Err(invalid(
                "the query gives a range vector (matrix); use a function over it, like rate() or max_over_time()",
            ));
        }
        "string" => return Err(invalid("the query gives a string, not numbers")),
        other => {
            return Err(malformed(head, &format!("unknown resultType {other:?}"), body));
        }
    };
    Ok(Sample { timestamp, observed, series, without_number, warnings })
}

/// The series of a result.
struct Numbers {
    series: Vec<Series>,
    /// The labels of those that are NaN or infinite.
    without_number: Vec<Labels>,
}

/// Why a result gives no sample.
enum NoSample {
    /// Final.
    Error(FetchError),
    /// The bytes are not what the format says.
    Malformed(String),
}

impl NoSample {
    fn into_fetch_error(self, head: &Head, body: &[u8]) -> FetchError {
        match self {
            Self::Error(error) => error,
            Self::Malformed(cause) => malformed(head, &cause, body),
        }
    }
}

fn vector(
    result: &RawValue,
    shape: AnswerShape,
    max_series: MaxSeries,
    warnings: &mut Vec<String>,
) -> Result<(Timestamp, Numbers), NoSample> {
    let mut json = serde_json::Deserializer::from_str(result.get());
    // The answers for rules and objects are bounded by their size alone.
    let items = shape == AnswerShape::Items;
    let elements = Capped { max: if items { max_series.most } else { usize::MAX } }
        .read(&mut json)
        .map_err(|e| NoSample::Malformed(e.to_string()))?;
    let Some(elements) = elements else {
        let MaxSeries { most, rule } = max_series;
        return Err(NoSample::Error(invalid(&format!(
            "the answer has more than {most} series ({rule}); aggregate them in the query"
        ))));
    };
    let total = elements.len();
    let (mut timestamp, mut series) = (None, Vec::with_capacity(total));
    let mut without_number = Vec::new();
    for mut element in elements {
        if items {
            element.metric.0.retain(|(key, _)| key != NAME_LABEL);
        }
        let Some(Point(time, value)) = element.value else {
            return Err(match element.histogram {
                Some(_) => NoSample::Error(invalid(
                    "the query gives native histograms; use a function over them, like histogram_quantile() or histogram_count()",
                )),
                None => NoSample::Malformed("a series has no value".to_owned()),
            });
        };
        timestamp = Some(time_of(time)?);
        // What no quantity can hold is no value of a rule's metric. (A definition's is clamped.)
        match number(&value)?.filter(|value| items || fits(value)) {
            Some(value) => series.push(Series { labels: Labels::new(element.metric.0), value }),
            // Whether it is meant, each read's selector decides.
            None if items => without_number.push(Labels::new(element.metric.0)),
            None => {}
        }
    }
    let Some(timestamp) = timestamp else {
        return Err(NoSample::Error(no_data("the query gives no series")));
    };
    let dropped = total - series.len();
    if series.is_empty() {
        return Err(NoSample::Error(no_data(&format!(
            "all {total} series of the answer are NaN or infinite, which is not a value"
        ))));
    }
    if dropped > 0 && shape == AnswerShape::Whole {
        // The HPA adds the series up: without some of them it would be told another number.
        return Err(NoSample::Error(FetchError::Partial(Cause::new(format!(
            "{dropped} of {total} series of the answer are NaN, infinite or too large; a sum of the \
             others would be another number"
        )))));
    }
    if dropped > 0 && items {
        warnings.push(format!(
            "{dropped} of {total} series are NaN or infinite: reads that select one of them fail"
        ));
    } else if dropped > 0 {
        warnings.push(format!("{dropped} of {total} series are NaN or infinite and were left out"));
    }
    Ok((timestamp, Numbers { series, without_number }))
}

fn scalar(result: &RawValue) -> Result<(Timestamp, Numbers), NoSample> {
    let Point(time, value) =
        serde_json::from_str(result.get()).map_err(|e| NoSample::Malformed(e.to_string()))?;
    let timestamp = time_of(time)?;
    if let Some(value) = number(&value)? {
        let series = vec![Series { labels: Labels::absent(), value }];
        return Ok((timestamp, Numbers { series, without_number: Vec::new() }));
    }
    let hint = if value.eq_ignore_ascii_case("nan") {
        " (scalar() of an empty vector is NaN)"
    } else {
        ""
    };
    let text = format!("the query gives {value}, which is not a value{hint}");
    Err(NoSample::Error(no_data(&text)))
}

/// Reads elements up to a greatest number; none when there are more.
struct Capped {
    max: usize,
}

impl Capped {
    fn read<'de, D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<Vec<Element<'de>>>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Capped {
    type Value = Option<Vec<Element<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.max {
            match seq.next_element()? {
                Some(element) => elements.push(element),
                None => return Ok(Some(elements)),
            }
        }
        // One more is one too many; what it looks like does not matter.
        if seq.next_element::<serde::de::IgnoredAny>()?.is_none() {
            return Ok(Some(elements));
        }
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Whether a quantity can tell the value.
fn fits(value: &Decimal) -> bool {
    Quantity::from_decimal(value).milli().abs() < Quantity::MAX_UNITS * 1000
}

/// A value; none for NaN and infinities.
fn number(text: &str) -> Result<Option<Decimal>, NoSample> {
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(InvalidDecimal::NotFinite(_)) => Ok(None),
        Err(error) => Err(NoSample::Malformed(error.to_string())),
    }
}

/// Seconds as a JSON number, with a fraction.
fn time_of(raw: &RawValue) -> Result<Timestamp, NoSample> {
    raw.get()
        .parse::<Decimal>()
        .ok()
        .and_then(|seconds| seconds.to_milli())
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or_else(|| {
            let shown: String = raw.get().chars().take(40).collect();
            NoSample::Malformed(format!("{shown} is not a timestamp"))
        })
}

fn warnings(envelope: &Envelope<'_>) -> Vec<String> {
    let all = envelope.warnings.iter().chain(&envelope.infos).flatten();
    all.take(MAX_WARNINGS).map(|text| text.chars().take(MAX_WARNING_CHARS).collect()).collect()
}
