//! What one changed metric resource costs, among many: reading it, and building the catalog and the
//! board anew.
//!
//! `cargo bench --bench catalog_apply [-- DEFINITIONS...]` (5,000 and 50,000 unless told). The cost
//! grows with the number of definitions, because a snapshot is built whole so that readers never
//! lock; what counts is that it is small beside the half second in which a change is to be in use,
//! and that the watch rests for twice as long between two of them
//! (`control::resource_watch::pace`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tidepole::catalog::Catalog;
use tidepole::control::declared::{Board, Declared, Resources, Verdict};
use tidepole::definition::resource::{Resource, read};
use tidepole::definition::{Author, Context, Defaults};
use tidepole::model::{DefinitionId, DefinitionKind, Entry};

/// Changes that are timed; their median counts.
const CHANGES: usize = 25;

/// Resources of one namespace.
const PER_NAMESPACE: usize = 100;

/// The most that a change may cost at 5,000 definitions: a fifth of the half second in which it is
/// to be in use, on a slow machine.
const BOUND: Duration = Duration::from_millis(100);

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![5_000, 50_000] } else { sizes };
    for size in sizes {
        run(size);
    }
}

fn run(size: usize) {
    let begin = Instant::now();
    let mut entries: Vec<Arc<Entry>> = (0..size).map(|number| entry(number, 0)).collect();
    println!(
        "{size} definitions: read in {:?}, each in {:?}",
        begin.elapsed(),
        begin.elapsed() / u32::try_from(size).expect("not that many")
    );
    let catalog = Catalog::new();
    let begin = Instant::now();
    catalog.apply_resources(entries.clone(), Vec::new());
    println!("{size} definitions: first snapshot in {:?}", begin.elapsed());
    let board = Board::new();
    let declared: Vec<Arc<Declared>> = entries.iter().map(|entry| declared(entry)).collect();

    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for change in 1..=CHANGES {
        let begin = Instant::now();
        let place = change * size / (CHANGES + 1);
        entries[place] = entry(place, change);
        all[0].push(begin.elapsed());
        let begin = Instant::now();
        catalog.apply_resources(entries.iter().map(Arc::clone), Vec::new());
        all[1].push(begin.elapsed());
        let begin = Instant::now();
        let resources: Resources =
            declared.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
        board.put(resources);
        all[2].push(begin.elapsed());
    }
    let [reading, snapshot, telling] = all.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!(
        "{size} definitions, one changed: read {reading:?}, snapshot {snapshot:?}, board {telling:?}"
    );
    assert_eq!(catalog.snapshot().served().count(), size);
    let all = reading + snapshot + telling;
    assert!(cfg!(debug_assertions) || size > 5_000 || all < BOUND, "a change takes {all:?}");
}

/// The definition of a resource that was changed so many times.
fn entry(number: usize, changes: usize) -> Arc<Entry> {
    let id = DefinitionId {
        kind: DefinitionKind::ExternalMetric,
        namespace: Some(format!("team-{}", number / PER_NAMESPACE).into()),
        name: format!("queue-{number}").into(),
    };
    let spec = json!({
        "labels": {"queue": format!("jobs-{number}")},
        "prometheus": {"query": format!("sum(queue_depth{{queue=\"jobs-{number}\"}}) + {changes}")},
    });
    let no_files = |_: &std::path::Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
    let context = Context {
        sources: None,
        defaults: &Defaults::default(),
        cluster: true,
        author: Author::Tenant,
        read_file: &no_files,
    };
    let annotations = BTreeMap::new();
    let resource =
        Resource { id: &id, created: made(number), annotations: &annotations, spec: &spec };
    Arc::new(read(&resource, &context).outcome.expect("it is right"))
}

fn declared(entry: &Entry) -> Arc<Declared> {
    Arc::new(Declared {
        id: entry.id.clone(),
        uid: "u".into(),
        generation: 1,
        created: Timestamp::UNIX_EPOCH,
        verdict: Verdict::Accepted,
        status: None,
    })
}

fn made(number: usize) -> Timestamp {
    let second = i64::try_from(number).expect("not that many");
    Timestamp::from_second(second).expect("of this century")
}
