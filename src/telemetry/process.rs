//! The process as the kernel sees it: memory, CPU time, open files, start time.
//!
//! Names and meanings are those that Prometheus' own client libraries use, so that common
//! dashboards work. Read from `/proc` at each scrape; a figure that cannot be read (another kernel,
//! a hardened container) is left out rather than guessed.

use std::fmt::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`: the unit of CPU times and start times in `/proc`. It is part of the kernel's
/// user-space interface and 100 on every architecture that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the figures at each scrape.
#[derive(Debug)]
pub struct ProcessCollector {
    proc: PathBuf,
}

/// What could be read.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    resident_memory_bytes: Option<u64>,
    virtual_memory_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl ProcessCollector {
    /// A collector that reads `/proc`.
    #[must_use]
    pub fn from_proc() -> Self {
        Self { proc: PathBuf::from("/proc") }
    }

    fn read(&self) -> Figures {
        let own = self.proc.join("self");
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let stat = text(own.join("stat"));
        let status = text(own.join("status"));
        let boot = boot_time(&text(self.proc.join("stat")));
        Figures {
            cpu_seconds: cpu_seconds(&stat),
            start_time_seconds: start_ticks(&stat).zip(boot).map(|(t, b)| b + t / TICKS_PER_SECOND),
            resident_memory_bytes: status_number(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_memory_bytes: status_number(&status, "VmSize:").map(|kib| kib * 1024),
            threads: status_number(&status, "Threads:"),
            open_fds: open_fds(&own.join("fd")),
            max_fds: max_fds(&text(own.join("limits"))),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let figures = self.read();
        if let Some(seconds) = figures.cpu_seconds {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "User and system CPU time spent in seconds.",
                None,
                counter.metric_type(),
            )?)?;
        }
        if let Some(seconds) = figures.start_time_seconds {
            gauge(
                &mut encoder,
                "process_start_time_seconds",
                "Start time of the process since the Unix epoch in seconds.",
                &ConstGauge::new(seconds),
            )?;
        }
        let counts = [
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                figures.resident_memory_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                figures.virtual_memory_bytes,
            ),
            ("process_threads", "Number of threads.", figures.threads),
            ("process_open_fds", "Number of open file descriptors.", figures.open_fds),
            ("process_max_fds", "Maximum number of open file descriptors.", figures.max_fds),
        ];
        for (name, help, value) in counts {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeMetric,
) -> Result<(), Error> {
    value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
}

/// The fields of `/proc/self/stat` after the command name, which may contain spaces and brackets:
/// the first is field 3 of proc(5).
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Fields 14 (utime) and 15 (stime) of proc(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

/// Field 22 (starttime) of proc(5), in ticks since boot.
fn start_ticks(stat: &str) -> Option<f64> {
    stat_field(stat, 22)
}

/// When the machine booted, in seconds since the Unix epoch.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A number of `/proc/self/status`; sizes are in KiB there.
fn status_number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_fds(folder: &Path) -> Option<u64> {
    // Listing the folder opens one descriptor itself.
    let count = fs::read_dir(folder).ok()?.count().saturating_sub(1);
    u64::try_from(count).ok()
}

/// The soft limit; `unlimited` is left out.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("self/fd")).unwrap();
        for (path, text) in files {
            fs::write(dir.path().join(path), text).unwrap();
        }
        dir
    }

    #[test]
    fn reads_the_kernels_figures() {
        let dir = folder(&[
            (
                "self/stat",
                // The command name tries to look like the end of the field.
                "42 (tide) pole) S 1 42 42 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 6 0 3000 90000000 4000 1",
            ),
            (
                "self/status",
                "Name:\ttidepole\nVmSize:\t  87890 kB\nVmRSS:\t   16000 kB\nThreads:\t6\n",
            ),
            (
                "self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n",
            ),
            ("stat", "cpu 1 2 3\nbtime 1700000000\nprocesses 1\n"),
            ("self/fd/0", ""),
            ("self/fd/1", ""),
            ("self/fd/2", ""),
        ]);
        let figures = ProcessCollector { proc: dir.path().to_owned() }.read();
        assert_eq!(
            figures,
            Figures {
                cpu_seconds: Some(4.0),
                start_time_seconds: Some(1_700_000_030.0),
                resident_memory_bytes: Some(16_384_000),
                virtual_memory_bytes: Some(89_999_360),
                threads: Some(6),
                open_fds: Some(2),
                max_fds: Some(1024),
            }
        );
    }

    #[test]
    fn leaves_out_what_it_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let figures = ProcessCollector { proc: dir.path().to_owned() }.read();
        assert_eq!(figures, Figures::default());
        let dir =
            folder(&[("self/stat", "no brackets"), ("self/limits", "Max open files unlimited")]);
        let figures = ProcessCollector { proc: dir.path().to_owned() }.read();
        assert_eq!((figures.cpu_seconds, figures.max_fds), (None, None));
    }

    #[test]
    fn the_real_proc_has_every_figure() {
        let figures = ProcessCollector::from_proc().read();
        assert!(figures.resident_memory_bytes > Some(100_000), "{figures:?}");
        assert!(figures.start_time_seconds > Some(1_600_000_000.0), "{figures:?}");
        assert!(figures.cpu_seconds >= Some(0.0) && figures.open_fds > Some(0), "{figures:?}");
    }
}
