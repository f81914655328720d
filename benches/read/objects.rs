//! Reads of metrics of objects: the API on a provider that has every answer in memory.

use std::sync::Arc;

use futures::future::Either;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Bytes};
use jiff::Timestamp;
use tidepole::api::{Api, Settings};
use tidepole::model::{
    ApiError, CustomItem, CustomMetricName, CustomReading, CustomRequest, Decimal, DescribedObject,
    ExternalReading, GroupResource, MetricName, MetricsProvider, Probe, ProbeReport, Quantity,
    Reading, Selector, ServerState, SystemClock,
};
use tidepole::telemetry::Telemetry;

/// Pods of the metrics that are read.
pub(crate) const PODS: [usize; 2] = [50, 1000];

/// Metrics in the resource list.
const NAMES: usize = 10_000;

/// Answers with as many pods as the metric's name says.
struct Pods {
    readings: Vec<CustomReading>,
    names: Arc<[CustomMetricName]>,
}

impl MetricsProvider for Pods {
    fn external(&self, _: &str, metric: &str, _: &Selector) -> Reading<ExternalReading> {
        Reading::Ready(Err(ApiError::MetricNotFound(metric.to_owned())))
    }

    fn external_names(&self) -> Arc<[MetricName]> {
        Arc::default()
    }

    fn custom(&self, request: &CustomRequest<'_>) -> Reading<CustomReading> {
        let reading = self.readings.iter().find(|r| &*r.metric == request.metric);
        Reading::Ready(
            reading.cloned().ok_or_else(|| ApiError::MetricNotFound(request.metric.to_owned())),
        )
    }

    fn custom_names(&self) -> Arc<[CustomMetricName]> {
        Arc::clone(&self.names)
    }
}

impl ServerState for Pods {
    fn probe(&self, _: Probe) -> Vec<ProbeReport> {
        Vec::new()
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

fn provider() -> Pods {
    let now = Timestamp::now();
    let (kind, namespace, api_version) = (Arc::from("Pod"), Arc::from("default"), Arc::from("/v1"));
    let item = |i: usize| CustomItem {
        object: DescribedObject {
            kind: Arc::clone(&kind),
            namespace: Some(Arc::clone(&namespace)),
            name: format!("web-6d4cf56db6-{i:05}").into(),
            api_version: Arc::clone(&api_version),
        },
        timestamp: now,
        value: Quantity::from_decimal(&Decimal::new(641 + i128::try_from(i).unwrap_or(0), -1)),
    };
    let reading = |pods: usize| CustomReading {
        metric: pods.to_string().into(),
        selector: Selector::parse("verb=GET").expect("a selector"),
        items: (0..pods).map(item).collect(),
    };
    let pods = GroupResource { group: "".into(), resource: "pods".into() };
    let name = |i: usize| CustomMetricName {
        resource: pods.clone(),
        metric: format!("metric_{i:05}").into(),
        namespaced: true,
    };
    Pods {
        readings: PODS.into_iter().map(reading).collect(),
        names: (0..NAMES).map(name).collect(),
    }
}

/// The API that serves metrics of objects.
pub(crate) fn api() -> Api {
    let settings = Settings { custom: true, ..Settings::default() };
    let provider = Arc::new(provider());
    let state = Arc::clone(&provider);
    Api::new(&settings, provider, state, Arc::new(SystemClock::new()), &Telemetry::new())
}

/// A read of so many pods.
pub(crate) fn request(pods: usize) -> Parts {
    get(&format!(
        "namespaces/default/pods/%2A/{pods}?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET"
    ))
}

/// The resource list.
pub(crate) fn list() -> Parts {
    get("")
}

/// A request of the API.
pub(crate) fn get(path: &str) -> Parts {
    Request::get(format!("https://10.96.7.3:443/apis/custom.metrics.k8s.io/v1beta2/{path}"))
        .header("accept", "application/vnd.kubernetes.protobuf, */*")
        .body(())
        .expect("a request")
        .into_parts()
        .0
}

/// Routes and answers, without the access review. Panics unless there is a body.
pub(crate) fn answer(api: &Api, parts: &Parts) -> Response<Full<Bytes>> {
    let route = api.route(&parts.method, &parts.uri);
    std::hint::black_box(route.attributes());
    match api.answer(route, parts) {
        Either::Left(response) => {
            assert_eq!(response.status().as_u16(), 200, "everything is in memory");
            assert!(!response.body().is_end_stream(), "a list is never empty");
            response
        }
        Either::Right(_) => panic!("a read from memory does not wait"),
    }
}
