//! `custom.metrics.k8s.io`: paths, parameters, both wire forms, discovery, authorization.

use std::fmt::Write as _;

use super::*;
use crate::model::{CustomItem, DescribedObject, GroupResource, ObjectChoice};
use crate::status::Hinted;

const C1: &str = "/apis/custom.metrics.k8s.io/v1beta1";
const C2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

/// What the provider was asked, in one line.
fn asked(request: &CustomRequest<'_>) -> String {
    let objects = match request.objects {
        ObjectChoice::Named(name) => format!("named {name:?}"),
        ObjectChoice::Matching(selector) => format!("matching {:?}", selector.to_string()),
    };
    let namespace = request.namespace.map_or("no namespace".to_owned(), |ns| format!("in {ns:?}"));
    let mut line = format!("{} of {} {objects} {namespace}", request.metric, request.resource);
    if !request.metric_selector.is_everything() {
        let _ = write!(line, " where {}", request.metric_selector);
    }
    line
}

fn item(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    api_version: &str,
    value: &str,
) -> CustomItem {
    CustomItem {
        object: DescribedObject {
            kind: kind.into(),
            namespace: namespace.map(Into::into),
            name: name.into(),
            api_version: api_version.into(),
        },
        timestamp: "2026-01-02T03:04:05.999Z".parse().unwrap(),
        value: Quantity::from_decimal(&value.parse().unwrap()),
    }
}

/// Answers by the metric's name; of any other name the error tells what was asked.
pub(super) fn read(request: &CustomRequest<'_>) -> Reading<CustomReading> {
    let ns = request.namespace;
    let items = match request.metric {
        "requests" => vec![item("Pod", ns, "web-0", "/v1", "12.5")],
        "hits" => vec![item("Ingress", ns, "main", "networking.k8s.io/v1", "7")],
        "mixed" => vec![
            item("Pod", ns, "web-0", "/v1", "1"),
            item("Pod", ns, "web-1", "/v1", "2"),
            item("Pod", Some("other"), "web-1", "/v1", "3"),
            item("Node", None, "say \"hi\"", "/v1", "4"),
            item("Node", None, "n1", "x.io/v1", "-0.5"),
            CustomItem {
                timestamp: "2026-01-02T03:04:06Z".parse().unwrap(),
                ..item("Node", None, "n1", "x.io/v1", "0")
            },
        ],
        "none" => Vec::new(),
        "many" => (0..10_000).map(|i| item("Pod", ns, &format!("web-{i}"), "/v1", "1")).collect(),
        "slow" => {
            let reading = reading(request, vec![item("Pod", ns, "web-0", "/v1", "1")]);
            return Reading::Wait(async { Ok(reading) }.boxed());
        }
        "never" => return Reading::Wait(futures::future::pending().boxed()),
        "unknown" => {
            return Reading::Ready(Err(ApiError::MetricUnknown("no metric unknown".into())));
        }
        "failed" => {
            return Reading::Ready(Err(ApiError::RuleFailed("unable to fetch metrics".into())));
        }
        _ => return Reading::Ready(Err(ApiError::MetricNotFound(asked(request)))),
    };
    Reading::Ready(Ok(reading(request, items)))
}

fn reading(request: &CustomRequest<'_>, items: Vec<CustomItem>) -> CustomReading {
    CustomReading {
        metric: request.metric.into(),
        selector: request.metric_selector.clone(),
        items,
    }
}

fn name(resource: &str, group: &str, metric: &str, namespaced: bool) -> CustomMetricName {
    let resource = GroupResource { group: group.into(), resource: resource.into() };
    CustomMetricName { resource, metric: metric.into(), namespaced }
}

fn both(custom_names: Vec<CustomMetricName>) -> Fixture {
    let settings = Settings { custom: true, ..Settings::default() };
    fixture_of(&settings, Provider { names: 1, custom_names: custom_names.into() })
}

/// What the provider was asked, or status and sentence of the refusal.
async fn outcome(f: &Fixture, path: &str) -> String {
    let (code, _, message) = f.get(&format!("{C1}{path}")).await.status();
    if code == 404 && message.contains(" of ") { message } else { format!("{code} {message}") }
}

/// Every form of a path that a real adapter was seen to answer.
#[tokio::test]
async fn paths_mean_what_they_mean_to_custom_metrics_apiserver() {
    const NOTHING: &str = "404 the server could not find the requested resource";
    const TOO_SHORT: &str = "400 invalid request path";
    let f = both(Vec::new());
    for (path, expected) in [
        ("/namespaces/prod/pods/web-0/m", "m of pods named \"web-0\" in \"prod\""),
        ("/namespaces/prod/pods/web-0/m/", "m of pods named \"web-0\" in \"prod\""),
        ("/namespaces/prod/pods/web%2D0/m", "m of pods named \"web-0\" in \"prod\""),
        ("/namespaces/prod/pods/*/m", "m of pods matching \"\" in \"prod\""),
        ("/namespaces/prod/pods/%2A/m", "m of pods matching \"\" in \"prod\""),
        ("/namespaces/*/pods/*/m", "m of pods matching \"\" in \"*\""),
        ("/namespaces/*/pods/web-0/m", "m of pods named \"web-0\" in \"*\""),
        ("/namespaces/prod/pods/*/m?labelSelector=a%3Db", "m of pods matching \"a=b\" in \"prod\""),
        ("/namespaces/prod/pods/x/m?labelSelector=a%3Db", "m of pods named \"x\" in \"prod\""),
        ("/namespaces/prod/Pods/web-0/m", "m of Pods named \"web-0\" in \"prod\""),
        ("/namespaces/prod/pods./web-0/m", "m of pods. named \"web-0\" in \"prod\""),
        (
            "/namespaces/prod/deployments.apps/web/m",
            "m of deployments.apps named \"web\" in \"prod\"",
        ),
        ("/namespaces/prod/namespaces/prod/m", "m of namespaces named \"prod\" in \"prod\""),
        ("/namespaces/prod/pods/../m", "m of pods named \"..\" in \"prod\""),
        ("/namespaces/prod/pods/%2E%2E/m", "m of pods named \"..\" in \"prod\""),
        ("/namespaces/prod/pods/web-0%00/m", "m of pods named \"web-0\\0\" in \"prod\""),
        ("/namespaces/pr%22d/pods/api-0/m", "m of pods named \"api-0\" in \"pr\\\"d\""),
        // A namespace's own metrics.
        ("/namespaces/prod/metrics/m", "m of namespaces named \"prod\" no namespace"),
        ("/namespaces/prod/metrics/status", "status of namespaces named \"prod\" no namespace"),
        ("/namespaces/prod/metrics/metrics", "metrics of namespaces named \"prod\" no namespace"),
        ("/namespaces/prod/metrics/m/any", "m of namespaces named \"prod\" no namespace"),
        ("/namespaces/*/metrics/m", "m of namespaces matching \"\" no namespace"),
        (
            "/namespaces/%2a/metrics/m?labelSelector=a",
            "m of namespaces matching \"a\" no namespace",
        ),
        // Objects outside of namespaces.
        ("/nodes/node-a/m", "m of nodes named \"node-a\" no namespace"),
        ("/nodes/*/m?labelSelector=a%21%3Db", "m of nodes matching \"a!=b\" no namespace"),
        ("/regions.geo.example.com/*/m", "m of regions.geo.example.com matching \"\" no namespace"),
        ("/metrics/web-0/A", "A of metrics named \"web-0\" no namespace"),
        // Names of metrics keep their case and are decoded once.
        ("/namespaces/prod/pods/p/UPPER_Case", "UPPER_Case of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/a%3Ab:c", "a:b:c of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/has+plus%20", "has+plus  of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/50%25", "50% of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/%2A", "* of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/q%3Fx=1", "q?x=1 of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/q?x=1", "q of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/%C3%A9.%C3%BC%7C", "é.ü| of pods named \"p\" in \"prod\""),
        ("/namespaces/prod/pods/p/status", "status of pods named \"p\" in \"prod\""),
        // Too few parts, too many, and forms of nothing.
        ("/namespaces/prod/m", TOO_SHORT),
        ("/namespaces/*/m", TOO_SHORT),
        ("/namespaces", NOTHING),
        ("/namespaces/prod", NOTHING),
        ("/pods", NOTHING),
        ("/nodes/n", NOTHING),
        ("/namespaces/prod/pods/m", NOTHING),
        ("/namespaces/prod/pods/web-0/m/extra", NOTHING),
        ("/a/b/c/d", NOTHING),
        ("/a/b/c/d/e", NOTHING),
        ("//namespaces/prod/pods/web-0/m", NOTHING),
        ("/namespaces//pods/web-0/m", NOTHING),
        ("/namespaces/prod/pods//m", NOTHING),
        ("/nodes//m", NOTHING),
        ("/namespaces/prod/pods/web-0/a/b", NOTHING),
        ("/namespaces/prod/pods/web-0/a%2Fb", NOTHING),
        ("/namespaces/prod/pods/web-0%2Fx/m", NOTHING),
        // What authorization takes for something else.
        ("/watch/nodes/m", NOTHING),
        ("/proxy/nodes/m", NOTHING),
        ("/namespaces/prod/status", NOTHING),
        ("/namespaces/prod/finalize/x/m", NOTHING),
        ("/namespaces/prod/pods/web-0/50%", "400 invalid percent-encoding in the path"),
    ] {
        assert_eq!(outcome(&f, path).await, expected, "{path}");
    }
}

/// Authorization decides on what the provider is asked, for every path that is read.
#[tokio::test]
async fn a_name_that_was_meant_is_authorized_as_its_own_read_would_be() {
    let f = both(Vec::new());
    for (path, second) in [
        (format!("{C1}/namespaces/shop/pods/*/METRIC"), "unknown-of-pods"),
        (
            format!("{C1}/namespaces/shop/ingresses.networking.k8s.io/main/METRIC"),
            "unknown-of-ingresses.networking.k8s.io",
        ),
        (format!("{C1}/namespaces/shop/metrics/METRIC"), "unknown-of-namespaces"),
        (format!("{C1}/nodes/n1/METRIC"), "unknown-of-nodes"),
        (
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/METRIC".to_owned(),
            "unknown-in-shop",
        ),
    ] {
        let target = path.replace("METRIC", "unknown?labelSelector=app%3Dweb");
        let request = Request::get(&target).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let route = f.api.route(&parts.method, &parts.uri);
        let Either::Left(mut response) = f.api.answer(route, &parts) else { panic!("{target}") };
        let hinted = Hinted::of(&mut response).expect("there are names");
        let told: Vec<&str> = hinted.hints().iter().map(|hint| &*hint.name).collect();
        assert_eq!(told, ["known", second], "{target}");
        for hint in hinted.hints() {
            let read = path.replace("METRIC", &hint.name);
            assert_eq!(hint.attributes, f.attributes("GET", &read), "{target}");
        }
    }
    // What is known, and what is refused for another reason, has none.
    for metric in ["requests", "failed"] {
        let target = format!("{C1}/namespaces/shop/pods/*/{metric}");
        let (parts, ()) = Request::get(&target).body(()).unwrap().into_parts();
        let route = f.api.route(&parts.method, &parts.uri);
        let Either::Left(mut response) = f.api.answer(route, &parts) else { panic!("{target}") };
        assert!(Hinted::of(&mut response).is_none(), "{target}");
    }
}

#[test]
fn what_is_authorized_is_what_is_read() {
    let f = both(Vec::new());
    let words = ["namespaces", "metrics", "status", "watch", "proxy", "pods", "*", "a", "finalize"];
    let mut reads = 0;
    for length in 3..=6_u32 {
        for number in 0..words.len().pow(length) {
            let path: Vec<&str> =
                (0..length).map(|i| words[number / words.len().pow(i) % words.len()]).collect();
            let target = format!("{C1}/{}", path.join("/"));
            let route = f.route("GET", &target);
            let (Target::Read(_, MetricPath::Custom(place)), Ok(path)) =
                (&route.target, &route.path)
            else {
                continue;
            };
            reads += 1;
            let Attributes::Resource(a) = route.attributes() else { panic!("{target}") };
            assert_eq!(a.verb, "get", "{target}");
            let (name, metric) = (path.segment(place.name), path.segment(place.metric));
            match place.resource {
                Some(resource) => {
                    let namespace = place.namespace.map(|i| path.segment(i)).unwrap_or_default();
                    assert_eq!(
                        (&*a.resource, &*a.namespace, &*a.name, &*a.subresource),
                        (&*path.segment(resource), &*namespace, &*name, &*metric),
                        "{target}"
                    );
                }
                None => assert_eq!(
                    (&*a.resource, &*a.namespace, &*a.name),
                    ("metrics", &*name, &*metric),
                    "{target}"
                ),
            }
            assert_eq!(path.segment(place.field_name), *a.name, "{target}");
        }
    }
    assert!(reads > 5_000, "{reads}");
}

#[tokio::test]
async fn c33_c34_a_pods_metric_as_the_hpa_asks_for_it() {
    let f = both(Vec::new());
    let query = "labelSelector=app%3Dweb&metricLabelSelector=verb+in+%28GET%29%2Ccode%3D200";
    let path = format!("/namespaces/ns/pods/%2A/m?{query}");
    assert_eq!(
        outcome(&f, &path).await,
        "m of pods matching \"app=web\" in \"ns\" where code=200,verb in (GET)"
    );
    // Pods without a value are not there; the HPA reckons with that.
    let answer = f.get(&format!("{C2}/namespaces/ns/pods/%2A/requests?labelSelector=app")).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 1);
    let none = f.get(&format!("{C2}/namespaces/ns/pods/%2A/none")).await;
    assert_eq!(none.json()["items"], json!([]));
}

#[tokio::test]
async fn c35_c36_c37_objects_of_other_kinds() {
    let f = both(Vec::new());
    let hits = f.get(&format!("{C2}/namespaces/ns/ingresses.networking.k8s.io/main/hits")).await;
    assert_eq!(
        hits.json()["items"][0]["describedObject"],
        json!({"kind": "Ingress", "namespace": "ns", "name": "main",
               "apiVersion": "networking.k8s.io/v1"})
    );
    // A node is asked for in the HPA's namespace.
    assert_eq!(outcome(&f, "/namespaces/ns/nodes/n/m").await, "m of nodes named \"n\" in \"ns\"");
    let namespace = f.get(&format!("{C1}/namespaces/ns/metrics/requests")).await;
    assert_eq!(namespace.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn c39_both_versions_name_their_fields_as_they_should() {
    let f = both(Vec::new());
    let path = "/namespaces/prod/pods/web-0/requests";
    let object =
        r#""describedObject":{"kind":"Pod","namespace":"prod","name":"web-0","apiVersion":"/v1"}"#;
    for (selector, shown) in [
        ("", "null"),
        ("?metricLabelSelector=", "null"),
        ("?metricLabelSelector=b%3Dx,a%3D%3Dy", r#"{"matchLabels":{"a":"y","b":"x"}}"#),
        ("?metricLabelSelector=a%3Dx,a%3Dy", r#"{"matchLabels":{"a":"y"}}"#),
        (
            "?metricLabelSelector=verb+in+%28GET%29",
            r#"{"matchExpressions":[{"key":"verb","operator":"In","values":["GET"]}]}"#,
        ),
        (
            "?metricLabelSelector=verb+in+%28%29",
            r#"{"matchExpressions":[{"key":"verb","operator":"In","values":[""]}]}"#,
        ),
        (
            "?metricLabelSelector=c,%21d,a%21%3Dx,b+notin+%28z,y%29,e%3D",
            concat!(
                r#"{"matchLabels":{"e":""},"matchExpressions":["#,
                r#"{"key":"a","operator":"NotIn","values":["x"]},"#,
                r#"{"key":"b","operator":"NotIn","values":["y","z"]},"#,
                r#"{"key":"c","operator":"Exists"},{"key":"d","operator":"DoesNotExist"}]}"#
            ),
        ),
        (
            "?metricLabelSelector=a%3E5",
            r#"{"matchExpressions":[{"key":"a","operator":"Gt","values":["5"]}]}"#,
        ),
    ] {
        let one = f.get(&format!("{C1}{path}{selector}")).await;
        assert_eq!(
            one.text(),
            format!(
                "{{\"kind\":\"MetricValueList\",\"apiVersion\":\"custom.metrics.k8s.io/v1beta1\",\
                 \"metadata\":{{}},\"items\":[{{{object},\"metricName\":\"requests\",\
                 \"timestamp\":\"2026-01-02T03:04:05Z\",\"value\":\"12500m\",\
                 \"selector\":{shown}}}]}}\n"
            )
        );
        let two = f.get(&format!("{C2}{path}{selector}")).await;
        assert_eq!(
            two.text(),
            format!(
                "{{\"kind\":\"MetricValueList\",\"apiVersion\":\"custom.metrics.k8s.io/v1beta2\",\
                 \"metadata\":{{}},\"items\":[{{{object},\"metric\":{{\"name\":\"requests\",\
                 \"selector\":{shown}}},\"timestamp\":\"2026-01-02T03:04:05Z\",\
                 \"value\":\"12500m\"}}]}}\n"
            )
        );
    }
}

#[tokio::test]
async fn items_that_differ_in_more_than_name_and_value_are_written_in_full() {
    let f = both(Vec::new());
    for version in [C1, C2] {
        let list = f.get(&format!("{version}/namespaces/ns/pods/*/mixed")).await.json();
        let shown: Vec<String> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| {
                let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
                let o = &i["describedObject"];
                let object = ["kind", "namespace", "name", "apiVersion"].map(|k| word(&o[k]));
                format!("{} {} {}", object.join(" "), word(&i["timestamp"]), word(&i["value"]))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Pod ns web-0 /v1 2026-01-02T03:04:05Z 1",
                "Pod ns web-1 /v1 2026-01-02T03:04:05Z 2",
                "Pod other web-1 /v1 2026-01-02T03:04:05Z 3",
                "Node - say \"hi\" /v1 2026-01-02T03:04:05Z 4",
                "Node - n1 x.io/v1 2026-01-02T03:04:05Z -500m",
                "Node - n1 x.io/v1 2026-01-02T03:04:06Z 0",
            ]
        );
    }
    let many = f.get(&format!("{C2}/namespaces/ns/pods/*/many")).await.json();
    let last = &many["items"][9_999];
    assert_eq!(last["describedObject"]["name"], "web-9999");
    assert_eq!(last["metric"], json!({"name": "many", "selector": null}));
}

#[tokio::test]
async fn c44_bad_selectors_of_objects_and_of_series() {
    let f = both(Vec::new());
    for path in ["/namespaces/ns/pods/*/requests", "/namespaces/ns/pods/web-0/requests"] {
        let path = format!("{C1}{path}");
        let (code, reason, _) = f.get(&format!("{path}?labelSelector=a+b")).await.status();
        assert_eq!((code, &*reason), (400, "BadRequest"));
        // The original knows no reason for this one, and neither does the body.
        let answer = f.get(&format!("{path}?metricLabelSelector=verb%3DGE+T")).await;
        assert_eq!(
            answer.json(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                   "message": "found 'T', expected: ',' or 'end of string'", "code": 500})
        );
        assert_eq!(answer.code, 500);
        let (code, _, message) = f.get(&format!("{path}?limit=many")).await.status();
        assert_eq!((code, &*message), (400, "strconv.ParseInt: parsing \"many\": invalid syntax"));
        assert_eq!(f.get(&format!("{path}?limit=5&continue=x")).await.code, 200);
    }
}

#[tokio::test]
async fn a_field_selector_may_repeat_the_name_and_nothing_else() {
    let f = both(Vec::new());
    for (path, field, code) in [
        ("/namespaces/ns/pods/web-0/requests", "web-0", 200),
        ("/namespaces/ns/pods/web-0/requests", "web-1", 400),
        ("/namespaces/ns/pods/*/requests", "%2A", 200),
        ("/namespaces/ns/pods/*/requests", "web-0", 400),
        ("/nodes/n/requests", "n", 200),
        ("/namespaces/ns/metrics/requests", "requests", 200),
        ("/namespaces/ns/metrics/requests", "ns", 400),
    ] {
        let target = format!("{C2}{path}?fieldSelector=metadata.name%3D{field}");
        assert_eq!(f.get(&target).await.code, code, "{target}");
    }
    let mismatch = f.get(&format!("{C1}/nodes/n/requests?fieldSelector=metadata.name%3Dm")).await;
    let message = "fieldSelector metadata.name doesn't match requested name";
    assert_eq!(mismatch.status(), (400, "BadRequest".into(), message.into()));
}

#[tokio::test(start_paused = true)]
async fn watches_are_ignored_waits_end_and_failures_keep_their_status() {
    let f = both(Vec::new());
    let base = format!("{C1}/namespaces/ns/pods/*");
    assert_eq!(f.get(&format!("{base}/requests?watch=true")).await.code, 200);
    let slow = f.get(&format!("{base}/slow")).await;
    assert_eq!((slow.code, slow.waited), (200, true));
    let (code, reason, _) = f.get(&format!("{base}/never?timeout=2s")).await.status();
    assert_eq!((code, &*reason), (504, "Timeout"));
    let failed = f.get(&format!("{base}/failed")).await.status();
    let message = "Internal error occurred: unable to fetch metrics".to_owned();
    assert_eq!(failed, (500, "InternalError".into(), message));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(f.ask(method, &format!("{base}/requests"), &[]).await.code, 405, "{method}");
    }
    let text = f.telemetry.encode();
    for line in [
        "tidepole_reads_total{group=\"custom.metrics.k8s.io\",outcome=\"ok\"} 2",
        "tidepole_reads_total{group=\"custom.metrics.k8s.io\",outcome=\"timeout\"} 1",
        "tidepole_reads_total{group=\"custom.metrics.k8s.io\",outcome=\"no_value\"} 1",
        "tidepole_reads_total{group=\"custom.metrics.k8s.io\",outcome=\"refused\"} 5",
        "tidepole_reads_total{group=\"external.metrics.k8s.io\",outcome=\"ok\"} 0",
        "tidepole_read_duration_seconds_count{group=\"custom.metrics.k8s.io\"} 9",
        "metrics_apiserver_metric_freshness_seconds_count{group=\"custom.metrics.k8s.io\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn metrics_are_written_as_yaml_when_that_is_wanted() {
    let f = both(Vec::new());
    let target = format!("{C1}/namespaces/prod/pods/web-0/requests");
    let answer = f.accept(&target, "application/yaml").await;
    assert_eq!(answer.header(http::header::CONTENT_TYPE), "application/yaml");
    let read: Value = serde_saphyr::from_str(answer.text()).unwrap();
    assert_eq!(read, f.get(&target).await.json());
    assert!(answer.text().starts_with("apiVersion: custom.metrics.k8s.io/v1beta1\nitems:\n"));
    // Large ones are compressed like JSON; errors are JSON.
    let many = format!("{C1}/namespaces/prod/pods/*/many");
    let headers = [("accept", "application/yaml"), ("accept-encoding", "gzip")];
    assert_eq!(f.ask("GET", &many, &headers).await.header(CONTENT_ENCODING), "gzip");
    let failed = format!("{C1}/namespaces/prod/pods/*/failed");
    assert_eq!(f.accept(&failed, "application/yaml").await.status().0, 500);
    assert_eq!(f.accept(&target, "text/html").await.status().0, 406);
}

#[tokio::test]
async fn the_resource_list_has_a_row_for_each_resource_of_a_metric() {
    let f = both(vec![
        name("ingresses", "networking.k8s.io", "hits", true),
        name("namespaces", "", "requests", false),
        name("pods", "", "ü \"x\"", true),
    ]);
    for (path, version) in [(C1, "v1beta1"), (C2, "v1beta2")] {
        let row = |name: &str, namespaced: bool| {
            json!({"name": name, "singularName": "", "namespaced": namespaced,
                   "kind": "MetricValueList", "verbs": ["get"]})
        };
        let list = f.get(path).await;
        assert_eq!(
            list.json(),
            json!({"kind": "APIResourceList", "apiVersion": "v1",
                   "groupVersion": format!("custom.metrics.k8s.io/{version}"),
                   "resources": [row("ingresses.networking.k8s.io/hits", true),
                                 row("namespaces/requests", false),
                                 row("pods/ü \"x\"", true)]})
        );
        assert_eq!(f.get(&format!("{path}/")).await.body, list.body);
        // Never empty: old clients take an empty list for an error.
        let empty = both(Vec::new()).get(path).await.json();
        assert_eq!(empty["resources"], json!([row("custommetrics", true)]));
    }
}

#[tokio::test]
async fn the_resource_list_is_written_once_for_the_same_names() {
    let names: Vec<_> = (0..10_000).map(|i| name("pods", "", &format!("m{i:05}"), true)).collect();
    let f = both(names);
    let first = f.get(C1).await;
    assert_eq!(first.json()["resources"].as_array().unwrap().len(), 10_000);
    let again = f.get(C1).await;
    assert_eq!(again.body.as_ptr(), first.body.as_ptr(), "the same bytes");
    assert_eq!(again.header(ETAG), "");
    let zipped = f.ask("GET", C1, &[("accept-encoding", "gzip")]).await;
    assert_eq!(unzipped(&zipped.body), first.body);
    let zipped_again = f.ask("GET", C1, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped_again.body.as_ptr(), zipped.body.as_ptr(), "compressed once");
    assert!(f.ask("GET", C1, &[("user-agent", "curl/8")]).await.text().contains("\n  "));

    // Other names, another list.
    let list = CustomList::new(&CUSTOM_V1BETA1);
    let headers = http::HeaderMap::new();
    for metric in ["a", "b"] {
        let response = list.respond([name("pods", "", metric, true)].into(), false, &headers);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let rows: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(rows["resources"][0]["name"], format!("pods/{metric}"));
    }
}

#[tokio::test]
async fn c18_the_group_names_v1beta1_and_aggregated_discovery_both_versions() {
    let f = both(vec![name("pods", "", "requests", true)]);
    let version = json!({"groupVersion": "custom.metrics.k8s.io/v1beta1", "version": "v1beta1"});
    let group = json!({"kind": "APIGroup", "apiVersion": "v1", "name": "custom.metrics.k8s.io",
                       "versions": [version], "preferredVersion": version});
    assert_eq!(f.get("/apis/custom.metrics.k8s.io").await.json(), group);
    let groups = f.get("/apis").await.json();
    let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|g| &g["name"]).collect();
    assert_eq!(names, ["custom.metrics.k8s.io", "external.metrics.k8s.io"]);

    let aggregated = f.accept("/apis", V2).await;
    let resources = |kind: &str, placeholder: &str| {
        json!([{"resource": placeholder, "scope": "Namespaced", "singularResource": "",
                "verbs": ["get"],
                "responseKind": {"group": "", "version": "", "kind": kind}}])
    };
    let custom = resources("MetricValueList", "custommetrics");
    assert_eq!(
        aggregated.json()["items"],
        json!([
            {"metadata": {"name": "custom.metrics.k8s.io"}, "versions": [
                {"version": "v1beta1", "freshness": "Current", "resources": custom},
                {"version": "v1beta2", "freshness": "Current", "resources": custom}]},
            {"metadata": {"name": "external.metrics.k8s.io"}, "versions": [
                {"version": "v1beta1", "freshness": "Current",
                 "resources": resources("ExternalMetricValueList", "externalmetrics")}]},
        ])
    );
    // Whatever metrics there are.
    assert_eq!(both(Vec::new()).accept("/apis", V2).await.body, aggregated.body);
    let root = f.get("/").await.json();
    for path in [C1, C2, E, "/apis/custom.metrics.k8s.io"] {
        assert!(root["paths"].as_array().unwrap().contains(&json!(path)), "{path}");
    }
}

#[tokio::test]
async fn each_group_can_be_off() {
    let provider = || Provider { names: 1, custom_names: Arc::default() };
    let read = format!("{C2}/namespaces/ns/pods/*/requests");
    let settings = Settings { external: false, custom: true, ..Settings::default() };
    assert_eq!(
        settings.group_versions(),
        [("custom.metrics.k8s.io", "v1beta1"), ("custom.metrics.k8s.io", "v1beta2")]
    );
    let custom = fixture_of(&settings, provider());
    assert_eq!(custom.get(&read).await.code, 200);
    let external = fixture_of(&Settings::default(), provider());
    assert_eq!(external.get(JOBS).await.code, 200);
    for path in [
        &*read,
        C1,
        C2,
        "/apis/custom.metrics.k8s.io",
        "/openapi/v3/apis/custom.metrics.k8s.io/v1beta1",
    ] {
        assert_eq!(external.get(path).await.text(), "404 page not found\n", "{path}");
    }
    for path in [JOBS, E, "/apis/external.metrics.k8s.io"] {
        assert_eq!(custom.get(path).await.text(), "404 page not found\n", "{path}");
    }
    for path in ["/apis/custom.metrics.k8s.io/v1", "/apis/custom.metrics.k8s.io/v1beta3/a/b/c"] {
        assert_eq!(custom.get(path).await.status().0, 404, "{path}");
    }
    assert_eq!(custom.route("GET", &read).class(), "custom");
}

#[tokio::test]
async fn openapi_describes_both_versions() {
    let f = both(Vec::new());
    let paths = f.get("/openapi/v3").await.json()["paths"].clone();
    assert_eq!(paths.as_object().unwrap().len(), 3);
    for (version, fields) in [
        (
            "v1beta1",
            vec!["describedObject", "metricName", "selector", "timestamp", "value", "window"],
        ),
        ("v1beta2", vec!["describedObject", "metric", "timestamp", "value", "windowSeconds"]),
    ] {
        let url = &paths[format!("apis/custom.metrics.k8s.io/{version}")]["serverRelativeURL"];
        let document = f.get(url.as_str().unwrap()).await.json();
        assert_references(&document, &document);
        let schema = |kind: &str| {
            let name = format!("io.k8s.metrics.pkg.apis.custom_metrics.{version}.{kind}");
            document["components"]["schemas"][name].clone()
        };
        assert_eq!(
            schema("MetricValueList")["x-kubernetes-group-version-kind"],
            json!([{"group": "custom.metrics.k8s.io", "kind": "MetricValueList", "version": version}])
        );
        let properties = schema("MetricValue")["properties"].clone();
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        assert_eq!(names, fields.iter().collect::<Vec<_>>());
        // Everything that an item has is described.
        let list = f.get(&format!("/apis/custom.metrics.k8s.io/{version}/nodes/n/requests")).await;
        for (field, _) in list.json()["items"][0].as_object().unwrap() {
            assert!(properties.get(field).is_some(), "{version} {field}");
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), 3);
        for (path, item) in document["paths"].as_object().unwrap() {
            for part in path.split('/').filter_map(|s| s.strip_prefix('{')) {
                let part = part.trim_end_matches('}');
                let all = item["parameters"].as_array().unwrap();
                assert!(
                    all.iter().any(|p| p["name"] == part && p["in"] == "path"),
                    "{path} {part}"
                );
            }
        }
    }
}

/// C66: a permission for `pods/m` in one namespace is asked for in that namespace and no other; C67:
/// a namespace's own metric is a permission for `metrics`.
#[test]
fn c66_c67_permissions_are_per_resource_metric_and_namespace() {
    let f = both(Vec::new());
    let c = "custom.metrics.k8s.io/v1beta2";
    for (path, expected) in [
        ("/namespaces/a/pods/*/m", "resource=pods sub=m name=* ns=a"),
        ("/namespaces/b/pods/%2A/m?labelSelector=x%3Dy", "resource=pods sub=m name=* ns=b"),
        ("/namespaces/a/pods/p/m?watch=1", "resource=pods sub=m name=p ns=a"),
        ("/namespaces/a/metrics/m", "resource=metrics sub= name=m ns=a"),
        ("/namespaces/*/metrics/m", "resource=metrics sub= name=m ns=*"),
        ("/nodes/*/m", "resource=nodes sub=m name=* ns="),
    ] {
        let attributes = f.attributes("GET", &format!("{C2}{path}"));
        assert_eq!(shown(&attributes), format!("get {c} {expected}"), "{path}");
        let Attributes::Resource(resource) = attributes else { panic!("{path}") };
        assert!(resource.label_selector.is_everything(), "{path}");
    }
}

proptest! {
    /// Whatever is asked: no panic, no redirect, and 200 only for what a path of ours names.
    #[test]
    fn nothing_is_answered_that_is_not_ours(
        version in prop_oneof![Just(C1), Just(C2), Just("/apis/custom.metrics.k8s.io/v1")],
        segments in proptest::collection::vec(
            prop_oneof![
                4 => Just("namespaces".to_owned()), 3 => Just("pods".to_owned()),
                2 => Just("metrics".to_owned()), 3 => Just("requests".to_owned()),
                2 => Just("*".to_owned()), 1 => Just("%2A".to_owned()), 1 => Just(String::new()),
                1 => Just("status".to_owned()), 1 => Just("watch".to_owned()),
                1 => "[a-z.%/+*-]{0,6}".prop_map(|s| s), 1 => "\\PC{0,6}".prop_map(|s| s),
            ],
            0..8,
        ),
        query in "(\\?((labelSelector|metricLabelSelector|fieldSelector|limit|watch|timeout|pretty)=?[-a-z0-9%+=,()!&.\\\\]{0,16})){0,1}",
        method in prop_oneof![4 => Just("GET"), 1 => Just("HEAD"), 1 => Just("POST")],
    ) {
        let f = both(vec![name("pods", "", "requests", true)]);
        let target = format!("{version}/{}{query}", segments.join("/"));
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let route = f.api.route(&parts.method, &parts.uri);
        let _ = (route.attributes(), route.always_allowed());
        let class = route.class();
        if let Either::Left(response) = f.api.answer(route, &parts) {
            let code = response.status().as_u16();
            prop_assert!([200, 400, 404, 405, 413, 500].contains(&code), "{code} {target}");
            prop_assert!(!response.headers().contains_key(LOCATION));
            prop_assert!(!response.headers().contains_key(RETRY_AFTER));
            if code == 200 {
                let path = parts.uri.path().trim_matches('/').replace("%2A", "*");
                let parts: Vec<&str> = path.split('/').collect();
                prop_assert_eq!(method, "GET");
                prop_assert!(parts[2] == "v1beta1" || parts[2] == "v1beta2", "{}", target);
                match &parts[3..] {
                    [] => prop_assert_eq!(class, "discovery"),
                    ["namespaces", ns, "metrics", "requests" | "mixed" | "none" | "hits", ..] => {
                        prop_assert!(!ns.is_empty());
                    }
                    ["namespaces", ns, resource, name, "requests"] => {
                        prop_assert!(![*ns, *resource, *name].contains(&""), "{}", target);
                    }
                    [resource, name, "requests"] => {
                        prop_assert!(!["", "namespaces", "watch", "proxy"].contains(resource));
                        prop_assert!(!name.is_empty());
                    }
                    other => prop_assert!(false, "{:?} {}", other, target),
                }
            }
        }
    }
}
