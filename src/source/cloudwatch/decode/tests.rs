use std::sync::Arc;

use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::primitives::DateTime;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Decimal, MetricDataQuery, MetricStat};
use crate::source::cloudwatch::plan::plan;

mod as_written;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn at() -> Moment {
    Moment { now: now(), tick: Tick(10_000_000) }
}

/// The start of the bucket some minutes ago.
fn ago(minutes: i64) -> i64 {
    now().as_second() - 60 * minutes
}

fn query(question: MetricQuestion) -> CloudWatchQuery {
    let part = MetricDataQuery { id: "m".into(), question, label: None, return_data: true };
    CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: None,
        queries: vec![part],
        period: Duration::from_mins(1),
        delay: Duration::from_mins(1),
        lookback: Duration::from_mins(6),
        manner: crate::model::Manner::Strict,
    }
}

fn metric() -> CloudWatchQuery {
    query(MetricQuestion::Metric(MetricStat {
        namespace: "AWS/ApplicationELB".into(),
        name: "RequestCount".into(),
        dimensions: vec![("LoadBalancer".into(), "app/web/1".into())],
        statistic: "Sum".into(),
        period: Duration::from_mins(1),
        unit: None,
        account_id: Some("999988887777".into()),
    }))
}

fn expression(text: &str) -> CloudWatchQuery {
    query(MetricQuestion::Expression { text: text.into(), period: None })
}

fn result(id: &str, label: &str, points: &[(i64, f64)]) -> MetricDataResult {
    MetricDataResult::builder()
        .id(id)
        .label(label)
        .set_timestamps(Some(points.iter().map(|(at, _)| DateTime::from_secs(*at)).collect()))
        .set_values(Some(points.iter().map(|(_, value)| *value).collect()))
        .status_code(StatusCode::Complete)
        .build()
}

fn message(code: &str, value: &str) -> MessageData {
    MessageData::builder().code(code).value(value).build()
}

fn page(results: Vec<MetricDataResult>) -> GetMetricDataOutput {
    GetMetricDataOutput::builder().set_metric_data_results(Some(results)).build()
}

fn read(query: &CloudWatchQuery, pages: Vec<GetMetricDataOutput>) -> Result<Sample, FetchError> {
    let queries = [query];
    let plan = plan(&queries, now());
    let mut answer = Answer::default();
    for page in pages {
        answer.add(page);
    }
    answer.check(&plan.calls[0])?;
    decode(&plan.calls[0], &answer, at()).remove(0).1
}

fn shown(query: &CloudWatchQuery, pages: Vec<GetMetricDataOutput>) -> String {
    match read(query, pages) {
        Ok(sample) => {
            let series = sample.series.iter().map(|one| format!("{} {}", one.labels, one.value));
            let series: Vec<_> = series.collect();
            let age = at().tick.since(sample.observed).as_secs();
            format!(
                "{} at {}, {age} s old {:?}",
                series.join("; "),
                sample.timestamp,
                sample.warnings
            )
        }
        Err(error) => format!("{}: {error}", error.kind()),
    }
}

#[test]
fn the_newest_complete_bucket_counts() {
    let points = [
        // The window ends a minute ago: this bucket is still being filled.
        (ago(1), 5.0),
        (ago(2), f64::NAN),
        (ago(3), 64.1),
        (ago(4), 7.0),
        (ago(7), 9.0),
    ];
    let expected = "{} 64.1 at 2026-11-21T11:57:00Z, 180 s old []";
    assert_eq!(shown(&metric(), vec![page(vec![result("m", "x", &points)])]), expected);
    let mut oldest_first = points;
    oldest_first.reverse();
    assert_eq!(shown(&metric(), vec![page(vec![result("m", "x", &oldest_first)])]), expected);
    let edge = [(ago(2), -0.5), (ago(6), 1.0)];
    assert_eq!(
        shown(&metric(), vec![page(vec![result("m", "x", &edge)])]),
        "{} -0.5 at 2026-11-21T11:58:00Z, 120 s old []"
    );
    let first = [(ago(6), 1e21)];
    assert_eq!(
        shown(&metric(), vec![page(vec![result("m", "x", &first)])]),
        "{} 1000000000000000000000 at 2026-11-21T11:54:00Z, 360 s old []"
    );
}

#[test]
fn no_datapoint_is_no_number() {
    let text = "no_data: CloudWatch in eu-west-1: no datapoint of Sum of AWS/ApplicationELB RequestCount {LoadBalancer=app/web/1} per 60s between 2026-11-21T11:54:00Z and 2026-11-21T11:59:00Z";
    let advice = "; the namespace, the name and the exact set of dimensions must be those of the metric, and a unit, if given, that of its datapoints";
    let none = shown(&metric(), vec![page(vec![result("m", "x", &[])])]);
    assert_eq!(none, format!("{text}{advice}"));
    let outside = [(ago(1), 5.0), (ago(9), 1.0)];
    let none = shown(&metric(), vec![page(vec![result("m", "x", &outside)])]);
    assert_eq!(none, format!("{text} (2 outside of that or not finite){advice}"));
    // Something was measured: no number that stands for silence may stand for it.
    for wrong in [f64::INFINITY, f64::NAN] {
        let outside = [(ago(1), 5.0), (ago(2), wrong), (ago(9), 1.0)];
        let none = shown(&metric(), vec![page(vec![result("m", "x", &outside)])]);
        let text = text.replace("no_data", "malformed");
        assert_eq!(none, format!("{text} (3 outside of that or not finite){advice}"));
    }
    // An expression may find nothing, a metric has a result always.
    let search = expression("SEARCH('{N,D} x', 'Sum', 60)");
    let none = shown(&search, vec![page(Vec::new())]);
    assert!(
        none.starts_with("no_data: CloudWatch in eu-west-1: no datapoint of SEARCH("),
        "{none}"
    );
    assert_eq!(
        shown(&metric(), vec![page(vec![result("other", "x", &[(ago(2), 1.0)])])]),
        "malformed: CloudWatch in eu-west-1: all results of the answer have ids that were not asked for"
    );
    assert_eq!(
        shown(&metric(), vec![page(Vec::new())]),
        "malformed: CloudWatch in eu-west-1: the answer has no result for it"
    );
    assert!(shown(&expression("a/b"), vec![page(Vec::new())]).starts_with("malformed: "));
    assert_eq!(shown(&metric(), Vec::new()).split(':').next(), Some("malformed"));
}

#[test]
fn only_a_complete_answer_is_one() {
    let prefix = "CloudWatch in eu-west-1: ";
    for (status, expected) in [
        (
            Some("PartialData"),
            "partial: CloudWatch in eu-west-1: the datapoints are not complete (PartialData, Odd: very)",
        ),
        (
            Some("InternalError"),
            "unavailable: CloudWatch in eu-west-1: the service failed on this metric (InternalError, Odd: very)",
        ),
        (
            Some("Forbidden"),
            "denied: CloudWatch in eu-west-1: the metric may not be read (Forbidden, Odd: very); account 999988887777 must share its metrics with this one (cross-account observability)",
        ),
        (Some("New"), "malformed: CloudWatch in eu-west-1: unknown status \"New\" (Odd: very)"),
        (None, "malformed: CloudWatch in eu-west-1: a result has no status"),
    ] {
        let mut one = result("m", "x", &[(ago(2), 1.0)]);
        one.status_code = status.map(StatusCode::from);
        one.messages = Some(vec![message("Odd", "very")]);
        assert_eq!(shown(&metric(), vec![page(vec![one])]), expected, "{prefix}");
    }
    let mut one = result("m", "x", &[(ago(2), 1.0)]);
    one.values = Some(vec![1.0, 2.0]);
    assert!(shown(&metric(), vec![page(vec![one])]).contains("more values than times"));
    let two = vec![result("m", "x", &[(ago(2), 1.0)]), result("m", "y", &[(ago(2), 1.0)])];
    assert!(shown(&metric(), vec![page(two)]).contains("the answer has 2 results for it"));
}

#[test]
fn only_an_empty_list_of_the_service_is_no_data() {
    let no_list = GetMetricDataOutput::builder().build();
    let foreign = page(vec![result("zz", "x", &[(ago(2), 1.0)])]);
    let with = |mut page: GetMetricDataOutput, code: &str| {
        page.messages = Some(vec![message(code, "odd")]);
        page
    };
    let open_ended = [
        "SELECT SUM(X) FROM N",
        "SEARCH('{N,D} x', 'Sum', 60)",
        "SORT([a,b], AVG, DESC)",
        "REMOVE_EMPTY(METRICS())",
    ];
    let say = "CloudWatch in eu-west-1: ";
    for query in open_ended.map(expression) {
        let told = |page: GetMetricDataOutput| shown(&query, vec![page]);
        assert!(told(page(Vec::new())).starts_with("no_data: "), "{query}");
        for (page, expected) in [
            (no_list.clone(), "malformed: {}the answer has no list of results"),
            (
                foreign.clone(),
                "malformed: {}all results of the answer have ids that were not asked for",
            ),
            (
                with(page(Vec::new()), "MaxQueryTimeRangeExceeded"),
                "unavailable: {}there is no datapoint, and the service says about the whole call: MaxQueryTimeRangeExceeded: odd",
            ),
            (
                with(page(vec![result("m", "x", &[])]), "Unheard"),
                "unavailable: {}there is no datapoint, and the service says about the whole call: Unheard: odd",
            ),
            (
                with(no_list.clone(), "InternalFailure"),
                "unavailable: {}the call failed with HTTP 200 (InternalFailure: odd)",
            ),
        ] {
            assert_eq!(told(page), expected.replace("{}", say), "{query}");
        }
        // One page of two is no list either.
        let two = vec![no_list.clone(), page(vec![result("m", "x", &[(ago(2), 1.0)])])];
        assert!(shown(&query, two).ends_with("the answer has no list of results"));
    }
    // What is in quotes is no function.
    let quoted = expression("METRICS('SORT(')/METRICS(\"REMOVE_EMPTY(\")");
    assert_eq!(
        shown(&quoted, vec![page(Vec::new())]),
        "malformed: CloudWatch in eu-west-1: the answer has no result for it"
    );
}

#[test]
fn what_is_said_about_the_whole_call_counts_for_all() {
    for (code, expected) in [
        ("InternalError", "unavailable: {}the call failed with HTTP 200 (InternalError: odd)"),
        (
            "ServiceUnavailable",
            "unavailable: {}the call failed with HTTP 200 (ServiceUnavailable: odd)",
        ),
        ("Forbidden", "denied: {}the call failed with HTTP 200 (Forbidden: odd)"),
        // The window's start is cut, and the newest bucket counts.
        (
            "MaxQueryTimeRangeExceeded",
            "{} 1 at 2026-11-21T11:58:00Z, 120 s old [\"MaxQueryTimeRangeExceeded: odd\"]",
        ),
    ] {
        let mut page = page(vec![result("m", "x", &[(ago(2), 1.0)])]);
        page.messages = Some(vec![message(code, "odd")]);
        let expected = if expected.starts_with("{}") {
            expected.to_owned()
        } else {
            expected.replace("{}", "CloudWatch in eu-west-1: ")
        };
        assert_eq!(shown(&metric(), vec![page]), expected);
    }
}

#[test]
fn one_series_is_one_result() {
    let two = || page(vec![result("m", "a", &[(ago(2), 1.0)]), result("m", "b", &[(ago(2), 2.0)])]);
    let text = "malformed: CloudWatch in eu-west-1: the answer has 2 results for it";
    for one in ["SELECT SUM(X) FROM \"GROUP BY\"", "select sum(x) from n where group = 'by'"] {
        assert_eq!(shown(&expression(one), vec![two()]), text);
    }
    assert_eq!(shown(&metric(), vec![two()]), text);
    let grouped = shown(&expression("SELECT SUM(X) FROM N group  by D"), vec![two()]);
    assert_eq!(grouped, "{D=a} 1; {D=b} 2 at 2026-11-21T11:58:00Z, 120 s old []");
}

#[test]
fn a_time_within_a_bucket_is_none_of_ours() {
    let odd = [(ago(2) - 30, 9.0), (ago(3) + 1, 8.0), (ago(4), 7.0)];
    assert_eq!(
        shown(&metric(), vec![page(vec![result("m", "x", &odd)])]),
        "{} 7 at 2026-11-21T11:56:00Z, 240 s old []"
    );
    let none = shown(&metric(), vec![page(vec![result("m", "x", &odd[..2])])]);
    assert!(none.starts_with("no_data: "), "{none}");
}

#[test]
fn a_search_that_found_too_much_is_no_number() {
    let search = expression("SUM(SEARCH('{N,D} x', 'Sum', 60))");
    for (code, expected) in [
        (
            "MaxMetricsExceeded",
            "invalid: CloudWatch in eu-west-1: the answer lacks series that match; narrow the query (MaxMetricsExceeded: more)",
        ),
        ("Other", "{} 1 at 2026-11-21T11:58:00Z, 120 s old [\"Other: more\"]"),
    ] {
        let mut one = page(vec![result("m", "x", &[(ago(2), 1.0)])]);
        one.messages = Some(vec![message(code, "more")]);
        assert_eq!(shown(&search, vec![one]), expected);
        let mut told = result("m", "x", &[(ago(2), 1.0)]);
        told.messages = Some(vec![message(code, "more")]);
        assert_eq!(shown(&search, vec![page(vec![told])]), expected);
    }
}

#[test]
fn pages_are_one_answer() {
    let search = expression("SEARCH('{N,D} x', 'Sum', 60)");
    let mut first = result("m", "a", &[(ago(2), 1.0)]);
    first.status_code = Some(StatusCode::PartialData);
    let mut announced = result("m", "b", &[]);
    announced.status_code = Some(StatusCode::PartialData);
    let pages = |rest| vec![page(vec![first.clone(), announced.clone()]), page(rest)];
    let whole = vec![result("m", "b", &[(ago(2), 2.0)]), result("m", "a", &[(ago(3), 3.0)])];
    assert_eq!(
        shown(&search, pages(whole)),
        "{D=a} 1; {D=b} 2 at 2026-11-21T11:58:00Z, 120 s old []"
    );
    let half = vec![result("m", "a", &[(ago(3), 3.0)])];
    assert!(shown(&search, pages(half)).starts_with("partial: "));
}

#[test]
fn a_later_page_completes_and_does_not_mend() {
    let one = |status: &str, points: &[(i64, f64)]| {
        let mut one = result("m", "x", points);
        one.status_code = Some(StatusCode::from(status));
        page(vec![one])
    };
    let (at, before) = (ago(2), ago(3));
    let failed = "unavailable: CloudWatch in eu-west-1: the service failed on this metric (InternalError, without a reason)";
    let forbidden = "denied: CloudWatch in eu-west-1: the metric may not be read (Forbidden, without a reason); account 999988887777 must share its metrics with this one (cross-account observability)";
    for (status, expected) in [("InternalError", failed), ("Forbidden", forbidden)] {
        for points in [&[(at, 1.0)][..], &[]] {
            for last in [&[(before, 2.0)][..], &[]] {
                let pages = vec![one(status, points), one("Complete", last)];
                assert_eq!(shown(&metric(), pages), expected);
                let pages = vec![one("Complete", last), one(status, points)];
                assert_eq!(shown(&metric(), pages), expected);
            }
        }
        let between = vec![one("PartialData", &[]), one(status, &[]), one("Complete", &[])];
        assert_eq!(shown(&metric(), between), expected);
    }
    let ten = |status| one(status, &[(at, 10.0), (before, 1.0)]);
    let completed = "{} 20 at 2026-11-21T11:58:00Z, 120 s old []";
    let twenty = || one("Complete", &[(at, 20.0)]);
    assert_eq!(shown(&metric(), vec![ten("PartialData"), twenty()]), completed);
    let again = vec![ten("PartialData"), one("PartialData", &[(at, 11.0)]), twenty()];
    assert_eq!(shown(&metric(), again), completed);
    // Two answers with equal right.
    let ambiguous = "malformed: CloudWatch in eu-west-1: a result has two values for one time";
    assert_eq!(shown(&metric(), vec![ten("Complete"), twenty()]), ambiguous);
    assert_eq!(shown(&metric(), vec![one("Complete", &[(at, 1.0), (at, 2.0)])]), ambiguous);
    assert_eq!(
        shown(&metric(), vec![twenty(), twenty()]),
        "{} 20 at 2026-11-21T11:58:00Z, 120 s old []"
    );
    // What does not fit on a page does not fit by another.
    let uneven = |times: usize, values: usize| {
        let mut one = result("m", "x", &[]);
        let all = [at, before].map(DateTime::from_secs);
        one.timestamps = Some(all[..times].to_vec());
        one.values = Some([1.0, 2.0][..values].to_vec());
        page(vec![one])
    };
    for pages in [vec![uneven(2, 1), uneven(0, 1)], vec![uneven(0, 1), uneven(1, 0)]] {
        assert!(shown(&metric(), pages).contains("more values than times, or fewer"));
    }
}

#[test]
fn several_series_have_labels_and_the_age_of_the_oldest() {
    let search = expression("SEARCH('{N,D} x', 'Sum', 60)");
    let mut odd = result("m", "b", &[(ago(4), 2.0), (ago(1), 9.0)]);
    odd.messages = Some(vec![message("ArithmeticError", "one divided by zero")]);
    let series = vec![result("m", "a", &[(ago(2), 1.0)]), odd, result("m", "gone", &[])];
    assert_eq!(
        shown(&search, vec![page(series)]),
        "{D=a} 1; {D=b} 2 at 2026-11-21T11:56:00Z, 240 s old [\"ArithmeticError: one divided by zero\"]"
    );
    let twins = vec![result("m", "a", &[(ago(2), 1.0)]), result("m", "a", &[(ago(2), 2.0)])];
    assert_eq!(
        shown(&search, vec![page(twins)]),
        "malformed: two series of one answer have the labels {D=a}; give the returned query a label that tells them apart, such as ${PROP('MetricName')} or ${PROP('AccountId')}"
    );
}

#[test]
fn a_series_that_ended_is_left_out() {
    let search = expression("SEARCH('{N,D} x', 'Sum', 60)");
    for (behind, expected) in [
        (3, "{D=a} 1; {D=b} 2 at 2026-11-21T11:57:00Z, 180 s old []"),
        (4, "{D=a} 1; {D=b} 2 at 2026-11-21T11:56:00Z, 240 s old []"),
        (5, "{D=a} 1 at 2026-11-21T11:58:00Z, 120 s old []"),
    ] {
        let (one, other) = ([(ago(2), 1.0)], [(ago(behind), 2.0)]);
        let both = [result("m", "a", &one), result("m", "b", &other)];
        assert_eq!(shown(&search, vec![page(both.to_vec())]), expected);
        // Alone there is nothing to be behind of.
        let alone = shown(&search, vec![page(both[1..].to_vec())]);
        assert!(alone.starts_with("{D=b} 2 at "), "{alone}");
    }
}

#[test]
fn the_end_of_one_series_never_makes_a_sample_too_old() {
    // The defaults of definitions: lookback and maxAge are the delay and five periods.
    let search = expression("SEARCH('{N,D} x', 'Sum', 60)");
    let max_age = search.delay + 5 * search.period;
    let (start, last_of_b) = (ago(0), ago(-10));
    let mut seen = Vec::new();
    for minute in 5..20 {
        let at_noon = Timestamp::from_second(start + 60 * minute).unwrap();
        let window = crate::source::cloudwatch::plan::Window::of(&search, at_noon);
        let buckets = || (window.start..window.end).step_by(60);
        let points = |value: f64| buckets().map(|at| (at, value)).collect::<Vec<_>>();
        let mut of_b = points(2.0);
        of_b.retain(|(at, _)| *at <= last_of_b);
        let queries = [&search];
        let plan = plan(&queries, at_noon);
        let mut answer = Answer::default();
        answer.add(page(vec![result("m", "a", &points(1.0)), result("m", "b", &of_b)]));
        let moment = Moment { now: at_noon, tick: Tick(10_000_000) };
        let sample = decode(&plan.calls[0], &answer, moment).remove(0).1.unwrap();
        // It has to do until the next read.
        let age = moment.tick.since(sample.observed) + search.period;
        assert!(age < max_age, "{age:?} at minute {minute}");
        seen.push(sample.series.len());
    }
    // The last bucket of `b` is done at minute 11 and read at minute 12; it stays for two more.
    let expected: Vec<_> = (5..20).map(|minute| if minute <= 14 { 2 } else { 1 }).collect();
    assert_eq!(seen, expected);
}

#[test]
fn labels_with_values_differ_from_page_to_page() {
    let labelled = |text: &str, label: &str| {
        let mut query = expression(text);
        query.queries[0].label = Some(label.into());
        query
    };
    let half = |label: &str, at: i64| {
        let mut one = result("m", label, &[(ago(at), 1.0)]);
        one.status_code = Some(StatusCode::PartialData);
        one
    };
    let pages = || vec![page(vec![half("5", 2)]), page(vec![result("m", "6", &[(ago(3), 1.0)])])];
    let refused = "malformed: CloudWatch in eu-west-1: the answer has several pages, and its series are labelled by their values, which differ from page to page; use ${LABEL} and ${PROP('..')} alone in the label, or shorten lookback";
    assert_eq!(shown(&labelled("a/b", "${LAST}"), pages()), refused);
    let several = || {
        let first =
            page(vec![result("m", "4", &[(ago(2), 1.0)]), result("m", "5", &[(ago(2), 2.0)])]);
        vec![first, page(vec![result("m", "6", &[(ago(3), 2.0)])])]
    };
    let search = "SEARCH('{N,D} x', 'Sum', 60)";
    let by_value = labelled(search, "${PROP('Dim.D')} ${ LAST }");
    assert_eq!(shown(&by_value, several()), refused);
    let fine = shown(&labelled(search, "${PROP('Dim.D')} ${LABEL}"), several());
    assert!(fine.starts_with("{label=4} 1; {label=5} 2; {label=6} 2 at "), "{fine}");
}

#[test]
fn a_clock_that_is_behind_makes_no_negative_age() {
    let query = CloudWatchQuery { delay: Duration::ZERO, ..metric() };
    let queries = [&query];
    let plan = plan(&queries, now());
    let mut answer = Answer::default();
    answer.add(page(vec![result("m", "x", &[(ago(1), 1.0)])]));
    let behind = Moment { now: moment(ago(9)), tick: Tick(5) };
    let sample = decode(&plan.calls[0], &answer, behind).remove(0).1.unwrap();
    assert_eq!(sample.observed, Tick(5));
    let young = Moment { now: now(), tick: Tick(5) };
    assert_eq!(decode(&plan.calls[0], &answer, young).remove(0).1.unwrap().observed, Tick(0));
}

/// Metrics of these periods in seconds, and the expression over them that is returned.
fn math(metrics: &[(&str, u64)], text: &str) -> CloudWatchQuery {
    let mut query = expression(text);
    query.queries[0].id = "e".into();
    for (id, period) in metrics {
        let MetricQuestion::Metric(stat) = metric().queries.remove(0).question else {
            unreachable!("it is a metric")
        };
        let stat = MetricStat { name: (*id).into(), period: Duration::from_secs(*period), ..stat };
        query.queries.push(MetricDataQuery {
            id: (*id).into(),
            question: MetricQuestion::Metric(stat),
            label: None,
            return_data: false,
        });
    }
    query
}

#[test]
fn a_bucket_counts_when_its_operands_are_there() {
    let sum = math(&[("a", 60), ("b", 60)], "a+b");
    let answer = |of_b: &[(i64, f64)]| {
        let e = result("e", "x", &[(ago(2), 1.0), (ago(3), 7.0), (ago(4), 8.0)]);
        let a = result("a", "x", &[(ago(2), 1.0), (ago(3), 1.0), (ago(4), 1.0)]);
        vec![page(vec![e, a, result("b", "x", of_b)])]
    };
    for (of_b, expected) in [
        (vec![(ago(2), 0.0)], "{} 1 at 2026-11-21T11:58:00Z, 120 s old []"),
        (vec![(ago(3), 6.0), (ago(4), 7.0)], "{} 7 at 2026-11-21T11:57:00Z, 180 s old []"),
        (vec![(ago(4), 7.0), (ago(2), f64::NAN)], "{} 8 at 2026-11-21T11:56:00Z, 240 s old []"),
        // A bucket that is not complete is none of the operand's either.
        (
            vec![(ago(1), 7.0)],
            "no_data: CloudWatch in eu-west-1: no datapoint of a+b between 2026-11-21T11:54:00Z and 2026-11-21T11:59:00Z at which all its operands have one: b has none; wrap it in FILL(b, 0) if no datapoint means 0",
        ),
        (
            vec![(ago(5), 7.0)],
            "no_data: CloudWatch in eu-west-1: no datapoint of a+b between 2026-11-21T11:54:00Z and 2026-11-21T11:59:00Z at which all its operands have one: b has none at 2026-11-21T11:58:00Z; wrap it in FILL(b, 0) if no datapoint means 0",
        ),
    ] {
        assert_eq!(shown(&sum, answer(&of_b)), expected);
    }
    // The service's word about an operand counts as much as that about the answer.
    for (status, expected) in [("PartialData", "partial: "), ("Forbidden", "denied: ")] {
        let mut pages = answer(&[(ago(2), 0.0)]);
        pages[0].metric_data_results.as_mut().unwrap()[2].status_code = Some(status.into());
        let error = shown(&sum, pages);
        assert!(error.starts_with(expected), "{error}");
    }
    let mut pages = answer(&[]);
    pages[0].metric_data_results.as_mut().unwrap().pop();
    assert_eq!(
        shown(&sum, pages),
        "malformed: CloudWatch in eu-west-1: the answer has 0 results for the operand b"
    );
}

#[test]
fn an_operand_with_shorter_buckets_needs_one_of_them() {
    let mut sum = math(&[("a", 60), ("b", 300)], "a+b");
    sum.period = Duration::from_mins(5);
    sum.lookback = Duration::from_mins(26);
    let answer = |of_a: i64| {
        let e = result("e", "x", &[(ago(10), 1.0), (ago(15), 7.0)]);
        let b = result("b", "x", &[(ago(10), 1.0), (ago(15), 1.0)]);
        vec![page(vec![e, result("a", "x", &[(ago(of_a), 1.0), (ago(13), 2.0)]), b])]
    };
    assert!(shown(&sum, answer(10)).starts_with("{} 1 at 2026-11-21T11:50:00Z"));
    assert!(shown(&sum, answer(6)).starts_with("{} 1 at 2026-11-21T11:50:00Z"));
    // In the bucket that is still being filled.
    assert!(shown(&sum, answer(5)).starts_with("{} 7 at 2026-11-21T11:45:00Z"));
    assert!(shown(&sum, answer(11)).starts_with("{} 7 at 2026-11-21T11:45:00Z"));
}

#[test]
fn what_was_not_asked_is_told() {
    let query = metric();
    let queries = [&query];
    let plan = plan(&queries, now());
    let mut answer = Answer::default();
    answer.add(page(vec![result("m", "x", &[]), result("evil", "x", &[(ago(2), 4711.0)])]));
    assert_eq!(answer.strays(&plan.calls[0]), ["evil"]);
    assert!(decode(&plan.calls[0], &answer, at()).remove(0).1.is_err());
}

fn any_result() -> impl Strategy<Value = MetricDataResult> {
    let times = proptest::collection::vec(-12..600_i64, 0..6);
    let values = proptest::collection::vec(
        prop_oneof![any::<f64>(), select(vec![f64::NAN, f64::INFINITY, 1.0])],
        0..6,
    );
    let status = select(vec!["Complete", "Complete", "Complete", "PartialData", "X"]);
    let id = proptest::option::of(select(vec!["m", "m", "m", "x"]));
    (
        id,
        proptest::option::of(select(vec!["a", "b", "a b", "a\nb"])),
        times,
        values,
        status,
        any::<bool>(),
    )
        .prop_map(|(id, label, mut times, mut values, status, even)| {
            if even {
                let length = times.len().min(values.len());
                times.truncate(length);
                values.truncate(length);
            }
            MetricDataResult::builder()
                .set_id(id.map(str::to_owned))
                .set_label(label.map(str::to_owned))
                .set_timestamps(Some(
                    times.iter().map(|s| DateTime::from_secs(now().as_second() - s)).collect(),
                ))
                .set_values(Some(values))
                .status_code(StatusCode::from(status))
                .build()
        })
}

fn any_question() -> impl Strategy<Value = CloudWatchQuery> {
    let texts = [
        "SEARCH('{N,D} x', 'Sum', 60)",
        "SEARCH('{N,D,E} x', 'Sum', 60)",
        "SELECT AVG(x) FROM n GROUP BY a, b",
        "REMOVE_EMPTY(METRICS())",
        "[m1,m2]",
    ];
    prop_oneof![Just(metric()), select(texts.map(expression).to_vec())]
}

proptest! {
    #[test]
    fn nothing_but_finite_values_of_the_window_are_served(
        query in any_question(),
        pages in proptest::collection::vec(proptest::collection::vec(any_result(), 0..5), 0..3),
    ) {
        let all: Vec<(i64, f64)> = pages
            .iter()
            .flatten()
            .flat_map(|one| one.timestamps().iter().map(DateTime::secs).zip(one.values().iter().copied()))
            .collect();
        let fit: Vec<Decimal> = all
            .iter()
            .filter(|(start, _)| (ago(6)..=ago(2)).contains(start))
            .filter_map(|(_, value)| Decimal::from_f64(*value))
            .collect();
        if let Ok(sample) = read(&query, pages.into_iter().map(page).collect()) {
            prop_assert!(!sample.series.is_empty());
            prop_assert!(sample.series.iter().all(|one| fit.contains(&one.value)));
            let start = sample.timestamp.as_second();
            prop_assert!((ago(6)..=ago(2)).contains(&start));
            let labels: HashSet<_> = sample.series.iter().map(|one| &one.labels).collect();
            prop_assert_eq!(labels.len(), sample.series.len());
        }
    }
}

#[test]
fn a_shared_metric_answers_all_who_asked() {
    let (one, other) = (metric(), CloudWatchQuery { period: Duration::from_mins(1), ..metric() });
    let third = query(MetricQuestion::Metric(MetricStat {
        name: Arc::from("Other"),
        ..match &metric().queries[0].question {
            MetricQuestion::Metric(stat) => stat.clone(),
            MetricQuestion::Expression { .. } => unreachable!("it is a metric"),
        }
    }));
    let queries = [&one, &third, &other];
    let plan = plan(&queries, now());
    let mut answer = Answer::default();
    answer
        .add(page(vec![result("m1", "x", &[(ago(2), 2.0)]), result("m0", "x", &[(ago(2), 1.0)])]));
    let values: Vec<_> = decode(&plan.calls[0], &answer, at())
        .into_iter()
        .map(|(at, sample)| (at, sample.unwrap().series[0].value.to_string()))
        .collect();
    let expected = [(0, "1"), (1, "2"), (2, "1")].map(|(at, value)| (at, value.to_owned()));
    assert_eq!(values, expected);
}
