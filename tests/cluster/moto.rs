//! moto, another fake of `CloudWatch`, for a second opinion about ours.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, eventually, free_port};
use crate::upstream::tool;

/// A running moto, without metrics, behind a front that speaks the SDK's protocol.
#[derive(Debug)]
pub(crate) struct Moto {
    port: u16,
    _process: Process,
    /// Its log; the world's folder is emptied when the world is made, at any time.
    _logs: TempDir,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let logs = tempfile::tempdir().expect("there is a place for temporary files");
        let port = free_port();
        let python = tool("TIDEPOLE_MOTO_PYTHON", "target/moto/bin/python", "python3");
        let mut command = Command::new(python);
        command.arg(crate::root().join("tests/cluster/moto/front.py")).arg(port.to_string());
        // The SDK of the front asks nothing outside of its process.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        let mut process = Process::start("moto", logs.path(), &command);
        let moto = format!("http://127.0.0.1:{port}/");
        eventually("moto answers", Duration::from_mins(1), || {
            process.assert_running();
            crate::http_get(&moto).map(|_| ())
        });
        Self { port, _process: process, _logs: logs }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
