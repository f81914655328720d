//! What a read from memory costs, without sockets, TLS and hyper: as a whole and in parts.
//!
//! `cargo bench --bench read_path`. The target is 2 microseconds for a whole read of one series.
//! `cargo bench --bench read_allocations` counts what does not depend on the machine's mood.

#[path = "read/house.rs"]
mod house;
#[path = "read/objects.rs"]
mod objects;
#[path = "read/rules.rs"]
mod rules;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::future::Either;
use house::House;
use tidepole::model::{MetricsProvider, Reading, Selector};

fn whole_reads(c: &mut Criterion) {
    let house = House::new();
    let mut group = c.benchmark_group("read");
    for (name, requests) in house::scenarios() {
        let mut next = requests.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| house.read(next.next().expect("a cycle has no end")));
        });
    }
}

fn parts_of_a_read(c: &mut Criterion) {
    let house = House::new();
    let mut group = c.benchmark_group("part");
    for (name, selector) in [("", None), (", selector", Some("queue%3Djobs%2Ctier%21%3Dtest"))] {
        let parts = house::request("metric_00042", selector);
        group.bench_function(format!("route{name}"), |b| {
            b.iter(|| house.api.route(black_box(&parts.method), black_box(&parts.uri)));
        });
        let route = house.api.route(&parts.method, &parts.uri);
        group.bench_function(format!("attributes{name}"), |b| {
            b.iter(|| black_box(&route).attributes());
        });
    }

    for (name, metric, selector) in [
        ("lookup, one series", "metric_00042", "queue=jobs,tier!=test"),
        ("lookup, 100 series", "wide", ""),
    ] {
        let selector = Selector::parse(selector).expect("a selector");
        group.bench_function(name, |b| {
            b.iter(|| match house.lookup.external("default", black_box(metric), &selector) {
                Reading::Ready(reading) => reading.expect("a value is in memory"),
                Reading::Wait(_) => panic!("a read from memory does not wait"),
            });
        });
    }

    // Lookup and rendering: what follows once the route is known.
    for (name, metric) in [("answer, one series", "metric_00042"), ("answer, 100 series", "wide")] {
        let parts = house::request(metric, None);
        let route = house.api.route(&parts.method, &parts.uri);
        group.bench_function(name, |b| {
            b.iter_batched(
                || route.clone(),
                |route| match house.api.answer(route, &parts) {
                    Either::Left(response) => response,
                    Either::Right(_) => panic!("a read from memory does not wait"),
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

fn reads_of_objects(c: &mut Criterion) {
    let api = objects::api();
    let mut group = c.benchmark_group("custom");
    let reads = objects::PODS.map(|pods| (format!("{pods} pods"), objects::request(pods)));
    for (name, parts) in reads.into_iter().chain([("list of 10,000".into(), objects::list())]) {
        group.bench_function(name, |b| b.iter(|| objects::answer(&api, black_box(&parts))));
    }
    // The same with the lookup of rules, pods and values.
    let api = rules::api();
    for pods in objects::PODS {
        let parts = rules::request(pods);
        group.bench_function(format!("{pods} pods by a rule"), |b| {
            b.iter(|| objects::answer(&api, black_box(&parts)));
        });
    }
}

criterion_group!(benches, whole_reads, parts_of_a_read, reads_of_objects);
criterion_main!(benches);
