//! Questions that are asked as they are written, and the one number that is their answer.

use super::*;
use crate::model::Manner;
use crate::source::cloudwatch::dispatch;
use crate::source::cloudwatch::plan::Plan;

fn as_written(queries: Vec<MetricDataQuery>) -> CloudWatchQuery {
    CloudWatchQuery {
        queries,
        delay: Duration::ZERO,
        lookback: Duration::from_mins(5),
        manner: Manner::AsWritten { settle: Duration::from_secs(30) },
        ..metric()
    }
}

fn part(id: &str, question: MetricQuestion, return_data: bool) -> MetricDataQuery {
    MetricDataQuery { id: id.into(), question, label: Some(format!("L{id}").into()), return_data }
}

fn stat(id: &str, return_data: bool) -> MetricDataQuery {
    part(id, metric().queries.remove(0).question, return_data)
}

fn math(id: &str, text: &str) -> MetricDataQuery {
    part(id, MetricQuestion::Expression { text: text.into(), period: None }, true)
}

/// The items of the only call: id, label and whether it is returned.
fn sent(plan: &Plan<'_>) -> Vec<String> {
    assert_eq!(plan.calls.len(), 1);
    let items = plan.calls[0].items.iter().map(|item| {
        let label = item.label.as_deref().unwrap_or("-");
        format!("{} {label}{}", item.id, if item.return_data { " returned" } else { "" })
    });
    items.collect()
}

#[test]
fn all_of_it_is_sent_as_it_is_written() {
    let query = as_written(vec![stat("m1", false), math("e1", "m1*2"), math("e2", "m1*3")]);
    let alone = plan(&[&query], now());
    assert_eq!(sent(&alone), ["m1 Lm1", "e1 Le1 returned", "e2 Le2 returned"]);
    let window = alone.calls[0].window;
    assert_eq!((window.start, window.end), (ago(5), ago(0)));
    // Whoever else is in the call: the same, under ids that cannot collide.
    let other = as_written(vec![stat("m1", true)]);
    let shared = plan(&[&query, &other], now());
    assert_eq!(sent(&shared), ["m0 Lm1 returned", "g0_e1 Le1 returned", "g0_e2 Le2 returned"]);
    assert_eq!(shared.calls[0].members[0].answer, 1);
}

#[test]
fn a_bucket_is_asked_for_when_it_has_settled() {
    let query = as_written(vec![stat("m1", true)]);
    let beat = dispatch(&query).beat.unwrap();
    let due = beat.after(now(), Duration::from_mins(1));
    assert_eq!(due.to_string(), "2026-11-21T12:00:30.5Z");
    let strict = CloudWatchQuery { manner: Manner::Strict, ..query.clone() };
    let key = |query| dispatch(query).batch.unwrap().key;
    assert_ne!(key(&query), key(&strict));
}

#[test]
fn the_first_returned_query_gives_the_number() {
    let query = as_written(vec![stat("m1", false), math("e1", "m1*2"), math("e2", "m1*3")]);
    let two = result("e2", "Le2", &[(ago(1), 30.0)]);
    // Its operand is not returned, and its place in the answer means nothing.
    let one = result("e1", "Le1", &[(ago(0), f64::NAN), (ago(1), 20.0), (ago(2), 19.0)]);
    let expected = "{} 20 at 2026-11-21T11:59:00Z, 60 s old []";
    for results in [vec![one.clone(), two.clone()], vec![two.clone(), one]] {
        assert_eq!(shown(&query, vec![page(results)]), expected);
    }
    // No data is that of the first, whatever the second has.
    let text = shown(&query, vec![page(vec![result("e1", "", &[]), two.clone()])]);
    assert!(text.starts_with("no_data: "), "{text}");
    let text = shown(&query, vec![page(vec![two])]);
    assert_eq!(text, "malformed: CloudWatch in eu-west-1: the answer has no result for it");
}

#[test]
fn of_several_series_the_first_that_goes_on_is_served() {
    let query = as_written(vec![math("s", "SEARCH('{N,D} x', 'Sum', 60)")]);
    let ended = result("s", "a", &[(ago(5), 1.0)]);
    let empty = result("s", "b", &[]);
    let (one, other) = (result("s", "c", &[(ago(1), 2.0)]), result("s", "c", &[(ago(1), 3.0)]));
    assert_eq!(
        shown(&query, vec![page(vec![ended, empty, one.clone(), other])]),
        "{} 2 at 2026-11-21T11:59:00Z, 60 s old [\"the query gives 2 series, and the first of them is served\"]"
    );
    let expected = "{} 2 at 2026-11-21T11:59:00Z, 60 s old []";
    assert_eq!(shown(&query, vec![page(vec![one])]), expected);
    let text = shown(&query, vec![page(Vec::new())]);
    assert!(text.starts_with("no_data: "), "{text}");
}

#[test]
fn what_failed_in_part_is_no_number() {
    let query = as_written(vec![stat("m1", true)]);
    for (status, kind) in [
        (StatusCode::PartialData, "partial: "),
        (StatusCode::InternalError, "unavailable: "),
        (StatusCode::Forbidden, "denied: "),
    ] {
        for points in [&[(ago(1), 5.0)][..], &[]] {
            let mut result = result("m1", "", points);
            result.status_code = Some(status.clone());
            let text = shown(&query, vec![page(vec![result])]);
            assert!(text.starts_with(kind), "{text}");
        }
    }
}
