//! Authorization: may they do it.
//!
//! Members of `system:masters` may; everything else is a `SubjectAccessReview`, remembered. An
//! allow is served for a minute and, while it is used, asked for again in the background after 45
//! seconds: an HPA that reads every 15 s never waits, and a revoked right ends within the minute.
//! A denial is remembered for 10 s. A review that fails is not remembered, and the request fails
//! with it: nothing is ever allowed for want of an answer.
//!
//! Invariants: a remembered answer is used only for the same identity and the same attributes, all
//! of them compared; the hash alone never decides. Bounded in entries and bytes.
//! Not responsible for: who asks ([`super::authn`]), paths that are always allowed (the service
//! says which; `super::request` asks it first).

mod access_review;
mod message;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use moka::sync::Cache;

use self::access_review::KubeAccessReviewer;
use super::authn::{Caller, HASHER};
use super::metrics::{Access, AccessMetrics, Decider, ReviewMetrics};
use super::review::{Behalf, Demand, Desk, Keep, ReviewError, Slot};
use crate::model::{ApiError, Attributes, Clock, Identity};
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// An allow is served for so long. Longer than the HPA's period of 15 s, or it would never serve.
const ALLOW: Duration = Duration::from_mins(1);

/// An allow that is used after this time is asked for again in the background.
const ALLOW_REFRESH: Duration = Duration::from_secs(45);

/// A denial is served for so long; the Go server's value.
const DENY: Duration = Duration::from_secs(10);

/// What the remembered answers may weigh in all. About 30,000 of the usual kind: the Go server's
/// 8192 would be too few for 10,000 HPAs that read a metric each, because here the metric's name is
/// part of the question.
const CACHE_BYTES: u64 = 32 << 20;

/// What one answer weighs beside its texts: the question, its slot and their place in the cache.
const ENTRY_BYTES: u64 = 1024;

/// Requests whose attributes are longer are not remembered; the Go server's value.
const MAX_ATTRIBUTE_BYTES: usize = 10_000;

/// What a review said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessVerdict {
    /// Whether the request may go ahead.
    pub allowed: bool,
    /// Why, as the authorizer put it; may be empty.
    pub reason: String,
}

/// Who reviews access.
pub trait AccessReviewer: Send + Sync + 'static {
    /// Asks whether an identity may do this.
    fn review(
        &self,
        identity: &Identity,
        attributes: &Attributes,
    ) -> BoxFuture<'static, Result<AccessVerdict, ReviewError>>;
}

/// May they do it: how to find out.
pub struct Authorization(Option<Reviews>);

/// A decision that is there, or one that waits for a review.
pub(super) enum Decision {
    Now(Result<(), ApiError>),
    Wait(BoxFuture<'static, Result<(), ApiError>>),
}

/// The same about what was not asked for.
pub(super) enum Might {
    Now(bool),
    Wait(BoxFuture<'static, bool>),
}

#[derive(Clone)]
enum Verdict {
    Allowed,
    Denied(Arc<str>),
}

impl Verdict {
    fn keep(&self) -> Keep {
        match self {
            Self::Allowed => Keep { serve: ALLOW, refresh: Some(ALLOW_REFRESH) },
            Self::Denied(_) => Keep { serve: DENY, refresh: None },
        }
    }
}

/// One question and its answer.
struct Question {
    caller: Arc<Caller>,
    attributes: Attributes,
    answer: Arc<Slot<Verdict>>,
}

impl Question {
    fn new(caller: Arc<Caller>, attributes: Attributes) -> Arc<Self> {
        Arc::new(Self { caller, attributes, answer: Arc::new(Slot::new()) })
    }

    fn is(&self, caller: &Arc<Caller>, attributes: &Attributes) -> bool {
        self.attributes == *attributes
            && (Arc::ptr_eq(&self.caller, caller) || self.caller.identity == caller.identity)
    }

    fn weight(&self) -> u64 {
        let bytes = self.caller.size() + size(&self.attributes);
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(ENTRY_BYTES)
    }
}

struct Reviews {
    reviewer: Arc<dyn AccessReviewer>,
    desk: Arc<Desk>,
    metrics: Arc<AccessMetrics>,
    /// By hash of caller and attributes. On a collision the newcomer is not remembered.
    cache: Cache<u64, Arc<Question>, ahash::RandomState>,
}

impl Authorization {
    /// Everybody may do everything. For a server on a loopback address.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Authorization by the cluster.
    #[must_use]
    pub fn delegated(
        client: kube::Client,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::reviewed(Arc::new(KubeAccessReviewer::new(client)), tasks, telemetry, clock)
    }

    /// Authorization by a given reviewer.
    #[must_use]
    pub fn reviewed(
        reviewer: Arc<dyn AccessReviewer>,
        tasks: &TaskSet,
        telemetry: &Telemetry,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let desk = Desk::new(tasks, clock, ReviewMetrics::register(telemetry, "access"));
        let cache = Cache::builder()
            .weigher(|_, q: &Arc<Question>| u32::try_from(q.weight()).unwrap_or(u32::MAX))
            .max_capacity(CACHE_BYTES)
            // Without use an allow is worthless after a minute; this only frees memory.
            .time_to_idle(ALLOW * 2)
            .build_with_hasher(ahash::RandomState::new());
        let metrics = Arc::new(AccessMetrics::register(telemetry));
        Self(Some(Reviews { reviewer, desk: Arc::new(desk), metrics, cache }))
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the caller might do this, too, which nobody has asked for: it is not counted as a
    /// decision about a request. Without an answer the caller may not.
    pub(super) fn might(&self, caller: &Arc<Caller>, attributes: &Attributes) -> Might {
        match &self.0 {
            Some(reviews) if !caller.master => reviews.might(caller, attributes),
            _ => Might::Now(true),
        }
    }

    /// Whether the caller may do this.
    pub(super) fn decide(&self, caller: &Arc<Caller>, attributes: Attributes) -> Decision {
        match &self.0 {
            None => Decision::Now(Ok(())),
            Some(reviews) if caller.master => {
                reviews.metrics.decided(Decider::Masters, Access::Allowed);
                Decision::Now(Ok(()))
            }
            Some(reviews) => reviews.decide(caller, attributes),
        }
    }
}

impl Reviews {
    fn might(&self, caller: &Arc<Caller>, attributes: &Attributes) -> Might {
        match self.demand(&self.question(caller, attributes.clone())) {
            Demand::Now(verdict) => Might::Now(matches!(verdict, Verdict::Allowed)),
            Demand::Wait(answer) => {
                Might::Wait(async { matches!(answer.await, Ok(Verdict::Allowed)) }.boxed())
            }
        }
    }

    fn demand(&self, question: &Arc<Question>) -> Demand<Verdict> {
        let is_nobody = question.caller.identity.is_anonymous();
        let behalf = if is_nobody { Behalf::Nobody } else { Behalf::Somebody };
        question.answer.demand(&self.desk, behalf, Verdict::keep, || {
            let review = self.reviewer.review(&question.caller.identity, &question.attributes);
            async move {
                let verdict = review.await?;
                Ok(if verdict.allowed {
                    Verdict::Allowed
                } else {
                    Verdict::Denied(verdict.reason.into())
                })
            }
        })
    }

    fn decide(&self, caller: &Arc<Caller>, attributes: Attributes) -> Decision {
        let question = self.question(caller, attributes);
        match self.demand(&question) {
            Demand::Now(verdict) => Decision::Now(conclude(&self.metrics, &question, Ok(verdict))),
            Demand::Wait(answer) => {
                let metrics = Arc::clone(&self.metrics);
                let conclusion = async move { conclude(&metrics, &question, answer.await) };
                Decision::Wait(conclusion.boxed())
            }
        }
    }

    /// The remembered question, or a new one.
    fn question(&self, caller: &Arc<Caller>, attributes: Attributes) -> Arc<Question> {
        let key = HASHER.hash_one((caller.hash, &attributes));
        match self.cache.get(&key) {
            Some(known) if known.is(caller, &attributes) => known,
            Some(_) => Question::new(Arc::clone(caller), attributes),
            None if size(&attributes) > MAX_ATTRIBUTE_BYTES => {
                Question::new(Arc::clone(caller), attributes)
            }
            None => {
                // Of two that ask at once the first one's question is kept by both.
                let new = Question::new(Arc::clone(caller), attributes);
                let kept = self.cache.get_with(key, || Arc::clone(&new));
                if kept.is(caller, &new.attributes) { kept } else { new }
            }
        }
    }
}

fn conclude(
    metrics: &AccessMetrics,
    question: &Question,
    verdict: Result<Verdict, ReviewError>,
) -> Result<(), ApiError> {
    match verdict {
        Ok(Verdict::Allowed) => {
            metrics.decided(Decider::Review, Access::Allowed);
            Ok(())
        }
        Ok(Verdict::Denied(reason)) => {
            metrics.decided(Decider::Review, Access::Denied);
            Err(message::forbidden(&question.caller.identity, &question.attributes, &reason))
        }
        Err(error @ ReviewError::Crowded) => {
            metrics.decided(Decider::Review, Access::Error);
            Err(ApiError::Overloaded(format!("access could not be reviewed: {error}")))
        }
        Err(error) => {
            metrics.decided(Decider::Review, Access::Error);
            let text = format!("access could not be reviewed: {error}");
            Err(ApiError::AuthorizationUnavailable(text))
        }
    }
}

/// Bytes of all texts of the attributes.
fn size(attributes: &Attributes) -> usize {
    match attributes {
        Attributes::NonResource { path, verb } => path.len() + verb.len(),
        Attributes::Resource(r) => {
            let texts =
                [&r.verb, &r.group, &r.version, &r.resource, &r.subresource, &r.name, &r.namespace];
            let texts: usize = texts.iter().map(|t| t.len()).sum();
            let selector: usize = r
                .label_selector
                .requirements()
                .iter()
                .map(|q| q.key.len() + q.values.iter().map(String::len).sum::<usize>())
                .sum();
            texts + selector
        }
    }
}

#[cfg(test)]
mod tests;
