//! Recorded answers, in the protocol that the SDK speaks now.

use ciborium::value::Value as Cbor;

use super::recorded::{Answer, Message};
use crate::support::upstream::{CloudWatch, Reply, Sts};

/// An answer of `GetMetricData`; `minute` is the start of the current one.
pub(super) fn metric_data(answer: &Answer, minute: i64) -> Reply {
    if answer.close {
        return Reply::Reset;
    }
    if let Some(raw) = &answer.raw {
        let status = answer.http_status.unwrap_or(200);
        return Reply::text(status, "text/html", raw.clone());
    }
    if let Some(error) = &answer.error {
        let status = answer.http_status.expect("an error has a status");
        return CloudWatch::error(status, &error.code, &error.message);
    }
    let results = answer.results.as_deref().expect("nothing else is recorded");
    let results = results.iter().map(|series| {
        let points = series.points.iter().map(|(at, value)| {
            let value = match value {
                serde_json::Value::Null => Cbor::Null,
                serde_json::Value::String(text) => Cbor::Float(text.parse().expect("a number")),
                number => Cbor::Float(number.as_f64().expect("a number")),
            };
            (time(minute + at), value)
        });
        let (times, values): (Vec<_>, Vec<_>) = points.unzip();
        map([
            ("Id", text(&series.id)),
            ("Label", text(series.label.as_deref().unwrap_or(&series.id))),
            ("Timestamps", Cbor::Array(times)),
            ("Values", Cbor::Array(values)),
            ("StatusCode", text(series.status_code.as_deref().unwrap_or("Complete"))),
            ("Messages", messages(&series.messages)),
        ])
    });
    let mut body = vec![
        ("MetricDataResults", Cbor::Array(results.collect())),
        ("Messages", messages(&answer.messages)),
    ];
    body.extend(answer.next_token.as_deref().map(|token| ("NextToken", text(token))));
    let mut bytes = Vec::new();
    ciborium::into_writer(&map(body), &mut bytes).expect("memory takes all bytes");
    let headers = [("content-type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Reply::Answer { status: 200, headers, body: bytes }
}

/// A refusal of STS.
pub(super) fn refusal(answer: &Answer) -> Reply {
    let error = answer.error.as_ref().expect("nothing else is recorded");
    let status = answer.http_status.expect("an error has a status");
    Sts::error(status, &error.code, &error.message)
}

fn messages(messages: &[Message]) -> Cbor {
    let all = messages.iter();
    Cbor::Array(all.map(|m| map([("Code", text(&m.code)), ("Value", text(&m.value))])).collect())
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, Cbor)>) -> Cbor {
    Cbor::Map(pairs.into_iter().map(|(key, value)| (text(key), value)).collect())
}

fn text(text: &str) -> Cbor {
    Cbor::Text(text.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "the protocol has floats for seconds")]
fn time(seconds: i64) -> Cbor {
    Cbor::Tag(1, Box::new(Cbor::Float(seconds as f64)))
}
