//! Whole definitions on CloudWatch: what they become, and every rule with its place and text.

use proptest::prelude::*;

use super::*;
use crate::definition::tests::{entry, fixed, namespaced, one};
use crate::definition::{Author, Context, Defaults};
use crate::model::{Entry, QuerySpec};

const ELB: &str = "namespace: AWS/ApplicationELB, name: TargetResponseTime, statistic: p99";

fn asked(text: &str) -> CloudWatchQuery {
    question(&entry(&namespaced(text)))
}

fn question(entry: &Entry) -> CloudWatchQuery {
    let QuerySpec::CloudWatch(query) = &fixed(entry).spec else { panic!("{:?}", entry.query) };
    (**query).clone()
}

/// What is wrong with a spec that begins in line 5, after the place.
fn mistakes(spec: &str) -> Vec<String> {
    match one(&namespaced(spec)) {
        Ok(entry) => panic!("{spec}\nis taken: {:?}", entry.query),
        Err(problems) => {
            problems.iter().map(|problem| problem.split_once(": ").unwrap().1.to_owned()).collect()
        }
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

#[test]
fn the_short_form_becomes_a_group_of_one() {
    let query = asked(&format!(
        "cloudwatch:\n  metric: {{ {ELB}, dimensions: {{ TargetGroup: tg, LoadBalancer: app/web/0123456789abcdef }}, period: 1m, unit: Seconds, accountId: '111122223333' }}"
    ));
    let stat = MetricStat {
        namespace: "AWS/ApplicationELB".into(),
        name: "TargetResponseTime".into(),
        dimensions: vec![
            ("LoadBalancer".into(), "app/web/0123456789abcdef".into()),
            ("TargetGroup".into(), "tg".into()),
        ],
        statistic: "p99".into(),
        period: minutes(1),
        unit: Some("Seconds".into()),
        account_id: Some("111122223333".into()),
    };
    let expected = CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: None,
        queries: vec![MetricDataQuery {
            id: "m".into(),
            question: MetricQuestion::Metric(stat),
            label: None,
            return_data: true,
        }],
        period: minutes(1),
        delay: minutes(1),
        lookback: minutes(6),
        manner: Manner::Strict,
    };
    assert_eq!(query, expected);
}

#[test]
fn the_long_form_keeps_its_order_and_returns_one() {
    let text = "cloudwatch:\n  region: us-east-1\n  roleArn: 'arn:aws:iam::444455556666:role/metrics-a'\n  delay: 2m\n  lookback: 30m\n  queries:\n  - { id: errors, metric: { namespace: A, name: E, statistic: Sum, period: 5m }, return: false, label: unseen }\n  - { id: total, metric: { namespace: A, name: T, statistic: Sum, period: 1m }, return: false }\n  - { id: rate, expression: ' 100*errors/total ', label: errors }\n";
    let query = asked(text);
    let shape: Vec<_> = query
        .queries
        .iter()
        .map(|query| (&*query.id, query.return_data, query.label.as_deref()))
        .collect();
    assert_eq!(
        shape,
        [("errors", false, None), ("total", false, None), ("rate", true, Some("errors"))]
    );
    assert_eq!(
        query.queries[2].question,
        MetricQuestion::Expression { text: "100*errors/total".into(), period: None }
    );
    assert_eq!((query.period, query.delay, query.lookback), (minutes(5), minutes(2), minutes(30)));
    assert_eq!(&*query.region, "us-east-1");
    assert_eq!(query.role_arn.as_deref(), Some("arn:aws:iam::444455556666:role/metrics-a"));
    assert_eq!((query.metrics_requested(), query.is_open_ended()), (2, false));
    // Saying yes to one is saying no to the others, and a period that math has anyway may be said.
    let other = text
        .replace(", return: false", "")
        .replace("label: errors }", "label: errors, return: true, period: 5m }");
    assert_eq!(asked(&other), query);
}

#[test]
fn an_expression_alone_finds_its_own_data() {
    for (text, function) in [
        (
            "SELECT AVG(CPUUtilization) FROM SCHEMA(\"AWS/EC2\", InstanceId) GROUP BY InstanceId",
            true,
        ),
        ("SUM(SEARCH('{AWS/EC2,InstanceId} CPUUtilization', 'Average', 300))", false),
        ("DB_PERF_INSIGHTS('RDS', 'db-1', 'db.load.avg')", false),
    ] {
        let quoted = text.replace('\'', "''");
        let query = asked(&format!("cloudwatch: {{ expression: '{quoted}', period: 5m }}"));
        let [only] = &query.queries[..] else { panic!() };
        assert_eq!((&*only.id, only.return_data, only.is_insights()), ("m", true, function));
        assert_eq!(
            only.question,
            MetricQuestion::Expression { text: text.into(), period: Some(minutes(5)) }
        );
        assert!(query.is_open_ended());
    }
}

#[test]
fn equal_meaning_is_an_equal_query() {
    let same = [
        "cloudwatch: { metric: { namespace: A, name: B, statistic: p99.0, period: 60s, dimensions: { b: '2', a: '1' } } }",
        "cloudwatch:\n  metric: { dimensions: { a: '1', b: '2' }, statistic: p99, name: B, namespace: A }\n  period: 1m\n  delay: 60s\n  lookback: 6m\n  region: eu-west-1",
        "cloudwatch: { queries: [{ id: latency, return: true, metric: { namespace: A, name: B, statistic: p099, period: 1m, dimensions: { a: '1', b: '2' } } }] }",
    ]
    .map(asked);
    assert_eq!(same[0], same[1]);
    assert_eq!(same[0], same[2]);
    let tm = |statistic: &str| {
        asked(&format!(
            "cloudwatch: {{ metric: {{ namespace: A, name: B, statistic: '{statistic}', period: 1m }} }}"
        ))
    };
    assert_eq!(tm("TM(:90%)"), tm("tm90.0"));
    assert_ne!(tm("TM(:90)"), tm("tm90"));
}

#[test]
fn windows_follow_the_period() {
    let window = |fields: &str, period: &str| {
        let query = asked(&format!(
            "cloudwatch: {{ metric: {{ namespace: A, name: B, statistic: Sum, period: {period} }}{fields} }}"
        ));
        (query.delay.as_secs(), query.lookback.as_secs())
    };
    assert_eq!(window("", "10s"), (10, 60));
    assert_eq!(window("", "5m"), (300, 1800));
    assert_eq!(window(", delay: 3m", "1m"), (180, 480));
    assert_eq!(window(", delay: 0s, lookback: 1m", "1m"), (0, 60));
    assert_eq!(window(", delay: 24h", "24h"), (86_400, 6 * 86_400));
    // Metrics Insights gives three hours, so the default ends there.
    let insights = asked("cloudwatch: { expression: 'SELECT AVG(x) FROM y', period: 1h }");
    assert_eq!((insights.delay.as_secs(), insights.lookback.as_secs()), (3600, 3 * 3600));
}

/// A spec under `cloudwatch`, and what is wrong with it.
const MISTAKES: &[(&str, &[&str])] = &[
    // One of three forms
    ("{}", &["spec.cloudwatch: exactly one of metric, queries, expression is needed"]),
    (
        "{ metric: {}, expression: x }",
        &[
            "spec.cloudwatch.expression: exactly one of metric, queries, expression is allowed, here are metric and expression",
        ],
    ),
    (
        "{ metric: {} }",
        &[
            "spec.cloudwatch.metric.name: this field is missing",
            "spec.cloudwatch.metric.namespace: this field is missing",
            "spec.cloudwatch.metric.period: this field is missing",
            "spec.cloudwatch.metric.statistic: this field is missing",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, stat: Sum, statistic: Sum, period: 1m } }",
        &[
            "spec.cloudwatch.metric.stat: unknown field; the fields here are namespace, name, dimensions, statistic, period, unit, accountId",
        ],
    ),
    // Names
    (
        "{ metric: { namespace: ':A', name: ' ', statistic: Sum, period: 1m } }",
        &[
            "spec.cloudwatch.metric.namespace: \":A\" begins with a colon; CloudWatch does not take that",
            "spec.cloudwatch.metric.name: the text is empty",
        ],
    ),
    (
        "{ metric: { namespace: Größe, name: \"a\\tb\", statistic: Sum, period: 1m } }",
        &[
            "spec.cloudwatch.metric.namespace: \"Größe\" holds 'ö'; CloudWatch takes printable ASCII alone",
            "spec.cloudwatch.metric.name: \"a\\tb\" holds '\\t'; CloudWatch takes printable ASCII alone",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m, dimensions: { ':a': x, b: '', c: 5 } } }",
        &[
            "spec.cloudwatch.metric.dimensions.:a: \":a\" begins with a colon; CloudWatch does not take that",
            "spec.cloudwatch.metric.dimensions.b: the text is empty",
            "spec.cloudwatch.metric.dimensions.c: expected text, found 5; write it as \"5\"",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m, dimensions: [{ name: a, value: b }] } }",
        &[
            "spec.cloudwatch.metric.dimensions: expected a mapping of names to values, like { QueueName: jobs }, found a list",
        ],
    ),
    // Statistic, unit, account
    (
        "{ metric: { namespace: A, name: B, statistic: avg, period: 1m, unit: seconds, accountId: '1234' } }",
        &[
            "spec.cloudwatch.metric.statistic: \"avg\" is not a statistic; did you mean `Average`?",
            "spec.cloudwatch.metric.unit: \"seconds\" is not a unit of CloudWatch; did you mean `Seconds`?",
            "spec.cloudwatch.metric.accountId: \"1234\" is not an AWS account; one has 12 digits, like \"111122223333\"",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m, accountId: 111122223333 } }",
        &[
            "spec.cloudwatch.metric.accountId: expected text, found 111122223333; write it as \"111122223333\"",
        ],
    ),
    // Periods
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 45s } }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch has no period of 45s; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum }, period: 1500ms }",
        &[
            "spec.cloudwatch.period: CloudWatch has no period of 1.5s; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 25h } }",
        &["spec.cloudwatch.metric.period: the period 25h is longer than 24h, CloudWatch's longest"],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 0s } }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch has no period of 0s; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
        ],
    ),
    // Windows
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m }, delay: 1.5s, lookback: 500ms }",
        &[
            "spec.cloudwatch.delay: the duration must be in whole seconds",
            "spec.cloudwatch.lookback: the duration must be in whole seconds",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1h }, delay: 10000h }",
        &[
            "spec.cloudwatch.delay: delay 10000h is longer than 360h (15 days): no HPA can be steered by what was that long ago",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m }, lookback: 90s }",
        &[
            "spec.cloudwatch.lookback: lookback 1m30s is below 2m = delay 1m + period 1m: no whole period would be asked for",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 10s }, lookback: 4h }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch keeps datapoints of 10s for 3h, and lookback is 4h; shorten lookback, or take a longer period",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 10s }, delay: 3h }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch keeps datapoints of 10s for 3h, and lookback is 3h50s (the default: delay 3h + 5 periods of 10s); shorten lookback, or take a longer period",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 2m }, lookback: 361h }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch keeps datapoints of 2m for 15 days, and lookback is 361h; shorten lookback, or take a longer period",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 10m }, lookback: 1513h }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch keeps datapoints of 10m for 63 days, and lookback is 1513h; shorten lookback, or take a longer period",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 2h }, lookback: 10921h }",
        &[
            "spec.cloudwatch.metric.period: CloudWatch keeps datapoints of 2h for 455 days, and lookback is 10921h; shorten lookback, or take a longer period",
        ],
    ),
    // Region and role
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m }, region: Ireland, roleArn: admin }",
        &[
            "spec.cloudwatch.region: \"Ireland\" is not an AWS region; one looks like eu-west-1",
            "spec.cloudwatch.roleArn: \"admin\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics",
        ],
    ),
    (
        "{ metric: { namespace: A, name: B, statistic: Sum, period: 1m }, region: ap-south-1, roleArn: 'arn:aws:iam::111122223333:role/admin' }",
        &[
            "spec.cloudwatch.region: source aws does not allow the region ap-south-1; it allows eu-west-1, us-east-1 (allowedRegions)",
            "spec.cloudwatch.roleArn: source aws does not allow the role arn:aws:iam::111122223333:role/admin; it allows arn:aws:iam::*:role/metrics-* (allowedRoles)",
        ],
    ),
    // An expression alone
    (
        "{ expression: 100*errors/total, period: 1m }",
        &[
            "spec.cloudwatch.expression: there is nothing here that errors could refer to: only SELECT and what takes its data from SEARCH, DB_PERF_INSIGHTS, INSIGHT_RULE_METRIC stand alone; list metrics and expression under spec.cloudwatch.queries, each with an id",
        ],
    ),
    (
        "{ expression: TIME_SERIES(1), period: 1m }",
        &[
            "spec.cloudwatch.expression: there is nothing here to compute from: only SELECT and what takes its data from SEARCH, DB_PERF_INSIGHTS, INSIGHT_RULE_METRIC stand alone; list metrics and expression under spec.cloudwatch.queries, each with an id",
        ],
    ),
    (
        "{ expression: SUM(METRICS()), period: 1m }",
        &[
            "spec.cloudwatch.expression: there is nothing here that METRICS could refer to: only SELECT and what takes its data from SEARCH, DB_PERF_INSIGHTS, INSIGHT_RULE_METRIC stand alone; list metrics and expression under spec.cloudwatch.queries, each with an id",
        ],
    ),
    (
        "{ expression: SELECT AVG(x) FROM y }",
        &["spec.cloudwatch.period: this field is missing; SELECT needs a period"],
    ),
    (
        "{ expression: SELECT AVG(x) FROM y, period: 30s }",
        &["spec.cloudwatch.period: Metrics Insights has no datapoints of 30s; take 1m or more"],
    ),
    (
        "{ expression: SELECT AVG(x) FROM y, period: 1m, lookback: 4h }",
        &[
            "spec.cloudwatch.lookback: a Metrics Insights query looks back 3h at most here, and lookback is 4h: more is not promised by all of CloudWatch's documents",
        ],
    ),
    (
        "{ expression: SELECT AVG(x) FROM y, period: 2h }",
        &[
            "spec.cloudwatch.lookback: a Metrics Insights query looks back 3h at most here, and lookback is 12h (the default: delay 2h + 5 periods of 2h): more is not promised by all of CloudWatch's documents",
        ],
    ),
    (
        "{ expression: \"SEARCH('x', 'Sum', 300)\", period: 1m }",
        &[
            "spec.cloudwatch.period: SEARCH says 300 seconds, and the period here is 1m; make them equal",
        ],
    ),
    ("{ expression: '', period: 1m }", &["spec.cloudwatch.expression: the expression is empty"]),
];

#[test]
fn every_mistake_is_named_with_its_field_and_rule() {
    for (spec, expected) in MISTAKES {
        assert_eq!(mistakes(&format!("cloudwatch: {spec}")), *expected, "{spec}");
    }
}

const A: &str = "metric: { namespace: A, name: B, statistic: Sum, period: 1m }";

/// Queries of the long form (`$M` is a metric), and what is wrong with them, without
/// `spec.cloudwatch.queries`.
const GROUP_MISTAKES: &[(&[&str], &[&str])] = &[
    (
        &[],
        &[
            ": 1 to 500 queries are needed, because they go out in one GetMetricData call; here are 0",
        ],
    ),
    // Ids
    (
        &["id: Errors, $M, return: false", "$M", "id: a-b, $M, return: false"],
        &[
            "[0].id: \"Errors\" is not an id: a lower-case letter, then letters, digits and \"_\", 255 at most",
            "[1].id: this field is missing",
            "[2].id: \"a-b\" is not an id: a lower-case letter, then letters, digits and \"_\", 255 at most",
        ],
    ),
    (&["id: a, $M, return: false", "id: a, $M"], &["[1].id: queries[0] has the same id"]),
    // What is asked
    (&["id: a"], &["[0]: exactly one of metric, expression is needed"]),
    (
        &["id: a, $M, expression: b"],
        &[
            "[0].expression: exactly one of metric, expression is allowed, here are metric and expression",
        ],
    ),
    (
        &["id: a, $M, period: 1m"],
        &["[0].period: the period of a metric belongs into metric.period"],
    ),
    (
        &["id: a, $M, return: false", "id: b, return: true, expression: a, metric: { period: 7s }"],
        &[
            "[1].expression: exactly one of metric, expression is allowed, here are metric and expression",
        ],
    ),
    (
        &[
            "id: a, $M, return: false",
            "id: b, metric: { namespace: A, name: B, statistic: Sum, period: 61s }",
        ],
        &[
            "[1].metric.period: CloudWatch has no period of 1m1s; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m",
        ],
    ),
    // Exactly one is returned
    (
        &["id: a, $M", "id: b, $M", "id: c, $M, return: false"],
        &[
            ": exactly one query is returned, and a, b could be; say return: true at that one, or return: false at the others",
        ],
    ),
    (
        &["id: a, $M, return: true", "id: b, expression: a, return: true"],
        &["[1].return: queries[0] is returned already; exactly one can be"],
    ),
    (
        &["id: a, $M, return: false"],
        &[
            ": no query is returned: each says return: false; leave that out at the one whose series are the metric",
        ],
    ),
    // References
    (
        &[
            "id: errors, $M, return: false",
            "id: total, $M, return: false",
            "id: rate, expression: errros/total + x",
        ],
        &["[2].expression: there is no query with the id errros; did you mean `errors`?"],
    ),
    (
        &["id: a, $M, return: false", "id: rate, expression: a + unheard"],
        &["[1].expression: there is no query with the id unheard; the ids here are a, rate"],
    ),
    (&["id: a, expression: a+1"], &["[0].expression: a refers to itself"]),
    (
        &[
            "id: a, expression: b+1, return: false",
            "id: b, expression: c+1, return: false",
            "id: c, expression: b+m, return: false",
            "id: m, $M, return: false",
            "id: d, expression: a",
        ],
        &["[1].expression: these refer to each other in a circle: b → c → b"],
    ),
    (
        &["id: a, $M, return: false", "id: b, expression: 'SUM(METRICS(\"x\"))'"],
        &["[1].expression: METRICS(\"x\") stands for nothing: no metric here has \"x\" in its id"],
    ),
    (
        &["id: a, expression: SUM(METRICS())"],
        &["[0].expression: METRICS() stands for nothing: no query here is a metric"],
    ),
    (
        &["id: a, $M, return: false", "id: b, $M, return: false", "id: c, expression: a*2"],
        &[
            "[1]: nothing that is returned uses b: it would be paid for and change nothing; remove it",
        ],
    ),
    (
        &["id: a, expression: TIME_SERIES(5), return: false", "id: b, expression: a*2"],
        &[
            "[1].expression: nothing here has data: an expression needs a metric, or a function that finds metrics",
        ],
    ),
    (
        &["id: a, $M, return: false", "id: b, expression: sum(a)"],
        &["[1].expression: functions are written in upper case: SUM"],
    ),
    // Periods of a group
    (
        &[
            "id: a, metric: { namespace: A, name: B, statistic: Sum, period: 20s }, return: false",
            "id: b, metric: { namespace: A, name: B, statistic: Sum, period: 30s }, return: false",
            "id: c, expression: a+b",
        ],
        &[
            "[0].metric.period: the period 20s does not divide 30s, the longest of these queries, so their buckets do not end together",
        ],
    ),
    (
        &["id: a, $M, return: false", "id: b, expression: a*2, period: 5m"],
        &["[1].period: metric math has the period of its operands, 1m, and not 5m; leave this out"],
    ),
    (
        &["id: a, $M, return: false", "id: b, expression: \"a+SUM(SEARCH('x','Sum'))\""],
        &["[1].period: this field is missing; SEARCH needs a period"],
    ),
    (
        &[
            "id: a, expression: SELECT AVG(x) FROM y, period: 1m, return: false",
            "id: b, expression: SELECT AVG(z) FROM y, period: 1m, return: false",
            "id: c, expression: a/b",
        ],
        &[
            "[1].expression: a is a Metrics Insights query already, and one GetMetricData call takes one; make them definitions of their own",
        ],
    ),
];

#[test]
fn every_mistake_among_queries_is_named() {
    for (queries, expected) in GROUP_MISTAKES {
        let items: Vec<String> =
            queries.iter().map(|query| format!("{{ {} }}", query.replace("$M", A))).collect();
        let found = mistakes(&format!("cloudwatch: {{ queries: [{}] }}", items.join(", ")));
        let expected: Vec<String> =
            expected.iter().map(|text| format!("spec.cloudwatch.queries{text}")).collect();
        assert_eq!(found, expected, "{queries:?}");
    }
}

#[test]
fn a_label_is_one_short_line() {
    let spec = |label: &str| format!("{{ queries: [{{ id: a, {A}, label: \"{label}\" }}] }}");
    let labelled = |label: &str| mistakes(&format!("cloudwatch: {}", spec(label)));
    let longest = "ä".repeat(1024);
    assert_eq!(
        asked(&format!("cloudwatch: {}", spec(&longest))).queries[0].label.as_deref(),
        Some(longest.as_str())
    );
    let field = "spec.cloudwatch.queries[0].label: a label";
    assert_eq!(
        labelled(&"x".repeat(1025)),
        [format!("{field} has at most 1024 characters, and this one 1025")]
    );
    for odd in ["a\\nb", "\\u0007", "\\x85"] {
        let text = format!("{field} holds no line breaks or other control characters");
        assert_eq!(labelled(odd), [text], "{odd}");
    }
}

#[test]
fn limits_count() {
    let metric = |id: usize| format!("{{ id: m{id}, {A}, return: false }}");
    let group = |count: usize| {
        let metrics: Vec<String> = (0..count).map(metric).collect();
        format!(
            "cloudwatch: {{ queries: [{}, {{ id: e, expression: SUM(METRICS()) }}]",
            metrics.join(", ")
        )
    };
    assert_eq!(asked(&format!("{} }}", group(499))).metrics_requested(), 499);
    assert_eq!(
        mistakes(&format!("{} }}", group(500))),
        [
            "spec.cloudwatch.queries: 1 to 500 queries are needed, because they go out in one GetMetricData call; here are 501"
        ]
    );
    // 70 metrics over a day of minutes are 100,800 datapoints, and that is the most.
    assert_eq!(asked(&format!("{}, lookback: 24h1m }}", group(70))).metrics_requested(), 70);
    assert_eq!(
        mistakes(&format!("{}, lookback: 24h2m }}", group(70))),
        [
            "spec.cloudwatch.lookback: between lookback and delay lie 100870 datapoints (1441 of m69 = 24h1m / 1m; 70 metrics in all); one GetMetricData call gives 100800 at most; shorten lookback, or take longer periods"
        ]
    );
    let dimensions = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|i| format!("d{i}: x")).collect();
        format!(
            "cloudwatch: {{ metric: {{ namespace: A, name: B, statistic: Sum, period: 1m, dimensions: {{ {} }} }} }}",
            pairs.join(", ")
        )
    };
    assert_eq!(asked(&dimensions(30)).queries.len(), 1);
    assert_eq!(
        mistakes(&dimensions(31)),
        ["spec.cloudwatch.metric.dimensions: 31 dimensions; a metric has 30 at most"]
    );
    let long = |name: usize, value: usize| {
        format!(
            "cloudwatch: {{ metric: {{ namespace: {}, name: B, statistic: Sum, period: 1m, dimensions: {{ a: {} }} }} }}",
            "n".repeat(name),
            "v".repeat(value)
        )
    };
    assert_eq!(asked(&long(255, 1024)).queries.len(), 1);
    assert_eq!(
        mistakes(&long(256, 1025)),
        [
            "spec.cloudwatch.metric.namespace: 256 characters; CloudWatch takes 255 at most",
            "spec.cloudwatch.metric.dimensions.a: 1025 characters; CloudWatch takes 1024 at most",
        ]
    );
}

/// Refresh and maximal age, in seconds, of a definition with these fields on a metric of a period.
fn pace(period: &str, fields: &str) -> (u64, u64) {
    let entry = entry(&namespaced(&format!(
        "cloudwatch: {{ metric: {{ namespace: A, name: B, statistic: Sum, period: {period} }} }}\n{fields}"
    )));
    (entry.policy.refresh.as_secs(), entry.policy.max_age.as_secs())
}

#[test]
fn refresh_and_age_follow_period_and_delay() {
    // The default refresh of 15 s is raised to the period, and never under 10 s.
    assert_eq!(pace("1m", ""), (60, 360));
    assert_eq!(pace("5m", ""), (300, 1800));
    // 15 s are no whole number of 10 s.
    assert_eq!(pace("10s", ""), (20, 70));
    assert_eq!(pace("5s", ""), (15, 45));
    assert_eq!(pace("1s", "refresh: 10s"), (10, 23));
    // Whole periods alone.
    assert_eq!(pace("1m", "refresh: 90s"), (120, 420));
    // A long refresh raises the default age: delay 1m + 2 periods + 2 refreshes.
    assert_eq!(pace("1m", "refresh: 10m"), (600, 180 + 1200));
    // What is written counts as long as it can work.
    assert_eq!(pace("1m", "maxAge: 4m"), (60, 240));
    assert_eq!(pace("1m", "refresh: 2m\nmaxAge: 5m"), (120, 300));
    let delayed = entry(&namespaced(
        "cloudwatch: { metric: { namespace: A, name: B, statistic: Sum, period: 1m }, delay: 10m }",
    ));
    assert_eq!(delayed.policy.max_age, minutes(15));
}

#[test]
fn what_is_written_below_a_floor_is_refused_with_the_arithmetic() {
    let metric = |period: &str| {
        format!(
            "cloudwatch: {{ metric: {{ namespace: A, name: B, statistic: Sum, period: {period} }} }}"
        )
    };
    for (period, fields, expected) in [
        (
            "1m",
            "refresh: 30s",
            "spec.refresh: refresh 30s is below the floor of 1m: CloudWatch has a new datapoint once a period, 1m",
        ),
        (
            "5s",
            "refresh: 9s",
            "spec.refresh: refresh 9s is below the floor of 10s: CloudWatch bills every read",
        ),
        (
            "1m",
            "maxAge: 3m",
            "spec.maxAge: maxAge 3m is below 4m = delay 1m + 2 periods of 1m + refresh 1m (the default here): a sample is as old as the start of its bucket, so this one would be too old before the next is read; set maxAge to 4m or more",
        ),
        (
            "1m",
            "refresh: 5m\nmaxAge: 7m",
            "spec.maxAge: maxAge 7m is below 8m = delay 1m + 2 periods of 1m + refresh 5m: a sample is as old as the start of its bucket, so this one would be too old before the next is read; set maxAge to 8m or more",
        ),
        (
            "1m",
            "refresh: 61s\nmaxAge: 4m",
            "spec.maxAge: maxAge 4m is below 5m = delay 1m + 2 periods of 1m + refresh 2m (rounded up to whole periods): a sample is as old as the start of its bucket, so this one would be too old before the next is read; set maxAge to 5m or more",
        ),
    ] {
        assert_eq!(mistakes(&format!("{}\n{fields}", metric(period))), [expected]);
    }
    // A question that is wrong itself says nothing about pace.
    assert_eq!(
        mistakes("cloudwatch: { metric: { namespace: A, name: B, statistic: Sum, period: 7s } }\nmaxAge: 1s").len(),
        1
    );
}

#[test]
fn without_sources_only_the_form_is_checked() {
    let defaults = Defaults::default();
    let read_file = |_: &std::path::Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
    let context = Context {
        sources: None,
        defaults: &defaults,
        cluster: true,
        author: Author::Operator,
        read_file: &read_file,
    };
    let text = namespaced(&format!(
        "cloudwatch: {{ {A}, roleArn: 'arn:aws:iam::111122223333:role/any' }}"
    ));
    let path = std::path::Path::new("f");
    let read = crate::definition::read(path, &text, &context).unwrap().remove(0);
    let query = question(&read.outcome.unwrap());
    assert_eq!((&*query.region, query.role_arn.is_some()), ("unknown", true));
    assert_eq!((read.question.line, read.question.column), (5, 15));
}

proptest! {
    #[test]
    fn no_group_panics_and_every_refusal_has_a_reason(
        queries in proptest::collection::vec(
            "(id: [a-d]|id: X|x: 1)(, return: (true|false))?, (expression: (a|b|c\\+d|SUM\\(METRICS\\(\\)\\)|a\\*|SELECT AVG\\(x\\) FROM y)|metric: \\{namespace: A, name: B, statistic: (Sum|p99|avg), period: (10s|1m|5m|7s)\\}|metric: x)(, period: (1m|5m))?",
            0..5,
        ),
        rest in "(, period: (1m|5m|1h))?(, delay: (0s|1m|2h))?(, lookback: (1m|10m|4h|400h))?",
    ) {
        let items: Vec<String> = queries.iter().map(|query| format!("{{ {query} }}")).collect();
        let spec = format!("cloudwatch: {{ queries: [{}]{rest} }}", items.join(", "));
        match one(&namespaced(&spec)) {
            Ok(entry) => {
                let query = question(&entry);
                prop_assert!(query.returned().is_some());
                prop_assert!(query.lookback >= query.delay + query.period);
                prop_assert!(entry.policy.max_age >= query.delay + query.period * 2 + entry.policy.refresh);
                prop_assert_eq!(query.effective_refresh(entry.policy.refresh), entry.policy.refresh);
            }
            Err(problems) => prop_assert!(
                problems.iter().all(|p| !p.contains("please report it")), "{}\n{:?}", spec, problems
            ),
        }
    }
}
