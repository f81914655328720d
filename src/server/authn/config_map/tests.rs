use std::sync::Mutex;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::server::testing::{Ca, eventually, trust_data};
use crate::telemetry::Telemetry;

/// What the API server answers to a list.
type Listing = Arc<Mutex<(u16, Value)>>;

fn listing(items: &[&BTreeMap<String, String>]) -> (u16, Value) {
    let metadata = json!({"name": NAME, "namespace": NAMESPACE, "resourceVersion": "1"});
    let items: Vec<_> =
        items.iter().map(|data| json!({"metadata": metadata, "data": data})).collect();
    let list = json!({
        "kind": "ConfigMapList", "apiVersion": "v1",
        "metadata": {"resourceVersion": "1"}, "items": items,
    });
    (200, list)
}

fn forbidden() -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "Forbidden", "code": 403,
    });
    (403, status)
}

/// A cluster whose lists are answered from a value and whose watches end at once, so that the
/// watcher keeps coming back.
fn cluster(listing: &Listing) -> Client {
    let listing = Arc::clone(listing);
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        assert_eq!(request.uri().path(), "/api/v1/namespaces/kube-system/configmaps");
        assert!(query.contains(&format!("fieldSelector=metadata.name%3D{NAME}")), "{query}");
        let (code, body) = if query.contains("watch=") {
            let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
            (200, json!({"type": "ERROR", "object": gone}))
        } else {
            listing.lock().unwrap().clone()
        };
        async move {
            let body = Body::from(format!("{body}\n").into_bytes());
            Response::builder().status(code).body(body)
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn the_trust_follows_the_config_map() {
    let (tasks, mut died) = TaskSet::new(tokio::runtime::Handle::current());
    let telemetry = Telemetry::new();
    let metrics = Arc::new(AuthnMetrics::register(&telemetry));
    let trust = Arc::new(TrustStore::new(Arc::clone(&metrics)));
    let state = |state: &str| {
        let line = format!("tidepole_server_trust_state{{state=\"{state}\"}} 1");
        telemetry.encode().lines().any(|l| l == line)
    };
    assert!(state("pending"));
    let (one, other) = (Ca::new("one"), Ca::new("other"));
    let answer = Listing::new(Mutex::new(forbidden()));

    // A refusal is an answer: the start does not wait for more.
    let watch = TrustWatch::new(Arc::clone(&trust), metrics);
    let settled = watch.start(cluster(&answer), &tasks).await;
    assert!(*settled.borrow());
    assert!(state("forbidden"));
    assert_eq!(trust.current().generation, 0);

    *answer.lock().unwrap() = listing(&[]);
    eventually("absence is noticed", || state("absent")).await;

    let good = trust_data(&one, &other, &[]);
    *answer.lock().unwrap() = listing(&[&good]);
    eventually("the data is taken over", || state("loaded")).await;
    assert_eq!(trust.current().generation, 1);

    let mut bad = good.clone();
    bad.insert("client-ca-file".to_owned(), "rubbish".to_owned());
    *answer.lock().unwrap() = listing(&[&bad]);
    eventually("rubbish is noticed", || state("malformed")).await;
    // Whatever happens, what was good stays, and the same again is no change.
    *answer.lock().unwrap() = listing(&[]);
    eventually("the disappearance is noticed", || state("absent")).await;
    assert_eq!(trust.current().generation, 1);
    assert!(trust.current().front_proxy.is_some());
    *answer.lock().unwrap() = listing(&[&trust_data(&other, &one, &[])]);
    eventually("new data is taken over", || state("loaded")).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(trust.current().generation, 2);
    assert!(died.try_recv().is_err());
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_start_does_not_wait_for_ever() {
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    let silent = tower::service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
    });
    let metrics = Arc::new(AuthnMetrics::register(&Telemetry::new()));
    let trust = Arc::new(TrustStore::new(Arc::clone(&metrics)));
    let started = tokio::time::Instant::now();
    let client = Client::new(silent, "default");
    let settled = TrustWatch::new(trust, metrics).start(client, &tasks).await;
    assert!(!*settled.borrow());
    assert_eq!(started.elapsed(), FIRST_READING);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_be_reached_has_not_answered() {
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    let metrics = Arc::new(AuthnMetrics::register(&Telemetry::new()));
    let trust = Arc::new(TrustStore::new(Arc::clone(&metrics)));
    let down = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "starting", "reason": "ServiceUnavailable", "code": 503});
    let answer = Listing::new(Mutex::new((503, down)));
    let settled = TrustWatch::new(trust, metrics).start(cluster(&answer), &tasks).await;
    assert!(!*settled.borrow(), "readiness must not take a failed reading for an answer");
    *answer.lock().unwrap() = listing(&[&trust_data(&Ca::new("one"), &Ca::new("other"), &[])]);
    eventually("the data is taken over", || *settled.borrow()).await;
    tasks.stop().await;
}
