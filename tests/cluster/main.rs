//! Tidepole in a real cluster: etcd, kube-apiserver, kube-controller-manager and kubectl, a real
//! Prometheus, a real queue server, the manifests of `deploy/`; CloudWatch alone is a fake of ours.
//!
//! `./tests/run cluster [FILTER]` builds what is needed and runs these. One world is shared by all
//! tests of a run (`world`); each test has a namespace, a Deployment and metrics of its own
//! (`workload`). Logs of all processes are kept in `target/cluster/logs`.

mod adapter;
#[path = "../support/upstream.rs"]
mod aws_fakes;
mod control_plane;
mod crowd;
mod drop_in;
mod moto;
mod pki;
mod process;
mod reads;
mod scenario;
mod upstream;
mod workload;
mod world;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A plain GET on loopback: the body of a 200, or what came instead.
fn http_get(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").expect("only plain HTTP");
    let (host, path) = rest.split_at(rest.find('/').expect("a URL with a path"));
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = fetch().map_err(|error| format!("{url}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(format!("{url}: {status}: {body}"))
    }
}
