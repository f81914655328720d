//! A circuit breaker on ticks.

use std::time::Duration;

use super::{Change, Health, Phase};
use crate::model::{Cause, FetchError, ProtectionSettings, Tick};

/// Why nothing is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Refusal {
    /// Calls that failed in a row.
    failures: u32,
    last: Last,
    /// How long until the next probe; none while one is under way.
    wait: Option<Duration>,
}

impl Refusal {
    /// The error of a query of `upstream` that was due.
    pub(in crate::control) fn error(&self, upstream: &str) -> FetchError {
        let next = match self.wait {
            // Rounded up: nobody is helped by milliseconds.
            Some(wait) => format!("next try in about {}s", wait.as_millis().div_ceil(1000)),
            None => "it is being tried again now".to_owned(),
        };
        let Last { cause, throttled } = &self.last;
        let of = if upstream.is_empty() { String::new() } else { format!(" to {upstream}") };
        // The cause last, because it is what may be cut.
        let text = format!(
            "not asked since {} calls{of} in a row were {}; {next}; the last error was: {cause}",
            self.failures,
            if *throttled { "throttled or failed" } else { "without an answer" },
        );
        let mut told = Cause::new(text);
        if let Some(detail) = cause.detail() {
            told = told.with_detail(detail);
        }
        if *throttled { FetchError::Throttled(told) } else { FetchError::Unavailable(told) }
    }
}

/// The latest failure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    cause: Cause,
    throttled: bool,
}

#[derive(Debug)]
enum State {
    Closed,
    /// Half open from `until` on.
    Open {
        until: Tick,
        last: Last,
    },
    /// A probe is under way since then.
    Probing {
        since: Tick,
        last: Last,
    },
}

/// Opens after failures in a row; then one probe at a time, with growing pauses, until one
/// succeeds.
pub(super) struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
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
            state: State::Closed,
            failures: 0,
            threshold: settings.failures_to_open,
            first_pause: settings.first_pause,
            max_pause: settings.max_pause,
            patience: settings.call_timeout * 2,
            opened: 0,
            jitter,
        }
    }

    /// Whether a call may start, or until when none may.
    pub(super) fn check(&self, now: Tick) -> Result<(), Tick> {
        let until = match &self.state {
            State::Closed => return Ok(()),
            State::Open { until, .. } => *until,
            State::Probing { since, .. } => since.after(self.patience),
        };
        if now < until { Err(until) } else { Ok(()) }
    }

    /// A call starts. True when it is the probe.
    pub(super) fn started(&mut self, now: Tick) -> bool {
        match &self.state {
            State::Closed => false,
            State::Open { last, .. } | State::Probing { last, .. } => {
                self.state = State::Probing { since: now, last: last.clone() };
                true
            }
        }
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, health: &Health, probe: bool, now: Tick) -> Option<Change> {
        let closed = matches!(self.state, State::Closed);
        let last = match health {
            // Late good news from a call that started before the breaker opened is no proof
            // that the upstream answers now: only the probe closes it.
            Health::Healthy if probe || closed => {
                self.state = State::Closed;
                (self.failures, self.opened) = (0, 0);
                return (!closed).then_some(Change::Closed);
            }
            Health::Healthy => return None,
            Health::Unasked => {
                if probe {
                    self.hand_on(now);
                }
                return None;
            }
            Health::Throttled(cause) => Last { cause: cause.clone(), throttled: true },
            Health::Down(cause) => Last { cause: cause.clone(), throttled: false },
        };
        if closed {
            self.failures = self.failures.saturating_add(1);
            if self.failures < self.threshold {
                return None;
            }
            self.open(last, now);
            return Some(Change::Opened);
        }
        // Calls that started before it opened end one after the other; they are not news.
        if probe && matches!(self.state, State::Probing { .. }) {
            self.failures = self.failures.saturating_add(1);
            self.open(last, now);
        }
        None
    }

    /// A probe ended without a call: the next call is the probe, at once.
    fn hand_on(&mut self, now: Tick) {
        if let State::Probing { last, .. } = &self.state {
            self.state = State::Open { until: now, last: last.clone() };
        }
    }

    pub(super) fn refusal(&self, now: Tick) -> Option<Refusal> {
        let failures = self.failures;
        match &self.state {
            State::Open { until, last } if now < *until => {
                Some(Refusal { failures, last: last.clone(), wait: Some(until.since(now)) })
            }
            State::Probing { last, .. } => {
                Some(Refusal { failures, last: last.clone(), wait: None })
            }
            State::Closed | State::Open { .. } => None,
        }
    }

    pub(super) fn phase(&self, now: Tick) -> Phase {
        match &self.state {
            State::Closed => Phase::Closed,
            State::Open { until, .. } if now < *until => Phase::Open,
            State::Open { .. } | State::Probing { .. } => Phase::HalfOpen,
        }
    }

    /// Full jitter (a uniform part of the exponential pause) keeps many replicas from probing in
    /// step; the floor of half the first pause keeps an unlucky draw from probing at once.
    fn open(&mut self, last: Last, now: Tick) {
        let doubled = self.first_pause.saturating_mul(1 << self.opened.min(20));
        let ceiling = doubled.min(self.max_pause);
        let floor = self.first_pause / 2;
        let part = (self.jitter)().clamp(0.0, 1.0);
        let pause = floor + ceiling.saturating_sub(floor).mul_f64(part);
        self.opened = self.opened.saturating_add(1);
        self.state = State::Open { until: now.after(pause), last };
    }
}
