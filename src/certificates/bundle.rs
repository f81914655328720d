//! The trust of one `APIService`: its `caBundle`.

use jiff::Timestamp;

use super::x509::{Certificate, certificates};

/// One of our `APIServices`, as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    /// The `APIService`.
    pub(super) name: String,
    /// Its `metadata.resourceVersion`: another one means that it was written in between.
    pub(super) version: String,
    /// When anything but its status was written last, by the API server's clock; none: not known.
    pub(super) written: Option<Timestamp>,
    /// What it trusts.
    pub(super) certificates: Vec<Certificate>,
    /// Whether nothing else is in it, and verification is on.
    pub(super) is_clean: bool,
}

impl Bundle {
    /// Reads `spec.caBundle` of a version; `unverified` is `spec.insecureSkipTLSVerify`.
    pub(super) fn read(name: &str, version: &str, pem: &[u8], unverified: bool) -> Self {
        let (found, clean) = certificates(pem);
        let mut once: Vec<Certificate> = Vec::with_capacity(found.len());
        let all = found.len();
        for certificate in found {
            if !once.contains(&certificate) {
                once.push(certificate);
            }
        }
        let is_clean = clean && !unverified && once.len() == all;
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, version, written: None, certificates: once, is_clean }
    }

    /// What a `caBundle` of these certificates is.
    pub(super) fn text(certificates: &[Certificate]) -> String {
        certificates.iter().map(Certificate::pem).collect()
    }

    /// What changes when it is written. Where the API server tells when anything but the status was,
    /// it is that: several API servers that judge differently whether we are available write the
    /// status all the time, and no rotation would ever settle. What is written and taken back within
    /// the second of such a time was there for less than any API server takes to hear of it.
    pub(super) fn mark(&self) -> String {
        self.written.map_or_else(|| format!("version {}", self.version), |at| at.to_string())
    }

    pub(super) fn carries(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate)
    }
}
