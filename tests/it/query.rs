//! `tidepole query` as people run it: output, exit codes, what reaches the upstream, and what never
//! reaches the terminal.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::tidepole;
use crate::support::server::{Setup, metric};
use crate::support::upstream::{CloudWatch, Prometheus, Queue, Reply, Sqs};

const TOKEN: &str = "token-that-nobody-may-see";

/// How it ended: exit code, standard output, standard error.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

fn run(command: &mut Command, input: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built with this test");
    // It may not read it.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it is our child");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// `tidepole query` with the config of a set-up.
fn query(setup: &Setup, arguments: &[&str]) -> Run {
    let mut command = tidepole(&["query", "--config"], &setup.config());
    run(command.args(arguments), "")
}

fn with_prometheus(fake: &Prometheus) -> Setup {
    let url = fake.server().url();
    let sources = format!(
        "  - {{ name: main, prometheus: {{ url: \"{url}\", bearerTokenFile: token, headers: {{ X-Api-Key: {TOKEN} }}, timeout: 3s }} }}\n"
    );
    let setup = Setup::new(&sources);
    fs::write(setup.path("token"), TOKEN).expect("the folder is ours");
    setup
}

fn with_sqs(fake: &Sqs) -> Setup {
    let url = fake.server().url();
    let sources = format!(
        "  - {{ name: aws, aws: {{ region: eu-west-1, sqsEndpointUrl: \"{url}\", timeout: 3s }} }}\n"
    );
    Setup::new(&sources)
        .with("a.yaml", &metric("depth", "sqs: { queues: [jobs, mail] }, scale: \"0.5\""))
}

#[test]
fn a_prometheus_value_is_followed_to_the_result() {
    let fake = Prometheus::start();
    fake.vector("jobs", &[(r#""queue":"a""#, "10"), (r#""queue":"b""#, "300")]);
    let setup = with_prometheus(&fake)
        .with("a.yaml", &metric("depth", "prometheus: { query: jobs }, max: 100"));
    let seen = query(&setup, &["depth", "-o", "json"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
    let shown = seen.json();
    assert_eq!(shown["result"]["value"], "110");
    assert_eq!(shown["result"]["items"][1]["steps"][1], json!({"step": "max", "value": "100"}));
    assert_eq!(shown["sample"]["series"][0], json!({"labels": {"queue": "a"}, "value": "10"}));
    assert_eq!(shown["calls"][0]["answer"]["status"], "success");
    // As an HPA with a selector reads it.
    let selected = query(&setup, &["depth", "-l", "queue=a", "-o", "json"]).json();
    assert_eq!(selected["result"]["value"], "10");
    let none = query(&setup, &["depth", "-l", "queue=c"]);
    assert_eq!(none.code, Some(1));
    assert!(none.out.contains("no series matches the selector \"queue=c\""), "{}", none.out);
    // The same in every form, and no line too wide for a terminal.
    let yaml: Value = serde_saphyr::from_str(&query(&setup, &["depth", "-o", "yaml"]).out).unwrap();
    assert_eq!(yaml["result"]["items"][0]["labels"], shown["result"]["items"][0]["labels"]);
    let table = query(&setup, &["depth"]).out;
    assert!(table.contains("\nRequest      GET http://127.0.0.1:"), "{table}");
    let result = table.lines().find(|line| line.starts_with("Result ")).unwrap();
    assert!(result.starts_with("Result       110, the sum of 2 items would be served"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for text in [&seen.out, &table] {
        assert!(!text.contains(TOKEN), "{text}");
        assert!(text.contains("x-api-key"), "{text}");
    }
    let sent = fake.server().seen().remove(0);
    assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
}

#[test]
fn the_namespace_of_the_reader_is_in_the_query() {
    let fake = Prometheus::start();
    fake.vector("jobs{namespace=\"team-a\"}", &[("", "7")]);
    let wide = metric("depth", "prometheus: { query: 'jobs{namespace=\"$namespace\"}' }")
        .replace("ExternalMetric", "ClusterExternalMetric")
        .replace(", namespace: default", "");
    let setup = with_prometheus(&fake).with("a.yaml", &wide);
    let missing = query(&setup, &["depth"]);
    assert_eq!(missing.code, Some(2), "{}{}", missing.out, missing.err);
    assert!(missing.err.contains("give one with --namespace"), "{}", missing.err);
    assert_eq!(fake.server().hits(), 0);
    let seen = query(&setup, &["depth", "--namespace", "team-a"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
    assert!(seen.out.contains("Result       7 would be served"), "{}", seen.out);
    let wrong = query(&setup, &["depth", "--namespace", "Team A"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
}

#[test]
fn a_failure_reads_as_it_does_in_an_hpa_and_shows_no_secret() {
    let fake = Prometheus::start();
    let echo = format!(r#"{{"status":"error","errorType":"bad_data","error":"got {TOKEN}"}}"#);
    fake.set("jobs", Reply::json(400, echo));
    let setup =
        with_prometheus(&fake).with("a.yaml", &metric("depth", "prometheus: { query: jobs }"));
    let seen = query(&setup, &["depth", "--full", "-o", "json"]);
    assert_eq!(seen.code, Some(1));
    let shown = seen.json();
    assert_eq!(
        shown["result"]["error"],
        "depth in default: bad_data: got [secret] (HTTP 400) (source main)"
    );
    assert_eq!(shown["result"]["errorKind"], "invalid");
    assert_eq!(shown["sample"], Value::Null);
    assert!(!seen.out.contains(TOKEN), "{}", seen.out);
    fake.set("jobs", Reply::Hang);
    let seen = query(&setup, &["depth"]);
    assert_eq!(seen.code, Some(1));
    assert!(seen.out.contains("no answer within 3s"), "{}", seen.out);
}

#[test]
fn a_dry_run_sends_nothing() {
    let (prometheus, sqs) = (Prometheus::start(), Sqs::start());
    let setup = with_prometheus(&prometheus)
        .with("a.yaml", &metric("depth", "prometheus: { query: jobs, lookbackDelta: 1m }"));
    let seen = query(&setup, &["depth", "--dry-run", "-o", "json"]);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    let shown = seen.json();
    assert_eq!(
        shown["calls"][0]["request"]["parameters"],
        json!({"query": "jobs", "timeout": "3000ms", "lookback_delta": "60000ms"})
    );
    assert_eq!((&shown["dryRun"], &shown["result"]), (&json!(true), &Value::Null));
    let setup = with_sqs(&sqs);
    let mut command = tidepole(&["query", "--config"], &setup.config());
    // Not even credentials are needed.
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let seen = run(command.args(["depth", "--dry-run"]), "");
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    assert!(seen.out.contains("Request 4    GetQueueAttributes"), "{}", seen.out);
    assert!(seen.out.ends_with("\nResult       dry run: nothing was sent\n"), "{}", seen.out);
    assert_eq!((prometheus.server().hits(), sqs.server().hits()), (0, 0));
}

#[test]
fn queue_depths_show_every_call() {
    let fake = Sqs::start();
    fake.queue("jobs", Queue { visible: 5, in_flight: 2, delayed: 100 });
    fake.queue("mail", Queue { visible: 3, in_flight: 0, delayed: 0 });
    let setup = with_sqs(&fake);
    let shown = query(&setup, &["depth", "-o", "json"]).json();
    assert_eq!(shown["result"]["value"], "5");
    assert_eq!(shown["result"]["items"][0]["steps"][0]["value"], "10");
    let mut operations: Vec<String> = Vec::new();
    for call in shown["calls"].as_array().unwrap() {
        operations.push(call["operation"].as_str().unwrap().to_owned());
        assert!(call["target"].as_str().unwrap().contains(" in eu-west-1 as "), "{call}");
        assert!(!call["answer"].is_null(), "{call}");
    }
    operations.sort();
    assert_eq!(
        operations,
        ["GetQueueAttributes", "GetQueueAttributes", "GetQueueUrl", "GetQueueUrl"]
    );
    fake.delete("mail");
    let seen = query(&setup, &["depth"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.out.contains("SQS queue \"mail\" in eu-west-1 does not exist (source aws)"),
        "{}",
        seen.out
    );
    assert!(!seen.out.contains("Signature"), "{}", seen.out);
}

#[test]
fn a_cloudwatch_datapoint_is_chosen_and_said_why() {
    let fake = CloudWatch::start();
    fake.generate_all(|_, _| Some(0.25));
    let sources = format!(
        "  - {{ name: aws, aws: {{ region: eu-west-1, cloudwatchEndpointUrl: \"{}\", timeout: 3s }} }}\n",
        fake.url()
    );
    let spec = "cloudwatch: { metric: { namespace: AWS/ApplicationELB, name: TargetResponseTime, \
                dimensions: { LoadBalancer: app/web/1 }, statistic: p99, period: 1m } }, scale: 1000";
    let setup = Setup::new(&sources).with("a.yaml", &metric("latency", spec));
    let dry = query(&setup, &["latency", "--dry-run", "-o", "json"]);
    assert_eq!(dry.code, Some(0), "{}{}", dry.out, dry.err);
    assert_eq!(fake.hits(), 0);
    let seen = query(&setup, &["latency", "-o", "json"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
    let shown = seen.json();
    assert_eq!(shown["result"]["value"], "250");
    let (dry, call) = (&dry.json()["calls"][0], &shown["calls"][0]);
    assert_eq!((&dry["operation"], &dry["target"]), (&call["operation"], &call["target"]));
    assert_eq!(
        dry["request"]["MetricDataQueries"], call["request"]["MetricDataQueries"],
        "what a dry run shows is what is sent"
    );
    assert!(!shown["choice"].as_array().unwrap().is_empty(), "{shown}");
    let table = query(&setup, &["latency"]).out;
    assert!(table.contains("Stat: p99") && table.contains("Result       250 would be"), "{table}");
    // Without credentials there is still the request.
    let mut command = tidepole(&["query", "--config"], &setup.config());
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let seen = run(command.args(["latency", "-o", "json"]), "");
    assert_eq!(seen.code, Some(1), "{}", seen.err);
    let shown = seen.json();
    assert_eq!(shown["result"]["errorKind"], "denied", "{shown}");
    assert_eq!(shown["calls"][0]["operation"], "GetMetricData");
}

#[test]
fn a_signed_query_shows_who_signs_and_no_signature() {
    let fake = Prometheus::start();
    fake.set(
        "echo",
        Reply::json(
            200,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1795262550,"4"]}}"#,
        ),
    );
    let sources = format!(
        "  - {{ name: amp, prometheus: {{ url: \"{}\", sigV4: {{ region: eu-west-1, service: aps }}, timeout: 3s }} }}\n",
        fake.server().url()
    );
    let setup =
        Setup::new(&sources).with("a.yaml", &metric("depth", "prometheus: { query: echo }"));
    let seen = query(&setup, &["depth", "-o", "json", "--full"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
    let call = &seen.json()["calls"][0];
    assert_eq!(call["target"], "signed as the source's own identity");
    assert_eq!(call["request"]["headers"]["authorization"], "[redacted]");
    let sent = fake.server().seen().remove(0);
    let authorization = sent.header("authorization").expect("it is signed");
    let (_, signature) = authorization.split_once("Signature=").expect("it is signed");
    assert!(!seen.out.contains(signature) && !seen.out.contains("Credential="), "{}", seen.out);
    let dry = query(&setup, &["depth", "-o", "json", "--dry-run"]);
    assert_eq!(dry.json()["calls"][0]["request"], call["request"]);
    assert_eq!(fake.server().hits(), 1);
}

#[test]
fn a_draft_on_standard_input_uses_the_sources_of_the_config() {
    let fake = Prometheus::start();
    fake.scalar("up", "3");
    let setup = with_prometheus(&fake);
    let draft = |input: &str| {
        let mut command = tidepole(&["query", "--config"], &setup.config());
        run(command.args(["-f", "-"]), input)
    };
    for input in [
        metric("draft", "prometheus: { query: up }").as_str(),
        "prometheus: { query: up }\nscale: 1",
    ] {
        let seen = draft(input);
        assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
        assert!(seen.out.contains("<stdin>:") && seen.out.contains("Result       3 would"));
    }
    let wrong = draft("prometheus: { query: up }\nscael: 1");
    assert_eq!(wrong.code, Some(1));
    assert_eq!(wrong.err, "<stdin>:2:1: spec.scael: unknown field; did you mean `scale`?\n");
    assert_eq!(wrong.out, "");
}

#[test]
fn simulated_metrics_need_no_config_and_others_say_that_they_do() {
    let bare = |arguments: &[&str], input: &str| {
        let mut command = tidepole(&["query", "-f"], Path::new("-"));
        run(command.args(arguments), input)
    };
    let seen = bare(&["-o", "json"], "simulated: { constant: 12 }");
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    assert_eq!(seen.json()["result"]["value"], "12");
    let seen = bare(&[], "prometheus: { query: up }");
    assert_eq!(seen.code, Some(2));
    assert!(seen.err.contains("give it with --config FILE"), "{}", seen.err);
}

#[test]
fn what_cannot_be_found_is_said() {
    let setup = Setup::new("  - { name: sim, simulated: {} }")
        .with("a.yaml", &metric("one", "metric: m, labels: { x: a }, simulated: { constant: 1 }"))
        .with("b.yaml", &metric("two", "metric: m, labels: { x: b }, simulated: { constant: 2 }"));
    let seen = query(&setup, &["onee"]);
    assert_eq!(seen.code, Some(1));
    assert!(seen.err.contains("did you mean \"one\"?"), "{}", seen.err);
    let seen = query(&setup, &["m"]);
    assert_eq!(seen.code, Some(1));
    for name in ["\"m\" is ambiguous", "ExternalMetric/one", "ExternalMetric/two"] {
        assert!(seen.err.contains(name), "{}", seen.err);
    }
    let seen = query(&setup, &["externalmetric/two"]);
    assert!(seen.out.contains("Result       2 would be served"), "{}{}", seen.out, seen.err);
    assert!(seen.out.contains("takes these definitions in"), "{}", seen.out);
    let mut command = tidepole(&["query", "one", "--config"], &setup.path("none.yaml"));
    let seen = run(&mut command, "");
    assert_eq!(seen.code, Some(1));
    assert!(seen.err.contains("none.yaml"), "{}", seen.err);
}

#[test]
fn completions_and_help_know_it() {
    let mut command = tidepole(&["completions"], Path::new("bash"));
    let script = run(&mut command, "").out;
    assert!(script.contains("query") && script.contains("--dry-run"), "{script}");
    let mut command = tidepole(&["query"], Path::new("--help"));
    let help = run(&mut command, "").out;
    for word in ["tookSeconds", "Exit code", "without", "standard input", "advice", "NO_COLOR"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let pages = folder.path().join("man1");
    let mut command = tidepole(&["man", "--output"], &pages);
    let seen = run(&mut command, "");
    assert_eq!((seen.code, &*seen.out), (Some(0), ""), "{}", seen.err);
    for command in
        ["", "-serve", "-check", "-query", "-crds", "-man", "-completions", "-prometheus-adapter"]
    {
        let page = fs::read_to_string(pages.join(format!("tidepole{command}.1"))).expect(command);
        assert!(page.contains(&format!(".TH tidepole{command} 1")), "{page}");
    }
    let query = fs::read_to_string(pages.join("tidepole-query.1")).expect("it is there");
    for word in ["\\-\\-kubeconfig", "NO_COLOR", "Exit code", "tookSeconds"] {
        assert!(query.contains(word), "{word}: {query}");
    }
    let mut command = tidepole(&["man", "--output"], Path::new("/proc/nowhere"));
    let seen = run(&mut command, "");
    assert_eq!(seen.code, Some(70));
    assert!(seen.err.contains("/proc/nowhere"), "{}", seen.err);
}
