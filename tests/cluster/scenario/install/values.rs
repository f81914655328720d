//! What the chart's schema accepts and refuses.

use serde_json::{Value, json};

use super::helm::{chart, helm, render};
use crate::control_plane::run;
use crate::{read, root};

#[test]
fn helm_lints_the_chart() {
    // Strict: warnings are mistakes, too.
    run(helm().args(["lint", "--strict"]).arg(chart())).expect("the chart is in order");
}

/// A value, and what the refusal of it has to say.
const NONSENSE: &[(&str, &[&str])] = &[
    ("replicas: two", &["/replicas", "want integer"]),
    ("replicas: 0", &["/replicas", "minimum"]),
    ("replica: 3", &["'replica' not allowed"]),
    ("image: { digest: latest }", &["/image/digest", "sha256"]),
    ("image: { pullPolicy: Sometimes }", &["/image/pullPolicy", "'IfNotPresent'"]),
    ("apis: { external: maybe }", &["/apis/external", "want boolean"]),
    ("apis: { resource: true }", &["/apis", "'resource' not allowed"]),
    ("apis: { external: false, custom: false }", &["neither external nor custom"]),
    ("prometheus: { url: 'prometheus:9090' }", &["/prometheus/url", "^https?://"]),
    ("prometheus: { uri: 'http://prometheus' }", &["/prometheus", "'uri' not allowed"]),
    ("extraSources: [{ name: a }]", &["/extraSources/0", "missing property 'aws'"]),
    (
        "extraSources: [{ name: a, simulated: {}, aws: { region: eu-west-1 } }]",
        &["/extraSources/0", "oneOf"],
    ),
    ("extraSources: [{ name: A, simulated: {} }]", &["/extraSources/0/name"]),
    ("extraSources: [{ name: a, aws: {} }]", &["/extraSources/0/aws", "'region'"]),
    ("extraSources: [{ name: prometheus, simulated: {} }]", &["two sources", "prometheus"]),
    ("definitions: { queues: text }", &["'queues'", "yaml|yml|json|csv"]),
    ("rules: { custom: [series] }", &["/rules/custom/0", "want object"]),
    ("rules: { relistInterval: often }", &["/rules/relistInterval"]),
    (
        "rules: { existingConfigMap: mine, external: [{ seriesQuery: up }] }",
        &["rules.existingConfigMap", "instead of"],
    ),
    ("config: { sources: [] }", &["config.sources", "extraSources"]),
    ("config: { apis: { custom: false } }", &["config.apis"]),
    ("certificates: { mode: acme }", &["/certificates/mode", "'certManager'"]),
    ("certificates: { mode: files }", &["/certificates/files/secretName"]),
    (
        "certificates: { mode: files, files: { secretName: a, caBundle: bm9uc2Vuc2U= } }",
        &["/certificates/files/caBundle", "BEGIN CERTIFICATE"],
    ),
    ("certificates: { managed: { caLifetime: a year } }", &["/certificates/managed/caLifetime"]),
    ("certificates: { certManager: { duration: a year } }", &["/certManager/duration"]),
    ("serviceAccount: { create: false }", &["serviceAccount.name", "needed"]),
    ("serviceAccount: { annotations: { a: 1 } }", &["/serviceAccount/annotations/a"]),
    ("ports: { https: 443 }", &["/ports/https", "minimum"]),
    ("log: { format: xml }", &["/log/format", "'json'"]),
    ("podDisruptionBudget: { maxUnavailable: half }", &["/podDisruptionBudget/maxUnavailable"]),
    ("podDisruptionBudget: { minAvailable: 1 }", &["either maxUnavailable or minAvailable"]),
    ("topologySpreadConstraints: [{ maxSkew: 1 }]", &["missing", "topologyKey"]),
    ("extraVolumes: [{ name: config, emptyDir: {} }]", &["/extraVolumes/0/name"]),
    ("serviceMonitor: { interval: often }", &["/serviceMonitor/interval"]),
    ("serviceMonitor: { authorization: token }", &["/serviceMonitor/authorization", "want object"]),
    ("networkPolicy: { adminFrom: everybody }", &["/networkPolicy/adminFrom", "want array"]),
    ("tolerations: { key: a }", &["/tolerations", "want array"]),
];

#[test]
fn nonsense_is_refused_with_the_value_in_the_message() {
    for (values, wanted) in NONSENSE {
        let Err(said) = render("tidepole", "tidepole", values) else {
            panic!("{values}: taken as it is")
        };
        for part in *wanted {
            assert!(said.contains(part), "{values}: nothing about {part} in\n{said}");
        }
    }
}

/// Every field that a server config can have, and nothing is lost on the way.
#[test]
fn the_whole_server_config_can_be_said_in_values() {
    let text = String::from_utf8(read(&root().join("config/full.yaml"))).expect("it is UTF-8");
    let mut full: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    let mut rest = full.clone();
    let members = rest.as_object_mut().expect("a config is a mapping");
    for key in ["apiVersion", "kind", "apis", "sources", "definitions"] {
        members.remove(key).unwrap_or_else(|| panic!("config/full.yaml has no {key}"));
    }
    let bundle = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    let values = json!({
        "apis": full["apis"],
        "prometheus": null,
        "extraSources": full["sources"],
        // Its pair is where the chart mounts one.
        "certificates": { "mode": "files", "files": { "secretName": "pair", "caBundle": bundle } },
        "config": rest,
    });
    let rendered = render("tidepole", "tidepole", &values.to_string());
    let rendered = rendered.expect("the schema knows every field of config/full.yaml");
    full["definitions"]["paths"] = json!(["/etc/tidepole/metrics.d"]);
    let mut made = rendered.config();
    // A field without a value is the same as none.
    for config in [&mut made, &mut full] {
        let kubernetes = config["kubernetes"].as_object_mut().expect("a mapping");
        kubernetes.retain(|_, value| !value.is_null());
    }
    assert_eq!(made, full);
}

/// Values are a file of their own for whoever reads only that: the schema knows all of them.
#[test]
fn the_schema_has_every_value_and_no_other() {
    let mut show = helm();
    let text = run(show.args(["show", "values"]).arg(chart())).expect("the chart has values");
    let values: Value = serde_saphyr::from_str(&text).expect("values are YAML");
    let schema = read(&chart().join("values.schema.json"));
    let schema: Value = serde_json::from_slice(&schema).expect("the schema is JSON");
    let names = |value: &Value| {
        let mut names: Vec<String> =
            value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        // Helm's own.
        names.retain(|name| name != "global");
        names.sort();
        names
    };
    assert_eq!(names(&values), names(&schema["properties"]));
    for (name, member) in schema["properties"].as_object().expect("there are properties") {
        if member["additionalProperties"] == json!(false) && name != "resources" {
            assert_eq!(names(&values[name]), names(&member["properties"]), "{name}");
        }
    }
}
