//! `SEARCH`, Metrics Insights, and the labels that tell their series apart.

use aws_sdk_cloudwatch::types::MetricDataQuery;

use super::{NOON, ask, client, expression, fake, latency, points, stat};
use crate::support::upstream::cloudwatch::{CloudWatch, Metric};

fn requests(zone: &str, balancer: &str) -> Metric {
    Metric::new("AWS/ApplicationELB", "RequestCount")
        .dim("LoadBalancer", balancer)
        .dim("AvailabilityZone", zone)
}

/// Two balancers in two zones, and other metrics beside them.
fn world() -> CloudWatch {
    let fake = fake();
    for (zone, balancer, values) in [
        ("a", "app/web/1", [1.0, 2.0]),
        ("b", "app/web/1", [3.0, 4.0]),
        ("a", "app/api/2", [50.0, 60.0]),
    ] {
        for (minute, value) in [-2, -1].into_iter().zip(values) {
            fake.put(&requests(zone, balancer), NOON + minute * 60, value);
        }
    }
    fake.put(&requests("c", "app/web/1").account("444455556666"), NOON - 60, 1000.0);
    let whole = Metric::new("AWS/ApplicationELB", "RequestCount");
    fake.put(&whole.clone().dim("LoadBalancer", "app/web/1"), NOON - 60, 6.0);
    fake.put(&latency(), NOON - 60, 0.5);
    fake
}

/// Labels, and the values of the last minute.
async fn found(fake: &CloudWatch, query: MetricDataQuery) -> Vec<(String, Option<f64>)> {
    let answer = ask(&client(fake), 5, vec![query]).await.unwrap_or_else(|e| panic!("{e:?}"));
    let results = answer.metric_data_results().iter();
    let last = |result| points(result).iter().find(|(at, _)| *at == -1).map(|(_, value)| *value);
    results.map(|r| (r.label().unwrap_or_default().to_owned(), last(r))).collect()
}

async fn select(text: &str) -> Vec<(String, Option<f64>)> {
    let mut query = expression("q", text);
    query.period = Some(60);
    found(&world(), query).await
}

fn named(all: &[(&str, f64)]) -> Vec<(String, Option<f64>)> {
    all.iter().map(|(label, value)| ((*label).to_owned(), Some(*value))).collect()
}

#[tokio::test]
async fn insights_aggregate_and_group() {
    let schema = "FROM SCHEMA(\"AWS/ApplicationELB\", LoadBalancer, AvailabilityZone)";
    for (rest, result) in [
        (format!("SUM(RequestCount) {schema}"), named(&[("q", 1066.0)])),
        ("max(RequestCount) from \"AWS/ApplicationELB\"".to_owned(), named(&[("q", 1000.0)])),
        (
            format!("AVG(RequestCount) {schema} WHERE LoadBalancer = 'app/web/1' AND AvailabilityZone != 'c'"),
            named(&[("q", 3.0)]),
        ),
        (
            format!("SUM(RequestCount) {schema} GROUP BY LoadBalancer"),
            named(&[("app/api/2", 60.0), ("app/web/1", 1006.0)]),
        ),
        (
            format!("SUM(RequestCount) {schema} GROUP BY AvailabilityZone ORDER BY MAX() DESC LIMIT 2"),
            named(&[("c", 1000.0), ("a", 62.0)]),
        ),
        (
            "SUM(RequestCount) FROM \"AWS/ApplicationELB\" GROUP BY LoadBalancer, AvailabilityZone ORDER BY SUM()"
                .to_owned(),
            named(&[
                ("app/web/1 Other", 6.0),
                ("app/web/1 b", 4.0),
                ("app/web/1 a", 2.0),
                ("app/api/2 a", 60.0),
                ("app/web/1 c", 1000.0),
            ]),
        ),
        (
            format!("SUM(RequestCount) {schema} WHERE AWS.AccountId = '444455556666'"),
            named(&[("q", 1000.0)]),
        ),
    ] {
        let text = format!("SELECT {rest}").replace("AWS.AccountId", "\"AWS.AccountId\"");
        let mut seen = select(&text).await;
        let mut result = result;
        if text.contains("ORDER BY SUM()") {
            // Two of the sums are equal.
            seen.sort_by(|a, b| a.0.cmp(&b.0));
            result.sort_by(|a, b| a.0.cmp(&b.0));
        }
        assert_eq!(seen, result, "{text}");
    }
}

#[tokio::test]
async fn searches_find_by_schema_name_and_value() {
    let fake = world();
    let balancers = "{AWS/ApplicationELB,LoadBalancer,AvailabilityZone}";
    for (term, labels) in [
        (
            format!("{balancers} MetricName=\"RequestCount\" AvailabilityZone=\"b\""),
            vec!["RequestCount"],
        ),
        (
            format!("{balancers} RequestCount NOT AvailabilityZone=c"),
            vec!["a app/api/2", "a app/web/1", "b app/web/1"],
        ),
        (
            "{AWS/ApplicationELB,LoadBalancer}".to_owned(),
            vec!["RequestCount", "TargetResponseTime"],
        ),
        ("TargetResponse".to_owned(), vec!["TargetResponseTime"]),
        ("targetresponse".to_owned(), vec![]),
        (
            "response OR (api AND \"a\")".to_owned(),
            vec!["a app/api/2 RequestCount", "app/web/1 TargetResponseTime"],
        ),
        (":aws.AccountId=\"444455556666\"".to_owned(), vec!["RequestCount"]),
    ] {
        let mut query = expression("s", &format!("SEARCH('{term}', 'Sum', 60)"));
        query.label = None;
        let mut seen: Vec<String> = found(&fake, query).await.into_iter().map(|(l, _)| l).collect();
        seen.sort();
        assert_eq!(seen, labels, "{term}");
    }
    let sum = "SUM(SEARCH('{AWS/ApplicationELB,LoadBalancer,AvailabilityZone} NOT AvailabilityZone=c', 'Sum', 60))";
    assert_eq!(found(&fake, expression("s", sum)).await, named(&[("s", 66.0)]));
}

#[tokio::test]
async fn labels_are_fixed_appended_or_made() {
    let fake = world();
    let search = "SEARCH('{AWS/ApplicationELB,LoadBalancer,AvailabilityZone} LoadBalancer=web NOT AvailabilityZone=c', 'Sum', 60)";
    for (label, labels) in [
        ("", vec!["a", "b"]),
        ("zone", vec!["zone a", "zone b"]),
        (
            "${PROP('Dim.AvailabilityZone')} of ${PROP('Namespace')}, ${LABEL}: ${LAST}",
            vec!["a of AWS/ApplicationELB, a: 2", "b of AWS/ApplicationELB, b: 4"],
        ),
    ] {
        let mut query = expression("s", search);
        query.label = Some(label.to_owned());
        let seen: Vec<String> = found(&fake, query).await.into_iter().map(|(l, _)| l).collect();
        assert_eq!(seen, labels, "{label}");
    }
    let mut plain = stat("m", &latency(), "Sum");
    plain.label = Some("${PROP('MetricName')} ${PROP('Stat')} ${PROP('Period')}".to_owned());
    assert_eq!(found(&fake, plain).await, named(&[("TargetResponseTime Sum 60", 0.5)]));
    let mut grouped = expression(
        "q",
        "SELECT SUM(RequestCount) FROM \"AWS/ApplicationELB\" WHERE LoadBalancer = 'app/api/2' GROUP BY AvailabilityZone",
    );
    grouped.period = Some(60);
    grouped.label = Some("zone ${PROP('Dim.AvailabilityZone')}".to_owned());
    assert_eq!(found(&fake, grouped).await, named(&[("zone a", 60.0)]));
}
