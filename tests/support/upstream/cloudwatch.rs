//! A fake `CloudWatch`: `GetMetricData` over the SDK's protocol, with the real service's
//! validation, statistics, math, paging and errors.
//!
//! It is not a store: what it answers comes from a small table, from closures, and from a clock
//! that the test sets. Times are seconds since the epoch.

#[path = "cloudwatch/call.rs"]
mod call;
#[path = "cloudwatch/data.rs"]
mod data;
#[path = "cloudwatch/evaluate.rs"]
mod evaluate;
#[path = "cloudwatch/expression.rs"]
mod expression;
#[path = "cloudwatch/functions.rs"]
mod functions;
#[path = "cloudwatch/insights.rs"]
mod insights;
#[path = "cloudwatch/label.rs"]
mod label;
#[path = "cloudwatch/math.rs"]
mod math;
#[path = "cloudwatch/pages.rs"]
mod pages;
#[path = "cloudwatch/search.rs"]
mod search;
#[path = "cloudwatch/statistic.rs"]
mod statistic;
#[path = "cloudwatch/validate.rs"]
mod validate;
#[path = "cloudwatch/wire.rs"]
mod wire;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use call::Call;
pub use data::{ACCOUNT, Asked, Metric};
pub use pages::Paging;
pub use wire::{Dimension, MetricDataQuery, MetricStat};

use super::http1::http_date;
use super::sigv4::{KeyRing, Rejection};
use super::{Reply, Request, Upstream};
use data::Metrics;
use evaluate::{Outcome, Series};
use pages::{Answered, Open};

/// Calls that are remembered; more are only counted.
const MAX_CALLS: usize = 1_000;
/// Queries of remembered calls.
const MAX_QUERIES: usize = 100_000;

/// The name of the service in signatures, and what may be denied.
const SERVICE: &str = "monitoring";
const ACTION: &str = "cloudwatch:GetMetricData";

type Clock = Box<dyn Fn() -> i64 + Send + Sync>;
type FaultWhen = Box<dyn Fn(&Call) -> Option<Reply> + Send + Sync>;
type RefuseWhen = Box<dyn Fn(&MetricDataQuery) -> Option<String> + Send + Sync>;
type MarkWhen = Box<dyn Fn(&MetricDataQuery) -> Option<Mark> + Send + Sync>;

/// What becomes of a series that could be answered.
#[derive(Clone, Debug)]
pub struct Mark {
    /// `InternalError`, `Forbidden`, `PartialData`, or what a later version of the service says.
    pub status: String,
    /// Codes and texts.
    pub messages: Vec<(String, String)>,
    /// Whether the datapoints are answered all the same.
    pub keep_values: bool,
}

impl Mark {
    /// No values, and this status.
    pub fn status(status: &str) -> Self {
        Self { status: status.to_owned(), messages: Vec::new(), keep_values: false }
    }

    /// The same with a message.
    #[must_use]
    pub fn message(mut self, code: &str, value: &str) -> Self {
        self.messages.push((code.to_owned(), value.to_owned()));
        self
    }

    /// The same with the values.
    #[must_use]
    pub fn with_values(mut self) -> Self {
        self.keep_values = true;
        self
    }
}

struct State {
    metrics: Metrics,
    clock: Clock,
    ring: Option<KeyRing>,
    paging: Paging,
    open: Open,
    delay: Duration,
    every: Option<Reply>,
    times: Option<(u64, Reply)>,
    fault_when: Option<FaultWhen>,
    refuse_when: Option<RefuseWhen>,
    mark_when: Option<MarkWhen>,
    extra: Vec<String>,
    messages: Vec<(String, String)>,
    dated: bool,
    calls: Vec<Call>,
    most_calls: usize,
    remembered: usize,
    answered: u64,
    requested: u64,
}

/// A fake `CloudWatch`.
pub struct CloudWatch {
    state: Arc<Mutex<State>>,
    server: Upstream,
}

impl CloudWatch {
    /// A server on a free port, without metrics, on the system's clock.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::new()));
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |request| {
            let mut state = shared.lock().expect("no holder panics");
            let mut reply = state.serve(request);
            if state.dated {
                let date = http_date((state.clock)());
                reply = reply.with_header("date", &date);
            }
            if state.delay.is_zero() { reply } else { reply.after(state.delay) }
        });
        server.remember(100);
        Self { state, server }
    }

    /// The server, for its counters and the requests it saw.
    pub fn server(&self) -> &Upstream {
        &self.server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Stops the fake's clock at a time.
    pub fn set_now(&self, now: i64) {
        self.clock(move || now);
    }

    /// Takes the time from a clock.
    pub fn clock(&self, clock: impl Fn() -> i64 + Send + Sync + 'static) {
        self.lock().clock = Box::new(clock);
    }

    /// Checks every call's signature from now on.
    pub fn check_signatures(&self, ring: &KeyRing) {
        self.lock().ring = Some(ring.clone());
    }

    /// Seconds from an observation, or from the end of a bucket of which [`CloudWatch::fix`] or a
    /// generator knows the value, until it can be read.
    pub fn lag(&self, seconds: i64) {
        self.lock().metrics.lag = seconds;
    }

    /// Publishes one observation.
    pub fn put(&self, metric: &Metric, at: i64, value: f64) {
        self.put_with(metric, at, value, 1.0, None);
    }

    /// Publishes a value that was observed a number of times, with a unit.
    pub fn put_with(&self, metric: &Metric, at: i64, value: f64, count: f64, unit: Option<&str>) {
        self.lock().metrics.observe(metric, at, value, count, unit);
    }

    /// Sets the datapoints of a statistic and a period: starts of buckets and values. Before what
    /// observations say.
    pub fn fix(&self, metric: &Metric, statistic: &str, period: i64, points: &[(i64, f64)]) {
        self.lock().metrics.fix(metric, statistic, period, points);
    }

    /// Makes up the datapoints of a metric without observations: the value of the bucket that
    /// starts at a time.
    pub fn generate(
        &self,
        metric: &Metric,
        value: impl Fn(&Asked<'_>, i64) -> Option<f64> + Send + Sync + 'static,
    ) {
        self.lock().metrics.generate(metric, Arc::new(value));
    }

    /// Makes up the datapoints of all metrics that are not in the table.
    pub fn generate_all(
        &self,
        value: impl Fn(&Asked<'_>, i64) -> Option<f64> + Send + Sync + 'static,
    ) {
        self.lock().metrics.generator = Some(Arc::new(value));
    }

    /// Forgets a metric.
    pub fn delete(&self, metric: &Metric) {
        self.lock().metrics.forget(metric);
    }

    /// Waits before every answer.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Answers every call with this; `None` ends it.
    pub fn fault(&self, reply: Option<Reply>) {
        self.lock().every = reply;
    }

    /// Answers the next calls with this.
    pub fn fault_times(&self, calls: u64, reply: Reply) {
        self.lock().times = Some((calls, reply));
    }

    /// Answers those calls with a fault for which there is one.
    pub fn fault_when(&self, fault: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) {
        self.lock().fault_when = Some(Box::new(fault));
    }

    /// Refuses every call that has such a query, with this reason, as the service refuses all of a
    /// call for one bad query.
    pub fn refuse_when(
        &self,
        reason: impl Fn(&MetricDataQuery) -> Option<String> + Send + Sync + 'static,
    ) {
        self.lock().refuse_when = Some(Box::new(reason));
    }

    /// Gives the series of some queries another status.
    pub fn mark_when(
        &self,
        mark: impl Fn(&MetricDataQuery) -> Option<Mark> + Send + Sync + 'static,
    ) {
        self.lock().mark_when = Some(Box::new(mark));
    }

    /// Adds series to every answer that nobody asked.
    pub fn extra(&self, ids: &[&str]) {
        self.lock().extra = ids.iter().map(|&id| id.to_owned()).collect();
    }

    /// Adds messages to every first page.
    pub fn messages(&self, messages: &[(&str, &str)]) {
        let owned = messages.iter().map(|(code, value)| ((*code).to_owned(), (*value).to_owned()));
        self.lock().messages = owned.collect();
    }

    /// Sends the fake's time with every answer.
    pub fn dated(&self) {
        self.lock().dated = true;
    }

    /// Cuts answers into pages.
    pub fn paging(&self, paging: Paging) {
        self.lock().paging = paging;
    }

    /// An error in the service's form; `code` as the query protocol calls it.
    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        wire::error(status, code, message)
    }

    /// Too many calls.
    pub fn throttled() -> Reply {
        Self::error(400, "Throttling", "Rate exceeded")
    }

    /// The principal may not read metrics.
    pub fn denied(principal: &str) -> Reply {
        let (principal, action) = (principal.to_owned(), ACTION.to_owned());
        rejected(&Rejection::Denied { principal, action })
    }

    /// The session token is too old.
    pub fn expired() -> Reply {
        rejected(&Rejection::Expired)
    }

    /// Calls received, refused ones included.
    pub fn hits(&self) -> u64 {
        self.lock().answered
    }

    /// Metrics that all calls asked for, as the service bills them.
    pub fn metrics_requested(&self) -> u64 {
        self.lock().requested
    }

    /// The calls, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The last call.
    pub fn last(&self) -> Call {
        self.lock().calls.last().cloned().expect("there was a call")
    }

    /// Remembers at most this many calls from now on, and no requests; for a test that asks much.
    pub fn remember(&self, calls: usize) {
        self.lock().most_calls = calls;
        self.server.remember(0);
    }

    /// Forgets the calls and sets the counts to zero.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.calls.clear();
        (state.remembered, state.answered, state.requested) = (0, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

fn rejected(rejection: &Rejection) -> Reply {
    wire::error(403, rejection.query_code(), &rejection.message())
}

fn system_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(now).expect("the time fits")
}

impl State {
    fn new() -> Self {
        Self {
            metrics: Metrics::default(),
            clock: Box::new(system_now),
            ring: None,
            paging: Paging::default(),
            open: Open::default(),
            delay: Duration::ZERO,
            every: None,
            times: None,
            fault_when: None,
            refuse_when: None,
            mark_when: None,
            extra: Vec::new(),
            messages: Vec::new(),
            dated: false,
            calls: Vec::new(),
            most_calls: MAX_CALLS,
            remembered: 0,
            answered: 0,
            requested: 0,
        }
    }

    fn serve(&mut self, request: &Request) -> Reply {
        if request.path() != wire::GET_METRIC_DATA || request.method != "POST" {
            let message = format!("the fake knows {} alone", wire::GET_METRIC_DATA);
            return wire::error(404, "UnknownOperationException", &message);
        }
        let input = match wire::decode(&request.body) {
            Ok(input) => input,
            Err(why) => return wire::error(400, "SerializationException", &why),
        };
        let call = Call::new(request, input, (self.clock)());
        self.record(&call);
        if let Some(reply) = self.faulted(&call) {
            return reply;
        }
        let permitted = self.ring.as_ref().map(|ring| ring.permit(request, SERVICE, None, ACTION));
        if let Some(Err(rejection)) = permitted {
            return rejected(&rejection);
        }
        let refused = |message: String| wire::error(400, "ValidationError", &message);
        let parsed = match validate::call(&call) {
            Ok(parsed) => parsed,
            Err(message) => return refused(message),
        };
        if let Some(message) = self.refused(&call) {
            return refused(message);
        }
        if let Some(token) = &call.next_token {
            let reply = self.open.next(&call, token, self.paging);
            let message = "The next token specified is invalid.";
            return reply.unwrap_or_else(|| wire::error(400, "InvalidNextToken", message));
        }
        match evaluate::evaluate(&call, parsed, &self.metrics) {
            Ok((outcomes, notes)) => {
                let answer = self.answer(&call, outcomes);
                let messages = [self.messages.as_slice(), &notes].concat();
                self.open.first(&call, answer, self.paging, &messages)
            }
            Err(message) => refused(message),
        }
    }

    fn record(&mut self, call: &Call) {
        self.answered += 1;
        self.requested += call.metrics_requested();
        if self.calls.len() < self.most_calls && self.remembered < MAX_QUERIES {
            self.remembered += call.queries.len();
            self.calls.push(call.clone());
        }
    }

    fn faulted(&mut self, call: &Call) -> Option<Reply> {
        if let Some((left, reply)) = &mut self.times
            && *left > 0
        {
            *left -= 1;
            return Some(reply.clone());
        }
        self.every.clone().or_else(|| self.fault_when.as_ref()?(call))
    }

    fn refused(&self, call: &Call) -> Option<String> {
        call.queries.iter().find_map(self.refuse_when.as_ref()?)
    }

    fn answer(&self, call: &Call, outcomes: Vec<Outcome<'_>>) -> Vec<Answered> {
        let mut answer = Vec::with_capacity(outcomes.len());
        for Outcome { query, series, messages } in outcomes {
            let mark = self.mark_when.as_ref().and_then(|mark| mark(query));
            for Series { label, mut points } in series {
                if call.newest_first() {
                    points.reverse();
                }
                let mut messages = messages.clone();
                let mut status = "Complete".to_owned();
                if let Some(mark) = &mark {
                    status.clone_from(&mark.status);
                    messages.extend(mark.messages.iter().cloned());
                    if !mark.keep_values {
                        points.clear();
                    }
                }
                answer.push(Answered { id: query.id.clone(), label, points, status, messages });
            }
        }
        for id in &self.extra {
            answer.push(Answered {
                id: id.clone(),
                label: id.clone(),
                points: vec![(call.at, 4711.0)],
                status: "Complete".to_owned(),
                messages: Vec::new(),
            });
        }
        answer
    }
}
