//! The metrics as a page: search, filter, sort.

use maud::{Markup, html};

use super::shell::{self, Frame, Pages, Reload, Search, Tab, Tile, badge, clip, human};
use super::view::{Sort, View};
use super::{MetricRow, MetricState, chart};
use crate::model::Tick;

/// Labels that a cell shows.
const MAX_LABELS: usize = 12;

/// The columns: words, and what a click on them sorts by.
const COLUMNS: [(&str, Option<Sort>, bool); 8] = [
    ("Metric", Some(Sort::Name), false),
    ("State", Some(Sort::State), false),
    ("Value", Some(Sort::Value), true),
    ("Age", Some(Sort::Age), true),
    ("Last hour", None, false),
    ("Source and query", Some(Sort::Source), false),
    ("Used by", Some(Sort::Use), true),
    ("Last read", Some(Sort::Read), true),
];

/// Renders the page. `now` is the moment of the look.
pub(super) fn render(view: &View, now: Tick, ready: bool) -> String {
    let paused = view.filter.paused;
    let frame = Frame {
        title: title(view),
        tab: Tab::Metrics,
        reload: Some(Reload { paused, other: view.link(|f| f.paused = !paused) }),
        ready,
        json: Some(format!("/api/metrics{}", view.filter.to_query())),
    };
    let body = html! {
        h1 { "Metrics" }
        (states(view, true))
        (search(view))
        (unused(view))
        (table(view, now))
        (pages(view))
    };
    shell::render(&frame, &body)
}

fn title(view: &View) -> String {
    match view.troubled() {
        0 => "Metrics".to_owned(),
        troubled => format!("({troubled}) Metrics"),
    }
}

pub(super) fn meaning(state: MetricState) -> &'static str {
    match state {
        MetricState::Fresh => "The latest refresh succeeded",
        MetricState::Servable => "The last good value is served; a newer one is due or failed",
        MetricState::Failed => "No value can be served: the latest read failed",
        MetricState::Expired => "No value can be served: the last good one is older than maxAge",
        MetricState::Waiting => "The first read has not ended yet",
        MetricState::Idle => "Nobody reads it and no HPA refers to it, so it is not refreshed",
    }
}

/// The metrics by state; each count leads to the page that lists them. `here` says that this is it.
pub(super) fn states(view: &View, here: bool) -> Markup {
    let path = Tab::Metrics.path();
    let all = Tile {
        count: view.states.iter().map(|(_, count)| count).sum(),
        word: "metrics",
        class: "",
        meaning: "All metrics that match",
        link: format!("{path}{}", view.link(|f| f.state = None)),
        current: here && view.filter.state.is_none(),
    };
    let tile = |(state, count): &(MetricState, usize)| Tile {
        count: *count,
        word: state.as_str(),
        class: state.as_str(),
        meaning: meaning(*state),
        link: format!("{path}{}", view.link(|f| f.state = Some(*state))),
        current: here && view.filter.state == Some(*state),
    };
    let all: Vec<Tile> = std::iter::once(all).chain(view.states.iter().map(tile)).collect();
    shell::tiles("Metrics by state", &all)
}

fn search(view: &View) -> Markup {
    let filter = &view.filter;
    let mut kept = Vec::new();
    if let Some(state) = filter.state {
        kept.push(("state", state.as_str().to_owned()));
    }
    if filter.sort != Sort::Name || filter.descending {
        kept.push(("sort", filter.sort_text()));
    }
    if filter.unused {
        kept.push(("unused", "yes".to_owned()));
    }
    if filter.paused {
        kept.push(("refresh", "off".to_owned()));
    }
    shell::search(&Search {
        action: Tab::Metrics.path(),
        text: &filter.text,
        placeholder: "name, label, source, query, error",
        namespace: &filter.namespace,
        namespaces: &view.namespaces,
        kept,
        filtered: filter.is_narrow(),
    })
}

fn unused(view: &View) -> Markup {
    html! {
        @if view.apart > 0 {
            p.sub {
                (view.apart) " set apart: refused by the upstream or failing again and again, asked "
                "less often until it answers"
            }
        }
        @if view.unused > 0 || view.filter.unused {
            p.sub {
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

fn table(view: &View, now: Tick) -> Markup {
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
            (shell::scroll("Metrics", &html! {
                table.metrics {
                    caption.hidden { "Metrics, their values and where they come from" }
                    thead { tr {
                        @for (words, sort, number) in COLUMNS { (column(view, words, sort, number)) }
                    } }
                    @for row in &view.rows { (metric(row, now)) }
                }
            }))
        }
    }
}

fn column(view: &View, words: &str, sort: Option<Sort>, number: bool) -> Markup {
    let filter = &view.filter;
    let sorted = sort == Some(filter.sort);
    let order = sorted.then_some(if filter.descending { "descending" } else { "ascending" });
    html! {
        th scope="col" class=[number.then_some("number")] aria-sort=[order] {
            @match sort {
                None => (words),
                Some(sort) => a href=(view.link(|f| {
                    f.descending = if sorted { !filter.descending } else { sort.starts_descending() };
                    f.sort = sort;
                })) {
                    (words)
                    @if sorted { span.arrow aria-hidden="true" { @if filter.descending { " ▼" } @else { " ▲" } } }
                },
            }
        }
    }
}

fn metric(row: &MetricRow, now: Tick) -> Markup {
    let columns = COLUMNS.len();
    html! {
        tbody {
            tr class=[row.last_error.is_some().then_some("with-error")] {
                th scope="row" {
                    a.name href=(row.link()) { (clip(&row.metric)) }
                    div.sub { (clip(&row.scope)) }
                    (labels(row))
                }
                td { (badge(row.state.as_str(), row.state.as_str(), meaning(row.state))) }
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
                td { (chart::sparkline(&row.roots.recent(now), row.refresh)) }
                td.wide {
                    div { (row.source) " " span.sub { (row.source_kind) ", every " (human(row.refresh)) } }
                    code.query { (clip(&row.query)) }
                    @for note in row.notes.iter().take(MAX_LABELS) { div.sub { (clip(note)) } }
                }
                td.number {
                    @match row.hpas {
                        0 => span.sub { "no HPA" },
                        1 => "1 HPA",
                        hpas => { (hpas) " HPAs" },
                    }
                    @if row.unused { div { (badge("idle", "unused", "No HPA asks for it, and nobody has read it within an hour")) } }
                }
                td.number {
                    @match row.last_read_age {
                        Some(age) => { (human(age)) " ago" },
                        None => span.sub { "never" },
                    }
                    @if !row.wanted { div.sub { "not refreshed" } }
                }
            }
            @if let Some(error) = &row.last_error {
                tr class={ "error " (row.state.as_str()) } {
                    td colspan=(columns) {
                        strong { "error " @if let Some(age) = row.last_error_age { (human(age)) " ago" } ": " }
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

/// The labels of a row, bounded.
pub(super) fn labels(row: &MetricRow) -> Markup {
    html! {
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
}

fn pages(view: &View) -> Markup {
    let View { matching, total, pages, .. } = *view;
    let at = Pages { matching, total, page: view.filter.page, last: pages };
    shell::pager("metrics", &at, |page| view.link(|f| f.page = page))
}
