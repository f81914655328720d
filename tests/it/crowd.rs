//! Many readers, few upstream calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::support::client::Protocol;
use crate::support::server::{Setup, metric, path_of, values};
use crate::support::upstream::Prometheus;

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
