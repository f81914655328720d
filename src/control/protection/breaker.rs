//! A circuit breaker on ticks.

use std::time::Duration;

use crate::control::protection::Verdict;
use crate::model::{Cause, ProtectionSettings, Tick};

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) enum Phase {
    /// Calls go through.
    Closed,
    /// Nothing goes through.
    Open,
    /// One probe goes through, or may.
    HalfOpen,
}

impl Phase {
    /// A fixed word for metrics labels and the status page.
    pub(in crate::control) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What the breaker says to a call that wants to start.
pub(super) enum Admit {
    /// Go.
    Closed,
    /// Go, as the probe.
    Probe,
    /// A probe is under way; it counts as lost at this tick.
    Probing(Tick),
    /// No, until this tick.
    Open(Tick, Cause),
}

#[derive(Debug)]
enum State {
    /// Failures in a row.
    Closed { failures: u32 },
    /// Half open from `until` on.
    Open { until: Tick, cause: Cause },
    /// A probe is under way since then.
    Probing { since: Tick, cause: Cause },
}

/// Opens after failures in a row; then one probe at a time, with growing pauses, until one
/// succeeds.
pub(super) struct Breaker {
    state: State,
    threshold: u32,
    first_pause: Duration,
    max_pause: Duration,
    /// The longest that a probe can take; after it a probe that never ended counts as lost.
    patience: Duration,
    /// How often it has opened since it was last closed.
    opened: u32,
    jitter: Box<dyn FnMut() -> f64 + Send>,
}

impl Breaker {
    pub(super) fn new(
        settings: &ProtectionSettings,
        jitter: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        Self {
            state: State::Closed { failures: 0 },
            threshold: settings.failures_to_open,
            first_pause: settings.first_pause,
            max_pause: settings.max_pause,
            patience: settings.call_timeout * 2,
            opened: 0,
            jitter,
        }
    }

    /// What a call that wants to start is told. Changes nothing.
    pub(super) fn admit(&self, now: Tick) -> Admit {
        match &self.state {
            State::Closed { .. } => Admit::Closed,
            State::Open { until, cause } if now < *until => Admit::Open(*until, cause.clone()),
            State::Open { .. } => Admit::Probe,
            State::Probing { since, .. } => {
                let lost = since.after(self.patience);
                if now < lost { Admit::Probing(lost) } else { Admit::Probe }
            }
        }
    }

    /// An admitted call starts. True when it is the probe.
    pub(super) fn started(&mut self, now: Tick) -> bool {
        match &self.state {
            State::Closed { .. } => false,
            State::Open { cause, .. } | State::Probing { cause, .. } => {
                self.state = State::Probing { since: now, cause: cause.clone() };
                true
            }
        }
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, verdict: &Verdict, probe: bool, now: Tick) {
        let cause = match verdict {
            Verdict::Healthy => {
                // Late good news from a call that started before the breaker opened is no proof
                // that the upstream answers now: only the probe closes it.
                if probe || matches!(self.state, State::Closed { .. }) {
                    self.state = State::Closed { failures: 0 };
                    self.opened = 0;
                }
                return;
            }
            Verdict::Throttled(cause) | Verdict::Down(cause) => cause,
        };
        match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures >= self.threshold {
                    self.open(cause, now);
                }
            }
            State::Probing { .. } if probe => self.open(cause, now),
            // Calls that started before it opened end one after the other; they are not news.
            State::Open { .. } | State::Probing { .. } => {}
        }
    }

    pub(super) fn phase(&self, now: Tick) -> Phase {
        match &self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { until, .. } if now < *until => Phase::Open,
            State::Open { .. } | State::Probing { .. } => Phase::HalfOpen,
        }
    }

    /// Full jitter (a uniform part of the exponential pause) keeps many replicas from probing in
    /// step; the floor of half the first pause keeps an unlucky draw from probing at once.
    fn open(&mut self, cause: &Cause, now: Tick) {
        let doubled = self.first_pause.saturating_mul(1 << self.opened.min(20));
        let ceiling = doubled.min(self.max_pause);
        let floor = self.first_pause / 2;
        let part = (self.jitter)().clamp(0.0, 1.0);
        let pause = floor + ceiling.saturating_sub(floor).mul_f64(part);
        self.opened = self.opened.saturating_add(1);
        self.state = State::Open { until: now.after(pause), cause: cause.clone() };
    }
}
