//! The upstreams of the table, one form for all: healthy, with a fault, and what they were asked.

use std::sync::{Arc, Mutex};

use tidepole::model::{Clock, ManualClock};

use super::table::{Fault, Kind};
use crate::support::upstream::{CloudWatch, KeyRing, Prometheus, Queue, Reply, Sqs, Sts};

/// The role that AWS sources call as.
const ROLE: &str = "arn:aws:iam::111122223333:role/tidepole";

/// Ten minutes, by which clocks differ.
const SKEW_S: i64 = 600;

/// Values of one name from times on, in seconds.
type History = Arc<Mutex<Vec<(i64, u32)>>>;

/// A fake of one kind.
pub(super) struct Upstream {
    kind: Kind,
    clock: Arc<ManualClock>,
    /// By how many seconds its clock is ahead of ours.
    ahead: Arc<Mutex<i64>>,
    fake: Fake,
}

enum Fake {
    Prometheus(Prometheus),
    Sqs { sqs: Sqs, access: Access },
    CloudWatch { cloudwatch: CloudWatch, access: Access, history: History },
}

/// Who may call.
struct Access {
    sts: Sts,
    ring: KeyRing,
}

impl Access {
    fn new(clock: &Arc<ManualClock>) -> Self {
        let ring = KeyRing::with_user("test", "test");
        let clock = Arc::clone(clock);
        ring.clock(move || clock.now().as_second());
        let sts = Sts::start(&ring);
        sts.role(ROLE);
        Self { sts, ring }
    }

    fn expire(&self, expired: bool) {
        if expired {
            self.sts.refuse(ROLE);
            self.ring.expire(ROLE);
        } else {
            self.sts.role(ROLE);
        }
    }
}

impl Upstream {
    /// A healthy one whose clock is ours.
    pub(super) fn start(kind: Kind, clock: &Arc<ManualClock>) -> Self {
        let ahead = Arc::new(Mutex::new(0));
        let time = {
            let (clock, ahead) = (Arc::clone(clock), Arc::clone(&ahead));
            move || clock.now().as_second() + *ahead.lock().expect("no holder panics")
        };
        let fake = match kind {
            Kind::Prometheus => {
                let prometheus = Prometheus::start();
                prometheus.server().remember(0);
                #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
                prometheus.clock(move || time() as f64);
                Fake::Prometheus(prometheus)
            }
            Kind::Sqs => {
                let (sqs, access) = (Sqs::start(), Access::new(clock));
                sqs.server().remember(0);
                sqs.check_signatures(&access.ring);
                sqs.dated();
                Fake::Sqs { sqs, access }
            }
            Kind::CloudWatch => {
                let (cloudwatch, access) = (CloudWatch::start(), Access::new(clock));
                let history = History::default();
                cloudwatch.remember(0);
                cloudwatch.check_signatures(&access.ring);
                cloudwatch.dated();
                cloudwatch.clock(time);
                let values = Arc::clone(&history);
                cloudwatch.generate_all(move |_, start| {
                    let values = values.lock().expect("no holder panics");
                    let found = values.iter().rev().find(|(from, _)| *from <= start);
                    found.map(|(_, value)| f64::from(*value))
                });
                Fake::CloudWatch { cloudwatch, access, history }
            }
        };
        Self { kind, clock: Arc::clone(clock), ahead, fake }
    }

    /// The source in the server's config.
    pub(super) fn source(&self, name: &str) -> String {
        let aws = |endpoint: &str, url: String, access: &Access| {
            format!(
                "  - {{ name: {name}, aws: {{ region: eu-west-1, roleArn: \"{ROLE}\", {endpoint}: \"{url}\", stsEndpointUrl: \"{}\" }} }}\n",
                access.sts.url()
            )
        };
        match &self.fake {
            Fake::Prometheus(prometheus) => format!(
                "  - {{ name: {name}, prometheus: {{ url: \"{}\" }} }}\n",
                prometheus.server().url()
            ),
            Fake::Sqs { sqs, access } => aws("sqsEndpointUrl", sqs.server().url(), access),
            Fake::CloudWatch { cloudwatch, access, .. } => {
                aws("cloudwatchEndpointUrl", cloudwatch.url(), access)
            }
        }
    }

    /// The same source at an address whose name nobody knows.
    pub(super) fn nowhere(&self, name: &str) -> String {
        let source = self.source(name);
        let url = self.server().url();
        let port = url.rsplit(':').next().unwrap_or_default();
        source.replace(&url, &format!("http://tidepole-chaos.invalid:{port}"))
    }

    /// What a definition asks.
    pub(super) fn question(&self, name: &str) -> String {
        match self.kind {
            Kind::Prometheus => format!("prometheus: {{ query: {name} }}"),
            Kind::Sqs => format!("sqs: {{ queues: [{name}], count: [visible] }}"),
            Kind::CloudWatch => format!(
                "cloudwatch: {{ metric: {{ namespace: App, name: {name}, statistic: Sum, period: 1m }} }}"
            ),
        }
    }

    /// The value of all names from now on.
    pub(super) fn truth<'a>(&self, names: impl IntoIterator<Item = &'a String>, value: u32) {
        match &self.fake {
            Fake::Prometheus(prometheus) => {
                for name in names {
                    prometheus.vector(name, &[("", &value.to_string())]);
                }
            }
            Fake::Sqs { sqs, .. } => {
                for name in names {
                    sqs.queue(name, Queue { visible: value.into(), ..Queue::default() });
                }
            }
            Fake::CloudWatch { history, .. } => {
                let mut history = history.lock().expect("no holder panics");
                // At the start there were such datapoints before.
                let from = if history.is_empty() { 0 } else { self.clock.now().as_second() };
                history.push((from, value));
            }
        }
    }

    /// Begins a fault. Where it is one of a single name, that is `victim`.
    pub(super) fn begin(&self, fault: Fault, victim: &str) {
        match fault {
            Fault::Timeout => self.answer_all(Some(Reply::Hang)),
            Fault::Reset => self.answer_all(Some(Reply::Reset)),
            Fault::Http500 | Fault::Http503 | Fault::Throttled => {
                self.answer_all(Some(self.error(fault)));
            }
            Fault::Expired => match &self.fake {
                Fake::Prometheus(_) => self.answer_all(Some(Reply::text(401, "text/plain", ""))),
                Fake::Sqs { access, .. } | Fake::CloudWatch { access, .. } => access.expire(true),
            },
            Fault::DeniedOne => self.deny(victim, true),
            Fault::Garbage => {
                let body = vec![0, 159, 146, 150];
                self.answer_all(Some(Reply::Answer { status: 200, headers: Vec::new(), body }));
            }
            Fault::Html => {
                let page = "<html><body>Sign in, 7 tries left</body></html>";
                self.answer_all(Some(Reply::text(200, "text/html", page)));
            }
            Fault::Half => self.answer_all(Some(self.half())),
            Fault::Empty => self.empty(true),
            Fault::Skew => self.skew(SKEW_S),
            Fault::Gone => self.server().shut(),
            // The source of that fault is another one.
            Fault::Unresolved => {}
        }
    }

    /// What happens in the middle of a fault: clocks that differ the other way round.
    pub(super) fn turn(&self, fault: Fault) {
        if fault == Fault::Skew {
            self.skew(-SKEW_S);
        }
    }

    /// Ends a fault.
    pub(super) fn end(&self, fault: Fault, victim: &str) {
        match fault {
            Fault::Timeout
            | Fault::Reset
            | Fault::Http500
            | Fault::Http503
            | Fault::Throttled
            | Fault::Garbage
            | Fault::Html
            | Fault::Half => self.answer_all(None),
            Fault::Expired => match &self.fake {
                Fake::Prometheus(_) => self.answer_all(None),
                Fake::Sqs { access, .. } | Fake::CloudWatch { access, .. } => access.expire(false),
            },
            Fault::DeniedOne => self.deny(victim, false),
            Fault::Empty => self.empty(false),
            Fault::Skew => self.skew(0),
            Fault::Gone => self.server().reopen(),
            Fault::Unresolved => {}
        }
    }

    /// Requests that are left without an answer at present.
    pub(super) fn held(&self) -> u64 {
        self.server().held()
    }

    /// Requests that arrived.
    pub(super) fn hits(&self) -> u64 {
        self.server().hits()
    }

    fn server(&self) -> &crate::support::upstream::Upstream {
        match &self.fake {
            Fake::Prometheus(prometheus) => prometheus.server(),
            Fake::Sqs { sqs, .. } => sqs.server(),
            Fake::CloudWatch { cloudwatch, .. } => cloudwatch.server(),
        }
    }

    fn answer_all(&self, reply: Option<Reply>) {
        match &self.fake {
            Fake::Prometheus(prometheus) => prometheus.answer_all(reply),
            Fake::Sqs { sqs, .. } => sqs.fault_all(reply),
            Fake::CloudWatch { cloudwatch, .. } => cloudwatch.fault(reply),
        }
    }

    /// An error in the words of the kind.
    fn error(&self, fault: Fault) -> Reply {
        match (self.kind, fault) {
            (Kind::Prometheus, Fault::Http500) => Reply::text(500, "text/plain", "oops 7"),
            (Kind::Prometheus, Fault::Http503) => Reply::text(503, "text/plain", "no backend"),
            (Kind::Prometheus, _) => Reply::text(429, "text/plain", "slow down"),
            (Kind::Sqs, Fault::Http500) => Sqs::error(500, "InternalFailure", "oops"),
            (Kind::Sqs, Fault::Http503) => Sqs::error(503, "ServiceUnavailable", "busy"),
            (Kind::Sqs, _) => Sqs::error(400, "ThrottlingException", "Rate exceeded"),
            (Kind::CloudWatch, Fault::Http500) => {
                CloudWatch::error(500, "InternalServiceFault", "oops")
            }
            (Kind::CloudWatch, Fault::Http503) => {
                CloudWatch::error(503, "ServiceUnavailable", "busy")
            }
            (Kind::CloudWatch, _) => CloudWatch::throttled(),
        }
    }

    /// An answer that breaks off in the middle of the number.
    fn half(&self) -> Reply {
        let body: &[u8] = match self.kind {
            Kind::Prometheus => {
                br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"4"#
            }
            Kind::Sqs => br#"{"Attributes":{"ApproximateNumberOfMessages":"4"#,
            Kind::CloudWatch => b"\xbf\x71MetricDataResults\x9f",
        };
        Reply::HalfClosed { body: body.to_vec() }
    }

    /// A proper answer in which there is nothing.
    fn empty(&self, empty: bool) {
        match &self.fake {
            Fake::Prometheus(prometheus) => {
                let nothing = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
                prometheus.answer_all(empty.then(|| Reply::json(200, nothing)));
            }
            Fake::Sqs { sqs, .. } => {
                let nothing = Reply::text(200, "application/x-amz-json-1.0", "{}");
                sqs.fault_all(empty.then_some(nothing));
            }
            Fake::CloudWatch { cloudwatch, history, .. } => {
                let values = Arc::clone(history);
                cloudwatch.generate_all(move |_, start| {
                    let values = values.lock().expect("no holder panics");
                    let found = values.iter().rev().find(|(from, _)| *from <= start);
                    found.filter(|_| !empty).map(|(_, value)| f64::from(*value))
                });
            }
        }
    }

    /// Refuses one name: a query that may not be asked, a queue that may not be read, a metric for
    /// which the service refuses the whole call.
    fn deny(&self, victim: &str, denied: bool) {
        match &self.fake {
            Fake::Prometheus(prometheus) if denied => {
                prometheus.set(victim, Reply::text(403, "text/plain", "no"));
            }
            Fake::Prometheus(prometheus) => prometheus.vector(victim, &[("", "43")]),
            Fake::Sqs { sqs, .. } => {
                let reply = Sqs::error(403, "AccessDenied", "User may not: sqs:GetQueueAttributes");
                sqs.fault_of(victim, denied.then_some(reply));
            }
            Fake::CloudWatch { cloudwatch, .. } => {
                let victim = victim.to_owned();
                cloudwatch.refuse_when(move |query| {
                    let hit = denied && query.metric_name() == victim;
                    hit.then(|| {
                        format!("The value {victim} for parameter MetricName is not valid.")
                    })
                });
            }
        }
    }

    fn skew(&self, seconds: i64) {
        *self.ahead.lock().expect("no holder panics") = seconds;
        match &self.fake {
            Fake::Prometheus(_) => {}
            Fake::Sqs { access, .. } | Fake::CloudWatch { access, .. } => {
                access.ring.set_ahead(seconds);
            }
        }
    }
}
