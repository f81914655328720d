//! One question for many readers.
//!
//! Where HPAs of several workloads of a namespace read one metric of their pods, each asks about
//! its own pods. If an answer about all pods of the namespace can be divided, it is asked once, in
//! place of all of them. While a single set of objects is read, the question is about those alone,
//! as the original asks it: a namespace may have thousands of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{ObjectNames, ObjectSet, ObjectsQuery, Query, QuerySpec, Tick};

/// A set of objects that was not read for so long counts no more: what the refresher takes for an
/// unread query.
const RECENT: Duration = Duration::from_mins(5);

/// Different sets of objects from which on the question is about all.
const CROWD: usize = 2;

/// Groups remembered. One is about 200 bytes; with more, all are forgotten and found again.
const MAX_GROUPS: usize = 10_000;

/// Who reads what of the questions that differ in their objects' names alone.
#[derive(Default)]
pub(super) struct Crowds {
    groups: Mutex<HashMap<u64, Group, ahash::RandomState>>,
    hasher: ahash::RandomState,
}

struct Group {
    wide: Arc<Query>,
    /// The sets of names read lately, by hash, and when. Bounded: more than a crowd is not needed.
    read: [(u64, Tick); CROWD],
}

impl Crowds {
    /// Notes that a question is asked, or is going to be, and gives the question about all objects in
    /// place of it, if there is a crowd and its answer can be divided.
    pub(super) fn wide(&self, query: &Arc<Query>, now: Tick) -> Option<Arc<Query>> {
        let QuerySpec::Objects(asked) = &query.spec else { return None };
        if !asked.text.0.is_divisible() {
            return None;
        }
        let key = self.key(query, asked);
        let names = self.hasher.hash_one(&asked.objects.names);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&key) {
            groups.clear();
        }
        let group = groups
            .entry(key)
            .or_insert_with(|| Group { wide: wide(query, asked), read: [(names, now); CROWD] });
        if !group.asks(query, asked) {
            return None;
        }
        group.note(names, now);
        group.is_crowd(now).then(|| Arc::clone(&group.wide))
    }

    /// The same without noting anything: the question about all objects, if there is a crowd.
    pub(super) fn wide_now(&self, query: &Query, now: Tick) -> Option<Arc<Query>> {
        let QuerySpec::Objects(asked) = &query.spec else { return None };
        let key = self.key(query, asked);
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.get(&key).filter(|group| group.asks(query, asked))?;
        group.is_crowd(now).then(|| Arc::clone(&group.wide))
    }

    /// The question about all objects that has been asked, or was, in place of this one.
    pub(super) fn once_wide(&self, query: &Query) -> Option<Arc<Query>> {
        let QuerySpec::Objects(asked) = &query.spec else { return None };
        let key = self.key(query, asked);
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.get(&key).filter(|group| group.asks(query, asked))?;
        Some(Arc::clone(&group.wide))
    }

    fn key(&self, query: &Query, asked: &ObjectsQuery) -> u64 {
        let ObjectSet { resource, namespace, .. } = &asked.objects;
        self.hasher.hash_one((&query.source, &resource.id, namespace, &asked.text))
    }
}

impl Group {
    /// Whether it is the group of this question: equal hashes are no proof, and another's values
    /// would be served.
    fn asks(&self, query: &Query, asked: &ObjectsQuery) -> bool {
        let QuerySpec::Objects(wide) = &self.wide.spec else { return false };
        self.wide.source == query.source
            && wide.objects.resource.id == asked.objects.resource.id
            && wide.objects.namespace == asked.objects.namespace
            && wide.text == asked.text
    }

    fn note(&mut self, names: u64, now: Tick) {
        if let Some(known) = self.read.iter_mut().find(|(known, _)| *known == names) {
            known.1 = now;
        } else if let Some(oldest) = self.read.iter_mut().min_by_key(|(_, at)| *at) {
            *oldest = (names, now);
        }
    }

    fn is_crowd(&self, now: Tick) -> bool {
        let first = self.read[0].0;
        self.read.iter().any(|(names, _)| *names != first)
            && self.read.iter().all(|(_, at)| now.since(*at) <= RECENT)
    }
}

fn wide(query: &Query, asked: &ObjectsQuery) -> Arc<Query> {
    let ObjectSet { resource, namespace, .. } = &asked.objects;
    let objects = ObjectSet {
        resource: Arc::clone(resource),
        namespace: namespace.clone(),
        names: ObjectNames::All,
    };
    let spec = QuerySpec::Objects(ObjectsQuery { objects, text: asked.text.clone() });
    Arc::new(Query { source: query.source.clone(), spec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        FetchError, GroupResource, ObjectsText, Resource, Selector, SourceName, WriteText,
    };

    #[derive(Debug)]
    struct Text {
        divisible: bool,
    }

    impl WriteText for Text {
        fn identity(&self) -> &'static str {
            "text"
        }

        fn write(&self, _names: Option<&[Arc<str>]>) -> Result<String, FetchError> {
            Ok("up".to_owned())
        }

        fn is_divisible(&self) -> bool {
            self.divisible
        }

        fn object_label(&self) -> &'static str {
            "pod"
        }
    }

    fn query(namespace: &str, selector: &str, divisible: bool) -> Arc<Query> {
        let resource = Resource {
            id: GroupResource { group: "".into(), resource: "pods".into() },
            version: "v1".into(),
            kind: "Pod".into(),
            singular: "pod".into(),
            namespaced: true,
        };
        let objects = ObjectSet {
            resource: Arc::new(resource),
            namespace: Some(namespace.into()),
            names: ObjectNames::Matching(Selector::parse(selector).unwrap()),
        };
        let text = ObjectsText(Arc::new(Text { divisible }));
        let spec = QuerySpec::Objects(ObjectsQuery { objects, text });
        Arc::new(Query { source: SourceName::new("main"), spec })
    }

    const MINUTE: u64 = 60_000;

    #[test]
    fn two_sets_of_one_namespace_are_a_crowd() {
        let crowds = Crowds::default();
        let wide = |namespace, selector, minute| {
            crowds.wide(&query(namespace, selector, true), Tick(minute * MINUTE))
        };
        assert_eq!(wide("shop", "app=a", 1), None);
        assert_eq!(wide("shop", "app=a", 1), None, "the same again");
        assert_eq!(wide("team", "app=b", 1), None, "of another namespace");
        let all = wide("shop", "app=b", 1).expect("a crowd");
        let QuerySpec::Objects(asked) = &all.spec else { panic!("{all:?}") };
        assert_eq!(asked.objects.names, ObjectNames::All);
        assert_eq!(asked.objects.namespace.as_deref(), Some("shop"));
        assert_eq!(wide("shop", "app=a", 2), Some(Arc::clone(&all)), "the first one, too");
        assert_eq!(wide("shop", "app=c", 2), Some(all));
    }

    #[test]
    fn a_crowd_is_over_when_one_set_alone_is_read() {
        let crowds = Crowds::default();
        let wide = |selector, minute| {
            crowds.wide(&query("shop", selector, true), Tick(minute * MINUTE)).is_some()
        };
        wide("app=a", 1);
        assert!(wide("app=b", 1));
        assert!(wide("app=b", 6));
        assert!(!wide("app=b", 7));
        assert!(wide("app=a", 8));
    }

    #[test]
    fn what_cannot_be_divided_is_asked_for_each() {
        let crowds = Crowds::default();
        for selector in ["app=a", "app=b", "app=c"] {
            assert_eq!(crowds.wide(&query("shop", selector, false), Tick(1)), None);
        }
    }
}
