//! A call in words and JSON, for people.

use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::types::{MessageData, MetricDataResult};
use serde_json::{Map, Value, json};

use crate::model::{FetchError, Sample};
use crate::source::aws::identity::Who;
use crate::source::cloudwatch::choice::{Choice, LATE_PERIODS};
use crate::source::cloudwatch::decode::{Answer, Moment, by_id, choose};
use crate::source::cloudwatch::plan::{Asked, Call, Item, moment, seconds};
use crate::source::recorder::Recorder;

/// Series, datapoints of a series and messages shown of an answer.
const MAX_SERIES: usize = 20;
const MAX_DATAPOINTS: usize = 20;
const MAX_MESSAGES: usize = 10;

/// Takes note of one HTTP request; gives its number.
pub(super) fn begin(
    notes: &Recorder,
    call: &Call<'_>,
    identity: &Who,
    token: Option<&str>,
) -> usize {
    let target = format!("CloudWatch in {} as {identity}", call.region);
    let mut request = Map::new();
    let queries: Vec<Value> = call.items.iter().map(query).collect();
    request.insert("MetricDataQueries".into(), queries.into());
    request.insert("StartTime".into(), moment(call.window.start).to_string().into());
    request.insert("EndTime".into(), moment(call.window.end).to_string().into());
    request.insert("ScanBy".into(), "TimestampDescending".into());
    if let Some(token) = token {
        request.insert("NextToken".into(), token.into());
    }
    notes.begin("GetMetricData".to_owned(), target, request.into())
}

fn query(item: &Item<'_>) -> Value {
    let mut out = Map::new();
    out.insert("Id".into(), (*item.id).into());
    match &item.asked {
        Asked::Metric(stat) => {
            let dimensions: Vec<_> = stat
                .dimensions
                .iter()
                .map(|(name, value)| json!({"Name": **name, "Value": **value}))
                .collect();
            let metric = json!({
                "Namespace": *stat.namespace, "MetricName": *stat.name, "Dimensions": dimensions,
            });
            let mut shown =
                json!({"Metric": metric, "Period": seconds(stat.period), "Stat": *stat.statistic});
            if let Some(unit) = &stat.unit {
                shown["Unit"] = (**unit).into();
            }
            out.insert("MetricStat".into(), shown);
            if let Some(account) = &stat.account_id {
                out.insert("AccountId".into(), (**account).into());
            }
        }
        Asked::Expression { text, period } => {
            out.insert("Expression".into(), (**text).into());
            if let Some(period) = period {
                out.insert("Period".into(), seconds(*period).into());
            }
        }
    }
    if let Some(label) = &item.label {
        out.insert("Label".into(), (**label).into());
    }
    out.insert("ReturnData".into(), item.return_data.into());
    out.into()
}

/// A page of an answer, bounded; what is left out is counted.
pub(super) fn answer(page: &GetMetricDataOutput) -> Value {
    let results = page.metric_data_results();
    let shown: Vec<Value> = results.iter().take(MAX_SERIES).map(result).collect();
    let mut out = Map::new();
    out.insert("MetricDataResults".into(), shown.into());
    left_out(&mut out, "MetricDataResults", results.len(), MAX_SERIES);
    if !page.messages().is_empty() {
        out.insert("Messages".into(), messages(page.messages()));
    }
    if let Some(token) = page.next_token() {
        out.insert("NextToken".into(), token.into());
    }
    out.into()
}

fn result(result: &MetricDataResult) -> Value {
    let times = result.timestamps().iter().take(MAX_DATAPOINTS);
    let times: Vec<_> = times.map(|time| moment(time.secs()).to_string()).collect();
    // JSON has no NaN: such values are shown as text.
    let values = result.values().iter().take(MAX_DATAPOINTS);
    let values: Vec<Value> = values
        .map(|value| if value.is_finite() { json!(value) } else { value.to_string().into() })
        .collect();
    let mut out = Map::new();
    out.insert("Id".into(), result.id().into());
    out.insert("Label".into(), result.label().into());
    out.insert("Timestamps".into(), times.into());
    out.insert("Values".into(), values.into());
    left_out(&mut out, "Values", result.values().len(), MAX_DATAPOINTS);
    let status = result.status_code().map(aws_sdk_cloudwatch::types::StatusCode::as_str);
    out.insert("StatusCode".into(), status.into());
    if !result.messages().is_empty() {
        out.insert("Messages".into(), messages(result.messages()));
    }
    out.into()
}

fn messages(messages: &[MessageData]) -> Value {
    let shown = messages.iter().take(MAX_MESSAGES);
    shown.map(|message| json!({"Code": message.code(), "Value": message.value()})).collect()
}

fn left_out(out: &mut Map<String, Value>, what: &str, all: usize, shown: usize) {
    if all > shown {
        out.insert(format!("{what} not shown"), (all - shown).into());
    }
}

/// Which datapoints were chosen from the answer to a call for one query, and why; and the sample.
pub(super) fn choice(
    call: &Call<'_>,
    found: &Answer,
    at: Moment,
) -> (Vec<String>, Result<Sample, FetchError>) {
    let Some(member) = call.members.first() else {
        let cause = "the call is for nobody".into();
        return (Vec::new(), Err(FetchError::Malformed(cause)));
    };
    let query = member.query;
    let period = seconds(query.period);
    let mut sentences = vec![format!(
        "At {} the window was {} to {}: whole buckets of {period} s; those of the last {} s (delay) may still be filled, and those from before {} s ago (lookback) are too old.",
        at.now,
        moment(call.window.start),
        moment(call.window.end),
        query.delay.as_secs(),
        query.lookback.as_secs(),
    )];
    let chosen = match choose(call, member, found, &by_id(found)) {
        Ok(chosen) => chosen,
        Err(error) => return (sentences, Err(error)),
    };
    sentences.extend(chosen.choices.iter().take(MAX_SERIES).map(|one| sentence(one, period)));
    if chosen.choices.len() > MAX_SERIES {
        sentences.push(format!("{} more series are not shown.", chosen.choices.len() - MAX_SERIES));
    }
    let taken: Vec<i64> =
        chosen.choices.iter().filter_map(|one| one.served().map(|(at, _)| *at)).collect();
    if chosen.first && taken.len() > 1 {
        sentences.push(
            "The first of these series is served, as k8s-cloudwatch-adapter does.".to_owned(),
        );
    } else if taken.windows(2).any(|two| two[0] != two[1]) {
        sentences.push(
            "Series have their newest datapoints at different times; the sample counts as old as the oldest of them.".to_owned(),
        );
    }
    (sentences, chosen.sample(at))
}

fn sentence(choice: &Choice, period: i64) -> String {
    let passed = [
        (choice.unfinished, "end after the window"),
        (choice.early, "start before the window"),
        (choice.off_grid, "start within a bucket"),
        (choice.not_finite, "are not finite numbers"),
    ];
    let passed: Vec<String> = passed
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} that {why}"))
        .collect();
    let passed = if passed.is_empty() {
        "none was passed over".to_owned()
    } else {
        format!("passed over: {}", passed.join(", "))
    };
    let series = &choice.labels;
    let all = choice.datapoints;
    let lacking = choice.lacking.as_ref().map(|(at, ids)| {
        format!(
            " The bucket of {} was passed over: {} had no datapoint in it, which metric math takes for 0.",
            moment(*at),
            ids.join(", ")
        )
    });
    let told = match &choice.taken {
        Some((start, value)) if choice.ended => format!(
            "Series {series} has ended and is left out: its newest datapoint, {value} of {}, is more than {LATE_PERIODS} periods behind that of another series.",
            moment(*start),
        ),
        Some((start, value)) => format!(
            "Series {series}: {value} is of the newest complete bucket with a value, {} to {}, of {all} datapoints; {passed}.",
            moment(*start),
            moment(start.saturating_add(period)),
        ),
        None => format!("Series {series}: none of {all} datapoints will do; {passed}."),
    };
    told + &lacking.unwrap_or_default()
}
