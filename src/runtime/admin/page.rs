//! The status page: server-rendered, without a script, readable in a text browser.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::control::hpa_watch::WatchState;
use crate::model::ProbeReport;
use crate::runtime::admin::view::{Bounded, View};
use crate::runtime::admin::{MetricRow, MetricState, SourceCost};

/// The page's whole style; inline, so that nothing is loaded.
pub(super) const STYLE: &str = include_str!("style.css");

/// Wave on a disc, as a data URL: the one image.
pub(super) const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' fill='%230f766e'/%3E%3Cpath d='M5 19c4 0 4-6 7.300-6s3.700 6 7.300 6 3.700-6 7.400-6' fill='none' stroke='white' stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E";

/// How often the page reloads itself, in seconds: the default refresh interval of a metric.
pub(super) const RELOAD_SECONDS: u32 = 15;

/// Longest query or error that a cell shows, in characters; the JSON has the whole.
const MAX_CELL: usize = 400;
/// Labels that a cell shows.
const MAX_LABELS: usize = 12;

/// No script, no frame, no form target elsewhere, and exactly one style: the one whose hash this is.
pub(super) static CONTENT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and the words above are visible ASCII")
});

/// Renders the page. `checks` are those of `/readyz`.
pub(super) fn render(view: &View, checks: &[ProbeReport]) -> String {
    let failing: Vec<&ProbeReport> = checks.iter().filter(|c| c.failure.is_some()).collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if !view.filter.paused {
                    meta http-equiv="refresh" content=(RELOAD_SECONDS);
                }
                title { (title(view)) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(view, &failing))
                main {
                    @for check in &failing {
                        p.notice { strong { "Not ready: " (check.name) } " "
                            (clip(check.failure.as_deref().unwrap_or_default())) }
                    }
                    (reports("Definitions with mistakes", &view.problems, ToString::to_string))
                    (reports("Conflicting definitions", &view.conflicts, Clone::clone))
                    @if let Some(rules) = &view.rules {
                        (reports("Rule files with mistakes", &rules.files, Clone::clone))
                        (reports("Rules that give no metrics, or fewer than they might", &rules.rules, Clone::clone))
                        (reports("Series that cannot be listed; those found last stay", &rules.listings, Clone::clone))
                    }
                    (states(view))
                    (hpas(view))
                    (rules(view))
                    (apart(view))
                    (unused(view))
                    (filter_form(view))
                    (table(view))
                    (pager(view))
                    (upstreams(view))
                    (costs(view))
                }
                (footer(view))
            }
        }
    }
    .into_string()
}

fn title(view: &View) -> String {
    let bad = count(view, MetricState::Failed) + count(view, MetricState::Expired);
    if bad == 0 { "Tidepole".to_owned() } else { format!("({bad}) Tidepole") }
}

fn count(view: &View, state: MetricState) -> usize {
    view.states.iter().find(|(s, _)| *s == state).map_or(0, |(_, count)| *count)
}

fn header(view: &View, failing: &[&ProbeReport]) -> Markup {
    html! {
        header {
            h1 { a href="?" { img src=(ICON) alt="" width="28" height="28"; "Tidepole" } }
            @if failing.is_empty() {
                span.badge.fresh { "ready" }
            } @else {
                span.badge.failed { "not ready" }
            }
            p.facts {
                "version " (view.version) " · up " (human(view.uptime)) " · "
                @if view.filter.paused {
                    "paused, " a href=(view.link(|f| f.paused = false)) { "resume" }
                } @else {
                    "reloads every " (RELOAD_SECONDS) " s, "
                    a href=(view.link(|f| f.paused = true)) { "pause" }
                }
            }
        }
    }
}

fn reports<T>(heading: &str, list: &Bounded<T>, text: impl Fn(&T) -> String) -> Markup {
    html! {
        @if list.total > 0 {
            section.notice {
                h2 { (heading) " (" (list.total) ")" }
                ul { @for item in &list.shown { li { code { (clip(&text(item))) } } } }
                @if list.total > list.shown.len() {
                    p { "and " (list.total - list.shown.len()) " more" }
                }
            }
        }
    }
}

fn states(view: &View) -> Markup {
    let all: usize = view.states.iter().map(|(_, count)| count).sum();
    html! {
        nav.states aria-label="Metrics by state" {
            a.tile href=(view.link(|f| f.state = None))
                aria-current=[view.filter.state.is_none().then_some("true")] {
                strong { (all) } span { "metrics" }
            }
            @for (state, count) in &view.states {
                a class={ "tile " (state.as_str()) @if *count == 0 { " none" } }
                    href=(view.link(|f| f.state = Some(*state)))
                    aria-current=[(view.filter.state == Some(*state)).then_some("true")]
                    title=(meaning(*state)) {
                    strong { (count) } span { (state.as_str()) }
                }
            }
        }
    }
}

fn apart(view: &View) -> Markup {
    html! {
        @if view.apart > 0 {
            p.facts {
                (view.apart) " set apart: refused by the upstream or failing again and again, asked "
                "less often until it answers"
            }
        }
    }
}

fn unused(view: &View) -> Markup {
    html! {
        @if view.unused > 0 || view.filter.unused {
            p.facts {
                (view.unused) " unused: no HPA asks for them, and nobody has read them within an hour "
                @if view.filter.unused {
                    a href=(view.link(|f| f.unused = false)) { "show all" }
                } @else {
                    a href=(view.link(|f| f.unused = true)) { "show them" }
                }
            }
        }
    }
}

fn meaning(state: MetricState) -> &'static str {
    match state {
        MetricState::Fresh => "The latest refresh succeeded",
        MetricState::Servable => "The last good value is served; a newer one is due or failed",
        MetricState::Failed => "No value can be served: the latest read failed",
        MetricState::Expired => "No value can be served: the last good one is older than maxAge",
        MetricState::Waiting => "The first read has not ended yet",
        MetricState::Idle => "Nobody reads it and no HPA refers to it, so it is not refreshed",
    }
}

/// One line about the HPAs of the cluster.
fn hpas(view: &View) -> Markup {
    html! {
        @if let Some(report) = &view.hpas {
            p.sub {
                @match &report.state {
                    WatchState::Starting => "The cluster's HPAs have not been listed yet.",
                    WatchState::Up => {
                        a href="/hpas" { (report.hpas) " HPAs" } " refer to " (report.references) " metrics, "
                        (report.known) " of which are served here and kept warm."
                    },
                    WatchState::Down(cause) => {
                        "HPAs cannot be watched, so first reads wait for their upstream: "
                        (clip(cause))
                    },
                }
            }
        }
    }
}

/// One line about the rules.
fn rules(view: &View) -> Markup {
    html! {
        @if let Some(rules) = &view.rules {
            p.sub {
                "Rules give " (rules.custom) " metrics of objects and " (rules.external)
                " external metrics, from " (rules.shapes) " shapes of series"
                @if rules.skipped > 0 { " (" (rules.skipped) " of which give none)" }
                "; those that somebody reads are listed below."
                @if let Some(pending) = &rules.pending { " " (clip(pending)) "." }
            }
        }
    }
}

fn filter_form(view: &View) -> Markup {
    let filter = &view.filter;
    html! {
        form.filter method="get" action="/" role="search" {
            label { span { "Search" }
                input type="search" name="q" value=(filter.text)
                    placeholder="name, label, source, query, error";
            }
            label { span { "Namespace" }
                input type="search" name="namespace" value=(filter.namespace)
                    placeholder="all" list="namespaces";
            }
            datalist id="namespaces" {
                @for name in &view.namespaces { option value=(name) {} }
            }
            @if let Some(state) = filter.state {
                input type="hidden" name="state" value=(state.as_str());
            }
            @if filter.paused { input type="hidden" name="refresh" value="off"; }
            button type="submit" { "Filter" }
            @if !filter.text.is_empty() || !filter.namespace.is_empty() || filter.state.is_some() {
                a href="?" { "clear" }
            }
        }
    }
}

fn table(view: &View) -> Markup {
    html! {
        @if view.rows.is_empty() {
            p.empty {
                @if view.total == 0 {
                    "No metric is defined yet. Write an ExternalMetric document into one of the "
                    "folders under " code { "definitions.paths" } "; it appears here at once."
                } @else {
                    "No metric matches this filter."
                }
            }
        } @else {
            div.scroll {
                table {
                    caption.hidden { "Metrics" }
                    thead { tr {
                        th scope="col" { "Metric" }
                        th scope="col" { "State" }
                        th.number scope="col" { "Value" }
                        th.number scope="col" { "Age" }
                        th scope="col" { "Source and query" }
                        th.number scope="col" { "Last read" }
                        th scope="col" { "Defined by" }
                    } }
                    @for row in &view.rows { (metric(row)) }
                }
            }
        }
    }
}

fn metric(row: &MetricRow) -> Markup {
    html! {
        tbody {
            tr class=[row.last_error.is_some().then_some("with-error")] {
                th scope="row" {
                    span.name { (row.metric) }
                    div.sub { (clip(&row.scope)) }
                    @if !row.labels.is_empty() {
                        div.labels {
                            @for (key, value) in row.labels.iter().take(MAX_LABELS) {
                                code { (key) "=" (clip(value)) } " "
                            }
                            @if row.labels.len() > MAX_LABELS {
                                span.sub { "and " (row.labels.len() - MAX_LABELS) " more" }
                            }
                        }
                    }
                }
                td { span class={ "badge " (row.state.as_str()) } title=(meaning(row.state)) {
                    (row.state.as_str())
                } }
                td.number { @match &row.value {
                    Some(value) => span.value { (clip(value)) },
                    None => span.sub { "none" },
                } }
                td.number title=[row.timestamp.map(|t| format!("sampled at {t}"))] {
                    @match row.sample_age {
                        Some(age) => (human(age)),
                        None => span.sub { "–" },
                    }
                    div.sub { "max " (human(row.max_age)) }
                }
                td {
                    div { (row.source) " " span.sub { (row.source_kind) ", every " (human(row.refresh)) } }
                    code.query { (clip(&row.query)) }
                    div.sub {
                        (row.upstream_reads) " reads upstream"
                        @if let Some(metrics) = row.metrics_requested {
                            ", " (metrics) " metrics requested"
                        }
                    }
                }
                td.number {
                    @match row.last_read_age {
                        Some(age) => { (human(age)) " ago" },
                        None => span.sub { "never" },
                    }
                    @if row.hpas > 0 { div.sub { (row.hpas) " HPAs" } }
                    @if row.unused { span.badge.idle { "unused" } }
                    @if !row.wanted { div.sub { "not refreshed" } }
                }
                td {
                    div { (row.definition) }
                    div.sub.origin { (row.origin) }
                    @for note in row.notes.iter().take(MAX_LABELS) { div.sub { (clip(note)) } }
                }
            }
            @if let Some(error) = &row.last_error {
                tr class={ "error " (row.state.as_str()) } {
                    td colspan="7" {
                        @if let Some(age) = row.last_error_age { strong { (human(age)) " ago" } " " }
                        (clip(error))
                        @if let Some(pause) = row.apart {
                            " · set apart, asked again in " (human(pause))
                        }
                    }
                }
            }
        }
    }
}

fn pager(view: &View) -> Markup {
    let page = view.filter.page;
    html! {
        nav.pager aria-label="Pages" {
            span { (view.matching) " of " (view.total) " metrics" }
            @if view.pages > 1 {
                @if page > 1 { a rel="prev" href=(view.link(|f| f.page = page - 1)) { "← previous" } }
                span { "page " (page) " of " (view.pages) }
                @if page < view.pages {
                    a rel="next" href=(view.link(|f| f.page = page + 1)) { "next →" }
                }
            }
        }
    }
}

fn costs(view: &View) -> Markup {
    html! {
        @for cost in &view.costs {
            p.facts {
                "source " (cost.source) ": about " (least(cost)) (figure(cost.dollars_per_month))
                " USD a month for what is refreshed now ("
                (least(cost)) (figure(cost.metrics_per_minute)) " CloudWatch metrics and "
                (figure(cost.requests_per_minute)) " SQS requests a minute)"
            }
        }
    }
}

/// What a search finds is known from its answer alone, and counts as one metric.
fn least(cost: &SourceCost) -> &'static str {
    if cost.is_open_ended { ">= " } else { "" }
}

/// One line for each upstream.
fn upstreams(view: &View) -> Markup {
    html! {
        @for row in &view.upstreams.shown {
            p.facts {
                "source " (row.source) @if !row.upstream.is_empty() { ", " (row.upstream) }
                ": " (row.running) " running, " (row.queued) " waiting"
                @if row.overdue > 0 {
                    ", " strong { (row.overdue) " overdue" } ", the oldest for "
                    (human(Duration::try_from_secs_f64(row.lateness_seconds).unwrap_or_default()))
                }
                @if let Some(rate) = row.calls_per_second {
                    "; at most " (figure(rate)) " calls a second"
                }
                @if let Some(phase) = row.breaker {
                    "; breaker " @if phase == "closed" { (phase) } @else { strong { (phase) } }
                }
            }
        }
        @if view.upstreams.total > view.upstreams.shown.len() {
            p.facts { "and " (view.upstreams.total - view.upstreams.shown.len()) " more upstreams" }
        }
    }
}

/// A number with two digits after the point, or none where they would say nothing.
fn figure(number: f64) -> String {
    let text = format!("{number:.2}");
    text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned)
}

fn footer(view: &View) -> Markup {
    html! {
        footer {
            a href={ "/api/metrics" (view.filter.to_query()) } { "this page as JSON" } " · "
            a href="/metrics" { "metrics" } " · "
            a href="/readyz?verbose" { "readyz" } " · "
            a href="/livez?verbose" { "livez" }
        }
    }
}

pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An age in the two largest units that matter: `850ms`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
fn human(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let pair = |large: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{small_unit}"),
    };
    match seconds {
        0 if age.subsec_millis() > 0 => format!("{}ms", age.subsec_millis()),
        0..60 => format!("{seconds}s"),
        60..3600 => pair(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => pair(hours, 'h', minutes, 'm'),
        _ => pair(days, 'd', hours, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let shown = [0, 850, 1_999, 60_000, 185_000, 7_800_000, 356_400_000]
            .map(|ms| human(Duration::from_millis(ms)));
        assert_eq!(shown, ["0s", "850ms", "1s", "1m", "3m 5s", "2h 10m", "4d 3h"]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "é".repeat(MAX_CELL + 1);
        assert_eq!(clip(&text).chars().count(), MAX_CELL + 1);
        assert!(clip(&text).ends_with("é…"));
        assert_eq!(clip("short"), "short");
    }
}
