//! The sources of a server config.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::model::{Pattern, SourceKind, SourceName};

pub(super) use check::sources;

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name, unique; a DNS label, so that it can stand in labels and paths.
    pub name: SourceName,
    /// The namespaces whose definitions may use it. Default empty: all.
    pub allowed_namespaces: Vec<Pattern>,
    /// How to reach it.
    pub settings: SourceSettings,
}

/// How to reach a source, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSettings {
    /// A Prometheus-compatible HTTP API.
    Prometheus(Box<PrometheusSource>),
    /// One AWS identity.
    Aws(AwsSource),
    /// Made-up signals; nothing to set.
    Simulated,
}

/// A Prometheus-compatible HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSource {
    /// Its address, http or https, with the path under which `/api/v1` is; no user, no query.
    pub url: Url,
    /// Further request headers, names in lower case. Default none.
    pub headers: BTreeMap<String, HeaderValues>,
    /// User and password. Default none; excludes `bearer_token_file`.
    pub basic_auth: Option<BasicAuth>,
    /// File of a bearer token. Default none.
    pub bearer_token_file: Option<PathBuf>,
    /// How queries are sent. Default GET: caches and read-only proxies let it pass.
    pub method: HttpMethod,
    /// TLS beyond the system's roots. Default none.
    pub tls: ClientTls,
    /// Longest wait for one answer. Default 5 s: a third of the default refresh.
    pub timeout: Duration,
    /// Most queries at a time. Default 16: Prometheus itself runs 20 (`--query.max-concurrency`).
    pub max_concurrent: usize,
    /// Largest answer. Default 8 MiB: about 80,000 series, far beyond what the HPA can use.
    pub max_response_bytes: usize,
    /// Most series in one answer. Default 1000: more is nearly always a forgotten `sum`.
    pub max_series: usize,
}

/// The values of one header.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValues {
    /// As written in the config.
    Values(Vec<String>),
    /// Read from a file, re-read when it changes.
    File(PathBuf),
}

impl fmt::Debug for HeaderValues {
    /// Without the values, which may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) => write!(f, "{} value(s)", values.len()),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// File of the password.
    pub password_file: PathBuf,
}

/// How queries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// In the URL.
    Get,
    /// As a form: for queries beyond what proxies allow in a URL.
    Post,
}

/// TLS towards a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have, when it is not the URL's host.
    pub server_name: Option<String>,
    /// Trust every certificate.
    pub insecure_skip_verify: bool,
}

/// One AWS identity; the credentials come from the SDK's default chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSource {
    /// Its region.
    pub region: Arc<str>,
    /// The SQS endpoint, when it is not the region's own: `sqsEndpointUrl`, else `endpointUrl`.
    pub sqs_endpoint: Option<Url>,
    /// Roles that definitions may name. Default none.
    pub allowed_roles: Vec<Pattern>,
    /// Regions that definitions may name, `region` among them. Default `region` alone.
    pub allowed_regions: Vec<Arc<str>>,
    /// Longest wait for one answer, retries included. Default 5 s: a third of the default refresh.
    pub timeout: Duration,
    /// Most calls at a time. Default 16: at 20 ms a call, 800 queues a second.
    pub max_concurrent: usize,
    /// Use FIPS endpoints. Default false.
    pub fips: bool,
    /// Use dual-stack endpoints. Default false.
    pub dual_stack: bool,
}

impl SourceSettings {
    /// The source's kind.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Prometheus(_) => SourceKind::Prometheus,
            Self::Aws(_) => SourceKind::Aws,
            Self::Simulated => SourceKind::Simulated,
        }
    }
}
