//! How often a read from memory asks the allocator. Unlike time, this is exact and the same on
//! every machine, so it is checked: the program fails when a read allocates more than its bound.
//!
//! `cargo bench --bench read_allocations [-- THOUSANDS SCENARIO]`. For instructions per read, run
//! the program under `valgrind --tool=callgrind` twice, with one scenario (1, 2 or 3) and two
//! different numbers of reads, and divide the difference.

#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

#[expect(dead_code, reason = "parts of the read path are another benchmark's business")]
#[path = "read/house.rs"]
mod house;

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;

use house::House;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations that a read may make, by the order of [`house::scenarios`].
const BOUNDS: [f64; 3] = [12.0, 24.0, 225.0];

fn main() -> ExitCode {
    let mut numbers = std::env::args().filter_map(|a| a.parse::<usize>().ok());
    let (thousands, only) = (numbers.next().unwrap_or(10), numbers.next());
    let house = House::new();
    let mut code = ExitCode::SUCCESS;
    for (number, (name, requests)) in (1..).zip(house::scenarios()) {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let bound = BOUNDS[number - 1];
        let reads = thousands * 1000;
        let region = Region::new(ALLOCATOR);
        for request in requests.iter().cycle().take(reads) {
            black_box(house.read(request));
        }
        let change = region.change();
        let each = change.allocations as f64 / reads as f64;
        println!(
            "{name:<22} {each:>7.2} allocations, {:>5.2} reallocations, {:>8.0} bytes a read",
            change.reallocations as f64 / reads as f64,
            change.bytes_allocated as f64 / reads as f64,
        );
        if each > bound {
            println!("  more than {bound}");
            code = ExitCode::FAILURE;
        }
    }
    code
}
