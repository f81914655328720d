//! An API server made of answers.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What an API server was sent: method and path, and the body.
pub(in crate::server) type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A client whose API server answers from a list and remembers what it was sent.
pub(in crate::server) fn cluster(answers: Vec<(u16, Value)>) -> (Client, Seen) {
    let seen = Seen::default();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let log = Arc::clone(&seen);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
        async move {
            let path = format!("{} {}", request.method(), request.uri().path());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            log.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
            let (code, answer) = answers.lock().unwrap().next().expect("no more answers");
            let answer = Body::from(answer.to_string().into_bytes());
            Response::builder().status(code).body(answer)
        }
    });
    (Client::new(service, "default"), seen)
}

/// A `Status` that says no.
pub(in crate::server) fn failure(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "", "code": code,
    })
}
