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
        let ObjectSet { resource, namespace, names } = &asked.objects;
        let key = self.hasher.hash_one((&query.source, &resource.id, namespace, &asked.text));
        let names = self.hasher.hash_one(names);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&key) {
            groups.clear();
        }
        let group = groups
            .entry(key)
            .or_insert_with(|| Group { wide: wide(query, asked), read: [(names, now); CROWD] });
        group.note(names, now);
        group.is_crowd(now).then(|| Arc::clone(&group.wide))
    }
}

impl Group {
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
