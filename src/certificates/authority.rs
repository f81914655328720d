//! An authority of our own, and what it signs.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::pair::Pair;
use super::settings::BACKDATED;
use super::x509::Certificate;

/// An authority with its key.
pub(super) struct Authority {
    pub(super) certificate: Certificate,
    key: KeyPair,
    /// The key, as it is stored.
    pub(super) key_pem: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.certificate).finish()
    }
}

/// Why nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    /// The library's complaint; it knows of no key's contents.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// What was made cannot be read again.
    #[error("cannot make a certificate: what was made cannot be read")]
    Unreadable,
}

impl Authority {
    /// A new one. Each has a name of its own, so that nobody takes one for another.
    pub(super) fn new(now: Timestamp, life: Duration) -> Result<Self, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = format!("tidepole-ca-{:016x}", rand::random::<u64>());
        params.distinguished_name.push(DnType::CommonName, name);
        // It signs servers and nothing that could sign again.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        live(&mut params, now, plus(now, life));
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let certificate = Certificate::parse(made.der().clone()).ok_or(IssueError::Unreadable)?;
        let key_pem = key.serialize_pem().into_bytes();
        Ok(Self { certificate, key, key_pem })
    }

    /// The authority among `certificates` whose key this is; the one that lives longest if there
    /// are several.
    pub(super) fn find(certificates: &[Certificate], key_pem: &[u8]) -> Option<Self> {
        let key = KeyPair::from_pem(std::str::from_utf8(key_pem).ok()?).ok()?;
        let certificate = certificates
            .iter()
            .filter(|certificate| certificate.public_key == key.public_key_raw())
            .max_by_key(|certificate| certificate.not_after)?;
        Some(Self { certificate: certificate.clone(), key, key_pem: key_pem.to_vec() })
    }

    /// When a pair would end that is issued now.
    pub(super) fn end_of_pair(&self, now: Timestamp, life: Duration) -> Timestamp {
        plus(now, life).min(self.certificate.not_after)
    }

    /// A serving pair for these names. It ends no later than its authority.
    pub(super) fn issue(
        &self,
        names: &[String],
        now: Timestamp,
        life: Duration,
    ) -> Result<Pair, IssueError> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "tidepole");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        live(&mut params, now, self.end_of_pair(now, life));
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate.der, &self.key)?;
        let made = params.signed_by(&key, &issuer)?;
        Pair::read(made.pem().as_bytes(), key.serialize_pem().as_bytes())
            .ok_or(IssueError::Unreadable)
    }
}

/// From a while ago to `end`.
fn live(params: &mut CertificateParams, now: Timestamp, end: Timestamp) {
    let at = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or(0);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = at(now.saturating_sub(BACKDATED).unwrap_or(now));
    params.not_after = at(end);
}

/// Later by a duration. What no calendar has is as late as can be.
pub(super) fn plus(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
