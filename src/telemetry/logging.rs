//! Where log lines go and what they look like: standard error, one line per event, as text for
//! people or as JSON for machines.
//!
//! Not responsible for: what is logged. An error is logged once, where it is handled, and never
//! with a secret in it.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variable that sets the filter when no flag does, as in most Rust programs.
pub const FILTER_VARIABLE: &str = "RUST_LOG";

/// Whoever watches something in the cluster says once when that fails; the library says so at every
/// attempt.
const WATCHES: &str = "kube_runtime=error";

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
}

impl LogFormat {
    /// The word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LoggingError::Format(text.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Not a format.
    #[error("unknown log format {0:?}; use text or json")]
    Format(String),
    /// Not a filter.
    #[error(
        "invalid log filter {filter:?} ({cause}); use error, warn, info, debug, trace, or directives like tidepole=debug,hyper=info"
    )]
    Filter {
        /// As given.
        filter: String,
        /// The parser's complaint.
        cause: String,
    },
    /// Another subscriber is there already.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Starts logging for the whole process. `filter` is a level or a list of directives; without it
/// `RUST_LOG` decides, and without that everything from `info` up is written.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), LoggingError> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let filter = parse_filter(filter, variable.as_deref())?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing::subscriber::set_global_default(subscriber(format, filter, colours, io::stderr))
        .map_err(|_| LoggingError::AlreadySet)
}

/// Checks a filter without using it, for command lines and config files.
///
/// # Errors
/// When the filter cannot be read.
pub fn check_filter(filter: &str) -> Result<(), LoggingError> {
    parse_filter(Some(filter), None).map(drop)
}

fn parse_filter(flag: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let wanted =
        [flag, variable].into_iter().flatten().map(str::trim).find(|text| !text.is_empty());
    let wanted = wanted.unwrap_or("info");
    let directives = match wanted.to_ascii_lowercase().as_str() {
        // A bare chatty level means this program's own events: the HTTP stack's would bury them.
        level @ ("debug" | "trace") => format!("info,{WATCHES},tidepole={level}"),
        level @ ("info" | "warn") => format!("{level},{WATCHES}"),
        _ => wanted.to_owned(),
    };
    EnvFilter::builder().parse(&directives).map_err(|error| LoggingError::Filter {
        filter: wanted.to_owned(),
        cause: error.to_string(),
    })
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: Option<&str>, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = parse_filter(filter, variable).unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(source = "main", attempts = 3, "upstream\nfailed");
            tracing::debug!("own detail");
            tracing::debug!(target: "hyper", "foreign detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn foreign_warnings(filter: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = parse_filter(filter, None).unwrap();
        let subscriber = subscriber(LogFormat::Text, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_runtime::watcher", "watch list error with 403");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(LogFormat::Json, None, None);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "upstream\nfailed");
        assert_eq!(line["source"], "main");
        assert_eq!(line["attempts"], 3);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn the_flag_beats_the_variable_and_a_bare_level_is_our_own() {
        assert_eq!(logged(LogFormat::Text, Some("warn"), Some("debug")), "");
        assert!(logged(LogFormat::Text, None, Some("debug")).contains("own detail"));
        assert!(!logged(LogFormat::Text, Some("debug"), None).contains("foreign detail"));
        assert!(logged(LogFormat::Text, Some("hyper=debug"), None).contains("foreign detail"));
        let loud = "warn,kube_runtime=warn";
        for (filter, lines) in [(None, 0), (Some("warn"), 0), (Some("debug"), 0), (Some(loud), 1)] {
            let heard = foreign_warnings(filter).lines().count();
            assert_eq!(heard, lines, "{filter:?}");
        }
        assert!(!logged(LogFormat::Text, Some(""), None).contains("own detail"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_words_that_can() {
        let error = check_filter("tidepole=loud").unwrap_err().to_string();
        assert!(error.starts_with("invalid log filter \"tidepole=loud\" ("), "{error}");
        let error = "yaml".parse::<LogFormat>().unwrap_err().to_string();
        assert_eq!(error, "unknown log format \"yaml\"; use text or json");
        assert_eq!("json".parse::<LogFormat>().unwrap().to_string(), "json");
    }
}
