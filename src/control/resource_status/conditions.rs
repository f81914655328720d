//! What a resource's status says: a pure function of what is known.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::catalog::cells::CellOf;
use crate::catalog::{Conflict, Served};
use crate::control::declared::{Declared, Verdict};
use crate::control::resource_status::readers::{
    MAX_PROBLEM_CHARS, Reader, Readers, TroubleKind, cut,
};
use crate::control::resource_status::view::{self, Moment, Picture, Stand, is_about};
use crate::definition::status::{Condition, HpaReference, LastError, MAX_HPAS, Status, UsedBy};
use crate::model::{Entry, FetchError, Problem, ProblemKind, Scope};

/// The conditions' types, in the order in which they are written.
pub(super) const ACCEPTED: &str = "Accepted";
pub(super) const READY: &str = "Ready";
pub(super) const FRESH: &str = "Fresh";

/// The reasons of [`READY`] that others look for.
pub(super) const NO_DATA_AS_ZERO: &str = "NoDataAsZero";
pub(super) const NOT_USED: &str = "NotUsed";
pub(super) const USAGE_UNKNOWN: &str = "UsageUnknown";

/// The reasons of [`READY`], and of Events, for what HPAs do wrong.
pub(super) const SELECTOR_MATCHES_NOTHING: &str = "SelectorMatchesNothing";
pub(super) const NOT_SEEN_IN_NAMESPACE: &str = "NotSeenInNamespace";
pub(super) const PENDING: &str = "Pending";

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

/// Most problems of a definition that a message lists.
const MAX_PROBLEMS: usize = 5;

/// Longest message of a condition, in characters. Kubernetes allows 32,768; `kubectl describe` prints
/// it on one line.
const MAX_MESSAGE_CHARS: usize = 2000;

/// What is known of a resource at one moment.
pub(super) struct Facts<'a> {
    pub(super) declared: &'a Declared,
    /// The definition of its name that is served: its own, or an earlier version of it.
    pub(super) served: Option<&'a Served>,
    /// Why it is not served, or not everywhere.
    pub(super) conflict: Option<&'a Conflict>,
    pub(super) cells: &'a [CellOf],
    /// None while it is not known who reads.
    pub(super) readers: Option<&'a Readers>,
    pub(super) now: Moment,
}

/// The status that a resource is to have, given the one that it has.
pub(super) fn status(facts: &Facts<'_>, previous: Option<&Status>) -> Status {
    let entry = facts.served.map(|served| &*served.entry);
    let used_by = facts.readers.map(|readers| &readers.used_by[..]);
    let reader = used_by.and_then(view::namespace_of).map(|namespace| &**namespace);
    let picture = entry.map(|entry| {
        let (reason, message) = idle(entry, facts.readers);
        (reason, view::look(entry, facts.cells, reader, facts.now, message))
    });
    let accepted = accepted(facts);
    let (ready, fresh) = match &picture {
        Some((idle, picture)) => (ready(picture, idle), fresh(picture, idle)),
        None => not_accepted(),
    };
    let writer = Writer { facts, previous };
    let conditions = vec![
        writer.condition(ACCEPTED, &accepted),
        writer.condition(READY, &ready),
        writer.condition(FRESH, &fresh),
    ];
    let mut status = Status {
        observed_generation: facts.declared.generation,
        conditions,
        metric: entry.map(|entry| entry.metric.to_string()),
        source: entry.map(view::source),
        used_by: used_by.map(|readers| self::used_by(readers, &ready.message)),
        missed_by: facts.readers.map_or_else(Vec::new, |readers| {
            readers.missed_by.iter().take(MAX_HPAS).map(Reader::told).collect()
        }),
        ..Status::default()
    };
    if let Some((_, picture)) = picture {
        status.last_error = writer.last_error(&picture);
        status.value = picture.value;
        status.current = picture.current;
        status.sampled_at = picture.sampled.map(written);
        status.next_refresh = picture.next_refresh.map(written);
    }
    status
}

/// A condition without its times.
struct Said {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn accepted(facts: &Facts<'_>) -> Said {
    match (&facts.declared.verdict, facts.conflict) {
        (Verdict::Refused { problems, last_good_stays }, _) => {
            let shown = problems.iter().take(MAX_PROBLEMS).map(|problem| {
                let Problem { field, message, .. } = problem;
                if field.is_empty() { message.clone() } else { format!("{field}: {message}") }
            });
            let mut message = shown.collect::<Vec<_>>().join("; ");
            if problems.len() > MAX_PROBLEMS {
                let _ = write!(message, "; and {} more", problems.len() - MAX_PROBLEMS);
            }
            if *last_good_stays {
                message.push_str("; the version before it stays in force");
            }
            Said { status: FALSE, reason: ProblemKind::of_all(problems).as_str(), message }
        }
        (Verdict::Accepted, Some(conflict)) if conflict.total => {
            Said { status: FALSE, reason: ProblemKind::Conflict.as_str(), message: told(conflict) }
        }
        (Verdict::Accepted, conflict) => Said {
            status: TRUE,
            reason: "Valid",
            message: conflict.map_or_else(|| "the definition is in force".to_owned(), told),
        },
    }
}

fn told(conflict: &Conflict) -> String {
    let what = match &conflict.resource {
        Some(resource) => format!("metric {} of {resource}", conflict.metric),
        None => format!("metric {} with the same labels", conflict.metric),
    };
    let extent = if conflict.total {
        "goes before this one, which is served nowhere"
    } else {
        "goes before this one where both are seen"
    };
    format!("{} ({}) defines {what}, and {extent}", conflict.winner, conflict.winner_origin)
}

fn not_accepted() -> (Said, Said) {
    let said = |status| Said {
        status,
        reason: "NotAccepted",
        message: format!("it is not served; the condition {ACCEPTED} tells why"),
    };
    (said(FALSE), said(UNKNOWN))
}

/// Why nobody asks the source, as the reason of a condition and in a sentence.
fn idle(entry: &Entry, readers: Option<&Readers>) -> (&'static str, String) {
    let Some(Readers { used_by, missed_by }) = readers else {
        return (
            USAGE_UNKNOWN,
            view::not_asked(
                entry,
                "nobody has read it lately, and whether an \
            HPA refers to it is not known, because HPAs cannot be listed and watched (see \
            ClusterRole tidepole in the manifests)",
            ),
        );
    };
    let in_vain = |reader: &Reader| {
        let Reader { namespace, name, problem } = reader;
        let problem = problem.as_ref().map_or("", |problem| &problem.message);
        view::not_asked(entry, &format!("HPA {namespace}/{name} asks for it in vain: {problem}"))
    };
    let is_of = |reader: &&Reader, kind| reader.problem.as_ref().is_some_and(|p| p.kind == kind);
    if let Some(reader) = used_by.iter().find(|reader| is_of(reader, TroubleKind::NoMatch)) {
        (SELECTOR_MATCHES_NOTHING, in_vain(reader))
    } else if let Some(Reader { namespace, name, .. }) = used_by.first() {
        let source = entry.query.source();
        let message = format!(
            "{}: HPA {namespace}/{name} refers to it, and source {source} is about to be asked",
            entry.metric
        );
        (PENDING, message)
    } else if let Some(reader) = missed_by.first() {
        let message = match &entry.scope {
            Scope::Namespace(own) => {
                let Reader { namespace, name, .. } = reader;
                let why = format!(
                    "HPA {namespace}/{name} asks for it in vain, because it is seen in namespace \
                     {own} alone"
                );
                view::not_asked(entry, &why)
            }
            Scope::All | Scope::Listed(_) | Scope::Selected(_) => in_vain(reader),
        };
        (NOT_SEEN_IN_NAMESPACE, message)
    } else {
        (NOT_USED, view::not_asked(entry, "no HPA refers to it and nobody has read it lately"))
    }
}

fn ready(picture: &Picture, idle: &'static str) -> Said {
    let (status, reason) = match picture.stand {
        Stand::Idle => (UNKNOWN, idle),
        Stand::Pending => (UNKNOWN, PENDING),
        Stand::Serving => (TRUE, "Serving"),
        Stand::Chosen { zero: true, .. } => (TRUE, NO_DATA_AS_ZERO),
        Stand::Chosen { zero: false, .. } => (TRUE, "NoDataAsNumber"),
        Stand::Held { .. } => (TRUE, "ServingHeld"),
        Stand::Failing { trouble } => (FALSE, word(trouble)),
    };
    Said { status, reason, message: picture.message.clone() }
}

fn fresh(picture: &Picture, idle: &'static str) -> Said {
    let said = |status, reason, message: &str| Said { status, reason, message: message.to_owned() };
    match picture.stand {
        Stand::Idle => said(UNKNOWN, idle, "the source is not asked, so there is no sample"),
        Stand::Pending => said(UNKNOWN, PENDING, "there is no sample yet"),
        Stand::Serving => said(TRUE, "Fresh", "the newest answer is served, within maxAge"),
        Stand::Chosen { trouble: "", .. } => {
            said(TRUE, "Fresh", "the newest answer, that there is no datapoint, is within maxAge")
        }
        Stand::Chosen { trouble, .. } | Stand::Held { trouble } => {
            said(FALSE, word(trouble), "the newest answer has no value; an earlier one is served")
        }
        Stand::Failing { trouble } => {
            said(FALSE, word(trouble), "there is no value within maxAge that may be served")
        }
    }
}

/// The reason of a kind of trouble ([`FetchError::kind`] and `cache::STALE`).
fn word(kind: &str) -> &'static str {
    match kind {
        FetchError::NO_DATA => "NoData",
        "partial" => "Partial",
        "denied" => "Denied",
        "throttled" => "Throttled",
        "timeout" => "Timeout",
        "malformed" => "Malformed",
        "invalid" => "Invalid",
        crate::cache::STALE => "Stale",
        _ => "Unavailable",
    }
}

fn used_by(readers: &[Reader], ready: &str) -> UsedBy {
    // What is wrong with the metric itself stands in its condition.
    let said = cut(ready, MAX_PROBLEM_CHARS);
    let told = |reader: &Reader| {
        let mut told = reader.told();
        told.problem = told.problem.filter(|problem| *problem != said);
        told
    };
    UsedBy {
        count: u32::try_from(readers.len()).unwrap_or(u32::MAX),
        hpas: readers.iter().take(MAX_HPAS).map(told).collect::<Vec<HpaReference>>(),
    }
}

/// A time as statuses have it: whole seconds.
fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

struct Writer<'a> {
    facts: &'a Facts<'a>,
    previous: Option<&'a Status>,
}

impl Writer<'_> {
    fn condition(&self, r#type: &str, said: &Said) -> Condition {
        let before = self.previous.and_then(|previous| condition_of(previous, r#type));
        let since = before
            .filter(|before| {
                before.status == said.status && !before.last_transition_time.is_empty()
            })
            .map(|before| before.last_transition_time.clone());
        Condition {
            r#type: r#type.to_owned(),
            status: said.status.to_owned(),
            reason: said.reason.to_owned(),
            message: cut(&said.message, MAX_MESSAGE_CHARS),
            last_transition_time: since.unwrap_or_else(|| written(self.facts.now.timestamp)),
            observed_generation: self.facts.declared.generation,
        }
    }

    fn last_error(&self, picture: &Picture) -> Option<LastError> {
        let (kind, message, at) = picture.trouble.as_ref()?;
        let mut told =
            LastError { reason: word(kind).to_owned(), message: message.clone(), at: written(*at) };
        let before = self.previous.and_then(|previous| previous.last_error.as_ref());
        if let Some(before) = before.filter(|before| is_about(&before.at, &told.at)) {
            told.at.clone_from(&before.at);
        }
        Some(told)
    }
}

/// A condition of a status.
pub(super) fn condition_of<'a>(status: &'a Status, r#type: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.r#type == r#type)
}

/// Whether a status says that the definition is not accepted.
pub(super) fn is_refused(status: &Status) -> bool {
    condition_of(status, ACCEPTED).is_some_and(|condition| condition.status == FALSE)
}

/// What of a status is told at once when it changes: all but values, times and wordings.
pub(super) fn gist(status: &Status) -> Gist {
    let condition = |condition: &Condition| {
        let Condition { r#type, status, reason, message, .. } = condition;
        // What is wrong with a definition is not a matter of moments.
        let message = if r#type == ACCEPTED { message.clone() } else { String::new() };
        (r#type.clone(), status.clone(), reason.clone(), message)
    };
    let readers = |readers: &[HpaReference]| {
        let told =
            |hpa: &HpaReference| (hpa.namespace.clone(), hpa.name.clone(), hpa.problem.is_some());
        readers.iter().map(told).collect()
    };
    let used_by = status.used_by.as_ref();
    Gist {
        generation: status.observed_generation,
        conditions: status.conditions.iter().map(condition).collect(),
        used_by: used_by.map(|used| readers(&used.hpas)).unwrap_or_default(),
        missed_by: readers(&status.missed_by),
    }
}

type Told = (String, String, bool);

/// See [`gist`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gist {
    generation: i64,
    conditions: Vec<(String, String, String, String)>,
    used_by: Vec<Told>,
    missed_by: Vec<Told>,
}

#[cfg(test)]
mod tests;
