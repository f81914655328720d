//! A fake Kubernetes API server: the trust `ConfigMap`, the HPAs and resources of any kind that is
//! installed (list and watch), Secrets and `APIServices`, the scales of Deployments, API discovery
//! and the metadata of any objects, token reviews and access reviews, over plain HTTP. It counts, it
//! remembers what it was asked, and it answers as told.

#[path = "cluster_api/certificates.rs"]
mod certificates;
#[path = "cluster_api/custom_resources.rs"]
mod custom_resources;
#[path = "cluster_api/hpas.rs"]
mod hpas;
#[path = "cluster_api/objects.rs"]
mod objects;
#[path = "cluster_api/scales.rs"]
mod scales;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use certificates::Certificates;
use custom_resources::CustomResources;
pub(crate) use custom_resources::{
    CLUSTER_EXTERNAL_METRICS, CUSTOM_METRICS, EXTERNAL_METRICS, ORIGINAL_METRICS,
};
use hpas::Hpas;
pub(crate) use hpas::{external, pods};
use objects::Objects;
pub(crate) use objects::{DEPLOYMENTS, PODS, Served};
use scales::Scales;

type Body = BoxBody<Bytes, Infallible>;
type Allow = dyn Fn(&Value) -> bool + Send + Sync;

/// The running fake.
pub(crate) struct ClusterApi {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct State {
    /// `data` of the trust `ConfigMap` and its resource version.
    trust: watch::Sender<(u64, BTreeMap<String, String>)>,
    told: Mutex<Told>,
    hpas: Hpas,
    objects: Objects,
    scales: Scales,
    certificates: Certificates,
    custom_resources: CustomResources,
}

struct Told {
    allow: Arc<Allow>,
    reviews_fail: bool,
    /// Resources about which no access review is answered.
    hanging: Vec<String>,
    tokens: BTreeMap<String, Value>,
    access: Vec<Value>,
    token: Vec<Value>,
}

/// The trust that a cluster publishes, for this front proxy authority and this client authority.
pub(crate) fn trust(front_proxy_ca: &str, client_ca: &str) -> BTreeMap<String, String> {
    [
        ("requestheader-client-ca-file", front_proxy_ca),
        ("requestheader-allowed-names", "[\"front-proxy-client\"]"),
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
        ("client-ca-file", client_ca),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

impl ClusterApi {
    /// Starts answering, on a thread of its own. Allows everything.
    pub(crate) fn start(trust: BTreeMap<String, String>) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), trust)
    }

    /// The same at an address.
    pub(crate) fn start_at(address: SocketAddr, trust: BTreeMap<String, String>) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("the address is free");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let told = Told {
            allow: Arc::new(|_| true),
            reviews_fail: false,
            hanging: Vec::new(),
            tokens: BTreeMap::new(),
            access: Vec::new(),
            token: Vec::new(),
        };
        let state = Arc::new(State {
            trust: watch::Sender::new((1, trust)),
            told: Mutex::new(told),
            hpas: Hpas::default(),
            objects: Objects::default(),
            scales: Scales::default(),
            certificates: Certificates::default(),
            custom_resources: CustomResources::default(),
        });
        let stop = CancellationToken::new();
        let thread = std::thread::spawn({
            let (state, stop) = (Arc::clone(&state), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime starts");
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).expect("the socket is fine");
                    tokio::select! {
                        () = accept(&listener, &state) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        Self { address, state, stop, thread: Some(thread) }
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> String {
        Self::kubeconfig_of(self.address)
    }

    /// A kubeconfig that leads to an address.
    pub(crate) fn kubeconfig_of(address: SocketAddr) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        config.to_string()
    }

    /// Changes the trust `ConfigMap`; watches are told.
    pub(crate) fn publish(&self, trust: BTreeMap<String, String>) {
        self.state.trust.send_modify(|(version, data)| {
            *version += 1;
            *data = trust;
        });
    }

    /// Decides access reviews by their `spec`.
    pub(crate) fn allow_if(&self, allow: impl Fn(&Value) -> bool + Send + Sync + 'static) {
        self.told().allow = Arc::new(allow);
    }

    /// Makes reviews of both kinds fail with HTTP 500, or work again.
    pub(crate) fn fail_reviews(&self, fail: bool) {
        self.told().reviews_fail = fail;
    }

    /// Never answers access reviews about these resources from now on.
    pub(crate) fn hang_reviews_of(&self, resources: &[&str]) {
        self.told().hanging = resources.iter().map(|&name| name.to_owned()).collect();
    }

    /// A token that is valid from now on, and the `user` of its reviews.
    pub(crate) fn token(&self, token: &str, user: Value) {
        self.told().tokens.insert(token.to_owned(), user);
    }

    /// The `spec`s of all access reviews so far.
    pub(crate) fn access_reviews(&self) -> Vec<Value> {
        self.told().access.clone()
    }

    /// The `spec`s of all token reviews so far.
    pub(crate) fn token_reviews(&self) -> Vec<Value> {
        self.told().token.clone()
    }

    /// The HPAs.
    pub(crate) fn hpas(&self) -> &Hpas {
        &self.state.hpas
    }

    /// The resources and their objects.
    pub(crate) fn objects(&self) -> &Objects {
        &self.state.objects
    }

    /// The scales of Deployments.
    pub(crate) fn scales(&self) -> &Scales {
        &self.state.scales
    }

    /// Resources of kinds that are installed, metric resources among them. None at first.
    pub(crate) fn custom_resources(&self) -> &CustomResources {
        &self.state.custom_resources
    }

    /// Secrets and `APIServices`.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.state.certificates
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.told()
    }
}

impl Drop for ClusterApi {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: &TcpListener, state: &Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(state);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let server = Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl State {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no holder panics")
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let accept = request.headers().get(http::header::ACCEPT);
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let parameter = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(answer) = self.certificates.answer(&method, &path, &body, parameter) {
            return answer;
        }
        match path.as_str() {
            hpas::PATH => self.hpas.answer(parameter),
            "/api/v1/namespaces/kube-system/configmaps" => {
                if matches!(parameter("watch").as_deref(), Some("true" | "1")) {
                    let known = parameter("resourceVersion").and_then(|v| v.parse().ok());
                    return self.watch(known.unwrap_or_default());
                }
                let (version, data) = self.trust.borrow().clone();
                whole(&json!({
                    "apiVersion": "v1", "kind": "ConfigMapList",
                    "metadata": {"resourceVersion": version.to_string()},
                    "items": [config_map(version, &data)],
                }))
            }
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                let resource = &body["spec"]["resourceAttributes"]["resource"];
                let hangs = self.told().hanging.iter().any(|hanging| *resource == **hanging);
                if hangs {
                    std::future::pending::<()>().await;
                }
                self.review_access(body)
            }
            "/apis/authentication.k8s.io/v1/tokenreviews" => self.review_token(body),
            path if path.ends_with("/scale") => self.scales.answer(path),
            path => {
                let found = self.custom_resources.answer(path, &parameter);
                let found = found.or_else(|| self.objects.answer(path, &accept, parameter));
                found.unwrap_or_else(|| {
                    let message = "the server could not find the requested resource";
                    refusal(StatusCode::NOT_FOUND, "NotFound", message)
                })
            }
        }
    }

    /// Every version of the `ConfigMap` above the known one, for ever.
    fn watch(&self, known: u64) -> Response<Body> {
        let events =
            stream::unfold((self.trust.subscribe(), known), |(mut trust, known)| async move {
                let (version, data) = trust.wait_for(|(v, _)| *v > known).await.ok()?.clone();
                let event = json!({"type": "MODIFIED", "object": config_map(version, &data)});
                Some((Bytes::from(format!("{event}\n")), (trust, version)))
            });
        let frames = events.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(Box::pin(frames))))
    }

    fn review_access(&self, mut review: Value) -> Response<Body> {
        let mut told = self.told();
        let spec = review["spec"].clone();
        told.access.push(spec.clone());
        if told.reviews_fail {
            return down();
        }
        let allowed = (told.allow)(&spec);
        review["status"] = json!({"allowed": allowed});
        whole(&review)
    }

    fn review_token(&self, mut review: Value) -> Response<Body> {
        let mut told = self.told();
        let spec = review["spec"].clone();
        told.token.push(spec.clone());
        if told.reviews_fail {
            return down();
        }
        let user = spec["token"].as_str().and_then(|token| told.tokens.get(token));
        review["status"] = match user {
            Some(user) => json!({"authenticated": true, "user": user}),
            None => json!({"authenticated": false}),
        };
        whole(&review)
    }
}

fn config_map(version: u64, data: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "extension-apiserver-authentication", "namespace": "kube-system",
            "resourceVersion": version.to_string(), "uid": "1",
        },
        "data": data,
    })
}

fn down() -> Response<Body> {
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away")
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    respond(code, BodyExt::boxed(Full::new(Bytes::from(status.to_string()))))
}

fn whole(value: &Value) -> Response<Body> {
    respond(StatusCode::OK, BodyExt::boxed(Full::new(Bytes::from(value.to_string()))))
}

fn respond(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
