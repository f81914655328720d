//! Faults and sources: what readers get while an upstream misbehaves, how often it is called, and how
//! soon values are true again. Real server, real sockets, and time that the test moves.

mod cell;
mod table;
mod time;
mod upstream;

use std::any::Any;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::process::AWS;
use table::Cell;

/// How long all of it may take on a busy machine: a cell whose time stands still would never end.
const LIMIT: Duration = Duration::from_mins(10);

/// Cells that run at one time. Mostly they compute.
const AT_ONCE: usize = 6;

/// The test's own name, to run it again.
const NAME: &str = "chaos::every_fault_and_source_keeps_its_promise";

#[test]
fn the_documentation_quotes_the_table() {
    let text = include_str!("../../ARCHITECTURE.md");
    let table = table::markdown();
    assert!(text.contains(&table), "ARCHITECTURE.md has another table; this is true:\n{table}");
}

#[test]
fn every_fault_and_source_keeps_its_promise() {
    // Credentials come from the environment, as an operator gives them; a process may not change its
    // own while it has threads.
    if AWS.iter().any(|(name, value)| std::env::var(name).as_deref() != Ok(value)) {
        let mut again = Command::new(std::env::current_exe().expect("this test is a file"));
        again.args([NAME, "--exact", "--nocapture"]).envs(AWS);
        run(&mut again);
        return;
    }
    // `CHAOS=Throttled/Sqs` runs a part.
    let wanted = std::env::var("CHAOS").unwrap_or_default();
    let all = Cell::all();
    let chosen =
        all.into_iter().filter(|c| format!("{:?}/{:?}", c.fault, c.kind).contains(&wanted));
    let mut chosen: Vec<Cell> = chosen.collect();
    // The long ones first.
    chosen.sort_by_key(|cell| Reverse((cell.metrics(), cell.lasts())));
    let cells: Mutex<VecDeque<Cell>> = Mutex::new(chosen.into());
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = cells.lock().expect("no holder panics").pop_front();
                    let Some(cell) = next else { return };
                    let begin = Instant::now();
                    let ran = catch_unwind(AssertUnwindSafe(|| cell::run(cell)));
                    let ran = (cell, ran.map_err(|panic| words(&*panic)), begin.elapsed());
                    seen.lock().expect("no holder panics").push(ran);
                }
            });
        }
    });
    let mut broken = Vec::new();
    for (cell, ran, took) in seen.into_inner().expect("no holder panics") {
        let name = format!("{:?} {:?}", cell.kind, cell.fault);
        match ran {
            Ok(seen) => println!(
                "{name}: {} of at most {} calls, {} arrived; back after {:?} of at most {:?} ({took:.1?})",
                seen.calls,
                cell.most_calls(),
                seen.arrived,
                seen.back,
                cell.back_within()
            ),
            Err(why) => broken.push(format!("{name} ({took:.1?}): {why}")),
        }
    }
    println!("\n{}", table::markdown());
    assert!(broken.is_empty(), "broken promises:\n{}", broken.join("\n"));
}

/// Runs a process to its end, which must be a good one.
fn run(command: &mut Command) {
    let mut child = command.spawn().expect("this test can be run");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if begin.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("not done within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "see above");
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
