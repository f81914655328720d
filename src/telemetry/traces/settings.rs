//! Where traces go, and how many.

use std::fmt;
use std::path::PathBuf;

use url::Url;

/// Where OTLP over HTTP takes traces, below a collector's address.
const PATH: &str = "v1/traces";

/// Longest value of a header.
pub(super) const MAX_HEADER_BYTES: u64 = 8 * 1024;

/// Headers that the client sets.
const RESERVED: [&str; 5] =
    ["content-length", "content-type", "host", "transfer-encoding", "user-agent"];

/// Settings of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The collector's address, `http` or `https`; `/v1/traces` is added unless it ends so.
    pub endpoint: Url,
    /// The share of traces that begin here and are sent, 0 to 1. One that begins elsewhere is sent if its
    /// beginning was.
    pub sample_ratio: f64,
    /// Headers of every export, by name.
    pub headers: Vec<(String, Header)>,
}

/// A header's value. Maybe a secret: its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Header {
    /// As it is sent.
    Fixed(String),
    /// In a file, read at start.
    File(PathBuf),
}

/// A mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The field below `telemetry.traces`, key by key.
    pub field: Vec<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Header {
    /// Whether a text can be a header's value.
    pub(super) fn is_value(text: &str) -> bool {
        let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        !text.is_empty() && text.bytes().all(printable)
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("a value"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

impl Settings {
    /// One of a hundred: a reader every 15 s makes a trace every 25 minutes.
    pub const DEFAULT_SAMPLE_RATIO: f64 = 0.01;

    /// Everything that is wrong with them.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut found = Vec::new();
        let mut add = |field: &[&str], message: &str| {
            let field = field.iter().map(|&key| key.to_owned()).collect();
            found.push(SettingsProblem { field, message: message.to_owned() });
        };
        let url = &self.endpoint;
        if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
            add(&["endpoint"], "expected an address like http://otel-collector.monitoring:4318");
        }
        if !url.username().is_empty() || url.password().is_some() {
            add(&["endpoint"], "credentials belong into headers, from a file");
        }
        if url.query().is_some() || url.fragment().is_some() {
            add(&["endpoint"], "expected an address without ? and #");
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            add(&["sampleRatio"], "expected a number from 0 to 1");
        }
        let mut names: Vec<String> = Vec::new();
        for (name, header) in &self.headers {
            let field = ["headers", name.as_str()];
            let lower = name.to_ascii_lowercase();
            let of_a_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(of_a_name) {
                add(&field, "not a valid header name");
            }
            if RESERVED.contains(&&*lower) {
                add(&field, "this header is set by the client itself");
            }
            if names.contains(&lower) {
                add(&field, "this header is set twice; case makes no difference");
            }
            names.push(lower);
            if let Header::Fixed(value) = header
                && !Header::is_value(value)
            {
                add(&field, "a header's value is one line of printable ASCII characters");
            }
        }
        found
    }

    /// Where spans are posted to.
    pub(super) fn address(&self) -> String {
        let text = self.endpoint.as_str().trim_end_matches('/');
        if text.ends_with(PATH) { text.to_owned() } else { format!("{text}/{PATH}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str) -> Settings {
        let endpoint = Url::parse(endpoint).unwrap();
        Settings { endpoint, sample_ratio: Settings::DEFAULT_SAMPLE_RATIO, headers: Vec::new() }
    }

    #[test]
    fn an_address_is_the_collectors_or_that_of_its_traces() {
        for (endpoint, address) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("https://otel/otlp", "https://otel/otlp/v1/traces"),
            ("https://otel/otlp/v1/traces/", "https://otel/otlp/v1/traces"),
        ] {
            assert_eq!(settings(endpoint).address(), address);
            assert_eq!(settings(endpoint).problems(), []);
        }
    }

    #[test]
    fn every_mistake_is_said_and_no_secret_shown() {
        let mut wrong = settings("ftp://me:hunter2@otel/?a#b");
        wrong.sample_ratio = 1.5;
        let fixed = |text: &str| Header::Fixed(text.to_owned());
        wrong.headers = vec![
            ("a b".to_owned(), fixed("hunter2")),
            ("Host".to_owned(), fixed("x")),
            ("x-key".to_owned(), fixed("hunter2\n")),
            ("X-Key".to_owned(), Header::File("key".into())),
        ];
        let found: Vec<String> = wrong
            .problems()
            .iter()
            .map(|problem| format!("{}: {}", problem.field.join("."), problem.message))
            .collect();
        assert_eq!(
            found,
            [
                "endpoint: expected an address like http://otel-collector.monitoring:4318",
                "endpoint: credentials belong into headers, from a file",
                "endpoint: expected an address without ? and #",
                "sampleRatio: expected a number from 0 to 1",
                "headers.a b: not a valid header name",
                "headers.Host: this header is set by the client itself",
                "headers.x-key: a header's value is one line of printable ASCII characters",
                "headers.X-Key: this header is set twice; case makes no difference",
            ]
        );
        wrong.sample_ratio = f64::NAN;
        assert!(wrong.problems().iter().any(|problem| problem.field == ["sampleRatio"]));
        assert!(!format!("{:?}", wrong.headers).contains("hunter2"));
    }
}
