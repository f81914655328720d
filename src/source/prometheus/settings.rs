//! What a Prometheus source needs to connect, and what is wrong with it.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderName;
use rustls_pki_types::ServerName;
use url::Url;

use crate::source::SettingsProblem;
use crate::source::prometheus::sigv4::SigV4Settings;
use crate::source::settings::{
    BreakerSettings, DEFAULT_CONCURRENT, DEFAULT_TIMEOUT, check_calls, check_protection,
    check_range, url_problem,
};

/// Headers that belong to the HTTP client; a custom value would break requests.
const OWN_HEADERS: [&str; 10] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// About 80,000 series, far beyond what the HPA can use.
const DEFAULT_RESPONSE_BYTES: usize = 8 << 20;
/// Room for an error message, at least.
const MIN_RESPONSE_BYTES: usize = 1 << 10;
/// An answer's decoded form is a few times its size; beyond this a pod's memory is at stake.
const MAX_RESPONSE_BYTES: usize = 256 << 20;
/// More is nearly always a forgotten `sum`.
const DEFAULT_SERIES: usize = 1000;
const MAX_SERIES: usize = 1_000_000;
/// What all places together ask of a server that answers within 40 ms, so that of a common server
/// the places are the bound: at 100 a start with a thousand HPAs took ten seconds. Prometheus documents
/// no bound of its own on rates; a managed one that has a lower one throttles, and is asked less.
const DEFAULT_RATE: usize = 400;

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
    /// An AWS signature.
    SigV4(Box<SigV4Settings>),
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
    /// Queries per second.
    pub max_requests_per_second: usize,
    /// When the server is left alone because it fails.
    pub breaker: BreakerSettings,
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
            timeout: DEFAULT_TIMEOUT,
            max_concurrent: DEFAULT_CONCURRENT,
            max_requests_per_second: DEFAULT_RATE,
            breaker: BreakerSettings::default(),
            max_response_bytes: DEFAULT_RESPONSE_BYTES,
            max_series: DEFAULT_SERIES,
        }
    }

    /// What is wrong, found without any input or output.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut found = Vec::new();
        let instead = "use basicAuth, which reads a file";
        if let Some(message) = url_problem(&self.url, instead) {
            found.push(SettingsProblem::value(&["url"], message));
        }
        if self.url.path().trim_end_matches('/').ends_with("/api/v1/query") {
            let message = "the URL is the part before /api/v1/query";
            found.push(SettingsProblem::value(&["url"], message));
        }
        self.check_headers(&mut found);
        self.check_authentication(&mut found);
        self.tls.check(&mut found);
        check_calls(&mut found, self.timeout, self.max_concurrent);
        check_protection(&mut found, Some(self.max_requests_per_second), &self.breaker);
        let bytes = (MIN_RESPONSE_BYTES, MAX_RESPONSE_BYTES);
        check_range(&mut found, "maxResponseBytes", self.max_response_bytes, bytes);
        check_range(&mut found, "maxSeries", self.max_series, (1, MAX_SERIES));
        found
    }

    fn check_headers(&self, found: &mut Vec<SettingsProblem>) {
        let mut seen = HashSet::new();
        for (name, values) in &self.headers {
            let field = ["headers", name];
            match HeaderName::try_from(name) {
                Err(_) => found.push(SettingsProblem::key(&field, "not a valid header name")),
                Ok(parsed) if OWN_HEADERS.contains(&parsed.as_str()) => {
                    let message = "this header is set by the client itself";
                    found.push(SettingsProblem::key(&field, message));
                }
                Ok(parsed) => {
                    if !seen.insert(parsed) {
                        let message = "this header is set twice; case makes no difference";
                        found.push(SettingsProblem::key(&field, message));
                    }
                }
            }
            let is_clean =
                |text: &String| text.bytes().all(|b| b == b'\t' || (32..127).contains(&b));
            if let HeaderValues::Fixed(values) = values
                && (values.is_empty() || !values.iter().all(is_clean))
            {
                let message = "a header's value is one line of printable ASCII characters";
                found.push(SettingsProblem::value(&field, message));
            }
        }
    }

    fn check_authentication(&self, found: &mut Vec<SettingsProblem>) {
        if let Authentication::Basic { username, .. } = &self.authentication {
            let field = ["basicAuth", "username"];
            // RFC 7617: the first colon ends the user name.
            if username.contains(':') || username.contains(char::is_control) {
                let message = "a user name has no colon and no control characters";
                found.push(SettingsProblem::value(&field, message));
            } else if username.is_empty() {
                found.push(SettingsProblem::value(&field, "the user name is empty"));
            }
        }
        if let Authentication::SigV4(sigv4) = &self.authentication {
            sigv4.check(found, &self.url, self.headers.iter().map(|(name, _)| name.as_str()));
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            return;
        }
        let (first, second) = match self.authentication {
            Authentication::None => return,
            Authentication::Basic { .. } => ("basicAuth", "headers"),
            Authentication::Bearer { .. } => ("headers", "bearerTokenFile"),
            Authentication::SigV4(_) => ("headers", "sigV4"),
        };
        let message = format!("{first} already says who we are; only one way to do so is allowed");
        found.push(SettingsProblem::key(&[second], message));
    }
}

impl TlsSettings {
    fn check(&self, found: &mut Vec<SettingsProblem>) {
        if self.cert_file.is_some() != self.key_file.is_some() {
            let missing = if self.key_file.is_some() { "certFile" } else { "keyFile" };
            let message = "certFile and keyFile belong together";
            found.push(SettingsProblem::value(&["tls", missing], message));
        }
        if self.insecure_skip_verify && (self.ca_file.is_some() || self.server_name.is_some()) {
            let message =
                "with insecureSkipVerify nothing is verified; remove it, or caFile and serverName";
            found.push(SettingsProblem::value(&["tls", "insecureSkipVerify"], message));
        }
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            let message = format!("{name:?} is not a host name");
            found.push(SettingsProblem::value(&["tls", "serverName"], message));
        }
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
            .field("max_requests_per_second", &self.max_requests_per_second)
            .field("breaker", &self.breaker)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("max_series", &self.max_series)
            .finish()
    }
}

/// A URL without anything that may be a secret.
pub(super) fn shown_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
