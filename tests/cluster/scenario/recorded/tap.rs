//! Stands before a Prometheus server and notes what it is asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// One request to Prometheus, as the recording has it: without the parameters that are times, and
/// without what every HTTP client says in words of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Heard {
    pub(super) method: String,
    pub(super) path: String,
    /// Sorted.
    pub(super) parameters: Vec<(String, String)>,
    /// Sorted, names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

/// Times move from request to request.
const TIMES: [&str; 3] = ["time", "start", "end"];

/// Headers that say nothing about the question.
const PLAIN: [&str; 6] =
    ["host", "user-agent", "accept-encoding", "content-length", "connection", "accept"];

/// A running tap.
#[derive(Debug)]
pub(super) struct Tap {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Tap {
    /// Forwards to a server for as long as the process lives. Whatever path is before `/api/v1/` is
    /// cut off.
    pub(super) fn start(server: (Ipv4Addr, u16)) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let heard = Arc::default();
        let notes = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                // A side that has gone away is its own problem.
                std::thread::spawn(move || forward(stream, server, &notes));
            }
        });
        Self { port, heard }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since the last call.
    pub(super) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request, on a connection of its own.
fn forward(
    mut stream: TcpStream,
    server: (Ipv4Addr, u16),
    notes: &Mutex<Vec<Heard>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let said = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone());
    let length = said("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let encoded = if method == "POST" { body.as_slice() } else { query.as_bytes() };
    let mut parameters: Vec<(String, String)> = url::form_urlencoded::parse(encoded)
        .filter(|(name, _)| !TIMES.contains(&name.as_ref()))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    parameters.sort();
    let kind = said("content-type");
    headers.retain(|(name, _)| !PLAIN.contains(&name.as_str()));
    headers.sort();
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(Heard {
        method: method.to_owned(),
        path: path.to_owned(),
        parameters,
        headers,
    });
    let target = &target[target.find("/api/v1/").unwrap_or(0)..];
    let mut server = TcpStream::connect(server)?;
    write!(server, "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")?;
    if let Some(kind) = kind {
        write!(server, "Content-Type: {kind}\r\n")?;
    }
    write!(server, "Content-Length: {length}\r\n\r\n")?;
    server.write_all(&body)?;
    std::io::copy(&mut server, &mut stream)?;
    Ok(())
}
