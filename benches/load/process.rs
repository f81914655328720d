//! Server processes and what they use.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A child that is killed when it is dropped.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the server starts"),
        )
    }

    /// Reads lines of standard output until `pick` finds what it looks for; then keeps draining.
    pub(crate) fn wait_for<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> T {
        let out = self.0.stdout.take().expect("standard output is piped");
        let err = self.0.stderr.take().expect("standard error is piped");
        let (sender, lines) = std::sync::mpsc::channel();
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut seen = Vec::new();
        loop {
            match lines.recv_timeout(Duration::from_mins(1)) {
                Ok(line) => match pick(&line) {
                    Some(found) => return found,
                    None => seen.push(line),
                },
                Err(error) => {
                    panic!("the server did not say what was expected ({error}): {seen:#?}")
                }
            }
        }
    }

    /// CPU time used so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("/proc");
        // The name in parentheses may hold blanks; fields 14 and 15 count from after it.
        let rest = stat.rsplit_once(')').expect("stat has a name").1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("ticks")).sum();
        // USER_HZ is 100 on every Linux that Rust's std supports.
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, now and at most so far.
    pub(crate) fn memory(&self) -> String {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("/proc");
        let mib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a known field");
            let kib = line.split_whitespace().next().expect("a number");
            kib.parse::<f64>().expect("KiB") / 1024.0
        };
        format!("{:.1} MiB (peak {:.1} MiB)", mib("VmRSS:"), mib("VmHWM:"))
    }
}
