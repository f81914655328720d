//! Many CloudWatch queries through the refresher. As a process: the credentials come from its
//! environment, as an operator gives them.

use std::time::{Duration, Instant};

use crate::support::process::Process;
use crate::support::server::{Setup, metric, values};
use crate::support::upstream::CloudWatch;
use crate::support::upstream::cloudwatch::Metric;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_searches_hold_up_nobody() {
    let fake = CloudWatch::start();
    fake.generate_all(|asked, _| asked.metric.name.strip_prefix('M')?.parse().ok());
    for i in 0..40 {
        let found = Metric::new("Shop", &format!("Orders{i}")).dim("Region", "here");
        fake.generate(&found, move |_, _| Some(f64::from(i)));
    }
    fake.delay(Duration::from_secs(1));
    // Three waves of searches: the third would not end within the timeout of the first.
    let source = format!(
        "  - {{ name: aws, aws: {{ region: eu-west-1, cloudwatchEndpointUrl: \"{}\", timeout: 2s, maxConcurrent: 16 }} }}\n",
        fake.url()
    );
    let mut setup = Setup::new(&source).defaults("{ firstReadTimeout: 15s }");
    for i in 0..40 {
        let search = format!("SEARCH('{{Shop,Region}} MetricName=\\\"Orders{i}\\\"', 'Sum', 60)");
        let spec =
            format!("cloudwatch: {{ expression: \"{search}\", period: 1m }}, keepWarm: true");
        setup = setup.with(&format!("search-{i}.yaml"), &metric(&format!("search-{i}"), &spec));
    }
    for i in 0..460 {
        let spec = format!(
            "cloudwatch: {{ metric: {{ namespace: App, name: M{i}, statistic: Sum, period: 1m }} }}, keepWarm: true"
        );
        setup = setup.with(&format!("plain-{i}.yaml"), &metric(&format!("plain-{i}"), &spec));
    }
    let process = Process::start(setup);
    let mut reader = process.reader().await;
    let started = Instant::now();
    for i in (0..460).step_by(23) {
        let answer = reader.read(&format!("plain-{i}")).await;
        assert_eq!(answer.status, 200, "{i}: {}", answer.text());
        assert_eq!(values(&answer), [i.to_string()]);
    }
    let plain = started.elapsed();
    for i in 0..40 {
        let answer = reader.read(&format!("search-{i}")).await;
        assert_eq!(answer.status, 200, "{i}: {}", answer.text());
        assert_eq!(values(&answer), [i.to_string()]);
    }
    // All plain metrics were one call, and none of the searches was made twice.
    let sizes: Vec<_> = fake.calls().iter().map(|call| call.queries.len()).collect();
    assert!(sizes.iter().filter(|size| **size > 1).count() <= 2, "{sizes:?}");
    assert!(plain < Duration::from_secs(8), "{plain:?}");
}
