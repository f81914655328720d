//! The upstreams that wanted queries name, and the way of each query to its own.
//!
//! Each upstream of a source has a lane: as many fetches as the source allows for one upstream, the
//! rest waits in line. A lane exists while a scheduled query needs it, so their number is bounded by
//! what definitions name. How a query is handled ([`Dispatch`]) is asked once, when it enters the
//! schedule; queries that are handled alike share a route.
//!
//! [`Lane::has_place`] is where it is decided whether an upstream gets another fetch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::line::{Class, Line};
use super::metrics::{RefreshMetrics, SourceMetrics};
use crate::control::schedule::{Id, RouteId};
use crate::model::{Batch, Beat, Dispatch, Query, Source, SourceName};

/// Identifies a lane, while a route leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LaneId(usize);

/// How the queries that share it are handled.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) lane: LaneId,
    pub(super) batch: Option<Batch>,
    pub(super) beat: Option<Beat>,
    /// Queries that have it.
    members: usize,
}

impl Route {
    /// Whether its queries ever have company in a call.
    pub(super) fn shares_calls(&self) -> bool {
        self.batch.is_some_and(|batch| batch.limit > 1)
    }
}

/// One upstream's line of fetches.
pub(super) struct Lane {
    source: usize,
    upstream: Arc<str>,
    line: Line,
    running: usize,
    width: usize,
    routes: HashMap<(Option<Batch>, Option<Beat>), RouteId>,
    /// Whether it is on the list of lanes to look at.
    stirred: bool,
}

impl Lane {
    /// Whether another fetch may start.
    fn has_place(&self) -> bool {
        self.running < self.width
    }
}

/// A source, and its lanes by upstream.
struct Origin {
    source: Arc<dyn Source>,
    lanes: HashMap<Arc<str>, LaneId>,
    queued: usize,
    metrics: SourceMetrics,
}

/// A fetch that can start: its lane, its source, and the queries that it carries.
pub(super) struct Departure {
    pub(super) lane: LaneId,
    pub(super) source: Arc<dyn Source>,
    pub(super) metrics: SourceMetrics,
    pub(super) ids: Vec<Id>,
}

/// All lanes and routes.
pub(super) struct Lanes {
    origins: Vec<Origin>,
    by_name: HashMap<SourceName, usize>,
    open: Slab<Lane>,
    routes: Slab<Route>,
    /// Lanes in which something changed.
    stirred: Vec<LaneId>,
}

impl Lanes {
    pub(super) fn new(
        sources: BTreeMap<SourceName, Arc<dyn Source>>,
        metrics: &RefreshMetrics,
    ) -> Self {
        let mut lanes = Self {
            origins: Vec::new(),
            by_name: HashMap::new(),
            open: Slab::new(),
            routes: Slab::new(),
            stirred: Vec::new(),
        };
        for (name, source) in sources {
            let metrics = metrics.of_source(&name);
            lanes.by_name.insert(name, lanes.origins.len());
            lanes.origins.push(Origin { source, lanes: HashMap::new(), queued: 0, metrics });
        }
        lanes
    }

    /// The route of a query that enters the schedule; none if its source does not exist.
    pub(super) fn enter(&mut self, query: &Query) -> Option<RouteId> {
        let source = *self.by_name.get(&query.source)?;
        let Dispatch { upstream, batch, beat } = self.origins[source].source.dispatch(query);
        let lane = self.lane(source, upstream);
        let known = self.open[lane.0].routes.get(&(batch, beat)).copied();
        let route = known.unwrap_or_else(|| {
            let index = self.routes.insert(Route { lane, batch, beat, members: 0 });
            let route = RouteId(
                u32::try_from(index).expect("there are no more routes than scheduled queries"),
            );
            self.open[lane.0].routes.insert((batch, beat), route);
            route
        });
        self.routes[route.0 as usize].members += 1;
        Some(route)
    }

    fn lane(&mut self, source: usize, upstream: Arc<str>) -> LaneId {
        let origin = &mut self.origins[source];
        if let Some(lane) = origin.lanes.get(&upstream) {
            return *lane;
        }
        let lane = LaneId(self.open.insert(Lane {
            source,
            upstream: Arc::clone(&upstream),
            line: Line::default(),
            running: 0,
            width: origin.source.concurrency().max(1),
            routes: HashMap::new(),
            stirred: false,
        }));
        origin.lanes.insert(upstream, lane);
        origin.metrics.lanes(origin.lanes.len());
        lane
    }

    /// Takes back the route of a query that left the schedule, and with the last query of a lane
    /// the lane. A query leaves only while no fetch of it waits or runs.
    pub(super) fn leave(&mut self, route: RouteId) {
        let Some(found) = self.routes.get_mut(route.0 as usize) else { return };
        found.members -= 1;
        if found.members > 0 {
            return;
        }
        let gone = self.routes.remove(route.0 as usize);
        let lane = &mut self.open[gone.lane.0];
        lane.routes.remove(&(gone.batch, gone.beat));
        if lane.routes.is_empty() {
            let lane = self.open.remove(gone.lane.0);
            self.stirred.retain(|stirred| *stirred != gone.lane);
            let origin = &mut self.origins[lane.source];
            origin.lanes.remove(&lane.upstream);
            origin.metrics.lanes(origin.lanes.len());
        }
    }

    /// A route.
    pub(super) fn route(&self, route: RouteId) -> &Route {
        &self.routes[route.0 as usize]
    }

    /// The metrics of a route's source.
    pub(super) fn metrics(&self, route: RouteId) -> &SourceMetrics {
        &self.origins[self.open[self.route(route).lane.0].source].metrics
    }

    /// Puts a query into its lane's line; `alone`: it shares no call, whatever its route says.
    pub(super) fn push(&mut self, id: Id, route: RouteId, class: Class, alone: bool) {
        let Route { lane, batch, .. } = *self.route(route);
        let found = &mut self.open[lane.0];
        found.line.push(id, class, batch.filter(|_| !alone));
        let origin = &mut self.origins[found.source];
        origin.queued += 1;
        origin.metrics.queued(origin.queued);
        self.stir(lane);
    }

    /// Puts a query that waits in its lane's line before those that nobody waits for.
    pub(super) fn hurry(&mut self, id: Id, route: RouteId, alone: bool) {
        let Route { lane, batch, .. } = *self.route(route);
        self.open[lane.0].line.hurry(id, batch.filter(|_| !alone));
    }

    /// Gives back the place of a fetch that ended.
    pub(super) fn free(&mut self, lane: LaneId) {
        if let Some(found) = self.open.get_mut(lane.0) {
            found.running -= 1;
            self.stir(lane);
        }
    }

    /// The next fetch that may start, in whatever lane; it has its place from now on.
    pub(super) fn depart(&mut self) -> Option<Departure> {
        while let Some(&lane) = self.stirred.last() {
            let found = &mut self.open[lane.0];
            if found.has_place()
                && let Some(ids) = found.line.take()
            {
                found.running += 1;
                let origin = &mut self.origins[found.source];
                origin.queued -= ids.len();
                origin.metrics.queued(origin.queued);
                return Some(Departure {
                    lane,
                    source: Arc::clone(&origin.source),
                    metrics: origin.metrics.clone(),
                    ids,
                });
            }
            found.stirred = false;
            self.stirred.pop();
        }
        None
    }

    fn stir(&mut self, lane: LaneId) {
        let found = &mut self.open[lane.0];
        if !found.stirred {
            found.stirred = true;
            self.stirred.push(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::*;
    use crate::control::schedule::Schedule;
    use crate::model::{
        Decimal, FetchError, PrometheusQuery, QuerySpec, Sample, SimulatedQuery, Tick,
    };
    use crate::telemetry::Telemetry;

    /// Upstream and batch from the query's text: `upstream/key`.
    struct Named;

    impl Source for Named {
        fn fetch<'a>(
            &'a self,
            _queries: &'a [Arc<Query>],
        ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
            unreachable!("nothing is fetched here")
        }

        fn concurrency(&self) -> usize {
            2
        }

        fn dispatch(&self, query: &Query) -> Dispatch {
            let QuerySpec::Prometheus(asked) = &query.spec else { unreachable!() };
            let (upstream, key) = asked.query.split_once('/').unwrap();
            let key = key.parse().unwrap();
            let batch = (key > 0).then_some(Batch { key, limit: 3 });
            Dispatch { upstream: upstream.into(), batch, beat: None }
        }
    }

    fn query(text: &str) -> Query {
        let spec = PrometheusQuery { query: text.into(), lookback_delta: None };
        Query { source: SourceName::new("aws"), spec: QuerySpec::Prometheus(spec) }
    }

    fn lanes() -> (Lanes, Telemetry) {
        let telemetry = Telemetry::new();
        let metrics = RefreshMetrics::register(&telemetry);
        let source = Arc::new(Named) as Arc<dyn Source>;
        let sources = BTreeMap::from([(SourceName::new("aws"), source)]);
        (Lanes::new(sources, &metrics), telemetry)
    }

    #[test]
    fn lanes_and_routes_are_there_as_long_as_a_query_needs_them() {
        let (mut lanes, telemetry) = lanes();
        let text = |n: usize| format!("tidepole_refresh_lanes{{source=\"aws\"}} {n}\n");
        let routes: Vec<_> = ["a/1", "a/1", "a/2", "b/1", "b/0"]
            .iter()
            .map(|text| lanes.enter(&query(text)).unwrap())
            .collect();
        assert_eq!(routes[0], routes[1]);
        assert_eq!((lanes.routes.len(), lanes.open.len()), (4, 2));
        assert!(telemetry.encode().contains(&text(2)));
        assert!(lanes.route(routes[0]).shares_calls() && !lanes.route(routes[4]).shares_calls());
        for route in &routes[..3] {
            lanes.leave(*route);
        }
        assert_eq!((lanes.routes.len(), lanes.open.len()), (2, 1));
        lanes.leave(routes[3]);
        lanes.leave(routes[4]);
        assert_eq!((lanes.routes.len(), lanes.open.len()), (0, 0));
        assert!(telemetry.encode().contains(&text(0)));
        let elsewhere = SourceName::new("other");
        assert_eq!(lanes.enter(&Query { source: elsewhere, ..query("a/1") }), None);
    }

    #[test]
    fn each_lane_has_its_own_places() {
        let (mut lanes, telemetry) = lanes();
        let mut schedule = Schedule::default();
        for i in 0..10_u32 {
            let text = if i < 8 { "a/0" } else { "b/1" };
            let route = lanes.enter(&query(text)).unwrap();
            let spec = QuerySpec::Simulated(SimulatedQuery::Constant(Decimal::ONE));
            let unused = Query { source: SourceName::new("aws"), spec };
            let cell =
                crate::cache::QueryCell::new(Arc::new(unused), Duration::from_secs(1), false);
            let id = schedule.add(Arc::new(cell), route, Tick(0));
            lanes.push(id, route, Class::Regular, false);
        }
        let mut started: Vec<_> = std::iter::from_fn(|| lanes.depart())
            .map(|departure| (departure.lane, departure.ids.len()))
            .collect();
        started.sort_by_key(|(lane, _)| lane.0);
        let (a, b) = (LaneId(0), LaneId(1));
        assert_eq!(started, [(a, 1), (a, 1), (b, 2)]);
        assert!(telemetry.encode().contains("tidepole_refresh_queued{source=\"aws\"} 6\n"));
        lanes.free(b);
        assert!(lanes.depart().is_none());
        lanes.free(a);
        assert_eq!(lanes.depart().map(|departure| departure.lane), Some(a));
        assert!(lanes.depart().is_none());
    }
}
