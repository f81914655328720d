//! Metric math: the tables and examples of the service's user guide.

use aws_sdk_cloudwatch::types::MetricDataQuery;

use super::{NOON, ask, client, expression, fake, points, stat};
use crate::support::upstream::cloudwatch::{CloudWatch, Metric};

/// A series of the last minutes, oldest first; `None` where there is no value.
fn series(fake: &CloudWatch, name: &str, values: &[Option<f64>]) -> Metric {
    let metric = Metric::new("Test", name);
    let first = NOON - 60 * i64::try_from(values.len()).expect("few");
    for (at, value) in (first..).step_by(60).zip(values) {
        if let Some(value) = value {
            fake.put(&metric, at, *value);
        }
    }
    metric
}

/// Reads `30 - 20`: a dash is no value.
fn values(text: &str) -> Vec<Option<f64>> {
    text.split(' ').map(|v| (v != "-").then(|| v.parse().expect("a number"))).collect()
}

fn shown(minutes: usize, found: &[(i64, f64)]) -> String {
    let minutes = i64::try_from(minutes).expect("few");
    let at = |minute| found.iter().find(|(at, _)| *at == minute).map(|(_, value)| *value);
    let all = (-minutes..0).map(|minute| at(minute).map_or("-".to_owned(), |v| v.to_string()));
    all.collect::<Vec<_>>().join(" ")
}

/// Evaluates an expression over `m1`, `m2`, ... of five minutes; the series of the result, or why
/// there is none.
async fn math(text: &str, inputs: &[&str]) -> Result<Vec<String>, String> {
    let fake = fake();
    let mut queries: Vec<MetricDataQuery> = Vec::new();
    let mut minutes = 0;
    for (i, input) in inputs.iter().enumerate() {
        let values = values(input);
        minutes = minutes.max(values.len());
        let name = format!("m{}", i + 1);
        let metric = series(&fake, &name, &values);
        let mut query = stat(&name, &metric, "Sum");
        query.return_data = Some(false);
        queries.push(query);
    }
    queries.push(expression("e", text));
    let window = i64::try_from(minutes).expect("few");
    let answer = ask(&client(&fake), window, queries).await.map_err(|(code, message)| {
        assert_eq!(code, "ValidationError", "{message}");
        message
    })?;
    let results = answer.metric_data_results().iter();
    Ok(results.map(|result| shown(minutes, &points(result))).collect())
}

async fn one(text: &str, inputs: &[&str]) -> String {
    let mut all = math(text, inputs).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(all.len(), 1, "{text}: {all:?}");
    all.remove(0)
}

#[tokio::test]
async fn arithmetic_binds_as_usual_and_gaps_are_zero() {
    for (text, result) in [
        ("m1+m2", "30 - 5 7 3"),
        ("m1-m2*2", "30 - 5 4 -3"),
        ("(m1-m2)*2", "60 - 10 10 -2"),
        ("-m1^2", "-900 - -25 -36 -1"),
        ("2^3^2+0*m1", "512 - 512 512 512"),
        ("100*m1/m2", "- - - 600 50"),
        ("m1 / PERIOD(m1) * 60", "30 - 5 6 1"),
        ("7 - 2 - 1 + 0*m2", "- - - 4 4"),
        ("m1 > 5", "1 - 0 1 0"),
        ("m1 >= 5 AND m2 < 2", "0 - 0 1 0"),
        ("m1 == 6 || m2 == 2", "0 - 0 1 1"),
        ("m1 != 5 && 1 < 2", "1 - 0 1 1"),
    ] {
        assert_eq!(one(text, &["30 - 5 6 1", "- - - 1 2"]).await, result, "{text}");
    }
}

#[tokio::test]
async fn aggregates_are_scalars_of_one_series_and_a_series_of_several() {
    let inputs = ["1 2 - 4 5", "10 - - 40 0"];
    for (text, result) in [
        ("m1 - MIN(m1)", "0 1 - 3 4"),
        ("m1/SUM(m1)*12", "1 2 - 4 5"),
        ("TIME_SERIES(MAX(m1))", "5 5 5 5 5"),
        ("m1 * AVG(m1)", "3 6 - 12 15"),
        ("SUM(METRICS())", "11 2 - 44 5"),
        ("AVG([m1, m2])", "5.5 1 - 22 2.5"),
        ("MAX(METRICS())", "10 2 - 40 5"),
        ("MIN([m1,m2])", "1 2 - 4 0"),
        ("SUM(METRICS(\"2\"))", "10 - - 40 0"),
        ("m1/METRIC_COUNT(METRICS())", "0.5 1 - 2 2.5"),
        ("SUM(100/[m1, m2])", "110 50 - 27.5 20"),
        ("SUM(-[m1, m2])", "-11 -2 - -44 -5"),
        ("FIRST(SORT(METRICS(), AVG, DESC))", "10 - - 40 0"),
        ("SUM(SLICE(METRICS(), 1))", "10 - - 40 0"),
        ("m1 * DATAPOINT_COUNT(m1)", "4 8 - 16 20"),
        ("RUNNING_SUM(m1)", "1 3 - 7 12"),
    ] {
        assert_eq!(one(text, &inputs).await, result, "{text}");
    }
    let all = math("METRICS()*10", &inputs).await.expect("an array");
    assert_eq!(all, ["10 20 - 40 50", "100 - - 400 0"]);
}

#[tokio::test]
async fn gaps_are_filled_and_differences_taken() {
    for (text, result) in [
        ("FILL(m1, 0)", "0 2 0 0 8 0"),
        ("FILL(m1, REPEAT)", "- 2 2 2 8 8"),
        ("FILL(m1, LINEAR)", "- 2 4 6 8 -"),
        ("FILL(m1, m2)", "9 2 9 9 8 9"),
        ("FILL(m1, MAX(m1))", "8 2 8 8 8 8"),
        ("DIFF(m1)", "- - - - 6 -"),
        ("DIFF_TIME(m1)", "- - - - 180 -"),
        ("RATE(m1) * 30", "- - - - 1 -"),
        ("ABS(m1 - 5)", "- 3 - - 3 -"),
        ("CEIL(m1/5)", "- 1 - - 2 -"),
        ("FLOOR(m1/5)", "- 0 - - 1 -"),
    ] {
        assert_eq!(one(text, &["- 2 - - 8 -", "9 9 9 9 9 9"]).await, result, "{text}");
    }
}

/// The tables of "Using IF expressions".
#[tokio::test]
async fn conditions_choose() {
    let inputs = ["1 1 0 0 -", "30 - 0 0 30", "0 0 20 - 20"];
    for (text, result) in [
        ("IF(m1, m2, m3)", "30 0 20 - -"),
        ("IF(m1, 5, m3)", "5 5 20 - -"),
        ("IF(m1, m2, 5)", "30 0 5 5 -"),
        ("IF(m1, m2)", "30 0 - - -"),
        ("IF(0, m2, m3)", "0 0 20 - 20"),
        ("IF(m3 > 10, 1, 2)", "2 2 1 - 1"),
    ] {
        assert_eq!(one(text, &inputs).await, result, "{text}");
    }
}

#[tokio::test]
async fn what_is_no_expression_is_refused() {
    for (text, why) in [
        ("m1+", "Error in expression 'e': Unexpected end of the expression"),
        ("(m1", "Error in expression 'e': Expected ')', got None"),
        ("m1 m1", "Error in expression 'e': Unexpected Name(\"m1\")"),
        ("m1 % 2", "Error in expression 'e': Invalid syntax: unexpected '%'"),
        ("m1 + other", "Error in expression 'e': Undefined variable 'other'"),
        ("e + 1", "Error in expression 'e': The expression refers to itself"),
        ("BLUR(m1)", "Error in expression 'e': Function 'BLUR' not found"),
        (
            "m1 + 'text'",
            "Error in expression 'e': Unsupported operand type(s) for +: '[TimeSeries, String]'",
        ),
        ("SUM(m1)", "Error in expression 'e': The result must be a time series, not a Scalar"),
        (
            "METRICS()/METRICS()",
            "Error in expression 'e': Unsupported operand type(s) for /: '[Array[TimeSeries], Array[TimeSeries]]'",
        ),
        ("FILL(m1)", "Error in expression 'e': The number of arguments of FILL is wrong: 1"),
        (
            "PERIOD(m1+1)*m1",
            "Error in expression 'e': Unsupported argument type(s) for PERIOD: '[TimeSeries]'",
        ),
    ] {
        assert_eq!(math(text, &["1 2"]).await, Err(why.to_owned()), "{text}");
    }
    let deep = "(".repeat(10_000 / 10) + "m1";
    let refused = math(&deep, &["1"]).await.expect_err("too deep");
    assert_eq!(refused, "Error in expression 'e': The expression is too complex");
}

#[tokio::test]
async fn expressions_build_on_each_other_and_say_what_they_dropped() {
    let fake = fake();
    let m1 = series(&fake, "m1", &[Some(1.0), Some(2.0)]);
    let m2 = series(&fake, "m2", &[Some(0.0), Some(4.0)]);
    let mut inner = expression("inner", "m1/m2");
    inner.return_data = Some(false);
    let mut outer = expression("outer", "inner*100");
    outer.label = Some("share".to_owned());
    let queries = vec![outer, inner, stat("m1", &m1, "Sum"), stat("m2", &m2, "Sum")];
    let answer = ask(&client(&fake), 2, queries).await.expect("an answer");
    let results = answer.metric_data_results();
    let ids: Vec<&str> = results.iter().filter_map(|r| r.id()).collect();
    assert_eq!(ids, ["outer", "m1", "m2"]);
    assert_eq!((points(&results[0]), results[0].label()), (vec![(-1, 50.0)], Some("share")));
    assert_eq!(results[0].messages()[0].code(), Some("ArithmeticError"));
    assert_eq!(results[1].label(), Some("m1"));
    assert_eq!(fake.metrics_requested(), 2);
}
