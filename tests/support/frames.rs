//! HTTP/2 frame by frame: what no library's client would send.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server::NAME;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const CANCEL: u32 = 8;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields of a GET by HPACK, without its compression.
pub(crate) fn request(path: &str) -> Vec<u8> {
    // Indexed: `:method: GET`, `:scheme: https`; names 4 (`:path`) and 1 (`:authority`) are static.
    let mut block = vec![0x82, 0x87, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text(NAME));
    block.extend(field("x-remote-user", "hpa"));
    block
}

/// One more header field.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0x00], text(name), text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    // One byte of length, the first bit of which stands for compression.
    assert!(text.len() < 127, "a field is short");
    [&[u8::try_from(text.len()).expect("checked")], text.as_bytes()].concat()
}

/// A TLS connection without anything said on it.
pub(crate) async fn tls(
    address: SocketAddr,
    config: &ClientConfig,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = config.clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).expect("a host name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A connection on which HTTP/2 has begun.
pub(crate) async fn connect(
    address: SocketAddr,
    config: &ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = tls(address, config, b"h2").await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    Ok(stream)
}

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Last stream and code of a GOAWAY.
    pub(crate) fn goaway(&self) -> (u32, u32) {
        let number = |at: usize| {
            u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
        };
        (number(0), number(4))
    }
}

/// Reads one frame; an error when the connection has ended.
pub(crate) async fn next(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("32 bits fit")];
    stream.read_exact(&mut payload).await?;
    let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], flags: head[4], stream: of, payload })
}

/// Reads frames until a stream has ended; its body, or the code of a GOAWAY.
///
/// # Panics
/// When the connection ends before.
pub(crate) async fn answer(stream: &mut TlsStream<TcpStream>, id: u32) -> Result<Vec<u8>, u32> {
    let mut body = Vec::new();
    loop {
        let frame = next(stream).await.expect("the connection goes on");
        if frame.kind == GOAWAY {
            return Err(frame.goaway().1);
        }
        let is_last = frame.flags & END_STREAM != 0;
        if frame.stream == id && matches!(frame.kind, DATA | HEADERS) {
            if frame.kind == DATA {
                body.extend(frame.payload);
            }
            if is_last {
                return Ok(body);
            }
        }
    }
}
