//! HTTP as hostile, sloppy and proper clients speak it.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::support::client::{Connection, Protocol};
use crate::support::server::{Setup, Tidepole, metric, path_of, status, values};
use crate::support::upstream::Prometheus;

const READ: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/steady";

async fn server() -> Tidepole {
    Setup::new("  - { name: sim, simulated: {} }")
        .with("m.yaml", &metric("steady", "simulated: { constant: 1 }"))
        .start()
        .await
}

async fn both(server: &Tidepole) -> [Connection; 2] {
    [
        server.connect(Protocol::Http1).await.expect("HTTP/1.1 is spoken"),
        server.connect(Protocol::Http2).await.expect("HTTP/2 is spoken"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_is_a_status_and_the_connection_survives() {
    let server = server().await;
    let long = format!("{READ}/{}", "x".repeat(9000));
    let cases: &[(Method, &str, &str, u16, &str, &str)] = &[
        (Method::POST, READ, "", 405, "MethodNotAllowed", ""),
        (Method::PUT, READ, "", 405, "MethodNotAllowed", ""),
        (Method::DELETE, READ, "", 405, "MethodNotAllowed", ""),
        (Method::GET, &format!("{READ}?watch=true"), "", 405, "MethodNotAllowed", ""),
        (
            Method::GET,
            READ,
            "application/vnd.kubernetes.protobuf",
            406,
            "NotAcceptable",
            "application/json",
        ),
        (
            Method::GET,
            READ,
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            406,
            "NotAcceptable",
            "application/json",
        ),
        (
            Method::GET,
            &format!("{READ}?labelSelector=a%20b"),
            "",
            400,
            "BadRequest",
            "unable to parse requirement: found 'b'",
        ),
        (
            Method::GET,
            &format!("{READ}?labelSelector=a=%zz"),
            "",
            400,
            "BadRequest",
            "percent-encoding",
        ),
        (Method::GET, &format!("{READ}%zz"), "", 400, "BadRequest", "percent-encoding"),
        (Method::GET, &format!("{READ}%ff"), "", 400, "BadRequest", "percent-encoding"),
        (Method::GET, &format!("{READ}?timeout=soon"), "", 400, "BadRequest", "invalid timeout"),
        (Method::GET, &long, "", 413, "RequestEntityTooLarge", "8192"),
        (
            Method::GET,
            "/apis/external.metrics.k8s.io/v1beta2/namespaces/default/steady",
            "",
            404,
            "NotFound",
            "",
        ),
        (
            Method::GET,
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/nothing",
            "",
            404,
            "NotFound",
            "nothing in default",
        ),
    ];
    for mut connection in both(&server).await {
        for (method, path, accept, code, reason, says) in cases {
            let accept = [("accept", *accept)];
            let headers = if accept[0].1.is_empty() { &accept[..0] } else { &accept[..] };
            let shown: String = path.chars().take(100).collect();
            let answer = connection
                .send(method.clone(), path, headers, Bytes::from_static(b"{}"))
                .await
                .unwrap_or_else(|error| panic!("{method} {shown}: {error}"));
            assert_eq!(answer.status, *code, "{method} {shown}: {}", answer.text());
            let message = status(&answer, *code, reason);
            assert!(message.contains(says), "{shown}: {message}");
        }
        let answer = connection.get(READ, &[]).await.expect("the connection survived");
        assert_eq!(values(&answer), ["1"]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sloppy_requests_are_understood() {
    let server = server().await;
    let cases = [
        (format!("{READ}/"), 200),
        (format!("/{READ}"), 404),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/%64efault/stead%79".to_owned(), 200),
        // Of two the first counts.
        (format!("{READ}?labelSelector=&labelSelector=nothing%3Dhere"), 200),
        (format!("{READ}?labelSelector=nothing%3Dhere&labelSelector="), 404),
        (format!("{READ}?unknown=1&limit=500&timeout=5s&timeout=soon&resourceVersion=0"), 200),
        ("/".to_owned(), 200),
        ("/apis/".to_owned(), 200),
        ("/apis/external.metrics.k8s.io/".to_owned(), 200),
        ("/apis/external.metrics.k8s.io/v1beta1/".to_owned(), 200),
        ("/nothing/here".to_owned(), 404),
        ("/apis/other.k8s.io/v1".to_owned(), 404),
    ];
    for mut connection in both(&server).await {
        for (path, code) in &cases {
            // Slashes in front are dropped, as in Go.
            let code = if path.starts_with("//") { 200 } else { *code };
            let answer = connection.get(path, &[]).await.unwrap();
            assert_eq!(answer.status, code, "{path}: {}", answer.text());
            assert_eq!(answer.header("location"), "", "{path} is redirected");
        }
        let plain = connection.get(READ, &[]).await.unwrap();
        let pretty = connection.get(&format!("{READ}?pretty=true"), &[]).await.unwrap();
        assert!(!plain.text().trim_end().contains('\n') && pretty.text().contains("\n  \"items\""));
        assert_eq!(values(&plain), values(&pretty));
        let curl = connection.get(READ, &[("user-agent", "curl/8.5.0")]).await.unwrap();
        assert!(curl.text().contains("\n  \"items\""), "{}", curl.text());
        let head = connection.send(Method::HEAD, "/readyz", &[], Bytes::new()).await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_are_compressed_when_asked() {
    let upstream = Prometheus::start();
    let labels: Vec<String> = (0..2000).map(|i| format!(r#""queue":"queue-number-{i}""#)).collect();
    let series: Vec<(&str, &str)> = labels.iter().map(|labels| (labels.as_str(), "1")).collect();
    upstream.vector("many", &series);
    let url = upstream.server().url();
    let server = Setup::new(&format!(
        "  - {{ name: main, prometheus: {{ url: \"{url}\", maxSeries: 5000 }} }}"
    ))
    .defaults("{ refresh: 1s, firstReadTimeout: 15s }")
    .with("m.yaml", &metric("many", "prometheus: { query: many }"))
    .start()
    .await;
    for mut connection in both(&server).await {
        let path = path_of("default", "many");
        let plain = connection.get(&path, &[]).await.unwrap();
        assert_eq!((plain.status.as_u16(), plain.header("content-encoding")), (200, ""));
        assert_eq!(values(&plain).len(), 2000);
        let zipped = connection.get(&path, &[("accept-encoding", "gzip")]).await.unwrap();
        assert_eq!(zipped.header("content-encoding"), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(2000));
        assert!(zipped.body.len() * 5 < plain.body.len());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_megabyte_of_headers_is_refused_and_hurts_nobody() {
    let server = server().await;
    let mut other = server.reader().await;
    let big = "x".repeat(16 * 1024);
    let many: Vec<(&str, &str)> = (0..64).map(|_| ("x-big", big.as_str())).collect();
    for mut connection in both(&server).await {
        // Either an answer that says so, or the end of the connection.
        if let Ok(answer) = connection.get(READ, &many).await {
            assert_eq!(answer.status, 431, "{}", answer.text());
        }
        assert_eq!(values(&other.read("steady").await), ["1"]);
    }
    for mut connection in both(&server).await {
        assert_eq!(values(&connection.get(READ, &[("x-big", &big)]).await.unwrap()), ["1"]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_instead_of_tls_or_http_hurts_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server().await;
    let address = server.running.api_address();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 4096]] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A TLS alert, a reset or nothing: what counts is that it ends.
        let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
        let _ = read.await.expect("the server ends such a connection");
    }
    assert_eq!(values(&server.reader().await.read("steady").await), ["1"]);
    server.stop().await;
}
