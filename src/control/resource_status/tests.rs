//! The writer on a paused clock, against an API server of a few lines.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::testing::{ByName, PausedClock, declared, end, entry, id, no_data};
use super::*;
use crate::cache::QueryCell;
use crate::control::declared::{Declared, Verdict};
use crate::control::hpa_watch::Used;
use crate::model::{
    Cause, DefinitionKind, Entry, FetchError, MetricReference, OnNoData, Problem, ProblemKind,
    ReferenceKind, Selector,
};

/// What an API server has been sent.
struct Server {
    begin: Instant,
    lease: Option<Value>,
    version: u64,
    /// Status writes and Events, with the time since the begin.
    writes: Vec<(Duration, Write)>,
    /// What statuses say now, by path.
    statuses: HashMap<String, Value>,
    /// Status writes and Events are answered with this; with [`SILENCE`] not at all.
    fails: Option<u16>,
}

/// No answer.
const SILENCE: u16 = 0;

#[derive(Clone, Debug)]
enum Write {
    Status(String, Value),
    Event(Value),
}

impl Write {
    fn status(&self) -> Option<(&str, &Value)> {
        match self {
            Self::Status(path, body) => Some((path, &body["status"])),
            Self::Event(_) => None,
        }
    }

    fn event(&self) -> Option<&Value> {
        match self {
            Self::Event(event) => Some(event),
            Self::Status(..) => None,
        }
    }
}

#[derive(Clone)]
struct Cluster(Arc<Mutex<Server>>);

impl Cluster {
    fn new() -> Self {
        let server = Server {
            begin: Instant::now(),
            lease: None,
            version: 0,
            writes: Vec::new(),
            statuses: HashMap::new(),
            fails: None,
        };
        Self(Arc::new(Mutex::new(server)))
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                // As long as a real one may take.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                if cluster.server().fails == Some(SILENCE) && !parts.uri.path().contains("/leases")
                {
                    let at = cluster.server().begin.elapsed();
                    let path = parts.uri.path().to_owned();
                    cluster.server().writes.push((at, Write::Status(path, body)));
                    std::future::pending::<()>().await;
                    unreachable!("nobody answers");
                }
                let query = parts.uri.query().unwrap_or_default().to_owned();
                let (code, answer) =
                    cluster.server().answer(&parts.method, parts.uri.path(), &query, body);
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "tidepole")
    }

    fn writes(&self) -> Vec<(Duration, Write)> {
        self.server().writes.clone()
    }

    /// The statuses written so far.
    fn written(&self) -> usize {
        self.writes().iter().filter(|(_, write)| write.status().is_some()).count()
    }

    /// Type, reason and object of the Events so far.
    fn events(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = self.writes();
        let events = all.iter().filter_map(|(_, write)| write.event());
        events
            .map(|e| (text(&e["type"]), text(&e["reason"]), text(&e["regarding"]["name"])))
            .collect()
    }

    fn forget(&self) {
        self.server().writes.clear();
    }

    fn status(&self, name: &str) -> Value {
        let path = format!("/apis/tidepole.dev/v1alpha1/namespaces/shop/externalmetrics/{name}");
        self.server().statuses.get(&path).cloned().unwrap_or_default()
    }

    fn condition(&self, name: &str, r#type: &str) -> String {
        let status = self.status(name);
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|condition| condition["type"] == r#type);
        found.map_or_else(String::new, |condition| {
            format!(
                "{} {}",
                condition["status"].as_str().unwrap(),
                condition["reason"].as_str().unwrap()
            )
        })
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the test", "reason": "x", "code": code});
    (code, status)
}

impl Server {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        mut body: Value,
    ) -> (u16, Value) {
        if path.contains("/leases") {
            return match (method, &self.lease) {
                (&Method::GET, None) => refusal(404),
                (&Method::GET, Some(lease)) => (200, lease.clone()),
                _ => {
                    self.version += 1;
                    body["metadata"]["resourceVersion"] = self.version.to_string().into();
                    self.lease = Some(body.clone());
                    (200, body)
                }
            };
        }
        if let Some((_, name)) = path.split_once("/horizontalpodautoscalers/") {
            let found = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": name, "namespace": "shop", "uid": format!("uid of {name}")}});
            return if name == "gone" { refusal(404) } else { (200, found) };
        }
        let at = self.begin.elapsed();
        if path.contains("/events") {
            self.writes.push((at, Write::Event(body.clone())));
            return self.fails.map_or((201, body), refusal);
        }
        let object = path.strip_suffix("/status").expect("only statuses are written").to_owned();
        assert_eq!(method, Method::PATCH);
        assert!(query.contains("fieldManager=tidepole-status") && query.contains("force=true"));
        self.writes.push((at, Write::Status(object.clone(), body.clone())));
        if let Some(code) = self.fails {
            return refusal(code);
        }
        self.statuses.insert(object, body["status"].clone());
        (200, body)
    }
}

/// Resources, as the watch would keep them.
struct World {
    cluster: Cluster,
    parts: Parts,
    resources: Mutex<BTreeMap<DefinitionId, Arc<Declared>>>,
}

impl World {
    /// HPAs are seen; there is none.
    fn new() -> Self {
        let world = Self::starting();
        world.used(&[]);
        world
    }

    /// HPAs have not been seen yet.
    fn starting() -> Self {
        let parts = Parts {
            board: Arc::default(),
            catalog: Arc::default(),
            on_demand: Arc::default(),
            usage: Arc::default(),
            foresee: Arc::new(ByName),
            clock: Arc::new(PausedClock::new()),
            events: EventSettings { hpas: false },
        };
        Self { cluster: Cluster::new(), parts, resources: Mutex::default() }
    }

    /// Resources of these names and no others.
    fn declare(&self, kind: DefinitionKind, names: &[String], on_no_data: &OnNoData) {
        let ids: Vec<DefinitionId> = names.iter().map(|name| id(kind, name)).collect();
        let entries: Vec<Entry> = ids.iter().map(|id| entry(id, on_no_data.clone())).collect();
        self.parts.catalog.apply_resources(entries, Vec::new());
        let all = ids.iter().map(|id| (id.clone(), Arc::new(declared(id, 1)))).collect();
        *self.resources.lock().unwrap() = all;
        self.tell();
    }

    /// The board has what the API server has.
    fn tell(&self) {
        let mut resources = self.resources.lock().unwrap();
        for (id, declared) in resources.iter_mut() {
            let status = self.cluster.status(&id.name);
            let text = status.to_string();
            if !status.is_null() && declared.status.as_deref() != Some(&*text) {
                Arc::make_mut(declared).status = Some(text.into());
            }
        }
        self.parts.board.put(resources.clone());
    }

    fn cell(&self, name: &str) -> Arc<QueryCell> {
        let snapshot = self.parts.catalog.snapshot();
        let served = snapshot.listing(name).unwrap().all().next().unwrap();
        Arc::clone(served.cell.as_ref().unwrap())
    }

    fn end(&self, name: &str, result: Result<&[(&str, i64)], FetchError>) {
        end(&self.cell(name), result, &*self.parts.clock);
    }

    fn used(&self, all: &[(&str, &str, &str, &str)]) {
        let used = all.iter().map(|(namespace, hpa, metric, selector)| Used {
            reference: Arc::new(MetricReference {
                namespace: (*namespace).into(),
                metric: (*metric).into(),
                selector: Selector::parse(selector).unwrap(),
                kind: ReferenceKind::External,
            }),
            hpas: Arc::from([Arc::from(*hpa)]),
        });
        self.parts.usage.put(used.collect());
    }

    fn replica(&self, pod: &str) -> Replica {
        let telemetry = Telemetry::new();
        let client = self.cluster.client();
        let lease = Lease::new(client.clone(), "tidepole", "tidepole", pod, &telemetry);
        let status = ResourceStatus::new(client, self.parts.clone(), lease, pod, &telemetry);
        Replica(Box::pin(status.run(std::future::pending())))
    }
}

/// A process, which is killed when it is dropped.
struct Replica(std::pin::Pin<Box<dyn Future<Output = ()>>>);

impl Replica {
    /// Lets it work.
    async fn work(&mut self, time: Duration) {
        let _ = timeout(time, &mut self.0).await;
    }
}

/// The most writes in any second.
fn densest(writes: &[(Duration, Write)]) -> usize {
    let in_second = |from: Duration| {
        let until = from + Duration::from_secs(1);
        writes.iter().filter(|(at, _)| *at >= from && *at < until).count()
    };
    writes.iter().map(|(at, _)| in_second(*at)).max().unwrap_or(0)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn five_thousand_resources_are_at_most_ten_writes_a_second() {
    let world = World::new();
    let names: Vec<String> = (0..5000).map(|i| format!("m{i}")).collect();
    world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    let all = |value| names.iter().for_each(|name| world.end(name, Ok(&[("a", value)])));
    all(0);
    // All conditions are new.
    let mut replica = world.replica("a");
    replica.work(secs(60)).await;
    let first = world.cluster.writes();
    assert!(densest(&first) <= 10, "{} in a second", densest(&first));
    // Each takes its answer's time in addition.
    assert!((550..=600).contains(&first.len()), "{} writes in a minute", first.len());
    drop(replica);

    // All conditions are as they should be, and all values change all the time.
    let (path, status) = first[0].1.status().unwrap();
    let base = path.trim_end_matches(char::is_numeric);
    for name in &names {
        let path = format!("{}{}", base, name.trim_start_matches('m'));
        world.cluster.server().statuses.insert(path, status.clone());
    }
    world.tell();
    world.cluster.forget();
    let mut replica = world.replica("b");
    for round in 0..8 {
        all(round);
        replica.work(secs(15)).await;
    }
    let second = world.cluster.writes();
    assert!(densest(&second) <= 10, "{} in a second", densest(&second));
    assert!((700..=1000).contains(&second.len()), "{} writes in 110 s", second.len());
    println!(
        "5000 resources: {} condition writes in 60 s, then {} value writes in 120 s; at most {} and {} \
         in any second",
        first.len(),
        second.len(),
        densest(&first),
        densest(&second)
    );
    // One that fails does not wait behind them.
    world.end("m4321", Err(FetchError::Denied(Cause::new("access denied"))));
    replica.work(Duration::from_millis(1500)).await;
    assert_eq!(world.cluster.condition("m4321", "Ready"), "True ServingHeld");
    assert_eq!(world.cluster.condition("m4321", "Fresh"), "False Denied");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_no_other_condition() {
    let world = World::new();
    let names: Vec<String> = (0..5000).map(|i| format!("m{i}")).collect();
    world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    let mut replica = world.replica("a");
    replica.work(secs(10)).await;
    let waits = names.iter().rev().find(|name| world.cluster.status(name).is_null()).unwrap();
    let judge = |verdict: Verdict| {
        let id = id(DefinitionKind::ExternalMetric, waits);
        let declared = Declared { verdict, ..declared(&id, 2) };
        world.resources.lock().unwrap().insert(id, Arc::new(declared));
        world.tell();
    };
    let problems = [Problem::new("x", "no").of_kind(ProblemKind::NotAllowed)].into();
    judge(Verdict::Refused { problems, last_good_stays: false });
    replica.work(secs(1)).await;
    assert_eq!(world.cluster.condition(waits, "Accepted"), "False NotAllowed");
    judge(Verdict::Accepted);
    replica.work(secs(1)).await;
    assert_eq!(world.cluster.condition(waits, "Accepted"), "True Valid");
    assert!(world.cluster.written() < 200, "most wait still");
}

/// One who edits refused resources all the time leaves others their turns.
#[tokio::test(start_paused = true)]
async fn refusals_leave_others_their_turns() {
    let world = World::new();
    let names: Vec<String> = (0..600).map(|i| format!("m{i}")).collect();
    world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    let mut replica = world.replica("a");
    replica.work(secs(100)).await;
    world.end("m599", Err(FetchError::Denied(Cause::new("access denied"))));
    for round in 0..300 {
        // Each pass, more of them than could be written until the next one.
        for name in &names[..20] {
            let id = id(DefinitionKind::ExternalMetric, name);
            let problems = [Problem::new("x", format!("no, in version {round}"))
                .of_kind(ProblemKind::NotAllowed)];
            let verdict = Verdict::Refused { problems: problems.into(), last_good_stays: false };
            let declared = Declared { verdict, ..declared(&id, round + 2) };
            world.resources.lock().unwrap().insert(id, Arc::new(declared));
        }
        world.tell();
        replica.work(Duration::from_millis(100)).await;
    }
    assert_eq!(world.cluster.condition("m599", "Fresh"), "False Denied");
    let events = world.cluster.events();
    assert!(
        events.iter().any(|(_, reason, name)| reason == "Denied" && name == "m599"),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_told_at_once_and_values_are_not() {
    let world = World::new();
    world.declare(DefinitionKind::ExternalMetric, &["jobs".to_owned()], &OnNoData::Hold);
    let mut replica = world.replica("a");
    replica.work(secs(1)).await;
    assert_eq!(world.cluster.condition("jobs", "Ready"), "Unknown NotUsed");
    assert_eq!(world.cluster.condition("jobs", "Accepted"), "True Valid");
    world.end("jobs", Ok(&[("a", 1)]));
    replica.work(Duration::from_millis(1300)).await;
    assert_eq!(world.cluster.condition("jobs", "Ready"), "True Serving");
    assert_eq!(world.cluster.status("jobs")["value"], "1");
    world.cluster.forget();
    for value in 2..=5 {
        world.end("jobs", Ok(&[("a", value)]));
        replica.work(secs(12)).await;
    }
    assert_eq!(world.cluster.written(), 0, "values wait");
    replica.work(secs(30)).await;
    assert_eq!(world.cluster.written(), 1, "a minute after the last write");
    assert_eq!(world.cluster.status("jobs")["value"], "5");
    world.end("jobs", Err(FetchError::Timeout(Cause::new("slow"))));
    replica.work(Duration::from_millis(1300)).await;
    assert_eq!(world.cluster.condition("jobs", "Ready"), "True ServingHeld");
    assert_eq!(world.cluster.condition("jobs", "Fresh"), "False Timeout");
    // What nobody wants does not change, so nothing is written.
    world.declare(DefinitionKind::ExternalMetric, &["idle".to_owned()], &OnNoData::Hold);
    replica.work(secs(5)).await;
    world.cluster.forget();
    replica.work(secs(600)).await;
    assert_eq!(world.cluster.written(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_writes_only_what_has_changed() {
    let world = World::new();
    let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    world.end("m0", Ok(&[("a", 1)]));
    world.used(&[("shop", "web", "m0", "")]);
    let mut a = world.replica("a");
    a.work(secs(60)).await;
    assert!(world.cluster.written() >= 20);
    assert_eq!(world.cluster.status("m0")["usedBy"]["hpas"][0]["name"], "web");
    drop(a);
    world.tell();
    world.cluster.forget();
    // The other process has just started: it knows of no HPA and has asked no source yet.
    let fresh = World { cluster: world.cluster.clone(), ..World::starting() };
    fresh.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    let mut b = fresh.replica("b");
    b.work(secs(20)).await;
    assert!(
        fresh.cluster.server().lease.as_ref().unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .starts_with("b_")
    );
    assert_eq!(fresh.cluster.written(), 0, "{:?}", fresh.cluster.writes());
    fresh.used(&[("shop", "web", "m0", "")]);
    fresh.end("m0", Ok(&[("a", 1)]));
    fresh.end("m1", Err(no_data()));
    b.work(secs(25)).await;
    let written: Vec<String> = fresh
        .cluster
        .writes()
        .iter()
        .filter_map(|(_, write)| write.status().map(|(path, _)| path.to_owned()))
        .collect();
    assert!(written[0].ends_with("/m1"), "{written:?}");
    // That one has a newer sample, by now.
    assert!(written[1..].iter().all(|path| path.ends_with("/m0")), "{written:?}");
    // Who has stood by long enough knows who wants what.
    fresh.used(&[]);
    b.work(secs(2)).await;
    assert_eq!(fresh.cluster.status("m0")["usedBy"]["count"], 0);
}

#[tokio::test(start_paused = true)]
async fn failed_writes_are_made_again_ever_less_often() {
    for (code, at_most) in [(500, 12), (403, 12), (429, 12)] {
        let world = World::new();
        let names: Vec<String> = (0..50).map(|i| format!("m{i}")).collect();
        world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
        world.cluster.server().fails = Some(code);
        let mut replica = world.replica("a");
        replica.work(secs(120)).await;
        let tries = world.cluster.written();
        assert!((4..=at_most).contains(&tries), "{code}: {tries} tries in two minutes");
        world.cluster.server().fails = None;
        world.cluster.forget();
        replica.work(secs(75)).await;
        assert_eq!(world.cluster.written(), 50, "{code}");
    }
    // What concerns one object stops no other.
    for code in [404, 409, 422] {
        let world = World::new();
        let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
        world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
        world.cluster.server().fails = Some(code);
        let mut replica = world.replica("a");
        replica.work(secs(10)).await;
        assert_eq!(world.cluster.written(), 20, "{code}: each once");
        world.cluster.server().fails = None;
        world.cluster.forget();
        replica.work(secs(40)).await;
        assert_eq!(world.cluster.written(), 20, "{code}: each again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_nothing_can_be_written_is_written_afterwards() {
    // The permission is taken away; the API server is there and does not answer.
    for fails in [403, SILENCE] {
        let world = World::new();
        world.declare(DefinitionKind::ExternalMetric, &["jobs".to_owned()], &OnNoData::Hold);
        let mut replica = world.replica("a");
        world.end("jobs", Ok(&[("a", 1)]));
        replica.work(secs(2)).await;
        assert_eq!(world.cluster.condition("jobs", "Ready"), "True Serving");
        world.cluster.server().fails = Some(fails);
        world.cluster.forget();
        world.end("jobs", Err(FetchError::Denied(Cause::new("access denied"))));
        replica.work(secs(60)).await;
        let tries = world.cluster.writes().len();
        assert!((3..=12).contains(&tries), "{fails}: {tries} tries in a minute");
        assert_eq!(world.cluster.condition("jobs", "Ready"), "True Serving");
        // The lease is held on: it is not what fails.
        let lease = world.cluster.server().lease.clone().unwrap();
        assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("a_"), "{lease}");
        world.cluster.server().fails = None;
        replica.work(secs(62)).await;
        assert_eq!(world.cluster.condition("jobs", "Fresh"), "False Denied", "{fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_said_to_use_nothing_while_hpas_cannot_be_seen() {
    let world = World::new();
    world.declare(DefinitionKind::ExternalMetric, &["jobs".to_owned()], &OnNoData::Hold);
    world.used(&[("shop", "web", "jobs", "")]);
    let mut replica = world.replica("a");
    replica.work(secs(40)).await;
    assert_eq!(world.cluster.condition("jobs", "Ready"), "Unknown Pending");
    assert_eq!(world.cluster.status("jobs")["usedBy"]["count"], 1);
    world.parts.usage.forget_certainty();
    replica.work(secs(2)).await;
    assert_eq!(world.cluster.condition("jobs", "Ready"), "Unknown UsageUnknown");
    assert_eq!(world.cluster.status("jobs")["usedBy"], Value::Null);
    world.used(&[("shop", "web", "jobs", "")]);
    replica.work(secs(2)).await;
    assert_eq!(world.cluster.status("jobs")["usedBy"]["count"], 1);
}

#[tokio::test(start_paused = true)]
async fn hpas_have_events_when_somebody_wants_that() {
    let world = World::new();
    let world =
        World { parts: Parts { events: EventSettings { hpas: true }, ..world.parts }, ..world };
    let names = ["jobs", "mails"].map(str::to_owned);
    world.declare(DefinitionKind::ExternalMetric, &names, &OnNoData::Hold);
    for name in &names {
        world.end(name, Ok(&[("a", 1)]));
    }
    let both = |jobs: &str, mails: &str| {
        world.used(&[
            ("shop", "web", "jobs", jobs),
            ("shop", "web", "mails", mails),
            ("shop", "gone", "jobs", jobs),
        ]);
    };
    let told = || {
        let all = world.cluster.writes();
        let events = all.iter().filter_map(|(_, write)| write.event());
        let events = events.filter(|event| event["regarding"]["kind"] == "HorizontalPodAutoscaler");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut told: Vec<String> = events
            .map(|event| {
                assert_eq!(event["regarding"]["name"], "web", "nobody tells one that is gone");
                assert_eq!(event["regarding"]["uid"], "uid of web");
                format!(
                    "{} {}: {}",
                    text(&event["type"]),
                    text(&event["reason"]),
                    text(&event["note"])
                )
            })
            .collect();
        told.sort();
        world.cluster.forget();
        told
    };
    let mut replica = world.replica("a");
    both("queue=b", "");
    replica.work(secs(20)).await;
    assert_eq!(told(), [""; 0], "a process that has just started does not know yet");
    replica.work(secs(40)).await;
    let jobs = "Warning MetricUnavailable: jobs in shop: no series matches the selector";
    assert_eq!(told(), [jobs]);
    // The same goes on.
    replica.work(secs(120)).await;
    assert_eq!(told(), [""; 0]);
    // Each metric is told in its own words.
    both("queue=b", "queue=b");
    replica.work(secs(5)).await;
    let mails = "Warning MetricUnavailable: mails in shop: no series matches the selector";
    assert_eq!(told(), [mails]);
    both("", "");
    replica.work(secs(5)).await;
    let again = |name: &str| format!("Normal MetricRecovered: {name} has a value again");
    assert_eq!(told(), [again("jobs"), again("mails")]);
    // Enough is enough: what comes and goes is told now and then.
    for _ in 0..20 {
        both("queue=b", "");
        replica.work(secs(3)).await;
        both("", "");
        replica.work(secs(3)).await;
    }
    assert!(told().len() <= 3);
    // Whoever is not seen for a while has neither recovered nor left.
    replica.work(secs(3600)).await;
    told();
    both("queue=b", "");
    replica.work(secs(700)).await;
    let begun = told();
    world.parts.usage.forget_certainty();
    replica.work(secs(20)).await;
    both("queue=b", "");
    replica.work(secs(700)).await;
    assert_eq!((begun, told()), (vec![jobs.to_owned()], Vec::new()));
    both("", "");
    replica.work(secs(700)).await;
    assert_eq!(told(), [again("jobs")]);
}

#[tokio::test(start_paused = true)]
async fn events_tell_of_failures_and_of_their_end() {
    let world = World::new();
    world.declare(DefinitionKind::ExternalMetric, &["jobs".to_owned()], &OnNoData::Error);
    let mut replica = world.replica("a");
    world.end("jobs", Err(FetchError::Denied(Cause::new("access denied"))));
    replica.work(secs(3)).await;
    let event = |kind: &str, reason: &str| (kind.to_owned(), reason.to_owned(), "jobs".to_owned());
    assert_eq!(world.cluster.events(), [event("Warning", "Denied")]);
    let all = world.cluster.writes();
    let told = all.iter().find_map(|(_, write)| write.event()).unwrap().clone();
    assert_eq!(told["note"], "jobs in shop: access denied (source main)");
    assert_eq!(told["regarding"]["uid"], "uid of jobs");
    assert_eq!(told["regarding"]["kind"], "ExternalMetric");
    assert_eq!(told["regarding"]["apiVersion"], "tidepole.dev/v1alpha1");
    // The same again is no news; another reason is.
    world.end("jobs", Err(FetchError::Denied(Cause::new("access denied again"))));
    replica.work(secs(3)).await;
    assert_eq!(world.cluster.events().len(), 1);
    world.end("jobs", Err(no_data()));
    replica.work(secs(3)).await;
    world.end("jobs", Ok(&[("a", 1)]));
    world.used(&[("shop", "web", "jobs", "queue=b"), ("mail", "m", "jobs", "")]);
    replica.work(secs(6)).await;
    let mut events = world.cluster.events();
    events.sort();
    assert_eq!(
        events,
        [
            event("Normal", "Recovered"),
            event("Warning", "Denied"),
            event("Warning", "NoData"),
            event("Warning", "NotSeenInNamespace"),
            event("Warning", "SelectorMatchesNothing"),
        ]
    );
    assert_eq!(
        world.cluster.status("jobs")["missedBy"],
        json!([{"namespace": "mail", "name": "m", "problem": "jobs in mail: not defined for this namespace"}])
    );
    assert_eq!(
        world.cluster.status("jobs")["usedBy"],
        json!({"count": 1, "hpas": [
            {"namespace": "shop", "name": "web", "problem": "jobs in shop: no series matches the selector"},
        ]})
    );
    // Enough is enough: one that comes and goes is told now and then.
    world.cluster.forget();
    for _ in 0..20 {
        world.end("jobs", Err(no_data()));
        replica.work(secs(3)).await;
        world.end("jobs", Ok(&[("a", 1)]));
        replica.work(secs(3)).await;
    }
    assert!(world.cluster.events().len() <= 2, "{:?}", world.cluster.events());
}

#[tokio::test(start_paused = true)]
async fn resources_without_a_status_have_events() {
    let world = World::new();
    let zero = OnNoData::Value(crate::model::Decimal::ZERO);
    world.declare(DefinitionKind::AwsExternalMetric, &["jobs".to_owned()], &zero);
    let mut replica = world.replica("a");
    world.end("jobs", Err(no_data()));
    replica.work(secs(3)).await;
    assert_eq!(world.cluster.written(), 0);
    let event = |kind: &str, reason: &str| (kind.to_owned(), reason.to_owned(), "jobs".to_owned());
    assert_eq!(world.cluster.events(), [event("Normal", "NoDataAsZero")]);
    let all = world.cluster.writes();
    let told = all.iter().find_map(|(_, write)| write.event()).unwrap().clone();
    assert_eq!(told["regarding"]["apiVersion"], "metrics.aws/v1alpha1");
    assert_eq!(told["regarding"]["kind"], "ExternalMetric");
    world.end("jobs", Ok(&[("a", 1)]));
    replica.work(secs(3)).await;
    world.end("jobs", Err(FetchError::Denied(Cause::new("access denied"))));
    replica.work(secs(125)).await;
    assert_eq!(world.cluster.events()[1..], [event("Warning", "Denied")]);
}
