//! The harness itself, without the adapter: when these fail, nothing else means anything.

use std::time::Duration;

use crate::control_plane::{ControlPlane, run};
use crate::process::{Process, eventually};
use crate::{root, world};

#[test]
fn control_plane_starts_and_names_its_version() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let plane = ControlPlane::start(folder.path(), folder.path());
    let nodes = run(plane.kubectl().args(["get", "nodes"])).expect("the API server answers");
    assert_eq!(nodes, "", "there are no nodes here");
    let controllers = || {
        let mut get = plane.kubectl();
        get.args(["--namespace=kube-system", "get", "serviceaccounts", "--output=name"]);
        let accounts = run(&mut get)?;
        let account = "serviceaccount/horizontal-pod-autoscaler";
        if accounts.contains(account) { Ok(()) } else { Err(accounts) }
    };
    eventually("controllers have accounts", Duration::from_mins(1), controllers);
}

#[test]
fn children_report_their_exit_code_and_obey_signals() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut trap = std::process::Command::new("sh");
    trap.args(["-c", "trap 'exit 7' TERM; echo started; while :; do sleep 0.1; done"]);
    let child = Process::start("trap", folder.path(), &trap);
    eventually("the child runs", Duration::from_secs(5), || {
        if child.log().contains("started") { Ok(()) } else { Err("nothing yet".to_owned()) }
    });
    assert_eq!(child.stop(Duration::from_secs(5)), 7);

    let mut sleep = std::process::Command::new("sleep");
    sleep.arg("60");
    let mut child = Process::start("sleep", folder.path(), &sleep);
    child.signal("KILL");
    let code = eventually("the child is gone", Duration::from_secs(5), || {
        child.ended().map(|status| status.code()).ok_or_else(|| "running".to_owned())
    });
    assert_eq!(code, Some(128 + 9));
}

/// The component with the `APIService`s of metrics of objects gets the certificate of the recipe, and
/// is in nobody's installation that did not ask for it.
#[test]
fn custom_metrics_are_a_component_of_the_recipe() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (components, wanted) in [
        (&[][..], &["v1beta1.external"][..]),
        (&["custom-metrics"], &["v1beta1.custom", "v1beta1.external", "v1beta2.custom"]),
    ] {
        let mut recipe = std::process::Command::new(root().join("deploy/certificates/openssl.sh"));
        run(recipe.arg(folder.path()).args(components)).expect("the recipe works");
        let mut render = world::kubectl();
        let text = run(render.arg("kustomize").arg(folder.path())).expect("it renders");
        let services: Vec<&str> =
            text.split("\n---\n").filter(|text| text.contains("kind: APIService")).collect();
        assert_eq!(services.len(), wanted.len(), "{text}");
        for (service, name) in services.iter().zip(wanted) {
            assert!(service.contains(&format!("name: {name}.metrics.k8s.io")), "{service}");
            assert!(service.contains("caBundle: LS0t"), "{service}");
        }
    }
}

/// The certificate recipe for cert-manager needs resources that this cluster does not have: that
/// it renders is all that can be seen here.
#[test]
fn cert_manager_recipe_renders_an_api_service_without_a_bundle() {
    let mut render = world::kubectl();
    render.arg("kustomize").arg(root().join("deploy/certificates/cert-manager"));
    let text = run(&mut render).expect("the recipe renders");
    let api_service = text
        .split("\n---\n")
        .find(|document| document.contains("kind: APIService"))
        .expect("the APIService is among the manifests");
    assert!(!api_service.contains("caBundle"), "{api_service}");
    assert!(
        api_service.contains("cert-manager.io/inject-ca-from: tidepole/tidepole-serving"),
        "{api_service}"
    );
    assert!(!text.contains("insecureSkipTLSVerify"), "{text}");
}
