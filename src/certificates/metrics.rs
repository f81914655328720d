//! What is counted.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::cluster::Operation;
use super::keeper::Rotation;
use crate::telemetry::Telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Op {
    operation: &'static str,
}

/// Rotations, failures, and how things stand.
#[derive(Debug)]
pub(super) struct Metrics {
    rotations: Family<What, Counter>,
    failures: Family<Op, Counter>,
    not_after: Family<What, Gauge>,
    trusted: Gauge,
}

const PAIR: What = What { what: "pair" };
const AUTHORITY: What = What { what: "authority" };

impl Metrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Self {
            rotations: Family::default(),
            failures: Family::default(),
            not_after: Family::default(),
            trusted: Gauge::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "certificates_rotations",
                "Managed certificates that this replica has made, the first ones included",
                metrics.rotations.clone(),
            );
            registry.register(
                "certificates_failures",
                "Failed attempts to look after managed certificates, by what was attempted",
                metrics.failures.clone(),
            );
            registry.register(
                "certificates_not_after_timestamp_seconds",
                "When the managed serving pair in use and the authority that signs end; 0 while \
                 there is none",
                metrics.not_after.clone(),
            );
            registry.register(
                "certificates_trusted",
                "1 while every APIService of ours trusts the managed serving pair in use",
                metrics.trusted.clone(),
            );
        });
        // Every series is there from the start.
        for what in [PAIR, AUTHORITY] {
            drop(metrics.rotations.get_or_create(&what));
            drop(metrics.not_after.get_or_create(&what));
        }
        for operation in Operation::ALL {
            drop(metrics.failures.get_or_create(&Op { operation: operation.as_str() }));
        }
        metrics
    }

    pub(super) fn rotated(&self, rotation: Rotation) {
        self.rotations.get_or_create(&PAIR).inc();
        if rotation == Rotation::Authority {
            self.rotations.get_or_create(&AUTHORITY).inc();
        }
    }

    pub(super) fn failed(&self, operation: Operation) {
        self.failures.get_or_create(&Op { operation: operation.as_str() }).inc();
    }

    pub(super) fn stand(
        &self,
        pair: Option<Timestamp>,
        authority: Option<Timestamp>,
        is_trusted: bool,
    ) {
        for (what, end) in [(PAIR, pair), (AUTHORITY, authority)] {
            self.not_after.get_or_create(&what).set(end.map_or(0, Timestamp::as_second));
        }
        self.trusted.set(i64::from(is_trusted));
    }
}
