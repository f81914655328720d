//! The sources of a server config: from the document to the settings of the source clients.
//!
//! What a setting may be is the client's own rule ([`source::Settings::problems`]); this module
//! finds the place for what it says, and knows who may use a source for what.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use url::Url;

use crate::config::document::{self, Header, MethodName, SigV4ServiceName};
use crate::config::validate::{file, whole};
use crate::definition::field::Field;
use crate::definition::names;
use crate::definition::report::Report;
use crate::definition::scalar::{GoDuration, Number};
use crate::model::region::check_region;
use crate::model::{CostSettings, Pattern, SourceName, SourceProfile};
use crate::source::prometheus::{
    Authentication, HeaderValues, Method, SigV4Service, SigV4Settings, TlsSettings,
};
use crate::source::{self, AwsSettings, BreakerSettings, PrometheusSettings, SettingsProblem};

/// Stands for a URL that is missing or none, so that the rest is checked, too.
const STAND_IN: &str = "https://localhost";

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// Its name, unique; a DNS label, so that it can stand in labels and paths.
    pub name: SourceName,
    /// The namespaces whose definitions may use it. Default empty: all.
    pub allowed_namespaces: Vec<Pattern>,
    /// AWS roles that definitions may name. Default none.
    pub allowed_roles: Vec<Pattern>,
    /// AWS regions that definitions may name, the source's own among them. Default that one alone.
    pub allowed_regions: Vec<Arc<str>>,
    /// How to reach it; without [problems](source::Settings::problems).
    pub settings: source::Settings,
}

impl SourceConfig {
    /// What definitions may know about this source.
    #[must_use]
    pub fn profile(&self) -> SourceProfile {
        let (region, cost) = match &self.settings {
            source::Settings::Aws(aws) => (Some(aws.region.as_str().into()), aws.cost.clone()),
            source::Settings::Prometheus(_) | source::Settings::Simulated => {
                (None, CostSettings::default())
            }
        };
        SourceProfile {
            name: self.name.clone(),
            kind: self.settings.kind(),
            region,
            allowed_regions: self.allowed_regions.clone(),
            allowed_roles: self.allowed_roles.clone(),
            cost,
            allowed_namespaces: self.allowed_namespaces.clone(),
        }
    }
}

/// The sources of the document. One that is here although something is wrong with it never gets
/// out: the report is not clean then.
pub(super) fn sources(
    report: &mut Report<'_>,
    specs: &[document::Source],
    base: &Path,
) -> Vec<SourceConfig> {
    let list = Field::of("sources");
    // With an item left out, positions are no longer those of the document.
    if report.root().find(&list).is_none_or(|node| node.child_count() != specs.len()) {
        return Vec::new();
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut sources = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let item = list.index(index);
        let name = report.require(&item.key("name"), spec.name.as_deref());
        if let Some(name) = name {
            report.check(&item.key("name"), names::dns_label(name));
            if let Some(first) = seen.insert(name, index) {
                report.add(&item.key("name"), format!("sources[{first}] has the same name"));
            }
        }
        let settings = settings(report, &item, spec, base);
        let is_pattern = |text: &str| {
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-*".contains(&b))
        };
        let allowed_namespaces = patterns(
            report,
            &item.key("allowedNamespaces"),
            &spec.allowed_namespaces,
            is_pattern,
            "a namespace; write it like team-a or team-*",
        );
        let (allowed_roles, allowed_regions) = match &spec.aws {
            Some(aws) => allowed(report, &item.key("aws"), aws),
            None => (Vec::new(), Vec::new()),
        };
        if let (Some(name), Some(settings)) = (name, settings) {
            sources.push(SourceConfig {
                name: SourceName::new(name),
                allowed_namespaces,
                allowed_roles,
                allowed_regions,
                settings,
            });
        }
    }
    sources
}

fn patterns(
    report: &mut Report<'_>,
    field: &Field,
    texts: &[String],
    fits: impl Fn(&str) -> bool,
    what: &str,
) -> Vec<Pattern> {
    if !report.has_problem(field) {
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() || !fits(text) {
                report.add(&field.index(index), format!("{text:?} can never match {what}"));
            }
        }
    }
    texts.iter().map(|text| Pattern::new(text)).collect()
}

/// The settings of the source's client; `None` when the report says why there are none.
fn settings(
    report: &mut Report<'_>,
    item: &Field,
    spec: &document::Source,
    base: &Path,
) -> Option<source::Settings> {
    let kind = report.exactly_one(item, &["prometheus", "aws", "simulated"])?;
    let field = item.key(kind);
    let settings = match kind {
        "prometheus" => {
            let settings = prometheus(report, &field, spec.prometheus.as_ref()?, base);
            source::Settings::Prometheus(Box::new(settings))
        }
        "aws" => source::Settings::Aws(Box::new(aws(report, &field, spec.aws.as_ref()?, base))),
        _ => spec.simulated.as_ref().map(|_| source::Settings::Simulated)?,
    };
    for SettingsProblem { field: keys, at_key, message } in settings.problems() {
        let Some((last, parents)) = keys.split_last() else { continue };
        let parent = parents.iter().fold(field.clone(), |field, key| field.key(key));
        if at_key {
            report.add_key(&parent, last, message);
        } else {
            report.add(&parent.key(last), message);
        }
    }
    // Written, even if nothing is in it, TLS is wanted.
    if let source::Settings::Prometheus(settings) = &settings
        && settings.url.scheme() == "http"
        && spec.prometheus.as_ref().is_some_and(|spec| spec.tls.is_some())
    {
        report.add_key(&field, "tls", "the url is http; TLS needs https");
    }
    Some(settings)
}

fn prometheus(
    report: &mut Report<'_>,
    field: &Field,
    spec: &document::Prometheus,
    base: &Path,
) -> PrometheusSettings {
    let key = field.key("url");
    let url = report
        .require(&key, spec.url.as_deref())
        .and_then(|text| url(report, &key, text, A_SERVER))
        .unwrap_or_else(|| Url::parse(STAND_IN).expect("the stand-in is a URL"));
    let mut settings = PrometheusSettings::new(url);
    for (name, spec) in &spec.headers {
        let values = match spec {
            Header::Values(values) => HeaderValues::Fixed(values.clone()),
            Header::File(path) => {
                let key = field.key("headers").key(name).key("file");
                HeaderValues::File(file(report, &key, Some(path), base).unwrap_or_default())
            }
        };
        settings.headers.push((name.clone(), values));
    }
    settings.authentication = authentication(report, field, spec, base);
    settings.method = match spec.method {
        Some(MethodName::Post) => Method::Post,
        Some(MethodName::Get) | None => Method::Get,
    };
    if let Some(spec) = &spec.tls {
        let field = field.key("tls");
        let mut file =
            |key: &str, name: &Option<String>| file(report, &field.key(key), name.as_deref(), base);
        settings.tls = TlsSettings {
            ca_file: file("caFile", &spec.ca_file),
            cert_file: file("certFile", &spec.cert_file),
            key_file: file("keyFile", &spec.key_file),
            server_name: spec.server_name.clone(),
            insecure_skip_verify: spec.insecure_skip_verify,
        };
    }
    if let Some(GoDuration(timeout)) = spec.timeout {
        settings.timeout = timeout;
    }
    whole(&mut settings.max_concurrent, spec.max_concurrent.as_ref());
    whole(&mut settings.max_requests_per_second, spec.max_requests_per_second.as_ref());
    breaker(&mut settings.breaker, &spec.breaker);
    whole(&mut settings.max_response_bytes, spec.max_response_bytes.as_ref());
    whole(&mut settings.max_series, spec.max_series.as_ref());
    settings
}

fn authentication(
    report: &mut Report<'_>,
    field: &Field,
    spec: &document::Prometheus,
    base: &Path,
) -> Authentication {
    let key = field.key("bearerTokenFile");
    let token_file = file(report, &key, spec.bearer_token_file.as_deref(), base);
    let ways = [
        ("basicAuth", spec.basic_auth.is_some()),
        ("bearerTokenFile", spec.bearer_token_file.is_some()),
        ("sigV4", spec.sig_v4.is_some()),
    ];
    let mut written = ways.iter().filter(|(_, written)| *written).map(|(key, _)| *key);
    if let Some(first) = written.next() {
        for other in written {
            let message =
                format!("{first} already says who we are; only one way to do so is allowed");
            report.add_key(field, other, message);
        }
    }
    let Some(basic) = &spec.basic_auth else {
        if let Some(token_file) = token_file {
            return Authentication::Bearer { token_file };
        }
        return spec.sig_v4.as_ref().map_or(Authentication::None, |spec| {
            Authentication::SigV4(Box::new(sigv4(report, &field.key("sigV4"), spec, base)))
        });
    };
    let field = field.key("basicAuth");
    let username = report.require(&field.key("username"), basic.username.as_deref());
    let key = field.key("passwordFile");
    let password = report.require(&key, basic.password_file.as_deref());
    let password_file = file(report, &key, password, base);
    Authentication::Basic {
        username: username.unwrap_or_default().to_owned(),
        password_file: password_file.unwrap_or_default(),
    }
}

fn sigv4(
    report: &mut Report<'_>,
    field: &Field,
    spec: &document::SigV4,
    base: &Path,
) -> SigV4Settings {
    let region = report.require(&field.key("region"), spec.region.as_deref());
    let mut settings = SigV4Settings::new(region.unwrap_or_default());
    settings.service = match spec.service {
        Some(SigV4ServiceName::Monitoring) => SigV4Service::Monitoring,
        Some(SigV4ServiceName::Aps) | None => SigV4Service::Aps,
    };
    settings.role_arn.clone_from(&spec.role_arn);
    let key = field.key("externalIdFile");
    settings.external_id_file = file(report, &key, spec.external_id_file.as_deref(), base);
    let key = field.key("stsEndpointUrl");
    let text = spec.sts_endpoint_url.as_deref();
    settings.sts_endpoint_url = text.and_then(|text| url(report, &key, text, A_SERVER));
    settings
}

fn aws(report: &mut Report<'_>, field: &Field, spec: &document::Aws, base: &Path) -> AwsSettings {
    let region = report.require(&field.key("region"), spec.region.as_deref());
    let mut settings = AwsSettings::new(region.unwrap_or_default());
    let mut endpoint = |key: &str, text: &Option<String>| {
        text.as_deref().and_then(|text| url(report, &field.key(key), text, AN_AWS_ENDPOINT))
    };
    settings.endpoint_url = endpoint("endpointUrl", &spec.endpoint_url);
    settings.sqs_endpoint_url = endpoint("sqsEndpointUrl", &spec.sqs_endpoint_url);
    settings.cloudwatch_endpoint_url =
        endpoint("cloudwatchEndpointUrl", &spec.cloudwatch_endpoint_url);
    settings.sts_endpoint_url = endpoint("stsEndpointUrl", &spec.sts_endpoint_url);
    settings.role_arn.clone_from(&spec.role_arn);
    let key = field.key("externalIdFile");
    settings.external_id_file = file(report, &key, spec.external_id_file.as_deref(), base);
    if spec.external_id_file.is_some() && spec.role_arn.is_none() && spec.allowed_roles.is_empty() {
        let message = "an external id is sent when a role is assumed, and there is neither roleArn nor allowedRoles";
        report.add_key(field, "externalIdFile", message);
    }
    cost(&mut settings.cost, &spec.cost);
    if let Some(GoDuration(timeout)) = spec.timeout {
        settings.timeout = timeout;
    }
    whole(&mut settings.max_concurrent, spec.max_concurrent.as_ref());
    settings.max_requests_per_second = spec.max_requests_per_second.as_ref().map(|given| {
        let mut rate = 0;
        whole(&mut rate, Some(given));
        rate
    });
    breaker(&mut settings.breaker, &spec.breaker);
    settings.fips = spec.fips;
    settings.dual_stack = spec.dual_stack;
    settings
}

fn breaker(settings: &mut BreakerSettings, spec: &document::Breaker) {
    whole(&mut settings.failures, spec.failures.as_ref());
    if let Some(GoDuration(pause)) = spec.first_pause {
        settings.first_pause = pause;
    }
    if let Some(GoDuration(pause)) = spec.max_pause {
        settings.max_pause = pause;
    }
}

fn cost(settings: &mut CostSettings, spec: &document::Cost) {
    if let Some(Number(price)) = &spec.price_per_thousand_metrics {
        settings.price_per_thousand_metrics = price.clone();
    }
    if let Some(Number(price)) = &spec.price_per_million_requests {
        settings.price_per_million_requests = price.clone();
    }
    if let Some(ceiling) = &spec.max_metrics_per_minute {
        let mut most = 0;
        whole(&mut most, Some(ceiling));
        settings.max_metrics_per_minute = u64::try_from(most).ok();
    }
}

/// The roles and regions that definitions may name.
fn allowed(
    report: &mut Report<'_>,
    field: &Field,
    spec: &document::Aws,
) -> (Vec<Pattern>, Vec<Arc<str>>) {
    let region = spec.region.as_deref();
    let key = &field.key("allowedRegions");
    if let Some(allowed) = &spec.allowed_regions
        && !report.has_problem(key)
    {
        for (index, text) in allowed.iter().enumerate() {
            report.check(&key.index(index), check_region(text));
        }
        if let Some(region) = region
            && !allowed.iter().any(|allowed| allowed == region)
            && !report.has_problem(key)
        {
            report.add(key, format!("the source's own region {region} must be among these"));
        }
    }
    let regions = match &spec.allowed_regions {
        Some(allowed) => allowed.iter().map(|text| text.as_str().into()).collect(),
        None => region.into_iter().map(Into::into).collect(),
    };
    let is_role = |text: &str| {
        text.starts_with("arn:") && text.contains(":role/") && text.matches(':').count() == 5
    };
    let roles = patterns(
        report,
        &field.key("allowedRoles"),
        &spec.allowed_roles,
        is_role,
        "a role's ARN; write it like arn:aws:iam::*:role/metrics-*",
    );
    (roles, regions)
}

/// What URLs look like.
const A_SERVER: &str = "https://prometheus:9090";
const AN_AWS_ENDPOINT: &str = "https://vpce-0a1b2c3d.sqs.eu-west-1.vpce.amazonaws.com";

/// Reads a URL. Its text is in no message: a password may be in it.
fn url(report: &mut Report<'_>, field: &Field, text: &str, example: &str) -> Option<Url> {
    let explain = |error| format!("not a URL ({error}); write it like {example}");
    report.check(field, Url::parse(text).map_err(explain))
}
