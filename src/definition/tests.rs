//! Whole documents: what they become, and every mistake with its message and place.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Aggregate, Decimal, DefinitionKind, Pattern, PrometheusQuery, Query, QuerySpec, QueryTemplate,
    QueueCount, QueueRef, Scope, SimulatedQuery, SourceKind, SourceName, SqsQuery,
};

pub(super) fn profile(name: &str, kind: SourceKind) -> SourceProfile {
    SourceProfile {
        name: SourceName::new(name),
        kind,
        region: None,
        allowed_regions: Vec::new(),
        allowed_roles: Vec::new(),
        cost: crate::model::CostSettings::default(),
        allowed_namespaces: Vec::new(),
    }
}

pub(super) fn sources() -> SourceDirectory {
    SourceDirectory::new([
        SourceProfile {
            allowed_namespaces: vec![Pattern::new("team-*")],
            ..profile("main", SourceKind::Prometheus)
        },
        SourceProfile {
            region: Some("eu-west-1".into()),
            allowed_regions: vec!["eu-west-1".into(), "us-east-1".into()],
            allowed_roles: vec![Pattern::new("arn:aws:iam::*:role/metrics-*")],
            ..profile("aws", SourceKind::Aws)
        },
        profile("sim", SourceKind::Simulated),
    ])
}

fn recording(path: &Path, _limit: usize) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("dir/good.csv") => Ok(b"0,1\n60,2\n".to_vec()),
        Some("dir/bad.csv") => Ok(b"0,1\nx y,2\n".to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn read_with(sources: Option<&SourceDirectory>, author: Author, text: &str) -> Vec<Definition> {
    let defaults = Defaults::default();
    let context =
        Context { sources, defaults: &defaults, cluster: true, author, read_file: &recording };
    read(Path::new("dir/f.yaml"), text, &context).unwrap()
}

pub(super) fn one(text: &str) -> Result<Entry, Vec<String>> {
    let mut definitions = read_with(Some(&sources()), Author::Operator, text);
    assert_eq!(definitions.len(), 1);
    definitions.remove(0).outcome.map_err(|problems| {
        problems.iter().map(|p| p.to_string().replace("dir/f.yaml:", "")).collect()
    })
}

/// A namespaced definition with this spec, which begins in line 5.
pub(super) fn namespaced(spec: &str) -> String {
    format!(
        "apiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\nmetadata: {{name: jobs, namespace: team-a}}\nspec:\n{}",
        indent(spec)
    )
}

fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: jobs}}\nspec:\n{}",
        indent(spec)
    )
}

fn indent(spec: &str) -> String {
    let lines: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n") + "\n"
}

pub(super) fn entry(text: &str) -> Entry {
    one(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

pub(super) fn fixed(entry: &Entry) -> &Query {
    match &entry.query {
        QueryTemplate::Fixed(query) => query,
        other @ (QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_)) => {
            panic!("{other:?}")
        }
    }
}

const SIM: &str = "simulated: {constant: 1}\n";

#[test]
fn a_prometheus_definition_becomes_an_entry() {
    let entry = entry(&namespaced(
        "metric: Jobs_Ready\nlabels: {queue: jobs}\nprometheus:\n  query: 'sum(x{ns=\"$namespace\"})'\n  lookbackDelta: 1m\nrefresh: 30s\nmaxAge: 5m\nonNoData: 0\nscale: \"0.5\"\noffset: 1\nmax: 2k\naggregate: sum\nkeepWarm: true",
    ));
    assert_eq!(entry.id.to_string(), "ExternalMetric team-a/jobs");
    assert_eq!(entry.origin.to_string(), "dir/f.yaml:1");
    assert_eq!(entry.metric.as_str(), "jobs_ready");
    assert_eq!(entry.labels.to_string(), "{queue=jobs}");
    assert_eq!(entry.scope, Scope::Namespace("team-a".into()));
    let expected = PrometheusQuery {
        query: "sum(x{ns=\"team-a\"})".into(),
        lookback_delta: Some(Duration::from_mins(1)),
        shape: crate::model::AnswerShape::Items,
    };
    assert_eq!(fixed(&entry).spec, QuerySpec::Prometheus(expected));
    assert_eq!(fixed(&entry).source.as_str(), "main");
    assert_eq!(entry.policy.refresh, Duration::from_secs(30));
    assert_eq!(entry.policy.max_age, Duration::from_mins(5));
    assert_eq!(entry.policy.on_no_data, OnNoData::Value(Decimal::ZERO));
    assert!(entry.policy.keep_warm);
    assert_eq!(entry.transform.scale, "0.5".parse().unwrap());
    assert_eq!(entry.transform.offset, Decimal::ONE);
    assert_eq!(entry.transform.min, Some(Decimal::ZERO));
    assert_eq!(entry.transform.max, Some(2000_u64.into()));
    assert_eq!(entry.transform.aggregate, Aggregate::Sum);
}

#[test]
fn what_is_not_said_takes_the_defaults() {
    let entry = entry(&cluster("prometheus: {query: up}\nallowNegative: true\nmax: null"));
    assert_eq!(entry.id.kind, DefinitionKind::ClusterExternalMetric);
    assert_eq!(entry.metric.as_str(), "jobs");
    assert_eq!(entry.scope, Scope::All);
    assert_eq!(entry.policy.refresh, Duration::from_secs(15));
    assert_eq!(entry.policy.max_age, Duration::from_mins(2));
    assert_eq!(entry.policy.on_no_data, OnNoData::Hold);
    assert_eq!(entry.policy.first_read_timeout, Duration::from_secs(2));
    assert_eq!((&entry.transform.min, &entry.transform.max), (&None, &None));
}

#[test]
fn a_default_below_the_floor_is_raised() {
    let defaults = Defaults { refresh: Duration::from_millis(100), ..Defaults::default() };
    let context = Context {
        sources: None,
        defaults: &defaults,
        cluster: true,
        author: Author::Operator,
        read_file: &recording,
    };
    let definitions = read(Path::new("f"), &namespaced(SIM), &context).unwrap();
    assert_eq!(definitions[0].outcome.as_ref().unwrap().policy.refresh, REFRESH_FLOOR);
}

#[test]
fn a_cluster_wide_query_waits_for_its_namespace() {
    let entry = entry(&cluster("prometheus: {query: 'up{ns=\"$namespace\"}'}"));
    assert!(matches!(entry.query, QueryTemplate::PerNamespace { .. }));
    let QuerySpec::Prometheus(query) = &entry.query.resolve("a").unwrap().spec else { panic!() };
    assert_eq!(&*query.query, "up{ns=\"a\"}");
}

#[test]
fn what_only_reads_tell_of_is_not_kept_warm() {
    let spec = "prometheus: {query: 'up{ns=\"$namespace\"}'}\nkeepWarm: true";
    assert_eq!(
        one(&cluster(spec)).unwrap_err(),
        [
            "6:13: spec.keepWarm: keepWarm needs a query without $namespace, or an ExternalMetric: for which namespaces a cluster-wide definition is to be refreshed is known by their reads alone"
        ]
    );
    assert!(entry(&namespaced(spec)).policy.keep_warm);
}

#[test]
fn cluster_wide_scopes() {
    let listed = entry(&cluster("namespaces: [b, a]\nsimulated: {constant: 1}")).scope;
    assert_eq!(listed, Scope::Listed(["a".into(), "b".into()].into()));
    let selected = entry(&cluster(
        "namespaceSelector:\n  matchLabels: {team: a}\n  matchExpressions:\n  - {key: env, operator: NotIn, values: [test, dev]}\n  - {key: x, operator: Exists}\nsimulated: {constant: 1}",
    ));
    let Scope::Selected(selector) = selected.scope else { panic!() };
    assert_eq!(selector.to_string(), "team=a,env notin (dev,test),x");
}

#[test]
fn queues_take_their_region_from_the_nearest_place() {
    let entry = entry(&namespaced(
        "sqs:\n  queues: [jobs, 'arn:aws:sqs:us-east-1:111122223333:other', 'http://127.0.0.1:9324/000000000000/local']\n  count: [delayed, visible]",
    ));
    let queue = |region: &str, account: Option<&str>, name: &str| QueueRef {
        region: region.into(),
        account: account.map(Into::into),
        name: name.into(),
    };
    assert_eq!(
        fixed(&entry).spec,
        QuerySpec::Sqs(SqsQuery {
            queues: vec![
                queue("eu-west-1", None, "jobs"),
                queue("eu-west-1", Some("000000000000"), "local"),
                queue("us-east-1", Some("111122223333"), "other"),
            ],
            count: vec![QueueCount::Visible, QueueCount::Delayed],
            role_arn: None,
        })
    );
    let other = self::entry(&namespaced("sqs: {queues: [jobs], region: us-east-1}"));
    let QuerySpec::Sqs(query) = &fixed(&other).spec else { panic!() };
    assert_eq!(query.queues, [queue("us-east-1", None, "jobs")]);
    assert_eq!(query.count, [QueueCount::Visible, QueueCount::InFlight]);
}

#[test]
fn a_role_that_the_operator_allows_goes_with_the_question() {
    let role = "arn:aws:iam::444455556666:role/metrics-reader";
    let sqs = entry(&namespaced(&format!("sqs: {{queues: [jobs], roleArn: '{role}'}}")));
    let QuerySpec::Sqs(query) = &fixed(&sqs).spec else { panic!() };
    assert_eq!(query.role_arn.as_deref(), Some(role));
}

#[test]
fn simulated_signals() {
    let second = Duration::from_secs;
    for (spec, expected) in [
        ("constant: 500m", SimulatedQuery::Constant("0.5".parse().unwrap())),
        (
            "ramp: {from: 0, to: \"10\", over: 1m}",
            SimulatedQuery::Ramp { from: Decimal::ZERO, to: 10_u64.into(), over: second(60) },
        ),
        (
            "steps: [{value: 1, for: 2s}, {value: 3, for: 4s}]",
            SimulatedQuery::Steps(vec![(1_u64.into(), second(2)), (3_u64.into(), second(4))]),
        ),
        (
            "wave: {min: \"0\", max: \"100\", period: 10m}",
            SimulatedQuery::Wave { min: Decimal::ZERO, max: 100_u64.into(), period: second(600) },
        ),
        (
            "noise: {seed: 7, min: 1, max: 2}",
            SimulatedQuery::Noise { seed: 7, min: 1_u64.into(), max: 2_u64.into() },
        ),
        (
            "csv: good.csv",
            SimulatedQuery::Replay(Arc::from([
                (Duration::ZERO, Some(1_u64.into())),
                (second(60), Some(2_u64.into())),
            ])),
        ),
    ] {
        let entry = entry(&namespaced(&format!("simulated:\n  {spec}")));
        assert_eq!(fixed(&entry).spec, QuerySpec::Simulated(expected), "{spec}");
    }
}

/// Specs that begin in line 5, and what is wrong with each.
const SPEC_MISTAKES: &[(&str, &[&str])] = &[
    // Shape
    (
        "refesh: 5s\nsimulated: {constant: 1}",
        &["5:3: spec.refesh: unknown field; did you mean `refresh`?"],
    ),
    (
        "simulated: {constant: 1, bananas: 1}",
        &[
            "5:28: spec.simulated.bananas: unknown field; the fields here are constant, ramp, steps, wave, noise, csv",
        ],
    ),
    (
        "bananas: {}",
        &[
            "5:3: spec.bananas: unknown field; the fields here are metric, resource, labels, namespaces, namespaceSelector, source, prometheus, sqs, cloudwatch, simulated, refresh, maxAge, onNoData, scale, offset, min, max, allowNegative, aggregate, keepWarm",
        ],
    ),
    ("metric: a", &["5:3: spec: exactly one of prometheus, sqs, cloudwatch, simulated is needed"]),
    (
        "prometheus: {query: up}\nsimulated: {constant: 1}",
        &[
            "6:3: spec.simulated: exactly one of prometheus, sqs, cloudwatch, simulated is allowed, here are prometheus and simulated",
        ],
    ),
    ("prometheus: up", &["5:15: spec.prometheus: expected a mapping, found \"up\""]),
    ("prometheus: {}", &["5:15: spec.prometheus.query: this field is missing"]),
    ("prometheus: {query: ' '}", &["5:23: spec.prometheus.query: the query is empty"]),
    (
        "prometheus: {query: up, lookbackDelta: 0s}",
        &["5:42: spec.prometheus.lookbackDelta: the duration must be above zero"],
    ),
    // Names and labels
    (
        "metric: a/b\nsimulated: {constant: 1}",
        &[
            "5:11: spec.metric: a metric name must not be \".\" or \"..\" and must not contain \"/\", \"%\", white space or control characters: \"a/b\"",
        ],
    ),
    (
        "labels: {queue: 5, -a: x, b: 'a b'}\nsimulated: {constant: 1}",
        &[
            "5:19: spec.labels.queue: expected text, found 5; write it as \"5\"",
            "5:22: spec.labels.-a: \"-a\" is not a valid label key, so no selector could name it: letters, digits, \"-\", \"_\" and \".\", at most 63, beginning and ending with a letter or digit, after an optional DNS prefix and \"/\"",
            "5:32: spec.labels.b: \"a b\" is not a valid label value, so no selector could match it: at most 63 letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit",
        ],
    ),
    // Sources
    (
        "source: mian\nprometheus: {query: up}",
        &["5:11: spec.source: there is no source \"mian\"; did you mean `main`?"],
    ),
    (
        "source: elsewhere\nprometheus: {query: up}",
        &["5:11: spec.source: there is no source \"elsewhere\"; the sources are aws, main, sim"],
    ),
    (
        "source: aws\nprometheus: {query: up}",
        &[
            "5:11: spec.source: source aws is of kind aws, but prometheus needs one of kind prometheus; there is main",
        ],
    ),
    // Durations and numbers
    (
        "refresh: 15\nmaxAge: -2m\nsimulated: {constant: many}",
        &[
            "5:12: spec.refresh: the duration 15 has no unit; write it like 15s, 2m or 1h30m",
            "6:11: spec.maxAge: the duration -2m is negative",
            "7:25: spec.simulated.constant: \"many\" is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi",
        ],
    ),
    (
        "refresh: 500ms\nsimulated: {constant: .inf}",
        &[
            "5:12: spec.refresh: refresh 500ms is below the floor of 1s",
            "6:25: spec.simulated.constant: inf is not a finite number",
        ],
    ),
    (
        "refresh: 1m\nmaxAge: 30s\nsimulated: {constant: 1}",
        &[
            "6:11: spec.maxAge: maxAge 30s is below refresh 1m: every sample would be too old before the next is read; set maxAge to 2m or more",
        ],
    ),
    (
        "maxAge: 10s\nsimulated: {constant: 1}",
        &[
            "5:11: spec.maxAge: maxAge 10s is below refresh 15s (the default): every sample would be too old before the next is read; set maxAge to 30s or more",
        ],
    ),
    (
        "refresh: 5m\nsimulated: {constant: 1}",
        &[
            "5:12: spec.refresh: maxAge 2m (the default) is below refresh 5m: every sample would be too old before the next is read; set maxAge to 10m or more",
        ],
    ),
    (
        "onNoData: skip\nsimulated: {constant: 1}",
        &["5:13: spec.onNoData: expected error, hold or a number, found \"skip\""],
    ),
    (
        "onNoData: -1\nmin: -5\nsimulated: {constant: 1}",
        &[
            "5:13: spec.onNoData: -1 is below 0; set allowNegative: true if that is meant",
            "6:8: spec.min: min -5 is below 0; set allowNegative: true if that is meant",
        ],
    ),
    ("min: 5\nmax: 4\nsimulated: {constant: 1}", &["6:8: spec.max: max 4 is below min 5"]),
    ("max: -4\nsimulated: {constant: 1}", &["5:8: spec.max: max -4 is below min 0"]),
    (
        "aggregate: median\nkeepWarm: 1\nsimulated: {constant: 1}",
        &[
            "5:14: spec.aggregate: expected one of none, sum, avg, max, min, found \"median\"",
            "6:13: spec.keepWarm: expected true or false, found the number 1",
        ],
    ),
    // Scope
    (
        "namespaces: [a]\nnamespaceSelector: {}\nsimulated: {constant: 1}",
        &[
            "5:3: spec.namespaces: only ClusterExternalMetric has this field; an ExternalMetric is seen in its own namespace",
            "6:3: spec.namespaceSelector: only ClusterExternalMetric has this field; an ExternalMetric is seen in its own namespace",
        ],
    ),
    // SQS
    ("sqs: {}", &["5:8: spec.sqs.queues: this field is missing"]),
    ("sqs: {queues: []}", &["5:17: spec.sqs.queues: at least one queue is needed"]),
    ("sqs: {queues: jobs}", &["5:17: spec.sqs.queues: expected a list, found \"jobs\""]),
    (
        "sqs: {queues: [a b, 'arn:aws:sqs:x', 'https://x/y', jobs, jobs]}",
        &[
            "5:18: spec.sqs.queues[0]: \"a b\" is not a queue name: 1 to 80 letters, digits, \"-\" and \"_\", for a FIFO queue with \".fifo\" at the end",
            "5:23: spec.sqs.queues[1]: \"arn:aws:sqs:x\" is not a queue's ARN; one looks like arn:aws:sqs:eu-west-1:111122223333:jobs",
            "5:40: spec.sqs.queues[2]: \"https://x/y\" is not a queue's URL; one looks like https://sqs.eu-west-1.amazonaws.com/111122223333/jobs",
            "5:61: spec.sqs.queues[4]: this queue is listed twice; its messages would count twice",
        ],
    ),
    (
        "sqs: {queues: [jobs], region: Ireland}",
        &["5:33: spec.sqs.region: \"Ireland\" is not an AWS region; one looks like eu-west-1"],
    ),
    (
        "sqs: {queues: [jobs], region: ap-south-1}",
        &[
            "5:33: spec.sqs.region: source aws does not allow the region ap-south-1; it allows eu-west-1, us-east-1 (allowedRegions)",
        ],
    ),
    (
        "sqs: {queues: ['arn:aws:sqs:ap-south-1:111122223333:a', 'arn:aws:sqs:us-east-1:111122223333:a'], region: eu-west-1}",
        &[
            "5:18: spec.sqs.queues[0]: this queue is in ap-south-1, but spec.sqs.region says eu-west-1",
            "5:59: spec.sqs.queues[1]: this queue is in us-east-1, but spec.sqs.region says eu-west-1",
        ],
    ),
    (
        "sqs: {queues: ['arn:aws:sqs:ap-south-1:111122223333:a']}",
        &[
            "5:18: spec.sqs.queues[0]: source aws does not allow the region ap-south-1; it allows eu-west-1, us-east-1 (allowedRegions)",
        ],
    ),
    (
        "sqs: {queues: [jobs], count: [visible, visble]}",
        &[
            "5:42: spec.sqs.count[1]: expected one of visible, inFlight, delayed, found \"visble\"; did you mean `visible`?",
        ],
    ),
    (
        "sqs: {queues: [jobs], count: [visible, visible]}",
        &["5:32: spec.sqs.count: the same count is listed twice"],
    ),
    (
        "sqs: {queues: [jobs], count: []}",
        &["5:32: spec.sqs.count: at least one of visible, inFlight, delayed is needed"],
    ),
    (
        "sqs: {queues: [jobs], roleArn: admin}",
        &[
            "5:34: spec.sqs.roleArn: \"admin\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics",
        ],
    ),
    (
        "sqs: {queues: [jobs], roleArn: 'arn:aws:iam::111122223333:role/admin'}",
        &[
            "5:34: spec.sqs.roleArn: source aws does not allow the role arn:aws:iam::111122223333:role/admin; it allows arn:aws:iam::*:role/metrics-* (allowedRoles)",
        ],
    ),
    // Simulated
    (
        "simulated: {}",
        &["5:14: spec.simulated: exactly one of constant, ramp, steps, wave, noise, csv is needed"],
    ),
    (
        "simulated: {constant: 1, csv: x}",
        &[
            "5:28: spec.simulated.csv: exactly one of constant, ramp, steps, wave, noise, csv is allowed, here are constant and csv",
        ],
    ),
    (
        "simulated: {wave: {min: 5, max: 1, period: 0s}}",
        &[
            "5:35: spec.simulated.wave.max: max 1 is below min 5",
            "5:46: spec.simulated.wave.period: the duration must be above zero",
        ],
    ),
    (
        "simulated: {ramp: {from: 1}}",
        &[
            "5:21: spec.simulated.ramp.over: this field is missing",
            "5:21: spec.simulated.ramp.to: this field is missing",
        ],
    ),
    ("simulated: {steps: []}", &["5:22: spec.simulated.steps: 1 to 1000 steps are needed"]),
    (
        "simulated: {steps: [{value: 1}, {value: x, for: 1s}]}",
        &[
            "5:23: spec.simulated.steps[0].for: this field is missing",
            "5:43: spec.simulated.steps[1].value: \"x\" is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi",
        ],
    ),
    (
        "simulated: {noise: {seed: -1, min: 0, max: 1}}",
        &[
            "5:29: spec.simulated.noise.seed: expected a whole number, not negative, found the number -1",
        ],
    ),
    (
        "simulated: {csv: none.csv}",
        &["5:20: spec.simulated.csv: dir/none.csv cannot be read: entity not found"],
    ),
    (
        "simulated: {csv: bad.csv}",
        &["dir/bad.csv:2: \"x y\" is not an offset; write seconds (90) or a duration (1m30s)"],
    ),
];

#[test]
fn every_mistake_in_a_spec_is_named_with_its_place() {
    for (spec, expected) in SPEC_MISTAKES {
        assert_eq!(one(&namespaced(spec)).unwrap_err(), *expected, "{spec}");
    }
}

#[test]
fn every_mistake_of_the_cluster_wide_kind_is_named() {
    let cases: &[(&str, &[&str])] = &[
        (
            "namespaces: []\nsimulated: {constant: 1}",
            &["5:15: spec.namespaces: the list is empty: nobody could see the metric"],
        ),
        (
            "namespaces: [A]\nsimulated: {constant: 1}",
            &[
                "5:16: spec.namespaces[0]: \"A\" is not a valid name here: at most 63 lower-case letters, digits and \"-\", beginning and ending with a letter or digit",
            ],
        ),
        (
            "namespaces: [a]\nnamespaceSelector: {}\nsimulated: {constant: 1}",
            &["6:3: spec.namespaceSelector: namespaces and namespaceSelector exclude each other"],
        ),
        (
            "namespaceSelector:\n  matchExpressions:\n  - {key: a, operator: In}\n  - {key: a, operator: Exists, values: [x]}\n  - {operator: Near}\nsimulated: {constant: 1}",
            &[
                "9:18: spec.namespaceSelector.matchExpressions[2].operator: expected one of In, NotIn, Exists, DoesNotExist, found \"Near\"",
            ],
        ),
        (
            "namespaceSelector:\n  matchExpressions:\n  - {key: a, operator: In}\n  - {key: a, operator: Exists, values: [x]}\n  - {operator: Exists}\nsimulated: {constant: 1}",
            &[
                "7:7: spec.namespaceSelector.matchExpressions[0].values: In and NotIn need at least one value",
                "8:42: spec.namespaceSelector.matchExpressions[1].values: Exists and DoesNotExist take no values",
                "9:7: spec.namespaceSelector.matchExpressions[2].key: this field is missing",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(one(&cluster(spec)).unwrap_err(), *expected, "{spec}");
    }
}

#[test]
fn every_mistake_around_the_spec_is_named() {
    let cases: &[(&str, &[&str])] = &[
        ("just text", &["1:1: expected a mapping with apiVersion, kind, metadata and spec"]),
        (
            "{a: 1}",
            &[
                "1:1: kind: this field is missing; it is ExternalMetric, ClusterExternalMetric, CustomMetric or ClusterCustomMetric",
            ],
        ),
        (
            "kind: Metric",
            &[
                "1:7: kind: unknown kind \"Metric\"; this version knows ExternalMetric, ClusterExternalMetric, CustomMetric and ClusterCustomMetric",
            ],
        ),
        (
            "kind: ExternalMetrics",
            &["1:7: kind: unknown kind \"ExternalMetrics\"; did you mean `ExternalMetric`?"],
        ),
        (
            "kind: ServerConfig",
            &["1:7: kind: this is a server config, not a definition; give it to `serve --config`"],
        ),
        (
            "kind: ExternalMetric",
            &[
                "1:1: apiVersion: this field is missing",
                "1:1: metadata.name: this field is missing",
                "1:1: metadata.namespace: this field is missing",
                "1:1: spec: exactly one of prometheus, sqs, cloudwatch, simulated is needed",
            ],
        ),
        (
            "apiVersion: v1\nkind: ClusterExternalMetric\nmetadata: {name: A b, namespace: x, uid: 5}\nspec: {simulated: {constant: 1}}\nstatus: {}",
            &[
                "1:13: apiVersion: unknown version \"v1\"; this version knows tidepole.dev/v1alpha1",
                "3:18: metadata.name: \"A b\" is not a valid object name: at most 253 lower-case letters, digits, \"-\" and \".\", beginning and ending with a letter or digit",
                "3:34: metadata.namespace: ClusterExternalMetric has no namespace; remove it, or make this an ExternalMetric, or limit it by spec.namespaces",
                "3:37: metadata.uid: unknown field; the fields here are name, namespace, labels, annotations",
                "5:1: status: unknown field; the fields here are apiVersion, kind, metadata, spec",
            ],
        ),
        (
            "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {name: status}\nspec: {simulated: {constant: 1}}",
            &[
                "3:18: metadata.name: the metric name \"status\" is taken by Kubernetes' path grammar (/namespaces/<ns>/status) and can never be read; choose another",
            ],
        ),
        (
            "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nkind: ExternalMetric\nmetadata: {name: a}\nspec: {simulated: {constant: 1}}",
            &["3:1: kind: this key is written twice, first in line 2"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(one(text).unwrap_err(), *expected, "{text}");
    }
}

#[test]
fn without_a_fitting_source_the_candidates_are_named() {
    let problems = |sources: &SourceDirectory, author, spec: &str| -> Vec<String> {
        let mut definitions = read_with(Some(sources), author, &namespaced(spec));
        match definitions.remove(0).outcome {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|p| p.message.clone()).collect(),
        }
    };
    let none = SourceDirectory::default();
    assert_eq!(
        problems(&none, Author::Operator, "prometheus: {query: up}"),
        ["no source of kind prometheus exists; the server config names its sources"]
    );
    assert_eq!(
        problems(&none, Author::Operator, "source: x\nprometheus: {query: up}"),
        ["there is no source \"x\"; the server config has none"]
    );
    let two = SourceDirectory::new([profile("b", SourceKind::Aws), profile("a", SourceKind::Aws)]);
    assert_eq!(
        problems(&two, Author::Operator, "sqs: {queues: [x]}"),
        ["several sources could answer (a, b); name one of them here"]
    );
    assert_eq!(
        problems(
            &two,
            Author::Operator,
            "source: a\nsqs: {queues: [x], roleArn: 'arn:aws:iam::111122223333:role/x'}"
        ),
        [
            "the queue's region is not known; set spec.sqs.region",
            "source a does not allow the role arn:aws:iam::111122223333:role/x; it allows none (allowedRoles)"
        ]
    );
}

#[test]
fn allow_lists_bind_tenants_and_not_files() {
    let text = namespaced("source: main\nprometheus: {query: up}").replace("team-a", "other");
    let outcome = |author| read_with(Some(&sources()), author, &text).remove(0).outcome;
    assert!(outcome(Author::Operator).is_ok());
    assert_eq!(
        outcome(Author::Tenant).unwrap_err()[0].message,
        "definitions in namespace other may not use source main (allowedNamespaces)"
    );
    let csv = namespaced("simulated: {csv: good.csv}");
    assert_eq!(
        read_with(Some(&sources()), Author::Tenant, &csv).remove(0).outcome.unwrap_err()[0].message,
        "only definitions in files can name a recording"
    );
}

#[test]
fn without_sources_only_the_documents_themselves_are_checked() {
    for spec in [
        "source: anything\nprometheus: {query: up}",
        "sqs: {queues: [a], region: ap-south-1, roleArn: 'arn:aws:iam::111122223333:role/x'}",
        "sqs: {queues: [a]}",
        SIM,
    ] {
        let outcome = read_with(None, Author::Operator, &namespaced(spec)).remove(0).outcome;
        assert!(outcome.is_ok(), "{spec}: {outcome:?}");
    }
}

#[test]
fn the_documents_of_a_file_stand_alone() {
    let text = format!("{}---\n---\n{}", namespaced(SIM), namespaced("metric: a/b\nbad: 1"));
    let definitions = read_with(Some(&sources()), Author::Operator, &text);
    assert_eq!(definitions.len(), 2);
    assert!(definitions[0].outcome.is_ok());
    let id = definitions[1].id.as_ref().unwrap();
    assert_eq!(id.to_string(), "ExternalMetric team-a/jobs");
    assert_eq!(definitions[1].outcome.as_ref().unwrap_err().len(), 2);
}

#[test]
fn a_file_that_is_no_yaml_is_one_problem() {
    let defaults = Defaults::default();
    let context = Context {
        sources: None,
        defaults: &defaults,
        cluster: true,
        author: Author::Operator,
        read_file: &recording,
    };
    let problem = read(Path::new("f.yaml"), "a: [1\nb: 2\n", &context).unwrap_err();
    assert_eq!((problem.line, problem.field.as_str()), (2, ""));
    assert!(problem.message.starts_with("not valid YAML: "), "{problem}");
}

proptest! {
    #[test]
    fn arbitrary_documents_never_panic(
        kind in "(Cluster)?(External|Custom)Metric",
        spec in "((  )?(metric|labels|resource|objects|source|prometheus|sqs|cloudwatch|simulated|refresh|maxAge|onNoData|scale|min|max|queues|query|steps|csv|wave|namespaceSelector|count): (x|5|-1|\\[a, 1\\]|\\{a: b\\}|\\{queues: \\[a, b c\\]\\}|\\{steps: \\[\\{value: 1\\}\\]\\}|1s|null)?\n){0,8}",
    ) {
        let text = format!(
            "apiVersion: tidepole.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\nspec:\n  keepWarm: false\n{}",
            indent(&spec)
        );
        let defaults = Defaults::default();
        let sources = sources();
        let context = Context {
            sources: Some(&sources),
            defaults: &defaults,
        cluster: true,
            author: Author::Operator,
            read_file: &recording,
        };
        for definition in read(Path::new("f"), &text, &context).unwrap_or_default() {
            if let Err(problems) = definition.outcome {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| !p.message.contains("please report it")), "{:?}", problems);
            }
        }
    }
}
