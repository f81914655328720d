//! One cell: a server, an upstream, a fault, and what readers get from before it until after it.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use tidepole::runtime::Surroundings;

use super::table::{Cell, Fault, Kind, Outcome, Told};
use super::time::Time;
use super::upstream::Upstream;
use crate::support::client::Answer;
use crate::support::server::{Reader, Setup, Tidepole, metric, path_of, status, values};

/// The value before a fault, and after it.
const BEFORE: u32 = 42;
const AFTER: u32 = 43;

/// A failed call for a datapoint is made again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// Readers come this often.
const READ_EVERY: Duration = Duration::from_secs(5);

/// What was seen, for people who look at the run.
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) arrived: u64,
    pub(super) back: Duration,
}

/// Runs a cell on this thread. Panics where a promise is broken.
pub(super) fn run(cell: Cell) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime starts");
    let seen = runtime.block_on(async {
        match cell.outcome {
            Outcome::Never(told) => Stage::start(cell, true).await.never(told).await,
            _ => Stage::start(cell, false).await.play().await,
        }
    });
    // Some threads of it may be looking names up.
    runtime.shutdown_background();
    seen
}

struct Stage {
    cell: Cell,
    time: Time,
    upstream: Upstream,
    tidepole: Tidepole,
    reader: Option<Reader>,
    names: Vec<String>,
    /// How far time moves at once.
    step: Duration,
    /// Since the start.
    elapsed: Duration,
}

fn definition(kind: Kind, upstream: &Upstream, name: &str, source: &str) -> String {
    let (refresh, max_age) = (kind.refresh().as_secs(), kind.max_age().as_secs());
    let question = upstream.question(name);
    metric(
        name,
        &format!(
            "source: {source}, {question}, refresh: {refresh}s, maxAge: {max_age}s, onNoData: hold, keepWarm: true"
        ),
    )
}

impl Stage {
    async fn start(cell: Cell, nowhere: bool) -> Self {
        let step = Duration::from_secs(if cell.fault == Fault::Gone { 5 } else { 1 });
        let time = Time::stopped();
        let upstream = Upstream::start(cell.kind, &time.clock);
        let names: Vec<String> = (0..cell.metrics()).map(|i| format!("depth-{i}")).collect();
        upstream.truth(&names, BEFORE);
        let mut sources = upstream.source("main");
        if nowhere {
            sources += &upstream.nowhere("gone");
        }
        let setup = Setup::new(&sources).defaults("{ firstReadTimeout: 15s }");
        let source = if nowhere { "gone" } else { "main" };
        let text: String =
            names.iter().map(|name| definition(cell.kind, &upstream, name, source)).collect();
        setup.define("metrics.yaml", &text);
        let (clock, telemetry) = (time.clock.clone(), time.telemetry.clone());
        let tidepole = setup.start_within(Surroundings { clock, telemetry }).await;
        Self { cell, time, upstream, tidepole, reader: None, names, step, elapsed: Duration::ZERO }
    }

    /// Healthy, the fault, healthy again.
    async fn play(mut self) -> Seen {
        self.warm_up().await;
        let healthy = self.elapsed + self.cell.kind.refresh() * 3;
        while self.elapsed < healthy {
            self.step().await;
            if self.is_reading() {
                self.expect_fresh(0, BEFORE).await;
            }
        }
        self.expect_all_fresh(0, BEFORE).await;

        let (calls, arrived) = (self.time.calls(), self.upstream.hits());
        let outcomes = self.cell.told().map(|told| self.ended(told.kind));
        let good = self.good().await;
        self.upstream.begin(self.cell.fault, &self.names[0]);
        self.upstream.truth(&self.names[self.spared()..], AFTER);
        let (begin, lasts) = (self.elapsed, self.cell.lasts());
        let mut turned = false;
        while self.elapsed < begin + lasts {
            if !turned && self.elapsed >= begin + lasts / 2 {
                self.upstream.turn(self.cell.fault);
                turned = true;
            }
            self.step().await;
            if self.is_reading() {
                self.expect_during(&good, self.elapsed.saturating_sub(begin)).await;
            }
        }
        if let (Some(told), Some(before)) = (self.cell.told(), outcomes) {
            assert!(self.ended(told.kind) > before, "no refresh ended as {}", told.kind);
            self.expect_trouble(told);
        }

        let (calls, arrived) = (self.time.calls() - calls, self.upstream.hits() - arrived);
        let most = self.cell.most_calls();
        assert!(calls <= most.into(), "{calls} calls, at most {most} are promised");

        self.upstream.end(self.cell.fault, &self.names[0]);
        self.upstream.truth(&self.names[..self.spared()], AFTER);
        let back = self.recover().await;
        let healthy = self.elapsed + self.cell.kind.refresh() * 2;
        while self.elapsed < healthy {
            self.step().await;
            if self.is_reading() {
                self.expect_fresh(0, AFTER).await;
            }
        }
        self.tidepole.check();
        Seen { calls, arrived, back }
    }

    /// Waits until every metric was asked once.
    async fn warm_up(&mut self) {
        // Those that share no calls start a millisecond apart, at the rate of their source.
        for _ in 0..30 {
            self.time.settle(|| self.upstream.held()).await;
            if self.time.sum("tidepole_metrics{state=\"waiting\",origin=\"definition\"}") == 0 {
                return;
            }
            self.step().await;
        }
        panic!("not every metric was asked within half a minute");
    }

    /// A source whose name is not known, and then another source.
    async fn never(mut self, told: Told) -> Seen {
        self.warm_up().await;
        self.upstream.truth(&self.names, AFTER);
        let end = self.elapsed + self.cell.lasts();
        while self.elapsed < end {
            self.step().await;
            for at in self.read_now(self.elapsed) {
                let answer = self.read(at).await;
                let message = status(&answer, 503, "ServiceUnavailable");
                let head = format!("{} in default: ", self.names[at]);
                assert!(message.starts_with(&head), "{message}");
                assert!(message.contains(told.cause), "{message}\n  lacks: {}", told.cause);
                assert!(message.ends_with(" (source gone)"), "{message}");
            }
        }
        assert!(self.ended(told.kind) > 0, "no refresh ended as {}", told.kind);
        self.expect_trouble(told);
        let (calls, arrived) = (self.time.calls(), self.upstream.hits());
        let most = self.cell.most_calls();
        assert!(calls <= most.into(), "{calls} calls, at most {most} are promised");
        assert_eq!(arrived, 0);
        let names = self.names.iter();
        let text: String =
            names.map(|name| definition(self.cell.kind, &self.upstream, name, "main")).collect();
        self.tidepole.setup.define("metrics.yaml", &text);
        let back = self.recover().await;
        self.tidepole.check();
        Seen { calls, arrived, back }
    }

    async fn step(&mut self) {
        self.time.advance(self.step, || self.upstream.held()).await;
        self.elapsed += self.step;
    }

    /// How late things may show: timestamps have whole seconds, and time moves by steps.
    fn slack(&self) -> Duration {
        self.step + Duration::from_secs(1)
    }

    fn is_reading(&self) -> bool {
        self.elapsed.as_secs().is_multiple_of(READ_EVERY.as_secs())
    }

    /// Which names are read now: the first at every look, the others once per interval.
    fn read_now(&self, elapsed: Duration) -> std::ops::Range<usize> {
        let all = elapsed.as_secs().is_multiple_of(self.cell.kind.refresh().as_secs());
        0..if all { self.names.len() } else { usize::from(self.is_reading()) }
    }

    /// How many names in front keep their value when the fault begins.
    fn spared(&self) -> usize {
        usize::from(self.cell.fault == Fault::DeniedOne)
    }

    /// Refreshes that ended so.
    fn ended(&self, kind: &str) -> u64 {
        let text = self.time.telemetry.encode();
        let label = format!("outcome=\"{kind}\"");
        let lines = text.lines().filter(|line| line.starts_with("tidepole_refreshes_total{"));
        let values =
            lines.filter(|line| line.contains(&label)).filter_map(|l| l.rsplit(' ').next());
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    }

    async fn read(&mut self, at: usize) -> Answer {
        let path = path_of("default", &self.names[at]);
        if let Some(reader) = &mut self.reader
            && let Ok(answer) = reader.0.get(&path, &[]).await
        {
            return answer;
        }
        // Connections end after some minutes.
        let mut reader = self.tidepole.reader().await;
        let answer = reader.get(&path).await;
        self.reader = Some(reader);
        answer
    }

    fn value(&self, answer: &Answer) -> Option<u32> {
        if answer.status != 200 {
            return None;
        }
        let values = values(answer);
        let [value] = &values[..] else { panic!("{}: not one value: {values:?}", self.names[0]) };
        Some(value.parse().unwrap_or_else(|_| panic!("not a number that was said: {value}")))
    }

    fn timestamp(answer: &Answer) -> Timestamp {
        let list = answer.json();
        let text = list["items"][0]["timestamp"].as_str().expect("an item has a timestamp");
        text.parse().expect("a timestamp")
    }

    fn age(&self, of: Timestamp) -> Duration {
        Duration::try_from(self.time.now().duration_since(of)).unwrap_or_default()
    }

    /// The last good values' times, by name.
    async fn good(&mut self) -> Vec<Timestamp> {
        let mut good = Vec::with_capacity(self.names.len());
        for at in 0..self.names.len() {
            good.push(Self::timestamp(&self.read(at).await));
        }
        good
    }

    async fn expect_fresh(&mut self, at: usize, value: u32) {
        let answer = self.read(at).await;
        let name = &self.names[at];
        assert_eq!(self.value(&answer), Some(value), "{name}: {}", answer.text());
        self.expect_young(name, &answer);
    }

    fn expect_young(&self, name: &str, answer: &Answer) {
        // Where clocks differ, the upstream's time is no measure.
        if self.cell.fault != Fault::Skew {
            let age = self.age(Self::timestamp(answer));
            let most = self.cell.kind.fresh() + self.slack();
            assert!(age <= most, "{name} is {age:?} old, at most {most:?}: {}", answer.text());
        }
    }

    async fn expect_all_fresh(&mut self, from: usize, value: u32) {
        for at in from..self.names.len() {
            self.expect_fresh(at, value).await;
        }
    }

    /// What is promised while the fault lasts.
    async fn expect_during(&mut self, good: &[Timestamp], since: Duration) {
        let read = self.read_now(since);
        match self.cell.outcome {
            Outcome::Unhurt => {
                // Until then the newest datapoint may be one from before.
                let settled = since > self.cell.back_within() + self.cell.kind.fresh();
                for at in read {
                    let answer = self.read(at).await;
                    let seen = self.value(&answer);
                    let is_true = seen == Some(AFTER) || !settled && seen == Some(BEFORE);
                    assert!(is_true, "{}: {}", self.names[at], answer.text());
                    self.expect_young(&self.names[at], &answer);
                }
            }
            Outcome::Held(told) => {
                for at in read {
                    self.expect_held(at, good[at], told).await;
                }
            }
            Outcome::Alone(told) => {
                self.expect_held(0, good[0], told).await;
                for at in read.skip(1) {
                    let answer = self.read(at).await;
                    let name = &self.names[at];
                    let seen = self.value(&answer);
                    assert!(matches!(seen, Some(BEFORE | AFTER)), "{name}: {}", answer.text());
                    self.expect_young(name, &answer);
                }
            }
            Outcome::Ahead(told) => {
                let turned = since >= self.cell.lasts() / 2;
                for at in read {
                    let answer = self.read(at).await;
                    if answer.status == 200 {
                        let seen = self.value(&answer);
                        assert!(matches!(seen, Some(BEFORE | AFTER)), "{}", answer.text());
                        let most = if turned {
                            self.cell.kind.max_age()
                        } else {
                            self.cell.kind.fresh() + AGAIN
                        };
                        let age = self.age(Self::timestamp(&answer));
                        assert!(age <= most + self.slack(), "{age:?} old: {}", answer.text());
                    } else {
                        let message = status(&answer, 503, "ServiceUnavailable");
                        assert!(turned && message.contains(told.cause), "{message}");
                    }
                }
            }
            Outcome::Never(_) => unreachable!("it has a play of its own"),
        }
    }

    /// The last good value while it is young enough, then the cause.
    async fn expect_held(&mut self, at: usize, good: Timestamp, told: Told) {
        let answer = self.read(at).await;
        let (age, max_age) = (self.age(good), self.cell.kind.max_age());
        if answer.status == 200 {
            assert_eq!(self.value(&answer), Some(BEFORE), "{}", answer.text());
            assert_eq!(Self::timestamp(&answer), good, "{}", answer.text());
            assert!(age <= max_age + self.slack(), "served at {age:?}: {}", answer.text());
            return;
        }
        let message = status(&answer, 503, "ServiceUnavailable");
        assert!(age + self.slack() > max_age, "not served at {age:?}: {message}");
        let head = format!("{} in default: ", self.names[at]);
        assert!(message.starts_with(&head), "{message}");
        assert!(message.contains(told.cause), "{message}\n  lacks: {}", told.cause);
        let mut tail = format!(" (source main); last good value {BEFORE} at ");
        let _ = write!(tail, "{}", good.strftime("%H:%M:%SZ"));
        let _ = write!(tail, " is older than maxAge {}m", max_age.as_secs() / 60);
        assert!(message.ends_with(&tail), "{message}\n  does not end in: {tail}");
    }

    /// What the metrics say at the end of a fault.
    fn expect_trouble(&self, told: Told) {
        let count = |kind| {
            self.time.sum(&format!(
                "tidepole_metrics_in_trouble{{trouble=\"{kind}\",origin=\"definition\"}}"
            ))
        };
        let sick = match self.cell.outcome {
            Outcome::Alone(_) => 1,
            _ => self.names.len(),
        };
        // What is not asked because its upstream is down is told so, whatever brought it down.
        let down = if told.kind == "timeout" { count("unavailable") } else { 0 };
        let found = count(told.kind) + down;
        assert_eq!(found, sick as u64, "metrics in trouble ({})", told.kind);
    }

    /// Waits until all values are true again; gives how long that took.
    async fn recover(&mut self) -> Duration {
        let (limit, mut back) = (self.cell.back_within() + self.slack(), Duration::ZERO);
        let names = if self.cell.fault == Fault::DeniedOne { 1 } else { self.names.len() };
        let mut left: Vec<usize> = (0..names).collect();
        loop {
            let mut waiting = Vec::new();
            let mut last = String::new();
            for at in left {
                let answer = self.read(at).await;
                match self.value(&answer) {
                    Some(AFTER) => {}
                    None | Some(BEFORE) => {
                        waiting.push(at);
                        answer.text().clone_into(&mut last);
                    }
                    Some(other) => panic!("{other} was never said"),
                }
            }
            if waiting.is_empty() {
                return back;
            }
            assert!(back < limit, "{waiting:?} not back after {back:?}: {last}");
            left = waiting;
            self.step().await;
            back += self.step;
        }
    }
}
