use std::num::NonZeroU32;

use super::sharing::{Call, Sky, of, sky};
use super::*;
use crate::cache::View;
use crate::control::refresher::Phase;
use crate::model::ProtectionSettings;

const REFRESH: Duration = Duration::from_secs(15);

fn settings(calls_per_second: u32) -> ProtectionSettings {
    ProtectionSettings {
        calls_per_second: NonZeroU32::new(calls_per_second).unwrap(),
        failures_to_open: 5,
        first_pause: Duration::from_secs(1),
        max_pause: Duration::from_secs(30),
        call_timeout: Duration::from_secs(5),
    }
}

fn protected(calls_per_second: u32) -> Sky {
    sky(|cloud| cloud.protection = Some(settings(calls_per_second)))
}

fn cells(count: usize) -> Vec<Arc<QueryCell>> {
    (0..count).map(|i| of(&format!("eu/0/m{i}"), REFRESH)).collect()
}

fn is_fresh(cell: &QueryCell, now: Tick) -> bool {
    let state = cell.state();
    state.trouble().is_none()
        && state.last_sample().is_some_and(|sample| now.since(sample.observed) <= REFRESH * 2)
}

impl Sky {
    /// Lets HPAs read all of these every 15 s for so long.
    async fn read_for(&self, cells: &[Arc<QueryCell>], time: Duration) {
        let end = self.clock.tick().after(time);
        while self.clock.tick() < end {
            for cell in cells {
                self.read(cell);
            }
            sleep(REFRESH.min(end.since(self.clock.tick()))).await;
        }
    }

    fn fall(&self, upstream: &str, error: FetchError) {
        self.cloud.down.lock().unwrap().insert(upstream.to_owned(), error);
    }

    fn rise(&self, upstream: &str) {
        self.cloud.down.lock().unwrap().remove(upstream);
    }

    fn phase(&self) -> Option<Phase> {
        self.refresher.upstreams()[0].phase
    }
}

/// The most calls in any second.
fn peak(calls: &[Call]) -> usize {
    let in_second = |first: &Call| {
        let end = first.tick.after(Duration::from_secs(1));
        calls.iter().filter(|call| call.tick >= first.tick && call.tick < end).count()
    };
    calls.iter().map(in_second).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_down_is_left_alone_and_found_again() {
    let sky = protected(100);
    let house = cells(200);
    sky.read_for(&house, Duration::from_mins(5)).await;
    sky.calls();
    sky.fall("eu", FetchError::Unavailable("connection refused".into()));
    sky.read_for(&house, Duration::from_mins(5)).await;
    let calls = sky.calls().len();
    // What was left of a burst, which fails within the second after an answer, and probes half a
    // minute apart.
    assert!((10..80).contains(&calls), "{calls} calls in five minutes");
    sky.expect("tidepole_upstream_breaker_open{source=\"aws\",upstream=\"eu\"} 1.0");
    for cell in &house {
        let state = cell.state();
        let (text, _) = state.trouble().unwrap();
        assert!(text.contains("connection refused"), "{text}");
        assert!(state.last_sample().is_some(), "the last good value is kept");
    }
    let told = house.iter().filter(|cell| {
        let state = cell.state();
        state.trouble().unwrap().0.starts_with("not asked since ")
    });
    assert!(told.count() >= 198);
    // The first read of a new query does not wait.
    let new = of("eu/0/new", REFRESH);
    sky.read(&new);
    sleep(Duration::from_millis(10)).await;
    let state = new.state();
    let text = state.trouble().unwrap().0;
    assert!(
        text.starts_with("not asked since ") && text.contains(" calls to eu in a row"),
        "{text}"
    );
    // An hour later it is back.
    sky.read_for(&house, Duration::from_hours(1)).await;
    let calls = sky.calls().len();
    assert!((120..400).contains(&calls), "{calls} probes in an hour");
    sky.rise("eu");
    sky.read_for(&house, REFRESH * 2 + Duration::from_secs(3)).await;
    let now = sky.clock.tick();
    let old = house.iter().filter(|cell| !is_fresh(cell, now)).count();
    assert_eq!(old, 0, "within the longest pause, or two intervals");
    assert_eq!(sky.phase(), Some(Phase::Closed));
    sky.expect("tidepole_upstream_breaker_open{source=\"aws\",upstream=\"eu\"} 0.0");
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_not_asked_do_not_bring_an_upstream_back() {
    let sky = protected(100);
    let house = cells(20);
    sky.read_for(&house, Duration::from_mins(2)).await;
    sky.fall("eu", FetchError::Unavailable("connection refused".into()));
    sky.read_for(&house, Duration::from_mins(2)).await;
    assert_ne!(sky.phase(), Some(Phase::Closed));
    // Now every question ends before a call.
    for error in [FetchError::NoData("no pods".into()), FetchError::Denied("no list".into())] {
        sky.fall("eu", error.unasked());
        sky.read_for(&house, Duration::from_mins(5)).await;
        assert_eq!(sky.phase(), Some(Phase::HalfOpen), "the next that is asked decides");
    }
    // So it did not come back, and everybody is served when it does.
    sky.rise("eu");
    sky.read_for(&house, Duration::from_mins(2)).await;
    assert_eq!(sky.phase(), Some(Phase::Closed));
    let now = sky.clock.tick();
    assert_eq!(house.iter().filter(|cell| !is_fresh(cell, now)).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_down_does_not_touch_another() {
    let sky = protected(100);
    let mine: Vec<_> = (0..50).map(|i| of(&format!("eu/0/e{i}"), REFRESH)).collect();
    let others: Vec<_> = (0..50).map(|i| of(&format!("us/0/u{i}"), REFRESH)).collect();
    let all: Vec<_> = mine.iter().chain(&others).cloned().collect();
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_secs(5));
    sky.fall("eu", FetchError::Timeout("no answer within 5s".into()));
    sky.read_for(&all, Duration::from_mins(2)).await;
    sky.calls();
    sky.read_for(&all, Duration::from_mins(10)).await;
    let calls = sky.calls();
    let us = calls.iter().filter(|call| call.upstream == "us").count();
    assert!((1950..=2050).contains(&us), "{us}: every 15 s each");
    assert!(calls.len() - us < 60, "{} probes", calls.len() - us);
    let now = sky.clock.tick();
    assert!(others.iter().all(|cell| is_fresh(cell, now)));
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_down_and_recovers() {
    let sky = protected(20);
    let house = cells(200);
    sky.read_for(&house, Duration::from_mins(1)).await;
    sky.calls();
    sky.fall("eu", FetchError::Throttled("rate exceeded".into()));
    sky.read_for(&house, Duration::from_mins(5)).await;
    let calls = sky.calls().len();
    assert!(calls < 60, "{calls} calls while it throttles");
    assert!(sky.refresher.upstreams()[0].calls_per_second.unwrap() < 1.0);
    let state = house[0].state();
    let policy = Policy {
        refresh: REFRESH,
        max_age: Duration::from_mins(2),
        on_no_data: OnNoData::Hold,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: false,
    };
    let View::Failed(failure) = state.view(&policy, sky.clock.tick()) else { panic!("it failed") };
    assert_eq!(failure.error.kind(), "throttled");
    sky.rise("eu");
    sky.read_for(&house, Duration::from_mins(3)).await;
    assert!(sky.refresher.upstreams()[0].calls_per_second.unwrap() > 19.9);
    let now = sky.clock.tick();
    assert!(house.iter().all(|cell| is_fresh(cell, now)));
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_the_deficit_is_shown() {
    let sky = protected(10);
    let house = cells(300);
    sky.read_for(&house, Duration::from_mins(5)).await;
    let calls = sky.calls();
    // A burst of a second's worth, and the rate from then on.
    assert!(peak(&calls) <= 20, "{}", peak(&calls));
    assert!((2950..=3011).contains(&calls.len()), "{}", calls.len());
    let shown = &sky.refresher.upstreams()[0];
    assert!(shown.overdue > 100, "{shown:?}");
    let late = sky.clock.tick().since(shown.waiting_since.unwrap());
    // Twice the interval for a round, and as much again for those in line.
    assert!(late > Duration::from_secs(5) && late < Duration::from_secs(35), "{late:?}");
    let counts: Vec<u64> = house.iter().map(|cell| cell.fetches()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least >= 9 && *most <= 12, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_five_thousand_queries_does_not_starve_one_with_five() {
    let sky = protected(50);
    let many = cells(5000);
    let few: Vec<_> = (0..5).map(|i| of(&format!("eu/0/f{i}"), REFRESH)).collect();
    for (cells, owner) in [(&many, "team-a"), (&few, "team-b")] {
        for cell in cells {
            cell.set_owner(Some(owner));
        }
    }
    let all: Vec<_> = many.iter().chain(&few).cloned().collect();
    sky.read_for(&all, Duration::from_mins(10)).await;
    for cell in &few {
        assert!((39..=42).contains(&cell.fetches()), "{}", cell.fetches());
        assert!(is_fresh(cell, sky.clock.tick()));
    }
    let least = many.iter().map(|cell| cell.fetches()).min().unwrap();
    assert!(least >= 4, "{least}: a hundred seconds a round");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_goes_before_what_nobody_reads() {
    let sky = protected(10);
    let read = cells(150);
    let unread: Vec<_> = (0..150).map(|i| of(&format!("eu/0/u{i}"), REFRESH)).collect();
    sky.read_for(&unread, Duration::from_secs(1)).await;
    sky.read_for(&read, Duration::from_mins(4)).await;
    let sum = |cells: &[Arc<QueryCell>]| cells.iter().map(|cell| cell.fetches()).sum::<u64>();
    let (read, least) = (sum(&read), unread.iter().map(|cell| cell.fetches()).min().unwrap());
    assert!(read > 2 * sum(&unread) - 150, "{read} {}", sum(&unread));
    assert!(least >= 2, "nothing waits for ever");
}

#[tokio::test(start_paused = true)]
async fn with_too_little_for_all_the_least_recently_read_wait_longest() {
    let sky = protected(10);
    // Twenty calls a second would be needed. Read in every interval, in every fourth, and no more.
    let groups = ["often", "seldom", "unread"].map(|name| -> Vec<_> {
        (0..100).map(|i| of(&format!("eu/0/{name}{i}"), REFRESH)).collect()
    });
    let [often, seldom, unread] = &groups;
    let mut ages = [Duration::ZERO; 3];
    for second in 0..270 {
        let due = |every: u64| second % every == 0;
        let read = [(often, due(15)), (seldom, due(60)), (unread, second == 0)];
        for (cells, _) in read.iter().filter(|(_, due)| *due) {
            cells.iter().for_each(|cell| sky.read(cell));
        }
        sleep(Duration::from_secs(1)).await;
        // Four rounds of those that are read least, after a minute of settling.
        if second >= 90 {
            for (age, cells) in ages.iter_mut().zip(&groups) {
                let now = sky.clock.tick();
                let newest = |cell: &QueryCell| cell.state().last_sample().unwrap().observed;
                *age += cells.iter().map(|cell| now.since(newest(cell))).sum::<Duration>();
            }
        }
    }
    let means = ages.map(|sum| sum / 180 / 100);
    let second = Duration::from_secs(1);
    assert!(means[0] + second < means[1] && means[1] + second < means[2], "{means:?}");
    assert!(means[2] < Duration::from_secs(75), "put off by a minute at most: {means:?}");
    // The deficit, as scrapers see it.
    let text = sky.telemetry.encode();
    let shown = |name: &str| -> f64 {
        let line = format!("{name}{{source=\"aws\"}} ");
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    };
    assert!(shown("tidepole_refresh_overdue") > 50.0, "{text}");
    assert!(shown("tidepole_refresh_lateness_seconds") > 5.0, "{text}");
}

#[tokio::test(start_paused = true)]
async fn queries_that_hang_hold_up_nobody() {
    let sky = sky(|cloud| (cloud.protection, cloud.width) = (Some(settings(300)), 16));
    let healthy: Vec<_> = (0..100).map(|i| of(&format!("eu/0/h{i}"), REFRESH)).collect();
    let hanging: Vec<_> = (0..20).map(|i| of(&format!("eu/0/x{i}"), REFRESH)).collect();
    for i in 0..20 {
        sky.cloud.hangs.lock().unwrap().insert(format!("x{i}"), Duration::from_secs(5));
        sky.fail(&format!("x{i}"), FetchError::Timeout("no answer within 5s".into()));
    }
    let all: Vec<_> = healthy.iter().chain(&hanging).cloned().collect();
    sky.read_for(&all, Duration::from_mins(2)).await;
    sky.expect("tidepole_refresh_failing{source=\"aws\"} 20");
    sky.calls();
    for _ in 0..40 {
        sky.read_for(&all, REFRESH).await;
        assert_eq!(sky.phase(), Some(Phase::Closed), "it answers others");
    }
    let calls = sky.calls();
    let of_healthy = calls.iter().filter(|call| call.names[0].starts_with('h')).count();
    assert!((3950..=4050).contains(&of_healthy), "{of_healthy} in ten minutes at 15 s");
    let now = sky.clock.tick();
    assert!(healthy.iter().all(|cell| is_fresh(cell, now)));
    // Four places of sixteen, five seconds each, and half as often.
    let of_hanging = calls.len() - of_healthy;
    assert!((350..=410).contains(&of_hanging), "{of_hanging}");
    for i in 0..20 {
        sky.cloud.hangs.lock().unwrap().clear();
        sky.heal(&format!("x{i}"));
    }
    sky.read_for(&all, REFRESH * 2 + Duration::from_secs(6)).await;
    let now = sky.clock.tick();
    assert!(hanging.iter().all(|cell| is_fresh(cell, now)), "within two intervals");
    sky.expect("tidepole_refresh_failing{source=\"aws\"} 0");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_upstream_that_is_down_can_leave() {
    let sky = protected(100);
    let house = cells(100);
    sky.fall("eu", FetchError::Unavailable("connection refused".into()));
    sky.read_for(&house, Duration::from_mins(2)).await;
    sky.expect("tidepole_refresh_scheduled_queries 100");
    sleep(Duration::from_mins(6)).await;
    sky.expect("tidepole_refresh_scheduled_queries 0");
    sky.expect("tidepole_refresh_queued{source=\"aws\"} 0");
    sky.expect("tidepole_refresh_lanes{source=\"aws\"} 0");
    assert!(house.iter().all(|cell| !cell.state().is_tried()));
    sky.rise("eu");
    sky.read_for(&house, Duration::from_secs(2)).await;
    assert!(house.iter().all(|cell| is_fresh(cell, sky.clock.tick())));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_trouble_at_once_ends_when_it_ends() {
    let sky = protected(100);
    let second = Duration::from_secs(1);
    let house: Vec<_> = (0..24).map(|i| of(&format!("eu/0/m{i}"), second)).collect();
    let read_for = async |time: Duration| {
        let end = sky.clock.tick().after(time);
        while sky.clock.tick() < end {
            for cell in &house {
                sky.read(cell);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    read_for(second * 10).await;
    let cause = || Cause::new("x");
    for i in 0..20 {
        let error = match i % 6 {
            0 => FetchError::Unavailable(cause()),
            1 => FetchError::Malformed(cause()),
            2 => FetchError::Denied(cause()),
            3 => FetchError::Throttled(cause()),
            4 => FetchError::Invalid(cause()),
            _ => FetchError::Timeout(cause()),
        };
        if i % 12 == 5 {
            sky.cloud.hangs.lock().unwrap().insert(format!("m{i}"), second * 3);
        }
        sky.fail(&format!("m{i}"), error);
    }
    read_for(second * 12).await;
    let now = sky.clock.tick();
    for cell in &house[20..] {
        let age = now.since(cell.state().last_sample().unwrap().observed);
        assert!(age < second * 2, "{age:?}");
    }
    sky.cloud.hangs.lock().unwrap().clear();
    (0..20).for_each(|i| sky.heal(&format!("m{i}")));
    read_for(second * 6).await;
    let now = sky.clock.tick();
    for (i, cell) in house.iter().enumerate() {
        let state = cell.state();
        assert_eq!(state.trouble(), None, "m{i}");
        assert!(now.since(state.last_sample().unwrap().observed) < second * 2, "m{i}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_queries_of_one_owner_leave_places_to_others() {
    let sky = sky(|cloud| {
        cloud.protection =
            Some(ProtectionSettings { call_timeout: Duration::from_secs(40), ..settings(100) });
    });
    let slow: Vec<_> = (0..300).map(|i| of(&format!("eu/0/slow{i}"), REFRESH)).collect();
    let quick: Vec<_> = (0..40).map(|i| of(&format!("eu/0/quick{i}"), REFRESH)).collect();
    for (cells, owner) in [(&slow, "staging"), (&quick, "prod")] {
        for cell in cells {
            cell.set_owner(Some(owner));
        }
    }
    let takes = |i: usize| (format!("slow{i}"), Duration::from_secs(30));
    sky.cloud.hangs.lock().unwrap().extend((0..300).map(takes));
    for cell in &slow {
        sky.read(cell);
    }
    // Whoever comes when all the others' calls are under way still finds places.
    sleep(Duration::from_secs(20)).await;
    for cell in &quick {
        sky.read(cell);
    }
    sleep(Duration::from_secs(3)).await;
    assert!(quick.iter().all(|cell| cell.state().is_tried()), "first reads wait no longer");
    for _ in 0..12 {
        for cell in slow.iter().chain(&quick) {
            sky.read(cell);
        }
        sleep(REFRESH).await;
        let now = sky.clock.tick();
        assert!(quick.iter().all(|cell| is_fresh(cell, now)), "{now:?}");
    }
}
