use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: QueryArgs,
}

fn args(words: &[&str]) -> QueryArgs {
    Line::try_parse_from([&["query"], words].concat()).unwrap_or_else(|e| panic!("{e}")).args
}

fn paths(words: &[&str]) -> Vec<String> {
    let args = args(words);
    let asked = Asked::read(&args).unwrap();
    let namespace = match &asked {
        Asked::Objects { namespaced: false, .. } => None,
        _ => Some("shop"),
    };
    asked.paths(namespace, &args, "v1beta2")
}

#[test]
fn paths_are_those_of_the_hpa_controller() {
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop";
    let custom = "/apis/custom.metrics.k8s.io/v1beta2";
    assert_eq!(paths(&["depth"]), [format!("{external}/depth")]);
    assert_eq!(paths(&["external/depth"]), [format!("{external}/depth")]);
    assert_eq!(
        paths(&["depth", "-l", "queue in (a,b),!c"]),
        [format!("{external}/depth?labelSelector=%21c%2Cqueue%20in%20%28a%2Cb%29")]
    );
    assert_eq!(
        paths(&["pods/http_requests", "-l", "app=web", "--metric-selector", "verb=GET"]),
        [format!(
            "{custom}/namespaces/shop/pods/*/http_requests?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET"
        )]
    );
    assert_eq!(
        paths(&["ingresses.networking.k8s.io/hits", "--name", "a", "--name", "b c"]),
        ["a", "b%20c"].map(|name| format!(
            "{custom}/namespaces/shop/ingresses.networking.k8s.io/{name}/hits"
        ))
    );
    assert_eq!(paths(&["nodes/load", "--name", "n"]), [format!("{custom}/nodes/n/load")]);
    assert_eq!(paths(&["namespaces/load"]), [format!("{custom}/namespaces/shop/metrics/load")]);
    // What is in no list of ours is taken for namespaced, as most are.
    assert_eq!(
        paths(&["gadgets.example.com/x"])[0],
        format!("{custom}/namespaces/shop/gadgets.example.com/*/x")
    );
}

#[test]
fn what_is_no_metric_is_refused() {
    for words in [
        &["/x"][..],
        &["pods/"],
        &["a/b/c"],
        &["depth", "--name", "a"],
        &["depth", "--metric-selector", "a=b"],
    ] {
        let refusal = Asked::read(&args(words)).err();
        assert!(matches!(refusal, Some(Refusal::Usage(_))), "{words:?}");
    }
}

fn report(values: &[&str]) -> Report {
    Report {
        server: "https://c:6443".to_owned(),
        context: Some("kind".to_owned()),
        metric: "depth".to_owned(),
        namespace: Some("shop".to_owned()),
        selector: "queue=a".to_owned(),
        requests: vec!["/apis/x".to_owned()],
        dry_run: false,
        value: None,
        items: values
            .iter()
            .map(|value| Item {
                object: None,
                labels: [("queue".to_owned(), "a".to_owned())].into(),
                timestamp: None,
                age_seconds: Some(2.5),
                value: (*value).to_owned(),
            })
            .collect(),
        error: None,
    }
}

#[test]
fn values_come_to_what_an_hpa_takes() {
    let external = Asked::External("depth".to_owned());
    let objects = Asked::read(&args(&["pods/x"])).unwrap();
    let sum = |values: &[&str], asked: &Asked| {
        let mut report = report(values);
        report.sum(asked).map(|()| report.value)
    };
    assert_eq!(sum(&["1500m", "2", "1k"], &external), Ok(Some("1003500m".to_owned())));
    assert_eq!(sum(&["1", "2"], &objects), Ok(Some("1500m".to_owned())));
    assert!(sum(&["1", "much"], &external).is_err());
    // Nothing is not zero.
    assert_eq!(sum(&[], &external), Ok(None));
}

#[test]
fn the_table_says_who_what_and_what_to_do() {
    let mut good = report(&["1500m", "2"]);
    good.sum(&Asked::External("depth".to_owned())).unwrap();
    let text = "\
Server       https://c:6443, context kind
Metric       depth
Reader       namespace shop, selector queue=a
Request      GET /apis/x

Item         1500m {queue=a}, 2.5s old
Item             2 {queue=a}, 2.5s old
Result       3500m, the sum of 2 items
";
    assert_eq!(render(&good, false, false), text);
    let mut bad = report(&[]);
    bad.error = Some(Failure {
        code: 403,
        reason: "Forbidden".to_owned(),
        message: "may\u{1b}[2J not".to_owned(),
        advice: vec!["ask".to_owned(), "again".to_owned()],
    });
    let plain = render(&bad, false, false);
    let end = "\
Result       no value: HTTP 403 Forbidden
             may [2J not
Do           ask
             again
";
    assert!(plain.ends_with(end), "{plain}");
    // Colours add codes and change nothing else; nothing of a stranger's gets through.
    let coloured = render(&bad, false, true);
    assert!(coloured.contains("\u{1b}[1mServer\u{1b}[0m       https"), "{coloured:?}");
    assert!(coloured.contains("\u{1b}[1;31mno value: HTTP 403"), "{coloured:?}");
    let without = ["\u{1b}[1m", "\u{1b}[0m", "\u{1b}[1;31m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(without, plain);
}
