//! What the Helm chart has copies of, since a chart reads no files but its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::Violation;

const CHART: &str = "deploy/helm/tidepole";

/// Checks the copies, and that chart and image are of the program's version.
pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let mut violations = copies(root, "deploy/crds", &format!("{CHART}/files/crds"));
    // Runbooks and tests of the alerts are beside the rules, and not in the chart.
    let rules = "tidepole.rules.yaml";
    let (original, copy) = (format!("deploy/alerts/{rules}"), format!("{CHART}/files/{rules}"));
    violations.extend(same(root, &original, &copy));

    let chart = format!("{CHART}/Chart.yaml");
    let text = fs::read_to_string(root.join(&chart)).unwrap_or_default();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let program = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    let program = program.unwrap_or_default().trim_matches('"');
    for key in ["version: ", "appVersion: "] {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        if found.map(|version| version.trim_matches('"')) != Some(program) {
            violations.push(Violation::new(&chart, 0, format!("{key}is not {program}")));
        }
    }
    let image = "deploy/Dockerfile";
    let text = fs::read_to_string(root.join(image)).unwrap_or_default();
    if !text.lines().any(|line| line.strip_prefix("ARG VERSION=") == Some(program)) {
        violations.push(Violation::new(image, 0, format!("VERSION is not {program}")));
    }
    violations
}

/// Two folders hold the same definitions of resources. Neither need be there.
fn copies(root: &Path, original: &str, copy: &str) -> Vec<Violation> {
    let names = |folder: &str| -> BTreeSet<OsString> {
        let files = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name());
        let defines = |name: &OsString| {
            let text = fs::read_to_string(root.join(folder).join(name)).unwrap_or_default();
            text.lines().any(|line| line == "kind: CustomResourceDefinition")
        };
        names.filter(defines).collect()
    };
    let all: BTreeSet<OsString> = names(original).union(&names(copy)).cloned().collect();
    let pairs = all.iter().map(|name| {
        let name = name.to_string_lossy();
        (format!("{original}/{name}"), format!("{copy}/{name}"))
    });
    pairs.filter_map(|(original, copy)| same(root, &original, &copy)).collect()
}

/// Two files are the same, or neither is there.
fn same(root: &Path, original: &str, copy: &str) -> Option<Violation> {
    let read = |path: &str| fs::read(root.join(path)).ok();
    let what = format!("is not what {original} is: run deploy/manifests/render");
    (read(original) != read(copy)).then(|| Violation::new(copy, 0, what))
}

#[test]
fn a_copy_that_is_missing_old_or_left_over_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("Cargo.toml", "[package]\nversion = \"1.2.3\"\n");
    put("deploy/helm/tidepole/Chart.yaml", "version: 1.2.3\nappVersion: 1.2.3\n");
    put("deploy/Dockerfile", "FROM scratch\nARG VERSION=1.2.3\n");
    assert_eq!(check(folder.path()), []);

    put("deploy/helm/tidepole/Chart.yaml", "version: 1.2.2\nappVersion: 1.2.3\n");
    put("deploy/Dockerfile", "FROM scratch\nARG VERSION=1.2.2\n");
    let crd = "kind: CustomResourceDefinition\n";
    put("deploy/crds/a.yaml", crd);
    put("deploy/crds/b.yaml", crd);
    put("deploy/crds/kustomization.yaml", "kind: Kustomization\n");
    put("deploy/helm/tidepole/files/crds/b.yaml", &format!("# old\n{crd}"));
    put("deploy/helm/tidepole/files/crds/c.yaml", crd);
    put("deploy/alerts/tidepole.rules.yaml", "groups: []");
    put("deploy/alerts/runbook.md", "not in the chart");
    let found: Vec<String> = check(folder.path()).iter().map(ToString::to_string).collect();
    let told = [
        "crds/a.yaml",
        "crds/b.yaml",
        "crds/c.yaml",
        "tidepole.rules.yaml",
        "Chart.yaml",
        "Dockerfile",
    ];
    assert_eq!(found.len(), told.len(), "{found:#?}");
    for (line, file) in found.iter().zip(told) {
        assert!(line.contains(file), "{file}: {line}");
    }
}
