//! From the sources as written to the sources as they are used.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::document::{self, Header, MethodName};
use crate::config::source::{
    AwsSource, BasicAuth, ClientTls, HeaderValues, HttpMethod, PrometheusSource, SourceConfig,
    SourceSettings,
};
use crate::config::validate::file;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::scalar::{GoDuration, Number};
use crate::definition::{aws, names};
use crate::model::{Decimal, Pattern, SourceName};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that takes longer than the HPA's patience with the whole API is of no use.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
const DEFAULT_CONCURRENT: u64 = 16;
/// Sockets and memory are finite: 1024 answers of the default size are 8 GiB.
const MAX_CONCURRENT: u64 = 1024;
const DEFAULT_RESPONSE_BYTES: u64 = 8 << 20;
/// An answer's decoded form is a few times its size; beyond this a pod's memory is at stake.
const MAX_RESPONSE_BYTES: u64 = 256 << 20;
/// Room for an error message, at least.
const MIN_RESPONSE_BYTES: u64 = 1 << 10;
const DEFAULT_SERIES: u64 = 1000;
const MAX_SERIES: u64 = 1_000_000;

/// Headers that belong to the HTTP client: setting them would break requests.
const OWN_HEADERS: [&str; 8] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
];

/// The sources of the document.
pub(in crate::config) fn sources(
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
        let settings = match report.exactly_one(&item, &["prometheus", "aws", "simulated"]) {
            Some("prometheus") => spec
                .prometheus
                .as_ref()
                .and_then(|spec| prometheus(report, &item.key("prometheus"), spec, base))
                .map(|settings| SourceSettings::Prometheus(Box::new(settings))),
            Some("aws") => spec
                .aws
                .as_ref()
                .and_then(|spec| aws_source(report, &item.key("aws"), spec))
                .map(SourceSettings::Aws),
            Some(_) => spec.simulated.as_ref().map(|_| SourceSettings::Simulated),
            None => None,
        };
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
        if let (Some(name), Some(settings)) = (name, settings) {
            sources.push(SourceConfig {
                name: SourceName::new(name),
                allowed_namespaces,
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

fn prometheus(
    report: &mut Report<'_>,
    field: &Field,
    spec: &document::Prometheus,
    base: &Path,
) -> Option<PrometheusSource> {
    let url = report
        .require(&field.key("url"), spec.url.as_deref())
        .and_then(|text| url(report, &field.key("url"), text));
    let headers = headers(report, &field.key("headers"), &spec.headers, base);
    let basic_auth = spec.basic_auth.as_ref().and_then(|auth| {
        let field = field.key("basicAuth");
        let username = report.require(&field.key("username"), auth.username.as_deref());
        if username.is_some_and(|name| name.contains(':') || name.contains(char::is_control)) {
            report
                .add(&field.key("username"), "a user name has no colon and no control characters");
        }
        let key = field.key("passwordFile");
        let password = report.require(&key, auth.password_file.as_deref());
        let password_file = file(report, &key, password, base);
        Some(BasicAuth { username: username?.to_owned(), password_file: password_file? })
    });
    let token = spec.bearer_token_file.as_deref();
    let bearer_token_file = file(report, &field.key("bearerTokenFile"), token, base);
    let ways: Vec<&str> = [
        ("basicAuth", spec.basic_auth.is_some()),
        ("headers", headers.contains_key("authorization")),
        ("bearerTokenFile", token.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, used)| used.then_some(key))
    .collect();
    if let [first, .., last] = ways[..] {
        let message = format!("{first} already says who we are; only one way to do so is allowed");
        report.add_key(field, last, message);
    }
    let tls = client_tls(report, &field.key("tls"), spec.tls.as_ref(), base);
    if spec.tls.is_some() && url.as_ref().is_some_and(|url| url.scheme() == "http") {
        report.add_key(field, "tls", "the url is http; TLS needs https");
    }
    let timeout = timeout(report, &field.key("timeout"), spec.timeout);
    let mut count = |key: &str, given: &Option<Number>, default, range| {
        whole(report, &field.key(key), given.as_ref(), default, range)
    };
    let max_concurrent =
        count("maxConcurrent", &spec.max_concurrent, DEFAULT_CONCURRENT, (1, MAX_CONCURRENT));
    let max_response_bytes = count(
        "maxResponseBytes",
        &spec.max_response_bytes,
        DEFAULT_RESPONSE_BYTES,
        (MIN_RESPONSE_BYTES, MAX_RESPONSE_BYTES),
    );
    let max_series = count("maxSeries", &spec.max_series, DEFAULT_SERIES, (1, MAX_SERIES));
    Some(PrometheusSource {
        url: url?,
        headers,
        basic_auth,
        bearer_token_file,
        method: match spec.method {
            Some(MethodName::Post) => HttpMethod::Post,
            Some(MethodName::Get) | None => HttpMethod::Get,
        },
        tls,
        timeout: timeout?,
        max_concurrent: max_concurrent?,
        max_response_bytes: max_response_bytes?,
        max_series: max_series?,
    })
}

/// Checks a URL. Its text is in no message: a password in it is one of the things refused.
fn url(report: &mut Report<'_>, field: &Field, text: &str) -> Option<Url> {
    let message = match Url::parse(text) {
        Err(error) => format!("not a URL ({error}); write it like https://prometheus:9090"),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("the scheme {:?} is not http or https", url.scheme())
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "a URL must not hold a user or password; use basicAuth, which reads a file".to_owned()
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            "a URL must not hold a query or fragment".to_owned()
        }
        Ok(url) => return Some(url),
    };
    report.add(field, message);
    None
}

fn headers(
    report: &mut Report<'_>,
    field: &Field,
    specs: &BTreeMap<String, Header>,
    base: &Path,
) -> BTreeMap<String, HeaderValues> {
    let mut headers = BTreeMap::new();
    for (name, spec) in specs {
        let lower = name.to_ascii_lowercase();
        // RFC 9110, 5.6.2: the characters of a token.
        let is_token = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            report.add_key(field, name, "not a valid header name");
        } else if OWN_HEADERS.contains(&lower.as_str()) {
            report.add_key(field, name, "this header is set by the client itself");
        }
        let item = field.key(name);
        let values = match spec {
            Header::File(name) => {
                let path = file(report, &item.key("file"), Some(name), base);
                path.map(HeaderValues::File)
            }
            Header::Values(values) => {
                let is_clean =
                    |text: &str| text.bytes().all(|b| b == b'\t' || (32..127).contains(&b));
                if values.is_empty() || !values.iter().all(|value| is_clean(value)) {
                    report.add(&item, "a header's value is one line of printable ASCII characters");
                }
                Some(HeaderValues::Values(values.clone()))
            }
        };
        if let Some(values) = values
            && headers.insert(lower, values).is_some()
        {
            report.add_key(field, name, "this header is set twice; case makes no difference");
        }
    }
    headers
}

fn client_tls(
    report: &mut Report<'_>,
    field: &Field,
    spec: Option<&document::ClientTls>,
    base: &Path,
) -> ClientTls {
    let Some(spec) = spec else { return ClientTls::default() };
    let ca_file = file(report, &field.key("caFile"), spec.ca_file.as_deref(), base);
    let cert = file(report, &field.key("certFile"), spec.cert_file.as_deref(), base);
    let key = file(report, &field.key("keyFile"), spec.key_file.as_deref(), base);
    if spec.cert_file.is_some() != spec.key_file.is_some() && !report.has_problem(field) {
        let missing = if spec.key_file.is_some() { "certFile" } else { "keyFile" };
        report.add(&field.key(missing), "certFile and keyFile belong together");
    }
    if spec.insecure_skip_verify && (spec.ca_file.is_some() || spec.server_name.is_some()) {
        let message =
            "with insecureSkipVerify nothing is verified; remove it, or caFile and serverName";
        report.add(&field.key("insecureSkipVerify"), message);
    }
    if let Some(name) = &spec.server_name {
        let is_ip = name.parse::<std::net::IpAddr>().is_ok();
        if !is_ip && names::dns_subdomain(&name.to_ascii_lowercase()).is_err() {
            report.add(&field.key("serverName"), format!("{name:?} is not a host name"));
        }
    }
    ClientTls {
        ca_file,
        identity: cert.zip(key),
        server_name: spec.server_name.clone(),
        insecure_skip_verify: spec.insecure_skip_verify,
    }
}

fn aws_source(report: &mut Report<'_>, field: &Field, spec: &document::Aws) -> Option<AwsSource> {
    let region = report.require(&field.key("region"), spec.region.as_deref());
    if let Some(region) = region {
        report.check(&field.key("region"), aws::region(region));
    }
    let mut endpoint = |key: &str, text: &Option<String>| {
        text.as_deref().and_then(|text| url(report, &field.key(key), text))
    };
    let general = endpoint("endpointUrl", &spec.endpoint_url);
    let sqs = endpoint("sqsEndpointUrl", &spec.sqs_endpoint_url);
    let sqs_endpoint = sqs.or(general);
    for (key, set) in [("fips", spec.fips), ("dualStack", spec.dual_stack)] {
        if set && sqs_endpoint.is_some() {
            report.add(&field.key(key), "an endpoint is named; this would have no effect on it");
        }
    }
    let regions = &field.key("allowedRegions");
    if let Some(allowed) = &spec.allowed_regions
        && !report.has_problem(regions)
    {
        for (index, text) in allowed.iter().enumerate() {
            report.check(&regions.index(index), aws::region(text));
        }
        if let Some(region) = region
            && !allowed.iter().any(|allowed| allowed == region)
            && !report.has_problem(regions)
        {
            report.add(regions, format!("the source's own region {region} must be among these"));
        }
    }
    let allowed_regions = match &spec.allowed_regions {
        Some(allowed) => allowed.iter().map(|text| text.as_str().into()).collect(),
        None => region.iter().map(|region| Arc::from(*region)).collect(),
    };
    let is_role = |text: &str| {
        text.starts_with("arn:") && text.contains(":role/") && text.matches(':').count() == 5
    };
    let allowed_roles = patterns(
        report,
        &field.key("allowedRoles"),
        &spec.allowed_roles,
        is_role,
        "a role's ARN; write it like arn:aws:iam::*:role/metrics-*",
    );
    let timeout = timeout(report, &field.key("timeout"), spec.timeout);
    let max_concurrent = whole(
        report,
        &field.key("maxConcurrent"),
        spec.max_concurrent.as_ref(),
        DEFAULT_CONCURRENT,
        (1, MAX_CONCURRENT),
    );
    Some(AwsSource {
        region: region?.into(),
        sqs_endpoint,
        allowed_roles,
        allowed_regions,
        timeout: timeout?,
        max_concurrent: max_concurrent?,
        fips: spec.fips,
        dual_stack: spec.dual_stack,
    })
}

fn timeout(report: &mut Report<'_>, field: &Field, given: Option<GoDuration>) -> Option<Duration> {
    let timeout = given.map_or(DEFAULT_TIMEOUT, |duration| duration.0);
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        let most = GoDuration(MAX_TIMEOUT);
        report.add(field, format!("a timeout is above zero and at most {most}"));
        return None;
    }
    Some(timeout)
}

/// A whole number within bounds, both included.
fn whole(
    report: &mut Report<'_>,
    field: &Field,
    given: Option<&Number>,
    default: u64,
    (least, most): (u64, u64),
) -> Option<usize> {
    let value = match given {
        None => Some(default),
        Some(Number(number)) => {
            let milli = number.to_milli().and_then(|milli| u64::try_from(milli).ok());
            milli
                .filter(|milli| milli % 1000 == 0)
                .map(|milli| milli / 1000)
                // Rounding at milli must not turn a fraction into a whole number.
                .filter(|whole| Decimal::from(*whole) == *number)
        }
    };
    let fitting = value.filter(|value| (least..=most).contains(value));
    if fitting.is_none() {
        report.add(field, format!("expected a whole number from {least} to {most}"));
    }
    fitting.and_then(|value| usize::try_from(value).ok())
}
