//! One metric: what it said within the hour, what defines it, what its upstream is asked, what it costs.

use std::time::Duration;

use maud::{Markup, html};

use super::recent::{Mark, gaps};
use super::shell::{self, Frame, Reload, Tab, badge, clip, figure, human};
use super::{MetricRow, SourceCost, chart, list};
use crate::model::{Exchange, Tick};

/// HPAs that are named; the rest is counted.
pub const MAX_HPAS: usize = 50;

/// Characters of a request that are shown.
const MAX_REQUEST: usize = 16_384;

/// What is known of a metric beyond its row.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Its definition in effect, field by field; empty for a metric of a rule.
    pub definition: Vec<(&'static str, String)>,
    /// The definitions that ask the same query, in words; empty for a metric of a rule.
    pub asked_by: String,
    /// The calls that a fetch of it alone takes; none where the source cannot tell.
    pub requests: Option<Vec<Exchange>>,
    /// What its fetches cost; none where they are not billed.
    pub cost: Option<SourceCost>,
    /// The HPAs that ask for it (`namespace/name`), bounded by [`MAX_HPAS`]; none where that is not
    /// known.
    pub hpas: Option<Vec<String>>,
    /// How many they are in all.
    pub hpas_total: usize,
}

/// Renders the page.
pub(super) fn render(
    row: &MetricRow,
    detail: &Detail,
    now: Tick,
    paused: bool,
    ready: bool,
) -> String {
    let link = row.link();
    let other = if paused { link } else { format!("{link}&refresh=off") };
    let frame = Frame {
        title: row.metric.clone(),
        tab: Tab::Metrics,
        reload: Some(Reload { paused, other }),
        ready,
        json: None,
    };
    let marks = row.roots.recent(now);
    let body = html! {
        p.sub { a href=(Tab::Metrics.path()) { "Metrics" } " / " (clip(&row.scope)) }
        h1 { (clip(&row.metric)) " " (badge(row.state.as_str(), row.state.as_str(), list::meaning(row.state))) }
        (list::labels(row))
        @if let Some(error) = &row.last_error {
            p.notice {
                strong { "Error" @if let Some(age) = row.last_error_age { " " (human(age)) " ago" } ": " }
                (error)
                @if let Some(pause) = row.apart { " Set apart: asked again in " (human(pause)) "." }
            }
        }
        (figures(row))
        (hour(row, &marks))
        div.columns {
            (definition(row, detail))
            div { (users(row, detail)) (cost(row, detail)) }
        }
        (requests(detail))
    };
    shell::render(&frame, &body)
}

/// The page of a metric that is not there.
pub(super) fn missing(ready: bool) -> String {
    let frame = Frame {
        title: "No such metric".to_owned(),
        tab: Tab::Metrics,
        reload: None,
        ready,
        json: None,
    };
    let body = html! {
        h1 { "No such metric" }
        p.empty {
            "Its definition may have gone, or nobody has read it lately. "
            a href=(Tab::Metrics.path()) { "All metrics" }
        }
    };
    shell::render(&frame, &body)
}

fn figures(row: &MetricRow) -> Markup {
    html! {
        dl.figures {
            div { dt { "Value" } dd { (row.value.as_deref().map_or_else(|| "none".to_owned(), clip)) } }
            div { dt { "Age" } dd { (row.sample_age.map_or_else(|| "–".to_owned(), human)) } dd.sub { "served up to " (human(row.max_age)) } }
            div { dt { "Refreshed" } dd { @if row.wanted { "every " (human(row.refresh)) } @else { "not now" } } dd.sub { (row.upstream_reads) " reads upstream" @if let Some(metrics) = row.metrics_requested { ", " (metrics) " metrics requested" } } }
            div { dt { "Last read" } dd { (row.last_read_age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", human(age)))) } }
            @if let Some(timestamp) = row.timestamp {
                div { dt { "Sampled at" } dd.small { (timestamp.strftime("%H:%M:%S UTC")) } dd.sub { (timestamp.strftime("%Y-%m-%d")) } }
            }
        }
        @for note in &row.notes { p.sub { (clip(note)) } }
    }
}

fn hour(row: &MetricRow, marks: &[Mark]) -> Markup {
    let on_no_data = row.roots.on_no_data();
    let gaps = gaps(marks, row.max_age, &on_no_data);
    let several = marks.iter().any(|mark| mark.series.is_some_and(|series| series != 1))
        && marks.iter().all(|mark| mark.value.is_none());
    html! {
        section {
            h2 { "Last hour" }
            @if marks.is_empty() {
                p.empty {
                    "Nothing is kept yet: the history starts with the first answer, ends when nobody "
                    "wants the metric, and is kept of 10,000 queries at most."
                }
            } @else {
                @if several {
                    p.sub { "The answer has several series, and nothing folds them into one number: there is no line." }
                }
                div.card {
                    (chart::chart(marks, &gaps, row.refresh))
                    p.legend {
                        span { span.key.line {} "value" }
                        span { span.key.cross { "×" } "a fetch failed" }
                        span { span.key.gap {} "no value was served" }
                    }
                }
                details {
                    summary { "As a table" }
                    (shell::scroll("Values of the last hour", &html! { table.dense {
                        caption.hidden { "Values of the last hour, newest first" }
                        thead { tr {
                            th.number scope="col" { "Ago" } th.number scope="col" { "Value" }
                            th.number scope="col" { "Age then" } th scope="col" { "Failure" }
                        } }
                        tbody { @for mark in marks.iter().rev() { tr {
                            th.number scope="row" { (human(mark.ago)) }
                            td.number { @match (mark.value, mark.series) {
                                (Some(value), _) => (value),
                                (None, Some(series)) => { (series) " series" },
                                (None, None) => "–",
                            } }
                            td.number { @if mark.series.is_some() { (human(mark.age)) } @else { "–" } }
                            td { @if let Some(trouble) = mark.trouble { (trouble) } }
                        } } }
                    } }))
                }
            }
        }
    }
}

fn definition(row: &MetricRow, detail: &Detail) -> Markup {
    html! {
        section {
            h2 { "Definition" }
            dl.facts-list {
                dt { "document" } dd { (row.definition) }
                dt { "read from" } dd { (row.origin) }
                dt { "source" } dd { (row.source) " (" (row.source_kind) ")" }
                dt { "query" } dd { code { (row.query) } }
                @for (name, value) in &detail.definition { dt { (name) } dd { (value) } }
                @if !detail.asked_by.is_empty() { dt { "query asked by" } dd { (detail.asked_by) } }
            }
        }
    }
}

fn users(row: &MetricRow, detail: &Detail) -> Markup {
    html! {
        section {
            h2 { "Used by" }
            @match &detail.hpas {
                Some(hpas) if hpas.is_empty() => p { "No HPA asks for it." },
                Some(hpas) => ul.plain {
                    @for hpa in hpas { li { (hpa) } }
                    @if detail.hpas_total > hpas.len() { li.sub { "and " (detail.hpas_total - hpas.len()) " more" } }
                },
                None => p {
                    @match row.hpas { 0 => "No HPA that is known of.", 1 => "1 HPA.", hpas => { (hpas) " HPAs." } }
                },
            }
            @if row.unused { p { (badge("idle", "unused", "")) " nobody has read it within an hour" } }
        }
    }
}

fn cost(row: &MetricRow, detail: &Detail) -> Markup {
    html! {
        section {
            h2 { "Cost" }
            @match &detail.cost {
                None => p { "Its source bills no reads." },
                Some(cost) => {
                    @let about = if cost.is_open_ended { "At least " } else { "About " };
                    p {
                        (about) (figure(cost.dollars_per_month)) " USD a month while it is refreshed"
                        @if !row.wanted { ", which it is not now" } "."
                    }
                    p.sub {
                        @if cost.metrics_per_minute > 0.0 { (figure(cost.metrics_per_minute)) " CloudWatch metrics a minute" }
                        @else { (figure(cost.requests_per_minute)) " SQS requests a minute" }
                        ", for all definitions with this query together"
                    }
                }
            }
        }
    }
}

fn requests(detail: &Detail) -> Markup {
    html! {
        section {
            h2 { "Upstream request" }
            @match &detail.requests {
                None => p.sub { "It cannot be told without asking: nobody wants the metric, or its source is simulated." },
                Some(requests) => {
                    p.sub { "What a fetch of this query alone would send now. Nothing was sent for this page." }
                    @for request in requests {
                        div.card {
                            p { strong { (clip(&request.operation)) } " " span.sub { (clip(&request.target)) } }
                            pre tabindex="0" { code { (body(&request.request)) } }
                        }
                    }
                }
            }
        }
    }
}

fn body(request: &serde_json::Value) -> String {
    let text = serde_json::to_string_pretty(request).unwrap_or_default();
    match text.char_indices().nth(MAX_REQUEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How long the requests of a metric are waited for: they come from memory, where objects are known.
pub const PREVIEW_WAIT: Duration = Duration::from_secs(1);
