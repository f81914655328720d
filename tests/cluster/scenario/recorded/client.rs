//! A client that sends paths as they are written: whoever parses them first would mend them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::answer::Answer;
use crate::control_plane::ControlPlane;

/// Whom the recorded requests are for.
const IDENTITY: [(&str, &str); 3] = [
    ("X-Remote-User", "admin"),
    ("X-Remote-Group", "system:masters"),
    ("Accept", "application/json"),
];

/// Asks adapters as the aggregator does.
#[derive(Clone, Debug)]
pub(super) struct Client {
    proxy: Arc<ClientConfig>,
    anonymous: Arc<ClientConfig>,
}

impl Client {
    /// A client with the front proxy's certificate of a control plane.
    pub(super) fn new(plane: &ControlPlane) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(&plane.ca).expect("an authority is PEM");
        roots.add(ca).expect("our own authority is whole");
        let certificate = CertificateDer::from_pem_file(&plane.front_proxy.cert).expect("PEM");
        let key = PrivateKeyDer::from_pem_file(&plane.front_proxy.key).expect("PEM");
        let config = || ClientConfig::builder().with_root_certificates(roots.clone());
        let proxy = config().with_client_auth_cert(vec![certificate], key);
        Self {
            proxy: Arc::new(proxy.expect("our own pair is whole")),
            anonymous: Arc::new(config().with_no_client_auth()),
        }
    }

    /// One GET on a connection of its own. `headers` as in [`super::cases::Case`].
    pub(super) fn get(
        &self,
        port: u16,
        path: &str,
        headers: &BTreeMap<String, Value>,
    ) -> Result<Answer, String> {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        let usual = IDENTITY.iter().map(|&(name, value)| (name, Some(value)));
        let usual = usual.filter(|(name, _)| !headers.contains_key(*name));
        let own = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in usual.chain(own.filter(|(name, _)| *name != "cert")) {
            if let Some(value) = value {
                write!(head, "{name}: {value}\r\n").expect("writing to a String cannot fail");
            }
        }
        head.push_str("Connection: close\r\n\r\n");
        let anonymous = headers.get("cert") == Some(&Value::Bool(false));
        let config = if anonymous { &self.anonymous } else { &self.proxy };
        exchange(port, config, &head).map_err(|error| format!("{path}: {error}"))
    }
}

fn exchange(port: u16, config: &Arc<ClientConfig>, head: &str) -> std::io::Result<Answer> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let name = "127.0.0.1".try_into().expect("an address is a server's name");
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(tls, stream);
    tls.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    match tls.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Closed without the word of TLS for it: the length says whether that was all.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
    }
    let wrong = || std::io::Error::other(format!("{:?}", String::from_utf8_lossy(&bytes)));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(wrong)?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let body = bytes[end + 4..].to_vec();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if length.and_then(|length| length.parse().ok()) != Some(body.len()) {
        return Err(wrong());
    }
    Ok(Answer { status, body })
}
