use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: AdapterArgs,
}

const RULES: &str = "externalRules:\n- seriesQuery: up\n  metricsQuery: up\n";

struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), rules).unwrap();
        Self { folder }
    }

    fn read(&self, words: &[&str]) -> Result<Config, Vec<String>> {
        let file = format!("--config={}", self.folder.path().join("config.yaml").display());
        let all = ["adapter", &file].into_iter().chain(words.iter().copied());
        config(&Line::try_parse_from(all).unwrap_or_else(|e| panic!("{e}")).args)
    }

    fn settings(&self, words: &[&str]) -> PrometheusSettings {
        let config = self.read(words).unwrap_or_else(|e| panic!("{e:?}"));
        match config.sources.into_iter().next().unwrap().settings {
            source::Settings::Prometheus(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_arguments_of_the_manifests_and_of_the_chart_are_taken() {
    let house = House::new(RULES);
    // deploy/manifests of the original; the chart's, with its own path in front.
    for words in [
        &[
            "--cert-dir=/var/run/serving-cert",
            "--metrics-relist-interval=1m",
            "--prometheus-url=https://prometheus.monitoring.svc:9090/",
            "--secure-port=6443",
            "--tls-cipher-suites=TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384",
        ][..],
        &[
            "/adapter",
            "--secure-port=6443",
            "--cert-dir=/tmp/cert",
            "--prometheus-url=http://prometheus.default.svc:9090",
            "--metrics-relist-interval=1m",
            "--v=4",
            "--logtostderr=true",
        ],
        &[
            "--secure-port",
            "6443",
            "-v",
            "6",
            "--profiling=false",
            "--contention-profiling",
            "--audit-log-path",
            "-",
            "--client-qps=500",
            "--client-burst",
            "500",
            "--authorization-always-allow-paths=/healthz,/readyz",
            "--metrics-relist-interval=1m",
        ],
    ] {
        let config = house.read(words).unwrap_or_else(|e| panic!("{words:?}: {e:?}"));
        assert_eq!(config.server.listen().to_string(), "0.0.0.0:6443");
        let [rules] = &config.rules[..] else { panic!("{:?}", config.rules) };
        assert_eq!(rules.relist_interval, Duration::from_mins(1));
        assert_eq!(rules.series_max_age, Duration::from_mins(1), "as the interval");
    }
}

#[test]
fn the_status_page_makes_room() {
    let house = House::new(RULES);
    let admin = |words: &[&str]| {
        let config = house.read(words).unwrap_or_else(|e| panic!("{words:?}: {e:?}"));
        (config.admin_listen.to_string(), config.admin_alternative.map(|address| address.port()))
    };
    assert_eq!(admin(&[]), ("[::]:8080".to_owned(), Some(0)));
    assert_eq!(admin(&["--secure-port=8080"]), ("127.0.0.1:0".to_owned(), Some(0)));
    assert_eq!(admin(&["--admin-listen=127.0.0.1:8080"]), ("127.0.0.1:8080".to_owned(), None));
}

#[test]
fn a_group_without_rules_is_not_served() {
    let apis = |rules: &str| House::new(rules).read(&[]).unwrap().apis;
    assert_eq!(apis(RULES), ServedApis { external: true, custom: false });
    assert_eq!(
        apis(&RULES.replace("externalRules", "rules")),
        ServedApis { external: false, custom: true }
    );
    assert_eq!(apis(""), ServedApis { external: false, custom: false });
}

#[test]
fn the_url_keeps_its_path_and_sends_user_and_password() {
    let house = House::new(RULES);
    let settings = house.settings(&[
        "--prometheus-url=http://me:p%40ss@prom:9090/prefix?x=y",
        "--prometheus-verb=POST",
    ]);
    assert_eq!(settings.url.as_str(), "http://prom:9090/prefix");
    assert_eq!(settings.method, Method::Post);
    let (name, HeaderValues::Fixed(values)) = &settings.headers[0] else { panic!() };
    assert_eq!(
        (name.as_str(), &values[..]),
        ("Authorization", &["Basic bWU6cEBzcw==".to_owned()][..])
    );
    assert_eq!(house.settings(&[]).url.as_str(), "https://localhost/");
}

#[test]
fn headers_add_up() {
    let settings = House::new(RULES).settings(&[
        "--prometheus-header=X-Scope-OrgID=a=b",
        "--prometheus-header=x-scope-orgid=c",
        "--prometheus-header=X-Empty",
    ]);
    let shown: Vec<String> = settings
        .headers
        .iter()
        .map(|(name, values)| match values {
            HeaderValues::Fixed(values) => format!("{name}: {}", values.join("|")),
            HeaderValues::File(_) => panic!(),
        })
        .collect();
    assert_eq!(shown, ["X-Scope-OrgID: a=b|c", "X-Empty: "]);
}

#[test]
fn a_ca_file_replaces_the_other_ways_to_authenticate() {
    let house = House::new(RULES);
    let account = house.settings(&["--prometheus-auth-incluster"]);
    assert_eq!(account.tls.ca_file.as_deref(), Some(&*Path::new(SERVICE_ACCOUNT).join("ca.crt")));
    assert!(matches!(account.authentication, Authentication::Bearer { .. }));
    let ca = house.settings(&[
        "--prometheus-auth-incluster=true",
        "--prometheus-ca-file=/ca.pem",
        "--prometheus-client-tls-cert-file=/c.pem",
        "--prometheus-client-tls-key-file=/k.pem",
    ]);
    assert_eq!(ca.tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(ca.tls.cert_file.as_deref(), Some(Path::new("/c.pem")));
    assert_eq!(ca.authentication, Authentication::None);
    // Without a CA file the original makes no use of a client certificate.
    let none = house.settings(&["--prometheus-client-tls-cert-file=/c.pem"]);
    assert_eq!(none.tls, TlsSettings::default());
}

#[test]
fn a_kubeconfig_gives_credentials_and_not_the_server() {
    let house = House::new(RULES);
    let path = house.folder.path().join("kubeconfig");
    std::fs::write(
        &path,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- {name: a, context: {cluster: c, user: u}}\n\
         clusters:\n- {name: c, cluster: {server: 'https://elsewhere', certificate-authority: /ca.pem}}\n\
         users:\n- {name: u, user: {token: s3cret}}\n",
    )
    .unwrap();
    let flag = format!("--prometheus-auth-config={}", path.display());
    let settings = house.settings(&["--prometheus-url=https://prom", &flag]);
    assert_eq!(settings.url.as_str(), "https://prom/");
    assert_eq!(settings.tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    let (_, HeaderValues::Fixed(values)) = &settings.headers[0] else { panic!() };
    assert_eq!(values[..], ["Bearer s3cret".to_owned()]);
    assert!(!format!("{settings:?}").contains("s3cret"));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let house = House::new("rules: [{seriesQuery: x, metricsQuery: '<<'}]\nrulez: []\n");
    let problems = house
        .read(&["--prometheus-url=ftp://x", "--tls-cert-file=/a", "--refresh=10ms"])
        .unwrap_err();
    let text = problems.join("\n");
    for part in [
        "config.yaml:1:",
        "config.yaml:2:1",
        "rulez",
        "--prometheus-url",
        "--tls-cert-file",
        "--refresh",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let line =
        |words: &[&str]| config(&Line::try_parse_from(words).unwrap().args).unwrap_err().join("\n");
    assert!(line(&["adapter"]).contains("--config: no rules file given"));
    assert!(Line::try_parse_from(["adapter", "--prometheus-verb=PUT"]).is_err());
    assert!(Line::try_parse_from(["adapter", "--no-such-flag"]).is_err());
}

#[test]
fn the_series_must_be_remembered_until_the_next_list_if_there_are_custom_rules() {
    let words = ["--metrics-relist-interval=10m", "--metrics-max-age=1m"];
    assert!(House::new(RULES).read(&words).is_ok());
    let custom = House::new(&RULES.replace("externalRules", "rules"));
    assert!(custom.read(&words).unwrap_err()[0].contains("--metrics-max-age"));
}
