use serde_json::{Value, json};

use super::*;
use crate::model;
use crate::server::testing::cluster::{cluster, failure};

fn status(status: &Value) -> Value {
    json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": {}, "status": status,
    })
}

fn read() -> Attributes {
    let requirement = |key: &str, operator, values: &[&str]| Requirement {
        key: key.to_owned(),
        operator,
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    Attributes::Resource(Box::new(model::ResourceAttributes {
        verb: "list".to_owned(),
        group: "external.metrics.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        resource: "queue_depth".to_owned(),
        namespace: "ns".to_owned(),
        label_selector: model::Selector::new(vec![
            requirement("a", Operator::In, &["b", "c"]),
            requirement("d", Operator::DoesNotExist, &[]),
            requirement("e", Operator::GreaterThan, &["5"]),
        ]),
        ..model::ResourceAttributes::default()
    }))
}

#[tokio::test(start_paused = true)]
async fn a_review_says_who_wants_what() {
    let answers = vec![
        (503, failure(503, "starting")),
        (201, status(&json!({"allowed": true, "reason": "RBAC"}))),
        (201, status(&json!({"allowed": false}))),
    ];
    let (client, seen) = cluster(answers);
    let reviewer = KubeAccessReviewer::new(client);
    let identity = Identity {
        user: "jörg".to_owned(),
        uid: "7".to_owned(),
        groups: vec!["g".to_owned()],
        extra: [("k/x".to_owned(), vec!["v".to_owned()])].into(),
    };
    let verdict = reviewer.review(&identity, &read()).await.unwrap();
    assert_eq!(verdict, AccessVerdict { allowed: true, reason: "RBAC".to_owned() });
    let path = Attributes::NonResource { path: "/metrics".into(), verb: "get".into() };
    let anonymous = Identity { user: "u".to_owned(), ..Identity::default() };
    assert!(!reviewer.review(&anonymous, &path).await.unwrap().allowed);
    let seen = seen.lock().unwrap();
    // The first answer was one that may pass, so the question was asked again.
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1].0, "POST /apis/authorization.k8s.io/v1/subjectaccessreviews");
    assert_eq!(
        seen[1].1["spec"],
        json!({
            "user": "jörg", "uid": "7", "groups": ["g"], "extra": {"k/x": ["v"]},
            "resourceAttributes": {
                "verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1",
                "resource": "queue_depth", "namespace": "ns",
                "labelSelector": {"requirements": [
                    {"key": "a", "operator": "In", "values": ["b", "c"]},
                    {"key": "d", "operator": "DoesNotExist"},
                ]},
            },
        })
    );
    assert_eq!(
        seen[2].1["spec"],
        json!({"user": "u", "nonResourceAttributes": {"path": "/metrics", "verb": "get"}})
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_clear_answer_is_an_error() {
    let both = status(&json!({"allowed": true, "denied": true}));
    let down = || (500, failure(500, "etcd is gone"));
    let answers = vec![(201, both), (403, failure(403, "not you")), down(), down(), down()];
    let (client, _) = cluster(answers);
    let reviewer = KubeAccessReviewer::new(client);
    for expected in
        ["the API server both allowed and denied the request", "not you", "etcd is gone"]
    {
        let error = reviewer.review(&Identity::anonymous(), &read()).await.unwrap_err();
        assert_eq!(error, ReviewError::Failed(expected.into()));
    }
}
