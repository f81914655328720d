//! Time that a test moves, under a server with real sockets.
//!
//! The server's runtime has tokio's paused clock, and its ages come from a manual clock that is moved
//! in step with it. Time stands still while anything is on the wire: it moves on when every call that
//! the server has begun is answered, or is one that the fake holds back on purpose. So an hour takes
//! a second or two, a busy machine changes nothing, and no answer is ever late but by design.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidepole::model::{Clock, ManualClock};
use tidepole::telemetry::Telemetry;

use crate::support::wait::PATIENCE;

/// Turns of all tasks between two looks: from a timer or an answer to the call that follows there are
/// less than half of that.
const TURNS: usize = 24;

/// A clock that moves when told.
pub(super) struct Time {
    pub(super) clock: Arc<ManualClock>,
    pub(super) telemetry: Arc<Telemetry>,
    /// While a blocking task runs, tokio's paused clock does not run ahead to the next timer.
    _brake: std::sync::mpsc::Sender<()>,
}

impl Time {
    /// Stands at the machine's time: signatures are made with that.
    pub(super) fn stopped() -> Self {
        let (brake, held) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || held.recv());
        Self {
            clock: Arc::new(ManualClock::at(Timestamp::now())),
            telemetry: Arc::new(Telemetry::new()),
            _brake: brake,
        }
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves on, and waits until all that happens then has happened. `held` gives the requests that
    /// the upstream leaves without an answer.
    pub(super) async fn advance(&self, by: Duration, held: impl Fn() -> u64) {
        self.clock.advance(by);
        tokio::time::advance(by).await;
        self.settle(held).await;
    }

    /// Waits until nothing is on the wire.
    pub(super) async fn settle(&self, held: impl Fn() -> u64) {
        let begin = Instant::now();
        loop {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let (waiting, held) = (self.in_flight(), held());
            if waiting == held {
                return;
            }
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "{waiting} calls wait for answers, the upstream holds {held}");
            // Real time, in which sockets are looked at.
            let pause = || std::thread::sleep(Duration::from_micros(200));
            tokio::task::spawn_blocking(pause).await.expect("a pause does not panic");
        }
    }

    /// Calls of the server that wait for an answer.
    fn in_flight(&self) -> u64 {
        self.sum("tidepole_upstream_in_flight{")
    }

    /// Calls that the server has begun and ended.
    pub(super) fn calls(&self) -> u64 {
        self.sum("tidepole_upstream_calls_total{")
    }

    /// The sum of the samples whose lines begin so.
    pub(super) fn sum(&self, head: &str) -> u64 {
        let text = self.telemetry.encode();
        let lines = text.lines().filter(|line| line.starts_with(head));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts of a test are small whole numbers"
        )]
        values.map(|value| value as u64).sum()
    }
}
