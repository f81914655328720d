//! How values stand, counted: by state, by trouble, and per definition its age and state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::gauges::{MAX_NAMED, labelled};
use super::usage::cut;
use super::{House, age_of, cells, state_of};
use crate::cache::{QueryCell, STALE, View};
use crate::catalog::{Served, Snapshot};
use crate::model::{DefinitionId, FetchError, Policy, Tick};
use crate::runtime::admin::MetricState;

/// Who says that a metric is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Definition,
    Rule,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::Rule => "rule",
        }
    }
}

/// Queries counted by a word and who they are of.
type Counts = BTreeMap<(&'static str, Origin), i64>;

/// One definition's standing.
struct Standing<'a> {
    id: &'a DefinitionId,
    max_age: Duration,
    /// Of the oldest value that it has.
    age: Option<Duration>,
    /// Its worst.
    state: MetricState,
}

/// How all values stand at a moment.
pub(super) struct States<'a> {
    by_state: Counts,
    by_trouble: Counts,
    definitions: Vec<Standing<'a>>,
    /// Those whose number is `onNoData`'s.
    chosen: i64,
}

impl<'a> States<'a> {
    /// Looks at every cell.
    pub(super) fn of(
        house: &House,
        snapshot: &'a Snapshot,
        on_demand: &[Arc<QueryCell>],
        now: Tick,
    ) -> Self {
        // Who has no rule files has no series of rules.
        let origins = if house.ruled.is_some() {
            &[Origin::Definition, Origin::Rule][..]
        } else {
            &[Origin::Definition]
        };
        let zero = |words: &mut dyn Iterator<Item = &'static str>| -> Counts {
            words.flat_map(|word| origins.iter().map(move |origin| ((word, *origin), 0))).collect()
        };
        let mut states = Self {
            by_state: zero(&mut MetricState::ALL.into_iter().map(MetricState::as_str)),
            by_trouble: zero(&mut FetchError::KINDS.into_iter().chain([STALE])),
            definitions: Vec::new(),
            chosen: 0,
        };
        for served in snapshot.served() {
            let cells = cells(served, on_demand);
            let policy = &served.entry.policy;
            let seen: Vec<_> = cells
                .iter()
                .map(|(_, cell)| states.count(cell, policy, Origin::Definition, now))
                .collect();
            if seen.is_empty() {
                // One of a namespace or of objects that nobody has asked for.
                states.count_state(MetricState::Idle, Origin::Definition);
            }
            states.definitions.push(Standing::of(served, &seen));
        }
        for (cell, policy) in house.ruled.iter().flat_map(|ruled| ruled.cells(on_demand)) {
            states.count(cell, policy, Origin::Rule, now);
        }
        states
    }

    fn count(
        &mut self,
        cell: &QueryCell,
        policy: &Policy,
        origin: Origin,
        now: Tick,
    ) -> (MetricState, Option<Duration>) {
        let wanted = cell.is_scheduled();
        let known = cell.state();
        let state = state_of(&known, policy, wanted, now);
        self.count_state(state, origin);
        self.chosen += i64::from(matches!(known.view(policy, now), View::Chosen(..)));
        if let Some(trouble) = known.trouble_kind(policy, now) {
            *self.by_trouble.entry((trouble, origin)).or_default() += 1;
        }
        (state, age_of(&known, policy, now))
    }

    fn count_state(&mut self, state: MetricState, origin: Origin) {
        *self.by_state.entry((state.as_str(), origin)).or_default() += 1;
    }

    /// Writes the families.
    pub(super) fn encode(self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encode_counts(
            encoder,
            "metrics",
            "Metrics that definitions serve, and queries of rules that somebody reads, by the state of their value",
            "state",
            &self.by_state,
        )?;
        encode_counts(
            encoder,
            "metrics_in_trouble",
            "Those of tidepole_metrics whose newest refresh gave no value, by the kind of trouble, and those whose value is stale; many of them have a value that is held over",
            "trouble",
            &self.by_trouble,
        )?;
        ConstGauge::new(self.chosen).encode(encoder.encode_descriptor(
            "metrics_served_without_data",
            "Metrics whose source has no datapoint and that are served all the same, with the number that onNoData names (0 for resources of metrics.aws that name none)",
            None,
            MetricType::Gauge,
        )?)?;
        encode_definitions(self.definitions, encoder)
    }
}

impl<'a> Standing<'a> {
    /// The worst of what its cells are; idle without any.
    fn of(served: &'a Served, cells: &[(MetricState, Option<Duration>)]) -> Self {
        let worst = |state: &MetricState| MetricState::ALL.iter().position(|known| known == state);
        let states = cells.iter().map(|(state, _)| *state);
        Self {
            id: &served.entry.id,
            max_age: served.entry.policy.max_age,
            age: cells.iter().filter_map(|(_, age)| *age).max(),
            state: states.min_by_key(worst).unwrap_or(MetricState::Idle),
        }
    }
}

fn encode_counts(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: &Counts,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for ((word, origin), count) in counts {
        let labels = [(label, *word), ("origin", origin.as_str())];
        ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Age, greatest age and state of each definition; of those beyond the bound the oldest, the
/// smallest bound and how many are in which state.
fn encode_definitions(
    definitions: Vec<Standing<'_>>,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut definitions: Vec<_> = definitions.into_iter().map(|one| (one.id, one)).collect();
    let others = cut(&mut definitions, MAX_NAMED);
    let named = || definitions.iter().map(|(id, one)| (*id, one));
    let other = || others.iter().map(|(_, one)| one);
    encode_seconds(
        encoder,
        "definition_sample_age_seconds",
        "Age of the value that a definition has now, of the oldest one where it has several; the oldest of all definitions beyond the first 1000 is name=\"other\"",
        named().filter_map(|(id, one)| Some((id, one.age?))),
        other().filter_map(|one| one.age).max(),
    )?;
    encode_seconds(
        encoder,
        "definition_max_age_seconds",
        "How old a value of a definition may be and still be served (maxAge); the smallest of all definitions beyond the first 1000 is name=\"other\"",
        named().map(|(id, one)| (id, one.max_age)),
        other().map(|one| one.max_age).min(),
    )?;
    if definitions.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(
        "definition_state",
        "1 for the state of a definition's value, the worst one where it has several; how many definitions beyond the first 1000 are in each state is name=\"other\"",
        None,
        MetricType::Gauge,
    )?;
    let mut rest: BTreeMap<MetricState, i64> = BTreeMap::new();
    for one in other() {
        *rest.entry(one.state).or_default() += 1;
    }
    let named = labelled(named().map(|(id, one)| (id, (one.state, 1))), None);
    let rest = rest.into_iter().flat_map(|one| labelled(std::iter::empty(), Some(one)));
    for (kind, namespace, name, (state, count)) in named.chain(rest) {
        let labels =
            [("kind", kind), ("namespace", namespace), ("name", name), ("state", state.as_str())];
        ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Seconds by definition; `others` stands for those that are not named.
fn encode_seconds<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    named: impl Iterator<Item = (&'a DefinitionId, Duration)>,
    others: Option<Duration>,
) -> fmt::Result {
    let mut seconds = labelled(named, others).peekable();
    if seconds.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (kind, namespace, name, time) in seconds {
        let labels = [("kind", kind), ("namespace", namespace), ("name", name)];
        ConstGauge::new(time.as_secs_f64()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
