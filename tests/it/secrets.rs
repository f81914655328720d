//! Secrets stay inside: whatever a source, a cluster or a client hands over in confidence is in
//! nothing that the process prints or serves, not even when an upstream repeats all that it was sent.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::{Answer, Connection, Failure, Protocol};
use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::process::{Process, tidepole};
use crate::support::server::{Setup, metric, path_of};
use crate::support::tls::Authority;
use crate::support::upstream::{Reply, Request, Upstream};

/// Every secret has this in it, and so has nothing else.
const CANARY: &str = "canary0sings";

/// What an upstream may do with what it was sent. Each is a query of its own.
const FORMS: [&str; 8] =
    ["error", "page", "plain", "warning", "label", "name", "value", "redirect"];

/// The secret of this name: long enough to be told from a word, with what encodings change.
fn secret(name: &str) -> String {
    format!("{CANARY}/{name}+{name}=")
}

/// Everything that a request says, in one line.
fn dump(request: &Request) -> String {
    let mut text = format!("{} {}", request.method, request.target);
    for (name, value) in &request.headers {
        let _ = write!(text, " {name}: {value}");
        // Somebody may read the password in it.
        if let Some(basic) = value.strip_prefix("Basic ") {
            let _ = write!(text, " ({})", String::from_utf8_lossy(&decoded(basic)));
        }
    }
    let _ = write!(text, " {}", String::from_utf8_lossy(&request.body));
    text
}

fn decoded(base64: &str) -> Vec<u8> {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.decode(base64).unwrap_or_default()
}

/// A Prometheus that repeats what it is sent.
fn prometheus() -> Upstream {
    Upstream::start(|request| {
        let said = dump(request);
        let vector = |labels: Value, value: &str, warnings: Value| {
            let now = jiff::Timestamp::now().as_second();
            let result = json!([{"metric": labels, "value": [now, value]}]);
            let data = json!({"resultType": "vector", "result": result});
            Reply::json(
                200,
                json!({"status": "success", "data": data, "warnings": warnings}).to_string(),
            )
        };
        match request.parameter("query").as_deref() {
            Some("error") => {
                let body = json!({"status": "error", "errorType": "bad_data", "error": said});
                Reply::json(400, body.to_string())
            }
            Some("page") => Reply::text(401, "text/html", format!("<h1>{said}</h1>")),
            Some("plain") => Reply::text(200, "text/plain", said),
            Some("warning") => vector(json!({}), "5", json!([said])),
            Some("label") => vector(json!({"seen": said}), "5", json!([])),
            Some("name") => vector(json!({(said): "x"}), "5", json!([])),
            Some("value") => vector(json!({}), &said, json!([])),
            _ => Reply::text(302, "text/plain", &*said).with_header(
                "location",
                &format!("http://127.0.0.1:1/?{}", said.replace(' ', "+")),
            ),
        }
    })
}

/// An AWS that repeats what it is sent, in a refusal.
fn aws() -> Upstream {
    Upstream::start(|request| {
        let said = dump(request);
        if request.body.starts_with(b"Action=") {
            let said = said.replace('&', "&amp;").replace('<', "&lt;");
            let body = format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                 <Type>Sender</Type><Code>AccessDenied</Code><Message>{said}</Message></Error>\
                 <RequestId>r</RequestId></ErrorResponse>"
            );
            return Reply::text(403, "text/xml", body);
        }
        let body = json!({"__type": "com.amazonaws#AccessDeniedException", "message": said});
        let body = body.to_string();
        Reply::json(400, body).with_header("x-amzn-errortype", "AccessDeniedException")
    })
}

/// Looks for secrets.
#[derive(Default)]
struct Search {
    looked_at: usize,
    found: Vec<String>,
}

impl Search {
    fn look(&mut self, what: &str, text: &str) {
        self.looked_at += text.len();
        for line in text.lines() {
            // Percent-encoding and JSON leave the canary itself as it is.
            if line.contains(CANARY) {
                let line: String = line.chars().take(2000).collect();
                self.found.push(format!("{what}: {line}"));
            }
        }
    }

    fn answer(&mut self, what: &str, answer: &Answer) {
        self.look(what, &format!("{:?}", answer.headers));
        self.look(what, &String::from_utf8_lossy(&answer.body));
    }

    #[track_caller]
    fn end(&self) {
        assert!(self.looked_at > 0, "nothing was looked at");
        assert!(self.found.is_empty(), "{:#?}", self.found);
    }
}

/// The sources, each with secrets of its own.
fn sources(setup: &Setup, prometheus: &str, aws: &str) -> String {
    for name in ["password", "token", "header-of-file", "external-id"] {
        fs::write(setup.path(name), secret(name)).expect("the folder is ours");
    }
    format!(
        "  - name: basic\n    prometheus:\n      url: {prometheus}\n      \
             headers: {{ X-Inline: \"{inline}\", X-File: {{ file: header-of-file }} }}\n      \
             basicAuth: {{ username: reader, passwordFile: password }}\n  \
           - name: bearer\n    prometheus: {{ url: {prometheus}, bearerTokenFile: token, method: POST }}\n  \
           - name: signed\n    prometheus: {{ url: {prometheus}, sigV4: {{ region: eu-west-1, service: aps }} }}\n  \
           - name: keys\n    aws: {{ region: eu-west-1, endpointUrl: {aws} }}\n  \
           - name: role\n    aws: {{ region: eu-west-1, endpointUrl: {aws}, stsEndpointUrl: {aws}, \
                roleArn: \"arn:aws:iam::111122223333:role/metrics\", externalIdFile: external-id }}",
        inline = secret("inline"),
    )
}

/// The definitions: each source, in each form.
fn definitions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for source in ["basic", "bearer", "signed"] {
        for form in FORMS {
            let spec = format!("source: {source}, prometheus: {{ query: {form} }}");
            all.push((format!("{source}-{form}"), spec));
        }
    }
    let cloudwatch = "metric: { namespace: A, name: B, statistic: Sum, period: 1m }";
    for source in ["keys", "role"] {
        let (queue, metric) = (
            format!("source: {source}, sqs: {{ queues: [jobs] }}"),
            format!("source: {source}, cloudwatch: {{ {cloudwatch} }}"),
        );
        all.extend([(format!("{source}-sqs"), queue), (format!("{source}-cloudwatch"), metric)]);
    }
    all
}

/// The keys of the environment.
fn with_keys(command: &mut Command) -> &mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", secret("key"))
        .env("AWS_SESSION_TOKEN", secret("session"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_said_in_confidence_comes_out() {
    let (prometheus, aws) = (prometheus(), aws());
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.allow_if(|spec| spec["user"] != "system:anonymous");
    cluster.token(&secret("scraper"), json!({"username": "scraper"}));
    let mut kubeconfig: Value =
        serde_json::from_str(&cluster.kubeconfig()).expect("the fake's kubeconfig is JSON");
    kubeconfig["users"][0]["user"]["token"] = secret("kubeconfig").into();
    let setup = Setup::new("").kubeconfig(&kubeconfig.to_string());
    let sources = sources(&setup, &prometheus.url(), &aws.url());
    let setup = setup.sources(&sources).defaults("{ refresh: 1s, firstReadTimeout: 15s }");
    let definitions = definitions();
    for (name, spec) in &definitions {
        setup.define(&format!("{name}.yaml"), &metric(name, spec));
    }
    let mut command =
        tidepole(&["serve", "--log-format=json", "--log-level=trace", "--config"], &setup.config());
    with_keys(&mut command);
    let process = Process::start_by(command, setup);
    let mut search = Search::default();

    // Reads by the aggregator, whose users say too much.
    let mut aggregator = process.connect_as(&front_proxy.client("front-proxy-client", &[])).await;
    let session = format!("Bearer {}", secret("session-of-user"));
    let extra = secret("extra");
    let headers = [
        ("X-Remote-User", "jane"),
        ("X-Remote-Extra-Token", extra.as_str()),
        ("Authorization", session.as_str()),
        ("Cookie", session.as_str()),
    ];
    let mut outcomes = Vec::new();
    for (name, _) in &definitions {
        let path = path_of("default", name);
        let answer = aggregator.get(&path, &headers).await.expect("an answer");
        search.answer(&path, &answer);
        outcomes.push((name.as_str(), answer.status.as_u16()));
    }
    // The upstreams were asked with the secrets, and what they said of it was not taken.
    let asked: String =
        [&prometheus, &aws].map(|u| u.seen().iter().map(dump).collect::<String>()).concat();
    let sent = ["inline", "header-of-file", "password", "token", "session"];
    for name in sent {
        assert!(asked.contains(&secret(name)), "{name} was not sent: {asked}");
    }
    for (name, code) in &outcomes {
        let wanted = if name.ends_with("-warning") { 200 } else { 503 };
        assert_eq!(*code, wanted, "{name}: {outcomes:?}");
    }

    // Strangers, scrapers, and what they ask for.
    let good = format!("Bearer {}", secret("scraper"));
    let bad = format!("Bearer {}", secret("stranger"));
    for bearer in [&good, &bad] {
        for path in [
            "/",
            "/apis",
            "/metrics",
            "/version",
            "/readyz?verbose",
            "/openapi/v2",
            "/apis/external.metrics.k8s.io/v1beta1",
            &path_of("default", "basic-error"),
            &format!("{}?access_token={}", path_of("default", "unknown"), secret("query")),
        ] {
            let headers = [("Authorization", bearer.as_str())];
            let answer = connect(&process).await.get(path, &headers).await.expect("an answer");
            search.answer(path, &answer);
        }
    }
    administer(&process, &definitions, &mut search).await;
    assert!(search.looked_at > 50_000, "the pages are small: {} bytes", search.looked_at);
    search.end();

    // The commands that tell people what is going on.
    let config = process.setup.path("config.yaml");
    for (name, _) in &definitions {
        for output in ["table", "json"] {
            let arguments = ["query", "--full", "-o", output, name, "--config"];
            let mut command = tidepole(&arguments, &config);
            search.look(&format!("query {name}"), &output_of(with_keys(&mut command)));
        }
    }
    let mut command = tidepole(&["check", "--cost"], &config);
    search.look("check", &output_of(with_keys(&mut command)));
    search.end();

    process.signal("TERM");
    let (code, log) = process.end().await;
    assert_eq!(code.code(), Some(0), "{log}");
    assert!(log.contains("\"level\":\"DEBUG\""), "the log is not as chatty as it can be");
    search.look("log", &log);
    search.end();
}

/// Looks at everything that the admin listener has, one page for each definition among it.
async fn administer(process: &Process, definitions: &[(String, String)], search: &mut Search) {
    for path in [
        "/",
        "/browse",
        "/browse?state=failed",
        "/hpas",
        "/api/metrics",
        "/api/hpas",
        "/metrics",
        "/readyz?verbose",
        "/livez?verbose",
        "/healthz",
        "/config",
        "/nothing",
    ] {
        search.answer(path, &process.door.get(path).await);
    }
    for (name, _) in definitions {
        let path = format!("/metric?definition=ExternalMetric+default%2F{name}&scope=default");
        let page = process.door.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        search.answer(&path, &page);
    }
}

async fn connect(process: &Process) -> Connection {
    let made: Result<Connection, Failure> = process.stranger(Protocol::Http1).await;
    made.expect("anybody connects")
}

/// Everything that a command prints.
fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("the binary was built with this test");
    let text = [output.stdout, output.stderr].concat();
    assert!(!text.is_empty() || output.status.success(), "it says nothing: {:?}", output.status);
    String::from_utf8(text).expect("it prints text")
}

/// Secrets where they do not belong, or in a file that cannot be read, are not repeated either.
#[test]
fn a_mistake_beside_a_secret_does_not_print_it() {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let secret = secret("misplaced");
    let mut search = Search::default();
    let head = "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\n";
    let source = |settings: &str| format!("{head}sources:\n  - name: main\n    {settings}\n");
    let prometheus =
        |rest: &str| source(&format!("prometheus: {{ url: \"http://p:9090\", {rest} }}"));
    for (about, text) in [
        ("user info", source(&format!("prometheus: {{ url: \"http://u:{secret}@p:9090\" }}"))),
        ("user info, no host", source(&format!("prometheus: {{ url: \"http://u:{secret}@\" }}"))),
        (
            "user info, no URL",
            source(&format!("prometheus: {{ url: \"http://u:{secret}@p q:1\" }}")),
        ),
        ("no scheme", source(&format!("prometheus: {{ url: \"u:{secret}@p:9090\" }}"))),
        (
            "a port too large",
            source(&format!("prometheus: {{ url: \"http://u:{secret}@p:99999\" }}")),
        ),
        ("a query", source(&format!("prometheus: {{ url: \"http://p:9090/?token={secret}\" }}"))),
        (
            "an endpoint",
            source(&format!("aws: {{ region: eu-west-1, endpointUrl: \"http://u:{secret}@e\" }}")),
        ),
        (
            "a password",
            prometheus(&format!("basicAuth: {{ username: u, password: \"{secret}\" }}")),
        ),
        ("a token", prometheus(&format!("bearerToken: \"{secret}\""))),
        ("a header in two lines", prometheus(&format!("headers: {{ X-Key: \"{secret}\\nb\" }}"))),
        (
            "a header as a list of mappings",
            prometheus(&format!("headers: {{ X-Key: [ {{ a: \"{secret}\" }} ] }}")),
        ),
        (
            "a header of its own",
            prometheus(&format!(
                "headers: {{ Authorization: \"Bearer {secret}\", Host: \"{secret}\" }}"
            )),
        ),
        (
            "two ways at once",
            prometheus(&format!(
                "bearerTokenFile: t, basicAuth: {{ username: u, passwordFile: p }}, headers: {{ Authorization: \"{secret}\" }}"
            )),
        ),
        (
            "broken YAML behind it",
            format!("{}      - [", prometheus(&format!("headers: {{ X-Key: \"{secret}\" }}"))),
        ),
        (
            "an open quote",
            source(&format!(
                "prometheus: {{ url: \"http://p\", headers: {{ X-Key: \"{secret} }} }}"
            )),
        ),
    ] {
        let path = folder.path().join("config.yaml");
        fs::write(&path, text).expect("the folder is ours");
        for arguments in [&["check"][..], &["serve", "--config"]] {
            let output = tidepole(arguments, &path).output().expect("the binary was built");
            let said =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(1), "{about}: {arguments:?}: {said}");
            search.look(about, &said);
        }
    }
    search.end();
    for (about, user) in [
        ("a token in broken YAML", format!("{{ token: \"{secret}\" }}\n  bad: [")),
        ("a token that is a list", format!("{{ token: [\"{secret}\"] }}")),
        (
            "a key that is none",
            format!("{{ client-certificate-data: \"{secret}\", client-key-data: \"{secret}\" }}"),
        ),
        (
            "a password of a wrong type",
            format!("{{ username: u, password: {{ a: \"{secret}\" }} }}"),
        ),
    ] {
        search.look(about, &start_with_kubeconfig(folder.path(), &user));
    }
    search.end();
}

/// What a start says that finds no usable kubeconfig.
fn start_with_kubeconfig(folder: &Path, user: &str) -> String {
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: c\n  cluster: {{ server: \"https://127.0.0.1:1\" }}\n\
         contexts:\n- name: c\n  context: {{ cluster: c, user: u }}\n\
         users:\n- name: u\n  user: {user}\n"
    );
    fs::write(folder.join("kubeconfig"), kubeconfig).expect("the folder is ours");
    let config = "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\n\
                  server: { listen: \"127.0.0.1:0\" }\nadmin: { listen: \"127.0.0.1:0\" }\n\
                  kubernetes: { kubeconfig: kubeconfig }\n";
    let path = folder.join("config.yaml");
    fs::write(&path, config).expect("the folder is ours");
    let output = tidepole(&["serve", "--config"], &path).output().expect("the binary was built");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "it starts: {said}");
    said
}
