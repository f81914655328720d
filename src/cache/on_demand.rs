//! Queries that exist only because somebody read them or announced to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::cache::QueryCell;
use crate::model::{Entry, Policy, Query};

/// How many on-demand queries are kept. A cell costs about a kilobyte with its sample, so the
/// store stays near ten megabytes at worst; 10,000 namespaces that each read one cluster-wide
/// definition fit.
pub const CAPACITY: u64 = 10_000;

/// How long an unread on-demand query is kept: twice the time after which the refresher lets an
/// unread query of the usual pace lapse, so that such a query is gone from the schedule before its
/// cell is. That of a slower one (above a third of this) retires with its cell.
pub const IDLE: Duration = Duration::from_mins(10);

/// Announcements fill at most this part of the store. They come in any number and are renewed
/// every minute; past this they would push out each other and what is read.
const ANNOUNCED_SHARE: (u64, u64) = (3, 4);

/// The bounded store of cells for queries that depend on the request (`$namespace`).
///
/// An evicted cell is retired: the refresher drops it, and the next read makes a new one. No cell
/// here is kept warm: nothing else than reads and announcements would tell that a namespace or the
/// definition is gone, and its query would be asked for ever.
pub struct OnDemand {
    cells: Cache<Arc<Query>, Arc<QueryCell>, ahash::RandomState>,
}

impl OnDemand {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: u64) -> Self {
        let cells = Cache::builder()
            .max_capacity(capacity)
            .time_to_idle(IDLE)
            .eviction_listener(|_query, cell: Arc<QueryCell>, cause| {
                if cause != RemovalCause::Replaced {
                    cell.retire();
                }
            })
            .build_with_hasher(ahash::RandomState::new());
        Self { cells }
    }

    /// The cell of a query, made when there is none; `entry` is the definition that it completes.
    #[must_use]
    pub fn get(&self, query: &Arc<Query>, entry: &Arc<Entry>) -> Arc<QueryCell> {
        self.made(query, entry.policy.refresh, |cell| cell.set_definition(entry, 0))
    }

    /// The same for a query behind which there is no definition, but a rule; `reader` is the namespace
    /// that it is asked for.
    #[must_use]
    pub fn get_for(
        &self,
        query: &Arc<Query>,
        policy: &Policy,
        reader: Option<&str>,
    ) -> Arc<QueryCell> {
        self.made(query, policy.refresh, |cell| cell.set_owner(reader))
    }

    fn made(
        &self,
        query: &Arc<Query>,
        refresh: Duration,
        note: impl FnOnce(&QueryCell),
    ) -> Arc<QueryCell> {
        let cell = self.cells.get_with_by_ref(query, || {
            let cell = QueryCell::new(Arc::clone(query), refresh, false);
            note(&cell);
            Arc::new(cell)
        });
        // The definition may have changed its pace since the cell was made.
        if cell.refresh() != refresh {
            cell.set_pace(refresh, false);
        }
        cell
    }

    /// [`OnDemand::get`] for a query that nobody has read yet: none when there is no cell and the
    /// store is mostly full. A cell that is asked for every minute is never unread for too long.
    #[must_use]
    pub fn announced(&self, query: &Arc<Query>, entry: &Arc<Entry>) -> Option<Arc<QueryCell>> {
        self.has_room_for(query).then(|| self.get(query, entry))
    }

    /// [`OnDemand::get_for`] in the same way.
    #[must_use]
    pub fn announced_for(
        &self,
        query: &Arc<Query>,
        policy: &Policy,
        reader: Option<&str>,
    ) -> Option<Arc<QueryCell>> {
        self.has_room_for(query).then(|| self.get_for(query, policy, reader))
    }

    fn has_room_for(&self, query: &Arc<Query>) -> bool {
        let (part, whole) = ANNOUNCED_SHARE;
        let capacity = self.cells.policy().max_capacity().unwrap_or(CAPACITY);
        // The count lags behind by what was made within the last moments.
        self.cells.entry_count() < capacity * part / whole || self.cells.contains_key(query)
    }

    /// The cell of a query, if there is one.
    #[must_use]
    pub fn find(&self, query: &Arc<Query>) -> Option<Arc<QueryCell>> {
        self.cells.get(query)
    }

    /// All cells, for the status page and the metrics.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<QueryCell>> {
        self.cells.iter().map(|(_, cell)| cell).collect()
    }
}

impl Default for OnDemand {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand").field("cells", &self.cells.entry_count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        DefinitionId, DefinitionKind, Labels, MetricName, OnNoData, Origin, Policy,
        PrometheusQuery, QuerySpec, QueryTemplate, Scope, SourceName,
    };

    fn policy() -> Policy {
        Policy {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }
    }

    fn entry(policy: Policy) -> Arc<Entry> {
        Arc::new(Entry {
            id: DefinitionId {
                kind: DefinitionKind::ClusterExternalMetric,
                namespace: None,
                name: "jobs".into(),
            },
            origin: Origin::File { path: "f.yaml".into(), line: 1 },
            metric: MetricName::external("jobs").unwrap(),
            scope: Scope::All,
            labels: Labels::empty(),
            query: QueryTemplate::PerNamespace {
                source: SourceName::new("main"),
                query: "up".into(),
                lookback_delta: None,
                shape: crate::model::AnswerShape::Items,
            },
            policy: Arc::new(policy),
            objects: None,
            transform: Arc::default(),
        })
    }

    fn query(text: &str) -> Arc<Query> {
        let spec = PrometheusQuery {
            query: text.into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        };
        Arc::new(Query { source: SourceName::new("main"), spec: QuerySpec::Prometheus(spec) })
    }

    #[test]
    fn equal_queries_share_a_cell() {
        let store = OnDemand::new();
        let first = store.get(&query("up"), &entry(policy()));
        assert!(Arc::ptr_eq(&first, &store.get(&query("up"), &entry(policy()))));
        assert!(!Arc::ptr_eq(&first, &store.get(&query("down"), &entry(policy()))));
        let faster = Policy { refresh: Duration::from_secs(5), ..policy() };
        assert_eq!(store.get(&query("up"), &entry(faster)).refresh(), Duration::from_secs(5));
        assert_eq!(first.refresh(), Duration::from_secs(5));
        assert_eq!(first.definition(), "ClusterExternalMetric jobs");
    }

    #[test]
    fn what_only_reads_tell_of_ends_with_them() {
        let warm = Policy { keep_warm: true, ..policy() };
        assert!(!OnDemand::new().get(&query("up"), &entry(warm)).keep_warm());
    }

    #[test]
    fn the_store_is_bounded_and_evicted_cells_are_retired() {
        let store = OnDemand::with_capacity(10);
        let cells: Vec<_> =
            (0..100).map(|i| store.get(&query(&format!("q{i}")), &entry(policy()))).collect();
        store.cells.run_pending_tasks();
        assert!(store.all().len() <= 10);
        assert_eq!(cells.iter().filter(|c| !c.is_retired()).count(), store.all().len());
    }

    #[test]
    fn announcements_leave_room_for_reads() {
        let store = OnDemand::with_capacity(100);
        let announce = |i: u32| {
            store.cells.run_pending_tasks();
            store.announced(&query(&format!("q{i}")), &entry(policy()))
        };
        let cells: Vec<_> = (0..200).filter_map(announce).collect();
        assert_eq!(cells.len(), 75);
        assert!(cells.iter().all(|cell| !cell.is_retired()));
        assert!(Arc::ptr_eq(&announce(7).unwrap(), &cells[7]), "what is there is found");
        assert!(Arc::ptr_eq(&store.find(&query("q7")).unwrap(), &cells[7]));
        assert!(store.find(&query("q99")).is_none());
    }
}
