use std::collections::HashMap;

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::sharing::{Cloud, Wall, of};
use super::*;
use crate::model::Beat;

/// Something that happens to a refresher.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Wait(u64),
    Refuse(usize),
    Heal(usize),
    Slow(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..40).prop_map(Step::Read),
        (1_u64..20_000).prop_map(Step::Wait),
        (0_usize..40).prop_map(Step::Refuse),
        (0_usize..40).prop_map(Step::Heal),
        (0_usize..3, 1_u64..5_000).prop_map(|(upstream, millis)| Step::Slow(upstream, millis)),
    ]
}

fn text(i: usize) -> String {
    format!("up{}/{}/m{i}", i % 3, i % 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The source asserts that batches do not mix and are not too long, and that no query is in
    /// flight twice: a broken promise is a panic there, and a call that is not answered here.
    #[test]
    fn promises_hold_and_everything_wanted_is_fetched(
        steps in proptest::collection::vec(step(), 1..120),
        width in 1_usize..4,
        limit in 1_usize..6,
        beat in any::<bool>(),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let clock = Wall::at("2026-11-21T12:00:07Z");
            let mut cloud = Cloud::new(clock.clone());
            (cloud.width, cloud.limit) = (width, limit);
            cloud.beat = beat.then_some(Beat { period: Duration::from_secs(10), delay: Duration::from_secs(3) });
            let cloud = Arc::new(cloud);
            let (tasks, _died) = TaskSet::new(Handle::current());
            let sources = BTreeMap::from([(SourceName::new("aws"), cloud.clone() as Arc<dyn Source>)]);
            let catalog = Arc::new(Catalog::new());
            let refresher = Refresher::start(sources, catalog, clock.clone(), &tasks, &Telemetry::new());
            let mut cells = HashMap::new();
            for step in steps {
                match step {
                    Step::Read(i) => {
                        let cell = cells.entry(i).or_insert_with(|| of(&text(i), Duration::from_secs(10)));
                        cell.touch(clock.tick());
                        cell.await_first(clock.tick());
                        if !cell.is_scheduled() {
                            assert_eq!(refresher.want(cell), Admission::Accepted);
                        }
                    }
                    Step::Wait(millis) => sleep(Duration::from_millis(millis)).await,
                    Step::Refuse(i) => {
                        let error = FetchError::Invalid("refused".into());
                        cloud.errors.lock().unwrap().insert(format!("m{i}"), error);
                    }
                    Step::Heal(i) => {
                        cloud.errors.lock().unwrap().remove(&format!("m{i}"));
                    }
                    Step::Slow(upstream, millis) => {
                        let takes = Duration::from_millis(millis);
                        cloud.takes.lock().unwrap().insert(format!("up{upstream}"), takes);
                    }
                }
            }
            // At most forty queries at five seconds each through one place: within four minutes.
            sleep(Duration::from_mins(4)).await;
            for cell in cells.values() {
                assert!(cell.fetches() > 0, "{:?} was never fetched", cell.query());
                assert!(cell.state().is_tried() || !cell.is_scheduled(), "lapsed or known");
                let broken = cell.state().trouble().is_some_and(|(cause, _)| cause.contains("defect"));
                assert!(!broken, "{:?}: a promise was broken", cell.query());
            }
            let carried: u64 = cells.values().map(|cell| cell.fetches()).sum();
            let calls = cloud.calls.lock().unwrap();
            assert_eq!(calls.iter().map(|call| call.names.len() as u64).sum::<u64>(), carried);
        });
    }
}
