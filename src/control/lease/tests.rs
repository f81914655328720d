//! Two that want one lease, on a paused clock, against an API server of a few lines.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// A lease and how it is answered for.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    writes: u64,
    /// Answers with this instead.
    fails: Option<u16>,
    hangs: bool,
}

type Shared = Arc<Mutex<Server>>;

fn refusal(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the test", "reason": "x", "code": code});
    (code, status)
}

impl Server {
    fn answer(&mut self, method: &Method, mut body: Value) -> (u16, Value) {
        if let Some(code) = self.fails {
            return refusal(code);
        }
        match (method, &self.lease) {
            (&Method::GET, Some(lease)) => (200, lease.clone()),
            (&Method::POST, None) => {
                self.version += 1;
                body["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(body.clone());
                (201, body)
            }
            (&Method::PUT, Some(lease)) => {
                if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return refusal(409);
                }
                self.version += 1;
                self.writes += 1;
                body["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(body.clone());
                (200, body)
            }
            (&Method::POST, Some(_)) => refusal(409),
            _ => refusal(404),
        }
    }

    fn holder(&self) -> String {
        let holder = self.lease.as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
        holder.and_then(|holder| holder.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

fn client(server: &Shared) -> Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if server.lock().unwrap().hangs {
                std::future::pending::<()>().await;
            }
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, answer) = server.lock().unwrap().answer(&parts.method, body);
            let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            Ok::<_, std::io::Error>(response)
        }
    });
    Client::new(service, "tidepole")
}

fn lease(server: &Shared, identity: &str) -> Lease {
    Lease::new(client(server), "tidepole", "tidepole", identity, &Telemetry::new())
}

/// Holds it for a time.
async fn holding(lease: &mut Lease, time: Duration) {
    let _ = timeout(time, lease.hold()).await;
}

fn held(lease: &Lease) -> bool {
    *lease.held().borrow()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_holds_it_and_the_other_takes_over_when_it_is_silent() {
    let server = Shared::default();
    let (mut a, mut b) = (lease(&server, "a"), lease(&server, "b"));
    holding(&mut a, Duration::from_secs(1)).await;
    assert!(held(&a));
    let both = async { tokio::join!(a.hold(), b.hold()) };
    let _ = timeout(Duration::from_mins(5), both).await;
    assert!(held(&a) && !held(&b));
    assert!((140..=160).contains(&server.lock().unwrap().writes), "a renewal every two seconds");
    // a's process is killed.
    let silent = Instant::now();
    let mut changes = b.held();
    tokio::select! {
        () = b.hold() => {}
        _ = changes.wait_for(|held| *held) => {}
    }
    let took = silent.elapsed();
    assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(15), "{took:?}");
    assert!(server.lock().unwrap().holder().starts_with("b_"));
    assert_eq!(server.lock().unwrap().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
    // It is not dead after all: it finds out at its next renewal.
    holding(&mut a, Duration::from_secs(1)).await;
    assert!(!held(&a));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let server = Shared::default();
    let (mut a, mut b) = (lease(&server, "a"), lease(&server, "b"));
    holding(&mut a, Duration::from_secs(5)).await;
    holding(&mut b, Duration::from_secs(5)).await;
    a.release().await;
    assert!(!held(&a));
    assert_eq!(server.lock().unwrap().holder(), "");
    holding(&mut b, Duration::from_secs(3)).await;
    assert!(held(&b));
    // Who does not hold it gives nothing back.
    a.release().await;
    assert!(server.lock().unwrap().holder().starts_with("b_"));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_may_start() {
    for fault in [Some(500), Some(403), None] {
        let server = Shared::default();
        let mut a = lease(&server, "a");
        holding(&mut a, Duration::from_millis(2500)).await;
        {
            let mut server = server.lock().unwrap();
            (server.fails, server.hangs) = (fault, fault.is_none());
        }
        let began = Instant::now();
        let mut changes = a.held();
        tokio::select! {
            () = a.hold() => {}
            _ = changes.wait_for(|held| !*held) => {}
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(4) && took <= RENEW_DEADLINE, "{fault:?}: {took:?}");
        {
            let mut server = server.lock().unwrap();
            (server.fails, server.hangs) = (None, false);
        }
        holding(&mut a, Duration::from_secs(30)).await;
        assert!(held(&a), "{fault:?}: it comes back");
    }
}

/// Times in the lease are of another clock, hours ahead or behind: they do not matter.
#[tokio::test(start_paused = true)]
async fn other_clocks_do_not_matter() {
    for renewed in ["2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"] {
        let server = Shared::default();
        server.lock().unwrap().lease = Some(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "tidepole", "resourceVersion": "0"},
            "spec": {"holderIdentity": "z", "leaseDurationSeconds": 10, "renewTime": renewed},
        }));
        let mut a = lease(&server, "a");
        holding(&mut a, Duration::from_secs(9)).await;
        assert!(!held(&a), "{renewed}");
        holding(&mut a, Duration::from_secs(3)).await;
        assert!(held(&a), "{renewed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_again_and_one_that_was_taken_is_left() {
    let server = Shared::default();
    let mut a = lease(&server, "a");
    holding(&mut a, Duration::from_secs(1)).await;
    server.lock().unwrap().lease = None;
    holding(&mut a, Duration::from_secs(3)).await;
    assert!(held(&a));
    assert!(server.lock().unwrap().holder().starts_with("a_"));
    {
        let mut server = server.lock().unwrap();
        server.version += 1;
        let version = server.version.to_string();
        let lease = server.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = "thief".into();
        lease["metadata"]["resourceVersion"] = version.into();
    }
    holding(&mut a, Duration::from_secs(3)).await;
    assert!(!held(&a));
}
