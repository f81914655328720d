//! The chart over a matrix of values: what holds for each, what each is for, and that the API server
//! takes all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::helm::{Rendered, render, text};
use super::{check, plane};
use crate::control_plane::ControlPlane;

/// Values, and what has to come of them.
struct Case {
    name: &'static str,
    values: &'static str,
    check: fn(&Rendered),
    /// What an admission under "restricted" warns of; mostly nothing.
    warns: &'static str,
}

const fn case(name: &'static str, values: &'static str, check: fn(&Rendered)) -> Case {
    Case { name, values, check, warns: "" }
}

const EXTERNAL: &str = "v1beta1.external.metrics.k8s.io";
const CUSTOM: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

const CASES: &[Case] = &[
    case("defaults", "{}", |it| {
        assert_eq!(it.names("APIService"), [CUSTOM[0], EXTERNAL, CUSTOM[1]]);
        assert_eq!(it.one("Deployment", "")["spec"]["replicas"], 2);
        assert_eq!(it.names("PodDisruptionBudget"), ["demo-tidepole"]);
        let tls = &it.config()["server"]["tls"];
        let managed = json!({ "secret": "demo-tidepole-serving", "service": "demo-tidepole" });
        assert_eq!(tls["managed"], managed);
        let secrets = &it.one("Role", ":certificates")["rules"][0];
        assert_eq!(secrets["resourceNames"], json!(["demo-tidepole-serving"]));
        let services = &it.one("ClusterRole", ":certificates")["rules"][0];
        assert_eq!(services["resourceNames"], json!([EXTERNAL, CUSTOM[0], CUSTOM[1]]));
        let environment = it.container()["env"].to_string();
        assert!(environment.contains(r#""fieldPath":"metadata.namespace""#), "{environment}");
    }),
    case(
        "managed, with lives of one's own",
        "certificates: { managed: { secretName: pair, caLifetime: 8760h, certLifetime: 720h, \
         renewBefore: 240h } }",
        |it| {
            let managed = json!({ "secret": "pair", "service": "demo-tidepole",
                                  "caLifetime": "8760h", "certLifetime": "720h",
                                  "renewBefore": "240h" });
            assert_eq!(it.config()["server"]["tls"]["managed"], managed);
            let secrets = &it.one("Role", ":certificates")["rules"][0];
            assert_eq!(secrets["resourceNames"], json!(["pair"]));
        },
    ),
    case("beside prometheus-adapter", "apis: { custom: false }", |it| {
        assert_eq!(it.names("APIService"), [EXTERNAL]);
        assert_eq!(it.config()["apis"], json!({ "external": true, "custom": false }));
        assert!(!it.text.contains("custom.metrics.k8s.io"), "{}", it.text);
        assert!(!it.text.contains("*/scale") && !it.text.contains("[nodes, pods, services]"));
    }),
    case("beside KEDA", "apis: { external: false }", |it| {
        assert_eq!(it.names("APIService"), CUSTOM);
        assert_eq!(it.config()["apis"], json!({ "external": false, "custom": true }));
        assert!(!it.text.contains("external.metrics.k8s.io"), "{}", it.text);
    }),
    case("cert-manager", "certificates: { mode: certManager }", |it| {
        assert_eq!(it.names("Certificate"), ["demo-tidepole-ca", "demo-tidepole-serving"]);
        let serving = &it.one("Certificate", "-serving")["spec"];
        assert_eq!(serving["dnsNames"], json!(["demo-tidepole.install.svc"]));
        assert_eq!(serving["secretName"], "demo-tidepole-cert");
        for service in it.of_kind("APIService") {
            let from = &service["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            assert_eq!(from, "install/demo-tidepole-serving");
            assert!(service["spec"]["caBundle"].is_null());
        }
        own_pair(it, "demo-tidepole-cert");
    }),
    case(
        "cert-manager, an issuer of the cluster",
        "certificates: { mode: certManager, certManager: { issuerRef: { kind: ClusterIssuer, \
         name: internal } } }",
        |it| {
            assert!(it.of_kind("Issuer").is_empty());
            let issuer = &it.one("Certificate", "")["spec"]["issuerRef"];
            assert_eq!(*issuer, json!({ "kind": "ClusterIssuer", "name": "internal" }));
        },
    ),
    case(
        "files",
        "certificates: { mode: files, files: { secretName: pair, caBundle: \
         \"-----BEGIN CERTIFICATE-----\\nMA==\\n-----END CERTIFICATE-----\" } }",
        |it| {
            for service in it.of_kind("APIService") {
                let bundle = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
                assert_eq!(service["spec"]["caBundle"], bundle);
            }
            own_pair(it, "pair");
        },
    ),
    case(
        "IRSA",
        "{ prometheus: null, extraSources: [{ name: aws, aws: { region: eu-west-1 } }], \
         serviceAccount: { annotations: { eks.amazonaws.com/role-arn: \
         'arn:aws:iam::111122223333:role/tidepole' } } }",
        |it| {
            let annotations = &it.one("ServiceAccount", "")["metadata"]["annotations"];
            let role = "arn:aws:iam::111122223333:role/tidepole";
            assert_eq!(*annotations, json!({ "eks.amazonaws.com/role-arn": role }));
            assert_eq!(it.config()["sources"].as_array().map(Vec::len), Some(1));
        },
    ),
    case(
        "an account that is there, with an association of EKS Pod Identity",
        "serviceAccount: { create: false, name: metrics-reader }",
        |it| {
            assert!(it.of_kind("ServiceAccount").is_empty());
            assert_eq!(it.pod()["spec"]["serviceAccountName"], "metrics-reader");
            let subjects = &it.one("ClusterRoleBinding", ":auth-delegator")["subjects"];
            assert_eq!(subjects[0]["name"], "metrics-reader");
        },
    ),
    case(
        "metrics",
        r#"
definitions:
  one.yaml:
    apiVersion: tidepole.dev/v1alpha1
    kind: ExternalMetric
    metadata: { name: one, namespace: default }
    spec: { metric: one, prometheus: { query: "up{namespace=\"$namespace\"} * 1000000" } }
  several.yaml:
    - { apiVersion: tidepole.dev/v1alpha1, kind: ExternalMetric, metadata: { name: two, namespace: default },
        spec: { metric: two, source: prometheus, prometheus: { query: up }, onNoData: 1000000 } }
    - { apiVersion: tidepole.dev/v1alpha1, kind: ExternalMetric, metadata: { name: three, namespace: default },
        spec: { metric: three, source: sim, simulated: { constant: "3" } } }
  text.yaml: |
    # Stays.
    apiVersion: tidepole.dev/v1alpha1
    kind: ExternalMetric
    metadata: { name: four, namespace: default }
    spec: { metric: four, source: sim, simulated: { constant: "4" } }
extraSources: [{ name: sim, simulated: {} }]
rules:
  custom:
    - seriesQuery: 'http_requests_total{namespace!="",pod!=""}'
      resources: { overrides: { namespace: { resource: namespace }, pod: { resource: pod } } }
      name: { matches: "^(.*)_total$", as: "${1}_per_second" }
      metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
  external:
    - seriesQuery: 'queue_depth{namespace!=""}'
      resources: { overrides: { namespace: { resource: namespace } } }
      metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (queue)'
  source: prometheus
  relistInterval: 5m
config: { defaults: { refresh: 30s, maxAge: 5m }, server: { limits: { connections: 4096 } } }
"#,
        |it| {
            let config = it.config();
            let rule = json!({ "path": "/etc/tidepole/rules/config.yaml", "source": "prometheus",
                               "relistInterval": "5m" });
            assert_eq!(config["rules"], json!([rule]));
            assert_eq!(config["server"]["limits"]["connections"], 4096);
            assert_eq!(config["server"]["auth"], "delegated", "what is not said stays");
            let maps = it.one("ConfigMap", "-metrics")["data"].clone();
            assert!(text(&maps["several.yaml"]).contains("\n---\n"), "{maps}");
            assert!(text(&maps["several.yaml"]).contains("onNoData: 1000000"), "{maps}");
            assert!(text(&maps["text.yaml"]).starts_with("# Stays.\n"), "{maps}");
            let rules = text(&it.one("ConfigMap", "-rules")["data"]["config.yaml"]);
            assert!(rules.contains("<<.Series>>{<<.LabelMatchers>>}"), "{rules}");
        },
    ),
    case(
        "rules of a ConfigMap that is there",
        "rules: { existingConfigMap: adapter-config, existingKey: rules.yml }",
        |it| {
            assert!(!it.names("ConfigMap").contains(&"demo-tidepole-rules".to_owned()));
            let volumes = it.pod()["spec"]["volumes"].to_string();
            let item =
                r#"{"items":[{"key":"rules.yml","path":"config.yaml"}],"name":"adapter-config"}"#;
            assert!(volumes.contains(item), "{volumes}");
        },
    ),
    case(
        "watched",
        "{ serviceMonitor: { enabled: true, labels: { release: prometheus }, authorization: \
         { credentials: { name: scraper, key: token } }, relabelings: \
         [{ action: replace, targetLabel: team, replacement: platform }] }, prometheusRule: \
         { enabled: true, labels: { release: prometheus } } }",
        |it| {
            let monitor = it.one("ServiceMonitor", "");
            assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
            let endpoint = &monitor["spec"]["endpoints"][0];
            assert_eq!(endpoint["authorization"]["credentials"]["name"], "scraper");
            let port = &endpoint["port"];
            let ports = it.one("Service", "")["spec"]["ports"].as_array().cloned();
            let ports = ports.expect("a Service has ports");
            assert!(ports.iter().any(|one| one["name"] == *port), "{port} in {ports:?}");
            let alerts = super::helm::chart().join("files/tidepole.rules.yaml");
            assert_eq!(it.of_kind("PrometheusRule").len(), usize::from(alerts.exists()));
        },
    ),
    case(
        "fenced in",
        "networkPolicy: { enabled: true, apiFrom: [{ ipBlock: { cidr: 10.0.0.0/16 } }], adminFrom: [], \
         egress: [{ ports: [{ port: 53, protocol: UDP }] }] }",
        |it| {
            let policy = &it.one("NetworkPolicy", "")["spec"];
            assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
            assert_eq!(policy["ingress"].as_array().map(Vec::len), Some(1), "no admin");
            assert_eq!(policy["ingress"][0]["from"][0]["ipBlock"]["cidr"], "10.0.0.0/16");
        },
    ),
    case("fenced in, as little as possible", "networkPolicy: { enabled: true }", |it| {
        let policy = &it.one("NetworkPolicy", "")["spec"];
        assert_eq!(policy["policyTypes"], json!(["Ingress"]));
        assert!(policy["ingress"][0]["from"].is_null(), "the API server is anywhere");
        assert_eq!(policy["ingress"][1]["ports"], json!([{ "port": "admin" }]));
    }),
    case(
        "placed",
        r#"
fullnameOverride: adapter
image: { repository: registry.example/tidepole, digest: "sha256:0123456789012345678901234567890123456789012345678901234567890123" }
imagePullSecrets: [{ name: registry }]
replicas: 3
podDisruptionBudget: { maxUnavailable: null, minAvailable: 50%, unhealthyPodEvictionPolicy: IfHealthyBudget }
topologySpreadConstraints:
  - { maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { a: b } } }
  - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule }
priorityClassName: system-cluster-critical
resources: { requests: { cpu: 200m, memory: 128Mi }, limits: { cpu: "1", memory: 512Mi } }
nodeSelector: { kubernetes.io/os: linux }
tolerations: [{ key: CriticalAddonsOnly, operator: Exists }]
affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: kubernetes.io/hostname, labelSelector: { matchLabels: { app.kubernetes.io/name: tidepole } } }] } }
podAnnotations: { example.com/a: b }
podLabels: { example.com/team: platform }
commonLabels: { example.com/part: metrics }
log: { format: text, level: debug }
extraArgs: [--log-level=info]
extraEnv: [{ name: HTTPS_PROXY, value: "http://proxy:3128" }]
extraEnvFrom: [{ secretRef: { name: keys, optional: true } }]
extraVolumes: [{ name: secrets, secret: { secretName: token } }]
extraVolumeMounts: [{ name: secrets, mountPath: /secrets, readOnly: true }]
ports: { https: 8443, admin: 9090 }
service: { annotations: { a: b }, labels: { c: d } }
rbac: { extraRules: [{ apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch] }] }
"#,
        |it| {
            let spec = &it.pod()["spec"];
            let image = "registry.example/tidepole@sha256:\
                         0123456789012345678901234567890123456789012345678901234567890123";
            assert_eq!(it.container()["image"], image);
            assert_eq!(spec["priorityClassName"], "system-cluster-critical");
            let spread = &spec["topologySpreadConstraints"];
            assert_eq!(spread[0]["labelSelector"]["matchLabels"], json!({ "a": "b" }));
            let own = json!({ "app.kubernetes.io/name": "tidepole",
                              "app.kubernetes.io/instance": "demo" });
            assert_eq!(spread[1]["labelSelector"]["matchLabels"], own);
            let budget = &it.one("PodDisruptionBudget", "")["spec"];
            assert_eq!(budget["minAvailable"], "50%");
            assert!(budget["maxUnavailable"].is_null());
            assert_eq!(it.config()["server"]["listen"], "[::]:8443");
            assert_eq!(it.one("Service", "adapter")["spec"]["ports"][0]["targetPort"], "https");
            assert!(
                it.objects.iter().all(|object| {
                    object["metadata"]["labels"]["example.com/part"] == "metrics"
                })
            );
            assert!(it.one("ClusterRole", "adapter")["rules"].to_string().contains("ingresses"));
        },
    ),
    case(
        "as little as possible",
        "{ rbac: { create: false, aggregate: false }, crds: { install: false }, \
         podDisruptionBudget: { enabled: false }, topologySpreadConstraints: [], replicas: 1, \
         prometheus: null }",
        |it| {
            for kind in
                ["ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "PodDisruptionBudget"]
            {
                assert!(it.of_kind(kind).is_empty(), "{kind}");
            }
            assert!(it.of_kind("CustomResourceDefinition").is_empty());
            assert!(it.pod()["spec"]["topologySpreadConstraints"].is_null());
        },
    ),
    case("resources of our own", "crds: { install: true, metricsAws: false }", |it| {
        for definition in it.of_kind("CustomResourceDefinition") {
            let about = &definition["metadata"];
            assert_eq!(about["annotations"]["helm.sh/resource-policy"], "keep", "{about}");
            assert_ne!(about["name"], "externalmetrics.metrics.aws");
        }
    }),
    Case {
        name: "on the nodes' network",
        values: "hostNetwork: true",
        check: |it| {
            assert_eq!(it.pod()["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");
        },
        warns: "host namespaces",
    },
];

/// A pair that is not Tidepole's own: mounted, named in the config, nothing to write.
fn own_pair(it: &Rendered, secret: &str) {
    let tls = &it.config()["server"]["tls"];
    assert_eq!(*tls, json!({ "certFile": "/certs/tls.crt", "keyFile": "/certs/tls.key" }));
    let volumes = it.pod()["spec"]["volumes"].to_string();
    assert!(volumes.contains(&format!(r#""secretName":"{secret}""#)), "{volumes}");
    assert!(!it.text.contains(":certificates"), "no permission to write Secrets and APIServices");
}

/// What holds whatever the values are.
fn whole(it: &Rendered) {
    let mut seen = BTreeSet::new();
    for object in &it.objects {
        let about = &object["metadata"];
        let key = (text(&object["kind"]), about["namespace"].to_string(), text(&about["name"]));
        assert!(seen.insert(key), "twice: {about}");
    }
    let pod = it.pod();
    let labels = pod["metadata"]["labels"].as_object().expect("pods have labels");
    let selectors = [
        &it.one("Deployment", "")["spec"]["selector"]["matchLabels"],
        &it.one("Service", "")["spec"]["selector"],
    ];
    let more = ["PodDisruptionBudget", "NetworkPolicy"].map(|kind| it.of_kind(kind));
    let more = more.iter().flatten().map(|object| {
        let spec = &object["spec"];
        let selector = if spec["selector"].is_null() { "podSelector" } else { "selector" };
        &spec[selector]["matchLabels"]
    });
    for selector in selectors.into_iter().chain(more) {
        let selector = selector.as_object().expect("a selector is a mapping");
        assert!(!selector.is_empty());
        assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)), "{selector:?}");
    }

    let service = it.one("Service", "");
    for api in it.of_kind("APIService") {
        let spec = &api["spec"];
        assert_eq!(spec["service"]["name"], service["metadata"]["name"]);
        assert_eq!(spec["service"]["namespace"], service["metadata"]["namespace"]);
        assert!(spec["insecureSkipTLSVerify"].is_null(), "nobody skips verification");
    }

    // Pod security "restricted", and a root that nobody writes to.
    let (spec, container) = (&pod["spec"], it.container());
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let security = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                           "capabilities": { "drop": ["ALL"] } });
    assert_eq!(container["securityContext"], security);
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_array().into_iter().flatten().map(|one| text(&one["name"])).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&spec["volumes"]));

    // What is mounted is made, unless the values name it.
    let maps = it.names("ConfigMap");
    for end in ["-config", "-metrics"] {
        assert_eq!(maps.iter().filter(|name| name.ends_with(end)).count(), 1, "{maps:?}");
    }
}

/// The values that `deploy/README.md` gives for a start are right, to the metric in them.
#[test]
fn values_of_the_readme_are_right() {
    let page = String::from_utf8(crate::read(&crate::root().join("deploy/README.md")));
    let page = page.expect("it is UTF-8");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).collect();
    let [block] = &blocks[..] else { panic!("one example: {blocks:?}") };
    let values = block.split("```").next().expect("split gives one at least");
    let it = render("tidepole", "tidepole", values).unwrap_or_else(|error| panic!("{error}"));
    whole(&it);
    assert_eq!(it.config()["sources"].as_array().map(Vec::len), Some(2));
    let folder = tempfile::tempdir().expect("a folder can be made");
    check(&it.write(folder.path())).expect("config and metric are valid");
}

#[test]
fn every_case_renders_and_the_api_server_takes_it() {
    let mut documents = BTreeMap::new();
    for case in CASES {
        println!("{}", case.name);
        let it = render("demo", "install", case.values);
        let it = it.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        whole(&it);
        (case.check)(&it);
        let folder = tempfile::tempdir().expect("a folder can be made");
        check(&it.write(folder.path())).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        // Most are the same in many cases.
        let all = it.text.split("\n---\n").map(|document| (document.to_owned(), case));
        documents.extend(all);
    }

    let plane = plane();
    plane.apply(
        "{ apiVersion: v1, kind: Namespace, metadata: { name: install, labels: \
         { pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted } } }",
    );
    let all: Vec<&str> = documents.keys().map(String::as_str).collect();
    let warned = match dry_run(&plane, &all) {
        Ok(warned) => warned,
        Err(said) => {
            for (document, case) in &documents {
                if let Err(said) = dry_run(&plane, &[document]) {
                    panic!("{}: {said}\nin\n{document}", case.name);
                }
            }
            panic!("only together: {said}");
        }
    };
    let expected: Vec<&str> =
        CASES.iter().map(|case| case.warns).filter(|w| !w.is_empty()).collect();
    assert_eq!(warned.len(), expected.len(), "{warned:#?}");
    for (line, part) in warned.iter().zip(expected) {
        assert!(line.contains(part), "{line}");
    }
}

/// Has the API server look at documents, every field of them: what it warns of because of "restricted",
/// or why it refuses them.
fn dry_run(plane: &ControlPlane, documents: &[&str]) -> Result<Vec<String>, String> {
    let mut apply = plane.kubectl();
    apply.args(["apply", "--dry-run=server", "--validate=strict", "--filename=-"]);
    apply.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = apply.spawn().expect("kubectl starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(documents.join("\n---\n").as_bytes()).expect("kubectl reads");
    drop(input);
    let output = child.wait_with_output().expect("kubectl ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(said);
    }
    Ok(said.lines().filter(|line| line.contains("PodSecurity")).map(str::to_owned).collect())
}
