use futures::FutureExt;
use futures::future::join_all;

use super::*;
use crate::model::{ResourceAttributes, SystemClock};
use crate::server::testing::Reviewer;

struct Desk {
    authz: Authorization,
    reviewer: Arc<Reviewer>,
    telemetry: Telemetry,
}

impl Desk {
    fn new() -> Self {
        let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
        let (telemetry, reviewer) = (Telemetry::new(), Arc::new(Reviewer::default()));
        let clock = Arc::new(SystemClock::new());
        let authz = Authorization::reviewed(Arc::clone(&reviewer) as _, &tasks, &telemetry, clock);
        Self { authz, reviewer, telemetry }
    }

    async fn ask(&self, caller: &Arc<Caller>, attributes: &Attributes) -> Result<(), ApiError> {
        match self.authz.decide(caller, attributes.clone()) {
            Decision::Now(decision) => decision,
            Decision::Wait(decision) => decision.await,
        }
    }

    /// Whether the answer was there already.
    fn ready(&self, caller: &Arc<Caller>, attributes: &Attributes) -> bool {
        matches!(self.authz.decide(caller, attributes.clone()), Decision::Now(Ok(())))
    }

    fn has(&self, line: &str) {
        let text = self.telemetry.encode();
        assert!(text.lines().any(|l| l == format!("tidepole_server_{line}")), "{line} in {text}");
    }
}

fn caller(user: &str) -> Arc<Caller> {
    Caller::new(Identity { user: user.to_owned(), ..Identity::default() })
}

fn metric(name: &str) -> Attributes {
    Attributes::Resource(Box::new(ResourceAttributes {
        verb: "list".to_owned(),
        resource: name.to_owned(),
        ..ResourceAttributes::default()
    }))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_allow_in_use_is_refreshed_in_the_background_and_ends_when_revoked() {
    let desk = Desk::new();
    let (hpa, queue) = (caller("hpa"), metric("queue"));
    *desk.reviewer.takes.lock().unwrap() = SECOND;
    // Single flight on the first read.
    let all = join_all((0..50).map(|_| desk.ask(&hpa, &queue))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(desk.reviewer.asked(), 1);
    // An HPA reads every 15 s and never waits again.
    for _ in 0..40 {
        tokio::time::sleep(SECOND * 15).await;
        assert!(desk.ready(&hpa, &queue));
    }
    let asked = desk.reviewer.asked();
    assert!((12..=16).contains(&asked), "{asked} reviews in 10 minutes");
    // Revoked: at most a minute after the last allow.
    desk.reviewer.answer(Ok(false));
    let mut waited = Duration::ZERO;
    while desk.ask(&hpa, &queue).await.is_ok() {
        tokio::time::sleep(SECOND).await;
        waited += SECOND;
    }
    assert!(waited <= SECOND * 61, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_keeps_the_allow_for_its_minute_and_no_longer() {
    let desk = Desk::new();
    let (hpa, queue) = (caller("hpa"), metric("queue"));
    desk.ask(&hpa, &queue).await.unwrap();
    desk.reviewer.answer(Err("connection refused"));
    for _ in 0..59 {
        tokio::time::sleep(SECOND).await;
        assert!(desk.ready(&hpa, &queue));
    }
    // From 45 s on about once a second.
    let asked = desk.reviewer.asked();
    assert!((8..=16).contains(&asked), "{asked}");
    tokio::time::sleep(SECOND).await;
    let error = desk.ask(&hpa, &queue).await.unwrap_err();
    assert_eq!(
        error,
        ApiError::AuthorizationUnavailable(
            "access could not be reviewed: connection refused".to_owned()
        )
    );
    // Failures are not remembered.
    desk.reviewer.answer(Ok(true));
    desk.ask(&hpa, &queue).await.unwrap();
    desk.has(r#"authorizations_total{by="review",outcome="error"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_denial_lasts_ten_seconds() {
    let desk = Desk::new();
    let (jane, queue) = (caller("jane"), metric("queue"));
    desk.reviewer.answer(Ok(false));
    for _ in 0..5 {
        let error = desk.ask(&jane, &queue).await.unwrap_err();
        assert!(matches!(error, ApiError::ForbiddenResource { .. }), "{error:?}");
    }
    assert_eq!(desk.reviewer.asked(), 1);
    desk.reviewer.answer(Ok(true));
    tokio::time::sleep(SECOND * 9).await;
    let error = desk.ask(&jane, &queue).await.unwrap_err();
    assert!(matches!(error, ApiError::ForbiddenResource { .. }), "{error:?}");
    tokio::time::sleep(SECOND).await;
    desk.ask(&jane, &queue).await.unwrap();
    assert_eq!(desk.reviewer.asked(), 2);
    desk.has(r#"access_review_cache_events_total{event="hit"} 5"#);
    desk.has(r#"access_review_cache_events_total{event="miss"} 2"#);
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_apart_by_everything_that_was_asked() {
    let desk = Desk::new();
    let mut identity = Identity { user: "jane".to_owned(), ..Identity::default() };
    let plain = Caller::new(identity.clone());
    identity.extra.insert("scopes".to_owned(), vec!["a".to_owned()]);
    let scoped = Caller::new(identity);
    let mut attributes = vec![metric("a"), metric("b")];
    attributes.push(Attributes::NonResource { path: "/a".into(), verb: "get".into() });
    for caller in [&plain, &scoped] {
        for attributes in &attributes {
            desk.ask(caller, attributes).await.unwrap();
            desk.ask(caller, attributes).await.unwrap();
        }
    }
    assert_eq!(desk.reviewer.asked(), 6);
    // The same identity from another connection is the same caller.
    let again = Caller::new(plain.identity.clone());
    assert!(desk.ready(&again, &attributes[0]));
    // What is very long is not remembered.
    let long = metric(&"m".repeat(MAX_ATTRIBUTE_BYTES));
    desk.ask(&plain, &long).await.unwrap();
    desk.ask(&plain, &long).await.unwrap();
    assert_eq!(desk.reviewer.asked(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_collision_of_hashes_decides_nothing() {
    let desk = Desk::new();
    let reviews = desk.authz.0.as_ref().unwrap();
    let (jane, joe, queue) = (caller("jane"), caller("joe"), metric("queue"));
    desk.ask(&jane, &queue).await.unwrap();
    // Jane's allow under Joe's hash.
    let kept = reviews.question(&jane, queue.clone());
    reviews.cache.insert(HASHER.hash_one((joe.hash, &queue)), kept);
    desk.reviewer.answer(Ok(false));
    let error = desk.ask(&joe, &queue).await.unwrap_err();
    assert!(matches!(error, ApiError::ForbiddenResource { .. }), "{error:?}");
    desk.ask(&jane, &queue).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn masters_and_servers_without_authorization_ask_nobody() {
    let desk = Desk::new();
    desk.reviewer.answer(Err("down"));
    let groups = vec![Identity::MASTERS.to_owned()];
    let master = Caller::new(Identity { groups, ..Identity::default() });
    desk.ask(&master, &metric("a")).await.unwrap();
    let open = Authorization::none();
    assert!(matches!(open.decide(&caller("a"), metric("a")), Decision::Now(Ok(()))));
    assert_eq!(desk.reviewer.asked(), 0);
    desk.has(r#"authorizations_total{by="masters",outcome="allowed"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_metrics_are_remembered_at_once() {
    let desk = Desk::new();
    let hpa = caller("system:serviceaccount:kube-system:horizontal-pod-autoscaler");
    let metrics: Vec<_> = (0..10_000).map(|n| metric(&format!("metric_{n:05}"))).collect();
    for metric in &metrics {
        assert_eq!(desk.ask(&hpa, metric).await, Ok(()));
    }
    desk.authz.0.as_ref().expect("a reviewer").cache.run_pending_tasks();
    assert!(metrics.iter().all(|metric| desk.ready(&hpa, metric)));
}

/// More reviews than there is room for: the others are refused at once, and the room is there again
/// when the API server has answered.
#[tokio::test(start_paused = true)]
async fn reviews_do_not_pile_up() {
    let desk = Desk::new();
    let somebody = caller("somebody");
    *desk.reviewer.takes.lock().unwrap() = SECOND;
    let (mut waiting, mut refused) = (0, 0);
    // Nobody waits for any of them.
    for number in 0..5000 {
        match desk.authz.decide(&somebody, metric(&format!("m{number}"))) {
            Decision::Now(decision) => panic!("{decision:?} without a review"),
            Decision::Wait(decision) => match decision.now_or_never() {
                None => waiting += 1,
                Some(Err(ApiError::Overloaded(text))) if text.contains("too many reviews") => {
                    refused += 1;
                }
                Some(other) => panic!("{other:?}"),
            },
        }
    }
    assert_eq!((waiting, refused), (2048, 5000 - 2048));
    tokio::time::sleep(SECOND * 60).await;
    // Nobody in particular leaves a quarter of the room to others.
    let nobody = Caller::new(crate::model::Identity::anonymous());
    for number in 0..5000 {
        drop(desk.authz.decide(&nobody, metric(&format!("n{number}"))));
    }
    let Decision::Wait(decision) = desk.authz.decide(&somebody, metric("m")) else {
        panic!("it was not reviewed yet")
    };
    assert!(decision.now_or_never().is_none(), "there is room for it");
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(desk.ask(&somebody, &metric("m4999")).await, Ok(()));
}
