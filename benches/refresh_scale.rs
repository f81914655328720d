//! What keeping many metrics fresh costs: processor time per minute, memory per query, and how soon
//! after a minute its values are in place.
//!
//! `cargo bench --bench refresh_scale [-- QUERIES...]` (10,000 and 100,000 unless told), about ten
//! minutes. `TIDEPOLE_BENCH_PART=schedule` and `schedule-alone` run one part for one size, without
//! the ten minutes. Needs no network beyond loopback. Each part runs in a process of its own, which is
//! this program again, so that what it uses is its own.
//!
//! The schedule alone: queries that are asked once a minute against a source in process that answers
//! at once, on a clock that jumps from one thing to do to the next: an hour takes as long as its work.
//! Once as `CloudWatch`'s, 500 of which share a call, and once as Prometheus', a call each.
//!
//! With the AWS source: the same queries against the fake `CloudWatch` of the tests, in real time and
//! with a real service's latency. The fake is a process of its own.

#[path = "refresh/aws.rs"]
mod aws;
#[path = "refresh/cloudwatch.rs"]
mod cloudwatch;
#[path = "../tests/support/upstream.rs"]
mod fake;
#[expect(dead_code, reason = "this benchmark's children measure themselves")]
#[path = "load/process.rs"]
mod process;
#[path = "refresh/schedule.rs"]
mod schedule;
#[path = "refresh/upstream.rs"]
mod upstream;
#[path = "refresh/usage.rs"]
mod usage;

use std::process::Command;

/// Says which part a child is.
const PART: &str = "TIDEPOLE_BENCH_PART";

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    match std::env::var(PART).as_deref() {
        Ok("schedule") => schedule::run(sizes[0], true),
        Ok("schedule-alone") => schedule::run(sizes[0], false),
        Ok("upstream") => upstream::run(),
        Ok("aws") => aws::run(sizes[0]),
        Ok(other) => panic!("{PART}={other} is no part of this benchmark"),
        Err(_) => {
            for size in &sizes {
                run_part("schedule", *size, &[]);
                run_part("schedule-alone", *size, &[]);
            }
            for size in &sizes {
                let (_fake, environment) = aws::start_upstream();
                run_part("aws", *size, &environment);
            }
        }
    }
}

/// This program, as a part.
fn part(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.env(PART, part);
    command
}

/// Runs a part in a process of its own, with its output among ours.
fn run_part(name: &str, size: usize, environment: &[(&str, String)]) {
    let status = part(name)
        .arg(size.to_string())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .status()
        .expect("this program starts once more");
    assert!(status.success(), "{name} of {size}: {status}");
}
