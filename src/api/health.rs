//! Texts of the health endpoints, as Go's API servers write them.
//!
//! Pure: checks in, text out. The API listener and the admin listener both use it; they differ in
//! whether a failing check says why ([`Reasons`]). The status is chosen by
//! [`crate::status::of_health`] and by the admin listener.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::api::params::pairs;
use crate::model::{Probe, ProbeReport};

/// Most unknown names of checks that are named back, and how much of each: an echo of a long
/// query helps nobody.
const MAX_ECHOED: usize = 10;
const MAX_ECHOED_CHARS: usize = 60;

/// What a health endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthText {
    /// Whether every check that was not excluded passes.
    pub passed: bool,
    /// The text.
    pub text: String,
}

/// Whether the list of checks says why one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasons {
    /// No: anonymous clients may ask. [`render_check`] tells, as in Go.
    Withheld,
    /// Yes: the clients are operators.
    Shown,
}

/// What a health endpoint is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthQuery {
    /// `?verbose`: list the checks even when all pass.
    pub verbose: bool,
    /// `?exclude=<name>`, repeatable.
    pub excludes: Vec<String>,
}

impl HealthQuery {
    /// Reads the query of a request target.
    #[must_use]
    pub fn read(query: Option<&str>) -> Self {
        let mut read = Self::default();
        for (key, value) in pairs(query.unwrap_or_default()) {
            match &*key {
                "verbose" => read.verbose = true,
                "exclude" => read.excludes.push(value.into_owned()),
                _ => {}
            }
        }
        read
    }
}

/// The answer of a health endpoint. A failure is always verbose.
#[must_use]
pub fn render(
    probe: Probe,
    reports: &[ProbeReport],
    query: &HealthQuery,
    reasons: Reasons,
) -> HealthText {
    let name = probe.as_str();
    let mut excludes: BTreeSet<&str> = query.excludes.iter().map(String::as_str).collect();
    let mut text = String::new();
    let mut passed = true;
    for report in reports {
        // Writing to a String cannot fail.
        let _ = if excludes.remove(report.name) {
            writeln!(text, "[+]{} excluded: ok", report.name)
        } else if let Some(reason) = &report.failure {
            passed = false;
            match reasons {
                Reasons::Withheld => writeln!(text, "[-]{} failed: reason withheld", report.name),
                Reasons::Shown => {
                    writeln!(text, "[-]{} failed: {}", report.name, one_line(reason))
                }
            }
        } else {
            writeln!(text, "[+]{} ok", report.name)
        };
    }
    if !excludes.is_empty() {
        let echo =
            |name: &&str| format!("{:?}", name.chars().take(MAX_ECHOED_CHARS).collect::<String>());
        let unknown: Vec<String> = excludes.iter().take(MAX_ECHOED).map(echo).collect();
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {}",
            unknown.join(",")
        );
    }
    if !passed {
        let _ = writeln!(text, "{name} check failed");
    } else if query.verbose {
        let _ = writeln!(text, "{name} check passed");
    } else {
        "ok".clone_into(&mut text);
    }
    HealthText { passed, text }
}

/// The answer of a single check (`/readyz/<name>`), with the reason; `None` when there is no such
/// check.
#[must_use]
pub fn render_check(reports: &[ProbeReport], name: &str) -> Option<HealthText> {
    let report = reports.iter().find(|r| r.name == name)?;
    Some(match &report.failure {
        None => HealthText { passed: true, text: "ok".to_owned() },
        Some(why) => HealthText {
            passed: false,
            text: format!("internal server error: {}\n", one_line(why)),
        },
    })
}

/// A reason must not look like the next check.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(failure: Option<&str>) -> Vec<ProbeReport> {
        vec![
            ProbeReport { name: "ping", failure: None },
            ProbeReport { name: "first-refresh", failure: failure.map(str::to_owned) },
        ]
    }

    fn shown(query: &str, failure: Option<&str>) -> (bool, String) {
        texts(query, failure, Reasons::Withheld)
    }

    fn texts(query: &str, failure: Option<&str>, reasons: Reasons) -> (bool, String) {
        let query = HealthQuery::read(Some(query));
        let answer = render(Probe::Ready, &reports(failure), &query, reasons);
        (answer.passed, answer.text)
    }

    #[test]
    fn operators_see_why_on_one_line() {
        let text = "[+]ping ok\n[-]first-refresh failed: 3 of 7 queries\nreadyz check failed\n";
        assert_eq!(texts("", Some("3 of 7\nqueries"), Reasons::Shown), (false, text.to_owned()));
        assert_eq!(texts("exclude=first-refresh", Some("x"), Reasons::Shown), (true, "ok".into()));
    }

    #[test]
    fn a_check_that_does_not_exist_cannot_be_excluded() {
        let expected = "[+]ping ok\n[+]first-refresh ok\n\
            warn: some health checks cannot be excluded: no matches for \"a\",\"b c\"\n\
            readyz check passed\n";
        assert_eq!(shown("verbose=1&exclude=b+c&exclude=a", None), (true, expected.to_owned()));
        let many = (0..50)
            .fold("verbose".to_owned(), |all, i| format!("{all}&exclude={i}{}", "x".repeat(500)));
        assert!(shown(&many, None).1.len() < 1000);
    }

    #[test]
    fn c75_texts_of_health_endpoints() {
        assert_eq!(shown("", None), (true, "ok".into()));
        assert_eq!(
            shown("verbose", None),
            (true, "[+]ping ok\n[+]first-refresh ok\nreadyz check passed\n".into())
        );
        let failed = "[+]ping ok\n[-]first-refresh failed: reason withheld\nreadyz check failed\n";
        assert_eq!(shown("", Some("still waiting")), (false, failed.into()));
        assert_eq!(shown("exclude=first-refresh", Some("still waiting")), (true, "ok".into()));
        assert_eq!(
            shown("verbose=1&exclude=first-refresh&exclude=b&exclude=a%20", Some("x")),
            (
                true,
                "[+]ping ok\n[+]first-refresh excluded: ok\nwarn: some health checks cannot be \
                 excluded: no matches for \"a \",\"b\"\nreadyz check passed\n"
                    .into()
            )
        );
    }

    #[test]
    fn c75_single_checks() {
        let reports = reports(Some("still waiting"));
        assert_eq!(
            render_check(&reports, "ping"),
            Some(HealthText { passed: true, text: "ok".into() })
        );
        assert_eq!(
            render_check(&reports, "first-refresh"),
            Some(HealthText {
                passed: false,
                text: "internal server error: still waiting\n".into()
            })
        );
        assert_eq!(render_check(&reports, "nope"), None);
        let answer = render_check(&self::reports(Some("a\nb")), "first-refresh").unwrap();
        assert_eq!(answer.text, "internal server error: a b\n");
    }
}
