//! The live watch of `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::trust::TrustStore;
use crate::server::metrics::{AuthnMetrics, TrustState};
use crate::task::TaskSet;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// How long the start waits for the first reading. The server can start without (everybody is
/// anonymous until it is there), and a cluster that answers does so in milliseconds.
const FIRST_READING: Duration = Duration::from_secs(5);

/// Keeps the trust in step with the cluster.
pub(super) struct TrustWatch {
    trust: Arc<TrustStore>,
    metrics: Arc<AuthnMetrics>,
    /// What was taken over last: a new listing mostly brings the same again.
    data: Option<BTreeMap<String, String>>,
    state: TrustState,
    /// What taking that over ended in.
    applied: TrustState,
}

impl TrustWatch {
    pub(super) fn new(trust: Arc<TrustStore>, metrics: Arc<AuthnMetrics>) -> Self {
        Self {
            trust,
            metrics,
            data: None,
            state: TrustState::Pending,
            applied: TrustState::Pending,
        }
    }

    /// Starts watching, and waits for the first reading or the first refusal. The receiver tells
    /// whether that has come.
    pub(super) async fn start(mut self, client: Client, tasks: &TaskSet) -> watch::Receiver<bool> {
        let (settled, mut first) = watch::channel(false);
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("trust watch", async move {
            let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
            let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let mut seen = false;
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    // The watcher restarts for ever; this ends the service and so the process.
                    None => return,
                    Some(Ok(event)) => self.take(event, &mut seen),
                    Some(Err(error)) => self.fail(&error),
                }
                // An API server that cannot be reached has said nothing yet.
                if !matches!(self.state, TrustState::Pending | TrustState::Unavailable) {
                    settled.send_replace(true);
                }
            }
        });
        if tokio::time::timeout(FIRST_READING, first.wait_for(|settled| *settled)).await.is_err() {
            tracing::warn!(
                "the cluster's trust configuration could not be read within {FIRST_READING:?}; \
                 everybody is anonymous until it is"
            );
        }
        first
    }

    fn take(&mut self, event: Event<ConfigMap>, seen: &mut bool) {
        match event {
            Event::Init => *seen = false,
            Event::InitApply(map) | Event::Apply(map) => {
                *seen = true;
                let data = map.data.unwrap_or_default();
                if self.data.as_ref() != Some(&data) {
                    let usable = self.trust.apply(&data);
                    self.applied = if usable { TrustState::Loaded } else { TrustState::Malformed };
                    self.data = Some(data);
                }
                self.enter(self.applied);
            }
            Event::InitDone if *seen => {}
            Event::InitDone | Event::Delete(_) => {
                if self.enter(TrustState::Absent) {
                    tracing::warn!(
                        "ConfigMap {NAMESPACE}/{NAME} does not exist: identities asserted by the \
                         aggregator and client certificates are not recognised beyond what was \
                         known before"
                    );
                }
                self.data = None;
            }
        }
    }

    fn fail(&mut self, error: &watcher::Error) {
        if is_forbidden(error) {
            if self.enter(TrustState::Forbidden) {
                tracing::error!(
                    %error,
                    "may not read ConfigMap {NAMESPACE}/{NAME}: bind this service account to Role \
                     extension-apiserver-authentication-reader in {NAMESPACE}"
                );
            }
        } else if is_ordinary(error) {
            tracing::debug!(%error, "the trust watch restarts");
        } else if self.enter(TrustState::Unavailable) {
            tracing::warn!(%error, "the cluster's trust configuration cannot be read, what is known stays in use");
        }
    }

    /// Whether the state is a new one.
    fn enter(&mut self, state: TrustState) -> bool {
        let new = self.state != state;
        self.state = state;
        self.metrics.trust_state(state);
        new
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 403 || status.code == 401
        }
        _ => false,
    }
}

/// Watches end now and then: the server closes them, versions grow too old.
fn is_ordinary(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_))
}

#[cfg(test)]
mod tests;
