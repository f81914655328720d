use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{CostSettings, Pattern, QuerySpec, SourceKind, SourceName, SourceProfile};

fn profile(name: &str, kind: SourceKind) -> SourceProfile {
    SourceProfile {
        name: SourceName::new(name),
        kind,
        region: (kind == SourceKind::Aws).then(|| "eu-west-1".into()),
        allowed_regions: vec!["eu-west-1".into()],
        allowed_roles: Vec::new(),
        cost: CostSettings::default(),
        allowed_namespaces: Vec::new(),
    }
}

fn sources() -> SourceDirectory {
    let mut aws = profile("aws", SourceKind::Aws);
    aws.cost.max_metrics_per_minute = Some(10);
    let mut theirs = profile("theirs", SourceKind::Prometheus);
    theirs.allowed_namespaces = vec![Pattern::new("team-*")];
    SourceDirectory::new([aws, theirs, profile("main", SourceKind::Prometheus)])
}

fn store_of(tenancy: Tenancy) -> Store {
    let sources = sources();
    let ceiling = Arc::new(Ceiling::new(Some(&sources)));
    Store::new(Against { sources, defaults: Defaults::default(), tenancy, ceiling })
}

fn store() -> Store {
    store_of(Tenancy::default())
}

/// An object of a namespace, made in a second of its own.
fn object(name: &str, second: u8, spec: Value) -> Box<Object> {
    object_in("shop", name, second, spec, json!(null))
}

fn object_in(namespace: &str, name: &str, second: u8, spec: Value, status: Value) -> Box<Object> {
    let mut object = json!({"metadata": {
        "name": name, "namespace": namespace, "uid": format!("{name}-{second}"),
        "generation": 1, "creationTimestamp": format!("2026-11-21T12:00:{second:02}Z"),
    }});
    (object["spec"], object["status"]) = (spec, status);
    Box::new(Object::from(object))
}

fn query(query: &str) -> Value {
    json!({"source": "main", "prometheus": {"query": query}})
}

/// A question of so many CloudWatch metrics.
fn costly(count: usize) -> Value {
    let metric = |i: usize| {
        json!({"id": format!("m{i}"), "return": false, "metric": {
            "namespace": "n", "name": format!("m{i}"), "statistic": "Sum", "period": "1m",
        }})
    };
    let mut queries: Vec<Value> = (0..count).map(metric).collect();
    queries.push(json!({"id": "e", "expression": "SUM(METRICS())"}));
    json!({"source": "aws", "cloudwatch": {"queries": queries}})
}

fn put(store: &mut Store, object: Box<Object>) -> Touched {
    store.take(Change::Put(DefinitionKind::ExternalMetric, object))
}

fn remove(store: &mut Store, object: Box<Object>) -> Touched {
    store.take(Change::Remove(DefinitionKind::ExternalMetric, object))
}

/// What is served, as `name=query`, in order.
fn served(collected: &Collected) -> Vec<String> {
    let (entries, _) = collected.definitions.as_ref().expect("the definitions have changed");
    let shown = |entry: &Arc<Entry>| {
        let query = entry.query.resolve("").expect("a namespaced query is complete");
        match &query.spec {
            QuerySpec::CloudWatch(query) => format!("{}={}", entry.id.name, query.queries.len()),
            spec => format!("{}={spec}", entry.id.name),
        }
    };
    entries.iter().map(shown).collect()
}

/// What became of each, as `name: reasons`, with `+` where an earlier version is served.
fn verdicts(collected: &Collected) -> Vec<String> {
    let shown = |(id, declared): (&DefinitionId, &Arc<Declared>)| match &declared.verdict {
        Verdict::Accepted => format!("{}: accepted", id.name),
        Verdict::Refused { problems, last_good_stays } => {
            let reasons: Vec<String> =
                problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
            format!(
                "{}: {}{}",
                id.name,
                if *last_good_stays { "+" } else { "" },
                reasons.join("; ")
            )
        }
    };
    collected.resources.iter().map(shown).collect()
}

/// The kind of what is wrong with a resource.
fn kind_of(collected: &Collected, name: &str) -> ProblemKind {
    let declared = collected.resources.values().find(|declared| *declared.id.name == *name);
    match &declared.expect("it is there").verdict {
        Verdict::Refused { problems, .. } => ProblemKind::of_all(problems),
        Verdict::Accepted => panic!("{name} is accepted"),
    }
}

#[test]
fn what_is_there_serves_oldest_first() {
    let mut store = store();
    assert_eq!(put(&mut store, object("b", 1, query("one"))), Touched::Definitions);
    put(&mut store, object("a", 2, query("two")));
    put(&mut store, object("c", 1, query("three")));
    let collected = store.collect();
    assert_eq!(served(&collected), ["b=one", "c=three", "a=two"]);
    assert_eq!(verdicts(&collected), ["a: accepted", "b: accepted", "c: accepted"]);
    assert!(collected.refused.is_empty() && collected.unread.is_empty());
    assert!(store.collect().definitions.is_none(), "nothing has changed");
    assert_eq!(remove(&mut store, object("c", 1, json!({}))), Touched::Definitions);
    assert_eq!(remove(&mut store, object("c", 1, json!({}))), Touched::Nothing);
    assert_eq!(served(&store.collect()), ["b=one", "a=two"]);
}

#[test]
fn a_status_changes_the_board_alone() {
    let mut store = store();
    put(&mut store, object("a", 1, query("one")));
    store.collect();
    let entry = Arc::clone(store.known.values().next().unwrap().read.entry().unwrap());
    let told = |value: i32| object_in("shop", "a", 1, query("one"), json!({"value": value}));
    assert_eq!(put(&mut store, told(1)), Touched::Echo);
    assert_eq!(put(&mut store, told(1)), Touched::Nothing);
    let taken_away = object_in("shop", "a", 1, query("one"), json!(null));
    assert_eq!(put(&mut store, taken_away), Touched::Board);
    assert_eq!(put(&mut store, told(2)), Touched::Echo);
    let collected = store.collect();
    assert!(collected.definitions.is_none());
    let declared = collected.resources.values().next().unwrap();
    assert_eq!(declared.status.as_deref(), Some(r#"{"value":2}"#));
    let again = Arc::clone(store.known.values().next().unwrap().read.entry().unwrap());
    assert!(Arc::ptr_eq(&entry, &again), "it was translated once more");
    // A status that comes with the object, before it was read.
    put(&mut store, object("b", 2, query("two")));
    put(&mut store, object_in("shop", "b", 2, query("two"), json!({"value": 3})));
    let collected = store.collect();
    let statuses = collected.resources.values().filter(|declared| declared.status.is_some());
    assert_eq!(statuses.count(), 2);
}

#[test]
fn a_refused_edit_keeps_the_last_good_version_of_the_same_object() {
    let mut store = store();
    put(&mut store, object("a", 1, query("one")));
    store.collect();
    put(&mut store, object("a", 1, json!({"prometheus": 7})));
    let collected = store.collect();
    assert_eq!(served(&collected), ["a=one"]);
    assert_eq!(
        verdicts(&collected),
        ["a: +spec.prometheus: expected a mapping, found the number 7"]
    );
    assert_eq!(collected.refused.len(), 1);
    assert_eq!(collected.definitions.unwrap().1.len(), 1);
    // Refused once more for the same reason is no news.
    put(&mut store, object("a", 1, json!({"prometheus": 7, "scale": 2})));
    assert!(store.collect().refused.is_empty());
    put(&mut store, object("a", 1, query("two")));
    assert_eq!(verdicts(&store.collect()), ["a: accepted"]);
    // Another object of this name was never good.
    put(&mut store, object("a", 2, json!({"prometheus": 7})));
    let collected = store.collect();
    assert_eq!(served(&collected), [""; 0]);
    assert_eq!(
        verdicts(&collected),
        ["a: spec.prometheus: expected a mapping, found the number 7"]
    );
}

#[test]
fn a_listing_tells_what_is_gone() {
    let mut store = store();
    let kind = DefinitionKind::ExternalMetric;
    for (name, second) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&mut store, object(name, second, query(name)));
    }
    store.collect();
    store.take(Change::Begin(kind));
    assert_eq!(put(&mut store, object("b", 2, query("b"))), Touched::Nothing);
    // A listing that breaks off tells nothing.
    store.take(Change::Begin(kind));
    put(&mut store, object("a", 1, query("a")));
    put(&mut store, object("d", 4, query("d")));
    // Told by a watch of another kind meanwhile.
    let other = DefinitionKind::CustomMetric;
    store.take(Change::Put(other, object("e", 5, json!({}))));
    assert_eq!(store.take(Change::End(kind)), Touched::Definitions);
    assert_eq!(served(&store.collect()), ["a=a", "d=d"]);
    assert_eq!(store.take(Change::End(kind)), Touched::Definitions, "an end without a beginning");
    assert_eq!(store.collect().resources.len(), 1);
    assert_eq!(store.take(Change::Gone(other)), Touched::Definitions);
    assert_eq!(store.collect().resources.len(), 0);
    assert_eq!(store.take(Change::Gone(other)), Touched::Nothing);
}

#[test]
fn an_object_that_cannot_be_used_is_skipped() {
    let mut store = store();
    for value in [json!(7), json!({"metadata": {"name": "x"}}), json!({"metadata": []})] {
        assert_eq!(put(&mut store, Box::new(Object::from(value))), Touched::Nothing);
    }
    assert_eq!(store.malformed(), 3);
    put(&mut store, object("a", 1, query("one")));
    assert_eq!(served(&store.collect()), ["a=one"]);
}

#[test]
fn tenants_reach_only_what_they_may() {
    let mut store = store();
    let of = |source: &str| json!({"source": source, "prometheus": {"query": "q"}});
    put(&mut store, object("theirs", 1, of("theirs")));
    put(&mut store, object("nobodys", 2, of("nobodys")));
    put(&mut store, object_in("team-a", "ours", 3, of("theirs"), json!(null)));
    let wide = object("wide", 4, of("theirs"));
    store.take(Change::Put(DefinitionKind::ClusterExternalMetric, wide));
    let recording = json!({"simulated": {"replay": {"file": "/etc/passwd"}}});
    put(&mut store, object("file", 5, recording));
    let collected = store.collect();
    assert_eq!(served(&collected), ["ours=q", "wide=q"]);
    let verdicts = verdicts(&collected);
    assert!(verdicts.iter().any(|v| v.starts_with("theirs: spec.source: ")), "{verdicts:#?}");
    assert!(verdicts.iter().any(|v| v.starts_with("nobodys: spec.source: ")), "{verdicts:#?}");
    assert!(verdicts.iter().any(|v| v.starts_with("file: spec.simulated")), "{verdicts:#?}");
    assert_eq!(kind_of(&collected, "theirs"), ProblemKind::NotAllowed);
    assert_eq!(kind_of(&collected, "nobodys"), ProblemKind::SourceNotFound);
    assert_eq!(kind_of(&collected, "file"), ProblemKind::Invalid);
}

#[test]
fn the_youngest_of_too_many_are_refused_and_read_when_they_fit() {
    let mut store = store_of(Tenancy { max_per_namespace: 2, ..Tenancy::default() });
    put(&mut store, object("young", 9, query("young")));
    put(&mut store, object("old", 1, query("old")));
    let other = object_in("other", "far", 5, query("far"), json!(null));
    put(&mut store, other);
    assert_eq!(served(&store.collect()), ["old=old", "far=far", "young=young"]);
    put(&mut store, object("middle", 5, query("middle")));
    let collected = store.collect();
    assert_eq!(served(&collected), ["old=old", "far=far", "middle=middle"]);
    let refusal = "young: : namespace shop has 3 metric resources, and 2 are allowed in one (resources.maxPerNamespace); by age this is number 3";
    assert!(verdicts(&collected).contains(&refusal.to_owned()), "{:#?}", verdicts(&collected));
    assert_eq!(kind_of(&collected, "young"), ProblemKind::LimitExceeded);
    // What it says does not matter.
    put(&mut store, object("young", 9, query("younger")));
    assert_eq!(served(&store.collect()).len(), 3);
    // Nothing of it was kept, so it must be told again.
    remove(&mut store, object("old", 1, json!({})));
    let collected = store.collect();
    assert_eq!(collected.unread, BTreeSet::from([DefinitionKind::ExternalMetric]));
    assert_eq!(served(&collected), ["far=far", "middle=middle"]);
    assert!(verdicts(&collected)[2].ends_with("it is being read"), "{:#?}", verdicts(&collected));
    assert_eq!(kind_of(&collected, "young"), ProblemKind::LimitExceeded);
    assert_eq!(put(&mut store, object("young", 9, query("younger"))), Touched::Definitions);
    let collected = store.collect();
    assert_eq!(served(&collected), ["far=far", "middle=middle", "young=younger"]);
    assert!(collected.unread.is_empty());
}

#[test]
fn the_whole_cluster_has_a_bound() {
    let mut store = store_of(Tenancy { max_total: 1, ..Tenancy::default() });
    put(&mut store, object("a", 1, query("a")));
    store.take(Change::Put(DefinitionKind::ClusterExternalMetric, object("b", 2, query("b"))));
    let collected = store.collect();
    assert_eq!(served(&collected), ["a=a"]);
    assert_eq!(
        verdicts(&collected)[1],
        "b: : the cluster has 2 metric resources, and 1 are allowed (resources.maxTotal); by age this is number 2 of those that their namespaces may have"
    );
    assert_eq!(kind_of(&collected, "b"), ProblemKind::LimitExceeded);
}

#[test]
fn tenants_read_no_faster_than_they_may() {
    let min_refresh = std::time::Duration::from_secs(30);
    let mut store = store_of(Tenancy { min_refresh, ..Tenancy::default() });
    let every =
        |refresh: &str| json!({"source": "main", "refresh": refresh, "prometheus": {"query": "q"}});
    put(&mut store, object("raised", 1, query("q")));
    put(&mut store, object("fast", 2, every("29s")));
    put(&mut store, object("slow", 3, every("30s")));
    let wide = object("wide", 4, every("1s"));
    store.take(Change::Put(DefinitionKind::ClusterExternalMetric, wide));
    let collected = store.collect();
    assert_eq!(served(&collected), ["raised=q", "slow=q", "wide=q"]);
    let entries = &collected.definitions.as_ref().unwrap().0;
    assert_eq!(entries[0].policy.refresh, min_refresh);
    assert!(
        verdicts(&collected).contains(&"fast: spec.refresh: refresh 29s is below 30s, the least that the operator allows in namespaces (resources.minRefresh)".to_owned()),
        "{:#?}",
        verdicts(&collected)
    );
    assert_eq!(kind_of(&collected, "fast"), ProblemKind::LimitExceeded);
}

#[test]
fn files_come_first_under_a_ceiling_and_then_age() {
    let mut store = store();
    put(&mut store, object("young", 3, costly(6)));
    put(&mut store, object("old", 1, costly(5)));
    let collected = store.collect();
    assert_eq!(served(&collected), ["old=6"]);
    assert_eq!(
        verdicts(&collected)[1],
        "young: spec.cloudwatch: source aws allows 10 CloudWatch metrics per minute (cost.maxMetricsPerMinute); this definition's 6 metrics every 1m are 6 per minute on top of 5 of ExternalMetric shop/old, in files, or older"
    );
    assert_eq!(kind_of(&collected, "young"), ProblemKind::TooExpensive);
    // An edit that does not fit leaves what did.
    put(&mut store, object("old", 1, costly(11)));
    let collected = store.collect();
    assert_eq!(served(&collected), ["young=7"]);
    put(&mut store, object("young", 3, costly(4)));
    let collected = store.collect();
    assert_eq!(served(&collected), ["young=5"]);
    put(&mut store, object("old", 1, costly(5)));
    assert_eq!(served(&store.collect()), ["old=6", "young=5"]);
    put(&mut store, object("young", 3, costly(6)));
    let collected = store.collect();
    assert_eq!(served(&collected), ["old=6", "young=5"]);
    assert!(verdicts(&collected)[1].starts_with("young: +spec.cloudwatch: source aws allows 10"));
    assert!(
        verdicts(&collected)[1].ends_with("its last version stays"),
        "{:?}",
        verdicts(&collected)
    );
    // A file takes what it likes.
    let mut elsewhere = self::store();
    put(&mut elsewhere, object("file", 1, costly(9)));
    let file = elsewhere.collect().definitions.unwrap().0.remove(0);
    let ceiling = Arc::clone(&store.against.ceiling);
    let changes = ceiling.subscribe();
    ceiling.admit(Kin::Files, &[file]);
    assert!(changes.has_changed().unwrap());
    assert_eq!(store.reconsider(), Touched::Definitions);
    assert_eq!(served(&store.collect()), [""; 0]);
    ceiling.admit(Kin::Files, &[]);
    store.reconsider();
    assert_eq!(served(&store.collect()), ["old=6"], "of the other only this version is left");
}

#[test]
fn a_spec_has_a_bound() {
    let mut store = store();
    let long = format!("up or {}", "x".repeat(MAX_SPEC_BYTES));
    put(&mut store, object("a", 1, query(&long)));
    let collected = store.collect();
    let verdicts = verdicts(&collected);
    assert!(verdicts[0].contains("bytes, and 131072 are allowed"), "{}", &verdicts[0][..200]);
    assert_eq!(kind_of(&collected, "a"), ProblemKind::LimitExceeded);
}

#[test]
fn of_thousands_of_resources_only_what_has_changed_is_read() {
    let mut store = store_of(Tenancy { max_per_namespace: 10_000, ..Tenancy::default() });
    for i in 0..5000 {
        put(&mut store, object(&format!("metric-{i}"), 1, query(&format!("depth_{i}"))));
    }
    let first = store.collect().definitions.expect("the definitions have changed").0;
    assert_eq!(first.len(), 5000);
    put(&mut store, object("metric-77", 1, query("changed")));
    let then = store.collect().definitions.expect("the definitions have changed").0;
    assert_eq!(then.len(), 5000);
    // One that is read again is another entry.
    let read: Vec<&str> = first
        .iter()
        .zip(&then)
        .filter(|(first, then)| !Arc::ptr_eq(first, then))
        .map(|(_, then)| &*then.id.name)
        .collect();
    assert_eq!(read, ["metric-77"]);
}

/// Something that may be a namespace, or wants to be more than that.
fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        "[a-z'\"`\\\\{}=,~$ \n-]{1,12}",
        any::<String>(),
        Just("a\"} or vector(1) or jobs{a=\"".to_owned()),
        Just("a` or vector(1) or `".to_owned()),
        Just("$namespace".to_owned()),
    ]
}

proptest! {
    /// In whatever quotes a tenant writes `$namespace`, or without: the namespace of the resource
    /// stands there, letter for letter, and nothing that could end a string is in it.
    #[test]
    fn a_namespace_is_never_more_than_a_name(
        namespace in namespace(),
        quote in prop_oneof![Just("'"), Just("\""), Just("`"), Just("")],
    ) {
        let text = format!("sum(jobs{{ns={quote}$namespace{quote}}}) + up{{a='$namespace'}}");
        let mut store = store();
        put(&mut store, object_in(&namespace, "a", 1, query(&text), json!(null)));
        let collected = store.collect();
        if namespace.is_empty() {
            prop_assert_eq!(store.malformed(), 1);
            return Ok(());
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match served(&collected).first() {
            Some(served) => {
                prop_assert!(namespace.chars().all(is_name));
                prop_assert_eq!(served, &format!("a={}", text.replace("$namespace", &namespace)));
            }
            None => prop_assert!(
                !namespace.chars().all(is_name)
                    || namespace.starts_with('-')
                    || namespace.ends_with('-'),
                "{namespace}"
            ),
        }
    }
}

/// What a stream of changes can be made of.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, bool),
    Remove(u8),
    Relist(Vec<(u8, u8, bool)>),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let item = || (0..6_u8, 0..4_u8, any::<bool>());
    prop_oneof![
        4 => item().prop_map(|(name, version, good)| Step::Put(name, version, good)),
        2 => (0..6_u8).prop_map(Step::Remove),
        1 => prop::collection::vec(item(), 0..6).prop_map(Step::Relist),
        2 => Just(Step::Collect),
    ]
}

proptest! {
    /// However changes come and are put together: what is there in the end, and right, serves in its
    /// last version, what is wrong is refused, and nothing else is there.
    #[test]
    fn the_end_is_what_is_there(steps in prop::collection::vec(step(), 0..40), most in 1..5_usize) {
        let kind = DefinitionKind::ExternalMetric;
        let mut store = store_of(Tenancy { max_per_namespace: most, ..Tenancy::default() });
        let mut present: BTreeMap<u8, (u8, bool)> = BTreeMap::new();
        let made = |name: u8, version: u8, good: bool| {
            let spec = if good { query(&format!("v{version}")) } else { json!({"bad": version}) };
            object(&format!("m{name}"), name, spec)
        };
        for step in steps {
            match step {
                Step::Put(name, version, good) => {
                    present.insert(name, (version, good));
                    put(&mut store, made(name, version, good));
                }
                Step::Remove(name) => {
                    present.remove(&name);
                    remove(&mut store, made(name, 0, true));
                }
                Step::Relist(items) => {
                    present = items.iter().map(|(n, v, good)| (*n, (*v, *good))).collect();
                    store.take(Change::Begin(kind));
                    for (name, (version, good)) in &present {
                        put(&mut store, made(*name, *version, *good));
                    }
                    store.take(Change::End(kind));
                }
                Step::Collect => {
                    store.collect();
                }
            }
        }
        // Twice: what fits again is listed again.
        for _ in 0..2 {
            store.collect();
            store.take(Change::Begin(kind));
            for (name, (version, good)) in &present {
                put(&mut store, made(*name, *version, *good));
            }
            store.take(Change::End(kind));
        }
        store.touched = true;
        let collected = store.collect();
        prop_assert_eq!(collected.resources.len(), present.len());
        prop_assert!(collected.unread.is_empty());
        let (entries, _) = collected.definitions.unwrap();
        for (index, (name, (version, good))) in present.iter().enumerate() {
            let name = format!("m{name}");
            let declared = collected.resources.values().find(|d| *d.id.name == *name).unwrap();
            let served = entries.iter().find(|entry| *entry.id.name == *name);
            let accepted = *good && index < most;
            prop_assert_eq!(declared.verdict == Verdict::Accepted, accepted);
            if accepted {
                let spec = served.unwrap().query.resolve("").unwrap().spec.to_string();
                prop_assert_eq!(spec, format!("v{version}"));
            } else if index >= most {
                prop_assert!(served.is_none());
            }
        }
    }
}
