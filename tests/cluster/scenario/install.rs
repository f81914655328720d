//! The Helm chart and the manifests rendered from it, on a control plane of their own: what they
//! register is the whole cluster's, and nobody else's tests are to see it.

mod helm;
mod matrix;
mod release;
mod values;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::control_plane::{ControlPlane, run};
use crate::{read, root, world};

/// Where this module's processes keep their files.
fn folder() -> PathBuf {
    let folder = world::folders().0.join("install");
    std::fs::create_dir_all(&folder).expect("target/ is writable");
    folder
}

/// A cluster that has cert-manager's resources and the Prometheus operator's, though neither runs. One
/// test at a time: what the chart makes has the same names in each.
struct Plane {
    plane: &'static ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Plane {
    type Target = ControlPlane;
    fn deref(&self) -> &ControlPlane {
        self.plane
    }
}

fn plane() -> Plane {
    static TURN: Mutex<()> = Mutex::new(());
    static PLANE: OnceLock<Option<ControlPlane>> = OnceLock::new();
    // A test that failed has said so itself.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        let logs = world::folders().1.join("install");
        std::fs::create_dir_all(&logs).expect("target/ is writable");
        let plane = ControlPlane::start(&folder(), &logs);
        plane.apply(include_str!("install/resources.yaml"));
        let mut wait = plane.kubectl();
        wait.args(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
        run(&mut wait).expect("the resources are known soon");
        plane
    };
    let plane = PLANE.get_or_init(|| std::panic::catch_unwind(start).ok());
    let plane = plane.as_ref().expect("it could not be started: see the first panic");
    Plane { plane, _turn: turn }
}

/// `tidepole check` of a config and what it names.
fn check(config: &Path) -> Result<(), String> {
    let mut check = Command::new(crate::adapter::binary());
    run(check.arg("check").arg(config)).map(drop)
}

/// The files that are rendered from the chart are what the chart renders, and those of a folder are
/// all part of it.
#[test]
fn manifests_are_rendered_from_the_chart() {
    let made = tempfile::tempdir().expect("a folder can be made");
    let mut render = Command::new(root().join("deploy/manifests/render"));
    render.env("HELM", helm::helm().get_program()).arg(made.path());
    run(&mut render).expect("the chart renders");
    let other = ["kustomization.yaml", "values.yaml", "render"];
    for folder in ["manifests", "custom-metrics"] {
        let kept = root().join("deploy").join(folder);
        let (new, old) = (files(&made.path().join(folder), &[]), files(&kept, &other));
        assert_eq!(old, new, "deploy/{folder}: run deploy/manifests/render");
        for file in &new {
            let text = |folder: &Path| {
                String::from_utf8(read(&folder.join(file))).expect("manifests are UTF-8")
            };
            let same = text(&kept) == text(&made.path().join(folder));
            assert!(same, "deploy/{folder}/{file}: run deploy/manifests/render");
        }
        let kustomization: serde_json::Value = serde_saphyr::from_str(
            &String::from_utf8(read(&kept.join("kustomization.yaml"))).expect("it is UTF-8"),
        )
        .expect("it is YAML");
        let listed = kustomization["resources"].as_array().expect("resources are a list");
        let mut listed: Vec<String> = listed.iter().map(helm::text).collect();
        listed.sort();
        assert_eq!(listed, new, "deploy/{folder}/kustomization.yaml lists what is there");
    }
}

/// The names of the files of a folder, but for some, sorted.
fn files(folder: &Path, but: &[&str]) -> Vec<String> {
    let found = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = found
        .map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| !but.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// Each way of installing without Helm is accepted by the API server, field by field.
#[test]
fn every_overlay_is_accepted() {
    let plane = plane();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let recipe = root().join("deploy/certificates/openssl.sh");
    run(Command::new(recipe).arg(folder.path()).arg("custom-metrics")).expect("the recipe works");
    plane.apply("{ apiVersion: v1, kind: Namespace, metadata: { name: tidepole } }");
    let deploy = root().join("deploy");
    for overlay in [deploy.join("manifests"), deploy.join("certificates/cert-manager")]
        .iter()
        .map(PathBuf::as_path)
        .chain([folder.path()])
    {
        let mut apply = plane.kubectl();
        apply.args(["apply", "--dry-run=server", "--validate=strict", "--kustomize"]).arg(overlay);
        let said = run(&mut apply).unwrap_or_else(|e| panic!("{}: {e}", overlay.display()));
        assert!(said.contains("deployment.apps/tidepole"), "{said}");
    }
}

/// Whoever brings a certificate of their own has one that is used, and takes from Tidepole the
/// permission to write its own.
#[test]
fn recipes_for_certificates_replace_the_managed_one() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let recipe = root().join("deploy/certificates/openssl.sh");
    run(Command::new(recipe).arg(folder.path())).expect("the recipe works");
    for overlay in [folder.path(), &root().join("deploy/certificates/cert-manager")] {
        let text = run(world::kubectl().arg("kustomize").arg(overlay)).expect("it renders");
        let rendered = helm::Rendered::new(text);
        let container = rendered.container().to_string();
        for part in [
            r#""--tls-cert-file=/certs/tls.crt""#,
            r#""--tls-private-key-file=/certs/tls.key""#,
            r#""mountPath":"/certs""#,
        ] {
            assert!(container.contains(part), "{part}: {container}");
        }
        let volumes = rendered.pod()["spec"]["volumes"].to_string();
        assert!(volumes.contains(r#"{"defaultMode":288,"secretName":"tidepole-serving"}"#));
        assert!(!rendered.text.contains("tidepole:certificates"), "{}", rendered.text);
    }
    // Without a recipe, the manifests leave it to Tidepole, and nobody skips verification.
    let mut render = world::kubectl();
    render.arg("kustomize").arg(root().join("deploy/manifests"));
    let bare = helm::Rendered::new(run(&mut render).expect("the manifests render"));
    assert!(bare.config()["server"]["tls"]["managed"].is_object(), "{}", bare.config());
    let service = &bare.one("APIService", "")["spec"];
    assert!(service["caBundle"].is_null() && service["insecureSkipTLSVerify"].is_null());
    assert_eq!(bare.names("Role"), ["tidepole", "tidepole:certificates"]);
    // What they bring is what the server takes, the example among it.
    check(&bare.write(folder.path())).expect("config and metrics are valid");
    assert!(folder.path().join("metrics.d/example.yaml").exists());
}
