//! Secrets and `APIServices`: read, listed, watched and written with their versions, and refused as
//! told.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Body, refusal, respond, whole};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Secrets and `APIServices`.
#[derive(Default)]
pub(crate) struct Certificates {
    history: watch::Sender<History>,
    /// Verbs and resources that are refused.
    refused: Mutex<BTreeSet<(&'static str, &'static str)>>,
    /// Writes that find that somebody was faster.
    quarrels: Mutex<u32>,
}

/// Every state of every object, by its path; null when it is gone. A version is a place, from 1.
#[derive(Default)]
struct History(Vec<(String, Value)>);

impl History {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        let version = (self.0.len() + 1).to_string();
        if !object.is_null() {
            object["metadata"]["resourceVersion"] = version.into();
        }
        self.0.push((path.to_owned(), object.clone()));
        object
    }

    fn get(&self, path: &str) -> Option<Value> {
        let last = self.0.iter().rev().find(|(known, _)| known == path);
        last.map(|(_, object)| object.clone()).filter(|object| !object.is_null())
    }
}

impl Certificates {
    /// Makes an `APIService` that points to a Service.
    pub(crate) fn register(&self, name: &str, namespace: &str, service: &str) {
        let (version, group) = name.split_once('.').expect("version.group");
        let object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "uid": name},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100,
                "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": {"name": service, "namespace": namespace, "port": 443},
            },
        });
        self.history
            .send_modify(|history| drop(history.put(&format!("{SERVICES}/{name}"), object)));
    }

    /// An `APIService`'s `spec`.
    pub(crate) fn spec(&self, name: &str) -> Value {
        let object = self.history.borrow().get(&format!("{SERVICES}/{name}"));
        object.expect("it is registered")["spec"].take()
    }

    /// What an `APIService` trusts, in PEM.
    pub(crate) fn bundle(&self, name: &str) -> String {
        let spec = self.spec(name);
        let encoded = spec["caBundle"].as_str().unwrap_or_default();
        let bytes = BASE64_STANDARD.decode(encoded).expect("a bundle is base64");
        String::from_utf8(bytes).expect("a bundle is text")
    }

    /// Somebody edits what an `APIService` trusts.
    pub(crate) fn edit_bundle(&self, name: &str, pem: &str) {
        self.history.send_modify(|history| {
            let path = format!("{SERVICES}/{name}");
            let mut object = history.get(&path).expect("it is registered");
            object["spec"]["caBundle"] = BASE64_STANDARD.encode(pem).into();
            history.put(&path, object);
        });
    }

    /// A Secret.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<Value> {
        self.history.borrow().get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
    }

    /// Somebody edits a Secret, or deletes it.
    pub(crate) fn edit_secret(&self, namespace: &str, name: &str, key: Option<&str>) {
        self.history.send_modify(|history| {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
            let mut object = history.get(&path).expect("it is there");
            match key {
                Some(key) => object["data"][key] = BASE64_STANDARD.encode("garbage").into(),
                None => object = Value::Null,
            }
            history.put(&path, object);
        });
    }

    /// Refuses a verb on `secrets` or `apiservices`, or no longer does.
    pub(crate) fn refuse(&self, verb: &'static str, resource: &'static str, refuse: bool) {
        let mut refused = self.refused.lock().expect("no holder panics");
        if refuse {
            refused.insert((verb, resource));
        } else {
            refused.remove(&(verb, resource));
        }
    }

    /// Lets the next writes find that somebody was faster.
    pub(crate) fn quarrel(&self, writes: u32) {
        *self.quarrels.lock().expect("no holder panics") = writes;
    }

    /// Every state of every object so far, as text.
    pub(crate) fn writes(&self) -> usize {
        self.history.borrow().0.len()
    }

    /// `None` when the path is none of these.
    pub(super) fn answer(
        &self,
        method: &Method,
        path: &str,
        body: &Value,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<Response<Body>> {
        let (resource, is_collection) = place(path)?;
        let watches = matches!(parameter("watch").as_deref(), Some("true" | "1"));
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            _ if watches => "watch",
            _ if is_collection => "list",
            _ => "get",
        };
        if self.refused.lock().expect("no holder panics").contains(&(verb, resource)) {
            let message = format!("{resource} is forbidden: User \"tidepole\" cannot {verb} it");
            return Some(refusal(StatusCode::FORBIDDEN, "Forbidden", &message));
        }
        let name = parameter("fieldSelector").unwrap_or_default();
        let name = name.strip_prefix("metadata.name=").unwrap_or_default();
        Some(match verb {
            "get" => match self.history.borrow().get(path) {
                Some(object) => whole(&object),
                None => refusal(StatusCode::NOT_FOUND, "NotFound", "there is none"),
            },
            "list" => {
                let history = self.history.borrow();
                let version = history.0.len().to_string();
                let items: Vec<Value> =
                    history.get(&format!("{path}/{name}")).into_iter().collect();
                whole(&json!({"metadata": {"resourceVersion": version}, "items": items}))
            }
            "watch" => {
                let known = parameter("resourceVersion").and_then(|text| text.parse().ok());
                self.watch(format!("{path}/{name}"), known.unwrap_or_default())
            }
            _ => self.write(verb, path, body),
        })
    }

    fn write(&self, verb: &str, path: &str, body: &Value) -> Response<Body> {
        let mut quarrels = self.quarrels.lock().expect("no holder panics");
        if *quarrels > 0 {
            *quarrels -= 1;
            return refusal(StatusCode::CONFLICT, "Conflict", "somebody was faster");
        }
        let path = match verb {
            "create" => format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default()),
            _ => path.to_owned(),
        };
        let mut answer = None;
        self.history.send_modify(|history| {
            let present = history.get(&path);
            let object = match (&present, verb) {
                (None, "create") => body.clone(),
                (Some(_), "create") | (None, _) => return,
                (Some(present), _) => {
                    // What carries no version is written whatever is there, which nobody should do.
                    let version = &body["metadata"]["resourceVersion"];
                    assert!(version.is_string(), "a write without a precondition");
                    if *version != present["metadata"]["resourceVersion"] {
                        return;
                    }
                    let mut object = present.clone();
                    if verb == "patch" {
                        merge(&mut object["spec"], &body["spec"]);
                    } else {
                        object = body.clone();
                    }
                    object
                }
            };
            let unverified = &object["spec"]["insecureSkipTLSVerify"] == true;
            assert!(!unverified || object["spec"]["caBundle"].is_null(), "the API server refuses");
            answer = Some(history.put(&path, object));
        });
        match answer {
            Some(object) => whole(&object),
            None => {
                refusal(StatusCode::CONFLICT, "Conflict", "it has changed, or is there already")
            }
        }
    }

    /// Every state of an object above the known version, for ever.
    fn watch(&self, path: String, known: usize) -> Response<Body> {
        let start = (self.history.subscribe(), path, known);
        let events = stream::unfold(start, |(mut history, path, mut known)| async move {
            let (event, place) = {
                let seen = history.wait_for(|h| h.0.iter().skip(known).any(|(p, _)| *p == path));
                let seen = seen.await.ok()?;
                let place = known + seen.0.iter().skip(known).position(|(p, _)| *p == path)?;
                let object = &seen.0[place].1;
                let event = if object.is_null() {
                    let before = seen.0[..place].iter().rev().find(|(p, _)| *p == path);
                    json!({"type": "DELETED", "object": before.map(|(_, object)| object)})
                } else {
                    json!({"type": "MODIFIED", "object": object})
                };
                (event, place)
            };
            known = place + 1;
            Some((Bytes::from(format!("{event}\n")), (history, path, known)))
        });
        let frames = futures::StreamExt::map(events, |b| Ok::<_, Infallible>(Frame::data(b)));
        respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(Box::pin(frames))))
    }
}

/// The resource of a path of ours, and whether the path is that of all of them.
fn place(path: &str) -> Option<(&'static str, bool)> {
    if let Some(rest) = path.strip_prefix(SERVICES) {
        return Some(("apiservices", rest.is_empty()));
    }
    let rest = path.strip_prefix("/api/v1/namespaces/")?.split_once('/')?.1;
    let rest = rest.strip_prefix("secrets")?;
    Some(("secrets", rest.is_empty()))
}

/// A JSON merge patch of one level.
fn merge(into: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        if value.is_null() {
            into.as_object_mut().expect("a spec is an object").remove(key);
        } else {
            into[key] = value.clone();
        }
    }
}
