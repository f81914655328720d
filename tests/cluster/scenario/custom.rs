//! In the place of prometheus-adapter: its Helm chart's arguments, rules, permissions and
//! registrations, with our binary as the image.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::control_plane::run;
use crate::drop_in::{DEFAULT_RULES, DropIn, hpa_paths, items, own_custom_metrics, read};
use crate::process::{always, eventually};
use crate::upstream::Prometheus;
use crate::workload::{A_WHILE, SOON, Workload};
use crate::world::{World, exclusive, folders, shared};

/// With the chart's arguments a value is read every 15 s, which is also how long the original's
/// users wait for the HPA controller: [`SOON`] and that.
const LATER: Duration = Duration::from_mins(1);

/// The namespace of the test's objects.
const SHOP: &str = "drop-in";

/// The rules of the chart, and those a user has added. `twice` is edited later; the metric with a
/// colon is one of a recording rule; `broken` is refused by Prometheus.
fn rules(factor: u32) -> String {
    format!(
        r#"rules:{DEFAULT_RULES}
- seriesQuery: 'drop_in_crates'
  resources: {{ overrides: {{ namespace: {{ resource: namespace }},
                              truck: {{ group: drop-in.tidepole.dev, resource: truck }} }} }}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)
- seriesQuery: 'drop_in_stock'
  resources: {{ overrides: {{ namespace: {{ resource: namespace }}, pod: {{ resource: pod }} }} }}
  name: {{ as: drop_in_factored }}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>) * {factor}
- seriesQuery: '{{__name__=~"drop_in_(broken"}}'
  resources: {{ template: <<.Resource>> }}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)
"#
    )
}

/// A custom resource of the shop. The API server takes a moment to serve it.
fn custom_resource(world: &World, kind: &str) {
    let singular = kind.to_lowercase();
    world.plane.apply(&format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{ name: {singular}s.drop-in.tidepole.dev }}
spec:
  group: drop-in.tidepole.dev
  scope: Namespaced
  names: {{ plural: {singular}s, singular: {singular}, kind: {kind} }}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{ openAPIV3Schema: {{ type: object }} }}
"
    ));
    eventually("the custom resource is served", SOON, || {
        world.get_raw(&format!("/apis/drop-in.tidepole.dev/v1/{singular}s")).map(drop)
    });
}

/// Deletes the custom resources, whatever happens in between.
struct CustomResources<'a>(&'a World);

impl Drop for CustomResources<'_> {
    fn drop(&mut self) {
        let mut delete = self.0.plane.kubectl();
        delete.args(["delete", "crd", "--ignore-not-found", "--wait=false"]);
        delete.args(["brokers.drop-in.tidepole.dev", "trucks.drop-in.tidepole.dev"]);
        if let Err(error) = run(&mut delete) {
            eprintln!("{error}");
        }
    }
}

fn pods(world: &World, namespace: &str) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    let pods = world.wait(api.list(&ListParams::default())).expect("pods can be listed");
    pods.iter().map(ResourceExt::name_any).collect()
}

/// The value that the HPA has read last of a metric of pods or of an object.
fn current(web: &Workload<'_>) -> Option<String> {
    let metrics = web.hpa().status?.current_metrics?;
    let of = |metric: k8s_openapi::api::autoscaling::v2::MetricStatus| {
        let pods = metric.pods.map(|pods| pods.current);
        let current = pods.or(metric.object.map(|object| object.current))?;
        Some(current.value.or(current.average_value)?.0)
    };
    metrics.into_iter().find_map(of)
}

/// Waits longer for a number of replicas than [`Workload::expect_replicas`].
fn expect_replicas(web: &Workload<'_>, wanted: i32) {
    eventually(&format!("{} has {wanted} replicas", web.namespace), LATER, || {
        let seen = web.replicas();
        if seen == wanted { Ok(()) } else { Err(format!("{seen}; {:?}", web.scaling())) }
    });
    web.expect_unmoved(wanted, A_WHILE);
}

fn pods_metric(name: &str, target: &str) -> String {
    format!(
        "{{ type: Pods, pods: {{ metric: {{ name: {name} }}, \
         target: {{ type: AverageValue, averageValue: \"{target}\" }} }} }}"
    )
}

fn object_metric(name: &str, object: &str, target: &str) -> String {
    format!(
        "{{ type: Object, object: {{ metric: {{ name: {name} }}, describedObject: {object}, \
         target: {{ type: Value, value: \"{target}\" }} }} }}"
    )
}

const INGRESS: &str = "{ apiVersion: networking.k8s.io/v1, kind: Ingress, name: front }";
const BROKER: &str = "{ apiVersion: drop-in.tidepole.dev/v1, kind: Broker, name: events }";
const TRUCK: &str = "{ apiVersion: drop-in.tidepole.dev/v1, kind: Truck, name: blue }";

#[test]
fn the_helm_chart_of_prometheus_adapter_works_with_another_image() {
    let _own = own_custom_metrics();
    let world = shared();
    let (folder, logs) = folders();
    let folder = folder.join("drop-in");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    let prometheus = Prometheus::start("prometheus-drop-in", &folder, logs, &world.exposition);
    let _resources = CustomResources(&world);
    custom_resource(&world, "Broker");

    let web = Workload::new(&world, SHOP, 10);
    let names = pods(&world, SHOP);
    assert_eq!(names.len(), 10);
    let requests = |value: f64| {
        // Two of the ten have no series, and one of the series is of a pod that is gone.
        for pod in names[..8].iter().map(String::as_str).chain(["web-gone"]) {
            let series = format!(r#"drop_in_requests{{namespace="{SHOP}",pod="{pod}"}}"#);
            world.exposition.set(&series, value);
        }
    };
    requests(30.0);
    for (series, value) in [
        (format!(r#"drop_in_requests{{namespace="elsewhere",pod="{}"}}"#, names[0]), 1000.0),
        (format!(r#"drop_in_hits{{namespace="{SHOP}",ingress="front"}}"#), 50.0),
        (format!(r#"drop_in_lag{{namespace="{SHOP}",broker="events"}}"#), 70.0),
        (format!(r#"drop_in_crates{{namespace="{SHOP}",truck="blue"}}"#), 80.0),
        (format!(r#"drop_in_stock{{namespace="{SHOP}",pod="{}",tier="gold"}}"#, names[0]), 7.0),
        (format!(r#"drop_in_stock{{namespace="{SHOP}",pod="{}",tier="lead"}}"#, names[1]), 9.0),
    ] {
        world.exposition.set(&series, value);
    }
    // Series are listed at the start and then once a minute: they are there by then.
    eventually("Prometheus has scraped", SOON, || {
        let query = format!("{}/api/v1/query?query=count(drop_in_requests)", prometheus.url());
        let answer = crate::http_get(&query)?;
        if answer.contains(r#""10"]"#) { Ok(()) } else { Err(answer) }
    });
    let mut adapter = DropIn::start(&world, &folder, "drop-in", &prometheus, &rules(1), &[]);
    adapter.register("v1beta1", "custom.metrics.k8s.io");
    adapter.register("v1beta2", "custom.metrics.k8s.io");

    by_hand(&world, &names);
    pods_are_averaged(&web, &requests);
    objects_are_read_by_name(&world);
    a_custom_resource_may_come_later(&world);
    the_other_version_does_as_well(&world, &web, &mut adapter, &requests);
    an_edited_file_is_taken_over(&world, &adapter, &names);
    prometheus_may_be_away(&web, &mut adapter, &prometheus, &requests);
}

/// What people see who look with kubectl.
fn by_hand(world: &World, names: &[String]) {
    let list = |metric: &str, parameters: &[(&str, &str)]| {
        items(&read(world, &format!("v1beta2/namespaces/{SHOP}/pods/*/{metric}"), parameters))
    };
    let wanted = |value: &str, names: &[String]| -> BTreeMap<String, String> {
        names.iter().map(|name| (name.clone(), value.to_owned())).collect()
    };
    let sorted = |items: Vec<(String, String)>| items.into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(list("drop_in_requests", &[])), wanted("30", &names[..8]));
    let labelled = list("drop_in_requests", &[("labelSelector", "app=web")]);
    assert_eq!(sorted(labelled), wanted("30", &names[..8]));
    let gold = list("drop_in_stock", &[("metricLabelSelector", "tier=gold")]);
    assert_eq!(gold, [(names[0].clone(), "7".to_owned())]);
    let (status, none) = read(
        world,
        &format!("v1beta2/namespaces/{SHOP}/pods/*/drop_in_requests"),
        &[("labelSelector", "app=other")],
    );
    assert_eq!(status, 404, "{none}");
    let one = |version: &str, path: &str| {
        read(world, &format!("{version}/namespaces/{SHOP}/{path}"), &[])
    };
    let (status, pod) = one("v1beta2", &format!("pods/{}/drop_in_requests", names[3]));
    let item = &pod["items"][0];
    assert_eq!((status, &item["metric"]["name"]), (200, &"drop_in_requests".into()), "{pod}");
    assert_eq!(item["describedObject"]["apiVersion"], "/v1", "as the original has it: {pod}");
    let (status, pod) = one("v1beta1", &format!("pods/{}/drop_in_requests", names[3]));
    assert_eq!(
        (status, &pod["items"][0]["metricName"]),
        (200, &"drop_in_requests".into()),
        "{pod}"
    );
    // By name, what an Ingress' metric needs no permission for; a list of them does.
    let ingress = one("v1beta2", "ingresses.networking.k8s.io/front/drop_in_hits");
    assert_eq!(items(&ingress), [("front".to_owned(), "50".to_owned())]);
    assert_eq!(ingress.1["items"][0]["describedObject"]["kind"], "Ingress");
    let (status, refused) = one("v1beta2", "ingresses.networking.k8s.io/*/drop_in_hits");
    assert_eq!(status, 500, "{refused}");
    let message = refused["message"].as_str().expect("a Status has a message");
    assert!(message.contains("cannot list resource \"ingresses\""), "{message}");
    // Of the namespace itself: all of its pods' series.
    let (status, sum) =
        read(world, &format!("v1beta2/namespaces/{SHOP}/metrics/drop_in_requests"), &[]);
    assert_eq!((status, &sum["items"][0]["value"]), (200, &"270".into()), "{sum}");
    // The rule that Prometheus refuses gives nothing, and takes nothing from the others.
    let text = world.get_raw("/apis/custom.metrics.k8s.io/v1beta1").expect("discovery answers");
    assert!(text.contains("\"pods/drop_in_requests\"") && !text.contains("broken"), "{text}");
}

/// The controller takes pods without a value for idle where it scales up: eight at 30 of ten are 24
/// on average, 12 pods at a target of 20. The two that come have no series either.
fn pods_are_averaged(web: &Workload<'_>, requests: &impl Fn(f64)) {
    web.autoscale(&[&pods_metric("drop_in_requests", "20")]);
    expect_replicas(web, 12);
    assert_eq!(web.expect_scaling("ValidMetricFound").status, "True");
    assert_eq!(current(web).as_deref(), Some("30"), "the average of those with a value");
    let paths = hpa_paths(web.world, SHOP);
    let path = paths.last().expect("the controller has read");
    let wanted = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{SHOP}/pods/%2A/drop_in_requests\
         ?labelSelector=app%3Dweb"
    );
    assert_eq!(&**path, wanted);
    requests(45.0);
    expect_replicas(web, 18);
}

fn objects_are_read_by_name(world: &World) {
    for (namespace, object, metric, wanted) in [
        ("drop-in-ingress", INGRESS, "drop_in_hits", 5),
        ("drop-in-broker", BROKER, "drop_in_lag", 7),
    ] {
        let label = if object == INGRESS { "ingress=\"front\"" } else { "broker=\"events\"" };
        let series = format!("{metric}{{namespace=\"{namespace}\",{label}}}");
        world.exposition.set(&series, f64::from(wanted) * 10.0);
        let web = Workload::new(world, namespace, 1);
        web.autoscale(&[&object_metric(metric, object, &format!("{}", wanted * 10))]);
        expect_replicas(&web, 1);
        // The ratio is to one ready pod.
        web.autoscale(&[&object_metric(metric, object, "10")]);
        eventually("the HPA follows", LATER, || {
            let seen = web.replicas();
            if seen >= wanted { Ok(()) } else { Err(format!("{seen}; {:?}", web.scaling())) }
        });
        assert_eq!(current(&web), Some(format!("{}", wanted * 10)));
    }
}

/// The original has to be restarted for it, and before does not start at all.
fn a_custom_resource_may_come_later(world: &World) {
    let path = format!("v1beta2/namespaces/{SHOP}/trucks.drop-in.tidepole.dev/blue/drop_in_crates");
    assert_eq!(read(world, &path, &[]).0, 404, "nobody knows trucks");
    custom_resource(world, "Truck");
    eventually("trucks have metrics", SOON, || match read(world, &path, &[]) {
        answer @ (200, _) => {
            assert_eq!(items(&answer), [("blue".to_owned(), "80".to_owned())]);
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    let web = Workload::new(world, "drop-in-truck", 1);
    world.exposition.set(r#"drop_in_crates{namespace="drop-in-truck",truck="blue"}"#, 5.0);
    web.autoscale(&[&object_metric("drop_in_crates", TRUCK, "5")]);
    eventually("the HPA has a value", LATER, || match current(&web) {
        Some(value) if value == "5" => Ok(()),
        other => Err(format!("{other:?}; {:?}", web.scaling())),
    });
}

/// The controller looks every now and then which versions there are, and takes the newest it knows.
fn the_other_version_does_as_well(
    world: &World,
    web: &Workload<'_>,
    adapter: &mut DropIn<'_>,
    requests: &impl Fn(f64),
) {
    let expect_version = |version: &str| {
        let before = hpa_paths(world, SHOP).len();
        // The controller's discovery is made anew every 30 s.
        eventually("the HPA reads by the other version", Duration::from_secs(75), || {
            let paths = hpa_paths(world, SHOP);
            let prefix = format!("/apis/custom.metrics.k8s.io/{version}/");
            match paths[before..].last() {
                Some(path) if path.starts_with(&prefix) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    };
    adapter.unregister("v1beta2.custom.metrics.k8s.io");
    expect_version("v1beta1");
    requests(50.0);
    // 8 * 50 / 20
    expect_replicas(web, 20);
    assert_eq!(web.expect_scaling("ValidMetricFound").status, "True");
    adapter.register("v1beta2", "custom.metrics.k8s.io");
    expect_version("v1beta2");
}

fn an_edited_file_is_taken_over(world: &World, adapter: &DropIn<'_>, names: &[String]) {
    let path = format!("v1beta2/namespaces/{SHOP}/pods/{}/drop_in_factored", names[1]);
    assert_eq!(items(&read(world, &path, &[]))[0].1, "9");
    adapter.edit("rules: [{ seriesQuery: 1, typo: 2 }]");
    always("a broken file changes nothing", A_WHILE, || match read(world, &path, &[]) {
        answer @ (200, _) if items(&answer)[0].1 == "9" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let log = adapter.log();
    assert!(log.contains("typo"), "the mistake is in the log");
    adapter.edit(&rules(3));
    eventually("the new rules are in use", SOON, || match read(world, &path, &[]) {
        answer @ (200, _) if items(&answer)[0].1 == "27" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Values are held until they are too old; then there is none, and nothing moves.
fn prometheus_may_be_away(
    web: &Workload<'_>,
    adapter: &mut DropIn<'_>,
    prometheus: &Prometheus,
    requests: &impl Fn(f64),
) {
    adapter.restart(&["--refresh=1s", "--sample-max-age=12s"]);
    let path = format!("v1beta2/namespaces/{SHOP}/pods/*/drop_in_requests");
    eventually("the cluster reads from it again", LATER, || match read(web.world, &path, &[]) {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    web.expect_scaling("ValidMetricFound");
    prometheus.halt();
    let held = Duration::from_secs(8);
    always("values are held", held, || match read(web.world, &path, &[]) {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let failed = web.expect_scaling("FailedGetPodsMetric");
    assert!(failed.message.contains("drop_in_requests"), "{failed:?}");
    // That of all pods is another question, fetched at another moment.
    eventually("other reads fail as well", LATER, || match read(web.world, &path, &[]) {
        (500, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    web.expect_unmoved(20, A_WHILE);
    prometheus.resume();
    requests(70.0);
    expect_replicas(web, 28);
}

/// Points the external API back to the world's own adapter, whatever happens in between.
struct Pointed<'a>(&'a World);

impl Drop for Pointed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.point_to(&self.0.installation) {
            eprintln!("the cluster still reads from the other adapter: {error}");
        }
    }
}

#[test]
fn an_external_rule_of_prometheus_adapter_scales() {
    let world = exclusive();
    let folder = folders().0.join("drop-in-external");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    let web = Workload::new(&world, "drop-in-external", 1);
    for (series, value) in [
        (r#"drop_in_queue{namespace="drop-in-external",queue="a"}"#, 12.0),
        (r#"drop_in_queue{namespace="drop-in-external",queue="b"}"#, 30.0),
        (r#"drop_in_queue{namespace="elsewhere",queue="a"}"#, 1000.0),
    ] {
        world.exposition.set(series, value);
    }
    eventually("Prometheus has scraped", SOON, || {
        let query = format!("{}/api/v1/query?query=count(drop_in_queue)", world.main.url());
        let answer = crate::http_get(&query)?;
        if answer.contains(r#""3"]"#) { Ok(()) } else { Err(answer) }
    });
    let rules = r#"
externalRules:
- seriesQuery: '{__name__=~"^drop_in_queue$",queue!=""}'
  resources: { overrides: { namespace: { resource: namespace } } }
  name: { matches: "^(.*)$", as: "${1}_depth" }
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (queue)
"#;
    // The chart's arguments for `tls.enable: true`.
    let certificates = world.installation.certificates.display();
    let tls = [
        format!("--tls-cert-file={certificates}/tls.crt"),
        format!("--tls-private-key-file={certificates}/tls.key"),
    ];
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    let adapter = DropIn::start(&world, &folder, "drop-in-external", &world.main, rules, &tls);
    let _pointed = Pointed(&world);
    adapter.take_over("v1beta1.external.metrics.k8s.io");
    eventually("the cluster reads from the drop-in", SOON, || {
        let discovery = world.get_raw("/apis/external.metrics.k8s.io/v1beta1")?;
        if discovery.contains("drop_in_queue_depth") { Ok(()) } else { Err(discovery) }
    });
    assert_eq!(world.read("drop-in-external", "drop_in_queue_depth", ""), ["12", "30"]);
    web.autoscale(&["{ type: External, external: { metric: { name: drop_in_queue_depth, \
                     selector: { matchLabels: { queue: b } } }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_replicas(3);
    assert_eq!(web.current()["drop_in_queue_depth"], "10");
}
