//! HTTP/2 in frames: what no library's client would send.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::server::{NAME, Setup, Tidepole, metric, path_of};
use crate::support::tls::{Authority, Pair};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields by HPACK, without its compression.
fn request(path: &str) -> Vec<u8> {
    let text = |text: &str| {
        [&[u8::try_from(text.len()).expect("a field is short")], text.as_bytes()].concat()
    };
    // Indexed: `:method: GET`, `:scheme: https`; names 4 (`:path`) and 1 (`:authority`) are static.
    let mut block = vec![0x82, 0x87, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text(NAME));
    block.push(0x00);
    block.extend(text("x-remote-user"));
    block.extend(text("hpa"));
    block
}

async fn connect(server: &Tidepole, identity: &Pair) -> TlsStream<TcpStream> {
    let mut config = (*server.setup.authority.client_config(Some(identity))).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.running.api_address()).await.expect("it listens");
    let name = ServerName::try_from(NAME).expect("a host name");
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("the server takes the connection");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("the server takes the connection");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("the server takes the connection");
    stream
}

/// Reads frames until a stream has ended; its body, or the code of a GOAWAY.
async fn answer(stream: &mut TlsStream<TcpStream>, id: u32) -> Result<Vec<u8>, u32> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("the connection goes on");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("32 bits fit")];
        stream.read_exact(&mut payload).await.expect("the connection goes on");
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            GOAWAY => {
                return Err(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
            }
            DATA if of == id => body.extend(payload),
            _ => {}
        }
        if of == id && matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
            return Ok(body);
        }
    }
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
