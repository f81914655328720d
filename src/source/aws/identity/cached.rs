//! Credentials of one identity, kept and renewed without a gap.
//!
//! # Invariants
//!
//! * Whoever asks while valid credentials are there gets them at once: a renewal runs beside the
//!   calls, and one that fails leaves the old credentials in use until they expire. The exception
//!   are credentials that a service has refused and whose renewal has failed: the next try is
//!   waited for.
//! * However many ask, one load is under way; its outcome is everybody's.
//! * Credentials that a service refuses are renewed out of turn, once a minute at most; if that fails
//!   it is tried again like any other load.
//! * A load that failed is not repeated before a pause, which doubles from failure to failure.
//! * A caller that gives up ends nothing: the load goes on for the others.
//!
//! The SDK's own cache is switched off (`sdk`): from ten seconds before the expiry on, it drops
//! credentials that are still valid, lets all callers wait for the renewal, and fails all of them
//! with it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::model::{Cause, Clock, FetchError, SourceName, Tick};
use crate::source::aws::failure::add;
use crate::source::aws::identity::Who;
use crate::source::secrets::Secrets;
use crate::task::TaskSet;

/// Credentials are renewed this long before they expire, at half of their life at the latest: time
/// for many tries while the old ones are valid. Instance metadata has new ones five minutes before.
const RENEW_AHEAD: Duration = Duration::from_mins(10);

/// Credentials are not used any more this long before they expire, a tenth of their life at most:
/// a request must arrive before.
const MARGIN: Duration = Duration::from_secs(10);

/// Credentials that name no end are looked up again after this time: keys in a profile may have
/// been rotated. As in the SDK's own cache.
const UNLIMITED_LIFE: Duration = Duration::from_mins(15);

/// The pause after a load that failed, doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: as soon as a person has mended a policy, values come back within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// The pause between renewals out of turn: calls that were under way with the old credentials are
/// refused still, and new ones that are refused, too, are not mended by newer ones.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// Gets credentials anew. Bounded in time by itself.
pub(super) type Load =
    Box<dyn Fn() -> BoxFuture<'static, Result<Credentials, FetchError>> + Send + Sync>;

/// One identity and its credentials.
pub(in crate::source) struct Identity {
    source: SourceName,
    who: Who,
    load: Load,
    clock: Arc<dyn Clock>,
    patience: Duration,
    tasks: OnceLock<TaskSet>,
    state: Mutex<State>,
    /// Changes when a load has ended.
    loads: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// What calls that are under way may have sent: the present credentials and the last ones.
    sent: [Secrets; 2],
    loading: bool,
    /// A service has refused what is kept.
    refused: bool,
    /// Why the last load failed; none after one that did not.
    failure: Option<FetchError>,
    pause: Duration,
    /// No load before this moment.
    next_load: Tick,
    /// No renewal out of turn before this moment.
    next_refused: Tick,
}

struct Kept {
    credentials: Credentials,
    renew_from: Timestamp,
    usable_until: Timestamp,
}

impl Identity {
    /// An identity without credentials yet; `patience` is how long a caller waits for them.
    pub(super) fn new(
        source: &SourceName,
        who: Who,
        load: Load,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            source: source.clone(),
            who,
            load,
            clock,
            patience,
            tasks: OnceLock::new(),
            state: Mutex::default(),
            loads: watch::Sender::new(0),
        })
    }

    /// Whose credentials these are.
    pub(in crate::source) fn who(&self) -> &Who {
        &self.who
    }

    /// Whether there are no credentials because they were refused: a person must act first.
    pub(super) fn is_denied(&self) -> bool {
        let now = self.clock.now();
        let state = self.state();
        let usable = state.kept.as_ref().is_some_and(|kept| now < kept.usable_until);
        !usable && !state.loading && matches!(state.failure, Some(FetchError::Denied(_)))
    }

    /// What calls with these credentials send in secret, now and since the last renewal.
    pub(in crate::source) fn secrets(&self) -> Secrets {
        let state = self.state();
        let [mut secrets, last] = state.sent.clone();
        secrets.extend(&last);
        secrets
    }

    /// A service did not accept these credentials, though they should be valid: they were revoked,
    /// or rotated. Starts a renewal; if it fails, the old ones stay. Gives whether the credentials
    /// are being renewed, or were so within the last minute.
    pub(in crate::source) fn refused(self: &Arc<Self>) -> bool {
        let tick = self.clock.tick();
        let mut state = self.state();
        if state.loading {
            return true;
        }
        if tick < state.next_refused || tick < state.next_load {
            return state.failure.is_none();
        }
        state.next_refused = tick.after(REFUSED_PAUSE);
        state.refused = true;
        self.start(&mut state);
        true
    }

    /// Credentials that are valid now.
    ///
    /// # Errors
    /// Why there are none; [`FetchError::Timeout`] when they take too long.
    pub(in crate::source) async fn credentials(
        self: &Arc<Self>,
    ) -> Result<Credentials, FetchError> {
        let waited = tokio::time::timeout(self.patience, self.wait()).await;
        waited.unwrap_or_else(|_| {
            Err(FetchError::Timeout(Cause::new(format!(
                "no AWS credentials of {} within {:?}",
                self.who, self.patience
            ))))
        })
    }

    async fn wait(self: &Arc<Self>) -> Result<Credentials, FetchError> {
        loop {
            // Before the look: a load that ends in between is not missed.
            let mut ended = self.loads.subscribe();
            if let Some(answer) = self.look() {
                return answer;
            }
            // The sender lives as long as `self`.
            let _ = ended.changed().await;
        }
    }

    /// What can be said at once; starts a load where one is due. None: a load is under way, and
    /// there is nothing to use until it ends.
    fn look(self: &Arc<Self>) -> Option<Result<Credentials, FetchError>> {
        let (now, tick) = (self.clock.now(), self.clock.tick());
        let mut state = self.state();
        let valid = state.kept.as_ref().filter(|kept| now < kept.usable_until);
        // They would be refused once more, and their user comes back only after an interval.
        let doubted = state.refused && state.failure.is_some();
        let due = doubted || valid.is_none_or(|kept| now >= kept.renew_from);
        let answer = valid.map(|kept| Ok(kept.credentials.clone()));
        if !due {
            return answer;
        }
        if !state.loading {
            if tick < state.next_load {
                return answer.or_else(|| state.failure.clone().map(Err));
            }
            self.start(&mut state);
        }
        answer.filter(|_| !doubted)
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        state.loading = true;
        let under_way = UnderWay { identity: Arc::clone(self), outcome: None };
        // A set of its own: a load ends by itself within the gate's time, and nobody need wait for
        // one when the process stops.
        let tasks = self.tasks.get_or_init(|| TaskSet::new(Handle::current()).0);
        tasks.job("aws_credentials", under_way.run());
    }

    /// A load has ended.
    fn ended(&self, outcome: Result<Credentials, FetchError>) {
        let (now, tick) = (self.clock.now(), self.clock.tick());
        let mut state = self.state();
        state.loading = false;
        match outcome.and_then(|credentials| self.keep(credentials, now)) {
            Ok(kept) => {
                if state.failure.take().is_some() {
                    tracing::info!(source = self.source.as_str(), identity = %self.who, "AWS credentials are back");
                }
                (state.pause, state.next_load) = (Duration::ZERO, tick);
                let secrets = secrets_of(&kept.credentials);
                if secrets != state.sent[0] {
                    state.sent.swap(0, 1);
                    state.sent[0] = secrets;
                }
                (state.kept, state.refused) = (Some(kept), false);
            }
            Err(error) => {
                state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                state.next_load = tick.after(state.pause);
                let usable = state.kept.as_ref().is_some_and(|kept| now < kept.usable_until);
                // What has no credentials to go on with fails its callers, who say so.
                if usable && state.failure.as_ref() != Some(&error) {
                    tracing::warn!(
                        source = self.source.as_str(), identity = %self.who, %error,
                        detail = error.cause().detail(),
                        "AWS credentials could not be renewed; the old ones stay in use until they expire"
                    );
                }
                state.failure = Some(error);
            }
        }
        drop(state);
        self.loads.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn keep(&self, credentials: Credentials, now: Timestamp) -> Result<Kept, FetchError> {
        let Some(expiry) = credentials.expiry() else {
            let renew_from = later(now, UNLIMITED_LIFE);
            return Ok(Kept { credentials, renew_from, usable_until: Timestamp::MAX });
        };
        let expiry = Timestamp::try_from(expiry).unwrap_or(Timestamp::MAX);
        let life = Duration::try_from(expiry.duration_since(now)).unwrap_or_default();
        if life.is_zero() {
            return Err(FetchError::Denied(Cause::new(format!(
                "the AWS credentials of {} had expired when they arrived (at {expiry}); is this machine's clock right?",
                self.who
            ))));
        }
        // What is renewed with the same credentials again (instance metadata has new ones only
        // shortly before the end) is due again at half of the rest.
        let before = |span: Duration| later(now, life.saturating_sub(span));
        Ok(Kept {
            credentials,
            renew_from: before(RENEW_AHEAD.min(life / 2)),
            usable_until: before(MARGIN.min(life / 10)),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key's id is none, but names us to whoever reads it.
fn secrets_of(credentials: &Credentials) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add_guess(credentials.access_key_id());
    add(&mut secrets, credentials.secret_access_key());
    if let Some(token) = credentials.session_token() {
        add(&mut secrets, token);
    }
    secrets
}

fn later(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("who", &self.who).finish_non_exhaustive()
    }
}

/// A load that is under way. However it ends, a panic and the end of its runtime included, whoever
/// waits is told.
struct UnderWay {
    identity: Arc<Identity>,
    outcome: Option<Result<Credentials, FetchError>>,
}

impl UnderWay {
    async fn run(mut self) {
        self.outcome = Some((self.identity.load)().await);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(FetchError::Unavailable(Cause::new("AWS credentials could not be loaded")))
        });
        self.identity.ended(outcome);
    }
}

/// An identity as the SDK's clients take it.
#[derive(Debug)]
pub(super) struct Provider(pub Arc<Identity>);

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let load = async {
            let given: provider::Result = self
                .0
                .credentials()
                .await
                .map_err(|error| CredentialsError::provider_error(Unobtainable(error)));
            given
        };
        future::ProvideCredentials::new(load)
    }
}

/// There are no credentials, and why; travels through the SDK's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::source::aws) struct Unobtainable(pub FetchError);

#[cfg(test)]
mod tests;
