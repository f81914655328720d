//! The read path without a network: a catalog whose every value is in memory, and the API on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Body as _;
use tidepole::api::{Api, Settings};
use tidepole::cache::{Admission, Demand, OnDemand, QueryCell};
use tidepole::catalog::Catalog;
use tidepole::lookup::Lookup;
use tidepole::model::{
    Clock, Decimal, DefinitionId, DefinitionKind, Entry, Labels, MetricName, NamespaceDirectory,
    OnNoData, Origin, Policy, Probe, ProbeReport, Query, QuerySpec, QueryTemplate, Sample, Scope,
    Series, ServerState, SimulatedQuery, SourceName, SystemClock,
};
use tidepole::telemetry::Telemetry;

/// Metrics in the catalog.
pub(crate) const METRICS: u64 = 10_000;

/// Series of the metric that has many.
pub(crate) const SERIES: u64 = 100;

/// The API over a full catalog.
pub(crate) struct House {
    pub(crate) api: Api,
    pub(crate) lookup: Lookup,
}

/// Nothing is ever wanted: every cell is scheduled and has its value.
struct Nobody;

impl Demand for Nobody {
    fn want(&self, _: &Arc<QueryCell>) -> Admission {
        Admission::Accepted
    }
}

impl NamespaceDirectory for Nobody {
    fn labels(&self, _: &str) -> Option<Labels> {
        None
    }
}

impl ServerState for Nobody {
    fn probe(&self, _: Probe) -> Vec<ProbeReport> {
        Vec::new()
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

impl House {
    /// [`METRICS`] metrics `metric_00000`... of one series each and one, `wide`, of [`SERIES`].
    pub(crate) fn new() -> Self {
        Self::with(&Settings::default())
    }

    /// The same with other settings of the API.
    pub(crate) fn with(settings: &Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let catalog = Arc::new(Catalog::new());
        let mut entries: Vec<Entry> =
            (0..METRICS).map(|n| entry(&format!("metric_{n:05}"), n)).collect();
        entries.push(entry("wide", METRICS));
        catalog.apply_files(entries, Vec::new());
        for (query, cell) in catalog.snapshot().cells() {
            let QuerySpec::Simulated(SimulatedQuery::Constant(value)) = &query.spec else {
                unreachable!("entry() makes no other")
            };
            let series = if *value == Decimal::from(METRICS) { SERIES } else { 1 };
            let one = |n: u64| Series {
                labels: if series == 1 {
                    Labels::empty()
                } else {
                    Labels::new([("pod", format!("worker-{n}")), ("zone", "eu-west-1a".to_owned())])
                },
                // Sources send fractions: 64.1 and the like.
                value: Decimal::new(641 + i128::from(n), -1),
            };
            let sample = Sample {
                timestamp: clock.now(),
                observed: clock.tick(),
                series: (0..series).map(one).collect(),
                without_number: Vec::new(),
                warnings: Vec::new(),
            };
            cell.claim_schedule(clock.tick());
            cell.complete(Ok(sample), clock.tick(), clock.now());
        }
        let lookup = Lookup::new(
            catalog,
            Arc::default(),
            Arc::new(OnDemand::new()),
            Arc::new(Nobody),
            Arc::new(Nobody),
            None,
            Arc::clone(&clock),
        );
        let api = Api::new(
            settings,
            Arc::new(lookup.clone()),
            Arc::new(Nobody),
            clock,
            &Telemetry::new(),
        );
        Self { api, lookup }
    }

    /// One read as the server does it once it knows who asks, without the cache of access
    /// reviews. Panics unless the answer is a list.
    pub(crate) fn read(&self, parts: &Parts) -> Response<Full<Bytes>> {
        let route = self.api.route(&parts.method, &parts.uri);
        std::hint::black_box(route.attributes());
        match self.api.answer(route, parts) {
            Either::Left(response) => {
                assert_eq!(response.status().as_u16(), 200, "a value is in memory");
                assert!(!response.body().is_end_stream(), "a list is never empty");
                response
            }
            Either::Right(_) => panic!("a read from memory does not wait"),
        }
    }
}

fn entry(name: &str, number: u64) -> Entry {
    let query = Query {
        source: SourceName::new("sim"),
        spec: QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::from(number))),
    };
    Entry {
        id: DefinitionId {
            kind: DefinitionKind::ClusterExternalMetric,
            namespace: None,
            name: name.into(),
        },
        origin: Origin::File { path: "metrics.yaml".into(), line: 1 },
        metric: MetricName::external(name).expect("a name"),
        scope: Scope::All,
        labels: Labels::new([("queue", "jobs")]),
        query: QueryTemplate::Fixed(Arc::new(query)),
        objects: None,
        policy: Arc::new(Policy {
            refresh: Duration::from_secs(15),
            // Longer than any benchmark runs.
            max_age: Duration::from_hours(24),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }),
        transform: Arc::default(),
    }
}

/// The head of a request as it is after authentication.
pub(crate) fn request(metric: &str, selector: Option<&str>) -> Parts {
    let query = selector.map(|s| format!("?labelSelector={s}")).unwrap_or_default();
    Request::get(format!(
        "https://10.96.7.3:443/apis/external.metrics.k8s.io/v1beta1/namespaces/default/{metric}{query}"
    ))
    .header("accept", "application/vnd.kubernetes.protobuf, */*")
    .header(
        "user-agent",
        "kube-controller-manager/v1.34.4 (linux/amd64) kubernetes/abcdef0/system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    )
    .header("audit-id", "6d1ba8a9-0b0f-4f0f-9c5f-2f1f8b0a7c11")
    .header("x-forwarded-for", "127.0.0.1")
    .header("accept-encoding", "gzip")
    .body(())
    .expect("a request")
    .into_parts()
    .0
}

/// What is read, by name: one series of one metric after the other, without and with a selector,
/// and many series at once.
pub(crate) fn scenarios() -> [(&'static str, Vec<Parts>); 3] {
    let every = |selector| (0..METRICS).map(move |n| request(&format!("metric_{n:05}"), selector));
    [
        ("one series", every(None).collect()),
        ("one series, selector", every(Some("queue%3Djobs%2Ctier%21%3Dtest")).collect()),
        ("100 series", vec![request("wide", Some("queue%3Djobs"))]),
    ]
}
