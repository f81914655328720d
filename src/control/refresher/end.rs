//! What the end of a fetch changes: how its queries stand, when they start next, and who is told when
//! an upstream's breaker opens or closes.

use super::job::{Ended, Verdict};
use super::lanes::LaneId;
use super::{Engine, apart, bid};
use crate::control::protection::Change;
use crate::control::schedule::moment::Moment;
use crate::control::schedule::{self, Id, Stage, Standing};
use crate::model::Tick;

impl Engine {
    /// Takes in the end of a fetch.
    pub(super) fn note_end(&mut self, end: Ended) {
        self.note_change();
        let meaning = self.lanes.ended(end.lane, end.ran, end.started, &end.health);
        let now = self.moments.look(&*self.clock);
        for (id, verdict) in end.verdicts {
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            slot.stage = Stage::Idle;
            let missed = std::mem::take(&mut slot.missed).then_some(slot.since);
            if missed.is_none() && verdict == Verdict::Answered {
                slot.note_duration(now.tick.since(slot.since));
            }
            let again = self.try_again(id, verdict, now.tick);
            if let Some(start) = self.judge(id, verdict, meaning.own, now).or(missed).or(again) {
                self.schedule.set_due(id, start);
            }
        }
        match meaning.change {
            Some(Change::Opened) => self.note_opened(end.lane),
            Some(Change::Closed) => self.note_closed(end.lane, now.tick),
            None => {}
        }
    }

    /// The next start of a query on a beat whose call failed, when that is before its next bucket:
    /// no datapoint was had, so none is asked for twice, and a bucket may be an hour. All queries of
    /// a call meet again.
    fn try_again(&mut self, id: Id, verdict: Verdict, now: Tick) -> Option<Tick> {
        let slot = self.schedule.get_mut(id)?;
        let on_beat = self.lanes.route(slot.route).beat.is_some();
        let state = slot.cell.state();
        let pause = apart::after_failures(state.failures(), state.is_throttled());
        let start = now.after(pause);
        (verdict == Verdict::Failed && on_beat && start < slot.due).then_some(start)
    }

    /// Sets a query apart, or takes it back among the others. Gives its next start where that
    /// changes. `own`: a failure is the query's, not its upstream's.
    fn judge(&mut self, id: Id, verdict: Verdict, own: bool, now: Moment) -> Option<Tick> {
        let slot = self.schedule.get_mut(id)?;
        let route = self.lanes.route(slot.route);
        let before = slot.standing();
        match verdict {
            Verdict::Answered => (slot.refusals, slot.failures) = (0, 0),
            Verdict::Refused if route.shares_calls() => {
                slot.refusals = slot.refusals.saturating_add(1);
            }
            Verdict::Refused | Verdict::Failed if own => {
                slot.failures = slot.failures.saturating_add(1);
            }
            Verdict::Refused | Verdict::Failed => {}
        }
        let after = slot.standing();
        if before != after {
            self.lanes.metrics(slot.route).stands(before, after);
        }
        let query = slot.cell.query();
        let (source, kind) = (query.source.as_str(), query.spec.kind());
        match (before, after) {
            (Standing::Fine, Standing::Fine) => None,
            (_, Standing::Refused) => {
                let refresh = slot.cell.refresh();
                let start = apart::retry_at(now.tick, query, refresh, slot.refusals);
                if before != Standing::Refused {
                    let pause = apart::pause(refresh, slot.refusals);
                    tracing::info!(
                        source,
                        kind,
                        definition = slot.cell.definition(),
                        query = query.spec.to_string(),
                        ?pause,
                        "a refused query is set apart"
                    );
                }
                slot.cell.set_apart(Some(start));
                Some(start)
            }
            (_, Standing::Failing) => {
                if before != Standing::Failing {
                    let pace = slot.pace();
                    tracing::info!(
                        source,
                        kind,
                        definition = slot.cell.definition(),
                        query = query.spec.to_string(),
                        ?pace,
                        "a query keeps failing and goes behind others"
                    );
                }
                slot.cell.set_apart(Some(slot.due));
                None
            }
            (_, Standing::Fine) => {
                slot.cell.set_apart(None);
                let next = schedule::following(slot, slot.since, now, route.beat);
                (next < slot.due).then_some(next)
            }
        }
    }

    /// An upstream's breaker has opened: whoever waits for it is told.
    fn note_opened(&mut self, lane: LaneId) {
        if let Some((refusal, upstream)) = self.lanes.refusal(lane)
            && let Some((source, _)) = self.lanes.names(lane)
        {
            let (source, cause) = (source.as_str(), refusal.error(""));
            tracing::warn!(
                source,
                upstream,
                cause = cause.to_string(),
                detail = cause.cause().detail(),
                "an upstream keeps failing and is left alone but for probes"
            );
        }
        for (id, ticket) in self.lanes.in_line(lane) {
            if self.schedule.waiting(id, ticket).is_some() {
                self.refuse(id);
            }
        }
    }

    /// An upstream's breaker has closed: whoever waits for it goes, the most recently read first.
    fn note_closed(&mut self, lane: LaneId, now: Tick) {
        if let Some((source, upstream)) = self.lanes.names(lane) {
            let source = source.as_str();
            tracing::info!(source, upstream, "an upstream answers again");
        }
        self.line_up(lane, Some(now));
    }

    /// Gives all who wait in a lane a new place in its line; as if they had come at `now`, if that
    /// is given.
    pub(super) fn line_up(&mut self, lane: LaneId, now: Option<Tick>) {
        for (id, ticket) in self.lanes.take_line(lane) {
            if self.schedule.waiting(id, ticket).is_none() {
                continue;
            }
            let Some(slot) = self.schedule.get_mut(id) else { continue };
            let bid = bid(id, slot, &self.lanes, now.unwrap_or(slot.since));
            slot.ticket = self.lanes.replace(slot.route, bid);
        }
    }
}
