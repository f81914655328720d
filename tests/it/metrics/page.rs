//! `deploy/metrics.md` is what a scrape says. `TIDEPOLE_WRITE_PAGES=1 cargo test --test it metrics`
//! writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::everything::{Families, almost_nothing, everything};
use super::vocabulary::{FREE, PARTS, Part};
use crate::support::openmetrics::Family;

const HEAD: &str = "\
# Metrics

What `/metrics` on the admin listener tells, in the OpenMetrics format. A test scrapes a server with
every part on and compares it with this page, so a name, type, label or meaning that is not here is
not there either. In queries a counter's name is the one below (it ends in `_total`), and a
histogram has the series `_bucket`, `_sum` and `_count`. Labels that list their values have these
from the start, at zero.

[alerts/](alerts/) and [grafana/](grafana/) use nothing but these.
";

/// The page's place.
pub(super) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/metrics.md")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_a_scrape_says() {
    let (all, few) = (everything().await, almost_nothing().await);
    for name in few.keys() {
        assert!(all.contains_key(name), "{name} is missing when every part is on");
    }
    let page = render(&all, &few);
    if std::env::var_os("TIDEPOLE_WRITE_PAGES").is_some() {
        fs::write(path(), &page).expect("the page can be written");
    }
    let known = fs::read_to_string(path()).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (said, true_) = (lines(&known), lines(&page));
    let odd: Vec<_> = said.difference(&true_).map(|line| format!("- {line}")).collect();
    let missing: Vec<_> = true_.difference(&said).map(|line| format!("+ {line}")).collect();
    assert!(
        known == page,
        "deploy/metrics.md is not what a scrape says; TIDEPOLE_WRITE_PAGES=1 writes it anew\n{}\n{}",
        odd.join("\n"),
        missing.join("\n")
    );
}

fn render(all: &Families, few: &Families) -> String {
    let mut left: BTreeMap<&str, &Family> =
        all.iter().map(|(name, family)| (name.as_str(), family)).collect();
    let mut page = HEAD.to_owned();
    for part in PARTS {
        let mine: Vec<&str> = left
            .keys()
            .copied()
            .filter(|name| part.prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        assert!(!mine.is_empty(), "nothing belongs to {}", part.title);
        let _ = write!(
            page,
            "\n## {}\n\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n",
            part.title
        );
        for name in mine {
            let family = left.remove(name).expect("it was listed");
            page.push_str(&row(part, name, family, few.contains_key(name)));
        }
    }
    assert!(left.is_empty(), "no part has {:?}", left.keys());
    page
}

fn row(part: &Part, name: &str, family: &Family, always: bool) -> String {
    let suffix = match family.kind.as_str() {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let mut help = family.help.trim_end_matches('.').replace('|', "\\|").replace('<', "\\<");
    if !always {
        assert!(!part.when.is_empty(), "{name}: nobody says when it is there");
        let _ = write!(help, " ({})", part.when);
    }
    let unit = unit(name, &family.kind);
    format!("| `{name}{suffix}` | {} | {unit} | {} | {help} |\n", family.kind, labels(name, family))
}

/// By the end of the name, as `OpenMetrics` wants it.
fn unit(name: &str, kind: &str) -> &'static str {
    let units = [
        ("_timestamp_seconds", "seconds since 1970"),
        ("process_start_time_seconds", "seconds since 1970"),
        ("_calls_per_second", "calls per second"),
        ("_dollars_per_month", "US dollars per month"),
        ("_seconds", "seconds"),
        ("_bytes", "bytes"),
        ("upstream_response_bytes", "bytes"),
    ];
    match units.iter().find(|(end, _)| name.ends_with(end)) {
        Some((_, unit)) => unit,
        None if kind == "info" => "",
        None => "count",
    }
}

fn labels(name: &str, family: &Family) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (label, value) in family.samples.iter().flat_map(|sample| &sample.labels) {
        values.entry(label).or_default().insert(value);
    }
    let shown = values.into_iter().map(|(label, values)| {
        // The longest beginning knows best.
        let free = FREE
            .iter()
            .filter(|free| free.label == label && name.starts_with(free.family))
            .max_by_key(|free| free.family.len());
        match free {
            Some(free) => format!("`{label}`: {}", free.values),
            None if label == "le" => bounds(&values),
            None => {
                let words: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                format!("`{label}`: {}", words.join(", "))
            }
        }
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// The buckets of a histogram.
fn bounds(values: &BTreeSet<&str>) -> String {
    let mut bounds: Vec<f64> = values
        .iter()
        .filter_map(|bound| bound.parse().ok())
        .filter(|b: &f64| b.is_finite())
        .collect();
    bounds.sort_by(f64::total_cmp);
    let (first, mut last) = (bounds[0], bounds[bounds.len() - 1]);
    if last > 1.0 {
        last = last.round();
    }
    format!("`le`: {} bounds, {first} to {last}, `+Inf`", bounds.len())
}
