//! One immutable state of the catalog.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::cache::QueryCell;
use crate::model::{
    DefinitionId, Entry, MetricName, Origin, Problem, ProblemKind, Query, QueryTemplate, Scope,
};

/// A definition as it is served.
#[derive(Debug)]
pub struct Served {
    /// The definition.
    pub entry: Arc<Entry>,
    /// The cell of its query; none when the query depends on the request.
    pub cell: Option<Arc<QueryCell>>,
}

/// All definitions of one metric name.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those of one namespace, by namespace, in order of age. A tree, because it takes no room
    /// while it is empty, as it is for most of a hundred thousand cluster-wide metrics.
    namespaced: BTreeMap<Arc<str>, Vec<Arc<Served>>>,
    /// The cluster-wide ones, in order of age.
    cluster: Vec<Arc<Served>>,
}

impl Listing {
    /// The definitions that a request in `namespace` may see, by precedence: namespaced before
    /// cluster-wide. `selected` says whether a namespace's labels match a selector.
    ///
    /// Of two with the same labels only the first is given.
    pub fn visible<'a>(
        &'a self,
        namespace: &'a str,
        selected: impl Fn(&Scope) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Arc<Served>> {
        let own = self.namespaced.get(namespace).map_or(&[][..], Vec::as_slice);
        let wide = self.cluster.iter().enumerate().filter(move |(i, served)| {
            is_visible(&served.entry.scope, namespace, &selected)
                && own.iter().all(|o| o.entry.labels != served.entry.labels)
                // Two cluster-wide definitions with equal labels can both be here when their
                // scopes differ; where both are seen, the older one counts.
                && !self.cluster[..*i].iter().any(|older| {
                    older.entry.labels == served.entry.labels
                        && is_visible(&older.entry.scope, namespace, &selected)
                })
        });
        own.iter().chain(wide.map(|(_, served)| served))
    }

    /// All definitions.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.namespaced.values().flatten().chain(&self.cluster)
    }
}

fn is_visible(scope: &Scope, namespace: &str, selected: &impl Fn(&Scope) -> bool) -> bool {
    match scope {
        Scope::Namespace(own) => **own == *namespace,
        Scope::All => true,
        Scope::Listed(list) => list.contains(namespace),
        Scope::Selected(_) => selected(scope),
    }
}

/// Two definitions of the same name with the same labels: the loser is not served where both are
/// seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The definition that is served.
    pub winner: DefinitionId,
    /// Where it was read.
    pub winner_origin: Origin,
    /// The other one.
    pub loser: DefinitionId,
    /// Where it was read.
    pub loser_origin: Origin,
    /// What they both define.
    pub metric: MetricName,
    /// Of which objects, if it is a metric of objects.
    pub resource: Option<Arc<str>>,
    /// Whether the loser is served nowhere (otherwise: not in some namespaces).
    pub total: bool,
}

impl Conflict {
    /// The mistake that this is, at the loser. None when the loser is served somewhere: a
    /// definition of a namespace that goes before a cluster-wide one is how precedence is used.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let (path, line) = match &self.loser_origin {
            Origin::File { path, line } => (path.clone(), *line),
            Origin::Resource { .. } => (self.loser.resource_path().into(), 0),
        };
        let problem = Problem::new(path, self.sentence()).at(line, 0);
        self.total.then(|| problem.of_kind(ProblemKind::Conflict))
    }

    fn sentence(&self) -> String {
        let extent = if self.total { "is not served" } else { "is not served where both are seen" };
        let what = match &self.resource {
            Some(resource) => format!("{} of {resource}, as does", self.metric),
            None => format!("{} with the same labels as", self.metric),
        };
        format!(
            "{} defines metric {what} {} ({}) and {extent}",
            self.loser, self.winner, self.winner_origin
        )
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.loser_origin, self.sentence())
    }
}

/// One immutable state of the catalog.
#[derive(Debug, Default)]
pub struct Snapshot {
    listings: HashMap<MetricName, Listing, ahash::RandomState>,
    /// Metrics of objects: by name and then by resource, as definitions write it. Most have one.
    custom: HashMap<MetricName, Vec<(Arc<str>, Listing)>, ahash::RandomState>,
    cells: HashMap<Arc<Query>, Arc<QueryCell>, ahash::RandomState>,
    names: Arc<[MetricName]>,
    conflicts: Vec<Conflict>,
    problems: Vec<Problem>,
    generation: u64,
}

impl Snapshot {
    /// Builds a snapshot from definitions in order of age, oldest first.
    #[must_use]
    pub fn build(
        entries: Vec<Arc<Entry>>,
        problems: Vec<Problem>,
        generation: u64,
        cell_of: impl Fn(&Arc<Query>) -> Option<Arc<QueryCell>>,
    ) -> Self {
        let mut snapshot = Self { problems, generation, ..Self::default() };
        for entry in entries {
            snapshot.add(entry, &cell_of);
        }
        snapshot.note_shadowed();
        let mut names: Vec<_> = snapshot.listings.keys().cloned().collect();
        names.sort();
        snapshot.names = names.into();
        snapshot
    }

    fn add(&mut self, entry: Arc<Entry>, cell_of: &impl Fn(&Arc<Query>) -> Option<Arc<QueryCell>>) {
        let listing = match &entry.objects {
            None => self.listings.entry(entry.metric.clone()).or_default(),
            Some(of) => {
                let listings = self.custom.entry(entry.metric.clone()).or_default();
                let at = listings.iter().position(|(resource, _)| *resource == of.resource);
                let at = at.unwrap_or_else(|| {
                    listings.push((Arc::clone(&of.resource), Listing::default()));
                    listings.len() - 1
                });
                &mut listings[at].1
            }
        };
        let peers = match &entry.scope {
            Scope::Namespace(namespace) => {
                listing.namespaced.entry(Arc::clone(namespace)).or_default()
            }
            Scope::All | Scope::Listed(_) | Scope::Selected(_) => &mut listing.cluster,
        };
        // An older definition with the same labels that is seen wherever this one is.
        let rival = peers.iter().find(|peer| {
            peer.entry.labels == entry.labels && covers(&peer.entry.scope, &entry.scope)
        });
        if let Some(winner) = rival {
            self.conflicts.push(conflict(&winner.entry, &entry, true));
            return;
        }
        let cell = match &entry.query {
            QueryTemplate::Fixed(query) => cell_of(query),
            QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_) => None,
        };
        if let Some(cell) = &cell {
            self.cells.insert(Arc::clone(cell.query()), Arc::clone(cell));
        }
        if peers.is_empty() {
            // Most names have one definition.
            peers.reserve_exact(1);
        }
        peers.push(Arc::new(Served { entry, cell }));
    }

    /// Reports definitions that lose only in some namespaces.
    fn note_shadowed(&mut self) {
        let custom = self.custom.values().flatten().map(|(_, listing)| listing);
        for listing in self.listings.values().chain(custom) {
            for (i, wide) in listing.cluster.iter().enumerate() {
                let same = |other: &&Arc<Served>| other.entry.labels == wide.entry.labels;
                let own = listing
                    .namespaced
                    .values()
                    .flatten()
                    .filter(same)
                    .filter(|own| covers(&wide.entry.scope, &own.entry.scope));
                let older = listing.cluster[..i]
                    .iter()
                    .filter(same)
                    .filter(|older| overlaps(&older.entry.scope, &wide.entry.scope));
                for winner in own.chain(older) {
                    self.conflicts.push(conflict(&winner.entry, &wide.entry, false));
                }
            }
        }
        self.conflicts.sort_by(|a, b| {
            (&a.loser_origin, &a.loser, &a.winner).cmp(&(&b.loser_origin, &b.loser, &b.winner))
        });
    }

    /// The definitions of a metric. `metric` is case-folded already.
    #[must_use]
    pub fn listing(&self, metric: &str) -> Option<&Listing> {
        self.listings.get(metric)
    }

    /// The name as the catalog holds it, so that readers share one allocation.
    #[must_use]
    pub fn find(&self, metric: &str) -> Option<(&MetricName, &Listing)> {
        self.listings.get_key_value(metric)
    }

    /// The definitions of a metric of objects, by exact name: by resource, as they write it.
    #[must_use]
    pub fn custom(&self, metric: &str) -> &[(Arc<str>, Listing)] {
        self.custom.get(metric).map_or(&[], Vec::as_slice)
    }

    /// All metrics of objects, with their resources as definitions write them, in no order.
    pub fn custom_names(&self) -> impl Iterator<Item = (&MetricName, &Arc<str>)> {
        self.custom.iter().flat_map(|(metric, listings)| {
            listings.iter().map(move |(resource, _)| (metric, resource))
        })
    }

    /// The names of all external metrics, sorted. Made once, because every health probe of the
    /// aggregator asks.
    #[must_use]
    pub fn names(&self) -> Arc<[MetricName]> {
        Arc::clone(&self.names)
    }

    /// All served definitions, in no order.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Served>> {
        let custom = self.custom.values().flatten().map(|(_, listing)| listing);
        self.listings.values().chain(custom).flat_map(Listing::all)
    }

    /// The cell of a known query.
    #[must_use]
    pub fn cell(&self, query: &Arc<Query>) -> Option<&Arc<QueryCell>> {
        self.cells.get(query)
    }

    /// Whether a query is known.
    #[must_use]
    pub fn has_cell(&self, query: &Arc<Query>) -> bool {
        self.cells.contains_key(query)
    }

    /// The cells of all known queries, in no order.
    pub fn cells(&self) -> impl Iterator<Item = (&Arc<Query>, &Arc<QueryCell>)> {
        self.cells.iter()
    }

    /// Definitions that lost to others, by place.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// What is wrong in the files, by place.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Counts the changes since the start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Whether every namespace that sees `inner` surely sees `outer` too.
fn covers(outer: &Scope, inner: &Scope) -> bool {
    match (outer, inner) {
        (Scope::All, _) => true,
        (Scope::Namespace(a), Scope::Namespace(b)) => a == b,
        (Scope::Listed(list), Scope::Namespace(one)) => list.contains(one),
        (Scope::Listed(a), Scope::Listed(b)) => b.is_subset(a),
        (Scope::Selected(a), Scope::Selected(b)) => a == b,
        (Scope::Namespace(_) | Scope::Listed(_) | Scope::Selected(_), _) => false,
    }
}

/// Whether some namespace may see both.
fn overlaps(a: &Scope, b: &Scope) -> bool {
    match (a, b) {
        (Scope::Listed(a), Scope::Listed(b)) => !a.is_disjoint(b),
        // Label selectors can match anything.
        (Scope::Selected(_), _) | (_, Scope::Selected(_)) => true,
        _ => covers(a, b) || covers(b, a),
    }
}

fn conflict(winner: &Entry, loser: &Entry, total: bool) -> Conflict {
    debug_assert!(winner.id.kind.is_namespaced() || loser.id.kind == winner.id.kind);
    Conflict {
        winner: winner.id.clone(),
        winner_origin: winner.origin.clone(),
        loser: loser.id.clone(),
        loser_origin: loser.origin.clone(),
        metric: loser.metric.clone(),
        resource: loser.objects.as_ref().map(|of| Arc::clone(&of.resource)),
        total,
    }
}
