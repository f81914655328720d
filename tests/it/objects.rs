//! What the server knows of the cluster's resources and objects, against an API server that answers
//! as it is told.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidepole::model::{
    Clock, GroupResource, ManualClock, ObjectDirectory, ObjectNames, ObjectSet, Objects, Resource,
    ResourceDirectory, Selector, SystemClock,
};
use tidepole::objects::{Resources, WatchLimits, Watches};
use tidepole::runtime::kubernetes;
use tidepole::task::TaskSet;
use tidepole::telemetry::Telemetry;
use tokio::runtime::Handle;

use crate::support::cluster_api::{ClusterApi, PODS, Served};
use crate::support::openmetrics;
use crate::support::tls::install_provider;
use crate::support::wait::until;

const NODES: Served = Served {
    group: "",
    version: "v1",
    plural: "nodes",
    singular: "node",
    kind: "Node",
    namespaced: false,
};

const INGRESSES: Served = Served {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ingresses",
    singular: "ingress",
    kind: "Ingress",
    namespaced: true,
};

const SCALERS: Served = Served {
    group: "autoscaling",
    version: "v2",
    plural: "scalers",
    singular: "scaler",
    kind: "Scaler",
    namespaced: true,
};

const OLD_SCALERS: Served = Served { version: "v1", ..SCALERS };

const WIDGETS: Served = Served {
    group: "example.com",
    version: "v1",
    plural: "widgets",
    singular: "widget",
    kind: "Widget",
    namespaced: true,
};

/// A cluster, and what a server has to know it.
struct World {
    api: ClusterApi,
    client: kube::Client,
    tasks: TaskSet,
    telemetry: Telemetry,
}

async fn world(kinds: &[Served]) -> World {
    install_provider();
    let api = ClusterApi::start([].into());
    api.objects().serve(kinds);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    fs::write(&path, api.kubeconfig()).expect("the folder is ours");
    let client = kubernetes::client(Some(&path)).await.expect("a client");
    let (tasks, _) = TaskSet::new(Handle::current());
    World { api, client, tasks, telemetry: Telemetry::new() }
}

impl World {
    async fn resources(&self) -> Resources {
        let resources = Resources::start(Some(self.client.clone()), &self.tasks, &self.telemetry);
        resources.settled().await;
        resources
    }

    fn watches(&self, limits: WatchLimits) -> Watches {
        self.watches_by(Arc::new(SystemClock::new()), limits)
    }

    fn watches_by(&self, clock: Arc<dyn Clock>, limits: WatchLimits) -> Watches {
        Watches::new(Some(self.client.clone()), &self.tasks, clock, limits, &self.telemetry)
    }

    async fn stop(self) {
        self.tasks.stop().await;
    }
}

fn resource(kind: &Served) -> Arc<Resource> {
    let id = GroupResource { group: kind.group.into(), resource: kind.plural.into() };
    Arc::new(Resource {
        id,
        version: kind.version.into(),
        kind: kind.kind.into(),
        singular: kind.singular.into(),
        namespaced: kind.namespaced,
    })
}

fn names(watches: &Watches, kind: &Served, namespace: Option<&str>, selector: &str) -> Objects {
    watches.names(&ObjectSet {
        resource: resource(kind),
        namespace: namespace.map(Into::into),
        names: ObjectNames::Matching(Selector::parse(selector).expect("a selector")),
    })
}

fn known(names: &[&str]) -> Objects {
    Objects::Known(names.iter().map(|name| Arc::from(*name)).collect())
}

async fn become_known(watches: &Watches, selector: &str, wanted: &[&str]) {
    until("the pods", async || {
        let seen = names(watches, &PODS, Some("shop"), selector);
        if seen == known(wanted) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

fn found(resources: &Resources, path: &str) -> Option<String> {
    resources.resolve_path(path).map(|found| format!("{} {}", found.id, found.version))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_are_those_that_discovery_tells() {
    for old in [false, true] {
        let world = world(&[PODS, NODES, SCALERS, OLD_SCALERS, WIDGETS, INGRESSES]).await;
        if old {
            world.api.objects().make_old();
        }
        world.api.objects().break_groups(&["example.com"]);
        let resources = world.resources().await;
        for (path, wanted) in [
            ("Pod", Some("pods v1")),
            ("nodes.", Some("nodes v1")),
            ("ingress.networking", Some("ingresses.networking.k8s.io v1")),
            ("scalers", Some("scalers.autoscaling v2")),
            ("podlists", Some("podlists v1")),
            ("widgets", None),
            ("status", None),
        ] {
            assert_eq!(found(&resources, path).as_deref(), wanted, "{path}, old: {old}");
        }
        let node = resources.resolve("", "node").expect("a node");
        assert!(!node.namespaced && &*node.kind == "Node");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_comes_later_is_found_and_an_outage_forgets_nothing() {
    let world = world(&[PODS, INGRESSES]).await;
    let resources = world.resources().await;
    let before = resources.generation();
    assert_eq!(found(&resources, "widgets"), None);
    world.api.objects().serve(&[PODS, INGRESSES, WIDGETS]);
    until("the new resource", async || {
        found(&resources, "widgets").map(drop).ok_or_else(|| "nothing".to_owned())
    })
    .await;
    let after = resources.generation();
    assert!(after > before, "{before} {after}");

    // Its server goes away, with that of another; then the API server does.
    world.api.objects().break_groups(&["example.com", "networking.k8s.io"]);
    let looks = world.api.objects().discoveries();
    let looked = async |beyond: u64| {
        until("another look", async || {
            assert_eq!(found(&resources, "nosuch"), None);
            let now = world.api.objects().discoveries();
            if now > beyond { Ok(now) } else { Err(now.to_string()) }
        })
        .await
    };
    looked(looks).await;
    world.api.objects().mute(true);
    looked(world.api.objects().discoveries() + 1).await;
    for path in ["pods", "widgets", "ingresses"] {
        assert!(found(&resources, path).is_some(), "{path}");
    }
    assert_eq!(resources.generation(), after, "nothing has changed");
    openmetrics::parse(&world.telemetry.encode()).expect("valid OpenMetrics");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_at_the_start_is_found_later() {
    let world = world(&[PODS]).await;
    world.api.objects().mute(true);
    let resources = world.resources().await;
    assert_eq!((found(&resources, "pods"), resources.generation()), (None, 0));
    let why = resources.unknown_because().expect("they were never told");
    assert!(why.starts_with("API discovery failed: "), "{why}");
    world.api.objects().mute(false);
    until("pods", async || found(&resources, "pods").map(drop).ok_or_else(|| "nothing".to_owned()))
        .await;
    until("no doubt", async || match resources.unknown_because() {
        None => Ok(()),
        Some(why) => Err(why.to_string()),
    })
    .await;
    // From now on what is not found was not there, whatever becomes of the API server.
    world.api.objects().mute(true);
    assert_eq!((found(&resources, "nosuch"), resources.unknown_because()), (None, None));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_listed_once_from_the_first_question_on() {
    let world = world(&[PODS, NODES]).await;
    let objects = world.api.objects();
    for number in 0..1200 {
        let app = if number % 100 == 0 { "rare" } else { "many" };
        objects.put(&PODS, "shop", &format!("web-{number:04}"), &[("app", app)]);
    }
    objects.put(&PODS, "bank", "zzz", &[("app", "rare")]);
    objects.put(&NODES, "", "node-b", &[]);
    objects.put(&NODES, "", "node-a", &[]);
    let watches = Arc::new(world.watches(WatchLimits::default()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(objects.lists(&PODS), 0, "nobody has asked");
    let one = ObjectSet {
        resource: resource(&PODS),
        namespace: None,
        names: ObjectNames::One("any".into()),
    };
    assert_eq!(watches.names(&one), known(&["any"]));
    assert!(watches.is_empty());

    let readers: Vec<_> = (0..50)
        .map(|_| {
            let watches = Arc::clone(&watches);
            Handle::current().spawn(async move {
                watches.listed(&resource(&PODS)).await;
                names(&watches, &PODS, None, "app=rare")
            })
        })
        .collect();
    let mut wanted = vec!["zzz".to_owned()];
    wanted.extend((0..12).map(|number| format!("web-{:04}", number * 100)));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    for reader in readers {
        assert_eq!(reader.await.expect("a reader"), known(&wanted));
    }
    assert_eq!(objects.lists(&PODS), 1);
    watches.listed(&resource(&NODES)).await;
    assert_eq!(names(&watches, &NODES, None, ""), known(&["node-a", "node-b"]));
    assert_eq!(names(&watches, &NODES, Some("shop"), ""), known(&[]));
    let text = world.telemetry.encode();
    openmetrics::parse(&text).expect("valid OpenMetrics");
    for line in ["tidepole_object_watches 2", "tidepole_objects_known 1203"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_followed_through_disconnections() {
    let world = world(&[PODS]).await;
    let objects = world.api.objects();
    objects.put(&PODS, "shop", "a", &[("app", "web")]);
    let watches = world.watches(WatchLimits::default());
    become_known(&watches, "app=web", &["a"]).await;
    objects.put(&PODS, "shop", "b", &[("app", "web")]);
    become_known(&watches, "app=web", &["a", "b"]).await;
    objects.put(&PODS, "shop", "a", &[("app", "db")]);
    become_known(&watches, "app=web", &["b"]).await;

    // What happens while nobody watches is caught up with, without a listing.
    objects.disconnect(&PODS);
    objects.delete(&PODS, "shop", "b");
    objects.put(&PODS, "shop", "c", &[("app", "web")]);
    become_known(&watches, "app=web", &["c"]).await;
    assert_eq!(objects.lists(&PODS), 1);

    // Nothing that is said costs what is known.
    objects.say(&PODS, "{nonsense");
    objects.put_raw(&PODS, "nameless", json!({"metadata": {"labels": {"app": "web"}}}));
    objects.put_raw(&PODS, "odd", json!({"metadata": {"name": ["x"], "namespace": 7}}));
    objects.put(&PODS, "shop", "d", &[("app", "web")]);
    become_known(&watches, "app=web", &["c", "d"]).await;

    // What is too old is listed again, what is no object left out.
    let lists = objects.lists(&PODS);
    objects.expire(&PODS);
    until("another listing", async || {
        let now = objects.lists(&PODS);
        if now > lists { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    objects.put(&PODS, "shop", "e", &[("app", "web")]);
    become_known(&watches, "app=web", &["c", "d", "e"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named_and_used_once_it_is_there() {
    let world = world(&[PODS]).await;
    let objects = world.api.objects();
    objects.put(&PODS, "shop", "a", &[]);
    objects.refuse(&PODS, true);
    let watches = world.watches(WatchLimits::default());
    watches.listed(&resource(&PODS)).await;
    let Objects::Unavailable(reason) = names(&watches, &PODS, Some("shop"), "") else {
        panic!("nobody may list them");
    };
    for part in ["pods cannot be listed", "User \"tidepole\"", "grant list and watch on pods"] {
        assert!(reason.contains(part), "{reason}");
    }
    objects.refuse(&PODS, false);
    become_known(&watches, "", &["a"]).await;

    // Taken away again, it costs what is new.
    objects.refuse(&PODS, true);
    objects.expire(&PODS);
    let failures = || {
        let text = world.telemetry.encode();
        let line =
            text.lines().find_map(|l| l.strip_prefix("tidepole_object_watch_failures_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = failures();
    until(
        "a refusal",
        async || {
            if failures() > before { Ok(()) } else { Err(failures().to_string()) }
        },
    )
    .await;
    assert_eq!(names(&watches, &PODS, Some("shop"), ""), known(&["a"]));

    // A resource that is not there is no empty one.
    watches.listed(&resource(&WIDGETS)).await;
    let gone = names(&watches, &WIDGETS, None, "");
    let Objects::Unavailable(reason) = gone else { panic!("{gone:?}") };
    assert!(reason.contains("could not find the requested resource"), "{reason}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_listed_alone_is_listed_ever_less_often() {
    let world = world(&[PODS]).await;
    let objects = world.api.objects();
    objects.put(&PODS, "shop", "a", &[]);
    objects.refuse_watches(&PODS, true);
    let begin = std::time::Instant::now();
    let watches = world.watches(WatchLimits::default());
    become_known(&watches, "", &["a"]).await;
    // Pauses of 1, 2, 4 and 8 seconds, each at least half as long: lists at 0, 0.5, 1.5, 3.5 and
    // 7.5 seconds at the earliest.
    objects.put(&PODS, "shop", "b", &[]);
    become_known(&watches, "", &["a", "b"]).await;
    tokio::time::sleep(Duration::from_secs(7).saturating_sub(begin.elapsed())).await;
    let (lists, took) = (objects.lists(&PODS), begin.elapsed());
    assert!(lists >= 2, "it is tried again");
    assert!(lists <= 4 || took > Duration::from_millis(7400), "{lists} lists in {took:?}");
    // Once it is allowed, changes are seen as they come.
    objects.refuse_watches(&PODS, false);
    until("a watch", async || match objects.watches(&PODS) {
        1 => Ok(()),
        none => Err(none.to_string()),
    })
    .await;
    let lists = objects.lists(&PODS);
    objects.put(&PODS, "shop", "c", &[]);
    become_known(&watches, "", &["a", "b", "c"]).await;
    assert_eq!(objects.lists(&PODS), lists);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_about_is_let_go() {
    let world = world(&[PODS, NODES, INGRESSES]).await;
    let objects = world.api.objects();
    objects.put(&PODS, "shop", "a", &[]);
    objects.put(&NODES, "", "node", &[]);
    let idle = Duration::from_secs(4);
    let clock = Arc::new(ManualClock::default());
    let watches = world.watches_by(Arc::clone(&clock) as _, WatchLimits { resources: 2, idle });
    become_known(&watches, "", &["a"]).await;
    watches.listed(&resource(&NODES)).await;
    let full = names(&watches, &INGRESSES, None, "");
    let Objects::Unavailable(reason) = full else { panic!("{full:?}") };
    assert!(reason.contains("2 resources are already"), "{reason}");
    clock.advance(idle / 2);
    assert_eq!(names(&watches, &PODS, Some("shop"), ""), known(&["a"]));
    clock.advance(idle / 2);
    until("the end of the watch of nodes", async || {
        assert_eq!(names(&watches, &PODS, Some("shop"), ""), known(&["a"]));
        let open = (objects.watches(&NODES), watches.len());
        if open == (0, 1) { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert_eq!(objects.watches(&PODS), 1, "it is in use");
    // There is room again, and what was let go comes back.
    watches.listed(&resource(&NODES)).await;
    assert_eq!(names(&watches, &NODES, None, ""), known(&["node"]));
    assert_eq!(objects.lists(&NODES), 2);
    world.stop().await;
}

#[tokio::test]
async fn without_a_cluster_nothing_is_known() {
    let (tasks, _) = TaskSet::new(Handle::current());
    let telemetry = Telemetry::new();
    let resources = Resources::start(None, &tasks, &telemetry);
    resources.settled().await;
    assert_eq!(found(&resources, "pods"), None);
    let why = resources.unknown_because().expect("nobody tells");
    assert!(why.contains("without a cluster"), "{why}");
    let clock = Arc::new(SystemClock::new());
    let watches = Watches::new(None, &tasks, clock, WatchLimits::default(), &telemetry);
    watches.listed(&resource(&PODS)).await;
    let unknown = names(&watches, &PODS, None, "");
    assert!(matches!(unknown, Objects::Unavailable(_)), "{unknown:?}");
    assert!(tasks.is_empty());
}
