//! Whether our fake `CloudWatch` and an independent one say the same: plain statistics, which are
//! all that the other can do. (Without dimensions it adds up all metrics of a name, which the
//! service does not, so every query here has one.)

use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricDatum, MetricStat, ScanBy,
};

use crate::aws_fakes::cloudwatch::{CloudWatch, Metric as Known};
use crate::moto::Moto;

const NAMESPACE: &str = "Tests/Opinions";

fn client(url: &str) -> Client {
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(url)
        .build();
    Client::from_conf(config)
}

fn dimension(queue: &str) -> Dimension {
    Dimension::builder().name("Queue").value(queue).build()
}

fn query(id: &str, queue: &str, statistic: &str, period: i32) -> MetricDataQuery {
    let metric = Metric::builder().namespace(NAMESPACE).metric_name("Depth");
    let metric = metric.dimensions(dimension(queue)).build();
    let stat = MetricStat::builder().metric(metric).stat(statistic).period(period).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

/// Start of the bucket and value, in the order of the answer.
fn points(result: &MetricDataResult) -> Vec<(i64, f64)> {
    let times = result.timestamps().iter().map(DateTime::secs);
    times.zip(result.values().iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_agrees_with_moto_on_plain_statistics() {
    let moto = Moto::start();
    let theirs = client(&moto.url());
    let fake = CloudWatch::start();
    let ours = client(&fake.url());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // Whole buckets of five minutes, all of them over.
    let end = i64::try_from(now).expect("the time fits") / 300 * 300;
    for (queue, seconds, value) in [
        ("a", -590, 4.0),
        ("a", -580, 8.0),
        ("a", -530, 1.5),
        ("a", -290, 6.0),
        ("a", -60, 2.0),
        ("a", -1, 10.0),
        ("b", -100, 77.0),
    ] {
        let datum = MetricDatum::builder().metric_name("Depth").dimensions(dimension(queue));
        let datum = datum.timestamp(DateTime::from_secs(end + seconds)).value(value).build();
        let put = theirs.put_metric_data().namespace(NAMESPACE).metric_data(datum);
        put.send().await.expect("moto takes a value");
        fake.put(&Known::new(NAMESPACE, "Depth").dim("Queue", queue), end + seconds, value);
    }
    let mut queries = Vec::new();
    for statistic in ["Average", "Sum", "Minimum", "Maximum", "SampleCount"] {
        for period in [60, 300] {
            let id = format!("{}{period}", statistic.to_lowercase());
            queries.push(query(&id, "a", statistic, period));
        }
    }
    queries.push(query("other", "b", "Sum", 60));
    queries.push(query("missing", "c", "Sum", 60));
    for order in [ScanBy::TimestampDescending, ScanBy::TimestampAscending] {
        let ask = async |client: &Client| {
            let call = client.get_metric_data().set_metric_data_queries(Some(queries.clone()));
            let call = call.start_time(DateTime::from_secs(end - 600)).scan_by(order.clone());
            let answer = call.end_time(DateTime::from_secs(end)).send().await;
            answer.expect("an answer").metric_data_results.unwrap_or_default()
        };
        let (ours, theirs) = (ask(&ours).await, ask(&theirs).await);
        assert_eq!(ours.len(), theirs.len());
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(our.id(), their.id());
            assert_eq!(our.status_code(), their.status_code(), "{our:?} {their:?}");
            assert_eq!(points(our), points(their), "{:?} in {order:?}", our.id());
        }
        let found: usize = ours.iter().map(|result| result.values().len()).sum();
        assert_eq!(found, 5 * (4 + 2) + 1, "{ours:?}");
    }
    assert_eq!(fake.hits(), 2);
}
