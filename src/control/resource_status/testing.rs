//! Resources, their definitions and their cells, for tests.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cache::QueryCell;
use crate::catalog::Served;
use crate::control::declared::{Declared, Verdict};
use crate::model::{
    AnswerShape, Cause, Clock, Decimal, DefinitionId, DefinitionKey, DefinitionKind, Entry,
    FetchError, Foresee, Labels, MetricName, MetricReference, Miss, OnNoData, Origin, Outlook,
    Policy, PrometheusQuery, Query, QuerySpec, QueryTemplate, Sample, Scope, Series, SourceName,
    Tick,
};

pub(in crate::control) fn policy(on_no_data: OnNoData) -> Policy {
    Policy {
        refresh: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        on_no_data,
        first_read_timeout: Duration::from_secs(2),
        keep_warm: false,
    }
}

pub(in crate::control) fn id(kind: DefinitionKind, name: &str) -> DefinitionId {
    let namespace = kind.is_namespaced().then(|| Arc::from("shop"));
    DefinitionId { kind, namespace, name: name.into() }
}

/// The definition of a resource: its own query, named as it is.
pub(in crate::control) fn entry(id: &DefinitionId, on_no_data: OnNoData) -> Entry {
    let spec = QuerySpec::Prometheus(PrometheusQuery {
        query: (&*id.name).into(),
        lookback_delta: None,
        shape: AnswerShape::Items,
    });
    Entry {
        id: id.clone(),
        origin: Origin::Resource { created: Timestamp::UNIX_EPOCH },
        metric: MetricName::external(&id.name).unwrap(),
        objects: None,
        scope: id.namespace.clone().map_or(Scope::All, Scope::Namespace),
        labels: Labels::empty(),
        query: QueryTemplate::Fixed(Arc::new(Query { source: SourceName::new("main"), spec })),
        policy: Arc::new(policy(on_no_data)),
        transform: Arc::default(),
    }
}

pub(in crate::control) fn served(entry: Entry) -> Arc<Served> {
    let QueryTemplate::Fixed(query) = &entry.query else { panic!("a fixed query") };
    let cell = QueryCell::new(Arc::clone(query), entry.policy.refresh, false);
    Arc::new(Served { entry: Arc::new(entry), cell: Some(Arc::new(cell)) })
}

pub(in crate::control) fn declared(id: &DefinitionId, generation: i64) -> Declared {
    Declared {
        id: id.clone(),
        uid: format!("uid of {}", id.name).into(),
        generation,
        created: Timestamp::UNIX_EPOCH,
        verdict: Verdict::Accepted,
        status: None,
    }
}

/// Somebody wants the cell, and a fetch of it ends.
pub(in crate::control) fn end(
    cell: &QueryCell,
    result: Result<&[(&str, i64)], FetchError>,
    clock: &dyn Clock,
) {
    cell.claim_schedule(clock.tick());
    let sample = result.map(|series| Sample {
        timestamp: clock.now(),
        observed: clock.tick(),
        without_number: Vec::new(),
        series: series
            .iter()
            .map(|(queue, value)| Series {
                labels: Labels::new([("queue", *queue)]),
                value: Decimal::from(*value),
            })
            .collect(),
        warnings: Vec::new(),
    });
    cell.complete(sample, clock.tick(), clock.now());
}

pub(in crate::control) fn no_data() -> FetchError {
    FetchError::NoData(Cause::new("the query gives no series"))
}

/// Both clocks follow tokio's, which tests pause.
#[derive(Debug)]
pub(in crate::control) struct PausedClock(Instant);

impl PausedClock {
    pub(in crate::control) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let begin: Timestamp = "2026-01-02T10:00:00Z".parse().unwrap();
        begin.checked_add(self.0.elapsed()).unwrap()
    }

    fn tick(&self) -> Tick {
        Tick(3_600_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

/// Every reference means the namespaced definition of its name in the namespace `shop`.
pub(in crate::control) struct ByName;

impl Foresee for ByName {
    fn foresee(&self, reference: &MetricReference) -> Outlook {
        let id = id(DefinitionKind::ExternalMetric, &reference.metric);
        let key = DefinitionKey { id, is_resource: true };
        let message =
            |text: &str| format!("{} in {}: {text}", reference.metric, reference.namespace);
        if &*reference.namespace != "shop" {
            let (message, near) = (message("not defined for this namespace"), Vec::new());
            let answer = Err(Miss::Unknown { message, near, elsewhere: vec![key] });
            return Outlook { definitions: Vec::new(), answer };
        }
        let answer = if reference.selector.is_everything() {
            Ok("1".to_owned())
        } else {
            Err(Miss::NoMatch { message: message("no series matches the selector") })
        };
        Outlook { definitions: vec![key], answer }
    }
}
