//! What of a status is worth an Event.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::conditions::{
    ACCEPTED, NO_DATA_AS_ZERO, NOT_SEEN_IN_NAMESPACE, PENDING, READY, SELECTOR_MATCHES_NOTHING,
    condition_of,
};
use super::readers::{Reader, Readers, TroubleKind};
use super::writer::has_status;
use crate::control::events::{About, Hpa, News};
use crate::definition::status::{Condition, MAX_HPAS, Status};
use crate::model::{DefinitionId, DefinitionKind, Tick};

/// What is still so is said again after this time where there is no status to say it: Kubernetes
/// forgets Events after an hour.
const REPEAT: Duration = Duration::from_mins(30);

/// What has been told about a resource.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Why it is not accepted.
    refused: Option<String>,
    /// Why it has no value.
    failing: Option<String>,
    /// That zero stands for no data.
    zero: bool,
    /// HPAs whose mistakes were told.
    mistaken: BTreeSet<Hpa>,
    at: Tick,
}

impl Told {
    /// What a status tells already.
    pub(super) fn by(status: Option<&Status>, now: Tick) -> Self {
        let Some(status) = status else { return Self { at: now, ..Self::default() } };
        let hpas = status.used_by.iter().flat_map(|used| &used.hpas).chain(&status.missed_by);
        let mistaken = hpas.filter(|hpa| hpa.problem.is_some());
        Self {
            refused: failed(status, ACCEPTED).map(|condition| condition.reason.clone()),
            failing: failing(status).map(|condition| condition.reason.clone()),
            zero: is_zero(status),
            mistaken: mistaken
                .map(|hpa| Hpa { namespace: (*hpa.namespace).into(), name: (*hpa.name).into() })
                .collect(),
            at: now,
        }
    }

    /// What is new in a status.
    pub(super) fn news(
        &mut self,
        id: &Arc<DefinitionId>,
        uid: &Arc<str>,
        status: &Status,
        readers: &Readers,
        now: Tick,
    ) -> Vec<News> {
        let mut all = Vec::new();
        let mut tell = |warning, reason, note: &str, related| {
            let about = About::Metric(Arc::clone(id), Arc::clone(uid));
            all.push(News { about, warning, reason, note: note.to_owned(), related });
        };
        if !has_status(id.kind) && now.since(self.at) >= REPEAT {
            *self = Self::by(None, now);
        }
        let refused = failed(status, ACCEPTED);
        let is_news =
            |before: &Option<String>, now: &Condition| before.as_deref() != Some(&*now.reason);
        if let Some(refused) = refused.filter(|refused| is_news(&self.refused, refused)) {
            tell(true, word(&refused.reason), &refused.message, None);
        }
        self.refused = refused.map(|refused| refused.reason.clone());

        let ready = condition_of(status, READY);
        match failing(status) {
            Some(failing) => {
                if is_news(&self.failing, failing) {
                    tell(true, word(&failing.reason), &failing.message, None);
                }
                self.failing = Some(failing.reason.clone());
            }
            None => match ready {
                Some(ready) if ready.status == "True" && self.failing.take().is_some() => {
                    tell(false, "Recovered", &ready.message, None);
                }
                // Nobody wants it any more; one that waits for its first answer may have failed before.
                Some(ready) if ready.status == "Unknown" && ready.reason != PENDING => {
                    self.failing = None;
                }
                _ => {}
            },
        }

        let zero = is_zero(status);
        if id.kind == DefinitionKind::AwsExternalMetric
            && zero
            && !self.zero
            && let Some(ready) = ready
        {
            tell(false, NO_DATA_AS_ZERO, &ready.message, None);
        }
        self.zero = zero;

        // Those of which the status tells; more than these get the same sentence anyway.
        let both = readers.used_by.iter().chain(&readers.missed_by).filter_map(mistake);
        let mut mistaken = BTreeSet::new();
        for (hpa, reason, note) in both.take(MAX_HPAS) {
            if !self.mistaken.contains(&hpa) {
                let note = format!("HPA {}/{}: {note}", hpa.namespace, hpa.name);
                tell(true, reason, &note, Some(hpa.clone()));
            }
            mistaken.insert(hpa);
        }
        self.mistaken = mistaken;
        if !all.is_empty() {
            self.at = now;
        }
        all
    }
}

/// What an HPA does wrong, if it does.
fn mistake(reader: &Reader) -> Option<(Hpa, &'static str, &str)> {
    let trouble = reader.problem.as_ref()?;
    let reason = match trouble.kind {
        TroubleKind::NotSeen => NOT_SEEN_IN_NAMESPACE,
        TroubleKind::NoMatch => SELECTOR_MATCHES_NOTHING,
        TroubleKind::NoValue => return None,
    };
    let (namespace, name) = (Arc::clone(&reader.namespace), Arc::clone(&reader.name));
    Some((Hpa { namespace, name }, reason, &trouble.message))
}

fn failed<'a>(status: &'a Status, r#type: &str) -> Option<&'a Condition> {
    condition_of(status, r#type).filter(|condition| condition.status == "False")
}

/// Not that it is not accepted: that is told by itself.
fn failing(status: &Status) -> Option<&Condition> {
    failed(status, READY).filter(|condition| condition.reason != "NotAccepted")
}

fn is_zero(status: &Status) -> bool {
    condition_of(status, READY).is_some_and(|ready| ready.reason == NO_DATA_AS_ZERO)
}

/// The reason of a condition as that of an Event: one of a fixed set.
fn word(reason: &str) -> &'static str {
    const WORDS: [&str; 14] = [
        "Invalid",
        "SourceNotFound",
        "NotAllowed",
        "TooExpensive",
        "LimitExceeded",
        "Conflict",
        "NoData",
        "Partial",
        "Denied",
        "Throttled",
        "Timeout",
        "Unavailable",
        "Malformed",
        "Stale",
    ];
    WORDS.into_iter().find(|word| *word == reason).unwrap_or("Failed")
}
