//! The upstreams that wanted queries name, and the way of each query to its own.
//!
//! Each upstream of a source has a lane: as many fetches as the source allows for one upstream, no
//! faster than its rate, none while its breaker is open; the rest waits in line. A lane exists while
//! a scheduled query needs it, so their number is bounded by what definitions name. How a query is
//! handled ([`Dispatch`]) is asked once, when it enters the schedule; queries that are handled alike
//! share a route.
//!
//! [`Lanes::depart`] is where it is decided whether an upstream gets another fetch.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::board::Upstream;
use super::line::Bid;
use super::metrics::{RefreshMetrics, SourceMetrics};
use crate::control::protection::{Change, Health, Protection, Refusal};
use crate::control::refresher::lane::{Lane, Ran};
use crate::control::schedule::{Id, RouteId, Ticket};
use crate::model::{Batch, Beat, Clock, Dispatch, Query, Source, SourceName, Tick};

/// Identifies a lane, while a route leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Who knows the queries that wait in line.
pub(super) trait Look {
    /// When the start was due that a query waits for; none when the ticket is no good any more.
    fn since(&self, id: Id, ticket: Ticket) -> Option<Tick>;

    /// Calls that a fetch of it alone takes.
    fn calls(&self, id: Id) -> u32;
}

/// A source, and its lanes by upstream.
struct Origin {
    name: SourceName,
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
    /// What its lane is told at the end.
    pub(super) ran: Ran,
    pub(super) started: Tick,
}

/// What the end of a fetch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// A failure is that of the queries: the upstream answers others.
    pub(super) own: bool,
    /// How the breaker changed.
    pub(super) change: Option<Change>,
}

/// All lanes and routes.
pub(super) struct Lanes {
    origins: Vec<Origin>,
    by_name: HashMap<SourceName, usize>,
    open: Slab<Lane>,
    routes: Slab<Route>,
    /// Lanes in which something changed.
    stirred: Vec<LaneId>,
    /// When to look at lanes again that wait for their rate or breaker. What is left over from lanes
    /// that went does no harm.
    wakes: BinaryHeap<Reverse<(Tick, LaneId)>>,
    tickets: u32,
    clock: Arc<dyn Clock>,
}

impl Lanes {
    pub(super) fn new(
        sources: BTreeMap<SourceName, Arc<dyn Source>>,
        clock: Arc<dyn Clock>,
        metrics: &RefreshMetrics,
    ) -> Self {
        let mut lanes = Self {
            origins: Vec::new(),
            by_name: HashMap::new(),
            open: Slab::new(),
            routes: Slab::new(),
            stirred: Vec::new(),
            wakes: BinaryHeap::new(),
            tickets: 0,
            clock,
        };
        for (name, source) in sources {
            let metrics = metrics.of_source(&name);
            lanes.by_name.insert(name.clone(), lanes.origins.len());
            lanes.origins.push(Origin { name, source, lanes: HashMap::new(), queued: 0, metrics });
        }
        lanes
    }

    /// The route of a query that enters the schedule; none if its source does not exist.
    pub(super) fn enter(&mut self, query: &Query) -> Option<RouteId> {
        let source = *self.by_name.get(&query.source)?;
        let Dispatch { upstream, batch, beat } = self.origins[source].source.dispatch(query);
        let lane = self.lane(source, upstream, query);
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

    fn lane(&mut self, source: usize, upstream: Arc<str>, query: &Query) -> LaneId {
        let origin = &mut self.origins[source];
        if let Some(lane) = origin.lanes.get(&upstream) {
            return *lane;
        }
        let protection = origin.source.protection(query).map(|settings| {
            Protection::new(&settings, Arc::clone(&self.clock), Box::new(super::jitter()))
        });
        let width = origin.source.concurrency();
        let lane = Lane::new(source, Arc::clone(&upstream), width, protection);
        let lane = LaneId(self.open.insert(lane));
        origin.lanes.insert(upstream, lane);
        origin.metrics.lanes(origin.lanes.len());
        lane
    }

    /// Takes back the route of a query that left the schedule, and with the last query of a lane
    /// the lane. A query leaves only while no fetch of it runs.
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

    /// Names of a lane's source and upstream.
    pub(super) fn names(&self, lane: LaneId) -> Option<(&SourceName, &str)> {
        let lane = self.open.get(lane.0)?;
        Some((&self.origins[lane.source].name, &*lane.upstream))
    }

    /// Why a query of this lane that is due is not asked, and whom it would have asked; none when
    /// it is only a matter of its turn.
    pub(super) fn refusal(&self, lane: LaneId) -> Option<(Refusal, &str)> {
        let lane = self.open.get(lane.0)?;
        Some((lane.protection.as_ref()?.refusal()?, &*lane.upstream))
    }

    /// Puts a query into its lane's line, for a start that was due at `since`.
    pub(super) fn push(&mut self, route: RouteId, bid: Bid, since: Tick) -> Ticket {
        let ticket = self.ticket();
        let lane = self.route(route).lane;
        let found = &mut self.open[lane.0];
        found.line.push(bid, ticket);
        found.note_waiting(since);
        let origin = &mut self.origins[found.source];
        origin.queued += 1;
        origin.metrics.queued(origin.queued);
        self.stir(lane);
        ticket
    }

    /// Gives a query that waits another place in line.
    pub(super) fn replace(&mut self, route: RouteId, bid: Bid) -> Ticket {
        let ticket = self.ticket();
        let lane = self.route(route).lane;
        self.open[lane.0].line.push(bid, ticket);
        self.stir(lane);
        ticket
    }

    /// Takes back the place of a query that leaves while it waits. The places are to be sorted out
    /// when most of them are of no use any more: then its lane is given.
    pub(super) fn withdraw(&mut self, route: RouteId, since: Tick) -> Option<LaneId> {
        let lane = self.route(route).lane;
        let found = &mut self.open[lane.0];
        found.note_gone(since);
        let origin = &mut self.origins[found.source];
        origin.queued -= 1;
        origin.metrics.queued(origin.queued);
        (found.line.places() > 2 * found.queued + 64).then_some(lane)
    }

    /// Empties a lane's line, to be filled anew by [`Lanes::replace`].
    pub(super) fn take_line(&mut self, lane: LaneId) -> Vec<(Id, Ticket)> {
        let Some(found) = self.open.get_mut(lane.0) else { return Vec::new() };
        std::mem::take(&mut found.line).all().collect()
    }

    /// All that have a place in a lane's line, and some that have none any more.
    pub(super) fn in_line(&self, lane: LaneId) -> Vec<(Id, Ticket)> {
        self.open.get(lane.0).map(|lane| lane.line.all().collect()).unwrap_or_default()
    }

    fn ticket(&mut self) -> Ticket {
        // Wraps after four billion, when no place of that age can be left.
        self.tickets = self.tickets.wrapping_add(1);
        Ticket(self.tickets)
    }

    /// Gives back the place of a fetch that ended, and says what its end means.
    pub(super) fn ended(
        &mut self,
        lane: LaneId,
        ran: Ran,
        started: Tick,
        health: &Health,
    ) -> Meaning {
        let now = self.clock.tick();
        let Some(found) = self.open.get_mut(lane.0) else {
            return Meaning { own: true, change: None };
        };
        let meaning = found.ended(ran, started, health, now);
        self.stir(lane);
        meaning
    }

    /// When to look again, if nothing else happens.
    pub(super) fn next_wake(&self) -> Option<Tick> {
        self.wakes.peek().map(|Reverse((tick, _))| *tick)
    }

    /// The next fetch that may start, in whatever lane; it has its place from now on. `look` says
    /// who waits with which ticket.
    pub(super) fn depart(&mut self, look: &impl Look) -> Option<Departure> {
        let now = self.clock.tick();
        while let Some(&Reverse((tick, lane))) = self.wakes.peek()
            && tick <= now
        {
            self.wakes.pop();
            if let Some(found) = self.open.get_mut(lane.0) {
                found.parked = None;
                self.stir(lane);
            }
        }
        while let Some(&lane) = self.stirred.last() {
            let found = &mut self.open[lane.0];
            match found.take(look) {
                Err(Some(until)) if found.parked.is_none_or(|parked| until < parked) => {
                    found.parked = Some(until);
                    self.wakes.push(Reverse((until, lane)));
                }
                Err(_) => {}
                Ok((ids, ran)) => {
                    let origin = &mut self.origins[found.source];
                    origin.queued -= ids.len();
                    origin.metrics.queued(origin.queued);
                    return Some(Departure {
                        lane,
                        source: Arc::clone(&origin.source),
                        metrics: origin.metrics.clone(),
                        ids,
                        ran,
                        started: now,
                    });
                }
            }
            self.open[lane.0].stirred = false;
            self.stirred.pop();
        }
        None
    }

    /// How the upstreams are doing, by source and name.
    pub(super) fn upstreams(&self) -> Vec<Upstream> {
        let now = self.clock.tick();
        let lanes = self.open.iter();
        let mut rows: Vec<_> = lanes
            .map(|(_, lane)| lane.shown(self.origins[lane.source].name.clone(), now))
            .collect();
        rows.sort_unstable_by(|a, b| (&a.source, &a.upstream).cmp(&(&b.source, &b.upstream)));
        rows
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
    use crate::control::refresher::line::Class;
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
        let spec = PrometheusQuery {
            query: text.into(),
            lookback_delta: None,
            shape: crate::model::AnswerShape::Items,
        };
        Query { source: SourceName::new("aws"), spec: QuerySpec::Prometheus(spec) }
    }

    fn lanes() -> (Lanes, Telemetry) {
        let telemetry = Telemetry::new();
        let metrics = RefreshMetrics::register(&telemetry);
        let source = Arc::new(Named) as Arc<dyn Source>;
        let sources = BTreeMap::from([(SourceName::new("aws"), source)]);
        (Lanes::new(sources, Arc::new(crate::model::ManualClock::default()), &metrics), telemetry)
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

    /// Everybody waits with any ticket.
    struct All;
    impl Look for All {
        fn since(&self, _: Id, _: Ticket) -> Option<Tick> {
            Some(Tick(0))
        }

        fn calls(&self, _: Id) -> u32 {
            1
        }
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
            let batch = lanes.route(route).batch;
            let bid = Bid { id, class: Class::Regular, batch, weight: 1, owner: 0, rank: 0 };
            lanes.push(route, bid, Tick(0));
        }
        let healthy = |lanes: &mut Lanes, lane| {
            let ran = Ran { failing: false, probe: false, owner: Some(0) };
            lanes.ended(lane, ran, Tick(0), &Health::Healthy);
        };
        let mut started: Vec<_> = std::iter::from_fn(|| lanes.depart(&All))
            .map(|departure| (departure.lane, departure.ids.len()))
            .collect();
        started.sort_by_key(|(lane, _)| lane.0);
        let (a, b) = (LaneId(0), LaneId(1));
        assert_eq!(started, [(a, 1), (a, 1), (b, 2)]);
        assert!(telemetry.encode().contains("tidepole_refresh_queued{source=\"aws\"} 6\n"));
        healthy(&mut lanes, b);
        assert!(lanes.depart(&All).is_none());
        healthy(&mut lanes, a);
        assert_eq!(lanes.depart(&All).map(|departure| departure.lane), Some(a));
        assert!(lanes.depart(&All).is_none());
    }
}
