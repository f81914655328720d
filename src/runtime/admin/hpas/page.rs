//! The HPAs as a page, in the style of the status page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Ask, Hpa, HpasView, Prospect};
use crate::control::hpa_watch::WatchState;
use crate::model::{Miss, ObjectReference, ReferenceKind};
use crate::runtime::admin::page::{ICON, RELOAD_SECONDS, STYLE, clip};

/// Definitions that a cell names.
const MAX_NAMED: usize = 3;

/// Renders the page.
pub(in crate::runtime::admin) fn render(view: &HpasView) -> String {
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
                title { "HPAs – Tidepole" }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { a href="/" { img src=(ICON) alt="" width="28" height="28"; "Tidepole" } }
                    p.facts { a href="/" { "metrics" } " · HPAs · "
                        @if view.filter.paused {
                            "paused, " a href=(view.link(|f| f.paused = false)) { "resume" }
                        } @else {
                            "reloads every " (RELOAD_SECONDS) " s, "
                            a href=(view.link(|f| f.paused = true)) { "pause" }
                        }
                    }
                }
                main {
                    (watch(view))
                    (states(view))
                    (filter_form(view))
                    (table(view))
                    (pager(view))
                }
                footer {
                    a href={ "/api/hpas" (view.filter.to_query()) } { "this page as JSON" } " · "
                    a href="/metrics" { "metrics" }
                }
            }
        }
    }
    .into_string()
}

/// Why the HPAs are not known, where they are not.
fn watch(view: &HpasView) -> Markup {
    html! {
        @match view.watch.as_ref().map(|report| &report.state) {
            None => p.notice { "This server runs without a cluster, so it knows of no HPAs." },
            Some(WatchState::Starting) => p.notice {
                "The cluster's HPAs have not been listed yet."
            },
            Some(WatchState::Up) => {},
            Some(WatchState::Down(cause)) => p.notice {
                "HPAs cannot be watched; these are those that were seen last. " (clip(cause))
            },
        }
    }
}

/// The class by which the style colours a state.
fn class(prospect: Prospect) -> &'static str {
    match prospect {
        Prospect::Unknown | Prospect::NoMatch | Prospect::NoValue => "failed",
        Prospect::Waiting => "waiting",
        Prospect::Served => "fresh",
    }
}

fn words(prospect: Prospect) -> &'static str {
    match prospect {
        Prospect::Unknown => "unknown",
        Prospect::NoMatch => "no match",
        Prospect::NoValue => "no value",
        Prospect::Waiting => "waiting",
        Prospect::Served => "served",
    }
}

fn meaning(prospect: Prospect) -> &'static str {
    match prospect {
        Prospect::Unknown => "No metric of this name is served in the HPA's namespace",
        Prospect::NoMatch => "The metric is known, and none of its series or objects is meant",
        Prospect::NoValue => "The metric is known, and there is no value that may be served",
        Prospect::Waiting => "Nobody has asked for it yet",
        Prospect::Served => "The HPA gets a number",
    }
}

fn states(view: &HpasView) -> Markup {
    let all: usize = view.states.iter().map(|(_, count)| count).sum();
    html! {
        nav.states aria-label="HPAs by what they get" {
            a.tile href=(view.link(|f| f.state = None))
                aria-current=[view.filter.state.is_none().then_some("true")] {
                strong { (all) } span { "HPAs" }
            }
            @for (state, count) in &view.states {
                a class={ "tile " (class(*state)) @if *count == 0 { " none" } }
                    href=(view.link(|f| f.state = Some(*state)))
                    aria-current=[(view.filter.state == Some(*state)).then_some("true")]
                    title=(meaning(*state)) {
                    strong { (count) } span { (words(*state)) }
                }
            }
        }
    }
}

fn filter_form(view: &HpasView) -> Markup {
    let filter = &view.filter;
    html! {
        form.filter method="get" action="/hpas" role="search" {
            label { span { "Search" }
                input type="search" name="q" value=(filter.text) placeholder="HPA, metric";
            }
            label { span { "Namespace" }
                input type="search" name="namespace" value=(filter.namespace) placeholder="all";
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

fn table(view: &HpasView) -> Markup {
    html! {
        @if view.hpas.is_empty() {
            p.empty {
                @if view.total == 0 {
                    "No HPA asks for external, Pods or Object metrics."
                } @else {
                    "No HPA matches this filter."
                }
            }
        } @else {
            div.scroll {
                table {
                    caption.hidden { "HPAs" }
                    thead { tr {
                        th scope="col" { "HPA" }
                        th scope="col" { "Metric" }
                        th scope="col" { "State" }
                        th scope="col" { "What it would get" }
                        th scope="col" { "Defined by" }
                    } }
                    @for hpa in &view.hpas { (row(hpa)) }
                }
            }
        }
    }
}

fn row(hpa: &Hpa) -> Markup {
    html! {
        tbody {
            @for (at, ask) in hpa.asks.iter().enumerate() {
                tr {
                    @if at == 0 {
                        th scope="row" rowspan=(hpa.asks.len()) {
                            span.name { (hpa.name) }
                            div.sub { (hpa.namespace) }
                            @if hpa.total > hpa.asks.len() {
                                div.sub { "and " (hpa.total - hpa.asks.len()) " more metrics" }
                            }
                        }
                    }
                    (cells(ask))
                }
            }
        }
    }
}

fn cells(ask: &Ask) -> Markup {
    let (prospect, reference) = (ask.prospect(), &ask.reference);
    html! {
        td {
            code { (clip(&reference.metric)) }
            @match &reference.kind {
                ReferenceKind::External => {},
                ReferenceKind::Pods { target } => div.sub { "of the pods of " (object(target)) },
                ReferenceKind::Object { object: described } => div.sub { "of " (object(described)) },
            }
            @if !reference.selector.is_everything() {
                div.labels { code { (clip(&reference.selector.to_string())) } }
            }
        }
        td { span class={ "badge " (class(prospect)) } title=(meaning(prospect)) {
            (words(prospect))
        } }
        td {
            @match &ask.outlook.answer {
                Ok(value) => span.value { (value) },
                Err(Miss::Untried) => span.sub { "not fetched yet" },
                Err(Miss::NoMatch { message } | Miss::NoValue { message }) => { (clip(message)) },
                Err(Miss::Unknown { message, near, elsewhere }) => {
                    (clip(message))
                    @if !near.is_empty() {
                        div { "did you mean "
                            @for (at, name) in near.iter().enumerate() {
                                @if at > 0 { " or " }
                                strong { (clip(name)) }
                            }
                            "?"
                        }
                    }
                    @if !elsewhere.is_empty() {
                        div.sub { "not seen in this namespace: " (list(elsewhere)) }
                    }
                }
            }
        }
        td { (list(&ask.outlook.definitions)) }
    }
}

fn object(reference: &ObjectReference) -> String {
    let ObjectReference { kind, name, .. } = reference;
    clip(&format!("{kind} {name}"))
}

fn list(definitions: &[crate::model::DefinitionKey]) -> Markup {
    html! {
        @for (at, definition) in definitions.iter().take(MAX_NAMED).enumerate() {
            @if at > 0 { ", " }
            (clip(&definition.to_string()))
        }
        @if definitions.len() > MAX_NAMED { " and " (definitions.len() - MAX_NAMED) " more" }
    }
}

fn pager(view: &HpasView) -> Markup {
    let page = view.filter.page;
    html! {
        nav.pager aria-label="Pages" {
            span { (view.matching) " of " (view.total) " HPAs" }
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
