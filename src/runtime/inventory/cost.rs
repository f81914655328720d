//! What reading the wanted queries costs, at the prices of their sources.

use std::collections::BTreeMap;

use crate::catalog::Snapshot;
use crate::model::cost::{BillingUnit, Rate, Toll, effective_refresh};
use crate::model::{CostSettings, Decimal, SourceDirectory, SourceKind, SourceName};
use crate::runtime::admin::SourceCost;

/// The cost of each AWS source, by name: what is refreshed now, for a month. A query that several
/// definitions share is asked once and counts once; one that nobody wants is not asked. What SELECT,
/// SEARCH and the like find counts as one metric, so this is the least that it costs.
pub(super) fn of(snapshot: &Snapshot, sources: &SourceDirectory) -> Vec<SourceCost> {
    let mut rates: BTreeMap<&SourceName, (Rate, Rate, bool)> = sources
        .iter()
        .filter(|source| source.kind == SourceKind::Aws)
        .map(|source| (&source.name, Default::default()))
        .collect();
    for (query, cell) in snapshot.cells().filter(|(_, cell)| cell.is_scheduled()) {
        let Some(toll) = Toll::of(query) else { continue };
        let (metrics, requests, open_ended) = rates.entry(&query.source).or_default();
        *open_ended |= toll.is_open_ended();
        let sum = match toll.unit {
            BillingUnit::Metrics => metrics,
            BillingUnit::Requests => requests,
        };
        *sum = sum.plus(toll.rate(effective_refresh(query, cell.refresh())));
    }
    let list = CostSettings::default();
    let cost = |(name, (metrics, requests, is_open_ended)): (&SourceName, (Rate, Rate, bool))| {
        let prices = sources.get(name.as_str()).map_or(&list, |source| &source.cost);
        let month = |unit, rate| prices.per_month(unit, rate);
        let dollars: Decimal =
            month(BillingUnit::Metrics, metrics).add(&month(BillingUnit::Requests, requests));
        SourceCost {
            source: name.to_string(),
            metrics_per_minute: metrics.to_decimal().to_f64(),
            requests_per_minute: requests.to_decimal().to_f64(),
            dollars_per_month: dollars.to_f64(),
            is_open_ended,
        }
    };
    rates.into_iter().map(cost).collect()
}
