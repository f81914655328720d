//! The check of signatures against AWS's published test suite, and the fake STS with the SDK's own
//! client.

use aws_sdk_cloudwatch::config::Credentials;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region};
use aws_sdk_sts::error::ProvideErrorMetadata;

use super::{ask, client_of, fake, latency, stat};
use crate::support::upstream::sigv4::{Identity, KeyRing, Rejection, verify};
use crate::support::upstream::{Prometheus, Queue, Request, Sqs, Sts};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z, the time of the suite.
const SUITE_TIME: i64 = 1_440_938_160;

/// A request of the suite: the first line and the headers beside host and date.
fn signed(line: &str, headers: &[(&str, &str)], names: &str, signature: &str) -> Request {
    let (method, target) = line.split_once(' ').expect("a method and a target");
    let mut all = vec![
        ("host".to_owned(), "example.amazonaws.com".to_owned()),
        ("x-amz-date".to_owned(), "20150830T123600Z".to_owned()),
    ];
    all.extend(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    all.push(("authorization".to_owned(), authorization));
    let (method, target) = (method.to_owned(), target.to_owned());
    Request { method, target, headers: all, body: Vec::new() }
}

fn check(request: &Request) -> Result<Identity, Rejection> {
    let ring = KeyRing::with_user("AKIDEXAMPLE", SECRET);
    verify(request, &ring, "service", Some("us-east-1"), SUITE_TIME)
}

/// From the AWS Signature Version 4 test suite (awslabs/aws-c-auth, Apache-2.0).
#[test]
fn the_published_examples_verify() {
    let plain = "host;x-amz-date";
    let examples = [
        ("GET /", plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET /example1/example2/../..",
            plain,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "GET /./example",
            plain,
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            "GET //example//",
            plain,
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "GET /\u{1234}",
            plain,
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            "GET /example space/",
            plain,
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
        (
            "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            plain,
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "GET /?Param2=value2&Param1=value1",
            plain,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ];
    for (line, names, signature) in examples {
        let identity = check(&signed(line, &[], names, signature));
        assert_eq!(identity.map(|i| i.access_key), Ok("AKIDEXAMPLE".to_owned()), "{line}");
    }
    let duplicate = signed(
        "GET /",
        &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        "host;my-header1;x-amz-date",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    );
    check(&duplicate).expect("headers of one name are joined");
    let trimmed = signed(
        "GET /",
        &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    );
    check(&trimmed).expect("values are trimmed");
    let mut form = signed(
        "POST /",
        &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", "13"),
            (
                "x-amz-content-sha256",
                "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
            ),
        ],
        "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    );
    form.body = b"Param1=value1".to_vec();
    check(&form).expect("the body is hashed");
    form.body = b"Param1=value2".to_vec();
    assert!(matches!(check(&form), Err(Rejection::Mismatch(what)) if what.contains("sha256")));
}

#[test]
fn what_does_not_verify() {
    let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    let good = || signed("GET /", &[], "host;x-amz-date", vanilla);
    let refused = |request: &Request, service, region, ring: &KeyRing, now| {
        verify(request, ring, service, region, now).expect_err("refused").message()
    };
    let ring = KeyRing::with_user("AKIDEXAMPLE", SECRET);
    let region = Some("us-east-1");
    assert!(refused(&good(), "sqs", region, &ring, SUITE_TIME).contains("'sqs'"));
    assert!(refused(&good(), "service", Some("eu-west-1"), &ring, SUITE_TIME).contains("region"));
    let late = refused(&good(), "service", region, &ring, SUITE_TIME + 301);
    assert!(late.starts_with("Signature expired"), "{late}");
    let early = refused(&good(), "service", region, &ring, SUITE_TIME - 301);
    assert!(early.starts_with("Signature not yet current"), "{early}");
    let mut other = good();
    other.method = "POST".to_owned();
    assert!(matches!(check(&other), Err(Rejection::Mismatch(_))));
    let token = signed("GET /", &[("x-amz-security-token", "t")], "host;x-amz-date", vanilla);
    assert_eq!(check(&token), Err(Rejection::UnknownKey));
    let hidden = signed("GET /", &[("x-amz-target", "X.Y")], "host;x-amz-date", vanilla);
    assert!(
        matches!(check(&hidden), Err(Rejection::Mismatch(what)) if what.contains("x-amz-target"))
    );
    let mut unsigned = good();
    unsigned.headers.retain(|(name, _)| name != "authorization");
    assert_eq!(check(&unsigned), Err(Rejection::Missing));
    let stranger = KeyRing::with_user("AKIDOTHER", SECRET);
    let unknown = verify(&good(), &stranger, "service", region, SUITE_TIME);
    assert_eq!(unknown, Err(Rejection::UnknownKey));
    let wrong = KeyRing::with_user("AKIDEXAMPLE", "wrong");
    let mismatch = verify(&good(), &wrong, "service", region, SUITE_TIME);
    assert!(matches!(mismatch, Err(Rejection::Mismatch(_))));
}

fn sts(fake: &Sts, credentials: Option<Credentials>) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(fake.url());
    let config = match credentials {
        Some(credentials) => config.credentials_provider(credentials).build(),
        None => config.build(),
    };
    aws_sdk_sts::Client::from_conf(config)
}

fn of(credentials: &aws_sdk_sts::types::Credentials) -> Credentials {
    let expires = std::time::SystemTime::try_from(*credentials.expiration()).expect("a time");
    Credentials::new(
        credentials.access_key_id(),
        credentials.secret_access_key(),
        Some(credentials.session_token().to_owned()),
        Some(expires),
        "test",
    )
}

#[tokio::test]
async fn a_role_is_assumed_and_its_keys_sign_elsewhere() {
    let ring = KeyRing::with_user("AKIDEXAMPLE", "secret");
    let fake_sts = Sts::start(&ring);
    let role = "arn:aws:iam::444455556666:role/metrics-reader";
    fake_sts.role_with_external_id(role, "tidepole");
    let user = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let client = sts(&fake_sts, Some(user.clone()));
    let assume = |external: &str| {
        client.assume_role().role_arn(role).role_session_name("tests").external_id(external).send()
    };
    let refused = assume("other").await.expect_err("another external id").into_service_error();
    assert_eq!(refused.code(), Some("AccessDenied"));
    let told = format!("is not authorized to perform: sts:AssumeRole on resource: {role}");
    assert!(refused.message().expect("a message").ends_with(&told), "{refused:?}");
    let assumed = assume("tidepole").await.expect("a role");
    let keys = of(assumed.credentials().expect("credentials"));
    let who = sts(&fake_sts, Some(keys.clone())).get_caller_identity().send().await.expect("known");
    assert_eq!(who.arn(), Some("arn:aws:sts::444455556666:assumed-role/metrics-reader/tests"));
    assert_eq!(who.account(), Some("444455556666"));

    let fake = fake();
    fake.generate_all(|_, _| Some(1.0));
    fake.check_signatures(&ring);
    let query = || vec![stat("m", &latency(), "Sum")];
    let reader = client_of(&fake, keys);
    ask(&reader, 5, query()).await.expect("the role may read");
    let call = fake.last();
    assert!(call.access_key.starts_with("ASIA") && call.session_token.is_some());
    let code = async |client: &aws_sdk_cloudwatch::Client| {
        ask(client, 5, query()).await.expect_err("refused").0
    };
    ring.deny(role, "cloudwatch:GetMetricData");
    assert_eq!(code(&reader).await, "AccessDenied");
    ask(&client_of(&fake, user), 5, query()).await.expect("the user may read all the same");
    ring.expire(role);
    assert_eq!(code(&reader).await, "ExpiredToken");
    let liar = Credentials::new("AKIDEXAMPLE", "guessed", None, None, "test");
    assert_eq!(code(&client_of(&fake, liar)).await, "SignatureDoesNotMatch");
    let stranger = Credentials::new("AKIDSTRANGER", "secret", None, None, "test");
    assert_eq!(code(&client_of(&fake, stranger)).await, "InvalidClientTokenId");
    assert_eq!(fake_sts.assumed(role), 2);
    assert_eq!(fake_sts.calls()[1].external_id.as_deref(), Some("tidepole"));
}

#[tokio::test]
async fn queues_and_prometheus_check_signatures_too() {
    let ring = KeyRing::with_user("AKIDEXAMPLE", "secret");
    let queues = Sqs::start();
    queues.queue("jobs", Queue { visible: 7, ..Queue::default() });
    queues.check_signatures(&ring);
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"))
        .retry_config(aws_sdk_sqs::config::retry::RetryConfig::disabled())
        .endpoint_url(queues.server().url())
        .build();
    let client = aws_sdk_sqs::Client::from_conf(config);
    client.get_queue_url().queue_name("jobs").send().await.expect("a URL");
    ring.deny("arn:aws:iam::111122223333:user/AKIDEXAMPLE", "sqs:GetQueueUrl");
    let refused = client.get_queue_url().queue_name("jobs").send().await.expect_err("denied");
    let refused = refused.into_service_error();
    assert_eq!(refused.code(), Some("AccessDenied"));
    let message = refused.message().expect("a message");
    assert!(message.contains("is not authorized to perform: sqs:getqueueurl"), "{message}");

    let prometheus = Prometheus::start();
    prometheus.check_signatures(&ring, "aps", "eu-west-1", "aps:QueryMetrics");
    let url = format!("{}/api/v1/query?query=up", prometheus.server().url());
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["x-amzn-errortype"], "MissingAuthenticationTokenException");
    assert_eq!(
        answer.text().await.expect("a text"),
        r#"{"message":"Missing Authentication Token"}"#
    );
}

#[tokio::test]
async fn a_web_identity_needs_no_signature() {
    let ring = KeyRing::default();
    let fake = Sts::start(&ring);
    let role = "arn:aws:iam::111122223333:role/irsa";
    fake.web_identity(role, "header.payload.signature");
    fake.lifetime(60);
    let client = sts(&fake, None);
    let assume = |token: &str| {
        let call = client.assume_role_with_web_identity().role_arn(role).web_identity_token(token);
        call.role_session_name("pod").send()
    };
    let refused = assume("forged").await.expect_err("an unknown token").into_service_error();
    assert_eq!(refused.code(), Some("InvalidIdentityToken"));
    let assumed = assume("header.payload.signature").await.expect("a role");
    let expires = assumed.credentials().expect("credentials").expiration().secs();
    assert!((50..=60).contains(&(expires - ring.now())), "{expires}");
}
