//! How fast an upstream may be called: a token bucket that slows down when it is throttled.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::model::{Clock, ProtectionSettings, Tick};

/// Throttling halves the rate, at most this often: the answers of calls that were under way
/// together are one piece of news.
const HALVE_EVERY: Duration = Duration::from_secs(1);

/// Without throttling for this long, the rate grows by a quarter.
const GROW_EVERY: Duration = Duration::from_secs(5);

/// Slowest rate, as a part of the allowed one. At the default of 20 calls per second that is one
/// call in three seconds, which a single HPA does not notice.
const SLOWEST: f64 = 1.0 / 64.0;

/// Our clock, as the limiter sees it.
#[derive(Clone, Debug)]
struct Ticks(Arc<dyn Clock>);

impl GovernorClock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(Duration::from_millis(self.0.tick().0))
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

/// A token bucket, `settings.calls_per_second` wide and as deep as one second's worth.
pub(super) struct Rate {
    limiter: Limiter,
    clock: Ticks,
    full: NonZeroU32,
    /// A token that was taken for a call that has not started.
    in_hand: bool,
    /// Calls that have started without a token: fetches of several calls start as one.
    debt: u32,
    /// From [`SLOWEST`] to 1.
    factor: f64,
    changed: Option<Tick>,
}

impl Rate {
    pub(super) fn new(settings: &ProtectionSettings, clock: Arc<dyn Clock>) -> Self {
        let clock = Ticks(clock);
        let full = settings.calls_per_second;
        let limiter = limiter(full, 1.0, &clock);
        Self { limiter, clock, full, in_hand: false, debt: 0, factor: 1.0, changed: None }
    }

    /// Takes a token, or says how long to wait for one. It is kept until it is spent.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        while !self.in_hand {
            self.limiter.check().map_err(|not_until| {
                // At least a tick: a wait of nothing would spin.
                not_until.wait_time_from(self.clock.now()).max(Duration::from_millis(1))
            })?;
            match self.debt.checked_sub(1) {
                Some(less) => self.debt = less,
                None => self.in_hand = true,
            }
        }
        Ok(())
    }

    /// Spends the token, and as many more as there are calls; what is not there is owed.
    pub(super) fn spend(&mut self, calls: u32) {
        self.in_hand = false;
        self.debt = self.debt.saturating_add(calls.saturating_sub(1));
    }

    pub(super) fn throttled(&mut self, now: Tick) {
        if self.changed.is_none_or(|changed| now.since(changed) >= HALVE_EVERY)
            || self.factor >= 1.0
        {
            self.set((self.factor / 2.0).max(SLOWEST), now);
        }
    }

    pub(super) fn healthy(&mut self, now: Tick) {
        let due = self.changed.is_some_and(|changed| now.since(changed) >= GROW_EVERY);
        if self.factor < 1.0 && due {
            self.set((self.factor * 1.25).min(1.0), now);
        }
    }

    pub(super) fn allowed_per_second(&self) -> f64 {
        f64::from(self.full.get()) * self.factor
    }

    fn set(&mut self, factor: f64, now: Tick) {
        self.factor = factor;
        self.changed = Some(now);
        self.limiter = limiter(self.full, factor, &self.clock);
        // A fresh bucket is full; what was used up stays used up.
        while self.limiter.check().is_ok() {}
    }
}

fn limiter(full: NonZeroU32, factor: f64, clock: &Ticks) -> Limiter {
    let interval = Duration::from_secs(1).div_f64(f64::from(full.get()) * factor);
    let slowed = f64::from(full.get()) * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a u32's greatest value, rounded up to at least one"
    )]
    let depth = NonZeroU32::new(slowed.ceil() as u32).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(interval)
        .map_or_else(|| Quota::per_second(full), |quota| quota.allow_burst(depth));
    RateLimiter::direct_with_clock(quota, clock.clone())
}
