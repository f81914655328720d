//! What the cluster sees of us: the APIService, discovery, `OpenAPI`, kubectl.

use std::time::Duration;

use serde_json::Value;

use crate::control_plane::run;
use crate::process::eventually;
use crate::read;
use crate::workload::{SOON, Workload};
use crate::world::{World, server_version, shared};

const GROUP_VERSION: &str = "/apis/external.metrics.k8s.io/v1beta1";

fn get_json(world: &World, path: &str) -> Value {
    let text = world.get_raw(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

#[test]
fn apiservice_becomes_available() {
    let world = shared();
    eventually("the APIService is available", SOON, || {
        let mut get = world.plane.kubectl();
        get.args(["get", "apiservice", "v1beta1.external.metrics.k8s.io", "--output"]);
        let text = run(get.arg("jsonpath={.status.conditions[?(@.type=='Available')]}"))?;
        let condition: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if condition["status"] == "True" && condition["reason"] == "Passed" {
            Ok(())
        } else {
            Err(text)
        }
    });
    let mut get = world.plane.kubectl();
    get.args(["get", "apiservice", "v1beta1.external.metrics.k8s.io", "--output=json"]);
    let text = run(&mut get).expect("the APIService is there");
    let spec = &serde_json::from_str::<Value>(&text).expect("kubectl prints JSON")["spec"];
    assert_eq!(spec["insecureSkipTLSVerify"], Value::Null, "the certificate is verified");
    assert!(spec["caBundle"].is_string(), "{spec}");
    println!("{}", server_version(&world));
}

/// Pods of the Deployment are admitted under the namespace's restricted policy; none can run here.
#[test]
fn manifests_are_admitted() {
    let world = shared();
    eventually("two pods are made", SOON, || {
        let mut get = world.plane.kubectl();
        get.args(["--namespace=tidepole", "get", "pods", "--output=name"]);
        let pods = run(&mut get)?;
        if pods.lines().count() == 2 { Ok(()) } else { Err(pods) }
    });
    let mut get = world.plane.kubectl();
    get.args(["--namespace=tidepole", "get", "secret,poddisruptionbudget", "--output=name"]);
    let made = run(&mut get).expect("the objects are there");
    assert_eq!(made, "secret/tidepole-serving\npoddisruptionbudget.policy/tidepole\n");
}

#[test]
fn kubectl_get_raw_reads_one_metric() {
    let world = shared();
    let web = Workload::new(&world, "get-raw", 1);
    web.define(&[(
        "answer",
        "metric: get_raw_answer\nlabels: { of: everything }\nsource: sim\n\
         simulated: { constant: \"42\" }",
    )]);
    let path = format!("{GROUP_VERSION}/namespaces/get-raw/get_raw_answer");
    let text = eventually("the metric is there", SOON, || world.get_raw(&path));
    let list: Value = serde_json::from_str(&text).expect("answers are JSON");
    assert_eq!(list["kind"], "ExternalMetricValueList");
    assert_eq!(list["apiVersion"], "external.metrics.k8s.io/v1beta1");
    assert_eq!(list["metadata"], serde_json::json!({}));
    let items = list["items"].as_array().expect("items are a list");
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["metricName"], "get_raw_answer");
    assert_eq!(items[0]["metricLabels"], serde_json::json!({ "of": "everything" }));
    assert_eq!(items[0]["value"], "42");

    // A trailing slash is the same path, and a selector that matches nothing is told so.
    let slashed = get_json(&world, &format!("{path}/"));
    assert_eq!(slashed["items"][0]["value"], "42");
    let refused = world.get_raw(&format!("{path}?labelSelector=of%3Dnothing"));
    let refused = refused.expect_err("no series matches");
    assert!(refused.contains("NotFound") && refused.contains("of"), "{refused}");
}

#[test]
fn kubectl_discovers_the_group() {
    let world = shared();
    let legacy = get_json(&world, GROUP_VERSION);
    assert_eq!(legacy["kind"], "APIResourceList");
    assert_eq!(legacy["groupVersion"], "external.metrics.k8s.io/v1beta1");
    assert_eq!(legacy, get_json(&world, &format!("{GROUP_VERSION}/")), "a trailing slash is fine");

    // A restarted adapter is discovered again within a minute.
    eventually("kubectl lists our resources", Duration::from_secs(90), || {
        let mut resources = world.plane.kubectl();
        resources.args(["api-resources", "--api-group=external.metrics.k8s.io"]);
        let output = resources.arg("--cached=false").output().expect("kubectl runs");
        let error = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout);
        let listed = text.contains("external.metrics.k8s.io/v1beta1");
        if output.status.success() && error.is_empty() && listed {
            Ok(())
        } else {
            Err(format!("{text}{error}"))
        }
    });
}

#[test]
fn aggregated_discovery_is_current_and_not_empty() {
    let world = shared();
    // It looks once a minute; tests before this one stop the adapter.
    let ours = eventually("the aggregator has read our discovery", Duration::from_secs(75), || {
        let request = http::Request::get("/apis")
            .header(
                "Accept",
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            )
            .body(Vec::new())
            .expect("a well-formed request");
        let text = world.wait(world.client.request_text(request)).map_err(|e| e.to_string())?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let groups = list["items"].as_array().ok_or_else(|| text.clone())?;
        let ours = groups.iter().find(|g| g["metadata"]["name"] == "external.metrics.k8s.io");
        let version = ours.ok_or("the group is missing")?["versions"][0].clone();
        if version["freshness"] == "Current" { Ok(version) } else { Err(version.to_string()) }
    });
    assert_eq!(ours["version"], "v1beta1");
    let resources = ours["resources"].as_array().expect("resources are a list");
    assert_eq!(resources.len(), 1, "one placeholder: {ours}");
    assert_eq!(resources[0]["verbs"], serde_json::json!(["get"]), "nobody is tempted to list");
}

#[test]
fn openapi_is_merged_without_complaint() {
    let world = shared();
    let root = eventually("the cluster's OpenAPI lists our group", SOON, || {
        let root = get_json(&world, "/openapi/v3");
        match root["paths"].get("apis/external.metrics.k8s.io/v1beta1") {
            Some(_) => Ok(root),
            None => Err("not there yet".to_owned()),
        }
    });
    let paths = root["paths"].as_object().expect("paths are an object");
    let metrics: Vec<&String> = paths.keys().filter(|path| path.contains("metrics.k8s")).collect();
    let groups = [
        "apis/custom.metrics.k8s.io/v1beta1",
        "apis/custom.metrics.k8s.io/v1beta2",
        "apis/external.metrics.k8s.io/v1beta1",
    ];
    assert!(metrics.iter().all(|path| groups.contains(&path.as_str())), "{metrics:?}");
    get_json(&world, "/openapi/v2");

    // What it said before is left out: other tests stop the adapter.
    let log =
        || String::from_utf8_lossy(&read(&world.logs.join("kube-apiserver.log"))).into_owned();
    let before = log().len();
    fetch_openapi_again(&world);
    let log = log();
    let complaints: Vec<&str> = log[before..]
        .lines()
        .filter(|line| line.contains("OpenAPI") && line.contains("external.metrics"))
        .filter(|line| line.contains("failed") || line.contains("Error"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The aggregator merges our document into its own and renames what differs under one name.
#[test]
fn openapi_v2_renames_no_definition() {
    let world = shared();
    fetch_openapi_again(&world);
    let document = get_json(&world, "/openapi/v2");
    assert_eq!(document["swagger"], "2.0");
    let definitions = document["definitions"].as_object().expect("definitions are an object");
    println!("{} definitions", definitions.len());
    assert!(definitions.contains_key("io.k8s.api.core.v1.Pod"), "Kubernetes' own are there");
    let renamed: Vec<&String> = definitions
        .keys()
        .filter(|name| name.rsplit_once("_v").is_some_and(|(_, rest)| rest.parse::<u32>().is_ok()))
        .collect();
    assert!(renamed.is_empty(), "{renamed:?}");

    let mut missing = std::collections::BTreeSet::new();
    collect_references(&document, &mut |reference| {
        let known = reference
            .strip_prefix("#/definitions/")
            .is_some_and(|name| definitions.contains_key(name));
        if !known && !reference.starts_with("#/parameters/") {
            missing.insert(reference.to_owned());
        }
    });
    assert!(missing.is_empty(), "references to nothing: {missing:?}");
}

/// Makes the aggregator fetch our documents now: it does when the `APIService` changes, then each
/// minute.
fn fetch_openapi_again(world: &World) {
    let now = jiff::Timestamp::now().as_microsecond();
    let mut touch = world.plane.kubectl();
    touch.args(["annotate", "apiservice", "v1beta1.external.metrics.k8s.io", "--overwrite"]);
    run(touch.arg(format!("tests.tidepole.dev/touched=at-{now}"))).expect("it is there");
    std::thread::sleep(Duration::from_secs(5));
}

/// Calls `seen` with every `$ref` below a value.
fn collect_references(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(reference) if key == "$ref" => seen(reference),
                    other => collect_references(other, seen),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|one| collect_references(one, seen)),
        _ => {}
    }
}

/// A group that cannot be discovered would leave every namespace in `Terminating`.
#[test]
fn namespaces_can_be_deleted() {
    let world = shared();
    drop(Workload::new(&world, "to-be-deleted", 2));
    eventually("the namespace is gone", Duration::from_secs(90), || {
        let mut get = world.plane.kubectl();
        get.args(["get", "namespace", "to-be-deleted", "--ignore-not-found", "--output=yaml"]);
        let text = run(&mut get)?;
        if text.is_empty() { Ok(()) } else { Err(text) }
    });
}
