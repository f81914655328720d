//! A run of objects of one namespace, neighbours by name: immutable, with the labels turned inside
//! out, so that a selector costs a few binary searches and not a look at each object.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::{Operator, Requirement, Selector};

/// Most objects in one leaf. A change costs the rebuilding of a leaf, a selection a few searches
/// per leaf: with 512, a namespace of 50,000 pods is 100 to 200 leaves, which a selection passes in
/// less than a tenth of a millisecond, and a change takes about as long (`benches/objects_select`).
pub(super) const MOST: usize = 512;

/// Of two neighbours of which one has fewer objects than this, one is made if both together are
/// not more than [`FULL`].
const FEW: usize = 128;

/// How full a leaf is made, so that it takes some objects more before it is divided.
pub(super) const FULL: usize = 384;

const WORD: usize = u64::BITS as usize;

/// Which objects of a leaf: a bit for each.
type Bits = [u64; MOST / WORD];

/// A label: key and value. Equal texts of one index mostly are one allocation.
pub type Pair = (Arc<str>, Arc<str>);

/// Objects in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    names: Box<[Arc<str>]>,
    /// How many labels each has.
    labels: Box<[u32]>,
    /// All different labels, sorted.
    pairs: Box<[Pair]>,
    /// Where in `posts` those of each pair end.
    ends: Box<[u32]>,
    /// The places (in `names`) of the objects that have a pair, pair by pair.
    posts: Box<[u16]>,
}

/// An object's name and its labels, sorted by key.
pub(super) type Named = (Arc<str>, Box<[Pair]>);

/// A label of an object, on the way into a leaf.
type Post<'a> = (&'a Pair, u32);

fn order(a: &Pair, b: &Pair) -> Ordering {
    let word = |a: &Arc<str>, b: &Arc<str>| {
        if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) }
    };
    word(&a.0, &b.0).then_with(|| word(&a.1, &b.1))
}

impl Leaf {
    /// Leaves of these objects: sorted by name, no name twice.
    pub(super) fn of(objects: &[Named]) -> Vec<Self> {
        let parts = objects.len().div_ceil(FULL).max(1);
        let size = objects.len().div_ceil(parts).max(1);
        objects
            .chunks(size)
            .map(|objects| {
                let names: Vec<_> = objects.iter().map(|(name, _)| Arc::clone(name)).collect();
                let mut posts: Vec<Post<'_>> = Vec::new();
                for (place, (_, labels)) in (0_u32..).zip(objects) {
                    posts.extend(labels.iter().map(|pair| (pair, place)));
                }
                sort(&mut posts);
                Self::build(&names, 0, &posts)
            })
            .collect()
    }

    /// The objects `names`, of which the first has the place `first` in the sorted posts.
    fn build(names: &[Arc<str>], first: u32, posts: &[Post<'_>]) -> Self {
        let mut labels = vec![0_u32; names.len()];
        let (mut pairs, mut ends, mut places): (Vec<Pair>, Vec<u32>, Vec<u16>) =
            (Vec::new(), Vec::new(), Vec::with_capacity(posts.len()));
        for (pair, place) in posts {
            let Some(own) = place.checked_sub(first) else { continue };
            let Some(count) = labels.get_mut(own as usize) else { continue };
            *count += 1;
            if pairs.last().is_none_or(|last| order(last, pair).is_ne()) {
                pairs.push((*pair).clone());
                ends.push(0);
            }
            // A leaf has `MOST` objects.
            places.push(u16::try_from(own).unwrap_or(u16::MAX));
            if let Some(end) = ends.last_mut() {
                *end = u32::try_from(places.len()).unwrap_or(u32::MAX);
            }
        }
        Self {
            names: names.into(),
            labels: labels.into(),
            pairs: pairs.into(),
            ends: ends.into(),
            posts: places.into(),
        }
    }

    /// This leaf with changes, sorted by name: new labels, or none for an object that is gone. One
    /// leaf, several if it grew too large, none if it is empty.
    pub(super) fn with<'a>(
        &'a self,
        changes: impl IntoIterator<Item = (&'a Arc<str>, &'a Option<Box<[Pair]>>)>,
    ) -> Vec<Self> {
        const GONE: u32 = u32::MAX;
        let mut names: Vec<Arc<str>> = Vec::with_capacity(self.names.len());
        let mut moved = vec![GONE; self.names.len()];
        let mut fresh: Vec<Post<'_>> = Vec::new();
        let mut old = 0;
        let place = |names: &Vec<Arc<str>>| u32::try_from(names.len()).unwrap_or(u32::MAX);
        for (name, labels) in changes {
            while old < self.names.len() && self.names[old] < *name {
                moved[old] = place(&names);
                names.push(Arc::clone(&self.names[old]));
                old += 1;
            }
            let known = old < self.names.len() && self.names[old] == *name;
            if let Some(labels) = labels {
                fresh.extend(labels.iter().map(|pair| (pair, place(&names))));
                names.push(Arc::clone(if known { &self.names[old] } else { name }));
            }
            old += usize::from(known);
        }
        for (name, moved) in self.names.iter().zip(&mut moved).skip(old) {
            *moved = place(&names);
            names.push(Arc::clone(name));
        }
        let mut posts: Vec<Post<'_>> = Vec::with_capacity(self.posts.len() + fresh.len());
        for at in 0..self.pairs.len() {
            posts.extend(self.posts_of(at).iter().filter_map(|old| {
                let place = moved[usize::from(*old)];
                (place != GONE).then_some((&self.pairs[at], place))
            }));
        }
        posts.extend(fresh);
        // Two sorted runs, nearly: the sort merges them.
        sort(&mut posts);
        Self::divided(&names, &posts)
    }

    fn divided(names: &[Arc<str>], posts: &[Post<'_>]) -> Vec<Self> {
        if names.is_empty() {
            return Vec::new();
        }
        let parts = if names.len() <= MOST { 1 } else { names.len().div_ceil(FULL) };
        let mut first = 0_u32;
        names
            .chunks(names.len().div_ceil(parts))
            .map(|names| {
                let leaf = Self::build(names, first, posts);
                first = first.saturating_add(u32::try_from(names.len()).unwrap_or(u32::MAX));
                leaf
            })
            .collect()
    }

    /// One leaf of this and the one behind it, if they are small.
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
        let small = self.len().min(next.len()) < FEW && self.len() + next.len() <= FULL;
        small.then(|| {
            let names: Vec<_> = self.names.iter().chain(&next.names).map(Arc::clone).collect();
            let shift = u32::try_from(self.len()).unwrap_or(u32::MAX);
            let mut posts: Vec<Post<'_>> = Vec::new();
            for (leaf, shift) in [(self, 0), (next, shift)] {
                for (at, pair) in leaf.pairs.iter().enumerate() {
                    posts.extend(leaf.posts_of(at).iter().map(|p| (pair, u32::from(*p) + shift)));
                }
            }
            sort(&mut posts);
            Self::build(&names, 0, &posts)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    fn posts_of(&self, pair: usize) -> &[u16] {
        let begin = pair.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.posts[begin as usize..self.ends[pair] as usize]
    }

    /// Whether an object is here; with its labels, if they are given.
    pub(super) fn has(&self, name: &str, labels: Option<&[Pair]>) -> bool {
        let Ok(at) = self.names.binary_search_by(|known| (**known).cmp(name)) else { return false };
        let Some(labels) = labels else { return true };
        let post = u16::try_from(at).unwrap_or(u16::MAX);
        self.labels[at] as usize == labels.len()
            && labels.iter().all(|pair| {
                self.pairs
                    .binary_search_by(|known| order(known, pair))
                    .is_ok_and(|pair| self.posts_of(pair).binary_search(&post).is_ok())
            })
    }

    /// Appends the names of the objects that a selector matches, in order.
    pub(super) fn select(&self, selector: &Selector, into: &mut Vec<Arc<str>>) {
        let mut chosen: Bits =
            std::array::from_fn(|word| match self.names.len().saturating_sub(word * WORD) {
                0 => 0,
                rest if rest >= WORD => u64::MAX,
                rest => (1 << rest) - 1,
            });
        for requirement in selector.requirements() {
            let fitting = self.fitting(requirement);
            let mut any = 0;
            for (chosen, fitting) in chosen.iter_mut().zip(fitting) {
                *chosen &= fitting;
                any |= *chosen;
            }
            if any == 0 {
                return;
            }
        }
        for (word, mut bits) in chosen.into_iter().enumerate() {
            while bits != 0 {
                let place = word * WORD + bits.trailing_zeros() as usize;
                into.push(Arc::clone(&self.names[place]));
                bits &= bits - 1;
            }
        }
    }

    /// The objects that fulfil a requirement.
    fn fitting(&self, requirement: &Requirement) -> Bits {
        let (mut fitting, mut present): (Bits, Bits) = Default::default();
        let key = requirement.key.as_str();
        // By far the most requirements are of these.
        if matches!(requirement.operator, Operator::Equals | Operator::In) {
            for value in &requirement.values {
                let found = self
                    .pairs
                    .binary_search_by(|(k, v)| (**k).cmp(key).then_with(|| (**v).cmp(value)));
                if let Ok(pair) = found {
                    mark(&mut fitting, self.posts_of(pair));
                }
            }
            return fitting;
        }
        let begin = self.pairs.partition_point(|(k, _)| **k < *key);
        for (pair, (k, value)) in self.pairs.iter().enumerate().skip(begin) {
            if **k != *key {
                break;
            }
            mark(&mut present, self.posts_of(pair));
            if requirement.matches_value(Some(value)) {
                mark(&mut fitting, self.posts_of(pair));
            }
        }
        if requirement.matches_value(None) {
            for (fitting, present) in fitting.iter_mut().zip(present) {
                *fitting |= !present;
            }
        }
        fitting
    }
}

fn sort(posts: &mut [Post<'_>]) {
    posts.sort_by(|a, b| order(a.0, b.0).then(a.1.cmp(&b.1)));
}

fn mark(bits: &mut Bits, posts: &[u16]) {
    for post in posts {
        let post = usize::from(*post);
        bits[post / WORD] |= 1 << (post % WORD);
    }
}
