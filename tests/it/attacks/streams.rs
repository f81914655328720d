//! Streams that begin and are gone again.

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::House;
use crate::support::frames::{
    self, ACK, CANCEL, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, frame, request,
};
use crate::support::server::path_of;
use crate::support::wait::{PATIENCE, until};

fn open(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(path))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// Reads until the server has answered a ping, so that it has seen all that was sent before.
async fn ping(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(&frame(PING, 0, 0, &[7; 8])).await.expect("the connection goes on");
    loop {
        let frame = frames::next(stream).await.expect("the connection goes on");
        assert_ne!(frame.kind, GOAWAY, "{:?}", frame.goaway());
        if (frame.kind, frame.flags) == (PING, ACK) && frame.payload == [7; 8] {
            return;
        }
    }
}

async fn nobody_waits(house: &House) {
    until("nobody waits any more", async || {
        let seen = house.process.counted("tidepole_server_requests_waiting").await;
        if seen == 0.0 { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

/// What the aggregator does when the HPAs' requests die: reads that wait are cancelled, as many as it
/// may have open, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cancelled_streams() {
    const BATCH: u32 = 500;
    let house = House::start("{}").await;
    let attack = async {
        let config = house.aggregator();
        let made = frames::connect(house.process.api(), &config).await;
        let mut stream = made.expect("the aggregator is let in");
        ping(&mut stream).await;
        let path = path_of("default", "slow");
        for batch in 0..20 {
            let ids = (0..BATCH).map(|n| 2 * (batch * BATCH + n) + 1);
            let begun: Vec<u8> = ids.clone().flat_map(|id| open(id, &path)).collect();
            stream.write_all(&begun).await.expect("the connection goes on");
            ping(&mut stream).await;
            let cancelled: Vec<u8> = ids.flat_map(reset).collect();
            stream.write_all(&cancelled).await.expect("the connection goes on");
            ping(&mut stream).await;
            // Or the next ones would find their places taken.
            nobody_waits(&house).await;
        }
        // The same connection, which is the aggregator's only one.
        let last = 2 * 20 * BATCH + 1;
        let read = open(last, &path_of("default", "steady"));
        stream.write_all(&read).await.expect("the connection goes on");
        let answer = tokio::time::timeout(PATIENCE, frames::answer(&mut stream, last)).await;
        let answer = answer.expect("it takes too long").expect("no GOAWAY");
        assert!(String::from_utf8_lossy(&answer).contains("\"value\":\"5\""));
        let shed = house.process.counted("tidepole_server_requests_shed_total").await;
        assert_eq!(shed.to_string(), "0", "there is room for as many as it may open");
    };
    house.under("10,000 cancelled streams", attack).await;
}

/// Streams that are reset in the same breath, by peers who come again when their connection is
/// ended: users, whose requests cost a review, and strangers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    const PEERS: usize = 8;
    const CONNECTIONS: usize = 15;
    const BURST: u32 = 1000;
    let house = House::start("{}").await;
    let attack = async {
        for (config, name) in [(house.stranger(), "steady"), (house.user(), "slow")] {
            let path = path_of("default", name);
            let burst: Vec<u8> = (0..BURST)
                .flat_map(|n| [open(2 * n + 1, &path), reset(2 * n + 1)].concat())
                .collect();
            let peer = async || {
                for _ in 0..CONNECTIONS {
                    let stream = frames::connect(house.process.api(), &config).await;
                    let mut stream = stream.expect("the server takes the connection");
                    // Ended while it is sent, or then.
                    let _ = stream.write_all(&burst).await;
                    let mut said = Vec::new();
                    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
                    assert!(end.is_ok(), "such a connection goes on");
                }
            };
            join_all((0..PEERS).map(|_| peer())).await;
        }
        nobody_waits(&house).await;
    };
    house.under("240,000 streams that are reset at once", attack).await;
}
