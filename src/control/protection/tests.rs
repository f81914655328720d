use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::ManualClock;

fn settings() -> ProtectionSettings {
    ProtectionSettings {
        calls_per_second: NonZeroU32::new(10).unwrap(),
        failures_to_open: 3,
        first_pause: Duration::from_secs(1),
        max_pause: Duration::from_secs(30),
        call_timeout: Duration::from_secs(5),
    }
}

fn protection(clock: &Arc<ManualClock>, jitter: f64) -> Protection {
    Protection::new(&settings(), Arc::clone(clock) as _, Box::new(move || jitter))
}

fn down() -> Health {
    Health::Down(Cause::new("connection refused"))
}

/// Asks, and starts when it may. True for a probe.
fn go(it: &mut Protection) -> Option<bool> {
    (it.check() == Permit::Granted).then(|| it.started(1))
}

fn open_it(protection: &mut Protection) {
    for last in [None, None, Some(Change::Opened)] {
        assert_eq!(go(protection), Some(false));
        assert_eq!(protection.ended(&down(), false), last);
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_probe_closes_it() {
    let clock = Arc::new(ManualClock::default());
    let start = clock.tick();
    let mut it = protection(&clock, 1.0);
    assert_eq!(go(&mut it), Some(false));
    it.ended(&down(), false);
    it.ended(&down(), false);
    it.ended(&Health::Healthy, false);
    assert_eq!((it.phase(), it.refusal()), (Phase::Closed, None), "two are not three in a row");
    open_it(&mut it);
    let until = start.after(Duration::from_secs(1));
    assert_eq!(it.check(), Permit::NotBefore(until));
    assert_eq!(it.phase(), Phase::Open);
    assert_eq!(
        it.refusal().unwrap().error("sqs eu-west-1"),
        FetchError::Unavailable(Cause::new(
            "not asked since 3 calls to sqs eu-west-1 in a row were without an answer; next try in \
             about 1s; the last error was: connection refused"
        ))
    );
    clock.advance(Duration::from_secs(1));
    assert_eq!((it.phase(), it.refusal()), (Phase::HalfOpen, None), "who comes now is the probe");
    assert_eq!(go(&mut it), Some(true));
    assert!(matches!(it.check(), Permit::NotBefore(_)), "one probe at a time");
    let told = it.refusal().unwrap().error("");
    assert_eq!(
        told.to_string(),
        "not asked since 3 calls in a row were without an answer; it is being tried again now; the \
         last error was: connection refused"
    );
    assert_eq!(it.ended(&Health::Healthy, true), Some(Change::Closed));
    assert_eq!((it.phase(), go(&mut it)), (Phase::Closed, Some(false)));
}

#[test]
fn the_error_says_whether_it_was_throttled() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    for _ in 0..3 {
        it.ended(&Health::Throttled(Cause::new("slow down").with_detail("more")), false);
    }
    let error = it.refusal().unwrap().error("cloudwatch eu-west-1");
    assert_eq!((error.kind(), error.cause().detail()), ("throttled", Some("more")));
    assert!(error.to_string().contains("in a row were throttled or failed; "), "{error}");
}

#[test]
fn pauses_double_up_to_the_longest_and_are_spread() {
    let clock = Arc::new(ManualClock::default());
    for (jitter, expected) in
        [(1.0, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]), (0.0, [500; 7])]
    {
        let mut it = protection(&clock, jitter);
        open_it(&mut it);
        for pause in expected {
            let Permit::NotBefore(until) = it.check() else { panic!("it is open") };
            assert_eq!(until.since(clock.tick()), Duration::from_millis(pause));
            clock.advance(Duration::from_millis(pause));
            assert_eq!(go(&mut it), Some(true));
            it.ended(&down(), true);
        }
    }
}

#[test]
fn late_answers_neither_close_nor_extend_it() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    open_it(&mut it);
    let open = it.check();
    assert_eq!(it.ended(&Health::Healthy, false), None);
    assert_eq!(it.ended(&down(), false), None);
    assert_eq!((it.check(), it.phase()), (open, Phase::Open));
}

#[test]
fn what_was_not_asked_changes_nothing_and_hands_the_probe_on() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    it.ended(&Health::Throttled(Cause::new("slow down")), false);
    it.ended(&down(), false);
    clock.advance(Duration::from_mins(1));
    assert_eq!(it.ended(&Health::Unasked, false), None);
    assert!((it.allowed_per_second() - 5.0).abs() < 1e-9, "no reason to go faster");
    assert_eq!(it.ended(&down(), false), Some(Change::Opened), "three failures in a row");
    clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        assert_eq!(go(&mut it), Some(true));
        assert!(matches!(it.check(), Permit::NotBefore(_)), "one probe at a time");
        assert_eq!(it.ended(&Health::Unasked, false), None, "no probe hands none on");
        assert!(matches!(it.check(), Permit::NotBefore(_)));
        assert_eq!(it.ended(&Health::Unasked, true), None);
        assert_eq!((it.phase(), it.refusal()), (Phase::HalfOpen, None));
    }
    assert_eq!(go(&mut it), Some(true));
    it.ended(&down(), true);
    let Permit::NotBefore(until) = it.check() else { panic!("it is open") };
    assert_eq!(until.since(clock.tick()), Duration::from_secs(2), "the pauses go on growing");
}

#[test]
fn a_lost_probe_is_replaced() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    open_it(&mut it);
    clock.advance(Duration::from_secs(1));
    assert_eq!(go(&mut it), Some(true));
    clock.advance(Duration::from_secs(10));
    assert_eq!(go(&mut it), Some(true), "twice the timeout later");
}

#[test]
fn throttling_slows_down_and_good_answers_speed_up() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    let rate = |it: &Protection| it.allowed_per_second();
    let throttled = Health::Throttled(Cause::new("slow down"));
    it.ended(&throttled, false);
    it.ended(&throttled, false);
    assert!((rate(&it) - 5.0).abs() < 1e-9, "answers that belong together count once");
    clock.advance(Duration::from_secs(1));
    it.ended(&Health::Healthy, false);
    it.ended(&throttled, false);
    assert!((rate(&it) - 2.5).abs() < 1e-9);
    let mut steps = 0;
    while rate(&it) < 10.0 {
        clock.advance(Duration::from_secs(5));
        it.ended(&Health::Healthy, false);
        steps += 1;
    }
    assert_eq!(steps, 7, "a quarter more every five seconds");
}

#[test]
fn the_slowest_rate_is_above_nothing() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 0.0);
    for _ in 0..100 {
        clock.advance(Duration::from_secs(31));
        it.ended(&Health::Throttled(Cause::new("slow down")), false);
    }
    assert!((it.allowed_per_second() - 10.0 / 64.0).abs() < 1e-9);
}

#[test]
fn a_burst_is_a_seconds_worth_and_then_the_rate_counts() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    let mut granted = 0;
    for _ in 0..1000 {
        match it.check() {
            Permit::Granted => {
                it.started(1);
                granted += 1;
            }
            Permit::NotBefore(tick) => {
                assert!(tick > clock.tick());
                clock.advance(Duration::from_millis(10));
            }
        }
    }
    // 1000 asks, all but the granted ones 10 ms each: 10 at once, then 10 a second.
    let seconds = f64::from(1000 - granted) / 100.0;
    let expected = 10.0 + 10.0 * seconds;
    assert!((f64::from(granted) - expected).abs() <= 2.0, "{granted} in {seconds} s");
}

#[test]
fn a_fetch_of_several_calls_is_paid_for_afterwards() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    assert_eq!(it.check(), Permit::Granted);
    assert_eq!(it.check(), Permit::Granted, "a grant that was not used is kept");
    it.started(25);
    let start = clock.tick();
    while it.check() != Permit::Granted {
        clock.advance(Duration::from_millis(10));
    }
    // Nine tokens were left of the burst; fifteen are owed at ten a second, and one is its own.
    let wait = clock.tick().since(start);
    assert!((1500..=1800).contains(&wait.as_millis()), "{wait:?}");
}

#[test]
fn health_is_about_the_upstream() {
    let cause = || Cause::new("x");
    let answer = |error| Err::<(), _>(error);
    for (answers, expected) in [
        (vec![Ok(()), answer(FetchError::Timeout(cause()))], Health::Healthy),
        (vec![answer(FetchError::Invalid(cause()))], Health::Healthy),
        (vec![answer(FetchError::Timeout(cause()))], Health::Down(cause())),
        (
            vec![answer(FetchError::Throttled(cause())), answer(FetchError::Unavailable(cause()))],
            Health::Throttled(cause()),
        ),
        (vec![], Health::Healthy),
        (vec![answer(FetchError::NoData(cause()).unasked())], Health::Unasked),
        (vec![answer(FetchError::Denied(cause()).unasked()), Ok(())], Health::Healthy),
        (
            vec![
                answer(FetchError::Timeout(cause())),
                answer(FetchError::Invalid(cause()).unasked()),
            ],
            Health::Down(cause()),
        ),
        (
            vec![
                answer(FetchError::Invalid(cause()).unasked()),
                answer(FetchError::Timeout(cause())),
            ],
            Health::Down(cause()),
        ),
    ] {
        assert_eq!(Health::of(&answers), expected, "{answers:?}");
    }
}

proptest! {
    /// Whatever happens: at most one probe at a time, nothing starts while it is open, and it
    /// never stays open longer than the longest pause.
    #[test]
    fn it_never_stays_open(
        events in prop::collection::vec((0..5_u8, 0..20_000_u64), 0..200),
        jitter in 0.0..=1.0_f64,
    ) {
        let clock = Arc::new(ManualClock::default());
        let mut it = protection(&clock, jitter);
        let mut running: Vec<bool> = Vec::new();
        for (event, pause) in events {
            clock.advance(Duration::from_millis(pause));
            match event {
                0 | 1 => match it.check() {
                    Permit::Granted => {
                        let probe = it.started(1);
                        let expected = if probe { Phase::HalfOpen } else { Phase::Closed };
                        prop_assert_eq!(it.phase(), expected);
                        if probe {
                            running.retain(|probe| !probe);
                        }
                        running.push(probe);
                    }
                    Permit::NotBefore(until) => {
                        prop_assert!(until > clock.tick());
                        prop_assert!(until.since(clock.tick()) <= Duration::from_secs(30));
                    }
                },
                2 => {
                    if let Some(probe) = running.pop() {
                        it.ended(&down(), probe);
                    }
                }
                3 => {
                    if let Some(probe) = running.pop() {
                        let before = it.phase();
                        prop_assert_eq!(it.ended(&Health::Unasked, probe), None);
                        prop_assert_eq!(it.phase(), before);
                    }
                }
                _ => {
                    if let Some(probe) = running.pop() {
                        it.ended(&Health::Healthy, probe);
                        if probe {
                            prop_assert_eq!(it.phase(), Phase::Closed);
                        }
                    }
                }
            }
            prop_assert!(running.iter().filter(|probe| **probe).count() <= 1);
        }
    }
}
