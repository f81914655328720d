//! Announces references: those that are new at once, all of them once a minute and whenever what
//! they lead to may have changed.
//!
//! One that follows another is held back while queries begin because of it that nobody waits for
//! yet, so that thousands of HPAs at a start are no stampede on the upstreams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::book::{Book, Touched};
use crate::model::{ANNOUNCE_EVERY, Announce, Announced, Claim, Clock, MetricReference, Tick};

/// Queries that begin because of announcements begin this far apart on average, like those that
/// are marked `keepWarm`: ten thousand take ten seconds.
const PACE: Duration = Duration::from_millis(1);

/// So many begin together: what CloudWatch reads in one call (`GetMetricData`, 500 queries).
const BURST: u32 = 500;

/// So many references are announced between two looks at what else there is to do: about a
/// millisecond's work.
const CHUNK: usize = 1000;

/// Two rounds begin at least this far apart, however often definitions change.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

/// How often it is looked whether the first fetches have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Renews the claims of all references.
pub(super) struct Announcer {
    announce: Arc<dyn Announce>,
    clock: Arc<dyn Clock>,
    /// The tick of the present round.
    round: Tick,
    /// When it began.
    began: Instant,
    next_round: Instant,
    /// When more of the queue may be announced.
    next_step: Instant,
    next_look: Instant,
    queue: VecDeque<Arc<MetricReference>>,
    /// References whose first fetches had not ended when they were announced, until the first time
    /// that there is none left.
    untried: Option<Vec<Arc<MetricReference>>>,
    /// References that a definition serves.
    known: usize,
    /// References that nothing serves, as far as they were announced.
    unknown: usize,
}

impl Announcer {
    pub(super) fn new(announce: Arc<dyn Announce>, clock: Arc<dyn Clock>) -> Self {
        let now = Instant::now();
        Self {
            announce,
            round: clock.tick(),
            clock,
            began: now,
            next_round: now + ANNOUNCE_EVERY,
            next_step: now,
            next_look: now,
            queue: VecDeque::new(),
            untried: Some(Vec::new()),
            known: 0,
            unknown: 0,
        }
    }

    /// References that a definition serves.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// References that nothing serves.
    pub(super) fn unknown(&self) -> usize {
        self.unknown
    }

    /// Whether everything that is known was announced.
    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many references have first fetches that are not known to have ended.
    pub(super) fn untried(&self) -> usize {
        self.untried.as_ref().map_or(0, Vec::len)
    }

    /// From now on nobody asks for [`Announcer::untried`].
    pub(super) fn stop_looking(&mut self) {
        self.untried = None;
    }

    /// When [`Announcer::step`] has something to do.
    pub(super) fn next(&self) -> Instant {
        let work = if self.queue.is_empty() { self.next_round } else { self.next_step };
        if self.untried() > 0 { work.min(self.next_look) } else { work }
    }

    /// What references lead to may have changed: all of them are announced soon.
    pub(super) fn renew(&mut self) {
        self.next_round = self.next_round.min(self.began + ROUND_PAUSE);
    }

    /// Takes in what changed: claims of HPAs that are gone are taken back at once, new ones are
    /// queued.
    pub(super) fn take(&mut self, book: &mut Book, touched: Touched) {
        for reference in touched {
            let Some(entry) = book.get_mut(&reference) else { continue };
            if entry.claimed > entry.hpas {
                let hpas = entry.claimed - entry.hpas;
                entry.claimed = entry.hpas;
                self.announce.release(&reference, Claim { round: self.round, hpas });
            }
            if entry.hpas > entry.claimed && !entry.queued {
                entry.queued = true;
                self.queue.push_back(Arc::clone(&reference));
            }
            if let Some(entry) = book.forget_unused(&reference) {
                self.known -= usize::from(is_known(entry.announced));
                self.unknown -= usize::from(entry.announced == Some(Announced::Unknown));
                if let Some(untried) = &mut self.untried {
                    untried.retain(|waiting| !Arc::ptr_eq(waiting, &reference));
                }
            }
        }
    }

    /// Does what is due. True when that began a new round. A round that is paced may take longer
    /// than the time to the next one, which then waits for it.
    pub(super) fn step(&mut self, book: &mut Book) -> bool {
        let now = Instant::now();
        if now >= self.next_look {
            self.look();
            self.next_look = now + LOOK_EVERY;
        }
        let begins = self.queue.is_empty() && now >= self.next_round;
        if begins {
            self.begin_round(book, now);
        }
        if now >= self.next_step {
            self.announce_some(book, now);
        }
        begins
    }

    fn begin_round(&mut self, book: &mut Book, now: Instant) {
        self.began = now;
        self.next_round = now + ANNOUNCE_EVERY;
        // Claims are told apart by their round.
        self.round = self.clock.tick().max(Tick(self.round.0 + 1));
        if let Some(untried) = &mut self.untried {
            untried.clear();
        }
        for (reference, entry) in book.iter_mut() {
            (entry.claimed, entry.queued) = (0, true);
            self.queue.push_back(Arc::clone(reference));
        }
    }

    fn announce_some(&mut self, book: &mut Book, now: Instant) {
        let mut begun = 0;
        for _ in 0..CHUNK {
            if begun >= BURST {
                break;
            }
            let Some(reference) = self.queue.pop_front() else { break };
            // Gone since it was queued.
            let Some(entry) = book.get_mut(&reference) else { continue };
            entry.queued = false;
            let first = entry.claimed == 0;
            let claim = Claim { round: self.round, hpas: entry.hpas - entry.claimed };
            let announced = self.announce.claim(&reference, claim);
            entry.claimed = entry.hpas;
            let before = entry.announced.replace(announced);
            self.known += usize::from(is_known(Some(announced)));
            self.known -= usize::from(is_known(before));
            self.unknown += usize::from(announced == Announced::Unknown);
            self.unknown -= usize::from(before == Some(Announced::Unknown));
            match announced {
                Announced::Waiting => {
                    begun += 1;
                    if let Some(untried) = self.untried.as_mut().filter(|_| first) {
                        untried.push(reference);
                    }
                }
                Announced::Unknown if before != Some(announced) => {
                    tracing::debug!(%reference, "an HPA refers to a metric that is not served here");
                }
                Announced::Unknown | Announced::Obscure | Announced::Tried => {}
            }
        }
        self.next_step = now + PACE * begun;
    }

    /// Drops references whose first fetches have ended, up to one for which that is not so.
    fn look(&mut self) {
        let look = Claim { round: self.round, hpas: 0 };
        while let Some(reference) = self.untried.as_ref().and_then(|untried| untried.last()) {
            if self.announce.claim(reference, look) == Announced::Waiting {
                return;
            }
            self.untried.as_mut().map(Vec::pop);
        }
    }
}

fn is_known(announced: Option<Announced>) -> bool {
    matches!(announced, Some(Announced::Waiting | Announced::Tried))
}

#[cfg(test)]
mod tests;
