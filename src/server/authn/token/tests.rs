use std::sync::atomic::Ordering;

use futures::future::join_all;
use http::HeaderValue;

use super::*;
use crate::model::SystemClock;
use crate::server::metrics::ReviewMetrics;
use crate::server::testing::Reviewer;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

fn tokens() -> (Tokens, Arc<Reviewer>) {
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    let metrics = ReviewMetrics::register(&Telemetry::new(), "token");
    let desk = Desk::new(&tasks, Arc::new(SystemClock::new()), metrics);
    let reviewer = Arc::new(Reviewer::default());
    (Tokens::new(Arc::clone(&reviewer) as _, desk), reviewer)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_reviewed_once_per_ten_seconds_however_many_ask() {
    let (tokens, reviewer) = tokens();
    *reviewer.takes.lock().unwrap() = Duration::from_secs(1);
    let asked = || reviewer.tokens.load(Ordering::SeqCst);
    let all = join_all((0..100).map(|_| tokens.authenticate("token-of-jane"))).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().identity.user == "jane"));
    assert_eq!(asked(), 1);
    // Remembered from when it was asked.
    tokio::time::advance(Duration::from_secs(8)).await;
    assert!(tokens.authenticate("token-of-jane").await.is_ok());
    assert_eq!(asked(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(tokens.authenticate("token-of-jane").await.is_ok());
    assert_eq!(asked(), 2);
    // A rejection is remembered, too; a failure is not.
    for _ in 0..2 {
        let rejected = tokens.authenticate("garbage").await.unwrap_err();
        assert_eq!(rejected, "invalid bearer token");
    }
    assert_eq!(asked(), 3);
    for _ in 0..2 {
        let failed = tokens.authenticate("token-of-nobody-knows").await.unwrap_err();
        assert_eq!(failed, "the token could not be reviewed: no route to host");
    }
    assert_eq!(asked(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_review_is_bounded_in_time_and_survives_its_requester() {
    let (tokens, reviewer) = tokens();
    *reviewer.takes.lock().unwrap() = Duration::from_mins(1);
    let failed = tokens.authenticate("token-of-jane").await.unwrap_err();
    assert_eq!(failed, "the token could not be reviewed: the API server did not answer within 10s");
    *reviewer.takes.lock().unwrap() = Duration::from_secs(1);
    drop(tokens.authenticate("token-of-jane"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(tokens.authenticate("token-of-jane").await.is_ok());
    assert_eq!(reviewer.tokens.load(Ordering::SeqCst), 2);
}

#[test]
fn a_bearer_token_is_the_word_after_the_scheme() {
    let read = |value: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        bearer(&headers).map(|t| t.map(str::to_owned))
    };
    let some = |t: &str| Some(Ok(t.to_owned()));
    assert_eq!(read(b"Bearer abc"), some("abc"));
    assert_eq!(read(b"bEARER abc def"), some("abc"));
    assert_eq!(read(b"Bearer"), None);
    assert_eq!(read(b"Bearer  abc"), None);
    assert_eq!(read(b"Basic abc"), None);
    assert_eq!(read(b""), None);
    assert_eq!(read(b"Bearer \xff"), Some(Err("the bearer token is not text".to_owned())));
    assert!(bearer(&HeaderMap::new()).is_none());
}
