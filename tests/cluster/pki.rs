//! Certificates of a control plane: separate authorities for clients and for the front proxy.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// A certificate authority whose files lie in one folder.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    /// The authority's own certificate, PEM.
    pub(crate) file: PathBuf,
}

/// A certificate and its key, PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority and writes `<folder>/<name>.crt`.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        let file = folder.join(format!("{name}.crt"));
        write(&file, &certificate.pem());
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned(), file }
    }

    /// Issues a certificate; `organization` becomes a group, `names` are DNS names or addresses.
    pub(crate) fn issue(
        &self,
        common_name: &str,
        organization: Option<&str>,
        names: &[&str],
        usage: Usage,
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of certificates are ASCII");
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate =
            params.signed_by(&key, &self.issuer).expect("an authority signs certificates");
        let file = common_name.replace([':', '/', '.'], "-");
        let pair = Pair {
            cert: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        };
        write(&pair.cert, &certificate.pem());
        write(&pair.key, &key.serialize_pem());
        pair
    }
}

/// A key pair that signs service account tokens: the private and the public file.
pub(crate) fn signing_key(folder: &Path) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().expect("a key can be made");
    let (private, public) =
        (folder.join("service-accounts.key"), folder.join("service-accounts.pub"));
    write(&private, &key.serialize_pem());
    write(&public, &key.public_key_pem());
    (private, public)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
