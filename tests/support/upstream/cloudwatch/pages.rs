//! Answers in pages, and what the fake does to them on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Reply;
use super::call::Call;
use super::wire::{self, Output, WireMessage, WireResult};

/// Datapoints on one page; there may be no more ("the default of 100,800 is used").
const MAX_DATAPOINTS: usize = 100_800;
/// Answers whose remaining pages are kept.
const MAX_OPEN: usize = 64;

/// How answers are cut into pages, beside the client's own `MaxDatapoints`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging {
    /// Series on one page.
    pub results: Option<usize>,
    /// Datapoints on one page.
    pub datapoints: Option<usize>,
    /// Whether series of later pages are on the earlier ones too, empty and with the status
    /// `PartialData`.
    pub announce: bool,
}

/// One series of an answer, in the order asked.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) points: Vec<(i64, f64)>,
    pub(super) status: String,
    pub(super) messages: Vec<(String, String)>,
}

/// The answers that are not finished, by token.
#[derive(Default)]
pub(super) struct Open {
    next: u64,
    rest: BTreeMap<String, (Call, Arc<[Answered]>, Position)>,
}

/// The next series to send, and how many of its datapoints are sent.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    series: usize,
    point: usize,
}

impl Open {
    /// The first page.
    pub(super) fn first(
        &mut self,
        call: &Call,
        answer: Vec<Answered>,
        paging: Paging,
        messages: &[(String, String)],
    ) -> Reply {
        self.page(call, &answer.into(), Position::default(), paging, messages)
    }

    /// A later page; none if the token is not of this answer.
    pub(super) fn next(&mut self, call: &Call, token: &str, paging: Paging) -> Option<Reply> {
        let (asked, answer, position) = self.rest.get(token).cloned()?;
        let same = asked.queries == call.queries
            && (asked.start, asked.end) == (call.start, call.end)
            && asked.scan_by == call.scan_by
            && asked.max_datapoints == call.max_datapoints;
        same.then(|| self.page(call, &answer, position, paging, &[]))
    }

    fn page(
        &mut self,
        call: &Call,
        answer: &Arc<[Answered]>,
        from: Position,
        paging: Paging,
        messages: &[(String, String)],
    ) -> Reply {
        let most = call.max_datapoints.and_then(|most| usize::try_from(most).ok());
        let mut datapoints =
            most.unwrap_or(usize::MAX).min(paging.datapoints.unwrap_or(usize::MAX));
        let mut room = paging.results.unwrap_or(usize::MAX);
        let mut results = Vec::new();
        let mut at = from;
        while let Some(series) = answer.get(at.series).filter(|_| room > 0) {
            let left = &series.points[at.point..];
            if datapoints == 0 && !left.is_empty() {
                break;
            }
            let taken = left.len().min(datapoints);
            let complete = taken == left.len();
            results.push(result(series, &left[..taken], complete));
            datapoints -= taken;
            room -= 1;
            if !complete {
                at.point += taken;
                break;
            }
            at = Position { series: at.series + 1, point: 0 };
        }
        let next_token = (at.series < answer.len()).then(|| {
            self.next += 1;
            let token = format!("page-{}", self.next);
            if self.rest.len() >= MAX_OPEN {
                self.rest.pop_first();
            }
            self.rest.insert(token.clone(), (call.clone(), Arc::clone(answer), at));
            token
        });
        if paging.announce {
            let shown = results.len() + from.series;
            results.extend(answer.iter().skip(shown).map(|series| result(series, &[], false)));
        }
        let messages = messages.iter().map(message).collect();
        wire::answer(&Output { metric_data_results: results, next_token, messages })
    }
}

fn result<'a>(series: &'a Answered, points: &[(i64, f64)], complete: bool) -> WireResult<'a> {
    let partial = !complete && series.status == "Complete";
    WireResult {
        id: &series.id,
        label: &series.label,
        timestamps: points.iter().map(|(at, _)| wire::time(*at)).collect(),
        values: points.iter().map(|(_, value)| *value).collect(),
        status_code: if partial { "PartialData" } else { &series.status },
        messages: series.messages.iter().map(message).collect(),
    }
}

fn message((code, value): &(String, String)) -> WireMessage<'_> {
    WireMessage { code, value }
}
