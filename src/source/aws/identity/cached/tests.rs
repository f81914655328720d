use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::*;
use crate::model::ManualClock;

const HOUR: Duration = Duration::from_hours(1);
/// When credentials that live for an hour are renewed.
const RENEW_AT: Duration = HOUR.saturating_sub(RENEW_AHEAD);
const PATIENCE: Duration = Duration::from_secs(4);

/// An identity whose loads a test answers.
struct Bench {
    clock: Arc<ManualClock>,
    identity: Arc<Identity>,
    loads: Arc<AtomicUsize>,
    answers: Arc<Mutex<Answer>>,
}

#[derive(Clone)]
enum Answer {
    /// Credentials that live for this long, after a while.
    Life(Duration, Duration),
    /// As long as the last ones: the same again.
    Fixed(SystemTime),
    Unlimited,
    Fail(&'static str),
    Hang,
    Panic,
}

fn bench(first: Answer) -> Bench {
    let clock = Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
    let (loads, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(first)));
    let (now, count, told) = (Arc::clone(&clock), Arc::clone(&loads), Arc::clone(&answers));
    let load: Load = Box::new(move || {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let (answer, now) = (told.lock().unwrap().clone(), Arc::clone(&now));
        Box::pin(async move {
            let made =
                |expiry| Ok(Credentials::new(format!("KEY{number}"), "s", None, expiry, "t"));
            match answer {
                Answer::Life(life, after) => {
                    tokio::time::sleep(after).await;
                    made(Some(SystemTime::from(now.now()) + life))
                }
                Answer::Fixed(expiry) => made(Some(expiry)),
                Answer::Unlimited => made(None),
                Answer::Fail(text) => Err(FetchError::Unavailable(Cause::new(text))),
                Answer::Hang => std::future::pending().await,
                Answer::Panic => panic!("a load that panics"),
            }
        })
    });
    let role = Who::Role("arn:aws:iam::111122223333:role/r".into());
    let name = SourceName::new("aws");
    let identity = Identity::new(&name, role, load, Arc::clone(&clock) as Arc<dyn Clock>, PATIENCE);
    Bench { clock, identity, loads, answers }
}

impl Bench {
    async fn ask(&self) -> String {
        match self.identity.credentials().await {
            Ok(credentials) => credentials.access_key_id().to_owned(),
            Err(error) => format!("{}: {error}", error.kind()),
        }
    }

    /// Lets loads that were started end.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn answer(&self, answer: Answer) {
        *self.answers.lock().unwrap() = answer;
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_share_one_load() {
    let bench = bench(Answer::Life(HOUR, Duration::from_secs(1)));
    let all = futures::future::join_all((0..100).map(|_| bench.ask())).await;
    assert!(all.iter().all(|key| key == "KEY1"), "{all:?}");
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_runs_ahead_of_the_end_and_nobody_waits_for_it() {
    let bench = bench(Answer::Life(HOUR, AT_ONCE));
    assert_eq!(bench.ask().await, "KEY1");
    bench.clock.advance(RENEW_AT.saturating_sub(Duration::from_secs(1)));
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY1", 1));
    bench.answer(Answer::Life(HOUR, Duration::from_secs(3)));
    bench.clock.advance(Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    assert_eq!((bench.ask().await.as_str(), bench.ask().await.as_str()), ("KEY1", "KEY1"));
    assert_eq!((start.elapsed(), bench.loads()), (Duration::ZERO, 1));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY2", 2));
}

#[tokio::test(start_paused = true)]
async fn failed_renewals_keep_the_old_credentials_until_their_end() {
    let bench = bench(Answer::Life(HOUR, AT_ONCE));
    assert_eq!(bench.ask().await, "KEY1");
    bench.answer(Answer::Fail("STS is away"));
    bench.clock.advance(RENEW_AT);
    let step = Duration::from_millis(500);
    let mut tried = Vec::new();
    let started = bench.clock.tick();
    while bench.clock.tick().since(started) < RENEW_AHEAD.saturating_sub(MARGIN) {
        assert_eq!(bench.ask().await, "KEY1");
        bench.settle().await;
        if tried.len() + 1 < bench.loads() {
            tried.push(bench.clock.tick().since(started).as_secs());
        }
        bench.clock.advance(step);
    }
    // Pauses of 1, 2, 4, 8, 16, 16... seconds.
    assert_eq!(tried[..7], [0, 1, 3, 7, 15, 31, 47]);
    // Ten seconds before the end they are of no use any more.
    assert_eq!(bench.ask().await, "unavailable: STS is away");
    bench.clock.advance(LONGEST_PAUSE);
    bench.answer(Answer::Life(HOUR, AT_ONCE));
    assert!(bench.ask().await.starts_with("KEY"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_not_repeated_by_every_caller() {
    let bench = bench(Answer::Fail("no"));
    let all = futures::future::join_all((0..100).map(|_| bench.ask())).await;
    assert!(all.iter().all(|text| text == "unavailable: no"), "{all:?}");
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("unavailable: no", 1));
    bench.clock.advance(FIRST_PAUSE);
    bench.answer(Answer::Life(HOUR, AT_ONCE));
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY2", 2));
}

#[tokio::test(start_paused = true)]
async fn short_lived_credentials_are_renewed_at_half_their_life() {
    let life = Duration::from_secs(20);
    let bench = bench(Answer::Life(life, AT_ONCE));
    for second in 0..100 {
        let key = bench.ask().await;
        assert!(key.starts_with("KEY"), "{second}: {key}");
        bench.settle().await;
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.loads(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_same_credentials_again_are_not_asked_for_at_every_call() {
    let bench = bench(Answer::Unlimited);
    let expiry = SystemTime::from(bench.clock.now()) + HOUR;
    bench.answer(Answer::Fixed(expiry));
    assert_eq!(bench.ask().await, "KEY1");
    bench.clock.advance(RENEW_AT);
    for _ in 0..60 {
        bench.ask().await;
        bench.settle().await;
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_end_are_looked_up_again_in_the_background() {
    let bench = bench(Answer::Unlimited);
    assert_eq!(bench.ask().await, "KEY1");
    bench.clock.advance(UNLIMITED_LIFE);
    bench.answer(Answer::Fail("the file is gone"));
    assert_eq!(bench.ask().await, "KEY1");
    bench.settle().await;
    bench.clock.advance(Duration::from_hours(24));
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY1", 2));
    bench.settle().await;
    assert_eq!(bench.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_ends_the_callers_patience_and_goes_on() {
    let bench = bench(Answer::Life(HOUR, Duration::from_secs(6)));
    assert_eq!(
        bench.ask().await,
        "timeout: no AWS credentials of role arn:aws:iam::111122223333:role/r within 4s"
    );
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_or_never_ends_is_an_error() {
    let bench = bench(Answer::Panic);
    assert_eq!(bench.ask().await, "unavailable: AWS credentials could not be loaded");
    bench.clock.advance(FIRST_PAUSE);
    bench.answer(Answer::Hang);
    assert!(bench.ask().await.starts_with("timeout: "));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_arrive_expired_are_refused() {
    let bench = bench(Answer::Unlimited);
    bench.answer(Answer::Fixed(SystemTime::from(bench.clock.now())));
    assert_eq!(
        bench.ask().await,
        "denied: the AWS credentials of role arn:aws:iam::111122223333:role/r had expired when they arrived (at 2026-11-21T12:00:00Z); is this machine's clock right?"
    );
    assert!(!format!("{:?}", bench.identity).contains("KEY"));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_renewed_once_and_the_old_ones_stay_until_then() {
    let bench = bench(Answer::Life(HOUR, Duration::from_secs(3)));
    assert_eq!(bench.ask().await, "KEY1");
    bench.clock.advance(Duration::from_mins(5));
    assert!((0..100).all(|_| bench.identity.refused()));
    assert_eq!(bench.ask().await, "KEY1");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY2", 2));
    // What was under way with the old ones is refused later.
    bench.clock.advance(Duration::from_secs(59).saturating_sub(Duration::from_secs(3)));
    assert!(bench.identity.refused());
    bench.settle().await;
    assert_eq!(bench.loads(), 2);
    bench.clock.advance(Duration::from_mins(1));
    bench.answer(Answer::Fail("STS is away"));
    assert!(bench.identity.refused());
    bench.settle().await;
    // Nothing better has come.
    assert!(!bench.identity.refused());
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY2", 3));
    for second in 1..60 {
        bench.clock.advance(Duration::from_secs(1));
        assert!(!bench.identity.refused(), "{second}");
    }
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.identity.refused());
    bench.settle().await;
    assert_eq!(bench.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_of_refused_credentials_is_tried_again_by_whoever_asks() {
    let bench = bench(Answer::Life(HOUR, AT_ONCE));
    assert_eq!(bench.ask().await, "KEY1");
    bench.answer(Answer::Fail("STS is away"));
    assert!(bench.identity.refused());
    bench.settle().await;
    // Once per pause, however often somebody asks.
    let mut loads = Vec::new();
    for _ in 0..60 {
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.ask().await, "KEY1");
        bench.identity.refused();
        loads.push(bench.loads());
    }
    let at = |second: usize| loads[second - 1];
    assert_eq!([1, 2, 3, 6, 7, 15, 31, 47, 60].map(at), [3, 3, 4, 4, 5, 6, 7, 8, 8], "{loads:?}");
    // What comes is used by the first who asks: the old ones would be refused once more.
    bench.answer(Answer::Life(HOUR, Duration::from_secs(1)));
    bench.clock.advance(LONGEST_PAUSE);
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY9", 9));
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY9", 9));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_was_never_used_is_renewed_as_well() {
    let bench = bench(Answer::Unlimited);
    assert!(bench.identity.refused());
    bench.settle().await;
    assert_eq!((bench.ask().await.as_str(), bench.loads()), ("KEY1", 1));
}
