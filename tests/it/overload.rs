//! More readers than places: those who would have to wait are refused at once, nobody else notices.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::support::client::{Answer, Connection, Failure, Requests};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::process::Process;
use crate::support::server::{Setup, metric, path_of, status, values};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::{Prometheus, Reply};
use crate::support::wait::until;

/// `server.limits.requests`, the least that it may be.
const LIMIT: usize = 16;

const HPA: [(&str, &str); 1] = [("X-Remote-User", "hpa")];

/// A server whose upstream never answers about `slow-*`, and who may assert identities to it.
struct House {
    process: Process,
    proxy: Pair,
    _cluster: ClusterApi,
    _upstream: Prometheus,
}

impl House {
    async fn start() -> Self {
        let authority = Authority::new("front-proxy-ca");
        let cluster = ClusterApi::start(trust(&authority.pem(), &authority.pem()));
        let upstream = Prometheus::start();
        upstream.answer_all(Some(Reply::Hang));
        let url = upstream.server().url();
        let slow = ["slow-1", "slow-2"]
            .map(|name| metric(name, "source: main, prometheus: { query: slow }"));
        // The fetch outlives every wait of this test.
        let source = format!("  - {{ name: main, prometheus: {{ url: \"{url}\", timeout: 1m }} }}");
        let setup = Setup::new(&format!("{source}\n  - {{ name: sim, simulated: {{}} }}"))
            .cluster(&cluster)
            .limits(&format!("{{ requests: {LIMIT} }}"))
            .defaults("{ refresh: 10s, firstReadTimeout: 30s }")
            .with("slow.yaml", &slow.concat())
            .with("m.yaml", &metric("steady", "source: sim, simulated: { constant: 5 }"));
        let process = Process::start(setup);
        process.door.ready().await;
        let proxy = authority.client("front-proxy-client", &[]);
        Self { process, proxy, _cluster: cluster, _upstream: upstream }
    }

    async fn waiting(&self, many: usize) {
        until("requests that wait", async || {
            let seen = self.process.counted("tidepole_server_requests_waiting").await;
            if seen.to_string() == many.to_string() { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
    }
}

async fn read(mut requests: Requests, name: &str) -> Result<Answer, Failure> {
    requests.get(&path_of("default", name), &HPA).await
}

/// So many reads at once.
fn reads<'a>(
    connection: &Connection,
    many: usize,
    name: &'a str,
) -> FuturesUnordered<impl Future<Output = Result<Answer, Failure>> + use<'a>> {
    (0..many).map(|_| read(connection.share(), name)).collect()
}

/// Everything that does not have to wait, by whoever asks.
async fn answered(house: &House, aggregator: &mut Connection) {
    let answer = aggregator.get(&path_of("default", "steady"), &HPA).await.expect("an answer");
    assert_eq!(values(&answer), ["5"], "what is in memory is served");
    for path in ["/readyz", "/livez", "/apis/external.metrics.k8s.io/v1beta1"] {
        // As the aggregator probes a group: in the name of a master.
        let probe =
            [("X-Remote-User", "system:kube-aggregator"), ("X-Remote-Group", "system:masters")];
        let answer = aggregator.get(path, &probe).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let mut probe = house.process.reader().await;
    assert_eq!(probe.get("/readyz").await.status, 200);
    assert_eq!(house.process.door.get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_reads_that_would_wait_are_refused_and_nobody_else_notices() {
    const SHED: usize = 2000;
    let house = House::start().await;
    let mut aggregator = house.process.connect_as(&house.proxy).await;
    answered(&house, &mut aggregator).await;

    let full = reads(&aggregator, LIMIT, "slow-1");
    let others = async {
        house.waiting(LIMIT).await;
        // After the first thousand, whose buffers stay.
        let mut before = 0;
        for batch in 0..SHED / 100 {
            if batch == 10 {
                before = house.process.resident();
            }
            let mut refused = reads(&aggregator, 100, "slow-1");
            while let Some(answer) = refused.next().await {
                let answer = answer.expect("an answer");
                let message = status(&answer, 429, "TooManyRequests");
                assert!(message.contains("server.limits.requests is 16"), "{message}");
            }
        }
        let after = house.process.resident();
        println!("from {before} to {after} bytes");
        // Nothing is left of a refusal: a thousand whose tasks and buffers of 16 KiB stay would be seen.
        assert!(after < before + (16 << 20), "from {before} to {after} bytes");
        let mut other = house.process.connect_as(&house.proxy).await;
        answered(&house, &mut other).await;
        let shed = house.process.counted("tidepole_server_requests_shed_total").await;
        assert_eq!(shed.to_string(), SHED.to_string());
        // All were refused while those waited that had come before.
        house.waiting(LIMIT).await;
    };
    tokio::select! {
        early = full.collect::<Vec<_>>() => panic!("reads that wait ended: {early:?}"),
        () = others => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_there_again_as_soon_as_somebody_leaves() {
    let house = House::start().await;
    let mut aggregator = house.process.connect_as(&house.proxy).await;
    answered(&house, &mut aggregator).await;
    for round in 0..20 {
        let name = if round % 2 == 0 { "slow-1" } else { "slow-2" };
        let mut full = reads(&aggregator, LIMIT, name);
        let others = async {
            house.waiting(LIMIT).await;
            let refused = read(aggregator.share(), name).await.expect("an answer");
            status(&refused, 429, "TooManyRequests");
        };
        tokio::select! {
            early = full.next() => panic!("a read that waits ended: {early:?}"),
            () = others => {}
        }
        // The HPA controller gives up.
        drop(full);
        house.waiting(0).await;
    }
    answered(&house, &mut aggregator).await;
}
