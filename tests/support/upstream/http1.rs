//! A small HTTP/1.1 server that can also misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests that a server remembers; a test that looks at more is not a unit test.
const MAX_SEEN: usize = 10_000;

/// What a server got.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of a name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All headers of a name (lower case).
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query string or of a form body.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let body = String::from_utf8_lossy(&self.body);
        url::form_urlencoded::parse(query.as_bytes())
            .chain(url::form_urlencoded::parse(body.as_bytes()))
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A proper answer.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Waits first.
    After(Duration, Box<Self>),
    /// Waits first, until a gate is open.
    Behind(Gate, Box<Self>),
    /// Never answers.
    Hang,
    /// Breaks the connection with a TCP reset.
    Reset,
    /// Promises more bytes than it sends, then closes.
    HalfClosed { body: Vec<u8> },
    /// Sends a head and some body, then nothing more, and keeps the connection open.
    Stalled { body: Vec<u8> },
    /// Sends these bytes as they are, then closes.
    Raw(Vec<u8>),
    /// A body of these many bytes of `x`, without a length announced.
    Huge { status: u16, bytes: usize },
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::text(status, "application/json", body)
    }

    /// An answer of a content type.
    pub fn text(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into().into_bytes(),
        }
    }

    /// The same answer with another header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same, later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }

    /// The same, as soon as a gate is open.
    #[must_use]
    pub fn behind(self, gate: &Gate) -> Self {
        if gate.is_open() { self } else { Self::Behind(gate.clone(), Box::new(self)) }
    }
}

/// Holds answers back while it is shut, for a test that decides when they come. Open at first; clones
/// are one gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Gate {
    /// Holds back the answers to requests that come from now on.
    pub fn shut(&self) {
        self.0.send_replace(false);
    }

    /// Lets everything go that is held back.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    async fn passed(&self) {
        // We hold the sender, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

struct State {
    handler: Box<Handler>,
    tls: Option<Arc<rustls::ServerConfig>>,
    hits: AtomicU64,
    connections: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    held: AtomicU64,
    remembered: AtomicUsize,
    seen: Mutex<Vec<Request>>,
}

/// A running server. Dropping it closes its socket and its connections.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    door: Mutex<Door>,
}

/// Whether a server listens.
enum Door {
    Open {
        stop: CancellationToken,
        thread: JoinHandle<()>,
    },
    /// The port stays ours, but connections to it are refused.
    Shut(TcpSocket),
    /// In between.
    Gone,
}

impl Upstream {
    /// A server on a free port of the loopback address.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, handler)
    }

    /// A TLS server on a free port.
    pub fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Some(tls), handler)
    }

    /// A server at an address, for instance that of one that was dropped before.
    pub fn start_at(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let socket = bound(address);
        let address = socket.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            handler: Box::new(handler),
            tls,
            hits: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            held: AtomicU64::new(0),
            remembered: AtomicUsize::new(MAX_SEEN),
            seen: Mutex::new(Vec::new()),
        });
        let door = Mutex::new(open(socket, &state));
        Self { address, state, door }
    }

    /// Ends all connections and refuses new ones, as where a process has ended.
    pub fn shut(&self) {
        let mut door = self.door.lock().expect("no holder panics");
        if matches!(*door, Door::Open { .. }) {
            close(std::mem::replace(&mut *door, Door::Gone));
            *door = Door::Shut(bound(self.address));
        }
    }

    /// Listens again after [`Upstream::shut`].
    pub fn reopen(&self) {
        let mut door = self.door.lock().expect("no holder panics");
        *door = match std::mem::replace(&mut *door, Door::Gone) {
            Door::Shut(socket) => open(socket, &self.state),
            other => other,
        };
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL without a path: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Requests received.
    pub fn hits(&self) -> u64 {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The greatest number of requests that waited for their answers at one time.
    pub fn max_in_flight(&self) -> u64 {
        self.state.max_in_flight.load(Ordering::SeqCst)
    }

    /// Requests that it leaves without an answer at present, because it was told to.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// The requests received, oldest first.
    pub fn seen(&self) -> Vec<Request> {
        self.state.seen.lock().expect("no handler panics").clone()
    }

    /// Remembers at most this many requests from now on; for a test that sends many large ones.
    pub fn remember(&self, requests: usize) {
        self.state.remembered.store(requests, Ordering::SeqCst);
    }

    /// The last request received.
    pub fn last(&self) -> Request {
        self.seen().pop().expect("there was a request")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let door = self.door.get_mut().unwrap_or_else(PoisonError::into_inner);
        close(std::mem::replace(door, Door::Gone));
    }
}

/// A socket that does not listen yet.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    // What is left of connections does not keep the port.
    socket.set_reuseaddr(true).expect("the option exists");
    socket.bind(address).expect("the address is free");
    socket
}

/// Serves on a thread of its own, with a runtime of its own.
fn open(socket: TcpSocket, state: &Arc<State>) -> Door {
    let stop = CancellationToken::new();
    let (tell, listens) = std::sync::mpsc::channel();
    let thread = std::thread::spawn({
        let (state, stop) = (Arc::clone(state), stop.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            runtime.block_on(async {
                let listener = socket.listen(1024).expect("a bound socket can listen");
                let _ = tell.send(());
                tokio::select! {
                    () = accept(&listener, &state) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    });
    listens.recv().expect("the server listens");
    Door::Open { stop, thread }
}

fn close(door: Door) {
    if let Door::Open { stop, thread } = door {
        stop.cancel();
        let _ = thread.join();
    }
}

async fn accept(listener: &tokio::net::TcpListener, state: &Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        state.connections.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(state);
        connections.spawn(async move {
            if let Some(tls) = &state.tls {
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(tls));
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    serve(&mut stream, &state).await;
                    let _ = stream.shutdown().await;
                }
            } else {
                let mut stream = stream;
                if serve(&mut stream, &state).await == End::Reset {
                    let _ = stream.set_zero_linger();
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Why serving a connection ended.
#[derive(PartialEq)]
enum End {
    Close,
    Reset,
}

async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), state: &State) -> End {
    let mut buffer = Vec::new();
    while let Some(request) = receive(stream, &mut buffer).await {
        state.hits.fetch_add(1, Ordering::SeqCst);
        let _in_flight = Decrement::of(&state.in_flight);
        state.max_in_flight.fetch_max(state.in_flight.load(Ordering::SeqCst), Ordering::SeqCst);
        let reply = (state.handler)(&request);
        {
            let mut seen = state.seen.lock().expect("no handler panics");
            if seen.len() < state.remembered.load(Ordering::SeqCst) {
                seen.push(request);
            }
        }
        let held = matches!(reply, Reply::Hang | Reply::Stalled { .. });
        let _held = held.then(|| Decrement::of(&state.held));
        if let Err(end) = answer(stream, &mut buffer, reply).await {
            return end;
        }
    }
    End::Close
}

/// Counts while it lives.
struct Decrement<'a>(&'a AtomicU64);

impl<'a> Decrement<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Decrement<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), End> {
    stream.write_all(bytes).await.map_err(|_| End::Close)?;
    stream.flush().await.map_err(|_| End::Close)
}

/// Sends a reply; an error ends the connection.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
    reply: Reply,
) -> Result<(), End> {
    match reply {
        Reply::After(delay, reply) => {
            // A client that has gone ends the wait, as it would in a real server.
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = gone(stream, buffer) => return Err(End::Close),
            }
            Box::pin(answer(stream, buffer, *reply)).await
        }
        Reply::Behind(gate, reply) => {
            tokio::select! {
                () = gate.passed() => {}
                () = gone(stream, buffer) => return Err(End::Close),
            }
            Box::pin(answer(stream, buffer, *reply)).await
        }
        Reply::Answer { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Fake\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.extend([&name, ": ", &value, "\r\n"]);
            }
            head.push_str("\r\n");
            send(stream, &[head.as_bytes(), &body].concat()).await
        }
        Reply::Hang => {
            gone(stream, buffer).await;
            Err(End::Close)
        }
        Reply::Reset => Err(End::Reset),
        Reply::HalfClosed { body } => {
            promise(stream, &body).await?;
            Err(End::Close)
        }
        Reply::Stalled { body } => {
            promise(stream, &body).await?;
            gone(stream, buffer).await;
            Err(End::Close)
        }
        Reply::Raw(bytes) => {
            send(stream, &bytes).await?;
            Err(End::Close)
        }
        Reply::Huge { status, bytes } => {
            let head = format!(
                "HTTP/1.1 {status} Fake\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
            );
            send(stream, head.as_bytes()).await?;
            let chunk = vec![b'x'; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let n = left.min(chunk.len());
                send(stream, &chunk[..n]).await?;
                left -= n;
            }
            Err(End::Close)
        }
    }
}

async fn promise(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), End> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len() + 1000
    );
    send(stream, &[head.as_bytes(), body].concat()).await
}

/// Waits until the client has closed the connection.
async fn gone(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) {
    while let Ok(1..) = stream.read_buf(buffer).await {}
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse::<usize>().unwrap_or(0));
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Request { method, target, headers, body })
}

/// A time, in seconds since the epoch, as HTTP writes it.
pub(super) fn http_date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).expect("a time that can be written");
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
