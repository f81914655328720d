//! The status page's content as JSON, for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::control::hpa_watch::{Report, WatchState};
use crate::runtime::admin::view::{RulesView, View};
use crate::runtime::admin::{MetricRow, MetricState, SourceCost, UpstreamRow};

/// `GET /api/metrics`. Durations are in seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    version: &'a str,
    uptime_seconds: f64,
    total: usize,
    matching: usize,
    page: usize,
    pages: usize,
    states: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hpa_watch: Option<HpaWatch<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Rules<'a>>,
    apart: usize,
    unused: usize,
    costs: &'a [SourceCost],
    upstreams: &'a [UpstreamRow],
    upstreams_total: usize,
    metrics: Vec<Metric<'a>>,
    problems: Vec<String>,
    problems_total: usize,
    conflicts: &'a [String],
    conflicts_total: usize,
}

/// Where rule files, their rules, and the listings of their series stand.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules<'a> {
    custom_metrics: usize,
    external_metrics: usize,
    series_shapes: usize,
    shapes_without_metric: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<&'a str>,
    file_problems: &'a [String],
    file_problems_total: usize,
    rule_problems: &'a [String],
    rule_problems_total: usize,
    failing_series_queries: &'a [String],
    failing_series_queries_total: usize,
}

#[derive(Serialize)]
struct HpaWatch<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    hpas: u64,
    references: u64,
    known: u64,
    unknown: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    #[serde(rename = "metric")]
    name: &'a str,
    scope: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    definition: &'a str,
    origin: &'a str,
    source: &'a str,
    source_kind: &'a str,
    query: &'a str,
    state: MetricState,
    value: Option<&'a str>,
    sample_age_seconds: Option<f64>,
    timestamp: Option<String>,
    notes: &'a [String],
    last_error: Option<&'a str>,
    last_error_age_seconds: Option<f64>,
    refresh_seconds: f64,
    max_age_seconds: f64,
    wanted: bool,
    last_read_age_seconds: Option<f64>,
    hpas: u32,
    unused: bool,
    upstream_reads: u64,
    metrics_requested: Option<u64>,
    apart_seconds: Option<f64>,
}

/// Renders a view.
pub(super) fn render(view: &View) -> String {
    let answer = Answer {
        version: view.version,
        uptime_seconds: view.uptime.as_secs_f64(),
        total: view.total,
        matching: view.matching,
        page: view.filter.page,
        pages: view.pages,
        states: view.states.iter().map(|(state, count)| (state.as_str(), *count)).collect(),
        hpa_watch: view.hpas.as_ref().map(hpa_watch),
        rules: view.rules.as_ref().map(rules),
        apart: view.apart,
        unused: view.unused,
        costs: &view.costs,
        upstreams: &view.upstreams.shown,
        upstreams_total: view.upstreams.total,
        metrics: view.rows.iter().map(metric).collect(),
        problems: view.problems.shown.iter().map(ToString::to_string).collect(),
        problems_total: view.problems.total,
        conflicts: &view.conflicts.shown,
        conflicts_total: view.conflicts.total,
    };
    let mut text =
        serde_json::to_string_pretty(&answer).expect("string keys and finite numbers are JSON");
    text.push('\n');
    text
}

fn rules(view: &RulesView) -> Rules<'_> {
    Rules {
        custom_metrics: view.custom,
        external_metrics: view.external,
        series_shapes: view.shapes,
        shapes_without_metric: view.skipped,
        pending: view.pending.as_deref(),
        file_problems: &view.files.shown,
        file_problems_total: view.files.total,
        rule_problems: &view.rules.shown,
        rule_problems_total: view.rules.total,
        failing_series_queries: &view.listings.shown,
        failing_series_queries_total: view.listings.total,
    }
}

fn hpa_watch(report: &Report) -> HpaWatch<'_> {
    let (state, cause) = match &report.state {
        WatchState::Starting => ("starting", None),
        WatchState::Up => ("up", None),
        WatchState::Down(cause) => ("down", Some(cause.as_str())),
    };
    let Report { hpas, references, known, unknown, .. } = *report;
    HpaWatch { state, cause, hpas, references, known, unknown }
}

fn metric(row: &MetricRow) -> Metric<'_> {
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs_f64());
    Metric {
        name: &row.metric,
        scope: &row.scope,
        labels: row.labels.iter().collect(),
        definition: &row.definition,
        origin: &row.origin,
        source: &row.source,
        source_kind: row.source_kind,
        query: &row.query,
        state: row.state,
        value: row.value.as_deref(),
        sample_age_seconds: seconds(row.sample_age),
        timestamp: row.timestamp.map(|timestamp| timestamp.to_string()),
        notes: &row.notes,
        last_error: row.last_error.as_deref(),
        last_error_age_seconds: seconds(row.last_error_age),
        refresh_seconds: row.refresh.as_secs_f64(),
        max_age_seconds: row.max_age.as_secs_f64(),
        wanted: row.wanted,
        last_read_age_seconds: seconds(row.last_read_age),
        hpas: row.hpas,
        unused: row.unused,
        upstream_reads: row.upstream_reads,
        metrics_requested: row.metrics_requested,
        apart_seconds: seconds(row.apart),
    }
}
