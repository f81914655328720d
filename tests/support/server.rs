//! A Tidepole under test: its folder, its config, and the running server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;
use tidepole::config::{Config, Overrides};
use tidepole::runtime::{self, Running, Surroundings};
use tokio::runtime::Handle;

use super::client::{Answer, Connection, Failure, Protocol};
use super::cluster_api::ClusterApi;
use super::tls::{Authority, Pair, install_provider};
use super::wait::until;

/// The name in the serving certificate.
pub(crate) const NAME: &str = "localhost";

/// A folder with everything that a Tidepole is started from.
pub(crate) struct Setup {
    folder: TempDir,
    /// Vouches for the serving certificate.
    pub(crate) authority: Authority,
    sources: String,
    defaults: String,
    resources: String,
    tls: String,
    limits: String,
    cluster: bool,
}

impl Setup {
    /// A server without cluster, sources and definitions. `sources` is a YAML list.
    pub(crate) fn new(sources: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let authority = Authority::new("serving-ca");
        for name in ["metrics.d", "tls"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        authority.server(&[NAME]).write(&folder.path().join("tls"), "tls");
        let (sources, defaults) = (sources.to_owned(), "{ refresh: 1s }".to_owned());
        let resources = "{}".to_owned();
        let tls = "{ certFile: tls/tls.crt, keyFile: tls/tls.key }".to_owned();
        let limits = "{}".to_owned();
        Self { folder, authority, sources, defaults, resources, tls, limits, cluster: false }
    }

    /// Sets `sources` of the config: a YAML list, indented.
    #[must_use]
    pub(crate) fn sources(mut self, sources: &str) -> Self {
        sources.clone_into(&mut self.sources);
        self
    }

    /// Sets `defaults` of the config.
    #[must_use]
    pub(crate) fn defaults(mut self, defaults: &str) -> Self {
        defaults.clone_into(&mut self.defaults);
        self
    }

    /// Sets `resources` of the config.
    #[must_use]
    pub(crate) fn resources(mut self, resources: &str) -> Self {
        resources.clone_into(&mut self.resources);
        self
    }

    /// Sets `server.tls` of the config.
    #[must_use]
    pub(crate) fn tls(mut self, tls: &str) -> Self {
        tls.clone_into(&mut self.tls);
        self
    }

    /// Sets `server.limits` of the config.
    #[must_use]
    pub(crate) fn limits(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.limits);
        self
    }

    /// Delegates authentication and authorization to a cluster.
    #[must_use]
    pub(crate) fn cluster(self, cluster: &ClusterApi) -> Self {
        self.kubeconfig(&cluster.kubeconfig())
    }

    /// The same, by a kubeconfig.
    #[must_use]
    pub(crate) fn kubeconfig(mut self, kubeconfig: &str) -> Self {
        fs::write(self.path("kubeconfig"), kubeconfig).expect("the folder is ours");
        self.cluster = true;
        self
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where definitions are.
    pub(crate) fn definitions(&self) -> PathBuf {
        self.path("metrics.d")
    }

    /// Writes a definition file, as editors do: beside, then moved into place.
    pub(crate) fn define(&self, file: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, text).expect("the folder is ours");
        fs::rename(draft, self.definitions().join(file)).expect("the folder is ours");
    }

    /// The same, while building.
    #[must_use]
    pub(crate) fn with(self, file: &str, text: &str) -> Self {
        self.define(file, text);
        self
    }

    /// Writes the config and gives its path.
    pub(crate) fn config(&self) -> PathBuf {
        let (auth, kubernetes) = if self.cluster {
            ("delegated", "{ kubeconfig: kubeconfig }")
        } else {
            ("none", "{ enabled: false }")
        };
        let text = format!(
            "apiVersion: tidepole.dev/v1alpha1\n\
             kind: ServerConfig\n\
             server:\n  \
               listen: 127.0.0.1:0\n  \
               tls: {tls}\n  \
               auth: {auth}\n  \
               limits: {limits}\n\
             admin: {{ listen: \"127.0.0.1:0\" }}\n\
             kubernetes: {kubernetes}\n\
             sources:\n{sources}\n\
             definitions: {{ paths: [metrics.d] }}\n\
             resources: {resources}\n\
             defaults: {defaults}\n",
            tls = self.tls,
            limits = self.limits,
            sources = self.sources,
            resources = self.resources,
            defaults = self.defaults,
        );
        let path = self.path("config.yaml");
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Starts the server on the test's runtime.
    pub(crate) async fn start(self) -> Tidepole {
        self.start_on(Handle::current(), Handle::current()).await
    }

    /// Starts the server; reads are served on `serve`, all else happens on `refresh`.
    pub(crate) async fn start_on(self, serve: Handle, refresh: Handle) -> Tidepole {
        self.start_in(Surroundings::of_process(), serve, refresh).await
    }

    /// Starts the server on the test's runtime, with the test's clock and metrics.
    pub(crate) async fn start_within(self, surroundings: Surroundings) -> Tidepole {
        self.start_in(surroundings, Handle::current(), Handle::current()).await
    }

    async fn start_in(
        self,
        surroundings: Surroundings,
        serve: Handle,
        refresh: Handle,
    ) -> Tidepole {
        install_provider();
        let config = Config::load(&self.config(), &Overrides::default())
            .unwrap_or_else(|problems| panic!("the test's config is wrong: {problems:#?}"));
        let running = runtime::start_in(surroundings, config, serve, refresh).await;
        let running = running.expect("the server starts");
        let client = self.authority.client_config(None);
        Tidepole { setup: self, running, client }
    }
}

/// A running server.
pub(crate) struct Tidepole {
    pub(crate) setup: Setup,
    pub(crate) running: Running,
    /// Trusts the server and shows no certificate.
    pub(crate) client: Arc<ClientConfig>,
}

impl Tidepole {
    /// A new connection without a certificate.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Result<Connection, Failure> {
        Connection::tls(self.running.api_address(), NAME, &self.client, protocol).await
    }

    /// A new connection with a certificate.
    pub(crate) async fn connect_as(
        &self,
        identity: &Pair,
        protocol: Protocol,
    ) -> Result<Connection, Failure> {
        let config = self.setup.authority.client_config(Some(identity));
        Connection::tls(self.running.api_address(), NAME, &config, protocol).await
    }

    /// A new HTTP/2 connection that must come about.
    pub(crate) async fn reader(&self) -> Reader {
        Reader(self.connect(Protocol::Http2).await.expect("the server takes connections"))
    }

    /// The admin listener.
    pub(crate) fn door(&self) -> AdminDoor {
        AdminDoor(self.running.admin_address())
    }

    /// Asks the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        self.door().get(path).await
    }

    /// What `/api/metrics` says about a metric's first row.
    pub(crate) async fn row(&self, metric: &str) -> Value {
        self.door().row(metric).await
    }

    /// Waits until the server says that it is ready.
    pub(crate) async fn ready(&self) {
        self.door().ready().await;
    }

    /// Checks that nothing has died in the server.
    pub(crate) fn check(&mut self) {
        use futures::FutureExt;
        let died = self.running.died().now_or_never();
        assert!(died.is_none(), "a background task died: {}", died.expect("checked"));
    }

    /// Checks that nothing has died, and stops the server.
    pub(crate) async fn stop(mut self) {
        self.check();
        let limit = Duration::from_secs(10);
        self.running.stop(limit, limit).await;
    }
}

/// Where people and probes ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminDoor(pub(crate) SocketAddr);

impl AdminDoor {
    /// Asks.
    pub(crate) async fn get(self, path: &str) -> Answer {
        let mut connection = Connection::plain(self.0).await.expect("the admin listener is there");
        connection.get(path, &[]).await.expect("the admin listener answers")
    }

    /// What `/api/metrics` says about a metric's first row.
    pub(crate) async fn row(self, metric: &str) -> Value {
        let all = self.get("/api/metrics").await.json();
        let rows = all["metrics"].as_array().expect("metrics are a list");
        rows.iter().find(|row| row["metric"] == metric).cloned().unwrap_or_default()
    }

    /// Waits until the server says that it is ready.
    pub(crate) async fn ready(self) {
        until("readiness", async || {
            let answer = self.get("/readyz?verbose").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
    }
}

/// A connection that reads metrics.
pub(crate) struct Reader(pub(crate) Connection);

/// Where a metric is read.
pub(crate) fn path_of(namespace: &str, metric: &str) -> String {
    format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}")
}

impl Reader {
    /// Reads `metric` in `default`; `what` may end in `?labelSelector=...`.
    pub(crate) async fn read(&mut self, what: &str) -> Answer {
        self.get(&path_of("default", what)).await
    }

    /// Any path.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.0.get(path, &[]).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Reads until the values are these.
    pub(crate) async fn until_values(&mut self, what: &str, wanted: &[&str]) {
        until(what, async || {
            let answer = self.read(what).await;
            let found = answer.status == 200 && values(&answer) == wanted;
            if found { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
    }

    /// Reads until the status is this one, and gives that answer.
    pub(crate) async fn until_status(&mut self, what: &str, status: u16) -> Answer {
        until(what, async || {
            let answer = self.read(what).await;
            if answer.status == status { Ok(answer) } else { Err(answer.text().to_owned()) }
        })
        .await
    }
}

/// The values of a list, in its order.
pub(crate) fn values(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.text()));
    items.iter().map(|item| item["value"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Checks a `metav1.Status` and gives its message.
#[track_caller]
pub(crate) fn status(answer: &Answer, code: u16, reason: &str) -> String {
    assert_eq!(answer.status, code, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("retry-after"), "", "client-go would sleep in the HPA's worker");
    let status = answer.json();
    assert_eq!(status["kind"], "Status", "{status}");
    assert_eq!((&status["code"], &status["reason"]), (&code.into(), &reason.into()), "{status}");
    status["message"].as_str().expect("a Status has a message").to_owned()
}

/// Reads until the value is no longer served; gives the sentence. Every value until then must be
/// the last good one, and at least one must be read while the page says that the upstream failed.
pub(crate) async fn outlive(mut reader: Reader, door: AdminDoor, name: &str, good: &str) -> String {
    let mut held = false;
    let message = until(name, async || {
        let failed_before = !door.row(name).await["lastError"].is_null();
        let answer = reader.read(name).await;
        if answer.status == 200 {
            assert_eq!(values(&answer), [good], "{name}");
            held |= failed_before;
            return Err(answer.text().to_owned());
        }
        Ok(status(&answer, 503, "ServiceUnavailable"))
    })
    .await;
    assert!(held, "{name}: no value was held while its upstream failed; then: {message}");
    message
}

/// A namespaced definition in `default`. `spec` is YAML in flow style, without its braces.
pub(crate) fn metric(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\n\
         metadata: {{ name: {name}, namespace: default }}\nspec: {{ {spec} }}\n"
    )
}

/// A link named `..data` in `folder` that points to a new folder with these files, swapped in one
/// step, and for each file a link to it through `..data`: how kubelet brings configuration and
/// certificates into pods.
pub(crate) fn kubelet_swap(folder: &Path, generation: u32, files: &[(&str, &str)]) {
    use std::os::unix::fs::symlink;
    let real = folder.join(format!("..generation_{generation}"));
    fs::create_dir(&real).expect("the folder is ours");
    for (name, text) in files {
        fs::write(real.join(name), text).expect("the folder is ours");
    }
    let draft = folder.join("..data_tmp");
    symlink(real.file_name().expect("it has a name"), &draft).expect("the folder is ours");
    fs::rename(draft, folder.join("..data")).expect("the folder is ours");
    for (name, _) in files {
        let link = folder.join(name);
        if !link.is_symlink() {
            // What a test's set-up left there.
            let _ = fs::remove_file(&link);
            symlink(Path::new("..data").join(name), link).expect("the folder is ours");
        }
    }
    if let Some(old) = generation.checked_sub(1) {
        let _ = fs::remove_dir_all(folder.join(format!("..generation_{old}")));
    }
}
