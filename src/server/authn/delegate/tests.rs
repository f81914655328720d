use serde_json::{Value, json};

use super::*;
use crate::server::testing::cluster::{cluster, failure};

fn status(status: &Value) -> (u16, Value) {
    let review = json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {}, "spec": {}, "status": status,
    });
    (201, review)
}

#[tokio::test(start_paused = true)]
async fn a_token_review_names_the_user_or_nobody() {
    let user = json!({
        "username": "system:serviceaccount:monitoring:prometheus", "uid": "7",
        "groups": ["system:serviceaccounts"], "extra": {"k": ["v"]},
    });
    let answers = vec![
        (429, failure(429, "slow down")),
        status(&json!({"authenticated": true, "user": user})),
        status(&json!({"authenticated": false, "error": "expired"})),
        (403, failure(403, "tokenreviews is forbidden")),
    ];
    let (client, seen) = cluster(answers);
    let reviewer = KubeTokenReviewer::new(client);
    let known = reviewer.review("secret".to_owned()).await.unwrap();
    let expected = Identity {
        user: "system:serviceaccount:monitoring:prometheus".to_owned(),
        uid: "7".to_owned(),
        groups: vec!["system:serviceaccounts".to_owned()],
        extra: [("k".to_owned(), vec!["v".to_owned()])].into(),
    };
    assert_eq!(known, TokenVerdict::Authenticated(expected));
    assert_eq!(reviewer.review("x".to_owned()).await.unwrap(), TokenVerdict::Rejected);
    let error = reviewer.review("x".to_owned()).await.unwrap_err();
    assert_eq!(error, ReviewError::Failed("tokenreviews is forbidden".into()));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, "POST /apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(seen[0].1["spec"], json!({"token": "secret"}));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_out_of_reach_is_named_by_the_innermost_cause() {
    let refused = || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
    let service = tower::service_fn(move |_: http::Request<kube::client::Body>| async move {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other(refused()))
    });
    let reviewer = KubeTokenReviewer::new(Client::new(service, "default"));
    let started = tokio::time::Instant::now();
    let error = reviewer.review("secret".to_owned()).await.unwrap_err();
    assert_eq!(error, ReviewError::Failed("refused".into()));
    assert_eq!(started.elapsed(), PAUSES.iter().sum::<Duration>());
}
