//! The TLS side of the listener: which certificate is shown, and what is asked of clients.
//!
//! A client certificate is requested, never required, and in the handshake only its signature is
//! checked: a strict verifier would turn the 401 or 403 that a stranger deserves into a TLS alert,
//! and would break probes that present some unrelated certificate. Who the certificate stands for
//! is decided per request (see [`super::authn`]), which also makes CA rotation work on live
//! connections.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use x509_parser::extensions::GeneralName;

use crate::model::ServingPair;

use super::settings::{MinTls, ServerError, Settings, TlsFiles};

/// The one crypto provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// A serving certificate with its key.
#[derive(Debug)]
pub(super) struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    /// Decodes the contents of the two files.
    pub(super) fn decode(
        files: &TlsFiles,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, ServerError> {
        let bad = |path: &Path, problem: String| ServerError::BadPem { path: path.into(), problem };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| bad(&files.certificate, e.to_string()))?;
        if chain.is_empty() {
            return Err(bad(&files.certificate, "holds no PEM certificate".to_owned()));
        }
        // The decoder's error must not reach a log verbatim: it could quote the key.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| bad(&files.key, "holds no usable PEM private key".to_owned()))?;
        Ok(Self { chain, key })
    }

    /// Decodes a pair that came as PEM.
    pub(super) fn given(pair: &ServingPair) -> Result<Self, ServerError> {
        let chain = CertificateDer::pem_slice_iter(&pair.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ServerError::BadGiven("holds no readable PEM certificate"))?;
        if chain.is_empty() {
            return Err(ServerError::BadGiven("holds no PEM certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&pair.key)
            .map_err(|_| ServerError::BadGiven("holds no usable PEM private key"))?;
        Ok(Self { chain, key })
    }

    /// A self-signed pair for `localhost`, for a server that has no files.
    pub(super) fn self_signed() -> Result<Self, ServerError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { chain: vec![made.cert.der().clone()], key: key.into() })
    }

    /// When the leaf ends, in seconds since the Unix epoch; `None` when it cannot be parsed.
    pub(super) fn not_after(&self) -> Option<i64> {
        let (_, leaf) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }

    /// The leaf's DNS names; none when it cannot be parsed.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let parsed = self.chain.first().map(|leaf| x509_parser::parse_x509_certificate(leaf));
        let Some(Ok((_, leaf))) = parsed else { return Vec::new() };
        let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        names.value.general_names.iter().filter_map(dns).collect()
    }

    /// The complete TLS configuration; fails when the key is not the certificate's. The whole
    /// configuration is replaced on every change, so no session of an old one is resumed.
    pub(super) fn into_config(self, settings: &Settings) -> Result<Arc<ServerConfig>, ServerError> {
        const BOTH: &[&SupportedProtocolVersion] =
            &[&rustls::version::TLS13, &rustls::version::TLS12];
        const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let provider = provider();
        let verifier = Arc::new(AnyClient { provider: Arc::clone(&provider) });
        let versions = match settings.min_tls {
            MinTls::Tls12 => BOTH,
            MinTls::Tls13 => NEW,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain, self.key)?;
        if settings.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Arc::new(config))
    }
}

/// Asks for a client certificate and accepts any whose key signed the handshake.
#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: naming one CA would keep clients of the other from sending their certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
