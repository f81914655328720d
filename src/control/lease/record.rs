//! What a `Lease` says, and what follows from it: without calls.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

use super::DURATION;

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is somebody else's.
    Wait,
    /// It is nobody's, any more.
    Take,
}

/// A lease as it was last seen, and since when it has not changed.
pub(super) struct Observed {
    object: Object,
    since: Instant,
    /// Whether `object` is, as far as is known, what the API server has.
    current: bool,
}

impl Observed {
    pub(super) fn new(object: Object, now: Instant) -> Self {
        Self { object, since: now, current: true }
    }

    /// After another look.
    pub(super) fn then(self, object: Object, now: Instant) -> Self {
        let changed = object.spec != self.object.spec;
        Self { object, since: if changed { now } else { self.since }, current: true }
    }

    /// Somebody has changed it since.
    pub(super) fn forget_version(&mut self) {
        self.current = false;
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.object.spec.as_ref()
    }

    fn holder(&self) -> Option<&str> {
        let holder = self.spec().and_then(|spec| spec.holder_identity.as_deref());
        holder.filter(|holder| !holder.is_empty())
    }

    /// As its holder wrote it; ours where it wrote none.
    fn duration(&self) -> Duration {
        let seconds = self.spec().and_then(|spec| spec.lease_duration_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(DURATION, Duration::from_secs)
    }

    /// Whether it is ours and can be renewed without a look.
    pub(super) fn is_renewable(&self, identity: &str) -> bool {
        self.current && self.holder() == Some(identity)
    }

    /// When somebody else's lapses, unless it is renewed.
    pub(super) fn lapses(&self, identity: &str) -> Option<Instant> {
        let other = self.holder().is_some_and(|holder| holder != identity);
        other.then(|| self.since + self.duration())
    }

    pub(super) fn step(&self, identity: &str, now: Instant) -> Step {
        match self.lapses(identity) {
            Some(lapses) if now < lapses => Step::Wait,
            _ => Step::Take,
        }
    }

    /// The same, renewed by its holder.
    pub(super) fn renewed(&self, now: Timestamp) -> Object {
        let mut object = self.object.clone();
        object.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
        object
    }

    /// The same, held by us.
    pub(super) fn taken(&self, identity: &str, now: Timestamp) -> Object {
        let mut object = self.object.clone();
        let spec = object.spec.get_or_insert_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if spec.holder_identity.as_deref() != Some(identity) {
            spec.lease_transitions = Some(transitions.saturating_add(1));
            spec.acquire_time = Some(MicroTime(now));
        }
        spec.holder_identity = Some(identity.to_owned());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
        object
    }

    /// The same, held by nobody; as client-go leaves it.
    pub(super) fn released(&self, now: Timestamp) -> Object {
        let mut object = self.object.clone();
        let spec = object.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(MicroTime(now));
        spec.renew_time = Some(MicroTime(now));
        object
    }
}

/// The first of its name.
pub(super) fn first(name: &str, identity: &str, now: Timestamp) -> Object {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    };
    Object { metadata, spec: Some(spec) }
}
