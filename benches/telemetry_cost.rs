//! What telemetry costs a read from memory: reads that are counted and timed against reads that are
//! not, in turns, so that a busy machine is as busy for both; and the spans of traces that are off.
//!
//! `cargo bench --bench telemetry_cost [-- ROUNDS]`. Fails when telemetry costs more than a tenth of a
//! read, or a span that is off more than a microsecond. A debug build (`cargo test --bench
//! telemetry_cost`) only shows that it runs.

#[expect(dead_code, reason = "parts of the read path are another benchmark's business")]
#[path = "read/house.rs"]
mod house;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use house::House;
use http::request::Parts;
use tidepole::api::Settings;
use tidepole::telemetry::traces::{self, Span};

/// Reads in one turn of one house.
const READS: u32 = 2000;

/// Turns, unless the command line says otherwise.
const ROUNDS: usize = 300;

/// What telemetry may cost, as a share of a read.
const BOUND: f64 = 0.10;

/// What the spans of a read may cost while traces are off.
const SPAN_BOUND: Duration = Duration::from_micros(1);

fn turn(house: &House, requests: &[Parts]) -> Duration {
    let started = Instant::now();
    for request in requests.iter().cycle().take(READS as usize) {
        black_box(house.read(black_box(request)));
    }
    started.elapsed() / READS
}

/// The spans that a read meets: its own, and the look before it.
fn spans() -> Duration {
    let started = Instant::now();
    for _ in 0..READS {
        let mut span = Span::default();
        if black_box(traces::are_on()) {
            span = Span::read("/apis/x", "id", None, None);
        }
        black_box(span).answered(200, None);
    }
    started.elapsed() / READS
}

fn middle(mut turns: Vec<Duration>) -> Duration {
    turns.sort_unstable();
    turns[turns.len() / 2]
}

fn main() -> ExitCode {
    let rounds = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(ROUNDS);
    let rounds = if cfg!(debug_assertions) { 3 } else { rounds.max(3) };
    let counted = House::new();
    let bare = House::with(&Settings { count_reads: false, ..Settings::default() });
    let mut code = ExitCode::SUCCESS;
    for (name, requests) in house::scenarios() {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let pair = (turn(&counted, &requests), turn(&bare, &requests));
            // The first warms up.
            if round > 0 {
                with.push(pair.0);
                without.push(pair.1);
            }
        }
        let (with, without) = (middle(with), middle(without));
        let share = with.as_secs_f64() / without.as_secs_f64() - 1.0;
        println!(
            "{name:<22} {with:>9.1?} a read, {without:>9.1?} without telemetry: {:+.1} %",
            share * 100.0
        );
        if share > BOUND && !cfg!(debug_assertions) {
            println!("  more than {:.0} %", BOUND * 100.0);
            code = ExitCode::FAILURE;
        }
    }
    let each = middle((0..rounds).map(|_| spans()).collect());
    println!("spans while traces are off: {each:.1?} a read");
    if each > SPAN_BOUND {
        println!("  more than {SPAN_BOUND:?}");
        code = ExitCode::FAILURE;
    }
    code
}
