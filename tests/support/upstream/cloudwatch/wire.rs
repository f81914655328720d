//! The wire: Smithy RPC v2 CBOR, as the SDK speaks it. Member names are those of the service's
//! API reference; timestamps are tag 1.

use ciborium::tag::Required;
use serde::{Deserialize, Serialize};

use super::super::Reply;

const CBOR: &str = "application/cbor";

/// The one operation that the fake knows.
pub(super) const GET_METRIC_DATA: &str =
    "/service/GraniteServiceVersion20100801/operation/GetMetricData";

/// Seconds since the epoch as the protocol has them.
type Time = Required<f64, 1>;

/// The body of a call.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Input {
    #[serde(default)]
    pub(super) metric_data_queries: Option<Vec<MetricDataQuery>>,
    pub(super) start_time: Option<Time>,
    pub(super) end_time: Option<Time>,
    pub(super) next_token: Option<String>,
    pub(super) scan_by: Option<String>,
    pub(super) max_datapoints: Option<i64>,
    pub(super) label_options: Option<LabelOptions>,
}

/// How labels name times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LabelOptions {
    pub timezone: Option<String>,
}

/// One query of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricDataQuery {
    #[serde(default)]
    pub id: String,
    pub metric_stat: Option<MetricStat>,
    pub expression: Option<String>,
    pub label: Option<String>,
    pub return_data: Option<bool>,
    pub period: Option<i64>,
    pub account_id: Option<String>,
}

impl MetricDataQuery {
    /// Whether its series are in the answer.
    pub fn is_returned(&self) -> bool {
        self.return_data.unwrap_or(true)
    }

    /// The metric's name; empty for an expression.
    pub fn metric_name(&self) -> &str {
        self.metric_stat.as_ref().map_or("", |stat| &stat.metric.metric_name)
    }

    /// The value of a dimension of the metric.
    pub fn dimension(&self, name: &str) -> Option<&str> {
        let metric = &self.metric_stat.as_ref()?.metric;
        metric.dimensions.iter().flatten().find(|d| d.name == name).map(|d| d.value.as_str())
    }
}

/// The statistic of one metric that a query asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricStat {
    #[serde(default)]
    pub metric: WireMetric,
    #[serde(default)]
    pub period: i64,
    #[serde(default)]
    pub stat: String,
    pub unit: Option<String>,
}

/// A metric as a query names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireMetric {
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub metric_name: String,
    pub dimensions: Option<Vec<Dimension>>,
}

/// One dimension of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dimension {
    pub name: String,
    pub value: String,
}

/// The body of an answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Output<'a> {
    pub(super) metric_data_results: Vec<WireResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
    pub(super) messages: Vec<WireMessage<'a>>,
}

/// One series of an answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireResult<'a> {
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) timestamps: Vec<Time>,
    pub(super) values: Vec<f64>,
    pub(super) status_code: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<WireMessage<'a>>,
}

/// A remark on an answer or on one of its series.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireMessage<'a> {
    pub(super) code: &'a str,
    pub(super) value: &'a str,
}

/// A timestamp for the wire.
#[expect(clippy::cast_precision_loss, reason = "the protocol has floats for seconds")]
pub(super) fn time(seconds: i64) -> Time {
    Required(seconds as f64)
}

fn encode(body: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(body, &mut bytes).expect("memory takes all bytes");
    bytes
}

pub(super) fn decode(body: &[u8]) -> Result<Input, String> {
    ciborium::from_reader(body).map_err(|e| e.to_string())
}

fn reply(status: u16, body: &impl Serialize) -> Reply {
    let headers = [("content-type", CBOR), ("smithy-protocol", "rpc-v2-cbor")];
    Reply::Answer {
        status,
        headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
        body: encode(body),
    }
}

pub(super) fn answer(output: &Output<'_>) -> Reply {
    reply(200, output)
}

/// An error in the service's form. `code` is what the query protocol called it: the SDK prefers
/// it over the shape's name.
pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
    #[derive(Serialize)]
    struct Body<'a> {
        __type: String,
        message: &'a str,
    }
    let shape = match code {
        "InvalidParameterValue" | "InvalidParameterCombination" => {
            format!("com.amazonaws.cloudwatch#{code}Exception")
        }
        "MissingParameter" => {
            "com.amazonaws.cloudwatch#MissingRequiredParameterException".to_owned()
        }
        "Throttling" => "com.amazon.coral.availability#ThrottlingException".to_owned(),
        "AccessDenied" => "com.amazon.coral.service#AccessDeniedException".to_owned(),
        "ValidationError" => "com.amazon.coral.validate#ValidationException".to_owned(),
        _ => format!("com.amazonaws.cloudwatch#{code}"),
    };
    let fault = if status < 500 { "Sender" } else { "Receiver" };
    reply(status, &Body { __type: shape, message })
        .with_header("x-amzn-query-error", &format!("{code};{fault}"))
}
