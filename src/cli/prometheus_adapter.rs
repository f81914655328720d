//! `tidepole prometheus-adapter`: the original prometheus-adapter's command line, so that a set-up
//! moves by changing its image.
//!
//! Responsible for: the original's flags, and the server config that they amount to.
//! Not responsible for: what the rules file means (`rules`).
//!
//! Invariants: every flag of the original is taken; one that has no meaning here is told in the log
//! when it is given.

mod flags;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::Url;

pub use flags::AdapterArgs;
use flags::{GoBool, Verb};

use crate::cli::EXIT_INPUT;
use crate::config::{Config, KubernetesSection, ResourcesSection, ServedApis, SourceConfig};
use crate::definition::Defaults;
use crate::definition::scalar::GoDuration;
use crate::definition::tenancy::Tenancy;
use crate::model::{Problem, SourceName};
use crate::rules::settings::DEFAULT_RELIST_INTERVAL;
use crate::rules::{RuleFile, RuleFileSettings};
use crate::runtime::kubernetes::{UpstreamAuth, upstream_auth};
use crate::runtime::lifecycle;
use crate::server::{self, AuthMode, MinTls, TlsFiles};
use crate::source::prometheus::{Authentication, HeaderValues, Method, TlsSettings};
use crate::source::{self, PrometheusSettings};
use crate::telemetry::logging::{self, LogFormat};

/// The source's name: rule files of this command name none.
const SOURCE: &str = "prometheus";

/// Where a pod finds its service account, for `--prometheus-auth-incluster`.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a first read may wait. The original answers every read with a live query and gives it a
/// minute; this is short enough for the HPA controller's few workers.
const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a query may take. The original has no timeout of its own but the request's minute.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Queries per second: 15,000 questions at the default refresh. The original has no bound at all, and
/// asks for every read.
const QUERIES_PER_SECOND: usize = 1000;

/// The status page's address, unless something else listens there.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);

/// Its address then.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Runs the server until it is stopped.
#[must_use]
pub fn run(args: &AdapterArgs) -> ExitCode {
    let level = match args.verbosity() {
        ..=4 => "info",
        5..=7 => "info,tidepole=debug",
        8.. => "debug",
    };
    if let Err(error) = logging::init(LogFormat::Text, Some(level)) {
        eprintln!("tidepole: {error}");
        return ExitCode::from(EXIT_INPUT);
    }
    for flag in args.without_meaning() {
        tracing::warn!(flag, "this flag of prometheus-adapter has no effect here");
    }
    match config(args) {
        Ok(config) => lifecycle::run(config),
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(EXIT_INPUT)
        }
    }
}

/// The server config that the flags amount to.
///
/// # Errors
/// With a line for everything that is wrong, the rules file included.
fn config(args: &AdapterArgs) -> Result<Config, Vec<String>> {
    let mut problems = Vec::new();
    let mut flag = |name: &str, message: String| problems.push(format!("--{name}: {message}"));
    let relist_interval = args.metrics_relist_interval.map_or(DEFAULT_RELIST_INTERVAL, |d| d.0);
    let rules = RuleFileSettings {
        path: args.config.clone().unwrap_or_default(),
        source: SourceName::new(SOURCE),
        relist_interval,
        series_max_age: args.metrics_max_age.map_or(relist_interval, |GoDuration(age)| age),
        refresh: args.refresh.map_or(Defaults::default().refresh, |GoDuration(refresh)| refresh),
        sample_max_age: args.sample_max_age.map_or(Defaults::default().max_age, |d| d.0),
        first_read_timeout: FIRST_READ_TIMEOUT,
    };
    let file = if let Some(path) = &args.config {
        let read = read_rules(path);
        read.inspect_err(|found| problems.extend(found.iter().map(ToString::to_string))).ok()
    } else {
        flag("config", "no rules file given".to_owned());
        None
    };
    let has_rules = file.as_ref().is_some_and(|file| !file.custom.is_empty());
    for (field, message) in rules.problems() {
        let name = match field {
            "relistInterval" => "metrics-relist-interval",
            // The original looks at this with rules for custom metrics alone.
            "seriesMaxAge" if !has_rules => continue,
            "seriesMaxAge" => "metrics-max-age",
            "refresh" => "refresh",
            _ => "sample-max-age",
        };
        problems.push(format!("--{name}: {message}"));
    }
    let settings = match prometheus(args) {
        Ok(settings) => Some(settings),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let server = match server(args) {
        Ok(server) => Some(server),
        Err(message) => {
            problems.push(message);
            None
        }
    };
    let (Some(file), Some(settings), Some(server), true) =
        (file, settings, server, problems.is_empty())
    else {
        return Err(problems);
    };
    let source = SourceConfig {
        name: SourceName::new(SOURCE),
        allowed_namespaces: Vec::new(),
        allowed_roles: Vec::new(),
        allowed_regions: Vec::new(),
        settings: source::Settings::Prometheus(Box::new(settings)),
    };
    let own = server.listen().port() == ADMIN.port();
    Ok(Config {
        server,
        certificates: None,
        shutdown_grace: Duration::from_secs(5),
        admin_listen: args.admin_listen.unwrap_or(if own { ANY_PORT } else { ADMIN }),
        // The original has no such listener: what has its port must not keep this from starting.
        admin_alternative: args.admin_listen.is_none().then_some(ANY_PORT),
        admin_token: None,
        kubernetes: KubernetesSection { enabled: true, kubeconfig: args.kubeconfig() },
        sources: vec![source],
        // As the original: a group without rules is not there.
        apis: ServedApis { external: !file.external.is_empty(), custom: !file.custom.is_empty() },
        definition_paths: Vec::new(),
        rules: vec![rules],
        // Nor did the original have such.
        resources: ResourcesSection {
            enabled: false,
            tenancy: Tenancy::default(),
            hpa_events: false,
        },
        defaults: Defaults { first_read_timeout: FIRST_READ_TIMEOUT, ..Defaults::default() },
        traces: None,
    })
}

fn read_rules(path: &Path) -> Result<RuleFile, Vec<Problem>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![Problem::new(path, format!("cannot be read: {error}"))])?;
    RuleFile::parse(path, &text)
}

/// The connection to Prometheus.
fn prometheus(args: &AdapterArgs) -> Result<PrometheusSettings, Vec<String>> {
    let mut problems = Vec::new();
    let text = args.prometheus_url.as_deref().unwrap_or("https://localhost");
    let mut settings =
        connection(text).map_err(|message| vec![format!("--prometheus-url: {message}")])?;
    settings.timeout = QUERY_TIMEOUT;
    settings.max_requests_per_second = QUERIES_PER_SECOND;
    settings.method = match args.prometheus_verb {
        Some(Verb::Post) => Method::Post,
        Some(Verb::Get) | None => Method::Get,
    };
    // In the original a CA file of its own replaces both other ways to authenticate.
    if let Some(ca) = args.prometheus_ca_file.clone() {
        settings.tls.ca_file = Some(ca);
        if let (Some(cert), Some(key)) =
            (&args.prometheus_client_tls_cert_file, &args.prometheus_client_tls_key_file)
        {
            settings.tls.cert_file = Some(cert.clone());
            settings.tls.key_file = Some(key.clone());
        }
    } else if args.prometheus_auth_incluster.is_true() && args.prometheus_auth_config.is_some() {
        problems.push(
            "--prometheus-auth-incluster, --prometheus-auth-config: only one of them".to_owned(),
        );
    } else if args.prometheus_auth_incluster.is_true() {
        let account = Path::new(SERVICE_ACCOUNT);
        settings.tls.ca_file = Some(account.join("ca.crt"));
        settings.authentication = Authentication::Bearer { token_file: account.join("token") };
    } else if let Some(path) = &args.prometheus_auth_config {
        match upstream_auth(path) {
            Ok(auth) => take_kubeconfig(&mut settings, auth),
            Err(error) => problems.push(format!("--prometheus-auth-config: {error:#}")),
        }
    }
    if let Some(token) = &args.prometheus_token_file {
        settings.authentication = Authentication::Bearer { token_file: token.clone() };
    }
    for header in &args.prometheus_header {
        let (name, value) = header.split_once('=').unwrap_or((header, ""));
        add_header(&mut settings, name, value.to_owned());
    }
    for problem in settings.problems() {
        problems.push(format!("--prometheus-*: {problem}"));
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// The connection to the server at a URL: a path is kept, user and password are sent.
///
/// # Errors
/// With a sentence that does not repeat the text, which may hold a password.
pub(super) fn connection(text: &str) -> Result<PrometheusSettings, String> {
    let mut url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) => return Err("http or https".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let basic = basic_auth(&url);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    let mut settings = PrometheusSettings::new(url);
    if let Some(value) = basic {
        add_header(&mut settings, "Authorization", value);
    }
    Ok(settings)
}

/// User and password in the URL are sent as Go's client sends them.
fn basic_auth(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or("")));
    Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// The same header may be given several times.
fn add_header(settings: &mut PrometheusSettings, name: &str, value: String) {
    let known = settings.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
    match known {
        Some((_, HeaderValues::Fixed(values))) => values.push(value),
        Some((_, HeaderValues::File(_))) => {}
        None => settings.headers.push((name.to_owned(), HeaderValues::Fixed(vec![value]))),
    }
}

fn take_kubeconfig(settings: &mut PrometheusSettings, auth: UpstreamAuth) {
    let UpstreamAuth { ca_file, cert_file, key_file, server_name, insecure, token_file, header } =
        auth;
    settings.tls =
        TlsSettings { ca_file, cert_file, key_file, server_name, insecure_skip_verify: insecure };
    if let Some(token_file) = token_file {
        settings.authentication = Authentication::Bearer { token_file };
    } else if let Some(value) = header {
        add_header(settings, "Authorization", value);
    }
}

/// The API listener.
fn server(args: &AdapterArgs) -> Result<server::Settings, String> {
    let address = args.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let listen = SocketAddr::new(address, args.secure_port.unwrap_or(443));
    let pair = match (&args.tls_cert_file, &args.tls_private_key_file) {
        (Some(certificate), Some(key)) => {
            Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => cert_dir_pair(&args.cert_dir()),
        _ => {
            return Err("--tls-cert-file, --tls-private-key-file: both or neither".to_owned());
        }
    };
    let mut settings = server::Settings::new(listen, AuthMode::Delegated, pair)
        .map_err(|error| format!("--bind-address: {error}"))?;
    settings.http2 = args.disable_http2 != GoBool::True;
    settings.min_tls = match args.tls_min_version.as_deref() {
        Some("VersionTLS13") => MinTls::Tls13,
        _ => MinTls::Tls12,
    };
    Ok(settings)
}

/// The pair that an earlier start of the original, or a volume, left in `--cert-dir`. Without one a
/// pair is made in memory: the original writes its own there.
fn cert_dir_pair(folder: &Path) -> Option<TlsFiles> {
    let (certificate, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
    (certificate.is_file() && key.is_file()).then_some(TlsFiles { certificate, key })
}

impl AdapterArgs {
    /// One kubeconfig for everything; the original may be given three.
    fn kubeconfig(&self) -> Option<PathBuf> {
        let all = [
            &self.lister_kubeconfig,
            &self.authentication_kubeconfig,
            &self.authorization_kubeconfig,
        ];
        let given: Vec<&PathBuf> =
            all.into_iter().flatten().filter(|path| !path.as_os_str().is_empty()).collect();
        if given.windows(2).any(|pair| pair[0] != pair[1]) {
            tracing::warn!(used = %given[0].display(), "several kubeconfigs are given; one is used for all");
        }
        given.first().map(|path| (*path).clone())
    }
}

#[cfg(test)]
mod tests;
