//! Files that change under a running server: definitions and certificates.

use std::fs;

use crate::support::client::{Connection, Protocol};
use crate::support::openmetrics;
use crate::support::server::{NAME, Setup, Tidepole, kubelet_swap, metric, status, values};
use crate::support::wait::until;

const SOURCE: &str = "  - { name: sim, simulated: {} }";

fn constant(name: &str, value: &str) -> String {
    metric(name, &format!("simulated: {{ constant: {value} }}"))
}

/// The problems on `/api/metrics`, until there are as many.
async fn problems(server: &Tidepole, count: usize) -> Vec<String> {
    until("the problems", async || {
        let all = server.admin("/api/metrics").await.json();
        let problems: Vec<String> =
            serde_json::from_value(all["problems"].clone()).expect("problems are sentences");
        if problems.len() == count { Ok(problems) } else { Err(format!("{problems:?}")) }
    })
    .await
}

async fn gauge(server: &Tidepole, family: &str) -> String {
    let families =
        openmetrics::parse(server.admin("/metrics").await.text()).expect("valid OpenMetrics");
    families[family].samples[0].value.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_follow_their_files_and_survive_bad_edits() {
    let server = Setup::new(SOURCE)
        .with("a.yaml", &constant("edited", "1"))
        .with("b.yaml", &constant("other", "9"))
        .start()
        .await;
    let mut reader = server.reader().await;
    reader.until_values("edited", &["1"]).await;
    server.setup.define("a.yaml", &constant("edited", "2"));
    reader.until_values("edited", &["2"]).await;
    assert_eq!(gauge(&server, "tidepole_definition_file_problems").await, "0");

    // A typo in a field, then no YAML at all: what worked stays, the place is named.
    let typo = constant("edited", "3").replace("simulated", "simulatd");
    for (text, place, cause) in [
        (typo.as_str(), "a.yaml:5:", "did you mean `simulated`?"),
        ("a: [1, 2\nb: {\n", "a.yaml:", ""),
    ] {
        server.setup.define("a.yaml", text);
        until("the problem", async || {
            let found = problems(&server, 1).await.remove(0);
            if found.contains(place) && found.contains(cause) { Ok(()) } else { Err(found) }
        })
        .await;
        let page = server.admin("/").await;
        assert!(page.text().contains("a.yaml:"), "the page does not name the file");
        assert_eq!(gauge(&server, "tidepole_definition_file_problems").await, "1");
        assert_eq!(values(&reader.read("edited").await), ["2"]);
        assert_eq!(values(&reader.read("other").await), ["9"]);
    }

    server.setup.define("a.yaml", &constant("edited", "4"));
    reader.until_values("edited", &["4"]).await;
    problems(&server, 0).await;

    // A good document beside a bad one counts.
    server.setup.define("c.yaml", &(constant("good", "5") + &typo.replace("edited", "bad")));
    reader.until_values("good", &["5"]).await;
    problems(&server, 1).await;

    fs::remove_file(server.setup.definitions().join("a.yaml")).unwrap();
    let answer = reader.until_status("edited", 404).await;
    let message = status(&answer, 404, "NotFound");
    assert!(message.starts_with("edited in default: no external metric"), "{message}");
    assert_eq!(values(&reader.read("other").await), ["9"]);

    // The same document twice is a mistake.
    server.setup.define("y.yaml", &constant("other", "10"));
    let twice = problems(&server, 2).await.concat();
    assert!(twice.contains("ExternalMetric default/other is already defined at "), "{twice}");

    // The same metric with the same labels twice: the first in path order stays, the other is told.
    let rival = metric("rival", "metric: other, simulated: { constant: 11 }");
    server.setup.define("z.yaml", &rival);
    until("the conflict", async || {
        let all = server.admin("/api/metrics").await.json();
        let text = all["conflicts"].to_string();
        if text.contains("z.yaml") && text.contains("b.yaml") { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(values(&reader.read("other").await), ["9"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_follow_a_config_map_volume() {
    let setup = Setup::new(SOURCE);
    kubelet_swap(&setup.definitions(), 0, &[("m.yaml", &constant("mounted", "1"))]);
    let server = setup.start().await;
    let mut reader = server.reader().await;
    assert_eq!(values(&reader.read("mounted").await), ["1"], "and not twice, through both links");
    for generation in 1..4_u32 {
        let value = format!("{}", generation + 1);
        let file = constant("mounted", &value);
        kubelet_swap(&server.setup.definitions(), generation, &[("m.yaml", &file)]);
        reader.until_values("mounted", &[&value]).await;
        problems(&server, 0).await;
    }
    server.stop().await;
}

/// The certificate that a new connection is shown.
async fn shown(server: &Tidepole) -> Result<(), String> {
    let address = server.running.api_address();
    match Connection::tls(address, NAME, &server.client, Protocol::Http2).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_follow_a_secret_volume_while_reads_go_on() {
    use crate::support::tls::Authority;
    let setup = Setup::new(SOURCE).with("m.yaml", &constant("steady", "1"));
    let folder = setup.path("tls");
    let first = setup.authority.server(&[NAME]);
    kubelet_swap(&folder, 0, &[("tls.crt", &first.certificate), ("tls.key", &first.key)]);
    let mut server = setup.start().await;
    let mut old = server.reader().await;
    assert_eq!(values(&old.read("steady").await), ["1"]);

    // A broken pair changes nothing and is counted.
    let reloads = |server: &Tidepole, outcome: &'static str| {
        let admin = server.running.admin_address();
        async move {
            let mut connection = Connection::plain(admin).await.unwrap();
            let text = connection.get("/metrics", &[]).await.unwrap();
            let families = openmetrics::parse(text.text()).unwrap();
            let samples = families
                .get("tidepole_server_certificate_reloads")
                .map(|family| family.samples.clone())
                .unwrap_or_default();
            let of = samples.iter().find(|s| s.labels.values().any(|v| v == outcome));
            of.map_or(0.0, |sample| sample.value)
        }
    };
    kubelet_swap(&folder, 1, &[("tls.crt", "no certificate"), ("tls.key", &first.key)]);
    until("the broken pair is noted", async || {
        let failed = reloads(&server, "failed").await;
        if failed >= 1.0 { Ok(()) } else { Err(server.admin("/metrics").await.text().to_owned()) }
    })
    .await;
    shown(&server).await.unwrap();

    // Another authority: new connections see it, the old connection goes on.
    let other = Authority::new("next-ca");
    let second = other.server(&[NAME]);
    kubelet_swap(&folder, 2, &[("tls.crt", &second.certificate), ("tls.key", &second.key)]);
    until("the new certificate", async || {
        assert_eq!(values(&old.read("steady").await), ["1"]);
        match shown(&server).await {
            Err(error) if error.contains("UnknownIssuer") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    server.client = other.client_config(None);
    let mut new = server.reader().await;
    assert_eq!(values(&new.read("steady").await), ["1"]);
    assert_eq!(values(&old.read("steady").await), ["1"]);
    server.stop().await;
}
