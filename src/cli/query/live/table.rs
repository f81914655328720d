//! What a running server says, for people.

use std::time::Duration;

use super::Report;
use crate::cli::query::table::{Ink, Text, after_space, millis};
use crate::lookup::message::show;

/// Items shown, unless all are wanted.
const MAX_ROWS: usize = 20;

/// The text, with every item when `full`.
pub(in crate::cli::query) fn render(report: &Report, full: bool, colours: bool) -> String {
    let mut text = Text::new(colours);
    let rows = if full { usize::MAX } else { MAX_ROWS };
    let context = report.context.as_ref().map(|name| format!(", context {name}"));
    text.line("Server", &format!("{}{}", report.server, context.unwrap_or_default()));
    text.line("Metric", &report.metric);
    let reader = match &report.namespace {
        Some(namespace) => format!("namespace {namespace}"),
        None => "the whole cluster".to_owned(),
    };
    let selector = match report.selector.as_str() {
        "" => String::new(),
        selector => format!(", selector {selector}"),
    };
    text.line("Reader", &format!("{reader}{selector}"));
    for path in &report.requests {
        text.line("Request", &format!("GET {path}"));
    }
    text.gap();
    let width = report.items.iter().take(rows).map(|item| item.value.chars().count()).max();
    for item in report.items.iter().take(rows) {
        let value = format!("{:>1$}", item.value, width.unwrap_or(0));
        let object = item.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        let age = item
            .age_seconds
            .map(|age| format!(", {} old", show(Duration::from_millis(millis(age)))));
        let labels = after_space(&item.labels);
        text.line("Item", &format!("{value}{object}{labels}{}", age.unwrap_or_default()));
    }
    text.more(report.items.len(), rows);
    if let Some(value) = &report.value {
        let of = match (report.items.len(), report.metric.contains('/')) {
            (1, _) => String::new(),
            (count, true) => format!(", the average over {count} objects"),
            (count, false) => format!(", the sum of {count} items"),
        };
        text.inked("Result", &format!("{value}{of}"), Ink::Good);
    } else if let Some(error) = &report.error {
        let reason = match error.reason.as_str() {
            "" => String::new(),
            reason => format!(" {reason}"),
        };
        text.inked("Result", &format!("no value: HTTP {}{reason}", error.code), Ink::Bad);
        text.line("", &error.message);
        for (i, advice) in error.advice.iter().enumerate() {
            text.line(if i == 0 { "Do" } else { "" }, advice);
        }
    } else {
        text.line("Result", "dry run: nothing was sent");
    }
    text.end_text()
}
