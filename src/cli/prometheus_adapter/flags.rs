//! The original's flags: its own, those of its framework (custom-metrics-apiserver), of Kubernetes'
//! generic API server, and of klog.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::definition::scalar::GoDuration;

/// The method of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "GET" => Ok(Self::Get),
            "POST" => Ok(Self::Post),
            _ => Err("GET or POST".to_owned()),
        }
    }
}

/// A boolean flag as Go's pflag takes it: alone, or with `=` and a word of `strconv.ParseBool`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum GoBool {
    #[default]
    Absent,
    True,
    False,
}

impl GoBool {
    pub(super) fn is_true(self) -> bool {
        self == Self::True
    }
}

impl FromStr for GoBool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Self::True),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Self::False),
            _ => Err("true or false".to_owned()),
        }
    }
}

fn duration(text: &str) -> Result<GoDuration, String> {
    text.parse::<GoDuration>().map_err(|error| error.to_string())
}

/// Flags without an effect here, and what they take: a value, or nothing at all.
const IGNORED: &[&str] = &[
    "client-qps",
    "client-burst",
    "discovery-interval",
    "tls-sni-cert-key",
    "tls-cipher-suites",
    "http2-max-streams-per-connection",
    "authentication-token-webhook-cache-ttl",
    "client-ca-file",
    "requestheader-client-ca-file",
    "requestheader-allowed-names",
    "requestheader-username-headers",
    "requestheader-uid-headers",
    "requestheader-group-headers",
    "requestheader-extra-headers-prefix",
    "authorization-always-allow-paths",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "debug-socket-path",
    "vmodule",
    "log-flush-frequency",
    "log-backtrace-at",
    "log-dir",
    "log-file",
    "log-file-max-size",
    "stderrthreshold",
    "feature-gates",
];

/// The same for flags that are a word of their own or have a value behind `=`.
const IGNORED_SWITCHES: &[&str] = &[
    "permit-port-sharing",
    "permit-address-sharing",
    "authentication-skip-lookup",
    "authentication-tolerate-lookup-failure",
    "profiling",
    "contention-profiling",
    "enable-priority-and-fairness",
    "logtostderr",
    "alsologtostderr",
    "add-dir-header",
    "skip-headers",
    "skip-log-headers",
    "one-output",
];

/// Those of [`IGNORED`] that say nothing which could be missed: pace and tuning of the original.
const HARMLESS: &[&str] = &[
    "client-qps",
    "client-burst",
    "discovery-interval",
    "http2-max-streams-per-connection",
    "authentication-token-webhook-cache-ttl",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "vmodule",
    "log-flush-frequency",
];

/// Arguments of `tidepole prometheus-adapter`: the original's flags, and a few of our own.
#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// Where Prometheus is; a path is kept, user and password are sent [default: `https://localhost`]
    #[arg(long, value_name = "URL", overrides_with = "prometheus_url")]
    pub(super) prometheus_url: Option<String>,
    /// Method of queries: GET or POST
    #[arg(long, value_name = "METHOD", overrides_with = "prometheus_verb")]
    pub(super) prometheus_verb: Option<Verb>,
    /// Use the pod's service account to authenticate to Prometheus
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", hide_default_value = true, overrides_with = "prometheus_auth_incluster")]
    pub(super) prometheus_auth_incluster: GoBool,
    /// A kubeconfig whose credentials and TLS settings are used for Prometheus
    #[arg(long, value_name = "FILE", overrides_with = "prometheus_auth_config")]
    pub(super) prometheus_auth_config: Option<PathBuf>,
    /// CAs of Prometheus, instead of the system's
    #[arg(long, value_name = "FILE", overrides_with = "prometheus_ca_file")]
    pub(super) prometheus_ca_file: Option<PathBuf>,
    /// Client certificate for Prometheus; only with a CA file, as in the original
    #[arg(long, value_name = "FILE", overrides_with = "prometheus_client_tls_cert_file")]
    pub(super) prometheus_client_tls_cert_file: Option<PathBuf>,
    /// Key of the client certificate
    #[arg(long, value_name = "FILE", overrides_with = "prometheus_client_tls_key_file")]
    pub(super) prometheus_client_tls_key_file: Option<PathBuf>,
    /// Bearer token for Prometheus; read again when it changes
    #[arg(long, value_name = "FILE", overrides_with = "prometheus_token_file")]
    pub(super) prometheus_token_file: Option<PathBuf>,
    /// A header for Prometheus, name=value; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) prometheus_header: Vec<String>,
    /// The rules file
    #[arg(long, value_name = "FILE", overrides_with = "config")]
    pub(super) config: Option<PathBuf>,
    /// How often series are listed [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration, overrides_with = "metrics_relist_interval")]
    pub(super) metrics_relist_interval: Option<GoDuration>,
    /// How far back a series may have had its last sample [default: as often as series are listed]
    #[arg(long, value_name = "DURATION", value_parser = duration, overrides_with = "metrics_max_age")]
    pub(super) metrics_max_age: Option<GoDuration>,
    /// Serve HTTP/1.1 alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", hide_default_value = true, overrides_with = "disable_http2")]
    pub(super) disable_http2: GoBool,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS", overrides_with = "bind_address")]
    pub(super) bind_address: Option<IpAddr>,
    /// Port to listen on [default: 443]
    #[arg(long, value_name = "PORT", overrides_with = "secure_port")]
    pub(super) secure_port: Option<u16>,
    /// Folder with apiserver.crt and apiserver.key; without them a pair is made in memory
    #[arg(long, value_name = "FOLDER", overrides_with = "cert_dir")]
    pub(super) cert_dir: Option<PathBuf>,
    /// Serving certificate, PEM
    #[arg(long, value_name = "FILE", overrides_with = "tls_cert_file")]
    pub(super) tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate, PEM
    #[arg(long, value_name = "FILE", overrides_with = "tls_private_key_file")]
    pub(super) tls_private_key_file: Option<PathBuf>,
    /// Oldest TLS version: `VersionTLS12` or `VersionTLS13`
    #[arg(long, value_name = "VERSION", overrides_with = "tls_min_version")]
    pub(super) tls_min_version: Option<String>,
    /// The cluster whose objects are listed; default in-cluster
    #[arg(long, value_name = "FILE", overrides_with = "lister_kubeconfig")]
    pub(super) lister_kubeconfig: Option<PathBuf>,
    /// The cluster that authenticates
    #[arg(long, value_name = "FILE", overrides_with = "authentication_kubeconfig")]
    pub(super) authentication_kubeconfig: Option<PathBuf>,
    /// The cluster that authorizes
    #[arg(long, value_name = "FILE", overrides_with = "authorization_kubeconfig")]
    pub(super) authorization_kubeconfig: Option<PathBuf>,
    /// How much is logged: 5 and more is debug, 8 and more everything
    #[arg(short, long, value_name = "LEVEL", overrides_with = "v")]
    pub(super) v: Option<i32>,
    /// How often a value is read while it is wanted [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) refresh: Option<GoDuration>,
    /// Age at which a value is never served any more; until then it is held while Prometheus fails
    /// [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) sample_max_age: Option<GoDuration>,
    /// Address of the status page, health and metrics, plain HTTP [default: [::]:8080 if it is free]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    ignored: Ignored,
    /// Taken and ignored, as by the original, whose charts pass its own path
    #[arg(hide = true)]
    positional: Vec<String>,
}

/// Flags that are taken and have no effect.
#[derive(Debug, Default)]
struct Ignored {
    given: Vec<&'static str>,
}

impl clap::FromArgMatches for Ignored {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let all = IGNORED.iter().chain(IGNORED_SWITCHES).chain(AUDIT);
        let is_given = |name: &&&'static str| {
            matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine)
        };
        Ok(Self { given: all.filter(is_given).copied().collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Ignored {
    fn augment_args(mut command: clap::Command) -> clap::Command {
        let hidden = |name: &'static str| {
            clap::Arg::new(name).long(name).hide(true).action(clap::ArgAction::Append)
        };
        for name in IGNORED {
            command = command.arg(hidden(name).allow_hyphen_values(true));
        }
        for name in IGNORED_SWITCHES.iter().chain(AUDIT) {
            let is_switch = IGNORED_SWITCHES.contains(name) || AUDIT_SWITCHES.contains(name);
            let arg = hidden(name);
            command = command.arg(if is_switch {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                arg.allow_hyphen_values(true)
            });
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Kubernetes' audit flags.
const AUDIT: &[&str] = &[
    "audit-log-batch-buffer-size",
    "audit-log-batch-max-size",
    "audit-log-batch-max-wait",
    "audit-log-batch-throttle-burst",
    "audit-log-batch-throttle-enable",
    "audit-log-batch-throttle-qps",
    "audit-log-compress",
    "audit-log-format",
    "audit-log-maxage",
    "audit-log-maxbackup",
    "audit-log-maxsize",
    "audit-log-mode",
    "audit-log-path",
    "audit-log-truncate-enabled",
    "audit-log-truncate-max-batch-size",
    "audit-log-truncate-max-event-size",
    "audit-log-version",
    "audit-policy-file",
    "audit-webhook-batch-buffer-size",
    "audit-webhook-batch-initial-backoff",
    "audit-webhook-batch-max-size",
    "audit-webhook-batch-max-wait",
    "audit-webhook-batch-throttle-burst",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-batch-throttle-qps",
    "audit-webhook-config-file",
    "audit-webhook-initial-backoff",
    "audit-webhook-mode",
    "audit-webhook-truncate-enabled",
    "audit-webhook-truncate-max-batch-size",
    "audit-webhook-truncate-max-event-size",
    "audit-webhook-version",
];

/// Those of [`AUDIT`] that are booleans.
const AUDIT_SWITCHES: &[&str] = &[
    "audit-log-batch-throttle-enable",
    "audit-log-compress",
    "audit-log-truncate-enabled",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-truncate-enabled",
];

impl AdapterArgs {
    /// The flags given that somebody may miss.
    pub(super) fn without_meaning(&self) -> impl Iterator<Item = &'static str> {
        let quiet = |name: &&str| HARMLESS.contains(name) || IGNORED_SWITCHES.contains(name);
        self.ignored.given.iter().copied().filter(move |name| !quiet(name))
    }

    /// `-v`
    pub(super) fn verbosity(&self) -> i32 {
        self.v.unwrap_or(0)
    }

    /// `--cert-dir`
    pub(super) fn cert_dir(&self) -> PathBuf {
        self.cert_dir.clone().unwrap_or_else(|| "apiserver.local.config/certificates".into())
    }
}
