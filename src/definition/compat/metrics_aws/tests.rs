//! Whole resources: what they become, and every mistake with its message.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::definition::resource::{Resource, read};
use crate::definition::tests::{profile, sources};
use crate::definition::{Author, Context, Defaults};
use crate::model::{
    CloudWatchQuery, Decimal, DefinitionId, DefinitionKind, Entry, Manner, MetricQuestion,
    OnNoData, Origin, Pattern, QuerySpec, QueryTemplate, Scope, Selector, SourceDirectory,
    SourceKind, SourceProfile,
};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A resource `shop/NAME`.
fn named(
    name: &str,
    sources: Option<&SourceDirectory>,
    annotations: &[(&str, &str)],
    spec: &Json,
) -> Result<Entry, Vec<String>> {
    let kind = DefinitionKind::AwsExternalMetric;
    let id = DefinitionId { kind, namespace: Some("shop".into()), name: name.into() };
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let created = Timestamp::UNIX_EPOCH;
    let resource = Resource { id: &id, created, annotations: &annotations, spec };
    let read_file = |_: &Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
    let defaults = Defaults::default();
    let context = Context {
        sources,
        defaults: &defaults,
        cluster: true,
        author: Author::Tenant,
        read_file: &read_file,
    };
    let definition = read(&resource, &context);
    assert_eq!(definition.id.as_ref(), Some(&id));
    let path = format!("externalmetrics.metrics.aws/shop/{name}: ");
    definition.outcome.map_err(|problems| {
        assert!(!problems.is_empty());
        let texts = problems.iter().map(ToString::to_string);
        texts.map(|text| text.strip_prefix(&path).expect(&text).to_owned()).collect()
    })
}

fn annotated(annotations: &[(&str, &str)], spec: &Json) -> Result<Entry, Vec<String>> {
    named("jobs", Some(&sources()), annotations, spec)
}

fn plain(spec: &Json) -> Result<Entry, Vec<String>> {
    annotated(&[], spec)
}

fn question(entry: &Entry) -> CloudWatchQuery {
    let QueryTemplate::Fixed(query) = &entry.query else { panic!("{:?}", entry.query) };
    let QuerySpec::CloudWatch(query) = &query.spec else { panic!("{:?}", query.spec) };
    (**query).clone()
}

fn stat(period: &Json) -> Json {
    json!({
        "metric": {
            "namespace": "AWS/SQS",
            "metricName": "ApproximateNumberOfMessagesVisible",
            "dimensions": [{ "name": "QueueName", "value": "helloworld" }],
        },
        "period": period,
        "stat": "Average",
        "unit": "Count",
    })
}

/// The original's sample, with these fields of the query in place of its own.
fn sample(changed: &Json) -> Json {
    let mut query =
        json!({ "id": "sqs_helloworld", "metricStat": stat(&json!(60)), "returnData": true });
    for (key, value) in changed.as_object().unwrap() {
        query[key] = value.clone();
    }
    json!({ "name": "sqs-helloworld-length", "queries": [query] })
}

#[test]
fn the_originals_sample_becomes_an_entry() {
    let entry = plain(&sample(&json!({}))).unwrap();
    assert_eq!(entry.metric.as_str(), "jobs");
    assert_eq!(entry.scope, Scope::Namespace("shop".into()));
    assert_eq!(entry.origin, Origin::Resource { created: Timestamp::UNIX_EPOCH });
    assert_eq!(entry.policy.on_no_data, OnNoData::Value(Decimal::ZERO));
    assert_eq!((entry.policy.refresh, entry.policy.max_age), (seconds(60), seconds(420)));
    assert_eq!(entry.transform.apply(&"-1.5".parse().unwrap()), "-1.5".parse().unwrap());
    let query = question(&entry);
    assert_eq!((&*query.region, query.role_arn.as_deref()), ("eu-west-1", None));
    assert_eq!((query.period, query.delay), (seconds(60), Duration::ZERO));
    assert_eq!(query.lookback, seconds(300));
    assert_eq!(query.manner, Manner::AsWritten { settle: seconds(30) });
    let [only] = &query.queries[..] else { panic!("{query:?}") };
    assert_eq!(
        (&*only.id, only.label.as_deref(), only.return_data),
        ("sqs_helloworld", None, true)
    );
    let MetricQuestion::Metric(stat) = &only.question else { panic!("{only:?}") };
    assert_eq!(
        stat.to_string(),
        "Average of AWS/SQS ApproximateNumberOfMessagesVisible {QueueName=helloworld} per 60s"
    );
    assert_eq!(stat.unit.as_deref(), Some("Count"));
}

#[test]
fn dead_and_unknown_fields_and_nulls_are_nobodys_problem() {
    let mut spec = sample(&json!({
        "resources": { "deep": [1, 2] }, "metricLabels": 7, "ID": "X", "label": null, "expression": null,
    }));
    spec["resource"] = json!({ "resource": "deployment" });
    spec["region"] = Json::Null;
    spec["roleArn"] = Json::Null;
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    spec["deep"] = deep;
    assert_eq!(plain(&spec).unwrap(), plain(&sample(&json!({}))).unwrap());
}

#[test]
fn what_is_sent_is_what_is_written() {
    let query = json!({
        "id": "m1",
        "label": "sum [${PROP('Dim.QueueName')}]",
        "metricStat": {
            "metric": {
                "namespace": "N",
                "metricName": "M",
                "dimensions": [{ "name": "Z", "value": "a b/ü&=<>%" }, { "name": "A", "value": "1" }],
            },
            "period": 60.0, "stat": "average", "unit": "count",
        },
    });
    let asked = question(&plain(&json!({ "queries": [query] })).unwrap());
    let MetricQuestion::Metric(stat) = &asked.queries[0].question else { panic!("{asked:?}") };
    assert_eq!(asked.queries[0].label.as_deref(), Some("sum [${PROP('Dim.QueueName')}]"));
    assert_eq!((&*stat.statistic, stat.unit.as_deref()), ("average", Some("count")));
    let names: Vec<_> = stat.dimensions.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Z", "A"]);
    // An empty unit is one that is not there, and so is an empty label.
    let empty = json!({ "label": "", "metricStat": stat_with("unit", &json!("")) });
    let asked = question(&plain(&sample(&empty)).unwrap());
    let MetricQuestion::Metric(stat) = &asked.queries[0].question else { panic!("{asked:?}") };
    assert_eq!((stat.unit.as_deref(), asked.queries[0].label.as_deref()), (None, None));
}

fn stat_with(key: &str, value: &Json) -> Json {
    let mut stat = stat(&json!(60));
    stat[key] = value.clone();
    stat
}

#[test]
fn an_expression_wins_and_return_data_has_three_states() {
    let spec = json!({ "queries": [
        { "id": "m1", "metricStat": stat(&json!(60)), "returnData": false },
        { "id": "e1", "expression": "m1*2", "metricStat": stat(&json!("x")["y"]) },
        { "id": "e2", "expression": "m1*3", "returnData": true },
        { "id": "e3", "expression": "m1*4", "returnData": null },
    ]});
    let query = question(&plain(&spec).unwrap());
    let returned: Vec<bool> = query.queries.iter().map(|query| query.return_data).collect();
    assert_eq!(returned, [false, true, true, true]);
    assert_eq!(&*query.returned().unwrap().id, "e1");
    assert!(matches!(
        &query.queries[1].question,
        MetricQuestion::Expression { text, period: None } if &**text == "m1*2"
    ));
}

#[test]
fn the_window_is_the_originals_or_one_that_works() {
    let metric = |id: &str, period: u64| json!({ "id": id, "metricStat": stat(&json!(period)), "returnData": false });
    let one =
        |period: u64| json!({ "queries": [{ "id": "m", "metricStat": stat(&json!(period)) }] });
    let math = |text: &str, one: u64, other: u64| json!({ "queries": [metric("a", one), metric("b", other), { "id": "e", "expression": text }] });
    for (spec, period, lookback, settle) in [
        (one(60), 60, 300, 30),
        (one(10), 10, 300, 5),
        (one(120), 120, 300, 30),
        (one(300), 300, 600, 30),
        (one(86400), 86400, 172_800, 30),
        (math("a/b", 60, 300), 300, 600, 30),
        (math("a+1", 60, 300), 60, 300, 30),
        (math("a/b", 120, 300), 600, 1200, 30),
        (math("SUM(METRICS('b'))", 60, 300), 300, 600, 30),
        (math("what? is this", 60, 300), 300, 600, 30),
        (math("SUM(SEARCH('{AWS/SQS,QueueName} x', 'Sum', 300))", 60, 60), 300, 600, 30),
        (json!({ "queries": [{ "id": "a", "expression": "SELECT AVG(x) FROM y" }] }), 60, 300, 30),
    ] {
        let query = question(&plain(&spec).unwrap());
        let found = (query.period, query.lookback, query.manner);
        let settle = Manner::AsWritten { settle: seconds(settle) };
        assert_eq!(found, (seconds(period), seconds(lookback), settle), "{spec}");
    }
}

/// A value never expires while it is in the window that is asked for.
#[test]
fn a_value_is_served_until_it_leaves_the_window() {
    for period in [1, 10, 60, 120, 300, 3600] {
        let spec = sample(&json!({ "metricStat": stat(&json!(period)) }));
        let entry = plain(&spec).unwrap();
        let query = question(&entry);
        let beat = query.beat();
        // Taken when the bucket is as old as it can be, and read again one refresh later.
        let oldest = query.lookback + beat.delay + entry.policy.refresh;
        assert!(oldest < entry.policy.max_age, "{period}: {oldest:?} {:?}", entry.policy.max_age);
    }
}

#[test]
fn an_hpas_selector_has_no_say() {
    let entry = plain(&sample(&json!({}))).unwrap();
    let asked = Selector::parse("a=b").unwrap();
    assert!(entry.selected_by(&asked).is_everything());
}

#[test]
fn region_and_role_stay_within_what_the_operator_allows() {
    let with = |key: &str, value: &str| {
        let mut spec = sample(&json!({}));
        spec[key] = json!(value);
        plain(&spec).map(|entry| question(&entry))
    };
    assert_eq!(&*with("region", "us-east-1").unwrap().region, "us-east-1");
    let role = "arn:aws:iam::222222222222:role/metrics-a";
    assert_eq!(with("roleArn", role).unwrap().role_arn.as_deref(), Some(role));
    for (key, value, message) in [
        (
            "region",
            "eu-north-1",
            "source aws does not allow the region eu-north-1; it allows eu-west-1, us-east-1 (allowedRegions)",
        ),
        ("region", "", "\"\" is not an AWS region; one looks like eu-west-1"),
        (
            "roleArn",
            "",
            "\"\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics",
        ),
        (
            "roleArn",
            "arn:aws:iam::222222222222:role/admin",
            "source aws does not allow the role arn:aws:iam::222222222222:role/admin; it allows arn:aws:iam::*:role/metrics-* (allowedRoles)",
        ),
    ] {
        assert_eq!(with(key, value).unwrap_err(), [format!("spec.{key}: {message}")]);
    }
}

#[test]
fn the_source_is_the_only_one_or_the_annotated_one() {
    let spec = sample(&json!({}));
    let with = |sources: &[SourceProfile], annotations: &[(&str, &str)]| {
        let sources = SourceDirectory::new(sources.iter().cloned());
        named("jobs", Some(&sources), annotations, &spec)
    };
    let aws = |name: &str| SourceProfile {
        region: Some("eu-west-1".into()),
        ..profile(name, SourceKind::Aws)
    };
    let two = [aws("a"), aws("b")];
    let source = |entry: Entry| entry.query.source().to_string();
    assert_eq!(with(&two[1..], &[]).map(source), Ok("b".to_owned()));
    assert_eq!(with(&two, &[("tidepole.dev/source", "a")]).map(source), Ok("a".to_owned()));
    let field = "metadata.annotations[\"tidepole.dev/source\"]";
    assert_eq!(
        with(&two, &[]).unwrap_err(),
        [format!("{field}: several sources could answer (a, b); name one of them here")]
    );
    assert_eq!(
        with(&two, &[("tidepole.dev/source", "c")]).unwrap_err(),
        [format!("{field}: there is no source \"c\"; the sources are a, b")]
    );
    assert_eq!(
        with(&[profile("p", SourceKind::Prometheus)], &[]).unwrap_err(),
        ["spec.queries: no source of kind aws exists; the server config names its sources"]
    );
    let closed =
        SourceProfile { allowed_namespaces: vec![Pattern::new("team-*")], ..aws("closed") };
    assert_eq!(
        with(&[closed], &[("tidepole.dev/source", "closed")]).unwrap_err(),
        [format!(
            "{field}: definitions in namespace shop may not use source closed (allowedNamespaces)"
        )]
    );
    let homeless = profile("aws", SourceKind::Aws);
    assert_eq!(
        with(&[homeless], &[]).unwrap_err(),
        ["spec.region: the region is not known; set it here, or aws.region of the source"]
    );
    assert!(named("jobs", None, &[], &spec).is_ok());
}

#[test]
fn annotations_say_what_the_original_cannot() {
    let spec = sample(&json!({}));
    for (text, expected) in [
        ("error", OnNoData::Error),
        ("hold", OnNoData::Hold),
        ("7", OnNoData::Value(7_i64.into())),
        ("-500m", OnNoData::Value("-0.5".parse().unwrap())),
    ] {
        let entry = annotated(&[("tidepole.dev/on-no-data", text)], &spec).unwrap();
        assert_eq!(entry.policy.on_no_data, expected);
    }
    let entry = annotated(
        &[
            ("tidepole.dev/refresh", "2m"),
            ("tidepole.dev/max-age", "10m"),
            ("tidepole.dev/delay", "1m"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ],
        &spec,
    )
    .unwrap();
    assert_eq!((entry.policy.refresh, entry.policy.max_age), (seconds(120), seconds(600)));
    let query = question(&entry);
    assert_eq!((query.delay, query.lookback), (seconds(60), seconds(360)));
    assert_eq!(query.manner, Manner::AsWritten { settle: Duration::ZERO });
    for (name, text, message) in [
        (
            "on-no-data",
            "zero",
            "expected error, hold or a number like 0, 0.5 or 500m, found \"zero\"",
        ),
        ("on-nodata", "0", "unknown annotation; did you mean `tidepole.dev/on-no-data`?"),
        (
            "timeout-of-reads",
            "1s",
            "unknown annotation; there are tidepole.dev/on-no-data, tidepole.dev/source, tidepole.dev/refresh, tidepole.dev/max-age, tidepole.dev/delay",
        ),
        ("refresh", "30", "the duration 30 has no unit; write it like 30s, 2m or 1h30m"),
        (
            "refresh",
            "15s",
            "refresh 15s is below the floor of 1m: CloudWatch has a new datapoint once a period, 1m",
        ),
        (
            "max-age",
            "2m",
            "maxAge 2m is below 3m = delay 0s + 2 periods of 1m + refresh 1m (the default here): a sample is as old as the start of its bucket, so this one would be too old before the next is read; set maxAge to 3m or more",
        ),
        ("delay", "1.5s", "the duration must be in whole seconds"),
        (
            "delay",
            "500h",
            "delay 500h is longer than 360h (15 days): no HPA can be steered by what was that long ago",
        ),
    ] {
        let name = format!("tidepole.dev/{name}");
        assert_eq!(
            annotated(&[(&name, text)], &spec).unwrap_err(),
            [format!("metadata.annotations[{name:?}]: {message}")]
        );
    }
}

#[test]
fn a_wrong_type_is_the_resources_own_problem_and_named() {
    let own = |value: Json| plain(&value).unwrap_err();
    for (key, value, message) in [
        (
            "returnData",
            json!("true"),
            "expected true or false, found the text \"true\"; write it as true, without quotes",
        ),
        ("returnData", json!(1), "expected true or false, found 1"),
        ("label", json!(7), "expected text, found 7; write it as \"7\""),
        ("id", json!(["a"]), "expected text, found a list"),
        ("expression", json!({}), "expected text, found a mapping"),
        ("metricStat", json!("x"), "expected a mapping, found the text \"x\""),
    ] {
        let found = own(sample(&json!({ key: value })));
        assert_eq!(found, [format!("spec.queries[0].{key}: {message}")]);
    }
    for (key, value, message) in [
        (
            "period",
            json!("60"),
            "expected a whole number of seconds, found the text \"60\"; write it as 60, without quotes",
        ),
        ("period", json!(60.5), "expected a whole number of seconds, found 60.5"),
        ("period", json!(1e300), "expected a whole number of seconds, found 1e+300"),
        ("unit", json!(true), "expected text, found true; write it as \"true\""),
        ("metric", json!([]), "expected a mapping, found a list"),
    ] {
        let found = own(sample(&json!({ "metricStat": stat_with(key, &value) })));
        assert_eq!(found, [format!("spec.queries[0].metricStat.{key}: {message}")]);
    }
    let mut dimension = stat(&json!(60));
    dimension["metric"]["dimensions"][0]["value"] = json!(123);
    assert_eq!(
        own(sample(&json!({ "metricStat": dimension }))),
        [
            "spec.queries[0].metricStat.metric.dimensions[0].value: expected text, found 123; write it as \"123\""
        ]
    );
    assert_eq!(own(json!("hello")), ["spec: expected a mapping, found the text \"hello\""]);
    assert_eq!(
        own(json!({ "queries": "x" })),
        ["spec.queries: expected a list, found the text \"x\""]
    );
    let both = json!({ "name": 1, "queries": [7] });
    assert_eq!(
        own(both),
        [
            "spec.name: expected text, found 1; write it as \"1\"",
            "spec.queries[0]: expected a mapping, found 7"
        ]
    );
}

#[test]
fn what_no_service_could_take_is_refused_with_its_field() {
    let own = |value: Json| plain(&value).unwrap_err();
    for empty in [json!(null), json!({}), json!({ "queries": null }), json!({ "queries": [] })] {
        assert_eq!(own(empty), ["spec.queries: at least one query is needed"]);
    }
    assert_eq!(own(sample(&json!({ "id": "" }))), ["spec.queries[0].id: this field is missing"]);
    assert_eq!(
        own(sample(&json!({ "id": "my-queue" }))),
        [
            "spec.queries[0].id: \"my-queue\" is not an id: a lower-case letter, then letters, digits and \"_\", 255 at most"
        ]
    );
    assert_eq!(
        own(sample(&json!({ "returnData": false }))),
        [
            "spec.queries: no query is returned: each says returnData: false; leave that out at the one whose series is the metric"
        ]
    );
    for (period, message) in [
        (json!(null), "this field is missing"),
        (json!(0), "this field is missing"),
        (json!(-60), "-60 seconds are no period; it is above zero"),
        (
            json!(45),
            "CloudWatch has no period of 45s; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
        ),
    ] {
        assert_eq!(
            own(sample(&json!({ "metricStat": stat(&period) }))),
            [format!("spec.queries[0].metricStat.period: {message}")]
        );
    }
    let nameless = json!({ "metric": { "dimensions": [null] }, "period": 60 });
    let base = "spec.queries[0].metricStat";
    assert_eq!(
        own(sample(&json!({ "metricStat": nameless }))),
        [
            format!("{base}.metric.dimensions[0].name: this field is missing"),
            format!("{base}.metric.dimensions[0].value: this field is missing"),
            format!("{base}.metric.metricName: this field is missing"),
            format!("{base}.metric.namespace: this field is missing"),
            format!("{base}.stat: this field is missing"),
        ]
    );
    let query = sample(&json!({}))["queries"][0].clone();
    assert_eq!(
        own(json!({ "queries": [query, query] })),
        ["spec.queries[1].id: queries[0] has the same id"]
    );
    assert_eq!(
        own(json!({ "queries": vec![query; 501] })),
        ["spec.queries: 501 queries; one GetMetricData call takes 500 at most"]
    );
    let reserved = named("status", Some(&sources()), &[], &sample(&json!({}))).unwrap_err();
    assert!(reserved[0].starts_with("metadata.name: "), "{reserved:?}");
}

/// Any JSON, with the names of fields that are known.
fn anything() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(|number| json!(number)),
        "(m1|e1|m1\\*2|AWS/SQS|60|METRICS\\(|SEARCH\\('|')?.{0,3}".prop_map(Json::from),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "roleArn",
        "region",
        "queries",
        "id",
        "expression",
        "label",
        "returnData",
        "metricStat",
        "metric",
        "namespace",
        "metricName",
        "dimensions",
        "value",
        "period",
        "stat",
        "unit",
        "other",
    ]);
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(spec in anything(), queries in anything(), name in ".{0,20}", text in ".{0,10}") {
        let annotations = [("tidepole.dev/on-no-data", &*text), ("tidepole.dev/delay", &*text), (&*name, "x")];
        for spec in [spec.clone(), json!({ "queries": queries }), json!({ "queries": [queries] })] {
            // An entry, or at least one problem, each with the resource's name: `named` asserts it.
            let found = named("jobs", Some(&sources()), &annotations, &spec);
            if let Ok(entry) = found {
                let query = question(&entry);
                prop_assert!(query.returned().is_some());
                prop_assert!(query.lookback >= query.delay + query.period);
                prop_assert!(query.period >= seconds(1));
            }
        }
    }

    #[test]
    fn whatever_one_field_of_the_sample_is(value in anything(), at in 0..11_usize) {
        const PATHS: [&str; 11] = [
            "/name", "/queries/0", "/queries/0/id", "/queries/0/returnData", "/queries/0/metricStat",
            "/queries/0/metricStat/period", "/queries/0/metricStat/stat", "/queries/0/metricStat/unit",
            "/queries/0/metricStat/metric", "/queries/0/metricStat/metric/dimensions",
            "/queries/0/metricStat/metric/dimensions/0",
        ];
        let mut spec = sample(&json!({}));
        *spec.pointer_mut(PATHS[at]).unwrap() = value;
        if let Err(problems) = plain(&spec) {
            prop_assert!(problems.iter().all(|problem| problem.starts_with("spec.")), "{:?}", problems);
        }
    }
}
