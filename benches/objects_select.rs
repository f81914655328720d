//! What it costs to know 50,000 pods: choosing among them, following their changes, and memory.
//!
//! `cargo bench --bench objects_select`. The targets: a selection of 50 pods takes less than a
//! millisecond in a namespace of 50,000, and less than 20 microseconds in one of 100.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidepole::model::{ObjectNames, Selector};
use tidepole::objects::{Changes, Found, Index, Pair, Words};

/// Pods in the large namespace.
const PODS: usize = 50_000;

/// Pods of one workload.
const REPLICAS: usize = 50;

/// Ten labels, as workloads have them: most are shared by many pods, two are a pod's own.
fn labels(words: &mut Words, number: usize) -> Box<[Pair]> {
    let workload = number / REPLICAS;
    let mut labels: Vec<Pair> = [
        ("app.kubernetes.io/instance", format!("web-{workload}")),
        ("app.kubernetes.io/managed-by", "Helm".to_owned()),
        ("app.kubernetes.io/name", format!("web-{}", workload % 100)),
        ("app.kubernetes.io/version", format!("1.{}", workload % 7)),
        ("env", "prod".to_owned()),
        ("pod-template-hash", format!("{:08x}", workload.wrapping_mul(2_654_435_761))),
        ("statefulset.kubernetes.io/pod-name", format!("web-{workload}-{}", number % REPLICAS)),
        ("team", format!("team-{}", workload % 20)),
        ("tier", ["front", "middle", "back"][workload % 3].to_owned()),
        ("uid", format!("{number:032x}")),
    ]
    .map(|(key, value)| (words.of(key), words.of(&value)))
    .into();
    labels.sort();
    labels.into()
}

fn name(number: usize) -> Arc<str> {
    format!("web-{}-{}", number / REPLICAS, number % REPLICAS).into()
}

fn pods(words: &mut Words, namespace: &str, count: usize) -> Vec<Found> {
    let namespace = words.of(namespace);
    (0..count)
        .map(|number| Found {
            namespace: Arc::clone(&namespace),
            name: name(number),
            labels: labels(words, number),
        })
        .collect()
}

fn select(c: &mut Criterion) {
    let before = resident();
    let mut words = Words::default();
    let mut all = pods(&mut words, "large", PODS);
    all.extend(pods(&mut words, "small", 100));
    let index = Index::of(all);
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("{} pods: {} KiB more resident", index.len(), after.saturating_sub(before));
    }

    let matching = |text: &str| ObjectNames::Matching(Selector::parse(text).expect("a selector"));
    let mut group = c.benchmark_group("select");
    for (what, namespace, selector, found) in [
        ("50 of 50,000", Some("large"), "app.kubernetes.io/instance=web-77", REPLICAS),
        (
            "50 of 50,000, two labels",
            Some("large"),
            "app.kubernetes.io/instance=web-77,env=prod",
            REPLICAS,
        ),
        ("50 of 50,000 in all namespaces", None, "app.kubernetes.io/instance=web-77", REPLICAS),
        ("without a label's value, 33,300 of 50,000", Some("large"), "tier!=front", 33_300),
        ("50 of 100", Some("small"), "app.kubernetes.io/instance=web-1", REPLICAS),
        ("all of 50,000", Some("large"), "", PODS),
    ] {
        let names = matching(selector);
        assert_eq!(index.names(namespace, &names).len(), found, "{what}");
        group.bench_function(what, |b| b.iter(|| index.names(namespace, black_box(&names))));
    }
    group.finish();

    let mut group = c.benchmark_group("follow");
    for count in [1, 100, 1000] {
        // Spread over the namespace.
        let changes: Changes = [(
            Arc::from("large"),
            (0..count)
                .map(|at| at * (PODS / count))
                .map(|number| (name(number), Some(labels(&mut words, number + 1))))
                .collect(),
        )]
        .into();
        group.bench_function(format!("{count} changes at once, of 50,000"), |b| {
            b.iter(|| index.with(black_box(&changes)));
        });
    }
    let own = labels(&mut words, 777);
    group.bench_function("a change of something else", |b| {
        b.iter(|| assert!(index.has("large", "web-15-27", black_box(Some(&own)))));
    });
    group.sample_size(10);
    group.bench_function("a listing of 50,000", |b| {
        b.iter_batched(|| pods(&mut words, "large", PODS), Index::of, BatchSize::PerIteration);
    });
    group.finish();
}

/// Resident memory of this process in KiB; none where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

criterion_group!(benches, select);
criterion_main!(benches);
