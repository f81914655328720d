use super::*;

struct Nothing;

impl ResourceDirectory for Nothing {
    fn resolve(&self, _: &str, _: &str) -> Option<Arc<crate::model::Resource>> {
        None
    }

    fn generation(&self) -> u64 {
        0
    }
}

fn scales() -> Scales {
    let (tasks, _died) = TaskSet::new(tokio::runtime::Handle::current());
    Scales::start(None, Arc::new(Nothing), &tasks, &Telemetry::new())
}

fn deployment(name: &str) -> ObjectReference {
    ObjectReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() }
}

impl Scales {
    fn ask(&self, name: &str) -> TargetPods {
        self.pods_of(&"shop".into(), &deployment(name))
    }

    /// What is queued, by name; it is being asked for from now on.
    fn queued(&self) -> Vec<Arc<str>> {
        let queue = std::mem::take(&mut self.shared.table().queue);
        queue.iter().map(|target| Arc::clone(&target.object.name)).collect()
    }

    /// Takes in an answer; whether it is news.
    fn answer(&self, name: &str, answer: Result<&str, Failed>) -> bool {
        let target = Target { namespace: "shop".into(), object: deployment(name) };
        let answer = answer.map(|text| Selector::parse(text).unwrap());
        self.shared.take(&target, &answer, Instant::now())
    }
}

fn selected(text: &str) -> TargetPods {
    TargetPods::Selected(Selector::parse(text).unwrap())
}

fn away() -> Result<&'static str, Failed> {
    Err(Failed::Call("away".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_target_is_asked_for_once_and_then_every_few_minutes() {
    let scales = scales();
    assert_eq!(scales.ask("web"), TargetPods::Asking);
    assert_eq!(scales.ask("web"), TargetPods::Asking);
    assert_eq!(scales.queued(), ["web".into()]);
    assert!(scales.answer("web", Ok("tier=a,app=web")));
    assert_eq!(scales.ask("web"), selected("app=web,tier=a"), "in the order of the request");
    // While somebody asks every minute.
    for _ in 0..5 {
        scales.shared.look(Instant::now());
        tokio::time::advance(Duration::from_mins(1)).await;
        scales.ask("web");
    }
    scales.shared.look(Instant::now());
    assert_eq!(scales.queued(), ["web".into()]);
    assert!(!scales.answer("web", Ok("app=web,tier=a")), "no news");
    assert!(scales.answer("web", Ok("app=other")));
    assert_eq!(scales.ask("web"), selected("app=other"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_nobody_asks_about_is_forgotten() {
    let scales = scales();
    scales.ask("web");
    scales.queued();
    // Never while its answer is under way.
    tokio::time::advance(LAPSE * 2).await;
    scales.shared.look(Instant::now());
    assert_eq!(scales.shared.table().targets.len(), 1);
    scales.answer("web", Ok("app=web"));
    scales.shared.look(Instant::now());
    assert_eq!(scales.shared.table().targets.len(), 0);
    assert!(!scales.answer("web", Ok("app=web")), "an answer that nobody waits for");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_survives_failures_but_not_the_end_of_the_target() {
    let scales = scales();
    scales.ask("new");
    assert!(scales.answer("new", away()));
    assert_eq!(scales.ask("new"), TargetPods::Unknown);
    assert!(scales.answer("new", Ok("app=new")));
    assert!(!scales.answer("new", away()));
    assert!(!scales.answer("new", Err(Failed::Forbidden("no".to_owned()))));
    assert_eq!(scales.ask("new"), selected("app=new"));
    assert!(scales.answer("new", Err(Failed::NoScale("gone".to_owned()))));
    assert_eq!(scales.ask("new"), TargetPods::Unknown);
    // A failure of the API server is soon over.
    scales.answer("new", away());
    scales.queued();
    tokio::time::advance(RETRY).await;
    scales.shared.look(Instant::now());
    assert_eq!(scales.queued(), ["new".into()]);
}

#[tokio::test]
async fn the_table_has_a_bound() {
    let scales = scales();
    for number in 0..MAX_TARGETS {
        assert_eq!(scales.ask(&number.to_string()), TargetPods::Asking);
    }
    assert_eq!(scales.ask("one more"), TargetPods::Unknown);
    assert_eq!(scales.shared.table().targets.len(), MAX_TARGETS);
}
