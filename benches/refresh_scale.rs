//! What keeping many metrics fresh costs: processor time per minute, memory per query.
//!
//! `cargo bench --bench refresh_scale [-- QUERIES...]` (10,000 and 100,000 unless told). Needs no
//! network beyond loopback. Each part runs in a process of its own, which is this program again, so
//! that what it uses is its own.
//!
//! The schedule alone: single-metric queries with a period of a minute against a source in process
//! that answers at once, on a clock that jumps from one thing to do to the next: an hour takes as
//! long as its work.

#[path = "refresh/cloudwatch.rs"]
mod cloudwatch;
#[path = "refresh/schedule.rs"]
mod schedule;
#[path = "refresh/usage.rs"]
mod usage;

use std::process::Command;

/// Says which part a child is.
const PART: &str = "TIDEPOLE_BENCH_PART";

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    match std::env::var(PART).as_deref() {
        Ok("schedule") => schedule::run(sizes[0]),
        Ok(other) => panic!("{PART}={other} is no part of this benchmark"),
        Err(_) => {
            for size in sizes {
                run_part("schedule", size);
            }
        }
    }
}

/// Runs a part in a process of its own, with its output among ours.
fn run_part(part: &str, size: usize) {
    let program = std::env::current_exe().expect("a running program has a path");
    let status = Command::new(program)
        .arg(size.to_string())
        .env(PART, part)
        .status()
        .expect("this program starts once more");
    assert!(status.success(), "{part} of {size}: {status}");
}
