use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::model::{Announced, Claim, MetricReference, SystemClock};
use crate::telemetry::Telemetry;

/// Remembers what is claimed; knows all metrics, or none that was not tried.
#[derive(Default)]
struct Claims {
    held: Mutex<BTreeSet<String>>,
    count: Mutex<usize>,
    tried: AtomicBool,
}

impl Announce for Claims {
    fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        if claim.hpas > 0 {
            self.held.lock().unwrap().insert(reference.metric.to_string());
            *self.count.lock().unwrap() += 1;
        }
        if self.tried.load(Ordering::SeqCst) { Announced::Tried } else { Announced::Waiting }
    }

    fn release(&self, reference: &MetricReference, _claim: Claim) {
        self.held.lock().unwrap().remove(&*reference.metric);
    }
}

struct House {
    claims: Arc<Claims>,
    standing: Arc<Standing>,
    usage: Arc<Usage>,
    events: mpsc::UnboundedSender<watcher::Result<Event<Hpa>>>,
    directory: watch::Sender<u64>,
    definitions: watch::Sender<u64>,
    complete: Arc<AtomicBool>,
    telemetry: Telemetry,
}

/// A watch that gets its events from the test, and lists again on the same channel.
fn house() -> House {
    let (claims, telemetry) = (Arc::new(Claims::default()), Telemetry::new());
    let (standing, usage) = (Standing::new(&telemetry), Arc::<Usage>::default());
    let (events, mut received) = mpsc::unbounded_channel();
    let (directory, definitions) = (watch::Sender::new(0), watch::Sender::new(0));
    let complete = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&complete);
    let mut hpas = HpaWatch::new(
        claims.clone(),
        Arc::new(SystemClock::new()),
        Grounds {
            changes: vec![definitions.subscribe(), directory.subscribe()],
            is_complete: Box::new(move || seen.load(Ordering::SeqCst)),
        },
        Arc::clone(&standing),
    )
    .telling(Arc::clone(&usage));
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    tasks.job("test", async move {
        loop {
            let events = futures::stream::poll_fn(|context| received.poll_recv(context));
            hpas.follow(events).await;
        }
    });
    House { claims, standing, usage, events, directory, definitions, complete, telemetry }
}

fn hpa(name: &str, metric: &str) -> Hpa {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"metrics": [{"type": "External", "external": {"metric": {"name": metric}}}]},
    }))
    .unwrap()
}

fn refusal(code: u16) -> kube::Error {
    kube::Error::Api(Box::new(Status {
        code,
        message: "horizontalpodautoscalers.autoscaling is forbidden".to_owned(),
        ..Status::default()
    }))
}

impl House {
    async fn send(&self, events: impl IntoIterator<Item = Event<Hpa>>) {
        for event in events {
            self.events.send(Ok(event)).unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }

    async fn list(&self, hpas: &[(&str, &str)]) {
        let listed = hpas.iter().map(|(name, metric)| Event::InitApply(hpa(name, metric)));
        self.send([Event::Init].into_iter().chain(listed).chain([Event::InitDone])).await;
    }

    fn held(&self) -> String {
        self.claims.held.lock().unwrap().iter().cloned().collect::<Vec<_>>().join(" ")
    }

    /// Who uses what, `?` where that is not known.
    fn used(&self) -> String {
        let mut used: Vec<_> = self
            .usage
            .used()
            .iter()
            .map(|used| format!("{}:{}", used.reference.metric, used.hpas.join("+")))
            .collect();
        used.sort();
        format!("{}{}", used.join(" "), if self.usage.is_known() { "" } else { "?" })
    }

    fn claims(&self) -> usize {
        *self.claims.count.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn hpas_come_change_and_go() {
    let house = house();
    assert_eq!(house.standing.pending().as_deref(), Some("HPAs have not been listed yet"));
    house.send([Event::Init, Event::InitApply(hpa("x", "A"))]).await;
    assert_eq!(house.held(), "a", "known from the first page on");
    assert!(house.standing.pending().is_some());
    house.send([Event::InitApply(hpa("y", "b")), Event::InitDone]).await;
    let pending = "2 metrics that HPAs refer to have not been tried yet";
    assert_eq!(house.standing.pending().as_deref(), Some(pending));
    house.claims.tried.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(house.standing.pending(), None);

    let claims = house.claims();
    house.send((0..100).map(|_| Event::Apply(hpa("x", "a")))).await;
    assert_eq!(house.claims(), claims, "the status alone changed");
    house.send([Event::Apply(hpa("x", "c")), Event::Apply(hpa("z", "d"))]).await;
    assert_eq!(house.held(), "b c d");
    house.send([Event::Delete(hpa("y", "b"))]).await;
    assert_eq!(house.held(), "c d");
    // A new listing tells what went unseen.
    house.list(&[("z", "d"), ("v", "e")]).await;
    assert_eq!(house.held(), "d e");
    let text = house.telemetry.encode();
    for line in ["hpas 2", "references 2", "known 2", "unknown 0", "up 1"] {
        assert!(text.contains(&format!("\ntidepole_hpa_watch_{line}\n")), "{line}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_namespaces_that_definitions_need() {
    let house = house();
    house.complete.store(false, Ordering::SeqCst);
    house.claims.tried.store(true, Ordering::SeqCst);
    // The first moments may have seen it complete; a change says that it was not.
    house.directory.send_replace(1);
    sleep(Duration::from_millis(300)).await;
    house.list(&[("x", "a")]).await;
    sleep(Duration::from_mins(2)).await;
    assert!(house.standing.pending().is_some());
    let claims = house.claims();
    house.complete.store(true, Ordering::SeqCst);
    house.directory.send_replace(2);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(house.standing.pending(), None);
    assert!(house.claims() > claims, "announced again");
    let claims = house.claims();
    house.definitions.send_replace(1);
    sleep(Duration::from_millis(300)).await;
    assert!(house.claims() > claims, "announced again");
}

#[tokio::test(start_paused = true)]
async fn without_the_permission_nothing_waits_and_what_was_known_lapses() {
    let house = house();
    house.events.send(Err(watcher::Error::InitialListFailed(refusal(403)))).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(house.standing.pending(), None);
    let WatchState::Down(cause) = house.standing.report().state else { panic!("it is down") };
    assert_eq!(
        cause,
        "horizontalpodautoscalers.autoscaling is forbidden; grant get, list and watch on \
         horizontalpodautoscalers.autoscaling (see ClusterRole tidepole in the manifests)"
    );
    assert!(house.telemetry.encode().contains("\ntidepole_hpa_watch_up 0\n"));
    // Granted: it is seen after the pause.
    house.list(&[("x", "a")]).await;
    assert_eq!(house.held(), "");
    sleep(Duration::from_secs(2)).await;
    assert_eq!((house.held().as_str(), house.standing.report().state), ("a", WatchState::Up));
    sleep(Duration::from_mins(3)).await;
    let renewed = house.claims();
    assert!((4..=5).contains(&renewed), "{renewed}: on listing, and each minute");
    // Taken away: nobody tells us when an HPA goes.
    house.events.send(Err(watcher::Error::WatchStartFailed(refusal(403)))).unwrap();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(house.claims(), renewed);
    house.list(&[("x", "a")]).await;
    sleep(Duration::from_secs(2)).await;
    assert!(house.claims() > renewed);
}

#[tokio::test(start_paused = true)]
async fn who_uses_what_is_told_once_a_second_at_most() {
    let house = house();
    let mut told = house.usage.subscribe();
    house.send([Event::Init, Event::InitApply(hpa("x", "a"))]).await;
    assert_eq!(house.used(), "?", "a listing that is not whole says nothing");
    house.send([Event::InitApply(hpa("y", "a")), Event::InitDone]).await;
    assert_eq!(house.used(), "a:x+y");
    told.mark_unchanged();
    for (i, metric) in ["b", "c", "d", "e"].into_iter().enumerate() {
        house.send([Event::Apply(hpa(&format!("z{i}"), metric))]).await;
    }
    assert!(!told.has_changed().unwrap());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(house.used(), "a:x+y b:z0 c:z1 d:z2 e:z3");
    assert_eq!(*told.borrow_and_update(), 2);
    house.send((0..100).map(|_| Event::Apply(hpa("x", "a")))).await;
    sleep(Duration::from_secs(5)).await;
    assert!(!told.has_changed().unwrap(), "the status alone changed");
    house.list(&[("x", "a")]).await;
    assert_eq!(house.used(), "a:x");
    house.events.send(Err(watcher::Error::WatchStartFailed(refusal(403)))).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(house.used(), "a:x?", "we may not look");
    sleep(Duration::from_mins(2)).await;
    house.list(&[]).await;
    sleep(Duration::from_mins(2)).await;
    assert_eq!(house.used(), "", "nobody uses anything");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_changes_nothing() {
    let house = house();
    house.claims.tried.store(true, Ordering::SeqCst);
    house.list(&[("x", "a")]).await;
    for _ in 0..5 {
        house.events.send(Err(watcher::Error::WatchStartFailed(refusal(503)))).unwrap();
    }
    sleep(Duration::from_mins(5)).await;
    assert!(matches!(house.standing.report().state, WatchState::Down(_)));
    assert_eq!((house.held().as_str(), house.claims()), ("a", 6));
    house.list(&[("x", "a")]).await;
    assert_eq!(house.standing.report().state, WatchState::Up);
}

#[test]
fn ordinary_ends_of_a_watch_are_no_failures() {
    let gone = Status { code: 410, ..Status::default() };
    for error in [
        watcher::Error::WatchError(Box::new(gone)),
        watcher::Error::InitialListFailed(refusal(410)),
    ] {
        assert!(is_ordinary(&error), "{error}");
    }
    assert!(!is_ordinary(&watcher::Error::InitialListFailed(refusal(500))));
    assert!(!is_ordinary(&watcher::Error::NoResourceVersion));
}
