//! Signed queries, checked by a verification of its own on the fake.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use super::*;
use crate::model::{Clock, ManualClock, PrometheusQuery, Query, QuerySpec, Source, SourceName};
use crate::source::Metrics;
use crate::source::prometheus::{
    Authentication, HeaderValues, Method, PrometheusSettings, PrometheusSource,
};
use crate::source::upstream::{KeyRing, Prometheus, Reply, Sts};
use crate::telemetry::Telemetry;

const KEY: &str = "AKIDBASE";
const SECRET: &str = "secret-of-base";
const ROLE: &str = "arn:aws:iam::111122223333:role/amp-reader";

struct Bench {
    ring: KeyRing,
    fake: Prometheus,
    clock: Arc<ManualClock>,
    settings: PrometheusSettings,
    sigv4: SigV4Settings,
    token: Option<String>,
    files: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (ring, fake) = (KeyRing::with_user(KEY, SECRET), Prometheus::start());
        fake.check_signatures(&ring, "aps", "eu-west-1", "aps:QueryMetrics");
        let mut settings = PrometheusSettings::new(fake.server().url().parse().unwrap());
        settings.timeout = Duration::from_secs(10);
        let clock = Arc::new(ManualClock::at(jiff::Timestamp::now()));
        let files = tempfile::tempdir().unwrap();
        let sigv4 = SigV4Settings::new("eu-west-1");
        Self { ring, fake, clock, settings, sigv4, token: None, files }
    }

    fn source(&self) -> PrometheusSource {
        let mut settings = self.settings.clone();
        settings.authentication = Authentication::SigV4(Box::new(self.sigv4.clone()));
        let credentials = Credentials::new(KEY, SECRET, self.token.clone(), None, "test");
        let chain = Some(SharedCredentialsProvider::new(credentials));
        let metrics = Metrics::register(&Telemetry::new());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let name = SourceName::new("amp");
        PrometheusSource::build_as(&name, &settings, clock, &metrics, chain).unwrap()
    }
}

async fn ask(source: &PrometheusSource, query: &str) -> String {
    let spec = PrometheusQuery {
        query: query.into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    let spec = QuerySpec::Prometheus(spec);
    let query = Arc::new(Query { source: SourceName::new("amp"), spec });
    match source.fetch(&[query]).await.remove(0) {
        Ok(sample) => sample.series[0].value.to_string(),
        Err(error) => {
            let whole = format!("{error:?} {source:?}");
            assert!(!whole.contains("secret-of") && !whole.contains("token/"), "{whole}");
            format!("{}: {error}", error.kind())
        }
    }
}

async fn refusal(source: &PrometheusSource) -> crate::model::FetchError {
    let spec = PrometheusQuery {
        query: "up".into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    let spec = QuerySpec::Prometheus(spec);
    let query = Arc::new(Query { source: SourceName::new("amp"), spec });
    source.fetch(&[query]).await.remove(0).unwrap_err()
}

#[tokio::test]
async fn any_query_is_signed_as_it_is_sent() {
    let mut bench = Bench::new();
    bench.fake.prefix("/workspaces/ws-1");
    bench.settings.url = format!("{}/workspaces/ws-1/", bench.fake.server().url()).parse().unwrap();
    bench.settings.headers =
        vec![("X-Tag".to_owned(), HeaderValues::Fixed(vec!["a".to_owned(), "b  b".to_owned()]))];
    let queries = [
        "up",
        "sum by (queue) (rate(x{a=\"b c\",d!~\"e|f.*\"}[5m])) + 1 > bool 2",
        "a+b %2B ~ -_. / ? & = # ; : @ ! $ ' ( ) * , [ ] \\ ^ ` { | }",
        "x{a=\"ä€🚀\"}",
        "{\"http.server.active_requests\", \"@resource.service.name\"=\"my service\"}",
        "a\nb\t\"c\"",
    ];
    for method in [Method::Get, Method::Post] {
        bench.settings.method = method;
        let source = bench.source();
        for (number, query) in queries.iter().enumerate() {
            bench.fake.scalar(query, &number.to_string());
            assert_eq!(ask(&source, query).await, number.to_string(), "{query}");
        }
        let request = bench.fake.server().last();
        assert_eq!(request.path(), "/workspaces/ws-1/api/v1/query");
        assert_eq!(request.parameter("timeout").as_deref(), Some("10000ms"));
        assert_eq!(request.headers("x-tag"), ["a", "b  b"]);
        assert!(request.header("accept-encoding").is_some_and(|v| v.contains("gzip")));
    }
}

#[tokio::test]
async fn a_role_is_assumed_and_its_session_token_signed() {
    let mut bench = Bench::new();
    let sts = Sts::start(&bench.ring);
    let path = bench.files.path().join("id");
    std::fs::write(&path, "an-id").unwrap();
    sts.role_with_external_id(ROLE, "an-id");
    bench.sigv4.role_arn = Some(ROLE.to_owned());
    bench.sigv4.external_id_file = Some(path);
    bench.sigv4.sts_endpoint_url = Some(sts.url().parse().unwrap());
    bench.fake.scalar("up", "1");
    let source = bench.source();
    let all = futures::future::join_all((0..10).map(|_| ask(&source, "up"))).await;
    assert!(all.iter().all(|value| value == "1"), "{all:?}");
    assert_eq!(sts.assumed(ROLE), 1);
    assert_eq!(sts.calls()[0].session.as_deref(), Some("tidepole-amp"));
    let request = bench.fake.server().last();
    assert!(request.header("x-amz-security-token").is_some_and(|t| t.starts_with("token/")));

    bench.ring.deny(ROLE, "aps:QueryMetrics");
    assert_eq!(
        ask(&source, "up").await,
        format!(
            "denied: access denied: role {ROLE} needs aps:QueryMetrics; allow it in its policy (HTTP 403)"
        )
    );
    bench.ring.allow(ROLE, "aps:QueryMetrics");
    // A refusal that quotes the request does not carry the token on.
    let token = request.header("x-amz-security-token").unwrap();
    let quoting =
        format!("{{\"message\":\"The canonical string is x-amz-security-token:{token}\"}}");
    bench.fake.answer_all(Some(Reply::json(403, quoting)));
    assert!(ask(&source, "up").await.starts_with("denied: AWS refused the query: role "));
    for quoted in
        [token.replace('/', "\\/"), token.replace('=', "%3d"), token.replace('+', "&#43;")]
    {
        bench.fake.answer_all(Some(Reply::json(403, format!("{{\"message\":\"{quoted} \"}}"))));
        let said = format!("{:?}", refusal(&source).await);
        assert!(said.contains("[secret] "), "{said}");
        assert!(!said.contains(&quoted.replace('\\', "\\\\")), "{said}");
    }
    bench.fake.answer_all(None);
    let label = format!("\"sent\":\"{token}\"");
    bench.fake.vector("up", &[(label.as_str(), "1")]);
    assert_eq!(ask(&source, "up").await, "malformed: the answer repeats the source's credentials");
    bench.fake.scalar("up", "1");
    bench.ring.expire(ROLE);
    assert_eq!(
        ask(&source, "up").await,
        format!(
            "denied: AWS did not accept the credentials of role {ROLE}: they have expired; new ones are being fetched (HTTP 403)"
        )
    );
    let back = async { while ask(&source, "up").await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("new credentials come");
    assert_eq!(sts.assumed(ROLE), 2);
}

#[tokio::test]
async fn a_wrong_clock_region_or_key_is_named() {
    let mut bench = Bench::new();
    bench.fake.scalar("up", "1");
    let own = "denied: AWS did not accept the credentials of the source's own identity: ";
    bench.clock.advance(Duration::from_mins(6));
    assert_eq!(
        ask(&bench.source(), "up").await,
        format!("{own}the signature's time is wrong; is this machine's clock right? (HTTP 403)")
    );
    bench.ring.set_ahead(360);
    assert_eq!(ask(&bench.source(), "up").await, "1");
    bench.ring.set_ahead(720);
    let late = ask(&bench.source(), "up").await;
    assert!(late.contains("the signature's time is wrong"), "{late}");
    bench.ring.set_ahead(360);

    bench.sigv4.region = "us-east-1".to_owned();
    assert_eq!(
        ask(&bench.source(), "up").await,
        format!("{own}sigV4.region and sigV4.service are not those of the url (HTTP 403)")
    );
    bench.sigv4.region = "eu-west-1".to_owned();
    bench.token = Some("token/of-nobody".to_owned());
    assert_eq!(
        ask(&bench.source(), "up").await,
        format!(
            "{own}the access key is unknown there, or the region is not enabled for its account (HTTP 403)"
        )
    );
    bench.token = None;
    bench.ring.add_user(KEY, "another secret");
    assert_eq!(
        ask(&bench.source(), "up").await,
        format!(
            "{own}the secret key is wrong, or a proxy on the way changed the request (HTTP 403)"
        )
    );
    bench.ring.add_user(KEY, SECRET);
    bench.fake.answer_all(Some(Reply::json(429, r#"{"message":"Rate exceeded"}"#)));
    assert_eq!(
        ask(&bench.source(), "up").await,
        "throttled: AWS asks for fewer queries (HTTP 429)"
    );
}

#[tokio::test]
async fn redirects_of_signed_queries_are_refused() {
    let (bench, other) = (Bench::new(), Prometheus::start());
    let reply = Reply::text(307, "text/plain", "").with_header("location", &other.server().url());
    bench.fake.answer_all(Some(reply));
    let refused = ask(&bench.source(), "up").await;
    assert!(refused.starts_with("unavailable: HTTP 307: the server redirects to "), "{refused}");
    assert_eq!(other.server().hits(), 0);
}

#[tokio::test]
async fn cloudwatchs_endpoint_has_its_own_rules() {
    let mut bench = Bench::new();
    let action = "cloudwatch:GetMetricData";
    bench.fake.check_signatures(&bench.ring, "monitoring", "eu-west-1", action);
    bench.sigv4.service = SigV4Service::Monitoring;
    let labels: Vec<String> = (0..500).map(|i| format!("\"n\":\"{i}\"")).collect();
    let series: Vec<(&str, &str)> = labels.iter().map(|label| (label.as_str(), "1")).collect();
    bench.fake.vector("many", &series[..499]);
    bench.fake.vector("cut", &series);
    let source = bench.source();
    assert_eq!(ask(&source, "many").await, "1");
    // Its reference has no such parameter.
    assert_eq!(bench.fake.server().last().parameter("timeout"), None);
    assert_eq!(
        ask(&source, "cut").await,
        "invalid: the answer has more than 499 series (CloudWatch cuts answers at 500); aggregate them in the query"
    );
    bench.ring.deny(&format!("arn:aws:iam::111122223333:user/{KEY}"), action);
    assert_eq!(
        ask(&source, "many").await,
        "denied: access denied: the source's own identity needs cloudwatch:GetMetricData and cloudwatch:ListMetrics; allow it in its policy (HTTP 403)"
    );
}

#[test]
fn wrong_settings_are_refused_with_the_field() {
    let problems = |url: &str, change: fn(&mut SigV4Settings), headers: &[&str]| {
        let mut sigv4 = SigV4Settings::new("eu-west-1");
        change(&mut sigv4);
        let mut settings = PrometheusSettings::new(url.parse().unwrap());
        settings.authentication = Authentication::SigV4(Box::new(sigv4));
        let value = || HeaderValues::Fixed(vec!["x".to_owned()]);
        settings.headers = headers.iter().map(|name| ((*name).to_owned(), value())).collect();
        let found = settings.problems();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let amp = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1";
    for url in [
        amp,
        "http://127.0.0.1:9090",
        "http://[::1]:9090",
        "http://localhost:9090",
        "https://vpce-1.aps-workspaces.us-east-1.vpce.amazonaws.com/workspaces/ws-1",
    ] {
        assert_eq!(problems(url, |_| {}, &["X-Tag"]), "", "{url}");
    }
    let monitoring = "https://monitoring.eu-west-1.amazonaws.com";
    assert_eq!(problems(monitoring, |s| s.service = SigV4Service::Monitoring, &[]), "");
    assert_eq!(problems(monitoring, |_| {}, &[]), "sigV4.service: the url's service is monitoring");
    assert_eq!(
        problems(amp, |s| s.region = "eu-central-1".to_owned(), &[]),
        "sigV4.region: the url is in eu-west-1; a signature is good in its own region only"
    );
    assert_eq!(
        problems(amp, |s| s.region = "Ireland".to_owned(), &[]),
        "sigV4.region: \"Ireland\" is not an AWS region; one looks like eu-west-1"
    );
    assert_eq!(
        problems(amp, |s| s.role_arn = Some("amp".to_owned()), &[]),
        "sigV4.roleArn: \"amp\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics"
    );
    assert_eq!(
        problems(amp, |s| s.external_id_file = Some("id".into()), &[]),
        "sigV4.externalIdFile: an external id is sent when a role is assumed, and there is no roleArn"
    );
    assert_eq!(
        problems(amp, |s| s.sts_endpoint_url = Some("https://sts".parse().unwrap()), &[]),
        "sigV4.stsEndpointUrl: roles are assumed there, and there is no roleArn"
    );
    assert_eq!(
        problems("http://prometheus.monitoring:9090", |_| {}, &[]),
        "url: signed queries need https, except to a loopback address"
    );
    assert_eq!(
        problems(amp, |_| {}, &["X-Amz-Date"]),
        "headers.X-Amz-Date: this header belongs to the signature"
    );
    assert_eq!(
        problems(amp, |_| {}, &["Authorization"]),
        "sigV4: headers already says who we are; only one way to do so is allowed"
    );
}
