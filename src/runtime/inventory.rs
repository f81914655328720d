//! What the process tells about its metrics: the status page's rows and the gauges.

mod cost;
mod detail;
mod gauges;
mod hpas;
mod ruled;
mod states;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::cache::{EntryState, Hold, OnDemand, QueryCell, View};
use crate::catalog::cells::{CellOf, cells_of};
use crate::catalog::{Catalog, Served};
use crate::control::refresher::{Phase, Upstream};
use crate::control::{Refresher, hpa_watch, rule_watch};
use crate::lookup::Lookup;
use crate::model::{
    Aggregate, Clock, DefinitionKey, Entry, Labels, Policy, Problem, Quantity, QueryTemplate,
    Sample, Scope, Source, SourceDirectory, SourceName, Tick,
};
use crate::rules::{RuleFileSettings, Rules};
use crate::runtime::admin::{
    Configuration, Detail, Foresight, Inventory, MetricRow, MetricState, Reloaded, Roots,
    SourceCost, UpstreamRow,
};
use crate::runtime::reloads::Reloads;
use crate::telemetry::Telemetry;
pub use gauges::HouseGauges;
pub use hpas::UseGauges;
use hpas::{Uses, is_unused};
pub use ruled::Ruled;
use usage::Reads;

/// How many namespaces of a scope a row names.
const MAX_NAMESPACES_SHOWN: usize = 5;

/// The catalog and the on-demand store, as people look at them.
#[derive(Clone)]
pub struct House {
    catalog: Arc<Catalog>,
    on_demand: Arc<OnDemand>,
    /// None without a cluster.
    hpas: Option<Arc<hpa_watch::Standing>>,
    sources: Arc<SourceDirectory>,
    refresher: Option<Arc<Refresher>>,
    /// Who can tell what would be sent; none: nobody.
    asked: Option<Arc<BTreeMap<SourceName, Arc<dyn Source>>>>,
    configuration: Arc<Configuration>,
    reloads: Arc<Reloads>,
    /// None without rule files.
    ruled: Option<Ruled>,
    /// None without a cluster.
    uses: Option<Arc<Uses>>,
    clock: Arc<dyn Clock>,
    started: Tick,
}

impl House {
    /// A view that starts counting its uptime now.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        on_demand: Arc<OnDemand>,
        hpas: Option<Arc<hpa_watch::Standing>>,
        sources: SourceDirectory,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let started = clock.tick();
        Self {
            catalog,
            on_demand,
            hpas,
            sources: Arc::new(sources),
            refresher: None,
            asked: None,
            configuration: Arc::default(),
            reloads: Arc::default(),
            ruled: None,
            uses: None,
            clock,
            started,
        }
    }

    /// The same, with the upstreams that this refresher calls.
    #[must_use]
    pub fn refreshed_by(self, refresher: Arc<Refresher>) -> Self {
        Self { refresher: Some(refresher), ..self }
    }

    /// The same, with sources that tell what they would send.
    #[must_use]
    pub fn asking(self, asked: BTreeMap<SourceName, Arc<dyn Source>>) -> Self {
        Self { asked: Some(Arc::new(asked)), ..self }
    }

    /// The same, with the configuration in effect and what becomes of changed files.
    #[must_use]
    pub fn configured(self, configuration: Configuration, reloads: Arc<Reloads>) -> Self {
        Self { configuration: Arc::new(configuration), reloads, ..self }
    }

    /// The same, with the metrics of these rules.
    #[must_use]
    pub fn ruled_by(self, ruled: Ruled) -> Self {
        Self { ruled: Some(ruled), ..self }
    }

    /// The same, knowing which HPAs ask for what.
    #[must_use]
    pub fn with_foresight(self, foresight: Foresight) -> Self {
        Self { uses: Some(Arc::new(Uses::new(foresight))), ..self }
    }

    /// The definitions that HPAs use, if that is known.
    fn used_by_hpas(&self) -> Option<Arc<HashSet<DefinitionKey>>> {
        let generation = self.catalog.snapshot().generation();
        self.uses.as_ref()?.definitions(generation, self.clock.tick())
    }

    fn row(&self, entry: &Arc<Entry>, scope: String, cell: Option<&Arc<QueryCell>>) -> MetricRow {
        let now = self.clock.tick();
        let mut row = MetricRow {
            metric: entry.metric.to_string(),
            scope,
            labels: entry.labels.clone(),
            definition: entry.id.to_string(),
            origin: entry.origin.to_string(),
            source: entry.query.source().to_string(),
            source_kind: match &entry.query {
                QueryTemplate::Fixed(query) => query.spec.kind(),
                QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_) => "prometheus",
            },
            query: match &entry.query {
                // Told by the cell, below.
                _ if cell.is_some() => String::new(),
                QueryTemplate::Fixed(query) => query.spec.to_string(),
                QueryTemplate::PerNamespace { query, .. } => query.to_string(),
                QueryTemplate::PerObjects(template) => template.query.to_string(),
            },
            state: MetricState::Idle,
            value: None,
            sample_age: None,
            timestamp: None,
            notes: Vec::new(),
            last_error: None,
            last_error_age: None,
            refresh: entry.policy.refresh,
            max_age: entry.policy.max_age,
            wanted: false,
            last_read_age: None,
            hpas: 0,
            unused: false,
            upstream_reads: 0,
            metrics_requested: None,
            apart: None,
            roots: Roots { cell: cell.map(Arc::clone), entry: Some(Arc::clone(entry)) },
        };
        if let QueryTemplate::Fixed(query) = &entry.query {
            row.metrics_requested = Reads::of(query, 0).metrics;
        }
        let Some(cell) = cell else { return row };
        let state = cell.state();
        follow(&mut row, cell, &state, &entry.policy, now);
        row.metrics_requested = Reads::of(cell.query(), cell.fetches()).metrics;
        match state.view(&entry.policy, now) {
            View::Chosen(number, no_data) => {
                let value = Quantity::from_decimal(number).to_string();
                row.notes =
                    vec![format!("there is no datapoint; {value} is served instead (onNoData)")];
                row.value = Some(value);
                row.timestamp = Some(no_data.timestamp);
            }
            _ => {
                if let Some(sample) = state.last_sample() {
                    row.value = Some(show_value(entry, sample));
                    row.timestamp = Some(sample.timestamp);
                    row.notes = notes(&entry.labels, sample);
                }
            }
        }
        row
    }
}

/// A house with the metrics of these rule files, if there are any.
pub(super) fn ruled(
    house: House,
    standing: Option<&Arc<rule_watch::Standing>>,
    rules: &Arc<Rules>,
    files: &[RuleFileSettings],
) -> House {
    let Some(standing) = standing else { return house };
    house.ruled_by(Ruled::new(Arc::clone(standing), Arc::clone(rules), files))
}

/// A house that knows what HPAs ask for and would get, where there is a cluster, and where it is to
/// be told who uses what.
pub(super) fn foreseeing(
    house: House,
    cluster: bool,
    lookup: &Lookup,
    telemetry: &Telemetry,
) -> (House, Arc<hpa_watch::Usage>) {
    let usage = Arc::new(hpa_watch::Usage::new());
    if !cluster {
        return (house, usage);
    }
    let foresight = Foresight { usage: Arc::clone(&usage), foresee: Arc::new(lookup.clone()) };
    let house = house.with_foresight(foresight);
    let gauges = UseGauges::new(house.clone());
    telemetry.register(|registry| registry.register_collector(Box::new(gauges)));
    (house, usage)
}

/// What a row tells of its cell, whoever defines the metric.
fn follow(row: &mut MetricRow, cell: &QueryCell, state: &EntryState, policy: &Policy, now: Tick) {
    row.upstream_reads = cell.fetches();
    row.apart = cell.apart_until().map(|until| until.since(now));
    row.query = cell.query().spec.to_string();
    row.wanted = cell.is_scheduled();
    row.last_read_age = cell.last_read().map(|read| now.since(read));
    row.hpas = match cell.hold(now) {
        Hold::Claimed(hpas) => hpas,
        Hold::Free | Hold::Released(_) => 0,
    };
    row.state = state_of(state, policy, row.wanted, now);
    row.sample_age = age_of(state, policy, now);
    if let Some((text, at)) = state.trouble() {
        row.last_error = Some(text.to_owned());
        row.last_error_age = Some(now.since(at));
    }
}

/// The cells that answer for a definition, by where they are read.
fn cells(served: &Served, all: &[Arc<QueryCell>]) -> Vec<(String, Arc<QueryCell>)> {
    let scope = || show_scope(&served.entry.scope);
    let named = |place: CellOf| {
        (place.namespace.map_or_else(scope, |namespace| namespace.to_string()), place.cell)
    };
    cells_of(served, all).into_iter().map(named).collect()
}

impl Inventory for House {
    fn metrics(&self) -> Vec<MetricRow> {
        let snapshot = self.catalog.snapshot();
        let (on_demand, by_hpas) = (self.on_demand.all(), self.used_by_hpas());
        let mut rows = Vec::new();
        for served in snapshot.served() {
            let cells = cells(served, &on_demand);
            let first = rows.len();
            if cells.is_empty() {
                rows.push(self.row(&served.entry, show_scope(&served.entry.scope), None));
            }
            for (scope, cell) in cells {
                rows.push(self.row(&served.entry, scope, Some(&cell)));
            }
            let read = rows[first..].iter().filter_map(|row| row.last_read_age).min();
            let unused = is_unused(by_hpas.as_deref(), &served.entry.key(), read);
            rows[first..].iter_mut().for_each(|row| row.unused = unused);
        }
        if let Some(ruled) = &self.ruled {
            rows.extend(ruled.rows(&on_demand, self.clock.tick()));
        }
        rows
    }

    fn problems(&self) -> Vec<Problem> {
        self.catalog.snapshot().problems().to_vec()
    }

    fn conflicts(&self) -> Vec<String> {
        self.catalog.snapshot().conflicts().iter().map(ToString::to_string).collect()
    }

    fn hpas(&self) -> Option<hpa_watch::Report> {
        self.hpas.as_ref().map(|standing| standing.report())
    }

    fn foresight(&self) -> Option<Foresight> {
        self.uses.as_ref().map(|uses| uses.foresight().clone())
    }

    fn rules(&self) -> Option<rule_watch::Report> {
        self.ruled.as_ref().map(Ruled::report)
    }

    fn costs(&self) -> Vec<SourceCost> {
        cost::of(&self.catalog.snapshot(), &self.sources)
    }

    fn upstreams(&self) -> Vec<UpstreamRow> {
        let now = self.clock.tick();
        let row = |upstream: &Upstream| UpstreamRow {
            source: upstream.source.to_string(),
            upstream: upstream.upstream.to_string(),
            breaker: upstream.phase.map(Phase::as_str),
            calls_per_second: upstream.calls_per_second,
            running: upstream.running,
            queued: upstream.queued,
            overdue: upstream.overdue,
            lateness_seconds: upstream
                .waiting_since
                .map_or(0.0, |since| now.since(since).as_secs_f64()),
        };
        let shown = self.refresher.as_ref().map(|refresher| refresher.upstreams());
        shown.iter().flat_map(|upstreams| upstreams.iter()).map(row).collect()
    }

    fn tick(&self) -> Tick {
        self.clock.tick()
    }

    fn detail(&self, row: &MetricRow) -> BoxFuture<'static, Detail> {
        let (house, roots, told) = (self.clone(), row.roots.clone(), detail::of(self, row));
        async move { Detail { requests: detail::requests(house, roots).await, ..told } }.boxed()
    }

    fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.configuration)
    }

    fn reloaded(&self) -> Option<Reloaded> {
        self.reloads.last(self.clock.tick())
    }

    fn uptime(&self) -> Duration {
        self.clock.tick().since(self.started)
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("House")
    }
}

/// The labels of the definition that override a series' own, and what the upstream warned about.
pub(crate) fn notes(constant: &Labels, sample: &Sample) -> Vec<String> {
    let overridden: BTreeSet<&str> =
        sample.series.iter().flat_map(|series| constant.clashes(&series.labels)).collect();
    let overridden = overridden.into_iter().map(|key| {
        format!("the definition's label {key} replaces a different value of the series' own")
    });
    let warnings = sample.warnings.iter().map(|warning| format!("the upstream warns: {warning}"));
    overridden.chain(warnings).collect()
}

fn state_of(state: &EntryState, policy: &Policy, wanted: bool, now: Tick) -> MetricState {
    match state.view(policy, now) {
        View::Waiting if wanted => MetricState::Waiting,
        View::Waiting => MetricState::Idle,
        View::Fresh(_) => MetricState::Fresh,
        View::Servable(_) | View::Chosen(..) => MetricState::Servable,
        View::NoData(_) | View::Failed(_) => MetricState::Failed,
        View::Expired => MetricState::Expired,
    }
}

/// The age of the value that is shown: of the sample, or of the "no datapoint" for which the
/// definition has chosen a number. None before there is one.
fn age_of(state: &EntryState, policy: &Policy, now: Tick) -> Option<Duration> {
    match state.view(policy, now) {
        View::Chosen(_, no_data) => Some(now.since(no_data.at)),
        _ => state.last_sample().map(|sample| now.since(sample.observed)),
    }
}

fn show_scope(scope: &Scope) -> String {
    match scope {
        Scope::Namespace(namespace) => namespace.to_string(),
        Scope::All => MetricRow::ALL_NAMESPACES.to_owned(),
        Scope::Listed(list) => {
            let shown: Vec<&str> = list.iter().take(MAX_NAMESPACES_SHOWN).map(|n| &**n).collect();
            let more = if list.len() > MAX_NAMESPACES_SHOWN { ", …" } else { "" };
            format!("{}{more}", shown.join(", "))
        }
        Scope::Selected(selector) => format!("namespaces with {selector}"),
    }
}

/// The value as the API would give it: the number of the only series, or how many there are.
fn show_value(entry: &Entry, sample: &Sample) -> String {
    let transform = &entry.transform;
    let only = match (&sample.series[..], transform.aggregate) {
        ([one], Aggregate::None) => Some(one.value.clone()),
        (series, _) => transform.fold(series),
    };
    match only {
        Some(value) => Quantity::from_decimal(&transform.apply(&value)).to_string(),
        None => format!("{} series", sample.series.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decimal, Series};

    #[test]
    fn an_overridden_label_and_a_warning_are_noted() {
        let series = |queue| Series {
            labels: Labels::new([("queue", queue), ("zone", "a")]),
            value: Decimal::ONE,
        };
        let sample = Sample {
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            observed: Tick(0),
            series: vec![series("x"), series("y")],
            without_number: Vec::new(),
            warnings: vec!["partial answer".to_owned()],
        };
        assert_eq!(
            notes(&Labels::new([("queue", "x"), ("team", "t")]), &sample),
            [
                "the definition's label queue replaces a different value of the series' own",
                "the upstream warns: partial answer"
            ]
        );
        assert_eq!(notes(&Labels::new([("zone", "a")]), &sample).len(), 1);
    }
}
