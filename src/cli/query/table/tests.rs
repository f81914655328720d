use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::cli::query::Inquiry;
use crate::model::{
    Aggregate, Cause, Clock, DefinitionId, DefinitionKind, Entry, Exchange, Explanation,
    FetchError, Labels, ManualClock, MetricName, OnNoData, Origin, Policy, PrometheusQuery, Query,
    QuerySpec, QueryTemplate, Sample, Scope, Selector, Series, SourceName, Transform,
};
use crate::source::simulated::SimulatedSource;

/// A definition of `jobs_depth` that halves, and its inquiry.
fn inquiry(aggregate: Aggregate, on_no_data: OnNoData) -> (Inquiry, Arc<Query>) {
    let now = "2026-11-21T12:00:00.5Z".parse().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
    let text = "sum by (queue) (rabbitmq_queue_messages_ready{namespace=\"default\"})";
    let spec = PrometheusQuery {
        query: text.into(),
        lookback_delta: None,
        shape: crate::model::AnswerShape::Items,
    };
    let query = Query { source: SourceName::new("main"), spec: QuerySpec::Prometheus(spec) };
    let query = Arc::new(query);
    let entry = Entry {
        id: DefinitionId {
            kind: DefinitionKind::ExternalMetric,
            namespace: Some("default".into()),
            name: "jobs".into(),
        },
        origin: Origin::File { path: "metrics.d/jobs.yaml".into(), line: 1 },
        metric: MetricName::external("jobs_depth").unwrap(),
        scope: Scope::Namespace("default".into()),
        labels: Labels::new([("team", "a")]),
        query: QueryTemplate::Fixed(Arc::clone(&query)),
        policy: Arc::new(Policy {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }),
        objects: None,
        transform: Arc::new(Transform {
            scale: "0.5".parse().unwrap(),
            max: Some("100".parse().unwrap()),
            aggregate,
            ..Transform::default()
        }),
    };
    let source = Arc::new(SimulatedSource::new(Arc::clone(&clock)));
    let notes = vec!["Something that a reader should know.".to_owned()];
    let namespace = "default".to_owned();
    let entry = Arc::new(entry);
    {
        let asked = Arc::clone(&query);
        (Inquiry { entry, query: asked, source, namespace, assumed: false, notes, clock }, query)
    }
}

fn exchange() -> Exchange {
    Exchange {
        operation: "GET https://prometheus:9090/api/v1/query".to_owned(),
        target: "without credentials of its own".to_owned(),
        request: json!({"parameters": {"query": "up", "timeout": "5000ms"}}),
        answer: Ok(json!({"status": "success"})),
        took: Duration::from_millis(12),
    }
}

fn sample(clock: &dyn Clock, values: &[(&str, &str)]) -> Sample {
    let series = values.iter().map(|(queue, value)| Series {
        labels: Labels::new([("queue", *queue)]),
        value: value.parse().unwrap(),
    });
    Sample {
        timestamp: clock.now(),
        observed: clock.tick().before(Duration::from_millis(20)),
        series: series.collect(),
        without_number: Vec::new(),
        warnings: vec!["a shard is slow".to_owned()],
    }
}

fn account(
    (inquiry, query): &(Inquiry, Arc<Query>),
    selector: &str,
    outcome: Result<Sample, FetchError>,
) -> Account {
    let selector = Selector::parse(selector).unwrap();
    let choice = vec!["An instant query has one value per series.".to_owned()];
    let choice = if outcome.is_ok() { choice } else { Vec::new() };
    let explanation = Explanation { exchanges: vec![exchange()], choice, outcome };
    let mut account = Account::of(inquiry, query, &selector);
    let when = (inquiry.clock.now(), inquiry.clock.tick());
    account.explained(inquiry, query, &selector, &explanation, when);
    account
}

const HEAD: &str = "\
Definition   ExternalMetric default/jobs, metrics.d/jobs.yaml:1
Metric       jobs_depth {team=a}
Reader       namespace default
Source       main (prometheus)
Query        sum by (queue) (rabbitmq_queue_messages_ready{namespace=\"default\"})
Rules        refresh 15s, maxAge 2m, onNoData hold, scale 0.5, min 0, max 100
Note         Something that a reader should know.
";

const REQUEST: &str = "
Request      GET https://prometheus:9090/api/v1/query
             without credentials of its own
    parameters:
      query: up
      timeout: \"5000ms\"
";

const ANSWER: &str = "\
Answer       after 12ms
    status: success
";

#[test]
fn a_value_is_followed_from_the_request_to_the_result() {
    let inquiry = inquiry(Aggregate::None, OnNoData::Hold);
    let found = sample(&*inquiry.0.clock, &[("a", "1234"), ("b", "64.1")]);
    let expected = format!(
        "{HEAD}Note         the upstream warns: a shard is slow
{REQUEST}{ANSWER}
Choice       An instant query has one value per series.

Sample       2026-11-21T12:00:00.500Z, 20ms old, 2 series
             1234 {{queue=a}}
             64.1 {{queue=b}}

Item         {{queue=a,team=a}} 1234 -> scale 617 -> max 100 = 100
Item         {{queue=b,team=a}} 64.1 -> scale 32.05 = 32050m
Result       132050m (132.05), the sum of 2 items would be served: fresh, 20ms old, maxAge 2m
"
    );
    let account = account(&inquiry, "", Ok(found));
    assert_eq!(render(&account, false, false), expected);
    assert_eq!(account.exit_code(), std::process::ExitCode::SUCCESS);
}

#[test]
fn an_aggregate_and_a_selector_show_what_they_took() {
    let inquiry = inquiry(Aggregate::Max, OnNoData::Hold);
    let values = [("a", "6"), ("b", "8"), ("c", "1000")];
    let found = sample(&*inquiry.0.clock, &values);
    let text = render(&account(&inquiry, "queue!=c", Ok(found.clone())), false, false);
    assert!(text.contains("\nReader       namespace default, selector queue!=c\n"), "{text}");
    let end = "
Item         {team=a} max of 2 series 8 -> scale 4 = 4
Result       4 would be served: fresh, 20ms old, maxAge 2m
";
    assert!(text.ends_with(end), "{text}");
    let none = account(&inquiry, "queue=d", Ok(found.clone()));
    let text = render(&none, false, false);
    let end = "
Result       no value would be served; an HPA reads:
             jobs_depth in default: no series matches the selector \"queue=d\"; the metric's 3 series
             have the labels queue (a, b, c), team (a)
";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(none.exit_code(), std::process::ExitCode::from(1));
    // The constant labels alone decide.
    let other = account(&inquiry, "team=b", Ok(found));
    assert!(other.result.unwrap().error.unwrap().contains("no series matches"));
}

#[test]
fn an_error_is_what_an_hpa_reads_and_the_detail() {
    let cause = Cause::new("bad_data: parse error (HTTP 400)").with_detail("the answer starts");
    let failed = || Err(FetchError::Invalid(cause.clone()));
    let inquiry = inquiry(Aggregate::None, OnNoData::Hold);
    let account = account(&inquiry, "", failed());
    let expected = format!(
        "{HEAD}{REQUEST}{ANSWER}
Result       no value would be served; an HPA reads:
             jobs_depth{{team=a}} in default: bad_data: parse error (HTTP 400) (source main)
Detail       the answer starts
"
    );
    assert_eq!(render(&account, false, false), expected);
    let result = account.result.unwrap();
    assert_eq!((result.state, result.error_kind), ("failed", Some("invalid")));
}

#[test]
fn without_data_the_chosen_number_is_served_and_nothing_else() {
    let no_data = || Err(FetchError::NoData(Cause::new("the query gives no series")));
    let chosen = inquiry(Aggregate::None, OnNoData::Value("1.5".parse().unwrap()));
    let text = render(&account(&chosen, "", no_data()), false, false);
    let end = "
Item         {team=a} onNoData 1.5 = 1500m
Result       1500m (1.5) would be served: the number that onNoData names
";
    assert!(text.ends_with(end), "{text}");
    let held = account(&inquiry(Aggregate::None, OnNoData::Hold), "", no_data());
    let result = held.result.unwrap();
    assert_eq!((result.served, result.error_kind), (false, Some("no_data")));
}

#[test]
fn a_sample_that_is_too_old_is_not_served() {
    let inquiry = inquiry(Aggregate::None, OnNoData::Hold);
    let clock = &inquiry.0.clock;
    let mut old = sample(&**clock, &[("a", "5")]);
    old.observed = clock.tick().before(Duration::from_mins(3));
    old.timestamp = clock.now() - Duration::from_mins(3);
    let text = render(&account(&inquiry, "", Ok(old)), false, false);
    let end = "
Sample       2026-11-21T11:57:00.500Z, 3m old, 1 series
             5 {queue=a}

Result       no value would be served; an HPA reads:
             jobs_depth{team=a} in default: source main has no newer datapoint; last good value
             2500m at 11:57:00Z is older than maxAge 2m
";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn what_is_long_is_cut_and_says_so() {
    let inquiry = inquiry(Aggregate::None, OnNoData::Hold);
    let names: Vec<String> = (10..40).map(|i| i.to_string()).collect();
    let values: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let mut account = account(&inquiry, "", Ok(sample(&*inquiry.0.clock, &values)));
    account.calls[0].answer =
        Some(json!({"long": "x".repeat(510), "list": (0..15).collect::<Vec<_>>()}));
    let full = render(&account, true, false);
    assert!(full.contains("{queue=39}") && !full.contains("--full"), "{full}");
    account.shorten();
    let text = render(&account, false, false);
    assert!(text.contains("15 elements or characters are left out; --full shows all\n"), "{text}");
    assert!(text.contains("             and 10 more; --full shows all\n"), "{text}");
    assert!(!text.contains("{queue=39}"), "{text}");
}

#[test]
fn a_dry_run_shows_the_request_alone() {
    let (inquiry, query) = inquiry(Aggregate::None, OnNoData::Hold);
    let dry = |calls| {
        let mut account = Account::of(&inquiry, &query, &Selector::default());
        account.previewed(calls);
        account
    };
    let end = "\nResult       dry run: nothing was sent\n";
    assert_eq!(render(&dry(Some(vec![exchange()])), false, false), format!("{HEAD}{REQUEST}{end}"));
    let unknown = dry(None);
    assert!(render(&unknown, false, false).contains(
        "A source of this kind cannot show its request without sending it; nothing was sent."
    ));
    assert_eq!(unknown.exit_code(), std::process::ExitCode::from(1));
    let nothing = render(&dry(Some(Vec::new())), false, false);
    assert!(nothing.contains("Nothing is ever sent: the value comes from the clock."));
}

#[test]
fn no_word_of_an_upstream_moves_the_cursor() {
    let mut text = Text::new(false);
    text.line("A", "x\u{1b}[2J\r\ny");
    assert_eq!(text.out, "A            x [2J  y\n");
    assert!(!text.out.contains('\u{1b}'));
}
