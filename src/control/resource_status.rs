//! The status of metric resources: what became of each, what it gives, and who reads it.
//!
//! Responsible for: what a status says (`conditions`, pure), when it is written and what goes first
//! (`pace`, `ledger`), writing it (`writer`), and what of it is worth an Event (`news`).
//! Not responsible for: seeing resources (`declared`), who writes of several replicas (`lease`), how
//! Events are published (`events`).
//!
//! A user who asks why an HPA has no value finds the answer in the status of the metric: that it is
//! refused, conflicts, has no data, is denied, is too old, that the selector of an HPA matches no
//! series, or that an HPA asks for it where it is not seen.
//!
//! Invariants: only the holder of the lease writes; the API server sees at most ten writes a second of
//! statuses and Events, conditions first; a status that is as it should be is not written, neither
//! after a start nor when another replica takes over; a write that fails is made again, ever less
//! often, and costs one line in the log.

mod conditions;
mod ledger;
mod metrics;
mod news;
mod pace;
mod readers;
mod view;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use crate::cache::OnDemand;
use crate::catalog::Catalog;
use crate::control::declared::Board;
use crate::control::events::{EventSettings, Events};
use crate::control::hpa_watch::Usage;
use crate::control::lease::Lease;
use crate::model::{Clock, DefinitionId, Foresee, Tick};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;
use ledger::{Ledger, SETTLES};
use metrics::StatusMetrics;
use pace::{Cause, Slots};
use view::Moment;
pub(in crate::control) use writer::resource as api_resource;
use writer::{Ended, Outcome, Writer};

/// How often everything is looked at: a change of a condition is told within this and the time that
/// a write takes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is declared, used or served otherwise is looked at sooner, but no more often than this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// The pause after a failed write, if the API server names none; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: somebody who grants the permission sees it used within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Something that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Status(Cause),
    Event,
}

/// What goes first when nothing else counts.
const ORDER: [Kind; 4] = [
    Kind::Status(Cause::Verdict),
    Kind::Status(Cause::Condition),
    Kind::Event,
    Kind::Status(Cause::Value),
];

/// Whose turn the ten writes of a second are: a tenant who edits refused resources all the time, or
/// whose metrics fail and recover all the time, takes no more of it than the share of that.
const FIRST: [Kind; 10] = {
    let [verdict, condition, event, value] = ORDER;
    [verdict, condition, verdict, event, verdict, condition, verdict, value, verdict, condition]
};

/// What a status is made of.
#[derive(Clone)]
pub struct Parts {
    /// The resources.
    pub board: Arc<Board>,
    /// What is served.
    pub catalog: Arc<Catalog>,
    /// The cells of queries that depend on the request.
    pub on_demand: Arc<OnDemand>,
    /// What HPAs refer to.
    pub usage: Arc<Usage>,
    /// What they would get.
    pub foresee: Arc<dyn Foresee>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which Events there are.
    pub events: EventSettings,
}

/// Writes the status of metric resources, and Events, while it holds the lease.
pub struct ResourceStatus {
    lease: Lease,
    work: Work,
}

struct Work {
    parts: Parts,
    writer: Writer,
    events: Events,
    metrics: StatusMetrics,
    /// When what is not known yet counts as absent.
    settled: Tick,
    /// Failed writes in a row.
    failures: u32,
    /// Of [`FIRST`].
    turn: usize,
}

impl ResourceStatus {
    /// A writer that waits for `lease`. `pod` is who publishes Events.
    #[must_use]
    pub fn new(
        client: Client,
        parts: Parts,
        lease: Lease,
        pod: &str,
        telemetry: &Telemetry,
    ) -> Self {
        let settled = parts.clock.tick().after(SETTLES);
        let work = Work {
            parts,
            writer: Writer::new(client.clone()),
            events: Events::new(client, pod, telemetry),
            metrics: StatusMetrics::register(telemetry),
            settled,
            failures: 0,
            turn: 0,
        };
        Self { lease, work }
    }

    /// Starts it. The lease is given back when `tasks` stop.
    pub fn start(self, tasks: &TaskSet) {
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("status of metric resources", async move {
            self.run(shutdown.cancelled()).await;
        });
    }

    /// Works until `stop`, then gives the lease back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let held = self.lease.held();
        let (lease, work) = (&mut self.lease, &mut self.work);
        tokio::select! {
            () = stop => {}
            () = lease.hold() => {}
            () = work.whenever(held) => {}
        }
        self.lease.release().await;
    }
}

impl fmt::Debug for ResourceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceStatus").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Work {
    /// Works whenever the lease is held.
    async fn whenever(&mut self, mut held: watch::Receiver<bool>) {
        loop {
            if held.wait_for(|held| *held).await.is_err() {
                // The lease lives as long as this.
                std::future::pending::<()>().await;
            }
            self.lead(&mut held).await;
            self.events.clear();
            self.metrics.pending(0);
        }
    }

    /// Works as long as the lease is held.
    async fn lead(&mut self, held: &mut watch::Receiver<bool>) {
        let mut ledger = Ledger::new(self.settled);
        let mut changes = [
            self.parts.board.subscribe(),
            self.parts.usage.subscribe(),
            self.parts.catalog.subscribe(),
        ];
        let begin = self.now().tick;
        let (mut slots, mut next_look) = (Slots::new(begin), begin);
        while *held.borrow() {
            let now = self.now();
            if now.tick >= next_look {
                for changes in &mut changes {
                    changes.mark_unchanged();
                }
                let news = ledger.pass(&self.parts, now).await;
                for news in news {
                    self.events.tell(news, now.tick);
                }
                next_look = self.now().tick.after(LOOK_EVERY);
            }
            let wrote = self.write(&mut ledger, &mut slots).await;
            self.metrics.pending(ledger.queue.len());
            if wrote {
                continue;
            }
            let waits = ledger.queue.len() > 0;
            let slot = waits.then(|| slots.next());
            let event = self.events.next().map(|event| event.max(slots.next()));
            let wake = [slot, event].into_iter().flatten().fold(next_look, Tick::min);
            let pause = wake.since(self.now().tick);
            let soonest = now.tick.after(LOOK_AGAIN_AFTER);
            tokio::select! {
                _ = held.changed() => {}
                () = tokio::time::sleep(pause) => {}
                () = any(&mut changes) => next_look = next_look.min(soonest),
            }
        }
    }

    /// Writes what goes first, if something may be written. True when it is worth another try at once.
    async fn write(&mut self, ledger: &mut Ledger, slots: &mut Slots) -> bool {
        let now = self.now();
        if slots.next() > now.tick {
            return false;
        }
        let first = FIRST[self.turn];
        self.turn = (self.turn + 1) % FIRST.len();
        for kind in [first].into_iter().chain(ORDER) {
            let Kind::Status(cause) = kind else {
                if self.events.next().is_some_and(|next| next <= now.tick) {
                    slots.take(now.tick);
                    self.events.publish(now.tick).await;
                    return true;
                }
                continue;
            };
            if let Some(id) = ledger.queue.pop(cause) {
                self.write_status(ledger, slots, &id, cause).await;
                return true;
            }
        }
        false
    }

    async fn write_status(
        &mut self,
        ledger: &mut Ledger,
        slots: &mut Slots,
        id: &Arc<DefinitionId>,
        cause: Cause,
    ) {
        let now = self.now();
        let Some(writing) = ledger.to_write(id, now) else {
            tokio::task::yield_now().await;
            return;
        };
        slots.take(now.tick);
        let ended = self.writer.write(id, &writing.uid, &writing.status).await;
        self.metrics.wrote(ended.outcome);
        let now = self.now().tick;
        self.judge(id, &ended, slots, now);
        ledger.wrote(id, cause, writing.status, ended.outcome, now);
    }

    /// Says what is to be said about the end of a write, and leaves the API server alone if it asks for
    /// that.
    fn judge(&mut self, id: &DefinitionId, ended: &Ended, slots: &mut Slots, now: Tick) {
        let Ended { outcome, cause, retry_after } = ended;
        if !outcome.is_general() {
            if std::mem::take(&mut self.failures) > 0 {
                tracing::info!("the status of metric resources can be written again");
            }
            match outcome {
                Outcome::Refused => {
                    tracing::warn!(resource = id.resource_path(), cause, "its status is refused");
                }
                Outcome::Gone | Outcome::Conflict => {
                    tracing::debug!(
                        resource = id.resource_path(),
                        cause,
                        "its status has no object"
                    );
                }
                _ => {}
            }
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        // Replicas that lost the same API server do not come back together.
        let pause = pause.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        slots.rest(now, retry_after.map_or(pause, |asked| asked.max(pause)).min(LONGEST_PAUSE));
        if self.failures == 0 {
            tracing::warn!(
                cause,
                outcome = outcome.as_str(),
                "the status of metric resources cannot be written, which loses nothing else; it \
                 takes patch on the resources' status (see ClusterRole tidepole in the manifests)"
            );
        } else {
            tracing::debug!(cause, "the status of metric resources still cannot be written");
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn now(&self) -> Moment {
        let clock = &self.parts.clock;
        Moment { timestamp: clock.now(), tick: clock.tick() }
    }
}

/// Ends when one of them has changed. Only of those that still can.
async fn any(changes: &mut [watch::Receiver<u64>]) {
    let changes = changes.iter_mut().map(|changes| {
        Box::pin(async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    futures::future::select_all(changes).await;
}

#[cfg(test)]
pub(in crate::control) mod testing;
#[cfg(test)]
mod tests;
