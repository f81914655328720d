//! Whole configs: what they become, and every mistake with its message and place.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{OnNoData, SourceKind};
use crate::server::AuthMode;
use crate::source::Settings;
use crate::source::prometheus::{
    Authentication, HeaderValues, Method, SigV4Service, SigV4Settings,
};
use crate::telemetry::traces;

const HEAD: &str = "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\n";

fn parse(body: &str, overrides: &Overrides) -> Result<Config, Vec<String>> {
    Config::parse(Path::new("etc/tidepole.yaml"), &format!("{HEAD}{body}"), overrides).map_err(
        |problems| {
            problems.iter().map(|p| p.to_string().replace("etc/tidepole.yaml:", "")).collect()
        },
    )
}

fn config(body: &str) -> Config {
    parse(body, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn an_empty_config_takes_every_default() {
    let config = config("");
    assert_eq!(config.server.listen().to_string(), "[::]:6443");
    assert_eq!(config.server.auth(), AuthMode::Delegated);
    assert_eq!(config.server.tls, None);
    assert_eq!(config.server.limits, server::Limits::default());
    assert_eq!(config.shutdown_grace, Duration::from_secs(5));
    assert_eq!(config.admin_listen.to_string(), "[::]:8080");
    assert_eq!(config.kubernetes, KubernetesSection { enabled: true, kubeconfig: None });
    assert_eq!((config.sources.len(), config.definition_paths.len()), (0, 0));
    assert_eq!(config.defaults, Defaults::default());
}

#[test]
fn managed_certificates_have_defaults_and_yield_to_flags() {
    let read = config("server: {tls: {managed: {}}}");
    assert_eq!(read.certificates, Some(crate::certificates::Settings::default()));
    assert_eq!(read.server.tls, None);
    let read = config(
        "server: {tls: {managed: {secret: s, service: v, namespace: n, caLifetime: 48h, certLifetime: 1h, renewBefore: 5m}}}",
    );
    let managed = read.certificates.unwrap();
    assert_eq!((managed.secret.as_str(), managed.service.as_str()), ("s", "v"));
    assert_eq!(managed.namespace.as_deref(), Some("n"));
    let lives = (managed.ca_lifetime, managed.cert_lifetime, managed.renew_before);
    let (day, hour) = (Duration::from_hours(24), Duration::from_hours(1));
    assert_eq!(lives, (2 * day, hour, Some(Duration::from_mins(5))));

    let flags = Overrides {
        tls_cert_file: Some("c".into()),
        tls_private_key_file: Some("k".into()),
        ..Overrides::default()
    };
    let read = parse("server: {tls: {managed: {}}}", &flags).unwrap();
    assert_eq!((read.certificates, read.server.tls.is_some()), (None, true));
}

#[test]
fn a_full_config_is_read_whole() {
    let config = config(
        r#"
server:
  listen: 127.0.0.1:6443
  tls: { certFile: tls.crt, keyFile: /certs/tls.key }
  auth: none
  shutdownGrace: 0s
  limits: { connections: 64, requests: 32, recycleAfter: 1m }
apis: { external: true, custom: false }
admin: { listen: "127.0.0.1:8080", bearerTokenFile: admin-token }
kubernetes: { enabled: false, kubeconfig: null }
sources:
  - name: main
    prometheus:
      url: https://prometheus.monitoring:9090/prefix
      headers: { X-Scope-OrgID: team-a, X-Many: [a, b], X-Key: { file: /secrets/key } }
      bearerTokenFile: token
      method: POST
      tls: { caFile: ca.crt, certFile: c.crt, keyFile: c.key, serverName: prom.example }
      timeout: 2s
      maxConcurrent: 4
      maxResponseBytes: 1Mi
      maxSeries: 10
    allowedNamespaces: ["team-*"]
  - name: aws
    aws:
      region: eu-west-1
      endpointUrl: http://127.0.0.1:9324
      cloudwatchEndpointUrl: http://127.0.0.1:4566
      stsEndpointUrl: https://sts.example
      roleArn: arn:aws:iam::111122223333:role/tidepole
      externalIdFile: secrets/external-id
      cost: { pricePerThousandMetrics: "0.02", pricePerMillionRequests: 0.5, maxMetricsPerMinute: 10k }
      allowedRoles: ["arn:aws:iam::*:role/metrics-*"]
      allowedRegions: [us-east-1, eu-west-1]
  - name: amp
    prometheus:
      url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1
      sigV4: { region: eu-west-1, service: aps, roleArn: "arn:aws:iam::111122223333:role/amp", externalIdFile: id, stsEndpointUrl: "https://sts.example" }
  - name: sim
    simulated: {}
definitions: { paths: [metrics.d, /abs] }
defaults: { refresh: 30s, maxAge: 5m, onNoData: 0, firstReadTimeout: 1s }
"#,
    );
    let limits = &config.server.limits;
    assert_eq!((limits.connections, limits.requests), (64, 32));
    assert_eq!(limits.recycle_after, Duration::from_mins(1));
    assert_eq!(config.shutdown_grace, Duration::ZERO);
    assert_eq!(config.admin_token.as_deref(), Some(Path::new("etc/admin-token")));
    let tls = config.server.tls.unwrap();
    assert_eq!(tls.certificate, Path::new("etc/tls.crt"));
    assert_eq!(tls.key, Path::new("/certs/tls.key"));
    assert_eq!(config.definition_paths, [Path::new("etc/metrics.d"), Path::new("/abs")]);
    assert_eq!(config.defaults.on_no_data, OnNoData::Value(0_u64.into()));
    let Settings::Prometheus(main) = &config.sources[0].settings else { panic!() };
    assert_eq!(main.url.as_str(), "https://prometheus.monitoring:9090/prefix");
    let header = |name: &str| &main.headers.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(header("X-Scope-OrgID"), &HeaderValues::Fixed(vec!["team-a".into()]));
    assert_eq!(header("X-Many"), &HeaderValues::Fixed(vec!["a".into(), "b".into()]));
    assert_eq!(header("X-Key"), &HeaderValues::File("/secrets/key".into()));
    let token_file = "etc/token".into();
    assert_eq!(main.authentication, Authentication::Bearer { token_file });
    assert_eq!(main.method, Method::Post);
    let tls = (main.tls.cert_file.as_deref(), main.tls.key_file.as_deref());
    assert_eq!(tls, (Some(Path::new("etc/c.crt")), Some(Path::new("etc/c.key"))));
    assert_eq!(main.timeout, Duration::from_secs(2));
    let bounds = (main.max_concurrent, main.max_response_bytes, main.max_series);
    assert_eq!(bounds, (4, 1 << 20, 10));
    let Settings::Aws(aws) = &config.sources[1].settings else { panic!() };
    assert_eq!(aws.endpoint_url.as_ref().map(url::Url::as_str), Some("http://127.0.0.1:9324/"));
    assert_eq!((aws.timeout, aws.max_concurrent), (Duration::from_secs(5), 16));
    let host = |url: &Option<url::Url>| url.as_ref().and_then(|u| u.host_str().map(str::to_owned));
    assert_eq!(host(&aws.sqs_endpoint_url), None);
    assert_eq!(host(&aws.cloudwatch_endpoint_url).as_deref(), Some("127.0.0.1"));
    assert_eq!(host(&aws.sts_endpoint_url).as_deref(), Some("sts.example"));
    assert_eq!(aws.role_arn.as_deref(), Some("arn:aws:iam::111122223333:role/tidepole"));
    assert_eq!(aws.external_id_file.as_deref(), Some(Path::new("etc/secrets/external-id")));
    let cost = config.sources[1].profile().cost;
    assert_eq!(cost.price_per_thousand_metrics, "0.02".parse().unwrap());
    assert_eq!(cost.price_per_million_requests, "0.5".parse().unwrap());
    assert_eq!(cost.max_metrics_per_minute, Some(10_000));
    let Settings::Prometheus(amp) = &config.sources[2].settings else { panic!() };
    let sts_endpoint_url = Some("https://sts.example".parse().unwrap());
    let sigv4 = SigV4Settings {
        region: "eu-west-1".to_owned(),
        service: SigV4Service::Aps,
        role_arn: Some("arn:aws:iam::111122223333:role/amp".to_owned()),
        external_id_file: Some("etc/id".into()),
        sts_endpoint_url,
    };
    assert_eq!(amp.authentication, Authentication::SigV4(Box::new(sigv4)));
}

#[test]
fn definitions_learn_what_they_may_know_of_sources() {
    let config = config(
        "sources:\n- {name: a, aws: {region: eu-west-1}, allowedNamespaces: [x]}\n- {name: p, prometheus: {url: 'http://p'}}\n",
    );
    let directory = config.source_directory();
    let aws = directory.get("a").unwrap();
    assert_eq!(aws.kind, SourceKind::Aws);
    assert_eq!(aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(aws.allowed_regions, ["eu-west-1".into()]);
    assert_eq!(aws.cost, crate::model::CostSettings::default());
    assert!(aws.allowed_roles.is_empty() && aws.allowed_namespaces[0].matches("x"));
    assert_eq!(directory.get("p").unwrap().kind, SourceKind::Prometheus);
}

#[test]
fn flags_win_and_are_checked_with_the_rest() {
    let overrides = Overrides {
        listen: Some("127.0.0.1:7443".parse().unwrap()),
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        tls_cert_file: Some("c".into()),
        tls_private_key_file: Some("k".into()),
        kubeconfig: Some("kc".into()),
    };
    let body = "server: {auth: none}\nkubernetes: {kubeconfig: other}\n";
    let config = parse(body, &overrides).unwrap();
    assert_eq!(config.server.listen().to_string(), "127.0.0.1:7443");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.server.tls.unwrap().certificate, Path::new("c"));
    assert_eq!(config.kubernetes.kubeconfig.as_deref(), Some(Path::new("kc")));
    let open = Overrides { listen: Some("0.0.0.0:1".parse().unwrap()), ..Overrides::default() };
    assert_eq!(
        parse("server: {listen: '127.0.0.1:6443', auth: none}\n", &open).unwrap_err(),
        [
            "3:42: server.auth: none is allowed on a loopback address only, and the server listens on 0.0.0.0:1"
        ]
    );
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let cases: &[(&str, &[&str])] = &[
        // Shape
        ("sevrer: {}", &["3:1: sevrer: unknown field; did you mean `server`?"]),
        ("rulez: []", &["3:1: rulez: unknown field; did you mean `rules`?"]),
        ("server: [1]", &["3:9: server: expected a mapping, found a list"]),
        (
            "---\nkind: ExternalMetric",
            &[
                "4:1: a server config is one document; definitions belong in other files, named in definitions.paths",
            ],
        ),
        // Server
        (
            "server: {listen: localhost, auth: open}",
            &[
                "3:18: server.listen: \"localhost\" is not an address and port; write it like \"[::]:6443\" or 127.0.0.1:6443",
                "3:35: server.auth: expected one of delegated, none, found \"open\"",
            ],
        ),
        (
            "server: {auth: none}",
            &[
                "3:16: server.auth: none is allowed on a loopback address only, and the server listens on [::]:6443",
            ],
        ),
        (
            "kubernetes: {enabled: false}",
            &[
                "1:1: server.auth: delegated needs a cluster, and kubernetes.enabled is false; set auth: none and listen on a loopback address",
            ],
        ),
        (
            "server: {tls: {certFile: a}}",
            &[
                "3:15: server.tls.keyFile: certFile and keyFile belong together; without both, a self-signed pair is made at start",
            ],
        ),
        (
            "server: {tls: {certFile: '', keyFile: b}}",
            &["3:26: server.tls.certFile: the file's name is empty"],
        ),
        (
            "server: {shutdownGrace: -1s, limits: {connections: 1.5, requests: 8, recycleAfter: 0s}}",
            &[
                "3:25: server.shutdownGrace: the duration -1s is negative",
                "3:52: server.limits.connections: expected a whole number from 16 to 65536",
                "3:67: server.limits.requests: expected a whole number from 16 to 65536",
                "3:84: server.limits.recycleAfter: expected a duration from 1s to 24h",
            ],
        ),
        (
            "admin: {bearerTokenFile: ' '}",
            &["3:26: admin.bearerTokenFile: the file's name is empty"],
        ),
        (
            "admin: {listen: '[::]:6443'}",
            &["3:17: admin.listen: both listeners have the same address"],
        ),
        (
            "apis: {external: false, custom: false}",
            &["3:18: apis.external: without any group nothing would be served"],
        ),
        (
            "apis: {custom: true}\nkubernetes: {enabled: false}\nserver: {auth: none, listen: '127.0.0.1:1'}",
            &[
                "3:16: apis.custom: metrics of objects need a cluster, and kubernetes.enabled is false",
            ],
        ),
        // Rules
        (
            "rules: [{path: a.yaml}]",
            &["3:9: rules[0].source: rules need a source of kind prometheus, and there is none"],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://a'}}, {name: s, simulated: {}}]\nrules: [{path: a.yaml, source: s}, {path: a.yaml, source: x}, {source: a, relistInterval: 10m, seriesMaxAge: 1m}]",
            &[
                "4:32: rules[0].source: source s is no Prometheus",
                "4:59: rules[1].source: there is no source x",
                "4:63: rules[2].path: this field is missing",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://a'}}]\nrules:\n- {path: a.yaml, relistInterval: 10m, seriesMaxAge: 1m, refresh: 1m, sampleMaxAge: 30s}\n- {path: a.yaml}",
            &[
                "5:53: rules[0].seriesMaxAge: 60s is below relistInterval 600s: a series would be forgotten before the next list",
                "5:84: rules[0].sampleMaxAge: 30s is below refresh 60s: every sample would be too old before the next is read",
                "6:10: rules[1].path: this file is listed twice",
            ],
        ),
        // Sources
        (
            "sources: [{name: A, simulated: {}}, {simulated: {}}, {name: b}, {name: b, simulated: {}, aws: {}}]",
            &[
                "3:18: sources[0].name: \"A\" is not a valid name here: at most 63 lower-case letters, digits and \"-\", beginning and ending with a letter or digit",
                "3:37: sources[1].name: this field is missing",
                "3:54: sources[2]: exactly one of prometheus, aws, simulated is needed",
                "3:72: sources[3].name: sources[2] has the same name",
                "3:75: sources[3].simulated: exactly one of prometheus, aws, simulated is allowed, here are aws and simulated",
            ],
        ),
        (
            "sources: [{name: a, simulated: {}, allowedNamespaces: ['team/*', '']}]",
            &[
                "3:56: sources[0].allowedNamespaces[0]: \"team/*\" can never match a namespace; write it like team-a or team-*",
                "3:66: sources[0].allowedNamespaces[1]: \"\" can never match a namespace; write it like team-a or team-*",
            ],
        ),
        // Prometheus
        (
            "sources: [{name: a, prometheus: {}}]",
            &["3:33: sources[0].prometheus.url: this field is missing"],
        ),
        (
            "sources: [{name: a, prometheus: {url: prometheus}}]",
            &[
                "3:39: sources[0].prometheus.url: not a URL (relative URL without a base); write it like https://prometheus:9090",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'ftp://p'}}]",
            &["3:39: sources[0].prometheus.url: the scheme \"ftp\" is not http or https"],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://u:hunter2@p'}}]",
            &[
                "3:39: sources[0].prometheus.url: a URL must not hold a user or password; use basicAuth, which reads a file",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p?x=1'}}]",
            &["3:39: sources[0].prometheus.url: a URL must not hold a query or fragment"],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', sigV4: {}, roleArn: x}}]",
            &[
                "3:39: sources[0].prometheus.url: signed queries need https, except to a loopback address",
                "3:58: sources[0].prometheus.sigV4.region: this field is missing",
                "3:62: sources[0].prometheus.roleArn: unknown field; the fields here are url, headers, basicAuth, bearerTokenFile, sigV4, method, tls, timeout, maxConcurrent, maxRequestsPerSecond, breaker, maxResponseBytes, maxSeries",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', headers: {'a b': x, Host: y, X: 5, Y: \"a\\nb\", Z: {flie: k}}}}]",
            &[
                "3:61: sources[0].prometheus.headers[\"a b\"]: not a valid header name",
                "3:71: sources[0].prometheus.headers.Host: this header is set by the client itself",
                "3:83: sources[0].prometheus.headers.X: a header's value must be text; write it in quotes",
                "3:89: sources[0].prometheus.headers.Y: a header's value is one line of printable ASCII characters",
                "3:107: sources[0].prometheus.headers.Z.flie: unknown field; did you mean `file`?",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'https://p', basicAuth: {username: 'a:b'}, bearerTokenFile: t}}]",
            &[
                "3:63: sources[0].prometheus.basicAuth.passwordFile: this field is missing",
                "3:74: sources[0].prometheus.basicAuth.username: a user name has no colon and no control characters",
                "3:82: sources[0].prometheus.bearerTokenFile: basicAuth already says who we are; only one way to do so is allowed",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', tls: {caFile: c, certFile: d, insecureSkipVerify: true, serverName: 'x y'}}}]",
            &[
                "3:56: sources[0].prometheus.tls.keyFile: certFile and keyFile belong together",
                "3:101: sources[0].prometheus.tls.insecureSkipVerify: with insecureSkipVerify nothing is verified; remove it, or caFile and serverName",
                "3:119: sources[0].prometheus.tls.serverName: \"x y\" is not a host name",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', tls: {}}}]",
            &["3:51: sources[0].prometheus.tls: the url is http; TLS needs https"],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', method: PUT, timeout: 5, maxConcurrent: 0, maxResponseBytes: 1Gi, maxSeries: 1.5}}]",
            &[
                "3:59: sources[0].prometheus.method: expected one of GET, POST, found \"PUT\"",
                "3:73: sources[0].prometheus.timeout: the duration 5 has no unit; write it like 5s, 2m or 1h30m",
                "3:91: sources[0].prometheus.maxConcurrent: expected a whole number from 1 to 1024",
                "3:112: sources[0].prometheus.maxResponseBytes: expected a whole number from 1024 to 268435456",
                "3:128: sources[0].prometheus.maxSeries: expected a whole number from 1 to 1000000",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://p', maxRequestsPerSecond: 0, breaker: {failures: 0, firstPause: 2s, maxPause: 1s}}}]",
            &[
                "3:73: sources[0].prometheus.maxRequestsPerSecond: expected a whole number from 1 to 10000; at 0 the source is never asked",
                "3:96: sources[0].prometheus.breaker.failures: expected a whole number from 1 to 1000; after 0 failures the breaker would be open from the start",
                "3:125: sources[0].prometheus.breaker.maxPause: maxPause 1s is below firstPause 2s: no pause is that short",
            ],
        ),
        (
            "sources: [{name: a, aws: {region: eu-west-1, maxRequestsPerSecond: 0.5, breaker: {firstPause: 0s, maxPause: 1h, pause: 1s}}}]",
            &[
                "3:68: sources[0].aws.maxRequestsPerSecond: expected a whole number from 1 to 10000; at 0 the source is never asked",
                "3:95: sources[0].aws.breaker.firstPause: a pause is above zero; without one an upstream that fails is asked at once",
                "3:113: sources[0].aws.breaker.pause: unknown field; the fields here are failures, firstPause, maxPause",
            ],
        ),
        (
            "sources: [{name: a, aws: {region: eu-west-1, breaker: {maxPause: 1h}}}]",
            &[
                "3:66: sources[0].aws.breaker.maxPause: maxPause 3600s is above 300s: what nobody has read for 300s is forgotten, so the breaker could stay open for ever",
            ],
        ),
        (
            "resources: {maxPerNamespace: 0, maxTotal: 1e9, minRefresh: 500ms, maxSeries: 1.5, max: 3}",
            &[
                "3:30: resources.maxPerNamespace: expected a whole number from 1 to 100000",
                "3:43: resources.maxTotal: expected a whole number from 1 to 100000",
                "3:60: resources.minRefresh: expected a duration from 1s to 1h",
                "3:78: resources.maxSeries: expected a whole number from 1 to 1000000",
                "3:83: resources.max: unknown field; the fields here are enabled, maxPerNamespace, maxTotal, minRefresh, maxSeries, events",
            ],
        ),
        // AWS
        (
            "sources: [{name: a, aws: {region: Ireland, externalIdFile: x, timeout: 5m, fips: true, endpointUrl: 'http://l'}}]",
            &[
                "3:35: sources[0].aws.region: \"Ireland\" is not an AWS region; one looks like eu-west-1",
                "3:44: sources[0].aws.externalIdFile: an external id is sent when a role is assumed, and there is neither roleArn nor allowedRoles",
                "3:72: sources[0].aws.timeout: a timeout is above zero and at most 1m",
                "3:82: sources[0].aws.fips: every service has an endpoint of its own; this would have no effect on any",
            ],
        ),
        (
            "sources: [{name: a, aws: {region: eu-west-1, roleArn: r, sessionName: x, cloudwatchEndpointUrl: x}}]",
            &[
                "3:55: sources[0].aws.roleArn: \"r\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics",
                "3:58: sources[0].aws.sessionName: unknown field; the fields here are region, endpointUrl, sqsEndpointUrl, cloudwatchEndpointUrl, stsEndpointUrl, roleArn, externalIdFile, allowedRoles, allowedRegions, timeout, maxConcurrent, maxRequestsPerSecond, breaker, fips, dualStack, cost",
                "3:97: sources[0].aws.cloudwatchEndpointUrl: not a URL (relative URL without a base); write it like https://vpce-0a1b2c3d.sqs.eu-west-1.vpce.amazonaws.com",
            ],
        ),
        (
            "sources: [{name: a, aws: {region: eu-west-1, cost: {pricePerThousandMetrics: -1, pricePerMillionRequests: x, maxMetricsPerMinute: 0.5}}}]",
            &[
                "3:78: sources[0].aws.cost.pricePerThousandMetrics: a price is not below zero",
                "3:107: sources[0].aws.cost.pricePerMillionRequests: \"x\" is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi",
                "3:131: sources[0].aws.cost.maxMetricsPerMinute: expected a whole number of at least 1; without a ceiling leave the field out",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'https://x', bearerTokenFile: t, sigV4: {}}}]",
            &[
                "3:72: sources[0].prometheus.sigV4: bearerTokenFile already says who we are; only one way to do so is allowed",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'https://x', sigV4: {service: sqs}}}]",
            &[
                "3:59: sources[0].prometheus.sigV4.region: this field is missing",
                "3:69: sources[0].prometheus.sigV4.service: expected one of aps, monitoring, found \"sqs\"",
            ],
        ),
        (
            "sources: [{name: a, prometheus: {url: 'http://x', sigV4: {externalIdFile: e}}}]",
            &[
                "3:39: sources[0].prometheus.url: signed queries need https, except to a loopback address",
                "3:58: sources[0].prometheus.sigV4.region: this field is missing",
                "3:75: sources[0].prometheus.sigV4.externalIdFile: an external id is sent when a role is assumed, and there is no roleArn",
            ],
        ),
        ("sources: [{name: a, aws: {}}]", &["3:26: sources[0].aws.region: this field is missing"]),
        (
            "sources: [{name: a, aws: {region: eu-west-1, allowedRegions: [us-east-1], allowedRoles: ['*']}}]",
            &[
                "3:62: sources[0].aws.allowedRegions: the source's own region eu-west-1 must be among these",
                "3:90: sources[0].aws.allowedRoles[0]: \"*\" can never match a role's ARN; write it like arn:aws:iam::*:role/metrics-*",
            ],
        ),
        (
            "sources: [{name: a, simulated: {x: 1}}]",
            &["3:33: sources[0].simulated.x: unknown field; there are none here"],
        ),
        // The rest
        (
            "definitions: {paths: [a, '', a]}",
            &[
                "3:26: definitions.paths[1]: the file's name is empty",
                "3:30: definitions.paths[2]: this path is listed twice",
            ],
        ),
        (
            "defaults: {refresh: 0s, maxAge: -1s, onNoData: -1, firstReadTimeout: 1m}",
            &[
                "3:21: defaults.refresh: the duration must be above zero",
                "3:33: defaults.maxAge: the duration -1s is negative",
                "3:48: defaults.onNoData: a default below 0 would reach metrics that forbid it",
                "3:70: defaults.firstReadTimeout: at most 30s",
            ],
        ),
        (
            "defaults: {refresh: 3m}",
            &[
                "3:21: defaults.refresh: maxAge 2m is below refresh 3m: every sample would be too old before the next is read",
            ],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(parse(body, &Overrides::default()).unwrap_err(), *expected, "{body}");
    }
}

#[test]
fn mistakes_about_managed_certificates_are_named_with_their_place() {
    let cases: &[(&str, &[&str])] = &[
        (
            "server: {tls: {certFile: a, keyFile: b, managed: {}}}",
            &[
                "3:50: server.tls.managed: certificates are either managed or from certFile and keyFile",
            ],
        ),
        (
            "server: {auth: none, listen: '127.0.0.1:1', tls: {managed: {}}}\nkubernetes: {enabled: false}",
            &[
                "3:60: server.tls.managed: managed certificates are kept in a cluster, and kubernetes.enabled is false",
            ],
        ),
        (
            "server: {tls: {managed: {secret: A, certLifetime: 1s, renewBefore: 1, caLife: 1h}}}",
            &[
                "3:34: server.tls.managed.secret: expected a name of lower-case letters, digits, \"-\" and \".\"",
                "3:51: server.tls.managed.certLifetime: expected a duration from 10s to 87600h",
                "3:68: server.tls.managed.renewBefore: the duration 1 has no unit; write it like 1s, 2m or 1h30m",
                "3:71: server.tls.managed.caLife: unknown field; the fields here are secret, service, namespace, caLifetime, certLifetime, renewBefore",
            ],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(parse(body, &Overrides::default()).unwrap_err(), *expected, "{body}");
    }
}

#[test]
fn what_is_no_server_config_is_said_so() {
    let problems = |text: &str| -> Vec<String> {
        Config::parse(Path::new("c"), text, &Overrides::default())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(problems(""), ["c: the file is empty"]);
    assert_eq!(problems("text"), ["c:1:1: expected a mapping, found \"text\""]);
    assert_eq!(
        problems("{kind: ExternalMetric, apiVersion: v2}"),
        [
            "c:1:8: kind: expected ServerConfig, found \"ExternalMetric\"",
            "c:1:36: apiVersion: expected tidepole.dev/v1alpha1, found \"v2\"",
        ]
    );
    let missing = Config::load(Path::new("does/not/exist"), &Overrides::default()).unwrap_err();
    assert!(missing[0].to_string().starts_with("does/not/exist: cannot be read: "));
}

#[test]
fn traces_are_off_unless_they_are_asked_for() {
    assert_eq!(config("").traces, None);
    let traces = "telemetry: {traces: {endpoint: 'http://otel:4318', headers: {a: {file: key}}}}";
    let traces = config(traces).traces.expect("they are asked for");
    assert!((traces.sample_ratio - 0.01).abs() < f64::EPSILON);
    let file = traces::Header::File("etc/key".into());
    assert_eq!(traces.headers, [("a".to_owned(), file)]);
    let body = "telemetry:\n  traces:\n    endpoint: http://me:hunter2@otel\n    sampleRatio: 2\n    \
                headers:\n      Host: x\n      a: [b, c]\n";
    assert_eq!(
        parse(body, &Overrides::default()).unwrap_err(),
        [
            "5:15: telemetry.traces.endpoint: credentials belong into headers, from a file",
            "6:18: telemetry.traces.sampleRatio: expected a number from 0 to 1",
            "8:13: telemetry.traces.headers.Host: this header is set by the client itself",
            "9:10: telemetry.traces.headers.a: expected one value",
        ]
    );
    let missing = parse("telemetry: {traces: {}}", &Overrides::default()).unwrap_err();
    assert!(missing[0].contains("telemetry.traces.endpoint"), "{missing:?}");
}

#[test]
fn secrets_are_in_no_debug_form() {
    let config = config(
        "sources:\n- {name: p, prometheus: {url: 'http://p', headers: {X-Api-Key: hunter2}}}\n\
         telemetry: {traces: {endpoint: 'http://otel', headers: {X-Api-Key: hunter2}}}\n",
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn every_config_of_the_repository_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let load = |name: &str| {
        Config::load(&folder.join(name), &Overrides::default())
            .unwrap_or_else(|problems| panic!("{problems:#?}"))
    };
    let demo = load("demo.yaml");
    assert_eq!(demo.server.listen().to_string(), "127.0.0.1:6443");
    assert_eq!(demo.admin_listen.to_string(), "127.0.0.1:8080");
    assert_eq!((demo.server.auth(), demo.kubernetes.enabled), (AuthMode::None, false));
    assert_eq!(load("minimal.yaml").sources.len(), 1);
    assert_eq!(load("full.yaml").sources.len(), 4);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,100}") {
        let _ = Config::parse(Path::new("c"), &text, &Overrides::default());
    }

    #[test]
    fn arbitrary_configs_never_panic(
        body in "((  |- |    )?(server|listen|tls|auth|sources|name|prometheus|aws|url|headers|region|allowedRegions|timeout|maxSeries|defaults|refresh|definitions|paths): (x|5|-1|\\[a, 1\\]|\\{a: b\\}|\\{url: x\\}|1s|null)?\n){0,8}",
    ) {
        if let Err(problems) = parse(&body, &Overrides::default()) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| !p.contains("please report it")), "{:?}", problems);
        }
    }
}
