//! The yardstick: hyper and rustls with a fixed body and nothing else, with the same accept loop
//! and the same number of threads as the server under test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A body of the size of an external metric list with one item.
const BODY: &[u8] = br#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[{"metricName":"metric_00042","metricLabels":{"queue":"jobs"},"timestamp":"2026-01-02T03:04:05Z","value":"42"}]}
"#;

/// Serves until the process is killed. Prints the address it listens on.
pub(crate) async fn serve(tls: rustls::ServerConfig) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bind");
    println!("listening {}", listener.local_addr().expect("a bound socket has an address"));
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    loop {
        let (tcp, _) = listener.accept().await.expect("accept");
        tcp.set_nodelay(true).expect("TCP_NODELAY can be set");
        let acceptor = acceptor.clone();
        tokio::task::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
            let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
                response.headers_mut().insert(
                    http::header::CONTENT_TYPE,
                    http::HeaderValue::from_static("application/json"),
                );
                Ok::<_, Infallible>(response)
            });
            let _ = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}
