//! The original's own examples: the rows of its tests, and the files that its documents, its Helm
//! chart and its generator of legacy configs show.

use std::fmt::Write;
use std::sync::Arc;

use crate::model::{Selector, SeriesShape};
use crate::rules::registry::tests::{names, query};
use crate::rules::testing::{Cluster, parse, registry, shape};
use crate::rules::{Registry, Rule, RuleFile};

/// The six rules of the legacy config and of the Helm chart, with what its generator takes: a
/// prefix of labels and a range.
fn default_rules(prefix: &str, range: &str) -> RuleFile {
    let containers = r#"{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}"#;
    let others = format!(r#"{{{prefix}namespace!="",__name__!~"^container_.*"}}"#);
    let overrides = "{overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}";
    let template = format!("{{template: \"{prefix}<<.Resource>>\"}}");
    let matchers = "<<.LabelMatchers>>";
    let container = r#"<<.LabelMatchers>>,container!="POD""#;
    let rate =
        |matchers: &str| format!("sum(rate(<<.Series>>{{{matchers}}}[{range}])) by (<<.GroupBy>>)");
    let sum = |matchers: &str| format!("sum(<<.Series>>{{{matchers}}}) by (<<.GroupBy>>)");
    let mut text = "rules:\n".to_owned();
    for (series, is_not, matches, resources, query) in [
        (containers, "", "^container_(.*)_seconds_total$", overrides, rate(container)),
        (
            containers,
            "^container_.*_seconds_total$",
            "^container_(.*)_total$",
            overrides,
            rate(container),
        ),
        (containers, "^container_.*_total$", "^container_(.*)$", overrides, sum(container)),
        (&others, ".*_total$", "", &template, sum(matchers)),
        (&others, ".*_seconds_total", "^(.*)_total$", &template, rate(matchers)),
        (&others, "", "^(.*)_seconds_total$", &template, rate(matchers)),
    ] {
        let filters = if is_not.is_empty() { String::new() } else { format!("isNot: '{is_not}'") };
        let filters = if filters.is_empty() { "[]".to_owned() } else { format!("[{{{filters}}}]") };
        let _ = write!(
            text,
            "- seriesQuery: '{series}'\n  seriesFilters: {filters}\n  resources: {resources}\n  \
             name: {{matches: '{matches}', as: ''}}\n  metricsQuery: '{query}'\n"
        );
    }
    text += "resourceRules:\n  cpu:\n    containerQuery: sum(rate(container_cpu_usage_seconds_total{<<.LabelMatchers>>}[5m])) by (<<.GroupBy>>)\n    \
             nodeQuery: sum(rate(container_cpu_usage_seconds_total{<<.LabelMatchers>>, id='/'}[5m])) by (<<.GroupBy>>)\n    \
             resources:\n      overrides:\n        instance: {resource: node}\n        namespace: {resource: namespace}\n        pod: {resource: pod}\n    \
             containerLabel: container\n  memory: {containerLabel: container}\n  window: 5m\n";
    parse(&text)
}

/// Core resources, and two groups that modern clusters do not have any more.
fn cluster() -> Cluster {
    Cluster::of(&[
        ("", "v1", "pods", "Pod", true),
        ("", "v1", "services", "Service", true),
        ("", "v1", "nodes", "Node", false),
        ("", "v1", "persistentvolumes", "PersistentVolume", false),
        ("", "v1", "namespaces", "Namespace", false),
        ("extensions", "v1beta1", "ingresses", "Ingress", true),
        ("extensions", "v1beta1", "deployments", "Deployment", true),
    ])
}

fn with_series(file: &RuleFile, series: &[&[SeriesShape]]) -> Registry {
    let of_rule = |rule: &Rule| -> Option<Arc<[SeriesShape]>> {
        let at = file.custom.iter().position(|r| r.place() == rule.place()).unwrap();
        Some(series[at].into())
    };
    registry(file, &cluster(), of_rule)
}

#[test]
#[expect(clippy::too_many_lines, reason = "two tables of one set of rules")]
fn default_rules_name_and_query_as_the_original() {
    let file = default_rules("kube_", "1m");
    let container = ["pod", "namespace", "container"];
    let registry = with_series(
        &file,
        &[
            &[shape("container_some_time_seconds_total", &container)],
            &[shape("container_some_count_total", &container)],
            &[shape("container_some_usage", &container)],
            &[
                shape("node_gigawatts", &["kube_node"]),
                shape("volume_claims", &["kube_persistentvolume"]),
                shape("service_proxy_packets", &["kube_service", "kube_namespace"]),
            ],
            &[shape(
                "ingress_hits_total",
                &["kube_ingress", "kube_service", "kube_pod", "kube_namespace"],
            )],
            &[
                shape("node_fan_seconds_total", &["kube_node"]),
                shape("work_queue_wait_seconds_total", &["kube_deployment", "kube_namespace"]),
            ],
        ],
    );
    assert_eq!(
        names(&registry),
        [
            "namespaces/ingress_hits (root)",
            "namespaces/service_proxy_packets (root)",
            "namespaces/some_count (root)",
            "namespaces/some_time (root)",
            "namespaces/some_usage (root)",
            "namespaces/work_queue_wait (root)",
            "nodes/node_fan (root)",
            "nodes/node_gigawatts (root)",
            "persistentvolumes/volume_claims (root)",
            "pods/ingress_hits",
            "pods/some_count",
            "pods/some_time",
            "pods/some_usage",
            "services/ingress_hits",
            "services/service_proxy_packets",
            "deployments.extensions/work_queue_wait",
            "ingresses.extensions/ingress_hits",
        ]
    );
    let (some, two) = (Some("somens"), &["somepod1", "somepod2"][..]);
    for (of, metric, selector, text) in [
        (
            (some, "pods", two),
            "some_usage",
            "",
            r#"sum(container_some_usage{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}) by (pod)"#,
        ),
        (
            (some, "pods", two),
            "some_count",
            "",
            r#"sum(rate(container_some_count_total{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}[1m])) by (pod)"#,
        ),
        (
            (some, "pods", two),
            "some_time",
            "",
            r#"sum(rate(container_some_time_seconds_total{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}[1m])) by (pod)"#,
        ),
        (
            (some, "services", &["somesvc"]),
            "ingress_hits",
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_service="somesvc"}[1m])) by (kube_service)"#,
        ),
        (
            (some, "services", &["somesvc"]),
            "ingress_hits",
            "param1=value1",
            r#"sum(rate(ingress_hits_total{param1="value1",kube_namespace="somens",kube_service="somesvc"}[1m])) by (kube_service)"#,
        ),
        (
            (some, "ingresses.extensions", &["someingress"]),
            "ingress_hits",
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_ingress="someingress"}[1m])) by (kube_ingress)"#,
        ),
        (
            (some, "pods", two),
            "ingress_hits",
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_pod=~"somepod1|somepod2"}[1m])) by (kube_pod)"#,
        ),
        (
            (some, "services", &["somesvc"]),
            "service_proxy_packets",
            "",
            r#"sum(service_proxy_packets{kube_namespace="somens",kube_service="somesvc"}) by (kube_service)"#,
        ),
        (
            (some, "deployments.extensions", &["somedep"]),
            "work_queue_wait",
            "",
            r#"sum(rate(work_queue_wait_seconds_total{kube_namespace="somens",kube_deployment="somedep"}[1m])) by (kube_deployment)"#,
        ),
        (
            (None, "nodes", &["somenode"]),
            "node_gigawatts",
            "",
            r#"sum(node_gigawatts{kube_node="somenode"}) by (kube_node)"#,
        ),
        (
            (None, "persistentvolumes", &["somepv"]),
            "volume_claims",
            "",
            r#"sum(volume_claims{kube_persistentvolume="somepv"}) by (kube_persistentvolume)"#,
        ),
        (
            (None, "nodes", &["somenode"]),
            "node_fan",
            "",
            r#"sum(rate(node_fan_seconds_total{kube_node="somenode"}[1m])) by (kube_node)"#,
        ),
    ] {
        assert_eq!(query(&registry, &cluster(), of, metric, selector).as_deref(), Ok(text));
    }
    assert!(registry.problems().is_empty());
    assert_eq!(file.resource_rules.unwrap().line, 33);
}

#[test]
fn default_rules_of_the_chart_list_what_the_original_lists() {
    let file = default_rules("", "5m");
    let container = [shape("container_some_usage", &["pod", "namespace", "container"])];
    let others = [
        shape("ingress_hits_total", &["ingress", "service", "pod", "namespace"]),
        shape("service_proxy_packets", &["service", "namespace"]),
        shape("work_queue_wait_seconds_total", &["namespace", "deployment"]),
    ];
    let registry =
        with_series(&file, &[&container, &container, &container, &others, &others, &others]);
    assert_eq!(
        names(&registry),
        [
            "namespaces/ingress_hits (root)",
            "namespaces/service_proxy_packets (root)",
            "namespaces/some_usage (root)",
            "namespaces/work_queue_wait (root)",
            "pods/ingress_hits",
            "pods/some_usage",
            "services/ingress_hits",
            "services/service_proxy_packets",
            "deployments.extensions/work_queue_wait",
            "ingresses.extensions/ingress_hits",
        ]
    );
}

/// The sample config of the original's documents. As printed there it is no YAML (a comma behind a
/// flow mapping, quotes within quotes) and has a misspelt key; here these are mended.
const SAMPLE: &str = r#"
rules:
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  resources:
    overrides:
      namespace: {resource: "namespace"}
      pod: {resource: "pod"}
  name:
    matches: "^container_(.*)_seconds_total$"
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[2m])) by (<<.GroupBy>>)'
- seriesQuery: '{__name__=~"^container_.*_total",container!="POD",namespace!="",pod!=""}'
  resources:
    overrides:
      namespace: {resource: "namespace"}
      pod: {resource: "pod"}
  seriesFilters:
  - isNot: "^container_.*_seconds_total$"
  name: {matches: "^container_(.*)_total$"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[2m])) by (<<.GroupBy>>)'
- seriesQuery: '{namespace!="",__name__!="^container_.*"}'
  name: {matches: "^(.*)_total$"}
  resources:
    template: "<<.Resource>>"
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[2m])) by (<<.GroupBy>>)'
- seriesQuery: 'cheddar{sharp="true"}'
  name: {as: "cheesy_goodness"}
  resources:
    overrides:
      brand: {group: "cheese.io", resource: "brand"}
  metricsQuery: 'count(cheddar{sharp="true"})'
externalRules:
- seriesQuery: '{__name__="queue_consumer_lag",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources:
    overrides: { namespace: {resource: "namespace"} }
- seriesQuery: '{__name__="queue_depth",topic!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources:
    namespaced: false
"#;

#[test]
fn the_documents_examples_load_and_ask() {
    let file = parse(SAMPLE);
    let cluster = Cluster::new();
    let registry = registry(&file, &cluster, |rule| {
        Some(match rule.series_query() {
            q if q.contains("container_.*_total") => {
                vec![shape("container_net_total", &["namespace", "pod"])].into()
            }
            q if q.contains("=~") => {
                vec![shape("container_cpu_seconds_total", &["namespace", "pod"])].into()
            }
            q if q.contains("cheddar") => vec![shape("cheddar", &["sharp", "brand"])].into(),
            q if q.contains("lag") => vec![shape("queue_consumer_lag", &["name"])].into(),
            q if q.contains("depth") => vec![shape("queue_depth", &["topic", "name"])].into(),
            _ => vec![shape("hits_total", &["namespace", "pod", "job"])].into(),
        })
    });
    assert_eq!(
        names(&registry),
        [
            "namespaces/cpu (root)",
            "namespaces/hits (root)",
            "namespaces/net (root)",
            "pods/cpu",
            "pods/hits",
            "pods/net",
            "jobs.batch/hits",
            "brands.cheese.io/cheesy_goodness",
        ]
    );
    assert_eq!(
        query(&registry, &cluster, (Some("n"), "jobs.batch", &["j"]), "hits", "").as_deref(),
        Ok(r#"sum(rate(hits_total{namespace="n",job="j",container!="POD"}[2m])) by (job)"#)
    );
    assert_eq!(
        query(&registry, &cluster, (Some("n"), "brands.cheese.io", &["b"]), "cheesy_goodness", ""),
        Err("rules[3] has no label for namespaces: its resources need an override or a template"
            .to_owned())
    );
    let external = |metric: &str, selector: &str| {
        let metric = registry.external(metric).unwrap();
        metric.external("default", &Selector::parse(selector).unwrap()).unwrap()
    };
    assert_eq!(
        external("queue_consumer_lag", "name=a"),
        r#"sum(queue_consumer_lag{name="a",namespace="default"}) by (name)"#
    );
    assert_eq!(
        external("queue_depth", "namespace=queue,name=my-sample-queue"),
        r#"sum(queue_depth{name="my-sample-queue",namespace="queue"}) by (name)"#
    );
    // The walk-through's rule.
    let file = parse(
        "rules:\n- seriesQuery: '{__name__=~\"^http_requests_.*\",kubernetes_pod_name!=\"\",kubernetes_namespace!=\"\"}'\n  \
         resources:\n    overrides:\n      kubernetes_namespace: {resource: \"namespace\"}\n      \
         kubernetes_pod_name: {resource: \"pod\"}\n  name:\n    matches: \"^(.*)_total\"\n    as: \"${1}_per_second\"\n  \
         metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'\n",
    );
    let registry = crate::rules::testing::registry(&file, &cluster, |_| {
        Some(
            vec![shape("http_requests_total", &["kubernetes_namespace", "kubernetes_pod_name"])]
                .into(),
        )
    });
    assert_eq!(
        query(
            &registry,
            &cluster,
            (Some("default"), "pods", &["a", "b"]),
            "http_requests_per_second",
            ""
        )
        .as_deref(),
        Ok(
            r#"sum(rate(http_requests_total{kubernetes_namespace="default",kubernetes_pod_name=~"a|b"}[2m])) by (kubernetes_pod_name)"#
        )
    );
}
