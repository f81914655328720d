//! Identities as the services see them: on a fake STS and a fake SQS that check signatures.

use super::*;
use crate::model::{
    CloudWatchQuery, Manner, ManualClock, MetricDataQuery, MetricQuestion, MetricStat, Query,
    QuerySpec, QueueCount, QueueRef, Source, SqsQuery, SystemClock,
};
use crate::source::aws::{AwsSettings, AwsSource};
use crate::source::upstream::{CloudWatch, KeyRing, Queue, Reply, Sqs, Sts};
use crate::telemetry::Telemetry;

const BASE_KEY: &str = "AKIDBASE";
const BASE_SECRET: &str = "secret-of-base";
const SOURCE_ROLE: &str = "arn:aws:iam::111122223333:role/tidepole";
const TEAM_ROLE: &str = "arn:aws:iam::444455556666:role/metrics-reader";
const HOUR: Duration = Duration::from_hours(1);

/// A source on fakes.
struct Bench {
    ring: KeyRing,
    sts: Sts,
    sqs: Sqs,
    clock: Arc<ManualClock>,
    settings: AwsSettings,
    telemetry: Telemetry,
    files: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let ring = KeyRing::with_user(BASE_KEY, BASE_SECRET);
        let clock = Arc::new(ManualClock::at(jiff::Timestamp::now()));
        let time = Arc::clone(&clock);
        ring.clock(move || time.now().as_second());
        let (sts, sqs) = (Sts::start(&ring), Sqs::start());
        sqs.check_signatures(&ring);
        sqs.queue("jobs", Queue { visible: 7, ..Queue::default() });
        let mut settings = AwsSettings::new("eu-west-1");
        settings.sqs_endpoint_url = Some(sqs.server().url().parse().unwrap());
        settings.sts_endpoint_url = Some(sts.url().parse().unwrap());
        settings.timeout = Duration::from_secs(10);
        Self {
            ring,
            sts,
            sqs,
            clock,
            settings,
            telemetry: Telemetry::new(),
            files: tempfile::tempdir().unwrap(),
        }
    }

    fn external_id(&mut self, text: &str) {
        let path = self.files.path().join("external-id");
        std::fs::write(&path, text).unwrap();
        self.settings.external_id_file = Some(path);
    }

    fn source(&self) -> AwsSource {
        let metrics = Metrics::register(&self.telemetry);
        let base = aws_sdk_sqs::config::Credentials::new(BASE_KEY, BASE_SECRET, None, None, "test");
        let base = Some(SharedCredentialsProvider::new(base));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        AwsSource::build(&SourceName::new("aws"), &self.settings, clock, &metrics, base).unwrap()
    }
}

fn query(region: &str, role: Option<&str>) -> Arc<Query> {
    let queue = QueueRef { region: region.into(), account: None, name: "jobs".into() };
    let count = vec![QueueCount::Visible];
    let spec = SqsQuery { queues: vec![queue], count, role_arn: role.map(Into::into) };
    Arc::new(Query { source: SourceName::new("aws"), spec: QuerySpec::Sqs(spec) })
}

async fn ask(source: &AwsSource, role: Option<&str>) -> String {
    match source.fetch(&[query("eu-west-1", role)]).await.remove(0) {
        Ok(sample) => sample.series[0].value.to_string(),
        Err(error) => {
            let whole = format!("{error:?} {source:?}");
            assert!(!whole.contains("secret-of") && !whole.contains("token/"), "{whole}");
            format!("{}: {error}", error.kind())
        }
    }
}

#[tokio::test]
async fn a_querys_role_is_assumed_from_the_sources_role_which_is_assumed_from_the_base() {
    let mut bench = Bench::new();
    bench.settings.role_arn = Some(SOURCE_ROLE.to_owned());
    bench.sts.role(SOURCE_ROLE);
    bench.sts.role(TEAM_ROLE);
    let source = bench.source();
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    assert_eq!(ask(&source, None).await, "7");
    // The source's own role, named once more, is no further step.
    assert_eq!(ask(&source, Some(SOURCE_ROLE)).await, "7");
    let calls = bench.sts.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|c| (c.role.as_deref().unwrap(), c.access_key.as_str(), c.region.as_str()))
        .collect();
    assert_eq!(
        seen,
        [(SOURCE_ROLE, BASE_KEY, "eu-west-1"), (TEAM_ROLE, "ASIA0000000000000001", "eu-west-1")]
    );
    assert!(calls.iter().all(|call| call.session.as_deref() == Some("tidepole-aws")));
    assert!(calls.iter().all(|call| call.external_id.is_none()));
    // What SQS saw: the query's role twice (URL and attributes), then the source's.
    let keys: Vec<String> = bench
        .sqs
        .server()
        .seen()
        .iter()
        .map(|request| {
            let header = request.header("authorization").unwrap();
            let key = header.split_once("Credential=").unwrap().1;
            key.split('/').next().unwrap().to_owned()
        })
        .collect();
    let (first, second) = ("ASIA0000000000000001", "ASIA0000000000000002");
    assert_eq!(keys, [second, second, first, first]);
    let text = bench.telemetry.encode();
    for counted in ["kind=\"sts\",outcome=\"ok\"} 2", "kind=\"credentials\",outcome=\"ok\"} 1"] {
        assert!(text.contains(counted), "{text}");
    }
}

#[tokio::test]
async fn a_hundred_queries_assume_a_role_once() {
    let bench = Bench::new();
    bench.sts.role(TEAM_ROLE);
    bench.sts.delay(Duration::from_millis(50));
    let source = bench.source();
    let all = (0..100).map(|_| ask(&source, Some(TEAM_ROLE)));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(|value| value == "7"), "{all:?}");
    assert_eq!(bench.sts.assumed(TEAM_ROLE), 1);
}

#[tokio::test]
async fn a_changed_external_id_is_sent_with_the_next_renewal() {
    let mut bench = Bench::new();
    bench.external_id("first-id\n");
    bench.sts.role_with_external_id(TEAM_ROLE, "first-id");
    let source = bench.source();
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    bench.external_id("second-id");
    bench.sts.role_with_external_id(TEAM_ROLE, "second-id");
    bench.sts.lifetime(7200);
    bench.clock.advance(HOUR);
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    let ids: Vec<_> = bench.sts.calls().into_iter().filter_map(|call| call.external_id).collect();
    assert_eq!(ids, ["first-id", "second-id"]);
}

#[tokio::test]
async fn a_refused_role_names_the_role_the_action_and_what_to_do() {
    let mut bench = Bench::new();
    let source = bench.source();
    assert_eq!(
        ask(&source, Some(TEAM_ROLE)).await,
        "denied: AssumeRole of arn:aws:iam::444455556666:role/metrics-reader by STS in eu-west-1 failed: access denied: the source's own identity needs sts:AssumeRole; allow it in that identity's policy, and that identity in the role's trust policy (externalIdFile if that asks for an external id) (AccessDenied)"
    );
    // Others are not affected, and STS is not asked at every read.
    assert_eq!(ask(&source, None).await, "7");
    assert!(ask(&source, Some(TEAM_ROLE)).await.starts_with("denied: "));
    assert_eq!(bench.sts.assumed(TEAM_ROLE), 1);
    bench.sts.role(TEAM_ROLE);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");

    bench.external_id("not-this");
    bench.settings.role_arn = Some(SOURCE_ROLE.to_owned());
    bench.sts.role(SOURCE_ROLE);
    bench.sts.role_with_external_id(TEAM_ROLE, "but-this");
    let source = bench.source();
    assert_eq!(
        ask(&source, Some(TEAM_ROLE)).await,
        "denied: AssumeRole of arn:aws:iam::444455556666:role/metrics-reader by STS in eu-west-1 failed: access denied: role arn:aws:iam::111122223333:role/tidepole needs sts:AssumeRole; allow it in that identity's policy, and that identity with this external id in the role's trust policy (AccessDenied)"
    );
}

#[tokio::test]
async fn a_call_that_is_denied_names_the_identity_that_made_it() {
    let bench = Bench::new();
    bench.sts.role(TEAM_ROLE);
    let source = bench.source();
    let prefix = "denied: SQS queue \"jobs\" in eu-west-1: ";
    bench.ring.deny(TEAM_ROLE, "sqs:GetQueueUrl");
    assert_eq!(
        ask(&source, Some(TEAM_ROLE)).await,
        format!(
            "{prefix}access denied: role {TEAM_ROLE} needs sqs:GetQueueUrl; allow it in its policy (AccessDenied)"
        )
    );
    bench.ring.allow(TEAM_ROLE, "sqs:GetQueueUrl");
    bench
        .ring
        .deny(&format!("arn:aws:iam::111122223333:user/{BASE_KEY}"), "sqs:GetQueueAttributes");
    assert_eq!(
        ask(&source, None).await,
        format!(
            "{prefix}access denied: the source's own identity needs sqs:GetQueueAttributes; allow it in its policy (AccessDenied)"
        )
    );
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    bench.ring.expire(TEAM_ROLE);
    let expired = ask(&source, Some(TEAM_ROLE)).await;
    assert!(
        expired.starts_with(&format!(
            "{prefix}AWS did not accept the credentials of role {TEAM_ROLE}: they have expired; new ones are being fetched ("
        )),
        "{expired}"
    );
}

#[tokio::test]
async fn cloudwatch_is_asked_as_the_querys_role() {
    let mut bench = Bench::new();
    let fake = CloudWatch::start();
    fake.check_signatures(&bench.ring);
    fake.generate_all(|_, _| Some(5.0));
    bench.settings.cloudwatch_endpoint_url = Some(fake.url().parse().unwrap());
    bench.sts.role(TEAM_ROLE);
    let source = bench.source();
    let minute = Duration::from_mins(1);
    let stat = MetricStat {
        namespace: "App".into(),
        name: "M".into(),
        dimensions: Vec::new(),
        statistic: "Sum".into(),
        period: minute,
        unit: None,
        account_id: None,
    };
    let question = MetricQuestion::Metric(stat);
    let one = MetricDataQuery { id: "m".into(), question, label: None, return_data: true };
    let spec = CloudWatchQuery {
        region: "us-east-1".into(),
        role_arn: Some(TEAM_ROLE.into()),
        queries: vec![one],
        period: minute,
        delay: minute,
        lookback: minute * 6,
        manner: Manner::Strict,
    };
    let spec = QuerySpec::CloudWatch(Box::new(spec));
    let query = [Arc::new(Query { source: SourceName::new("aws"), spec })];
    let value = source.fetch(&query).await.remove(0).map(|sample| sample.series[0].value.clone());
    assert_eq!(value, Ok(5_u64.into()));
    assert_eq!(bench.sts.assumed(TEAM_ROLE), 1);
    let header = fake.server().last().header("authorization").unwrap().to_owned();
    assert!(header.contains("Credential=ASIA0000000000000001/"), "{header}");
    assert!(header.contains("/us-east-1/monitoring/"), "{header}");
    bench.ring.deny(TEAM_ROLE, "cloudwatch:GetMetricData");
    assert_eq!(
        source.fetch(&query).await.remove(0).unwrap_err().to_string(),
        format!(
            "CloudWatch in us-east-1: access denied: role {TEAM_ROLE} needs cloudwatch:GetMetricData; allow it in its policy (AccessDenied)"
        )
    );
}

#[tokio::test]
async fn credentials_are_used_to_their_end_while_sts_is_away() {
    let bench = Bench::new();
    bench.sts.role(TEAM_ROLE);
    bench.sts.lifetime(3600);
    let source = bench.source();
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    bench.sts.fault(Some(Reply::Reset));
    bench.clock.advance(Duration::from_mins(51));
    for minute in 51..59 {
        // The renewal runs beside the calls; the next minute is for the next one.
        let failed = format!("kind=\"sts\",outcome=\"unavailable\"}} {}\n", minute - 50);
        let renewal = async {
            while !bench.telemetry.encode().contains(&failed) {
                assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7", "{minute}");
            }
        };
        let tried = tokio::time::timeout(Duration::from_secs(20), renewal).await;
        tried.expect("a renewal a minute is tried");
        bench.clock.advance(Duration::from_mins(1));
    }
    bench.clock.advance(Duration::from_mins(2));
    let gone = ask(&source, Some(TEAM_ROLE)).await;
    let about = format!(
        "unavailable: AssumeRole of {TEAM_ROLE} by STS in eu-west-1 failed: the endpoint cannot be"
    );
    assert!(gone.starts_with(&about), "{gone}");
    bench.sts.fault(None);
    bench.sts.lifetime(7200);
    bench.clock.advance(Duration::from_mins(1));
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
}

#[tokio::test]
async fn what_sts_answers_decides_the_kind_of_error() {
    let bench = Bench::new();
    let source = bench.source();
    let about = format!("AssumeRole of {TEAM_ROLE} by STS in eu-west-1 failed: ");
    for (reply, expected) in [
        (
            Sts::error(400, "Throttling", "Rate exceeded"),
            format!("throttled: {about}AWS asks for fewer calls (Throttling)"),
        ),
        (
            Sts::error(503, "ServiceUnavailable", "later"),
            format!("unavailable: {about}HTTP 503, ServiceUnavailable: later"),
        ),
        (
            Sts::error(403, "InvalidClientTokenId", "The security token is invalid"),
            format!(
                "denied: {about}AWS did not accept the credentials of the source's own identity: the access key is unknown there, or the region is not enabled for its account (InvalidClientTokenId)"
            ),
        ),
        (Reply::text(502, "text/html", "<h1>"), format!("unavailable: {about}HTTP 502")),
    ] {
        bench.sts.fault(Some(reply));
        assert_eq!(ask(&source, Some(TEAM_ROLE)).await, expected);
        bench.clock.advance(Duration::from_mins(1));
    }
    let quoted = "The request signature we calculated does not match; the canonical string is x-amz-security-token:token/quoted";
    bench.sts.fault(Some(Sts::error(403, "SignatureDoesNotMatch", quoted)));
    let mismatch = ask(&source, Some(TEAM_ROLE)).await;
    assert!(mismatch.ends_with(": the secret key is wrong, or a proxy on the way changed the request (SignatureDoesNotMatch)"), "{mismatch}");
    bench.clock.advance(Duration::from_mins(1));
    for said in ["Signature expired: 20261121T120000Z is now", "Signature not yet current: 2026"] {
        bench.sts.fault(Some(Sts::error(403, "SignatureDoesNotMatch", said)));
        let skewed = ask(&source, Some(TEAM_ROLE)).await;
        assert!(skewed.ends_with(": its clock and this machine's differ by more than five minutes (SignatureDoesNotMatch)"), "{skewed}");
        bench.clock.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn an_sts_that_hangs_is_named_before_the_fetch_ends_and_holds_nobody_else() {
    let mut bench = Bench::new();
    bench.settings.timeout = Duration::from_millis(500);
    bench.settings.max_concurrent = 1;
    bench.sts.fault(Some(Reply::Hang));
    let source = bench.source();
    let (team, own) = tokio::join!(ask(&source, Some(TEAM_ROLE)), ask(&source, None));
    let waited = format!("timeout: no AWS credentials of role {TEAM_ROLE} within 400ms");
    assert_eq!((team, own.as_str()), (waited, "7"));
}

#[tokio::test]
async fn roles_are_bounded_in_number() {
    let bench = Bench::new();
    let source = bench.source();
    for number in 0..MAX_ROLES {
        let role = format!("arn:aws:iam::111122223333:role/r{number}");
        bench.sts.role(&role);
        assert_eq!(ask(&source, Some(&role)).await, "7");
    }
    assert_eq!(
        ask(&source, Some(TEAM_ROLE)).await,
        "invalid: queries to this source name more than 64 roles; use another source for some of them"
    );
    assert_eq!(ask(&source, None).await, "7");
}

#[tokio::test]
async fn roles_that_cannot_be_assumed_hold_no_place() {
    let bench = Bench::new();
    let source = bench.source();
    for number in 0..MAX_ROLES {
        let role = format!("arn:aws:iam::111122223333:role/bogus{number}");
        for region in ["eu-west-1", "us-east-1", "us-west-2", "eu-north-1"] {
            let answer = source.fetch(&[query(region, Some(&role))]).await.remove(0);
            assert_eq!(answer.unwrap_err().kind(), "denied");
        }
    }
    bench.sts.role(TEAM_ROLE);
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    // Its place is kept, whoever else comes.
    tokio::time::sleep(Duration::from_millis(150)).await;
    for number in 0..MAX_ROLES {
        let role = format!("arn:aws:iam::111122223333:role/more{number}");
        source.fetch(&[query("eu-west-1", Some(&role))]).await.remove(0).unwrap_err();
    }
    assert_eq!(ask(&source, Some(TEAM_ROLE)).await, "7");
    assert_eq!(bench.sts.assumed(TEAM_ROLE), 1);
}

#[tokio::test]
async fn each_region_and_each_role_has_slots_of_its_own() {
    let mut bench = Bench::new();
    bench.sts.role(TEAM_ROLE);
    bench.settings.max_concurrent = 1;
    bench.sqs.delay(Duration::from_millis(200));
    let source = bench.source();
    let upstreams = [("eu-west-1", None), ("us-east-1", None), ("eu-west-1", Some(TEAM_ROLE))];
    let words: Vec<_> = upstreams
        .iter()
        .map(|(region, role)| source.dispatch(&query(region, *role)).upstream.to_string())
        .collect();
    assert_eq!(
        words,
        [
            "sqs eu-west-1".to_owned(),
            "sqs us-east-1".to_owned(),
            format!("sqs eu-west-1 {TEAM_ROLE}")
        ]
    );
    let reads = upstreams.iter().flat_map(|(region, role)| {
        let source = &source;
        (0..2).map(move |_| async move { source.fetch(&[query(region, *role)]).await.remove(0) })
    });
    let all = futures::future::join_all(reads).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(bench.sqs.server().max_in_flight(), 3);
}

#[test]
fn a_missing_or_wrong_external_id_fails_the_build() {
    let mut bench = Bench::new();
    let build = |bench: &Bench| {
        let clock = Arc::new(SystemClock::new());
        let metrics = Metrics::register(&Telemetry::new());
        let name = SourceName::new("aws");
        AwsSource::build(&name, &bench.settings, clock, &metrics, None).unwrap_err().to_string()
    };
    bench.external_id("x");
    let path = bench.settings.external_id_file.clone().unwrap();
    assert_eq!(
        build(&bench),
        format!(
            "source aws: externalIdFile: {}: not an external id: 2 to 1224 letters, digits and _ = , . @ : / + -",
            path.display()
        )
    );
    std::fs::remove_file(&path).unwrap();
    assert!(build(&bench).contains("No such file"));
}
