use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::model::{ReferenceKind, Selector, SystemClock};

/// Knows metrics that do not begin with `other`; counts claims as cells do.
#[derive(Default)]
struct Claims {
    held: Mutex<BTreeMap<String, (Tick, u32)>>,
    tried: Mutex<bool>,
    calls: Mutex<Vec<Instant>>,
}

impl Announce for Claims {
    fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced {
        let mut held = self.held.lock().unwrap();
        let entry = held.entry(reference.metric.to_string()).or_insert((claim.round, 0));
        if claim.hpas > 0 {
            self.calls.lock().unwrap().push(Instant::now());
            let before = if entry.0 == claim.round { entry.1 } else { 0 };
            *entry = (claim.round, before + claim.hpas);
        }
        match (&*reference.metric, *self.tried.lock().unwrap()) {
            (metric, _) if metric.starts_with("other") => Announced::Unknown,
            (_, true) => Announced::Tried,
            (_, false) => Announced::Waiting,
        }
    }

    fn release(&self, reference: &MetricReference, claim: Claim) {
        let mut held = self.held.lock().unwrap();
        let entry = held.get_mut(&*reference.metric).expect("only what was claimed is released");
        assert_eq!(entry.0, claim.round, "of the same round");
        entry.1 -= claim.hpas;
    }
}

struct House {
    claims: Arc<Claims>,
    book: Book,
    announcer: Announcer,
}

fn house() -> House {
    let claims = Arc::new(Claims::default());
    let announcer = Announcer::new(claims.clone(), Arc::new(SystemClock::new()));
    House { claims, book: Book::new(100_000), announcer }
}

fn reference(name: &str) -> MetricReference {
    MetricReference {
        namespace: "shop".into(),
        metric: name.into(),
        selector: Selector::default(),
        kind: ReferenceKind::External,
    }
}

impl House {
    fn put(&mut self, key: &str, names: &str) {
        let references = names.split_whitespace().map(reference).collect();
        let touched = self.book.put(key.into(), references);
        self.announcer.take(&mut self.book, touched);
    }

    /// Steps as the watch does, for so long.
    async fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.announcer.next() <= end {
            tokio::time::sleep_until(self.announcer.next()).await;
            self.announcer.step(&mut self.book);
        }
        tokio::time::sleep_until(end).await;
    }

    /// Claims above zero.
    fn held(&self) -> String {
        let held = self.claims.held.lock().unwrap();
        let held = held.iter().filter(|(_, (_, hpas))| *hpas > 0);
        held.map(|(name, (_, hpas))| format!("{name}:{hpas}")).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test(start_paused = true)]
async fn claims_follow_the_hpas() {
    let mut house = house();
    house.put("x", "a b");
    house.put("y", "b other");
    assert_eq!(house.held(), "", "queued");
    house.run(Duration::from_millis(50)).await;
    assert_eq!(house.held(), "a:1 b:2 other:1");
    assert_eq!((house.announcer.known(), house.announcer.untried()), (2, 2));
    house.put("z", "b c");
    house.put("x", "b");
    assert_eq!(house.held(), "b:2 other:1", "what is gone is gone at once");
    house.run(Duration::from_millis(50)).await;
    assert_eq!(house.held(), "b:3 c:1 other:1");
    assert_eq!((house.announcer.known(), house.announcer.untried()), (2, 2));
    *house.claims.tried.lock().unwrap() = true;
    house.run(Duration::from_millis(50)).await;
    assert_eq!(house.announcer.untried(), 0);
    // One that goes before it was announced was never claimed.
    house.put("w", "d");
    house.put("w", "");
    house.run(Duration::from_millis(50)).await;
    assert_eq!(house.held(), "b:3 c:1 other:1");
    for key in ["x", "y", "z"] {
        house.put(key, "");
    }
    assert_eq!((house.held().as_str(), house.announcer.known()), ("", 0));
    assert_eq!(house.book.references(), 0);
}

#[tokio::test(start_paused = true)]
async fn claims_are_renewed_every_minute_and_when_things_change() {
    let mut house = house();
    *house.claims.tried.lock().unwrap() = true;
    house.put("x", "a");
    let start = Instant::now();
    house.run(Duration::from_mins(2) + Duration::from_secs(10)).await;
    for _ in 0..10 {
        house.announcer.renew();
        house.run(Duration::from_millis(100)).await;
    }
    house.run(Duration::from_secs(58)).await;
    let calls = house.claims.calls.lock().unwrap();
    let seconds: Vec<_> = calls.iter().map(|at| at.duration_since(start).as_secs_f64()).collect();
    assert_eq!(seconds[..4], [0.0, 60.0, 120.0, 130.0], "{seconds:?}");
    // Ten wishes in a second are at most four rounds.
    assert!((2..=5).contains(&seconds[3..].len()), "{seconds:?}");
    assert_eq!(house.held(), "a:1");
}

#[tokio::test(start_paused = true)]
async fn thousands_begin_one_after_the_other() {
    let mut house = house();
    for i in 0..5000 {
        house.put(&format!("hpa-{i}"), &format!("m{i} other{i}"));
    }
    house.run(Duration::from_secs(1)).await;
    let begun = house.announcer.untried();
    assert!((1000..=1500).contains(&begun), "{begun} in a second");
    house.run(Duration::from_secs(6)).await;
    assert_eq!((house.announcer.untried(), house.announcer.is_done()), (5000, true));
    // What has been tried holds nothing up.
    *house.claims.tried.lock().unwrap() = true;
    house.announcer.renew();
    house.run(Duration::from_millis(100)).await;
    assert!(house.announcer.is_done() && house.announcer.untried() == 0);
    assert_eq!(house.announcer.known(), 5000);
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_its_first_fetch_starves_no_other() {
    let mut house = house();
    for i in 0..70_000 {
        house.put(&format!("hpa-{i}"), &format!("m{i}"));
    }
    // A round takes longer than a minute; it ends before the next begins.
    house.run(Duration::from_secs(75)).await;
    let held = house.claims.held.lock().unwrap();
    assert_eq!(held.values().filter(|(_, hpas)| *hpas == 1).count(), 70_000);
}
