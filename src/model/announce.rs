//! What HPAs refer to, and the trait through which that becomes wanted before anybody reads it.
//!
//! A *claim* says that HPAs refer to a query. It is renewed every [`ANNOUNCE_EVERY`] and lapses by
//! itself after [`CLAIM_LAPSE`], so nothing is wanted for ever because a release was missed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Selector, Tick};

/// How often claims are renewed: a small part of what a read is worth to the refresher, at a cost
/// of about a microsecond for each reference.
pub const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);

/// A claim that was not renewed lapses after this time: two renewals may be late.
pub const CLAIM_LAPSE: Duration = ANNOUNCE_EVERY.saturating_mul(3);

/// A metric as an HPA's spec names it: what the HPA controller is going to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricReference {
    /// The HPA's namespace, which is the one that is read in.
    pub namespace: Arc<str>,
    /// The metric's name as the controller asks for it: that of an external metric is in lower
    /// case.
    pub metric: Arc<str>,
    /// The metric's selector; everything if there is none.
    pub selector: Selector,
    /// The API by which it is read.
    pub kind: ReferenceKind,
}

/// Which API a metric is read by, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReferenceKind {
    /// `external.metrics.k8s.io`
    External,
    /// `custom.metrics.k8s.io`, of the pods of a scale target.
    Pods {
        /// `spec.scaleTargetRef`, whose scale names the pods.
        target: ObjectReference,
    },
    /// `custom.metrics.k8s.io`, of one object.
    Object {
        /// `describedObject`
        object: ObjectReference,
    },
}

/// An object in the HPA's namespace, or the namespace itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectReference {
    /// Group and version: `apps/v1`; empty or `v1` for the core group.
    pub api_version: Arc<str>,
    /// The kind: `Deployment`.
    pub kind: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for MetricReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            ReferenceKind::External => "external",
            ReferenceKind::Pods { .. } => "pods",
            ReferenceKind::Object { .. } => "object",
        };
        write!(f, "{kind} metric {} in {}", self.metric, self.namespace)?;
        if self.selector.is_everything() { Ok(()) } else { write!(f, " ({})", self.selector) }
    }
}

/// A claim on the queries behind a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When the round of announcements began that the claim is part of. Claims of one round on one
    /// query add up, whatever references lead to it; a new round counts from zero.
    pub round: Tick,
    /// How many HPAs the claim speaks for.
    pub hpas: u32,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announced {
    /// No definition matches: a read would be answered with "not found".
    Unknown,
    /// Which objects are meant is not known, because a scale or a resource cannot be read, so neither
    /// is what serves them; it is when it is read.
    Obscure,
    /// Some query that a read would need has not been tried yet.
    Waiting,
    /// Every query that a read would need has been tried: no read waits.
    Tried,
}

/// Who knows the queries behind a reference. Never blocks, never reads an upstream.
///
/// Claims come from one caller, one after the other: they are counted without a lock.
pub trait Announce: Send + Sync + 'static {
    /// Makes everything wanted that a read of `reference` would need. A claim for no HPA only
    /// looks, and asks again for what found no room before.
    fn claim(&self, reference: &MetricReference, claim: Claim) -> Announced;

    /// Takes a claim of the same round back. What is claimed by nobody any more is refreshed only as
    /// long as somebody else reads it.
    fn release(&self, reference: &MetricReference, claim: Claim);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_as_people_say_it() {
        let mut reference = MetricReference {
            namespace: "shop".into(),
            metric: "jobs".into(),
            selector: Selector::default(),
            kind: ReferenceKind::External,
        };
        assert_eq!(reference.to_string(), "external metric jobs in shop");
        reference.selector = Selector::parse("queue in (b,a)").unwrap();
        assert_eq!(reference.to_string(), "external metric jobs in shop (queue in (a,b))");
    }
}
