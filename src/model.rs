//! The domain: metric names, queries, samples, quantities, selectors, policies, errors, and the
//! traits at which the layers meet.
//!
//! Responsible for: the words every other module speaks, and the pure rules about them (how a
//! selector matches, how a value is rounded, what a policy allows).
//! Not responsible for: any input or output, any HTTP status, any foreign wire format.
//!
//! Invariants: nothing here imports another module of this crate, and nothing here knows `axum`,
//! `http`, `kube`, `rustls`, or an AWS crate. The test `repo_layering` enforces both.

pub mod announce;
pub mod arn;
pub mod attributes;
pub mod clock;
pub mod cost;
pub mod decimal;
pub mod entry;
pub mod error;
pub mod explanation;
pub mod identity;
pub mod labels;
pub mod name;
pub mod object;
pub mod outlook;
pub mod pattern;
pub mod policy;
pub mod problem;
pub mod protection;
pub mod provider;
pub mod quantity;
pub mod query;
pub mod region;
pub mod sample;
pub mod selector;
pub mod series;
pub mod serving;
pub mod source;

pub use announce::{
    ANNOUNCE_EVERY, Announce, Announced, CLAIM_LAPSE, Claim, MetricReference, ObjectReference,
    ReferenceKind,
};
pub use attributes::{Attributes, ResourceAttributes};
pub use clock::{Clock, ManualClock, SystemClock, Tick};
pub use cost::{BillingUnit, CostSettings, Estimate, EstimateLine, Rate, SourceEstimate, Toll};
pub use decimal::Decimal;
pub use entry::{DefinitionId, DefinitionKey, DefinitionKind, Entry, Origin, Scope};
pub use error::{ApiError, Cause, FetchError, root_cause};
pub use explanation::{Exchange, Explanation};
pub use identity::Identity;
pub use labels::Labels;
pub use name::{MetricName, SourceName};
pub use object::{
    GroupResource, ObjectDirectory, ObjectNames, ObjectSet, Objects, Resource, ResourceDirectory,
    ScaleDirectory, TargetPods,
};
pub use outlook::{Foresee, Miss, Outlook};
pub use pattern::Pattern;
pub use policy::{Aggregate, OnNoData, Policy, Transform, TransformStep};
pub use problem::{Problem, ProblemKind};
pub use protection::ProtectionSettings;
pub use provider::{
    CustomItem, CustomMetricName, CustomReading, CustomRequest, DescribedObject, ExternalReading,
    MetricItem, MetricsProvider, NamespaceDirectory, ObjectChoice, Probe, ProbeReport, Reading,
    ServerState,
};
pub use quantity::Quantity;
pub use query::{
    AnswerShape, ByObject, CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat,
    ObjectsOf, ObjectsQuery, ObjectsTemplate, ObjectsText, PrometheusQuery, Query, QuerySpec,
    QueryTemplate, QueueCount, QueueRef, SimulatedQuery, SqsQuery, WriteText,
};
pub use sample::{Sample, Series};
pub use selector::{Operator, Requirement, Selector};
pub use series::{SeriesLister, SeriesShape};
pub use serving::ServingPair;
pub use source::{Batch, Beat, Dispatch, Source, SourceDirectory, SourceKind, SourceProfile};
