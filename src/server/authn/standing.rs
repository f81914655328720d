//! What authentication remembers of one connection: what its certificate stands for, and the last
//! identity asserted on it.
//!
//! Both are remembered for one version of the trust only, the former for a minute at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::UnixTime;

use super::caller::Caller;
use super::trust::{FrontProxy, Trust};
use super::x509::Peer;
use crate::model::{Clock, Tick};

/// What a certificate stands for is decided again after this time: it may have expired.
const LIFE: Duration = Duration::from_mins(1);

/// What a connection's certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Standing {
    /// It may assert identities by header.
    FrontProxy,
    /// It is a user's.
    User,
    /// Nothing, or there is none.
    Stranger,
}

/// What authentication remembers of one connection.
pub(in crate::server) struct PeerState {
    peer: Option<Peer>,
    judgement: Mutex<Option<Arc<Judgement>>>,
    /// The last identity asserted by header. One kube-apiserver forwards mostly one user's
    /// requests, so this saves building an identity per request.
    last: Mutex<Option<Asserted>>,
}

struct Asserted {
    generation: u64,
    /// Every asserting header, in the order of the request.
    fields: Vec<(HeaderName, HeaderValue)>,
    caller: Arc<Caller>,
}

/// What a certificate stands for under one version of the trust.
pub(super) struct Judgement {
    generation: u64,
    until: Tick,
    /// Whether it may assert identities; `None`: there is no front proxy.
    pub(super) proxy: Option<Result<(), String>>,
    /// Whose it is; `None`: there is no client CA, or it names nobody.
    pub(super) user: Option<Result<Arc<Caller>, String>>,
}

impl Judgement {
    pub(super) fn standing(&self) -> Standing {
        match (&self.proxy, &self.user) {
            (Some(Ok(())), _) => Standing::FrontProxy,
            (_, Some(Ok(_))) => Standing::User,
            _ => Standing::Stranger,
        }
    }

    fn of(peer: &Peer, trust: &Trust, clock: &dyn Clock) -> Self {
        let seconds = u64::try_from(clock.now().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let proxy = trust.front_proxy.as_ref().map(|proxy| {
            proxy.ca.verify(peer, now)?;
            let name = peer.common_name()?;
            if proxy.allowed_names.is_empty() || proxy.allowed_names.iter().any(|n| n == name) {
                Ok(())
            } else {
                Err(format!("common name {name:?} is not among the allowed names"))
            }
        });
        let user = trust.client_ca.as_ref().and_then(|ca| {
            let user = ca.verify(peer, now).and_then(|()| peer.user());
            user.map(|u| u.map(Caller::authenticated)).transpose()
        });
        let until = clock.tick().after(LIFE);
        Self { generation: trust.generation, until, proxy, user }
    }
}

impl PeerState {
    pub(in crate::server) fn new(peer: Option<Peer>) -> Self {
        Self { peer, judgement: Mutex::default(), last: Mutex::default() }
    }

    /// What the peer's certificate stands for; `None` if it showed none.
    pub(super) fn judge(&self, trust: &Trust, clock: &dyn Clock) -> Option<Arc<Judgement>> {
        let peer = self.peer.as_ref()?;
        let mut kept = lock(&self.judgement);
        if let Some(judgement) = &*kept
            && judgement.generation == trust.generation
            && clock.tick() < judgement.until
        {
            return Some(Arc::clone(judgement));
        }
        let judgement = Arc::new(Judgement::of(peer, trust, clock));
        *kept = Some(Arc::clone(&judgement));
        Some(judgement)
    }

    /// The identity asserted by header, from memory if it is the last one again.
    pub(super) fn asserted(
        &self,
        generation: u64,
        proxy: &FrontProxy,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Caller>>, String> {
        let fields = || headers.iter().filter(|(name, _)| proxy.asserts(name));
        let mut last = lock(&self.last);
        if let Some(last) = &*last
            && last.generation == generation
            && last.fields.iter().map(|(n, v)| (n, v)).eq(fields())
        {
            return Ok(Some(Arc::clone(&last.caller)));
        }
        let Some(identity) = proxy.identity(headers)? else { return Ok(None) };
        let caller = Caller::authenticated(identity);
        // Values are copied: they are slices of a read buffer that should not live as long.
        let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        let fields = fields().filter_map(|(n, v)| Some((n.clone(), copy(v)?))).collect();
        *last = Some(Asserted { generation, fields, caller: Arc::clone(&caller) });
        Ok(Some(caller))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
