//! Client certificates: the chain a peer sent, its subject, and whether a CA vouches for it.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::Oid;

use crate::model::Identity;
use crate::server::tls;

/// The extra key under which Kubernetes records which certificate somebody used.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The subject attribute in which newer Kubernetes versions put a user's uid.
const UID_ATTRIBUTE: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 2];

/// The certificates of one CA bundle.
#[derive(Clone, Debug)]
pub(super) struct CaBundle {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The public keys of the bundle, to see whether two bundles overlap.
    keys: Vec<Vec<u8>>,
}

impl CaBundle {
    /// Reads a PEM bundle. Single certificates that cannot serve as a CA are skipped with a
    /// warning: one odd member must not lock everybody out.
    pub(super) fn from_pem(pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|e| format!("is not a PEM bundle: {e}"))?;
            if let Err(error) = roots.add(certificate) {
                tracing::warn!(%error, "a CA certificate cannot be used and is skipped");
            }
        }
        let keys =
            roots.roots.iter().map(|r| r.subject_public_key_info.as_ref().to_vec()).collect();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
                .build()
                .map_err(|e| format!("holds no usable CA certificate: {e}"))?;
        Ok(Self { verifier, keys })
    }

    /// Whether the two bundles have a CA key in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.keys.iter().any(|key| other.keys.contains(key))
    }

    /// Whether the bundle vouches for the peer as a TLS client at this moment.
    pub(super) fn verify(&self, peer: &Peer, now: UnixTime) -> Result<(), String> {
        self.verifier
            .verify_client_cert(&peer.leaf, &peer.intermediates, now)
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
}

/// The certificates that the other side of a connection showed.
#[derive(Debug)]
pub(in crate::server) struct Peer {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    subject: Result<Subject, String>,
}

#[derive(Debug)]
struct Subject {
    common_name: String,
    organizations: Vec<String>,
    uid: String,
}

impl Peer {
    /// The peer, if it showed a certificate.
    pub(in crate::server) fn new(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let (leaf, intermediates) = chain?.split_first()?;
        let leaf = leaf.clone().into_owned();
        let intermediates = intermediates.iter().map(|c| c.clone().into_owned()).collect();
        let subject = Subject::of(&leaf);
        Some(Self { leaf, intermediates, subject })
    }

    /// The subject's common name, empty when it has none.
    pub(super) fn common_name(&self) -> Result<&str, String> {
        self.subject.as_ref().map(|s| s.common_name.as_str()).map_err(Clone::clone)
    }

    /// The user that a certificate of the client CA stands for: common name and organizations.
    /// `None` without a common name.
    pub(super) fn user(&self) -> Result<Option<Identity>, String> {
        let subject = self.subject.as_ref().map_err(Clone::clone)?;
        if subject.common_name.is_empty() {
            return Ok(None);
        }
        let mut id = "X509SHA256=".to_owned();
        for byte in Sha256::digest(&self.leaf) {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        Ok(Some(Identity {
            user: subject.common_name.clone(),
            uid: subject.uid.clone(),
            groups: subject.organizations.clone(),
            extra: [(CREDENTIAL_ID.to_owned(), vec![id])].into(),
        }))
    }
}

impl Subject {
    fn of(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|e| format!("the client certificate cannot be parsed: {e}"))?;
        let name = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute
                .as_str()
                .map(str::to_owned)
                .map_err(|_| "the client certificate's subject is not text".to_owned())
        };
        // Of several common names Go takes the last.
        let common_name = name.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        let organizations = name.iter_organization().map(text).collect::<Result<_, _>>()?;
        let uid_attribute = Oid::from(UID_ATTRIBUTE).ok();
        let uid = uid_attribute
            .and_then(|oid| name.iter_by_oid(&oid).next().map(text))
            .transpose()?
            .unwrap_or_default();
        Ok(Self { common_name, organizations, uid })
    }
}
