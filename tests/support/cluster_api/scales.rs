//! The scales of Deployments, of which only the selector is told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{Response, StatusCode};
use serde_json::json;

use super::{Body, refusal, whole};

/// The scales by path.
#[derive(Default)]
pub(crate) struct Scales {
    selectors: Mutex<BTreeMap<String, String>>,
    refuse: AtomicBool,
    asked: AtomicU64,
}

impl Scales {
    /// Sets the selector of a Deployment's pods, as its scale tells it.
    pub(crate) fn put(&self, namespace: &str, name: &str, selector: &str) {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale");
        self.selectors.lock().expect("no holder panics").insert(path, selector.to_owned());
    }

    /// Refuses to tell any, or no longer does.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How often one was asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn answer(&self, path: &str) -> Response<Body> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.refuse.load(Ordering::SeqCst) {
            let message = "deployments.apps is forbidden: User \"tidepole\" cannot get resource \
                           \"deployments/scale\" in API group \"apps\"";
            return refusal(StatusCode::FORBIDDEN, "Forbidden", message);
        }
        match self.selectors.lock().expect("no holder panics").get(path) {
            Some(selector) => whole(&json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {},
                "spec": {"replicas": 2}, "status": {"replicas": 2, "selector": selector},
            })),
            None => refusal(StatusCode::NOT_FOUND, "NotFound", "there is no such deployment"),
        }
    }
}
