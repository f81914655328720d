//! What only a process has: exit codes and signals.

use std::fs;

use crate::support::process::{Process, tidepole};
use crate::support::server::{Setup, metric, values};

const SOURCE: &str = "  - { name: sim, simulated: {} }";

#[test]
fn a_wrong_config_is_exit_code_1_with_every_mistake_and_its_place() {
    let setup = Setup::new(SOURCE).defaults("{ refresh: -1s, maxAgee: 2m }");
    let path = setup.config();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("auth: none", "auth: nobody")).unwrap();
    let output = tidepole(&["serve", "--config"], &path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for mistake in [
        "server.auth",
        "defaults.refresh",
        "defaults.maxAgee: unknown field; did you mean `maxAge`?",
    ] {
        let line = said.lines().find(|line| line.contains(mistake));
        let line = line.unwrap_or_else(|| panic!("nothing about {mistake} in:\n{said}"));
        assert!(line.contains("config.yaml:"), "no place: {line}");
    }
    let missing = setup.path("no-such-file.yaml");
    let output = tidepole(&["serve", "--config"], &missing).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no-such-file.yaml"));
}

#[test]
fn a_taken_address_is_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::new(SOURCE);
    for flag in ["--listen", "--admin-listen"] {
        let arguments = ["serve", flag, address.as_str(), "--config"];
        let output = tidepole(&arguments, &setup.config()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flag}: {said}");
        assert!(said.contains(&address), "{flag}: {said}");
    }
}

#[tokio::test]
async fn both_signals_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let setup =
            Setup::new(SOURCE).with("m.yaml", &metric("steady", "simulated: { constant: 5 }"));
        let process = Process::start(setup);
        let mut reader = process.reader().await;
        assert_eq!(values(&reader.read("steady").await), ["5"]);
        process.signal(signal);
        let (status, log) = process.end().await;
        assert_eq!(status.code(), Some(0), "SIG{signal}: {log}");
        assert!(log.contains("\"stopped\""), "{log}");
        assert!(!log.contains("\"level\":\"ERROR\"") && !log.contains("panicked"), "{log}");
        // It was told.
        reader.0.closed().await.unwrap();
    }
}
