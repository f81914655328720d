mod recorded;
mod samples;

use std::sync::Arc;

use crate::model::{ResourceDirectory, Selector};
use crate::rules::testing::{Cluster, listed, parse, registry, shape};
use crate::rules::{Registry, RuleMetric};

fn names(registry: &Registry) -> Vec<String> {
    let name = |name: &crate::model::CustomMetricName| {
        let root = if name.namespaced { "" } else { " (root)" };
        format!("{}/{}{root}", name.resource, name.metric)
    };
    registry.custom_names().iter().map(name).collect()
}

/// A metric by its resource, as in a path.
fn find<'r>(
    registry: &'r Registry,
    cluster: &Cluster,
    resource: &str,
    namespaced: bool,
    metric: &str,
) -> Option<&'r RuleMetric> {
    registry.custom(&cluster.resolve_path(resource)?.id, namespaced, metric)
}

/// The query about objects of certain names.
fn query(
    registry: &Registry,
    cluster: &Cluster,
    (namespace, resource, names): (Option<&str>, &str, &[&str]),
    metric: &str,
    selector: &str,
) -> Result<String, String> {
    let metric = find(registry, cluster, resource, namespace.is_some(), metric)
        .ok_or_else(|| "no metric".to_owned())?;
    let resource = cluster.resolve_path(resource).unwrap();
    let text = metric.objects(&resource, namespace, &Selector::parse(selector).unwrap())?;
    let names: Vec<Arc<str>> = names.iter().map(|&name| name.into()).collect();
    text.0.write(Some(&names)).map_err(|error| error.to_string())
}

const OVERRIDES: &str = "{overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}";

#[test]
fn the_later_rule_wins_and_within_a_rule_the_later_series() {
    let file = parse(&format!(
        "rules:\n\
         - {{seriesQuery: a, name: {{as: many}}, resources: {OVERRIDES}, metricsQuery: '1 <<.Series>>'}}\n\
         - {{seriesQuery: b, name: {{as: many}}, resources: {{template: '<<.Resource>>'}}, metricsQuery: '2 <<.Series>>'}}\n"
    ));
    let cluster = Cluster::new();
    let registry = registry(&file, &cluster, |rule| {
        Some(match &**rule.series_query() {
            "a" => {
                vec![shape("x", &["namespace", "pod"]), shape("y", &["namespace", "pod"])].into()
            }
            _ => vec![shape("z", &["namespace", "service"])].into(),
        })
    });
    assert_eq!(names(&registry), ["namespaces/many (root)", "pods/many", "services/many"]);
    let ask = |of| query(&registry, &cluster, of, "many", "").unwrap();
    assert_eq!(ask((Some("n"), "pods", &["p"])), "1 y");
    assert_eq!(ask((Some("n"), "services", &["p"])), "2 z");
    assert_eq!(ask((None, "namespaces", &["p"])), "2 z");
}

#[test]
fn a_rule_that_fails_breaks_nothing_else() {
    let file = parse(&format!(
        "rules:\n\
         - {{seriesQuery: a, resources: {OVERRIDES}, metricsQuery: x}}\n\
         - {{seriesQuery: a, name: {{as: b}}, resources: {{overrides: {{x: {{group: later.io, resource: unicorn}}}}}}}}\n\
         - {{seriesQuery: never, name: {{as: c}}, resources: {OVERRIDES}}}\n"
    ));
    let series = |rule: &crate::rules::Rule| {
        (&**rule.series_query() == "a")
            .then(|| vec![shape("a", &["pod", "x"]), shape("lost", &["z"])].into())
    };
    let registry = registry(&file, &Cluster::new(), series);
    assert_eq!(names(&registry), ["pods/a"]);
    assert_eq!(registry.skipped(), 1);
    let [problem] = registry.problems() else { panic!("{:?}", registry.problems()) };
    assert_eq!((problem.place.line, &*problem.place.field), (3, "rules[1]"));
    assert_eq!(
        problem.message,
        "resources.overrides.x: the cluster has no resource \"unicorn\" in the group \"later.io\"; \
         the rule gives no metrics until it has"
    );
    // And it recovers.
    let later = Cluster::of(&[("later.io", "v1", "unicorns", "Unicorn", true)]);
    let all: Vec<_> = file.custom.iter().map(|rule| listed(rule, series(rule))).collect();
    assert_eq!(names(&Registry::build(&all, &[], &later)), ["unicorns.later.io/b"]);
}

#[test]
fn of_two_labels_for_one_resource_the_first_is_asked_by() {
    let file = parse(
        "rules:\n- seriesQuery: a\n  metricsQuery: '<<.LabelMatchers>>'\n  resources:\n    overrides:\n      \
         zeta: {resource: pod}\n      alpha: {resource: Pods}\n",
    );
    let cluster = Cluster::new();
    let registry = registry(&file, &cluster, |_| {
        Some(vec![shape("a", &["alpha"]), shape("b", &["zeta"])].into())
    });
    assert_eq!(names(&registry), ["pods/a", "pods/b"]);
    let of = (None, "pods", &["x"][..]);
    assert_eq!(query(&registry, &cluster, of, "b", ""), Err("no metric".to_owned()));
    let metric = find(&registry, &cluster, "pods", true, "a").unwrap();
    let pods = cluster.resolve("", "pod").unwrap();
    let text = metric.objects(&pods, None, &Selector::default()).unwrap();
    assert_eq!(text.0.write(Some(&["x".into()])), Ok("zeta=\"x\"".to_owned()));
    // What is listed by one label and asked by another finds nothing: that is told.
    let [problem] = registry.problems() else { panic!("{:?}", registry.problems()) };
    assert!(
        problem.message.starts_with("the label alpha is read as pods, but queries ask by zeta")
    );
}

#[test]
fn objects_outside_of_namespaces_can_be_asked_for_at_the_root_too() {
    let file = parse(
        "rules: [{seriesQuery: a, resources: {template: '<<.Resource>>'}, metricsQuery: '<<.LabelMatchers>>'}]",
    );
    let cluster = Cluster::new();
    let registry = registry(&file, &cluster, |_| {
        Some(vec![shape("a", &["namespace", "region", "job"])].into())
    });
    // As the original lists them.
    assert_eq!(
        names(&registry),
        ["namespaces/a (root)", "jobs.batch/a", "regions.geo.example.com/a"]
    );
    let ask = |of| query(&registry, &cluster, of, "a", "").unwrap();
    assert_eq!(ask((None, "regions.geo.example.com", &["eu"])), "region=\"eu\"");
    assert_eq!(ask((Some("n"), "regions", &["eu"])), "namespace=\"n\",region=\"eu\"");
    assert!(find(&registry, &cluster, "jobs.batch", false, "a").is_none());
}

#[test]
fn texts_are_shared_between_rules_that_ask_the_same() {
    let rule = |name: &str| {
        format!(
            "- {{seriesQuery: a, name: {{as: {name}}}, resources: {OVERRIDES}, metricsQuery: 'sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)'}}\n"
        )
    };
    let file = parse(&format!("rules:\n{}{}", rule("x"), rule("y")));
    let cluster = Cluster::new();
    let registry =
        registry(&file, &cluster, |_| Some(vec![shape("s", &["namespace", "pod"])].into()));
    let pods = cluster.resolve("", "pods").unwrap();
    let text = |metric: &str, namespace: &str, selector: &str| {
        let metric = find(&registry, &cluster, "pods", true, metric).unwrap();
        metric.objects(&pods, Some(namespace), &Selector::parse(selector).unwrap()).unwrap()
    };
    assert_eq!(text("x", "n", "a=b"), text("y", "n", "a=b"));
    assert_eq!(text("x", "n", ""), text("x", "n", ""));
    for other in [text("x", "m", "a=b"), text("x", "n", "a in (b)"), text("x", "n", "")] {
        assert_ne!(text("x", "n", "a=b"), other);
    }
    let text = text("x", "n", "a=b");
    assert!(text.0.is_divisible());
    assert_eq!(text.0.object_label(), "pod");
    assert_eq!(
        text.0.write(None),
        Ok("sum(s{a=\"b\",namespace=\"n\",pod=~\".+\"}) by (pod)".to_owned())
    );
    assert_eq!(
        text.0.identity(),
        r#""sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)" on "s" a="b" namespace="n" by "pod""#
    );
}

#[test]
fn very_many_series_cost_few_look_ups() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counting(Cluster, AtomicUsize);
    impl ResourceDirectory for Counting {
        fn resolve(&self, group: &str, resource: &str) -> Option<Arc<crate::model::Resource>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.resolve(group, resource)
        }
        fn generation(&self) -> u64 {
            0
        }
    }

    let file = parse("rules: [{seriesQuery: a, resources: {template: '<<.Resource>>'}}]");
    let shapes: Vec<_> = (0..20_000)
        .map(|i| shape(&format!("m{i}"), &["namespace", "pod", "instance", "endpoint", "le"]))
        .collect();
    let counting = Counting(Cluster::new(), AtomicUsize::new(0));
    let registry = Registry::build(&[listed(&file.custom[0], Some(shapes.into()))], &[], &counting);
    assert_eq!(registry.custom_names().len(), 40_000);
    assert!(registry.custom_names().is_sorted());
    assert_eq!(counting.1.load(Ordering::Relaxed), 5);
}
