//! A serving certificate with its key.

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::x509::{Certificate, certificates, provider};
use crate::model::ServingPair;

/// A serving certificate with its key, which belong together. Equal when the certificate is.
pub(super) struct Pair {
    pub(super) leaf: Certificate,
    /// As it is stored: the certificate chain, and the key.
    pub(super) pem: ServingPair,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.leaf == other.leaf
    }
}

impl std::fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pair").field(&self.leaf).finish()
    }
}

impl Pair {
    /// Reads PEM; `None` when it is no pair that a server could show.
    pub(super) fn read(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let (chain, clean) = certificates(certificate);
        let leaf = chain.first().filter(|_| clean)?.clone();
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(|c| c.der).collect();
        let der = PrivateKeyDer::from_pem_slice(key).ok()?;
        let signer = provider().key_provider.load_private_key(der).ok()?;
        CertifiedKey::new(chain, signer).keys_match().ok()?;
        let pem = ServingPair { certificate: certificate.to_vec(), key: key.to_vec() };
        Some(Self { leaf, pem })
    }

    /// Whether a server could show it now: it has the name that the API server asks for, and it is
    /// valid by this clock.
    pub(super) fn is_usable(&self, name: &str, now: Timestamp) -> bool {
        let leaf = &self.leaf;
        leaf.names.iter().any(|own| own.eq_ignore_ascii_case(name))
            && leaf.not_before <= now
            && !leaf.has_expired(now)
    }
}
