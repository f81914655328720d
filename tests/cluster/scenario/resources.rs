//! Metrics are declared by resources of the cluster: made, changed and deleted while it runs.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::control_plane::run;
use crate::process::{always, eventually};
use crate::workload::{SOON, Workload};
use crate::world::{World, shared};

/// Where the resources of a crowd are, so that no namespace has more than it may.
const CROWDED: [&str; 10] = [
    "crowd-0", "crowd-1", "crowd-2", "crowd-3", "crowd-4", "crowd-5", "crowd-6", "crowd-7",
    "crowd-8", "crowd-9",
];

/// Resources in each of these.
const IN_EACH: usize = 500;

/// What is measured is half a second at most on a machine of its own; here others work, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kind that is installed while the adapter runs is found within 10 s.
const FOUND: Duration = Duration::from_secs(30);

const KINDS: [(&str, &str, &str); 5] = [
    ("tidepole.dev", "externalmetrics", "ExternalMetric"),
    ("tidepole.dev", "clusterexternalmetrics", "ClusterExternalMetric"),
    ("tidepole.dev", "custommetrics", "CustomMetric"),
    ("tidepole.dev", "clustercustommetrics", "ClusterCustomMetric"),
    ("metrics.aws", "externalmetrics", "ExternalMetric"),
];

/// Installs the kinds of metric resources.
fn install_kinds(world: &World) {
    let delivered = crate::root().join("deploy/crds");
    let original = delivered.join("metrics.aws_externalmetrics.yaml");
    for (how, path) in [("--kustomize", &delivered), ("--filename", &original)] {
        let mut apply = world.plane.kubectl();
        apply.args(["apply", "--server-side", "--force-conflicts", how]).arg(path);
        run(&mut apply).expect("the kinds are accepted");
    }
    for (group, plural, _) in KINDS {
        eventually(&format!("{plural}.{group} are served"), SOON, || {
            world.get_raw(&format!("/apis/{group}/v1alpha1/{plural}")).map(drop)
        });
        let up = format!("kind=\"{}\"", label_of(group, plural));
        eventually(&format!("{plural}.{group} are watched"), FOUND, || {
            let up = world.counted("tidepole_resource_watch_up", &[&up]);
            if up > 0.0 { Ok(()) } else { Err("not yet".to_owned()) }
        });
    }
}

/// How metrics name a kind.
fn label_of(group: &str, plural: &str) -> String {
    let known = KINDS.iter().find(|(g, p, _)| (*g, *p) == (group, plural));
    let kind = known.expect("one of ours").2;
    if group == "tidepole.dev" { kind.to_owned() } else { format!("{kind}.{group}") }
}

/// The resources of a kind in a namespace, or cluster-wide ones.
fn resources(world: &World, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let known = KINDS.iter().find(|(group, _, k)| *group == "tidepole.dev" && *k == kind);
    let (group, plural, _) = known.expect("one of ours");
    let kind = GroupVersionKind::gvk(group, "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(world.client.clone(), namespace, &resource),
        None => Api::all_with(world.client.clone(), &resource),
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "tidepole.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).expect("it is an object")
}

/// Writes a resource, as `kubectl apply` would.
fn write(world: &World, api: &Api<DynamicObject>, kind: &str, name: &str, spec: &Value) {
    let params = PatchParams::apply("tests").force();
    let object = object(kind, name, spec);
    let written = world.wait(api.patch(name, &params, &Patch::Apply(&object)));
    written.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

fn constant(value: usize) -> Value {
    json!({"simulated": {"constant": value.to_string()}})
}

/// The value of an external metric, through the aggregator.
fn read(world: &World, namespace: &str, metric: &str) -> Result<String, String> {
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}");
    let request = http::Request::get(path).body(Vec::new()).expect("a request");
    let list: Value =
        world.wait(world.client.request(request)).map_err(|error| error.to_string())?;
    Ok(list["items"][0]["value"].as_str().unwrap_or_default().to_owned())
}

/// Reads until the value is this one, or until there is none; how long it took.
fn until(world: &World, namespace: &str, metric: &str, wanted: Option<&str>) -> Duration {
    let begin = Instant::now();
    loop {
        let seen = read(world, namespace, metric);
        if seen.as_deref().ok() == wanted {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < PATIENCE, "{metric}: {seen:?} instead of {wanted:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the status page lists a metric.
fn is_listed(world: &World, metric: &str) -> Result<(), String> {
    let text = world.installation.admin("/api/metrics")?;
    if text.contains(&format!("\"{metric}\"")) { Ok(()) } else { Err("not listed".to_owned()) }
}

fn of_services(metric: &str, value: usize) -> Value {
    let query = format!("label_replace(vector({value}), \"service\", \"front\", \"\", \"\")");
    json!({"metric": metric, "resource": "services", "source": "main", "prometheus": {"query": query}})
}

#[test]
fn metric_resources_are_served_as_they_come_change_and_go() {
    let world = shared();
    let _web = Workload::new(&world, "resources", 1);
    install_kinds(&world);

    // Every kind: made, changed, deleted.
    let own = resources(&world, "ExternalMetric", Some("resources"));
    let wide = resources(&world, "ClusterExternalMetric", None);
    for (api, kind) in [(&own, "ExternalMetric"), (&wide, "ClusterExternalMetric")] {
        let name = format!("res-{}", kind.to_lowercase());
        for value in [1, 2] {
            write(&world, api, kind, &name, &constant(value));
            let took = until(&world, "resources", &name, Some(&value.to_string()));
            println!("measured: {kind} written, served after {took:?}");
        }
        world.wait(api.delete(&name, &DeleteParams::default())).expect("it is there");
        until(&world, "resources", &name, None);
    }
    let own_custom = resources(&world, "CustomMetric", Some("resources"));
    let wide_custom = resources(&world, "ClusterCustomMetric", None);
    for (api, kind) in [(&own_custom, "CustomMetric"), (&wide_custom, "ClusterCustomMetric")] {
        let name = format!("res-{}", kind.to_lowercase());
        for metric in ["one", "two"] {
            let metric = format!("{}_{metric}", name.replace('-', "_"));
            write(&world, api, kind, &name, &of_services(&metric, 3));
            eventually(&format!("{metric} is served"), PATIENCE, || is_listed(&world, &metric));
        }
        world.wait(api.delete(&name, &DeleteParams::default())).expect("it is there");
        eventually(&format!("{name} is gone"), PATIENCE, || {
            let metric = format!("{}_two", name.replace('-', "_"));
            is_listed(&world, &metric).map_or(Ok(()), |()| Err("still listed".to_owned()))
        });
    }

    // What is refused leaves what worked, and says so.
    write(&world, &own, "ExternalMetric", "kept", &constant(5));
    until(&world, "resources", "kept", Some("5"));
    let nowhere = json!({"source": "nowhere", "simulated": {"constant": "6"}});
    write(&world, &own, "ExternalMetric", "kept", &nowhere);
    eventually("the refusal is told", PATIENCE, || {
        let text = world.installation.admin("/api/metrics")?;
        let said = "externalmetrics.tidepole.dev/resources/kept: spec.source: ";
        if text.contains(said) { Ok(()) } else { Err(text) }
    });
    always("the last good version is served", Duration::from_secs(1), || {
        read(&world, "resources", "kept").map(|value| assert_eq!(value, "5"))
    });
    world.wait(own.delete("kept", &DeleteParams::default())).expect("it is there");
    until(&world, "resources", "kept", None);

    a_kind_is_removed_and_comes_back(&world, &wide_custom);
    among_thousands(&world);
}

/// Not one that another test needs.
fn a_kind_is_removed_and_comes_back(world: &World, api: &Api<DynamicObject>) {
    write(world, api, "ClusterCustomMetric", "short", &of_services("res_short_lived", 1));
    eventually("it is served", PATIENCE, || is_listed(world, "res_short_lived"));
    let mut delete = world.plane.kubectl();
    delete.args(["delete", "crd", "clustercustommetrics.tidepole.dev", "--timeout=30s"]);
    run(&mut delete).expect("the kind can be removed");
    eventually("its metrics are gone", PATIENCE, || {
        is_listed(world, "res_short_lived").map_or(Ok(()), |()| Err("still listed".to_owned()))
    });
    eventually("its absence is noticed", FOUND, || {
        let up = world.counted("tidepole_resource_watch_up", &["kind=\"ClusterCustomMetric\""]);
        if up > 0.0 { Err("it is up".to_owned()) } else { Ok(()) }
    });
    install_kinds(world);
    write(world, api, "ClusterCustomMetric", "again", &of_services("res_back_again", 1));
    eventually("it is served again", PATIENCE, || is_listed(world, "res_back_again"));
    world.wait(api.delete("again", &DeleteParams::default())).expect("it is there");
}

/// Deletes a crowd, whatever happens in between.
struct Crowd<'a>(&'a World);

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for namespace in CROWDED {
            let api = resources(self.0, "ExternalMetric", Some(namespace));
            let (delete, all) = (DeleteParams::default(), ListParams::default());
            if let Err(error) = self.0.wait(api.delete_collection(&delete, &all)) {
                eprintln!("{namespace}: {error}");
            }
        }
    }
}

fn among_thousands(world: &World) {
    let _crowd = Crowd(world);
    let begin = Instant::now();
    for namespace in CROWDED {
        world.plane.apply(&format!(
            "{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {namespace} }} }}"
        ));
        let api = resources(world, "ExternalMetric", Some(namespace));
        let make = |number: usize| {
            let api = api.clone();
            async move {
                let object = object("ExternalMetric", &format!("m-{number}"), &constant(number));
                api.create(&PostParams::default(), &object).await.map(drop)
            }
        };
        let outcomes = futures::stream::iter(0..IN_EACH).map(make).buffer_unordered(16);
        let failed =
            outcomes.filter_map(async |made: kube::Result<()>| made.err()).collect::<Vec<_>>();
        let failed = world.wait(failed);
        assert!(failed.is_empty(), "{namespace}: {:?}", failed.first());
    }
    println!("measured: {} resources made in {:?}", CROWDED.len() * IN_EACH, begin.elapsed());
    let took = until(world, CROWDED[9], "m-499", Some("499"));
    println!("measured: the last of them served {took:?} after all were made");

    let api = resources(world, "ExternalMetric", Some(CROWDED[4]));
    let mut times: Vec<Duration> = (0..10)
        .map(|round| {
            // Not 1000, which a quantity writes as 1k.
            let value = 1001 + round;
            write(world, &api, "ExternalMetric", "m-77", &constant(value));
            until(world, CROWDED[4], "m-77", Some(&value.to_string()))
        })
        .collect();
    times.sort_unstable();
    println!(
        "measured: among {} resources a change is served after {:?} (median), {:?} at most",
        CROWDED.len() * IN_EACH,
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
