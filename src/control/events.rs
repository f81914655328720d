//! Events: what happened to a metric, where `kubectl describe` shows it.
//!
//! Responsible for: how many there are, and publishing them. Not responsible for: what is worth one
//! (`resource_status`).
//!
//! Best effort: what is the case stands in a resource's status. Invariants: no object gets more than
//! [`BURST`] and then one every [`REFILL`]; all objects together get no more than one a second; what
//! repeats is one Event with a count (`kube`'s recorder); the queue is bounded.

mod budget;
mod metrics;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::control::lease::SAFE_CALL;
use crate::model::{DefinitionId, Tick};
use crate::telemetry::Telemetry;
use budget::Budget;
pub use budget::{BURST, REFILL};
use metrics::EventMetrics;
pub(in crate::control) use metrics::Outcome;
use turns::Turns;

/// Who publishes, as `kubectl describe` shows it under `From`.
const CONTROLLER: &str = "tidepole";

/// Most that wait. More than these happen only when everything fails at once, and then each says the
/// same.
const MAX_WAITING: usize = 256;

/// Notes that are remembered: the recorder counts what repeats within six minutes, and in that time no
/// more than 360 Events are published.
const MAX_NOTES: usize = 512;

/// Longest note of an Event, in bytes: Kubernetes refuses more than 1024.
const MAX_NOTE_BYTES: usize = 1000;

/// After a refusal nothing is published for this time: somebody who grants the permission sees it
/// used soon, and the API server hears little from us until then.
const REST: Duration = Duration::from_mins(1);

/// What people can set about Events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSettings {
    /// Whether HPAs get Events, too. Default false: the HPA controller says most of it itself.
    pub hpas: bool,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) enum About {
    /// A metric resource and its uid.
    Metric(Arc<DefinitionId>, Arc<str>),
    /// An HPA.
    Hpa(Hpa),
}

/// An HPA by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::control) struct Hpa {
    pub(in crate::control) namespace: Arc<str>,
    pub(in crate::control) name: Arc<str>,
}

/// Something that is worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct News {
    pub(in crate::control) about: About,
    /// Whether somebody should have a look.
    pub(in crate::control) warning: bool,
    pub(in crate::control) reason: &'static str,
    pub(in crate::control) note: String,
    /// The HPA that it is about as well.
    pub(in crate::control) related: Option<Hpa>,
}

/// What makes an Event the same as another one, for the recorder.
type Key = (About, &'static str, Option<Hpa>);

/// What waits to be published, and who publishes it.
pub(in crate::control) struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
    /// The notes that the recorder repeats.
    notes: HashMap<Key, String>,
    waiting: VecDeque<News>,
    turns: Turns,
    budget: Budget,
    rests_until: Tick,
    refused: bool,
    metrics: EventMetrics,
}

impl Events {
    pub(in crate::control) fn new(client: Client, pod: &str, telemetry: &Telemetry) -> Self {
        let reporter = Reporter { controller: CONTROLLER.into(), instance: Some(pod.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter.clone()),
            reporter,
            notes: HashMap::new(),
            client,
            waiting: VecDeque::new(),
            turns: Turns::default(),
            budget: Budget::default(),
            rests_until: Tick(0),
            refused: false,
            metrics: EventMetrics::register(telemetry),
        }
    }

    /// Takes something in, unless its object has had enough.
    pub(in crate::control) fn tell(&mut self, news: News, now: Tick) {
        if !self.budget.spend(&news.about, now) {
            self.metrics.count(Outcome::Suppressed);
            return;
        }
        self.waiting.push_back(news);
        if self.waiting.len() > MAX_WAITING {
            turns::drop_one(&mut self.waiting);
            self.metrics.count(Outcome::Suppressed);
        }
    }

    /// Forgets what waits: somebody else publishes.
    pub(in crate::control) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// When the next one may be published, if any waits.
    pub(in crate::control) fn next(&self) -> Option<Tick> {
        let waits = !self.waiting.is_empty();
        waits.then(|| self.budget.next().max(self.rests_until))
    }

    /// Publishes the first that waits.
    pub(in crate::control) async fn publish(&mut self, now: Tick) {
        let Some(news) = self.turns.take_next(&mut self.waiting) else { return };
        let repeats = self.note(&news);
        let outcome = match timeout(SAFE_CALL, self.send(&news)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) if is_about_namespace(&error) => Outcome::Suppressed,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && repeats => {
                // Somebody has deleted the Event that this one repeats: it is made anew.
                self.forget();
                self.waiting.push_front(news);
                Outcome::Failed
            }
            Ok(Err(error)) => {
                self.failed(&error, now);
                Outcome::Failed
            }
            Err(_) => {
                tracing::debug!("an Event was not published: no answer within {SAFE_CALL:?}");
                Outcome::Failed
            }
        };
        // What was deleted meanwhile, a whole crowd of HPAs it may be, holds up nobody.
        if outcome != Outcome::Suppressed {
            self.budget.published(now);
        }
        if outcome == Outcome::Published && std::mem::take(&mut self.refused) {
            tracing::info!("Events can be published again");
        }
        self.metrics.count(outcome);
    }

    /// `kube`'s recorder tells what happens again in the words of the first time, whatever is the case
    /// now. For other words another recorder is taken, which counts anew. True when the recorder may
    /// repeat an Event that is there.
    fn note(&mut self, news: &News) -> bool {
        let key = (news.about.clone(), news.reason, news.related.clone());
        let before = self.notes.get(&key);
        let repeats = before.is_some_and(|note| *note == news.note);
        if before.is_some() && !repeats || self.notes.len() >= MAX_NOTES {
            self.forget();
        }
        self.notes.insert(key, news.note.clone());
        repeats
    }

    /// Takes another recorder, which counts anew.
    fn forget(&mut self) {
        self.notes.clear();
        self.recorder = Recorder::new(self.client.clone(), self.reporter.clone());
    }

    async fn send(&self, news: &News) -> Result<Outcome, kube::Error> {
        let regarding = match &news.about {
            About::Metric(id, uid) => reference(id, uid),
            // `kubectl describe` looks for Events by uid as well.
            About::Hpa(hpa) => {
                let hpas: Api<HorizontalPodAutoscaler> =
                    Api::namespaced(self.client.clone(), &hpa.namespace);
                match hpas.get_metadata(&hpa.name).await {
                    Ok(found) => ObjectReference { uid: found.metadata.uid, ..hpa_reference(hpa) },
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        return Ok(Outcome::Suppressed);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let event = Event {
            type_: if news.warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.to_owned(),
            note: Some(bounded(&news.note)),
            action: "Observe".to_owned(),
            secondary: news.related.as_ref().map(hpa_reference),
        };
        self.recorder.publish(&event, &regarding).await?;
        Ok(Outcome::Published)
    }

    fn failed(&mut self, error: &kube::Error, now: Tick) {
        let refused = matches!(error, kube::Error::Api(status) if status.code == 403);
        if refused || !matches!(error, kube::Error::Api(_)) {
            self.rests_until = now.after(REST);
        }
        if refused && !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                cause = %error,
                "Events cannot be published, which loses nothing else. Grant create and patch on \
                 events.events.k8s.io"
            );
        } else {
            tracing::debug!(%error, "an Event was not published");
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// Whether the Event is refused because its namespace is being deleted, or is gone: nobody is going to
/// look there, and others' Events are not concerned. The cause is `NamespaceTerminatingCause` of
/// Kubernetes' API.
fn is_about_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let kind = status.details.as_ref().map(|details| &*details.kind);
    status.code == 404 && kind == Some("namespaces")
        || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn reference(id: &DefinitionId, uid: &str) -> ObjectReference {
    let kind = crate::control::resource_status::api_resource(id.kind);
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        namespace: id.namespace.as_deref().map(str::to_owned),
        name: Some(id.name.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn hpa_reference(hpa: &Hpa) -> ObjectReference {
    ObjectReference {
        api_version: Some("autoscaling/v2".to_owned()),
        kind: Some("HorizontalPodAutoscaler".to_owned()),
        namespace: Some(hpa.namespace.to_string()),
        name: Some(hpa.name.to_string()),
        ..ObjectReference::default()
    }
}

fn bounded(note: &str) -> String {
    let mut end = note.len().min(MAX_NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    if end < note.len() { format!("{}…", &note[..end]) } else { note.to_owned() }
}

#[cfg(test)]
mod tests;
