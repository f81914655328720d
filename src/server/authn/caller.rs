//! Who asks, prepared for what comes after authentication.

use std::sync::{Arc, LazyLock};

use crate::model::Identity;

/// One process-wide random state: hashes of callers and of what they ask are combined, and nobody
/// outside can foresee them.
pub(in crate::server) static HASHER: LazyLock<ahash::RandomState> =
    LazyLock::new(ahash::RandomState::new);

/// An identity with what is computed from it once instead of per request.
#[derive(Debug)]
pub(in crate::server) struct Caller {
    pub(in crate::server) identity: Identity,
    /// Hash of the whole identity.
    pub(in crate::server) hash: u64,
    /// Whether the identity is in `system:masters`.
    pub(in crate::server) master: bool,
}

impl Caller {
    pub(in crate::server) fn new(identity: Identity) -> Arc<Self> {
        let hash = HASHER.hash_one(&identity);
        let master = identity.in_group(Identity::MASTERS);
        Arc::new(Self { identity, hash, master })
    }

    /// A caller who authenticated: gets the group `system:authenticated` as Go's group adder gives
    /// it, that is, unless it is the anonymous user or has a say on that already.
    pub(in crate::server) fn authenticated(mut identity: Identity) -> Arc<Self> {
        if !identity.is_anonymous()
            && !identity.in_group(Identity::AUTHENTICATED)
            && !identity.in_group(Identity::UNAUTHENTICATED)
        {
            identity.groups.push(Identity::AUTHENTICATED.to_owned());
        }
        Self::new(identity)
    }

    /// Bytes of the identity, for bounds.
    pub(in crate::server) fn size(&self) -> usize {
        let Identity { user, uid, groups, extra } = &self.identity;
        let groups: usize = groups.iter().map(String::len).sum();
        let extra: usize =
            extra.iter().map(|(k, v)| k.len() + v.iter().map(String::len).sum::<usize>()).sum();
        user.len() + uid.len() + groups + extra
    }
}
