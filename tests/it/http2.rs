//! HTTP/2 in frames: what no library's client would send.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::frames::{
    self, CANCEL, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, answer, frame, request,
};
use crate::support::server::{Setup, Tidepole, metric, path_of};
use crate::support::tls::{Authority, Pair};

async fn connect(server: &Tidepole, identity: &Pair) -> TlsStream<TcpStream> {
    let config = server.setup.authority.client_config(Some(identity));
    let made = frames::connect(server.running.api_address(), &config).await;
    made.expect("the server takes the connection")
}

/// Streams that are reset before the server has looked at them: what the aggregator sends when the
/// HPA's requests die together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_of_resets_end_only_a_strangers_connection() {
    const BURST: u32 = 500;
    let proxy = Authority::new("front-proxy-ca");
    let cluster = ClusterApi::start(trust(&proxy.pem(), &proxy.pem()));
    let mut server = Setup::new("  - { name: sim, simulated: {} }")
        .cluster(&cluster)
        .with("m.yaml", &metric("steady", "simulated: { constant: 5 }"))
        .start()
        .await;
    let block = request(&path_of("default", "steady"));
    let burst = |first: u32| -> Vec<u8> {
        (0..BURST)
            .flat_map(|i| {
                let id = first + 2 * i;
                let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
                bytes.extend(frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes()));
                bytes
            })
            .collect()
    };
    let whole = |id: u32| frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
    let limit = Duration::from_secs(20);

    let mut aggregator = connect(&server, &proxy.client("front-proxy-client", &[])).await;
    let mut id = 1;
    for _ in 0..20 {
        aggregator.write_all(&burst(id)).await.unwrap();
        id += 2 * BURST;
        aggregator.write_all(&whole(id)).await.unwrap();
        let body = tokio::time::timeout(limit, answer(&mut aggregator, id)).await.unwrap();
        let body = body.unwrap_or_else(|code| panic!("GOAWAY with code {code} by stream {id}"));
        assert!(String::from_utf8_lossy(&body).contains("\"value\":\"5\""), "{body:?}");
        id += 2;
    }

    // A user's own certificate: such a burst is an attack, and ends its connection alone.
    let mut stranger = connect(&server, &proxy.client("jane", &[])).await;
    stranger.write_all(&[burst(1), whole(2 * BURST + 1)].concat()).await.unwrap();
    let ended = tokio::time::timeout(limit, answer(&mut stranger, 2 * BURST + 1)).await.unwrap();
    // ENHANCE_YOUR_CALM
    assert_eq!(ended, Err(11));
    aggregator.write_all(&whole(id)).await.unwrap();
    let body = tokio::time::timeout(limit, answer(&mut aggregator, id)).await.unwrap();
    assert!(String::from_utf8_lossy(&body.unwrap()).contains("\"value\":\"5\""));
    server.check();
}
