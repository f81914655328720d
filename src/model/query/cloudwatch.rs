//! What is asked of `CloudWatch`: metric data queries that go out together, one of which is the
//! answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Beat;
use crate::model::query::expression::{DATA_FUNCTIONS, calls};

/// Most series of one Metrics Insights query or of one `SEARCH` (User Guide, "Metrics Insights
/// quotas" and "CloudWatch search expression syntax"), and so what is reserved for each of them, and
/// for every other function that finds metrics by itself. A `SELECT` that folds its metrics may have
/// read more than it gives.
pub const MAX_FOUND: u64 = 500;

/// `MetricDataQuery` structures in one call (API reference, `GetMetricData`: "You can include up to
/// 500 `MetricDataQuery` structures in a single request"). A group is never split.
pub const MAX_QUERIES_PER_CALL: usize = 500;

/// Datapoints that one call gives before it pages, those of all its series together (API reference,
/// `GetMetricData`, `MaxDatapoints`).
pub const MAX_DATAPOINTS_PER_CALL: u64 = 100_800;

/// Characters of an id (API reference, `MetricDataQuery`, `Id`).
pub const MAX_ID: usize = 255;

/// Characters of an expression (API reference, `MetricDataQuery`, `Expression`; earlier versions of
/// it said 1,024).
pub const MAX_EXPRESSION: usize = 2048;

/// A group of metric data queries (`MetricDataQuery` of `GetMetricData`), one of which is
/// returned, and the window that is asked for. In canonical form: two definitions that ask the
/// same have equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloudWatchQuery {
    /// The region.
    pub region: Arc<str>,
    /// The role to assume for this query; none means the source's own identity.
    pub role_arn: Option<Arc<str>>,
    /// The queries, at least one, in the author's order; exactly one has `return_data`, and a group
    /// of one metric has the id [`CloudWatchQuery::SINGLE_ID`], so that it is equal in all definitions
    /// (both if `manner` is [`Manner::Strict`]).
    pub queries: Vec<MetricDataQuery>,
    /// The period of the returned series: a new datapoint can exist this often. Windows are
    /// aligned to it.
    pub period: Duration,
    /// The window ends this long ago: newer datapoints are still being filled.
    pub delay: Duration,
    /// The window starts this long ago; longer than `delay`.
    pub lookback: Duration,
    /// How strictly the question and its answer are taken.
    pub manner: Manner,
}

/// How strictly a question and its answer are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Manner {
    /// All series of the returned query are the answer, each with labels that tell it apart, and a
    /// bucket counts when all metrics that an expression needs have a datapoint in it.
    #[default]
    Strict,
    /// As k8s-cloudwatch-adapter does: queries, labels and `ReturnData` are sent as they are
    /// written, what an expression gives is believed, and the answer is one number: the newest
    /// datapoint of the first series of the first query that is returned. Several queries may have
    /// `return_data`.
    AsWritten {
        /// A bucket is asked for this long after its end (and `delay`), so that it is filled by then
        /// although the window does not exclude it.
        settle: Duration,
    },
}

impl Manner {
    /// Whether things are sent as they are written.
    #[must_use]
    pub fn is_as_written(self) -> bool {
        matches!(self, Self::AsWritten { .. })
    }
}

impl CloudWatchQuery {
    /// The id of the only query of a short form.
    pub const SINGLE_ID: &str = "m";

    /// The query whose series are the answer: the first with `return_data`.
    #[must_use]
    pub fn returned(&self) -> Option<&MetricDataQuery> {
        self.queries.iter().find(|query| query.return_data)
    }

    /// How many metrics one request of this group asks for, as `GetMetricData` bills them: one per
    /// metric statistic. What `SEARCH` and Metrics Insights find is known only from the answer;
    /// each counts as one here, and [`CloudWatchQuery::is_open_ended`] is true.
    #[must_use]
    pub fn metrics_requested(&self) -> u64 {
        self.count(1)
    }

    /// How many metrics one request of this group may ask for: what finds metrics by itself counts
    /// as [`MAX_FOUND`].
    #[must_use]
    pub fn most_metrics_requested(&self) -> u64 {
        self.count(MAX_FOUND)
    }

    fn count(&self, found: u64) -> u64 {
        self.queries.iter().map(|query| query.metrics_requested(found)).sum()
    }

    /// When the group is asked for: a bucket may be once it has ended, `delay` has passed, and the
    /// time in which it settles.
    #[must_use]
    pub fn beat(&self) -> Beat {
        let settle = match self.manner {
            Manner::Strict => Duration::ZERO,
            Manner::AsWritten { settle } => settle,
        };
        Beat { period: self.period, delay: self.delay.saturating_add(settle) }
    }

    /// How often the group is asked for when it is to be read every `refresh`: in steps of its
    /// beat, [`Beat::step`].
    #[must_use]
    pub fn effective_refresh(&self, refresh: Duration) -> Duration {
        self.beat().step(refresh)
    }

    /// Whether the number of metrics behind the answer is not known before.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.queries.iter().any(MetricDataQuery::is_open_ended)
    }
}

/// One query of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricDataQuery {
    /// `^[a-z][a-zA-Z0-9_]*$`, unique in the group; other queries of the group refer to it.
    pub id: Arc<str>,
    /// What is asked.
    pub question: MetricQuestion,
    /// The label of the returned series, when the author gives one.
    pub label: Option<Arc<str>>,
    /// Whether its series are the answer.
    pub return_data: bool,
}

impl MetricDataQuery {
    /// Whether this is a Metrics Insights query: at most one of them may be in one request.
    #[must_use]
    pub fn is_insights(&self) -> bool {
        matches!(&self.question, MetricQuestion::Expression { text, .. } if starts_with_word(text, "SELECT"))
    }

    /// Whether the answer decides how many metrics it stands for: Metrics Insights, or one of
    /// [`DATA_FUNCTIONS`].
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.is_insights() || self.calls(&DATA_FUNCTIONS) > 0
    }

    /// The metrics asked for when each search finds `found`.
    fn metrics_requested(&self, found: u64) -> u64 {
        match &self.question {
            MetricQuestion::Metric(_) => 1,
            MetricQuestion::Expression { .. } if self.is_insights() => found,
            MetricQuestion::Expression { .. } => self.calls(&DATA_FUNCTIONS) as u64 * found,
        }
    }

    fn calls(&self, functions: &[&str]) -> usize {
        match &self.question {
            MetricQuestion::Metric(_) => 0,
            MetricQuestion::Expression { text, .. } => calls(text, functions),
        }
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let text = text.trim_start();
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
        && text[word.len()..].starts_with(|c: char| c.is_whitespace())
}

/// What one query asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MetricQuestion {
    /// A metric's statistic.
    Metric(MetricStat),
    /// Metric math, `SEARCH` or Metrics Insights.
    Expression {
        /// The expression.
        text: Arc<str>,
        /// Needed by `SEARCH` and Metrics Insights alone; math takes that of its operands.
        period: Option<Duration>,
    },
}

/// A statistic of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricStat {
    /// `AWS/ApplicationELB` and the like.
    pub namespace: Arc<str>,
    /// The metric's name.
    pub name: Arc<str>,
    /// Name and value, sorted by name, unique. `CloudWatch` takes the exact set.
    pub dimensions: Vec<(Arc<str>, Arc<str>)>,
    /// In the service's spelling: `Average`, `p99.9`, `TM(10%:90%)`.
    pub statistic: Arc<str>,
    /// Length of a bucket.
    pub period: Duration,
    /// Only datapoints stored with this unit.
    pub unit: Option<Arc<str>>,
    /// The account that has the metric, when this one monitors others.
    pub account_id: Option<Arc<str>>,
}

impl fmt::Display for MetricStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.statistic, self.namespace, self.name)?;
        for (i, (name, value)) in self.dimensions.iter().enumerate() {
            write!(f, "{}{name}={value}", if i > 0 { ", " } else { " {" })?;
        }
        if !self.dimensions.is_empty() {
            f.write_str("}")?;
        }
        write!(f, " per {}s", self.period.as_secs())
    }
}

impl fmt::Display for CloudWatchQuery {
    /// The question in one line, as logs and the status page show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        // The returned one says what it is about; the others are its operands.
        let ordered = self.returned().into_iter();
        for query in ordered.chain(self.queries.iter().filter(|query| !query.return_data)) {
            if !first {
                write!(f, "; {} = ", query.id)?;
            }
            first = false;
            match &query.question {
                MetricQuestion::Metric(stat) => write!(f, "{stat}")?,
                MetricQuestion::Expression { text, .. } => f.write_str(text)?,
            }
        }
        write!(f, " in {}", self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> MetricDataQuery {
        let question = MetricQuestion::Expression { text: text.into(), period: None };
        MetricDataQuery { id: "e".into(), question, label: None, return_data: true }
    }

    #[test]
    fn what_is_open_ended() {
        for (text, insights, open_ended) in [
            ("SELECT AVG(CPUUtilization) FROM \"AWS/EC2\"", true, true),
            ("  select\nMAX(x) FROM y", true, true),
            ("SELECTED/2", false, false),
            ("SUM(SEARCH('{AWS/EC2,InstanceId} CPU', 'Average', 60))", false, true),
            ("SUM(METRICS('SEARCH('))", false, false),
            ("100*errors/total", false, false),
        ] {
            let query = expression(text);
            let found = (query.is_insights(), query.is_open_ended());
            assert_eq!(found, (insights, open_ended), "{text}");
        }
    }

    #[test]
    fn every_search_of_an_expression_counts() {
        for (text, count, most) in [
            ("SELECT AVG(CPUUtilization) FROM \"AWS/EC2\"", 1, 500),
            ("SUM(SEARCH('a', 'Sum')) / SUM(SEARCH('b', 'Sum'))", 2, 1000),
            ("DB_PERF_INSIGHTS('RDS', 'db-1', 'db.load.avg')", 1, 500),
            ("errors / total", 0, 0),
        ] {
            let query = expression(text);
            let found = [1, MAX_FOUND].map(|found| query.metrics_requested(found));
            assert_eq!(found, [count, most], "{text}");
            assert_eq!(query.is_open_ended(), count > 0, "{text}");
        }
    }

    #[test]
    fn a_read_is_due_as_often_as_its_beat_says() {
        let minute = Duration::from_mins(1);
        let query = CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![expression("x")],
            period: minute,
            delay: minute,
            lookback: 6 * minute,
            manner: Manner::Strict,
        };
        let beat = Beat { period: query.period, delay: query.delay };
        for refresh in [minute, Duration::from_millis(60_500), Duration::from_secs(15)] {
            let first = beat.after(jiff::Timestamp::UNIX_EPOCH, refresh);
            let apart = beat.after(first, refresh).duration_since(first).unsigned_abs();
            assert_eq!(query.effective_refresh(refresh), apart, "{refresh:?}");
        }
    }

    #[test]
    fn a_group_reads_from_its_answer_to_its_operands() {
        let stat = MetricStat {
            namespace: "AWS/ApplicationELB".into(),
            name: "RequestCount".into(),
            dimensions: vec![("LoadBalancer".into(), "app/web/1".into())],
            statistic: "Sum".into(),
            period: Duration::from_mins(1),
            unit: None,
            account_id: None,
        };
        let total = MetricDataQuery {
            id: "total".into(),
            question: MetricQuestion::Metric(stat),
            label: None,
            return_data: false,
        };
        let query = CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![total, expression("total/60")],
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
            manner: Manner::Strict,
        };
        assert_eq!(
            query.to_string(),
            "total/60; total = Sum of AWS/ApplicationELB RequestCount {LoadBalancer=app/web/1} per 60s in eu-west-1"
        );
        assert_eq!((query.metrics_requested(), query.most_metrics_requested()), (1, 1));
    }
}
