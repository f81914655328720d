use serde_json::json;
use tokio::runtime::Handle;

use super::*;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

type Told = watcher::Result<Event<Object>>;

const KIND: DefinitionKind = DefinitionKind::ExternalMetric;

/// A watch that gets its events from the test, and lists again on the same channel.
struct House {
    events: mpsc::UnboundedSender<Told>,
    changes: mpsc::Receiver<Change>,
    /// Told whenever a new listing begins.
    listings: mpsc::UnboundedReceiver<Instant>,
    standing: Arc<Standing>,
    list_again: Arc<Notify>,
}

async fn house() -> House {
    let standing = Standing::new(&Telemetry::new());
    let (sender, changes) = mpsc::channel(100);
    let (events, mut received) = mpsc::unbounded_channel();
    let (begun, listings) = mpsc::unbounded_channel();
    let list_again = Arc::new(Notify::new());
    let mut watching = Watching::new(KIND, sender, Arc::clone(&standing), Arc::clone(&list_again));
    let watching = async move {
        loop {
            let _ = begun.send(Instant::now());
            let events = futures::stream::poll_fn(|context| received.poll_recv(context));
            if let Err(Over) = watching.follow(std::pin::pin!(events)).await {
                return;
            }
        }
    };
    let (tasks, _died) = TaskSet::new(Handle::current());
    tasks.job("watch", watching);
    let mut house = House { events, changes, listings, standing, list_again };
    house.listed().await;
    house
}

fn object(name: &str) -> Object {
    json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"}}).into()
}

fn refusal(code: u16) -> watcher::Error {
    let status = Status {
        status: None,
        message: format!("refused with {code}"),
        metadata: None,
        reason: String::new(),
        details: None,
        code,
    };
    watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
}

fn broken() -> watcher::Error {
    watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded)
}

impl House {
    fn tell(&self, told: Told) {
        assert!(self.events.send(told).is_ok(), "the watch listens");
    }

    /// Lists these, and waits until they have been taken in.
    async fn list(&mut self, names: &[&str]) {
        self.tell(Ok(Event::Init));
        for name in names {
            self.tell(Ok(Event::InitApply(object(name))));
        }
        self.tell(Ok(Event::InitDone));
        while !matches!(self.changes.recv().await, Some(Change::End(KIND))) {}
        while self.state() != KindState::Up {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the beginning of a listing; how long ago it was tells nothing.
    async fn listed(&mut self) -> Instant {
        self.listings.recv().await.unwrap()
    }

    fn state(&self) -> KindState {
        self.standing.kinds()[&KIND].clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_looked_for_and_harms_nobody() {
    let mut house = house().await;
    let begin = Instant::now();
    house.tell(Err(refusal(404)));
    let again = house.listed().await;
    assert!((5..=10).contains(&(again - begin).as_secs()), "{:?}", again - begin);
    assert_eq!(house.state(), KindState::Absent);
    for _ in 0..20 {
        house.tell(Err(refusal(404)));
        house.listed().await;
    }
    assert!(house.changes.try_recv().is_err(), "there is nothing that could be gone");
    house.tell(Ok(Event::Init));
    house.tell(Ok(Event::InitDone));
    while !matches!(house.changes.recv().await, Some(Change::End(_))) {}
    tokio::task::yield_now().await;
    assert_eq!(house.state(), KindState::Up);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_absent_for_a_moment_keeps_its_resources() {
    let mut house = house().await;
    house.list(&["a"]).await;
    // An API server that starts.
    for _ in 0..3 {
        house.tell(Err(refusal(404)));
        house.listed().await;
    }
    house.list(&["a"]).await;
    assert_eq!(house.state(), KindState::Up);
    // A kind that is removed.
    let removed = Instant::now();
    loop {
        house.tell(Err(refusal(404)));
        tokio::select! {
            _ = house.listings.recv() => {}
            change = house.changes.recv() => {
                assert!(matches!(change, Some(Change::Gone(KIND))), "{change:?}");
                break;
            }
        }
    }
    assert!((60..=75).contains(&removed.elapsed().as_secs()), "{:?}", removed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_the_permission_what_is_known_stays() {
    let mut house = house().await;
    house.list(&["a"]).await;
    let mut before = Instant::now();
    for round in 0..20 {
        house.tell(Err(refusal(403)));
        let now = house.listed().await;
        assert!((now - before).as_secs() <= 60, "{:?}", now - before);
        assert!(round < 10 || (now - before).as_secs() >= 29, "{:?}", now - before);
        before = now;
    }
    assert!(house.changes.try_recv().is_err());
    let KindState::Down(cause) = house.state() else { panic!("{:?}", house.state()) };
    assert_eq!(
        cause,
        "refused with 403; grant get, list and watch on externalmetrics.tidepole.dev to Tidepole \
         (see ClusterRole tidepole in the manifests)"
    );
    house.list(&["a"]).await;
    assert_eq!(house.state(), KindState::Up);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_looked_for_every_few_seconds() {
    let mut house = house().await;
    house.list(&["a"]).await;
    let mut before = Instant::now();
    for _ in 0..50 {
        house.tell(Err(refusal(503)));
        let now = house.listed().await;
        assert!((now - before).as_secs() <= 10, "{:?}", now - before);
        before = now;
    }
    assert!(house.changes.try_recv().is_err());
    assert_eq!(house.state(), KindState::Down("refused with 503".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_it_was_unless_it_breaks_off_there_again_and_again() {
    let mut house = house().await;
    house.list(&["a"]).await;
    for _ in 0..5 {
        house.tell(Err(broken()));
        house.tell(Ok(Event::Apply(object("a"))));
        assert!(matches!(house.changes.recv().await, Some(Change::Put(..))));
    }
    assert!(house.listings.try_recv().is_err());
    assert_eq!(house.state(), KindState::Up);
    for _ in 0..3 {
        house.tell(Err(broken()));
    }
    house.listed().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_begins_anew() {
    let mut house = house().await;
    let begin = Instant::now();
    house.tell(Ok(Event::Init));
    let again = house.listed().await;
    assert!((60..=62).contains(&(again - begin).as_secs()), "{:?}", again - begin);
    assert!(matches!(house.state(), KindState::Down(cause) if cause.contains("no answer within")));
    house.list(&[]).await;
    // A watch that stands is no listing.
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(house.listings.try_recv().is_err());
    house.list_again.notify_one();
    house.listed().await;
}
