//! As much of an API server as delegated authentication and authorization need: the trust
//! `ConfigMap` (list and an idle watch) and access reviews that allow everything. Plain HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::json;
use tokio::net::TcpListener;

/// Starts answering; gives the base address.
pub(crate) async fn start(front_proxy_ca: String) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bind");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::task::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("accept");
            let ca = front_proxy_ca.clone();
            tokio::task::spawn(async move {
                let service = service_fn(move |request| {
                    let ca = ca.clone();
                    async move { Ok::<_, Infallible>(answer(request, &ca).await) }
                });
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tcp), service)
                    .await;
            });
        }
    });
    address
}

async fn answer(request: Request<Incoming>, ca: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if query.contains("watch=true") || query.contains("watch=1") {
        // A watch on which nothing ever happens.
        let silence =
            StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        return json_response(BodyExt::boxed(silence));
    }
    if path.ends_with("/subjectaccessreviews") {
        let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
        let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        review["status"] = json!({"allowed": true});
        return whole(&review);
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "extension-apiserver-authentication", "namespace": "kube-system",
            "resourceVersion": "1", "uid": "1",
        },
        "data": {
            "requestheader-client-ca-file": ca,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        },
    });
    if path.ends_with("/configmaps") {
        let list = json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": "1"}, "items": [map],
        });
        return whole(&list);
    }
    if path.ends_with("/configmaps/extension-apiserver-authentication") {
        return whole(&map);
    }
    let mut missing = whole(&json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound",
        "message": "not here", "code": 404,
    }));
    *missing.status_mut() = http::StatusCode::NOT_FOUND;
    missing
}

fn whole(value: &serde_json::Value) -> Response<BoxBody<Bytes, Infallible>> {
    json_response(BodyExt::boxed(Full::new(Bytes::from(value.to_string()))))
}

fn json_response(body: BoxBody<Bytes, Infallible>) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(body);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
