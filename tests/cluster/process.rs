//! Child processes that cannot outlive the tests.
//!
//! Each child runs under a small shell that holds the read end of a pipe. The tests hold the write
//! end: a signal name written to it is sent to the child, and when it closes (drop, panic, abort,
//! even SIGKILL of the test process) the child gets SIGTERM, then SIGKILL.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shell that stands between the tests and a child. `$@` is the child's command line.
///
/// The grace before SIGKILL is longer than any child's own shutdown deadline in these tests.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(
    while read -r signal; do kill -s "$signal" "$child" 2>/dev/null; done
    kill -s TERM "$child" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        kill -0 "$child" 2>/dev/null || exit 0
        sleep 1
    done
    kill -s KILL "$child" 2>/dev/null
) <&3 3<&- &
watcher=$!
exec 3<&-
wait "$child"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"#;

/// A running child and its log file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    supervisor: Child,
    control: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its standard output and error are appended to `<logs>/<name>.log`.
    pub(crate) fn start(name: &str, logs: &Path, command: &Command) -> Self {
        let log = logs.join(format!("{name}.log"));
        let file = append(&log);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SUPERVISOR).arg(name).arg(command.get_program());
        shell.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let err = file.try_clone().expect("the log file can be shared");
        let mut supervisor = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(err))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let control = supervisor.stdin.take();
        Self { name: name.to_owned(), supervisor, control, log }
    }

    /// Sends a signal by its name without `SIG`, for instance `STOP`.
    pub(crate) fn signal(&mut self, signal: &str) {
        let control = self.control.as_mut().expect("signals go to a running process");
        writeln!(control, "{signal}").expect("the supervisor reads signals");
    }

    /// The exit status when the child has ended; a child ended by signal N exits with 128 + N.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().expect("a child can be waited for")
    }

    /// Panics with the end of the log when the child has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {status}; its log ends:\n{}", self.name, self.log_tail());
        }
    }

    /// Sends SIGTERM and waits for the exit code.
    pub(crate) fn stop(mut self, within: Duration) -> i32 {
        self.control = None;
        self.wait(within)
    }

    /// Waits for the exit code of a child that was told to end by [`Process::signal`].
    pub(crate) fn wait(&mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status.code().expect("the supervisor shell exits by itself");
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {within:?}; its log ends:\n{}",
                self.name,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The shell whose child it is.
    pub(crate) fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Everything the child has written so far, runs before this one included.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.control = None;
        // The supervisor ends with its child; after a panic nobody needs to know how.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()))
}

/// Where ports are looked for: below those that systems give to outgoing connections (Linux: from
/// 32768 on), any of which could take a port between here and the server's own bind.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A loopback port that nobody listens on, never handed out twice by this process.
pub(crate) fn free_port() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes that run beside each other begin at places of their own.
    let begin =
        || PORTS.start + u16::try_from(std::process::id() % 327 * 61).expect("below 20,000");
    let mut port = next.unwrap_or_else(begin);
    for _ in PORTS {
        port = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            *next = Some(port);
            return port;
        }
    }
    panic!("loopback has no free port in {PORTS:?}");
}

/// Calls `check` until it answers `Ok`; panics with the last `Err` when `within` has passed.
pub(crate) fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    let deadline = begin + within;
    loop {
        match check() {
            Ok(value) => {
                // Shown for failed tests, and for all with `--nocapture`.
                println!("{:6.1} s: {what}", begin.elapsed().as_secs_f64());
                return value;
            }
            Err(last) => assert!(
                Instant::now() < deadline,
                "{what}: not within {within:?}; last seen: {last}"
            ),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Calls `check` all through `during` and panics on the first `Err`.
pub(crate) fn always(what: &str, during: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + during;
    while Instant::now() < deadline {
        if let Err(seen) = check() {
            panic!("{what}: {seen}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
