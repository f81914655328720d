//! Rules about queues and `CloudWatch`.

use crate::definition::crd::forms::{
    DURATION, FINDS_DATA, ID, LAMBDA, NO_DURATION, PRINTABLE_NAME, QUEUE, REGION, ROLE, SELECT,
    STATISTIC, matches,
};
use crate::definition::crd::rules::numbers::is_duration;
use crate::definition::crd::rules::{Reason, Rules};
use crate::model::query::expression::DATA_FUNCTIONS;

const NO_REGION: &str = "not an AWS region; one looks like eu-west-1";
const NO_ROLE: &str = "not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics";
const NO_PERIOD: &str =
    "CloudWatch has no such period; take 1s, 5s, 10s, 20s, 30s or a multiple of 1m, 24h at most";

pub(super) fn sqs(rules: &mut Rules) {
    let base = "spec.sqs";
    rules.value(
        &format!("{base}.queues[]"),
        matches("self", QUEUE),
        "not a queue: a name (1 to 80 letters, digits, \"-\" and \"_\", for a FIFO queue with \".fifo\" at the end), an ARN like arn:aws:sqs:eu-west-1:111122223333:jobs, or a URL like https://sqs.eu-west-1.amazonaws.com/111122223333/jobs",
    );
    place(rules, base);
    rules.field(
        base,
        ("region", Reason::Invalid),
        "!has(self.region) || self.queues.all(q, !q.startsWith('arn:') || q.split(':').size() != 6 || q.split(':')[3] == self.region)",
        "a queue's ARN is of another region",
    );
}

/// Region and role.
fn place(rules: &mut Rules, base: &str) {
    rules.value(&format!("{base}.region"), matches("self", REGION), NO_REGION);
    rules.value(&format!("{base}.roleArn"), matches("self", ROLE), NO_ROLE);
}

pub(super) fn cloudwatch(rules: &mut Rules) {
    let base = "spec.cloudwatch";
    rules.exactly_one(base, &["metric", "queries", "expression"], "");
    place(rules, base);
    period(rules, &format!("{base}.period"));
    window(rules, base);
    rules.field(
        base,
        ("period", Reason::Required),
        "has(self.period) || !has(self.metric) || has(self.metric.period)",
        "the period is missing: set period, or metric.period",
    );
    rules.field(
        base,
        ("period", Reason::Required),
        "has(self.period) || !has(self.expression)",
        "an expression that finds its data by itself (SELECT, SEARCH) needs a period",
    );
    rules.field(
        base,
        ("period", Reason::Required),
        format!(
            "has(self.period) || !has(self.queries) || self.queries.all(q, has(q.metric) ? has(q.metric.period) : !has(q.expression) || has(q.period) || !{})",
            matches("q.expression", FINDS_DATA)
        ),
        "the period is missing: set it here, or at every metric and every expression that finds its data by itself (SELECT, SEARCH)",
    );
    let alone = format!("{base}.expression");
    expression(rules, &alone);
    let data = DATA_FUNCTIONS.map(|name| format!("self.contains('{name}')")).join(" || ");
    rules.value(
        &alone,
        format!("{} || {data}", matches("self", SELECT)),
        format!(
            "there is nothing here to compute from: only SELECT and what takes its data from {} stand alone; list metrics and expression under spec.cloudwatch.queries, each with an id",
            DATA_FUNCTIONS.join(", ")
        ),
    );
    rules.field(
        base,
        ("period", Reason::Invalid),
        format!(
            "!has(self.expression) || !has(self.period) || !{} || !{} || duration(self.period) >= duration('1m')",
            matches("self.expression", SELECT),
            is_duration("self.period")
        ),
        "Metrics Insights has no datapoints of less than 1m; take 1m or more",
    );
    metric(rules, &format!("{base}.metric"));
    queries(rules, &format!("{base}.queries"));
}

fn period(rules: &mut Rules, at: &str) {
    rules.value(at, is_duration("self"), NO_DURATION);
    let seconds = "duration(self).getSeconds()";
    rules.value(
        at,
        format!(
            "!{} || ({seconds} <= 86400 && ({seconds} in [1, 5, 10, 20, 30] || ({seconds} > 0 && {seconds} % 60 == 0)))",
            is_duration("self")
        ),
        NO_PERIOD,
    );
}

/// `delay` and `lookback`.
fn window(rules: &mut Rules, base: &str) {
    let is_delay = format!("(type(self.delay) == string && {})", is_duration("self.delay"));
    rules.value(
        &format!("{base}.delay"),
        format!("type(self) == int ? self == 0 : {}", matches("self", DURATION)),
        NO_DURATION,
    );
    rules.value(&format!("{base}.lookback"), is_duration("self"), NO_DURATION);
    rules.field(
        base,
        ("delay", Reason::Invalid),
        format!("!has(self.delay) || !{is_delay} || duration(self.delay) <= duration('360h')"),
        "delay is longer than 360h (15 days): no HPA can be steered by what was that long ago",
    );
    rules.field(
        base,
        ("lookback", Reason::Invalid),
        format!(
            "!has(self.lookback) || !{} || duration(self.lookback) > (has(self.delay) && {is_delay} ? duration(self.delay) : duration('0s'))",
            is_duration("self.lookback")
        ),
        "lookback is not above delay: no whole period would be asked for",
    );
}

fn expression(rules: &mut Rules, at: &str) {
    rules.value(at, matches("self", r"[^\s]"), "the expression is empty");
    rules.value(
        at,
        format!("!{}", matches("self", LAMBDA)),
        "LAMBDA is not allowed here: CloudWatch would run a function of the account at every read; publish its result as a metric, and ask for that",
    );
}

fn metric(rules: &mut Rules, at: &str) {
    for name in ["namespace", "name"] {
        rules.value(
            &format!("{at}.{name}"),
            matches("self", PRINTABLE_NAME),
            "CloudWatch takes printable ASCII alone, and no colon in front",
        );
    }
    rules.value(
        &format!("{at}.statistic"),
        matches("self", STATISTIC),
        "not a statistic; there are Average, Sum, Minimum, Maximum, SampleCount, IQM, percentiles like p99.9, tm, tc, ts and wm like tm90, TM, TC, TS and WM like TM(10%:90%), and PR like PR(:0.3)",
    );
    period(rules, &format!("{at}.period"));
}

fn queries(rules: &mut Rules, at: &str) {
    // `return` is a word of CEL's own, and has underscores for that.
    let says = "has(q.__return__)";
    rules.value(
        at,
        format!(
            "self.exists(q, {says} && q.__return__) ? self.exists_one(q, {says} && q.__return__) : self.exists_one(q, !{says})"
        ),
        "exactly one query is returned: say return: true at that one, or return: false at all others",
    );
    let item = format!("{at}[]");
    rules.exactly_one(&item, &["metric", "expression"], "");
    rules.field(
        &item,
        ("period", Reason::Forbidden),
        "!has(self.metric) || !has(self.period)",
        "the period of a metric belongs into metric.period",
    );
    rules.value(
        &format!("{item}.id"),
        matches("self", ID),
        "not an id: a lower-case letter, then letters, digits and \"_\", 255 at most",
    );
    period(rules, &format!("{item}.period"));
    expression(rules, &format!("{item}.expression"));
    metric(rules, &format!("{item}.metric"));
}
