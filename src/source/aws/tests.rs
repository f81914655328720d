//! What a source takes from the process' environment. A test cannot change its own, so each of
//! these runs itself once more as a child with the variables that it is about.

use std::process::Command;
use std::time::Duration;

use super::*;
use crate::model::{QueueCount, QueueRef, SqsQuery, SystemClock};
use crate::source::upstream::{KeyRing, Queue, Reply, Sqs, Sts, Upstream};
use crate::telemetry::Telemetry;

/// Marks the child, and tells it where SQS is (empty: AWS' own endpoint).
const CHILD: &str = "TIDEPOLE_TEST_SQS_ENDPOINT";
/// Tells the child where STS is.
const CHILD_STS: &str = "TIDEPOLE_TEST_STS_ENDPOINT";

/// Asks for a queue as the environment says, when this is the child; prints the outcome.
#[tokio::test]
async fn child() {
    let Ok(endpoint) = std::env::var(CHILD) else { return };
    let mut settings = AwsSettings::new("eu-west-1");
    settings.sqs_endpoint_url = (!endpoint.is_empty()).then(|| endpoint.parse().unwrap());
    settings.sts_endpoint_url = std::env::var(CHILD_STS).ok().map(|url| url.parse().unwrap());
    settings.timeout = Duration::from_secs(10);
    let (name, metrics) = (SourceName::new("aws"), Metrics::register(&Telemetry::new()));
    let clock = Arc::new(SystemClock::new());
    let source = AwsSource::build(&name, &settings, clock, &metrics, None).unwrap();
    let queue = QueueRef { region: "eu-west-1".into(), account: None, name: "jobs".into() };
    let count = vec![QueueCount::Visible];
    let spec = QuerySpec::Sqs(SqsQuery { queues: vec![queue], count, role_arn: None });
    let query = Arc::new(Query { source: name, spec });
    let outcome = match source.fetch(&[query]).await.remove(0) {
        Ok(sample) => sample.series[0].value.to_string(),
        Err(error) => format!("{}: {error}", error.kind()),
    };
    println!("outcome: {outcome}");
}

/// The outcome of a child with these variables and no others of AWS' or about proxies.
fn run(endpoint: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "source::aws::tests::child", "--nocapture"]);
    for (name, _) in std::env::vars() {
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.env(CHILD, endpoint).env("AWS_EC2_METADATA_DISABLED", "true");
    let home = tempfile::tempdir().unwrap();
    command.env("HOME", home.path()).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome = text.split_once("outcome: ").unwrap_or_else(|| panic!("{output:?}")).1;
    outcome.lines().next().unwrap().to_owned()
}

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "secret-of-env")];

fn fake() -> Sqs {
    let fake = Sqs::start();
    fake.check_signatures(&KeyRing::with_user("AKIDENV", "secret-of-env"));
    fake.queue("jobs", Queue { visible: 7, ..Queue::default() });
    fake
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    KEYS.iter().chain(more).copied().collect()
}

#[test]
fn credentials_come_from_the_environment_and_endpoints_do_not() {
    let (fake, other) = (fake(), Sqs::start());
    let elsewhere = other.server().url();
    let variables = [
        ("AWS_ENDPOINT_URL", elsewhere.as_str()),
        ("AWS_ENDPOINT_URL_SQS", &elsewhere),
        ("AWS_REGION", "us-east-1"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
    ];
    assert_eq!(run(&fake.server().url(), &with(&variables)), "7");
    assert_eq!(other.server().hits(), 0);
    assert_eq!(
        run(&fake.server().url(), &[]),
        "denied: the source has no AWS credentials (environment, profile, web identity, container and instance metadata were tried)"
    );
}

#[test]
fn plain_http_goes_through_the_proxy_of_the_environment() {
    let upstream = fake();
    let address = upstream.server().address().port();
    let proxy = Upstream::start(move |request| {
        if request.target.starts_with("http://sqs.test.invalid/") {
            return Sqs::error(400, "QueueDoesNotExist", "seen by the proxy");
        }
        Reply::text(502, "text/plain", format!("{} {address}", request.target))
    });
    let url = proxy.url();
    assert_eq!(
        run("http://sqs.test.invalid", &with(&[("HTTP_PROXY", &url)])),
        "invalid: SQS queue \"jobs\" in eu-west-1 does not exist"
    );
    assert_eq!(proxy.hits(), 1);
    // Not for what NO_PROXY names.
    let no_proxy = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "127.0.0.1")];
    assert_eq!(run(&upstream.server().url(), &with(&no_proxy)), "7");
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    let proxy = Upstream::start(|_| Reply::text(502, "text/plain", "no tunnel today"));
    let url = proxy.url();
    let outcome = run("", &with(&[("HTTPS_PROXY", &url)]));
    assert!(outcome.starts_with("unavailable: SQS queue \"jobs\" in eu-west-1: "), "{outcome}");
    let request = proxy.last();
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("CONNECT", "sqs.eu-west-1.amazonaws.com:443")
    );
}

#[test]
fn eks_pod_identity_is_asked_with_its_token() {
    let ring = KeyRing::default();
    let (fake, files) = (Sqs::start(), tempfile::tempdir().unwrap());
    fake.check_signatures(&ring);
    fake.queue("jobs", Queue { visible: 7, ..Queue::default() });
    let key = ring.issue("arn:aws:iam::111122223333:role/pod", "eks-tidepole", 3600);
    let agent = Upstream::start(move |request| {
        if request.header("authorization") != Some("a-jwt") {
            return Reply::json(403, "{}");
        }
        let expires = jiff::Timestamp::from_second(key.expires.unwrap()).unwrap();
        let (id, secret) = (&key.id, &key.secret);
        let token = key.session_token.as_deref().unwrap();
        Reply::json(
            200,
            format!(
                r#"{{"AccessKeyId":"{id}","SecretAccessKey":"{secret}","Token":"{token}","AccountId":"111122223333","Expiration":"{expires}"}}"#
            ),
        )
    });
    let (at, token) = (format!("{}/v1/credentials", agent.url()), files.path().join("token"));
    std::fs::write(&token, "a-jwt").unwrap();
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", at.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ];
    assert_eq!(run(&fake.server().url(), &variables), "7");
    assert_eq!(agent.hits(), 1);
}

#[test]
fn a_pods_service_account_is_exchanged_at_the_named_sts() {
    let ring = KeyRing::default();
    let (sts, fake, files) = (Sts::start(&ring), Sqs::start(), tempfile::tempdir().unwrap());
    fake.check_signatures(&ring);
    fake.queue("jobs", Queue { visible: 7, ..Queue::default() });
    let (role, token) = ("arn:aws:iam::111122223333:role/irsa", files.path().join("token"));
    std::fs::write(&token, "a-jwt").unwrap();
    sts.web_identity(role, "a-jwt");
    let elsewhere = Sqs::start();
    let wrong = elsewhere.server().url();
    let (at, token) = (sts.url(), token.to_str().unwrap().to_owned());
    let variables = [
        (CHILD_STS, at.as_str()),
        ("AWS_ENDPOINT_URL_STS", &wrong),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ROLE_ARN", role),
    ];
    assert_eq!(run(&fake.server().url(), &variables), "7");
    assert_eq!((sts.hits("AssumeRoleWithWebIdentity"), elsewhere.server().hits()), (1, 0));
    // Keys in the environment go before, as in the SDK's own chain.
    ring.add_user("AKIDENV", "secret-of-env");
    assert_eq!(run(&fake.server().url(), &with(&variables)), "7");
    assert_eq!(sts.hits("AssumeRoleWithWebIdentity"), 1);
}

#[test]
fn a_pods_service_account_comes_after_a_profile_and_its_session_names_us() {
    let ring = KeyRing::with_user("AKIDPROFILE", "secret-of-profile");
    let (sts, fake, files) = (Sts::start(&ring), Sqs::start(), tempfile::tempdir().unwrap());
    fake.check_signatures(&ring);
    fake.queue("jobs", Queue { visible: 7, ..Queue::default() });
    let role = "arn:aws:iam::111122223333:role/irsa";
    let (token, profile) = (files.path().join("token"), files.path().join("credentials"));
    std::fs::write(&token, "a-jwt").unwrap();
    let keys = "aws_access_key_id=AKIDPROFILE\naws_secret_access_key=secret-of-profile\n";
    std::fs::write(&profile, format!("[default]\n{keys}")).unwrap();
    sts.web_identity(role, "a-jwt");
    let at = sts.url();
    let variables = [
        (CHILD_STS, at.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", role),
    ];
    assert_eq!(run(&fake.server().url(), &variables), "7");
    let sessions: Vec<_> = sts.calls().into_iter().map(|call| call.session).collect();
    assert_eq!(sessions, [Some("tidepole-aws".to_owned())]);
    let profile = ("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap());
    for variables in
        [vec![variables[1], variables[2], profile], [&variables[..], &[profile]].concat()]
    {
        assert_eq!(run(&fake.server().url(), &variables), "7");
        assert_eq!(sts.hits("AssumeRoleWithWebIdentity"), 1);
    }
}

#[test]
fn a_pods_service_account_is_shown_to_no_endpoint_of_the_environment() {
    let (elsewhere, files) = (Sqs::start(), tempfile::tempdir().unwrap());
    let proxy = Upstream::start(|_| Reply::text(502, "text/plain", "no tunnel today"));
    let token = files.path().join("token");
    std::fs::write(&token, "a-jwt").unwrap();
    let (wrong, through) = (elsewhere.server().url(), proxy.url());
    let variables = [
        ("AWS_ENDPOINT_URL", wrong.as_str()),
        ("AWS_ENDPOINT_URL_STS", &wrong),
        ("HTTPS_PROXY", &through),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa"),
    ];
    let outcome = run("", &variables);
    let about = "unavailable: the role of the web identity (AWS_ROLE_ARN) cannot be assumed: ";
    assert!(outcome.starts_with(about), "{outcome}");
    assert_eq!((elsewhere.server().hits(), proxy.hits()), (0, 1));
    assert_eq!(proxy.last().target, "sts.eu-west-1.amazonaws.com:443");
}
