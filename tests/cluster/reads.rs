//! What the HPA controller reads, and when: the API server's audit log sees every read.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control_plane::ControlPlane;
use crate::world::{HPA_CONTROLLER, World};

/// One read of an external metric, as the API server's audit log has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditedRead {
    pub(crate) received: jiff::Timestamp,
    /// From its arrival at the API server to the end of the answer.
    pub(crate) took: Duration,
    pub(crate) code: u64,
}

impl ControlPlane {
    /// When somebody has written statuses of metric resources and Events so far: nanoseconds since
    /// the epoch.
    pub(crate) fn writes_of(&self, user: &str) -> Vec<i128> {
        let text = std::fs::read_to_string(&self.audit_log).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let written = events.filter(|event: &serde_json::Value| {
            let (object, by) = (&event["objectRef"], &event["user"]["username"]);
            let what = object["resource"] == "events" || object["subresource"] == "status";
            what && by == user && event["stage"] == "ResponseComplete"
        });
        let time = |event: serde_json::Value| {
            let text = event["requestReceivedTimestamp"].as_str()?;
            Some(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond())
        };
        written.filter_map(time).collect()
    }

    /// The HPA controller's reads of the external metrics of a namespace so far, by metric, in the
    /// order of their arrival.
    pub(crate) fn hpa_reads(&self, namespace: &str) -> BTreeMap<String, Vec<AuditedRead>> {
        let text = std::fs::read_to_string(&self.audit_log).unwrap_or_default();
        let mut reads: BTreeMap<String, Vec<AuditedRead>> = BTreeMap::new();
        let time = |value: &serde_json::Value| -> jiff::Timestamp {
            let text = value.as_str().expect("audited times are strings");
            text.parse().expect("audited times are RFC 3339")
        };
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        for event in events.filter(|event: &serde_json::Value| {
            let object = &event["objectRef"];
            object["apiGroup"] == "external.metrics.k8s.io"
                && object["namespace"] == namespace
                && event["stage"] == "ResponseComplete"
                && event["user"]["username"] == HPA_CONTROLLER
        }) {
            let metric = event["objectRef"]["resource"].as_str().expect("a read names its metric");
            let received = time(&event["requestReceivedTimestamp"]);
            let took = time(&event["stageTimestamp"]).duration_since(received);
            reads.entry(metric.to_owned()).or_default().push(AuditedRead {
                received,
                took: took.try_into().expect("an answer ends after its request"),
                code: event["responseStatus"]["code"].as_u64().expect("an answer has a code"),
            });
        }
        for reads in reads.values_mut() {
            reads.sort_by_key(|read| read.received);
        }
        reads
    }
}

impl World {
    /// [`ControlPlane::hpa_reads`] of the world's.
    pub(crate) fn hpa_reads(&self, namespace: &str) -> BTreeMap<String, Vec<AuditedRead>> {
        self.plane.hpa_reads(namespace)
    }
}

/// The longest time without a read from `begin` to now, and the number of reads.
pub(crate) fn cadence(reads: &[AuditedRead], begin: jiff::Timestamp) -> (Duration, usize) {
    cadence_until(reads, begin, jiff::Timestamp::now())
}

/// The longest time without a read from `begin` to `end`, and the number of reads.
pub(crate) fn cadence_until(
    reads: &[AuditedRead],
    begin: jiff::Timestamp,
    end: jiff::Timestamp,
) -> (Duration, usize) {
    let within = begin..end;
    let times: Vec<jiff::Timestamp> =
        reads.iter().map(|read| read.received).filter(|at| within.contains(at)).collect();
    let edges = std::iter::once(begin).chain(times.iter().copied());
    let next = times.iter().copied().chain(std::iter::once(end));
    let gap = edges.zip(next).map(|(from, to)| to.duration_since(from)).max();
    let gap = gap.expect("there is at least the time from the beginning to the end");
    (gap.try_into().expect("reads are in order"), times.len())
}
