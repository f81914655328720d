//! The API server and the reader of definitions, asked about the same documents: whatever the one
//! refuses the other refuses as well, so that no definition works in a file and not as a resource.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use tidepole::model::DefinitionKind;

use super::{cluster, read, refusal};

/// What every value of a document is replaced by.
fn replacements(spec: &Value) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(u64::MAX),
        json!([]),
        json!(["a"]),
        json!({}),
        json!({ "a": "b" }),
        json!({ "a b": "ü" }),
    ];
    let everywhere = [
        "", " ", "0", "-0", "5", "-5", "+.5", "1.", "1e3k", "2Ki", "0s", "1s", "15s", "90s", "1h",
        "500ms", "1.5us", "µs", "hold", "a b", "A", "a.b/c", "status",
    ];
    let aws = [
        "25h",
        "eu-west-1",
        "SELECT AVG(a) FROM b",
        "SEARCH('x', 'Sum', 60)",
        "METRICS('SEARCH(')",
        "LAMBDA(a)",
        "a + 1",
        "tm90",
        "TM(:5)",
        "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
        "HTTP:/h/111122223333/q/",
        "arn:aws:sqs:eu-west-1:111122223333:q.fifo",
        "arn:aws:iam::111122223333:role/p/a",
        "111122223333",
        "Count/Second",
    ];
    let prometheus = ["$namespace", "$objects", "x{a=\"$objects\"}", "$object", "$"];
    all.extend(everywhere.map(|text| json!(text)));
    if spec.get("prometheus").is_some() {
        all.extend(prometheus.map(|text| json!(text)));
    } else if spec.get("simulated").is_none() {
        all.extend(aws.map(|text| json!(text)));
    }
    all.extend([64, 65, 300].map(|length| json!("a".repeat(length))));
    all
}

/// Documents that are fine, together with every field of each kind.
fn valid() -> Vec<(DefinitionKind, Value)> {
    use DefinitionKind::{
        ClusterCustomMetric, ClusterExternalMetric, CustomMetric, ExternalMetric,
    };

    let metric = json!({
        "namespace": "AWS/SQS", "name": "Depth", "statistic": "p99.9", "unit": "Count",
        "dimensions": { "QueueName": "jobs" }, "period": "1m", "accountId": "111122223333",
    });
    let simulated = |signal: Value| (ExternalMetric, json!({ "simulated": signal }));
    vec![
        (
            ExternalMetric,
            json!({
                "metric": "jobs", "labels": { "queue": "jobs" }, "source": "main",
                "prometheus": { "query": "up{namespace=\"$namespace\"}", "lookbackDelta": "1m" },
                "refresh": "15s", "maxAge": "1h30m", "onNoData": "hold", "scale": "0.001",
                "offset": 1, "min": "-1", "max": "2k", "allowNegative": true, "aggregate": "sum",
                "keepWarm": true,
            }),
        ),
        (
            ExternalMetric,
            json!({
                "sqs": {
                    "queues": ["jobs", "arn:aws:sqs:eu-west-1:111122223333:mail.fifo"],
                    "count": ["visible", "inFlight"], "region": "eu-west-1",
                    "roleArn": "arn:aws:iam::111122223333:role/metrics",
                },
                "min": 1, "onNoData": 0,
            }),
        ),
        (
            ExternalMetric,
            json!({
                "cloudwatch": {
                    "metric": metric, "period": "5m", "delay": "2m", "lookback": "30m",
                    "region": "eu-west-1", "roleArn": "arn:aws:iam::111122223333:role/metrics",
                },
                "refresh": "1m", "maxAge": "10m",
            }),
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "period": "1m", "queries": [
                { "id": "a", "metric": { "namespace": "n", "name": "m", "statistic": "Sum" }, "return": false },
                { "id": "b", "expression": "SEARCH('{n} m', 'Sum', 60)", "period": "1m", "return": false },
                { "id": "c", "expression": "SUM(b) / a", "label": "ratio" },
            ] } }),
        ),
        (
            ExternalMetric,
            json!({ "cloudwatch": { "expression": "SELECT AVG(a) FROM b", "period": "1m" } }),
        ),
        simulated(json!({ "constant": "7" })),
        simulated(json!({ "ramp": { "from": 0, "to": "5k", "over": "30m" } })),
        simulated(json!({ "steps": [{ "value": 0, "for": "3m" }, { "value": "4", "for": "1m" }] })),
        simulated(json!({ "wave": { "min": 0, "max": "100", "period": "10m" } })),
        simulated(json!({ "noise": { "seed": 42, "min": 80, "max": 140 } })),
        (
            ClusterExternalMetric,
            json!({ "prometheus": { "query": "up" }, "keepWarm": true, "namespaces": ["a", "b-1"] }),
        ),
        (
            ClusterExternalMetric,
            json!({ "prometheus": { "query": "up{n=\"$namespace\"}" }, "namespaceSelector": {
                "matchLabels": { "team": "shop" },
                "matchExpressions": [
                    { "key": "example.com/tier", "operator": "In", "values": ["a", ""] },
                    { "key": "old", "operator": "DoesNotExist" },
                ],
            } }),
        ),
        (
            CustomMetric,
            json!({
                "metric": "status", "resource": "deployments.apps", "maxAge": "30s",
                "prometheus": { "query": "x{d=~\"$objects\"}", "objectLabel": "deployment" },
            }),
        ),
        (
            ClusterCustomMetric,
            json!({
                "resource": "pods", "namespaces": ["a"], "keepWarm": true, "onNoData": 0,
                "prometheus": { "query": "sum by (pod) (x)", "lookbackDelta": "90s" },
            }),
        ),
    ]
}

/// What a value is replaced by: of texts two are enough where none belongs.
fn fitting<'a>(value: &Value, others: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let is_group = value.is_object() || value.is_array();
    let texts = others.iter().filter(|other| other.is_string());
    let skipped: Vec<&Value> = if is_group { texts.skip(2).collect() } else { Vec::new() };
    others.iter().filter(move |other| !skipped.contains(other))
}

/// Every document that differs from one in one place.
fn changed(value: &Value, others: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    match value {
        Value::Object(pairs) => {
            for (key, below) in pairs {
                let with = |below: Option<Value>| {
                    let mut pairs: Map<String, Value> = pairs.clone();
                    match below {
                        Some(below) => pairs.insert(key.clone(), below),
                        None => pairs.remove(key),
                    };
                    Value::Object(pairs)
                };
                all.push(with(None));
                all.extend(fitting(below, others).map(|other| with(Some(other.clone()))));
                all.extend(changed(below, others).into_iter().map(|below| with(Some(below))));
            }
        }
        Value::Array(items) => {
            for (index, below) in items.iter().enumerate() {
                let with = |below: Value| {
                    let mut items = items.clone();
                    items[index] = below;
                    Value::Array(items)
                };
                all.extend(fitting(below, others).map(|other| with(other.clone())));
                all.extend(changed(below, others).into_iter().map(with));
            }
        }
        _ => {}
    }
    all
}

#[test]
fn what_the_reader_takes_the_api_server_takes() {
    let cluster = cluster();
    let mut documents: Vec<(DefinitionKind, Value)> = Vec::new();
    for (kind, spec) in valid() {
        assert!(read(kind, "dry-run", "dry-run", &spec).outcome.is_ok(), "{spec}");
        let others = replacements(&spec);
        documents.extend(changed(&spec, &others).into_iter().map(|spec| (kind, spec)));
        documents.push((kind, spec));
    }
    let asked = futures::stream::iter(&documents).map(|(kind, spec)| async move {
        (*kind, spec, refusal(&cluster.client, *kind, "dry-run", spec).await)
    });
    // As many at once as keep the API server busy.
    let answers = cluster.runtime.block_on(asked.buffer_unordered(8).collect::<Vec<_>>());
    let (mut taken, mut refused, mut later) = (0_u32, 0_u32, BTreeMap::new());
    let mut wrong = Vec::new();
    for (kind, spec, refusal) in answers {
        match (read(kind, "dry-run", "dry-run", spec).outcome, refusal) {
            (Ok(_), None) => taken += 1,
            (Err(_), Some(_)) => refused += 1,
            (Ok(_), Some(said)) => wrong.push(format!("{kind:?} {spec}: {said}")),
            (Err(problems), None) => {
                later.insert(spec.to_string(), problems[0].to_string());
            }
        }
    }
    println!("both take {taken}, both refuse {refused}, the reader alone {}", later.len());
    for (spec, problem) in &later {
        println!("{spec}\n    {problem}");
    }
    assert!(wrong.is_empty(), "{} are refused alone:\n{}", wrong.len(), wrong.join("\n"));
    // The corpus is worth its name, and few mistakes are found later than by `kubectl apply`.
    assert!(taken > 200 && refused > 2000, "{taken} taken, {refused} refused");
    let later = u32::try_from(later.len()).expect("a few thousand at most");
    assert!(later * 10 < refused, "{later} of {refused} are left to the reader");
}
