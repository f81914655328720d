//! A small HTTPS client over which tests have full control: protocol, identity, connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// One connection. Requests go over it and no other, so a test sees when the server ends it.
pub(crate) struct Connection {
    requests: Requests,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

/// Sends requests over a connection; on HTTP/2 many may do so at once.
pub(crate) struct Requests {
    sender: Sender,
    authority: Arc<str>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    /// Connects with TLS. `name` is what the server's certificate must say.
    pub(crate) async fn tls(
        address: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
        protocol: Protocol,
    ) -> Result<Self, Failure> {
        let mut config = (**config).clone();
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name_sent = ServerName::try_from(name.to_owned())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name_sent, stream).await?;
        Self::over(TokioIo::new(stream), name, protocol).await
    }

    /// Connects without TLS, as to the admin listener.
    pub(crate) async fn plain(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        Self::over(TokioIo::new(stream), &address.to_string(), Protocol::Http1).await
    }

    async fn over<S>(stream: S, authority: &str, protocol: Protocol) -> Result<Self, Failure>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                (Sender::Http1(sender), spawn(connection))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    // Until the server has said how many it takes: more could be refused.
                    .initial_max_send_streams(1)
                    .handshake(stream)
                    .await?;
                (Sender::Http2(sender), spawn(connection))
            }
        };
        Ok(Self { requests: Requests { sender, authority: authority.into() }, driver })
    }

    /// Another sender over the same connection.
    ///
    /// # Panics
    /// On HTTP/1.1, where requests come one after the other.
    pub(crate) fn share(&self) -> Requests {
        let Sender::Http2(sender) = &self.requests.sender else {
            panic!("HTTP/1.1 has no concurrent requests")
        };
        let authority = Arc::clone(&self.requests.authority);
        Requests { sender: Sender::Http2(sender.clone()), authority }
    }

    /// `GET` with headers.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        self.requests.get(path, headers).await
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        self.requests.send(method, path, headers, body).await
    }

    /// Waits until the server ends the connection; an orderly end is `Ok`.
    pub(crate) async fn closed(self) -> Result<(), Failure> {
        // Held until the end: a connection without a sender closes by itself.
        let _requests = self.requests;
        Ok(self.driver.await??)
    }
}

impl Requests {
    /// `GET` with headers.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let uri = match &self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri).body(Full::new(body))?;
        if matches!(self.sender, Sender::Http1(_)) {
            request
                .headers_mut()
                .insert(http::header::HOST, HeaderValue::try_from(&*self.authority)?);
        }
        for (name, value) in headers {
            let name = HeaderName::try_from(*name)?;
            request.headers_mut().append(name, HeaderValue::try_from(*value)?);
        }
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Answer::read(response).await
    }
}

impl Answer {
    async fn read(response: Response<hyper::body::Incoming>) -> Result<Self, Failure> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: parts.status, headers: parts.headers, body })
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// A header's value, empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the task belongs to a test, not to the server")]
fn spawn<F>(connection: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(connection)
}
