use std::sync::atomic::Ordering;

use super::*;
use crate::model::{
    ManualClock, MetricDataQuery, MetricQuestion, MetricStat, Query, QuerySpec, Source,
};
use crate::source::aws::{AwsSettings, AwsSource};
use crate::source::cloudwatch::round::MAX_EXTRA_CALLS;
use crate::source::upstream::cloudwatch::{Metric, Paging};
use crate::source::upstream::{CloudWatch as Fake, Reply};
use crate::telemetry::Telemetry;

const NOW: &str = "2026-11-21T12:00:00.500Z";

/// The start of the newest bucket that a window with a delay of a minute has.
const NEWEST: i64 = 1_795_262_280;

struct House {
    fake: Fake,
    source: AwsSource,
    telemetry: Telemetry,
}

impl House {
    fn new() -> Self {
        Self::with_timeout(Duration::from_secs(10))
    }

    fn with_timeout(timeout: Duration) -> Self {
        let fake = Fake::start();
        fake.set_now(NEWEST + 120);
        let mut settings = AwsSettings::new("eu-west-1");
        settings.cloudwatch_endpoint_url = Some(fake.url().parse().unwrap());
        settings.timeout = timeout;
        let telemetry = Telemetry::new();
        let metrics = Metrics::register(&telemetry);
        let clock = Arc::new(ManualClock::at(NOW.parse().unwrap()));
        let keys = aws_credential_types::Credentials::new("AKIDTEST", "key", None, None, "test");
        let keys = aws_credential_types::provider::SharedCredentialsProvider::new(keys);
        let name = SourceName::new("aws");
        let source = AwsSource::build(&name, &settings, clock, &metrics, Some(keys)).unwrap();
        Self { fake, source, telemetry }
    }

    /// A metric of which every bucket has this value.
    fn constant(&self, name: &str, value: f64) {
        self.fake.generate(&Metric::new("App", name), move |_, _| Some(value));
    }

    /// Metrics `M0`, `M1`, .. with their numbers as values.
    fn numbered(&self) {
        self.fake.generate_all(|asked, _| asked.metric.name.strip_prefix('M')?.parse().ok());
    }

    /// Makes a metric up: its values by the bucket's age in minutes, zero being the newest.
    fn aged(&self, name: &str, value: impl Fn(i64) -> Option<f64> + Send + Sync + 'static) {
        let of_bucket = move |at: i64| value((NEWEST - at) / 60);
        self.fake.generate(&Metric::new("App", name), move |_, at| of_bucket(at));
    }

    async fn ask(&self, queries: &[Arc<Query>]) -> Vec<String> {
        let answers = self.source.fetch(queries).await;
        let shown = answers.into_iter().map(|answer| match answer {
            Ok(sample) => {
                let all = sample.series.iter().map(|one| format!("{} {}", one.labels, one.value));
                let shown = all.collect::<Vec<_>>().join("; ");
                match (NEWEST - sample.timestamp.as_second()) / 60 {
                    0 => shown,
                    late => format!("{shown} ({late} min late)"),
                }
            }
            Err(error) => format!("{}: {error}", error.kind()),
        });
        shown.collect()
    }

    fn told(&self, line: &str) {
        let text = self.telemetry.encode();
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

fn stat(name: &str) -> MetricQuestion {
    MetricQuestion::Metric(MetricStat {
        namespace: "App".into(),
        name: name.into(),
        dimensions: Vec::new(),
        statistic: "Sum".into(),
        period: Duration::from_mins(1),
        unit: None,
        account_id: None,
    })
}

/// The last is returned.
fn group(parts: &[(&str, MetricQuestion)]) -> Arc<Query> {
    let part = |(at, (id, question)): (usize, &(&str, MetricQuestion))| MetricDataQuery {
        id: (*id).into(),
        question: question.clone(),
        label: None,
        return_data: at + 1 == parts.len(),
    };
    let spec = CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: None,
        queries: parts.iter().enumerate().map(part).collect(),
        period: Duration::from_mins(1),
        delay: Duration::from_mins(1),
        lookback: Duration::from_mins(6),
        manner: crate::model::Manner::Strict,
    };
    let spec = QuerySpec::CloudWatch(Box::new(spec));
    Arc::new(Query { source: SourceName::new("aws"), spec })
}

fn single(name: &str) -> Arc<Query> {
    group(&[("m", stat(name))])
}

fn numbered(count: usize) -> Vec<Arc<Query>> {
    (0..count).map(|i| single(&format!("M{i}"))).collect()
}

#[tokio::test]
async fn many_queries_are_one_call() {
    let house = House::new();
    house.numbered();
    let mut queries = numbered(500);
    queries.push(single("M7"));
    let answers = house.ask(&queries).await;
    let expected: Vec<_> = (0..500).chain([7]).map(|i| format!("{{}} {i}")).collect();
    assert_eq!(answers, expected);
    assert_eq!((house.fake.hits(), house.fake.metrics_requested()), (1, 500));
    let call = house.fake.last();
    assert_eq!((call.start, call.end), (NEWEST - 240, NEWEST + 60));
    assert_eq!(call.scan_by.as_deref(), Some("TimestampDescending"));
    assert_eq!((call.region.as_str(), call.next_token.as_deref()), ("eu-west-1", None));
    house.told("tidepole_cloudwatch_metrics_requested_total{source=\"aws\"} 500");
    house
        .told("tidepole_upstream_calls_total{source=\"aws\",kind=\"cloudwatch\",outcome=\"ok\"} 1");
}

#[tokio::test]
async fn pages_are_read_to_the_end() {
    let house = House::new();
    house.numbered();
    house.fake.paging(Paging { datapoints: Some(7), announce: true, ..Paging::default() });
    // 6 queries of 5 datapoints: 5 pages.
    let answers = house.ask(&numbered(6)).await;
    assert_eq!(answers, ["{} 0", "{} 1", "{} 2", "{} 3", "{} 4", "{} 5"]);
    assert_eq!(house.fake.hits(), 5);
    // Without an end.
    house.fake.paging(Paging { datapoints: Some(1), ..Paging::default() });
    let text =
        "malformed: CloudWatch in eu-west-1: the answer has more than 10 pages; shorten lookback";
    assert_eq!(house.ask(&[looking_back("M1", 12)]).await, [text]);
    // For three together it has 15, for fewer it ends.
    assert_eq!(house.ask(&numbered(3)).await, ["{} 0", "{} 1", "{} 2"]);
}

fn changed(query: &Arc<Query>, change: impl Fn(&mut CloudWatchQuery)) -> Arc<Query> {
    let mut query = (**query).clone();
    if let QuerySpec::CloudWatch(spec) = &mut query.spec {
        change(spec);
    }
    Arc::new(query)
}

fn looking_back(name: &str, minutes: u64) -> Arc<Query> {
    changed(&single(name), |spec| spec.lookback = Duration::from_mins(minutes))
}

#[tokio::test]
async fn what_is_too_large_is_asked_in_halves() {
    let house = House::new();
    house.numbered();
    let expected: Vec<_> = (0..10).map(|i| format!("{{}} {i}")).collect();
    let said = "Request size 639468 exceeded 614400 bytes";
    let coded = Fake::error(413, "RequestEntityTooLarge", said);
    for reply in [
        coded.clone(),
        Reply::text(413, "text/html", "<html>"),
        Reply::Huge { status: 200, bytes: 5 * 1024 * 1024 },
    ] {
        house.fake.clear();
        let reply = std::sync::Mutex::new(reply);
        house.fake.fault_when(move |call| {
            (call.queries.len() > 4).then(|| reply.lock().unwrap().clone())
        });
        assert_eq!(house.ask(&numbered(10)).await, expected);
        assert_eq!(house.fake.hits(), 7, "10, 5 and 5, 2 and 3 twice");
    }
    // Alone there is nothing to divide, and the number of calls is bounded.
    house.fake.clear();
    house.fake.fault(Some(coded));
    let text = format!("invalid: CloudWatch in eu-west-1: HTTP 413, RequestEntityTooLarge: {said}");
    assert_eq!(house.ask(&numbered(1)).await, [text.as_str()]);
    let undecided = "unavailable: CloudWatch in eu-west-1: a call with this query and others was refused, and 24 further calls did not tell which is at fault; the search goes on with the next refresh (CloudWatch in eu-west-1: HTTP 413, ";
    let answers = house.ask(&numbered(100)).await;
    assert!(answers.iter().all(|a| *a == text || a.starts_with(undecided)), "{answers:?}");
    assert_eq!(house.fake.hits(), 2 + MAX_EXTRA_CALLS as u64);
}

#[tokio::test]
async fn large_queries_go_out_in_more_calls() {
    let house = House::new();
    house.numbered();
    let fat = |i: usize| {
        changed(&single(&format!("M{i}")), |spec| {
            if let MetricQuestion::Metric(stat) = &mut spec.queries[0].question {
                let dimension = |d| (format!("{d:0255}").into(), format!("{i:01024}").into());
                stat.dimensions = (0..30).map(dimension).collect();
            }
        })
    };
    let queries: Vec<_> = (0..60).map(fat).collect();
    let expected: Vec<_> = (0..60).map(|i| format!("{{}} {i}")).collect();
    assert_eq!(house.ask(&queries).await, expected);
    let sizes: Vec<_> = house.fake.server().seen().iter().map(|call| call.body.len()).collect();
    assert!(sizes.len() == 6 && sizes.iter().all(|size| *size < 614_400), "{sizes:?}");
}

#[tokio::test]
async fn one_that_always_breaks_a_call_ends_up_alone() {
    let has =
        |call: &crate::source::upstream::cloudwatch::Call| call.metric_names().contains(&"POISON");
    for reply in [
        Fake::error(500, "InternalFailure", "odd"),
        Fake::denied("arn:aws:sts::1:assumed-role/x/y"),
        Reply::text(200, "text/html", "<html>"),
        Reply::Hang,
    ] {
        let house = House::with_timeout(Duration::from_millis(300));
        house.numbered();
        let reply = std::sync::Mutex::new(reply);
        house.fake.fault_when(move |call| has(call).then(|| reply.lock().unwrap().clone()));
        let mut queries = numbered(20);
        queries.push(single("POISON"));
        let mut served = Vec::new();
        for _ in 0..10 {
            house.fake.clear();
            let answers = house.ask(&queries).await;
            served.push(answers.iter().filter(|answer| answer.starts_with('{')).count());
            assert!(house.fake.hits() <= 3, "{}", house.fake.hits());
        }
        assert_eq!((&served[..3], served[9]), (&[0, 0, 0][..], 20), "{served:?}");
        // It is mended: after a call of its own it goes with the others again.
        house.fake.fault_when(|_| None);
        for calls in [2, 1] {
            house.fake.clear();
            house.ask(&queries).await;
            assert_eq!(house.fake.hits(), calls);
        }
    }
}

#[tokio::test]
async fn complete_is_what_is_so_by_the_services_clock() {
    let house = House::new();
    house.fake.dated();
    let metric = Metric::new("App", "A");
    // Ten a minute up to the service's present, which is a minute and a half behind ours.
    house.fake.set_now(NEWEST + 30);
    for i in 0..200 {
        house.fake.put(&metric, NEWEST + 30 - 6 * i, 1.0);
    }
    let sample = house.source.fetch(&[single("A")]).await.remove(0).unwrap();
    let taken = (sample.timestamp.as_second(), sample.series[0].value.to_string());
    assert_eq!(taken, (NEWEST - 120, "10".to_owned()));
    house.told("tidepole_cloudwatch_clock_ahead_seconds{source=\"aws\"} 89");
    let none = house.ask(&[single("B")]).await;
    let text = "unavailable: CloudWatch in eu-west-1: this machine's clock is 89 s ahead of CloudWatch's, and no bucket with a datapoint is complete by that; set the clock right";
    assert_eq!(none, [text]);
    // A clock that is right, or a little off, changes nothing.
    for (now, ahead) in [(120, 0), (117, 2), (600, -479)] {
        house.fake.set_now(NEWEST + now);
        house.constant("C", 5.0);
        assert_eq!(house.ask(&[single("C")]).await, ["{} 5"]);
        house.told(&format!("tidepole_cloudwatch_clock_ahead_seconds{{source=\"aws\"}} {ahead}"));
    }
}

#[tokio::test]
async fn a_page_that_is_refused_is_nobodys_fault() {
    let house = House::new();
    house.numbered();
    house.fake.paging(Paging { results: Some(1), ..Paging::default() });
    let refusal = || Some(Fake::error(400, "InvalidNextToken", "The next token is invalid."));
    house.fake.fault_when(move |call| call.next_token.as_ref().and_then(|_| refusal()));
    let text = "unavailable: CloudWatch in eu-west-1: HTTP 400, InvalidNextToken: The next token is invalid.";
    assert_eq!(house.ask(&numbered(2)).await, [text; 2]);
    assert_eq!(house.fake.hits(), 2);
}

#[tokio::test]
async fn math_and_its_operands_go_together() {
    let house = House::new();
    house.constant("E", 3.0);
    let rate = MetricQuestion::Expression { text: "100*errors/total".into(), period: None };
    let rate = group(&[("errors", stat("E")), ("total", stat("T")), ("rate", rate)]);
    house.ask(&[single("E"), rate]).await;
    let call = house.fake.last();
    assert_eq!(call.ids(), ["m0", "m1", "g1_rate"]);
    assert_eq!(call.expressions(), ["100*m0/m1"]);
    let returned: Vec<_> = call.queries.iter().map(|query| query.return_data).collect();
    // An operand that is needed is returned, to know its buckets.
    assert_eq!(returned, [Some(true), Some(true), Some(true)]);
}

fn math(text: &str) -> MetricQuestion {
    let period = text.contains("SE").then_some(Duration::from_mins(1));
    MetricQuestion::Expression { text: text.into(), period }
}

#[tokio::test]
async fn company_changes_no_answer() {
    let house = House::new();
    house.numbered();
    for (region, value) in [("a b", 5.0), ("c", 7.0)] {
        let metric = Metric::new("Shop", "Orders").dim("Region", region).dim("Tier", "x");
        house.fake.generate(&metric, move |_, _| Some(value));
    }
    let with = |text| group(&[("m1", stat("M1")), ("am2", stat("M20")), ("e", math(text))]);
    let search = "SEARCH('{Shop,Region,Tier} MetricName=\"Orders\"', 'Sum', 60)";
    let select = "SELECT SUM(Orders) FROM Shop GROUP BY Region";
    let cases = [
        (single("M3"), "{} 3"),
        (with("100*m1/am2"), "{} 5"),
        (with("SUM(METRICS())"), "{} 21"),
        (with("SUM(METRICS('a'))"), "{} 20"),
        (with("SUM([METRICS('a'),METRICS('1')])"), "{} 21"),
        (with("FILL(am2, 0)+METRIC_COUNT(METRICS('m'))"), "{} 22"),
        (with("METRICS()*2"), "{label=M1} 2; {label=M20} 40"),
        (group(&[("e", math(search))]), "{Region=a b,Tier=x} 5; {Region=c,Tier=x} 7"),
        (group(&[("s", math(search)), ("e", math("SUM(s)"))]), "{} 12"),
        (group(&[("e", math(select))]), "{Region=a b} 5; {Region=c} 7"),
        (group(&[("e", math("SELECT SUM(Orders) FROM Shop"))]), "{} 12"),
        (
            group(&[("e", math("SELECT SUM(Orders) FROM Shop GROUP BY Tier, Region"))]),
            "{label=x a b} 5; {label=x c} 7",
        ),
        (single("M4"), "{} 4"),
    ];
    let queries: Vec<_> = cases.iter().map(|(query, _)| Arc::clone(query)).collect();
    let together = house.ask(&queries).await;
    // One shared, and each of those that cannot share: two with METRICS, two with SEARCH and three
    // with SELECT.
    assert_eq!(house.fake.hits(), 8);
    for ((query, expected), answer) in cases.iter().zip(together) {
        assert_eq!(answer, *expected, "{query:?}");
        assert_eq!(house.ask(std::slice::from_ref(query)).await, [*expected], "{query:?}");
    }
}

#[tokio::test]
async fn a_late_operand_makes_no_number() {
    let house = House::new();
    house.aged("Total", |_| Some(100.0));
    house.aged("Late", |age| (age >= 1).then_some(10.0));
    house.aged("Sparse", |age| (age == 3).then_some(1.0));
    house.aged("Other", |age| (age != 1).then_some(5.0));
    let with = |text| {
        let parts = [("total", stat("Total")), ("late", stat("Late"))];
        let parts = parts.into_iter().chain([("sparse", stat("Sparse")), ("never", stat("Never"))]);
        let parts = parts.chain([("other", stat("Other"))]);
        // As in definitions, none that is not used.
        let used = parts.filter(|(id, _)| text == "SUM(METRICS())" || str::contains(text, id));
        group(&used.chain([("e", math(text))]).collect::<Vec<_>>())
    };
    let none = |text: &str, id: &str| {
        format!(
            "no_data: CloudWatch in eu-west-1: no datapoint of {text} between 2026-11-21T11:54:00Z and 2026-11-21T11:59:00Z at which all its operands have one: {id} has none; wrap it in FILL({id}, 0) if no datapoint means 0"
        )
    };
    let cases = [
        ("total+late", "{} 110 (1 min late)".to_owned()),
        ("total+FILL(late, REPEAT)", "{} 110".to_owned()),
        ("total+FILL(late, 0)", "{} 100".to_owned()),
        ("total+sparse", "{} 101 (3 min late)".to_owned()),
        ("100 * FILL(sparse, 0) / total", "{} 0".to_owned()),
        ("100 * FILL(sparse, 0) / late", "{} 0 (1 min late)".to_owned()),
        ("total+late+other", "{} 115 (2 min late)".to_owned()),
        ("total+never", none("total+never", "never")),
        ("SUM(METRICS())", none("SUM(METRICS())", "never")),
        ("total/PERIOD(never)*6+sparse*0", "{} 10 (3 min late)".to_owned()),
    ];
    let queries: Vec<_> = cases.iter().map(|(text, _)| with(text)).collect();
    let together = house.ask(&queries).await;
    // All of them share their operands, and each is billed once.
    assert_eq!((house.fake.hits(), house.fake.metrics_requested()), (1, 5));
    for ((query, (text, expected)), answer) in queries.iter().zip(&cases).zip(together) {
        assert_eq!(answer, *expected, "{text}");
        assert_eq!(&house.ask(std::slice::from_ref(query)).await[0], expected, "{text}");
    }
    let told = house.source.explain(&with("total+late+other")).await;
    assert_eq!(
        told.choice[1],
        "Series {}: 115 is of the newest complete bucket with a value, 2026-11-21T11:56:00Z to 2026-11-21T11:57:00Z, of 5 datapoints; none was passed over. The bucket of 2026-11-21T11:58:00Z was passed over: late had no datapoint in it, which metric math takes for 0."
    );
}

#[tokio::test]
async fn the_services_own_refusals_name_the_culprit() {
    let house = House::new();
    house.numbered();
    let bad_statistic = |name| match stat(name) {
        MetricQuestion::Metric(stat) => {
            MetricQuestion::Metric(MetricStat { statistic: "Middle".into(), ..stat })
        }
        other @ MetricQuestion::Expression { .. } => other,
    };
    let bad_math = group(&[("a", stat("M1")), ("rate", math("MIDDLE(a)"))]);
    let good_math = group(&[("a", stat("M1")), ("rate", math("a*2"))]);
    let queries = [single("M1"), group(&[("m", bad_statistic("M2"))]), bad_math, good_math];
    let answers = house.ask(&queries).await;
    assert_eq!(answers[0], "{} 1");
    assert_eq!(
        answers[1],
        format!(
            "{REFUSED}The value Middle for parameter query \"m\", MetricStat.Stat is not a valid statistic."
        )
    );
    let refused = format!("{REFUSED}Error in expression 'rate': ");
    assert!(answers[2].starts_with(&refused), "{}", answers[2]);
    assert_eq!(answers[3], "{} 2");
    // The service looks at expressions once the rest is right: two refusals, then the values.
    assert_eq!(house.fake.hits(), 3);
}

const REFUSED: &str = "invalid: CloudWatch in eu-west-1: ValidationError: ";

#[tokio::test]
async fn culprits_that_are_named_cost_one_call() {
    let house = House::new();
    house.numbered();
    house.fake.fault_when(|call| {
        let bad = |name: &str| name == "M3" || name == "M8";
        let names = call.metric_names();
        let lines: Vec<_> = names
            .iter()
            .enumerate()
            .filter(|(_, name)| bad(name))
            .map(|(i, _)| format!("The value x for parameter MetricDataQueries.member.{}.MetricStat.Stat is not a valid statistic.\n", i + 1))
            .collect();
        (!lines.is_empty()).then(|| Fake::error(400, "ValidationError", &lines.concat()))
    });
    let answers = house.ask(&numbered(10)).await;
    let refused = format!(
        "{REFUSED}The value x for parameter query \"m\", MetricStat.Stat is not a valid statistic."
    );
    for (i, answer) in answers.iter().enumerate() {
        let expected = if i == 3 || i == 8 { refused.clone() } else { format!("{{}} {i}") };
        assert_eq!(*answer, expected);
    }
    assert_eq!(house.fake.hits(), 2);
}

#[tokio::test]
async fn a_culprit_that_is_not_named_is_found_by_halves() {
    let house = House::new();
    house.numbered();
    house.fake.refuse_when(|query| {
        (query.metric_name() == "M321").then(|| "Something is wrong.".to_owned())
    });
    let answers = house.ask(&numbered(500)).await;
    for (i, answer) in answers.iter().enumerate() {
        let ok = format!("{{}} {i}");
        let expected = if i == 321 { format!("{REFUSED}Something is wrong.") } else { ok };
        assert_eq!(*answer, expected);
    }
    assert!(house.fake.hits() <= 19, "{}", house.fake.hits());
}

#[tokio::test]
async fn two_culprits_in_two_halves_are_found() {
    let house = House::new();
    house.numbered();
    house.fake.refuse_when(|query| {
        let bad = ["M3", "M40"].contains(&query.metric_name());
        bad.then(|| "Something is wrong.".to_owned())
    });
    let answers = house.ask(&numbered(64)).await;
    for (i, answer) in answers.iter().enumerate() {
        let bad = [3, 40].contains(&i);
        let expected =
            if bad { format!("{REFUSED}Something is wrong.") } else { format!("{{}} {i}") };
        assert_eq!(*answer, expected);
    }
    // The call, two samples, and two for each of six halvings: the first is shared.
    assert_eq!(house.fake.hits(), 1 + 2 + 2 + 2 * 5 * 2);
}

#[tokio::test]
async fn a_refusal_of_everything_is_nobodys_fault() {
    let house = House::new();
    house.fake.fault(Some(Fake::error(400, "BadRequest", "Not through this proxy.")));
    let whole = "unavailable: CloudWatch in eu-west-1: calls are refused as a whole, in the same words for whatever is asked, so this query is not at fault; look at what stands in between, and at the account (BadRequest: Not through this proxy.)";
    for (queries, calls) in [(500, 5), (3, 4), (2, 3)] {
        house.fake.clear();
        assert_eq!(house.ask(&numbered(queries)).await, vec![whole; queries]);
        assert_eq!(house.fake.hits(), calls, "{queries}");
    }
    // Nothing is remembered.
    house.fake.fault(None);
    house.fake.clear();
    house.numbered();
    assert_eq!(house.ask(&numbered(2)).await, ["{} 0", "{} 1"]);
    assert_eq!(house.fake.hits(), 1);
}

#[tokio::test]
async fn a_search_goes_on_where_its_calls_ended() {
    let house = House::new();
    house.numbered();
    let bad = |i: usize| i % 60 == 7;
    house.fake.refuse_when(move |query| {
        let number: usize = query.metric_name().strip_prefix('M')?.parse().ok()?;
        bad(number).then(|| "Something is wrong.".to_owned())
    });
    let all = numbered(500);
    let mut wanted: Vec<usize> = (0..500).collect();
    let undecided = "unavailable: CloudWatch in eu-west-1: a call with this query and others was refused, and 24 further calls did not tell which is at fault; the search goes on with the next refresh (ValidationError: Something is wrong.)";
    let mut left = Vec::new();
    let mut found = Vec::new();
    while !wanted.is_empty() && left.len() < 12 {
        house.fake.clear();
        let queries: Vec<_> = wanted.iter().map(|&i| Arc::clone(&all[i])).collect();
        let answers = house.ask(&queries).await;
        let of_plan = if left.is_empty() { 1 } else { 1 + MAX_EXTRA_CALLS };
        assert!(house.fake.hits() <= (of_plan + MAX_EXTRA_CALLS) as u64);
        let mut guilty = Vec::new();
        for (&i, answer) in wanted.iter().zip(&answers) {
            if answer.starts_with(REFUSED) {
                assert!(bad(i), "{i}");
                guilty.push(i);
            } else {
                assert!(*answer == format!("{{}} {i}") || answer == undecided, "{i}: {answer}");
            }
        }
        left.push(answers.iter().filter(|answer| *answer == undecided).count());
        // The refresher asks those alone.
        wanted.retain(|i| !guilty.contains(i));
        found.extend(guilty);
        if left.last() == Some(&0) {
            break;
        }
    }
    assert!(left[0] > 0 && left.windows(2).all(|two| two[1] < two[0]), "{left:?}");
    assert_eq!(left.last(), Some(&0), "{left:?}");
    found.sort_unstable();
    assert_eq!(found, (0..500).filter(|i| bad(*i)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_search_goes_on_where_its_time_ended() {
    let house = House::with_timeout(Duration::from_millis(700));
    house.numbered();
    house.fake.refuse_when(|query| {
        (query.metric_name() == "M21").then(|| "Something is wrong.".to_owned())
    });
    let slow = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&slow);
    house.fake.fault_when(move |call| {
        (hangs.load(Ordering::Relaxed) && call.queries.len() < 16).then_some(Reply::Hang)
    });
    let answers = house.ask(&numbered(64)).await;
    let undecided = "unavailable: CloudWatch in eu-west-1: a call with this query and others was refused, and the time was over before it was known which is at fault; the search goes on with the next refresh (ValidationError: Something is wrong.)";
    for (i, answer) in answers.iter().enumerate() {
        let ok = format!("{{}} {i}");
        assert_eq!(*answer, if (16..32).contains(&i) { undecided.to_owned() } else { ok });
    }
    slow.store(false, Ordering::Relaxed);
    house.fake.clear();
    let answers = house.ask(&numbered(64)).await;
    for (i, answer) in answers.iter().enumerate() {
        let ok = format!("{{}} {i}");
        assert_eq!(*answer, if i == 21 { format!("{REFUSED}Something is wrong.") } else { ok });
    }
    // The others, both suspect halves, and two for each halving of one of them.
    let calls: Vec<_> = house.fake.calls().iter().map(|call| call.queries.len()).collect();
    assert_eq!((calls.len(), calls.iter().max()), (3 + 2 * 3, Some(&48)), "{calls:?}");
}

#[tokio::test]
async fn errors_of_a_whole_call_are_everybodys() {
    for (reply, expected) in [
        (
            Fake::throttled(),
            "throttled: CloudWatch in eu-west-1: AWS asks for fewer calls (Throttling)",
        ),
        (
            Fake::denied("arn:aws:iam::1:user/me"),
            "denied: CloudWatch in eu-west-1: access denied: the source's own identity needs cloudwatch:GetMetricData; allow it in its policy (AccessDenied)",
        ),
        (
            Fake::expired(),
            "denied: CloudWatch in eu-west-1: AWS did not accept the credentials of the source's own identity: they have expired; new ones are being fetched (ExpiredToken)",
        ),
        (
            Fake::error(404, "UnknownOperationException", "What?"),
            "unavailable: CloudWatch in eu-west-1: the endpoint is not one of CloudWatch (HTTP 404, UnknownOperationException: What?)",
        ),
        (Reply::Hang, "timeout: CloudWatch in eu-west-1: no answer "),
    ] {
        let house = House::with_timeout(Duration::from_millis(700));
        house.numbered();
        house.fake.fault(Some(reply));
        let answers = house.ask(&numbered(3)).await;
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| answer.starts_with(expected)), "{answers:?}");
        assert_eq!(house.fake.hits(), 1);
    }
}

#[tokio::test]
async fn one_query_is_explained() {
    let house = House::new();
    house.constant("E", 2.5);
    let queries = [single("E")];
    let told = house.source.explain(&queries[0]).await;
    let [exchange] = told.exchanges.as_slice() else { panic!("{:?}", told.exchanges) };
    assert_eq!(
        (&*exchange.operation, &*exchange.target),
        ("GetMetricData", "CloudWatch in eu-west-1 as the source's own identity")
    );
    assert_eq!(
        exchange.request,
        serde_json::json!({
            "MetricDataQueries": [{
                "Id": "m",
                "MetricStat": {
                    "Metric": {"Namespace": "App", "MetricName": "E", "Dimensions": []},
                    "Period": 60,
                    "Stat": "Sum",
                },
                "ReturnData": true,
            }],
            "StartTime": "2026-11-21T11:54:00Z",
            "EndTime": "2026-11-21T11:59:00Z",
            "ScanBy": "TimestampDescending",
        })
    );
    let answer = exchange.answer.as_ref().unwrap();
    assert_eq!(answer["MetricDataResults"][0]["Timestamps"][0], "2026-11-21T11:58:00Z");
    assert_eq!(answer["MetricDataResults"][0]["StatusCode"], "Complete");
    assert_eq!(
        told.choice,
        [
            "At 2026-11-21T12:00:00.5Z the window was 2026-11-21T11:54:00Z to 2026-11-21T11:59:00Z: whole buckets of 60 s; those of the last 60 s (delay) may still be filled, and those from before 360 s ago (lookback) are too old.",
            "Series {}: 2.5 is of the newest complete bucket with a value, 2026-11-21T11:58:00Z to 2026-11-21T11:59:00Z, of 5 datapoints; none was passed over.",
        ]
    );
    assert_eq!(told.outcome.unwrap().series[0].value.to_string(), "2.5");

    house.fake.refuse_when(|query| Some(format!("Error in '{}'", query.id)));
    let told = house.source.explain(&queries[0]).await;
    assert_eq!(
        told.outcome.unwrap_err().to_string(),
        "CloudWatch in eu-west-1: ValidationError: Error in 'm'"
    );
    assert!(told.exchanges[0].answer.as_ref().unwrap_err().contains("ValidationError"));
}

#[test]
fn queries_of_one_window_go_together_when_a_bucket_is_done() {
    let of = |query: &CloudWatchQuery| dispatch(query);
    let QuerySpec::CloudWatch(one) = &single("A").spec else { panic!("it is CloudWatch") };
    let QuerySpec::CloudWatch(two) = &single("B").spec else { panic!("it is CloudWatch") };
    assert_eq!(of(one), of(two));
    let told = of(one);
    assert_eq!((&*told.upstream, told.batch.unwrap().limit), ("cloudwatch eu-west-1", 500));
    let delay = Duration::from_millis(60_500);
    assert_eq!(told.beat, Some(Beat { period: Duration::from_mins(1), delay }));
    let longer = CloudWatchQuery { lookback: Duration::from_mins(9), ..(**one).clone() };
    assert_ne!(of(&longer).batch, told.batch);
    let role =
        CloudWatchQuery { role_arn: Some("arn:aws:iam::1:role/x".into()), ..(**one).clone() };
    assert_eq!(&*of(&role).upstream, "cloudwatch eu-west-1 arn:aws:iam::1:role/x");
}

#[test]
fn what_takes_a_call_of_its_own_is_dispatched_alone() {
    let with = |text| group(&[("m1", stat("A")), ("m2", stat("B")), ("e", math(text))]);
    for (query, alone) in [
        (single("A"), false),
        (with("100*FILL(m1, 0)/m2"), false),
        (with("SUM(METRICS())"), false),
        (with("SUM([METRICS('1'),METRICS('2')])"), true),
        (group(&[("e", math("SEARCH('{N,D} x', 'Sum', 60)"))]), true),
        (group(&[("s", math("SEARCH('{N,D} x', 'Sum', 60)")), ("e", math("SUM(s)"))]), true),
        (group(&[("e", math("SELECT SUM(Orders) FROM Shop"))]), true),
        (with("DB_PERF_INSIGHTS('RDS', 'db', 'os.x')+m1+m2"), true),
    ] {
        let QuerySpec::CloudWatch(spec) = &query.spec else { panic!("it is CloudWatch") };
        let told = dispatch(spec);
        assert_eq!(told.batch.is_none(), alone, "{query:?}");
        // In one place in line with the others, and at the same moments.
        let QuerySpec::CloudWatch(plain) = &single("Z").spec else { panic!("it is CloudWatch") };
        let plain_told = dispatch(plain);
        assert_eq!((&told.upstream, told.beat), (&plain_told.upstream, plain_told.beat));
        // What is dispatched with others finds room in their call.
        let now = NOW.parse().unwrap();
        let calls = plan::plan(&[plain, spec], now).calls.len();
        assert_eq!(calls, if alone { 2 } else { 1 }, "{query:?}");
    }
}
