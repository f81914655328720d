//! More bytes than a request has: headers without end, headers that unfold, frames without end.

use std::time::Duration;

use futures::future::join_all;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::House;
use crate::support::frames::{
    self, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, request,
};
use crate::support::server::path_of;
use crate::support::wait::PATIENCE;

/// Attackers at once.
const PEERS: usize = 12;

/// How an attacker's connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The server ended it, after it had taken so many bytes of the attack.
    Ended(usize),
    /// The server took everything.
    TookAll,
    /// The server takes no more, and ends nothing: what was sent waits with the attacker.
    Stalled(usize),
}

/// Sends a piece again and again and reads whatever comes; gives how it ended and what was read.
async fn pour(stream: TlsStream<TcpStream>, piece: &[u8], times: usize) -> (End, Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let listen = async {
        let mut buffer = [0; 4096];
        while let Ok(count) = read.read(&mut buffer).await
            && count > 0
        {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    let send = async {
        for sent in 0..times {
            let written = tokio::time::timeout(PATIENCE, async {
                write.write_all(piece).await?;
                write.flush().await
            });
            match written.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Ended(sent * piece.len()),
                Err(_) => return End::Stalled(sent * piece.len()),
            }
        }
        End::TookAll
    };
    let end = tokio::select! {
        end = send => end,
        // Only when the server has ended it.
        () = listen => End::Ended(0),
    };
    (end, answer)
}

/// The attack of several peers at once, each on a connection where `begin` was said.
async fn together(
    house: &House,
    config: &ClientConfig,
    protocol: &[u8],
    begin: &[u8],
    piece: &[u8],
    times: usize,
) -> Vec<(End, Vec<u8>)> {
    let attack = (0..PEERS).map(|_| async {
        let mut stream = if protocol == b"h2" {
            frames::connect(house.process.api(), config).await
        } else {
            frames::tls(house.process.api(), config, protocol).await
        }
        .expect("the server takes the connection");
        // The server may have had enough already.
        match stream.write_all(begin).await {
            Ok(()) => pour(stream, piece, times).await,
            Err(_) => (End::Ended(0), Vec::new()),
        }
    });
    join_all(attack).await
}

/// What the aggregator is answered on the first stream of a connection.
async fn asked(house: &House, bytes: &[u8]) -> String {
    let made = frames::connect(house.process.api(), &house.aggregator()).await;
    let mut stream = made.expect("the aggregator is let in");
    stream.write_all(bytes).await.expect("the server takes the connection");
    let answer = tokio::time::timeout(PATIENCE, frames::answer(&mut stream, 1)).await;
    let answer = answer.expect("it takes too long").expect("no GOAWAY");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A header line that never ends, from somebody without a certificate (64 KiB are taken) and from
/// the aggregator (1 MiB).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_bombs() {
    const PIECE: [u8; 16 << 10] = [b'a'; 16 << 10];
    const PIECES: usize = 1024;
    let house = House::start("{}").await;
    let attack = async {
        for config in [house.stranger(), house.user(), house.aggregator()] {
            let begin = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-A: ";
            for (end, answer) in together(&house, &config, b"http/1.1", begin, &PIECE, PIECES).await
            {
                assert!(matches!(end, End::Ended(_)), "{end:?}");
                let said = String::from_utf8_lossy(&answer);
                assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
            }
            // Thousands of lines.
            let line = b"X-B: b\r\n".repeat(100);
            let begin = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n";
            for (end, _) in together(&house, &config, b"http/1.1", begin, &line, 20_000).await {
                assert!(matches!(end, End::Ended(_)), "{end:?}");
            }
        }
    };
    house.under("header bombs on HTTP/1.1", attack).await;
}

/// A string in HPACK: its length as an integer of seven bits and more, and its bytes.
fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x7f];
    let mut rest = text.len() - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("below 128") | 0x80);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("below 128"));
    [&bytes, text].concat()
}

/// A header of 16 KiB that unfolds to 48 MiB: a field of 4 KB goes into the table of HPACK, and then
/// one byte names it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_bombs_that_unfold() {
    let house = House::start("{}").await;
    let mut block = request(&path_of("default", "steady"));
    // With indexing, a new name.
    block.extend([0x40, 1, b'x']);
    block.extend(long(&[b'v'; 4000]));
    // An indexed field, the newest of the table: number 62. Ten are a request like any other.
    let fits = [&block[..], &[0xbe; 10]].concat();
    block.extend([0xbe; 12_000]);
    let attack = async {
        let answer = asked(&house, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &fits)).await;
        assert!(answer.contains("\"value\":\"5\""), "{answer}");
        for config in [house.stranger(), house.user(), house.aggregator()] {
            let requests: Vec<u8> = (0..16)
                .flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block))
                .collect();
            // A server that took one as it is would have 16 times 48 MiB of each of the peers.
            let ping = frame(PING, 0, 0, &[0; 8]);
            let answers = together(&house, &config, b"h2", &requests, &ping, 50).await;
            for (end, answer) in answers {
                let said = String::from_utf8_lossy(&answer);
                assert!(!said.contains("\"items\""), "{end:?}: it was answered: {said}");
            }
        }
    };
    house.under("header bombs that unfold", attack).await;
}

/// A header block that goes on frame by frame and never ends: full frames, and empty ones, which cost
/// the sender nine bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuation_floods() {
    let house = House::start("{}").await;
    let begin = frame(HEADERS, END_STREAM, 1, &request("/readyz"));
    let full = frame(CONTINUATION, 0, 1, &frames::field("x-a", &"a".repeat(100)).repeat(150));
    let empty = frame(CONTINUATION, 0, 1, &[]).repeat(1000);
    let attack = async {
        // One that ends is a request like any other.
        let pieces = [
            frame(HEADERS, END_STREAM, 1, &request(&path_of("default", "steady"))),
            frame(CONTINUATION, END_HEADERS, 1, &frames::field("x-a", "a")),
        ];
        let answer = asked(&house, &pieces.concat()).await;
        assert!(answer.contains("\"value\":\"5\""), "{answer}");
        for config in [house.stranger(), house.user(), house.aggregator()] {
            for (piece, times) in [(&full, 1000), (&empty, 1000)] {
                for (end, _) in together(&house, &config, b"h2", &begin, piece, times).await {
                    assert!(matches!(end, End::Ended(_)), "{end:?}");
                }
            }
        }
    };
    house.under("CONTINUATION floods", attack).await;
}

/// Frames that the server has to answer, from peers who never read an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_that_want_answers() {
    let house = House::start("{}").await;
    let ping = frame(PING, 0, 0, &[0; 8]).repeat(500);
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(500);
    let attack = async {
        for piece in [&ping, &settings] {
            let config = house.stranger();
            let attack = (0..PEERS).map(|_| async {
                let stream = frames::connect(house.process.api(), &config).await;
                let mut stream = stream.expect("the server takes the connection");
                let write = async {
                    for _ in 0..400 {
                        stream.write_all(piece).await?;
                    }
                    stream.flush().await
                };
                // It may take all, take no more, or end it.
                let _ = tokio::time::timeout(Duration::from_secs(3), write).await;
                stream
            });
            drop(join_all(attack).await);
        }
    };
    house.under("floods of PING and SETTINGS", attack).await;
}
