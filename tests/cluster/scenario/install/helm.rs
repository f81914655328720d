//! Helm, and what it makes of the chart.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::control_plane::run;
use crate::root;

/// Helm with no state of the machine's user.
pub(super) fn helm() -> Command {
    let program = std::env::var_os("TIDEPOLE_HELM")
        .map_or_else(|| root().join("target/helm/bin/helm"), PathBuf::from);
    assert!(
        program.exists(),
        "no {}: `./tests/run cluster` builds it and runs these tests",
        program.display()
    );
    let mut helm = Command::new(program);
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(folder, super::folder().join("helm"));
    }
    helm.env_remove("KUBECONFIG");
    helm
}

pub(super) fn chart() -> PathBuf {
    root().join("deploy/helm/tidepole")
}

/// A file with values.
pub(super) fn values_file(values: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file can be made");
    std::fs::write(file.path(), values).expect("the file is ours");
    file
}

/// The chart with values, rendered as the release `release`; helm's message when it refuses them.
pub(super) fn render(release: &str, namespace: &str, values: &str) -> Result<Rendered, String> {
    let file = values_file(values);
    let mut template = helm();
    template.args(["template", release]).arg(chart()).args(["--namespace", namespace]);
    run(template.arg("--values").arg(file.path())).map(Rendered::new)
}

/// Objects as they are applied.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) objects: Vec<Value>,
}

impl Rendered {
    pub(super) fn new(text: String) -> Self {
        let documents = text.split("\n---\n").map(|one| one.trim_start_matches("---\n"));
        let objects = documents
            .filter(|one| one.lines().any(|line| !line.is_empty() && !line.starts_with('#')))
            .map(|one| serde_saphyr::from_str(one).unwrap_or_else(|e| panic!("{e}\nin\n{one}")))
            .collect();
        Self { text, objects }
    }

    pub(super) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The names of the objects of a kind, sorted.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        let objects = self.of_kind(kind);
        let mut names: Vec<String> =
            objects.iter().map(|object| text(&object["metadata"]["name"])).collect();
        names.sort();
        names
    }

    /// The only object of a kind whose name ends so.
    pub(super) fn one(&self, kind: &str, end: &str) -> &Value {
        let mut found = self.of_kind(kind);
        found.retain(|object| text(&object["metadata"]["name"]).ends_with(end));
        assert_eq!(found.len(), 1, "{kind} ...{end} in\n{}", self.text);
        found[0]
    }

    pub(super) fn pod(&self) -> &Value {
        &self.one("Deployment", "")["spec"]["template"]
    }

    pub(super) fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    /// The server config.
    pub(super) fn config(&self) -> Value {
        let map = self.one("ConfigMap", "-config");
        serde_saphyr::from_str(&text(&map["data"]["config.yaml"])).expect("the config is YAML")
    }

    /// Writes the config and what it names to a folder, as the pod has them; the config's path.
    pub(super) fn write(&self, folder: &Path) -> PathBuf {
        let mounts = [("-metrics", "metrics.d"), ("-rules", "rules")];
        let mut config = text(&self.one("ConfigMap", "-config")["data"]["config.yaml"]);
        for (end, mounted) in mounts {
            let target = folder.join(mounted);
            std::fs::create_dir_all(&target).expect("the folder is ours");
            for map in self.of_kind("ConfigMap") {
                if !text(&map["metadata"]["name"]).ends_with(end) {
                    continue;
                }
                for (name, content) in map["data"].as_object().into_iter().flatten() {
                    std::fs::write(target.join(name), text(content)).expect("the folder is ours");
                }
            }
            // What the values say is there already.
            if mounted == "rules" && !target.join("config.yaml").exists() {
                std::fs::write(target.join("config.yaml"), "rules: []\n").expect("ours as well");
            }
            config =
                config.replace(&format!("/etc/tidepole/{mounted}"), &target.display().to_string());
        }
        let path = folder.join("config.yaml");
        std::fs::write(&path, config).expect("the folder is ours");
        path
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
