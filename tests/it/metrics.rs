//! The text that scrapers get is valid `OpenMetrics`, and the page that describes it is true.

mod alerts;
mod everything;
mod page;
mod table;
mod vocabulary;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tidepole::telemetry::Telemetry;

use crate::support::openmetrics::parse;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    source: String,
}

#[test]
fn the_registry_writes_what_a_strict_reader_takes() {
    let telemetry = Telemetry::for_process();
    let (calls, times): (Family<Named, Counter>, Histogram) = telemetry.register(|registry| {
        let calls = Family::default();
        let times = Histogram::new(exponential_buckets(0.001, 2.0, 12));
        registry.register("upstream_calls", "Calls", calls.clone());
        registry.register("read_duration_seconds", "Time of a read", times.clone());
        (calls, times)
    });
    let odd = "a\"b\\c\nd".to_owned();
    calls.get_or_create(&Named { source: odd.clone() }).inc_by(3);
    times.observe(0.004);
    times.observe(60.0);
    let families = parse(&telemetry.encode()).unwrap();
    let calls = &families["tidepole_upstream_calls"];
    assert_eq!(calls.kind, "counter");
    assert_eq!((calls.samples[0].value, &calls.samples[0].labels["source"]), (3.0, &odd));
    assert_eq!(families["tidepole_read_duration_seconds"].samples.len(), 15);
    assert_eq!(families["process_cpu_seconds"].kind, "counter");
    assert!(families["process_resident_memory_bytes"].samples[0].value > 1e5);
    assert!(families["process_start_time_seconds"].samples[0].value > 1.6e9);
    let version = &families["tidepole_build"].samples[0];
    assert_eq!((version.name.as_str(), version.value), ("tidepole_build_info", 1.0));
    assert_eq!(version.labels["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_strict_reader_refuses() {
    let head = "# HELP a A.\n# TYPE a counter\n";
    let histogram = "# HELP a A.\n# TYPE a histogram\n";
    for (text, what) in [
        (format!("{head}a_total 1\n"), "# EOF"),
        (format!("{head}a_total 1\n# EOF"), "# EOF"),
        (format!("{head}a 1\n# EOF\n"), "must not have the suffix"),
        (format!("{head}a_total -1\n# EOF\n"), "from zero up"),
        (format!("{head}a_total 1\na_total 2\n# EOF\n"), "twice"),
        (format!("{head}a_total{{x=\"1\",}} 1\n# EOF\n"), "followed by a label"),
        (format!("{head}a_total{{x=\"1 1\n# EOF\n"), "no end"),
        (format!("{head}a_total{{1x=\"1\"}} 1\n# EOF\n"), "not a label name"),
        (format!("{head}a_total one\n# EOF\n"), "not a number"),
        (format!("{head}\na_total 1\n# EOF\n"), "neither"),
        ("# TYPE a_total counter\n# EOF\n".to_owned(), "has no _total"),
        ("# TYPE a gauge\na 1\n# EOF\n".to_owned(), "belong to every family"),
        ("a 1\n# EOF\n".to_owned(), "without a descriptor"),
        (
            format!("{head}a_total 1\n# HELP b B.\n# TYPE b gauge\nb 1\n# HELP a A.\n# EOF\n"),
            "together",
        ),
        (
            format!(
                "{histogram}a_bucket{{le=\"1.0\"}} 2\na_bucket{{le=\"+Inf\"}} 1\na_count 1\n# EOF\n"
            ),
            "do not rise",
        ),
        (format!("{histogram}a_bucket{{le=\"1.0\"}} 1\na_count 1\n# EOF\n"), "do not rise"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(what), "{error:?} does not say {what:?}");
    }
}
