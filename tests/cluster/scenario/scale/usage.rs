//! What a process takes, as `/proc` has it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ticks of a processor's time in a second: what Linux tells everybody, whatever it counts in.
const TICKS: f64 = 100.0;

/// Processor time until a moment, or between two.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    at: Instant,
    over: Duration,
    ticks: u64,
    /// By the names of threads.
    threads: BTreeMap<String, u64>,
}

impl Spent {
    /// What a process has spent until now.
    pub(super) fn of(pid: u32) -> Self {
        let at = Instant::now();
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let (_, _, ticks) = read(&folder.join("stat")).expect("it runs");
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir(folder.join("task")).into_iter().flatten().flatten() {
            // One that has ended meanwhile counts in the sum.
            let Some((name, _, ticks)) = read(&task.path().join("stat")) else { continue };
            *threads.entry(name).or_default() += ticks;
        }
        Self { at, over: Duration::ZERO, ticks, threads }
    }

    /// What it has spent since then.
    pub(super) fn since(&self, before: &Self) -> Self {
        let was = |name: &String| before.threads.get(name).copied().unwrap_or_default();
        let threads = self.threads.iter();
        Self {
            at: self.at,
            over: self.at.duration_since(before.at),
            ticks: self.ticks - before.ticks,
            threads: threads.map(|(n, t)| (n.clone(), t.saturating_sub(was(n)))).collect(),
        }
    }

    /// In percent of a core.
    pub(super) fn percent(&self) -> f64 {
        self.share(self.ticks)
    }

    fn share(&self, ticks: u64) -> f64 {
        let ticks = f64::from(u32::try_from(ticks).unwrap_or(u32::MAX));
        100.0 * ticks / TICKS / self.over.as_secs_f64()
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} % of a core", self.percent())?;
        let shares = self.threads.iter().filter(|(_, ticks)| **ticks > 0);
        let shares = shares.map(|(name, ticks)| format!("{name} {:.2}", self.share(*ticks)));
        write!(f, " ({})", shares.collect::<Vec<_>>().join(", "))
    }
}

/// Name, parent and ticks, of a process' or a thread's `stat`.
fn read(stat: &Path) -> Option<(String, u32, u64)> {
    let text = read_to_string(stat).ok()?;
    // The name may have spaces and parentheses in it.
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    // The fields after the name are the third and so on of proc(5); utime and stime are 14 and 15.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((name, u32::try_from(number(4)?).ok()?, number(14)? + number(15)?))
}

/// The child of a process by its name.
pub(super) fn child_of(parent: u32, name: &str) -> u32 {
    let all = std::fs::read_dir("/proc").expect("this is Linux");
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = pids.into_iter().find(|pid| {
        let stat = read(Path::new(&format!("/proc/{pid}/stat")));
        stat.is_some_and(|(is, of, _)| is == name && of == parent)
    });
    found.unwrap_or_else(|| panic!("{parent} has no child {name}"))
}

/// Resident memory of a process in bytes.
pub(super) fn resident(pid: u32) -> u64 {
    let status = read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kibibytes = line.trim().trim_end_matches(" kB").trim();
    kibibytes.parse::<u64>().expect("it is a number") << 10
}
