//! The first page: whether all is well, and if not, where to look.

use std::time::Duration;

use maud::{Markup, html};

use super::list;
use super::shell::{self, Frame, Reload, Tab, badge, clip, figure, human};
use super::view::{Bounded, SourceView, View};
use super::{MetricState, Reloaded, SourceCost};
use crate::control::hpa_watch::WatchState;
use crate::model::ProbeReport;

/// Renders the page. `checks` are those of `/readyz`; the view's rows are those in most trouble.
pub(super) fn render(view: &View, checks: &[ProbeReport], reloaded: Option<&Reloaded>) -> String {
    let ready = checks.iter().all(|check| check.failure.is_none());
    let paused = view.filter.paused;
    let frame = Frame {
        title: match view.troubled() {
            0 => String::new(),
            troubled => format!("({troubled})"),
        },
        tab: Tab::Overview,
        reload: Some(Reload {
            paused,
            other: if paused { "/".to_owned() } else { "/?refresh=off".to_owned() },
        }),
        ready,
        json: Some("/api/metrics".to_owned()),
    };
    let body = html! {
        h1 { "Overview" }
        p.sub { "Tidepole " (view.version) ", up " (human(view.uptime)) }
        (notices(view, checks))
        (list::states(view, false))
        (attention(view))
        (sources(view))
        (upstreams(view))
        div.columns {
            (watches(view, reloaded))
            (health(checks))
        }
    };
    shell::render(&frame, &body)
}

fn notices(view: &View, checks: &[ProbeReport]) -> Markup {
    html! {
        @for check in checks.iter().filter(|check| check.failure.is_some()) {
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
    }
}

/// A list of what is wrong, bounded.
pub(super) fn reports<T>(heading: &str, list: &Bounded<T>, text: impl Fn(&T) -> String) -> Markup {
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

/// The metrics that need a person first.
fn attention(view: &View) -> Markup {
    let bad = |state| matches!(state, MetricState::Failed | MetricState::Expired);
    let rows: Vec<_> = view.rows.iter().filter(|row| bad(row.state)).collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Without a value" }
                (shell::scroll("Metrics without a value", &html! { table {
                    caption.hidden { "Metrics without a value that may be served" }
                    thead { tr {
                        th scope="col" { "Metric" } th scope="col" { "State" } th scope="col" { "Why" }
                    } }
                    tbody { @for row in &rows { tr {
                        th scope="row" { a.name href=(row.link()) { (clip(&row.metric)) } div.sub { (clip(&row.scope)) } }
                        td { (badge(row.state.as_str(), row.state.as_str(), list::meaning(row.state))) }
                        td.wide {
                            (row.last_error.as_deref().map_or_else(|| "nothing newer than maxAge".to_owned(), clip))
                            @if let Some(age) = row.last_error_age { span.sub { " " (human(age)) " ago" } }
                        }
                    } } }
                } }))
                @if view.troubled() > rows.len() {
                    p.sub { a href="/browse?sort=state" { "all " (view.troubled()) } }
                }
            }
        }
    }
}

fn sources(view: &View) -> Markup {
    html! {
        section {
            h2 { "Sources" }
            @if view.sources.is_empty() {
                p.empty { "No metric is defined yet." }
            } @else {
                (shell::scroll("Sources", &html! { table {
                    caption.hidden { "Sources, what they are asked and how they do" }
                    thead { tr {
                        th scope="col" { "Source" }
                        th.number scope="col" { "Metrics" }
                        th.number scope="col" { "Refreshed" }
                        th.number scope="col" { "Queries a minute" }
                        th.number scope="col" { "In trouble" }
                        th scope="col" { "Newest error" }
                        th scope="col" { "Cost" }
                    } }
                    tbody { @for source in &view.sources { (source_row(view, source)) } }
                } }))
            }
        }
    }
}

fn source_row(view: &View, source: &SourceView) -> Markup {
    let cost = view.costs.iter().find(|cost| cost.source == source.name);
    html! { tr {
        th scope="row" { span.name { (source.name) } div.sub { (source.kinds.join(", ")) } }
        td.number { (source.metrics) }
        td.number { (source.refreshed) }
        td.number { (figure(source.queries_per_minute)) }
        td.number { @if source.troubled > 0 { strong.bad { (source.troubled) } } @else { "0" } }
        td.wide {
            @match &source.newest_error {
                Some((text, age)) => { (clip(text)) " " span.sub { (human(*age)) " ago" } },
                None => span.sub { "none" },
            }
        }
        td { @match cost { Some(cost) => (price(cost)), None => span.sub { "–" } } }
    } }
}

/// What a source costs. What a search finds is known from its answer alone, and counts as one metric.
fn price(cost: &SourceCost) -> Markup {
    let least = if cost.is_open_ended { ">= " } else { "" };
    html! {
        "about " (least) (figure(cost.dollars_per_month)) " USD a month"
        div.sub {
            (least) (figure(cost.metrics_per_minute)) " CloudWatch metrics, "
            (figure(cost.requests_per_minute)) " SQS requests a minute"
        }
    }
}

fn upstreams(view: &View) -> Markup {
    html! {
        @if !view.upstreams.shown.is_empty() {
            section {
                h2 { "Upstreams" }
                (shell::scroll("Upstreams", &html! { table {
                    caption.hidden { "Upstreams, their breakers and queues" }
                    thead { tr {
                        th scope="col" { "Upstream" }
                        th scope="col" { "Breaker" }
                        th.number scope="col" { "Running" }
                        th.number scope="col" { "Waiting" }
                        th.number scope="col" { "Overdue" }
                        th.number scope="col" { "Calls a second, at most" }
                    } }
                    tbody { @for row in &view.upstreams.shown { tr {
                        th scope="row" { span.name { (row.source) } @if !row.upstream.is_empty() { div.sub { (row.upstream) } } }
                        td { @match row.breaker {
                            Some("closed") => (badge("fresh", "closed", "Calls go through")),
                            Some("open") => (badge("failed", "open", "The upstream fails and is left alone for a while")),
                            Some(phase) => (badge("servable", phase, "One call finds out whether the upstream works again")),
                            None => span.sub { "none" },
                        } }
                        td.number { (row.running) }
                        td.number { (row.queued) }
                        td.number {
                            @if row.overdue > 0 {
                                strong.bad { (row.overdue) }
                                div.sub { "oldest " (human(Duration::try_from_secs_f64(row.lateness_seconds).unwrap_or_default())) }
                            } @else { "0" }
                        }
                        td.number { @match row.calls_per_second {
                            Some(rate) => (figure(rate)),
                            None => span.sub { "–" },
                        } }
                    } } }
                } }))
                @if view.upstreams.total > view.upstreams.shown.len() {
                    p.sub { "and " (view.upstreams.total - view.upstreams.shown.len()) " more upstreams" }
                }
            }
        }
    }
}

fn watches(view: &View, reloaded: Option<&Reloaded>) -> Markup {
    html! {
        section {
            h2 { "Watches" }
            dl.facts-list {
                dt { "Definition files" }
                dd { (files(reloaded)) }
                @if let Some(report) = &view.hpas {
                    dt { "HPAs" }
                    dd { @match &report.state {
                        WatchState::Starting => {
                            (badge("waiting", "starting", "Not listed yet"))
                            " The cluster's HPAs have not been listed yet."
                        },
                        WatchState::Up => {
                            (badge("fresh", "up", "Followed as they change")) " "
                            a href="/hpas" { (report.hpas) " HPAs" } " refer to " (report.references)
                            " metrics, " (report.known) " of which are served here and kept warm."
                        },
                        WatchState::Down(cause) => {
                            (badge("failed", "down", "They cannot be watched"))
                            " HPAs cannot be watched, so first reads wait for their upstream: "
                            (clip(cause))
                        },
                    } }
                }
                @if let Some(rules) = &view.rules {
                    dt { "Rules" }
                    dd {
                        "Rules give " (rules.custom) " metrics of objects and " (rules.external)
                        " external metrics, from " (rules.shapes) " shapes of series"
                        @if rules.skipped > 0 { " (" (rules.skipped) " of which give none)" }
                        "; those that somebody reads are among the metrics."
                        @if let Some(pending) = &rules.pending { " " (clip(pending)) "." }
                    }
                }
            }
        }
    }
}

/// What the last change of the definition files came to.
pub(super) fn files(reloaded: Option<&Reloaded>) -> Markup {
    html! {
        @match reloaded {
            None => { (badge("waiting", "not read", "They have not been read yet")) },
            Some(reloaded) => {
                @if reloaded.problems == 0 { (badge("fresh", "clean", "No mistake in any file")) }
                @else { (badge("failed", "mistakes", "What is right in the files serves all the same")) }
                " taken over " (human(reloaded.ago)) " ago: " (reloaded.entries) " definitions, "
                (reloaded.problems) @if reloaded.problems == 1 { " mistake." } @else { " mistakes." }
            },
        }
    }
}

fn health(checks: &[ProbeReport]) -> Markup {
    html! {
        section {
            h2 { "Health" }
            dl.facts-list {
                @for check in checks {
                    dt { (check.name) }
                    dd { @match &check.failure {
                        None => (badge("fresh", "ok", "The check passes")),
                        Some(why) => { (badge("failed", "failing", "The check fails")) " " (clip(why)) },
                    } }
                }
            }
        }
    }
}
