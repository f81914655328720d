//! The image, without a container engine: its root file system, put together by the script that the
//! Dockerfile uses, from the binary under test. Tidepole is started in it as a pod would start it: not
//! root, no capabilities, and nothing to write to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::process::{AWS, Process};
use crate::support::server::{Setup, metric, values};
use crate::support::upstream::Prometheus;

/// Whom the image runs as.
const USER: &str = "65532";

/// Where the test's folder is in the container.
const MOUNT: &str = "/etc/tidepole";

/// Run by a shell in a mount namespace of its own: $1 is the root, $2 the folder that is mounted; the
/// rest is run in there. A user namespace in the other takes all capabilities along; what is run
/// there has none.
const CONTAINER: &str = r#"
set -e
root=$1 folder=$2
shift 2
mount --bind "$root" "$root"
mount --bind "$folder" "$root/etc/tidepole"
mount -o remount,bind,ro "$root/etc/tidepole"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs unshare --user --map-user=65532 --map-group=65532 --root="$root" "$@"
"#;

/// The root file system of an image.
struct Root(TempDir);

impl Root {
    fn assemble() -> Self {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let mut assemble = Command::new(repository().join("deploy/image/assemble"));
        assemble.arg(env!("CARGO_BIN_EXE_tidepole")).arg(folder.path());
        let output = assemble.output().expect("the script runs");
        assert!(output.status.success(), "{}", said(&output));
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name.trim_start_matches('/'))
    }

    /// What a container runtime puts there: a mount point, and the hosts of a pod.
    fn prepare(self) -> Self {
        fs::create_dir(self.path(MOUNT)).expect("the image has no such folder");
        fs::write(self.path("etc/hosts"), "127.0.0.1 localhost\n").expect("the folder is ours");
        self
    }

    /// The image's entry point with arguments.
    fn run(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", CONTAINER, "container"]);
        command.arg(self.0.path()).arg(folder).arg("/adapter").args(arguments);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).envs(AWS).stdin(Stdio::null());
        command.env("HOME", "/home/nonroot");
        command.env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
        command
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// Every file and folder below one, links not followed.
fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is ours") {
            let entry = entry.expect("the folder is ours");
            if entry.file_type().expect("it is there").is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn the_image_holds_what_the_program_needs_and_no_more() {
    let root = Root::assemble();
    assert_eq!(fs::read_link(root.path("adapter")).unwrap(), Path::new("/usr/local/bin/tidepole"));
    let users = fs::read_to_string(root.path("etc/passwd")).unwrap();
    assert!(users.contains(&format!("nonroot:x:{USER}:{USER}:")), "{users}");
    let authorities = fs::read_to_string(root.path("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("BEGIN CERTIFICATE").count() > 100);

    let mut programs = Vec::new();
    let mut size = 0;
    for path in below(root.0.path()) {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_symlink() {
            continue;
        }
        let mode = about.permissions().mode();
        let needed = if about.is_dir() { 0o555 } else { 0o444 };
        assert_eq!(mode & needed, needed, "{}: not for everybody", path.display());
        assert_eq!(mode & 0o6000, 0, "{}: runs as somebody else", path.display());
        assert!(mode & 0o1002 != 0o2, "{}: everybody may write", path.display());
        if about.is_file() && mode & 0o111 != 0 {
            programs.push(path.strip_prefix(root.0.path()).unwrap().to_owned());
        }
        if !path.ends_with("usr/local/bin/tidepole") && about.is_file() {
            size += about.len();
        }
    }
    programs.retain(|path| !path.to_string_lossy().contains("ld-linux"));
    assert_eq!(programs, [Path::new("usr/local/bin/tidepole")], "no shell, nothing else to run");
    println!("{size} bytes beside the program");
    assert!(size < 5_000_000, "{size} bytes beside the program");
}

/// Debug builds are many times larger.
#[test]
#[cfg_attr(debug_assertions, ignore = "measures the release binary: cargo test --release")]
fn the_image_is_small() {
    let root = Root::assemble();
    let files = below(root.0.path());
    let size: u64 = files.iter().map(|path| fs::symlink_metadata(path).unwrap().len()).sum();
    assert!(size < 35_000_000, "{size} bytes");
}

#[tokio::test]
#[ignore = "needs user and mount namespaces; tests/run runs it where they are allowed"]
async fn it_serves_from_the_image_with_nothing_to_write_to() {
    let root = Root::assemble().prepare();
    let fake = Prometheus::start();
    fake.vector("up", &[("", "7")]);
    // By name, which takes the C library's look-up and its configuration.
    let url = fake.server().url().replace("127.0.0.1", "localhost");
    let setup = Setup::new(&format!("  - {{ name: main, prometheus: {{ url: \"{url}\" }} }}"))
        .with("m.yaml", &metric("depth", "prometheus: { query: up }"));
    let folder = setup.config().parent().expect("it is in a folder").to_owned();
    let config = format!("{MOUNT}/config.yaml");
    let arguments = ["serve", "--log-format=json", "--config", &config];
    let process = Process::start_by(root.run(&folder, &arguments), setup);
    assert_eq!(values(&process.reader().await.read("depth").await), ["7"]);

    // As the kernel sees it.
    let about = |file: &str| {
        let path = format!("/proc/{}/{file}", process.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let status = about("status");
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(about("uid_map").split_whitespace().eq([USER, "0", "1"]), "{}", about("uid_map"));
    let writable = about("mountinfo");
    let mounts: Vec<&str> = writable.lines().filter(|line| on_root(line)).collect();
    assert_eq!(mounts.len(), 2, "the root and the folder: {writable}");
    assert!(mounts.iter().all(|line| line.split(' ').nth(5).unwrap().starts_with("ro")));

    process.signal("TERM");
    let (status, log) = process.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}

/// Is a mount one of those that the process sees? Others are above its root.
fn on_root(line: &str) -> bool {
    let point = line.split(' ').nth(4).unwrap_or_default();
    point == "/" || point == MOUNT
}

#[test]
#[ignore = "needs user and mount namespaces; tests/run runs it where they are allowed"]
fn sources_verify_with_the_authorities_of_the_image() {
    let root = Root::assemble().prepare();
    let setup = Setup::new("  - { name: main, prometheus: { url: \"https://localhost:1\" } }")
        .with("m.yaml", &metric("depth", "prometheus: { query: up }"));
    let folder = setup.config().parent().expect("it is in a folder").to_owned();
    let config = format!("{MOUNT}/config.yaml");
    let ask = |root: &Root| {
        let arguments = ["query", "--config", &config, "depth"];
        said(&root.run(&folder, &arguments).output().expect("unshare is there"))
    };
    let answer = ask(&root);
    assert!(answer.contains("Connection refused"), "{answer}");
    fs::remove_file(root.path("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let answer = ask(&root);
    assert!(!answer.contains("Connection refused"), "nobody to verify by: {answer}");
    assert!(answer.contains("certificate"), "{answer}");
}
