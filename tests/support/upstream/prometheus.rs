//! A fake Prometheus: instant queries answered from a table.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::sigv4::KeyRing;
use super::{Gate, Reply, Request, Upstream};

/// What a query is answered with.
enum Row {
    /// The same whenever it is asked.
    Reply(Reply),
    /// Labels and values, evaluated when it is asked.
    Vector(Vec<(String, String)>),
}

type Clock = Box<dyn Fn() -> f64 + Send + Sync>;

struct Table {
    rows: BTreeMap<String, Row>,
    clock: Clock,
    /// Lists of series, by selector.
    series: BTreeMap<String, Reply>,
    hits: BTreeMap<String, u64>,
    every: Option<Reply>,
    delay: Duration,
    gate: Gate,
    prefix: String,
    signed: Option<Signed>,
}

impl Table {
    fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            clock: Box::new(system_now),
            series: BTreeMap::new(),
            hits: BTreeMap::new(),
            every: None,
            delay: Duration::ZERO,
            gate: Gate::default(),
            prefix: String::new(),
            signed: None,
        }
    }
}

/// How requests have to be signed.
struct Signed {
    ring: KeyRing,
    service: String,
    region: String,
    action: String,
}

/// A fake Prometheus. Unknown queries get an empty vector, as from the real one.
pub struct Prometheus {
    table: Arc<Mutex<Table>>,
    server: Upstream,
}

impl Prometheus {
    /// A server on a free port.
    pub fn start() -> Self {
        let table = Arc::new(Mutex::new(Table::new()));
        let server = Upstream::start(handler(&table));
        Self { table, server }
    }

    /// A TLS server on a free port.
    pub fn start_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        let table = Arc::new(Mutex::new(Table::new()));
        let server = Upstream::start_tls(tls, handler(&table));
        Self { table, server }
    }

    /// A server at the address of one that was dropped before.
    pub fn start_at(address: SocketAddr) -> Self {
        let table = Arc::new(Mutex::new(Table::new()));
        let server = Upstream::start_at(address, None, handler(&table));
        Self { table, server }
    }

    /// The server, for its counters and the requests it saw.
    pub fn server(&self) -> &Upstream {
        &self.server
    }

    /// Answers a query with a vector; labels as JSON members: `"queue":"jobs"`.
    pub fn vector(&self, query: &str, series: &[(&str, &str)]) {
        let own = |(labels, value): &(&str, &str)| ((*labels).to_owned(), (*value).to_owned());
        let row = Row::Vector(series.iter().map(own).collect());
        self.lock().rows.insert(query.to_owned(), row);
    }

    /// Answers a query with a scalar.
    pub fn scalar(&self, query: &str, value: &str) {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"scalar","result":[{},"{value}"]}}}}"#,
            system_now()
        );
        self.set(query, Reply::json(200, body));
    }

    /// Answers a query with an error in Prometheus' form.
    pub fn error(&self, query: &str, status: u16, kind: &str, message: &str) {
        let body = format!(r#"{{"status":"error","errorType":"{kind}","error":"{message}"}}"#);
        self.set(query, Reply::json(status, body));
    }

    /// Answers a query with anything.
    pub fn set(&self, query: &str, reply: Reply) {
        self.lock().rows.insert(query.to_owned(), Row::Reply(reply));
    }

    /// Takes the time of evaluation from a clock: seconds since the epoch.
    pub fn clock(&self, clock: impl Fn() -> f64 + Send + Sync + 'static) {
        self.lock().clock = Box::new(clock);
    }

    /// Answers a listing of the series that a selector finds. Others find none.
    pub fn series(&self, selector: &str, reply: Reply) {
        self.lock().series.insert(selector.to_owned(), reply);
    }

    /// Answers every query with this, whatever the table says; `None` returns to the table.
    pub fn answer_all(&self, reply: Option<Reply>) {
        self.lock().every = reply;
    }

    /// Waits before every answer.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// What holds back the answers to queries while it is shut.
    pub fn gate(&self) -> Gate {
        self.lock().gate.clone()
    }

    /// Serves the API below a prefix, for instance `/prometheus`.
    pub fn prefix(&self, prefix: &str) {
        prefix.clone_into(&mut self.lock().prefix);
    }

    /// Checks every request's signature from now on, and whether its identity may do the action:
    /// `aps` and `aps:QueryMetrics` for a managed workspace, `monitoring` and
    /// `cloudwatch:GetMetricData` for `CloudWatch`.
    pub fn check_signatures(&self, ring: &KeyRing, service: &str, region: &str, action: &str) {
        self.lock().signed = Some(Signed {
            ring: ring.clone(),
            service: service.to_owned(),
            region: region.to_owned(),
            action: action.to_owned(),
        });
    }

    /// How often a query was asked.
    pub fn hits(&self, query: &str) -> u64 {
        self.lock().hits.get(query).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("no holder panics")
    }
}

fn handler(table: &Arc<Mutex<Table>>) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let table = Arc::clone(table);
    move |request| {
        let mut table = table.lock().expect("no holder panics");
        if request.path() == format!("{}/api/v1/series", table.prefix) {
            let selector = request.parameter("match[]").unwrap_or_default();
            let none = || Reply::json(200, r#"{"status":"success","data":[]}"#.to_owned());
            return table.series.get(&selector).cloned().unwrap_or_else(none);
        }
        if request.path() != format!("{}/api/v1/query", table.prefix) {
            return Reply::text(404, "text/plain; charset=utf-8", "404 page not found\n");
        }
        let permit = |s: &Signed| s.ring.permit(request, &s.service, Some(&s.region), &s.action);
        if let Some(Err(rejection)) = table.signed.as_ref().map(permit) {
            let body = serde_json::json!({"message": rejection.message()});
            return Reply::json(403, body.to_string())
                .with_header("x-amzn-errortype", rejection.json_code());
        }
        let query = request.parameter("query").unwrap_or_default();
        *table.hits.entry(query.clone()).or_default() += 1;
        let now = (table.clock)();
        let reply = match (&table.every, table.rows.get(&query)) {
            (Some(reply), _) | (None, Some(Row::Reply(reply))) => reply.clone(),
            (None, Some(Row::Vector(series))) => Reply::json(200, vector(now, series)),
            (None, None) => Reply::json(200, vector(now, &[])),
        };
        let reply = reply.behind(&table.gate);
        if table.delay.is_zero() { reply } else { reply.after(table.delay) }
    }
}

fn vector(time: f64, series: &[(String, String)]) -> String {
    let items: Vec<String> = series
        .iter()
        .map(|(labels, value)| format!(r#"{{"metric":{{{labels}}},"value":[{time},"{value}"]}}"#))
        .collect();
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        items.join(",")
    )
}

fn system_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
