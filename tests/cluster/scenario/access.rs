//! Who may read metrics: Kubernetes' own RBAC decides, asked with the caller's real identity.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::control_plane::run;
use crate::process::eventually;
use crate::workload::{SOON, Workload};
use crate::world::{World, shared};

fn constant(web: &Workload<'_>, metric: &str) {
    let spec = format!("metric: {metric}\nsource: sim\nsimulated: {{ constant: \"20\" }}");
    web.define(&[("constant", &spec)]);
}

fn path(namespace: &str, metric: &str) -> String {
    format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}")
}

/// Lets a subject do `verbs` on every external metric of a namespace.
fn grant(world: &World, namespace: &str, name: &str, verbs: &str, subject: &str) {
    world.plane.apply(&format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: {name}, namespace: {namespace} }}
rules: [{{ apiGroups: [external.metrics.k8s.io], resources: ['*'], verbs: {verbs} }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: {name}, namespace: {namespace} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name} }}
subjects: [{subject}]
"
    ));
}

fn token(world: &World, namespace: &str, account: &str) -> String {
    world.plane.apply(&format!(
        "{{ apiVersion: v1, kind: ServiceAccount, \
         metadata: {{ name: {account}, namespace: {namespace} }} }}"
    ));
    let mut create = world.plane.kubectl();
    create.args(["--namespace", namespace, "create", "token", account]);
    run(&mut create).expect("a token can be made").trim().to_owned()
}

/// A read is a `list`: `get` alone does not do, through the aggregator or past it.
#[test]
fn reading_a_metric_needs_list() {
    let world = shared();
    let web = Workload::new(&world, "needs-list", 1);
    constant(&web, "needs_list_jobs");
    let path = path("needs-list", "needs_list_jobs");
    for (account, verbs) in [("getter", "[get]"), ("lister", "[list]")] {
        let subject = format!("{{ kind: ServiceAccount, name: {account}, namespace: needs-list }}");
        grant(&world, "needs-list", account, verbs, &subject);
    }
    let (getter, lister) =
        (token(&world, "needs-list", "getter"), token(&world, "needs-list", "lister"));
    eventually("the metric is there", SOON, || world.get_raw(&path));
    let through = |name: &str, token: &str, path: &str| {
        let config = world.plane.kubeconfig_with_token(name, token);
        run(world.plane.kubectl_as(&config).args(["get", "--raw", path]))
    };
    let direct = |token: &str, path: &str| world.installation.get_direct(&world.plane, token, path);

    let forbidden = "needs_list_jobs.external.metrics.k8s.io is forbidden: User \
                     \"system:serviceaccount:needs-list:getter\" cannot list resource \
                     \"needs_list_jobs\" in API group \"external.metrics.k8s.io\" \
                     in the namespace \"needs-list\"";
    let refused = through("getter", &getter, &path).expect_err("get is not enough");
    assert!(refused.contains(forbidden), "{refused}");
    let refused = direct(&getter, &path).expect_err("get is not enough");
    assert!(refused.contains("(Forbidden)") && refused.contains(forbidden), "{refused}");

    for answer in [through("lister", &lister, &path), direct(&lister, &path)] {
        let list: Value = serde_json::from_str(&answer.expect("list is what it takes"))
            .expect("answers are JSON");
        assert_eq!(list["items"][0]["value"], "20");
    }
    // `tidepole query` takes the same way, and says which rule is missing.
    let query = |name: &str, token: &str, metric: &str| {
        let config = world.plane.kubeconfig_with_token(name, token);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidepole"));
        command.args(["query", "--namespace=needs-list", "--output=json", metric, "--kubeconfig"]);
        run(command.arg(config))
    };
    let shown: Value =
        serde_json::from_str(&query("lister", &lister, "needs_list_jobs").expect("it is served"))
            .expect("it is JSON");
    assert_eq!((&shown["value"], &shown["error"]), (&"20".into(), &Value::Null), "{shown}");
    let refused = query("getter", &getter, "needs_list_jobs").expect_err("get is not enough");
    let rule =
        "- { apiGroups: [external.metrics.k8s.io], resources: [needs_list_jobs], verbs: [list] }";
    assert!(refused.contains("cannot list resource") && refused.contains(rule), "{refused}");
    let missing = query("lister", &lister, "needs_list_job").expect_err("a slip");
    assert!(missing.contains("did you mean \\\"needs_list_jobs\\\"?"), "{missing}");
    // A grant in one namespace is none in another.
    let elsewhere = self::path("default", "needs_list_jobs");
    let refused = direct(&lister, &elsewhere).expect_err("nothing was granted there");
    assert!(refused.contains("(Forbidden)"), "{refused}");
    let refused = direct("not-a-token", &path).expect_err("nobody's token");
    assert!(refused.contains("Unauthorized") || refused.contains("logged in"), "{refused}");
}

/// Grants and revocations take effect within the lives of the cached answers.
#[test]
fn a_grant_takes_effect_soon() {
    let world = shared();
    let web = Workload::new(&world, "late-grant", 1);
    constant(&web, "late_grant_jobs");
    let path = path("late-grant", "late_grant_jobs");
    eventually("the metric is there", SOON, || world.get_raw(&path));
    let late = token(&world, "late-grant", "late");
    let direct = || world.installation.get_direct(&world.plane, &late, &path);
    direct().expect_err("nothing is granted yet");
    let subject = "{ kind: ServiceAccount, name: late, namespace: late-grant }";
    grant(&world, "late-grant", "late", "[list]", subject);
    // A refusal is remembered for 10 s.
    eventually("the grant is seen", Duration::from_secs(20), direct);
}

/// The aggregator's client certificate is trusted to name the caller: the review that we send has
/// the very identity that the API server established, and `kubectl --as` shows it.
#[test]
fn front_proxy_identity_is_what_rbac_is_asked_about() {
    let world = shared();
    let web = Workload::new(&world, "front-proxy", 1);
    constant(&web, "front_proxy_jobs");
    let path = path("front-proxy", "front_proxy_jobs");
    let subject = "{ apiGroup: rbac.authorization.k8s.io, kind: User, name: 'ålice@example.com' }";
    grant(&world, "front-proxy", "alice", "[list]", subject);
    eventually("the metric is there", SOON, || world.get_raw(&path));
    let mut read = world.plane.kubectl();
    read.args(["--as=ålice@example.com", "--as-group=crew", "--as-group=deck, hands"]);
    run(read.args(["get", "--raw", &path])).expect("alice may list");

    let review = eventually("the review was audited", SOON, || {
        let reviews = world.reviews("subjectaccessreviews");
        let alice = |review: &Value| review["spec"]["user"] == "ålice@example.com";
        let found = reviews.iter().find(|&review| alice(review)).cloned();
        found.ok_or_else(|| format!("{} reviews of others", reviews.len()))
    });
    let spec = &review["spec"];
    let mut groups: Vec<&str> =
        spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["crew", "deck, hands", "system:authenticated"]);
    let attributes = &spec["resourceAttributes"];
    for (key, value) in [
        ("verb", "list"),
        ("group", "external.metrics.k8s.io"),
        ("version", "v1beta1"),
        ("resource", "front_proxy_jobs"),
        ("namespace", "front-proxy"),
    ] {
        assert_eq!(attributes[key], value, "{attributes}");
    }
    assert_eq!(review["status"]["allowed"], true);
}

/// The HPA controller reads with its own `ServiceAccount` and Kubernetes' default roles; nothing of
/// ours names it.
#[test]
fn hpa_controller_reads_with_default_rbac() {
    let world = shared();
    let web = Workload::new(&world, "default-rbac", 1);
    constant(&web, "default_rbac_jobs");
    web.autoscale(&["{ type: External, external: { metric: { name: default_rbac_jobs }, \
                     target: { type: AverageValue, averageValue: \"10\" } } }"]);
    web.expect_replicas(2);
    let user = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    let reviews = world.reviews("subjectaccessreviews");
    let ours = reviews.iter().find(|review| {
        review["spec"]["user"] == user
            && review["spec"]["resourceAttributes"]["resource"] == "default_rbac_jobs"
    });
    let ours = ours.expect("the adapter asked about the HPA controller");
    assert_eq!(ours["status"]["allowed"], true);
    let reason = ours["status"]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("system:controller:horizontal-pod-autoscaler"),
        "allowed by something else: {reason}"
    );
    let mut bindings = world.plane.kubectl();
    bindings.args(["get", "clusterrolebindings,rolebindings", "--all-namespaces"]);
    let text = run(bindings.arg("--output=json")).expect("bindings can be listed");
    let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    for binding in list["items"].as_array().into_iter().flatten() {
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with("tidepole") {
            assert!(!binding["subjects"].to_string().contains("horizontal"), "{binding}");
        }
    }
}

/// A client certificate of the cluster's own authority is a user, whoever presents it; headers
/// that claim another one are not believed. Health needs no credentials at all.
#[test]
fn anonymous_and_certificate_callers() {
    let world = shared();
    let web = Workload::new(&world, "certificates", 1);
    constant(&web, "certificates_jobs");
    let path = path("certificates", "certificates_jobs");
    eventually("the metric is there", SOON, || world.get_raw(&path));
    let direct = |kubeconfig: &std::path::Path, path: &str| {
        let mut kubectl = world.plane.kubectl_as(kubeconfig);
        kubectl
            .arg(format!("--server=https://127.0.0.1:{}", world.installation.port))
            .arg("--tls-server-name=tidepole.tidepole.svc")
            .arg(format!(
                "--certificate-authority={}",
                world.installation.certificates.join("ca.crt").display()
            ));
        run(kubectl.args(["get", "--raw", path]))
    };
    let boatman = world.plane.kubeconfig_of("boatman");
    let refused = direct(&boatman, &path).expect_err("nothing is granted");
    assert!(refused.contains("User \"boatman\" cannot list"), "{refused}");
    // A member of system:masters may do anything, as everywhere in Kubernetes.
    direct(&world.plane.admin, &path).expect("administrators may read");

    let (status, refused) = world.get_anonymously(&path).expect("the adapter answers");
    assert_eq!(status, 403, "{refused}");
    assert!(refused.contains("system:anonymous"), "{refused}");
    for health in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(world.get_anonymously(health), Ok((200, "ok".to_owned())), "{health}");
    }
}
