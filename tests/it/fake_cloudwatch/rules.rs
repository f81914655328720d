//! What the service refuses.

use aws_sdk_cloudwatch::types::{Dimension, MetricDataQuery, StandardUnit};

use super::{ask, client, expression, fake, latency, stat, stat_per};
use crate::support::upstream::cloudwatch::Metric;

async fn refused(queries: Vec<MetricDataQuery>) -> String {
    let (code, message) = ask(&client(&fake()), 5, queries).await.expect_err("refused");
    assert_eq!(code, "ValidationError");
    message
}

#[tokio::test]
async fn one_bad_query_refuses_all() {
    let good = || stat("good", &latency(), "Average");
    let many = (0..501).map(|i| stat(&format!("m{i}"), &latency(), "Sum")).collect();
    assert_eq!(
        refused(many).await,
        "The collection MetricDataQueries must not have a size greater than 500.\n"
    );
    assert_eq!(refused(Vec::new()).await, "The parameter MetricDataQueries is required.\n");
    assert_eq!(
        refused(vec![good(), stat("5xx", &latency(), "Sum"), stat("Up", &latency(), "sum")]).await,
        "The value 5xx for parameter MetricDataQueries.member.2.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.\n\
         The value Up for parameter MetricDataQueries.member.3.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.\n\
         The value sum for parameter MetricDataQueries.member.3.MetricStat.Stat is not a valid statistic.\n"
    );
    assert_eq!(
        refused(vec![good(), good()]).await,
        "The values for parameter id in MetricDataQueries are not unique."
    );
    assert_eq!(
        refused(vec![stat_per("m", &latency(), "Sum", 7)]).await,
        "The value 7 for parameter MetricDataQueries.member.1.MetricStat.Period must be 1, 5, 10, 20, 30 or a multiple of 60.\n"
    );
    let wide = (0..31).fold(Metric::new("N", "m"), |m, i| m.dim(&format!("d{i}"), "v"));
    assert_eq!(
        refused(vec![good(), stat("wide", &wide, "Sum")]).await,
        "The collection MetricDataQueries.member.2.MetricStat.Metric.Dimensions must not have a size greater than 30.\n"
    );
    let mut hidden = good();
    hidden.return_data = Some(false);
    assert_eq!(
        refused(vec![hidden]).await,
        "At least one of the MetricDataQueries must return data."
    );
    let mut both = good();
    both.expression = Some("1".to_owned());
    assert!(refused(vec![both]).await.contains("mutually exclusive"));
    let mut neither = good();
    neither.metric_stat = None;
    assert!(refused(vec![neither]).await.contains("is required"));
    let mut unit = good();
    let stat = unit.metric_stat.as_mut().expect("a statistic");
    stat.unit = Some(StandardUnit::from("Parsecs"));
    assert!(refused(vec![unit]).await.contains("MetricStat.Unit must be a value in the set"));
    let mut twice = good();
    let stat = twice.metric_stat.as_mut().expect("a statistic");
    let metric = stat.metric.as_mut().expect("a metric");
    let again = Dimension::builder().name("LoadBalancer").value("other").build();
    metric.dimensions.as_mut().expect("dimensions").push(again);
    assert!(refused(vec![twice]).await.contains("LoadBalancer is not unique"));
}

#[tokio::test]
async fn statistics_have_a_grammar() {
    let fake = fake();
    let client = client(&fake);
    for good in [
        "Average",
        "p99",
        "p99.9",
        "p0",
        "p100",
        "TM(10%:90%)",
        "tm98",
        "TM(:95%)",
        "TC(0.5:10)",
        "TS(80%:)",
        "WM(5%:95%)",
        "wm98.5",
        "IQM",
        "PR(:300)",
        "PR(100:2000)",
        "ts90",
        "tc90",
    ] {
        ask(&client, 5, vec![stat("m", &latency(), good)]).await.expect(good);
    }
    for bad in [
        "",
        "average",
        "P99",
        "p101",
        "p",
        "p-1",
        "pNaN",
        "p1e1",
        "TM",
        "TM()",
        "TM(:)",
        "TM(90%:10%)",
        "TM(10:90%)",
        "XX(1:2)",
        "PR(10%:90%)",
        "iqm",
        "tm(1:2)",
        "p99.12345678901",
        "99",
    ] {
        let refused = ask(&client, 5, vec![stat("m", &latency(), bad)]).await;
        assert_eq!(refused.expect_err(bad).0, "ValidationError", "{bad}");
    }
}

#[tokio::test]
async fn the_window_is_a_window() {
    let fake = fake();
    let client = client(&fake);
    let queries = || vec![stat("m", &latency(), "Sum")];
    let (_, message) = ask(&client, 0, queries()).await.expect_err("empty");
    assert_eq!(message, "The parameter StartTime must not equal parameter EndTime.\n");
    let (_, message) = ask(&client, -5, queries()).await.expect_err("reversed");
    assert_eq!(message, "The parameter StartTime must be less than the parameter EndTime.\n");
}

#[tokio::test]
async fn old_data_exists_in_long_periods_alone() {
    let fake = fake();
    fake.generate_all(|_, _| Some(1.0));
    let client = client(&fake);
    let hour = 60;
    let day = 24 * hour;
    for (minutes, period, some) in [
        (2 * hour, 10, true),
        (4 * hour, 10, false),
        (4 * hour, 60, true),
        (16 * day, 60, false),
        (16 * day, 300, true),
        (64 * day, 300, false),
        (64 * day, 3600, true),
    ] {
        let queries = vec![stat_per("m", &latency(), "Sum", period)];
        let answer = ask(&client, minutes, queries).await.expect("an answer");
        let found = !answer.metric_data_results()[0].values().is_empty();
        assert_eq!(found, some, "{period} s over {minutes} min");
    }
}

#[tokio::test]
async fn queries_of_queries_have_limits() {
    let select = |id: &str| {
        let mut query = expression(id, "SELECT AVG(x) FROM \"My/Space\"");
        query.period = Some(60);
        query
    };
    let message = refused(vec![select("a"), select("b")]).await;
    assert_eq!(message, "Only one Metrics Insights query is allowed per request.");
    let message = refused(vec![expression("q", "SELECT AVG(x) FROM y")]).await;
    assert_eq!(message, "Error in expression 'q': Period is required for a Metrics Insights query");
    let mut wrong = select("q");
    wrong.expression = Some("SELECT MEDIAN(x) FROM y".to_owned());
    let message = refused(vec![wrong]).await;
    assert_eq!(
        message,
        "Error in expression 'q': Invalid syntax: MEDIAN is no function of a query"
    );
    let search = || format!("SUM([{}])", ["SEARCH('a', 'Sum', 60)"; 51].join(","));
    let message = refused(vec![expression("q", &search()), expression("r", &search())]).await;
    assert_eq!(message, "A request must not have more than 100 SEARCH expressions.");
    let message = refused(vec![expression("q", "SEARCH('{', 'Sum', 60)")]).await;
    assert_eq!(message, "Error in expression 'q': SEARCH: '}' expected");
}
