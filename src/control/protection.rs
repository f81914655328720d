//! Protection of one upstream from us, and of us from it.
//!
//! Responsible for: whether a fetch may start now. Three things say no: the rate (a token bucket,
//! slowed down while the upstream throttles), the breaker (open after failures in a row, closed
//! by a probe that succeeds), and the pause between two probes (exponential, with full jitter).
//! Not responsible for: which query goes next, how many run at once, what a reader is told.
//!
//! There are no retries to budget: a fetch is tried once, the query's next refresh is its retry,
//! and while the breaker is open the probe is the only one.
//!
//! Pure apart from the clock: the refresher asks and tells, nothing waits here.
//!
//! Invariants: while the breaker is open nothing starts; while it is half open exactly one probe
//! is under way; a breaker always becomes half open again, at the latest after
//! [`ProtectionSettings::max_pause`].

mod breaker;
mod rate;

use std::sync::Arc;

use crate::model::{Cause, Clock, FetchError, ProtectionSettings, Tick};

use breaker::Breaker;
pub(super) use breaker::Refusal;
use rate::Rate;

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Calls go through.
    Closed,
    /// Nothing goes through.
    Open,
    /// One probe goes through, or may.
    HalfOpen,
}

impl Phase {
    /// A fixed word for metrics labels and the status page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Whether a fetch may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Granted,
    /// Not before this tick: the rate is used up, the breaker is open, or a probe is under way
    /// (then the end of the probe counts, this tick is only the latest).
    NotBefore(Tick),
}

/// What the end of a fetch says about the upstream, rather than about one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers: with data, without, or with a refusal of this very question.
    Healthy,
    /// It asks us to slow down.
    Throttled(Cause),
    /// It does not answer, or with nothing of use.
    Down(Cause),
    /// Nobody knows: it was not asked.
    Unasked,
}

impl Health {
    /// What one fetch's answers say. One answer that came is proof of life; what was not asked
    /// says nothing.
    pub(super) fn of<'a, T: 'a>(
        answers: impl IntoIterator<Item = &'a Result<T, FetchError>>,
    ) -> Self {
        let mut worst = Self::Healthy;
        for answer in answers {
            match answer {
                Err(error) if error.is_unasked() => {
                    if worst == Self::Healthy {
                        worst = Self::Unasked;
                    }
                }
                Ok(_)
                | Err(
                    FetchError::NoData(_)
                    | FetchError::Partial(_)
                    | FetchError::Invalid(_)
                    | FetchError::Denied(_)
                    | FetchError::Malformed(_),
                ) => return Self::Healthy,
                Err(FetchError::Throttled(cause)) => worst = Self::Throttled(cause.clone()),
                Err(FetchError::Timeout(cause) | FetchError::Unavailable(cause)) => {
                    if !matches!(worst, Self::Throttled(_)) {
                        worst = Self::Down(cause.clone());
                    }
                }
            }
        }
        worst
    }
}

/// How a breaker changed with the end of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was closed and is open now.
    Opened,
    /// It was not closed and is now.
    Closed,
}

/// The protection of one upstream.
pub(super) struct Protection {
    rate: Rate,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
}

impl Protection {
    /// A closed breaker and a full bucket. `jitter` gives numbers from 0 to 1.
    pub(super) fn new(
        settings: &ProtectionSettings,
        clock: Arc<dyn Clock>,
        jitter: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        Self {
            rate: Rate::new(settings, Arc::clone(&clock)),
            breaker: Breaker::new(settings, jitter),
            clock,
        }
    }

    /// May a fetch start? A grant holds until [`Protection::started`], which need not follow.
    pub(super) fn check(&mut self) -> Permit {
        let now = self.clock.tick();
        if let Err(until) = self.breaker.check(now) {
            return Permit::NotBefore(until);
        }
        match self.rate.take() {
            Ok(()) => Permit::Granted,
            Err(wait) => Permit::NotBefore(now.after(wait)),
        }
    }

    /// A fetch that was granted starts, with so many calls. True when it is the probe of a breaker
    /// that is half open: nothing else may start until it ends. [`Protection::ended`] is to follow.
    pub(super) fn started(&mut self, calls: u32) -> bool {
        self.rate.spend(calls);
        self.breaker.started(self.clock.tick())
    }

    /// A fetch that was started has ended.
    pub(super) fn ended(&mut self, health: &Health, probe: bool) -> Option<Change> {
        let now = self.clock.tick();
        match health {
            Health::Healthy => self.rate.healthy(now),
            Health::Throttled(_) => self.rate.throttled(now),
            Health::Down(_) | Health::Unasked => {}
        }
        self.breaker.ended(health, probe, now)
    }

    /// Why a query that is due now is not asked; none when it is only a matter of its turn.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.breaker.refusal(self.clock.tick())
    }

    /// Where the breaker is.
    pub(super) fn phase(&self) -> Phase {
        self.breaker.phase(self.clock.tick())
    }

    /// Calls per second that are allowed at present.
    pub(super) fn allowed_per_second(&self) -> f64 {
        self.rate.allowed_per_second()
    }
}

#[cfg(test)]
mod tests;
