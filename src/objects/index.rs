//! The names of a resource's objects, found by namespace and labels.
//!
//! Persistent: a change makes a new index that shares with the old one all that did not change. A
//! namespace is a row of leaves (`leaf`), each some hundred objects, so that a change costs one
//! leaf and not the namespace. Readers hold an index for as long as they like and never meet the
//! writer.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::model::{ObjectNames, Selector};
pub use crate::objects::leaf::Pair;
use crate::objects::leaf::{Leaf, Named};

/// An object as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its namespace; empty for one that lives in none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its labels, sorted by key.
    pub labels: Box<[Pair]>,
}

/// What happened to objects, by namespace and name: their labels now, or none if they are gone.
pub type Changes = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Option<Box<[Pair]>>>>;

/// All objects of a resource at a moment. Immutable; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Index(Arc<Contents>);

#[derive(Debug, Default)]
struct Contents {
    namespaces: BTreeMap<Arc<str>, Arc<Shard>>,
    count: usize,
    /// All names, once somebody asked for them.
    all: OnceLock<Arc<[Arc<str>]>>,
}

/// The objects of one namespace, at least one.
#[derive(Debug)]
struct Shard {
    /// In the order of names, none empty.
    leaves: Vec<Arc<Leaf>>,
    count: usize,
    all: OnceLock<Arc<[Arc<str>]>>,
}

impl Index {
    /// An index of a listing. Of two objects with one name the later counts.
    #[must_use]
    pub fn of(listing: Vec<Found>) -> Self {
        let mut namespaces: BTreeMap<Arc<str>, Vec<Named>> = BTreeMap::new();
        for Found { namespace, name, labels } in listing {
            namespaces.entry(namespace).or_default().push((name, labels));
        }
        let namespaces = namespaces.into_iter().map(|(namespace, mut objects)| {
            // Stable, so that the later of two comes later; then the later of them stays.
            objects.sort_by(|a, b| a.0.cmp(&b.0));
            objects.reverse();
            objects.dedup_by(|a, b| a.0 == b.0);
            objects.reverse();
            let leaves = Leaf::of(&objects).into_iter().map(Arc::new).collect();
            (namespace, Arc::new(Shard::new(leaves)))
        });
        Self::new(namespaces.collect())
    }

    fn new(namespaces: BTreeMap<Arc<str>, Arc<Shard>>) -> Self {
        let count = namespaces.values().map(|shard| shard.count).sum();
        Self(Arc::new(Contents { namespaces, count, all: OnceLock::new() }))
    }

    /// The index after these changes.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Self {
        let mut namespaces = self.0.namespaces.clone();
        for (namespace, changes) in changes {
            let leaves = match namespaces.get(namespace) {
                Some(shard) => shard.with(changes),
                None => Leaf::default().with(changes).into_iter().map(Arc::new).collect(),
            };
            if leaves.is_empty() {
                namespaces.remove(namespace);
            } else {
                namespaces.insert(Arc::clone(namespace), Arc::new(Shard::new(leaves)));
            }
        }
        Self::new(namespaces)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Whether an object is known; with these labels (sorted by key), if any are given.
    #[must_use]
    pub fn has(&self, namespace: &str, name: &str, labels: Option<&[Pair]>) -> bool {
        let leaf = self.0.namespaces.get(namespace).and_then(|shard| shard.leaf_of(name));
        leaf.is_some_and(|leaf| leaf.has(name, labels))
    }

    /// The names of a set, in the order of namespaces and names. No namespace: the whole cluster.
    #[must_use]
    pub fn names(&self, namespace: Option<&str>, names: &ObjectNames) -> Arc<[Arc<str>]> {
        let selector = match names {
            ObjectNames::One(name) => return Arc::from([Arc::clone(name)]),
            ObjectNames::Matching(selector) if !selector.is_everything() => Some(selector),
            ObjectNames::Matching(_) | ObjectNames::All => None,
        };
        match (namespace, selector) {
            (None, None) => Arc::clone(self.0.all.get_or_init(|| {
                self.0.namespaces.values().flat_map(|shard| shard.names()).map(Arc::clone).collect()
            })),
            (None, Some(selector)) => selected(self.0.namespaces.values(), selector),
            (Some(namespace), selector) => match (self.0.namespaces.get(namespace), selector) {
                (None, _) => Arc::from([]),
                (Some(shard), None) => {
                    Arc::clone(shard.all.get_or_init(|| shard.names().map(Arc::clone).collect()))
                }
                (Some(shard), Some(selector)) => selected([shard], selector),
            },
        }
    }
}

fn selected<'a>(
    shards: impl IntoIterator<Item = &'a Arc<Shard>>,
    selector: &Selector,
) -> Arc<[Arc<str>]> {
    let mut names = Vec::new();
    for leaf in shards.into_iter().flat_map(|shard| &shard.leaves) {
        leaf.select(selector, &mut names);
    }
    names.into()
}

impl Shard {
    fn new(leaves: Vec<Arc<Leaf>>) -> Self {
        let count = leaves.iter().map(|leaf| leaf.len()).sum();
        Self { leaves, count, all: OnceLock::new() }
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.leaves.iter().flat_map(|leaf| leaf.names())
    }

    /// The leaf in which a name is or would be.
    fn leaf_of(&self, name: &str) -> Option<&Leaf> {
        let behind =
            self.leaves.partition_point(|leaf| leaf.names().first().is_some_and(|f| **f <= *name));
        self.leaves.get(behind.saturating_sub(1)).map(|leaf| &**leaf)
    }

    fn with(&self, changes: &BTreeMap<Arc<str>, Option<Box<[Pair]>>>) -> Vec<Arc<Leaf>> {
        let mut leaves: Vec<Arc<Leaf>> = Vec::with_capacity(self.leaves.len() + 1);
        let mut changes = changes.iter().peekable();
        for (at, leaf) in self.leaves.iter().enumerate() {
            let next = self.leaves.get(at + 1).and_then(|next| next.names().first());
            let mut own = Vec::new();
            while let Some(change) = changes.next_if(|(name, _)| next.is_none_or(|n| *name < n)) {
                own.push(change);
            }
            let made = if own.is_empty() {
                vec![Arc::clone(leaf)]
            } else {
                leaf.with(own).into_iter().map(Arc::new).collect()
            };
            for leaf in made {
                match leaves.last_mut().and_then(|last| Some((last.joined(&leaf)?, last))) {
                    Some((joined, last)) => *last = Arc::new(joined),
                    None => leaves.push(leaf),
                }
            }
        }
        leaves
    }
}

/// Texts of which there are many equal ones: each is kept once. Those that nobody uses any more are
/// let go when the number has doubled.
#[derive(Debug, Default)]
pub struct Words {
    known: HashSet<Arc<str>, ahash::RandomState>,
    sweep_at: usize,
}

/// Fewer texts than this are not worth looking through.
const SWEEP_FROM: usize = 4096;

impl Words {
    /// A text, shared with all that are equal.
    pub fn of(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let word: Arc<str> = text.into();
        self.known.insert(Arc::clone(&word));
        word
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests;
