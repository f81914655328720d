use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::*;
use crate::model::{
    GroupResource, Labels, ObjectsText, Resource, Selector, SimulatedQuery, SourceName, Tick,
    WriteText,
};

/// A source that writes down what it is asked.
#[derive(Default)]
struct Recorder {
    asked: Mutex<Vec<Arc<Query>>>,
}

impl Source for Recorder {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        self.asked.lock().unwrap().extend(queries.iter().cloned());
        let answers = queries.iter().map(|_| Ok(sample())).collect();
        futures::future::ready(answers).boxed()
    }

    fn concurrency(&self) -> usize {
        3
    }
}

fn sample() -> Sample {
    Sample {
        timestamp: Timestamp::UNIX_EPOCH,
        observed: Tick(1),
        series: vec![crate::model::Series {
            labels: Labels::new([("pod", "web-0")]),
            value: 7_i64.into(),
        }],
        without_number: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A directory whose answers are scripted: the last one stays.
struct Directory {
    answers: Mutex<Vec<Objects>>,
    /// Whether the first listing ever ends.
    ends: bool,
    waits: AtomicUsize,
}

impl ObjectDirectory for Directory {
    fn names(&self, set: &ObjectSet) -> Objects {
        if let ObjectNames::One(name) = &set.names {
            return Objects::Known(Arc::from([Arc::clone(name)]));
        }
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    fn listed(&self, _resource: &Arc<Resource>) -> BoxFuture<'static, ()> {
        self.waits.fetch_add(1, Ordering::SeqCst);
        if self.ends {
            futures::future::ready(()).boxed()
        } else {
            futures::future::pending().boxed()
        }
    }
}

#[derive(Debug)]
struct Text;

impl WriteText for Text {
    fn identity(&self) -> &'static str {
        "text"
    }

    fn write(&self, names: Option<&[Arc<str>]>) -> Result<String, FetchError> {
        match names {
            None => Ok("all".to_owned()),
            Some([name]) if **name == *"broken" => Err(FetchError::Invalid("a template".into())),
            Some(names) => Ok(names.join("|")),
        }
    }

    fn is_divisible(&self) -> bool {
        true
    }

    fn object_label(&self) -> &'static str {
        "pod"
    }
}

fn query(names: ObjectNames) -> Arc<Query> {
    let id = GroupResource { group: "".into(), resource: "pods".into() };
    let resource = Arc::new(Resource {
        id,
        version: "v1".into(),
        kind: "Pod".into(),
        singular: "pod".into(),
        namespaced: true,
    });
    let objects = ObjectSet { resource, namespace: Some("shop".into()), names };
    let text = ObjectsText(Arc::new(Text));
    spec(QuerySpec::Objects(ObjectsQuery { objects, text }))
}

fn spec(spec: QuerySpec) -> Arc<Query> {
    Arc::new(Query { source: SourceName::new("main"), spec })
}

fn matching() -> ObjectNames {
    ObjectNames::Matching(Selector::parse("app=web").unwrap())
}

fn known(names: &[&str]) -> Objects {
    Objects::Known(names.iter().map(|name| Arc::from(*name)).collect())
}

struct Setup {
    source: AskingSource,
    recorder: Arc<Recorder>,
    directory: Arc<Directory>,
}

fn setup(answers: Vec<Objects>, ends: bool) -> Setup {
    let recorder = Arc::new(Recorder::default());
    let directory =
        Arc::new(Directory { answers: Mutex::new(answers), ends, waits: AtomicUsize::new(0) });
    let source = AskingSource::new(Arc::clone(&recorder) as _, Arc::clone(&directory) as _);
    Setup { source, recorder, directory }
}

impl Setup {
    async fn fetch(&self, names: ObjectNames) -> Result<Sample, FetchError> {
        self.source.fetch(&[query(names)]).await.remove(0)
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.recorder.asked.lock().unwrap();
        asked
            .iter()
            .map(|query| match &query.spec {
                QuerySpec::Prometheus(asked) => {
                    assert_eq!((asked.shape, asked.lookback_delta), (AnswerShape::Vector, None));
                    asked.query.to_string()
                }
                other => other.to_string(),
            })
            .collect()
    }
}

#[tokio::test]
async fn the_text_has_the_names_of_the_moment() {
    let setup = setup(vec![known(&["web-0"]), known(&["web-0", "web-1"])], true);
    setup.fetch(matching()).await.unwrap();
    setup.fetch(matching()).await.unwrap();
    setup.fetch(ObjectNames::One("other".into())).await.unwrap();
    setup.fetch(ObjectNames::All).await.unwrap();
    assert_eq!(setup.asked(), ["web-0", "web-0|web-1", "other", "all"]);
    let explained = setup.source.explain(&query(ObjectNames::All)).await;
    assert_eq!(explained.outcome, Ok(sample()));
    assert_eq!(setup.source.concurrency(), 3);
}

#[tokio::test]
async fn what_cannot_be_asked_keeps_its_place() {
    let setup = setup(vec![known(&[])], true);
    let constant = spec(QuerySpec::Simulated(SimulatedQuery::Constant(5_i64.into())));
    let queries = [
        query(matching()),
        Arc::clone(&constant),
        query(ObjectNames::One("broken".into())),
        query(ObjectNames::All),
    ];
    let answers = setup.source.fetch(&queries).await;
    let nothing = FetchError::NoData("no pods match \"app=web\" in namespace shop".into());
    let broken = FetchError::Invalid("a template".into()).unasked();
    let expected = [Err(nothing.unasked()), Ok(sample()), Err(broken), Ok(sample())];
    assert_eq!(answers, expected);
    assert_eq!(setup.asked(), [&constant.spec.to_string(), "all"]);
}

#[tokio::test]
async fn objects_that_cannot_be_listed_are_said_to_be_so() {
    let setup = setup(vec![Objects::Unavailable("pods cannot be listed: no".into())], true);
    let error = setup.fetch(matching()).await.unwrap_err();
    assert_eq!(error, FetchError::Denied("pods cannot be listed: no".into()).unasked());
    assert!(setup.asked().is_empty());
    assert!(setup.source.preview(&query(matching())).await.is_none());
    let explained = setup.source.explain(&query(matching())).await;
    assert_eq!(explained.outcome, Err(error));
}

#[tokio::test(start_paused = true)]
async fn a_first_listing_is_waited_for_not_for_ever() {
    let quick = setup(vec![Objects::Listing, known(&["web-0"])], true);
    quick.fetch(matching()).await.unwrap();
    assert_eq!(quick.directory.waits.load(Ordering::SeqCst), 1);
    let slow = setup(vec![Objects::Listing], false);
    let begin = tokio::time::Instant::now();
    let error = slow.fetch(matching()).await.unwrap_err();
    assert!(error.to_string().starts_with("pods are being listed"), "{error}");
    assert!(error.is_unasked());
    assert_eq!(begin.elapsed(), LISTING_PATIENCE);
}
