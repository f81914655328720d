//! The fake `CloudWatch` as a process: its work is nobody's cost.

use std::io::Write as _;
use std::time::Duration;

use crate::fake::CloudWatch;

/// How long a call takes.
pub(crate) const LATENCY: Duration = Duration::from_millis(100);

/// What the process says when it listens, before its URL.
pub(crate) const LISTENING: &str = "listening ";

/// Serves until it is killed: every metric has a datapoint in every minute.
pub(crate) fn run() {
    let service = CloudWatch::start();
    service.generate_all(|_, bucket| Some(f64::from(i32::try_from(bucket / 60).unwrap_or(0))));
    service.delay(LATENCY);
    println!("{LISTENING}{}", service.url());
    std::io::stdout().flush().expect("somebody reads");
    loop {
        std::thread::park();
    }
}
