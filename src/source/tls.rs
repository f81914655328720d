//! TLS towards upstreams: whom we trust, who we are, which name we expect.
//!
//! Built here on rustls rather than by the HTTP client's own switches, so that a machine without
//! CA certificates is an error at start, and an expected server name can differ from the URL's host.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// What TLS needs, read from files.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Material {
    /// PEM of the CAs to trust; none means the system's.
    pub ca: Option<Pem>,
    /// PEM of our certificate chain and its key.
    pub identity: Option<(Pem, Pem)>,
}

/// The content of a PEM file.
pub(super) type Pem = Arc<[u8]>;

/// Whom to expect.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    /// The name in the server's certificate, when it is not the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure: bool,
    /// Whether an empty trust store is an error. Not for plain `http` URLs.
    pub required: bool,
}

/// Why TLS cannot be set up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TlsError {
    /// The system's CA store is empty.
    NoTrustStore(String),
    /// Some material is unusable.
    Unusable(String),
}

/// A client configuration.
pub(super) fn client_config(
    material: &Material,
    expect: &Expectation,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable =
        |what: &str, e: &dyn std::fmt::Display| TlsError::Unusable(format!("{what}: {e}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable("protocol versions", &e))?;
    let roots = if expect.insecure { RootCertStore::empty() } else { roots(material, expect)? };
    let builder = if expect.insecure || expect.server_name.is_some() {
        let verifier = Verifier::new(roots, expect, provider)?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.with_root_certificates(roots)
    };
    let mut config = match &material.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|e| unusable("certFile", &e))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable("keyFile", &e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| unusable("certFile", &e))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The system's CA certificates, or why there are none.
pub(super) fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(if errors.is_empty() {
            "nothing found in the usual places".to_owned()
        } else {
            errors.join(", ")
        });
    }
    Ok(roots)
}

/// A check for watched files: PEM with at least one certificate.
pub(super) fn check_certificates(pem: &[u8]) -> Result<(), String> {
    certificates(pem).map(|_| ())
}

/// A check for watched files: PEM with a private key.
pub(super) fn check_key(pem: &[u8]) -> Result<(), String> {
    PrivateKeyDer::from_pem_slice(pem).map(|_| ()).map_err(|_| "no private key in PEM".to_owned())
}

fn roots(material: &Material, expect: &Expectation) -> Result<RootCertStore, TlsError> {
    let Some(ca) = &material.ca else {
        return match system_roots() {
            Ok(roots) => Ok(roots),
            Err(cause) if expect.required => Err(TlsError::NoTrustStore(cause)),
            Err(_) => Ok(RootCertStore::empty()),
        };
    };
    let unusable = |cause: String| TlsError::Unusable(format!("caFile: {cause}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).map_err(unusable)? {
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("bad PEM: {e}"))?;
    if all.is_empty() {
        return Err("no certificate in PEM".to_owned());
    }
    Ok(all)
}

/// Checks a server's certificate against a configured name, or not at all.
#[derive(Debug)]
struct Verifier {
    /// The check and the expected name; none accepts everything.
    check: Option<(Arc<WebPkiServerVerifier>, ServerName<'static>)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(
        roots: RootCertStore,
        expect: &Expectation,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let algorithms = provider.signature_verification_algorithms;
        let check = match &expect.server_name {
            Some(name) if !expect.insecure => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|e| TlsError::Unusable(format!("serverName: {e}")))?;
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| TlsError::NoTrustStore(e.to_string()))?;
                Some((inner, name))
            }
            _ => None,
        };
        Ok(Self { check, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _url_host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.check {
            Some((inner, name)) => {
                inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
