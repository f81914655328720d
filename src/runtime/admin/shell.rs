//! What all pages have in common: the frame, the way around, filters, tiles, and pages of a table.
//!
//! Invariants: a page loads its own script and nothing else, works without it, and can change nothing;
//! a state is told by a word, and by a colour only beside it.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

/// The style of all pages; inline, so that it is there with the first byte.
const STYLE: &str = include_str!("style.css");

/// The script of all pages: it takes over a new state in place.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Where the script is.
pub(super) const SCRIPT_PATH: &str = "/page.js";

/// Wave on a disc, as a data URL: the one image.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' fill='%230f766e'/%3E%3Cpath d='M5 19c4 0 4-6 7.300-6s3.700 6 7.300 6 3.700-6 7.400-6' fill='none' stroke='white' stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E";

/// How often a page looks again, in seconds: the default refresh interval of a metric.
const RELOAD_SECONDS: u32 = 15;

/// Longest query or error that a cell shows, in characters; the JSON has the whole.
const MAX_CELL: usize = 400;

/// No script but our own, no frame, no form target elsewhere, and exactly one style: the one whose
/// hash this is.
pub(super) static CONTENT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; script-src 'self'; connect-src 'self'; \
         img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and the words above are visible ASCII")
});

/// The pages that the navigation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Metrics,
    Hpas,
    Configuration,
}

impl Tab {
    const ALL: [Self; 4] = [Self::Overview, Self::Metrics, Self::Hpas, Self::Configuration];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Metrics => "/browse",
            Self::Hpas => "/hpas",
            Self::Configuration => "/config",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Metrics => "Metrics",
            Self::Hpas => "HPAs",
            Self::Configuration => "Configuration",
        }
    }
}

/// Whether a page looks again by itself, and the link to the same page that does the opposite.
pub(super) struct Reload {
    pub(super) paused: bool,
    pub(super) other: String,
}

/// What the frame of a page says.
pub(super) struct Frame {
    /// In the window's title, before the product's name; empty for the first page.
    pub(super) title: String,
    pub(super) tab: Tab,
    /// None where there is nothing to look at again.
    pub(super) reload: Option<Reload>,
    /// Whether the server is ready.
    pub(super) ready: bool,
    /// The same as JSON.
    pub(super) json: Option<String>,
}

/// A whole page.
pub(super) fn render(frame: &Frame, body: &Markup) -> String {
    let running = frame.reload.as_ref().is_some_and(|reload| !reload.paused);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if running {
                    noscript { meta http-equiv="refresh" content=(RELOAD_SECONDS); }
                    script src=(SCRIPT_PATH) defer {}
                }
                title { @if !frame.title.is_empty() { (frame.title) " – " } "Tidepole" }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body data-reload=[running.then_some(RELOAD_SECONDS)] {
                a.skip href="#content" { "Skip to the content" }
                (header(frame))
                main id="content" tabindex="-1" { (body) }
                (footer(frame))
            }
        }
    }
    .into_string()
}

fn header(frame: &Frame) -> Markup {
    html! {
        header {
            a.brand href="/" { img src=(ICON) alt="" width="26" height="26"; "Tidepole" }
            nav.tabs aria-label="Pages" {
                @for tab in Tab::ALL {
                    a href=(tab.path()) aria-current=[(tab == frame.tab).then_some("page")] { (tab.words()) }
                }
            }
            p.facts {
                span id="ready" {
                    @if frame.ready { (badge("fresh", "ready", "Every check of /readyz passes")) }
                    @else { (badge("failed", "not ready", "A check of /readyz fails")) }
                }
                @if let Some(reload) = &frame.reload {
                    @if reload.paused {
                        span { "paused " } a href=(reload.other) { "resume" }
                    } @else {
                        span id="reload" { "every " (RELOAD_SECONDS) " s " }
                        a href=(reload.other) { "pause" }
                    }
                }
            }
        }
    }
}

fn footer(frame: &Frame) -> Markup {
    html! {
        footer {
            @if let Some(json) = &frame.json { a href=(json) { "this page as JSON" } " · " }
            a href="/metrics" { "OpenMetrics" } " · "
            a href="/readyz?verbose" { "readyz" } " · "
            a href="/livez?verbose" { "livez" }
        }
    }
}

/// A state: a word on its colour.
pub(super) fn badge(class: &str, word: &str, meaning: &str) -> Markup {
    html! { span class={ "badge " (class) } title=(meaning) { (word) } }
}

/// A count that leads to what it counts.
pub(super) struct Tile {
    pub(super) count: usize,
    pub(super) word: &'static str,
    /// The state's colour; empty for the sum of all.
    pub(super) class: &'static str,
    pub(super) meaning: &'static str,
    pub(super) link: String,
    pub(super) current: bool,
}

/// A row of tiles.
pub(super) fn tiles(label: &str, tiles: &[Tile]) -> Markup {
    html! {
        nav.states aria-label=(label) {
            @for tile in tiles {
                a class={ "tile " (tile.class) @if tile.count == 0 { " none" } } href=(tile.link)
                    aria-current=[tile.current.then_some("true")] title=(tile.meaning) {
                    strong { (tile.count) } span { (tile.word) }
                }
            }
        }
    }
}

/// A form that asks for a part of what there is.
pub(super) struct Search<'a> {
    pub(super) action: &'static str,
    pub(super) text: &'a str,
    pub(super) placeholder: &'static str,
    pub(super) namespace: &'a str,
    /// Namespaces that are suggested.
    pub(super) namespaces: &'a [String],
    /// What else the page was asked for, and is to be asked for again.
    pub(super) kept: Vec<(&'static str, String)>,
    /// Whether there is anything to clear.
    pub(super) filtered: bool,
}

/// The form.
pub(super) fn search(search: &Search<'_>) -> Markup {
    html! {
        form.filter method="get" action=(search.action) role="search" {
            label { span { "Search" }
                input type="search" name="q" value=(search.text) placeholder=(search.placeholder);
            }
            label { span { "Namespace" }
                input type="search" name="namespace" value=(search.namespace) placeholder="all" list="namespaces";
            }
            datalist id="namespaces" { @for name in search.namespaces { option value=(name) {} } }
            @for (name, value) in &search.kept { input type="hidden" name=(name) value=(value); }
            button type="submit" { "Filter" }
            @if search.filtered { a href=(search.action) { "clear" } }
        }
    }
}

/// Which part of a table a page shows.
pub(super) struct Pages {
    pub(super) matching: usize,
    pub(super) total: usize,
    /// 1-based.
    pub(super) page: usize,
    pub(super) last: usize,
}

/// The way to the other parts; `link` leads to a page.
pub(super) fn pager(what: &str, at: &Pages, link: impl Fn(usize) -> String) -> Markup {
    html! {
        nav.pager aria-label="Pages of the table" {
            span { (at.matching) " of " (at.total) " " (what) }
            @if at.last > 1 {
                @if at.page > 1 {
                    a href=(link(1)) { "first" }
                    a rel="prev" href=(link(at.page - 1)) { "← previous" }
                }
                span { "page " (at.page) " of " (at.last) }
                @if at.page < at.last {
                    a rel="next" href=(link(at.page + 1)) { "next →" }
                    a href=(link(at.last)) { "last" }
                }
            }
        }
    }
}

/// A table in a frame that scrolls by itself where the window is narrow; the keyboard reaches it.
pub(super) fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// A text that fits into a cell.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number with two digits after the point, or none where they would say nothing.
pub(super) fn figure(number: f64) -> String {
    let text = format!("{number:.2}");
    text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned)
}

/// An age in the two largest units that matter: `850ms`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub(super) fn human(age: Duration) -> String {
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
