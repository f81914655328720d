//! The HPAs of the fake cluster: listed in pages, watched for ever.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Body, refusal, respond, whole};

/// Where all of them are read.
pub(super) const PATH: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";

/// The HPAs of the cluster.
pub(crate) struct Hpas {
    history: watch::Sender<History>,
    refuse: AtomicBool,
    lists: AtomicU64,
}

/// The HPAs by namespace and name, and everything that happened to them. An event's version is its
/// place, from 1.
#[derive(Default)]
struct History {
    present: BTreeMap<String, Value>,
    events: Vec<(&'static str, Value)>,
}

impl History {
    fn add(&mut self, kind: &'static str, mut object: Value) {
        object["metadata"]["resourceVersion"] = (self.events.len() + 1).to_string().into();
        self.events.push((kind, object));
    }
}

impl Default for Hpas {
    fn default() -> Self {
        Self {
            history: watch::Sender::new(History::default()),
            refuse: AtomicBool::new(false),
            lists: AtomicU64::new(0),
        }
    }
}

/// An external metric of an HPA.
pub(crate) fn external(metric: &str) -> Value {
    json!({"type": "External", "external": {
        "metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": "10"},
    }})
}

/// A metric of the pods of an HPA's target.
pub(crate) fn pods(metric: &str) -> Value {
    json!({"type": "Pods", "pods": {
        "metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": "10"},
    }})
}

impl Hpas {
    /// Makes an HPA over the Deployment of its name, or changes it.
    pub(crate) fn put(&self, namespace: &str, name: &str, metrics: &[Value]) {
        self.put_over(namespace, name, name, metrics);
    }

    /// The same over a Deployment of another name.
    pub(crate) fn put_over(&self, namespace: &str, name: &str, target: &str, metrics: &[Value]) {
        let key = format!("{namespace}/{name}");
        let object = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": namespace, "name": name, "uid": key},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
                "minReplicas": 1, "maxReplicas": 10, "metrics": metrics,
            },
            "status": {"currentReplicas": 1, "desiredReplicas": 1, "conditions": []},
        });
        self.history.send_modify(|history| {
            let known = history.present.insert(key, object.clone()).is_some();
            history.add(if known { "MODIFIED" } else { "ADDED" }, object);
        });
    }

    /// Deletes an HPA.
    pub(crate) fn delete(&self, namespace: &str, name: &str) {
        self.history.send_modify(|history| {
            let object = history.present.remove(&format!("{namespace}/{name}"));
            history.add("DELETED", object.expect("it is there"));
        });
    }

    /// Refuses to list and watch them, or no longer does.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How often a list was asked for, pages included.
    pub(crate) fn lists(&self) -> u64 {
        self.lists.load(Ordering::SeqCst)
    }

    pub(super) fn answer(&self, parameter: impl Fn(&str) -> Option<String>) -> Response<Body> {
        let watches = matches!(parameter("watch").as_deref(), Some("true" | "1"));
        if !watches {
            self.lists.fetch_add(1, Ordering::SeqCst);
        }
        if self.refuse.load(Ordering::SeqCst) {
            let message = "horizontalpodautoscalers.autoscaling is forbidden: User \"tidepole\" \
                           cannot list resource \"horizontalpodautoscalers\" in API group \
                           \"autoscaling\" at the cluster scope";
            return refusal(StatusCode::FORBIDDEN, "Forbidden", message);
        }
        let number = |name: &str| parameter(name).and_then(|text| text.parse::<usize>().ok());
        if watches {
            return self.watch(number("resourceVersion").unwrap_or_default());
        }
        let (present, version) = {
            let history = self.history.borrow();
            let present: Vec<Value> = history.present.values().cloned().collect();
            (present, history.events.len().max(1))
        };
        let begin = number("continue").unwrap_or(0).min(present.len());
        let end = begin.saturating_add(number("limit").unwrap_or(usize::MAX)).min(present.len());
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if end < present.len() {
            metadata["continue"] = end.to_string().into();
        }
        whole(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscalerList",
            "metadata": metadata, "items": present[begin..end],
        }))
    }

    /// Every event after the known version, for ever.
    fn watch(&self, known: usize) -> Response<Body> {
        let events =
            stream::unfold((self.history.subscribe(), known), |(mut history, known)| async move {
                let (kind, object) = history
                    .wait_for(|history| history.events.len() > known)
                    .await
                    .ok()?
                    .events
                    .get(known)?
                    .clone();
                let line = format!("{}\n", json!({"type": kind, "object": object}));
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), (history, known + 1)))
            });
        respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(Box::pin(events))))
    }
}
