//! Protection of one upstream from us, and of us from it.
//!
//! Responsible for: whether a fetch may start now. Three things say no: the rate (a token bucket,
//! slowed down while the upstream throttles), the breaker (open after failures in a row, closed
//! by a probe that succeeds), and the pause between two probes (exponential, with full jitter).
//! Not responsible for: which query goes next, how many run at once, what a reader is told.
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
pub(super) use breaker::Phase;
use rate::Rate;

/// Whether a fetch may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Granted,
    /// It may, as the probe of a breaker that is half open: nothing else may until it ends.
    Probe,
    /// Not before this tick: the rate is used up, or a probe is under way (then the end of the
    /// probe counts, this tick is only the latest).
    NotBefore(Tick),
    /// The breaker is open until this tick, because of this.
    Open(Tick, Cause),
}

/// What the end of a fetch says about the upstream, rather than about one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers: with data, without, or with a refusal of this very question.
    Healthy,
    /// It asks us to slow down.
    Throttled(Cause),
    /// It does not answer, or with nothing of use.
    Down(Cause),
}

impl Verdict {
    /// The verdict of one fetch's answers. One answer that came is proof of life.
    pub(super) fn of<'a, T: 'a>(
        answers: impl IntoIterator<Item = &'a Result<T, FetchError>>,
    ) -> Self {
        let mut worst = Self::Healthy;
        for answer in answers {
            match answer {
                Ok(_)
                | Err(
                    FetchError::NoData(_)
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

    /// May a fetch start? A grant is to be followed by [`Protection::ended`].
    pub(super) fn admit(&mut self) -> Permit {
        let now = self.clock.tick();
        match self.breaker.admit(now) {
            breaker::Admit::Open(until, cause) => return Permit::Open(until, cause),
            breaker::Admit::Probing(latest) => return Permit::NotBefore(latest),
            breaker::Admit::Closed | breaker::Admit::Probe => {}
        }
        if let Err(wait) = self.rate.take() {
            return Permit::NotBefore(now.after(wait));
        }
        if self.breaker.started(now) { Permit::Probe } else { Permit::Granted }
    }

    /// A fetch that was granted has ended.
    pub(super) fn ended(&mut self, verdict: &Verdict, probe: bool) {
        let now = self.clock.tick();
        match verdict {
            Verdict::Healthy => self.rate.healthy(now),
            Verdict::Throttled(_) => self.rate.throttled(now),
            Verdict::Down(_) => {}
        }
        self.breaker.ended(verdict, probe, now);
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
