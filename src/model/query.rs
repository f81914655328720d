//! What is asked of a source: the key of the cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Decimal, SourceName};

pub mod about;
pub mod cloudwatch;
pub mod expression;
pub mod objects;

pub use about::{ByObject, ObjectsOf, ObjectsTemplate};
pub use cloudwatch::{CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat};
pub use objects::{ObjectsQuery, ObjectsText, WriteText};

/// One question to one source, in canonical form. Two definitions that ask the same question
/// share one query, one upstream call and one cache entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// The source that answers.
    pub source: SourceName,
    /// The question.
    pub spec: QuerySpec,
}

/// The question, by kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuerySpec {
    /// An instant query.
    Prometheus(PrometheusQuery),
    /// The depth of queues.
    Sqs(SqsQuery),
    /// `CloudWatch` metric data. Boxed: it is several times larger than the others.
    CloudWatch(Box<CloudWatchQuery>),
    /// A made-up signal.
    Simulated(SimulatedQuery),
    /// An instant query about Kubernetes objects.
    Objects(ObjectsQuery),
}

impl QuerySpec {
    /// How many upstream calls one fetch of this query alone takes: one for each of several SQS
    /// queues, one otherwise.
    #[must_use]
    pub fn calls(&self) -> u32 {
        match self {
            Self::Sqs(asked) => u32::try_from(asked.queues.len()).unwrap_or(u32::MAX).max(1),
            Self::CloudWatch(_) | Self::Prometheus(_) | Self::Simulated(_) | Self::Objects(_) => 1,
        }
    }

    /// How much of a [`Batch::limit`](crate::model::Batch::limit) it takes, at least one: the metric
    /// data queries of `CloudWatch`, of which a call holds so many. Counted as if it shared none of
    /// them with others.
    #[must_use]
    pub fn weight(&self) -> u32 {
        match self {
            Self::CloudWatch(asked) => {
                u32::try_from(asked.queries.len()).unwrap_or(u32::MAX).max(1)
            }
            Self::Sqs(_) | Self::Prometheus(_) | Self::Objects(_) | Self::Simulated(_) => 1,
        }
    }

    /// A fixed word for metrics labels and the status page.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Prometheus(_) => "prometheus",
            Self::Sqs(_) => "sqs",
            Self::CloudWatch(_) => "cloudwatch",
            Self::Simulated(_) => "simulated",
            Self::Objects(_) => "objects",
        }
    }
}

/// A `PromQL` instant query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrometheusQuery {
    /// The expression, complete.
    pub query: Arc<str>,
    /// Sent as `lookback_delta`.
    pub lookback_delta: Option<Duration>,
    /// What is made of the answer.
    pub shape: AnswerShape,
}

/// What is made of a Prometheus answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerShape {
    /// For definitions: a vector without `__name__`, of at most the source's `maxSeries` series, or
    /// a scalar as one series without labels.
    #[default]
    Items,
    /// For external metrics of rules: a vector with all its labels, or a scalar as one series
    /// without labels. Bounded by the size of the answer alone.
    Whole,
    /// For metrics of objects: a vector with all its labels and nothing else. Bounded by the size
    /// of the answer alone.
    Vector,
}

/// Which of a queue's message counts are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueCount {
    /// `ApproximateNumberOfMessages`.
    Visible,
    /// `ApproximateNumberOfMessagesNotVisible`.
    InFlight,
    /// `ApproximateNumberOfMessagesDelayed`.
    Delayed,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueRef {
    /// Its region.
    pub region: Arc<str>,
    /// Its owner's account, when the definition names it (by ARN or URL).
    pub account: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for QueueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQS queue \"{}\" in {}", self.name, self.region)?;
        match &self.account {
            Some(account) => write!(f, " of account {account}"),
            None => Ok(()),
        }
    }
}

/// The summed depth of one or more queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqsQuery {
    /// The queues, sorted and unique, at least one.
    pub queues: Vec<QueueRef>,
    /// The counts, sorted and unique, at least one.
    pub count: Vec<QueueCount>,
    /// The role to assume for this query; none means the source's own identity.
    pub role_arn: Option<Arc<str>>,
}

/// A signal that needs no upstream: a pure function of the clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SimulatedQuery {
    /// Always the same.
    Constant(Decimal),
    /// From one number to another in a given time, then staying there. Starts with the process.
    Ramp {
        /// Start.
        from: Decimal,
        /// End.
        to: Decimal,
        /// How long it takes.
        over: Duration,
    },
    /// Values that each hold for a time, repeated for ever.
    Steps(Vec<(Decimal, Duration)>),
    /// A sine between two numbers, phase zero (at the middle, rising) at the Unix epoch.
    Wave {
        /// Trough.
        min: Decimal,
        /// Crest.
        max: Decimal,
        /// Time from crest to crest.
        period: Duration,
    },
    /// Uniform noise that changes once a second: a pure function of seed and second.
    Noise {
        /// Chooses the sequence.
        seed: u64,
        /// Smallest value.
        min: Decimal,
        /// Largest value.
        max: Decimal,
    },
    /// A recording, replayed from the start of the process and repeated for ever: offset from the
    /// start and value; the last row's offset is the length of one round. An absent value is a
    /// moment without data.
    Replay(Arc<[(Duration, Option<Decimal>)]>),
}

/// A query that may still lack the namespace of the request.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryTemplate {
    /// Complete.
    Fixed(Arc<Query>),
    /// A `PromQL` query in which `$namespace` stands for the namespace of the request.
    PerNamespace {
        /// The source that answers.
        source: SourceName,
        /// The expression with `$namespace` in it.
        query: Arc<str>,
        /// Sent as `lookback_delta`.
        lookback_delta: Option<Duration>,
        /// What is made of the answer.
        shape: AnswerShape,
    },
    /// A `PromQL` query in which `$objects` stands for the objects that are read.
    PerObjects(ObjectsTemplate),
}

/// The placeholder in a `PromQL` query.
pub const NAMESPACE_PLACEHOLDER: &str = "$namespace";

impl QueryTemplate {
    /// The source that answers.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        match self {
            Self::Fixed(query) => &query.source,
            Self::PerNamespace { source, .. } => source,
            Self::PerObjects(template) => &template.source,
        }
    }

    /// The complete query for a request in `namespace`. The namespace is escaped as `PromQL`
    /// string content, so that no namespace can end the string it stands in. None where more than a
    /// namespace is needed ([`ObjectsTemplate::ask`]).
    #[must_use]
    pub fn resolve(&self, namespace: &str) -> Option<Arc<Query>> {
        match self {
            Self::Fixed(query) => Some(Arc::clone(query)),
            Self::PerNamespace { source, query, lookback_delta, shape } => Some(Arc::new(Query {
                source: source.clone(),
                spec: QuerySpec::Prometheus(PrometheusQuery {
                    query: in_namespace(query, namespace).into(),
                    lookback_delta: *lookback_delta,
                    shape: *shape,
                }),
            })),
            Self::PerObjects(_) => None,
        }
    }

    /// The expression, as its author wrote it but for a namespace that is known; none for what is
    /// no expression of Prometheus.
    #[must_use]
    pub fn expression(&self) -> Option<&Arc<str>> {
        match self {
            Self::Fixed(query) => match &query.spec {
                QuerySpec::Prometheus(asked) => Some(&asked.query),
                _ => None,
            },
            Self::PerNamespace { query, .. } => Some(query),
            Self::PerObjects(template) => Some(&template.query),
        }
    }

    /// Whether it is incomplete without a namespace.
    #[must_use]
    pub fn needs_namespace(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::PerNamespace { .. } => true,
            Self::PerObjects(template) => template.query.contains(NAMESPACE_PLACEHOLDER),
        }
    }
}

/// An expression with a namespace in place of the placeholder.
#[must_use]
pub fn in_namespace(expression: &str, namespace: &str) -> String {
    expression.replace(NAMESPACE_PLACEHOLDER, &escape_promql(namespace))
}

/// Escapes text for use inside a quoted `PromQL` string.
#[must_use]
pub fn escape_promql(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '"' | '\'' | '`' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out
}

impl fmt::Display for QuerySpec {
    /// The question in one line, as logs and the status page show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prometheus(query) => f.write_str(&query.query),
            Self::Objects(query) => query.fmt(f),
            Self::Sqs(query) => {
                for (i, count) in query.count.iter().enumerate() {
                    let word = match count {
                        QueueCount::Visible => "visible",
                        QueueCount::InFlight => "inFlight",
                        QueueCount::Delayed => "delayed",
                    };
                    write!(f, "{}{word}", if i > 0 { "+" } else { "" })?;
                }
                for (i, queue) in query.queues.iter().enumerate() {
                    write!(f, "{}{queue}", if i > 0 { ", " } else { " of " })?;
                }
                Ok(())
            }
            Self::CloudWatch(query) => write!(f, "{query}"),
            Self::Simulated(query) => match query {
                SimulatedQuery::Constant(value) => write!(f, "constant {value}"),
                SimulatedQuery::Ramp { from, to, over } => {
                    write!(f, "ramp {from} to {to} over {}s", over.as_secs())
                }
                SimulatedQuery::Steps(steps) => write!(f, "{} steps", steps.len()),
                SimulatedQuery::Wave { min, max, period } => {
                    write!(f, "wave {min} to {max} every {}s", period.as_secs())
                }
                SimulatedQuery::Noise { seed, min, max } => {
                    write!(f, "noise {min} to {max} (seed {seed})")
                }
                SimulatedQuery::Replay(rows) => write!(f, "replay of {} rows", rows.len()),
            },
        }
    }
}
