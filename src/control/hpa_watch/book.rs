//! Which HPAs refer to what. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::usage::Used;
use crate::model::{Announced, MetricReference};

/// Most references that are kept, counted once for each HPA: five times the scale we are built
/// for, a few hundred bytes each. HPAs above it are not announced; their metrics are fetched when
/// they are read.
pub(super) const MAX_REFERENCES: usize = 100_000;

/// One reference, however many HPAs make it.
#[derive(Debug)]
pub(super) struct Entry {
    /// HPAs that make it.
    pub(super) hpas: u32,
    /// Of these, those that were announced in the present round.
    pub(super) claimed: u32,
    /// Whether it waits to be announced.
    pub(super) queued: bool,
    /// What the latest announcement ended in.
    pub(super) announced: Option<Announced>,
}

/// The references whose [`Entry::hpas`] may have changed. One can be in it more than once.
pub(super) type Touched = Vec<Arc<MetricReference>>;

/// Whether an HPA was left out because of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Never,
    First,
    Told,
}

/// All HPAs that refer to metrics, and the references themselves.
#[derive(Debug)]
pub(super) struct Book {
    hpas: HashMap<Arc<str>, Box<[Arc<MetricReference>]>>,
    references: HashMap<Arc<MetricReference>, Entry>,
    /// Of a listing under way: the HPAs that were in it so far.
    listed: HashSet<Arc<str>>,
    /// References, counted once for each HPA.
    size: usize,
    limit: usize,
    overflow: Overflow,
}

/// The name in an HPA's key, `<namespace>/<name>`.
fn name_in(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

impl Book {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            hpas: HashMap::new(),
            references: HashMap::new(),
            listed: HashSet::new(),
            size: 0,
            limit,
            overflow: Overflow::Never,
        }
    }

    /// A listing begins.
    pub(super) fn begin_listing(&mut self) {
        self.listed.clear();
    }

    /// An HPA of the listing.
    pub(super) fn list(&mut self, key: Arc<str>, references: Vec<MetricReference>) -> Touched {
        if !references.is_empty() {
            self.listed.insert(Arc::clone(&key));
        }
        self.put(key, references)
    }

    /// The listing is whole: what was not in it is gone.
    pub(super) fn end_listing(&mut self) -> Touched {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<_> =
            self.hpas.keys().filter(|key| !listed.contains(*key)).map(Arc::clone).collect();
        gone.iter().flat_map(|key| self.remove(key)).collect()
    }

    /// An HPA that is new or has changed.
    pub(super) fn put(&mut self, key: Arc<str>, references: Vec<MetricReference>) -> Touched {
        if references.is_empty() {
            return self.remove(&key);
        }
        let before = self.hpas.get(&key).map_or(&[][..], |before| before);
        // Nearly every event is about the status alone.
        if before.iter().map(|known| &**known).eq(&references) {
            return Touched::new();
        }
        if self.size - before.len() + references.len() > self.limit {
            if self.overflow == Overflow::Never {
                self.overflow = Overflow::First;
            }
            return self.remove(&key);
        }
        let mut touched = self.remove(&key);
        let references: Box<[_]> =
            references.into_iter().map(|reference| self.enter(reference)).collect();
        touched.extend(references.iter().map(Arc::clone));
        self.size += references.len();
        self.hpas.insert(key, references);
        touched
    }

    /// An HPA that is gone.
    pub(super) fn remove(&mut self, key: &str) -> Touched {
        let Some(references) = self.hpas.remove(key) else { return Touched::new() };
        self.size -= references.len();
        for reference in &references {
            if let Some(entry) = self.references.get_mut(reference) {
                entry.hpas -= 1;
            }
        }
        references.into_vec()
    }

    fn enter(&mut self, reference: MetricReference) -> Arc<MetricReference> {
        let known = self.references.get_key_value(&reference).map(|(known, _)| Arc::clone(known));
        let reference = known.unwrap_or_else(|| Arc::new(reference));
        let entry = self.references.entry(Arc::clone(&reference)).or_insert(Entry {
            hpas: 0,
            claimed: 0,
            queued: false,
            announced: None,
        });
        entry.hpas += 1;
        reference
    }

    /// What is known about a reference.
    pub(super) fn get_mut(&mut self, reference: &MetricReference) -> Option<&mut Entry> {
        self.references.get_mut(reference)
    }

    /// Forgets a reference that no HPA makes any more; gives what was known about it.
    pub(super) fn forget_unused(&mut self, reference: &MetricReference) -> Option<Entry> {
        let unused = self.references.get(reference).is_some_and(|entry| entry.hpas == 0);
        if unused { self.references.remove(reference) } else { None }
    }

    /// All references.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<MetricReference>, &mut Entry)> {
        self.references.iter_mut()
    }

    /// Every reference with the names of the HPAs that make it. About a quarter of a microsecond for
    /// each that an HPA makes.
    pub(super) fn used(&self) -> Vec<Used> {
        // References are kept once, so that their address tells them apart.
        let mut by_address: HashMap<*const MetricReference, usize, ahash::RandomState> =
            HashMap::with_capacity_and_hasher(self.references.len(), ahash::RandomState::new());
        let mut all: Vec<(&Arc<MetricReference>, Vec<Arc<str>>)> =
            Vec::with_capacity(self.references.len());
        for (key, references) in &self.hpas {
            let name: Arc<str> = name_in(key).into();
            for reference in references {
                let at = *by_address.entry(Arc::as_ptr(reference)).or_insert_with(|| {
                    all.push((reference, Vec::new()));
                    all.len() - 1
                });
                all[at].1.push(Arc::clone(&name));
            }
        }
        all.into_iter()
            .map(|(reference, mut hpas)| {
                hpas.sort_unstable();
                Used { reference: Arc::clone(reference), hpas: hpas.into() }
            })
            .collect()
    }

    /// HPAs that refer to metrics.
    pub(super) fn hpas(&self) -> usize {
        self.hpas.len()
    }

    /// Different references.
    pub(super) fn references(&self) -> usize {
        self.references.len()
    }

    /// Whether an HPA was left out because of the limit, for the first time.
    pub(super) fn overflows_first(&mut self) -> bool {
        let first = self.overflow == Overflow::First;
        if first {
            self.overflow = Overflow::Told;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ReferenceKind, Selector};

    fn refs(names: &str) -> Vec<MetricReference> {
        names
            .split_whitespace()
            .map(|name| MetricReference {
                namespace: "shop".into(),
                metric: name.into(),
                selector: Selector::default(),
                kind: ReferenceKind::External,
            })
            .collect()
    }

    /// The metrics that were touched, with how many HPAs now refer to them.
    fn shown(book: &mut Book, touched: &[Arc<MetricReference>]) -> String {
        let mut all: Vec<String> = touched
            .iter()
            .map(|r| format!("{}:{}", r.metric, book.get_mut(r).map_or(0, |entry| entry.hpas)))
            .collect();
        all.sort();
        all.dedup();
        all.join(" ")
    }

    fn put(book: &mut Book, key: &str, names: &str) -> String {
        let touched = book.put(key.into(), refs(names));
        shown(book, &touched)
    }

    #[test]
    fn references_are_counted_by_hpa() {
        let mut book = Book::new(100);
        assert_eq!(put(&mut book, "x", "a b"), "a:1 b:1");
        assert_eq!(put(&mut book, "y", "b"), "b:2");
        assert_eq!((book.hpas(), book.references(), book.size), (2, 2, 3));
        assert_eq!(put(&mut book, "x", "a b"), "", "only the status changed");
        assert_eq!(put(&mut book, "x", "b c"), "a:0 b:2 c:1");
        assert!(book.forget_unused(&refs("b")[0]).is_none(), "two make it");
        assert!(book.forget_unused(&refs("a")[0]).is_some());
        let touched = book.remove("x");
        assert_eq!(shown(&mut book, &touched), "b:1 c:0");
        assert_eq!(put(&mut book, "y", ""), "b:0");
        assert_eq!((book.hpas(), book.size), (0, 0));
    }

    #[test]
    fn what_a_whole_listing_lacks_is_gone() {
        let mut book = Book::new(100);
        put(&mut book, "x", "a");
        put(&mut book, "y", "b");
        book.begin_listing();
        book.list("z".into(), refs("c"));
        // It broke off; the next one begins anew.
        book.begin_listing();
        book.list("y".into(), refs("b"));
        book.list("idle".into(), Vec::new());
        assert_eq!(book.hpas(), 3, "nothing goes before the end");
        let touched = book.end_listing();
        assert_eq!((shown(&mut book, &touched), book.hpas()), ("a:0 c:0".to_owned(), 1));
    }

    #[test]
    fn it_tells_who_makes_which_reference() {
        let mut book = Book::new(100);
        for (key, names) in [("shop/y", "b a"), ("shop/x", "b"), ("shop/z", "c"), ("shop/z", "b")] {
            put(&mut book, key, names);
        }
        let mut used: Vec<_> = book
            .used()
            .iter()
            .map(|used| format!("{}: {}", used.reference.metric, used.hpas.join(" ")))
            .collect();
        used.sort();
        assert_eq!(used, ["a: y", "b: x y z"]);
        for used in book.used() {
            let (kept, _) = book.references.get_key_value(&used.reference).unwrap();
            assert!(Arc::ptr_eq(&used.reference, kept));
        }
    }

    #[test]
    fn above_the_limit_an_hpa_is_left_out_whole() {
        let mut book = Book::new(3);
        put(&mut book, "x", "a b");
        assert_eq!(put(&mut book, "y", "c d"), "");
        assert!(book.overflows_first());
        assert_eq!(put(&mut book, "z", "c"), "c:1");
        assert_eq!(put(&mut book, "x", "a b c"), "a:0 b:0", "it grew too much");
        assert!(!book.overflows_first(), "once is enough");
        assert_eq!(put(&mut book, "y", "c d"), "c:2 d:1", "there is room now");
    }
}
