use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::control::hpa_watch::WatchState;
use crate::model::{
    DefinitionId, DefinitionKey, DefinitionKind, ObjectReference, ReferenceKind, Selector,
};

/// Answers by the metric's name; counts looks for near names.
#[derive(Default)]
struct Answers {
    searches: AtomicUsize,
}

fn definition(name: &str) -> DefinitionKey {
    let namespace = Some("elsewhere".into());
    let kind = DefinitionKind::ExternalMetric;
    let id = DefinitionId { kind, namespace, name: name.into() };
    DefinitionKey { id, is_resource: true }
}

impl Foresee for Answers {
    fn foresee(&self, reference: &MetricReference) -> Outlook {
        let mut outlook = self.glance(reference);
        if let Err(Miss::Unknown { near, .. }) = &mut outlook.answer {
            self.searches.fetch_add(1, Ordering::SeqCst);
            *near = vec!["depth".into(), "<b>".into()];
        }
        outlook
    }

    fn glance(&self, reference: &MetricReference) -> Outlook {
        let message = format!("{} in <{}>: why", reference.metric, reference.namespace);
        let answer = match &*reference.metric {
            "none" => Err(Miss::NoMatch { message }),
            "down" => Err(Miss::NoValue { message }),
            "new" => Err(Miss::Untried),
            metric if metric.starts_with('m') => Ok("42500m".to_owned()),
            _ => Err(Miss::Unknown {
                message,
                near: Vec::new(),
                elsewhere: vec![definition("depht")],
            }),
        };
        let definitions = if answer.is_ok() { vec![definition("mine")] } else { Vec::new() };
        Outlook { definitions, answer }
    }
}

fn used(namespace: &str, metric: &str, hpas: &[&str]) -> Used {
    let reference = MetricReference {
        namespace: namespace.into(),
        metric: metric.into(),
        selector: Selector::parse(if metric == "none" { "queue=a" } else { "" }).unwrap(),
        kind: if metric == "down" {
            ReferenceKind::Pods {
                target: ObjectReference {
                    api_version: "apps/v1".into(),
                    kind: "Deployment".into(),
                    name: "web".into(),
                },
            }
        } else {
            ReferenceKind::External
        },
    };
    Used {
        reference: Arc::new(reference),
        hpas: hpas.iter().map(|name| Arc::from(*name)).collect(),
    }
}

fn foresight(used: Vec<Used>) -> (Foresight, Arc<Answers>) {
    let (usage, answers) = (Usage::new(), Arc::new(Answers::default()));
    usage.put(used);
    (Foresight { usage: Arc::new(usage), foresee: answers.clone() }, answers)
}

fn shop() -> Foresight {
    let all = vec![
        used("shop", "m1", &["front", "web"]),
        used("shop", "depht", &["web"]),
        used("bank", "none", &["till"]),
        used("bank", "down", &["vault"]),
        used("bank", "new", &["young"]),
    ];
    foresight(all).0
}

fn up() -> Report {
    Report { state: WatchState::Up, hpas: 5, references: 5, known: 4, unknown: 1 }
}

fn of(query: &str) -> HpasView {
    HpasView::of(Some(&shop()), Some(up()), query)
}

fn told(query: &str) -> serde_json::Value {
    serde_json::from_str(&json(&of(query))).unwrap()
}

fn names(answer: &serde_json::Value) -> String {
    let rows = answer["hpas"].as_array().unwrap();
    let name = |row: &serde_json::Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        format!("{}/{}:{}", text("namespace"), text("name"), text("state"))
    };
    rows.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_hpa_is_told_what_it_would_get() {
    let all = told("");
    assert_eq!(
        names(&all),
        "bank/till:no-match bank/vault:no-value bank/young:waiting shop/front:served \
         shop/web:unknown"
    );
    assert_eq!(
        (&all["known"], &all["total"], &all["matching"]),
        (&true.into(), &5.into(), &5.into())
    );
    assert_eq!(all["states"]["unknown"], 1);
    let web = &all["hpas"][4]["metrics"];
    assert_eq!(
        web[0],
        serde_json::json!({
            "metric": "depht", "type": "External", "state": "unknown",
            "error": "depht in <shop>: why", "near": ["depth", "<b>"],
            "elsewhere": ["ExternalMetric elsewhere/depht"],
        })
    );
    assert_eq!(
        (&web[1]["value"], &web[1]["definitions"][0]),
        (&"42500m".into(), &"ExternalMetric elsewhere/mine".into(),)
    );
    assert_eq!(all["hpas"][0]["metrics"][0]["selector"], "queue=a");
    assert_eq!(
        all["hpas"][1]["metrics"][0]["object"],
        serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
    );
}

#[test]
fn filters_choose_and_count() {
    assert_eq!(names(&told("namespace=shop")), "shop/front:served shop/web:unknown");
    assert_eq!(names(&told("q=DEPH")), "shop/web:unknown");
    assert_eq!(names(&told("q=vau")), "bank/vault:no-value");
    let unknown = told("state=unknown");
    assert_eq!(names(&unknown), "shop/web:unknown");
    assert_eq!((&unknown["matching"], &unknown["states"]["served"]), (&1.into(), &1.into()));
    assert_eq!(names(&told("state=odd&page=9&limit=0")), "shop/web:unknown");
    assert_eq!(
        Filter::parse(&of("q=a+%26&state=no-value&limit=7").filter.to_query()[1..]).text,
        "a &"
    );
}

#[test]
fn the_page_escapes_and_asks_what_was_meant() {
    let text = page(&of("q=%3Cscript%3E&refresh=off"), true);
    assert!(text.contains("No HPA matches this filter") && !text.contains("<script"), "{text}");
    assert!(!text.contains("http-equiv"), "{text}");
    let text = page(&of(""), true);
    for shown in [
        "depht in &lt;shop&gt;: why",
        "did you mean <strong>depth</strong> or <strong>&lt;b&gt;</strong>?",
        "not seen in this namespace: ExternalMetric elsewhere/depht",
        "of the pods of Deployment web",
        "<span class=\"value\">42500m</span>",
        "5 of 5 HPAs",
    ] {
        assert!(text.contains(shown), "{shown} is missing: {text}");
    }
}

#[test]
fn what_is_not_known_is_said() {
    let none = HpasView::of(None, None, "");
    assert!(page(&none, true).contains("runs without a cluster"));
    let answer: serde_json::Value = serde_json::from_str(&json(&none)).unwrap();
    assert_eq!((&answer["known"], &answer["total"]), (&false.into(), &0.into()));
    let state = WatchState::Down("hpas is <forbidden>".to_owned());
    let report = Report { state, hpas: 0, references: 0, known: 0, unknown: 0 };
    let down = page(&HpasView::of(Some(&shop()), Some(report), ""), true);
    assert!(down.contains("hpas is &lt;forbidden&gt;"), "{down}");
}

#[test]
fn ten_thousand_hpas_are_paged_and_only_those_shown_are_searched_for() {
    let all = (0..10_000).map(|i| used("shop", &format!("x{i:05}"), &[&format!("h{i:05}")]));
    let (foresight, answers) = foresight(all.collect());
    let view = HpasView::of(Some(&foresight), Some(up()), "page=3");
    assert_eq!((view.pages, view.matching, view.hpas.len()), (100, 10_000, 100));
    assert_eq!(&*view.hpas[0].name, "h00200");
    assert_eq!(answers.searches.load(Ordering::SeqCst), 100);
    assert!(page(&view, true).len() < 200_000);
    let many: Vec<Used> = (0..500).map(|i| used("shop", &format!("m{i:03}"), &["one"])).collect();
    let (foresight, _) = self::foresight(many);
    let text = page(&HpasView::of(Some(&foresight), Some(up()), ""), true);
    assert!(text.contains("and 480 more metrics"), "{text}");
}
