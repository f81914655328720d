//! Which definitions the cluster's HPAs use, and which nobody uses.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{House, cells};
use crate::control::hpa_watch::Used;
use crate::model::{DefinitionKey, Tick};
use crate::runtime::admin::Foresight;

/// What somebody else than an HPA has read within this time is in use: dashboards, scripts and other
/// scalers read more often.
const READ_WITHIN: Duration = Duration::from_hours(1);

/// How long it is remembered which definitions HPAs use while nothing is known to have changed:
/// labels of namespaces may have.
const KEPT: Duration = Duration::from_mins(1);

/// It is counted anew at most this often. For 10,000 HPAs that takes some hundredths of a second.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Which definitions the cluster's HPAs use, counted when somebody looks.
pub(super) struct Uses {
    foresight: Foresight,
    counted: Mutex<Option<Counted>>,
}

struct Counted {
    at: Tick,
    used: Arc<Vec<Used>>,
    catalog: u64,
    definitions: Arc<HashSet<DefinitionKey>>,
}

impl Uses {
    pub(super) fn new(foresight: Foresight) -> Self {
        Self { foresight, counted: Mutex::default() }
    }

    pub(super) fn foresight(&self) -> &Foresight {
        &self.foresight
    }

    /// The definitions that answer some HPA. None while the HPAs are not known: then nothing is
    /// unused for want of them.
    pub(super) fn definitions(
        &self,
        catalog: u64,
        now: Tick,
    ) -> Option<Arc<HashSet<DefinitionKey>>> {
        let Foresight { usage, foresee } = &self.foresight;
        if !usage.is_known() {
            return None;
        }
        let used = usage.used();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = &*counted {
            let same = counted.catalog == catalog && Arc::ptr_eq(&counted.used, &used);
            if now.since(counted.at) < if same { KEPT } else { COUNT_EVERY } {
                return Some(Arc::clone(&counted.definitions));
            }
        }
        let all = used.iter().flat_map(|used| foresee.glance(&used.reference).definitions);
        let definitions = Arc::new(all.collect());
        *counted = Some(Counted { at: now, used, catalog, definitions: Arc::clone(&definitions) });
        Some(definitions)
    }
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uses")
    }
}

/// Whether a definition is one that nobody uses: no HPA asks for it, and nobody has read it lately.
pub(super) fn is_unused(
    by_hpas: Option<&HashSet<DefinitionKey>>,
    key: &DefinitionKey,
    last_read_age: Option<Duration>,
) -> bool {
    by_hpas.is_some_and(|by_hpas| !by_hpas.contains(key))
        && last_read_age.is_none_or(|age| age > READ_WITHIN)
}

/// Definitions by who uses them. Nothing while the HPAs are not known.
#[derive(Debug)]
pub struct UseGauges(House);

impl UseGauges {
    /// Counts over this house.
    #[must_use]
    pub fn new(house: House) -> Self {
        Self(house)
    }
}

impl Collector for UseGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let house = &self.0;
        let Some(by_hpas) = house.used_by_hpas() else { return Ok(()) };
        let (now, on_demand) = (house.clock.tick(), house.on_demand.all());
        let (mut hpas, mut readers, mut nobody) = (0_i64, 0_i64, 0_i64);
        for served in house.catalog.snapshot().served() {
            let key = served.entry.key();
            if by_hpas.contains(&key) {
                hpas += 1;
                continue;
            }
            let read = cells(served, &on_demand).into_iter().filter_map(|(_, c)| c.last_read());
            let age = read.max().map(|read| now.since(read));
            if is_unused(Some(&by_hpas), &key, age) { nobody += 1 } else { readers += 1 }
        }
        let mut family = encoder.encode_descriptor(
            "definition_uses",
            "Definitions by who uses them: an HPA asks for the metric, others have read it within an hour, or nobody does",
            None,
            MetricType::Gauge,
        )?;
        for (by, count) in [("hpa", hpas), ("reader", readers), ("nobody", nobody)] {
            ConstGauge::new(count).encode(family.encode_family(&[("by", by)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::OnDemand;
    use crate::catalog::Catalog;
    use crate::control::hpa_watch::Usage;
    use crate::model::{
        Clock, DefinitionId, DefinitionKind, Entry, Foresee, Labels, ManualClock, MetricName,
        MetricReference, Miss, OnNoData, Origin, Outlook, Policy, Query, QuerySpec, QueryTemplate,
        ReferenceKind, Scope, Selector, SourceDirectory, SourceName,
    };
    use crate::runtime::admin::Inventory;
    use crate::telemetry::Telemetry;

    /// Knows one definition for each name.
    struct Names;

    fn id(name: &str) -> DefinitionId {
        DefinitionId {
            kind: DefinitionKind::ClusterExternalMetric,
            namespace: None,
            name: name.into(),
        }
    }

    impl Foresee for Names {
        fn foresee(&self, reference: &MetricReference) -> Outlook {
            let key = DefinitionKey { id: id(&reference.metric), is_resource: false };
            Outlook { definitions: vec![key], answer: Err(Miss::Untried) }
        }
    }

    fn entry(name: &str) -> Entry {
        let spec = crate::model::PrometheusQuery {
            query: name.into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        };
        let source = SourceName::new("main");
        Entry {
            id: id(name),
            origin: Origin::File { path: "f.yaml".into(), line: 1 },
            metric: MetricName::external(name).unwrap(),
            objects: None,
            scope: Scope::All,
            labels: Labels::empty(),
            query: QueryTemplate::Fixed(Arc::new(Query {
                source,
                spec: QuerySpec::Prometheus(spec),
            })),
            policy: Arc::new(Policy {
                refresh: Duration::from_secs(15),
                max_age: Duration::from_mins(2),
                on_no_data: OnNoData::Hold,
                first_read_timeout: Duration::from_secs(2),
                keep_warm: false,
            }),
            transform: Arc::default(),
        }
    }

    fn used(name: &str) -> Used {
        let reference = MetricReference {
            namespace: "shop".into(),
            metric: name.into(),
            selector: Selector::default(),
            kind: ReferenceKind::External,
        };
        Used { reference: Arc::new(reference), hpas: ["web".into()].into() }
    }

    #[test]
    fn what_nobody_uses_is_told() {
        let (catalog, clock) = (Arc::new(Catalog::new()), Arc::new(ManualClock::default()));
        clock.advance(Duration::from_hours(2));
        catalog.apply_files(["a", "b", "c"].map(entry).to_vec(), Vec::new());
        let usage = Arc::new(Usage::new());
        let foresight = Foresight { usage: Arc::clone(&usage), foresee: Arc::new(Names) };
        let house = House::new(
            Arc::clone(&catalog),
            Arc::new(OnDemand::new()),
            None,
            SourceDirectory::default(),
            clock.clone(),
        )
        .with_foresight(foresight);
        let telemetry = Telemetry::new();
        telemetry.register(|registry| {
            registry.register_collector(Box::new(UseGauges::new(house.clone())));
        });
        let unused = || {
            let mut unused: Vec<String> = house
                .metrics()
                .into_iter()
                .filter(|row| row.unused)
                .map(|row| row.metric)
                .collect();
            unused.sort();
            unused.join(" ")
        };
        assert_eq!(unused(), "", "the HPAs are not known");
        assert!(!telemetry.encode().contains("definition_uses"));
        usage.put(vec![used("b")]);
        assert_eq!(unused(), "a c");
        // A resource of the same name as the file's document, with a metric of its own.
        let resource = Entry {
            metric: MetricName::external("other").unwrap(),
            origin: Origin::Resource { created: jiff::Timestamp::UNIX_EPOCH },
            ..entry("b")
        };
        catalog.apply_resources(vec![resource], Vec::new());
        clock.advance(COUNT_EVERY);
        assert_eq!(unused(), "a c other");
        catalog.apply_resources(Vec::<Entry>::new(), Vec::new());
        let snapshot = catalog.snapshot();
        let read = snapshot.served().find(|served| *served.entry.id.name == *"a").unwrap();
        read.cell.as_ref().unwrap().touch(clock.tick());
        assert_eq!(unused(), "c");
        let text = telemetry.encode();
        for line in ["{by=\"hpa\"} 1", "{by=\"reader\"} 1", "{by=\"nobody\"} 1"] {
            assert!(text.contains(&format!("tidepole_definition_uses{line}\n")), "{line}: {text}");
        }
        usage.put(vec![used("c")]);
        assert_eq!(unused(), "c", "it was counted a moment ago");
        clock.advance(COUNT_EVERY);
        assert_eq!(unused(), "b");
        clock.advance(READ_WITHIN);
        assert_eq!(unused(), "a b");
    }
}
