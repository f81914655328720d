use proptest::prelude::*;

use super::*;
use crate::model::{Labels, Operator, Requirement};
use crate::objects::leaf::MOST;

fn labels(pairs: &[(&str, &str)]) -> Box<[Pair]> {
    let mut pairs: Vec<Pair> =
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    pairs.sort();
    pairs.into()
}

fn found(namespace: &str, name: &str, pairs: &[(&str, &str)]) -> Found {
    Found { namespace: namespace.into(), name: name.into(), labels: labels(pairs) }
}

fn names(index: &Index, namespace: Option<&str>, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    let names = index.names(namespace, &ObjectNames::Matching(selector));
    names.iter().map(ToString::to_string).collect()
}

fn shop() -> Index {
    Index::of(vec![
        found("shop", "web-1", &[("app", "web"), ("version", "2")]),
        found("shop", "web-0", &[("app", "web"), ("version", "1"), ("tier", "front")]),
        found("shop", "db", &[("app", "db")]),
        found("shop", "bare", &[]),
        found("bank", "web-0", &[("app", "web")]),
        found("", "node-b", &[("zone", "b")]),
        found("", "node-a", &[("zone", "a")]),
    ])
}

#[test]
fn selectors_choose_by_every_operator() {
    let index = shop();
    for (selector, wanted) in [
        ("", &["bare", "db", "web-0", "web-1"][..]),
        ("app=web", &["web-0", "web-1"]),
        ("app in (web, db)", &["db", "web-0", "web-1"]),
        ("app=web,tier=front", &["web-0"]),
        ("app=web,tier!=front", &["web-1"]),
        ("app!=web", &["bare", "db"]),
        ("app notin (web,db)", &["bare"]),
        ("tier", &["web-0"]),
        ("!tier", &["bare", "db", "web-1"]),
        ("version>1", &["web-1"]),
        ("version<2", &["web-0"]),
        ("app=web,app=db", &[]),
        ("app=nosuch", &[]),
        ("nosuch=web", &[]),
    ] {
        assert_eq!(names(&index, Some("shop"), selector), wanted, "{selector}");
    }
    assert!(names(&index, Some("nowhere"), "").is_empty());
    assert_eq!(names(&index, None, "app=web"), ["web-0", "web-0", "web-1"]);
    assert_eq!(
        names(&index, None, ""),
        ["node-a", "node-b", "web-0", "bare", "db", "web-0", "web-1"]
    );
    assert_eq!(index.names(Some("shop"), &ObjectNames::All).len(), 4);
    assert_eq!(&*index.names(None, &ObjectNames::One("any".into())), ["any".into()]);
    assert_eq!(index.len(), 7);
}

#[test]
fn changes_are_seen_in_the_new_index_alone() {
    let before = shop();
    let mut changes = Changes::new();
    let shop = changes.entry("shop".into()).or_default();
    shop.insert("db".into(), None);
    shop.insert("aaa".into(), Some(labels(&[("app", "web")])));
    shop.insert("web-1".into(), Some(labels(&[("app", "old")])));
    shop.insert("zzz".into(), Some(labels(&[("app", "web")])));
    shop.insert("never".into(), None);
    changes.entry("bank".into()).or_default().insert("web-0".into(), None);
    changes.entry("new".into()).or_default().insert("first".into(), Some(labels(&[])));
    changes.entry("void".into()).or_default().insert("never".into(), None);
    let after = before.with(&changes);
    assert_eq!(names(&after, Some("shop"), "app=web"), ["aaa", "web-0", "zzz"]);
    assert_eq!(names(&after, Some("shop"), "app=old"), ["web-1"]);
    assert_eq!(names(&after, Some("shop"), ""), ["aaa", "bare", "web-0", "web-1", "zzz"]);
    assert!(names(&after, Some("bank"), "").is_empty());
    assert_eq!(names(&after, Some("new"), ""), ["first"]);
    assert_eq!(after.len(), 8);
    assert_eq!(names(&before, Some("shop"), "app=web"), ["web-0", "web-1"]);
    assert!(after.has("shop", "web-1", Some(&labels(&[("app", "old")]))));
    for other in
        [&labels(&[])[..], &labels(&[("app", "web")]), &labels(&[("app", "old"), ("b", "c")])]
    {
        assert!(!after.has("shop", "web-1", Some(other)), "{other:?}");
    }
    assert!(after.has("shop", "web-1", None) && !after.has("shop", "db", None));
    assert!(!after.has("void", "never", None));
}

#[test]
fn of_two_objects_with_one_name_the_later_counts() {
    let index = Index::of(vec![found("a", "x", &[("v", "1")]), found("a", "x", &[("v", "2")])]);
    assert_eq!((index.len(), names(&index, None, "v=2")), (1, vec!["x".to_owned()]));
}

#[test]
fn words_are_shared_and_let_go() {
    let mut words = Words::default();
    let kept = words.of("app");
    assert!(Arc::ptr_eq(&kept, &words.of("app")));
    for number in 0..100_000 {
        words.of(&format!("job-{number}"));
    }
    assert!(words.len() <= SWEEP_FROM, "{}", words.len());
    assert!(Arc::ptr_eq(&kept, &words.of("app")));
}

/// A namespace that grows beyond a leaf and shrinks again, against a plain map.
#[test]
fn leaves_divide_and_join() {
    let mut index = Index::default();
    let mut plain: BTreeMap<String, Box<[Pair]>> = BTreeMap::new();
    // A walk over numbers that meets each of them once (a prime and a generator of it).
    let walk = |count: u64| {
        (0..count).scan(1_u64, |at, _| {
            *at = *at * 7 % 2111;
            Some(*at)
        })
    };
    for (step, grow) in [(0, true), (1, false)] {
        for (at, number) in walk(2110).enumerate() {
            let name = format!("pod-{number}");
            let own = labels(&[("app", if number % 3 == 0 { "a" } else { "b" }), ("pod", &name)]);
            if grow {
                plain.insert(name.clone(), own.clone());
            } else {
                plain.remove(&name);
            }
            let change = BTreeMap::from([(Arc::from(name), grow.then_some(own))]);
            index = index.with(&BTreeMap::from([("ns".into(), change)]));
            if at % 211 == 0 {
                let all: Vec<String> = plain.keys().cloned().collect();
                assert_eq!(names(&index, Some("ns"), ""), all, "{step} {at}");
                let a = plain.iter().filter(|(_, l)| &*l[0].1 == "a").map(|(n, _)| n.clone());
                assert_eq!(names(&index, Some("ns"), "app=a"), a.collect::<Vec<_>>());
                let leaves = index.0.namespaces.get("ns").map_or(0, |shard| shard.leaves.len());
                assert!(
                    leaves <= 2 * plain.len().div_ceil(MOST / 4) + 1,
                    "{leaves} {}",
                    plain.len()
                );
            }
        }
    }
    assert!(index.is_empty());
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        Just(Operator::GreaterThan),
        Just(Operator::LessThan),
    ];
    (operator, "[a-c]", proptest::collection::vec("[0-3]", 1..3)).prop_map(
        |(operator, key, mut values)| {
            values.sort();
            values.dedup();
            Requirement { key, operator, values }
        },
    )
}

type Listed = BTreeMap<(String, String), BTreeMap<String, String>>;

fn listed(most: usize) -> impl Strategy<Value = Listed> {
    let labels = proptest::collection::btree_map("[a-c]", "[0-3]", 0..3);
    proptest::collection::btree_map(("[xy]", "[a-z]{1,2}"), labels, 0..most)
}

fn pairs(labels: &BTreeMap<String, String>) -> Box<[Pair]> {
    labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
}

proptest! {
    /// An index and a look at each object choose the same, whatever happened to the index.
    #[test]
    fn an_index_is_a_look_at_each(
        first in listed(60),
        changes in proptest::collection::vec((listed(20), any::<bool>()), 0..4),
        requirements in proptest::collection::vec(requirement(), 0..3),
    ) {
        let mut plain = first.clone();
        let mut index = Index::of(first.iter().map(|((namespace, name), labels)| Found {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
            labels: pairs(labels),
        }).collect());
        for (change, gone) in changes {
            let mut changes = Changes::new();
            for ((namespace, name), labels) in change {
                let own = changes.entry(namespace.as_str().into()).or_default();
                own.insert(name.as_str().into(), (!gone).then(|| pairs(&labels)));
                if gone {
                    plain.remove(&(namespace, name));
                } else {
                    plain.insert((namespace, name), labels);
                }
            }
            index = index.with(&changes);
        }
        let selector = Selector::new(requirements);
        for namespace in [None, Some("x"), Some("y")] {
            let wanted: Vec<&str> = plain
                .iter()
                .filter(|((own, _), labels)| {
                    namespace.is_none_or(|namespace| namespace == own)
                        && selector.matches(&Labels::new(
                            labels.iter().map(|(k, v)| (k.as_str(), v.as_str())),
                        ))
                })
                .map(|((_, name), _)| name.as_str())
                .collect();
            let names = index.names(namespace, &ObjectNames::Matching(selector.clone()));
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            prop_assert_eq!(names, wanted, "{} in {:?}", selector, namespace);
        }
        prop_assert_eq!(index.len(), plain.len());
        for ((namespace, name), labels) in &plain {
            prop_assert!(index.has(namespace, name, Some(&pairs(labels))));
        }
    }
}
