use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::model::{Cause, FetchError, GroupResource, ManualClock, Resource, SeriesShape};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// Answers series queries from a table; what is not there fails.
#[derive(Default)]
struct Prometheus {
    answers: Mutex<BTreeMap<String, Vec<&'static str>>>,
    asked: Mutex<Vec<String>>,
}

impl SeriesLister for Prometheus {
    fn series<'a>(
        &'a self,
        selector: &'a str,
        _start: jiff::Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SeriesShape>, FetchError>> {
        self.asked.lock().unwrap().push(selector.to_owned());
        let shape = |name: &&str| SeriesShape {
            name: (*name).into(),
            labels: ["namespace".into(), "pod".into()].into(),
        };
        let answer = match self.answers.lock().unwrap().get(selector) {
            Some(names) => Ok(names.iter().map(shape).collect()),
            None => Err(FetchError::Unavailable(Cause::new("down"))),
        };
        async { answer }.boxed()
    }
}

#[test]
fn of_one_source_few_are_listed_at_once_and_who_waited_longest_goes_first() {
    let (house, mut watch) = House::new();
    let rules: Vec<String> = (0..5)
        .map(|i| format!("- {{seriesQuery: 'q{i}', resources: {{template: '<<.Resource>>'}}, metricsQuery: '<<.Series>>'}}\n"))
        .collect();
    std::fs::write(house.folder.path().join("rules.yaml"), format!("rules:\n{}", rules.concat()))
        .unwrap();
    watch.load().unwrap();
    let listings = &mut watch.listings;
    let start = |listings: &mut Listings| -> Vec<listings::Key> {
        listings.due(house.clock.tick(), |_| 2).into_iter().map(|due| due.key).collect()
    };
    let first = start(listings);
    assert_eq!(first.iter().map(|key| &*key.series_query).collect::<Vec<_>>(), ["q0", "q1"]);
    assert!(start(listings).is_empty(), "two are under way");
    let mut order = Vec::new();
    let mut running = first;
    while order.len() < 8 {
        let key = running.remove(0);
        // It is due again at once, as far as time goes, and goes behind those that wait.
        listings.take(&key, Err(FetchError::Unavailable(Cause::new("down"))), house.clock.tick());
        house.clock.advance(Duration::from_hours(1));
        order.push(key.series_query.to_string());
        running.extend(start(listings));
        assert_eq!(running.len(), 2);
    }
    assert_eq!(order[..5], ["q0", "q1", "q2", "q3", "q4"]);
    // Rules that go while they are listed keep their place until they end.
    listings.want(std::iter::empty(), house.clock.tick());
    watch.adopt();
    let listings = &mut watch.listings;
    assert!(start(listings).is_empty());
    for key in running {
        listings.take(&key, Err(FetchError::Unavailable(Cause::new("down"))), house.clock.tick());
    }
    assert_eq!(start(listings).len(), 2);
}

struct Pods;

impl ResourceDirectory for Pods {
    fn resolve(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        let (plural, kind, namespaced) = match resource {
            "pod" | "pods" => ("pods", "Pod", true),
            "namespace" | "namespaces" => ("namespaces", "Namespace", false),
            _ => return None,
        };
        group.is_empty().then(|| {
            Arc::new(Resource {
                id: GroupResource { group: "".into(), resource: plural.into() },
                version: "v1".into(),
                kind: kind.into(),
                singular: kind.to_lowercase().into(),
                namespaced,
            })
        })
    }

    fn generation(&self) -> u64 {
        1
    }
}

struct House {
    folder: tempfile::TempDir,
    prometheus: Arc<Prometheus>,
    rules: Arc<Rules>,
    standing: Arc<Standing>,
    clock: Arc<ManualClock>,
    shutdown: CancellationToken,
}

const TWO_RULES: &str = "rules:
- {seriesQuery: one, resources: {template: '<<.Resource>>'}, metricsQuery: 'sum(<<.Series>>) by (<<.GroupBy>>)'}
- {seriesQuery: two, resources: {template: '<<.Resource>>'}, metricsQuery: 'sum(<<.Series>>) by (<<.GroupBy>>)'}
externalRules:
- {seriesQuery: one, resources: {template: '<<.Resource>>'}, metricsQuery: '<<.Series>>'}
";

impl House {
    fn new() -> (Self, RuleWatch) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, TWO_RULES).unwrap();
        let source = SourceName::new("main");
        let settings = RuleFileSettings {
            path,
            source: source.clone(),
            relist_interval: Duration::from_mins(10),
            series_max_age: Duration::from_mins(10),
            refresh: Duration::from_secs(15),
            sample_max_age: Duration::from_mins(2),
            first_read_timeout: Duration::from_secs(2),
        };
        let house = Self {
            folder,
            prometheus: Arc::default(),
            rules: Arc::default(),
            standing: Standing::new(&Telemetry::new()),
            clock: Arc::default(),
            shutdown: CancellationToken::new(),
        };
        let parts = Parts {
            listers: BTreeMap::from([(source, Arc::clone(&house.prometheus) as _)]),
            resources: Arc::new(Pods),
            catalog: Arc::default(),
            rules: Arc::clone(&house.rules),
            standing: Arc::clone(&house.standing),
            clock: Arc::clone(&house.clock) as _,
        };
        (house, RuleWatch::new(vec![settings], parts))
    }

    fn has(&self, query: &str, names: &[&'static str]) {
        self.prometheus.answers.lock().unwrap().insert(query.to_owned(), names.to_vec());
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("rules.yaml"), text).unwrap();
    }

    /// Lets both clocks go on.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(250);
        let mut left = time;
        while !left.is_zero() {
            let now = step.min(left);
            self.clock.advance(now);
            tokio::time::advance(now).await;
            // Files are read and the registry is made on other threads.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            left -= now;
        }
    }

    /// Waits until the metrics are these: work on other threads takes real time.
    async fn shows(&self, custom: &[&str]) {
        let names = || -> Vec<String> {
            let registry = self.rules.registry();
            let pods = registry.custom_names().iter().filter(|n| &*n.resource.resource == "pods");
            pods.map(|name| name.metric.to_string()).collect()
        };
        for _ in 0..200 {
            if names() == custom {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
            self.pass(Duration::from_millis(250)).await;
        }
        panic!("{:?} instead of {custom:?}", names());
    }
}

#[tokio::test(start_paused = true)]
async fn one_failing_rule_keeps_the_others_and_returns_by_itself() {
    let (house, mut watch) = House::new();
    house.has("one", &["requests", "errors"]);
    watch.load().unwrap();
    assert!(house.standing.pending().is_some());
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    tasks.service("rules", watch.run(house.shutdown.clone()));
    house.shows(&["errors", "requests"]).await;
    assert_eq!(house.standing.pending(), None, "a failure was tried, too");
    assert_eq!(house.standing.failing()[0].0, "two");
    house.has("two", &["depth"]);
    house.shows(&["depth", "errors", "requests"]).await;
    let asked = house.prometheus.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|query| *query == "one").count(), 1, "two rules, one question");
    // An outage keeps what was found.
    house.prometheus.answers.lock().unwrap().clear();
    house.pass(Duration::from_mins(12)).await;
    house.shows(&["depth", "errors", "requests"]).await;
    assert_eq!(house.standing.failing().len(), 2);
    house.shutdown.cancel();
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_edit_leaves_the_last_good_file_in_force() {
    let (house, mut watch) = House::new();
    house.has("one", &["requests"]);
    house.has("two", &["depth"]);
    watch.load().unwrap();
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    tasks.service("rules", watch.run(house.shutdown.clone()));
    house.shows(&["depth", "requests"]).await;
    house.write("rules: [{seriesQuery: one, metricsQuery: '<<'}]\n");
    for _ in 0..200 {
        if !house.standing.file_problems().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        house.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(house.standing.file_problems().len(), 1);
    house.shows(&["depth", "requests"]).await;
    house.write(&TWO_RULES.replace("seriesQuery: two", "seriesQuery: three"));
    house.has("three", &["lag"]);
    house.shows(&["lag", "requests"]).await;
    assert!(house.standing.file_problems().is_empty());
    house.shutdown.cancel();
    tasks.stop().await;
}

#[test]
fn a_start_with_a_wrong_file_tells_everything() {
    let (house, mut watch) = House::new();
    house.write("rulez: []\nrules: [{seriesQuery: one, metricsQuery: '<<'}]\n");
    let problems = watch.load().unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}
