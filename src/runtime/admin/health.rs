//! The texts of the health endpoints, as Kubernetes' own API servers write them, with one
//! difference: this listener is for operators, so a failing check says why.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::model::{Probe, ProbeReport};

/// A health answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) passed: bool,
    pub(super) text: String,
}

/// Renders all checks of an endpoint. `query` is the raw query: `verbose` lists the checks,
/// `exclude=<name>` (repeatable) leaves one out. A failure is always verbose.
pub(super) fn render(probe: Probe, reports: &[ProbeReport], query: &str) -> Answer {
    let mut verbose = false;
    let mut excluded = BTreeSet::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "verbose" => verbose = true,
            "exclude" => drop(excluded.insert(value.into_owned())),
            _ => {}
        }
    }
    let (mut list, mut passed) = (String::new(), true);
    for report in reports {
        let name = report.name;
        if excluded.remove(name) {
            line(&mut list, format_args!("[+]{name} excluded: ok"));
            continue;
        }
        match &report.failure {
            None => line(&mut list, format_args!("[+]{name} ok")),
            Some(reason) => {
                passed = false;
                line(&mut list, format_args!("[-]{name} failed: {}", one_line(reason)));
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> =
            excluded.iter().take(10).map(|name| format!("{:?}", clip(name))).collect();
        let names = names.join(", ");
        line(
            &mut list,
            format_args!("warn: some health checks cannot be excluded: no matches for {names}"),
        );
    }
    let text = match (passed, verbose) {
        (true, false) => "ok".to_owned(),
        (true, true) => format!("{list}{} check passed\n", probe.as_str()),
        (false, _) => format!("{list}{} check failed\n", probe.as_str()),
    };
    Answer { passed, text }
}

/// Renders one check; `None` when there is none of that name.
pub(super) fn render_one(reports: &[ProbeReport], name: &str) -> Option<Answer> {
    let report = reports.iter().find(|report| report.name == name)?;
    Some(match &report.failure {
        None => Answer { passed: true, text: "ok".to_owned() },
        Some(reason) => {
            Answer { passed: false, text: format!("internal server error: {}\n", one_line(reason)) }
        }
    })
}

fn line(list: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(list, "{text}").expect("writing to a String cannot fail");
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Names come from the request; an echo of a long one helps nobody.
fn clip(name: &str) -> String {
    name.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(failure: Option<&str>) -> [ProbeReport; 2] {
        [
            ProbeReport { name: "ping", failure: None },
            ProbeReport { name: "first-refresh", failure: failure.map(str::to_owned) },
        ]
    }

    fn text(failure: Option<&str>, query: &str) -> (bool, String) {
        let answer = render(Probe::Ready, &reports(failure), query);
        (answer.passed, answer.text)
    }

    #[test]
    fn a_pass_is_ok_and_lists_the_checks_when_asked() {
        assert_eq!(text(None, ""), (true, "ok".to_owned()));
        assert_eq!(
            text(None, "verbose&exclude=ping"),
            (true, "[+]ping excluded: ok\n[+]first-refresh ok\nreadyz check passed\n".to_owned())
        );
    }

    #[test]
    fn a_failure_is_always_verbose_and_says_why() {
        assert_eq!(
            text(Some("3 of 7\nqueries"), ""),
            (
                false,
                "[+]ping ok\n[-]first-refresh failed: 3 of 7 queries\nreadyz check failed\n"
                    .to_owned()
            )
        );
        assert_eq!(text(Some("x"), "exclude=first-refresh"), (true, "ok".to_owned()));
    }

    #[test]
    fn a_check_that_does_not_exist_cannot_be_excluded() {
        let expected = "[+]ping ok\n[+]first-refresh ok\n\
            warn: some health checks cannot be excluded: no matches for \"a\", \"b c\"\n\
            readyz check passed\n";
        assert_eq!(text(None, "verbose=1&exclude=b+c&exclude=a"), (true, expected.to_owned()));
    }

    #[test]
    fn one_check_alone() {
        let answer = render_one(&reports(Some("late")), "first-refresh").unwrap();
        assert_eq!(answer.text, "internal server error: late\n");
        assert!(!answer.passed);
        assert_eq!(render_one(&reports(None), "ping").unwrap().text, "ok");
        assert_eq!(render_one(&reports(None), "pong"), None);
    }
}
