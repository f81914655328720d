//! What this process has used so far.

use std::time::Duration;

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc");
    let spent = stat.split_whitespace().next().expect("schedstat starts with the time on a core");
    Duration::from_nanos(spent.parse().expect("nanoseconds"))
}

/// Resident memory in bytes: now, and at most so far.
pub(crate) fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let bytes = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a known field");
        let kib = line.split_whitespace().next().expect("a number");
        kib.parse::<u64>().expect("KiB") * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}
