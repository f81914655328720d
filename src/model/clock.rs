//! Time, as a value that tests can set.
//!
//! Two clocks, for two questions. [`Clock::now`] is the wall clock: what a sample's timestamp says
//! to people. [`Clock::tick`] is monotonic: how old something is. Every age, deadline and
//! schedule uses ticks, so a step of the wall clock (NTP, a suspended machine) can neither make a
//! stale sample look fresh nor expire a fresh one.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// A point on the monotonic clock: milliseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// How long before `self` the tick `earlier` was; zero if it was not before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved into the future.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// `self` moved into the past, at most to the start of the clock.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where time comes from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall-clock time, for timestamps that people and the API see.
    fn now(&self) -> Timestamp;
    /// Monotonic time, for ages and schedules.
    fn tick(&self) -> Tick;
}

/// The machine's clocks. Ticks follow tokio's clock, so a paused runtime pauses them too.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// Ticks start this far above zero, so that the age of any datapoint can be expressed from the
    /// first moment on: `CloudWatch` keeps the oldest for 455 days.
    const HEAD_START: Duration = Duration::from_hours(500 * 24);

    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn tick(&self) -> Tick {
        Tick(millis(self.start.elapsed() + Self::HEAD_START))
    }
}

/// A clock that moves only when told, for tests.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Tick)>,
}

impl ManualClock {
    /// A clock that stands at `now`, with its tick one hour above zero.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Tick(3_600_000))) }
    }

    /// Moves both clocks forward.
    ///
    /// # Panics
    /// If the resulting wall-clock time cannot be represented.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 =
            state.0.checked_add(by).expect("a test stays within the years jiff can represent");
        state.1 = state.1.after(by);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::at(Timestamp::UNIX_EPOCH)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn tick(&self) -> Tick {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}
