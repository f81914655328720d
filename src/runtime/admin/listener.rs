//! Connections of the admin listener: bounded in number, in what they may send and in how long
//! they may take, because nobody is authenticated here.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::runtime::admin::Admin;
use crate::status;
use crate::task::TaskSet;

/// Connections at once. Probes, a handful of scrapers and a few people need about ten.
pub(super) const MAX_CONNECTIONS: usize = 128;
/// Time for a complete request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one answer to be made; kubelet gives a probe 1 s by default, scrapers 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this time, between two requests. Together with [`DRAIN`] it
/// bounds how long a client that does not read its answer can hold a connection.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(1);
/// Time that a request under way gets when its connection is to be closed.
const DRAIN: Duration = Duration::from_secs(5);
/// Largest request head. A probe's is 200 bytes, a browser's 2 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most headers in a request; a browser sends about 20.
const MAX_HEADERS: usize = 64;
/// Pause after a failed accept, which is almost always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until the task set is asked to stop; then requests under way are answered and every
/// connection is closed. Runs on the task set's runtime: hand in the one that may be kept busy,
/// not the one that serves metric reads.
pub fn serve(listener: TcpListener, admin: Admin, tasks: &TaskSet) {
    let jobs = tasks.clone();
    tasks.service("admin listener", async move { accept(listener, admin, jobs).await });
}

async fn accept(listener: TcpListener, admin: Admin, tasks: TaskSet) {
    let stop = tasks.shutdown_token().clone();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A connection too many is closed at once: the client sees it, the process does not grow.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::debug!(limit = MAX_CONNECTIONS, "admin connection refused: too many");
            continue;
        };
        tasks.job("admin connection", connection(stream, admin.clone(), stop.clone(), slot));
    }
}

async fn connection(
    stream: TcpStream,
    admin: Admin,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    let router = admin.router();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer = router.oneshot(request.map(axum::body::Body::new));
            Ok::<Response, std::convert::Infallible>(bounded(answer).await)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(MAX_CONNECTION_AGE) => {}
            }
        } => {
            served.as_mut().graceful_shutdown();
            match timeout(DRAIN, served).await {
                Ok(outcome) => outcome,
                // The client does not read; dropping the connection closes it.
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

/// The answer, or a 503 when it takes too long.
async fn bounded(
    answer: impl Future<Output = Result<Response, std::convert::Infallible>>,
) -> Response {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(response)) => response,
        Err(_) => (status::BUSY, "no answer in time\n").into_response(),
    }
}
