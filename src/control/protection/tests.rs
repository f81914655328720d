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

fn down() -> Verdict {
    Verdict::Down(Cause::new("connection refused"))
}

fn open_it(protection: &mut Protection) {
    for _ in 0..3 {
        assert_eq!(protection.admit(), Permit::Granted);
        protection.ended(&down(), false);
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_probe_closes_it() {
    let clock = Arc::new(ManualClock::default());
    let start = clock.tick();
    let mut it = protection(&clock, 1.0);
    assert_eq!(it.admit(), Permit::Granted);
    it.ended(&down(), false);
    it.ended(&down(), false);
    it.ended(&Verdict::Healthy, false);
    assert_eq!(it.phase(), Phase::Closed, "two are not three in a row");
    open_it(&mut it);
    let until = start.after(Duration::from_secs(1));
    assert_eq!(it.admit(), Permit::Open(until, Cause::new("connection refused")));
    assert_eq!(it.phase(), Phase::Open);
    clock.advance(Duration::from_secs(1));
    assert_eq!((it.phase(), it.admit()), (Phase::HalfOpen, Permit::Probe));
    assert!(matches!(it.admit(), Permit::NotBefore(_)), "one probe at a time");
    it.ended(&Verdict::Healthy, true);
    assert_eq!((it.phase(), it.admit()), (Phase::Closed, Permit::Granted));
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
            let Permit::Open(until, _) = it.admit() else { panic!("it is open") };
            assert_eq!(until.since(clock.tick()), Duration::from_millis(pause));
            clock.advance(Duration::from_millis(pause));
            assert_eq!(it.admit(), Permit::Probe);
            it.ended(&down(), true);
        }
    }
}

#[test]
fn late_answers_neither_close_nor_extend_it() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    open_it(&mut it);
    let Permit::Open(until, _) = it.admit() else { panic!("it is open") };
    it.ended(&Verdict::Healthy, false);
    it.ended(&down(), false);
    assert_eq!(it.admit(), Permit::Open(until, Cause::new("connection refused")));
}

#[test]
fn a_lost_probe_is_replaced() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    open_it(&mut it);
    clock.advance(Duration::from_secs(1));
    assert_eq!(it.admit(), Permit::Probe);
    clock.advance(Duration::from_secs(10));
    assert_eq!(it.admit(), Permit::Probe, "twice the timeout later");
}

#[test]
fn throttling_slows_down_and_good_answers_speed_up() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    let rate = |it: &Protection| it.allowed_per_second();
    let throttled = Verdict::Throttled(Cause::new("slow down"));
    it.ended(&throttled, false);
    it.ended(&throttled, false);
    assert!((rate(&it) - 5.0).abs() < 1e-9, "answers that belong together count once");
    clock.advance(Duration::from_secs(1));
    it.ended(&Verdict::Healthy, false);
    it.ended(&throttled, false);
    assert!((rate(&it) - 2.5).abs() < 1e-9);
    let mut steps = 0;
    while rate(&it) < 10.0 {
        clock.advance(Duration::from_secs(5));
        it.ended(&Verdict::Healthy, false);
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
        it.ended(&Verdict::Throttled(Cause::new("slow down")), false);
    }
    assert!((it.allowed_per_second() - 10.0 / 64.0).abs() < 1e-9);
}

#[test]
fn a_burst_is_a_seconds_worth_and_then_the_rate_counts() {
    let clock = Arc::new(ManualClock::default());
    let mut it = protection(&clock, 1.0);
    let mut granted = 0;
    for _ in 0..1000 {
        match it.admit() {
            Permit::Granted => granted += 1,
            Permit::NotBefore(tick) => {
                assert!(tick > clock.tick());
                clock.advance(Duration::from_millis(10));
            }
            other => panic!("{other:?}"),
        }
    }
    // 1000 asks, all but the granted ones 10 ms each: 10 at once, then 10 a second.
    let seconds = f64::from(1000 - granted) / 100.0;
    let expected = 10.0 + 10.0 * seconds;
    assert!((f64::from(granted) - expected).abs() <= 2.0, "{granted} in {seconds} s");
}

#[test]
fn the_verdict_is_about_the_upstream() {
    let cause = || Cause::new("x");
    let answer = |error| Err::<(), _>(error);
    for (answers, expected) in [
        (vec![Ok(()), answer(FetchError::Timeout(cause()))], Verdict::Healthy),
        (vec![answer(FetchError::Invalid(cause()))], Verdict::Healthy),
        (vec![answer(FetchError::Timeout(cause()))], Verdict::Down(cause())),
        (
            vec![answer(FetchError::Throttled(cause())), answer(FetchError::Unavailable(cause()))],
            Verdict::Throttled(cause()),
        ),
        (vec![], Verdict::Healthy),
    ] {
        assert_eq!(Verdict::of(&answers), expected, "{answers:?}");
    }
}

proptest! {
    /// Whatever happens: at most one probe at a time, nothing starts while it is open, and it
    /// never stays open longer than the longest pause.
    #[test]
    fn it_never_stays_open(
        events in prop::collection::vec((0..4_u8, 0..20_000_u64), 0..200),
        jitter in 0.0..=1.0_f64,
    ) {
        let clock = Arc::new(ManualClock::default());
        let mut it = protection(&clock, jitter);
        let mut running: Vec<bool> = Vec::new();
        for (event, pause) in events {
            clock.advance(Duration::from_millis(pause));
            match event {
                0 | 1 => match it.admit() {
                    Permit::Granted => running.push(false),
                    Permit::Probe => {
                        running.retain(|probe| !probe);
                        running.push(true);
                    }
                    Permit::NotBefore(tick) => prop_assert!(tick > clock.tick()),
                    Permit::Open(until, _) => {
                        prop_assert!(until > clock.tick());
                        prop_assert!(until.since(clock.tick()) <= Duration::from_secs(30));
                    }
                },
                2 => {
                    if let Some(probe) = running.pop() {
                        it.ended(&down(), probe);
                    }
                }
                _ => {
                    if let Some(probe) = running.pop() {
                        it.ended(&Verdict::Healthy, probe);
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
