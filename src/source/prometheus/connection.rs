//! The prepared HTTP client, made anew when its certificates change.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_http_query::Client;
use reqwest::redirect::Policy;

use crate::model::{Clock, SourceName};
use crate::source::prometheus::settings::{PrometheusSettings, shown_url};
use crate::source::tls::{self, Expectation, Material, TlsError};
use crate::source::watched::WatchedFile;
use crate::source::{BuildError, SettingsProblem};

/// Idle connections are closed after this time: shorter than the usual 60 s and more of servers
/// and load balancers, so that we rarely write into a connection that the other side has closed.
const IDLE: Duration = Duration::from_secs(50);

/// The connection to one server.
#[derive(Debug)]
pub(super) struct Connection {
    name: SourceName,
    url: String,
    max_idle: usize,
    connect_timeout: Duration,
    expect: Expectation,
    ca: Option<WatchedFile>,
    identity: Option<(WatchedFile, WatchedFile)>,
    current: Mutex<Current>,
}

struct Current {
    /// What `client` was made of.
    used: Material,
    /// What was tried last and failed.
    refused: Option<Material>,
    client: Client,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl Connection {
    /// Reads certificates and makes the first client.
    pub(super) fn open(
        name: &SourceName,
        settings: &PrometheusSettings,
        clock: &dyn Clock,
    ) -> Result<Self, BuildError> {
        let tls = &settings.tls;
        let open = |field, path: &Path, check| {
            WatchedFile::open(name, field, path, check, clock.tick()).map_err(|cause| {
                BuildError::File { name: name.clone(), field, path: path.to_owned(), cause }
            })
        };
        let ca = tls
            .ca_file
            .as_deref()
            .map(|path| open("tls.caFile", path, tls::check_certificates))
            .transpose()?;
        let identity = match (&tls.cert_file, &tls.key_file) {
            (Some(certificate), Some(key)) => Some((
                open("tls.certFile", certificate, tls::check_certificates)?,
                open("tls.keyFile", key, tls::check_key)?,
            )),
            _ => None,
        };
        let expect = Expectation {
            server_name: tls.server_name.clone(),
            insecure: tls.insecure_skip_verify,
            required: settings.url.scheme() == "https",
        };
        // The client joins base and path with a slash of its own.
        let url = shown_url(&settings.url).trim_end_matches('/').to_owned();
        let used = material(ca.as_ref(), identity.as_ref(), clock);
        let client = make(&used, &expect, &url, settings.max_concurrent, settings.timeout);
        let client = client.map_err(|error| match error {
            MakeError::NoTrustStore(cause) => {
                BuildError::NoTrustStore { name: name.clone(), cause, remedy: "tls.caFile" }
            }
            MakeError::Tls(message) => BuildError::Settings {
                name: name.clone(),
                problem: SettingsProblem::value(&["tls"], message),
            },
            MakeError::Client(cause) => BuildError::Client { name: name.clone(), cause },
        })?;
        Ok(Self {
            name: name.clone(),
            url,
            max_idle: settings.max_concurrent,
            connect_timeout: settings.timeout,
            expect,
            ca,
            identity,
            current: Mutex::new(Current { used, refused: None, client }),
        })
    }

    /// Where the API is, without anything that may be a secret.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The client, with the certificates as they are now. Certificate and key that do not belong
    /// together (one is already rotated, the other not yet) leave the old client in use.
    pub(super) fn client(&self, clock: &dyn Clock) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ca.is_none() && self.identity.is_none() {
            return current.client.clone();
        }
        let now = material(self.ca.as_ref(), self.identity.as_ref(), clock);
        if now != current.used && current.refused.as_ref() != Some(&now) {
            let source = self.name.as_str();
            match make(&now, &self.expect, &self.url, self.max_idle, self.connect_timeout) {
                Ok(client) => {
                    tracing::info!(source, "client made anew with changed certificates");
                    *current = Current { used: now, refused: None, client };
                }
                Err(error) => {
                    tracing::warn!(
                        source, %error,
                        "changed certificates cannot be used; the old ones stay in use"
                    );
                    current.refused = Some(now);
                }
            }
        }
        current.client.clone()
    }
}

/// The material as it is now.
fn material(
    ca: Option<&WatchedFile>,
    identity: Option<&(WatchedFile, WatchedFile)>,
    clock: &dyn Clock,
) -> Material {
    Material {
        ca: ca.map(|file| file.content(clock)),
        identity: identity.map(|(cert, key)| (cert.content(clock), key.content(clock))),
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("this system has no CA certificates ({0})")]
    NoTrustStore(String),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Client(String),
}

fn make(
    material: &Material,
    expect: &Expectation,
    url: &str,
    max_idle: usize,
    connect_timeout: Duration,
) -> Result<Client, MakeError> {
    let tls = tls::client_config(material, expect).map_err(|error| match error {
        TlsError::NoTrustStore(cause) => MakeError::NoTrustStore(cause),
        TlsError::Unusable(cause) => MakeError::Tls(cause),
    })?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .user_agent(concat!("tidepole/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(max_idle)
        .connect_timeout(connect_timeout)
        .build()
        .map_err(|e| MakeError::Client(e.without_url().to_string()))?;
    Client::from(client, url).map_err(|e| MakeError::Client(e.to_string()))
}
