//! What the original answered: discovery, and the queries it sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::model::{ResourceDirectory, Selector};
use crate::rules::Registry;
use crate::rules::registry::tests::find;
use crate::rules::testing::{Cluster, json, recorded, recorded_registry};

/// Every config of the recording.
fn configs() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(recorded("configs"))
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str()?.strip_suffix(".yaml").map(Into::into)
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 17);
    names
}

/// The first answer 200 with a resource list of a group's version.
fn discovery(cases: &[Value], group: &str) -> Option<BTreeSet<(String, bool)>> {
    let path = format!("/apis/{group}/v1beta1");
    let case = cases.iter().find(|case| case["path"] == path && case["status"] == 200)?;
    // One rule that fails is a rule's trouble alone here.
    if case["quirk"] == true {
        return None;
    }
    let rows = case["body"]["resources"].as_array().unwrap();
    let row = |row: &Value| {
        (row["name"].as_str().unwrap().to_owned(), row["namespaced"].as_bool().unwrap())
    };
    Some(rows.iter().map(row).collect())
}

#[test]
fn discovery_is_the_recorded_one() {
    let mut seen = 0;
    for config in configs() {
        let cases = json(&format!("cases/{config}.json"));
        let cases = cases.as_array().unwrap();
        let registry = recorded_registry(&config);
        if let Some(rows) = discovery(cases, "custom.metrics.k8s.io") {
            let own = registry.custom_names().iter();
            let own = own.map(|n| (format!("{}/{}", n.resource, n.metric), n.namespaced));
            assert_eq!(own.collect::<BTreeSet<_>>(), rows, "{config}");
            seen += rows.len();
        }
        if let Some(rows) = discovery(cases, "external.metrics.k8s.io") {
            let own = registry.external_names().iter().map(|name| (name.to_string(), true));
            assert_eq!(own.collect::<BTreeSet<_>>(), rows, "{config}");
            seen += rows.len();
        }
    }
    assert_eq!(seen, 337);
}

#[test]
fn queries_are_the_recorded_ones() {
    let mut seen = (0, 0);
    for config in configs() {
        let registry = recorded_registry(&config);
        for case in json(&format!("cases/{config}.json")).as_array().unwrap() {
            let Some(sent) = case["promql"].as_array().and_then(|all| all.first()) else {
                continue;
            };
            let (sent, id) = (sent.as_str().unwrap(), case["id"].as_str().unwrap());
            let path = case["path"].as_str().unwrap();
            let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
            let parameter = |name: &str| {
                url::form_urlencoded::parse(parameters.as_bytes())
                    .find(|(key, _)| key == name)
                    .map_or_else(Selector::default, |(_, text)| Selector::parse(&text).unwrap())
            };
            let segments: Vec<String> = path
                .trim_end_matches('/')
                .split('/')
                .skip(4)
                .map(|segment| percent_decode_str(segment).decode_utf8().unwrap().into_owned())
                .collect();
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            if path.contains("/external.metrics.k8s.io/") {
                let ["namespaces", namespace, metric] = segments[..] else { panic!("{id}") };
                // Kubernetes' paths take these for something else.
                let metric =
                    if ["status", "finalize"].contains(&metric) { "namespaces" } else { metric };
                let metric = registry.external(metric).unwrap_or_else(|| panic!("{id}"));
                let text = metric.external(namespace, &parameter("labelSelector"));
                assert_eq!(text.as_deref(), Ok(sent), "{id}");
                seen.1 += 1;
            } else {
                let text = custom(&registry, &segments, &parameter("metricLabelSelector"), sent);
                assert_eq!(text.as_deref(), Ok(sent), "{id}");
                seen.0 += 1;
            }
        }
    }
    assert_eq!(seen, (339, 88));
}

/// The query about the objects of a path. Which objects a `*` means is taken from the query that
/// was sent: that is not the rules' to know.
fn custom(
    registry: &Registry,
    segments: &[&str],
    selector: &Selector,
    sent: &str,
) -> Result<String, String> {
    let cluster = Cluster::new();
    let (namespace, resource, name, metric) = match *segments {
        ["namespaces", namespace, "metrics", metric, ..] => (None, "namespaces", namespace, metric),
        ["namespaces", namespace, resource, name, metric] => {
            (Some(namespace), resource, name, metric)
        }
        [resource, name, metric] => (None, resource, name, metric),
        _ => return Err(format!("no path of a metric: {segments:?}")),
    };
    let metric = find(registry, &cluster, resource, namespace.is_some(), metric)
        .ok_or_else(|| format!("no metric {segments:?}"))?;
    let resource = cluster.resolve_path(resource).unwrap();
    let text = metric.objects(&resource, namespace, selector)?.0;
    let names: Vec<Arc<str>> = if name == "*" {
        let matcher = format!("{}=", text.object_label());
        let from = sent.rfind(&matcher).map_or("", |at| &sent[at + matcher.len()..]);
        from.trim_start_matches('~')
            .split('"')
            .nth(1)
            .unwrap_or("")
            .split('|')
            .map(Arc::from)
            .collect()
    } else {
        vec![name.into()]
    };
    text.write(Some(&names)).map_err(|error| error.to_string())
}

#[test]
fn what_the_original_cannot_ask_is_refused() {
    let cluster = Cluster::new();
    let registry = recorded_registry("03-metric-selectors");
    let pods = cluster.resolve("", "pods").unwrap();
    let reqs = find(&registry, &cluster, "pods", true, "reqs").unwrap();
    let sized = Selector::parse("code>200").unwrap();
    assert_eq!(
        reqs.objects(&pods, Some("prod"), &sized).unwrap_err(),
        "code is compared by size, which Prometheus cannot do with labels"
    );
    let registry = recorded_registry("22-bad-queries");
    for (metric, cause) in [
        ("none", "metricsQuery of rules[8] gives an empty query"),
        ("empty", "metricsQuery of rules[9] gives an empty query"),
        ("badfield", "metricsQuery of rules[10] cannot be executed: "),
        ("badindex", "metricsQuery of rules[11] cannot be executed: "),
    ] {
        let metric = find(&registry, &cluster, "pods", true, metric).unwrap();
        let error = metric.objects(&pods, Some("prod"), &Selector::default()).unwrap_err();
        assert!(error.starts_with(cause), "{error}");
    }
    let registry = recorded_registry("17-external-namespaced");
    for (metric, rule) in [("ex_nolabel", 2), ("ex_noresources", 3)] {
        let metric = registry.external(metric).unwrap();
        assert_eq!(
            metric.external("prod", &Selector::default()).unwrap_err(),
            format!(
                "externalRules[{rule}] has no label for namespaces: its resources need an override \
                 or a template"
            )
        );
    }
}

#[test]
fn which_recorded_queries_can_be_divided() {
    let cluster = Cluster::new();
    let divisible = |config: &str, metric: &str| {
        let registry = recorded_registry(config);
        let pods = cluster.resolve("", "pods").unwrap();
        let metric = find(&registry, &cluster, "pods", true, metric).unwrap();
        metric.objects(&pods, Some("prod"), &Selector::default()).unwrap().0.is_divisible()
    };
    for (config, metric) in [
        ("01-basic", "http_requests"),
        ("09-default-rules", "cpu_usage"),
        ("15-values-custom", "mix"),
        ("22-bad-queries", "subquery"),
        ("22-bad-queries", "comment"),
        ("22-bad-queries", "without"),
        ("33-wild-custom", "heap_percent"),
        ("33-wild-custom", "histo_p90"),
        ("33-wild-custom", "gpu_util"),
    ] {
        assert!(divisible(config, metric), "{config} {metric}");
    }
    for (config, metric) in [
        ("20-special-labels", "w_max"),
        ("22-bad-queries", "parse"),
        ("22-bad-queries", "nolabelmatchers"),
        ("22-bad-queries", "topk"),
        ("22-bad-queries", "scalar"),
        ("22-bad-queries", "manymatch"),
        ("33-wild-custom", "fpm_util"),
    ] {
        assert!(!divisible(config, metric), "{config} {metric}");
    }
}
