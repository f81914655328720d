//! Rule files as people meet them: `tidepole query --rules`, `tidepole check --explain`, and the
//! binary under the name and with the arguments of prometheus-adapter.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::{Connection, Protocol};
use crate::support::cluster_api::{ClusterApi, PODS, Served, trust};
use crate::support::process::tidepole;
use crate::support::server::Reader;
use crate::support::tls::{Authority, install_provider};
use crate::support::upstream::{Prometheus, Reply};
use crate::support::wait::{PATIENCE, until};

const NAMESPACES: Served = Served {
    group: "",
    version: "v1",
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    namespaced: false,
};

const RULES: &str = "\
rules:
- seriesQuery: 'http_requests_total{namespace!=\"\",pod!=\"\"}'
  resources: { overrides: { namespace: { resource: namespace }, pod: { resource: pod } } }
  name: { matches: '^(.*)_total$', as: '${1}_per_second' }
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
externalRules:
- seriesQuery: 'queue_depth{queue!=\"\"}'
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (queue)'
  resources: { overrides: { namespace: { resource: namespace } } }
";

const PODS_QUERY: &str =
    r#"sum(rate(http_requests_total{namespace="shop",pod=~"web-0|web-1|web-2"}[2m])) by (pod)"#;

/// A folder with a rules file, and a Prometheus that has its series.
struct Bench {
    folder: tempfile::TempDir,
    fake: Prometheus,
}

impl Bench {
    fn new() -> Self {
        let bench =
            Self { folder: tempfile::tempdir().expect("a folder"), fake: Prometheus::start() };
        bench.write("rules.yaml", RULES);
        let series = |selector, data: &Value| {
            let body = json!({"status": "success", "data": data}).to_string();
            bench.fake.series(selector, Reply::json(200, body));
        };
        series(
            r#"http_requests_total{namespace!="",pod!=""}"#,
            &json!([{"__name__": "http_requests_total", "namespace": "shop", "pod": "web-0"}]),
        );
        series(
            r#"queue_depth{queue!=""}"#,
            &json!([{"__name__": "queue_depth", "namespace": "shop", "queue": "jobs"}]),
        );
        // Of the third pod there is nothing yet.
        bench.fake.vector(PODS_QUERY, &[(r#""pod":"web-0""#, "10"), (r#""pod":"web-1""#, "20.5")]);
        bench.fake.vector(
            r#"sum(queue_depth{queue="jobs",namespace="shop"}) by (queue)"#,
            &[(r#""queue":"jobs""#, "7")],
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the folder is ours");
    }

    fn url(&self) -> String {
        self.fake.server().url()
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let (last, others) = arguments.split_last().expect("a subcommand");
        let mut command = tidepole(others, last.as_ref());
        let output =
            command.current_dir(self.folder.path()).output().expect("the binary was built");
        let text = |bytes| String::from_utf8(bytes).expect("the output is text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// `tidepole query -o json` with the rules and the Prometheus.
    fn query(&self, arguments: &[&str]) -> Value {
        let url = self.url();
        let begin = ["query", "-o", "json", "--rules", "rules.yaml", "--prometheus", &url];
        let (_, out, err) = self.run(&[&begin[..], arguments].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }
}

#[test]
fn a_metric_of_named_pods_is_followed_to_the_average() {
    let bench = Bench::new();
    let names = ["--name", "web-2", "--name", "web-0", "--name", "web-1"];
    let arguments = [&names[..], &["-n", "shop", "pods/http_requests_per_second"]].concat();
    let seen = bench.query(&arguments);
    assert_eq!(seen["query"], PODS_QUERY);
    assert_eq!(seen["calls"][0]["request"]["parameters"]["query"], PODS_QUERY, "{seen}");
    let result = &seen["result"];
    let objects: Vec<&Value> =
        result["items"].as_array().expect("items").iter().map(|item| &item["object"]).collect();
    assert_eq!(objects, ["Pod shop/web-0", "Pod shop/web-1"]);
    assert_eq!((&result["served"], &result["value"]), (&json!(true), &json!("15250m")));
    assert_eq!(seen["definition"]["kind"], "Rule");
    assert_eq!(seen["definition"]["name"], "rules[0]");
    assert_eq!(seen["definition"]["origin"], "rules.yaml:2");

    let url = bench.url();
    let begin = ["query", "--rules", "rules.yaml", "--prometheus", &url];
    let (code, out, err) = bench.run(&[&begin[..], &arguments].concat());
    assert_eq!(code, Some(0), "{err}");
    for line in [
        "Definition   Rule rules[0], rules.yaml:2",
        "Metric       pods/http_requests_per_second",
        "Item         Pod shop/web-1 20.5 = 20500m",
        "Result       15250m (15.25), the average of 2 items would be served: fresh,",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
}

#[test]
fn pods_are_those_of_the_cluster_that_match() {
    let bench = Bench::new();
    let cluster = ClusterApi::start([].into());
    cluster.objects().serve(&[NAMESPACES, PODS]);
    for name in ["web-0", "web-1", "web-2"] {
        cluster.objects().put(&PODS, "shop", name, &[("app", "web")]);
    }
    cluster.objects().put(&PODS, "shop", "other", &[("app", "other")]);
    bench.write("kubeconfig", &cluster.kubeconfig());
    let at = ["--kubeconfig", "kubeconfig", "-n", "shop"];
    let seen =
        bench.query(&[&at[..], &["-l", "app=web", "pods/http_requests_per_second"]].concat());
    assert_eq!(seen["query"], PODS_QUERY);
    assert_eq!(seen["result"]["value"], "15250m", "{seen}");
    // None match: as the server says it, and nothing is asked.
    let asked = bench.fake.hits(PODS_QUERY);
    let seen = bench.query(&[&at[..], &["-l", "app=no", "pods/http_requests_per_second"]].concat());
    assert_eq!(seen["result"]["served"], false, "{seen}");
    assert_eq!(seen["calls"], json!([]));
    assert_eq!(bench.fake.hits(PODS_QUERY), asked);
    // A cluster without the resource of an override.
    cluster.objects().serve(&[PODS]);
    let url = bench.url();
    let (code, out, err) = bench.run(&[
        "check",
        "--explain",
        "--prometheus",
        &url,
        "--kubeconfig",
        "kubeconfig",
        "rules.yaml",
    ]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("Resources: the cluster's, by API discovery.\n"), "{out}");
    assert!(out.contains("resources.overrides.namespace: the cluster has no resource"), "{out}");
}

#[test]
fn an_external_metric_is_asked_with_the_config_or_without() {
    let bench = Bench::new();
    let seen = bench.query(&["-n", "shop", "-l", "queue=jobs", "external/queue_depth"]);
    assert_eq!(seen["result"]["value"], "7", "{seen}");
    assert_eq!(seen["result"]["items"][0]["labels"], json!({"queue": "jobs"}));
    bench.write(
        "server.yaml",
        &format!(
            "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\n\
             server: {{ listen: '127.0.0.1:0', auth: none }}\nkubernetes: {{ enabled: false }}\n\
             sources: [{{ name: main, prometheus: {{ url: '{}' }} }}]\n\
             rules: [{{ path: rules.yaml }}]\n",
            bench.url()
        ),
    );
    let of_config =
        ["query", "-o", "json", "--config", "server.yaml", "-n", "shop", "-l", "queue=jobs"];
    let (code, out, err) = bench.run(&[&of_config[..], &["queue_depth"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let seen: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((&seen["source"], &seen["result"]["value"]), (&json!("main"), &json!("7")));
    // An empty list is what the API answers, and what no HPA takes.
    let seen = bench.query(&["-n", "empty", "external/queue_depth"]);
    let said = seen["result"]["error"].as_str().expect("an error");
    assert!(said.contains("no metrics returned from external metrics API"), "{said}");
}

#[test]
fn a_dry_run_shows_the_query_and_asks_nobody() {
    let bench = Bench::new();
    let (code, out, err) = bench.run(&[
        "query",
        "--rules",
        "rules.yaml",
        "--dry-run",
        "-n",
        "shop",
        "--name",
        "web-0",
        "pods/http_requests_per_second",
    ]);
    assert_eq!(code, Some(0), "{err}");
    let query = r#"sum(rate(http_requests_total{namespace="shop",pod="web-0"}[2m])) by (pod)"#;
    let told = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(&format!("Query {query}")), "{out}");
    assert!(out.contains("dry run: nothing was sent"), "{out}");
    assert_eq!(bench.fake.server().seen().len(), 0);
}

#[test]
fn what_is_not_there_or_not_said_is_told() {
    let bench = Bench::new();
    let url = bench.url();
    let query = ["query", "--rules", "rules.yaml", "--prometheus", &url];
    for (arguments, code, said) in [
        (&["pods/http_requests_per_secund"][..], 1, "did you mean \"http_requests_per_second\"?"),
        (&["brands/x"], 1, "there is no resource \"brands\"; resources are Kubernetes' own"),
        (
            &["pods/http_requests_per_second"],
            2,
            "give it with --kubeconfig FILE, or names with --name",
        ),
        (&["--name", "x", "queue_depth"], 2, "are for metrics of objects"),
    ] {
        let (exit, out, err) = bench.run(&[&query[..], arguments].concat());
        assert_eq!(exit, Some(code), "{arguments:?}: {out}{err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    let (exit, _, err) = bench.run(&["query", "--rules", "rules.yaml", "queue_depth"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("--prometheus URL"), "{err}");
    // One pod without a series: not found, as the server says it.
    let (exit, out, _) =
        bench.run(&[&query[..], &["--name", "x", "pods/http_requests_per_second"]].concat());
    assert_eq!(exit, Some(1), "{out}");
    assert!(
        out.contains("the server could not find the metric http_requests_per_second for pods x"),
        "{out}"
    );
}

/// The binary under prometheus-adapter's name.
fn adapter(bench: &Bench) -> PathBuf {
    let path = bench.path("adapter");
    if !path.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tidepole"), &path).expect("a link");
    }
    path
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn called_as_adapter_it_serves_with_the_originals_arguments() {
    install_provider();
    let bench = Bench::new();
    let (proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&proxy.pem(), &clients.pem()));
    cluster.objects().serve(&[NAMESPACES, PODS]);
    for name in ["web-0", "web-1", "web-2"] {
        cluster.objects().put(&PODS, "shop", name, &[("app", "web")]);
    }
    bench.write("kubeconfig", &cluster.kubeconfig());
    let serving = Authority::new("serving-ca");
    fs::create_dir(bench.path("cert")).expect("the folder is ours");
    serving.server(&["localhost"]).write(&bench.path("cert"), "apiserver");
    let mut command = Command::new(adapter(&bench));
    command
        .args(["/adapter", "--secure-port=0", "--bind-address=127.0.0.1", "--cert-dir=cert"])
        .args([
            "--logtostderr=true",
            "--v=6",
            "--metrics-relist-interval=1m",
            "--config=rules.yaml",
        ])
        .args(["--lister-kubeconfig=kubeconfig", "--admin-listen=127.0.0.1:0"])
        .arg(format!("--prometheus-url={}/", bench.url()))
        .current_dir(bench.folder.path())
        .env_remove("KUBECONFIG")
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("the link leads to the binary"));
    let (api, admin) = addresses(&mut running);

    let pair = proxy.client("front-proxy-client", &[]);
    let config = serving.client_config(Some(&pair));
    let connection = Connection::tls(api, "localhost", &config, Protocol::Http2).await;
    let mut reader = Reader(connection.expect("it takes connections"));
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/http_requests_per_second?labelSelector=app%3Dweb";
    let headers = [("X-Remote-User", "system:kube-controller-manager")];
    let items = until("the pods' values", async || {
        let answer = reader.0.get(path, &headers).await.expect("an answer");
        let value: Value = serde_json::from_str(answer.text()).unwrap_or_default();
        match value["items"].as_array() {
            Some(items) if items.len() == 2 => Ok(items.clone()),
            _ => Err(answer.text().to_owned()),
        }
    })
    .await;
    let values: Vec<_> =
        items.iter().map(|i| (&i["describedObject"]["name"], &i["value"])).collect();
    assert_eq!(values, [(&json!("web-0"), &json!("10")), (&json!("web-1"), &json!("20500m"))]);
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/queue_depth?labelSelector=queue%3Djobs";
    let answer = reader.0.get(path, &headers).await.expect("an answer");
    assert!(answer.text().contains(r#""value":"7""#), "{}", answer.text());

    // The status page has both, with the rules.
    let door = crate::support::server::AdminDoor(admin);
    let page: Value = door.get("/api/metrics").await.json();
    assert_eq!(page["rules"]["customMetrics"], 2, "{page}");
    assert_eq!(page["rules"]["externalMetrics"], 1);
    let names: Vec<&str> = page["metrics"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|m| m["metric"].as_str())
        .collect();
    assert!(names.contains(&"pods/http_requests_per_second"), "{names:?}");
    assert!(running.0.try_wait().expect("our child").is_none());
}

/// Where it listens, from the line that says so.
fn addresses(running: &mut Running) -> (SocketAddr, SocketAddr) {
    let stderr = running.0.stderr.take().expect("it is piped");
    let (tell, log) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Nobody may be reading any more.
            let _ = tell.send(line);
        }
    });
    let begin = Instant::now();
    let mut seen = Vec::new();
    loop {
        let left = PATIENCE.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
        let Ok(line) = log.recv_timeout(left) else { panic!("it does not serve: {seen:#?}") };
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}="))?;
            rest.split(' ').next()?.parse().ok()
        };
        if let (true, Some(api), Some(admin)) =
            (line.contains("serving"), field("api"), field("admin"))
        {
            return (api, admin);
        }
        seen.push(line);
    }
}

#[test]
fn a_wrong_rules_file_is_exit_code_1_with_every_mistake_and_its_place() {
    let bench = Bench::new();
    bench.write(
        "bad.yaml",
        "rules:\n- seriesQuery: a\n  metricsQuery: '<<.Oops'\n- seriesQuery: b\n  metricsQuery: c\n  name: { matches: '(' }\n",
    );
    let run = |arguments: &[&str]| {
        let mut command = Command::new(adapter(&bench));
        let output = command.args(arguments).current_dir(bench.folder.path()).output();
        let output = output.expect("the link leads to the binary");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let url = format!("--prometheus-url={}", bench.url());
    let (code, said) = run(&[&url, "--config=bad.yaml", "--secure-port=0"]);
    assert_eq!(code, Some(1), "{said}");
    for place in
        ["bad.yaml:3:17: rules[0].metricsQuery: ", "bad.yaml:6:20: rules[1].name.matches: "]
    {
        assert!(said.contains(place), "{place}: {said}");
    }
    // A flag that nobody knows is usage.
    assert_eq!(run(&["--no-such-flag"]).0, Some(2));
}
