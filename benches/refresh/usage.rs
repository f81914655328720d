//! What this process has used so far.

use std::time::Duration;

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc");
    let spent = stat.split_whitespace().next().expect("schedstat starts with the time on a core");
    Duration::from_nanos(spent.parse().expect("nanoseconds"))
}

/// Processor time of all threads but the first.
pub(crate) fn other_threads_cpu() -> Duration {
    let own = std::process::id().to_string();
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc");
    let spent = threads.flatten().filter(|thread| thread.file_name() != *own).map(|thread| {
        // One that has ended since has spent nothing that matters.
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        stat.split_whitespace().next().and_then(|spent| spent.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(spent.sum())
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
