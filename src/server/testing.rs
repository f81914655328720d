//! What the server's tests stand on: certificate authorities, a cluster's trust data, reviewers
//! that count, a service that shows what it was given, and clients over real TLS.

pub(super) mod cluster;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::model::{Identity, ResourceAttributes, SystemClock};

/// A certificate authority.
pub(super) struct Ca {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(super) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    /// A certificate for TLS clients.
    pub(super) fn client(&self, name: &str, organizations: &[&str]) -> Leaf {
        self.leaf(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.distinguished_name.push(DnType::CommonName, name);
            for organization in organizations {
                params.distinguished_name.push(DnType::OrganizationName, *organization);
            }
        })
    }

    /// A certificate for a server on loopback.
    pub(super) fn server(&self) -> Leaf {
        self.leaf(|params| {
            params.subject_alt_names =
                vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }
}

/// The data of `extension-apiserver-authentication` as kube-apiserver writes it.
pub(super) fn trust_data(proxy: &Ca, users: &Ca, allowed: &[&str]) -> BTreeMap<String, String> {
    let list = |items: &[&str]| serde_json::to_string(items).unwrap();
    [
        ("client-ca-file", users.pem.clone()),
        ("requestheader-client-ca-file", proxy.pem.clone()),
        ("requestheader-allowed-names", list(allowed)),
        ("requestheader-username-headers", list(&["X-Remote-User"])),
        ("requestheader-group-headers", list(&["X-Remote-Group"])),
        ("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"])),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A reviewer of both kinds that answers what it was told to and counts.
#[derive(Default)]
pub(super) struct Reviewer {
    pub(super) access: Mutex<Vec<(Identity, Attributes)>>,
    pub(super) tokens: AtomicUsize,
    /// What to answer about access; none means allowed.
    pub(super) verdict: Mutex<Option<Result<AccessVerdict, ReviewError>>>,
    /// How long an answer takes.
    pub(super) takes: Mutex<Duration>,
}

impl Reviewer {
    pub(super) fn asked(&self) -> usize {
        self.access.lock().unwrap().len()
    }

    pub(super) fn last(&self) -> Identity {
        self.access.lock().unwrap().last().expect("access was reviewed").0.clone()
    }

    pub(super) fn answer(&self, verdict: Result<bool, &str>) {
        let verdict = verdict
            .map(|allowed| AccessVerdict { allowed, reason: String::new() })
            .map_err(|e| ReviewError::Failed(e.into()));
        *self.verdict.lock().unwrap() = Some(verdict);
    }
}

impl AccessReviewer for Reviewer {
    fn review(
        &self,
        identity: &Identity,
        attributes: &Attributes,
    ) -> BoxFuture<'static, Result<AccessVerdict, ReviewError>> {
        self.access.lock().unwrap().push((identity.clone(), attributes.clone()));
        let allowed = Ok(AccessVerdict { allowed: true, reason: String::new() });
        let verdict = self.verdict.lock().unwrap().clone().unwrap_or(allowed);
        let takes = *self.takes.lock().unwrap();
        async move {
            tokio::time::sleep(takes).await;
            verdict
        }
        .boxed()
    }
}

impl TokenReviewer for Reviewer {
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        let takes = *self.takes.lock().unwrap();
        async move {
            tokio::time::sleep(takes).await;
            match token.strip_prefix("token-of-") {
                Some("nobody-knows") => Err(ReviewError::Failed("no route to host".into())),
                Some(user) => Ok(TokenVerdict::Authenticated(Identity {
                    user: user.to_owned(),
                    ..Identity::default()
                })),
                None => Ok(TokenVerdict::Rejected),
            }
        }
        .boxed()
    }
}

/// Answers with the names of the headers it was given.
pub(super) struct Show {
    /// Lets one `/wait` go.
    pub(super) go: Arc<tokio::sync::Semaphore>,
    /// Requests that reached `/wait`.
    pub(super) waiting: Arc<AtomicUsize>,
}

impl Default for Show {
    fn default() -> Self {
        Self { go: Arc::new(tokio::sync::Semaphore::new(0)), waiting: Arc::default() }
    }
}

impl Service for Show {
    type Route = (String, String);

    fn route(&self, method: &Method, uri: &Uri) -> Self::Route {
        (method.as_str().to_ascii_lowercase(), uri.path().to_owned())
    }

    fn attributes(&self, (verb, path): &Self::Route) -> Attributes {
        match path.strip_prefix("/metric/") {
            Some(metric) => Attributes::Resource(Box::new(ResourceAttributes {
                verb: "list".to_owned(),
                resource: metric.to_owned(),
                ..ResourceAttributes::default()
            })),
            None => Attributes::NonResource { path: path.clone(), verb: verb.clone() },
        }
    }

    fn always_allowed(&self, (_, path): &Self::Route) -> bool {
        path == "/healthz"
    }

    fn answer(&self, (_, path): Self::Route, parts: &http::request::Parts) -> Answer {
        let mut names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let shown = Response::new(Full::from(names.join(" ")));
        match path.as_str() {
            "/panic" => panic!("the handler's own"),
            "/late-panic" => Either::Right(async { panic!("the handler's own, later") }.boxed()),
            "/never" => Either::Right(std::future::pending().boxed()),
            "/wait" => {
                let go = Arc::clone(&self.go);
                self.waiting.fetch_add(1, Ordering::SeqCst);
                Either::Right(
                    async move {
                        go.acquire().await.unwrap().forget();
                        shown
                    }
                    .boxed(),
                )
            }
            _ => Either::Left(shown),
        }
    }
}

/// A server with its surroundings.
pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) service: Arc<Show>,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) telemetry: Telemetry,
    pub(super) trust: Arc<super::authn::TrustStore>,
    pub(super) tasks: TaskSet,
    pub(super) proxy_ca: Ca,
    pub(super) user_ca: Ca,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}, &["front-proxy-client"]).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings), allowed: &[&str]) -> Self {
        let (proxy_ca, user_ca) = (Ca::new("proxy CA"), Ca::new("user CA"));
        let trust = trust_data(&proxy_ca, &user_ca, allowed);
        let (tasks, _died) = TaskSet::new(Handle::current());
        let telemetry = Telemetry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let reviewer = Arc::new(Reviewer::default());
        let authentication = Authentication::fixed(
            &trust,
            Arc::clone(&reviewer) as _,
            &tasks,
            &telemetry,
            Arc::clone(&clock),
        );
        let trust = authentication.trust();
        let authorization = Authorization::reviewed(
            Arc::clone(&reviewer) as _,
            &tasks,
            &telemetry,
            Arc::clone(&clock),
        );
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut settings = Settings::new(listen, AuthMode::Delegated, None).unwrap();
        change(&mut settings);
        let service = Arc::new(Show::default());
        let server = Server::start(
            settings,
            authentication,
            authorization,
            Arc::clone(&service),
            &tasks,
            &telemetry,
            clock,
        )
        .await
        .unwrap();
        Self { server, service, reviewer, telemetry, trust, tasks, proxy_ca, user_ca }
    }

    /// A client with the certificate that kube-apiserver's aggregator has.
    pub(super) async fn aggregator(&self) -> Client {
        self.client(Some(&self.proxy_ca.client("front-proxy-client", &[]))).await
    }

    pub(super) async fn client(&self, leaf: Option<&Leaf>) -> Client {
        Client::http2(self.tls(leaf, b"h2").await).await
    }

    pub(super) async fn old_client(&self, leaf: Option<&Leaf>) -> OldClient {
        OldClient::http1(self.tls(leaf, b"http/1.1").await).await
    }

    pub(super) async fn tls(&self, leaf: Option<&Leaf>, alpn: &[u8]) -> TlsStream<TcpStream> {
        connect(self.server.local_addr(), leaf, alpn).await.unwrap()
    }

    /// The value of one metric's line.
    pub(super) fn metric(&self, line: &str) -> Option<f64> {
        let text = self.telemetry.encode();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }
}

/// A TLS connection that trusts anybody: most servers here have made their own certificate.
pub(super) async fn connect(
    address: SocketAddr,
    leaf: Option<&Leaf>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_with(address, leaf, alpn, rustls::DEFAULT_VERSIONS).await
}

/// The same, in certain versions of TLS.
pub(super) async fn connect_with(
    address: SocketAddr,
    leaf: Option<&Leaf>,
    alpn: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(super::tls::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .unwrap();
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        super::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

type Body = Empty<Bytes>;

/// A GET of a path with some headers.
pub(super) fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(format!("https://localhost{path}")).header("host", "localhost");
    for (name, value) in headers {
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request = request.header(*name, value);
    }
    request.body(Empty::new()).unwrap()
}

/// An answer, read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

pub(super) async fn read(response: Response<hyper::body::Incoming>) -> hyper::Result<Reply> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Reply { status: parts.status, headers: parts.headers, body })
}

/// One HTTP/2 connection.
pub(super) struct Client {
    pub(super) sender: http2::SendRequest<Body>,
    /// Resolves when the connection has ended.
    pub(super) ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn http2(tls: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(1 << 20)
            .handshake(TokioIo::new(tls))
            .await
            .unwrap();
        Self { sender, ended: spawn(connection) }
    }

    pub(super) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.try_get(path, headers).await.unwrap()
    }

    pub(super) async fn try_get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Reply> {
        self.sender.ready().await?;
        read(self.sender.send_request(get(path, headers)).await?).await
    }

    /// A request under way.
    pub(super) fn begin(&mut self, path: &str, headers: &[(&str, &str)]) -> Pending {
        let sent = self.sender.send_request(get(path, headers));
        spawn(async move { read(sent.await?).await })
    }
}

pub(super) type Pending = tokio::task::JoinHandle<hyper::Result<Reply>>;

/// One HTTP/1 connection.
pub(super) struct OldClient {
    pub(super) sender: http1::SendRequest<Body>,
    pub(super) ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl OldClient {
    async fn http1(tls: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        Self { sender, ended: spawn(connection) }
    }

    pub(super) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.sender.ready().await.unwrap();
        let mut request = get(path, headers);
        *request.uri_mut() = path.parse().unwrap();
        read(self.sender.send_request(request).await.unwrap()).await.unwrap()
    }
}

/// A client's own task.
#[expect(clippy::disallowed_methods, reason = "the client's side is not part of the process")]
pub(super) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

/// Waits, in small steps of real time, until something holds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about within 5 s");
}
