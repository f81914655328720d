//! Certificates as they are looked at: from PEM, how long they live, who vouches for them.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

/// A certificate, parsed as far as it matters here. Equal when it is the same, byte for byte.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Whether it may sign others.
    pub(super) is_authority: bool,
    /// DNS names.
    pub(super) names: Vec<String>,
    /// Its public key, as the signature algorithm writes it.
    pub(super) public_key: Vec<u8>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Certificate {
    /// `None` when it is none.
    pub(super) fn parse(der: CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let (not_before, not_after) =
            (at(parsed.validity().not_before)?, at(parsed.validity().not_after)?);
        let names = match parsed.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(dns_name).collect(),
            _ => Vec::new(),
        };
        let is_authority = parsed.is_ca();
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        Some(Self { der, not_before, not_after, is_authority, names, public_key })
    }

    /// In PEM.
    pub(super) fn pem(&self) -> String {
        let encoded = BASE64_STANDARD.encode(&self.der);
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
        text
    }

    /// Whether it has ended.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.not_after <= now
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// Every certificate in a text of PEM blocks, and whether the text was read to its end.
pub(super) fn certificates(pem: &[u8]) -> (Vec<Certificate>, bool) {
    let (mut found, mut clean) = (Vec::new(), true);
    for block in CertificateDer::pem_slice_iter(pem) {
        // The decoder may not get past what it cannot read.
        let Ok(der) = block else { return (found, false) };
        match Certificate::parse(der) {
            Some(certificate) => found.push(certificate),
            None => clean = false,
        }
    }
    (found, clean)
}

/// The one crypto provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// Whether a client that trusts these authorities, and is at this time, takes a server for `name` by
/// its certificate.
pub(super) fn vouch<'a>(
    authorities: impl IntoIterator<Item = &'a Certificate>,
    leaf: &Certificate,
    name: &str,
    now: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        // One that cannot be an anchor vouches for nobody.
        let _ = roots.add(authority.der.clone());
    }
    let Ok(name) = ServerName::try_from(name) else { return false };
    let Ok(seconds) = u64::try_from(now.as_second()) else { return false };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    // Fails without any anchor.
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let Ok(verifier) = builder.build() else { return false };
    verifier.verify_server_cert(&leaf.der, &[], &name, &[], now).is_ok()
}
