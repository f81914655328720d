//! Many readers, few upstream calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::support::client::{Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::server::{Setup, Tidepole, metric, path_of, values};
use crate::support::tls::Authority;
use crate::support::upstream::Prometheus;
use crate::support::wait::until;

const READERS: usize = 1000;
/// Without authentication a peer has 16 streams per connection; the rest wait in the client.
const CONNECTIONS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);
const LENGTH: Duration = Duration::from_mins(1);

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a runtime starts")
}

/// The readers' threads are not the server's, and refreshing has its own, as in the real process:
/// a debug build on a busy machine answers slower and still keeps the pace of its upstream calls.
#[test]
fn a_thousand_readers_cost_one_call_per_interval() {
    let (readers, serve, refresh) = (runtime("readers"), runtime("serve"), runtime("refresh"));
    let upstream = Prometheus::start();
    upstream.vector("crowd", &[("", "42")]);
    upstream.delay(Duration::from_millis(200));
    let setup = Setup::new(&format!(
        "  - {{ name: main, prometheus: {{ url: \"{}\" }} }}",
        upstream.server().url()
    ))
    .with("crowd.yaml", &metric("crowd", "prometheus: { query: crowd }, refresh: 1s"));
    readers.block_on(async {
        let server = setup.start_on(serve.handle().clone(), refresh.handle().clone()).await;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(server.connect(Protocol::Http2).await.unwrap());
        }
        let path: Arc<str> = path_of("default", "crowd").into();
        let start = Instant::now();
        let work = (0..READERS).map(|reader| {
            let mut requests = connections[reader % CONNECTIONS].share();
            let path = Arc::clone(&path);
            async move {
                let mut reads = 0_u64;
                while start.elapsed() < LENGTH {
                    let answer = requests.get(&path, &[]).await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(values(&answer), ["42"]);
                    reads += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                reads
            }
        });
        let reads = futures::future::join_all(work).await;
        let calls = upstream.hits("crowd");
        let (least, total) = (reads.iter().min().unwrap(), reads.iter().sum::<u64>());
        assert!((58..=62).contains(&calls), "{calls} upstream calls for {total} reads");
        assert_eq!(upstream.server().max_in_flight(), 1);
        assert!(*least >= 10, "a reader got {least} answers in a minute");
        server.stop().await;
    });
    for runtime in [readers, serve, refresh] {
        runtime.shutdown_background();
    }
}

/// HPAs of one metric.
const HPAS: usize = 1000;
/// Namespaces that they are in.
const TEAMS: usize = 50;
/// How often each of them reads.
const PERIOD: Duration = Duration::from_secs(4);
/// How often their metric is refreshed.
const REFRESH: Duration = Duration::from_secs(2);
/// How many refresh intervals the calls of both houses are counted for.
const INTERVALS: u32 = 10;

/// A server in a cluster with so many HPAs on one metric, and its upstream.
struct House {
    cluster: ClusterApi,
    front_proxy: Authority,
    upstream: Prometheus,
    hpas: usize,
}

/// The metric of the n-th HPA, chosen in words of its own.
fn own_words(number: usize) -> (Value, String) {
    let other = format!("other-{number}");
    let metric = json!({"type": "External", "external": {
        "metric": {"name": "jobs", "selector": {"matchExpressions": [
            {"key": "queue", "operator": "In", "values": ["main", other]},
        ]}},
        "target": {"type": "AverageValue", "averageValue": "10"},
    }});
    (metric, format!("labelSelector=queue%20in%20(main,{other})"))
}

fn team(number: usize) -> String {
    format!("team-{}", number % TEAMS)
}

impl House {
    fn of(hpas: usize) -> Self {
        let (front_proxy, clients) =
            (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
        let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
        let upstream = Prometheus::start();
        upstream.vector("jobs", &[("", "42")]);
        for number in 0..hpas {
            let (metric, _) = own_words(number);
            cluster.hpas().put(&team(number), &format!("web-{number}"), &[metric]);
        }
        Self { cluster, front_proxy, upstream, hpas }
    }

    async fn start(&self, serve: &Runtime, refresh: &Runtime) -> (Tidepole, Connection) {
        let url = self.upstream.server().url();
        let definition = "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\n\
                          metadata: { name: jobs }\n\
                          spec: { labels: { queue: main }, refresh: 2s, prometheus: { query: jobs } }\n";
        let server = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
            .cluster(&self.cluster)
            .with("jobs.yaml", definition)
            .start_on(serve.handle().clone(), refresh.handle().clone())
            .await;
        server.ready().await;
        until("every HPA is known", async || {
            let row = server.row("jobs").await;
            if row["hpas"] == self.hpas { Ok(()) } else { Err(row.to_string()) }
        })
        .await;
        let pair = self.front_proxy.client("front-proxy-client", &[]);
        let connection = server.connect_as(&pair, Protocol::Http2).await;
        let connection = connection.expect("the aggregator is let in");
        (server, connection)
    }

    /// Lets every HPA read once a period, each at its own moment of it; the reads.
    async fn read(&self, connection: &Connection, begin: Instant) -> usize {
        const HPA: (&str, &str) =
            ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");
        let few = |number: usize| u32::try_from(number).expect("a thousand at most");
        let readers = (0..self.hpas).map(|number| {
            let mut requests = connection.share();
            let path = format!("{}?{}", path_of(&team(number), "jobs"), own_words(number).1);
            let first = begin + PERIOD * few(number) / few(self.hpas);
            async move {
                let (mut due, mut reads) = (first, 0);
                while due < begin + REFRESH * INTERVALS {
                    tokio::time::sleep_until(due.into()).await;
                    let answer = requests.get(&path, &[HPA]).await.expect("the server answers");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(values(&answer), ["42"]);
                    (due, reads) = (due + PERIOD, reads + 1);
                }
                reads
            }
        });
        futures::future::join_all(readers).await.into_iter().sum()
    }
}

/// Two houses side by side in the same seconds: HPA objects in a cluster, each read by a selector
/// and from a namespace of its own.
#[test]
fn a_thousand_hpas_cost_what_one_costs() {
    let (readers, serve, refresh) = (runtime("readers"), runtime("serve"), runtime("refresh"));
    let (one, many) = (House::of(1), House::of(HPAS));
    readers.block_on(async {
        let (alone, lonely) = one.start(&serve, &refresh).await;
        let (crowded, crowd) = many.start(&serve, &refresh).await;
        let hits = || [one.upstream.hits("jobs"), many.upstream.hits("jobs")];
        let (before, begin) = (hits(), Instant::now());
        let (reads, of_many) = futures::join!(one.read(&lonely, begin), many.read(&crowd, begin));
        tokio::time::sleep_until((begin + REFRESH * INTERVALS).into()).await;
        let (after, took) = (hits(), begin.elapsed());
        let [a, b] = [after[0] - before[0], after[1] - before[1]];
        println!(
            "{a} calls for {reads} reads of one HPA, {b} for {of_many} reads of {HPAS} HPAs in \
             {took:.1?}"
        );
        assert_eq!(of_many, HPAS * reads, "each HPA reads as often");
        // The time cuts off one call at each end at most, and a phase that moves, half an interval.
        assert!(a.abs_diff(b) <= 2, "{a} calls for one HPA, {b} for {HPAS}");
        for calls in [a, b] {
            assert!(calls.abs_diff(INTERVALS.into()) <= 2, "{calls} calls in {took:?}");
        }
        alone.stop().await;
        crowded.stop().await;
    });
    for runtime in [readers, serve, refresh] {
        runtime.shutdown_background();
    }
}
