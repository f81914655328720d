//! The test client itself: TLS with and without an identity, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use tidepole::task::TaskSet;

use crate::support::client::{Connection, Failure, Protocol};
use crate::support::tls::{Authority, install_provider};

/// A server's TLS settings that want a client certificate of the authority.
fn server_config(authority: &Authority) -> Result<ServerConfig, Failure> {
    install_provider();
    let pair = authority.server(&["localhost"]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
    let mut config =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Starts a server that answers protocol and path.
async fn echo(authority: &Authority, tasks: &TaskSet) -> Result<SocketAddr, Failure> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(authority)?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let jobs = tasks.clone();
    tasks.job("echo", async move {
        while let Ok((stream, _)) = listener.accept().await {
            jobs.job("echo connection", answer(acceptor.clone(), stream));
        }
    });
    Ok(address)
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    // A client that is refused here sees it on its own side.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let text = format!("{:?} {}", request.version(), request.uri().path());
        Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from(text)))
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::test]
async fn both_protocols_and_an_identity() {
    let (tasks, _died) = TaskSet::new(Handle::current());
    let authority = Authority::new("test-ca");
    let address = echo(&authority, &tasks).await.unwrap();
    let identity = authority.client("someone", &["group-a", "group-b"]);
    let config = authority.client_config(Some(&identity));
    for (protocol, text) in [(Protocol::Http1, "HTTP/1.1 /x"), (Protocol::Http2, "HTTP/2.0 /x")] {
        let mut connection =
            Connection::tls(address, "localhost", &config, protocol).await.unwrap();
        for _ in 0..2 {
            assert_eq!(connection.get("/x", &[("a", "b")]).await.unwrap().text(), text);
        }
    }
}

#[tokio::test]
async fn strangers_fail_on_either_side() {
    let (tasks, _died) = TaskSet::new(Handle::current());
    let authority = Authority::new("test-ca");
    let address = echo(&authority, &tasks).await.unwrap();
    // TLS 1.3 tells a client without a certificate after the handshake.
    let anonymous = authority.client_config(None);
    let refused = async {
        let mut connection =
            Connection::tls(address, "localhost", &anonymous, Protocol::Http1).await?;
        connection.get("/x", &[]).await
    };
    let error = refused.await.unwrap_err().to_string();
    assert!(error.contains("connection") || error.contains("certificate"), "{error}");
    let other = Authority::new("other-ca").client_config(None);
    let Err(error) = Connection::tls(address, "localhost", &other, Protocol::Http1).await else {
        panic!("a server of an unknown authority was trusted");
    };
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}
