//! The server config in effect, as the status page shows it.
//!
//! Invariant: no secret. Of headers, whose values may be secrets, the names are told alone; of
//! credentials the files; of addresses no user info and no query.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::cache::sentence::show as duration;
use crate::config::{Config, SourceConfig};
use crate::model::{OnNoData, Source, SourceName};
use crate::runtime::admin::{Configuration, Section};
use crate::runtime::inventory::House;
use crate::runtime::reloads::Reloads;
use crate::server::AuthMode;
use crate::source::prometheus::{Authentication, HeaderValues, Method};
use crate::source::{AwsSettings, BreakerSettings, PrometheusSettings, Settings};
use crate::telemetry::traces::Header;

/// What stands for a value that is not shown.
const HIDDEN: &str = "(hidden)";

/// Settings by the names that the config file has for them.
#[derive(Default)]
struct Rows(Vec<(String, String)>);

impl Rows {
    #[expect(clippy::needless_pass_by_value, reason = "most values are made for this call")]
    fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    fn maybe(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn time(&mut self, name: &str, value: Duration) {
        self.add(name, duration(value));
    }

    fn list(&mut self, name: &str, values: impl IntoIterator<Item = impl ToString>, none: &str) {
        let all: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.add(name, if all.is_empty() { none.to_owned() } else { all.join(", ") });
    }

    fn titled(self, title: impl Into<String>) -> Section {
        Section { title: title.into(), settings: self.0 }
    }
}

/// A house that tells this config, what its sources would send, and what becomes of changed files,
/// which is to be noted.
pub(super) fn told(
    house: House,
    config: &Config,
    asked: &BTreeMap<SourceName, Arc<dyn Source>>,
) -> (House, Arc<Reloads>) {
    let reloads = Arc::new(Reloads::default());
    let house = house.configured(configuration(config), Arc::clone(&reloads));
    (house.asking(asked.clone()), reloads)
}

/// The whole config.
fn configuration(config: &Config) -> Configuration {
    let mut sections = vec![server(config), cluster(config)];
    sections.extend(config.sources.iter().map(source));
    sections.push(definitions(config));
    sections.extend(traces(config));
    Configuration { sections }
}

fn server(config: &Config) -> Section {
    let mut rows = Rows::default();
    let server = &config.server;
    rows.add("server.listen", server.listen());
    rows.add(
        "server.auth",
        match server.auth() {
            AuthMode::Delegated => "delegated",
            AuthMode::None => "none",
        },
    );
    match (&server.tls, &config.certificates) {
        (Some(files), _) => {
            rows.add("server.tls.certFile", shown(&files.certificate));
            rows.add("server.tls.keyFile", shown(&files.key));
        }
        (None, Some(managed)) => {
            rows.add("server.tls.managed.secret", &managed.secret);
            rows.add("server.tls.managed.service", &managed.service);
            rows.maybe("server.tls.managed.namespace", managed.namespace.as_ref());
            rows.time("server.tls.managed.caLifetime", managed.ca_lifetime);
            rows.time("server.tls.managed.certLifetime", managed.cert_lifetime);
        }
        (None, None) => rows.add("server.tls", "a self-signed pair, made at start"),
    }
    rows.time("server.shutdownGrace", config.shutdown_grace);
    rows.add("server.limits.connections", server.limits.connections);
    rows.add("server.limits.requests", server.limits.requests);
    rows.time("server.limits.recycleAfter", server.limits.recycle_after);
    rows.add("admin.listen", config.admin_listen);
    let token = config.admin_token.as_deref();
    rows.add(
        "admin.bearerTokenFile",
        token.map_or_else(|| "none: no token is asked for".to_owned(), shown),
    );
    rows.titled("Listeners")
}

fn cluster(config: &Config) -> Section {
    let mut rows = Rows::default();
    rows.add("kubernetes.enabled", config.kubernetes.enabled);
    rows.maybe("kubernetes.kubeconfig", config.kubernetes.kubeconfig.as_deref().map(shown));
    rows.add("apis.external", config.apis.external);
    rows.add("apis.custom", config.apis.custom);
    rows.add("resources.enabled", config.resources.enabled);
    let tenancy = &config.resources.tenancy;
    rows.add("resources.maxPerNamespace", tenancy.max_per_namespace);
    rows.add("resources.maxTotal", tenancy.max_total);
    rows.time("resources.minRefresh", tenancy.min_refresh);
    rows.add("resources.maxSeries", tenancy.max_series);
    rows.add("resources.events.hpas", config.resources.hpa_events);
    rows.titled("Cluster")
}

fn source(source: &SourceConfig) -> Section {
    let mut rows = Rows::default();
    match &source.settings {
        Settings::Prometheus(settings) => prometheus(&mut rows, settings),
        Settings::Aws(settings) => {
            aws(&mut rows, settings);
            rows.list("allowedRoles", &source.allowed_roles, "none");
            rows.list("allowedRegions", &source.allowed_regions, "the source's own");
        }
        Settings::Simulated => rows.add("simulated", "needs nothing"),
    }
    rows.list("allowedNamespaces", &source.allowed_namespaces, "all");
    rows.titled(format!("Source {}", source.name))
}

fn prometheus(rows: &mut Rows, settings: &PrometheusSettings) {
    rows.add("prometheus.url", address(&settings.url));
    for (name, values) in &settings.headers {
        let value = match values {
            HeaderValues::Fixed(_) => HIDDEN.to_owned(),
            HeaderValues::File(path) => format!("{HIDDEN}, from {}", shown(path)),
        };
        rows.add(&format!("prometheus.headers.{name}"), value);
    }
    match &settings.authentication {
        Authentication::None => rows.add("authentication", "none"),
        Authentication::Basic { username, password_file } => {
            rows.add("prometheus.basicAuth.username", username);
            rows.add("prometheus.basicAuth.passwordFile", shown(password_file));
        }
        Authentication::Bearer { token_file } => {
            rows.add("prometheus.bearerTokenFile", shown(token_file));
        }
        Authentication::SigV4(sigv4) => {
            rows.add("prometheus.sigV4.region", &sigv4.region);
            rows.add("prometheus.sigV4.service", sigv4.service.as_str());
            rows.maybe("prometheus.sigV4.roleArn", sigv4.role_arn.as_ref());
            let file = sigv4.external_id_file.as_deref();
            rows.maybe("prometheus.sigV4.externalIdFile", file.map(shown));
        }
    }
    rows.add(
        "prometheus.method",
        match settings.method {
            Method::Get => "GET",
            Method::Post => "POST",
        },
    );
    let tls = &settings.tls;
    rows.maybe("prometheus.tls.caFile", tls.ca_file.as_deref().map(shown));
    rows.maybe("prometheus.tls.certFile", tls.cert_file.as_deref().map(shown));
    rows.maybe("prometheus.tls.keyFile", tls.key_file.as_deref().map(shown));
    rows.maybe("prometheus.tls.serverName", tls.server_name.as_ref());
    rows.add("prometheus.tls.insecureSkipVerify", tls.insecure_skip_verify);
    rows.time("prometheus.timeout", settings.timeout);
    rows.add("prometheus.maxConcurrent", settings.max_concurrent);
    rows.add("prometheus.maxRequestsPerSecond", settings.max_requests_per_second);
    rows.add("prometheus.maxResponseBytes", settings.max_response_bytes);
    rows.add("prometheus.maxSeries", settings.max_series);
    breaker(rows, "prometheus", &settings.breaker);
}

fn aws(rows: &mut Rows, settings: &AwsSettings) {
    rows.add("aws.region", &settings.region);
    rows.maybe("aws.roleArn", settings.role_arn.as_ref());
    rows.maybe("aws.externalIdFile", settings.external_id_file.as_deref().map(shown));
    for (name, url) in [
        ("aws.endpointUrl", &settings.endpoint_url),
        ("aws.sqsEndpointUrl", &settings.sqs_endpoint_url),
        ("aws.cloudwatchEndpointUrl", &settings.cloudwatch_endpoint_url),
        ("aws.stsEndpointUrl", &settings.sts_endpoint_url),
    ] {
        rows.maybe(name, url.as_ref().map(address));
    }
    rows.time("aws.timeout", settings.timeout);
    rows.add("aws.maxConcurrent", settings.max_concurrent);
    let rate = settings.max_requests_per_second;
    rows.add(
        "aws.maxRequestsPerSecond",
        rate.map_or_else(|| "the service's default".to_owned(), |rate| rate.to_string()),
    );
    rows.add("aws.fips", settings.fips);
    rows.add("aws.dualStack", settings.dual_stack);
    let cost = &settings.cost;
    rows.add("aws.cost.pricePerThousandMetrics", &cost.price_per_thousand_metrics);
    rows.add("aws.cost.pricePerMillionRequests", &cost.price_per_million_requests);
    rows.add(
        "aws.cost.maxMetricsPerMinute",
        cost.max_metrics_per_minute
            .map_or_else(|| "no ceiling".to_owned(), |most| most.to_string()),
    );
    breaker(rows, "aws", &settings.breaker);
}

fn breaker(rows: &mut Rows, kind: &str, breaker: &BreakerSettings) {
    rows.add(&format!("{kind}.breaker.failures"), breaker.failures);
    rows.time(&format!("{kind}.breaker.firstPause"), breaker.first_pause);
    rows.time(&format!("{kind}.breaker.maxPause"), breaker.max_pause);
}

fn definitions(config: &Config) -> Section {
    let mut rows = Rows::default();
    rows.list("definitions.paths", config.definition_paths.iter().map(|path| shown(path)), "none");
    for rule in &config.rules {
        let name = format!("rules: {}", shown(&rule.path));
        let (relist, age) = (rule.relist_interval, rule.series_max_age);
        let value = format!(
            "source {}, relistInterval {}, seriesMaxAge {}, refresh {}, sampleMaxAge {}",
            rule.source,
            duration(relist),
            duration(age),
            duration(rule.refresh),
            duration(rule.sample_max_age)
        );
        rows.add(&name, value);
    }
    let defaults = &config.defaults;
    rows.time("defaults.refresh", defaults.refresh);
    rows.time("defaults.maxAge", defaults.max_age);
    rows.add(
        "defaults.onNoData",
        match &defaults.on_no_data {
            OnNoData::Error => "error".to_owned(),
            OnNoData::Hold => "hold".to_owned(),
            OnNoData::Value(number) => number.to_string(),
        },
    );
    rows.time("defaults.firstReadTimeout", defaults.first_read_timeout);
    rows.titled("Definitions and rules")
}

fn traces(config: &Config) -> Option<Section> {
    let traces = config.traces.as_ref()?;
    let mut rows = Rows::default();
    rows.add("telemetry.traces.endpoint", address(&traces.endpoint));
    rows.add("telemetry.traces.sampleRatio", traces.sample_ratio);
    for (name, header) in &traces.headers {
        let value = match header {
            Header::Fixed(_) => HIDDEN.to_owned(),
            Header::File(path) => format!("{HIDDEN}, from {}", shown(path)),
        };
        rows.add(&format!("telemetry.traces.headers.{name}"), value);
    }
    Some(rows.titled("Traces"))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// An address without anything that may be a secret.
fn address(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn no_secret_is_shown() {
        let text = r#"
apiVersion: tidepole.dev/v1alpha1
kind: ServerConfig
server: { listen: "127.0.0.1:0", auth: none }
kubernetes: { enabled: false }
sources:
  - name: main
    prometheus:
      url: https://prometheus.example:9090/prefix
      headers: { X-Scope-OrgID: canary-one, X-Key: { file: key } }
      bearerTokenFile: token
  - name: aws
    aws: { region: eu-west-1, roleArn: "arn:aws:iam::111122223333:role/x", externalIdFile: id }
telemetry:
  traces: { endpoint: "http://collector:4318", headers: { authorization: canary-two } }
"#;
        let config = Config::parse(Path::new("c.yaml"), text, &Overrides::default()).unwrap();
        let shown = configuration(&config);
        let told = format!("{shown:?}");
        assert!(!told.contains("canary"), "{told}");
        let value = |name: &str| {
            let all = shown.sections.iter().flat_map(|section| &section.settings);
            all.filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect::<String>()
        };
        assert_eq!(value("prometheus.headers.X-Scope-OrgID"), "(hidden)");
        assert_eq!(value("prometheus.url"), "https://prometheus.example:9090/prefix");
        assert_eq!(value("aws.externalIdFile"), "id");
        assert_eq!(value("telemetry.traces.headers.authorization"), "(hidden)");
        assert_eq!(value("apis.custom"), "false");
        assert_eq!(value("server.limits.requests"), "1000");
    }
}
