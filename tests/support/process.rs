//! A Tidepole that runs as the process that users start: for what only a process has, its
//! environment, its signals and its exit code.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::client::{Connection, Failure, Protocol};
use super::server::{AdminDoor, NAME, Reader, Setup};
use super::tls::Pair;
use super::wait::PATIENCE;

/// Credentials for fakes, and nothing of this machine's own.
pub(crate) const AWS: [(&str, &str); 6] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ("NO_PROXY", "*"),
];

/// `tidepole` with arguments, without the environment that could lead it elsewhere.
pub(crate) fn tidepole(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidepole"));
    command.args(arguments).arg(config).stdin(Stdio::null());
    let own: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            name.to_str()
                .is_some_and(|n| n.starts_with("AWS_") || n == "RUST_LOG" || n == "KUBECONFIG")
        })
        .collect();
    for name in own {
        command.env_remove(name);
    }
    command.envs(AWS);
    command
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("it has ended: {status}")) * 1024
}

/// A running `tidepole serve`.
pub(crate) struct Process {
    pub(crate) setup: Setup,
    child: Child,
    api: SocketAddr,
    pub(crate) door: AdminDoor,
    /// Lines up to the one that names the addresses.
    seen: Vec<String>,
    log: Receiver<String>,
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(setup: Setup) -> Self {
        let command = tidepole(&["serve", "--log-format=json", "--config"], &setup.config());
        Self::start_by(command, setup)
    }

    /// The same, by a command that ends as the server, with its log as JSON.
    pub(crate) fn start_by(mut command: Command, setup: Setup) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built with this test");
        let stderr = child.stderr.take().expect("it is piped");
        let (tell, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody may be reading any more.
                let _ = tell.send(line);
            }
        });
        let begin = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let Ok(line) = log.recv_timeout(left) else {
                // Or it would outlive the test.
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not serve: {seen:#?}");
            };
            let found = addresses(&line);
            seen.push(line);
            if let Some((api, admin)) = found {
                return Self { setup, child, api, door: AdminDoor(admin), seen, log };
            }
        }
    }

    /// A new connection.
    pub(crate) async fn reader(&self) -> Reader {
        let config = self.setup.authority.client_config(None);
        let made = Connection::tls(self.api, NAME, &config, Protocol::Http2).await;
        Reader(made.expect("the server takes connections"))
    }

    /// A new connection without a certificate.
    pub(crate) async fn stranger(&self, protocol: Protocol) -> Result<Connection, Failure> {
        let config = self.setup.authority.client_config(None);
        Connection::tls(self.api, NAME, &config, protocol).await
    }

    /// A new connection with a certificate.
    pub(crate) async fn connect_as(&self, identity: &Pair) -> Connection {
        let config = self.setup.authority.client_config(Some(identity));
        let made = Connection::tls(self.api, NAME, &config, Protocol::Http2).await;
        made.expect("the server takes connections")
    }

    /// Where the API is served.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.child.id())
    }

    /// One of its metrics, by the beginning of the line.
    pub(crate) async fn counted(&self, line: &str) -> f64 {
        let text = self.door.get("/metrics").await.text().to_owned();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {text}"))
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// Waits for its end; gives how, and what it logged since the start.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let lines: Vec<String> =
            std::mem::take(&mut self.seen).into_iter().chain(self.log.iter()).collect();
        (status, lines.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// API and admin address, from the line that names them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let address = |name: &str| fields.get(name)?.as_str()?.parse().ok();
    Some((address("api")?, address("admin")?))
}
