//! What is known of one metric beyond its row.

use std::sync::Arc;

use super::House;
use crate::cache::sentence::show as duration;
use crate::model::cost::{BillingUnit, effective_refresh};
use crate::model::{
    Aggregate, CostSettings, Entry, Exchange, OnNoData, Origin, Query, QuerySpec, QueryTemplate,
    Toll,
};
use crate::runtime::admin::{Detail, MAX_HPAS, MetricRow, PREVIEW_WAIT, Roots, SourceCost};

/// All but the requests, which may take a moment.
pub(super) fn of(house: &House, row: &MetricRow) -> Detail {
    let Roots { cell, entry } = &row.roots;
    let (hpas, hpas_total) = match entry {
        Some(entry) => hpas(house, entry),
        None => (None, 0),
    };
    Detail {
        definition: entry.as_deref().map(fields).unwrap_or_default(),
        asked_by: cell.as_ref().map(|cell| cell.definition()).unwrap_or_default(),
        requests: None,
        cost: query(&row.roots).and_then(|query| cost(house, &query, row)),
        hpas,
        hpas_total,
    }
}

/// The query of a metric, if it is complete.
fn query(roots: &Roots) -> Option<Arc<Query>> {
    match (&roots.cell, roots.entry.as_deref().map(|entry| &entry.query)) {
        (Some(cell), _) => Some(Arc::clone(cell.query())),
        (None, Some(QueryTemplate::Fixed(query))) => Some(Arc::clone(query)),
        (None, _) => None,
    }
}

/// The calls that a fetch of it alone takes. Sends nothing; none where its source cannot tell in time,
/// and of a question about objects that nobody wants: it would be wanted for this.
pub(super) async fn requests(house: House, roots: Roots) -> Option<Vec<Exchange>> {
    let query = query(&roots)?;
    let is_wanted = roots.cell.as_ref().is_some_and(|cell| cell.is_scheduled());
    if matches!(query.spec, QuerySpec::Objects(_)) && !is_wanted {
        return None;
    }
    let source = Arc::clone(house.asked.as_ref()?.get(&query.source)?);
    tokio::time::timeout(PREVIEW_WAIT, source.preview(&query)).await.ok()?
}

/// The HPAs that get an answer of this definition, bounded, and how many there are.
fn hpas(house: &House, entry: &Entry) -> (Option<Vec<String>>, usize) {
    let Some(uses) = &house.uses else { return (None, 0) };
    let foresight = uses.foresight();
    if !foresight.usage.is_known() {
        return (None, 0);
    }
    let key = entry.key();
    let mut found = Vec::new();
    for used in foresight.usage.used().iter() {
        let reference = &used.reference;
        // The case of external names makes no difference.
        if reference.metric.eq_ignore_ascii_case(entry.metric.as_str())
            && foresight.foresee.glance(reference).definitions.contains(&key)
        {
            found.extend(used.hpas.iter().map(|name| format!("{}/{name}", reference.namespace)));
        }
    }
    found.sort_unstable();
    found.dedup();
    let total = found.len();
    found.truncate(MAX_HPAS);
    (Some(found), total)
}

/// What fetches of this query alone cost in a month.
fn cost(house: &House, query: &Query, row: &MetricRow) -> Option<SourceCost> {
    let toll = Toll::of(query)?;
    let refresh = row.roots.cell.as_ref().map_or(row.refresh, |cell| cell.refresh());
    let rate = toll.rate(effective_refresh(query, refresh));
    let list = CostSettings::default();
    let prices = house.sources.get(query.source.as_str()).map_or(&list, |source| &source.cost);
    let per_minute = |unit| if toll.unit == unit { rate.to_decimal().to_f64() } else { 0.0 };
    Some(SourceCost {
        source: query.source.to_string(),
        metrics_per_minute: per_minute(BillingUnit::Metrics),
        requests_per_minute: per_minute(BillingUnit::Requests),
        dollars_per_month: prices.per_month(toll.unit, rate).to_f64(),
        is_open_ended: toll.is_open_ended(),
    })
}

/// A definition in effect, as its author would write it.
fn fields(entry: &Entry) -> Vec<(&'static str, String)> {
    let (policy, transform) = (&entry.policy, &entry.transform);
    let mut fields = vec![
        ("metric", entry.metric.to_string()),
        ("refresh", duration(policy.refresh)),
        ("maxAge", duration(policy.max_age)),
        (
            "onNoData",
            match &policy.on_no_data {
                OnNoData::Error => "error".to_owned(),
                OnNoData::Hold => "hold".to_owned(),
                OnNoData::Value(number) => number.to_string(),
            },
        ),
        ("firstReadTimeout", duration(policy.first_read_timeout)),
        ("keepWarm", policy.keep_warm.to_string()),
        ("scale", transform.scale.to_string()),
        ("offset", transform.offset.to_string()),
        ("min", transform.min.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)),
        ("max", transform.max.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)),
        (
            "aggregate",
            match transform.aggregate {
                Aggregate::None => "none",
                Aggregate::Sum => "sum",
                Aggregate::Avg => "avg",
                Aggregate::Max => "max",
                Aggregate::Min => "min",
            }
            .to_owned(),
        ),
    ];
    if let Some(objects) = &entry.objects {
        fields.push(("objects", objects.resource.to_string()));
    }
    if let Origin::Resource { .. } = entry.origin {
        let namespace = entry.id.namespace.as_deref();
        let within = namespace.map(|name| format!("--namespace {name} ")).unwrap_or_default();
        let kind = entry.id.kind;
        let (plural, group, name) = (kind.plural(), kind.group(), &entry.id.name);
        fields.push((
            "as written",
            format!("kubectl {within}get {plural}.{group} {name} --output yaml"),
        ));
    }
    fields
}
