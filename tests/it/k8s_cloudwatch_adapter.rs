//! k8s-cloudwatch-adapter's resources, read by its successor: what was recorded of the original is
//! applied, answered and read again, and values and calls are compared.
//!
//! What may differ is listed, with reasons, in `deploy/k8s-cloudwatch-adapter/differences.md`. A step
//! that differs and is not there fails, and so does one that is there and does not differ.

mod answers;
mod bench;
mod recorded;

use std::collections::BTreeMap;
use std::process::Command;

use bench::Bench;
use recorded::{Case, Step};

/// Marks the child that runs the test: credentials come from its environment.
const CHILD: &str = "TIDEPOLE_TEST_RECORDED";

/// Cases about how a process finds its region and keys, or does not.
const STARTS: [&str; 4] = ["83", "89", "91", "92"];

#[test]
fn resources_are_read_as_the_original_reads_them() {
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command.args(["--exact", "k8s_cloudwatch_adapter::child", "--nocapture"]);
    for (name, _) in std::env::vars() {
        if name.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    let keys = [("AWS_ACCESS_KEY_ID", "BASEKEY"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    command.envs(keys).env("AWS_EC2_METADATA_DISABLED", "true").env(CHILD, "1");
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    let output = command.output().expect("this program can be run again");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("compared: "), "{text}\n{said}");
}

#[tokio::test]
async fn child() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (mut found, mut compared) = (BTreeMap::new(), 0);
    for case in recorded::cases() {
        if STARTS.contains(&case.id.as_str()) {
            continue;
        }
        compared += run(&case, &mut found).await;
    }
    let listed = recorded::listed();
    let unlisted = found.iter().filter(|(id, _)| !listed.contains_key(*id));
    let unlisted = unlisted.map(|(id, what): (&String, &String)| format!("{id} differs: {what}"));
    let settled = listed.iter().filter(|(id, _)| !found.contains_key(*id));
    let settled = settled.map(|(id, why)| format!("{id} is listed and does not differ: {why}"));
    let wrong: Vec<String> = unlisted.chain(settled).collect();
    assert!(wrong.is_empty(), "{} steps:\n{}", wrong.len(), wrong.join("\n"));
    // Enough of them to mean something.
    assert!(compared > 150, "{compared}");
    println!("compared: {compared}");
}

/// Runs a case and notes what differs, as `case/step`; gives the number of comparisons.
async fn run(case: &Case, found: &mut BTreeMap<String, String>) -> usize {
    let bench = Bench::start();
    let mut compared = 0;
    if let Some(resource) = &case.resource {
        bench.apply(resource);
    }
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Do(what) if what.what == "apply" => {
                bench.apply(what.resource.as_deref().expect("something is applied"));
            }
            Step::Do(what) if what.what == "delete" => {
                let named = (what.namespace.as_deref(), what.name.as_deref());
                let (Some(namespace), Some(name)) = named else { panic!("{what:?}") };
                bench.delete(namespace, name);
            }
            // Nothing is kept over a restart, and a log is for people.
            Step::Do(_) => {}
            Step::Read(read) => {
                let Some(asked) = read.asked() else { continue };
                compared += 1;
                let differences = bench.compare(&asked, read).await;
                if !differences.is_empty() {
                    found.insert(format!("{}/{}", case.id, number + 1), differences.join("; "));
                }
            }
        }
    }
    compared
}
