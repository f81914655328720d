//! Alerts and the dashboard: what they ask for is there, every alert fires and stays silent, and
//! says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::table::Table;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(deploy(path)).expect("the file is there");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn alerts(rules: &Value) -> Vec<&Value> {
    list(rules, "groups").iter().flat_map(|group| list(group, "rules")).collect()
}

/// Debian's package `prometheus` has it; `tests/run` unpacks that where it is not installed.
fn promtool(arguments: &[&str]) {
    let beside = std::env::var_os("TIDEPOLE_PROMETHEUS")
        .and_then(|path| Some(Path::new(&path).parent()?.join("promtool")));
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prometheus/usr/bin/promtool");
    let program = [beside, Some(unpacked)].into_iter().flatten().find(|path| path.exists());
    let program = program.unwrap_or_else(|| "promtool".into());
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(deploy("alerts"))
        .output()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; `./tests/run it` fetches it", program.display())
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn prometheus_takes_the_alerts() {
    promtool(&["check", "rules", "tidepole.rules.yaml"]);
}

#[test]
fn every_alert_fires_and_stays_silent() {
    promtool(&["test", "rules", "tidepole.test.yaml"]);
    let (rules, tests) = (yaml("alerts/tidepole.rules.yaml"), yaml("alerts/tidepole.test.yaml"));
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().expect("a name");
        let asks = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        let looks: Vec<&[Value]> = list(&tests, "tests")
            .iter()
            .flat_map(|test| list(test, "promql_expr_test"))
            .filter(|look| look["expr"] == asks.as_str())
            .map(|look| list(look, "exp_samples"))
            .collect();
        assert!(looks.iter().any(|samples| samples.is_empty()), "{name} is never seen silent");
        let fired = looks.iter().find_map(|samples| samples.first());
        let fired = fired.unwrap_or_else(|| panic!("{name} is never seen firing"));
        // What the texts name must be a label of the alert, or they have a hole there.
        let labels = fired["labels"].as_str().expect("labels");
        let said = alert["annotations"].to_string();
        for named in said.split("$labels.").skip(1) {
            let end = named.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let label = &named[..end.unwrap_or(named.len())];
            let has =
                labels.contains(&format!(",{label}=")) || labels.contains(&format!("{{{label}="));
            assert!(has, "{name}: its texts name the label {label}, it has {labels}");
        }
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let rules = yaml("alerts/tidepole.rules.yaml");
    let mut names = BTreeSet::new();
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().expect("a name");
        assert!(names.insert(name), "{name} twice");
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity:?}");
        let text = |key: &str| alert["annotations"][key].as_str().unwrap_or_default();
        for key in ["summary", "description"] {
            assert!(!text(key).is_empty() && !text(key).contains('\n'), "{name}: {key}");
        }
        for part in ["Symptom: ", "\nCause: ", "\nCommands:\n  "] {
            assert!(text("runbook").contains(part), "{name}: its runbook lacks {part:?}");
        }
    }
    assert!(names.len() >= 25, "{names:?}");
}

#[test]
fn what_alerts_ask_for_is_there() {
    let (table, rules) = (Table::read(), yaml("alerts/tidepole.rules.yaml"));
    for alert in alerts(&rules) {
        let query = alert["expr"].as_str().expect("a query");
        let missing = table.missing(query);
        assert!(missing.is_empty(), "{}: {missing:#?}", alert["alert"]);
    }
}

/// Prometheus reads every query of the dashboard, as if it were a recording rule.
#[test]
fn the_dashboards_queries_are_promql() {
    let text = fs::read_to_string(deploy("grafana/tidepole.json")).expect("the file is there");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let queries = list(&board, "panels").iter().flat_map(|panel| list(panel, "targets"));
    let rules: Vec<Value> = queries
        .enumerate()
        .map(|(number, target)| {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "5m");
            serde_json::json!({"record": format!("query:{number}"), "expr": query})
        })
        .collect();
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queries.yaml");
    fs::write(&path, file.to_string()).expect("the folder is ours");
    promtool(&["check", "rules", path.to_str().expect("a path of text")]);
}

#[test]
fn what_the_dashboard_asks_for_is_there() {
    let table = Table::read();
    let text = fs::read_to_string(deploy("grafana/tidepole.json")).expect("the file is there");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let mut ids = BTreeSet::new();
    let mut queries = 0;
    for panel in list(&board, "panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        let title = panel["title"].as_str().expect("a title");
        assert!(!panel["description"].as_str().unwrap_or_default().is_empty(), "{title}");
        for target in list(panel, "targets") {
            queries += 1;
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().expect("a query");
            // Choices of the reader are no words of the page.
            let plain = query.replace("job=~\"$job\",instance=~\"$instance\"", "job=\"x\"");
            assert!(!plain.contains("\"$"), "{title}: {query}");
            let missing = table.missing(&plain);
            assert!(missing.is_empty(), "{title}: {query}: {missing:#?}");
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            for label in legend.split("{{").skip(1).filter_map(|part| part.split("}}").next()) {
                let there = query.contains(label) || label == "instance";
                assert!(there, "{title}: nothing in {query} has the label {label}");
            }
        }
    }
    assert!(queries >= 50, "{queries} queries");
    let variables = list(&board["templating"], "list");
    assert_eq!(variables[0]["type"], "datasource");
    for variable in variables.iter().skip(1) {
        let query = variable["query"]["query"].as_str().expect("a query");
        let missing = table.missing(&query.replace("\"$job\"", "\"x\""));
        assert!(missing.is_empty(), "{query}: {missing:#?}");
    }
}
