//! The plan: which queries go out together, and under which names. Pure.
//!
//! Queries of one region, role and window share calls of `GetMetricData`, up to its limits. A metric
//! that several of them need is asked once. The ids of each group are renamed so that they cannot
//! collide: metrics are `m0`, `m1`, .., the expression `rate` of the twelfth group is `g12_rate`.
//! A call for one group alone has the author's ids.
//!
//! # Invariants
//!
//! * Every query is in exactly one call, whole: what an expression refers to is in the same call.
//! * A call for several groups stays within [`MAX_QUERIES_PER_CALL`], [`MAX_DATAPOINTS_PER_CALL`]
//!   and a size, and holds no Metrics Insights query and no `SEARCH`: of the former a request may have one, of the latter 100,
//!   and how many series they find is known only afterwards. So each goes out alone.
//! * Any query can be planned. What the service will refuse, it refuses in a call of its own.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::query::cloudwatch::{
    MAX_DATAPOINTS_PER_CALL, MAX_EXPRESSION, MAX_ID, MAX_QUERIES_PER_CALL,
};
use crate::model::{
    Cause, CloudWatchQuery, FetchError, Manner, MetricDataQuery, MetricQuestion, MetricStat,
};
use crate::source::cloudwatch::expression::{self, Name, Names};
pub use crate::source::cloudwatch::labels::Naming;
use crate::source::cloudwatch::labels::naming;
use crate::source::cloudwatch::operands;
pub use crate::source::cloudwatch::operands::Need;

/// Bytes of one request, as [`bytes`] estimates them. No document says how many the service takes; it
/// refuses more than 614,400 (HTTP 413, "Request size 639468 exceeded 614400 bytes"), and whether it
/// counts ours as sent or as its older protocol would write them is not known. 500 metrics with three
/// dimensions stay below.
const MAX_BYTES: usize = 400_000;

/// What names of members, lengths and numbers of one query, and of one dimension, take.
const QUERY_BYTES: usize = 150;
const DIMENSION_BYTES: usize = 20;

/// How much longer an expression may get by other ids.
const RENAMED: usize = 4;

/// For periods under a minute the service rounds the start of the window down, up to a whole minute.
const ROUNDING: Duration = Duration::from_mins(1);

/// A span of time, in seconds since the epoch: both ends on the grid of the period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// `StartTime`: the start of the first bucket.
    pub start: i64,
    /// `EndTime`: the end of the last bucket, and not in the window.
    pub end: i64,
}

impl Window {
    /// The whole buckets between `lookback` and `delay` ago; at least one.
    #[must_use]
    pub fn of(query: &CloudWatchQuery, now: Timestamp) -> Self {
        let period = seconds(query.period);
        let grid = |ago: Duration| {
            let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            let at = now.as_millisecond().saturating_sub(ago).div_euclid(1000);
            at.div_euclid(period).saturating_mul(period)
        };
        let end = grid(query.delay);
        Self { start: grid(query.lookback).min(end.saturating_sub(period)), end }
    }

    /// How many datapoints a series can have at whatever time.
    pub(super) fn most_datapoints(query: &CloudWatchQuery) -> u64 {
        let period = seconds(query.period);
        let length = query.lookback.saturating_sub(query.delay).as_millis();
        let length = i64::try_from(length.div_ceil(1000)).unwrap_or(i64::MAX);
        let buckets = length.unsigned_abs().div_ceil(period.unsigned_abs()).max(1);
        let end = i64::try_from(buckets).unwrap_or(i64::MAX).saturating_mul(period);
        Self { start: 0, end }.datapoints(query.period)
    }

    /// How many datapoints a series can have.
    fn datapoints(self, period: Duration) -> u64 {
        let length = self.end.abs_diff(self.start);
        let rounding = if period < ROUNDING { ROUNDING.as_secs() } else { 0 };
        length.saturating_add(rounding).div_ceil(period.as_secs().max(1))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", moment(self.start), moment(self.end))
    }
}

/// Whole seconds, at least one.
pub(super) fn seconds(period: Duration) -> i64 {
    i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1)
}

/// A time, at most the last that can be written.
pub(super) fn moment(seconds: i64) -> Timestamp {
    let edge = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(edge)
}

/// What one item asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A metric's statistic.
    Metric(&'a MetricStat),
    /// An expression, with the ids of the call in it.
    Expression {
        /// The text.
        text: Cow<'a, str>,
        /// For `SEARCH` and Metrics Insights.
        period: Option<Duration>,
    },
}

/// One `MetricDataQuery` of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Unique in the call.
    pub id: Cow<'a, str>,
    /// What is asked.
    pub asked: Asked<'a>,
    /// The `Label`.
    pub label: Option<Cow<'a, str>>,
    /// Whether somebody wants its series, or must know its buckets.
    pub return_data: bool,
}

/// One query in a call.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its place in what was planned.
    pub position: usize,
    /// The query.
    pub query: &'a CloudWatchQuery,
    /// The item whose series are its answer.
    pub answer: usize,
    /// The items of its group, in the author's order.
    pub items: Vec<usize>,
    /// The places in its group of metrics that must have a datapoint where its answer has one. They
    /// are returned, too, and never become series of the answer.
    pub needed: Vec<(usize, Need)>,
    /// How the answer's series are named.
    pub naming: Naming,
}

/// One call of `GetMetricData`.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Where.
    pub region: &'a Arc<str>,
    /// As whom; none is the source's own identity.
    pub role: Option<&'a Arc<str>>,
    /// From when to when.
    pub window: Window,
    /// What is asked, in the order of the request.
    pub items: Vec<Item<'a>>,
    /// Who asks.
    pub members: Vec<Member<'a>>,
}

impl Call<'_> {
    /// The metrics it asks for, as the service bills them: one per metric statistic.
    #[must_use]
    pub fn metrics(&self) -> u64 {
        let mut all = HashSet::new();
        for item in &self.items {
            if let Asked::Metric(stat) = item.asked {
                all.insert(stat);
            }
        }
        all.len() as u64
    }
}

/// All calls for some queries.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// The calls.
    pub calls: Vec<Call<'a>>,
    /// The places of queries that ask nothing, and why. Definitions have none of them.
    pub refused: Vec<(usize, FetchError)>,
}

/// Plans the calls for some queries at a moment.
#[must_use]
pub fn plan<'a>(queries: &[&'a CloudWatchQuery], now: Timestamp) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut batches: Vec<Batch<'a>> = Vec::new();
    let mut open: HashMap<(&str, Option<&str>, Window), usize> = HashMap::new();
    for (position, query) in queries.iter().enumerate() {
        if query.returned().is_none() {
            let cause = Cause::new("no query of the group is returned");
            plan.refused.push((position, FetchError::Invalid(cause)));
            continue;
        }
        let window = Window::of(query, now);
        if !is_shareable(query) {
            batches.push(Batch::new(window, vec![position]));
            continue;
        }
        let key = (&*query.region, query.role_arn.as_deref(), window);
        if let Some(batch) = open.get(&key).and_then(|&last| batches.get_mut(last))
            && batch.take(position, query)
        {
            continue;
        }
        let mut batch = Batch::new(window, Vec::new());
        if batch.take(position, query) {
            open.insert(key, batches.len());
        } else {
            // Too large even alone: the service will say so, or page.
            batch.members.push(position);
        }
        batches.push(batch);
    }
    plan.calls = batches.iter().map(|b| assemble(queries, &b.members, b.window)).collect();
    plan
}

/// Groups that are to share a call.
struct Batch<'a> {
    members: Vec<usize>,
    window: Window,
    shared: HashSet<(&'a MetricStat, Option<&'a str>)>,
    items: usize,
    datapoints: u64,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(window: Window, members: Vec<usize>) -> Self {
        Self { members, window, shared: HashSet::new(), items: 0, datapoints: 0, bytes: 0 }
    }

    /// Adds a group if there is room for it.
    fn take(&mut self, position: usize, query: &'a CloudWatchQuery) -> bool {
        let (mut items, mut datapoints, mut size) = (self.items, self.datapoints, self.bytes);
        let mut new = HashSet::new();
        for part in &query.queries {
            let period = match &part.question {
                MetricQuestion::Metric(stat) => {
                    let key = (stat, metric_label(query, part));
                    if self.shared.contains(&key) || !new.insert(key) {
                        continue;
                    }
                    stat.period
                }
                MetricQuestion::Expression { period, .. } => period.unwrap_or(query.period),
            };
            items += 1;
            size = size.saturating_add(bytes(part));
            datapoints = datapoints.saturating_add(self.window.datapoints(period));
        }
        if items > MAX_QUERIES_PER_CALL || datapoints > MAX_DATAPOINTS_PER_CALL || size > MAX_BYTES
        {
            return false;
        }
        (self.items, self.datapoints, self.bytes) = (items, datapoints, size);
        self.shared.extend(new);
        self.members.push(position);
        true
    }
}

/// What a query takes of a request, roughly and rather more.
fn bytes(part: &MetricDataQuery) -> usize {
    let asked = match &part.question {
        MetricQuestion::Metric(stat) => {
            let names = [&stat.namespace, &stat.name, &stat.statistic].map(|name| name.len());
            let optional = [&stat.unit, &stat.account_id];
            let optional = optional.map(|text| text.as_ref().map_or(0, |text| text.len()));
            let dimensions = stat.dimensions.iter();
            names.iter().sum::<usize>()
                + optional.iter().sum::<usize>()
                + dimensions.map(|(n, v)| DIMENSION_BYTES + n.len() + v.len()).sum::<usize>()
        }
        MetricQuestion::Expression { text, .. } => {
            text.len().saturating_mul(RENAMED).min(MAX_EXPRESSION.max(text.len()))
        }
    };
    QUERY_BYTES + part.id.len() + part.label.as_ref().map_or(0, |label| label.len()) + asked
}

/// The label to send with a metric, of which a series of an expression may be named. That of a
/// returned one is of no use, since it is one series, and sent only if all is sent as it is written.
fn metric_label<'a>(query: &CloudWatchQuery, part: &'a MetricDataQuery) -> Option<&'a str> {
    part.label.as_deref().filter(|_| !part.return_data || query.manner.is_as_written())
}

/// Whether a group can be in a call with others. One that cannot is dispatched alone, too.
pub(super) fn is_shareable(query: &CloudWatchQuery) -> bool {
    if let [part] = query.queries.as_slice()
        && matches!(part.question, MetricQuestion::Metric(_))
    {
        return true;
    }
    let ids: HashSet<_> = query.queries.iter().map(|part| &part.id).collect();
    if query.is_open_ended() || ids.len() < query.queries.len() {
        return false;
    }
    // Names as long as the longest, so that what is tried here also fits later.
    let mut first: HashMap<&MetricStat, usize> = HashMap::new();
    let names: Vec<_> = query
        .queries
        .iter()
        .enumerate()
        .map(|(at, part)| match &part.question {
            MetricQuestion::Metric(stat) => format!("m{:03}", first.entry(stat).or_insert(at)),
            MetricQuestion::Expression { .. } => group_id(MAX_QUERIES_PER_CALL, &part.id),
        })
        .collect();
    if names.iter().any(|name| name.len() > MAX_ID) {
        return false;
    }
    let names = names_of(query, names);
    query.queries.iter().all(|part| match &part.question {
        MetricQuestion::Metric(_) => true,
        MetricQuestion::Expression { text, .. } => expression::rewrite(text, &names)
            .is_some_and(|new| new.chars().count() <= MAX_EXPRESSION),
    })
}

fn group_id(number: usize, id: &str) -> String {
    format!("g{number}_{id}")
}

fn names_of(query: &CloudWatchQuery, wire: Vec<String>) -> Names<'_> {
    let pairs = query.queries.iter().zip(wire);
    let named = pairs.map(|(part, wire)| Name {
        author: &part.id,
        wire,
        metric: matches!(part.question, MetricQuestion::Metric(_)),
    });
    Names::new(named.collect())
}

/// Makes the call for some groups of one region, role and window; one group keeps its ids.
///
/// # Panics
/// When `members` is empty or not among the queries.
pub(super) fn assemble<'a>(
    queries: &[&'a CloudWatchQuery],
    members: &[usize],
    window: Window,
) -> Call<'a> {
    let first = queries[members[0]];
    let alone = members.len() == 1;
    let mut call = Call {
        region: &first.region,
        role: first.role_arn.as_ref(),
        window,
        items: Vec::with_capacity(members.len()),
        members: Vec::with_capacity(members.len()),
    };
    let mut shared: HashMap<(&MetricStat, Option<&str>), usize> = HashMap::new();
    for (number, &position) in members.iter().enumerate() {
        let query = queries[position];
        let items: Vec<usize> = query
            .queries
            .iter()
            .map(|part| {
                let (id, asked) = match &part.question {
                    MetricQuestion::Metric(stat) => {
                        let key = (stat, metric_label(query, part));
                        if let Some(&known) = shared.get(&key).filter(|_| !alone) {
                            return known;
                        }
                        shared.insert(key, call.items.len());
                        (format!("m{}", call.items.len()), Asked::Metric(stat))
                    }
                    MetricQuestion::Expression { text, period } => {
                        let text = Cow::Borrowed(&**text);
                        (group_id(number, &part.id), Asked::Expression { text, period: *period })
                    }
                };
                let id = if alone { Cow::Borrowed(&*part.id) } else { Cow::Owned(id) };
                // The answer's own is decided below, together with what its series are called.
                let label = metric_label(query, part).map(Cow::Borrowed);
                call.items.push(Item { id, asked, label, return_data: false });
                call.items.len() - 1
            })
            .collect();
        if !alone {
            rename(&mut call, query, &items);
        }
        let returned = query.queries.iter().position(|part| part.return_data);
        let answer = returned.and_then(|at| items.get(at).copied()).unwrap_or_default();
        let (label, naming) = naming(query);
        if let Some(item) = call.items.get_mut(answer) {
            item.return_data = true;
            if label.is_some() {
                item.label = label;
            }
        }
        let needed: Vec<_> = match query.manner {
            Manner::Strict => operands::needed(query).into_iter().collect(),
            Manner::AsWritten { .. } => {
                for (&item, part) in items.iter().zip(&query.queries) {
                    call.items[item].return_data |= part.return_data;
                }
                Vec::new()
            }
        };
        for (place, _) in &needed {
            call.items[items[*place]].return_data = true;
        }
        call.members.push(Member { position, query, answer, items, needed, naming });
    }
    call
}

/// Puts the call's ids into the expressions of a group.
fn rename(call: &mut Call<'_>, query: &CloudWatchQuery, items: &[usize]) {
    if !query.queries.iter().any(|part| matches!(part.question, MetricQuestion::Expression { .. }))
    {
        return;
    }
    let wire = items.iter().map(|&item| call.items[item].id.to_string()).collect();
    let names = names_of(query, wire);
    for &item in items {
        // `is_shareable` has tried it; what could not be renamed would be refused by the service.
        if let Asked::Expression { text, .. } = &mut call.items[item].asked
            && let Some(new) = expression::rewrite(text, &names)
        {
            *text = Cow::Owned(new);
        }
    }
}

#[cfg(test)]
mod tests;
