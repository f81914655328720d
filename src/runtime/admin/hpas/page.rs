//! The HPAs as a page.

use maud::{Markup, html};

use super::{Ask, Hpa, HpasView, Prospect};
use crate::control::hpa_watch::WatchState;
use crate::model::{Miss, ObjectReference, ReferenceKind};
use crate::runtime::admin::shell::{self, Frame, Pages, Reload, Search, Tab, Tile, clip};

/// Definitions that a cell names.
const MAX_NAMED: usize = 3;

/// Renders the page.
pub(in crate::runtime::admin) fn render(view: &HpasView, ready: bool) -> String {
    let paused = view.filter.paused;
    let frame = Frame {
        title: "HPAs".to_owned(),
        tab: Tab::Hpas,
        reload: Some(Reload { paused, other: view.link(|f| f.paused = !paused) }),
        ready,
        json: Some(format!("/api/hpas{}", view.filter.to_query())),
    };
    let body = html! {
        h1 { "HPAs" }
        (watch(view))
        (states(view))
        (filter_form(view))
        (table(view))
        (pages(view))
    };
    shell::render(&frame, &body)
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
    let all = Tile {
        count: view.states.iter().map(|(_, count)| count).sum(),
        word: "HPAs",
        class: "",
        meaning: "All that ask for metrics",
        link: view.link(|f| f.state = None),
        current: view.filter.state.is_none(),
    };
    let tile = |(state, count): &(Prospect, usize)| Tile {
        count: *count,
        word: words(*state),
        class: class(*state),
        meaning: meaning(*state),
        link: view.link(|f| f.state = Some(*state)),
        current: view.filter.state == Some(*state),
    };
    let all: Vec<Tile> = std::iter::once(all).chain(view.states.iter().map(tile)).collect();
    shell::tiles("HPAs by what they get", &all)
}

fn filter_form(view: &HpasView) -> Markup {
    let filter = &view.filter;
    let state = filter.state.map(|state| ("state", state.as_str().to_owned()));
    let paused = filter.paused.then(|| ("refresh", "off".to_owned()));
    shell::search(&Search {
        action: Tab::Hpas.path(),
        text: &filter.text,
        placeholder: "HPA, metric",
        namespace: &filter.namespace,
        namespaces: &[],
        kept: state.into_iter().chain(paused).collect(),
        filtered: !filter.text.is_empty() || !filter.namespace.is_empty() || filter.state.is_some(),
    })
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
            (shell::scroll("HPAs", &html! {
                table {
                    caption.hidden { "HPAs, what they ask for and what they would get" }
                    thead { tr {
                        th scope="col" { "HPA" }
                        th scope="col" { "Metric" }
                        th scope="col" { "State" }
                        th scope="col" { "What it would get" }
                        th scope="col" { "Defined by" }
                    } }
                    @for hpa in &view.hpas { (row(hpa)) }
                }
            }))
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
        td { (shell::badge(class(prospect), words(prospect), meaning(prospect))) }
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

fn pages(view: &HpasView) -> Markup {
    let HpasView { matching, total, pages, .. } = *view;
    let at = Pages { matching, total, page: view.filter.page, last: pages };
    shell::pager("HPAs", &at, |page| view.link(|f| f.page = page))
}
