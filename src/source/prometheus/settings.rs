//! What a Prometheus source needs to connect, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use crate::source::SettingsProblem;

/// Headers that belong to the HTTP connection or to us; a custom value would break requests.
const RESERVED_HEADERS: [&str; 8] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The HTTP method of queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The query is part of the URL: proxies and caches understand it.
    #[default]
    Get,
    /// The query is the body: for queries longer than a URL may be.
    Post,
}

/// The values of one header.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValues {
    /// Fixed, one or several.
    Fixed(Vec<String>),
    /// The content of a file, re-read when it changes.
    File(PathBuf),
}

impl fmt::Debug for HeaderValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A value may be a secret; nobody can tell.
            Self::Fixed(values) => write!(f, "{} value(s)", values.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// How the source proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all, or by client certificate.
    #[default]
    None,
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
        /// The file with the password.
        password_file: PathBuf,
    },
    /// A token.
    Bearer {
        /// The file with the token.
        token_file: PathBuf,
    },
}

/// TLS towards the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate chain; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM of its key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, when it is not the URL's host. The name
    /// sent in the handshake (SNI) stays the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
}

/// What a Prometheus source needs to connect.
#[derive(Clone, PartialEq)]
pub struct PrometheusSettings {
    /// Where the API is, without `/api/v1`. No user info, query or fragment.
    pub url: Url,
    /// Headers sent with every query, by name.
    pub headers: Vec<(String, HeaderValues)>,
    /// How the source proves who it is.
    pub authentication: Authentication,
    /// GET or POST.
    pub method: Method,
    /// TLS.
    pub tls: TlsSettings,
    /// The longest that a fetch takes, the wait for a free slot included.
    pub timeout: Duration,
    /// Calls at one time.
    pub max_concurrent: usize,
    /// Largest answer taken, in bytes after decompression.
    pub max_response_bytes: usize,
    /// Most series taken in one answer.
    pub max_series: usize,
}

impl PrometheusSettings {
    /// Settings with every default.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            authentication: Authentication::None,
            method: Method::Get,
            tls: TlsSettings::default(),
            timeout: Duration::from_secs(5),
            max_concurrent: 16,
            max_response_bytes: 8 * 1024 * 1024,
            max_series: 1000,
        }
    }

    /// What is wrong, found without any input or output.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut found = Vec::new();
        let mut refuse = |field: &'static str, wrong: bool, message: &str| {
            if wrong {
                found.push(SettingsProblem { field, message: message.to_owned() });
            }
        };
        let url = &self.url;
        refuse(
            "url",
            !matches!(url.scheme(), "http" | "https") || !url.has_host(),
            "must be an http:// or https:// URL",
        );
        refuse(
            "url",
            !url.username().is_empty() || url.password().is_some(),
            "must not contain a user name or password; use basicAuth",
        );
        refuse(
            "url",
            url.query().is_some() || url.fragment().is_some(),
            "must not contain a query or fragment",
        );
        refuse(
            "url",
            url.path().trim_end_matches('/').ends_with("/api/v1/query"),
            "is the part before /api/v1/query",
        );
        refuse("timeout", self.timeout.is_zero(), "must be longer than zero");
        refuse("maxConcurrent", self.max_concurrent == 0, "must be at least 1");
        refuse("maxResponseBytes", self.max_response_bytes == 0, "must be at least 1");
        refuse("maxSeries", self.max_series == 0, "must be at least 1");
        let tls = &self.tls;
        refuse(
            "tls.certFile",
            tls.cert_file.is_some() != tls.key_file.is_some(),
            "certFile and keyFile belong together; one is missing",
        );
        refuse(
            "tls.insecureSkipVerify",
            tls.insecure_skip_verify && (tls.ca_file.is_some() || tls.server_name.is_some()),
            "contradicts caFile and serverName, which only matter when certificates are verified",
        );
        if let Authentication::Basic { username, .. } = &self.authentication {
            // RFC 7617: the first colon ends the user name.
            let bad = |c: char| c == ':' || c.is_control();
            refuse(
                "basicAuth.username",
                username.is_empty() || username.contains(bad),
                "must not be empty or contain a colon or control characters",
            );
        }
        for (name, values) in &self.headers {
            for message in self.header_problems(name, values) {
                refuse("headers", true, &message);
            }
        }
        found
    }

    fn header_problems(&self, name: &str, values: &HeaderValues) -> Vec<String> {
        let mut found = Vec::new();
        let Ok(parsed) = HeaderName::try_from(name) else {
            return vec![format!("{name:?} is not a header name")];
        };
        if RESERVED_HEADERS.contains(&parsed.as_str()) {
            found.push(format!("{name} is set by the HTTP client and cannot be changed"));
        }
        if parsed.as_str() == "authorization" && self.authentication != Authentication::None {
            found.push(format!("{name} contradicts basicAuth or bearerTokenFile"));
        }
        if let HeaderValues::Fixed(values) = values {
            if values.is_empty() {
                found.push(format!("{name} has no value"));
            }
            if values.iter().any(|v| HeaderValue::try_from(v).is_err()) {
                found.push(format!("{name} has a value with control characters"));
            }
        }
        found
    }
}

impl fmt::Debug for PrometheusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusSettings")
            .field("url", &shown_url(&self.url))
            .field("headers", &self.headers)
            .field("authentication", &self.authentication)
            .field("method", &self.method)
            .field("tls", &self.tls)
            .field("timeout", &self.timeout)
            .field("max_concurrent", &self.max_concurrent)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("max_series", &self.max_series)
            .finish()
    }
}

/// A URL without anything that may be a secret.
pub(super) fn shown_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
