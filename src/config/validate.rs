//! From the document to a [`Config`]: everything but the sources.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::document::{AuthName, DefaultsSpec, Document, KeyPair};
use crate::config::{
    Config, DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN, DEFAULT_SHUTDOWN_GRACE, KIND, KubernetesSection,
    Overrides, ResourcesSection, ServedApis, SourceConfig, certificates, source, traces,
};
use crate::definition::Defaults;
use crate::definition::decode::decode;
use crate::definition::document::API_VERSION;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::scalar::{GoDuration, Number};
use crate::definition::tenancy::Tenancy;
use crate::model::{Decimal, SourceName};
use crate::rules::settings::{DEFAULT_RELIST_INTERVAL, RuleFileSettings};
use crate::server::{self, AuthMode, TlsFiles};

/// Longest wait for a first value. The aggregator gives up after 60 s, the HPA's own client
/// earlier; a longer wait would only hold connections.
const MAX_FIRST_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The config of a document; `None` when the report holds what is wrong with it.
pub(super) fn config(report: &mut Report<'_>, overrides: &Overrides) -> Option<Config> {
    let document: Document = decode(report, &Field::root())?;
    header(report, &document);
    let base = report.path().parent().unwrap_or(Path::new("")).to_owned();
    let enabled = document.kubernetes.enabled.unwrap_or(true);
    let apis = apis(report, &document, enabled);
    let server = server(report, &document, overrides, &base, enabled);
    let flags = overrides.tls_cert_file.is_some() || overrides.tls_private_key_file.is_some();
    let certificates = certificates::managed(report, document.server.tls.as_ref(), enabled, flags);
    let admin_listen = listen(
        report,
        &Field::of("admin.listen"),
        document.admin.listen.as_deref(),
        overrides.admin_listen,
        DEFAULT_ADMIN_LISTEN,
    );
    if let (Some(server), Some(admin)) = (&server, admin_listen)
        && server.listen() == admin
        && admin.port() != 0
    {
        report.add(&Field::of("admin.listen"), "both listeners have the same address");
    }
    let field = Field::of("admin.bearerTokenFile");
    let admin_token = file(report, &field, document.admin.bearer_token_file.as_deref(), &base);
    let field = Field::of("kubernetes.kubeconfig");
    let kubeconfig = file(report, &field, document.kubernetes.kubeconfig.as_deref(), &base);
    let grace = if enabled { DEFAULT_SHUTDOWN_GRACE } else { Duration::ZERO };
    let sources = source::sources(report, &document.sources, &base);
    let definition_paths = definition_paths(report, &document, &base);
    let defaults = defaults(report, &document.defaults);
    let rules = rules(report, &document, &base, &sources, &defaults);
    let traces = traces::traces(report, document.telemetry.traces.as_ref(), &base);
    Some(Config {
        server: server?,
        certificates,
        shutdown_grace: document.server.shutdown_grace.map_or(grace, |grace| grace.0),
        admin_listen: admin_listen?,
        admin_alternative: None,
        admin_token,
        kubernetes: KubernetesSection {
            enabled,
            kubeconfig: overrides.kubeconfig.clone().or(kubeconfig),
        },
        sources,
        apis,
        definition_paths,
        rules,
        resources: resources(report, &document, enabled),
        defaults,
        traces,
    })
}

/// Whether metric resources are looked at, and what tenants may have.
fn resources(report: &mut Report<'_>, document: &Document, cluster: bool) -> ResourcesSection {
    let (field, spec) = (Field::of("resources"), &document.resources);
    let enabled = spec.enabled.unwrap_or(cluster);
    if enabled && !cluster {
        report.add(
            &field.key("enabled"),
            "metric resources are in a cluster, and kubernetes.enabled is false",
        );
    }
    let mut tenancy = Tenancy::default();
    whole(&mut tenancy.max_per_namespace, spec.max_per_namespace.as_ref());
    whole(&mut tenancy.max_total, spec.max_total.as_ref());
    whole(&mut tenancy.max_series, spec.max_series.as_ref());
    if let Some(GoDuration(least)) = spec.min_refresh {
        tenancy.min_refresh = least;
    }
    for (key, message) in tenancy.problems() {
        report.add(&field.key(key), message);
    }
    ResourcesSection { enabled, tenancy, hpa_events: spec.events.hpas }
}

fn header(report: &mut Report<'_>, document: &Document) {
    for (key, found, known) in [
        ("apiVersion", document.api_version.as_deref(), API_VERSION),
        ("kind", document.kind.as_deref(), KIND),
    ] {
        let field = Field::of(key);
        if let Some(found) = report.require(&field, found)
            && found != known
        {
            report.add(&field, format!("expected {known}, found {found:?}"));
        }
    }
}

/// Which groups are served. Metrics of objects need a cluster that has objects.
fn apis(report: &mut Report<'_>, document: &Document, enabled: bool) -> ServedApis {
    let apis = ServedApis {
        external: document.apis.external.unwrap_or(true),
        custom: document.apis.custom.unwrap_or(enabled),
    };
    if apis.custom && !enabled {
        report.add(
            &Field::of("apis.custom"),
            "metrics of objects need a cluster, and kubernetes.enabled is false",
        );
    }
    if !apis.external && !apis.custom {
        report.add(&Field::of("apis.external"), "without any group nothing would be served");
    }
    apis
}

/// The rule files, each path once.
fn rules(
    report: &mut Report<'_>,
    document: &Document,
    base: &Path,
    sources: &[SourceConfig],
    defaults: &Defaults,
) -> Vec<RuleFileSettings> {
    let field = Field::of("rules");
    let mut found: Vec<RuleFileSettings> = Vec::new();
    if report.has_problem(&field) {
        return found;
    }
    for (index, spec) in document.rules.iter().enumerate() {
        let item = field.index(index);
        let path = report.require(&item.key("path"), spec.path.as_deref());
        let path = file(report, &item.key("path"), path, base);
        let source = rules_source(report, &item, spec.source.as_deref(), sources);
        let (Some(path), Some(source)) = (path, source) else { continue };
        if found.iter().any(|other| other.path == path) {
            report.add(&item.key("path"), "this file is listed twice");
        }
        let or = |given: Option<GoDuration>, default: Duration| given.map_or(default, |d| d.0);
        let relist_interval = or(spec.relist_interval, DEFAULT_RELIST_INTERVAL);
        let settings = RuleFileSettings {
            path,
            source,
            relist_interval,
            series_max_age: or(spec.series_max_age, relist_interval),
            refresh: or(spec.refresh, defaults.refresh),
            sample_max_age: or(spec.sample_max_age, defaults.max_age),
            first_read_timeout: defaults.first_read_timeout,
        };
        for (key, message) in settings.problems() {
            report.add(&item.key(key), message);
        }
        found.push(settings);
    }
    found
}

/// The source of a rule file: the one that is named, or the only one that can answer.
fn rules_source(
    report: &mut Report<'_>,
    item: &Field,
    name: Option<&str>,
    sources: &[SourceConfig],
) -> Option<SourceName> {
    let field = item.key("source");
    let is_prometheus =
        |source: &&SourceConfig| matches!(source.settings, crate::source::Settings::Prometheus(_));
    if let Some(name) = name {
        return match sources.iter().find(|source| source.name.as_str() == name) {
            Some(source) if is_prometheus(&source) => Some(source.name.clone()),
            Some(_) => {
                report.add(&field, format!("source {name} is no Prometheus"));
                None
            }
            None => {
                report.add(&field, format!("there is no source {name}"));
                None
            }
        };
    }
    let mut all = sources.iter().filter(is_prometheus);
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only.name.clone()),
        (None, _) => {
            report.add(&field, "rules need a source of kind prometheus, and there is none");
            None
        }
        (Some(_), Some(_)) => {
            report.add(&field, "there are several sources of kind prometheus; name one");
            None
        }
    }
}

fn server(
    report: &mut Report<'_>,
    document: &Document,
    overrides: &Overrides,
    base: &Path,
    kubernetes: bool,
) -> Option<server::Settings> {
    let spec = &document.server;
    let base_field = Field::of("server");
    let auth_field = base_field.key("auth");
    let listen_field = base_field.key("listen");
    let listen =
        listen(report, &listen_field, spec.listen.as_deref(), overrides.listen, DEFAULT_LISTEN);
    let auth = match spec.auth {
        Some(AuthName::None) => AuthMode::None,
        Some(AuthName::Delegated) | None => AuthMode::Delegated,
    };
    if auth == AuthMode::Delegated && !kubernetes && !report.has_problem(&auth_field) {
        report.add(
            &auth_field,
            "delegated needs a cluster, and kubernetes.enabled is false; set auth: none and listen on a loopback address",
        );
    }
    let tls = tls_files(report, spec.tls.as_ref(), overrides, base);
    let mut limits = server::Limits::default();
    whole(&mut limits.connections, spec.limits.connections.as_ref());
    whole(&mut limits.requests, spec.limits.requests.as_ref());
    if let Some(GoDuration(after)) = spec.limits.recycle_after {
        limits.recycle_after = after;
    }
    for (key, message) in limits.problems() {
        report.add(&base_field.key("limits").key(key), message);
    }
    let mut settings = report.check(&auth_field, server::Settings::new(listen?, auth, tls))?;
    settings.limits = limits;
    Some(settings)
}

fn tls_files(
    report: &mut Report<'_>,
    spec: Option<&KeyPair>,
    overrides: &Overrides,
    base: &Path,
) -> Option<TlsFiles> {
    let field = Field::of("server.tls");
    let (cert, key) = spec.map_or((None, None), |tls| {
        (
            file(report, &field.key("certFile"), tls.cert_file.as_deref(), base),
            file(report, &field.key("keyFile"), tls.key_file.as_deref(), base),
        )
    });
    let cert = overrides.tls_cert_file.clone().or(cert);
    let key = overrides.tls_private_key_file.clone().or(key);
    match (cert, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (cert, _) => {
            let missing = if cert.is_some() { "keyFile" } else { "certFile" };
            if !report.has_problem(&field) {
                let message = "certFile and keyFile belong together; without both, a self-signed pair is made at start";
                report.add(&field.key(missing), message);
            }
            None
        }
    }
}

fn listen(
    report: &mut Report<'_>,
    field: &Field,
    text: Option<&str>,
    flag: Option<SocketAddr>,
    default: SocketAddr,
) -> Option<SocketAddr> {
    let Some(text) = text else { return Some(flag.unwrap_or(default)) };
    let Ok(address) = text.parse() else {
        let message = format!(
            "{text:?} is not an address and port; write it like \"[::]:6443\" or 127.0.0.1:6443"
        );
        report.add(field, message);
        return None;
    };
    Some(flag.unwrap_or(address))
}

/// A file that the config names, resolved against the config's folder.
pub(super) fn file(
    report: &mut Report<'_>,
    field: &Field,
    name: Option<&str>,
    base: &Path,
) -> Option<PathBuf> {
    let name = name?;
    if name.trim().is_empty() {
        report.add(field, "the file's name is empty");
        return None;
    }
    Some(base.join(name))
}

/// Takes a number over. What is no whole number becomes 0, which is within the bounds of no setting,
/// so that the setting's own check says what the bounds are.
pub(super) fn whole(setting: &mut usize, given: Option<&Number>) {
    let Some(Number(number)) = given else { return };
    let milli = number.to_milli().and_then(|milli| u64::try_from(milli).ok());
    *setting = milli
        .filter(|milli| milli % 1000 == 0)
        .map(|milli| milli / 1000)
        // Rounding at milli must not turn a fraction into a whole number.
        .filter(|whole| Decimal::from(*whole) == *number)
        .and_then(|whole| usize::try_from(whole).ok())
        .unwrap_or(0);
}

fn definition_paths(report: &mut Report<'_>, document: &Document, base: &Path) -> Vec<PathBuf> {
    let field = Field::of("definitions.paths");
    let mut paths: Vec<PathBuf> = Vec::new();
    if report.has_problem(&field) {
        return paths;
    }
    for (index, name) in document.definitions.paths.iter().enumerate() {
        let item = field.index(index);
        let Some(path) = file(report, &item, Some(name), base) else { continue };
        if paths.contains(&path) {
            report.add(&item, "this path is listed twice");
        }
        paths.push(path);
    }
    paths
}

fn defaults(report: &mut Report<'_>, spec: &DefaultsSpec) -> Defaults {
    let base = Field::of("defaults");
    let own = Defaults::default();
    let mut duration = |key: &str, given: Option<GoDuration>, default: Duration| match given {
        Some(GoDuration(duration)) if duration.is_zero() => {
            report.add(&base.key(key), "the duration must be above zero");
            default
        }
        Some(GoDuration(duration)) => duration,
        None => default,
    };
    let refresh = duration("refresh", spec.refresh, own.refresh);
    let max_age = duration("maxAge", spec.max_age, own.max_age);
    let first = duration("firstReadTimeout", spec.first_read_timeout, own.first_read_timeout);
    if first > MAX_FIRST_READ_TIMEOUT {
        let most = GoDuration(MAX_FIRST_READ_TIMEOUT);
        report.add(&base.key("firstReadTimeout"), format!("at most {most}"));
    }
    if max_age < refresh && !report.has_problem(&base) {
        let key = if spec.max_age.is_some() { "maxAge" } else { "refresh" };
        let message = format!(
            "maxAge {} is below refresh {}: every sample would be too old before the next is read",
            GoDuration(max_age),
            GoDuration(refresh)
        );
        report.add(&base.key(key), message);
    }
    if let Some(no_data) = &spec.on_no_data
        && let crate::model::OnNoData::Value(value) = &no_data.0
        && value.is_negative()
    {
        report.add(&base.key("onNoData"), "a default below 0 would reach metrics that forbid it");
    }
    Defaults {
        refresh,
        max_age,
        on_no_data: spec.on_no_data.as_ref().map_or(own.on_no_data, |no_data| no_data.0.clone()),
        first_read_timeout: first,
    }
}
