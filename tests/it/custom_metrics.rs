//! Metrics of objects from our own documents: a file, a cluster with pods, a Prometheus.

use crate::support::client::{Answer, Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, PODS, Served, trust};
use crate::support::server::{Setup, Tidepole, status};
use crate::support::tls::{Authority, Pair};
use crate::support::upstream::Prometheus;
use crate::support::wait::until;

pub(crate) const INGRESSES: Served = Served {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ingresses",
    singular: "ingress",
    kind: "Ingress",
    namespaced: true,
};

const HPA: (&str, &str) =
    ("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");

/// The question about the pods of these names.
fn requests(pods: &str) -> String {
    format!("sum by (pod) (rate(requests{{namespace=\"shop\",pod=~\"{pods}\"}}[2m]))")
}

/// A definition of the kind for all namespaces. `spec` is YAML in flow style, without its braces.
fn definition(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tidepole.dev/v1alpha1\nkind: ClusterCustomMetric\n\
         metadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
    )
}

struct World {
    cluster: ClusterApi,
    upstream: Prometheus,
    identity: Pair,
    server: Tidepole,
}

async fn world(definitions: &str) -> World {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[PODS, INGRESSES]);
    let upstream = Prometheus::start();
    let url = upstream.server().url();
    let setup = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"));
    let server = setup.cluster(&cluster).with("custom.yaml", definitions).start().await;
    server.ready().await;
    let identity = front_proxy.client("front-proxy-client", &[]);
    World { cluster, upstream, identity, server }
}

impl World {
    async fn controller(&self) -> Controller {
        Controller::of(&self.server, &self.identity).await
    }
}

/// The HPA controller, as it reads metrics of objects in namespace `shop`.
pub(crate) struct Controller(Connection);

impl Controller {
    /// `identity` is the aggregator's.
    pub(crate) async fn of(server: &Tidepole, identity: &Pair) -> Self {
        let connection = server.connect_as(identity, Protocol::Http2).await;
        Self(connection.expect("the aggregator is let in"))
    }

    pub(crate) async fn get(&mut self, what: &str) -> Answer {
        let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/{what}");
        self.0.get(&path, &[HPA]).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Reads until the objects and their values are these.
    async fn until(&mut self, what: &str, wanted: &[&str]) {
        until(what, async || {
            let answer = self.get(what).await;
            let found = answer.status == 200 && items(&answer) == wanted;
            if found { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
    }
}

/// The objects of a list and their values.
pub(crate) fn items(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.text()));
    let text = |item: &serde_json::Value| {
        let object = &item["describedObject"];
        let [kind, name] = ["kind", "name"].map(|key| object[key].as_str().unwrap_or_default());
        format!("{kind} {name} {}", item["value"].as_str().unwrap_or_default())
    };
    items.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_have_the_values_that_a_document_asks_for() {
    let query =
        "sum by (pod) (rate(requests{namespace=\\\"$namespace\\\",pod=~\\\"$objects\\\"}[2m]))";
    let spec = format!(
        "metric: Requests, resource: pods, prometheus: {{ query: \"{query}\" }}, scale: 10"
    );
    let world = world(&definition("requests", &spec)).await;
    let objects = world.cluster.objects();
    for (name, app) in [("web-a", "web"), ("web-b", "web"), ("web.c", "web"), ("db-0", "db")] {
        objects.put(&PODS, "shop", name, &[("app", app)]);
    }
    objects.put(&PODS, "bank", "web-z", &[("app", "web")]);
    let web = [("\"pod\":\"web-a\"", "1.5"), ("\"pod\":\"web.c\"", "2"), ("\"pod\":\"x\"", "9")];
    world.upstream.vector(&requests("web-a|web-b|web[.]c"), &web);
    world.upstream.vector(&requests("db-0"), &[("\"pod\":\"db-0\"", "4")]);
    let mut controller = world.controller().await;

    // The first read lists the pods and asks for their values; a pod without a series is left out.
    let first = controller.get("pods/*/Requests?labelSelector=app%3Dweb").await;
    assert_eq!(items(&first), ["Pod web-a 15", "Pod web.c 20"]);
    let one = controller.get("pods/db-0/Requests").await;
    assert_eq!(items(&one), ["Pod db-0 40"]);
    assert_eq!(objects.lists(&PODS), 1);

    // A pod that comes is in the next question.
    objects.put(&PODS, "shop", "web-d", &[("app", "web")]);
    let more = [("\"pod\":\"web-a\"", "1"), ("\"pod\":\"web-d\"", "3")];
    world.upstream.vector(&requests("web-a|web-b|web-d|web[.]c"), &more);
    controller
        .until("pods/*/Requests?labelSelector=app%3Dweb", &["Pod web-a 10", "Pod web-d 30"])
        .await;

    let refused = controller.get("pods/*/Requests?metricLabelSelector=a%3Db").await;
    assert!(status(&refused, 400, "BadRequest").contains("metricLabelSelector"));
    let missing = controller.get("pods/*/requests").await;
    status(&missing, 404, "NotFound");
    let nobody = controller.get("pods/*/Requests?labelSelector=app%3Dx").await;
    assert!(status(&nobody, 404, "NotFound").contains("no pods match"));

    let row = world.server.row("Requests").await;
    assert_eq!(row["definition"], "ClusterCustomMetric requests");
    assert_eq!((&row["scope"], &row["state"]), (&"shop".into(), &"fresh".into()), "{row}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_metric_is_asked_for_once_and_changes_with_its_file() {
    let all = "resource: ingresses.networking.k8s.io, prometheus: { query: load }";
    let world = world(&definition("load", all)).await;
    let series = [("\"ingress\":\"main\"", "7"), ("\"ingress\":\"blog\"", "1")];
    world.upstream.vector("load", &series);
    let mut controller = world.controller().await;
    for (name, value) in [("main", "7"), ("blog", "1")] {
        let answer = controller.get(&format!("ingresses.networking.k8s.io/{name}/load")).await;
        assert_eq!(items(&answer), [format!("Ingress {name} {value}")]);
    }
    let silent = controller.get("ingresses.networking.k8s.io/new/load").await;
    let why = status(&silent, 503, "ServiceUnavailable");
    assert!(why.contains("no series of the answer has ingress=\"new\""), "{why}");

    world.server.setup.define("custom.yaml", &definition("load", &format!("{all}, onNoData: 3")));
    controller.until("ingresses.networking.k8s.io/new/load", &["Ingress new 3"]).await;

    // A resource that there is not is named, to whoever reads.
    let typo = "resource: ingreses.networking.k8s.io, prometheus: { query: load }";
    world.server.setup.define("custom.yaml", &definition("load", typo));
    until("the sentence", async || {
        let answer = controller.get("ingresses.networking.k8s.io/main/load").await;
        let named =
            answer.status == 404 && answer.text().contains("about ingreses.networking.k8s.io");
        if named { Ok(()) } else { Err(answer.text().to_owned()) }
    })
    .await;
    world.server.stop().await;
}
