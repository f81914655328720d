//! What is in the Secret.
//!
//! | key | what |
//! |---|---|
//! | `tls.crt`, `tls.key` | the pair that replicas serve |
//! | `ca.crt` | every authority that has to be trusted: the one that signs, the next one, earlier ones that have not expired |
//! | `ca.key` | the key of the one that signs |
//! | `next-ca.key` | the key of the next one, as long as there is one |
//!
//! Which certificate a key belongs to shows by the public key. Other keys of the Secret are left as
//! they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::authority::Authority;
use super::pair::Pair;
use super::x509::{Certificate, certificates};

pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const AUTHORITIES: &str = "ca.crt";
pub(super) const AUTHORITY_KEY: &str = "ca.key";
pub(super) const NEXT_KEY: &str = "next-ca.key";

/// More authorities than a Secret of ours ever has: each lives at most a few renewals of another.
const MAX_AUTHORITIES: usize = 32;

/// What of a Secret means something. What does not is as if it were not there.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Signs pairs.
    pub(super) signing: Option<Arc<Authority>>,
    /// Will sign once everybody trusts it.
    pub(super) next: Option<Arc<Authority>>,
    /// Has to be trusted: both of the above, and earlier ones.
    pub(super) trusted: Vec<Certificate>,
    /// What replicas serve.
    pub(super) pair: Option<Arc<Pair>>,
}

impl Content {
    /// Reads a Secret's data.
    pub(super) fn read(data: &BTreeMap<String, Vec<u8>>) -> Self {
        let value = |key: &str| data.get(key).map_or(&[][..], Vec::as_slice);
        let (mut trusted, _) = certificates(value(AUTHORITIES));
        trusted.retain(|certificate| certificate.is_authority);
        trusted.truncate(MAX_AUTHORITIES);
        let authority = |key| Authority::find(&trusted, value(key)).map(Arc::new);
        let signing = authority(AUTHORITY_KEY);
        let next = authority(NEXT_KEY).filter(|next| {
            signing.as_ref().is_none_or(|signing| signing.certificate != next.certificate)
        });
        let pair = Pair::read(value(CERTIFICATE), value(KEY)).map(Arc::new);
        let mut content = Self { signing, next, trusted: Vec::new(), pair };
        content.trust(trusted.iter());
        content
    }

    /// The keys and values of the Secret; `None` is a key that it must not have.
    pub(super) fn data(&self) -> BTreeMap<&'static str, Option<Vec<u8>>> {
        let authorities: String = self.trusted.iter().map(Certificate::pem).collect();
        let pair = self.pair.as_ref().map(|pair| &pair.pem);
        let key = |authority: &Option<Arc<Authority>>| {
            authority.as_ref().map(|authority| authority.key_pem.clone())
        };
        [
            (CERTIFICATE, pair.map(|pair| pair.certificate.clone())),
            (KEY, pair.map(|pair| pair.key.clone())),
            (AUTHORITIES, Some(authorities.into_bytes())),
            (AUTHORITY_KEY, key(&self.signing)),
            (NEXT_KEY, key(&self.next)),
        ]
        .into()
    }

    /// Trusts these, too.
    pub(super) fn trust<'a>(&mut self, more: impl IntoIterator<Item = &'a Certificate>) {
        let own = [&self.signing, &self.next];
        let own = own.into_iter().flatten().map(|authority| authority.certificate.clone());
        let more: Vec<Certificate> = own.chain(more.into_iter().cloned()).collect();
        for certificate in more {
            if !self.trusted.contains(&certificate) {
                self.trusted.push(certificate);
            }
        }
    }

    /// Whether both are the same to everybody.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let authority = |authority: &Option<Arc<Authority>>| {
            authority.as_ref().map(|authority| authority.certificate.clone())
        };
        authority(&self.signing) == authority(&other.signing)
            && authority(&self.next) == authority(&other.next)
            && self.pair.as_ref().map(|pair| &pair.leaf)
                == other.pair.as_ref().map(|pair| &pair.leaf)
            && is_same_set(&self.trusted, &other.trusted)
    }
}

/// Whether both have the same members, in any order.
pub(super) fn is_same_set(one: &[Certificate], other: &[Certificate]) -> bool {
    one.len() == other.len() && one.iter().all(|certificate| other.contains(certificate))
}
