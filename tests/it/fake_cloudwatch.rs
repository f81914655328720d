//! The fake `CloudWatch` itself, through the SDK's own client: what it says is what other tests
//! believe.

mod finding;
mod identity;
mod math;
mod rules;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::retry::RetryConfig;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric as SdkMetric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
    StandardUnit,
};

use crate::support::upstream::cloudwatch::{CloudWatch, Mark, Metric, Paging};

/// Noon of a day in 2025.
const NOON: i64 = 1_750_000_000 / 3600 * 3600;

fn client(fake: &CloudWatch) -> Client {
    client_of(fake, Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"))
}

fn client_of(fake: &CloudWatch, credentials: Credentials) -> Client {
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .endpoint_url(fake.url())
        .build();
    Client::from_conf(config)
}

fn fake() -> CloudWatch {
    let fake = CloudWatch::start();
    fake.set_now(NOON);
    fake
}

fn latency() -> Metric {
    Metric::new("AWS/ApplicationELB", "TargetResponseTime").dim("LoadBalancer", "app/web/1")
}

/// A query for a statistic per minute.
fn stat(id: &str, metric: &Metric, statistic: &str) -> MetricDataQuery {
    stat_per(id, metric, statistic, 60)
}

fn stat_per(id: &str, metric: &Metric, statistic: &str, period: i32) -> MetricDataQuery {
    let dimensions = metric.dimensions.iter();
    let sdk = SdkMetric::builder()
        .namespace(&metric.namespace)
        .metric_name(&metric.name)
        .set_dimensions(Some(
            dimensions.map(|(n, v)| Dimension::builder().name(n).value(v).build()).collect(),
        ))
        .build();
    let stat = MetricStat::builder().metric(sdk).period(period).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

fn expression(id: &str, text: &str) -> MetricDataQuery {
    MetricDataQuery::builder().id(id).expression(text).build()
}

/// The last `minutes` before the fake's clock, newest first.
async fn ask(
    client: &Client,
    minutes: i64,
    queries: Vec<MetricDataQuery>,
) -> Result<GetMetricDataOutput, (String, String)> {
    client
        .get_metric_data()
        .set_metric_data_queries(Some(queries))
        .start_time(DateTime::from_secs(NOON - minutes * 60))
        .end_time(DateTime::from_secs(NOON))
        .scan_by(ScanBy::TimestampDescending)
        .send()
        .await
        .map_err(|e| {
            let error = e.into_service_error();
            let text = |text: Option<&str>| text.unwrap_or("none").to_owned();
            (text(error.code()), text(error.message()))
        })
}

/// Minutes before noon, and values.
fn points(result: &MetricDataResult) -> Vec<(i64, f64)> {
    let minutes = result.timestamps().iter().map(|at| (at.secs() - NOON) / 60);
    minutes.zip(result.values().iter().copied()).collect()
}

#[tokio::test]
async fn statistics_are_computed_of_what_was_observed_until_now() {
    let fake = fake();
    for (second, value) in [(-150, 1.0), (-130, 3.0), (-90, 5.0), (-1, 7.0), (1, 9.0)] {
        fake.put(&latency(), NOON + second, value);
    }
    let queries = ["Average", "Sum", "Maximum", "SampleCount", "p50"];
    let queries = queries.iter().enumerate().map(|(i, s)| stat(&format!("q{i}"), &latency(), s));
    let other = Metric::new("AWS/ApplicationELB", "TargetResponseTime");
    let queries = queries.chain([stat("other", &other, "Sum")]).collect();
    let answer = ask(&client(&fake), 5, queries).await.expect("an answer");
    let results = answer.metric_data_results();
    assert_eq!(points(&results[0]), [(-1, 7.0), (-2, 5.0), (-3, 2.0)]);
    assert_eq!(points(&results[1]), [(-1, 7.0), (-2, 5.0), (-3, 4.0)]);
    assert_eq!(points(&results[2])[2], (-3, 3.0));
    assert_eq!(points(&results[3])[2], (-3, 2.0));
    assert_eq!(points(&results[4])[2], (-3, 1.0));
    // Dimensions are an exact set; what is not there is empty and complete.
    assert!(results[5].values().is_empty());
    assert!(results.iter().all(|r| r.status_code().unwrap().as_str() == "Complete"));
    assert_eq!(results[0].label(), Some("TargetResponseTime"));
    assert_eq!(fake.hits(), 1);
    assert_eq!(fake.metrics_requested(), 6);
    let call = fake.last();
    assert_eq!((call.region.as_str(), call.access_key.as_str()), ("eu-west-1", "AKIDEXAMPLE"));
    assert_eq!((call.start, call.end), (NOON - 300, NOON));
}

/// Ten observations of 1 to 10, and the tenth twice.
#[tokio::test]
async fn extended_statistics_are_of_the_observations() {
    let fake = fake();
    for value in 1..10 {
        fake.put(&latency(), NOON - 60, f64::from(value));
    }
    fake.put_with(&latency(), NOON - 31, 10.0, 2.0, Some("Seconds"));
    let statistics = [
        ("p50", 6.0),
        ("p90", 10.0),
        ("p9", 1.0),
        ("TC(2:5)", 3.0),
        ("TS(2:5)", 12.0),
        ("TM(2:5)", 4.0),
        ("WM(2:5)", (2.0 + 2.0 + 3.0 + 4.0 + 5.0 * 7.0) / 11.0),
        ("PR(:5)", 500.0 / 11.0),
        ("TC(50%:100%)", 5.5),
        ("tc50", 5.5),
        ("TM(0%:100%)", 65.0 / 11.0),
        ("IQM", 66.0 / 11.0),
    ];
    let queries = statistics.iter().enumerate();
    let mut queries: Vec<_> =
        queries.map(|(i, (name, _))| stat(&format!("q{i}"), &latency(), name)).collect();
    let mut with_unit = stat("unit", &latency(), "SampleCount");
    with_unit.metric_stat.as_mut().expect("a statistic").unit = Some(StandardUnit::Seconds);
    queries.push(with_unit);
    let answer = ask(&client(&fake), 1, queries).await.expect("an answer");
    for (result, (name, value)) in answer.metric_data_results().iter().zip(statistics) {
        let found = result.values()[0];
        assert!((found - value).abs() < 1e-9, "{name}: {found} is not {value}");
    }
    assert_eq!(points(&answer.metric_data_results()[12]), [(-1, 2.0)]);
}

#[tokio::test]
async fn generated_metrics_appear_when_their_bucket_is_published() {
    let fake = fake();
    fake.lag(90);
    fake.generate_all(|asked, bucket| {
        let digits = asked.metric.dimension("Queue")?.parse::<u32>().ok()?;
        Some(f64::from(digits) + f64::from(u8::try_from((NOON - bucket) / 60).ok()?) / 100.0)
    });
    let queries = (0..500).map(|i| {
        let metric = Metric::new("Jobs", "Depth").dim("Queue", &i.to_string());
        stat(&format!("q{i}"), &metric, "Average")
    });
    let answer = ask(&client(&fake), 4, queries.collect()).await.expect("an answer");
    assert_eq!(answer.metric_data_results().len(), 500);
    assert_eq!(points(&answer.metric_data_results()[7]), [(-3, 7.03), (-4, 7.04)]);
}

#[tokio::test]
async fn an_answer_comes_in_pages_to_who_asks_the_same_again() {
    let fake = fake();
    fake.generate_all(|_, bucket| Some(f64::from(i32::try_from(NOON - bucket).ok()?)));
    fake.paging(Paging { datapoints: Some(4), ..Paging::default() });
    let client = client(&fake);
    let queries = vec![stat("a", &latency(), "Sum"), stat("b", &latency(), "Average")];
    let call = |token: Option<String>, minutes: i64| {
        client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.clone()))
            .start_time(DateTime::from_secs(NOON - minutes * 60))
            .end_time(DateTime::from_secs(NOON))
            .set_next_token(token)
            .send()
    };
    let first = call(None, 3).await.expect("an answer");
    let seen = |answer: &GetMetricDataOutput| {
        let results = answer.metric_data_results().iter();
        let seen = results.map(|r| {
            let status = r.status_code().unwrap().as_str().to_owned();
            (r.id().unwrap().to_owned(), r.values().to_vec(), status)
        });
        seen.collect::<Vec<_>>()
    };
    assert_eq!(
        seen(&first),
        [
            ("a".to_owned(), vec![60.0, 120.0, 180.0], "Complete".to_owned()),
            ("b".to_owned(), vec![60.0], "PartialData".to_owned()),
        ]
    );
    let token = first.next_token().map(str::to_owned);
    let wrong = call(token.clone(), 4).await.expect_err("other parameters").into_service_error();
    assert!(wrong.is_invalid_next_token(), "{wrong:?}");
    let second = call(token, 3).await.expect("an answer");
    assert_eq!(seen(&second), [("b".to_owned(), vec![120.0, 180.0], "Complete".to_owned())]);
    assert_eq!(second.next_token(), None);
}

#[tokio::test]
async fn faults_look_like_the_services_own() {
    let fake = fake();
    let client = client(&fake);
    let queries = || vec![stat("m", &latency(), "Sum")];
    fake.fault_times(1, CloudWatch::throttled());
    let error = ask(&client, 5, queries()).await.unwrap_err();
    assert_eq!(error, ("Throttling".to_owned(), "Rate exceeded".to_owned()));
    fake.refuse_when(|query| (query.id == "m").then(|| "no such thing".to_owned()));
    let error = ask(&client, 5, queries()).await.unwrap_err();
    assert_eq!(error, ("ValidationError".to_owned(), "no such thing".to_owned()));
    fake.refuse_when(|_| None);
    fake.fault_when(|call| (call.region == "eu-west-1").then(CloudWatch::expired));
    assert_eq!(ask(&client, 5, queries()).await.unwrap_err().0, "ExpiredToken");
    fake.fault_when(|_| None);
    fake.mark_when(|query| {
        (query.metric_name() == "TargetResponseTime")
            .then(|| Mark::status("Forbidden").message("Forbidden", "not yours"))
    });
    fake.messages(&[("Limit", "Maximum number of allowed metrics exceeded")]);
    fake.extra(&["stranger"]);
    let answer = ask(&client, 5, queries()).await.expect("an answer");
    let results = answer.metric_data_results();
    assert_eq!(results[0].status_code().unwrap().as_str(), "Forbidden");
    assert_eq!(results[0].messages()[0].value(), Some("not yours"));
    assert_eq!(results[1].id(), Some("stranger"));
    assert_eq!(answer.messages()[0].code(), Some("Limit"));
    assert_eq!(fake.hits(), 4);
}
