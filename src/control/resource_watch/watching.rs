//! The watch of one kind of metric resource.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::Status;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::object::{Object, api_resource};
use super::standing::{KindState, Standing};
use super::store::Change;
use crate::model::DefinitionKind;

/// Objects per page of a listing. Fewer than client-go's 500: these may be large.
const PAGE: u32 = 200;

/// How long a page of a listing may take.
const PAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// The pause after a first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause while the API server cannot be reached, or does not have the kind: a kind that
/// is installed is seen within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause while we are refused: somebody who grants the permission sees it used within a
/// minute.
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// How long a kind that is known must be absent before its resources are forgotten. An API server
/// that starts may have a kind a moment later; and whoever removes a kind has its resources deleted
/// first, which is told as such.
const GONE_AFTER: Duration = Duration::from_mins(1);

/// A watch that breaks off this often in a row without a single event cannot go on from where it is.
const MOST_STUMBLES: u32 = 3;

/// The task of one kind.
pub(super) struct Watching {
    kind: DefinitionKind,
    changes: mpsc::Sender<Change>,
    standing: Arc<Standing>,
    /// Somebody wants the kind listed again.
    list_again: Arc<Notify>,
    pause: Duration,
    /// Whether the store may have resources of this kind.
    known: bool,
    absent_since: Option<Instant>,
    stumbles: u32,
    /// When the page that is under way takes too long.
    page_until: Option<Instant>,
}

/// How to go on after a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// With the same stream of events.
    GoOn,
    /// With a new listing.
    ListAgain,
}

/// Nobody takes changes any more: the process ends.
struct Over;

impl Watching {
    pub(super) fn new(
        kind: DefinitionKind,
        changes: mpsc::Sender<Change>,
        standing: Arc<Standing>,
        list_again: Arc<Notify>,
    ) -> Self {
        Self {
            kind,
            changes,
            standing,
            list_again,
            pause: FIRST_PAUSE,
            known: false,
            absent_since: None,
            stumbles: 0,
            page_until: None,
        }
    }

    /// Watches until nobody takes changes any more.
    pub(super) async fn run(mut self, client: Client) {
        let api: Api<Object> = Api::all_with(client, &api_resource(self.kind));
        loop {
            // In pages, from the state that a quorum agreed on: works on every API server.
            let config = watcher::Config::default().page_size(PAGE);
            let events = pin!(watcher(api.clone(), config));
            if let Err(Over) = self.follow(events).await {
                return;
            }
        }
    }

    /// Follows the resources until it takes a new listing to know them.
    async fn follow(
        &mut self,
        mut events: impl Stream<Item = watcher::Result<Event<Object>>> + Unpin,
    ) -> Result<(), Over> {
        self.page_until = Some(Instant::now() + PAGE_TIMEOUT);
        let list_again = Arc::clone(&self.list_again);
        loop {
            let (pause, after) = tokio::select! {
                event = events.next() => match event {
                    // A watcher does not end; another one would be made.
                    None => return Ok(()),
                    Some(Ok(event)) => {
                        self.take(event).await?;
                        continue;
                    }
                    Some(Err(error)) => self.fail(&error).await?,
                },
                () = at(self.page_until) => {
                    let cause = format!("no answer within {PAGE_TIMEOUT:?}");
                    (self.fall(&cause, LONGEST_PAUSE), After::ListAgain)
                }
                () = list_again.notified() => return Ok(()),
            };
            tokio::time::sleep(pause).await;
            if after == After::ListAgain {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, event: Event<Object>) -> Result<(), Over> {
        let kind = self.kind;
        match event {
            Event::Init => {
                self.page_until = Some(Instant::now() + PAGE_TIMEOUT);
                self.send(Change::Begin(kind)).await
            }
            Event::InitApply(object) => {
                self.page_until = Some(Instant::now() + PAGE_TIMEOUT);
                self.known = true;
                self.send(Change::Put(kind, Box::new(object))).await
            }
            Event::InitDone => {
                self.page_until = None;
                self.send(Change::End(kind)).await?;
                self.rise();
                Ok(())
            }
            Event::Apply(object) => {
                self.known = true;
                self.rise();
                self.send(Change::Put(kind, Box::new(object))).await
            }
            Event::Delete(object) => {
                self.rise();
                self.send(Change::Remove(kind, Box::new(object))).await
            }
        }
    }

    async fn send(&self, change: Change) -> Result<(), Over> {
        self.changes.send(change).await.map_err(|_| Over)
    }

    /// All is well.
    fn rise(&mut self) {
        (self.pause, self.stumbles, self.absent_since) = (FIRST_PAUSE, 0, None);
        match self.standing.enter(self.kind, KindState::Up) {
            KindState::Down(_) => {
                tracing::info!(resource = self.name(), "metric resources can be watched again");
            }
            KindState::Absent => {
                tracing::info!(
                    resource = self.name(),
                    "metric resources of this kind are served now"
                );
            }
            KindState::Starting | KindState::Up => {}
        }
    }

    /// Takes in a failure: how long to leave the API server alone, and how to go on.
    async fn fail(&mut self, error: &watcher::Error) -> Result<(Duration, After), Over> {
        self.page_until = None;
        let status = status_of(error);
        if is_ordinary(error, status) {
            tracing::debug!(resource = self.name(), %error, "the watch of metric resources restarts");
            self.standing.failed(self.kind);
            self.stumbles += 1;
            // What it breaks off at may be told again and again.
            let again = self.stumbles >= MOST_STUMBLES;
            let after = if again { After::ListAgain } else { After::GoOn };
            return Ok((self.next_pause(LONGEST_PAUSE), after));
        }
        let pause = match status {
            Some(status) if status.code == 404 => self.miss().await?,
            Some(status) if status.code == 403 => {
                let cause = format!(
                    "{}; grant get, list and watch on {} to Tidepole (see ClusterRole tidepole in \
                     the manifests)",
                    status.message,
                    self.name()
                );
                self.fall(&cause, LONGEST_REFUSED_PAUSE)
            }
            Some(status) => self.fall(&status.message, LONGEST_PAUSE),
            None => self.fall(&error.to_string(), LONGEST_PAUSE),
        };
        // A watch that begins again where it was says nothing as long as nothing changes; only a
        // listing tells that all is well.
        Ok((pause, After::ListAgain))
    }

    /// Takes in that the cluster does not have the kind.
    async fn miss(&mut self) -> Result<Duration, Over> {
        match self.standing.enter(self.kind, KindState::Absent) {
            KindState::Absent => {}
            KindState::Starting => tracing::info!(
                resource = self.name(),
                "the cluster does not have this kind of metric resource; should it be installed, \
                 its resources are served"
            ),
            KindState::Up | KindState::Down(_) => tracing::warn!(
                resource = self.name(),
                "the cluster has no longer this kind of metric resource; unless it comes back, \
                 its metrics go within {GONE_AFTER:?}"
            ),
        }
        let since = *self.absent_since.get_or_insert_with(Instant::now);
        if self.known && since.elapsed() >= GONE_AFTER {
            self.known = false;
            tracing::warn!(resource = self.name(), "metric resources of this kind are forgotten");
            self.send(Change::Gone(self.kind)).await?;
        }
        Ok(jittered(LONGEST_PAUSE))
    }

    /// Takes in that the resources cannot be seen; what is known of them stays.
    fn fall(&mut self, cause: &str, longest: Duration) -> Duration {
        (self.page_until, self.absent_since) = (None, None);
        self.standing.failed(self.kind);
        let before = self.standing.enter(self.kind, KindState::Down(cause.to_owned()));
        let resource = self.name();
        if matches!(before, KindState::Down(_)) {
            tracing::debug!(resource, cause, "metric resources still cannot be watched");
        } else {
            tracing::warn!(
                resource,
                cause,
                "metric resources cannot be watched; what is known of them stays in use"
            );
        }
        self.next_pause(longest)
    }

    /// How long to leave the API server alone now.
    fn next_pause(&mut self, longest: Duration) -> Duration {
        let pause = self.pause.min(longest);
        self.pause = (pause * 2).min(longest);
        jittered(pause)
    }

    fn name(&self) -> String {
        format!("{}.{}", self.kind.plural(), self.kind.group())
    }
}

/// Replicas that lost the same API server do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The refusal of the API server that an error is.
fn status_of(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// Watches end now and then: the server closes them, and versions grow too old, those of a listing
/// in pages included. After an object without a version the watcher lists again by itself.
fn is_ordinary(error: &watcher::Error, status: Option<&Status>) -> bool {
    matches!(
        error,
        watcher::Error::WatchError(_)
            | watcher::Error::WatchFailed(_)
            | watcher::Error::NoResourceVersion
    ) || status.is_some_and(|status| status.code == 410)
}

#[cfg(test)]
mod tests;
