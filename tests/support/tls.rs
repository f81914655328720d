//! Certificates for tests: an authority, and servers and clients that it vouches for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Makes aws-lc-rs the process's TLS provider. Call it before any TLS; twice does no harm.
pub(crate) fn install_provider() {
    // Fails only when another test of this binary was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// An authority with a key of its own.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("the parameters are valid");
        Self { issuer }
    }

    /// Its certificate, as PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A serving certificate for these DNS names and IP addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate: to Kubernetes the common name is the user and the organizations are
    /// the groups.
    pub(crate) fn client(&self, common_name: &str, organizations: &[&str]) -> Pair {
        self.sign(client_params(common_name, organizations))
    }

    /// The same, but its time was over long ago.
    pub(crate) fn expired_client(&self, common_name: &str, organizations: &[&str]) -> Pair {
        let mut params = client_params(common_name, organizations);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Pair {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client's TLS settings that trust this authority alone and show an identity, if given.
    /// Offers HTTP/2 and HTTP/1.1.
    pub(crate) fn client_config(&self, identity: Option<&Pair>) -> Arc<ClientConfig> {
        install_provider();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an own certificate is well-formed");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .expect("an own certificate is well-formed");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
                    .expect("an own key is well-formed");
                builder.with_client_auth_cert(chain, key).expect("certificate and key are a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Pair {
    /// Writes `<name>.crt` and `<name>.key` into a folder.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&paths.0, &self.certificate).expect("the test's folder is writable");
        fs::write(&paths.1, &self.key).expect("the test's folder is writable");
        paths
    }
}

fn client_params(common_name: &str, organizations: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    for organization in organizations {
        params.distinguished_name.push(DnType::OrganizationName, *organization);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
