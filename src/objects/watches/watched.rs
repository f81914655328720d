//! The watch of one resource.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::object::Object;
use super::{Registered, State};
use crate::objects::index::{Changes, Found, Index, Pair, Words};
use crate::objects::resources::api_of;
use crate::objects::said::said;

/// Objects per page of a listing: as client-go's (`k8s.io/client-go/tools/pager`).
const PAGE: u32 = 500;

/// How long a page of a listing may take.
const PAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long changes are collected before they are put into use together. A scale-up of a thousand
/// pods is a few new indexes, not a thousand; nobody decides anything in a tenth of a second.
const COLLECT: Duration = Duration::from_millis(100);

/// Changes are collected for at least this many times as long as it took to put the last ones into
/// use: however many pods of however large a namespace come and go, following them takes a tenth of
/// one thread at most.
const COLLECT_TIMES: u32 = 9;

/// But not for longer than this.
const COLLECT_AT_MOST: Duration = Duration::from_secs(1);

/// Collected changes that are put into use at once, so that their number has a bound.
const MOST_COLLECTED: usize = 10_000;

/// The pause after a first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: somebody who grants a permission sees it used within half a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A watch that has begun and not failed for this long stands: longer than a connection may take
/// (`runtime::kubernetes`). Where nothing changes, nothing else tells.
const STANDS_AFTER: Duration = Duration::from_secs(15);

/// How long objects stay in use that we are no longer allowed to see, or whose resource is gone. An
/// API server that just started may refuse what it will allow; but a list that is never renewed
/// must not choose objects for ever.
const REFUSED_AT_MOST: Duration = Duration::from_mins(5);

/// The task of one resource.
pub(super) struct Watcher {
    api: Api<Object>,
    place: Registered,
    words: Words,
    /// What readers see, if they see objects.
    index: Option<Index>,
    /// The listing that is under way.
    listing: Option<Listing>,
    /// Changes that readers do not see yet, their number, and when they will.
    changes: Changes,
    collected: usize,
    due: Instant,
    /// How long it took to put the last ones into use.
    took: Duration,
    pause: Duration,
    failing: bool,
    refused_since: Option<Instant>,
    /// When the watch that has begun stands, unless it fails before.
    stands: Option<Instant>,
}

struct Listing {
    found: Vec<Found>,
    /// When the page that is under way takes too long.
    until: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

/// How to go on after a failure.
enum After {
    /// With the same stream of events.
    GoOn,
    /// With a new listing.
    ListAgain,
}

/// Why a stream of events was left.
enum Left {
    Idle,
    ListAgain,
}

impl Watcher {
    pub(super) fn new(client: Client, place: Registered) -> Self {
        let resource = api_of(&place.watched.resource);
        Self {
            api: Api::all_with(client, &resource),
            place,
            words: Words::default(),
            index: None,
            listing: None,
            changes: Changes::new(),
            collected: 0,
            due: Instant::now(),
            took: Duration::ZERO,
            pause: FIRST_PAUSE,
            failing: false,
            refused_since: None,
            stands: None,
        }
    }

    /// Watches until nobody has asked for long.
    pub(super) async fn run(mut self) {
        tracing::info!(resource = %self.name(), "objects are watched from now on");
        loop {
            let config = watcher::Config::default().page_size(PAGE);
            let events = pin!(watcher(self.api.clone(), config));
            if let Left::Idle = self.follow(events).await {
                tracing::info!(
                    resource = %self.name(),
                    "objects are not watched any more: nobody has asked about them for {:?}",
                    self.place.shared.limits.idle
                );
                return;
            }
        }
    }

    fn name(&self) -> String {
        self.place.watched.resource.id.to_string()
    }

    async fn follow(
        &mut self,
        mut events: impl Stream<Item = watcher::Result<Event<Object>>> + Unpin,
    ) -> Left {
        // A few looks in the time that is waited for.
        let mut look = tokio::time::interval(self.place.shared.limits.idle / 8);
        let mut rest: Option<(Instant, After)> = None;
        loop {
            let until = self.listing.as_ref().map(|listing| listing.until);
            let failed = tokio::select! {
                event = events.next(), if rest.is_none() => match event {
                    // A watcher does not end; another one would be made.
                    None => return Left::ListAgain,
                    Some(Ok(event)) => {
                        self.take(event).await;
                        continue;
                    }
                    Some(Err(error)) => self.fail(&error),
                },
                () = at(until), if rest.is_none() && until.is_some() => {
                    let cause = format!("no answer within {PAGE_TIMEOUT:?}");
                    self.fall(&cause, false);
                    After::ListAgain
                }
                () = at(rest.as_ref().map(|(until, _)| *until)), if rest.is_some() => {
                    if let Some((_, After::ListAgain)) = rest.take() {
                        return Left::ListAgain;
                    }
                    self.stands = Some(Instant::now() + STANDS_AFTER);
                    continue;
                }
                () = at(self.stands), if self.stands.is_some() => {
                    self.rise();
                    continue;
                }
                () = tokio::time::sleep_until(self.due), if self.collected > 0 => {
                    self.put_into_use();
                    continue;
                }
                _ = look.tick() => {
                    if self.place.idle() >= self.place.shared.limits.idle {
                        return Left::Idle;
                    }
                    continue;
                }
            };
            rest = Some((Instant::now() + self.next_pause(), failed));
        }
    }

    async fn take(&mut self, event: Event<Object>) {
        match event {
            Event::Init => {
                self.stands = None;
                self.put_into_use();
                let turn = Arc::clone(&self.place.shared.listings).acquire_owned().await;
                // A semaphore that nobody closes.
                let (until, permit) = (Instant::now() + PAGE_TIMEOUT, turn.ok());
                self.listing = Some(Listing { found: Vec::new(), until, _permit: permit });
            }
            Event::InitApply(object) => {
                let found = self.found(object.meta());
                if let (Some(found), Some(listing)) = (found, &mut self.listing) {
                    listing.found.push(found);
                    listing.until = Instant::now() + PAGE_TIMEOUT;
                }
            }
            Event::InitDone => {
                let Some(listing) = self.listing.take() else { return };
                self.place.shared.gauges.listings.inc();
                let index = Index::of(listing.found);
                tracing::debug!(resource = %self.name(), objects = index.len(), "objects listed");
                self.index = Some(index.clone());
                self.place.publish(State::Known(index));
                // What may be listed need not be allowed to be watched: only a watch that stands
                // is a reason to hurry after the next failure. But this list is new.
                self.refused_since = None;
                self.stands = Some(Instant::now() + STANDS_AFTER);
            }
            Event::Apply(object) => {
                self.rise();
                let Some(Found { namespace, name, labels }) = self.found(object.meta()) else {
                    return;
                };
                self.change(namespace, name, Some(labels));
            }
            Event::Delete(object) => {
                self.rise();
                let Some(Found { namespace, name, .. }) = self.found(object.meta()) else {
                    return;
                };
                self.change(namespace, name, None);
            }
        }
    }

    /// The parts of an object that are kept. None for an object without a name, which no API server
    /// sends.
    fn found(&mut self, object: &ObjectMeta) -> Option<Found> {
        let Some(name) = object.name.as_deref().filter(|name| !name.is_empty()) else {
            tracing::debug!(resource = %self.name(), "an object without a name is left out");
            return None;
        };
        let namespace = self.words.of(object.namespace.as_deref().unwrap_or_default());
        let labels = object.labels.iter().flatten();
        let labels: Box<[Pair]> =
            labels.map(|(key, value)| (self.words.of(key), self.words.of(value))).collect();
        Some(Found { namespace, name: name.into(), labels })
    }

    fn change(&mut self, namespace: Arc<str>, name: Arc<str>, labels: Option<Box<[Pair]>>) {
        let waits = self.changes.get(&namespace).is_some_and(|c| c.contains_key(&name));
        if !waits {
            let index = self.index.get_or_insert_default();
            // Most changes of objects are changes of their status.
            let as_known = match &labels {
                Some(labels) => index.has(&namespace, &name, Some(labels)),
                None => !index.has(&namespace, &name, None),
            };
            if as_known {
                return;
            }
            if self.collected == 0 {
                let collect = (self.took * COLLECT_TIMES).clamp(COLLECT, COLLECT_AT_MOST);
                self.due = Instant::now() + collect;
            }
            self.collected += 1;
        }
        self.changes.entry(namespace).or_default().insert(name, labels);
        if self.collected >= MOST_COLLECTED {
            self.put_into_use();
        }
    }

    fn put_into_use(&mut self) {
        if std::mem::take(&mut self.collected) == 0 {
            return;
        }
        let begin = Instant::now();
        let index = self.index.get_or_insert_default();
        *index = index.with(&std::mem::take(&mut self.changes));
        self.took = begin.elapsed();
        self.place.publish(State::Known(index.clone()));
    }

    /// All is well: the watch stands.
    fn rise(&mut self) {
        self.stands = None;
        self.pause = FIRST_PAUSE;
        self.refused_since = None;
        if std::mem::take(&mut self.failing) {
            tracing::info!(resource = %self.name(), "objects can be watched again");
        }
    }

    fn fail(&mut self, error: &watcher::Error) -> After {
        self.stands = None;
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
            _ => None,
        };
        let ordinary = match error {
            // The server closes watches now and then, and versions grow too old.
            watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) => true,
            _ => status.is_some_and(|status| status.code == 410),
        };
        self.listing = None;
        if ordinary {
            tracing::debug!(resource = %self.name(), %error, "the watch of objects restarts");
            return After::GoOn;
        }
        let resource = &self.place.watched.resource;
        let (cause, refused) = match status {
            Some(status) if status.code == 403 => (
                format!(
                    "{}; grant list and watch on {} to Tidepole (see ClusterRole tidepole in the \
                     manifests)",
                    status.message, resource.id
                ),
                true,
            ),
            Some(status) => (status.message.clone(), matches!(status.code, 404 | 405)),
            None => (said(error), false),
        };
        self.fall(&cause, refused);
        // A watch that begins again where it was says nothing as long as nothing changes; only a
        // listing tells that what was refused is allowed.
        if refused { After::ListAgain } else { After::GoOn }
    }

    /// Takes in that objects cannot be seen, for now or until somebody acts.
    fn fall(&mut self, cause: &str, refused: bool) {
        (self.listing, self.stands) = (None, None);
        self.place.shared.gauges.failures.inc();
        let resource = self.name();
        let known = self.index.is_some();
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(resource, cause, "objects still cannot be watched");
        } else if known {
            tracing::warn!(resource, cause, "objects cannot be watched; those known stay in use");
        } else {
            tracing::warn!(
                resource,
                cause,
                "objects cannot be listed; metrics of them have no value"
            );
        }
        if refused {
            let since = *self.refused_since.get_or_insert_with(Instant::now);
            if known && since.elapsed() >= REFUSED_AT_MOST {
                tracing::warn!(
                    resource,
                    "objects are forgotten: they could not be seen for {REFUSED_AT_MOST:?}"
                );
                self.index = None;
                self.changes.clear();
                self.collected = 0;
            }
        }
        if self.index.is_none() {
            let reason = format!("{resource} cannot be listed: {cause}");
            self.place.publish(State::Unavailable(reason.into()));
        }
    }

    /// How long to leave the API server alone now.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        // Replicas that lost the same API server do not come back together.
        pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
